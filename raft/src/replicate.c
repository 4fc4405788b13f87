/* The log from the leader to its followers (thesis, 3.5); the followers' side is in follow.c.
 *
 * Nothing is sent at propose time. raft_ready() gives each follower what it lacks: one append
 * with everything new, pipelined up to the window, so that a batch of proposals is one message. A
 * new commit index rides on it; when there is nothing to append it goes alone, at once. Entries
 * that left memory come from the reader, a few messages at a time. */
#include "internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

/* --- leader: in --- */

void raft__append_own(struct raft *r, const struct raft_entry *entries, uint32_t count)
{
    ASSERT(r->role == RAFT_LEADER);
    for (uint32_t i = 0; i < count; i++) {
        struct raft_entry e = entries[i];
        e.term = r->term;
        e.log_index = r->log.last_index + 1;
        r->uncommitted_bytes += raft__entry_bytes(&e);
        raft__log_append(&r->log, &e, 1);
    }
}

static uint64_t match_index(const struct raft_peer *p)
{
    return p->match_index;
}

void raft__maybe_commit(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    uint64_t reached = raft__quorum_reached(r->peers, r->peers_count, match_index);
    if (reached <= r->commit)
        return;
    if (raft__log_at(&r->log, reached)->term == r->term)
        raft__commit_to(r, reached);
}

void raft__try_transfer(struct raft *r)
{
    if (r->transfer_target == 0 || r->transfer_sent)
        return;
    struct raft_peer *p = raft__peer(r, r->transfer_target);
    if (p->match_index != r->log.last_index) {
        p->nudge = true;
        return;
    }
    r->transfer_sent = raft__send(r, RAFT_MSG_TIMEOUT_NOW, p->id) != NULL;
    r->lease_off = true;
}

/* The follower has everything up to `log_index`, durably. */
static void acknowledged(struct raft *r, struct raft_peer *p, uint64_t log_index)
{
    bool advanced = log_index > p->match_index;
    if (advanced) {
        p->match_index = log_index;
        raft__inflight_free(p, log_index);
    }
    if (p->state == RAFT_PROGRESS_PROBE && log_index + 1 >= p->next_index &&
        log_index >= p->match_index)
        raft__peer_replicate(p);
    else if (p->state == RAFT_PROGRESS_SNAPSHOT && advanced)
        raft__peer_probe(p, p->match_index + 1); /* it got on by itself: is that enough? */
    if (p->next_index <= p->match_index)
        p->next_index = p->match_index + 1;
    if (advanced) {
        raft__maybe_commit(r);
        raft__try_transfer(r);
    }
}

static void rejected(struct raft *r, struct raft_peer *p, const struct raft_msg *msg)
{
    if (p->state == RAFT_PROGRESS_SNAPSHOT)
        return;
    if (msg->log_index == 0 && p->match_index == 0) {
        PROBE(raft_follower_joins);
        raft__peer_snapshot(p);
        return;
    }
    if (msg->log_index <= p->match_index)
        return; /* it has come further since */
    if (p->state == RAFT_PROGRESS_PROBE && p->next_index - 1 != msg->log_index)
        return; /* the answer to an earlier probe */

    /* The follower's newest entry that may match has log_term; skip all of ours that are newer, as
     * they cannot be there: one round trip per term instead of one per entry. What is committed
     * there is equal to ours; where we do not have the terms in memory any more we go back to it at
     * once. */
    uint64_t next = msg->reject_hint + 1;
    if (msg->reject_hint < r->log.base_index) {
        PROBE(raft_backtrack_below_memory);
        next = msg->commit + 1;
    } else if (msg->log_term != 0) {
        uint64_t term;
        next = raft__log_newest_not_above(&r->log, msg->reject_hint, msg->log_term, &term) + 1;
        if (next <= r->log.base_index)
            next = msg->commit + 1;
    }
    if (next <= msg->commit)
        next = msg->commit + 1;
    if (next > msg->log_index)
        next = msg->log_index;
    if (next <= p->match_index)
        next = p->match_index + 1;
    raft__peer_probe(p, next);
}

void raft__on_append_reply(struct raft *r, struct raft_peer *p, const struct raft_msg *msg)
{
    ASSERT(r->role == RAFT_LEADER);
    if (msg->reject)
        rejected(r, p, msg);
    else
        acknowledged(r, p, msg->log_index);
}

void raft__on_heartbeat_reply(struct raft *r, struct raft_peer *p, const struct raft_msg *msg)
{
    ASSERT(r->role == RAFT_LEADER);
    if (msg->log_index != 0)
        acknowledged(r, p, msg->log_index);
    p->probe_sent = false;
    p->fetching = false;
    if (p->state == RAFT_PROGRESS_SNAPSHOT && msg->commit >= p->next_index) {
        /* It has more than it acknowledged, before a restart perhaps; that may be enough. */
        PROBE(raft_snapshot_not_needed);
        raft__peer_probe(p, msg->commit + 1);
    }
    /* It lacks something, perhaps not on its way any more: an empty append finds out. */
    if (msg->log_index < r->log.last_index)
        p->nudge = true;
}

/* --- leader: out --- */

/* Entries [lo, hi) from the reader into this round's buffer; NULL when there are none now. */
static const struct raft_entry *fetch(struct raft *r, struct raft_peer *p, uint64_t lo, uint64_t hi,
                                      uint32_t *ret_count)
{
    if (p->fetching || r->fetched_count == RAFT__FETCHED_MAX)
        return NULL;
    if (r->fetched == NULL)
        r->fetched = mem_alloc(RAFT__FETCHED_MAX * sizeof(*r->fetched));
    struct raft_entry *to = r->fetched + r->fetched_count;
    uint32_t room = RAFT__FETCHED_MAX - r->fetched_count;
    uint32_t count = hi - lo < room ? (uint32_t)(hi - lo) : room;
    int rv = TV_ECOMPACTED_LOG;
    if (r->o.reader.read != NULL)
        rv = r->o.reader.read(r->o.reader.ctx, lo, hi, r->o.msg_bytes_max, to, &count);
    if (rv == TV_ECOMPACTED_LOG) {
        PROBE(raft_follower_needs_snapshot);
        raft__peer_snapshot(p);
        return NULL;
    }
    if (rv != 0) {
        p->fetching = true; /* raft_entries_fetched() or the next heartbeat reply tries again */
        return NULL;
    }
    ASSERT(count > 0 && count <= hi - lo && count <= room);
    for (uint32_t i = 0; i < count; i++)
        ASSERT(to[i].log_index == lo + i);
    r->fetched_count += count;
    *ret_count = count;
    return to;
}

static bool term_before(struct raft *r, struct raft_peer *p, uint64_t log_index, uint64_t *ret_term)
{
    if (raft__log_term(&r->log, log_index, ret_term))
        return true;
    if (log_index == 0) {
        *ret_term = 0;
        return true;
    }
    if (p->prev_index == log_index) {
        *ret_term = p->prev_term;
        return true;
    }
    uint32_t count;
    const struct raft_entry *e = fetch(r, p, log_index, log_index + 1, &count);
    if (e == NULL)
        return false;
    p->prev_index = log_index;
    p->prev_term = *ret_term = e->term;
    return true;
}

static const struct raft_entry *entries_for(struct raft *r, struct raft_peer *p,
                                            uint32_t *ret_count)
{
    *ret_count = 0;
    if (p->next_index > r->log.last_index)
        return NULL;
    if (p->next_index > r->log.base_index)
        return raft__log_span(&r->log, p->next_index, r->log.last_index + 1, ret_count);
    if (p->inflight_count >= RAFT__FETCH_INFLIGHT_MAX)
        return NULL;
    return fetch(r, p, p->next_index, r->log.base_index + 1, ret_count);
}

/* One append with what comes next for `p`, or an empty one; false when it cannot be made now. */
static bool send_append(struct raft *r, struct raft_peer *p, bool with_entries)
{
    uint64_t prev = p->next_index - 1;
    uint64_t prev_term;
    if (!term_before(r, p, prev, &prev_term))
        return false;
    uint32_t available = 0;
    const struct raft_entry *entries = NULL;
    if (with_entries) {
        entries = entries_for(r, p, &available);
        if (available == 0 && p->next_index <= r->log.last_index)
            return false;
    }
    uint32_t count = raft__together(entries, available, r->o.msg_bytes_max);
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += raft__entry_bytes(&entries[i]);

    struct raft_msg *m = raft__push(r, RAFT_MSG_APPEND, p->id);
    m->log_index = prev;
    m->log_term = prev_term;
    m->commit = r->commit;
    m->context = r->round_current;
    m->entries = entries;
    m->entries_count = count;
    p->round_sent = r->round_current;
    p->nudge = false;
    if (count > 0) {
        p->prev_index = entries[count - 1].log_index;
        p->prev_term = entries[count - 1].term;
    }
    p->commit_sent = r->commit < prev + count ? r->commit : prev + count;
    if (p->state == RAFT_PROGRESS_PROBE) {
        p->probe_sent = true;
        p->probe_end = prev + count;
    } else if (count > 0) {
        raft__inflight_add(p, prev + count, bytes);
        p->next_index += count;
    }
    return true;
}

static void replicate_to(struct raft *r, struct raft_peer *p)
{
    if (p->state == RAFT_PROGRESS_PROBE) {
        if (!p->probe_sent)
            (void)send_append(r, p, true); /* not ready to be read? Then later. */
        return;
    }
    bool sent = false;
    while (p->state == RAFT_PROGRESS_REPLICATE && p->next_index <= r->log.last_index &&
           !raft__inflight_full(p, r->o.inflight_bytes_max) && send_append(r, p, true))
        sent = true;
    if (sent || p->state != RAFT_PROGRESS_REPLICATE || p->fetching)
        return;
    bool commit_news = r->commit > p->commit_sent && p->commit_sent < p->next_index - 1;
    if (p->nudge || commit_news)
        (void)send_append(r, p, false); /* as above */
}

static void heartbeat_to(struct raft *r, struct raft_peer *p)
{
    if (!p->heartbeat_due && p->round_sent == r->round_current)
        return;
    p->heartbeat_due = false;
    p->round_sent = r->round_current;
    struct raft_msg *m = raft__push(r, RAFT_MSG_HEARTBEAT, p->id);
    m->commit = p->match_index < r->commit ? p->match_index : r->commit;
    m->context = r->round_current;
}

void raft__ready_replicate(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    for (uint32_t i = 0; i < r->peers_count; i++) {
        struct raft_peer *p = &r->peers[i];
        if (p == r->self)
            continue;
        replicate_to(r, p);
        heartbeat_to(r, p);
        if (p->state == RAFT_PROGRESS_SNAPSHOT && p->active && !p->snapshot_under_way) {
            p->snapshot_under_way = true;
            r->snapshot_requests[r->snapshot_requests_count++] = p->id;
        }
    }
}
