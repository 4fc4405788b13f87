/* The page: Prometheus' text form 0.0.4. A page has some thousand lines, and the thread that writes
 * it has clients to serve: numbers are formatted by hand. */
#include "server/metrics_internal.h"

#include "base/assert.h"
#include "base/mem.h"

#include <string.h>

enum { LINE_BYTES_MAX = 1024, DIGITS_MAX = 20 };

/* --- lines --- */

static uint8_t *put_text(uint8_t *p, const char *text)
{
    size_t size = strlen(text);
    memcpy(p, text, size);
    return p + size;
}

static uint8_t *put_number(uint8_t *p, uint64_t value)
{
    char digits[DIGITS_MAX];
    int count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count > 0)
        *p++ = (uint8_t)digits[--count];
    return p;
}

/* value / unit, of which unit is a power of ten. */
static uint8_t *put_quotient(uint8_t *p, uint64_t value, uint64_t unit)
{
    p = put_number(p, value / unit);
    if (value % unit == 0)
        return p;
    *p++ = '.';
    for (value %= unit; value != 0; value %= unit) {
        unit /= 10;
        *p++ = (uint8_t)('0' + value / unit);
    }
    return p;
}

static uint8_t *put_name(uint8_t *p, const char *name, const char *suffix, const char *labels,
                         const char *le)
{
    p = put_text(put_text(p, name), suffix);
    if (labels[0] == '\0' && le == NULL)
        return p;
    *p++ = '{';
    p = put_text(p, labels);
    if (le != NULL) {
        p = put_text(p, labels[0] == '\0' ? "le=\"" : ",le=\"");
        p = put_text(p, le);
        *p++ = '"';
    }
    *p++ = '}';
    return p;
}

/* What does not fit the page is missing: its bound is far above what can be. */
static void line(struct metrics_page *p, const char *suffix, const char *labels, const char *le,
                 uint64_t value, uint64_t unit)
{
    ASSERT(strlen(labels) + 256 < LINE_BYTES_MAX);
    uint8_t *from = buf_reserve(p->out, LINE_BYTES_MAX);
    if (from == NULL)
        return;
    uint8_t *at = put_name(from, p->row->name, suffix, labels, le);
    *at++ = ' ';
    at = put_quotient(at, value, unit);
    *at++ = '\n';
    p->out->size += (size_t)(at - from);
}

void metrics__series(struct metrics_page *p, const char *suffix, const char *labels, uint64_t value)
{
    line(p, suffix, labels, NULL, value, 1);
}

void metrics__seconds(struct metrics_page *p, const char *labels, uint64_t ns)
{
    line(p, "", labels, NULL, ns, 1000000000);
}

void metrics__buckets(struct metrics_page *p, const char *labels,
                      const struct metric_counter *buckets, const struct metric_counter *sum,
                      const struct metric_bounds *bounds)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i <= bounds->count; i++) {
        count += metric_read(&buckets[i]);
        line(p, "_bucket", labels, i < bounds->count ? bounds->labels[i] : "+Inf", count, 1);
    }
    line(p, "_sum", labels, NULL, metric_read(sum), bounds->unit);
    line(p, "_count", labels, NULL, count, 1);
}

void metrics__histogram(struct metrics_page *p, const char *labels, const struct metric_hist *h,
                        const struct metric_bounds *bounds)
{
    metrics__buckets(p, labels, h->buckets, &h->sum, bounds);
}

/* --- families --- */

static void write_head(struct metrics_page *p)
{
    uint8_t *from = buf_reserve(p->out, LINE_BYTES_MAX);
    if (from == NULL)
        return;
    uint8_t *at = put_text(put_text(from, "# HELP "), p->row->name);
    *at++ = ' ';
    at = put_text(put_text(at, p->row->help), "\n# TYPE ");
    at = put_text(at, p->row->name);
    *at++ = ' ';
    at = put_text(at, p->row->type);
    *at++ = '\n';
    p->out->size += (size_t)(at - from);
}

static const void *find(const struct metrics_view *v, const struct metric_row *row)
{
    const char *holder = (const char *)v;
    if (row->base >= 0)
        memcpy(&holder, holder + row->base, sizeof(holder));
    return holder + row->at;
}

static void write_values(struct metrics_page *p)
{
    const struct metric_row *row = p->row;
    switch (row->kind) {
    case METRIC_NUMBER:
        line(p, "", "", NULL, *(const uint64_t *)find(p->v, row), 1);
        break;
    case METRIC_SECONDS:
        metrics__seconds(p, "", *(const uint64_t *)find(p->v, row));
        break;
    case METRIC_COUNTER:
        line(p, "", "", NULL, metric_read(find(p->v, row)), 1);
        break;
    case METRIC_HISTOGRAM:
        metrics__histogram(p, "", find(p->v, row), row->bounds);
        break;
    case METRIC_WRITTEN:
        row->write(p);
        break;
    }
}

/* A family without series is not shown at all. */
static void write_family(struct metrics_page *p)
{
    size_t before = p->out->size;
    write_head(p);
    size_t head_end = p->out->size;
    write_values(p);
    if (p->out->size == head_end)
        p->out->size = before;
}

void metrics_write(struct node *n, struct buf *out)
{
    struct metrics_view *v = metrics__view_new(n);
    struct metrics_page p = {.out = out, .v = v};
    for (uint32_t i = 0; i < metrics__table_count; i++) {
        p.row = &metrics__table[i];
        write_family(&p);
    }
    metrics__view_free(v);
}
