/* The result in words. */
#include "report.h"

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static void print_latency(const char *name, const struct hist *h, double seconds)
{
    if (h->count == 0)
        return;
    printf("%-15s %10llu  %10.0f/s  mean %8.3f  p50 %8.3f  p90 %8.3f  p99 %8.3f  p99.9 %8.3f  "
           "max %8.3f ms\n",
           name, (unsigned long long)h->count, seconds > 0 ? (double)h->count / seconds : 0,
           hist_mean(h) / 1e6, ms(hist_quantile(h, 0.5)), ms(hist_quantile(h, 0.9)),
           ms(hist_quantile(h, 0.99)), ms(hist_quantile(h, 0.999)), ms(h->max));
}

static void print_kinds(const struct run *run, const struct total *t)
{
    const struct bench_options *o = run->o;
    for (int kind = 0; kind < OP_KINDS_COUNT; kind++)
        print_latency(op_name((enum op_kind)kind), &t->latency[kind], t->seconds);
    print_latency("event", &t->events, t->seconds);
    if (t->events_in_all > 0 || o->command == BENCH_WATCH)
        printf("%llu events received, %.0f/s\n", (unsigned long long)t->events_in_all,
               t->events_per_second);
    if (o->command == BENCH_FILL)
        printf("%llu keys in %.2f s, %.0f/s\n", (unsigned long long)o->keys, t->seconds,
               total_per_second(t, o->keys));
    if (o->command == BENCH_LIST && t->all.count > 0)
        printf("%llu keys, %.1f MB in each list\n",
               (unsigned long long)(t->listed_keys / t->all.count),
               (double)t->listed_bytes / (double)t->all.count / 1e6);
    if (o->command == BENCH_SNAPSHOT && t->all.count > 0)
        printf("%.1f MB in each snapshot\n", (double)t->listed_bytes / (double)t->all.count / 1e6);
}

/* Each line only where there is something to say. */
static void print_count(uint64_t count, const char *what)
{
    if (count > 0)
        printf("%llu %s\n", (unsigned long long)count, what);
}

void report_print(const struct run *run, const struct total *t)
{
    print_kinds(run, t);
    printf("%.2f us of CPU for each %s here, besides the servers'\n", total_own_cpu_us(t),
           t->events_in_all > 0 ? "operation and event" : "operation");
    print_count(t->progress_requests, "requests for progress");
    print_count(t->watches_reopened, "watches ended and were opened again");
    print_count(t->events_missing, "events of acknowledged puts never came");
    print_count(t->conflicts, "txns did not find the revision they expected");
    print_count(t->empty, "found no key: has the cluster been filled?");
    print_count(t->never_begun,
                "operations were due and never begun: the servers are too slow for this rate");
    if (t->errors_count > 0)
        printf("%llu calls failed, the first with: %s\n", (unsigned long long)t->errors_count,
               t->error_text);
}
