/* Main's side of a run: the memory that all workers share, the processes and threads they run in,
 * the beginning and the end. */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

#include "load.h"

struct monitor;

/* Zeroed, seen by every process that is forked afterwards. Ends the process when there is none. */
void *crew_memory(size_t size);
/* Run the load described by run->o; returns when all is over. `run` and `workers`, o->parts of
 * them, are crew_memory(). False when it could not begin or a process of the load died: it was said
 * why. */
bool crew_run(struct run *run, struct worker *workers, struct monitor *monitor);
/* Of this program and of those of its processes that have ended. */
double cpu_seconds(void);

#endif
