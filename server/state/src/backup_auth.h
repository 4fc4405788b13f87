/* Users and roles in etcd's own words: the entries of the buckets auth, authUsers and authRoles.
 *
 * Owner: one thread. */
#ifndef SERVER_STATE_SRC_BACKUP_AUTH_H
#define SERVER_STATE_SRC_BACKUP_AUTH_H

#include "state/auth.h"

#include "storage/lsm.h"

/* What was read of a file so far. Roles come before users, as the buckets are in order. */
struct backup_auth {
    struct auth auth;
    bool enabled;
    uint64_t revision;
    bool any; /* there is something to restore */
};

void backup_auth_init(struct backup_auth *b);
void backup_auth_fini(struct backup_auth *b);
/* An entry of one of the three buckets; of another one nothing happens. Errors: TV_ECORRUPT. */
int backup_auth_read(struct backup_auth *b, struct slice bucket, struct slice key,
                     struct slice value);
/* Everything was read: append the store's records. Errors: TV_ECORRUPT: it is on, and there is no
 * root. */
int backup_auth_records(struct backup_auth *b, struct persist_meta **metas);

#endif
