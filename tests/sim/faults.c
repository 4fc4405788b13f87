#include "faults.h"

#include "call.h"
#include "client.h"
#include "member.h"
#include "net.h"
#include "operator.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
} kinds[FAULTS_COUNT] = {
#define X(name, text) [FAULT_##name] = {#name, text},
    FAULTS(X)
#undef X
};

struct kind {
    uint64_t interval_ms;
    uint64_t length_ms;
};

/* The shortest mean between two, the longest mean length. */
static const struct kind times[FAULTS_COUNT] = {
    [FAULT_DELAY] = {0, 300},          [FAULT_PARTITION] = {1500, 3000},
    [FAULT_ONE_WAY] = {1500, 3000},    [FAULT_FLAP] = {2000, 4000},
    [FAULT_CLIENT_LOSS] = {300, 0},    [FAULT_SLOW_READER] = {300, 2000},
    [FAULT_SLOW_DISK] = {1000, 3000},  [FAULT_STALL_DISK] = {3000, 4000},
    [FAULT_WRITE_ERROR] = {3000, 0},   [FAULT_POWER] = {1500, 0},
    [FAULT_POWER_AT] = {1500, 0},      [FAULT_POWER_ALL] = {8000, 0},
    [FAULT_KILL] = {1500, 0},          [FAULT_STOP] = {3000, 0},
    [FAULT_PAUSE] = {1500, 3000},      [FAULT_DRIFT] = {5000, 0},
    [FAULT_CLOCK_JUMP] = {5000, 5000}, [FAULT_TRANSFER] = {1000, 0},
    [FAULT_FLUSH] = {300, 0},          [FAULT_AWAY] = {2500, 8000},
    [FAULT_SYNC_ERROR] = {3000, 0},    [FAULT_READ_ERROR] = {2000, 0},
    [FAULT_FULL] = {3000, 4000},       [FAULT_ROT] = {1500, 0},
    [FAULT_LOST_WRITE] = {1500, 0},    [FAULT_MISDIRECTED] = {1500, 0},
    [FAULT_WIPE] = {3000, 4000},
};

enum {
    CHANCE_PERCENT = 40,
    DAMAGE_CHANCE_PERCENT = 12,
    MESSAGES_PERCENT_MAX = 25,
    DRIFT_PPM_MAX = 50000
};
enum { ABSENCE_AT_US = 1500000, ABSENCE_US = 1500000 };

const char *fault_name(enum fault f)
{
    return kinds[f].name;
}

const char *fault_text(enum fault f)
{
    return kinds[f].text;
}

enum fault fault_of(const char *name)
{
    int f = 0;
    while (f < FAULTS_COUNT && strcasecmp(kinds[f].name, name) != 0)
        f++;
    return (enum fault)f;
}

static bool is_damage(enum fault f)
{
    return f == FAULT_ROT || f == FAULT_LOST_WRITE || f == FAULT_MISDIRECTED;
}

static bool breaks_leases(enum fault f)
{
    return f == FAULT_PAUSE || f == FAULT_DRIFT || f == FAULT_CLOCK_JUMP;
}

void faults_plan(struct sim *s)
{
    for (int f = 0; f < FAULTS_COUNT; f++) {
        struct fault_plan *p = &s->faults.plans[f];
        sim_rng_init(s, &p->rng, 100 + (uint64_t)f);
        p->on = rng_below(&p->rng, 100) <
                (is_damage((enum fault)f) ? DAMAGE_CHANCE_PERCENT : CHANCE_PERCENT);
        p->percent = 1 + (uint32_t)rng_below(&p->rng, MESSAGES_PERCENT_MAX);
        uint64_t interval_ms = times[f].interval_ms;
        if (interval_ms > 0)
            p->interval_us = 1000 * (interval_ms + rng_below(&p->rng, 4 * interval_ms));
        if (times[f].length_ms > 0)
            p->length_us = 1000 * (1 + rng_below(&p->rng, times[f].length_ms));
        if (f == FAULT_DELAY && s->shape.lease_reads) /* what is believed for a time must meet it */
            p->length_us *= 10;
        if (f == FAULT_PIECE) /* there are many, and one is enough */
            p->percent = 1 + p->percent / 8;
        if (f == FAULT_AWAY && s->shape.log_keep_bytes != 0)
            p->on = p->on || rng_below(&p->rng, 3) > 0;
        if ((s->o.faults_off >> f & 1) != 0 || s->o.crash_at != 0)
            p->on = false;
        if (s->shape.lease_reads && breaks_leases((enum fault)f))
            p->on = false;
    }
}

static void schedule(struct sim *s, enum fault f)
{
    struct fault_plan *p = &s->faults.plans[f];
    events_push(&s->events,
                &(struct event){.at_us = s->now_us + sim_exponential(&p->rng, p->interval_us),
                                .kind = EVENT_FAULT,
                                .who = (uint32_t)f});
}

/* The one that crashes is away for a while, so that it needs a snapshot where logs are short. */
static void plan_absence(struct sim *s)
{
    events_push(&s->events, &(struct event){.at_us = s->now_us + ABSENCE_AT_US,
                                            .kind = EVENT_FAULT,
                                            .who = FAULT_AWAY,
                                            .a = s->o.seed % s->members_count + 1});
}

static void leave(struct sim *s, struct member *m)
{
    uint64_t crash_at = m->crash_at; /* it is still to come */
    m->away_us = ABSENCE_US;
    s->current = m;
    member_die(m, DEATH_KILL);
    s->current = NULL;
    member_settle(m);
    m->crash_at = crash_at;
}

void faults_begin(struct sim *s)
{
    if (s->o.crash_at != 0)
        plan_absence(s);
    for (int f = 0; f < FAULTS_COUNT; f++)
        if (s->faults.plans[f].on && s->faults.plans[f].interval_us > 0)
            schedule(s, (enum fault)f);
}

bool fault_falls(struct sim *s, enum fault f)
{
    struct fault_plan *p = &s->faults.plans[f];
    if (!p->on || s->calm || rng_below(&p->rng, 100) >= p->percent)
        return false;
    s->stats->faults[f]++;
    return true;
}

/* --- the kinds --- */

/* Who leads is left behind as often as all other ways to cut together: that is where stale reads
 * come from. */
static uint64_t choose_side(struct sim *s, struct fault_plan *p)
{
    uint64_t side = 1 + rng_below(&p->rng, (1u << s->members_count) - 2);
    bool leader_alone = rng_below(&p->rng, 2) == 0;
    for (uint32_t i = 0; i < s->members_count && leader_alone; i++) {
        const struct member *m = &s->members[i];
        if (m->up && m->raft != NULL && raft_role(m->raft) == RAFT_LEADER)
            return 1u << i;
    }
    return side;
}

static void cut_off(struct sim *s, struct fault_plan *p, bool one_way)
{
    uint64_t until = s->now_us + sim_exponential(&p->rng, p->length_us);
    uint64_t side = choose_side(s, p);
    for (uint32_t i = 0; i < s->members_count; i++) {
        for (uint32_t k = 0; k < s->members_count; k++) {
            bool crosses = (side >> i & 1) == 1 && (side >> k & 1) == 0;
            if (!crosses)
                continue;
            net_cut(s, i, k, until);
            if (!one_way)
                net_cut(s, k, i, until);
        }
    }
}

static void flap(struct sim *s, struct fault_plan *p)
{
    uint32_t from = (uint32_t)rng_below(&p->rng, s->members_count);
    uint32_t to = (uint32_t)rng_below(&p->rng, s->members_count);
    uint64_t period = 1000 * (10 + rng_below(&p->rng, 1500));
    uint64_t until = s->now_us + sim_exponential(&p->rng, p->length_us);
    net_flap(s, from, to, period, until);
    if (rng_below(&p->rng, 2) == 0)
        net_flap(s, to, from, period, until);
}

static void slow_disk(struct sim *s, struct fault_plan *p, struct member *m)
{
    m->disk->latency_us = 1000 * (1 + rng_below(&p->rng, 80));
    events_push(&s->events,
                &(struct event){.at_us = s->now_us + sim_exponential(&p->rng, p->length_us),
                                .kind = EVENT_HEAL,
                                .who = m->number});
}

static void stand_still(struct fault_plan *p, struct member *m)
{
    m->paused_until_us = m->sim->now_us + sim_exponential(&p->rng, p->length_us);
    sim_say(m->sim, "member %u stands still for %llu ms", m->number,
            (unsigned long long)(m->paused_until_us - m->sim->now_us) / 1000);
}

static void transfer(struct sim *s)
{
    for (uint32_t i = 0; i < s->members_count; i++) {
        struct member *m = &s->members[i];
        if (m->up && s->now_us >= m->paused_until_us && core_hand_over(m->node.core)) {
            s->stats->faults[FAULT_TRANSFER]++;
            member_wake(m);
        }
    }
}

static void change_clock(struct fault_plan *p, struct member *m, bool jump)
{
    if (jump)
        member_clock_set(m, m->drift_ppm, sim_exponential(&p->rng, p->length_us));
    else
        member_clock_set(m, (int64_t)rng_below(&p->rng, 2 * DRIFT_PPM_MAX) - DRIFT_PPM_MAX, 0);
}

static void crash_soon(struct fault_plan *p, struct member *m)
{
    if (m->crash_at == 0)
        m->crash_at = m->operations + 1 + rng_below(&p->rng, 300);
}

static void fill_disk(struct fault_plan *p, struct member *m)
{
    uint64_t until = m->sim->now_us + sim_exponential(&p->rng, p->length_us);
    uint64_t room = rng_below(&p->rng, 3) * m->sim->shape.segment_bytes;
    sim_disk_fill(m->disk, until, room, rng_below(&p->rng, 2) == 0);
}

/* Not where the cluster needs it: see operator.h. */
static void damage(struct sim *s, enum fault f, struct fault_plan *p)
{
    struct member *m = &s->members[rng_below(&p->rng, s->members_count)];
    if (!operator_spares(s, m))
        return;
    if (f != FAULT_ROT) {
        m->disk->at_risk = true;
        sim_disk_lie(m->disk, f, rng_below(&p->rng, 20)); /* counted when it happens */
    } else if (sim_disk_rot(m->disk)) {
        m->disk->at_risk = true;
        sim_say(s, "%s: member %u", kinds[f].text, m->number);
        s->stats->faults[f]++;
    }
}

/* The places that the flags of the first start name, members or not by now: with most of them empty
 * at one time they would take it for a first start. */
static bool founders_stay(const struct sim *s, const struct member *without)
{
    uint32_t with_data = 0;
    for (uint32_t i = 0; i < s->founders_count; i++) {
        const struct member *m = &s->members[i];
        with_data += m != without && m->loss == LOSS_NONE && !m->empty;
    }
    return without->number >= s->founders_count || with_data > s->founders_count / 2;
}

/* Nobody could tell the disk of one that never said its name from that of one which never began. */
static bool may_wipe(const struct sim *s, const struct member *m)
{
    const struct cluster_member *self = cluster_find(&m->node.cluster, m->id);
    return self != NULL && self->started && operator_spares(s, m) && founders_stay(s, m);
}

static void wipe(struct fault_plan *p, struct member *m)
{
    m->loss = LOSS_WIPED;
    m->away_us = rng_below(&p->rng, 2) == 0 ? 0 : 1 + rng_below(&p->rng, 2 * p->length_us);
    member_die(m, DEATH_POWER);
}

void faults_in_install(struct member *m)
{
    enum { STEPS = 10 };
    struct fault_plan *p = &m->sim->faults.plans[FAULT_POWER_AT];
    if (p->on && !m->sim->calm && m->crash_at == 0 && rng_below(&p->rng, 2) == 0)
        m->crash_at = m->operations + 1 + rng_below(&p->rng, STEPS);
}

static void on_member(struct sim *s, enum fault f, struct fault_plan *p, struct member *m)
{
    switch (f) {
    case FAULT_CLIENT_LOSS:
        calls_break(m, 1 + (uint32_t)rng_below(&p->rng, 100));
        break;
    case FAULT_SLOW_DISK:
        slow_disk(s, p, m);
        break;
    case FAULT_STALL_DISK:
        m->disk->stalled_until_us = s->now_us + sim_exponential(&p->rng, p->length_us);
        break;
    case FAULT_WRITE_ERROR:
        m->write_fails = true;
        disk_mem_fail_write_after(m->disk->mem, rng_below(&p->rng, 20), EIO);
        break;
    case FAULT_SYNC_ERROR:
        m->write_fails = true;
        disk_mem_fail_sync_after(m->disk->mem, rng_below(&p->rng, 20), EIO);
        break;
    case FAULT_READ_ERROR:
        m->disk->reads_left = rng_below(&p->rng, 30);
        break;
    case FAULT_FULL:
        fill_disk(p, m);
        break;
    case FAULT_POWER:
        member_die(m, DEATH_POWER);
        break;
    case FAULT_AWAY:
        m->away_us = 1 + rng_below(&p->rng, 2 * p->length_us);
        member_die(m, DEATH_KILL);
        break;
    case FAULT_KILL:
        member_die(m, DEATH_KILL);
        break;
    case FAULT_POWER_AT:
        crash_soon(p, m);
        break;
    case FAULT_STOP:
        member_stop(m);
        break;
    case FAULT_PAUSE:
        stand_still(p, m);
        break;
    case FAULT_DRIFT:
    case FAULT_CLOCK_JUMP:
        change_clock(p, m, f == FAULT_CLOCK_JUMP);
        break;
    case FAULT_WIPE:
        wipe(p, m);
        break;
    case FAULT_FLUSH:
        persist_request_flush(m->node.persist);
        break;
    default:
        break;
    }
    member_settle(m);
}

static void on_all(struct sim *s, enum fault f, struct fault_plan *p)
{
    switch (f) {
    case FAULT_PARTITION:
    case FAULT_ONE_WAY:
        cut_off(s, p, f == FAULT_ONE_WAY);
        break;
    case FAULT_FLAP:
        flap(s, p);
        break;
    case FAULT_SLOW_READER:
        clients_stop_reading(s->clients, &p->rng, p->length_us);
        break;
    case FAULT_POWER_ALL:
        for (uint32_t i = 0; i < s->members_count; i++) {
            member_die(&s->members[i], DEATH_POWER);
            member_settle(&s->members[i]);
        }
        break;
    default:
        break;
    }
}

static bool is_of_all(enum fault f)
{
    return f == FAULT_PARTITION || f == FAULT_ONE_WAY || f == FAULT_FLAP ||
           f == FAULT_SLOW_READER || f == FAULT_POWER_ALL;
}

void faults_strike(struct sim *s, const struct event *e)
{
    enum fault f = (enum fault)e->who;
    struct fault_plan *p = &s->faults.plans[f];
    if (s->calm)
        return;
    if (e->a != 0) {
        leave(s, &s->members[e->a - 1]);
        return;
    }
    schedule(s, f);
    sim_trace(s, 4, f, 0);
    if (f == FAULT_TRANSFER) {
        transfer(s);
    } else if (is_damage(f)) {
        damage(s, f, p);
    } else if (is_of_all(f)) {
        sim_say(s, "%s", kinds[f].text);
        s->stats->faults[f]++;
        on_all(s, f, p);
    } else {
        struct member *m = &s->members[rng_below(&p->rng, s->members_count)];
        if (m->joiner != NULL && (f == FAULT_KILL || f == FAULT_POWER))
            joiner_die(m);
        if (!m->up || (f == FAULT_WIPE && !may_wipe(s, m)))
            return;
        sim_say(s, "%s: member %u", kinds[f].text, m->number);
        if (f != FAULT_POWER_AT && f != FAULT_READ_ERROR) /* counted when they happen */
            s->stats->faults[f]++;
        s->current = m;
        on_member(s, f, p, m);
        s->current = NULL;
    }
}

void faults_heal(struct sim *s, const struct event *e)
{
    s->members[e->who].disk->latency_us = 80;
}

void faults_end(struct sim *s)
{
    s->calm = true;
    net_heal(s);
    for (uint32_t i = 0; i < s->members_count; i++) {
        struct member *m = &s->members[i];
        m->paused_until_us = 0;
        if (s->o.crash_at == 0)
            m->crash_at = 0;
        sim_disk_heal(m->disk);
        member_start_in(m, 1000);
    }
}
