/* The database: opening it, and asking.
 *
 * There are two levels: L0 holds a few files of records, L1 everything else.
 *
 * Read next: lsm_commit.c, lsm_load.c, lsm_tidy.c. */
#include "lsm_internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/folder.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BLOCK_BYTES = 32 << 10,
    TABLE_FILE_BYTES = 64 << 20,
    COLLECT_BYTES_MAX = 512 << 20, /* one step of a collection: the disk space that it needs */
    COLLECT_READAHEAD_BYTES = 256 << 10,
    ACCESS_HINT_NONE = 0, /* NORMAL would take back what was said when the file was opened */
    RECORD_FILES_MAX = 4, /* in L0 before they are merged */
    LEVELS_COUNT = 2,
    WRITE_BUFFER_BYTES = 1 << 20, /* nothing is written to it */
    BYTES_PER_SYNC = 1 << 20,
    MANIFEST_STEP_BYTES = 64 << 10,
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
bool lsm__is_damage(const char *message)
{
    return strncmp(message, "Corruption", 10) == 0 ||
           strstr(message, "No such file or directory") != NULL;
}

int lsm__error(char *message, char *err_text, size_t err_text_size)
{
    if (message == NULL)
        return 0;
    int err = lsm__is_damage(message) ? TV_ECORRUPT : TV_EIO;
    if (err_text != NULL && err_text_size > 0)
        (void)snprintf(err_text, err_text_size, "%s", message); /* may be cut */
    rocksdb_free(message);
    return err;
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
    l->limiter = rocksdb_ratelimiter_create(LSM_COLLECT_BYTES_PER_SECOND, 100000, 10);
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
    /* Who reads a file from end to end says how far ahead: the kernel may go megabytes at once, and
     * the log waits behind that. */
    rocksdb_options_set_advise_random_on_open(o, 1);
    rocksdb_options_compaction_readahead_size(o, COLLECT_READAHEAD_BYTES);
#ifdef TV_ROCKSDB_HAS_ACCESS_HINT
    rocksdb_options_set_access_hint_on_compaction_start(o, ACCESS_HINT_NONE);
#endif
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

/* Without CURRENT RocksDB would make a database anew and remove what is there. A crash when it was
 * first made leaves no table files. */
static int check_files(struct lsm *l, char *err_text, size_t err_text_size)
{
    if (!folder_has(l->dir, ".sst") || folder_has(l->dir, "CURRENT"))
        return 0;
    (void)snprintf(err_text, err_text_size, "%s/CURRENT: offset 0: the file is missing", l->dir);
    return TV_ECORRUPT;
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
    l->writer_fd = -1;
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

    int err = folder_make(dir);
    if (err != 0)
        (void)snprintf(err_text, err_text_size, "%s: %s", dir, strerror(errno));
    else
        err = check_files(l, err_text, err_text_size);
    if (err == 0)
        err = lsm__room_to_open(l, err_text, err_text_size);
    if (err == 0) {
        char *message = NULL;
        l->db = rocksdb_open(l->options, dir, &message);
        err = open_error(l, message, err_text, err_text_size);
    }
    if (err == 0 && (err = lsm__clear_staging(l)) != 0)
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
