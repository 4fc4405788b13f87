/* Deadlines of one loop: a hierarchical timing wheel (Varghese and Lauck, 1987) behind one uv
 * timer. Nearly every deadline is cleared long before its time, so setting and clearing cost a list
 * operation each. Four levels of 256 slots of 1 ms, 256 ms, 65.5 s and 4.7 h; a level's slot is
 * dealt out to the level below when its time begins. Owner: the loop's thread. */
#ifndef PROTO_TRANSPORT_TIMER_H
#define PROTO_TRANSPORT_TIMER_H

#include "base/list.h"

#include <stdint.h>
#include <uv.h>

enum { TIMER_LEVELS = 4, TIMER_SLOTS = 256 };

struct timer {
    struct list link; /* of its slot; zeroed or linked to itself: not set */
    uint64_t at_ns;
    void (*fn)(struct timer *t);
};

struct timer_wheel {
    uv_timer_t uv; /* its data is the wheel */
    uint64_t armed_ms;
    uint64_t next_ms; /* the first millisecond whose slot was not run yet */
    uint64_t count;
    struct list slots[TIMER_LEVELS][TIMER_SLOTS];
    uint64_t used[TIMER_LEVELS][TIMER_SLOTS / 64]; /* 0: the slot is empty */
};

void timer_wheel_init(struct timer_wheel *w, uv_loop_t *loop);

/* The loop's idea of now, on the clock of clock_mono_ns(): at most 1 ms behind when a poll returns.
 */
uint64_t timer_now_ns(const struct timer_wheel *w);
/* Asked of the system: the loop's own clock stands still while the thread does, for seconds when
 * the process is stopped or something blocks it. */
uint64_t timer_fresh_now_ns(struct timer_wheel *w);
/* Set or move. `fn` is called once, from the loop, not before `at_ns`. */
void timer_set(struct timer_wheel *w, struct timer *t, uint64_t at_ns);
/* Harmless when it is not set. */
void timer_clear(struct timer_wheel *w, struct timer *t);

#endif
