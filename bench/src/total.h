/* What all workers measured, together. */
#ifndef BENCH_TOTAL_H
#define BENCH_TOTAL_H

#include "load.h"

struct total {
    struct hist latency[OP_KINDS_COUNT];
    struct hist all;
    struct hist events;
    uint64_t errors[GRPC_CODES_COUNT];
    uint64_t errors_count;
    const char *error_text; /* the workers' */
    uint64_t conflicts;
    uint64_t never_begun;
    uint64_t empty;
    uint64_t listed_keys;
    uint64_t listed_bytes;
    uint64_t done_in_all; /* the warm-up's too: what the servers worked for */
    uint64_t events_in_all;
    uint64_t events_missing; /* of puts that were acknowledged */
    uint64_t revisions;      /* that acknowledged calls made, the warm-up's and the setup's too */
    uint64_t progress_requests;
    uint64_t watches_reopened;
    double events_per_second;
    double cpu_seconds; /* of this program, the warm-up included */
    double seconds;
};

struct total *total_new(const struct run *run, const struct worker *workers);
void total_free(struct total *t);
double total_per_second(const struct total *t, uint64_t count);
/* What this program itself needed for an operation or event: when it needs much, the servers are
 * not what is measured. */
double total_own_cpu_us(const struct total *t);

#endif
