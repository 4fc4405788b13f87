/* All commands, and the flags that all of them have. */
#include "commands.h"

#include <stddef.h>

const char *const ctl_groups[] = {
    "Key-value commands",   "Cluster maintenance commands",
    "Concurrency commands", "Authentication commands",
    "Utility commands",     NULL,
};

const struct ctl_command *const ctl_commands[] = {
    &ctl_cmd_get,        &ctl_cmd_put,       &ctl_cmd_del,         &ctl_cmd_txn,
    &ctl_cmd_compaction, &ctl_cmd_watch,     &ctl_cmd_lease,       &ctl_cmd_alarm,
    &ctl_cmd_defrag,     &ctl_cmd_endpoint,  &ctl_cmd_move_leader, &ctl_cmd_member,
    &ctl_cmd_snapshot,   &ctl_cmd_downgrade, &ctl_cmd_lock,        &ctl_cmd_elect,
    &ctl_cmd_auth,       &ctl_cmd_user,      &ctl_cmd_role,        &ctl_cmd_check,
    &ctl_cmd_top,        &ctl_cmd_copy,      &ctl_cmd_make_mirror, &ctl_cmd_completion,
    &ctl_cmd_help,       &ctl_cmd_options,   &ctl_cmd_version,     NULL,
};

#define FORMATS "fields json protobuf simple table yaml"

const struct ctl_flag ctl_global_flags[] = {
    {"endpoints", 0, CTL_STRINGS, "127.0.0.1:2379", "where the cluster listens for clients"},
    {"debug", 0, CTL_BOOL, NULL, "print the values of all flags to standard error"},
    {"write-out", 'w', CTL_STRING, "simple",
     "the form of what is printed (fields, json, protobuf, simple, table, yaml)", .words = FORMATS},
    {"output", 'o', CTL_STRING, NULL, "the same as --write-out", .words = FORMATS,
     .alias_of = "write-out"},
    {"hex", 0, CTL_BOOL, NULL, "print keys, values and ids in hexadecimal"},
    {"dial-timeout", 0, CTL_DURATION, "2s", "how long to wait for a connection"},
    {"command-timeout", 0, CTL_DURATION, "5s", "how long to wait for an answer"},
    {"keepalive-time", 0, CTL_DURATION, "2s", "silence after which a connection is asked for life"},
    {"keepalive-timeout", 0, CTL_DURATION, "6s", "how long to wait for a sign of life"},
    {"max-request-bytes", 0, CTL_INT, NULL, "the largest request that is sent (0: 2 MiB)"},
    {"max-recv-bytes", 0, CTL_INT, NULL, "the largest answer that is taken (0: 2 GiB)"},
    {"insecure-transport", 0, CTL_BOOL, "true",
     "no TLS for endpoints that name no scheme, unless there are certificates"},
    {"insecure-discovery", 0, CTL_BOOL, "true", "take endpoints without TLS from SRV records, too"},
    {"insecure-skip-tls-verify", 0, CTL_BOOL, NULL,
     "do not verify the servers' certificates (for tests only)"},
    {"cert", 0, CTL_STRING, NULL, "file of the client's certificate"},
    {"key", 0, CTL_STRING, NULL, "file of the client's key"},
    {"cacert", 0, CTL_STRING, NULL, "file of the CAs that the servers' certificates are from"},
    {"auth-jwt-token", 0, CTL_STRING, NULL, "a token to use in place of --user and --password"},
    {"user", 0, CTL_STRING, NULL, "name[:password]; without a password it is asked for"},
    {"password", 0, CTL_STRING, NULL, "the password of --user, which is the name alone then"},
    {"discovery-srv", 'd', CTL_STRING, NULL, "domain whose SRV records name the endpoints"},
    {"discovery-srv-name", 0, CTL_STRING, NULL, "suffix of the service's name in SRV records"},
    {NULL},
};
