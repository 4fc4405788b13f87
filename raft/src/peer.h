/* What the leader knows of one member, itself included, and the window of appends under way to it.
 *
 *   PROBE      one append, then wait for its answer or a heartbeat's; rejects lower next_index
 *   REPLICATE  next_index runs ahead of match_index, as far as the window lets it
 *   SNAPSHOT   the entry after match_index is no longer kept anywhere here
 *
 * Moves: raft__peer_probe() on a reject, a lost connection, a new term and the end of a snapshot;
 * raft__peer_replicate() when the follower acknowledged the entry before next_index; SNAPSHOT when
 * the reader says so, or a follower that joins. */
#ifndef RAFT_SRC_PEER_H
#define RAFT_SRC_PEER_H

#include "raft/raft.h"

struct raft_inflight {
    uint64_t last_index;
    size_t bytes;
};

enum raft_ballot { RAFT_BALLOT_NONE, RAFT_BALLOT_YES, RAFT_BALLOT_NO };

/* The halves of a configuration that a voter votes in; without a joint one, incoming is all. */
enum { RAFT_HALF_INCOMING = 1, RAFT_HALF_OUTGOING = 2 };

struct raft_peer {
    uint64_t id;
    uint8_t halves; /* 0 = no voter */
    bool learner;
    /* The caller was asked for a snapshot and has not told its end. Outlives terms and roles, as
     * the caller's stream does. */
    bool snapshot_under_way;
    enum raft_ballot ballot; /* of the election under way */

    /* At the leader. */
    enum raft_progress_state state;
    uint64_t match_index; /* of this member itself: what is durable here */
    uint64_t next_index;
    uint64_t probe_end;   /* PROBE: last index of the probe that was sent */
    uint64_t commit_sent; /* the follower learns of this commit index if nothing is lost */
    uint64_t prev_index;  /* an entry that may have left memory, and its term */
    uint64_t prev_term;
    uint64_t round_sent; /* read rounds, see read.c */
    uint64_t round_acked;
    bool active;
    bool probe_sent; /* PROBE: wait */
    bool nudge;      /* send an append even without entries: something may have been lost */
    bool heartbeat_due;
    bool fetching; /* the reader was asked, or failed; wait */

    /* Appends that are not acknowledged, oldest at `first`. */
    struct raft_inflight *inflight;
    uint32_t inflight_capacity;
    uint32_t inflight_first;
    uint32_t inflight_count;
    size_t inflight_bytes;
};

void raft__peer_init(struct raft_peer *p, uint64_t id, uint32_t inflight_msgs_max);
void raft__peer_fini(struct raft_peer *p);
/* Forget everything: a new term begins, our log ends before `next_index`. */
void raft__peer_reset(struct raft_peer *p, uint64_t next_index);

void raft__peer_probe(struct raft_peer *p, uint64_t next_index);
void raft__peer_replicate(struct raft_peer *p);
void raft__peer_snapshot(struct raft_peer *p);

bool raft__inflight_full(const struct raft_peer *p, size_t bytes_max);
void raft__inflight_add(struct raft_peer *p, uint64_t last_index, size_t bytes);
/* Everything up to `log_index` arrived. */
void raft__inflight_free(struct raft_peer *p, uint64_t log_index);

#endif
