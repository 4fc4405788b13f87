/* Which lines are written when one is said again and again: zap's sampler as etcd configures it
 * (client/pkg/logutil/zap.go). Lines are the same when their level and message are, up to
 * collisions of a hash.
 *
 * A count is several atomics that are not changed together; what a race costs is a line more or
 * less. */
#include "base/hash.h"
#include "base/log.h"

#include <stdatomic.h>
#include <time.h>

enum { COUNTS = 4096, PERIOD_NS = 1000000000 };

static struct {
    _Atomic uint64_t said;
    _Atomic uint64_t period_ends_ns;
} counts[COUNTS];

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* How many times it was said in this period, with this time. */
static uint64_t count(enum log_level level, const char *msg)
{
    uint64_t place = (hash64(slice_of_string(msg), 0) + (uint64_t)(level - LOG_DEBUG)) % COUNTS;
    uint64_t now = now_ns();
    if (now >= atomic_load_explicit(&counts[place].period_ends_ns, memory_order_relaxed)) {
        atomic_store_explicit(&counts[place].period_ends_ns, now + PERIOD_NS, memory_order_relaxed);
        atomic_store_explicit(&counts[place].said, 1, memory_order_relaxed);
        return 1;
    }
    return 1 + atomic_fetch_add_explicit(&counts[place].said, 1, memory_order_relaxed);
}

bool log_wants(enum log_level level, const char *msg)
{
    if (level < log_get_level())
        return false;
    if (level >= LOG_FATAL)
        return true;
    uint64_t times = count(level, msg);
    return times <= LOG_SAMPLE_FIRST || (times - LOG_SAMPLE_FIRST) % LOG_SAMPLE_EACH == 0;
}
