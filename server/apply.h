/* The state machine: an entry of the log becomes a change of the store, the leases, the
 * membership, the users and roles.
 *
 * Deterministic: the outcome depends on the entries alone, so every member that applied the same
 * prefix holds the same contents.
 *
 * Owner: the core thread. */
#ifndef SERVER_APPLY_H
#define SERVER_APPLY_H

#include "server/agree.h"
#include "server/alarm.h"
#include "server/auth_token.h"
#include "server/lease.h"
#include "server/meter.h"
#include "server/request.h"
#include "server/versions.h"
#include "state/auth.h"
#include "state/cluster.h"

#include "base/arena.h"
#include "proto/wire.h"
#include "storage/lsm.h"
#include "storage/mvcc.h"

struct applier {
    struct mvcc *mvcc;
    struct lessor *lessor;
    struct cluster *cluster;
    uint64_t member_id;
    uint64_t term;      /* for response headers; the core sets it */
    uint64_t now_ms;    /* for leases; the core sets it. Expiry itself is decided by the leader */
    uint64_t log_index; /* of the entry that is applied; the core sets it */
    struct alarms alarms;
    struct auth auth;
    struct auth_tokens *tokens; /* borrowed, and no replicated state; NULL: none are given out */
    struct versions versions;
    struct arena arena;
    /* Changes outside the key space, for the persist thread; taken by the core once per turn. */
    struct persist_meta *metas;
    bool compacted;                   /* a compaction was applied: there is something to scrub */
    uint64_t chain;                   /* over all that was applied: server/agree.h */
    uint32_t last_kind;               /* of the entry applied last */
    struct agree_report last_verdict; /* when it was one */
    struct apply_meters meters;
};

void applier_init(struct applier *a, struct mvcc *m, struct lessor *l, struct cluster *cluster,
                  uint64_t member_id);
void applier_fini(struct applier *a);

/* What a committed entry's payload says; the slices point into it. */
void applier_decode(struct slice payload, struct wire_raft_request *ret);
/* Bring what applying these entries will look at into the CPU's caches, all at once rather than one
 * after the other. At most APPLY_WARM_MAX; a hint, nothing more. */
enum { APPLY_WARM_MAX = MVCC_WARM_MAX };
void applier_warm(const struct applier *a, const struct wire_raft_request *entries, uint32_t count);
/* Apply one committed entry. `req` is the local request that waits for it, or NULL; its answer (err
 * or reply) is filled in. What became of the entry: 0, or why it changed nothing. */
int applier_apply(struct applier *a, const struct wire_raft_request *entry, struct request *req);
/* Everything applied since the last call, for the persist thread; the store is published up to
 * there. */
struct persist_batch *applier_take_batch(struct applier *a, uint64_t index, uint64_t term);

/* The payload of an alarm. */
struct bref *applier_encode_alarm(const struct alarm_request *r, uint64_t request_id,
                                  uint32_t *ret_size);
struct bref *applier_encode_mark(uint64_t request_id, uint32_t *ret_size);
struct bref *applier_encode_verdict(const struct agree_report *v, uint64_t request_id,
                                    uint32_t *ret_size);
struct bref *applier_encode_cluster_version(uint16_t minor, uint64_t request_id,
                                            uint32_t *ret_size);
/* The payload that ends a lease, in root's name. */
struct bref *applier_encode_revoke(int64_t lease_id, uint64_t request_id, uint32_t *ret_size);
/* The payload that notes what is left of leases. */
struct bref *applier_encode_checkpoints(const struct wire_lease_checkpoint *checkpoints,
                                        uint32_t count, uint64_t request_id, uint32_t *ret_size);
/* Is this one that ends a lease, from this member's own leader? */
bool applier_was_own_revoke(const struct applier *a, const struct wire_raft_request *entry);

/* Whole answers of LeaseLeases and MemberList, and the keys of LeaseTimeToLive as its items. */
void applier_lease_list(struct applier *a, struct request *req);
void applier_lease_keys(struct applier *a, struct request *req);
void applier_member_list(struct applier *a, struct request *req);
/* The answer to a change that was made. */
struct member_change;
void applier_member_change(struct applier *a, struct request *req,
                           const struct member_change *change);
/* The members are others now: for the persist thread. */
void applier_members_changed(struct applier *a);

struct wire_header applier_header(const struct applier *a, int64_t revision);

#endif
