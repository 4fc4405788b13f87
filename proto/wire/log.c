/* What is kept rather than answered: the log's InternalRaftRequest, and mvccpb.KeyValue. */
#include "wire_internal.h"

/* --- InternalRaftRequest --- */

enum { HEADER_ID = 1, HEADER_USERNAME = 2, HEADER_AUTH_REVISION = 3 };
enum { RAFT_FIRST_BODY = 2 };

static int raft_header_merge(struct slice msg, struct wire_raft_request *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (wire__key(&f) == WIRE_KEY(HEADER_ID, WIRE_VARINT))
            ret->id = f.value;
        else if (wire__key(&f) == WIRE_KEY(HEADER_USERNAME, WIRE_BYTES))
            ret->username = f.bytes;
        else if (wire__key(&f) == WIRE_KEY(HEADER_AUTH_REVISION, WIRE_VARINT))
            ret->auth_revision = f.value;
    }
    return rv;
}

int wire_raft_request_decode(struct slice msg, struct wire_raft_request *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_raft_request){0};
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type != WIRE_BYTES || f.number < RAFT_FIRST_BODY || f.number > WIRE_RAFT_FIELD_MAX)
            continue;
        if (f.number == WIRE_RAFT_HEADER) {
            if (raft_header_merge(f.bytes, ret) != 0)
                return TV_EMALFORMED;
        } else if (ret->kind != WIRE_RAFT_NONE) {
            return TV_EMALFORMED;
        } else {
            ret->kind = f.number;
            ret->body = f.bytes;
        }
    }
    return rv;
}

static size_t raft_header_size(const struct wire_raft_request *r)
{
    return wire_uint_size(HEADER_ID, r->id) + wire_bytes_size(HEADER_USERNAME, r->username) +
           wire_uint_size(HEADER_AUTH_REVISION, r->auth_revision);
}

size_t wire_raft_request_whole_size(const struct wire_raft_request *r)
{
    return wire_item_size(r->kind, r->body.size) +
           wire_item_size(WIRE_RAFT_HEADER, raft_header_size(r));
}

uint8_t *wire_raft_request_whole_put(uint8_t *dst, const struct wire_raft_request *r)
{
    ASSERT(r->kind >= RAFT_FIRST_BODY && r->kind <= WIRE_RAFT_FIELD_MAX &&
           r->kind != WIRE_RAFT_HEADER);
    if (r->kind < WIRE_RAFT_HEADER)
        dst = wire_item_put(dst, r->kind, r->body);
    dst = wire_item_put_head(dst, WIRE_RAFT_HEADER, raft_header_size(r));
    dst = wire_uint_put(dst, HEADER_ID, r->id);
    dst = wire_bytes_put(dst, HEADER_USERNAME, r->username);
    dst = wire_uint_put(dst, HEADER_AUTH_REVISION, r->auth_revision);
    return r->kind < WIRE_RAFT_HEADER ? dst : wire_item_put(dst, r->kind, r->body);
}

size_t wire_raft_request_size(uint32_t kind, uint64_t id, struct slice body)
{
    const struct wire_raft_request r = {.id = id, .kind = kind, .body = body};
    return wire_raft_request_whole_size(&r);
}

uint8_t *wire_raft_request_put(uint8_t *dst, uint32_t kind, uint64_t id, struct slice body)
{
    const struct wire_raft_request r = {.id = id, .kind = kind, .body = body};
    return wire_raft_request_whole_put(dst, &r);
}

/* --- verdicts --- */

enum { VERDICT_MARK = 1, VERDICT_DIGEST = 2 };

int wire_verdict_decode(struct slice msg, struct wire_verdict *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_verdict){0};
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (wire__key(&f) == WIRE_KEY(VERDICT_MARK, WIRE_VARINT))
            ret->mark = f.value;
        else if (wire__key(&f) == WIRE_KEY(VERDICT_DIGEST, WIRE_VARINT))
            ret->digest = f.value;
    }
    return rv;
}

size_t wire_verdict_size(const struct wire_verdict *v)
{
    return wire_uint_size(VERDICT_MARK, v->mark) + wire_uint_size(VERDICT_DIGEST, v->digest);
}

uint8_t *wire_verdict_put(uint8_t *dst, const struct wire_verdict *v)
{
    return wire_uint_put(wire_uint_put(dst, VERDICT_MARK, v->mark), VERDICT_DIGEST, v->digest);
}

/* --- ClusterMemberAttrSetRequest --- */

enum { ATTR_MEMBER_ID = 1, ATTR_ATTRIBUTES = 2, ATTRIBUTES_NAME = 1, ATTRIBUTES_URLS = 2 };

static int attributes_merge(struct slice msg, struct wire_member_attr *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (wire__key(&f) == WIRE_KEY(ATTRIBUTES_NAME, WIRE_BYTES))
            ret->name = f.bytes;
        if (wire__key(&f) != WIRE_KEY(ATTRIBUTES_URLS, WIRE_BYTES))
            continue;
        if (ret->client_urls_count == WIRE_MEMBER_URLS_MAX)
            return TV_ETOOLARGE;
        ret->client_urls[ret->client_urls_count++] = f.bytes;
    }
    return rv;
}

int wire_member_attr_decode(struct slice msg, struct wire_member_attr *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_member_attr){0};
    while ((rv = wire_next_field(&r, &f)) == 1) {
        int inner = 0;
        if (wire__key(&f) == WIRE_KEY(ATTR_MEMBER_ID, WIRE_VARINT))
            ret->member_id = f.value;
        else if (wire__key(&f) == WIRE_KEY(ATTR_ATTRIBUTES, WIRE_BYTES))
            inner = attributes_merge(f.bytes, ret);
        if (inner != 0)
            return inner;
    }
    return rv;
}

static size_t attributes_size(const struct wire_member_attr *m)
{
    size_t size = wire_bytes_size(ATTRIBUTES_NAME, m->name);
    for (uint32_t i = 0; i < m->client_urls_count; i++)
        size += wire_item_size(ATTRIBUTES_URLS, m->client_urls[i].size);
    return size;
}

size_t wire_member_attr_size(const struct wire_member_attr *m)
{
    return wire_uint_size(ATTR_MEMBER_ID, m->member_id) +
           wire_item_size(ATTR_ATTRIBUTES, attributes_size(m));
}

uint8_t *wire_member_attr_put(uint8_t *dst, const struct wire_member_attr *m)
{
    ASSERT(m->client_urls_count <= WIRE_MEMBER_URLS_MAX);
    dst = wire_uint_put(dst, ATTR_MEMBER_ID, m->member_id);
    dst = wire_item_put_head(dst, ATTR_ATTRIBUTES, attributes_size(m));
    dst = wire_bytes_put(dst, ATTRIBUTES_NAME, m->name);
    for (uint32_t i = 0; i < m->client_urls_count; i++)
        dst = wire_item_put(dst, ATTRIBUTES_URLS, m->client_urls[i]);
    return dst;
}

/* --- KeyValue --- */

enum {
    KV_KEY = 1,
    KV_CREATE_REVISION = 2,
    KV_MOD_REVISION = 3,
    KV_VERSION = 4,
    KV_VALUE = 5,
    KV_LEASE = 6,
};

int wire__kv_merge(struct slice msg, struct wire_kv *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        switch (wire__key(&f)) {
        case WIRE_KEY(KV_KEY, WIRE_BYTES):
            ret->key = f.bytes;
            break;
        case WIRE_KEY(KV_CREATE_REVISION, WIRE_VARINT):
            ret->create_revision = (int64_t)f.value;
            break;
        case WIRE_KEY(KV_MOD_REVISION, WIRE_VARINT):
            ret->mod_revision = (int64_t)f.value;
            break;
        case WIRE_KEY(KV_VERSION, WIRE_VARINT):
            ret->version = (int64_t)f.value;
            break;
        case WIRE_KEY(KV_VALUE, WIRE_BYTES):
            ret->value = f.bytes;
            break;
        case WIRE_KEY(KV_LEASE, WIRE_VARINT):
            ret->lease = (int64_t)f.value;
            break;
        default:
            break;
        }
    }
    return rv;
}

int wire_kv_decode(struct slice msg, struct wire_kv *ret)
{
    *ret = (struct wire_kv){0};
    return wire__kv_merge(msg, ret);
}

size_t wire_kv_size(const struct wire_kv *kv)
{
    return wire_bytes_size(KV_KEY, kv->key) +
           wire_uint_size(KV_CREATE_REVISION, (uint64_t)kv->create_revision) +
           wire_uint_size(KV_MOD_REVISION, (uint64_t)kv->mod_revision) +
           wire_uint_size(KV_VERSION, (uint64_t)kv->version) +
           wire_bytes_size(KV_VALUE, kv->value) + wire_uint_size(KV_LEASE, (uint64_t)kv->lease);
}

uint8_t *wire_kv_put(uint8_t *dst, const struct wire_kv *kv)
{
    dst = wire_bytes_put(dst, KV_KEY, kv->key);
    dst = wire_uint_put(dst, KV_CREATE_REVISION, (uint64_t)kv->create_revision);
    dst = wire_uint_put(dst, KV_MOD_REVISION, (uint64_t)kv->mod_revision);
    dst = wire_uint_put(dst, KV_VERSION, (uint64_t)kv->version);
    dst = wire_bytes_put(dst, KV_VALUE, kv->value);
    return wire_uint_put(dst, KV_LEASE, (uint64_t)kv->lease);
}

void wire_kv_split_value(struct slice kv, struct slice *ret_before, struct slice *ret_after)
{
    struct wire_reader r = wire_reader_of(kv);
    struct wire_field f;
    *ret_before = kv;
    *ret_after = SLICE_EMPTY;
    for (;;) {
        const uint8_t *at = r.at;
        int rv = wire_next_field(&r, &f);
        ASSERT(rv >= 0);
        if (rv == 0)
            return;
        if (f.number < KV_VALUE)
            continue;
        const uint8_t *after = f.number == KV_VALUE ? r.at : at; /* an empty value is not there */
        *ret_before = slice_of(kv.data, (size_t)(at - kv.data));
        *ret_after = slice_of(after, (size_t)(r.end - after));
        return;
    }
}
