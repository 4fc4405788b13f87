#include "server/watch.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/u64map.h"

enum {
    /* A stream with more than this waiting to be sent gets no more events until it drains. */
    STREAM_QUEUED_BYTES_MAX = 1 << 20,
    /* Events of one round over the history, in bytes; the round ends at a revision's end. */
    ROUND_BYTES_MAX = 1 << 20,
    CATCH_UP_VERSIONS_MAX = 10000,
    VERSIONS_TOGETHER = 16,
    WATCH_ID_INVALID = -1,
};

/* What watchers of the same range and options have in common; they get the same bytes. */
struct watch_group {
    struct interest in;     /* its slices are the group's own */
    struct list dirty_link; /* of hub->dirty while it has events */
    struct list watchers;   /* synced */
    uint32_t refs;          /* watchers in either state */
    uint32_t filters;
    bool prev_kv;
    size_t first_event, last_event; /* of this round: where they are in hub->round */
    size_t events_size;
    uint32_t events_count;
};

/* In hub->round; the event's bytes follow, as repeated field 11. */
struct found_event {
    size_t next; /* of the group's, where it is; of its last one of no meaning */
    size_t size;
};

enum watcher_state { WATCHER_SYNCED, WATCHER_LAGGING };

struct watcher {
    struct list link;        /* of its group's watchers, or of hub->lagging */
    struct list stream_link; /* of its stream's watchers */
    struct list notify_link; /* of hub->notified, when it wants progress told */
    struct watch_stream *stream;
    struct watch_group *group; /* counted in, in either state: it holds the shape */
    enum watcher_state state;
    int64_t id;
    int64_t next_rev; /* first revision not sent yet; kept while LAGGING */
    int64_t start_rev;
    bool fragment;
    bool sent_since_progress;
    uint64_t notify_at_ms;
};

struct watch_stream {
    struct list link; /* of hub->streams */
    struct watch_hub *hub;
    struct grpc_call *call;
    struct list watchers;
    struct u64map by_id; /* id + 1 -> watcher, or &compacted_away */
    int64_t next_id;
    bool require_leader;
};

/* In the place of a watcher that a compaction ended: its id is the client's until it cancels it, as
 * in etcd (server/storage/mvcc/watcher.go: only Cancel() takes it out of the stream's watchers). */
static char compacted_away;

struct watch_hub {
    struct watch_hub_options o;
    struct watch_meters unread; /* counted there when nobody asks */
    int64_t synced_rev;         /* sent */
    int64_t looked_rev;  /* looked at; the events of what lies between wait in their groups */
    struct mvcc_pin pin; /* at synced_rev: no compaction takes what was not sent */
    uint64_t now_ms;
    struct interests groups;
    struct list dirty;   /* groups with events */
    struct list lagging; /* looked at from the front, put back at the end */
    uint32_t lagging_count;
    uint32_t lagging_due; /* of these, still to be looked at */
    struct list streams;
    struct list notified; /* watchers, by when they are due: all wait as long */
    struct buf round;     /* found_events of all groups, one behind the other */
    uint64_t responses;   /* sent since the last watch_hub_advance() */
    struct watch_listeners listeners;
};

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

/* --- groups --- */

static struct watch_group *group_of(struct interest *it)
{
    return CONTAINER_OF(it, struct watch_group, in);
}

struct group_search {
    const struct wire_watch_create *create;
    struct watch_group *found;
};

static bool is_searched(void *ctx, struct interest *it)
{
    struct group_search *s = ctx;
    struct watch_group *g = group_of(it);
    if (g->filters == s->create->filters && g->prev_kv == s->create->prev_kv &&
        slice_equal(it->key, s->create->key) && slice_equal(it->range_end, s->create->range_end))
        s->found = g;
    return s->found == NULL;
}

static struct watch_group *group_new(const struct wire_watch_create *c)
{
    struct watch_group *g = mem_alloc_zero(sizeof(*g));
    g->in.key = slice_of(mem_dup(c->key.data, c->key.size), c->key.size);
    if (c->range_end.size > 0)
        g->in.range_end =
            slice_of(mem_dup(c->range_end.data, c->range_end.size), c->range_end.size);
    g->filters = c->filters;
    g->prev_kv = c->prev_kv;
    list_init(&g->watchers);
    list_init(&g->dirty_link);
    return g;
}

/* The range is not empty. */
static struct watch_group *group_get(struct watch_hub *h, const struct wire_watch_create *c)
{
    struct group_search search = {.create = c};
    interests_of(&h->groups, c->key, is_searched, &search);
    if (search.found == NULL) {
        search.found = group_new(c);
        interests_add(&h->groups, &search.found->in);
    }
    search.found->refs++;
    return search.found;
}

/* --- encoding --- */

static bool group_wants(const struct watch_group *g, const struct mvcc_version *v)
{
    uint32_t filter = mvcc_version_is_tombstone(v) ? WIRE_WATCH_NODELETE : WIRE_WATCH_NOPUT;
    return (g->filters & filter) == 0;
}

/* What the key held before the revision of `v`, whatever else that revision did to it; nothing when
 * a compaction took it: etcd reads the revision before. Nor has one that was created anything
 * before it, not even when the same revision deleted it first. */
static struct slice prev_kv_of(struct watch_hub *h, const struct mvcc_version *v)
{
    if (mvcc_version_is_created(v))
        return SLICE_EMPTY;
    int64_t rev = mvcc_version_mod_revision(v) - 1;
    if (rev < mvcc_compacted(h->o.mvcc))
        return SLICE_EMPTY;
    const struct mvcc_version *prev = mvcc_version_sub(v) == 0
                                          ? mvcc_version_prev(v)
                                          : mvcc_get(h->o.mvcc, mvcc_version_key(v), rev);
    return prev == NULL ? SLICE_EMPTY : mvcc_version_kv(prev);
}

static void append_event(struct watch_hub *h, const struct watch_group *g,
                         const struct mvcc_version *v, struct buf *events)
{
    int type = mvcc_version_is_tombstone(v) ? 1 : 0;
    struct slice kv = mvcc_version_kv(v);
    struct slice prev = g->prev_kv ? prev_kv_of(h, v) : SLICE_EMPTY;
    size_t size = wire_event_size(type, kv, prev);
    uint8_t *p = buf_reserve(events, size);
    ASSERT(p != NULL);
    wire_event_put(p, type, kv, prev);
    events->size += size;
}

/* The events are `owner`'s, or nobody's and copied. */
static void respond(struct watch_stream *s, const struct wire_watch_response *r, struct bref *owner,
                    struct slice events)
{
    uint8_t head[256];
    size_t size = wire_watch_response_size(r);
    ASSERT(size <= sizeof(head));
    wire_watch_response_put(head, r);
    struct slice parts[] = {{head, size}, events};
    if (owner == NULL)
        (void)grpc_send(s->call, parts, events.size > 0 ? 2 : 1);
    else
        (void)grpc_send_shared(s->call, slice_of(head, size), owner, events);
}

/* One without events, of a kind whose sending is measured. */
static void respond_measured(struct watch_stream *s, const struct wire_watch_response *r,
                             struct metric_hist *took)
{
    uint64_t from_ns = clock_mono_ns();
    respond(s, r, NULL, SLICE_EMPTY);
    metric_observe(took, METER_SEND_SCALE, clock_mono_ns() - from_ns);
}

static struct wire_watch_response response_of(struct watch_hub *h, int64_t rev, int64_t watch_id)
{
    return (struct wire_watch_response){
        .header = {.cluster_id = h->o.cluster_id,
                   .member_id = h->o.member_id,
                   .revision = rev,
                   .raft_term = h->o.term(h->o.ctx)},
        .watch_id = watch_id,
    };
}

/* Cut the events into responses of at most response_bytes_max each, one event at the least. */
static void respond_in_fragments(struct watcher *w, int64_t rev, struct bref *owner,
                                 struct slice events)
{
    size_t at = 0;
    while (at < events.size) {
        size_t end = at;
        while (end < events.size) {
            struct slice rest = slice_of(events.data + end, events.size - end);
            size_t one = wire_field_size(rest);
            if (end > at && end + one - at > w->stream->hub->o.response_bytes_max)
                break;
            end += one;
        }
        struct wire_watch_response r = response_of(w->stream->hub, rev, w->id);
        r.fragment = end < events.size;
        respond(w->stream, &r, owner, slice_of(events.data + at, end - at));
        at = end;
    }
}

static void send_events(struct watcher *w, int64_t rev, struct bref *owner, struct slice events,
                        uint32_t count)
{
    w->sent_since_progress = true;
    metric_add(&w->stream->hub->o.meters->events, count);
    if (w->fragment && events.size > w->stream->hub->o.response_bytes_max) {
        respond_in_fragments(w, rev, owner, events);
        return;
    }
    struct wire_watch_response r = response_of(w->stream->hub, rev, w->id);
    respond(w->stream, &r, owner, events);
}

/* --- the moves between the states --- */

static void lagging_add(struct watch_hub *h, struct watcher *w, int64_t next_rev)
{
    w->state = WATCHER_LAGGING;
    w->next_rev = next_rev;
    list_push_back(&h->lagging, &w->link);
    h->lagging_count++;
    metric_set(&h->o.meters->lagging, h->lagging_count);
}

static void unlink_watcher(struct watch_hub *h, struct watcher *w)
{
    if (w->state == WATCHER_LAGGING)
        metric_set(&h->o.meters->lagging, --h->lagging_count);
    list_remove(&w->link);
}

/* Have all lagging watchers looked at, a bounded number at a time. */
static void look_at_lagging(struct watch_hub *h)
{
    h->lagging_due = h->lagging_count;
    if (h->lagging_due > 0)
        h->o.wake(h->o.ctx);
}

static void watch_hub__join(struct watch_hub *h, struct watcher *w)
{
    unlink_watcher(h, w);
    w->state = WATCHER_SYNCED;
    list_push_back(&w->group->watchers, &w->link);
}

static void watch_hub__fall_behind(struct watch_hub *h, struct watcher *w, int64_t next_rev)
{
    PROBE(watch_falls_behind);
    unlink_watcher(h, w);
    lagging_add(h, w, next_rev);
}

static void group_release(struct watch_hub *h, struct watch_group *g)
{
    if (--g->refs > 0)
        return;
    interests_remove(&h->groups, &g->in);
    list_remove(&g->dirty_link);
    mem_free((void *)g->in.key.data);
    if (g->in.range_end.size > 0)
        mem_free((void *)g->in.range_end.data);
    mem_free(g);
}

static void watcher_remove(struct watcher *w)
{
    struct watch_hub *h = w->stream->hub;
    struct watch_group *g = w->group;
    (void)u64map_remove(&w->stream->by_id, (uint64_t)w->id + 1);
    unlink_watcher(h, w);
    list_remove(&w->stream_link);
    list_remove(&w->notify_link);
    metric_set(&h->o.meters->watchers, metric_read(&h->o.meters->watchers) - 1);
    mem_free(w);
    group_release(h, g);
}

static void cancel_compacted(struct watcher *w, int64_t compacted)
{
    PROBE(watch_compacted);
    struct wire_watch_response r = response_of(w->stream->hub, 0, w->id);
    r.canceled = true;
    r.compact_revision = compacted;
    struct watch_stream *s = w->stream;
    respond(s, &r, NULL, SLICE_EMPTY);
    watcher_remove(w);
    u64map_put(&s->by_id, (uint64_t)r.watch_id + 1, &compacted_away);
}

/* --- synced watchers: one walk over the new history serves them all --- */

struct offer {
    struct watch_hub *hub;
    const struct mvcc_version *version;
};

static void find_event(struct watch_hub *h, struct watch_group *g, const struct mvcc_version *v)
{
    struct found_event f;
    size_t at = h->round.size;
    (void)buf_reserve(&h->round, sizeof(f));
    h->round.size += sizeof(f);
    append_event(h, g, v, &h->round);
    f = (struct found_event){.size = h->round.size - at - sizeof(f)};
    memcpy(h->round.data + at, &f, sizeof(f));
    if (g->events_count == 0)
        g->first_event = at;
    else
        memcpy(h->round.data + g->last_event + offsetof(struct found_event, next), &at, sizeof(at));
    g->last_event = at;
    g->events_size += f.size;
    g->events_count++;
}

static bool offer(void *ctx, struct interest *it)
{
    const struct offer *o = ctx;
    struct watch_group *g = group_of(it);
    if (list_is_empty(&g->watchers) || !group_wants(g, o->version))
        return true;
    find_event(o->hub, g, o->version);
    if (!list_is_linked(&g->dirty_link)) {
        list_push_back(&o->hub->dirty, &g->dirty_link);
        __builtin_prefetch(
            CONTAINER_OF(g->watchers.next, struct watcher, link)); /* its turn comes */
    }
    return true;
}

static void offer_all(struct watch_hub *h, const struct mvcc_version *v, uint64_t prepared)
{
    struct offer o = {.hub = h, .version = v};
    watch_listeners_offer(&h->listeners, v);
    interests_of_prepared(&h->groups, mvcc_version_key(v), prepared, offer, &o);
}

/* Changes of the history that are looked at together. */
struct handful {
    const struct mvcc_version *version[VERSIONS_TOGETHER];
    uint64_t prepared[VERSIONS_TOGETHER];
    uint32_t count;
};

static bool next_handful(struct watch_hub *h, struct mvcc_history_cursor *cursor, int64_t rev_max,
                         struct handful *ret)
{
    const struct mvcc_version *v;
    ret->count = 0;
    while (ret->count < VERSIONS_TOGETHER && (v = mvcc_history_next(cursor, rev_max)) != NULL) {
        ret->version[ret->count] = v;
        ret->prepared[ret->count++] = interests_prepare(&h->groups, mvcc_version_key(v));
    }
    return ret->count > 0;
}

static bool stream_is_full(const struct watch_stream *s)
{
    return grpc_call_queued_bytes(s->call) > STREAM_QUEUED_BYTES_MAX;
}

/* What it took to hand so many responses to watchers, with so many events in all. */
static void measure_send(struct watch_hub *h, uint64_t from_ns, uint64_t responses, uint64_t events)
{
    if (responses == 0)
        return;
    uint64_t took_ns = clock_mono_ns() - from_ns;
    metric_observe_many(&h->o.meters->send, METER_SEND_SCALE, took_ns / responses, responses);
    metric_observe_many(&h->o.meters->send_per_event, METER_SEND_SCALE, took_ns / events,
                        responses);
}

/* One event of the group's; moves on to the next. */
static struct slice next_event(const struct watch_hub *h, size_t *at)
{
    struct found_event f;
    memcpy(&f, h->round.data + *at, sizeof(f));
    struct slice event = slice_of(h->round.data + *at + sizeof(f), f.size);
    *at = f.next;
    return event;
}

/* All of the group's, one behind the other, for several watchers to share. */
static struct bref *gather_events(const struct watch_hub *h, const struct watch_group *g)
{
    struct bref *body = bref_new(g->events_size);
    size_t at = g->first_event, size = 0;
    for (uint32_t i = 0; i < g->events_count; i++) {
        struct slice event = next_event(h, &at);
        memcpy(body->data + size, event.data, event.size);
        size += event.size;
    }
    ASSERT(size == g->events_size);
    return body;
}

/* Returns how many watchers got a response. */
static uint64_t flush_group(const struct watch_hub *h, struct watch_group *g, int64_t rev)
{
    struct bref *body = NULL;
    struct slice events;
    uint64_t sent = 0;
    if (g->events_count == 1 && g->refs == 1) { /* as most are: nobody to share it with */
        size_t at = g->first_event;
        events = next_event(h, &at);
    } else {
        body = gather_events(h, g);
        events = slice_of(body->data, g->events_size);
    }
    LIST_EACH_SAFE (it, after, &g->watchers) {
        struct watcher *w = CONTAINER_OF(it, struct watcher, link);
        if (stream_is_full(w->stream)) {
            watch_hub__fall_behind(w->stream->hub, w, h->synced_rev + 1);
        } else {
            send_events(w, rev, body, events, g->events_count);
            sent++;
        }
    }
    if (body != NULL)
        bref_unref(body);
    return sent;
}

/* What one revision made larger than a round is not kept. */
static void round_clear(struct watch_hub *h)
{
    if (h->round.capacity > 2 * ROUND_BYTES_MAX)
        buf_fini(&h->round);
    buf_clear(&h->round);
}

/* Send what was found up to `rev`. */
static void flush_round(struct watch_hub *h, int64_t rev)
{
    uint64_t from_ns = clock_mono_ns(), responses = 0, events = 0;
    LIST_EACH_SAFE (it, after, &h->dirty) {
        struct watch_group *g = CONTAINER_OF(it, struct watch_group, dirty_link);
        uint64_t sent = flush_group(h, g, rev);
        responses += sent;
        events += sent * g->events_count;
        g->events_count = 0;
        g->events_size = 0;
        list_remove(&g->dirty_link);
    }
    measure_send(h, from_ns, responses, events);
    h->responses += responses;
    round_clear(h);
    h->synced_rev = rev;
}

static void group_falls_behind(struct watch_hub *h, struct watch_group *g, int64_t next_rev)
{
    LIST_EACH_SAFE (it, after, &g->watchers)
        watch_hub__fall_behind(h, CONTAINER_OF(it, struct watcher, link), next_rev);
}

/* Another member's snapshot took the store's place, and it is compacted beyond what was looked at:
 * all watchers fall behind, and learn as lagging ones that what they miss is compacted. The pin of
 * the revision protects what it stands on in the new contents too. */
static void skip_lost_history(struct watch_hub *h, int64_t rev_max)
{
    PROBE(watch_history_lost);
    flush_round(h, h->looked_rev);
    int64_t first_rev = h->synced_rev + 1;
    LIST_EACH (it, &h->groups.all)
        group_falls_behind(h, group_of(CONTAINER_OF(it, struct interest, link)), first_rev);
    watch_listeners_lost(&h->listeners);
    h->looked_rev = h->synced_rev = rev_max;
    mvcc_pin_move(&h->pin, rev_max);
    look_at_lagging(h);
}

/* Go through what was published up to `rev_max`. What fills a round is sent. */
static void look_at_history(struct watch_hub *h, int64_t rev_max)
{
    struct mvcc_history_cursor cursor;
    /* The pin keeps what is to come, unless the contents were replaced by some that never had it.
     * While they are being replaced, the old revision is still published: the next call knows. */
    if (mvcc_history_seek(h->o.mvcc, &cursor, h->looked_rev + 1) != 0) {
        if (mvcc_compacted(h->o.mvcc) > h->looked_rev + 1)
            skip_lost_history(h, rev_max);
        return;
    }
    struct handful some;
    while (next_handful(h, &cursor, rev_max, &some))
        for (uint32_t i = 0; i < some.count; i++) {
            int64_t at = mvcc_version_mod_revision(some.version[i]);
            if (at != h->looked_rev && h->round.size > ROUND_BYTES_MAX)
                flush_round(h, h->looked_rev);
            h->looked_rev = at;
            offer_all(h, some.version[i], some.prepared[i]);
        }
    h->looked_rev = rev_max;
}

void watch_hub_look(struct watch_hub *h)
{
    int64_t rev_max = mvcc_revision(h->o.mvcc);
    if (rev_max <= h->looked_rev)
        return;
    if (list_is_empty(&h->streams) &&
        watch_listeners_is_empty(&h->listeners)) { /* nobody to tell */
        h->looked_rev = rev_max;
        return;
    }
    epoch_enter(mvcc_epoch(h->o.mvcc), h->o.reader);
    look_at_history(h, rev_max);
    epoch_leave(h->o.reader);
    watch_listeners_wake(&h->listeners);
}

/* Everything looked at is sent after this. */
static void send_found(struct watch_hub *h)
{
    if (h->looked_rev == h->synced_rev)
        return;
    flush_round(h, h->looked_rev);
    mvcc_pin_move(&h->pin, h->synced_rev);
    look_at_lagging(h);
}

static void look_and_send(struct watch_hub *h)
{
    watch_hub_look(h);
    send_found(h);
}

uint64_t watch_hub_advance(struct watch_hub *h)
{
    look_and_send(h);
    uint64_t responses = h->responses;
    h->responses = 0;
    return responses;
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

/* --- lagging watchers: each with its own cursor --- */

/* Send `w` a bounded piece of what it missed. False when `w` is gone. */
static bool send_missed(struct watch_hub *h, struct watcher *w)
{
    struct mvcc_history_cursor cursor;
    int64_t compacted = mvcc_compacted(h->o.mvcc);
    if (w->next_rev < compacted || mvcc_history_seek(h->o.mvcc, &cursor, w->next_rev) != 0) {
        cancel_compacted(w, compacted);
        return false;
    }
    struct buf events;
    buf_init(&events, SIZE_MAX);
    uint32_t seen = 0, found = 0;
    uint64_t from_ns = clock_mono_ns();
    int64_t rev = w->next_rev - 1;
    const struct mvcc_version *v;
    bool all = true;
    while ((v = mvcc_history_next(&cursor, h->synced_rev)) != NULL) {
        int64_t at = mvcc_version_mod_revision(v);
        if (at != rev && (seen > CATCH_UP_VERSIONS_MAX || events.size > ROUND_BYTES_MAX)) {
            all = false;
            break;
        }
        seen++;
        rev = at;
        if (interest_covers(&w->group->in, mvcc_version_key(v)) && group_wants(w->group, v)) {
            append_event(h, w->group, v, &events);
            found++;
        }
    }
    w->next_rev = all ? h->synced_rev + 1 : rev + 1;
    if (events.size > 0) {
        send_events(w, h->synced_rev, NULL, buf_slice(&events), found);
        measure_send(h, from_ns, 1, found);
    }
    buf_fini(&events);
    return true;
}

/* True when `w` wants another piece at once. */
static bool watch_hub__catch_up(struct watch_hub *h, struct watcher *w)
{
    if (w->next_rev > h->synced_rev + 1)
        return false; /* its start lies in the future */
    if (w->next_rev == h->synced_rev + 1) {
        watch_hub__join(h, w);
        return false;
    }
    if (stream_is_full(w->stream))
        return false; /* writable() wakes us */
    if (!send_missed(h, w))
        return false;
    if (w->next_rev == h->synced_rev + 1 && !stream_is_full(w->stream)) {
        watch_hub__join(h, w);
        return false;
    }
    return true;
}

bool watch_hub_work(struct watch_hub *h)
{
    enum { WATCHERS_PER_TURN = 64 };
    send_found(h); /* what comes to an end here goes on with what is looked at next */
    epoch_enter(mvcc_epoch(h->o.mvcc), h->o.reader);
    for (uint32_t i = 0; i < WATCHERS_PER_TURN && h->lagging_due > 0; i++) {
        h->lagging_due--;
        if (list_is_empty(&h->lagging))
            break;
        struct watcher *w = CONTAINER_OF(h->lagging.next, struct watcher, link);
        list_remove(&w->link);
        list_push_back(&h->lagging, &w->link); /* the others first */
        if (watch_hub__catch_up(h, w))
            h->lagging_due++;
    }
    epoch_leave(h->o.reader);
    return h->lagging_due > 0 && h->lagging_count > 0;
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
    look_and_send(h);
    if (!all_have_progress(s))
        return;
    struct wire_watch_response r = response_of(h, h->synced_rev, WATCH_ID_INVALID);
    respond_measured(s, &r, &h->o.meters->send_progress);
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
        struct wire_watch_response r = response_of(h, h->synced_rev, w->id);
        respond_measured(w->stream, &r, &h->o.meters->send_progress);
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
    struct wire_watch_response r = response_of(s->hub, s->hub->synced_rev, WATCH_ID_INVALID);
    r.created = true;
    r.canceled = true;
    r.cancel_reason = slice_of_string(reason);
    respond_measured(s, &r, &s->hub->o.meters->send_control);
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
    w->group = group_get(h, c);
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
    look_and_send(h); /* a watch from "now" begins after everything already answered */
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
    struct wire_watch_response r = response_of(h, h->synced_rev, id);
    r.created = true;
    respond_measured(s, &r, &s->hub->o.meters->send_control);

    int64_t now = h->synced_rev + 1;
    if (c->start_revision == 0 || c->start_revision == now) {
        watch_hub__join(h, w);
    } else {
        lagging_add(h, w, c->start_revision);
        look_at_lagging(h);
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
    struct wire_watch_response r = response_of(s->hub, s->hub->synced_rev, id);
    r.canceled = true;
    respond_measured(s, &r, &s->hub->o.meters->send_control);
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
        look_at_lagging(s->hub);
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
