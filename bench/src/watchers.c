/* Watchers of everything under the prefix, spread over the connections and their streams. Each
 * event's value begins with the moment at which its put was due, on this machine's clock. */
#include "load.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "proto/wire.h"

#include <stdio.h>
#include <stdlib.h>

struct watch_stream {
    struct worker *worker;
    uint32_t watchers_count;
    uint64_t put_events; /* of any put of this run, the warm-up's too */
};

static void on_events(struct watch_stream *s, struct slice msg)
{
    struct worker *w = s->worker;
    struct wire_reader r = wire_reader_of(msg);
    struct wire_event e;
    uint64_t now = clock_mono_ns();
    uint64_t count = 0;
    while (wire_next_event(&r, &e) == 1) {
        uint64_t due_ns;
        count++;
        if (e.kv.value.size < sizeof(due_ns))
            continue;
        memcpy(&due_ns, e.kv.value.data, sizeof(due_ns));
        if (due_ns >= w->run->warm_ns && due_ns <= now)
            hist_add(&w->event_latency, now - due_ns);
    }
    s->put_events += count;
    atomic_fetch_add_explicit(&w->counters.events, count, memory_order_relaxed);
}

static void watch_message(struct grpc_call *call, struct slice msg)
{
    struct watch_stream *s = grpc_call_user(call);
    struct wire_watch_response response;
    if (wire_watch_response_decode(msg, &response) != 0 || response.canceled) {
        fprintf(stderr, "trivet-bench: a watch was refused: %.*s\n",
                (int)response.cancel_reason.size, (const char *)response.cancel_reason.data);
        exit(1);
    }
    if (response.created) {
        s->worker->watchers_created++;
        worker_check_ready(s->worker);
    }
    on_events(s, msg);
}

static void watch_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct watch_stream *s = grpc_call_user(call);
    if (!s->worker->running && s->worker->watchers_created == s->worker->watchers_count)
        return; /* our own end */
    fprintf(stderr, "trivet-bench: a watch ended: %.*s (code %d)\n", (int)text.size,
            (const char *)text.data, (int)code);
    exit(1);
}

static const struct grpc_call_ops watch_ops = {.message = watch_message, .closed = watch_closed};

static void stream_open(struct watch_stream *s, struct grpc_channel *channel)
{
    const struct bench_options *o = s->worker->run->o;
    uint8_t end[1 << 16];
    struct wire_watch_request request = {
        .kind = WIRE_WATCH_CREATE,
        .create = {.key = o->prefix[0] == 0 ? slice_of("", 1) : slice_of_string(o->prefix),
                   .range_end = key_range_end(o, end)},
    };
    struct grpc_start_options start = {
        .path = "/etcdserverpb.Watch/Watch",
        .wait_for_ready = true,
        .ops = &watch_ops,
        .user = s,
    };
    struct grpc_call *call = grpc_start(channel, &start);
    size_t size = wire_watch_request_size(&request);
    uint8_t *bytes = mem_alloc(size);
    (void)wire_watch_request_put(bytes, &request);
    struct slice msg = slice_of(bytes, size);
    for (uint32_t i = 0; i < s->watchers_count; i++)
        (void)grpc_send(call, &msg, 1);
    mem_free(bytes);
}

void watchers_open(struct worker *w)
{
    uint32_t conns = w->channels_count - 1; /* the last one writes */
    uint32_t streams = conns * w->run->o->streams;
    if (streams > w->watchers_count)
        streams = w->watchers_count;
    w->watches_count = streams;
    w->watches = mem_alloc_zero((streams + 1) * sizeof(*w->watches));
    for (uint32_t i = 0; i < streams; i++) {
        struct watch_stream *s = &w->watches[i];
        s->worker = w;
        s->watchers_count = w->watchers_count / streams + (i < w->watchers_count % streams);
        stream_open(s, w->channels[i % conns]);
    }
}

bool watchers_have_all(const struct worker *w)
{
    uint64_t puts = atomic_load_explicit(&w->run->puts_done, memory_order_relaxed);
    for (uint32_t i = 0; i < w->watches_count; i++)
        if (w->watches[i].put_events < puts * w->watches[i].watchers_count)
            return false;
    return true;
}
