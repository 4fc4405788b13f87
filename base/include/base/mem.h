/* All of trivet's own allocation goes through here, so that a test can fail the Nth one.
 *
 * mem_try_* may return NULL and the caller copes; mem_* may not: where a server cannot go on
 * without the memory it ends the process (tv_fatal) and the cluster carries on without it. A
 * library must not do that to its program: client/src/lib and what it uses of proto/ take mem_try_*
 * alone. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_alloc_zero(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_realloc(void *p, size_t size) __attribute__((returns_nonnull));
char *mem_strdup(const char *text) __attribute__((malloc, returns_nonnull));
void *mem_dup(const void *data, size_t size) __attribute__((malloc, returns_nonnull));
/* These bytes, and a zero byte behind them. `data` may be NULL when there are none. */
char *mem_text(const void *data, size_t size) __attribute__((malloc, returns_nonnull));

void *mem_try_alloc(size_t size);
void *mem_try_alloc_zero(size_t size);
void *mem_try_realloc(void *p, size_t size);
void *mem_try_dup(const void *data, size_t size);
char *mem_try_strdup(const char *text);

/* Frees what any function above returned; NULL is allowed. */
void mem_free(void *p);

/* Memory aligned for direct I/O; freed with mem_free(). `alignment` is a power of two. */
void *mem_alloc_aligned(size_t alignment, size_t size) __attribute__((malloc, returns_nonnull));

/* Tests only: let `countdown` more mem_try_* calls succeed and fail the one after. UINT64_MAX =
 * off. Thread: any, but meant for one. */
void mem_fail_after(uint64_t countdown);

#endif
