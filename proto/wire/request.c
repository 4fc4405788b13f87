/* Requests that are a flat list of fields: KV without Txn, Lease, Watch. */
#include "wire_internal.h"

/* --- RangeRequest --- */

enum {
    RANGE_KEY = 1,
    RANGE_RANGE_END = 2,
    RANGE_LIMIT = 3,
    RANGE_REVISION = 4,
    RANGE_SORT_ORDER = 5,
    RANGE_SORT_TARGET = 6,
    RANGE_SERIALIZABLE = 7,
    RANGE_KEYS_ONLY = 8,
    RANGE_COUNT_ONLY = 9,
    RANGE_MIN_MOD_REVISION = 10,
    RANGE_MAX_MOD_REVISION = 11,
    RANGE_MIN_CREATE_REVISION = 12,
    RANGE_MAX_CREATE_REVISION = 13,
};

static void range_request_number(uint32_t number, uint64_t value, struct wire_range_request *ret)
{
    switch (number) {
    case RANGE_LIMIT:
        ret->limit = (int64_t)value;
        break;
    case RANGE_REVISION:
        ret->revision = (int64_t)value;
        break;
    case RANGE_SORT_ORDER:
        ret->sort_order = (int32_t)value;
        break;
    case RANGE_SORT_TARGET:
        ret->sort_target = (int32_t)value;
        break;
    case RANGE_SERIALIZABLE:
        ret->serializable = value != 0;
        break;
    case RANGE_KEYS_ONLY:
        ret->keys_only = value != 0;
        break;
    case RANGE_COUNT_ONLY:
        ret->count_only = value != 0;
        break;
    case RANGE_MIN_MOD_REVISION:
        ret->min_mod_revision = (int64_t)value;
        break;
    case RANGE_MAX_MOD_REVISION:
        ret->max_mod_revision = (int64_t)value;
        break;
    case RANGE_MIN_CREATE_REVISION:
        ret->min_create_revision = (int64_t)value;
        break;
    case RANGE_MAX_CREATE_REVISION:
        ret->max_create_revision = (int64_t)value;
        break;
    default:
        break;
    }
}

int wire__range_request_merge(struct slice msg, struct wire_range_request *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (wire__key(&f) == WIRE_KEY(RANGE_KEY, WIRE_BYTES))
            ret->key = f.bytes;
        else if (wire__key(&f) == WIRE_KEY(RANGE_RANGE_END, WIRE_BYTES))
            ret->range_end = f.bytes;
        else if (f.type == WIRE_VARINT)
            range_request_number(f.number, f.value, ret);
    }
    return rv;
}

int wire_range_request_decode(struct slice msg, struct wire_range_request *ret)
{
    *ret = (struct wire_range_request){0};
    return wire__range_request_merge(msg, ret);
}

size_t wire_range_request_size(const struct wire_range_request *r)
{
    return wire_bytes_size(RANGE_KEY, r->key) + wire_bytes_size(RANGE_RANGE_END, r->range_end) +
           wire_uint_size(RANGE_LIMIT, (uint64_t)r->limit) +
           wire_uint_size(RANGE_REVISION, (uint64_t)r->revision) +
           wire_uint_size(RANGE_SORT_ORDER, (uint64_t)r->sort_order) +
           wire_uint_size(RANGE_SORT_TARGET, (uint64_t)r->sort_target) +
           wire_uint_size(RANGE_SERIALIZABLE, r->serializable) +
           wire_uint_size(RANGE_KEYS_ONLY, r->keys_only) +
           wire_uint_size(RANGE_COUNT_ONLY, r->count_only) +
           wire_uint_size(RANGE_MIN_MOD_REVISION, (uint64_t)r->min_mod_revision) +
           wire_uint_size(RANGE_MAX_MOD_REVISION, (uint64_t)r->max_mod_revision) +
           wire_uint_size(RANGE_MIN_CREATE_REVISION, (uint64_t)r->min_create_revision) +
           wire_uint_size(RANGE_MAX_CREATE_REVISION, (uint64_t)r->max_create_revision);
}

uint8_t *wire_range_request_put(uint8_t *dst, const struct wire_range_request *r)
{
    dst = wire_bytes_put(dst, RANGE_KEY, r->key);
    dst = wire_bytes_put(dst, RANGE_RANGE_END, r->range_end);
    dst = wire_uint_put(dst, RANGE_LIMIT, (uint64_t)r->limit);
    dst = wire_uint_put(dst, RANGE_REVISION, (uint64_t)r->revision);
    dst = wire_uint_put(dst, RANGE_SORT_ORDER, (uint64_t)r->sort_order);
    dst = wire_uint_put(dst, RANGE_SORT_TARGET, (uint64_t)r->sort_target);
    dst = wire_uint_put(dst, RANGE_SERIALIZABLE, r->serializable);
    dst = wire_uint_put(dst, RANGE_KEYS_ONLY, r->keys_only);
    dst = wire_uint_put(dst, RANGE_COUNT_ONLY, r->count_only);
    dst = wire_uint_put(dst, RANGE_MIN_MOD_REVISION, (uint64_t)r->min_mod_revision);
    dst = wire_uint_put(dst, RANGE_MAX_MOD_REVISION, (uint64_t)r->max_mod_revision);
    dst = wire_uint_put(dst, RANGE_MIN_CREATE_REVISION, (uint64_t)r->min_create_revision);
    return wire_uint_put(dst, RANGE_MAX_CREATE_REVISION, (uint64_t)r->max_create_revision);
}

/* --- PutRequest --- */

enum {
    PUT_KEY = 1,
    PUT_VALUE = 2,
    PUT_LEASE = 3,
    PUT_PREV_KV = 4,
    PUT_IGNORE_VALUE = 5,
    PUT_IGNORE_LEASE = 6,
};

int wire__put_request_merge(struct slice msg, struct wire_put_request *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        switch (wire__key(&f)) {
        case WIRE_KEY(PUT_KEY, WIRE_BYTES):
            ret->key = f.bytes;
            break;
        case WIRE_KEY(PUT_VALUE, WIRE_BYTES):
            ret->value = f.bytes;
            break;
        case WIRE_KEY(PUT_LEASE, WIRE_VARINT):
            ret->lease = (int64_t)f.value;
            break;
        case WIRE_KEY(PUT_PREV_KV, WIRE_VARINT):
            ret->prev_kv = f.value != 0;
            break;
        case WIRE_KEY(PUT_IGNORE_VALUE, WIRE_VARINT):
            ret->ignore_value = f.value != 0;
            break;
        case WIRE_KEY(PUT_IGNORE_LEASE, WIRE_VARINT):
            ret->ignore_lease = f.value != 0;
            break;
        default:
            break;
        }
    }
    return rv;
}

int wire_put_request_decode(struct slice msg, struct wire_put_request *ret)
{
    *ret = (struct wire_put_request){0};
    return wire__put_request_merge(msg, ret);
}

size_t wire_put_request_size(const struct wire_put_request *r)
{
    return wire_bytes_size(PUT_KEY, r->key) + wire_bytes_size(PUT_VALUE, r->value) +
           wire_uint_size(PUT_LEASE, (uint64_t)r->lease) + wire_uint_size(PUT_PREV_KV, r->prev_kv) +
           wire_uint_size(PUT_IGNORE_VALUE, r->ignore_value) +
           wire_uint_size(PUT_IGNORE_LEASE, r->ignore_lease);
}

uint8_t *wire_put_request_put(uint8_t *dst, const struct wire_put_request *r)
{
    dst = wire_bytes_put(dst, PUT_KEY, r->key);
    dst = wire_bytes_put(dst, PUT_VALUE, r->value);
    dst = wire_uint_put(dst, PUT_LEASE, (uint64_t)r->lease);
    dst = wire_uint_put(dst, PUT_PREV_KV, r->prev_kv);
    dst = wire_uint_put(dst, PUT_IGNORE_VALUE, r->ignore_value);
    return wire_uint_put(dst, PUT_IGNORE_LEASE, r->ignore_lease);
}

/* --- DeleteRangeRequest --- */

enum { DELETE_KEY = 1, DELETE_RANGE_END = 2, DELETE_PREV_KV = 3 };

int wire__delete_range_request_merge(struct slice msg, struct wire_delete_range_request *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (wire__key(&f) == WIRE_KEY(DELETE_KEY, WIRE_BYTES))
            ret->key = f.bytes;
        else if (wire__key(&f) == WIRE_KEY(DELETE_RANGE_END, WIRE_BYTES))
            ret->range_end = f.bytes;
        else if (wire__key(&f) == WIRE_KEY(DELETE_PREV_KV, WIRE_VARINT))
            ret->prev_kv = f.value != 0;
    }
    return rv;
}

int wire_delete_range_request_decode(struct slice msg, struct wire_delete_range_request *ret)
{
    *ret = (struct wire_delete_range_request){0};
    return wire__delete_range_request_merge(msg, ret);
}

size_t wire_delete_range_request_size(const struct wire_delete_range_request *r)
{
    return wire_bytes_size(DELETE_KEY, r->key) + wire_bytes_size(DELETE_RANGE_END, r->range_end) +
           wire_uint_size(DELETE_PREV_KV, r->prev_kv);
}

uint8_t *wire_delete_range_request_put(uint8_t *dst, const struct wire_delete_range_request *r)
{
    dst = wire_bytes_put(dst, DELETE_KEY, r->key);
    dst = wire_bytes_put(dst, DELETE_RANGE_END, r->range_end);
    return wire_uint_put(dst, DELETE_PREV_KV, r->prev_kv);
}

/* --- messages of two numbers: compaction and leases --- */

/* Reads fields 1 and 2 as numbers. */
static int two_numbers_decode(struct slice msg, uint64_t *ret_first, uint64_t *ret_second)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret_first = 0;
    *ret_second = 0;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (wire__key(&f) == WIRE_KEY(1, WIRE_VARINT))
            *ret_first = f.value;
        else if (wire__key(&f) == WIRE_KEY(2, WIRE_VARINT))
            *ret_second = f.value;
    }
    return rv;
}

static size_t two_numbers_size(uint64_t first, uint64_t second)
{
    return wire_uint_size(1, first) + wire_uint_size(2, second);
}

static uint8_t *two_numbers_put(uint8_t *dst, uint64_t first, uint64_t second)
{
    return wire_uint_put(wire_uint_put(dst, 1, first), 2, second);
}

int wire_compaction_request_decode(struct slice msg, struct wire_compaction_request *ret)
{
    uint64_t revision;
    uint64_t physical;
    int rv = two_numbers_decode(msg, &revision, &physical);
    *ret = (struct wire_compaction_request){(int64_t)revision, physical != 0};
    return rv;
}

size_t wire_compaction_request_size(const struct wire_compaction_request *r)
{
    return two_numbers_size((uint64_t)r->revision, r->physical);
}

uint8_t *wire_compaction_request_put(uint8_t *dst, const struct wire_compaction_request *r)
{
    return two_numbers_put(dst, (uint64_t)r->revision, r->physical);
}

int wire_lease_grant_request_decode(struct slice msg, struct wire_lease_grant_request *ret)
{
    uint64_t ttl;
    uint64_t id;
    int rv = two_numbers_decode(msg, &ttl, &id);
    *ret = (struct wire_lease_grant_request){(int64_t)ttl, (int64_t)id};
    return rv;
}

size_t wire_lease_grant_request_size(const struct wire_lease_grant_request *r)
{
    return two_numbers_size((uint64_t)r->ttl, (uint64_t)r->id);
}

uint8_t *wire_lease_grant_request_put(uint8_t *dst, const struct wire_lease_grant_request *r)
{
    return two_numbers_put(dst, (uint64_t)r->ttl, (uint64_t)r->id);
}

int wire_lease_checkpoint_decode(struct slice msg, struct wire_lease_checkpoint *ret)
{
    uint64_t id;
    uint64_t remaining;
    int rv = two_numbers_decode(msg, &id, &remaining);
    *ret = (struct wire_lease_checkpoint){(int64_t)id, (int64_t)remaining};
    return rv;
}

size_t wire_lease_checkpoint_size(const struct wire_lease_checkpoint *c)
{
    return two_numbers_size((uint64_t)c->id, (uint64_t)c->remaining_ttl);
}

uint8_t *wire_lease_checkpoint_put(uint8_t *dst, const struct wire_lease_checkpoint *c)
{
    return two_numbers_put(dst, (uint64_t)c->id, (uint64_t)c->remaining_ttl);
}

static int lease_id_decode(struct slice msg, struct wire_lease_id_request *ret)
{
    uint64_t id;
    uint64_t unknown;
    int rv = two_numbers_decode(msg, &id, &unknown);
    ret->id = (int64_t)id;
    return rv;
}

int wire_lease_revoke_request_decode(struct slice msg, struct wire_lease_id_request *ret)
{
    return lease_id_decode(msg, ret);
}

int wire_lease_keepalive_request_decode(struct slice msg, struct wire_lease_id_request *ret)
{
    return lease_id_decode(msg, ret);
}

size_t wire_lease_revoke_request_size(int64_t id)
{
    return two_numbers_size((uint64_t)id, 0);
}

uint8_t *wire_lease_revoke_request_put(uint8_t *dst, int64_t id)
{
    return two_numbers_put(dst, (uint64_t)id, 0);
}

size_t wire_lease_keepalive_request_size(int64_t id)
{
    return two_numbers_size((uint64_t)id, 0);
}

uint8_t *wire_lease_keepalive_request_put(uint8_t *dst, int64_t id)
{
    return two_numbers_put(dst, (uint64_t)id, 0);
}

int wire_lease_ttl_request_decode(struct slice msg, struct wire_lease_ttl_request *ret)
{
    uint64_t id;
    uint64_t keys;
    int rv = two_numbers_decode(msg, &id, &keys);
    *ret = (struct wire_lease_ttl_request){(int64_t)id, keys != 0};
    return rv;
}

size_t wire_lease_ttl_request_size(const struct wire_lease_ttl_request *r)
{
    return two_numbers_size((uint64_t)r->id, r->keys);
}

uint8_t *wire_lease_ttl_request_put(uint8_t *dst, const struct wire_lease_ttl_request *r)
{
    return two_numbers_put(dst, (uint64_t)r->id, r->keys);
}

/* --- WatchRequest --- */

enum {
    CREATE_KEY = 1,
    CREATE_RANGE_END = 2,
    CREATE_START_REVISION = 3,
    CREATE_PROGRESS_NOTIFY = 4,
    CREATE_FILTERS = 5,
    CREATE_PREV_KV = 6,
    CREATE_WATCH_ID = 7,
    CREATE_FRAGMENT = 8,
};

static void add_filter(uint64_t value, uint32_t *filters)
{
    int32_t filter = (int32_t)value;
    if (filter == 0 || filter == 1)
        *filters |= 1u << filter;
}

/* A repeated enum may come one field per value, or many values packed into one. */
static int add_packed_filters(struct slice packed, uint32_t *filters)
{
    struct wire_reader r = wire_reader_of(packed);
    while (r.at < r.end) {
        uint64_t value;
        r.at = wire_varint_get(r.at, r.end, &value);
        if (r.at == NULL)
            return TV_EMALFORMED;
        add_filter(value, filters);
    }
    return 0;
}

static int create_merge(struct slice msg, struct wire_watch_create *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        switch (wire__key(&f)) {
        case WIRE_KEY(CREATE_KEY, WIRE_BYTES):
            ret->key = f.bytes;
            break;
        case WIRE_KEY(CREATE_RANGE_END, WIRE_BYTES):
            ret->range_end = f.bytes;
            break;
        case WIRE_KEY(CREATE_START_REVISION, WIRE_VARINT):
            ret->start_revision = (int64_t)f.value;
            break;
        case WIRE_KEY(CREATE_PROGRESS_NOTIFY, WIRE_VARINT):
            ret->progress_notify = f.value != 0;
            break;
        case WIRE_KEY(CREATE_FILTERS, WIRE_VARINT):
            add_filter(f.value, &ret->filters);
            break;
        case WIRE_KEY(CREATE_FILTERS, WIRE_BYTES):
            if (add_packed_filters(f.bytes, &ret->filters) != 0)
                return TV_EMALFORMED;
            break;
        case WIRE_KEY(CREATE_PREV_KV, WIRE_VARINT):
            ret->prev_kv = f.value != 0;
            break;
        case WIRE_KEY(CREATE_WATCH_ID, WIRE_VARINT):
            ret->watch_id = (int64_t)f.value;
            break;
        case WIRE_KEY(CREATE_FRAGMENT, WIRE_VARINT):
            ret->fragment = f.value != 0;
            break;
        default:
            break;
        }
    }
    return rv;
}

/* One member of the oneof came: on top of the last one when that was of the same kind. */
static int watch_union_merge(enum wire_watch_kind kind, struct slice body,
                             struct wire_watch_request *ret)
{
    struct wire_lease_id_request id = {0}; /* WatchCancelRequest has the same shape */
    struct wire_reader r = wire_reader_of(body);
    struct wire_field f;
    int rv;
    if (kind != ret->kind)
        *ret = (struct wire_watch_request){.kind = kind};
    switch (kind) {
    case WIRE_WATCH_CREATE:
        return create_merge(body, &ret->create);
    case WIRE_WATCH_CANCEL:
        id.id = ret->cancel_watch_id;
        while ((rv = wire_next_field(&r, &f)) == 1)
            if (wire__key(&f) == WIRE_KEY(1, WIRE_VARINT))
                id.id = (int64_t)f.value;
        ret->cancel_watch_id = id.id;
        return rv;
    default: /* WatchProgressRequest has no fields that we know */
        while ((rv = wire_next_field(&r, &f)) == 1)
            ;
        return rv;
    }
}

int wire_watch_request_decode(struct slice msg, struct wire_watch_request *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_watch_request){0};
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type != WIRE_BYTES || f.number > WIRE_WATCH_PROGRESS)
            continue;
        rv = watch_union_merge((enum wire_watch_kind)f.number, f.bytes, ret);
        if (rv != 0)
            return rv;
    }
    return rv;
}

static size_t create_size(const struct wire_watch_create *c)
{
    size_t filters_count = (size_t)__builtin_popcount(c->filters);
    return wire_bytes_size(CREATE_KEY, c->key) + wire_bytes_size(CREATE_RANGE_END, c->range_end) +
           wire_uint_size(CREATE_START_REVISION, (uint64_t)c->start_revision) +
           wire_uint_size(CREATE_PROGRESS_NOTIFY, c->progress_notify) +
           (filters_count == 0 ? 0 : wire_item_size(CREATE_FILTERS, filters_count)) +
           wire_uint_size(CREATE_PREV_KV, c->prev_kv) +
           wire_uint_size(CREATE_WATCH_ID, (uint64_t)c->watch_id) +
           wire_uint_size(CREATE_FRAGMENT, c->fragment);
}

static uint8_t *create_put(uint8_t *dst, const struct wire_watch_create *c)
{
    dst = wire_bytes_put(dst, CREATE_KEY, c->key);
    dst = wire_bytes_put(dst, CREATE_RANGE_END, c->range_end);
    dst = wire_uint_put(dst, CREATE_START_REVISION, (uint64_t)c->start_revision);
    dst = wire_uint_put(dst, CREATE_PROGRESS_NOTIFY, c->progress_notify);
    if (c->filters != 0)
        dst = wire_item_put_head(dst, CREATE_FILTERS, (size_t)__builtin_popcount(c->filters));
    if (c->filters & WIRE_WATCH_NOPUT)
        *dst++ = 0;
    if (c->filters & WIRE_WATCH_NODELETE)
        *dst++ = 1;
    dst = wire_uint_put(dst, CREATE_PREV_KV, c->prev_kv);
    dst = wire_uint_put(dst, CREATE_WATCH_ID, (uint64_t)c->watch_id);
    return wire_uint_put(dst, CREATE_FRAGMENT, c->fragment);
}

static size_t watch_body_size(const struct wire_watch_request *r)
{
    switch (r->kind) {
    case WIRE_WATCH_CREATE:
        return create_size(&r->create);
    case WIRE_WATCH_CANCEL:
        return wire_uint_size(1, (uint64_t)r->cancel_watch_id);
    default:
        return 0;
    }
}

size_t wire_watch_request_size(const struct wire_watch_request *r)
{
    return r->kind == WIRE_WATCH_NONE ? 0 : wire_item_size(r->kind, watch_body_size(r));
}

uint8_t *wire_watch_request_put(uint8_t *dst, const struct wire_watch_request *r)
{
    ASSERT((r->create.filters & ~(uint32_t)(WIRE_WATCH_NOPUT | WIRE_WATCH_NODELETE)) == 0);
    if (r->kind == WIRE_WATCH_NONE)
        return dst;
    dst = wire_item_put_head(dst, r->kind, watch_body_size(r));
    if (r->kind == WIRE_WATCH_CREATE)
        return create_put(dst, &r->create);
    if (r->kind == WIRE_WATCH_CANCEL)
        return wire_uint_put(dst, 1, (uint64_t)r->cancel_watch_id);
    return dst;
}
