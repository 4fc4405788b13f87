#include "base/bref.h"

#include "base/assert.h"
#include "base/mem.h"

static struct bref *begin(struct bref *b, size_t capacity_bytes)
{
    atomic_init(&b->refs, 1);
    b->capacity_bytes = (uint32_t)capacity_bytes;
    return b;
}

struct bref *bref_new(size_t capacity_bytes)
{
    ASSERT(capacity_bytes <= UINT32_MAX);
    return begin(mem_alloc(sizeof(struct bref) + capacity_bytes), capacity_bytes);
}

struct bref *bref_try_new(size_t capacity_bytes)
{
    ASSERT(capacity_bytes <= UINT32_MAX);
    struct bref *b = mem_try_alloc(sizeof(*b) + capacity_bytes);
    return b == NULL ? NULL : begin(b, capacity_bytes);
}

struct bref *bref_ref(struct bref *b)
{
    uint32_t before = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    ASSERT(before > 0);
    return b;
}

void bref_unref(struct bref *b)
{
    if (b == NULL)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before == 1)
        mem_free(b);
}
