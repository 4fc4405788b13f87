/* Versions that were taken out of their place while readers may hold them from one section to the
 * next: contents that were replaced as a whole, and old copies of what was moved.
 *
 * The epoch protects who is inside a section; who leaves it with a version in hand has a pin. So a
 * grave is given up in two steps: when all who were inside have left, only pins taken until then
 * can protect something in here, and when these are released it goes to the epoch's queue.
 *
 * Invariants:
 * 1. Graves are in the order in which they were closed: when one is held, so are all behind it.
 *
 * Owner: the writer. */
#include "mvcc_internal.h"

/* What the readers pinned before they left is counted: they did it before they left. */
static void readers_left(void *p)
{
    struct grave *g = p;
    g->order = atomic_load_explicit(&g->m->pins_order, memory_order_relaxed);
    g->readers_left = true;
}

void mvcc__grave_dig(struct mvcc *m, uint64_t moved_bytes)
{
    struct grave *g = mem_alloc_zero(sizeof(*g));
    g->m = m;
    g->retired = m->pending;
    g->retired_count = m->pending_count;
    g->moved_bytes = moved_bytes;
    m->pack.held_bytes += moved_bytes;
    m->pending = NULL;
    m->pending_count = m->pending_capacity = 0;
    list_push_back(&m->graves, &g->link);
}

/* When a reader is at the list just now, it is held: the writer does not wait for it. */
static bool grave_is_held(struct mvcc *m, const struct grave *g)
{
    if (!g->readers_left)
        return true;
    if (pthread_mutex_trylock(&m->pins_lock) != 0)
        return true;
    bool held = false;
    LIST_EACH (it, &m->pins)
        held = held || CONTAINER_OF(it, struct mvcc_pin, link)->order <= g->order;
    pthread_mutex_unlock(&m->pins_lock);
    return held;
}

static void give_up(struct mvcc *m, struct grave *g)
{
    for (size_t i = 0; i < g->retired_count; i++)
        mvcc__retire(m, (void *)(g->retired[i] & ~(uintptr_t)3),
                     (enum retired_kind)(g->retired[i] & 3));
    m->pack.held_bytes -= g->moved_bytes;
    list_remove(&g->link);
    mem_free(g->retired);
    mem_free(g);
}

void mvcc__graves_tend(struct mvcc *m, bool all)
{
    while (!list_is_empty(&m->graves)) {
        struct grave *g = CONTAINER_OF(m->graves.next, struct grave, link);
        if (!all && grave_is_held(m, g))
            return;
        give_up(m, g);
    }
}

void mvcc__grave_close(struct mvcc *m)
{
    struct grave *g = CONTAINER_OF(m->graves.prev, struct grave, link);
    epoch_retire(&m->epoch, g, readers_left);
}
