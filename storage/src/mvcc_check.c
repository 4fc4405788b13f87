/* All invariants of the store at once, for tests. */
#include "mvcc_internal.h"

struct totals {
    uint64_t keys, versions, version_bytes, index_bytes;
};

/* Versions get older down the chain; a tombstone is on top of something that existed, or of nothing
 * that is kept; a chain has no two tombstones in a row. */
static void check_chain(const struct mvcc *m, const struct mvcc_version *v, struct totals *t)
{
    struct slice key = mvcc_version_key(v);
    ASSERT(v->main <= m->revision);
    t->keys += !mvcc_version_is_tombstone(v);
    while (v != NULL) {
        const struct mvcc_version *older = mvcc__older(v);
        t->versions++;
        t->version_bytes += mvcc_version_bytes(v);
        ASSERT(slice_equal(mvcc_version_key(v), key));
        if (older != NULL) {
            ASSERT(older->main < v->main || (older->main == v->main && older->sub < v->sub));
            ASSERT(!mvcc_version_is_tombstone(v) || !mvcc_version_is_tombstone(older));
            ASSERT(mvcc_version_is_created(v) == mvcc_version_is_tombstone(older));
        }
        v = older;
    }
}

/* `lower` and `upper` bound the keys; NULL = no bound. */
static void check_key(struct slice key, const struct separator *lower,
                      const struct separator *upper)
{
    ASSERT(lower == NULL || slice_compare(key, slice_of(lower->data, lower->size)) >= 0);
    ASSERT(upper == NULL || slice_compare(key, slice_of(upper->data, upper->size)) < 0);
}

/* Returns the keys below that exist. */
static uint64_t check_node(const struct mvcc *m, const struct mvcc_node *n,
                           const struct separator *lower, const struct separator *upper,
                           struct totals *t)
{
    uint64_t live = 0;
    ASSERT(n == m->root || n->count > 0);
    ASSERT(n->batch <= m->batch);
    if (n->level == 0) {
        const struct mvcc_leaf *l = mvcc__leaf(n);
        t->index_bytes += sizeof(*l);
        for (uint32_t i = 0; i < n->count; i++) {
            const struct mvcc_version *v = mvcc__slot(l, i);
            struct slice key = mvcc_version_key(v);
            bool equal;
            check_key(key, lower, upper);
            ASSERT(mvcc__leaf_search(l, key, &equal) == i && equal);
            ASSERT(i == 0 || slice_compare(mvcc_version_key(mvcc__slot(l, i - 1)), key) < 0);
            check_chain(m, v, t);
            live += !mvcc_version_is_tombstone(v);
        }
        return live;
    }
    const struct mvcc_inner *inner = mvcc__inner(n);
    t->index_bytes += sizeof(*inner);
    ASSERT(inner->separator[0] == NULL);
    for (uint32_t i = 0; i < n->count; i++) {
        const struct separator *s = inner->separator[i];
        ASSERT(inner->child[i]->level == n->level - 1);
        if (i > 0) {
            t->index_bytes += sizeof(*s) + s->size;
            check_key(slice_of(s->data, s->size), lower, upper);
            ASSERT(mvcc__inner_search(inner, slice_of(s->data, s->size)) == i);
        }
        uint64_t below = check_node(m, inner->child[i], i == 0 ? lower : s,
                                    i + 1u < n->count ? inner->separator[i + 1] : upper, t);
        ASSERT(below == inner->live[i]);
        live += below;
    }
    return live;
}

/* In order, without a gap in the revisions' numbers of changes, and each change is in its chain. */
static void check_history(const struct mvcc *m)
{
    struct mvcc_history_cursor c;
    const struct mvcc_version *v, *last = NULL;
    int64_t floor = atomic_load(&m->history.floor);
    uint64_t count = 0;
    int rv = mvcc_history_seek(m, &c, floor);
    ASSERT(rv == 0);
    while ((v = mvcc__history_next(&c, m->revision)) != NULL) {
        ASSERT(v->main >= floor);
        if (last != NULL)
            ASSERT(v->main > last->main || (v->main == last->main && v->sub > last->sub));
        const struct mvcc_version *in = mvcc__index_find(m->root, mvcc_version_key(v));
        while (in != NULL && in != v)
            in = mvcc__older(in);
        ASSERT(in == v);
        last = v;
        count++;
    }
    ASSERT(m->scrub_done < m->scrub_rev || count == mvcc__history_count(&m->history));
}

/* What is in a grave is out of reach. */
static void check_graves(const struct mvcc *m)
{
    uint64_t moved_bytes = 0;
    LIST_EACH (it, &m->graves) {
        const struct grave *g = CONTAINER_OF(it, struct grave, link);
        moved_bytes += g->moved_bytes;
        for (size_t i = 0; g->moved_bytes > 0 && i < g->retired_count; i++) {
            if ((g->retired[i] & 3) != RETIRED_VERSION)
                continue;
            const struct mvcc_version *v = (void *)(g->retired[i] & ~(uintptr_t)3);
            ASSERT(mvcc__older(v) == NULL && v->main < m->scrub_done);
            ASSERT(mvcc__index_find(m->root, mvcc_version_key(v)) != v);
        }
    }
    ASSERT(moved_bytes == m->pack.held_bytes);
}

void mvcc_check(const struct mvcc *m)
{
    ASSERT(!m->in_txn);
    struct totals t = {0};
    uint64_t live = check_node(m, m->root, NULL, NULL, &t);
    ASSERT(live == m->keys && t.keys == m->keys);
    ASSERT(t.versions == m->versions && t.version_bytes == m->version_bytes);
    ASSERT(t.index_bytes == m->index_bytes);
    ASSERT(m->scrub_done <= m->scrub_rev && m->scrub_rev <= m->compacted);
    ASSERT(m->compacted <= m->revision);
    check_history(m);
    check_graves(m);
    if (MVCC_SLABS)
        slab_check();
}
