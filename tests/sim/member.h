/* One member: a struct node of the server's, made of the real parts, but for the loops, the sockets
 * and RocksDB; its disk, which outlives it; its clock.
 *
 * struct member is a place: a machine with an address. Who the member on it is, its id, changes
 * when its data is lost, and a place whose member was removed may be used for another one:
 *
 *   free      not in_use                            member_enter(), by the operator
 *   empty     in_use, no data: it asks the others   joiner.c; then member_begin_as()
 *   a member  up or not, with an id                 data lost: empty again; removed: free again
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

/* What becomes of its data when it dies. */
enum loss {
    LOSS_NONE,
    LOSS_WIPED,     /* its disk is empty */
    LOSS_SET_ASIDE, /* it was damaged, and the member knows it */
    LOSS_REMOVED,   /* it belongs to nobody any more */
};

struct joiner;

struct member_work {
    uv_work_t *work;
    uv_work_cb run;
    uv_after_work_cb done;
    bool cancelled;
};

struct member {
    struct sim *sim;
    uint32_t number;
    uint64_t id; /* 0: it is nobody, or not yet */
    char name[2];
    char peer_url[16]; /* as its flags have it: "http://a:1" */
    bool in_use;
    bool empty;
    bool was_there; /* empty: what it had is set aside */
    bool original;  /* it was there from the beginning */
    struct joiner *joiner;
    enum loss loss;
    uint64_t leave_at_us; /* it knows that it was removed; 0 = no */
    bool up;
    bool dying;
    bool start_due; /* an EVENT_START is under way */
    uint64_t life;  /* counts its starts */

    struct node node;
    struct worker worker;
    uint32_t methods_count;
    struct raft *raft;
    struct list calls; /* open at the server's side */
    struct grpc_method peer_method;
    struct grpc_method join_method;
    uint32_t linked[SIM_MEMBERS_MAX]; /* by place: to whom there is a connection, + 1 */
    bool publishing;                  /* its name */
    bool published;

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
    uv_timer_cb gathered; /* NULL: its timer is not set */
    struct member_work works[WORKS_MAX];
    uint32_t works_count;

    uint64_t operations; /* on its world: disk, network, store, answers; in all its lives */
    uint64_t crash_at;   /* dies at this one; 0 = not */
    struct judge_member judged;
};

/* --- place.c --- */

#define SIM_TOKEN "simulation"

/* --initial-cluster of those that are there from the beginning. */
const char *members_initial(const struct sim *s);
void members_new(struct sim *s);
void members_free(struct sim *s);

struct member *member_with_id(struct sim *s, uint64_t id);
/* The place with this address or URL. */
struct member *member_at(const char *address);
/* Some place that is in use. */
uint32_t member_some(const struct sim *s, struct rng *r);

/* A machine is put to use at a free place. */
void member_enter(struct sim *s, uint32_t number);
/* The empty one knows who it is. */
void member_begin_as(struct member *m, uint64_t id, const struct cluster *c);
/* Empty, and not wanted any more. */
void member_give_up(struct member *m);
/* There is no connection from `m` to the other one. */
void member_unlink(struct member *m, const struct member *other);
/* At each tick: connections, and its name on the log. */
void place_tend(struct member *m);

/* --- member.c --- */

/* Somebody says that it was removed: it ends soon. */
void member_told_removed(struct member *m);

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
void member_gathered(struct member *m);
void member_receive(struct member *m, struct bref *frame);

/* For its struct persist, on what is its store now. */
void member_persist_options(struct member *m, struct persist_options *ret);

/* --- joiner.c --- */

void joiner_start(struct member *m);
void joiner_free(struct joiner *j);
/* It forgets what it has heard, and begins again. */
void joiner_die(struct member *m);
/* EVENT_JOIN. */
void joiner_event(struct member *m, const struct event *e);

/* --- transfer.c --- */

void transfer_start(struct member *m);
void transfer_tick(struct member *m);
void transfer_send(struct member *m, uint64_t to);

static inline struct member *member_of_worker(struct worker *w)
{
    return CONTAINER_OF(w, struct member, worker);
}

#endif
