/* The node's loop of logic. One turn, in order:
 *
 *   requests -> raft_propose / raft_read_index
 *   raft_ready -> messages to peers, ONE append to the log, which the disk begins to write
 *   committed entries are applied while the disk and the network work
 *   mvcc_publish -> one store-release makes the batch visible; answers go back to the workers
 *
 * The leader's own log write runs beside replication: nothing here waits for the disk.
 *
 * Owner: the core thread. */
#include "server/core.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/u64map.h"

enum {
    /* Uncommitted proposals of this member that may wait for an answer; above it, clients are told
     * "too many requests". */
    PROPOSALS_PENDING_MAX = 100000,
    PROPOSE_BATCH_MAX = 1024,
    SCRUB_SLICE_VERSIONS = 512,
    LEASE_REVOKES_PENDING_MAX = 256,
    LOG_CUTS_PER_TICK = 4,       /* segments */
    LOG_KEEP_FACTOR_MAX = 4,     /* of what is kept, for a member that is there and lags */
    DISK_RETRY_MS = 1000,        /* a segment that found no room, and the alarm about it */
    LEASE_QUESTIONS_MAX = 65536, /* at the leader; more are dropped, and who asked times out */
    READ_RETRY_MS = 500, /* as etcd: a read index that is not confirmed is asked for again */
};

/* What somebody, this member too, wants to know of the leader about a lease. */
struct lease_question {
    struct list link;
    uint64_t from;
    uint64_t term; /* in which we took it, leading */
    struct core_lease_msg msg;
};

/* Reads that wait together for one confirmation. */
struct read_batch {
    struct list link;
    struct list requests;
    struct list questions; /* about leases */
    uint64_t context;
    uint64_t log_index; /* 0 = not confirmed yet */
    uint64_t asked_ms;
    uint64_t deadline_ms;
};

struct core {
    struct core_options o;
    struct raft *raft;
    struct lessor *lessor;
    struct applier *applier;
    struct mvcc *mvcc;

    struct list incoming;   /* submitted since the last turn */
    struct list unproposed; /* raft would not take them yet: no leader */
    struct list proposals;  /* on the log, oldest deadline first */
    struct u64map proposal_by_id;
    size_t proposals_count;
    struct list reads_new;         /* barriers without a batch */
    struct list questions_new;     /* likewise */
    uint32_t questions_count;      /* in batches too */
    struct list read_batches;      /* oldest first */
    struct list scrub_waiters;     /* physical compactions */
    struct u64map lease_questions; /* token -> request, asked of the leader */
    struct list lease_waiters;     /* the same requests, oldest deadline first */
    struct list movers;            /* want another leader; oldest deadline first */

    _Atomic uint64_t request_counter;
    struct list persist_waiting; /* batches whose entries are not durable in our log yet */
    uint32_t revokes_pending;

    uint64_t now_ms;
    uint64_t request_timeout_ms;
    uint64_t applied_index;
    uint64_t applied_term;
    uint64_t log_held; /* entries behind it are needed for a snapshot under way */
    uint64_t leader;
    enum raft_role role;
    bool changed; /* something to publish */

    /* The log's disk: what it was asked to write and what it has written, by number. */
    uint64_t log_asked;
    uint64_t log_answered;
    uint32_t log_wait_ticks; /* since it last answered, while it is asked */
    uint32_t hand_over_at;   /* in log_wait_ticks */
    uint32_t election_ticks;
    bool disk_stalled;
    bool disk_low;
    uint64_t disk_retry_ms;
    _Atomic bool lacks_room;

    bool scrubbing;

    _Atomic uint64_t status_leader;
    _Atomic uint64_t status_term;
    _Atomic uint64_t status_commit;
    _Atomic uint64_t status_applied;
};

/* What one turn applied, on its way to RocksDB. */
struct persist_waiting {
    struct list link;
    uint64_t applied_index;
    struct persist_batch *batch;
};

/* --- log reading for lagging followers --- */

static _Noreturn void cannot_read_log(struct core *c, uint64_t lo, int err)
{
    char place[4400];
    wal_read_place(c->o.wal, place, sizeof(place));
    if (err == TV_ECORRUPT && c->o.env.damaged != NULL)
        c->o.env.damaged(c->o.env.ctx, place);
    tv_fatal("the log cannot be read back: %s: %s, entries from %llu on", place, tv_err_text(err),
             (unsigned long long)lo);
}

static int read_old_entries(void *ctx, uint64_t lo, uint64_t hi, size_t bytes_max,
                            struct raft_entry *ret_entries, uint32_t *count)
{
    struct core *c = ctx;
    enum { CHUNK = 64 };
    struct wal_entry chunk[CHUNK];
    uint32_t want = *count < CHUNK ? *count : CHUNK;

    int rv = wal_read(c->o.wal, lo, hi, bytes_max, chunk, &want);
    if (rv == TV_ECORRUPT || rv == TV_EIO)
        cannot_read_log(c, lo, rv);
    if (rv != 0)
        return rv;
    for (uint32_t i = 0; i < want; i++)
        ret_entries[i] = (struct raft_entry){.term = chunk[i].term,
                                             .log_index = chunk[i].log_index,
                                             .type = (enum raft_entry_type)chunk[i].type,
                                             .data = chunk[i].data,
                                             .owner = chunk[i].owner};
    *count = want;
    return 0;
}

/* --- life --- */

static struct raft_membership membership_of(const struct cluster *cluster)
{
    struct raft_membership m = {0};
    for (uint32_t i = 0; i < cluster->members_count; i++)
        m.voters.ids[i] = cluster->members[i].id;
    m.voters.count = cluster->members_count;
    return m;
}

struct core *core_new(const struct core_options *o)
{
    struct core *c = mem_alloc_zero(sizeof(*c));
    c->o = *o;
    c->applier = o->applier;
    c->lessor = o->applier->lessor;
    c->mvcc = o->mvcc;
    list_init(&c->incoming);
    list_init(&c->unproposed);
    list_init(&c->proposals);
    list_init(&c->reads_new);
    list_init(&c->questions_new);
    list_init(&c->read_batches);
    list_init(&c->scrub_waiters);
    list_init(&c->lease_waiters);
    list_init(&c->movers);
    list_init(&c->persist_waiting);
    u64map_init(&c->proposal_by_id);
    u64map_init(&c->lease_questions);
    atomic_init(&c->request_counter, o->id_seed);
    /* etcd's request timeout: 5 s for the queue, and two elections. */
    c->election_ticks = (uint32_t)(o->election_ms / o->heartbeat_ms);
    c->request_timeout_ms = 5000 + 2 * o->election_ms;
    c->applied_index = o->applied_index;
    c->applied_term = o->applied_term;
    c->log_held = UINT64_MAX;
    if (c->o.log_keep_bytes == 0)
        c->o.log_keep_bytes = CORE_LOG_KEEP_BYTES;

    struct raft_options ro;
    raft_options_init(&ro);
    ro.id = o->member_id;
    ro.membership = membership_of(o->cluster);
    ro.heartbeat_ticks = 1;
    ro.election_timeout_ticks = c->election_ticks;
    ro.pre_vote = o->pre_vote;
    ro.check_quorum = true;
    ro.seed = o->seed;
    ro.reader = (struct raft_log_reader){.ctx = c, .read = read_old_entries};
    ro.hard_state = o->hard_state;
    ro.applied_index = o->applied_index;
    ro.log_start_index = o->applied_index;
    ro.log_start_term = o->applied_term;
    c->raft = raft_new(&ro);
    raft_restore(c->raft, o->entries, o->entries_count);
    return c;
}

static void answer(struct core *c, struct request *req, int err)
{
    list_remove(&req->link);
    req->err = err;
    c->o.env.answer(c->o.env.ctx, req);
}

static void answer_all(struct core *c, struct list *requests, int err)
{
    LIST_EACH_SAFE (it, after, requests)
        answer(c, CONTAINER_OF(it, struct request, link), err);
}

static void drop_questions(struct core *c, struct list *questions)
{
    LIST_EACH_SAFE (it, after, questions) {
        list_remove(it);
        c->questions_count--;
        mem_free(CONTAINER_OF(it, struct lease_question, link));
    }
}

static void read_batch_free(struct core *c, struct read_batch *b, int err)
{
    answer_all(c, &b->requests, err);
    drop_questions(c, &b->questions);
    list_remove(&b->link);
    mem_free(b);
}

static void drop_persist_waiting(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->persist_waiting) {
        struct persist_waiting *w = CONTAINER_OF(it, struct persist_waiting, link);
        list_remove(&w->link);
        persist_batch_free(w->batch);
        mem_free(w);
    }
}

void core_free(struct core *c)
{
    answer_all(c, &c->incoming, TV_STOPPED);
    answer_all(c, &c->unproposed, TV_STOPPED);
    answer_all(c, &c->proposals, TV_STOPPED);
    answer_all(c, &c->reads_new, TV_STOPPED);
    answer_all(c, &c->scrub_waiters, TV_STOPPED);
    answer_all(c, &c->lease_waiters, TV_STOPPED);
    drop_questions(c, &c->questions_new);
    answer_all(c, &c->movers, TV_STOPPED);
    LIST_EACH_SAFE (it, after, &c->read_batches)
        read_batch_free(c, CONTAINER_OF(it, struct read_batch, link), TV_STOPPED);
    drop_persist_waiting(c);
    u64map_fini(&c->proposal_by_id);
    u64map_fini(&c->lease_questions);
    raft_free(c->raft);
    mem_free(c);
}

uint64_t core_next_request_id(struct core *c)
{
    uint64_t count = atomic_fetch_add_explicit(&c->request_counter, 1, memory_order_relaxed) + 1;
    return (c->o.member_id << 48) | (count & ((1ull << 48) - 1));
}

/* --- requests in --- */

void core_submit(struct core *c, struct request *req)
{
    if (list_is_empty(&c->incoming))
        c->o.env.wake(c->o.env.ctx);
    list_push_back(&c->incoming, &req->link);
}

/* Asked of raft itself: between two turns a message may have ended our term, and what a leader
 * alone may do would be forwarded to the next one. */
static bool leading(const struct core *c)
{
    return raft_role(c->raft) == RAFT_LEADER;
}

/* --- how long a lease still lives: only the leader knows ---
 *
 * A leader that was cut off or stood still may have a successor that it does not know of, and an
 * older leader's revocation of the lease may lie in its log, not applied yet. So a question waits
 * until a majority has confirmed, after it came, that we lead, and until we have applied what was
 * committed by then: as a linearizable read does, and in the same batches. Whoever leads after that
 * gives each lease its whole TTL from later on (lessor_promote). */

static void lease_answer(struct core *c, struct request *req, int err)
{
    if (err == 0 && req->want_keys)
        applier_lease_keys(c->applier, req);
    answer(c, req, err);
}

static void lease_reply(struct core *c, uint64_t to, const struct core_lease_msg *reply)
{
    if (to == c->o.member_id)
        core_receive_lease(c, to, reply);
    else
        c->o.env.send_lease(c->o.env.ctx, to, reply);
}

static void take_question(struct core *c, uint64_t from, const struct core_lease_msg *msg)
{
    if (c->questions_count == LEASE_QUESTIONS_MAX) {
        PROBE(core_lease_questions_limit);
        return;
    }
    if (list_is_empty(&c->questions_new))
        c->o.env.wake(c->o.env.ctx);
    struct lease_question *q = mem_alloc_zero(sizeof(*q));
    q->from = from;
    q->term = raft_term(c->raft);
    q->msg = *msg;
    c->questions_count++;
    list_push_back(&c->questions_new, &q->link);
}

static void lease_ask(struct core *c, struct request *req)
{
    struct core_lease_msg msg = {
        .token = req->id, .renew = req->kind == REQUEST_LEASE_RENEW, .lease_id = req->lease_id};
    if (leading(c))
        take_question(c, c->o.member_id, &msg);
    else if (c->leader != 0 && c->leader != c->o.member_id)
        c->o.env.send_lease(c->o.env.ctx, c->leader, &msg);
}

static void answer_question(struct core *c, const struct lease_question *q)
{
    struct core_lease_msg reply = q->msg;
    reply.is_reply = true;
    if (!leading(c) || raft_term(c->raft) != q->term)
        reply.err = TV_NOT_LEADER;
    else if (reply.renew)
        reply.err = lessor_renew(c->lessor, reply.lease_id, c->now_ms, &reply.ttl);
    else
        reply.err =
            lessor_remaining(c->lessor, reply.lease_id, c->now_ms, &reply.ttl, &reply.granted_ttl);
    lease_reply(c, q->from, &reply);
}

static void take_lease_request(struct core *c, struct request *req)
{
    req->deadline_ms = c->now_ms + c->request_timeout_ms;
    req->id = core_next_request_id(c);
    list_remove(&req->link);
    list_push_back(&c->lease_waiters, &req->link);
    u64map_put(&c->lease_questions, req->id, req);
    lease_ask(c, req);
}

/* There is another leader: what the old one was asked may be lost. */
static void lease_ask_again(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->lease_waiters)
        lease_ask(c, CONTAINER_OF(it, struct request, link));
}

static void take_move(struct core *c, struct request *req)
{
    if (!leading(c)) {
        answer(c, req, TV_NOT_LEADER);
    } else if (cluster_find(c->o.cluster, req->target) == NULL) {
        answer(c, req, TV_BAD_LEADER_TRANSFEREE);
    } else if (req->target == c->o.member_id) {
        answer(c, req, 0);
    } else {
        log_info("leadership transfer starting", LOG_HEX("local-member-id", c->o.member_id),
                 LOG_HEX("transferee-member-id", req->target));
        req->deadline_ms = c->now_ms + c->request_timeout_ms;
        list_remove(&req->link);
        list_push_back(&c->movers, &req->link);
        (void)raft_transfer_leader(c->raft, req->target); /* not now: then its time runs out */
    }
}

static void answer_movers(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->movers) {
        struct request *req = CONTAINER_OF(it, struct request, link);
        if (req->target == c->leader)
            answer(c, req, 0);
    }
}

static void take_incoming(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->incoming) {
        struct request *req = CONTAINER_OF(it, struct request, link);
        switch (req->kind) {
        case REQUEST_PROPOSE:
            if (c->proposals_count >= PROPOSALS_PENDING_MAX) {
                answer(c, req, TV_TOO_MANY_REQUESTS);
                break;
            }
            c->proposals_count++;
            req->deadline_ms = c->now_ms + c->request_timeout_ms;
            list_remove(&req->link);
            list_push_back(&c->unproposed, &req->link);
            break;
        case REQUEST_READ_BARRIER:
            req->deadline_ms = c->now_ms + c->request_timeout_ms;
            list_remove(&req->link);
            list_push_back(&c->reads_new, &req->link);
            break;
        case REQUEST_LEASE_RENEW:
        case REQUEST_LEASE_TTL:
            take_lease_request(c, req);
            break;
        case REQUEST_LEASE_LIST:
            applier_lease_list(c->applier, req);
            answer(c, req, 0);
            break;
        case REQUEST_MEMBER_LIST:
            applier_member_list(c->applier, req);
            answer(c, req, 0);
            break;
        case REQUEST_MOVE_LEADER:
            take_move(c, req);
            break;
        }
    }
}

/* Give raft everything that waits, as one batch. What it will not take now (no leader yet) stays.
 */
static void propose_waiting(struct core *c)
{
    struct raft_entry batch[PROPOSE_BATCH_MAX];
    while (!list_is_empty(&c->unproposed)) {
        uint32_t count = 0;
        LIST_EACH (it, &c->unproposed) {
            struct request *req = CONTAINER_OF(it, struct request, link);
            batch[count++] = (struct raft_entry){
                .type = RAFT_ENTRY_NORMAL,
                .data = slice_of(req->payload->data, req->payload_size),
                .owner = req->payload,
            };
            if (count == PROPOSE_BATCH_MAX)
                break;
        }
        if (raft_propose(c->raft, batch, count) != 0)
            return;
        for (uint32_t i = 0; i < count; i++) {
            struct request *req = CONTAINER_OF(c->unproposed.next, struct request, link);
            list_remove(&req->link);
            list_push_back(&c->proposals, &req->link);
            u64map_put(&c->proposal_by_id, req->id, req);
            bref_unref(req->payload); /* raft holds its own */
            req->payload = NULL;
        }
    }
}

/* --- linearizable reads (Raft thesis, 6.4) --- */

static void ask_read_index(struct core *c)
{
    if (list_is_empty(&c->reads_new) && list_is_empty(&c->questions_new))
        return;
    struct read_batch *b = mem_alloc_zero(sizeof(*b));
    list_init(&b->requests);
    list_init(&b->questions);
    list_splice_back(&b->requests, &c->reads_new);
    list_splice_back(&b->questions, &c->questions_new);
    b->deadline_ms = c->now_ms + c->request_timeout_ms;
    b->context = core_next_request_id(c);
    b->asked_ms = c->now_ms;
    list_push_back(&c->read_batches, &b->link);
    (void)raft_read_index(c->raft, b->context); /* without a leader the retry asks again */
}

static void confirm_reads(struct core *c, const struct raft_read *reads, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        LIST_EACH (it, &c->read_batches) {
            struct read_batch *b = CONTAINER_OF(it, struct read_batch, link);
            if (b->context == reads[i].context && b->log_index == 0) {
                b->log_index = reads[i].log_index;
                if (b->log_index == 0)
                    b->asked_ms = 0; /* refused: the next tick asks again */
                break;
            }
        }
    }
}

/* Batches are confirmed and served in the order they were asked: an index confirmed later is no
 * lower. */
static void serve_reads(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->read_batches) {
        struct read_batch *b = CONTAINER_OF(it, struct read_batch, link);
        if (b->log_index == 0 || b->log_index > c->applied_index)
            continue;
        LIST_EACH (q, &b->questions)
            answer_question(c, CONTAINER_OF(q, struct lease_question, link));
        read_batch_free(c, b, 0);
    }
}

static void retry_reads(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->read_batches) {
        struct read_batch *b = CONTAINER_OF(it, struct read_batch, link);
        if (b->deadline_ms <= c->now_ms) {
            PROBE(core_read_timeout);
            read_batch_free(c, b, TV_TIMEOUT);
        } else if (b->log_index == 0 && b->asked_ms + READ_RETRY_MS <= c->now_ms) {
            PROBE(core_read_retry);
            b->asked_ms = c->now_ms;
            b->context = core_next_request_id(c);
            (void)raft_read_index(c->raft, b->context);
        }
    }
}

/* --- apply --- */

static void apply_one(struct core *c, const struct raft_entry *e)
{
    ASSERT(e->log_index == c->applied_index + 1);
    c->applied_index = e->log_index;
    c->applied_term = e->term;
    /* Passing it over would make this member differ from those that know it. */
    if (e->type != RAFT_ENTRY_NORMAL)
        tv_fatal("a committed log entry changes the membership, which this version cannot do");
    if (e->data.size == 0)
        return;

    uint64_t id = applier_request_id(e->data);
    struct request *req = id != 0 ? u64map_remove(&c->proposal_by_id, id) : NULL;
    applier_apply(c->applier, e->data, req);
    c->changed = true;
    if (req == NULL) {
        if (c->revokes_pending > 0 && applier_was_own_revoke(c->applier, e->data))
            c->revokes_pending--;
        return;
    }
    c->proposals_count--;
    if (req->wait_scrub && req->err == 0) {
        list_remove(&req->link);
        list_push_back(&c->scrub_waiters, &req->link);
        return;
    }
    answer(c, req, req->err);
}

static void queue_persist(struct core *c)
{
    struct persist_batch *b = applier_take_batch(c->applier, c->applied_index, c->applied_term);
    struct persist_waiting *w = mem_alloc_zero(sizeof(*w));
    w->applied_index = c->applied_index;
    w->batch = b;
    list_push_back(&c->persist_waiting, &w->link);
}

/* Invariant 2: only what our own log holds durably goes to RocksDB. */
static void submit_persist(struct core *c)
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

static void apply_committed(struct core *c, const struct raft_entry *entries, uint32_t count)
{
    if (count == 0)
        return;
    c->applier->term = raft_term(c->raft);
    c->applier->now_ms = c->now_ms;
    for (uint32_t i = 0; i < count; i++)
        apply_one(c, &entries[i]);
    mvcc_publish(c->mvcc);
    raft_applied(c->raft, c->applied_index);
    queue_persist(c);
}

/* --- raft's outputs --- */

static void write_log(struct core *c, const struct raft_ready *rd)
{
    enum { CHUNK = 256 };
    struct wal_entry chunk[CHUNK];
    struct wal_hard_state hs = {
        .term = rd->hard_state.term, .vote = rd->hard_state.vote, .commit = rd->hard_state.commit};
    uint32_t done = 0;
    do {
        uint32_t count = 0;
        while (count < CHUNK && done + count < rd->entries_count) {
            const struct raft_entry *e = &rd->entries[done + count];
            chunk[count++] = (struct wal_entry){.term = e->term,
                                                .log_index = e->log_index,
                                                .type = (uint8_t)e->type,
                                                .data = e->data,
                                                .owner = e->owner};
        }
        done += count;
        bool last = done == rd->entries_count;
        /* A sequence number names the whole batch: the pieces before the last carry the one before.
         */
        wal_append(c->o.wal, last ? rd->persist_seq : 0, chunk, count,
                   last && rd->hard_state_changed ? &hs : NULL);
    } while (done < rd->entries_count);
}

static void note_role(struct core *c)
{
    uint64_t leader = raft_leader(c->raft);
    enum raft_role role = raft_role(c->raft);
    if (leader == c->leader && role == c->role)
        return;
    if (leader != c->leader)
        log_info("raft.node: leader changed", LOG_HEX("local-member-id", c->o.member_id),
                 LOG_HEX("leader-id", leader), LOG_UINT("term", raft_term(c->raft)));
    if (role == RAFT_LEADER && c->role != RAFT_LEADER)
        lessor_promote(c->lessor, c->now_ms, c->o.election_ms);
    if (role != RAFT_LEADER && c->role == RAFT_LEADER) {
        lessor_demote(c->lessor);
        c->revokes_pending = 0;
    }
    c->leader = leader;
    c->role = role;
    c->changed = true;
    lease_ask_again(c);
    answer_movers(c);
}

static void drain_raft(struct core *c)
{
    struct raft_ready rd;
    while (raft_ready(c->raft, &rd)) {
        note_role(c);
        for (uint32_t i = 0; i < rd.msgs_count; i++)
            c->o.env.send(c->o.env.ctx, &rd.msgs[i]);
        if (rd.persist_seq != 0) {
            write_log(c, &rd);
            c->log_asked = rd.persist_seq;
            wal_submit(c->o.wal); /* the disk works while we apply */
        }
        apply_committed(c, rd.committed, rd.committed_count);
        confirm_reads(c, rd.reads, rd.reads_count);
        for (uint32_t i = 0; i < rd.snapshot_requests_count && c->o.env.send_snapshot != NULL; i++)
            c->o.env.send_snapshot(c->o.env.ctx, rd.snapshot_requests[i]);
        raft_ready_done(c->raft);
    }
}

static void publish_status(struct core *c)
{
    atomic_store_explicit(&c->status_leader, c->leader, memory_order_relaxed);
    atomic_store_explicit(&c->status_term, raft_term(c->raft), memory_order_relaxed);
    atomic_store_explicit(&c->status_commit, raft_commit_index(c->raft), memory_order_relaxed);
    atomic_store_explicit(&c->status_applied, c->applied_index, memory_order_relaxed);
}

void core_status(const struct core *c, struct core_status *ret)
{
    ret->leader = atomic_load_explicit(&c->status_leader, memory_order_relaxed);
    ret->term = atomic_load_explicit(&c->status_term, memory_order_relaxed);
    ret->commit_index = atomic_load_explicit(&c->status_commit, memory_order_relaxed);
    ret->applied_index = atomic_load_explicit(&c->status_applied, memory_order_relaxed);
}

/* A slice of garbage a turn, so that no put waits behind a compaction. */
static void scrub(struct core *c)
{
    if (c->applier->compacted) {
        c->applier->compacted = false;
        c->scrubbing = true;
    }
    if (!c->scrubbing)
        return;
    if (mvcc_scrub(c->mvcc, SCRUB_SLICE_VERSIONS)) {
        c->o.env.wake(c->o.env.ctx);
    } else if (mvcc_scrub_is_done(c->mvcc)) {
        c->scrubbing = false;
        answer_all(c, &c->scrub_waiters, 0);
        queue_persist(c); /* RocksDB may drop it too once it knows the sum of the rest */
    } /* else readers or the persist thread hold the rest back: a later turn goes on */
}

void core_turn(struct core *c, uint64_t now_ms)
{
    c->now_ms = now_ms;
    take_incoming(c);
    propose_waiting(c);
    ask_read_index(c);
    drain_raft(c);
    submit_persist(c);
    serve_reads(c);
    scrub(c);
    publish_status(c);
    epoch_collect(mvcc_epoch(c->mvcc));
    if (c->changed) {
        c->changed = false;
        c->o.env.published(c->o.env.ctx);
    }
}

/* --- other inputs --- */

void core_receive(struct core *c, const struct raft_msg *msg)
{
    (void)raft_step(c->raft, msg); /* what raft refuses (an old term, a stranger) is dropped */
}

void core_receive_lease(struct core *c, uint64_t from, const struct core_lease_msg *msg)
{
    if (msg->is_reply) {
        if (msg->err == TV_NOT_LEADER)
            return; /* asked again when we know the leader */
        struct request *req = u64map_remove(&c->lease_questions, msg->token);
        if (req == NULL)
            return;
        req->ttl = msg->ttl;
        req->granted_ttl = msg->granted_ttl;
        lease_answer(c, req, msg->err);
        return;
    }
    if (leading(c)) {
        take_question(c, from, msg);
        return;
    }
    struct core_lease_msg reply = *msg;
    reply.is_reply = true;
    reply.err = TV_NOT_LEADER;
    lease_reply(c, from, &reply);
}

void core_peer_lost(struct core *c, uint64_t id)
{
    raft_peer_unreachable(c->raft, id);
    raft_leader_lost(c->raft, id);
}

void core_log_written(struct core *c, uint64_t seq)
{
    if (seq == 0)
        return;
    c->log_answered = seq;
    c->log_wait_ticks = 0;
    raft_persisted(c->raft, seq);
    if (c->disk_stalled) {
        c->disk_stalled = false;
        raft_set_standing(c->raft, true);
        log_info("the disk of the log answers again");
    }
}

static void expire(struct core *c, struct list *requests, struct u64map *by_id, size_t *count,
                   int err)
{
    while (!list_is_empty(requests)) {
        struct request *req = CONTAINER_OF(requests->next, struct request, link);
        if (req->deadline_ms > c->now_ms)
            return;
        PROBE(core_request_timeout);
        if (by_id != NULL)
            (void)u64map_remove(by_id, req->id);
        if (count != NULL)
            (*count)--;
        answer(c, req, err);
    }
}

/* The leader puts the end of a lease on the log; every member then deletes its keys at one
 * revision. */
static void revoke_expired(struct core *c)
{
    if (!leading(c))
        return;
    int64_t ids[LEASE_REVOKES_PENDING_MAX];
    uint32_t room = LEASE_REVOKES_PENDING_MAX - c->revokes_pending;
    uint32_t count = lessor_expired(c->lessor, c->now_ms, ids, room);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size;
        struct bref *payload = applier_encode_revoke(ids[i], core_next_request_id(c), &size);
        struct raft_entry e = {
            .type = RAFT_ENTRY_NORMAL, .data = slice_of(payload->data, size), .owner = payload};
        if (raft_propose(c->raft, &e, 1) == 0)
            c->revokes_pending++;
        bref_unref(payload);
    }
}

/* --- the disk --- */

/* A leader whose disk does not answer holds up everybody: its own followers could go on without it.
 * So another one shall lead, and this member does not stand again until its disk answers. */
static void watch_log_writes(struct core *c)
{
    if (c->log_answered >= c->log_asked)
        return;
    if (++c->log_wait_ticks < c->election_ticks)
        return;
    if (!c->disk_stalled) {
        PROBE(core_disk_stalled);
        c->disk_stalled = true;
        c->hand_over_at = c->log_wait_ticks;
        raft_set_standing(c->raft, false);
        log_warn("the disk of the log does not answer; until it does, this member will not lead",
                 LOG_UINT("waited-ms", c->log_wait_ticks * c->o.heartbeat_ms),
                 LOG_BOOL("leader", leading(c)));
    }
    if (leading(c) && c->log_wait_ticks >= c->hand_over_at && core_hand_over(c)) {
        c->hand_over_at = c->log_wait_ticks + c->election_ticks; /* should it not be taken */
        log_warn("handing leadership over: the disk of the log does not answer",
                 LOG_UINT("waited-ms", c->log_wait_ticks * c->o.heartbeat_ms));
    }
}

void core_disk_low(struct core *c, bool low)
{
    c->disk_low = low;
}

bool core_lacks_room(const struct core *c)
{
    return atomic_load_explicit(&c->lacks_room, memory_order_relaxed);
}

static void propose_disk_alarm(struct core *c, bool raise)
{
    struct alarm_request r = {.action = raise ? ALARM_ACTIVATE : ALARM_DEACTIVATE,
                              .member_id = c->o.member_id,
                              .type = ALARM_NOSPACE,
                              .reason = ALARM_FOR_DISK};
    uint32_t size;
    struct bref *payload = applier_encode_alarm(&r, core_next_request_id(c), &size);
    struct raft_entry e = {
        .type = RAFT_ENTRY_NORMAL, .data = slice_of(payload->data, size), .owner = payload};
    (void)raft_propose(c->raft, &e, 1); /* the next look tries again */
    bref_unref(payload);
}

/* The alarm that this member raised for its disk follows the disk: what was decided is on the log,
 * so a restart or another leader changes nothing. */
static void tend_disk_space(struct core *c)
{
    bool low = c->disk_low || wal_lacks_room(c->o.wal) || persist_lacks_room(c->o.persist);
    bool changed = atomic_exchange_explicit(&c->lacks_room, low, memory_order_relaxed) != low;
    if (!changed && c->now_ms < c->disk_retry_ms)
        return;
    c->disk_retry_ms = c->now_ms + DISK_RETRY_MS;
    wal_retry_room(c->o.wal);
    uint32_t reasons = alarms_reasons(&c->applier->alarms, c->o.member_id, ALARM_NOSPACE);
    if (low != ((reasons & ALARM_FOR_DISK) != 0))
        propose_disk_alarm(c, low);
}

/* --- snapshots --- */

void core_snapshot_sent(struct core *c, uint64_t id, uint64_t log_index)
{
    raft_snapshot_sent(c->raft, id, log_index);
}

void core_snapshot_failed(struct core *c, uint64_t id)
{
    raft_snapshot_failed(c->raft, id);
}

void core_hold_log(struct core *c, uint64_t log_index)
{
    c->log_held = log_index;
}

bool core_snapshot_is_wanted(const struct core *c, uint64_t log_index, uint64_t term)
{
    return raft_snapshot_is_wanted(c->raft, log_index, term);
}

int core_install_begin(struct core *c, uint64_t log_index, uint64_t term,
                       const struct cluster *cluster)
{
    struct raft_membership m = membership_of(cluster);
    int err = raft_install_snapshot(c->raft, log_index, term, &m);
    if (err != 0)
        return err;
    c->applied_index = log_index;
    c->applied_term = term;
    drop_persist_waiting(c);
    persist_metas_free(c->applier->metas);
    c->applier->metas = NULL;
    return 0;
}

void core_install_end(struct core *c, struct persist *persist)
{
    c->o.persist = persist;
    c->lessor = c->applier->lessor;
    c->changed = true;
    c->o.env.wake(c->o.env.ctx);
}

/* The entry that members which are there, and lag, go on behind. Not one that needs a snapshot:
 * what it needs of the log is held then. */
static uint64_t needed_by_followers(const struct core *c)
{
    struct raft_progress peers[RAFT_PEERS_MAX];
    uint32_t count = leading(c) ? raft_progress(c->raft, peers, RAFT_PEERS_MAX) : 0;
    uint64_t needed = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        const struct raft_progress *p = &peers[i];
        if (p->id == c->o.member_id || !p->active || p->state == RAFT_PROGRESS_SNAPSHOT)
            continue;
        uint64_t has = p->state == RAFT_PROGRESS_PROBE ? p->next_index - 1 : p->match_index;
        if (has < needed)
            needed = has;
    }
    return needed;
}

/* Entries that RocksDB holds are kept for members that were away, until the log takes more than its
 * share of the disk: then its oldest segments go, but the newest snapshot_count entries stay. What
 * a snapshot under way or a member that just took one needs next is kept too, within limits, or
 * under load it would need a snapshot again and again. */
static void cut_log(struct core *c)
{
    uint64_t flushed = persist_flushed_index(c->o.persist);
    for (uint32_t i = 0; i < LOG_CUTS_PER_TICK; i++) {
        uint64_t bytes = wal_size_bytes(c->o.wal);
        if (bytes <= c->o.log_keep_bytes || flushed <= c->o.snapshot_count)
            return;
        uint64_t limit = flushed - c->o.snapshot_count;
        if (c->log_held < limit)
            limit = c->log_held;
        if (bytes <= LOG_KEEP_FACTOR_MAX * c->o.log_keep_bytes) {
            uint64_t needed = needed_by_followers(c);
            if (needed < limit)
                limit = needed;
        }
        uint64_t end = wal_oldest_end(c->o.wal);
        if (end > limit)
            return;
        wal_cut(c->o.wal, end);
    }
}

void core_tick(struct core *c, uint64_t now_ms)
{
    c->now_ms = now_ms;
    raft_tick(c->raft);
    expire(c, &c->unproposed, NULL, &c->proposals_count, TV_TIMEOUT);
    expire(c, &c->proposals, &c->proposal_by_id, &c->proposals_count, TV_TIMEOUT);
    expire(c, &c->lease_waiters, &c->lease_questions, NULL, TV_TIMEOUT);
    expire(c, &c->scrub_waiters, NULL, NULL, TV_TIMEOUT);
    expire(c, &c->movers, NULL, NULL, TV_TIMEOUT_LEADER_TRANSFER);
    retry_reads(c);
    revoke_expired(c);
    watch_log_writes(c);
    tend_disk_space(c);
    cut_log(c);
    c->o.env.wake(c->o.env.ctx);
}

bool core_hand_over(struct core *c)
{
    if (!leading(c))
        return false;
    struct raft_progress peers[RAFT_PEERS_MAX];
    uint32_t count = raft_progress(c->raft, peers, RAFT_PEERS_MAX);
    uint64_t best = 0, best_match = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct raft_progress *p = &peers[i];
        if (p->id != c->o.member_id && p->voter && p->active && p->match_index >= best_match) {
            best = p->id;
            best_match = p->match_index;
        }
    }
    return best != 0 && raft_transfer_leader(c->raft, best) == 0;
}
