/* The persist thread: it follows the history of the store in memory and commits it.
 *
 * Batches say how far to go and what else changed; the versions themselves are read from the store,
 * where they are anyway, so what waits here is small. In a round the thread takes all batches there
 * are, puts the versions up to each one's revision, keeps the records, and commits when enough
 * waits.
 *
 * Invariants:
 * 1. A commit with applied index i holds the changes up to i's batch and none after it: versions
 *    are put up to the batch's revision exactly, and commits happen between batches.
 * 2. The store keeps what is not put yet: mvcc_set_persisted_revision() follows what was put.
 * 3. A store without room is waited for, between two batches: the log has what is not committed.
 *
 * Owner: the persist thread, but for the fields marked otherwise. */
#include "lsm_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    SECTION_VERSIONS = 2048, /* sections are short: memory is not reclaimed meanwhile */
    SECTION_BYTES = 1 << 20,
    META_RECORD_BYTES = 64, /* what a record counts beside its bytes */
    NO_ROOM_RETRY_MS = 500,
    SPREAD_STEPS = 64,
    PACE_SPREAD_MS = 20,
};

struct persist {
    struct persist_options o;
    struct persist_store store;
    struct epoch_reader *reader;
    pthread_t thread;

    struct lsm_meta meta;       /* of the next commit */
    struct persist_meta *metas; /* of the next commit, newest first */
    uint64_t waiting_bytes;
    bool dirty;
    uint64_t dirty_since_ns;
    /* The last version put; more of its revision may follow when `part_of_revision`. */
    int64_t last_main;
    uint32_t last_sub;
    bool part_of_revision;

    /* Written by the core, read by the thread. */
    struct mpsc queue;
    int wake_fd;
    _Atomic bool stop;
    _Atomic bool abort;
    _Atomic bool flush_requested;

    /* Read by any thread. */
    _Atomic uint64_t submitted_index; /* core writes */
    _Atomic uint64_t put_index;       /* the thread writes */
    _Atomic uint64_t flushed_index;   /* the thread writes */
    _Atomic bool lacks_room;          /* the thread writes */
};

/* --- records outside the key space --- */

static void meta_add(struct persist_meta **list, bool is_delete, uint8_t prefix, struct slice key,
                     struct slice value)
{
    ASSERT(key.size < UINT32_MAX && value.size <= UINT32_MAX);
    struct persist_meta *m = mem_alloc(sizeof(*m) + 1 + key.size + value.size);
    *m = (struct persist_meta){.next = *list,
                               .is_delete = is_delete,
                               .key_size = (uint32_t)key.size + 1,
                               .value_size = (uint32_t)value.size};
    m->data[0] = prefix;
    if (key.size > 0)
        memcpy(m->data + 1, key.data, key.size);
    if (value.size > 0)
        memcpy(m->data + 1 + key.size, value.data, value.size);
    *list = m;
}

void persist_meta_put(struct persist_meta **list, struct slice name, struct slice value)
{
    meta_add(list, false, 'm', name, value);
}

void persist_meta_delete(struct persist_meta **list, struct slice name)
{
    meta_add(list, true, 'm', name, SLICE_EMPTY);
}

void persist_meta_put_lease(struct persist_meta **list, const struct lsm_lease *lease)
{
    uint8_t id[8], ttls[LSM_LEASE_VALUE_BYTES];
    lsm__put_be64(id, (uint64_t)lease->id);
    lsm__put_be64(ttls, (uint64_t)lease->granted_ttl);
    lsm__put_be64(ttls + 8, (uint64_t)lease->remaining_ttl);
    meta_add(list, false, 'l', slice_of(id, sizeof(id)), slice_of(ttls, sizeof(ttls)));
}

void persist_meta_delete_lease(struct persist_meta **list, int64_t lease_id)
{
    uint8_t id[8];
    lsm__put_be64(id, (uint64_t)lease_id);
    meta_add(list, true, 'l', slice_of(id, sizeof(id)), SLICE_EMPTY);
}

void persist_metas_free(struct persist_meta *list)
{
    while (list != NULL) {
        struct persist_meta *next = list->next;
        mem_free(list);
        list = next;
    }
}

void persist_batch_free(struct persist_batch *b)
{
    if (b == NULL)
        return;
    persist_metas_free(b->metas);
    mem_free(b);
}

/* --- following the history --- */

/* Put the changes of one section, none above `rev`. True when there may be more. */
static bool put_section(struct persist *p, int64_t rev)
{
    struct mvcc_history_cursor c;
    const struct mvcc_version *v;
    uint32_t count = 0;
    uint64_t from_bytes = p->waiting_bytes;
    bool full = false;
    epoch_enter(mvcc_epoch(p->o.mvcc), p->reader);
    int err = mvcc_history_seek(p->o.mvcc, &c, p->last_main + !p->part_of_revision);
    ASSERT(err == 0); /* the store keeps what is not put */
    while (!full && (v = mvcc_history_next(&c, rev)) != NULL) {
        int64_t main = mvcc_version_mod_revision(v);
        uint32_t sub = mvcc_version_sub(v);
        if (p->part_of_revision && main == p->last_main && sub <= p->last_sub)
            continue;
        p->store.put(p->store.ctx, v);
        p->waiting_bytes += mvcc_version_kv(v).size + LSM_KV_KEY_BYTES;
        p->last_main = main;
        p->last_sub = sub;
        p->part_of_revision = true;
        full = ++count == SECTION_VERSIONS || p->waiting_bytes - from_bytes >= SECTION_BYTES;
    }
    epoch_leave(p->reader);
    if (p->store.hand_over != NULL)
        p->store.hand_over(p->store.ctx);
    return full;
}

static void put_versions(struct persist *p, int64_t rev)
{
    if (rev <= p->meta.revision)
        return;
    while (put_section(p, rev))
        mvcc_set_persisted_revision(p->o.mvcc, p->last_main - 1);
    p->last_main = rev;
    p->part_of_revision = false;
    mvcc_set_persisted_revision(p->o.mvcc, rev);
}

static void take_metas(struct persist *p, struct persist_batch *b)
{
    struct persist_meta **oldest = &b->metas;
    for (; *oldest != NULL; oldest = &(*oldest)->next)
        p->waiting_bytes += META_RECORD_BYTES + (*oldest)->key_size + (*oldest)->value_size;
    *oldest = p->metas;
    p->metas = b->metas;
    b->metas = NULL;
}

static void commit(struct persist *p)
{
    if (!p->dirty)
        return;
    p->store.commit(p->store.ctx, &p->meta, p->metas);
    atomic_store_explicit(&p->flushed_index, p->meta.applied_index, memory_order_release);
    persist_metas_free(p->metas);
    p->metas = NULL;
    p->waiting_bytes = 0;
    p->dirty = false;
}

static void take_batch(struct persist *p, struct persist_batch *b)
{
    ASSERT(b->applied_index >= p->meta.applied_index);
    ASSERT(b->revision >= p->meta.revision && b->compacted >= p->meta.compacted);
    if (!p->dirty)
        p->dirty_since_ns = clock_mono_ns();
    p->dirty = true;
    put_versions(p, b->revision);
    take_metas(p, b);
    p->meta = (struct lsm_meta){.applied_index = b->applied_index,
                                .applied_term = b->applied_term,
                                .revision = b->revision,
                                .compacted = b->compacted,
                                .content = b->content,
                                .chain = b->chain};
    atomic_store_explicit(&p->put_index, b->applied_index, memory_order_release);
    persist_batch_free(b);

    uint64_t flushed = atomic_load_explicit(&p->flushed_index, memory_order_relaxed);
    if (p->waiting_bytes >= p->o.flush_bytes ||
        p->meta.applied_index - flushed >= p->o.flush_entries)
        commit(p);
}

/* --- the thread --- */

static void wake(struct persist *p)
{
    uint64_t one = 1;
    ssize_t n = write(p->wake_fd, &one, sizeof(one));
    ASSERT(n == sizeof(one) || errno == EAGAIN); /* full: it is awake */
}

static struct persist_batch *next_batch(struct persist *p)
{
    struct mpsc_node *n = mpsc_pop(&p->queue);
    return n == NULL ? NULL : CONTAINER_OF(n, struct persist_batch, node);
}

static void wait_for_work(struct persist *p)
{
    int timeout_ms = -1;
    if (persist_lacks_room(p)) {
        timeout_ms = NO_ROOM_RETRY_MS;
    } else if (p->dirty) {
        uint64_t waited_ms = (clock_mono_ns() - p->dirty_since_ns) / 1000000;
        timeout_ms =
            waited_ms >= p->o.flush_interval_ms ? 0 : (int)(p->o.flush_interval_ms - waited_ms);
    }
    struct pollfd fd = {.fd = p->wake_fd, .events = POLLIN};
    uint64_t count;
    if (poll(&fd, 1, timeout_ms) > 0)
        (void)!read(p->wake_fd, &count, sizeof(count)); /* only resets it */
}

/* Members apply an entry at the same moment, and a large one keeps CPUs and disks busy: each is
 * written at another time after it. */
static void wait_for_more(struct persist *p)
{
    if (atomic_load(&p->stop) || atomic_load(&p->abort) || atomic_load(&p->flush_requested))
        return;
    struct timespec pace = {.tv_nsec = (long)p->o.pace_ms * 1000000};
    nanosleep(&pace, NULL);
}

static bool flush_is_due(struct persist *p)
{
    return p->dirty && (clock_mono_ns() - p->dirty_since_ns) / 1000000 >= p->o.flush_interval_ms;
}

static bool has_room(struct persist *p)
{
    bool room = p->store.has_room == NULL || p->store.has_room(p->store.ctx);
    if (atomic_exchange_explicit(&p->lacks_room, !room, memory_order_relaxed) == !room)
        return room;
    if (room)
        log_info("there is room for the store again");
    else
        log_warn("no room on the disk for the store; what is new waits in the log");
    return room;
}

static void *persist_main(void *arg)
{
    struct persist *p = arg;
    for (;;) {
        wait_for_work(p);
        wait_for_more(p);
        /* In this order: what was submitted before the request or the stop is in the queue. */
        bool stop = atomic_load(&p->stop);
        bool flush = atomic_exchange(&p->flush_requested, false) || stop;
        mpsc_begin(&p->queue);
        struct persist_batch *b;
        bool room = true; /* as the queue saw it: room that comes now finds nothing taken yet */
        while (!atomic_load(&p->abort) && (room = has_room(p)) && (b = next_batch(p)) != NULL)
            take_batch(p, b);
        if (atomic_load(&p->abort))
            return NULL;
        if (room && (flush || flush_is_due(p)))
            commit(p);
        if (stop)
            return NULL;
        if (!room && flush)
            atomic_store(&p->flush_requested, true);
    }
}

/* --- life --- */

void persist_options_init(struct persist_options *o)
{
    *o = (struct persist_options){.threaded = true,
                                  .flush_bytes = 64 << 20,
                                  .flush_entries = 200000,
                                  .flush_interval_ms = 60000,
                                  .pace_ms = 5};
}

static uint64_t spread(uint64_t limit, uint64_t by)
{
    return limit - limit / 4 / SPREAD_STEPS * (by % SPREAD_STEPS);
}

struct persist *persist_new(const struct persist_options *o)
{
    ASSERT(o->mvcc != NULL && (o->store != NULL || o->lsm != NULL) && o->pace_ms < 1000);
    struct persist *p = mem_alloc_zero(sizeof(*p));
    p->o = *o;
    p->o.flush_bytes = spread(o->flush_bytes, o->spread);
    p->o.flush_entries = spread(o->flush_entries, o->spread);
    p->o.pace_ms += PACE_SPREAD_MS * (o->spread % SPREAD_STEPS) / SPREAD_STEPS;
    if (o->store != NULL)
        p->store = *o->store;
    else
        lsm__store(o->lsm, &p->store);
    mpsc_init(&p->queue);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->reader = epoch_register(mvcc_epoch(o->mvcc));
    if (p->wake_fd < 0 || p->reader == NULL)
        tv_fatal("the persist thread finds no room to start");
    p->store.attach(p->store.ctx, o->mvcc, &p->meta);
    p->last_main = p->meta.revision;
    atomic_init(&p->submitted_index, p->meta.applied_index);
    atomic_init(&p->put_index, p->meta.applied_index);
    atomic_init(&p->flushed_index, p->meta.applied_index);
    mvcc_set_persisted_revision(o->mvcc, p->meta.revision);
    if (o->threaded) {
        int rv = pthread_create(&p->thread, NULL, persist_main, p);
        if (rv != 0)
            tv_fatal("cannot start a thread: %s", strerror(rv));
        (void)pthread_setname_np(p->thread, "persist");
    }
    return p;
}

static void end(struct persist *p)
{
    if (p->o.threaded) {
        wake(p);
        pthread_join(p->thread, NULL);
    }
    struct persist_batch *b;
    while ((b = next_batch(p)) != NULL)
        persist_batch_free(b);
    persist_metas_free(p->metas);
    p->store.detach(p->store.ctx);
    epoch_unregister(p->reader);
    close(p->wake_fd);
    mem_free(p);
}

void persist_free(struct persist *p)
{
    if (p == NULL)
        return;
    atomic_store(&p->stop, true);
    if (!p->o.threaded)
        commit(p);
    end(p);
}

void persist_abort(struct persist *p)
{
    if (p == NULL)
        return;
    atomic_store(&p->abort, true);
    end(p);
}

void persist_submit(struct persist *p, struct persist_batch *b)
{
    atomic_store_explicit(&p->submitted_index, b->applied_index, memory_order_relaxed);
    if (!p->o.threaded)
        take_batch(p, b);
    else if (mpsc_push(&p->queue, &b->node))
        wake(p);
}

uint64_t persist_backlog(const struct persist *p)
{
    uint64_t put = atomic_load_explicit(&p->put_index, memory_order_acquire);
    uint64_t submitted = atomic_load_explicit(&p->submitted_index, memory_order_relaxed);
    return submitted > put ? submitted - put : 0;
}

bool persist_lacks_room(const struct persist *p)
{
    return atomic_load_explicit(&p->lacks_room, memory_order_relaxed);
}

uint64_t persist_flushed_index(const struct persist *p)
{
    return atomic_load_explicit(&p->flushed_index, memory_order_acquire);
}

void persist_request_flush(struct persist *p)
{
    if (!p->o.threaded) {
        commit(p);
        return;
    }
    atomic_store(&p->flush_requested, true);
    wake(p);
}
