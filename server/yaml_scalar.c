/* What a plain scalar is: YAML 1.1's types as Go's yaml packages resolve them. */
#include "yaml_internal.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_BYTES_MAX = 64 };

static bool is_one_of(struct slice s, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal(s, slice_of_string(words[i])))
            return true;
    return false;
}

#define IS_ONE_OF(s, ...)                              \
    is_one_of((s), (const char *const[]){__VA_ARGS__}, \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* An integer in Go's syntax with base 0; `text` has no underscores. */
static bool parse_int(const char *text, bool *ret_negative, uint64_t *ret)
{
    const char *p = text + (*text == '-' || *text == '+');
    int base = 10;
    if (p[0] == '0' && p[1] != '\0') {
        char c = (char)tolower((unsigned char)p[1]);
        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        p += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    }
    if (!isxdigit((unsigned char)*p))
        return false;
    char *end;
    errno = 0;
    *ret = strtoull(p, &end, base);
    *ret_negative = *text == '-' && *ret != 0;
    return *end == '\0' && errno == 0 && (*text != '-' || *ret <= (uint64_t)INT64_MAX + 1);
}

static bool is_float(const char *text)
{
    const char *p = text + (*text == '-' || *text == '+');
    size_t whole = strspn(p, "0123456789");
    p += whole;
    size_t part = 0;
    if (*p == '.') {
        part = strspn(++p, "0123456789");
        p += part;
    }
    if (whole + part == 0)
        return false;
    if (*p == 'e' || *p == 'E') {
        p += p[1] == '-' || p[1] == '+' ? 2 : 1;
        size_t digits = strspn(p, "0123456789");
        if (digits == 0)
            return false;
        p += digits;
    }
    return *p == '\0';
}

static void set_number(struct yaml_node *node, struct arena *arena, enum yaml_kind kind,
                       const char *text)
{
    node->kind = kind;
    node->text = arena_copy(arena, slice_of_string(text));
}

static bool resolve_number(struct yaml_node *node, struct slice s, struct arena *arena)
{
    char text[NUMBER_BYTES_MAX + 1], json[NUMBER_BYTES_MAX];
    size_t size = 0;
    if (s.size == 0 || s.size > NUMBER_BYTES_MAX || memchr("+-.0123456789", s.data[0], 13) == NULL)
        return false;
    for (size_t i = 0; i < s.size; i++)
        if (s.data[i] != '_')
            text[size++] = (char)s.data[i];
    text[size] = '\0';
    bool negative;
    uint64_t value;
    if (parse_int(text, &negative, &value)) {
        snprintf(json, sizeof(json), "%s%llu", negative ? "-" : "", (unsigned long long)value);
        set_number(node, arena, YAML_INT, json);
        return true;
    }
    if (!is_float(text))
        return false;
    double number = strtod(text, NULL);
    bool plain = fabs(number) < 1e21 && (fabs(number) >= 1e-6 || number == 0);
    if (!isfinite(number))
        return false;
    if (plain && number == floor(number))
        snprintf(json, sizeof(json), "%.0f", number);
    else
        snprintf(json, sizeof(json), "%.15g", number);
    set_number(node, arena, YAML_FLOAT, json);
    return true;
}

void yaml__resolve(struct yaml_node *node, struct slice s, struct arena *arena)
{
    if (s.size == 0 || IS_ONE_OF(s, "~", "null", "Null", "NULL")) {
        node->kind = YAML_NULL;
        return;
    }
    bool yes =
        IS_ONE_OF(s, "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON");
    if (yes ||
        IS_ONE_OF(s, "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")) {
        node->kind = YAML_BOOL;
        node->boolean = yes;
        return;
    }
    if (resolve_number(node, s, arena))
        return;
    node->kind = YAML_STRING;
    node->text = arena_copy(arena, s);
}
