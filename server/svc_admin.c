/* etcdserverpb.Maintenance and grpc.health.v1: what operators and probes ask. */
#include "server/services.h"

#include "server/node.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <string.h>

/* --- Maintenance.Status --- */

/* DowngradeInfo: 1 enabled, 2 targetVersion. It is there, and empty, also when there is none. */
static uint8_t *put_downgrade(uint8_t *p, uint32_t field, const struct versions_now *now)
{
    char target[VERSIONS_TEXT_BYTES] = "";
    if (now->downgrade)
        versions_text(now->target_minor, target);
    struct slice text = slice_of_string(target);
    p = wire_item_put_head(p, field, wire_uint_size(1, now->downgrade) + wire_bytes_size(2, text));
    return wire_bytes_put(wire_uint_put(p, 1, now->downgrade), 2, text);
}

/* StatusResponse: 1 header, 2 version, 3 dbSize, 4 leader, 5 raftIndex, 6 raftTerm,
 * 7 raftAppliedIndex, 8 errors, 9 dbSizeInUse, 10 isLearner, 11 storageVersion, 12 dbSizeQuota,
 * 13 downgradeInfo. */
static void on_status(struct grpc_call *call, struct slice msg)
{
    if (!service_is_well_formed(call, msg) || service_lacks_user(call))
        return;
    struct worker *w = service_worker(call);
    struct node *n = w->node;
    struct core_status s;
    core_status(n->core, &s);
    struct versions_now now;
    char version[VERSIONS_TEXT_BYTES];
    versions_now(&n->applier.versions, &now);
    versions_text(now.minor, version);
    struct wire_header h = worker_header(w, mvcc_revision(n->mvcc));
    uint8_t head[256], tail[128], *p = wire_header_put(head, &h);
    p = wire_bytes_put(p, 2, SLICE_LITERAL(CONFIG_ETCD_VERSION));
    p = wire_uint_put(p, 3, node_db_size(n));
    p = wire_uint_put(p, 4, s.leader);
    p = wire_uint_put(p, 5, s.commit_index);
    p = wire_uint_put(p, 6, s.term);
    p = wire_uint_put(p, 7, s.applied_index);
    if (s.leader == 0)
        p = wire_bytes_put(p, 8, slice_of_string(tv_err_text(TV_NO_LEADER)));
    struct slice first = slice_of(head, (size_t)(p - head));
    buf_clear(&w->scratch);
    alarms_describe(&n->applier.alarms, 8, &w->scratch);
    p = wire_uint_put(tail, 9, node_db_size(n));
    p = wire_uint_put(p, 10, s.standing == CORE_LEARNER);
    p = wire_bytes_put(p, 11, slice_of_string(version));
    p = wire_uint_put(p, 12, n->config->quota_backend_bytes);
    p = put_downgrade(p, 13, &now);
    struct slice last = slice_of(tail, (size_t)(p - tail));
    (void)grpc_reply(call, (struct slice[]){first, buf_slice(&w->scratch), last}, 3);
}

const struct grpc_call_ops maintenance_status_ops = {.message = on_status,
                                                     .closed = worker_call_closed};

/* --- Maintenance.Alarm --- */

/* All through the log, asking included, as etcd does it. What is ours alone in the request is not
 * for clients to say. */
static void on_alarm(struct grpc_call *call, struct slice msg)
{
    struct alarm_request req;
    if (alarm_request_decode(msg, &req) != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call) ||
        (req.action == ALARM_GET ? service_lacks_user(call) : service_lacks_root(call)))
        return;
    uint8_t body[64];
    req.reason = 0;
    size_t size = (size_t)(alarm_request_put(body, &req) - body);
    ASSERT(size <= sizeof(body));
    service_propose(call, WIRE_RAFT_ALARM, slice_of(body, size), false);
}

const struct grpc_call_ops maintenance_alarm_ops = {.message = on_alarm,
                                                    .closed = worker_call_closed};

/* --- Maintenance.MoveLeader --- */

/* MoveLeaderRequest: 1 targetID. */
static void on_move_leader(struct grpc_call *call, struct slice msg)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    uint64_t target = 0;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1)
        if (f.number == 1 && f.type == WIRE_VARINT)
            target = f.value;
    if (rv != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call) || service_lacks_root(call))
        return;
    struct worker *w = service_worker(call);
    struct request *req = worker_request(w, REQUEST_MOVE_LEADER, call, service_answered);
    req->target = target;
    service_tie(call, req);
    worker_post(w, req); /* the answer is empty: etcd's has no header */
}

const struct grpc_call_ops maintenance_move_leader_ops = {.message = on_move_leader,
                                                          .closed = worker_call_closed};

/* --- Maintenance.HashKV: reads everything, on a thread of libuv's pool --- */

struct hash_work {
    struct call_tie tie;
    uv_work_t work;
    struct worker *worker;
    struct grpc_call *call; /* NULL: it ended */
    struct epoch_reader *reader;
    int64_t rev;
    struct mvcc_hash hash;
    int err;
};

static void hash_run(uv_work_t *work)
{
    struct hash_work *h = work->data;
    struct mvcc *m = h->worker->node->mvcc;
    epoch_enter(mvcc_epoch(m), h->reader);
    h->err = mvcc_hash(m, h->rev, &h->hash);
    epoch_leave(h->reader);
}

static void hash_done(uv_work_t *work, int status)
{
    struct hash_work *h = work->data;
    (void)status;
    epoch_unregister(h->reader);
    struct grpc_call *call = h->call;
    if (call != NULL) {
        grpc_call_set_user(call, NULL);
        if (h->err != 0) {
            worker_fail(call, h->err);
        } else {
            /* HashKVResponse: 1 header, 2 hash, 3 compact_revision, 4 hash_revision. */
            struct wire_header header =
                worker_header(h->worker, mvcc_revision(h->worker->node->mvcc));
            uint8_t answer[128], *p = wire_header_put(answer, &header);
            p = wire_uint_put(p, 2, h->hash.hash);
            p = wire_uint_put(p, 3, (uint64_t)h->hash.compact_revision);
            p = wire_uint_put(p, 4, (uint64_t)h->hash.revision);
            (void)grpc_reply(call, &(struct slice){answer, (size_t)(p - answer)}, 1);
        }
    }
    mem_free(h);
}

static void on_hash_call_closed(struct call_tie *tie)
{
    CONTAINER_OF(tie, struct hash_work, tie)->call = NULL;
}

static void serve_hash(struct read *r)
{
    struct worker *w = r->worker;
    struct grpc_call *call = r->call;
    struct wire_compaction_request req; /* HashKVRequest has its revision in the same field */
    int err = wire_compaction_request_decode(slice_of(r->msg, r->msg_size), &req);
    ASSERT(err == 0); /* it was decoded before */
    worker_read_free(r);
    struct epoch_reader *reader = epoch_register(mvcc_epoch(w->node->mvcc));
    if (reader == NULL) {
        worker_fail(call, TV_TOO_MANY_REQUESTS);
        return;
    }
    struct hash_work *h = mem_alloc_zero(sizeof(*h));
    h->worker = w;
    h->call = call;
    h->reader = reader;
    h->rev = req.revision;
    h->work.data = h;
    h->tie.closed = on_hash_call_closed;
    grpc_call_set_user(call, &h->tie);
    uv_queue_work(w->loop, &h->work, hash_run, hash_done);
}

static void on_hash_kv(struct grpc_call *call, struct slice msg)
{
    struct wire_compaction_request req;
    if (wire_compaction_request_decode(msg, &req) != 0)
        service_malformed(call);
    else if (!service_refused(call) && !service_lacks_root(call))
        worker_read(service_worker(call), call, msg, false, serve_hash);
}

const struct grpc_call_ops maintenance_hash_kv_ops = {.message = on_hash_kv,
                                                      .closed = worker_call_closed};

/* --- grpc.health.v1 --- */

enum { HEALTH_SERVING = 1, HEALTH_SERVICE_UNKNOWN = 3 };

/* HealthCheckRequest: 1 service. One service is known: "", the server as a whole. */
static int health_of(struct slice msg, int *ret_status)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret_status = HEALTH_SERVING;
    while ((rv = wire_next_field(&reader, &f)) == 1)
        if (f.number == 1 && f.type == WIRE_BYTES)
            *ret_status = f.bytes.size == 0 ? HEALTH_SERVING : HEALTH_SERVICE_UNKNOWN;
    return rv;
}

static void on_health_check(struct grpc_call *call, struct slice msg)
{
    int status;
    if (health_of(msg, &status) != 0)
        service_malformed(call);
    else if (status == HEALTH_SERVICE_UNKNOWN)
        grpc_finish(call, GRPC_NOT_FOUND, "unknown service");
    else
        (void)grpc_reply(call, &(struct slice){(const uint8_t *)"\x08\x01", 2}, 1);
}

/* HealthListResponse: 1 a map; its one entry has the name "" (1) and a HealthCheckResponse (2). */
static void on_health_list(struct grpc_call *call, struct slice msg)
{
    static const uint8_t answer[] = {0x0a, 6, 0x0a, 0, 0x12, 2, 0x08, HEALTH_SERVING};
    if (service_is_well_formed(call, msg))
        (void)grpc_reply(call, &(struct slice){answer, sizeof(answer)}, 1);
}

/* The status never changes while the process serves; the stream stays open. */
static void on_health_watch(struct grpc_call *call, struct slice msg)
{
    int status;
    if (health_of(msg, &status) != 0) {
        service_malformed(call);
        return;
    }
    uint8_t answer[2] = {0x08, (uint8_t)status};
    (void)grpc_send(call, &(struct slice){answer, 2}, 1);
}

const struct grpc_call_ops health_check_ops = {.message = on_health_check,
                                               .closed = worker_call_closed};
const struct grpc_call_ops health_list_ops = {.message = on_health_list,
                                              .closed = worker_call_closed};
const struct grpc_call_ops health_watch_ops = {.message = on_health_watch,
                                               .closed = worker_call_closed};
