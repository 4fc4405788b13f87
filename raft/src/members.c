/* The membership at this member: who is replicated to, who counts, and what a change of it means
 * for a leader. What changes are possible is in conf.c.
 *
 * A change is applied while the caller carries out a raft_ready(), so nothing may be sent at that
 * moment: raft__settle() follows in raft_ready_done(). */
#include "internal.h"

#include "base/assert.h"
#include "base/err.h"

struct raft_peer *raft__peer(struct raft *r, uint64_t id)
{
    for (uint32_t i = 0; i < r->peers_count; i++)
        if (r->peers[i].id == id)
            return &r->peers[i];
    return NULL;
}

static void add_peer(struct raft *r, uint64_t id)
{
    if (raft__peer(r, id) != NULL)
        return;
    ASSERT(r->peers_count < RAFT_PEERS_MAX);
    uint32_t at = r->peers_count++;
    for (; at > 0 && r->peers[at - 1].id > id; at--)
        r->peers[at] = r->peers[at - 1];
    struct raft_peer *p = &r->peers[at];
    raft__peer_init(p, id, r->o.inflight_msgs_max);
    raft__peer_reset(p, r->log.last_index + 1);
    p->active = true; /* until the next quorum check it has had no time to answer */
}

static void add_peers(struct raft *r, const struct raft_ids *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        add_peer(r, set->ids[i]);
}

void raft__set_membership(struct raft *r, const struct raft_membership *m)
{
    r->membership = *m;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        struct raft_peer *p = &r->peers[i];
        if (p->id == r->o.id || raft_membership_has(m, p->id))
            r->peers[kept++] = *p;
        else
            raft__peer_fini(p);
    }
    r->peers_count = kept;
    add_peer(r, r->o.id);
    add_peers(r, &m->voters);
    add_peers(r, &m->voters_outgoing);
    add_peers(r, &m->learners);
    for (uint32_t i = 0; i < r->peers_count; i++) {
        struct raft_peer *p = &r->peers[i];
        bool in = raft_ids_has(&m->voters, p->id), out = raft_ids_has(&m->voters_outgoing, p->id);
        p->halves = (uint8_t)((in ? RAFT_HALF_INCOMING : 0) | (out ? RAFT_HALF_OUTGOING : 0));
        p->learner = raft_ids_has(&m->learners, p->id);
    }
    r->self = raft__peer(r, r->o.id);
    r->lease_known = false;
}

/* --- proposing --- */

int raft__check_conf(const struct raft *r, const struct raft_entry *e)
{
    struct raft_conf_change change;
    if (raft_conf_change_decode(e->data, &change) != 0)
        return TV_EINVAL;
    if (r->role != RAFT_LEADER)
        return 0; /* the leader will see */
    if (r->pending_conf_index > r->applied) {
        PROBE(raft_conf_pending);
        return TV_EBUSY;
    }
    bool leaves = change.transition == RAFT_CONF_AUTO && change.changes_count == 0;
    if (raft_membership_is_joint(&r->membership) && !leaves)
        return TV_EBUSY;
    struct raft_membership after = r->membership;
    return raft_membership_change(&after, &change);
}

void raft__leave_joint(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    if (!r->membership.auto_leave || r->pending_conf_index > r->applied || r->transfer_target != 0)
        return;
    struct raft_conf_change leave = {.transition = RAFT_CONF_AUTO};
    struct buf b;
    buf_init(&b, 16);
    int rv = raft_conf_change_encode(&leave, &b);
    ASSERT(rv == 0);
    struct raft_entry e = {.type = RAFT_ENTRY_CONF, .owner = bref_new(b.size)};
    memcpy(e.owner->data, b.data, b.size);
    e.data = slice_of(e.owner->data, b.size);
    buf_fini(&b);
    PROBE(raft_leave_joint);
    r->pending_conf_index = r->log.last_index + 1;
    raft__append_own(r, &e, 1);
    bref_unref(e.owner);
}

/* --- applying --- */

bool raft__conf_waits(const struct raft *r)
{
    for (uint64_t i = r->applied + 1; i <= r->commit; i++)
        if (raft__log_at(&r->log, i)->type == RAFT_ENTRY_CONF)
            return true;
    return false;
}

/* The best follower need not wait for its timeout. */
static void hand_over(struct raft *r)
{
    const struct raft_peer *best = NULL;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        const struct raft_peer *p = &r->peers[i];
        if (p != r->self && raft__is_voter(p) && p->active &&
            (best == NULL || p->match_index > best->match_index))
            best = p;
    }
    if (best != NULL)
        (void)raft__send(r, RAFT_MSG_TIMEOUT_NOW, best->id); /* else it times out */
}

void raft__settle(struct raft *r)
{
    ASSERT(!r->in_ready);
    r->settle_due = false;
    if (r->role != RAFT_LEADER)
        return;
    if (!raft__is_voter(r->self)) {
        PROBE(raft_leader_removed);
        hand_over(r);
        raft__become_follower(r, r->term, 0);
        return;
    }
    if (r->transfer_target != 0) {
        const struct raft_peer *p = raft__peer(r, r->transfer_target);
        if (p == NULL || !raft__is_voter(p)) {
            PROBE(raft_transfer_target_removed);
            r->transfer_target = 0;
        }
    }
    raft__maybe_commit(r); /* fewer may be enough now */
}

int raft_apply_conf(struct raft *r, const struct raft_conf_change *change)
{
    ASSERT(r->restored);
    struct raft_membership after = r->membership;
    int rv = raft_membership_change(&after, change);
    if (rv != 0)
        return rv;
    raft__set_membership(r, &after);
    r->settle_due = true;
    if (!r->in_ready)
        raft__settle(r);
    return 0;
}

const struct raft_membership *raft_membership(const struct raft *r)
{
    return &r->membership;
}
