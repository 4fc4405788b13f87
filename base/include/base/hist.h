/* A histogram with bounded relative error (HDR): 64 linear steps per power of two, values
 * 0..2^63-1, so a reported quantile is at most 1.6 % above the true one. Fixed size, one owner;
 * another thread or process may take a copy while the owner adds. */
#ifndef BASE_HIST_H
#define BASE_HIST_H

#include <stdint.h>

enum { HIST_SUB_BITS = 6, HIST_BUCKETS_COUNT = (64 - HIST_SUB_BITS + 1) << HIST_SUB_BITS };

struct hist {
    uint64_t count;
    uint64_t sum;
    uint64_t min;
    uint64_t max;
    uint64_t buckets[HIST_BUCKETS_COUNT];
};

void hist_init(struct hist *h);
void hist_add(struct hist *h, uint64_t value);
/* The same value `count` times. */
void hist_add_many(struct hist *h, uint64_t value, uint64_t count);
void hist_merge(struct hist *into, const struct hist *from);
/* What `from` holds while its owner may be adding: what is added meanwhile may be in it or not. */
void hist_copy(struct hist *into, const struct hist *from);
/* Leaves what was added since `earlier`, a copy of the same histogram; min and max are then those
 * of the buckets' bounds. */
void hist_subtract(struct hist *h, const struct hist *earlier);
/* The largest value that falls into this bucket. */
uint64_t hist_bucket_max(uint32_t bucket);
/* `quantile` in 0..1; 0 when empty. */
uint64_t hist_quantile(const struct hist *h, double quantile);
double hist_mean(const struct hist *h);

#endif
