/* What changes at the source, from the revision on up to which all is copied. */
#include "copy.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 200 };

struct follow {
    struct copy *x;
    struct trivet_watch *watch;
    int64_t seen; /* the newest revision that is in the batch or done */
};

static struct copy_state done_up_to(const struct copy *x, int64_t revision)
{
    return (struct copy_state){
        .cluster_id = x->state.cluster_id, .phase = COPY_PHASE_FOLLOW, .revision = revision};
}

/* The events of one revision stay together, when they fit into one transaction at all. */
static bool begin_revision(struct follow *f, const struct trivet_event *events, uint32_t count)
{
    struct copy *x = f->x;
    size_t bytes = 0;
    bool repeats = false;
    for (uint32_t i = 0; i < count; i++) {
        bytes += events[i].kv.key.size + events[i].kv.value.size;
        repeats = repeats || copy_batch_has(x, events[i].kv.key);
    }
    if (!repeats && !copy_batch_is_full(x, count, bytes))
        return true;
    return x->ops_count == 0 || copy_flush(x, done_up_to(x, f->seen));
}

static bool take_revision(struct follow *f, const struct trivet_event *events, uint32_t count)
{
    struct copy *x = f->x;
    int64_t revision = events[0].kv.mod_revision;
    if (!begin_revision(f, events, count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct trivet_event *e = &events[i];
        /* A revision larger than a transaction: until its end the state stays before it, so that
         * it would be written again from its beginning, which does no harm. */
        if (x->ops_count == COPY_OPS_MAX && !copy_flush(x, done_up_to(x, f->seen)))
            return false;
        if (e->type == 0)
            copy_put(x, &e->kv);
        else
            copy_delete(x, e->kv.key);
        x->changes++;
    }
    f->seen = revision;
    return true;
}

static bool take_message(struct follow *f, const struct trivet_watch_message *m)
{
    struct copy *x = f->x;
    for (uint32_t i = 0; i < m->events_count;) {
        uint32_t end = i + 1;
        while (end < m->events_count &&
               m->events[end].kv.mod_revision == m->events[i].kv.mod_revision)
            end++;
        if (!take_revision(f, &m->events[i], end - i))
            return false;
        i = end;
    }
    if (x->ops_count > 0 && !copy_flush(x, done_up_to(x, f->seen)))
        return false;
    /* Nothing between what we know and the header concerned us. */
    if (m->events_count == 0 && !m->created && m->header.revision > x->state.revision)
        x->state.revision = f->seen = m->header.revision;
    return true;
}

static void say(struct follow *f)
{
    progress_say(&f->x->progress,
                 "following: revision %" PRId64 ", %" PRIu64 " changes, %" PRIu64 " deleted",
                 f->seen, f->x->changes, f->x->deleted);
}

static void open_watch(struct follow *f)
{
    struct copy *x = f->x;
    static const uint8_t zero = 0;
    uint8_t *end = mem_alloc(x->prefix.size + 2);
    bool all = x->prefix.size == 0;
    const struct trivet_watch_options o = {
        .key = all ? trivet_bytes(&zero, 1) : x->prefix,
        .range_end =
            all ? trivet_bytes(&zero, 1) : trivet_bytes(end, trivet_prefix_end(x->prefix, end)),
        .start_revision = x->state.revision + 1,
        .progress_notify = true};
    int status = trivet_watch_open(x->source, &o, NULL, NULL, &f->watch);
    mem_free(end);
    if (status != TRIVET_OK)
        ctl_fail(x->c, CTL_ERROR, "source: cannot watch: %s", trivet_status_name(status));
}

static bool is_done(const struct copy *x, int64_t until)
{
    return until > 0 && x->state.revision >= until && !copy_lease_is_broken_any(x);
}

enum copy_end copy_follow(struct copy *x, int64_t until)
{
    struct follow f = {.x = x, .seen = x->state.revision};
    enum copy_end end = COPY_STOPPED;
    if (x->with_leases && !copy_lease_resume(x))
        return COPY_STOPPED;
    if (is_done(x, until))
        return COPY_DONE;
    open_watch(&f);
    progress_begin(&x->progress, "following", PROGRESS_COUNT, 0);
    while (!copy_stopped) {
        struct trivet_watch_message m;
        int status = trivet_watch_next(f.watch, WAIT_MS, &m);
        bool go_on = true;
        if (status == TRIVET_OK) {
            go_on = take_message(&f, &m);
        } else if (status == TRIVET_COMPACTED) {
            end = COPY_COMPACTED;
            go_on = false;
        } else if (status != TRIVET_TIMEOUT) {
            ctl_fail(x->c, CTL_ERROR, "source: the watch ended: %s",
                     m.error == NULL || m.error[0] == '\0' ? trivet_status_name(status) : m.error);
        }
        trivet_watch_message_clear(&m);
        if (!go_on)
            break;
        say(&f);
        if (x->with_leases && !copy_lease_tick(x, f.watch))
            break;
        if (is_done(x, until)) {
            end = COPY_DONE;
            break;
        }
        /* Changes that are not ours are told of by no event. */
        if (until > 0 && status == TRIVET_TIMEOUT)
            trivet_watch_progress(f.watch);
    }
    progress_end(&x->progress);
    trivet_watch_close(f.watch);
    return end;
}
