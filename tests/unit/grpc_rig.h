/* A server with a few simple methods and a loop, for the tests of the transport. With RIG_TLS it
 * serves by TLS as well, and rig.address is an https:// URL: clients then need rig.client_tls. */
#ifndef TESTS_UNIT_GRPC_RIG_H
#define TESTS_UNIT_GRPC_RIG_H

#include "proto/grpc.h"
#include "proto/http1.h"
#include "proto/tls.h"

#include "base/clock.h"
#include "base/mem.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RIG_PATIENCE_MS = 60000 };

struct rig {
    uv_loop_t loop;
    uv_timer_t tick; /* lets uv_run() return now and then */
    struct grpc_loop *gl;
    struct grpc_server *server;
    struct grpc_server_options server_options;
    char address[32];
    uint16_t port;
    uint32_t opened;
    uint32_t closed;
    uint32_t conns_opened;
    char peer[64]; /* of the connection opened last */
    uint32_t conns_closed;
    enum grpc_code closed_code;
    size_t queued_bytes_max;
    struct grpc_call *last; /* the server's side of the call opened last; NULL once closed */
    struct http1_exchange *exchange; /* of /later */
    bool pause_next;                 /* the next streaming call does not read */
    struct tls_context *client_tls;  /* NULL without RIG_TLS, as the next */
    struct tls_context *server_tls;
    struct grpc_port listen_port;
};

static struct rig rig;

/* --- the service --- */

static void rig_open(struct grpc_call *call, void *arg)
{
    (void)arg;
    rig.opened++;
    rig.last = call;
    if (rig.pause_next)
        grpc_call_pause_reading(call);
    rig.pause_next = false;
}

static void rig_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)text;
    rig.closed++;
    rig.closed_code = code;
    if (rig.last == call)
        rig.last = NULL;
}

static void rig_echo(struct grpc_call *call, struct slice msg)
{
    ck_assert_int_eq(grpc_reply(call, &msg, 1), 0);
}

static void rig_bidi(struct grpc_call *call, struct slice msg)
{
    (void)grpc_send(call, &msg, 1);
    if (grpc_call_queued_bytes(call) > rig.queued_bytes_max)
        rig.queued_bytes_max = grpc_call_queued_bytes(call);
}

static void rig_bidi_end(struct grpc_call *call)
{
    grpc_finish(call, GRPC_OK, NULL);
}

static uint32_t rig_u32(struct slice msg)
{
    uint32_t n = 0;
    ck_assert_uint_ge(msg.size, sizeof(n));
    memcpy(&n, msg.data, sizeof(n));
    return n;
}

static void rig_count(struct grpc_call *call, struct slice msg)
{
    uint32_t count = rig_u32(msg);
    for (uint32_t i = 0; i < count; i++)
        ck_assert_int_eq(grpc_send(call, &(struct slice){(uint8_t *)&i, sizeof(i)}, 1), 0);
    grpc_finish(call, GRPC_OK, NULL);
}

static void rig_fail(struct grpc_call *call, struct slice msg)
{
    (void)msg;
    grpc_finish(call, GRPC_INVALID_ARGUMENT, "100% of \"caf\xc3\xa9\" is bad\n");
}

/* Bytes 0, 1, 2, ... pulled in odd pieces, with pauses. */
struct rig_source {
    struct grpc_call *call;
    uint64_t at;
    uint32_t turns;
    uv_idle_t idle;
};

static void rig_source_idle(uv_idle_t *idle)
{
    struct rig_source *s = idle->data;
    (void)uv_idle_stop(idle);
    grpc_source_resume(s->call);
}

static size_t rig_source_read(void *ctx, uint8_t *dst, size_t size_max)
{
    struct rig_source *s = ctx;
    if (++s->turns % 5 == 0) {
        (void)uv_idle_start(&s->idle, rig_source_idle);
        return 0;
    }
    size_t size = size_max > 4001 ? 4001 : size_max;
    for (size_t i = 0; i < size; i++)
        dst[i] = (uint8_t)s->at++;
    return size;
}

static void rig_source_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void rig_source_done(void *ctx)
{
    struct rig_source *s = ctx;
    uv_close((uv_handle_t *)&s->idle, rig_source_closed);
}

static void rig_pull(struct grpc_call *call, struct slice msg)
{
    struct rig_source *s = mem_alloc_zero(sizeof(*s));
    s->call = call;
    s->idle.data = s;
    (void)uv_idle_init(&rig.loop, &s->idle);
    struct grpc_source src = {.read = rig_source_read, .done = rig_source_done, .ctx = s};
    ck_assert_int_eq(grpc_send_source(call, rig_u32(msg), &src), 0);
    grpc_finish(call, GRPC_OK, NULL);
}

/* Shared bytes, several times in one stream. */
static void rig_shared(struct grpc_call *call, struct slice msg)
{
    enum { BODY_BYTES = 100000 };
    struct bref *b = bref_new(BODY_BYTES);
    memset(b->data, 's', BODY_BYTES);
    for (uint32_t i = rig_u32(msg); i > 0; i--)
        ck_assert_int_eq(
            grpc_send_shared(call, SLICE_LITERAL("head"), b, slice_of(b->data, BODY_BYTES)), 0);
    bref_unref(b);
    grpc_finish(call, GRPC_OK, NULL);
}

static void rig_flag(struct grpc_call *call, struct slice msg)
{
    (void)msg;
    struct slice flag = grpc_call_metadata(call, "x-flag");
    ck_assert_int_eq(grpc_reply(call, &flag, 1), 0);
}

static const struct grpc_call_ops rig_echo_ops = {.message = rig_echo, .closed = rig_closed};
static const struct grpc_call_ops rig_bidi_ops = {
    .message = rig_bidi, .half_closed = rig_bidi_end, .closed = rig_closed};
static const struct grpc_call_ops rig_count_ops = {.message = rig_count, .closed = rig_closed};
static const struct grpc_call_ops rig_never_ops = {.closed = rig_closed};
static const struct grpc_call_ops rig_fail_ops = {.message = rig_fail, .closed = rig_closed};
static const struct grpc_call_ops rig_pull_ops = {.message = rig_pull, .closed = rig_closed};
static const struct grpc_call_ops rig_shared_ops = {.message = rig_shared, .closed = rig_closed};
static const struct grpc_call_ops rig_flag_ops = {.message = rig_flag, .closed = rig_closed};

static const struct grpc_method rig_methods[] = {
    {"/rig.Rig/Echo", false, false, &rig_echo_ops, rig_open, NULL},
    {"/rig.Rig/Bidi", true, true, &rig_bidi_ops, rig_open, NULL},
    {"/rig.Rig/Count", false, true, &rig_count_ops, rig_open, NULL},
    {"/rig.Rig/Never", false, false, &rig_never_ops, rig_open, NULL},
    {"/rig.Rig/NeverStream", true, true, &rig_never_ops, rig_open, NULL},
    {"/rig.Rig/Fail", false, false, &rig_fail_ops, rig_open, NULL},
    {"/rig.Rig/Pull", false, false, &rig_pull_ops, rig_open, NULL},
    {"/rig.Rig/Shared", false, true, &rig_shared_ops, rig_open, NULL},
    {"/rig.Rig/Flag", false, false, &rig_flag_ops, rig_open, NULL},
};

static void rig_http1(struct http1_exchange *x, const struct http1_request *req, void *arg)
{
    (void)arg;
    if (slice_equal(req->path, SLICE_LITERAL("/health"))) {
        http1_respond(x, 200, "application/json", SLICE_LITERAL("{\"health\":\"true\"}"));
    } else if (slice_equal(req->path, SLICE_LITERAL("/echo"))) {
        http1_respond(x, 200, "text/plain", req->body);
    } else if (slice_equal(req->path, SLICE_LITERAL("/query"))) {
        http1_respond(x, 200, http1_header(req, "X-Type").data == NULL ? "a/none" : "a/some",
                      req->query);
    } else if (slice_equal(req->path, SLICE_LITERAL("/later"))) {
        rig.exchange = x;
    } else if (slice_equal(req->path, SLICE_LITERAL("/pieces"))) {
        http1_add_header(x, "X-One", "1");
        http1_respond_begin(x, 200, "text/plain");
        http1_respond_write(x, SLICE_LITERAL("one"));
        http1_respond_write(x, SLICE_LITERAL("two!"));
        http1_respond_end(x);
    } else {
        http1_add_header(x, "Allow", "GET");
        http1_add_header(x, "X-Two", "2");
        http1_respond(x, 404, "text/plain", SLICE_LITERAL("404 page not found\n"));
    }
}

/* --- the loop --- */

static void rig_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void rig_conn_opened(struct grpc_conn *conn, void *arg)
{
    (void)arg;
    ck_assert_uint_gt(strlen(grpc_conn_peer(conn)), 0);
    (void)snprintf(rig.peer, sizeof(rig.peer), "%s", grpc_conn_peer(conn));
    rig.conns_opened++;
}

static void rig_conn_closed(struct grpc_conn *conn, void *arg)
{
    (void)conn;
    (void)arg;
    rig.conns_closed++;
}

static inline void rig_make_tls(void)
{
    char dir[] = "/tmp/trivet-rig-XXXXXX", cert[64], key[64], why[256], command[64];
    const char *host = "127.0.0.1";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(tls_self_sign(dir, &host, 1, 1, why, sizeof(why)), 0);
    (void)snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
    (void)snprintf(key, sizeof(key), "%s/key.pem", dir);
    rig.server_tls = tls_context_new(
        &(struct tls_options){.is_server = true, .cert_file = cert, .key_file = key}, why,
        sizeof(why));
    rig.client_tls = tls_context_new(&(struct tls_options){.ca_file = cert}, why, sizeof(why));
    ck_assert(rig.server_tls != NULL && rig.client_tls != NULL);
    (void)snprintf(command, sizeof(command), "rm -r %s", dir); /* what was read stays */
    ck_assert_int_eq(system(command), 0);
    (void)signal(SIGPIPE, SIG_IGN); /* as every program that uses the transport */
}

static void rig_serve(void)
{
#ifdef RIG_TLS
    if (rig.server_tls == NULL)
        rig_make_tls();
#endif
    rig.server = grpc_server_new(rig.gl, &rig.server_options, rig_methods,
                                 sizeof(rig_methods) / sizeof(rig_methods[0]));
    char address[32];
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rig.port);
    rig.listen_port = (struct grpc_port){.plain = true, .tls = rig.server_tls};
    ck_assert_int_eq(grpc_server_listen_on(rig.server, address, &rig.listen_port, &rig.port), 0);
    (void)snprintf(rig.address, sizeof(rig.address), "%s127.0.0.1:%u",
                   rig.server_tls != NULL ? "https://" : "", rig.port);
}

/* Set rig.server_options between the two. */
static void rig_prepare(void)
{
    memset(&rig, 0, sizeof(rig));
    ck_assert_int_eq(uv_loop_init(&rig.loop), 0);
    (void)uv_timer_init(&rig.loop, &rig.tick);
    (void)uv_timer_start(&rig.tick, rig_tick, 5, 5);
    rig.gl = grpc_loop_new(&rig.loop);
    grpc_server_options_init(&rig.server_options);
    rig.server_options.http1 = rig_http1;
    rig.server_options.conn_opened = rig_conn_opened;
    rig.server_options.conn_closed = rig_conn_closed;
}

static inline void rig_start(void)
{
    rig_prepare();
    rig_serve();
}

/* Run until `cond` holds. */
#define RIG_UNTIL(cond)                                                              \
    do {                                                                             \
        uint64_t rig_end_ns = clock_mono_ns() + RIG_PATIENCE_MS * UINT64_C(1000000); \
        while (!(cond)) {                                                            \
            (void)uv_run(&rig.loop, UV_RUN_ONCE);                                    \
            ck_assert_msg(clock_mono_ns() < rig_end_ns, "never came: %s", #cond);    \
        }                                                                            \
    } while (0)

static inline void rig_turns(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)uv_run(&rig.loop, UV_RUN_ONCE);
}

/* Everything is closed, and every call that was opened was told its end. */
static void rig_stop(void)
{
    if (rig.server != NULL)
        grpc_server_free(rig.server);
    grpc_loop_free(rig.gl);
    uv_close((uv_handle_t *)&rig.tick, NULL);
    ck_assert_int_eq(uv_run(&rig.loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&rig.loop), 0);
    tls_context_free(rig.server_tls);
    tls_context_free(rig.client_tls);
    ck_assert_uint_eq(rig.opened, rig.closed);
    ck_assert_uint_eq(rig.conns_opened, rig.conns_closed);
}

#endif
