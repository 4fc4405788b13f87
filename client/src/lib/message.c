/* Walks the tables of method.c. Writing appends to a buffer, a submessage's length in front of it
 * once it is known; reading is in place, with one pass before to count the lists. */
#include "message.h"

#include "base/assert.h"
#include "base/err.h"
#include "proto/wirefield.h"

#include <string.h>

/* --- writing --- */

enum { HEAD_BYTES_MAX = 2 * WIRE_VARINT_SIZE_MAX };

static int put_shape(struct buf *out, const struct message_shape *shape, const void *from,
                     int depth);
static int put_request(struct buf *out, const struct trivet_request *q, int depth);

/* NULL: there is no memory, and nothing more fits from then on. */
static uint8_t *reserve(struct buf *out, size_t more)
{
    uint8_t *p = buf_try_reserve(out, more);
    if (p == NULL)
        out->size_max = 0;
    return p;
}

static void put_uint(struct buf *out, uint32_t number, uint64_t value)
{
    uint8_t *p = reserve(out, HEAD_BYTES_MAX);
    if (p != NULL)
        out->size += (size_t)(wire_uint_put(p, number, value) - p);
}

/* A member of a oneof is on the wire also when it is 0. */
static void put_number(struct buf *out, uint32_t number, uint64_t value)
{
    uint8_t *p = reserve(out, HEAD_BYTES_MAX);
    if (p != NULL)
        out->size += (size_t)(wire_varint_put(wire_tag_put(p, number, WIRE_VARINT), value) - p);
}

static void put_item(struct buf *out, uint32_t number, struct trivet_bytes b)
{
    uint8_t *p = reserve(out, HEAD_BYTES_MAX + b.size);
    if (p != NULL)
        out->size += (size_t)(wire_item_put(p, number, slice_of(b.data, b.size)) - p);
}

/* Where the contents of an item begin: one byte is left for its length, most fit. */
static size_t item_begin(struct buf *out, uint32_t number)
{
    uint8_t *p = reserve(out, HEAD_BYTES_MAX);
    if (p != NULL)
        out->size += (size_t)(wire_tag_put(p, number, WIRE_BYTES) - p) + 1;
    return out->size;
}

static void item_end(struct buf *out, size_t begin)
{
    size_t size = out->size - begin, more = wire_varint_size(size) - 1;
    if (reserve(out, more) == NULL)
        return;
    if (more > 0) {
        memmove(out->data + begin + more, out->data + begin, size);
        out->size += more;
    }
    (void)wire_varint_put(out->data + begin - 1, size);
}

static int put_sub(struct buf *out, uint32_t number, const struct message_shape *shape,
                   const void *from, int depth)
{
    size_t begin = item_begin(out, number);
    int rv = put_shape(out, shape, from, depth + 1);
    item_end(out, begin);
    return rv;
}

static void put_compare(struct buf *out, uint32_t number, const struct trivet_compare *c)
{
    static const uint8_t operand[] = {
        [TRIVET_COMPARE_VERSION] = 4, [TRIVET_COMPARE_CREATE] = 5, [TRIVET_COMPARE_MOD] = 6,
        [TRIVET_COMPARE_VALUE] = 7,   [TRIVET_COMPARE_LEASE] = 8,
    };
    enum { FIELD_RANGE_END = 64 };
    size_t begin = item_begin(out, number);
    put_uint(out, 1, (uint64_t)c->result);
    put_uint(out, 2, (uint64_t)c->target);
    if (c->key.size > 0)
        put_item(out, 3, c->key);
    if (c->target == TRIVET_COMPARE_VALUE) {
        put_item(out, operand[TRIVET_COMPARE_VALUE], c->value);
    } else {
        put_number(out, operand[c->target], (uint64_t)c->number);
    }
    if (c->range_end.size > 0)
        put_item(out, FIELD_RANGE_END, c->range_end);
    item_end(out, begin);
}

static int put_op(struct buf *out, uint32_t number, const struct trivet_request *q, int depth)
{
    uint32_t kind;
    switch (q->method) {
    case TRIVET_RANGE:
        kind = 1;
        break;
    case TRIVET_PUT:
        kind = 2;
        break;
    case TRIVET_DELETE:
        kind = 3;
        break;
    case TRIVET_TXN:
        kind = 4;
        break;
    default:
        return TRIVET_INVALID;
    }
    size_t op = item_begin(out, number);
    size_t body = item_begin(out, kind);
    int rv = put_request(out, q, depth + 1);
    item_end(out, body);
    item_end(out, op);
    return rv;
}

static int put_list(struct buf *out, const struct message_field *f, const uint8_t *from, int depth)
{
    const uint8_t *items;
    uint32_t count;
    memcpy(&items, from + f->offset, sizeof(items));
    memcpy(&count, from + f->count_offset, sizeof(count));
    int rv = 0;
    for (uint32_t i = 0; i < count && rv == 0; i++) {
        switch ((enum message_type)f->type) {
        case MESSAGE_BYTES_LIST:
            put_item(out, f->number, ((const struct trivet_bytes *)items)[i]);
            break;
        case MESSAGE_COMPARES: {
            const struct trivet_compare *c = &((const struct trivet_compare *)items)[i];
            if (c->target < TRIVET_COMPARE_VERSION || c->target > TRIVET_COMPARE_LEASE)
                return TRIVET_INVALID;
            put_compare(out, f->number, c);
            break;
        }
        case MESSAGE_OPS:
            rv = put_op(out, f->number, &((const struct trivet_request *)items)[i], depth);
            break;
        default: /* no request has another */
            return TRIVET_INVALID;
        }
    }
    return rv;
}

static int put_shape(struct buf *out, const struct message_shape *shape, const void *from_struct,
                     int depth)
{
    const uint8_t *from = from_struct;
    if (depth > MESSAGE_DEPTH_MAX)
        return TRIVET_INVALID;
    for (uint16_t i = 0; i < shape->fields_count; i++) {
        const struct message_field *f = &shape->fields[i];
        const uint8_t *at = from + f->offset;
        int rv = 0;
        switch ((enum message_type)f->type) {
        case MESSAGE_INT64:
            put_uint(out, f->number, *(const uint64_t *)at);
            break;
        case MESSAGE_INT32:
            put_uint(out, f->number, (uint64_t)(int64_t)*(const int32_t *)at);
            break;
        case MESSAGE_BOOL:
            put_uint(out, f->number, *(const bool *)at);
            break;
        case MESSAGE_BYTES:
            if (((const struct trivet_bytes *)at)->size > 0)
                put_item(out, f->number, *(const struct trivet_bytes *)at);
            break;
        case MESSAGE_SUB:
            rv = put_sub(out, f->number, f->sub, at, depth);
            break;
        default:
            rv = put_list(out, f, from, depth);
            break;
        }
        if (rv != 0)
            return rv;
    }
    return 0;
}

static int put_request(struct buf *out, const struct trivet_request *q, int depth)
{
    const struct method *m = method_of(q->method);
    return m == NULL ? TRIVET_INVALID
                     : put_shape(out, m->request, (const uint8_t *)q + m->request_offset, depth);
}

int message_request_encode(const struct trivet_request *q, struct buf *out)
{
    int rv = put_request(out, q, 0);
    return rv == 0 && out->size_max == 0 ? TRIVET_NO_MEMORY : rv;
}

/* --- reading --- */

/* Of the lists of one message: items of two bytes must not become gigabytes. */
#define LISTS_BYTES_MAX (UINT64_C(1) << 30)

struct reading {
    struct arena *arena;
    uint64_t lists_bytes;
    int depth;
};

static int read_shape(struct reading *r, const struct message_shape *shape, struct slice msg,
                      void *to);

static bool is_list(uint16_t type)
{
    return type >= MESSAGE_BYTES_LIST;
}

static const struct message_field *field_of(const struct message_shape *shape, uint32_t number)
{
    for (uint16_t i = 0; i < shape->fields_count; i++)
        if (shape->fields[i].number == number)
            return &shape->fields[i];
    return NULL;
}

static size_t item_size(const struct message_field *f)
{
    switch ((enum message_type)f->type) {
    case MESSAGE_BYTES_LIST:
        return sizeof(struct trivet_bytes);
    case MESSAGE_INT64_ITEMS:
        return sizeof(int64_t);
    case MESSAGE_RESPONSES:
        return sizeof(struct trivet_result);
    default:
        return f->sub->size;
    }
}

/* The lists get their places; their counts begin again at 0. */
static int make_room(struct reading *r, const struct message_shape *shape, struct slice msg,
                     uint8_t *to)
{
    enum { FIELDS_MAX = 16 };
    uint32_t counts[FIELDS_MAX] = {0};
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field w;
    int rv;
    ASSERT(shape->fields_count <= FIELDS_MAX);
    while ((rv = wire_next_field(&reader, &w)) == 1) {
        const struct message_field *f = field_of(shape, w.number);
        if (f != NULL && is_list(f->type) && w.type == WIRE_BYTES)
            counts[f - shape->fields]++;
    }
    if (rv != 0)
        return TRIVET_MALFORMED;
    for (uint16_t i = 0; i < shape->fields_count; i++) {
        if (counts[i] == 0)
            continue;
        const struct message_field *f = &shape->fields[i];
        r->lists_bytes += (uint64_t)item_size(f) * counts[i];
        if (r->lists_bytes > LISTS_BYTES_MAX)
            return TRIVET_MALFORMED;
        void *items = arena_try_alloc(r->arena, item_size(f) * counts[i]);
        if (items == NULL)
            return TRIVET_NO_MEMORY;
        memset(items, 0, item_size(f) * counts[i]);
        memcpy(to + f->offset, &items, sizeof(items));
    }
    return 0;
}

static int read_response_op(struct reading *r, struct slice msg, struct trivet_result *to)
{
    static const int32_t methods[] = {0, TRIVET_RANGE, TRIVET_PUT, TRIVET_DELETE, TRIVET_TXN};
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field w;
    int rv;
    to->error = "";
    while ((rv = wire_next_field(&reader, &w)) == 1) {
        if (w.number < 1 || w.number > 4 || w.type != WIRE_BYTES)
            continue;
        if (to->method != 0)
            return TRIVET_MALFORMED;
        to->method = methods[w.number];
        const struct method *m = method_of(to->method);
        rv = read_shape(r, m->response, w.bytes, to);
        if (rv != 0)
            return rv;
    }
    return rv == 0 && to->method != 0 ? 0 : TRIVET_MALFORMED;
}

static int read_int64_item(struct slice msg, int64_t *to)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field w;
    int rv;
    while ((rv = wire_next_field(&reader, &w)) == 1)
        if (w.number == 1 && w.type == WIRE_VARINT)
            *to = (int64_t)w.value;
    return rv == 0 ? 0 : TRIVET_MALFORMED;
}

static int read_item(struct reading *r, const struct message_field *f, struct slice bytes,
                     uint8_t *to)
{
    uint8_t *items;
    uint32_t count;
    memcpy(&items, to + f->offset, sizeof(items));
    memcpy(&count, to + f->count_offset, sizeof(count));
    uint8_t *item = items + item_size(f) * count;
    count++;
    memcpy(to + f->count_offset, &count, sizeof(count));
    switch ((enum message_type)f->type) {
    case MESSAGE_BYTES_LIST:
        *(struct trivet_bytes *)item = trivet_bytes(bytes.data, bytes.size);
        return 0;
    case MESSAGE_INT64_ITEMS:
        return read_int64_item(bytes, (int64_t *)item);
    case MESSAGE_RESPONSES:
        return read_response_op(r, bytes, (struct trivet_result *)item);
    default:
        return read_shape(r, f->sub, bytes, item);
    }
}

static int read_field(struct reading *r, const struct message_field *f, const struct wire_field *w,
                      uint8_t *to)
{
    uint8_t *at = to + f->offset;
    bool is_varint = w->type == WIRE_VARINT, is_bytes = w->type == WIRE_BYTES;
    switch ((enum message_type)f->type) {
    case MESSAGE_INT64:
        if (is_varint)
            *(uint64_t *)at = w->value;
        return 0;
    case MESSAGE_INT32:
        if (is_varint)
            *(int32_t *)at = (int32_t)w->value;
        return 0;
    case MESSAGE_BOOL:
        if (is_varint)
            *(bool *)at = w->value != 0;
        return 0;
    case MESSAGE_BYTES:
        if (is_bytes)
            *(struct trivet_bytes *)at = trivet_bytes(w->bytes.data, w->bytes.size);
        return 0;
    case MESSAGE_SUB:
        return is_bytes ? read_shape(r, f->sub, w->bytes, at) : 0;
    default:
        return is_bytes ? read_item(r, f, w->bytes, to) : 0;
    }
}

static int read_fields(struct reading *r, const struct message_shape *shape, struct slice msg,
                       uint8_t *to)
{
    int rv = shape->has_lists ? make_room(r, shape, msg, to) : 0;
    if (rv != 0)
        return rv;
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field w;
    while ((rv = wire_next_field(&reader, &w)) == 1) {
        const struct message_field *f = field_of(shape, w.number);
        rv = f == NULL ? 0 : read_field(r, f, &w, to);
        if (rv != 0)
            return rv;
    }
    return rv == 0 ? 0 : TRIVET_MALFORMED;
}

static int read_shape(struct reading *r, const struct message_shape *shape, struct slice msg,
                      void *to)
{
    if (r->depth >= MESSAGE_DEPTH_MAX)
        return TRIVET_MALFORMED;
    r->depth++;
    int rv = read_fields(r, shape, msg, to);
    r->depth--;
    return rv;
}

int message_read(const struct message_shape *shape, struct slice msg, struct arena *arena,
                 void *ret)
{
    struct reading r = {.arena = arena};
    return read_shape(&r, shape, msg, ret);
}

int message_response_decode(const struct method *m, struct slice msg, struct arena *arena,
                            struct trivet_result *ret)
{
    return message_read(m->response, msg, arena, ret);
}
