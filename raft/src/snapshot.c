/* Snapshots: when they are asked for is in replicate.c, how they travel is the caller's.
 *
 * Of a snapshot under way raft knows only that there is one. Its end makes the leader probe again,
 * from behind the snapshot or where it was. A follower that is not there after all rejects, lands
 * in SNAPSHOT again and is asked for again; so nothing here has to be believed. */
#include "internal.h"

#include "base/assert.h"
#include "base/err.h"

/* --- leader --- */

void raft_snapshot_sent(struct raft *r, uint64_t id, uint64_t log_index)
{
    ASSERT(r->restored && !r->in_ready);
    struct raft_peer *p = raft__peer(r, id);
    if (p == NULL)
        return; /* removed meanwhile */
    p->snapshot_under_way = false;
    if (r->role != RAFT_LEADER || p->state != RAFT_PROGRESS_SNAPSHOT)
        return;
    uint64_t next = log_index < r->log.last_index ? log_index + 1 : r->log.last_index + 1;
    raft__peer_probe(p, next > p->match_index ? next : p->match_index + 1);
}

void raft_snapshot_failed(struct raft *r, uint64_t id)
{
    ASSERT(r->restored && !r->in_ready);
    struct raft_peer *p = raft__peer(r, id);
    if (p == NULL)
        return;
    p->snapshot_under_way = false;
    if (r->role != RAFT_LEADER || p->state != RAFT_PROGRESS_SNAPSHOT)
        return;
    PROBE(raft_snapshot_failed);
    raft__peer_probe(p, p->match_index + 1);
    p->probe_sent = true; /* not before it answers a heartbeat */
}

/* --- follower --- */

bool raft_snapshot_is_wanted(const struct raft *r, uint64_t log_index, uint64_t term)
{
    uint64_t term_here;
    if (log_index <= r->commit)
        return false;
    return !raft__log_term(&r->log, log_index, &term_here) || term_here != term ||
           r->membership.voters.count == 0;
}

int raft_install_snapshot(struct raft *r, uint64_t log_index, uint64_t term,
                          const struct raft_membership *membership)
{
    ASSERT(r->restored && !r->in_ready);
    if (!raft_snapshot_is_wanted(r, log_index, term))
        return TV_EEXIST;
    if (r->role == RAFT_LEADER || log_index > RAFT__NUMBER_MAX || term == 0 ||
        term > RAFT__NUMBER_MAX || membership->voters.count == 0 ||
        !raft_membership_is_valid(membership))
        return TV_EINVAL;
    ASSERT(r->applied == r->given);

    PROBE(raft_snapshot_installed);
    if (term > r->term)
        raft__become_follower(r, term, 0);
    else if (r->role != RAFT_FOLLOWER)
        raft__become_follower(r, r->term, 0);
    raft__log_reset(&r->log, log_index, term);
    raft__log_shortened(r, log_index);
    r->written_index = log_index;
    r->persisted_index = log_index;
    r->commit = log_index;
    r->given = log_index;
    r->applied = log_index;
    /* The leader learns from its next append that our log equals its own up to here. */
    r->matched_index = 0;
    r->ack_target = 0;
    r->ack_sent = 0;
    r->ack_due = false;
    r->election_elapsed = 0;
    raft__set_membership(r, membership);
    r->self->match_index = log_index;
    return 0;
}
