/* One member: a struct node of the server's, made of the real parts, but for the loops, the sockets
 * and RocksDB; its disk, which outlives it; its clock.
 *
 * A member may die at any operation on its world (a disk request, a message, an answer, a commit):
 * at that moment what a power failure would leave is put aside, and from there on nothing that its
 * code does has an effect. Once its code has returned, it is buried. */
#ifndef TESTS_SIM_MEMBER_H
#define TESTS_SIM_MEMBER_H

#include "disk.h"
#include "judge.h"
#include "sim.h"
#include "store.h"

#include "proto/grpc.h"
#include "server/node.h"
#include "server/restore.h"
#include "server/services.h"

#include <setjmp.h>

enum { WORKS_MAX = 16 };

enum death {
    DEATH_POWER, /* writes under way are kept, lost or torn */
    DEATH_KILL,  /* writes under way are lost */
};

struct member_work {
    uv_work_t *work;
    uv_work_cb run;
    uv_after_work_cb done;
    bool cancelled;
};

struct member {
    struct sim *sim;
    uint32_t number;
    uint64_t id;
    char address[16]; /* where other members find it */
    bool up;
    bool dying;
    bool out;       /* for good: its disk lost what it had promised */
    bool start_due; /* an EVENT_START is under way */
    uint64_t life;  /* counts its starts */

    struct node node;
    struct worker worker;
    uint32_t methods_count;
    struct raft *raft;
    struct list calls; /* open at the server's side */
    struct grpc_method peer_method;

    struct sim_disk *disk;
    struct disk *disk_left; /* what the next life finds, when dying */
    struct store store;
    struct persist_store store_ops;
    bool write_fails; /* the disk was told to fail a write: the process must end by itself */
    bool out_of_room; /* it ended because its disk was full */
    jmp_buf fatal;
    bool fatal_armed;

    uint64_t paused_until_us;
    uint64_t away_us; /* how long it is down, when it dies next; 0 = as usual */
    int64_t drift_ppm;
    uint64_t clock_at_us; /* the clock stood at clock_us then */
    uint64_t clock_us;
    uint64_t jumped_at_us; /* when its clock last jumped */

    bool turn_due;
    bool disk_due;
    uv_idle_cb idle;
    bool idle_due;
    struct member_work works[WORKS_MAX];
    uint32_t works_count;

    uint64_t operations; /* on its world: disk, network, store, answers; in all its lives */
    uint64_t crash_at;   /* dies at this one; 0 = not */
    struct judge_member judged;
};

void members_new(struct sim *s);
void members_free(struct sim *s);

void member_start(struct member *m);
void member_start_in(struct member *m, uint64_t delay_us);
void member_die(struct member *m, enum death how);
/* A clean end: leadership was handed over before, if there was time. */
void member_stop(struct member *m);
/* After its code has returned: bury it when it died meanwhile. */
void member_settle(struct member *m);

/* An effect on the world is due. False: the member is dead, there is none. */
bool member_operation(struct member *m);

uint64_t member_clock_ms(const struct member *m);
void member_clock_set(struct member *m, int64_t drift_ppm, uint64_t jump_us);

void member_wake(struct member *m);
/* Run the member's code; when it dies in there, it is buried. False: it is not up any more. */
bool member_guard(struct member *m, void (*fn)(struct member *m));
/* Events. */
void member_turn(struct member *m);
void member_tick(struct member *m);
void member_disk(struct member *m);
void member_idle(struct member *m);
void member_receive(struct member *m, struct bref *frame);

/* For its struct persist, on what is its store now. */
void member_persist_options(struct member *m, struct persist_options *ret);

/* transfer.c */
void transfer_start(struct member *m);
void transfer_tick(struct member *m);
void transfer_send(struct member *m, uint64_t to);

static inline struct member *member_of_worker(struct worker *w)
{
    return CONTAINER_OF(w, struct member, worker);
}

#endif
