#include "total.h"

#include "crew.h"

#include "base/mem.h"

/* Events are counted when they come: the measured time is the same for those of every put. */
static void add_events(struct total *t, const struct run *run, const struct worker *workers)
{
    uint64_t last_ns = run->warm_ns;
    uint64_t count = 0;
    for (uint32_t i = 0; i < run->o->parts; i++) {
        count += workers[i].events_measured;
        t->events_in_all += atomic_load(&workers[i].counters.events);
        if (workers[i].last_event_ns > last_ns)
            last_ns = workers[i].last_event_ns;
    }
    if (last_ns > run->warm_ns)
        t->events_per_second = (double)count / ((double)(last_ns - run->warm_ns) / 1e9);
    uint64_t due = atomic_load(&run->events_due);
    if (run->o->command == BENCH_WATCH && due > t->events_in_all)
        t->events_missing = due - t->events_in_all;
}

static void add_worker(struct total *t, const struct worker *w)
{
    for (int kind = 0; kind < OP_KINDS_COUNT; kind++) {
        if (w->latency[kind].count == 0)
            continue;
        hist_merge(&t->latency[kind], &w->latency[kind]);
        hist_merge(&t->all, &w->latency[kind]);
    }
    hist_merge(&t->events, &w->event_latency);
    for (int code = 0; code < GRPC_CODES_COUNT; code++) {
        t->errors[code] += w->errors[code];
        t->errors_count += w->errors[code];
    }
    if (t->error_text[0] == 0)
        t->error_text = w->error_text;
    t->done_in_all += atomic_load(&w->counters.done);
    t->conflicts += w->conflicts;
    t->never_begun += w->never_begun;
    t->empty += w->empty;
    t->listed_keys += w->listed_keys;
    t->listed_bytes += w->listed_bytes;
    t->revisions += w->revisions;
    t->progress_requests += w->progress_requests;
    t->watches_reopened += w->watches_reopened;
}

struct total *total_new(const struct run *run, const struct worker *workers)
{
    struct total *t = mem_alloc_zero(sizeof(*t));
    uint64_t last_ns = run->warm_ns;
    hist_init(&t->all);
    hist_init(&t->events);
    for (int kind = 0; kind < OP_KINDS_COUNT; kind++)
        hist_init(&t->latency[kind]);
    t->error_text = "";
    t->revisions = run->setup_revisions;
    for (uint32_t i = 0; i < run->o->parts; i++) {
        add_worker(t, &workers[i]);
        if (workers[i].last_done_ns > last_ns)
            last_ns = workers[i].last_done_ns;
    }
    t->seconds = (double)(last_ns - run->warm_ns) / 1e9;
    t->cpu_seconds = cpu_seconds() - run->cpu_seconds_before;
    add_events(t, run, workers);
    return t;
}

void total_free(struct total *t)
{
    mem_free(t);
}

double total_per_second(const struct total *t, uint64_t count)
{
    return t->seconds > 0 ? (double)count / t->seconds : 0;
}

double total_own_cpu_us(const struct total *t)
{
    uint64_t done = t->done_in_all + t->events_in_all;
    return done > 0 ? t->cpu_seconds * 1e6 / (double)done : 0;
}
