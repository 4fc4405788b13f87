/* Which keys trivet-bench chooses, and what they look like. */
#include "unit.h"

#include "keys.h"

#include "base/mem.h"

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

UNIT_MAIN("bench", test_key_order_is_number_order, test_range_end, test_seq_shares,
          test_distributions, test_few_keys)
