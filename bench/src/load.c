#include "load.h"

#include "kubernetes.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    CONNECT_PATIENCE_MS = 10000,
    PAUSE_MS = 10,
    EVENTS_PATIENCE_MS = 5000,
    PACE_NS_MIN = 200000,
    GO_POLL_US = 200,
    STREAM_WINDOW_BYTES = 16 << 20, /* as far as grpc-go lets it grow */
};

/* --- the end --- */

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void worker_stop(struct worker *w)
{
    w->running = false;
    uv_stop(&w->loop);
}

static bool is_over(const struct worker *w)
{
    return w->ended && w->busy_count == 0 && list_is_empty(&w->paused);
}

/* Nothing new is begun any more. The watchers may still wait for events. */
static void worker_end(struct worker *w)
{
    w->ended = true;
    if (!is_over(w))
        return;
    if (!w->counted_over)
        atomic_fetch_add(&w->run->over, 1);
    w->counted_over = true;
    if (w->watches_count == 0 || watchers_have_all(w->run) || clock_mono_ns() > w->drain_end_ns) {
        worker_stop(w);
        return;
    }
    if (w->drain_end_ns == UINT64_MAX && atomic_load(&w->run->over) == w->run->o->parts)
        w->drain_end_ns = clock_mono_ns() + EVENTS_PATIENCE_MS * 1000000ULL;
}

/* --- slots --- */

static void note_error(struct worker *w, enum grpc_code code, struct slice text)
{
    atomic_fetch_add_explicit(&w->counters.failed, 1, memory_order_relaxed);
    w->errors[(int)code < GRPC_CODES_COUNT ? (int)code : GRPC_UNKNOWN]++;
    if (w->error_text[0] == 0)
        snprintf(w->error_text, sizeof(w->error_text), "%.*s", (int)text.size,
                 text.size > 0 ? (const char *)text.data : "");
}

/* Whether the operation that is due at `due_ns` is to be done; claims it when it is counted. */
static bool claim(struct slot *s, uint64_t due_ns)
{
    struct run *run = s->worker->run;
    if (due_ns >= run->end_ns || atomic_load_explicit(&run->failed, memory_order_relaxed))
        return false;
    s->measured = due_ns >= run->warm_ns;
    if (run->o->total == 0 || !s->measured)
        return true;
    uint64_t number = atomic_fetch_add_explicit(&run->claimed, 1, memory_order_relaxed);
    s->key = number; /* FILL, GRANT; the others choose their key anew */
    return number < run->o->total;
}

static void slot_record(struct slot *s)
{
    struct worker *w = s->worker;
    uint64_t now = clock_mono_ns();
    atomic_fetch_add_explicit(&w->counters.done, 1, memory_order_relaxed);
    if (w->run->o->command == BENCH_WATCH)
        atomic_fetch_add_explicit(&w->run->events_due, watchers_of(w->run->o, s->key),
                                  memory_order_relaxed);
    if (!s->measured)
        return;
    hist_add(&w->latency[s->kind], now - s->due_ns);
    w->last_done_ns = now;
    w->listed_keys += s->listed_keys;
    w->listed_bytes += s->listed_bytes;
}

/* Whether something else than an answer says when the next operation begins: the clock, or, for
 * puts that follow their events, the watchers. */
static bool is_paced(const struct worker *w)
{
    enum bench_command command = w->run->o->command;
    return w->run->o->rate > 0 || command == BENCH_WATCH || command == BENCH_KUBERNETES;
}

/* The slot is free again. */
static void slot_next(struct slot *s)
{
    struct worker *w = s->worker;
    w->busy_count--;
    if (is_paced(w)) {
        list_push_back(&w->idle, &s->link);
        worker_pump(w);
        return;
    }
    uint64_t now = clock_mono_ns();
    if (w->ended || !claim(s, now)) {
        worker_end(w);
        return;
    }
    s->due_ns = now;
    op_choose(s);
    w->busy_count++;
    slot_begin(s);
}

static void pause_slot(struct slot *s)
{
    struct worker *w = s->worker;
    w->busy_count--;
    list_push_back(&w->paused, &s->link);
}

static void call_message(struct grpc_call *call, struct slice msg)
{
    struct slot *s = grpc_call_user(call);
    op_answer(s, msg);
}

void slot_closed(struct slot *s, enum grpc_code code, struct slice text)
{
    if (!s->worker->running)
        return;
    if (code == GRPC_OK && (!s->answered || s->malformed)) {
        code = GRPC_INTERNAL;
        text = SLICE_LITERAL("the answer is missing or malformed");
    }
    if (code != GRPC_OK && !op_forgives(s, code)) {
        note_error(s->worker, code, text);
        pause_slot(s);
        kube_release(s);
        return;
    }
    if (op_continues(s)) {
        slot_begin(s);
        return;
    }
    if (!kube_parks(s))
        slot_done(s);
}

void slot_done(struct slot *s)
{
    slot_record(s);
    kube_release(s);
    slot_next(s);
}

static void call_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    slot_closed(grpc_call_user(call), code, text);
}

static const struct grpc_call_ops call_ops = {.message = call_message, .closed = call_closed};

void slot_begin(struct slot *s)
{
    s->answered = false;
    s->malformed = false;
    s->page_keys = 0;
    if (s->kind == OP_KEEPALIVE) {
        lease_send(s);
        return;
    }
    struct grpc_start_options start = {
        .path = op_path(s),
        .deadline_ns = clock_mono_ns() + s->worker->run->o->timeout_ms * 1000000,
        .wait_for_ready = true,
        .ops = &call_ops,
        .user = s,
    };
    struct grpc_call *call = grpc_start(s->channel, &start);
    op_send(s, call);
    grpc_half_close(call);
}

/* A failed call's slot waits a little, so that a server that is down is not asked a million times.
 * A batch of a fill is done again; other operations are given up. */
static void on_pause_timer(uv_timer_t *timer)
{
    struct worker *w = timer->data;
    struct list due;
    list_init(&due);
    list_splice_back(&due, &w->paused);
    LIST_EACH_SAFE (it, after, &due) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);
        list_remove(it);
        w->busy_count++;
        if (s->kind == OP_FILL && !atomic_load_explicit(&w->run->failed, memory_order_relaxed))
            slot_begin(s);
        else
            slot_next(s);
    }
    if (w->ended)
        worker_end(w);
    else if (is_paced(w))
        worker_pump(w);
}

/* --- open loop --- */

uint64_t due_of(const struct worker *w, uint64_t number)
{
    const struct run *run = w->run;
    double every_ns = 1e9 / run->o->rate;
    double position = (double)(number * run->o->parts + w->part);
    return run->start_ns + (uint64_t)(position * every_ns);
}

/* Waking up for each of very many operations would cost more than they do: those that become due
 * within a moment are begun together, a little late, and their latencies show it. */
static void pace_arm(struct worker *w, uint64_t due_ns, uint64_t now)
{
    uint64_t at_ns = due_ns > now + PACE_NS_MIN ? due_ns : now + PACE_NS_MIN;
    if (w->pace_at_ns > now && w->pace_at_ns <= at_ns)
        return;
    w->pace_at_ns = at_ns;
    struct itimerspec spec = {
        .it_value = {.tv_sec = (time_t)(at_ns / 1000000000), .tv_nsec = (long)(at_ns % 1000000000)},
    };
    int rv = timerfd_settime(w->pace_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    ASSERT(rv == 0);
}

/* The servers are so far behind that what was due could not even be begun in the time of one call.
 */
static bool is_hopeless(const struct worker *w, uint64_t now)
{
    const struct run *run = w->run;
    return run->end_ns != UINT64_MAX && now > run->end_ns + run->o->timeout_ms * 1000000;
}

static uint64_t due_before_end(const struct worker *w)
{
    uint64_t count = 0;
    if (w->kube != NULL)
        return kube_due_before_end(w);
    while (due_of(w, w->begun + count) < w->run->end_ns)
        count++;
    return count;
}

/* When the next operation is due. UINT64_MAX: when an event says so. */
static uint64_t next_due(const struct worker *w, uint64_t now)
{
    if (w->run->o->rate > 0)
        return due_of(w, w->begun);
    if (w->kube != NULL)
        return kube_next_due(w);
    return now < w->run->end_ns && watchers_are_behind(w->run) ? UINT64_MAX : now;
}

void worker_pump(struct worker *w)
{
    uint64_t now = clock_mono_ns();
    if (w->slots_count == 0 && now >= w->run->end_ns)
        w->ended = true;
    if (!w->ended && (w->run->o->rate > 0 || w->kube != NULL) && is_hopeless(w, now)) {
        w->never_begun = due_before_end(w);
        w->ended = true;
    }
    while (!w->ended && !list_is_empty(&w->idle)) {
        uint64_t due = next_due(w, now);
        if (due == UINT64_MAX)
            return;
        if (due > now) {
            pace_arm(w, due, now);
            return;
        }
        struct slot *s = CONTAINER_OF(w->idle.next, struct slot, link);
        if (!claim(s, due))
            break;
        w->begun++;
        list_remove(&s->link);
        w->busy_count++;
        s->due_ns = due;
        op_choose(s);
        if (!kube_blocks(s))
            slot_begin(s);
    }
    if (w->ended || !list_is_empty(&w->idle))
        worker_end(w);
}

static void on_pace(uv_poll_t *poll, int status, int events)
{
    struct worker *w = poll->data;
    uint64_t expirations;
    (void)status;
    (void)events;
    ssize_t got = read(w->pace_fd, &expirations, sizeof(expirations));
    (void)got; /* EAGAIN when it was armed anew in between */
    worker_pump(w);
}

/* --- beginning --- */

void worker_check_ready(struct worker *w)
{
    if (!w->running && w->ready_count == w->channels_count &&
        w->watchers_created == w->watchers_count)
        uv_stop(&w->loop);
}

static void channel_state_changed(struct grpc_channel *ch, enum grpc_channel_state state,
                                  const char *address, void *arg)
{
    (void)ch;
    struct worker *w = arg;
    if (w->running)
        return;
    if (state == GRPC_CHANNEL_BACKOFF && w->error_text[0] == 0)
        snprintf(w->error_text, sizeof(w->error_text), "cannot connect to %s", address);
    w->ready_count = 0;
    for (uint32_t i = 0; i < w->channels_count; i++)
        w->ready_count += grpc_channel_state(w->channels[i]) == GRPC_CHANNEL_READY;
    worker_check_ready(w);
}

struct grpc_channel *channel_open(struct worker *w, uint32_t number)
{
    const struct bench_options *o = w->run->o;
    const char *addresses[BENCH_ENDPOINTS_MAX];
    struct grpc_channel_options channel;
    for (uint32_t i = 0; i < o->endpoints_count; i++)
        addresses[i] = o->endpoints[(number + i) % o->endpoints_count];
    grpc_channel_options_init(&channel);
    channel.addresses = addresses;
    channel.addresses_count = o->endpoints_count;
    channel.tls = o->tls_context;
    channel.state_changed = channel_state_changed;
    channel.arg = w;
    channel.user_agent = "trivet-bench";
    channel.stream_window_bytes = STREAM_WINDOW_BYTES;
    channel.conn_window_bytes = 2 * STREAM_WINDOW_BYTES;
    struct grpc_channel *ch = grpc_channel_new(w->gl, &channel);
    if (ch == NULL) {
        fprintf(stderr, "trivet-bench: an endpoint is not an address\n");
        exit(2);
    }
    return ch;
}

uint32_t worker_share(const struct worker *w, uint32_t whole)
{
    uint32_t parts = w->run->o->parts;
    return whole / parts + (w->part < whole % parts);
}

/* `watch` puts over a connection of its own, the last one: the others carry events alone. */
static void open_channels(struct worker *w)
{
    const struct bench_options *o = w->run->o;
    w->channels_count = worker_share(w, o->conns) + (w->writers_count > 0);
    if (w->kube != NULL)
        w->channels_count = kube_channels_count(w);
    w->channels = mem_alloc_zero(w->channels_count * sizeof(*w->channels));
    for (uint32_t i = 0; i < w->channels_count; i++)
        w->channels[i] = channel_open(w, w->part + i * o->parts);
}

static void make_slots(struct worker *w)
{
    const struct bench_options *o = w->run->o;
    uint32_t channels = w->channels_count;
    w->slots_count = channels * o->streams;
    if (o->command == BENCH_KEEPALIVE)
        w->slots_count = worker_share(w, (uint32_t)o->leases);
    if (o->command == BENCH_WATCH) {
        channels = 1;
        w->slots_count = w->writers_count;
    }
    if (w->kube != NULL)
        w->slots_count = kube_slots_count(w);
    w->slots = mem_alloc_zero(w->slots_count * sizeof(*w->slots) + 1);
    for (uint32_t i = 0; i < w->slots_count; i++) {
        struct slot *s = &w->slots[i];
        list_init(&s->link);
        s->worker = w;
        s->channel = w->channels[w->channels_count - 1 - i % channels];
        buf_init(&s->page_key, 1 << 20);
    }
}

static void worker_open(struct worker *w)
{
    const struct bench_options *o = w->run->o;
    int rv = uv_loop_init(&w->loop);
    ASSERT(rv == 0);
    w->gl = grpc_loop_new(&w->loop);
    list_init(&w->idle);
    list_init(&w->paused);
    w->drain_end_ns = UINT64_MAX;
    uv_timer_init(&w->loop, &w->pause_timer);
    w->pause_timer.data = w;
    w->pace_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    ASSERT(w->pace_fd >= 0);
    uv_poll_init(&w->loop, &w->pace_poll, w->pace_fd);
    w->pace_poll.data = w;
    buf_init(&w->scratch, SIZE_MAX);
    buf_init(&w->chunk, SIZE_MAX);
    for (int i = 0; i < OP_KINDS_COUNT; i++)
        hist_init(&w->latency[i]);
    hist_init(&w->event_latency);
    key_source_init(&w->source, &w->run->keys, w->part, o->parts);
    if (o->command == BENCH_TXN || o->command == BENCH_MIXED)
        w->mod_revisions = mem_alloc_zero((o->keys / o->parts + 1) * sizeof(int64_t));
    if (o->command == BENCH_WATCH) {
        w->watchers_count = worker_share(w, o->watchers);
        w->writers_count = worker_share(w, o->writers);
    }
    if (o->command == BENCH_KUBERNETES)
        kube_open(w);
    open_channels(w);
    make_slots(w);
    if (o->command == BENCH_WATCH)
        watchers_open(w);
    if (o->command == BENCH_KEEPALIVE)
        leases_open(w);
    if (w->kube != NULL)
        kube_watches_open(w);
}

static void on_patience_over(uv_timer_t *timer)
{
    struct worker *w = timer->data;
    fprintf(stderr, "trivet-bench: %s\n",
            w->error_text[0] != 0 ? w->error_text : "the servers do not answer");
    atomic_store(&w->run->failed, true);
    uv_stop(&w->loop);
}

static void begin(struct worker *w)
{
    w->error_text[0] = 0;
    w->running = true;
    uv_timer_start(&w->pause_timer, on_pause_timer, PAUSE_MS, PAUSE_MS);
    uv_poll_start(&w->pace_poll, UV_READABLE, on_pace);
    for (uint32_t i = 0; i < w->slots_count; i++) {
        if (is_paced(w)) {
            list_push_back(&w->idle, &w->slots[i].link);
        } else {
            w->busy_count++;
            slot_next(&w->slots[i]);
        }
    }
    if (is_paced(w))
        worker_pump(w);
}

static void worker_close(struct worker *w)
{
    w->running = false;
    if (w->kube != NULL)
        kube_stop(w);
    for (uint32_t i = 0; i < w->channels_count; i++)
        grpc_channel_close(w->channels[i]);
    grpc_loop_free(w->gl);
    uv_close((uv_handle_t *)&w->pause_timer, NULL);
    uv_close((uv_handle_t *)&w->pace_poll, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    uv_walk(&w->loop, close_handle, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    int rv = uv_loop_close(&w->loop);
    ASSERT(rv == 0);
    close(w->pace_fd);
}

static void worker_free(struct worker *w)
{
    for (uint32_t j = 0; j < w->slots_count; j++)
        buf_fini(&w->slots[j].page_key);
    mem_free(w->slots);
    mem_free(w->channels);
    mem_free(w->mod_revisions);
    mem_free(w->watches);
    leases_close(w);
    buf_fini(&w->scratch);
    buf_fini(&w->chunk);
}

void worker_run(struct worker *w)
{
    struct run *run = w->run;
    if (run->o->rate > 0)
        prompt_thread(); /* its own wait for a CPU is not what it measures */
    worker_open(w);
    uv_timer_start(&w->pause_timer, on_patience_over, CONNECT_PATIENCE_MS, 0);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    uv_timer_stop(&w->pause_timer);
    atomic_fetch_add(&run->ready, 1);
    while (!atomic_load(&run->go))
        usleep(GO_POLL_US);
    if (!atomic_load(&run->failed)) {
        begin(w);
        if (w->running)
            uv_run(&w->loop, UV_RUN_DEFAULT);
    }
    worker_close(w);
    worker_free(w);
    atomic_fetch_add(&run->finished, 1);
}
