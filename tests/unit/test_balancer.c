/* Who is asked (client/src/lib/balancer.c) and what is repeated (retry.c): time and chance come
 * from here. */
#include "unit.h"

#include "balancer.h"
#include "retry.h"

#include <string.h>

#define MS UINT64_C(1000000)

static struct balancer b;

static void begin(uint32_t count, uint32_t subset)
{
    balancer_init(&b, subset, 10000 * MS, 7);
    b.count = count;
    for (uint32_t i = 0; i < count; i++)
        b.endpoints[i] = (struct balancer_endpoint){.ready = true, .near = true, .rank = i};
}

static void answer(int endpoint, uint64_t latency_ns, uint64_t now_ns)
{
    balancer_began(&b, endpoint);
    (void)balancer_ended(&b, endpoint, BALANCER_GOOD, latency_ns, now_ns);
}

/* So many that they count. */
static void answers(int endpoint, uint64_t latency_ns, uint64_t now_ns)
{
    for (int i = 0; i < 20; i++)
        answer(endpoint, latency_ns, now_ns);
}

/* How often each is taken out of 1000. */
static void count_picks(uint32_t *counts, uint64_t now_ns)
{
    memset(counts, 0, sizeof(*counts) * BALANCER_ENDPOINTS_MAX);
    for (int i = 0; i < 1000; i++) {
        int e = balancer_pick_read(&b, 0, true, now_ns);
        ck_assert_int_ge(e, 0);
        counts[e]++;
    }
}

START_TEST(test_reads_are_spread)
{
    uint32_t counts[BALANCER_ENDPOINTS_MAX];
    begin(3, 0);
    for (int e = 0; e < 3; e++)
        answers(e, MS, 1 * MS);
    /* Each stays under way: the load alone makes the next one go elsewhere. */
    for (int i = 0; i < 300; i++)
        balancer_began(&b, balancer_pick_read(&b, 0, true, 1 * MS));
    for (int e = 0; e < 3; e++)
        ck_assert_uint_ge(b.endpoints[e].in_flight, 90);
    /* A slow one is passed over whenever it is compared. */
    begin(3, 0);
    answers(0, MS, 1 * MS);
    answers(1, MS, 1 * MS);
    answers(2, 50 * MS, 1 * MS);
    count_picks(counts, 2 * MS);
    ck_assert_uint_lt(counts[2], 10);
    ck_assert_uint_gt(counts[0], 300);
    /* It is forgiven: what is remembered of one that nobody asks fades. */
    count_picks(counts, 100000 * MS);
    ck_assert_uint_lt(counts[2], 10);
    count_picks(counts, 1000000 * MS);
    ck_assert_uint_gt(counts[2], 300);
}
END_TEST

/* Members that are about as good get the same, whoever is a little faster. */
START_TEST(test_reads_are_even)
{
    uint32_t counts[BALANCER_ENDPOINTS_MAX];
    begin(3, 0);
    for (uint64_t now_ms = 1; now_ms <= 30; now_ms++) {
        answers(0, MS / 10, now_ms * MS);
        answers(1, MS / 2, now_ms * MS);
        answers(2, MS * 3 / 2, now_ms * MS);
        count_picks(counts, now_ms * MS);
        for (int e = 0; e < 3; e++)
            ck_assert(counts[e] >= 330 && counts[e] <= 337);
    }
    /* One that was away, or slow, has nothing made up for. */
    balancer_ready(&b, 2, false, 31 * MS);
    count_picks(counts, 32 * MS);
    ck_assert_uint_eq(counts[2], 0);
    balancer_ready(&b, 2, true, 33 * MS);
    count_picks(counts, 60000 * MS);
    ck_assert(counts[2] >= 320 && counts[2] <= 340);
    /* One slow answer is no slow member. */
    for (int e = 0; e < 3; e++)
        answers(e, MS, 60000 * MS);
    answer(1, 500 * MS, 60000 * MS);
    count_picks(counts, 60000 * MS);
    ck_assert_uint_gt(counts[1], 320);
    for (int i = 0; i < 10; i++)
        answer(1, 500 * MS, 60000 * MS);
    count_picks(counts, 60000 * MS);
    ck_assert_uint_lt(counts[1], 10);
    for (int i = 0; i < 200; i++)
        answer(1, MS, 60000 * MS);
    count_picks(counts, 60000 * MS);
    ck_assert(counts[1] >= 320 && counts[1] <= 345);
}
END_TEST

/* A silent one is for nobody, but where all are. */
START_TEST(test_silence_is_left)
{
    begin(2, 0);
    b.leader = 0;
    balancer_silent(&b, 0, true, MS);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(balancer_pick_read(&b, 0, true, MS), 1);
        /* The other one would pass a write on to it. */
        ck_assert_int_eq(balancer_pick_write(&b, 0, MS), BALANCER_NONE);
        ck_assert_int_eq(balancer_pick_write(&b, 0, 3000 * MS), 1);
    }
    ck_assert_int_eq(balancer_pick_read(&b, 1 << 1, true, MS), 0);
    balancer_silent(&b, 1, true, MS);
    ck_assert_int_ne(balancer_pick_read(&b, 0, true, MS), BALANCER_NONE);
    balancer_silent(&b, 0, false, MS);
    ck_assert_int_eq(balancer_pick_write(&b, 0, MS), 0);
}
END_TEST

START_TEST(test_writes_go_to_the_leader)
{
    begin(3, 0);
    balancer_set_leader(&b, 1);
    ck_assert_int_eq(balancer_pick_write(&b, 0, MS), 1);
    ck_assert_int_ne(balancer_pick_write(&b, 1 << 1, MS), 1);
    balancer_ready(&b, 1, false, MS);
    ck_assert_int_eq(balancer_pick_write(&b, 0, MS), BALANCER_NONE);
    ck_assert_int_ne(balancer_pick_write(&b, 0, 3000 * MS), 1);
    balancer_set_leader(&b, 0);
    ck_assert_int_eq(balancer_pick_write(&b, 0, MS), 0);
    balancer_set_leader(&b, BALANCER_NONE);
    b.endpoints[0].learner = true;
    ck_assert_int_eq(balancer_pick_write(&b, 0, MS), 2);
    ck_assert_int_eq(balancer_pick_read(&b, 1 << 2, false, MS), 0);
    balancer_ready(&b, 0, false, MS);
    balancer_ready(&b, 2, false, MS);
    ck_assert_int_eq(balancer_pick_write(&b, 0, MS), BALANCER_NONE);
}
END_TEST

START_TEST(test_outliers_are_ejected)
{
    begin(2, 0);
    bool ejected = false;
    for (int i = 0; i < 3; i++) {
        ck_assert(!ejected);
        balancer_began(&b, 0);
        ejected = balancer_ended(&b, 0, BALANCER_FAILED, 0, 100 * MS);
    }
    ck_assert(ejected);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(balancer_pick_read(&b, 0, true, 200 * MS), 1);
    /* Never the last one. */
    for (int i = 0; i < 5; i++) {
        balancer_began(&b, 1);
        ck_assert(!balancer_ended(&b, 1, BALANCER_FAILED, 0, 200 * MS));
    }
    /* It comes back after a second, and gently. */
    ck_assert(!balancer_is_ejected(&b, 0, 1200 * MS));
    uint32_t counts[BALANCER_ENDPOINTS_MAX];
    count_picks(counts, 1200 * MS);
    ck_assert_uint_lt(counts[0], 250);
    ck_assert_uint_gt(counts[0], 20);
    count_picks(counts, 20000 * MS);
    ck_assert_uint_gt(counts[0], 350);
    /* The next time for longer. */
    for (int i = 0; i < 3; i++) {
        balancer_began(&b, 0);
        (void)balancer_ended(&b, 0, BALANCER_FAILED, 0, 20000 * MS);
    }
    ck_assert(balancer_is_ejected(&b, 0, 21500 * MS));
    ck_assert(!balancer_is_ejected(&b, 0, 22500 * MS));
}
END_TEST

START_TEST(test_the_own_zone_comes_first)
{
    uint32_t counts[BALANCER_ENDPOINTS_MAX];
    begin(3, 0);
    b.endpoints[1].near = b.endpoints[2].near = false;
    answers(0, 2 * MS, MS);
    answers(1, MS, MS);
    count_picks(counts, MS);
    ck_assert_uint_eq(counts[0], 1000);
    /* Slow: left to others. */
    for (int i = 0; i < 10; i++)
        answer(0, 100 * MS, MS);
    answers(2, MS, MS);
    count_picks(counts, MS);
    ck_assert_uint_eq(counts[0], 0);
    /* Full. */
    begin(2, 0);
    b.endpoints[1].near = false;
    b.endpoints[0].in_flight_max = 10;
    for (int i = 0; i < 10; i++)
        balancer_began(&b, 0);
    ck_assert_int_eq(balancer_pick_read(&b, 0, true, MS), 1);
    /* Gone. */
    begin(2, 0);
    b.endpoints[1].near = false;
    balancer_ready(&b, 0, false, MS);
    ck_assert_int_eq(balancer_pick_read(&b, 0, true, MS), 1);
}
END_TEST

START_TEST(test_a_subset_is_kept)
{
    uint32_t counts[BALANCER_ENDPOINTS_MAX];
    begin(5, 2);
    count_picks(counts, MS);
    ck_assert_uint_eq(counts[0] + counts[1], 1000);
    /* Another takes the place of one that is gone. */
    balancer_ready(&b, 0, false, MS);
    count_picks(counts, MS);
    ck_assert_uint_eq(counts[1] + counts[2], 1000);
    ck_assert_uint_gt(counts[2], 300);
}
END_TEST

/* --- retries --- */

static enum retry_verdict judge(bool is_write, enum grpc_code code, const char *text)
{
    struct retry_case c = {
        .is_write = is_write, .was_sent = true, .code = code, .text = slice_of_string(text)};
    return retry_judge(&c);
}

START_TEST(test_no_write_is_repeated_blindly)
{
    static const enum grpc_code unsure[] = {GRPC_UNAVAILABLE, GRPC_INTERNAL, GRPC_CANCELLED,
                                            GRPC_DEADLINE_EXCEEDED, GRPC_DATA_LOSS};
    for (size_t i = 0; i < sizeof(unsure) / sizeof(unsure[0]); i++) {
        ck_assert_int_eq(judge(true, unsure[i], "x"), RETRY_UNKNOWN);
        ck_assert_int_eq(judge(false, unsure[i], "x"), RETRY_ELSEWHERE);
    }
    ck_assert_int_eq(judge(true, GRPC_UNAVAILABLE, tv_err_text(TV_TIMEOUT)), RETRY_UNKNOWN);
    ck_assert_int_eq(judge(true, GRPC_UNAVAILABLE, tv_err_text(TV_LEADER_CHANGED)), RETRY_UNKNOWN);
    ck_assert_int_eq(judge(true, GRPC_UNKNOWN, ""), RETRY_UNKNOWN);
    ck_assert_int_eq(judge(true, GRPC_UNKNOWN, "unexpected HTTP status code"), RETRY_UNKNOWN);
    ck_assert_int_eq(judge(true, GRPC_UNKNOWN, tv_err_text(TV_NO_PASSWORD_USER)), RETRY_END);
    struct retry_case repeatable = {.is_write = true, .idempotent = true, .was_sent = true};
    repeatable.code = GRPC_UNAVAILABLE;
    ck_assert_int_eq(retry_judge(&repeatable), RETRY_ELSEWHERE);
    repeatable.code = GRPC_INVALID_ARGUMENT;
    ck_assert_int_eq(retry_judge(&repeatable), RETRY_END);
    ck_assert_int_eq(judge(true, GRPC_RESOURCE_EXHAUSTED,
                           "stream terminated by RST_STREAM with error code: ENHANCE_YOUR_CALM"),
                     RETRY_UNKNOWN);
    struct retry_case large = {.is_write = true,
                               .was_sent = true,
                               .answer_too_large = true,
                               .code = GRPC_RESOURCE_EXHAUSTED};
    ck_assert_int_eq(retry_judge(&large), RETRY_UNKNOWN);
    large.answer_too_large = false;
    ck_assert_int_eq(retry_judge(&large), RETRY_END);
    /* These say that nothing was done. */
    ck_assert_int_eq(judge(true, GRPC_FAILED_PRECONDITION, tv_err_text(TV_NOT_LEADER)),
                     RETRY_LEADER_MOVED);
    ck_assert_int_eq(judge(true, GRPC_UNAVAILABLE, tv_err_text(TV_UNHEALTHY)), RETRY_END);
    ck_assert_int_eq(judge(true, GRPC_UNAUTHENTICATED, tv_err_text(TV_INVALID_AUTH_TOKEN)),
                     RETRY_TOKEN);
    ck_assert_int_eq(judge(true, GRPC_UNKNOWN, tv_err_text(TV_TOO_MANY_REQUESTS)), RETRY_LATER);
    ck_assert_int_eq(judge(true, GRPC_INVALID_ARGUMENT, tv_err_text(TV_EMPTY_KEY)), RETRY_END);
    ck_assert_int_eq(judge(true, GRPC_OK, ""), RETRY_END);
    struct retry_case c = {.is_write = true, .code = GRPC_UNAVAILABLE};
    ck_assert_int_eq(retry_judge(&c), RETRY_ELSEWHERE); /* it never left */
    c = (struct retry_case){.part_seen = true, .was_sent = true, .code = GRPC_UNAVAILABLE};
    ck_assert_int_eq(retry_judge(&c), RETRY_END); /* the caller has the first half already */
    c = (struct retry_case){
        .deadline_over = true, .was_sent = true, .code = GRPC_DEADLINE_EXCEEDED};
    ck_assert_int_eq(retry_judge(&c), RETRY_DEADLINE);
    c.is_write = true;
    ck_assert_int_eq(retry_judge(&c), RETRY_UNKNOWN);
}
END_TEST

START_TEST(test_retries_have_a_budget)
{
    struct retry_budget budget;
    struct rng rng;
    int taken = 0;
    retry_budget_init(&budget, 20);
    while (retry_budget_take(&budget))
        taken++;
    ck_assert_int_eq(taken, RETRY_BURST);
    for (int i = 0; i < 100; i++)
        retry_budget_call(&budget);
    for (taken = 0; retry_budget_take(&budget);)
        taken++;
    ck_assert_int_eq(taken, 20);
    for (int i = 0; i < 100000; i++)
        retry_budget_call(&budget);
    for (taken = 0; retry_budget_take(&budget);)
        taken++;
    ck_assert_int_eq(taken, RETRY_SAVED_MAX);
    rng_init(&rng, 1);
    ck_assert_uint_eq(retry_delay_ms(1, &rng), 0);
    for (uint32_t n = 2; n < 100; n++) {
        uint64_t ms = retry_delay_ms(n, &rng);
        ck_assert(ms >= 5 && ms <= 500);
    }
}
END_TEST

START_TEST(test_p95_is_found)
{
    struct rng rng;
    uint64_t p95_ns = 0;
    rng_init(&rng, 3);
    for (int i = 0; i < 20000; i++)
        p95_ns = retry_p95_add(p95_ns, rng_below(&rng, 100 * MS));
    ck_assert(p95_ns > 88 * MS && p95_ns < 102 * MS);
}
END_TEST

UNIT_MAIN("balancer", test_reads_are_spread, test_reads_are_even, test_silence_is_left,
          test_writes_go_to_the_leader, test_outliers_are_ejected, test_the_own_zone_comes_first,
          test_a_subset_is_kept, test_no_write_is_repeated_blindly, test_retries_have_a_budget,
          test_p95_is_found)
