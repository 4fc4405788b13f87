/* A node's clients: the workers that serve them, on the core's loop or on threads of their own, and
 * the ports. */
#include "server/node_internal.h"

#include "server/http.h"
#include "server/notify.h"
#include "server/services.h"
#include "server/top.h"
#include "server/trace.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prompt.h"

#include <stdio.h>
#include <unistd.h>

enum {
    WORKER_TICK_MS = 100,
    CLIENT_WINDOW_BYTES = 64 << 10, /* as gRPC has it */
    /* Of requests that are not answered; the second is a worker's. */
    CLIENT_BYTES_MAX = 4 << 20,
    CLIENTS_BYTES_MAX = 16 << 20,
};

void node__say_ready(struct node *n)
{
    log_info("ready to serve client requests");
    for (uint32_t i = 0; i < n->ports.clients_count; i++) {
        const struct listen_port *p = &n->ports.clients[i];
        const char *traffic = p->port.no_http1 ? "grpc" : p->port.no_grpc ? "http" : "grpc+http";
        if (p->port.plain)
            log_info("serving client traffic insecurely; this is strongly discouraged!",
                     LOG_STR("traffic", traffic), LOG_STR("address", url_address(p->url)));
        if (p->port.tls != NULL)
            log_info("serving client traffic securely", LOG_STR("traffic", traffic),
                     LOG_STR("address", url_address(p->url)));
    }
    for (uint32_t i = 0; i < n->ports.metrics_count; i++)
        log_info("serving metrics", LOG_STR("address", n->ports.metrics[i].url));
    notify_ready();
}

static struct grpc_server *new_client_server(struct worker *w, struct grpc_loop *gl)
{
    const struct config *c = w->node->config;
    struct grpc_server_options o;
    grpc_server_options_init(&o);
    /* etcd's allowance for what surrounds a request. */
    o.recv_message_bytes_max = c->max_request_bytes + (512u << 10);
    o.stream_window_bytes = CLIENT_WINDOW_BYTES;
    o.reuse_port = c->reuse_port;
    o.conn_bytes_max = CLIENT_BYTES_MAX;
    o.loop_bytes_max = CLIENTS_BYTES_MAX;
    o.concurrent_streams_max = c->max_concurrent_streams;
    o.keepalive_min_time_ms = c->keepalive_min_time_ms;
    o.keepalive_interval_ms = c->keepalive_interval_ms;
    o.keepalive_timeout_ms = c->keepalive_timeout_ms;
    o.http1 = http_serve;
    o.http1_arg = w;
    w->tracer = tracer_new(w, gl);
    /* A request's bytes as base64, with something around them. */
    w->http_body_bytes_max = 2 * o.recv_message_bytes_max;
    o.http1_body_bytes_max = w->http_body_bytes_max;
    w->methods = services_table(w, &w->methods_count);
    w->method_stats = mem_alloc_zero(w->methods_count * sizeof(*w->method_stats));
    o.method_stats = w->method_stats;
    o.message_bytes = &w->message_bytes;
    o.bulk_rest = &w->meters.bulk_rest;
    o.conn_opened = top_conn_opened;
    o.conn_closed = top_conn_closed;
    o.conn_arg = w->top;
    return grpc_server_new(gl, &o, w->methods, w->methods_count);
}

int node__listen_all(const struct listen_port *ports, uint32_t count, struct grpc_server *server)
{
    for (uint32_t i = 0; i < count; i++) {
        int err = grpc_server_listen_on(server, ports[i].url, &ports[i].port, NULL);
        if (err == 0)
            continue;
        char text[600];
        snprintf(text, sizeof(text), "listen %s %s: %s", url_is_path(ports[i].url) ? "unix" : "tcp",
                 url_address(ports[i].url),
                 err == TV_EBUSY ? "bind: address already in use" : tv_err_text(err));
        return node__refuse("failed to start etcd", text);
    }
    return 0;
}

static void on_thread_drained(struct grpc_server *s, void *arg)
{
    struct node_thread *t = arg;
    (void)s;
    if (atomic_fetch_sub(&t->node->threads_draining, 1) == 1)
        uv_async_send(&t->node->drained);
}

static void on_control(uv_async_t *a)
{
    struct node_thread *t = a->data;
    uv_mutex_lock(&t->mutex);
    int fds[NODE_FDS_WAITING_MAX];
    const struct grpc_port *ports[NODE_FDS_WAITING_MAX];
    uint32_t count = t->fds_count;
    memcpy(fds, t->fds, count * sizeof(fds[0]));
    memcpy(ports, t->fds_ports, count * sizeof(ports[0]));
    t->fds_count = 0;
    bool drain = t->drain, stop = t->stop;
    t->drain = false;
    uv_mutex_unlock(&t->mutex);
    for (uint32_t i = 0; i < count; i++)
        (void)grpc_server_adopt(t->worker->server, fds[i], ports[i]);
    if (drain) {
        watch_hub_stop(t->worker->hub);
        grpc_server_drain(t->worker->server, on_thread_drained, t);
    }
    if (stop)
        uv_stop(&t->loop);
}

static void on_thread_tick(uv_timer_t *timer)
{
    struct node_thread *t = timer->data;
    worker_tick(t->worker, node__now_ms());
}

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void run_thread(void *arg)
{
    struct node_thread *t = arg;
    prompt_thread();
    uv_run(&t->loop, UV_RUN_DEFAULT);
}

static void accept_to_thread(void *arg, int fd, const struct grpc_port *port)
{
    struct node *n = arg;
    struct node_thread *t = &n->threads[n->next_thread++ % n->workers_count];
    uv_mutex_lock(&t->mutex);
    bool room = t->fds_count < NODE_FDS_WAITING_MAX;
    if (room) {
        t->fds_ports[t->fds_count] = port;
        t->fds[t->fds_count++] = fd;
    }
    uv_mutex_unlock(&t->mutex);
    if (room)
        uv_async_send(&t->control);
    else
        close(fd);
}

static void start_threads(struct node *n)
{
    n->threads = mem_alloc_zero(n->workers_count * sizeof(*n->threads));
    for (uint32_t i = 0; i < n->workers_count; i++) {
        struct node_thread *t = &n->threads[i];
        t->node = n;
        t->worker = &n->workers[i];
        uv_loop_init(&t->loop);
        uv_mutex_init(&t->mutex);
        uv_async_init(&t->loop, &t->control, on_control);
        uv_timer_init(&t->loop, &t->tick);
        t->control.data = t;
        t->tick.data = t;
        worker_init(t->worker, n, &t->loop);
        t->worker->gl = grpc_loop_new(&t->loop);
        t->worker->server = new_client_server(t->worker, t->worker->gl);
        uv_timer_start(&t->tick, on_thread_tick, WORKER_TICK_MS, WORKER_TICK_MS);
    }
    for (uint32_t i = 0; i < n->workers_count; i++)
        uv_thread_create(&n->threads[i].thread, run_thread, &n->threads[i]);
}

void node__start_workers(struct node *n)
{
    n->workers_count = n->config->io_threads == 0 ? 1 : n->config->io_threads;
    n->workers = mem_alloc_zero(n->workers_count * sizeof(*n->workers));
    if (n->config->io_threads == 0) {
        struct worker *w = &n->workers[0];
        worker_init(w, n, &n->loop);
        w->server = new_client_server(w, n->gl);
        return;
    }
    start_threads(n);
    struct grpc_server_options o;
    grpc_server_options_init(&o);
    o.reuse_port = n->config->reuse_port;
    n->acceptor = grpc_server_new(n->gl, &o, NULL, 0);
    grpc_server_set_accept(n->acceptor, accept_to_thread, n);
}

/* Not before this member belongs to the cluster, and, when it takes the place of one that lost its
 * data, not before it votes: to clients that member is down until then, and they go elsewhere. A
 * learner that an operator added serves what learners serve. */
static bool may_serve(const struct node *n)
{
    const struct cluster_member *m = cluster_find(&n->cluster, n->member_id);
    return m != NULL && raft_membership_has(&n->cluster.raft, n->member_id) &&
           !(m->learner && m->replacement);
}

int node__serve_clients(struct node *n)
{
    held_ports_close(&n->held); /* also when we may not serve yet: they shall go elsewhere */
    if (n->serving || !may_serve(n))
        return 0;
    n->serving = true;
    struct grpc_server *server = n->acceptor != NULL ? n->acceptor : n->workers[0].server;
    int err = node__listen_all(n->ports.clients, n->ports.clients_count, server);
    if (err == 0)
        err = node__listen_all(n->ports.metrics, n->ports.metrics_count, server);
    if (err == 0 && n->ready)
        node__say_ready(n);
    return err;
}

/* --- the end --- */

static void on_drained(struct grpc_server *s, void *arg)
{
    struct node *n = arg;
    (void)s;
    n->clients_gone = true;
    node__stop_if_done(n);
}

void node__on_all_drained(uv_async_t *a)
{
    struct node *n = a->data;
    n->clients_gone = true;
    node__stop_if_done(n);
}

void node__drain_clients(struct node *n)
{
    if (n->threads == NULL) {
        watch_hub_stop(n->workers[0].hub);
        grpc_server_drain(n->workers[0].server, on_drained, n);
        return;
    }
    grpc_server_free(n->acceptor);
    n->acceptor = NULL;
    atomic_store(&n->threads_draining, n->workers_count);
    for (uint32_t i = 0; i < n->workers_count; i++) {
        struct node_thread *t = &n->threads[i];
        uv_mutex_lock(&t->mutex);
        t->drain = true;
        uv_mutex_unlock(&t->mutex);
        uv_async_send(&t->control);
    }
}

static void stop_thread(struct node_thread *t)
{
    uv_mutex_lock(&t->mutex);
    t->stop = true;
    uv_mutex_unlock(&t->mutex);
    uv_async_send(&t->control);
    uv_thread_join(&t->thread);
}

void node__finish_loop(uv_loop_t *loop)
{
    uv_walk(loop, close_handle, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
}

void node__close_clients(struct node *n)
{
    for (uint32_t i = 0; n->threads != NULL && i < n->workers_count; i++)
        stop_thread(&n->threads[i]);
    for (uint32_t i = 0; i < n->workers_count; i++) {
        grpc_server_free(n->workers[i].server);
        tracer_free(n->workers[i].tracer);
    }
    if (n->acceptor != NULL)
        grpc_server_free(n->acceptor);
}

void node__free_workers(struct node *n)
{
    for (uint32_t i = 0; i < n->workers_count; i++) {
        struct worker *w = &n->workers[i];
        worker_drop_answers(w);
        worker_fini(w);
        mem_free(w->methods);
        mem_free(w->method_stats);
        if (n->threads != NULL) {
            grpc_loop_free(w->gl);
            node__finish_loop(&n->threads[i].loop);
            uv_mutex_destroy(&n->threads[i].mutex);
        }
    }
}
