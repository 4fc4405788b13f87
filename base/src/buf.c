#include "base/buf.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

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

uint8_t *buf_reserve(struct buf *b, size_t more)
{
    if (more > b->size_max || b->size > b->size_max - more)
        return NULL;
    size_t need = b->size + more;
    if (need > b->capacity) {
        size_t capacity = b->capacity < BUF_CAPACITY_MIN ? BUF_CAPACITY_MIN : b->capacity * 2;
        if (capacity < need)
            capacity = need;
        if (capacity > b->size_max)
            capacity = b->size_max;
        b->data = mem_realloc(b->data, capacity);
        b->capacity = capacity;
    }
    return b->data + b->size;
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
