/* Watchers, spread over the connections and their streams. Each event's value begins with the
 * moment at which its put was due, on this machine's clock.
 *
 * Receiving is kept cheap, so that millions of events a second can be counted: a message is walked
 * once, field by field. Of those with one event each is decoded, of those with more one in
 * SAMPLED_ONE_IN, whose events stand for the others': in a message there are old ones and new ones,
 * and neither alone says what the delays are. */
#include "load.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "proto/wire.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    WATCH_CREATED = 3, /* fields of WatchResponse */
    WATCH_CANCELED = 4,
    WATCH_CANCEL_REASON = 6,
    WATCH_EVENTS = 11,

    SAMPLED_ONE_IN = 17, /* a prime, so as to go through all watchers of a put */
};

struct watch_stream {
    struct worker *worker;
    uint32_t watchers_count;
};

/* What a WatchResponse says, as far as it matters here. */
struct seen {
    bool created;
    bool canceled;
    struct slice reason;
    uint64_t events_count;
    struct wire_reader events; /* from the first on */
};

static bool look_at(struct slice msg, struct seen *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct seen){.reason = slice_of("", 0)};
    for (const uint8_t *at = r.at; (rv = wire_next_field(&r, &f)) == 1; at = r.at) {
        if (f.number == WATCH_EVENTS && f.type == WIRE_BYTES) {
            if (ret->events_count++ == 0)
                ret->events = (struct wire_reader){at, r.end};
        } else if (f.number == WATCH_CREATED) {
            ret->created = f.value != 0;
        } else if (f.number == WATCH_CANCELED) {
            ret->canceled = f.value != 0;
        } else if (f.number == WATCH_CANCEL_REASON && f.type == WIRE_BYTES) {
            ret->reason = f.bytes;
        }
    }
    return rv == 0;
}

static void measure_one(struct worker *w, const struct wire_event *e, uint64_t now, uint64_t count)
{
    uint64_t due_ns;
    if (e->kv.value.size < sizeof(due_ns))
        return;
    memcpy(&due_ns, e->kv.value.data, sizeof(due_ns));
    if (due_ns >= w->run->warm_ns && due_ns <= now)
        hist_add_many(&w->event_latency, now - due_ns, count);
}

/* Puts of another process (--writers 0) do not say when they were due. */
static void measure_delays(struct worker *w, const struct seen *seen, uint64_t now)
{
    struct wire_reader r = seen->events;
    struct wire_event e;
    bool sampled = seen->events_count > 1;
    if (w->writers_count == 0 || (sampled && w->messages_of_several++ % SAMPLED_ONE_IN != 0))
        return;
    while (wire_next_event(&r, &e) == 1)
        measure_one(w, &e, now, sampled ? SAMPLED_ONE_IN : 1);
}

static void on_events(struct worker *w, const struct seen *seen)
{
    uint64_t now = clock_mono_ns();
    measure_delays(w, seen, now);
    if (now >= w->run->warm_ns && now < w->run->end_ns) {
        w->events_measured += seen->events_count;
        w->last_event_ns = now;
    }
    atomic_fetch_add_explicit(&w->counters.events, seen->events_count, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->run->events_seen, seen->events_count, memory_order_relaxed);
    if (w->run->o->rate <= 0 && w->running)
        worker_pump(w);
}

static void watch_message(struct grpc_call *call, struct slice msg)
{
    struct watch_stream *s = grpc_call_user(call);
    struct seen seen;
    if (!look_at(msg, &seen) || seen.canceled) {
        fprintf(stderr, "trivet-bench: a watch was refused: %.*s\n", (int)seen.reason.size,
                (const char *)seen.reason.data);
        exit(1);
    }
    if (seen.created) {
        s->worker->watchers_created++;
        worker_check_ready(s->worker);
    }
    if (seen.events_count > 0)
        on_events(s->worker, &seen);
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

/* The first key of watcher i's slice, and so the end of the slice before. */
static uint64_t slice_first(const struct bench_options *o, uint64_t i)
{
    return (i * o->keys + o->watchers - 1) / o->watchers;
}

uint32_t watchers_of(const struct bench_options *o, uint64_t key)
{
    if (o->watched == BENCH_WATCH_ALL)
        return o->watchers;
    if (o->watched == BENCH_WATCH_SLICE)
        return 1;
    return slice_first(o, key * o->watchers / o->keys) == key;
}

/* What the watcher of this number watches. `bytes` has room for two keys, or the prefix. */
static struct wire_watch_create create_of(const struct bench_options *o, uint64_t number,
                                          uint8_t *bytes)
{
    uint8_t *end = bytes + o->key_size;
    if (o->watched == BENCH_WATCH_ALL)
        return (struct wire_watch_create){
            .key = o->prefix[0] == 0 ? slice_of("", 1) : slice_of_string(o->prefix),
            .range_end = key_range_end(o, bytes),
        };
    key_write(o, slice_first(o, number), bytes);
    key_write(o, slice_first(o, number + 1), end);
    return (struct wire_watch_create){
        .key = slice_of(bytes, o->key_size),
        .range_end = o->watched == BENCH_WATCH_ONE ? slice_of("", 0) : slice_of(end, o->key_size),
    };
}

/* All of them are asked for at once; the answers come when they come. */
static void stream_open(struct watch_stream *s, struct grpc_channel *channel, uint64_t first)
{
    const struct run *run = s->worker->run;
    struct grpc_start_options start = {
        .path = "/etcdserverpb.Watch/Watch",
        .wait_for_ready = true,
        .ops = &watch_ops,
        .user = s,
    };
    struct grpc_call *call = grpc_start(channel, &start);
    uint8_t *bytes = mem_alloc(2 * run->o->key_size);
    for (uint32_t i = 0; i < s->watchers_count; i++) {
        struct wire_watch_request request = {
            .kind = WIRE_WATCH_CREATE,
            .create = create_of(run->o, first + (uint64_t)i * run->o->parts, bytes),
        };
        size_t size = wire_watch_request_size(&request);
        uint8_t *encoded = mem_alloc(size);
        (void)wire_watch_request_put(encoded, &request);
        struct slice msg = slice_of(encoded, size);
        (void)grpc_send(call, &msg, 1);
        mem_free(encoded);
    }
    mem_free(bytes);
}

void watchers_open(struct worker *w)
{
    uint32_t conns = w->channels_count - (w->writers_count > 0);
    uint32_t streams = conns * w->run->o->streams;
    uint64_t number = w->part; /* watchers are dealt out to the threads in turn */
    if (streams > w->watchers_count)
        streams = w->watchers_count;
    w->watches_count = streams;
    w->watches = mem_alloc_zero((streams + 1) * sizeof(*w->watches));
    for (uint32_t i = 0; i < streams; i++) {
        struct watch_stream *s = &w->watches[i];
        s->worker = w;
        s->watchers_count = w->watchers_count / streams + (i < w->watchers_count % streams);
        stream_open(s, w->channels[i % conns], number);
        number += (uint64_t)s->watchers_count * w->run->o->parts;
    }
}

/* How many events of acknowledged puts have not come. Negative: they came before their puts'
 * answers.
 */
static int64_t missing(const struct run *run)
{
    uint64_t seen = atomic_load_explicit(&run->events_seen, memory_order_relaxed);
    return (int64_t)(atomic_load_explicit(&run->events_due, memory_order_relaxed) - seen);
}

bool watchers_have_all(const struct run *run)
{
    if (run->o->writers == 0)
        return true;
    return atomic_load(&run->over) == run->o->parts && missing(run) <= 0;
}

bool watchers_are_behind(const struct run *run)
{
    const struct bench_options *o = run->o;
    uint64_t each = o->watched == BENCH_WATCH_ALL ? o->watchers : 1;
    return missing(run) >= (int64_t)(o->writers * each);
}
