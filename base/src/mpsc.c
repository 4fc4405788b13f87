#include "base/mpsc.h"

#include <stddef.h>

void mpsc_init(struct mpsc *q)
{
    atomic_init(&q->stub.next, NULL);
    atomic_init(&q->head, &q->stub);
    q->tail = &q->stub;
    atomic_init(&q->wake_pending, false);
}

static void push_node(struct mpsc *q, struct mpsc_node *node)
{
    atomic_store_explicit(&node->next, NULL, memory_order_relaxed);
    struct mpsc_node *before = atomic_exchange_explicit(&q->head, node, memory_order_acq_rel);
    /* Between these two lines the chain is broken: the consumer sees "empty" and is woken below. */
    atomic_store_explicit(&before->next, node, memory_order_release);
}

bool mpsc_push(struct mpsc *q, struct mpsc_node *node)
{
    push_node(q, node);
    return !atomic_exchange(&q->wake_pending, true);
}

void mpsc_begin(struct mpsc *q)
{
    atomic_exchange(&q->wake_pending, false);
}

struct mpsc_node *mpsc_pop(struct mpsc *q)
{
    struct mpsc_node *tail = q->tail;
    struct mpsc_node *next = atomic_load_explicit(&tail->next, memory_order_acquire);
    if (tail == &q->stub) {
        if (next == NULL)
            return NULL;
        q->tail = next;
        tail = next;
        next = atomic_load_explicit(&tail->next, memory_order_acquire);
    }
    if (next != NULL) {
        q->tail = next;
        return tail;
    }
    if (tail != atomic_load_explicit(&q->head, memory_order_acquire))
        return NULL;        /* a push is half done */
    push_node(q, &q->stub); /* so that the last node can be taken out */
    next = atomic_load_explicit(&tail->next, memory_order_acquire);
    if (next == NULL)
        return NULL;
    q->tail = next;
    return tail;
}
