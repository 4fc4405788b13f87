/* The result, for people or as JSON, on stdout. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "load.h"

void report(const struct run *run, const struct worker *workers);

#endif
