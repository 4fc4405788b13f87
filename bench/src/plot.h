/* A plot as SVG, without anything from elsewhere: lines over seconds, or over percentiles. The
 * page's style gives the colours, its script shows the values under the pointer. */
#ifndef BENCH_PLOT_H
#define BENCH_PLOT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { PLOT_LINES_MAX = 3 };

enum plot_x {
    PLOT_SECONDS,
    PLOT_NINES, /* x is -log10(1 - quantile): 1 is 90 %, 2 is 99 % */
};

struct plot_line {
    const char *name;
    const double *y; /* not a number: there is none */
};

struct plot {
    const char *title;
    const char *unit;
    enum plot_x x_kind;
    const double *x; /* rising */
    uint32_t count;
    bool logarithmic; /* y; values above 0 */
    struct plot_line lines[PLOT_LINES_MAX];
    uint32_t lines_count;
};

/* Nothing is drawn of a plot without a value. */
void plot_write(FILE *out, const struct plot *p);
/* A number as a reader wants it: 12.3k, 0.123. */
void plot_number(double value, char *ret, size_t size);

#endif
