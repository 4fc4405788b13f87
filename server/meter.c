#include "server/meter.h"

#include "state/cluster.h"

#include "base/assert.h"
#include "proto/wire.h"

#include <string.h>

static const struct {
    uint32_t kind;
    const char *name;
} ops[METER_OPS_COUNT] = {
    [METER_PUT] = {WIRE_RAFT_PUT, "Put"},
    [METER_DELETE_RANGE] = {WIRE_RAFT_DELETE_RANGE, "DeleteRange"},
    [METER_TXN] = {WIRE_RAFT_TXN, "Txn"},
    [METER_COMPACTION] = {WIRE_RAFT_COMPACTION, "Compaction"},
    [METER_LEASE_GRANT] = {WIRE_RAFT_LEASE_GRANT, "LeaseGrant"},
    [METER_LEASE_REVOKE] = {WIRE_RAFT_LEASE_REVOKE, "LeaseRevoke"},
    [METER_LEASE_CHECKPOINT] = {WIRE_RAFT_LEASE_CHECKPOINT, "LeaseCheckpoint"},
    [METER_ALARM] = {WIRE_RAFT_ALARM, "Alarm"},
    [METER_AUTHENTICATE] = {WIRE_RAFT_AUTHENTICATE, "Authenticate"},
    [METER_AUTH_ENABLE] = {WIRE_RAFT_AUTH_ENABLE, "AuthEnable"},
    [METER_AUTH_DISABLE] = {WIRE_RAFT_AUTH_DISABLE, "AuthDisable"},
    [METER_AUTH_STATUS] = {WIRE_RAFT_AUTH_STATUS, "AuthStatus"},
    [METER_AUTH_USER_ADD] = {WIRE_RAFT_USER_ADD, "AuthUserAdd"},
    [METER_AUTH_USER_DELETE] = {WIRE_RAFT_USER_DELETE, "AuthUserDelete"},
    [METER_AUTH_USER_CHANGE_PASSWORD] = {WIRE_RAFT_USER_CHANGE_PASSWORD, "AuthUserChangePassword"},
    [METER_AUTH_USER_GRANT_ROLE] = {WIRE_RAFT_USER_GRANT_ROLE, "AuthUserGrantRole"},
    [METER_AUTH_USER_GET] = {WIRE_RAFT_USER_GET, "AuthUserGet"},
    [METER_AUTH_USER_REVOKE_ROLE] = {WIRE_RAFT_USER_REVOKE_ROLE, "AuthUserRevokeRole"},
    [METER_AUTH_ROLE_ADD] = {WIRE_RAFT_ROLE_ADD, "AuthRoleAdd"},
    [METER_AUTH_ROLE_GRANT_PERMISSION] = {WIRE_RAFT_ROLE_GRANT_PERMISSION,
                                          "AuthRoleGrantPermission"},
    [METER_AUTH_ROLE_GET] = {WIRE_RAFT_ROLE_GET, "AuthRoleGet"},
    [METER_AUTH_ROLE_REVOKE_PERMISSION] = {WIRE_RAFT_ROLE_REVOKE_PERMISSION,
                                           "AuthRoleRevokePermission"},
    [METER_AUTH_ROLE_DELETE] = {WIRE_RAFT_ROLE_DELETE, "AuthRoleDelete"},
    [METER_AUTH_USER_LIST] = {WIRE_RAFT_USER_LIST, "AuthUserList"},
    [METER_AUTH_ROLE_LIST] = {WIRE_RAFT_ROLE_LIST, "AuthRoleList"},
    [METER_CLUSTER_VERSION_SET] = {WIRE_RAFT_CLUSTER_VERSION_SET, "ClusterVersionSet"},
    [METER_CLUSTER_MEMBER_ATTR_SET] = {WIRE_RAFT_MEMBER_ATTR_SET, "ClusterMemberAttrSet"},
    [METER_DOWNGRADE_INFO_SET] = {WIRE_RAFT_DOWNGRADE_INFO_SET, "DowngradeInfoSet"},
    [METER_RANGE] = {WIRE_RAFT_RANGE, "Range"},
    [METER_READONLY_TXN] = {WIRE_RAFT_NONE, "ReadonlyTxn"},
};

enum meter_op meter_op(uint32_t raft_kind)
{
    for (int op = 0; op < METER_READONLY_TXN; op++) /* the frequent ones are in front */
        if (ops[op].kind == raft_kind)
            return (enum meter_op)op;
    return METER_OTHER;
}

const char *meter_op_name(enum meter_op op)
{
    return ops[op].name;
}

/* --- versions of clients --- */

static const char version_unknown[] = "unknown";
static const char other[] = "other";

static bool version_is(const struct meter_version *v, struct slice name)
{
    size_t size = strlen(v->name);
    return size == name.size && memcmp(v->name, name.data, size) == 0;
}

/* Only what can stand in a label as it is; the rest of what a client may say is "other". */
static bool may_be_label(struct slice name)
{
    if (name.size == 0 || name.size >= METER_VERSION_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.size; i++)
        if (name.data[i] <= ' ' || name.data[i] >= 0x7f || name.data[i] == '"' ||
            name.data[i] == '\\')
            return false;
    return true;
}

static uint32_t version_slot(struct worker_meters *m, struct slice name)
{
    uint32_t at = 0;
    if (!may_be_label(name))
        name = slice_of_string(other);
    for (; at < METER_VERSIONS_MAX - 1 && metric_read(&m->versions[at].used) != 0; at++)
        if (version_is(&m->versions[at], name))
            return at;
    if (at == METER_VERSIONS_MAX - 1)
        name = slice_of_string(other);
    struct meter_version *v = &m->versions[at];
    if (metric_read(&v->used) != 0)
        return at;
    memcpy(v->name, name.data, name.size);
    /* Pairs with the acquire of whoever shows it. */
    atomic_store_explicit(&v->used.value, 1, memory_order_release);
    return at;
}

void meter_version_count(struct worker_meters *m, struct slice version, struct slice metadata,
                         bool stream)
{
    if (version.data == NULL)
        version = slice_of_string(version_unknown);
    m->version_last = version_slot(m, version);
    struct meter_version *v = &m->versions[m->version_last];
    metric_add(stream ? &v->streams : &v->unary, 1);
    m->metadata_size = UINT32_MAX;
    if (metadata.size > METER_METADATA_BYTES_MAX)
        return;
    m->metadata_size = (uint32_t)metadata.size;
    if (metadata.size > 0)
        memcpy(m->metadata, metadata.data, metadata.size);
}

void meter_version_uncount(struct worker_meters *m)
{
    struct metric_counter *c = &m->versions[m->version_last].unary;
    metric_set(c, metric_read(c) - 1);
}

/* --- learners --- */

void meter_promotion_count(struct worker_meters *m, struct slice reason)
{
    if (reason.size == 0) {
        metric_add(&m->learners_promoted, 1);
        return;
    }
    if (reason.size >= METER_REASON_BYTES_MAX)
        reason = slice_of_string(other);
    for (int i = 0; i < METER_REASONS_MAX; i++) {
        struct meter_reason *r = &m->promote_failures[i];
        bool is_free = metric_read(&r->count) == 0;
        if (is_free && i == METER_REASONS_MAX - 1)
            reason = slice_of_string(other);
        if (is_free)
            memcpy(r->text, reason.data, reason.size);
        bool is_it =
            strlen(r->text) == reason.size && memcmp(r->text, reason.data, reason.size) == 0;
        if (!is_it && i < METER_REASONS_MAX - 1)
            continue;
        /* Pairs with the acquire of whoever shows it. */
        atomic_store_explicit(&r->count.value, metric_read(&r->count) + 1, memory_order_release);
        return;
    }
}

/* --- members --- */

struct peer_meters *peers_meters_of(struct peers_meters *all, uint64_t id)
{
    for (int i = 0; i < METER_PEERS_MAX; i++) {
        struct peer_meters *p = &all->items[i];
        if (metric_read(&p->id) == 0)
            atomic_store_explicit(&p->id.value, id, memory_order_release);
        if (metric_read(&p->id) == id)
            return p;
    }
    return &all->rest;
}

void peers_meters_know(struct peers_meters *all, const struct cluster *cluster)
{
    for (int i = 0; i < METER_PEERS_MAX; i++)
        metric_set(&all->items[i].known,
                   cluster_find(cluster, metric_read(&all->items[i].id)) != NULL);
    for (uint32_t i = 0; i < cluster->members_count; i++)
        metric_set(&peers_meters_of(all, cluster->members[i].id)->known, 1);
}
