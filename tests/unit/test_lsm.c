/* The durable store: what is written through the store in memory and the persist thread comes back
 * from disk as exactly the state of the entry that the disk names.
 *
 * The workload is a function of seed and index, so the state after any entry can be made again. */
#include "unit.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "storage/lsm.h"

#include <dirent.h>
#include <fcntl.h>
#include <rocksdb/c.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Debian's RocksDB is built without the thread sanitizer, which therefore does not see the atomic
 * counts by which the last user of a file or a block frees it. Only what such a destructor does is
 * left out: our own callbacks, which RocksDB calls, are checked. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:rocksdb::*::~\n";
}

enum { LEASES = 40, NAMES = 6, KEYS = 150, SCRUB_SLICE = 64 };

/* --- folders --- */

static char dir[256];

static void make_dir(void)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(dir, sizeof(dir), "%s/trivet-lsm-XXXXXX", base != NULL ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    ck_assert_ptr_nonnull(d);
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        char below[600];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(below, sizeof(below), "%s/%s", path, e->d_name);
        struct stat st;
        if (lstat(below, &st) == 0 && S_ISDIR(st.st_mode))
            remove_tree(below);
        else
            unlink(below);
    }
    closedir(d);
    rmdir(path);
}

static void remove_dir(void)
{
    remove_tree(dir);
}

/* --- the workload --- */

/* A node's state machine, and what it would hand to the persist thread. */
struct machine {
    struct mvcc *m;
    struct rng rng;
    struct rng turns; /* not part of the state: how entries meet in batches */
    uint64_t index;
    struct persist_meta *metas;
    int64_t ttl[LEASES];  /* 0 = no such lease */
    uint64_t name[NAMES]; /* 0 = absent */
};

static void machine_init(struct machine *x, uint64_t seed)
{
    *x = (struct machine){.m = mvcc_new(NULL)};
    rng_init(&x->rng, seed);
    rng_init(&x->turns, seed + 1000);
}

static void machine_fini(struct machine *x)
{
    persist_metas_free(x->metas);
    mvcc_free(x->m);
}

static struct mvcc_content content_of(const struct mvcc *m)
{
    struct mvcc_content c;
    mvcc_content(m, &c);
    return c;
}

static struct slice random_key(struct machine *x, char text[64])
{
    /* Some keys never change again: what is old is not all garbage. */
    int n = rng_below(&x->rng, 20) == 0
                ? snprintf(text, 64, "/registry/crds/%03u", (unsigned)x->index)
                : snprintf(text, 64, "/registry/pods/%03u", (unsigned)rng_below(&x->rng, KEYS));
    return slice_of(text, (size_t)n);
}

static void put_random(struct machine *x)
{
    char key[64], value[300];
    struct slice k = random_key(x, key);
    size_t size = rng_below(&x->rng, sizeof(value));
    memset(value, (int)('a' + x->index % 26), size);
    (void)mvcc_txn_put(x->m, k, slice_of(value, size), (int64_t)rng_below(&x->rng, 3), NULL);
}

static void delete_random(struct machine *x)
{
    char from[64], to[64];
    struct slice a = random_key(x, from);
    struct slice b = rng_below(&x->rng, 3) == 0 ? random_key(x, to) : SLICE_EMPTY;
    (void)mvcc_txn_delete_range(x->m, a, b, NULL, NULL);
}

static void change_records(struct machine *x)
{
    uint64_t i = rng_below(&x->rng, LEASES), n = rng_below(&x->rng, NAMES);
    if (rng_below(&x->rng, 2) == 0) {
        x->ttl[i] = x->ttl[i] == 0 ? (int64_t)x->index : 0;
        if (x->ttl[i] != 0)
            persist_meta_put_lease(&x->metas, (int64_t)(i + 1) << 50, x->ttl[i]);
        else
            persist_meta_delete_lease(&x->metas, (int64_t)(i + 1) << 50);
    }
    char name[8];
    (void)snprintf(name, sizeof(name), "n%u", (unsigned)n);
    x->name[n] = rng_below(&x->rng, 3) == 0 ? 0 : x->index;
    if (x->name[n] != 0)
        persist_meta_put(&x->metas, slice_of_string(name),
                         slice_of(&x->name[n], sizeof(x->name[n])));
    else
        persist_meta_delete(&x->metas, slice_of_string(name));
}

/* Apply one entry. */
static void machine_step(struct machine *x)
{
    x->index++;
    uint64_t what = rng_below(&x->rng, 100);
    if (what < 2) {
        int64_t now = mvcc_txn_revision(x->m);
        int64_t back = (int64_t)rng_below(&x->rng, 200);
        (void)mvcc_compact(x->m, now - back); /* refused when it is not new */
    } else if (what < 12) {
        change_records(x);
    } else if (what < 15) {
        ; /* an entry that changes nothing */
    } else {
        uint64_t changes = 1 + rng_below(&x->rng, 3);
        mvcc_txn_begin(x->m);
        for (uint64_t i = 0; i < changes; i++)
            what < 80 ? put_random(x) : delete_random(x);
        mvcc_txn_end(x->m);
    }
}

static void machine_publish(struct machine *x, struct persist *p)
{
    mvcc_publish(x->m);
    struct persist_batch *b = mem_alloc_zero(sizeof(*b));
    *b = (struct persist_batch){.applied_index = x->index,
                                .applied_term = 1 + x->index / 1000,
                                .revision = mvcc_revision(x->m),
                                .compacted = mvcc_compacted(x->m),
                                .content = content_of(x->m),
                                .metas = x->metas};
    x->metas = NULL;
    persist_submit(p, b);
    (void)mvcc_scrub(x->m, SCRUB_SLICE);
    epoch_collect(mvcc_epoch(x->m));
}

static void machine_run(struct machine *x, struct persist *p, uint64_t entries)
{
    uint64_t end = x->index + entries;
    while (x->index < end) {
        for (uint64_t turn = 1 + rng_below(&x->turns, 5); turn > 0 && x->index < end; turn--)
            machine_step(x);
        machine_publish(x, p);
    }
}

/* The state after entry `index`, without a disk. */
static void machine_replay(struct machine *x, uint64_t seed, uint64_t index)
{
    machine_init(x, seed);
    while (x->index < index)
        machine_step(x);
    mvcc_publish(x->m);
    persist_metas_free(x->metas);
    x->metas = NULL;
}

/* --- comparing --- */

struct loaded {
    struct lsm *l;
    struct mvcc *m;
    struct lsm_meta meta;
    int64_t ttl[LEASES];
    int64_t last_lease;
};

static void take_lease(void *ctx, int64_t id, int64_t ttl)
{
    struct loaded *x = ctx;
    ck_assert_int_gt(id, x->last_lease);
    x->last_lease = id;
    x->ttl[(id >> 50) - 1] = ttl;
}

static void load(struct loaded *x, const struct lsm_options *o, uint32_t threads)
{
    char text[256] = "";
    *x = (struct loaded){.m = mvcc_new(NULL)};
    int err = lsm_open(dir, o, &x->l, text, sizeof(text));
    ck_assert_msg(err == 0, "%s", text);
    err = lsm_load(x->l, x->m, threads, &x->meta, take_lease, x, text, sizeof(text));
    ck_assert_msg(err == 0, "%s", text);
}

static void unload(struct loaded *x)
{
    lsm_close(x->l);
    mvcc_free(x->m);
}

static void same_version(const struct mvcc_version *a, const struct mvcc_version *b)
{
    ck_assert_int_eq(mvcc_version_mod_revision(a), mvcc_version_mod_revision(b));
    ck_assert_uint_eq(mvcc_version_sub(a), mvcc_version_sub(b));
    ck_assert_int_eq(mvcc_version_is_tombstone(a), mvcc_version_is_tombstone(b));
    ck_assert_int_eq(mvcc_version_is_created(a), mvcc_version_is_created(b));
    ck_assert(slice_equal(mvcc_version_kv(a), mvcc_version_kv(b)));
}

static void same_at(struct mvcc *a, struct mvcc *b, int64_t rev)
{
    struct mvcc_iter x, y;
    struct slice all = slice_of("\0", 1);
    mvcc_iter_init(&x, a, all, all, rev);
    mvcc_iter_init(&y, b, all, all, rev);
    const struct mvcc_version *v, *w;
    do {
        v = mvcc_iter_next(&x);
        w = mvcc_iter_next(&y);
        ck_assert((v == NULL) == (w == NULL));
        if (v != NULL)
            same_version(v, w);
    } while (v != NULL);
}

static void same_history(struct mvcc *a, struct mvcc *b, int64_t from)
{
    struct mvcc_history_cursor x, y;
    ck_assert_int_eq(mvcc_history_seek(a, &x, from), 0);
    ck_assert_int_eq(mvcc_history_seek(b, &y, from), 0);
    const struct mvcc_version *v, *w;
    do {
        v = mvcc_history_next(&x, INT64_MAX);
        w = mvcc_history_next(&y, INT64_MAX);
        ck_assert((v == NULL) == (w == NULL));
        if (v != NULL)
            same_version(v, w);
    } while (v != NULL);
}

static void same_store(struct mvcc *a, struct mvcc *b)
{
    int64_t rev = mvcc_revision(a), compacted = mvcc_compacted(a);
    ck_assert_int_eq(mvcc_revision(b), rev);
    ck_assert_int_eq(mvcc_compacted(b), compacted);
    int64_t first = compacted < 1 ? 1 : compacted;
    for (int64_t at = first; at <= rev; at += 1 + (rev - first) / 20)
        same_at(a, b, at);
    same_at(a, b, rev);
    same_history(a, b, first);
    struct mvcc_hash x, y;
    ck_assert_int_eq(mvcc_hash(a, 0, &x), mvcc_hash(b, 0, &y));
    ck_assert_uint_eq(x.hash, y.hash);
}

static void same_records(const struct machine *want, struct loaded *got)
{
    for (int i = 0; i < LEASES; i++)
        ck_assert_int_eq(want->ttl[i], got->ttl[i]);
    for (unsigned i = 0; i < NAMES; i++) {
        char name[8];
        struct buf b;
        buf_init(&b, 100);
        (void)snprintf(name, sizeof(name), "n%u", i);
        int err = lsm_get(got->l, slice_of_string(name), &b);
        ck_assert_int_eq(err, want->name[i] == 0 ? TV_ENOTFOUND : 0);
        if (err == 0)
            ck_assert(slice_equal(buf_slice(&b), slice_of(&want->name[i], sizeof(uint64_t))));
        buf_fini(&b);
    }
}

/* What is on disk is the state of the entry it names. Returns that entry. */
static uint64_t check_disk(uint64_t seed)
{
    struct loaded got;
    struct machine want;
    load(&got, NULL, 1 + (uint32_t)(seed % 3));
    machine_replay(&want, seed, got.meta.applied_index);
    ck_assert_int_eq(got.meta.revision, mvcc_revision(want.m));
    ck_assert_int_eq(got.meta.compacted, mvcc_compacted(want.m));
    if (got.meta.applied_index > 0)
        ck_assert_uint_eq(got.meta.applied_term, 1 + got.meta.applied_index / 1000);
    same_store(want.m, got.m);
    same_records(&want, &got);
    uint64_t index = got.meta.applied_index;
    machine_fini(&want);
    unload(&got);
    return index;
}

static void scrub_all(struct machine *x)
{
    while (!mvcc_scrub_is_done(x->m)) {
        (void)mvcc_scrub(x->m, SCRUB_SLICE);
        epoch_collect(mvcc_epoch(x->m));
        usleep(100); /* the persist thread may hold it back */
    }
}

static struct persist *start(struct lsm *l, struct mvcc *m, uint64_t flush_entries)
{
    struct persist_options o;
    persist_options_init(&o);
    o.lsm = l;
    o.mvcc = m;
    o.flush_entries = flush_entries;
    o.pace_ms = 1;
    return persist_new(&o);
}

static struct lsm *open_lsm(const struct lsm_options *o)
{
    char text[256] = "";
    struct lsm *l;
    int err = lsm_open(dir, o, &l, text, sizeof(text));
    ck_assert_msg(err == 0, "%s", text);
    return l;
}

/* --- the cases --- */

START_TEST(test_fresh)
{
    make_dir();
    struct loaded got;
    load(&got, NULL, 2);
    ck_assert_uint_eq(got.meta.applied_index, 0);
    ck_assert_int_eq(got.meta.revision, 1);
    ck_assert_int_eq(got.meta.compacted, -1);
    ck_assert_int_eq(mvcc_revision(got.m), 1);

    /* Records without a persist thread: the newest of equal names wins. */
    struct persist_meta *metas = NULL;
    persist_meta_put(&metas, SLICE_LITERAL("id"), SLICE_LITERAL("old"));
    persist_meta_delete(&metas, SLICE_LITERAL("id"));
    persist_meta_put(&metas, SLICE_LITERAL("id"), SLICE_LITERAL("new"));
    persist_meta_put(&metas, SLICE_LITERAL("gone"), SLICE_LITERAL("x"));
    persist_meta_delete(&metas, SLICE_LITERAL("gone"));
    lsm_put(got.l, metas);
    unload(&got);

    load(&got, NULL, 2);
    struct buf b;
    buf_init(&b, 100);
    ck_assert_int_eq(lsm_get(got.l, SLICE_LITERAL("id"), &b), 0);
    ck_assert(slice_equal(buf_slice(&b), SLICE_LITERAL("new")));
    ck_assert_int_eq(lsm_get(got.l, SLICE_LITERAL("gone"), &b), TV_ENOTFOUND);
    buf_fini(&b);
    unload(&got);
    remove_dir();
}
END_TEST

START_TEST(test_round_trips)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        make_dir();
        struct machine x;
        machine_init(&x, seed);
        for (int round = 0; round < 3; round++) {
            /* The store goes on in memory; the disk is closed and opened between. */
            struct lsm *l = open_lsm(NULL);
            struct persist *p = start(l, x.m, 100 + 300 * (seed % 2));
            machine_run(&x, p, 700);
            persist_free(p);
            lsm_close(l);
            ck_assert_uint_eq(check_disk(seed), x.index);
        }
        machine_fini(&x);
        remove_dir();
    }
}
END_TEST

START_TEST(test_restart_from_disk)
{
    make_dir();
    /* Each session begins with what the last one left and applies the lost entries again. */
    uint64_t seed = 77, reached = 0;
    for (int session = 0; session < 6; session++) {
        struct loaded got;
        load(&got, NULL, 2);
        ck_assert_uint_ge(got.meta.applied_index, reached);
        struct machine x;
        machine_replay(&x, seed, got.meta.applied_index);
        mvcc_free(x.m);
        x.m = got.m;
        struct persist *p = start(got.l, x.m, 90);
        while (x.index < got.meta.applied_index + 400) {
            machine_step(&x);
            if (x.index % 3 == 0)
                machine_publish(&x, p);
        }
        machine_publish(&x, p);
        if (session % 2 == 0) {
            persist_request_flush(p);
            while (persist_flushed_index(p) < x.index)
                usleep(1000);
            ck_assert_uint_eq(persist_backlog(p), 0);
            reached = x.index;
        }
        persist_abort(p);
        lsm_close(got.l);
        machine_fini(&x);
    }
    ck_assert_uint_gt(reached, 0);
    remove_dir();
}
END_TEST

static void crash_child(uint64_t seed)
{
    struct machine x;
    machine_init(&x, seed);
    struct lsm_options o;
    lsm_options_init(&o);
    o.garbage_versions_min = 50;
    o.garbage_percent = 10;
    o.small_files_max = 3;
    struct lsm *l = open_lsm(&o);
    struct persist *p = start(l, x.m, 20 + seed % 50);
    for (;;) { /* until killed */
        machine_run(&x, p, 200 + seed * 20);
        if (seed % 2 == 0)
            continue;
        /* Let the disk come up with the memory now and then, or it never finds garbage. */
        persist_request_flush(p);
        scrub_all(&x);
        usleep(20000);
    }
}

static void wait_ok(pid_t pid)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: status %x", status);
}

START_TEST(test_kill_at_any_time)
{
    /* RocksDB's threads do not survive a fork: this process never opens one. */
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    uint64_t committed = 0;
    for (uint64_t seed = 1; seed <= 25; seed++) {
        make_dir();
        struct rng rng;
        rng_init(&rng, seed);
        pid_t pid = fork();
        if (pid == 0)
            crash_child(seed);
        usleep((useconds_t)(20000 + rng_below(&rng, 400000)));
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        pid = fork();
        if (pid == 0) {
            uint64_t index = check_disk(seed);
            _exit(write(fds[1], &index, sizeof(index)) == sizeof(index) ? 0 : 1);
        }
        wait_ok(pid);
        uint64_t index;
        ck_assert_int_eq(read(fds[0], &index, sizeof(index)), sizeof(index));
        committed += index > 0;
        remove_dir();
    }
    ck_assert_uint_gt(committed, 5); /* or the kills came too early to say anything */
}
END_TEST

static int count_files(const char *ending)
{
    int count = 0;
    DIR *d = opendir(dir);
    struct dirent *e;
    while ((e = readdir(d)) != NULL)
        count += strstr(e->d_name, ending) != NULL;
    closedir(d);
    return count;
}

START_TEST(test_many_restarts)
{
    make_dir();
    struct machine x;
    machine_init(&x, 12);
    for (int i = 0; i < 30; i++) {
        struct lsm *l = open_lsm(NULL);
        if (i == 0) {
            struct persist *p = start(l, x.m, 50);
            machine_run(&x, p, 300);
            persist_free(p);
        }
        lsm_close(l);
    }
    ck_assert_int_lt(count_files(".log"), 15);
    ck_assert_uint_eq(check_disk(12), 300);
    machine_fini(&x);
    remove_dir();
}
END_TEST

START_TEST(test_one_large_revision)
{
    make_dir();
    struct lsm *l = open_lsm(NULL);
    struct mvcc *m = mvcc_new(NULL);
    struct persist *p = start(l, m, 1000);
    for (int round = 0; round < 2; round++) {
        mvcc_txn_begin(m);
        for (int i = 0; i < 9000; i++) {
            char key[32];
            int n = snprintf(key, sizeof(key), "k%06d", i);
            mvcc_txn_put(m, slice_of(key, (size_t)n), slice_of_string("v"), 0, NULL);
        }
        mvcc_txn_end(m);
        mvcc_publish(m);
        struct persist_batch *b = mem_alloc_zero(sizeof(*b));
        *b = (struct persist_batch){.applied_index = (uint64_t)round + 1,
                                    .applied_term = 1,
                                    .revision = mvcc_revision(m),
                                    .compacted = -1,
                                    .content = content_of(m)};
        persist_submit(p, b);
    }
    persist_free(p);
    lsm_close(l);
    struct loaded got;
    load(&got, NULL, 3);
    same_store(m, got.m);
    struct mvcc_stats st;
    mvcc_stats(got.m, &st);
    ck_assert_uint_eq(st.versions, 18000);
    unload(&got);
    mvcc_free(m);
    remove_dir();
}
END_TEST

static struct lsm_stats stats_of(struct lsm *l)
{
    struct lsm_stats st;
    lsm_stats(l, &st);
    return st;
}

static void collect_garbage(const struct lsm_options *o)
{
    make_dir();
    struct lsm *l = open_lsm(o);
    struct machine x;
    machine_init(&x, 5);
    struct persist *p = start(l, x.m, 500);
    machine_run(&x, p, 6000);
    mvcc_compact(x.m, mvcc_txn_revision(x.m) - 100);
    x.index++;
    machine_publish(&x, p);
    scrub_all(&x);
    x.index++; /* what is left adds up to a settled sum only now */
    machine_publish(&x, p);
    persist_request_flush(p);
    while (persist_flushed_index(p) < x.index)
        usleep(1000);
    for (int i = 0; i < 3000 && stats_of(l).collections == 0; i++)
        usleep(10000);
    ck_assert_uint_gt(stats_of(l).collections, 0);
    struct mvcc_stats st;
    mvcc_stats(x.m, &st);
    /* What is left is what memory holds, and the compaction's own revision: that is kept. */
    ck_assert_uint_le(stats_of(l).versions, st.versions + 10);
    persist_free(p);
    lsm_close(l);

    struct loaded got;
    load(&got, NULL, 2);
    scrub_all(&x);
    same_store(x.m, got.m);
    same_records(&x, &got);
    unload(&got);
    machine_fini(&x);
    remove_dir();
}

START_TEST(test_garbage_is_collected)
{
    struct lsm_options o;
    lsm_options_init(&o);
    o.small_store_bytes = 0;
    o.garbage_versions_min = 1000;
    o.garbage_percent = 30;
    collect_garbage(&o);
    /* Of a small store less is kept. */
    lsm_options_init(&o);
    collect_garbage(&o);
}
END_TEST

START_TEST(test_small_files_are_merged)
{
    make_dir();
    struct lsm *l = open_lsm(NULL);
    struct machine x;
    machine_init(&x, 6);
    struct persist *p = start(l, x.m, 1);
    for (int i = 0; i < 3000 && stats_of(l).collections == 0; i++) {
        machine_run(&x, p, 5);
        usleep(10000);
    }
    ck_assert_uint_gt(stats_of(l).collections, 0);
    uint64_t commits = stats_of(l).commits;
    ck_assert_uint_lt(stats_of(l).files_count, commits);
    persist_free(p);
    lsm_close(l);
    struct loaded got;
    load(&got, NULL, 2);
    scrub_all(&x);
    same_store(x.m, got.m);
    unload(&got);
    machine_fini(&x);
    remove_dir();
}
END_TEST

static void flip_bytes_of_largest_table(void)
{
    char path[600], largest[600] = "";
    off_t size = 0;
    DIR *d = opendir(dir);
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        struct stat st;
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (strstr(e->d_name, ".sst") != NULL && stat(path, &st) == 0 && st.st_size > size) {
            size = st.st_size;
            memcpy(largest, path, sizeof(path));
        }
    }
    closedir(d);
    int fd = open(largest, O_RDWR);
    ck_assert_int_ge(fd, 0);
    uint8_t byte;
    ck_assert_int_eq(pread(fd, &byte, 1, size / 3), 1);
    byte ^= 0x40;
    ck_assert_int_eq(pwrite(fd, &byte, 1, size / 3), 1);
    close(fd);
}

START_TEST(test_damage_is_reported)
{
    make_dir();
    struct lsm *l = open_lsm(NULL);
    struct machine x;
    machine_init(&x, 9);
    struct persist *p = start(l, x.m, 100000);
    machine_run(&x, p, 3000);
    persist_free(p);
    lsm_close(l);
    flip_bytes_of_largest_table();

    char text[256] = "";
    struct mvcc *m = mvcc_new(NULL);
    mvcc_txn_begin(m);
    mvcc_txn_put(m, SLICE_LITERAL("kept"), SLICE_LITERAL("v"), 0, NULL);
    mvcc_txn_end(m);
    mvcc_publish(m);
    l = open_lsm(NULL);
    struct lsm_meta meta;
    int err = lsm_load(l, m, 2, &meta, NULL, NULL, text, sizeof(text));
    ck_assert_int_eq(err, TV_ECORRUPT);
    ck_assert_uint_gt(strlen(text), 0);
    ck_assert_ptr_nonnull(mvcc_get(m, SLICE_LITERAL("kept"), 0));
    lsm_close(l);
    mvcc_free(m);
    machine_fini(&x);
    remove_dir();
}
END_TEST

/* One version gets another value; RocksDB's checksums are right. */
static void alter_a_version(bool drop)
{
    char *message = NULL, key[32];
    size_t key_size, size;
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_num_levels(o, 2);
    rocksdb_t *db = rocksdb_open(o, dir, &message);
    ck_assert_ptr_null(message);
    rocksdb_readoptions_t *ro = rocksdb_readoptions_create();
    rocksdb_iterator_t *it = rocksdb_create_iterator(db, ro);
    rocksdb_iter_seek_to_last(it); /* 's' */
    do
        rocksdb_iter_prev(it);
    while (rocksdb_iter_key(it, &key_size)[0] != 'k' ||
           rocksdb_iter_value(it, &size)[size - 1] < 'a' || /* a value's last byte */
           rocksdb_iter_value(it, &size)[size - 1] > 'z');
    const char *found = rocksdb_iter_key(it, &key_size);
    memcpy(key, found, key_size);
    char *value = malloc(4096);
    found = rocksdb_iter_value(it, &size);
    memcpy(value, found, size);
    value[size - 1] = value[size - 1] == 'a' ? 'b' : 'a';
    rocksdb_iter_destroy(it);
    rocksdb_writeoptions_t *wo = rocksdb_writeoptions_create();
    if (drop)
        rocksdb_delete(db, wo, key, key_size, &message);
    else
        rocksdb_put(db, wo, key, key_size, value, size, &message);
    ck_assert_ptr_null(message);
    free(value);
    rocksdb_writeoptions_destroy(wo);
    rocksdb_readoptions_destroy(ro);
    rocksdb_close(db);
    rocksdb_options_destroy(o);
}

START_TEST(test_versions_must_add_up)
{
    for (int drop = 0; drop <= 1; drop++) {
        make_dir();
        struct lsm *l = open_lsm(NULL);
        struct machine x;
        machine_init(&x, 9);
        struct persist *p = start(l, x.m, 1000);
        machine_run(&x, p, 3000);
        persist_free(p);
        lsm_close(l);
        alter_a_version(drop != 0);
        char text[256] = "";
        struct mvcc *m = mvcc_new(NULL);
        struct lsm_meta meta;
        l = open_lsm(NULL);
        ck_assert_int_eq(lsm_load(l, m, 2, &meta, NULL, NULL, text, sizeof(text)), TV_ECORRUPT);
        ck_assert_msg(strstr(text, "add up") != NULL, "%s", text);
        lsm_close(l);
        mvcc_free(m);
        machine_fini(&x);
        remove_dir();
    }
}
END_TEST

START_TEST(test_current_is_gone)
{
    make_dir();
    struct lsm *l = open_lsm(NULL);
    struct persist_meta *metas = NULL;
    persist_meta_put(&metas, SLICE_LITERAL("n"), SLICE_LITERAL("v"));
    lsm_put(l, metas);
    lsm_close(l);
    char path[300], text[256] = "";
    (void)snprintf(path, sizeof(path), "%s/CURRENT", dir);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(lsm_open(dir, NULL, &l, text, sizeof(text)), TV_ECORRUPT);
    ck_assert_msg(strstr(text, "CURRENT: offset 0") != NULL, "%s", text);
    remove_dir();
}
END_TEST

START_TEST(test_save)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        make_dir();
        struct machine x;
        machine_init(&x, seed);
        while (x.index < 900)
            machine_step(&x);
        mvcc_publish(x.m);
        if (seed == 2)
            while (mvcc_scrub(x.m, SCRUB_SLICE))
                ;
        struct lsm *l = open_lsm(NULL);
        lsm_save(l, x.m, x.index, 1 + x.index / 1000, x.metas);
        x.metas = NULL;
        lsm_close(l);
        ck_assert_uint_eq(check_disk(seed), 900);
        l = open_lsm(NULL); /* and on from there */
        struct persist *p = start(l, x.m, 100);
        machine_run(&x, p, 500);
        persist_free(p);
        lsm_close(l);
        ck_assert_uint_eq(check_disk(seed), 1400);
        machine_fini(&x);
        remove_dir();
    }
}
END_TEST

/* --- another store behind the persist thread, in step --- */

struct recorder {
    uint64_t attached, detached, puts, commits;
    int64_t last_put;
    struct lsm_meta last;
    uint64_t records;
};

static void rec_attach(void *ctx, struct mvcc *m, struct lsm_meta *ret_meta)
{
    struct recorder *r = ctx;
    r->attached++;
    *ret_meta = LSM_META_FRESH;
}

static void rec_put(void *ctx, const struct mvcc_version *v)
{
    struct recorder *r = ctx;
    ck_assert_int_ge(mvcc_version_mod_revision(v), r->last_put);
    r->last_put = mvcc_version_mod_revision(v);
    r->puts++;
}

static void rec_commit(void *ctx, const struct lsm_meta *meta, const struct persist_meta *metas)
{
    struct recorder *r = ctx;
    ck_assert_int_le(r->last_put, meta->revision);
    ck_assert_uint_gt(meta->applied_index, r->last.applied_index);
    r->last = *meta;
    r->commits++;
    for (; metas != NULL; metas = metas->next)
        r->records++;
}

static void rec_detach(void *ctx)
{
    ((struct recorder *)ctx)->detached++;
}

START_TEST(test_in_step)
{
    struct recorder r = {0};
    struct persist_store store = {.ctx = &r,
                                  .attach = rec_attach,
                                  .put = rec_put,
                                  .commit = rec_commit,
                                  .detach = rec_detach};
    struct machine x;
    machine_init(&x, 3);
    struct persist_options o;
    persist_options_init(&o);
    o.mvcc = x.m;
    o.store = &store;
    o.threaded = false;
    o.flush_entries = 1000000;
    struct persist *p = persist_new(&o);
    ck_assert_uint_eq(r.attached, 1);
    machine_run(&x, p, 200);
    ck_assert_uint_eq(r.commits, 0);
    ck_assert_uint_gt(r.puts, 0);
    ck_assert_uint_eq(persist_backlog(p), 0);
    ck_assert_uint_eq(persist_flushed_index(p), 0);
    persist_request_flush(p);
    ck_assert_uint_eq(r.commits, 1);
    ck_assert_uint_eq(persist_flushed_index(p), 200);
    ck_assert_int_eq(r.last.revision, mvcc_revision(x.m));
    persist_request_flush(p); /* nothing waits */
    ck_assert_uint_eq(r.commits, 1);
    machine_run(&x, p, 10);
    persist_abort(p);
    ck_assert_uint_eq(r.commits, 1);
    ck_assert_uint_eq(r.detached, 1);
    machine_fini(&x);
}
END_TEST

/* --- a store without room --- */

static struct {
    _Atomic bool room;
    _Atomic int puts, commits;
} tight;

static void tight_attach(void *ctx, struct mvcc *m, struct lsm_meta *ret_meta)
{
    (void)ctx, (void)m;
    *ret_meta = LSM_META_FRESH;
}

static void tight_put(void *ctx, const struct mvcc_version *v)
{
    (void)ctx, (void)v;
    ck_assert(tight.room);
    tight.puts++;
}

static void tight_commit(void *ctx, const struct lsm_meta *meta, const struct persist_meta *metas)
{
    (void)ctx, (void)meta, (void)metas;
    ck_assert(tight.room);
    tight.commits++;
}

static bool tight_has_room(void *ctx)
{
    (void)ctx;
    return tight.room;
}

static void tight_detach(void *ctx)
{
    (void)ctx;
}

static void tight_submit(struct mvcc *m, struct persist *p, uint64_t index)
{
    const struct mvcc_version *prev;
    mvcc_txn_begin(m);
    (void)mvcc_txn_put(m, SLICE_LITERAL("k"), SLICE_LITERAL("v"), 0, &prev);
    mvcc_txn_end(m);
    mvcc_publish(m);
    struct persist_batch *b = mem_alloc_zero(sizeof(*b));
    b->applied_index = index;
    b->revision = mvcc_revision(m);
    b->compacted = -1;
    b->content = content_of(m);
    persist_submit(p, b);
}

static void wait_for(bool (*done)(const struct persist *p), const struct persist *p)
{
    while (!done(p))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static bool has_none(const struct persist *p)
{
    return persist_lacks_room(p);
}

static bool caught_up(const struct persist *p)
{
    return persist_flushed_index(p) == 20 && !persist_lacks_room(p);
}

START_TEST(test_no_room)
{
    struct persist_store store = {.attach = tight_attach,
                                  .put = tight_put,
                                  .commit = tight_commit,
                                  .has_room = tight_has_room,
                                  .detach = tight_detach};
    struct mvcc *m = mvcc_new(NULL);
    struct persist_options o;
    persist_options_init(&o);
    o.mvcc = m;
    o.store = &store;
    tight.room = false;
    struct persist *p = persist_new(&o);
    for (uint64_t i = 1; i <= 20; i++)
        tight_submit(m, p, i);
    persist_request_flush(p);
    wait_for(has_none, p);
    ck_assert_int_eq(tight.puts + tight.commits, 0);
    ck_assert_uint_eq(persist_flushed_index(p), 0);
    tight.room = true;
    wait_for(caught_up, p); /* the flush that was asked for is not forgotten */
    ck_assert_int_eq(tight.puts, 20);
    ck_assert_int_eq(tight.commits, 1);
    /* It ends without room too, and what was not committed is in the log. */
    tight.room = false;
    tight_submit(m, p, 21);
    wait_for(has_none, p);
    persist_free(p);
    ck_assert_int_eq(tight.commits, 1);
    mvcc_free(m);
}
END_TEST

UNIT_MAIN("lsm", test_fresh, test_round_trips, test_restart_from_disk, test_kill_at_any_time,
          test_many_restarts, test_one_large_revision, test_garbage_is_collected,
          test_small_files_are_merged, test_damage_is_reported, test_versions_must_add_up,
          test_current_is_gone, test_save, test_in_step, test_no_room)
