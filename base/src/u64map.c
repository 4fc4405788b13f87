#include "base/u64map.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdbool.h>

enum { SLOTS_MIN = 16 };

void u64map_init(struct u64map *m)
{
    *m = (struct u64map){0};
}

void u64map_fini(struct u64map *m)
{
    mem_free(m->slots);
    u64map_init(m);
}

/* Ids are often counters: multiply and take the high bits so that they spread (Knuth 6.4). */
static size_t home_of(const struct u64map *m, uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & (m->slots_count - 1);
}

/* The slot that holds `key`, or the empty one where it would go. */
static size_t find(const struct u64map *m, uint64_t key)
{
    size_t i = home_of(m, key);
    while (m->slots[i].key != 0 && m->slots[i].key != key)
        i = (i + 1) & (m->slots_count - 1);
    return i;
}

void *u64map_get(const struct u64map *m, uint64_t key)
{
    if (m->count == 0 || key == 0)
        return NULL;
    return m->slots[find(m, key)].value; /* NULL in an empty slot */
}

void u64map_prefetch(const struct u64map *m, uint64_t key)
{
    if (m->count > 0)
        __builtin_prefetch(&m->slots[home_of(m, key)]);
}

static bool is_full(const struct u64map *m)
{
    return m->count * 4 >= m->slots_count * 3;
}

static size_t larger(const struct u64map *m)
{
    return m->slots_count == 0 ? SLOTS_MIN : m->slots_count * 2;
}

static void move_to(struct u64map *m, struct u64map_slot *slots, size_t slots_count)
{
    struct u64map bigger = {.slots = slots, .slots_count = slots_count, .count = m->count};
    for (size_t i = 0; i < m->slots_count; i++)
        if (m->slots[i].key != 0)
            bigger.slots[find(&bigger, m->slots[i].key)] = m->slots[i];
    mem_free(m->slots);
    *m = bigger;
}

int u64map_try_reserve(struct u64map *m)
{
    if (!is_full(m))
        return 0;
    struct u64map_slot *slots = mem_try_alloc_zero(larger(m) * sizeof(*slots));
    if (slots == NULL)
        return TV_ENOMEM;
    move_to(m, slots, larger(m));
    return 0;
}

void *u64map_put(struct u64map *m, uint64_t key, void *value)
{
    ASSERT(key != 0);
    ASSERT(value != NULL);
    if (is_full(m))
        move_to(m, mem_alloc_zero(larger(m) * sizeof(*m->slots)), larger(m));
    struct u64map_slot *s = &m->slots[find(m, key)];
    void *before = s->value;
    if (s->key == 0)
        m->count++;
    *s = (struct u64map_slot){.key = key, .value = value};
    return before;
}

void *u64map_remove(struct u64map *m, uint64_t key)
{
    if (m->count == 0 || key == 0)
        return NULL;
    size_t mask = m->slots_count - 1;
    size_t hole = find(m, key);
    if (m->slots[hole].key == 0)
        return NULL;
    void *value = m->slots[hole].value;
    for (size_t i = (hole + 1) & mask; m->slots[i].key != 0; i = (i + 1) & mask) {
        /* An entry may move back into the hole only if its home is not past the hole. */
        size_t home = home_of(m, m->slots[i].key);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (struct u64map_slot){0};
    m->count--;
    return value;
}

int u64map_next(const struct u64map *m, size_t *cursor, uint64_t *ret_key, void **ret_value)
{
    while (*cursor < m->slots_count) {
        const struct u64map_slot *s = &m->slots[(*cursor)++];
        if (s->key != 0) {
            *ret_key = s->key;
            *ret_value = s->value;
            return 1;
        }
    }
    return 0;
}
