/* Memory for versions and nodes: objects of many sizes, with little between them.
 *
 * A general allocator's classes are a quarter of a power of two apart, which would cost a store of
 * small values a tenth of its memory; here they are 16 bytes apart at first. And what is freed by a
 * large compaction is not handed to the kernel page by page on the core thread. Huge pages are not
 * asked for: walks would gain a fifth, but the kernel stops the thread to make them.
 *
 * Thread: any; one lock. In a running node the core thread alone comes here. */
#ifndef STORAGE_MVCC_SLAB_H
#define STORAGE_MVCC_SLAB_H

#include <stddef.h>
#include <stdint.h>

enum {
    SLAB_BYTES = 64 * 1024,
    SLAB_REGION_BYTES = 2 * 1024 * 1024,
    SLAB_OBJECT_BYTES_MAX = 4096, /* larger ones go to mem_alloc() */
};

void *slab_alloc(size_t size) __attribute__((malloc, returns_nonnull));
/* `size` is what was asked for. */
void slab_free(void *p, size_t size);

struct slab_stats {
    uint64_t regions;
    uint64_t slabs_in_use;
    uint64_t objects;
};
void slab_stats(struct slab_stats *ret);

#endif
