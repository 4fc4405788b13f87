/* What a member does when its disk does not answer or has no room, and when leadership is to move.
 */
#include "core_rig.h"

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
    settle();
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

/* Of large entries there are never as many as are kept for members that were away. */
START_TEST(test_log_of_large_entries)
{
    enum { PUTS = 600, VALUE_BYTES = 50000, KEEP_BYTES = 4 << 20, UNFLUSHED_BYTES = 4 << 20 };
    log_keep_bytes = KEEP_BYTES;
    start();
    log_keep_bytes = 0;
    struct node *l = wait_for_leader();
    for (int i = 0; i < PUTS; i++) {
        ck_assert_int_eq(put(l, VALUE_BYTES), 0);
        if (i % 10 != 9)
            continue;
        compact_all();
        settle();
        round_of(1);
        for (int k = 0; k < NODES; k++)
            ck_assert_uint_le(wal_size_bytes(nodes[k].wal), 2 * KEEP_BYTES + UNFLUSHED_BYTES);
    }
    stop();
}
END_TEST

/* What a compaction makes needless is cut as segments are needed: none is removed, and soon none is
 * made. Only a log that needs none for a while becomes shorter. */
START_TEST(test_log_under_load_makes_no_files)
{
    enum { WARM = 400, ROUNDS = 400, VALUE_BYTES = 50000, SEGMENT_BYTES = 256 << 10 };
    log_keep_bytes = 32 << 20;
    start();
    log_keep_bytes = 0;
    struct node *l = wait_for_leader();
    uint64_t size_bytes[NODES] = {0};
    for (int i = 0; i < WARM + ROUNDS; i++) {
        ck_assert_int_eq(put(l, VALUE_BYTES), 0);
        round_of(1);
        if (i % 10 == 9) {
            compact_all();
            settle();
        }
        for (int k = 0; k < NODES; k++) {
            uint64_t now_bytes = wal_size_bytes(nodes[k].wal);
            ck_assert_uint_ge(now_bytes, size_bytes[k]);
            ck_assert(i < WARM || now_bytes == size_bytes[k]);
            size_bytes[k] = now_bytes;
        }
    }
    round_of(60000 / HEARTBEAT_MS);
    for (int k = 0; k < NODES; k++)
        ck_assert_uint_le(wal_size_bytes(nodes[k].wal), 3 * SEGMENT_BYTES);
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

/* --- what is said of a put that was lost --- */

enum { REQUEST_ROUNDS = (5000 + 2 * ELECTION_MS) / HEARTBEAT_MS };

static struct node *connected_follower(struct node **ret_leader)
{
    start();
    connect_all();
    *ret_leader = wait_for_leader();
    return *ret_leader == &nodes[0] ? &nodes[1] : &nodes[0];
}

static void submit_and_lose(struct node *n)
{
    submit_put(n, 10);
    core_turn(n->core, now_ms);
    ck_assert_uint_gt(net_count, 0);
    lose_all();
}

START_TEST(test_timed_out)
{
    struct node *l, *n = connected_follower(&l);
    submit_and_lose(n);
    round_of(REQUEST_ROUNDS + 1);
    ck_assert_int_eq(outcome, TV_TIMEOUT);
    stop();
}
END_TEST

START_TEST(test_timed_out_with_the_connection)
{
    struct node *l, *n = connected_follower(&l);
    submit_and_lose(n);
    round_of(1);
    core_peer_connected(n->core, l->id, false);
    core_peer_connected(n->core, l->id, true);
    round_of(REQUEST_ROUNDS);
    ck_assert_int_eq(outcome, TV_TIMEOUT_CONNECTION_LOST);
    stop();
}
END_TEST

START_TEST(test_timed_out_with_the_leader)
{
    struct node *l, *n = connected_follower(&l);
    submit_and_lose(n);
    l->cut_off = true;
    round_of(REQUEST_ROUNDS + 1);
    ck_assert_ptr_nonnull(leader());
    ck_assert_int_eq(outcome, TV_TIMEOUT_LEADER_FAIL);
    stop();
}
END_TEST

static struct node *asked;
static uint32_t stopped;

static void on_stopped_put(struct worker *w, struct request *req)
{
    (void)w;
    stopped += req->err == TV_STOPPED;
}

/* As an abandoned lock, which takes its key away. */
static void on_stopped_read(struct worker *w, struct request *req)
{
    on_stopped_put(w, req);
    submit_put(asked, 10)->answered = on_stopped_put;
}

/* Everybody is answered by the end, also who asks because of such an answer. */
START_TEST(test_asked_while_it_stops)
{
    start();
    asked = wait_for_leader();
    stopped = 0;
    for (int i = 0; i < NODES; i++)
        nodes[i].cut_off = &nodes[i] != asked;
    struct request *read = new_request(REQUEST_READ_BARRIER);
    read->answered = on_stopped_read;
    core_submit(asked->core, read);
    settle();
    submit_put(asked, 10)->answered = on_stopped_put;
    submit_put(asked, 10)->answered = on_stopped_put;
    ck_assert_uint_eq(stopped, 0);
    stop();
    ck_assert_uint_eq(stopped, 4);
}
END_TEST

UNIT_MAIN("core", test_stands_at_once, test_stalled_leader_hands_over, test_stall_ends,
          test_stalled_member_is_no_successor, test_stalled_alone, test_low_disk,
          test_low_disk_and_operator, test_log_without_room, test_log_shrinks_with_the_store,
          test_log_of_large_entries, test_log_under_load_makes_no_files, test_move_leader,
          test_put_outlives_its_leader, test_timed_out, test_timed_out_with_the_connection,
          test_timed_out_with_the_leader, test_asked_while_it_stops)
