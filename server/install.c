#include "server/install.h"

#include "server/folder.h"
#include "server/node.h"
#include "server/restore.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <unistd.h>

enum { PATH_BYTES_MAX = 4300 };

#define META_INSTALLED SLICE_LITERAL("installed")

/* --- folders --- */

static void old_path(const char *lsm_dir, char ret[PATH_BYTES_MAX])
{
    (void)snprintf(ret, PATH_BYTES_MAX, "%s.old", lsm_dir); /* fits: choose_dirs() */
}

static void incoming_path(const char *lsm_dir, char ret[PATH_BYTES_MAX])
{
    (void)snprintf(ret, PATH_BYTES_MAX, "%s.incoming", lsm_dir);
}

/* The names in the folder that `path` is in are durable. */
static int sync_parent(const char *path)
{
    char copy[PATH_BYTES_MAX];
    (void)snprintf(copy, sizeof(copy), "%s", path);
    return folder_sync(dirname(copy));
}

int install_recover(const char *lsm_dir)
{
    char old[PATH_BYTES_MAX], incoming[PATH_BYTES_MAX];
    old_path(lsm_dir, old);
    incoming_path(lsm_dir, incoming);
    if (access(lsm_dir, F_OK) != 0 && access(old, F_OK) == 0) {
        log_warn("an interrupted installation of a snapshot is undone", LOG_STR("path", lsm_dir));
        if (rename(old, lsm_dir) != 0 || sync_parent(lsm_dir) != 0)
            return TV_EIO;
    }
    folder_remove(old);
    folder_remove(incoming);
    return access(old, F_OK) != 0 && access(incoming, F_OK) != 0 ? 0 : TV_EIO;
}

/* Steps 2 and 3. What fails here leaves a state that the next start understands. */
static void switch_folders(const char *lsm_dir)
{
    char old[PATH_BYTES_MAX], incoming[PATH_BYTES_MAX];
    old_path(lsm_dir, old);
    incoming_path(lsm_dir, incoming);
    if (rename(lsm_dir, old) != 0 || sync_parent(lsm_dir) != 0 || rename(incoming, lsm_dir) != 0 ||
        sync_parent(lsm_dir) != 0)
        tv_fatal("cannot install a snapshot at %s: %s", lsm_dir, strerror(errno));
}

/* --- records --- */

struct persist_meta *install_own_metas(void *ctx, const struct lsm_meta *meta)
{
    const struct node *n = ctx;
    struct persist_meta *metas = NULL;
    persist_meta_put(&metas, NODE_META_SELF, slice_of(&n->member_id, sizeof(n->member_id)));
    uint64_t log_id = wal_log_id(n->wal);
    persist_meta_put(&metas, NODE_META_LOG, slice_of(&log_id, sizeof(log_id)));
    persist_meta_put(&metas, META_INSTALLED,
                     slice_of(&meta->applied_index, sizeof(meta->applied_index)));
    return metas;
}

uint64_t install_index(struct lsm *l)
{
    uint64_t index = 0;
    struct buf value;
    buf_init(&value, 64);
    if (lsm_get(l, META_INSTALLED, &value) == 0 && value.size == sizeof(index))
        memcpy(&index, value.data, sizeof(index));
    buf_fini(&value);
    return index;
}

/* --- taking over --- */

static void on_lease(void *ctx, int64_t id, int64_t granted_ttl)
{
    int64_t granted;
    (void)lessor_grant(ctx, id, granted_ttl, clock_mono_ns() / 1000000, &granted);
}

static void replace_store(struct node *n, struct lsm_intake *in)
{
    char err_text[512];
    persist_abort(n->persist);
    lsm_close(n->lsm);
    switch_folders(n->lsm_dir);
    struct lsm_options o;
    node_lsm_options(n, &o);
    if (lsm_open(n->lsm_dir, &o, &n->lsm, err_text, sizeof(err_text)) != 0)
        tv_fatal("cannot open the store after a snapshot was installed: %s", err_text);
    lessor_free(n->lessor);
    n->lessor = lessor_new(config_lease_ttl_min_s(n->config));
    n->applier.lessor = n->lessor;
    n->applier.chain = lsm_intake_meta(in)->chain;
    if (lsm_intake_load(in, n->mvcc, on_lease, n->lessor) != 0)
        tv_fatal("a snapshot was installed that does not add up");
    restore_lease_keys(n->lessor, n->mvcc);
    struct persist_options po;
    persist_options_init(&po);
    po.lsm = n->lsm;
    po.mvcc = n->mvcc;
    n->persist = persist_new(&po);
}

/* The records that are kept in memory too. Errors: TV_ECORRUPT. */
static int decode_records(struct node *n, struct lsm_intake *in, struct cluster *ret_cluster)
{
    struct alarms probe;
    if (cluster_decode(lsm_intake_get(in, APPLY_META_MEMBERS), ret_cluster) != 0)
        return TV_ECORRUPT;
    alarms_init(&probe);
    int err = alarms_decode(&probe, lsm_intake_get(in, APPLY_META_ALARMS));
    alarms_fini(&probe);
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
    err = alarms_decode(&n->applier.alarms, lsm_intake_get(in, APPLY_META_ALARMS));
    ASSERT(err == 0);
    replace_store(n, in);
    wal_restart(n->wal, 0, meta->applied_index, meta->applied_term);
    wal_flush(n->wal);
    core_install_end(n->core, n->persist);
    char old[PATH_BYTES_MAX];
    old_path(n->lsm_dir, old);
    folder_remove(old);
    return 0;
}
