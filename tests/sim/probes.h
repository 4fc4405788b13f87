/* Rare branches of raft and the log that no simulated cluster reaches, and why. Unit tests and
 * stories reach them; the suite `probes` of ./dev test sees to that, and a line here that the
 * simulator does reach is an error. */
#ifndef TESTS_SIM_PROBES_H
#define TESTS_SIM_PROBES_H

/* X(name, why) */
#define PROBES_ELSEWHERE(X)                                                            \
    X(raft_msg_invalid, "no correct member sends it")                                  \
    X(raft_two_leaders, "no correct member sends it")                                  \
    X(raft_leader_contradicts_itself, "no correct member sends it")                    \
    X(raft_restored_term_from_log, "the log gives back the term with the entries")     \
    X(raft_reads_limit, "65,536 reads in one round")                                   \
    X(raft_outbox_limit, "4,096 answers in one turn")                                  \
    X(raft_forward_limit, "16,384 proposals in one turn")                              \
    X(raft_restored_commit_from_conf, "no changes of membership in the simulator yet") \
    X(raft_follower_joins, "no changes of membership in the simulator yet")            \
    X(raft_wish_of_removed_member, "no changes of membership in the simulator yet")    \
    X(raft_reply_of_removed_member, "no changes of membership in the simulator yet")   \
    X(raft_campaign_before_conf, "no changes of membership in the simulator yet")      \
    X(raft_transfer_target_removed, "no changes of membership in the simulator yet")   \
    X(raft_leader_removed, "no changes of membership in the simulator yet")            \
    X(raft_leave_joint, "no changes of membership in the simulator yet")               \
    X(raft_conf_pending, "no changes of membership in the simulator yet")

#endif
