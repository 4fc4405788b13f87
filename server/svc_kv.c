/* etcdserverpb.KV, but for Range and RangeStream (svc_range.c). Transactions that only read are
 * served here, from memory; writes go on the log with the client's own bytes, checked first: what
 * is on the log can be applied. */
#include "server/services.h"

#include "server/exec.h"
#include "server/node.h"
#include "server/quota.h"
#include "server/trace.h"
#include "server/validate.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

/* --- Put, DeleteRange --- */

static void on_put(struct grpc_call *call, struct slice msg)
{
    struct wire_put_request req;
    if (wire_put_request_decode(msg, &req) != 0) {
        service_malformed(call);
        return;
    }
    if (service_lacks_space(call, quota_put_bytes(&req)))
        return;
    int err = validate_put(&req);
    if (err != 0)
        worker_fail(call, err);
    else if (!service_refused(call))
        service_propose(call, WIRE_RAFT_PUT, msg, false);
}

static void on_delete_range(struct grpc_call *call, struct slice msg)
{
    struct wire_delete_range_request req;
    if (wire_delete_range_request_decode(msg, &req) != 0) {
        service_malformed(call);
        return;
    }
    int err = validate_delete_range(&req);
    if (err != 0)
        worker_fail(call, err);
    else if (!service_refused(call))
        service_propose(call, WIRE_RAFT_DELETE_RANGE, msg, false);
}

const struct grpc_call_ops kv_put_ops = {.message = on_put, .closed = worker_call_closed};
const struct grpc_call_ops kv_delete_range_ops = {.message = on_delete_range,
                                                  .closed = worker_call_closed};

/* --- Txn --- */

struct txn_shape {
    bool reads_only;   /* nothing but ranges; a nested transaction counts as a write */
    bool serializable; /* and all of them are */
};

/* What the branch may add to the store (quota.h), found on the way. */
static uint64_t look_at_ops(const struct wire_txn *txn, bool success, struct txn_shape *shape)
{
    uint64_t bytes = 0;
    struct wire_txn_it it;
    struct wire_op op;
    wire_txn_ops(txn, success, &it);
    while (wire_next_op(&it, &op)) {
        if (op.kind != WIRE_OP_RANGE)
            shape->reads_only = shape->serializable = false;
        else if (!op.range.serializable)
            shape->serializable = false;
        if (op.kind == WIRE_OP_PUT)
            bytes += quota_put_bytes(&op.put);
        else if (op.kind == WIRE_OP_TXN)
            bytes += quota_txn_bytes(&op.txn);
    }
    return bytes;
}

static void serve_txn(struct read *r)
{
    struct worker *w = r->worker;
    struct exec x = {.mvcc = w->node->mvcc, .want_results = true, .arena = &w->arena};
    struct exec_result result = {0};
    struct wire_txn txn;
    int err = wire_txn_decode(slice_of(r->msg, r->msg_size), &txn);
    ASSERT(err == 0); /* it was decoded before */

    epoch_enter(mvcc_epoch(x.mvcc), w->reader);
    uint64_t auth_rev;
    err = service_permit_txn(r->call, &txn, &auth_rev);
    if (err == 0)
        err = exec_txn(&x, &txn, &result);
    if (err == 0)
        err = service_permit_still(r->call, auth_rev);
    if (err == 0) {
        struct wire_header header = worker_header(w, 0);
        buf_clear(&w->scratch);
        size_t size = exec_response_size(&result, header);
        exec_response_put(&result, header, buf_reserve(&w->scratch, size));
        w->scratch.size = size;
    }
    kv_meters_add(&w->meters.kv, &x.tally);
    exec_result_fini(&result);
    arena_clear(&w->arena);
    epoch_leave(w->reader);

    struct grpc_call *call = r->call;
    metric_observe(&w->meters.request[METER_READONLY_TXN][err == 0], METER_REQUEST_SCALE,
                   worker_now_ns(w) - grpc_call_started_ns(call));
    worker_read_free(r);
    struct slice reply = buf_slice(&w->scratch);
    if (err != 0)
        worker_fail(call, err);
    else
        (void)grpc_reply(call, &reply, 1);
}

static void on_txn(struct grpc_call *call, struct slice msg)
{
    struct worker *w = service_worker(call);
    struct wire_txn txn;
    if (wire_txn_decode(msg, &txn) != 0) {
        service_malformed(call);
        return;
    }
    struct txn_shape shape = {.reads_only = true, .serializable = true};
    uint64_t success_bytes = look_at_ops(&txn, true, &shape);
    uint64_t failure_bytes = look_at_ops(&txn, false, &shape);
    if (service_lacks_space(call, success_bytes > failure_bytes ? success_bytes : failure_bytes))
        return;
    int err = validate_txn(&txn, w->node->config->max_txn_ops);
    if (err != 0) {
        worker_fail(call, err);
        return;
    }
    if (service_refused(call))
        return;
    if (w->tracer != NULL && shape.reads_only)
        trace_work(call, WIRE_RAFT_TXN, msg, true);
    if (shape.reads_only)
        worker_read(w, call, msg, !shape.serializable, serve_txn);
    else
        service_propose(call, WIRE_RAFT_TXN, msg, false);
}

const struct grpc_call_ops kv_txn_ops = {.message = on_txn, .closed = worker_call_closed};

/* --- Compact --- */

static void on_compact(struct grpc_call *call, struct slice msg)
{
    struct wire_compaction_request req;
    if (wire_compaction_request_decode(msg, &req) != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call) || service_lacks_root(call))
        return;
    service_propose(call, WIRE_RAFT_COMPACTION, msg, req.physical);
}

const struct grpc_call_ops kv_compact_ops = {.message = on_compact, .closed = worker_call_closed};
