/* The store in memory: its life, the writer's transactions, and publishing.
 *
 * A put, from here: mvcc_txn_put() encodes the version, mvcc__index_put() makes it the newest of
 * its key (mvcc_index.c), mvcc__history_append() adds it to the log of changes (mvcc_history.c),
 * and mvcc_publish() lets readers see it. What readers may still hold goes through mvcc__retire():
 * it waits for the publish that takes it out of their reach, and then for the epoch.
 *
 * Owner: the writer. */
#include "mvcc_internal.h"

#include "base/mem.h"

enum { LIST_CAPACITY_KEPT = 16384 }; /* of what grows with one large change and goes after it */

/* --- memory that readers may still see --- */

void mvcc__retire(struct mvcc *m, void *p, enum retired_kind kind)
{
    ASSERT(((uintptr_t)p & 3) == 0);
    if (m->pending_count == m->pending_capacity) {
        m->pending_capacity = m->pending_capacity == 0 ? 256 : m->pending_capacity * 2;
        m->pending = mem_realloc(m->pending, m->pending_capacity * sizeof(*m->pending));
    }
    m->pending[m->pending_count++] = (uintptr_t)p | kind;
    m->unpublished = true;
}

static void free_version(void *p)
{
    mvcc_version_free(p);
}

static void free_node(void *p)
{
    mvcc__node_free(p);
}

/* What is pending is out of reach for readers that enter from now on. */
static void retire_pending(struct mvcc *m)
{
    static void (*const free_fn[])(void *p) = {mem_free, free_version, free_node};
    for (size_t i = 0; i < m->pending_count; i++) {
        uintptr_t p = m->pending[i];
        epoch_retire(&m->epoch, (void *)(p & ~(uintptr_t)3), free_fn[p & 3]);
    }
    m->pending_count = 0;
    if (m->pending_capacity > LIST_CAPACITY_KEPT) {
        mem_free(m->pending);
        m->pending = NULL;
        m->pending_capacity = 0;
    }
}

void mvcc__version_added(struct mvcc *m, const struct mvcc_version *v)
{
    m->versions++;
    m->version_bytes += mvcc_version_bytes(v);
}

void mvcc__version_drop(struct mvcc *m, struct mvcc_version *v)
{
    m->versions--;
    m->version_bytes -= mvcc_version_bytes(v);
    if (m->o.on_drop != NULL && !m->replacing)
        m->o.on_drop(m->o.ctx, v);
    mvcc__retire(m, v, RETIRED_VERSION);
}

/* --- life --- */

void mvcc_options_init(struct mvcc_options *o)
{
    *o = (struct mvcc_options){0};
}

static struct snapshot *snapshot_new(const struct mvcc *m)
{
    struct snapshot *s = mem_alloc(sizeof(*s));
    *s = (struct snapshot){.root = m->root, .revision = m->revision, .compacted = m->compacted};
    return s;
}

struct mvcc *mvcc_new(const struct mvcc_options *o)
{
    struct mvcc *m = mem_alloc_zero(sizeof(*m));
    if (o != NULL)
        m->o = *o;
    epoch_init(&m->epoch);
    list_init(&m->pins);
    list_init(&m->graves);
    atomic_init(&m->generation, 0);
    int rv = pthread_mutex_init(&m->pins_lock, NULL);
    ASSERT(rv == 0);
    mvcc__history_init(&m->history);
    m->batch = 1;
    m->revision = 1;
    m->compacted = -1;
    m->scrub_allowed = m->scrub_rev = m->scrub_done = m->content_compacted = -1;
    atomic_init(&m->persisted, INT64_MAX);
    m->root = &mvcc__leaf_new(m)->node;
    atomic_init(&m->published, snapshot_new(m));
    atomic_init(&m->revision_published, m->revision);
    atomic_init(&m->compacted_published, m->compacted);
    atomic_init(&m->stats_index_bytes, m->index_bytes);
    m->batch++;
    return m;
}

void mvcc_free(struct mvcc *m)
{
    if (m->loading)
        mvcc_load_abort(m);
    ASSERT(list_is_empty(&m->pins));
    m->in_txn = false;
    m->replacing = true;
    epoch_fini(&m->epoch); /* also the tokens that point to graves */
    epoch_init(&m->epoch);
    mvcc__index_retire(m, m->root, true);
    mvcc__graves_tend(m, true);
    retire_pending(m);
    epoch_fini(&m->epoch);
    mvcc__history_fini(&m->history);
    mem_free(atomic_load(&m->published));
    int rv = pthread_mutex_destroy(&m->pins_lock);
    ASSERT(rv == 0);
    mem_free(m->pending);
    mem_free(m->scratch);
    mem_free(m->pack.key);
    mem_free(m);
}

struct epoch *mvcc_epoch(struct mvcc *m)
{
    return &m->epoch;
}

int64_t mvcc_revision(const struct mvcc *m)
{
    return atomic_load_explicit(&m->revision_published, memory_order_acquire);
}

int64_t mvcc_compacted(const struct mvcc *m)
{
    return atomic_load_explicit(&m->compacted_published, memory_order_acquire);
}

uint64_t mvcc_generation(const struct mvcc *m)
{
    return atomic_load_explicit(&m->generation, memory_order_acquire);
}

void mvcc_stats(const struct mvcc *m, struct mvcc_stats *ret)
{
    *ret = (struct mvcc_stats){
        .keys = atomic_load_explicit(&m->stats_keys, memory_order_relaxed),
        .versions = atomic_load_explicit(&m->stats_versions, memory_order_relaxed),
        .version_bytes = atomic_load_explicit(&m->stats_version_bytes, memory_order_relaxed),
        .index_bytes = atomic_load_explicit(&m->stats_index_bytes, memory_order_relaxed),
        .history_count = atomic_load_explicit(&m->stats_history_count, memory_order_relaxed),
    };
}

void mvcc_content(const struct mvcc *m, struct mvcc_content *ret)
{
    *ret = (struct mvcc_content){.sum = m->content_added - m->content_dropped_settled,
                                 .compacted = m->content_compacted};
}

uint64_t mvcc_content_added(const struct mvcc *m)
{
    return m->content_added;
}

/* --- transactions --- */

int64_t mvcc_txn_begin(struct mvcc *m)
{
    ASSERT(!m->in_txn && !m->loading);
    m->in_txn = true;
    m->txn_changes = 0;
    return m->revision + 1;
}

int64_t mvcc_txn_revision(const struct mvcc *m)
{
    return m->revision + (m->in_txn && m->txn_changes > 0);
}

/* `v` goes to where `p` leads; `newest` is what is there. */
static void add_change(struct mvcc *m, struct path *p, struct mvcc_version *v,
                       struct mvcc_version *newest, int live_change)
{
    atomic_store_explicit(&v->older, newest, memory_order_relaxed); /* the slot's store releases */
    mvcc__index_put(m, p, v, live_change);
    mvcc__history_append(m, &m->history, v);
    mvcc__version_added(m, v);
    m->content_added += mvcc_version_hash(v);
    m->keys += (uint64_t)live_change;
    m->txn_changes++;
    m->unpublished = true;
}

const struct mvcc_version *mvcc_txn_put(struct mvcc *m, struct slice key, struct slice value,
                                        int64_t lease, const struct mvcc_version **ret_prev)
{
    ASSERT(m->in_txn && key.size > 0);
    int64_t rev = m->revision + 1;
    struct mvcc_kv kv = {.key = key,
                         .value = value,
                         .create_revision = rev,
                         .mod_revision = rev,
                         .version = 1,
                         .lease = lease};
    struct path p;
    struct mvcc_version *newest = mvcc__warm_find(m, &p, key);
    if (newest == NULL)
        newest = mvcc__path_find(m, &p, key);
    bool exists = newest != NULL && !mvcc_version_is_tombstone(newest);
    if (exists) {
        kv.create_revision = mvcc_version_create_revision(newest);
        kv.version = mvcc_version_version(newest) + 1;
    }
    struct mvcc_version *v = mvcc__version_encode(&kv, m->txn_changes, false);
    add_change(m, &p, v, newest, exists ? 0 : 1);
    if (ret_prev != NULL)
        *ret_prev = exists ? newest : NULL;
    return v;
}

static void delete_one(struct mvcc *m, struct mvcc_version *newest)
{
    ASSERT(!mvcc_version_is_tombstone(newest));
    struct path p;
    struct mvcc_kv kv = {.key = mvcc_version_key(newest), .mod_revision = m->revision + 1};
    const struct mvcc_version *found = mvcc__path_find(m, &p, kv.key);
    ASSERT(found == newest);
    add_change(m, &p, mvcc__version_encode(&kv, m->txn_changes, true), newest, -1);
}

static size_t collect_range(struct mvcc *m, struct slice key, struct slice range_end)
{
    struct mvcc_iter it;
    const struct mvcc_version *v;
    size_t count = 0;
    mvcc_txn_iter_init(&it, m, key, range_end, 0);
    while ((v = mvcc_iter_next(&it)) != NULL) {
        if (count == m->scratch_capacity) {
            m->scratch_capacity = count == 0 ? 64 : count * 2;
            m->scratch = mem_realloc(m->scratch, m->scratch_capacity * sizeof(*m->scratch));
        }
        m->scratch[count++] = (struct mvcc_version *)v;
    }
    return count;
}

int64_t mvcc_txn_delete_range(struct mvcc *m, struct slice key, struct slice range_end,
                              void (*cb)(void *ctx, const struct mvcc_version *deleted), void *ctx)
{
    ASSERT(m->in_txn);
    size_t count = collect_range(m, key, range_end);
    for (size_t i = 0; i < count; i++) {
        delete_one(m, m->scratch[i]);
        if (cb != NULL)
            cb(ctx, m->scratch[i]);
    }
    if (m->scratch_capacity > LIST_CAPACITY_KEPT) {
        mem_free(m->scratch);
        m->scratch = NULL;
        m->scratch_capacity = 0;
    }
    return (int64_t)count;
}

int64_t mvcc_txn_end(struct mvcc *m)
{
    ASSERT(m->in_txn);
    m->in_txn = false;
    if (m->txn_changes > 0)
        m->revision++;
    return m->revision;
}

/* --- publishing --- */

static void publish_stats(struct mvcc *m)
{
    atomic_store_explicit(&m->stats_keys, m->keys, memory_order_relaxed);
    atomic_store_explicit(&m->stats_versions, m->versions, memory_order_relaxed);
    atomic_store_explicit(&m->stats_version_bytes, m->version_bytes, memory_order_relaxed);
    atomic_store_explicit(&m->stats_index_bytes, m->index_bytes, memory_order_relaxed);
    atomic_store_explicit(&m->stats_history_count, mvcc__history_count(&m->history),
                          memory_order_relaxed);
}

void mvcc_publish(struct mvcc *m)
{
    ASSERT(!m->in_txn);
    m->warm_count = 0;
    if (!list_is_empty(&m->graves))
        mvcc__graves_tend(m, false);
    if (!m->unpublished)
        return;
    m->unpublished = false;
    struct snapshot *old = atomic_load_explicit(&m->published, memory_order_relaxed);
    bool compacted = old->compacted != m->compacted;
    /* Who sees the revision must see the snapshot too. */
    atomic_store_explicit(&m->published, snapshot_new(m), memory_order_release);
    atomic_store_explicit(&m->compacted_published, m->compacted, memory_order_release);
    atomic_store_explicit(&m->revision_published, m->revision, memory_order_release);
    m->batch++;
    publish_stats(m);
    retire_pending(m);
    epoch_retire(&m->epoch, old, mem_free);
    if (compacted)
        mvcc__compaction_published(m);
}
