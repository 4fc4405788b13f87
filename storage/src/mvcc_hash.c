/* etcd's HashKV: CRC-32C over the keys and values of the "key" bucket of its bbolt file, as
 * server/storage/mvcc/hash.go takes it, so that trivet and etcd can be compared.
 *
 * A record's key is its revision: 8 bytes main, '_', 8 bytes sub, big-endian, and 't' behind for a
 * tombstone; its value is the KeyValue, for a tombstone with nothing but the key. What counts is
 *   - every change above the compacted revision, and
 *   - of those not above it, the ones that are still current at the revision that is hashed; where
 *     no key exists then, the ones that the compaction keeps. Tombstones of these never count. */
#include "mvcc_internal.h"

#include "base/crc32c.h"
#include "base/err.h"
#include "base/mem.h"

static uint32_t hash_version(uint32_t hash, const struct mvcc_version *v)
{
    uint8_t key[18];
    uint64_t main = __builtin_bswap64((uint64_t)v->main), sub = __builtin_bswap64(v->sub);
    memcpy(key, &main, 8);
    key[8] = '_';
    memcpy(key + 9, &sub, 8);
    key[17] = 't';
    struct slice value = mvcc_version_stored_kv(v);
    hash = crc32c(hash, key, mvcc_version_is_tombstone(v) ? 18 : 17);
    return crc32c(hash, value.data, value.size);
}

/* To etcd's keyIndex.keep() a key that is deleted and put again at `rev` does not exist then. */
static bool was_deleted_at(const struct mvcc_version *v, int64_t rev)
{
    const struct mvcc_version *older = mvcc__older(v);
    return v->main == rev && older != NULL && older->main == rev &&
           mvcc_version_is_tombstone(older);
}

/* What is current at `rev` and not above `compacted`. Returns whether anything is current. */
static bool collect_kept(const struct mvcc *m, int64_t rev, int64_t compacted,
                         struct sort_item **ret_item, size_t *ret_count)
{
    size_t count = 0, capacity = 0;
    struct sort_item *item = NULL;
    const struct mvcc_version *v;
    struct mvcc_iter it;
    bool any = false;
    mvcc_iter_init(&it, m, SLICE_EMPTY, slice_of("", 1), rev);
    while ((v = mvcc_iter_next(&it)) != NULL) {
        any = any || v->main <= compacted || !was_deleted_at(v, rev);
        if (v->main > compacted)
            continue;
        if (count == capacity) {
            capacity = capacity == 0 ? 1024 : capacity * 2;
            item = mem_realloc(item, capacity * sizeof(*item));
        }
        item[count++] = (struct sort_item){
            .major = (uint64_t)v->main, .minor = v->sub, .v = (struct mvcc_version *)v};
    }
    *ret_item = item;
    *ret_count = count;
    return any;
}

static uint32_t hash_kept(const struct mvcc *m, uint32_t hash, int64_t rev, int64_t compacted)
{
    struct sort_item *item;
    size_t count;
    if (!collect_kept(m, rev, compacted, &item, &count)) {
        ASSERT(item == NULL);
        (void)collect_kept(m, compacted, compacted, &item, &count);
    }
    struct sort_item *spare = mem_alloc((count + 1) * sizeof(*spare));
    mvcc__sort(item, count, spare);
    for (size_t i = 0; i < count; i++) {
        if (i + 8 < count)
            __builtin_prefetch(item[i + 8].v);
        hash = hash_version(hash, item[i].v);
    }
    mem_free(spare);
    mem_free(item);
    return hash;
}

int mvcc_hash(const struct mvcc *m, int64_t rev, struct mvcc_hash *ret)
{
    struct mvcc_history_cursor c;
    const struct mvcc_version *v;
    int64_t compacted = mvcc_compacted(m);
    uint32_t hash = crc32c(0, "key", 3);
    if (rev < 0) { /* to etcd that is below all changes, and not an error */
        *ret = (struct mvcc_hash){.hash = hash, .compact_revision = compacted, .revision = rev};
        return 0;
    }
    int rv = mvcc_check_revision(m, rev, &rev);
    if (rv == 0)
        rv = mvcc_history_seek(m, &c, compacted + 1);
    if (rv != 0)
        return rv;
    if (compacted > 0)
        hash = hash_kept(m, hash, rev, compacted);
    while ((v = mvcc_history_next(&c, rev)) != NULL)
        hash = hash_version(hash, v);
    *ret = (struct mvcc_hash){.hash = hash, .compact_revision = compacted, .revision = rev};
    return 0;
}
