/* The machine's clocks. raft and the node's logic never call these: time reaches them as input. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_ns(void);
/* The CPU time of the calling thread. */
uint64_t clock_thread_ns(void);
/* Microseconds since 1970, UTC. */
int64_t clock_wall_us(void);

#endif
