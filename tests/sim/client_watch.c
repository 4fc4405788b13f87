/* Watchers. Each expects the model's changes of its range, from its start on, one after the other:
 * none missing, none twice, those of one revision together; it goes elsewhere now and then, and
 * resumes where it was. */
#include "client.h"

#include "base/err.h"
#include "member.h"

#include <string.h>

static struct rng *rng_of(const struct watcher_client *w)
{
    return &w->sim->clients->rng;
}

static void schedule(struct watcher_client *w, uint64_t delay_us)
{
    w->life++;
    client_schedule(w->sim, WATCHER_NEXT, w->number, w->life, delay_us);
}

void watcher_init(struct watcher_client *w, struct sim *s, uint32_t number)
{
    *w = (struct watcher_client){.sim = s, .number = number, .life = 1};
    struct rng *r = rng_of(w);
    w->key_from = (uint32_t)rng_below(r, MODEL_KEYS_COUNT);
    w->open_end = rng_below(r, 3) == 0;
    if (rng_below(r, 3) == 0)
        w->key_from = 0, w->open_end = true;
    w->key_to = w->open_end
                    ? MODEL_KEYS_COUNT
                    : w->key_from + 1 + (uint32_t)rng_below(r, MODEL_KEYS_COUNT - w->key_from);
    w->prev_kv = rng_below(r, 2) == 0;
    w->filters = rng_below(r, 4) > 0 ? 0 : 1u << rng_below(r, 2);
    schedule(w, 200000 + rng_below(r, 3000000));
}

static void hang_up(struct watcher_client *w)
{
    if (w->call != NULL)
        call_drop(w->call);
    w->call = NULL;
    w->created = false;
}

void watcher_fini(struct watcher_client *w)
{
    hang_up(w);
}

/* --- what must come --- */

static bool wants(const struct watcher_client *w, const struct model_change *c)
{
    const struct model_version *v = &w->sim->model.keys[c->key].versions[c->version];
    uint32_t filter = v->tombstone ? WIRE_WATCH_NODELETE : WIRE_WATCH_NOPUT;
    return c->key >= w->key_from && c->key < w->key_to && (w->filters & filter) == 0;
}

/* The next change it must be told of; NULL when it knows all. */
static const struct model_change *expected(struct watcher_client *w)
{
    const struct model *m = &w->sim->model;
    while (w->cursor < m->changes_count && !wants(w, &m->changes[w->cursor]))
        w->cursor++;
    return w->cursor < m->changes_count ? &m->changes[w->cursor] : NULL;
}

bool watcher_is_drained(struct watcher_client *w)
{
    return w->created && expected(w) == NULL;
}

static void check_prev(const struct watcher_client *w, const struct wire_event *e,
                       const struct model_change *c)
{
    const struct model *m = &w->sim->model;
    const struct model_version *want = model_get(m, c->key, c->revision - 1);
    if (!e->has_prev_kv) {
        /* A compaction may have taken it. */
        if (want != NULL && c->revision - 1 >= m->compacted)
            sim_fail("watcher %u: an event of revision %lld lacks what was before", w->number,
                     (long long)c->revision);
        return;
    }
    if (want == NULL || !model_kv_equal(&e->prev_kv, c->key, want))
        sim_fail("watcher %u: an event of revision %lld has another past", w->number,
                 (long long)c->revision);
}

static void check_event(struct watcher_client *w, const struct wire_event *e)
{
    const struct model_change *c = expected(w);
    if (c == NULL)
        sim_fail("watcher %u: an event of revision %lld, after the last one", w->number,
                 (long long)e->kv.mod_revision);
    const struct model_version *v = &w->sim->model.keys[c->key].versions[c->version];
    if (e->kv.mod_revision != c->revision || model_key_of(e->kv.key) != (int)c->key)
        sim_fail("watcher %u: got revision %lld of key %d, due is %lld of key %u", w->number,
                 (long long)e->kv.mod_revision, model_key_of(e->kv.key), (long long)c->revision,
                 c->key);
    if ((e->type == 1) != v->tombstone || (!v->tombstone && !model_kv_equal(&e->kv, c->key, v)))
        sim_fail("watcher %u: the event of revision %lld is another", w->number,
                 (long long)c->revision);
    if (w->prev_kv)
        check_prev(w, e, c);
    w->cursor++;
    w->seen_rev = c->revision;
    w->next_rev = c->revision + 1;
    w->sim->stats->watch_events++;
}

static void check_progress(struct watcher_client *w, int64_t revision)
{
    const struct model_change *c = expected(w);
    if (c != NULL && c->revision <= revision)
        sim_fail("watcher %u: progress to revision %lld, but %lld was not sent", w->number,
                 (long long)revision, (long long)c->revision);
    if (revision + 1 > w->next_rev)
        w->next_rev = revision + 1;
}

/* --- the stream --- */

static void on_created(struct watcher_client *w, const struct wire_watch_response *r)
{
    w->created = true;
    if (w->next_rev == 0)
        w->next_rev = r->header.revision + 1;
    w->cursor = model_seek(&w->sim->model, w->next_rev);
    w->seen_rev = 0;
}

static void on_canceled(struct watcher_client *w, const struct wire_watch_response *r)
{
    if (r->compact_revision == 0 || r->compact_revision > w->sim->model.compacted ||
        w->next_rev >= r->compact_revision)
        sim_fail("watcher %u is cancelled at revision %lld for a compaction to %lld", w->number,
                 (long long)w->next_rev, (long long)r->compact_revision);
    w->next_rev = r->compact_revision;
    hang_up(w);
    schedule(w, 1000);
}

static void on_reply(void *ctx, struct slice msg)
{
    struct watcher_client *w = ctx;
    struct wire_watch_response r;
    if (wire_watch_response_decode(msg, &r) != 0)
        sim_fail("a watch response does not decode");
    sim_trace(w->sim, 7, w->number, (uint64_t)r.header.revision);
    if (r.header.revision > w->sim->model.revision)
        sim_fail("watcher %u is told of revision %lld, which is not committed", w->number,
                 (long long)r.header.revision);
    if (r.created) {
        on_created(w, &r);
        return;
    }
    if (r.canceled) {
        on_canceled(w, &r);
        return;
    }
    struct wire_reader events = wire_reader_of(r.events);
    struct wire_event e;
    uint32_t count = 0;
    while (wire_next_event(&events, &e) == 1) {
        check_event(w, &e);
        count++;
    }
    if (count == 0) {
        check_progress(w, r.header.revision);
        return;
    }
    const struct model_change *next = expected(w);
    if (next != NULL && next->revision == w->seen_rev)
        sim_fail("watcher %u: revision %lld came in pieces", w->number, (long long)w->seen_rev);
}

static void on_ended(void *ctx, enum grpc_code code, const char *text)
{
    struct watcher_client *w = ctx;
    (void)code;
    (void)text;
    hang_up(w);
    schedule(w, sim_exponential(rng_of(w), 100000));
}

static const struct call_client watch_call = {.reply = on_reply, .ended = on_ended};

static void send_request(struct watcher_client *w, const struct wire_watch_request *r)
{
    uint8_t body[128];
    size_t size = wire_watch_request_size(r);
    ASSERT(size <= sizeof(body));
    wire_watch_request_put(body, r);
    call_send(w->call, slice_of(body, size));
}

static void begin(struct watcher_client *w)
{
    struct rng *r = rng_of(w);
    struct sim *s = w->sim;
    w->member = member_some(s, r);
    w->call =
        call_start(s, w->member, "/etcdserverpb.Watch/Watch", rng_below(r, 3) == 0, &watch_call, w);
    struct wire_watch_request q = {
        .kind = WIRE_WATCH_CREATE,
        .create = {.key = model_key_name(w->key_from),
                   .start_revision = w->next_rev,
                   .progress_notify = rng_below(r, 2) == 0,
                   .filters = w->filters,
                   .prev_kv = w->prev_kv},
    };
    if (w->open_end)
        q.create.range_end = SLICE_LITERAL("\0");
    else if (w->key_to == MODEL_KEYS_COUNT)
        q.create.range_end = SLICE_LITERAL("k99");
    else if (w->key_to > w->key_from + 1)
        q.create.range_end = model_key_name(w->key_to);
    send_request(w, &q);
    s->stats->watch_streams++;
    schedule(w, sim_exponential(r, 2000000));
}

/* A stream on which nothing comes may be dead: a client pings it, here it starts over. */
void watcher_next(struct watcher_client *w)
{
    struct rng *r = rng_of(w);
    uint64_t dice = rng_below(r, 3);
    if (w->call == NULL) {
        begin(w);
    } else if (!w->created || (dice == 0 && !w->sim->draining)) {
        hang_up(w);
        schedule(w, sim_exponential(r, 300000));
    } else {
        if (dice == 1) {
            struct wire_watch_request q = {.kind = WIRE_WATCH_PROGRESS};
            send_request(w, &q);
        }
        schedule(w, sim_exponential(r, 2000000));
    }
}
