/* What a caller must be permitted to do for a request: checked when an entry is applied, by all
 * members alike, and for reads by the worker that serves them. Only while auth is enabled.
 *
 * Thread: the core's; those without a lessor: any, in an epoch section. Source: etcd
 * server/etcdserver/apply/auth.go. */
#ifndef SERVER_AUTH_CHECK_H
#define SERVER_AUTH_CHECK_H

#include "server/lease.h"
#include "state/auth.h"

#include "proto/wire.h"

/* Errors of all: those of auth_check(). */

/* All keys that hang on the lease: `write` for who ends it, renews it or puts another key on it,
 * else read for who lists them. Root may always. A lease that is not there has no keys. */
int auth_check_lease(const struct auth_view *v, const struct auth_caller *c, const struct lessor *l,
                     int64_t lease_id, enum auth_access access);
int auth_check_put(const struct auth_view *v, const struct auth_caller *c, const struct lessor *l,
                   const struct wire_put_request *r);
int auth_check_delete(const struct auth_view *v, const struct auth_caller *c,
                      const struct wire_delete_range_request *r);
/* Comparisons, and both branches. `l` may be NULL when there is no put in it. */
int auth_check_txn(const struct auth_view *v, const struct auth_caller *c, const struct lessor *l,
                   const struct wire_txn *txn);

#endif
