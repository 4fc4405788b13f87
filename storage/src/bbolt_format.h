/* What bbolt's writer and reader share; see storage/bbolt.h for the format. */
#ifndef STORAGE_BBOLT_FORMAT_H
#define STORAGE_BBOLT_FORMAT_H

#include "storage/bbolt.h"

#define BBOLT_MAGIC UINT32_C(0xED0CDAED)

enum {
    BBOLT_VERSION = 2,
    BBOLT_PAGE_HEAD_BYTES = 16,
    BBOLT_ELEMENT_BYTES = 16, /* of either kind */
    BBOLT_BUCKET_BYTES = 16,
    BBOLT_META_BYTES = 64,         /* behind the page's head */
    BBOLT_META_CHECKED_BYTES = 56, /* of these, what the checksum is over */

    BBOLT_BRANCH = 0x01,
    BBOLT_LEAF = 0x02,
    BBOLT_META = 0x04,
    BBOLT_FREELIST = 0x10,

    BBOLT_IS_BUCKET = 0x01, /* of a leaf's element */
    /* A bucket that fits into a quarter of a page is kept in its parent. */
    BBOLT_INLINE_BYTES_MAX = BBOLT_PAGE_BYTES / 4,
    BBOLT_ELEMENTS_MAX = 0xFFFF,
};

/* In freelist_page: the free pages are not written down. */
#define BBOLT_NO_FREELIST UINT64_MAX

static inline void bbolt__put16(uint8_t *p, uint16_t x)
{
    p[0] = (uint8_t)x;
    p[1] = (uint8_t)(x >> 8);
}

static inline void bbolt__put32(uint8_t *p, uint32_t x)
{
    bbolt__put16(p, (uint16_t)x);
    bbolt__put16(p + 2, (uint16_t)(x >> 16));
}

static inline void bbolt__put64(uint8_t *p, uint64_t x)
{
    bbolt__put32(p, (uint32_t)x);
    bbolt__put32(p + 4, (uint32_t)(x >> 32));
}

static inline uint16_t bbolt__get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t bbolt__get32(const uint8_t *p)
{
    return bbolt__get16(p) | (uint32_t)bbolt__get16(p + 2) << 16;
}

static inline uint64_t bbolt__get64(const uint8_t *p)
{
    return bbolt__get32(p) | (uint64_t)bbolt__get32(p + 4) << 32;
}

/* FNV-1a, 64 bits. */
static inline uint64_t bbolt__checksum(const uint8_t *p, size_t size)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ p[i]) * UINT64_C(1099511628211);
    return hash;
}

#endif
