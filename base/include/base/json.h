/* JSON (RFC 8259) without a schema: where a value ends, and what is in it. No tree is built and
 * nothing is allocated: a value is the text that it is written as.
 *
 * Limits: values nest JSON_DEPTH_MAX deep; no function calls itself. Thread: any; nothing here has
 * state. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/slice.h"

enum { JSON_DEPTH_MAX = 10000, JSON_NUMBER_BYTES_MAX = 63 };

static inline bool json_is_blank(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The number of four hexadecimal digits. */
static inline uint32_t json_hex4(const uint8_t *digits)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = digits[i];
        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

/* --- where a value ends --- */

/* What does not belong where it is: a byte of the text, and what was expected there. */
struct json_fault {
    const uint8_t *at;
    const char *where; /* as in "in string literal"; NULL: within `word` */
    const char *word;  /* true, false or null */
    char wanted;       /* of the word */
};

enum { JSON_NOTHING = 0, JSON_VALUE = 1, JSON_CUT_OFF = 2 };

/* Cut the first value off `*rest`. JSON_VALUE: it is in *ret_value, without blanks around it;
 * JSON_NOTHING: only blanks are left; JSON_CUT_OFF: it would go on; or TV_EMALFORMED, with
 * *ret_fault (which may be NULL). Strings are looked at for their escapes, but may be no UTF-8. */
int json_scan(struct slice *rest, struct slice *ret_value, struct json_fault *ret_fault);
/* `text` is one value, and nothing else but blanks. Errors: TV_EMALFORMED. */
int json_scan_whole(struct slice text, struct slice *ret_value);

/* --- what is in it: for values that json_scan() found, and what is in those. Other text is not
 * read beyond its end, but what comes out of it says nothing. --- */

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

enum json_kind json_kind(struct slice value);
/* false also when it is no bool. */
bool json_bool(struct slice value);
/* False: it is no number, has more than JSON_NUMBER_BYTES_MAX bytes, or is beyond a double. */
bool json_number(struct slice value, double *ret);
/* A string without its escapes, in UTF-8 if its text is, and a zero byte: so much of it as `size`
 * bytes have room for. Half of a pair becomes U+FFFD. Returns the size of all of it, which is below
 * that of the value; 0 when it is no string. `size` > 0. */
size_t json_string_copy(struct slice value, char *ret, size_t size);
/* Is it that string? */
bool json_string_is(struct slice value, const char *text);

/* What is in an array or an object, in its order; in another value there is nothing. */
struct json_walk {
    struct slice rest;
    bool named;
};
struct json_walk json_walk_of(struct slice value);
/* *ret_name is the name as a value, a string; data NULL in an array. False: there is no more. */
bool json_walk_next(struct json_walk *w, struct slice *ret_name, struct slice *ret_value);

/* The first member of that name; data NULL: there is none, or it is no object. */
struct slice json_member(struct slice object, const char *name);
/* Its number, or what is meant where there is none. */
double json_member_number(struct slice object, const char *name, double otherwise);

#endif
