#include "screen.h"

#include "base/buf.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    PAST_MAX = 60,    /* seconds that a sparkline shows at most */
    ROW_COLUMNS = 72, /* what is left of the sparkline */
    LINE_BYTES_MAX = 512,
    COLUMNS_USUAL = 100, /* of a terminal that does not tell */
    SCREEN_BYTES_MAX = 1 << 20,
};

struct screen {
    const struct run *run;
    struct buf out;
    uint32_t lines_drawn;
    uint32_t columns;
    uint32_t rows;
    uint64_t totals[SERIES_COLUMNS_COUNT];
    float past[SERIES_COLUMNS_COUNT][PAST_MAX]; /* operations a second, the newest last */
};

struct screen *screen_new(const struct run *run)
{
    struct screen *s = mem_alloc_zero(sizeof(*s));
    s->run = run;
    buf_init(&s->out, SCREEN_BYTES_MAX);
    return s;
}

void screen_free(struct screen *s)
{
    buf_fini(&s->out);
    mem_free(s);
}

static void look_at_terminal(struct screen *s)
{
    struct winsize size;
    s->columns = COLUMNS_USUAL;
    s->rows = UINT32_MAX;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0)
        return;
    if (size.ws_col > 0)
        s->columns = size.ws_col;
    if (size.ws_row > 0)
        s->rows = size.ws_row;
}

/* A line that did not fit would move all the others. False: there is no room for it. */
TV_PRINTF(2, 3)
static bool put_line(struct screen *s, const char *format, ...)
{
    char line[LINE_BYTES_MAX];
    va_list args;
    if (s->lines_drawn + 1 >= s->rows)
        return false;
    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args); /* cut off where it is too long */
    va_end(args);
    size_t size = strlen(line);
    if (size > s->columns)
        size = s->columns;
    (void)buf_append(&s->out, line, size);
    (void)buf_append(&s->out, "\x1b[K", 3);
    (void)buf_append(&s->out, "\n", 1);
    s->lines_drawn++;
    return true;
}

/* The last `width` seconds, the highest of them as the full block. */
static void put_sparkline(struct screen *s, const float *past, uint32_t width)
{
    static const char *const blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    float most = 0;
    for (uint32_t i = PAST_MAX - width; i < PAST_MAX; i++)
        if (past[i] > most)
            most = past[i];
    for (uint32_t i = PAST_MAX - width; i < PAST_MAX; i++) {
        int level = most > 0 ? (int)(past[i] / most * 8 + 0.999f) : 0;
        const char *block = blocks[level > 8 ? 8 : level];
        (void)buf_append(&s->out, block, strlen(block));
    }
}

static void put_row(struct screen *s, const struct series *series, int column)
{
    const struct series_cell *c = &series->last.cells[column];
    double seconds = series->last.seconds > 0 ? series->last.seconds : 1;
    bool shown = put_line(s, "%-16s %10.0f %9.2f %9.2f %9.2f %12llu", series_column_name(column),
                          (double)c->count / seconds, c->p50_ms, c->p99_ms, c->max_ms,
                          (unsigned long long)s->totals[column]);
    if (!shown || s->columns <= ROW_COLUMNS)
        return;
    uint32_t width = s->columns - ROW_COLUMNS;
    s->out.size -= 4; /* its end of line */
    (void)buf_append(&s->out, "  ", 2);
    put_sparkline(s, s->past[column], width < PAST_MAX ? width : PAST_MAX);
    (void)buf_append(&s->out, "\x1b[K\n", 4);
}

static void remember(struct screen *s, const struct series *series)
{
    double seconds = series->last.seconds > 0 ? series->last.seconds : 1;
    for (int i = 0; i < SERIES_COLUMNS_COUNT; i++) {
        memmove(s->past[i], s->past[i] + 1, (PAST_MAX - 1) * sizeof(s->past[i][0]));
        s->past[i][PAST_MAX - 1] = (float)((double)series->last.cells[i].count / seconds);
        s->totals[i] += series->last.cells[i].count;
    }
}

static void put_head(struct screen *s, const struct series *series, uint64_t now)
{
    const struct bench_options *o = s->run->o;
    const struct series_point *p = &series->last;
    double seconds = p->seconds > 0 ? p->seconds : 1;
    double at_s = (double)(now - s->run->start_ns) / 1e9;
    double all_s = o->warmup_s + o->duration_s;
    if (o->total > 0)
        (void)put_line(s, "trivet-bench %s  %.0f s, %llu of %llu", o->command_name, at_s,
                       (unsigned long long)series->done, (unsigned long long)o->total);
    else
        (void)put_line(s, "trivet-bench %s  %.0f of %.0f s%s", o->command_name, at_s, all_s,
                       series->points_count == 0 ? " (warm-up)" : "");
    (void)put_line(s, "%.0f operations/s, %.0f events/s, %llu failed", (double)p->done / seconds,
                   (double)p->events / seconds, (unsigned long long)series->failed);
    (void)put_line(s, "%-16s %10s %9s %9s %9s %12s", "", "/s", "p50 ms", "p99 ms", "max ms", "all");
}

void screen_draw(struct screen *s, const struct series *series, uint64_t now)
{
    char up[32];
    look_at_terminal(s);
    remember(s, series);
    buf_clear(&s->out);
    if (s->lines_drawn > 0) {
        int size = snprintf(up, sizeof(up), "\x1b[%uA\r", s->lines_drawn);
        (void)buf_append(&s->out, up, (size_t)size);
    }
    s->lines_drawn = 0;
    put_head(s, series, now);
    for (int column = 0; column < SERIES_COLUMNS_COUNT; column++)
        if (s->totals[column] > 0)
            put_row(s, series, column);
    (void)fwrite(s->out.data, 1, s->out.size, stderr);
    (void)fflush(stderr);
}
