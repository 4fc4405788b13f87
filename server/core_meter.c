/* What the core counts and measures; see meter.h. */
#include "server/core_internal.h"

const struct core_meters *core_meters(const struct core *c)
{
    return &c->meters;
}

uint64_t core__clock_ns(const struct core *c)
{
    return c->o.env.clock_ns == NULL ? 0 : c->o.env.clock_ns(c->o.env.ctx);
}

/* --- apply --- */

/* A put costs about what thirty readings of the clock cost: one for each would be felt. */
static bool measured_together(enum meter_op op)
{
    return op == METER_PUT || op == METER_OTHER;
}

void core__timing_begin(struct core *c, struct apply_timing *t)
{
    *t = (struct apply_timing){.from_ns = core__clock_ns(c), .op = METER_OTHER};
}

void core__timing_end(struct core *c, struct apply_timing *t)
{
    uint32_t count = t->count[0] + t->count[1];
    if (count == 0)
        return;
    uint64_t now_ns = core__clock_ns(c);
    uint64_t each_ns = (now_ns - t->from_ns) / count;
    t->from_ns = now_ns;
    for (int ok = 0; ok < 2; ok++)
        if (t->op != METER_OTHER && t->count[ok] > 0)
            metric_observe_many(&c->meters.apply[t->op][ok], METER_APPLY_SCALE, each_ns,
                                t->count[ok]);
    if (each_ns > c->o.slow_apply_ns)
        metric_add(&c->meters.slow_applies, count);
    t->count[0] = t->count[1] = 0;
}

void core__timing_applied(struct core *c, struct apply_timing *t, uint32_t raft_kind, int err)
{
    enum meter_op op = meter_op(raft_kind);
    bool ok = err == 0 || err == TV_COMPACTED;
    if (op == t->op && measured_together(op)) {
        t->count[ok]++;
        return;
    }
    core__timing_end(c, t);
    t->op = op;
    t->count[ok]++;
    if (!measured_together(op))
        core__timing_end(c, t);
}

/* --- ticks --- */

/* A leader that is this late has not sent its heartbeats in time, to none of them. */
void core__note_tick(struct core *c)
{
    uint64_t before_ms = c->heartbeat_at_ms;
    c->heartbeat_at_ms = core__leading(c) ? c->now_ms : 0;
    if (before_ms != 0 && c->heartbeat_at_ms != 0 && c->now_ms - before_ms > 2 * c->o.heartbeat_ms)
        metric_add(&c->meters.heartbeats_late, c->links_count);
}

/* --- compactions --- */

void core__note_scrub(struct core *c, uint64_t from_ns, uint64_t versions_before)
{
    struct mvcc_stats s;
    mvcc_stats(c->mvcc, &s);
    if (s.versions < versions_before)
        metric_add(&c->meters.versions_dropped, versions_before - s.versions);
    if (c->compaction_from_ns == 0)
        c->compaction_from_ns = from_ns;
    uint64_t took_ns = core__clock_ns(c) - from_ns;
    metric_observe(&c->meters.compaction_pause, METER_COMPACTION_PAUSE_SCALE, took_ns);
    metric_observe(&c->meters.index_compaction_pause, METER_INDEX_PAUSE_SCALE, took_ns);
}

void core__note_scrub_done(struct core *c)
{
    uint64_t now_ns = core__clock_ns(c);
    metric_set(&c->meters.compacted_at_ns, now_ns);
    metric_observe(&c->meters.compaction_total, METER_COMPACTION_TOTAL_SCALE,
                   c->compaction_from_ns == 0 ? 0 : now_ns - c->compaction_from_ns);
    c->compaction_from_ns = 0;
}
