/* A store in memory that is changed at random and from a seed, what is on disk of it, and both
 * compared. */
#ifndef TESTS_UNIT_LSM_RIG_H
#define TESTS_UNIT_LSM_RIG_H

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
    return "race:rocksdb::*::~\nrace:rocksdb::Version::Unref\n";
}

enum { LEASES = 40, NAMES = 6, KEYS = 150, SCRUB_SLICE = 64 };

/* --- folders --- */

static char dir[256];

static inline void make_dir(void)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(dir, sizeof(dir), "%s/trivet-lsm-XXXXXX", base != NULL ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static inline void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    ck_assert_ptr_nonnull(d);
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        char below[600];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        int size = snprintf(below, sizeof(below), "%s/%s", path, e->d_name);
        ck_assert_int_lt(size, (int)sizeof(below));
        struct stat st;
        if (lstat(below, &st) == 0 && S_ISDIR(st.st_mode))
            remove_tree(below);
        else
            unlink(below);
    }
    closedir(d);
    rmdir(path);
}

static inline void remove_dir(void)
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

static inline void machine_init(struct machine *x, uint64_t seed)
{
    *x = (struct machine){.m = mvcc_new(NULL)};
    rng_init(&x->rng, seed);
    rng_init(&x->turns, seed + 1000);
}

static inline void machine_fini(struct machine *x)
{
    persist_metas_free(x->metas);
    mvcc_free(x->m);
}

static inline struct mvcc_content content_of(const struct mvcc *m)
{
    struct mvcc_content c;
    mvcc_content(m, &c);
    return c;
}

static inline struct slice random_key(struct machine *x, char text[64])
{
    /* Some keys never change again: what is old is not all garbage. */
    int n = rng_below(&x->rng, 20) == 0
                ? snprintf(text, 64, "/registry/crds/%03u", (unsigned)x->index)
                : snprintf(text, 64, "/registry/pods/%03u", (unsigned)rng_below(&x->rng, KEYS));
    return slice_of(text, (size_t)n);
}

static inline void put_random(struct machine *x)
{
    char key[64], value[300];
    struct slice k = random_key(x, key);
    size_t size = rng_below(&x->rng, sizeof(value));
    memset(value, (int)('a' + x->index % 26), size);
    (void)mvcc_txn_put(x->m, k, slice_of(value, size), (int64_t)rng_below(&x->rng, 3), NULL);
}

static inline void delete_random(struct machine *x)
{
    char from[64], to[64];
    struct slice a = random_key(x, from);
    struct slice b = rng_below(&x->rng, 3) == 0 ? random_key(x, to) : SLICE_EMPTY;
    (void)mvcc_txn_delete_range(x->m, a, b, NULL, NULL);
}

static inline void change_records(struct machine *x)
{
    uint64_t i = rng_below(&x->rng, LEASES), n = rng_below(&x->rng, NAMES);
    if (rng_below(&x->rng, 2) == 0) {
        x->ttl[i] = x->ttl[i] == 0 ? (int64_t)x->index : 0;
        const struct lsm_lease lease = {
            .id = (int64_t)(i + 1) << 50, .granted_ttl = x->ttl[i], .remaining_ttl = x->ttl[i] / 3};
        if (x->ttl[i] != 0)
            persist_meta_put_lease(&x->metas, &lease);
        else
            persist_meta_delete_lease(&x->metas, lease.id);
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
static inline void machine_step(struct machine *x)
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

static inline void machine_publish(struct machine *x, struct persist *p)
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

static inline void machine_run(struct machine *x, struct persist *p, uint64_t entries)
{
    uint64_t end = x->index + entries;
    while (x->index < end) {
        for (uint64_t turn = 1 + rng_below(&x->turns, 5); turn > 0 && x->index < end; turn--)
            machine_step(x);
        machine_publish(x, p);
    }
}

/* The state after entry `index`, without a disk. */
static inline void machine_replay(struct machine *x, uint64_t seed, uint64_t index)
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

static inline void take_lease(void *ctx, const struct lsm_lease *lease)
{
    struct loaded *x = ctx;
    ck_assert_int_gt(lease->id, x->last_lease);
    ck_assert_int_eq(lease->remaining_ttl, lease->granted_ttl / 3);
    x->last_lease = lease->id;
    x->ttl[(lease->id >> 50) - 1] = lease->granted_ttl;
}

static inline void load(struct loaded *x, const struct lsm_options *o, uint32_t threads)
{
    char text[256] = "";
    *x = (struct loaded){.m = mvcc_new(NULL)};
    int err = lsm_open(dir, o, &x->l, text, sizeof(text));
    ck_assert_msg(err == 0, "%s", text);
    err = lsm_load(x->l, x->m, threads, &x->meta, take_lease, x, text, sizeof(text));
    ck_assert_msg(err == 0, "%s", text);
}

static inline void unload(struct loaded *x)
{
    lsm_close(x->l);
    mvcc_free(x->m);
}

static inline void same_version(const struct mvcc_version *a, const struct mvcc_version *b)
{
    ck_assert_int_eq(mvcc_version_mod_revision(a), mvcc_version_mod_revision(b));
    ck_assert_uint_eq(mvcc_version_sub(a), mvcc_version_sub(b));
    ck_assert_int_eq(mvcc_version_is_tombstone(a), mvcc_version_is_tombstone(b));
    ck_assert_int_eq(mvcc_version_is_created(a), mvcc_version_is_created(b));
    ck_assert(slice_equal(mvcc_version_kv(a), mvcc_version_kv(b)));
}

static inline void same_at(struct mvcc *a, struct mvcc *b, int64_t rev)
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

static inline void same_history(struct mvcc *a, struct mvcc *b, int64_t from)
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

static inline void same_store(struct mvcc *a, struct mvcc *b)
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

static inline void same_records(const struct machine *want, struct loaded *got)
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
static inline uint64_t check_disk(uint64_t seed)
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

static inline void scrub_all(struct machine *x)
{
    while (!mvcc_scrub_is_done(x->m)) {
        (void)mvcc_scrub(x->m, SCRUB_SLICE);
        epoch_collect(mvcc_epoch(x->m));
        usleep(100); /* the persist thread may hold it back */
    }
}

static inline struct persist *start(struct lsm *l, struct mvcc *m, uint64_t flush_entries)
{
    struct persist_options o;
    persist_options_init(&o);
    o.lsm = l;
    o.mvcc = m;
    o.flush_entries = flush_entries;
    o.pace_ms = 1;
    return persist_new(&o);
}

static inline void flush(struct persist *p, uint64_t index)
{
    persist_request_flush(p);
    while (persist_flushed_index(p) < index)
        usleep(1000);
}

static inline struct lsm *open_lsm(const struct lsm_options *o)
{
    char text[256] = "";
    struct lsm *l;
    int err = lsm_open(dir, o, &l, text, sizeof(text));
    ck_assert_msg(err == 0, "%s", text);
    return l;
}

#endif
