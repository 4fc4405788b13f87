/* The follower: entries from the leader, acknowledgements and forwarded proposals to it.
 *
 * A follower notes how far its log equals the leader's (matched_index), and raft_ready()
 * acknowledges what of that is durable. An acknowledgement is cumulative: one answers any number of
 * appends, and every heartbeat reply repeats it, so that a lost one does not matter. */
#include "internal.h"

#include "base/assert.h"
#include "base/err.h"

void raft__log_shortened(struct raft *r, uint64_t last)
{
    for (uint32_t i = 0; i < r->writes_count; i++) {
        struct raft_write *w = &r->writes[(r->writes_first + i) % RAFT_WRITES_MAX];
        if (w->last_index > last)
            w->last_index = last;
    }
    if (r->written_index > last)
        r->written_index = last;
    if (r->persisted_index > last)
        r->persisted_index = last;
    r->self->match_index = r->persisted_index;
}

static void truncate_log(struct raft *r, uint64_t from)
{
    ASSERT(from > r->commit);
    PROBE(raft_log_truncated);
    raft__log_truncate(&r->log, from);
    raft__log_shortened(r, from - 1);
}

static void reject_append(struct raft *r, const struct raft_msg *msg)
{
    uint64_t term;
    uint64_t hint = raft__log_newest_not_above(&r->log, msg->log_index, msg->log_term, &term);
    if (hint < r->commit) { /* what is committed is equal everywhere */
        hint = r->commit;
        bool known = raft__log_term(&r->log, hint, &term);
        ASSERT(known);
    }
    struct raft_msg *m = raft__send(r, RAFT_MSG_APPEND_REPLY, msg->from);
    if (m == NULL)
        return;
    m->reject = true;
    m->log_index = msg->log_index;
    m->reject_hint = hint;
    m->log_term = term;
    m->commit = r->commit;
    m->context = r->round_seen;
    r->round_echoed = r->round_seen;
}

static void matched(struct raft *r, uint64_t log_index, bool answer)
{
    if (log_index > r->matched_index)
        r->matched_index = log_index;
    if (!answer)
        return;
    r->ack_due = true;
    if (log_index > r->ack_target)
        r->ack_target = log_index;
}

int raft__on_append(struct raft *r, const struct raft_msg *msg)
{
    ASSERT(r->role == RAFT_FOLLOWER && r->leader == msg->from);
    if (msg->context > r->round_seen)
        r->round_seen = msg->context;
    if (msg->log_index < r->commit) {
        matched(r, r->commit, true);
        return 0;
    }
    /* Who joins does not know the members that the log began with. No other reject speaks of index
     * 0: the leader understands that it takes a snapshot. */
    bool joins = r->membership.voters.count == 0;
    uint64_t term;
    if (joins || !raft__log_term(&r->log, msg->log_index, &term) || term != msg->log_term) {
        reject_append(r, msg);
        return 0;
    }

    uint32_t known = 0; /* entries that we have already */
    while (known < msg->entries_count) {
        const struct raft_entry *e = &msg->entries[known];
        if (!raft__log_term(&r->log, e->log_index, &term) || term != e->term)
            break;
        known++;
    }
    if (known < msg->entries_count) {
        const struct raft_entry *e = &msg->entries[known];
        if (e->log_index <= r->matched_index) {
            PROBE(raft_leader_contradicts_itself);
            return TV_EINVAL;
        }
        if (e->log_index <= r->log.last_index)
            truncate_log(r, e->log_index);
        raft__log_append(&r->log, e, msg->entries_count - known);
    }
    uint64_t last = msg->log_index + msg->entries_count;
    /* The leader tells of a new commit index without expecting word of it. */
    matched(r, last, msg->entries_count > 0 || last > r->ack_sent);
    raft__commit_to(r, msg->commit < last ? msg->commit : last);
    return 0;
}

void raft__on_heartbeat(struct raft *r, const struct raft_msg *msg)
{
    ASSERT(r->role == RAFT_FOLLOWER && r->leader == msg->from);
    if (msg->context > r->round_seen)
        r->round_seen = msg->context;
    r->heartbeat_reply_due = true;
    /* A member that was restarted does not know yet that its log is the leader's. */
    raft__commit_to(r, msg->commit < r->matched_index ? msg->commit : r->matched_index);
}

/* What may be acknowledged: equal to the leader's log, durable, in a term that is durable. */
static uint64_t durable_match(const struct raft *r)
{
    if (r->durable_term != r->term)
        return 0;
    return r->matched_index < r->persisted_index ? r->matched_index : r->persisted_index;
}

void raft__ready_replies(struct raft *r)
{
    ASSERT(r->role == RAFT_FOLLOWER);
    if (r->leader == 0)
        return;
    uint64_t durable = durable_match(r);
    bool ack = durable > r->ack_sent ||
               (r->ack_due && durable >= r->ack_target && r->durable_term == r->term);
    if (ack) {
        struct raft_msg *m = raft__push(r, RAFT_MSG_APPEND_REPLY, r->leader);
        m->log_index = durable;
        m->context = r->round_seen;
        r->ack_sent = durable;
        r->ack_due = durable < r->ack_target;
        r->round_echoed = r->round_seen;
    }
    /* A read round does not wait for our disk: that the leader still leads is true already. */
    if (r->heartbeat_reply_due || r->round_echoed < r->round_seen) {
        struct raft_msg *m = raft__push(r, RAFT_MSG_HEARTBEAT_REPLY, r->leader);
        m->log_index = durable;
        m->commit = r->commit;
        m->context = r->round_seen;
        r->heartbeat_reply_due = false;
        r->round_echoed = r->round_seen;
    }
}

int raft__forward(struct raft *r, const struct raft_entry *entries, uint32_t count)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += raft__entry_bytes(&entries[i]);
    if (count > RAFT_FORWARD_MAX - r->forward_count ||
        (r->forward_count > 0 && r->forward_bytes + bytes > r->o.inflight_bytes_max)) {
        PROBE(raft_forward_limit);
        return TV_EDROPPED;
    }
    r->forward = raft__vector_reserve(r->forward, &r->forward_capacity, r->forward_count + count,
                                      sizeof(*r->forward));
    for (uint32_t i = 0; i < count; i++) {
        struct raft_entry *e = &r->forward[r->forward_count++];
        *e = entries[i];
        e->term = 0;
        e->log_index = 0;
        if (e->owner != NULL)
            bref_ref(e->owner);
    }
    r->forward_bytes += bytes;
    return 0;
}

void raft__ready_forward(struct raft *r)
{
    if (r->leader == 0 || r->role == RAFT_LEADER)
        return; /* dropped: their proposers wait in vain and give up, as for a lost message */
    uint32_t done = 0;
    while (done < r->forward_count) {
        uint32_t count = 0;
        size_t bytes = 0;
        while (done + count < r->forward_count) {
            size_t more = raft__entry_bytes(&r->forward[done + count]);
            if (count > 0 && bytes + more > r->o.msg_bytes_max)
                break;
            bytes += more;
            count++;
        }
        struct raft_msg *m = raft__push(r, RAFT_MSG_PROPOSE, r->leader);
        m->term = 0;
        m->entries = &r->forward[done];
        m->entries_count = count;
        done += count;
    }
}
