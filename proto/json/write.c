/* Messages to JSON, straight from the wire: fields come in the order of their numbers, as our own
 * answers have them. A message that has them in another order, or a field twice that is no list, is
 * walked once for each field. */
#include "internal.h"

#include "proto/wirefield.h"

#include "base/base64.h"
#include "base/err.h"

#include <inttypes.h>
#include <stdio.h>

struct writer {
    struct buf *out;
    enum json_style style;
    uint32_t depth;
    int err;
};

/* --- pieces --- */

static void put(struct writer *w, const void *data, size_t size)
{
    if (buf_append(w->out, data, size) != 0)
        w->err = TV_ETOOLARGE;
}

static void put_text(struct writer *w, const char *text)
{
    put(w, text, strlen(text));
}

static const char *short_escape(uint8_t c)
{
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return NULL;
    }
}

/* Does the style want this character as \uXXXX? */
static bool is_escaped(const struct writer *w, const uint8_t *s, size_t n)
{
    if (s[0] < ' ')
        return true;
    if (w->style != JSON_ESCAPED)
        return false;
    bool line_end =
        n == 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] | 1) == 0xa9; /* U+2028, U+2029 */
    return s[0] == '<' || s[0] == '>' || s[0] == '&' || line_end;
}

static void put_escaped(struct writer *w, const uint8_t *s, size_t n)
{
    char text[8];
    const char *known = n == 1 ? short_escape(s[0]) : NULL;
    uint32_t c = n == 1 ? s[0] : 0x2028 + (s[2] & 1u);
    (void)snprintf(text, sizeof(text), "\\u%04" PRIx32, c);
    put_text(w, known != NULL ? known : text);
}

static void put_string(struct writer *w, struct slice s)
{
    size_t plain = 0;
    put_text(w, "\"");
    for (size_t i = 0; i < s.size;) {
        size_t n = utf8_size(s.data + i, s.size - i);
        if (n == 0) {
            w->err = TV_EMALFORMED;
            return;
        }
        if (n == 1 && short_escape(s.data[i]) == NULL && !is_escaped(w, s.data + i, n)) {
            i++;
            continue;
        }
        if (short_escape(s.data[i]) == NULL && !is_escaped(w, s.data + i, n)) {
            i += n;
            continue;
        }
        put(w, s.data + plain, i - plain);
        put_escaped(w, s.data + i, n);
        i += n;
        plain = i;
    }
    put(w, s.data + plain, s.size - plain);
    put_text(w, "\"");
}

static void put_base64(struct writer *w, struct slice s)
{
    size_t size = base64_size(s.size, true) + 2;
    uint8_t *p = buf_reserve(w->out, size);
    if (p == NULL) {
        w->err = TV_ETOOLARGE;
        return;
    }
    *p++ = '"';
    *base64_put(p, s, BASE64_STANDARD, true) = '"';
    w->out->size += size;
}

/* --- values --- */

static bool is_number_type(ProtobufCType type)
{
    return type != PROTOBUF_C_TYPE_STRING && type != PROTOBUF_C_TYPE_BYTES &&
           type != PROTOBUF_C_TYPE_MESSAGE;
}

static void put_enum(struct writer *w, const ProtobufCFieldDescriptor *f, int32_t value)
{
    char text[16];
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(f->descriptor, value);
    (void)snprintf(text, sizeof(text), "%" PRId32, value);
    if (known == NULL) {
        put_text(w, text);
        return;
    }
    put_text(w, "\"");
    put_text(w, known->name);
    put_text(w, "\"");
}

static void put_number(struct writer *w, const ProtobufCFieldDescriptor *f, uint64_t value)
{
    char text[32];
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        put_text(w, value != 0 ? "true" : "false");
        return;
    case PROTOBUF_C_TYPE_ENUM:
        put_enum(w, f, (int32_t)value);
        return;
    case PROTOBUF_C_TYPE_INT32:
        (void)snprintf(text, sizeof(text), "%" PRId32, (int32_t)value);
        break;
    case PROTOBUF_C_TYPE_UINT32:
        (void)snprintf(text, sizeof(text), "%" PRIu32, (uint32_t)value);
        break;
    case PROTOBUF_C_TYPE_INT64:
        (void)snprintf(text, sizeof(text), "\"%" PRId64 "\"", (int64_t)value);
        break;
    default:
        (void)snprintf(text, sizeof(text), "\"%" PRIu64 "\"", value);
    }
    put_text(w, text);
}

static void put_message(struct writer *w, const ProtobufCMessageDescriptor *desc, struct slice msg);

static void put_value(struct writer *w, const ProtobufCFieldDescriptor *f,
                      const struct wire_field *v)
{
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        put_message(w, f->descriptor, v->bytes);
    else if (f->type == PROTOBUF_C_TYPE_STRING)
        put_string(w, v->bytes);
    else if (f->type == PROTOBUF_C_TYPE_BYTES)
        put_base64(w, v->bytes);
    else
        put_number(w, f, v->value);
}

/* --- messages --- */

/* A list of numbers may come as one field. */
static bool is_packed(const ProtobufCFieldDescriptor *f, const struct wire_field *v)
{
    return f->label == PROTOBUF_C_LABEL_REPEATED && is_number_type(f->type) &&
           v->type == WIRE_BYTES;
}

static bool is_known(const ProtobufCFieldDescriptor *f, const struct wire_field *v)
{
    if (f == NULL)
        return false;
    return v->type == (is_number_type(f->type) ? WIRE_VARINT : WIRE_BYTES) || is_packed(f, v);
}

static bool is_default(const ProtobufCFieldDescriptor *f, const struct wire_field *v)
{
    if (f->label == PROTOBUF_C_LABEL_REPEATED || json__is_oneof(f) ||
        f->type == PROTOBUF_C_TYPE_MESSAGE)
        return false;
    return is_number_type(f->type) ? v->value == 0 : v->bytes.size == 0;
}

/* Where the text of a message is. */
struct place {
    bool any;
    const ProtobufCFieldDescriptor *list; /* that is open */
};

static void end_list(struct writer *w, struct place *at)
{
    if (at->list != NULL)
        put_text(w, "]");
    at->list = NULL;
}

static void begin_field(struct writer *w, struct place *at, const ProtobufCFieldDescriptor *f)
{
    if (at->list == f) {
        put_text(w, ",");
        return;
    }
    end_list(w, at);
    if (at->any)
        put_text(w, ",");
    at->any = true;
    put_text(w, "\"");
    put_text(w, f->name);
    put_text(w, "\":");
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        put_text(w, "[");
        at->list = f;
    }
}

static void put_packed(struct writer *w, struct place *at, const ProtobufCFieldDescriptor *f,
                       struct slice bytes)
{
    const uint8_t *p = bytes.data, *end = bytes.data + bytes.size;
    uint64_t value;
    while (p < end) {
        p = wire_varint_get(p, end, &value);
        if (p == NULL) {
            w->err = TV_EMALFORMED;
            return;
        }
        begin_field(w, at, f);
        put_number(w, f, value);
    }
}

static void put_field(struct writer *w, struct place *at, const ProtobufCFieldDescriptor *f,
                      const struct wire_field *v)
{
    if (is_default(f, v))
        return;
    if (is_packed(f, v)) {
        put_packed(w, at, f, v->bytes);
        return;
    }
    begin_field(w, at, f);
    put_value(w, f, v);
}

/* Are the fields in their order, each once that is no list, and no two of a oneof? -1: it is
 * malformed. *ret_oneof is the last of a oneof's, which is the one that counts. */
static int is_in_order(const ProtobufCMessageDescriptor *desc, struct slice msg,
                       uint32_t *ret_oneof)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field v;
    uint32_t last = 0;
    bool ordered = true;
    int rv;
    while ((rv = wire_next_field(&r, &v)) == 1) {
        const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(desc, v.number);
        if (!is_known(f, &v))
            continue;
        if (v.number < last || (v.number == last && f->label != PROTOBUF_C_LABEL_REPEATED))
            ordered = false;
        last = v.number;
        if (!json__is_oneof(f))
            continue;
        ordered = ordered && *ret_oneof == 0;
        *ret_oneof = v.number;
    }
    return rv != 0 ? -1 : ordered;
}

static void put_in_order(struct writer *w, struct place *at, const ProtobufCMessageDescriptor *desc,
                         struct slice msg)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field v;
    while (w->err == 0 && wire_next_field(&r, &v) == 1) {
        const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(desc, v.number);
        if (is_known(f, &v))
            put_field(w, at, f, &v);
    }
}

static void put_by_field(struct writer *w, struct place *at, const ProtobufCFieldDescriptor *f,
                         struct slice msg)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field v, last = {0};
    while (w->err == 0 && wire_next_field(&r, &v) == 1) {
        if (v.number != f->id || !is_known(f, &v))
            continue;
        last = v;
        if (f->label == PROTOBUF_C_LABEL_REPEATED)
            put_field(w, at, f, &v);
    }
    if (last.number != 0 && f->label != PROTOBUF_C_LABEL_REPEATED)
        put_field(w, at, f, &last);
}

static void put_message(struct writer *w, const ProtobufCMessageDescriptor *desc, struct slice msg)
{
    struct place at = {0};
    uint32_t oneof = 0;
    int ordered = is_in_order(desc, msg, &oneof);
    if (ordered < 0 || w->depth == JSON_MESSAGES_DEPTH_MAX) {
        w->err = TV_EMALFORMED;
        return;
    }
    w->depth++;
    put_text(w, "{");
    if (ordered)
        put_in_order(w, &at, desc, msg);
    for (unsigned i = 0; !ordered && i < desc->n_fields; i++)
        if (!json__is_oneof(&desc->fields[i]) || desc->fields[i].id == oneof)
            put_by_field(w, &at, &desc->fields[i], msg);
    end_list(w, &at);
    put_text(w, "}");
    w->depth--;
}

int json_write(struct slice msg, const ProtobufCMessageDescriptor *desc, enum json_style style,
               struct buf *out)
{
    struct writer w = {.out = out, .style = style};
    put_message(&w, desc, msg);
    return w.err;
}

int json_write_string(struct slice text, enum json_style style, struct buf *out)
{
    struct writer w = {.out = out, .style = style};
    put_string(&w, text);
    return w.err;
}
