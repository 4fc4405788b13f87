/* v3lockpb.Lock: a mutex by name. A call that has to wait holds nothing but its place in the queue;
 * see server/contest.h. Source of the rules: etcd server/etcdserver/api/v3lock, and Mutex in
 * client/v3/concurrency. */
#include "server/services.h"

#include "server/contest.h"
#include "server/node.h"
#include "server/quota.h"

#include "base/err.h"
#include "base/mem.h"

struct lock {
    struct contest contest;
    struct buf name;
};

static struct lock *lock_of(struct contest *k)
{
    return CONTAINER_OF(k, struct lock, contest);
}

static void lock_free(struct contest *k)
{
    struct lock *l = lock_of(k);
    buf_fini(&l->name);
    mem_free(l);
}

/* The client went away while it waited: its key leaves the queue. */
static void lock_abandoned(struct contest *k)
{
    struct wire_delete_range_request d = {.key = buf_slice(&k->key)};
    size_t size = wire_delete_range_request_size(&d);
    uint8_t *body = mem_alloc(size);
    (void)wire_delete_range_request_put(body, &d);
    inner_propose_after(&k->inner, WIRE_RAFT_DELETE_RANGE, slice_of(body, size));
    mem_free(body);
}

/* LockResponse: 1 header, 2 key. */
static void reply_lock(struct contest *k)
{
    struct slice key = buf_slice(&k->key);
    struct buf *b = &k->inner.worker->scratch;
    buf_clear(b);
    uint8_t *p = buf_reserve(b, wire_header_size(&k->header) + wire_bytes_size(2, key));
    uint8_t *end = wire_bytes_put(wire_header_put(p, &k->header), 2, key);
    contest_reply(k, slice_of(p, (size_t)(end - p)));
}

/* It is our turn; but is our key still there, or did the lease end meanwhile? */
static void on_checked(struct inner *in, int err, struct slice reply)
{
    struct contest *k = CONTAINER_OF(in, struct contest, inner);
    struct worker *w = in->worker;
    (void)reply;
    if (err != 0) {
        lock_abandoned(k);
        contest_fail(k, err);
        return;
    }
    uint64_t auth_revision;
    epoch_enter(mvcc_epoch(w->node->mvcc), w->reader);
    err = service_permit_range(in->call, buf_slice(&k->key), SLICE_EMPTY, &auth_revision);
    bool held = mvcc_get(w->node->mvcc, buf_slice(&k->key), 0) != NULL;
    k->header = inner_header(in, mvcc_revision(w->node->mvcc));
    epoch_leave(w->reader);
    if (err != 0) {
        lock_abandoned(k);
        contest_fail(k, err);
    } else if (held)
        reply_lock(k);
    else
        contest_fail_text(k, "mutex: session is expired");
}

static void on_turn(struct contest *k)
{
    inner_barrier(&k->inner, on_checked);
}

static void on_queued(struct inner *in, int err, struct slice reply)
{
    struct contest *k = CONTAINER_OF(in, struct contest, inner);
    struct wire_kv own, owner;
    bool created;
    if (!contest_queued(k, err, reply, &created, &own))
        return;
    if (!contest_response_kv(reply, 1, &owner) || owner.create_revision == k->revision)
        reply_lock(k);
    else
        contest_wait(k, k->revision - 1, on_turn);
}

static void on_session(struct contest *k)
{
    struct buf txn;
    buf_init(&txn, SIZE_MAX);
    contest_name(k, buf_slice(&lock_of(k)->name));
    struct slice key = buf_slice(&k->key);
    struct wire_op then[] = {contest_op_put(key, SLICE_EMPTY, k->lease), contest_op_first(k)};
    struct wire_op or_else[] = {contest_op_get(key), contest_op_first(k)};
    contest_txn_put(&txn, key, 0, then, 2, or_else, 2);
    int err = inner_propose(&k->inner, WIRE_RAFT_TXN, buf_slice(&txn), on_queued);
    buf_fini(&txn);
    if (err != 0)
        contest_fail(k, err);
}

/* LockRequest: 1 name, 2 lease. */
static void on_lock(struct grpc_call *call, struct slice msg)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    struct slice name = SLICE_EMPTY;
    int64_t lease = 0;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.number == 1 && f.type == WIRE_BYTES)
            name = f.bytes;
        else if (f.number == 2 && f.type == WIRE_VARINT)
            lease = (int64_t)f.value;
    }
    if (rv != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call) || contest_lacks_space(call, QUOTA_LEASE_BYTES))
        return;
    struct lock *l = mem_alloc_zero(sizeof(*l));
    l->contest.free = lock_free;
    l->contest.abandoned = lock_abandoned;
    contest_init(&l->contest, call);
    buf_init(&l->name, SIZE_MAX);
    (void)buf_append(&l->name, name.data, name.size);
    contest_session(&l->contest, lease, on_session);
}

const struct grpc_call_ops lock_lock_ops = {.message = on_lock, .closed = worker_call_closed};

/* --- Unlock --- */

static void on_deleted(struct inner *in, int err, struct slice reply)
{
    struct contest *k = CONTAINER_OF(in, struct contest, inner);
    struct wire_delete_range_response r;
    if (err == 0)
        err = wire_delete_range_response_decode(reply, &r);
    if (err != 0) {
        contest_fail(k, err);
        return;
    }
    uint8_t answer[96];
    size_t size = (size_t)(wire_header_put(answer, &r.header) - answer);
    contest_reply(k, slice_of(answer, size));
}

/* UnlockRequest: 1 key. */
static void on_unlock(struct grpc_call *call, struct slice msg)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    struct slice key = SLICE_EMPTY;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1)
        if (f.number == 1 && f.type == WIRE_BYTES)
            key = f.bytes;
    if (rv != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call))
        return;
    struct lock *l = mem_alloc_zero(sizeof(*l));
    struct contest *k = &l->contest;
    k->free = lock_free;
    contest_init(k, call);
    buf_init(&l->name, SIZE_MAX);
    if (key.size == 0) {
        contest_fail(k, TV_EMPTY_KEY);
        return;
    }
    struct wire_delete_range_request d = {.key = key};
    size_t size = wire_delete_range_request_size(&d);
    uint8_t *body = mem_alloc(size);
    (void)wire_delete_range_request_put(body, &d);
    int err = inner_propose(&k->inner, WIRE_RAFT_DELETE_RANGE, slice_of(body, size), on_deleted);
    mem_free(body);
    if (err != 0)
        contest_fail(k, err);
}

const struct grpc_call_ops lock_unlock_ops = {.message = on_unlock, .closed = worker_call_closed};
