/* What is to happen, by virtual time; what falls on one microsecond happens in the order in which
 * it was scheduled. */
#ifndef TESTS_SIM_EVENT_H
#define TESTS_SIM_EVENT_H

#include "base/assert.h"

#include <stdbool.h>
#include <stdint.h>

enum event_kind {
    EVENT_TURN,      /* a member's loop goes round */
    EVENT_TICK,      /* a member's timer */
    EVENT_DISK,      /* a member's disk has done something */
    EVENT_IDLE,      /* a member's loop has an idle handle to run */
    EVENT_GATHERED,  /* it looks what was published meanwhile, for watchers */
    EVENT_MESSAGE,   /* a frame reaches a member */
    EVENT_TO_SERVER, /* a parcel of a call */
    EVENT_TO_CALLER, /* back to a member that made it */
    EVENT_TO_CLIENT, /* or to a client */
    EVENT_START,     /* a member starts again */
    EVENT_JOIN,      /* a place without data looks at what the others said */
    EVENT_OPERATOR,  /* whoever adds and removes members has a turn */
    EVENT_REGISTRAR, /* and whoever adds and removes users */
    EVENT_FAULT,     /* the next fault of a kind */
    EVENT_HEAL,      /* the end of one */
    EVENT_CLIENT,    /* a client's turn; `a` says what for */
    EVENT_CHECK,     /* the costly invariants */
    EVENTS_COUNT,
};

struct event {
    uint64_t at_us;
    uint64_t seq;
    enum event_kind kind;
    uint32_t who;  /* a member, a client, a kind of fault */
    uint64_t life; /* of that member or client: void if it has another by then; 0 = any */
    void *ptr;
    uint64_t a;
};

/* A binary heap. */
struct events {
    struct event *heap;
    uint32_t count;
    uint32_t capacity;
    uint64_t seq;
};

void events_fini(struct events *q);
void events_push(struct events *q, const struct event *e);
bool events_pop(struct events *q, struct event *ret);

#endif
