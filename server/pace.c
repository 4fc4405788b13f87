#include "server/pace.h"

#include <stdbool.h>

enum { SMOOTHING = 8, FALL = 8 };

static const uint64_t PERIOD_NS = 10000000000;

void pace_init(struct pace *p)
{
    *p = (struct pace){.count = PACE_COUNT_MAX};
}

static void learn_alone(struct pace *p, uint64_t now_ns)
{
    if (now_ns >= p->period_ends_ns) {
        p->alone_ns[1] = p->alone_ns[0];
        p->alone_ns[0] = 0;
        p->period_ends_ns = now_ns + PERIOD_NS;
    }
    if (p->alone_ns[0] == 0 || p->took_ns < p->alone_ns[0])
        p->alone_ns[0] = p->took_ns;
}

static uint64_t alone_ns(const struct pace *p)
{
    bool before = p->alone_ns[0] == 0 || (p->alone_ns[1] != 0 && p->alone_ns[1] < p->alone_ns[0]);
    return p->alone_ns[before];
}

void pace_took(struct pace *p, uint64_t took_ns, uint32_t under_way, uint64_t now_ns)
{
    if (p->took_ns == 0)
        p->took_ns = took_ns;
    else
        p->took_ns += took_ns / SMOOTHING - p->took_ns / SMOOTHING;
    if (under_way <= PACE_COUNT_MIN)
        learn_alone(p, now_ns);
    uint64_t alone = alone_ns(p);
    if (alone == 0 || p->took_ns > alone + alone / 2)
        p->count -= (p->count - PACE_COUNT_MIN + FALL - 1) / FALL;
    else if (p->count < PACE_COUNT_MAX)
        p->count++;
}
