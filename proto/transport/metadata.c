#include "metadata.h"

#include "proto/grpc.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    TIMEOUT_NUMBER_MAX = 99999999, /* gRPC allows eight digits */
    TIMEOUT_ROUNDED_MAX = 9999,
};

/* --- packed fields --- */

struct field_head {
    uint16_t name_size;
    uint32_t value_size;
} __attribute__((packed));

int metadata_add(struct buf *b, struct slice name, struct slice value)
{
    if (name.size > UINT16_MAX || value.size > UINT32_MAX)
        return TV_ETOOLARGE;
    struct field_head head = {(uint16_t)name.size, (uint32_t)value.size};
    size_t size = sizeof(head) + name.size + value.size;
    uint8_t *p = buf_try_reserve(b, size);
    if (p == NULL)
        return TV_ENOMEM;
    memcpy(p, &head, sizeof(head));
    memcpy(p + sizeof(head), name.data, name.size);
    if (value.size > 0)
        memcpy(p + sizeof(head) + name.size, value.data, value.size);
    b->size += size;
    return 0;
}

bool metadata_next(const struct buf *b, size_t *cursor, struct slice *ret_name,
                   struct slice *ret_value)
{
    if (*cursor >= b->size)
        return false;
    struct field_head head;
    const uint8_t *p = b->data + *cursor;
    memcpy(&head, p, sizeof(head));
    *ret_name = slice_of(p + sizeof(head), head.name_size);
    *ret_value = slice_of(p + sizeof(head) + head.name_size, head.value_size);
    *cursor += sizeof(head) + head.name_size + head.value_size;
    return true;
}

struct slice metadata_get(const struct buf *b, struct slice name)
{
    size_t cursor = 0;
    struct slice at_name;
    struct slice at_value;
    while (metadata_next(b, &cursor, &at_name, &at_value))
        if (slice_equal(at_name, name))
            return at_value;
    return SLICE_EMPTY;
}

/* --- grpc-timeout --- */

uint64_t grpc_timeout_unit_ns(uint8_t unit)
{
    switch (unit) {
    case 'H':
        return 3600 * UINT64_C(1000000000);
    case 'M':
        return 60 * UINT64_C(1000000000);
    case 'S':
        return UINT64_C(1000000000);
    case 'm':
        return 1000000;
    case 'u':
        return 1000;
    case 'n':
        return 1;
    default:
        return 0;
    }
}

static int timeout_refuse(struct slice text, struct buf *why, const char *what)
{
    buf_clear(why);
    text_format(why, "malformed grpc-timeout: transport: timeout %s: ", what);
    text_quote(text, why);
    return TV_EMALFORMED;
}

int timeout_parse(struct slice text, uint64_t *ret_ns, struct buf *why)
{
    if (text.size < 2)
        return timeout_refuse(text, why, "string is too short");
    if (text.size > 9)
        return timeout_refuse(text, why, "string is too long");
    uint64_t unit = grpc_timeout_unit_ns(text.data[text.size - 1]);
    if (unit == 0)
        return timeout_refuse(text, why, "unit is not recognized");
    uint64_t n = 0;
    for (size_t i = 0; i + 1 < text.size; i++) {
        uint8_t c = text.data[i];
        if (c < '0' || c > '9') {
            buf_clear(why);
            text_format(why, "malformed grpc-timeout: strconv.ParseUint: parsing ");
            text_quote(slice_of(text.data, text.size - 1), why);
            text_format(why, ": invalid syntax");
            return TV_EMALFORMED;
        }
        n = n * 10 + (c - '0');
    }
    *ret_ns = n > INT64_MAX / unit ? INT64_MAX : n * unit;
    return 0;
}

size_t timeout_format(uint64_t ns, char ret_text[16])
{
    static const char units[] = "numSMH";
    static const uint64_t steps[] = {1, 1000, 1000, 1000, 60, 60};
    uint64_t n = ns;
    size_t at = 0;
    while (n > TIMEOUT_ROUNDED_MAX && at + 1 < sizeof(steps) / sizeof(steps[0])) {
        at++;
        n = (n + steps[at] - 1) / steps[at];
    }
    if (n > TIMEOUT_NUMBER_MAX)
        n = TIMEOUT_NUMBER_MAX;
    return (size_t)snprintf(ret_text, 16, "%u%c", (unsigned)n, units[at]);
}

/* --- grpc-message --- */

static bool is_plain(uint8_t c)
{
    return c >= ' ' && c <= '~' && c != '%';
}

bool message_is_plain(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!is_plain(text.data[i]))
            return false;
    return true;
}

void message_encode(struct slice text, struct buf *out)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        char escaped[3] = {'%', hex[c >> 4], hex[c & 15]};
        if (is_plain(c))
            (void)buf_try_append(out, &c, 1);
        else
            (void)buf_try_append(out, escaped, sizeof(escaped));
    }
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int message_decode(struct slice text, struct buf *out)
{
    int rv = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '%' && i + 2 < text.size) {
            int high = hex_digit(text.data[i + 1]);
            int low = hex_digit(text.data[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (uint8_t)(high << 4 | low);
                i += 2;
            }
        }
        if (buf_try_append(out, &c, 1) != 0)
            rv = TV_ENOMEM;
    }
    return rv;
}

/* --- texts --- */

void text_quote(struct slice text, struct buf *out)
{
    (void)buf_try_append(out, "\"", 1);
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '"' || c == '\\')
            text_format(out, "\\%c", c);
        else if (c >= ' ' && c <= '~')
            (void)buf_try_append(out, &c, 1);
        else if (c == '\n')
            text_format(out, "\\n");
        else if (c == '\t')
            text_format(out, "\\t");
        else if (c == '\r')
            text_format(out, "\\r");
        else
            text_format(out, "\\x%02x", c);
    }
    (void)buf_try_append(out, "\"", 1);
}

void text_format(struct buf *out, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int size = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (size > 0)
        (void)buf_try_append(out, text,
                             (size_t)size < sizeof(text) ? (size_t)size : sizeof(text) - 1);
}
