/* Large requests that go in pieces while small ones come: what is between the pieces, what is
 * persisted meanwhile, and what becomes of them when their leader is lost. */
#include "core_rig.h"

#include "server/core_internal.h"

enum {
    PIECE = 1000,
    LARGE_VALUE = 5500,
    PIECES = 6,
    SMALL = 60, /* of those the store commits once */
};

static uint32_t answers;
static int last_err;

static void on_piece_answered(struct worker *w, struct request *req)
{
    (void)w;
    answers++;
    last_err = req->err;
}

static void ask_put(struct node *n, const char *key, size_t value_size, uint64_t flow)
{
    struct request *req = submit_put_of(n, key, value_size);
    req->answered = on_piece_answered;
    req->flow = flow;
}

static void start_small_pieces(bool with_clock)
{
    large_bytes = PIECE / 4;
    clock_ns = with_clock;
    answers = 0;
    last_err = WAITS;
    start();
}

static void stop_pieces(void)
{
    large_bytes = 0;
    clock_ns = 0;
    stop();
}

/* All members have the value, and the same one. */
static void check_everywhere(const char *key, size_t value_size)
{
    struct slice first = SLICE_EMPTY;
    for (int i = 0; i < NODES; i++) {
        const struct mvcc_version *v = mvcc_get(nodes[i].mvcc, slice_of_string(key), 0);
        ck_assert_ptr_nonnull(v);
        struct slice kv = mvcc_version_kv(v);
        ck_assert_uint_gt(kv.size, value_size);
        ck_assert(i == 0 || slice_equal(kv, first));
        first = kv;
    }
    for (int i = 1; i < NODES; i++)
        ck_assert_uint_eq(nodes[i].applier.chain, nodes[0].applier.chain);
}

/* The log behind `from` has so many entries more. */
static uint64_t more_on_log(const struct node *n, uint64_t from)
{
    return wal_last_index(n->wal) - from;
}

/* Two large ones, the first of which rests behind its first piece. Where the log was before. */
static uint64_t rest_between_pieces(struct node *l)
{
    uint64_t before = wal_last_index(l->wal);
    ask_put(l, "small", 10, 2);
    ask_put(l, "large", LARGE_VALUE, 1);
    ask_put(l, "large2", LARGE_VALUE, 1);
    core_turn(l->core, now_ms);
    clock_ns += 5000000;
    settle();
    ck_assert_uint_eq(answers, 1);
    ck_assert_uint_eq(more_on_log(l, before), 2);
    return before;
}

/* Until all is answered; each settling takes 100 ms of the clock, so that nothing rests for long.
 */
static void finish(uint32_t count)
{
    for (int i = 0; i < 100 && answers < count; i++) {
        clock_ns += clock_ns != 0 ? 100000000 : 0;
        settle();
    }
    ck_assert_uint_eq(answers, count);
    ck_assert_int_eq(last_err, 0);
}

/* One piece is on the log at a time, and a small one that comes is right behind it. */
START_TEST(test_small_between_pieces)
{
    start_small_pieces(false);
    struct node *l = wait_for_leader();
    uint64_t before = wal_last_index(l->wal);
    stall_all(true);
    ask_put(l, "small", 10, 2);
    ask_put(l, "large", LARGE_VALUE, 1);
    settle();
    ck_assert_uint_eq(more_on_log(l, before), 2);
    ask_put(l, "small2", 10, 2);
    settle();
    ck_assert_uint_eq(more_on_log(l, before), 3);
    ck_assert_uint_eq(answers, 0);
    stall_all(false);
    finish(3);
    ck_assert_uint_eq(more_on_log(l, before), 2 + PIECES);
    check_everywhere("large", LARGE_VALUE);
    stop_pieces();
}
END_TEST

START_TEST(test_whole_without_small)
{
    start_small_pieces(false);
    struct node *l = wait_for_leader();
    uint64_t before = wal_last_index(l->wal);
    ask_put(l, "large", LARGE_VALUE, 1);
    finish(1);
    ck_assert_uint_eq(more_on_log(l, before), 1);
    check_everywhere("large", LARGE_VALUE);
    stop_pieces();
}
END_TEST

/* What a follower's client asks for is the leader's to divide. */
START_TEST(test_forwarded_goes_in_pieces)
{
    start_small_pieces(false);
    struct node *l = wait_for_leader();
    struct node *f = &nodes[l == &nodes[0]];
    ask_put(l, "small", 10, 2);
    finish(1);
    uint64_t before = wal_last_index(l->wal);
    ask_put(f, "large", LARGE_VALUE, 1);
    ask_put(f, "large2", LARGE_VALUE, 1);
    finish(3);
    ck_assert_uint_eq(more_on_log(l, before), 2 * PIECES);
    check_everywhere("large2", LARGE_VALUE);
    stop_pieces();
}
END_TEST

/* A restart begins behind what was persisted: that is never between two pieces. */
START_TEST(test_persist_waits_for_last_piece)
{
    start_small_pieces(true);
    struct node *l = wait_for_leader();
    uint64_t before = rest_between_pieces(l);
    for (int i = 0; i < SMALL; i++)
        ask_put(l, "small", 10, 2);
    settle();
    ck_assert_uint_eq(answers, 1 + SMALL);
    ck_assert_uint_eq(more_on_log(l, before), 2 + SMALL);
    for (int i = 0; i < NODES; i++)
        ck_assert_uint_lt(persist_flushed_index(nodes[i].persist), before + 2);
    finish(3 + SMALL);
    check_everywhere("large2", LARGE_VALUE);
    for (int i = 0; i < NODES; i++)
        ck_assert_uint_gt(persist_flushed_index(nodes[i].persist), before + 2 + SMALL);
    stop_pieces();
}
END_TEST

/* A copy that is asked for between two pieces has what the client may know of: what was applied.
 * The store commits for it as soon as it may. */
START_TEST(test_copy_between_pieces)
{
    start_small_pieces(true);
    struct node *l = wait_for_leader();
    struct node *f = &nodes[l == &nodes[0]];
    uint64_t before = rest_between_pieces(l);
    core_submit(f->core, new_request(REQUEST_COPY));
    settle();
    ck_assert_int_eq(outcome, WAITS);
    ck_assert_uint_lt(persist_flushed_index(f->persist), before + 2);
    finish(3);
    ck_assert_int_eq(outcome, 0);
    ck_assert_uint_ge(persist_flushed_index(f->persist), before + 1 + PIECES);
    stop_pieces();
}
END_TEST

/* The rest of a request is never proposed by another leader: its member asks that one for all of
 * it, and what the others gathered of it goes. */
START_TEST(test_leader_lost_between_pieces)
{
    start_small_pieces(true);
    struct node *l = wait_for_leader();
    uint64_t before = rest_between_pieces(l);
    l->cut_off = true;
    wait_for_leader();
    struct node *next = leader();
    ck_assert_ptr_ne(next, l);
    for (int i = 0; i < SMALL; i++)
        ask_put(next, "small", 10, 3);
    finish(1 + SMALL);
    ck_assert_ptr_null(mvcc_get(next->mvcc, SLICE_LITERAL("large"), 0));
    ck_assert_uint_gt(persist_flushed_index(next->persist), before + 2);
    l->cut_off = false;
    for (int i = 0; i < 30 && answers < 3 + SMALL; i++) {
        clock_ns += 100000000;
        round_of(1);
    }
    finish(3 + SMALL);
    check_everywhere("large", LARGE_VALUE);
    check_everywhere("large2", LARGE_VALUE);
    stop_pieces();
}
END_TEST

/* A snapshot is of a store that does not lie between two pieces. */
START_TEST(test_snapshot_between_pieces)
{
    enum { SNAPSHOT_INDEX = 1000 };
    start_small_pieces(true);
    struct node *l = wait_for_leader();
    struct node *f = &nodes[l == &nodes[0]];
    struct core_status s;
    core_status(l->core, &s);
    rest_between_pieces(l);
    ck_assert(core__assembles(f->core));
    ck_assert_int_eq(core_install_begin(f->core, SNAPSHOT_INDEX, s.term, &members), 0);
    wal_restart(f->wal, 0, SNAPSHOT_INDEX, s.term);
    core_install_end(f->core, f->persist);
    ck_assert(!core__assembles(f->core));
    finish(3); /* the others go on */
    stop_pieces();
}
END_TEST

/* Of a leader that lies: there is nothing to put them behind. */
START_TEST(test_stray_pieces)
{
    start_small_pieces(false);
    struct node *l = wait_for_leader();
    uint8_t byte = 0;
    struct raft_entry e = {.term = 9, .type = RAFT_ENTRY_PIECE, .data = slice_of(&byte, 1)};
    struct slice request;
    ck_assert(!core__assemble(l->core, &e, &request));
    e.type = RAFT_ENTRY_PIECE_LAST;
    ck_assert(!core__assemble(l->core, &e, &request));
    ck_assert(!core__assembles(l->core));
    stop_pieces();
}
END_TEST

UNIT_MAIN("core pieces", test_small_between_pieces, test_whole_without_small,
          test_forwarded_goes_in_pieces, test_persist_waits_for_last_piece,
          test_copy_between_pieces, test_leader_lost_between_pieces, test_snapshot_between_pieces,
          test_stray_pieces)
