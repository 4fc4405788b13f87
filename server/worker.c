#include "server/worker.h"

#include "server/node.h"
#include "server/services.h"
#include "server/slow.h"
#include "server/top.h"
#include "server/trace.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "proto/grpc.h"

enum {
    REQUESTS_FREE_MAX = 4096,
    READS_PER_TURN_MAX = 2, /* of those that take several turns */
    /* How long a cluster may be without a leader before streams that asked for one are closed:
     * etcd's monitor waits three elections. */
    LEADER_LOST_ELECTIONS = 3,
};

uint64_t worker_now_ns(struct worker *w)
{
    return grpc_loop_now_ns(w->gl != NULL ? w->gl : w->node->gl);
}

/* --- requests --- */

struct request *worker_request(struct worker *w, enum request_kind kind, struct grpc_call *call,
                               void (*answered)(struct worker *w, struct request *req))
{
    struct request *req;
    if (list_is_empty(&w->requests_free)) {
        req = mem_alloc(sizeof(*req));
    } else {
        req = CONTAINER_OF(w->requests_free.next, struct request, link);
        list_remove(&req->link);
        w->requests_free_count--;
    }
    memset(req, 0, offsetof(struct request, reply_inline));
    list_init(&req->link);
    req->kind = kind;
    req->worker = w;
    req->answered = answered;
    req->call = call;
    req->user = NULL;
    req->raft_kind = 0;
    req->begun_ms = slow_now(w);
    req->charge = (struct grpc_charge){0};
    return req;
}

void worker_request_free(struct worker *w, struct request *req)
{
    bref_unref(req->payload);
    bref_unref(req->reply);
    grpc_charge_return(&req->charge);
    if (w->requests_free_count >= REQUESTS_FREE_MAX) {
        mem_free(req);
        return;
    }
    w->requests_free_count++;
    list_push_front(&w->requests_free, &req->link);
}

bool worker_payload(struct worker *w, struct request *req, uint32_t raft_kind, struct slice body)
{
    return worker_payload_by(w, req, raft_kind, body, &(struct auth_caller){0});
}

bool worker_payload_by(struct worker *w, struct request *req, uint32_t raft_kind, struct slice body,
                       const struct auth_caller *caller)
{
    req->id = core_next_request_id(w->node->core);
    const struct wire_raft_request r = {.id = req->id,
                                        .username = caller->name,
                                        .auth_revision = caller->revision,
                                        .kind = raft_kind,
                                        .body = body};
    size_t size = wire_raft_request_whole_size(&r);
    if (size > w->node->config->max_request_bytes)
        return false;
    req->payload = bref_new(size);
    req->payload_size = (uint32_t)size;
    req->raft_kind = raft_kind;
    req->posted_ns = worker_now_ns(w);
    wire_raft_request_whole_put(req->payload->data, &r);
    if (req->call != NULL) {
        grpc_charge_take(&req->charge, req->call, size);
        /* Connections of different workers have different numbers. */
        req->flow = grpc_call_conn_id(req->call) * w->node->workers_count +
                    (uint64_t)(w - w->node->workers);
    }
    return true;
}

void worker_post(struct worker *w, struct request *req)
{
    struct node *n = w->node;
    if (n->threads == NULL)
        core_submit(n->core, req);
    else if (mpsc_push(&n->requests, &req->node))
        uv_async_send(&n->requests_in);
}

static void take_answer(struct worker *w, struct request *req)
{
    enum meter_op op = req->raft_kind == 0 ? METER_OTHER : meter_op(req->raft_kind);
    if (op != METER_OTHER)
        metric_observe(&w->meters.request[op][req->applied], METER_REQUEST_SCALE,
                       worker_now_ns(w) - req->posted_ns);
    if (req->traced)
        trace_answered(req);
    req->answered(w, req);
}

void worker_answer(struct request *req)
{
    struct worker *w = req->worker;
    if (w->node->threads == NULL)
        take_answer(w, req);
    else if (mpsc_push(&w->answers, &req->node))
        uv_async_send(&w->wakeup);
}

static void on_gathered(uv_timer_t *timer);

static void tell_watchers(struct worker *w)
{
    uint64_t responses = watch_hub_advance(w->hub);
    uint32_t wait_ms = gather_after(&w->gather, responses, worker_now_ns(w));
    if (wait_ms > 0)
        uv_timer_start(&w->gathering, on_gathered, wait_ms, 0);
}

static void on_gathered(uv_timer_t *timer)
{
    tell_watchers(timer->data);
}

static void published(struct worker *w)
{
    if (uv_is_active((uv_handle_t *)&w->gathering))
        watch_hub_look(w->hub);
    else
        tell_watchers(w);
    if (!list_is_empty(&w->held))
        worker_wake(w);
}

void worker_publish(struct worker *w)
{
    if (w->node->threads == NULL)
        published(w);
    else if (!atomic_exchange(&w->published, true))
        uv_async_send(&w->wakeup);
}

static void on_wakeup(uv_async_t *a)
{
    struct worker *w = a->data;
    mpsc_begin(&w->answers);
    struct mpsc_node *it;
    while ((it = mpsc_pop(&w->answers)) != NULL)
        take_answer(w, CONTAINER_OF(it, struct request, node));
    if (atomic_exchange(&w->published, false))
        published(w);
}

/* --- answers --- */

void worker_fail(struct grpc_call *call, int err)
{
    grpc_finish(call, tv_err_code(err), tv_err_text(err));
}

struct wire_header worker_header(const struct worker *w, int64_t revision)
{
    struct core_status s;
    core_status(w->node->core, &s);
    return (struct wire_header){.cluster_id = w->node->cluster_id,
                                .member_id = w->node->member_id,
                                .revision = revision,
                                .raft_term = s.term};
}

bool worker_lacks_leader(struct worker *w, struct grpc_call *call)
{
    struct core_status s;
    core_status(w->node->core, &s);
    return s.leader == 0 &&
           slice_equal(grpc_call_metadata(call, "hasleader"), SLICE_LITERAL("true"));
}

/* --- reads --- */

void worker_read_free(struct read *r)
{
    list_remove(&r->link);
    if (slow_is(r->worker, r->begun_ms))
        slow_read(r->worker, r->call, r);
    if (r->call != NULL)
        grpc_call_set_user(r->call, NULL);
    if (r->state != NULL)
        r->state_free(r->state);
    mem_free(r);
}

static void on_barrier(struct worker *w, struct request *req);

static void ask_barrier(struct worker *w)
{
    if (w->barrier_under_way || list_is_empty(&w->reads_next))
        return;
    list_splice_back(&w->reads_asked, &w->reads_next);
    w->barrier_under_way = true;
    worker_post(w, worker_request(w, REQUEST_READ_BARRIER, NULL, on_barrier));
}

static void on_barrier(struct worker *w, struct request *req)
{
    int err = req->err;
    worker_request_free(w, req);
    w->barrier_under_way = false;
    struct list ready;
    list_init(&ready);
    list_splice_back(&ready, &w->reads_asked);
    ask_barrier(w);
    while (!list_is_empty(&ready)) {
        struct read *r = CONTAINER_OF(ready.next, struct read, link);
        list_remove(&r->link);
        if (err == 0) {
            r->serve(r);
        } else {
            struct grpc_call *call = r->call;
            worker_read_free(r);
            worker_fail(call, err);
        }
    }
}

/* What the user pointer of a call refers to, so that its end can be told apart. */
void worker_call_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)code;
    (void)text;
    struct call_tie *tie = grpc_call_user(call);
    if (tie != NULL)
        tie->closed(tie);
}

static void on_read_call_closed(struct call_tie *tie)
{
    struct read *r = CONTAINER_OF(tie, struct read, tie);
    r->call = NULL;
    worker_read_free(r);
}

void worker_read(struct worker *w, struct grpc_call *call, struct slice msg, bool linearizable,
                 void (*serve)(struct read *r))
{
    struct read *r = mem_alloc(sizeof(*r) + msg.size);
    *r = (struct read){
        .worker = w, .call = call, .serve = serve, .begun_ms = slow_now(w), .msg_size = msg.size};
    r->tie.closed = on_read_call_closed;
    if (msg.size > 0)
        memcpy(r->msg, msg.data, msg.size);
    list_init(&r->link);
    grpc_call_set_user(call, &r->tie);
    if (!linearizable) {
        serve(r);
        return;
    }
    list_push_back(&w->reads_next, &r->link);
    ask_barrier(w);
}

void worker_read_again(struct read *r)
{
    list_remove(&r->link);
    list_push_back(&r->worker->reads_slow, &r->link);
    worker_wake(r->worker);
}

static void on_idle(uv_idle_t *idle)
{
    struct worker *w = idle->data;
    /* Those that are not through go to the end of the row. */
    for (int i = 0; i < READS_PER_TURN_MAX && !list_is_empty(&w->reads_slow); i++) {
        struct read *r = CONTAINER_OF(w->reads_slow.next, struct read, link);
        list_remove(&r->link);
        r->serve(r);
    }
    if (w->watch_work)
        w->watch_work = watch_hub_work(w->hub);
    if (!list_is_empty(&w->held))
        service_release_held(w);
    if (list_is_empty(&w->reads_slow) && !w->watch_work)
        uv_idle_stop(idle);
}

void worker_wake(struct worker *w)
{
    if (!uv_is_active((uv_handle_t *)&w->idle))
        uv_idle_start(&w->idle, on_idle);
}

/* --- life --- */

static uint64_t hub_term(void *ctx)
{
    struct worker *w = ctx;
    struct core_status s;
    core_status(w->node->core, &s);
    return s.term;
}

static void hub_wake(void *ctx)
{
    struct worker *w = ctx;
    w->watch_work = true;
    worker_wake(w);
}

void worker_init(struct worker *w, struct node *node, uv_loop_t *loop)
{
    *w = (struct worker){.node = node, .loop = loop};
    w->meters.metadata_size = UINT32_MAX; /* none yet */
    w->top = top_new();
    w->top_countdown = top_next_sample(w->top);
    list_init(&w->requests_free);
    list_init(&w->reads_asked);
    list_init(&w->reads_next);
    list_init(&w->reads_slow);
    list_init(&w->held);
    list_init(&w->passwords);
    list_init(&w->snapshots);
    buf_init(&w->scratch, SIZE_MAX);
    buf_init(&w->caller, SIZE_MAX);
    arena_init(&w->arena);
    mpsc_init(&w->answers);
    uv_async_init(loop, &w->wakeup, on_wakeup);
    uv_idle_init(loop, &w->idle);
    uv_timer_init(loop, &w->gathering);
    w->wakeup.data = w;
    w->idle.data = w;
    w->gathering.data = w;
    w->reader = epoch_register(mvcc_epoch(node->mvcc));
    ASSERT(w->reader != NULL);
    struct watch_hub_options o = {
        .mvcc = node->mvcc,
        .reader = w->reader,
        .cluster_id = node->cluster_id,
        .member_id = node->member_id,
        .term = hub_term,
        .wake = hub_wake,
        .ctx = w,
        /* etcd cuts fragments at the request limit and half a megabyte of gRPC's own. */
        .response_bytes_max = node->config->max_request_bytes + (512 << 10),
        .progress_interval_ms = node->config->watch_progress_interval_ms,
        .permit = service_permit_watch,
        .meters = &w->meters.watch,
    };
    w->hub = watch_hub_new(&o);
}

void worker_drop_answers(struct worker *w)
{
    mpsc_begin(&w->answers);
    struct mpsc_node *it;
    while ((it = mpsc_pop(&w->answers)) != NULL) {
        struct request *req = CONTAINER_OF(it, struct request, node);
        req->answered(w, req);
    }
}

void worker_fini(struct worker *w)
{
    uv_timer_stop(&w->gathering);
    watch_hub_free(w->hub);
    top_free(w->top);
    epoch_unregister(w->reader);
    LIST_EACH_SAFE (it, after, &w->requests_free)
        mem_free(CONTAINER_OF(it, struct request, link));
    buf_fini(&w->scratch);
    buf_fini(&w->caller);
    arena_fini(&w->arena);
}

static bool top_is_wanted(const struct worker *w, uint64_t now_ms)
{
    uint64_t asked_ms = atomic_load_explicit(&w->node->top_wanted_ms, memory_order_relaxed);
    return asked_ms != 0 && now_ms < asked_ms + TOP_WANTED_MS;
}

void worker_tick(struct worker *w, uint64_t now_ms)
{
    struct core_status s;
    core_status(w->node->core, &s);
    if (s.leader != 0)
        w->leader_lost_ms = 0;
    else if (w->leader_lost_ms == 0)
        w->leader_lost_ms = now_ms;
    uint64_t patience_ms = LEADER_LOST_ELECTIONS * w->node->config->election_ms;
    bool lost = w->leader_lost_ms != 0 && now_ms - w->leader_lost_ms > patience_ms;
    watch_hub_tick(w->hub, now_ms, lost);
    if (!list_is_empty(&w->held))
        worker_wake(w);
    maintenance_snapshot_tick(w);
    tracer_tick(w->tracer, now_ms);
    top_tick(w->top, worker_now_ns(w), top_is_wanted(w, now_ms));
}
