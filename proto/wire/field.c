/* Reading protobuf's encoding field by field; see proto/wirefield.h for what counts as malformed.
 */
#include "proto/wirefield.h"

const uint8_t *wire_varint_get_slow(const uint8_t *at, const uint8_t *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (at == end)
            return NULL;
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1)
            return NULL; /* the tenth byte holds the 64th bit and nothing else */
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret_value = value;
            return at;
        }
    }
    return NULL;
}

static inline size_t left(const struct wire_reader *r)
{
    return (size_t)(r->end - r->at);
}

static int fixed_get(struct wire_reader *r, size_t size, uint64_t *ret)
{
    if (left(r) < size)
        return TV_EMALFORMED;
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)r->at[i] << (8 * i);
    r->at += size;
    *ret = value;
    return 1;
}

static int bytes_get(struct wire_reader *r, struct slice *ret)
{
    uint64_t size;
    const uint8_t *at = wire_varint_get(r->at, r->end, &size);
    if (at == NULL || size > (uint64_t)(r->end - at))
        return TV_EMALFORMED;
    *ret = slice_of(at, size);
    r->at = at + size;
    return 1;
}

/* One tag; 0 at the end of the bytes. */
static int tag_get(struct wire_reader *r, uint32_t *ret_number, uint32_t *ret_type)
{
    if (r->at == r->end)
        return 0;
    uint64_t tag;
    const uint8_t *at = wire_varint_get(r->at, r->end, &tag);
    if (at == NULL || tag >> 3 == 0 || tag >> 3 > WIRE_FIELD_NUMBER_MAX)
        return TV_EMALFORMED;
    r->at = at;
    *ret_number = (uint32_t)(tag >> 3);
    *ret_type = tag & 7;
    return 1;
}

static int value_get(struct wire_reader *r, uint32_t type, struct wire_field *ret)
{
    switch (type) {
    case WIRE_VARINT:
        r->at = wire_varint_get(r->at, r->end, &ret->value);
        return r->at != NULL ? 1 : TV_EMALFORMED;
    case WIRE_BYTES:
        return bytes_get(r, &ret->bytes);
    case WIRE_FIXED64:
        return fixed_get(r, 8, &ret->value);
    case WIRE_FIXED32:
        return fixed_get(r, 4, &ret->value);
    default:
        return TV_EMALFORMED;
    }
}

/* Pass over a group whose start tag was just read. Its end must bear its number, and so must those
 * of the groups in it. */
static int group_get(struct wire_reader *r, struct wire_field *ret)
{
    uint32_t open[WIRE_GROUP_DEPTH_MAX] = {ret->number};
    uint32_t depth = 1;
    const uint8_t *begin = r->at;
    while (depth > 0) {
        const uint8_t *before_tag = r->at;
        uint32_t number;
        uint32_t type;
        struct wire_field ignored;
        if (tag_get(r, &number, &type) != 1)
            return TV_EMALFORMED;
        if (type == WIRE_GROUP) {
            if (depth == WIRE_GROUP_DEPTH_MAX)
                return TV_EMALFORMED;
            open[depth++] = number;
        } else if (type == WIRE_GROUP_END) {
            if (number != open[--depth])
                return TV_EMALFORMED;
            ret->bytes = slice_of(begin, (size_t)(before_tag - begin));
        } else if (value_get(r, type, &ignored) != 1) {
            return TV_EMALFORMED;
        }
    }
    return 1;
}

int wire_next_field(struct wire_reader *r, struct wire_field *ret)
{
    uint32_t type;
    int rv = tag_get(r, &ret->number, &type);
    if (rv != 1)
        return rv;
    ret->type = (enum wire_type)type;
    return type == WIRE_GROUP ? group_get(r, ret) : value_get(r, type, ret);
}

size_t wire_field_size(struct slice fields)
{
    struct wire_reader r = wire_reader_of(fields);
    struct wire_field f;
    int rv = wire_next_field(&r, &f);
    ASSERT(rv == 1);
    return (size_t)(r.at - fields.data);
}
