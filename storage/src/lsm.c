/* The database: opening it, and commits.
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
 * folder, and the next opening removes it.
 *
 * There are two levels: L0 holds a few files of records, L1 everything else.
 *
 * Read next: lsm_load.c, lsm_tidy.c. */
#include "lsm_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/folder.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BLOCK_BYTES = 32 << 10,
    TABLE_FILE_BYTES = 64 << 20,
    COMMIT_FILE_BYTES_MAX = 256 << 20,
    COLLECT_BYTES_MAX = 512 << 20, /* one step of a collection: the disk space that it needs */
    COLLECT_BYTES_PER_SECOND = 64 << 20,
    RECORD_FILES_MAX = 4, /* in L0 before they are merged */
    LEVELS_COUNT = 2,
    WRITE_BUFFER_BYTES = 1 << 20, /* nothing is written to it */
    BYTES_PER_SYNC = 1 << 20,
    MANIFEST_STEP_BYTES = 64 << 10,
    ROOM_LOOK_BYTES = 1 << 20,
    INFO_LOG_BYTES = 1 << 20,
    INFO_LOG_FILES = 2,
    INFO_LOG_WARN = 2,
    TABLE_FORMAT = 5, /* readable by every RocksDB since 6.6 */
    EMPTY_LOGS_MAX = 8,
};

void lsm_options_init(struct lsm_options *o)
{
    *o = (struct lsm_options){.block_cache_bytes = 4 << 20,
                              .open_files_max = 128,
                              .compress = true,
                              .garbage_percent = 50,
                              .garbage_versions_min = 100000,
                              .small_store_bytes = 256 << 20,
                              .small_store_garbage_percent = 10,
                              .small_files_max = 16};
}

/* A file that the manifest or CURRENT names and that is not there is damage too. */
static bool is_damage(const char *message)
{
    return strncmp(message, "Corruption", 10) == 0 ||
           strstr(message, "No such file or directory") != NULL;
}

int lsm__error(char *message, char *err_text, size_t err_text_size)
{
    if (message == NULL)
        return 0;
    int err = is_damage(message) ? TV_ECORRUPT : TV_EIO;
    if (err_text != NULL && err_text_size > 0)
        (void)snprintf(err_text, err_text_size, "%s", message); /* may be cut */
    rocksdb_free(message);
    return err;
}

/* Damage that RocksDB came across in the background makes the next commit fail. */
static void must(struct lsm *l, char *message, const char *what)
{
    if (message == NULL)
        return;
    if (is_damage(message) && l->o.damaged != NULL)
        l->o.damaged(l->o.ctx, message);
    tv_fatal("rocksdb: %s: %s", what, message);
}

/* --- opening --- */

static void table_options(struct lsm *l, rocksdb_options_t *o)
{
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_size(t, BLOCK_BYTES);
    rocksdb_block_based_options_set_block_cache(t, l->cache);
    rocksdb_block_based_options_set_format_version(t, TABLE_FORMAT);
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_block_based_options_destroy(t);
    rocksdb_options_set_compression(o, l->o.compress ? rocksdb_lz4_compression
                                                     : rocksdb_no_compression);
}

static void make_options(struct lsm *l)
{
    l->cache = rocksdb_cache_create_lru(l->o.block_cache_bytes);
    l->limiter = rocksdb_ratelimiter_create(COLLECT_BYTES_PER_SECOND, 100000, 10);
    l->writer_options = rocksdb_options_create();
    table_options(l, l->writer_options);

    rocksdb_options_t *o = l->options = rocksdb_options_create();
    table_options(l, o);
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_paranoid_checks(o, 1); /* sizes and ids of all table files at the opening */
    rocksdb_options_set_num_levels(o, LEVELS_COUNT);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 0);
    rocksdb_options_set_level0_file_num_compaction_trigger(o, RECORD_FILES_MAX);
    rocksdb_options_set_target_file_size_base(o, TABLE_FILE_BYTES);
    rocksdb_options_set_max_compaction_bytes(o, COLLECT_BYTES_MAX);
    rocksdb_options_set_ratelimiter(o, l->limiter);
    rocksdb_options_set_bytes_per_sync(o, BYTES_PER_SYNC);
    rocksdb_options_set_manifest_preallocation_size(o, MANIFEST_STEP_BYTES);
    rocksdb_options_set_write_buffer_size(o, WRITE_BUFFER_BYTES);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_max_open_files(o, (int)l->o.open_files_max);
    rocksdb_options_set_max_file_opening_threads(o, 1);
    rocksdb_options_set_info_log_level(o, INFO_LOG_WARN);
    rocksdb_options_set_max_log_file_size(o, INFO_LOG_BYTES);
    rocksdb_options_set_keep_log_file_num(o, INFO_LOG_FILES);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
    rocksdb_options_set_advise_random_on_open(o, 0); /* files are read from end to end */
    rocksdb_options_set_compaction_filter_factory(o, lsm__filter_factory(l));

    rocksdb_env_t *env = rocksdb_create_default_env(); /* one in the process */
    rocksdb_env_lower_thread_pool_cpu_priority(env);
    rocksdb_env_destroy(env);

    l->env_options = rocksdb_envoptions_create();
    l->read_options = rocksdb_readoptions_create();
    l->ingest_options = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(l->ingest_options, 1);
}

static void free_options(struct lsm *l)
{
    rocksdb_ingestexternalfileoptions_destroy(l->ingest_options);
    rocksdb_readoptions_destroy(l->read_options);
    rocksdb_envoptions_destroy(l->env_options);
    rocksdb_options_destroy(l->options);
    rocksdb_options_destroy(l->writer_options);
    rocksdb_ratelimiter_destroy(l->limiter);
    rocksdb_cache_destroy(l->cache);
}

static void lsm_free(struct lsm *l)
{
    if (l->db != NULL)
        rocksdb_close(l->db);
    free_options(l);
    pthread_cond_destroy(&l->tidy_wake);
    pthread_mutex_destroy(&l->lock);
    mem_free(l->dir);
    mem_free(l);
}

static void staging_path(const struct lsm *l, char ret_path[LSM_PATH_BYTES_MAX], uint64_t number)
{
    int n = snprintf(ret_path, LSM_PATH_BYTES_MAX, "%s/" LSM_STAGING "/%llu.sst", l->dir,
                     (unsigned long long)number);
    ASSERT(n > 0 && n < LSM_PATH_BYTES_MAX);
}

static int make_dir(const struct lsm *l, char *err_text, size_t err_text_size)
{
    if (mkdir(l->dir, 0700) == 0 || errno == EEXIST)
        return 0;
    (void)snprintf(err_text, err_text_size, "%s: %s", l->dir, strerror(errno));
    return errno == ENOSPC ? TV_ENOSPC : TV_EIO;
}

/* Without CURRENT RocksDB would make a database anew and remove what is there. A crash when it was
 * first made leaves no table files. */
static int check_files(struct lsm *l, char *err_text, size_t err_text_size)
{
    if (!folder_has(l->dir, ".sst") || folder_has(l->dir, "CURRENT"))
        return 0;
    (void)snprintf(err_text, err_text_size, "%s/CURRENT: offset 0: the file is missing", l->dir);
    return TV_ECORRUPT;
}

/* The staging folder exists and is empty. */
static int clear_staging(const struct lsm *l)
{
    char path[LSM_PATH_BYTES_MAX];
    (void)snprintf(path, sizeof(path), "%s/" LSM_STAGING, l->dir); /* fits: lsm_open() looks */
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return TV_EIO;
    DIR *d = opendir(path);
    if (d == NULL)
        return TV_EIO;
    int err = 0;
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        if (e->d_name[0] != '.' && unlinkat(dirfd(d), e->d_name, 0) != 0)
            err = TV_EIO;
    }
    closedir(d);
    return err;
}

/* RocksDB opens a log of its own each time, and keeps all of them until a memtable is flushed,
 * which never happens here. So now and then one is: with the state record as it is. */
static int drop_empty_logs(struct lsm *l, char *err_text, size_t err_text_size)
{
    DIR *d = opendir(l->dir);
    if (d == NULL)
        return 0; /* only tidiness */
    int logs = 0;
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        size_t size = strlen(e->d_name);
        logs += size > 4 && strcmp(e->d_name + size - 4, ".log") == 0;
    }
    closedir(d);
    if (logs <= EMPTY_LOGS_MAX)
        return 0;
    char *message = NULL;
    size_t size;
    char *state = rocksdb_get(l->db, l->read_options, "s", 1, &size, &message);
    if (state != NULL) {
        rocksdb_writeoptions_t *wo = rocksdb_writeoptions_create();
        rocksdb_flushoptions_t *fo = rocksdb_flushoptions_create();
        rocksdb_writeoptions_disable_WAL(wo, 1);
        rocksdb_put(l->db, wo, "s", 1, state, size, &message);
        if (message == NULL)
            rocksdb_flush(l->db, fo, &message); /* waits */
        rocksdb_flushoptions_destroy(fo);
        rocksdb_writeoptions_destroy(wo);
        rocksdb_free(state);
    }
    return lsm__error(message, err_text, err_text_size);
}

static int read_state(struct lsm *l, char *err_text, size_t err_text_size)
{
    char *message = NULL;
    size_t size;
    uint8_t *p = (uint8_t *)rocksdb_get(l->db, l->read_options, "s", 1, &size, &message);
    int err = lsm__error(message, err_text, err_text_size);
    if (err != 0)
        return err;
    l->committed = LSM_META_FRESH;
    if (p == NULL)
        return 0; /* fresh, even beside table files: a crash in the first commit leaves some */
    if (size < 4 || lsm__get_be32(p) != LSM_FORMAT) {
        (void)snprintf(err_text, err_text_size, "the store was written in a format not known here");
        err = TV_ENOTSUP;
    } else if (size != LSM_STATE_BYTES) {
        (void)snprintf(err_text, err_text_size, "%s: offset 0: the state record is damaged",
                       l->dir);
        err = TV_ECORRUPT;
    } else {
        lsm__get_state(p, &l->committed);
    }
    rocksdb_free(p);
    return err;
}

/* Some of RocksDB's words about CURRENT and the manifest do not say where. */
static int open_error(const struct lsm *l, char *message, char *err_text, size_t err_text_size)
{
    char words[512];
    int err = lsm__error(message, words, sizeof(words));
    if (err != 0)
        (void)snprintf(err_text, err_text_size, "%s%s%s", strstr(words, l->dir) ? "" : l->dir,
                       strstr(words, l->dir) ? "" : ": ", words);
    return err;
}

int lsm_open(const char *dir, const struct lsm_options *o, struct lsm **ret_lsm, char *err_text,
             size_t err_text_size)
{
    if (strlen(dir) > LSM_PATH_BYTES_MAX - 64) {
        (void)snprintf(err_text, err_text_size, "the store's path is too long");
        return TV_EIO;
    }
    struct lsm *l = mem_alloc_zero(sizeof(*l));
    if (o != NULL)
        l->o = *o;
    else
        lsm_options_init(&l->o);
    ASSERT(l->o.garbage_percent >= 1 && l->o.garbage_percent <= 99);
    ASSERT(l->o.small_store_garbage_percent >= 1 && l->o.small_store_garbage_percent <= 99);
    ASSERT(l->o.small_files_max >= 2);
    l->dir = mem_strdup(dir);
    list_init(&l->copies);
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->tidy_wake, &attr);
    pthread_condattr_destroy(&attr);
    make_options(l);

    int err = make_dir(l, err_text, err_text_size);
    if (err == 0)
        err = check_files(l, err_text, err_text_size);
    if (err == 0)
        err = lsm__room_to_open(l, err_text, err_text_size);
    if (err == 0) {
        char *message = NULL;
        l->db = rocksdb_open(l->options, dir, &message);
        err = open_error(l, message, err_text, err_text_size);
    }
    if (err == 0 && (err = clear_staging(l)) != 0)
        (void)snprintf(err_text, err_text_size, "%s/" LSM_STAGING ": %s", dir, strerror(errno));
    if (err == 0)
        err = read_state(l, err_text, err_text_size);
    if (err == 0 && lsm__has_room_to_commit(l))
        err = drop_empty_logs(l, err_text, err_text_size);
    if (err != 0) {
        lsm_free(l);
        return err;
    }
    lsm__keep_spare(l);
    *ret_lsm = l;
    return 0;
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

static void writer_finish(struct lsm *l, rocksdb_sstfilewriter_t *w)
{
    char *message = NULL;
    rocksdb_sstfilewriter_finish(w, &message);
    must(l, message, "finishing a table file");
    rocksdb_sstfilewriter_destroy(w);
}

static void finish_versions(struct lsm *l)
{
    if (l->writer != NULL)
        writer_finish(l, l->writer);
    l->writer = NULL;
}

static void lsm_put_version(void *ctx, const struct mvcc_version *v)
{
    struct lsm *l = ctx;
    if (l->writer_bytes >= COMMIT_FILE_BYTES_MAX)
        finish_versions(l);
    if (l->writer == NULL) {
        l->writer = writer_new(l);
        l->writer_bytes = 0;
    }
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
    l->committed_number = l->writer_number;
    (void)clear_staging(l);
}

static void lsm_detach(void *ctx)
{
    struct lsm *l = ctx;
    lsm__tidy_end(l);
    lsm__drop_writer(l);
}

static bool lsm_has_room(void *ctx)
{
    struct lsm *l = ctx;
    if (!lsm__has_room_to_commit(l))
        return false;
    lsm__keep_spare(l);
    return true;
}

void lsm__store(struct lsm *l, struct persist_store *ret_store)
{
    *ret_store = (struct persist_store){.ctx = l,
                                        .attach = lsm_attach,
                                        .put = lsm_put_version,
                                        .commit = lsm_commit,
                                        .has_room = lsm_has_room,
                                        .detach = lsm_detach};
}

void lsm_close(struct lsm *l)
{
    ASSERT(!l->tidy_running && l->writer == NULL);
    lsm__end_copies(l);
    lsm_free(l);
}

/* --- asking --- */

void lsm_meta(struct lsm *l, struct lsm_meta *ret)
{
    pthread_mutex_lock(&l->lock);
    *ret = l->committed;
    pthread_mutex_unlock(&l->lock);
}

int lsm_get(struct lsm *l, struct slice name, struct buf *ret)
{
    char *message = NULL;
    size_t size;
    char *key = mem_alloc(name.size + 1);
    key[0] = 'm';
    memcpy(key + 1, name.data, name.size);
    char *value = rocksdb_get(l->db, l->read_options, key, name.size + 1, &size, &message);
    mem_free(key);
    int err = lsm__error(message, NULL, 0);
    if (err == 0 && value == NULL)
        return TV_ENOTFOUND;
    if (err == 0)
        err = buf_append(ret, value, size);
    rocksdb_free(value);
    return err;
}

static int file_compare(const void *a, const void *b)
{
    const struct lsm_file *x = a, *y = b;
    return (x->first_rev > y->first_rev) - (x->first_rev < y->first_rev);
}

struct lsm_file *lsm__files(struct lsm *l, size_t *ret_count)
{
    const rocksdb_livefiles_t *live = rocksdb_livefiles(l->db);
    int live_count = rocksdb_livefiles_count(live);
    struct lsm_file *files = mem_alloc(((size_t)live_count + 1) * sizeof(*files));
    size_t count = 0;
    for (int i = 0; i < live_count; i++) {
        size_t size;
        uint32_t sub;
        bool tombstone;
        struct lsm_file f = {.versions = rocksdb_livefiles_entries(live, i),
                             .bytes = rocksdb_livefiles_size(live, i)};
        const char *key = rocksdb_livefiles_smallestkey(live, i, &size);
        if (!lsm__kv_key_parse((const uint8_t *)key, size, &f.first_rev, &sub, &tombstone))
            continue;
        key = rocksdb_livefiles_largestkey(live, i, &size);
        if (!lsm__kv_key_parse((const uint8_t *)key, size, &f.last_rev, &sub, &tombstone))
            f.last_rev = INT64_MAX;
        (void)snprintf(f.name, sizeof(f.name), "%s", rocksdb_livefiles_name(live, i));
        files[count++] = f;
    }
    rocksdb_livefiles_destroy(live);
    qsort(files, count, sizeof(*files), file_compare);
    *ret_count = count;
    return files;
}

static uint64_t garbage_of(struct lsm *l, uint64_t versions)
{
    struct mvcc_stats in_memory;
    pthread_mutex_lock(&l->lock);
    if (l->tidy_mvcc != NULL)
        mvcc_stats(l->tidy_mvcc, &in_memory);
    else
        in_memory.versions = versions;
    pthread_mutex_unlock(&l->lock);
    return versions > in_memory.versions ? versions - in_memory.versions : 0;
}

void lsm_stats(struct lsm *l, struct lsm_stats *ret)
{
    *ret = (struct lsm_stats){0};
    const rocksdb_livefiles_t *live = rocksdb_livefiles(l->db);
    ret->files_count = (uint64_t)rocksdb_livefiles_count(live);
    for (int i = 0; i < (int)ret->files_count; i++)
        ret->disk_bytes += rocksdb_livefiles_size(live, i);
    rocksdb_livefiles_destroy(live);

    size_t count;
    struct lsm_file *files = lsm__files(l, &count);
    for (size_t i = 0; i < count; i++)
        ret->versions += files[i].versions;
    mem_free(files);
    ret->garbage = garbage_of(l, ret->versions);

    pthread_mutex_lock(&l->lock);
    ret->commits = l->commits;
    ret->commit_ns = l->commit_ns;
    pthread_mutex_unlock(&l->lock);
}
