/* What readers do: get one key, walk a range, count one. The same code serves the writer inside a
 * transaction, on its own root.
 *
 * A reader takes the published snapshot: a root, and the revision whose live counts it holds. Nodes
 * do not change under it; a leaf's slot may come to lead to a version that is newer than the
 * snapshot, and is then followed down to the revision asked for. */
#include "mvcc_internal.h"

#include "base/err.h"

enum { PREFETCH_SLOTS = 8 };

static const struct snapshot *snapshot_of(const struct mvcc *m)
{
    return atomic_load_explicit(&m->published, memory_order_acquire);
}

bool mvcc__range_is_open(struct slice range_end)
{
    return range_end.size == 1 && range_end.data[0] == 0;
}

bool mvcc__range_has(struct slice key, struct slice range_end, struct slice k)
{
    if (range_end.size == 0)
        return slice_equal(key, k);
    if (slice_compare(k, key) < 0)
        return false;
    return mvcc__range_is_open(range_end) || slice_compare(k, range_end) < 0;
}

static int check_revision(int64_t newest, int64_t compacted, int64_t rev, int64_t *ret_rev)
{
    if (rev > newest)
        return TV_FUTURE_REV;
    if (rev <= 0)
        rev = newest;
    if (rev < compacted)
        return TV_COMPACTED;
    *ret_rev = rev;
    return 0;
}

int mvcc_check_revision(const struct mvcc *m, int64_t rev, int64_t *ret_rev)
{
    const struct snapshot *s = snapshot_of(m);
    return check_revision(s->revision, s->compacted, rev, ret_rev);
}

int mvcc_txn_check_revision(const struct mvcc *m, int64_t rev, int64_t *ret_rev)
{
    return check_revision(mvcc_txn_revision(m), m->compacted, rev, ret_rev);
}

int64_t mvcc_txn_compacted(const struct mvcc *m)
{
    return m->compacted;
}

/* --- get --- */

const struct mvcc_version *mvcc_get(const struct mvcc *m, struct slice key, int64_t rev)
{
    const struct snapshot *s = snapshot_of(m);
    return mvcc__visible(mvcc__index_find(s->root, key), rev <= 0 ? s->revision : rev);
}

const struct mvcc_version *mvcc_txn_get(const struct mvcc *m, struct slice key, int64_t rev)
{
    const struct mvcc_version *newest = mvcc__warm_get(m, key);
    if (newest == NULL)
        newest = mvcc__index_find(m->root, key);
    return mvcc__visible(newest, rev <= 0 ? mvcc_txn_revision(m) : rev);
}

/* --- walk --- */

static void prefetch_slot(const struct mvcc_leaf *l, uint32_t i)
{
    if (i >= l->node.count)
        return;
    const char *v = (const char *)mvcc__slot(l, i);
    __builtin_prefetch(v);
    __builtin_prefetch(v + 64);
}

/* What a walk reads of a leaf: its head and its slots. */
static void prefetch_node(const struct mvcc_node *n)
{
    enum { CACHE_LINE_BYTES = 64 };
    __builtin_prefetch(n);
    for (size_t at = offsetof(struct mvcc_leaf, slot); at < sizeof(struct mvcc_leaf);
         at += CACHE_LINE_BYTES)
        __builtin_prefetch((const uint8_t *)n + at);
}

static void enter_leaf(struct mvcc_iter *it, const struct mvcc_leaf *l, uint32_t at)
{
    it->path[it->height - 1] = &l->node;
    it->at[it->height - 1] = (uint16_t)at;
    uint32_t count = l->node.count;
    for (uint32_t i = at; i < at + PREFETCH_SLOTS; i++)
        prefetch_slot(l, i);
    /* The last key inside the range means that all are. */
    it->bounded = it->range_end.size > 0 &&
                  (count == 0 ||
                   slice_compare(mvcc_version_key(mvcc__slot(l, count - 1)), it->range_end) >= 0);
}

/* Down to the leftmost leaf below `n`, which is child of the last inner node of the path. */
static void descend_left(struct mvcc_iter *it, const struct mvcc_node *n)
{
    while (n->level > 0) {
        it->path[it->height] = n;
        it->at[it->height++] = 0;
        n = mvcc__inner(n)->child[0];
    }
    it->height++;
    enter_leaf(it, mvcc__leaf(n), 0);
}

/* To the next leaf; false, and the walk is at its end, when there is none. */
static bool next_leaf(struct mvcc_iter *it)
{
    it->height--;
    while (it->height > 0) {
        uint32_t top = it->height - 1;
        const struct mvcc_inner *n = mvcc__inner(it->path[top]);
        if (it->at[top] + 1u < n->node.count) {
            it->at[top]++;
            if (it->at[top] + 1u < n->node.count)
                prefetch_node(n->child[it->at[top] + 1]);
            descend_left(it, n->child[it->at[top]]);
            return true;
        }
        it->height--;
    }
    return false;
}

void mvcc__iter_init(struct mvcc_iter *it, const struct mvcc_node *root, struct slice key,
                     bool after, struct slice range_end, int64_t rev)
{
    it->rev = rev;
    it->height = 0;
    it->single = NULL;
    if (!after && range_end.size == 0) {
        it->single = mvcc__visible(mvcc__index_find(root, key), rev);
        return;
    }
    if (range_end.size == 0)
        return; /* nothing comes after the one key */
    it->range_end = mvcc__range_is_open(range_end) ? SLICE_EMPTY : range_end;
    if (it->range_end.size > 0 && slice_compare(key, range_end) >= 0)
        return;

    const struct mvcc_node *n = root;
    while (n->level > 0) {
        uint32_t at = mvcc__inner_search(mvcc__inner(n), key);
        it->path[it->height] = n;
        it->at[it->height++] = (uint16_t)at;
        n = mvcc__inner(n)->child[at];
    }
    bool equal;
    uint32_t at = mvcc__leaf_search(mvcc__leaf(n), key, &equal);
    it->height++;
    enter_leaf(it, mvcc__leaf(n), at + (after && equal));
}

const struct mvcc_version *mvcc_iter_next(struct mvcc_iter *it)
{
    const struct mvcc_version *v = it->single;
    it->single = NULL;
    if (v != NULL)
        return v;
    while (it->height > 0) {
        uint32_t top = it->height - 1;
        const struct mvcc_leaf *l = mvcc__leaf(it->path[top]);
        uint32_t at = it->at[top];
        if (at == l->node.count) {
            (void)next_leaf(it); /* the end shows in height */
            continue;
        }
        it->at[top] = (uint16_t)(at + 1);
        prefetch_slot(l, at + PREFETCH_SLOTS);
        v = mvcc__slot(l, at);
        if (it->bounded && slice_compare(mvcc_version_key(v), it->range_end) >= 0) {
            it->height = 0;
            return NULL;
        }
        v = mvcc__visible(v, it->rev);
        if (v != NULL)
            return v;
    }
    return NULL;
}

void mvcc_iter_init(struct mvcc_iter *it, const struct mvcc *m, struct slice key,
                    struct slice range_end, int64_t rev)
{
    const struct snapshot *s = snapshot_of(m);
    mvcc__iter_init(it, s->root, key, false, range_end, rev <= 0 ? s->revision : rev);
}

void mvcc_iter_init_after(struct mvcc_iter *it, const struct mvcc *m, struct slice after,
                          struct slice range_end, int64_t rev)
{
    const struct snapshot *s = snapshot_of(m);
    mvcc__iter_init(it, s->root, after, true, range_end, rev <= 0 ? s->revision : rev);
}

void mvcc_txn_iter_init(struct mvcc_iter *it, const struct mvcc *m, struct slice key,
                        struct slice range_end, int64_t rev)
{
    mvcc__iter_init(it, m->root, key, false, range_end, rev <= 0 ? mvcc_txn_revision(m) : rev);
}

/* --- count --- */

/* Keys below `key` that exist at `newest`, the revision of the root's live counts. */
static int64_t rank(const struct mvcc_node *root, struct slice key, int64_t newest)
{
    int64_t below = 0;
    const struct mvcc_node *n = root;
    while (n->level > 0) {
        const struct mvcc_inner *inner = mvcc__inner(n);
        uint32_t at = mvcc__inner_search(inner, key);
        for (uint32_t i = 0; i < at; i++)
            below += inner->live[i];
        n = inner->child[at];
    }
    const struct mvcc_leaf *l = mvcc__leaf(n);
    bool equal;
    uint32_t at = mvcc__leaf_search(l, key, &equal);
    for (uint32_t i = 0; i < at; i++)
        prefetch_slot(l, i);
    for (uint32_t i = 0; i < at; i++)
        below += mvcc__visible(mvcc__slot(l, i), newest) != NULL;
    return below;
}

static int64_t total(const struct mvcc_node *root, int64_t newest)
{
    int64_t count = 0;
    for (uint32_t i = 0; i < root->count; i++)
        count += root->level > 0 ? mvcc__inner(root)->live[i]
                                 : mvcc__visible(mvcc__slot(mvcc__leaf(root), i), newest) != NULL;
    return count;
}

static int64_t count_newest(const struct mvcc_node *root, int64_t newest, struct slice key,
                            struct slice range_end)
{
    int64_t below_end =
        mvcc__range_is_open(range_end) ? total(root, newest) : rank(root, range_end, newest);
    int64_t count = below_end - (key.size == 0 ? 0 : rank(root, key, newest));
    return count < 0 ? 0 : count; /* range_end below key */
}

static int64_t count_by_walk(const struct mvcc_node *root, struct slice key, struct slice range_end,
                             int64_t rev)
{
    struct mvcc_iter it;
    int64_t count = 0;
    mvcc__iter_init(&it, root, key, false, range_end, rev);
    while (mvcc_iter_next(&it) != NULL)
        count++;
    return count;
}

int64_t mvcc__count(const struct mvcc *m, const struct mvcc_node *root, int64_t newest,
                    struct slice key, struct slice range_end, int64_t rev)
{
    if (range_end.size == 0)
        return mvcc__visible(mvcc__index_find(root, key), rev) != NULL;
    int64_t count = count_newest(root, newest, key, range_end);
    if (rev == newest)
        return count;
    /* At an older revision, undo what the history says was created and deleted since: page after
     * page of a long list asks for the count at the revision of its first page. */
    struct mvcc_history_cursor c;
    if (mvcc_history_seek(m, &c, rev + 1) != 0 ||
        mvcc__history_remaining(&c) > (uint64_t)count + LEAF_SLOTS_MAX)
        return count_by_walk(root, key, range_end, rev);
    const struct mvcc_version *v;
    while ((v = mvcc__history_next(&c, newest)) != NULL) {
        bool tombstone = mvcc_version_is_tombstone(v), created = mvcc_version_is_created(v);
        if ((tombstone || created) && mvcc__range_has(key, range_end, mvcc_version_key(v)))
            count += tombstone ? 1 : -1;
    }
    return count;
}

int64_t mvcc_count(const struct mvcc *m, struct slice key, struct slice range_end, int64_t rev)
{
    const struct snapshot *s = snapshot_of(m);
    return mvcc__count(m, s->root, s->revision, key, range_end, rev <= 0 ? s->revision : rev);
}

int64_t mvcc_txn_count(const struct mvcc *m, struct slice key, struct slice range_end, int64_t rev)
{
    int64_t newest = mvcc_txn_revision(m);
    return mvcc__count(m, m->root, newest, key, range_end, rev <= 0 ? newest : rev);
}
