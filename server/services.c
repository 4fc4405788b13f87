#include "server/services.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include "server/node.h"
#include "server/slow.h"
#include "server/top.h"
#include "server/trace.h"

#include <stdio.h>
#include <string.h>

void service_malformed(struct grpc_call *call)
{
    if (grpc_call_uncount(call))
        meter_version_uncount(&service_worker(call)->meters);
    grpc_finish(call, GRPC_INTERNAL,
                "grpc: error unmarshalling request: proto: cannot parse invalid "
                "wire-format data");
}

bool service_is_well_formed(struct grpc_call *call, struct slice msg)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1)
        continue;
    if (rv != 0)
        service_malformed(call);
    return rv == 0;
}

static void on_request_call_closed(struct call_tie *tie)
{
    CONTAINER_OF(tie, struct request, tie)->call = NULL;
}

void service_tie(struct grpc_call *call, struct request *req)
{
    req->tie.closed = on_request_call_closed;
    grpc_call_set_user(call, &req->tie);
}

void service_answered(struct worker *w, struct request *req)
{
    struct grpc_call *call = req->call;
    if (call != NULL) {
        grpc_call_set_user(call, NULL);
        struct slice reply = slice_of(request_reply_bytes(req), req->reply_size);
        if (req->err != 0)
            worker_fail(call, req->err);
        else if (req->reply != NULL)
            (void)grpc_reply_shared(call, SLICE_EMPTY, req->reply, reply);
        else
            (void)grpc_reply(call, &reply, 1);
    }
    if (slow_is(w, req->begun_ms))
        slow_proposal(w, call, req);
    worker_request_free(w, req);
}

bool service_refused(struct grpc_call *call)
{
    struct core_status s;
    core_status(service_worker(call)->node->core, &s);
    if (s.standing == CORE_LEARNER)
        worker_fail(call, TV_NOT_SUPPORTED_FOR_LEARNER);
    return s.standing == CORE_LEARNER || service_lacks_leader(call);
}

bool service_lacks_leader(struct grpc_call *call)
{
    struct core_status s;
    core_status(service_worker(call)->node->core, &s);
    if (core_is_fenced(service_worker(call)->node->core)) {
        worker_fail(call, TV_CORRUPT);
        return true;
    }
    if (s.standing != CORE_OUTSIDE && !worker_lacks_leader(service_worker(call), call))
        return false;
    worker_fail(call, TV_NO_LEADER);
    return true;
}

void service_propose(struct grpc_call *call, uint32_t raft_kind, struct slice body, bool wait_scrub)
{
    struct worker *w = service_worker(call);
    struct auth_caller caller;
    int err = service_caller(call, &caller);
    if (err != 0) {
        worker_fail(call, err);
        return;
    }
    struct request *req = worker_request(w, REQUEST_PROPOSE, call, service_answered);
    req->wait_scrub = wait_scrub;
    if (w->tracer != NULL) {
        trace_work(call, raft_kind, body, false);
        trace_proposed(call, req);
    }
    if (!worker_payload_by(w, req, raft_kind, body, &caller)) {
        worker_request_free(w, req);
        worker_fail(call, TV_REQUEST_TOO_LARGE);
        return;
    }
    service_tie(call, req);
    worker_post(w, req);
}

/* --- space --- */

static void on_alarm_raised(struct worker *w, struct request *req)
{
    struct grpc_call *call = req->call;
    worker_request_free(w, req);
    if (call == NULL)
        return;
    grpc_call_set_user(call, NULL);
    worker_fail(call, TV_NO_SPACE); /* also when the alarm could not be raised */
}

static void raise_no_space(struct worker *w, struct grpc_call *call)
{
    struct alarm_request alarm = {.action = ALARM_ACTIVATE,
                                  .member_id = w->node->member_id,
                                  .type = ALARM_NOSPACE,
                                  .reason = ALARM_FOR_ASKED};
    uint8_t body[64];
    size_t size = (size_t)(alarm_request_put(body, &alarm) - body);
    ASSERT(size <= sizeof(body));
    struct request *req = worker_request(w, REQUEST_PROPOSE, call, on_alarm_raised);
    bool fits = worker_payload(w, req, WIRE_RAFT_ALARM, slice_of(body, size));
    ASSERT(fits);
    service_tie(call, req);
    worker_post(w, req);
}

bool service_lacks_space(struct grpc_call *call, uint64_t cost_bytes)
{
    struct worker *w = service_worker(call);
    struct node *n = w->node;
    uint64_t quota = n->config->quota_backend_bytes;
    if (cost_bytes == 0)
        return false;
    /* Not through the log, as with other alarms: that would take what room there is. */
    if (core_lacks_room(n->core) || alarms_active_for_disk(&n->applier.alarms)) {
        worker_fail(call, TV_NO_SPACE);
        return true;
    }
    if (quota == 0 || node_db_size(n) + cost_bytes < quota)
        return false;
    if ((alarms_reasons(&n->applier.alarms, n->member_id, ALARM_NOSPACE) & ALARM_FOR_ASKED) != 0)
        worker_fail(call, TV_NO_SPACE); /* no need to say it again */
    else
        raise_no_space(w, call);
    return true;
}

/* --- the table --- */

static void on_watch_open(struct grpc_call *call, void *arg)
{
    struct worker *w = arg;
    if (!service_refused(call))
        watch_stream_open(w->hub, call);
}

#define UNARY(method, method_ops) {.path = (method), .ops = &(method_ops)}

static const struct grpc_method table[] = {
    UNARY("/etcdserverpb.KV/Range", kv_range_ops),
    {.path = "/etcdserverpb.KV/RangeStream",
     .ops = &kv_range_stream_ops,
     .open = kv_range_stream_open,
     .server_streaming = true},
    UNARY("/etcdserverpb.KV/Put", kv_put_ops),
    UNARY("/etcdserverpb.KV/DeleteRange", kv_delete_range_ops),
    UNARY("/etcdserverpb.KV/Txn", kv_txn_ops),
    UNARY("/etcdserverpb.KV/Compact", kv_compact_ops),
    {.path = "/etcdserverpb.Watch/Watch",
     .ops = &watch_call_ops,
     .open = on_watch_open,
     .client_streaming = true,
     .server_streaming = true},
    UNARY("/etcdserverpb.Lease/LeaseGrant", lease_grant_ops),
    UNARY("/etcdserverpb.Lease/LeaseRevoke", lease_revoke_ops),
    {.path = "/etcdserverpb.Lease/LeaseKeepAlive",
     .ops = &lease_keep_alive_ops,
     .open = lease_keep_alive_open,
     .client_streaming = true,
     .server_streaming = true},
    UNARY("/etcdserverpb.Lease/LeaseTimeToLive", lease_time_to_live_ops),
    UNARY("/etcdserverpb.Lease/LeaseLeases", lease_leases_ops),
    UNARY("/etcdserverpb.Maintenance/Status", maintenance_status_ops),
    UNARY("/etcdserverpb.Maintenance/Alarm", maintenance_alarm_ops),
    UNARY("/etcdserverpb.Maintenance/HashKV", maintenance_hash_kv_ops),
    UNARY("/etcdserverpb.Maintenance/Defragment", maintenance_defragment_ops),
    UNARY("/etcdserverpb.Maintenance/Hash", maintenance_hash_ops),
    {.path = "/etcdserverpb.Maintenance/Snapshot",
     .ops = &maintenance_snapshot_ops,
     .server_streaming = true},
    UNARY("/etcdserverpb.Maintenance/MoveLeader", maintenance_move_leader_ops),
    UNARY("/etcdserverpb.Maintenance/Downgrade", maintenance_downgrade_ops),
    UNARY("/etcdserverpb.Cluster/MemberList", cluster_member_list_ops),
    UNARY("/etcdserverpb.Cluster/MemberAdd", cluster_member_add_ops),
    UNARY("/etcdserverpb.Cluster/MemberRemove", cluster_member_remove_ops),
    UNARY("/etcdserverpb.Cluster/MemberUpdate", cluster_member_update_ops),
    UNARY("/etcdserverpb.Cluster/MemberPromote", cluster_member_promote_ops),
    UNARY("/etcdserverpb.Auth/AuthEnable", auth_log_ops),
    UNARY("/etcdserverpb.Auth/AuthDisable", auth_log_ops),
    UNARY("/etcdserverpb.Auth/AuthStatus", auth_log_ops),
    UNARY("/etcdserverpb.Auth/Authenticate", auth_authenticate_ops),
    UNARY("/etcdserverpb.Auth/UserAdd", auth_password_ops),
    UNARY("/etcdserverpb.Auth/UserGet", auth_log_ops),
    UNARY("/etcdserverpb.Auth/UserList", auth_log_ops),
    UNARY("/etcdserverpb.Auth/UserDelete", auth_log_ops),
    UNARY("/etcdserverpb.Auth/UserChangePassword", auth_password_ops),
    UNARY("/etcdserverpb.Auth/UserGrantRole", auth_log_ops),
    UNARY("/etcdserverpb.Auth/UserRevokeRole", auth_log_ops),
    UNARY("/etcdserverpb.Auth/RoleAdd", auth_log_ops),
    UNARY("/etcdserverpb.Auth/RoleGet", auth_log_ops),
    UNARY("/etcdserverpb.Auth/RoleList", auth_log_ops),
    UNARY("/etcdserverpb.Auth/RoleDelete", auth_log_ops),
    UNARY("/etcdserverpb.Auth/RoleGrantPermission", auth_log_ops),
    UNARY("/etcdserverpb.Auth/RoleRevokePermission", auth_log_ops),
    UNARY("/v3lockpb.Lock/Lock", lock_lock_ops),
    UNARY("/v3lockpb.Lock/Unlock", lock_unlock_ops),
    UNARY("/v3electionpb.Election/Campaign", election_campaign_ops),
    UNARY("/v3electionpb.Election/Proclaim", election_proclaim_ops),
    UNARY("/v3electionpb.Election/Leader", election_leader_ops),
    {.path = "/v3electionpb.Election/Observe",
     .ops = &election_observe_ops,
     .open = election_observe_open,
     .server_streaming = true},
    UNARY("/v3electionpb.Election/Resign", election_resign_ops),
    UNARY("/grpc.health.v1.Health/Check", health_check_ops),
    UNARY("/grpc.health.v1.Health/List", health_list_ops),
    {.path = "/grpc.health.v1.Health/Watch", .ops = &health_watch_ops, .server_streaming = true},
};

enum { METHODS_COUNT = sizeof(table) / sizeof(table[0]) };

/* A worker's methods, each with ops of its own, which count, and look at tokens first. */
struct methods {
    struct grpc_method list[METHODS_COUNT];
    struct grpc_call_ops ops[METHODS_COUNT];
};

static void count_client(struct grpc_call *call, bool stream)
{
    struct worker_meters *m = &service_worker(call)->meters;
    struct slice metadata = grpc_call_metadata_bytes(call);
    if (TV_UNLIKELY(!meter_version_count_again(m, metadata, stream)))
        meter_version_count(m, grpc_call_metadata(call, "client-api-version"), metadata, stream);
}

static const struct grpc_call_ops *inner_ops(const struct grpc_call *call)
{
    return table[grpc_call_method(call) - service_worker(call)->methods].ops;
}

void services_deliver(struct grpc_call *call, struct slice msg)
{
    inner_ops(call)->message(call, msg);
}

static void on_message(struct grpc_call *call, struct slice msg)
{
    bool enabled = auth_is_enabled(&service_worker(call)->node->applier.auth);
    if (TV_LIKELY(!enabled) || !service_holds(call, msg))
        services_deliver(call, msg);
}

static void on_unary_message(struct grpc_call *call, struct slice msg)
{
    struct worker *w = service_worker(call);
    count_client(call, false);
    if (TV_UNLIKELY(--w->top_countdown == 0)) {
        w->top_countdown = top_next_sample(w->top);
        top_count_request(w->top, grpc_call_method(call)->path, msg);
    }
    if (w->tracer != NULL)
        trace_begin(w->tracer, call);
    on_message(call, msg);
}

static void on_open(struct grpc_call *call, void *arg)
{
    size_t at = (size_t)(grpc_call_method(call) - service_worker(call)->methods);
    count_client(call, true);
    if (service_worker(call)->tracer != NULL)
        trace_begin(service_worker(call)->tracer, call);
    if (table[at].open != NULL)
        table[at].open(call, arg);
}

/* What etcd measures of a method, or counts of its outcome, beside what it counts of all. */
static void count_outcome(struct grpc_call *call, const struct grpc_call_ops *ops,
                          enum grpc_code code, struct slice text)
{
    struct worker *w = service_worker(call);
    struct worker_meters *m = &w->meters;
    uint64_t took_ns = worker_now_ns(w) - grpc_call_started_ns(call);
    bool ok = code == GRPC_OK;
    if (ops == &kv_range_ops && code != GRPC_INVALID_ARGUMENT) /* that was not asked at all */
        metric_observe(&m->request[METER_RANGE][ok], METER_REQUEST_SCALE, took_ns);
    else if (ops == &cluster_member_promote_ops)
        meter_promotion_count(m, ok ? SLICE_EMPTY : text);
    else if (ops == &watch_call_ops && code == GRPC_INTERNAL)
        metric_add(&m->watch_receive_failures, 1);
    else if (ops == &lease_keep_alive_ops && code == GRPC_INTERNAL)
        metric_add(&m->lease_receive_failures, 1);
    if (!ok)
        return;
    if (ops == &maintenance_hash_ops)
        metric_observe(&m->hash, METER_HASH_SCALE, took_ns);
    else if (ops == &maintenance_hash_kv_ops)
        metric_observe(&m->hash_rev, METER_HASH_SCALE, took_ns);
    else if (ops == &maintenance_defragment_ops)
        metric_observe(&m->defrag, METER_DEFRAG_SCALE, took_ns);
    else if (ops == &maintenance_snapshot_ops)
        metric_observe(&m->snapshot, METER_SNAPSHOT_SCALE, took_ns);
}

static bool has_outcome(const struct grpc_call_ops *ops)
{
    return ops != &kv_put_ops && ops != &kv_txn_ops;
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    const struct grpc_call_ops *ops = inner_ops(call);
    if (service_worker(call)->held_count > 0)
        service_held_closed(call);
    if (has_outcome(ops))
        count_outcome(call, ops, code, text);
    if (service_worker(call)->tracer != NULL)
        trace_end(service_worker(call)->tracer, call, code, text);
    ops->closed(call, code, text);
}

static void on_unary_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    const struct grpc_call_ops *ops = inner_ops(call);
    uint64_t started_ns = grpc_call_started_ns(call);
    /* Not those that ended before their message; nor these two, which wait for others, not for us.
     */
    if (TV_LIKELY(started_ns != 0 && ops != &lock_lock_ops && ops != &election_campaign_ops))
        top_count_call(grpc_call_conn(call), worker_now_ns(service_worker(call)) - started_ns);
    on_closed(call, code, text);
}

uint32_t services_count(void)
{
    return METHODS_COUNT;
}

const struct grpc_method *services_method(uint32_t at)
{
    return &table[at];
}

struct grpc_method *services_table(struct worker *w, uint32_t *ret_count)
{
    struct methods *m = mem_alloc(sizeof(*m));
    _Static_assert(offsetof(struct methods, list) == 0, "whoever frees the list frees all");
    memcpy(m->list, table, sizeof(table));
    for (uint32_t i = 0; i < METHODS_COUNT; i++) {
        m->ops[i] = *table[i].ops;
        bool unary = !table[i].client_streaming && !table[i].server_streaming;
        if (m->ops[i].message != NULL)
            m->ops[i].message = unary ? on_unary_message : on_message;
        m->ops[i].closed = unary ? on_unary_closed : on_closed;
        if (!unary)
            m->list[i].open = on_open;
        m->list[i].ops = &m->ops[i];
        m->list[i].arg = w;
    }
    *ret_count = METHODS_COUNT;
    return m->list;
}
