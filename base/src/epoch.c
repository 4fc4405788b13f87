#include "base/epoch.h"

#include "base/assert.h"
#include "base/mem.h"

enum {
    RETIRED_CAPACITY_MIN = 1024,
    PREFETCH_AHEAD = 8,
    RETIRED_CAPACITY_KEPT = 16384, /* a larger ring goes when it is empty */
};

void epoch_init(struct epoch *e)
{
    *e = (struct epoch){0};
    atomic_init(&e->global, 1); /* 0 says "outside" */
}

static struct epoch_retired *retired_at(struct epoch *e, size_t i)
{
    return &e->retired[(e->first + i) & (e->retired_capacity - 1)];
}

static void free_oldest(struct epoch *e)
{
    struct epoch_retired *r = retired_at(e, 0);
    if (e->count > PREFETCH_AHEAD)
        __builtin_prefetch(retired_at(e, PREFETCH_AHEAD)->p);
    r->free_fn(r->p);
    e->first = (e->first + 1) & (e->retired_capacity - 1);
    e->count--;
}

void epoch_fini(struct epoch *e)
{
    for (int i = 0; i < EPOCH_READERS_MAX; i++)
        ASSERT(atomic_load(&e->readers[i].announced) == 0);
    while (e->count > 0)
        free_oldest(e);
    mem_free(e->retired);
    e->retired = NULL;
    e->retired_capacity = 0;
}

struct epoch_reader *epoch_register(struct epoch *e)
{
    for (int i = 0; i < EPOCH_READERS_MAX; i++) {
        uint32_t expected = 0;
        if (atomic_compare_exchange_strong(&e->readers[i].in_use, &expected, 1))
            return &e->readers[i];
    }
    return NULL;
}

void epoch_unregister(struct epoch_reader *r)
{
    ASSERT(atomic_load(&r->announced) == 0);
    atomic_store(&r->in_use, 0);
}

void epoch_enter(struct epoch *e, struct epoch_reader *r)
{
    ASSERT(atomic_load_explicit(&r->announced, memory_order_relaxed) == 0);
    /* Sequentially consistent: the announcement must be seen before anything is read, or the writer
     * could miss it and free what we are about to follow. */
    atomic_store(&r->announced, atomic_load(&e->global));
    atomic_thread_fence(memory_order_seq_cst);
}

void epoch_leave(struct epoch_reader *r)
{
    ASSERT(atomic_load_explicit(&r->announced, memory_order_relaxed) != 0);
    atomic_store_explicit(&r->announced, 0, memory_order_release);
}

static void grow(struct epoch *e)
{
    size_t capacity = e->retired_capacity == 0 ? RETIRED_CAPACITY_MIN : e->retired_capacity * 2;
    struct epoch_retired *retired = mem_alloc(capacity * sizeof(*retired));
    for (size_t i = 0; i < e->count; i++)
        retired[i] = *retired_at(e, i);
    mem_free(e->retired);
    e->retired = retired;
    e->retired_capacity = capacity;
    e->first = 0;
}

void epoch_retire(struct epoch *e, void *p, void (*free_fn)(void *p))
{
    if (e->count == e->retired_capacity)
        grow(e);
    *retired_at(e, e->count++) =
        (struct epoch_retired){.p = p, .free_fn = free_fn, .epoch = atomic_load(&e->global)};
}

void epoch_collect(struct epoch *e)
{
    if (e->count == 0)
        return;
    /* From here on readers announce a later epoch than anything retired so far carries. */
    uint64_t oldest_inside = atomic_fetch_add(&e->global, 1) + 1;
    for (int i = 0; i < EPOCH_READERS_MAX; i++) {
        uint64_t announced = atomic_load(&e->readers[i].announced);
        if (announced != 0 && announced < oldest_inside)
            oldest_inside = announced;
    }
    while (e->count > 0 && retired_at(e, 0)->epoch < oldest_inside)
        free_oldest(e);
    if (e->count == 0 && e->retired_capacity > RETIRED_CAPACITY_KEPT) {
        mem_free(e->retired);
        e->retired = NULL;
        e->retired_capacity = e->first = 0;
    }
}
