/* The watches of the API servers, and the consistent reads that wait until a watch has seen as much
 * as the store had when they came. Whatever says so will do: an event, or an answer to a request
 * for progress, which is sent every 100 ms as long as somebody waits. */
#include "kube.h"

#include "base/clock.h"
#include "base/mem.h"

enum { TICK_MS = 20, PROGRESS_PERIOD_MS = 100 };

static const uint64_t ns_of_ms = 1000000;

struct kube_watch *kube_watch_of(struct kube *k, uint32_t server, uint32_t resource)
{
    uint32_t watches_of_server = kube_resources_count(k->o) - 1;
    uint32_t place = resource < KUBE_EVENTS ? resource : resource - 1;
    return &k->watches[server * watches_of_server + place];
}

/* --- what the store says --- */

static void wake_reads(struct kube_watch *watch)
{
    LIST_EACH_SAFE (it, after, &watch->waiting) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);
        if (s->revision > watch->revision)
            continue;
        list_remove(it);
        slot_done(s);
    }
}

static void count_events(struct worker *w, struct wire_watch_response *response, uint64_t now,
                         int64_t *ret_revision)
{
    struct wire_reader r = wire_reader_of(response->events);
    struct wire_event e;
    uint64_t count = 0;
    uint64_t due_ns;
    while (wire_next_event(&r, &e) == 1) {
        count++;
        *ret_revision = e.kv.mod_revision;
        if (e.type != 0 || e.kv.value.size < sizeof(due_ns))
            continue;
        memcpy(&due_ns, e.kv.value.data, sizeof(due_ns));
        if (due_ns >= w->run->warm_ns && due_ns <= now && w->running)
            hist_add(&w->event_latency, now - due_ns);
    }
    if (count > 0 && w->running && now >= w->run->warm_ns && now < w->run->end_ns) {
        w->events_measured += count;
        w->last_event_ns = now;
    }
    atomic_fetch_add_explicit(&w->counters.events, count, memory_order_relaxed);
}

/* A compaction has overtaken it: what is forgotten was seen by nobody, and would be listed anew. */
static void on_canceled(struct kube_watch *watch, const struct wire_watch_response *response)
{
    if (response->compact_revision > watch->revision)
        watch->revision = response->compact_revision - 1;
    grpc_cancel(watch->call);
}

static void watch_message(struct grpc_call *call, struct slice msg)
{
    struct kube_watch *watch = grpc_call_user(call);
    struct worker *w = watch->kube->worker;
    struct wire_watch_response response;
    if (wire_watch_response_decode(msg, &response) != 0)
        return; /* whoever waits says that it was in vain */
    if (response.canceled) {
        on_canceled(watch, &response);
        return;
    }
    if (response.created) {
        watch->created = true;
        w->watchers_created += !watch->counted;
        watch->counted = true;
        worker_check_ready(w);
        return;
    }
    int64_t seen = 0;
    count_events(w, &response, clock_mono_ns(), &seen);
    if (seen == 0)
        seen = response.header.revision;
    if (seen > watch->revision)
        watch->revision = seen;
    wake_reads(watch);
}

static void watch_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct kube_watch *watch = grpc_call_user(call);
    (void)code;
    (void)text;
    watch->call = NULL;
    watch->created = false;
    watch->kube->worker->watches_reopened += watch->kube->worker->running;
}

static const struct grpc_call_ops watch_ops = {.message = watch_message, .closed = watch_closed};

/* --- what we ask --- */

static void send_request(struct kube_watch *watch, const struct wire_watch_request *request)
{
    struct buf *b = &watch->kube->worker->scratch;
    size_t size = wire_watch_request_size(request);
    (void)wire_watch_request_put(scratch_reserve(watch->kube->worker, size), request);
    struct slice msg = buf_slice(b);
    (void)grpc_send(watch->call, &msg, 1); /* a call that cannot send is closed */
}

static void watch_open(struct kube_watch *watch)
{
    const struct bench_options *o = watch->kube->o;
    uint8_t key[KUBE_KEY_MAX];
    uint8_t end[KUBE_KEY_MAX];
    struct grpc_start_options start = {
        .path = "/etcdserverpb.Watch/Watch",
        .wait_for_ready = true,
        .ops = &watch_ops,
        .user = watch,
    };
    struct wire_watch_request request = {
        .kind = WIRE_WATCH_CREATE,
        .create = {.key = kube_prefix(o, watch->resource, key),
                   .range_end = kube_prefix_end(o, watch->resource, end),
                   .start_revision = watch->revision + 1,
                   .progress_notify = true,
                   .prev_kv = true},
    };
    watch->call = grpc_start(watch->channel, &start);
    send_request(watch, &request);
}

static void ask_progress(struct kube_watch *watch, uint64_t now)
{
    struct wire_watch_request request = {.kind = WIRE_WATCH_PROGRESS};
    if (!watch->created || now - watch->asked_ns < PROGRESS_PERIOD_MS * ns_of_ms)
        return;
    watch->asked_ns = now;
    watch->kube->worker->progress_requests++;
    send_request(watch, &request);
}

static void end_late_reads(struct kube_watch *watch, uint64_t now)
{
    uint64_t patience_ns = watch->kube->o->timeout_ms * ns_of_ms;
    while (!list_is_empty(&watch->waiting)) {
        struct slot *s = CONTAINER_OF(watch->waiting.next, struct slot, link);
        if (now - s->due_ns < patience_ns)
            return;
        list_remove(&s->link);
        slot_closed(s, GRPC_DEADLINE_EXCEEDED, SLICE_LITERAL("the watch has not caught up"));
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct kube *k = timer->data;
    uint64_t now = clock_mono_ns();
    for (uint32_t i = 0; i < k->watches_count; i++) {
        struct kube_watch *watch = &k->watches[i];
        if (watch->call == NULL)
            watch_open(watch);
        if (list_is_empty(&watch->waiting))
            continue;
        ask_progress(watch, now);
        end_late_reads(watch, now);
    }
}

bool kube__parks(struct slot *s)
{
    if (s->kind != OP_CONSISTENT_READ)
        return false;
    struct kube_watch *watch = kube_watch_of(s->worker->kube, s->server, s->resource);
    if (watch->revision >= s->revision)
        return false;
    list_push_back(&watch->waiting, &s->link);
    ask_progress(watch, clock_mono_ns());
    return true;
}

/* --- beginning --- */

void kube_open(struct worker *w)
{
    struct kube *k = w->run->kubes[w->part];
    k->worker = w;
    w->kube = k;
    k->watches_count = k->servers_count * (kube_resources_count(k->o) - 1);
    k->watches = mem_alloc_zero(k->watches_count * sizeof(*k->watches));
    w->watchers_count = k->watches_count;
}

void kube_watches_open(struct worker *w)
{
    struct kube *k = w->kube;
    for (uint32_t server = 0; server < k->servers_count; server++) {
        for (uint32_t resource = 0; resource < kube_resources_count(k->o); resource++) {
            if (resource == KUBE_EVENTS)
                continue;
            struct kube_watch *watch = kube_watch_of(k, server, resource);
            *watch = (struct kube_watch){.kube = k,
                                         .server = server,
                                         .resource = resource,
                                         .channel = kube_channel(k, server, resource),
                                         .revision = k->populated_revision};
            list_init(&watch->waiting);
            watch_open(watch);
        }
    }
    uv_timer_init(&w->loop, &k->tick);
    k->tick.data = k;
    uv_timer_start(&k->tick, on_tick, TICK_MS, TICK_MS);
}

void kube_stop(struct worker *w)
{
    uv_timer_stop(&w->kube->tick);
}
