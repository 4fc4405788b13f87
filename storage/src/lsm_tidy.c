/* Collecting what compactions gave up, and merging small files.
 *
 * Nothing is deleted record by record: when enough of what is on disk is garbage, the files up to
 * the committed compaction are rewritten through a filter that asks the store in memory, for each
 * version below that compaction, whether it is the one that is visible there. Tables are not
 * touched otherwise: a put is written once, and again only when as much garbage has gathered as the
 * share in the options says.
 *
 * Invariants:
 * 1. The filter judges by the compaction that the committed sum is for (struct mvcc_content): what
 *    it drops is not counted there. When the store in memory has gone on to a later one, that state
 *    can no longer be asked for, and everything is kept.
 * 2. The filter reads the store inside a section, one version at a time, and only between
 *    lsm__tidy_start() and lsm__tidy_end().
 * 3. Nothing is rewritten that may find no room on the disk: RocksDB would take no commit after
 * that. What is collected is rewritten in pieces that do find room.
 *
 * Threads: the tidy thread decides and waits; the filter runs on RocksDB's. */
#include "lsm_internal.h"

#include "base/assert.h"
#include "base/mem.h"

#include <sys/statvfs.h>
#include <time.h>

enum {
    TIDY_INTERVAL_S = 5,
    SMALL_FILE_BYTES = 8 << 20,
    ROOM_KEPT_BYTES = 128 << 20, /* for commits meanwhile */
    /* BottommostLevelCompaction::kForceOptimized: rewrite the last level, but each file once. */
    FORCE_LAST_LEVEL = 3,
};

/* --- the filter --- */

struct filter {
    struct mvcc *mvcc;
    struct epoch_reader *reader;
    int64_t compacted;
};

/* etcd's rule, as mvcc_load_end() applies it: below the compaction, what is visible at it stays. */
static bool is_garbage(struct filter *f, int64_t main, uint32_t sub, bool tombstone,
                       struct slice kv)
{
    uint64_t size = 0;
    size_t at = 1;
    for (unsigned shift = 0; at < kv.size && shift < 35; shift += 7) {
        size |= (uint64_t)(kv.data[at] & 0x7f) << shift;
        if (kv.data[at++] < 0x80)
            break;
    }
    if (kv.size < 2 || kv.data[0] != (1 << 3 | 2) || size == 0 || size > kv.size - at)
        return false; /* damage; for the next lsm_load() to report */

    int64_t rev;
    bool garbage = false;
    epoch_enter(mvcc_epoch(f->mvcc), f->reader);
    if (mvcc_check_revision(f->mvcc, f->compacted, &rev) == 0) {
        const struct mvcc_version *v =
            tombstone ? NULL : mvcc_get(f->mvcc, slice_of(kv.data + at, size), rev);
        garbage = v == NULL || mvcc_version_mod_revision(v) != main || mvcc_version_sub(v) != sub;
    }
    epoch_leave(f->reader);
    return garbage;
}

static unsigned char filter_one(void *state, int level, const char *key, size_t key_size,
                                const char *value, size_t value_size, char **new_value,
                                size_t *new_value_size, unsigned char *value_changed)
{
    struct filter *f = state;
    int64_t main;
    uint32_t sub;
    bool tombstone;
    if (!lsm__kv_key_parse((const uint8_t *)key, key_size, &main, &sub, &tombstone) ||
        main >= f->compacted)
        return 0;
    return is_garbage(f, main, sub, tombstone, slice_of(value, value_size));
}

static void filter_free(void *state)
{
    struct filter *f = state;
    epoch_unregister(f->reader);
    mem_free(f);
}

static const char *filter_name(void *state)
{
    return "trivet.garbage";
}

static void no_state_free(void *state)
{
}

/* NULL: this compaction filters nothing. */
static rocksdb_compactionfilter_t *filter_new(void *state,
                                              rocksdb_compactionfiltercontext_t *context)
{
    struct lsm *l = state;
    int64_t compacted = atomic_load_explicit(&l->collect_compacted, memory_order_acquire);
    if (compacted <= 0 || !rocksdb_compactionfiltercontext_is_manual_compaction(context))
        return NULL;
    struct epoch_reader *reader = epoch_register(mvcc_epoch(l->collect_mvcc));
    if (reader == NULL)
        return NULL;
    struct filter *f = mem_alloc(sizeof(*f));
    *f = (struct filter){.mvcc = l->collect_mvcc, .reader = reader, .compacted = compacted};
    return rocksdb_compactionfilter_create(f, filter_free, filter_one, filter_name);
}

rocksdb_compactionfilterfactory_t *lsm__filter_factory(struct lsm *l)
{
    return rocksdb_compactionfilterfactory_create(l, no_state_free, filter_new, filter_name);
}

/* --- the tidy thread --- */

/* Rewrite the table files that hold revisions of [first, last]. */
static void rewrite(struct lsm *l, struct mvcc *m, int64_t compacted, int64_t first, int64_t last)
{
    uint8_t begin[9] = "k", end[9] = "k";
    lsm__put_be64(begin + 1, (uint64_t)first);
    lsm__put_be64(end + 1, (uint64_t)last);
    rocksdb_compactoptions_t *o = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_exclusive_manual_compaction(o, 0);
    rocksdb_compactoptions_set_bottommost_level_compaction(o, FORCE_LAST_LEVEL);

    l->collect_mvcc = m;
    atomic_store_explicit(&l->collect_compacted, compacted > 0 ? compacted : 0,
                          memory_order_release);
    /* A failure leaves everything as it was, or makes the next commit fail. */
    rocksdb_compact_range_opt(l->db, o, (const char *)begin, sizeof(begin), (const char *)end,
                              sizeof(end));
    atomic_store_explicit(&l->collect_compacted, 0, memory_order_release);
    rocksdb_compactoptions_destroy(o);

    pthread_mutex_lock(&l->lock);
    l->collections++;
    pthread_mutex_unlock(&l->lock);
}

static bool has_garbage(struct lsm *l, struct mvcc *m, const struct lsm_file *files, size_t count)
{
    enum { SMALL_STORE_MIN_DIVISOR = 100 };
    uint64_t versions = 0, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        versions += files[i].versions;
        bytes += files[i].bytes;
    }
    struct mvcc_stats in_memory;
    mvcc_stats(m, &in_memory);
    if (versions <= in_memory.versions)
        return false;
    uint64_t garbage = versions - in_memory.versions;
    uint64_t min = l->o.garbage_versions_min, percent = l->o.garbage_percent;
    if (bytes < l->o.small_store_bytes) {
        min /= SMALL_STORE_MIN_DIVISOR;
        percent = l->o.small_store_garbage_percent;
    }
    return garbage >= min && garbage * 100 >= versions * percent;
}

/* What a rewrite may take of the disk. */
static uint64_t room_bytes(const struct lsm *l)
{
    struct statvfs s;
    if (statvfs(l->dir, &s) != 0)
        return 0;
    uint64_t bytes = (uint64_t)s.f_bavail * s.f_frsize;
    return bytes > ROOM_KEPT_BYTES ? bytes - ROOM_KEPT_BYTES : 0;
}

/* As many files from the first on as find room when they are rewritten with nothing left out. */
static size_t fitting(const struct lsm *l, const struct lsm_file *files, size_t count)
{
    uint64_t room = room_bytes(l), bytes = 0;
    size_t fit = 0;
    while (fit < count && bytes + files[fit].bytes <= room)
        bytes += files[fit++].bytes;
    return fit;
}

/* The oldest first; each piece gives back what it held of garbage before the next begins. False:
 * there was no room to begin. */
static bool collect(struct lsm *l, struct mvcc *m, int64_t compacted, const struct lsm_file *files,
                    size_t count)
{
    bool begun = false;
    while (count > 0 && files[0].first_rev <= compacted) {
        size_t fit = fitting(l, files, count);
        if (fit == 0) {
            PROBE(lsm_collect_no_room);
            return begun;
        }
        begun = true;
        int64_t last = files[fit - 1].last_rev;
        rewrite(l, m, compacted, files[0].first_rev, last < compacted ? last : compacted);
        files += fit;
        count -= fit;
    }
    return true;
}

/* One look. `collected` is the compaction that was collected up to last. */
static void tidy(struct lsm *l, struct mvcc *m, int64_t *collected)
{
    struct lsm_meta meta;
    lsm_meta(l, &meta);
    size_t count;
    struct lsm_file *files = lsm__files(l, &count);
    size_t small = 0; /* of the newest */
    while (small < count && files[count - 1 - small].bytes < SMALL_FILE_BYTES)
        small++;

    int64_t compacted = meta.content.compacted;
    if (compacted > *collected && mvcc_compacted(m) == compacted &&
        has_garbage(l, m, files, count)) {
        if (collect(l, m, compacted, files, count))
            *collected = compacted;
    } else if (small >= l->o.small_files_max && fitting(l, files + count - small, small) == small) {
        rewrite(l, m, compacted, files[count - small].first_rev, files[count - 1].last_rev);
    }
    mem_free(files);
}

static void *tidy_main(void *arg)
{
    struct lsm *l = arg;
    int64_t collected = -1;
    pthread_mutex_lock(&l->lock);
    while (!l->tidy_stop) {
        struct mvcc *m = l->tidy_mvcc;
        pthread_mutex_unlock(&l->lock);
        tidy(l, m, &collected);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += TIDY_INTERVAL_S;
        pthread_mutex_lock(&l->lock);
        if (!l->tidy_stop)
            pthread_cond_timedwait(&l->tidy_wake, &l->lock, &until);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

void lsm__tidy_wake(struct lsm *l)
{
    pthread_cond_signal(&l->tidy_wake);
}

void lsm__tidy_start(struct lsm *l, struct mvcc *m)
{
    ASSERT(!l->tidy_running);
    pthread_mutex_lock(&l->lock);
    l->tidy_stop = false;
    l->tidy_mvcc = m;
    pthread_mutex_unlock(&l->lock);
    int rv = pthread_create(&l->tidy_thread, NULL, tidy_main, l);
    if (rv != 0)
        tv_fatal("cannot start a thread: %s", strerror(rv));
    (void)pthread_setname_np(l->tidy_thread, "tidy");
    l->tidy_running = true;
}

void lsm__tidy_end(struct lsm *l)
{
    ASSERT(l->tidy_running);
    pthread_mutex_lock(&l->lock);
    l->tidy_stop = true;
    pthread_cond_signal(&l->tidy_wake);
    pthread_mutex_unlock(&l->lock);
    rocksdb_disable_manual_compaction(l->db); /* breaks off one that runs */
    pthread_join(l->tidy_thread, NULL);
    rocksdb_enable_manual_compaction(l->db);
    pthread_mutex_lock(&l->lock);
    l->tidy_mvcc = NULL;
    pthread_mutex_unlock(&l->lock);
    l->tidy_running = false;
}
