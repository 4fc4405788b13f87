/* Slabs: objects do not overlap, and what is freed is given back. */
#include "mvcc_slab.h"

#include "base/rng.h"

#include "unit.h"

#include <string.h>

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
        if (o->p != NULL) {
            check_and_free(o);
            continue;
        }
        o->size = 8 + rng_below(&rng, rng_below(&rng, 4) == 0 ? 6000 : 600);
        o->fill = (uint8_t)i;
        o->p = slab_alloc(o->size);
        ck_assert_uint_eq((uintptr_t)o->p % 16, 0);
        memset(o->p, o->fill, o->size);
    }
    for (int i = 0; i < OBJECTS; i++)
        if (object[i].p != NULL)
            check_and_free(&object[i]);
    slab_stats(&stats);
    ck_assert_uint_eq(stats.objects, 0);
    ck_assert_uint_eq(stats.slabs_in_use, 0);
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

UNIT_MAIN("mvcc_slab", test_random_sizes, test_reuse)
