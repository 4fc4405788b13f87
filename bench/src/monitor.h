/* Looks at a run once a second: for the series, and for the screen, or a line where there is no
 * terminal. Owner: main's thread. */
#ifndef BENCH_MONITOR_H
#define BENCH_MONITOR_H

#include "series.h"

struct monitor;

struct monitor *monitor_new(const struct run *run, const struct worker *workers);
void monitor_free(struct monitor *m);
/* The times of the run are set. */
void monitor_begin(struct monitor *m);
/* Called often; does something when a second is over. */
void monitor_tick(struct monitor *m);
void monitor_end(struct monitor *m);
const struct series *monitor_series(const struct monitor *m);

#endif
