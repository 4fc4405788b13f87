/* The bytes that watchers are sent: events, and the responses around them. */
#include "server/watch_internal.h"

#include "base/assert.h"
#include "base/clock.h"

bool watch__wants(const struct watch_group *g, const struct mvcc_version *v)
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

void watch__append_event(struct watch_hub *h, const struct watch_group *g,
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

void watch__respond(struct watch_stream *s, const struct wire_watch_response *r, struct bref *owner,
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

void watch__respond_measured(struct watch_stream *s, const struct wire_watch_response *r,
                             struct metric_hist *took)
{
    uint64_t from_ns = clock_mono_ns();
    watch__respond(s, r, NULL, SLICE_EMPTY);
    metric_observe(took, METER_SEND_SCALE, clock_mono_ns() - from_ns);
}

struct wire_watch_response watch__response(struct watch_hub *h, int64_t rev, int64_t watch_id)
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
        struct wire_watch_response r = watch__response(w->stream->hub, rev, w->id);
        r.fragment = end < events.size;
        watch__respond(w->stream, &r, owner, slice_of(events.data + at, end - at));
        at = end;
    }
}

void watch__send_events(struct watcher *w, int64_t rev, struct bref *owner, struct slice events,
                        uint32_t count)
{
    w->sent_since_progress = true;
    metric_add(&w->stream->hub->o.meters->events, count);
    if (w->fragment && events.size > w->stream->hub->o.response_bytes_max) {
        respond_in_fragments(w, rev, owner, events);
        return;
    }
    struct wire_watch_response r = watch__response(w->stream->hub, rev, w->id);
    watch__respond(w->stream, &r, owner, events);
}

void watch__measure_send(struct watch_hub *h, uint64_t from_ns, uint64_t responses, uint64_t events)
{
    if (responses == 0)
        return;
    uint64_t took_ns = clock_mono_ns() - from_ns;
    metric_observe_many(&h->o.meters->send, METER_SEND_SCALE, took_ns / responses, responses);
    metric_observe_many(&h->o.meters->send_per_event, METER_SEND_SCALE, took_ns / events,
                        responses);
}
