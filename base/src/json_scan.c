/* Where a JSON value ends, and whether it is one. One walk without recursion: a bit a level says
 * whether that is an object or an array. */
#include "base/json.h"

#include "base/err.h"

struct scan {
    const uint8_t *at;
    const uint8_t *end;
    struct json_fault fault;
    uint32_t depth;
    uint8_t objects[JSON_DEPTH_MAX / 8 + 1]; /* a bit a level: object or array */
};

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(uint8_t c)
{
    return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

/* What is at hand does not belong there. */
static int bad(struct scan *s, const char *where)
{
    s->fault = (struct json_fault){.at = s->at, .where = where};
    return TV_EMALFORMED; /* json_scan() tells the end of the text apart */
}

static int scan_escape(struct scan *s)
{
    static const char hex[] = "in \\u hexadecimal character escape";
    s->at++;
    if (s->at == s->end || *s->at == '\0' || strchr("\"\\/bfnrtu", *s->at) == NULL)
        return bad(s, "in string escape code");
    if (*s->at++ != 'u')
        return 0;
    for (int i = 0; i < 4; i++, s->at++)
        if (s->at == s->end || !is_hex(*s->at))
            return bad(s, hex);
    return 0;
}

static int scan_string(struct scan *s)
{
    s->at++;
    while (s->at < s->end && *s->at != '"') {
        if (*s->at < ' ')
            return bad(s, "in string literal");
        if (*s->at != '\\')
            s->at++;
        else if (scan_escape(s) != 0)
            return TV_EMALFORMED;
    }
    if (s->at == s->end)
        return bad(s, "");
    s->at++;
    return 0;
}

static int scan_digits(struct scan *s, const char *where)
{
    if (s->at == s->end || !is_digit(*s->at))
        return bad(s, where);
    while (s->at < s->end && is_digit(*s->at))
        s->at++;
    return 0;
}

static int scan_number(struct scan *s)
{
    if (*s->at == '-')
        s->at++;
    if (s->at < s->end && *s->at == '0')
        s->at++;
    else if (scan_digits(s, "in numeric literal") != 0)
        return TV_EMALFORMED;
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (scan_digits(s, "after decimal point in numeric literal") != 0)
            return TV_EMALFORMED;
    }
    if (s->at < s->end && (*s->at | 32) == 'e') {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            s->at++;
        return scan_digits(s, "in exponent of numeric literal");
    }
    return 0;
}

static int scan_word(struct scan *s, const char *word)
{
    for (const char *w = word; *w != '\0'; w++, s->at++) {
        if (s->at < s->end && *s->at == (uint8_t)*w)
            continue;
        s->fault = (struct json_fault){.at = s->at, .word = word, .wanted = *w};
        return TV_EMALFORMED;
    }
    return 0;
}

static int push(struct scan *s, bool object)
{
    if (s->depth == JSON_DEPTH_MAX)
        return bad(s, "exceeded max depth");
    uint8_t bit = (uint8_t)(1 << (s->depth & 7));
    if (object)
        s->objects[s->depth / 8] |= bit;
    else
        s->objects[s->depth / 8] &= (uint8_t)~bit;
    s->depth++;
    s->at++;
    return 0;
}

static bool in_object(const struct scan *s)
{
    uint32_t level = s->depth - 1;
    return (s->objects[level / 8] >> (level & 7) & 1) != 0;
}

static void skip_blanks(struct scan *s)
{
    while (s->at < s->end && json_is_blank(*s->at))
        s->at++;
}

/* A name and its colon. */
static int scan_name(struct scan *s)
{
    if (s->at == s->end || *s->at != '"')
        return bad(s, "looking for beginning of object key string");
    if (scan_string(s) != 0)
        return TV_EMALFORMED;
    skip_blanks(s);
    if (s->at == s->end || *s->at != ':')
        return bad(s, "after object key");
    s->at++;
    skip_blanks(s);
    return 0;
}

/* Behind an opening bracket: 1 = it is empty and closed. */
static int scan_opened(struct scan *s)
{
    bool object = in_object(s);
    skip_blanks(s);
    if (s->at < s->end && *s->at == (object ? '}' : ']')) {
        s->at++;
        s->depth--;
        return 1;
    }
    return object ? scan_name(s) : 0;
}

/* What a value begins with, or all of it: 1 = it is whole. */
static int scan_value(struct scan *s)
{
    uint8_t c = s->at < s->end ? *s->at : '\0';
    if (c == '{' || c == '[') {
        int rv = push(s, c == '{');
        return rv != 0 ? rv : scan_opened(s);
    }
    int rv;
    if (s->at == s->end)
        rv = bad(s, "");
    else if (c == '"')
        rv = scan_string(s);
    else if (c == '-' || is_digit(c))
        rv = scan_number(s);
    else if (c == 't' || c == 'f' || c == 'n')
        rv = scan_word(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
    else
        rv = bad(s, "looking for beginning of value");
    return rv != 0 ? rv : 1;
}

/* Behind a value inside of something: closes what ends; 0 = another value follows. */
static int scan_behind(struct scan *s)
{
    while (s->depth > 0) {
        bool object = in_object(s);
        skip_blanks(s);
        if (s->at < s->end && *s->at == ',') {
            s->at++;
            skip_blanks(s);
            return object ? scan_name(s) : 0;
        }
        if (s->at == s->end || *s->at != (object ? '}' : ']'))
            return bad(s, object ? "after object key:value pair" : "after array element");
        s->at++;
        s->depth--;
    }
    return 1;
}

int json_scan(struct slice *rest, struct slice *ret_value, struct json_fault *ret_fault)
{
    struct scan s;
    s.at = rest->data;
    s.depth = 0; /* no bit counts above it */
    s.end = rest->size > 0 ? rest->data + rest->size : rest->data;
    skip_blanks(&s);
    if (s.at == s.end)
        return JSON_NOTHING;
    const uint8_t *begin = s.at;
    for (;;) {
        int rv = scan_value(&s);
        if (rv == 1)
            rv = scan_behind(&s);
        if (rv < 0 && ret_fault != NULL)
            *ret_fault = s.fault;
        if (rv < 0)
            return s.at == s.end ? JSON_CUT_OFF : rv;
        if (rv == 1)
            break;
        if (s.depth > 0 && !in_object(&s))
            skip_blanks(&s);
    }
    *ret_value = slice_of(begin, (size_t)(s.at - begin));
    *rest = slice_of(s.at, (size_t)(s.end - s.at));
    return JSON_VALUE;
}
