#include "timer.h"

#include "base/assert.h"

enum { NS_PER_MS = 1000000, LEVEL_BITS = 8, SLOT_MASK = TIMER_SLOTS - 1 };

static bool is_set(const struct timer *t)
{
    return t->link.next != NULL && list_is_linked(&t->link);
}

static uint32_t slot_of(uint64_t ms, int level)
{
    return (uint32_t)(ms >> (LEVEL_BITS * level)) & SLOT_MASK;
}

static void on_uv_timer(uv_timer_t *uv);

static void arm(struct timer_wheel *w, uint64_t at_ms)
{
    uint64_t now_ms = uv_now(w->uv.loop);
    w->armed_ms = at_ms;
    (void)uv_timer_start(&w->uv, on_uv_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

/* Put `t` where it belongs as seen from next_ms; returns when that slot needs attention. */
static uint64_t place(struct timer_wheel *w, struct timer *t)
{
    const uint64_t span_ms = UINT64_C(1) << (LEVEL_BITS * TIMER_LEVELS);
    uint64_t at_ms = t->at_ns / NS_PER_MS + (t->at_ns % NS_PER_MS != 0);
    if (at_ms < w->next_ms)
        at_ms = w->next_ms;
    if (at_ms - w->next_ms >= span_ms)
        at_ms = w->next_ms + span_ms - 1; /* placed anew when it gets there */
    int level = 0;
    while (at_ms - w->next_ms >= UINT64_C(1) << (LEVEL_BITS * (level + 1)))
        level++;
    uint32_t slot = slot_of(at_ms, level);
    list_push_back(&w->slots[level][slot], &t->link);
    w->used[level][slot / 64] |= UINT64_C(1) << (slot % 64);
    return at_ms >> (LEVEL_BITS * level) << (LEVEL_BITS * level);
}

static void take_slot(struct timer_wheel *w, int level, uint32_t slot, struct list *into)
{
    list_splice_back(into, &w->slots[level][slot]);
    w->used[level][slot / 64] &= ~(UINT64_C(1) << (slot % 64));
}

/* Deal out the slots of the levels above that begin at next_ms. */
static void cascade(struct timer_wheel *w)
{
    for (int level = 1; level < TIMER_LEVELS && slot_of(w->next_ms, level - 1) == 0; level++) {
        struct list timers;
        list_init(&timers);
        take_slot(w, level, slot_of(w->next_ms, level), &timers);
        while (!list_is_empty(&timers)) {
            struct timer *t = CONTAINER_OF(timers.next, struct timer, link);
            list_remove(&t->link);
            (void)place(w, t);
        }
    }
}

/* How many slots from `first` on, around the wheel, until one that is not empty; -1 when all are.
 */
static int next_used(struct timer_wheel *w, int level, uint32_t first)
{
    for (uint32_t i = 0; i < TIMER_SLOTS; i++) {
        uint32_t slot = (first + i) & SLOT_MASK;
        uint64_t word = w->used[level][slot / 64] >> (slot % 64);
        if (word == 0) {
            i += 63 - slot % 64; /* the rest of the word */
            continue;
        }
        uint32_t skip = (uint32_t)__builtin_ctzll(word);
        i += skip;
        slot = (slot + skip) & SLOT_MASK;
        if (i >= TIMER_SLOTS)
            break;
        if (!list_is_empty(&w->slots[level][slot]))
            return (int)i;
        w->used[level][slot / 64] &= ~(UINT64_C(1) << (slot % 64)); /* all were cleared */
    }
    return -1;
}

/* When the wheel must turn next. */
static uint64_t next_event_ms(struct timer_wheel *w)
{
    uint64_t event_ms = UINT64_MAX;
    for (int level = 0; level < TIMER_LEVELS; level++) {
        int shift = LEVEL_BITS * level;
        uint64_t block = w->next_ms >> shift;
        /* A block that has begun was dealt out: what is in its slot is a turn of the wheel away. */
        bool begun = block << shift != w->next_ms;
        int distance = next_used(w, level, (uint32_t)(block + begun) & SLOT_MASK);
        if (distance < 0)
            continue;
        uint64_t at_ms = (block + begun + (uint64_t)distance) << shift;
        event_ms = at_ms < event_ms ? at_ms : event_ms;
    }
    return event_ms;
}

/* Run the slots up to and including `now_ms`. */
static void turn(struct timer_wheel *w, uint64_t now_ms)
{
    struct list due;
    list_init(&due);
    while (w->next_ms <= now_ms) {
        uint64_t event_ms = next_event_ms(w);
        if (event_ms > now_ms) {
            w->next_ms = now_ms + 1;
            break;
        }
        w->next_ms = event_ms;
        cascade(w);
        take_slot(w, 0, slot_of(w->next_ms, 0), &due);
        w->next_ms++;
    }
    while (!list_is_empty(&due)) {
        struct timer *t = CONTAINER_OF(due.next, struct timer, link);
        /* One too far away for the wheel comes around before its time. */
        if (t->at_ns > now_ms * NS_PER_MS) {
            list_remove(&t->link);
            (void)place(w, t);
            continue;
        }
        timer_clear(w, t);
        t->fn(t);
    }
}

static void on_uv_timer(uv_timer_t *uv)
{
    struct timer_wheel *w = uv->data;
    w->armed_ms = UINT64_MAX;
    turn(w, uv_now(uv->loop));
    uint64_t event_ms = next_event_ms(w);
    if (event_ms < w->armed_ms)
        arm(w, event_ms);
}

void timer_wheel_init(struct timer_wheel *w, uv_loop_t *loop)
{
    *w = (struct timer_wheel){.armed_ms = UINT64_MAX};
    for (int level = 0; level < TIMER_LEVELS; level++)
        for (int slot = 0; slot < TIMER_SLOTS; slot++)
            list_init(&w->slots[level][slot]);
    (void)uv_timer_init(loop, &w->uv);
    w->uv.data = w;
    uv_unref((uv_handle_t *)&w->uv);
}

uint64_t timer_now_ns(const struct timer_wheel *w)
{
    return uv_now(w->uv.loop) * NS_PER_MS;
}

uint64_t timer_fresh_now_ns(struct timer_wheel *w)
{
    uv_update_time(w->uv.loop);
    return timer_now_ns(w);
}

void timer_set(struct timer_wheel *w, struct timer *t, uint64_t at_ns)
{
    timer_clear(w, t);
    if (w->count++ == 0) {
        uv_ref((uv_handle_t *)&w->uv);
        uint64_t now_ms = uv_now(w->uv.loop);
        w->next_ms = now_ms > w->next_ms ? now_ms : w->next_ms;
    }
    t->at_ns = at_ns;
    uint64_t event_ms = place(w, t);
    if (event_ms < w->armed_ms)
        arm(w, event_ms);
}

void timer_clear(struct timer_wheel *w, struct timer *t)
{
    if (!is_set(t))
        return;
    list_remove(&t->link);
    ASSERT(w->count > 0);
    if (--w->count == 0)
        uv_unref((uv_handle_t *)&w->uv); /* armed for nothing: no reason to keep the loop */
}
