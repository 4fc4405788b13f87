/* The commands, each defined in the file of its group. */
#ifndef CLIENT_CTL_COMMANDS_H
#define CLIENT_CTL_COMMANDS_H

#include "ctl.h"

/* kv.c, txn.c, watch.c, lease.c */
extern const struct ctl_command ctl_cmd_get, ctl_cmd_put, ctl_cmd_del, ctl_cmd_compaction;
extern const struct ctl_command ctl_cmd_txn;
extern const struct ctl_command ctl_cmd_watch;
extern const struct ctl_command ctl_cmd_lease;

/* member.c, endpoint.c, maintenance.c, snapshot.c */
extern const struct ctl_command ctl_cmd_member;
extern const struct ctl_command ctl_cmd_endpoint;
extern const struct ctl_command ctl_cmd_alarm, ctl_cmd_defrag, ctl_cmd_move_leader,
    ctl_cmd_downgrade;
extern const struct ctl_command ctl_cmd_snapshot;

/* contest.c: lock and elect; auth.c */
extern const struct ctl_command ctl_cmd_lock, ctl_cmd_elect;
extern const struct ctl_command ctl_cmd_auth, ctl_cmd_user, ctl_cmd_role;

/* measure.c: check perf and datascale; mirror.c; help.c */
extern const struct ctl_command ctl_cmd_check;
extern const struct ctl_command ctl_cmd_make_mirror;
extern const struct ctl_command ctl_cmd_help, ctl_cmd_options, ctl_cmd_version;

/* What etcdctl does not have: top.c, copy.c; completion.c. */
extern const struct ctl_command ctl_cmd_top, ctl_cmd_copy, ctl_cmd_completion;

#endif
