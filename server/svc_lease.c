/* etcdserverpb.Lease. Grants and revocations go on the log; how long a lease still lives only the
 * leader knows, and the core asks it. */
#include "server/services.h"

#include "server/node.h"
#include "server/quota.h"
#include "server/trace.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

/* --- LeaseGrant, LeaseRevoke --- */

static void on_grant(struct grpc_call *call, struct slice msg)
{
    struct wire_lease_grant_request req;
    if (wire_lease_grant_request_decode(msg, &req) != 0) {
        service_malformed(call);
        return;
    }
    if (service_lacks_space(call, QUOTA_LEASE_BYTES))
        return;
    if (service_refused(call) || service_lacks_user(call))
        return;
    /* An id that the client leaves to us is chosen before the log, so that all members take the
     * same. */
    if (req.id == 0)
        req.id = (int64_t)(core_next_request_id(service_worker(call)->node->core) & INT64_MAX);
    uint8_t body[32];
    size_t size = wire_lease_grant_request_size(&req);
    ASSERT(size <= sizeof(body));
    wire_lease_grant_request_put(body, &req);
    service_propose(call, WIRE_RAFT_LEASE_GRANT, slice_of(body, size), false);
}

static void on_revoke(struct grpc_call *call, struct slice msg)
{
    struct wire_lease_id_request req;
    if (wire_lease_revoke_request_decode(msg, &req) != 0)
        service_malformed(call);
    else if (!service_refused(call) && !service_lacks_user(call))
        service_propose(call, WIRE_RAFT_LEASE_REVOKE, msg, false);
}

const struct grpc_call_ops lease_grant_ops = {.message = on_grant, .closed = worker_call_closed};
const struct grpc_call_ops lease_revoke_ops = {.message = on_revoke, .closed = worker_call_closed};

/* --- LeaseKeepAlive --- */

enum { RENEWALS_PER_STREAM_MAX = 256 };

struct keep_alive {
    struct worker *worker;
    struct grpc_call *call; /* NULL: it ended; freed with the last renewal under way */
    uint32_t under_way;
    bool half_closed;
};

static void on_renewed(struct worker *w, struct request *req)
{
    struct keep_alive *k = req->user;
    int err = req->err;
    int64_t ttl = err == TV_LEASE_NOT_FOUND ? 0 : req->ttl; /* gone: 0, not an error */
    int64_t id = req->lease_id;
    uint64_t from_ns = req->posted_ns;
    worker_request_free(w, req);
    k->under_way--;
    if (k->call == NULL) {
        if (k->under_way == 0)
            mem_free(k);
        return;
    }
    if (err != 0 && err != TV_LEASE_NOT_FOUND) {
        worker_fail(k->call, err);
        return;
    }
    if (w->tracer != NULL)
        trace_renewed(w->tracer, k->call, id, from_ns);
    struct wire_header h = worker_header(w, mvcc_revision(w->node->mvcc));
    uint8_t answer[96];
    size_t size = wire_lease_keepalive_response_size(&h, id, ttl);
    ASSERT(size <= sizeof(answer));
    wire_lease_keepalive_response_put(answer, &h, id, ttl);
    (void)grpc_send(k->call, &(struct slice){answer, size}, 1);
    if (k->half_closed && k->under_way == 0)
        grpc_finish(k->call, GRPC_OK, NULL);
    else if (k->under_way == RENEWALS_PER_STREAM_MAX / 2)
        grpc_call_resume_reading(k->call);
}

static void on_keep_alive(struct grpc_call *call, struct slice msg)
{
    struct keep_alive *k = grpc_call_user(call);
    struct wire_lease_id_request m;
    if (wire_lease_keepalive_request_decode(msg, &m) != 0) {
        service_malformed(call);
        return;
    }
    struct request *req = worker_request(k->worker, REQUEST_LEASE_RENEW, NULL, on_renewed);
    req->lease_id = m.id;
    req->user = k;
    req->posted_ns = worker_now_ns(k->worker);
    int err = service_sign_request(call, req);
    if (err != 0) {
        worker_request_free(k->worker, req);
        worker_fail(call, err);
        return;
    }
    if (++k->under_way == RENEWALS_PER_STREAM_MAX)
        grpc_call_pause_reading(call);
    worker_post(k->worker, req);
}

static void on_keep_alive_half_closed(struct grpc_call *call)
{
    struct keep_alive *k = grpc_call_user(call);
    k->half_closed = true;
    if (k->under_way == 0)
        grpc_finish(call, GRPC_OK, NULL);
}

static void on_keep_alive_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)code;
    (void)text;
    struct keep_alive *k = grpc_call_user(call);
    k->call = NULL;
    if (k->under_way == 0)
        mem_free(k);
}

void lease_keep_alive_open(struct grpc_call *call, void *arg)
{
    struct keep_alive *k = mem_alloc_zero(sizeof(*k));
    k->worker = arg;
    k->call = call;
    grpc_call_set_user(call, k);
    (void)service_refused(call);
}

const struct grpc_call_ops lease_keep_alive_ops = {.message = on_keep_alive,
                                                   .half_closed = on_keep_alive_half_closed,
                                                   .closed = on_keep_alive_closed};

/* --- LeaseTimeToLive, LeaseLeases --- */

static void on_remaining(struct worker *w, struct request *req)
{
    struct grpc_call *call = req->call;
    if (call == NULL) {
        worker_request_free(w, req);
        return;
    }
    grpc_call_set_user(call, NULL);
    struct slice keys = slice_of(request_reply_bytes(req), req->reply_size);
    if (req->err == TV_LEASE_NOT_FOUND) {
        req->ttl = -1; /* not an error here */
        req->granted_ttl = 0;
        keys = SLICE_EMPTY;
        req->err = 0;
    }
    if (req->err != 0) {
        worker_fail(call, req->err);
    } else {
        struct wire_header h = worker_header(w, mvcc_revision(w->node->mvcc));
        uint8_t head[128];
        size_t size = wire_lease_ttl_response_size(&h, req->lease_id, req->ttl, req->granted_ttl);
        ASSERT(size <= sizeof(head));
        wire_lease_ttl_response_put(head, &h, req->lease_id, req->ttl, req->granted_ttl);
        (void)grpc_reply(call, (struct slice[]){{head, size}, keys}, 2);
    }
    worker_request_free(w, req);
}

/* The core looks at what hangs on the leases, and whether the caller may know it. */
static void ask(struct grpc_call *call, struct request *req)
{
    struct worker *w = service_worker(call);
    int err = service_sign_request(call, req);
    if (err != 0) {
        worker_request_free(w, req);
        worker_fail(call, err);
        return;
    }
    service_tie(call, req);
    worker_post(w, req);
}

static void on_time_to_live(struct grpc_call *call, struct slice msg)
{
    struct worker *w = service_worker(call);
    struct wire_lease_ttl_request m;
    if (wire_lease_ttl_request_decode(msg, &m) != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call))
        return;
    struct request *req = worker_request(w, REQUEST_LEASE_TTL, call, on_remaining);
    req->lease_id = m.id;
    req->want_keys = m.keys;
    ask(call, req);
}

static void on_leases(struct grpc_call *call, struct slice msg)
{
    struct worker *w = service_worker(call);
    if (!service_is_well_formed(call, msg) || service_refused(call))
        return;
    ask(call, worker_request(w, REQUEST_LEASE_LIST, call, service_answered));
}

const struct grpc_call_ops lease_time_to_live_ops = {.message = on_time_to_live,
                                                     .closed = worker_call_closed};
const struct grpc_call_ops lease_leases_ops = {.message = on_leases, .closed = worker_call_closed};
