/* A message comes in: is it one that a correct member can have sent, of which term is it, who
 * handles it.
 *
 * Messages are checked before anything changes, so that a peer that is broken or lies can at worst
 * confuse the contents of the log it leads, and never ends this process. */
#include "internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

static bool has_term(enum raft_msg_type type)
{
    return type != RAFT_MSG_PROPOSE && type != RAFT_MSG_READ_INDEX &&
           type != RAFT_MSG_TRANSFER_LEADER;
}

static bool entry_is_valid(const struct raft_entry *e)
{
    return (unsigned)e->type <= RAFT_ENTRY_PIECE_LAST && (e->data.size == 0 || e->owner != NULL);
}

static bool append_is_valid(const struct raft_msg *msg)
{
    if ((msg->log_index == 0) != (msg->log_term == 0) || msg->log_term > msg->term)
        return false;
    uint64_t term = msg->log_term == 0 ? 1 : msg->log_term;
    for (uint32_t i = 0; i < msg->entries_count; i++) {
        const struct raft_entry *e = &msg->entries[i];
        if (e->log_index != msg->log_index + 1 + i || e->term < term || e->term > msg->term ||
            !entry_is_valid(e))
            return false;
        term = e->term;
    }
    return true;
}

static bool propose_is_valid(const struct raft_msg *msg)
{
    for (uint32_t i = 0; i < msg->entries_count; i++)
        if (!entry_is_valid(&msg->entries[i]) || msg->entries[i].type > RAFT_ENTRY_CONF)
            return false;
    return msg->entries_count > 0;
}

static bool is_valid(const struct raft *r, const struct raft_msg *msg)
{
    if ((unsigned)msg->type >= RAFT_MSG_TYPES_COUNT)
        return false;
    if (msg->to != r->o.id || msg->from == r->o.id || msg->from == 0)
        return false;
    if (has_term(msg->type) != (msg->term != 0))
        return false;
    if (msg->term > RAFT__NUMBER_MAX || msg->log_index > RAFT__NUMBER_MAX ||
        msg->log_term > RAFT__NUMBER_MAX || msg->reject_hint > RAFT__NUMBER_MAX)
        return false;
    if (msg->entries_count > 0 && msg->entries == NULL)
        return false;
    switch (msg->type) {
    case RAFT_MSG_APPEND:
        return append_is_valid(msg);
    case RAFT_MSG_PROPOSE:
        return propose_is_valid(msg);
    case RAFT_MSG_READ_INDEX_REPLY:
        return msg->reject || msg->log_index != 0;
    default:
        return true;
    }
}

/* Answers to a leader that speak of what it never sent. */
static bool reply_is_valid(const struct raft *r, const struct raft_msg *msg)
{
    if (r->role != RAFT_LEADER || msg->term != r->term)
        return true; /* will not be looked at */
    return msg->context <= r->round_current && msg->log_index <= r->log.last_index &&
           msg->commit <= r->log.last_index;
}

/* The sender is of an earlier term: tell it, where that matters, and drop the message. */
static void step_old_term(struct raft *r, const struct raft_msg *msg)
{
    bool from_leader = msg->type == RAFT_MSG_APPEND || msg->type == RAFT_MSG_HEARTBEAT;
    if (from_leader && (r->o.check_quorum || r->o.pre_vote)) {
        /* We were cut off and moved to a higher term that the others never saw. As they ignore our
         * votes while their leader lives, only this brings us together again. */
        PROBE(raft_leader_of_old_term);
        (void)raft__send(r, RAFT_MSG_APPEND_REPLY, msg->from);
    } else if (msg->type == RAFT_MSG_PRE_VOTE_REPLY || msg->type == RAFT_MSG_VOTE_REPLY) {
        raft__hear_committed(r, msg);
    } else if (msg->type == RAFT_MSG_PRE_VOTE) {
        (void)raft__send_vote_reply(r, true, msg->from, true);
    }
}

static int step_from_leader(struct raft *r, const struct raft_msg *msg)
{
    if (r->role == RAFT_LEADER || (r->leader != 0 && r->leader != msg->from)) {
        PROBE(raft_two_leaders);
        return TV_EINVAL;
    }
    if (r->role != RAFT_FOLLOWER || r->leader == 0)
        raft__become_follower(r, r->term, msg->from);
    r->election_elapsed = 0;
    r->heard_elapsed = 0;
    if (msg->type == RAFT_MSG_APPEND)
        return raft__on_append(r, msg);
    raft__on_heartbeat(r, msg);
    return 0;
}

static void step_reply(struct raft *r, const struct raft_msg *msg)
{
    if (r->role != RAFT_LEADER)
        return;
    struct raft_peer *p = raft__peer(r, msg->from);
    if (p == NULL) {
        PROBE(raft_reply_of_removed_member);
        return;
    }
    p->active = true;
    if (msg->type == RAFT_MSG_APPEND_REPLY)
        raft__on_append_reply(r, p, msg);
    else
        raft__on_heartbeat_reply(r, p, msg);
    if (msg->context > p->round_acked) {
        p->round_acked = msg->context;
        raft__read_confirm(r);
    }
}

static int step_read_index(struct raft *r, const struct raft_msg *msg)
{
    if (r->role == RAFT_LEADER)
        return raft__read_ask(r, msg->from, msg->context);
    if (r->term == 0)
        return TV_EDROPPED; /* there was never an election; nothing to answer with */
    struct raft_msg *m = raft__send(r, RAFT_MSG_READ_INDEX_REPLY, msg->from);
    if (m != NULL) {
        m->context = msg->context;
        m->reject = true;
    }
    return 0;
}

/* A change of membership that cannot be made now must not take with it what others proposed: what
 * is said of the message is said of those, all or none of which are taken. The change itself is
 * then lost, as on the way. */
static int propose_apart(struct raft *r, const struct raft_msg *msg)
{
    struct raft_entry *others = mem_alloc(msg->entries_count * sizeof(*others));
    uint32_t count = 0;
    for (uint32_t i = 0; i < msg->entries_count; i++)
        if (msg->entries[i].type != RAFT_ENTRY_CONF)
            others[count++] = msg->entries[i];
    int rv = count > 0 ? raft_propose(r, others, count) : 0;
    mem_free(others);
    for (uint32_t i = 0; i < msg->entries_count; i++)
        if (msg->entries[i].type == RAFT_ENTRY_CONF && raft_propose(r, &msg->entries[i], 1) != 0 &&
            count == 0)
            rv = TV_EDROPPED;
    return rv;
}

static int step_propose(struct raft *r, const struct raft_msg *msg)
{
    if (r->role != RAFT_LEADER && r->leader == msg->from)
        return TV_EDROPPED; /* each of us believes that the other leads */
    bool any_conf = false;
    for (uint32_t i = 0; i < msg->entries_count; i++)
        any_conf = any_conf || msg->entries[i].type == RAFT_ENTRY_CONF;
    return any_conf ? propose_apart(r, msg) : raft_propose(r, msg->entries, msg->entries_count);
}

static int step_without_term(struct raft *r, const struct raft_msg *msg)
{
    if (raft__peer(r, msg->from) == NULL) {
        PROBE(raft_wish_of_removed_member);
        return TV_EDROPPED;
    }
    switch (msg->type) {
    case RAFT_MSG_PROPOSE:
        return step_propose(r, msg);
    case RAFT_MSG_READ_INDEX:
        return step_read_index(r, msg);
    default:
        ASSERT(msg->type == RAFT_MSG_TRANSFER_LEADER);
        return r->role == RAFT_LEADER ? raft_transfer_leader(r, msg->context) : TV_EDROPPED;
    }
}

static int step_same_term(struct raft *r, const struct raft_msg *msg)
{
    switch (msg->type) {
    case RAFT_MSG_APPEND:
    case RAFT_MSG_HEARTBEAT:
        return step_from_leader(r, msg);
    case RAFT_MSG_APPEND_REPLY:
    case RAFT_MSG_HEARTBEAT_REPLY:
        step_reply(r, msg);
        return 0;
    case RAFT_MSG_VOTE:
        raft__on_vote_request(r, msg);
        return 0;
    case RAFT_MSG_PRE_VOTE_REPLY:
    case RAFT_MSG_VOTE_REPLY:
        raft__on_vote_reply(r, msg);
        return 0;
    case RAFT_MSG_READ_INDEX_REPLY:
        if (r->role == RAFT_FOLLOWER)
            raft__read_done(r, msg->context, msg->reject ? 0 : msg->log_index);
        return 0;
    case RAFT_MSG_TIMEOUT_NOW:
        if (r->role == RAFT_FOLLOWER && r->leader == msg->from)
            raft__campaign(r, true);
        return 0;
    default:
        ASSERT(false);
        return TV_EINVAL;
    }
}

int raft_step(struct raft *r, const struct raft_msg *msg)
{
    ASSERT(r->restored && !r->in_ready);
    if (!is_valid(r, msg)) {
        PROBE(raft_msg_invalid);
        return TV_EINVAL;
    }
    if (!has_term(msg->type))
        return step_without_term(r, msg);
    bool is_reply = msg->type == RAFT_MSG_APPEND_REPLY || msg->type == RAFT_MSG_HEARTBEAT_REPLY;
    if (is_reply && !reply_is_valid(r, msg))
        return TV_EINVAL;
    if (msg->term < r->term) {
        step_old_term(r, msg);
        return 0;
    }

    bool is_request = msg->type == RAFT_MSG_VOTE || msg->type == RAFT_MSG_PRE_VOTE;
    /* A lease is a promise to a leader of any term, also when we have moved to this one since. */
    if (is_request && (msg->term > r->term || r->o.lease_reads) && raft__leader_is_alive(r, msg))
        return 0;
    if (msg->type == RAFT_MSG_PRE_VOTE) {
        raft__on_vote_request(r, msg);
        return 0;
    }
    if (msg->type == RAFT_MSG_PRE_VOTE_REPLY && !msg->reject) {
        raft__on_vote_reply(r, msg);
        return 0;
    }
    if (msg->term > r->term) {
        bool from_leader = msg->type == RAFT_MSG_APPEND || msg->type == RAFT_MSG_HEARTBEAT;
        raft__become_follower(r, msg->term, from_leader ? msg->from : 0);
    }
    return step_same_term(r, msg);
}
