/* The lessor: what exists, which keys hang on it, and when it ends at the leader. */
#include "unit.h"

#include "server/lease.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <string.h>

static struct lessor *lessor;
static int64_t granted;

static void make(void)
{
    lessor = lessor_new(2);
    granted = -1;
}

static void grant(int64_t id, int64_t ttl_s, uint64_t now_ms)
{
    ck_assert_int_eq(lessor_grant(lessor, id, ttl_s, now_ms, &granted), 0);
}

START_TEST(test_grant)
{
    make();
    static const struct {
        int64_t id, ttl_s;
        int err;
        int64_t granted_s;
    } cases[] = {
        {1, 60, 0, 60},
        {1, 60, TV_LEASE_EXIST, 0},
        {2, 1, 0, 2},
        {3, 0, 0, 2},
        {4, -5, 0, 2},
        {5, 9000000000, 0, 9000000000},
        {6, 9000000001, TV_LEASE_TTL_TOO_LARGE, 0},
        {1, 9000000001, TV_LEASE_TTL_TOO_LARGE, 0},
        {0, 60, TV_LEASE_NOT_FOUND, 0},
        {-7, 60, 0, 60},
        {INT64_MIN, 60, 0, 60},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int err = lessor_grant(lessor, cases[i].id, cases[i].ttl_s, 0, &granted);
        ck_assert_int_eq(err, cases[i].err);
        if (err == 0)
            ck_assert_int_eq(granted, cases[i].granted_s);
    }
    ck_assert_uint_eq(lessor_count(lessor), 7);
    ck_assert(lessor_exists(lessor, -7));
    ck_assert(!lessor_exists(lessor, 6));
    ck_assert(!lessor_exists(lessor, 0));
    lessor_revoke(lessor, 1);
    lessor_revoke(lessor, 1);
    ck_assert(!lessor_exists(lessor, 1));
    ck_assert_uint_eq(lessor_count(lessor), 6);
    lessor_free(lessor);
}
END_TEST

/* --- keys --- */

static char collected[4096];

static void collect(void *ctx, struct slice key)
{
    ck_assert_ptr_eq(ctx, lessor);
    size_t used = strlen(collected);
    snprintf(collected + used, sizeof(collected) - used, "%s%.*s", used == 0 ? "" : " ",
             (int)key.size, (const char *)key.data);
}

static const char *keys_of(int64_t id)
{
    collected[0] = '\0';
    lessor_each_key(lessor, id, collect, lessor);
    return collected;
}

START_TEST(test_keys)
{
    make();
    grant(1, 60, 0);
    grant(2, 60, 0);
    const char *const texts[] = {"b", "a", "ab", "c", "aa", "a", "b"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        lessor_attach(lessor, 1, slice_of_string(texts[i]));
    lessor_attach(lessor, 2, SLICE_LITERAL("a"));
    lessor_attach(lessor, 3, SLICE_LITERAL("nobody's"));
    ck_assert_str_eq(keys_of(1), "a aa ab b c");
    ck_assert_str_eq(keys_of(2), "a");
    ck_assert_str_eq(keys_of(3), "");
    lessor_detach(lessor, 1, SLICE_LITERAL("a"));
    lessor_detach(lessor, 1, SLICE_LITERAL("not there"));
    lessor_detach(lessor, 3, SLICE_LITERAL("a"));
    ck_assert_str_eq(keys_of(1), "aa ab b c");
    ck_assert_str_eq(keys_of(2), "a");
    lessor_detach(lessor, 2, SLICE_LITERAL("a"));
    lessor_detach(lessor, 2, SLICE_LITERAL("a"));
    ck_assert_str_eq(keys_of(2), "");
    lessor_attach(lessor, 2, SLICE_LITERAL("z"));
    lessor_revoke(lessor, 1);
    ck_assert_str_eq(keys_of(1), "");
    ck_assert_str_eq(keys_of(2), "z");
    lessor_free(lessor);
}
END_TEST

enum { MODEL_KEYS = 3000 };

struct seen {
    bool there[MODEL_KEYS];
    uint32_t count;
    uint32_t last;
};

static void note(void *ctx, struct slice key)
{
    struct seen *seen = ctx;
    char text[32];
    snprintf(text, sizeof(text), "%.*s", (int)key.size, (const char *)key.data);
    uint32_t n = (uint32_t)strtoul(text + 4, NULL, 10);
    ck_assert_uint_lt(n, MODEL_KEYS);
    ck_assert(seen->count == 0 || seen->last < n); /* the keys are of one length */
    seen->there[n] = true;
    seen->last = n;
    seen->count++;
}

/* Against an array of flags, through every size of the set, up and down. */
START_TEST(test_keys_random)
{
    make();
    grant(1, 60, 0);
    bool there[MODEL_KEYS] = {false};
    uint32_t count = 0;
    struct rng rng;
    rng_init(&rng, 7);
    for (uint32_t step = 0; step < 60000; step++) {
        uint32_t n = (uint32_t)rng_below(&rng, MODEL_KEYS);
        bool attach = rng_below(&rng, 100) < (step / 10000 % 2 == 0 ? 80u : 20u);
        char text[32];
        snprintf(text, sizeof(text), "key/%04u", n);
        if (attach)
            lessor_attach(lessor, 1, slice_of_string(text));
        else
            lessor_detach(lessor, 1, slice_of_string(text));
        count += attach && !there[n] ? 1 : 0;
        count -= !attach && there[n] ? 1 : 0;
        there[n] = attach;
        if (step % 997 != 0)
            continue;
        struct seen seen = {.count = 0};
        lessor_each_key(lessor, 1, note, &seen);
        ck_assert_uint_eq(seen.count, count);
        ck_assert_int_eq(memcmp(seen.there, there, sizeof(there)), 0);
    }
    lessor_free(lessor);
}
END_TEST

/* --- the leader's clock --- */

START_TEST(test_expiry)
{
    make();
    int64_t ids[8], ttl_s, granted_s;
    grant(1, 10, 0);
    grant(2, 5, 0);
    ck_assert_uint_eq(lessor_expired(lessor, 1000000, ids, 8), 0); /* nobody leads */
    lessor_promote(lessor, 1000, 500, 0);
    grant(3, 3, 2000);
    ck_assert_int_eq(lessor_remaining(lessor, 1, 2000, &ttl_s, &granted_s), 0);
    ck_assert_int_eq(ttl_s, 9); /* 11,500 - 2,000 */
    ck_assert_int_eq(granted_s, 10);
    ck_assert_int_eq(lessor_remaining(lessor, 9, 2000, &ttl_s, &granted_s), TV_LEASE_NOT_FOUND);

    ck_assert_uint_eq(lessor_expired(lessor, 4999, ids, 8), 0);
    ck_assert_uint_eq(lessor_expired(lessor, 5000, ids, 8), 1);
    ck_assert_int_eq(ids[0], 3);
    ck_assert_int_eq(lessor_renew(lessor, 3, 5000, &ttl_s), TV_LEASE_NOT_FOUND);
    ck_assert_int_eq(lessor_renew(lessor, 2, 5000, &ttl_s), 0);
    ck_assert_int_eq(ttl_s, 5);
    /* Given out once, and again when the revocation is lost. */
    ck_assert_uint_eq(lessor_expired(lessor, 5000 + LEASE_REVOKE_RETRY_MS - 1, ids, 8), 0);
    ck_assert_uint_eq(lessor_expired(lessor, 5000 + LEASE_REVOKE_RETRY_MS, ids, 8), 1);
    ck_assert_int_eq(ids[0], 3);
    ck_assert_int_eq(lessor_remaining(lessor, 3, 7100, &ttl_s, &granted_s), 0);
    ck_assert_int_eq(ttl_s, -2);
    lessor_revoke(lessor, 3);
    ck_assert_uint_eq(lessor_expired(lessor, 9999, ids, 8), 0);
    ck_assert_uint_eq(lessor_expired(lessor, 11500, ids, 8), 2);
    ck_assert_int_eq(ids[0], 2);
    ck_assert_int_eq(ids[1], 1);

    lessor_demote(lessor);
    ck_assert_uint_eq(lessor_expired(lessor, 100000, ids, 8), 0);
    lessor_promote(lessor, 100000, 0, 0);
    ck_assert_int_eq(lessor_renew(lessor, 1, 100001, &ttl_s), 0);
    ck_assert_uint_eq(lessor_expired(lessor, 105000, ids, 1), 1);
    ck_assert_int_eq(ids[0], 2);
    lessor_free(lessor);
}
END_TEST

/* The heap against a plain array of ends, with everything that can happen to a lease. */
enum { MODEL_LEASES = 200 };

START_TEST(test_expiry_random)
{
    make();
    lessor_promote(lessor, 0, 0, 0);
    uint64_t ends_ms[MODEL_LEASES] = {0}; /* 0 = there is none */
    int64_t ttls_s[MODEL_LEASES];
    uint64_t now_ms = 0;
    struct rng rng;
    rng_init(&rng, 11);
    for (uint32_t step = 0; step < 20000; step++) {
        uint32_t n = (uint32_t)rng_below(&rng, MODEL_LEASES);
        int64_t id = (int64_t)n + 1, ttl_s;
        now_ms += rng_below(&rng, 50);
        uint64_t what = rng_below(&rng, 10);
        if (ends_ms[n] == 0) {
            ttls_s[n] = 2 + (int64_t)rng_below(&rng, 20);
            grant(id, ttls_s[n], now_ms);
            ends_ms[n] = now_ms + (uint64_t)ttls_s[n] * 1000;
        } else if (what == 0) {
            lessor_revoke(lessor, id);
            ends_ms[n] = 0;
        } else if (what < 6) {
            int err = lessor_renew(lessor, id, now_ms, &ttl_s);
            ck_assert_int_eq(err, ends_ms[n] > now_ms ? 0 : TV_LEASE_NOT_FOUND);
            if (err == 0)
                ends_ms[n] = now_ms + (uint64_t)ttls_s[n] * 1000;
        }
        int64_t ids[MODEL_LEASES];
        uint32_t count = lessor_expired(lessor, now_ms, ids, MODEL_LEASES);
        for (uint32_t i = 0; i < count; i++) {
            uint64_t *end_ms = &ends_ms[ids[i] - 1];
            ck_assert_uint_ne(*end_ms, 0);
            ck_assert_uint_le(*end_ms, now_ms);
            lessor_revoke(lessor, ids[i]);
            *end_ms = 0;
        }
        uint32_t overdue = 0; /* an assertion for each lease would take most of the time */
        for (uint32_t i = 0; i < MODEL_LEASES; i++)
            overdue += ends_ms[i] != 0 && ends_ms[i] <= now_ms;
        ck_assert_uint_eq(overdue, 0);
    }
    lessor_free(lessor);
}
END_TEST

/* --- many --- */

enum { MANY = 3000 };

static void count_expired(uint64_t now_ms, uint32_t *count)
{
    static int64_t ids[MANY];
    uint32_t n = lessor_expired(lessor, now_ms, ids, MANY);
    for (uint32_t i = 0; i < n; i++)
        lessor_revoke(lessor, ids[i]);
    *count += n;
}

START_TEST(test_promotion_spreads_ends)
{
    make();
    for (int64_t id = 1; id <= MANY; id++)
        grant(id, 30, 0);
    lessor_promote(lessor, 5000, 1000, 0);
    uint32_t count = 0, before = 0;
    count_expired(35999, &count);
    ck_assert_uint_eq(count, 0); /* none before its TTL */
    for (uint64_t now_ms = 36000; count < MANY; now_ms += 1000) {
        ck_assert_uint_lt(now_ms, 42000);
        count_expired(now_ms, &count);
        ck_assert_uint_le(count - before, 751);
        before = count;
    }
    ck_assert_uint_eq(lessor_count(lessor), 0);
    lessor_free(lessor);
}
END_TEST

START_TEST(test_few_are_not_spread)
{
    make();
    for (int64_t id = 1; id <= 999; id++)
        grant(id, 30, 0);
    lessor_promote(lessor, 0, 0, 0);
    uint32_t count = 0;
    count_expired(30000, &count);
    ck_assert_uint_eq(count, 999);
    lessor_free(lessor);
}
END_TEST

static void list_id(void *ctx, int64_t id)
{
    (void)ctx;
    size_t used = strlen(collected);
    snprintf(collected + used, sizeof(collected) - used, " %lld", (long long)id);
}

START_TEST(test_list_by_end)
{
    make();
    collected[0] = '\0';
    lessor_each(lessor, list_id, NULL);
    ck_assert_str_eq(collected, "");
    grant(3, 30, 0);
    grant(1, 20, 0);
    grant(2, 10, 0);
    lessor_each(lessor, list_id, NULL);
    ck_assert_str_eq(collected, " 1 2 3"); /* no ends are known */
    lessor_promote(lessor, 0, 0, 0);
    collected[0] = '\0';
    lessor_each(lessor, list_id, NULL);
    ck_assert_str_eq(collected, " 2 1 3");
    lessor_free(lessor);
}
END_TEST

/* --- checkpoints --- */

enum { APART_MS = 300000 };

static struct lsm_lease checkpoint(int64_t id, int64_t remaining_s, uint64_t now_ms)
{
    const struct wire_lease_checkpoint c = {.id = id, .remaining_ttl = remaining_s};
    struct lsm_lease stored = {0};
    ck_assert(lessor_checkpoint(lessor, &c, now_ms, &stored) == lessor_exists(lessor, id));
    return stored;
}

static int64_t left_ms(int64_t id)
{
    int64_t ttl_s, granted_s;
    uint64_t at_ms = 0;
    while (lessor_remaining(lessor, id, at_ms, &ttl_s, &granted_s) == 0 && ttl_s > 0)
        at_ms += 1000;
    return (int64_t)at_ms;
}

START_TEST(test_checkpoints_are_due)
{
    make();
    struct wire_lease_checkpoint due[4];
    grant(1, 1000, 0);
    grant(2, 300, 0); /* not longer than the interval: its end is near enough */
    lessor_promote(lessor, 0, 0, APART_MS);
    grant(3, 301, 10);
    grant(4, 5000, 20);
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, APART_MS - 1, due, 4), 0);
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, APART_MS + 20, due, 2), 2);
    ck_assert_int_eq(due[0].id, 1);
    ck_assert_int_eq(due[0].remaining_ttl, 700); /* rounded up */
    ck_assert_int_eq(due[1].id, 3);
    ck_assert_int_eq(due[1].remaining_ttl, 1);
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, APART_MS + 20, due + 2, 2), 1);
    ck_assert_int_eq(due[2].id, 4);
    /* Not again before it is applied; then when the interval has passed, if enough is left. */
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, 2 * APART_MS, due, 4), 0);
    (void)checkpoint(1, 700, APART_MS + 100);
    (void)checkpoint(3, 1, APART_MS + 100);
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, 2 * APART_MS + 99, due, 4), 0);
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, 2 * APART_MS + 100, due, 4), 1);
    ck_assert_int_eq(due[0].id, 1);
    ck_assert_int_eq(due[0].remaining_ttl, 400);
    /* What could not be proposed is due again at once. */
    lessor_checkpoint_lost(lessor, &due[0], 2 * APART_MS + 200);
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, 2 * APART_MS + 200, due, 4), 1);
    /* One that was renewed just now has nothing to note, and another time it has. */
    lessor_demote(lessor);
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, 9 * APART_MS, due, 4), 0);
    lessor_promote(lessor, 0, 1000, APART_MS);
    int64_t ttl_s;
    ck_assert_int_eq(lessor_renew(lessor, 4, APART_MS, &ttl_s), 0);
    lessor_revoke(lessor, 1);
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, APART_MS, due, 4), 0);
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, 2 * APART_MS, due, 4), 1);
    ck_assert_int_eq(due[0].id, 4);
    ck_assert_int_eq(due[0].remaining_ttl, 4700);
    lessor_free(lessor);
}
END_TEST

START_TEST(test_next_leader_goes_on_from_the_checkpoint)
{
    make();
    grant(1, 1000, 0);
    grant(2, 1000, 0);
    struct lsm_lease stored = checkpoint(1, 700, 0);
    ck_assert_int_eq(stored.id, 1);
    ck_assert_int_eq(stored.granted_ttl, 1000);
    ck_assert_int_eq(stored.remaining_ttl, 700);
    (void)checkpoint(9, 700, 0);
    lessor_promote(lessor, 0, 2000, 0);
    ck_assert_int_eq(left_ms(1), 702000);
    ck_assert_int_eq(left_ms(2), 1002000);
    lessor_demote(lessor);
    stored = checkpoint(1, -5, 0);
    ck_assert_int_eq(stored.remaining_ttl, 0);
    lessor_promote(lessor, 0, 0, 0);
    ck_assert_int_eq(left_ms(1), 1000000);
    /* Over a restart. */
    lessor_free(lessor);
    make();
    lessor_load(lessor, &(struct lsm_lease){.id = 1, .granted_ttl = 1000, .remaining_ttl = 70});
    lessor_load(lessor, &(struct lsm_lease){.id = 2, .granted_ttl = 1000, .remaining_ttl = -1});
    lessor_load(lessor, &(struct lsm_lease){.id = 3, .granted_ttl = 5, .remaining_ttl = INT64_MAX});
    lessor_promote(lessor, 0, 0, 0);
    ck_assert_int_eq(left_ms(1), 70000);
    ck_assert_int_eq(left_ms(2), 1000000);
    int64_t ttl_s, granted_s;
    ck_assert_int_eq(lessor_remaining(lessor, 3, 0, &ttl_s, &granted_s), 0);
    ck_assert_int_eq(ttl_s, LEASE_TTL_MAX_S);
    ck_assert_int_eq(granted_s, 5);
    lessor_free(lessor);
}
END_TEST

/* A renewal waits for both: what the log says, and what is on its way there. */
START_TEST(test_what_must_be_taken_back)
{
    make();
    struct wire_lease_checkpoint due[4];
    int64_t ttl_s;
    grant(1, 1000, 0);
    lessor_promote(lessor, 0, 0, APART_MS);
    ck_assert(!lessor_is_noted(lessor, 1, 0));
    ck_assert(!lessor_is_noted(lessor, 9, 0));
    ck_assert_uint_eq(lessor_checkpoints_due(lessor, APART_MS, due, 4), 1);
    ck_assert(lessor_is_noted(lessor, 1, APART_MS));
    ck_assert(!lessor_is_noted(lessor, 1, 1000000)); /* it has ended */
    ck_assert(lessor_clear_begin(lessor, 1));
    ck_assert(!lessor_clear_begin(lessor, 1));
    ck_assert(!lessor_clear_begin(lessor, 9));
    lessor_checkpoint_lost(lessor, &(struct wire_lease_checkpoint){.id = 1}, APART_MS);
    ck_assert(lessor_clear_begin(lessor, 1));
    (void)checkpoint(1, 700, APART_MS);
    ck_assert(lessor_is_noted(lessor, 1, APART_MS));
    (void)checkpoint(1, 0, APART_MS);
    ck_assert(!lessor_is_noted(lessor, 1, APART_MS));
    ck_assert_int_eq(lessor_renew(lessor, 1, APART_MS, &ttl_s), 0);
    ck_assert_int_eq(ttl_s, 1000);
    lessor_free(lessor);
}
END_TEST

UNIT_MAIN("lease", test_grant, test_keys, test_keys_random, test_expiry, test_expiry_random,
          test_promotion_spreads_ends, test_few_are_not_spread, test_list_by_end,
          test_checkpoints_are_due, test_next_leader_goes_on_from_the_checkpoint,
          test_what_must_be_taken_back)
