#include "member.h"

#include "base/err.h"
#include "base/mem.h"
#include "call.h"
#include "net.h"

#include <stdio.h>
#include <string.h>

enum {
    TURN_DELAY_US_MAX = 30,
    IDLE_DELAY_US = 20,
    LEAVE_AFTER_US = 1000000,
};

/* --- its clock --- */

static uint64_t clock_us(const struct member *m)
{
    int64_t passed = (int64_t)(m->sim->now_us - m->clock_at_us);
    return m->clock_us + (uint64_t)(passed + passed * m->drift_ppm / 1000000);
}

uint64_t member_clock_ms(const struct member *m)
{
    return clock_us(m) / 1000;
}

void member_clock_set(struct member *m, int64_t drift_ppm, uint64_t jump_us)
{
    m->clock_us = clock_us(m) + jump_us;
    m->clock_at_us = m->sim->now_us;
    m->drift_ppm = drift_ppm;
    if (jump_us > 0)
        m->jumped_at_us = m->sim->now_us;
}

/* --- life and death --- */

static void put_aside(struct member *m, enum death how)
{
    uint64_t seed = rng_next(&m->sim->members_rng);
    m->disk_left = how == DEATH_POWER ? disk_mem_crashed_clone(m->disk->mem, seed)
                                      : disk_mem_clone(m->disk->mem, seed);
}

void member_die(struct member *m, enum death how)
{
    if (!m->up || m->dying)
        return;
    sim_say(m->sim, "member %u dies (%s)", m->number, how == DEATH_POWER ? "power" : "kill");
    sim_trace(m->sim, 1, m->number, how);
    put_aside(m, how);
    m->dying = true;
    m->crash_at = 0;
}

bool member_operation(struct member *m)
{
    if (m->dying)
        return false;
    m->operations++;
    if (m->crash_at != 0 && m->operations >= m->crash_at) {
        m->sim->stats->faults[FAULT_POWER_AT]++;
        member_die(m, DEATH_POWER);
        return false;
    }
    return true;
}

static void push(struct member *m, enum event_kind kind, uint64_t delay_us)
{
    events_push(&m->sim->events, &(struct event){.at_us = m->sim->now_us + delay_us,
                                                 .kind = kind,
                                                 .who = m->number,
                                                 .life = m->life});
}

void member_wake(struct member *m)
{
    if (m->turn_due)
        return;
    m->turn_due = true;
    push(m, EVENT_TURN, 1 + rng_below(&m->sim->members_rng, TURN_DELAY_US_MAX));
}

/* --- what the core asks of the world --- */

static void env_send(void *ctx, const struct raft_msg *msg)
{
    struct member *m = ctx;
    if (!member_operation(m))
        return;
    judge_send(m, msg);
    net_send(m, msg);
}

static void env_send_question(void *ctx, uint64_t to, const struct core_question *msg)
{
    struct member *m = ctx;
    if (member_operation(m))
        net_send_lease(m, to, msg);
}

static void env_send_snapshot(void *ctx, uint64_t to)
{
    struct member *m = ctx;
    if (member_operation(m))
        transfer_send(m, to);
}

static void env_send_report(void *ctx, uint64_t to, const struct agree_report *r)
{
    struct member *m = ctx;
    if (member_operation(m))
        net_send_report(m, to, r);
}

static void env_answer(void *ctx, struct request *req)
{
    (void)ctx;
    if (req->worker == NULL)
        req->answered(NULL, req); /* the node's own */
    else
        worker_answer(req);
}

static void env_members_changed(void *ctx)
{
    struct member *m = ctx;
    if (cluster_was_removed(&m->node.cluster, m->id))
        member_told_removed(m);
}

static void env_damaged(void *ctx, const char *what)
{
    struct member *m = ctx;
    if (!m->dying && !m->disk->damaged)
        sim_fail("member %u takes its disk for damaged: %s", m->number, what);
    m->loss = LOSS_SET_ASIDE;
}

static void env_published(void *ctx)
{
    struct worker *w = &((struct member *)ctx)->worker;
    /* At times as if watchers had been sent much: the next events are gathered for them. */
    if (rng_below(&((struct member *)ctx)->sim->gather_rng, 4) == 0)
        (void)gather_after(&w->gather, 1000, worker_now_ns(w));
    worker_publish(w);
}

static void env_wake(void *ctx)
{
    member_wake(ctx);
}

static void env_wake_in(void *ctx, uint64_t ms)
{
    push(ctx, EVENT_TURN, 1000 * ms);
}

static uint64_t env_clock_ns(void *ctx)
{
    return ((struct member *)ctx)->sim->now_us * 1000;
}

static void on_log_durable(void *ctx, uint64_t seq)
{
    struct member *m = ctx;
    judge_durable(m, seq);
    core_log_written(m->node.core, seq);
    member_wake(m);
}

/* --- its log --- */

struct reading {
    struct member *member;
    uint64_t payload_from_index;
    struct wal_replay inner;
    struct judge_log log;
    struct wal_hard_state hs;
};

static int on_read_entry(void *ctx, const struct wal_entry *e)
{
    struct reading *r = ctx;
    struct judge_entry je = e->log_index < r->payload_from_index
                                ? judge_entry_known(r->member, e->term, e->log_index)
                                : judge_entry_of(e->term, e->type, e->data);
    judge_log_set(&r->log, e->log_index, &je);
    return r->inner.entry(r->inner.ctx, e);
}

/* What is cut away, or came as a snapshot, was committed. */
static void on_read_start(void *ctx, uint64_t log_index, uint64_t term)
{
    struct reading *r = ctx;
    judge_log_start(&r->member->sim->judge, &r->log, log_index);
    (void)term; /* looked at when all is read: entries may replace what is before the first */
    r->inner.start(r->inner.ctx, log_index, term);
}

static void on_read_hard_state(void *ctx, const struct wal_hard_state *hs)
{
    struct reading *r = ctx;
    r->hs = *hs;
    r->inner.hard_state(r->inner.ctx, hs);
}

/* The disk has lost, or changed, what was durable. A log that says so names the place. One that
 * cannot know, because nothing later spoke of what was lost as durable, begins to be believed: the
 * member must not, and nobody but us can know. */
static void set_aside(struct member *m, const char *err_text)
{
    if (m->dying)
        return;
    if (err_text != NULL && strstr(err_text, "offset ") == NULL)
        sim_fail("member %u: its log does not say where it is damaged: %s", m->number, err_text);
    sim_say(m->sim, "member %u sets its data aside: %s", m->number,
            err_text != NULL ? err_text : "its disk has forgotten the last of its log");
    if (err_text != NULL)
        m->sim->stats->damage_found++;
    else
        m->sim->stats->damage_beyond_log++;
    m->loss = LOSS_SET_ASIDE;
}

/* A snapshot took the store's place, and the log does not know yet: it counts as if it began behind
 * it, which is what restore_finish_install() is going to make true. */
static void note_installed(struct member *m, struct judge_log *log)
{
    uint64_t installed = store_installed_index(&m->store);
    const struct lsm_meta *meta = store_meta(&m->store);
    if (installed == 0 || installed != meta->applied_index)
        return;
    if (installed > log->last || log->entries[installed].term != meta->applied_term)
        judge_log_start(&m->sim->judge, log, installed);
}

/* 0, or why it does not start. */
static int check_log(struct member *m, struct reading *r, struct restore *restore)
{
    const struct lsm_meta *meta = store_meta(&m->store);
    if (m->dying)
        return TV_STOPPED;
    note_installed(m, &r->log);
    if (m->disk->damaged && judge_has_lost(m, &r->log, &r->hs)) {
        if (m->disk->attested)
            sim_fail("member %u takes damage for a torn tail: its log ends at %llu, it was durable "
                     "up to %llu",
                     m->number, (unsigned long long)r->log.last,
                     (unsigned long long)m->judged.durable_at_end);
        set_aside(m, NULL);
        return TV_ECORRUPT;
    }
    judge_restored(m, &r->log, &r->hs, meta->applied_index);
    restore_finish_install(restore, m->node.wal, store_installed_index(&m->store),
                           meta->applied_term);
    if (restore_check(restore, m->node.wal) != 0 && !m->dying)
        sim_fail("member %u: its log does not meet its store", m->number);
    return 0;
}

/* Nothing is wrong but what we did to the disk. */
static void check_refusal(struct member *m, int err, const char *err_text)
{
    if (m->dying || m->write_fails)
        return;
    if (err == TV_ECORRUPT && m->disk->damaged)
        set_aside(m, err_text);
    else if (err == TV_ENOSPC && m->disk->capacity_bytes != 0)
        m->sim->stats->starts_without_room++;
    else if (err != TV_EIO || !m->disk->read_failed)
        sim_fail("member %u does not open its log: %s", m->number, err_text);
}

static int open_log(struct member *m, struct restore *restore)
{
    char err_text[256] = "";
    struct wal_options o;
    wal_options_init(&o);
    o.disk = &m->disk->d;
    o.segment_size_bytes = m->sim->shape.segment_bytes;
    o.segments_keep_max = 1;
    o.payload_from_index = m->sim->shape.skip_payloads ? restore->applied_index + 1 : 0;
    o.cluster_id = m->node.cluster_id;
    o.member_id = m->id;
    o.salt = 1 + rng_next(&m->sim->members_rng);
    struct reading r = {
        .member = m, .payload_from_index = o.payload_from_index, .inner = restore_replay(restore)};
    struct wal_replay replay = {.ctx = &r,
                                .entry = on_read_entry,
                                .hard_state = on_read_hard_state,
                                .start = on_read_start};
    int err = wal_open(&o, &replay, &m->node.wal, err_text, sizeof(err_text));
    if (err == 0)
        err = check_log(m, &r, restore);
    else
        check_refusal(m, err, err_text);
    mem_free(r.log.entries);
    return err;
}

/* --- start --- */

/* Who the members are, as its store says. */
static void load_members(struct member *m)
{
    struct node *n = &m->node;
    cluster_fini(&n->cluster);
    int err = cluster_decode(store_get(&m->store, STATE_RECORD_MEMBERS), &n->cluster);
    ASSERT(err == 0);
}

static void open_store(struct member *m)
{
    struct node *n = &m->node;
    int err = install_recover(&n->place);
    ASSERT(err == 0);
    if (!n->place.exists(n->place.ctx, INSTALL_STORE))
        sim_fail("member %u has no store any more", m->number);
    load_members(m);
    struct mvcc_options mo;
    mvcc_options_init(&mo);
    mo.move_all = true;
    n->mvcc = mvcc_new(&mo);
    n->lessor = lessor_new(config_lease_ttl_min_s(&m->sim->config));
    store_load(&m->store, n->mvcc, n->lessor);
    restore_lease_keys(n->lessor, n->mvcc);
    judge_loaded(m);
    struct persist_options po;
    persist_options_init(&po);
    po.mvcc = n->mvcc;
    member_persist_options(m, &po);
    n->persist = persist_new(&po);
}

void member_persist_options(struct member *m, struct persist_options *ret)
{
    m->store_ops = store_ops(&m->store);
    ret->store = &m->store_ops;
    ret->threaded = false;
    ret->flush_entries = 1 + rng_below(&m->sim->members_rng, m->sim->shape.flush_entries_max);
}

static struct slice get_record(void *ctx, struct slice name)
{
    return store_get(&((struct member *)ctx)->store, name);
}

static void start_core(struct member *m, const struct restore *r)
{
    struct sim *s = m->sim;
    struct node *n = &m->node;
    applier_init(&n->applier, n->mvcc, n->lessor, &n->cluster, m->id);
    int err = alarms_decode(&n->applier.alarms, store_get(&m->store, STATE_RECORD_ALARMS));
    ASSERT(err == 0);
    err = auth_load(&n->applier.auth, get_record, m);
    ASSERT(err == 0);
    char err_text[64];
    n->tokens = auth_tokens_new("simple", 0, err_text, sizeof(err_text));
    n->applier.tokens = n->tokens;
    n->applier.chain = store_meta(&m->store)->chain;
    struct core_options o = {.cluster = &n->cluster,
                             .member_id = m->id,
                             .mvcc = n->mvcc,
                             .wal = n->wal,
                             .persist = n->persist,
                             .applier = &n->applier,
                             .env = {.ctx = m,
                                     .send = env_send,
                                     .send_question = env_send_question,
                                     .send_snapshot = env_send_snapshot,
                                     .send_report = env_send_report,
                                     .answer = env_answer,
                                     .published = env_published,
                                     .members_changed = env_members_changed,
                                     .damaged = env_damaged,
                                     .wake = env_wake,
                                     .wake_in = env_wake_in,
                                     .clock_ns = env_clock_ns},
                             .heartbeat_ms = HEARTBEAT_MS,
                             .election_ms = ELECTION_MS,
                             .pre_vote = s->shape.pre_vote,
                             .lease_reads = s->shape.lease_reads,
                             .strict_reconfig = s->shape.strict_reconfig,
                             .lease_checkpoint_ms = s->shape.lease_checkpoint_ms,
                             .seed = rng_next(&s->members_rng),
                             .id_seed = s->now_us + 1,
                             .snapshot_count = s->shape.snapshot_count,
                             .log_keep_bytes = s->shape.log_keep_bytes,
                             .large_bytes = s->shape.large_bytes,
                             .hard_state = r->hard_state,
                             .applied_index = store_meta(&m->store)->applied_index,
                             .applied_term = store_meta(&m->store)->applied_term,
                             .entries = r->entries,
                             .entries_count = r->count};
    n->core = core_new(&o);
    transfer_start(m);
    wal_set_done(n->wal, on_log_durable, m);
}

static void start_worker(struct member *m)
{
    struct node *n = &m->node;
    worker_init(&m->worker, n, NULL);
    n->workers = &m->worker;
    n->workers_count = 1;
    m->worker.methods = services_table(&m->worker, &m->methods_count);
}

static void close_store(struct member *m)
{
    struct node *n = &m->node;
    persist_abort(n->persist);
    lessor_free(n->lessor);
    mvcc_free(n->mvcc);
}

static void bring_up(struct member *m)
{
    struct restore r;
    open_store(m);
    restore_init(&r, store_meta(&m->store)->applied_index);
    m->node.wal = NULL;
    bool removed = cluster_was_removed(&m->node.cluster, m->id);
    if (removed)
        m->loss = LOSS_REMOVED; /* node.c refuses to start */
    if (!removed && open_log(m, &r) == 0) {
        start_core(m, &r);
        start_worker(m);
        push(m, EVENT_TICK, HEARTBEAT_MS * 1000);
        member_wake(m);
    } else {
        m->node.core = NULL;
        if (!m->dying) /* it does not want to, or a write or read failed */
            member_die(m, DEATH_POWER);
    }
    restore_fini(&r);
}

static void begin_life(struct member *m)
{
    m->life++;
    m->up = true;
    m->turn_due = m->disk_due = m->idle_due = false;
    m->idle = NULL;
    m->gathered = NULL;
    m->works_count = 0;
    m->raft = NULL;
    m->loss = LOSS_NONE;
    m->leave_at_us = 0;
    m->publishing = m->published = m->node.serving = false;
    memset(m->linked, 0, sizeof(m->linked));
}

void member_start(struct member *m)
{
    struct sim *s = m->sim;
    m->start_due = false;
    if (m->up || !m->in_use || m->joiner != NULL)
        return;
    if (m->empty) {
        joiner_start(m);
        return;
    }
    sim_disk_tend(m->disk);
    begin_life(m);
    sim_say(s, "member %u starts (life %llu)", m->number, (unsigned long long)m->life);
    sim_trace(s, 2, m->number, m->life);
    s->current = m;
    bring_up(m);
    s->current = NULL;
    member_settle(m);
}

void member_start_in(struct member *m, uint64_t delay_us)
{
    if (m->up || !m->in_use || m->joiner != NULL || m->start_due)
        return;
    m->start_due = true;
    events_push(
        &m->sim->events,
        &(struct event){.at_us = m->sim->now_us + delay_us, .kind = EVENT_START, .who = m->number});
}

/* --- end --- */

static void drop_works(struct member *m)
{
    for (uint32_t i = 0; i < m->works_count; i++)
        m->works[i].done(m->works[i].work, UV_ECANCELED);
    m->works_count = 0;
}

static void close_core(struct member *m)
{
    struct node *n = &m->node;
    calls_end(m);
    snapshots_free(n->snapshots);
    drop_works(m);
    core_free(n->core);
    m->raft = NULL;
    worker_drop_answers(&m->worker);
    worker_fini(&m->worker);
    mem_free(m->worker.methods);
    applier_fini(&n->applier);
    auth_tokens_free(n->tokens);
}

static void lose_data(struct member *m)
{
    struct sim *s = m->sim;
    judge_is_gone(m);
    m->id = 0;
    store_fini(&m->store);
    m->store = (struct store){.member = m};
    sim_disk_renew(m->disk, rng_next(&s->members_rng));
    m->empty = true;
    m->was_there = m->loss == LOSS_SET_ASIDE;
    if (m->loss == LOSS_REMOVED) {
        sim_say(s, "member %u was removed, and is gone", m->number);
        m->in_use = false;
        s->stats->left++;
    } else {
        s->stats->data_lost++;
    }
    m->loss = LOSS_NONE;
}

static void start_again(struct member *m)
{
    struct sim *s = m->sim;
    if (m->loss != LOSS_NONE)
        lose_data(m);
    uint64_t delay_us = sim_exponential(&s->members_rng, 1000000) + m->away_us;
    member_start_in(m, s->calm && s->o.crash_at == 0 ? 1000 : delay_us);
    m->away_us = 0;
}

static void bury(struct member *m)
{
    struct sim *s = m->sim;
    struct node *n = &m->node;
    s->current = m; /* what its code still does is nothing */
    if (n->core != NULL)
        close_core(m);
    close_store(m);
    if (n->wal != NULL) {
        disk_mem_crash(m->disk->mem);
        wal_abandon(n->wal);
    }
    sim_disk_replace(m->disk, m->disk_left);
    m->disk_left = NULL;
    s->current = NULL;
    m->up = m->dying = m->write_fails = false;
    m->paused_until_us = 0;
    judge_end_of_life(m);
    net_peer_lost(s, m);
    s->stats->restarts++;
    start_again(m);
}

void member_settle(struct member *m)
{
    if (m->dying)
        bury(m);
}

static void close_log(struct member *m)
{
    struct node *n = &m->node;
    close_core(m);
    wal_close(n->wal);
    n->wal = NULL;
    persist_free(n->persist);
    lessor_free(n->lessor);
    mvcc_free(n->mvcc);
}

/* False: it died before. */
static bool stop(struct member *m)
{
    struct sim *s = m->sim;
    sim_say(s, "member %u stops", m->number);
    sim_trace(s, 3, m->number, 0);
    s->current = m;
    calls_end(m);
    if (!m->dying)
        wal_flush(m->node.wal);
    if (m->dying) {
        s->current = NULL;
        bury(m);
        return false;
    }
    close_log(m);
    s->current = NULL;
    if (m->dying) { /* between the last operations: what was put aside goes on */
        sim_disk_replace(m->disk, m->disk_left);
        m->disk_left = NULL;
    }
    m->up = m->dying = m->write_fails = false;
    judge_end_of_life(m);
    net_peer_lost(s, m);
    s->stats->restarts++;
    return true;
}

void member_stop(struct member *m)
{
    if (m->up && !m->dying && !m->write_fails && stop(m))
        member_start_in(m, sim_exponential(&m->sim->members_rng, 500000));
}

void member_told_removed(struct member *m)
{
    if (m->leave_at_us == 0)
        m->leave_at_us = m->sim->now_us + LEAVE_AFTER_US;
}

static void leave(struct member *m)
{
    if (m->write_fails) { /* no matter any more */
        m->loss = LOSS_REMOVED;
        member_die(m, DEATH_KILL);
        member_settle(m);
    } else if (stop(m)) {
        m->loss = LOSS_REMOVED;
        lose_data(m);
    }
}

/* --- events --- */

/* A member's code ends the process when a write fails: it comes back here. */
bool member_guard(struct member *m, void (*fn)(struct member *m))
{
    m->sim->current = m;
    m->fatal_armed = true;
    if (setjmp(m->fatal) == 0)
        fn(m);
    else
        member_die(m, DEATH_POWER);
    m->fatal_armed = false;
    m->sim->current = NULL;
    member_settle(m);
    return m->up;
}

static void turn(struct member *m)
{
    m->turn_due = false;
    core_turn(m->node.core, member_clock_ms(m));
}

void member_turn(struct member *m)
{
    if (member_guard(m, turn))
        judge_member(m);
}

static void tick(struct member *m)
{
    place_tend(m);
    bool low = wal_lacks_room(m->node.wal) || persist_lacks_room(m->node.persist);
    core_tick(m->node.core, member_clock_ms(m));
    judge_room(m, low);
    worker_tick(&m->worker, member_clock_ms(m));
    transfer_tick(m);
    sim_disk_tend(m->disk);
    push(m, EVENT_TICK, (uint64_t)(HEARTBEAT_MS * 1000 * 1000000ll / (1000000 + m->drift_ppm)));
}

void member_tick(struct member *m)
{
    if (member_guard(m, tick) && m->leave_at_us != 0 && m->sim->now_us >= m->leave_at_us)
        leave(m);
}

static void look_at_disk(struct member *m)
{
    m->disk_due = false;
    if (m->sim->now_us >= m->disk->stalled_until_us)
        wal_poll(m->node.wal);
    sim_disk_looked(m->disk, m->node.wal);
    if (disk_mem_busy(m->disk->mem))
        sim_disk_schedule(m->disk);
}

void member_disk(struct member *m)
{
    (void)member_guard(m, look_at_disk);
}

static void run_idle(struct member *m)
{
    m->idle_due = false;
    while (m->works_count > 0) {
        struct member_work w = m->works[--m->works_count];
        if (!w.cancelled)
            w.run(w.work);
        w.done(w.work, w.cancelled ? UV_ECANCELED : 0);
    }
    if (m->idle != NULL)
        m->idle(&m->worker.idle);
    if (m->idle != NULL && !m->idle_due) {
        m->idle_due = true;
        push(m, EVENT_IDLE, IDLE_DELAY_US);
    }
}

void member_idle(struct member *m)
{
    (void)member_guard(m, run_idle);
}

static void run_gathered(struct member *m)
{
    uv_timer_cb gathered = m->gathered;
    m->gathered = NULL;
    if (gathered != NULL)
        gathered(&m->worker.gathering);
}

void member_gathered(struct member *m)
{
    (void)member_guard(m, run_gathered);
}

static struct bref *frame_in_hand;

static void receive(struct member *m)
{
    net_deliver(m, frame_in_hand);
    member_wake(m);
}

void member_receive(struct member *m, struct bref *frame)
{
    frame_in_hand = frame;
    (void)member_guard(m, receive);
}
