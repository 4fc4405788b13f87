/* What a majority means. Every count of voters goes through here: in a joint configuration there
 * are two majorities at once, and both are needed. */
#ifndef RAFT_SRC_QUORUM_H
#define RAFT_SRC_QUORUM_H

#include "peer.h"

#include <stdint.h>

enum raft_quorum { RAFT_QUORUM_PENDING, RAFT_QUORUM_WON, RAFT_QUORUM_LOST };

/* The largest value that a majority of the voters have reached. `count` is 1..RAFT_VOTERS_MAX. */
uint64_t raft__majority_reached(const uint64_t *values, uint32_t count);

/* Of `count` voters `yes` agreed and `no` refused so far. */
enum raft_quorum raft__majority_votes(uint32_t yes, uint32_t no, uint32_t count);

/* The same for the voters among the peers, of whom there must be one. */
uint64_t raft__quorum_reached(const struct raft_peer *peers, uint32_t count,
                              uint64_t (*value)(const struct raft_peer *p));
enum raft_quorum raft__quorum_votes(const struct raft_peer *peers, uint32_t count,
                                    enum raft_ballot (*ballot)(const struct raft_peer *p));

#endif
