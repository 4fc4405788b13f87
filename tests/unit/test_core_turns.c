/* Turns: what one client has under way does not keep another waiting. */
#include "core_rig.h"

#include "server/pace.h"

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
    struct request *req = submit_put_of(n, "k", value_size);
    req->answered = on_turn_answered;
    req->flow = flow;
    return req;
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

/* Many that ask for a little each are no crowd: all are served at full depth. */
START_TEST(test_small_window_of_many)
{
    enum { CONNECTIONS = 100, EACH = 30 };
    start();
    answers = 0;
    struct node *l = wait_for_leader();
    stall_all(true);
    uint64_t before = wal_last_index(l->wal);
    for (uint32_t i = 0; i < CONNECTIONS * EACH; i++)
        ask_for(l, 10 + i % CONNECTIONS, 10);
    settle();
    ask_for(l, POLITE, 10)->answered = on_polite_answered;
    settle();
    stall_all(false);
    for (int i = 0; i < 20; i++)
        settle();
    ck_assert_uint_lt(answers, CONNECTIONS * EACH);
    ck_assert_uint_gt(wal_last_index(l->wal) - before, answers + 256);
    stall_all(false);
    for (int i = 0; i < 20 && answers < CONNECTIONS * EACH + 1; i++)
        settle();
    ck_assert_uint_eq(answers, CONNECTIONS * EACH + 1);
    stop();
}
END_TEST

/* Nor does a connection share with itself. */
START_TEST(test_small_window_of_one)
{
    start();
    answers = 0;
    struct node *l = wait_for_leader();
    stall_all(true);
    uint64_t before = wal_last_index(l->wal);
    ask_for(l, POLITE, 10)->answered = on_polite_answered;
    for (uint32_t i = 1; i < 3000; i++)
        ask_for(l, POLITE, 10);
    settle();
    stall_all(false);
    settle();
    ck_assert_uint_lt(answers, 3000);
    ck_assert_uint_gt(wal_last_index(l->wal) - before, answers + 256);
    stall_all(false);
    for (int i = 0; i < 20 && answers < 3000; i++)
        settle();
    ck_assert_uint_eq(answers, 3000);
    stop();
}
END_TEST

/* What is through in 1 ms alone and takes 5 beside a crowd finds less and less on the log. */
START_TEST(test_small_window_is_paced)
{
    enum { ALONE = 20, GREEDY_COUNT = 3000, BESIDE = 60 };
    clock_ns = 1;
    start();
    answers = 0;
    struct node *l = wait_for_leader();
    for (int i = 0; i < ALONE; i++) {
        ask_for(l, POLITE, 10);
        core_turn(l->core, now_ms);
        clock_ns += 1000000;
        settle();
    }
    stall_all(true);
    uint64_t before = wal_last_index(l->wal) - answers;
    for (uint32_t i = 0; i < GREEDY_COUNT; i++)
        ask_for(l, GREEDY, 10);
    uint64_t on_log = 0;
    for (int i = 0; i < BESIDE; i++) {
        ask_for(l, POLITE, 10)->answered = on_polite_answered;
        stall_all(false);
        clock_ns += 5000000;
        settle();
        clock_ns += 20000000; /* and the crowd has rested */
        settle();
        on_log = wal_last_index(l->wal) - before - answers;
    }
    ck_assert_uint_lt(answers, GREEDY_COUNT);
    ck_assert_uint_gt(on_log, 0);
    ck_assert_uint_le(on_log, PACE_COUNT_MIN + 1);
    for (int i = 0; i < 1000 && answers < ALONE + GREEDY_COUNT + BESIDE; i++) {
        stall_all(false);
        clock_ns += 20000000;
        settle();
    }
    ck_assert_uint_eq(answers, ALONE + GREEDY_COUNT + BESIDE);
    clock_ns = 0;
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

/* The leader of a cluster with a clock, and so many of a greedy client before stalled disks. */
static struct node *start_with_crowd(int count, uint32_t size)
{
    clock_ns = 1;
    start();
    answers = 0;
    struct node *l = wait_for_leader();
    stall_all(true);
    for (int i = 0; i < count; i++)
        ask_for(l, GREEDY, size);
    settle();
    return l;
}

/* What a crowd had on the log took 5 ms: as long as somebody shares it, the next of it waits for a
 * while, and who asks now and then does not. */
START_TEST(test_crowd_rests_beside_polite)
{
    enum { COUNT = 3000 };
    struct node *l = start_with_crowd(COUNT, 10);
    ask_for(l, POLITE, 10)->answered = on_polite_answered;
    settle();
    stall_all(false);
    settle(); /* and stalled again behind the polite one */
    settle();
    ck_assert_uint_lt(answers, COUNT);
    wake_in_ms = 0;
    clock_ns += 5000000;
    stall_all(false);
    settle();
    uint32_t rested_at = answers;
    ck_assert_uint_lt(rested_at, COUNT);
    ck_assert_uint_ge(wake_in_ms, 15);
    ck_assert_uint_le(wake_in_ms, 21);
    ask_for(l, POLITE, 10);
    settle();
    ck_assert_uint_eq(answers, rested_at + 1);
    for (int i = 0; i < 2000 && answers < COUNT + 2; i++) {
        clock_ns += 1000000;
        settle();
    }
    ck_assert_uint_eq(answers, COUNT + 2);
    clock_ns = 0;
    stop();
}
END_TEST

/* Large ones that take 5 ms each, and what is on the log when those that filled the window are
 * through. */
static uint64_t large_after_window(bool beside_small, uint64_t *ret_rest_ms)
{
    enum { COUNT = 100 };
    clock_ns = 1;
    start();
    answers = 0;
    struct node *l = wait_for_leader();
    stall_all(true);
    uint64_t before = wal_last_index(l->wal);
    for (int i = 0; i < COUNT; i++)
        ask_for(l, GREEDY, LARGE_VALUE);
    settle();
    uint64_t on_log = wal_last_index(l->wal) - before;
    if (beside_small)
        ask_for(l, POLITE, 10);
    stall_all(false);
    clock_ns += 5000000;
    wake_in_ms = 0;
    settle();
    *ret_rest_ms = wake_in_ms;
    uint64_t after = wal_last_index(l->wal) - before - beside_small;
    ck_assert_uint_ge(after, on_log);
    uint32_t all = COUNT + beside_small;
    for (int i = 0; i < 50 && answers < all; i++) {
        clock_ns += 10000000;
        settle();
    }
    ck_assert_uint_eq(answers, all);
    clock_ns = 0;
    stop();
    return after - on_log;
}

/* Small ones find the log free for a while: nothing large goes on it until then. */
START_TEST(test_large_rest_beside_small)
{
    uint64_t rest_ms;
    ck_assert_uint_gt(large_after_window(false, &rest_ms), 0);
    ck_assert_uint_eq(rest_ms, 0);
    ck_assert_uint_eq(large_after_window(true, &rest_ms), 0);
    ck_assert_uint_ge(rest_ms, 30);
    ck_assert_uint_le(rest_ms, 41);
}
END_TEST

/* A rest may end between two looks at the clock: whatever it is at the first, those that wait are
 * woken, and soon. */
START_TEST(test_rest_ends_meanwhile)
{
    enum { COUNT = 100 };
    struct node *l = start_with_crowd(COUNT, LARGE_VALUE);
    ask_for(l, POLITE, 10);
    stall_all(false);
    clock_step_ns = 20000;
    uint32_t polite = 1, before = 0;
    int still = 0;
    for (int i = 0; i < 10000 && answers < COUNT + polite; i++) {
        wake_in_ms = 0;
        settle();
        still = answers == before && wake_in_ms == 0 ? still + 1 : 0;
        before = answers;
        ck_assert_int_lt(still, 10);
        ck_assert_uint_le(wake_in_ms, 1000);
        if (wake_in_ms == 0)
            continue;
        clock_ns += (wake_in_ms - 1) * 1000000;
        ask_for(l, POLITE, 10); /* why there is a turn just then */
        polite++;
    }
    ck_assert_uint_eq(answers, COUNT + polite);
    ck_assert_uint_gt(polite, COUNT / 10);
    clock_step_ns = 0;
    clock_ns = 0;
    stop();
}
END_TEST

static uint64_t versions_of(const struct node *n)
{
    struct mvcc_stats s;
    mvcc_stats(n->mvcc, &s);
    return s.versions;
}

/* While requests come a slice of what a compaction gave up is followed by a rest, four times as
 * long; then, or when no more come, it goes on. */
static void garbage_story(bool more_come)
{
    enum { COUNT = 2000, SLICE_MS = 10 };
    clock_ns = 1;
    start();
    answers = 0;
    struct node *l = wait_for_leader();
    for (int i = 0; i < COUNT; i++)
        ask_for(l, GREEDY, 10);
    for (int i = 0; i < 20 && answers < COUNT; i++)
        settle();
    ck_assert_uint_eq(answers, COUNT);
    ck_assert_uint_eq(versions_of(l), COUNT);
    compact_all();
    wake_in_ms = 0;
    clock_step_ns = SLICE_MS * 1000000;
    while (versions_of(l) == COUNT) {
        wakes = 0;
        core_turn(l->core, now_ms);
    }
    ck_assert_uint_eq(wakes, 0);
    clock_step_ns = 0;
    settle();
    uint64_t after = versions_of(l);
    ck_assert_uint_gt(after, COUNT / 2);
    ck_assert_uint_ge(wake_in_ms, 4 * SLICE_MS);
    ck_assert_uint_le(wake_in_ms, 20 * SLICE_MS);
    if (more_come)
        clock_ns += wake_in_ms * 1000000;
    else
        now_ms += 100;
    settle();
    ck_assert_uint_lt(versions_of(l), 10);
    clock_ns = 0;
    stop();
}

START_TEST(test_garbage_rests_beside_requests)
{
    garbage_story(true);
}
END_TEST

START_TEST(test_garbage_goes_on_alone)
{
    garbage_story(false);
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
    lose_all();
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

UNIT_MAIN("core turns", test_large_take_turns, test_small_take_turns, test_small_window_is_shared,
          test_small_window_of_many, test_small_window_of_one, test_small_window_is_paced,
          test_small_beside_large, test_crowd_rests_beside_polite, test_large_rest_beside_small,
          test_rest_ends_meanwhile, test_garbage_rests_beside_requests, test_garbage_goes_on_alone,
          test_forwarded_take_turns, test_lost_with_connection, test_lost_silently,
          test_waiting_times_out)
