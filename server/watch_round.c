/* Whom changes of the history concern, found as they are published, and sent in rounds; see
 * watch.h. */
#include "server/watch_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"

enum { VERSIONS_TOGETHER = 16 };

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
    struct watch_group *g = mem_alloc_zero(sizeof(*g) + c->key.size + c->range_end.size);
    g->in.key = slice_of(g->bytes, c->key.size);
    g->in.range_end = slice_of(g->bytes + c->key.size, c->range_end.size);
    memcpy(g->bytes, c->key.data, c->key.size);
    if (c->range_end.size > 0)
        memcpy(g->bytes + c->key.size, c->range_end.data, c->range_end.size);
    g->filters = c->filters;
    g->prev_kv = c->prev_kv;
    list_init(&g->watchers);
    list_init(&g->dirty_link);
    return g;
}

struct watch_group *watch__group_get(struct watch_hub *h, const struct wire_watch_create *c)
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

void watch__group_release(struct watch_hub *h, struct watch_group *g)
{
    if (--g->refs > 0)
        return;
    interests_remove(&h->groups, &g->in);
    list_remove(&g->dirty_link);
    mem_free(g);
}

/* --- finding events: one walk over the new history serves all --- */

/* In hub->round; the event's bytes follow, as repeated field 11. */
struct found_event {
    size_t next; /* of the group's, where it is; of its last one of no meaning */
    size_t size;
};

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
    watch__append_event(h, g, v, &h->round);
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
    if (list_is_empty(&g->watchers) || !watch__wants(g, o->version))
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
        if (watch__stream_is_full(w->stream)) {
            watch__fall_behind(w->stream->hub, w, h->synced_rev + 1);
        } else {
            watch__send_events(w, rev, body, events, g->events_count);
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
    watch__measure_send(h, from_ns, responses, events);
    h->responses += responses;
    round_clear(h);
    h->synced_rev = rev;
}

static void group_falls_behind(struct watch_hub *h, struct watch_group *g, int64_t next_rev)
{
    LIST_EACH_SAFE (it, after, &g->watchers)
        watch__fall_behind(h, CONTAINER_OF(it, struct watcher, link), next_rev);
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
    watch__look_at_lagging(h);
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

void watch__send_found(struct watch_hub *h)
{
    if (h->looked_rev == h->synced_rev)
        return;
    flush_round(h, h->looked_rev);
    mvcc_pin_move(&h->pin, h->synced_rev);
    watch__look_at_lagging(h);
}

void watch__look_and_send(struct watch_hub *h)
{
    watch_hub_look(h);
    watch__send_found(h);
}

uint64_t watch_hub_advance(struct watch_hub *h)
{
    watch__look_and_send(h);
    uint64_t responses = h->responses;
    h->responses = 0;
    return responses;
}
