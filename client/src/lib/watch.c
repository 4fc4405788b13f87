/* Watches that outlive their streams. One stream for each; `next_revision` is where the next one
 * begins.
 *
 * Invariants:
 * 1. Everything below next_revision was given to the caller, nothing at or above it was.
 * 2. A message is given whole: fragments are put together first, since a revision may be spread
 * over several of them, and a stream that ends between two leaves next_revision where it was. */
#include "engine.h"

#include "base/assert.h"
#include "base/mem.h"
#include "proto/wire.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum { AGAIN_MIN_MS = 20, AGAIN_MAX_MS = 1000 };

/* A message that waits for trivet_watch_next(). */
struct kept {
    struct list link;
    struct trivet_watch_message m;
    struct arena arena;
    size_t size;
    char error[];
};

enum { ERROR_BYTES = 512 };

struct stream {
    struct trivet_watch *watch; /* NULL: left */
    struct trivet_client *client;
    struct connection *connection;
    struct list link; /* of its endpoint */
    struct grpc_call *grpc;
    int endpoint;
    uint64_t token_number;
};

struct trivet_watch {
    struct trivet_client *client; /* NULL once that is closed */
    struct list link;
    struct list lost_link;
    struct trivet_watch_options o; /* key and range_end in the memory behind */
    trivet_watch_cb cb;
    void *arg;
    struct stream *stream;
    int64_t next_revision; /* 0: now, whenever that is */
    bool created;          /* and told so */
    bool ended;
    bool in_callback;
    bool close_after;
    uint64_t again_ns;
    uint64_t again_ms;
    uint64_t avoid;
    struct buf fragments;
    struct kept *last; /* room for the end, so that it is told whatever lacks; NULL once used */

    /* Without a callback; `lock` protects all of it. */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct list queue;
    size_t queued_bytes;
    bool paused;
};

static void kept_free(struct kept *k)
{
    arena_fini(&k->arena);
    mem_free(k);
}

/* NULL: there is no memory. */
static struct kept *kept_new(size_t error_bytes)
{
    struct kept *k = mem_try_alloc_zero(sizeof(*k) + error_bytes);
    if (k != NULL)
        arena_init(&k->arena);
    return k;
}

/* --- giving --- */

/* False: there is no memory. */
static bool copy_events(struct kept *k, const struct trivet_watch_message *m)
{
    k->m.events = NULL;
    if (m->events_count == 0)
        return true;
    struct trivet_event *events = arena_try_alloc(&k->arena, sizeof(*events) * m->events_count);
    if (events == NULL)
        return false;
    for (uint32_t i = 0; i < m->events_count; i++) {
        events[i] = m->events[i];
        struct trivet_bytes *const bytes[] = {&events[i].kv.key, &events[i].kv.value,
                                              &events[i].prev_kv.key, &events[i].prev_kv.value};
        for (size_t b = 0; b < sizeof(bytes) / sizeof(bytes[0]); b++) {
            if (bytes[b]->size == 0)
                continue;
            void *copy = arena_try_alloc(&k->arena, bytes[b]->size);
            if (copy == NULL)
                return false;
            *bytes[b] = trivet_bytes(memcpy(copy, bytes[b]->data, bytes[b]->size), bytes[b]->size);
        }
    }
    k->m.events = events;
    return true;
}

/* Taken: `k`, which has room for the error. */
static void enqueue(struct trivet_watch *w, struct kept *k)
{
    k->m.memory = k;
    k->size = sizeof(*k) + k->arena.total_bytes;
    (void)pthread_mutex_lock(&w->lock);
    list_push_back(&w->queue, &k->link);
    w->queued_bytes += k->size;
    if (w->queued_bytes > w->client->o.watch_bytes_max && !w->paused && w->stream != NULL) {
        w->paused = true;
        grpc_call_pause_reading(w->stream->grpc);
    }
    (void)pthread_cond_signal(&w->cond);
    (void)pthread_mutex_unlock(&w->lock);
}

/* False: there is no memory, and the message is not told. */
static bool keep(struct trivet_watch *w, const struct trivet_watch_message *m)
{
    struct kept *k = kept_new(0);
    if (k == NULL)
        return false;
    k->m = *m;
    k->m.error = "";
    if (!copy_events(k, m)) {
        kept_free(k);
        return false;
    }
    enqueue(w, k);
    return true;
}

static void keep_last(struct trivet_watch *w, const struct trivet_watch_message *m)
{
    struct kept *k = w->last;
    w->last = NULL;
    k->m = *m;
    (void)snprintf(k->error, ERROR_BYTES, "%s", m->error);
    k->m.error = k->error;
    enqueue(w, k);
}

static void leave_stream(struct trivet_watch *w)
{
    struct stream *s = w->stream;
    if (s == NULL)
        return;
    w->stream = NULL;
    s->watch = NULL;
    list_remove(&s->link);
    if (s->grpc != NULL)
        grpc_cancel(s->grpc);
}

static void forget(struct trivet_watch *w)
{
    leave_stream(w);
    list_remove(&w->link);
    list_remove(&w->lost_link);
}

static void watch_free(struct trivet_watch *w)
{
    while (!list_is_empty(&w->queue)) {
        struct kept *k = CONTAINER_OF(w->queue.next, struct kept, link);
        list_remove(&k->link);
        kept_free(k);
    }
    buf_fini(&w->fragments);
    if (w->last != NULL)
        kept_free(w->last);
    (void)pthread_cond_destroy(&w->cond);
    (void)pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

enum given {
    GIVEN,
    GONE,     /* the watch, by its callback */
    NOT_GIVEN /* for want of memory */
};

static enum given call_back(struct trivet_watch *w, const struct trivet_watch_message *m)
{
    w->in_callback = true;
    w->cb(w, m, w->arg);
    w->in_callback = false;
    if (!w->close_after)
        return GIVEN;
    watch_free(w);
    return GONE;
}

static enum given give(struct trivet_watch *w, const struct trivet_watch_message *m)
{
    if (w->cb != NULL)
        return call_back(w, m);
    return keep(w, m) ? GIVEN : NOT_GIVEN;
}

static void end_watch_with(struct trivet_watch *w, int status, enum grpc_code code,
                           struct slice text, const struct watch_response *r)
{
    char error[ERROR_BYTES];
    struct trivet_watch_message m = {.status = status,
                                     .code = (int32_t)code,
                                     .error = error,
                                     .header = r->header,
                                     .compact_revision = r->compact_revision};
    (void)snprintf(error, sizeof(error), "%.*s", (int)text.size, (const char *)text.data);
    w->ended = true;
    forget(w);
    list_push_back(&w->client->watches_ended, &w->link);
    atomic_fetch_sub(&w->client->watches_now, 1);
    if (w->cb != NULL)
        (void)call_back(w, &m);
    else
        keep_last(w, &m);
}

static void end_watch(struct trivet_watch *w, int status, enum grpc_code code, struct slice text)
{
    const struct watch_response nothing = {0};
    end_watch_with(w, status, code, text, &nothing);
}

/* --- reading --- */

static void lose(struct trivet_watch *w, bool avoid)
{
    struct trivet_client *c = w->client;
    if (w->stream != NULL && avoid && w->stream->endpoint < BALANCER_ENDPOINTS_MAX)
        w->avoid = UINT64_C(1) << w->stream->endpoint;
    leave_stream(w);
    buf_clear(&w->fragments);
    w->again_ns = engine__now_ns() + w->again_ms * NS_PER_MS;
    w->again_ms = w->again_ms == 0 ? AGAIN_MIN_MS : w->again_ms * 2;
    if (w->again_ms > AGAIN_MAX_MS)
        w->again_ms = AGAIN_MAX_MS;
    list_remove(&w->lost_link);
    list_push_back(&c->watches_lost, &w->lost_link);
    c->metrics.watch_resumes++;
    engine__hurry(c);
}

static bool contains(struct trivet_bytes text, const char *what)
{
    return text.size > 0 && memmem(text.data, text.size, what, strlen(what)) != NULL;
}

static void on_canceled(struct trivet_watch *w, const struct watch_response *r)
{
    struct slice reason = slice_of(r->cancel_reason.data, r->cancel_reason.size);
    if (r->compact_revision != 0) {
        end_watch_with(w, TRIVET_COMPACTED, GRPC_OUT_OF_RANGE,
                       slice_of_string(tv_err_text(TV_COMPACTED)), r);
        return;
    }
    bool old_token = contains(r->cancel_reason, tv_err_text(TV_INVALID_AUTH_TOKEN)) ||
                     contains(r->cancel_reason, tv_err_text(TV_AUTH_OLD_REVISION));
    if (old_token && w->client->o.user != NULL) {
        auth__refused(w->client, w->stream->token_number);
        lose(w, false);
        return;
    }
    end_watch_with(w, TRIVET_REFUSED, GRPC_CANCELLED, reason, r);
}

/* Those that were given before a stream broke may come again. */
static void skip_known(const struct trivet_watch *w, struct trivet_watch_message *m)
{
    while (m->events_count > 0 && m->events[0].kv.mod_revision < w->next_revision) {
        m->events++;
        m->events_count--;
    }
}

static void on_response(struct trivet_watch *w, const struct watch_response *r)
{
    struct trivet_watch_message m = {
        .header = r->header, .error = "", .events = r->events, .events_count = r->events_count};
    if (r->canceled) {
        on_canceled(w, r);
        return;
    }
    w->again_ms = 0;
    w->avoid = 0;
    if (r->created) {
        bool first = !w->created;
        w->created = true;
        if (w->next_revision == 0)
            w->next_revision = r->header.revision + 1;
        m.created = true;
        m.events_count = 0;
        enum given given = first ? give(w, &m) : GIVEN;
        if (given == NOT_GIVEN) {
            w->created = false;
            lose(w, false);
        }
        if (given != GIVEN || r->events_count == 0)
            return;
        m.created = false;
        m.events_count = r->events_count;
    }
    skip_known(w, &m);
    if (r->events_count > 0 && m.events_count == 0)
        return;
    int64_t told =
        m.events_count > 0 ? m.events[m.events_count - 1].kv.mod_revision : r->header.revision;
    int64_t before = w->next_revision;
    if (told + 1 > w->next_revision)
        w->next_revision = told + 1;
    if (give(w, &m) == NOT_GIVEN) {
        w->next_revision = before;
        lose(w, false);
    }
}

static void on_message(struct grpc_call *grpc, struct slice msg)
{
    struct stream *s = grpc_call_user(grpc);
    struct trivet_watch *w = s->watch;
    struct trivet_client *c = s->client;
    struct watch_response r = {0};
    endpoint__heard(s->connection->endpoint);
    if (w == NULL)
        return;
    arena_clear(&c->scratch);
    int rv = message_read(&message_watch_response, msg, &c->scratch, &r);
    if (rv != 0) {
        lose(w, rv != TRIVET_NO_MEMORY);
        return;
    }
    endpoints__learn(c, s->endpoint, &r.header);
    if (!r.fragment && w->fragments.size == 0) {
        on_response(w, &r);
        return;
    }
    /* Messages one behind the other are one message: protobuf merges them. */
    rv = buf_try_append(&w->fragments, msg.data, msg.size);
    if (rv == TV_ENOMEM) {
        lose(w, false);
        return;
    }
    if (rv != 0) {
        end_watch(w, TRIVET_BUSY, GRPC_RESOURCE_EXHAUSTED,
                  SLICE_LITERAL("one revision is larger than watch_bytes_max"));
        return;
    }
    if (r.fragment)
        return;
    struct buf whole = w->fragments;
    buf_init(&w->fragments, whole.size_max);
    r = (struct watch_response){0};
    arena_clear(&c->scratch);
    rv = message_read(&message_watch_response, buf_slice(&whole), &c->scratch, &r);
    if (rv == 0)
        on_response(w, &r);
    else
        lose(w, rv != TRIVET_NO_MEMORY);
    buf_fini(&whole);
}

/* --- streams --- */

static bool is_final(enum grpc_code code)
{
    return code == GRPC_PERMISSION_DENIED || code == GRPC_INVALID_ARGUMENT ||
           code == GRPC_UNIMPLEMENTED || code == GRPC_FAILED_PRECONDITION;
}

static void on_closed(struct grpc_call *grpc, enum grpc_code code, struct slice text)
{
    struct stream *s = grpc_call_user(grpc);
    struct trivet_client *c = s->client;
    struct trivet_watch *w = s->watch;
    enum balancer_outcome outcome =
        w != NULL && retry_blames_member(code, text, true) ? BALANCER_FAILED : BALANCER_ABANDONED;
    s->grpc = NULL;
    connection__ended(s->connection, true);
    (void)balancer_ended(&c->balancer, s->endpoint, outcome, 0, engine__now_ns());
    if (w != NULL && !c->stopped) {
        if (code == GRPC_UNAUTHENTICATED && c->o.user != NULL) {
            auth__refused(c, s->token_number);
            lose(w, false);
        } else if (is_final(code)) {
            end_watch(w, TRIVET_REFUSED, code, text);
        } else {
            lose(w, true);
        }
    }
    list_remove(&s->link);
    mem_free(s);
}

static void send_create(struct trivet_watch *w)
{
    struct wire_watch_request q = {
        .kind = WIRE_WATCH_CREATE,
        .create = {.key = slice_of(w->o.key.data, w->o.key.size),
                   .range_end = slice_of(w->o.range_end.data, w->o.range_end.size),
                   .start_revision = w->next_revision,
                   .progress_notify = w->o.progress_notify,
                   .filters = w->o.filters,
                   .prev_kv = w->o.prev_kv,
                   .fragment = true},
    };
    size_t size = wire_watch_request_size(&q);
    uint8_t *bytes = mem_try_alloc(size);
    struct slice part = slice_of(bytes, size);
    if (bytes != NULL)
        (void)wire_watch_request_put(bytes, &q);
    if (bytes == NULL || grpc_send(w->stream->grpc, &part, 1) != 0)
        grpc_cancel(w->stream->grpc);
    mem_free(bytes);
}

static void open_stream(struct trivet_watch *w)
{
    static const struct grpc_call_ops ops = {.message = on_message, .closed = on_closed};
    struct trivet_client *c = w->client;
    const char *token = NULL;
    int endpoint = balancer_pick_read(&c->balancer, w->avoid, true, engine__now_ns());
    struct connection *n =
        endpoint == BALANCER_NONE ? NULL : endpoint__connection(c->endpoints[endpoint]);
    if (!auth__token(c, &token) || n == NULL)
        return;
    struct stream *s = mem_try_alloc(sizeof(*s));
    if (s == NULL)
        return;
    *s = (struct stream){.watch = w,
                         .client = c,
                         .connection = n,
                         .endpoint = endpoint,
                         .token_number = c->auth.token_number};
    s->grpc = connection__stream(n, "/etcdserverpb.Watch/Watch", token, &ops, s);
    if (s->grpc == NULL) {
        mem_free(s);
        return;
    }
    list_init(&s->link);
    list_remove(&w->lost_link);
    list_push_back(&n->endpoint->streams, &s->link);
    w->stream = s;
    (void)pthread_mutex_lock(&w->lock);
    w->paused = false;
    (void)pthread_mutex_unlock(&w->lock);
    balancer_began(&c->balancer, endpoint);
    send_create(w);
}

static void open_lost(struct trivet_client *c, uint64_t now_ns)
{
    LIST_EACH_SAFE (it, after, &c->watches_lost) {
        struct trivet_watch *w = CONTAINER_OF(it, struct trivet_watch, lost_link);
        if (now_ns >= w->again_ns)
            open_stream(w);
    }
}

void watches__tick(struct trivet_client *c, uint64_t now_ns)
{
    open_lost(c, now_ns);
}

void watches__kick(struct trivet_client *c)
{
    open_lost(c, engine__now_ns());
}

void watches__leave(struct endpoint *e)
{
    while (!list_is_empty(&e->streams)) {
        struct stream *s = CONTAINER_OF(e->streams.next, struct stream, link);
        ASSERT(s->watch != NULL);
        s->watch->again_ms = 0;
        lose(s->watch, true);
    }
}

void watches__end_all(struct trivet_client *c)
{
    while (!list_is_empty(&c->watches)) {
        struct trivet_watch *w = CONTAINER_OF(c->watches.next, struct trivet_watch, link);
        end_watch(w, TRIVET_CLOSED, GRPC_OK, SLICE_LITERAL("the client is closed"));
    }
    while (!list_is_empty(&c->watches_ended)) {
        struct trivet_watch *w = CONTAINER_OF(c->watches_ended.next, struct trivet_watch, link);
        list_remove(&w->link);
        w->client = NULL;
    }
}

/* --- the caller's --- */

static void run_open(struct trivet_client *c, void *arg)
{
    struct trivet_watch *w = arg;
    list_push_back(&c->watches, &w->link);
    list_push_back(&c->watches_lost, &w->lost_link);
    open_stream(w);
    engine__hurry(c);
}

int trivet_watch_open(struct trivet_client *c, const struct trivet_watch_options *o,
                      trivet_watch_cb cb, void *arg, struct trivet_watch **ret)
{
    if (atomic_load(&c->closing) || o->start_revision < 0)
        return TRIVET_INVALID;
    if (atomic_fetch_add(&c->watches_now, 1) >= WATCHES_MAX) {
        atomic_fetch_sub(&c->watches_now, 1);
        return TRIVET_BUSY;
    }
    struct trivet_watch *w = mem_try_alloc(sizeof(*w) + o->key.size + o->range_end.size);
    struct kept *last = w == NULL ? NULL : kept_new(ERROR_BYTES);
    if (last == NULL) {
        mem_free(w);
        atomic_fetch_sub(&c->watches_now, 1);
        return TRIVET_NO_MEMORY;
    }
    memset(w, 0, sizeof(*w));
    w->last = last;
    uint8_t *behind = (uint8_t *)(w + 1);
    w->client = c;
    w->o = *o;
    w->cb = cb;
    w->arg = arg;
    w->next_revision = o->start_revision;
    if (o->key.size > 0)
        memcpy(behind, o->key.data, o->key.size);
    if (o->range_end.size > 0)
        memcpy(behind + o->key.size, o->range_end.data, o->range_end.size);
    w->o.key.data = behind;
    w->o.range_end.data = behind + o->key.size;
    list_init(&w->link);
    list_init(&w->lost_link);
    list_init(&w->queue);
    buf_init(&w->fragments, c->o.watch_bytes_max);
    (void)pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&w->cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    *ret = w;
    engine__sync(c, run_open, w);
    return 0;
}

static void run_close(struct trivet_client *c, void *arg)
{
    struct trivet_watch *w = arg;
    forget(w);
    if (!w->ended)
        atomic_fetch_sub(&c->watches_now, 1);
    w->ended = true;
}

void trivet_watch_close(struct trivet_watch *w)
{
    struct trivet_client *c = w->client;
    if (c == NULL) {
        watch_free(w);
        return;
    }
    bool inside = engine__is_mine(c) && w->in_callback;
    engine__sync(c, run_close, w);
    if (inside)
        w->close_after = true;
    else
        watch_free(w);
}

/* Before it is in place an answer would be about revisions that it has not seen. */
static void run_progress(struct trivet_client *c, void *arg)
{
    struct trivet_watch *w = arg;
    struct wire_watch_request q = {.kind = WIRE_WATCH_PROGRESS};
    uint8_t bytes[16];
    (void)c;
    if (w->stream == NULL || !w->created || w->ended)
        return;
    struct slice part = slice_of(bytes, wire_watch_request_size(&q));
    ASSERT(part.size <= sizeof(bytes));
    (void)wire_watch_request_put(bytes, &q);
    if (grpc_send(w->stream->grpc, &part, 1) != 0)
        grpc_cancel(w->stream->grpc);
}

void trivet_watch_progress(struct trivet_watch *w)
{
    if (w->client != NULL)
        engine__sync(w->client, run_progress, w);
}

static void run_resume(struct trivet_client *c, void *arg)
{
    struct trivet_watch *w = arg;
    (void)c;
    if (w->stream != NULL)
        grpc_call_resume_reading(w->stream->grpc);
}

static struct kept *take(struct trivet_watch *w, bool *ret_resume)
{
    struct kept *k = NULL;
    if (!list_is_empty(&w->queue)) {
        k = CONTAINER_OF(w->queue.next, struct kept, link);
        list_remove(&k->link);
        w->queued_bytes -= k->size;
    }
    *ret_resume = w->paused && list_is_empty(&w->queue);
    if (*ret_resume)
        w->paused = false;
    return k;
}

static struct kept *wait_here(struct trivet_watch *w, uint64_t until_ns, bool *ret_resume)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000),
                             .tv_nsec = (long)(until_ns % 1000000000)};
    struct kept *k;
    (void)pthread_mutex_lock(&w->lock);
    while ((k = take(w, ret_resume)) == NULL)
        if (pthread_cond_timedwait(&w->cond, &w->lock, &until) == ETIMEDOUT) {
            k = take(w, ret_resume);
            break;
        }
    (void)pthread_mutex_unlock(&w->lock);
    return k;
}

static struct kept *wait_in_loop(struct trivet_watch *w, uint64_t until_ns, bool *ret_resume)
{
    struct kept *k;
    while ((k = take(w, ret_resume)) == NULL && engine__now_ns() < until_ns)
        engine__step(w->client);
    return k;
}

int trivet_watch_next(struct trivet_watch *w, uint64_t timeout_ms, struct trivet_watch_message *ret)
{
    struct trivet_client *c = w->client;
    uint64_t until_ns = engine__now_ns() + timeout_ms * NS_PER_MS;
    bool resume = false;
    struct kept *k;
    *ret = (struct trivet_watch_message){.status = TRIVET_INVALID, .error = ""};
    if (w->cb != NULL || (c != NULL && engine__is_mine(c)))
        return TRIVET_INVALID;
    k = c != NULL && c->o.own_loop ? wait_in_loop(w, until_ns, &resume)
                                   : wait_here(w, until_ns, &resume);
    if (resume && c != NULL)
        engine__sync(c, run_resume, w);
    ret->status = TRIVET_TIMEOUT;
    if (k != NULL)
        *ret = k->m;
    return ret->status;
}

void trivet_watch_message_clear(struct trivet_watch_message *m)
{
    if (m->memory != NULL)
        kept_free(m->memory);
    *m = (struct trivet_watch_message){.error = ""};
}
