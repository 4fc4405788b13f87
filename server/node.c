#include "server/node.h"

#include "server/disk_space.h"
#include "server/folder.h"
#include "server/http.h"
#include "server/join.h"
#include "server/repair.h"
#include "server/restore.h"
#include "server/services.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FDS_WAITING_MAX = 1024, /* accepted sockets on their way to a thread; more are closed */
    HANDED_OVER_LINGER_MS = 50,
    DRAIN_PATIENCE_MS = 3000, /* clients may take so long to finish when we stop */
    WORKER_TICK_MS = 100,
    LEAVE_AFTER_MS = 1000,
    PUBLISH_PATIENCE_MS = 1000,
    DB_SIZE_MIN_BYTES = 4096, /* never 0: clients divide by it */
};

/* An I/O thread: a loop with one worker. */
struct node_thread {
    struct node *node;
    struct worker *worker;
    uv_thread_t thread;
    uv_loop_t loop;
    uv_async_t control; /* sockets to adopt, or time to stop */
    uv_timer_t tick;
    uv_mutex_t mutex;
    int fds[FDS_WAITING_MAX];
    uint32_t fds_count;
    bool drain; /* tell the clients to go elsewhere */
    bool stop;
};

static uint64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

uint64_t node_db_size(const struct node *n)
{
    struct mvcc_stats s;
    mvcc_stats(n->mvcc, &s);
    uint64_t size = s.version_bytes + s.index_bytes;
    return size > DB_SIZE_MIN_BYTES ? size : DB_SIZE_MIN_BYTES;
}

/* --- the core's loop --- */

static void on_again(uv_idle_t *idle)
{
    (void)idle; /* its being active keeps the loop from blocking before the turn */
}

static void wake(void *ctx)
{
    struct node *n = ctx;
    if (n->turn_due)
        return;
    n->turn_due = true;
    uv_idle_start(&n->again, on_again);
}

static void on_turn(uv_check_t *check)
{
    struct node *n = check->data;
    if (!n->turn_due)
        return;
    n->turn_due = false;
    core_turn(n->core, now_ms());
    if (!n->turn_due)
        uv_idle_stop(&n->again);
}

static void on_log_written(uv_poll_t *poll, int status, int events)
{
    struct node *n = poll->data;
    (void)status;
    (void)events;
    wal_poll(n->wal);
}

static void on_wal_done(void *ctx, uint64_t seq)
{
    struct node *n = ctx;
    core_log_written(n->core, seq);
    wake(n);
}

static void on_requests_in(uv_async_t *a)
{
    struct node *n = a->data;
    mpsc_begin(&n->requests);
    struct mpsc_node *it;
    while ((it = mpsc_pop(&n->requests)) != NULL)
        core_submit(n->core, CONTAINER_OF(it, struct request, node));
}

static void publish_self(struct node *n);
static void on_leave(uv_timer_t *timer);
static int serve_clients(struct node *n);
static void tick_snapshots(struct node *n);

static void on_tick(uv_timer_t *timer)
{
    struct node *n = timer->data;
    core_tick(n->core, now_ms());
    peers_tick(n->peers);
    tick_snapshots(n);
    if (n->threads == NULL)
        worker_tick(&n->workers[0], now_ms());
    publish_self(n);
}

/* --- what the core asks of the world --- */

static void env_send(void *ctx, const struct raft_msg *msg)
{
    peers_send(((struct node *)ctx)->peers, msg);
}

static void env_send_question(void *ctx, uint64_t to, const struct core_question *msg)
{
    peers_send_question(((struct node *)ctx)->peers, to, msg);
}

static void env_send_report(void *ctx, uint64_t to, const struct agree_report *r)
{
    peers_send_report(((struct node *)ctx)->peers, to, r);
}

static void env_send_snapshot(void *ctx, uint64_t to)
{
    struct node *n = ctx;
    persist_request_flush(n->persist); /* a young store may have no commit yet: then the next try */
    snapshots_send(n->snapshots, to);
}

static void env_answer(void *ctx, struct request *req)
{
    (void)ctx;
    if (req->worker == NULL)
        req->answered(NULL, req); /* the node's own */
    else
        worker_answer(req);
}

static void on_stop_timer(uv_timer_t *timer)
{
    struct node *n = timer->data;
    uv_stop(&n->loop);
}

/* We stop when the clients have gone, and another leads: the stop timer ends the waiting. Until the
 * others have heard of the new leader they may send proposals to us, which go on to it. */
static void stop_if_done(struct node *n)
{
    struct core_status s;
    core_status(n->core, &s);
    if (!n->clients_gone || n->lingering)
        return;
    if (!n->handing_over) {
        uv_stop(&n->loop);
    } else if (s.leader != 0 && s.leader != n->member_id) {
        n->lingering = true;
        uv_timer_start(&n->stop_timer, on_stop_timer, HANDED_OVER_LINGER_MS, 0);
    }
}

static void env_published(void *ctx)
{
    struct node *n = ctx;
    stop_if_done(n);
    for (uint32_t i = 0; i < n->workers_count; i++)
        worker_publish(&n->workers[i]);
}

/* --- the membership --- */

/* A while, in which the others hear that the removal is committed. */
static void leave(struct node *n)
{
    if (n->removed)
        return;
    n->removed = true;
    log_warn("the member has been permanently removed from the cluster",
             LOG_HEX("local-member-id", n->member_id));
    log_warn("the data-dir used by this member must be removed",
             LOG_STR("data-dir", n->config->data_dir));
    uv_timer_start(&n->leave_timer, on_leave, LEAVE_AFTER_MS, 0);
}

static void env_members_changed(void *ctx)
{
    struct node *n = ctx;
    peers_update(n->peers);
    if (cluster_was_removed(&n->cluster, n->member_id))
        leave(n);
    else if (serve_clients(n) != 0)
        tv_fatal("cannot listen for clients");
}

static void on_peer_connected(void *ctx, uint64_t id, bool connected)
{
    core_peer_connected(((struct node *)ctx)->core, id, connected);
}

static void on_told_removed(void *ctx, uint64_t by)
{
    (void)by;
    leave(ctx);
}

/* --- what the peers bring --- */

static void on_peer_msg(void *ctx, const struct raft_msg *msg)
{
    struct node *n = ctx;
    core_receive(n->core, msg);
    wake(n);
}

static void on_peer_lease(void *ctx, uint64_t from, const struct core_question *msg)
{
    struct node *n = ctx;
    core_receive_question(n->core, from, msg);
    wake(n);
}

static void on_peer_report(void *ctx, uint64_t from, const struct agree_report *r)
{
    core_receive_report(((struct node *)ctx)->core, from, r);
}

static void on_peer_lost(void *ctx, uint64_t id)
{
    struct node *n = ctx;
    core_peer_lost(n->core, id);
    wake(n);
}

/* --- telling the cluster who we are --- */

static void log_ready(struct node *n)
{
    log_info("ready to serve client requests");
    for (uint32_t i = 0; i < n->config->listen_client_urls.count; i++)
        log_info("serving client traffic insecurely; this is strongly discouraged!",
                 LOG_STR("address", url_address(n->config->listen_client_urls.items[i])));
}

static void on_self_published(struct worker *w, struct request *req)
{
    (void)w;
    struct node *n = req->user;
    n->publishing = false;
    if (req->err == 0 && !n->ready) {
        n->ready = true;
        log_info("published local member to cluster through raft",
                 LOG_HEX("local-member-id", n->member_id), LOG_HEX("cluster-id", n->cluster_id));
        if (n->serving)
            log_ready(n);
    }
    bref_unref(req->payload);
    bref_unref(req->reply);
    mem_free(req);
}

/* Once there is a leader: our name and client URLs go on the log; again until it worked. */
static void publish_self(struct node *n)
{
    struct core_status s;
    core_status(n->core, &s);
    if (n->ready || n->publishing || n->stopping || s.leader == 0)
        return;
    n->publishing = true;
    const struct urls *urls = &n->config->advertise_client_urls;
    struct wire_member_attr attr = {.member_id = n->member_id,
                                    .name = slice_of_string(n->config->name),
                                    .client_urls_count = urls->count};
    for (uint32_t i = 0; i < urls->count; i++)
        attr.client_urls[i] = slice_of_string(urls->items[i]);
    struct bref *body = bref_new(wire_member_attr_size(&attr));
    wire_member_attr_put(body->data, &attr);
    struct slice bytes = slice_of(body->data, body->capacity_bytes);

    struct request *req = mem_alloc_zero(sizeof(*req));
    list_init(&req->link);
    req->kind = REQUEST_PROPOSE;
    req->answered = on_self_published;
    req->patience_ms = PUBLISH_PATIENCE_MS; /* lost on the way to the leader: again */
    req->user = n;
    req->id = core_next_request_id(n->core);
    req->payload_size = (uint32_t)wire_raft_request_size(WIRE_RAFT_MEMBER_ATTR_SET, req->id, bytes);
    req->payload = bref_new(req->payload_size);
    wire_raft_request_put(req->payload->data, WIRE_RAFT_MEMBER_ATTR_SET, req->id, bytes);
    bref_unref(body);
    core_submit(n->core, req);
}

/* --- start: the disk --- */

/* A start that cannot go on: said in one line, exit status 1. */
static int refuse(const char *what, const char *why)
{
    log_write(LOG_FATAL, __FILE__, __LINE__, what, (struct log_field[]){LOG_STR("error", why)}, 1);
    return TV_EINVAL;
}

/* Damage is kept for the repair; what is no damage ends the start. */
static int cannot_use(struct node *n, int err, const char *what, const char *why)
{
    if (err != TV_ECORRUPT)
        return refuse(what, why);
    (void)snprintf(n->damage, sizeof(n->damage), "%s: %s", what, why); /* may be cut */
    return err;
}

/* Found while running; the caller ends the process. Thread: any. */
static void on_damage(void *ctx, const char *what)
{
    repair_mark(((struct node *)ctx)->config->data_dir, what);
}

void node_lsm_options(struct node *n, struct lsm_options *ret)
{
    lsm_options_init(ret);
    ret->damaged = on_damage;
    ret->ctx = n;
}

/* The majority holds something else. We end in order, the leadership handed over, and the next run
 * in this process sets the data aside. Not from inside the core's turn. */
static void env_differs(void *ctx, const char *what)
{
    struct node *n = ctx;
    on_damage(n, what);
    n->begin_anew = true;
    n->history->differences++;
    uv_timer_start(&n->leave_timer, on_leave, 0, 0);
}

static int make_dir(const char *path)
{
    char text[512];
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    snprintf(text, sizeof(text), "cannot create directory %s: %s", path, strerror(errno));
    return refuse("cannot access data directory", text);
}

static int choose_dirs(const struct config *c, char *wal_dir, char *lsm_dir, size_t size)
{
    char member[4096], etcd_db[4200];
    snprintf(member, sizeof(member), "%s/member", c->data_dir);
    snprintf(etcd_db, sizeof(etcd_db), "%s/snap/db", member);
    if (access(etcd_db, F_OK) == 0)
        return refuse("the data directory belongs to etcd", etcd_db);
    snprintf(lsm_dir, size, "%s/lsm", member);
    if (c->wal_dir[0] != '\0')
        snprintf(wal_dir, size, "%s", c->wal_dir);
    else
        snprintf(wal_dir, size, "%s/wal", member);
    int err = make_dir(c->data_dir);
    return err != 0 ? err : make_dir(member);
}

/* There is no data: the flags and the other members say who we are. */
static int find_place(struct node *n)
{
    char err_text[512];
    const struct config *c = n->config;
    struct cluster initial;
    int err = cluster_from_initial(c->initial_cluster, c->initial_cluster_token, &initial, err_text,
                                   sizeof(err_text));
    if (err == 0)
        err = cluster_check_local(&initial, c->name, &c->advertise_peer_urls, err_text,
                                  sizeof(err_text));
    if (err == 0 && c->cluster_is_new)
        held_ports_open(&n->held, &c->listen_client_urls);
    if (err == 0)
        err = join_run(c, n->gl, &initial, repair_was_set_aside(c->data_dir), &n->member_id,
                       &n->cluster, err_text, sizeof(err_text));
    cluster_fini(&initial);
    return err == 0 ? 0 : refuse("failed to start etcd", err_text);
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
    persist_meta_put(&metas, APPLY_META_MEMBERS, buf_slice(&encoded));
    persist_meta_put(&metas, NODE_META_SELF, slice_of(&n->member_id, sizeof(n->member_id)));
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
    if (lsm_get(n->lsm, APPLY_META_MEMBERS, &members) == TV_ENOTFOUND)
        err = folder_has(wal_dir, ".wal") ? lost_members(n) : members_from_flags(n);
    else if (lsm_get(n->lsm, NODE_META_SELF, &self) != 0 || self.size != sizeof(n->member_id) ||
             cluster_decode(buf_slice(&members), &n->cluster) != 0)
        err = cannot_use(n, TV_ECORRUPT, "the stored membership is damaged", n->lsm_dir);
    else {
        memcpy(&n->member_id, self.data, sizeof(n->member_id));
        err = !cluster_was_removed(&n->cluster, n->member_id)
                  ? 0
                  : refuse("the member has been permanently removed from the cluster",
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
    int err = lsm_get(n->lsm, NODE_META_LOG, &value);
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
    persist_meta_put(&metas, NODE_META_LOG, slice_of(&log_id, sizeof(log_id)));
    lsm_put(n->lsm, metas);
}

static int open_log(struct node *n, const char *dir, struct restore *r, uint64_t applied_term)
{
    char err_text[512];
    int err = disk_open(n->config->wal_io, dir, &n->disk, err_text, sizeof(err_text));
    if (err != 0)
        return refuse("cannot open the write-ahead log's directory", err_text);
    log_info("write-ahead log", LOG_STR("path", dir), LOG_STR("method", disk_describe(n->disk)));
    struct wal_options o;
    wal_options_init(&o);
    o.disk = n->disk;
    o.segment_size_bytes = n->config->log_segment_bytes;
    o.segments_keep_max = 1; /* they count in --max-wals */
    o.cluster_id = n->cluster_id;
    o.member_id = n->member_id;
    o.payload_from_index = r->applied_index + 1;
    err = stored_log_id(n, &o.log_id);
    if (err != 0)
        return err;
    struct wal_replay replay = restore_replay(r);
    err = wal_open(&o, &replay, &n->wal, err_text, sizeof(err_text));
    if (err == TV_EINVAL && *n->config->wal_dir == '\0')
        err = TV_ECORRUPT; /* another's log in our own folder is no mistake in a flag */
    if (err != 0)
        return cannot_use(n, err, "cannot open the write-ahead log", err_text);
    restore_finish_install(r, n->wal, install_index(n->lsm), applied_term);
    snprintf(err_text, sizeof(err_text),
             "%s: offset 0: it does not meet the store, which is at "
             "entry %llu: one of the two is from another time",
             dir, (unsigned long long)r->applied_index);
    if (restore_check(r, n->wal) != 0)
        return cannot_use(n, TV_ECORRUPT, "cannot use the write-ahead log", err_text);
    if (o.log_id == 0)
        store_log_id(n);
    return 0;
}

static void on_loaded_lease(void *ctx, int64_t id, int64_t granted_ttl)
{
    int64_t granted;
    (void)lessor_grant(((struct node *)ctx)->lessor, id, granted_ttl, now_ms(), &granted);
}

static int open_store(struct node *n, const char *dir, struct lsm_meta *ret_meta)
{
    char err_text[512];
    uint64_t began = clock_mono_ns();
    n->lsm_dir = mem_strdup(dir);
    n->place = install_folders(n);
    if (install_recover(&n->place) != 0)
        return refuse("cannot remove what a snapshot left behind", dir);
    struct lsm_options lo;
    node_lsm_options(n, &lo);
    int err = lsm_open(dir, &lo, &n->lsm, err_text, sizeof(err_text));
    if (err != 0)
        return cannot_use(n, err, "cannot open the store", err_text);
    n->mvcc = mvcc_new(NULL);
    n->lessor = lessor_new(config_lease_ttl_min_s(n->config));
    err = lsm_load(n->lsm, n->mvcc, 0, ret_meta, on_loaded_lease, n, err_text, sizeof(err_text));
    if (err != 0)
        return cannot_use(n, err, "cannot load the store", err_text);
    restore_lease_keys(n->lessor, n->mvcc);
    struct mvcc_stats s;
    mvcc_stats(n->mvcc, &s);
    log_info("loaded the store", LOG_UINT("keys", s.keys), LOG_INT("revision", ret_meta->revision),
             LOG_UINT("applied-index", ret_meta->applied_index),
             LOG_UINT("took-ms", (clock_mono_ns() - began) / 1000000));
    return 0;
}

static int start_applier(struct node *n, const struct lsm_meta *meta)
{
    struct buf encoded;
    applier_init(&n->applier, n->mvcc, n->lessor, &n->cluster, n->member_id);
    n->applier.chain = meta->chain;
    buf_init(&encoded, 1 << 20);
    int err = lsm_get(n->lsm, APPLY_META_ALARMS, &encoded);
    if (err == TV_ENOTFOUND)
        err = 0;
    else if (err != 0 || alarms_decode(&n->applier.alarms, buf_slice(&encoded)) != 0)
        err = cannot_use(n, TV_ECORRUPT, "the stored alarms are damaged", n->lsm_dir);
    buf_fini(&encoded);
    if (err != 0)
        applier_fini(&n->applier);
    return err;
}

/* etcd's --max-wals counts its files; here it counts segments. */
static uint64_t log_keep_bytes(const struct config *c)
{
    return c->max_wals == 0 ? UINT64_MAX / 8 : c->max_wals * c->log_segment_bytes;
}

static void start_core(struct node *n, const struct lsm_meta *meta, const struct restore *r)
{
    struct persist_options po;
    persist_options_init(&po);
    po.lsm = n->lsm;
    po.mvcc = n->mvcc;
    n->persist = persist_new(&po);
    struct core_options o = {
        .cluster = &n->cluster,
        .member_id = n->member_id,
        .mvcc = n->mvcc,
        .wal = n->wal,
        .persist = n->persist,
        .applier = &n->applier,
        .env = {.ctx = n,
                .send = env_send,
                .send_question = env_send_question,
                .send_snapshot = env_send_snapshot,
                .members_changed = env_members_changed,
                .answer = env_answer,
                .published = env_published,
                .wake = wake,
                .send_report = env_send_report,
                .differs = env_differs,
                .damaged = on_damage},
        .heartbeat_ms = n->config->heartbeat_ms,
        .election_ms = n->config->election_ms,
        .pre_vote = n->config->pre_vote,
        .lease_reads = n->config->lease_reads,
        .strict_reconfig = n->config->strict_reconfig,
        .seed = rng_seed_from_os(),
        .id_seed = (uint64_t)clock_wall_us(),
        .snapshot_count = n->config->snapshot_count,
        .log_keep_bytes = log_keep_bytes(n->config),
        .hard_state = r->hard_state,
        .applied_index = meta->applied_index,
        .applied_term = meta->applied_term,
        .entries = r->entries,
        .entries_count = r->count,
    };
    n->core = core_new(&o);
    wal_set_done(n->wal, on_wal_done, n);
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
    return refuse("the data directory belongs to another member", text);
}

static int open_folders(struct node *n)
{
    char wal_dir[4200], lsm_dir[4200];
    struct lsm_meta meta;
    int err = choose_dirs(n->config, wal_dir, lsm_dir, sizeof(wal_dir));
    if (err != 0)
        return err;
    err = repair_check_folders(lsm_dir, wal_dir, n->damage, sizeof(n->damage));
    if (err == 0)
        err = open_store(n, lsm_dir, &meta);
    if (err == 0)
        err = load_members(n, wal_dir);
    if (err != 0)
        return err;
    struct restore r;
    restore_init(&r, meta.applied_index);
    r.applied_term = meta.applied_term;
    err = open_log(n, wal_dir, &r, meta.applied_term);
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
static int open_data(struct node *n)
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
        return refuse("what is new is damaged too", n->damage);
    return err;
}

/* --- start: room on the disks --- */

static void on_space(void *ctx, bool low)
{
    core_disk_low(((struct node *)ctx)->core, low);
}

static void start_space(struct node *n)
{
    if (n->config->disk_reserve_bytes == 0)
        return;
    struct disk_space_options o = {.loop = &n->loop,
                                   .dirs = {n->config->data_dir, n->disk->dir},
                                   .reserve_bytes = n->config->disk_reserve_bytes,
                                   .changed = on_space,
                                   .ctx = n};
    n->space = disk_space_new(&o);
}

/* --- start: sockets and threads --- */

static struct grpc_server *new_client_server(struct worker *w, struct grpc_loop *gl)
{
    const struct config *c = w->node->config;
    struct grpc_server_options o;
    grpc_server_options_init(&o);
    /* etcd's allowance for what surrounds a request. */
    o.recv_message_bytes_max = c->max_request_bytes + (512u << 10);
    o.concurrent_streams_max = c->max_concurrent_streams;
    o.keepalive_min_time_ms = c->keepalive_min_time_ms;
    o.keepalive_interval_ms = c->keepalive_interval_ms;
    o.keepalive_timeout_ms = c->keepalive_timeout_ms;
    o.http1 = http_serve;
    o.http1_arg = w;
    uint32_t count;
    w->methods = services_table(w, &count);
    return grpc_server_new(gl, &o, w->methods, count);
}

static int listen_all(const struct urls *urls, struct peers *peers, struct grpc_server *clients)
{
    for (uint32_t i = 0; i < urls->count; i++) {
        const char *address = url_address(urls->items[i]);
        int err = peers != NULL ? peers_listen(peers, address)
                                : grpc_server_listen(clients, address, NULL);
        if (err == 0)
            continue;
        char text[600];
        snprintf(text, sizeof(text), "listen tcp %s: %s", address,
                 err == TV_EBUSY ? "bind: address already in use" : tv_err_text(err));
        return refuse("failed to start etcd", text);
    }
    return 0;
}

static void on_thread_drained(struct grpc_server *s, void *arg)
{
    struct node_thread *t = arg;
    (void)s;
    if (atomic_fetch_sub(&t->node->threads_draining, 1) == 1)
        uv_async_send(&t->node->drained);
}

static void on_control(uv_async_t *a)
{
    struct node_thread *t = a->data;
    uv_mutex_lock(&t->mutex);
    int fds[FDS_WAITING_MAX];
    uint32_t count = t->fds_count;
    memcpy(fds, t->fds, count * sizeof(fds[0]));
    t->fds_count = 0;
    bool drain = t->drain, stop = t->stop;
    t->drain = false;
    uv_mutex_unlock(&t->mutex);
    for (uint32_t i = 0; i < count; i++)
        (void)grpc_server_adopt(t->worker->server, fds[i]);
    if (drain) {
        watch_hub_stop(t->worker->hub);
        grpc_server_drain(t->worker->server, on_thread_drained, t);
    }
    if (stop)
        uv_stop(&t->loop);
}

static void on_thread_tick(uv_timer_t *timer)
{
    struct node_thread *t = timer->data;
    worker_tick(t->worker, now_ms());
}

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void run_thread(void *arg)
{
    struct node_thread *t = arg;
    uv_run(&t->loop, UV_RUN_DEFAULT);
}

static void accept_to_thread(void *arg, int fd)
{
    struct node *n = arg;
    struct node_thread *t = &n->threads[n->next_thread++ % n->workers_count];
    uv_mutex_lock(&t->mutex);
    bool room = t->fds_count < FDS_WAITING_MAX;
    if (room)
        t->fds[t->fds_count++] = fd;
    uv_mutex_unlock(&t->mutex);
    if (room)
        uv_async_send(&t->control);
    else
        close(fd);
}

static void start_threads(struct node *n)
{
    n->threads = mem_alloc_zero(n->workers_count * sizeof(*n->threads));
    for (uint32_t i = 0; i < n->workers_count; i++) {
        struct node_thread *t = &n->threads[i];
        t->node = n;
        t->worker = &n->workers[i];
        uv_loop_init(&t->loop);
        uv_mutex_init(&t->mutex);
        uv_async_init(&t->loop, &t->control, on_control);
        uv_timer_init(&t->loop, &t->tick);
        t->control.data = t;
        t->tick.data = t;
        worker_init(t->worker, n, &t->loop);
        t->worker->gl = grpc_loop_new(&t->loop);
        t->worker->server = new_client_server(t->worker, t->worker->gl);
        uv_timer_start(&t->tick, on_thread_tick, WORKER_TICK_MS, WORKER_TICK_MS);
    }
    for (uint32_t i = 0; i < n->workers_count; i++)
        uv_thread_create(&n->threads[i].thread, run_thread, &n->threads[i]);
}

static void start_workers(struct node *n)
{
    n->workers_count = n->config->io_threads == 0 ? 1 : n->config->io_threads;
    n->workers = mem_alloc_zero(n->workers_count * sizeof(*n->workers));
    if (n->config->io_threads == 0) {
        struct worker *w = &n->workers[0];
        worker_init(w, n, &n->loop);
        w->server = new_client_server(w, n->gl);
        return;
    }
    start_threads(n);
    struct grpc_server_options o;
    grpc_server_options_init(&o);
    n->acceptor = grpc_server_new(n->gl, &o, NULL, 0);
    grpc_server_set_accept(n->acceptor, accept_to_thread, n);
}

/* Not before this member belongs to the cluster, and, when it takes the place of one that lost its
 * data, not before it votes: to clients that member is down until then, and they go elsewhere. A
 * learner that an operator added serves what learners serve. */
static bool may_serve(const struct node *n)
{
    const struct cluster_member *m = cluster_find(&n->cluster, n->member_id);
    return m != NULL && raft_membership_has(&n->cluster.raft, n->member_id) &&
           !(m->learner && m->replacement);
}

static int serve_clients(struct node *n)
{
    held_ports_close(&n->held); /* also when we may not serve yet: they shall go elsewhere */
    if (n->serving || !may_serve(n))
        return 0;
    n->serving = true;
    int err = listen_all(&n->config->listen_client_urls, NULL,
                         n->acceptor != NULL ? n->acceptor : n->workers[0].server);
    if (err == 0 && n->ready)
        log_ready(n);
    return err;
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
    wake(n);
}

static void snapshot_failed(void *ctx, uint64_t id)
{
    struct node *n = ctx;
    core_snapshot_failed(n->core, id);
    wake(n);
}

static bool snapshot_is_wanted(void *ctx, uint64_t log_index, uint64_t term)
{
    return core_snapshot_is_wanted(((struct node *)ctx)->core, log_index, term);
}

static void tick_snapshots(struct node *n)
{
    struct core_status s;
    core_status(n->core, &s);
    snapshots_tick(n->snapshots, now_ms(), s.leader == n->member_id);
}

static void start_snapshots(struct node *n)
{
    char incoming[4300];
    snprintf(incoming, sizeof(incoming), "%s.incoming", n->lsm_dir);
    struct snapshots_options o = {.uv = &n->loop,
                                  .loop = n->gl,
                                  .cluster = &n->cluster,
                                  .member_id = n->member_id,
                                  .election_ms = n->config->election_ms,
                                  .self_name = NODE_META_SELF,
                                  .incoming_dir = incoming,
                                  .ctx = n,
                                  .store = snapshot_store,
                                  .hold_log = snapshot_hold_log,
                                  .sent = snapshot_sent,
                                  .failed = snapshot_failed,
                                  .damaged = on_damage,
                                  .is_wanted = snapshot_is_wanted,
                                  .own_metas = install_own_metas,
                                  .install = install_snapshot};
    n->snapshots = snapshots_new(&o);
}

static int start_peers(struct node *n)
{
    struct peers_options o = {.loop = n->gl,
                              .cluster = &n->cluster,
                              .member_id = n->member_id,
                              .advertise_urls = &n->config->advertise_peer_urls,
                              .max_request_bytes = n->config->max_request_bytes,
                              .election_ms = n->config->election_ms,
                              .ctx = n,
                              .receive = on_peer_msg,
                              .receive_question = on_peer_lease,
                              .receive_report = on_peer_report,
                              .lost = on_peer_lost,
                              .connected = on_peer_connected,
                              .told_removed = on_told_removed};
    start_snapshots(n);
    struct grpc_method more[] = {snapshots_method(n->snapshots), join_method(n)};
    o.more = more;
    o.more_count = 2;
    n->peers = peers_new(&o);
    return listen_all(&n->config->listen_peer_urls, n->peers, NULL);
}

/* --- stop --- */

static void on_drained(struct grpc_server *s, void *arg)
{
    struct node *n = arg;
    (void)s;
    n->clients_gone = true;
    stop_if_done(n);
}

static void on_all_drained(uv_async_t *a)
{
    struct node *n = a->data;
    n->clients_gone = true;
    stop_if_done(n);
}

static void drain_clients(struct node *n)
{
    if (n->threads == NULL) {
        watch_hub_stop(n->workers[0].hub);
        grpc_server_drain(n->workers[0].server, on_drained, n);
        return;
    }
    grpc_server_free(n->acceptor);
    n->acceptor = NULL;
    atomic_store(&n->threads_draining, n->workers_count);
    for (uint32_t i = 0; i < n->workers_count; i++) {
        struct node_thread *t = &n->threads[i];
        uv_mutex_lock(&t->mutex);
        t->drain = true;
        uv_mutex_unlock(&t->mutex);
        uv_async_send(&t->control);
    }
}

/* Hand leadership over first, so that the cluster goes on without waiting for an election; tell the
 * clients to go elsewhere; stop when they have gone, or after a while. */
static void shut_down(struct node *n)
{
    n->stopping = true;
    n->handing_over = core_hand_over(n->core);
    wake(n);
    uv_timer_start(&n->stop_timer, on_stop_timer, DRAIN_PATIENCE_MS, 0);
    drain_clients(n);
}

static void on_signal(uv_signal_t *sig, int number)
{
    struct node *n = sig->data;
    if (n->stopping) {
        n->begin_anew = false;
        uv_stop(&n->loop);
        return;
    }
    log_info("received signal; shutting down", LOG_STR("signal", strsignal(number)));
    n->begin_anew = false;
    shut_down(n);
}

static void on_leave(uv_timer_t *timer)
{
    struct node *n = timer->data;
    if (!n->stopping)
        shut_down(n);
}

static void stop_thread(struct node_thread *t)
{
    uv_mutex_lock(&t->mutex);
    t->stop = true;
    uv_mutex_unlock(&t->mutex);
    uv_async_send(&t->control);
    uv_thread_join(&t->thread);
}

static void finish_loop(uv_loop_t *loop)
{
    uv_walk(loop, close_handle, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
}

/* The order matters: no call may be open when the core goes, no request with the core when the
 * workers go, nothing may be written when the log goes; RocksDB last, with all that was applied. */
static void stop(struct node *n)
{
    for (uint32_t i = 0; n->threads != NULL && i < n->workers_count; i++)
        stop_thread(&n->threads[i]);
    for (uint32_t i = 0; i < n->workers_count; i++)
        grpc_server_free(n->workers[i].server);
    if (n->acceptor != NULL)
        grpc_server_free(n->acceptor);
    if (n->space != NULL)
        disk_space_stop(n->space);
    peers_free(n->peers);
    snapshots_free(n->snapshots);
    on_requests_in(&n->requests_in);
    wal_flush(n->wal);
    core_free(n->core);
    for (uint32_t i = 0; i < n->workers_count; i++) {
        struct worker *w = &n->workers[i];
        worker_drop_answers(w);
        worker_fini(w);
        mem_free(w->methods);
        if (n->threads != NULL) {
            grpc_loop_free(w->gl);
            finish_loop(&n->threads[i].loop);
            uv_mutex_destroy(&n->threads[i].mutex);
        }
    }
    grpc_loop_free(n->gl);
    finish_loop(&n->loop);
    if (n->space != NULL)
        disk_space_free(n->space);
    wal_close(n->wal);
    disk_close(n->disk);
    persist_free(n->persist);
    lsm_close(n->lsm);
    applier_fini(&n->applier);
    lessor_free(n->lessor);
    mvcc_free(n->mvcc);
    cluster_fini(&n->cluster);
    mem_free(n->threads);
    mem_free(n->workers);
    mem_free(n->lsm_dir);
}

/* --- run --- */

static void init_handle(void *handle, struct node *n)
{
    ((uv_handle_t *)handle)->data = n;
}

static void start_loop(struct node *n)
{
    uv_timer_init(&n->loop, &n->tick);
    uv_timer_init(&n->loop, &n->stop_timer);
    uv_timer_init(&n->loop, &n->leave_timer);
    uv_check_init(&n->loop, &n->turn);
    uv_idle_init(&n->loop, &n->again);
    uv_async_init(&n->loop, &n->requests_in, on_requests_in);
    uv_async_init(&n->loop, &n->drained, on_all_drained);
    init_handle(&n->drained, n);
    uv_poll_init(&n->loop, &n->log_written, wal_fd(n->wal));
    init_handle(&n->tick, n);
    init_handle(&n->stop_timer, n);
    init_handle(&n->leave_timer, n);
    init_handle(&n->turn, n);
    init_handle(&n->requests_in, n);
    init_handle(&n->log_written, n);
    uv_check_start(&n->turn, on_turn);
    uv_poll_start(&n->log_written, UV_READABLE, on_log_written);
    uv_timer_start(&n->tick, on_tick, n->config->heartbeat_ms, n->config->heartbeat_ms);
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&n->loop, &n->signals[i]);
        init_handle(&n->signals[i], n);
        uv_signal_start(&n->signals[i], on_signal, i == 0 ? SIGTERM : SIGINT);
    }
}

int node_run(const struct config *config, struct node_history *history)
{
    struct node *n = mem_alloc_zero(sizeof(*n));
    n->config = config;
    n->history = history;
    mpsc_init(&n->requests);
    uv_loop_init(&n->loop);
    n->gl = grpc_loop_new(&n->loop);
    if (open_data(n) != 0)
        return 1; /* said already; the process ends */
    start_loop(n);
    start_space(n);
    start_workers(n);
    if (start_peers(n) != 0 || serve_clients(n) != 0)
        return 1;
    log_info("started trivet", LOG_STR("name", config->name),
             LOG_HEX("local-member-id", n->member_id), LOG_HEX("cluster-id", n->cluster_id),
             LOG_UINT("io-threads", config->io_threads));
    wake(n);
    uv_run(&n->loop, UV_RUN_DEFAULT);
    bool again = n->begin_anew;
    stop(n);
    mem_free(n);
    log_info("stopped");
    return again ? NODE_RUN_AGAIN : 0;
}
