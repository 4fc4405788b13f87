/* Assertions that stay on in release builds, fatal errors, and coverage marks.
 *
 * Three kinds of trouble are never mixed: a programmer's error ends in ASSERT, an operating error
 * is a return code (base/err.h), and broken durability (a failed write or fsync, a checksum that
 * does not match) ends the process through tv_fatal(). */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

#include <stdatomic.h>
#include <stdint.h>

#if defined(__GNUC__)
#define TV_LIKELY(x) __builtin_expect(!!(x), 1)
#define TV_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define TV_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#endif

/* Report a broken assertion on stderr and abort. Cold: what calls it is kept apart from code that
 * runs, of which more then fits into the processor's cache. */
_Noreturn void tv_assert_failed(const char *expr, const char *file, int line, const char *func)
    __attribute__((cold));

/* Log a fatal message and abort: for operating conditions after which going on would break a
 * promise, such as a failed fsync. */
_Noreturn void tv_fatal(const char *fmt, ...) __attribute__((cold)) TV_PRINTF(1, 2);

/* Holds in every build; NDEBUG has no effect on it. One property per ASSERT. */
#define ASSERT(cond) \
    (TV_LIKELY(cond) ? (void)0 : tv_assert_failed(#cond, __FILE__, __LINE__, __func__))

/* For checks whose cost grows with the data; on in developer and sanitizer builds. */
#ifdef TV_ASSERT_SLOW
#define ASSERT_SLOW(cond) ASSERT(cond)
#else
#define ASSERT_SLOW(cond) ((void)sizeof(cond))
#endif

/* A mark on a rare branch. Tests ask which marks were never reached, see probe_each(). */
struct probe {
    const char *name;
    const char *file;
    _Atomic uint64_t hits;
};

#define PROBE(label)                                                                         \
    do {                                                                                     \
        static struct probe probe_here                                                       \
            __attribute__((section("tv_probes"), used, aligned(8))) = {#label, __FILE__, 0}; \
        atomic_fetch_add_explicit(&probe_here.hits, 1, memory_order_relaxed);                \
    } while (0)

/* Call `fn` for every PROBE linked into this program. */
void probe_each(void (*fn)(const struct probe *p, void *arg), void *arg);

#endif
