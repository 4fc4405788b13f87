/* Moving versions and nodes together after a compaction, so that memory can be given back.
 *
 * What a compaction leaves lies all over the memory that the history took: of ten million changes
 * of a hundred thousand keys, one in each few dozens. So when a scrub is through and enough of the
 * slabs is unused, one walk over the index, in slices, copies what lies in sparse slabs into dense
 * ones (mvcc_slab.c says which is which); the sparse ones become empty and go back to the kernel.
 *
 * A version is moved when nothing but its leaf's slot leads to it:
 * 1. it is the newest of its key and there is no older one;
 * 2. it is not in the history: it is below what a scrub has finished (which no pin and no reader
 *    needs the history of, and which the persist thread has).
 * The slot is overwritten with one release-store, as a newer version would; the old copy goes into
 * a grave (mvcc_grave.c). What readers keep there is bounded: at PACK_HELD_BYTES_MAX the walk
 * waits. Nodes are moved by copying their path, as by any change of it.
 *
 * Owner: the writer. */
#include "mvcc_internal.h"

enum {
    PACK_HELD_BYTES_MAX = 4 << 20,
    PACK_SLICE_BYTES = 32 << 10, /* moved; copying takes its time */
    PREFETCH_BYTES = 64,
};

static void key_set(struct pack *k, struct slice key)
{
    if (key.size > k->key_capacity) {
        k->key_capacity = key.size;
        k->key = mem_realloc(k->key, key.size);
    }
    if (key.size > 0)
        memcpy(k->key, key.data, key.size);
    k->key_size = key.size;
}

/* --- versions --- */

static bool is_movable(const struct mvcc *m, const struct mvcc_version *v)
{
    if (mvcc__older(v) != NULL || v->main >= m->scrub_done)
        return false;
    return m->o.move_all || mvcc__mem_is_sparse(v, mvcc_version_bytes(v));
}

static void move_version(struct mvcc *m, struct mvcc_leaf *l, uint32_t i, struct mvcc_version *v)
{
    size_t bytes = mvcc_version_bytes(v);
    struct mvcc_version *copy = mvcc__mem_alloc_dense(bytes);
    atomic_init(&copy->older, NULL);
    memcpy((uint8_t *)copy + sizeof(copy->older), (const uint8_t *)v + sizeof(v->older),
           bytes - sizeof(v->older));
    atomic_store_explicit(&l->slot[i], copy, memory_order_release);
    mvcc__retire(m, v, RETIRED_VERSION);
}

/* Of the path's leaf from its slot on, until *bytes reaches the slice's. Returns where it stopped.
 */
static uint32_t move_versions(struct mvcc *m, struct path *p, size_t *bytes)
{
    struct mvcc_leaf *l = (struct mvcc_leaf *)p->node[0];
    uint32_t i = p->at[0], count = l->node.count;
    for (uint32_t k = i; k < count; k++)
        __builtin_prefetch(mvcc__slot(l, k));
    for (; i < count && *bytes < PACK_SLICE_BYTES; i++) {
        struct mvcc_version *v = mvcc__slot(l, i);
        if (!is_movable(m, v))
            continue;
        *bytes += mvcc_version_bytes(v);
        move_version(m, l, i, v);
    }
    return i;
}

/* --- nodes --- */

static void move_nodes(struct mvcc *m, struct path *p)
{
    for (uint32_t level = 0; level <= m->root->level; level++) {
        const struct mvcc_node *n = p->node[level];
        if (m->o.move_all || mvcc__mem_is_sparse(n, mvcc__node_bytes(n))) {
            mvcc__path_move(m, p, level);
            return;
        }
    }
}

/* --- the walk --- */

/* To the leaf behind the path's. False when there is none. */
static bool next_leaf(struct mvcc *m, const struct path *p)
{
    for (uint32_t level = 1; level <= m->root->level; level++) {
        const struct mvcc_inner *n = mvcc__inner(p->node[level]);
        uint32_t at = p->at[level] + 1;
        if (at < n->node.count) {
            key_set(&m->pack, slice_of(n->separator[at]->data, n->separator[at]->size));
            return true;
        }
    }
    return false;
}

/* Look at the rest of one leaf. Returns how many slots that were. */
static uint32_t walk_step(struct mvcc *m, size_t *bytes)
{
    struct path p;
    (void)mvcc__path_find(m, &p, slice_of(m->pack.key, m->pack.key_size));
    move_nodes(m, &p);
    uint32_t begin = p.at[0], end = move_versions(m, &p, bytes);
    if (end < p.node[0]->count)
        key_set(&m->pack, mvcc_version_key(mvcc__slot(mvcc__leaf(p.node[0]), end)));
    else
        m->pack.walking = next_leaf(m, &p);
    return end - begin + 1;
}

static void walk(struct mvcc *m, uint32_t versions_max)
{
    uint32_t seen = 0;
    size_t bytes = 0;
    while (m->pack.walking && seen < versions_max && bytes < PACK_SLICE_BYTES)
        seen += walk_step(m, &bytes);
    if (m->pending_count == 0)
        return;
    mvcc__grave_dig(m, bytes);
    m->unpublished = true;
    mvcc_publish(m);
    mvcc__grave_close(m);
}

bool mvcc_pack(struct mvcc *m, uint32_t versions_max)
{
    ASSERT(!m->in_txn);
    if (m->loading)
        return false;
    if (!m->pack.walking && m->pack.due && (m->o.move_all || (MVCC_SLABS && slab_is_wasteful()))) {
        m->pack.due = false;
        m->pack.walking = true;
        key_set(&m->pack, SLICE_EMPTY);
    }
    if (m->pack.walking || !list_is_empty(&m->graves))
        mvcc_publish(m); /* graves are tended; what is moved must not be mixed with changes */
    if (!m->pack.walking)
        return MVCC_SLABS && slab_trim();
    if (m->pack.held_bytes >= PACK_HELD_BYTES_MAX) {
        PROBE(mvcc_pack_waits);
        return MVCC_SLABS && slab_trim();
    }
    walk(m, versions_max);
    return true;
}
