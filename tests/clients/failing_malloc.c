#include "failing_malloc.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <uv.h>

/* A sanitizer has functions of its own behind the names. */
#ifdef SANITIZED
#define REAL(name) __interceptor_##name
#else
#define REAL(name) __libc_##name
#endif

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t count, size_t size);
void *REAL(realloc)(void *p, size_t size);

enum { OFF, RANGE, RATE };

static _Atomic int mode;
static _Atomic uint64_t seen, failures, range_first, range_count, rate, rate_seed;
static _Thread_local int exempt;

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static bool fails(void)
{
    int now = atomic_load_explicit(&mode, memory_order_relaxed);
    if (now == OFF || exempt > 0)
        return false;
    uint64_t n = atomic_fetch_add(&seen, 1);
    bool fail = now == RANGE ? n - range_first < range_count : mix(n ^ rate_seed) % rate == 0;
    if (!fail)
        return false;
    atomic_fetch_add(&failures, 1);
    errno = ENOMEM;
    return true;
}

static void begin(int new_mode)
{
    atomic_store(&seen, 0);
    atomic_store(&failures, 0);
    atomic_store(&mode, new_mode);
}

void failing_malloc_range(uint64_t first, uint64_t count)
{
    atomic_store(&mode, OFF);
    range_first = first;
    range_count = count;
    begin(RANGE);
}

void failing_malloc_rate(uint64_t one_in, uint64_t seed)
{
    atomic_store(&mode, OFF);
    rate = one_in;
    rate_seed = seed;
    begin(RATE);
}

uint64_t failing_malloc_off(void)
{
    atomic_store(&mode, OFF);
    return atomic_load(&failures);
}

void failing_malloc_exempt(int change)
{
    exempt += change;
}

void *malloc(size_t size)
{
    return fails() ? NULL : REAL(malloc)(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : REAL(calloc)(count, size);
}

void *realloc(void *p, size_t size)
{
    return fails() ? NULL : REAL(realloc)(p, size);
}

/* libuv ends the process when its table of descriptors cannot grow: so it does while a loop is made
 * (docs/client.md says so), and this is not about libuv. */
int uv_loop_init(uv_loop_t *loop)
{
    int (*real)(uv_loop_t *) = (int (*)(uv_loop_t *))dlsym(RTLD_NEXT, "uv_loop_init");
    exempt++;
    int rv = real(loop);
    exempt--;
    return rv;
}

#ifdef SANITIZED
/* AddressSanitizer asks this of each thread that begins, and does not bear a refusal. */
int pthread_getattr_np(pthread_t thread, pthread_attr_t *attr)
{
    int (*real)(pthread_t, pthread_attr_t *) =
        (int (*)(pthread_t, pthread_attr_t *))dlsym(RTLD_NEXT, "pthread_getattr_np");
    exempt++;
    int rv = real(thread, attr);
    exempt--;
    return rv;
}
#endif

int uv_poll_start(uv_poll_t *handle, int events, uv_poll_cb cb)
{
    enum { AS_MADE = 256 };
    int (*real)(uv_poll_t *, int, uv_poll_cb) =
        (int (*)(uv_poll_t *, int, uv_poll_cb))dlsym(RTLD_NEXT, "uv_poll_start");
    int first = handle->loop->nwatchers < AS_MADE;
    exempt += first;
    int rv = real(handle, events, cb);
    exempt -= first;
    return rv;
}
