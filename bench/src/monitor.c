#include "monitor.h"

#include "screen.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <unistd.h>

static const uint64_t look_every_ns = 1000000000;

struct monitor {
    const struct run *run;
    const struct worker *workers;
    struct series *series;
    struct screen *screen; /* NULL: lines, or nothing with --quiet */
    uint64_t next_ns;
};

struct monitor *monitor_new(const struct run *run, const struct worker *workers)
{
    struct monitor *m = mem_alloc_zero(sizeof(*m));
    m->run = run;
    m->workers = workers;
    m->series = series_new();
    if (!run->o->quiet && isatty(STDERR_FILENO))
        m->screen = screen_new(run);
    return m;
}

void monitor_free(struct monitor *m)
{
    if (m->screen != NULL)
        screen_free(m->screen);
    series_free(m->series);
    mem_free(m);
}

const struct series *monitor_series(const struct monitor *m)
{
    return m->series;
}

/* A second, or less: the measured time begins with a look. */
static void set_next(struct monitor *m, uint64_t now)
{
    m->next_ns = now + look_every_ns;
    if (now < m->run->warm_ns && m->next_ns > m->run->warm_ns)
        m->next_ns = m->run->warm_ns;
}

void monitor_begin(struct monitor *m)
{
    series_begin(m->series, m->run->start_ns);
    set_next(m, m->run->start_ns);
}

static void print_line(const struct monitor *m, uint64_t now)
{
    const struct series_point *p = &m->series->last;
    double seconds = p->seconds > 0 ? p->seconds : 1;
    fprintf(stderr, "%6.1f s %10.0f/s", (double)(now - m->run->start_ns) / 1e9,
            (double)p->done / seconds);
    if (p->events > 0 || m->run->o->command == BENCH_WATCH)
        fprintf(stderr, " %10.0f events/s", (double)p->events / seconds);
    if (m->series->failed > 0)
        fprintf(stderr, "  %llu failed", (unsigned long long)m->series->failed);
    fprintf(stderr, "%s\n", m->series->points_count == 0 ? "  (warm-up)" : "");
}

static void look(struct monitor *m, uint64_t now, bool keep)
{
    series_look(m->series, m->run, m->workers, now, keep);
    if (m->screen != NULL)
        screen_draw(m->screen, m->series, now);
    else if (!m->run->o->quiet)
        print_line(m, now);
}

void monitor_tick(struct monitor *m)
{
    uint64_t now = clock_mono_ns();
    if (now < m->next_ns)
        return;
    look(m, now, m->next_ns > m->run->warm_ns);
    set_next(m, m->next_ns > now - look_every_ns ? m->next_ns : now);
}

void monitor_end(struct monitor *m)
{
    uint64_t now = clock_mono_ns();
    if (now > m->run->warm_ns && now > m->series->at_ns)
        series_look(m->series, m->run, m->workers, now, true);
    if (m->screen != NULL)
        screen_draw(m->screen, m->series, now);
}
