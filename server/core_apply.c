/* Committed entries into the store, and from there to RocksDB; and the garbage that compactions
 * leave, a slice at a time. See core.h. */
#include "server/core_internal.h"

#include "base/prompt.h"

enum {
    SCRUB_SLICE_VERSIONS = 512,
    PACK_SLICE_VERSIONS = 256,
    SCRUB_REST = 4,            /* times what a slice took */
    SERVING_MS = 20,           /* requests come, when the last one was applied so lately */
    FLUSH_INTERVAL_MS = 10000, /* of those after a compaction */
};

/* An entry that is no change of the membership and not empty. */
static int apply_request(struct core *c, const struct wire_raft_request *entry)
{
    struct request *req = core__proposal_applied(c, entry->id);
    int err = applier_apply(c->applier, entry, req);
    core__agree_applied(c);
    c->changed = true;
    if (req == NULL) {
        if (c->revokes_pending > 0 && applier_was_own_revoke(c->applier, entry)) {
            c->revokes_pending--;
            metric_add(&c->meters.leases_expired, err == 0);
        }
        return err;
    }
    c->proposals_count--;
    req->applied = true;
    if (req->traced)
        req->applied_ns = core__clock_ns(c);
    if (req->wait_scrub && req->err == 0) {
        list_remove(&req->link);
        list_push_back(&c->scrub_waiters, &req->link);
    } else {
        core__answer(c, req, req->err);
    }
    return err;
}

static void apply_few(struct core *c, const struct raft_entry *entries, uint32_t count)
{
    ASSERT(count > 0 && count <= APPLY_WARM_MAX);
    struct wire_raft_request decoded[APPLY_WARM_MAX];
    bool is_request[APPLY_WARM_MAX];
    for (uint32_t i = 0; i < count; i++) {
        struct slice request;
        decoded[i] = (struct wire_raft_request){0};
        is_request[i] = core__assemble(c, &entries[i], &request);
        if (is_request[i])
            applier_decode(request, &decoded[i]);
    }
    applier_warm(c->applier, decoded, count);
    struct apply_timing timing;
    core__timing_begin(c, &timing);
    for (uint32_t i = 0; i < count; i++) {
        const struct raft_entry *e = &entries[i];
        ASSERT(e->log_index == c->applied_index + 1);
        c->applied_index = e->log_index;
        c->applied_term = e->term;
        c->applier->log_index = e->log_index;
        if (e->type == RAFT_ENTRY_CONF)
            core__apply_conf(c, e);
        else if (is_request[i])
            core__timing_applied(c, &timing, decoded[i].kind, apply_request(c, &decoded[i]));
        core__piece_applied(c, e);
    }
    core__timing_end(c, &timing);
}

/* How many are applied together: what was put together is there until the next is. */
static uint32_t few_of(const struct raft_entry *entries, uint32_t count)
{
    uint32_t few = 0;
    while (few < count && few < APPLY_WARM_MAX &&
           (few == 0 || entries[few - 1].type != RAFT_ENTRY_PIECE_LAST))
        few++;
    return few;
}

/* Not between two pieces of a request: a restart begins behind what RocksDB has. */
static void queue_persist(struct core *c)
{
    if (core__assembles(c)) {
        PROBE(core_persist_gathers);
        return;
    }
    struct persist_batch *b = applier_take_batch(c->applier, c->applied_index, c->applied_term);
    struct persist_waiting *w = mem_alloc_zero(sizeof(*w));
    w->applied_index = c->applied_index;
    w->batch = b;
    list_push_back(&c->persist_waiting, &w->link);
}

/* Invariant 2: only what our own log holds durably goes to RocksDB. */
void core__submit_persist(struct core *c)
{
    uint64_t durable = wal_durable_index(c->o.wal);
    LIST_EACH_SAFE (it, after, &c->persist_waiting) {
        struct persist_waiting *w = CONTAINER_OF(it, struct persist_waiting, link);
        if (w->applied_index > durable)
            return;
        list_remove(&w->link);
        persist_submit(c->o.persist, w->batch);
        mem_free(w);
    }
}

void core__apply_committed(struct core *c, const struct raft_entry *entries, uint32_t count)
{
    if (count == 0)
        return;
    c->applier->term = raft_term(c->raft);
    c->applier->now_ms = c->now_ms;
    for (uint32_t done = 0; done < count;) {
        uint32_t few = few_of(entries + done, count - done);
        apply_few(c, entries + done, few);
        done += few;
        prompt_check();
    }
    mvcc_publish(c->mvcc);
    raft_applied(c->raft, c->applied_index);
    c->applied_ms = c->now_ms;
    queue_persist(c);
}

void core__drop_persist_waiting(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->persist_waiting) {
        struct persist_waiting *w = CONTAINER_OF(it, struct persist_waiting, link);
        list_remove(&w->link);
        persist_batch_free(w->batch);
        mem_free(w);
    }
}

/* --- garbage --- */

static bool scrub_slice(struct core *c)
{
    struct mvcc_stats before;
    mvcc_stats(c->mvcc, &before);
    uint64_t from_ns = core__clock_ns(c);
    bool more = mvcc_scrub(c->mvcc, SCRUB_SLICE_VERSIONS);
    core__note_scrub(c, from_ns, before.versions);
    return more;
}

/* The next slice is due: now, or while requests come after a rest. All members work on a compaction
 * at the same time, for thousands of slices when it gave up much. */
static bool scrub_is_due(struct core *c)
{
    if (c->scrub_rest_until_ns == 0 || c->now_ms - c->applied_ms > SERVING_MS)
        return true;
    uint64_t now_ns = core__clock_ns(c);
    if (now_ns >= c->scrub_rest_until_ns)
        return true;
    c->o.env.wake_in(c->o.env.ctx, 1 + (c->scrub_rest_until_ns - now_ns) / 1000000);
    return false;
}

static void scrub_goes_on(struct core *c, uint64_t from_ns)
{
    uint64_t now_ns = core__clock_ns(c);
    if (c->o.env.wake_in != NULL)
        c->scrub_rest_until_ns = now_ns + SCRUB_REST * (now_ns - from_ns);
    if (scrub_is_due(c))
        c->o.env.wake(c->o.env.ctx);
}

/* A slice of garbage a turn, so that no put waits behind a compaction; then, in slices too, memory
 * that it left goes back. */
void core__scrub(struct core *c)
{
    if (c->applier->compacted) {
        c->applier->compacted = false;
        c->scrubbing = true;
    }
    if (!scrub_is_due(c))
        return;
    uint64_t from_ns = core__clock_ns(c);
    c->scrub_rest_until_ns = 0;
    if (c->scrubbing && scrub_slice(c)) {
        scrub_goes_on(c, from_ns);
        return;
    }
    if (mvcc_pack(c->mvcc, PACK_SLICE_VERSIONS))
        scrub_goes_on(c, from_ns);
    if (c->scrubbing && mvcc_scrub_is_done(c->mvcc)) {
        c->scrubbing = false;
        core__note_scrub_done(c);
        core__answer_all(c, &c->scrub_waiters, 0);
        queue_persist(c); /* RocksDB may drop it too once it knows the sum of the rest */
        c->flush_due = true;
    } /* else readers or the persist thread hold the rest back: a later turn goes on */
}

/* So that what a compaction gave up leaves the disk soon, also when little is written after it. */
void core__flush_after_scrub(struct core *c)
{
    if (!c->flush_due || c->now_ms < c->flush_next_ms || !list_is_empty(&c->persist_waiting))
        return;
    c->flush_due = false;
    c->flush_next_ms = c->now_ms + FLUSH_INTERVAL_MS;
    persist_request_flush(c->o.persist);
}
