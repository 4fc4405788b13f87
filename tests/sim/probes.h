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
    X(raft_restored_commit_from_conf, "the log gives back the commit index with them") \
    X(raft_wish_of_removed_member, "who was removed is not listened to any more")      \
    X(raft_reply_of_removed_member, "who was removed is not listened to any more")

#endif
