/* Deadlines of one loop: a binary heap by time behind one uv timer. Setting one that is later than
 * all others, as most are, costs one comparison; clearing never touches the uv timer.
 * Owner: the loop's thread. */
#ifndef PROTO_TRANSPORT_TIMER_H
#define PROTO_TRANSPORT_TIMER_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct timer {
    uint64_t at_ns;
    size_t slot; /* 1 + its place in the heap; 0 = not set */
    void (*fn)(struct timer *t);
};

struct timer_heap {
    uv_timer_t uv; /* its data is the heap */
    uint64_t armed_ns;
    struct timer **heap;
    size_t count;
    size_t capacity;
};

void timer_heap_init(struct timer_heap *h, uv_loop_t *loop);
/* The uv handle is being closed already. */
void timer_heap_fini(struct timer_heap *h);

/* The loop's idea of now, on the clock of clock_mono_ns(): at most 1 ms behind when a poll returns.
 */
uint64_t timer_now_ns(const struct timer_heap *h);
/* Set or move. `fn` is called once, from the loop, not before `at_ns`. */
void timer_set(struct timer_heap *h, struct timer *t, uint64_t at_ns);
/* Harmless when it is not set. */
void timer_clear(struct timer_heap *h, struct timer *t);

#endif
