/* Memberships, their changes and their bytes; majorities of one and of two halves. */
#include "internal.h"

#include "base/err.h"
#include "base/mem.h"

#include "probe_log.h"

#include <check.h>
#include <stdlib.h>

#define IDS(...)                                                                            \
    (struct raft_ids)                                                                       \
    {                                                                                       \
        .ids = {__VA_ARGS__}, .count = sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t) \
    }
#define CHANGE(how, ...)                                                                       \
    (struct raft_conf_change)                                                                  \
    {                                                                                          \
        .transition = (how), .changes = {__VA_ARGS__},                                         \
        .changes_count =                                                                       \
            sizeof((struct raft_conf_single[]){__VA_ARGS__}) / sizeof(struct raft_conf_single) \
    }

static const struct raft_conf_change leave = {.transition = RAFT_CONF_AUTO};

static void same(const struct raft_membership *got, struct raft_membership want)
{
    ck_assert(raft_membership_equal(got, &want));
    ck_assert(raft_membership_is_valid(got));
}

static int change(struct raft_membership *m, struct raft_conf_change c)
{
    return raft_membership_change(m, &c);
}

START_TEST(one_step)
{
    struct raft_membership m = {.voters = IDS(1, 2, 3)};
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_LEARNER, 9})), 0);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_LEARNER, 4})), 0);
    same(&m, (struct raft_membership){.voters = IDS(1, 2, 3), .learners = IDS(4, 9)});
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_VOTER, 4})), 0);
    same(&m, (struct raft_membership){.voters = IDS(1, 2, 3, 4), .learners = IDS(9)});
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_REMOVE, 2})), 0);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_LEARNER, 1})), 0);
    same(&m, (struct raft_membership){.voters = IDS(3, 4), .learners = IDS(1, 9)});
    /* What is so already, and what raft has nothing to do with. */
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_VOTER, 3})), 0);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_LEARNER, 9})), 0);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_REMOVE, 77})), 0);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_KEEP, 3})), 0);
    same(&m, (struct raft_membership){.voters = IDS(3, 4), .learners = IDS(1, 9)});
}
END_TEST

START_TEST(joint)
{
    struct raft_membership m = {.voters = IDS(1, 2, 3), .learners = IDS(5)};
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_VOTER, 4},
                                       {RAFT_CONF_ADD_VOTER, 5}, {RAFT_CONF_REMOVE, 1},
                                       {RAFT_CONF_ADD_LEARNER, 2}, {RAFT_CONF_ADD_LEARNER, 6})),
                     0);
    /* A voter of the old half is no learner before that half is gone. */
    same(&m, (struct raft_membership){.voters = IDS(3, 4, 5),
                                      .voters_outgoing = IDS(1, 2, 3),
                                      .learners = IDS(6),
                                      .learners_next = IDS(2),
                                      .auto_leave = true});
    ck_assert(raft_membership_is_voter(&m, 1) && raft_membership_is_voter(&m, 4));
    ck_assert(!raft_membership_is_learner(&m, 2) && raft_membership_is_learner(&m, 6));
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_VOTER, 7})), TV_EINVAL);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_JOINT_EXPLICIT, {RAFT_CONF_ADD_VOTER, 7})),
                     TV_EINVAL);
    ck_assert_int_eq(change(&m, leave), 0);
    same(&m, (struct raft_membership){.voters = IDS(3, 4, 5), .learners = IDS(2, 6)});
    ck_assert_int_eq(change(&m, leave), TV_EINVAL);

    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_JOINT_EXPLICIT, {RAFT_CONF_REMOVE, 3})), 0);
    ck_assert(!m.auto_leave && raft_membership_is_joint(&m));
    ck_assert_int_eq(change(&m, leave), 0);
    same(&m, (struct raft_membership){.voters = IDS(4, 5), .learners = IDS(2, 6)});
}
END_TEST

START_TEST(what_cannot_be_changes_nothing)
{
    struct raft_membership m = {.voters = IDS(1)}, before = m;
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_REMOVE, 1})), TV_EINVAL);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_LEARNER, 1})), TV_EINVAL);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_JOINT_IMPLICIT, {RAFT_CONF_REMOVE, 1})),
                     TV_EINVAL);
    ck_assert(raft_membership_equal(&m, &before));
    struct raft_membership none = {0};
    ck_assert_int_eq(change(&none, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_VOTER, 1})), TV_EINVAL);

    for (uint64_t id = 2; id <= RAFT_VOTERS_MAX; id++)
        ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_VOTER, id})), 0);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_VOTER, 99})), TV_ETOOLARGE);
    for (uint64_t id = 20; id < 20 + RAFT_LEARNERS_MAX; id++)
        ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_LEARNER, id})), 0);
    before = m;
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_LEARNER, 99})), TV_ETOOLARGE);
    /* There must be room when the joint configuration is left. */
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_JOINT_IMPLICIT, {RAFT_CONF_ADD_LEARNER, 3})),
                     TV_ETOOLARGE);
    ck_assert(raft_membership_equal(&m, &before));
}
END_TEST

/* However the changes come: valid afterwards, and the majorities before and after share a member.
 */
START_TEST(majorities_of_neighbours_meet)
{
    struct rng rng;
    rng_init(&rng, 5);
    uint32_t made = 0;
    for (uint32_t round = 0; round < 300; round++) {
        struct raft_membership m = {.voters = IDS(1, 2, 3)};
        for (uint32_t i = 0; i < 30; i++) {
            struct raft_membership before = m;
            struct raft_conf_change c = {.transition =
                                             (enum raft_conf_transition)rng_below(&rng, 3),
                                         .changes_count = (uint32_t)rng_below(&rng, 4)};
            for (uint32_t k = 0; k < c.changes_count; k++)
                c.changes[k] = (struct raft_conf_single){
                    .op = (enum raft_conf_op)rng_below(&rng, RAFT_CONF_OPS_COUNT),
                    .id = 1 + rng_below(&rng, 7)};
            if (raft_membership_change(&m, &c) != 0) {
                ck_assert(raft_membership_equal(&m, &before));
                continue;
            }
            made++;
            ck_assert(raft_membership_is_valid(&m));
            /* All sets of the seven ids, as bits: is one a majority before, its complement one
             * after? */
            const struct raft_membership *both[] = {&before, &m};
            for (uint32_t set = 0; set < 128; set++) {
                bool wins[2];
                for (uint32_t b = 0; b < 2; b++) {
                    uint32_t members = b == 0 ? set : ~set;
                    uint32_t in = 0, out = 0;
                    for (uint64_t id = 1; id <= 7; id++) {
                        if ((members >> (id - 1) & 1) == 0)
                            continue;
                        in += raft_ids_has(&both[b]->voters, id);
                        out += raft_ids_has(&both[b]->voters_outgoing, id);
                    }
                    wins[b] = in > both[b]->voters.count / 2 &&
                              (!raft_membership_is_joint(both[b]) ||
                               out > both[b]->voters_outgoing.count / 2);
                }
                ck_assert(!wins[0] || !wins[1]);
            }
        }
    }
    ck_assert_uint_gt(made, 1000);
}
END_TEST

/* --- bytes --- */

START_TEST(bytes_there_and_back)
{
    struct raft_conf_change c = CHANGE(RAFT_CONF_JOINT_EXPLICIT, {RAFT_CONF_ADD_VOTER, 1},
                                       {RAFT_CONF_KEEP, UINT64_MAX}),
                            d;
    c.context = slice_of((const uint8_t *)"beside", 6);
    struct buf b;
    buf_init(&b, 4096);
    ck_assert_int_eq(raft_conf_change_encode(&c, &b), 0);
    ck_assert_int_eq(raft_conf_change_decode(buf_slice(&b), &d), 0);
    ck_assert_int_eq(d.transition, RAFT_CONF_JOINT_EXPLICIT);
    ck_assert_uint_eq(d.changes_count, 2);
    ck_assert_int_eq(d.changes[1].op, RAFT_CONF_KEEP);
    ck_assert_uint_eq(d.changes[1].id, UINT64_MAX);
    ck_assert(slice_equal(d.context, c.context));
    for (size_t size = 0; size < b.size - 6; size++)
        ck_assert_int_eq(raft_conf_change_decode(slice_of(b.data, size), &d), TV_EMALFORMED);

    struct raft_membership m = {.voters = IDS(1, 2),
                                .voters_outgoing = IDS(2, 5, 6),
                                .learners = IDS(7),
                                .learners_next = IDS(5),
                                .auto_leave = true},
                           n;
    buf_clear(&b);
    ck_assert_int_eq(raft_membership_encode(&m, &b), 0);
    ck_assert_int_eq(raft_membership_decode(buf_slice(&b), &n), 0);
    ck_assert(raft_membership_equal(&m, &n));
    for (size_t size = 0; size < b.size; size++)
        ck_assert_int_eq(raft_membership_decode(slice_of(b.data, size), &n), TV_EMALFORMED);
    ck_assert_int_eq(buf_append(&b, "", 1), 0);
    ck_assert_int_eq(raft_membership_decode(buf_slice(&b), &n), TV_EMALFORMED);
    buf_fini(&b);

    buf_init(&b, 10); /* too small: nothing is written */
    ck_assert_int_eq(raft_conf_change_encode(&c, &b), TV_ETOOLARGE);
    ck_assert_int_eq(raft_membership_encode(&m, &b), TV_ETOOLARGE);
    ck_assert_uint_eq(b.size, 0);
    buf_fini(&b);
}
END_TEST

START_TEST(damaged_bytes_are_refused_or_valid)
{
    struct rng rng;
    rng_init(&rng, 3);
    struct raft_membership m = {.voters = IDS(1, 2, 3), .learners = IDS(4)}, n;
    struct raft_conf_change c = CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_ADD_VOTER, 1},
                                       {RAFT_CONF_REMOVE, 2}),
                            d;
    struct buf membership, conf;
    buf_init(&membership, 4096);
    buf_init(&conf, 4096);
    ck_assert_int_eq(raft_membership_encode(&m, &membership), 0);
    ck_assert_int_eq(raft_conf_change_encode(&c, &conf), 0);
    uint32_t refused = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        const struct buf *from = i % 2 == 0 ? &membership : &conf;
        size_t size = rng_below(&rng, from->size + 1);
        uint8_t *bytes = mem_alloc(size + 1); /* exactly: a byte too far is seen */
        memcpy(bytes, from->data, size);
        for (uint32_t k = 0; k < 2 && size > 0; k++)
            bytes[rng_below(&rng, size)] = (uint8_t)rng_below(&rng, 8);
        if (i % 2 == 0 ? raft_membership_decode(slice_of(bytes, size), &n) != 0
                       : raft_conf_change_decode(slice_of(bytes, size), &d) != 0)
            refused++;
        else if (i % 2 == 0)
            ck_assert(raft_membership_is_valid(&n));
        else
            (void)raft_membership_change(&m, &d);
        ck_assert(raft_membership_is_valid(&m));
        mem_free(bytes);
    }
    ck_assert_uint_gt(refused, 1000);
    ck_assert_uint_lt(refused, 20000);
    buf_fini(&membership);
    buf_fini(&conf);
}
END_TEST

START_TEST(what_is_no_membership)
{
    const struct raft_membership bad[] = {
        {.voters = IDS(1, 1)},
        {.voters = IDS(2, 1)},
        {.voters = {.ids = {0}, .count = 1}},
        {.voters = {.count = RAFT_VOTERS_MAX + 1}},
        {.learners = IDS(1)},
        {.voters = IDS(1), .learners = IDS(1)},
        {.voters = IDS(1), .auto_leave = true},
        {.voters = IDS(1), .voters_outgoing = IDS(2, 1)},
        {.voters = IDS(1), .learners = IDS(3, 2)},
        {.voters = IDS(1), .voters_outgoing = IDS(1, 2, 3), .learners_next = IDS(3, 2)},
        {.learners = IDS(1), .voters_outgoing = IDS(1)},
        {.voters = IDS(1), .learners_next = IDS(2)},
        {.voters_outgoing = IDS(1)},
        {.voters = IDS(1), .voters_outgoing = IDS(1, 2), .learners = IDS(2)},
        {.voters = IDS(1, 2), .voters_outgoing = IDS(1, 2), .learners_next = IDS(2)},
        {.voters = IDS(1), .voters_outgoing = IDS(1, 2), .learners_next = IDS(3)},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(!raft_membership_is_valid(&bad[i]), "case %zu", i);
    ck_assert(raft_membership_is_valid(&(struct raft_membership){0}));
}
END_TEST

START_TEST(memberships_are_equal_in_every_part)
{
    const struct raft_membership a = {.voters = IDS(1, 2),
                                      .voters_outgoing = IDS(1, 2, 3),
                                      .learners = IDS(5),
                                      .learners_next = IDS(3),
                                      .auto_leave = true};
    struct raft_membership others[9];
    for (size_t i = 0; i < 9; i++)
        others[i] = a;
    others[0].voters = IDS(1, 4);
    others[1].voters = IDS(1, 2, 4);
    others[2].voters_outgoing = IDS(1, 2, 4);
    others[3].voters_outgoing = IDS(1, 2);
    others[4].learners = IDS(6);
    others[5].learners.count = 0;
    others[6].learners_next = IDS(2);
    others[7].learners_next.count = 0;
    others[8].auto_leave = false;
    ck_assert(raft_membership_equal(&a, &a));
    for (size_t i = 0; i < 9; i++)
        ck_assert_msg(!raft_membership_equal(&a, &others[i]), "case %zu", i);
}
END_TEST

START_TEST(bytes_that_are_no_membership_or_change)
{
    struct raft_membership m = {.voters = IDS(1, 2)}, ret;
    struct buf b;
    buf_init(&b, 1 << 10);
    ck_assert_int_eq(raft_membership_encode(&m, &b), 0);
    for (size_t size = 0; size < b.size; size++)
        ck_assert_int_ne(raft_membership_decode(slice_of(b.data, size), &ret), 0);
    b.data[2] = RAFT_VOTERS_MAX + 1;
    ck_assert_int_ne(raft_membership_decode(buf_slice(&b), &ret), 0);
    b.data[2] = 2;
    b.data[1] = 2; /* neither leaves by itself nor does not */
    ck_assert_int_ne(raft_membership_decode(buf_slice(&b), &ret), 0);
    buf_fini(&b);

    struct raft_conf_change c;
    static const uint8_t many[3] = {1, 0, RAFT_CONF_CHANGES_MAX + 1}, other[3] = {2, 0, 0};
    ck_assert_int_ne(raft_conf_change_decode(slice_of(many, 3), &c), 0);
    ck_assert_int_ne(raft_conf_change_decode(slice_of(other, 3), &c), 0);
    ck_assert_int_ne(raft_conf_change_decode(slice_of(other, 2), &c), 0);
    struct raft_membership before = m;
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {(enum raft_conf_op)99, 1})), TV_EINVAL);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_REMOVE, 1})), 0);
    ck_assert_int_eq(change(&m, CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_REMOVE, 2})), TV_EINVAL);
    ck_assert(!raft_membership_equal(&m, &before));
    buf_init(&b, 4); /* too small for what is to be encoded */
    c = CHANGE(RAFT_CONF_AUTO, {RAFT_CONF_REMOVE, 1});
    ck_assert_int_eq(raft_conf_change_encode(&c, &b), TV_ETOOLARGE);
    buf_fini(&b);
}
END_TEST

/* --- quorums --- */

static uint64_t match_index(const struct raft_peer *p)
{
    return p->match_index;
}

static enum raft_ballot ballot(const struct raft_peer *p)
{
    return p->ballot;
}

START_TEST(both_halves_must_agree)
{
    enum { IN = RAFT_HALF_INCOMING, OUT = RAFT_HALF_OUTGOING };
    struct raft_peer peers[] = {
        {.id = 1, .halves = IN | OUT, .match_index = 9}, {.id = 2, .halves = IN, .match_index = 7},
        {.id = 3, .halves = IN, .match_index = 5},       {.id = 4, .halves = OUT, .match_index = 3},
        {.id = 5, .halves = OUT, .match_index = 2},      {.id = 6, .match_index = 100},
    };
    ck_assert_uint_eq(raft__quorum_reached(peers, 6, match_index), 3);
    peers[2].match_index = 1; /* 7 in the new half, 3 in the old one */
    ck_assert_uint_eq(raft__quorum_reached(peers, 6, match_index), 3);
    peers[3].match_index = 8;
    ck_assert_uint_eq(raft__quorum_reached(peers, 6, match_index), 7);

    peers[5].ballot = RAFT_BALLOT_YES; /* no voter */
    ck_assert_int_eq(raft__quorum_votes(peers, 6, ballot), RAFT_QUORUM_PENDING);
    peers[1].ballot = peers[2].ballot = RAFT_BALLOT_YES;
    ck_assert_int_eq(raft__quorum_votes(peers, 6, ballot), RAFT_QUORUM_PENDING);
    peers[3].ballot = peers[4].ballot = RAFT_BALLOT_NO;
    ck_assert_int_eq(raft__quorum_votes(peers, 6, ballot), RAFT_QUORUM_LOST);
    peers[4].ballot = RAFT_BALLOT_YES;
    ck_assert_int_eq(raft__quorum_votes(peers, 6, ballot), RAFT_QUORUM_PENDING);
    peers[0].ballot = RAFT_BALLOT_YES;
    ck_assert_int_eq(raft__quorum_votes(peers, 6, ballot), RAFT_QUORUM_WON);
    ck_assert_int_eq(raft__quorum_votes(peers, 3, ballot), RAFT_QUORUM_WON);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("raft_conf");
    TCase *t = tcase_create("raft_conf");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, one_step);
    tcase_add_test(t, joint);
    tcase_add_test(t, what_cannot_be_changes_nothing);
    tcase_add_test(t, majorities_of_neighbours_meet);
    tcase_add_test(t, bytes_there_and_back);
    tcase_add_test(t, damaged_bytes_are_refused_or_valid);
    tcase_add_test(t, what_is_no_membership);
    tcase_add_test(t, memberships_are_equal_in_every_part);
    tcase_add_test(t, bytes_that_are_no_membership_or_change);
    tcase_add_test(t, both_halves_must_agree);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
