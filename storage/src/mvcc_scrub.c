/* Compaction, and the garbage that it leaves.
 *
 * mvcc_compact() moves one number. The work comes after, in slices: the scrub goes through the
 * history up to the compacted revision and, for each change, cuts off the older versions of its
 * key: they are superseded by a version that is itself not above the compaction. A tombstone below
 * the compaction that is still the newest of its key takes the key out of the index. So the cost is
 * that of what has changed, not of what there is.
 *
 * A compaction is worked on when every reader inside a section has entered after it was published
 * (a token in the epoch's queue says so): whoever checked a revision in its section keeps it. Pins
 * and the persist thread hold the scrub back beyond that.
 *
 * Invariants:
 * 1. scrub_done <= scrub_rev <= scrub_allowed <= compacted, as published.
 * 2. A version is dropped only when it is below scrub_rev and no longer in the history.
 * 3. Changes of scrub_rev itself stay in the history: a watcher may begin there.
 *
 * Owner: the writer, but for the pins. */
#include "mvcc_internal.h"

#include "base/err.h"
#include "base/mem.h"

enum { SCRUB_VERSION_BYTES = 512 }; /* of a large version count as a version: all of it is summed */

/* --- pins --- */

int mvcc_pin_take(struct mvcc *m, struct mvcc_pin *pin, int64_t rev)
{
    int err = 0;
    atomic_init(&pin->rev, rev);
    pthread_mutex_lock(&m->pins_lock);
    if (m->pins_count == MVCC_PINS_MAX) {
        err = TV_EBUSY;
    } else {
        list_push_back(&m->pins, &pin->link);
        /* Pairs with readers_left(), through the end of this section. */
        pin->order = atomic_fetch_add_explicit(&m->pins_order, 1, memory_order_relaxed) + 1;
        m->pins_count++;
    }
    pthread_mutex_unlock(&m->pins_lock);
    return err;
}

void mvcc_pin_move(struct mvcc_pin *pin, int64_t rev)
{
    ASSERT(rev >= atomic_load_explicit(&pin->rev, memory_order_relaxed));
    /* Pairs with pins_min(): reads made under the old revision come before. */
    atomic_store_explicit(&pin->rev, rev, memory_order_release);
}

void mvcc_pin_loosen(struct mvcc *m, struct mvcc_pin *pin)
{
    pthread_mutex_lock(&m->pins_lock);
    pin->order = UINT64_MAX;
    pthread_mutex_unlock(&m->pins_lock);
}

void mvcc_pin_release(struct mvcc *m, struct mvcc_pin *pin)
{
    pthread_mutex_lock(&m->pins_lock);
    list_remove(&pin->link);
    m->pins_count--;
    pthread_mutex_unlock(&m->pins_lock);
}

uint32_t mvcc_pins_count(struct mvcc *m)
{
    pthread_mutex_lock(&m->pins_lock);
    uint32_t count = m->pins_count;
    pthread_mutex_unlock(&m->pins_lock);
    return count;
}

/* The lowest pin or `rev`, whichever is lower. When a reader is at the list just now, nothing may
 * go: the writer does not wait for it. */
static int64_t pins_min(struct mvcc *m, int64_t rev)
{
    if (pthread_mutex_trylock(&m->pins_lock) != 0)
        return m->scrub_rev;
    LIST_EACH (it, &m->pins) {
        struct mvcc_pin *pin = CONTAINER_OF(it, struct mvcc_pin, link);
        int64_t pinned = atomic_load_explicit(&pin->rev, memory_order_acquire);
        if (pinned < rev)
            rev = pinned;
    }
    pthread_mutex_unlock(&m->pins_lock);
    return rev;
}

void mvcc_set_persisted_revision(struct mvcc *m, int64_t rev)
{
    atomic_store_explicit(&m->persisted, rev, memory_order_release);
}

/* --- compaction --- */

int mvcc_compact(struct mvcc *m, int64_t rev)
{
    ASSERT(!m->in_txn && !m->loading);
    if (rev <= m->compacted)
        return TV_COMPACTED;
    if (rev > m->revision)
        return TV_FUTURE_REV;
    m->compacted = rev;
    m->unpublished = true;
    return 0;
}

struct token {
    struct mvcc *m;
    int64_t rev;
};

static void all_readers_know(void *p)
{
    struct token *t = p;
    if (t->rev > t->m->scrub_allowed)
        t->m->scrub_allowed = t->rev;
    mem_free(t);
}

void mvcc__compaction_published(struct mvcc *m)
{
    struct token *t = mem_alloc(sizeof(*t));
    *t = (struct token){.m = m, .rev = m->compacted};
    epoch_retire(&m->epoch, t, all_readers_know);
}

bool mvcc_scrub_is_done(const struct mvcc *m)
{
    return m->scrub_done == m->compacted;
}

/* --- the scrub --- */

static void choose_target(struct mvcc *m)
{
    int64_t rev = m->scrub_allowed < m->compacted ? m->scrub_allowed : m->compacted;
    int64_t persisted = atomic_load_explicit(&m->persisted, memory_order_acquire);
    if (persisted < rev)
        rev = persisted;
    if (rev > m->scrub_rev)
        rev = pins_min(m, rev);
    if (rev <= m->scrub_rev)
        return;
    m->scrub_rev = rev;
    m->scrub_at_set = false;
    atomic_store_explicit(&m->history.floor, rev, memory_order_release);
}

static uint32_t drop(struct mvcc *m, struct mvcc_version *v)
{
    uint32_t count = 1 + (uint32_t)(mvcc_version_kv(v).size / SCRUB_VERSION_BYTES);
    mvcc__version_drop(m, v);
    return count;
}

/* Drop what is older than `v` in its chain, down from scrub_rev. Returns how many. */
static uint32_t cut_chain(struct mvcc *m, struct mvcc_version *v)
{
    struct mvcc_version *older = mvcc__older(v);
    if (older == NULL || older->main >= m->scrub_rev)
        return 0;
    atomic_store_explicit(&v->older, NULL, memory_order_release);
    uint32_t count = 0;
    while (older != NULL) {
        struct mvcc_version *next = mvcc__older(older);
        /* A tombstone went out of the sum when the scrub came by it in the history. */
        if (!mvcc_version_is_tombstone(older))
            m->content_dropped += mvcc_version_hash(older);
        count += drop(m, older);
        older = next;
    }
    return count;
}

/* The oldest entry of the history is below scrub_rev. */
static uint32_t scrub_below(struct mvcc *m, struct mvcc_version *v)
{
    mvcc__history_drop_first(m, &m->history);
    uint32_t count = 1 + cut_chain(m, v);
    if (!mvcc_version_is_tombstone(v))
        return count;
    m->content_dropped += mvcc_version_hash(v);
    struct slice key = mvcc_version_key(v);
    if (mvcc__index_find(m->root, key) != v)
        return count; /* the key came back: it goes when the newer version cuts */
    mvcc__index_remove(m, key);
    return count + drop(m, v);
}

/* One step; the number of changes and versions it looked at, or 0 at the end. */
static uint32_t scrub_step(struct mvcc *m)
{
    struct mvcc_version *v;
    if (!m->scrub_at_set) {
        if (mvcc__history_first(&m->history, &v) && v->main < m->scrub_rev)
            return scrub_below(m, v);
        int rv = mvcc_history_seek(m, &m->scrub_at, m->scrub_rev);
        ASSERT(rv == 0);
        m->scrub_at_set = true;
    }
    v = mvcc__history_next(&m->scrub_at, m->scrub_rev);
    return v == NULL ? 0 : 1 + cut_chain(m, v);
}

/* All that was dropped until now is freed: only now it shows where memory is sparsely used. */
static void all_is_freed(void *p)
{
    struct mvcc *m = p;
    m->pack.due = true;
}

bool mvcc_scrub(struct mvcc *m, uint32_t versions_max)
{
    ASSERT(!m->in_txn && !m->loading);
    mvcc_publish(m); /* what is dropped must be out of reach of all that is published */
    epoch_collect(&m->epoch);
    choose_target(m);
    if (m->scrub_done == m->scrub_rev)
        return false;
    uint32_t done = 0;
    while (done < versions_max) {
        uint32_t step = scrub_step(m);
        if (step == 0) {
            m->scrub_done = m->scrub_rev;
            m->content_compacted = m->scrub_rev;
            m->content_dropped_settled = m->content_dropped;
            break;
        }
        done += step;
    }
    mvcc_publish(m);
    if (m->scrub_done < m->scrub_rev)
        return true;
    epoch_retire(&m->epoch, m, all_is_freed);
    return false;
}
