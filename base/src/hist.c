#include "base/hist.h"

#include <string.h>

/* The owner's side of hist_copy(): each value is whole, in no particular order. */
static void store(uint64_t *at, uint64_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

static uint64_t load(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

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

uint64_t hist_bucket_max(uint32_t bucket)
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
    uint64_t *bucket = &h->buckets[bucket_of(value)];
    store(&h->count, h->count + count);
    store(&h->sum, h->sum + value * count);
    if (value < h->min)
        store(&h->min, value);
    if (value > h->max)
        store(&h->max, value);
    store(bucket, *bucket + count);
}

void hist_copy(struct hist *into, const struct hist *from)
{
    into->sum = load(&from->sum);
    into->min = load(&from->min);
    into->max = load(&from->max);
    into->count = 0;
    for (uint32_t i = 0; i < HIST_BUCKETS_COUNT; i++) {
        into->buckets[i] = load(&from->buckets[i]);
        into->count += into->buckets[i];
    }
}

void hist_subtract(struct hist *h, const struct hist *earlier)
{
    uint64_t max = h->max;
    h->sum -= earlier->sum;
    h->count = 0;
    h->min = UINT64_MAX;
    h->max = 0;
    for (uint32_t i = 0; i < HIST_BUCKETS_COUNT; i++) {
        h->buckets[i] -= earlier->buckets[i];
        if (h->buckets[i] == 0)
            continue;
        h->count += h->buckets[i];
        h->max = hist_bucket_max(i) < max ? hist_bucket_max(i) : max;
        if (h->min == UINT64_MAX)
            h->min = h->max;
    }
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
            uint64_t upper = hist_bucket_max(i);
            return upper < h->max ? upper : h->max;
        }
    }
    return h->max;
}

double hist_mean(const struct hist *h)
{
    return h->count == 0 ? 0 : (double)h->sum / (double)h->count;
}
