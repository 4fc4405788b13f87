/* Collecting what compactions gave up, and merging small files.
 *
 * Nothing is deleted record by record: when enough of what is on disk is garbage, the files up to
 * the committed compaction are rewritten through a filter that leaves out each version below that
 * compaction that is not visible there; those that are were listed before, from the store in memory
 * (lsm_live.h). Tables are not touched otherwise: a put is written once, and again only when as
 * much garbage has gathered as the share in the options says.
 *
 * Invariants:
 * 1. The filter judges by the compaction that the committed sum is for (struct mvcc_content): what
 *    it drops is not counted there, nor would it be for a later one.
 * 2. Files are rewritten in the order of revisions, so that one that was broken off has left out
 *    nothing of a key whose older versions are still there: a tombstone goes after what it deletes.
 * 3. Nothing is rewritten that may find no room on the disk: RocksDB would take no commit after
 * that. What is collected is rewritten in pieces that do find room.
 *
 * Threads: the tidy thread decides and waits; the filter runs on RocksDB's. */
#include "lsm_internal.h"
#include "lsm_live.h"

#include "base/assert.h"
#include "base/background.h"
#include "base/clock.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    TIDY_INTERVAL_S = 5,
    TIDY_NICENESS = 19, /* as RocksDB's threads */
    GIVE_WAY_STEPS = 256,
    PACE_BYTES = 128 << 10,
    SMALL_FILE_BYTES = 8 << 20,
    SMALL_FILE_VERSIONS = 50000,
    ROOM_KEPT_BYTES = 128 << 20, /* for commits meanwhile */
    /* BottommostLevelCompaction::kForceOptimized: rewrite the last level, but each file once. */
    FORCE_LAST_LEVEL = 3,
};

/* --- the filter --- */

struct filter {
    const struct lsm_live *live;
    struct metric_counter *paused_ns; /* NULL: nobody asks */
    size_t at;                        /* in the list */
    uint32_t steps;
    uint64_t due_ns; /* see pace() */
    uint64_t read_bytes;
};

/* RocksDB limits what is written, which of garbage is nothing; so this limits what is read. */
static void pace(struct filter *f)
{
    uint64_t now_ns = clock_mono_ns();
    f->due_ns += f->read_bytes * 1000000000 / LSM_COLLECT_BYTES_PER_SECOND;
    f->read_bytes = 0;
    if (now_ns >= f->due_ns) {
        f->due_ns = now_ns; /* what it is behind is not made up for */
        return;
    }
    uint64_t sleep_ns = f->due_ns - now_ns;
    (void)nanosleep(&(struct timespec){.tv_sec = (time_t)(sleep_ns / 1000000000),
                                       .tv_nsec = (long)(sleep_ns % 1000000000)},
                    NULL);
    if (f->paused_ns != NULL)
        metric_add_shared(f->paused_ns, sleep_ns);
}

static unsigned char filter_one(void *state, int level, const char *key, size_t key_size,
                                const char *value, size_t value_size, char **new_value,
                                size_t *new_value_size, unsigned char *value_changed)
{
    struct filter *f = state;
    if (++f->steps % GIVE_WAY_STEPS == 0)
        background_give_way(f->paused_ns);
    f->read_bytes += key_size + value_size;
    if (f->read_bytes >= PACE_BYTES)
        pace(f);
    int64_t main;
    uint32_t sub;
    bool tombstone;
    if (!lsm__kv_key_parse((const uint8_t *)key, key_size, &main, &sub, &tombstone) ||
        main >= f->live->rev)
        return 0;
    return tombstone || !lsm__live_has(f->live, &f->at, main, sub);
}

static void filter_free(void *state)
{
    mem_free(state);
}

static const char *filter_name(void *state)
{
    return "trivet.garbage";
}

static struct metric_counter *pause_counter(struct lsm *l)
{
    return l->o.meters != NULL ? &l->o.meters->tidy_pause : NULL;
}

static void no_state_free(void *state)
{
}

/* NULL: this compaction filters nothing. */
static rocksdb_compactionfilter_t *filter_new(void *state,
                                              rocksdb_compactionfiltercontext_t *context)
{
    struct lsm *l = state;
    const struct lsm_live *live = atomic_load_explicit(&l->collect, memory_order_acquire);
    if (live == NULL || !rocksdb_compactionfiltercontext_is_manual_compaction(context))
        return NULL;
    struct filter *f = mem_alloc(sizeof(*f));
    *f = (struct filter){.live = live, .paused_ns = pause_counter(l), .due_ns = clock_mono_ns()};
    return rocksdb_compactionfilter_create(f, filter_free, filter_one, filter_name);
}

rocksdb_compactionfilterfactory_t *lsm__filter_factory(struct lsm *l)
{
    return rocksdb_compactionfilterfactory_create(l, no_state_free, filter_new, filter_name);
}

/* --- the tidy thread --- */

/* What of it is in the kernel's cache goes. RocksDB gave its pages back while they were still being
 * written, and Linux then keeps a mark on them (PG_reclaim) that it takes for one to read far ahead
 * from (PG_readahead, the same bit). */
static void uncache(const struct lsm *l, const struct lsm_file *file)
{
    char path[LSM_PATH_BYTES_MAX];
    int n = snprintf(path, sizeof(path), "%s/%s", l->dir, file->name);
    int fd = n > 0 && n < (int)sizeof(path) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return; /* then it is read as it is */
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)close(fd);
}

/* Rewrite the table files that hold revisions of [first, last]; what is below `live`'s compaction
 * and not in it is left out. NULL: nothing is. */
static void rewrite(struct lsm *l, const struct lsm_live *live, int64_t first, int64_t last)
{
    uint8_t begin[9] = "k", end[9] = "k";
    lsm__put_be64(begin + 1, (uint64_t)first);
    lsm__put_be64(end + 1, (uint64_t)last);
    rocksdb_compactoptions_t *o = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_exclusive_manual_compaction(o, 0);
    rocksdb_compactoptions_set_bottommost_level_compaction(o, FORCE_LAST_LEVEL);

    atomic_store_explicit(&l->collect, live, memory_order_release);
    /* A failure leaves everything as it was, or makes the next commit fail. */
    rocksdb_compact_range_opt(l->db, o, (const char *)begin, sizeof(begin), (const char *)end,
                              sizeof(end));
    atomic_store_explicit(&l->collect, NULL, memory_order_release);
    rocksdb_compactoptions_destroy(o);
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
    uint64_t bytes = lsm__room_bytes(l);
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

static bool may_go_on(void *ctx)
{
    struct lsm *l = ctx;
    background_give_way(pause_counter(l));
    pthread_mutex_lock(&l->lock);
    bool go_on = !l->tidy_stop;
    pthread_mutex_unlock(&l->lock);
    return go_on;
}

/* The oldest first; each piece gives back what it held of garbage before the next begins. False:
 * it could not begin. */
static bool collect(struct lsm *l, struct mvcc *m, int64_t compacted, const struct lsm_file *files,
                    size_t count)
{
    struct lsm_live live;
    if (count == 0 || files[0].first_rev > compacted)
        return true;
    if (lsm__live_gather(m, compacted, may_go_on, l, &live) != 0)
        return false;
    bool begun = false;
    while (count > 0 && files[0].first_rev <= compacted) {
        size_t fit = fitting(l, files, count);
        if (fit == 0) {
            PROBE(lsm_collect_no_room);
            break;
        }
        begun = true;
        int64_t last = files[fit - 1].last_rev;
        for (size_t i = 0; i < fit && files[i].first_rev <= compacted; i++)
            uncache(l, &files[i]);
        rewrite(l, &live, files[0].first_rev, last < compacted ? last : compacted);
        files += fit;
        count -= fit;
    }
    lsm__live_free(&live);
    return begun;
}

/* Of values that compress well a commit's file has few bytes and as many versions as ever: to merge
 * such would cost the CPU of them all, again and again while much is put. */
static bool is_small(const struct lsm_file *file)
{
    return file->bytes < SMALL_FILE_BYTES && file->versions < SMALL_FILE_VERSIONS;
}

/* One look. `collected` is the compaction that was collected up to last. */
static void tidy(struct lsm *l, struct mvcc *m, int64_t *collected)
{
    struct lsm_meta meta;
    lsm_meta(l, &meta);
    size_t count;
    struct lsm_file *files = lsm__files(l, &count);
    size_t small = 0; /* of the newest */
    while (small < count && is_small(&files[count - 1 - small]))
        small++;

    int64_t compacted = meta.content.compacted;
    if (compacted > *collected && mvcc_compacted(m) == compacted &&
        has_garbage(l, m, files, count)) {
        if (collect(l, m, compacted, files, count))
            *collected = compacted;
    } else if (small >= l->o.small_files_max && fitting(l, files + count - small, small) == small) {
        rewrite(l, NULL, files[count - small].first_rev, files[count - 1].last_rev);
    }
    mem_free(files);
}

static void *tidy_main(void *arg)
{
    struct lsm *l = arg;
    int64_t collected = -1;
    background_thread(TIDY_NICENESS);
    pthread_mutex_lock(&l->lock);
    while (!l->tidy_stop) {
        struct mvcc *m = l->tidy_mvcc;
        pthread_mutex_unlock(&l->lock);
        if (lsm__has_room_to_commit(l))
            lsm__keep_spare(l);
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
