#include "base/mem.h"

#include "base/assert.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Tests: how many mem_try_* calls go well before one fails; UINT64_MAX: no test asked for it. */
static _Atomic uint64_t fail_after = UINT64_MAX;

static void *need(void *p, size_t size)
{
    if (TV_UNLIKELY(p == NULL))
        tv_fatal("out of memory: %zu bytes", size);
    return p;
}

void *mem_alloc(size_t size)
{
    return need(malloc(size), size);
}

void *mem_alloc_zero(size_t size)
{
    return need(calloc(1, size), size);
}

void *mem_realloc(void *p, size_t size)
{
    return need(realloc(p, size), size);
}

char *mem_strdup(const char *text)
{
    return mem_dup(text, strlen(text) + 1);
}

char *mem_text(const void *data, size_t size)
{
    char *text = mem_alloc(size + 1);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

void *mem_dup(const void *data, size_t size)
{
    void *p = mem_alloc(size);
    if (size > 0)
        memcpy(p, data, size);
    return p;
}

static int try_fails(void)
{
    if (TV_LIKELY(atomic_load_explicit(&fail_after, memory_order_relaxed) == UINT64_MAX))
        return 0;
    return atomic_fetch_sub_explicit(&fail_after, 1, memory_order_relaxed) == 0;
}

void *mem_try_alloc(size_t size)
{
    return try_fails() ? NULL : malloc(size);
}

void *mem_try_alloc_zero(size_t size)
{
    return try_fails() ? NULL : calloc(1, size);
}

void *mem_try_realloc(void *p, size_t size)
{
    return try_fails() ? NULL : realloc(p, size);
}

void *mem_try_dup(const void *data, size_t size)
{
    void *p = mem_try_alloc(size);
    if (p != NULL && size > 0)
        memcpy(p, data, size);
    return p;
}

char *mem_try_strdup(const char *text)
{
    return mem_try_dup(text, strlen(text) + 1);
}

void mem_free(void *p)
{
    free(p);
}

void *mem_alloc_aligned(size_t alignment, size_t size)
{
    size = (size + alignment - 1) & ~(alignment - 1);
    return need(aligned_alloc(alignment, size), size);
}

void mem_fail_after(uint64_t countdown)
{
    atomic_store(&fail_after, countdown);
}
