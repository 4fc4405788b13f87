/* Slabs for versions and nodes; see the header.
 *
 * A region is SLAB_REGION_BYTES from the kernel, a slab SLAB_BYTES of it, both aligned to their
 * sizes, so that an object finds its slab by its address. A slab serves one class of sizes; objects
 * come from its free list, or from the part that was never used. What there is to say of a slab in
 * use stands at its beginning, on the way to its objects; of one that is not, in its region's head,
 * so that it needs no memory.
 *
 *     bare --take--> in use <--take-- empty      bare: the kernel has not given it memory, or has
 *       ^               '-----give back--^       it back
 *       '-----------------trim-----------'
 *
 * Invariants:
 * 1. A slab with room is in a list of its class, by the quarter that is in use; a full one is in
 *    none. The slab that a class took last counts as full to three quarters until it was full: so
 *    there is one to move to, and no class has two of these with room.
 * 2. A slab without objects is in `empty` or in `bare`. After slab_trim() is through, no more than
 *    SLABS_EMPTY_KEPT are in `empty`, and no more than one region has no slab in use. */
#include "mvcc_slab.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

enum {
    SLABS_PER_REGION = SLAB_REGION_BYTES / SLAB_BYTES,
    SLAB_HEADER_BYTES = 64,
    REGION_HEADER_BYTES = 1024, /* behind the first slab's header */
    PAGE_BYTES = 4096,          /* of the first slab, which stay */
    CLASSES = 80,
    QUARTERS = 4,
    DENSE = QUARTERS - 1,
    TRIM_SLABS = 8, /* in one call */
    WASTE_PERCENT = 15,
    WASTE_BYTES_MIN = 1 << 20, /* every class has a slab that is not full */
};

struct slab {
    struct list link;
    void *freed; /* objects that came back, linked through their first word */
    uint32_t object_bytes;
    uint32_t in_use;
    uint32_t carved; /* objects that were ever used */
    uint32_t capacity;
    uint8_t quarter;
    bool filling; /* taken, and not full since */
};
_Static_assert(sizeof(struct slab) <= SLAB_HEADER_BYTES, "objects begin behind the header");

/* What stays of a slab when it is empty. */
struct place {
    struct list link; /* of `empty` or `bare` */
    bool populated;   /* the kernel has given it memory */
};

struct region {
    struct list unused_link; /* while no slab is in use */
    uint32_t slabs_in_use;
    struct place place[SLABS_PER_REGION];
};
_Static_assert(sizeof(struct region) <= REGION_HEADER_BYTES, "objects begin behind the header");
_Static_assert(SLAB_HEADER_BYTES + REGION_HEADER_BYTES <= PAGE_BYTES, "the header stays");

/* Protected by `lock`. */
static struct {
    struct list with_room[CLASSES][QUARTERS];
    struct list empty; /* the last one used first */
    struct list bare;
    struct list unused; /* regions */
    uint32_t unused_count;
    uint8_t *next_hint; /* where a region would lie well */
    struct slab_stats stats;
    bool ready;
} pool;
static pthread_mutex_t lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
/* There may be something to give back: written under the lock, read without by those who ask each
 * turn, and are late by a turn at most. */
static atomic_bool may_trim;

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

/* --- where things are --- */

static uint8_t *region_begin(const void *p)
{
    return (uint8_t *)((uintptr_t)p & ~(uintptr_t)(SLAB_REGION_BYTES - 1));
}

static struct region *region_of(const void *p)
{
    return (struct region *)(region_begin(p) + SLAB_HEADER_BYTES);
}

static struct slab *slab_of(const void *p)
{
    return (struct slab *)((uintptr_t)p & ~(uintptr_t)(SLAB_BYTES - 1));
}

static struct place *place_of(const struct slab *s)
{
    return &region_of(s)->place[(uintptr_t)s % SLAB_REGION_BYTES / SLAB_BYTES];
}

static struct slab *slab_at(const struct place *p)
{
    size_t i = (size_t)(p - region_of(p)->place);
    return (struct slab *)(region_begin(p) + i * SLAB_BYTES);
}

static bool is_first(const struct slab *s)
{
    return (uint8_t *)s == region_begin(s);
}

static uint32_t header_bytes(const struct slab *s)
{
    return SLAB_HEADER_BYTES + (is_first(s) ? REGION_HEADER_BYTES : 0);
}

/* All of the slab that the kernel may have back. */
static int advise(struct slab *s, int advice)
{
    size_t kept = is_first(s) ? PAGE_BYTES : 0;
    return madvise((uint8_t *)s + kept, SLAB_BYTES - kept, advice);
}

/* --- regions --- */

static void pool_init(void)
{
    for (int i = 0; i < CLASSES; i++)
        for (int q = 0; q < QUARTERS; q++)
            list_init(&pool.with_room[i][q]);
    list_init(&pool.empty);
    list_init(&pool.bare);
    list_init(&pool.unused);
    pool.ready = true;
}

static uint8_t *map(void *hint, size_t size)
{
    void *p = mmap(hint, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED)
        tv_fatal("out of memory: %zu bytes", size);
    return p;
}

/* Below the last one, if that is free; otherwise an aligned piece is cut out of twice as much. Huge
 * pages are not wanted, also where the system makes them by itself: the thread would wait for each
 * to be made, and slabs that were given back would be filled up again. */
static struct region *region_map(void)
{
    uint8_t *base = map(pool.next_hint, SLAB_REGION_BYTES);
    if ((uintptr_t)base % SLAB_REGION_BYTES != 0) {
        (void)munmap(base, SLAB_REGION_BYTES);
        uint8_t *p = map(NULL, (size_t)2 * SLAB_REGION_BYTES);
        size_t before = -(uintptr_t)p % SLAB_REGION_BYTES;
        base = p + before;
        if (before > 0)
            (void)munmap(p, before); /* a failure costs addresses, no memory */
        (void)munmap(base + SLAB_REGION_BYTES, SLAB_REGION_BYTES - before);
    }
    pool.next_hint = base - SLAB_REGION_BYTES;
    (void)madvise(base, SLAB_REGION_BYTES, MADV_NOHUGEPAGE);
    return region_of(base);
}

static void region_add(void)
{
    struct region *r = region_map();
    for (uint32_t i = 0; i < SLABS_PER_REGION; i++)
        list_push_back(&pool.bare, &r->place[i].link);
    list_push_back(&pool.unused, &r->unused_link);
    pool.unused_count++;
    pool.stats.regions++;
}

static void region_remove(struct region *r)
{
    for (uint32_t i = 0; i < SLABS_PER_REGION; i++) {
        list_remove(&r->place[i].link);
        pool.stats.slabs_empty -= r->place[i].populated;
    }
    list_remove(&r->unused_link);
    pool.unused_count--;
    pool.stats.regions--;
    void *begin = region_begin(r);
    if (munmap(begin, SLAB_REGION_BYTES) != 0) /* too many mappings: keep the addresses alone */
        (void)madvise(begin, SLAB_REGION_BYTES, MADV_DONTNEED);
}

/* --- slabs --- */

/* Ask for all of the slab's memory in one call, which costs half of what a fault for each page
 * does. Kernels before 5.14 refuse, and it comes page by page. */
static void populate(struct place *p)
{
    if (p->populated) {
        pool.stats.slabs_empty--;
        return;
    }
    p->populated = true;
#ifdef MADV_POPULATE_WRITE
    (void)advise(slab_at(p), MADV_POPULATE_WRITE);
#endif
}

static struct slab *slab_take(uint32_t object_class, uint32_t object_bytes)
{
    if (list_is_empty(&pool.empty) && list_is_empty(&pool.bare))
        region_add();
    struct list *from = list_is_empty(&pool.empty) ? &pool.bare : &pool.empty;
    struct place *p = CONTAINER_OF(from->next, struct place, link);
    struct slab *s = slab_at(p);
    struct region *r = region_of(s);
    list_remove(&p->link);
    if (r->slabs_in_use++ == 0) {
        list_remove(&r->unused_link);
        pool.unused_count--;
    }
    populate(p);
    *s = (struct slab){.object_bytes = object_bytes,
                       .capacity = (SLAB_BYTES - header_bytes(s)) / object_bytes,
                       .quarter = DENSE,
                       .filling = true};
    list_push_back(&pool.with_room[object_class][DENSE], &s->link);
    pool.stats.slabs_in_use++;
    return s;
}

static void slab_give_back(struct slab *s)
{
    struct region *r = region_of(s);
    list_remove(&s->link);
    s->object_bytes = 0;
    list_push_front(&pool.empty, &place_of(s)->link);
    pool.stats.slabs_in_use--;
    pool.stats.slabs_empty++;
    atomic_store_explicit(&may_trim, true, memory_order_relaxed);
    if (--r->slabs_in_use > 0)
        return;
    list_push_back(&pool.unused, &r->unused_link);
    pool.unused_count++;
}

static uint8_t quarter_of(const struct slab *s)
{
    if (s->filling || s->in_use * 4 >= s->capacity * 3)
        return DENSE;
    return s->in_use * 2 >= s->capacity ? 2 : s->in_use * 4 >= s->capacity;
}

/* Its number of objects has changed: the slab goes to where it belongs now. */
static void slab_place(struct slab *s, uint32_t object_class, bool was_full)
{
    uint8_t quarter = quarter_of(s);
    if (quarter == s->quarter && !was_full)
        return;
    if (!was_full)
        list_remove(&s->link);
    s->quarter = quarter;
    list_push_front(&pool.with_room[object_class][quarter], &s->link);
}

/* --- objects --- */

static void *take_object(struct slab *s, uint32_t object_class)
{
    void *p = s->freed;
    if (p != NULL)
        memcpy(&s->freed, p, sizeof(void *));
    else
        p = (uint8_t *)s + header_bytes(s) + (size_t)s->carved++ * s->object_bytes;
    pool.stats.objects++;
    pool.stats.object_bytes += s->object_bytes;
    if (++s->in_use == s->capacity) {
        list_remove(&s->link);
        s->filling = false;
    } else {
        slab_place(s, object_class, false);
    }
    return p;
}

/* From the fullest slab; `quarter_min` says from which one on. */
static void *alloc(size_t size, int quarter_min)
{
    if (size > SLAB_OBJECT_BYTES_MAX)
        return mem_alloc(size);
    uint32_t object_bytes, object_class = class_of(size, &object_bytes);
    pthread_mutex_lock(&lock);
    if (!pool.ready)
        pool_init();
    int quarter = DENSE;
    while (quarter >= quarter_min && list_is_empty(&pool.with_room[object_class][quarter]))
        quarter--;
    struct slab *s =
        quarter < quarter_min
            ? slab_take(object_class, object_bytes)
            : CONTAINER_OF(pool.with_room[object_class][quarter].next, struct slab, link);
    void *p = take_object(s, object_class);
    pthread_mutex_unlock(&lock);
    return p;
}

void *slab_alloc(size_t size)
{
    return alloc(size, 0);
}

void *slab_alloc_dense(size_t size)
{
    return alloc(size, DENSE);
}

void slab_free(void *p, size_t size)
{
    if (size > SLAB_OBJECT_BYTES_MAX) {
        mem_free(p);
        return;
    }
    struct slab *s = slab_of(p);
    uint32_t object_bytes, object_class = class_of(size, &object_bytes);
    pthread_mutex_lock(&lock);
    ASSERT(s->object_bytes == object_bytes && s->in_use > 0);
    memcpy(p, &s->freed, sizeof(void *));
    s->freed = p;
    pool.stats.objects--;
    pool.stats.object_bytes -= object_bytes;
    bool was_full = s->in_use == s->capacity;
    s->in_use--;
    slab_place(s, object_class, was_full);
    if (s->in_use == 0)
        slab_give_back(s);
    pthread_mutex_unlock(&lock);
}

/* --- moving and giving back --- */

bool slab_is_wasteful(void)
{
    pthread_mutex_lock(&lock);
    uint64_t bytes = pool.stats.slabs_in_use * SLAB_BYTES;
    uint64_t waste = bytes - pool.stats.object_bytes;
    pthread_mutex_unlock(&lock);
    return waste >= WASTE_BYTES_MIN && waste * 100 >= bytes * WASTE_PERCENT;
}

bool slab_is_sparse(const void *p, size_t size)
{
    if (size > SLAB_OBJECT_BYTES_MAX)
        return false;
    pthread_mutex_lock(&lock);
    const struct slab *s = slab_of(p);
    bool sparse = s->in_use < s->capacity && s->quarter < DENSE;
    pthread_mutex_unlock(&lock);
    return sparse;
}

static void trim_slab(struct place *p)
{
    list_remove(&p->link);
    list_push_front(&pool.bare, &p->link);
    p->populated = false;
    pool.stats.slabs_empty--;
    int rv = advise(slab_at(p), MADV_DONTNEED);
    ASSERT(rv == 0);
}

bool slab_trim(void)
{
    if (!atomic_load_explicit(&may_trim, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&lock);
    if (pool.unused_count > 1)
        region_remove(CONTAINER_OF(pool.unused.next, struct region, unused_link));
    else
        for (int i = 0; i < TRIM_SLABS && pool.stats.slabs_empty > SLABS_EMPTY_KEPT; i++)
            trim_slab(CONTAINER_OF(pool.empty.prev, struct place, link));
    bool more = pool.unused_count > 1 || pool.stats.slabs_empty > SLABS_EMPTY_KEPT;
    atomic_store_explicit(&may_trim, more, memory_order_relaxed);
    pthread_mutex_unlock(&lock);
    return more;
}

void slab_stats(struct slab_stats *ret)
{
    pthread_mutex_lock(&lock);
    *ret = pool.stats;
    pthread_mutex_unlock(&lock);
}

/* --- for tests --- */

static void check_class(uint32_t object_class, struct slab_stats *t)
{
    uint32_t filling = 0;
    for (int quarter = 0; quarter < QUARTERS; quarter++) {
        LIST_EACH (it, &pool.with_room[object_class][quarter]) {
            struct slab *s = CONTAINER_OF(it, struct slab, link);
            uint32_t object_bytes;
            ASSERT(class_of(s->object_bytes, &object_bytes) == object_class);
            ASSERT(object_bytes == s->object_bytes);
            ASSERT(s->in_use > 0 && s->in_use < s->capacity && s->in_use <= s->carved);
            ASSERT(s->quarter == quarter && quarter_of(s) == quarter);
            filling += s->filling;
            t->objects += s->in_use;
            t->slabs_in_use++;
        }
    }
    ASSERT(filling <= 1);
}

void slab_check(void)
{
    struct slab_stats t = {0};
    pthread_mutex_lock(&lock);
    if (!pool.ready)
        pool_init();
    for (uint32_t i = 0; i < CLASSES; i++)
        check_class(i, &t);
    ASSERT(t.objects <= pool.stats.objects && t.slabs_in_use <= pool.stats.slabs_in_use);
    uint64_t empty = 0, bare = 0, unused = 0;
    LIST_EACH (it, &pool.empty)
        empty += CONTAINER_OF(it, struct place, link)->populated;
    LIST_EACH (it, &pool.bare)
        bare += !CONTAINER_OF(it, struct place, link)->populated;
    LIST_EACH (it, &pool.unused)
        unused += CONTAINER_OF(it, struct region, unused_link)->slabs_in_use == 0;
    ASSERT(empty == pool.stats.slabs_empty && unused == pool.unused_count);
    ASSERT(empty + bare + pool.stats.slabs_in_use == pool.stats.regions * SLABS_PER_REGION);
    pthread_mutex_unlock(&lock);
}
