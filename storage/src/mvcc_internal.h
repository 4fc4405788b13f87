/* What the files of the store in memory share. Start with mvcc.c.
 *
 *   mvcc.c          life, transactions, publishing
 *   mvcc_version.c  a version and its encoded form
 *   mvcc_index.c    the ordered index: a B+tree, copy-on-write but for the leaves' slots
 *   mvcc_read.c     readers: get, walk, count
 *   mvcc_history.c  the log of changes in revision order
 *   mvcc_scrub.c    compaction, pins, garbage
 *   mvcc_pack.c     moving versions and nodes together, so that memory can be given back
 *   mvcc_grave.c    what was replaced or moved, kept for who holds a pin
 *   mvcc_load.c     filling the store from disk
 *   mvcc_sort.c     sorting versions by key or by revision
 *   mvcc_hash.c     etcd's HashKV
 *   mvcc_slab.c     memory for versions and nodes
 *   mvcc_check.c    all invariants, for tests */
#ifndef STORAGE_MVCC_INTERNAL_H
#define STORAGE_MVCC_INTERNAL_H

#include "storage/mvcc.h"

#include "base/assert.h"
#include "base/mem.h"

#include "mvcc_slab.h"

#include <pthread.h>

/* --- the index --- */

enum {
    LEAF_SLOTS_MAX = 63,
    INNER_CHILDREN_MAX = 72,
};

/* The part common to leaves and inner nodes. A node is changed in place only as long as `batch` is
 * the writer's current one: then no reader has seen it. The exception are a leaf's slots, which
 * lead to a newer version of the same key as soon as there is one. */
struct mvcc_node {
    uint16_t count;        /* of slots or children */
    uint8_t level;         /* 0 = leaf */
    uint32_t prefix_bytes; /* that all keys in the node have in common, at least */
    uint64_t batch;
};

/* `fragment` is the 8 bytes of the key after the prefix, big-endian, padded with zeros: a search
 * touches a key only where fragments are equal. */
struct mvcc_leaf {
    struct mvcc_node node;
    uint64_t fragment[LEAF_SLOTS_MAX];
    struct mvcc_version *_Atomic slot[LEAF_SLOTS_MAX]; /* newest of each key, in key order */
};
_Static_assert(sizeof(struct mvcc_leaf) == 1024, "a leaf is one allocation class");

struct separator {
    uint32_t size;
    uint8_t data[];
};

/* Keys in child i (i >= 1) are >= separator[i], those in child i - 1 are below. separator[0] is
 * NULL. A separator is shared by the copies of its node and retired with its entry. */
struct mvcc_inner {
    struct mvcc_node node;
    uint64_t fragment[INNER_CHILDREN_MAX];
    struct separator *separator[INNER_CHILDREN_MAX];
    struct mvcc_node *child[INNER_CHILDREN_MAX];
    uint32_t live[INNER_CHILDREN_MAX]; /* keys below that exist */
};
_Static_assert(sizeof(struct mvcc_inner) <= 2048, "an inner node is one allocation class");

static inline const struct mvcc_leaf *mvcc__leaf(const struct mvcc_node *n)
{
    return (const struct mvcc_leaf *)n;
}

static inline const struct mvcc_inner *mvcc__inner(const struct mvcc_node *n)
{
    return (const struct mvcc_inner *)n;
}

static inline struct mvcc_version *mvcc__slot(const struct mvcc_leaf *l, uint32_t i)
{
    return atomic_load_explicit(&l->slot[i], memory_order_acquire);
}

static inline struct mvcc_version *mvcc__older(const struct mvcc_version *v)
{
    return atomic_load_explicit(&v->older, memory_order_acquire);
}

/* The version of the chain that is current at `rev`; NULL when the key does not exist then. */
static inline const struct mvcc_version *mvcc__visible(const struct mvcc_version *v, int64_t rev)
{
    while (v != NULL && v->main > rev)
        v = mvcc__older(v);
    return v == NULL || mvcc_version_is_tombstone(v) ? NULL : v;
}

/* Position of the first slot whose key is >= `key`; *ret_equal says whether it is the key. */
uint32_t mvcc__leaf_search(const struct mvcc_leaf *l, struct slice key, bool *ret_equal);
/* The child that `key` belongs to. */
uint32_t mvcc__inner_search(const struct mvcc_inner *n, struct slice key);

size_t mvcc__node_bytes(const struct mvcc_node *n);
void mvcc__node_free(struct mvcc_node *n);
struct mvcc_leaf *mvcc__leaf_new(struct mvcc *m);
struct mvcc_inner *mvcc__inner_new(struct mvcc *m, uint32_t level);
struct separator *mvcc__separator_new(struct mvcc *m, struct slice left, struct slice right);
void mvcc__leaf_set_prefix(struct mvcc_leaf *l);
void mvcc__inner_set_prefix(struct mvcc_inner *n);

/* The newest version of the key, tombstone or not, or NULL. */
struct mvcc_version *mvcc__index_find(const struct mvcc_node *root, struct slice key);

/* The way from the root to a key's place, as the writer walks it. */
struct path {
    struct mvcc_node *node[MVCC_HEIGHT_MAX]; /* by level: node[0] is the leaf */
    uint32_t at[MVCC_HEIGHT_MAX];            /* child taken; in the leaf, the slot */
    bool equal;                              /* the key is there */
};
/* As mvcc__index_find on m->root. */
struct mvcc_version *mvcc__path_find(const struct mvcc *m, struct path *p, struct slice key);
/* The same for a key that exists, from what mvcc_txn_warm() found: only the leaf of the path is
 * set. NULL when it found nothing, or something else. */
struct mvcc_version *mvcc__warm_find(struct mvcc *m, struct path *p, struct slice key);
/* As mvcc__index_find on m->root, or NULL when mvcc_txn_warm() did not find that. */
struct mvcc_version *mvcc__warm_get(const struct mvcc *m, struct slice key);
/* Make `v` the newest of its key, to which `p` leads; v->older is what mvcc__path_find() returned.
 * `live_change` is what this does to the number of keys that exist: -1, 0 or 1. */
void mvcc__index_put(struct mvcc *m, struct path *p, struct mvcc_version *v, int live_change);
/* Put copies in the place of the path's nodes from the root down to `level_min`, but for those that
 * no reader has seen. */
void mvcc__path_move(struct mvcc *m, struct path *p, uint32_t level_min);
/* Take the key, whose newest version is a tombstone, out of the index. */
void mvcc__index_remove(struct mvcc *m, struct slice key);
uint64_t mvcc__index_live(const struct mvcc_node *root);
/* Retire all nodes below and including `root`, and the versions if `versions_too`. */
void mvcc__index_retire(struct mvcc *m, struct mvcc_node *root, bool versions_too);

/* --- the history --- */

enum { HISTORY_CHUNK_ENTRIES = 1019 };

/* Appended by the writer; readers see the first `count`. The first `dropped` are gone. */
struct mvcc_history_chunk {
    struct mvcc_history_chunk *_Atomic next;
    uint64_t base_index;       /* changes in the history before this chunk */
    _Atomic int64_t first_rev; /* INT64_MAX while empty */
    _Atomic uint32_t count;
    _Atomic uint32_t dropped;
    struct mvcc_version *entry[HISTORY_CHUNK_ENTRIES];
};

/* The chunks in order, for the search; replaced when full. */
struct history_dir {
    int64_t floor; /* at least, see struct history */
    size_t capacity;
    _Atomic size_t first;
    _Atomic size_t end;
    struct mvcc_history_chunk *chunk[];
};

struct history {
    struct history_dir *_Atomic dir;
    _Atomic int64_t floor; /* changes below may be gone */
};

void mvcc__history_init(struct history *h);
/* Frees chunks and directory at once. */
void mvcc__history_fini(struct history *h);
void mvcc__history_append(struct mvcc *m, struct history *h, struct mvcc_version *v);
/* The oldest entry and false when there is none. */
bool mvcc__history_first(const struct history *h, struct mvcc_version **ret_version);
void mvcc__history_drop_first(struct mvcc *m, struct history *h);
/* Retire all of it, and leave it empty with `floor`. */
void mvcc__history_swap(struct mvcc *m, struct history *h, struct history *with);
uint64_t mvcc__history_count(const struct history *h);
/* How many changes are behind the cursor. */
uint64_t mvcc__history_remaining(const struct mvcc_history_cursor *c);
/* As mvcc_history_next, unpublished changes too. */
struct mvcc_version *mvcc__history_next(struct mvcc_history_cursor *c, int64_t rev_max);

/* --- the store --- */

/* What readers start from. Immutable; replaced by mvcc_publish(). */
struct snapshot {
    const struct mvcc_node *root;
    int64_t revision;
    int64_t compacted;
};

/* The walk over the index that moves what lies in sparse memory. */
struct pack {
    bool due; /* a scrub came to its end since the last walk began */
    bool walking;
    uint8_t *key; /* where it goes on; no slot left of it is still to be looked at */
    size_t key_size;
    size_t key_capacity;
    uint64_t held_bytes; /* old copies in graves */
};

struct mvcc {
    struct mvcc_options o;
    struct epoch epoch;

    /* Written by the writer, read by all. */
    struct snapshot *_Atomic published;
    _Atomic int64_t revision_published;
    _Atomic int64_t compacted_published;
    struct history history;
    _Atomic uint64_t stats_keys;
    _Atomic uint64_t stats_versions;
    _Atomic uint64_t stats_version_bytes;
    _Atomic uint64_t stats_index_bytes;
    _Atomic uint64_t stats_history_count;

    /* Written by the persist thread. */
    _Atomic int64_t persisted;

    pthread_mutex_t pins_lock; /* protects pins and pins_count */
    struct list pins;
    uint32_t pins_count;
    _Atomic uint64_t pins_order;
    _Atomic uint64_t generation; /* written by the writer, read by all */

    /* The writer's own. */
    struct mvcc_node *root;
    /* Where the keys of mvcc_txn_warm() are, in the order of the changes to come; forgotten with
     * any change of the index's structure. */
    struct warm_place {
        struct mvcc_leaf *leaf;
        uint32_t at;
    } warm[MVCC_WARM_MAX];
    uint32_t warm_next;
    uint32_t warm_count;
    uint64_t batch;
    int64_t revision; /* the newest, published or not */
    int64_t compacted;
    bool in_txn;
    uint32_t txn_changes;
    bool unpublished;
    bool replacing; /* what goes now is not garbage: on_drop is not called */
    uint64_t keys, versions, version_bytes, index_bytes;
    uintptr_t
        *pending; /* unlinked since the last publish; still reachable from what is published */
    size_t pending_count;
    size_t pending_capacity;
    struct mvcc_version **scratch; /* of delete_range */
    size_t scratch_capacity;

    int64_t scrub_allowed; /* compaction that all readers inside know of */
    int64_t scrub_rev;     /* what the scrub works towards */
    int64_t scrub_done;    /* and what it has finished */
    bool scrub_at_set;     /* past all below scrub_rev; scrub_at is among the changes of it */
    struct mvcc_history_cursor scrub_at;

    /* mvcc_content(): all that came in, and of it all that compactions dropped; `settled` as of the
     * last one that the scrub was through with. */
    uint64_t content_added;
    uint64_t content_dropped;
    uint64_t content_dropped_settled;
    int64_t content_compacted;

    struct list graves;
    struct pack pack;

    struct mvcc_version **load;
    size_t load_count;
    size_t load_capacity;
    bool loading;
    uint64_t load_sum; /* of their hashes */
    int64_t load_content_compacted;
    bool load_check;               /* do versions follow from each other? */
    bool load_unsound;             /* they do not */
    uint64_t load_content_dropped; /* of them, what a compaction to that drops */
};

/* What was replaced or moved, kept for those who pinned it: freed when all readers that were inside
 * have left, and the pins that were taken until then are released. */
struct grave {
    struct list link;
    struct mvcc *m;
    uintptr_t *retired;
    size_t retired_count;
    uint64_t moved_bytes;
    bool readers_left;
    uint64_t order; /* with readers_left: of the newest pin that may hold something in here */
};
/* Take what is pending, which is all of the old contents, or old copies of `moved_bytes`. */
void mvcc__grave_dig(struct mvcc *m, uint64_t moved_bytes);
/* Readers that enter from now on do not find what the newest grave holds: it was published. */
void mvcc__grave_close(struct mvcc *m);
/* Give up the graves that nobody holds; all of them when `all`. */
void mvcc__graves_tend(struct mvcc *m, bool all);

/* A new version of `key`; `older` is not set. A tombstone has neither value nor lease. */
struct mvcc_version *mvcc__version_encode(const struct mvcc_kv *kv, uint32_t sub,
                                          bool is_tombstone);

/* Free `p`, which is of the kind, when no reader can see it: not before the next publish. */
enum retired_kind { RETIRED_MEMORY, RETIRED_VERSION, RETIRED_NODE };
void mvcc__retire(struct mvcc *m, void *p, enum retired_kind kind);

/* For versions and nodes. A sanitizer sees more when each is an allocation of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MVCC_SLABS 0
#elif defined(__has_feature)
#define MVCC_SLABS !(__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define MVCC_SLABS 1
#endif

static inline void *mvcc__mem_alloc(size_t size)
{
    return MVCC_SLABS ? slab_alloc(size) : mem_alloc(size);
}

/* For what moves: not in memory that is to be given back. */
static inline void *mvcc__mem_alloc_dense(size_t size)
{
    return MVCC_SLABS ? slab_alloc_dense(size) : mem_alloc(size);
}

static inline bool mvcc__mem_is_sparse(const void *p, size_t size)
{
    return MVCC_SLABS && slab_is_sparse(p, size);
}

static inline void mvcc__mem_free(void *p, size_t size)
{
    if (MVCC_SLABS)
        slab_free(p, size);
    else
        mem_free(p);
}
/* Count a version that came in, or retire one that goes. */
void mvcc__version_added(struct mvcc *m, const struct mvcc_version *v);
void mvcc__version_drop(struct mvcc *m, struct mvcc_version *v);

/* Readers' and the writer's common ground. `newest` is the revision that `root` is exact for. */
void mvcc__iter_init(struct mvcc_iter *it, const struct mvcc_node *root, struct slice key,
                     bool after, struct slice range_end, int64_t rev);
int64_t mvcc__count(const struct mvcc *m, const struct mvcc_node *root, int64_t newest,
                    struct slice key, struct slice range_end, int64_t rev);
bool mvcc__range_is_open(struct slice range_end);
bool mvcc__range_has(struct slice key, struct slice range_end, struct slice k);

/* Called by mvcc_publish() when readers were told of a compaction. */
void mvcc__compaction_published(struct mvcc *m);

/* --- sorting --- */

struct sort_item {
    uint64_t major;
    uint32_t minor;
    struct mvcc_version *v;
};

/* By (major, minor), stable. `spare` is room for `count` more. */
void mvcc__sort(struct sort_item *item, size_t count, struct sort_item *spare);
/* By the versions' keys, stable. majors and minors need not be set. */
void mvcc__sort_by_key(struct sort_item *item, size_t count, struct sort_item *spare);

#endif
