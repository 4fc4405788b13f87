/* Progress of one follower, see peer.h. */
#include "peer.h"

#include "base/assert.h"
#include "base/mem.h"

void raft__peer_init(struct raft_peer *p, uint64_t id, uint32_t inflight_msgs_max)
{
    *p = (struct raft_peer){.id = id, .inflight_capacity = inflight_msgs_max};
    p->inflight = mem_alloc_zero(inflight_msgs_max * sizeof(*p->inflight));
}

void raft__peer_fini(struct raft_peer *p)
{
    mem_free(p->inflight);
}

static void inflight_clear(struct raft_peer *p)
{
    p->inflight_first = 0;
    p->inflight_count = 0;
    p->inflight_bytes = 0;
}

void raft__peer_reset(struct raft_peer *p, uint64_t next_index)
{
    *p = (struct raft_peer){.id = p->id,
                            .halves = p->halves,
                            .learner = p->learner,
                            .snapshot_under_way = p->snapshot_under_way,
                            .state = RAFT_PROGRESS_PROBE,
                            .next_index = next_index,
                            .inflight = p->inflight,
                            .inflight_capacity = p->inflight_capacity};
}

void raft__peer_probe(struct raft_peer *p, uint64_t next_index)
{
    ASSERT(next_index > p->match_index);
    p->state = RAFT_PROGRESS_PROBE;
    p->next_index = next_index;
    p->probe_sent = false;
    p->commit_sent = 0;
    inflight_clear(p);
}

void raft__peer_replicate(struct raft_peer *p)
{
    ASSERT(p->state == RAFT_PROGRESS_PROBE);
    uint64_t sent = p->probe_sent && p->probe_end > p->match_index ? p->probe_end : p->match_index;
    p->state = RAFT_PROGRESS_REPLICATE;
    p->next_index = sent + 1;
    p->probe_sent = false;
    inflight_clear(p);
}

void raft__peer_snapshot(struct raft_peer *p)
{
    p->state = RAFT_PROGRESS_SNAPSHOT;
    p->next_index = p->match_index + 1;
    p->probe_sent = false;
    inflight_clear(p);
}

bool raft__inflight_full(const struct raft_peer *p, size_t bytes_max)
{
    return p->inflight_count == p->inflight_capacity || p->inflight_bytes >= bytes_max;
}

void raft__inflight_add(struct raft_peer *p, uint64_t last_index, size_t bytes)
{
    ASSERT(p->inflight_count < p->inflight_capacity);
    uint32_t at = (p->inflight_first + p->inflight_count) % p->inflight_capacity;
    p->inflight[at] = (struct raft_inflight){.last_index = last_index, .bytes = bytes};
    p->inflight_count++;
    p->inflight_bytes += bytes;
}

void raft__inflight_free(struct raft_peer *p, uint64_t log_index)
{
    while (p->inflight_count > 0 && p->inflight[p->inflight_first].last_index <= log_index) {
        p->inflight_bytes -= p->inflight[p->inflight_first].bytes;
        p->inflight_first = (p->inflight_first + 1) % p->inflight_capacity;
        p->inflight_count--;
    }
}
