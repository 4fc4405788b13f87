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
#include "server/core_internal.h"

#include <stdio.h>

enum {
    /* Uncommitted proposals of this member that may wait for an answer; above it, clients are told
     * "too many requests". */
    PROPOSALS_PENDING_MAX = 100000,
    /* With the feature PriorityRequest, for ending leases. */
    PRIORITY_PENDING_MAX = 2 * PROPOSALS_PENDING_MAX,
    LEASE_REVOKES_PENDING_MAX = 256,
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

static void note_begun(const struct raft_entry *e, struct cluster *ret)
{
    struct wire_raft_request entry;
    struct wire_member_attr attr;
    if (e->type == RAFT_ENTRY_NORMAL && e->data.size > 0 &&
        wire_raft_request_decode(e->data, &entry) == 0 && entry.kind == WIRE_RAFT_MEMBER_ATTR_SET &&
        wire_member_attr_decode(entry.body, &attr) == 0)
        cluster_set_attributes(ret, attr.member_id, attr.name, attr.client_urls,
                               attr.client_urls_count);
}

void core_note_begun(struct core *c, struct cluster *ret)
{
    enum { CHUNK = 64, CHUNK_BYTES = 1 << 20 };
    struct raft_entry chunk[CHUNK];
    uint64_t lo = c->applied_index + 1, end = wal_durable_index(c->o.wal) + 1;
    while (lo < end) {
        uint32_t count = CHUNK;
        if (read_old_entries(c, lo, end, CHUNK_BYTES, chunk, &count) != 0)
            return; /* not durable any more: another leader's entries take their place */
        for (uint32_t i = 0; i < count; i++) {
            note_begun(&chunk[i], ret);
            bref_unref(chunk[i].owner);
        }
        lo += count;
    }
}

/* --- life --- */

static void publish_status(struct core *c);

struct core *core_new(const struct core_options *o)
{
    struct core *c = mem_alloc_zero(sizeof(*c));
    c->o = *o;
    c->applier = o->applier;
    c->lessor = o->applier->lessor;
    c->mvcc = o->mvcc;
    list_init(&c->incoming);
    list_init(&c->reads_new);
    list_init(&c->questions_new);
    list_init(&c->held_renewals);
    list_init(&c->read_batches);
    list_init(&c->scrub_waiters);
    list_init(&c->askers);
    list_init(&c->renewals);
    list_init(&c->movers);
    list_init(&c->changes);
    list_init(&c->copies);
    list_init(&c->persist_waiting);
    core__proposals_init(c);
    u64map_init(&c->questions_asked);
    atomic_init(&c->request_counter, o->id_seed);
    /* etcd's request timeout: 5 s for the queue, and two elections. */
    c->election_ticks = (uint32_t)(o->election_ms / o->heartbeat_ms);
    c->request_timeout_ms = 5000 + 2 * o->election_ms;
    c->applied_index = o->applied_index;
    c->applied_term = o->applied_term;
    c->log_held = UINT64_MAX;
    if (c->o.log_keep_bytes == 0)
        c->o.log_keep_bytes = CORE_LOG_KEEP_BYTES;
    if (c->o.large_bytes == 0)
        c->o.large_bytes = CORE_LARGE_BYTES;
    buf_init(&c->assembly.bytes, ASSEMBLY_BYTES_MAX);

    agree_init(&c->agree, o->member_id);

    struct raft_options ro;
    raft_options_init(&ro);
    ro.id = o->member_id;
    ro.membership = o->cluster->raft;
    ro.heartbeat_ticks = 1;
    ro.election_timeout_ticks = c->election_ticks;
    ro.pre_vote = o->pre_vote;
    ro.check_quorum = true;
    ro.lease_reads = o->lease_reads;
    ro.seed = o->seed;
    ro.reader = (struct raft_log_reader){.ctx = c, .read = read_old_entries};
    ro.hard_state = o->hard_state;
    ro.applied_index = o->applied_index;
    ro.log_start_index = o->applied_index;
    ro.log_start_term = o->applied_term;
    c->raft = raft_new(&ro);
    raft_restore(c->raft, o->entries, o->entries_count);
    publish_status(c);
    return c;
}

void core__answer(struct core *c, struct request *req, int err)
{
    list_remove(&req->link);
    req->err = err;
    c->o.env.answer(c->o.env.ctx, req);
}

void core__answer_all(struct core *c, struct list *requests, int err)
{
    LIST_EACH_SAFE (it, after, requests)
        core__answer(c, CONTAINER_OF(it, struct request, link), err);
}

void core_free(struct core *c)
{
    core__drop_fostered(c);
    core__answer_all(c, &c->reads_new, TV_STOPPED);
    core__answer_all(c, &c->scrub_waiters, TV_STOPPED);
    core__answer_all(c, &c->askers, TV_STOPPED);
    core__answer_all(c, &c->renewals, TV_STOPPED);
    core__answer_all(c, &c->movers, TV_STOPPED);
    core__answer_all(c, &c->changes, TV_STOPPED);
    core__answer_all(c, &c->copies, TV_STOPPED);
    core__drop_reads(c);
    core__drop_persist_waiting(c);
    core__proposals_fini(c);
    while (!list_is_empty(&c->incoming)) /* some of it was asked for by who was answered above */
        core__answer_all(c, &c->incoming, TV_STOPPED);
    buf_fini(&c->assembly.bytes);
    u64map_fini(&c->questions_asked);
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

bool core__leading(const struct core *c)
{
    return raft_role(c->raft) == RAFT_LEADER;
}

static void take_move(struct core *c, struct request *req)
{
    if (!core__leading(c)) {
        core__answer(c, req, TV_NOT_LEADER);
    } else if (!raft_membership_is_voter(raft_membership(c->raft), req->target)) {
        core__answer(c, req, TV_BAD_LEADER_TRANSFEREE);
    } else if (req->target == c->o.member_id) {
        core__answer(c, req, 0);
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
            core__answer(c, req, 0);
    }
}

static void take_lease_request(struct core *c, struct request *req)
{
    int err = core__permit_leases(c, req);
    if (err != 0) {
        core__answer(c, req, err);
    } else if (req->kind == REQUEST_LEASE_RENEW) {
        list_remove(&req->link);
        list_push_back(&c->renewals, &req->link);
    } else if (req->kind == REQUEST_LEASE_TTL) {
        core__take_question(c, req);
    } else {
        applier_lease_list(c->applier, req);
        core__answer(c, req, 0);
    }
}

/* What ends a lease makes room for others. */
static bool has_priority(const struct core *c, const struct request *req)
{
    struct wire_raft_request entry;
    if (!c->o.priority_requests || c->proposals_count >= PRIORITY_PENDING_MAX)
        return false;
    applier_decode(slice_of(req->payload->data, req->payload_size), &entry);
    return entry.kind == WIRE_RAFT_LEASE_REVOKE;
}

static void take_incoming(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->incoming) {
        struct request *req = CONTAINER_OF(it, struct request, link);
        if (core_is_fenced(c)) {
            core__answer(c, req, TV_CORRUPT);
            continue;
        }
        switch (req->kind) {
        case REQUEST_PROPOSE:
            if (c->proposals_count >= PROPOSALS_PENDING_MAX && !has_priority(c, req)) {
                core__answer(c, req, TV_TOO_MANY_REQUESTS);
                break;
            }
            c->proposals_count++;
            req->deadline_ms =
                c->now_ms + (req->patience_ms != 0 ? req->patience_ms : c->request_timeout_ms);
            core__take_proposal(c, req);
            break;
        case REQUEST_READ_BARRIER:
            req->deadline_ms = c->now_ms + c->request_timeout_ms;
            list_remove(&req->link);
            list_push_back(&c->reads_new, &req->link);
            break;
        case REQUEST_LEASE_RENEW:
        case REQUEST_LEASE_TTL:
        case REQUEST_LEASE_LIST:
            take_lease_request(c, req);
            break;
        case REQUEST_MEMBER_LIST:
            applier_member_list(c->applier, req);
            core__answer(c, req, 0);
            break;
        case REQUEST_MOVE_LEADER:
            take_move(c, req);
            break;
        case REQUEST_MEMBER_CHANGE:
            core__take_change(c, req);
            break;
        case REQUEST_DEFRAGMENT:
            c->flush_due = true;
            c->flush_next_ms = c->now_ms;
            core__answer(c, req, 0);
            break;
        case REQUEST_COPY:
            core__take_copy(c, req);
            break;
        }
    }
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
    if (leader != c->leader && leader != 0) {
        atomic_fetch_add_explicit(&c->leader_changes, 1, memory_order_relaxed);
        c->led_since_ms = c->now_ms;
    }
    if (leader != c->leader)
        log_info("raft.node: leader changed", LOG_HEX("local-member-id", c->o.member_id),
                 LOG_HEX("leader-id", leader), LOG_UINT("term", raft_term(c->raft)));
    if (role == RAFT_LEADER && c->role != RAFT_LEADER)
        lessor_promote(c->lessor, c->now_ms, c->o.election_ms, c->o.lease_checkpoint_ms);
    if (role != RAFT_LEADER && c->role == RAFT_LEADER) {
        lessor_demote(c->lessor);
        c->revokes_pending = 0;
    }
    if (leader != c->leader)
        core__forget_window(c);
    c->reads_ask_again = c->reads_ask_again || (leader != c->leader && leader != 0);
    c->leader = leader;
    c->role = role;
    c->changed = true;
    core__ask_again(c);
    answer_movers(c);
}

static void drain_ready(struct core *c)
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
        core__apply_committed(c, rd.committed, rd.committed_count);
        core__confirm_reads(c, rd.reads, rd.reads_count);
        for (uint32_t i = 0; i < rd.snapshot_requests_count && c->o.env.send_snapshot != NULL; i++)
            c->o.env.send_snapshot(c->o.env.ctx, rd.snapshot_requests[i]);
        raft_ready_done(c->raft);
    }
}

static void drain_raft(struct core *c)
{
    do
        drain_ready(c);
    while (core__reads_follow_leader(c));
}

static enum core_standing standing(const struct core *c)
{
    const struct raft_membership *m = raft_membership(c->raft);
    if (raft_membership_is_learner(m, c->o.member_id))
        return CORE_LEARNER;
    return raft_membership_has(m, c->o.member_id) ? CORE_VOTER : CORE_OUTSIDE;
}

bool core_log_is_empty(const struct core *c)
{
    return raft_last_index(c->raft) == 0;
}

static void publish_status(struct core *c)
{
    atomic_store_explicit(&c->status_standing, standing(c), memory_order_relaxed);
    atomic_store_explicit(&c->status_leader, c->leader, memory_order_relaxed);
    atomic_store_explicit(&c->status_term, raft_term(c->raft), memory_order_relaxed);
    atomic_store_explicit(&c->status_commit, raft_commit_index(c->raft), memory_order_relaxed);
    atomic_store_explicit(&c->status_applied, c->applied_index, memory_order_relaxed);
    metric_set(&c->meters.proposals_pending, c->proposals_count);
}

void core_status(const struct core *c, struct core_status *ret)
{
    ret->standing =
        (enum core_standing)atomic_load_explicit(&c->status_standing, memory_order_relaxed);
    ret->leader = atomic_load_explicit(&c->status_leader, memory_order_relaxed);
    ret->term = atomic_load_explicit(&c->status_term, memory_order_relaxed);
    ret->commit_index = atomic_load_explicit(&c->status_commit, memory_order_relaxed);
    ret->applied_index = atomic_load_explicit(&c->status_applied, memory_order_relaxed);
    ret->leader_changes = atomic_load_explicit(&c->leader_changes, memory_order_relaxed);
}

/* A lease runs by the clock, whatever kept this thread from being called: the ticks that are due
 * come before anything that might rely on it. */
static void tick_by_clock(struct core *c)
{
    uint64_t ticks_max = 4 * (uint64_t)c->election_ticks; /* any lease has ended by then */
    if (c->ticked_ms == 0)
        c->ticked_ms = c->now_ms;
    while (c->ticked_ms + c->o.heartbeat_ms <= c->now_ms && ticks_max-- > 0) {
        raft_tick(c->raft);
        c->ticked_ms += c->o.heartbeat_ms;
    }
    if (c->ticked_ms + c->o.heartbeat_ms <= c->now_ms)
        c->ticked_ms = c->now_ms;
}

/* It may have been found out while raft was handing out messages, by sending one. */
static void tell_lost(struct core *c)
{
    for (uint32_t i = 0; i < c->lost_count; i++) {
        if (c->lost[i] == c->leader)
            core__forget_window(c); /* what we forwarded to it may be lost */
        raft_peer_unreachable(c->raft, c->lost[i]);
        raft_leader_lost(c->raft, c->lost[i]);
    }
    c->lost_count = 0;
    /* After a start there is no reason to wait until a leader that nobody knows has been silent for
     * an election timeout. */
    if (c->may_stand && raft_leader(c->raft) == 0)
        raft_leader_lost(c->raft, 0);
    c->may_stand = false;
}

void core_turn(struct core *c, uint64_t now_ms)
{
    c->now_ms = now_ms;
    if (c->o.lease_reads)
        tick_by_clock(c);
    tell_lost(c);
    take_incoming(c);
    core__ask_renewals(c);
    core__propose_fostered(c);
    core__propose_waiting(c);
    core__propose_changes(c);
    core__clear_held(c);
    core__ask_read_index(c);
    drain_raft(c);
    core__fence(c);
    core__submit_persist(c);
    core__make_copies(c);
    core__serve_reads(c);
    core__answer_held(c);
    core__scrub(c);
    if (core__may_propose_more(c))
        c->o.env.wake(c->o.env.ctx);
    core__propose_after_rest(c);
    publish_status(c);
    epoch_collect(mvcc_epoch(c->mvcc));
    if (c->changed) {
        c->changed = false;
        c->o.env.published(c->o.env.ctx);
    }
}

/* --- other inputs --- */

/* A leader's heartbeat names no entry that we did not acknowledge to it. When we do not have it, an
 * older copy of our data was put in its place, as a whole, so that nothing on the disk tells. */
static void check_own_log(struct core *c, const struct raft_msg *msg)
{
    uint64_t last = wal_last_index(c->o.wal);
    if (msg->type != RAFT_MSG_HEARTBEAT || msg->to != c->o.member_id || msg->commit <= last)
        return;
    char what[256];
    (void)snprintf(what, sizeof(what),
                   "the leader has our word that entry %llu is durable here, and the log ends with "
                   "entry %llu: it is from another time",
                   (unsigned long long)msg->commit, (unsigned long long)last);
    if (c->o.env.damaged != NULL)
        c->o.env.damaged(c->o.env.ctx, what);
    tv_fatal("%s", what);
}

static void receive_guests(struct core *c, const struct raft_msg *msg)
{
    struct raft_msg rest = *msg;
    struct raft_entry *entries = mem_alloc(msg->entries_count * sizeof(*entries));
    rest.entries_count = core__take_guests(c, msg, entries);
    rest.entries = entries;
    if (rest.entries_count > 0)
        core__note_small(c);
    if (rest.entries_count > 0 && raft_step(c->raft, &rest) == TV_EDROPPED)
        core__foster(c, &rest);
    mem_free(entries);
}

void core_receive(struct core *c, const struct raft_msg *msg)
{
    if (core__has_guests(c, msg)) {
        receive_guests(c, msg);
        return;
    }
    if (msg->type == RAFT_MSG_PROPOSE)
        core__note_small(c);
    check_own_log(c, msg);
    int rv = raft_step(c->raft, msg); /* what raft refuses (an old term, a stranger) is dropped */
    if (rv == TV_EDROPPED && msg->type == RAFT_MSG_PROPOSE)
        core__foster(c, msg);
}

void core_peer_lost(struct core *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->lost_count; i++)
        if (c->lost[i] == id)
            return;
    if (c->lost_count < RAFT_PEERS_MAX)
        c->lost[c->lost_count++] = id;
    c->o.env.wake(c->o.env.ctx);
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

void core__expire(struct core *c, struct list *requests, struct u64map *by_id, size_t *count,
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
        core__answer(c, req, err);
    }
}

/* The leader puts the end of a lease on the log; every member then deletes its keys at one
 * revision. */
static void revoke_expired(struct core *c)
{
    if (!core__leading(c))
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

/* --- snapshots --- */

void core_snapshot_sent(struct core *c, uint64_t id, uint64_t log_index)
{
    raft_snapshot_sent(c->raft, id, log_index);
    core__hold_for_newcomer(c, id, log_index);
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
    int err = raft_install_snapshot(c->raft, log_index, term, &cluster->raft);
    if (err != 0)
        return err;
    c->applied_index = log_index;
    c->applied_term = term;
    c->assembly.term = 0;
    core__drop_persist_waiting(c);
    persist_metas_free(c->applier->metas);
    c->applier->metas = NULL;
    return 0;
}

void core_install_end(struct core *c, struct persist *persist)
{
    c->o.persist = persist;
    agree_forget(&c->agree);
    c->lessor = c->applier->lessor;
    c->changed = true;
    if (c->o.env.members_changed != NULL)
        c->o.env.members_changed(c->o.env.ctx);
    c->o.env.wake(c->o.env.ctx);
}

/* There is nobody else to wait for. */
static void stand_at_once(struct core *c)
{
    if (!c->o.stand_at_once)
        return;
    c->o.stand_at_once = false;
    if (c->o.cluster->members_count == 1)
        raft_campaign(c->raft);
}

void core_tick(struct core *c, uint64_t now_ms)
{
    c->now_ms = now_ms;
    if (c->o.lease_reads)
        tick_by_clock(c);
    else
        raft_tick(c->raft);
    core__note_tick(c);
    stand_at_once(c);
    core__expire_proposals(c);
    core__expire(c, &c->askers, &c->questions_asked, NULL, TV_TIMEOUT);
    core__expire(c, &c->changes, &c->proposal_by_id, &c->proposals_count, TV_TIMEOUT);
    core__expire(c, &c->scrub_waiters, NULL, NULL, TV_TIMEOUT);
    core__expire(c, &c->movers, NULL, NULL, TV_TIMEOUT_LEADER_TRANSFER);
    core__expire(c, &c->copies, NULL, NULL, TV_TIMEOUT);
    core__retry_reads(c);
    revoke_expired(c);
    core__checkpoint_leases(c);
    core__watch_log_writes(c);
    core__tend_disk_space(c);
    core__flush_after_scrub(c);
    core__cut_log(c);
    core__tend_agreement(c);
    core__tend_members(c);
    core__tend_version(c);
    c->o.env.wake(c->o.env.ctx);
}

bool core_hand_over(struct core *c)
{
    if (!core__leading(c))
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
