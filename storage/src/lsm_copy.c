/* A copy of the database for another member, at both ends.
 *
 * The reader is an iterator: it holds RocksDB's files as they are when it is made. A commit is one
 * edit of the manifest, so what it sees is one commit's state, whole, and the state record in it
 * says which entry of the log that is.
 *
 * The intake writes the versions to table files as they come, which they do in order, and all of it
 * is committed at the end: a database that was not filled to the end holds nothing. */
#include "lsm_internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { RECORD_HEAD_BYTES = 8, READAHEAD_BYTES = 1 << 20 };

static void put_le32(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(x >> (8 * i));
}

static uint32_t get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* --- reading --- */

static int iterator_error(struct lsm_copy *c)
{
    char *message = NULL;
    rocksdb_iter_get_error(c->it, &message);
    return lsm__error(message, c->err_text, sizeof(c->err_text));
}

const char *lsm_copy_error(const struct lsm_copy *c)
{
    return c->err_text;
}

static int read_meta(struct lsm_copy *c, struct lsm_meta *ret)
{
    rocksdb_iter_seek(c->it, "s", 1);
    int err = iterator_error(c);
    if (err != 0)
        return err;
    if (!rocksdb_iter_valid(c->it))
        return TV_ENOTFOUND;
    size_t key_size, size;
    (void)rocksdb_iter_key(c->it, &key_size);
    const uint8_t *p = (const uint8_t *)rocksdb_iter_value(c->it, &size);
    if (key_size != 1 || size != LSM_STATE_BYTES || lsm__get_be32(p) != LSM_FORMAT)
        return TV_ECORRUPT;
    lsm__get_state(p, ret);
    rocksdb_iter_seek_to_first(c->it);
    return iterator_error(c);
}

int lsm_copy_open(struct lsm *l, struct slice skip, struct lsm_copy **ret_copy,
                  struct lsm_meta *ret_meta)
{
    ASSERT(skip.size < LSM_COPY_SKIP_BYTES_MAX);
    struct lsm_copy *c = mem_alloc_zero(sizeof(*c));
    c->skip[0] = 'm';
    if (skip.size > 0)
        memcpy(c->skip + 1, skip.data, skip.size);
    c->skip_size = skip.size + 1;
    c->options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(c->options, 0);
    rocksdb_readoptions_set_verify_checksums(c->options, 1);
    rocksdb_readoptions_set_readahead_size(c->options, READAHEAD_BYTES);
    c->it = rocksdb_create_iterator(l->db, c->options);
    lsm__copy_begin(l, c);
    int err = read_meta(c, ret_meta);
    if (err != 0)
        lsm_copy_close(c);
    else
        *ret_copy = c;
    return err;
}

void lsm_copy_close(struct lsm_copy *c)
{
    if (c == NULL)
        return;
    lsm__copy_end(c);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

static bool is_copied(const struct lsm_copy *c, struct slice key)
{
    return !slice_equal(key, SLICE_LITERAL("s")) &&
           !slice_equal(key, slice_of(c->skip, c->skip_size));
}

static int copy_next(struct lsm_copy *c, size_t bytes_max, struct buf *ret, uint32_t *count)
{
    size_t begin = ret->size;
    for (; rocksdb_iter_valid(c->it); rocksdb_iter_next(c->it)) {
        size_t key_size, value_size;
        const char *key = rocksdb_iter_key(c->it, &key_size);
        const char *value = rocksdb_iter_value(c->it, &value_size);
        size_t bytes = RECORD_HEAD_BYTES + key_size + value_size;
        if (!is_copied(c, slice_of(key, key_size)))
            continue;
        if (*count > 0 && ret->size - begin + bytes > bytes_max)
            break;
        uint8_t *p = buf_reserve(ret, bytes);
        if (p == NULL)
            return TV_ETOOLARGE;
        put_le32(p, (uint32_t)key_size);
        put_le32(p + 4, (uint32_t)value_size);
        memcpy(p + RECORD_HEAD_BYTES, key, key_size);
        if (value_size > 0)
            memcpy(p + RECORD_HEAD_BYTES + key_size, value, value_size);
        ret->size += bytes;
        (*count)++;
    }
    return iterator_error(c);
}

int lsm_copy_next(struct lsm_copy *c, size_t bytes_max, struct buf *ret, uint32_t *count)
{
    *count = 0;
    pthread_mutex_lock(&c->lock);
    int err = c->it == NULL ? TV_ECLOSED : copy_next(c, bytes_max, ret, count);
    pthread_mutex_unlock(&c->lock);
    return err;
}

static int copy_get(struct lsm_copy *c, struct slice name, struct buf *ret)
{
    char *key = mem_alloc(name.size + 1);
    key[0] = 'm';
    memcpy(key + 1, name.data, name.size);
    rocksdb_iter_seek(c->it, key, name.size + 1);
    int err = iterator_error(c);
    if (err == 0 && !rocksdb_iter_valid(c->it))
        err = TV_ENOTFOUND;
    if (err == 0) {
        size_t key_size, size;
        const char *found = rocksdb_iter_key(c->it, &key_size);
        if (slice_equal(slice_of(found, key_size), slice_of(key, name.size + 1))) {
            const char *value = rocksdb_iter_value(c->it, &size);
            err = buf_append(ret, value, size);
        } else {
            err = TV_ENOTFOUND;
        }
    }
    mem_free(key);
    rocksdb_iter_seek_to_first(c->it);
    return err;
}

int lsm_copy_get(struct lsm_copy *c, struct slice name, struct buf *ret)
{
    pthread_mutex_lock(&c->lock);
    int err = c->it == NULL ? TV_ECLOSED : copy_get(c, name, ret);
    pthread_mutex_unlock(&c->lock);
    return err;
}

int lsm_copy_rewind(struct lsm_copy *c)
{
    int err = TV_ECLOSED;
    pthread_mutex_lock(&c->lock);
    if (c->it != NULL) {
        rocksdb_iter_seek_to_first(c->it);
        err = iterator_error(c);
    }
    pthread_mutex_unlock(&c->lock);
    return err;
}

/* --- taking in --- */

struct lsm_intake {
    struct lsm *l; /* NULL once it is closed */
    struct persist_store store;
    struct lsm_meta meta;
    struct persist_meta *metas; /* named records and leases */
    struct lsm_lease *leases;
    size_t leases_count;
    size_t leases_capacity;
    struct mvcc_version **versions;
    size_t versions_count;
    size_t versions_capacity;
    uint64_t hashes; /* their sum */
    struct buf last_key;
};

int lsm_intake_open(const char *dir, const struct lsm_meta *meta, struct lsm_intake **ret,
                    char *err_text, size_t err_text_size)
{
    if (mkdir(dir, 0700) != 0) {
        (void)snprintf(err_text, err_text_size, "%s: %s", dir, strerror(errno));
        return TV_EIO;
    }
    if (meta->revision < 1 || meta->compacted < -1 || meta->compacted > meta->revision ||
        meta->content.compacted > meta->compacted || meta->applied_index == 0 ||
        meta->applied_term == 0) {
        (void)snprintf(err_text, err_text_size, "the copy's state cannot be");
        return TV_ECORRUPT;
    }
    struct lsm_intake *in = mem_alloc_zero(sizeof(*in));
    int err = lsm_open(dir, NULL, &in->l, err_text, err_text_size);
    if (err != 0) {
        mem_free(in);
        return err;
    }
    in->meta = *meta;
    lsm__store(in->l, &in->store);
    buf_init(&in->last_key, SIZE_MAX);
    *ret = in;
    return 0;
}

static int add_version(struct lsm_intake *in, struct slice key, struct slice value)
{
    int64_t main;
    uint32_t sub;
    bool tombstone;
    struct mvcc_version *v;
    if (!lsm__kv_key_parse(key.data, key.size, &main, &sub, &tombstone) || main < 1 ||
        main > in->meta.revision || mvcc_version_new(main, sub, tombstone, value, &v) != 0)
        return TV_ECORRUPT;
    if (in->versions_count > 0) {
        /* The keys ascend, but both kinds of one change would pass there. */
        const struct mvcc_version *last = in->versions[in->versions_count - 1];
        if (last->main == main && last->sub == sub) {
            mvcc_version_free(v);
            return TV_ECORRUPT;
        }
    }
    if (in->versions_count == in->versions_capacity) {
        in->versions_capacity = in->versions_capacity == 0 ? 4096 : in->versions_capacity * 2;
        in->versions = mem_realloc(in->versions, in->versions_capacity * sizeof(*in->versions));
    }
    in->versions[in->versions_count++] = v;
    in->hashes += mvcc_version_hash(v);
    in->store.put(in->store.ctx, v);
    return 0;
}

static int add_lease(struct lsm_intake *in, struct slice key, struct slice value)
{
    struct lsm_lease lease;
    if (!lsm__lease_parse(key, value, &lease))
        return TV_ECORRUPT;
    if (in->leases_count == in->leases_capacity) {
        in->leases_capacity = in->leases_capacity == 0 ? 64 : in->leases_capacity * 2;
        in->leases = mem_realloc(in->leases, in->leases_capacity * sizeof(*in->leases));
    }
    in->leases[in->leases_count++] = lease;
    persist_meta_put_lease(&in->metas, &lease);
    return 0;
}

static int add_record(struct lsm_intake *in, struct slice key, struct slice value)
{
    if (key.size == 0 || slice_compare(key, buf_slice(&in->last_key)) <= 0)
        return TV_ECORRUPT;
    buf_clear(&in->last_key);
    (void)buf_append(&in->last_key, key.data, key.size);
    switch (key.data[0]) {
    case 'k':
        return add_version(in, key, value);
    case 'l':
        return add_lease(in, key, value);
    case 'm':
        persist_meta_put(&in->metas, slice_of(key.data + 1, key.size - 1), value);
        return 0;
    default:
        return TV_ECORRUPT;
    }
}

int lsm_intake_add(struct lsm_intake *in, struct slice records)
{
    ASSERT(in->l != NULL);
    if (!lsm__has_room_to_commit(in->l))
        return TV_ENOSPC;
    const uint8_t *p = records.data;
    size_t left = records.size;
    while (left > 0) {
        if (left < RECORD_HEAD_BYTES)
            return TV_ECORRUPT;
        uint64_t key_size = get_le32(p), value_size = get_le32(p + 4);
        p += RECORD_HEAD_BYTES;
        left -= RECORD_HEAD_BYTES;
        if (key_size + value_size > left)
            return TV_ECORRUPT;
        int err = add_record(in, slice_of(p, key_size), slice_of(p + key_size, value_size));
        if (err != 0)
            return err;
        p += key_size + value_size;
        left -= key_size + value_size;
    }
    return 0;
}

void lsm_intake_commit(struct lsm_intake *in, struct persist_meta *metas)
{
    ASSERT(in->l != NULL);
    struct persist_meta **oldest = &metas;
    while (*oldest != NULL)
        oldest = &(*oldest)->next;
    *oldest = in->metas;
    in->metas = metas;
    in->store.commit(in->store.ctx, &in->meta, in->metas);
    lsm_close(in->l);
    in->l = NULL;
}

const struct lsm_meta *lsm_intake_meta(const struct lsm_intake *in)
{
    return &in->meta;
}

struct slice lsm_intake_get(const struct lsm_intake *in, struct slice name)
{
    for (const struct persist_meta *it = in->metas; it != NULL; it = it->next) {
        struct slice key = slice_of(it->data, it->key_size);
        if (key.data[0] == 'm' && slice_equal(slice_of(key.data + 1, key.size - 1), name))
            return slice_of(it->data + it->key_size, it->value_size);
    }
    return SLICE_EMPTY;
}

int lsm_intake_load(struct lsm_intake *in, struct mvcc *m,
                    void (*lease)(void *ctx, const struct lsm_lease *lease), void *ctx)
{
    ASSERT(in->l == NULL);
    mvcc_load_begin(m);
    size_t taken;
    int err = mvcc_load_add_all(m, in->versions, in->versions_count, in->hashes, &taken);
    ASSERT(err == 0);       /* add_version() */
    in->versions_count = 0; /* they are the store's */
    uint64_t sum =
        mvcc_load_end_summed(m, in->meta.revision, in->meta.compacted, in->meta.content.compacted);
    if (sum != in->meta.content.sum)
        return TV_ECORRUPT;
    for (size_t i = 0; i < in->leases_count; i++)
        lease(ctx, &in->leases[i]);
    return 0;
}

void lsm_intake_free(struct lsm_intake *in)
{
    if (in == NULL)
        return;
    for (size_t i = 0; i < in->versions_count; i++)
        mvcc_version_free(in->versions[i]);
    mem_free(in->versions);
    mem_free(in->leases);
    persist_metas_free(in->metas);
    buf_fini(&in->last_key);
    if (in->l != NULL) {
        lsm__drop_writer(in->l);
        lsm_close(in->l);
    }
    mem_free(in);
}
