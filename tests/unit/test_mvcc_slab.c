/* Slabs: objects do not overlap, and what is freed is given back; by themselves, and of a store
 * whose keys were overwritten many times. */
#include "mvcc_internal.h"
#include "mvcc_slab.h"

#include "base/rng.h"

#include "unit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OBJECTS = 10000, ROUNDS = 100000 };

struct object {
    uint8_t *p;
    size_t size;
    uint8_t fill;
};

static struct object object[OBJECTS];

static void check_and_free(struct object *o)
{
    size_t damaged = 0;
    for (size_t i = 0; i < o->size; i++)
        damaged += o->p[i] != o->fill;
    ck_assert_uint_eq(damaged, 0);
    slab_free(o->p, o->size);
    o->p = NULL;
}

START_TEST(test_random_sizes)
{
    struct rng rng;
    struct slab_stats stats;
    rng_init(&rng, 3);
    for (int i = 0; i < ROUNDS; i++) {
        struct object *o = &object[rng_below(&rng, OBJECTS)];
        if (i % 1000 == 0) {
            (void)slab_trim();
            slab_check();
        }
        if (o->p != NULL) {
            check_and_free(o);
            continue;
        }
        o->size = 8 + rng_below(&rng, rng_below(&rng, 4) == 0 ? 6000 : 600);
        o->fill = (uint8_t)i;
        o->p = i % 3 == 0 ? slab_alloc_dense(o->size) : slab_alloc(o->size);
        ck_assert_uint_eq((uintptr_t)o->p % 16, 0);
        memset(o->p, o->fill, o->size);
    }
    for (int i = 0; i < OBJECTS; i++)
        if (object[i].p != NULL)
            check_and_free(&object[i]);
    while (slab_trim())
        continue;
    slab_check();
    slab_stats(&stats);
    ck_assert_uint_eq(stats.objects, 0);
    ck_assert_uint_eq(stats.object_bytes, 0);
    ck_assert_uint_eq(stats.slabs_in_use, 0);
    ck_assert_uint_le(stats.slabs_empty, SLABS_EMPTY_KEPT);
    ck_assert_uint_le(stats.regions, 1); /* one is kept for the next */
}
END_TEST

/* Memory that one class no longer needs serves another. */
START_TEST(test_reuse)
{
    struct slab_stats small, large;
    for (int i = 0; i < OBJECTS; i++)
        object[i].p = slab_alloc(320);
    slab_stats(&small);
    ck_assert_uint_eq(small.objects, OBJECTS);
    ck_assert_uint_le(small.slabs_in_use * SLAB_BYTES,
                      (uint64_t)OBJECTS * 320 * 102 / 100 + SLAB_BYTES);
    for (int i = 0; i < OBJECTS; i++)
        slab_free(object[i].p, 320);
    for (int i = 0; i < OBJECTS / 2; i++)
        object[i].p = slab_alloc(640);
    slab_stats(&large);
    ck_assert_uint_le(large.regions, small.regions + 1);
    for (int i = 0; i < OBJECTS / 2; i++)
        slab_free(object[i].p, 640);
}
END_TEST

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%*u %llu", &pages), 1);
    (void)fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* One object in ten stays, all over the slabs; what lies in sparse ones is moved. */
START_TEST(test_moving)
{
    enum { MANY = 100000, KEPT_EACH = 10, SIZE = 320 };
    static uint8_t *p[MANY];
    struct slab_stats stats;
    for (int i = 0; i < MANY; i++) {
        p[i] = slab_alloc(SIZE);
        memset(p[i], i / KEPT_EACH, SIZE);
    }
    ck_assert(!slab_is_wasteful());
    uint64_t resident_before = resident_bytes();
    for (int i = 0; i < MANY; i++)
        if (i % KEPT_EACH != 0)
            slab_free(p[i], SIZE);
    ck_assert(slab_is_wasteful());
    for (int i = 0; i < MANY; i += KEPT_EACH) {
        /* The last slab was never full: it is the one to move to. */
        ck_assert(slab_is_sparse(p[i], SIZE) || i >= MANY - 2 * SLAB_BYTES / SIZE);
        uint8_t *copy = slab_alloc_dense(SIZE);
        memcpy(copy, p[i], SIZE);
        slab_free(p[i], SIZE);
        p[i] = copy;
    }
    while (slab_trim())
        slab_check();
    slab_stats(&stats);
    ck_assert(!slab_is_wasteful());
    ck_assert_uint_eq(stats.objects, MANY / KEPT_EACH);
    ck_assert_uint_le(stats.slabs_in_use * SLAB_BYTES, stats.object_bytes * 105 / 100 + SLAB_BYTES);
    ck_assert_uint_le(stats.slabs_empty, SLABS_EMPTY_KEPT);
    if (MVCC_SLABS) /* a sanitizer has memory of its own for ours */
        ck_assert_uint_le(resident_bytes() + (uint64_t)MANY * SIZE * 8 / 10, resident_before);
    for (int i = 0; i < MANY; i += KEPT_EACH)
        ck_assert(!slab_is_sparse(p[i], SIZE));
    for (int i = 0; i < MANY; i += KEPT_EACH) {
        ck_assert_uint_eq(p[i][0], (uint8_t)(i / KEPT_EACH));
        ck_assert_uint_eq(p[i][SIZE - 1], (uint8_t)(i / KEPT_EACH));
        slab_free(p[i], SIZE);
    }
}
END_TEST

/* --- a store --- */

static void overwrite(struct mvcc *m, uint32_t keys, uint32_t count, struct rng *rng)
{
    static const uint8_t value[256];
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        int size =
            snprintf(key, sizeof(key), "k%07u", rng == NULL ? i : (uint32_t)rng_below(rng, keys));
        mvcc_txn_begin(m);
        mvcc_txn_put(m, slice_of(key, (size_t)size), slice_of(value, sizeof(value)), 0, NULL);
        mvcc_txn_end(m);
        if (i % 64 == 0)
            mvcc_publish(m);
        epoch_collect(mvcc_epoch(m));
    }
    mvcc_publish(m);
}

/* What the core does, turn by turn, after a compaction. */
static void compact(struct mvcc *m)
{
    ck_assert_int_eq(mvcc_compact(m, mvcc_revision(m)), 0);
    for (int idle = 0; idle < 10;) {
        bool more = !mvcc_scrub_is_done(m) ? mvcc_scrub(m, 512) : mvcc_pack(m, 256);
        epoch_collect(mvcc_epoch(m));
        idle = more ? 0 : idle + 1;
    }
    mvcc_check(m);
}

/* Keys that were overwritten often take no more than keys that were written once. */
START_TEST(test_store_after_overwrites)
{
    enum { KEYS = 20000 };
    struct slab_stats fresh, after;
    struct rng rng;
    rng_init(&rng, 1);
    if (!MVCC_SLABS)
        return;
    struct mvcc *m = mvcc_new(NULL);
    overwrite(m, KEYS, KEYS, NULL);
    slab_stats(&fresh);
    uint64_t resident_fresh = resident_bytes();
    for (int round = 0; round < 3; round++) {
        overwrite(m, KEYS, KEYS * 15, &rng);
        compact(m);
    }
    slab_stats(&after);
    ck_assert_uint_le(after.slabs_in_use * 100, fresh.slabs_in_use * 110);
    ck_assert_uint_le(after.slabs_empty, SLABS_EMPTY_KEPT);
    ck_assert_uint_le(resident_bytes(), resident_fresh + (16 << 20)); /* the allocator's */
    mvcc_free(m);
}
END_TEST

/* Most keys are deleted: of the index too only little is left, and it does not lie scattered. */
START_TEST(test_store_after_deletes)
{
    enum { KEYS = 200000, KEPT_EACH = 40 };
    struct slab_stats after;
    struct mvcc_stats stats;
    if (!MVCC_SLABS)
        return;
    struct mvcc *m = mvcc_new(NULL);
    overwrite(m, KEYS, KEYS, NULL);
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        int size = snprintf(key, sizeof(key), "k%07u", i);
        mvcc_txn_begin(m);
        if (i % KEPT_EACH != 0)
            mvcc_txn_delete_range(m, slice_of(key, (size_t)size), SLICE_EMPTY, NULL, NULL);
        mvcc_txn_end(m);
    }
    mvcc_publish(m);
    compact(m);
    slab_stats(&after);
    mvcc_stats(m, &stats);
    ck_assert_uint_eq(stats.keys, KEYS / KEPT_EACH);
    ck_assert_uint_le(after.slabs_in_use * SLAB_BYTES,
                      (stats.version_bytes + stats.index_bytes) * 12 / 10 + 4 * SLAB_BYTES);
    mvcc_free(m);
}
END_TEST

UNIT_MAIN("mvcc_slab", test_random_sizes, test_reuse, test_moving, test_store_after_overwrites,
          test_store_after_deletes)
