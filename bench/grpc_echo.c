/* A server that answers every message with itself: what the transport alone costs.
 *
 *   grpc_echo 127.0.0.1:9000
 *   h2load -n1000000 -c100 -m10 -t1 -d msg -H 'content-type: application/grpc' -H 'te: trailers' \
 *       http://127.0.0.1:9000/bench.Echo/Say
 *
 * At SIGINT it prints its calls and its CPU time for each. */
#include "proto/grpc.h"

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

static const struct grpc_call_ops ops = {.message = on_message, .closed = on_closed};
static const struct grpc_call_ops stream_ops = {
    .message = on_stream_message, .half_closed = on_stream_end, .closed = on_closed};
static const struct grpc_method methods[] = {
    {"/bench.Echo/Say", false, false, &ops, NULL, NULL},
    {"/bench.Echo/Stream", true, true, &stream_ops, NULL, NULL},
};

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    uv_stop(signal->loop);
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
    uv_signal_t signal;
    struct grpc_loop *gl = grpc_loop_new(loop);
    struct grpc_server_options o;
    grpc_server_options_init(&o);
    struct grpc_server *server = grpc_server_new(gl, &o, methods, 2);
    if (grpc_server_listen(server, address, NULL) != 0) {
        (void)fprintf(stderr, "cannot listen on %s\n", address);
        return 1;
    }
    (void)uv_signal_init(loop, &signal);
    (void)uv_signal_start(&signal, on_signal, SIGINT);
    (void)uv_run(loop, UV_RUN_DEFAULT);
    report(server);
    uv_close((uv_handle_t *)&signal, NULL);
    grpc_server_free(server);
    grpc_loop_free(gl);
    (void)uv_run(loop, UV_RUN_DEFAULT);
    return uv_loop_close(loop) == 0 ? 0 : 1;
}
