/* Filling the store with what was on disk: versions come in the order of their revisions; at the
 * end they are sorted by key, linked into chains, and the index is built from the bottom up.
 *
 * Owner: the writer. */
#include "mvcc_internal.h"

#include "base/err.h"
#include "base/mem.h"

enum {
    /* Nodes are built with some room, or the first insertion would split each of them. */
    LEAF_SLOTS_LOADED = LEAF_SLOTS_MAX * 7 / 8,
    INNER_CHILDREN_LOADED = INNER_CHILDREN_MAX * 7 / 8,
    PREFETCH_ITEMS = 12,
};

/* --- taking versions --- */

void mvcc_load_begin(struct mvcc *m)
{
    ASSERT(!m->in_txn && !m->loading);
    mvcc_publish(m);
    m->loading = true;
    m->load_count = 0;
    m->load_sum = 0;
}

static int add(struct mvcc *m, struct mvcc_version *v)
{
    ASSERT(m->loading);
    if (m->load_count > 0) {
        const struct mvcc_version *last = m->load[m->load_count - 1];
        if (v->main < last->main || (v->main == last->main && v->sub <= last->sub))
            return TV_ECORRUPT;
    }
    if (m->load_count == m->load_capacity) {
        m->load_capacity = m->load_capacity == 0 ? 4096 : m->load_capacity * 2;
        m->load = mem_realloc(m->load, m->load_capacity * sizeof(*m->load));
    }
    m->load[m->load_count++] = v;
    return 0;
}

int mvcc_load_add(struct mvcc *m, struct mvcc_version *v)
{
    int err = add(m, v);
    if (err == 0)
        m->load_sum += mvcc_version_hash(v);
    return err;
}

int mvcc_load_add_all(struct mvcc *m, struct mvcc_version *const *versions, size_t count,
                      uint64_t hashes, size_t *ret_taken)
{
    size_t at = 0;
    int err = 0;
    while (at < count && (err = add(m, versions[at])) == 0)
        at++;
    *ret_taken = at;
    m->load_sum += hashes;
    return err;
}

static void load_clear(struct mvcc *m)
{
    mem_free(m->load);
    m->load = NULL;
    m->load_count = m->load_capacity = 0;
    m->loading = false;
}

void mvcc_load_abort(struct mvcc *m)
{
    ASSERT(m->loading);
    for (size_t i = 0; i < m->load_count; i++)
        mvcc_version_free(m->load[i]);
    load_clear(m);
}

/* --- building --- */

/* The first version of a key, oldest first, that a compaction keeps; by the scrub's rules. */
static size_t first_kept(const struct sort_item *item, size_t count, int64_t compacted)
{
    size_t first = 0; /* the newest at or below the compaction, if there is one */
    for (size_t i = 1; i < count && item[i].v->main <= compacted; i++)
        first = i;
    while (first > 0 && item[first - 1].v->main == compacted)
        first--;
    if (item[first].v->main < compacted && mvcc_version_is_tombstone(item[first].v))
        first++;
    return first;
}

/* Could the version have come behind `before` (NULL: nothing is there)? */
static bool follows(const struct mvcc_version *before, const struct mvcc_version *v)
{
    struct mvcc_kv old, kv;
    bool existed = before != NULL && !mvcc_version_is_tombstone(before);
    if (mvcc_version_is_tombstone(v))
        return existed;
    mvcc_version_decode(v, &kv);
    if (!existed)
        return kv.create_revision == kv.mod_revision && kv.version == 1;
    mvcc_version_decode(before, &old);
    return kv.create_revision == old.create_revision && kv.version == old.version + 1;
}

/* What is kept of one key, oldest first. What comes before the first one may have been dropped,
 * when that is not above the compaction. */
static bool is_sound(const struct sort_item *item, size_t count, int64_t compacted)
{
    if (count > 0 && item[0].v->main > compacted && !follows(NULL, item[0].v))
        return false;
    for (size_t i = 1; i < count; i++)
        if (!follows(item[i - 1].v, item[i].v))
            return false;
    return true;
}

/* Link the versions of one key, oldest first. Returns the newest, or NULL when nothing is kept. */
static struct mvcc_version *link_chain(struct mvcc *m, const struct sort_item *item, size_t count,
                                       int64_t compacted)
{
    size_t first = first_kept(item, count, compacted);
    size_t first_summed = m->load_content_compacted == compacted
                              ? first
                              : first_kept(item, count, m->load_content_compacted);
    ASSERT(first_summed <= first);
    if (m->load_check && !is_sound(item + first, count - first, compacted))
        m->load_unsound = true;
    for (size_t i = 0; i < first; i++) {
        uint64_t hash = mvcc_version_hash(item[i].v);
        m->content_dropped += hash;
        if (i < first_summed)
            m->load_content_dropped += hash;
        if (m->o.on_drop != NULL)
            m->o.on_drop(m->o.ctx, item[i].v);
        mvcc_version_free(item[i].v);
    }
    struct mvcc_version *newest = NULL;
    for (size_t i = first; i < count; i++) {
        atomic_store_explicit(&item[i].v->older, newest, memory_order_relaxed);
        newest = item[i].v;
        mvcc__version_added(m, newest);
    }
    return newest;
}

/* One level of the tree while it is built. */
struct level {
    struct mvcc_node **node;
    struct separator **separator; /* lower bounds; NULL for the first */
    uint32_t *live;
    size_t count;
};

static void level_init(struct level *l, size_t capacity)
{
    l->node = mem_alloc(capacity * sizeof(*l->node));
    l->separator = mem_alloc(capacity * sizeof(*l->separator));
    l->live = mem_alloc(capacity * sizeof(*l->live));
    l->count = 0;
}

static void level_fini(struct level *l)
{
    mem_free(l->node);
    mem_free(l->separator);
    mem_free(l->live);
}

/* Leaves over the newest versions of all keys, which are in order. */
static void build_leaves(struct mvcc *m, struct level *l, struct mvcc_version **newest,
                         size_t count)
{
    level_init(l, count / LEAF_SLOTS_LOADED + 1);
    size_t at = 0;
    do {
        struct mvcc_leaf *leaf = mvcc__leaf_new(m);
        uint32_t n = count - at < LEAF_SLOTS_LOADED ? (uint32_t)(count - at) : LEAF_SLOTS_LOADED;
        uint32_t live = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (at + i + LEAF_SLOTS_MAX < count)
                __builtin_prefetch(newest[at + i + LEAF_SLOTS_MAX]);
            atomic_init(&leaf->slot[i], newest[at + i]);
            live += !mvcc_version_is_tombstone(newest[at + i]);
        }
        leaf->node.count = (uint16_t)n;
        mvcc__leaf_set_prefix(leaf);
        l->node[l->count] = &leaf->node;
        l->separator[l->count] = at == 0 ? NULL
                                         : mvcc__separator_new(m, mvcc_version_key(newest[at - 1]),
                                                               mvcc_version_key(newest[at]));
        l->live[l->count++] = live;
        m->keys += live;
        at += n;
    } while (at < count);
}

/* The level above `from`. */
static void build_inner(struct mvcc *m, struct level *l, const struct level *from)
{
    level_init(l, from->count / INNER_CHILDREN_LOADED + 1);
    for (size_t at = 0; at < from->count;) {
        struct mvcc_inner *n = mvcc__inner_new(m, from->node[0]->level + 1u);
        size_t left = from->count - at;
        uint32_t count = left < INNER_CHILDREN_LOADED ? (uint32_t)left : INNER_CHILDREN_LOADED;
        uint32_t live = 0;
        for (uint32_t i = 0; i < count; i++) {
            n->child[i] = from->node[at + i];
            n->separator[i] = i == 0 ? NULL : from->separator[at + i];
            n->live[i] = from->live[at + i];
            live += n->live[i];
        }
        n->node.count = (uint16_t)count;
        mvcc__inner_set_prefix(n);
        l->node[l->count] = &n->node;
        l->separator[l->count] = from->separator[at];
        l->live[l->count++] = live;
        at += count;
    }
}

static struct mvcc_node *build_index(struct mvcc *m, struct mvcc_version **newest, size_t count)
{
    struct level l;
    build_leaves(m, &l, newest, count);
    while (l.count > 1) {
        struct level above;
        build_inner(m, &above, &l);
        level_fini(&l);
        l = above;
    }
    struct mvcc_node *root = l.node[0];
    level_fini(&l);
    return root;
}

/* Chains from the loaded versions; the newest of each key, in order, go to `ret_newest`. */
static size_t build_chains(struct mvcc *m, int64_t compacted, struct mvcc_version **ret_newest)
{
    size_t count = m->load_count, keys = 0;
    struct sort_item *item = mem_alloc((2 * count + 1) * sizeof(*item));
    for (size_t i = 0; i < count; i++)
        item[i].v = m->load[i];
    mvcc__sort_by_key(item, count, item + count);
    size_t begin = 0;
    for (size_t i = 1; i <= count; i++) {
        if (i < count && slice_equal(mvcc_version_key(item[i].v), mvcc_version_key(item[begin].v)))
            continue;
        if (i + PREFETCH_ITEMS < count)
            __builtin_prefetch(item[i + PREFETCH_ITEMS].v);
        struct mvcc_version *newest = link_chain(m, &item[begin], i - begin, compacted);
        if (newest != NULL)
            ret_newest[keys++] = newest;
        begin = i;
    }
    mem_free(item);
    return keys;
}

static void build_history(struct mvcc *m, struct history *h, int64_t compacted)
{
    mvcc__history_init(h);
    if (compacted >= 0) {
        atomic_store_explicit(&h->floor, compacted, memory_order_relaxed);
        atomic_load_explicit(&h->dir, memory_order_relaxed)->floor = compacted;
    }
    for (size_t i = 0; i < m->load_count; i++)
        if (m->load[i]->main >= compacted)
            mvcc__history_append(NULL, h, m->load[i]);
}

void mvcc_load_end(struct mvcc *m, int64_t revision, int64_t compacted)
{
    (void)mvcc_load_end_summed(m, revision, compacted, compacted);
}

int mvcc_load_end_checked(struct mvcc *m, int64_t revision, int64_t compacted)
{
    m->load_check = true;
    m->load_unsound = false;
    mvcc_load_end(m, revision, compacted);
    m->load_check = false;
    return m->load_unsound ? TV_ECORRUPT : 0;
}

/* All that was read is counted, and what the compaction dropped just now is taken off again. */
static void load_content(struct mvcc *m, int64_t compacted)
{
    m->content_added = m->load_sum - m->content_dropped;
    m->content_dropped = m->content_dropped_settled = 0;
    m->content_compacted = compacted;
}

uint64_t mvcc_load_end_summed(struct mvcc *m, int64_t revision, int64_t compacted,
                              int64_t content_compacted)
{
    ASSERT(m->loading && !m->unpublished);
    ASSERT(content_compacted <= compacted);
    m->content_dropped = m->load_content_dropped = 0;
    m->load_content_compacted = content_compacted;
    if (m->load_count > 0 && m->load[m->load_count - 1]->main > revision)
        revision = m->load[m->load_count - 1]->main;
    if (revision < compacted)
        revision = compacted;

    struct mvcc_node *old_root = m->root;
    m->replacing = true;
    mvcc__index_retire(m, old_root, true);
    m->replacing = false;
    m->keys = 0;

    struct history h;
    build_history(m, &h, compacted);
    struct mvcc_version **newest = mem_alloc((m->load_count + 1) * sizeof(*newest));
    size_t count = build_chains(m, compacted, newest);
    m->root = build_index(m, newest, count);
    mem_free(newest);
    mvcc__history_swap(m, &m->history, &h);

    m->revision = revision < 1 ? 1 : revision;
    m->compacted = m->scrub_allowed = m->scrub_rev = m->scrub_done = compacted;
    m->scrub_at_set = false;
    load_content(m, compacted);
    uint64_t sum = m->load_sum - m->load_content_dropped;
    load_clear(m);
    mvcc__grave_dig(m, 0);
    m->unpublished = true;
    mvcc_publish(m);
    mvcc__grave_close(m);
    /* Last: who sees the new number sees the new contents. */
    atomic_store_explicit(&m->generation, mvcc_generation(m) + 1, memory_order_release);
    return sum;
}
