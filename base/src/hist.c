#include "base/hist.h"

#include <string.h>

void hist_init(struct hist *h)
{
    memset(h, 0, sizeof(*h));
    h->min = UINT64_MAX;
}

/* Values below 2^SUB_BITS have a bucket each; above, the top SUB_BITS bits after the leading one
 * and the magnitude choose it. */
static uint32_t bucket_of(uint64_t value)
{
    if (value < (1u << HIST_SUB_BITS))
        return (uint32_t)value;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - HIST_SUB_BITS;
    return ((shift + 1) << HIST_SUB_BITS) + (uint32_t)((value >> shift) - (1u << HIST_SUB_BITS));
}

static uint64_t bucket_upper(uint32_t bucket)
{
    if (bucket < (1u << HIST_SUB_BITS))
        return bucket;
    uint32_t shift = (bucket >> HIST_SUB_BITS) - 1;
    uint64_t sub = (bucket & ((1u << HIST_SUB_BITS) - 1)) + (1u << HIST_SUB_BITS);
    return ((sub + 1) << shift) - 1;
}

void hist_add(struct hist *h, uint64_t value)
{
    hist_add_many(h, value, 1);
}

void hist_add_many(struct hist *h, uint64_t value, uint64_t count)
{
    if (count == 0)
        return;
    if (value > INT64_MAX)
        value = INT64_MAX;
    h->count += count;
    h->sum += value * count;
    if (value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
    h->buckets[bucket_of(value)] += count;
}

void hist_merge(struct hist *into, const struct hist *from)
{
    into->count += from->count;
    into->sum += from->sum;
    if (from->min < into->min)
        into->min = from->min;
    if (from->max > into->max)
        into->max = from->max;
    for (uint32_t i = 0; i < HIST_BUCKETS_COUNT; i++)
        into->buckets[i] += from->buckets[i];
}

uint64_t hist_quantile(const struct hist *h, double quantile)
{
    if (h->count == 0)
        return 0;
    uint64_t rank = (uint64_t)(quantile * (double)h->count + 0.5);
    if (rank < 1)
        rank = 1;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HIST_BUCKETS_COUNT; i++) {
        seen += h->buckets[i];
        if (seen >= rank) {
            uint64_t upper = bucket_upper(i);
            return upper < h->max ? upper : h->max;
        }
    }
    return h->max;
}

double hist_mean(const struct hist *h)
{
    return h->count == 0 ? 0 : (double)h->sum / (double)h->count;
}
