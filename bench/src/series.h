/* What happened in each second of a run: the difference of two looks at the workers' histograms, so
 * that it costs the workers nothing. At most SERIES_POINTS_MAX points: when these are full, two
 * become one, and a point is twice as long from then on. */
#ifndef BENCH_SERIES_H
#define BENCH_SERIES_H

#include "load.h"

enum {
    SERIES_POINTS_MAX = 3600,
    SERIES_EVENT = OP_KINDS_COUNT, /* a column: delays of watchers' events */
    SERIES_COLUMNS_COUNT,
};

struct series_cell {
    uint64_t count;
    double mean_ms;
    double p50_ms;
    double p99_ms; /* of points that became one: the mean, as mean_ms and p50_ms are */
    double max_ms;
};

struct series_point {
    double at_s; /* its end, from the beginning of the measured time */
    double seconds;
    uint64_t done; /* operations, measured or not */
    uint64_t failed;
    uint64_t events;
    struct series_cell cells[SERIES_COLUMNS_COUNT];
};

struct series {
    struct series_point *points;
    uint32_t points_count;
    uint32_t seconds_in_point; /* how many looks a point is made of */
    uint32_t seconds_in_last;  /* how many the last one has */
    struct series_point last;  /* what the last look saw by itself */
    /* As they were at the last look. */
    uint64_t at_ns;
    uint64_t done;
    uint64_t failed;
    uint64_t events;
    struct hist *seen; /* by column */
};

struct series *series_new(void);
void series_free(struct series *s);
/* Where the first point begins. */
void series_begin(struct series *s, uint64_t now);
/* Adds what happened since the last look as a point, or, without `keep`, forgets it: s->last has it
 * either way. */
void series_look(struct series *s, const struct run *run, const struct worker *workers,
                 uint64_t now, bool keep);
/* NULL at SERIES_COLUMNS_COUNT. */
const char *series_column_name(int column);

#endif
