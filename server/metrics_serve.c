/* A request for /metrics: which form it asks for, and the answer. As promhttp and expfmt do it. */
#include "server/metrics_internal.h"

#include "base/assert.h"
#include "base/mem.h"
#include "proto/http1.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum { PAGE_BYTES_MAX = 4 << 20, GZIP_LEVEL = 1, GZIP_WINDOW_BITS = 15 + 16 };

static const char BLANKS[] = " \t";

/* --- headers that are lists: value;name=value;..., ... --- */

/* Cut off what lies before the next `separator`. False at the end. */
static bool next_part(struct slice *rest, char separator, struct slice *ret)
{
    if (rest->data == NULL)
        return false;
    const uint8_t *end = rest->size == 0 ? NULL : memchr(rest->data, separator, rest->size);
    if (end == NULL) {
        *ret = slice_trim(*rest, BLANKS);
        *rest = (struct slice){0};
        return true;
    }
    size_t size = (size_t)(end - rest->data);
    *ret = slice_trim(slice_of(rest->data, size), BLANKS);
    *rest = slice_of(end + 1, rest->size - size - 1);
    return true;
}

/* A parameter of an item; data NULL: it has none of that name. */
static struct slice parameter(struct slice item, const char *name)
{
    struct slice part, key;
    (void)next_part(&item, ';', &part);
    while (next_part(&item, ';', &part)) {
        struct slice value = part;
        if (next_part(&value, '=', &key) && slice_equal(key, slice_of_string(name)))
            return slice_trim(value, BLANKS);
    }
    return (struct slice){0};
}

/* In thousandths. */
static uint32_t quality(struct slice item)
{
    struct slice q = parameter(item, "q");
    uint32_t value = 0, unit = 1000;
    if (q.data == NULL)
        return 1000;
    for (size_t i = 0; i < q.size && unit > 0; i++) {
        if (q.data[i] == '.')
            continue;
        if (q.data[i] < '0' || q.data[i] > '9')
            return 0;
        value += (uint32_t)(q.data[i] - '0') * unit;
        unit /= 10;
    }
    return value;
}

static uint32_t quality_of(struct slice list, const char *name)
{
    struct slice item, value;
    uint32_t best = 0;
    while (next_part(&list, ',', &item)) {
        struct slice rest = item;
        (void)next_part(&rest, ';', &value);
        bool is_it =
            slice_equal(value, slice_of_string(name)) || slice_equal(value, SLICE_LITERAL("*"));
        if (is_it && quality(item) > best)
            best = quality(item);
    }
    return best;
}

bool metrics_wants_gzip(struct slice accept_encoding)
{
    return quality_of(accept_encoding, "gzip") > quality_of(accept_encoding, "identity");
}

static const char *known_escaping(struct slice name)
{
    static const char *const known[] = {"allow-utf-8", "underscores", "dots", "values"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (name.data != NULL && slice_equal(name, slice_of_string(known[i])))
            return known[i];
    return NULL;
}

/* The best item that names one counts. */
const char *metrics_escaping(struct slice accept)
{
    const char *found = "underscores";
    uint32_t best = 0;
    struct slice item;
    while (next_part(&accept, ',', &item)) {
        const char *name = known_escaping(parameter(item, "escaping"));
        if (name != NULL && quality(item) > best) {
            best = quality(item);
            found = name;
        }
    }
    return found;
}

/* --- the answer --- */

struct press {
    uv_work_t work;
    struct worker *worker;
    struct http1_exchange *exchange;
    char content_type[96];
    struct buf page;
    struct buf pressed;
};

static void answer(struct worker *w, struct http1_exchange *x, const char *content_type,
                   struct slice body)
{
    metric_add(&w->meters.scrapes, 1);
    http1_respond(x, 200, content_type, body);
}

static void on_press(uv_work_t *work)
{
    struct press *p = work->data;
    z_stream z = {0};
    int rv = deflateInit2(&z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY);
    if (rv != Z_OK)
        return; /* no memory: it goes out as it is */
    size_t bound = deflateBound(&z, p->page.size);
    z.next_out = buf_reserve(&p->pressed, bound);
    z.avail_out = (uInt)bound;
    z.next_in = p->page.data;
    z.avail_in = (uInt)p->page.size;
    rv = deflate(&z, Z_FINISH);
    ASSERT(rv == Z_STREAM_END);
    p->pressed.size = bound - z.avail_out;
    (void)deflateEnd(&z);
}

static void on_pressed(uv_work_t *work, int status)
{
    struct press *p = work->data;
    (void)status;
    if (p->pressed.size > 0)
        http1_add_header(p->exchange, "Content-Encoding", "gzip");
    answer(p->worker, p->exchange, p->content_type,
           buf_slice(p->pressed.size > 0 ? &p->pressed : &p->page));
    buf_fini(&p->page);
    buf_fini(&p->pressed);
    mem_free(p);
}

void metrics_serve(struct worker *w, struct http1_exchange *x, const struct http1_request *req)
{
    struct press *p = mem_alloc_zero(sizeof(*p));
    p->work.data = p;
    p->worker = w;
    p->exchange = x;
    buf_init(&p->page, PAGE_BYTES_MAX);
    buf_init(&p->pressed, SIZE_MAX);
    (void)snprintf(p->content_type, sizeof(p->content_type),
                   "text/plain; version=0.0.4; charset=utf-8; escaping=%s",
                   metrics_escaping(http1_header(req, "accept")));
    metrics_write(w->node, &p->page);
    if (metrics_wants_gzip(http1_header(req, "accept-encoding")))
        uv_queue_work(w->loop, &p->work, on_press, on_pressed);
    else
        on_pressed(&p->work, 0);
}
