#include "server/install.h"

#include "base/folder.h"
#include "server/node.h"
#include "server/restore.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

/* --- parts --- */

int install_recover(const struct install_place *p)
{
    if (!p->exists(p->ctx, INSTALL_STORE) && p->exists(p->ctx, INSTALL_OLD)) {
        PROBE(install_undone);
        log_warn("an interrupted installation of a snapshot is undone");
        if (p->move(p->ctx, INSTALL_OLD, INSTALL_STORE) != 0)
            return TV_EIO;
    }
    p->remove(p->ctx, INSTALL_OLD);
    p->remove(p->ctx, INSTALL_INCOMING);
    bool left = p->exists(p->ctx, INSTALL_OLD) || p->exists(p->ctx, INSTALL_INCOMING);
    return left ? TV_EIO : 0;
}

/* Steps 2 and 3. What fails here leaves a state that the next start understands. */
static void switch_parts(const struct install_place *p)
{
    if (p->move(p->ctx, INSTALL_STORE, INSTALL_OLD) != 0 ||
        p->move(p->ctx, INSTALL_INCOMING, INSTALL_STORE) != 0)
        tv_fatal("cannot put a snapshot in the place of the store");
}

/* --- records --- */

struct persist_meta *install_own_metas(void *ctx, const struct lsm_meta *meta)
{
    const struct node *n = ctx;
    struct persist_meta *metas = NULL;
    persist_meta_put(&metas, STATE_RECORD_SELF, slice_of(&n->member_id, sizeof(n->member_id)));
    uint64_t log_id = wal_log_id(n->wal);
    persist_meta_put(&metas, STATE_RECORD_LOG, slice_of(&log_id, sizeof(log_id)));
    persist_meta_put(&metas, STATE_RECORD_INSTALLED,
                     slice_of(&meta->applied_index, sizeof(meta->applied_index)));
    return metas;
}

/* --- taking over --- */

static void on_lease(void *ctx, const struct lsm_lease *lease)
{
    lessor_load(ctx, lease);
}

static void replace_store(struct node *n, struct lsm_intake *in)
{
    const struct install_place *p = &n->place;
    struct persist_options po;
    persist_options_init(&po);
    po.mvcc = n->mvcc;
    po.spread = n->member_id;
    persist_abort(n->persist);
    p->close(p->ctx);
    switch_parts(p);
    p->open(p->ctx, &po);
    lessor_free(n->lessor);
    n->lessor = lessor_new(config_lease_ttl_min_s(n->config));
    n->applier.lessor = n->lessor;
    n->applier.chain = lsm_intake_meta(in)->chain;
    if (lsm_intake_load(in, n->mvcc, on_lease, n->lessor) != 0)
        tv_fatal("a snapshot was installed that does not add up");
    restore_lease_keys(n->lessor, n->mvcc);
    n->persist = persist_new(&po);
}

static struct slice get_record(void *ctx, struct slice name)
{
    return lsm_intake_get(ctx, name);
}

/* The records that are kept in memory too. Errors: TV_ECORRUPT. */
static int decode_records(struct node *n, struct lsm_intake *in, struct cluster *ret_cluster)
{
    struct alarms probe;
    struct auth probe_auth;
    struct versions versions;
    if (cluster_decode(lsm_intake_get(in, STATE_RECORD_MEMBERS), ret_cluster) != 0)
        return TV_ECORRUPT;
    alarms_init(&probe);
    int err = alarms_decode(&probe, lsm_intake_get(in, STATE_RECORD_ALARMS));
    alarms_fini(&probe);
    auth_init(&probe_auth, NULL);
    if (err == 0)
        err = auth_load(&probe_auth, get_record, in);
    auth_fini(&probe_auth);
    if (err == 0)
        err = versions_decode(&versions, lsm_intake_get(in, STATE_RECORD_VERSIONS));
    /* It may be older than the entry that added this member. */
    if (err == 0 && ret_cluster->id == n->cluster_id)
        return 0;
    cluster_fini(ret_cluster);
    return TV_ECORRUPT;
}

int install_snapshot(void *ctx, struct lsm_intake *in)
{
    struct node *n = ctx;
    const struct lsm_meta *meta = lsm_intake_meta(in);
    struct cluster cluster;
    if (!core_snapshot_is_wanted(n->core, meta->applied_index, meta->applied_term))
        return TV_EEXIST;
    int err = decode_records(n, in, &cluster);
    if (err != 0)
        return err;
    err = core_install_begin(n->core, meta->applied_index, meta->applied_term, &cluster);
    if (err != 0) {
        cluster_fini(&cluster);
        return err;
    }
    /* From here on nothing is refused. */
    snapshots_stop_sending(n->snapshots);
    cluster_fini(&n->cluster);
    n->cluster = cluster;
    err = alarms_decode(&n->applier.alarms, lsm_intake_get(in, STATE_RECORD_ALARMS));
    ASSERT(err == 0);
    err = auth_load(&n->applier.auth, get_record, in);
    ASSERT(err == 0);
    err = versions_decode(&n->applier.versions, lsm_intake_get(in, STATE_RECORD_VERSIONS));
    ASSERT(err == 0); /* decode_records() */
    replace_store(n, in);
    wal_restart(n->wal, 0, meta->applied_index, meta->applied_term);
    wal_flush(n->wal);
    core_install_end(n->core, n->persist);
    n->place.remove(n->place.ctx, INSTALL_OLD);
    return 0;
}
