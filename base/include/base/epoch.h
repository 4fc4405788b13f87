/* Epoch-based reclamation: one writer retires memory that lock-free readers may still see; it is
 * freed once every reader that could see it has left (Fraser, "Practical lock-freedom", 5.2.3).
 *
 * Invariants:
 * 1. A reader inside a section has announced the global epoch it saw on entry.
 * 2. What is retired in epoch e is freed only when all readers inside announced an epoch > e. */
#ifndef BASE_EPOCH_H
#define BASE_EPOCH_H

#include "base/list.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { EPOCH_READERS_MAX = 64 };

/* Owner: the thread that registered it; `announced` is read by the writer. */
struct epoch_reader {
    _Alignas(64) _Atomic uint64_t announced; /* 0 = outside */
    _Atomic uint32_t in_use;
};

struct epoch_retired {
    void *p;
    void (*free_fn)(void *p);
    uint64_t epoch;
};

/* Owner: the writer thread, except `global` and `readers`. */
struct epoch {
    _Atomic uint64_t global;
    struct epoch_reader readers[EPOCH_READERS_MAX];
    struct epoch_retired *retired; /* ring, oldest at `first` */
    size_t retired_capacity;
    size_t first;
    size_t count;
};

void epoch_init(struct epoch *e);
/* Frees all that is retired. No reader may be inside. */
void epoch_fini(struct epoch *e);

/* Thread: any. A slot for this thread; NULL when EPOCH_READERS_MAX are taken. */
struct epoch_reader *epoch_register(struct epoch *e);
void epoch_unregister(struct epoch_reader *r);

/* Thread: the reader's. Sections are short (one loop turn) and do not nest. */
void epoch_enter(struct epoch *e, struct epoch_reader *r);
void epoch_leave(struct epoch_reader *r);

/* Thread: writer. `p` is no longer reachable for readers that enter from now on. */
void epoch_retire(struct epoch *e, void *p, void (*free_fn)(void *p));
/* Thread: writer. Free what no reader can see any more; cheap when there is nothing. */
void epoch_collect(struct epoch *e);

#endif
