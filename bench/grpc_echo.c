/* A server that answers every message with itself: what the transport alone costs. It also answers
 * etcd's Put, always with the same words, and sends events to a Watch as fast as they are taken:
 * what trivet-bench achieves against it is what trivet-bench can measure at all.
 *
 *   grpc_echo 127.0.0.1:9000
 *   trivet-bench put --endpoints 127.0.0.1:9000 --conns 100 --streams 10
 *   h2load -n1000000 -c100 -m10 -t1 -d msg -H 'content-type: application/grpc' -H 'te: trailers' \
 *       http://127.0.0.1:9000/bench.Echo/Say
 *
 * At SIGINT it prints its calls and its CPU time for each. */
#include "base/assert.h"
#include "proto/grpc.h"
#include "proto/wire.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

static void on_message(struct grpc_call *call, struct slice msg)
{
    (void)grpc_reply(call, &msg, 1);
}

static void on_stream_message(struct grpc_call *call, struct slice msg)
{
    (void)grpc_send(call, &msg, 1);
}

static void on_stream_end(struct grpc_call *call)
{
    grpc_finish(call, GRPC_OK, NULL);
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)call;
    (void)code;
    (void)text;
}

/* --- etcd's, as far as a load generator looks --- */

enum { EVENTS_QUEUED_BYTES = 64 << 10, VALUE_BYTES = 256, ANSWER_BYTES_MAX = 1024 };

/* As large as in a cluster that has run for a while. */
static const struct wire_header header = {
    .cluster_id = 0xcdf818194e3a8c32,
    .member_id = 0x8e9e05c52164694d,
    .revision = 123456789,
    .raft_term = 7,
};

static void on_put(struct grpc_call *call, struct slice msg)
{
    uint8_t bytes[ANSWER_BYTES_MAX];
    struct slice none = slice_of("", 0);
    (void)msg;
    size_t size = wire_put_response_size(&header, none);
    (void)wire_put_response_put(bytes, &header, none);
    struct slice answer = slice_of(bytes, size);
    (void)grpc_reply(call, &answer, 1);
}

static size_t write_watch_response(uint8_t *dst, bool created)
{
    struct wire_watch_response response = {.header = header, .created = created};
    uint8_t *end = wire_watch_response_put(dst, &response);
    return (size_t)(end - dst);
}

static size_t write_event(uint8_t *dst)
{
    static const uint8_t value[VALUE_BYTES];
    uint8_t kv_bytes[ANSWER_BYTES_MAX];
    struct wire_kv kv = {
        .key = SLICE_LITERAL("/bench/0000000000000000000000001"),
        .create_revision = 1000,
        .mod_revision = header.revision,
        .version = 1000,
        .value = slice_of(value, sizeof(value)),
    };
    size_t kv_size = wire_kv_size(&kv);
    ASSERT(kv_size < sizeof(kv_bytes) / 2);
    (void)wire_kv_put(kv_bytes, &kv);
    uint8_t *end = wire_event_put(dst, 0, slice_of(kv_bytes, kv_size), slice_of("", 0));
    return (size_t)(end - dst);
}

/* One event to a message, until enough of them wait for the client. */
static void send_events(struct grpc_call *call)
{
    uint8_t bytes[ANSWER_BYTES_MAX];
    size_t size = write_watch_response(bytes, false);
    size += write_event(bytes + size);
    struct slice msg = slice_of(bytes, size);
    while (grpc_call_queued_bytes(call) <= EVENTS_QUEUED_BYTES)
        if (grpc_send(call, &msg, 1) != 0)
            return; /* closed */
}

static void on_watch(struct grpc_call *call, struct slice msg)
{
    uint8_t bytes[ANSWER_BYTES_MAX];
    (void)msg;
    struct slice created = slice_of(bytes, write_watch_response(bytes, true));
    (void)grpc_send(call, &created, 1);
    send_events(call);
}

static const struct grpc_call_ops put_ops = {.message = on_put, .closed = on_closed};
static const struct grpc_call_ops watch_ops = {.message = on_watch,
                                               .writable = send_events,
                                               .half_closed = on_stream_end,
                                               .closed = on_closed};
static const struct grpc_call_ops ops = {.message = on_message, .closed = on_closed};
static const struct grpc_call_ops stream_ops = {
    .message = on_stream_message, .half_closed = on_stream_end, .closed = on_closed};
static const struct grpc_method methods[] = {
    {"/bench.Echo/Say", false, false, &ops, NULL, NULL},
    {"/bench.Echo/Stream", true, true, &stream_ops, NULL, NULL},
    {"/etcdserverpb.KV/Put", false, false, &put_ops, NULL, NULL},
    {"/etcdserverpb.Watch/Watch", true, true, &watch_ops, NULL, NULL},
};

static void on_signal(uv_signal_t *interrupt, int number)
{
    (void)number;
    uv_stop(interrupt->loop);
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void report(const struct grpc_server *server)
{
    struct grpc_server_stats stats;
    struct rusage usage;
    grpc_server_stats(server, &stats);
    (void)getrusage(RUSAGE_SELF, &usage);
    double user = seconds(usage.ru_utime);
    double sys = seconds(usage.ru_stime);
    double calls = stats.calls_total > 0 ? (double)stats.calls_total : 1;
    printf("%llu calls, %.2f us of CPU each (user %.2f, system %.2f)\n",
           (unsigned long long)stats.calls_total, (user + sys) * 1e6 / calls, user * 1e6 / calls,
           sys * 1e6 / calls);
}

int main(int argc, char **argv)
{
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:9000";
    uv_loop_t *loop = uv_default_loop();
    uv_signal_t interrupt;
    struct grpc_loop *gl = grpc_loop_new(loop);
    struct grpc_server_options o;
    grpc_server_options_init(&o);
    o.send_queue_low_bytes = EVENTS_QUEUED_BYTES / 2; /* below it send_events() is called again */
    struct grpc_server *server =
        grpc_server_new(gl, &o, methods, sizeof(methods) / sizeof(methods[0]));
    if (grpc_server_listen(server, address, NULL) != 0) {
        (void)fprintf(stderr, "cannot listen on %s\n", address);
        return 1;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)uv_signal_init(loop, &interrupt);
    (void)uv_signal_start(&interrupt, on_signal, SIGINT);
    (void)uv_run(loop, UV_RUN_DEFAULT);
    report(server);
    uv_close((uv_handle_t *)&interrupt, NULL);
    grpc_server_free(server);
    grpc_loop_free(gl);
    (void)uv_run(loop, UV_RUN_DEFAULT);
    return uv_loop_close(loop) == 0 ? 0 : 1;
}
