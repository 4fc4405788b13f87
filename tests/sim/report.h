/* Many runs, some in a row in each process, so that one that fails takes no other with it; and
 * their sum. */
#ifndef TESTS_SIM_REPORT_H
#define TESTS_SIM_REPORT_H

#include "sim.h"

enum { PROBES_MAX = 512 };

/* Shared with the process that does some runs. */
struct slot {
    struct sim_result result; /* of the last run, or of the one that failed */
    struct sim_stats sum;     /* of those that passed */
    uint64_t passed;
    uint64_t probe_hits[PROBES_MAX];
};

struct report {
    struct sim_stats sum;
    uint64_t probe_hits[PROBES_MAX];
    uint64_t failed;
    uint64_t passed;
};

/* One run in a process of its own. True: it did not fail. */
bool run_alone(const struct sim_options *o, struct slot *slot);
enum series {
    SERIES_SEEDS,        /* from o->seed on */
    SERIES_CRASH_POINTS, /* one seed; the crash at the first operation, the second, ... */
};

struct series_options {
    enum series series;
    uint64_t count;
    uint32_t jobs; /* at a time */
    bool shrink;   /* what fails */
    bool stop;     /* at the first that fails */
};

/* Failures are printed as they come. */
void run_many(const struct sim_options *o, const struct series_options *so, struct report *ret);
/* Figures, and the marks on rare branches of raft and the log that no run reached. */
void report_print(const struct report *r, double seconds);

/* The names of the marks that other tests must reach. */
void report_probes_elsewhere(void);

/* Print the smallest scenario found that fails like this one. */
void shrink_and_print(const struct sim_options *o, const struct sim_result *result);

/* Room shared with child processes. */
struct slot *slots_new(uint32_t count);

#endif
