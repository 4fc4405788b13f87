/* What is refused before it costs anything: requests that break the API's rules whatever the store
 * holds.
 *
 * Source of the rules: etcd server/etcdserver/api/v3rpc/key.go. All are pure; the first error found
 * is the one etcd would give. Thread: any. */
#ifndef SERVER_VALIDATE_H
#define SERVER_VALIDATE_H

#include "proto/wire.h"

/* Errors: TV_EMPTY_KEY, TV_INVALID_SORT_OPTION. */
int validate_range(const struct wire_range_request *req);
/* Errors: those, TV_RANGE_STREAM_SORT, TV_RANGE_STREAM_FILTER. A sort target without an order is no
 * sort here: it passes, as in etcd. */
int validate_range_stream(const struct wire_range_request *req);
/* Errors: TV_EMPTY_KEY, TV_VALUE_PROVIDED, TV_LEASE_PROVIDED. */
int validate_put(const struct wire_put_request *req);
/* Errors: TV_EMPTY_KEY. */
int validate_delete_range(const struct wire_delete_range_request *req);
/* `ops_max` bounds each of compares, success and failure, and what a transaction uses of it is gone
 * for those in it. A key may be written once on any path through the transaction, and not be put
 * where something is deleted.
 *
 * A transaction with no more than one put a branch, no delete beside it and none in it costs no
 * memory. Otherwise memory and time grow with its operations, n log n. Errors: those above,
 * TV_TOO_MANY_OPS, TV_KEY_NOT_FOUND for an empty operation, TV_DUPLICATE_KEY. */
int validate_txn(const struct wire_txn *txn, uint32_t ops_max);

#endif
