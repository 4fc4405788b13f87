/* A live screen on a terminal (stderr): a row for each kind of operation, drawn anew in place. */
#ifndef BENCH_SCREEN_H
#define BENCH_SCREEN_H

#include "series.h"

struct screen;

struct screen *screen_new(const struct run *run);
void screen_free(struct screen *s);
/* Shows series->last as the newest second. */
void screen_draw(struct screen *s, const struct series *series, uint64_t now);

#endif
