/* etcd's services: for each method of its API, what this version does with a call.
 *
 * Owner: the worker whose server the table is given to. */
#ifndef SERVER_SERVICES_H
#define SERVER_SERVICES_H

#include "server/worker.h"

#include "proto/grpc.h"

/* The whole table. Every `arg` is `w`. The caller frees it with mem_free(). */
struct grpc_method *services_table(struct worker *w, uint32_t *ret_count);

/* The methods of that table, in its order: those of all workers are the same. */
uint32_t services_count(void);
const struct grpc_method *services_method(uint32_t at);

/* --- what the files of services share --- */

static inline struct worker *service_worker(const struct grpc_call *call)
{
    return grpc_call_method(call)->arg;
}

/* "grpc: error unmarshalling request: ...", as a Go server answers what does not decode. */
void service_malformed(struct grpc_call *call);
/* Of a message without fields that matter: does it decode? If not the call is ended. */
bool service_is_well_formed(struct grpc_call *call, struct slice msg);
/* A request is on its way for the call: if the call ends first, its answer is dropped. */
void service_tie(struct grpc_call *call, struct request *req);
/* The answer of a unary call that ends with the request: the reply or the error, then free. */
void service_answered(struct worker *w, struct request *req);
/* Put `body` on the log as an entry of this kind in the caller's name, to be answered with the
 * reply; with `wait_scrub` only when what a compaction gave up is freed. */
void service_propose(struct grpc_call *call, uint32_t raft_kind, struct slice body,
                     bool wait_scrub);
/* The two reasons for which a call gets nowhere at this member: refused, true. A learner serves its
 * own Status and serializable ranges alone, as in etcd; whoever asked for a leader, and all that
 * ask a member which does not belong to the cluster, hear that there is none. */
bool service_refused(struct grpc_call *call);
/* Only the second of them. */
bool service_lacks_leader(struct grpc_call *call);

/* --- who may; see docs/architecture.md ---
 *
 * With auth disabled nobody is asked for, and each of these costs a load. Those that give a bool
 * have refused the call when it is true. */

/* Who makes the call: by its token or, when it shows none, by `common_name`, a verified
 * certificate's (NULL: none). *ret is unknown when it shows nothing. The name is borrowed until the
 * worker's next question of that kind. Errors: TV_INVALID_AUTH_TOKEN. */
int auth_user_of_call(struct grpc_call *call, const char *common_name, struct auth_caller *ret);
/* The same with the call's own certificate. */
int service_caller(struct grpc_call *call, struct auth_caller *ret);
/* It is nobody's. At the top of what any user may do. */
bool service_lacks_user(struct grpc_call *call);
/* It is not root's. At the top of what only root may do. */
bool service_lacks_root(struct grpc_call *call);
/* May it read that? In an epoch section. *ret_revision is for service_permit_still(): what was read
 * meanwhile may be given out only when that says 0. Errors: as auth_check(); TV_INVALID_AUTH_TOKEN.
 */
int service_permit_range(struct grpc_call *call, struct slice key, struct slice range_end,
                         uint64_t *ret_revision);
int service_permit_txn(struct grpc_call *call, const struct wire_txn *txn, uint64_t *ret_revision);
int service_permit_still(struct grpc_call *call, uint64_t revision);
/* For the watch hub; `ctx` is the worker. */
int service_permit_watch(void *ctx, struct grpc_call *call, struct slice key,
                         struct slice range_end);
/* Note in a request about leases who asks. Errors: TV_INVALID_AUTH_TOKEN, TV_USER_EMPTY. */
int service_sign_request(struct grpc_call *call, struct request *req);

/* The call shows a token that this member is yet to hear of: true, and the message is kept until
 * then; services_deliver() gives it to the method. */
bool service_holds(struct grpc_call *call, struct slice msg);
void service_held_closed(struct grpc_call *call);
void service_release_held(struct worker *w);
void services_deliver(struct grpc_call *call, struct slice msg);

/* A unary call that would add so much to the store, for which there is no room: refused, true. When
 * it is the quota that is exceeded, the alarm is put on the log first. */
bool service_lacks_space(struct grpc_call *call, uint64_t cost_bytes);

extern const struct grpc_call_ops kv_range_ops, kv_range_stream_ops, kv_put_ops,
    kv_delete_range_ops, kv_txn_ops, kv_compact_ops;
void kv_range_stream_open(struct grpc_call *call, void *arg);
extern const struct grpc_call_ops lease_grant_ops, lease_revoke_ops, lease_keep_alive_ops,
    lease_time_to_live_ops, lease_leases_ops;
void lease_keep_alive_open(struct grpc_call *call, void *arg);
extern const struct grpc_call_ops maintenance_status_ops, maintenance_alarm_ops,
    maintenance_move_leader_ops, maintenance_hash_kv_ops, health_check_ops, health_list_ops,
    health_watch_ops;
extern const struct grpc_call_ops maintenance_snapshot_ops, maintenance_hash_ops,
    maintenance_downgrade_ops, maintenance_defragment_ops;
/* Every 100 ms or so: streams whose clients do not read are ended. */
void maintenance_snapshot_tick(struct worker *w);
extern const struct grpc_call_ops cluster_member_list_ops, cluster_member_add_ops,
    cluster_member_remove_ops, cluster_member_update_ops, cluster_member_promote_ops;
/* One for all methods of etcdserverpb.Auth but these two, which deal with passwords. */
extern const struct grpc_call_ops auth_log_ops, auth_authenticate_ops, auth_password_ops;
extern const struct grpc_call_ops lock_lock_ops, lock_unlock_ops;
extern const struct grpc_call_ops election_campaign_ops, election_proclaim_ops, election_leader_ops,
    election_resign_ops, election_observe_ops;
void election_observe_open(struct grpc_call *call, void *arg);

#endif
