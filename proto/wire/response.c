/* Responses, as the server writes them. */
#include "wire_internal.h"

enum { RESPONSE_HEADER = 1 };
enum { HEADER_CLUSTER_ID = 1, HEADER_MEMBER_ID = 2, HEADER_REVISION = 3, HEADER_RAFT_TERM = 4 };

/* --- ResponseHeader --- */

static size_t header_body_size(const struct wire_header *h)
{
    return wire_uint_size(HEADER_CLUSTER_ID, h->cluster_id) +
           wire_uint_size(HEADER_MEMBER_ID, h->member_id) +
           wire_uint_size(HEADER_REVISION, (uint64_t)h->revision) +
           wire_uint_size(HEADER_RAFT_TERM, h->raft_term);
}

size_t wire_header_size(const struct wire_header *h)
{
    return h == NULL ? 0 : wire_item_size(RESPONSE_HEADER, header_body_size(h));
}

uint8_t *wire_header_put(uint8_t *dst, const struct wire_header *h)
{
    if (h == NULL)
        return dst;
    dst = wire_item_put_head(dst, RESPONSE_HEADER, header_body_size(h));
    dst = wire_uint_put(dst, HEADER_CLUSTER_ID, h->cluster_id);
    dst = wire_uint_put(dst, HEADER_MEMBER_ID, h->member_id);
    dst = wire_uint_put(dst, HEADER_REVISION, (uint64_t)h->revision);
    return wire_uint_put(dst, HEADER_RAFT_TERM, h->raft_term);
}

/* --- KV --- */

enum { RANGE_MORE = 3, RANGE_COUNT = 4, PUT_PREV_KV = 2, DELETE_DELETED = 2, TXN_SUCCEEDED = 2 };

size_t wire_range_tail_size(bool more, int64_t count)
{
    return wire_uint_size(RANGE_MORE, more) + wire_uint_size(RANGE_COUNT, (uint64_t)count);
}

uint8_t *wire_range_tail_put(uint8_t *dst, bool more, int64_t count)
{
    return wire_uint_put(wire_uint_put(dst, RANGE_MORE, more), RANGE_COUNT, (uint64_t)count);
}

size_t wire_range_response_size(const struct wire_header *h, size_t kvs_bytes, bool more,
                                int64_t count)
{
    return wire_header_size(h) + kvs_bytes + wire_range_tail_size(more, count);
}

size_t wire_put_response_size(const struct wire_header *h, struct slice prev_kv)
{
    return wire_header_size(h) + wire_bytes_size(PUT_PREV_KV, prev_kv);
}

uint8_t *wire_put_response_put(uint8_t *dst, const struct wire_header *h, struct slice prev_kv)
{
    return wire_bytes_put(wire_header_put(dst, h), PUT_PREV_KV, prev_kv);
}

size_t wire_delete_range_response_size(const struct wire_header *h, int64_t deleted)
{
    return wire_header_size(h) + wire_uint_size(DELETE_DELETED, (uint64_t)deleted);
}

uint8_t *wire_delete_range_response_put(uint8_t *dst, const struct wire_header *h, int64_t deleted)
{
    return wire_uint_put(wire_header_put(dst, h), DELETE_DELETED, (uint64_t)deleted);
}

size_t wire_txn_response_size(const struct wire_header *h, bool succeeded)
{
    return wire_header_size(h) + wire_uint_size(TXN_SUCCEEDED, succeeded);
}

uint8_t *wire_txn_response_put(uint8_t *dst, const struct wire_header *h, bool succeeded)
{
    return wire_uint_put(wire_header_put(dst, h), TXN_SUCCEEDED, succeeded);
}

/* --- Lease --- */

enum { LEASE_ID = 2, LEASE_TTL = 3, LEASE_GRANTED_TTL = 4, LEASES_LEASE = 2, STATUS_ID = 1 };

size_t wire_lease_ttl_response_size(const struct wire_header *h, int64_t id, int64_t ttl,
                                    int64_t granted_ttl)
{
    return wire_header_size(h) + wire_uint_size(LEASE_ID, (uint64_t)id) +
           wire_uint_size(LEASE_TTL, (uint64_t)ttl) +
           wire_uint_size(LEASE_GRANTED_TTL, (uint64_t)granted_ttl);
}

uint8_t *wire_lease_ttl_response_put(uint8_t *dst, const struct wire_header *h, int64_t id,
                                     int64_t ttl, int64_t granted_ttl)
{
    dst = wire_header_put(dst, h);
    dst = wire_uint_put(dst, LEASE_ID, (uint64_t)id);
    dst = wire_uint_put(dst, LEASE_TTL, (uint64_t)ttl);
    return wire_uint_put(dst, LEASE_GRANTED_TTL, (uint64_t)granted_ttl);
}

size_t wire_lease_grant_response_size(const struct wire_header *h, int64_t id, int64_t ttl)
{
    return wire_lease_ttl_response_size(h, id, ttl, 0);
}

uint8_t *wire_lease_grant_response_put(uint8_t *dst, const struct wire_header *h, int64_t id,
                                       int64_t ttl)
{
    return wire_lease_ttl_response_put(dst, h, id, ttl, 0);
}

size_t wire_lease_keepalive_response_size(const struct wire_header *h, int64_t id, int64_t ttl)
{
    return wire_lease_ttl_response_size(h, id, ttl, 0);
}

uint8_t *wire_lease_keepalive_response_put(uint8_t *dst, const struct wire_header *h, int64_t id,
                                           int64_t ttl)
{
    return wire_lease_ttl_response_put(dst, h, id, ttl, 0);
}

size_t wire_lease_status_size(int64_t id)
{
    return wire_item_size(LEASES_LEASE, wire_uint_size(STATUS_ID, (uint64_t)id));
}

uint8_t *wire_lease_status_put(uint8_t *dst, int64_t id)
{
    dst = wire_item_put_head(dst, LEASES_LEASE, wire_uint_size(STATUS_ID, (uint64_t)id));
    return wire_uint_put(dst, STATUS_ID, (uint64_t)id);
}

/* --- Watch --- */

enum {
    WATCH_WATCH_ID = 2,
    WATCH_CREATED = 3,
    WATCH_CANCELED = 4,
    WATCH_COMPACT_REVISION = 5,
    WATCH_CANCEL_REASON = 6,
    WATCH_FRAGMENT = 7,
    WATCH_EVENTS = 11,
    EVENT_TYPE = 1,
    EVENT_KV = 2,
    EVENT_PREV_KV = 3,
};

size_t wire_watch_response_size(const struct wire_watch_response *r)
{
    return wire_header_size(&r->header) + wire_uint_size(WATCH_WATCH_ID, (uint64_t)r->watch_id) +
           wire_uint_size(WATCH_CREATED, r->created) + wire_uint_size(WATCH_CANCELED, r->canceled) +
           wire_uint_size(WATCH_COMPACT_REVISION, (uint64_t)r->compact_revision) +
           wire_bytes_size(WATCH_CANCEL_REASON, r->cancel_reason) +
           wire_uint_size(WATCH_FRAGMENT, r->fragment);
}

uint8_t *wire_watch_response_put(uint8_t *dst, const struct wire_watch_response *r)
{
    dst = wire_header_put(dst, &r->header);
    dst = wire_uint_put(dst, WATCH_WATCH_ID, (uint64_t)r->watch_id);
    dst = wire_uint_put(dst, WATCH_CREATED, r->created);
    dst = wire_uint_put(dst, WATCH_CANCELED, r->canceled);
    dst = wire_uint_put(dst, WATCH_COMPACT_REVISION, (uint64_t)r->compact_revision);
    dst = wire_bytes_put(dst, WATCH_CANCEL_REASON, r->cancel_reason);
    return wire_uint_put(dst, WATCH_FRAGMENT, r->fragment);
}

static size_t event_body_size(int type, struct slice kv, struct slice prev_kv)
{
    return wire_uint_size(EVENT_TYPE, (uint64_t)type) + wire_item_size(EVENT_KV, kv.size) +
           wire_bytes_size(EVENT_PREV_KV, prev_kv);
}

size_t wire_event_size(int type, struct slice kv, struct slice prev_kv)
{
    return wire_item_size(WATCH_EVENTS, event_body_size(type, kv, prev_kv));
}

uint8_t *wire_event_put(uint8_t *dst, int type, struct slice kv, struct slice prev_kv)
{
    dst = wire_item_put_head(dst, WATCH_EVENTS, event_body_size(type, kv, prev_kv));
    dst = wire_uint_put(dst, EVENT_TYPE, (uint64_t)type);
    dst = wire_item_put(dst, EVENT_KV, kv);
    return wire_bytes_put(dst, EVENT_PREV_KV, prev_kv);
}

/* --- nests --- */

/* A nest is where its contents begin and how many bytes were kept for their length. */
enum { NEST_LENGTH_BITS = 4 };

size_t wire_nest_begin(struct buf *b, uint32_t number, size_t size_guess)
{
    size_t length_size = wire_varint_size(size_guess);
    uint8_t *at = buf_reserve(b, wire_tag_size(number) + length_size);
    ASSERT(at != NULL);
    b->size += (size_t)(wire_tag_put(at, number, WIRE_BYTES) - at) + length_size;
    return b->size << NEST_LENGTH_BITS | length_size;
}

void wire_nest_end(struct buf *b, size_t nest)
{
    size_t begin = nest >> NEST_LENGTH_BITS;
    size_t kept = nest & ((1 << NEST_LENGTH_BITS) - 1);
    ASSERT(begin <= b->size);
    size_t size = b->size - begin;
    size_t length_size = wire_varint_size(size);
    if (length_size > kept) {
        const uint8_t *room = buf_reserve(b, length_size - kept);
        ASSERT(room != NULL);
    }
    uint8_t *length = b->data + begin - kept;
    if (length_size != kept && size > 0)
        memmove(length + length_size, length + kept, size);
    b->size = b->size - kept + length_size;
    (void)wire_varint_put(length, size);
}
