/* One run:
 *
 *   1. members and clients start, faults strike, for the span that the seed says
 *   2. the faults end; within a bounded time every client must have written again
 *   3. the clients stop; within a bounded time every member has applied everything, every lease
 * that nobody keeps has ended, every watcher has seen every event
 *   4. all members hash to the same, each holds what the model holds, and again after a restart */
#include "sim.h"

#include "base/log.h"
#include "base/mem.h"
#include "call.h"
#include "client.h"
#include "member.h"
#include "net.h"
#include "operator.h"
#include "registrar.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum {
    SPAN_MS_MIN = 4000,
    SPAN_MS_MORE = 40000,
    PROGRESS_MS_MAX = 40000,
    DRAIN_MS_MAX = 60000,
    CHECK_EVERY_US = 500000,
    CRASH_AT_SPAN_MS = 6000,
};

struct sim *sim_now;

/* --- what everybody uses --- */

void sim_rng_init(const struct sim *s, struct rng *r, uint64_t purpose)
{
    rng_init(r, s->o.seed * 0x9e3779b97f4a7c15u + purpose);
}

uint64_t sim_exponential(struct rng *r, uint64_t mean)
{
    /* -ln(u) by halves and a straight piece in between: no libm, the same on any machine. */
    uint64_t u = rng_next(r) | 1;
    uint32_t halves = 0;
    while (u >> 63 == 0) {
        u <<= 1;
        halves++;
    }
    uint64_t fraction = (u << 1) >> 44; /* 20 bits of what follows the leading one */
    uint64_t ln2 = 45426;               /* of 65536 */
    uint64_t halves16 = ((uint64_t)halves << 16) + 65536 - (fraction >> 4);
    uint64_t value = (unsigned __int128)mean * halves16 * ln2 >> 32;
    return value + 1;
}

uint64_t sim_hash(uint64_t seed, struct slice bytes)
{
    const uint64_t odd = 0x9e3779b97f4a7c15u;
    uint64_t hash = (seed + 1) * odd ^ bytes.size;
    for (size_t at = 0; at < bytes.size; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        size_t left = bytes.size - at;
        memcpy(&word, bytes.data + at, left < sizeof(word) ? left : sizeof(word));
        hash = (hash ^ word) * odd;
        hash ^= hash >> 29;
    }
    hash *= odd;
    return hash ^ hash >> 32;
}

void sim_trace(struct sim *s, uint64_t what, uint64_t a, uint64_t b)
{
    const uint64_t odd = 0x9e3779b97f4a7c15u;
    s->trace = (s->trace ^ s->now_us) * odd;
    s->trace = ((s->trace ^ (s->trace >> 29)) + what) * odd;
    s->trace = ((s->trace ^ (s->trace >> 32)) + a) * odd;
    s->trace = ((s->trace ^ (s->trace >> 31)) + b) * odd;
}

static void say(struct sim *s, const char *fmt, va_list ap)
{
    printf("%10llu.%03llu ms  ", (unsigned long long)s->now_us / 1000,
           (unsigned long long)s->now_us % 1000);
    vprintf(fmt, ap);
    putchar('\n');
}

void sim_say(struct sim *s, const char *fmt, ...)
{
    if (!s->o.verbose)
        return;
    va_list ap;
    va_start(ap, fmt);
    say(s, fmt, ap);
    va_end(ap);
}

void sim_fail(const char *fmt, ...)
{
    struct sim *s = sim_now;
    va_list ap;
    va_start(ap, fmt);
    char text[SIM_TEXT_MAX];
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (s == NULL) {
        fprintf(stderr, "%s\n", text);
        _exit(2);
    }
    sim_say(s, "FAILED: %s", text);
    (void)fflush(stdout);
    s->result->failed_at_ms = sim_now_ms(s);
    s->result->trace = s->trace;
    memcpy(s->result->failure, text, sizeof(text));
    _exit(1);
}

/* --- the loop --- */

static struct member *target(struct sim *s, const struct event *e)
{
    struct member *m = &s->members[e->who];
    return m->up && (e->life == 0 || e->life == m->life) ? m : NULL;
}

/* What reaches a member that stands still waits for it. */
static bool waits(struct sim *s, const struct event *e)
{
    if (e->kind > EVENT_TO_CALLER)
        return false;
    struct member *m = &s->members[e->who];
    if (!m->up || s->now_us >= m->paused_until_us)
        return false;
    struct event later = *e;
    later.at_us = m->paused_until_us;
    events_push(&s->events, &later);
    return true;
}

static void message(struct sim *s, const struct event *e)
{
    struct member *m = target(s, e);
    if (m != NULL && net_arrives(s, e))
        member_receive(m, e->ptr);
    bref_unref(e->ptr);
}

static void check_all(struct sim *s)
{
    for (uint32_t i = 0; i < s->members_count; i++)
        if (s->members[i].up)
            judge_costly(&s->members[i]);
    events_push(&s->events,
                &(struct event){.at_us = s->now_us + CHECK_EVERY_US, .kind = EVENT_CHECK});
}

static void member_event(struct sim *s, const struct event *e)
{
    struct member *m = target(s, e);
    if (m == NULL)
        return;
    if (e->kind == EVENT_TURN)
        member_turn(m);
    else if (e->kind == EVENT_TICK)
        member_tick(m);
    else if (e->kind == EVENT_DISK)
        member_disk(m);
    else if (e->kind == EVENT_GATHERED)
        member_gathered(m);
    else
        member_idle(m);
}

static void handle(struct sim *s, const struct event *e)
{
    switch (e->kind) {
    case EVENT_TURN:
    case EVENT_TICK:
    case EVENT_DISK:
    case EVENT_IDLE:
    case EVENT_GATHERED:
        member_event(s, e);
        break;
    case EVENT_MESSAGE:
        message(s, e);
        break;
    case EVENT_TO_SERVER:
        call_to_server(s, e);
        break;
    case EVENT_TO_CALLER:
    case EVENT_TO_CLIENT:
        call_to_client(s, e);
        break;
    case EVENT_START:
        member_start(&s->members[e->who]);
        break;
    case EVENT_JOIN:
        joiner_event(&s->members[e->who], e);
        break;
    case EVENT_OPERATOR:
        operator_event(s, e);
        break;
    case EVENT_REGISTRAR:
        registrar_event(s);
        break;
    case EVENT_FAULT:
        faults_strike(s, e);
        break;
    case EVENT_HEAL:
        faults_heal(s, e);
        break;
    case EVENT_CLIENT:
        clients_event(s, e);
        break;
    case EVENT_CHECK:
        check_all(s);
        break;
    case EVENTS_COUNT:
        break;
    }
}

/* Until `until_us`, or until `done` says so. */
static bool run_until(struct sim *s, uint64_t until_us, bool (*done)(struct sim *s))
{
    struct event e;
    uint64_t look_us = s->now_us;
    while (events_pop(&s->events, &e)) {
        ASSERT(e.at_us >= s->now_us);
        if (e.at_us > until_us) {
            events_push(&s->events, &e);
            s->now_us = until_us;
            return false;
        }
        s->now_us = e.at_us;
        s->stats->events++;
        sim_trace(s, e.kind, e.who, e.a);
        if (!waits(s, &e))
            handle(s, &e);
        if (done != NULL && s->now_us >= look_us) {
            if (done(s))
                return true;
            look_us = s->now_us + 20000;
        }
    }
    sim_fail("nothing is going to happen any more");
}

/* --- the end --- */

static uint64_t calm_since_us;

static bool has_progressed(struct sim *s)
{
    return clients_progressed(s->clients, calm_since_us);
}

static bool has_drained(struct sim *s)
{
    for (uint32_t i = 0; i < s->members_count; i++) {
        const struct member *m = &s->members[i];
        if (!m->in_use)
            continue;
        if (!m->up || m->judged.given_out != s->judge.committed.last ||
            mvcc_revision(m->node.mvcc) != s->model.revision)
            return false;
    }
    for (uint32_t i = 0; i < s->model.leases_count; i++)
        if (s->model.leases[i].ended_index == 0)
            return false;
    if (model_lacks_space(&s->model) || !operator_is_content(s))
        return false;
    return clients_drained(s->clients);
}

static void explain(struct sim *s)
{
    for (uint32_t i = 0; i < s->members_count; i++) {
        const struct member *m = &s->members[i];
        sim_say(
            s,
            "member %u: %s %llx applied %llu of %llu revision %lld of %lld term %llu leader %llx",
            i,
            m->up               ? "up"
            : m->joiner != NULL ? "joins"
            : m->in_use         ? "down"
                                : "free",
            (unsigned long long)m->id, (unsigned long long)m->judged.given_out,
            (unsigned long long)s->judge.committed.last,
            m->up ? (long long)mvcc_revision(m->node.mvcc) : -1, (long long)s->model.revision,
            m->up ? (unsigned long long)raft_term(m->raft) : 0,
            m->up ? (unsigned long long)raft_leader(m->raft) : 0);
    }
}

static void explain_rest(struct sim *s)
{
    explain(s);
    operator_explain(s);
    for (uint32_t i = 0; i < s->model.leases_count; i++)
        if (s->model.leases[i].ended_index == 0)
            sim_say(s, "lease %lld of %lld s lives on", (long long)s->model.leases[i].id,
                    (long long)s->model.leases[i].ttl_s);
    if (model_lacks_space(&s->model))
        sim_say(s, "an alarm stands");
    clients_explain(s->clients);
}

/* The newest one that a change made knows no names yet. */
static bool equal_records(const struct cluster *a, const struct cluster *b)
{
    bool equal = a->id == b->id && a->members_count == b->members_count &&
                 a->removed_count == b->removed_count && raft_membership_equal(&a->raft, &b->raft);
    for (uint32_t i = 0; equal && i < a->removed_count; i++)
        equal = a->removed[i] == b->removed[i];
    for (uint32_t i = 0; equal && i < a->members_count; i++) {
        const struct cluster_member *m = &a->members[i], *n = &b->members[i];
        equal = m->id == n->id && m->learner == n->learner && m->replacement == n->replacement &&
                strcmp(m->peer_urls[0], n->peer_urls[0]) == 0;
    }
    return equal;
}

static void check_hashes(struct sim *s)
{
    struct mvcc_hash first = {0};
    bool any = false;
    for (uint32_t i = 0; i < s->members_count; i++) {
        struct node *n = &s->members[i].node;
        struct mvcc_hash h;
        if (!s->members[i].in_use)
            continue;
        int err = mvcc_hash(n->mvcc, 0, &h);
        ASSERT(err == 0);
        if (!any)
            first = h;
        any = true;
        if (h.hash != first.hash || h.revision != s->model.revision)
            sim_fail("member %u differs from others in the end", i);
        if (!equal_records(&n->cluster, &s->judge.cluster))
            sim_fail("member %u has another membership in the end", i);
        if (alarms_active(&n->applier.alarms, ALARM_NOSPACE))
            sim_fail("member %u still has an alarm in the end", i);
    }
}

static void restart_all(struct sim *s)
{
    for (uint32_t i = 0; i < s->members_count; i++) {
        struct member *m = &s->members[i];
        if (rng_below(&s->members_rng, 2) == 0) {
            member_die(m, DEATH_POWER);
            member_settle(m);
        } else {
            member_stop(m);
        }
    }
}

static void end(struct sim *s)
{
    faults_end(s);
    for (uint32_t i = 0; i < s->members_count; i++)
        member_clock_set(&s->members[i], 0, 0);
    calm_since_us = s->now_us;
    sim_say(s, "the faults are over");
    if (!run_until(s, s->now_us + PROGRESS_MS_MAX * 1000ull, has_progressed)) {
        explain(s);
        sim_fail("no progress within %d s after the faults were over", PROGRESS_MS_MAX / 1000);
    }
    s->draining = true;
    sim_say(s, "the clients stop");
    if (!run_until(s, s->now_us + DRAIN_MS_MAX * 1000ull, has_drained)) {
        explain_rest(s);
        sim_fail("members, leases or watchers are not where they should be %d s after the last "
                 "request",
                 DRAIN_MS_MAX / 1000);
    }
    check_hashes(s);
    restart_all(s);
    if (!run_until(s, s->now_us + DRAIN_MS_MAX * 1000ull, has_drained))
        sim_fail("members are not where they should be after a restart of all");
    check_hashes(s);
}

/* --- one run --- */

static void init_config(struct config *c)
{
    *c = (struct config){.heartbeat_ms = HEARTBEAT_MS,
                         .election_ms = ELECTION_MS,
                         .max_txn_ops = 128,
                         .max_request_bytes = 1536 << 10,
                         .learners_max = 3,
                         .watch_progress_interval_ms = 1000,
                         .pre_vote = true};
}

static uint64_t sometimes(struct rng *r, uint64_t value)
{
    return rng_below(r, 3) == 0 ? value : 0;
}

/* In half of the runs the log is short, so that who was away needs a snapshot. */
static void choose_snapshots(struct sim_shape *h, struct rng *r)
{
    h->snapshot_count = 1000;
    h->log_keep_bytes = 0;
    h->skip_payloads = rng_below(r, 2) == 0;
    h->piece_bytes = 200 + rng_below(r, 20000);
    h->piece_ns_per_byte = 10 + rng_below(r, 300) * rng_below(r, 30);
    if (rng_below(r, 2) == 0)
        return;
    h->snapshot_count = 1 + rng_below(r, 60);
    h->log_keep_bytes = 1 + h->segment_bytes * rng_below(r, 4);
    h->segment_bytes = 65536;
    h->flush_entries_max = 1 + rng_below(r, 40);
}

/* In half of the runs requests of everyday size are large ones. */
static void choose_pieces(struct sim_shape *h, struct rng *r)
{
    h->large_bytes = rng_below(r, 2) == 0 ? 5 + (uint32_t)rng_below(r, 30) : 0;
}

static void choose_shape(struct sim *s, struct rng *r)
{
    struct sim_shape *h = &s->shape;
    s->members_count = s->founders_count = rng_below(r, 4) == 0 ? 5 : 3;
    h->pre_vote = rng_below(r, 5) > 0;
    h->lease_reads = rng_below(r, 5) == 0;
    h->segment_bytes = 65536ull << rng_below(r, 3);
    h->flush_entries_max = 1 + rng_below(r, 400);
    h->log_window_bytes = sometimes(r, 1 + rng_below(r, 20000));
    h->msg_bytes_max = sometimes(r, 1 + rng_below(r, 4000));
    h->uncommitted_bytes_max = sometimes(r, 1000 + rng_below(r, 20000));
    h->inflight_msgs_max = (uint32_t)sometimes(r, 1 + rng_below(r, 4));
    choose_snapshots(h, r);
    h->hurry = rng_below(r, 6) == 0;
    h->strict_reconfig = rng_below(r, 3) > 0;
    h->lease_checkpoint_ms = rng_below(r, 2) == 0 ? 200 + rng_below(r, 2000) : 0;
    choose_pieces(h, r);
}

void sim_limits(const struct sim *s, struct raft_options *o)
{
    const struct sim_shape *h = &s->shape;
    o->lease_reads = h->lease_reads;
    if (h->log_window_bytes != 0) {
        o->log_window_bytes = h->log_window_bytes;
        o->log_tail_bytes = h->log_window_bytes / 2;
    }
    if (h->msg_bytes_max != 0)
        o->msg_bytes_max = h->msg_bytes_max;
    if (h->uncommitted_bytes_max != 0)
        o->uncommitted_bytes_max = h->uncommitted_bytes_max;
    if (h->inflight_msgs_max != 0)
        o->inflight_msgs_max = h->inflight_msgs_max;
}

static uint64_t choose_span_ms(struct sim *s, struct rng *r)
{
    uint64_t span = SPAN_MS_MIN + rng_below(r, SPAN_MS_MORE);
    if (s->shape.hurry)
        span /= 4;
    if (s->o.span_ms > 0)
        span = s->o.span_ms;
    return s->o.crash_at != 0 ? CRASH_AT_SPAN_MS : span;
}

static void free_event(struct event *e)
{
    if (e->kind == EVENT_MESSAGE)
        bref_unref(e->ptr);
    else if (e->kind == EVENT_TO_SERVER || e->kind == EVENT_TO_CALLER || e->kind == EVENT_TO_CLIENT)
        call_event_free(e);
}

static void fini(struct sim *s)
{
    clients_free(s->clients);
    operator_free(s->overseer);
    registrar_free(s->registrar);
    members_free(s);
    struct event e;
    while (events_pop(&s->events, &e))
        free_event(&e);
    net_free(s->net);
    model_fini(&s->model);
    judge_fini(&s->judge);
    events_fini(&s->events);
}

void sim_run(const struct sim_options *o, struct sim_result *result)
{
    struct sim *s = mem_alloc_zero(sizeof(*s));
    s->o = *o;
    s->result = result;
    s->stats = &result->stats;
    s->now_us = 1000000;
    sim_now = s;
    struct rng r;
    sim_rng_init(s, &r, 1);
    sim_rng_init(s, &s->members_rng, 10);
    sim_rng_init(s, &s->gather_rng, 15);
    choose_shape(s, &r);
    uint64_t span_ms = choose_span_ms(s, &r);
    init_config(&s->config);
    log_set_level(LOG_FATAL);
    model_init(&s->model);
    s->net = net_new(s);
    faults_plan(s);
    members_new(s);
    s->overseer = operator_new(s);
    s->registrar = registrar_new(s);
    (void)clients_new(s);
    faults_begin(s);
    if (o->crash_at != 0)
        s->members[o->seed % s->members_count].crash_at = o->crash_at;
    events_push(&s->events, &(struct event){.at_us = s->now_us, .kind = EVENT_CHECK});

    (void)run_until(s, s->now_us + span_ms * 1000, NULL);
    end(s);
    result->stats.runs = 1;
    result->stats.virtual_us = s->now_us;
    result->trace = s->trace;
    result->operations = s->members[o->seed % s->members_count].operations;
    fini(s);
    sim_now = NULL;
    mem_free(s);
}
