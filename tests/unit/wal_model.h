/* What a log should hold, kept in plain arrays, and a reader that compares. For the tests of the
 * log. */
#ifndef TESTS_UNIT_WAL_MODEL_H
#define TESTS_UNIT_WAL_MODEL_H

#include "unit.h"

#include "storage/disk_mem.h"
#include "storage/wal.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <string.h>

enum { MODEL_ENTRIES_MAX = 8192 };

struct model_entry {
    uint64_t term;
    uint32_t seed; /* its bytes follow from this */
    uint32_t size;
    uint8_t type;
};

/* entries[i] has index i; those in (before_first, last] count. */
struct model {
    struct model_entry entries[MODEL_ENTRIES_MAX];
    uint64_t before_first;
    uint64_t before_term;
    uint64_t last;
    struct wal_hard_state hs;
};

static inline uint8_t model_byte(uint32_t seed, uint32_t at)
{
    return (uint8_t)((seed + at * 2654435761u) >> 13);
}

static inline void model_fill(uint8_t *to, const struct model_entry *e)
{
    for (uint32_t i = 0; i < e->size; i++)
        to[i] = model_byte(e->seed, i);
}

static inline bool model_bytes_equal(const struct model_entry *e, struct slice s)
{
    if (s.size != e->size)
        return false;
    for (uint32_t i = 0; i < e->size; i++) {
        if (s.data[i] != model_byte(e->seed, i))
            return false;
    }
    return true;
}

/* Append one entry to the model and to the log. */
static inline void model_append(struct model *m, struct wal *w, uint64_t seq, uint64_t log_index,
                                uint64_t term, uint32_t size, uint32_t seed)
{
    ck_assert_uint_lt(log_index, MODEL_ENTRIES_MAX);
    struct model_entry *e = &m->entries[log_index];
    *e =
        (struct model_entry){.term = term, .seed = seed, .size = size, .type = (uint8_t)(seed % 3)};
    m->last = log_index;
    uint8_t *data = mem_alloc(size + 1);
    model_fill(data, e);
    struct wal_entry we = {
        .term = term, .log_index = log_index, .type = e->type, .data = slice_of(data, size)};
    wal_append(w, seq, &we, 1, NULL);
    mem_free(data);
}

/* --- replay into a model: only sizes, terms, types and a seed found by comparing are kept --- */

struct replayed {
    struct model m;
    const struct model *expect; /* NULL: bytes are not compared */
    uint64_t wrong_from;        /* lowest index whose bytes were not the expected; 0: none */
};

static inline int replayed_entry(void *ctx, const struct wal_entry *e)
{
    struct replayed *r = ctx;
    ck_assert_uint_lt(e->log_index, MODEL_ENTRIES_MAX);
    ck_assert_uint_gt(e->log_index, r->m.before_first);
    ck_assert_uint_le(e->log_index, r->m.last + 1);
    ck_assert((e->owner != NULL) == (e->data.size > 0));
    r->m.last = e->log_index;
    struct model_entry *to = &r->m.entries[e->log_index];
    *to = (struct model_entry){.term = e->term, .size = (uint32_t)e->data.size, .type = e->type};
    if (r->wrong_from >= e->log_index)
        r->wrong_from = 0;
    if (r->expect != NULL) {
        const struct model_entry *want = &r->expect->entries[e->log_index];
        bool same =
            want->term == e->term && want->type == e->type && model_bytes_equal(want, e->data);
        to->seed = want->seed;
        if (!same && r->wrong_from == 0)
            r->wrong_from = e->log_index;
    }
    return 0;
}

static inline void replayed_hard_state(void *ctx, const struct wal_hard_state *hs)
{
    ((struct replayed *)ctx)->m.hs = *hs;
}

static inline void replayed_start(void *ctx, uint64_t log_index, uint64_t term)
{
    struct replayed *r = ctx;
    r->m.before_first = r->m.last = log_index;
    r->m.before_term = term;
    r->wrong_from = 0;
}

static inline int model_open(const struct wal_options *o, const struct model *expect,
                             struct replayed *r, struct wal **ret, char *err_text, size_t err_size)
{
    memset(r, 0, sizeof(*r));
    r->expect = expect;
    struct wal_replay replay = {.ctx = r,
                                .entry = replayed_entry,
                                .hard_state = replayed_hard_state,
                                .start = replayed_start};
    int rv = wal_open(o, &replay, ret, err_text, err_size);
    if (rv == 0) {
        ck_assert_uint_eq(wal_last_index(*ret), r->m.last);
        ck_assert_uint_eq(wal_durable_index(*ret), r->m.last);
        ck_assert_uint_eq(wal_first_index(*ret), r->m.before_first + 1);
        ck_assert_uint_eq(wal_term_before_first(*ret), r->m.before_term);
        ck_assert(wal_idle(*ret));
    }
    return rv;
}

/* Open, and the log must be exactly this. */
static inline struct wal *model_reopen(const struct wal_options *o, const struct model *m)
{
    static struct replayed r;
    char err[256] = "";
    struct wal *w;
    ck_assert_msg(model_open(o, m, &r, &w, err, sizeof(err)) == 0, "%s", err);
    ck_assert_uint_eq(r.wrong_from, 0);
    ck_assert_uint_eq(r.m.last, m->last);
    ck_assert_uint_le(r.m.before_first, m->last);
    ck_assert_uint_eq(r.m.hs.term, m->hs.term);
    ck_assert_uint_eq(r.m.hs.vote, m->hs.vote);
    ck_assert_uint_eq(r.m.hs.commit, m->hs.commit);
    return w;
}

/* Read all durable entries from lo on, in pieces of odd sizes, and compare. */
static inline void model_read_back(struct wal *w, const struct model *m, uint64_t lo,
                                   uint32_t count_max, size_t bytes_max)
{
    struct wal_entry chunk[64];
    while (lo <= wal_durable_index(w)) {
        uint32_t count = count_max < 64 ? count_max : 64;
        ck_assert_int_eq(wal_read(w, lo, UINT64_MAX, bytes_max, chunk, &count), 0);
        ck_assert_uint_gt(count, 0);
        size_t bytes = 0;
        for (uint32_t i = 0; i < count; i++, lo++) {
            const struct model_entry *want = &m->entries[lo];
            ck_assert_uint_eq(chunk[i].log_index, lo);
            ck_assert_uint_eq(chunk[i].term, want->term);
            ck_assert_uint_eq(chunk[i].type, want->type);
            ck_assert(model_bytes_equal(want, chunk[i].data));
            ck_assert_uint_eq(wal_term(w, lo), want->term);
            bytes += chunk[i].data.size;
            ck_assert(i == 0 || bytes <= bytes_max);
            bref_unref(chunk[i].owner);
        }
    }
}

#endif
