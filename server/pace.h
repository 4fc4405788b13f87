/* How many proposals may be under way at once so that none takes much longer than one does alone:
 * what is more waits on the log, in front of everybody, and not where it can be chosen. By what
 * they take, as TCP Vegas sizes its window by round trips: the count falls by an eighth while they
 * take more than half as long again as with few under way, and grows by one while they do not.
 *
 * Pure; the caller has the clock. */
#ifndef SERVER_PACE_H
#define SERVER_PACE_H

#include <stdint.h>

enum { PACE_COUNT_MIN = 8, PACE_COUNT_MAX = 128 };

struct pace {
    uint32_t count;
    uint64_t took_ns;     /* lately; 0: nothing is known */
    uint64_t alone_ns[2]; /* the least with PACE_COUNT_MIN or less under way: in this period, and in
                           * the one before; 0: none */
    uint64_t period_ends_ns;
};

void pace_init(struct pace *p);
/* One of `under_way` was through after `took_ns`. To be told of one at a time, also while the count
 * is not asked for. */
void pace_took(struct pace *p, uint64_t took_ns, uint32_t under_way, uint64_t now_ns);

#endif
