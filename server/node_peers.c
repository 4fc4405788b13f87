/* A node and the other members: messages, snapshots, and those that ask to join. */
#include "server/node_internal.h"

#include "server/initial_check.h"
#include "server/join.h"
#include "server/snapshot.h"

#include "base/log.h"

#include <stdio.h>

/* --- what the peers bring --- */

static void on_peer_msg(void *ctx, const struct raft_msg *msg)
{
    struct node *n = ctx;
    core_receive(n->core, msg);
    node__wake(n);
}

static void on_peer_lease(void *ctx, uint64_t from, const struct core_question *msg)
{
    struct node *n = ctx;
    core_receive_question(n->core, from, msg);
    node__wake(n);
}

static void on_peer_report(void *ctx, uint64_t from, const struct agree_report *r)
{
    core_receive_report(((struct node *)ctx)->core, from, r);
}

static void on_peer_lost(void *ctx, uint64_t id)
{
    core_peer_lost(((struct node *)ctx)->core, id);
}

static void on_peer_connected(void *ctx, uint64_t id, bool connected)
{
    core_peer_connected(((struct node *)ctx)->core, id, connected);
}

static void on_told_removed(void *ctx, uint64_t by)
{
    (void)by;
    node__leave(ctx);
}

/* --- snapshots --- */

static struct lsm *snapshot_store(void *ctx)
{
    return ((struct node *)ctx)->lsm;
}

static void snapshot_hold_log(void *ctx, uint64_t log_index)
{
    core_hold_log(((struct node *)ctx)->core, log_index);
}

static void snapshot_sent(void *ctx, uint64_t id, uint64_t log_index)
{
    struct node *n = ctx;
    core_snapshot_sent(n->core, id, log_index);
    node__wake(n);
}

static void snapshot_failed(void *ctx, uint64_t id)
{
    struct node *n = ctx;
    core_snapshot_failed(n->core, id);
    node__wake(n);
}

static bool snapshot_is_wanted(void *ctx, uint64_t log_index, uint64_t term)
{
    return core_snapshot_is_wanted(((struct node *)ctx)->core, log_index, term);
}

void node__tick_snapshots(struct node *n)
{
    struct core_status s;
    core_status(n->core, &s);
    snapshots_tick(n->snapshots, node__now_ms(), s.leader == n->member_id);
}

static void start_snapshots(struct node *n)
{
    char incoming[4300];
    snprintf(incoming, sizeof(incoming), "%s.incoming", n->lsm_dir);
    struct snapshots_options o = {.uv = &n->loop,
                                  .meters = &n->peers_meters,
                                  .tls = n->ports.to_peers,
                                  .local_host = n->config->local_host,
                                  .loop = n->gl,
                                  .cluster = &n->cluster,
                                  .member_id = n->member_id,
                                  .election_ms = n->config->election_ms,
                                  .self_name = STATE_RECORD_SELF,
                                  .incoming_dir = incoming,
                                  .ctx = n,
                                  .store = snapshot_store,
                                  .hold_log = snapshot_hold_log,
                                  .sent = snapshot_sent,
                                  .failed = snapshot_failed,
                                  .damaged = node__damaged,
                                  .is_wanted = snapshot_is_wanted,
                                  .own_metas = install_own_metas,
                                  .install = install_snapshot};
    n->snapshots = snapshots_new(&o);
}

int node__start_peers(struct node *n)
{
    struct peers_options o = {.loop = n->gl,
                              .meters = &n->peers_meters,
                              .cluster = &n->cluster,
                              .member_id = n->member_id,
                              .tls = n->ports.to_peers,
                              .advertise_urls = &n->config->advertise_peer_urls,
                              .local_host = n->config->local_host,
                              .max_request_bytes = n->config->max_request_bytes,
                              .election_ms = n->config->election_ms,
                              .reuse_port = n->config->reuse_port,
                              .ctx = n,
                              .receive = on_peer_msg,
                              .receive_question = on_peer_lease,
                              .receive_report = on_peer_report,
                              .lost = on_peer_lost,
                              .connected = on_peer_connected,
                              .told_removed = on_told_removed};
    start_snapshots(n);
    struct grpc_method more[] = {snapshots_method(n->snapshots), join_method(n),
                                 peer_hash_method(n)};
    o.more = more;
    o.more_count = sizeof(more) / sizeof(more[0]);
    n->peers = peers_new(&o);
    return node__listen_all(n->ports.peers, n->ports.peers_count, peers_server(n->peers));
}
