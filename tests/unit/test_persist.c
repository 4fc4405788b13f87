/* The persist thread before stores of its tests: one that records what it is given, one that has no
 * room. */
#include "lsm_rig.h"

#include "base/clock.h"

/* --- another store behind the persist thread, in step --- */

struct recorder {
    uint64_t attached, detached, puts, commits, handed_over;
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

static void rec_hand_over(void *ctx)
{
    ((struct recorder *)ctx)->handed_over++;
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

static struct persist *start_recorded(struct recorder *r, struct mvcc *m, uint64_t flush_entries,
                                      uint64_t spread)
{
    struct persist_store store = {.ctx = r,
                                  .attach = rec_attach,
                                  .put = rec_put,
                                  .hand_over = rec_hand_over,
                                  .commit = rec_commit,
                                  .detach = rec_detach};
    struct persist_options o;
    persist_options_init(&o);
    o.mvcc = m;
    o.store = &store; /* copied */
    o.threaded = false;
    o.flush_entries = flush_entries;
    o.spread = spread;
    return persist_new(&o);
}

START_TEST(test_in_step)
{
    struct recorder r = {0};
    struct machine x;
    machine_init(&x, 3);
    struct persist *p = start_recorded(&r, x.m, 1000000, 0);
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

/* The entry that the first commit stands at. */
static uint64_t first_commit(uint64_t spread)
{
    struct recorder r = {0};
    struct machine x;
    machine_init(&x, 3);
    struct persist *p = start_recorded(&r, x.m, 640, spread);
    while (r.commits == 0)
        machine_run(&x, p, 1);
    persist_abort(p);
    machine_fini(&x);
    return r.last.applied_index;
}

START_TEST(test_members_commit_apart)
{
    uint64_t last = first_commit(0), middle = first_commit(32), first = first_commit(63 + 64);
    ck_assert_uint_lt(first, middle);
    ck_assert_uint_lt(middle, last);
    ck_assert_uint_ge(first, last * 3 / 4);
}
END_TEST

/* Memory is not reclaimed while versions are put, and large ones take long. */
START_TEST(test_large_ones_between_sections)
{
    enum { COUNT = 8, BYTES = 700000 };
    struct recorder r = {0};
    struct mvcc *m = mvcc_new(NULL);
    struct persist *p = start_recorded(&r, m, 1000000, 0);
    char *value = mem_alloc_zero(BYTES);
    mvcc_txn_begin(m);
    for (int i = 0; i < COUNT; i++) {
        const struct mvcc_version *prev;
        char key = (char)('a' + i);
        (void)mvcc_txn_put(m, slice_of(&key, 1), slice_of(value, BYTES), 0, &prev);
    }
    mvcc_txn_end(m);
    mvcc_publish(m);
    struct persist_batch *b = mem_alloc_zero(sizeof(*b));
    b->applied_index = 1;
    b->revision = mvcc_revision(m);
    b->compacted = -1;
    b->content = content_of(m);
    persist_submit(p, b);
    ck_assert_uint_eq(r.puts, COUNT);
    ck_assert_uint_ge(r.handed_over, COUNT / 2);
    mem_free(value);
    persist_abort(p);
    mvcc_free(m);
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

/* --- members at different moments --- */

static _Atomic uint64_t timed_put_ns;

static void timed_put(void *ctx, const struct mvcc_version *v)
{
    (void)ctx, (void)v;
    timed_put_ns = clock_mono_ns();
}

/* From when a change is submitted until it is put: the shortest time of some. */
static uint64_t put_after_ms(uint64_t spread)
{
    enum { TRIES = 10 };
    struct persist_store store = {
        .attach = tight_attach, .put = timed_put, .commit = tight_commit, .detach = tight_detach};
    struct mvcc *m = mvcc_new(NULL);
    struct persist_options o;
    persist_options_init(&o);
    o.mvcc = m;
    o.store = &store;
    o.spread = spread;
    tight.room = true;
    struct persist *p = persist_new(&o);
    uint64_t shortest_ns = UINT64_MAX;
    for (uint64_t i = 1; i <= TRIES; i++) {
        uint64_t begin_ns = clock_mono_ns();
        tight_submit(m, p, i);
        while (persist_backlog(p) > 0)
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        uint64_t took_ns = timed_put_ns - begin_ns;
        shortest_ns = took_ns < shortest_ns ? took_ns : shortest_ns;
    }
    persist_free(p);
    mvcc_free(m);
    return shortest_ns / 1000000;
}

START_TEST(test_members_put_apart)
{
    uint64_t soon_ms = put_after_ms(64), later_ms = put_after_ms(32), last_ms = put_after_ms(63);
    ck_assert_uint_ge(soon_ms, 5);
    ck_assert_uint_ge(later_ms, 15);
    ck_assert_uint_ge(last_ms, 24);
    ck_assert_uint_lt(soon_ms, last_ms);
}
END_TEST

UNIT_MAIN("persist", test_in_step, test_no_room, test_members_commit_apart, test_members_put_apart,
          test_large_ones_between_sections)
