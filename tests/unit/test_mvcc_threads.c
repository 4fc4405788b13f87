/* The store in memory under readers on threads of their own, for the thread sanitizer as much as
 * for the checks here.
 *
 * The writer keeps one sum constant: every transaction takes an amount from one account and gives
 * it to another, deletes accounts that are empty and makes them anew. So a reader can tell whether
 * what it sees belongs to one revision. */
#include "unit.h"

#include "storage/mvcc.h"

#include "base/err.h"
#include "base/rng.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { ACCOUNTS = 600, TOTAL = ACCOUNTS * 2, TXNS = 60000, READERS = 3 };

static struct mvcc *m;
static _Atomic bool stop;
static _Atomic uint64_t lists_done, lists_compacted, events_seen;

static const struct slice all_end = {(const uint8_t *)"", 1};

static struct slice account(uint32_t i, char *name)
{
    (void)snprintf(name, 24, "/bank/%02u/%05u", i % 7, i);
    return slice_of_string(name);
}

static int64_t amount_of(const struct mvcc_version *v)
{
    int64_t amount = 0;
    if (v != NULL)
        memcpy(&amount, mvcc_version_value(v).data, sizeof(amount));
    return amount;
}

/* --- writer --- */

static void set(uint32_t i, int64_t amount)
{
    char name[24];
    struct slice key = account(i, name);
    if (amount == 0)
        (void)mvcc_txn_delete_range(m, key, SLICE_EMPTY, NULL, NULL);
    else
        (void)mvcc_txn_put(m, key, slice_of(&amount, sizeof(amount)), 0, NULL);
}

static void transfer(struct rng *rng)
{
    char name[24];
    uint32_t from = (uint32_t)rng_below(rng, ACCOUNTS), to = (uint32_t)rng_below(rng, ACCOUNTS);
    mvcc_txn_begin(m);
    int64_t have = amount_of(mvcc_txn_get(m, account(from, name), 0));
    if (have > 0 && from != to) {
        int64_t amount = 1 + (int64_t)rng_below(rng, (uint64_t)have);
        set(to, amount_of(mvcc_txn_get(m, account(to, name), 0)) + amount);
        set(from, have - amount);
    }
    mvcc_txn_end(m);
}

static void fill(void)
{
    mvcc_txn_begin(m);
    for (uint32_t i = 0; i < ACCOUNTS; i++)
        set(i, TOTAL / ACCOUNTS);
    mvcc_txn_end(m);
    mvcc_publish(m);
}

static void write_all(uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed);
    for (uint32_t i = 0; i < TXNS; i++) {
        transfer(&rng);
        if (rng_below(&rng, 4) == 0)
            mvcc_publish(m);
        if (rng_below(&rng, 50) == 0) {
            mvcc_publish(m);
            (void)mvcc_compact(m, mvcc_revision(m) - (int64_t)rng_below(&rng, 100));
        }
        if (rng_below(&rng, 10) == 0)
            (void)mvcc_scrub(m, 64);
        if (rng_below(&rng, 4) == 0)
            (void)mvcc_pack(m, 64);
        epoch_collect(mvcc_epoch(m));
    }
    mvcc_publish(m);
}

/* --- readers --- */

/* The sum of a list at one revision, in several sections, with a pin between them. What was read
 * is looked at again at the end, outside of any section. */
static void list_pinned(struct epoch_reader *r, struct rng *rng)
{
    const struct mvcc_version *held[ACCOUNTS];
    struct mvcc_pin pin;
    char after[24];
    struct slice after_key = SLICE_EMPTY;
    int64_t rev, sum = 0, count = 0;
    const struct mvcc_version *v;
    epoch_enter(mvcc_epoch(m), r);
    ck_assert_int_eq(mvcc_check_revision(m, 0, &rev), 0);
    ck_assert_int_eq(mvcc_pin_take(m, &pin, rev), 0);
    int64_t expected = mvcc_count(m, SLICE_EMPTY, all_end, rev);
    uint64_t left = 1 + rng_below(rng, 100);
    struct mvcc_iter it;
    mvcc_iter_init(&it, m, SLICE_EMPTY, all_end, rev);
    while ((v = mvcc_iter_next(&it)) != NULL) {
        sum += amount_of(v);
        held[count++] = v;
        if (--left > 0)
            continue;
        left = 1 + rng_below(rng, 300);
        after_key = mvcc_version_key(v);
        memcpy(after, after_key.data, after_key.size);
        after_key.data = (const uint8_t *)after;
        epoch_leave(r);
        sched_yield();
        epoch_enter(mvcc_epoch(m), r);
        ck_assert_int_eq(mvcc_count(m, SLICE_EMPTY, all_end, rev), expected);
        mvcc_iter_init_after(&it, m, after_key, all_end, rev);
    }
    epoch_leave(r);
    for (int64_t i = 0; i < count; i++)
        sum -= amount_of(held[i]);
    ck_assert_int_eq(sum, 0);
    for (int64_t i = 0; i < count; i++)
        sum += amount_of(held[i]);
    mvcc_pin_release(m, &pin);
    ck_assert_int_eq(sum, TOTAL);
    ck_assert_int_eq(count, expected);
    atomic_fetch_add(&lists_done, 1);
}

/* A list at an older revision within one section: all of it, or an error at the start. */
static void list_old(struct epoch_reader *r, struct rng *rng)
{
    epoch_enter(mvcc_epoch(m), r);
    int64_t rev = mvcc_revision(m) - (int64_t)rng_below(rng, 150);
    rev = rev < 2 ? 2 : rev;
    if (mvcc_check_revision(m, rev, &rev) == 0) {
        int64_t sum = 0, count = 0;
        const struct mvcc_version *v;
        struct mvcc_iter it;
        mvcc_iter_init(&it, m, SLICE_EMPTY, all_end, rev);
        while ((v = mvcc_iter_next(&it)) != NULL) {
            sum += amount_of(v);
            count++;
        }
        ck_assert_int_eq(sum, TOTAL);
        ck_assert_int_eq(mvcc_count(m, SLICE_EMPTY, all_end, rev), count);
        char name[24];
        struct slice key = account((uint32_t)rng_below(rng, ACCOUNTS), name);
        ck_assert_int_eq(mvcc_count(m, key, SLICE_EMPTY, rev), mvcc_get(m, key, rev) != NULL);
    } else {
        atomic_fetch_add(&lists_compacted, 1);
    }
    epoch_leave(r);
}

static void *read_all(void *arg)
{
    struct rng rng;
    rng_init(&rng, (uint64_t)(uintptr_t)arg);
    struct epoch_reader *r = epoch_register(mvcc_epoch(m));
    ck_assert_ptr_nonnull(r);
    while (!atomic_load(&stop)) {
        if (rng_below(&rng, 2) == 0)
            list_pinned(r, &rng);
        else
            list_old(r, &rng);
    }
    epoch_unregister(r);
    return NULL;
}

/* A watcher: applies every event to its own table, which must end up as the store. */
static void *watch_all(void *arg)
{
    int64_t *table = arg;
    struct epoch_reader *r = epoch_register(mvcc_epoch(m));
    ck_assert_ptr_nonnull(r);
    struct mvcc_pin pin;
    int64_t seen = 1;
    epoch_enter(mvcc_epoch(m), r);
    ck_assert_int_eq(mvcc_pin_take(m, &pin, seen), 0);
    epoch_leave(r);
    bool last = false;
    while (!last) {
        last = atomic_load(&stop);
        epoch_enter(mvcc_epoch(m), r);
        int64_t rev_max = mvcc_revision(m);
        struct mvcc_history_cursor c;
        const struct mvcc_version *v;
        ck_assert_int_eq(mvcc_history_seek(m, &c, seen + 1), 0);
        uint32_t sub = 0;
        while ((v = mvcc_history_next(&c, rev_max)) != NULL) {
            int64_t rev = mvcc_version_mod_revision(v);
            ck_assert(rev == seen + 1 || (rev == seen && mvcc_version_sub(v) == sub + 1));
            seen = rev;
            sub = mvcc_version_sub(v);
            uint32_t i = (uint32_t)strtoul((const char *)mvcc_version_key(v).data + 9, NULL, 10);
            table[i] = mvcc_version_is_tombstone(v) ? 0 : amount_of(v);
            atomic_fetch_add_explicit(&events_seen, 1, memory_order_relaxed);
        }
        ck_assert_int_eq(seen, rev_max);
        epoch_leave(r);
        mvcc_pin_move(&pin, seen);
    }
    mvcc_pin_release(m, &pin);
    epoch_unregister(r);
    return NULL;
}

START_TEST(test_readers_and_writer)
{
    static int64_t table[ACCOUNTS];
    pthread_t reader[READERS], watcher;
    struct mvcc_options options;
    mvcc_options_init(&options);
    options.move_all = true;
    m = mvcc_new(&options);
    ck_assert_int_eq(pthread_create(&watcher, NULL, watch_all, table), 0);
    struct timespec pause = {.tv_nsec = 1000000};
    while (mvcc_pins_count(m) == 0) /* the watcher wants it all */
        nanosleep(&pause, NULL);
    fill();
    for (uintptr_t i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&reader[i], NULL, read_all, (void *)(i + 1)), 0);
    write_all(7);
    atomic_store(&stop, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(reader[i], NULL);
    pthread_join(watcher, NULL);
    for (uint32_t i = 0; i < ACCOUNTS; i++) {
        char name[24];
        ck_assert_int_eq(table[i], amount_of(mvcc_get(m, account(i, name), 0)));
    }
    ck_assert_uint_gt(lists_done, 0);
    ck_assert_uint_gt(events_seen, TXNS / 2);
    while (!mvcc_scrub_is_done(m))
        (void)mvcc_scrub(m, 1000);
    mvcc_check(m);
    mvcc_free(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mvcc_threads");
    TCase *tc = tcase_create("mvcc_threads");
    tcase_set_timeout(tc, 200);
    tcase_add_test(tc, test_readers_and_writer);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_set_fork_status(sr, CK_NOFORK); /* threads and fork do not mix under sanitizers */
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
