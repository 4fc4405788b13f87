/* The building blocks, each by itself. */
#include "unit.h"

#include "base/arena.h"
#include "base/assert.h"
#include "base/bref.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/hist.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/u64map.h"
#include "base/utf8.h"

#include <stdio.h>
#include <unistd.h>

START_TEST(test_slice_order)
{
    ck_assert_int_lt(slice_compare(SLICE_LITERAL("a"), SLICE_LITERAL("ab")), 0);
    ck_assert_int_gt(slice_compare(SLICE_LITERAL("b"), SLICE_LITERAL("ab")), 0);
    ck_assert_int_lt(slice_compare(SLICE_LITERAL("a"), SLICE_LITERAL("\xff")), 0);
    ck_assert_int_eq(slice_compare(SLICE_EMPTY, SLICE_EMPTY), 0);
    ck_assert(slice_starts_with(SLICE_LITERAL("abc"), SLICE_LITERAL("ab")));
    ck_assert(!slice_starts_with(SLICE_LITERAL("a"), SLICE_LITERAL("ab")));
    ck_assert(slice_equal(slice_trim(SLICE_LITERAL(" \ta b\t"), " \t"), SLICE_LITERAL("a b")));
    ck_assert(slice_equal(slice_trim(SLICE_LITERAL("\0 a\0"), " "), SLICE_LITERAL("\0 a\0")));
    ck_assert_uint_eq(slice_trim(SLICE_LITERAL("  "), " ").size, 0);
}
END_TEST

START_TEST(test_arena_gives_apart_memory)
{
    struct arena a;
    arena_init(&a);
    for (int round = 0; round < 3; round++) {
        uint8_t *before = NULL;
        for (size_t size = 1; size < 20000; size = size * 3 + 1) {
            uint8_t *p = arena_alloc(&a, size);
            ck_assert_uint_eq((uintptr_t)p % 16, 0);
            memset(p, (int)size, size);
            if (before != NULL)
                ck_assert_uint_ne(before[0], p[0]);
            before = p;
        }
        struct slice copy = arena_copy(&a, SLICE_LITERAL("kept"));
        arena_alloc_zero(&a, 100);
        ck_assert(slice_equal(copy, SLICE_LITERAL("kept")));
        arena_clear(&a);
        ck_assert_uint_le(a.total_bytes, 8 << 10);
    }
    arena_fini(&a);
}
END_TEST

START_TEST(test_buf_keeps_its_limit)
{
    struct buf b;
    buf_init(&b, 1000);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(buf_append(&b, "0123456789", 10), 0);
    buf_consume(&b, 95);
    ck_assert(slice_equal(buf_slice(&b), SLICE_LITERAL("56789")));
    ck_assert_ptr_null(buf_reserve(&b, 996));
    ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX));
    ck_assert_int_eq(buf_append(&b, (uint8_t[996]){0}, 996), TV_ETOOLARGE);
    struct buf text;
    buf_init(&text, 601);
    ck_assert_int_eq(buf_printf(&text, "%600d", 7), 0); /* longer than any line */
    ck_assert(text.size == 600 && text.data[599] == '7');
    ck_assert_int_eq(buf_printf(&text, "%d", 12), TV_ETOOLARGE);
    ck_assert_uint_eq(text.size, 600);
    buf_fini(&text);
    ck_assert_uint_eq(b.size, 5);
    ck_assert_ptr_nonnull(buf_reserve(&b, 995));
    buf_fini(&b);
}
END_TEST

START_TEST(test_bref_counts)
{
    struct bref *b = bref_new(3);
    memcpy(b->data, "abc", 3);
    ck_assert_ptr_eq(bref_ref(b), b);
    bref_unref(b);
    ck_assert_mem_eq(b->data, "abc", 3);
    bref_unref(b);
    bref_unref(NULL);
}
END_TEST

START_TEST(test_crc32c_known_values)
{
    /* RFC 3720, B.4. */
    uint8_t zeros[32] = {0}, ones[32], rising[32];
    memset(ones, 0xff, sizeof(ones));
    for (uint8_t i = 0; i < 32; i++)
        rising[i] = i;
    ck_assert_uint_eq(crc32c(0, zeros, 32), 0x8a9136aa);
    ck_assert_uint_eq(crc32c(0, ones, 32), 0x62a8ab43);
    ck_assert_uint_eq(crc32c(0, rising, 32), 0x46dd794e);
    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283);
}
END_TEST

START_TEST(test_crc32c_forms_agree)
{
    struct rng r;
    uint8_t data[300];
    rng_init(&r, 1);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)rng_next(&r);
    for (size_t from = 0; from < 9; from++) {
        for (size_t size = 0; from + size <= sizeof(data); size++) {
            uint32_t whole = crc32c(7, data + from, size);
            ck_assert_uint_eq(whole, crc32c_portable(7, data + from, size));
            uint32_t half = crc32c(7, data + from, size / 2);
            ck_assert_uint_eq(whole, crc32c(half, data + from + size / 2, size - size / 2));
        }
    }
}
END_TEST

START_TEST(test_hist_error_is_bounded)
{
    struct hist h;
    for (uint64_t v = 1; v < UINT64_MAX / 8; v = v * 5 / 3 + 1) {
        hist_init(&h);
        hist_add(&h, v);
        hist_add(&h, v * 2);
        uint64_t median = hist_quantile(&h, 0.5);
        ck_assert_uint_ge(median, v);
        ck_assert_double_le((double)median, (double)v * 1.016);
        ck_assert_uint_eq(hist_quantile(&h, 1.0), v * 2);
    }
}
END_TEST

START_TEST(test_hist_merges)
{
    struct hist a, b;
    hist_init(&a);
    hist_init(&b);
    ck_assert_uint_eq(hist_quantile(&a, 0.5), 0);
    for (uint64_t v = 0; v < 100; v++)
        hist_add(v % 2 == 0 ? &a : &b, v);
    hist_merge(&a, &b);
    ck_assert_uint_eq(a.count, 100);
    ck_assert_uint_eq(a.min, 0);
    ck_assert_uint_eq(a.max, 99);
    ck_assert_double_eq(hist_mean(&a), 49.5);
}
END_TEST

/* What was added between two looks, and a copy of what has a whole. */
START_TEST(test_hist_difference)
{
    static struct hist h, before, after;
    hist_init(&h);
    hist_add_many(&h, 7, 3);
    hist_copy(&before, &h);
    ck_assert_uint_eq(before.count, 3);
    hist_add(&h, 1000000);
    hist_add(&h, 20);
    hist_copy(&after, &h);
    hist_subtract(&after, &before);
    ck_assert_uint_eq(after.count, 2);
    ck_assert_uint_eq(after.sum, 1000020);
    ck_assert_uint_eq(after.max, 1000000);
    ck_assert_uint_eq(after.min, 20);
    ck_assert_uint_eq(hist_quantile(&after, 0.5), 20);
}
END_TEST

START_TEST(test_list_moves)
{
    struct list head, other, nodes[4];
    list_init(&head);
    list_init(&other);
    for (int i = 0; i < 4; i++)
        list_push_back(i < 2 ? &head : &other, &nodes[i]);
    list_splice_back(&head, &other);
    ck_assert(list_is_empty(&other));
    int seen = 0;
    LIST_EACH (it, &head)
        ck_assert_ptr_eq(it, &nodes[seen++]);
    ck_assert_int_eq(seen, 4);
    LIST_EACH_SAFE (it, after, &head)
        list_remove(it);
    ck_assert(list_is_empty(&head));
    ck_assert(!list_is_linked(&nodes[0]));
    list_remove(&nodes[0]); /* harmless */
}
END_TEST

/* Against the simplest model: an array indexed by key. */
START_TEST(test_u64map_like_an_array)
{
    enum { KEYS = 512, STEPS = 200000 };
    static int values[KEYS];
    void *model[KEYS] = {0};
    struct u64map m;
    struct rng r;
    u64map_init(&m);
    rng_init(&r, 2);
    for (int step = 0; step < STEPS; step++) {
        uint64_t k = 1 + rng_below(&r, KEYS - 1);
        uint64_t key = k << (k % 3 * 20); /* some share their low bits */
        if (rng_below(&r, 2) == 0) {
            ck_assert_ptr_eq(u64map_put(&m, key, &values[k]), model[k]);
            model[k] = &values[k];
        } else {
            ck_assert_ptr_eq(u64map_remove(&m, key), model[k]);
            model[k] = NULL;
        }
        uint64_t other = 1 + rng_below(&r, KEYS - 1);
        ck_assert_ptr_eq(u64map_get(&m, other << (other % 3 * 20)), model[other]);
    }
    size_t cursor = 0, count = 0;
    uint64_t key;
    void *value;
    while (u64map_next(&m, &cursor, &key, &value))
        count++;
    ck_assert_uint_eq(count, m.count);
    u64map_fini(&m);
}
END_TEST

START_TEST(test_mem_fails_on_demand)
{
    mem_fail_after(1);
    void *first = mem_try_alloc(8);
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_null(mem_try_alloc(8));
    void *third = mem_try_alloc_zero(8);
    ck_assert_ptr_nonnull(third);
    mem_fail_after(UINT64_MAX);
    mem_free(first);
    mem_free(third);
}
END_TEST

START_TEST(test_err_texts)
{
    ck_assert_str_eq(tv_err_text(TV_EMPTY_KEY), "etcdserver: key is not provided");
    ck_assert_int_eq(tv_err_code(TV_COMPACTED), GRPC_OUT_OF_RANGE);
    ck_assert_str_eq(tv_err_name(TV_NO_LEADER), "TV_NO_LEADER");
    ck_assert_str_eq(tv_err_text(-99999), "unknown error");
    ck_assert_int_eq(tv_err_code(-99999), GRPC_UNKNOWN);
}
END_TEST

static size_t log_one(char *text, size_t size, const char *msg, const struct log_field *f,
                      size_t count)
{
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    log_set_fd(fds[1]);
    log_write(LOG_WARN, "../server/main.c", 7, msg, f, count);
    log_set_fd(2);
    ssize_t got = read(fds[0], text, size - 1);
    ck_assert_int_gt(got, 0);
    text[got] = '\0';
    close(fds[0]);
    close(fds[1]);
    return (size_t)got;
}

START_TEST(test_utf8)
{
    uint8_t text[UTF8_BYTES_MAX];
    uint32_t got;
    for (uint32_t rune = 0; rune <= 0x10ffff; rune++) {
        size_t size = utf8_put(text, rune);
        bool half = rune >= 0xd800 && rune <= 0xdfff;
        ck_assert_uint_eq(size, rune < 0x80 ? 1 : rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4);
        ck_assert_uint_eq(utf8_size(text, UTF8_BYTES_MAX), half ? 0 : size);
        if (half)
            continue;
        ck_assert_uint_eq(utf8_get(text, size, &got), size);
        ck_assert_uint_eq(got, rune);
        for (size_t less = 1; less < size; less++)
            ck_assert_uint_eq(utf8_get(text, less, &got), 0);
    }
    static const char *const bad[] = {
        "\x80",         "\xbf",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",
        "\xe9\x41\x41", "\xe9\x80\x41", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xfe",         "\xff"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_uint_eq(utf8_size((const uint8_t *)bad[i], strlen(bad[i])), 0);
}
END_TEST

START_TEST(test_log_is_json)
{
    char text[16384];
    struct log_field fields[] = {LOG_STR("path", "a\"b\\c\n\x01"), LOG_INT("n", -3),
                                 LOG_HEX("id", 0xabc), LOG_BOOL("ok", 1),
                                 LOG_RAW("urls", "[\"u\"]")};
    log_one(text, sizeof(text), "hello", fields, 5);
    ck_assert_ptr_nonnull(strstr(text, "\"level\":\"warn\""));
    ck_assert_ptr_nonnull(strstr(text, "\"caller\":\"server/main.c:7\",\"msg\":\"hello\""));
    ck_assert_ptr_nonnull(strstr(text, "\"path\":\"a\\\"b\\\\c\\n\\u0001\",\"n\":-3,\"id\":\"abc\","
                                       "\"ok\":true,\"urls\":[\"u\"]}\n"));
}
END_TEST

START_TEST(test_log_line_is_bounded)
{
    char text[16384];
    char *long_text = mem_alloc(20001);
    memset(long_text, '"', 20000);
    long_text[20000] = '\0';
    struct log_field fields[] = {LOG_STR("long", long_text), LOG_INT("after", 1)};
    size_t size = log_one(text, sizeof(text), long_text, fields, 2);
    ck_assert_uint_le(size, 8192);
    ck_assert_int_eq(text[size - 1], '\n');
    ck_assert_int_eq(text[size - 2], '}');
    mem_free(long_text);
}
END_TEST

enum { LOG_TIMES = 1050, LOG_PERIOD_US = 1100000 };

static uint32_t count_wanted(enum log_level level, const char *msg, uint64_t *ret_took_ns)
{
    uint64_t from_ns = clock_mono_ns();
    uint32_t count = 0;
    for (int i = 0; i < LOG_TIMES; i++)
        count += log_wants(level, msg);
    *ret_took_ns = clock_mono_ns() - from_ns;
    return count;
}

START_TEST(test_log_line_said_again_and_again)
{
    uint64_t took_ns = UINT64_MAX;
    uint32_t count = 0;
    while (took_ns > 500000000) { /* of its period of a second */
        usleep(LOG_PERIOD_US);
        count = count_wanted(LOG_WARN, "said for each request", &took_ns);
    }
    ck_assert_uint_eq(count, LOG_SAMPLE_FIRST + (LOG_TIMES - LOG_SAMPLE_FIRST) / LOG_SAMPLE_EACH);
    ck_assert(log_wants(LOG_WARN, "another line"));
    ck_assert(log_wants(LOG_ERROR, "said for each request"));
    usleep(LOG_PERIOD_US);
    ck_assert(log_wants(LOG_WARN, "said for each request"));
    ck_assert_uint_eq(count_wanted(LOG_FATAL, "the last words", &took_ns), LOG_TIMES);
    ck_assert_uint_eq(count_wanted(LOG_DEBUG, "below the level", &took_ns), 0);
}
END_TEST

static void find_probe(const struct probe *p, void *arg)
{
    if (strcmp(p->name, "test_probe") == 0)
        *(uint64_t *)arg = p->hits;
}

START_TEST(test_probe_counts)
{
    uint64_t hits = UINT64_MAX;
    probe_each(find_probe, &hits);
    ck_assert_uint_eq(hits, 0);
    for (int i = 0; i < 3; i++)
        PROBE(test_probe);
    probe_each(find_probe, &hits);
    ck_assert_uint_eq(hits, 3);
}
END_TEST

START_TEST(test_rng_repeats)
{
    struct rng a, b;
    rng_init(&a, 42);
    rng_init(&b, 42);
    for (int i = 0; i < 1000; i++) {
        ck_assert_uint_eq(rng_next(&a), rng_next(&b));
        ck_assert_uint_lt(rng_below(&a, 7), 7);
        (void)rng_below(&b, 7);
        double u = rng_unit(&a);
        ck_assert(u >= 0 && u < 1);
        (void)rng_unit(&b);
    }
}
END_TEST

UNIT_MAIN("base", test_slice_order, test_arena_gives_apart_memory, test_buf_keeps_its_limit,
          test_bref_counts, test_crc32c_known_values, test_crc32c_forms_agree,
          test_hist_error_is_bounded, test_hist_merges, test_hist_difference, test_list_moves,
          test_u64map_like_an_array, test_mem_fails_on_demand, test_err_texts, test_utf8,
          test_log_is_json, test_log_line_is_bounded, test_log_line_said_again_and_again,
          test_probe_counts, test_rng_repeats)
