/* Memory for one request or one batch, freed in one step. Not thread-safe: one owner. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slice.h"

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used;                /* of the newest block */
    size_t total_bytes;         /* of all blocks */
};

void arena_init(struct arena *a);
void arena_fini(struct arena *a);
/* Forget everything but keep one block for the next use. */
void arena_clear(struct arena *a);
/* Aligned for any object; never NULL. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_alloc_zero(struct arena *a, size_t size);
/* NULL: there is no memory. */
void *arena_try_alloc(struct arena *a, size_t size);
/* A copy of `s` that lives as long as the arena. */
struct slice arena_copy(struct arena *a, struct slice s);

#endif
