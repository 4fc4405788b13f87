/* Which faults a run has, and when they strike. Every kind has a generator of its own; whether it
 * takes part and how hard is drawn from the run's seed. */
#ifndef TESTS_SIM_FAULTS_H
#define TESTS_SIM_FAULTS_H

#include "base/rng.h"

#include <stdbool.h>
#include <stdint.h>

/* X(name, what it is) */
#define FAULTS(X)                                        \
    X(LOSS, "messages lost")                             \
    X(DELAY, "messages late")                            \
    X(REORDER, "messages out of order")                  \
    X(DUPLICATE, "messages twice")                       \
    X(PARTITION, "partitions")                           \
    X(ONE_WAY, "one-way partitions")                     \
    X(FLAP, "flapping links")                            \
    X(CLIENT_LOSS, "client connections broken")          \
    X(SLOW_READER, "clients that do not read")           \
    X(SLOW_DISK, "slow disks")                           \
    X(STALL_DISK, "stalled disks")                       \
    X(WRITE_ERROR, "failed writes")                      \
    X(POWER, "power failures")                           \
    X(POWER_AT, "power failures between two operations") \
    X(POWER_ALL, "power failures of all")                \
    X(KILL, "kills")                                     \
    X(STOP, "clean restarts")                            \
    X(PAUSE, "pauses")                                   \
    X(DRIFT, "drifting clocks")                          \
    X(CLOCK_JUMP, "clock jumps")                         \
    X(TRANSFER, "leader transfers")                      \
    X(FLUSH, "early commits of the store")               \
    X(AWAY, "members away for long")                     \
    X(PIECE, "damaged pieces of snapshots")              \
    X(SYNC_ERROR, "failed fsyncs")                       \
    X(READ_ERROR, "failed reads")                        \
    X(FULL, "full disks")                                \
    X(ROT, "corrupted sectors")                          \
    X(LOST_WRITE, "writes lost and reported as done")    \
    X(MISDIRECTED, "misdirected writes")                 \
    X(WIPE, "disks lost")

enum fault {
#define X(name, text) FAULT_##name,
    FAULTS(X)
#undef X
        FAULTS_COUNT,
};

struct sim;
struct event;
struct member;

struct fault_plan {
    bool on;
    uint32_t percent;     /* of messages, for those that fall on messages */
    uint64_t interval_us; /* mean between two, for those that happen */
    uint64_t length_us;   /* mean */
    struct rng rng;
};

struct faults {
    struct fault_plan plans[FAULTS_COUNT];
};

const char *fault_name(enum fault f);
/* The fault of this name, or FAULTS_COUNT. */
enum fault fault_of(const char *name);
const char *fault_text(enum fault f);

void faults_plan(struct sim *s);
/* Schedule the first of each kind. */
void faults_begin(struct sim *s);
void faults_strike(struct sim *s, const struct event *e);
void faults_heal(struct sim *s, const struct event *e);
/* Everything that lasts ends now. */
void faults_end(struct sim *s);

/* The member is about to install a snapshot: where there are crashes between two operations, some
 * come now. */
void faults_in_install(struct member *m);

/* Does this kind fall on the message (or whatever is drawn for) now? Counted when it does. */
bool fault_falls(struct sim *s, enum fault f);

#endif
