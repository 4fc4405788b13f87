#include "server/http.h"

#include "server/access.h"
#include "server/gateway.h"
#include "server/http_debug.h"
#include "server/http_info.h"
#include "server/http_path.h"
#include "server/node.h"
#include "server/ports.h"

#include "base/mem.h"

#include <ctype.h>

/* A page that waits for a linearizable read. */
struct http_wait {
    struct http1_exchange *exchange;
    struct http_status status;
    struct slice method;
    struct slice path;
    struct slice query;
    uint8_t text[];
};

static void count_answer(struct worker *w, struct slice path, const struct http_answer *a)
{
    struct worker_meters *m = &w->meters;
    if (slice_equal(path, SLICE_LITERAL("/health")) && a->status != 405)
        metric_add(a->status == 200 ? &m->health_success : &m->health_failures, 1);
    for (int check = 0; check < METER_CHECKS_COUNT; check++) {
        bool ok = (a->failed >> check & 1) == 0;
        if ((a->checked >> check & 1) == 0)
            continue;
        metric_add(&m->checks[check][ok], 1);
        metric_set(&m->checks_last_ok[check], ok);
        metric_set(&m->checks_last_ns[check], worker_now_ns(w));
    }
}

static void respond(struct worker *w, struct http1_exchange *x, struct slice method,
                    struct slice path, struct slice query, const struct http_status *st)
{
    struct http_answer a;
    http_info_answer(method, path, query, st, &a);
    count_answer(w, path, &a);
    if (a.allow != NULL)
        http1_add_header(x, "Allow", a.allow);
    if (a.nosniff)
        http1_add_header(x, "X-Content-Type-Options", "nosniff");
    http1_respond(x, a.status, a.content_type, slice_of(a.body, a.body_size));
}

static void on_barrier(struct worker *w, struct request *req)
{
    struct http_wait *wait = req->user;
    wait->status.linearizable_read_err = req->err;
    respond(w, wait->exchange, wait->method, wait->path, wait->query, &wait->status);
    mem_free(wait);
    worker_request_free(w, req);
}

static struct slice keep(uint8_t **at, struct slice s)
{
    if (s.size > 0)
        memcpy(*at, s.data, s.size);
    struct slice kept = slice_of(*at, s.size);
    *at += s.size;
    return kept;
}

static void serve_info(struct http1_exchange *x, const struct http1_request *req, struct slice path,
                       struct worker *w)
{
    struct core_status s;
    core_status(w->node->core, &s);
    const struct alarms *alarms = &w->node->applier.alarms;
    struct versions_now versions;
    versions_now(&w->node->applier.versions, &versions);
    struct http_status st = {.leader = s.leader,
                             .cluster_version_known = s.leader != 0,
                             .cluster_minor = versions.minor,
                             .is_learner = s.standing == CORE_LEARNER,
                             .alarm_nospace = alarms_active(alarms, ALARM_NOSPACE),
                             .alarm_corrupt = alarms_active(alarms, ALARM_CORRUPT),
                             .alarm_other = alarms_active_other(alarms)};
    uint32_t reads = http_info_reads(req->method, path, req->query, &st);
    /* A local read cannot fail: the store is in memory. */
    if ((reads & HTTP_READ_LINEARIZABLE) == 0) {
        respond(w, x, req->method, path, req->query, &st);
        return;
    }
    struct http_wait *wait =
        mem_alloc_zero(sizeof(*wait) + req->method.size + path.size + req->query.size);
    uint8_t *at = wait->text;
    wait->exchange = x;
    wait->status = st;
    wait->method = keep(&at, req->method);
    wait->path = keep(&at, path);
    wait->query = keep(&at, req->query);
    struct request *post = worker_request(w, REQUEST_READ_BARRIER, NULL, on_barrier);
    post->user = wait;
    worker_post(w, post);
}

/* The pages of the metrics' own port are fewer, and nobody is kept away from them. */
static void serve_page(struct http1_exchange *x, const struct http1_request *req, struct slice path,
                       struct worker *w, bool metrics_alone)
{
    if (slice_equal(path, SLICE_LITERAL("/metrics"))) {
        metrics_serve(w, x, req);
        return;
    }
    if (!metrics_alone && http_debug_serve(x, req, path, w))
        return;
    if (!http_info_knows(path) || (metrics_alone && slice_equal(path, SLICE_LITERAL("/version")))) {
        struct http_status unknown = {0};
        respond(w, x, req->method, SLICE_LITERAL("/no-such-page"), req->query, &unknown);
        return;
    }
    serve_info(x, req, path, w);
}

static bool is_folder(const struct worker *w, struct slice path, bool metrics_alone)
{
    const struct config *c = w->node->config;
    if (metrics_alone)
        return false;
    return (c->enable_grpc_gateway && slice_equal(path, SLICE_LITERAL("/v3"))) ||
           (c->enable_pprof && slice_equal(path, SLICE_LITERAL("/debug/pprof")));
}

static void put_html(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        const char *escaped = text.data[i] == '&'    ? "&amp;"
                              : text.data[i] == '<'  ? "&lt;"
                              : text.data[i] == '>'  ? "&gt;"
                              : text.data[i] == '"'  ? "&#34;"
                              : text.data[i] == '\'' ? "&#39;"
                                                     : NULL;
        if (escaped != NULL)
            (void)buf_append(out, escaped, strlen(escaped));
        else
            (void)buf_append(out, text.data + i, 1);
    }
}

static void redirect(struct http1_exchange *x, const struct http1_request *req, struct slice path)
{
    struct buf where, body;
    bool is_get = slice_equal(req->method, SLICE_LITERAL("GET"));
    bool has_type = is_get || slice_equal(req->method, SLICE_LITERAL("HEAD"));
    buf_init(&where, SIZE_MAX);
    buf_init(&body, SIZE_MAX);
    http_path_encode(path, &where); /* once more: as Go does */
    if (req->query.size > 0) {
        (void)buf_append(&where, "?", 1);
        (void)buf_append(&where, req->query.data, req->query.size);
    }
    if (is_get) {
        (void)buf_append(&body, "<a href=\"", 9);
        put_html(&body, buf_slice(&where));
        (void)buf_append(&body, "\">Temporary Redirect</a>.\n\n", 27);
    }
    (void)buf_append(&where, "", 1);
    if (where.size > HTTP1_LOCATION_BYTES_MAX) {
        http1_respond(x, 414, NULL, SLICE_EMPTY);
    } else {
        http1_add_header(x, "Location", (const char *)where.data);
        http1_respond(x, 307, has_type ? "text/html; charset=utf-8" : NULL, buf_slice(&body));
    }
    buf_fini(&where);
    buf_fini(&body);
}

/* Go's ServeMux: paths that are not clean are sent to those that are. True: answered. */
static bool is_redirected(struct http1_exchange *x, const struct http1_request *req,
                          struct slice escaped, const struct worker *w, bool metrics_alone)
{
    struct buf clean;
    buf_init(&clean, SIZE_MAX);
    http_path_clean(escaped, &clean);
    bool folder = is_folder(w, buf_slice(&clean), metrics_alone);
    if (folder)
        (void)buf_append(&clean, "/", 1);
    bool moved = folder || !slice_equal(buf_slice(&clean), escaped);
    if (moved)
        redirect(x, req, buf_slice(&clean));
    buf_fini(&clean);
    return moved;
}

/* "/v3beta/..." is "/v3/...". */
static void rename_beta(struct buf *path)
{
    static const char beta[] = "/v3beta/", now[] = "/v3/";
    enum { SHORTER = sizeof(beta) - sizeof(now) };
    if (!slice_starts_with(buf_slice(path), SLICE_LITERAL(beta)))
        return;
    buf_consume(path, SHORTER);
    memcpy(path->data, now, sizeof(now) - 1);
}

/* Whose path it is, is seen before slashes in it are decoded. */
static bool is_first_element(struct slice escaped, const char *wanted)
{
    struct buf first;
    const uint8_t *end = escaped.size < 2 ? NULL : memchr(escaped.data + 1, '/', escaped.size - 1);
    buf_init(&first, SIZE_MAX);
    bool is =
        end != NULL &&
        http_path_decode(slice_of(escaped.data + 1, (size_t)(end - escaped.data) - 1), &first) &&
        slice_equal(buf_slice(&first), slice_of_string(wanted));
    buf_fini(&first);
    return is;
}

static void serve(struct http1_exchange *x, const struct http1_request *req, struct slice escaped,
                  struct slice path, struct worker *w)
{
    bool metrics_alone = grpc_conn_port(req->conn)->owner == ports_metrics;
    bool gateway = w->node->config->enable_grpc_gateway && !metrics_alone;
    if (!metrics_alone && !access_admits(x, req, path, w))
        return;
    if (is_redirected(x, req, escaped, w, metrics_alone))
        return;
    if (gateway && slice_starts_with(path, SLICE_LITERAL("/v3/")) &&
        is_first_element(escaped, "v3"))
        gateway_serve(x, req, path, w);
    else
        serve_page(x, req, path, w, metrics_alone);
}

/* What Go's server says of a request that it does not hand on. */
static void refuse(struct http1_exchange *x, const char *text)
{
    http1_close_after(x);
    http1_respond(x, 400, "text/plain; charset=utf-8", slice_of_string(text));
}

/* NULL: there is nothing wrong with it. */
static const char *host_error(const struct http1_request *req)
{
    struct slice host = http1_header(req, "host");
    if (host.data == NULL)
        return req->needs_host ? "400 Bad Request: missing required Host header" : NULL;
    for (size_t i = 0; i < host.size; i++)
        if (!isalnum(host.data[i]) &&
            (host.data[i] == '\0' || strchr("!$%&()*+,-.:;=[]'_~", host.data[i]) == NULL))
            return "400 Bad Request: malformed Host header";
    return NULL;
}

void http_serve(struct http1_exchange *x, const struct http1_request *req, void *arg)
{
    struct buf escaped, path;
    buf_init(&escaped, SIZE_MAX);
    buf_init(&path, SIZE_MAX);
    const char *why = host_error(req);
    if (why != NULL) {
        refuse(x, why);
    } else if (http_path_decode(req->path, &path)) {
        if (http_path_is_encoded(req->path))
            (void)buf_append(&escaped, req->path.data, req->path.size);
        else
            http_path_encode(buf_slice(&path), &escaped);
        rename_beta(&escaped);
        rename_beta(&path);
        serve(x, req, buf_slice(&escaped), buf_slice(&path), arg);
    } else {
        refuse(x, "400 Bad Request");
    }
    buf_fini(&escaped);
    buf_fini(&path);
}
