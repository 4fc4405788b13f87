#include "server/snapfile.h"

#include "server/snapfile_meta.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/mem.h"
#include "proto/wirefield.h"
#include "storage/bbolt.h"

/* Which of the versions up to the compaction are kept, in their order. */
struct kept_bits {
    uint8_t *bytes;
    size_t capacity; /* bytes */
    uint64_t at;     /* the next bit */
};

struct snapfile {
    struct lsm_copy *copy;
    struct lsm_meta meta;
    struct mvcc *mvcc;
    struct mvcc_pin pin;
    bool pinned;
    uint64_t generation; /* of the store's contents, when it was pinned */
    bool began;
    bool ended;
    struct snapfile_entries entries;
    struct bbolt_layout layout; /* no pages: the first walk is not through */
    struct bbolt_writer *writer;
    int bucket; /* enum snapfile_bucket: the one that is being written, -1 before the first */
    struct kept_bits kept;
    uint32_t hash;
    struct buf records;
    struct buf *out; /* during a call: where the file goes */
    const char *error;
};

/* --- life --- */

int snapfile_open(struct lsm *l, struct mvcc *m, struct snapfile **ret)
{
    struct snapfile *f = mem_alloc_zero(sizeof(*f));
    f->mvcc = m;
    buf_init(&f->records, SIZE_MAX);
    int err = lsm_copy_open(l, SLICE_EMPTY, &f->copy, &f->meta);
    if (err == 0 && f->meta.compacted != mvcc_compacted(m))
        err = TV_EAGAIN;
    if (err == 0 && f->meta.compacted > 0) {
        f->generation = mvcc_generation(m);
        err = mvcc_pin_take(m, &f->pin, f->meta.compacted);
        f->pinned = err == 0;
    }
    if (err != 0)
        snapfile_close(f);
    else
        *ret = f;
    return err;
}

static void release(struct snapfile *f)
{
    if (f->pinned)
        mvcc_pin_release(f->mvcc, &f->pin);
    f->pinned = false;
}

void snapfile_close(struct snapfile *f)
{
    if (f == NULL)
        return;
    release(f);
    lsm_copy_close(f->copy);
    snapfile_entries_free(&f->entries);
    bbolt_writer_free(f->writer);
    mem_free(f->kept.bytes);
    buf_fini(&f->records);
    mem_free(f);
}

int64_t snapfile_revision(const struct snapfile *f)
{
    return f->meta.revision;
}

const char *snapfile_version(const struct snapfile *f)
{
    return f->entries.version;
}

uint64_t snapfile_bytes(const struct snapfile *f)
{
    return bbolt_file_bytes(&f->layout);
}

uint32_t snapfile_hash(const struct snapfile *f)
{
    ASSERT(f->layout.pages_count > 0);
    return f->hash;
}

const char *snapfile_error(const struct snapfile *f)
{
    return f->error != NULL ? f->error : lsm_copy_error(f->copy);
}

/* --- what is kept --- */

static bool is_counting(const struct snapfile *f)
{
    return f->layout.pages_count == 0;
}

static void note_kept(struct kept_bits *k, bool kept)
{
    if (k->at / 8 == k->capacity) {
        size_t capacity = k->capacity == 0 ? 4096 : k->capacity * 2;
        k->bytes = mem_realloc(k->bytes, capacity);
        memset(k->bytes + k->capacity, 0, capacity - k->capacity);
        k->capacity = capacity;
    }
    if (kept)
        k->bytes[k->at / 8] |= (uint8_t)(1u << (k->at & 7));
    k->at++;
}

static bool next_kept(struct kept_bits *k)
{
    bool kept = k->at / 8 < k->capacity && (k->bytes[k->at / 8] & 1u << (k->at & 7)) != 0;
    k->at++;
    return kept;
}

/* Of an encoded mvccpb.KeyValue: the field in front, which holds the key, and the key. */
static bool key_of(struct slice kv, struct slice *ret_field, struct slice *ret_key)
{
    struct wire_reader r = wire_reader_of(kv);
    struct wire_field f;
    if (wire_next_field(&r, &f) != 1 || f.number != 1 || f.type != WIRE_BYTES || f.bytes.size == 0)
        return false;
    *ret_field = slice_of(kv.data, (size_t)(r.at - kv.data));
    *ret_key = f.bytes;
    return true;
}

/* etcd's rule: up to the compaction what is visible at it is kept, and a tombstone at that very
 * revision. In a section of the store. */
static bool ask_kept(struct snapfile *f, const struct lsm_record *r, struct slice key)
{
    if (r->tombstone)
        return r->main == f->meta.compacted;
    const struct mvcc_version *v = mvcc_get(f->mvcc, key, f->meta.compacted);
    return v != NULL && mvcc_version_mod_revision(v) == r->main && mvcc_version_sub(v) == r->sub;
}

static bool is_kept(struct snapfile *f, const struct lsm_record *r, struct slice key)
{
    if (f->meta.compacted <= 0 || r->main > f->meta.compacted)
        return true;
    if (!is_counting(f))
        return next_kept(&f->kept);
    bool kept = ask_kept(f, r, key);
    note_kept(&f->kept, kept);
    return kept;
}

/* --- entries --- */

/* What is a member's own, and not hashed: etcd's schema.DefaultIgnores(). */
static bool is_ignored(int bucket, struct slice key)
{
    return bucket == SNAPFILE_META && (slice_equal(key, SLICE_LITERAL("consistent_index")) ||
                                       slice_equal(key, SLICE_LITERAL("term")) ||
                                       slice_equal(key, SLICE_LITERAL("storageVersion")));
}

static void put(struct snapfile *f, struct slice key, struct slice value)
{
    if (is_counting(f) && !is_ignored(f->bucket, key)) {
        f->hash = crc32c(f->hash, key.data, key.size);
        f->hash = crc32c(f->hash, value.data, value.size);
    }
    bbolt_writer_put(f->writer, key, value);
}

/* All buckets up to this one are written or begun. */
static void advance(struct snapfile *f, int to)
{
    while (f->bucket < to) {
        f->bucket++;
        struct slice name = snapfile_bucket_name((enum snapfile_bucket)f->bucket);
        if (is_counting(f))
            f->hash = crc32c(f->hash, name.data, name.size);
        bbolt_writer_bucket(f->writer, name);
        for (uint32_t i = 0; i < f->entries.count; i++)
            if ((int)f->entries.items[i].bucket == f->bucket)
                put(f, f->entries.items[i].key, f->entries.items[i].value);
    }
}

static int put_version(struct snapfile *f, const struct lsm_record *r, struct slice kv)
{
    struct slice field, key;
    uint8_t revision[SNAPFILE_REVISION_BYTES_MAX];
    if (!key_of(kv, &field, &key)) {
        f->error = "a version's key does not decode";
        return TV_ECORRUPT;
    }
    if (!is_kept(f, r, key))
        return 0;
    size_t size = snapfile_put_revision(revision, r->main, r->sub, r->tombstone);
    put(f, slice_of(revision, size), r->tombstone ? field : kv);
    return 0;
}

/* leasepb.Lease: 1 ID, 2 TTL, 3 RemainingTTL. */
static void put_lease(struct snapfile *f, const struct lsm_lease *lease)
{
    uint8_t value[48], *p = wire_uint_put(value, 1, (uint64_t)lease->id);
    p = wire_uint_put(p, 2, (uint64_t)lease->granted_ttl);
    p = wire_uint_put(p, 3, (uint64_t)lease->remaining_ttl);
    uint64_t key = __builtin_bswap64((uint64_t)lease->id);
    put(f, slice_of(&key, sizeof(key)), slice_of(value, (size_t)(p - value)));
}

static int put_record(struct snapfile *f, struct slice key, struct slice value)
{
    struct lsm_record r;
    lsm_record_parse(key, value, &r);
    switch (r.kind) {
    case LSM_RECORD_VERSION:
        return put_version(f, &r, value);
    case LSM_RECORD_LEASE:
        advance(f, SNAPFILE_LEASE);
        put_lease(f, &r.lease);
        return 0;
    case LSM_RECORD_NAMED: /* they are in f->entries */
    case LSM_RECORD_OTHER:
        break;
    }
    return 0;
}

/* --- walks --- */

static void on_page(void *ctx, const uint8_t *data, size_t size)
{
    struct snapfile *f = ctx;
    int err = buf_append(f->out, data, size);
    ASSERT(err == 0); /* the caller's has no bound */
}

static void begin_walk(struct snapfile *f)
{
    f->writer = is_counting(f) ? bbolt_writer_new(NULL, NULL, NULL)
                               : bbolt_writer_new(&f->layout, on_page, f);
    f->kept.at = 0;
    f->bucket = -1;
    advance(f, SNAPFILE_KEY);
}

static int end_walk(struct snapfile *f)
{
    struct bbolt_layout layout;
    advance(f, SNAPFILE_BUCKETS_COUNT - 1);
    int err = bbolt_writer_end(f->writer, &layout);
    bbolt_writer_free(f->writer);
    f->writer = NULL;
    if (err != 0) {
        f->error = "two readings of the same commit differ";
        return err;
    }
    f->ended = !is_counting(f);
    f->layout = layout;
    release(f);
    return f->ended ? 0 : lsm_copy_rewind(f->copy);
}

static int put_records(struct snapfile *f)
{
    struct slice records = buf_slice(&f->records), key, value;
    int err = 0;
    while (err == 0 && lsm_record_next(&records, &key, &value))
        err = put_record(f, key, value);
    return err;
}

/* The first walk asks the store in memory. */
static int count_records(struct snapfile *f)
{
    if (!f->pinned)
        return put_records(f);
    struct epoch *epoch = mvcc_epoch(f->mvcc);
    struct epoch_reader *reader = epoch_register(epoch);
    if (reader == NULL)
        return TV_EBUSY;
    epoch_enter(epoch, reader);
    int err = mvcc_generation(f->mvcc) == f->generation ? put_records(f) : TV_ECLOSED;
    epoch_leave(reader);
    epoch_unregister(reader);
    return err;
}

static int begin(struct snapfile *f)
{
    f->began = true;
    return snapfile_entries_read(f->copy, &f->meta, &f->entries);
}

int snapfile_read(struct snapfile *f, size_t bytes_max, struct buf *ret, bool *ret_end)
{
    uint32_t count;
    ASSERT(!f->ended);
    int err = f->began ? 0 : begin(f);
    if (err != 0)
        return err;
    f->out = ret;
    if (f->writer == NULL)
        begin_walk(f);
    buf_clear(&f->records);
    err = lsm_copy_next(f->copy, bytes_max, &f->records, &count);
    if (err == 0 && count > 0)
        err = is_counting(f) ? count_records(f) : put_records(f);
    else if (err == 0)
        err = end_walk(f);
    f->out = NULL;
    *ret_end = f->ended;
    return err;
}
