/* Which keys trivet-bench chooses, and what they look like. */
#include "unit.h"

#include "flags.h"
#include "keys.h"
#include "stats.h"
#include "tree.h"

#include "base/mem.h"

#include <math.h>

static struct bench_options options_of(uint64_t keys, enum bench_dist dist)
{
    return (struct bench_options){
        .keys = keys, .dist = dist, .prefix = "/p/", .key_size = 12, .seed = 7};
}

START_TEST(test_key_order_is_number_order)
{
    struct bench_options o = options_of(1000000000, BENCH_SEQ);
    uint8_t key[12];
    uint8_t before[12];
    key_write(&o, 0, before);
    ck_assert_mem_eq(before, "/p/000000000", 12);
    for (uint64_t number = 1; number < o.keys; number = number * 7 + 3) {
        key_write(&o, number, key);
        ck_assert_int_lt(memcmp(before, key, sizeof(key)), 0);
        memcpy(before, key, sizeof(key));
    }
    key_write(&o, 999999999, key);
    ck_assert_mem_eq(key, "/p/999999999", 12);
}
END_TEST

START_TEST(test_range_end)
{
    struct bench_options o = options_of(1, BENCH_SEQ);
    uint8_t bytes[8];
    ck_assert(slice_equal(key_range_end(&o, bytes), SLICE_LITERAL("/p0")));
    o.prefix = "a\xff\xff";
    ck_assert(slice_equal(key_range_end(&o, bytes), SLICE_LITERAL("b")));
    o.prefix = "\xff";
    ck_assert(slice_equal(key_range_end(&o, bytes), SLICE_LITERAL("\0")));
    o.prefix = "";
    ck_assert(slice_equal(key_range_end(&o, bytes), SLICE_LITERAL("\0")));
}
END_TEST

/* Three threads in order meet every key once a round. */
START_TEST(test_seq_shares)
{
    struct bench_options o = options_of(100, BENCH_SEQ);
    struct keys keys;
    uint32_t seen[100] = {0};
    keys_init(&keys, &o);
    for (uint32_t part = 0; part < 3; part++) {
        struct key_source s;
        key_source_init(&s, &keys, part, 3);
        for (uint32_t i = 0; i < 100; i++)
            seen[key_next(&s)]++;
    }
    for (size_t i = 0; i < 100; i++)
        ck_assert_uint_eq(seen[i], 3);
}
END_TEST

static uint32_t count_of_most_popular(enum bench_dist dist, uint32_t draws)
{
    struct bench_options o = options_of(1000, dist);
    struct keys keys;
    struct key_source s;
    uint32_t *counts = mem_alloc_zero(1000 * sizeof(*counts));
    uint32_t most = 0;
    keys_init(&keys, &o);
    key_source_init(&s, &keys, 0, 1);
    for (uint32_t i = 0; i < draws; i++) {
        uint64_t key = key_next(&s);
        ck_assert_uint_lt(key, 1000);
        counts[key]++;
    }
    for (size_t i = 0; i < 1000; i++)
        if (counts[i] > most)
            most = counts[i];
    mem_free(counts);
    return most;
}

/* The first of a thousand has 1/zeta(1000, 0.99) = 12.9 % of a zipf's draws, and 0.1 % of a
 * uniform's. */
START_TEST(test_distributions)
{
    uint32_t zipf = count_of_most_popular(BENCH_ZIPF, 100000);
    uint32_t uniform = count_of_most_popular(BENCH_UNIFORM, 100000);
    ck_assert_uint_gt(zipf, 11500);
    ck_assert_uint_lt(zipf, 14500);
    ck_assert_uint_lt(uniform, 200);
}
END_TEST

START_TEST(test_few_keys)
{
    for (uint64_t count = 1; count <= 3; count++) {
        struct bench_options o = options_of(count, BENCH_ZIPF);
        struct keys keys;
        struct key_source s;
        keys_init(&keys, &o);
        key_source_init(&s, &keys, 0, 1);
        for (int i = 0; i < 1000; i++)
            ck_assert_uint_lt(key_next(&s), count);
    }
}
END_TEST

/* From the tables of Student's distribution. */
START_TEST(test_student)
{
    ck_assert_double_eq_tol(stats_t(0.95, 1), 12.7062, 1e-3);
    ck_assert_double_eq_tol(stats_t(0.95, 10), 2.2281, 1e-3);
    ck_assert_double_eq_tol(stats_t(0.999, 5), 6.8688, 1e-3);
    ck_assert_double_eq_tol(stats_t(0.99, 1000), 2.5808, 1e-3);
}
END_TEST

/* Values that repeat each other say less, and only when they come in order. */
START_TEST(test_effective_count)
{
    double values[120];
    struct rng rng;
    rng_init(&rng, 3);
    for (int i = 0; i < 120; i++)
        values[i] = i % 6 == 0 ? rng_unit(&rng) : values[i - 1];
    double effective = stats_effective_count((struct stats_sample){values, 120, true});
    ck_assert(effective > 10 && effective < 40);
    ck_assert_double_eq(stats_effective_count((struct stats_sample){values, 120, false}), 120);
}
END_TEST

START_TEST(test_ratio)
{
    const double a[] = {10, 11, 9, 10, 10, 10};
    const double b[] = {20, 21, 19, 20, 20, 20};
    struct stats_ratio r;
    struct stats_sample in_a = {a, 6, false};
    struct stats_sample in_b = {b, 6, false};
    ck_assert(stats_compare(in_a, in_b, 0.95, false, &r));
    ck_assert_double_eq_tol(r.ratio, 2, 1e-9);
    /* Both have a variance of 0.4: 2.2281 x sqrt(2 x 0.4 / 6) / 10 around it. */
    ck_assert_double_eq_tol(r.low, 2 - 0.08136, 1e-4);
    ck_assert_double_eq_tol(r.high, 2 + 0.08136, 1e-4);
    ck_assert(stats_compare(in_a, in_b, 0.95, true, &r));
    ck_assert(r.low < 2.01 && r.high > 2.01 && r.low > 1.8);
    in_a.count = STATS_VALUES_MIN - 1;
    ck_assert(!stats_compare(in_a, in_b, 0.95, false, &r));
}
END_TEST

static struct tree *parse(struct arena *a, const char *text)
{
    const char *error = NULL;
    struct tree *t = tree_parse(a, slice_of_string(text), &error);
    ck_assert((t == NULL) == (error != NULL));
    return t;
}

START_TEST(test_tree)
{
    static const char *const bad[] = {"",         "{",     "[1,]",    "{\"a\"}", "nul",
                                      "[1] 2",    "\"a",   "\"\\x\"", "{1:2}",   "\"\\u12\"",
                                      "{\"a\":}", "[1 2]", "\"\n\"",  "\"\\",    "1e999"};
    struct arena a;
    arena_init(&a);
    struct tree *t = parse(&a, " {\"a\": [1, -2.5e1, true, null], \"b\\n\": \"\\u00e9\\\"\"} ");
    ck_assert_ptr_nonnull(t);
    ck_assert_uint_eq(tree_get(t, "a")->count, 4);
    ck_assert_double_eq(tree_get(t, "a")->first->next->number, -25);
    ck_assert_str_eq(tree_text(t, "b\n", ""), "\xc3\xa9\"");
    ck_assert_double_eq(tree_number(t, "c", 7), 7);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(parse(&a, bad[i]) == NULL, "%s", bad[i]);
    arena_fini(&a);
}
END_TEST

/* Every flag has its place in the help, and goes with something. */
START_TEST(test_flags)
{
    for (uint32_t i = 0; i < flags_count; i++) {
        ck_assert_ptr_nonnull(flags[i].help);
        if (flags[i].type == FLAG_HEADING)
            continue;
        ck_assert(flags[i].commands != 0 && flags[i].name != NULL);
        ck_assert((flags[i].value == NULL) ==
                  (flags[i].type == FLAG_SWITCH || flags[i].type == FLAG_HELP));
        for (uint32_t j = 0; j < i; j++)
            ck_assert(flags[j].name == NULL || strcmp(flags[i].name, flags[j].name) != 0);
    }
}
END_TEST

UNIT_MAIN("bench", test_student, test_effective_count, test_ratio, test_tree, test_flags,
          test_key_order_is_number_order, test_range_end, test_seq_shares, test_distributions,
          test_few_keys)
