#include "timer.h"

#include "base/assert.h"
#include "base/mem.h"

enum { NS_PER_MS = 1000000 };

static void place(struct timer_heap *h, size_t at, struct timer *t)
{
    h->heap[at] = t;
    t->slot = at + 1;
}

static void sift_up(struct timer_heap *h, size_t at, struct timer *t)
{
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (h->heap[parent]->at_ns <= t->at_ns)
            break;
        place(h, at, h->heap[parent]);
        at = parent;
    }
    place(h, at, t);
}

static void sift_down(struct timer_heap *h, size_t at, struct timer *t)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= h->count)
            break;
        if (child + 1 < h->count && h->heap[child + 1]->at_ns < h->heap[child]->at_ns)
            child++;
        if (t->at_ns <= h->heap[child]->at_ns)
            break;
        place(h, at, h->heap[child]);
        at = child;
    }
    place(h, at, t);
}

static void on_uv_timer(uv_timer_t *uv);

static void arm(struct timer_heap *h, uint64_t at_ns)
{
    h->armed_ns = at_ns;
    uint64_t at_ms = at_ns / NS_PER_MS + 1;
    uint64_t now_ms = uv_now(h->uv.loop);
    (void)uv_timer_start(&h->uv, on_uv_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

static void on_uv_timer(uv_timer_t *uv)
{
    struct timer_heap *h = uv->data;
    uint64_t now_ns = timer_now_ns(h);
    h->armed_ns = UINT64_MAX;
    while (h->count > 0 && h->heap[0]->at_ns <= now_ns) {
        struct timer *t = h->heap[0];
        timer_clear(h, t);
        t->fn(t);
    }
    if (h->count > 0 && h->heap[0]->at_ns < h->armed_ns)
        arm(h, h->heap[0]->at_ns);
}

void timer_heap_init(struct timer_heap *h, uv_loop_t *loop)
{
    *h = (struct timer_heap){.armed_ns = UINT64_MAX};
    (void)uv_timer_init(loop, &h->uv);
    h->uv.data = h;
    uv_unref((uv_handle_t *)&h->uv);
}

void timer_heap_fini(struct timer_heap *h)
{
    ASSERT(h->count == 0);
    mem_free(h->heap);
    h->heap = NULL;
}

uint64_t timer_now_ns(const struct timer_heap *h)
{
    return uv_now(h->uv.loop) * NS_PER_MS;
}

void timer_set(struct timer_heap *h, struct timer *t, uint64_t at_ns)
{
    timer_clear(h, t);
    if (h->count == h->capacity) {
        h->capacity = h->capacity == 0 ? 64 : h->capacity * 2;
        h->heap = mem_realloc(h->heap, h->capacity * sizeof(*h->heap));
    }
    if (h->count == 0)
        uv_ref((uv_handle_t *)&h->uv);
    t->at_ns = at_ns;
    sift_up(h, h->count++, t);
    if (at_ns < h->armed_ns)
        arm(h, at_ns);
}

void timer_clear(struct timer_heap *h, struct timer *t)
{
    if (t->slot == 0)
        return;
    size_t at = t->slot - 1;
    ASSERT(at < h->count && h->heap[at] == t);
    struct timer *last = h->heap[--h->count];
    t->slot = 0;
    if (h->count == 0)
        uv_unref((uv_handle_t *)&h->uv); /* armed for nothing: no reason to keep the loop */
    if (last == t)
        return;
    if (at > 0 && last->at_ns < h->heap[(at - 1) / 2]->at_ns)
        sift_up(h, at, last);
    else
        sift_down(h, at, last);
}
