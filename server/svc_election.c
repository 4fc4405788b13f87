/* v3electionpb.Election, but for Observe: one leader at a time under a name, with a value that it
 * proclaims; see server/contest.h. Source of the rules: etcd server/etcdserver/api/v3election, and
 * Election in client/v3/concurrency. */
#include "server/services.h"

#include "server/contest.h"
#include "server/node.h"
#include "server/quota.h"

#include "base/err.h"
#include "base/mem.h"

static const char not_leader_text[] = "election: not leader";
static const char no_leader_text[] = "election: no leader";
static const char missing_leader_text[] = "\"leader\" field must be provided";

/* A call of any of the methods. */
struct election {
    struct contest contest;
    struct buf name;
    struct buf value;
    struct buf leader_key; /* Proclaim, Resign */
    int64_t leader_rev;
};

/* What the requests consist of. LeaderKey: 1 name, 2 key, 3 rev, 4 lease. */
struct election_request {
    struct slice name;
    struct slice value;
    int64_t lease;
    bool has_leader;
    struct slice leader_key;
    int64_t leader_rev;
};

static struct election *election_of(struct contest *k)
{
    return CONTAINER_OF(k, struct election, contest);
}

static struct contest *contest_of(struct inner *in)
{
    return CONTAINER_OF(in, struct contest, inner);
}

static void election_free(struct contest *k)
{
    struct election *e = election_of(k);
    buf_fini(&e->name);
    buf_fini(&e->value);
    buf_fini(&e->leader_key);
    mem_free(e);
}

static struct election *election_new(struct grpc_call *call, const struct election_request *r)
{
    struct election *e = mem_alloc_zero(sizeof(*e));
    e->contest.free = election_free;
    contest_init(&e->contest, call);
    buf_init(&e->name, SIZE_MAX);
    buf_init(&e->value, SIZE_MAX);
    buf_init(&e->leader_key, SIZE_MAX);
    (void)buf_append(&e->name, r->name.data, r->name.size);
    (void)buf_append(&e->value, r->value.data, r->value.size);
    (void)buf_append(&e->leader_key, r->leader_key.data, r->leader_key.size);
    e->leader_rev = r->leader_rev;
    return e;
}

static int decode_leader(struct slice msg, struct election_request *ret)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    ret->has_leader = true;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.number == 1 && f.type == WIRE_BYTES)
            ret->name = f.bytes;
        else if (f.number == 2 && f.type == WIRE_BYTES)
            ret->leader_key = f.bytes;
        else if (f.number == 3 && f.type == WIRE_VARINT)
            ret->leader_rev = (int64_t)f.value;
        else if (f.number == 4 && f.type == WIRE_VARINT)
            ret->lease = (int64_t)f.value;
    }
    return rv;
}

/* ProclaimRequest: 1 leader, 2 value. ResignRequest: 1 leader. */
static int decode_led(struct slice msg, struct election_request *ret)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct election_request){0};
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.type != WIRE_BYTES)
            continue;
        if (f.number == 2)
            ret->value = f.bytes;
        else if (f.number == 1 && (rv = decode_leader(f.bytes, ret)) != 0)
            break;
    }
    return rv;
}

/* CampaignRequest: 1 name, 2 lease, 3 value. LeaderRequest: 1 name. */
static int decode_named(struct slice msg, struct election_request *ret)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct election_request){0};
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.number == 1 && f.type == WIRE_BYTES)
            ret->name = f.bytes;
        else if (f.number == 2 && f.type == WIRE_VARINT)
            ret->lease = (int64_t)f.value;
        else if (f.number == 3 && f.type == WIRE_BYTES)
            ret->value = f.bytes;
    }
    return rv;
}

/* The header is the whole answer. */
static void reply_header(struct contest *k)
{
    uint8_t answer[96];
    size_t size = (size_t)(wire_header_put(answer, &k->header) - answer);
    contest_reply(k, slice_of(answer, size));
}

/* --- transactions that hold while the key is the leader's --- */

/* If `key` was created at `rev`, do `then`. */
static void propose_led(struct contest *k, struct slice key, int64_t rev, struct wire_op then,
                        void (*done)(struct inner *in, int err, struct slice reply))
{
    struct buf txn;
    if (key.size == 0) {
        contest_fail(k, TV_EMPTY_KEY);
        return;
    }
    buf_init(&txn, SIZE_MAX);
    contest_txn_put(&txn, key, rev, &then, 1, NULL, 0);
    int err = inner_propose(&k->inner, WIRE_RAFT_TXN, buf_slice(&txn), done);
    buf_fini(&txn);
    if (err != 0)
        contest_fail(k, err);
}

/* Who gives up standing: its key goes, if it still is the one. */
static void resign_after(struct contest *k)
{
    struct buf txn;
    buf_init(&txn, SIZE_MAX);
    struct wire_op del = contest_op_delete(buf_slice(&k->key));
    contest_txn_put(&txn, buf_slice(&k->key), k->revision, &del, 1, NULL, 0);
    inner_propose_after(&k->inner, WIRE_RAFT_TXN, buf_slice(&txn));
    buf_fini(&txn);
}

/* True: done, and it was the leader. Else the call has been finished with an error. */
static bool led(struct contest *k, int err, struct slice reply, bool must_lead)
{
    struct wire_txn_response r;
    if (err == 0)
        err = wire_txn_response_decode(reply, &r);
    if (err != 0) {
        contest_fail(k, err);
        return false;
    }
    if (must_lead && !r.succeeded) {
        contest_fail_text(k, not_leader_text);
        return false;
    }
    k->header = r.header;
    return true;
}

/* --- Campaign --- */

/* CampaignResponse: 1 header, 2 leader. */
static void reply_campaign(struct contest *k)
{
    struct slice name = buf_slice(&election_of(k)->name), key = buf_slice(&k->key);
    size_t size = wire_bytes_size(1, name) + wire_bytes_size(2, key) +
                  wire_uint_size(3, (uint64_t)k->revision) + wire_uint_size(4, (uint64_t)k->lease);
    struct buf *b = &k->inner.worker->scratch;
    buf_clear(b);
    uint8_t *start = buf_reserve(b, wire_header_size(&k->header) + wire_item_size(2, size));
    uint8_t *p = wire_item_put_head(wire_header_put(start, &k->header), 2, size);
    p = wire_bytes_put(wire_bytes_put(p, 1, name), 2, key);
    p = wire_uint_put(wire_uint_put(p, 3, (uint64_t)k->revision), 4, (uint64_t)k->lease);
    contest_reply(k, slice_of(start, (size_t)(p - start)));
}

static void on_value_changed(struct inner *in, int err, struct slice reply)
{
    struct contest *k = contest_of(in);
    struct wire_header first = k->header;
    if (err != 0)
        resign_after(k);
    if (!led(k, err, reply, true))
        return;
    k->header = first; /* etcd answers with the one that it queued up with */
    contest_wait(k, k->revision - 1, reply_campaign);
}

static void on_stands(struct inner *in, int err, struct slice reply)
{
    struct contest *k = contest_of(in);
    struct wire_kv own;
    bool created;
    if (!contest_queued(k, err, reply, &created, &own))
        return;
    struct slice value = buf_slice(&election_of(k)->value), key = buf_slice(&k->key);
    if (created || slice_equal(own.value, value))
        contest_wait(k, k->revision - 1, reply_campaign);
    else
        propose_led(k, key, k->revision, contest_op_put(key, value, k->lease), on_value_changed);
}

static void on_campaign_session(struct contest *k)
{
    struct election *e = election_of(k);
    struct buf txn;
    buf_init(&txn, SIZE_MAX);
    contest_name(k, buf_slice(&e->name));
    struct slice key = buf_slice(&k->key);
    struct wire_op put = contest_op_put(key, buf_slice(&e->value), k->lease);
    struct wire_op get = contest_op_get(key);
    contest_txn_put(&txn, key, 0, &put, 1, &get, 1);
    int err = inner_propose(&k->inner, WIRE_RAFT_TXN, buf_slice(&txn), on_stands);
    buf_fini(&txn);
    if (err != 0)
        contest_fail(k, err);
}

static void on_campaign(struct grpc_call *call, struct slice msg)
{
    struct election_request r;
    if (decode_named(msg, &r) != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call) || contest_lacks_space(call, QUOTA_LEASE_BYTES + r.value.size))
        return;
    struct election *e = election_new(call, &r);
    e->contest.abandoned = resign_after;
    contest_session(&e->contest, r.lease, on_campaign_session);
}

/* --- Proclaim, Resign --- */

static void on_proclaimed(struct inner *in, int err, struct slice reply)
{
    struct contest *k = contest_of(in);
    if (led(k, err, reply, true))
        reply_header(k);
}

static void on_resigned(struct inner *in, int err, struct slice reply)
{
    struct contest *k = contest_of(in);
    if (led(k, err, reply, false))
        reply_header(k);
}

static void on_proclaim_session(struct contest *k)
{
    struct election *e = election_of(k);
    struct slice key = buf_slice(&e->leader_key);
    propose_led(k, key, e->leader_rev, contest_op_put(key, buf_slice(&e->value), k->lease),
                on_proclaimed);
}

static void on_resign_session(struct contest *k)
{
    struct election *e = election_of(k);
    struct slice key = buf_slice(&e->leader_key);
    propose_led(k, key, e->leader_rev, contest_op_delete(key), on_resigned);
}

static void begin_led(struct grpc_call *call, struct slice msg, void (*next)(struct contest *k))
{
    struct election_request r;
    if (decode_led(msg, &r) != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call))
        return;
    if (!r.has_leader) {
        grpc_finish(call, GRPC_UNKNOWN, missing_leader_text);
        return;
    }
    if (contest_lacks_space(call, r.value.size))
        return;
    struct election *e = election_new(call, &r);
    contest_session(&e->contest, r.lease, next);
}

static void on_proclaim(struct grpc_call *call, struct slice msg)
{
    begin_led(call, msg, on_proclaim_session);
}

static void on_resign(struct grpc_call *call, struct slice msg)
{
    begin_led(call, msg, on_resign_session);
}

/* --- Leader --- */

static void on_leader_barrier(struct inner *in, int err, struct slice reply)
{
    struct contest *k = contest_of(in);
    struct worker *w = in->worker;
    (void)reply;
    if (err != 0) {
        contest_fail(k, err);
        return;
    }
    struct buf *b = &w->scratch;
    buf_clear(b);
    epoch_enter(mvcc_epoch(w->node->mvcc), w->reader);
    int64_t rev = mvcc_revision(w->node->mvcc);
    err = contest_permit(k);
    const struct mvcc_version *v = err == 0 ? contest_first(k, rev) : NULL;
    if (v != NULL)
        contest_put_leader(in, rev, mvcc_version_kv(v), b);
    epoch_leave(w->reader);
    if (err != 0)
        contest_fail(k, err);
    else if (v == NULL)
        contest_fail_text(k, no_leader_text);
    else
        contest_reply(k, buf_slice(b));
}

static void on_leader(struct grpc_call *call, struct slice msg)
{
    struct election_request r;
    if (decode_named(msg, &r) != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call))
        return;
    struct election *e = election_new(call, &r);
    contest_name(&e->contest, buf_slice(&e->name));
    inner_barrier(&e->contest.inner, on_leader_barrier);
}

const struct grpc_call_ops election_campaign_ops = {.message = on_campaign,
                                                    .closed = worker_call_closed};
const struct grpc_call_ops election_proclaim_ops = {.message = on_proclaim,
                                                    .closed = worker_call_closed};
const struct grpc_call_ops election_resign_ops = {.message = on_resign,
                                                  .closed = worker_call_closed};
const struct grpc_call_ops election_leader_ops = {.message = on_leader,
                                                  .closed = worker_call_closed};
