/* Leases: which exist, which keys hang on them, and, at the leader, when they end.
 *
 * Which leases and keys there are is part of the replicated state: the same at every member. When a
 * lease ends is not: only the leader knows, and puts the end on the log. With checkpoints it notes
 * there from time to time how much of a long TTL is left, so that the next leader does not begin
 * with the whole of it; then a renewal must take the note back before it counts. There is no clock
 * in here; `now_ms` is monotonic.
 *
 * Owner: the core thread. Rules from etcd server/lease/lessor.go. */
#ifndef SERVER_LEASE_H
#define SERVER_LEASE_H

#include "base/slice.h"
#include "proto/wire.h"
#include "state/records.h"
#include "storage/lsm.h"

#include <stdbool.h>
#include <stdint.h>

struct lessor;

enum {
    LEASE_REVOKE_RETRY_MS = 3000,
    LEASE_CHECKPOINT_MS = 5 * 60 * 1000, /* etcd: defaultLeaseCheckpointInterval */
};

/* Shorter TTLs are granted as `ttl_min_s`. */
struct lessor *lessor_new(int64_t ttl_min_s);
void lessor_free(struct lessor *l);

/* --- replicated: called when entries are applied, and at load --- */

/* *ret_granted_s is the TTL it got. Errors: TV_LEASE_EXIST; TV_LEASE_NOT_FOUND: id 0;
 * TV_LEASE_TTL_TOO_LARGE. */
int lessor_grant(struct lessor *l, int64_t id, int64_t ttl_s, uint64_t now_ms,
                 int64_t *ret_granted_s);
/* The lease and its keys' ties are gone; the keys themselves are the caller's business. */
void lessor_revoke(struct lessor *l, int64_t id);
bool lessor_exists(const struct lessor *l, int64_t id);
/* So much is left of its TTL, as the log has it; 0 or less takes that back. *ret is what is to be
 * stored. False: there is no such lease. */
bool lessor_checkpoint(struct lessor *l, const struct wire_lease_checkpoint *c, uint64_t now_ms,
                       struct lsm_lease *ret);
/* A stored one, before the lessor is promoted. */
void lessor_load(struct lessor *l, const struct lsm_lease *stored);
/* The lease must exist (or nothing happens). The key is copied; attaching it twice is harmless. */
void lessor_attach(struct lessor *l, int64_t id, struct slice key);
void lessor_detach(struct lessor *l, int64_t id, struct slice key);
/* In key order. `fn` must not attach or detach. */
void lessor_each_key(const struct lessor *l, int64_t id, void (*fn)(void *ctx, struct slice key),
                     void *ctx);
/* Is there one for which `fn` says so? In no order; it stops there. */
bool lessor_find_key(const struct lessor *l, int64_t id, bool (*fn)(void *ctx, struct slice key),
                     void *ctx);
/* In the order of their remaining time, as etcd lists them. */
void lessor_each(const struct lessor *l, void (*fn)(void *ctx, int64_t id), void *ctx);
uint64_t lessor_count(const struct lessor *l);

/* --- at the leader --- */

/* From here on leases end, each no sooner than its TTL, or what the log says is left of that, plus
 * `extend_ms` from now; ends that would fall together are spread, so that not all are revoked at
 * once. What is left of the longer ones is to be noted every `checkpoint_ms`; 0 = never. */
void lessor_promote(struct lessor *l, uint64_t now_ms, uint64_t extend_ms, uint64_t checkpoint_ms);
void lessor_demote(struct lessor *l);
/* Up to `max` leases of which it is time to note what is left. Each is to be proposed, or given
 * back by lessor_checkpoint_lost(). */
uint32_t lessor_checkpoints_due(struct lessor *l, uint64_t now_ms,
                                struct wire_lease_checkpoint *ret, uint32_t max);
void lessor_checkpoint_lost(struct lessor *l, const struct wire_lease_checkpoint *c,
                            uint64_t now_ms);
/* Before it may be renewed, a checkpoint of 0 must be applied: the log says that less than the TTL
 * is left, or will say so. */
bool lessor_is_noted(const struct lessor *l, int64_t id, uint64_t now_ms);
/* True once: the caller proposes that, or calls lessor_checkpoint_lost(). */
bool lessor_clear_begin(struct lessor *l, int64_t id);
/* Begin its TTL anew; it is not noted. Errors: TV_LEASE_NOT_FOUND, also when it has already ended.
 */
int lessor_renew(struct lessor *l, int64_t id, uint64_t now_ms, int64_t *ret_ttl_s);
/* Seconds left, rounded down, and the TTL granted. Errors: TV_LEASE_NOT_FOUND. */
int lessor_remaining(const struct lessor *l, int64_t id, uint64_t now_ms, int64_t *ret_ttl_s,
                     int64_t *ret_granted_s);
/* Up to `max` leases whose time is up. One is given out again LEASE_REVOKE_RETRY_MS later, should
 * its revocation have been lost. */
uint32_t lessor_expired(struct lessor *l, uint64_t now_ms, int64_t *ret_ids, uint32_t max);

#endif
