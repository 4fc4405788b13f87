#include "server/top_page.h"

#include "server/auth_token.h"
#include "server/node.h"
#include "server/top.h"
#include "state/auth.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE_BYTES_MAX = 1 << 20, PREFIXES_SHOWN_MAX = 64 };

/* Keys are bytes: each that is no printable ASCII is written as the character of that number. */
static void put_bytes(struct buf *out, struct slice s)
{
    (void)buf_append(out, "\"", 1);
    for (size_t i = 0; i < s.size; i++) {
        uint8_t c = s.data[i];
        if (c < ' ' || c >= 0x7f || c == '"' || c == '\\')
            (void)buf_printf(out, "\\u%04x", c);
        else
            (void)buf_append(out, &c, 1);
    }
    (void)buf_append(out, "\"", 1);
}

/* --- prefixes --- */

struct prefixes {
    struct top_prefix *items;
    uint32_t count;
};

static void add_prefix(struct prefixes *all, const struct top_prefix *p)
{
    for (uint32_t i = 0; i < all->count; i++) {
        struct top_prefix *have = &all->items[i];
        if (have->hash != p->hash || have->size != p->size ||
            memcmp(have->text, p->text, p->size) != 0)
            continue;
        have->reads += p->reads;
        have->writes += p->writes;
        have->bytes += p->bytes;
        return;
    }
    all->items[all->count++] = *p;
}

static int by_count(const void *a, const void *b)
{
    const struct top_prefix *x = a, *y = b;
    double left = x->reads + x->writes, right = y->reads + y->writes;
    return left > right ? -1 : left < right;
}

static void put_prefixes(struct buf *out, struct node *n)
{
    const double per_second = (double)TOP_SAMPLE_EVERY / TOP_WINDOW_S;
    struct prefixes all = {
        .items = mem_alloc(n->workers_count * TOP_PREFIXES_MAX * sizeof(struct top_prefix))};
    for (uint32_t i = 0; i < n->workers_count; i++) {
        struct top *t = n->workers[i].top;
        (void)pthread_mutex_lock(&t->lock);
        for (uint32_t j = 0; j < t->prefixes_count; j++)
            add_prefix(&all, &t->prefixes[j]);
        (void)pthread_mutex_unlock(&t->lock);
    }
    qsort(all.items, all.count, sizeof(*all.items), by_count);
    (void)buf_printf(out, "\"prefixes\":[");
    for (uint32_t i = 0; i < all.count && i < PREFIXES_SHOWN_MAX; i++) {
        const struct top_prefix *p = &all.items[i];
        (void)buf_printf(out, "%s{\"prefix\":", i == 0 ? "" : ",");
        put_bytes(out, slice_of(p->text, p->size));
        (void)buf_printf(out,
                         ",\"reads_per_second\":%.1f,\"writes_per_second\":%.1f,"
                         "\"bytes_per_second\":%.0f}",
                         p->reads * per_second, p->writes * per_second, p->bytes * per_second);
    }
    (void)buf_printf(out, "]");
    mem_free(all.items);
}

/* --- clients --- */

static int by_slowness(const void *a, const void *b)
{
    const struct top_client_row *x = a, *y = b;
    return x->worst_ns > y->worst_ns ? -1 : x->worst_ns < y->worst_ns;
}

static int by_bytes(const void *a, const void *b)
{
    const struct top_client_row *x = a, *y = b;
    double left = x->received_per_s + x->sent_per_s, right = y->received_per_s + y->sent_per_s;
    return left > right ? -1 : left < right;
}

static void put_clients(struct buf *out, struct node *n, bool slow)
{
    struct top_client_row *rows =
        mem_alloc(n->workers_count * TOP_CLIENTS_MAX * sizeof(struct top_client_row));
    uint32_t count = 0;
    for (uint32_t i = 0; i < n->workers_count; i++) {
        struct top *t = n->workers[i].top;
        (void)pthread_mutex_lock(&t->lock);
        uint32_t more = slow ? t->slow_count : t->busy_count;
        memcpy(&rows[count], slow ? t->slow : t->busy, more * sizeof(*rows));
        count += more;
        (void)pthread_mutex_unlock(&t->lock);
    }
    qsort(rows, count, sizeof(*rows), slow ? by_slowness : by_bytes);
    (void)buf_printf(out, ",\"%s_clients\":[", slow ? "slow" : "busy");
    for (uint32_t i = 0; i < count && i < TOP_CLIENTS_MAX; i++) {
        const struct top_client_row *r = &rows[i];
        (void)buf_printf(out, "%s{\"peer\":", i == 0 ? "" : ",");
        put_bytes(out, slice_of_string(r->peer));
        (void)buf_printf(out, ",\"name\":");
        put_bytes(out, slice_of_string(r->name));
        (void)buf_printf(out,
                         ",\"calls_per_second\":%.1f,\"received_bytes_per_second\":%.0f,"
                         "\"sent_bytes_per_second\":%.0f,\"mean_ms\":%.3f,\"worst_ms\":%.3f}",
                         r->calls_per_s, r->received_per_s, r->sent_per_s, r->mean_ns / 1e6,
                         (double)r->worst_ns / 1e6);
    }
    (void)buf_printf(out, "]");
    mem_free(rows);
}

/* --- who may --- */

static int caller_of(const struct http1_request *req, struct worker *w)
{
    struct slice token = http1_header(req, "authorization");
    struct slice bearer = SLICE_LITERAL("Bearer ");
    const char *certified =
        w->node->config->client_tls.client_cert_auth ? grpc_conn_peer_cn(req->conn) : NULL;
    uint64_t revision;
    buf_clear(&w->caller);
    if (token.data == NULL && certified == NULL)
        return TV_USER_EMPTY;
    if (token.data == NULL) {
        (void)buf_append(&w->caller, certified, strlen(certified));
        return 0;
    }
    if (w->node->applier.tokens == NULL)
        return TV_INVALID_AUTH_TOKEN;
    if (slice_starts_with(token, bearer))
        token = slice_of(token.data + bearer.size, token.size - bearer.size);
    return auth_tokens_identify(w->node->applier.tokens, token, clock_mono_ns() / 1000000,
                                clock_wall_us() / 1000000, &w->caller, &revision);
}

static int permit(const struct http1_request *req, struct worker *w)
{
    if (!auth_is_enabled(&w->node->applier.auth))
        return 0;
    int err = caller_of(req, w);
    if (err != 0)
        return err;
    epoch_enter(mvcc_epoch(w->node->mvcc), w->reader);
    err = auth_check_root(auth_view(&w->node->applier.auth), buf_slice(&w->caller));
    epoch_leave(w->reader);
    return err;
}

void top_page_serve(struct http1_exchange *x, const struct http1_request *req, struct worker *w)
{
    struct node *n = w->node;
    struct buf body;
    int err = permit(req, w);
    buf_init(&body, PAGE_BYTES_MAX);
    http1_add_header(x, "X-Content-Type-Options", "nosniff");
    if (!slice_equal(req->method, SLICE_LITERAL("GET"))) {
        http1_add_header(x, "Allow", "GET");
        (void)buf_printf(&body, "Method Not Allowed\n");
        http1_respond(x, 405, "text/plain; charset=utf-8", buf_slice(&body));
    } else if (err != 0) {
        (void)buf_printf(&body, "%s\n", tv_err_text(err));
        http1_respond(x, err == TV_PERMISSION_DENIED ? 403 : 401, "text/plain; charset=utf-8",
                      buf_slice(&body));
    } else {
        atomic_store_explicit(&n->top_wanted_ms, clock_mono_ns() / 1000000, memory_order_relaxed);
        int64_t now_us = clock_wall_us();
        (void)buf_printf(
            &body, "{\"member_id\":\"%" PRIx64 "\",\"now\":%" PRId64 ".%06d,\"window_seconds\":%d,",
            n->member_id, now_us / 1000000, (int)(now_us % 1000000), TOP_WINDOW_S);
        put_prefixes(&body, n);
        put_clients(&body, n, true);
        put_clients(&body, n, false);
        (void)buf_printf(&body, "}\n");
        http1_respond(x, 200, "application/json; charset=utf-8", buf_slice(&body));
    }
    buf_fini(&body);
}
