/* The operations: what is asked, and what is looked at in the answer. */
#include "kubernetes.h"
#include "load.h"

#include "base/assert.h"
#include "base/mem.h"
#include "proto/wire.h"

enum {
    KEY_SIZE_MAX = (1 << 16) + 1,
    VALUE_SHARED_BYTES_MIN = 16 << 10, /* values from here on are not copied for each put */
    WIRE_PUT_KEY = 1,                  /* fields of PutRequest */
    WIRE_PUT_VALUE = 2,
};

static enum op_kind choose_of_mix(struct worker *w)
{
    static const enum op_kind kinds[BENCH_PARTS_COUNT] = {
        [BENCH_PART_PUT] = OP_PUT,   [BENCH_PART_GET] = OP_GET,     [BENCH_PART_TXN] = OP_TXN,
        [BENCH_PART_LIST] = OP_LIST, [BENCH_PART_LEASE] = OP_LEASE,
    };
    const uint32_t *weights = w->run->o->weights;
    uint64_t sum = 0;
    for (int i = 0; i < BENCH_PARTS_COUNT; i++)
        sum += weights[i];
    uint64_t drawn = rng_below(&w->source.rng, sum);
    int part = 0;
    for (; drawn >= weights[part]; part++)
        drawn -= weights[part];
    return kinds[part];
}

void op_choose(struct slot *s)
{
    static const enum op_kind kinds[] = {
        [BENCH_PUT] = OP_PUT,           [BENCH_GET] = OP_GET,
        [BENCH_TXN] = OP_TXN,           [BENCH_LIST] = OP_LIST,
        [BENCH_FILL] = OP_FILL,         [BENCH_WATCH] = OP_PUT,
        [BENCH_LEASE] = OP_LEASE,       [BENCH_GRANT] = OP_GRANT,
        [BENCH_COMPACT] = OP_COMPACT,   [BENCH_KEEPALIVE] = OP_KEEPALIVE,
        [BENCH_SNAPSHOT] = OP_SNAPSHOT,
    };
    struct worker *w = s->worker;
    const struct bench_options *o = w->run->o;
    s->listed_keys = 0;
    s->listed_bytes = 0;
    s->compact_to = 0;
    s->revision = 0;
    s->step = 0;
    buf_clear(&s->page_key);
    if (o->command == BENCH_KUBERNETES) {
        kube_choose(s);
        return;
    }
    s->kind = o->command == BENCH_MIXED ? choose_of_mix(w) : kinds[o->command];
    if (s->kind == OP_FILL || s->kind == OP_GRANT || s->kind == OP_KEEPALIVE)
        return; /* which one is said already */
    s->key = key_next(&w->source);
    if (s->kind == OP_LEASE) /* one of its own: no life takes another's key */
        s->key = o->keys + (uint64_t)(s - w->slots) * o->parts + w->part;
    if (s->kind == OP_TXN) {
        /* Keys are dealt out to the workers: what one saw last is what is there. */
        s->key -= s->key % o->parts;
        s->key += w->part;
        if (s->key >= o->keys)
            s->key = w->part;
    }
}

/* The calls of a lease's life. */
enum { LEASE_GRANTED = 1, LEASE_USED, LEASE_KEPT, LEASE_REVOKED };

static const char *lease_path(const struct slot *s)
{
    static const char *const paths[] = {
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.KV/Put",
        "/etcdserverpb.Lease/LeaseKeepAlive",
        "/etcdserverpb.Lease/LeaseRevoke",
    };
    return paths[s->step];
}

const char *op_path(const struct slot *s)
{
    switch (s->kind) {
    case OP_PUT:
        return "/etcdserverpb.KV/Put";
    case OP_LEASE:
        return lease_path(s);
    case OP_LIST:
        if (s->worker->run->o->stream)
            return "/etcdserverpb.KV/RangeStream";
        return "/etcdserverpb.KV/Range";
    case OP_GET:
        return "/etcdserverpb.KV/Range";
    case OP_COMPACT:
        return s->compact_to == 0 ? "/etcdserverpb.KV/Range" : "/etcdserverpb.KV/Compact";
    case OP_GRANT:
        return "/etcdserverpb.Lease/LeaseGrant";
    case OP_SNAPSHOT:
        return "/etcdserverpb.Maintenance/Snapshot";
    case OP_TXN:
    case OP_FILL:
        return "/etcdserverpb.KV/Txn";
    default:
        return kube_path(s);
    }
}

/* --- requests --- */

uint8_t *scratch_reserve(struct worker *w, size_t size)
{
    buf_clear(&w->scratch);
    uint8_t *at = buf_reserve(&w->scratch, size + 1);
    ASSERT(at != NULL);
    w->scratch.size = size;
    return at;
}

void scratch_send(struct worker *w, struct grpc_call *call)
{
    struct slice msg = buf_slice(&w->scratch);
    (void)grpc_send(call, &msg, 1); /* a call that cannot send is closed with the reason */
}

static struct wire_put_request put_of(struct slot *s, uint64_t key, uint8_t *key_bytes)
{
    const struct run *run = s->worker->run;
    key_write(run->o, key, key_bytes);
    return (struct wire_put_request){
        .key = slice_of(key_bytes, run->o->key_size),
        .value = slice_of(run->value->data, run->o->value_size),
    };
}

/* Everything before the value's bytes, which come last. */
static void send_put_shared(struct slot *s, struct grpc_call *call,
                            const struct wire_put_request *put)
{
    struct worker *w = s->worker;
    size_t size = wire_item_size(WIRE_PUT_KEY, put->key.size) +
                  wire_item_size(WIRE_PUT_VALUE, put->value.size) - put->value.size;
    uint8_t *at = wire_item_put(scratch_reserve(w, size), WIRE_PUT_KEY, put->key);
    (void)wire_item_put_head(at, WIRE_PUT_VALUE, put->value.size);
    (void)grpc_send_shared(call, buf_slice(&w->scratch), w->run->value, put->value);
}

static void send_put(struct slot *s, struct grpc_call *call)
{
    uint8_t key[KEY_SIZE_MAX];
    struct worker *w = s->worker;
    struct wire_put_request put = put_of(s, s->key, key);
    if (w->run->o->command == BENCH_WATCH) {
        /* The value begins with the moment at which it was due. */
        buf_clear(&w->chunk);
        (void)buf_append(&w->chunk, put.value.data, put.value.size);
        memcpy(w->chunk.data, &s->due_ns, sizeof(s->due_ns));
        put.value = buf_slice(&w->chunk);
    } else if (put.value.size >= VALUE_SHARED_BYTES_MIN) {
        send_put_shared(s, call, &put);
        return;
    }
    (void)wire_put_request_put(scratch_reserve(w, wire_put_request_size(&put)), &put);
    scratch_send(w, call);
}

static void send_get(struct slot *s, struct grpc_call *call)
{
    uint8_t key[KEY_SIZE_MAX];
    const struct bench_options *o = s->worker->run->o;
    key_write(o, s->key, key);
    struct wire_range_request range = {
        .key = slice_of(key, o->key_size),
        .serializable = o->serializable,
    };
    (void)wire_range_request_put(scratch_reserve(s->worker, wire_range_request_size(&range)),
                                 &range);
    scratch_send(s->worker, call);
}

static void send_list(struct slot *s, struct grpc_call *call)
{
    uint8_t end[KEY_SIZE_MAX];
    const struct bench_options *o = s->worker->run->o;
    struct slice first = o->prefix[0] == 0 ? slice_of("", 1) : slice_of_string(o->prefix);
    struct wire_range_request range = {
        .key = s->page_key.size > 0 ? buf_slice(&s->page_key) : first,
        .range_end = key_range_end(o, end),
        .limit = (int64_t)o->limit,
        .serializable = o->serializable,
    };
    (void)wire_range_request_put(scratch_reserve(s->worker, wire_range_request_size(&range)),
                                 &range);
    scratch_send(s->worker, call);
}

void scratch_begin_txn(struct worker *w, const struct wire_compare *compare)
{
    size_t size = wire_compare_size(compare);
    uint8_t *at = scratch_reserve(w, wire_item_size(WIRE_TXN_COMPARE, size));
    (void)wire_compare_put(wire_item_put_head(at, WIRE_TXN_COMPARE, size), compare);
}

void scratch_append_op(struct worker *w, uint32_t branch, const struct wire_op *op)
{
    struct buf *b = &w->scratch;
    size_t size = wire_op_size(op);
    uint8_t *at = buf_reserve(b, wire_item_size(branch, size));
    ASSERT(at != NULL);
    b->size += (size_t)(wire_op_put(wire_item_put_head(at, branch, size), op) - at);
}

static int64_t *mod_revision_of(struct slot *s)
{
    return &s->worker->mod_revisions[s->key / s->worker->run->o->parts];
}

static void send_txn(struct slot *s, struct grpc_call *call)
{
    uint8_t key[KEY_SIZE_MAX];
    struct worker *w = s->worker;
    struct wire_op put = {.kind = WIRE_OP_PUT, .put = put_of(s, s->key, key)};
    struct wire_op get = {.kind = WIRE_OP_RANGE, .range = {.key = put.put.key}};
    struct wire_compare compare = {
        .result = WIRE_COMPARE_EQUAL,
        .target = WIRE_COMPARE_MOD,
        .key = put.put.key,
        .with = WIRE_COMPARE_MOD,
        .number = *mod_revision_of(s),
    };
    scratch_begin_txn(w, &compare);
    scratch_append_op(w, WIRE_TXN_SUCCESS, &put);
    scratch_append_op(w, WIRE_TXN_FAILURE, &get);
    scratch_send(w, call);
}

static void send_fill(struct slot *s, struct grpc_call *call)
{
    uint8_t key[KEY_SIZE_MAX];
    const struct bench_options *o = s->worker->run->o;
    uint64_t first = s->key * o->batch;
    uint64_t end = first + o->batch < o->keys ? first + o->batch : o->keys;
    buf_clear(&s->worker->scratch);
    for (uint64_t i = first; i < end; i++) {
        struct wire_op put = {.kind = WIRE_OP_PUT, .put = put_of(s, i, key)};
        scratch_append_op(s->worker, WIRE_TXN_SUCCESS, &put);
    }
    scratch_send(s->worker, call);
}

static void send_grant(struct slot *s, struct grpc_call *call)
{
    const struct bench_options *o = s->worker->run->o;
    struct wire_lease_grant_request grant = {.ttl = o->ttl_s, .id = lease_id(o, s->key)};
    (void)wire_lease_grant_request_put(
        scratch_reserve(s->worker, wire_lease_grant_request_size(&grant)), &grant);
    scratch_send(s->worker, call);
}

static void send_lease_put(struct slot *s, struct grpc_call *call)
{
    uint8_t key[KEY_SIZE_MAX];
    struct wire_put_request put = put_of(s, s->key, key);
    put.lease = s->lease;
    (void)wire_put_request_put(scratch_reserve(s->worker, wire_put_request_size(&put)), &put);
    scratch_send(s->worker, call);
}

static void send_lease(struct slot *s, struct grpc_call *call)
{
    struct worker *w = s->worker;
    struct wire_lease_grant_request grant = {.ttl = w->run->o->ttl_s};
    switch (s->step + 1) {
    case LEASE_GRANTED:
        (void)wire_lease_grant_request_put(
            scratch_reserve(w, wire_lease_grant_request_size(&grant)), &grant);
        break;
    case LEASE_USED:
        send_lease_put(s, call);
        return;
    case LEASE_KEPT:
        (void)wire_lease_keepalive_request_put(
            scratch_reserve(w, wire_lease_keepalive_request_size(s->lease)), s->lease);
        break;
    default:
        (void)wire_lease_revoke_request_put(
            scratch_reserve(w, wire_lease_revoke_request_size(s->lease)), s->lease);
        break;
    }
    scratch_send(w, call);
}

/* First a read, whose answer tells the revision, then the compaction. */
static void send_compact(struct slot *s, struct grpc_call *call)
{
    struct worker *w = s->worker;
    struct wire_range_request range = {.key = slice_of("", 1), .count_only = true};
    struct wire_compaction_request compact = {.revision = s->compact_to};
    if (s->compact_to == 0)
        (void)wire_range_request_put(scratch_reserve(w, wire_range_request_size(&range)), &range);
    else
        (void)wire_compaction_request_put(
            scratch_reserve(w, wire_compaction_request_size(&compact)), &compact);
    scratch_send(w, call);
}

static void send_snapshot(struct slot *s, struct grpc_call *call)
{
    buf_clear(&s->worker->scratch); /* the request has no fields */
    scratch_send(s->worker, call);
}

void op_send(struct slot *s, struct grpc_call *call)
{
    switch (s->kind) {
    case OP_PUT:
        send_put(s, call);
        break;
    case OP_GET:
        send_get(s, call);
        break;
    case OP_TXN:
        send_txn(s, call);
        break;
    case OP_LIST:
        send_list(s, call);
        break;
    case OP_LEASE:
        send_lease(s, call);
        break;
    case OP_GRANT:
        send_grant(s, call);
        break;
    case OP_COMPACT:
        send_compact(s, call);
        break;
    case OP_SNAPSHOT:
        send_snapshot(s, call);
        break;
    case OP_FILL:
        send_fill(s, call);
        break;
    default:
        kube_send(s, call);
        break;
    }
}

/* --- answers --- */

void op_malformed(struct slot *s)
{
    s->malformed = true;
}

static void answer_get(struct slot *s, struct slice msg)
{
    struct wire_range_response range;
    if (wire_range_response_decode(msg, &range) != 0)
        op_malformed(s);
    else
        s->worker->empty += range.kvs_count == 0;
}

/* A whole answer, or a message of a stream: then only the last one has a header, more and count. */
static void answer_list(struct slot *s, struct slice msg)
{
    struct wire_range_response range;
    bool stream = s->worker->run->o->stream;
    if ((stream && wire_range_stream_response_decode(msg, &msg) != 0) ||
        wire_range_response_decode(msg, &range) != 0 || s->answered) {
        op_malformed(s);
        return;
    }
    if (s->revision == 0)
        s->revision = range.header.revision;
    s->page_keys += range.kvs_count;
    s->listed_keys += range.kvs_count;
    s->listed_bytes += msg.size;
    buf_clear(&s->page_key);
    s->answered = !stream || range.header.revision != 0;
    if (!s->answered)
        return;
    uint64_t count = (uint64_t)range.count;
    if (range.more ? count <= s->page_keys : count != s->page_keys)
        op_malformed(s); /* keys are missing, or came twice */
    if (!range.more)
        return;
    /* The next page begins right after the last key of this one. */
    struct wire_reader r = wire_reader_of(msg);
    struct wire_kv kv;
    while (wire_next_kv(&r, WIRE_RANGE_KVS, &kv) == 1) {
        buf_clear(&s->page_key);
        if (buf_append(&s->page_key, kv.key.data, kv.key.size) != 0 ||
            buf_append(&s->page_key, "", 1) != 0)
            op_malformed(s);
    }
}

bool op_read_of_txn(struct slot *s, struct slice msg, struct wire_kv *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct slice op;
    enum wire_op_kind kind;
    if (!wire_next_item(&r, WIRE_TXN_RESPONSES, &op) ||
        wire_response_op_decode(op, &kind, &op) != 0 || kind != WIRE_OP_RANGE) {
        op_malformed(s);
        return false;
    }
    r = wire_reader_of(op);
    return wire_next_kv(&r, WIRE_RANGE_KVS, ret) == 1;
}

static void answer_txn(struct slot *s, struct slice msg)
{
    struct wire_txn_response txn;
    if (wire_txn_response_decode(msg, &txn) != 0) {
        op_malformed(s);
        return;
    }
    s->worker->revisions += txn.succeeded;
    if (s->kind == OP_FILL)
        return;
    if (txn.succeeded) {
        *mod_revision_of(s) = txn.header.revision;
        return;
    }
    s->worker->conflicts++;
    *mod_revision_of(s) = 0;
    struct wire_kv kv;
    if (op_read_of_txn(s, msg, &kv))
        *mod_revision_of(s) = kv.mod_revision;
}

static void answer_lease(struct slot *s, struct slice msg)
{
    struct wire_lease_response lease;
    struct wire_put_response put;
    if (s->step + 1 == LEASE_USED) {
        if (wire_put_response_decode(msg, &put) != 0)
            op_malformed(s);
        else
            s->worker->revisions++;
        return;
    }
    if (wire_lease_response_decode(msg, &lease) != 0) {
        op_malformed(s);
        return;
    }
    if (s->step + 1 == LEASE_GRANTED)
        s->lease = lease.id;
    if (s->step + 1 == LEASE_KEPT && (lease.id != s->lease || lease.ttl <= 0))
        op_malformed(s);                                  /* it is lost already */
    s->worker->revisions += s->step + 1 == LEASE_REVOKED; /* its key goes with it */
}

static void answer_grant(struct slot *s, struct slice msg)
{
    struct wire_lease_response grant;
    if (wire_lease_response_decode(msg, &grant) != 0 ||
        grant.id != lease_id(s->worker->run->o, s->key))
        op_malformed(s);
}

/* As Kubernetes does: what is forgotten is what was there an interval ago, so that nobody who is a
 * little behind loses the history he needs. */
static void answer_compact(struct slot *s, struct slice msg)
{
    struct worker *w = s->worker;
    struct wire_range_response range;
    if (s->compact_to > 0) {
        w->compacted = s->compact_to;
        return;
    }
    if (wire_range_response_decode(msg, &range) != 0) {
        op_malformed(s);
        return;
    }
    if (w->revision_before > w->compacted)
        s->compact_to = w->revision_before;
    w->revision_before = range.header.revision;
}

void op_answer(struct slot *s, struct slice msg)
{
    struct wire_put_response put;
    s->answered |=
        s->kind != OP_LIST && s->kind != OP_RELIST; /* that may come in several messages */
    switch (s->kind) {
    case OP_PUT:
        if (wire_put_response_decode(msg, &put) != 0)
            op_malformed(s);
        else
            s->worker->revisions++;
        break;
    case OP_LEASE:
        answer_lease(s, msg);
        break;
    case OP_GET:
        answer_get(s, msg);
        break;
    case OP_LIST:
    case OP_RELIST:
        answer_list(s, msg);
        break;
    case OP_GRANT:
        answer_grant(s, msg);
        break;
    case OP_COMPACT:
        answer_compact(s, msg);
        break;
    case OP_SNAPSHOT:
        s->listed_bytes += msg.size;
        break;
    case OP_TXN:
    case OP_FILL:
        answer_txn(s, msg);
        break;
    default:
        kube_answer(s, msg);
        break;
    }
}

bool op_forgives(struct slot *s, enum grpc_code code)
{
    if (code != GRPC_OUT_OF_RANGE)
        return false;
    if (s->kind == OP_COMPACT_TRY)
        return s->step > 0; /* likewise */
    if (s->kind != OP_COMPACT || s->compact_to == 0)
        return false;
    s->worker->compacted = s->compact_to; /* somebody else has compacted as far */
    return true;
}

bool op_continues(struct slot *s)
{
    switch (s->kind) {
    case OP_COMPACT:
        return s->compact_to > s->worker->compacted;
    case OP_LEASE:
        s->step++;
        return s->step < LEASE_REVOKED;
    case OP_LIST:
        return s->page_key.size > 0;
    default:
        return s->kind >= OP_NODE_LEASE && kube_continues(s);
    }
}
