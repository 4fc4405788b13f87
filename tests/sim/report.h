/* Many runs: each in a process of its own, so that one that fails, fails alone; and their sum. */
#ifndef SIM_REPORT_H
#define SIM_REPORT_H

#include "sim.h"

enum { PROBES_MAX = 512 };

/* Shared with the processes of the runs. */
struct slot {
    struct sim_result result;
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
/* `count` runs from o->seed on, `jobs` at a time; failures are printed as they come, and shrunk. */
void run_many(const struct sim_options *o, uint64_t count, uint32_t jobs, bool shrink,
              struct report *ret);
/* Figures, and the marks on rare branches of raft and the log that no run reached. */
void report_print(const struct report *r, double seconds);

/* Print the smallest scenario found that fails like this one. */
void shrink_and_print(const struct sim_options *o, const struct sim_result *result);

/* Room shared with child processes. */
struct slot *slots_new(uint32_t count);

#endif
