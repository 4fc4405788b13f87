/* A member's disk: storage/disk_mem.h on virtual time. Every request is an operation at which the
 * member may die; what is under way completes some time later, sooner or later as the faults say.
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include "base/rng.h"
#include "storage/disk_mem.h"

struct member;

struct sim_disk {
    struct disk d;
    struct disk *mem;
    struct member *member;
    struct rng rng;
    uint64_t latency_us; /* mean */
    uint64_t stalled_until_us;
};

struct sim_disk *sim_disk_new(struct member *m, uint64_t seed);
void sim_disk_free(struct sim_disk *d);
/* Put another disk in its place: after a crash. Takes `mem`. */
void sim_disk_replace(struct sim_disk *d, struct disk *mem);
/* Schedule the next look at it, when something is under way. */
void sim_disk_schedule(struct sim_disk *d);

#endif
