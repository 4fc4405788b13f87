/* Documents: a flat list of nodes in their order; a node that opens knows where it ends. */
#include "doc.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum doc_kind {
    DOC_OBJECT,
    DOC_LIST,
    DOC_INT,
    DOC_UINT,
    DOC_ID,
    DOC_DOUBLE,
    DOC_BOOL,
    DOC_TEXT,
    DOC_BYTES,
    DOC_NULL,
};

struct doc_node {
    enum doc_kind kind;
    int number;
    const char *name;
    uint32_t end; /* of OBJECT and LIST: the first node that is not inside; 0: still open */
    union {
        int64_t number_value;
        double double_value;
        struct trivet_bytes bytes;
    } u;
};

enum { PROTOBUF_VARINT = 0, PROTOBUF_BYTES = 2 };

void doc_init(struct doc *d)
{
    *d = (struct doc){0};
}

void doc_fini(struct doc *d)
{
    mem_free(d->nodes);
    *d = (struct doc){0};
}

/* --- building --- */

static struct doc_node *add(struct doc *d, enum doc_kind kind, const char *name, int number)
{
    if (d->nodes_count == d->nodes_capacity) {
        d->nodes_capacity = d->nodes_capacity == 0 ? 32 : d->nodes_capacity * 2;
        d->nodes = mem_realloc(d->nodes, d->nodes_capacity * sizeof(d->nodes[0]));
    }
    struct doc_node *n = &d->nodes[d->nodes_count++];
    *n = (struct doc_node){.kind = kind, .name = name, .number = number};
    return n;
}

void doc_open(struct doc *d, const char *name, int number)
{
    (void)add(d, DOC_OBJECT, name, number);
}

void doc_open_list(struct doc *d, const char *name, int number)
{
    (void)add(d, DOC_LIST, name, number);
}

void doc_close(struct doc *d)
{
    uint32_t i = d->nodes_count;
    while (i > 0 && (d->nodes[i - 1].kind > DOC_LIST || d->nodes[i - 1].end != 0))
        i--;
    ASSERT(i > 0);
    d->nodes[i - 1].end = d->nodes_count;
    if (d->nodes[i - 1].kind == DOC_LIST && d->nodes[i - 1].number > 0 && i == d->nodes_count)
        d->nodes_count--; /* an empty list */
}

static bool left_out(const struct doc *d, int number, bool zero)
{
    return zero && number > 0;
}

void doc_int(struct doc *d, const char *name, int number, int64_t value)
{
    if (!left_out(d, number, value == 0))
        add(d, DOC_INT, name, number)->u.number_value = value;
}

void doc_uint(struct doc *d, const char *name, int number, uint64_t value)
{
    if (!left_out(d, number, value == 0))
        add(d, DOC_UINT, name, number)->u.number_value = (int64_t)value;
}

void doc_id(struct doc *d, const char *name, int number, uint64_t value)
{
    if (!left_out(d, number, value == 0 && !d->hex))
        add(d, DOC_ID, name, number)->u.number_value = (int64_t)value;
}

void doc_double(struct doc *d, const char *name, double value)
{
    add(d, DOC_DOUBLE, name, DOC_PLAIN)->u.double_value = value;
}

void doc_bool(struct doc *d, const char *name, int number, bool value)
{
    if (!left_out(d, number, !value))
        add(d, DOC_BOOL, name, number)->u.number_value = value;
}

void doc_text(struct doc *d, const char *name, int number, struct trivet_bytes value)
{
    if (!left_out(d, number, value.size == 0))
        add(d, DOC_TEXT, name, number)->u.bytes = value;
}

void doc_string(struct doc *d, const char *name, int number, const char *value)
{
    doc_text(d, name, number, trivet_str(value));
}

void doc_bytes(struct doc *d, const char *name, int number, struct trivet_bytes value)
{
    if (!left_out(d, number, value.size == 0))
        add(d, DOC_BYTES, name, number)->u.bytes = value;
}

void doc_null(struct doc *d, const char *name)
{
    (void)add(d, DOC_NULL, name, DOC_PLAIN);
}

void doc_header(struct doc *d, const struct trivet_header *h)
{
    doc_open(d, "header", 1);
    doc_id(d, "cluster_id", 1, h->cluster_id);
    doc_id(d, "member_id", 2, h->member_id);
    doc_int(d, "revision", 3, h->revision);
    doc_uint(d, "raft_term", 4, h->raft_term);
    doc_close(d);
}

/* --- writing: the buffers are as large as memory --- */

static void put(struct buf *out, const void *data, size_t size)
{
    int rv = buf_append(out, data, size);
    ASSERT(rv == 0);
}

static void put_text(struct buf *out, const char *text)
{
    put(out, text, strlen(text));
}

/* As Go's encoding/json: also what HTML or JavaScript would take for its own is escaped. */
static void put_quoted(struct buf *out, struct trivet_bytes text)
{
    const uint8_t *p = text.data;
    char escape[8];
    put(out, "\"", 1);
    for (size_t i = 0, n; i < text.size; i += n == 0 ? 1 : n) {
        uint32_t rune = 0;
        n = utf8_get(p + i, text.size - i, &rune);
        if (n == 0)
            put_text(out, "\\ufffd");
        else if (rune == 0x2028 || rune == 0x2029)
            put_text(out, rune == 0x2028 ? "\\u2028" : "\\u2029");
        else if (p[i] == '"' || p[i] == '\\')
            put(out, (char[]){'\\', (char)p[i]}, 2);
        else if (p[i] == '\n' || p[i] == '\r' || p[i] == '\t' || p[i] == '\b' || p[i] == '\f')
            put(out, (char[]){'\\', "btn?fr"[p[i] - '\b']}, 2);
        else if (p[i] < 0x20 || p[i] == '<' || p[i] == '>' || p[i] == '&')
            put(out, escape, (size_t)snprintf(escape, sizeof(escape), "\\u%04x", p[i]));
        else
            put(out, p + i, n);
    }
    put(out, "\"", 1);
}

static void put_double(struct buf *out, double value)
{
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, value);
        double same;
        if (sscanf(text, "%lf", &same) == 1 && same == value)
            break;
    }
    put_text(out, isfinite(value) ? text : "null");
}

static void put_scalar(struct buf *out, const struct doc *d, const struct doc_node *n, bool yaml);

/* Is it a YAML scalar that needs no quotes, and is text for every reader? */
static bool is_plain_yaml(struct trivet_bytes text)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no",
                                        "on",   "off",   "y",    "n"};
    const char *p = text.data;
    if (text.size == 0 || strchr("=+-:.0123456789", p[0]) != NULL || p[text.size - 1] == ':')
        return false;
    for (size_t i = 0; i < text.size; i++) {
        char lower = (char)(p[i] | 0x20);
        if ((lower < 'a' || lower > 'z') && (p[i] < '0' || p[i] > '9') &&
            (p[i] == '\0' || strchr("_./:+=-", p[i]) == NULL))
            return false;
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strlen(words[i]) == text.size && strncasecmp(words[i], p, text.size) == 0)
            return false;
    }
    return true;
}

static void put_string(struct buf *out, struct trivet_bytes text, bool yaml)
{
    if (yaml && is_plain_yaml(text))
        put(out, text.data, text.size);
    else
        put_quoted(out, text);
}

static void put_base64(struct buf *out, struct trivet_bytes bytes, bool yaml)
{
    struct buf text;
    buf_init(&text, SIZE_MAX);
    base64_encode(slice_of(bytes.data, bytes.size), BASE64_STANDARD, &text);
    put_string(out, trivet_bytes(text.data, text.size), yaml);
    buf_fini(&text);
}

static void put_scalar(struct buf *out, const struct doc *d, const struct doc_node *n, bool yaml)
{
    char text[32];
    switch (n->kind) {
    case DOC_ID:
        if (d->hex) {
            (void)snprintf(text, sizeof(text), "\"%" PRIx64 "\"", (uint64_t)n->u.number_value);
            put_text(out, text);
            return;
        }
        __attribute__((fallthrough));
    case DOC_UINT:
        (void)snprintf(text, sizeof(text), "%" PRIu64, (uint64_t)n->u.number_value);
        put_text(out, text);
        return;
    case DOC_INT:
        (void)snprintf(text, sizeof(text), "%" PRId64, n->u.number_value);
        put_text(out, text);
        return;
    case DOC_DOUBLE:
        put_double(out, n->u.double_value);
        return;
    case DOC_BOOL:
        put_text(out, n->u.number_value != 0 ? "true" : "false");
        return;
    case DOC_TEXT:
        put_string(out, n->u.bytes, yaml);
        return;
    case DOC_BYTES:
        put_base64(out, n->u.bytes, yaml);
        return;
    case DOC_NULL:
    case DOC_OBJECT:
    case DOC_LIST:
        break;
    }
    put_text(out, "null");
}

static uint32_t next_of(const struct doc *d, uint32_t i)
{
    const struct doc_node *n = &d->nodes[i];
    return n->kind <= DOC_LIST ? n->end : i + 1;
}

static void json_inside(const struct doc *d, uint32_t from, uint32_t to, bool list, struct buf *out)
{
    put(out, list ? "[" : "{", 1);
    for (uint32_t i = from; i < to; i = next_of(d, i)) {
        const struct doc_node *n = &d->nodes[i];
        if (i != from)
            put(out, ",", 1);
        if (!list) {
            put_quoted(out, trivet_str(n->name));
            put(out, ":", 1);
        }
        if (n->kind <= DOC_LIST)
            json_inside(d, i + 1, n->end, n->kind == DOC_LIST, out);
        else
            put_scalar(out, d, n, false);
    }
    put(out, list ? "]" : "}", 1);
}

void doc_write_json(const struct doc *d, struct buf *out)
{
    json_inside(d, 0, d->nodes_count, d->is_list, out);
}

static void indent(struct buf *out, uint32_t depth)
{
    for (uint32_t i = 0; i < depth; i++)
        put(out, "  ", 2);
}

/* `open`: the cursor stands behind "- ", where the first line of an object may begin. */
static void yaml_inside(const struct doc *d, uint32_t from, uint32_t to, bool list, uint32_t depth,
                        bool open, struct buf *out)
{
    for (uint32_t i = from; i < to; i = next_of(d, i)) {
        const struct doc_node *n = &d->nodes[i];
        bool branch = n->kind <= DOC_LIST;
        if (!open)
            indent(out, depth);
        open = false;
        put_text(out, list ? "-" : n->name);
        put_text(out, list ? "" : ":");
        if (!branch || n->end == i + 1) {
            put(out, " ", 1);
            if (branch)
                put_text(out, n->kind == DOC_LIST ? "[]" : "{}");
            else
                put_scalar(out, d, n, true);
            put(out, "\n", 1);
            continue;
        }
        bool same_line = list && n->kind == DOC_OBJECT;
        put_text(out, same_line ? " " : "\n");
        uint32_t inner = !list && n->kind == DOC_LIST ? depth : depth + 1;
        yaml_inside(d, i + 1, n->end, n->kind == DOC_LIST, inner, same_line, out);
    }
}

void doc_write_yaml(const struct doc *d, struct buf *out)
{
    if (d->nodes_count == 0)
        put_text(out, d->is_list ? "[]\n" : "{}\n");
    yaml_inside(d, 0, d->nodes_count, d->is_list, 0, false, out);
}

static void put_varint(struct buf *out, uint64_t value)
{
    uint8_t bytes[10];
    size_t size = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[size++] = (uint8_t)(value | 0x80);
    bytes[size++] = (uint8_t)value;
    put(out, bytes, size);
}

static void put_field_bytes(struct buf *out, int number, const void *data, size_t size)
{
    put_varint(out, (uint64_t)number << 3 | PROTOBUF_BYTES);
    put_varint(out, size);
    put(out, data, size);
}

static void protobuf_inside(const struct doc *d, uint32_t from, uint32_t to, int list_number,
                            struct buf *out)
{
    for (uint32_t i = from; i < to; i = next_of(d, i)) {
        const struct doc_node *n = &d->nodes[i];
        int number = list_number != 0 ? list_number : n->number;
        if (number == DOC_PLAIN)
            continue;
        if (number == DOC_THROUGH) {
            protobuf_inside(d, i + 1, n->end, 0, out);
        } else if (n->kind == DOC_LIST) {
            protobuf_inside(d, i + 1, n->end, number, out);
        } else if (n->kind == DOC_OBJECT) {
            struct buf inside;
            buf_init(&inside, SIZE_MAX);
            protobuf_inside(d, i + 1, n->end, 0, &inside);
            put_field_bytes(out, number, inside.data, inside.size);
            buf_fini(&inside);
        } else if (n->kind == DOC_TEXT || n->kind == DOC_BYTES) {
            put_field_bytes(out, number, n->u.bytes.data, n->u.bytes.size);
        } else {
            put_varint(out, (uint64_t)number << 3 | PROTOBUF_VARINT);
            put_varint(out, (uint64_t)n->u.number_value);
        }
    }
}

void doc_write_protobuf(const struct doc *d, struct buf *out)
{
    protobuf_inside(d, 0, d->nodes_count, 0, out);
}

size_t doc_protobuf_size(const struct doc *d)
{
    struct buf out;
    buf_init(&out, SIZE_MAX);
    doc_write_protobuf(d, &out);
    size_t size = out.size;
    buf_fini(&out);
    return size;
}
