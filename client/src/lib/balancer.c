#include "balancer.h"

#include "base/assert.h"

#define NS_PER_MS UINT64_C(1000000)
#define LATENCY_FADES_NS (UINT64_C(10000) * NS_PER_MS)
#define LATENCY_UNKNOWN_NS (UINT64_C(1) * NS_PER_MS)
#define EJECTION_MIN_NS (UINT64_C(1000) * NS_PER_MS)

enum {
    FAILURES_TO_EJECT = 3,
    EJECTION_DOUBLINGS_MAX = 5,
    SLOW_START_LEAST_PERCENT = 10,
    /* The other zones must be so many times cheaper before the own one is left. */
    FAR_FACTOR = 3,
    /* Costs within this factor are alike. */
    ALIKE_FACTOR = 3,
    /* An average of fewer answers says nothing. */
    SAMPLES_MIN = 5,
    NOISE_DEVIATIONS = 2,
    /* One read in so many goes to the dearer of two: to hear whether it still is. */
    TRY_DEARER = 512,
};

/* What is faster than this is as good: a member that asks the leader first, as a follower must for
 * a linearizable read, is no worse for it. */
#define LATENCY_GOOD_NS (UINT64_C(1) * NS_PER_MS)
/* And what a neighbour must be slower by before a stranger is asked. */
#define FAR_NS (UINT64_C(10) * NS_PER_MS)
/* An election is over by then, if there is one. */
#define LEADER_LOST_NS (UINT64_C(2500) * NS_PER_MS)

void balancer_init(struct balancer *b, uint32_t subset, uint64_t slow_start_ns, uint64_t seed)
{
    *b = (struct balancer){
        .leader = BALANCER_NONE, .subset = subset, .slow_start_ns = slow_start_ns};
    rng_init(&b->rng, seed);
}

bool balancer_is_ejected(const struct balancer *b, int endpoint, uint64_t now_ns)
{
    return now_ns < b->endpoints[endpoint].ejected_until_ns;
}

/* --- choosing --- */

/* What is remembered of an endpoint that nobody asks fades, or a slow moment would be for ever. */
static uint64_t latency_now(const struct balancer_endpoint *e, uint64_t now_ns)
{
    if (e->latency_ns == 0)
        return LATENCY_UNKNOWN_NS;
    uint64_t idle_ns = e->in_flight == 0 ? now_ns - e->latency_at_ns : 0;
    return (uint64_t)((double)e->latency_ns * (double)LATENCY_FADES_NS /
                      (double)(LATENCY_FADES_NS + idle_ns));
}

static uint64_t cost(const struct balancer_endpoint *e, uint64_t now_ns)
{
    uint64_t latency_ns = latency_now(e, now_ns);
    if (latency_ns < LATENCY_GOOD_NS)
        latency_ns = LATENCY_GOOD_NS;
    return latency_ns * (e->in_flight + 1);
}

/* The one that is passed over for its cost does not have it made up for later. */
static void keep_up(struct balancer_endpoint *loser, const struct balancer_endpoint *winner)
{
    if (loser->given < winner->given)
        loser->given = winner->given;
}

/* Slower by what does not happen to the faster one by chance. */
static bool is_much_dearer(const struct balancer_endpoint *dear, uint64_t dear_cost,
                           const struct balancer_endpoint *cheap, uint64_t cheap_cost)
{
    if (dear->samples < SAMPLES_MIN || cheap->samples < SAMPLES_MIN)
        return dear->in_flight > (cheap->in_flight + 1) * ALIKE_FACTOR;
    uint64_t noise_ns = cheap->deviation_ns * NOISE_DEVIATIONS * (cheap->in_flight + 1);
    return dear_cost > cheap_cost * ALIKE_FACTOR && dear_cost - cheap_cost > noise_ns;
}

static int better_of(struct balancer *b, int one, int two, uint64_t now_ns)
{
    struct balancer_endpoint *e = &b->endpoints[one], *f = &b->endpoints[two];
    uint64_t first = cost(e, now_ns), second = cost(f, now_ns);
    if (!is_much_dearer(e, first, f, second) && !is_much_dearer(f, second, e, first))
        return e->given <= f->given ? one : two;
    keep_up(first < second ? f : e, first < second ? e : f);
    bool take_dearer = rng_below(&b->rng, TRY_DEARER) == 0;
    return (first < second) != take_dearer ? one : two;
}

/* One that has just returned is passed over at times, also when it is the cheaper. */
static bool may_start(struct balancer *b, const struct balancer_endpoint *e, uint64_t now_ns)
{
    uint64_t up_ns = now_ns - e->ready_since_ns;
    if (e->ready_since_ns == 0 || up_ns >= b->slow_start_ns)
        return true;
    uint64_t percent = up_ns * 100 / b->slow_start_ns;
    return rng_below(&b->rng, 100) <
           (percent < SLOW_START_LEAST_PERCENT ? SLOW_START_LEAST_PERCENT : percent);
}

/* The cheaper of two drawn, as a member of `set`; BALANCER_NONE when it is empty. */
static int two_choices(struct balancer *b, uint64_t set, uint64_t now_ns)
{
    int members[BALANCER_ENDPOINTS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < b->count; i++)
        if (set >> i & 1)
            members[count++] = (int)i;
    if (count == 0)
        return BALANCER_NONE;
    if (count == 1)
        return members[0];
    uint32_t first = (uint32_t)rng_below(&b->rng, count);
    uint32_t second = (uint32_t)rng_below(&b->rng, count - 1);
    second += second >= first;
    int one = members[first], two = members[second];
    int chosen = better_of(b, one, two, now_ns), other = chosen == one ? two : one;
    if (may_start(b, &b->endpoints[chosen], now_ns))
        return chosen;
    keep_up(&b->endpoints[chosen], &b->endpoints[other]);
    return other;
}

/* Those with the lowest ranks among `set`. */
static uint64_t subset_of(const struct balancer *b, uint64_t set)
{
    uint64_t chosen = 0;
    for (uint32_t n = 0; n < b->subset; n++) {
        int best = BALANCER_NONE;
        for (uint32_t i = 0; i < b->count; i++) {
            if (!(set >> i & 1) || chosen >> i & 1)
                continue;
            if (best == BALANCER_NONE || b->endpoints[i].rank < b->endpoints[best].rank)
                best = (int)i;
        }
        if (best == BALANCER_NONE)
            break;
        chosen |= UINT64_C(1) << best;
    }
    return chosen;
}

static bool is_full(const struct balancer_endpoint *e)
{
    return e->in_flight_max > 0 && e->in_flight >= e->in_flight_max;
}

/* The own zone, unless it is full or much slower. */
static int pick_zone(struct balancer *b, uint64_t set, uint64_t now_ns)
{
    uint64_t near = 0;
    for (uint32_t i = 0; i < b->count; i++)
        if (set >> i & 1 && b->endpoints[i].near)
            near |= UINT64_C(1) << i;
    if (near == 0 || near == set)
        return two_choices(b, set, now_ns);
    int own = two_choices(b, near, now_ns);
    int other = two_choices(b, set & ~near, now_ns);
    const struct balancer_endpoint *o = &b->endpoints[own], *f = &b->endpoints[other];
    if (is_full(o) && !is_full(f))
        return other;
    /* A far one that was never asked is no better than it looks. */
    bool much_cheaper = f->latency_ns != 0 && o->samples >= SAMPLES_MIN &&
                        latency_now(o, now_ns) > latency_now(f, now_ns) + FAR_NS &&
                        cost(o, now_ns) > cost(f, now_ns) * FAR_FACTOR;
    return much_cheaper ? other : own;
}

static int pick_among(struct balancer *b, uint64_t set, uint64_t now_ns)
{
    if (b->subset > 0)
        set = subset_of(b, set);
    int chosen = pick_zone(b, set, now_ns);
    if (chosen != BALANCER_NONE)
        b->endpoints[chosen].given++;
    return chosen;
}

int balancer_pick_read(struct balancer *b, uint64_t avoid, bool linearizable, uint64_t now_ns)
{
    uint64_t ready = 0, well = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct balancer_endpoint *e = &b->endpoints[i];
        if (!e->ready || (linearizable && e->learner))
            continue;
        ready |= UINT64_C(1) << i;
        if (!e->silent && !balancer_is_ejected(b, (int)i, now_ns))
            well |= UINT64_C(1) << i;
    }
    uint64_t set = well & ~avoid;
    if (set == 0)
        set = ready & ~avoid;
    if (set == 0)
        set = well != 0 ? well : ready;
    return pick_among(b, set, now_ns);
}

int balancer_pick_write(struct balancer *b, uint64_t avoid, uint64_t now_ns)
{
    int leader = b->leader;
    if (leader != BALANCER_NONE && b->endpoints[leader].ready && !(avoid >> leader & 1) &&
        !b->endpoints[leader].silent && !balancer_is_ejected(b, leader, now_ns))
        return leader;
    if (leader != BALANCER_NONE && b->leader_lost_ns != 0 && avoid == 0 &&
        now_ns < b->leader_lost_ns + LEADER_LOST_NS)
        return BALANCER_NONE;
    return balancer_pick_read(b, avoid, true, now_ns);
}

/* --- learning --- */

/* Who was away is not given at once all that the others had meanwhile. */
static void catch_up(struct balancer *b, int endpoint)
{
    for (uint32_t i = 0; i < b->count; i++)
        if (b->endpoints[i].ready)
            keep_up(&b->endpoints[endpoint], &b->endpoints[i]);
}

static void leader_is_lost(struct balancer *b, int endpoint, bool lost, uint64_t now_ns)
{
    if (endpoint != b->leader)
        return;
    if (!lost)
        b->leader_lost_ns = 0;
    else if (b->leader_lost_ns == 0)
        b->leader_lost_ns = now_ns;
}

void balancer_set_leader(struct balancer *b, int endpoint)
{
    if (endpoint != b->leader)
        b->leader_lost_ns = 0;
    b->leader = endpoint;
}

void balancer_silent(struct balancer *b, int endpoint, bool silent, uint64_t now_ns)
{
    leader_is_lost(b, endpoint, silent || !b->endpoints[endpoint].ready, now_ns);
    if (b->endpoints[endpoint].silent && !silent)
        catch_up(b, endpoint);
    b->endpoints[endpoint].silent = silent;
}

void balancer_ready(struct balancer *b, int endpoint, bool ready, uint64_t now_ns)
{
    struct balancer_endpoint *e = &b->endpoints[endpoint];
    ASSERT(endpoint >= 0 && (uint32_t)endpoint < b->count);
    if (ready == e->ready)
        return;
    e->ready = ready;
    e->silent = false;
    leader_is_lost(b, endpoint, !ready, now_ns);
    if (!ready)
        return;
    catch_up(b, endpoint);
    /* The first time is no return. */
    e->ready_since_ns = e->calls > 0 ? now_ns : 0;
    e->failures = 0;
}

void balancer_began(struct balancer *b, int endpoint)
{
    struct balancer_endpoint *e = &b->endpoints[endpoint];
    e->in_flight++;
    e->calls++;
}

/* A moving average. One slow answer says little, as anything may have held it up; so it counts as
 * so many times of what was known at most, and only the next ones tell of a slow member. */
static void learn_latency(struct balancer_endpoint *e, uint64_t sample_ns, uint64_t now_ns)
{
    enum { SAMPLE_FACTOR_MAX = 4 };
    uint64_t passed_ns = now_ns - e->latency_at_ns;
    if (sample_ns == 0)
        sample_ns = 1;
    if (e->samples < SAMPLES_MIN)
        e->samples++;
    if (e->latency_ns == 0) {
        e->latency_ns = sample_ns;
        e->deviation_ns = sample_ns / 2;
    } else {
        uint64_t off_ns =
            sample_ns > e->latency_ns ? sample_ns - e->latency_ns : e->latency_ns - sample_ns;
        e->deviation_ns = e->deviation_ns - e->deviation_ns / 8 + off_ns / 8;
        uint64_t known_ns = e->latency_ns > LATENCY_GOOD_NS ? e->latency_ns : LATENCY_GOOD_NS;
        if (sample_ns > known_ns * SAMPLE_FACTOR_MAX)
            sample_ns = known_ns * SAMPLE_FACTOR_MAX;
        /* The longer ago the last one was, the more this one counts. */
        double weight = (double)passed_ns / (double)(LATENCY_FADES_NS + passed_ns);
        double least = sample_ns > e->latency_ns ? 1.0 / 4 : 1.0 / 8;
        if (e->samples < SAMPLES_MIN)
            least = 1.0 / (e->samples + 1); /* of few, the mean */
        if (weight < least)
            weight = least;
        e->latency_ns =
            (uint64_t)((double)e->latency_ns * (1 - weight) + (double)sample_ns * weight);
        if (e->latency_ns == 0)
            e->latency_ns = 1;
    }
    e->latency_at_ns = now_ns;
}

void balancer_late(struct balancer *b, int endpoint, uint64_t latency_ns, uint64_t now_ns)
{
    if (latency_ns > b->endpoints[endpoint].latency_ns)
        learn_latency(&b->endpoints[endpoint], latency_ns, now_ns);
}

static bool eject(struct balancer *b, int endpoint, uint64_t now_ns)
{
    uint32_t others = 0;
    for (uint32_t i = 0; i < b->count; i++)
        others +=
            (int)i != endpoint && b->endpoints[i].ready && !balancer_is_ejected(b, (int)i, now_ns);
    if (others == 0)
        return false;
    struct balancer_endpoint *e = &b->endpoints[endpoint];
    uint32_t doublings =
        e->ejections < EJECTION_DOUBLINGS_MAX ? e->ejections : EJECTION_DOUBLINGS_MAX;
    e->ejections++;
    e->ejected_until_ns = now_ns + (EJECTION_MIN_NS << doublings);
    e->ready_since_ns = e->ejected_until_ns; /* comes back gently */
    e->failures = 0;
    return true;
}

bool balancer_ended(struct balancer *b, int endpoint, enum balancer_outcome outcome,
                    uint64_t latency_ns, uint64_t now_ns)
{
    struct balancer_endpoint *e = &b->endpoints[endpoint];
    ASSERT(e->in_flight > 0);
    e->in_flight--;
    if (outcome == BALANCER_GOOD) {
        if (latency_ns != 0)
            learn_latency(e, latency_ns, now_ns);
        e->failures = 0;
        if (!balancer_is_ejected(b, endpoint, now_ns))
            e->ejections = 0;
        return false;
    }
    if (outcome == BALANCER_ABANDONED)
        return false;
    e->failures++;
    e->failures_total++;
    if (e->failures < FAILURES_TO_EJECT || balancer_is_ejected(b, endpoint, now_ns))
        return false;
    return eject(b, endpoint, now_ns);
}
