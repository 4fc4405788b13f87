/* Life, time and the small inputs; the roles are in election.c and replicate.c. */
#include "internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

void raft_options_init(struct raft_options *o)
{
    *o = (struct raft_options){
        .election_timeout_ticks = 10,
        .heartbeat_ticks = 1,
        .pre_vote = true,
        .check_quorum = true,
        .lease_margin_ticks = 2,
        .inflight_msgs_max = 512,
        .inflight_bytes_max = 64u << 20,
        .msg_bytes_max = 1u << 20,
        .log_window_bytes = 32u << 20,
        .log_tail_bytes = 1u << 20,
        .uncommitted_bytes_max = 256u << 20,
    };
}

static void check_options(const struct raft_options *o)
{
    ASSERT(o->id != 0);
    ASSERT(raft_membership_is_valid(&o->membership));
    ASSERT(o->heartbeat_ticks > 0);
    ASSERT(o->election_timeout_ticks > o->heartbeat_ticks);
    ASSERT(!o->lease_reads || o->check_quorum);
    ASSERT(!o->lease_reads || o->lease_margin_ticks + 2 <= o->election_timeout_ticks);
    ASSERT(o->inflight_msgs_max > 0);
    ASSERT(o->inflight_bytes_max > 0);
    ASSERT(o->msg_bytes_max > 0);
    ASSERT(o->applied_index >= o->log_start_index);
}

struct raft *raft_new(const struct raft_options *o)
{
    check_options(o);
    struct raft *r = mem_alloc_zero(sizeof(*r));
    r->o = *o;
    rng_init(&r->rng, o->seed);
    raft__log_init(&r->log, o->log_start_index, o->log_start_term);

    raft__set_membership(r, &o->membership);

    r->term = o->hard_state.term;
    r->vote = o->hard_state.vote;
    r->durable_term = r->term;
    r->durable_vote = r->vote;
    r->handed_out = o->hard_state;
    /* What was applied was committed, even if the hard state that said so was never written. */
    r->commit = o->hard_state.commit > o->applied_index ? o->hard_state.commit : o->applied_index;
    r->given = o->applied_index;
    r->applied = o->applied_index;
    /* What was promised before a restart is kept after it. */
    r->heard_elapsed = o->hard_state.term != 0 ? 0 : o->election_timeout_ticks;
    return r;
}

/* A torn write may have brought entries without the commit index they came with. Of the changes of
 * membership all but the last are committed (raft.h, invariant 6), and we must not stand for
 * election before we know it. */
static void restore_commit(struct raft *r, const struct raft_entry *entries, uint32_t count)
{
    uint64_t last_conf = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].type != RAFT_ENTRY_CONF)
            continue;
        if (last_conf > r->commit) {
            PROBE(raft_restored_commit_from_conf);
            r->commit = last_conf;
        }
        last_conf = entries[i].log_index;
    }
}

void raft_restore(struct raft *r, const struct raft_entry *entries, uint32_t count)
{
    ASSERT(!r->restored);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t term_before = i == 0 ? r->log.base_term : entries[i - 1].term;
        if (entries[i].log_index != r->log.base_index + 1 + i || entries[i].term < term_before)
            tv_fatal("the log is damaged: entry %llu of term %llu stands where %llu belongs",
                     (unsigned long long)entries[i].log_index, (unsigned long long)entries[i].term,
                     (unsigned long long)(r->log.base_index + 1 + i));
    }
    raft__log_append(&r->log, entries, count);
    restore_commit(r, entries, count);
    if (r->commit > r->log.last_index)
        tv_fatal("the log lost entries: it ends at %llu, but %llu was committed",
                 (unsigned long long)r->log.last_index, (unsigned long long)r->commit);
    if (r->log.last_term > r->term) {
        /* The write that brought the entries was cut short before the new term. No vote of that
         * term has left us, and its leader was elected without one. */
        PROBE(raft_restored_term_from_log);
        r->term = r->log.last_term;
        r->vote = 0;
    }
    r->written_index = r->log.last_index;
    r->persisted_index = r->log.last_index;
    r->restored = true;
    raft__reset(r);
}

void raft_free(struct raft *r)
{
    if (r == NULL)
        return;
    raft__log_fini(&r->log);
    for (uint32_t i = 0; i < r->peers_count; i++)
        raft__peer_fini(&r->peers[i]);
    for (uint32_t i = 0; i < r->forward_count; i++)
        bref_unref(r->forward[i].owner);
    for (uint32_t i = 0; i < r->fetched_count; i++)
        bref_unref(r->fetched[i].owner);
    mem_free(r->forward);
    mem_free(r->fetched);
    mem_free(r->reads);
    mem_free(r->reads_done);
    mem_free(r->msgs);
    mem_free(r);
}

void *raft__vector_reserve(void *items, uint32_t *capacity, uint32_t count, size_t item_size)
{
    if (count <= *capacity)
        return items;
    uint32_t more = *capacity == 0 ? 16 : *capacity;
    while (more < count)
        more *= 2;
    *capacity = more;
    return mem_realloc(items, more * item_size);
}

uint32_t raft__draw_timeout(struct raft *r)
{
    uint32_t least = r->o.election_timeout_ticks;
    if (!r->o.pre_vote)
        return least + (uint32_t)rng_below(&r->rng, least);
    /* One more: who was heard by all at the same moment is not called lost by some of them yet. */
    return least + 1 + (uint32_t)rng_below(&r->rng, 1 + least * 2 / 5);
}

void raft__reset(struct raft *r)
{
    raft__read_refuse_all(r);
    r->leader = 0;
    r->election_elapsed = 0;
    r->heartbeat_elapsed = 0;
    r->election_timeout = raft__draw_timeout(r);
    r->vote_requests_due = false;
    r->campaign_transfer = false;
    r->campaign_after_conf = false;
    r->matched_index = 0;
    r->ack_target = 0;
    r->ack_sent = 0;
    r->ack_due = false;
    r->heartbeat_reply_due = false;
    r->round_seen = 0;
    r->round_echoed = 0;
    r->transfer_target = 0;
    r->transfer_sent = false;
    r->uncommitted_bytes = 0;
    r->round_current = 0;
    r->lease_round_due = false;
    r->lease_known = false;
    r->lease_off = false;
    for (uint32_t i = 0; i < r->peers_count; i++)
        raft__peer_reset(&r->peers[i], r->log.last_index + 1);
    r->self->match_index = r->persisted_index;
}

void raft__become_follower(struct raft *r, uint64_t term, uint64_t leader)
{
    ASSERT(term >= r->term);
    if (term > r->term) {
        r->term = term;
        r->vote = 0;
        r->vote_reply_due = false;
    }
    r->role = RAFT_FOLLOWER;
    raft__reset(r);
    r->leader = leader;
}

void raft__commit_to(struct raft *r, uint64_t log_index)
{
    ASSERT(log_index <= r->log.last_index);
    if (log_index <= r->commit)
        return;
    if (r->role == RAFT_LEADER)
        for (uint64_t i = r->commit + 1; i <= log_index; i++)
            r->uncommitted_bytes -= raft__entry_bytes(raft__log_at(&r->log, i));
    r->commit = log_index;
}

/* --- time --- */

static enum raft_ballot is_active(const struct raft_peer *p)
{
    return p->active ? RAFT_BALLOT_YES : RAFT_BALLOT_NO;
}

static void tick_leader(struct raft *r)
{
    if (++r->election_elapsed >= r->o.election_timeout_ticks) {
        r->election_elapsed = 0;
        r->self->active = true;
        bool heard = raft__quorum_votes(r->peers, r->peers_count, is_active) == RAFT_QUORUM_WON;
        for (uint32_t i = 0; i < r->peers_count; i++)
            r->peers[i].active = false;
        if (r->o.check_quorum && !heard) {
            PROBE(raft_leader_without_quorum);
            raft__become_follower(r, r->term, 0);
            return;
        }
        /* The new leader did not make it in time; carry on ourselves. */
        r->transfer_target = 0;
    }
    if (++r->heartbeat_elapsed >= r->o.heartbeat_ticks) {
        r->heartbeat_elapsed = 0;
        r->lease_round_due = r->o.lease_reads;
        for (uint32_t i = 0; i < r->peers_count; i++)
            r->peers[i].heartbeat_due = &r->peers[i] != r->self;
    }
}

void raft_tick(struct raft *r)
{
    ASSERT(r->restored && !r->in_ready);
    r->ticks++;
    if (r->heard_elapsed < r->o.election_timeout_ticks)
        r->heard_elapsed++;
    if (r->role == RAFT_LEADER) {
        tick_leader(r);
        return;
    }
    if (++r->election_elapsed >= r->election_timeout)
        raft__campaign(r, false);
}

void raft_campaign(struct raft *r)
{
    ASSERT(r->restored && !r->in_ready);
    if (r->role != RAFT_LEADER)
        raft__campaign(r, false);
}

void raft_set_standing(struct raft *r, bool may_stand)
{
    r->must_not_stand = !may_stand;
}

/* --- proposals and wishes --- */

int raft_propose(struct raft *r, const struct raft_entry *entries, uint32_t count)
{
    ASSERT(r->restored && !r->in_ready);
    size_t bytes = 0;
    uint32_t confs = 0, conf_at = 0;
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(entries[i].data.size == 0 || entries[i].owner != NULL);
        bytes += raft__entry_bytes(&entries[i]);
        if (entries[i].type == RAFT_ENTRY_CONF) {
            confs++;
            conf_at = i;
        }
    }
    if (count == 0)
        return 0;
    if (confs > 0) {
        int rv = confs > 1 ? TV_EBUSY : raft__check_conf(r, &entries[conf_at]);
        if (rv != 0)
            return rv;
    }
    if (r->role != RAFT_LEADER)
        return r->leader != 0 ? raft__forward(r, entries, count) : TV_EDROPPED;
    if (r->transfer_target != 0)
        return TV_EDROPPED;
    /* A batch alone larger than the limit passes when nothing else waits: it must go sometime. */
    if (r->uncommitted_bytes > 0 && r->uncommitted_bytes + bytes > r->o.uncommitted_bytes_max) {
        PROBE(raft_uncommitted_limit);
        return TV_EDROPPED;
    }
    if (confs > 0)
        r->pending_conf_index = r->log.last_index + 1 + conf_at;
    raft__append_own(r, entries, count);
    return 0;
}

int raft_read_index(struct raft *r, uint64_t context)
{
    ASSERT(r->restored && !r->in_ready);
    if (r->role == RAFT_LEADER)
        return raft__read_ask(r, r->o.id, context);
    if (r->leader == 0)
        return TV_EDROPPED;
    struct raft_msg *m = raft__send(r, RAFT_MSG_READ_INDEX, r->leader);
    if (m == NULL)
        return TV_EDROPPED;
    m->term = 0;
    m->context = context;
    return 0;
}

int raft_transfer_leader(struct raft *r, uint64_t id)
{
    ASSERT(r->restored && !r->in_ready);
    const struct raft_peer *p = raft__peer(r, id);
    if (p == NULL || !raft__is_voter(p) || id == r->leader)
        return TV_EINVAL;
    if (r->leader == 0)
        return TV_EDROPPED;
    if (r->role != RAFT_LEADER) {
        struct raft_msg *m = raft__send(r, RAFT_MSG_TRANSFER_LEADER, r->leader);
        if (m == NULL)
            return TV_EDROPPED;
        m->term = 0;
        m->context = id;
        return 0;
    }
    if (r->transfer_target == id)
        return 0;
    r->transfer_target = id;
    r->transfer_sent = false;
    r->election_elapsed = 0; /* it has one election timeout from now */
    raft__try_transfer(r);
    return 0;
}

void raft_peer_unreachable(struct raft *r, uint64_t id)
{
    ASSERT(r->restored && !r->in_ready);
    struct raft_peer *p = raft__peer(r, id);
    if (r->role == RAFT_LEADER && p != NULL && p->state == RAFT_PROGRESS_REPLICATE)
        raft__peer_probe(p, p->match_index + 1);
}

void raft_peer_connected(struct raft *r, uint64_t id)
{
    ASSERT(r->restored && !r->in_ready);
    struct raft_peer *p = raft__peer(r, id);
    if (r->role == RAFT_LEADER && p != NULL && p != r->self)
        p->heartbeat_due = true;
}

/* Two who notice at the same moment do not stand at the same moment: the one with the lower id goes
 * first, the others wait for what becomes of it. Nobody who still hears the leader votes for them.
 */
void raft_leader_lost(struct raft *r, uint64_t id)
{
    ASSERT(r->restored && !r->in_ready);
    struct raft_peer *self = raft__peer(r, r->o.id);
    if (r->role != RAFT_FOLLOWER || r->leader != id || r->o.lease_reads || self == NULL ||
        !raft__is_voter(self))
        return;
    PROBE(raft_leader_lost);
    uint32_t rank = 0;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        const struct raft_peer *p = &r->peers[i];
        rank += raft__is_voter(p) && p->id != id && p->id < r->o.id;
    }
    r->leader = 0;
    uint32_t patience = 1 + 2 * rank;
    if (r->election_elapsed + patience < r->election_timeout)
        r->election_timeout = r->election_elapsed + patience;
}

/* --- the disk --- */

void raft_persisted(struct raft *r, uint64_t seq)
{
    ASSERT(r->restored && !r->in_ready);
    ASSERT(seq <= r->write_seq);
    bool any = false;
    while (r->writes_count > 0 && r->writes[r->writes_first].seq <= seq) {
        const struct raft_write *w = &r->writes[r->writes_first];
        if (w->last_index > r->persisted_index)
            r->persisted_index = w->last_index;
        r->durable_term = w->term;
        r->durable_vote = w->vote;
        r->writes_first = (r->writes_first + 1) % RAFT_WRITES_MAX;
        r->writes_count--;
        any = true;
    }
    if (!any)
        return;
    r->self->match_index = r->persisted_index;
    if (r->role == RAFT_LEADER)
        raft__maybe_commit(r);
    if (r->durable_term == r->term && r->durable_vote == r->vote)
        raft__vote_durable(r);
}

void raft_applied(struct raft *r, uint64_t log_index)
{
    ASSERT(log_index >= r->applied);
    ASSERT(log_index <= r->given);
    r->applied = log_index;
}

void raft_entries_fetched(struct raft *r)
{
    ASSERT(r->restored && !r->in_ready);
    for (uint32_t i = 0; i < r->peers_count; i++)
        r->peers[i].fetching = false;
}

/* --- what others may ask --- */

uint64_t raft_id(const struct raft *r)
{
    return r->o.id;
}

uint64_t raft_leader(const struct raft *r)
{
    return r->leader;
}

uint64_t raft_term(const struct raft *r)
{
    return r->term;
}

uint64_t raft_commit_index(const struct raft *r)
{
    return r->commit;
}

uint64_t raft_last_index(const struct raft *r)
{
    return r->log.last_index;
}

uint64_t raft_persisted_index(const struct raft *r)
{
    return r->persisted_index;
}

enum raft_role raft_role(const struct raft *r)
{
    return r->role;
}

uint32_t raft_progress(const struct raft *r, struct raft_progress *ret, uint32_t max)
{
    uint32_t count = r->peers_count < max ? r->peers_count : max;
    for (uint32_t i = 0; i < count; i++) {
        const struct raft_peer *p = &r->peers[i];
        ret[i] = (struct raft_progress){.id = p->id,
                                        .voter = raft__is_voter(p),
                                        .learner = p->learner,
                                        .snapshot_under_way = p->snapshot_under_way,
                                        .active = p->active,
                                        .match_index = p->match_index,
                                        .next_index = p->next_index,
                                        .state = p->state};
        if (p == r->self) {
            ret[i].active = true;
            ret[i].next_index = r->log.last_index + 1;
            ret[i].state = RAFT_PROGRESS_REPLICATE;
        }
    }
    return count;
}

const char *raft_role_name(enum raft_role role)
{
    static const char *const names[] = {"follower", "pre-candidate", "candidate", "leader"};
    return (unsigned)role < sizeof(names) / sizeof(names[0]) ? names[role] : "unknown";
}

const char *raft_msg_type_name(enum raft_msg_type type)
{
    static const char *const names[] = {
        "append",      "append reply",     "heartbeat", "heartbeat reply",
        "pre-vote",    "pre-vote reply",   "vote",      "vote reply",
        "read index",  "read index reply", "propose",   "transfer leader",
        "timeout now",
    };
    _Static_assert(sizeof(names) / sizeof(names[0]) == RAFT_MSG_TYPES_COUNT, "one name per type");
    return (unsigned)type < RAFT_MSG_TYPES_COUNT ? names[type] : "unknown";
}

static void check_log(const struct raft *r)
{
    const struct raft_log *l = &r->log;
    uint64_t term = l->base_term;
    size_t bytes = 0;
    for (uint64_t i = l->base_index + 1; i <= l->last_index; i++) {
        const struct raft_entry *e = raft__log_at(l, i);
        ASSERT(e->log_index == i);
        ASSERT(e->term >= term);
        ASSERT(e->data.size == 0 || e->owner != NULL);
        term = e->term;
        bytes += raft__entry_bytes(e);
    }
    ASSERT(term == l->last_term);
    ASSERT(term <= r->term);
    ASSERT(bytes == l->bytes);
    ASSERT(l->last_index - l->base_index <= l->capacity);
}

static void check_leader(const struct raft *r)
{
    ASSERT(r->leader == r->o.id);
    ASSERT(r->vote == r->o.id);
    ASSERT(r->durable_term == r->term && r->durable_vote == r->o.id);
    ASSERT(r->transfer_target != r->o.id);
    ASSERT(r->settle_due || raft__is_voter(r->self));
    for (uint32_t i = 0; i < r->peers_count; i++) {
        const struct raft_peer *p = &r->peers[i];
        ASSERT(p->match_index <= r->log.last_index);
        ASSERT(p->next_index > p->match_index || p == r->self);
        ASSERT(p->next_index <= r->log.last_index + 1);
        ASSERT(p->round_acked <= r->round_current);
        ASSERT(p->inflight_count <= p->inflight_capacity);
        ASSERT(p->state == RAFT_PROGRESS_REPLICATE || p->inflight_count == 0);
    }
    size_t uncommitted = 0;
    for (uint64_t i = r->commit + 1; i <= r->log.last_index; i++)
        uncommitted += raft__entry_bytes(raft__log_at(&r->log, i));
    ASSERT(uncommitted == r->uncommitted_bytes);
}

static void check_members(const struct raft *r)
{
    const struct raft_membership *m = &r->membership;
    ASSERT(raft_membership_is_valid(m));
    uint32_t members = 0;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        const struct raft_peer *p = &r->peers[i];
        ASSERT(i == 0 || p->id > r->peers[i - 1].id);
        ASSERT(raft__is_voter(p) == raft_membership_is_voter(m, p->id));
        ASSERT(p->learner == raft_membership_is_learner(m, p->id));
        ASSERT((p->id == r->o.id) == (p == r->self));
        members += raft_membership_has(m, p->id);
    }
    ASSERT(members + !raft_membership_has(m, r->o.id) == r->peers_count);
}

void raft_check(const struct raft *r)
{
    ASSERT(r->restored);
    check_log(r);
    ASSERT(r->log.base_index <= r->applied);
    ASSERT(r->applied <= r->given);
    ASSERT(r->given <= r->commit);
    ASSERT(r->given <= r->written_index);
    ASSERT(r->commit <= r->log.last_index);
    ASSERT(r->persisted_index <= r->written_index);
    ASSERT(r->written_index <= r->log.last_index);
    ASSERT(r->log.base_index <= r->persisted_index);
    ASSERT(r->self->match_index == r->persisted_index);
    ASSERT(r->durable_term <= r->handed_out.term);
    ASSERT(r->handed_out.term <= r->term);
    ASSERT(r->matched_index <= r->log.last_index);
    ASSERT(r->reads_new <= r->reads_count);
    check_members(r);
    ASSERT(r->leader == 0 || r->role == RAFT_FOLLOWER || r->role == RAFT_LEADER);
    ASSERT((r->leader == r->o.id) == (r->role == RAFT_LEADER));
    if (r->role == RAFT_LEADER)
        check_leader(r);
    else
        ASSERT(r->reads_count == 0);
}
