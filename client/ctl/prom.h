/* What a page of /metrics says (Prometheus' text form): numbers by name and labels.
 *
 * Lines that are no samples are passed over; PROM_SAMPLES_MAX are kept. */
#ifndef CLIENT_CTL_PROM_H
#define CLIENT_CTL_PROM_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum { PROM_SAMPLES_MAX = 20000 };

struct prom_sample {
    struct slice name;
    struct slice labels; /* what is between the braces */
    double value;
};

/* In the order of the page. */
struct prom {
    struct prom_sample *samples;
    uint32_t count;
};

/* `text` is borrowed as long as `ret`. */
void prom_parse(struct slice text, struct prom *ret);
void prom_fini(struct prom *p);

/* The value of a label; empty when it is not there. No escapes are undone. */
struct slice prom_label(const struct prom_sample *s, const char *name);
/* The next sample of this name, from *at on, which is moved behind it; NULL at the end. */
const struct prom_sample *prom_next(const struct prom *p, const char *name, uint32_t *at);
/* All of this name, added up; with `label` not NULL only those where it has this value. 0: there is
 * none. */
double prom_sum(const struct prom *p, const char *name, const char *label, const char *value);
bool prom_has(const struct prom *p, const char *name);
/* A quantile of the histogram `name` (without "_bucket") of what came between `before` (NULL: the
 * process's begin) and `now`, found within its bucket by proportion; all series that pass
 * `filter` (NULL: all) together. Negative: nothing came. */
struct prom_filter {
    const char *label;
    const char *value;
    bool except; /* those with another value */
};
double prom_quantile(const struct prom *now, const struct prom *before, const char *name,
                     const struct prom_filter *filter, double quantile);

#endif
