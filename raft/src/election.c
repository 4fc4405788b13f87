/* Elections (thesis, chapters 3.4 and 9.6): standing, voting, counting.
 *
 * A vote is a promise across crashes. The vote itself, in memory, binds this member at once; the
 * message that tells of it waits until raft_persisted() reported the term and the vote durable.
 * That holds for the candidate's vote for itself too: it counts, and its requests go out, only
 * then. */
#include "internal.h"

#include "base/assert.h"

static enum raft_ballot ballot(const struct raft_peer *p)
{
    return p->ballot;
}

static enum raft_quorum tally(const struct raft *r)
{
    return raft__quorum_votes(r->peers, r->peers_count, ballot);
}

/* Everybody who has a vote, but us. */
static bool is_elector(const struct raft *r, const struct raft_peer *p)
{
    return p != r->self && raft__is_voter(p);
}

static void become_leader(struct raft *r)
{
    ASSERT(r->role == RAFT_CANDIDATE);
    r->role = RAFT_LEADER;
    raft__reset(r);
    r->leader = r->o.id;
    for (uint64_t i = r->commit + 1; i <= r->log.last_index; i++)
        r->uncommitted_bytes += raft__entry_bytes(raft__log_at(&r->log, i));

    /* Entries of earlier terms are committed by one of ours (thesis, 3.6.2). */
    struct raft_entry empty = {.type = RAFT_ENTRY_NORMAL};
    raft__append_own(r, &empty, 1);
    /* What else is in the log may be a change of membership that nobody has applied yet. */
    r->pending_conf_index = r->log.last_index;
}

static void become_candidate(struct raft *r, bool transfer)
{
    r->role = RAFT_CANDIDATE;
    r->term++;
    r->vote = r->o.id;
    r->vote_reply_due = false;
    raft__reset(r);
    r->campaign_transfer = transfer;
    r->vote_requests_due = true;
}

/* There is no leader, and to ask for pre-votes disturbs nobody: so not a whole timeout later. */
static void ask_again_soon(struct raft *r)
{
    if (r->o.pre_vote)
        r->election_timeout =
            1 + (uint32_t)rng_below(&r->rng, 1 + r->o.election_timeout_ticks * 2 / 5);
}

static void become_pre_candidate(struct raft *r)
{
    /* Nothing that others see changes: no new term, no vote. */
    r->role = RAFT_PRE_CANDIDATE;
    raft__reset(r);
    ask_again_soon(r);
    r->self->ballot = RAFT_BALLOT_YES;
    if (tally(r) == RAFT_QUORUM_WON) {
        become_candidate(r, false);
        return;
    }
    for (uint32_t i = 0; i < r->peers_count; i++) {
        if (!is_elector(r, &r->peers[i]))
            continue;
        struct raft_msg *m = raft__send(r, RAFT_MSG_PRE_VOTE, r->peers[i].id);
        if (m == NULL)
            return;
        m->term = r->term + 1;
        m->log_index = r->log.last_index;
        m->log_term = r->log.last_term;
    }
}

void raft__campaign(struct raft *r, bool transfer)
{
    ASSERT(r->role != RAFT_LEADER);
    if (!raft__is_voter(r->self) || (!transfer && raft__lease_promised(r)))
        return;
    if (r->must_not_stand) {
        PROBE(raft_must_not_stand);
        return;
    }
    if (raft__conf_waits(r)) {
        /* The leader that had it applied may go by the next configuration already: the majority we
         * would ask then shares a member with its majority, but not with the one after. */
        PROBE(raft_campaign_before_conf);
        r->campaign_after_conf = transfer;
        return;
    }
    if (r->o.pre_vote && !transfer)
        become_pre_candidate(r);
    else
        become_candidate(r, transfer);
}

void raft__vote_durable(struct raft *r)
{
    if (r->role != RAFT_CANDIDATE)
        return;
    ASSERT(r->vote == r->o.id);
    r->self->ballot = RAFT_BALLOT_YES;
    if (tally(r) == RAFT_QUORUM_WON)
        become_leader(r);
}

/* A candidate may need the vote of a member that knows of its own removal, has a longer log and
 * does not stand for election itself. What that one knows to be committed, perhaps the removal,
 * lets the candidate go on without it. */
static void say_committed(const struct raft *r, struct raft_msg *m)
{
    m->log_index = r->commit;
    bool known = raft__log_term(&r->log, r->commit, &m->log_term);
    ASSERT(known);
}

struct raft_msg *raft__send_vote_reply(struct raft *r, bool pre, uint64_t to, bool reject)
{
    struct raft_msg *m = raft__send(r, pre ? RAFT_MSG_PRE_VOTE_REPLY : RAFT_MSG_VOTE_REPLY, to);
    if (m == NULL)
        return NULL;
    m->reject = reject;
    say_committed(r, m);
    return m;
}

/* An entry that we have is committed: then all before it are, and ours are the same. */
void raft__hear_committed(struct raft *r, const struct raft_msg *msg)
{
    uint64_t term;
    if (r->role == RAFT_LEADER || msg->log_index <= r->commit ||
        !raft__log_term(&r->log, msg->log_index, &term) || term != msg->log_term)
        return;
    PROBE(raft_commit_from_vote_reply);
    raft__commit_to(r, msg->log_index);
    if (r->role != RAFT_FOLLOWER && raft__conf_waits(r))
        raft__become_follower(r, r->term, 0); /* whom to ask is another question now */
}

void raft__ready_votes(struct raft *r)
{
    if (r->durable_term != r->term || r->durable_vote != r->vote)
        return;
    if (r->vote_requests_due) {
        ASSERT(r->role == RAFT_CANDIDATE);
        r->vote_requests_due = false;
        for (uint32_t i = 0; i < r->peers_count; i++) {
            if (!is_elector(r, &r->peers[i]))
                continue;
            struct raft_msg *m = raft__push(r, RAFT_MSG_VOTE, r->peers[i].id);
            m->log_index = r->log.last_index;
            m->log_term = r->log.last_term;
            m->transfer = r->campaign_transfer;
        }
    }
    if (r->vote_reply_due) {
        r->vote_reply_due = false;
        say_committed(r, raft__push(r, RAFT_MSG_VOTE_REPLY, r->vote));
    }
}

bool raft__leader_is_alive(const struct raft *r, const struct raft_msg *msg)
{
    if (msg->transfer || (msg->type == RAFT_MSG_VOTE && !r->o.check_quorum))
        return false;
    if (raft__lease_promised(r))
        return true;
    return r->leader != 0 && r->election_elapsed < r->o.election_timeout_ticks;
}

void raft__on_vote_request(struct raft *r, const struct raft_msg *msg)
{
    bool pre = msg->type == RAFT_MSG_PRE_VOTE;
    ASSERT(pre ? msg->term >= r->term : msg->term == r->term);
    bool free_to_vote =
        r->vote == msg->from || (r->vote == 0 && r->leader == 0) || (pre && msg->term > r->term);
    bool up_to_date = msg->log_term > r->log.last_term ||
                      (msg->log_term == r->log.last_term && msg->log_index >= r->log.last_index);

    if (!free_to_vote || !up_to_date) {
        (void)raft__send_vote_reply(r, pre, msg->from, true); /* lost? It asks again */
        return;
    }
    if (pre) {
        struct raft_msg *m = raft__send_vote_reply(r, true, msg->from, false);
        if (m != NULL)
            m->term = msg->term; /* the term it asked about, which is not ours */
        return;
    }
    r->vote = msg->from;
    r->vote_reply_due = true;
    r->election_elapsed = 0;
    r->election_timeout = raft__draw_timeout(r);
}

void raft__on_vote_reply(struct raft *r, const struct raft_msg *msg)
{
    bool pre = msg->type == RAFT_MSG_PRE_VOTE_REPLY;
    raft__hear_committed(r, msg);
    if (r->role != (pre ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE))
        return;
    if (pre && !msg->reject && msg->term != r->term + 1)
        return; /* of an earlier question */
    struct raft_peer *p = raft__peer(r, msg->from);
    if (p == NULL)
        return;
    if (p->ballot == RAFT_BALLOT_NONE)
        p->ballot = msg->reject ? RAFT_BALLOT_NO : RAFT_BALLOT_YES;

    enum raft_quorum result = tally(r);
    if (result == RAFT_QUORUM_LOST) {
        raft__become_follower(r, r->term, 0);
        ask_again_soon(r);
    } else if (result == RAFT_QUORUM_WON && pre) {
        become_candidate(r, false);
    } else if (result == RAFT_QUORUM_WON) {
        become_leader(r);
    }
}
