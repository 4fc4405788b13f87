/* One member of three (or more, or one that joins), and whatever its peers may send it, true or
 * not; with ticks, proposals, a disk that takes its time, power failures, snapshots.
 * raft/src/step.c says that a peer that lies never ends the process; what this member itself
 * promises must hold whatever it is told:
 *
 * - raft_check(), after every step.
 * - Entries are given out in order, each once, and were given to be written before; what the disk
 *   knew to be committed is the same after a restart.
 * - A vote, or word of a durable entry, leaves it only when the disk has that; it votes once a
 * term.
 *
 * An input is a byte of options and steps of a byte each, with what they need behind them. */
#include "model.h"
#include "raft/raft.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SELF = 1,
    PEERS_MAX = 5,
    ENTRIES_MAX = 4, /* of a message */
    COMMITTED_MAX = 4096,
    STEPS_MAX = 2000,
};

enum option {
    OPTION_PRE_VOTE = 1,
    OPTION_CHECK_QUORUM = 2,
    OPTION_LEASE_READS = 4,
    OPTION_JOINS = 8,
    OPTION_LEARNER = 16,
    OPTION_SMALL = 32, /* limits that are soon reached */
    OPTION_FIVE = 64,
};

struct world {
    const uint8_t *at, *end;
    uint8_t options;
    struct raft *raft;
    struct model_disk disk;
    uint64_t applied;
    uint64_t applied_term;
    struct raft_membership membership; /* after those */
    uint64_t terms[COMMITTED_MAX];     /* of entry i, as it was given out; 0: it was not */
    uint64_t voted_term, voted_for;    /* the last vote that left */
    uint64_t snapshots_due[RAFT_PEERS_MAX];
    uint32_t snapshots_count;
};

/* --- the input --- */

static uint8_t take(struct world *w)
{
    return w->at < w->end ? *w->at++ : 0;
}

/* Small numbers, numbers near `base`, and absurd ones. */
static uint64_t take_number(struct world *w, uint64_t base)
{
    uint8_t b = take(w);
    if (b < 64)
        return b;
    if (b == 255)
        return UINT64_MAX;
    if (b == 254)
        return UINT64_MAX / 4;
    if (b == 253)
        return UINT64_MAX / 4 - 1;
    uint64_t up = b >= 144 ? b - 144u : 0, down = b < 144 ? 144u - b : 0;
    return base + up < down ? 0 : base + up - down;
}

static uint64_t take_id(struct world *w)
{
    return take(w) % (PEERS_MAX + 2); /* 0 is nobody, and the last is unknown */
}

static struct raft_entry take_entry(struct world *w)
{
    uint8_t kind = take(w);
    if (kind % 8 != 7)
        return model_entry("entry of some bytes", kind % 20);
    struct raft_conf_change change = {.transition = kind / 8 % RAFT_CONF_TRANSITIONS_COUNT,
                                      .changes_count = kind / 32 % 3};
    for (uint32_t i = 0; i < change.changes_count; i++) {
        uint8_t b = take(w);
        change.changes[i] = (struct raft_conf_single){
            .op = (enum raft_conf_op)(b % RAFT_CONF_OPS_COUNT), .id = 1 + b / 4 % PEERS_MAX};
    }
    return model_conf_entry(&change);
}

/* --- what it says --- */

static void check_msg(struct world *w, const struct raft_msg *m)
{
    const struct model_disk *d = &w->disk;
    uint64_t durable = d->start_index + d->entries_count;
    ASSERT(m->from == SELF && m->to != SELF && m->to != 0);
    /* A pre-vote is answered in the term that it is for. */
    ASSERT(m->type == RAFT_MSG_PRE_VOTE_REPLY ||
           m->term <= raft_term(w->raft) + (m->type == RAFT_MSG_PRE_VOTE));
    switch (m->type) {
    case RAFT_MSG_VOTE:
        ASSERT(d->hard_state.term == m->term && d->hard_state.vote == SELF);
        break;
    case RAFT_MSG_VOTE_REPLY:
        if (m->reject)
            break;
        ASSERT(d->hard_state.term == m->term && d->hard_state.vote == m->to);
        ASSERT(m->term > w->voted_term || (m->term == w->voted_term && m->to == w->voted_for));
        w->voted_term = m->term;
        w->voted_for = m->to;
        break;
    case RAFT_MSG_APPEND_REPLY:
        ASSERT(m->reject || m->log_index <= durable);
        break;
    case RAFT_MSG_HEARTBEAT_REPLY:
        ASSERT(m->log_index <= durable);
        break;
    case RAFT_MSG_APPEND:
        for (uint32_t i = 0; i < m->entries_count; i++)
            ASSERT(m->entries[i].log_index == m->log_index + 1 + i &&
                   m->entries[i].term <= m->term);
        /* fall through */
    case RAFT_MSG_HEARTBEAT:
        ASSERT(raft_role(w->raft) == RAFT_LEADER && m->term == raft_term(w->raft));
        break;
    default:
        break;
    }
}

/* As a member of the cluster would, but for a change that says nothing. */
static void apply(struct world *w, const struct raft_entry *e)
{
    struct raft_conf_change change;
    ASSERT(e->log_index == w->applied + 1);
    ASSERT(e->term >= w->applied_term && e->term <= raft_term(w->raft));
    if (e->log_index < COMMITTED_MAX) {
        ASSERT(w->terms[e->log_index] == 0 || w->terms[e->log_index] == e->term);
        w->terms[e->log_index] = e->term;
    }
    w->applied = e->log_index;
    w->applied_term = e->term;
    if (e->type != RAFT_ENTRY_CONF || raft_conf_change_decode(e->data, &change) != 0)
        return;
    int rv = raft_apply_conf(w->raft, &change);
    ASSERT(rv == raft_membership_change(&w->membership, &change));
    ASSERT(raft_membership_equal(raft_membership(w->raft), &w->membership));
}

static void pump(struct world *w)
{
    struct raft_ready rd;
    for (uint32_t rounds = 0; raft_ready(w->raft, &rd); rounds++) {
        ASSERT(rounds < 1000);
        for (uint32_t i = 0; i < rd.msgs_count; i++)
            check_msg(w, &rd.msgs[i]);
        ASSERT(rd.entries_count == 0 || rd.entries[0].log_index > w->applied);
        if (rd.persist_seq != 0)
            model_disk_write(&w->disk, &rd);
        for (uint32_t i = 0; i < rd.committed_count; i++)
            apply(w, &rd.committed[i]);
        raft_applied(w->raft, w->applied);
        for (uint32_t i = 0; i < rd.snapshot_requests_count; i++) {
            ASSERT(w->snapshots_count < RAFT_PEERS_MAX);
            w->snapshots_due[w->snapshots_count++] = rd.snapshot_requests[i];
        }
        raft_ready_done(w->raft);
    }
    raft_check(w->raft);
}

static void finish_writes(struct world *w, uint32_t count)
{
    uint64_t seq = model_disk_finish(&w->disk, count);
    if (seq != 0)
        raft_persisted(w->raft, seq);
}

/* --- its life --- */

static void begin(struct world *w)
{
    struct raft_options o;
    raft_options_init(&o);
    o.id = SELF;
    o.membership = w->disk.membership;
    o.pre_vote = (w->options & OPTION_PRE_VOTE) != 0;
    o.lease_reads = (w->options & OPTION_LEASE_READS) != 0;
    o.check_quorum = o.lease_reads || (w->options & OPTION_CHECK_QUORUM) != 0;
    o.seed = 1;
    if ((w->options & OPTION_SMALL) != 0) {
        o.inflight_msgs_max = 2;
        o.msg_bytes_max = 40;
        o.log_window_bytes = 200;
        o.log_tail_bytes = 60;
        o.uncommitted_bytes_max = 400;
    }
    o.reader = (struct raft_log_reader){.ctx = &w->disk, .read = model_disk_read};
    o.hard_state = w->disk.hard_state;
    o.log_start_index = o.applied_index = w->disk.start_index;
    o.log_start_term = w->disk.start_term;
    w->applied = w->disk.start_index;
    w->applied_term = w->disk.start_term;
    w->membership = w->disk.membership;
    w->snapshots_count = 0;
    w->raft = raft_new(&o);
    raft_restore(w->raft, w->disk.entries, (uint32_t)w->disk.entries_count);
    raft_check(w->raft);
}

/* What the disk did not know to be committed, a leader that lies may replace now. */
static void crash(struct world *w)
{
    uint8_t how = take(w);
    raft_free(w->raft);
    model_disk_crash(&w->disk, how % 3, how / 3 % 4);
    uint64_t known = w->disk.hard_state.commit;
    for (uint64_t i = known + 1; i < COMMITTED_MAX; i++)
        w->terms[i] = 0;
    begin(w);
}

static void cut(struct world *w)
{
    uint64_t durable = raft_persisted_index(w->raft);
    uint64_t to = w->applied < durable ? w->applied : durable;
    if (w->disk.writes_count == 0 && to == w->applied)
        model_disk_cut(&w->disk, to);
}

static void install(struct world *w)
{
    uint64_t log_index = take_number(w, raft_last_index(w->raft));
    uint64_t term = take_number(w, raft_term(w->raft));
    struct raft_membership m = w->membership;
    if (take(w) % 2 == 0)
        m = (struct raft_membership){.voters = {.ids = {1, 2, 3}, .count = 3}};
    if (w->applied != raft_commit_index(w->raft))
        return; /* all that was given out is applied, and nothing more may be due */
    bool wanted = raft_snapshot_is_wanted(w->raft, log_index, term);
    int rv = raft_install_snapshot(w->raft, log_index, term, &m);
    ASSERT(rv == 0 || rv == TV_EEXIST || rv == TV_EINVAL);
    if (rv != 0)
        return;
    ASSERT(wanted);
    model_disk_restart(&w->disk, log_index, term, &m);
    w->applied = log_index;
    w->applied_term = term;
    w->membership = m;
    for (uint64_t i = 0; i < COMMITTED_MAX; i++)
        w->terms[i] = 0;
}

static void end_snapshot(struct world *w)
{
    uint8_t which = take(w);
    if (w->snapshots_count == 0)
        return;
    uint32_t i = which / 2 % w->snapshots_count;
    uint64_t id = w->snapshots_due[i];
    w->snapshots_due[i] = w->snapshots_due[--w->snapshots_count];
    if (which % 2 == 0)
        raft_snapshot_failed(w->raft, id);
    else
        raft_snapshot_sent(w->raft, id, w->applied);
}

/* --- steps --- */

enum { FLAG_REJECT = 1, FLAG_TRANSFER = 2, FLAG_WRONG_TERM = 4, FLAG_WRONG_INDEX = 8 };

static void step_msg(struct world *w, enum raft_msg_type type)
{
    struct raft_entry entries[ENTRIES_MAX];
    uint8_t flags = take(w);
    bool has_term =
        type != RAFT_MSG_PROPOSE && type != RAFT_MSG_READ_INDEX && type != RAFT_MSG_TRANSFER_LEADER;
    struct raft_msg m = {.type = type, .from = take_id(w), .to = SELF};
    m.reject = (flags & FLAG_REJECT) != 0;
    m.transfer = (flags & FLAG_TRANSFER) != 0;
    if (has_term != ((flags & FLAG_WRONG_TERM) != 0))
        m.term = take_number(w, raft_term(w->raft));
    m.log_index = take_number(w, raft_last_index(w->raft));
    m.log_term = take_number(w, raft_term(w->raft));
    m.commit = take_number(w, raft_commit_index(w->raft));
    m.context = take_number(w, 0);
    m.reject_hint = m.reject ? take_number(w, raft_last_index(w->raft)) : 0;
    if (type == RAFT_MSG_APPEND || type == RAFT_MSG_PROPOSE) {
        m.entries_count = flags / 16 % (ENTRIES_MAX + 1);
        m.entries = entries;
    }
    for (uint32_t i = 0; i < m.entries_count; i++) {
        entries[i] = take_entry(w);
        entries[i].log_index = m.log_index + 1 + i + ((flags & FLAG_WRONG_INDEX) != 0);
        entries[i].term = take_number(w, m.term);
    }
    int rv = raft_step(w->raft, &m);
    ASSERT(rv == 0 || rv == TV_EINVAL || rv == TV_EDROPPED || rv == TV_EBUSY);
    for (uint32_t i = 0; i < m.entries_count; i++)
        bref_unref(entries[i].owner);
}

static void propose(struct world *w)
{
    struct raft_entry e = take_entry(w);
    (void)raft_propose(w->raft, &e, 1); /* refused as often as not */
    bref_unref(e.owner);
}

static void step(struct world *w)
{
    uint8_t what = take(w);
    uint32_t more = what / 32;
    what %= 32;
    if (what < RAFT_MSG_TYPES_COUNT) {
        step_msg(w, (enum raft_msg_type)what);
        if (more % 2 == 1)
            return; /* several, until raft_ready() */
        pump(w);
        if (more / 2 % 2 == 1)
            finish_writes(w, UINT32_MAX);
    } else if (what < 18) {
        for (uint32_t i = 0; i <= more * 2; i++)
            raft_tick(w->raft);
    } else if (what < 20) {
        finish_writes(w, more + 1);
    } else if (what < 22) {
        propose(w);
    } else if (what == 22) {
        (void)raft_read_index(w->raft, 1000 + more);
    } else if (what == 23) {
        (void)raft_transfer_leader(w->raft, take_id(w));
    } else if (what == 24) {
        raft_campaign(w->raft);
    } else if (what == 25) {
        raft_set_standing(w->raft, more % 2 == 0);
    } else if (what == 26) {
        raft_peer_unreachable(w->raft, take_id(w));
    } else if (what == 27) {
        raft_leader_lost(w->raft, take_id(w));
    } else if (what == 28) {
        crash(w);
    } else if (what == 29) {
        cut(w);
    } else if (what == 30) {
        pump(w);
        install(w);
    } else {
        end_snapshot(w);
    }
    pump(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    w = (struct world){.at = data, .end = data + size};
    w.options = take(&w);
    struct raft_membership m = {.voters = {.ids = {1, 2, 3, 4, 5}, .count = 3}};
    if ((w.options & OPTION_FIVE) != 0)
        m.voters.count = 5;
    if ((w.options & OPTION_LEARNER) != 0)
        m = (struct raft_membership){.voters = {.ids = {2, 3, 4}, .count = 3},
                                     .learners = {.ids = {1}, .count = 1}};
    if ((w.options & OPTION_JOINS) != 0)
        m = (struct raft_membership){0};
    model_disk_init(&w.disk, &m);
    begin(&w);
    for (uint32_t i = 0; i < STEPS_MAX && w.at < w.end; i++)
        step(&w);
    finish_writes(&w, UINT32_MAX);
    pump(&w);
    raft_free(w.raft);
    model_disk_fini(&w.disk);
    return 0;
}
