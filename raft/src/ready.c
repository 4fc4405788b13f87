/* Everything that goes out. The outputs are pieces of raft's own memory: messages point to entries
 * in the log's ring, which does not move before raft_ready_done(). Where the ring ends, a span ends
 * too: the rest comes with the next raft_ready(). */
#include "internal.h"

#include "base/assert.h"

struct raft_msg *raft__push(struct raft *r, enum raft_msg_type type, uint64_t to)
{
    ASSERT(to != r->o.id);
    r->msgs = raft__vector_reserve(r->msgs, &r->msgs_capacity, r->msgs_count + 1, sizeof(*r->msgs));
    struct raft_msg *m = &r->msgs[r->msgs_count++];
    *m = (struct raft_msg){.type = type, .from = r->o.id, .to = to, .term = r->term};
    return m;
}

struct raft_msg *raft__send(struct raft *r, enum raft_msg_type type, uint64_t to)
{
    if (r->msgs_count >= RAFT_OUTBOX_MAX) {
        PROBE(raft_outbox_limit);
        return NULL;
    }
    return raft__push(r, type, to);
}

uint32_t raft__together(const struct raft_entry *entries, uint32_t count, size_t bytes_max)
{
    size_t bytes = 0;
    bool large_before = true;
    for (uint32_t i = 0; i < count; i++) {
        size_t more = raft__entry_bytes(&entries[i]);
        bool large = more >= RAFT__LARGE_BYTES_MIN;
        if (i > 0 && (bytes + more > bytes_max || (large && !large_before)))
            return i;
        bytes += more;
        large_before = large;
    }
    return count;
}

static void ready_write(struct raft *r, struct raft_ready *ret)
{
    if (r->writes_count == RAFT_WRITES_MAX)
        return;
    uint32_t count = 0;
    const struct raft_entry *entries = NULL;
    if (r->written_index < r->log.last_index)
        entries = raft__log_span(&r->log, r->written_index + 1, r->log.last_index + 1, &count);
    count = raft__together(entries, count, SIZE_MAX);
    bool vote_news = r->term != r->handed_out.term || r->vote != r->handed_out.vote;
    if (count == 0 && !vote_news)
        return;

    r->written_index += count;
    /* The hard state never speaks of entries that the log does not have by then. */
    uint64_t commit = r->commit < r->written_index ? r->commit : r->written_index;
    struct raft_hard_state hs = {.term = r->term, .vote = r->vote, .commit = commit};
    ret->persist_seq = ++r->write_seq;
    ret->entries = entries;
    ret->entries_count = count;
    ret->hard_state = hs;
    ret->hard_state_changed = vote_news || hs.commit != r->handed_out.commit;
    r->handed_out = hs;

    uint32_t at = (r->writes_first + r->writes_count) % RAFT_WRITES_MAX;
    r->writes[at] = (struct raft_write){
        .seq = r->write_seq, .last_index = r->written_index, .term = r->term, .vote = r->vote};
    r->writes_count++;
}

static void ready_committed(struct raft *r, struct raft_ready *ret)
{
    /* Never ahead of the writes: what the disk has at an index that is given out is then either
     * this entry or about to be replaced by it. */
    uint64_t end = r->commit < r->written_index ? r->commit : r->written_index;
    if (r->given == end)
        return;
    ret->committed = raft__log_span(&r->log, r->given + 1, end + 1, &ret->committed_count);
    if (ret->committed_count > RAFT_COMMITTED_MAX)
        ret->committed_count = RAFT_COMMITTED_MAX;
    r->given += ret->committed_count;
}

bool raft_ready(struct raft *r, struct raft_ready *ret)
{
    ASSERT(r->restored && !r->in_ready);
    *ret = (struct raft_ready){.hard_state = r->handed_out};
    raft__ready_votes(r);
    if (r->role == RAFT_LEADER) {
        raft__leave_joint(r);
        raft__read_start_round(r);
        raft__read_confirm(r);
        raft__ready_replicate(r);
    } else if (r->role == RAFT_FOLLOWER) {
        raft__ready_replies(r);
    }
    raft__ready_forward(r);
    ready_write(r, ret);
    ready_committed(r, ret);
    ret->msgs = r->msgs;
    ret->msgs_count = r->msgs_count;
    ret->reads = r->reads_done;
    ret->reads_count = r->reads_done_count;
    ret->snapshot_requests = r->snapshot_requests;
    ret->snapshot_requests_count = r->snapshot_requests_count;
    r->in_ready = true;
    bool any = ret->msgs_count > 0 || ret->persist_seq != 0 || ret->committed_count > 0 ||
               ret->reads_count > 0 || ret->snapshot_requests_count > 0;
    if (!any)
        raft_ready_done(r);
    return any;
}

/* What is applied, durable here and beyond the window is left to the reader. The window is small
 * for what every follower has: hardly anybody asks for it again, and the memory that new entries
 * come into is then still in the CPU's caches. */
static void trim_log(struct raft *r)
{
    uint64_t trim_max = r->applied < r->persisted_index ? r->applied : r->persisted_index;
    uint64_t everywhere = trim_max;
    for (uint32_t i = 0; r->role == RAFT_LEADER && i < r->peers_count; i++)
        if (r->peers[i].match_index < everywhere)
            everywhere = r->peers[i].match_index;
    size_t window = r->o.log_window_bytes, tail = r->o.log_tail_bytes;
    if (everywhere > r->log.base_index)
        raft__log_trim(&r->log, everywhere, tail < window ? tail : window);
    raft__log_trim(&r->log, trim_max, window);
}

void raft_ready_done(struct raft *r)
{
    ASSERT(r->in_ready);
    r->in_ready = false;
    r->msgs_count = 0;
    r->reads_done_count = 0;
    r->snapshot_requests_count = 0;
    for (uint32_t i = 0; i < r->forward_count; i++)
        bref_unref(r->forward[i].owner);
    r->forward_count = 0;
    r->forward_bytes = 0;
    for (uint32_t i = 0; i < r->fetched_count; i++)
        bref_unref(r->fetched[i].owner);
    r->fetched_count = 0;

    trim_log(r);
    if (r->settle_due)
        raft__settle(r);
    if (r->campaign_after_conf && !raft__conf_waits(r)) {
        r->campaign_after_conf = false;
        raft__campaign(r, true);
    }
}
