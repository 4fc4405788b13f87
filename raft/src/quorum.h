/* What a majority means. Every count of voters goes through here, so that a joint configuration
 * (two majorities at once) has one place to be added. */
#ifndef RAFT_SRC_QUORUM_H
#define RAFT_SRC_QUORUM_H

#include <stdint.h>

enum raft_quorum { RAFT_QUORUM_PENDING, RAFT_QUORUM_WON, RAFT_QUORUM_LOST };

/* The largest value that a majority of the voters have reached. `count` is 1..RAFT_VOTERS_MAX. */
uint64_t raft__quorum_reached(const uint64_t *values, uint32_t count);

/* Of `count` voters `yes` agreed and `no` refused so far. */
enum raft_quorum raft__quorum_votes(uint32_t yes, uint32_t no, uint32_t count);

#endif
