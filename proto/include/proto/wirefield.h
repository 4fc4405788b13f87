/* Protobuf's encoding, one field at a time, in place: no allocation, slices into the message.
 *
 * Reading follows google.golang.org/protobuf, with which etcd reads: a tag whose number is 0 or
 * above 2^29-1, a varint of more than 64 bits, a length beyond the message, an end-group without
 * its start and wire types 6 and 7 are malformed; a group is skipped whole. Whether a field is
 * known, and has the wire type it should, is the caller's business: what it does not know it passes
 * over.
 *
 * Writing is into memory whose size was computed before: every x_put() has its x_size(), writes
 * exactly that many bytes and returns where they end. */
#ifndef PROTO_WIREFIELD_H
#define PROTO_WIREFIELD_H

#include "base/assert.h"
#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum wire_type {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_BYTES = 2,
    WIRE_GROUP = 3,
    WIRE_GROUP_END = 4, /* never given out */
    WIRE_FIXED32 = 5,
};

enum {
    WIRE_VARINT_SIZE_MAX = 10,
    WIRE_FIELD_NUMBER_MAX = (1 << 29) - 1,
    WIRE_GROUP_DEPTH_MAX = 64, /* groups within groups; etcd's messages have none at all */
};

struct wire_reader {
    const uint8_t *at;
    const uint8_t *end;
};

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;     /* VARINT, FIXED64, FIXED32 */
    struct slice bytes; /* BYTES: the contents. GROUP: what is between start and end */
};

static inline struct wire_reader wire_reader_of(struct slice msg)
{
    /* NULL + 0 is not defined in C. */
    return (struct wire_reader){msg.data, msg.size == 0 ? msg.data : msg.data + msg.size};
}

/* Where a varint at `at` ends, or NULL when it is cut off or has more than 64 bits. */
const uint8_t *wire_varint_get_slow(const uint8_t *at, const uint8_t *end, uint64_t *ret_value);

static inline const uint8_t *wire_varint_get(const uint8_t *at, const uint8_t *end,
                                             uint64_t *ret_value)
{
    if (TV_LIKELY(at < end && *at < 0x80)) {
        *ret_value = *at;
        return at + 1;
    }
    return wire_varint_get_slow(at, end, ret_value);
}

/* The next field of the message. 1: there is one; 0: the message ended; or TV_EMALFORMED. */
int wire_next_field(struct wire_reader *r, struct wire_field *ret);

/* How many bytes the first field of `fields` takes, tag and all. For bytes that this program
 * encoded itself: asserts that they are well-formed. */
size_t wire_field_size(struct slice fields);

/* --- writing --- */

static inline size_t wire_varint_size(uint64_t value)
{
    /* One byte for every 7 bits, one at the least. */
    return (size_t)((63 - __builtin_clzll(value | 1)) * 9 + 73) / 64;
}

static inline uint8_t *wire_varint_put(uint8_t *dst, uint64_t value)
{
    while (value >= 0x80) {
        *dst++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *dst++ = (uint8_t)value;
    return dst;
}

static inline size_t wire_tag_size(uint32_t number)
{
    return wire_varint_size((uint64_t)number << 3);
}

static inline uint8_t *wire_tag_put(uint8_t *dst, uint32_t number, enum wire_type type)
{
    return wire_varint_put(dst, (uint64_t)number << 3 | type);
}

/* A scalar that is 0 is not on the wire (proto3). Signed values are cast: int64 and enums. */
static inline size_t wire_uint_size(uint32_t number, uint64_t value)
{
    return value == 0 ? 0 : wire_tag_size(number) + wire_varint_size(value);
}

static inline uint8_t *wire_uint_put(uint8_t *dst, uint32_t number, uint64_t value)
{
    if (value == 0)
        return dst;
    return wire_varint_put(wire_tag_put(dst, number, WIRE_VARINT), value);
}

/* A field of `size` bytes that is there even when it is empty: a submessage, an item of a list. */
static inline size_t wire_item_size(uint32_t number, size_t size)
{
    return wire_tag_size(number) + wire_varint_size(size) + size;
}

/* The tag and the length; the caller puts `size` bytes behind them. */
static inline uint8_t *wire_item_put_head(uint8_t *dst, uint32_t number, size_t size)
{
    return wire_varint_put(wire_tag_put(dst, number, WIRE_BYTES), size);
}

static inline uint8_t *wire_raw_put(uint8_t *dst, struct slice bytes)
{
    if (bytes.size > 0)
        memcpy(dst, bytes.data, bytes.size);
    return dst + bytes.size;
}

static inline uint8_t *wire_item_put(uint8_t *dst, uint32_t number, struct slice bytes)
{
    return wire_raw_put(wire_item_put_head(dst, number, bytes.size), bytes);
}

/* A bytes or string field: not on the wire when empty. */
static inline size_t wire_bytes_size(uint32_t number, struct slice bytes)
{
    return bytes.size == 0 ? 0 : wire_item_size(number, bytes.size);
}

static inline uint8_t *wire_bytes_put(uint8_t *dst, uint32_t number, struct slice bytes)
{
    return bytes.size == 0 ? dst : wire_item_put(dst, number, bytes);
}

#endif
