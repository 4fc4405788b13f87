/* The leader makes the cluster's version what it is to be: lower when a downgrade is wanted, its
 * own otherwise (etcd: Monitor.UpdateClusterVersionIfNeeded). */
#include "server/core_internal.h"

enum { VERSION_CHECK_MS = 4000 }; /* etcd: monitorVersionInterval */

void core__tend_version(struct core *c)
{
    uint16_t minor;
    if (c->now_ms < c->version_checked_ms + VERSION_CHECK_MS)
        return;
    c->version_checked_ms = c->now_ms;
    if (!core__leading(c) || !versions_to_set(&c->applier->versions, &minor))
        return;
    uint32_t size;
    struct bref *payload = applier_encode_cluster_version(minor, core_next_request_id(c), &size);
    struct raft_entry e = {
        .type = RAFT_ENTRY_NORMAL, .data = slice_of(payload->data, size), .owner = payload};
    (void)raft_propose(c->raft, &e, 1); /* when it is lost: again, the next time */
    bref_unref(payload);
}
