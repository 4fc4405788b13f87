/* Snapshots between members: what node.c does for trivetd to tie server/snapshot.h to the core. The
 * store that travels is store.c's; calls between members are peer_call.c's. */
#include "member.h"

#include "server/join.h"
#include "server/snapshot.h"

static struct member *member_of_node(void *ctx)
{
    return CONTAINER_OF((struct node *)ctx, struct member, node);
}

static struct lsm *on_store(void *ctx)
{
    return (struct lsm *)&member_of_node(ctx)->store;
}

static void on_hold_log(void *ctx, uint64_t log_index)
{
    core_hold_log(((struct node *)ctx)->core, log_index);
}

static void on_sent(void *ctx, uint64_t id, uint64_t log_index)
{
    struct member *m = member_of_node(ctx);
    if (!m->dying)
        m->sim->stats->snapshots_sent++;
    core_snapshot_sent(m->node.core, id, log_index);
    member_wake(m);
}

static void on_failed(void *ctx, uint64_t id)
{
    struct member *m = member_of_node(ctx);
    if (!m->dying)
        m->sim->stats->snapshots_failed++;
    core_snapshot_failed(m->node.core, id);
    member_wake(m);
}

static bool on_is_wanted(void *ctx, uint64_t log_index, uint64_t term)
{
    return core_snapshot_is_wanted(((struct node *)ctx)->core, log_index, term);
}

void transfer_start(struct member *m)
{
    struct node *n = &m->node;
    struct snapshots_options o = {.cluster = &n->cluster,
                                  .member_id = m->id,
                                  .election_ms = ELECTION_MS,
                                  .self_name = STATE_RECORD_SELF,
                                  .incoming_dir = "incoming",
                                  .ctx = n,
                                  .store = on_store,
                                  .hold_log = on_hold_log,
                                  .sent = on_sent,
                                  .failed = on_failed,
                                  .is_wanted = on_is_wanted,
                                  .own_metas = install_own_metas,
                                  .install = install_snapshot};
    n->snapshots = snapshots_new(&o);
    m->peer_method = snapshots_method(n->snapshots);
    m->join_method = join_method(n);
}

void transfer_tick(struct member *m)
{
    struct core_status s;
    core_status(m->node.core, &s);
    snapshots_tick(m->node.snapshots, member_clock_ms(m), s.leader == m->id);
}

void transfer_send(struct member *m, uint64_t to)
{
    sim_say(m->sim, "member %u begins a snapshot of entry %llu", m->number,
            (unsigned long long)store_meta(&m->store)->applied_index);
    snapshots_send(m->node.snapshots, to);
    persist_request_flush(m->node.persist); /* as node.c: a young store may have no commit yet */
}
