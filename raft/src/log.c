/* The log in memory, see log.h. */
#include "log.h"

#include "base/assert.h"
#include "base/mem.h"

enum { CAPACITY_MIN = 256 };

static struct raft_entry *slot(const struct raft_log *l, uint64_t log_index)
{
    return &l->ring[log_index & (l->capacity - 1)];
}

void raft__log_init(struct raft_log *l, uint64_t base_index, uint64_t base_term)
{
    *l = (struct raft_log){.capacity = CAPACITY_MIN,
                           .base_index = base_index,
                           .base_term = base_term,
                           .last_index = base_index,
                           .last_term = base_term};
    l->ring = mem_alloc(l->capacity * sizeof(*l->ring));
}

void raft__log_fini(struct raft_log *l)
{
    for (uint64_t i = l->base_index + 1; i <= l->last_index; i++)
        bref_unref(slot(l, i)->owner);
    mem_free(l->ring);
}

size_t raft__entry_bytes(const struct raft_entry *e)
{
    return sizeof(*e) + e->data.size;
}

static void grow(struct raft_log *l, uint64_t count)
{
    uint64_t capacity = l->capacity;
    while (capacity < count)
        capacity *= 2;
    struct raft_entry *ring = mem_alloc(capacity * sizeof(*ring));
    for (uint64_t i = l->base_index + 1; i <= l->last_index; i++)
        ring[i & (capacity - 1)] = *slot(l, i);
    mem_free(l->ring);
    l->ring = ring;
    l->capacity = capacity;
}

void raft__log_append(struct raft_log *l, const struct raft_entry *entries, uint32_t count)
{
    uint64_t total = l->last_index - l->base_index + count;
    if (total > l->capacity)
        grow(l, total);
    for (uint32_t i = 0; i < count; i++) {
        const struct raft_entry *e = &entries[i];
        ASSERT(e->log_index == l->last_index + 1);
        ASSERT(e->term >= l->last_term);
        struct raft_entry *to = slot(l, e->log_index);
        *to = *e;
        if (to->owner != NULL)
            bref_ref(to->owner);
        l->last_index = e->log_index;
        l->last_term = e->term;
        l->bytes += raft__entry_bytes(e);
    }
}

void raft__log_truncate(struct raft_log *l, uint64_t from)
{
    ASSERT(from > l->base_index);
    while (l->last_index >= from) {
        struct raft_entry *e = slot(l, l->last_index);
        l->bytes -= raft__entry_bytes(e);
        bref_unref(e->owner);
        l->last_index--;
    }
    bool known = raft__log_term(l, l->last_index, &l->last_term);
    ASSERT(known);
}

void raft__log_reset(struct raft_log *l, uint64_t base_index, uint64_t base_term)
{
    for (uint64_t i = l->base_index + 1; i <= l->last_index; i++)
        bref_unref(slot(l, i)->owner);
    l->base_index = base_index;
    l->base_term = base_term;
    l->last_index = base_index;
    l->last_term = base_term;
    l->bytes = 0;
}

void raft__log_trim(struct raft_log *l, uint64_t log_index_max, size_t bytes_max)
{
    ASSERT(log_index_max <= l->last_index);
    while (l->bytes > bytes_max && l->base_index < log_index_max) {
        struct raft_entry *e = slot(l, l->base_index + 1);
        l->base_index = e->log_index;
        l->base_term = e->term;
        l->bytes -= raft__entry_bytes(e);
        bref_unref(e->owner);
    }
}

const struct raft_entry *raft__log_at(const struct raft_log *l, uint64_t log_index)
{
    ASSERT(log_index > l->base_index && log_index <= l->last_index);
    return slot(l, log_index);
}

bool raft__log_term(const struct raft_log *l, uint64_t log_index, uint64_t *ret_term)
{
    if (log_index < l->base_index || log_index > l->last_index)
        return false;
    *ret_term = log_index == l->base_index ? l->base_term : slot(l, log_index)->term;
    return true;
}

const struct raft_entry *raft__log_span(const struct raft_log *l, uint64_t lo, uint64_t hi,
                                        uint32_t *ret_count)
{
    ASSERT(lo > l->base_index && hi <= l->last_index + 1);
    uint64_t to_edge = l->capacity - (lo & (l->capacity - 1));
    uint64_t count = lo < hi ? hi - lo : 0;
    if (count > to_edge)
        count = to_edge;
    *ret_count = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
    return slot(l, lo);
}

uint64_t raft__log_newest_not_above(const struct raft_log *l, uint64_t log_index, uint64_t term,
                                    uint64_t *ret_term)
{
    if (log_index > l->last_index)
        log_index = l->last_index;
    *ret_term = 0;
    if (log_index < l->base_index)
        return log_index;
    if (l->base_term > term)
        return l->base_index == 0 ? 0 : l->base_index - 1;

    /* Terms do not fall: the answer is the last of a run that begins at base_index. */
    uint64_t lo = l->base_index;
    uint64_t hi = log_index;
    while (lo < hi) {
        uint64_t middle = hi - (hi - lo) / 2;
        if (slot(l, middle)->term <= term)
            lo = middle;
        else
            hi = middle - 1;
    }
    bool known = raft__log_term(l, lo, ret_term);
    ASSERT(known);
    return lo;
}
