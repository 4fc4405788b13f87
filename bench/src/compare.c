/* Two runs, or two times five runs and more: what differs, and by how much.
 *
 * By the seconds: the values are those of the points of each series. By the runs: each run is one
 * value, and what differs from run to run (the machine's hour, where memory came to lie) is in the
 * interval too, which the seconds of one run cannot know.
 *
 * The intervals hold for all figures together (Bonferroni), so that of many figures none is called
 * different by chance. A difference below `matters` is none: a histogram's bucket is 1.6 % wide. */
#include "compare.h"

#include "runfile.h"
#include "stats.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES_MAX = 100, RUNS_MIN = STATS_VALUES_MIN };

static const double level_of_all = 0.95;
static const double matters = 0.02;

struct side {
    const char *name;
    struct runfile *files[FILES_MAX];
    uint32_t files_count;
};

struct figure {
    const char *name;
    const char *in_run;    /* of a run's "latency" */
    const char *in_series; /* of its series */
    bool latency;
};

static const struct figure figures[] = {
    {"/s", "per_second", "count", false},
    {"p50 ms", "p50_ms", "p50_ms", true},
    {"p99 ms", "p99_ms", "p99_ms", true},
};
enum { FIGURES_COUNT = sizeof(figures) / sizeof(figures[0]) };

/* --- values --- */

/* Of the seconds: those that are whole, and, of a latency, in which something was done. */
static uint32_t seconds_of(const struct runfile *f, const char *kind, const struct figure *figure,
                           double *ret)
{
    uint32_t kept = 0;
    uint32_t count = f->points_count;
    const struct tree *column = tree_get(f->operations, kind);
    double *seconds = mem_alloc(3 * (count + 1) * sizeof(*seconds));
    double *done = seconds + count;
    double *values = done + count;
    if (count > 0 && runfile_array(f, f->series, "seconds", seconds) &&
        runfile_array(f, column, "count", done) &&
        runfile_array(f, column, figure->in_series, values)) {
        for (uint32_t i = 0; i < count; i++) {
            bool whole = seconds[i] >= 0.9 * seconds[0];
            if (whole && !figure->latency)
                ret[kept++] = done[i] / seconds[i];
            else if (whole && done[i] > 0 && values[i] > 0)
                ret[kept++] = values[i];
        }
    }
    mem_free(seconds);
    return kept;
}

static uint32_t runs_of(const struct side *side, const char *kind, const struct figure *figure,
                        double *ret)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < side->files_count; i++) {
        const struct tree *of = tree_get(side->files[i]->latency, kind);
        double value = tree_number(of, figure->in_run, 0);
        if (value > 0)
            ret[kept++] = value;
    }
    return kept;
}

static bool is_by_runs(const struct side *a, const struct side *b)
{
    return a->files_count >= RUNS_MIN && b->files_count >= RUNS_MIN;
}

static struct stats_sample sample_of(const struct side *side, bool by_runs, const char *kind,
                                     const struct figure *figure)
{
    uint32_t points = side->files[0]->points_count;
    double *values = mem_alloc((points + side->files_count) * sizeof(*values));
    uint32_t count = by_runs ? runs_of(side, kind, figure, values)
                             : seconds_of(side->files[0], kind, figure, values);
    return (struct stats_sample){.values = values, .count = count, .in_order = !by_runs};
}

/* --- words --- */

static const char *verdict(const struct figure *figure, const struct stats_ratio *r)
{
    double change = r->ratio - 1;
    bool excluded = r->low > 1 || r->high < 1;
    if (!excluded || (change < matters && change > -matters))
        return "no difference shown";
    if (figure->latency)
        return change > 0 ? "B IS SLOWER" : "B IS FASTER";
    return change > 0 ? "B HAS MORE" : "B HAS FEWER";
}

/* True when they differ. */
static bool compare_figure(const struct side *a, const struct side *b, const char *kind,
                           const struct figure *figure, double level)
{
    bool by_runs = is_by_runs(a, b);
    struct stats_ratio r;
    struct stats_sample in_a = sample_of(a, by_runs, kind, figure);
    struct stats_sample in_b = sample_of(b, by_runs, kind, figure);
    bool told = stats_compare(in_a, in_b, level, figure->latency || by_runs, &r);
    const char *word = "too few values to tell";
    printf("%-16s %-7s", kind, figure->name);
    if (told) {
        word = verdict(figure, &r);
        printf(" %12.3f %12.3f %8.3fx  %7.3f..%-7.3f", r.a, r.b, r.ratio, r.low, r.high);
    } else {
        printf(" %12s %12s %9s  %16s", "", "", "", "");
    }
    printf("  %s\n", word);
    mem_free((double *)in_a.values);
    mem_free((double *)in_b.values);
    return told && word[0] == 'B';
}

/* --- the whole --- */

static uint32_t kinds_in_both(const struct side *a, const struct side *b)
{
    uint32_t count = 0;
    for (const struct tree *it = a->files[0]->latency->first; it != NULL; it = it->next)
        count += tree_get(b->files[0]->latency, it->name) != NULL;
    return count;
}

static void print_side(const struct side *side)
{
    const struct runfile *f = side->files[0];
    printf("%s: %s%s, %s (%s)\n", side->name, f->path, side->files_count > 1 ? " and others" : "",
           tree_text(f->root, "arguments", "?"), tree_text(f->root, "ended", "?"));
}

static void compare_sides(const struct side *a, const struct side *b)
{
    uint32_t kinds = kinds_in_both(a, b);
    uint32_t differ = 0;
    double level = 1 - (1 - level_of_all) / (kinds > 0 ? kinds * FIGURES_COUNT : 1);
    print_side(a);
    print_side(b);
    if (is_by_runs(a, b))
        printf("by the runs, %u and %u", a->files_count, b->files_count);
    else
        printf("by the seconds, %u and %u", a->files[0]->points_count, b->files[0]->points_count);
    printf("; the intervals hold together with %.0f %%\n\n", 100 * level_of_all);
    printf("%-16s %-7s %12s %12s %9s  %16s\n", "", "", "A", "B", "B / A", "");
    for (const struct tree *it = a->files[0]->latency->first; it != NULL; it = it->next) {
        if (tree_get(b->files[0]->latency, it->name) == NULL) {
            printf("%-16s only in A\n", it->name);
            continue;
        }
        for (int i = 0; i < FIGURES_COUNT; i++)
            differ += compare_figure(a, b, it->name, &figures[i], level);
    }
    for (const struct tree *it = b->files[0]->latency->first; it != NULL; it = it->next)
        if (tree_get(a->files[0]->latency, it->name) == NULL)
            printf("%-16s only in B\n", it->name);
    printf("\n%u of %u figures differ\n", differ, kinds * FIGURES_COUNT);
}

static bool open_side(struct side *side, char *list)
{
    while (list != NULL) {
        char *path = list;
        char *comma = strchr(list, ',');
        if (comma != NULL)
            *comma++ = 0;
        list = comma;
        if (side->files_count == FILES_MAX) {
            fprintf(stderr, "trivet-bench: more than %d runs a side\n", FILES_MAX);
            return false;
        }
        struct runfile *f = runfile_open(path);
        if (f == NULL)
            return false;
        side->files[side->files_count++] = f;
    }
    if (side->files_count == 1 || side->files_count >= RUNS_MIN)
        return true;
    fprintf(stderr,
            "trivet-bench: compare takes one run or %d and more a side: fewer say too little\n",
            RUNS_MIN);
    return false;
}

static void close_side(struct side *side)
{
    for (uint32_t i = 0; i < side->files_count; i++)
        runfile_close(side->files[i]);
}

int compare_main(int argc, char **argv)
{
    struct side a = {.name = "A"};
    struct side b = {.name = "B"};
    int status = 2;
    if (argc != 3) {
        fprintf(stderr, "usage: trivet-bench compare A.json[,A2.json,...] B.json[,B2.json,...]\n");
        return status;
    }
    if (open_side(&a, argv[1]) && open_side(&b, argv[2])) {
        if ((a.files_count == 1) == (b.files_count == 1)) {
            compare_sides(&a, &b);
            status = EXIT_SUCCESS;
        } else {
            fprintf(stderr, "trivet-bench: one run on one side, several on the other\n");
        }
    }
    close_side(&a);
    close_side(&b);
    return status;
}
