#include "fields.h"

#include <string.h>

enum { BIT_REQUEST = 1 << FIELD_METHOD | 1 << FIELD_SCHEME | 1 << FIELD_PATH };

static bool is(struct slice name, const char *text)
{
    return memcmp(name.data, text, name.size) == 0;
}

enum field field_of(struct slice name)
{
    switch (name.size) {
    case 2:
        return is(name, "te") ? FIELD_TE : FIELD_OTHER;
    case 5:
        return is(name, ":path") ? FIELD_PATH : FIELD_OTHER;
    case 7:
        return is(name, ":method")   ? FIELD_METHOD
               : is(name, ":scheme") ? FIELD_SCHEME
               : is(name, ":status") ? FIELD_STATUS
                                     : FIELD_OTHER;
    case 10:
        return is(name, ":authority")   ? FIELD_AUTHORITY
               : is(name, "user-agent") ? FIELD_USER_AGENT
                                        : FIELD_OTHER;
    case 11:
        return is(name, "grpc-status") ? FIELD_GRPC_STATUS : FIELD_OTHER;
    case 12:
        return is(name, "content-type")   ? FIELD_CONTENT_TYPE
               : is(name, "grpc-timeout") ? FIELD_TIMEOUT
               : is(name, "grpc-message") ? FIELD_GRPC_MESSAGE
                                          : FIELD_OTHER;
    case 13:
        return is(name, "grpc-encoding") ? FIELD_ENCODING : FIELD_OTHER;
    default:
        return FIELD_OTHER;
    }
}

/* RFC 9110, 5.6.2: a token; and of letters only the small ones. */
static bool name_is_valid(struct slice name)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        bool letter = c >= 'a' && c <= 'z', digit = c >= '0' && c <= '9';
        if (!letter && !digit && (c == '\0' || strchr(marks, c) == NULL))
            return false;
    }
    return name.size > 0;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* No byte of the eight is a control character. (Hacker's Delight: tests for a byte below n.) */
static bool eight_are_plain(uint64_t x)
{
    const uint64_t ones = UINT64_MAX / 255, tops = ones * 0x80;
    uint64_t del = x ^ ones * 0x7f;
    return ((((x - ones * ' ') & ~x) | ((del - ones) & ~del)) & tops) == 0;
}

static bool has_control(struct slice value)
{
    for (size_t i = 0; i < value.size; i++)
        if ((value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f)
            return true;
    return false;
}

static bool is_plain(struct slice value)
{
    uint64_t x;
    if (value.size < 8)
        return !has_control(value);
    for (size_t i = 0; i + 8 < value.size; i += 8) {
        memcpy(&x, value.data + i, 8);
        if (!eight_are_plain(x))
            return !has_control(value);
    }
    memcpy(&x, value.data + value.size - 8, 8);
    return eight_are_plain(x) || !has_control(value);
}

static bool value_is_valid(struct slice value)
{
    return value.size == 0 ||
           (is_plain(value) && !is_blank(value.data[0]) && !is_blank(value.data[value.size - 1]));
}

/* RFC 9113, 8.2.2: they belong to a connection of HTTP/1.1. */
static bool is_of_connection(struct slice name)
{
    static const char *const names[] = {"connection", "keep-alive", "proxy-connection",
                                        "transfer-encoding", "upgrade"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (slice_equal(name, slice_of_string(names[i])))
            return true;
    return false;
}

static bool is_pseudo(enum field field)
{
    return field >= FIELD_METHOD && field <= FIELD_STATUS;
}

static bool field_is_valid(struct field_block *b, enum field field, struct slice name,
                           struct slice value)
{
    if (is_pseudo(field)) {
        bool again = (b->pseudo_seen & 1u << field) != 0;
        b->pseudo_seen |= 1u << field;
        return !again && !b->regular_seen && value_is_valid(value) &&
               (value.size > 0 || field == FIELD_AUTHORITY);
    }
    b->regular_seen = true;
    if (field == FIELD_TE)
        return slice_equal(value, SLICE_LITERAL("trailers"));
    return value_is_valid(value) &&
           (field != FIELD_OTHER || (name_is_valid(name) && !is_of_connection(name)));
}

bool field_block_add(struct field_block *b, enum field field, struct slice name, struct slice value)
{
    if (!field_is_valid(b, field, name, value))
        b->malformed = true;
    return !b->malformed;
}

bool field_block_is_request(const struct field_block *b)
{
    return !b->malformed && (b->pseudo_seen & BIT_REQUEST) == BIT_REQUEST &&
           (b->pseudo_seen & 1 << FIELD_STATUS) == 0;
}

bool field_block_is_response(const struct field_block *b)
{
    return !b->malformed && b->pseudo_seen == 1 << FIELD_STATUS;
}

bool field_block_is_trailers(const struct field_block *b)
{
    return !b->malformed && b->pseudo_seen == 0;
}
