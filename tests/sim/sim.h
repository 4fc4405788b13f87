/* A whole cluster in one thread, on virtual time: the real core, raft, log, applier, store,
 * services and watch hub of every member, over a simulated network, disk and clock, with simulated
 * clients.
 *
 * A run is a function of its options: everything random is drawn from generators seeded by the
 * run's seed, every part of the simulation from one of its own, so that leaving out one kind of
 * fault changes as little as possible of the rest. Nothing depends on addresses, on the machine's
 * clock or on the order of a hash table: the same options give the same events, bit for bit (struct
 * sim, trace).
 *
 * Where to start reading:
 *   run.c       one run, from the beginning to the verdict; the event loop
 *   member.c    one member: what node.c is to trivetd; crashes at any operation
 *   place.c     the machines that members are on, and who a member is to the others
 *   joiner.c    a place without data asks the others who it is
 *   operator.c  who adds, promotes and removes members
 *   world.c     the machine's functions that the members' code calls, replaced at link time
 *   net.c, disk.c, store.c, call.c, peer_call.c, transfer.c, uv.c     what a member has around it
 *   faults.c    which faults a run has, and when
 *   client*.c   who uses the cluster, and the checks of each answer
 *   model.c     what the store must hold after each entry of the log
 *   judge*.c    the invariants that span members
 *   report.c, shrink.c, main.c     many runs; the smallest one that fails */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "event.h"
#include "faults.h"
#include "judge.h"
#include "model.h"

#include "base/rng.h"
#include "server/config.h"
#include "server/member.h"
#include "state/cluster.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SIM_MEMBERS_MAX = 8, /* places: machines that members are on, one after the other */
    HEARTBEAT_MS = 100,
    ELECTION_MS = 1000,
};

struct clients;
struct member;
struct overseer;
struct registrar;
struct raft_options;

struct sim_options {
    uint64_t seed;
    uint64_t span_ms;    /* how long there are faults; 0: the seed says */
    uint64_t faults_off; /* bits 1 << enum fault: leave these out */
    uint64_t works_off;  /* bits 1 << enum work: what clients do not do */
    uint64_t crash_at;   /* not 0: the only fault is one member's crash at its Nth operation */
    bool verbose;
};

/* What differs from run to run beside the faults. */
struct sim_shape {
    bool pre_vote;
    bool lease_reads;       /* raft's; then no member's clock is wrong, and none stands still */
    uint64_t segment_bytes; /* of the log's files */
    uint64_t flush_entries_max;
    uint64_t snapshot_count; /* core_options */
    uint64_t log_keep_bytes;
    uint32_t large_bytes; /* core_options */
    bool strict_reconfig; /* core_options */
    uint64_t lease_checkpoint_ms;
    bool hurry;                 /* clients hardly pause: what happens at once, happens often */
    bool skip_payloads;         /* the log is read without the bytes of what the store holds */
    size_t piece_bytes;         /* of a snapshot on its way */
    uint64_t piece_ns_per_byte; /* it takes */
    size_t log_window_bytes;    /* raft_options; 0: the default, as in the others */
    size_t msg_bytes_max;
    size_t uncommitted_bytes_max;
    uint32_t inflight_msgs_max;
};

/* Summed over runs. */
struct sim_stats {
    uint64_t runs;
    uint64_t events;
    uint64_t virtual_us;
    uint64_t faults[FAULTS_COUNT];
    uint64_t elections;
    uint64_t entries;
    uint64_t in_pieces; /* requests */
    uint64_t messages;
    uint64_t restarts;
    uint64_t ops_ok;
    uint64_t ops_refused;
    uint64_t ops_unknown;
    uint64_t reads_checked;
    uint64_t watch_events;
    uint64_t watch_streams;
    uint64_t leases_granted;
    uint64_t leases_renewed;
    uint64_t leases_ended;
    uint64_t compactions;
    uint64_t snapshots_sent;
    uint64_t snapshots_failed;
    uint64_t snapshots_installed;
    uint64_t damage_found;      /* by the log */
    uint64_t damage_beyond_log; /* it could not know */
    uint64_t starts_without_room;
    uint64_t alarms;
    uint64_t refused_for_space;
    uint64_t member_changes[MEMBER_KINDS_COUNT]; /* that changed something */
    uint64_t changes_asked;
    uint64_t changes_refused;
    uint64_t joined;    /* places that began, or began again, without data */
    uint64_t data_lost; /* in all: damaged, wiped */
    uint64_t left;      /* removed, told so, and gone */
};

enum { SIM_TEXT_MAX = 512 };

/* What a run leaves behind. */
struct sim_result {
    struct sim_stats stats;
    uint64_t trace;
    uint64_t failed_at_ms;
    uint64_t operations;        /* of members on their world: where crash_at can point */
    char failure[SIM_TEXT_MAX]; /* empty: none */
};

struct sim {
    struct sim_options o;
    struct sim_result *result;
    struct sim_stats *stats; /* of the result */
    struct events events;
    uint64_t now_us;
    uint64_t trace; /* a hash of everything that happened */
    bool calm;      /* the faults are over */
    bool draining;  /* and the clients begin nothing new */

    struct sim_shape shape;
    struct config config;
    struct member *members;  /* room for SIM_MEMBERS_MAX */
    uint32_t members_count;  /* places that ever were used */
    uint32_t founders_count; /* members of the beginning */
    struct member *current;  /* whose code is running; NULL = none */

    struct faults faults;
    struct net *net;
    struct model model;
    struct judge judge;
    struct clients *clients;
    struct overseer *overseer;
    struct registrar *registrar;
    struct rng members_rng;
    struct rng gather_rng; /* when workers gather what watchers are sent */
};

/* There is one at a time in a process; for what the linker put in the place of the machine. */
extern struct sim *sim_now;

/* One run in this process. Does not return when it fails: it fills in the result and ends the
 * process with status 1. */
void sim_run(const struct sim_options *o, struct sim_result *result);

/* The run has failed: say how and end the process. */
_Noreturn void sim_fail(const char *fmt, ...) TV_PRINTF(1, 2);

/* Fold into the trace; with --verbose the text is printed too. */
void sim_trace(struct sim *s, uint64_t what, uint64_t a, uint64_t b);
void sim_say(struct sim *s, const char *fmt, ...) TV_PRINTF(2, 3);

static inline uint64_t sim_now_ms(const struct sim *s)
{
    return s->now_us / 1000;
}

/* In some runs raft's limits are so low that they are met. */
void sim_limits(const struct sim *s, struct raft_options *o);

/* 64 bits that name these bytes: two CRCs would be no more than one. */
uint64_t sim_hash(uint64_t seed, struct slice bytes);

/* Exponentially distributed with this mean; at least 1. */
uint64_t sim_exponential(struct rng *r, uint64_t mean);
/* A generator for one purpose, from the run's seed. */
void sim_rng_init(const struct sim *s, struct rng *r, uint64_t purpose);

#endif
