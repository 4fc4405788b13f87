/* A member whose state comes from elsewhere: from a snapshot, or from its own log after a restart.
 */
#include "raft_rig.h"

#include "base/mem.h"

#include <signal.h>

/* --- snapshots --- */

static const struct raft_membership four = {.voters = {.ids = {1, 2, 3, 4}, .count = 4}};

START_TEST(a_snapshot_voids_the_log_and_the_writes_under_way)
{
    struct raft *r = follower_of_2();
    struct raft_entry entries[] = {
        {.term = 1, .log_index = 1}, {.term = 1, .log_index = 2}, {.term = 1, .log_index = 3}};
    struct raft_msg append = {.type = RAFT_MSG_APPEND,
                              .from = 2,
                              .term = 1,
                              .commit = 1,
                              .entries = entries,
                              .entries_count = 3};
    ck_assert_int_eq(step(r, append), 0);
    struct raft_ready rd;
    ck_assert(raft_ready(r, &rd));
    uint64_t seq = rd.persist_seq;
    ck_assert_uint_eq(rd.committed_count, 1);
    raft_applied(r, 1);
    raft_ready_done(r);

    ck_assert(!raft_snapshot_is_wanted(r, 1, 1)); /* committed */
    ck_assert(!raft_snapshot_is_wanted(r, 3, 1)); /* there */
    ck_assert(raft_snapshot_is_wanted(r, 3, 2));
    ck_assert_int_eq(raft_install_snapshot(r, 3, 1, &four), TV_EEXIST);
    ck_assert_int_eq(raft_install_snapshot(r, 9, 0, &four), TV_EINVAL);
    ck_assert_int_eq(raft_install_snapshot(r, 9, 1, &(struct raft_membership){0}), TV_EINVAL);
    ck_assert_int_eq(raft_install_snapshot(r, UINT64_MAX, 1, &four), TV_EINVAL);
    ck_assert_uint_eq(raft_last_index(r), 3);

    /* Of a later term: that is the term now. */
    ck_assert_int_eq(raft_install_snapshot(r, 2, 4, &four), 0);
    raft_check(r);
    ck_assert_uint_eq(raft_term(r), 4);
    ck_assert_uint_eq(raft_leader(r), 0);
    ck_assert_uint_eq(raft_last_index(r), 2);
    ck_assert_uint_eq(raft_commit_index(r), 2);
    ck_assert_uint_eq(raft_persisted_index(r), 2);
    ck_assert_uint_eq(raft_membership(r)->voters.count, 4);
    raft_persisted(r, seq); /* of entries that are no longer in the log */
    ck_assert_uint_eq(raft_persisted_index(r), 2);
    raft_check(r);
    ck_assert(raft_ready(r, &rd));
    ck_assert(rd.hard_state_changed);
    ck_assert_uint_eq(rd.hard_state.term, 4);
    ck_assert_uint_eq(rd.hard_state.commit, 2);
    ck_assert_uint_eq(rd.entries_count, 0);
    ck_assert_uint_eq(rd.committed_count, 0);
    raft_ready_done(r);
    raft_free(r);
}
END_TEST

START_TEST(who_takes_a_snapshot_follows)
{
    static const struct raft_membership upside_down = {.voters = {.ids = {2, 1}, .count = 2}};
    struct raft *r = leader(NULL);
    ck_assert_int_eq(raft_install_snapshot(r, 9, 1, &four), TV_EINVAL);
    raft_free(r);
    r = member(3, without_pre_vote);
    raft_campaign(r);
    ck_assert_int_eq(raft_role(r), RAFT_CANDIDATE);
    ck_assert_int_eq(raft_install_snapshot(r, 9, UINT64_MAX, &four), TV_EINVAL);
    ck_assert_int_eq(raft_install_snapshot(r, 9, 1, &upside_down), TV_EINVAL);
    ck_assert_int_eq(raft_install_snapshot(r, 9, 1, &four), 0); /* of the term it stands in */
    ck_assert_int_eq(raft_role(r), RAFT_FOLLOWER);
    ck_assert_uint_eq(raft_term(r), 1);
    raft_check(r);
    raft_free(r);
}
END_TEST

/* What the other end says it installed need not make sense. */
START_TEST(a_snapshot_that_was_sent_is_not_believed)
{
    for (int i = 0; i < 3; i++) {
        struct raft *r = leader(NULL);
        acknowledge(r, 2, 1);
        (void)drain(r, RAFT_MSG_APPEND);
        struct raft_msg joins = {
            .type = RAFT_MSG_APPEND_REPLY, .from = 3, .term = 1, .reject = true};
        ck_assert_int_eq(step(r, joins), 0);
        (void)drain(r, RAFT_MSG_APPEND);
        uint64_t said = i == 0 ? 0 : i == 1 ? 1 : 99;
        raft_snapshot_sent(r, 3, said);
        raft_check(r);
        struct raft_progress peers[RAFT_PEERS_MAX];
        ck_assert_uint_eq(raft_progress(r, peers, RAFT_PEERS_MAX), 3);
        ck_assert_int_eq(peers[2].state, RAFT_PROGRESS_PROBE);
        ck_assert_uint_eq(peers[2].match_index, 0);
        ck_assert_uint_le(peers[2].next_index, raft_last_index(r) + 1);
        raft_snapshot_failed(r, 3); /* nothing is under way any more */
        raft_check(r);
        raft_free(r);
    }
}
END_TEST

START_TEST(a_snapshot_is_asked_for_once)
{
    struct raft *r = leader(NULL);
    acknowledge(r, 2, 1);
    (void)drain(r, RAFT_MSG_APPEND);
    struct raft_msg joins = {.type = RAFT_MSG_APPEND_REPLY, .from = 3, .term = 1, .reject = true};
    struct raft_ready rd;
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_int_eq(step(r, joins), 0);
        bool any = raft_ready(r, &rd);
        ck_assert(any == (i == 0));
        if (!any)
            continue;
        ck_assert_uint_eq(rd.snapshot_requests_count, 1);
        ck_assert_uint_eq(rd.snapshot_requests[0], 3);
        raft_ready_done(r);
    }
    /* Not even by the next leader, if that is us again: the stream is still there. */
    ck_assert_int_eq(step(r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 2}),
                     0);
    (void)drain(r, RAFT_MSG_APPEND);
    struct raft_progress peers[RAFT_PEERS_MAX];
    ck_assert_uint_eq(raft_progress(r, peers, RAFT_PEERS_MAX), 3);
    ck_assert(peers[2].snapshot_under_way);
    raft_snapshot_sent(r, 3, 1);
    raft_snapshot_sent(r, 99, 1); /* removed meanwhile */
    raft_snapshot_failed(r, 99);
    ck_assert_uint_eq(raft_progress(r, peers, RAFT_PEERS_MAX), 3);
    ck_assert(!peers[2].snapshot_under_way);
    raft_free(r);
}
END_TEST

/* --- restart --- */

static struct raft_options restart_options(void)
{
    struct raft_options o;
    raft_options_init(&o);
    o.id = 1;
    o.membership.voters = (struct raft_ids){.ids = {1, 2, 3}, .count = 3};
    o.hard_state = (struct raft_hard_state){.term = 3, .vote = 2, .commit = 2};
    return o;
}

START_TEST(restart_remembers)
{
    struct raft_options o = restart_options();
    struct raft_entry entries[] = {{.term = 1, .log_index = 1}, {.term = 3, .log_index = 2}};
    struct raft *r = raft_new(&o);
    raft_restore(r, entries, 2);
    ck_assert_uint_eq(raft_term(r), 3);
    ck_assert_uint_eq(raft_commit_index(r), 2);
    ck_assert_uint_eq(raft_persisted_index(r), 2);
    struct raft_ready rd;
    ck_assert(raft_ready(r, &rd));
    ck_assert_uint_eq(rd.committed_count, 2);
    ck_assert_uint_eq(rd.persist_seq, 0);
    raft_ready_done(r);
    raft_free(r);
}
END_TEST

START_TEST(restart_knows_that_what_was_applied_was_committed)
{
    struct raft_options o = restart_options();
    struct raft_entry entries[] = {{.term = 3, .log_index = 8}, {.term = 3, .log_index = 9}};
    o.log_start_index = 7;
    o.log_start_term = 2;
    o.applied_index = 9;
    struct raft *r = raft_new(&o);
    raft_restore(r, entries, 2);
    ck_assert_uint_eq(raft_commit_index(r), 9);
    struct raft_ready rd;
    ck_assert(!raft_ready(r, &rd));
    raft_check(r);
    raft_free(r);
}
END_TEST

/* The entries of a cut-short write are there, the new term is not. */
START_TEST(restart_takes_the_term_from_the_log)
{
    struct raft_options o = restart_options();
    struct raft_entry entries[] = {{.term = 1, .log_index = 1}, {.term = 5, .log_index = 2}};
    struct raft *r = raft_new(&o);
    raft_restore(r, entries, 2);
    ck_assert_uint_eq(raft_term(r), 5);
    struct raft_ready rd;
    ck_assert(raft_ready(r, &rd));
    ck_assert(rd.hard_state_changed);
    ck_assert_uint_eq(rd.hard_state.term, 5);
    ck_assert_uint_eq(rd.hard_state.vote, 0);
    raft_ready_done(r);
    raft_free(r);
}
END_TEST

/* Their commit index was lost with the end of the write that brought them. */
START_TEST(restart_knows_that_all_changes_but_the_last_are_committed)
{
    struct raft_options o = restart_options();
    struct raft_entry entries[6];
    for (uint32_t i = 0; i < 6; i++)
        entries[i] = (struct raft_entry){.term = 3, .log_index = i + 1};
    entries[2].type = entries[3].type = entries[4].type = RAFT_ENTRY_CONF;
    struct raft *r = raft_new(&o);
    raft_restore(r, entries, 6);
    ck_assert_uint_eq(raft_commit_index(r), 4);
    raft_campaign(r); /* they are not applied yet */
    ck_assert_int_eq(raft_role(r), RAFT_FOLLOWER);
    raft_free(r);
}
END_TEST

START_TEST(restart_refuses_a_log_that_lost_entries)
{
    struct raft_options o = restart_options();
    struct raft_entry entries[] = {{.term = 1, .log_index = 1}};
    struct raft *r = raft_new(&o);
    raft_restore(r, entries, 1);
}
END_TEST

START_TEST(restart_refuses_a_log_with_a_gap)
{
    struct raft_options o = restart_options();
    struct raft_entry entries[] = {{.term = 1, .log_index = 1}, {.term = 1, .log_index = 3}};
    struct raft *r = raft_new(&o);
    raft_restore(r, entries, 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("raft restart");
    TCase *t = tcase_create("raft restart");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_snapshot_voids_the_log_and_the_writes_under_way);
    tcase_add_test(t, who_takes_a_snapshot_follows);
    tcase_add_test(t, a_snapshot_that_was_sent_is_not_believed);
    tcase_add_test(t, a_snapshot_is_asked_for_once);
    tcase_add_test(t, restart_remembers);
    tcase_add_test(t, restart_knows_that_all_changes_but_the_last_are_committed);
    tcase_add_test(t, restart_knows_that_what_was_applied_was_committed);
    tcase_add_test(t, restart_takes_the_term_from_the_log);
    tcase_add_test_raise_signal(t, restart_refuses_a_log_that_lost_entries, SIGABRT);
    tcase_add_test_raise_signal(t, restart_refuses_a_log_with_a_gap, SIGABRT);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
