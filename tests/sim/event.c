#include "event.h"

#include "base/mem.h"

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

void events_fini(struct events *q)
{
    mem_free(q->heap);
}

void events_push(struct events *q, const struct event *e)
{
    if (q->count == q->capacity) {
        q->capacity = q->capacity == 0 ? 256 : q->capacity * 2;
        q->heap = mem_realloc(q->heap, q->capacity * sizeof(*q->heap));
    }
    struct event added = *e;
    added.seq = q->seq++;
    uint32_t at = q->count++;
    while (at > 0 && before(&added, &q->heap[(at - 1) / 2])) {
        q->heap[at] = q->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    q->heap[at] = added;
}

bool events_pop(struct events *q, struct event *ret)
{
    if (q->count == 0)
        return false;
    *ret = q->heap[0];
    struct event last = q->heap[--q->count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= q->count)
            break;
        if (child + 1 < q->count && before(&q->heap[child + 1], &q->heap[child]))
            child++;
        if (!before(&q->heap[child], &last))
            break;
        q->heap[at] = q->heap[child];
        at = child;
    }
    if (q->count > 0)
        q->heap[at] = last;
    return true;
}
