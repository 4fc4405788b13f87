/* Who is asked. Pure: time and randomness come in, a choice comes out; no socket is known here.
 *
 * An endpoint's cost is its latency (an average that one slow answer moves little and a few move
 * far, and that forgets with time) times what is under way there. Of two drawn at random the
 * cheaper is taken (Mitzenmacher's two choices), so that many clients do not all run to the same
 * one; where the costs are alike, the one that was given less, so that reads are even.
 *
 * Owner: the engine's thread. */
#ifndef CLIENT_LIB_BALANCER_H
#define CLIENT_LIB_BALANCER_H

#include "base/rng.h"

#include <stdbool.h>
#include <stdint.h>

enum { BALANCER_ENDPOINTS_MAX = 64, BALANCER_NONE = -1 };

enum balancer_outcome {
    BALANCER_GOOD,      /* an answer, be it a refusal */
    BALANCER_FAILED,    /* none, or one that says that the member is unwell */
    BALANCER_ABANDONED, /* we did not wait for it */
};

/* Written by the functions below only, but for the first group. */
struct balancer_endpoint {
    bool ready;             /* a connection is up */
    bool learner;           /* cannot serve linearizable reads or writes */
    bool near;              /* in the caller's zone, or zones do not matter */
    bool silent;            /* asked, and nothing came: see balancer_silent() */
    uint64_t rank;          /* for the subset: the lowest are in it */
    uint32_t in_flight_max; /* more makes it full */

    uint32_t in_flight;
    uint32_t failures; /* in a row */
    uint32_t ejections;
    uint64_t latency_ns;   /* 0: not known */
    uint64_t deviation_ns; /* how far answers are from it, in the middle */
    uint32_t samples;      /* that it was learned from, counted up to a few */
    uint64_t latency_at_ns;
    uint64_t ready_since_ns; /* 0: since the beginning */
    uint64_t ejected_until_ns;
    uint64_t calls;
    uint64_t failures_total;
    uint64_t given; /* reads, compared with the others' only */
};

struct balancer {
    struct balancer_endpoint endpoints[BALANCER_ENDPOINTS_MAX];
    uint32_t count;
    int leader;              /* BALANCER_NONE: not known */
    uint64_t leader_lost_ns; /* when it fell silent or its connection broke; 0: it did not */
    uint32_t subset;         /* 0: all */
    uint64_t slow_start_ns;
    struct rng rng;
};

void balancer_init(struct balancer *b, uint32_t subset, uint64_t slow_start_ns, uint64_t seed);

/* For a read. `avoid` is a bit for every endpoint that was asked already: taken only when there is
 * no other. BALANCER_NONE: none is ready. */
int balancer_pick_read(struct balancer *b, uint64_t avoid, bool linearizable, uint64_t now_ns);
/* For a write: the leader, or else as a linearizable read. BALANCER_NONE also while it is lost so
 * shortly that the others may not have noticed: what they passed on to it would be lost too. */
int balancer_pick_write(struct balancer *b, uint64_t avoid, uint64_t now_ns);

void balancer_ready(struct balancer *b, int endpoint, bool ready, uint64_t now_ns);
void balancer_began(struct balancer *b, int endpoint);
/* `latency_ns` 0: it says nothing. True when this made the endpoint an outlier: what waits there
 * should go elsewhere. Not more than all but one are. */
bool balancer_ended(struct balancer *b, int endpoint, enum balancer_outcome outcome,
                    uint64_t latency_ns, uint64_t now_ns);
/* One that was begun so long ago is not answered yet. */
void balancer_late(struct balancer *b, int endpoint, uint64_t latency_ns, uint64_t now_ns);
/* Nothing is heard of it, or again something is: a silent one is taken only when all are. */
void balancer_silent(struct balancer *b, int endpoint, bool silent, uint64_t now_ns);
void balancer_set_leader(struct balancer *b, int endpoint);
bool balancer_is_ejected(const struct balancer *b, int endpoint, uint64_t now_ns);

#endif
