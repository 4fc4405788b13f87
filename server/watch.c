#include "server/watch_internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

enum { WATCH_ID_INVALID = -1 };

/* In the place of a watcher that a compaction ended: its id is the client's until it cancels it, as
 * in etcd (server/storage/mvcc/watcher.go: only Cancel() takes it out of the stream's watchers). */
static char compacted_away;

/* --- life --- */

struct watch_hub *watch_hub_new(const struct watch_hub_options *o)
{
    struct watch_hub *h = mem_alloc_zero(sizeof(*h));
    ASSERT(o->progress_interval_ms > 0);
    h->o = *o;
    if (h->o.meters == NULL)
        h->o.meters = &h->unread;
    epoch_enter(mvcc_epoch(o->mvcc), o->reader);
    h->looked_rev = h->synced_rev = mvcc_revision(o->mvcc);
    int err = mvcc_pin_take(o->mvcc, &h->pin, h->synced_rev);
    epoch_leave(o->reader);
    ASSERT(err == 0);
    mvcc_pin_loosen(o->mvcc, &h->pin);
    interests_init(&h->groups);
    list_init(&h->dirty);
    buf_init(&h->round, SIZE_MAX);
    list_init(&h->lagging);
    list_init(&h->streams);
    list_init(&h->notified);
    watch_listeners_init(&h->listeners);
    return h;
}

void watch_hub_free(struct watch_hub *h)
{
    ASSERT(list_is_empty(&h->streams));
    watch_listeners_fini(&h->listeners);
    interests_fini(&h->groups);
    buf_fini(&h->round);
    mvcc_pin_release(h->o.mvcc, &h->pin);
    mem_free(h);
}

/* --- listeners --- */

void watch_hub_listen(struct watch_hub *h, struct watch_listener *l)
{
    watch_listeners_add(&h->listeners, l);
}

void watch_hub_unlisten(struct watch_hub *h, struct watch_listener *l)
{
    watch_listeners_remove(&h->listeners, l);
}

int64_t watch_hub_revision(const struct watch_hub *h)
{
    return h->looked_rev;
}

/* --- the end of a watcher --- */

static void watcher_remove(struct watcher *w)
{
    struct watch_hub *h = w->stream->hub;
    struct watch_group *g = w->group;
    (void)u64map_remove(&w->stream->by_id, (uint64_t)w->id + 1);
    watch__unlink(h, w);
    list_remove(&w->stream_link);
    list_remove(&w->notify_link);
    metric_set(&h->o.meters->watchers, metric_read(&h->o.meters->watchers) - 1);
    mem_free(w);
    watch__group_release(h, g);
}

void watch__cancel_compacted(struct watcher *w, int64_t compacted)
{
    PROBE(watch_compacted);
    struct wire_watch_response r = watch__response(w->stream->hub, 0, w->id);
    r.canceled = true;
    r.compact_revision = compacted;
    struct watch_stream *s = w->stream;
    watch__respond(s, &r, NULL, SLICE_EMPTY);
    watcher_remove(w);
    u64map_put(&s->by_id, (uint64_t)r.watch_id + 1, &compacted_away);
}

/* --- progress --- */

/* One that begins with a revision to come has made no progress (etcd: progressIfSync()). */
static bool has_progress(const struct watcher *w)
{
    return w->state == WATCHER_SYNCED && w->start_rev <= w->stream->hub->synced_rev;
}

static bool all_have_progress(const struct watch_stream *s)
{
    LIST_EACH (it, &s->watchers)
        if (!has_progress(CONTAINER_OF(it, struct watcher, stream_link)))
            return false;
    return !list_is_empty(&s->watchers);
}

static void on_progress_request(struct watch_stream *s)
{
    struct watch_hub *h = s->hub;
    watch__look_and_send(h);
    if (!all_have_progress(s))
        return;
    struct wire_watch_response r = watch__response(h, h->synced_rev, WATCH_ID_INVALID);
    watch__respond_measured(s, &r, &h->o.meters->send_progress);
}

static void notify_later(struct watch_hub *h, struct watcher *w)
{
    w->notify_at_ms = h->now_ms + h->o.progress_interval_ms;
    list_remove(&w->notify_link);
    list_push_back(&h->notified, &w->notify_link);
}

static void notify_progress(struct watch_hub *h, struct watcher *w)
{
    if (!w->sent_since_progress && has_progress(w)) {
        struct wire_watch_response r = watch__response(h, h->synced_rev, w->id);
        watch__respond_measured(w->stream, &r, &h->o.meters->send_progress);
    }
    w->sent_since_progress = false;
}

void watch_hub_tick(struct watch_hub *h, uint64_t now_ms, bool leader_lost)
{
    h->now_ms = now_ms;
    LIST_EACH_SAFE (it, after, &h->streams) {
        struct watch_stream *s = CONTAINER_OF(it, struct watch_stream, link);
        if (leader_lost && s->require_leader)
            grpc_finish(s->call, tv_err_code(TV_NO_LEADER), tv_err_text(TV_NO_LEADER));
    }
    while (!list_is_empty(&h->notified)) {
        struct watcher *w = CONTAINER_OF(h->notified.next, struct watcher, notify_link);
        if (h->now_ms < w->notify_at_ms)
            break;
        notify_later(h, w);
        notify_progress(h, w);
    }
}

void watch_hub_stop(struct watch_hub *h)
{
    watch_listeners_stop(&h->listeners);
    LIST_EACH (it, &h->streams)
        grpc_finish(CONTAINER_OF(it, struct watch_stream, link)->call, tv_err_code(TV_STOPPED),
                    tv_err_text(TV_STOPPED));
}

/* --- requests --- */

static void reject(struct watch_stream *s, const char *reason)
{
    struct wire_watch_response r = watch__response(s->hub, s->hub->synced_rev, WATCH_ID_INVALID);
    r.created = true;
    r.canceled = true;
    r.cancel_reason = slice_of_string(reason);
    watch__respond_measured(s, &r, &s->hub->o.meters->send_control);
}

static bool range_is_empty(struct slice key, struct slice range_end)
{
    bool open_end = range_end.size == 1 && range_end.data[0] == 0;
    return range_end.size > 0 && !open_end && slice_compare(key, range_end) >= 0;
}

static bool pick_id(struct watch_stream *s, int64_t wanted, int64_t *ret_id)
{
    if (wanted != 0) {
        *ret_id = wanted;
        return u64map_get(&s->by_id, (uint64_t)wanted + 1) == NULL;
    }
    while (u64map_get(&s->by_id, (uint64_t)s->next_id + 1) != NULL)
        s->next_id++;
    *ret_id = s->next_id++;
    return true;
}

/* As etcd tells it here, and nowhere else: with the code in words. */
static const char *refusal(int err)
{
    switch (err) {
    case TV_INVALID_AUTH_TOKEN:
        return "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
    case TV_AUTH_OLD_REVISION:
        return "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old";
    case TV_USER_EMPTY:
        return "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
    default:
        return "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    }
}

static struct watcher *watcher_new(struct watch_stream *s, const struct wire_watch_create *c,
                                   int64_t id)
{
    struct watch_hub *h = s->hub;
    struct watcher *w = mem_alloc_zero(sizeof(*w));
    w->stream = s;
    w->group = watch__group_get(h, c);
    w->id = id;
    w->start_rev = c->start_revision;
    w->fragment = c->fragment;
    list_init(&w->link);
    list_init(&w->notify_link);
    if (c->progress_notify)
        notify_later(h, w);
    list_push_back(&s->watchers, &w->stream_link);
    u64map_put(&s->by_id, (uint64_t)id + 1, w);
    metric_add(&h->o.meters->watchers, 1);
    return w;
}

static void on_create(struct watch_stream *s, const struct wire_watch_create *c)
{
    struct watch_hub *h = s->hub;
    int64_t id;
    watch__look_and_send(h); /* a watch from "now" begins after everything already answered */
    if (c->start_revision < 0) {
        reject(s, tv_err_text(TV_COMPACTED));
        return;
    }
    int err = h->o.permit == NULL ? 0 : h->o.permit(h->o.ctx, s->call, c->key, c->range_end);
    if (err != 0) {
        reject(s, refusal(err));
        return;
    }
    if (range_is_empty(c->key, c->range_end)) {
        reject(s, "mvcc: watcher range is empty");
        return;
    }
    if (!pick_id(s, c->watch_id, &id)) {
        reject(s, "mvcc: duplicate watch ID provided on the WatchStream");
        return;
    }

    struct watcher *w = watcher_new(s, c, id);
    struct wire_watch_response r = watch__response(h, h->synced_rev, id);
    r.created = true;
    watch__respond_measured(s, &r, &s->hub->o.meters->send_control);

    int64_t now = h->synced_rev + 1;
    if (c->start_revision == 0 || c->start_revision == now) {
        watch__join(h, w);
    } else {
        watch__lag(h, w, c->start_revision);
        watch__look_at_lagging(h);
    }
}

static void on_cancel(struct watch_stream *s, int64_t id)
{
    void *found = id < 0 ? NULL : u64map_get(&s->by_id, (uint64_t)id + 1);
    if (found == NULL)
        return; /* etcd is silent too */
    if (found == &compacted_away)
        (void)u64map_remove(&s->by_id, (uint64_t)id + 1);
    else
        watcher_remove(found);
    struct wire_watch_response r = watch__response(s->hub, s->hub->synced_rev, id);
    r.canceled = true;
    watch__respond_measured(s, &r, &s->hub->o.meters->send_control);
}

static void on_message(struct grpc_call *call, struct slice msg)
{
    struct watch_stream *s = grpc_call_user(call);
    struct wire_watch_request req;
    if (wire_watch_request_decode(msg, &req) != 0) {
        grpc_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request: malformed message");
        return;
    }
    switch (req.kind) {
    case WIRE_WATCH_CREATE:
        if (req.create.key.size == 0)
            req.create.key = slice_of("", 1); /* the smallest key */
        on_create(s, &req.create);
        break;
    case WIRE_WATCH_CANCEL:
        on_cancel(s, req.cancel_watch_id);
        break;
    case WIRE_WATCH_PROGRESS:
        on_progress_request(s);
        break;
    case WIRE_WATCH_NONE:
        break;
    }
}

static void on_writable(struct grpc_call *call)
{
    struct watch_stream *s = grpc_call_user(call);
    if (s != NULL)
        watch__look_at_lagging(s->hub);
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)code;
    (void)text;
    struct watch_stream *s = grpc_call_user(call);
    if (s == NULL)
        return; /* refused when it was opened */
    LIST_EACH_SAFE (it, after, &s->watchers)
        watcher_remove(CONTAINER_OF(it, struct watcher, stream_link));
    u64map_fini(&s->by_id);
    list_remove(&s->link);
    metric_set(&s->hub->o.meters->streams, metric_read(&s->hub->o.meters->streams) - 1);
    mem_free(s);
}

void watch_stream_open(struct watch_hub *h, struct grpc_call *call)
{
    struct watch_stream *s = mem_alloc_zero(sizeof(*s));
    s->hub = h;
    s->call = call;
    list_init(&s->watchers);
    u64map_init(&s->by_id);
    s->require_leader = slice_equal(grpc_call_metadata(call, "hasleader"), SLICE_LITERAL("true"));
    list_push_back(&h->streams, &s->link);
    metric_add(&h->o.meters->streams, 1);
    grpc_call_set_user(call, s);
}

const struct grpc_call_ops watch_call_ops = {
    .message = on_message,
    .writable = on_writable,
    .closed = on_closed,
};
