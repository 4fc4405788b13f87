#include "operator.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "call.h"
#include "client.h"
#include "member.h"
#include "proto/wirefield.h"

#include <stdio.h>

enum {
    LOOK_US = 300000,
    PATIENCE_US = 12000000, /* longer than a member's for a change */
    DOUBT_US = 20000000,    /* what is not answered may happen so long */
    MEMBERS_WANTED_MAX = 5,
    VOTERS_MIN = 3,
    LEAVING_LOOK_US = 50,
    LEAVING_LOOKS_MAX = 40,
    CHANCE_PERCENT = 60,
};

/* EVENT_OPERATOR: what for. */
enum { OPERATOR_NEXT, OPERATOR_LEAVING };

struct overseer {
    struct sim *sim;
    struct rng rng;
    bool acts; /* in this run */
    uint64_t interval_us;
    uint64_t next_us;
    struct grpc_call *call;
    struct grpc_call *move; /* of the leadership, to one that leaves */
    uint64_t leaves;
    uint32_t looks_left; /* at the log that this is going to be on */
    bool counts;         /* what is asked is about voters */
    uint64_t give_up_us;
    uint64_t doubt_until_us;
};

static void schedule(struct overseer *op)
{
    struct sim *s = op->sim;
    events_push(&s->events, &(struct event){.at_us = s->now_us + LOOK_US, .kind = EVENT_OPERATOR});
}

struct overseer *operator_new(struct sim *s)
{
    struct overseer *op = mem_alloc_zero(sizeof(*op));
    op->sim = s;
    sim_rng_init(s, &op->rng, 13);
    op->acts = rng_below(&op->rng, 100) < CHANCE_PERCENT && s->o.crash_at == 0 &&
               (s->o.works_off >> WORK_MEMBER & 1) == 0;
    op->interval_us = 1000 * (300 + rng_below(&op->rng, 5000));
    op->next_us = s->now_us + 1000000;
    schedule(op);
    return op;
}

void operator_free(struct overseer *op)
{
    if (op->call != NULL)
        call_drop(op->call);
    if (op->move != NULL)
        call_drop(op->move);
    mem_free(op);
}

/* --- what may be asked of the cluster --- */

static const struct member *place_of(const struct sim *s, uint64_t id)
{
    for (uint32_t i = 0; i < s->members_count; i++)
        if (s->members[i].id == id)
            return &s->members[i];
    return NULL;
}

/* It still has all that it ever promised. One that was added and has not begun promised nothing. */
static bool is_whole(const struct sim *s, uint64_t id)
{
    const struct member *m = place_of(s, id);
    if (m != NULL)
        return !m->disk->at_risk && m->loss == LOSS_NONE;
    for (uint32_t i = 0; i < s->judge.ids_count; i++)
        if (s->judge.ids[i].id == id)
            return false;
    return true;
}

static bool leaves_majority(const struct sim *s, const struct raft_ids *voters, uint64_t without)
{
    uint32_t whole = 0;
    for (uint32_t i = 0; i < voters->count; i++)
        whole += voters->ids[i] != without && is_whole(s, voters->ids[i]);
    return 2 * whole > voters->count;
}

/* Also when all learners have a voice, which the leader may give to those that replace others. */
static bool leaves_majority_of_all(const struct sim *s, uint64_t without)
{
    const struct raft_membership *m = &s->judge.cluster.raft;
    uint32_t all = m->voters.count + m->learners.count, whole = 0;
    for (uint32_t i = 0; i < m->voters.count; i++)
        whole += m->voters.ids[i] != without && is_whole(s, m->voters.ids[i]);
    for (uint32_t i = 0; i < m->learners.count; i++)
        whole += m->learners.ids[i] != without && is_whole(s, m->learners.ids[i]);
    return 2 * whole > all;
}

/* After a crash, too, the member goes by the newest membership. */
static bool knows_newest(const struct sim *s, const struct member *m)
{
    uint64_t index = s->judge.cluster_index;
    return m->judged.hs_durable.commit >= index ||
           (m->store.parts[INSTALL_STORE] != NULL && store_meta(&m->store)->applied_index >= index);
}

static bool all_know_newest(const struct sim *s)
{
    const struct raft_ids *voters = &s->judge.cluster.raft.voters;
    for (uint32_t i = 0; i < voters->count; i++) {
        const struct member *m = place_of(s, voters->ids[i]);
        if (is_whole(s, voters->ids[i]) && (m == NULL || !knows_newest(s, m)))
            return false;
    }
    return true;
}

static bool is_settled(const struct sim *s)
{
    return s->now_us >= s->overseer->doubt_until_us && s->overseer->call == NULL &&
           !judge_change_is_pending(s) && !raft_membership_is_joint(&s->judge.cluster.raft) &&
           all_know_newest(s);
}

/* The first seconds after the very first start are another matter: see docs/safety.md. They last
 * until everybody's name is on the log, and everybody has a log. */
static bool has_begun(const struct sim *s, const struct member *m)
{
    const struct cluster_member *self = cluster_find(&m->node.cluster, m->id);
    if (m->judged.self < s->founders_count && (self == NULL || !self->started))
        return false;
    for (uint32_t i = 0; i < s->members_count; i++)
        if (s->members[i].original && s->members[i].id != 0 && s->members[i].judged.log.last == 0)
            return false;
    return true;
}

bool operator_spares(const struct sim *s, const struct member *m)
{
    if (m->id == 0 || !has_begun(s, m) || m->disk->at_risk || m->loss != LOSS_NONE ||
        s->judge.ids_count + SIM_MEMBERS_MAX >= JUDGE_IDS_MAX)
        return false;
    return is_settled(s) && leaves_majority(s, &s->judge.cluster.raft.voters, m->id) &&
           leaves_majority_of_all(s, m->id);
}

/* --- asking --- */

static void on_reply(void *ctx, struct slice msg)
{
    (void)ctx;
    (void)msg; /* what became of it is seen in the membership */
}

static bool is_refused(const char *text)
{
    static const int refusals[] = {
        TV_UNHEALTHY,         TV_MEMBER_NOT_ENOUGH_STARTED, TV_LEARNER_NOT_READY,
        TV_TOO_MANY_LEARNERS, TV_MEMBER_NOT_FOUND,          TV_MEMBER_EXIST,
        TV_PEER_URL_EXIST,    TV_MEMBER_NOT_LEARNER,        TV_NOT_SUPPORTED_FOR_LEARNER,
        TV_NO_LEADER};
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        if (strcmp(text, tv_err_text(refusals[i])) == 0)
            return true;
    return strcmp(text, "connection refused") == 0;
}

static void on_ended(void *ctx, enum grpc_code code, const char *text)
{
    struct overseer *op = ctx;
    struct sim *s = op->sim;
    sim_trace(s, 7, (uint64_t)code, 0);
    sim_say(s, "the change of the membership: %s", code == GRPC_OK ? "made" : text);
    call_drop(op->call);
    op->call = NULL;
    op->next_us = s->now_us + sim_exponential(&op->rng, op->interval_us);
    if (code == GRPC_OK)
        return;
    s->stats->changes_refused++;
    if (is_refused(text))
        op->next_us = s->now_us + LOOK_US;
    else if (op->counts)
        op->doubt_until_us = s->now_us + DOUBT_US;
}

static const struct call_client asking = {.reply = on_reply, .ended = on_ended};

enum { FIELD_ID = 1, FIELD_ADD_URLS = 1, FIELD_ADD_IS_LEARNER = 2, FIELD_UPDATE_URLS = 2 };

static void ask_place(struct overseer *op, uint32_t place, const char *path, struct slice msg)
{
    struct sim *s = op->sim;
    s->stats->changes_asked++;
    op->give_up_us = s->now_us + PATIENCE_US;
    op->call = call_start(s, place, path, false, &asking, op);
    call_send(op->call, msg);
}

static void ask(struct overseer *op, const char *path, const uint8_t *msg, size_t size)
{
    ask_place(op, member_some(op->sim, &op->rng), path, slice_of(msg, size));
}

static void ask_about(struct overseer *op, const char *path, uint64_t id)
{
    uint8_t msg[32];
    ask(op, path, msg, (size_t)(wire_uint_put(msg, FIELD_ID, id) - msg));
}

static uint32_t free_place(struct overseer *op)
{
    const struct sim *s = op->sim;
    uint32_t number = (uint32_t)rng_below(&op->rng, SIM_MEMBERS_MAX);
    if (number > s->members_count)
        number = s->members_count;
    while (number < s->members_count && s->members[number].in_use)
        number++;
    return number;
}

/* Until one that is added begins, the others have to be a majority without it: to begin it needs
 * more of them than can vote (join.h). And a learner's own data may be lost already. */
static bool can_bear_one_more(const struct sim *s)
{
    const struct raft_ids *voters = &s->judge.cluster.raft.voters;
    uint32_t whole = 0;
    for (uint32_t i = 0; i < voters->count; i++)
        whole += is_whole(s, voters->ids[i]);
    return 2 * whole > voters->count + 1;
}

static void add(struct overseer *op)
{
    struct sim *s = op->sim;
    uint32_t number = free_place(op);
    if (number >= SIM_MEMBERS_MAX || s->judge.ids_count + SIM_MEMBERS_MAX >= JUDGE_IDS_MAX)
        return;
    bool learner = rng_below(&op->rng, 3) > 0 || !can_bear_one_more(s);
    op->counts = !learner;
    char url[16];
    uint8_t msg[64], *p = msg;
    (void)snprintf(url, sizeof(url), "http://%c:1", (char)('a' + number));
    p = wire_item_put(p, FIELD_ADD_URLS, slice_of_string(url));
    if (learner)
        p = wire_uint_put(p, FIELD_ADD_IS_LEARNER, 1);
    sim_say(s, "operator: add place %u%s", number, learner ? " as a learner" : "");
    ask(op, "/etcdserverpb.Cluster/MemberAdd", msg, (size_t)(p - msg));
}

static void promote(struct overseer *op, const struct cluster_member *m)
{
    if (!m->learner || !can_bear_one_more(op->sim))
        return;
    sim_say(op->sim, "operator: promote %llx", (unsigned long long)m->id);
    ask_about(op, "/etcdserverpb.Cluster/MemberPromote", m->id);
}

/* The same machine, at its other port. */
static void update(struct overseer *op, const struct cluster_member *m)
{
    char url[16];
    uint8_t msg[64], *p = wire_uint_put(msg, FIELD_ID, m->id);
    (void)snprintf(url, sizeof(url), "%s", m->peer_urls[0]);
    char *port = url + strlen(url) - 1;
    *port = *port == '1' ? '2' : '1';
    p = wire_item_put(p, FIELD_UPDATE_URLS, slice_of_string(url));
    op->counts = false;
    sim_say(op->sim, "operator: %llx is at %s", (unsigned long long)m->id, url);
    ask(op, "/etcdserverpb.Cluster/MemberUpdate", msg, (size_t)(p - msg));
}

static uint32_t voters_lost(const struct sim *s)
{
    const struct raft_ids *voters = &s->judge.cluster.raft.voters;
    uint32_t lost = 0;
    for (uint32_t i = 0; i < voters->count; i++)
        lost += !is_whole(s, voters->ids[i]);
    return lost;
}

/* Nobody who is needed. A member that is there goes only when no other is lost. */
static bool may_remove(struct overseer *op, const struct cluster_member *m)
{
    const struct sim *s = op->sim;
    if (!is_settled(s))
        return false;
    if (m->learner)
        return true;
    struct raft_ids left = {0};
    const struct raft_ids *voters = &s->judge.cluster.raft.voters;
    for (uint32_t i = 0; i < voters->count; i++)
        if (voters->ids[i] != m->id)
            left.ids[left.count++] = voters->ids[i];
    bool lost = !is_whole(s, m->id);
    bool enough = left.count >= VOTERS_MIN || (lost && left.count + 1 >= VOTERS_MIN);
    return enough && voters_lost(s) == lost && leaves_majority(s, &left, 0);
}

static void on_moved(void *ctx, enum grpc_code code, const char *text)
{
    struct overseer *op = ctx;
    (void)code;
    (void)text;
    call_drop(op->move);
    op->move = NULL;
}

static const struct call_client moving = {.reply = on_reply, .ended = on_moved};

static void move_leadership(struct overseer *op, uint32_t leader, uint64_t id)
{
    uint8_t msg[32];
    size_t size = (size_t)(wire_uint_put(msg, FIELD_ID, id) - msg);
    if (op->move != NULL)
        call_drop(op->move);
    op->move =
        call_start(op->sim, leader, "/etcdserverpb.Maintenance/MoveLeader", false, &moving, op);
    call_send(op->move, slice_of(msg, size));
}

static const struct member *find_leader(const struct sim *s)
{
    for (uint32_t i = 0; i < s->members_count; i++)
        if (s->members[i].up && raft_role(s->members[i].raft) == RAFT_LEADER)
            return &s->members[i];
    return NULL;
}

static bool has_change_in_log(const struct sim *s, const struct member *m)
{
    const struct judge_log *log = &m->judged.log;
    for (uint64_t i = s->judge.committed.last + 1; i <= log->last; i++)
        if (log->entries[i].is_conf)
            return true;
    return false;
}

/* Somebody wants the one that goes to lead, when that is on the leader's log and not committed. */
static void look_at_removal(struct overseer *op)
{
    struct sim *s = op->sim;
    const struct member *leader = find_leader(s);
    if (leader != NULL && has_change_in_log(s, leader))
        move_leadership(op, leader->number, op->leaves);
    else if (op->looks_left-- > 0)
        events_push(&s->events, &(struct event){.at_us = s->now_us + LEAVING_LOOK_US,
                                                .kind = EVENT_OPERATOR,
                                                .a = OPERATOR_LEAVING});
}

static void remove_member(struct overseer *op, const struct cluster_member *m)
{
    if (!may_remove(op, m))
        return;
    sim_say(op->sim, "operator: remove %llx", (unsigned long long)m->id);
    const struct member *leader = find_leader(op->sim);
    if (leader == NULL || rng_below(&op->rng, 2) == 0) {
        ask_about(op, "/etcdserverpb.Cluster/MemberRemove", m->id);
        return;
    }
    uint8_t msg[32];
    size_t size = (size_t)(wire_uint_put(msg, FIELD_ID, m->id) - msg);
    ask_place(op, leader->number, "/etcdserverpb.Cluster/MemberRemove", slice_of(msg, size));
    op->leaves = m->id;
    op->looks_left = LEAVING_LOOKS_MAX;
    look_at_removal(op);
}

static void change_something(struct overseer *op)
{
    const struct cluster *c = &op->sim->judge.cluster;
    uint32_t first = (uint32_t)rng_below(&op->rng, c->members_count);
    switch (rng_below(&op->rng, 8)) {
    case 0:
    case 1:
    case 2:
        if (c->members_count < MEMBERS_WANTED_MAX || rng_below(&op->rng, 4) == 0)
            add(op);
        break;
    case 3:
    case 4:
        for (uint32_t i = 0; i < c->members_count && op->call == NULL; i++)
            promote(op, &c->members[i]);
        break;
    case 5:
        update(op, &c->members[first]);
        break;
    default: /* whoever may go */
        for (uint32_t i = 0; i < c->members_count && op->call == NULL; i++)
            remove_member(op, &c->members[(first + i) % c->members_count]);
        break;
    }
}

/* --- looking after it --- */

/* Who was added gets a machine. */
static void start_added(struct sim *s)
{
    const struct cluster *c = &s->judge.cluster;
    for (uint32_t i = 0; i < c->members_count; i++) {
        uint32_t number = (uint32_t)(strstr(c->members[i].peer_urls[0], "//")[2] - 'a');
        if (number >= s->members_count || !s->members[number].in_use)
            member_enter(s, number);
    }
}

void operator_event(struct sim *s, const struct event *e)
{
    struct overseer *op = s->overseer;
    if (e->a == OPERATOR_LEAVING) {
        look_at_removal(op);
        return;
    }
    schedule(op);
    start_added(s);
    if (op->call != NULL && s->now_us >= op->give_up_us) {
        call_drop(op->call);
        op->call = NULL;
        if (op->counts)
            op->doubt_until_us = s->now_us + DOUBT_US;
    }
    if (!op->acts || s->calm || op->call != NULL || s->now_us < op->next_us)
        return;
    op->next_us = s->now_us + sim_exponential(&op->rng, op->interval_us);
    op->counts = true;
    change_something(op);
}

bool operator_is_content(const struct sim *s)
{
    const struct cluster *c = &s->judge.cluster;
    if (s->overseer->call != NULL || raft_membership_is_joint(&c->raft))
        return false;
    for (uint32_t i = 0; i < s->members_count; i++)
        if (s->members[i].in_use &&
            (!s->members[i].up || cluster_find(c, s->members[i].id) == NULL))
            return false;
    for (uint32_t i = 0; i < c->members_count; i++)
        if (place_of(s, c->members[i].id) == NULL ||
            (c->members[i].learner && c->members[i].replacement))
            return false;
    return true;
}

void operator_explain(struct sim *s)
{
    const struct cluster *c = &s->judge.cluster;
    for (uint32_t i = 0; i < c->members_count; i++) {
        const struct member *m = place_of(s, c->members[i].id);
        sim_say(s, "member %llx: place %d%s%s", (unsigned long long)c->members[i].id,
                m == NULL ? -1 : (int)m->number, c->members[i].learner ? ", a learner" : "",
                c->members[i].replacement ? " that replaces another" : "");
    }
}
