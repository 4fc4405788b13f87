#include "server/http.h"

#include "server/http_info.h"
#include "server/node.h"
#include "server/ports.h"

#include "base/mem.h"

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

void http_serve(struct http1_exchange *x, const struct http1_request *req, void *arg)
{
    struct worker *w = arg;
    if (slice_equal(req->path, SLICE_LITERAL("/metrics"))) {
        metrics_serve(w, x, req);
        return;
    }
    bool metrics_alone = grpc_conn_port(req->conn)->owner == ports_metrics;
    if (!http_info_knows(req->path) ||
        (metrics_alone && slice_equal(req->path, SLICE_LITERAL("/version")))) {
        struct http_status unknown = {0};
        respond(w, x, req->method, SLICE_LITERAL("/no-such-page"), req->query, &unknown);
        return;
    }
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
    uint32_t reads = http_info_reads(req->method, req->path, req->query, &st);
    /* A local read cannot fail: the store is in memory. */
    if ((reads & HTTP_READ_LINEARIZABLE) == 0) {
        respond(w, x, req->method, req->path, req->query, &st);
        return;
    }
    struct http_wait *wait =
        mem_alloc_zero(sizeof(*wait) + req->method.size + req->path.size + req->query.size);
    uint8_t *at = wait->text;
    wait->exchange = x;
    wait->status = st;
    wait->method = keep(&at, req->method);
    wait->path = keep(&at, req->path);
    wait->query = keep(&at, req->query);
    struct request *post = worker_request(w, REQUEST_READ_BARRIER, NULL, on_barrier);
    post->user = wait;
    worker_post(w, post);
}
