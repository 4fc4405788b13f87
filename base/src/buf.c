#include "base/buf.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

enum { BUF_CAPACITY_MIN = 256 };

void buf_init(struct buf *b, size_t size_max)
{
    *b = (struct buf){.size_max = size_max};
}

void buf_fini(struct buf *b)
{
    mem_free(b->data);
    *b = (struct buf){.size_max = b->size_max};
}

void buf_clear(struct buf *b)
{
    b->size = 0;
}

static bool has_place(const struct buf *b, size_t more)
{
    return more <= b->size_max && b->size <= b->size_max - more;
}

/* What to grow to, so that `more` fit. */
static size_t larger(const struct buf *b, size_t more)
{
    size_t need = b->size + more;
    size_t capacity = b->capacity < BUF_CAPACITY_MIN ? BUF_CAPACITY_MIN : b->capacity * 2;
    if (capacity < need)
        capacity = need;
    return capacity > b->size_max ? b->size_max : capacity;
}

uint8_t *buf_reserve(struct buf *b, size_t more)
{
    if (!has_place(b, more))
        return NULL;
    if (b->size + more > b->capacity) {
        size_t capacity = larger(b, more);
        b->data = mem_realloc(b->data, capacity);
        b->capacity = capacity;
    }
    return b->data + b->size;
}

uint8_t *buf_try_reserve(struct buf *b, size_t more)
{
    if (!has_place(b, more))
        return NULL;
    if (b->size + more > b->capacity) {
        size_t capacity = larger(b, more);
        uint8_t *data = mem_try_realloc(b->data, capacity);
        if (data == NULL)
            return NULL;
        b->data = data;
        b->capacity = capacity;
    }
    return b->data + b->size;
}

int buf_try_append(struct buf *b, const void *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t *p = buf_try_reserve(b, size);
    if (p == NULL)
        return has_place(b, size) ? TV_ENOMEM : TV_ETOOLARGE;
    memcpy(p, data, size);
    b->size += size;
    return 0;
}

int buf_append(struct buf *b, const void *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t *p = buf_reserve(b, size);
    if (p == NULL)
        return TV_ETOOLARGE;
    memcpy(p, data, size);
    b->size += size;
    return 0;
}

void buf_consume(struct buf *b, size_t count)
{
    ASSERT(count <= b->size);
    b->size -= count;
    if (b->size > 0)
        memmove(b->data, b->data + count, b->size);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int size = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    ASSERT(size >= 0);
    uint8_t *p = buf_reserve(b, (size_t)size + 1);
    if (p == NULL)
        return TV_ETOOLARGE;
    va_start(args, fmt);
    (void)vsnprintf((char *)p, (size_t)size + 1, fmt, args);
    va_end(args);
    b->size += (size_t)size;
    return 0;
}
