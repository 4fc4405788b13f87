/* With the feature InitialCorruptCheck, before a member that has data serves anybody: does it hold
 * what the others hold? It asks each of them for the hash of all changes up to its own newest
 * revision (HashKV), and does not start when one has another with the same compaction. Those that
 * do not answer within the request timeout, or cannot have that revision, are passed over, as in
 * etcd. Source of rules and texts: etcd server/etcdserver/corrupt.go. */
#ifndef SERVER_INITIAL_CHECK_H
#define SERVER_INITIAL_CHECK_H

struct grpc_method;
struct node;

/* Runs the node's loop until all have answered. Errors: TV_ECORRUPT: contents differ, in words that
 * are in the log already. */
int initial_check(struct node *n);

/* The running node answers. */
struct grpc_method peer_hash_method(struct node *n);

#endif
