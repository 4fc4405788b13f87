/* Slabs for versions and nodes; see the header.
 *
 * A slab is SLAB_BYTES, aligned to its size, so that an object finds it by its address. It serves
 * one class of sizes; objects come from its free list, or from the part that was never used.
 *
 * Invariants:
 * 1. A slab with room is in its class's list; a full one is in none; an empty one is the region's
 *    again and in the list of empty slabs.
 * 2. At most one region without any slab in use is kept. */
#include "mvcc_slab.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

enum {
    SLAB_HEADER_BYTES = 64,
    SLABS_PER_REGION = SLAB_REGION_BYTES / SLAB_BYTES,
    CLASSES = 80,
};

struct region {
    uint8_t *base;
    uint32_t slabs_in_use;
};

struct slab {
    struct list link;
    struct region *region;
    void *freed;           /* objects that came back, linked through their first word */
    uint32_t object_bytes; /* 0 = empty */
    uint32_t in_use;
    uint32_t carved; /* objects that were ever used */
    uint32_t capacity;
    bool populated; /* the kernel has given it memory */
};
_Static_assert(sizeof(struct slab) <= SLAB_HEADER_BYTES, "objects begin behind the header");

/* Protected by `lock`. */
static struct {
    struct list with_room[CLASSES];
    struct list empty;
    uint32_t regions_unused;
    struct slab_stats stats;
    int ready;
} pool;
static pthread_mutex_t lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;

/* Steps of 16 bytes up to 512, 32 up to 1024, 64 up to 2048, 128 up to 4096. */
static uint32_t class_of(size_t size, uint32_t *ret_object_bytes)
{
    uint32_t shift = 4, first = 0, below = 0;
    if (size > 512) {
        shift = size <= 1024 ? 5 : size <= 2048 ? 6 : 7;
        below = 16u << shift;
        first = 32 + (shift - 5) * 16;
    }
    uint32_t steps = size == 0 ? 1 : (uint32_t)(size - below + (1u << shift) - 1) >> shift;
    *ret_object_bytes = below + (steps << shift);
    return first + steps - 1;
}

static void pool_init(void)
{
    for (int i = 0; i < CLASSES; i++)
        list_init(&pool.with_room[i]);
    list_init(&pool.empty);
    pool.ready = 1;
}

static void region_add(void)
{
    struct region *r = mem_alloc_zero(sizeof(*r));
    r->base = mem_alloc_aligned(SLAB_BYTES, SLAB_REGION_BYTES);
    for (uint32_t i = 0; i < SLABS_PER_REGION; i++) {
        struct slab *s = (struct slab *)(r->base + i * SLAB_BYTES);
        *s = (struct slab){.region = r};
        list_push_back(&pool.empty, &s->link);
    }
    pool.stats.regions++;
    pool.regions_unused++;
}

/* Ask for all of the slab's memory in one call, which costs half of what a fault for each page
 * does. Kernels before 5.14 refuse, and it comes page by page. */
static void populate(struct slab *s)
{
    if (s->populated)
        return;
    s->populated = true;
#ifdef MADV_POPULATE_WRITE
    (void)madvise(s, SLAB_BYTES, MADV_POPULATE_WRITE);
#endif
}

static struct slab *slab_take(uint32_t object_class, uint32_t object_bytes)
{
    if (list_is_empty(&pool.empty))
        region_add();
    struct slab *s = CONTAINER_OF(pool.empty.next, struct slab, link);
    list_remove(&s->link);
    if (s->region->slabs_in_use++ == 0)
        pool.regions_unused--;
    s->object_bytes = object_bytes;
    s->capacity = (SLAB_BYTES - SLAB_HEADER_BYTES) / object_bytes;
    s->in_use = s->carved = 0;
    s->freed = NULL;
    populate(s);
    list_push_back(&pool.with_room[object_class], &s->link);
    pool.stats.slabs_in_use++;
    return s;
}

static void slab_give_back(struct slab *s)
{
    struct region *r = s->region;
    list_remove(&s->link);
    s->object_bytes = 0;
    list_push_front(&pool.empty, &s->link);
    pool.stats.slabs_in_use--;
    if (--r->slabs_in_use > 0 || ++pool.regions_unused == 1)
        return;
    for (uint32_t i = 0; i < SLABS_PER_REGION; i++)
        list_remove(&((struct slab *)(r->base + i * SLAB_BYTES))->link);
    pool.regions_unused--;
    pool.stats.regions--;
    mem_free(r->base);
    mem_free(r);
}

static void *take_object(struct slab *s)
{
    void *p = s->freed;
    if (p != NULL)
        memcpy(&s->freed, p, sizeof(void *));
    else
        p = (uint8_t *)s + SLAB_HEADER_BYTES + (size_t)s->carved++ * s->object_bytes;
    if (++s->in_use == s->capacity)
        list_remove(&s->link);
    return p;
}

void *slab_alloc(size_t size)
{
    if (size > SLAB_OBJECT_BYTES_MAX)
        return mem_alloc(size);
    uint32_t object_bytes, object_class = class_of(size, &object_bytes);
    pthread_mutex_lock(&lock);
    if (!pool.ready)
        pool_init();
    struct list *with_room = &pool.with_room[object_class];
    struct slab *s = list_is_empty(with_room) ? slab_take(object_class, object_bytes)
                                              : CONTAINER_OF(with_room->next, struct slab, link);
    void *p = take_object(s);
    pool.stats.objects++;
    pthread_mutex_unlock(&lock);
    return p;
}

void slab_free(void *p, size_t size)
{
    if (size > SLAB_OBJECT_BYTES_MAX) {
        mem_free(p);
        return;
    }
    struct slab *s = (struct slab *)((uintptr_t)p & ~(uintptr_t)(SLAB_BYTES - 1));
    uint32_t object_bytes, object_class = class_of(size, &object_bytes);
    pthread_mutex_lock(&lock);
    ASSERT(s->object_bytes == object_bytes && s->in_use > 0);
    memcpy(p, &s->freed, sizeof(void *));
    s->freed = p;
    pool.stats.objects--;
    if (s->in_use-- == s->capacity)
        list_push_back(&pool.with_room[object_class], &s->link);
    if (s->in_use == 0)
        slab_give_back(s);
    pthread_mutex_unlock(&lock);
}

void slab_stats(struct slab_stats *ret)
{
    pthread_mutex_lock(&lock);
    *ret = pool.stats;
    pthread_mutex_unlock(&lock);
}
