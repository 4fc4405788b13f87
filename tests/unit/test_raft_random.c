/* Whole clusters in one thread under random faults: messages lost, doubled, late and out of order,
 * power failures that lose or tear unfinished writes, partitions, slow disks, leaders moved about,
 * while members come, are promoted and demoted, go and return, and logs are cut so that followers
 * need snapshots.
 * After every step the promises of raft are checked against what an outside observer has seen; at
 * the end the faults stop and the cluster must make progress again.
 *
 *   test_raft_random [seeds [first seed]]       or RAFT_SEEDS, RAFT_FIRST_SEED, RAFT_STEPS
 *
 * A failing run prints its seed; the same seed replays the same run. */
#include "model.h"
#include "raft/raft.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    NODES_MAX = 12,
    STREAMS_MAX = NODES_MAX * NODES_MAX,
    NET_MAX = 3000,
    READS_MAX = 4096,
    TERMS_MAX = 1 << 16,
    ELECTION_TICKS = 10,
};

static uint64_t seed_now;

struct node {
    uint64_t id;
    struct raft *raft; /* NULL = power is off */
    struct model_disk disk;
    uint64_t applied;
    uint64_t applied_term;
    uint64_t flushed; /* the applied index that survives a crash */
    uint64_t life;    /* counts restarts */
    bool tick_late;
    bool pump_due;
    bool reader_slow;
};

/* The outside observer: what was ever given out as committed, by anybody. */
struct observer {
    struct raft_entry *committed; /* index i at i - 1 */
    uint64_t count;
    uint64_t capacity;
    struct raft_membership membership; /* after all of them */
    struct raft_membership before;     /* the last change */
    uint64_t leader_of_term[TERMS_MAX];
};

/* A snapshot under way. */
struct stream {
    uint64_t from, to; /* 0 = free */
    uint64_t life;     /* of the sender */
    uint64_t log_index;
    uint64_t term;
    struct raft_membership membership;
};

struct read_asked {
    uint64_t context;
    uint64_t required; /* highest index acknowledged to anybody when it was asked */
};

struct rates { /* chances per thousand steps, different for each seed */
    uint32_t lose, twice, crash, start, cut, heal, read, propose, transfer, campaign, disk,
        unreachable, conf, stream, shorten;
};

struct cluster {
    struct rng rng;
    uint32_t nodes_count;
    struct node nodes[NODES_MAX];
    struct raft_options options;
    struct raft_msg net[NET_MAX];
    uint32_t net_count;
    bool ordered; /* the network keeps order, mostly */
    bool linked[NODES_MAX][NODES_MAX];
    bool calm;       /* no more faults */
    bool switch_off; /* removed members, when it is calm */
    struct rates rates;
    uint32_t ticks_rate; /* against the pace of messages: fast clocks, many elections */
    struct observer seen;
    struct read_asked reads[READS_MAX];
    uint64_t context;
    uint64_t payload;
    uint64_t elections;
    uint64_t reads_answered;
    struct stream streams[STREAMS_MAX];
    uint64_t confs;
    uint64_t snapshots;
};

static void on_abort(int sig)
{
    (void)sig;
    char text[96];
    int size = snprintf(text, sizeof(text), "FAILED: test_raft_random 1 %llu\n",
                        (unsigned long long)seed_now);
    ssize_t rv = write(2, text, (size_t)size);
    (void)rv;
}

static bool chance(struct cluster *c, uint32_t per_thousand)
{
    return rng_below(&c->rng, 1000) < per_thousand;
}

/* --- the observer's checks --- */

static bool is_durable(const struct cluster *c, const struct raft_ids *voters,
                       const struct raft_entry *e)
{
    uint32_t copies = 0;
    for (uint32_t i = 0; i < voters->count; i++) {
        const struct model_disk *d = &c->nodes[voters->ids[i] - 1].disk;
        if (e->log_index <= d->start_index)
            copies++; /* cut, or in a snapshot: it was committed */
        else if (e->log_index <= d->start_index + d->entries_count)
            copies += d->entries[e->log_index - d->start_index - 1].term == e->term;
    }
    return voters->count == 0 || copies > voters->count / 2;
}

/* Invariant: what is committed is durable on a majority of the membership that the leader went by.
 * That is the newest one that is committed, or, while its leader has not applied that yet, the one
 * before. */
static void check_durable(const struct cluster *c, const struct raft_entry *e)
{
    const struct raft_membership *now = &c->seen.membership, *before = &c->seen.before;
    ASSERT((is_durable(c, &now->voters, e) && is_durable(c, &now->voters_outgoing, e)) ||
           (is_durable(c, &before->voters, e) && is_durable(c, &before->voters_outgoing, e)));
}

static void see_conf(struct cluster *c, const struct raft_entry *e)
{
    struct raft_conf_change change;
    int rv = raft_conf_change_decode(e->data, &change);
    ASSERT(rv == 0);
    c->seen.before = c->seen.membership;
    (void)raft_membership_change(&c->seen.membership, &change); /* or refused by everybody */
    c->confs++;
}

static void see_committed(struct cluster *c, struct node *n, const struct raft_entry *e)
{
    struct observer *o = &c->seen;
    ASSERT(e->log_index == n->applied + 1);
    n->applied++;
    n->applied_term = e->term;
    if (e->log_index <= o->count) {
        const struct raft_entry *first = &o->committed[e->log_index - 1];
        ASSERT(first->term == e->term);
        ASSERT(first->type == e->type);
        ASSERT(slice_equal(first->data, e->data));
        return;
    }
    ASSERT(e->log_index == o->count + 1);
    check_durable(c, e);
    if (e->type == RAFT_ENTRY_CONF)
        see_conf(c, e);
    if (o->count == o->capacity) {
        o->capacity = o->capacity == 0 ? 1024 : 2 * o->capacity;
        o->committed = mem_realloc(o->committed, o->capacity * sizeof(*o->committed));
    }
    o->committed[o->count] = *e;
    if (e->owner != NULL)
        bref_ref(e->owner);
    o->count++;
}

static void see_read(struct cluster *c, const struct raft_read *read)
{
    if (read->log_index == 0)
        return;
    const struct read_asked *asked = &c->reads[read->context % READS_MAX];
    if (asked->context != read->context)
        return; /* forgotten, a later question took its place */
    ASSERT(read->log_index >= asked->required);
    c->reads_answered++;
}

static void see_role(struct cluster *c, const struct node *n)
{
    if (raft_role(n->raft) != RAFT_LEADER)
        return;
    uint64_t term = raft_term(n->raft);
    ASSERT(term < TERMS_MAX);
    if (c->seen.leader_of_term[term] == 0) {
        c->seen.leader_of_term[term] = n->id;
        c->elections++;
        /* Leader completeness: nothing committed in an earlier term is missing. That its entries
         * are the same ones shows when they are applied. */
        uint64_t earlier = c->seen.count;
        while (earlier > 0 && c->seen.committed[earlier - 1].term >= term)
            earlier--;
        ASSERT(raft_last_index(n->raft) > earlier);
    }
    ASSERT(c->seen.leader_of_term[term] == n->id);
}

/* Log matching on the disks: equal terms at an index mean equal logs up to it. */
static void check_disks(const struct cluster *c)
{
    for (uint32_t a = 0; a < c->nodes_count; a++)
        for (uint32_t b = a + 1; b < c->nodes_count; b++) {
            const struct model_disk *x = &c->nodes[a].disk, *y = &c->nodes[b].disk;
            uint64_t lo = x->start_index > y->start_index ? x->start_index : y->start_index;
            uint64_t hi = x->start_index + x->entries_count;
            if (hi > y->start_index + y->entries_count)
                hi = y->start_index + y->entries_count;
            bool equal = false;
            for (uint64_t i = hi; i > lo; i--) {
                const struct raft_entry *e = &x->entries[i - x->start_index - 1];
                const struct raft_entry *f = &y->entries[i - y->start_index - 1];
                equal = equal || e->term == f->term;
                if (equal) {
                    ASSERT(e->term == f->term);
                    ASSERT(slice_equal(e->data, f->data));
                }
            }
        }
}

/* --- nodes --- */

static int read_entries(void *ctx, uint64_t lo, uint64_t hi, size_t bytes_max,
                        struct raft_entry *ret_entries, uint32_t *count)
{
    struct node *n = ctx;
    if (n->reader_slow) {
        n->reader_slow = false;
        return TV_EAGAIN;
    }
    return model_disk_read(&n->disk, lo, hi, bytes_max, ret_entries, count);
}

static void node_start(struct cluster *c, struct node *n)
{
    struct raft_options o = c->options;
    o.id = n->id;
    o.membership = model_disk_membership(&n->disk, n->flushed);
    o.seed = rng_next(&c->rng);
    o.reader = (struct raft_log_reader){.ctx = n, .read = read_entries};
    o.hard_state = n->disk.hard_state;
    o.log_start_index = n->disk.start_index;
    o.log_start_term = n->disk.start_term;
    o.applied_index = n->flushed;
    n->applied = n->flushed;
    n->applied_term = n->flushed == n->disk.start_index
                          ? n->disk.start_term
                          : n->disk.entries[n->flushed - n->disk.start_index - 1].term;
    n->life++;
    n->raft = raft_new(&o);
    raft_restore(n->raft, n->disk.entries, (uint32_t)n->disk.entries_count);
    raft_check(n->raft);
    n->pump_due = true;
}

static void node_crash(struct cluster *c, struct node *n)
{
    raft_free(n->raft);
    n->raft = NULL;
    model_disk_crash(&n->disk, (uint32_t)rng_below(&c->rng, 3), (uint32_t)rng_below(&c->rng, 4));
}

static void net_remove(struct cluster *c, uint32_t at)
{
    model_msg_fini(&c->net[at]);
    if (c->ordered)
        memmove(&c->net[at], &c->net[at + 1], (c->net_count - at - 1) * sizeof(c->net[0]));
    else
        c->net[at] = c->net[c->net_count - 1];
    c->net_count--;
}

static void net_send(struct cluster *c, const struct raft_msg *msg)
{
    if (!c->linked[msg->from - 1][msg->to - 1])
        return;
    if (!c->calm && chance(c, c->rates.lose))
        return;
    uint32_t copies = !c->calm && chance(c, c->rates.twice) ? 2 : 1;
    for (uint32_t i = 0; i < copies; i++) {
        if (c->net_count == NET_MAX)
            net_remove(c, (uint32_t)rng_below(&c->rng, NET_MAX));
        c->net[c->net_count++] = model_msg_copy(msg);
    }
}

static void disk_finish(struct cluster *c, struct node *n, uint32_t count)
{
    uint64_t seq = model_disk_finish(&n->disk, count);
    if (seq != 0)
        raft_persisted(n->raft, seq);
    n->pump_due = true;
}

static struct stream *stream_of(struct cluster *c, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < STREAMS_MAX; i++)
        if (c->streams[i].from == from && c->streams[i].to == to)
            return &c->streams[i];
    return NULL;
}

static void stream_begin(struct cluster *c, const struct node *n, uint64_t to)
{
    struct stream *s = stream_of(c, n->id, to);
    /* Never two at once, unless the receiver was removed and came back meanwhile. */
    if (s == NULL)
        s = stream_of(c, 0, 0);
    ASSERT(s != NULL);
    *s = (struct stream){.from = n->id,
                         .to = to,
                         .life = n->life,
                         .log_index = n->applied,
                         .term = n->applied_term,
                         .membership = *raft_membership(n->raft)};
}

static void stream_end(struct cluster *c, struct stream *s)
{
    struct node *from = &c->nodes[s->from - 1], *to = &c->nodes[s->to - 1];
    bool heard = from->raft != NULL && from->life == s->life;
    bool arrives = heard && to->raft != NULL && c->linked[s->from - 1][s->to - 1] &&
                   (c->calm || !chance(c, c->rates.lose));
    if (arrives) {
        int rv = raft_install_snapshot(to->raft, s->log_index, s->term, &s->membership);
        ASSERT(rv == 0 || rv == TV_EEXIST);
        if (rv == 0) {
            model_disk_restart(&to->disk, s->log_index, s->term, &s->membership);
            to->applied = to->flushed = s->log_index;
            to->applied_term = s->term;
            c->snapshots++;
        }
        raft_check(to->raft);
        to->pump_due = true;
    }
    if (heard && arrives)
        raft_snapshot_sent(from->raft, s->to, s->log_index);
    else if (heard)
        raft_snapshot_failed(from->raft, s->to);
    from->pump_due = true;
    *s = (struct stream){0};
}

static void apply(struct cluster *c, struct node *n, const struct raft_entry *e)
{
    struct raft_conf_change change;
    see_committed(c, n, e);
    if (e->type != RAFT_ENTRY_CONF)
        return;
    int rv = raft_conf_change_decode(e->data, &change);
    ASSERT(rv == 0);
    (void)raft_apply_conf(n->raft, &change);
    if (n->applied == c->seen.count)
        ASSERT(raft_membership_equal(raft_membership(n->raft), &c->seen.membership));
}

static void pump(struct cluster *c, struct node *n)
{
    struct raft_ready rd;
    n->pump_due = false;
    while (raft_ready(n->raft, &rd)) {
        for (uint32_t i = 0; i < rd.msgs_count; i++)
            net_send(c, &rd.msgs[i]);
        if (rd.persist_seq != 0)
            model_disk_write(&n->disk, &rd);
        for (uint32_t i = 0; i < rd.committed_count; i++)
            apply(c, n, &rd.committed[i]);
        raft_applied(n->raft, n->applied);
        for (uint32_t i = 0; i < rd.reads_count; i++)
            see_read(c, &rd.reads[i]);
        for (uint32_t i = 0; i < rd.snapshot_requests_count; i++)
            stream_begin(c, n, rd.snapshot_requests[i]);
        raft_ready_done(n->raft);
    }
    see_role(c, n);
    raft_check(n->raft);
}

/* A wish to move leadership to who is no voter (any more); the answer to a leader of the past of a
 * member that a snapshot of the present reached. */
static bool may_be_refused(const struct cluster *c, const struct node *n,
                           const struct raft_msg *msg)
{
    if (msg->type == RAFT_MSG_TRANSFER_LEADER)
        return true;
    if (msg->type != RAFT_MSG_APPEND_REPLY && msg->type != RAFT_MSG_HEARTBEAT_REPLY)
        return false;
    for (uint32_t i = 0; i < c->nodes_count; i++)
        if (c->nodes[i].raft != NULL && raft_term(c->nodes[i].raft) > raft_term(n->raft))
            return true;
    return false;
}

static void deliver(struct cluster *c, uint32_t at)
{
    struct raft_msg msg = c->net[at];
    struct node *n = &c->nodes[msg.to - 1];
    if (n->raft != NULL) {
        int rv = raft_step(n->raft, &msg);
        ASSERT(rv == 0 || rv == TV_EDROPPED || may_be_refused(c, n, &msg));
        n->pump_due = true;
        see_role(c, n);
    }
    net_remove(c, at);
}

/* --- random life --- */

static struct node *any_node(struct cluster *c)
{
    return &c->nodes[rng_below(&c->rng, c->nodes_count)];
}

static void propose(struct cluster *c, struct node *n)
{
    struct raft_entry batch[4];
    uint32_t count = 1 + (uint32_t)rng_below(&c->rng, 4);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t data[32] = {++c->payload};
        batch[i] = model_entry(data, 8 + rng_below(&c->rng, sizeof(data) - 8));
    }
    int rv = raft_propose(n->raft, batch, count);
    ASSERT(rv == 0 || rv == TV_EDROPPED);
    for (uint32_t i = 0; i < count; i++)
        bref_unref(batch[i].owner);
    n->pump_due = true;
}

static void ask_read(struct cluster *c, struct node *n)
{
    uint64_t context = ++c->context;
    c->reads[context % READS_MAX] =
        (struct read_asked){.context = context, .required = c->seen.count};
    (void)raft_read_index(n->raft, context); /* may be dropped: then nothing is promised */
    n->pump_due = true;
}

static struct node *node_new(struct cluster *c, const struct raft_membership *membership)
{
    ASSERT(c->nodes_count < NODES_MAX);
    struct node *n = &c->nodes[c->nodes_count++];
    n->id = c->nodes_count;
    model_disk_init(&n->disk, membership);
    node_start(c, n);
    return n;
}

static void random_conf(struct cluster *c, struct raft_conf_change *change)
{
    uint32_t count = chance(c, 600) ? 1 : (uint32_t)rng_below(&c->rng, 4);
    change->transition =
        chance(c, 700) ? RAFT_CONF_AUTO
                       : (enum raft_conf_transition)rng_below(&c->rng, RAFT_CONF_TRANSITIONS_COUNT);
    for (uint32_t i = 0; i < count; i++) {
        struct raft_conf_single *single = &change->changes[change->changes_count++];
        single->op = (enum raft_conf_op)rng_below(&c->rng, RAFT_CONF_OPS_COUNT);
        single->id = any_node(c)->id;
        bool adds = single->op == RAFT_CONF_ADD_LEARNER || single->op == RAFT_CONF_ADD_VOTER;
        if (adds && c->nodes_count < NODES_MAX && chance(c, 300))
            single->id = node_new(c, &(struct raft_membership){0})->id;
    }
}

static void propose_conf(struct cluster *c, struct node *n)
{
    struct raft_conf_change change = {.transition = RAFT_CONF_AUTO};
    bool leave = raft_membership_is_joint(raft_membership(n->raft)) && chance(c, 700);
    if (!leave)
        random_conf(c, &change);
    struct raft_entry batch[] = {model_conf_entry(&change), model_entry("x", 1)};
    int rv = raft_propose(n->raft, batch, chance(c, 500) ? 2 : 1);
    ASSERT(rv == 0 || rv == TV_EDROPPED || rv == TV_EBUSY || rv == TV_EINVAL);
    bref_unref(batch[0].owner);
    bref_unref(batch[1].owner);
    n->pump_due = true;
}

static void relink(struct cluster *c, bool whole)
{
    uint32_t sides[NODES_MAX];
    for (uint32_t i = 0; i < NODES_MAX; i++)
        sides[i] = (uint32_t)rng_below(&c->rng, 2);
    bool one_way = !whole && chance(c, 200);
    for (uint32_t a = 0; a < NODES_MAX; a++)
        for (uint32_t b = 0; b < NODES_MAX; b++)
            c->linked[a][b] = whole || sides[a] == sides[b] || (one_way && sides[a] < sides[b]);
}

/* What the persist thread does: state on disk, behind, then the log is cut. */
static void flush(struct cluster *c, struct node *n)
{
    uint64_t durable = raft_persisted_index(n->raft);
    uint64_t flushed = n->applied < durable ? n->applied : durable;
    if (flushed > n->flushed)
        n->flushed += 1 + rng_below(&c->rng, flushed - n->flushed);
    if (!chance(c, 300))
        return;
    uint64_t cut = n->flushed;
    for (uint32_t i = 0; i < c->nodes_count; i++)
        if (c->nodes[i].flushed < cut && !chance(c, c->rates.shorten))
            cut = c->nodes[i].flushed;
    for (uint32_t i = 0; i < STREAMS_MAX; i++)
        if (c->streams[i].from == n->id && c->streams[i].log_index < cut)
            cut = c->streams[i].log_index;
    /* The entry at the cut is still needed: its term goes with the first append after it. */
    if (cut > 0)
        model_disk_cut(&n->disk, cut - 1);
}

static void trouble(struct cluster *c, struct node *n)
{
    const struct rates *x = &c->rates;
    if (n->raft == NULL) {
        if (chance(c, x->start))
            node_start(c, n);
        return;
    }
    if (chance(c, x->conf))
        propose_conf(c, n);
    if (chance(c, x->crash)) {
        node_crash(c, n);
        return;
    }
    if (chance(c, x->cut))
        relink(c, false);
    if (chance(c, x->heal))
        relink(c, true);
    if (chance(c, x->transfer))
        (void)raft_transfer_leader(n->raft, any_node(c)->id); /* a wish */
    if (chance(c, x->campaign))
        raft_campaign(n->raft);
    if (chance(c, x->unreachable))
        raft_peer_unreachable(n->raft, any_node(c)->id);
    if (chance(c, 20))
        n->reader_slow = true;
    if (chance(c, 50))
        raft_entries_fetched(n->raft);
    if (chance(c, 20))
        flush(c, n);
    n->pump_due = true;
}

/* All clocks run alike, but for one tick. */
static void tick_all(struct cluster *c)
{
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        struct node *n = &c->nodes[i];
        if (n->raft == NULL)
            continue;
        uint32_t ticks = n->tick_late ? 2 : 1;
        n->tick_late = !c->calm && chance(c, 300);
        ticks -= n->tick_late;
        for (uint32_t t = 0; t < ticks; t++)
            raft_tick(n->raft);
        n->pump_due = true;
    }
}

static void act(struct cluster *c)
{
    struct node *n = any_node(c);
    trouble(c, n);
    if (c->options.lease_reads && rng_below(&c->rng, 1000 * c->nodes_count) < c->ticks_rate)
        tick_all(c);
    struct stream *s = &c->streams[rng_below(&c->rng, STREAMS_MAX)];
    if (s->from != 0 && chance(c, c->rates.stream))
        stream_end(c, s);
    if (n->raft != NULL) {
        if (!c->options.lease_reads && chance(c, c->ticks_rate))
            raft_tick(n->raft);
        if (chance(c, c->rates.propose))
            propose(c, n);
        if (chance(c, c->rates.read))
            ask_read(c, n);
        if (chance(c, c->rates.disk))
            disk_finish(c, n, 1 + (uint32_t)rng_below(&c->rng, 3));
        see_role(c, n);
        if (n->pump_due && chance(c, 700))
            pump(c, n);
    }
    for (uint32_t i = 0; i < 2 && c->net_count > 0; i++)
        deliver(c, c->ordered && !chance(c, 50) ? 0 : (uint32_t)rng_below(&c->rng, c->net_count));
}

static bool is_member(const struct cluster *c, const struct node *n)
{
    return raft_membership_has(&c->seen.membership, n->id);
}

/* It was removed and all members know: it may be switched off, or be left to disturb. Before that
 * its vote may be needed to commit what removed it. */
static bool is_history(const struct cluster *c, const struct node *n)
{
    if (is_member(c, n))
        return false;
    for (uint32_t i = 0; i < c->nodes_count; i++)
        if (is_member(c, &c->nodes[i]) &&
            (c->nodes[i].raft == NULL ||
             raft_membership_has(raft_membership(c->nodes[i].raft), n->id)))
            return false;
    return true;
}

static void calm_round(struct cluster *c)
{
    tick_all(c);
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        struct node *n = &c->nodes[i];
        n->reader_slow = false;
        bool off = c->switch_off && is_history(c, n);
        if (off && n->raft != NULL)
            node_crash(c, n);
        else if (!off && n->raft == NULL)
            node_start(c, n);
        if (n->raft != NULL)
            raft_entries_fetched(n->raft);
    }
    for (uint32_t i = 0; i < STREAMS_MAX; i++)
        if (c->streams[i].from != 0)
            stream_end(c, &c->streams[i]);
    for (uint32_t turn = 0; turn < 20; turn++) {
        for (uint32_t i = 0; i < c->nodes_count; i++) {
            if (c->nodes[i].raft == NULL)
                continue;
            pump(c, &c->nodes[i]);
            disk_finish(c, &c->nodes[i], UINT32_MAX);
            pump(c, &c->nodes[i]);
        }
        uint32_t count = c->net_count;
        for (uint32_t i = 0; i < count && c->net_count > 0; i++)
            deliver(c, 0);
    }
}

static void say_ids(const char *name, const struct raft_ids *set)
{
    printf(" %s", name);
    for (uint32_t i = 0; i < set->count; i++)
        printf("%s%llu", i > 0 ? "," : " ", (unsigned long long)set->ids[i]);
}

static void say_membership(const struct raft_membership *m)
{
    say_ids("voters", &m->voters);
    say_ids("outgoing", &m->voters_outgoing);
    say_ids("learners", &m->learners);
    say_ids("next", &m->learners_next);
    printf("\n");
}

/* Who stands where, when it does not end well. */
static void say_cluster(const struct cluster *c)
{
    printf("committed %llu", (unsigned long long)c->seen.count);
    say_membership(&c->seen.membership);
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        const struct node *n = &c->nodes[i];
        if (n->raft == NULL) {
            printf("%llu is off\n", (unsigned long long)n->id);
            continue;
        }
        printf("%llu %s term %llu leader %llu last %llu commit %llu applied %llu",
               (unsigned long long)n->id, raft_role_name(raft_role(n->raft)),
               (unsigned long long)raft_term(n->raft), (unsigned long long)raft_leader(n->raft),
               (unsigned long long)raft_last_index(n->raft),
               (unsigned long long)raft_commit_index(n->raft), (unsigned long long)n->applied);
        say_membership(raft_membership(n->raft));
    }
    (void)fflush(stdout);
}

/* The faults stop: one leader, and everybody applies everything. */
static void calm_down(struct cluster *c)
{
    c->calm = true;
    relink(c, true);
    for (uint32_t i = 0; i < c->nodes_count; i++)
        if (c->nodes[i].raft == NULL)
            node_start(c, &c->nodes[i]);
    c->rates.lose = 0;
    for (uint32_t round = 0; round < 20 * ELECTION_TICKS; round++)
        calm_round(c);

    struct node *leader = NULL;
    uint32_t members = 0;
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        members += is_member(c, &c->nodes[i]);
        if (is_member(c, &c->nodes[i]) && raft_role(c->nodes[i].raft) == RAFT_LEADER)
            leader = &c->nodes[i];
    }
    if (leader == NULL)
        say_cluster(c);
    ASSERT(leader != NULL);
    uint64_t before = c->seen.count;
    propose(c, leader);
    uint64_t answered = c->reads_answered;
    for (uint32_t i = 0; i < c->nodes_count; i++)
        if (is_member(c, &c->nodes[i]))
            ask_read(c, &c->nodes[i]);
    for (uint32_t round = 0; round < 2 * ELECTION_TICKS; round++)
        calm_round(c);
    ASSERT(c->seen.count > before);
    ASSERT(c->reads_answered == answered + members);
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        if (!is_member(c, &c->nodes[i]))
            continue;
        ASSERT(c->nodes[i].applied == c->seen.count);
        ASSERT(raft_leader(c->nodes[i].raft) == leader->id);
    }
}

/* Each seed has its own mixture of faults, some of them off: combinations that an even mixture
 * never reaches (swarm testing). */
static void draw_rates(struct cluster *c)
{
    static const uint32_t max[] = {200, 100, 8, 60, 6, 30, 80, 200, 6, 6, 600, 20, 30, 200, 400};
    _Static_assert(sizeof(max) == sizeof(struct rates), "one maximum per rate");
    uint32_t *rate = &c->rates.lose;
    for (uint32_t i = 0; i < sizeof(max) / sizeof(max[0]); i++)
        rate[i] = chance(c, 300) ? 0 : (uint32_t)rng_below(&c->rng, max[i] + 1);
    c->rates.start += 10;
    c->rates.heal += 3;
    c->rates.propose += 20;
    c->rates.disk += 50;
    c->ticks_rate = chance(c, 500) ? 60 : 30 + (uint32_t)rng_below(&c->rng, 300);
    if (chance(c, 500))
        c->rates.disk = 1000;
}

static struct cluster *cluster_new(uint64_t seed)
{
    static const uint32_t sizes[] = {3, 3, 3, 5, 5, 1, 2, 4, 7};
    struct cluster *c = mem_alloc_zero(sizeof(*c));
    rng_init(&c->rng, seed);
    uint32_t voters = sizes[rng_below(&c->rng, sizeof(sizes) / sizeof(sizes[0]))];
    draw_rates(c);
    c->ordered = chance(c, 500);
    relink(c, true);

    struct raft_options *o = &c->options;
    raft_options_init(o);
    o->election_timeout_ticks = ELECTION_TICKS;
    o->pre_vote = chance(c, 700);
    o->check_quorum = chance(c, 700);
    o->inflight_msgs_max = 1 + (uint32_t)rng_below(&c->rng, 20);
    o->msg_bytes_max = 1 + rng_below(&c->rng, 2000);
    o->inflight_bytes_max = 1 + rng_below(&c->rng, 20000);
    o->log_window_bytes = chance(c, 500) ? 1u << 20 : rng_below(&c->rng, 2000);
    o->log_tail_bytes = rng_below(&c->rng, 2000);
    o->uncommitted_bytes_max = 1 + rng_below(&c->rng, 100000);
    o->lease_reads = o->check_quorum && chance(c, 300);
    c->switch_off = !o->check_quorum || chance(c, 500);
    struct raft_ids *ids = &c->seen.membership.voters;
    for (; ids->count < voters; ids->count++)
        ids->ids[ids->count] = ids->count + 1;
    c->seen.before = c->seen.membership;
    for (uint32_t i = 0; i < voters; i++)
        node_new(c, &c->seen.membership);
    return c;
}

static void cluster_free(struct cluster *c)
{
    while (c->net_count > 0)
        net_remove(c, c->net_count - 1);
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        raft_free(c->nodes[i].raft);
        model_disk_fini(&c->nodes[i].disk);
    }
    for (uint64_t i = 0; i < c->seen.count; i++)
        bref_unref(c->seen.committed[i].owner);
    mem_free(c->seen.committed);
    mem_free(c);
}

static uint64_t number(const char *arg, const char *env, uint64_t otherwise)
{
    const char *text = arg != NULL ? arg : getenv(env);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void print_mark(const struct probe *p, void *arg)
{
    (void)arg;
    printf("  %-32s %llu\n", p->name, (unsigned long long)atomic_load(&p->hits));
}

int main(int argc, char **argv)
{
    uint64_t seeds = number(argc > 1 ? argv[1] : NULL, "RAFT_SEEDS", 60);
    uint64_t first = number(argc > 2 ? argv[2] : NULL, "RAFT_FIRST_SEED", 1);
    uint64_t steps = number(NULL, "RAFT_STEPS", 6000);
    signal(SIGABRT, on_abort);

    uint64_t committed = 0, elections = 0, reads = 0, confs = 0, snapshots = 0;
    for (seed_now = first; seed_now < first + seeds; seed_now++) {
        struct cluster *c = cluster_new(seed_now);
        for (uint64_t step = 0; step < steps; step++) {
            act(c);
            if (step % 100 == 0)
                check_disks(c);
        }
        calm_down(c);
        check_disks(c);
        committed += c->seen.count;
        elections += c->elections;
        reads += c->reads_answered;
        confs += c->confs;
        snapshots += c->snapshots;
        cluster_free(c);
    }
    printf("%llu seeds of %llu steps: %llu entries committed, %llu leaders, %llu reads, "
           "%llu changes of membership, %llu snapshots\n",
           (unsigned long long)seeds, (unsigned long long)steps, (unsigned long long)committed,
           (unsigned long long)elections, (unsigned long long)reads, (unsigned long long)confs,
           (unsigned long long)snapshots);
    probe_each(print_mark, NULL);
    return committed > 0 && reads > 0 && confs > 0 && snapshots > 0 ? 0 : 1;
}
