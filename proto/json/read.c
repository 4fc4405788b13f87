/* JSON to messages. The text is known to be JSON (json_next_value()); what can be wrong still are
 * strings that are no Unicode, and values that are not what a field wants.
 *
 * A submessage's size is known when it ends. So five bytes are left for it, the sizes are noted,
 * and one walk at the end moves everything together: `marks` are in the order in which the
 * submessages begin. */
#include "internal.h"

#include "proto/wirefield.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SIZE_ROOM_BYTES = 5,
    FIELDS_MAX = 64,        /* of a message: what was seen is a bit each */
    NUMBER_DIGITS_MAX = 20, /* of the largest uint64 */
};

struct mark {
    size_t at;   /* in `out`: of the room */
    size_t size; /* of the submessage, in the end */
};

struct reader {
    const uint8_t *begin;
    const uint8_t *at;
    const uint8_t *end;
    struct buf *out;
    struct buf *err;
    struct buf text; /* a string without its escapes */
    struct buf marks;
    size_t saved_bytes; /* by how much all that is marked and ended shrinks */
    uint32_t depth;
};

enum token_kind { TOKEN_WORD, TOKEN_NUMBER, TOKEN_STRING, TOKEN_BRACKET };

struct token {
    enum token_kind kind;
    struct slice raw;
    struct slice text; /* of a string; until the next one */
};

/* --- complaints --- */

/* Go's programs have either of two blanks behind that word, so that nobody relies on it; etcd
 * 3.7.1's has this one. */
#define PROTO "proto:\xc2\xa0"

static void complain_at(struct reader *r, const uint8_t *at, const char *what)
{
    size_t line = 1, column = 1;
    for (const uint8_t *c = r->begin; c < at; c++) {
        if (*c == '\n') {
            line++;
            column = 1;
        } else if ((*c & 0xc0) != 0x80) {
            column++;
        }
    }
    json__format(r->err, PROTO "%s(line %zu:%zu): ", what, line, column);
}

static int unexpected(struct reader *r, const struct token *t)
{
    complain_at(r, t->raw.data, "syntax error ");
    json__format(r->err, "unexpected token ");
    (void)buf_append(r->err, t->raw.data, t->raw.size);
    return TV_EMALFORMED;
}

/* --- tokens --- */

static void skip_blanks(struct reader *r)
{
    while (r->at < r->end && json_is_blank(*r->at))
        r->at++;
}

/* To the next thing that says something. */
static void skip_to_next(struct reader *r)
{
    while (r->at < r->end && (json_is_blank(*r->at) || *r->at == ',' || *r->at == ':'))
        r->at++;
}

/* Behind the first half of a pair: the second, or the error that Go gives, which looks at six
 * bytes, whatever they are. */
static int read_second_half(struct reader *r, const uint8_t *token, const uint8_t **at, uint32_t *c)
{
    const uint8_t *p = *at;
    uint32_t low = 0;
    size_t left = (size_t)(r->end - p);
    if (left < 6) {
        json__format(r->err, PROTO "unexpected EOF");
        return TV_EMALFORMED;
    }
    /* Within the string: then the scanner has seen that these are digits. */
    bool escape = p[0] == '\\' && p[1] == 'u';
    if (escape)
        low = json_hex4(p + 2);
    if (!escape || *c >= 0xdc00 || low < 0xdc00 || low > 0xdfff) {
        complain_at(r, token, "syntax error ");
        json__format(r->err, "invalid escape code ");
        json__quote(slice_of(p, 6), r->err);
        json__format(r->err, " in string");
        return TV_EMALFORMED;
    }
    *c = 0x10000 + ((*c - 0xd800) << 10) + (low - 0xdc00);
    *at = p + 6;
    return 0;
}

static int read_escape(struct reader *r, const uint8_t *token, const uint8_t **at)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const uint8_t *p = *at + 1;
    if (*p != 'u') {
        (void)buf_append(&r->text, &to[strchr(from, *p) - from], 1);
        *at = p + 1;
        return 0;
    }
    uint32_t c = json_hex4(p + 1);
    *at = p + 5;
    if (c >= 0xd800 && c <= 0xdfff && read_second_half(r, token, at, &c) != 0)
        return TV_EMALFORMED;
    uint8_t text[UTF8_BYTES_MAX];
    (void)buf_append(&r->text, text, utf8_put(text, c));
    return 0;
}

static int read_string(struct reader *r, struct token *t)
{
    const uint8_t *begin = r->at + 1;
    const uint8_t *p = begin;
    bool escaped = false;
    buf_clear(&r->text);
    while (*p != '"') {
        if (*p == '\\') {
            if (!escaped)
                (void)buf_append(&r->text, begin, (size_t)(p - begin));
            escaped = true;
            if (read_escape(r, r->at, &p) != 0)
                return TV_EMALFORMED;
            continue;
        }
        size_t n = utf8_size(p, (size_t)(r->end - p));
        if (n == 0) {
            complain_at(r, r->at, "syntax error ");
            json__format(r->err, "invalid UTF-8 in string");
            return TV_EMALFORMED;
        }
        if (escaped)
            (void)buf_append(&r->text, p, n);
        p += n;
    }
    t->kind = TOKEN_STRING;
    t->text = escaped ? buf_slice(&r->text) : slice_of(begin, (size_t)(p - begin));
    t->raw = slice_of(r->at, (size_t)(p + 1 - r->at));
    r->at = p + 1;
    return 0;
}

static bool ends_word(uint8_t c)
{
    return json_is_blank(c) || c == ',' || c == '}' || c == ']' || c == ':';
}

static int next_token(struct reader *r, struct token *t)
{
    skip_to_next(r);
    ASSERT(r->at < r->end);
    uint8_t c = *r->at;
    if (c == '"')
        return read_string(r, t);
    const uint8_t *begin = r->at++;
    t->kind = TOKEN_BRACKET;
    if (strchr("{}[]", c) == NULL) {
        t->kind = c == '-' || (c >= '0' && c <= '9') ? TOKEN_NUMBER : TOKEN_WORD;
        while (r->at < r->end && !ends_word(*r->at))
            r->at++;
    }
    t->raw = slice_of(begin, (size_t)(r->at - begin));
    return 0;
}

static bool is_bracket(const struct token *t, char bracket)
{
    return t->kind == TOKEN_BRACKET && t->raw.data[0] == (uint8_t)bracket;
}

static bool is_next(struct reader *r, char c)
{
    skip_to_next(r);
    return *r->at == (uint8_t)c;
}

/* Over a value that nobody wants. Its strings must be strings all the same. */
static int skip_value(struct reader *r)
{
    struct token t;
    uint32_t depth = 0;
    do {
        if (next_token(r, &t) != 0)
            return TV_EMALFORMED;
        if (is_bracket(&t, '{') || is_bracket(&t, '['))
            depth++;
        else if (is_bracket(&t, '}') || is_bracket(&t, ']'))
            depth--;
    } while (depth > 0);
    return 0;
}

/* --- numbers --- */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static struct slice cut_digits(struct slice *s)
{
    struct slice digits = slice_of(s->data, 0);
    while (digits.size < s->size && is_digit(s->data[digits.size]))
        digits.size++;
    *s = slice_of(s->data + digits.size, s->size - digits.size);
    return digits;
}

/* The parts of a JSON number; false when `s` is none. */
struct number {
    bool negative;
    bool exponent_negative;
    struct slice integer;  /* without a leading 0 */
    struct slice fraction; /* without 0s behind */
    struct slice exponent;
};

static bool split_number(struct slice s, struct number *ret)
{
    *ret = (struct number){0};
    if (s.size > 0 && s.data[0] == '-') {
        ret->negative = true;
        s = slice_of(s.data + 1, s.size - 1);
    }
    ret->integer = cut_digits(&s);
    if (ret->integer.size == 0 || (ret->integer.size > 1 && ret->integer.data[0] == '0'))
        return false;
    if (ret->integer.data[0] == '0')
        ret->integer.size = 0;
    if (s.size > 0 && s.data[0] == '.') {
        s = slice_of(s.data + 1, s.size - 1);
        ret->fraction = cut_digits(&s);
        if (ret->fraction.size == 0)
            return false;
    }
    while (ret->fraction.size > 0 && ret->fraction.data[ret->fraction.size - 1] == '0')
        ret->fraction.size--;
    if (s.size > 0 && (s.data[0] | 32) == 'e') {
        s = slice_of(s.data + 1, s.size - 1);
        if (s.size > 0 && (s.data[0] == '-' || s.data[0] == '+')) {
            ret->exponent_negative = s.data[0] == '-';
            s = slice_of(s.data + 1, s.size - 1);
        }
        ret->exponent = cut_digits(&s);
        if (ret->exponent.size == 0)
            return false;
    }
    return s.size == 0;
}

static bool parse_exponent(const struct number *n, int64_t *ret)
{
    int64_t e = 0;
    for (size_t i = 0; i < n->exponent.size; i++) {
        e = e * 10 + (n->exponent.data[i] - '0');
        if (e > (int64_t)INT32_MAX + n->exponent_negative)
            return false;
    }
    *ret = n->exponent_negative ? -e : e;
    return true;
}

/* The digits of a number that is an integer; false when it is none, or has too many. */
static bool integer_digits(const struct number *n, char ret[NUMBER_DIGITS_MAX + 1],
                           size_t *ret_size)
{
    int64_t exponent, whole = (int64_t)n->integer.size, part = (int64_t)n->fraction.size;
    *ret_size = 0;
    if (whole == 0 && part == 0)
        return true;
    if (!parse_exponent(n, &exponent) || part > (exponent > 0 ? exponent : 0))
        return false;
    int64_t size = whole + exponent;
    if (size < 0 || size > NUMBER_DIGITS_MAX)
        return false;
    for (int64_t i = size; i < whole; i++)
        if (n->integer.data[i] != '0')
            return false;
    for (int64_t i = 0; i < size; i++)
        ret[i] = (char)(i < whole          ? n->integer.data[i]
                        : i < whole + part ? n->fraction.data[i - whole]
                                           : '0');
    *ret_size = (size_t)size;
    return true;
}

static bool parse_magnitude(struct slice raw, bool *ret_negative, uint64_t *ret)
{
    struct number n;
    char digits[NUMBER_DIGITS_MAX + 1];
    size_t size;
    if (!split_number(raw, &n) || !integer_digits(&n, digits, &size))
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(digits[i] - '0'), &value))
            return false;
    *ret_negative = n.negative && size > 0;
    *ret = value;
    return true;
}

/* The two's complement of a number that fits. */
static bool parse_integer(struct slice raw, bool is_signed, uint32_t bits, uint64_t *ret)
{
    bool negative;
    uint64_t value;
    if (!parse_magnitude(raw, &negative, &value))
        return false;
    uint64_t half = UINT64_C(1) << (bits - 1);
    if (!is_signed) {
        /* As strconv.ParseUint(), which takes no sign: "-0" has lost its one before. */
        if (negative || (bits == 32 && value > UINT32_MAX))
            return false;
        *ret = value;
        return true;
    }
    if (value > (negative ? half : half - 1))
        return false;
    *ret = negative ? 0 - value : value;
    return true;
}

/* --- fields --- */

/* "key_count" is "keyCount". */
static bool is_camel_of(struct slice name, const char *field_name)
{
    size_t at = 0;
    bool upper = false;
    for (const char *c = field_name; *c != '\0'; c++) {
        if (*c == '_') {
            upper = true;
            continue;
        }
        uint8_t want = (uint8_t)(upper && *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
        if (at == name.size || name.data[at++] != want)
            return false;
        upper = false;
    }
    return at == name.size;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *desc,
                                                  struct slice name)
{
    for (unsigned i = 0; i < desc->n_fields; i++)
        if (is_camel_of(name, desc->fields[i].name))
            return &desc->fields[i];
    for (unsigned i = 0; i < desc->n_fields; i++)
        if (slice_equal(name, slice_of_string(desc->fields[i].name)))
            return &desc->fields[i];
    return NULL;
}

static const char *kind_name(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
        return "int32";
    case PROTOBUF_C_TYPE_INT64:
        return "int64";
    case PROTOBUF_C_TYPE_UINT32:
        return "uint32";
    case PROTOBUF_C_TYPE_UINT64:
        return "uint64";
    case PROTOBUF_C_TYPE_BOOL:
        return "bool";
    case PROTOBUF_C_TYPE_ENUM:
        return "enum";
    case PROTOBUF_C_TYPE_BYTES:
        return "bytes";
    default:
        return "string";
    }
}

/* protobuf-c forgets their names; etcd's messages have one each. */
static const char *oneof_name(const ProtobufCMessageDescriptor *desc)
{
    static const char *const names[][2] = {
        {"etcdserverpb.Compare", "target_union"},
        {"etcdserverpb.RequestOp", "request"},
        {"etcdserverpb.ResponseOp", "response"},
        {"etcdserverpb.WatchRequest", "request_union"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(desc->name, names[i][0]) == 0)
            return names[i][1];
    return "oneof";
}

static int invalid_value(struct reader *r, const ProtobufCFieldDescriptor *f, const struct token *t)
{
    char camel[64];
    size_t size = 0;
    for (const char *c = f->name; *c != '\0' && size + 1 < sizeof(camel); c++) {
        if (*c == '_')
            continue;
        bool upper = c > f->name && c[-1] == '_' && *c >= 'a' && *c <= 'z';
        camel[size++] = (char)(upper ? *c - 'a' + 'A' : *c);
    }
    camel[size] = '\0';
    complain_at(r, t->raw.data, "");
    json__format(r->err, "invalid value for %s field %s: ", kind_name(f->type), camel);
    (void)buf_append(r->err, t->raw.data, t->raw.size);
    return TV_EMALFORMED;
}

/* --- putting --- */

static void put_varint_field(struct reader *r, const ProtobufCFieldDescriptor *f, uint64_t value)
{
    bool is_default = value == 0 && f->label != PROTOBUF_C_LABEL_REPEATED && !json__is_oneof(f);
    if (is_default)
        return;
    uint8_t *p = buf_reserve(r->out, 2 * WIRE_VARINT_SIZE_MAX);
    p = wire_varint_put(wire_tag_put(p, f->id, WIRE_VARINT), value);
    r->out->size = (size_t)(p - r->out->data);
}

static void put_bytes_field(struct reader *r, const ProtobufCFieldDescriptor *f, struct slice bytes)
{
    if (bytes.size == 0 && f->label != PROTOBUF_C_LABEL_REPEATED && !json__is_oneof(f))
        return;
    uint8_t *p = buf_reserve(r->out, wire_item_size(f->id, bytes.size));
    r->out->size = (size_t)(wire_item_put(p, f->id, bytes) - r->out->data);
}

/* --- values --- */

static bool read_bool(struct reader *r, const ProtobufCFieldDescriptor *f, const struct token *t)
{
    bool is_true = slice_equal(t->raw, SLICE_LITERAL("true"));
    if (t->kind != TOKEN_WORD || (!is_true && !slice_equal(t->raw, SLICE_LITERAL("false"))))
        return false;
    put_varint_field(r, f, is_true);
    return true;
}

static bool read_integer(struct reader *r, const ProtobufCFieldDescriptor *f, const struct token *t)
{
    bool is_signed = f->type == PROTOBUF_C_TYPE_INT32 || f->type == PROTOBUF_C_TYPE_INT64;
    bool is_wide = f->type == PROTOBUF_C_TYPE_INT64 || f->type == PROTOBUF_C_TYPE_UINT64;
    uint64_t value;
    if (t->kind != TOKEN_NUMBER && t->kind != TOKEN_STRING)
        return false;
    if (!parse_integer(t->kind == TOKEN_STRING ? t->text : t->raw, is_signed, is_wide ? 64 : 32,
                       &value))
        return false;
    put_varint_field(r, f, value);
    return true;
}

/* A name that is not known is no error, and no value. */
static bool read_enum(struct reader *r, const ProtobufCFieldDescriptor *f, const struct token *t)
{
    const ProtobufCEnumDescriptor *desc = f->descriptor;
    uint64_t value;
    if (t->kind == TOKEN_NUMBER) {
        if (!parse_integer(t->raw, true, 32, &value))
            return false;
        put_varint_field(r, f, value);
        return true;
    }
    if (t->kind != TOKEN_STRING)
        return false;
    for (unsigned i = 0; i < desc->n_values; i++)
        if (slice_equal(t->text, slice_of_string(desc->values[i].name)))
            put_varint_field(r, f, (uint64_t)(int64_t)desc->values[i].value);
    return true;
}

static bool read_bytes(struct reader *r, const ProtobufCFieldDescriptor *f, const struct token *t)
{
    if (t->kind != TOKEN_STRING)
        return false;
    size_t size;
    struct slice text = t->text;
    bool url = text.size > 0 && (memchr(text.data, '-', text.size) != NULL ||
                                 memchr(text.data, '_', text.size) != NULL);
    /* The base64 may lie in r->text, and comes out shorter: decode it over itself there. */
    if (text.data != r->text.data || text.size == 0) {
        buf_clear(&r->text);
        if (buf_reserve(&r->text, text.size + 1) == NULL)
            return false;
    }
    /* As protojson: padding is wanted when the text's size is a multiple of 4, and not allowed
     * else. */
    if (base64_get(text, url ? BASE64_URL : BASE64_STANDARD, text.size % 4 == 0, r->text.data,
                   &size) != 0)
        return false;
    put_bytes_field(r, f, slice_of(r->text.data, size));
    return true;
}

static int read_scalar(struct reader *r, const ProtobufCFieldDescriptor *f)
{
    struct token t;
    bool ok;
    if (next_token(r, &t) != 0)
        return TV_EMALFORMED;
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        ok = read_bool(r, f, &t);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        ok = read_enum(r, f, &t);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        ok = read_bytes(r, f, &t);
        break;
    case PROTOBUF_C_TYPE_STRING:
        ok = t.kind == TOKEN_STRING;
        if (ok)
            put_bytes_field(r, f, t.text);
        break;
    default:
        ok = read_integer(r, f, &t);
    }
    return ok ? 0 : invalid_value(r, f, &t);
}

static int read_message(struct reader *r, const ProtobufCMessageDescriptor *desc);

static int read_submessage(struct reader *r, const ProtobufCFieldDescriptor *f)
{
    struct mark mark = {0};
    uint8_t *p = buf_reserve(r->out, WIRE_VARINT_SIZE_MAX + SIZE_ROOM_BYTES);
    p = wire_tag_put(p, f->id, WIRE_BYTES);
    mark.at = (size_t)(p - r->out->data);
    r->out->size = mark.at + SIZE_ROOM_BYTES;
    size_t mark_at = r->marks.size, saved_before = r->saved_bytes;
    (void)buf_append(&r->marks, &mark, sizeof(mark));
    int rv = read_message(r, f->descriptor);
    if (rv != 0)
        return rv;
    mark.size = r->out->size - mark.at - SIZE_ROOM_BYTES - (r->saved_bytes - saved_before);
    r->saved_bytes += SIZE_ROOM_BYTES - wire_varint_size(mark.size);
    memcpy(r->marks.data + mark_at, &mark, sizeof(mark));
    return 0;
}

static int read_one(struct reader *r, const ProtobufCFieldDescriptor *f)
{
    return json__is_scalar(f) ? read_scalar(r, f) : read_submessage(r, f);
}

static int read_list(struct reader *r, const ProtobufCFieldDescriptor *f)
{
    struct token t;
    if (next_token(r, &t) != 0)
        return TV_EMALFORMED;
    if (!is_bracket(&t, '['))
        return unexpected(r, &t);
    while (!is_next(r, ']'))
        if (read_one(r, f) != 0)
            return TV_EMALFORMED;
    r->at++;
    return 0;
}

/* What the fields of one message have been. */
struct seen {
    uint64_t fields;
    bool oneof;
};

static int read_field(struct reader *r, const ProtobufCMessageDescriptor *desc,
                      const struct token *name, struct seen *seen)
{
    const ProtobufCFieldDescriptor *f = find_field(desc, name->text);
    if (f == NULL)
        return skip_value(r);
    uint64_t bit = UINT64_C(1) << (f - desc->fields);
    if ((seen->fields & bit) != 0) {
        complain_at(r, name->raw.data, "");
        json__format(r->err, "duplicate field ");
        (void)buf_append(r->err, name->raw.data, name->raw.size);
        return TV_EMALFORMED;
    }
    seen->fields |= bit;
    if (is_next(r, 'n'))
        return skip_value(r);
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return read_list(r, f);
    if (json__is_oneof(f) && seen->oneof) {
        complain_at(r, name->raw.data, "");
        json__format(r->err, "error parsing ");
        (void)buf_append(r->err, name->raw.data, name->raw.size);
        json__format(r->err, ", oneof %s.%s is already set", desc->name, oneof_name(desc));
        return TV_EMALFORMED;
    }
    seen->oneof = seen->oneof || json__is_oneof(f);
    return read_one(r, f);
}

static int read_message(struct reader *r, const ProtobufCMessageDescriptor *desc)
{
    struct token t;
    struct seen seen = {0};
    ASSERT(desc->n_fields <= FIELDS_MAX);
    if (r->depth == JSON_MESSAGES_DEPTH_MAX) {
        json__format(r->err, PROTO "exceeded max recursion depth");
        return TV_EMALFORMED;
    }
    if (next_token(r, &t) != 0)
        return TV_EMALFORMED;
    if (!is_bracket(&t, '{'))
        return unexpected(r, &t);
    r->depth++;
    while (!is_next(r, '}')) {
        if (next_token(r, &t) != 0 || read_field(r, desc, &t, &seen) != 0)
            return TV_EMALFORMED;
    }
    r->at++;
    r->depth--;
    return 0;
}

/* Put the sizes where there is room for them, and close the gaps. */
static void settle(struct reader *r, size_t begin)
{
    size_t marks_count = r->marks.size / sizeof(struct mark);
    uint8_t *data = r->out->data;
    size_t from = begin, to = begin;
    for (size_t i = 0; i < marks_count; i++) {
        struct mark m;
        memcpy(&m, r->marks.data + i * sizeof(m), sizeof(m));
        memmove(data + to, data + from, m.at - from);
        to += m.at - from;
        to = (size_t)(wire_varint_put(data + to, m.size) - data);
        from = m.at + SIZE_ROOM_BYTES;
    }
    if (marks_count == 0)
        return;
    memmove(data + to, data + from, r->out->size - from);
    r->out->size = to + r->out->size - from;
}

int json_read(struct slice value, const ProtobufCMessageDescriptor *desc, struct buf *out,
              struct buf *err)
{
    struct reader r = {.begin = value.data,
                       .at = value.data,
                       .end = value.data + value.size,
                       .out = out,
                       .err = err};
    size_t begin = out->size;
    buf_init(&r.text, SIZE_MAX);
    buf_init(&r.marks, SIZE_MAX);
    skip_blanks(&r);
    int rv = read_message(&r, desc);
    if (rv == 0)
        settle(&r, begin);
    buf_fini(&r.text);
    buf_fini(&r.marks);
    return rv;
}

static bool supports(const ProtobufCMessageDescriptor *desc, uint32_t depth)
{
    enum { NESTING_MAX = 8 }; /* of kinds; what holds itself ends there */
    if (desc->n_fields > FIELDS_MAX)
        return false;
    for (unsigned i = 0; i < desc->n_fields && depth < NESTING_MAX; i++) {
        const ProtobufCFieldDescriptor *f = &desc->fields[i];
        bool known = strcmp(kind_name(f->type), "string") != 0 ||
                     f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE;
        if (!known || f->label == PROTOBUF_C_LABEL_REQUIRED)
            return false;
        if (f->type == PROTOBUF_C_TYPE_MESSAGE && !supports(f->descriptor, depth + 1))
            return false;
    }
    return true;
}

bool json_supports(const ProtobufCMessageDescriptor *desc)
{
    return supports(desc, 0);
}
