/* A version and its encoded form: mvccpb.KeyValue, fields in order of their numbers, fields that
 * are zero left out, as every protobuf library writes it.
 *
 *   key = 1 (bytes), create_revision = 2, mod_revision = 3, version = 4 (varints), value = 5
 * (bytes), lease = 6 (varint) */
#include "mvcc_internal.h"

#include "base/err.h"
#include "base/hash.h"

enum {
    TAG_KEY = 1 << 3 | 2,
    TAG_CREATE_REVISION = 2 << 3,
    TAG_MOD_REVISION = 3 << 3,
    TAG_VERSION = 4 << 3,
    TAG_VALUE = 5 << 3 | 2,
    TAG_LEASE = 6 << 3,
};

static size_t varint_size(uint64_t x)
{
    return (size_t)(70 - __builtin_clzll(x | 1)) / 7;
}

static uint8_t *varint_put(uint8_t *p, uint64_t x)
{
    while (x >= 0x80) {
        *p++ = (uint8_t)(x | 0x80);
        x >>= 7;
    }
    *p++ = (uint8_t)x;
    return p;
}

/* NULL when the varint ends behind `end` or is longer than 10 bytes. */
static const uint8_t *varint_get(const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
    uint64_t x = 0;
    for (unsigned shift = 0; p < end && shift < 70; shift += 7) {
        uint8_t b = *p++;
        x |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            *ret = x;
            return p;
        }
    }
    return NULL;
}

static uint8_t *number_put(uint8_t *p, uint8_t tag, int64_t x)
{
    if (x == 0)
        return p;
    *p++ = tag;
    return varint_put(p, (uint64_t)x);
}

static uint8_t *bytes_put(uint8_t *p, uint8_t tag, struct slice s)
{
    if (s.size == 0)
        return p;
    *p++ = tag;
    p = varint_put(p, s.size);
    memcpy(p, s.data, s.size);
    return p + s.size;
}

static size_t number_size(int64_t x)
{
    return x == 0 ? 0 : 1 + varint_size((uint64_t)x);
}

static size_t bytes_size(struct slice s)
{
    return s.size == 0 ? 0 : 1 + varint_size(s.size) + s.size;
}

struct mvcc_version *mvcc__version_encode(const struct mvcc_kv *kv, uint32_t sub, bool is_tombstone)
{
    size_t size = bytes_size(kv->key) + number_size(kv->create_revision) +
                  number_size(kv->mod_revision) + number_size(kv->version) + bytes_size(kv->value) +
                  number_size(kv->lease);
    ASSERT(kv->key.size > 0 && size < MVCC_KV_BYTES_MAX);
    struct mvcc_version *v = mvcc__mem_alloc(sizeof(*v) + size);
    atomic_init(&v->older, NULL);
    v->main = kv->mod_revision;
    v->sub = sub;
    v->bytes_and_flags = (uint32_t)size << MVCC_VERSION_FLAGS_BITS;
    if (is_tombstone)
        v->bytes_and_flags |= MVCC_VERSION_TOMBSTONE;
    else if (kv->version == 1)
        v->bytes_and_flags |= MVCC_VERSION_CREATED;
    if (kv->lease != 0)
        v->bytes_and_flags |= MVCC_VERSION_LEASED;

    uint8_t *p = bytes_put(v->kv, TAG_KEY, kv->key);
    p = number_put(p, TAG_CREATE_REVISION, kv->create_revision);
    p = number_put(p, TAG_MOD_REVISION, kv->mod_revision);
    p = number_put(p, TAG_VERSION, kv->version);
    p = bytes_put(p, TAG_VALUE, kv->value);
    p = number_put(p, TAG_LEASE, kv->lease);
    ASSERT(p == v->kv + size);
    return v;
}

static const uint8_t *bytes_get(const uint8_t *p, const uint8_t *end, struct slice *ret)
{
    uint64_t size;
    p = varint_get(p, end, &size);
    if (p == NULL || size > (uint64_t)(end - p))
        return NULL;
    *ret = slice_of(p, (size_t)size);
    return p + size;
}

static int64_t *number_field(struct mvcc_kv *kv, uint64_t tag)
{
    switch (tag) {
    case TAG_CREATE_REVISION:
        return &kv->create_revision;
    case TAG_MOD_REVISION:
        return &kv->mod_revision;
    case TAG_VERSION:
        return &kv->version;
    case TAG_LEASE:
        return &kv->lease;
    default:
        return NULL;
    }
}

/* Fields in any order, the last one wins; a field that we do not know is damage. */
static int kv_decode(struct slice s, struct mvcc_kv *ret)
{
    const uint8_t *p = s.data, *end = s.data + s.size;
    *ret = (struct mvcc_kv){0};
    while (p < end) {
        uint64_t tag, x = 0;
        p = varint_get(p, end, &tag);
        if (p == NULL)
            return TV_ECORRUPT;
        int64_t *number = number_field(ret, tag);
        if (number != NULL) {
            p = varint_get(p, end, &x);
            *number = (int64_t)x;
        } else if (tag == TAG_KEY || tag == TAG_VALUE) {
            p = bytes_get(p, end, tag == TAG_KEY ? &ret->key : &ret->value);
        } else {
            return TV_ECORRUPT;
        }
        if (p == NULL)
            return TV_ECORRUPT;
    }
    return 0;
}

int mvcc_version_new(int64_t main, uint32_t sub, bool is_tombstone, struct slice kv,
                     struct mvcc_version **ret_version)
{
    struct mvcc_kv f;
    if (kv.size >= MVCC_KV_BYTES_MAX || kv_decode(kv, &f) != 0 || f.key.size == 0 || main <= 0)
        return TV_ECORRUPT;
    if (is_tombstone)
        f = (struct mvcc_kv){.key = f.key, .mod_revision = main};
    else if (f.mod_revision != main || f.version <= 0 || f.create_revision <= 0)
        return TV_ECORRUPT;
    *ret_version = mvcc__version_encode(&f, sub, is_tombstone);
    return 0;
}

uint64_t mvcc_version_hash(const struct mvcc_version *v)
{
    uint64_t place = hash64_mix((uint64_t)v->main,
                                (uint64_t)v->sub << 1 | (uint64_t)mvcc_version_is_tombstone(v));
    return hash64(mvcc_version_kv(v), place);
}

void mvcc_version_free(struct mvcc_version *v)
{
    if (v != NULL)
        mvcc__mem_free(v, mvcc_version_bytes(v));
}

size_t mvcc_version_bytes(const struct mvcc_version *v)
{
    return sizeof(*v) + mvcc_version_kv(v).size;
}

void mvcc_version_decode(const struct mvcc_version *v, struct mvcc_kv *ret)
{
    int rv = kv_decode(mvcc_version_kv(v), ret);
    ASSERT(rv == 0);
}

struct slice mvcc_version_value(const struct mvcc_version *v)
{
    struct mvcc_kv kv;
    mvcc_version_decode(v, &kv);
    return kv.value;
}

/* A number between the key and the value: what comes before the value lies close to the header,
 * and the value's memory is not touched. */
static int64_t number_before_value(const struct mvcc_version *v, uint8_t tag)
{
    struct slice key = mvcc_version_key(v), kv = mvcc_version_kv(v);
    const uint8_t *p = key.data + key.size, *end = kv.data + kv.size;
    while (p < end && *p <= tag) {
        uint64_t x = 0;
        uint8_t found = *p;
        p = varint_get(p + 1, end, &x);
        ASSERT(p != NULL);
        if (found == tag)
            return (int64_t)x;
    }
    return 0;
}

int64_t mvcc_version_create_revision(const struct mvcc_version *v)
{
    return number_before_value(v, TAG_CREATE_REVISION);
}

int64_t mvcc_version_version(const struct mvcc_version *v)
{
    return number_before_value(v, TAG_VERSION);
}

int64_t mvcc_version_lease(const struct mvcc_version *v)
{
    if ((v->bytes_and_flags & MVCC_VERSION_LEASED) == 0)
        return 0;
    struct mvcc_kv kv;
    mvcc_version_decode(v, &kv);
    return kv.lease;
}

const struct mvcc_version *mvcc_version_prev(const struct mvcc_version *v)
{
    const struct mvcc_version *older = mvcc__older(v);
    return older == NULL || mvcc_version_is_tombstone(older) ? NULL : older;
}

struct slice mvcc_version_stored_kv(const struct mvcc_version *v)
{
    if (!mvcc_version_is_tombstone(v))
        return mvcc_version_kv(v);
    struct slice key = mvcc_version_key(v);
    return slice_of(v->kv, (size_t)(key.data + key.size - v->kv));
}
