/* Values, in Go's syntax and with Go's words when they do not parse. */
#include "server/config_internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 256 };

void *config__field(struct config *c, const struct flag *f)
{
    return f->offset == FLAG_NO_FIELD ? NULL : (char *)c + f->offset;
}

bool config__parse_bool(const char *text, bool *ret)
{
    static const char *const words[2][6] = {{"0", "f", "F", "FALSE", "false", "False"},
                                            {"1", "t", "T", "TRUE", "true", "True"}};
    for (uint32_t i = 0; i < 12; i++) {
        if (strcmp(text, words[i / 6][i % 6]) == 0) {
            *ret = i >= 6;
            return true;
        }
    }
    return false;
}

/* --- numbers --- */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : INT_MAX;
}

/* strconv.ParseUint() with base 0: 10, 0x10, 0b10, 0o10, 010, 1_000. 0, TV_EINVAL or TV_ETOOLARGE.
 */
static int parse_uint(const char *text, uint64_t max, uint64_t *ret)
{
    int base = 10;
    bool after_digit = false; /* or a prefix: then a '_' may follow */
    const char *p = text;
    if (p[0] == '0' && p[1] != '\0') {
        char c = (char)(p[1] | 32);
        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        p += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
        after_digit = true;
    }
    if (*p == '\0')
        return TV_EINVAL;
    uint64_t value = 0;
    bool too_large = false;
    for (; *p != '\0'; p++) {
        if (*p == '_') {
            if (!after_digit)
                return TV_EINVAL;
            after_digit = false;
            continue;
        }
        int digit = digit_of(*p);
        if (digit >= base)
            return TV_EINVAL;
        too_large |= __builtin_mul_overflow(value, (uint64_t)base, &value) ||
                     __builtin_add_overflow(value, (uint64_t)digit, &value);
        after_digit = true;
    }
    if (!after_digit)
        return TV_EINVAL;
    if (too_large || value > max)
        return TV_ETOOLARGE;
    *ret = value;
    return 0;
}

static int parse_int(const char *text, int64_t *ret)
{
    bool negative = *text == '-';
    uint64_t value = 0;
    int err = parse_uint(text + (negative || *text == '+'), (uint64_t)INT64_MAX + negative, &value);
    if (err == 0)
        *ret = negative ? (int64_t)(0 - value) : (int64_t)value;
    return err;
}

/* --- durations --- */

static uint64_t unit_ns(const char **text)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"ns", 1},
                 {"us", 1000},
                 {"\u00b5s", 1000},
                 {"\u03bcs", 1000},
                 {"ms", 1000000},
                 {"s", 1000000000},
                 {"m", UINT64_C(60000000000)},
                 {"h", UINT64_C(3600000000000)}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t size = strlen(units[i].name);
        if (strncmp(*text, units[i].name, size) == 0 &&
            ((*text)[size] == '\0' || (*text)[size] == '.' ||
             isdigit((unsigned char)(*text)[size]))) {
            *text += size;
            return units[i].ns;
        }
    }
    return 0;
}

/* "1.5h": one number and its unit. */
static int parse_part(const char **text, uint64_t *total)
{
    uint64_t number = 0, part = 0;
    double scale = 1;
    size_t digits = 0;
    for (; isdigit((unsigned char)**text); (*text)++, digits++)
        if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
            __builtin_add_overflow(number, (uint64_t)(**text - '0'), &number))
            return TV_EINVAL;
    if (**text == '.') {
        for ((*text)++; isdigit((unsigned char)**text); (*text)++, digits++) {
            if (part > INT64_MAX / 100)
                continue; /* finer than anything */
            part = part * 10 + (uint64_t)(**text - '0');
            scale *= 10;
        }
    }
    uint64_t unit = digits == 0 ? 0 : unit_ns(text);
    if (unit == 0 || __builtin_mul_overflow(number, unit, &number) ||
        __builtin_add_overflow(number, (uint64_t)((double)part * ((double)unit / scale)),
                               &number) ||
        __builtin_add_overflow(*total, number, total))
        return TV_EINVAL;
    return 0;
}

int config_parse_duration(const char *text, int64_t *ret_ns)
{
    bool negative = *text == '-';
    uint64_t total = 0;
    text += negative || *text == '+';
    if (strcmp(text, "0") == 0) {
        *ret_ns = 0;
        return 0;
    }
    if (*text == '\0')
        return TV_EINVAL;
    while (*text != '\0')
        if (parse_part(&text, &total) != 0)
            return TV_EINVAL;
    if (total > (uint64_t)INT64_MAX + negative)
        return TV_EINVAL;
    *ret_ns = negative ? (int64_t)(0 - total) : (int64_t)total;
    return 0;
}

void config_format_duration(int64_t ns, char *ret_text, size_t size)
{
    const char *sign = ns < 0 ? "-" : "";
    uint64_t u = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    unsigned long long s = u / 1000000000;
    if (u == 0)
        snprintf(ret_text, size, "0s");
    else if (u < 1000)
        snprintf(ret_text, size, "%s%lluns", sign, (unsigned long long)u);
    else if (u < 1000000)
        snprintf(ret_text, size, "%s%.10g\u00b5s", sign, (double)u / 1e3);
    else if (u < 1000000000)
        snprintf(ret_text, size, "%s%.10gms", sign, (double)u / 1e6);
    else if (s < 60)
        snprintf(ret_text, size, "%s%.11gs", sign, (double)u / 1e9);
    else if (s < 3600)
        snprintf(ret_text, size, "%s%llum%.11gs", sign, s / 60, (double)(u % 60000000000) / 1e9);
    else
        snprintf(ret_text, size, "%s%lluh%llum%.11gs", sign, s / 3600, s / 60 % 60,
                 (double)(u % 60000000000) / 1e9);
}

/* What is more than nothing is at least a millisecond. */
static uint64_t whole_ms(int64_t ns)
{
    if (ns <= 0)
        return 0;
    return ns < 1000000 ? 1 : (uint64_t)ns / 1000000;
}

/* --- lists --- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, each once. */
static bool parse_names(struct parser *p, const char *text, char **ret)
{
    char *copy = mem_strdup(text), *rest = copy, *item;
    char *items[NAMES_MAX], *joined = mem_alloc(strlen(text) + 1), *at = joined;
    size_t count = 0;
    while (count < NAMES_MAX && (item = strsep(&rest, ",")) != NULL)
        items[count++] = item;
    bool ok = rest == NULL;
    qsort(items, count, sizeof(items[0]), by_text);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(items[i], items[i - 1]) == 0)
            continue;
        if (i > 0)
            *at++ = ',';
        at = stpcpy(at, items[i]);
    }
    *at = '\0';
    mem_free(copy);
    if (!ok) {
        snprintf(p->why, sizeof(p->why), "more than %d values", NAMES_MAX);
        mem_free(joined);
        return false;
    }
    mem_free(*ret);
    *ret = joined;
    return true;
}

/* "*", or URLs that are kept as they are written. */
static bool parse_origins(struct parser *p, const char *text, char **ret)
{
    struct urls urls;
    if (strcmp(text, "*") != 0) {
        if (urls_parse(text, &urls, p->why, sizeof(p->why)) != 0)
            return false;
        urls_fini(&urls);
    }
    return parse_names(p, text, ret);
}

static bool parse_urls(struct parser *p, const char *text, struct urls *field)
{
    struct urls urls;
    if (*text == '\0')
        return true; /* as etcd: the default stays */
    if (urls_parse(text, &urls, p->why, sizeof(p->why)) != 0)
        return false;
    urls_fini(field);
    *field = urls;
    return true;
}

static bool is_word(struct parser *p, const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    snprintf(p->why, sizeof(p->why), "invalid value");
    return false;
}

static bool check_v2_stages(struct parser *p, const char *text)
{
    static const char *const words[] = {"write-only", "write-only-skip-check",
                                        "write-only-drop-data", "gone"};
    char *copy = mem_strdup(text), *rest = copy, *item;
    bool ok = true;
    while (ok && (item = strsep(&rest, ",")) != NULL) {
        ok = is_word(p, item, words, 4);
        if (!ok)
            snprintf(p->why, sizeof(p->why), "invalid value \"%.400s\"", item);
    }
    mem_free(copy);
    return ok;
}

/* --- one value --- */

/* 0, TV_EINVAL or TV_ETOOLARGE. */
static int set_number(const struct flag *f, const char *text, void *field)
{
    uint64_t number = 0;
    int64_t signed_number = 0;
    int err;
    switch (f->kind) {
    case FLAG_UINT:
        err = parse_uint(text, UINT64_MAX, &number);
        if (err == 0 && field != NULL)
            *(uint64_t *)field = number;
        return err;
    case FLAG_UINT_CLAMPED:
        err = parse_uint(text, UINT64_MAX, &number);
        if (err == 0)
            *(uint32_t *)field = number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
        return err;
    case FLAG_UINT32:
        err = parse_uint(text, UINT32_MAX, &number);
        if (err == 0)
            *(uint32_t *)field = (uint32_t)number;
        return err;
    case FLAG_INT:
        err = parse_int(text, &signed_number);
        if (err == 0 && field != NULL)
            *(int64_t *)field = signed_number;
        return err;
    case FLAG_QUOTA:
        err = parse_int(text, &signed_number);
        if (err == 0)
            *(uint64_t *)field = signed_number < 0    ? 0
                                 : signed_number == 0 ? (uint64_t)CONFIG_QUOTA_DEFAULT_BYTES
                                                      : (uint64_t)signed_number;
        return err;
    case FLAG_DURATION:
        err = config_parse_duration(text, &signed_number);
        if (err == 0)
            *(uint64_t *)field = whole_ms(signed_number);
        return err;
    case FLAG_DURATION_NS:
        err = config_parse_duration(text, &signed_number);
        if (err == 0 && field != NULL)
            *(int64_t *)field = signed_number;
        return err;
    default:
        ASSERT(false);
        return TV_EINVAL;
    }
}

static bool set_bool(struct parser *p, const char *text, bool *field)
{
    bool value;
    if (!config__parse_bool(text, &value)) {
        snprintf(p->why, sizeof(p->why), "parse error");
        return false;
    }
    if (field != NULL)
        *field = value;
    return true;
}

static bool set_text(const char *text, char **field)
{
    if (field != NULL) {
        mem_free(*field);
        *field = mem_strdup(text);
    }
    return true;
}

static bool set_mode(struct parser *p, const struct flag *f, const char *text, void *field)
{
    if (f->kind == FLAG_WAL_IO && disk_mode_parse(text, field) != 0)
        snprintf(p->why, sizeof(p->why), "must be auto, uring or sync");
    else if (f->kind == FLAG_REPAIR && repair_mode_parse(text, field) != 0)
        snprintf(p->why, sizeof(p->why), "must be auto or refuse");
    else
        return true;
    return false;
}

static bool set_word(struct parser *p, const struct flag *f, const char *text, bool *field)
{
    static const char *const words[2][2] = {{"existing", "new"}, {"exit", "proxy"}};
    if (!is_word(p, text, words[f->kind == FLAG_FALLBACK], 2))
        return false;
    *field = strcmp(text, words[f->kind == FLAG_FALLBACK][1]) == 0;
    return true;
}

bool config__set(struct parser *p, const struct flag *f, const char *text)
{
    void *field = config__field(p->config, f);
    switch (f->kind) {
    case FLAG_STRING:
    case FLAG_STRINGS:
    case FLAG_CONFIG_FILE:
        return set_text(text, field);
    case FLAG_NAMES:
        return parse_names(p, text, field);
    case FLAG_URLS:
        return parse_urls(p, text, field);
    case FLAG_ORIGINS:
        return parse_origins(p, text, field);
    case FLAG_BOOL:
        return set_bool(p, text, field);
    case FLAG_CLUSTER_STATE:
    case FLAG_FALLBACK:
        return set_word(p, f, text, field);
    case FLAG_V2_STAGES:
        return check_v2_stages(p, text);
    case FLAG_FEATURES:
        return features_set(field, text, p->why, sizeof(p->why)) == 0;
    case FLAG_WAL_IO:
    case FLAG_REPAIR:
        return set_mode(p, f, text, field);
    case FLAG_VERSION:
    case FLAG_GONE:
        return true;
    default:
        break;
    }
    int err = set_number(f, text, field);
    const char *range = err == TV_ETOOLARGE ? "value out of range" : "parse error";
    if (err != 0 && f->kind == FLAG_UINT32)
        snprintf(p->why, sizeof(p->why), "strconv.ParseUint: parsing \"%.400s\": %s", text,
                 err == TV_ETOOLARGE ? range : "invalid syntax");
    else if (err != 0)
        snprintf(p->why, sizeof(p->why), "%s", range);
    return err == 0;
}
