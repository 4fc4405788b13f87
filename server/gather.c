#include "server/gather.h"

static const uint64_t RESPONSE_NS = 1000000000 / GATHER_RESPONSES_PER_SECOND;
static const uint64_t AHEAD_NS = 10000000, AHEAD_NS_MAX = 20000000;

bool gather_after(struct gather *g, uint64_t responses, uint64_t now_ns)
{
    uint64_t passed_ns = now_ns - g->at_ns;
    g->at_ns = now_ns;
    g->ahead_ns -= passed_ns < g->ahead_ns ? passed_ns : g->ahead_ns;
    uint64_t room = (AHEAD_NS_MAX - g->ahead_ns) / RESPONSE_NS;
    g->ahead_ns += RESPONSE_NS * (responses < room ? responses : room);
    return responses > 0 && g->ahead_ns > AHEAD_NS;
}
