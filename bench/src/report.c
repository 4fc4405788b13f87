#include "report.h"

#include "base/mem.h"

#include <stdio.h>

static const char *const kind_names[OP_KINDS_COUNT] = {
    [OP_PUT] = "put",
    [OP_GET] = "get",
    [OP_TXN] = "txn",
    [OP_LIST] = "list",
    [OP_FILL] = "fill",
    [OP_GRANT] = "grant",
    [OP_KEEPALIVE] = "keepalive",
    [OP_COMPACT] = "compact",
    [OP_SNAPSHOT] = "snapshot",
};

struct total {
    struct hist latency[OP_KINDS_COUNT];
    struct hist all;
    struct hist events;
    uint64_t errors[GRPC_CODES_COUNT];
    uint64_t errors_count;
    const char *error_text;
    uint64_t conflicts;
    uint64_t never_begun;
    uint64_t empty;
    uint64_t listed_keys;
    uint64_t listed_bytes;
    uint64_t done_in_all; /* the warm-up's too: what the servers worked for */
    uint64_t events_in_all;
    uint64_t events_missing; /* of puts that were acknowledged */
    double events_per_second;
    double cpu_seconds; /* of this program, the warm-up included */
    double seconds;
};

/* Events are counted when they come: the measured time is the same for those of every put. */
static void add_events(struct total *t, const struct run *run, const struct worker *workers)
{
    uint64_t last_ns = run->warm_ns;
    uint64_t count = 0;
    for (uint32_t i = 0; i < run->o->threads; i++) {
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

static struct total *total_new(const struct run *run, const struct worker *workers)
{
    struct total *t = mem_alloc_zero(sizeof(*t));
    uint64_t last_ns = run->warm_ns;
    hist_init(&t->all);
    hist_init(&t->events);
    for (int kind = 0; kind < OP_KINDS_COUNT; kind++)
        hist_init(&t->latency[kind]);
    t->error_text = "";
    for (uint32_t i = 0; i < run->o->threads; i++) {
        const struct worker *w = &workers[i];
        for (int kind = 0; kind < OP_KINDS_COUNT; kind++) {
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
        if (w->last_done_ns > last_ns)
            last_ns = w->last_done_ns;
    }
    t->seconds = (double)(last_ns - run->warm_ns) / 1e9;
    t->cpu_seconds = cpu_seconds() - run->cpu_seconds_before;
    add_events(t, run, workers);
    return t;
}

static double per_second(const struct total *t, uint64_t count)
{
    return t->seconds > 0 ? (double)count / t->seconds : 0;
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

/* What this program itself needed: when it needs much, the servers are not what is measured. */
static double own_cpu_us(const struct total *t)
{
    uint64_t done = t->done_in_all + t->events_in_all;
    return done > 0 ? t->cpu_seconds * 1e6 / (double)done : 0;
}

/* --- text --- */

static void print_latency(const char *name, const struct hist *h, double seconds)
{
    if (h->count == 0)
        return;
    printf("%-7s %10llu  %10.0f/s  mean %8.3f  p50 %8.3f  p90 %8.3f  p99 %8.3f  p99.9 %8.3f  "
           "max %8.3f ms\n",
           name, (unsigned long long)h->count, seconds > 0 ? (double)h->count / seconds : 0,
           hist_mean(h) / 1e6, ms(hist_quantile(h, 0.5)), ms(hist_quantile(h, 0.9)),
           ms(hist_quantile(h, 0.99)), ms(hist_quantile(h, 0.999)), ms(h->max));
}

static void print_text(const struct run *run, const struct total *t)
{
    const struct bench_options *o = run->o;
    for (int kind = 0; kind < OP_KINDS_COUNT; kind++)
        print_latency(kind_names[kind], &t->latency[kind], t->seconds);
    print_latency("event", &t->events, t->seconds);
    if (o->command == BENCH_WATCH)
        printf("%llu events received, %.0f/s\n", (unsigned long long)t->events_in_all,
               t->events_per_second);
    if (o->command == BENCH_FILL)
        printf("%llu keys in %.2f s, %.0f/s\n", (unsigned long long)o->keys, t->seconds,
               per_second(t, o->keys));
    if (t->listed_keys > 0 && t->all.count > 0)
        printf("%llu keys, %.1f MB in each list\n",
               (unsigned long long)(t->listed_keys / t->all.count),
               (double)t->listed_bytes / (double)t->all.count / 1e6);
    if (o->command == BENCH_SNAPSHOT && t->all.count > 0)
        printf("%.1f MB in each snapshot\n", (double)t->listed_bytes / (double)t->all.count / 1e6);
    printf("%.2f us of CPU for each %s here, besides the servers'\n", own_cpu_us(t),
           o->command == BENCH_WATCH ? "event and put" : "operation");
    if (t->events_missing > 0)
        printf("%llu events of acknowledged puts never came\n",
               (unsigned long long)t->events_missing);
    if (t->conflicts > 0)
        printf("%llu txns did not find the revision they expected\n",
               (unsigned long long)t->conflicts);
    if (t->empty > 0)
        printf("%llu gets found no key: has the cluster been filled?\n",
               (unsigned long long)t->empty);
    if (t->never_begun > 0)
        printf("%llu operations were due and never begun: the servers are too slow for --rate\n",
               (unsigned long long)t->never_begun);
    if (t->errors_count > 0)
        printf("%llu calls failed, the first with: %s\n", (unsigned long long)t->errors_count,
               t->error_text);
}

/* --- JSON --- */

static void json_string(const char *text)
{
    putchar('"');
    for (; *text != 0; text++) {
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\u%04x", (unsigned)*text);
        else
            putchar(*text);
    }
    putchar('"');
}

static void json_latency(const char *name, const struct hist *h, double seconds)
{
    printf("\"%s\":{\"count\":%llu,\"per_second\":%.1f,\"mean_ms\":%.4f,\"p50_ms\":%.4f,"
           "\"p90_ms\":%.4f,\"p99_ms\":%.4f,\"p99_9_ms\":%.4f,\"max_ms\":%.4f}",
           name, (unsigned long long)h->count, seconds > 0 ? (double)h->count / seconds : 0,
           hist_mean(h) / 1e6, ms(hist_quantile(h, 0.5)), ms(hist_quantile(h, 0.9)),
           ms(hist_quantile(h, 0.99)), ms(hist_quantile(h, 0.999)), ms(h->max));
}

static void print_json(const struct run *run, const struct total *t)
{
    const struct bench_options *o = run->o;
    printf("{\"command\":\"%s\",\"conns\":%u,\"streams\":%u,\"threads\":%u,\"rate\":%g,"
           "\"key_size\":%u,\"value_size\":%u,\"keys\":%llu,\"seconds\":%.4f,\"operations\":%llu,"
           "\"per_second\":%.1f,\"latency\":{",
           o->command_name, o->conns, o->streams, o->threads, o->rate, o->key_size, o->value_size,
           (unsigned long long)o->keys, t->seconds, (unsigned long long)t->all.count,
           per_second(t, t->all.count));
    const char *comma = "";
    for (int kind = 0; kind < OP_KINDS_COUNT; kind++) {
        if (t->latency[kind].count == 0)
            continue;
        fputs(comma, stdout);
        json_latency(kind_names[kind], &t->latency[kind], t->seconds);
        comma = ",";
    }
    if (o->command == BENCH_WATCH) {
        fputs(comma, stdout);
        json_latency("event", &t->events, t->seconds);
    }
    printf("},\"cpu_seconds\":%.3f,\"own_cpu_us\":%.3f,\"events_per_second\":%.1f,"
           "\"events_missing\":%llu",
           t->cpu_seconds, own_cpu_us(t), t->events_per_second,
           (unsigned long long)t->events_missing);
    printf(",\"done_in_all\":%llu,\"events_in_all\":%llu,\"listed_keys\":%llu,\"listed_bytes\":%"
           "llu,\"conflicts\":%llu,\"never_begun\":%llu,"
           "\"empty\":%llu,"
           "\"errors\":%llu,\"errors_by_code\":{",
           (unsigned long long)t->done_in_all, (unsigned long long)t->events_in_all,
           (unsigned long long)t->listed_keys, (unsigned long long)t->listed_bytes,
           (unsigned long long)t->conflicts, (unsigned long long)t->never_begun,
           (unsigned long long)t->empty, (unsigned long long)t->errors_count);
    comma = "";
    for (int code = 0; code < GRPC_CODES_COUNT; code++) {
        if (t->errors[code] == 0)
            continue;
        printf("%s\"%d\":%llu", comma, code, (unsigned long long)t->errors[code]);
        comma = ",";
    }
    printf("},\"error_text\":");
    json_string(t->error_text);
    printf("}\n");
}

void report(const struct run *run, const struct worker *workers)
{
    struct total *t = total_new(run, workers);
    if (run->o->json)
        print_json(run, t);
    else
        print_text(run, t);
    mem_free(t);
}
