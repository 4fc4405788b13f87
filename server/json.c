#include "server/json.h"

#include "base/assert.h"
#include "base/err.h"

#include <ctype.h>
#include <stdlib.h>

enum { DEPTH_MAX = 64, NUMBER_BYTES_MAX = 64 };

void json_reader_init(struct json_reader *r, struct slice text)
{
    *r = (struct json_reader){.at = text.data, .end = text.data + text.size};
    buf_init(&r->text, 4 * text.size + 16);
}

void json_reader_fini(struct json_reader *r)
{
    buf_fini(&r->text);
}

static void skip_space(struct json_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

static bool take(struct json_reader *r, char c)
{
    skip_space(r);
    if (r->at == r->end || *r->at != (uint8_t)c)
        return false;
    r->at++;
    return true;
}

/* --- strings --- */

static bool put_rune(struct json_reader *r, uint32_t rune)
{
    uint8_t b[4];
    size_t size = rune < 0x80 ? 1 : rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size; i-- > 1; rune >>= 6)
        b[i] = (uint8_t)(0x80 | (rune & 0x3f));
    b[0] = (uint8_t)(lead[size] | rune);
    return buf_append(&r->text, b, size) == 0;
}

static bool take_hex4(struct json_reader *r, uint32_t *ret)
{
    uint32_t value = 0;
    if (r->end - r->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        uint8_t c = *r->at++;
        if (!isxdigit(c))
            return false;
        value = value << 4 | (uint32_t)(isdigit(c) ? c - '0' : (tolower(c) - 'a') + 10);
    }
    *ret = value;
    return true;
}

/* Behind "\u". Half of a pair alone is not a character. */
static bool take_unicode(struct json_reader *r)
{
    enum { REPLACEMENT = 0xfffd };
    uint32_t rune, low;
    if (!take_hex4(r, &rune))
        return false;
    if (rune < 0xd800 || rune > 0xdfff)
        return put_rune(r, rune);
    const uint8_t *before = r->at;
    if (rune <= 0xdbff && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u') {
        r->at += 2;
        if (!take_hex4(r, &low))
            return false;
        if (low >= 0xdc00 && low <= 0xdfff)
            return put_rune(r, 0x10000 + ((rune - 0xd800) << 10) + (low - 0xdc00));
        r->at = before;
    }
    return put_rune(r, REPLACEMENT);
}

static bool take_escape(struct json_reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end)
        return false;
    uint8_t c = *r->at++;
    if (c == 'u')
        return take_unicode(r);
    for (size_t i = 0; from[i] != '\0'; i++)
        if (c == (uint8_t)from[i])
            return buf_append(&r->text, &to[i], 1) == 0;
    return false;
}

/* Appended to r->text from *ret_at on. */
static bool take_string(struct json_reader *r, size_t *ret_at, size_t *ret_size)
{
    if (!take(r, '"'))
        return false;
    *ret_at = r->text.size;
    while (r->at < r->end && *r->at != '"') {
        uint8_t c = *r->at++;
        bool ok = c == '\\' ? take_escape(r) : c >= ' ' && buf_append(&r->text, &c, 1) == 0;
        if (!ok)
            return false;
    }
    *ret_size = r->text.size - *ret_at;
    return take(r, '"');
}

/* --- other values --- */

static size_t take_digits(struct json_reader *r)
{
    const uint8_t *from = r->at;
    while (r->at < r->end && isdigit(*r->at))
        r->at++;
    return (size_t)(r->at - from);
}

static bool take_number(struct json_reader *r, double *ret)
{
    char text[NUMBER_BYTES_MAX];
    const uint8_t *from = r->at;
    if (*r->at == '-')
        r->at++;
    bool zero = r->at < r->end && *r->at == '0';
    size_t digits = take_digits(r);
    if (digits == 0 || (zero && digits > 1))
        return false;
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (take_digits(r) == 0)
            return false;
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
            r->at++;
        if (take_digits(r) == 0)
            return false;
    }
    size_t size = (size_t)(r->at - from);
    if (size >= sizeof(text))
        return false;
    memcpy(text, from, size);
    text[size] = '\0';
    *ret = strtod(text, NULL);
    return true;
}

static bool take_word(struct json_reader *r, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(r->end - r->at) < size || memcmp(r->at, word, size) != 0)
        return false;
    r->at += size;
    return true;
}

static bool take_value(struct json_reader *r, uint32_t depth, struct json_member *ret,
                       size_t *ret_at, size_t *ret_size);

/* Behind its bracket; what is in it is of no interest. */
static bool take_nested(struct json_reader *r, uint32_t depth, char closing)
{
    struct json_member unused;
    size_t at, size;
    if (depth > DEPTH_MAX)
        return false;
    if (take(r, closing))
        return true;
    do {
        if (closing == '}' && (!take_string(r, &at, &size) || !take(r, ':')))
            return false;
        if (!take_value(r, depth, &unused, &at, &size))
            return false;
    } while (take(r, ','));
    return take(r, closing);
}

static bool take_value(struct json_reader *r, uint32_t depth, struct json_member *ret,
                       size_t *ret_at, size_t *ret_size)
{
    skip_space(r);
    if (r->at == r->end)
        return false;
    ret->kind = JSON_OTHER;
    switch (*r->at) {
    case '"':
        ret->kind = JSON_STRING;
        return take_string(r, ret_at, ret_size);
    case '{':
        r->at++;
        return take_nested(r, depth + 1, '}');
    case '[':
        r->at++;
        return take_nested(r, depth + 1, ']');
    case 't':
        ret->kind = JSON_BOOL;
        ret->boolean = true;
        return take_word(r, "true");
    case 'f':
        ret->kind = JSON_BOOL;
        return take_word(r, "false");
    case 'n':
        ret->kind = JSON_NULL;
        return take_word(r, "null");
    default: {
        const uint8_t *from = r->at;
        bool ok = take_number(r, &ret->number);
        ret->kind = JSON_NUMBER;
        ret->literal = slice_of(from, (size_t)(r->at - from));
        return ok;
    }
    }
}

int json_next_member(struct json_reader *r, struct json_member *ret)
{
    size_t name_at, name_size, at = 0, size = 0;
    buf_clear(&r->text);
    *ret = (struct json_member){0};
    if (!r->begun && !take(r, '{'))
        return TV_EMALFORMED;
    if (take(r, '}')) {
        skip_space(r);
        return r->at == r->end ? 0 : TV_EMALFORMED;
    }
    if (r->begun && !take(r, ','))
        return TV_EMALFORMED;
    r->begun = true;
    if (!take_string(r, &name_at, &name_size) || !take(r, ':') ||
        !take_value(r, 0, ret, &at, &size))
        return TV_EMALFORMED;
    /* The buffer may have moved while it grew. */
    ret->name = slice_of(r->text.data + name_at, name_size);
    if (ret->kind == JSON_STRING)
        ret->string = slice_of(r->text.data + at, size);
    return 1;
}
