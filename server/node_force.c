/* --force-new-cluster: the member becomes a cluster of its own, with all that it has. What its log
 * says about members, from before that, counts no more: not now, and not when it is read again.
 * Nothing else of the log is given up: what the others had not acknowledged yet is committed now.
 */
#include "server/node_internal.h"

#include "server/restore.h"

#include "base/log.h"
#include "base/mem.h"

/* Up to which entry, little-endian as it lies in memory: as the other records of this machine. */
#define NODE_META_FORCED SLICE_LITERAL("forced")

static uint64_t load_forced(struct node *n)
{
    uint64_t index = 0;
    struct buf value;
    buf_init(&value, 64);
    if (lsm_get(n->lsm, NODE_META_FORCED, &value) == 0 && value.size == sizeof(index))
        memcpy(&index, value.data, sizeof(index));
    buf_fini(&value);
    return index;
}

static void store(struct node *n, uint64_t index)
{
    struct persist_meta *metas = NULL;
    struct buf encoded;
    buf_init(&encoded, SIZE_MAX);
    cluster_encode(&n->cluster, &encoded);
    persist_meta_put(&metas, STATE_RECORD_MEMBERS, buf_slice(&encoded));
    persist_meta_put(&metas, NODE_META_FORCED, slice_of(&index, sizeof(index)));
    lsm_put(n->lsm, metas);
    buf_fini(&encoded);
}

static void stay_alone(struct node *n)
{
    uint32_t at = 0;
    while (at < n->cluster.members_count) {
        uint64_t id = n->cluster.members[at].id;
        if (id == n->member_id)
            at++;
        else
            cluster_remove(&n->cluster, id);
    }
    struct cluster_member *self = cluster_find(&n->cluster, n->member_id);
    self->learner = self->replacement = false;
    n->cluster.raft = (struct raft_membership){.voters = {.ids = {n->member_id}, .count = 1}};
}

static void forget_changes(struct restore *r, uint64_t index)
{
    for (uint32_t i = 0; i < r->count; i++) {
        struct raft_entry *e = &r->entries[i];
        if (e->type != RAFT_ENTRY_CONF || e->log_index > index)
            continue;
        bref_unref(e->owner);
        e->owner = NULL;
        e->data = SLICE_EMPTY;
        e->type = RAFT_ENTRY_NORMAL;
    }
}

void node__force_new_cluster(struct node *n, struct restore *r)
{
    bool has_data = r->applied_index > 0 || r->count > 0;
    if (n->config->force_new_cluster && has_data &&
        cluster_find(&n->cluster, n->member_id) != NULL) {
        stay_alone(n);
        store(n, wal_last_index(n->wal));
        log_warn("forcing a new cluster of this member alone", LOG_HEX("cluster-id", n->cluster_id),
                 LOG_HEX("local-member-id", n->member_id),
                 LOG_UINT("commit-index", wal_last_index(n->wal)));
    }
    forget_changes(r, load_forced(n));
}
