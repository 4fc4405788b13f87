/* Watchers that lag behind: each with a cursor of its own into the history; see watch.h. */
#include "server/watch_internal.h"

#include "base/clock.h"

enum { CATCH_UP_VERSIONS_MAX = 10000 };

/* --- the moves between the states --- */

void watch__lag(struct watch_hub *h, struct watcher *w, int64_t next_rev)
{
    w->state = WATCHER_LAGGING;
    w->next_rev = next_rev;
    list_push_back(&h->lagging, &w->link);
    h->lagging_count++;
    metric_set(&h->o.meters->lagging, h->lagging_count);
}

void watch__unlink(struct watch_hub *h, struct watcher *w)
{
    if (w->state == WATCHER_LAGGING)
        metric_set(&h->o.meters->lagging, --h->lagging_count);
    list_remove(&w->link);
}

void watch__look_at_lagging(struct watch_hub *h)
{
    h->lagging_due = h->lagging_count;
    if (h->lagging_due > 0)
        h->o.wake(h->o.ctx);
}

void watch__join(struct watch_hub *h, struct watcher *w)
{
    watch__unlink(h, w);
    w->state = WATCHER_SYNCED;
    list_push_back(&w->group->watchers, &w->link);
}

void watch__fall_behind(struct watch_hub *h, struct watcher *w, int64_t next_rev)
{
    PROBE(watch_falls_behind);
    watch__unlink(h, w);
    watch__lag(h, w, next_rev);
}

/* --- catching up: each with its own cursor --- */

/* Send `w` a bounded piece of what it missed. False when `w` is gone. */
static bool send_missed(struct watch_hub *h, struct watcher *w)
{
    struct mvcc_history_cursor cursor;
    int64_t compacted = mvcc_compacted(h->o.mvcc);
    if (w->next_rev < compacted || mvcc_history_seek(h->o.mvcc, &cursor, w->next_rev) != 0) {
        watch__cancel_compacted(w, compacted);
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
        if (interest_covers(&w->group->in, mvcc_version_key(v)) && watch__wants(w->group, v)) {
            watch__append_event(h, w->group, v, &events);
            found++;
        }
    }
    w->next_rev = all ? h->synced_rev + 1 : rev + 1;
    if (events.size > 0) {
        watch__send_events(w, h->synced_rev, NULL, buf_slice(&events), found);
        watch__measure_send(h, from_ns, 1, found);
    }
    buf_fini(&events);
    return true;
}

/* True when `w` wants another piece at once. */
static bool catch_up(struct watch_hub *h, struct watcher *w)
{
    if (w->next_rev > h->synced_rev + 1)
        return false; /* its start lies in the future */
    if (w->next_rev == h->synced_rev + 1) {
        watch__join(h, w);
        return false;
    }
    if (watch__stream_is_full(w->stream))
        return false; /* writable() wakes us */
    if (!send_missed(h, w))
        return false;
    if (w->next_rev == h->synced_rev + 1 && !watch__stream_is_full(w->stream)) {
        watch__join(h, w);
        return false;
    }
    return true;
}

bool watch_hub_work(struct watch_hub *h)
{
    enum { WATCHERS_PER_TURN = 64 };
    watch__send_found(h); /* what comes to an end here goes on with what is looked at next */
    epoch_enter(mvcc_epoch(h->o.mvcc), h->o.reader);
    for (uint32_t i = 0; i < WATCHERS_PER_TURN && h->lagging_due > 0; i++) {
        h->lagging_due--;
        if (list_is_empty(&h->lagging))
            break;
        struct watcher *w = CONTAINER_OF(h->lagging.next, struct watcher, link);
        list_remove(&w->link);
        list_push_back(&h->lagging, &w->link); /* the others first */
        if (catch_up(h, w))
            h->lagging_due++;
    }
    epoch_leave(h->o.reader);
    return h->lagging_due > 0 && h->lagging_count > 0;
}
