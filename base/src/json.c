#include "base/json.h"

#include "base/err.h"
#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>

int json_scan_whole(struct slice text, struct slice *ret_value)
{
    struct slice value, more;
    if (json_scan(&text, &value, NULL) != JSON_VALUE ||
        json_scan(&text, &more, NULL) != JSON_NOTHING)
        return TV_EMALFORMED;
    *ret_value = value;
    return 0;
}

enum json_kind json_kind(struct slice value)
{
    switch (value.size > 0 ? value.data[0] : 'n') {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
    case 'f':
        return JSON_BOOL;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

bool json_bool(struct slice value)
{
    return value.size > 0 && value.data[0] == 't';
}

bool json_number(struct slice value, double *ret)
{
    char text[JSON_NUMBER_BYTES_MAX + 1];
    if (json_kind(value) != JSON_NUMBER || value.size > JSON_NUMBER_BYTES_MAX)
        return false;
    memcpy(text, value.data, value.size);
    text[value.size] = '\0';
    double number = strtod(text, NULL);
    if (!isfinite(number))
        return false;
    *ret = number;
    return true;
}

/* --- strings --- */

struct string_reader {
    const uint8_t *at;
    const uint8_t *end; /* of what is between the quotes */
};

/* False: it is no string. */
static bool string_begin(struct slice value, struct string_reader *ret)
{
    if (value.size < 2 || value.data[0] != '"')
        return false;
    *ret = (struct string_reader){value.data + 1, value.data + value.size - 1};
    return true;
}

static bool is_escaped_unit(const struct string_reader *r)
{
    return r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u';
}

/* \uXXXX, or two of them that are a pair. */
static uint32_t read_rune(struct string_reader *r)
{
    enum { REPLACEMENT = 0xfffd };
    uint32_t rune = json_hex4(r->at + 2) & 0xffff;
    r->at += 6;
    if (rune < 0xd800 || rune > 0xdfff)
        return rune;
    uint32_t low = rune <= 0xdbff && is_escaped_unit(r) ? json_hex4(r->at + 2) : 0;
    if (low < 0xdc00 || low > 0xdfff)
        return REPLACEMENT;
    r->at += 6;
    return 0x10000 + ((rune - 0xd800) << 10) + (low - 0xdc00);
}

/* The next bytes, 1 to UTF8_BYTES_MAX of them; 0 at the end. */
static size_t read_bytes(struct string_reader *r, uint8_t *ret)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (r->at >= r->end)
        return 0;
    if (is_escaped_unit(r))
        return utf8_put(ret, read_rune(r));
    *ret = *r->at++;
    if (*ret != '\\' || r->at == r->end)
        return 1;
    *ret = *r->at++;
    for (size_t i = 0; from[i] != '\0'; i++)
        if (*ret == (uint8_t)from[i]) {
            *ret = (uint8_t)to[i];
            break;
        }
    return 1;
}

size_t json_string_copy(struct slice value, char *ret, size_t size)
{
    struct string_reader r;
    uint8_t bytes[UTF8_BYTES_MAX];
    size_t all = 0, used = 0, n;
    if (string_begin(value, &r))
        for (; (n = read_bytes(&r, bytes)) > 0; all += n)
            if (used == all && all + n < size) {
                memcpy(ret + used, bytes, n);
                used += n;
            }
    ret[used] = '\0';
    return all;
}

bool json_string_is(struct slice value, const char *text)
{
    struct string_reader r;
    uint8_t bytes[UTF8_BYTES_MAX];
    size_t left = strlen(text), n;
    if (!string_begin(value, &r))
        return false;
    for (; (n = read_bytes(&r, bytes)) > 0; text += n, left -= n)
        if (n > left || memcmp(text, bytes, n) != 0)
            return false;
    return left == 0;
}

/* --- arrays and objects --- */

struct json_walk json_walk_of(struct slice value)
{
    enum json_kind kind = json_kind(value);
    if (kind != JSON_ARRAY && kind != JSON_OBJECT)
        return (struct json_walk){0};
    return (struct json_walk){.rest = slice_of(value.data + 1, value.size - 1),
                              .named = kind == JSON_OBJECT};
}

/* Over what stands between values: blanks, and commas or a colon. */
static void skip(struct slice *rest, uint8_t mark)
{
    while (rest->size > 0 && (json_is_blank(rest->data[0]) || rest->data[0] == mark))
        *rest = slice_of(rest->data + 1, rest->size - 1);
}

bool json_walk_next(struct json_walk *w, struct slice *ret_name, struct slice *ret_value)
{
    struct slice name = SLICE_EMPTY, value;
    skip(&w->rest, ',');
    if (w->named) {
        if (w->rest.size == 0 || w->rest.data[0] != '"' ||
            json_scan(&w->rest, &name, NULL) != JSON_VALUE)
            return false;
        skip(&w->rest, ':');
    }
    if (json_scan(&w->rest, &value, NULL) != JSON_VALUE)
        return false; /* the closing bracket is no value */
    *ret_name = name;
    *ret_value = value;
    return true;
}

struct slice json_member(struct slice object, const char *name)
{
    struct slice found, value;
    struct json_walk w = json_walk_of(object);
    while (w.named && json_walk_next(&w, &found, &value))
        if (json_string_is(found, name))
            return value;
    return SLICE_EMPTY;
}

double json_member_number(struct slice object, const char *name, double otherwise)
{
    double number;
    return json_number(json_member(object, name), &number) ? number : otherwise;
}
