/* The list of what a compaction keeps: exactly that, and also when the store has gone on. */
#include "unit.h"

#include "lsm_live.h"

#include "base/err.h"
#include "base/rng.h"

#include <stdio.h>

enum { KEYS = 3000, CHANGES = 10000, SUBS_MAX = 3, ASKED = CHANGES * SUBS_MAX };

static bool always(void *ctx)
{
    return true;
}

static bool never(void *ctx)
{
    return false;
}

static void change(struct mvcc *m, struct rng *rng)
{
    char key[16];
    (void)mvcc_txn_begin(m);
    for (uint64_t i = 1 + rng_below(rng, SUBS_MAX); i > 0; i--) {
        int size = snprintf(key, sizeof(key), "k%u", (unsigned)rng_below(rng, KEYS));
        struct slice k = slice_of((const uint8_t *)key, (size_t)size);
        if (rng_below(rng, 4) == 0)
            (void)mvcc_txn_delete_range(m, k, SLICE_EMPTY, NULL, NULL);
        else
            (void)mvcc_txn_put(m, k, SLICE_LITERAL("v"), 0, NULL);
    }
    (void)mvcc_txn_end(m);
}

/* What is visible at `rev`, one bool for each (revision, sub). */
static void look(struct mvcc *m, int64_t rev, bool *ret_stays)
{
    struct mvcc_iter it;
    const struct mvcc_version *v;
    mvcc_iter_init(&it, m, SLICE_LITERAL("\0"), SLICE_LITERAL("\0"), rev);
    while ((v = mvcc_iter_next(&it)) != NULL)
        ret_stays[mvcc_version_mod_revision(v) * SUBS_MAX + mvcc_version_sub(v)] = true;
}

static void same(const struct lsm_live *live, const bool *stays, int64_t rev)
{
    size_t at = 0;
    for (int64_t main = 2; main < rev; main++)
        for (uint32_t sub = 0; sub < SUBS_MAX; sub++)
            ck_assert(lsm__live_has(live, &at, main, sub) == stays[main * SUBS_MAX + sub]);
}

START_TEST(test_it_is_what_stays)
{
    static bool stays[ASKED + SUBS_MAX * 2];
    struct mvcc *m = mvcc_new(NULL);
    struct rng rng;
    rng_init(&rng, 5);
    for (int i = 0; i < CHANGES / 2; i++)
        change(m, &rng);
    int64_t rev = mvcc_txn_revision(m) - 100;
    ck_assert_int_eq(mvcc_compact(m, rev), 0);
    mvcc_publish(m);
    look(m, rev, stays);

    struct lsm_live live;
    ck_assert_int_eq(lsm__live_gather(m, rev, never, NULL, &live), TV_EBUSY);
    ck_assert_int_eq(lsm__live_gather(m, rev, always, NULL, &live), 0);
    ck_assert_int_eq(live.rev, rev);
    ck_assert_uint_gt(live.count, KEYS / 4);
    same(&live, stays, rev);

    /* The store can no longer be asked; the list can, in any order. */
    for (int i = 0; i < CHANGES / 2; i++)
        change(m, &rng);
    ck_assert_int_eq(mvcc_compact(m, mvcc_txn_revision(m)), 0);
    mvcc_publish(m);
    while (mvcc_scrub(m, 1000))
        ;
    same(&live, stays, rev);
    size_t at = 0;
    for (int i = 0; i < 10000; i++) {
        int64_t main = 2 + (int64_t)rng_below(&rng, (uint64_t)rev - 2);
        uint32_t sub = (uint32_t)rng_below(&rng, SUBS_MAX);
        ck_assert(lsm__live_has(&live, &at, main, sub) == stays[main * SUBS_MAX + sub]);
    }
    lsm__live_free(&live);
    ck_assert_int_eq(lsm__live_gather(m, rev, always, NULL, &live), TV_COMPACTED);
    ck_assert_uint_eq(mvcc_pins_count(m), 0);
    mvcc_free(m);
}
END_TEST

START_TEST(test_nothing_stays)
{
    struct mvcc *m = mvcc_new(NULL);
    (void)mvcc_txn_begin(m);
    (void)mvcc_txn_put(m, SLICE_LITERAL("k"), SLICE_LITERAL("v"), 0, NULL);
    (void)mvcc_txn_end(m);
    ck_assert_int_eq(mvcc_compact(m, 2), 0);
    mvcc_publish(m);
    struct lsm_live live;
    size_t at = 0;
    ck_assert_int_eq(lsm__live_gather(m, 2, always, NULL, &live), 0);
    ck_assert_uint_eq(live.count,
                      0); /* what is of the compaction's own revision is not asked for */
    ck_assert(!lsm__live_has(&live, &at, 1, 0));
    lsm__live_free(&live);
    mvcc_free(m);
}
END_TEST

UNIT_MAIN("lsm live", test_it_is_what_stays, test_nothing_stays)
