/* The parts of the consensus core one by one, its limits, and what a broken peer may do to it.
 * Snapshots and restarts are in test_raft_restart.c; how members work together is in
 * tests/interaction/ and test_raft_random.c. */
#include "raft_rig.h"

#include "base/assert.h"
#include "base/mem.h"

/* --- quorum --- */

START_TEST(quorum_is_a_majority)
{
    static const uint64_t values[] = {5, 1, 9, 7, 3};
    ck_assert_uint_eq(raft__majority_reached(values, 1), 5);
    ck_assert_uint_eq(raft__majority_reached(values, 2), 1);
    ck_assert_uint_eq(raft__majority_reached(values, 3), 5);
    ck_assert_uint_eq(raft__majority_reached(values, 4), 5);
    ck_assert_uint_eq(raft__majority_reached(values, 5), 5);

    for (uint32_t count = 1; count <= RAFT_VOTERS_MAX; count++)
        for (uint32_t yes = 0; yes <= count; yes++)
            for (uint32_t no = 0; yes + no <= count; no++) {
                enum raft_quorum got = raft__majority_votes(yes, no, count);
                enum raft_quorum want = 2 * yes > count             ? RAFT_QUORUM_WON
                                        : 2 * (count - no) <= count ? RAFT_QUORUM_LOST
                                                                    : RAFT_QUORUM_PENDING;
                ck_assert_int_eq(got, want);
            }
}
END_TEST

/* --- the log in memory --- */

static void append(struct raft_log *l, uint64_t term, size_t size)
{
    uint8_t data[64] = {0};
    struct raft_entry e = model_entry(data, size);
    e.term = term;
    e.log_index = l->last_index + 1;
    raft__log_append(l, &e, 1);
    bref_unref(e.owner);
}

START_TEST(log_spans_end_where_the_ring_ends)
{
    struct raft_log l;
    raft__log_init(&l, 0, 0);
    for (uint32_t i = 0; i < 300; i++) /* grows once */
        append(&l, 1 + i / 100, i % 64);
    ck_assert_uint_eq(l.capacity, 512);
    raft__log_trim(&l, 250, 0);
    ck_assert_uint_eq(l.base_index, 250);
    ck_assert_uint_eq(l.base_term, 3);
    while (l.last_index < 600) /* wraps */
        append(&l, 4, 8);
    ck_assert_uint_eq(l.capacity, 512);

    uint32_t count;
    const struct raft_entry *e = raft__log_span(&l, 500, 601, &count);
    ck_assert_uint_eq(count, 12);
    ck_assert_uint_eq(e[11].log_index, 511);
    e = raft__log_span(&l, 512, 601, &count);
    ck_assert_uint_eq(count, 89);
    ck_assert_uint_eq(e[88].log_index, 600);
    (void)raft__log_span(&l, 600, 600, &count);
    ck_assert_uint_eq(count, 0);

    raft__log_truncate(&l, 290);
    ck_assert_uint_eq(l.last_index, 289);
    ck_assert_uint_eq(l.last_term, 3);
    raft__log_truncate(&l, 251);
    ck_assert_uint_eq(l.last_index, 250);
    ck_assert_uint_eq(l.last_term, 3);
    ck_assert_uint_eq(l.bytes, 0);
    raft__log_fini(&l);
}
END_TEST

START_TEST(log_finds_the_newest_entry_not_above_a_term)
{
    struct rng rng;
    rng_init(&rng, 7);
    for (uint32_t round = 0; round < 50; round++) {
        struct raft_log l;
        uint64_t term = rng_below(&rng, 3);
        raft__log_init(&l, term == 0 ? 0 : 1 + rng_below(&rng, 5), term);
        for (uint32_t i = 0; i < 20; i++)
            append(&l, term += rng_below(&rng, 3) + (term == 0), 1);
        for (uint64_t index = 0; index < 40; index++)
            for (uint64_t t = 0; t < 50; t++) {
                uint64_t got_term;
                uint64_t got = raft__log_newest_not_above(&l, index, t, &got_term);
                ck_assert_uint_le(got, index);
                if (index < l.base_index) {
                    ck_assert_uint_eq(got, index);
                    ck_assert_uint_eq(got_term, 0);
                    continue;
                }
                uint64_t want = index < l.last_index ? index : l.last_index, want_term = 0;
                while (raft__log_term(&l, want, &want_term) && want_term > t)
                    want--;
                ck_assert_uint_eq(got, want);
                ck_assert_uint_eq(got_term, want >= l.base_index ? want_term : 0);
            }
        raft__log_fini(&l);
    }
}
END_TEST

/* --- one member among silent others --- */

static uint32_t ticks_until(struct raft *r, enum raft_msg_type type)
{
    uint32_t ticks = 0;
    do {
        raft_tick(r);
        ticks++;
    } while (drain(r, type) == 0);
    return ticks;
}

static void all_are_seen(const bool *seen, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        ck_assert(seen[i]);
}

/* Somebody who lost a leader asks after 11 to 15 ticks, and again after 1 to 5. */
START_TEST(election_timeouts_are_spread)
{
    bool first[16] = {false}, next[6] = {false};
    struct raft *r = member(3, NULL);
    for (uint32_t i = 0; i < 500; i++) {
        (void)step(r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 1});
        uint32_t ticks = ticks_until(r, RAFT_MSG_PRE_VOTE);
        ck_assert_uint_ge(ticks, 11);
        ck_assert_uint_lt(ticks, 16);
        first[ticks] = true;
        ticks = ticks_until(r, RAFT_MSG_PRE_VOTE);
        ck_assert_uint_ge(ticks, 1);
        ck_assert_uint_lt(ticks, 6);
        next[ticks] = true;
    }
    all_are_seen(first, 11, 16);
    all_are_seen(next, 1, 6);
    ck_assert_uint_eq(raft_term(r), 1); /* asking changes nothing */
    raft_free(r);
}
END_TEST

/* Where standing costs a term, those who stand are farther apart, each time. */
START_TEST(election_timeouts_without_pre_vote)
{
    bool seen[20] = {false};
    struct raft *r = member(3, without_pre_vote);
    for (uint32_t i = 0; i < 500; i++) {
        uint32_t ticks = ticks_until(r, RAFT_MSG_VOTE);
        ck_assert_uint_ge(ticks, 10);
        ck_assert_uint_lt(ticks, 20);
        seen[ticks] = true;
    }
    all_are_seen(seen, 10, 20);
    raft_free(r);
}
END_TEST

START_TEST(proposals_before_a_ready_are_one_append)
{
    struct raft *r = leader(NULL);
    acknowledge(r, 2, 1);
    acknowledge(r, 3, 1);
    (void)drain(r, RAFT_MSG_APPEND);
    for (uint32_t i = 0; i < 100; i++) {
        struct raft_entry e = model_entry("x", 1);
        ck_assert_int_eq(raft_propose(r, &e, 1), 0);
        bref_unref(e.owner);
    }
    struct raft_ready rd;
    ck_assert(raft_ready(r, &rd));
    ck_assert_uint_eq(rd.msgs_count, 2);
    ck_assert_uint_eq(rd.msgs[0].entries_count, 100);
    ck_assert_uint_eq(rd.msgs[1].entries_count, 100);
    ck_assert_ptr_eq(rd.msgs[0].entries, rd.entries); /* nothing is copied */
    ck_assert_uint_eq(rd.entries_count, 100);
    raft_ready_done(r);
    ck_assert(!raft_ready(r, &rd));
    raft_free(r);
}
END_TEST

START_TEST(reads_between_readies_share_one_round)
{
    struct raft *r = leader(NULL);
    acknowledge(r, 2, 1);
    (void)drain(r, RAFT_MSG_APPEND);
    for (uint64_t i = 1; i <= 1000; i++)
        ck_assert_int_eq(raft_read_index(r, i), 0);
    ck_assert_uint_eq(drain(r, RAFT_MSG_HEARTBEAT), 2);
    int rv = step(
        r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_REPLY, .from = 3, .term = 1, .context = 1});
    ck_assert_int_eq(rv, 0);
    struct raft_ready rd;
    ck_assert(raft_ready(r, &rd));
    ck_assert_uint_eq(rd.reads_count, 1000);
    ck_assert_uint_eq(rd.reads[0].context, 1);
    ck_assert_uint_eq(rd.reads[999].context, 1000);
    ck_assert_uint_eq(rd.reads[999].log_index, 1);
    raft_ready_done(r);
    raft_free(r);
}
END_TEST

/* --- limits --- */

START_TEST(reads_are_bounded)
{
    struct raft *r = leader(NULL);
    acknowledge(r, 2, 1);
    (void)drain(r, RAFT_MSG_APPEND);
    for (uint64_t i = 1; i <= RAFT_READS_MAX; i++) {
        ck_assert_int_eq(raft_read_index(r, i), 0);
        if (i % 100 == 0) /* more rounds than may be under way: the rest waits for one */
            (void)drain(r, RAFT_MSG_HEARTBEAT);
    }
    ck_assert_int_eq(raft_read_index(r, 1), TV_EDROPPED);
    /* It all ends well. */
    uint32_t answered = 0;
    for (uint64_t round = RAFT__READ_ROUNDS_MAX; answered < RAFT_READS_MAX; round++) {
        ck_assert_uint_lt(round, 2 * RAFT__READ_ROUNDS_MAX + 2);
        (void)step(r,
                   (struct raft_msg){
                       .type = RAFT_MSG_HEARTBEAT_REPLY, .from = 3, .term = 1, .context = round});
        struct raft_ready rd;
        while (raft_ready(r, &rd)) {
            for (uint32_t i = 0; i < rd.reads_count; i++)
                ck_assert_uint_eq(rd.reads[i].context, ++answered);
            raft_ready_done(r);
        }
    }
    raft_free(r);
}
END_TEST

START_TEST(forwarding_is_bounded)
{
    struct raft *r = follower_of_2();
    struct raft_entry batch[64];
    for (uint32_t i = 0; i < 64; i++)
        batch[i] = model_entry("x", 1);
    for (uint32_t i = 0; i < RAFT_FORWARD_MAX / 64; i++)
        ck_assert_int_eq(raft_propose(r, batch, 64), 0);
    ck_assert_int_eq(raft_propose(r, batch, 1), TV_EDROPPED);
    ck_assert_uint_ge(drain(r, RAFT_MSG_PROPOSE), 1);
    ck_assert_int_eq(raft_propose(r, batch, 1), 0);
    for (uint32_t i = 0; i < 64; i++)
        bref_unref(batch[i].owner);
    raft_free(r);
}
END_TEST

START_TEST(the_outbox_is_bounded)
{
    struct raft *r = follower_of_2();
    for (uint32_t i = 0; i < 2 * RAFT_OUTBOX_MAX; i++) {
        int rv = step(r, (struct raft_msg){.type = RAFT_MSG_READ_INDEX, .from = 3, .context = i});
        ck_assert_int_eq(rv, 0);
    }
    ck_assert_uint_eq(drain(r, RAFT_MSG_READ_INDEX_REPLY), RAFT_OUTBOX_MAX);
    raft_free(r);
}
END_TEST

/* Answers to a candidate whose log is behind ours, until there is no room for more. */
static void fill_outbox(struct raft *r)
{
    struct raft_msg ask = {
        .type = RAFT_MSG_PRE_VOTE, .from = 3, .term = raft_term(r) + 1, .transfer = true};
    for (uint32_t i = 0; i < RAFT_OUTBOX_MAX + 2; i++)
        ck_assert_int_eq(step(r, ask), 0);
}

/* Who comes back hears of its leader before the next heartbeat is due. */
START_TEST(who_connects_is_told_at_once)
{
    struct raft *r = leader(NULL);
    (void)drain(r, RAFT_MSG_HEARTBEAT);
    raft_peer_connected(r, 1);
    ck_assert_uint_eq(drain(r, RAFT_MSG_HEARTBEAT), 0);
    raft_peer_connected(r, 3);
    ck_assert_uint_eq(drain(r, RAFT_MSG_HEARTBEAT), 1);
    ck_assert_uint_eq(drain(r, RAFT_MSG_HEARTBEAT), 0);
    raft_free(r);
    r = follower_of_2();
    raft_peer_connected(r, 3);
    ck_assert_uint_eq(drain(r, RAFT_MSG_HEARTBEAT), 0);
    raft_free(r);
}
END_TEST

START_TEST(what_finds_the_outbox_full_is_asked_again)
{
    struct raft *r = follower_of_2();
    struct raft_entry e = {.term = 1, .log_index = 1};
    struct raft_msg append = {
        .type = RAFT_MSG_APPEND, .from = 2, .term = 1, .entries = &e, .entries_count = 1};
    ck_assert_int_eq(step(r, append), 0); /* now a log that is empty is behind ours */
    (void)drain(r, RAFT_MSG_APPEND);
    fill_outbox(r);
    ck_assert_int_eq(raft_read_index(r, 7), TV_EDROPPED);
    ck_assert_int_eq(raft_transfer_leader(r, 3), TV_EDROPPED);
    struct raft_msg gap = {
        .type = RAFT_MSG_APPEND, .from = 2, .term = 1, .log_index = 9, .log_term = 1};
    ck_assert_int_eq(step(r, gap), 0);
    struct raft_msg ask = {.type = RAFT_MSG_PRE_VOTE,
                           .from = 3,
                           .term = 2,
                           .log_index = 9,
                           .log_term = 1,
                           .transfer = true};
    ck_assert_int_eq(step(r, ask), 0); /* it would have had our vote */
    raft_campaign(r);
    ck_assert_int_eq(raft_role(r), RAFT_PRE_CANDIDATE);
    raft_check(r);
    ck_assert_uint_eq(drain(r, RAFT_MSG_PRE_VOTE_REPLY), RAFT_OUTBOX_MAX);
    ck_assert_int_eq(step(r, ask), 0);
    ck_assert_uint_eq(drain(r, RAFT_MSG_PRE_VOTE_REPLY), 1);
    raft_free(r);
}
END_TEST

/* The leadership that was to be handed over, and reads that were to be answered. */
START_TEST(a_leader_with_a_full_outbox_goes_on)
{
    struct raft *r = leader(NULL);
    acknowledge(r, 2, 1);
    (void)drain(r, RAFT_MSG_APPEND);
    ck_assert_int_eq(
        step(r, (struct raft_msg){.type = RAFT_MSG_READ_INDEX, .from = 3, .context = 5}), 0);
    fill_outbox(r);
    ck_assert_int_eq(raft_transfer_leader(r, 2), 0);
    /* Another term: whoever waits for a read is told to ask again, or not told. */
    ck_assert_int_eq(step(r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 9}),
                     0);
    raft_check(r);
    ck_assert_uint_eq(drain(r, RAFT_MSG_READ_INDEX_REPLY), 0);
    raft_free(r);
}
END_TEST

static void as_learner(struct raft_options *o)
{
    o->membership.voters.count = 0;
    o->membership.voters.ids[o->membership.voters.count++] = 2;
    o->membership.voters.ids[o->membership.voters.count++] = 3;
    o->membership.learners.ids[o->membership.learners.count++] = 1;
}

static void as_stranger(struct raft_options *o)
{
    as_learner(o);
    o->membership.learners.count = 0;
}

START_TEST(only_a_voter_minds_a_lost_leader)
{
    struct raft *r = follower_of_2();
    raft_leader_lost(r, 3); /* another one */
    ck_assert_uint_eq(raft_leader(r), 2);
    raft_leader_lost(r, 2);
    ck_assert_uint_eq(raft_leader(r), 0);
    raft_free(r);
    void (*const others[])(struct raft_options *) = {as_learner, as_stranger};
    for (int i = 0; i < 2; i++) {
        r = member(3, others[i]);
        struct raft_msg beat = {.type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 1};
        ck_assert_int_eq(step(r, beat), 0);
        raft_leader_lost(r, 2);
        ck_assert_uint_eq(raft_leader(r), 2);
        raft_campaign(r);
        ck_assert_int_eq(raft_role(r), RAFT_FOLLOWER);
        raft_free(r);
    }
}
END_TEST

START_TEST(nothing_comes_of_nothing)
{
    struct raft *r = leader(NULL);
    uint64_t last = raft_last_index(r);
    ck_assert_int_eq(raft_propose(r, NULL, 0), 0);
    ck_assert_uint_eq(raft_last_index(r), last);
    raft_persisted(r, 0); /* nothing new */
    raft_free(r);
    raft_free(NULL);
    ck_assert_str_eq(raft_role_name((enum raft_role)99), "unknown");
    ck_assert_str_eq(raft_msg_type_name((enum raft_msg_type)99), "unknown");
}
END_TEST

START_TEST(writes_under_way_are_bounded)
{
    struct raft *r = leader(NULL);
    struct raft_entry e = model_entry("x", 1);
    struct raft_ready rd;
    uint64_t first = 0, newest = 0;
    for (uint32_t i = 0; i < RAFT_WRITES_MAX + 10; i++) {
        ck_assert_int_eq(raft_propose(r, &e, 1), 0);
        while (raft_ready(r, &rd)) {
            if (rd.persist_seq != 0)
                newest = rd.persist_seq;
            if (first == 0)
                first = newest;
            raft_ready_done(r);
        }
    }
    ck_assert_uint_eq(newest - first + 1, RAFT_WRITES_MAX);
    raft_persisted(r, first); /* one place is free: the rest goes as one write */
    ck_assert(raft_ready(r, &rd));
    ck_assert_uint_eq(rd.persist_seq, newest + 1);
    ck_assert_uint_eq(rd.entries_count, 10);
    raft_ready_done(r);
    raft_check(r);
    bref_unref(e.owner);
    raft_free(r);
}
END_TEST

static void small_limits(struct raft_options *o)
{
    o->inflight_msgs_max = 4;
    o->msg_bytes_max = 1;
    o->uncommitted_bytes_max = 1000;
}

START_TEST(appends_under_way_are_bounded)
{
    struct raft *r = leader(small_limits);
    acknowledge(r, 2, 1);
    (void)drain(r, RAFT_MSG_APPEND);
    struct raft_entry batch[10];
    for (uint32_t i = 0; i < 10; i++)
        batch[i] = model_entry("x", 1);
    ck_assert_int_eq(raft_propose(r, batch, 10), 0);
    ck_assert_uint_eq(drain(r, RAFT_MSG_APPEND), 4); /* 3 is still being probed */
    acknowledge(r, 2, 3);
    ck_assert_uint_eq(drain(r, RAFT_MSG_APPEND), 2);
    acknowledge(r, 2, 11);
    ck_assert_uint_eq(raft_commit_index(r), 11);
    for (uint32_t i = 0; i < 10; i++)
        bref_unref(batch[i].owner);
    raft_free(r);
}
END_TEST

static int propose_conf(struct raft *r, enum raft_conf_op op, uint64_t id)
{
    struct raft_conf_change change = {.changes = {{.op = op, .id = id}}, .changes_count = 1};
    struct raft_entry e = model_conf_entry(&change);
    int rv = raft_propose(r, &e, 1);
    bref_unref(e.owner);
    return rv;
}

START_TEST(one_change_of_membership_at_a_time)
{
    struct raft *r = leader(NULL);
    /* What a new leader found in its log may be a change. */
    ck_assert_int_eq(propose_conf(r, RAFT_CONF_ADD_LEARNER, 4), TV_EBUSY);
    acknowledge(r, 2, 1);
    (void)drain(r, RAFT_MSG_APPEND);
    struct raft_entry malformed = {.type = RAFT_ENTRY_CONF};
    ck_assert_int_eq(raft_propose(r, &malformed, 1), TV_EINVAL);
    ck_assert_int_eq(propose_conf(r, RAFT_CONF_ADD_LEARNER, 4), 0);
    ck_assert_int_eq(propose_conf(r, RAFT_CONF_ADD_LEARNER, 5), TV_EBUSY);
    acknowledge(r, 2, 2);
    (void)drain(r, RAFT_MSG_APPEND); /* applied, even if the caller makes nothing of it */
    ck_assert_int_eq(propose_conf(r, RAFT_CONF_ADD_LEARNER, 5), 0);
    raft_free(r);
}
END_TEST

/* A batch that a follower forwards: what cannot be is left out, the rest goes on, and is not said
 * to be dropped: it would be proposed again. */
START_TEST(a_refused_change_takes_nothing_with_it)
{
    struct raft *r = leader(NULL);
    struct raft_conf_change change = {.changes = {{.id = 4}}, .changes_count = 1};
    struct raft_entry batch[] = {model_entry("x", 1), model_conf_entry(&change),
                                 model_entry("y", 1)};
    struct raft_msg msg = {
        .type = RAFT_MSG_PROPOSE, .from = 2, .entries = batch, .entries_count = 3};
    ck_assert_int_eq(step(r, msg), 0);
    ck_assert_uint_eq(raft_last_index(r), 3);
    msg.entries = &batch[1];
    msg.entries_count = 1;
    ck_assert_int_eq(step(r, msg), TV_EDROPPED);
    ck_assert_uint_eq(raft_last_index(r), 3);
    msg.from = 9; /* was removed, perhaps */
    ck_assert_int_eq(step(r, msg), TV_EDROPPED);
    ck_assert_uint_eq(raft_last_index(r), 3);
    for (uint32_t i = 0; i < 3; i++)
        bref_unref(batch[i].owner);
    ck_assert_int_eq(raft_transfer_leader(r, 1), TV_EINVAL);
    ck_assert_int_eq(raft_transfer_leader(r, 9), TV_EINVAL);
    raft_free(r);
}
END_TEST

/* --- leases --- */

static void with_lease(struct raft_options *o)
{
    o->lease_reads = true;
    o->lease_margin_ticks = 3;
}

/* How many reads are answered at once. */
static uint32_t read_now(struct raft *r)
{
    struct raft_ready rd;
    uint32_t answered = 0;
    ck_assert_int_eq(raft_read_index(r, 1), 0);
    while (raft_ready(r, &rd)) {
        answered += rd.reads_count;
        raft_ready_done(r);
    }
    return answered;
}

/* The newest round, as an answer to what was just sent. */
static void answer_round(struct raft *r)
{
    uint64_t round = 0;
    struct raft_ready rd;
    while (raft_ready(r, &rd)) {
        for (uint32_t i = 0; i < rd.msgs_count; i++)
            if (rd.msgs[i].to == 2 && rd.msgs[i].context > round)
                round = rd.msgs[i].context;
        raft_ready_done(r);
    }
    int rv = step(r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_REPLY,
                                       .from = 2,
                                       .term = raft_term(r),
                                       .context = round});
    ck_assert_int_eq(rv, 0);
}

START_TEST(a_lease_ends_before_the_election_timeout)
{
    struct raft *r = leader(with_lease);
    acknowledge(r, 2, 1);
    (void)drain(r, RAFT_MSG_APPEND);
    ck_assert_uint_eq(read_now(r), 0); /* nobody has answered a round */
    raft_tick(r);
    answer_round(r);
    struct raft_ready rd;
    while (raft_ready(r, &rd))
        raft_ready_done(r);
    /* 10 ticks, less 3 for the clocks and 2 for where in a tick things happen. */
    for (uint32_t i = 0; i < 5; i++) {
        ck_assert_uint_eq(read_now(r), 1);
        raft_tick(r);
    }
    ck_assert_uint_eq(read_now(r), 1);
    raft_tick(r);
    ck_assert_uint_eq(read_now(r), 0);
    raft_free(r);
}
END_TEST

START_TEST(a_change_of_membership_ends_the_lease)
{
    struct raft *r = leader(with_lease);
    acknowledge(r, 2, 1);
    raft_tick(r);
    answer_round(r);
    ck_assert_uint_eq(read_now(r), 1);
    struct raft_conf_change change = {.changes = {{.op = RAFT_CONF_ADD_VOTER, .id = 4}},
                                      .changes_count = 1};
    ck_assert_int_eq(raft_apply_conf(r, &change), 0);
    ck_assert_uint_eq(read_now(r), 0);
    raft_free(r);
}
END_TEST

/* --- a broken peer --- */

static uint64_t small_or_wild(struct rng *rng)
{
    switch (rng_below(rng, 12)) {
    case 0:
        return rng_next(rng);
    case 1:
        return UINT64_MAX - rng_below(rng, 3);
    default:
        return rng_below(rng, 12);
    }
}

/* Small numbers, near what the member has, so that many are accepted; some wild. */
static struct raft_msg forged(struct rng *rng, const struct raft *r, struct raft_entry *entries)
{
    uint64_t last = raft_last_index(r), term = raft_term(r);
    struct raft_msg m = {
        .type = (enum raft_msg_type)rng_below(rng, RAFT_MSG_TYPES_COUNT + 1),
        .from = rng_below(rng, 20) == 0 ? 9 : 2 + rng_below(rng, 2), /* 9: a stranger */
        .to = 1,
        .term = rng_below(rng, 4) > 0 ? term + rng_below(rng, 2) : small_or_wild(rng),
        .log_term = rng_below(rng, 3) > 0 ? term : small_or_wild(rng),
        .log_index = rng_below(rng, 3) > 0 ? last - rng_below(rng, last + 1 < 4 ? last + 1 : 4)
                                           : small_or_wild(rng),
        .commit = small_or_wild(rng),
        .reject_hint = small_or_wild(rng),
        .context = small_or_wild(rng),
        .reject = rng_below(rng, 4) == 0,
        .transfer = rng_below(rng, 8) == 0,
    };
    if (m.type == RAFT_MSG_PROPOSE || m.type == RAFT_MSG_READ_INDEX ||
        m.type == RAFT_MSG_TRANSFER_LEADER)
        m.term = rng_below(rng, 8) > 0 ? 0 : m.term;
    if (m.type == RAFT_MSG_APPEND || m.type == RAFT_MSG_PROPOSE) {
        m.entries = entries;
        m.entries_count = (uint32_t)rng_below(rng, 4);
    }
    for (uint32_t i = 0; i < m.entries_count; i++) {
        bool wild = rng_below(rng, 20) == 0;
        entries[i] = (struct raft_entry){
            .type = rng_below(rng, 30) == 0 ? (enum raft_entry_type)rng_below(rng, 5)
                                            : RAFT_ENTRY_NORMAL,
            .log_index = wild ? small_or_wild(rng) : m.log_index + 1 + i,
            .term = wild ? small_or_wild(rng) : m.term};
    }
    return m;
}

START_TEST(a_broken_peer_does_not_end_us)
{
    uint32_t accepted = 0, refused = 0, led = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct rng rng;
        rng_init(&rng, seed);
        struct raft *r = seed % 2 == 0 ? leader(NULL) : member(3, NULL);
        for (uint32_t i = 0; i < 400; i++) {
            struct raft_entry entries[4];
            struct raft_msg m = forged(&rng, r, entries);
            int rv = raft_step(r, &m);
            accepted += rv == 0;
            refused += rv == TV_EINVAL;
            led += raft_role(r) == RAFT_LEADER;
            if (rng_below(&rng, 20) == 0)
                raft_tick(r);
            raft_check(r);
            if (rng_below(&rng, 3) == 0)
                (void)drain(r, RAFT_MSG_APPEND);
        }
        raft_free(r);
    }
    ck_assert_uint_gt(accepted, 10000);
    ck_assert_uint_gt(refused, 10000);
    ck_assert_uint_gt(led, 1000);
}
END_TEST

UNIT_MAIN("raft", quorum_is_a_majority, log_spans_end_where_the_ring_ends,
          log_finds_the_newest_entry_not_above_a_term, election_timeouts_are_spread,
          election_timeouts_without_pre_vote, proposals_before_a_ready_are_one_append,
          reads_between_readies_share_one_round, reads_are_bounded, forwarding_is_bounded,
          the_outbox_is_bounded, who_connects_is_told_at_once,
          what_finds_the_outbox_full_is_asked_again, a_leader_with_a_full_outbox_goes_on,
          only_a_voter_minds_a_lost_leader, nothing_comes_of_nothing, writes_under_way_are_bounded,
          appends_under_way_are_bounded, one_change_of_membership_at_a_time,
          a_refused_change_takes_nothing_with_it, a_lease_ends_before_the_election_timeout,
          a_change_of_membership_ends_the_lease, a_broken_peer_does_not_end_us)
