#include "prom.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BOUNDS_MAX = 64, NUMBER_BYTES_MAX = 40 };

static bool parse_number(struct slice s, double *ret)
{
    char text[NUMBER_BYTES_MAX];
    char *end;
    if (s.size == 0 || s.size >= sizeof(text))
        return false;
    memcpy(text, s.data, s.size);
    text[s.size] = '\0';
    *ret = strtod(text, &end); /* knows +Inf and NaN, too */
    return *end == '\0';
}

/* The size of what is between the braces: they may be in a quoted value. */
static size_t labels_size(struct slice s)
{
    bool quoted = false;
    for (size_t i = 0; i < s.size; i++) {
        if (quoted && s.data[i] == '\\')
            i++;
        else if (s.data[i] == '"')
            quoted = !quoted;
        else if (!quoted && s.data[i] == '}')
            return i;
    }
    return s.size;
}

static bool parse_line(struct slice line, struct prom_sample *ret)
{
    size_t at = 0;
    *ret = (struct prom_sample){0};
    while (at < line.size && line.data[at] != '{' && line.data[at] != ' ')
        at++;
    ret->name = slice_of(line.data, at);
    if (at == 0 || at == line.size || line.data[0] == '#')
        return false;
    if (line.data[at] == '{') {
        struct slice rest = slice_of(line.data + at + 1, line.size - at - 1);
        ret->labels = slice_of(rest.data, labels_size(rest));
        at += ret->labels.size + 2;
    }
    while (at < line.size && line.data[at] == ' ')
        at++;
    if (at >= line.size)
        return false;
    struct slice number = slice_of(line.data + at, line.size - at);
    const uint8_t *blank = memchr(number.data, ' ', number.size); /* before a time */
    if (blank != NULL)
        number.size = (size_t)(blank - number.data);
    return parse_number(number, &ret->value);
}

void prom_parse(struct slice text, struct prom *ret)
{
    uint32_t capacity = 0;
    *ret = (struct prom){0};
    while (text.size > 0 && ret->count < PROM_SAMPLES_MAX) {
        const uint8_t *end = memchr(text.data, '\n', text.size);
        size_t size = end == NULL ? text.size : (size_t)(end - text.data);
        struct prom_sample s;
        if (parse_line(slice_of(text.data, size), &s)) {
            if (ret->count == capacity) {
                capacity = capacity == 0 ? 256 : capacity * 2;
                ret->samples = mem_realloc(ret->samples, capacity * sizeof(s));
            }
            ret->samples[ret->count++] = s;
        }
        size += end != NULL;
        text = slice_of(text.data + size, text.size - size);
    }
}

void prom_fini(struct prom *p)
{
    mem_free(p->samples);
    *p = (struct prom){0};
}

struct slice prom_label(const struct prom_sample *s, const char *name)
{
    size_t name_size = strlen(name);
    size_t at = 0;
    while (at < s->labels.size) {
        size_t begin = at;
        while (at < s->labels.size && s->labels.data[at] != '=')
            at++;
        struct slice key = slice_of(s->labels.data + begin, at - begin);
        at += 2; /* = and the quote */
        size_t value = at;
        while (at < s->labels.size && s->labels.data[at] != '"')
            at += s->labels.data[at] == '\\' ? 2 : 1;
        if (at > s->labels.size)
            break;
        if (key.size == name_size && memcmp(key.data, name, name_size) == 0)
            return slice_of(s->labels.data + value, at - value);
        at++;
        while (at < s->labels.size && (s->labels.data[at] == ',' || s->labels.data[at] == ' '))
            at++;
    }
    return SLICE_EMPTY;
}

const struct prom_sample *prom_next(const struct prom *p, const char *name, uint32_t *at)
{
    struct slice wanted = slice_of_string(name);
    for (uint32_t i = *at; i < p->count; i++)
        if (slice_equal(p->samples[i].name, wanted)) {
            *at = i + 1;
            return &p->samples[i];
        }
    *at = p->count;
    return NULL;
}

static bool has_label(const struct prom_sample *s, const char *label, const char *value)
{
    return label == NULL || slice_equal(prom_label(s, label), slice_of_string(value));
}

double prom_sum(const struct prom *p, const char *name, const char *label, const char *value)
{
    const struct prom_sample *s;
    double sum = 0;
    uint32_t at = 0;
    while ((s = prom_next(p, name, &at)) != NULL)
        if (has_label(s, label, value))
            sum += s->value;
    return sum;
}

bool prom_has(const struct prom *p, const char *name)
{
    uint32_t at = 0;
    return prom_next(p, name, &at) != NULL;
}

/* --- histograms --- */

struct bounds {
    double upper[BOUNDS_MAX];
    double count[BOUNDS_MAX]; /* cumulative */
    uint32_t size;
};

static bool passes(const struct prom_sample *s, const struct prom_filter *f)
{
    return f == NULL || has_label(s, f->label, f->value) != f->except;
}

static void add_buckets(struct bounds *b, const struct prom *p, const char *bucket,
                        const struct prom_filter *filter, double sign)
{
    const struct prom_sample *s;
    uint32_t at = 0;
    while ((s = prom_next(p, bucket, &at)) != NULL) {
        double upper;
        if (!passes(s, filter) || !parse_number(prom_label(s, "le"), &upper))
            continue;
        uint32_t i = 0;
        while (i < b->size && b->upper[i] < upper)
            i++;
        if (i == b->size || b->upper[i] != upper) {
            if (b->size == BOUNDS_MAX)
                continue;
            memmove(&b->upper[i + 1], &b->upper[i], (b->size - i) * sizeof(double));
            memmove(&b->count[i + 1], &b->count[i], (b->size - i) * sizeof(double));
            b->upper[i] = upper;
            b->count[i] = 0;
            b->size++;
        }
        b->count[i] += sign * s->value;
    }
}

double prom_quantile(const struct prom *now, const struct prom *before, const char *name,
                     const struct prom_filter *filter, double quantile)
{
    struct bounds b = {0};
    char bucket[128];
    (void)snprintf(bucket, sizeof(bucket), "%s_bucket", name);
    add_buckets(&b, now, bucket, filter, 1);
    if (before != NULL)
        add_buckets(&b, before, bucket, filter, -1);
    double total = b.size == 0 ? 0 : b.count[b.size - 1];
    if (total <= 0)
        return -1;
    double rank = quantile * total;
    for (uint32_t i = 0; i < b.size; i++) {
        if (b.count[i] < rank)
            continue;
        double lower = i == 0 ? 0 : b.upper[i - 1];
        double below = i == 0 ? 0 : b.count[i - 1];
        if (isinf(b.upper[i]))
            return lower; /* beyond the last bound: at least that */
        double within = b.count[i] - below;
        return within <= 0 ? b.upper[i] : lower + (b.upper[i] - lower) * (rank - below) / within;
    }
    return b.upper[b.size - 1];
}
