/* What a request may add to the store, as etcd estimates it before it lets a request through.
 *
 * Source of the rules: etcd server/storage/quota.go. Pure; thread: any. */
#ifndef SERVER_QUOTA_H
#define SERVER_QUOTA_H

#include "proto/wire.h"

enum { QUOTA_LEASE_BYTES = 64 }; /* what a lease is counted with */

uint64_t quota_put_bytes(const struct wire_put_request *req);
/* The more costly of the two branches, transactions in it included; 0: it puts nothing. */
uint64_t quota_txn_bytes(const struct wire_txn *txn);

#endif
