/* What the files of a worker's watchers share; see watch.h. watch.c has the streams and what
 * clients ask of them, watch_round.c whom changes concern, watch_lagging.c those that lag behind,
 * watch_send.c the bytes. */
#ifndef SERVER_WATCH_INTERNAL_H
#define SERVER_WATCH_INTERNAL_H

#include "server/interest.h"
#include "server/watch.h"

#include "base/buf.h"
#include "base/u64map.h"

enum {
    /* A stream with more than this waiting to be sent gets no more events until it drains. */
    STREAM_QUEUED_BYTES_MAX = 1 << 20,
    /* Events of one round over the history, in bytes; the round ends at a revision's end. */
    ROUND_BYTES_MAX = 1 << 20,
};

/* What watchers of the same range and options have in common; they get the same bytes. */
struct watch_group {
    struct interest in;     /* its slices are of `bytes` */
    struct list dirty_link; /* of hub->dirty while it has events */
    struct list watchers;   /* synced */
    uint32_t refs;          /* watchers in either state */
    uint32_t filters;
    bool prev_kv;
    size_t first_event, last_event; /* of this round: where they are in hub->round */
    size_t events_size;
    uint32_t events_count;
    uint8_t bytes[];
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
    struct buf round;     /* events of all groups, one behind the other (found_event) */
    uint64_t responses;   /* sent since the last watch_hub_advance() */
    struct watch_listeners listeners;
};

/* --- watch_round.c --- */

/* The one of this shape, made if need be; the range is not empty. Each takes part until released.
 */
struct watch_group *watch__group_get(struct watch_hub *h, const struct wire_watch_create *c);
void watch__group_release(struct watch_hub *h, struct watch_group *g);
/* Everything looked at is sent after this. */
void watch__send_found(struct watch_hub *h);
void watch__look_and_send(struct watch_hub *h);

/* --- watch_lagging.c --- */

/* A new one begins SYNCED, or LAGGING with the first revision to send. */
void watch__join(struct watch_hub *h, struct watcher *w);
void watch__lag(struct watch_hub *h, struct watcher *w, int64_t next_rev);
void watch__fall_behind(struct watch_hub *h, struct watcher *w, int64_t next_rev);
/* Out of its group's list, or of those that lag. */
void watch__unlink(struct watch_hub *h, struct watcher *w);
/* Have all lagging watchers looked at, a bounded number at a time. */
void watch__look_at_lagging(struct watch_hub *h);

/* --- watch_send.c --- */

bool watch__wants(const struct watch_group *g, const struct mvcc_version *v);
void watch__append_event(struct watch_hub *h, const struct watch_group *g,
                         const struct mvcc_version *v, struct buf *events);
struct wire_watch_response watch__response(struct watch_hub *h, int64_t rev, int64_t watch_id);
/* The events are `owner`'s, or nobody's and copied. */
void watch__respond(struct watch_stream *s, const struct wire_watch_response *r, struct bref *owner,
                    struct slice events);
/* One without events, of a kind whose sending is measured. */
void watch__respond_measured(struct watch_stream *s, const struct wire_watch_response *r,
                             struct metric_hist *took);
void watch__send_events(struct watcher *w, int64_t rev, struct bref *owner, struct slice events,
                        uint32_t count);
/* What it took to hand so many responses to watchers, with so many events in all. */
void watch__measure_send(struct watch_hub *h, uint64_t from_ns, uint64_t responses,
                         uint64_t events);

static inline bool watch__stream_is_full(const struct watch_stream *s)
{
    return grpc_call_queued_bytes(s->call) > STREAM_QUEUED_BYTES_MAX;
}

/* --- watch.c --- */

/* What it is to be sent next is compacted: it is told so, and gone. */
void watch__cancel_compacted(struct watcher *w, int64_t compacted);

#endif
