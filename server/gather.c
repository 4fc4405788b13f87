#include "server/gather.h"

static const uint64_t MS_NS = 1000000;
static const uint64_t RESPONSE_NS = 1000000000 / GATHER_RESPONSES_PER_SECOND;
static const uint64_t AHEAD_NS = 10000000, AHEAD_NS_MAX = 20000000;

/* In which so many more came that it would be GATHER_RESPONSES. */
static uint32_t wait_ms(uint64_t responses, uint64_t passed_ns)
{
    if (responses >= GATHER_RESPONSES)
        return GATHER_MS_MIN;
    if (passed_ns > GATHER_MS_MAX * MS_NS)
        passed_ns = GATHER_MS_MAX * MS_NS;
    uint64_t ms = passed_ns * GATHER_RESPONSES / responses / MS_NS;
    if (ms < GATHER_MS_MIN)
        return GATHER_MS_MIN;
    return ms < GATHER_MS_MAX ? (uint32_t)ms : GATHER_MS_MAX;
}

uint32_t gather_after(struct gather *g, uint64_t responses, uint64_t now_ns)
{
    uint64_t passed_ns = now_ns - g->at_ns;
    g->at_ns = now_ns;
    g->ahead_ns -= passed_ns < g->ahead_ns ? passed_ns : g->ahead_ns;
    uint64_t room = (AHEAD_NS_MAX - g->ahead_ns) / RESPONSE_NS;
    g->ahead_ns += RESPONSE_NS * (responses < room ? responses : room);
    return responses > 0 && g->ahead_ns > AHEAD_NS ? wait_ms(responses, passed_ns) : 0;
}
