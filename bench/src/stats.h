/* Does one sample differ from another? Welch's t, with as many independent values as the samples
 * are worth: neighbouring seconds of a run resemble each other, and would otherwise count for more
 * than they say. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stdbool.h>
#include <stdint.h>

enum { STATS_VALUES_MIN = 5 };

struct stats_sample {
    const double *values;
    uint32_t count;
    bool in_order; /* one after the other, so that neighbours may resemble each other */
};

struct stats_ratio {
    double a; /* the means; of logarithms, the geometric ones */
    double b;
    double ratio; /* b / a */
    double low;   /* the interval around it */
    double high;
};

/* b against a, `level` (0.95) of such intervals have the truth in them. `logarithms` for what is
 * skewed, as latencies are; then every value is above 0. False: too few values, or a is 0 at the
 * mean.
 */
bool stats_compare(struct stats_sample a, struct stats_sample b, double level, bool logarithms,
                   struct stats_ratio *ret);
/* Of Student's t with so many degrees of freedom (1 or more): the value that |t| is below of with
 * probability `level`. */
double stats_t(double level, double degrees);
/* How many independent values these are worth. */
double stats_effective_count(struct stats_sample s);

#endif
