/* Three cores in one thread, on disks in memory: what a member does when its disk does not answer,
 * when it has no room, when leadership is to move, and when many leases end at once. Nothing here
 * depends on time or chance: a round is one heartbeat. */
#include "unit.h"

#include "server/core.h"
#include "server/restore.h"

#include "base/err.h"
#include "base/mem.h"
#include "storage/disk_mem.h"

#include <stdio.h>
#include <string.h>

enum { NODES = 3, HEARTBEAT_MS = 100, ELECTION_MS = 1000, ELECTION_TICKS = 10, NET_MAX = 4096 };

struct node {
    uint64_t id;
    struct disk *disk;
    struct wal *wal;
    struct mvcc *mvcc;
    struct lessor *lessor;
    struct applier applier;
    struct persist *persist;
    struct core *core;
    bool cut_off; /* nothing reaches it, nothing leaves it */
};

static struct cluster members;
static struct node nodes[NODES];
static struct raft_msg *net[NET_MAX];
static uint32_t net_count;
static uint64_t now_ms;

/* --- the world --- */

static void store_attach(void *ctx, struct mvcc *m, struct lsm_meta *ret_meta)
{
    (void)ctx, (void)m;
    *ret_meta = LSM_META_FRESH;
}

static void store_put(void *ctx, const struct mvcc_version *v)
{
    (void)ctx, (void)v;
}

static void store_commit(void *ctx, const struct lsm_meta *meta, const struct persist_meta *metas)
{
    (void)ctx, (void)meta, (void)metas;
}

static void store_detach(void *ctx)
{
    (void)ctx;
}

static void env_send(void *ctx, const struct raft_msg *msg)
{
    const struct node *n = ctx;
    if (n->cut_off || net_count == NET_MAX)
        return;
    struct raft_msg *copy = mem_dup(msg, sizeof(*msg));
    copy->entries = mem_dup(msg->entries, msg->entries_count * sizeof(*msg->entries));
    for (uint32_t i = 0; i < msg->entries_count; i++)
        if (msg->entries[i].owner != NULL)
            bref_ref(msg->entries[i].owner);
    net[net_count++] = copy;
}

static void env_send_question(void *ctx, uint64_t to, const struct core_question *msg)
{
    (void)ctx, (void)to, (void)msg;
}

static void env_answer(void *ctx, struct request *req)
{
    (void)ctx;
    req->answered(NULL, req);
    bref_unref(req->payload);
    bref_unref(req->reply);
    mem_free(req);
}

static void env_published(void *ctx)
{
    (void)ctx;
}

static uint64_t wake_in_ms; /* what was asked for last; 0 = nothing */

static void env_wake_in(void *ctx, uint64_t ms)
{
    (void)ctx;
    wake_in_ms = ms;
}

static void on_wal_done(void *ctx, uint64_t seq)
{
    core_log_written(((struct node *)ctx)->core, seq);
}

static void node_start(struct node *n, uint64_t id)
{
    char err_text[256];
    *n = (struct node){.id = id, .disk = disk_mem_new(id), .mvcc = mvcc_new(NULL)};
    n->lessor = lessor_new(2);
    applier_init(&n->applier, n->mvcc, n->lessor, &members, id);
    struct persist_store ops = {
        .attach = store_attach, .put = store_put, .commit = store_commit, .detach = store_detach};
    struct persist_options po;
    persist_options_init(&po);
    po.mvcc = n->mvcc;
    po.store = &ops;
    po.threaded = false;
    po.flush_entries = 50;
    n->persist = persist_new(&po);
    struct restore r;
    restore_init(&r, 0);
    struct wal_options wo;
    wal_options_init(&wo);
    wo.disk = n->disk;
    wo.segment_size_bytes = 256 << 10;
    wo.cluster_id = members.id;
    wo.member_id = id;
    wo.salt = 7;
    struct wal_replay replay = restore_replay(&r);
    ck_assert_int_eq(wal_open(&wo, &replay, &n->wal, err_text, sizeof(err_text)), 0);
    struct core_options o = {.cluster = &members,
                             .member_id = id,
                             .mvcc = n->mvcc,
                             .wal = n->wal,
                             .persist = n->persist,
                             .applier = &n->applier,
                             .env = {.ctx = n,
                                     .send = env_send,
                                     .send_question = env_send_question,
                                     .answer = env_answer,
                                     .published = env_published,
                                     .wake = env_published,
                                     .wake_in = env_wake_in},
                             .heartbeat_ms = HEARTBEAT_MS,
                             .election_ms = ELECTION_MS,
                             .pre_vote = true,
                             .seed = id,
                             .id_seed = 1000,
                             .snapshot_count = 100000};
    n->core = core_new(&o);
    wal_set_done(n->wal, on_wal_done, n);
    restore_fini(&r);
}

static void start(void)
{
    char err_text[256];
    now_ms = 1000;
    ck_assert_int_eq(cluster_from_initial("a=http://a:1,b=http://b:1,c=http://c:1", "t", &members,
                                          err_text, sizeof(err_text)),
                     0);
    for (int i = 0; i < NODES; i++)
        node_start(&nodes[i], members.members[i].id);
}

static void free_msg(struct raft_msg *m)
{
    for (uint32_t i = 0; i < m->entries_count; i++)
        bref_unref(m->entries[i].owner);
    mem_free((void *)m->entries);
    mem_free(m);
}

static void deliver(void)
{
    for (uint32_t at = 0; at < net_count; at++) {
        for (int i = 0; i < NODES; i++)
            if (nodes[i].id == net[at]->to && !nodes[i].cut_off)
                core_receive(nodes[i].core, net[at]);
        free_msg(net[at]);
    }
    net_count = 0;
}

static void settle(void)
{
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < NODES; k++) {
            wal_poll(nodes[k].wal);
            core_turn(nodes[k].core, now_ms);
        }
        deliver();
    }
}

static void round_of(uint32_t count)
{
    while (count-- > 0) {
        now_ms += HEARTBEAT_MS;
        for (int i = 0; i < NODES; i++)
            core_tick(nodes[i].core, now_ms);
        settle();
    }
}

static void stop(void)
{
    for (uint32_t i = 0; i < net_count; i++)
        free_msg(net[i]);
    net_count = 0;
    for (int i = 0; i < NODES; i++) {
        struct node *n = &nodes[i];
        disk_mem_set_completion_percent(n->disk, 100);
        disk_mem_set_capacity(n->disk, 0);
        core_free(n->core);
        wal_set_done(n->wal, NULL, NULL);
        wal_close(n->wal);
        disk_close(n->disk);
        persist_free(n->persist);
        applier_fini(&n->applier);
        lessor_free(n->lessor);
        mvcc_free(n->mvcc);
    }
    cluster_fini(&members);
}

/* The node that leads and knows it; NULL when there is none. */
static struct node *leader(void)
{
    for (int i = 0; i < NODES; i++) {
        struct core_status s;
        core_status(nodes[i].core, &s);
        if (s.leader == nodes[i].id && !nodes[i].cut_off)
            return &nodes[i];
    }
    return NULL;
}

static struct node *wait_for_leader(void)
{
    for (int i = 0; i < 100 && leader() == NULL; i++)
        round_of(1);
    ck_assert_ptr_nonnull(leader());
    round_of(3);
    return leader();
}

static bool leads(const struct node *n)
{
    struct core_status s;
    core_status(n->core, &s);
    return s.leader == n->id;
}

/* --- requests --- */

enum { WAITS = 1 };

static int outcome; /* of the last request; WAITS: none yet */

static void on_answered(struct worker *w, struct request *req)
{
    (void)w;
    outcome = req->err;
}

static struct request *new_request(enum request_kind kind)
{
    struct request *req = mem_alloc_zero(sizeof(*req));
    list_init(&req->link);
    req->kind = kind;
    req->answered = on_answered;
    outcome = WAITS;
    return req;
}

static void propose(struct node *n, uint32_t kind, struct slice body)
{
    struct request *req = new_request(REQUEST_PROPOSE);
    req->id = core_next_request_id(n->core);
    req->payload_size = (uint32_t)wire_raft_request_size(kind, req->id, body);
    req->payload = bref_new(req->payload_size);
    wire_raft_request_put(req->payload->data, kind, req->id, body);
    core_submit(n->core, req);
}

static void submit_put(struct node *n, size_t value_size)
{
    static uint8_t body[70000], value[60000];
    struct wire_put_request put = {.key = SLICE_LITERAL("k"), .value = slice_of(value, value_size)};
    propose(n, WIRE_RAFT_PUT, slice_of(body, (size_t)(wire_put_request_put(body, &put) - body)));
}

static int put(struct node *n, size_t value_size)
{
    submit_put(n, value_size);
    for (int i = 0; i < 3 && outcome == WAITS; i++)
        round_of(1);
    return outcome;
}

static int delete_key(struct node *n)
{
    uint8_t body[64];
    struct wire_delete_range_request del = {.key = SLICE_LITERAL("k")};
    propose(n, WIRE_RAFT_DELETE_RANGE,
            slice_of(body, (size_t)(wire_delete_range_request_put(body, &del) - body)));
    for (int i = 0; i < 3 && outcome == WAITS; i++)
        round_of(1);
    return outcome;
}

static void stall(struct node *n)
{
    disk_mem_set_completion_percent(n->disk, 0);
}

/* --- the beginning --- */

static void connect_all(void)
{
    for (int i = 0; i < NODES; i++)
        for (int k = 0; k < NODES; k++)
            if (i != k)
                core_peer_connected(nodes[i].core, nodes[k].id, true);
}

/* Members that reach each other and know of no leader do not wait for one. */
START_TEST(test_stands_at_once)
{
    start();
    round_of(ELECTION_TICKS - 1);
    ck_assert_ptr_null(leader());
    stop();
    start();
    connect_all();
    round_of(ELECTION_TICKS / 2);
    ck_assert_ptr_nonnull(leader());
    ck_assert_int_eq(put(leader(), 10), 0);
    stop();
}
END_TEST

/* --- a disk that does not answer --- */

START_TEST(test_stalled_leader_hands_over)
{
    start();
    struct node *old = wait_for_leader();
    ck_assert_int_eq(put(old, 10), 0);
    stall(old);
    /* The others are enough to commit; nobody notices anything until the patience is over. */
    ck_assert_int_eq(put(old, 10), 0);
    ck_assert(leads(old));
    round_of(ELECTION_TICKS + 3);
    struct node *new = leader();
    ck_assert_ptr_nonnull(new);
    ck_assert(new != old && !leads(old));
    ck_assert_int_eq(put(new, 10), 0);
    round_of(5 * ELECTION_TICKS);
    ck_assert(leader() == new);

    /* The next leader goes too. Of the two that are left one must not stand, and the other gets no
     * vote from a disk that cannot keep it. */
    new->cut_off = true;
    round_of(10 * ELECTION_TICKS);
    ck_assert(!leads(old));
    ck_assert_ptr_null(leader());
    disk_mem_set_completion_percent(old->disk, 100);
    ck_assert_ptr_nonnull(wait_for_leader());
    ck_assert_int_eq(put(leader(), 10), 0);
    stop();
}
END_TEST

/* It may lead again once its disk answers. */
START_TEST(test_stall_ends)
{
    start();
    struct node *old = wait_for_leader();
    stall(old);
    ck_assert_int_eq(put(old, 10), 0);
    round_of(3 * ELECTION_TICKS);
    struct node *new = leader();
    ck_assert(new != NULL &&new != old);
    disk_mem_set_completion_percent(old->disk, 100);
    round_of(5);
    struct request *req = new_request(REQUEST_MOVE_LEADER);
    req->target = old->id;
    core_submit(new->core, req);
    round_of(ELECTION_TICKS);
    ck_assert_int_eq(outcome, 0);
    ck_assert(leader() == old);
    ck_assert_int_eq(put(old, 10), 0);
    stop();
}
END_TEST

/* A stalled member that is asked to lead does not: the leader goes on. */
START_TEST(test_stalled_member_is_no_successor)
{
    start();
    struct node *old = wait_for_leader();
    struct node *other = old == &nodes[0] ? &nodes[1] : &nodes[0];
    stall(other);
    ck_assert_int_eq(put(old, 10), 0);
    round_of(2 * ELECTION_TICKS);
    struct request *req = new_request(REQUEST_MOVE_LEADER);
    req->target = other->id;
    core_submit(old->core, req);
    round_of(5 * ELECTION_TICKS);
    ck_assert(leader() == old);
    ck_assert_int_eq(outcome, WAITS);
    round_of(5 * ELECTION_TICKS);
    ck_assert_int_eq(outcome, TV_TIMEOUT_LEADER_TRANSFER);
    ck_assert_int_eq(put(old, 10), 0);
    stop();
}
END_TEST

/* With nobody to hand over to, the leader stays and says so once. */
START_TEST(test_stalled_alone)
{
    start();
    struct node *old = wait_for_leader();
    for (int i = 0; i < NODES; i++)
        stall(&nodes[i]);
    ck_assert_int_eq(put(old, 10), WAITS);
    round_of(5 * ELECTION_TICKS);
    for (int i = 0; i < NODES; i++)
        disk_mem_set_completion_percent(nodes[i].disk, 100);
    ck_assert_ptr_nonnull(wait_for_leader());
    ck_assert_int_eq(put(leader(), 10), 0);
    stop();
}
END_TEST

/* --- a disk without room --- */

static bool raised_for_disk(const struct node *of)
{
    bool raised = false;
    for (int i = 0; i < NODES; i++) {
        bool here =
            alarms_reasons(&nodes[i].applier.alarms, of->id, ALARM_NOSPACE) == ALARM_FOR_DISK;
        ck_assert(i == 0 || here == raised);
        raised = here;
    }
    return raised;
}

/* The node has looked: little room. Whoever it is, all stop to add. */
static void room_story(struct node *n)
{
    struct node *l = leader();
    core_disk_low(n->core, true);
    round_of(15);
    ck_assert(core_lacks_room(n->core));
    ck_assert(raised_for_disk(n));
    ck_assert_int_eq(put(l, 10), TV_NO_SPACE);
    ck_assert_int_eq(delete_key(l), 0);
    /* An operator ends the alarm: it comes back while the disk is as it is. */
    uint8_t body[64];
    struct alarm_request r = {
        .action = ALARM_DEACTIVATE, .member_id = n->id, .type = ALARM_NOSPACE};
    propose(l, WIRE_RAFT_ALARM, slice_of(body, (size_t)(alarm_request_put(body, &r) - body)));
    round_of(15);
    ck_assert_int_eq(outcome, 0);
    ck_assert(raised_for_disk(n));
    core_disk_low(n->core, false);
    round_of(15);
    ck_assert(!raised_for_disk(n) && !core_lacks_room(n->core));
    ck_assert_int_eq(put(l, 10), 0);
}

START_TEST(test_low_disk)
{
    start();
    struct node *l = wait_for_leader();
    room_story(l);
    room_story(l == &nodes[0] ? &nodes[1] : &nodes[0]);
    stop();
}
END_TEST

/* What an operator raised stays when the disk has room again. */
START_TEST(test_low_disk_and_operator)
{
    start();
    struct node *l = wait_for_leader();
    uint8_t body[64];
    struct alarm_request r = {.action = ALARM_ACTIVATE, .member_id = l->id, .type = ALARM_NOSPACE};
    propose(l, WIRE_RAFT_ALARM, slice_of(body, (size_t)(alarm_request_put(body, &r) - body)));
    core_disk_low(l->core, true);
    round_of(15);
    ck_assert_uint_eq(alarms_reasons(&l->applier.alarms, l->id, ALARM_NOSPACE),
                      ALARM_FOR_ASKED | ALARM_FOR_DISK);
    core_disk_low(l->core, false);
    round_of(15);
    ck_assert_uint_eq(alarms_reasons(&l->applier.alarms, l->id, ALARM_NOSPACE), ALARM_FOR_ASKED);
    ck_assert_int_eq(put(l, 10), TV_NO_SPACE);
    stop();
}
END_TEST

/* The log finds no room for its next segment: the alarm comes while the current one still takes
 * what is on its way, and goes when there is room. */
START_TEST(test_log_without_room)
{
    start();
    struct node *l = wait_for_leader();
    struct node *n = l == &nodes[0] ? &nodes[1] : &nodes[0];
    uint64_t applied = 0;
    disk_mem_set_capacity(n->disk, wal_size_bytes(n->wal));
    int err = 0;
    for (int i = 0; i < 100 && err == 0; i++)
        err = put(l, 50000);
    ck_assert_int_eq(err, TV_NO_SPACE);
    ck_assert(raised_for_disk(n));
    ck_assert(wal_lacks_room(n->wal));
    /* Nothing that was acknowledged waits for room. */
    round_of(5);
    ck_assert(wal_idle(n->wal));
    ck_assert_int_eq(delete_key(l), 0);
    struct core_status s;
    core_status(n->core, &s);
    applied = s.applied_index;
    ck_assert_uint_gt(applied, 5);
    disk_mem_set_capacity(n->disk, 0);
    round_of(30);
    ck_assert(!wal_lacks_room(n->wal));
    ck_assert(!raised_for_disk(n));
    ck_assert_int_eq(put(l, 50000), 0);
    stop();
}
END_TEST

/* --- a log that is longer than the store --- */

/* As if a compaction had been applied: what follows is each member's own. */
static void compact_all(void)
{
    for (int i = 0; i < NODES; i++) {
        ck_assert_int_eq(mvcc_compact(nodes[i].mvcc, mvcc_revision(nodes[i].mvcc)), 0);
        nodes[i].applier.compacted = true;
    }
    settle();
}

/* After a compaction a snapshot is shorter than the log: that goes down to a segment and a spare,
 * and what was compacted is told to RocksDB. But not before a member had the time to come back. */
START_TEST(test_log_shrinks_with_the_store)
{
    enum { PUTS = 45, VALUE_BYTES = 50000, SEGMENT_BYTES = 256 << 10 };
    start();
    struct node *l = wait_for_leader();
    for (int i = 0; i < PUTS; i++)
        ck_assert_int_eq(put(l, VALUE_BYTES), 0);
    compact_all();
    round_of(5000 / HEARTBEAT_MS);
    for (int i = 0; i < NODES; i++) {
        struct core_status s;
        core_status(nodes[i].core, &s);
        ck_assert_uint_eq(persist_flushed_index(nodes[i].persist), s.applied_index);
        ck_assert_uint_gt(wal_size_bytes(nodes[i].wal), PUTS * VALUE_BYTES);
    }
    round_of(25000 / HEARTBEAT_MS);
    for (int i = 0; i < NODES; i++)
        ck_assert_uint_eq(wal_size_bytes(nodes[i].wal), 2 * SEGMENT_BYTES);
    ck_assert_int_eq(put(leader(), VALUE_BYTES), 0);
    stop();
}
END_TEST

/* --- moving the leader --- */

START_TEST(test_move_leader)
{
    start();
    struct node *old = wait_for_leader();
    struct node *other = old == &nodes[0] ? &nodes[1] : &nodes[0];
    const struct {
        struct node *asked;
        uint64_t target;
        int err;
    } cases[] = {{other, old->id, TV_NOT_LEADER},
                 {other, 12345, TV_NOT_LEADER},
                 {old, 12345, TV_BAD_LEADER_TRANSFEREE},
                 {old, 0, TV_BAD_LEADER_TRANSFEREE},
                 {old, old->id, 0},
                 {old, other->id, 0},
                 {old, other->id, TV_NOT_LEADER}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct request *req = new_request(REQUEST_MOVE_LEADER);
        req->target = cases[i].target;
        core_submit(cases[i].asked->core, req);
        round_of(3);
        ck_assert_int_eq(outcome, cases[i].err);
    }
    ck_assert(leader() == other);
    ck_assert_int_eq(put(other, 10), 0);

    /* To one that nobody reaches: time runs out, and the leader is what it was. */
    old->cut_off = true;
    struct request *req = new_request(REQUEST_MOVE_LEADER);
    req->target = old->id;
    core_submit(other->core, req);
    round_of(6 * ELECTION_TICKS);
    ck_assert_int_eq(outcome, WAITS);
    round_of(2 * ELECTION_TICKS);
    ck_assert_int_eq(outcome, TV_TIMEOUT_LEADER_TRANSFER);
    ck_assert(leader() == other);
    ck_assert_int_eq(put(other, 10), 0);
    stop();
}
END_TEST

/* A put that reaches the old leader while it hands over, sent by a member that knows no other yet.
 */
START_TEST(test_put_outlives_its_leader)
{
    start();
    struct node *old = wait_for_leader();
    for (int i = 0; i < NODES; i++) {
        if (&nodes[i] == old)
            continue;
        submit_put(&nodes[i], 10);
        core_turn(nodes[i].core, now_ms);
        ck_assert_uint_gt(net_count, 0); /* on its way to the old leader */
        ck_assert(core_hand_over(old->core));
        round_of(1);
        ck_assert_int_eq(outcome, 0);
        ck_assert(leader() != old);
        old = leader();
    }
    stop();
}
END_TEST

/* --- many leases --- */

static void renew(struct node *n)
{
    struct request *req = new_request(REQUEST_LEASE_RENEW);
    req->lease_id = 7; /* which nobody has */
    core_submit(n->core, req);
}

/* The first goes at once, those that follow closely wait for each other. */
START_TEST(test_renewals_are_gathered)
{
    enum { APART_MS = 10 };
    start();
    struct node *l = wait_for_leader();
    wake_in_ms = 0;
    renew(l);
    settle();
    ck_assert_int_eq(outcome, TV_LEASE_NOT_FOUND);
    ck_assert_uint_eq(wake_in_ms, 0);
    now_ms += APART_MS / 2;
    renew(l);
    renew(l);
    settle();
    ck_assert_int_eq(outcome, WAITS);
    ck_assert_uint_eq(wake_in_ms, APART_MS / 2);
    now_ms += wake_in_ms;
    settle();
    ck_assert_int_eq(outcome, TV_LEASE_NOT_FOUND);
    stop();
}
END_TEST

START_TEST(test_leases_end_at_once)
{
    enum { LEASES = 10000, TTL_S = 3 };
    start();
    struct node *l = wait_for_leader();
    for (int64_t id = 1; id <= LEASES; id++) {
        uint8_t body[64];
        struct wire_lease_grant_request g = {.id = id, .ttl = TTL_S};
        propose(l, WIRE_RAFT_LEASE_GRANT,
                slice_of(body, (size_t)(wire_lease_grant_request_put(body, &g) - body)));
        if (id % 1000 == 0)
            settle();
    }
    settle();
    ck_assert_uint_eq(lessor_count(l->lessor), LEASES);
    struct request *req = new_request(REQUEST_LEASE_LIST);
    core_submit(l->core, req);
    settle();
    ck_assert_int_eq(outcome, 0);
    round_of(TTL_S * 1000 / HEARTBEAT_MS - 1);
    ck_assert_uint_eq(lessor_count(l->lessor), LEASES);
    /* etcd ends 1000 a second. */
    uint32_t rounds = 0;
    while (lessor_count(l->lessor) > 0 && rounds < 1000) {
        round_of(1);
        rounds++;
    }
    ck_assert_uint_le(rounds * HEARTBEAT_MS, LEASES);
    round_of(2); /* the others hear of the last */
    for (int i = 0; i < NODES; i++)
        ck_assert_uint_eq(lessor_count(nodes[i].lessor), 0);
    stop();
}
END_TEST

/* --- turns: what one client has under way does not keep another waiting --- */

enum { GREEDY = 1, POLITE = 2, LARGE_VALUE = 50000, ANSWERS_MAX = 4096 };

static uint64_t answered[ANSWERS_MAX]; /* whose, in order */
static uint32_t answers;

static void on_turn_answered(struct worker *w, struct request *req)
{
    (void)w;
    ck_assert_int_eq(req->err, 0);
    ck_assert_uint_lt(answers, ANSWERS_MAX);
    answered[answers++] = req->flow;
}

static struct request *ask_for(struct node *n, uint64_t flow, size_t value_size)
{
    static uint8_t body[70000], value[60000];
    struct wire_put_request put = {.key = SLICE_LITERAL("k"), .value = slice_of(value, value_size)};
    struct request *req = new_request(REQUEST_PROPOSE);
    struct slice bytes = slice_of(body, (size_t)(wire_put_request_put(body, &put) - body));
    req->answered = on_turn_answered;
    req->flow = flow;
    req->id = core_next_request_id(n->core);
    req->payload_size = (uint32_t)wire_raft_request_size(WIRE_RAFT_PUT, req->id, bytes);
    req->payload = bref_new(req->payload_size);
    wire_raft_request_put(req->payload->data, WIRE_RAFT_PUT, req->id, bytes);
    core_submit(n->core, req);
    return req;
}

static void stall_all(bool stalled)
{
    for (int i = 0; i < NODES; i++)
        disk_mem_set_completion_percent(nodes[i].disk, stalled ? 0 : 100);
}

/* The place of the first answer to `flow`; ANSWERS_MAX: none. */
static uint32_t place_of(uint64_t flow)
{
    for (uint32_t i = 0; i < answers; i++)
        if (answered[i] == flow)
            return i;
    return ANSWERS_MAX;
}

static void greedy_story(uint32_t count, size_t value_size, uint32_t on_log_max, size_t polite_size,
                         uint32_t place_max)
{
    start();
    answers = 0;
    struct node *l = wait_for_leader();
    stall_all(true);
    uint64_t before = wal_last_index(l->wal);
    for (uint32_t i = 0; i < count; i++)
        ask_for(l, GREEDY, value_size);
    settle();
    uint64_t on_log = wal_last_index(l->wal) - before;
    ck_assert_uint_gt(on_log, 0);
    ck_assert_uint_le(on_log, on_log_max);
    ask_for(l, POLITE, polite_size);
    settle();
    stall_all(false);
    for (int i = 0; i < 20 && answers < count + 1; i++)
        settle();
    ck_assert_uint_eq(answers, count + 1);
    ck_assert_uint_le(place_of(POLITE), place_max);
    stop();
}

/* A window of 1 MiB: what is on the log then, and at most one more of the greedy one's, goes
 * before. */
START_TEST(test_large_take_turns)
{
    greedy_story(200, LARGE_VALUE, 20, LARGE_VALUE, 25);
}
END_TEST

START_TEST(test_small_take_turns)
{
    greedy_story(3000, 10, 512, 10, 520);
}
END_TEST

static void on_polite_answered(struct worker *w, struct request *req)
{
    on_turn_answered(w, req);
    if (req->flow == POLITE)
        stall_all(true);
}

/* Its next one finds less on the log: a quarter of the window. */
START_TEST(test_small_window_is_shared)
{
    start();
    answers = 0;
    struct node *l = wait_for_leader();
    stall_all(true);
    uint64_t before = wal_last_index(l->wal);
    for (uint32_t i = 0; i < 3000; i++)
        ask_for(l, GREEDY, 10);
    settle();
    ck_assert_uint_gt(wal_last_index(l->wal) - before, 256);
    ask_for(l, POLITE, 10)->answered = on_polite_answered;
    settle();
    stall_all(false);
    for (int i = 0; i < 20; i++)
        settle();
    ck_assert_uint_lt(place_of(POLITE), answers);
    ck_assert_uint_lt(answers, 3000);
    ck_assert_uint_gt(wal_last_index(l->wal) - before, answers);
    ck_assert_uint_le(wal_last_index(l->wal) - before, answers + 128);
    stall_all(false);
    for (int i = 0; i < 20 && answers < 3001; i++)
        settle();
    ck_assert_uint_eq(answers, 3001);
    stop();
}
END_TEST

/* The small one does not wait for large ones at all. */
START_TEST(test_small_beside_large)
{
    start();
    answers = 0;
    struct node *l = wait_for_leader();
    stall_all(true);
    for (int i = 0; i < 100; i++)
        ask_for(l, GREEDY, LARGE_VALUE);
    settle();
    uint64_t before = wal_last_index(l->wal);
    ask_for(l, POLITE, 10);
    core_turn(l->core, now_ms);
    ck_assert_uint_eq(wal_last_index(l->wal), before + 1);
    stall_all(false);
    for (int i = 0; i < 20; i++)
        settle();
    ck_assert_uint_eq(answers, 101);
    stop();
}
END_TEST

/* What members forward waits at the leader, which has one window for all. */
START_TEST(test_forwarded_take_turns)
{
    start();
    answers = 0;
    struct node *l = wait_for_leader();
    stall_all(true);
    uint64_t before = wal_last_index(l->wal);
    for (int k = 0; k < NODES; k++)
        for (int i = 0; i < 100; i++)
            ask_for(&nodes[k], GREEDY, LARGE_VALUE);
    settle();
    ck_assert_uint_le(wal_last_index(l->wal) - before, 20);
    stall_all(false);
    for (int i = 0; i < 50 && answers < 300; i++)
        settle();
    ck_assert_uint_eq(answers, 300);
    stop();
}
END_TEST

static struct node *some_follower(void)
{
    return leader() == &nodes[0] ? &nodes[1] : &nodes[0];
}

/* A follower's window is full of what never reached the leader: with the connection, or a while
 * later, it is forgotten, and those that come now do not wait for the others' time to be up. */
static void lost_story(bool told, uint32_t rounds)
{
    start();
    struct node *l = wait_for_leader();
    struct node *n = some_follower();
    for (int i = 0; i < 200; i++)
        submit_put(n, LARGE_VALUE);
    core_turn(n->core, now_ms);
    for (uint32_t i = 0; i < net_count; i++)
        free_msg(net[i]);
    net_count = 0;
    if (told)
        core_peer_lost(n->core, l->id);
    answers = 0;
    ask_for(n, POLITE, LARGE_VALUE);
    round_of(rounds);
    ck_assert_uint_eq(place_of(POLITE), 0);
    stop();
}

START_TEST(test_lost_with_connection)
{
    lost_story(true, 3);
}
END_TEST

START_TEST(test_lost_silently)
{
    lost_story(false, ELECTION_TICKS + 3);
}
END_TEST

/* Those that wait have their time, too. */
START_TEST(test_waiting_times_out)
{
    start();
    struct node *l = wait_for_leader();
    for (int i = 0; i < NODES; i++)
        nodes[i].cut_off = &nodes[i] != l;
    for (int i = 0; i < 200; i++)
        submit_put(l, LARGE_VALUE);
    round_of(80);
    ck_assert_int_eq(outcome, TV_TIMEOUT);
    for (int i = 0; i < NODES; i++)
        nodes[i].cut_off = false;
    ck_assert_ptr_nonnull(wait_for_leader());
    ck_assert_int_eq(put(leader(), LARGE_VALUE), 0);
    stop();
}
END_TEST

UNIT_MAIN("core", test_stands_at_once, test_renewals_are_gathered, test_stalled_leader_hands_over,
          test_stall_ends, test_stalled_member_is_no_successor, test_stalled_alone, test_low_disk,
          test_low_disk_and_operator, test_log_without_room, test_log_shrinks_with_the_store,
          test_move_leader, test_put_outlives_its_leader, test_leases_end_at_once,
          test_large_take_turns, test_small_take_turns, test_small_window_is_shared,
          test_small_beside_large, test_forwarded_take_turns, test_lost_with_connection,
          test_lost_silently, test_waiting_times_out)
