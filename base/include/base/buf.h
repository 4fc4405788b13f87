/* A byte buffer that grows up to a limit stated when it was made. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
    size_t size_max;
};

void buf_init(struct buf *b, size_t size_max);
void buf_fini(struct buf *b);
/* Empty it and keep the memory. */
void buf_clear(struct buf *b);

/* Make room for `more` bytes after `size` and return where they go; the caller then adds to `size`.
 * NULL when `size_max` would be passed: the buffer is unchanged. */
uint8_t *buf_reserve(struct buf *b, size_t more);
/* 0, or TV_ETOOLARGE with the buffer unchanged. */
int buf_append(struct buf *b, const void *data, size_t size);
/* As snprintf() would write it. 0, or TV_ETOOLARGE: also when there is no room for a zero byte
 * behind it. */
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As buf_reserve() and buf_append(); NULL and TV_ENOMEM also when there is no memory. */
uint8_t *buf_try_reserve(struct buf *b, size_t more);
int buf_try_append(struct buf *b, const void *data, size_t size);
/* Drop the first `count` bytes. */
void buf_consume(struct buf *b, size_t count);

static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->data, b->size);
}

#endif
