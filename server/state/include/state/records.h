/* What the store has beside keys and leases: the names of its records, and the bounds of what is in
 * them. Those of users and roles are in state/auth.h. */
#ifndef STATE_RECORDS_H
#define STATE_RECORDS_H

#include "base/slice.h"

/* Replicated: the same at every member that applied the same. */
#define STATE_RECORD_MEMBERS SLICE_LITERAL("members")   /* all of them: cluster_encode() */
#define STATE_RECORD_ALARMS SLICE_LITERAL("alarms")     /* alarms_encode() */
#define STATE_RECORD_VERSIONS SLICE_LITERAL("versions") /* of the cluster: versions_encode() */

/* A member's own. */
#define STATE_RECORD_SELF SLICE_LITERAL("self") /* which of the members this is */
#define STATE_RECORD_LOG SLICE_LITERAL("log")   /* which log belongs to it: wal_log_id() */
/* The index of the entry that the contents stand at, which came from elsewhere: the log need not
 * know it (server/install.h, state/backup.h). */
#define STATE_RECORD_INSTALLED SLICE_LITERAL("installed")

#define LEASE_TTL_MAX_S 9000000000 /* etcd: MaxLeaseTTL */

#endif
