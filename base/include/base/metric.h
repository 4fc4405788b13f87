/* Counters and histograms that are counted by one thread and read by any: an addition costs a load
 * and a store, and no lock.
 *
 * A histogram's bounds are a first one and its doubles, so that the bucket of a value is found
 * without a search. Owner: of each counter and histogram the thread that counts; only
 * metric_add_shared() may be called by several. Reading is never torn, but what is read of two
 * counters need not be of the same moment. */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include <stdatomic.h>
#include <stdint.h>

struct metric_counter {
    _Atomic uint64_t value;
};

static inline uint64_t metric_read(const struct metric_counter *c)
{
    return atomic_load_explicit(&c->value, memory_order_relaxed);
}

static inline void metric_set(struct metric_counter *c, uint64_t value)
{
    atomic_store_explicit(&c->value, value, memory_order_relaxed);
}

static inline void metric_add(struct metric_counter *c, uint64_t n)
{
    metric_set(c, metric_read(c) + n);
}

/* Thread: any. */
static inline void metric_add_shared(struct metric_counter *c, uint64_t n)
{
    atomic_fetch_add_explicit(&c->value, n, memory_order_relaxed);
}

enum { METRIC_BUCKETS_MAX = 24 };

/* Upper bounds: first, 2 first, 4 first, ... `buckets` of them; a last bucket has the rest. */
struct metric_scale {
    uint64_t first;
    uint32_t buckets;
};

struct metric_hist {
    struct metric_counter buckets[METRIC_BUCKETS_MAX + 1]; /* not cumulative */
    struct metric_counter sum;
};

/* `scale` is to be a constant where this is inlined. */
static inline uint32_t metric_bucket(struct metric_scale scale, uint64_t value)
{
    uint64_t q = value == 0 ? 0 : (value - 1) / scale.first;
    uint32_t at = q == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(q);
    return at < scale.buckets ? at : scale.buckets;
}

/* The same value `count` times. */
static inline void metric_observe_many(struct metric_hist *h, struct metric_scale scale,
                                       uint64_t value, uint64_t count)
{
    metric_add(&h->buckets[metric_bucket(scale, value)], count);
    metric_add(&h->sum, value * count);
}

static inline void metric_observe(struct metric_hist *h, struct metric_scale scale, uint64_t value)
{
    metric_observe_many(h, scale, value, 1);
}

/* Durations, in nanoseconds, by their first bound. */
#define METRIC_FROM_100_US(n) ((struct metric_scale){100000, (n)})
#define METRIC_FROM_1_MS(n) ((struct metric_scale){1000000, (n)})
#define METRIC_FROM_10_MS(n) ((struct metric_scale){10000000, (n)})
#define METRIC_FROM_100_MS(n) ((struct metric_scale){100000000, (n)})

#endif
