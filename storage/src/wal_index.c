/* Two small sorted arrays in memory: where entries lie, and which term they have. */
#include "wal_internal.h"

#include "base/assert.h"
#include "base/mem.h"

#include <string.h>

static void *grow(void *items, size_t count, size_t *capacity, size_t item_bytes)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity == 0 ? 64 : *capacity * 2;
    return mem_realloc(items, *capacity * item_bytes);
}

/* --- where --- */

void wal__index_fini(struct wal_index *x)
{
    mem_free(x->items);
    *x = (struct wal_index){0};
}

void wal__index_clear(struct wal_index *x)
{
    x->count = 0;
}

void wal__index_add(struct wal_index *x, uint64_t first_index, uint64_t last_before,
                    uint64_t segment_seq, uint64_t offset)
{
    while (x->count > 0 && x->items[x->count - 1].first_index >= first_index)
        x->count--;
    if (x->count > 0) {
        const struct wal_index_item *last = &x->items[x->count - 1];
        bool replaces = first_index <= last_before;
        if (!replaces && last->segment_seq == segment_seq &&
            offset - last->offset < WAL_INDEX_STEP_BYTES)
            return;
    }
    x->items = grow(x->items, x->count, &x->capacity, sizeof(x->items[0]));
    x->items[x->count++] = (struct wal_index_item){
        .first_index = first_index, .segment_seq = segment_seq, .offset = offset};
}

size_t wal__index_find(const struct wal_index *x, uint64_t log_index)
{
    size_t lo = 0, hi = x->count; /* items before lo begin at or below log_index */
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (x->items[mid].first_index <= log_index)
            lo = mid + 1;
        else
            hi = mid;
    }
    ASSERT(lo > 0);
    return lo - 1;
}

void wal__index_drop_below(struct wal_index *x, uint64_t segment_seq)
{
    size_t drop = 0;
    while (drop < x->count && x->items[drop].segment_seq < segment_seq)
        drop++;
    if (drop == 0)
        return;
    x->count -= drop;
    memmove(x->items, x->items + drop, x->count * sizeof(x->items[0]));
}

/* --- terms --- */

void wal__terms_fini(struct wal_terms *t)
{
    mem_free(t->runs);
    *t = (struct wal_terms){0};
}

void wal__terms_reset(struct wal_terms *t, uint64_t log_index, uint64_t term)
{
    t->count = 0;
    wal__terms_add(t, log_index, term);
}

void wal__terms_add(struct wal_terms *t, uint64_t log_index, uint64_t term)
{
    while (t->count > 0 && t->runs[t->count - 1].first_index >= log_index)
        t->count--;
    if (t->count > 0 && t->runs[t->count - 1].term == term)
        return;
    t->runs = grow(t->runs, t->count, &t->capacity, sizeof(t->runs[0]));
    t->runs[t->count++] = (struct wal_term_run){.first_index = log_index, .term = term};
}

uint64_t wal__terms_get(const struct wal_terms *t, uint64_t log_index)
{
    size_t i = t->count;
    while (i > 0 && t->runs[i - 1].first_index > log_index)
        i--;
    ASSERT(i > 0);
    return t->runs[i - 1].term;
}

void wal__terms_drop_below(struct wal_terms *t, uint64_t log_index)
{
    size_t drop = 0;
    while (drop + 1 < t->count && t->runs[drop + 1].first_index <= log_index)
        drop++;
    if (drop == 0)
        return;
    t->count -= drop;
    memmove(t->runs, t->runs + drop, t->count * sizeof(t->runs[0]));
}
