/* Many leases at a time, and how long they have left under the next leader. */
#include "core_rig.h"

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

static void grant(struct node *n, int64_t id, int64_t ttl_s)
{
    uint8_t body[64];
    const struct wire_lease_grant_request g = {.id = id, .ttl = ttl_s};
    propose(n, WIRE_RAFT_LEASE_GRANT,
            slice_of(body, (size_t)(wire_lease_grant_request_put(body, &g) - body)));
    round_of(1);
    ck_assert_int_eq(outcome, 0);
}

static int64_t left_s(const struct node *leader, int64_t id)
{
    int64_t ttl_s, granted_s;
    ck_assert_int_eq(lessor_remaining(leader->lessor, id, now_ms, &ttl_s, &granted_s), 0);
    ck_assert_int_eq(granted_s, 100);
    return ttl_s;
}

static void move_leader(struct node *old)
{
    ck_assert(core_hand_over(old->core));
    round_of(3);
    ck_assert_ptr_nonnull(leader());
    ck_assert(leader() != old);
}

/* An interval of 10 s; what is left is at most that too much under the next leader, and what an
 * election adds. */
START_TEST(test_lease_goes_on_under_the_next_leader)
{
    start();
    struct node *old = wait_for_leader();
    grant(old, 7, 100);
    grant(old, 8, 10); /* so short that it begins anew */
    round_of(10 * 25);
    ck_assert(!lessor_exists(old->lessor, 8));
    ck_assert_int_le(left_s(old, 7), 75);
    move_leader(old);
    struct node *l = leader();
    ck_assert_int_ge(left_s(l, 7), 74);
    ck_assert_int_le(left_s(l, 7), 81);

    /* Renewed, it lives for all of its TTL, and under the one after that as well. */
    struct request *req = new_request(REQUEST_LEASE_RENEW);
    req->lease_id = 7;
    core_submit(l->core, req);
    ck_assert_int_eq(outcome, WAITS);
    settle();
    ck_assert_int_eq(outcome, 0);
    ck_assert_int_eq(left_s(l, 7), 100);
    round_of(10);
    move_leader(l);
    ck_assert_int_ge(left_s(leader(), 7), 99);
    stop();
}
END_TEST

/* A renewal is not answered before a majority has what takes the checkpoint back. */
START_TEST(test_renewal_waits_for_the_log)
{
    start();
    struct node *l = wait_for_leader();
    grant(l, 7, 100);
    round_of(10 * 15);
    for (int i = 0; i < NODES; i++)
        if (&nodes[i] != l)
            stall(&nodes[i]);
    struct request *req = new_request(REQUEST_LEASE_RENEW);
    req->lease_id = 7;
    core_submit(l->core, req);
    round_of(5);
    ck_assert_int_eq(outcome, WAITS);
    ck_assert_int_le(left_s(l, 7), 86);
    for (int i = 0; i < NODES; i++)
        disk_mem_set_completion_percent(nodes[i].disk, 100);
    round_of(2);
    ck_assert_int_eq(outcome, 0);
    ck_assert_int_ge(left_s(l, 7), 99);
    stop();
}
END_TEST

/* Of which nothing else is taken any more; but for that member without the feature. */
START_TEST(test_leases_are_ended_under_load)
{
    enum { PENDING_MAX = 100000 };
    start();
    struct node *l = wait_for_leader();
    grant(l, 7, 100);
    for (int i = 0; i < 2; i++) {
        struct node *n = &nodes[i];
        for (int k = 0; k < PENDING_MAX; k++)
            submit_put(n, 10);
        core_turn(n->core, now_ms);
        ck_assert_int_eq(outcome, WAITS);
        submit_put(n, 10);
        core_turn(n->core, now_ms);
        ck_assert_int_eq(outcome, TV_TOO_MANY_REQUESTS);
        uint8_t body[16];
        propose(n, WIRE_RAFT_LEASE_REVOKE,
                slice_of(body, (size_t)(wire_lease_revoke_request_put(body, 7) - body)));
        core_turn(n->core, now_ms);
        ck_assert_int_eq(outcome, i == 0 ? WAITS : TV_TOO_MANY_REQUESTS);
    }
    stop();
}
END_TEST

UNIT_MAIN("core leases", test_renewals_are_gathered, test_leases_end_at_once,
          test_lease_goes_on_under_the_next_leader, test_renewal_waits_for_the_log,
          test_leases_are_ended_under_load)
