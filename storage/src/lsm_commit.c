/* Commits, and saving a whole store at once.
 *
 * A commit is a few table files that RocksDB takes in one step (IngestExternalFile: fsync of the
 * files, hard links, one fsynced edit of the manifest):
 *
 *   versions   'k' records; revisions only grow, so the file begins behind all others and goes to
 *              the last level at once, where nothing but the collection of garbage touches it. More
 *              than one file when a commit is very large
 *   records    'l', 'm' and 's': small; overlaps its predecessors and is merged with them
 *
 * The first is written while versions come in; a crash before the commit leaves it in the staging
 * folder, and the next opening removes it. */
#include "lsm_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/folder.h"
#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    COMMIT_FILE_BYTES_MAX = 256 << 20,
    ROOM_LOOK_BYTES = 1 << 20,
    HAND_OVER_BYTES = 128 << 10,
};

/* Damage that RocksDB came across in the background makes the next commit fail. */
static void must(struct lsm *l, char *message, const char *what)
{
    if (message == NULL)
        return;
    if (lsm__is_damage(message) && l->o.damaged != NULL)
        l->o.damaged(l->o.ctx, message);
    tv_fatal("rocksdb: %s: %s", what, message);
}

/* --- the staging folder --- */

static void staging_path(const struct lsm *l, char ret_path[LSM_PATH_BYTES_MAX], uint64_t number)
{
    int n = snprintf(ret_path, LSM_PATH_BYTES_MAX, "%s/" LSM_STAGING "/%llu.sst", l->dir,
                     (unsigned long long)number);
    ASSERT(n > 0 && n < LSM_PATH_BYTES_MAX);
}

int lsm__clear_staging(const struct lsm *l)
{
    char path[LSM_PATH_BYTES_MAX];
    (void)snprintf(path, sizeof(path), "%s/" LSM_STAGING, l->dir); /* fits: lsm_open() looks */
    int err = folder_make(path);
    if (err != 0)
        return err;
    DIR *d = opendir(path);
    if (d == NULL)
        return TV_EIO;
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        if (e->d_name[0] != '.' && unlinkat(dirfd(d), e->d_name, 0) != 0)
            err = TV_EIO;
    }
    closedir(d);
    return err;
}

/* --- table files --- */

static rocksdb_sstfilewriter_t *writer_new(struct lsm *l)
{
    char path[LSM_PATH_BYTES_MAX];
    char *message = NULL;
    staging_path(l, path, ++l->writer_number);
    rocksdb_sstfilewriter_t *w = rocksdb_sstfilewriter_create(l->env_options, l->writer_options);
    rocksdb_sstfilewriter_open(w, path, &message);
    must(l, message, path);
    return w;
}

/* RocksDB hands a table file to the disk at its end, up to a commit at once, and the log waits
 * behind that. So it goes piece by piece while it is gathered, and none before the last is through.
 */
static void lsm_hand_over(void *ctx)
{
    struct lsm *l = ctx;
    struct stat st;
    if (l->writer == NULL || l->writer_bytes < HAND_OVER_BYTES)
        return;
    if (l->writer_fd < 0) {
        char path[LSM_PATH_BYTES_MAX];
        staging_path(l, path, l->writer_number);
        l->writer_fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (l->writer_fd < 0 || fstat(l->writer_fd, &st) != 0)
        return;
    while (st.st_size - l->handed_over >= HAND_OVER_BYTES) {
        /* What fails here does so again in RocksDB's own fsync, which looks. */
        (void)!sync_file_range(l->writer_fd, l->handed_over, HAND_OVER_BYTES,
                               SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                   SYNC_FILE_RANGE_WAIT_AFTER);
        l->handed_over += HAND_OVER_BYTES;
    }
}

static void writer_finish(struct lsm *l, rocksdb_sstfilewriter_t *w)
{
    char *message = NULL;
    rocksdb_sstfilewriter_finish(w, &message);
    must(l, message, "finishing a table file");
    rocksdb_sstfilewriter_destroy(w);
}

static void begin_versions(struct lsm *l)
{
    l->writer = writer_new(l);
    l->writer_bytes = 0;
    l->handed_over = 0;
}

static void close_handle(struct lsm *l)
{
    if (l->writer_fd >= 0)
        (void)close(l->writer_fd);
    l->writer_fd = -1;
}

static void finish_versions(struct lsm *l)
{
    if (l->writer != NULL)
        writer_finish(l, l->writer);
    l->writer = NULL;
    close_handle(l);
}

static void lsm_put_version(void *ctx, const struct mvcc_version *v)
{
    struct lsm *l = ctx;
    if (l->writer_bytes >= COMMIT_FILE_BYTES_MAX)
        finish_versions(l);
    if (l->writer == NULL)
        begin_versions(l);
    uint8_t key[LSM_KV_KEY_BYTES];
    key[0] = 'k';
    lsm__put_be64(key + 1, (uint64_t)mvcc_version_mod_revision(v));
    lsm__put_be32(key + 9, mvcc_version_sub(v));
    key[13] = mvcc_version_is_tombstone(v);
    struct slice kv = mvcc_version_kv(v);
    char *message = NULL;
    rocksdb_sstfilewriter_put(l->writer, (const char *)key, sizeof(key), (const char *)kv.data,
                              kv.size, &message);
    must(l, message, "writing a version");
    l->writer_bytes += sizeof(key) + kv.size;
}

struct record {
    const struct persist_meta *meta;
    size_t age; /* 0 = newest */
};

static int record_compare(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    int order = slice_compare(slice_of(x->meta->data, x->meta->key_size),
                              slice_of(y->meta->data, y->meta->key_size));
    return order != 0 ? order : (x->age > y->age) - (x->age < y->age);
}

static void write_record(struct lsm *l, rocksdb_sstfilewriter_t *w, const struct persist_meta *meta)
{
    char *message = NULL;
    const char *key = (const char *)meta->data;
    if (meta->is_delete)
        rocksdb_sstfilewriter_delete(w, key, meta->key_size, &message);
    else
        rocksdb_sstfilewriter_put(w, key, meta->key_size, key + meta->key_size, meta->value_size,
                                  &message);
    must(l, message, "writing a record");
}

/* In the order of keys; of equal ones the newest. */
static void write_records(struct lsm *l, rocksdb_sstfilewriter_t *w,
                          const struct persist_meta *metas)
{
    size_t count = 0;
    for (const struct persist_meta *it = metas; it != NULL; it = it->next)
        count++;
    if (count == 0)
        return;
    struct record *records = mem_alloc(count * sizeof(*records));
    size_t age = 0;
    for (const struct persist_meta *it = metas; it != NULL; it = it->next, age++)
        records[age] = (struct record){.meta = it, .age = age};
    qsort(records, count, sizeof(*records), record_compare);
    const struct persist_meta *last = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct persist_meta *it = records[i].meta;
        if (last == NULL ||
            !slice_equal(slice_of(it->data, it->key_size), slice_of(last->data, last->key_size)))
            write_record(l, w, it);
        last = it;
    }
    mem_free(records);
}

static void write_state(struct lsm *l, rocksdb_sstfilewriter_t *w, const struct lsm_meta *meta)
{
    uint8_t state[LSM_STATE_BYTES];
    lsm__put_be32(state, LSM_FORMAT);
    lsm__put_be64(state + 4, meta->applied_index);
    lsm__put_be64(state + 12, meta->applied_term);
    lsm__put_be64(state + 20, (uint64_t)meta->revision);
    lsm__put_be64(state + 28, (uint64_t)meta->compacted);
    lsm__put_be64(state + 36, meta->content.sum);
    lsm__put_be64(state + 44, (uint64_t)meta->content.compacted);
    lsm__put_be64(state + 52, meta->chain);
    char *message = NULL;
    rocksdb_sstfilewriter_put(w, "s", 1, (const char *)state, sizeof(state), &message);
    must(l, message, "writing the state");
}

/* All files from the first since the last commit to the newest. */
static void ingest(struct lsm *l)
{
    size_t count = l->writer_number - l->committed_number;
    char(*paths)[LSM_PATH_BYTES_MAX] = mem_alloc(count * sizeof(*paths));
    const char **list = mem_alloc(count * sizeof(*list));
    for (size_t i = 0; i < count; i++) {
        staging_path(l, paths[i], l->committed_number + 1 + i);
        list[i] = paths[i];
    }
    char *message = NULL;
    rocksdb_ingest_external_file(l->db, list, count, l->ingest_options, &message);
    must(l, message, "commit");
    l->committed_number = l->writer_number;
    mem_free(list);
    mem_free(paths);
}

static void lsm_commit(void *ctx, const struct lsm_meta *meta, const struct persist_meta *metas)
{
    struct lsm *l = ctx;
    uint64_t begin_ns = clock_mono_ns();
    ASSERT(meta->applied_index >= l->committed.applied_index);
    ASSERT(meta->revision >= l->committed.revision && meta->compacted >= l->committed.compacted);

    finish_versions(l);
    rocksdb_sstfilewriter_t *w = writer_new(l);
    write_records(l, w, metas);
    write_state(l, w, meta);
    writer_finish(l, w);
    uint64_t files_ns = clock_mono_ns() - begin_ns;
    ingest(l);
    uint64_t commit_ns = clock_mono_ns() - begin_ns;

    pthread_mutex_lock(&l->lock);
    l->committed = *meta;
    l->commits++;
    l->commit_ns += commit_ns;
    pthread_mutex_unlock(&l->lock);
    if (l->o.meters != NULL) {
        metric_observe(&l->o.meters->commit, LSM_METERS_SCALE, commit_ns);
        metric_observe(&l->o.meters->files, LSM_METERS_SCALE, files_ns);
        metric_observe(&l->o.meters->ingest, LSM_METERS_SCALE, commit_ns - files_ns);
    }
    lsm__tidy_wake(l);
}

void lsm_put(struct lsm *l, struct persist_meta *metas)
{
    ASSERT(l->writer == NULL && !l->tidy_running);
    struct lsm_meta meta = l->committed;
    lsm_commit(l, &meta, metas);
    persist_metas_free(metas);
}

/* --- a whole store at once --- */

static int version_compare(const void *a, const void *b)
{
    const struct mvcc_version *x = *(const struct mvcc_version *const *)a;
    const struct mvcc_version *y = *(const struct mvcc_version *const *)b;
    if (x->main != y->main)
        return x->main > y->main ? 1 : -1;
    return (x->sub > y->sub) - (x->sub < y->sub);
}

struct saving {
    struct lsm *l;
    uint64_t hashes;     /* their sum */
    uint64_t until_look; /* so many bytes may still be written before room is looked for */
};

static int save_version(struct saving *s, const struct mvcc_version *v)
{
    uint64_t bytes = mvcc_version_kv(v).size;
    if (bytes >= s->until_look) {
        if (!lsm__has_room_to_commit(s->l))
            return TV_ENOSPC;
        s->until_look = ROOM_LOOK_BYTES;
    }
    s->until_look -= bytes < s->until_look ? bytes : s->until_look;
    lsm_put_version(s->l, v);
    s->hashes += mvcc_version_hash(v);
    return 0;
}

/* What is visible at the compaction and older than it is no longer in the history; it comes in the
 * order of keys. */
static int save_older(struct saving *s, struct mvcc *m, int64_t compacted)
{
    const struct slice all = SLICE_LITERAL("\0");
    struct mvcc_iter it;
    const struct mvcc_version *v;
    size_t count = 0, capacity = (size_t)mvcc_count(m, all, all, compacted) + 1;
    const struct mvcc_version **list = mem_alloc(capacity * sizeof(*list));
    mvcc_iter_init(&it, m, all, all, compacted);
    while ((v = mvcc_iter_next(&it)) != NULL) {
        ASSERT(count < capacity);
        if (mvcc_version_mod_revision(v) < compacted)
            list[count++] = v;
    }
    qsort(list, count, sizeof(*list), version_compare);
    int err = 0;
    for (size_t i = 0; i < count && err == 0; i++)
        err = save_version(s, list[i]);
    mem_free(list);
    return err;
}

static int save_history(struct saving *s, struct mvcc *m, int64_t from_rev, int64_t to_rev)
{
    struct mvcc_history_cursor c;
    const struct mvcc_version *v;
    int err = mvcc_history_seek(m, &c, from_rev);
    ASSERT(err == 0);
    while (err == 0 && (v = mvcc_history_next(&c, to_rev)) != NULL)
        err = save_version(s, v);
    return err;
}

int lsm_save(struct lsm *l, struct mvcc *m, uint64_t applied_index, uint64_t applied_term,
             struct persist_meta *metas)
{
    struct lsm_meta meta = {.applied_index = applied_index,
                            .applied_term = applied_term,
                            .revision = mvcc_revision(m),
                            .compacted = mvcc_compacted(m),
                            .content = {.compacted = mvcc_compacted(m)}};
    ASSERT(l->committed.revision == 1 && l->writer == NULL && !l->tidy_running);
    struct saving s = {.l = l};
    int err = 0;
    if (meta.compacted > 0)
        err = save_older(&s, m, meta.compacted);
    if (err == 0)
        err = save_history(&s, m, meta.compacted > 0 ? meta.compacted : 1, meta.revision);
    meta.content.sum = s.hashes;
    if (err == 0)
        lsm_commit(l, &meta, metas);
    else
        lsm__drop_writer(l);
    persist_metas_free(metas);
    return err;
}

/* --- the persist thread's side --- */

static void lsm_attach(void *ctx, struct mvcc *m, struct lsm_meta *ret_meta)
{
    struct lsm *l = ctx;
    lsm_meta(l, ret_meta);
    lsm__tidy_start(l, m);
}

/* A table file without a commit is nothing; the next opening would remove it just the same. */
void lsm__drop_writer(struct lsm *l)
{
    if (l->writer != NULL)
        rocksdb_sstfilewriter_destroy(l->writer);
    l->writer = NULL;
    close_handle(l);
    l->committed_number = l->writer_number;
    (void)lsm__clear_staging(l);
}

static void lsm_detach(void *ctx)
{
    struct lsm *l = ctx;
    lsm__tidy_end(l);
    lsm__drop_writer(l);
}

static bool lsm_has_room(void *ctx)
{
    return lsm__has_room_to_commit(ctx);
}

void lsm__store(struct lsm *l, struct persist_store *ret_store)
{
    *ret_store = (struct persist_store){.ctx = l,
                                        .attach = lsm_attach,
                                        .put = lsm_put_version,
                                        .hand_over = lsm_hand_over,
                                        .commit = lsm_commit,
                                        .has_room = lsm_has_room,
                                        .detach = lsm_detach};
}
