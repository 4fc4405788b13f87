#include "series.h"

#include "base/mem.h"

/* A look that saw less than this is not a point of its own. */
static const double point_seconds_min = 0.5;

struct series *series_new(void)
{
    struct series *s = mem_alloc_zero(sizeof(*s));
    s->points = mem_alloc_zero(SERIES_POINTS_MAX * sizeof(*s->points));
    s->seen = mem_alloc_zero(SERIES_COLUMNS_COUNT * sizeof(*s->seen));
    s->seconds_in_point = 1;
    return s;
}

void series_free(struct series *s)
{
    mem_free(s->points);
    mem_free(s->seen);
    mem_free(s);
}

const char *series_column_name(int column)
{
    return column == SERIES_EVENT ? "event" : op_name((enum op_kind)column);
}

void series_begin(struct series *s, uint64_t now)
{
    s->at_ns = now;
}

/* --- one look --- */

static const struct hist *column_of(const struct worker *w, int column)
{
    return column == SERIES_EVENT ? &w->event_latency : &w->latency[column];
}

/* Most columns of most runs are not. */
static bool is_used(const struct run *run, const struct worker *workers, int column)
{
    for (uint32_t i = 0; i < run->o->parts; i++)
        if (__atomic_load_n(&column_of(&workers[i], column)->count, __ATOMIC_RELAXED) > 0)
            return true;
    return false;
}

static struct series_cell look_at_column(struct series *s, const struct run *run,
                                         const struct worker *workers, int column)
{
    static struct hist now; /* main's thread alone looks */
    static struct hist one;
    struct hist *seen = &s->seen[column];
    if (!is_used(run, workers, column))
        return (struct series_cell){0};
    hist_init(&now);
    for (uint32_t i = 0; i < run->o->parts; i++) {
        hist_copy(&one, column_of(&workers[i], column));
        hist_merge(&now, &one);
    }
    if (now.count == seen->count)
        return (struct series_cell){0};
    one = now;
    hist_subtract(&one, seen);
    *seen = now;
    return (struct series_cell){.count = one.count,
                                .mean_ms = hist_mean(&one) / 1e6,
                                .p50_ms = (double)hist_quantile(&one, 0.5) / 1e6,
                                .p99_ms = (double)hist_quantile(&one, 0.99) / 1e6,
                                .max_ms = (double)one.max / 1e6};
}

static uint64_t since(uint64_t *seen, uint64_t now)
{
    uint64_t more = now - *seen;
    *seen = now;
    return more;
}

static void look(struct series *s, const struct run *run, const struct worker *workers,
                 uint64_t now, bool keep)
{
    uint64_t done = 0;
    uint64_t failed = 0;
    uint64_t events = 0;
    for (uint32_t i = 0; i < run->o->parts; i++) {
        const struct counters *c = &workers[i].counters;
        done += atomic_load_explicit(&c->done, memory_order_relaxed);
        failed += atomic_load_explicit(&c->failed, memory_order_relaxed);
        events += atomic_load_explicit(&c->events, memory_order_relaxed);
    }
    s->last = (struct series_point){
        .at_s = ((double)now - (double)run->warm_ns) / 1e9,
        .seconds = (double)(now - s->at_ns) / 1e9,
        .done = since(&s->done, done),
        .failed = since(&s->failed, failed),
        .events = since(&s->events, events),
    };
    /* What was measured before the first point, whose beginning nobody looks at in time, is its. */
    s->at_ns = keep || now < run->warm_ns ? now : run->warm_ns;
    for (int column = 0; keep && column < SERIES_COLUMNS_COUNT; column++)
        s->last.cells[column] = look_at_column(s, run, workers, column);
}

/* --- points --- */

static double mean_of(double a, uint64_t a_count, double b, uint64_t b_count)
{
    double count = (double)(a_count + b_count);
    return count > 0 ? (a * (double)a_count + b * (double)b_count) / count : 0;
}

static void merge_cell(struct series_cell *into, const struct series_cell *c)
{
    into->mean_ms = mean_of(into->mean_ms, into->count, c->mean_ms, c->count);
    into->p50_ms = mean_of(into->p50_ms, into->count, c->p50_ms, c->count);
    into->p99_ms = mean_of(into->p99_ms, into->count, c->p99_ms, c->count);
    if (c->max_ms > into->max_ms)
        into->max_ms = c->max_ms;
    into->count += c->count;
}

static void merge_point(struct series_point *into, const struct series_point *p)
{
    into->at_s = p->at_s;
    into->seconds += p->seconds;
    into->done += p->done;
    into->failed += p->failed;
    into->events += p->events;
    for (int i = 0; i < SERIES_COLUMNS_COUNT; i++)
        merge_cell(&into->cells[i], &p->cells[i]);
}

static void make_room(struct series *s)
{
    for (uint32_t i = 0; i < SERIES_POINTS_MAX / 2; i++) {
        struct series_point pair = s->points[2 * i];
        merge_point(&pair, &s->points[2 * i + 1]);
        s->points[i] = pair;
    }
    s->points_count = SERIES_POINTS_MAX / 2;
    s->seconds_in_point *= 2;
    s->seconds_in_last = s->seconds_in_point;
}

static void add(struct series *s)
{
    bool continues = s->points_count > 0 && (s->seconds_in_last < s->seconds_in_point ||
                                             s->last.seconds < point_seconds_min);
    if (continues) {
        merge_point(&s->points[s->points_count - 1], &s->last);
        s->seconds_in_last++;
        return;
    }
    if (s->points_count == SERIES_POINTS_MAX)
        make_room(s);
    s->points[s->points_count++] = s->last;
    s->seconds_in_last = 1;
}

void series_look(struct series *s, const struct run *run, const struct worker *workers,
                 uint64_t now, bool keep)
{
    look(s, run, workers, now, keep);
    if (keep)
        add(s);
}
