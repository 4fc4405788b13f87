/* The history: pointers to all changes in the order of their revisions, in chunks.
 *
 * The writer appends, and drops from the front what a compaction gave up. Readers find a revision
 * by bisection over the directory of the chunks and then within one chunk.
 *
 * Invariants:
 * 1. There is at least one chunk; the last one is where the next change goes, or is full.
 * 2. An entry's version is alive at least as long as the entry is not dropped.
 * 3. `floor` rises before the entries below it are dropped, so a reader that has found its place
 * and then still sees a floor at or below its revision has missed nothing. */
#include "mvcc_internal.h"

#include "base/err.h"
#include "base/mem.h"

enum { DIR_CAPACITY_MIN = 64 };

static struct mvcc_history_chunk *chunk_new(uint64_t base_index)
{
    struct mvcc_history_chunk *c = mem_alloc(sizeof(*c));
    atomic_init(&c->next, NULL);
    c->base_index = base_index;
    atomic_init(&c->first_rev, INT64_MAX);
    atomic_init(&c->count, 0);
    atomic_init(&c->dropped, 0);
    return c;
}

static struct history_dir *dir_new(size_t capacity, int64_t floor)
{
    struct history_dir *d = mem_alloc(sizeof(*d) + capacity * sizeof(d->chunk[0]));
    d->floor = floor;
    d->capacity = capacity;
    atomic_init(&d->first, 0);
    atomic_init(&d->end, 0);
    return d;
}

void mvcc__history_init(struct history *h)
{
    struct history_dir *d = dir_new(DIR_CAPACITY_MIN, INT64_MIN);
    d->chunk[0] = chunk_new(0);
    atomic_init(&d->end, 1);
    atomic_init(&h->dir, d);
    atomic_init(&h->floor, INT64_MIN);
}

static struct history_dir *dir_of(const struct history *h)
{
    return atomic_load_explicit(&h->dir, memory_order_acquire);
}

void mvcc__history_fini(struct history *h)
{
    struct history_dir *d = dir_of(h);
    for (size_t i = d->first; i < d->end; i++)
        mem_free(d->chunk[i]);
    mem_free(d);
}

static struct mvcc_history_chunk *tail_of(const struct history *h)
{
    struct history_dir *d = dir_of(h);
    /* Readers too ask for the tail: what add_chunk() put there comes with `end`. */
    return d->chunk[atomic_load_explicit(&d->end, memory_order_acquire) - 1];
}

/* A directory with room: twice as large, or as large if its front half is dropped. */
static struct history_dir *dir_grow(struct mvcc *m, struct history *h, struct history_dir *d)
{
    size_t live = d->end - d->first;
    size_t capacity = live * 2 > d->capacity ? d->capacity * 2 : d->capacity;
    struct history_dir *to = dir_new(capacity, h->floor);
    memcpy(to->chunk, d->chunk + d->first, live * sizeof(d->chunk[0]));
    atomic_store_explicit(&to->end, live, memory_order_relaxed);
    atomic_store_explicit(&h->dir, to, memory_order_release);
    if (m != NULL)
        mvcc__retire(m, d, RETIRED_MEMORY);
    else
        mem_free(d);
    return to;
}

/* `m` is NULL while no reader can see the history. */
static struct mvcc_history_chunk *add_chunk(struct mvcc *m, struct history *h)
{
    struct history_dir *d = dir_of(h);
    struct mvcc_history_chunk *tail = tail_of(h);
    if (d->end == d->capacity)
        d = dir_grow(m, h, d);
    struct mvcc_history_chunk *c = chunk_new(tail->base_index + HISTORY_CHUNK_ENTRIES);
    size_t end = d->end;
    d->chunk[end] = c;
    atomic_store_explicit(&d->end, end + 1, memory_order_release);
    atomic_store_explicit(&tail->next, c, memory_order_release);
    return c;
}

void mvcc__history_append(struct mvcc *m, struct history *h, struct mvcc_version *v)
{
    struct mvcc_history_chunk *c = tail_of(h);
    uint32_t count = atomic_load_explicit(&c->count, memory_order_relaxed);
    if (count == HISTORY_CHUNK_ENTRIES) {
        c = add_chunk(m, h);
        count = 0;
    }
    c->entry[count] = v;
    if (count == 0)
        atomic_store_explicit(&c->first_rev, v->main, memory_order_release);
    atomic_store_explicit(&c->count, count + 1, memory_order_release);
}

bool mvcc__history_first(const struct history *h, struct mvcc_version **ret_version)
{
    struct history_dir *d = dir_of(h);
    struct mvcc_history_chunk *c = d->chunk[d->first];
    if (c->dropped == c->count)
        return false;
    *ret_version = c->entry[c->dropped];
    return true;
}

void mvcc__history_drop_first(struct mvcc *m, struct history *h)
{
    struct history_dir *d = dir_of(h);
    struct mvcc_history_chunk *c = d->chunk[d->first];
    uint32_t dropped = c->dropped + 1;
    ASSERT(dropped <= c->count);
    if (dropped == HISTORY_CHUNK_ENTRIES && atomic_load(&c->next) == NULL)
        (void)add_chunk(m, h); /* the last chunk stays, invariant 1 */
    d = dir_of(h);
    atomic_store_explicit(&c->dropped, dropped, memory_order_release);
    if (dropped < HISTORY_CHUNK_ENTRIES)
        return;
    atomic_store_explicit(&d->first, d->first + 1, memory_order_release);
    mvcc__retire(m, c, RETIRED_MEMORY);
}

void mvcc__history_swap(struct mvcc *m, struct history *h, struct history *with)
{
    struct history_dir *old = dir_of(h);
    atomic_store_explicit(&h->dir, dir_of(with), memory_order_release);
    atomic_store_explicit(&h->floor, with->floor, memory_order_release);
    for (size_t i = old->first; i < old->end; i++)
        mvcc__retire(m, old->chunk[i], RETIRED_MEMORY);
    mvcc__retire(m, old, RETIRED_MEMORY);
}

uint64_t mvcc__history_count(const struct history *h)
{
    struct history_dir *d = dir_of(h);
    struct mvcc_history_chunk *first = d->chunk[d->first], *tail = tail_of(h);
    return tail->base_index + tail->count - first->base_index - first->dropped;
}

/* --- readers --- */

static struct mvcc_history_chunk *find_chunk(struct history_dir *d, int64_t rev)
{
    size_t first = atomic_load_explicit(&d->first, memory_order_acquire);
    size_t end = atomic_load_explicit(&d->end, memory_order_acquire);
    size_t lo = first + 1, hi = end; /* the last chunk that begins below rev, or the first one */
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (atomic_load_explicit(&d->chunk[mid]->first_rev, memory_order_acquire) < rev)
            lo = mid + 1;
        else
            hi = mid;
    }
    return d->chunk[lo - 1];
}

int mvcc_history_seek(const struct mvcc *m, struct mvcc_history_cursor *c, int64_t rev)
{
    struct history_dir *d = dir_of(&m->history);
    const struct mvcc_history_chunk *chunk = find_chunk(d, rev);
    uint32_t lo = atomic_load_explicit(&chunk->dropped, memory_order_acquire);
    uint32_t hi = atomic_load_explicit(&chunk->count, memory_order_acquire);
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (chunk->entry[mid]->main < rev)
            lo = mid + 1;
        else
            hi = mid;
    }
    /* Only now: invariant 3. */
    if (rev < d->floor || rev < atomic_load_explicit(&m->history.floor, memory_order_acquire))
        return TV_COMPACTED;
    *c = (struct mvcc_history_cursor){.m = m, .chunk = chunk, .at = lo};
    return 0;
}

struct mvcc_version *mvcc__history_next(struct mvcc_history_cursor *c, int64_t rev_max)
{
    uint32_t count = atomic_load_explicit(&c->chunk->count, memory_order_acquire);
    if (c->at == count) {
        if (count < HISTORY_CHUNK_ENTRIES)
            return NULL;
        const struct mvcc_history_chunk *next =
            atomic_load_explicit(&c->chunk->next, memory_order_acquire);
        if (next == NULL)
            return NULL;
        c->chunk = next;
        c->at = 0;
        count = atomic_load_explicit(&next->count, memory_order_acquire);
        if (count == 0)
            return NULL;
    }
    struct mvcc_version *v = c->chunk->entry[c->at];
    if (v->main > rev_max)
        return NULL;
    c->at++;
    if (c->at + 4 < count)
        __builtin_prefetch(c->chunk->entry[c->at + 4]);
    return v;
}

const struct mvcc_version *mvcc_history_next(struct mvcc_history_cursor *c, int64_t rev_max)
{
    int64_t published = mvcc_revision(c->m);
    return mvcc__history_next(c, rev_max < published ? rev_max : published);
}

uint64_t mvcc__history_remaining(const struct mvcc_history_cursor *c)
{
    const struct mvcc_history_chunk *tail = tail_of(&c->m->history);
    uint64_t end = tail->base_index + atomic_load_explicit(&tail->count, memory_order_acquire);
    uint64_t at = c->chunk->base_index + c->at;
    return end > at ? end - at : 0; /* a new directory after mvcc_load_end() counts from 0 */
}
