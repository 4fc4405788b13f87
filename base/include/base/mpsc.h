/* An unbounded intrusive queue, many producers to one consumer, wait-free to push (Vyukov's). What
 * bounds it is what its producers may have outstanding; they state that.
 *
 * mpsc_push() reports whether the consumer may be asleep: the caller then wakes it, once per batch.
 */
#ifndef BASE_MPSC_H
#define BASE_MPSC_H

#include <stdatomic.h>
#include <stdbool.h>

struct mpsc_node {
    _Atomic(struct mpsc_node *) next;
};

struct mpsc {
    _Atomic(struct mpsc_node *) head; /* producers */
    struct mpsc_node *tail;           /* consumer */
    struct mpsc_node stub;
    _Atomic bool wake_pending;
};

void mpsc_init(struct mpsc *q);
/* Thread: any. True when the caller must wake the consumer (uv_async_send or similar). */
bool mpsc_push(struct mpsc *q, struct mpsc_node *node);
/* Thread: consumer. Call once per wake-up before popping, so that later pushes wake again. */
void mpsc_begin(struct mpsc *q);
/* Thread: consumer. NULL when empty (or when a push is half done: it will wake us again). */
struct mpsc_node *mpsc_pop(struct mpsc *q);

#endif
