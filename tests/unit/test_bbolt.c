/* bbolt's format: what is written is read, and nothing in a file leads the reader astray. That the
 * real bbolt reads it too, tests/clients/snapshot_file.py shows. */
#include "unit.h"

#include "storage/bbolt.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 17 };

/* --- a file with buckets of these sizes --- */

struct contents {
    uint32_t buckets;
    uint32_t entries[8];
    uint32_t value_bytes_max[8];
    uint64_t seed;
};

static void put_key(uint8_t key[KEY_BYTES], uint32_t n)
{
    (void)snprintf((char *)key, KEY_BYTES, "key %012u", n);
    key[KEY_BYTES - 1] = '_';
}

static void fill(struct bbolt_writer *w, const struct contents *c)
{
    struct rng rng;
    uint8_t *value = mem_alloc(1 << 21);
    rng_init(&rng, c->seed);
    for (uint32_t b = 0; b < c->buckets; b++) {
        char name[24];
        (void)snprintf(name, sizeof(name), "bucket%u", b);
        bbolt_writer_bucket(w, slice_of_string(name));
        for (uint32_t i = 0; i < c->entries[b]; i++) {
            uint8_t key[KEY_BYTES];
            size_t size = rng_below(&rng, c->value_bytes_max[b] + 1);
            put_key(key, i);
            memset(value, (int)(i & 0xff), size);
            bbolt_writer_put(w, slice_of(key, sizeof(key)), slice_of(value, size));
        }
    }
    mem_free(value);
}

static void on_page(void *ctx, const uint8_t *data, size_t size)
{
    ck_assert_uint_eq(size % BBOLT_PAGE_BYTES, 0);
    ck_assert_int_eq(buf_append(ctx, data, size), 0);
}

static void make_file(const struct contents *c, struct buf *ret)
{
    struct bbolt_layout layout, again;
    struct bbolt_writer *w = bbolt_writer_new(NULL, NULL, NULL);
    fill(w, c);
    ck_assert_int_eq(bbolt_writer_end(w, &layout), 0);
    bbolt_writer_free(w);
    buf_init(ret, SIZE_MAX);
    w = bbolt_writer_new(&layout, on_page, ret);
    fill(w, c);
    ck_assert_int_eq(bbolt_writer_end(w, &again), 0);
    bbolt_writer_free(w);
    ck_assert_uint_eq(ret->size, bbolt_file_bytes(&layout));
}

/* --- looking at all of it --- */

struct seen {
    const struct contents *c;
    struct rng rng;
    int bucket;
    uint32_t entry;
    uint64_t entries;
    uint32_t skip; /* a bucket that is not wanted */
};

static bool on_bucket(void *ctx, struct slice name)
{
    struct seen *s = ctx;
    char expected[24];
    if (s->bucket >= 0 && (uint32_t)s->bucket != s->skip)
        ck_assert_uint_eq(s->entry, s->c->entries[s->bucket]);
    s->bucket++;
    s->entry = 0;
    (void)snprintf(expected, sizeof(expected), "bucket%d", s->bucket);
    ck_assert(slice_equal(name, slice_of_string(expected)));
    return (uint32_t)s->bucket != s->skip;
}

static int on_entry(void *ctx, struct slice key, struct slice value)
{
    struct seen *s = ctx;
    uint8_t expected[KEY_BYTES];
    put_key(expected, s->entry);
    ck_assert(slice_equal(key, slice_of(expected, sizeof(expected))));
    size_t size = rng_below(&s->rng, s->c->value_bytes_max[s->bucket] + 1);
    ck_assert_uint_eq(value.size, size);
    for (size_t i = 0; i < size; i += 1 + size / 7)
        ck_assert_uint_eq(value.data[i], s->entry & 0xff);
    s->entry++;
    s->entries++;
    return 0;
}

static void check_file(const struct contents *c)
{
    struct buf file;
    struct bbolt *b;
    char why[200];
    make_file(c, &file);
    ck_assert_int_eq(bbolt_open(buf_slice(&file), &b, why, sizeof(why)), 0);
    ck_assert_uint_eq(bbolt_bytes(b), file.size);
    struct seen s = {.c = c, .bucket = -1, .skip = UINT32_MAX};
    rng_init(&s.rng, c->seed);
    struct bbolt_visitor v = {.bucket = on_bucket, .entry = on_entry, .ctx = &s};
    for (int round = 0; round < 2; round++) {
        s.bucket = -1;
        s.entries = 0;
        rng_init(&s.rng, c->seed);
        ck_assert_int_eq(bbolt_walk(b, &v), 0);
        ck_assert_int_eq(s.bucket, (int)c->buckets - 1);
    }
    bbolt_close(b);
    buf_fini(&file);
}

START_TEST(test_shapes)
{
    static const struct contents shapes[] = {
        {.buckets = 0, .seed = 1},
        {.buckets = 1, .entries = {0}, .seed = 2},
        {.buckets = 3,
         .entries = {0, 1, 20},
         .value_bytes_max = {0, 0, 10},
         .seed = 3}, /* inline */
        {.buckets = 2, .entries = {60, 61}, .value_bytes_max = {30, 30}, .seed = 4},
        {.buckets = 8,
         .entries = {5, 500, 0, 5000, 1, 2, 3, 4},
         .value_bytes_max = {3000, 90, 0, 40, 1 << 20, 1 << 20, 4096, 1024},
         .seed = 5},
        {.buckets = 2,
         .entries = {300000, 10},
         .value_bytes_max = {20, 9},
         .seed = 6}, /* three levels */
        {.buckets = 1, .entries = {40}, .value_bytes_max = {(1 << 21) - 1}, .seed = 7},
    };
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        check_file(&shapes[i]);
}
END_TEST

/* Around the numbers at which pages and levels begin. */
START_TEST(test_every_size)
{
    for (uint32_t count = 0; count < 150; count++) {
        struct contents c = {.buckets = 2,
                             .entries = {count, count * 37},
                             .value_bytes_max = {60, 0},
                             .seed = count};
        check_file(&c);
    }
}
END_TEST

START_TEST(test_bucket_is_skipped)
{
    struct contents c = {.buckets = 3, .entries = {0, 400, 0}, .value_bytes_max = {0, 50, 0}};
    struct buf file;
    struct bbolt *b;
    char why[200];
    make_file(&c, &file);
    ck_assert_int_eq(bbolt_open(buf_slice(&file), &b, why, sizeof(why)), 0);
    struct seen s = {.c = &c, .bucket = -1, .skip = 1};
    ck_assert_int_eq(
        bbolt_walk(b, &(struct bbolt_visitor){.bucket = on_bucket, .entry = on_entry, .ctx = &s}),
        0);
    ck_assert_uint_eq(s.entries, 0);
    bbolt_close(b);
    buf_fini(&file);
}
END_TEST

/* --- a second pass that is another one --- */

START_TEST(test_passes_differ)
{
    struct contents one = {.buckets = 1, .entries = {1000}, .value_bytes_max = {10}};
    struct contents two = {.buckets = 1, .entries = {3000}, .value_bytes_max = {10}};
    struct bbolt_layout layout, again;
    struct buf file;
    struct bbolt_writer *w = bbolt_writer_new(NULL, NULL, NULL);
    fill(w, &one);
    ck_assert_int_eq(bbolt_writer_end(w, &layout), 0);
    bbolt_writer_free(w);
    buf_init(&file, SIZE_MAX);
    w = bbolt_writer_new(&layout, on_page, &file);
    fill(w, &two);
    ck_assert_int_eq(bbolt_writer_end(w, &again), TV_ECORRUPT);
    bbolt_writer_free(w);
    buf_fini(&file);
}
END_TEST

/* --- damage --- */

static bool any_bucket(void *ctx, struct slice name)
{
    (void)ctx;
    (void)name;
    return true;
}

static int any_entry(void *ctx, struct slice key, struct slice value)
{
    uint64_t *sum = ctx;
    for (size_t i = 0; i < key.size; i++)
        *sum += key.data[i];
    for (size_t i = 0; i < value.size; i++)
        *sum += value.data[i];
    return 0;
}

static int read_all(struct slice file)
{
    struct bbolt *b;
    char why[200];
    uint64_t sum = 0;
    int err = bbolt_open(file, &b, why, sizeof(why));
    if (err != 0) {
        ck_assert_uint_gt(strlen(why), 0);
        return err;
    }
    struct bbolt_visitor v = {.bucket = any_bucket, .entry = any_entry, .ctx = &sum};
    err = bbolt_walk(b, &v);
    if (err != 0)
        ck_assert_uint_gt(strlen(bbolt_error(b)), 0);
    bbolt_close(b);
    return err;
}

static const struct contents small = {
    .buckets = 4, .entries = {3, 0, 900, 4}, .value_bytes_max = {9, 0, 60, 9000}, .seed = 11};

/* The copy is an allocation of its own size, so that a sanitizer sees what is read beyond it. */
START_TEST(test_random_damage)
{
    struct buf file;
    struct rng rng;
    int refused = 0;
    make_file(&small, &file);
    ck_assert_int_eq(read_all(buf_slice(&file)), 0);
    rng_init(&rng, 1);
    for (int i = 0; i < 5000; i++) {
        size_t size = rng_below(&rng, 10) == 0 ? rng_below(&rng, file.size) : file.size;
        uint8_t *copy = mem_dup(file.data, size == 0 ? 1 : size);
        for (uint64_t n = 1 + rng_below(&rng, 3); n > 0 && size > 0; n--) {
            /* Heads and elements more often than what they lead to. */
            size_t page = rng_below(&rng, size) & ~(size_t)(BBOLT_PAGE_BYTES - 1);
            size_t at = page + rng_below(&rng, rng_below(&rng, 2) == 0 ? 64 : BBOLT_PAGE_BYTES);
            if (at < size)
                copy[at] = (uint8_t)rng_below(&rng, 256);
        }
        int err = read_all(slice_of(copy, size));
        ck_assert(err == 0 || err == TV_ECORRUPT || err == TV_ENOTSUP);
        refused += err != 0;
        mem_free(copy);
    }
    ck_assert_int_gt(refused, 500);
    buf_fini(&file);
}
END_TEST

static void set64(struct buf *file, size_t at, uint64_t x)
{
    memcpy(file->data + at, &x, sizeof(x));
}

static uint64_t get64(const struct buf *file, size_t at)
{
    uint64_t x;
    memcpy(&x, file->data + at, sizeof(x));
    return x;
}

/* The page of branches of the one large bucket: the last one before the root's. */
static size_t branch_at(const struct buf *file)
{
    size_t at = file->size - 2 * BBOLT_PAGE_BYTES;
    ck_assert_uint_eq(file->data[at + 8], 1);
    return at;
}

START_TEST(test_metas)
{
    struct buf file;
    make_file(&small, &file);
    file.data[16 + 20] ^= 1; /* the first meta: the second one counts */
    ck_assert_int_eq(read_all(buf_slice(&file)), 0);
    file.data[BBOLT_PAGE_BYTES + 16 + 20] ^= 1;
    ck_assert_int_eq(read_all(buf_slice(&file)), TV_ECORRUPT);
    ck_assert_int_eq(read_all(slice_of(file.data, 100)), TV_ECORRUPT);
    ck_assert_int_eq(read_all(SLICE_EMPTY), TV_ECORRUPT);
    buf_fini(&file);
    make_file(&small, &file);
    ck_assert_int_eq(read_all(slice_of(file.data, file.size - BBOLT_PAGE_BYTES)), TV_ECORRUPT);
    buf_fini(&file);
}
END_TEST

START_TEST(test_circles)
{
    const struct contents large = {
        .buckets = 1, .entries = {3000}, .value_bytes_max = {10}, .seed = 1};
    struct buf file;
    make_file(&large, &file);
    size_t branch = branch_at(&file), child = branch + 16 + 8;
    uint64_t first = get64(&file, child), own = branch / BBOLT_PAGE_BYTES;
    ck_assert_int_eq(read_all(buf_slice(&file)), 0);
    set64(&file, child, own); /* itself */
    ck_assert_int_eq(read_all(buf_slice(&file)), TV_ECORRUPT);
    set64(&file, child, own + 1); /* the root bucket's */
    ck_assert_int_eq(read_all(buf_slice(&file)), TV_ECORRUPT);
    set64(&file, child, first + 1); /* a sibling */
    ck_assert_int_eq(read_all(buf_slice(&file)), TV_ECORRUPT);
    set64(&file, child, UINT64_MAX);
    ck_assert_int_eq(read_all(buf_slice(&file)), TV_ECORRUPT);
    set64(&file, child, 2); /* the freelist */
    ck_assert_int_eq(read_all(buf_slice(&file)), TV_ECORRUPT);
    set64(&file, child, first);
    ck_assert_int_eq(read_all(buf_slice(&file)), 0);
    buf_fini(&file);
}
END_TEST

UNIT_MAIN("bbolt", test_shapes, test_every_size, test_bucket_is_skipped, test_passes_differ,
          test_random_damage, test_metas, test_circles)
