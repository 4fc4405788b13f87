/* A report: what was run, the figures in a table, and for each kind of operation its rate and
 * latency over time and its latency by percentile. One file that opens anywhere. */
#include "page.h"

#include "page_text.h"
#include "plot.h"
#include "runfile.h"

#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_BYTES = 32, NINES_MAX = 5 };

/* Whatever stands in the file is text here. */
static void put_text(const char *text)
{
    for (; *text != 0; text++) {
        switch (*text) {
        case '<':
            printf("&lt;");
            break;
        case '>':
            printf("&gt;");
            break;
        case '&':
            printf("&amp;");
            break;
        case '"':
            printf("&quot;");
            break;
        default:
            putchar(*text);
            break;
        }
    }
}

/* --- figures --- */

static void put_tile(const char *name, double value, const char *unit, bool bad)
{
    char text[NUMBER_BYTES];
    plot_number(value, text, sizeof(text));
    printf("<div class=\"tile%s\"><b>%s%s</b>%s</div>\n", bad ? " bad" : "", text, unit, name);
}

/* Only where there is something to say. */
static void put_trouble(const struct runfile *f, const char *field, const char *name)
{
    double count = tree_number(f->root, field, 0);
    if (count > 0)
        put_tile(name, count, "", true);
}

static void put_tiles(const struct runfile *f)
{
    double events = tree_number(f->root, "events_per_second", 0);
    printf("<div class=\"tiles\">\n");
    put_tile("operations a second", tree_number(f->root, "per_second", 0), "", false);
    if (events > 0)
        put_tile("events a second", events, "", false);
    put_tile("operations measured", tree_number(f->root, "operations", 0), "", false);
    put_tile("measured", tree_number(f->root, "seconds", 0), " s", false);
    put_tile("of the generator's CPU each", tree_number(f->root, "own_cpu_us", 0), " us", false);
    put_trouble(f, "errors", "calls failed");
    put_trouble(f, "never_begun", "were due and never begun");
    put_trouble(f, "events_missing", "events never came");
    put_trouble(f, "watches_reopened", "watches ended");
    printf("</div>\n");
    if (tree_number(f->root, "errors", 0) > 0) {
        printf("<p class=\"bad\">The first call that failed: ");
        put_text(tree_text(f->root, "error_text", ""));
        printf("</p>\n");
    }
}

static void put_table(const struct runfile *f)
{
    static const struct {
        const char *field;
        const char *head;
    } columns[] = {{"count", "count"},    {"per_second", "/s"}, {"mean_ms", "mean ms"},
                   {"p50_ms", "p50"},     {"p90_ms", "p90"},    {"p99_ms", "p99"},
                   {"p99_9_ms", "p99.9"}, {"max_ms", "max ms"}};
    enum { COLUMNS_COUNT = sizeof(columns) / sizeof(columns[0]) };
    printf("<div class=\"wide\"><table>\n<tr><th></th>");
    for (int i = 0; i < COLUMNS_COUNT; i++)
        printf("<th>%s</th>", columns[i].head);
    printf("</tr>\n");
    for (const struct tree *it = f->latency->first; it != NULL; it = it->next) {
        printf("<tr><td>");
        put_text(it->name);
        printf("</td>");
        for (int i = 0; i < COLUMNS_COUNT; i++)
            printf("<td>%.*f</td>",
                   i == 0   ? 0
                   : i == 1 ? 1
                            : 3,
                   tree_number(it, columns[i].field, 0));
        printf("</tr>\n");
    }
    printf("</table></div>\n");
}

/* --- plots --- */

/* Of seconds in which nothing was done there is no latency. */
static void leave_gaps(double *values, const double *counts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (counts[i] <= 0)
            values[i] = NAN;
}

static void plot_over_time(const struct runfile *f, const char *kind)
{
    uint32_t count = f->points_count;
    const struct tree *column = tree_get(f->operations, kind);
    double *at = mem_alloc_zero(6 * (count + 1) * sizeof(*at));
    double *seconds = at + count;
    double *rate = seconds + count;
    double *p50 = rate + count;
    double *p99 = p50 + count;
    double *max = p99 + count;
    if (count > 0 && runfile_array(f, f->series, "at_s", at) &&
        runfile_array(f, f->series, "seconds", seconds) &&
        runfile_array(f, column, "count", rate) && runfile_array(f, column, "p50_ms", p50) &&
        runfile_array(f, column, "p99_ms", p99) && runfile_array(f, column, "max_ms", max)) {
        leave_gaps(p50, rate, count);
        leave_gaps(p99, rate, count);
        leave_gaps(max, rate, count);
        for (uint32_t i = 0; i < count; i++)
            rate[i] = seconds[i] > 0 ? rate[i] / seconds[i] : 0;
        struct plot rates = {"Rate", "/s", PLOT_SECONDS, at, count, false, {{"rate", rate}}, 1};
        struct plot latencies = {"Latency",
                                 "ms",
                                 PLOT_SECONDS,
                                 at,
                                 count,
                                 true,
                                 {{"p50", p50}, {"p99", p99}, {"max", max}},
                                 3};
        plot_write(stdout, &rates);
        plot_write(stdout, &latencies);
    }
    mem_free(at);
}

/* A bucket of the histogram, [largest value in ns, count]. False: it is none. */
static bool bucket_of(const struct tree *pair, double *ret_ms, double *ret_count)
{
    if (pair->type != JSON_ARRAY || pair->count != 2)
        return false;
    *ret_ms = pair->first->number / 1e6;
    *ret_count = pair->first->next->number;
    return true;
}

static void plot_percentiles(const struct tree *kind)
{
    const struct tree *histogram = tree_get(kind, "histogram");
    double total = tree_number(kind, "count", 0);
    if (histogram == NULL || histogram->type != JSON_ARRAY || total <= 0)
        return;
    double *nines = mem_alloc((2 * (size_t)histogram->count + 2) * sizeof(*nines));
    double *ms = nines + histogram->count + 1;
    uint32_t count = 0;
    double below = 0;
    double value;
    double in_bucket;
    for (const struct tree *it = histogram->first; it != NULL; it = it->next) {
        if (!bucket_of(it, &value, &in_bucket))
            continue;
        double rest = 1 - below / total;
        if (rest <= 0 || -log10(rest) > NINES_MAX)
            break;
        nines[count] = -log10(rest);
        ms[count++] = value;
        below += in_bucket;
    }
    struct plot p = {"Latency by percentile", "ms", PLOT_NINES, nines, count, true,
                     {{"latency", ms}},       1};
    plot_write(stdout, &p);
    mem_free(nines);
}

/* --- the page --- */

static void put_head(const struct runfile *f)
{
    printf("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
           "<title>trivet-bench ");
    put_text(tree_text(f->root, "command", ""));
    printf("</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<h1>trivet-bench ", page_style);
    put_text(tree_text(f->root, "command", ""));
    printf("</h1>\n<p class=\"soft\">ended ");
    put_text(tree_text(f->root, "ended", "?"));
    printf(" on ");
    put_text(tree_text(f->root, "host", "?"));
    printf(", %.0f cores; processes: %.0f, threads of each: %.0f<br>\n<code>trivet-bench ",
           tree_number(f->root, "cores", 0), tree_number(f->root, "processes", 1),
           tree_number(f->root, "threads", 1));
    put_text(tree_text(f->root, "arguments", ""));
    printf("</code></p>\n");
}

static void put_page(const struct runfile *f)
{
    put_head(f);
    put_tiles(f);
    put_table(f);
    for (const struct tree *it = f->latency->first; it != NULL; it = it->next) {
        printf("<h2>");
        put_text(it->name);
        printf("</h2>\n<div class=\"plots\">\n");
        plot_over_time(f, it->name);
        plot_percentiles(it);
        printf("</div>\n");
    }
    printf("<script>\n%s</script>\n</main>\n</body>\n</html>\n", page_script);
}

int page_main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: trivet-bench report RUN.json > report.html\n");
        return 2;
    }
    struct runfile *f = runfile_open(argv[1]);
    if (f == NULL)
        return 2;
    put_page(f);
    runfile_close(f);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_SUCCESS;
    fprintf(stderr, "trivet-bench: the page: %s\n", strerror(errno));
    return EXIT_FAILURE;
}
