#include "load.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    CONNECT_PATIENCE_MS = 10000,
    PAUSE_MS = 10,
    EVENTS_PATIENCE_MS = 5000,
    PACE_NS_MIN = 200000,
    STREAM_WINDOW_BYTES = 16 << 20, /* as far as grpc-go lets it grow */
};

static void slot_begin(struct slot *s);

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
    if (w->watches_count == 0 || watchers_have_all(w->run) || clock_mono_ns() > w->drain_end_ns) {
        worker_stop(w);
        return;
    }
    if (w->drain_end_ns == UINT64_MAX)
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
    return w->run->o->rate > 0 || w->run->o->command == BENCH_WATCH;
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
        return;
    }
    if (op_continues(s)) {
        slot_begin(s);
        return;
    }
    slot_record(s);
    slot_next(s);
}

static void call_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    slot_closed(grpc_call_user(call), code, text);
}

static const struct grpc_call_ops call_ops = {.message = call_message, .closed = call_closed};

static void slot_begin(struct slot *s)
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

static uint64_t due_of(const struct worker *w, uint64_t number)
{
    const struct run *run = w->run;
    double every_ns = 1e9 / run->o->rate;
    double position = (double)(number * run->o->threads + w->part);
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
    while (due_of(w, w->begun + count) < w->run->end_ns)
        count++;
    return count;
}

/* When the next operation is due. UINT64_MAX: when an event says so. */
static uint64_t next_due(const struct worker *w, uint64_t now)
{
    if (w->run->o->rate > 0)
        return due_of(w, w->begun);
    return now < w->run->end_ns && watchers_are_behind(w->run) ? UINT64_MAX : now;
}

void worker_pump(struct worker *w)
{
    uint64_t now = clock_mono_ns();
    if (w->slots_count == 0 && now >= w->run->end_ns)
        w->ended = true;
    if (!w->ended && w->run->o->rate > 0 && is_hopeless(w, now)) {
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

static struct grpc_channel *channel_open(struct worker *w, uint32_t number)
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
    uint32_t threads = w->run->o->threads;
    return whole / threads + (w->part < whole % threads);
}

/* `watch` puts over a connection of its own, the last one: the others carry events alone. */
static void open_channels(struct worker *w)
{
    const struct bench_options *o = w->run->o;
    w->channels_count = worker_share(w, o->conns) + (w->writers_count > 0);
    w->channels = mem_alloc_zero(w->channels_count * sizeof(*w->channels));
    for (uint32_t i = 0; i < w->channels_count; i++)
        w->channels[i] = channel_open(w, w->part + i * o->threads);
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
    key_source_init(&w->source, &w->run->keys, w->part, o->threads);
    if (o->command == BENCH_TXN)
        w->mod_revisions = mem_alloc_zero((o->keys / o->threads + 1) * sizeof(int64_t));
    if (o->command == BENCH_WATCH) {
        w->watchers_count = worker_share(w, o->watchers);
        w->writers_count = worker_share(w, o->writers);
    }
    open_channels(w);
    make_slots(w);
    if (o->command == BENCH_WATCH)
        watchers_open(w);
    if (o->command == BENCH_KEEPALIVE)
        leases_open(w);
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

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct run *run = w->run;
    worker_open(w);
    uv_timer_start(&w->pause_timer, on_patience_over, CONNECT_PATIENCE_MS, 0);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    uv_timer_stop(&w->pause_timer);
    pthread_barrier_wait(&run->ready);
    pthread_barrier_wait(&run->go);
    if (!atomic_load(&run->failed)) {
        begin(w);
        if (w->running)
            uv_run(&w->loop, UV_RUN_DEFAULT);
    }
    worker_close(w);
    return NULL;
}

/* --- main's side --- */

static void progress(const struct run *run, struct worker *workers, _Atomic bool *over)
{
    uint64_t before = 0;
    uint64_t events_before = 0;
    while (!atomic_load(over)) {
        uint64_t done = 0;
        uint64_t failed = 0;
        uint64_t events = 0;
        for (int i = 0; i < 10 && !atomic_load(over); i++)
            usleep(100000);
        for (uint32_t i = 0; i < run->o->threads; i++) {
            struct counters *c = &workers[i].counters;
            done += atomic_load_explicit(&c->done, memory_order_relaxed);
            failed += atomic_load_explicit(&c->failed, memory_order_relaxed);
            events += atomic_load_explicit(&c->events, memory_order_relaxed);
        }
        uint64_t now = clock_mono_ns();
        fprintf(stderr, "%6.1f s %10llu/s", (double)(now - run->start_ns) / 1e9,
                (unsigned long long)(done - before));
        if (run->o->command == BENCH_WATCH)
            fprintf(stderr, " %10llu events/s", (unsigned long long)(events - events_before));
        if (failed > 0)
            fprintf(stderr, "  %llu failed", (unsigned long long)failed);
        fprintf(stderr, "%s\n", now < run->warm_ns ? "  (warm-up)" : "");
        before = done;
        events_before = events;
    }
}

struct progress_arg {
    const struct run *run;
    struct worker *workers;
    _Atomic bool over;
};

static void *progress_main(void *arg)
{
    struct progress_arg *p = arg;
    progress(p->run, p->workers, &p->over);
    return NULL;
}

double cpu_seconds(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u); /* cannot fail */
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void set_times(struct run *run)
{
    const struct bench_options *o = run->o;
    run->cpu_seconds_before = cpu_seconds();
    run->start_ns = clock_mono_ns();
    run->warm_ns = run->start_ns + (uint64_t)(o->warmup_s * 1e9);
    run->end_ns = o->total > 0 ? UINT64_MAX : run->warm_ns + (uint64_t)(o->duration_s * 1e9);
}

bool load_run(struct run *run, struct worker *workers)
{
    const struct bench_options *o = run->o;
    struct progress_arg p = {.run = run, .workers = workers};
    pthread_t progress_thread;
    pthread_barrier_init(&run->ready, NULL, o->threads + 1);
    pthread_barrier_init(&run->go, NULL, o->threads + 1);
    for (uint32_t i = 0; i < o->threads; i++) {
        workers[i].run = run;
        workers[i].part = i;
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
            tv_fatal("cannot start a thread");
    }
    pthread_barrier_wait(&run->ready);
    set_times(run);
    bool failed = atomic_load(&run->failed);
    bool shows = !o->quiet && !failed;
    if (shows && pthread_create(&progress_thread, NULL, progress_main, &p) != 0)
        tv_fatal("cannot start a thread");
    pthread_barrier_wait(&run->go);
    for (uint32_t i = 0; i < o->threads; i++)
        pthread_join(workers[i].thread, NULL);
    if (shows) {
        atomic_store(&p.over, true);
        pthread_join(progress_thread, NULL);
    }
    return !failed;
}

void load_free(struct run *run, struct worker *workers)
{
    for (uint32_t i = 0; i < run->o->threads; i++) {
        struct worker *w = &workers[i];
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
    pthread_barrier_destroy(&run->ready);
    pthread_barrier_destroy(&run->go);
}
