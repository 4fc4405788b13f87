#include "server/node_internal.h"
#include "server/notify.h"

#include "server/disk_space.h"
#include "server/initial_check.h"
#include "server/snapfile.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prompt.h"

#include <signal.h>
#include <string.h>

enum {
    HANDED_OVER_LINGER_MS = 50,
    DRAIN_PATIENCE_MS = 3000, /* clients may take so long to finish when we stop */
    LEAVE_AFTER_MS = 1000,
    PUBLISH_PATIENCE_MS = 1000,
    DB_SIZE_MIN_BYTES = 4096, /* never 0: clients divide by it */
};

uint64_t node__now_ms(void)
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

/* A start that cannot go on: said in one line, exit status 1. */
int node__refuse(const char *what, const char *why)
{
    log_write(LOG_FATAL, __FILE__, __LINE__, what, (struct log_field[]){LOG_STR("error", why)}, 1);
    return TV_EINVAL;
}

/* --- the core's loop --- */

static void on_again(uv_idle_t *idle)
{
    (void)idle; /* its being active keeps the loop from blocking before the turn */
}

void node__wake(void *ctx)
{
    struct node *n = ctx;
    if (n->turn_due)
        return;
    n->turn_due = true;
    uv_idle_start(&n->again, on_again);
}

static void on_wake_timer(uv_timer_t *timer)
{
    node__wake(timer->data);
}

static void env_wake_in(void *ctx, uint64_t ms)
{
    struct node *n = ctx;
    if (!uv_is_active((uv_handle_t *)&n->wake_timer) || uv_timer_get_due_in(&n->wake_timer) > ms)
        uv_timer_start(&n->wake_timer, on_wake_timer, ms, 0);
}

/* What was committed is applied in one turn: nobody is served while that lasts. */
static void warn_of_turn(const struct node *n, uint64_t took_ns)
{
    char took[32], expected[32];
    config_format_duration((int64_t)took_ns, took, sizeof(took));
    config_format_duration((int64_t)n->config->warn_apply_ms * 1000000, expected, sizeof(expected));
    log_warn("apply request took too long", LOG_STR("took", took),
             LOG_STR("expected-duration", expected));
}

static void on_turn(uv_check_t *check)
{
    struct node *n = check->data;
    if (!n->turn_due)
        return;
    n->turn_due = false;
    uint64_t began_ns = clock_mono_ns();
    core_turn(n->core, began_ns / 1000000);
    if (clock_mono_ns() - began_ns > n->config->warn_apply_ms * 1000000)
        warn_of_turn(n, clock_mono_ns() - began_ns);
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
    node__wake(n);
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
int node__serve_clients(struct node *n);
void node__tick_snapshots(struct node *n);

static void on_tick(uv_timer_t *timer)
{
    struct node *n = timer->data;
    core_tick(n->core, node__now_ms());
    peers_tick(n->peers);
    node__tick_snapshots(n);
    node__tick_compactor(n);
    notify_alive(node__now_ms());
    if (n->threads == NULL)
        worker_tick(&n->workers[0], node__now_ms());
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
void node__stop_if_done(struct node *n)
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
    node__stop_if_done(n);
    for (uint32_t i = 0; i < n->workers_count; i++)
        worker_publish(&n->workers[i]);
}

/* The majority holds something else. We end in order, the leadership handed over, and the next run
 * in this process sets the data aside. Not from inside the core's turn. */
static void env_differs(void *ctx, const char *what)
{
    struct node *n = ctx;
    node__damaged(n, what);
    n->begin_anew = true;
    n->history->differences++;
    uv_timer_start(&n->leave_timer, on_leave, 0, 0);
}

/* --- the membership --- */

/* A while, in which the others hear that the removal is committed. */
void node__leave(struct node *n)
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
        node__leave(n);
    else if (node__serve_clients(n) != 0)
        tv_fatal("cannot listen for clients");
}

static int env_copy_store(void *ctx, struct snapfile **ret)
{
    struct node *n = ctx;
    return snapfile_open(n->lsm, n->mvcc, ret);
}

static uint64_t env_clock_ns(void *ctx)
{
    (void)ctx;
    return clock_mono_ns();
}

struct core_env node__env(struct node *n)
{
    return (struct core_env){.ctx = n,
                             .send = env_send,
                             .send_question = env_send_question,
                             .send_snapshot = env_send_snapshot,
                             .members_changed = env_members_changed,
                             .answer = env_answer,
                             .published = env_published,
                             .wake = node__wake,
                             .wake_in = env_wake_in,
                             .send_report = env_send_report,
                             .differs = env_differs,
                             .damaged = node__damaged,
                             .clock_ns = env_clock_ns,
                             .copy_store = env_copy_store};
}

/* --- telling the cluster who we are --- */

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
            node__say_ready(n);
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

/* --- stop --- */

/* Hand leadership over first, so that the cluster goes on without waiting for an election; tell the
 * clients to go elsewhere; stop when they have gone, or after a while. */
static void shut_down(struct node *n)
{
    n->stopping = true;
    n->handing_over = core_hand_over(n->core);
    node__wake(n);
    uv_timer_start(&n->stop_timer, on_stop_timer, DRAIN_PATIENCE_MS, 0);
    node__drain_clients(n);
}

static void on_signal(uv_signal_t *sig, int number)
{
    struct node *n = sig->data;
    if (n->stopping) {
        n->begin_anew = false;
        uv_stop(&n->loop);
        return;
    }
    log_info("received signal; shutting down",
             LOG_STR("signal", number == SIGINT ? "interrupt" : "terminated"));
    n->begin_anew = false;
    n->signal = number;
    notify_stopping();
    shut_down(n);
}

static void on_leave(uv_timer_t *timer)
{
    struct node *n = timer->data;
    if (!n->stopping)
        shut_down(n);
}

/* The order matters: no call may be open when the core goes, no request with the core when the
 * workers go, nothing may be written when the log goes; RocksDB last, with all that was applied. */
static void stop(struct node *n)
{
    node__close_clients(n);
    if (n->space != NULL)
        disk_space_stop(n->space);
    peers_free(n->peers);
    snapshots_free(n->snapshots);
    on_requests_in(&n->requests_in);
    wal_flush(n->wal);
    core_free(n->core);
    node__free_workers(n);
    grpc_loop_free(n->gl);
    node__finish_loop(&n->loop);
    mem_free(n->threads);
    mem_free(n->workers); /* passwords that were being hashed have come back to them by now */
    ports_close(&n->ports);
    if (n->space != NULL)
        disk_space_free(n->space);
    wal_close(n->wal);
    disk_close(n->disk);
    persist_free(n->persist);
    lsm_close(n->lsm);
    applier_fini(&n->applier);
    auth_tokens_free(n->tokens);
    lessor_free(n->lessor);
    mvcc_free(n->mvcc);
    cluster_fini(&n->cluster);
    compactor_fini(&n->compactor);
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
    uv_timer_init(&n->loop, &n->wake_timer);
    uv_check_init(&n->loop, &n->turn);
    uv_idle_init(&n->loop, &n->again);
    uv_async_init(&n->loop, &n->requests_in, on_requests_in);
    uv_async_init(&n->loop, &n->drained, node__on_all_drained);
    init_handle(&n->drained, n);
    wal_set_done(n->wal, on_wal_done, n);
    uv_poll_init(&n->loop, &n->log_written, wal_fd(n->wal));
    init_handle(&n->tick, n);
    init_handle(&n->stop_timer, n);
    init_handle(&n->leave_timer, n);
    init_handle(&n->wake_timer, n);
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

static int make_tokens(struct node *n)
{
    char err_text[512];
    n->tokens = auth_tokens_new(n->config->auth_token, n->config->auth_token_ttl_s * 1000, err_text,
                                sizeof(err_text));
    return n->tokens != NULL ? 0 : node__refuse("failed to create token provider", err_text);
}

struct node *node_start(const struct config *config, struct node_history *history)
{
    char why[1024];
    struct node *n = mem_alloc_zero(sizeof(*n));
    if (ports_open(config, &n->ports, why, sizeof(why)) != 0) {
        (void)node__refuse("failed to start etcd", why);
        return NULL;
    }
    n->config = config;
    n->history = history;
    mpsc_init(&n->requests);
    uv_loop_init(&n->loop);
    n->gl = grpc_loop_new(&n->loop);
    if (make_tokens(n) != 0 || node__open_data(n) != 0)
        return NULL; /* said already; the process ends */
    if (config->features.enabled[FEATURE_INITIAL_CORRUPT_CHECK] && !core_log_is_empty(n->core) &&
        initial_check(n) != 0)
        return NULL;
    start_loop(n);
    start_space(n);
    node__start_compactor(n);
    node__start_workers(n);
    if (node__start_peers(n) != 0 || node__serve_clients(n) != 0)
        return NULL;
    log_info("started trivet", LOG_STR("name", config->name),
             LOG_HEX("local-member-id", n->member_id), LOG_HEX("cluster-id", n->cluster_id),
             LOG_UINT("io-threads", config->io_threads));
    node__wake(n);
    return n;
}

int node_stop(struct node *n)
{
    bool again = n->begin_anew;
    int number = n->signal;
    stop(n);
    mem_free(n);
    log_info("stopped");
    return again ? NODE_RUN_AGAIN : number > 0 ? NODE_SIGNALLED + number : 0;
}

int node_run(const struct config *config, struct node_history *history)
{
    struct node *n = node_start(config, history);
    if (n == NULL)
        return 1;
    prompt_thread();
    uv_run(&n->loop, UV_RUN_DEFAULT);
    return node_stop(n);
}
