/* A member's disk: storage/disk_mem.h on virtual time. Every request is an operation at which the
 * member may die; what is under way completes some time later, sooner or later as the faults say.
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include "faults.h"

#include "base/rng.h"
#include "storage/disk_mem.h"
#include "storage/wal.h"

struct member;

struct sim_disk {
    struct disk d;
    struct disk *mem;
    struct member *member;
    struct rng rng;
    uint64_t latency_us; /* mean */
    uint64_t stalled_until_us;

    /* It has no more room than that until then; 0 = enough. */
    uint64_t full_until_us;
    uint64_t capacity_bytes;
    bool store_is_full; /* nor has the store */

    uint64_t reads_left; /* before one fails; UINT64_MAX = all succeed */
    bool read_failed;    /* in this life of the member */

    /* Something that was durable is not there any more, or is another: the log must say so when it
     * is opened. It can only know of what a later write spoke of as durable. */
    bool at_risk; /* was told to lie, or to rot: its member's data counts as lost */
    bool damaged;
    bool attested;
    enum fault lie; /* what the disk was told to do */
    bool settled;   /* since the damage all that was under way has been written */
    uint64_t writes, writes_when_settled;
};

struct sim_disk *sim_disk_new(struct member *m, uint64_t seed);
void sim_disk_free(struct sim_disk *d);
/* Put another disk in its place: after a crash. Takes `mem`. */
void sim_disk_replace(struct sim_disk *d, struct disk *mem);
/* A new one, empty. */
void sim_disk_renew(struct sim_disk *d, uint64_t seed);
void sim_disk_fill(struct sim_disk *d, uint64_t until_us, uint64_t room_bytes, bool store_too);
void sim_disk_lie(struct sim_disk *d, enum fault how, uint64_t countdown);
/* A bit flips. False: there was none yet. */
bool sim_disk_rot(struct sim_disk *d);
/* The faults are over. */
void sim_disk_heal(struct sim_disk *d);
/* Now and then: what was full for a while is not any more. */
void sim_disk_tend(struct sim_disk *d);
/* The member has looked at it. */
void sim_disk_looked(struct sim_disk *d, const struct wal *w);
/* Schedule the next look at it, when something is under way. */
void sim_disk_schedule(struct sim_disk *d);

#endif
