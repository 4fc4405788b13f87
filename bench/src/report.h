/* The result of a run: words for people, or JSON. docs/benchmark.md describes the JSON. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "series.h"
#include "total.h"

#include <stdio.h>

/* Words, on stdout. */
void report_print(const struct run *run, const struct total *t);
/* JSON, to `out`. */
void report_write(FILE *out, const struct run *run, const struct total *t,
                  const struct series *series);

#endif
