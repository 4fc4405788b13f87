/* The start of a node: its data folder, who it is, the log and the store, and a core on top. What
 * is damaged is set aside, see repair.h. */
#include "server/node_internal.h"

#include "base/folder.h"
#include "server/discovery.h"
#include "server/disk_space.h"
#include "server/join.h"
#include "server/repair.h"
#include "server/restore.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* Damage is kept for the repair; what is no damage ends the start. */
static int cannot_use(struct node *n, int err, const char *what, const char *why)
{
    if (err != TV_ECORRUPT)
        return node__refuse(what, why);
    (void)snprintf(n->damage, sizeof(n->damage), "%s: %s", what, why); /* may be cut */
    return err;
}

/* Found while running; the caller ends the process. Thread: any. */
void node__damaged(void *ctx, const char *what)
{
    repair_mark(((struct node *)ctx)->config->data_dir, what);
}

void node_lsm_options(struct node *n, struct lsm_options *ret)
{
    lsm_options_init(ret);
    ret->damaged = node__damaged;
    ret->ctx = n;
    ret->meters = &n->lsm_meters;
}

static int make_dir(const char *path)
{
    char text[512];
    if (folder_make(path) == 0)
        return 0;
    snprintf(text, sizeof(text), "cannot create directory %.400s: %s", path, strerror(errno));
    return node__refuse("cannot access data directory", text);
}

static int refuse_etcds(const char *db)
{
    char text[5000];
    snprintf(text, sizeof(text),
             "%s; with etcd stopped, \"trivetctl snapshot restore\" with --skip-hash-check and "
             "another --data-dir makes one from that file",
             db);
    return node__refuse("the data directory belongs to etcd", text);
}

static int choose_dirs(const struct config *c, char *wal_dir, char *lsm_dir, size_t size)
{
    char member[4096], etcd_db[4200];
    snprintf(member, sizeof(member), "%s/member", c->data_dir);
    snprintf(etcd_db, sizeof(etcd_db), "%s/snap/db", member);
    if (access(etcd_db, F_OK) == 0)
        return refuse_etcds(etcd_db);
    snprintf(lsm_dir, size, "%s/lsm", member);
    if (c->wal_dir[0] != '\0')
        snprintf(wal_dir, size, "%s", c->wal_dir);
    else
        snprintf(wal_dir, size, "%s/wal", member);
    int err = make_dir(c->data_dir);
    return err != 0 ? err : make_dir(member);
}

/* Who the members are, as --initial-cluster has it: from there, from a domain, or from another
 * cluster. */
static int find_members(struct node *n, const char **ret_token, struct buf *ret, char *err_text,
                        size_t err_size)
{
    const struct config *c = n->config;
    *ret_token = c->initial_cluster_token;
    if (*c->discovery_srv != '\0')
        return discovery_srv(c, ret, err_text, err_size);
    if (*c->discovery.endpoints == '\0')
        return buf_append(ret, c->initial_cluster, strlen(c->initial_cluster));
    if (!c->cluster_is_new) {
        snprintf(err_text, err_size,
                 "discovery URL should not be set when joining existing initial cluster");
        return TV_EINVAL;
    }
    char self[4096], prefix[300];
    struct cluster alone;
    snprintf(prefix, sizeof(prefix), "%.290s=", c->name);
    urls_join(&c->advertise_peer_urls, prefix, self, sizeof(self));
    *ret_token = c->discovery.token;
    int err = cluster_from_initial(self, *ret_token, &alone, err_text, err_size);
    if (err != 0)
        return err;
    err = discovery_join(c, n->gl, alone.members[0].id, self, ret, err_text, err_size);
    cluster_fini(&alone);
    return err;
}

/* In etcd's words. */
static int read_members(struct node *n, struct cluster *ret, char *err_text, size_t err_size)
{
    const struct config *c = n->config;
    const char *token;
    char why[400];
    struct buf members;
    *ret = (struct cluster){0};
    buf_init(&members, 1 << 20);
    int err = find_members(n, &token, &members, err_text, err_size);
    if (err == 0 && (members.size == 0 || buf_append(&members, "", 1) != 0)) {
        snprintf(err_text, err_size,
                 "couldn't find local name \"%.200s\" in the initial cluster configuration",
                 c->name);
        err = TV_EINVAL;
    }
    if (err == 0) {
        err = cluster_from_initial((const char *)members.data, token, ret, why, sizeof(why));
        if (err != 0)
            snprintf(err_text, err_size, "%s%s",
                     strstr(why, "URL") != NULL ? "error setting up initial cluster: " : "", why);
    }
    buf_fini(&members);
    return err != 0
               ? err
               : cluster_check_local(ret, c->name, &c->advertise_peer_urls, err_text, err_size);
}

/* There is no data: the flags and the other members say who we are. */
static int find_place(struct node *n)
{
    char err_text[1024];
    const struct config *c = n->config;
    struct cluster initial;
    int err = read_members(n, &initial, err_text, sizeof(err_text));
    if (err == 0 && c->cluster_is_new)
        held_ports_open(&n->held, &c->listen_client_urls, c->reuse_port);
    if (err == 0)
        err = join_run(c, &n->ports, n->gl, &initial, repair_was_set_aside(c->data_dir),
                       &n->member_id, &n->cluster, err_text, sizeof(err_text));
    cluster_fini(&initial);
    n->first_started_ms = err == 0 && n->cluster.raft.voters.count > 0 ? node__now_ms() : 0;
    return err == 0 ? 0 : node__refuse("failed to start etcd", err_text);
}

static int members_from_flags(struct node *n)
{
    int err = find_place(n);
    if (err != 0)
        return err;
    struct persist_meta *metas = NULL;
    struct buf encoded;
    buf_init(&encoded, SIZE_MAX);
    cluster_encode(&n->cluster, &encoded);
    persist_meta_put(&metas, STATE_RECORD_MEMBERS, buf_slice(&encoded));
    persist_meta_put(&metas, STATE_RECORD_SELF, slice_of(&n->member_id, sizeof(n->member_id)));
    lsm_put(n->lsm, metas);
    buf_fini(&encoded);
    return 0;
}

/* Who we are is durable before there is a log. */
static int lost_members(struct node *n)
{
    char text[960];
    snprintf(text, sizeof(text), "%.800s/CURRENT: offset 0: no commit is left, and there is a log",
             n->lsm_dir);
    return cannot_use(n, TV_ECORRUPT, "cannot use the store", text);
}

/* Who we are: from the flags at the first start, from the store alone afterwards. */
static int load_members(struct node *n, const char *wal_dir)
{
    struct buf members, self;
    buf_init(&members, 16 << 20);
    buf_init(&self, 64);
    int err;
    if (lsm_get(n->lsm, STATE_RECORD_MEMBERS, &members) == TV_ENOTFOUND)
        err = folder_has(wal_dir, ".wal") ? lost_members(n) : members_from_flags(n);
    else if (lsm_get(n->lsm, STATE_RECORD_SELF, &self) != 0 || self.size != sizeof(n->member_id) ||
             cluster_decode(buf_slice(&members), &n->cluster) != 0)
        err = cannot_use(n, TV_ECORRUPT, "the stored membership is damaged", n->lsm_dir);
    else {
        memcpy(&n->member_id, self.data, sizeof(n->member_id));
        err = !cluster_was_removed(&n->cluster, n->member_id)
                  ? 0
                  : node__refuse("the member has been permanently removed from the cluster",
                                 "the data-dir used by this member must be removed");
    }
    n->cluster_id = n->cluster.id;
    buf_fini(&members);
    buf_fini(&self);
    return err;
}

/* *ret is 0 before the log was made: then nothing was acknowledged yet. */
static int stored_log_id(struct node *n, uint64_t *ret)
{
    struct buf value;
    buf_init(&value, 64);
    int err = lsm_get(n->lsm, STATE_RECORD_LOG, &value);
    if (err == TV_ENOTFOUND)
        err = 0;
    else if (err != 0 || value.size != sizeof(*ret))
        err = cannot_use(n, TV_ECORRUPT, "the stored id of the log is damaged", n->lsm_dir);
    else
        memcpy(ret, value.data, sizeof(*ret));
    buf_fini(&value);
    return err;
}

/* From now on a log that is gone, or another one, is noticed. */
static void store_log_id(struct node *n)
{
    uint64_t log_id = wal_log_id(n->wal);
    struct persist_meta *metas = NULL;
    persist_meta_put(&metas, STATE_RECORD_LOG, slice_of(&log_id, sizeof(log_id)));
    lsm_put(n->lsm, metas);
}

/* It is changed only where a crash left something at its end; where there was none it is made.
 * *ret_stored_id: the id that the store has of it; 0: none. */
static int read_log(struct node *n, const char *dir, struct restore *r, uint64_t *ret_stored_id)
{
    char err_text[512];
    enum disk_mode mode = n->config->no_fsync ? DISK_UNSYNCED : n->config->wal_io;
    int err = disk_open(mode, dir, &n->disk, err_text, sizeof(err_text));
    if (err != 0)
        return node__refuse("cannot open the write-ahead log's directory", err_text);
    log_info("write-ahead log", LOG_STR("path", dir), LOG_STR("method", disk_describe(n->disk)));
    struct wal_options o;
    wal_options_init(&o);
    o.disk = n->disk;
    o.segment_size_bytes = n->config->log_segment_bytes;
    o.segments_keep_max = 1; /* they count in --max-wals */
    o.cluster_id = n->cluster_id;
    o.member_id = n->member_id;
    o.payload_from_index = r->applied_index + 1;
    o.meters = &n->wal_meters;
    err = stored_log_id(n, ret_stored_id);
    if (err != 0)
        return err;
    o.log_id = *ret_stored_id;
    struct wal_replay replay = restore_replay(r);
    err = wal_open(&o, &replay, &n->wal, err_text, sizeof(err_text));
    if (err == TV_EINVAL && *n->config->wal_dir == '\0')
        err = TV_ECORRUPT; /* another's log in our own folder is no mistake in a flag */
    return err == 0 ? 0 : cannot_use(n, err, "cannot open the write-ahead log", err_text);
}

static int join_log_and_store(struct node *n, const char *dir, struct restore *r,
                              uint64_t stored_id)
{
    char err_text[512];
    restore_finish_install(r, n->wal, install_index(n->lsm), r->applied_term);
    snprintf(err_text, sizeof(err_text),
             "%.300s: offset 0: it does not meet the store, which is at "
             "entry %llu: one of the two is from another time",
             dir, (unsigned long long)r->applied_index);
    if (restore_check(r, n->wal) != 0)
        return cannot_use(n, TV_ECORRUPT, "cannot use the write-ahead log", err_text);
    if (stored_id == 0)
        store_log_id(n);
    return 0;
}

static void on_loaded_lease(void *ctx, const struct lsm_lease *lease)
{
    lessor_load(ctx, lease);
}

static int open_store(struct node *n, const char *dir)
{
    char err_text[512];
    n->lsm_dir = mem_strdup(dir);
    n->place = install_folders(n);
    if (install_recover(&n->place) != 0)
        return node__refuse("cannot remove what a snapshot left behind", dir);
    struct lsm_options lo;
    node_lsm_options(n, &lo);
    int err = lsm_open(dir, &lo, &n->lsm, err_text, sizeof(err_text));
    return err == 0 ? 0 : cannot_use(n, err, "cannot open the store", err_text);
}

/* The store is loaded by a thread of its own while the log is read: one keeps the CPUs busy, the
 * other waits for its disk. */
struct loading {
    struct node *node;
    pthread_t thread;
    struct lsm_meta meta;
    uint64_t began_ns;
    int err;
    char err_text[512];
};

static void *load_main(void *arg)
{
    struct loading *l = arg;
    struct node *n = l->node;
    l->err = lsm_load(n->lsm, n->mvcc, 0, &l->meta, on_loaded_lease, n->lessor, l->err_text,
                      sizeof(l->err_text));
    return NULL;
}

static void begin_loading(struct node *n, struct loading *ret)
{
    *ret = (struct loading){.node = n, .began_ns = clock_mono_ns()};
    n->mvcc = mvcc_new(NULL);
    n->lessor = lessor_new(config_lease_ttl_min_s(n->config));
    if (pthread_create(&ret->thread, NULL, load_main, ret) != 0)
        tv_fatal("cannot start a thread that loads the store");
    (void)pthread_setname_np(ret->thread, "load-store");
}

static int end_loading(struct node *n, struct loading *l)
{
    (void)pthread_join(l->thread, NULL);
    if (l->err != 0)
        return cannot_use(n, l->err, "cannot load the store", l->err_text);
    restore_lease_keys(n->lessor, n->mvcc);
    struct mvcc_stats s;
    mvcc_stats(n->mvcc, &s);
    log_info("loaded the store", LOG_UINT("keys", s.keys), LOG_INT("revision", l->meta.revision),
             LOG_UINT("applied-index", l->meta.applied_index),
             LOG_UINT("took-ms", (clock_mono_ns() - l->began_ns) / 1000000));
    return 0;
}

struct records {
    struct node *node;
    struct buf contents;
    bool failed;
};

static struct slice get_record(void *ctx, struct slice name)
{
    struct records *r = ctx;
    buf_clear(&r->contents);
    int err = lsm_get(r->node->lsm, name, &r->contents);
    r->failed |= err != 0 && err != TV_ENOTFOUND;
    return err == 0 ? buf_slice(&r->contents) : SLICE_EMPTY;
}

static int load_auth(struct node *n)
{
    struct records r = {.node = n};
    buf_init(&r.contents, 2 * AUTH_BYTES_MAX);
    int err = auth_load(&n->applier.auth, get_record, &r);
    buf_fini(&r.contents);
    if (err != 0 || r.failed)
        return cannot_use(n, TV_ECORRUPT, "the stored users and roles are damaged", n->lsm_dir);
    return 0;
}

static int start_applier(struct node *n, const struct lsm_meta *meta)
{
    struct buf encoded;
    applier_init(&n->applier, n->mvcc, n->lessor, &n->cluster, n->member_id);
    n->applier.chain = meta->chain;
    n->applier.tokens = n->tokens;
    buf_init(&encoded, 1 << 20);
    int err = lsm_get(n->lsm, STATE_RECORD_ALARMS, &encoded);
    if (err == TV_ENOTFOUND)
        err = 0;
    else if (err != 0 || alarms_decode(&n->applier.alarms, buf_slice(&encoded)) != 0)
        err = cannot_use(n, TV_ECORRUPT, "the stored alarms are damaged", n->lsm_dir);
    if (err == 0) {
        buf_clear(&encoded);
        err = lsm_get(n->lsm, STATE_RECORD_VERSIONS, &encoded);
        err = err == TV_ENOTFOUND ? 0 : err;
        if (err != 0 || versions_decode(&n->applier.versions, buf_slice(&encoded)) != 0)
            err = cannot_use(n, TV_ECORRUPT, "the stored version is damaged", n->lsm_dir);
    }
    buf_fini(&encoded);
    if (err == 0)
        err = load_auth(n);
    if (err != 0)
        applier_fini(&n->applier);
    return err;
}

/* etcd's --max-wals counts its files; here it counts segments. */
static uint64_t log_keep_bytes(const struct config *c)
{
    return c->max_wals == 0 ? UINT64_MAX / 8 : c->max_wals * c->log_segment_bytes;
}

static uint64_t entries_kept(const struct config *c)
{
    return c->snapshot_count > c->snapshot_catchup ? c->snapshot_count : c->snapshot_catchup;
}

static void start_core(struct node *n, const struct lsm_meta *meta, const struct restore *r)
{
    struct persist_options po;
    persist_options_init(&po);
    po.lsm = n->lsm;
    po.mvcc = n->mvcc;
    po.spread = n->member_id;
    n->persist = persist_new(&po);
    struct core_options o = {
        .cluster = &n->cluster,
        .member_id = n->member_id,
        .mvcc = n->mvcc,
        .wal = n->wal,
        .persist = n->persist,
        .applier = &n->applier,
        .env = node__env(n),
        .heartbeat_ms = n->config->heartbeat_ms,
        .election_ms = n->config->election_ms,
        .slow_apply_ns = n->config->warn_apply_ms * 1000000,
        .pre_vote = n->config->pre_vote,
        .lease_reads = n->config->lease_reads,
        .strict_reconfig = n->config->strict_reconfig,
        .priority_requests = n->config->features.enabled[FEATURE_PRIORITY_REQUEST],
        .lease_checkpoint_ms =
            n->config->features.enabled[FEATURE_LEASE_CHECKPOINT] ? LEASE_CHECKPOINT_MS : 0,
        .stand_at_once = n->config->tick_advance,
        .seed = rng_seed_from_os(),
        .id_seed = (uint64_t)clock_wall_us(),
        .snapshot_count = entries_kept(n->config),
        .log_keep_bytes = log_keep_bytes(n->config),
        .hard_state = r->hard_state,
        .applied_index = meta->applied_index,
        .applied_term = meta->applied_term,
        .entries = r->entries,
        .entries_count = r->count,
    };
    n->core = core_new(&o);
}

/* A member may be renamed; but when store and log belong together and to a member that is not the
 * one named, an operator took the wrong folder. */
static int check_name(struct node *n)
{
    const struct cluster_member *named = cluster_find_name(&n->cluster, n->config->name);
    const struct cluster_member *self = cluster_find(&n->cluster, n->member_id);
    if (self == NULL || *self->name == '\0' || named == NULL || named == self)
        return 0;
    char text[1024];
    snprintf(text, sizeof(text), "%s holds the data of member %s, and --name is %s",
             n->config->data_dir, self->name, n->config->name);
    return node__refuse("the data directory belongs to another member", text);
}

static int open_folders(struct node *n)
{
    char wal_dir[4200], lsm_dir[4200];
    int err = choose_dirs(n->config, wal_dir, lsm_dir, sizeof(wal_dir));
    if (err != 0)
        return err;
    err = repair_check_folders(lsm_dir, wal_dir, n->damage, sizeof(n->damage));
    if (err == 0)
        err = open_store(n, lsm_dir);
    if (err == 0)
        err = load_members(n, wal_dir);
    if (err != 0)
        return err;
    struct lsm_meta meta;
    struct loading loading;
    struct restore r;
    lsm_meta(n->lsm, &meta);
    restore_init(&r, meta.applied_index);
    r.applied_term = meta.applied_term;
    begin_loading(n, &loading);
    uint64_t log_id = 0;
    int log_err = read_log(n, wal_dir, &r, &log_id);
    err = end_loading(n, &loading);
    if (err == 0)
        err = log_err;
    if (err == 0)
        err = join_log_and_store(n, wal_dir, &r, log_id);
    if (err == 0)
        node__force_new_cluster(n, &r);
    if (err == 0)
        err = check_name(n);
    if (err == 0)
        err = start_applier(n, &meta);
    if (err == 0)
        start_core(n, &meta, &r);
    restore_fini(&r);
    return err;
}

/* What open_folders() had opened when it found damage. */
static void close_folders(struct node *n)
{
    if (n->wal != NULL)
        wal_close(n->wal);
    if (n->disk != NULL)
        disk_close(n->disk);
    if (n->lsm != NULL)
        lsm_close(n->lsm);
    if (n->lessor != NULL)
        lessor_free(n->lessor);
    if (n->mvcc != NULL)
        mvcc_free(n->mvcc);
    cluster_fini(&n->cluster);
    mem_free(n->lsm_dir);
    n->wal = NULL;
    n->disk = NULL;
    n->lsm = NULL;
    n->lessor = NULL;
    n->mvcc = NULL;
    n->lsm_dir = NULL;
}

/* Of the stored membership or, when it cannot be read, of the flags. */
static uint32_t members_known(const struct node *n)
{
    char err_text[512];
    struct cluster c;
    if (n->cluster.members_count > 0)
        return n->cluster.members_count;
    if (cluster_from_initial(n->config->initial_cluster, n->config->initial_cluster_token, &c,
                             err_text, sizeof(err_text)) != 0)
        return 0;
    uint32_t count = c.members_count;
    cluster_fini(&c);
    return count;
}

/* What is damaged is set aside, and the start begins again without it; once. */
int node__open_data(struct node *n)
{
    struct repair r = {
        .mode = n->config->repair, .data_dir = n->config->data_dir, .wal_dir = n->config->wal_dir};
    int err = repair_is_marked(&r, n->damage, sizeof(n->damage)) ? TV_ECORRUPT : open_folders(n);
    if (err != TV_ECORRUPT)
        return err;
    r.members_count = members_known(n);
    close_folders(n);
    err = repair_set_aside(&r, n->damage);
    n->history->damages += err == 0;
    if (err == 0 && (err = open_folders(n)) == TV_ECORRUPT)
        return node__refuse("what is new is damaged too", n->damage);
    return err;
}
