/* Majorities, see quorum.h. */
#include "quorum.h"

#include "base/assert.h"

uint64_t raft__majority_reached(const uint64_t *values, uint32_t count)
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

enum raft_quorum raft__majority_votes(uint32_t yes, uint32_t no, uint32_t count)
{
    ASSERT(yes + no <= count);
    uint32_t majority = count / 2 + 1;
    if (yes >= majority)
        return RAFT_QUORUM_WON;
    if (count - no < majority)
        return RAFT_QUORUM_LOST;
    return RAFT_QUORUM_PENDING;
}

uint64_t raft__quorum_reached(const struct raft_peer *peers, uint32_t count,
                              uint64_t (*value)(const struct raft_peer *p))
{
    uint64_t reached = UINT64_MAX;
    for (uint8_t half = RAFT_HALF_INCOMING; half <= RAFT_HALF_OUTGOING; half++) {
        uint64_t values[RAFT_VOTERS_MAX];
        uint32_t voters = 0;
        for (uint32_t i = 0; i < count; i++)
            if ((peers[i].halves & half) != 0)
                values[voters++] = value(&peers[i]);
        if (voters == 0 && half == RAFT_HALF_OUTGOING)
            break; /* not joint */
        uint64_t by_half = raft__majority_reached(values, voters);
        if (by_half < reached)
            reached = by_half;
    }
    return reached;
}

enum raft_quorum raft__quorum_votes(const struct raft_peer *peers, uint32_t count,
                                    enum raft_ballot (*ballot)(const struct raft_peer *p))
{
    enum raft_quorum result = RAFT_QUORUM_WON;
    for (uint8_t half = RAFT_HALF_INCOMING; half <= RAFT_HALF_OUTGOING; half++) {
        uint32_t voters = 0, yes = 0, no = 0;
        for (uint32_t i = 0; i < count; i++) {
            if ((peers[i].halves & half) == 0)
                continue;
            voters++;
            enum raft_ballot b = ballot(&peers[i]);
            yes += b == RAFT_BALLOT_YES;
            no += b == RAFT_BALLOT_NO;
        }
        ASSERT(voters > 0 || half == RAFT_HALF_OUTGOING);
        enum raft_quorum of_half =
            voters > 0 ? raft__majority_votes(yes, no, voters) : RAFT_QUORUM_WON;
        if (of_half == RAFT_QUORUM_LOST)
            return RAFT_QUORUM_LOST;
        if (of_half == RAFT_QUORUM_PENDING)
            result = RAFT_QUORUM_PENDING;
    }
    return result;
}
