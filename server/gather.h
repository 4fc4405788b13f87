/* When a worker looks what was published, for its watchers.
 *
 * While they get few responses it is at once. While they get many, a look every GATHER_MS at most:
 * then a response carries several events, a write to a socket several responses, and clients wake
 * less often. One put at a time, watched by one or two, stays among the few.
 *
 * Pure; the caller has the clock. */
#ifndef SERVER_GATHER_H
#define SERVER_GATHER_H

#include <stdbool.h>
#include <stdint.h>

enum { GATHER_MS = 2, GATHER_RESPONSES_PER_SECOND = 4000 };

struct gather {
    uint64_t at_ns;    /* of the last look */
    uint64_t ahead_ns; /* of what goes at once: a leaky bucket, in time */
};

/* A look sent so many responses. True: the next one is to come after GATHER_MS. */
bool gather_after(struct gather *g, uint64_t responses, uint64_t now_ns);

#endif
