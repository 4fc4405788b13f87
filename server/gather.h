/* When a worker sends its watchers what was published.
 *
 * While they get few responses it is at once. While they get many, every GATHER_MS_MIN at most, and
 * less often still, up to GATHER_MS_MAX, while that is fewer than GATHER_RESPONSES at a time: then
 * a response carries several events, a write to a socket several responses, and clients wake less
 * often. One put at a time, watched by one or two, stays among the few.
 *
 * Pure; the caller has the clock. */
#ifndef SERVER_GATHER_H
#define SERVER_GATHER_H

#include <stdint.h>

enum {
    GATHER_MS_MIN = 2,
    GATHER_MS_MAX = 8,
    GATHER_RESPONSES = 64,
    GATHER_RESPONSES_PER_SECOND = 4000,
};

struct gather {
    uint64_t at_ns;    /* when it was sent last */
    uint64_t ahead_ns; /* of what goes at once: a leaky bucket, in time */
};

/* So many responses were sent: how many ms are to pass before the next are. */
uint32_t gather_after(struct gather *g, uint64_t responses, uint64_t now_ns);

#endif
