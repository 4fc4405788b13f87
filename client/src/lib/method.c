/* The tables: every method of the API, its messages, and how it may be treated. */
#include "message.h"

#include "base/assert.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SHAPE(name, type) {name##_fields, COUNT(name##_fields), sizeof(type), false}
#define SHAPE_WITH_LISTS(name, type) {name##_fields, COUNT(name##_fields), sizeof(type), true}
static const struct message_shape nothing = {0};

/* --- parts --- */

#define F(number, TYPE, type, member) {number, MESSAGE_##TYPE, offsetof(type, member), 0, NULL}
#define F_SUB(number, type, member, shape) {number, MESSAGE_SUB, offsetof(type, member), 0, shape}
#define F_LIST(number, TYPE, type, member, shape) \
    {number, MESSAGE_##TYPE, offsetof(type, member), offsetof(type, member##_count), shape}

static const struct message_field header_fields[] = {
    F(1, INT64, struct trivet_header, cluster_id),
    F(2, INT64, struct trivet_header, member_id),
    F(3, INT64, struct trivet_header, revision),
    F(4, INT64, struct trivet_header, raft_term),
};
static const struct message_shape header = SHAPE(header, struct trivet_header);

static const struct message_field kv_fields[] = {
    F(1, BYTES, struct trivet_kv, key),          F(2, INT64, struct trivet_kv, create_revision),
    F(3, INT64, struct trivet_kv, mod_revision), F(4, INT64, struct trivet_kv, version),
    F(5, BYTES, struct trivet_kv, value),        F(6, INT64, struct trivet_kv, lease),
};
static const struct message_shape kv = SHAPE(kv, struct trivet_kv);

static const struct message_field leader_key_fields[] = {
    F(1, BYTES, struct trivet_leader_key, name),
    F(2, BYTES, struct trivet_leader_key, key),
    F(3, INT64, struct trivet_leader_key, revision),
    F(4, INT64, struct trivet_leader_key, lease),
};
static const struct message_shape leader_key = SHAPE(leader_key, struct trivet_leader_key);

static const struct message_field member_fields[] = {
    F(1, INT64, struct trivet_member, id),
    F(2, BYTES, struct trivet_member, name),
    F_LIST(3, BYTES_LIST, struct trivet_member, peer_urls, NULL),
    F_LIST(4, BYTES_LIST, struct trivet_member, client_urls, NULL),
    F(5, BOOL, struct trivet_member, is_learner),
};
static const struct message_shape member = SHAPE_WITH_LISTS(member, struct trivet_member);

static const struct message_field alarm_fields[] = {
    F(1, INT64, struct trivet_alarm, member_id),
    F(2, INT32, struct trivet_alarm, alarm),
};
static const struct message_shape alarm_shape = SHAPE(alarm, struct trivet_alarm);

static const struct message_field permission_fields[] = {
    F(1, INT32, struct trivet_permission, type),
    F(2, BYTES, struct trivet_permission, key),
    F(3, BYTES, struct trivet_permission, range_end),
};
static const struct message_shape permission = SHAPE(permission, struct trivet_permission);

/* --- requests --- */

static const struct message_field range_fields[] = {
    F(1, BYTES, struct trivet_range_request, key),
    F(2, BYTES, struct trivet_range_request, range_end),
    F(3, INT64, struct trivet_range_request, limit),
    F(4, INT64, struct trivet_range_request, revision),
    F(5, INT32, struct trivet_range_request, sort_order),
    F(6, INT32, struct trivet_range_request, sort_target),
    F(7, BOOL, struct trivet_range_request, serializable),
    F(8, BOOL, struct trivet_range_request, keys_only),
    F(9, BOOL, struct trivet_range_request, count_only),
    F(10, INT64, struct trivet_range_request, min_mod_revision),
    F(11, INT64, struct trivet_range_request, max_mod_revision),
    F(12, INT64, struct trivet_range_request, min_create_revision),
    F(13, INT64, struct trivet_range_request, max_create_revision),
};
static const struct message_shape range = SHAPE(range, struct trivet_range_request);

static const struct message_field put_fields[] = {
    F(1, BYTES, struct trivet_put_request, key),
    F(2, BYTES, struct trivet_put_request, value),
    F(3, INT64, struct trivet_put_request, lease),
    F(4, BOOL, struct trivet_put_request, prev_kv),
    F(5, BOOL, struct trivet_put_request, ignore_value),
    F(6, BOOL, struct trivet_put_request, ignore_lease),
};
static const struct message_shape put = SHAPE(put, struct trivet_put_request);

static const struct message_field del_fields[] = {
    F(1, BYTES, struct trivet_delete_request, key),
    F(2, BYTES, struct trivet_delete_request, range_end),
    F(3, BOOL, struct trivet_delete_request, prev_kv),
};
static const struct message_shape del = SHAPE(del, struct trivet_delete_request);

static const struct message_field txn_fields[] = {
    F_LIST(1, COMPARES, struct trivet_txn_request, compares, NULL),
    F_LIST(2, OPS, struct trivet_txn_request, success, NULL),
    F_LIST(3, OPS, struct trivet_txn_request, failure, NULL),
};
static const struct message_shape txn = SHAPE(txn, struct trivet_txn_request);

static const struct message_field compact_fields[] = {
    F(1, INT64, struct trivet_compact_request, revision),
    F(2, BOOL, struct trivet_compact_request, physical),
};
static const struct message_shape compact = SHAPE(compact, struct trivet_compact_request);

static const struct message_field grant_fields[] = {
    F(1, INT64, struct trivet_lease_request, ttl),
    F(2, INT64, struct trivet_lease_request, id),
};
static const struct message_shape grant = SHAPE(grant, struct trivet_lease_request);
static const struct message_field lease_id_fields[] = {
    F(1, INT64, struct trivet_lease_request, id),
};
static const struct message_shape lease_id = SHAPE(lease_id, struct trivet_lease_request);
static const struct message_field lease_ttl_fields[] = {
    F(1, INT64, struct trivet_lease_request, id),
    F(2, BOOL, struct trivet_lease_request, keys),
};
static const struct message_shape lease_ttl = SHAPE(lease_ttl, struct trivet_lease_request);

static const struct message_field member_add_fields[] = {
    F_LIST(1, BYTES_LIST, struct trivet_member_request, peer_urls, NULL),
    F(2, BOOL, struct trivet_member_request, is_learner),
};
static const struct message_shape member_add = SHAPE(member_add, struct trivet_member_request);
static const struct message_field member_id_fields[] = {
    F(1, INT64, struct trivet_member_request, id),
};
static const struct message_shape member_id = SHAPE(member_id, struct trivet_member_request);
static const struct message_field member_update_fields[] = {
    F(1, INT64, struct trivet_member_request, id),
    F_LIST(2, BYTES_LIST, struct trivet_member_request, peer_urls, NULL),
};
static const struct message_shape member_update =
    SHAPE(member_update, struct trivet_member_request);
static const struct message_field member_list_fields[] = {
    F(1, BOOL, struct trivet_member_request, linearizable),
};
static const struct message_shape member_list = SHAPE(member_list, struct trivet_member_request);

static const struct message_field alarm_request_fields[] = {
    F(1, INT32, struct trivet_alarm_request, action),
    F(2, INT64, struct trivet_alarm_request, member_id),
    F(3, INT32, struct trivet_alarm_request, alarm),
};
static const struct message_shape alarm_request = SHAPE(alarm_request, struct trivet_alarm_request);
static const struct message_field hash_kv_fields[] = {
    F(1, INT64, struct trivet_maintenance_request, revision),
};
static const struct message_shape hash_kv = SHAPE(hash_kv, struct trivet_maintenance_request);
static const struct message_field move_leader_fields[] = {
    F(1, INT64, struct trivet_maintenance_request, target_id),
};
static const struct message_shape move_leader =
    SHAPE(move_leader, struct trivet_maintenance_request);
static const struct message_field downgrade_fields[] = {
    F(1, INT32, struct trivet_maintenance_request, action),
    F(2, BYTES, struct trivet_maintenance_request, version),
};
static const struct message_shape downgrade = SHAPE(downgrade, struct trivet_maintenance_request);

static const struct message_field user_fields[] = {F(1, BYTES, struct trivet_auth_request, user)};
static const struct message_shape user = SHAPE(user, struct trivet_auth_request);
static const struct message_field role_fields[] = {F(1, BYTES, struct trivet_auth_request, role)};
static const struct message_shape role = SHAPE(role, struct trivet_auth_request);
static const struct message_field user_password_fields[] = {
    F(1, BYTES, struct trivet_auth_request, user),
    F(2, BYTES, struct trivet_auth_request, password),
};
static const struct message_shape user_password = SHAPE(user_password, struct trivet_auth_request);
static const struct message_field add_options_fields[] = {
    F(1, BOOL, struct trivet_auth_request, no_password),
};
static const struct message_shape add_options = SHAPE(add_options, struct trivet_auth_request);
/* The submessages below are made of members of the request itself. */
static const struct message_field user_add_fields[] = {
    F(1, BYTES, struct trivet_auth_request, user),
    F(2, BYTES, struct trivet_auth_request, password),
    {3, MESSAGE_SUB, 0, 0, &add_options},
};
static const struct message_shape user_add = SHAPE(user_add, struct trivet_auth_request);
static const struct message_field user_role_fields[] = {
    F(1, BYTES, struct trivet_auth_request, user),
    F(2, BYTES, struct trivet_auth_request, role),
};
static const struct message_shape user_role = SHAPE(user_role, struct trivet_auth_request);
static const struct message_field grant_permission_fields[] = {
    F(1, INT32, struct trivet_auth_request, permission),
    F(2, BYTES, struct trivet_auth_request, key),
    F(3, BYTES, struct trivet_auth_request, range_end),
};
static const struct message_shape grant_permission =
    SHAPE(grant_permission, struct trivet_auth_request);
static const struct message_field role_grant_fields[] = {
    F(1, BYTES, struct trivet_auth_request, role),
    {2, MESSAGE_SUB, 0, 0, &grant_permission},
};
static const struct message_shape role_grant = SHAPE(role_grant, struct trivet_auth_request);
static const struct message_field role_revoke_fields[] = {
    F(1, BYTES, struct trivet_auth_request, role),
    F(2, BYTES, struct trivet_auth_request, key),
    F(3, BYTES, struct trivet_auth_request, range_end),
};
static const struct message_shape role_revoke = SHAPE(role_revoke, struct trivet_auth_request);

static const struct message_field lock_fields[] = {
    F(1, BYTES, struct trivet_contest_request, name),
    F(2, INT64, struct trivet_contest_request, lease),
};
static const struct message_shape lock_shape = SHAPE(lock, struct trivet_contest_request);
static const struct message_field unlock_fields[] = {
    F(1, BYTES, struct trivet_contest_request, key),
};
static const struct message_shape unlock_shape = SHAPE(unlock, struct trivet_contest_request);
static const struct message_field campaign_fields[] = {
    F(1, BYTES, struct trivet_contest_request, name),
    F(2, INT64, struct trivet_contest_request, lease),
    F(3, BYTES, struct trivet_contest_request, value),
};
static const struct message_shape campaign = SHAPE(campaign, struct trivet_contest_request);
static const struct message_field proclaim_fields[] = {
    F_SUB(1, struct trivet_contest_request, leader, &leader_key),
    F(2, BYTES, struct trivet_contest_request, value),
};
static const struct message_shape proclaim = SHAPE(proclaim, struct trivet_contest_request);
static const struct message_field leader_fields[] = {
    F(1, BYTES, struct trivet_contest_request, name),
};
static const struct message_shape leader_request = SHAPE(leader, struct trivet_contest_request);
static const struct message_field resign_fields[] = {
    F_SUB(1, struct trivet_contest_request, leader, &leader_key),
};
static const struct message_shape resign = SHAPE(resign, struct trivet_contest_request);

/* --- responses: of struct trivet_result --- */

#define R(number, TYPE, member) F(number, TYPE, struct trivet_result, u.member)
#define R_SUB(number, member, shape) F_SUB(number, struct trivet_result, u.member, shape)
#define R_LIST(number, TYPE, member, shape) \
    F_LIST(number, TYPE, struct trivet_result, u.member, shape)
#define R_HEADER F_SUB(1, struct trivet_result, header, &header)

static const struct message_field header_only_fields[] = {R_HEADER};
static const struct message_shape header_only = SHAPE(header_only, struct trivet_result);

static const struct message_field range_r_fields[] = {R_HEADER, R_LIST(2, SUB_LIST, range.kvs, &kv),
                                                      R(3, BOOL, range.more),
                                                      R(4, INT64, range.count)};
static const struct message_shape range_r = SHAPE_WITH_LISTS(range_r, struct trivet_result);
static const struct message_field put_r_fields[] = {R_HEADER, R_SUB(2, put.prev_kv, &kv)};
static const struct message_shape put_r = SHAPE(put_r, struct trivet_result);
static const struct message_field del_r_fields[] = {R_HEADER, R(2, INT64, del.deleted),
                                                    R_LIST(3, SUB_LIST, del.prev_kvs, &kv)};
static const struct message_shape del_r = SHAPE_WITH_LISTS(del_r, struct trivet_result);
static const struct message_field txn_r_fields[] = {R_HEADER, R(2, BOOL, txn.succeeded),
                                                    R_LIST(3, RESPONSES, txn.responses, NULL)};
static const struct message_shape txn_r = SHAPE_WITH_LISTS(txn_r, struct trivet_result);
static const struct message_field lease_r_fields[] = {
    R_HEADER,
    R(2, INT64, lease.id),
    R(3, INT64, lease.ttl),
};
static const struct message_shape lease_r = SHAPE(lease_r, struct trivet_result);
static const struct message_field lease_ttl_r_fields[] = {
    R_HEADER,
    R(2, INT64, lease.id),
    R(3, INT64, lease.ttl),
    R(4, INT64, lease.granted_ttl),
    R_LIST(5, BYTES_LIST, lease.keys, NULL),
};
static const struct message_shape lease_ttl_r = SHAPE_WITH_LISTS(lease_ttl_r, struct trivet_result);
static const struct message_field lease_list_r_fields[] = {R_HEADER,
                                                           R_LIST(2, INT64_ITEMS, lease.ids, NULL)};
static const struct message_shape lease_list_r =
    SHAPE_WITH_LISTS(lease_list_r, struct trivet_result);
static const struct message_field member_add_r_fields[] = {
    R_HEADER, R_SUB(2, member.member, &member), R_LIST(3, SUB_LIST, member.members, &member)};
static const struct message_shape member_add_r =
    SHAPE_WITH_LISTS(member_add_r, struct trivet_result);
static const struct message_field members_r_fields[] = {
    R_HEADER, R_LIST(2, SUB_LIST, member.members, &member)};
static const struct message_shape members_r = SHAPE_WITH_LISTS(members_r, struct trivet_result);
static const struct message_field alarm_r_fields[] = {
    R_HEADER, R_LIST(2, SUB_LIST, alarm.alarms, &alarm_shape)};
static const struct message_shape alarm_r = SHAPE_WITH_LISTS(alarm_r, struct trivet_result);
static const struct message_field downgrade_info_fields[] = {R(1, BOOL, status.downgrade_enabled),
                                                             R(2, BYTES, status.downgrade_target)};
static const struct message_shape downgrade_info = SHAPE(downgrade_info, struct trivet_result);
static const struct message_field status_r_fields[] = {
    R_HEADER,
    R(2, BYTES, status.version),
    R(3, INT64, status.db_size),
    R(4, INT64, status.leader),
    R(5, INT64, status.raft_index),
    R(6, INT64, status.raft_term),
    R(7, INT64, status.raft_applied_index),
    R_LIST(8, BYTES_LIST, status.errors, NULL),
    R(9, INT64, status.db_size_in_use),
    R(10, BOOL, status.is_learner),
    R(11, BYTES, status.storage_version),
    R(12, INT64, status.db_size_quota),
    {13, MESSAGE_SUB, 0, 0, &downgrade_info},
};
static const struct message_shape status_r = SHAPE_WITH_LISTS(status_r, struct trivet_result);
static const struct message_field hash_r_fields[] = {
    R_HEADER,
    R(2, INT32, maintenance.hash),
    R(3, INT64, maintenance.compact_revision),
    R(4, INT64, maintenance.hash_revision),
};
static const struct message_shape hash_r = SHAPE(hash_r, struct trivet_result);
static const struct message_field snapshot_r_fields[] = {
    R_HEADER,
    R(2, INT64, maintenance.remaining_bytes),
    R(3, BYTES, maintenance.blob),
    R(4, BYTES, maintenance.version),
};
static const struct message_shape snapshot_r = SHAPE(snapshot_r, struct trivet_result);
static const struct message_field downgrade_r_fields[] = {R_HEADER,
                                                          R(2, BYTES, maintenance.version)};
static const struct message_shape downgrade_r = SHAPE(downgrade_r, struct trivet_result);
static const struct message_field auth_status_r_fields[] = {R_HEADER, R(2, BOOL, auth.enabled),
                                                            R(3, INT64, auth.revision)};
static const struct message_shape auth_status_r = SHAPE(auth_status_r, struct trivet_result);
static const struct message_field token_r_fields[] = {R_HEADER, R(2, BYTES, auth.token)};
static const struct message_shape token_r = SHAPE(token_r, struct trivet_result);
static const struct message_field names_r_fields[] = {R_HEADER,
                                                      R_LIST(2, BYTES_LIST, auth.names, NULL)};
static const struct message_shape names_r = SHAPE_WITH_LISTS(names_r, struct trivet_result);
static const struct message_field role_get_r_fields[] = {
    R_HEADER, R_LIST(2, SUB_LIST, auth.permissions, &permission)};
static const struct message_shape role_get_r = SHAPE_WITH_LISTS(role_get_r, struct trivet_result);
static const struct message_field lock_r_fields[] = {R_HEADER, R(2, BYTES, contest.key)};
static const struct message_shape lock_r = SHAPE(lock_r, struct trivet_result);
static const struct message_field campaign_r_fields[] = {R_HEADER,
                                                         R_SUB(2, contest.leader, &leader_key)};
static const struct message_shape campaign_r = SHAPE(campaign_r, struct trivet_result);
static const struct message_field leader_r_fields[] = {R_HEADER, R_SUB(2, contest.kv, &kv)};
static const struct message_shape leader_r = SHAPE(leader_r, struct trivet_result);

/* --- watch --- */

static const struct message_field event_fields[] = {
    F(1, INT32, struct trivet_event, type),
    F_SUB(2, struct trivet_event, kv, &kv),
    F_SUB(3, struct trivet_event, prev_kv, &kv),
};
static const struct message_shape event = SHAPE(event, struct trivet_event);
static const struct message_field watch_r_fields[] = {
    F_SUB(1, struct watch_response, header, &header),
    F(2, INT64, struct watch_response, watch_id),
    F(3, BOOL, struct watch_response, created),
    F(4, BOOL, struct watch_response, canceled),
    F(5, INT64, struct watch_response, compact_revision),
    F(6, BYTES, struct watch_response, cancel_reason),
    F(7, BOOL, struct watch_response, fragment),
    F_LIST(11, SUB_LIST, struct watch_response, events, &event),
};
const struct message_shape message_watch_response =
    SHAPE_WITH_LISTS(watch_r, struct watch_response);

/* --- methods --- */

#define KV "/etcdserverpb.KV/"
#define LEASE "/etcdserverpb.Lease/"
#define CLUSTER "/etcdserverpb.Cluster/"
#define MAINTENANCE "/etcdserverpb.Maintenance/"
#define AUTH "/etcdserverpb.Auth/"
#define ELECTION "/v3electionpb.Election/"
#define M(path, part, request, response, class, ...)                                   \
    {path,           &(request), &(response), offsetof(struct trivet_request, u.part), \
     METHOD_##class, __VA_ARGS__}

static const struct method methods[TRIVET_METHODS_COUNT] = {
    [TRIVET_RANGE] = M(KV "Range", range, range, range_r, READ),
    [TRIVET_RANGE_STREAM] =
        M(KV "RangeStream", range, range, range_r, READ, .stream = true, .wrapped = true),
    [TRIVET_PUT] = M(KV "Put", put, put, put_r, WRITE),
    [TRIVET_DELETE] = M(KV "DeleteRange", del, del, del_r, WRITE),
    [TRIVET_TXN] = M(KV "Txn", txn, txn, txn_r, WRITE),
    [TRIVET_COMPACT] = M(KV "Compact", compact, compact, header_only, WRITE),
    [TRIVET_LEASE_GRANT] = M(LEASE "LeaseGrant", lease, grant, lease_r, WRITE),
    [TRIVET_LEASE_REVOKE] = M(LEASE "LeaseRevoke", lease, lease_id, header_only, WRITE),
    [TRIVET_LEASE_KEEPALIVE] =
        M(LEASE "LeaseKeepAlive", lease, lease_id, lease_r, READ, .half_open = true),
    [TRIVET_LEASE_TTL] = M(LEASE "LeaseTimeToLive", lease, lease_ttl, lease_ttl_r, READ),
    [TRIVET_LEASE_LIST] = M(LEASE "LeaseLeases", lease, nothing, lease_list_r, READ),
    [TRIVET_MEMBER_ADD] = M(CLUSTER "MemberAdd", member, member_add, member_add_r, WRITE),
    [TRIVET_MEMBER_REMOVE] = M(CLUSTER "MemberRemove", member, member_id, members_r, WRITE),
    [TRIVET_MEMBER_UPDATE] = M(CLUSTER "MemberUpdate", member, member_update, members_r, WRITE),
    [TRIVET_MEMBER_LIST] = M(CLUSTER "MemberList", member, member_list, members_r, READ),
    [TRIVET_MEMBER_PROMOTE] = M(CLUSTER "MemberPromote", member, member_id, members_r, WRITE),
    [TRIVET_ALARM] = M(MAINTENANCE "Alarm", alarm, alarm_request, alarm_r, WRITE),
    [TRIVET_STATUS] = M(MAINTENANCE "Status", maintenance, nothing, status_r, MEMBER),
    [TRIVET_DEFRAGMENT] =
        M(MAINTENANCE "Defragment", maintenance, nothing, header_only, MEMBER_WRITE),
    [TRIVET_HASH] = M(MAINTENANCE "Hash", maintenance, nothing, hash_r, MEMBER),
    [TRIVET_HASH_KV] = M(MAINTENANCE "HashKV", maintenance, hash_kv, hash_r, MEMBER),
    [TRIVET_SNAPSHOT] = M(MAINTENANCE "Snapshot", maintenance, nothing, snapshot_r, MEMBER,
                          .stream = true, .no_deadline = true),
    [TRIVET_MOVE_LEADER] =
        M(MAINTENANCE "MoveLeader", maintenance, move_leader, header_only, WRITE),
    [TRIVET_DOWNGRADE] = M(MAINTENANCE "Downgrade", maintenance, downgrade, downgrade_r, WRITE),
    [TRIVET_AUTH_ENABLE] = M(AUTH "AuthEnable", auth, nothing, header_only, WRITE),
    [TRIVET_AUTH_DISABLE] = M(AUTH "AuthDisable", auth, nothing, header_only, WRITE),
    [TRIVET_AUTH_STATUS] = M(AUTH "AuthStatus", auth, nothing, auth_status_r, READ),
    [TRIVET_AUTHENTICATE] = M(AUTH "Authenticate", auth, user_password, token_r, READ),
    [TRIVET_USER_ADD] = M(AUTH "UserAdd", auth, user_add, header_only, WRITE),
    [TRIVET_USER_GET] = M(AUTH "UserGet", auth, user, names_r, READ),
    [TRIVET_USER_LIST] = M(AUTH "UserList", auth, nothing, names_r, READ),
    [TRIVET_USER_DELETE] = M(AUTH "UserDelete", auth, user, header_only, WRITE),
    [TRIVET_USER_CHANGE_PASSWORD] =
        M(AUTH "UserChangePassword", auth, user_password, header_only, WRITE),
    [TRIVET_USER_GRANT_ROLE] = M(AUTH "UserGrantRole", auth, user_role, header_only, WRITE),
    [TRIVET_USER_REVOKE_ROLE] = M(AUTH "UserRevokeRole", auth, user_role, header_only, WRITE),
    [TRIVET_ROLE_ADD] = M(AUTH "RoleAdd", auth, role, header_only, WRITE),
    [TRIVET_ROLE_GET] = M(AUTH "RoleGet", auth, role, role_get_r, READ),
    [TRIVET_ROLE_LIST] = M(AUTH "RoleList", auth, nothing, names_r, READ),
    [TRIVET_ROLE_DELETE] = M(AUTH "RoleDelete", auth, role, header_only, WRITE),
    [TRIVET_ROLE_GRANT] = M(AUTH "RoleGrantPermission", auth, role_grant, header_only, WRITE),
    [TRIVET_ROLE_REVOKE] = M(AUTH "RoleRevokePermission", auth, role_revoke, header_only, WRITE),
    [TRIVET_LOCK] =
        M("/v3lockpb.Lock/Lock", contest, lock_shape, lock_r, WRITE, .no_deadline = true),
    [TRIVET_UNLOCK] = M("/v3lockpb.Lock/Unlock", contest, unlock_shape, header_only, WRITE),
    [TRIVET_CAMPAIGN] =
        M(ELECTION "Campaign", contest, campaign, campaign_r, WRITE, .no_deadline = true),
    [TRIVET_PROCLAIM] = M(ELECTION "Proclaim", contest, proclaim, header_only, WRITE),
    [TRIVET_LEADER] = M(ELECTION "Leader", contest, leader_request, leader_r, READ),
    [TRIVET_OBSERVE] = M(ELECTION "Observe", contest, leader_request, leader_r, READ,
                         .stream = true, .no_deadline = true),
    [TRIVET_RESIGN] = M(ELECTION "Resign", contest, resign, header_only, WRITE),
};

const struct method *method_of(int32_t method)
{
    return method > 0 && method < TRIVET_METHODS_COUNT ? &methods[method] : NULL;
}
