/* The simulator's command line. */
#include "client.h"
#include "report.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: sim [--seed N] [--seeds COUNT] [--jobs N] [--span MS] [--without KIND]...\n"
    "           [--twice] [--crash-points N] [--crash-at N] [--stop] [--no-shrink] [--here]\n"
    "           [--verbose]\n"
    "\n"
    "Runs whole clusters in virtual time, COUNT of them, with the seeds from N on.\n"
    "\n"
    "  --seed N          the first seed; default 1\n"
    "  --seeds COUNT     how many; default 1\n"
    "  --jobs N          processes at a time; default: one for each CPU\n"
    "  --span MS         how long there are faults; default: the seed says\n"
    "  --without KIND    leave out a kind of fault or of operation (--kinds lists them)\n"
    "  --twice           run each seed twice: the same must happen, bit for bit\n"
    "  --crash-points N  no faults but one: a member crashes at its first operation on disk or\n"
    "                    network, in the next run at its second, and so on up to the Nth\n"
    "  --crash-at N      only the Nth of these\n"
    "  --stop            at the first seed that fails\n"
    "  --no-shrink       do not look for the smallest scenario that fails\n"
    "  --here            the one run in this process: for a debugger\n"
    "  --verbose         say what happens\n"
    "  --probes-elsewhere  name the rare branches that other tests must reach\n";

struct arguments {
    struct sim_options o;
    uint64_t seeds;
    uint64_t crash_points;
    uint32_t jobs;
    bool twice;
    bool shrink;
    bool stop;
    bool here;
};

static int wrong(const char *what)
{
    fprintf(stderr, "sim: %s\n%s", what, usage);
    return 2;
}

static bool leave_out(struct sim_options *o, const char *name)
{
    enum fault f = fault_of(name);
    if (f < FAULTS_COUNT) {
        o->faults_off |= 1ull << f;
        return true;
    }
    for (int w = 0; w < WORKS_COUNT; w++) {
        if (strcasecmp(name, work_name((enum work)w)) == 0) {
            o->works_off |= 1ull << w;
            return true;
        }
    }
    return false;
}

static void print_kinds(void)
{
    for (int f = 0; f < FAULTS_COUNT; f++)
        printf("%s: %s\n", fault_name((enum fault)f), fault_text((enum fault)f));
    for (int w = 0; w < WORKS_COUNT; w++)
        printf("%s\n", work_name((enum work)w));
}

static int parse(int argc, char **argv, struct arguments *a)
{
    enum {
        SEED = 256,
        SEEDS,
        JOBS,
        SPAN,
        WITHOUT,
        TWICE,
        POINTS,
        AT,
        NO_SHRINK,
        STOP,
        HERE,
        VERBOSE,
        KINDS,
        PROBES
    };
    static const struct option options[] = {
        {"seed", required_argument, NULL, SEED},
        {"seeds", required_argument, NULL, SEEDS},
        {"jobs", required_argument, NULL, JOBS},
        {"span", required_argument, NULL, SPAN},
        {"without", required_argument, NULL, WITHOUT},
        {"twice", no_argument, NULL, TWICE},
        {"crash-points", required_argument, NULL, POINTS},
        {"crash-at", required_argument, NULL, AT},
        {"no-shrink", no_argument, NULL, NO_SHRINK},
        {"stop", no_argument, NULL, STOP},
        {"here", no_argument, NULL, HERE},
        {"verbose", no_argument, NULL, VERBOSE},
        {"kinds", no_argument, NULL, KINDS},
        {"probes-elsewhere", no_argument, NULL, PROBES},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint64_t number = optarg != NULL ? strtoull(optarg, NULL, 10) : 0;
        switch (c) {
        case SEED:
            a->o.seed = number;
            break;
        case SEEDS:
            a->seeds = number;
            break;
        case JOBS:
            a->jobs = (uint32_t)number;
            break;
        case SPAN:
            a->o.span_ms = number;
            break;
        case WITHOUT:
            if (!leave_out(&a->o, optarg))
                return wrong("no such kind of fault or operation");
            break;
        case TWICE:
            a->twice = true;
            break;
        case POINTS:
            a->crash_points = number;
            break;
        case AT:
            a->o.crash_at = number;
            break;
        case NO_SHRINK:
            a->shrink = false;
            break;
        case STOP:
            a->stop = true;
            break;
        case HERE:
            a->here = true;
            break;
        case VERBOSE:
            a->o.verbose = true;
            break;
        case KINDS:
            print_kinds();
            return 0;
        case PROBES:
            report_probes_elsewhere();
            return 0;
        default:
            return wrong("what is that?");
        }
    }
    return optind < argc ? wrong("too many arguments") : -1;
}

static double seconds_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The same options, twice: the hash over all that happened must be the same. */
static void run_twice(const struct arguments *a, struct report *r)
{
    struct slot *slots = slots_new(2);
    for (uint64_t i = 0; i < a->seeds; i++) {
        struct sim_options o = a->o;
        o.seed += i;
        bool good = run_alone(&o, &slots[0]);
        good = run_alone(&o, &slots[1]) && good;
        bool equal = slots[0].result.trace == slots[1].result.trace;
        if (good && equal) {
            r->passed++;
            continue;
        }
        r->failed++;
        printf("seed %" PRIu64 " FAILED: %s\n", o.seed,
               equal ? slots[0].result.failure : "it went another way the second time");
    }
}

static int print_sum(const struct report *r)
{
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", r->passed, r->failed);
    return r->failed == 0 ? 0 : 1;
}

/* Up to its crash each run is the same: so the first N crashes are at each of N operations. */
static void print_crash_points(const struct sim_options *o, uint64_t crashes)
{
    struct slot *slot = slots_new(1);
    struct sim_options whole = *o;
    whole.crash_at = UINT64_MAX;
    (void)run_alone(&whole, slot);
    printf("crashes at each of the first %" PRIu64 " of %" PRIu64 " operations of one member\n",
           crashes, slot->result.operations);
}

int main(int argc, char **argv)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct arguments a = {
        .o = {.seed = 1}, .seeds = 1, .shrink = true, .jobs = cpus > 0 ? (uint32_t)cpus : 1};
    int rv = parse(argc, argv, &a);
    if (rv >= 0)
        return rv;
    printf("seed %" PRIu64 "%s\n", a.o.seed, a.seeds > 1 ? " and up" : "");
    double begun = seconds_now();
    struct report r = {0};
    if (a.here) {
        static struct sim_result result;
        sim_run(&a.o, &result);
        printf("trace %016" PRIx64 "\n", result.trace);
        return 0;
    }
    struct series_options so = {
        .series = a.crash_points > 0 ? SERIES_CRASH_POINTS : SERIES_SEEDS,
        .count = a.crash_points > 0 ? a.crash_points : a.seeds,
        .jobs = a.jobs,
        .shrink = a.shrink,
        .stop = a.stop,
    };
    if (a.twice)
        run_twice(&a, &r);
    else
        run_many(&a.o, &so, &r);
    if (!a.twice)
        report_print(&r, seconds_now() - begun);
    if (so.series == SERIES_CRASH_POINTS)
        print_crash_points(&a.o, r.sum.faults[FAULT_POWER_AT]);
    return print_sum(&r);
}
