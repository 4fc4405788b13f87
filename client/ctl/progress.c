#include "progress.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { DRAW_EVERY_MS = 100, BAR_CELLS = 20, LINE_BYTES = 256 };

static int columns_now(void)
{
    struct winsize w = {0};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

void progress_begin(struct progress *p, const char *what, enum progress_unit unit, uint64_t total)
{
    const char *term = getenv("TERM");
    *p = (struct progress){.what = what, .unit = unit, .total = total};
    p->on = isatty(STDERR_FILENO) == 1 && (term == NULL || strcmp(term, "dumb") != 0);
    p->begun_ns = clock_mono_ns();
}

static void amount(char *dst, size_t size, enum progress_unit unit, double n)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T"};
    int at = 0;
    if (unit == PROGRESS_COUNT) {
        (void)snprintf(dst, size, "%.0f", n);
        return;
    }
    for (; n >= 1000 && at < 4; at++)
        n /= 1000;
    (void)snprintf(dst, size, "%.*f %sB", at == 0 ? 0 : 1, n, prefixes[at]);
}

const char *progress_text(const struct progress *p, uint64_t now_ns, int columns, char *dst,
                          uint64_t size)
{
    char done[24], total[24], rate[24], bar[BAR_CELLS + 1];
    double seconds = (double)(now_ns - p->begun_ns) / 1e9;
    double speed = seconds <= 0 ? 0 : (double)p->done / seconds;
    amount(done, sizeof(done), p->unit, (double)p->done);
    amount(total, sizeof(total), p->unit, (double)p->total);
    amount(rate, sizeof(rate), p->unit, speed);
    if (p->total == 0) {
        (void)snprintf(dst, size, "%s  %s  %s/s", p->what, done, rate);
    } else {
        double part = p->done >= p->total ? 1 : (double)p->done / (double)p->total;
        uint64_t left_s = speed <= 0 ? 0 : (uint64_t)((1 - part) * (double)p->total / speed + 0.5);
        for (int i = 0; i < BAR_CELLS; i++)
            bar[i] = i < (int)(part * BAR_CELLS) ? '#' : '.';
        bar[BAR_CELLS] = '\0';
        (void)snprintf(dst, size,
                       "%s  [%s] %3.0f%%  %s of %s  %s/s  %" PRIu64 ":%02" PRIu64 " left", p->what,
                       bar, part * 100, done, total, rate, left_s / 60, left_s % 60);
    }
    if (columns > 0 && strlen(dst) >= (size_t)columns)
        dst[columns - 1] =
            '\0'; /* it is ASCII; the last column stays free, so that nothing wraps */
    return dst;
}

static bool is_time(struct progress *p)
{
    uint64_t now = clock_mono_ns();
    if (!p->on || now - p->drawn_ns < DRAW_EVERY_MS * 1000000ull)
        return false;
    p->drawn_ns = now;
    return true;
}

static void draw(const char *line)
{
    (void)fprintf(stderr, "\r%s\033[K", line);
    (void)fflush(stderr);
}

void progress_set(struct progress *p, uint64_t done)
{
    char line[LINE_BYTES];
    p->done = done;
    if (is_time(p))
        draw(progress_text(p, p->drawn_ns, columns_now(), line, sizeof(line)));
}

void progress_set_total(struct progress *p, uint64_t total)
{
    p->total = total;
}

void progress_say(struct progress *p, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list args;
    if (!is_time(p))
        return;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    int columns = columns_now();
    if (strlen(line) >= (size_t)columns)
        line[columns - 1] = '\0';
    draw(line);
}

void progress_end(struct progress *p)
{
    if (p->on && p->drawn_ns != 0)
        draw("");
    if (p->on && p->drawn_ns != 0)
        (void)fputc('\r', stderr);
    p->on = false;
}
