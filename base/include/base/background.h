/* The manners of threads that nobody waits for: collecting garbage, writing a snapshot. A low
 * priority is not enough: it counts within one process (or session, or control group), and several
 * members, or other services, may share the CPUs.
 *
 * In the main thread, as in a simulator, none of this does anything. */
#ifndef BASE_BACKGROUND_H
#define BASE_BACKGROUND_H

#include "base/metric.h"

/* Lower the calling thread's priority to `niceness` (1..19), if it is not as low yet. */
void background_thread(int niceness);

/* To be called often: it reads the clock, and each 2 ms what the thread has waited for a CPU since.
 * That says how much others want them: it sleeps four times as long, at most 20 ms. So it takes all
 * of an idle CPU, and a small part of a busy one, but always some. Where the kernel does not say
 * (no schedstat) it does nothing. How long it slept, in nanoseconds, is added to `paused_ns`, which
 * any threads may share; NULL: nobody asks. */
void background_give_way(struct metric_counter *paused_ns);

#endif
