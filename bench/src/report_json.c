/* The result as JSON. Names are never taken back: scripts read them. */
#include "report.h"

#include "base/clock.h"

#include <time.h>
#include <unistd.h>

static void put_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != 0; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
            fprintf(out, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            fputc(*text, out);
    }
    fputc('"', out);
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

/* A bucket as its largest value, in ns, and its count; empty ones are left out. */
static void put_histogram(FILE *out, const struct hist *h)
{
    const char *comma = "";
    fprintf(out, "\"histogram\":[");
    for (uint32_t i = 0; i < HIST_BUCKETS_COUNT; i++) {
        if (h->buckets[i] == 0)
            continue;
        fprintf(out, "%s[%llu,%llu]", comma, (unsigned long long)hist_bucket_max(i),
                (unsigned long long)h->buckets[i]);
        comma = ",";
    }
    fputc(']', out);
}

static void put_latency(FILE *out, const char *name, const struct hist *h, double seconds)
{
    fprintf(out,
            "\"%s\":{\"count\":%llu,\"per_second\":%.1f,\"mean_ms\":%.4f,\"p50_ms\":%.4f,"
            "\"p90_ms\":%.4f,\"p99_ms\":%.4f,\"p99_9_ms\":%.4f,\"max_ms\":%.4f,",
            name, (unsigned long long)h->count, seconds > 0 ? (double)h->count / seconds : 0,
            hist_mean(h) / 1e6, ms(hist_quantile(h, 0.5)), ms(hist_quantile(h, 0.9)),
            ms(hist_quantile(h, 0.99)), ms(hist_quantile(h, 0.999)), ms(h->max));
    put_histogram(out, h);
    fputc('}', out);
}

static void put_head(FILE *out, const struct run *run)
{
    const struct bench_options *o = run->o;
    char host[256] = "";
    char when[32] = "";
    struct tm utc;
    time_t now = (time_t)(clock_wall_us() / 1000000);
    (void)gethostname(host, sizeof(host) - 1); /* without a name there is none in the report */
    if (gmtime_r(&now, &utc) != NULL)
        (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
    fprintf(out, "{\"format\":1,\"ended\":\"%s\",\"host\":", when);
    put_string(out, host);
    fprintf(out, ",\"cores\":%ld,\"arguments\":", sysconf(_SC_NPROCESSORS_ONLN));
    put_string(out, o->args);
    fprintf(out,
            ",\"command\":\"%s\",\"conns\":%u,\"streams\":%u,\"threads\":%u,\"processes\":%u,"
            "\"rate\":%g,\"key_size\":%u,\"value_size\":%u,\"keys\":%llu",
            o->command_name, o->conns, o->streams, o->threads, o->processes, o->rate, o->key_size,
            o->value_size, (unsigned long long)o->keys);
}

static void put_latencies(FILE *out, const struct run *run, const struct total *t)
{
    const char *comma = "";
    fprintf(out, ",\"latency\":{");
    for (int kind = 0; kind < OP_KINDS_COUNT; kind++) {
        if (t->latency[kind].count == 0)
            continue;
        fputs(comma, out);
        put_latency(out, op_name((enum op_kind)kind), &t->latency[kind], t->seconds);
        comma = ",";
    }
    if (run->o->command == BENCH_WATCH || t->events.count > 0) {
        fputs(comma, out);
        put_latency(out, "event", &t->events, t->seconds);
    }
    fputc('}', out);
}

static void put_counts(FILE *out, const struct total *t)
{
    const struct {
        const char *name;
        uint64_t count;
    } counts[] = {
        {"events_missing", t->events_missing},
        {"done_in_all", t->done_in_all},
        {"events_in_all", t->events_in_all},
        {"revisions_in_all", t->revisions},
        {"listed_keys", t->listed_keys},
        {"listed_bytes", t->listed_bytes},
        {"conflicts", t->conflicts},
        {"never_begun", t->never_begun},
        {"empty", t->empty},
        {"progress_requests", t->progress_requests},
        {"watches_reopened", t->watches_reopened},
        {"errors", t->errors_count},
    };
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        fprintf(out, ",\"%s\":%llu", counts[i].name, (unsigned long long)counts[i].count);
    fprintf(out, ",\"errors_by_code\":{");
    const char *comma = "";
    for (int code = 0; code < GRPC_CODES_COUNT; code++) {
        if (t->errors[code] == 0)
            continue;
        fprintf(out, "%s\"%d\":%llu", comma, code, (unsigned long long)t->errors[code]);
        comma = ",";
    }
    fprintf(out, "},\"error_text\":");
    put_string(out, t->error_text);
}

/* --- the series: an array for each thing that is told of every point --- */

enum { COUNT, MEAN, P50, P99, MAX, FIELDS_COUNT };
static const char *const field_names[FIELDS_COUNT] = {"count", "mean_ms", "p50_ms", "p99_ms",
                                                      "max_ms"};

static double field_of(const struct series_cell *c, int field)
{
    const double fields[FIELDS_COUNT] = {(double)c->count, c->mean_ms, c->p50_ms, c->p99_ms,
                                         c->max_ms};
    return fields[field];
}

static void put_column(FILE *out, const struct series *s, int column)
{
    fprintf(out, "\"%s\":{", series_column_name(column));
    for (int field = 0; field < FIELDS_COUNT; field++) {
        fprintf(out, "%s\"%s\":[", field > 0 ? "," : "", field_names[field]);
        for (uint32_t i = 0; i < s->points_count; i++)
            fprintf(out, "%s%.*f", i > 0 ? "," : "", field == COUNT ? 0 : 4,
                    field_of(&s->points[i].cells[column], field));
        fputc(']', out);
    }
    fputc('}', out);
}

static bool has_column(const struct series *s, int column)
{
    for (uint32_t i = 0; i < s->points_count; i++)
        if (s->points[i].cells[column].count > 0)
            return true;
    return false;
}

static void put_series(FILE *out, const struct series *s)
{
    const char *comma = "";
    fprintf(out, ",\n\"series\":{\"at_s\":[");
    for (uint32_t i = 0; i < s->points_count; i++)
        fprintf(out, "%s%.3f", i > 0 ? "," : "", s->points[i].at_s);
    fprintf(out, "],\"seconds\":[");
    for (uint32_t i = 0; i < s->points_count; i++)
        fprintf(out, "%s%.3f", i > 0 ? "," : "", s->points[i].seconds);
    fprintf(out, "],\"failed\":[");
    for (uint32_t i = 0; i < s->points_count; i++)
        fprintf(out, "%s%llu", i > 0 ? "," : "", (unsigned long long)s->points[i].failed);
    fprintf(out, "],\"events\":[");
    for (uint32_t i = 0; i < s->points_count; i++)
        fprintf(out, "%s%llu", i > 0 ? "," : "", (unsigned long long)s->points[i].events);
    fprintf(out, "],\"operations\":{");
    for (int column = 0; column < SERIES_COLUMNS_COUNT; column++) {
        if (!has_column(s, column))
            continue;
        fprintf(out, "%s\n", comma);
        put_column(out, s, column);
        comma = ",";
    }
    fprintf(out, "}}");
}

void report_write(FILE *out, const struct run *run, const struct total *t,
                  const struct series *series)
{
    put_head(out, run);
    fprintf(out, ",\"seconds\":%.4f,\"operations\":%llu,\"per_second\":%.1f", t->seconds,
            (unsigned long long)t->all.count, total_per_second(t, t->all.count));
    put_latencies(out, run, t);
    fprintf(out, ",\"cpu_seconds\":%.3f,\"own_cpu_us\":%.3f,\"events_per_second\":%.1f",
            t->cpu_seconds, total_own_cpu_us(t), t->events_per_second);
    put_counts(out, t);
    put_series(out, series);
    fprintf(out, "}\n");
}
