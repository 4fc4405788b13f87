/* The ordered index: a B+tree from keys to the newest version of each.
 *
 * Structure is copied on write: a node that readers may see is replaced by a copy, up to the root,
 * and the copy is changed in place until the next publish. The newest version of a key that is
 * already in the index is the exception: its slot is overwritten with one release-store, and
 * readers at older revisions go down the chain of versions.
 *
 * Invariants:
 * 1. Every key in child i of an inner node is >= separator[i], and below separator[i + 1].
 * 2. live[i] is the number of slots below child i whose newest version is not a tombstone; so the
 *    live counts of a published root are exact for its revision.
 * 3. A node other than the root is never empty.
 * 4. fragments are of the bytes after prefix_bytes, and all keys (separators) of the node share
 *    these first bytes.
 *
 * Owner: the writer. The search functions are for all. */
#include "mvcc_internal.h"

enum {
    LEAF_MERGE_BELOW = LEAF_SLOTS_MAX / 4,
    LEAF_MERGED_MAX = LEAF_SLOTS_MAX * 3 / 4,
    CACHE_LINE_BYTES = 64,
};

/* --- keys --- */

static uint64_t fragment_of(struct slice key, size_t prefix_bytes)
{
    uint64_t x = 0;
    if (key.size >= prefix_bytes + 8) {
        memcpy(&x, key.data + prefix_bytes, 8);
        return __builtin_bswap64(x);
    }
    if (key.size > prefix_bytes)
        memcpy(&x, key.data + prefix_bytes, key.size - prefix_bytes);
    return __builtin_bswap64(x);
}

static uint32_t common_prefix(struct slice a, struct slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    size_t i = 0;
    while (i < size && a.data[i] == b.data[i])
        i++;
    return (uint32_t)i;
}

static struct slice slot_key(const struct mvcc_leaf *l, uint32_t i)
{
    return mvcc_version_key(mvcc__slot(l, i));
}

static struct slice separator_key(const struct mvcc_inner *n, uint32_t i)
{
    return slice_of(n->separator[i]->data, n->separator[i]->size);
}

/* How `key` compares with the prefix of a node, of which `member` is one key. */
static int prefix_compare(struct slice key, struct slice member, uint32_t prefix_bytes)
{
    size_t size = key.size < prefix_bytes ? key.size : prefix_bytes;
    int order = size == 0 ? 0 : memcmp(key.data, member.data, size);
    return order != 0 || size == prefix_bytes ? order : -1;
}

/* --- search --- */

/* First of `count` fragments that is >= x. */
static uint32_t fragment_search(const uint64_t *fragment, uint32_t count, uint64_t x)
{
    const uint64_t *base = fragment;
    while (count > 1) {
        uint32_t half = count / 2;
        base = base[half - 1] < x ? base + half : base;
        count -= half;
    }
    return (uint32_t)(base - fragment) + (count == 1 && *base < x);
}

uint32_t mvcc__leaf_search(const struct mvcc_leaf *l, struct slice key, bool *ret_equal)
{
    uint32_t count = l->node.count, prefix_bytes = l->node.prefix_bytes;
    *ret_equal = false;
    if (count == 0)
        return 0;
    uint64_t x = fragment_of(key, prefix_bytes);
    uint32_t lo = fragment_search(l->fragment, count, x);
    /* The prefix is checked on the key that is looked at next anyhow. */
    struct slice at = slot_key(l, lo < count ? lo : count - 1);
    int order = prefix_compare(key, at, prefix_bytes);
    if (order != 0)
        return order < 0 ? 0 : count;
    uint32_t hi = lo;
    while (hi < count && l->fragment[hi] == x)
        hi++;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        order = slice_compare(slot_key(l, mid), key);
        if (order == 0) {
            *ret_equal = true;
            return mid;
        }
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint32_t mvcc__inner_search(const struct mvcc_inner *n, struct slice key)
{
    uint32_t count = n->node.count, prefix_bytes = n->node.prefix_bytes;
    if (count < 2)
        return 0;
    if (prefix_bytes > 0) {
        int order = prefix_compare(key, separator_key(n, 1), prefix_bytes);
        if (order != 0)
            return order < 0 ? 0 : count - 1;
    }
    uint64_t x = fragment_of(key, prefix_bytes);
    uint32_t lo = 1 + fragment_search(n->fragment + 1, count - 1, x);
    /* Of the equal fragments, those whose separator is not above the key count too. */
    while (lo < count && n->fragment[lo] == x && slice_compare(separator_key(n, lo), key) <= 0)
        lo++;
    return lo - 1;
}

struct mvcc_version *mvcc__index_find(const struct mvcc_node *root, struct slice key)
{
    const struct mvcc_node *n = root;
    while (n->level > 0)
        n = mvcc__inner(n)->child[mvcc__inner_search(mvcc__inner(n), key)];
    bool equal;
    uint32_t i = mvcc__leaf_search(mvcc__leaf(n), key, &equal);
    return equal ? mvcc__slot(mvcc__leaf(n), i) : NULL;
}

uint64_t mvcc__index_live(const struct mvcc_node *root)
{
    uint64_t live = 0;
    for (uint32_t i = 0; i < root->count; i++)
        live += root->level > 0 ? mvcc__inner(root)->live[i]
                                : !mvcc_version_is_tombstone(mvcc__slot(mvcc__leaf(root), i));
    return live;
}

/* --- nodes --- */

size_t mvcc__node_bytes(const struct mvcc_node *n)
{
    return n->level > 0 ? sizeof(struct mvcc_inner) : sizeof(struct mvcc_leaf);
}

static void node_init(struct mvcc *m, struct mvcc_node *n, uint32_t level)
{
    *n = (struct mvcc_node){.level = (uint8_t)level, .batch = m->batch};
    m->index_bytes += mvcc__node_bytes(n);
}

struct mvcc_leaf *mvcc__leaf_new(struct mvcc *m)
{
    struct mvcc_leaf *l = mvcc__mem_alloc(sizeof(*l));
    node_init(m, &l->node, 0);
    return l;
}

struct mvcc_inner *mvcc__inner_new(struct mvcc *m, uint32_t level)
{
    ASSERT(level < MVCC_HEIGHT_MAX);
    struct mvcc_inner *n = mvcc__mem_alloc(sizeof(*n));
    node_init(m, &n->node, level);
    return n;
}

void mvcc__node_free(struct mvcc_node *n)
{
    mvcc__mem_free(n, mvcc__node_bytes(n));
}

static void node_retire(struct mvcc *m, struct mvcc_node *n)
{
    m->index_bytes -= mvcc__node_bytes(n);
    mvcc__retire(m, n, RETIRED_NODE);
}

/* The shortest key that is > left and <= right. */
struct separator *mvcc__separator_new(struct mvcc *m, struct slice left, struct slice right)
{
    uint32_t size = common_prefix(left, right) + 1;
    ASSERT(size <= right.size);
    struct separator *s = mem_alloc(sizeof(*s) + size);
    s->size = size;
    memcpy(s->data, right.data, size);
    m->index_bytes += sizeof(*s) + size;
    return s;
}

static void separator_retire(struct mvcc *m, struct separator *s)
{
    m->index_bytes -= sizeof(*s) + s->size;
    mvcc__retire(m, s, RETIRED_MEMORY);
}

void mvcc__leaf_set_prefix(struct mvcc_leaf *l)
{
    uint32_t count = l->node.count;
    if (count == 0)
        return;
    struct slice first = slot_key(l, 0), last = slot_key(l, count - 1);
    uint32_t prefix = common_prefix(first, last);
    l->node.prefix_bytes = prefix;
    for (uint32_t i = 0; i < count; i++)
        l->fragment[i] = fragment_of(slot_key(l, i), prefix);
}

/* After a split the keys may have more in common. To look at all of them costs a cache miss each,
 * so the fragments stay until half of their bytes no longer tell the keys apart. */
static void leaf_refresh_prefix(struct mvcc_leaf *l)
{
    struct slice first = slot_key(l, 0), last = slot_key(l, l->node.count - 1u);
    if (common_prefix(first, last) >= l->node.prefix_bytes + 4)
        mvcc__leaf_set_prefix(l);
}

void mvcc__inner_set_prefix(struct mvcc_inner *n)
{
    uint32_t count = n->node.count;
    n->node.prefix_bytes = 0;
    n->fragment[0] = 0;
    if (count < 2)
        return;
    uint32_t prefix = common_prefix(separator_key(n, 1), separator_key(n, count - 1));
    n->node.prefix_bytes = prefix;
    for (uint32_t i = 1; i < count; i++)
        n->fragment[i] = fragment_of(separator_key(n, i), prefix);
}

/* --- the path from the root to a key's leaf --- */

struct mvcc_version *mvcc__path_find(const struct mvcc *m, struct path *p, struct slice key)
{
    struct mvcc_node *n = m->root;
    while (n->level > 0) {
        struct mvcc_inner *inner = (struct mvcc_inner *)n;
        p->node[n->level] = n;
        p->at[n->level] = mvcc__inner_search(inner, key);
        n = inner->child[p->at[n->level]];
    }
    p->node[0] = n;
    p->at[0] = mvcc__leaf_search(mvcc__leaf(n), key, &p->equal);
    return p->equal ? mvcc__slot(mvcc__leaf(n), p->at[0]) : NULL;
}

/* Three rounds, each over what the one before it asked for: the leaves, where the keys are in them,
 * the versions there. By comparing fragments alone it may miss, which costs nothing but time. */
void mvcc_txn_warm(struct mvcc *m, const struct slice *keys, uint32_t count)
{
    ASSERT(count <= MVCC_WARM_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct mvcc_node *n = m->root;
        while (n->level > 0)
            n = mvcc__inner(n)->child[mvcc__inner_search(mvcc__inner(n), keys[i])];
        m->warm[i].leaf = (struct mvcc_leaf *)n;
        for (size_t b = 0; b < offsetof(struct mvcc_leaf, slot); b += CACHE_LINE_BYTES)
            __builtin_prefetch((const uint8_t *)n + b);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct warm_place *w = &m->warm[i];
        const struct mvcc_node *n = &w->leaf->node;
        w->at = n->count == 0 ? 0
                              : fragment_search(w->leaf->fragment, n->count,
                                                fragment_of(keys[i], n->prefix_bytes));
        __builtin_prefetch((const void *)&w->leaf->slot[w->at]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct warm_place *w = &m->warm[i];
        if (w->at >= w->leaf->node.count)
            continue;
        const uint8_t *version = (const uint8_t *)mvcc__slot(w->leaf, w->at);
        __builtin_prefetch(version);
        __builtin_prefetch(version + CACHE_LINE_BYTES);
    }
    m->warm_next = 0;
    m->warm_count = count;
}

static void warm_forget(struct mvcc *m)
{
    m->warm_count = 0;
}

/* The one that was found last, or the next one; m->warm_count when it is neither. */
static uint32_t warm_place_of(const struct mvcc *m, struct slice key)
{
    for (uint32_t i = m->warm_next; i < m->warm_count && i < m->warm_next + 2; i++) {
        const struct warm_place *w = &m->warm[i];
        if (w->at < w->leaf->node.count && slice_equal(slot_key(w->leaf, w->at), key))
            return i;
    }
    return m->warm_count;
}

struct mvcc_version *mvcc__warm_get(const struct mvcc *m, struct slice key)
{
    uint32_t i = warm_place_of(m, key);
    return i == m->warm_count ? NULL : mvcc__slot(m->warm[i].leaf, m->warm[i].at);
}

struct mvcc_version *mvcc__warm_find(struct mvcc *m, struct path *p, struct slice key)
{
    uint32_t i = warm_place_of(m, key);
    if (i == m->warm_count)
        return NULL;
    const struct warm_place *w = &m->warm[i];
    struct mvcc_version *v = mvcc__slot(w->leaf, w->at);
    if (mvcc_version_is_tombstone(v))
        return NULL;
    m->warm_next = i;
    p->node[0] = &w->leaf->node;
    p->at[0] = w->at;
    p->equal = true;
    return v;
}

/* Hang `n` where the path has a node of its level: below its parent, or as the root. */
static void path_set(struct mvcc *m, struct path *p, uint32_t level, struct mvcc_node *n)
{
    p->node[level] = n;
    if (level == m->root->level) {
        m->root = n;
        return;
    }
    struct mvcc_inner *parent = (struct mvcc_inner *)p->node[level + 1];
    ASSERT_SLOW(parent->node.batch == m->batch);
    parent->child[p->at[level + 1]] = n;
}

static void path_copy(struct mvcc *m, struct path *p, uint32_t level_min, bool dense)
{
    warm_forget(m);
    for (uint32_t level = m->root->level + 1u; level-- > level_min;) {
        struct mvcc_node *n = p->node[level];
        if (n->batch == m->batch)
            continue;
        size_t size = mvcc__node_bytes(n);
        struct mvcc_node *copy = dense ? mvcc__mem_alloc_dense(size) : mvcc__mem_alloc(size);
        memcpy(copy, n, size);
        copy->batch = m->batch;
        m->index_bytes += size;
        path_set(m, p, level, copy);
        node_retire(m, n);
    }
}

/* Copy what readers can see of the path, from the root down to `level_min`. */
static void path_own(struct mvcc *m, struct path *p, uint32_t level_min)
{
    path_copy(m, p, level_min, false);
}

void mvcc__path_move(struct mvcc *m, struct path *p, uint32_t level_min)
{
    path_copy(m, p, level_min, true);
}

static void path_add_live(struct mvcc *m, struct path *p, int live_change)
{
    for (uint32_t level = 1; level <= m->root->level; level++)
        ((struct mvcc_inner *)p->node[level])->live[p->at[level]] += (uint32_t)live_change;
}

/* --- insertion --- */

static uint32_t leaf_live(const struct mvcc_leaf *l)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < l->node.count; i++)
        live += !mvcc_version_is_tombstone(mvcc__slot(l, i));
    return live;
}

static uint32_t inner_live(const struct mvcc_inner *n)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < n->node.count; i++)
        live += n->live[i];
    return live;
}

static uint32_t node_live(const struct mvcc_node *n)
{
    return n->level > 0 ? inner_live(mvcc__inner(n)) : leaf_live(mvcc__leaf(n));
}

static void leaf_move(struct mvcc_leaf *to, uint32_t to_at, const struct mvcc_leaf *from,
                      uint32_t from_at, uint32_t count)
{
    memmove(&to->fragment[to_at], &from->fragment[from_at], count * sizeof(to->fragment[0]));
    memmove((void *)&to->slot[to_at], (const void *)&from->slot[from_at],
            count * sizeof(to->slot[0]));
}

static void inner_move(struct mvcc_inner *to, uint32_t to_at, const struct mvcc_inner *from,
                       uint32_t from_at, uint32_t count)
{
    memmove(&to->fragment[to_at], &from->fragment[from_at], count * sizeof(to->fragment[0]));
    memmove(&to->separator[to_at], &from->separator[from_at], count * sizeof(to->separator[0]));
    memmove(&to->child[to_at], &from->child[from_at], count * sizeof(to->child[0]));
    memmove(&to->live[to_at], &from->live[from_at], count * sizeof(to->live[0]));
}

/* Room is there. A key at either end may share less with the others than they did. */
static void leaf_insert(struct mvcc_leaf *l, uint32_t at, struct mvcc_version *v)
{
    struct slice key = mvcc_version_key(v);
    uint32_t count = l->node.count;
    leaf_move(l, at + 1, l, at, count - at);
    atomic_store_explicit(&l->slot[at], v, memory_order_relaxed);
    l->node.count = (uint16_t)(count + 1);
    bool at_end = at == 0 || at == count;
    if (at_end && (count == 0 ||
                   prefix_compare(key, slot_key(l, at == 0 ? 1 : 0), l->node.prefix_bytes) != 0))
        mvcc__leaf_set_prefix(l);
    else
        l->fragment[at] = fragment_of(key, l->node.prefix_bytes);
}

/* Room is there. `s` is the lower bound of `child`, which becomes child `at`; at > 0. */
static void inner_insert(struct mvcc_inner *n, uint32_t at, struct separator *s,
                         struct mvcc_node *child, uint32_t live)
{
    uint32_t count = n->node.count;
    inner_move(n, at + 1, n, at, count - at);
    n->separator[at] = s;
    n->child[at] = child;
    n->live[at] = live;
    n->node.count = (uint16_t)(count + 1);
    struct slice key = slice_of(s->data, s->size);
    bool at_end = at == 1 || at == count;
    if (at_end && (count < 2 || prefix_compare(key, separator_key(n, at == 1 ? 2 : 1),
                                               n->node.prefix_bytes) != 0))
        mvcc__inner_set_prefix(n);
    else
        n->fragment[at] = fragment_of(key, n->node.prefix_bytes);
}

/* Where to cut a full node for an insertion at `at`: in the middle, but a run of insertions at the
 * end leaves full nodes behind. */
static uint32_t cut_at(uint32_t count, uint32_t at)
{
    return at == count ? count : count / 2;
}

/* Split the full leaf and insert; the new right half and its lower bound are returned. */
static struct mvcc_leaf *leaf_split(struct mvcc *m, struct mvcc_leaf *l, uint32_t at,
                                    struct mvcc_version *v, struct separator **ret_separator)
{
    uint32_t count = l->node.count, cut = cut_at(count, at);
    struct mvcc_leaf *right = mvcc__leaf_new(m);
    leaf_move(right, 0, l, cut, count - cut);
    right->node.count = (uint16_t)(count - cut);
    right->node.prefix_bytes = l->node.prefix_bytes;
    l->node.count = (uint16_t)cut;
    if (at < cut || (at == cut && cut < count))
        leaf_insert(l, at, v);
    else
        leaf_insert(right, at - cut, v);
    leaf_refresh_prefix(l);
    leaf_refresh_prefix(right);
    *ret_separator = mvcc__separator_new(m, slot_key(l, l->node.count - 1u), slot_key(right, 0));
    return right;
}

/* The same for an inner node. *s is the lower bound of `child`, and becomes that of the right half.
 */
static struct mvcc_inner *inner_split(struct mvcc *m, struct mvcc_inner *n, uint32_t at,
                                      struct mvcc_node *child, uint32_t live, struct separator **s)
{
    uint32_t count = n->node.count, cut = cut_at(count, at);
    struct mvcc_inner *right = mvcc__inner_new(m, n->node.level);
    inner_move(right, 0, n, cut, count - cut);
    right->node.count = (uint16_t)(count - cut);
    n->node.count = (uint16_t)cut;
    if (at == count) { /* the new child alone, and its bound goes up */
        right->separator[0] = NULL;
        right->child[0] = child;
        right->live[0] = live;
        right->node.count = 1;
        mvcc__inner_set_prefix(right);
        return right;
    }
    struct separator *up = right->separator[0];
    right->separator[0] = NULL;
    mvcc__inner_set_prefix(n);
    mvcc__inner_set_prefix(right);
    if (at <= cut)
        inner_insert(n, at, *s, child, live);
    else
        inner_insert(right, at - cut, *s, child, live);
    *s = up;
    return right;
}

static void grow_root(struct mvcc *m, struct mvcc_node *right, struct separator *s)
{
    struct mvcc_node *left = m->root;
    struct mvcc_inner *root = mvcc__inner_new(m, left->level + 1u);
    root->node.count = 2;
    root->separator[0] = NULL;
    root->separator[1] = s;
    root->child[0] = left;
    root->child[1] = right;
    root->live[0] = node_live(left);
    root->live[1] = node_live(right);
    mvcc__inner_set_prefix(root);
    m->root = &root->node;
}

/* `right` was split off from the path's node at `level`; tell its ancestors. */
static void split_up(struct mvcc *m, struct path *p, uint32_t level, struct mvcc_node *right,
                     struct separator *s)
{
    uint32_t root_level = m->root->level;
    for (; level < root_level; level++) {
        struct mvcc_inner *parent = (struct mvcc_inner *)p->node[level + 1];
        uint32_t at = p->at[level + 1], live = node_live(right);
        ASSERT_SLOW(parent->live[at] == live + node_live(p->node[level]));
        parent->live[at] -= live;
        if (parent->node.count < INNER_CHILDREN_MAX) {
            inner_insert(parent, at + 1, s, right, live);
            return;
        }
        right = &inner_split(m, parent, at + 1, right, live, &s)->node;
    }
    grow_root(m, right, s);
}

void mvcc__index_put(struct mvcc *m, struct path *p, struct mvcc_version *v, int live_change)
{
    struct mvcc_leaf *l = (struct mvcc_leaf *)p->node[0];
    if (p->equal) {
        if (live_change != 0) {
            path_own(m, p, 1);
            path_add_live(m, p, live_change);
        }
        atomic_store_explicit(&l->slot[p->at[0]], v, memory_order_release);
        return;
    }
    path_own(m, p, 0);
    path_add_live(m, p, live_change);
    l = (struct mvcc_leaf *)p->node[0];
    if (l->node.count < LEAF_SLOTS_MAX) {
        leaf_insert(l, p->at[0], v);
        return;
    }
    struct separator *s;
    struct mvcc_leaf *right = leaf_split(m, l, p->at[0], v, &s);
    split_up(m, p, 0, &right->node, s);
}

/* --- removal --- */

/* Take child `at` out of the path's node at `level`, and what becomes empty above. The separator
 * that goes is the one between the child and its left neighbour; for child 0, that to its right. */
static void remove_child(struct mvcc *m, struct path *p, uint32_t level, uint32_t at)
{
    struct mvcc_inner *n = (struct mvcc_inner *)p->node[level];
    uint32_t count = n->node.count;
    if (count == 1) {
        ASSERT(level < m->root->level);
        remove_child(m, p, level + 1, p->at[level + 1]);
        node_retire(m, &n->node);
        return;
    }
    struct separator *s = n->separator[at == 0 ? 1 : at];
    inner_move(n, at, n, at + 1, count - at - 1);
    n->node.count = (uint16_t)(count - 1);
    n->separator[0] = NULL;
    separator_retire(m, s);
}

static void shrink_root(struct mvcc *m)
{
    while (m->root->level > 0 && m->root->count == 1) {
        struct mvcc_node *old = m->root;
        m->root = mvcc__inner(old)->child[0];
        node_retire(m, old);
    }
}

/* Move the path's leaf, which has few slots left, into its right neighbour or that one into it, if
 * both are children of one node and fit. */
static void merge_leaf(struct mvcc *m, struct path *p)
{
    struct mvcc_inner *parent = (struct mvcc_inner *)p->node[1];
    if (parent->node.count < 2)
        return;
    uint32_t left_at = p->at[1] + 1u < parent->node.count ? p->at[1] : p->at[1] - 1;
    const struct mvcc_leaf *left = mvcc__leaf(parent->child[left_at]);
    const struct mvcc_leaf *right = mvcc__leaf(parent->child[left_at + 1]);
    uint32_t left_count = left->node.count, right_count = right->node.count;
    if (left_count + right_count > LEAF_MERGED_MAX)
        return;
    struct mvcc_leaf *to = mvcc__leaf_new(m);
    leaf_move(to, 0, left, 0, left_count);
    leaf_move(to, left_count, right, 0, right_count);
    to->node.count = (uint16_t)(left_count + right_count);
    mvcc__leaf_set_prefix(to);
    parent->live[left_at] += parent->live[left_at + 1];
    parent->child[left_at] = &to->node;
    remove_child(m, p, 1, left_at + 1);
    node_retire(m, (struct mvcc_node *)left);
    node_retire(m, (struct mvcc_node *)right);
}

void mvcc__index_remove(struct mvcc *m, struct slice key)
{
    struct path p;
    const struct mvcc_version *newest = mvcc__path_find(m, &p, key);
    ASSERT(newest != NULL && mvcc_version_is_tombstone(newest));
    path_own(m, &p, 0);
    struct mvcc_leaf *l = (struct mvcc_leaf *)p.node[0];
    uint32_t count = l->node.count - 1u;
    leaf_move(l, p.at[0], l, p.at[0] + 1, count - p.at[0]);
    l->node.count = (uint16_t)count;
    if (m->root->level == 0)
        return;
    if (count == 0) {
        remove_child(m, &p, 1, p.at[1]);
        node_retire(m, &l->node);
    } else if (count < LEAF_MERGE_BELOW) {
        merge_leaf(m, &p);
    }
    shrink_root(m);
}

void mvcc__index_retire(struct mvcc *m, struct mvcc_node *root, bool versions_too)
{
    for (uint32_t i = 0; i < root->count; i++) {
        if (root->level > 0) {
            const struct mvcc_inner *n = mvcc__inner(root);
            mvcc__index_retire(m, n->child[i], versions_too);
            if (i > 0)
                separator_retire(m, n->separator[i]);
            continue;
        }
        struct mvcc_version *v = versions_too ? mvcc__slot(mvcc__leaf(root), i) : NULL;
        while (v != NULL) {
            struct mvcc_version *older = mvcc__older(v);
            mvcc__version_drop(m, v);
            v = older;
        }
    }
    node_retire(m, root);
}
