/* Majorities, see quorum.h. */
#include "quorum.h"

#include "raft/raft.h"

#include "base/assert.h"

uint64_t raft__quorum_reached(const uint64_t *values, uint32_t count)
{
    ASSERT(count > 0 && count <= RAFT_VOTERS_MAX);
    uint64_t sorted[RAFT_VOTERS_MAX]; /* descending */
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] < values[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = values[i];
    }
    return sorted[count / 2];
}

enum raft_quorum raft__quorum_votes(uint32_t yes, uint32_t no, uint32_t count)
{
    ASSERT(yes + no <= count);
    uint32_t majority = count / 2 + 1;
    if (yes >= majority)
        return RAFT_QUORUM_WON;
    if (count - no < majority)
        return RAFT_QUORUM_LOST;
    return RAFT_QUORUM_PENDING;
}
