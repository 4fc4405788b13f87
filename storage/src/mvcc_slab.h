/* Memory for versions and nodes: objects of many sizes, with little between them.
 *
 * A general allocator's classes are a quarter of a power of two apart, which would cost a store of
 * small values a tenth of its memory; here they are 16 bytes apart at first. And what is freed by a
 * large compaction goes back to the kernel in pieces, when the owner has the time for it
 * (slab_trim), and not page by page while it is freed.
 *
 * What stays after a compaction lies scattered. Allocations fill the fullest slabs first, and who
 * can move its objects asks which of them lie in sparse slabs, moves these with slab_alloc_dense(),
 * and the sparse slabs become empty.
 *
 * Thread: any; one lock. In a running node the core thread alone comes here. */
#ifndef STORAGE_MVCC_SLAB_H
#define STORAGE_MVCC_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SLAB_BYTES = 64 * 1024,
    SLAB_REGION_BYTES = 2 * 1024 * 1024,
    SLAB_OBJECT_BYTES_MAX = 4096, /* larger ones go to mem_alloc() */
    SLABS_EMPTY_KEPT = 16,        /* with their memory, for the next to come */
};

void *slab_alloc(size_t size) __attribute__((malloc, returns_nonnull));
/* `size` is what was asked for. */
void slab_free(void *p, size_t size);

/* --- moving --- */

/* Is so much of the slabs in use unused that moving pays? */
bool slab_is_wasteful(void);
/* Does the object lie in a slab that others should not be moved to, but away from? */
bool slab_is_sparse(const void *p, size_t size);
/* As slab_alloc(), but never in a sparse slab. */
void *slab_alloc_dense(size_t size) __attribute__((malloc, returns_nonnull));

/* --- giving back --- */

/* Give a bounded piece of what no object needs back to the kernel, which takes some tens of us.
 * True while there is more. */
bool slab_trim(void);

struct slab_stats {
    uint64_t regions;
    uint64_t slabs_in_use;
    uint64_t slabs_empty; /* that have memory */
    uint64_t objects;
    uint64_t object_bytes; /* what these take */
};
void slab_stats(struct slab_stats *ret);
/* Verify the invariants by ASSERT, for tests. */
void slab_check(void);

#endif
