/* Every message that proto/wire.h knows, read and written again: wire_again[i].again() decodes
 * `msg` and, on success, appends what the encoder makes of it. What comes out is the canonical
 * form: fields by number, defaults and unknown fields left out. The unit test compares it with
 * protobuf-c's, the fuzz target with itself. */
#ifndef TESTS_UNIT_WIRE_AGAIN_H
#define TESTS_UNIT_WIRE_AGAIN_H

#include "base/assert.h"
#include "base/buf.h"
#include "proto/wire.h"

#include <stddef.h>

struct wire_again {
    const char *message; /* full protobuf name */
    int (*again)(struct slice msg, struct buf *out);
};

/* Room for exactly `size` bytes; `end` is checked against it afterwards. */
static inline uint8_t *again_reserve(struct buf *out, size_t size)
{
    uint8_t *at = buf_reserve(out, size + 1);
    ASSERT(at != NULL);
    return at;
}

static inline void again_commit(struct buf *out, size_t size, const uint8_t *end)
{
    ASSERT(end == out->data + out->size + size);
    out->size += size;
}

#define AGAIN_BY_STRUCT(name, type)                                               \
    static inline int again_##name(struct slice msg, struct buf *out)             \
    {                                                                             \
        struct type m;                                                            \
        int rv = wire_##name##_decode(msg, &m);                                   \
        if (rv != 0)                                                              \
            return rv;                                                            \
        size_t size = wire_##name##_size(&m);                                     \
        again_commit(out, size, wire_##name##_put(again_reserve(out, size), &m)); \
        return 0;                                                                 \
    }

AGAIN_BY_STRUCT(range_request, wire_range_request)
AGAIN_BY_STRUCT(put_request, wire_put_request)
AGAIN_BY_STRUCT(delete_range_request, wire_delete_range_request)
AGAIN_BY_STRUCT(compaction_request, wire_compaction_request)
AGAIN_BY_STRUCT(lease_grant_request, wire_lease_grant_request)
AGAIN_BY_STRUCT(lease_ttl_request, wire_lease_ttl_request)
AGAIN_BY_STRUCT(lease_checkpoint, wire_lease_checkpoint)
AGAIN_BY_STRUCT(watch_request, wire_watch_request)
AGAIN_BY_STRUCT(member_attr, wire_member_attr)
AGAIN_BY_STRUCT(kv, wire_kv)

static inline int again_lease_revoke(struct slice msg, struct buf *out)
{
    struct wire_lease_id_request m;
    int rv = wire_lease_revoke_request_decode(msg, &m);
    if (rv != 0)
        return rv;
    size_t size = wire_lease_revoke_request_size(m.id);
    again_commit(out, size, wire_lease_revoke_request_put(again_reserve(out, size), m.id));
    return 0;
}

static inline int again_lease_keepalive(struct slice msg, struct buf *out)
{
    struct wire_lease_id_request m;
    int rv = wire_lease_keepalive_request_decode(msg, &m);
    if (rv != 0)
        return rv;
    size_t size = wire_lease_keepalive_request_size(m.id);
    again_commit(out, size, wire_lease_keepalive_request_put(again_reserve(out, size), m.id));
    return 0;
}

/* --- Txn, through the iterators; nests of every guess --- */

static inline void again_txn_append(const struct wire_txn *txn, struct buf *out);

static inline void again_ops(const struct wire_txn *txn, bool success, struct buf *out)
{
    struct wire_txn_it it;
    struct wire_op op;
    uint32_t count = 0;
    wire_txn_ops(txn, success, &it);
    while (wire_next_op(&it, &op)) {
        size_t guess = (size_t)count++ * 100;
        size_t item = wire_nest_begin(out, success ? WIRE_TXN_SUCCESS : WIRE_TXN_FAILURE, guess);
        if (op.kind == WIRE_OP_TXN) {
            size_t inner = wire_nest_begin(out, wire_op_field(WIRE_OP_TXN), guess);
            again_txn_append(&op.txn, out);
            wire_nest_end(out, inner);
        } else {
            size_t size = wire_op_size(&op);
            again_commit(out, size, wire_op_put(again_reserve(out, size), &op));
        }
        wire_nest_end(out, item);
    }
    ASSERT(count == (success ? txn->success_count : txn->failure_count));
}

static inline void again_txn_append(const struct wire_txn *txn, struct buf *out)
{
    struct wire_txn_it it;
    struct wire_compare c;
    uint32_t count = 0;
    wire_txn_compares(txn, &it);
    while (wire_next_compare(&it, &c)) {
        size_t item = wire_nest_begin(out, WIRE_TXN_COMPARE, 1u << (count++ % 20));
        size_t size = wire_compare_size(&c);
        again_commit(out, size, wire_compare_put(again_reserve(out, size), &c));
        wire_nest_end(out, item);
    }
    ASSERT(count == txn->compares_count);
    again_ops(txn, true, out);
    again_ops(txn, false, out);
}

static inline int again_txn(struct slice msg, struct buf *out)
{
    struct wire_txn txn;
    int rv = wire_txn_decode(msg, &txn);
    if (rv == 0)
        again_txn_append(&txn, out);
    return rv;
}

/* --- responses --- */

/* The client's view does not say whether there was a header; the encoder is given one that has
 * something in it and none otherwise. */
static inline const struct wire_header *again_header(const struct wire_header *h)
{
    bool empty = h->cluster_id == 0 && h->member_id == 0 && h->revision == 0 && h->raft_term == 0;
    return empty ? NULL : h;
}

static inline int again_kvs(struct slice msg, uint32_t number, struct buf *out)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_kv kv;
    int rv;
    while ((rv = wire_next_kv(&r, number, &kv)) == 1) {
        size_t size = wire_kv_size(&kv);
        size_t field_size = wire_item_size(number, size);
        uint8_t *at = again_reserve(out, field_size);
        again_commit(out, field_size, wire_kv_put(wire_item_put_head(at, number, size), &kv));
    }
    return rv;
}

static inline int again_range_response(struct slice msg, struct buf *out)
{
    struct wire_range_response m;
    int rv = wire_range_response_decode(msg, &m);
    if (rv != 0)
        return rv;
    const struct wire_header *h = again_header(&m.header);
    size_t begin = out->size;
    again_commit(out, wire_header_size(h),
                 wire_header_put(again_reserve(out, wire_header_size(h)), h));
    size_t kvs_begin = out->size;
    rv = again_kvs(msg, WIRE_RANGE_KVS, out);
    if (rv != 0)
        return rv;
    size_t kvs_bytes = out->size - kvs_begin;
    size_t tail = wire_range_tail_size(m.more, m.count);
    again_commit(out, tail, wire_range_tail_put(again_reserve(out, tail), m.more, m.count));
    ASSERT(out->size - begin == wire_range_response_size(h, kvs_bytes, m.more, m.count));
    return 0;
}

static inline int again_range_stream_response(struct slice msg, struct buf *out)
{
    struct slice range;
    int rv = wire_range_stream_response_decode(msg, &range);
    if (rv != 0 || range.data == NULL)
        return rv;
    size_t item = wire_nest_begin(out, WIRE_RANGE_STREAM_RESPONSE, range.size);
    rv = again_range_response(range, out);
    wire_nest_end(out, item);
    return rv;
}

static inline int again_delete_range_response(struct slice msg, struct buf *out)
{
    struct wire_delete_range_response m;
    int rv = wire_delete_range_response_decode(msg, &m);
    if (rv != 0)
        return rv;
    const struct wire_header *h = again_header(&m.header);
    size_t size = wire_delete_range_response_size(h, m.deleted);
    again_commit(out, size, wire_delete_range_response_put(again_reserve(out, size), h, m.deleted));
    return again_kvs(msg, WIRE_DELETE_RANGE_PREV_KVS, out);
}

static inline int again_put_response(struct slice msg, struct buf *out)
{
    struct wire_put_response m;
    struct wire_kv kv;
    uint8_t small[4096];
    int rv = wire_put_response_decode(msg, &m);
    if (rv == 0)
        rv = wire_kv_decode(m.prev_kv, &kv);
    if (rv != 0 || wire_kv_size(&kv) > sizeof(small))
        return rv != 0 ? rv : TV_ETOOLARGE;
    struct slice prev = slice_of(small, (size_t)(wire_kv_put(small, &kv) - small));
    const struct wire_header *h = again_header(&m.header);
    size_t size = wire_put_response_size(h, prev);
    again_commit(out, size, wire_put_response_put(again_reserve(out, size), h, prev));
    return 0;
}

static inline int again_lease_response(struct slice msg, struct buf *out)
{
    struct wire_lease_response m;
    int rv = wire_lease_response_decode(msg, &m);
    if (rv != 0)
        return rv;
    const struct wire_header *h = again_header(&m.header);
    size_t size = wire_lease_keepalive_response_size(h, m.id, m.ttl);
    again_commit(out, size,
                 wire_lease_keepalive_response_put(again_reserve(out, size), h, m.id, m.ttl));
    return 0;
}

static inline int again_lease_ttl_response(struct slice msg, struct buf *out)
{
    struct wire_lease_response m;
    int rv = wire_lease_ttl_response_decode(msg, &m);
    if (rv != 0)
        return rv;
    const struct wire_header *h = again_header(&m.header);
    size_t size = wire_lease_ttl_response_size(h, m.id, m.ttl, m.granted_ttl);
    uint8_t *at = again_reserve(out, size);
    again_commit(out, size, wire_lease_ttl_response_put(at, h, m.id, m.ttl, m.granted_ttl));
    struct wire_reader r = wire_reader_of(msg);
    struct slice key;
    while (wire_next_item(&r, WIRE_LEASE_TTL_KEYS, &key)) {
        size = wire_item_size(WIRE_LEASE_TTL_KEYS, key.size);
        again_commit(out, size, wire_item_put(again_reserve(out, size), WIRE_LEASE_TTL_KEYS, key));
    }
    return 0;
}

static inline int again_kv_bytes(bool present, const struct wire_kv *kv, uint8_t *dst,
                                 size_t capacity, struct slice *ret)
{
    *ret = SLICE_EMPTY;
    if (!present)
        return 0;
    if (wire_kv_size(kv) > capacity)
        return TV_ETOOLARGE;
    *ret = slice_of(dst, (size_t)(wire_kv_put(dst, kv) - dst));
    return 0;
}

static inline int again_watch_response(struct slice msg, struct buf *out)
{
    struct wire_watch_response m;
    struct wire_event e;
    int rv = wire_watch_response_decode(msg, &m);
    if (rv != 0)
        return rv;
    size_t size = wire_watch_response_size(&m);
    again_commit(out, size, wire_watch_response_put(again_reserve(out, size), &m));
    struct wire_reader r = wire_reader_of(m.events);
    while ((rv = wire_next_event(&r, &e)) == 1) {
        uint8_t small[2][4096];
        struct slice kv;
        struct slice prev;
        if (again_kv_bytes(true, &e.kv, small[0], sizeof(small[0]), &kv) != 0 ||
            again_kv_bytes(e.has_prev_kv, &e.prev_kv, small[1], sizeof(small[1]), &prev) != 0)
            return TV_ETOOLARGE;
        size = wire_event_size(e.type, kv, prev);
        again_commit(out, size, wire_event_put(again_reserve(out, size), e.type, kv, prev));
        ASSERT(wire_field_size(slice_of(out->data + out->size - size, size)) == size);
    }
    return rv;
}

static const struct wire_again wire_again[] = {
    {"etcdserverpb.RangeRequest", again_range_request},
    {"etcdserverpb.PutRequest", again_put_request},
    {"etcdserverpb.DeleteRangeRequest", again_delete_range_request},
    {"etcdserverpb.CompactionRequest", again_compaction_request},
    {"etcdserverpb.TxnRequest", again_txn},
    {"etcdserverpb.LeaseGrantRequest", again_lease_grant_request},
    {"etcdserverpb.LeaseRevokeRequest", again_lease_revoke},
    {"etcdserverpb.LeaseKeepAliveRequest", again_lease_keepalive},
    {"etcdserverpb.LeaseTimeToLiveRequest", again_lease_ttl_request},
    {"etcdserverpb.WatchRequest", again_watch_request},
    {"membershippb.ClusterMemberAttrSetRequest", again_member_attr},
    {"mvccpb.KeyValue", again_kv},
    {"etcdserverpb.RangeResponse", again_range_response},
    {"etcdserverpb.RangeStreamResponse", again_range_stream_response},
    {"etcdserverpb.PutResponse", again_put_response},
    {"etcdserverpb.DeleteRangeResponse", again_delete_range_response},
    {"etcdserverpb.LeaseKeepAliveResponse", again_lease_response},
    {"etcdserverpb.LeaseTimeToLiveResponse", again_lease_ttl_response},
    {"etcdserverpb.WatchResponse", again_watch_response},
    {"etcdserverpb.LeaseCheckpoint", again_lease_checkpoint},
};
enum { WIRE_AGAIN_COUNT = sizeof(wire_again) / sizeof(wire_again[0]) };

#endif
