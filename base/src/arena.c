#include "base/arena.h"

#include "base/mem.h"

enum { ARENA_BLOCK_BYTES = 8 << 10, ARENA_ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t size; /* of data */
    _Alignas(ARENA_ALIGN) uint8_t data[];
};

void arena_init(struct arena *a)
{
    *a = (struct arena){0};
}

static void free_blocks(struct arena_block *b)
{
    while (b != NULL) {
        struct arena_block *next = b->next;
        mem_free(b);
        b = next;
    }
}

void arena_fini(struct arena *a)
{
    free_blocks(a->blocks);
    arena_init(a);
}

void arena_clear(struct arena *a)
{
    struct arena_block *keep = a->blocks;
    if (keep == NULL)
        return;
    free_blocks(keep->next);
    keep->next = NULL;
    a->used = 0;
    a->total_bytes = keep->size;
    if (keep->size > ARENA_BLOCK_BYTES)
        arena_fini(a); /* one large request must not hold its memory for ever */
}

static size_t aligned(size_t size)
{
    return (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
}

static bool needs_block(const struct arena *a, size_t size)
{
    return a->blocks == NULL || a->blocks->size - a->used < size;
}

static size_t block_size_for(size_t size)
{
    return size > ARENA_BLOCK_BYTES ? size : ARENA_BLOCK_BYTES;
}

static void add_block(struct arena *a, struct arena_block *b, size_t block_size)
{
    b->size = block_size;
    b->next = a->blocks;
    a->blocks = b;
    a->used = 0;
    a->total_bytes += block_size;
}

static void *take(struct arena *a, size_t size)
{
    void *p = a->blocks->data + a->used;
    a->used += size;
    return p;
}

void *arena_alloc(struct arena *a, size_t size)
{
    size = aligned(size);
    if (needs_block(a, size))
        add_block(a, mem_alloc(sizeof(struct arena_block) + block_size_for(size)),
                  block_size_for(size));
    return take(a, size);
}

void *arena_try_alloc(struct arena *a, size_t size)
{
    size = aligned(size);
    if (needs_block(a, size)) {
        struct arena_block *b = mem_try_alloc(sizeof(*b) + block_size_for(size));
        if (b == NULL)
            return NULL;
        add_block(a, b, block_size_for(size));
    }
    return take(a, size);
}

void *arena_alloc_zero(struct arena *a, size_t size)
{
    return memset(arena_alloc(a, size), 0, size);
}

struct slice arena_copy(struct arena *a, struct slice s)
{
    if (s.size == 0)
        return SLICE_EMPTY;
    return slice_of(memcpy(arena_alloc(a, s.size), s.data, s.size), s.size);
}
