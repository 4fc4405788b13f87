/* The leader's end of a snapshot.
 *
 * One transfer: a piece is read and sealed in the pool, then handed to the transport, and the next
 * one is begun while less than the window waits to be sent. */
#include "server/snapshot_internal.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/peerwire.h"

enum { NO_ROOM_REST_MS = 5000 }; /* each attempt fills what is left of the other's disk */

struct outgoing {
    struct list link;
    struct snapshots *owner; /* NULL: only the job's end is waited for */
    uint64_t to;
    struct grpc_channel *channel;
    struct grpc_call *call; /* NULL: closed */
    struct lsm_meta meta;
    uint64_t log_index; /* of the snapshot; the log behind it is held */
    uint64_t progress_ms;
    uint64_t began_ms;
    uint64_t done_index;    /* from SNAP_DONE */
    bool ended;             /* all is handed to the transport */
    uint64_t rest_until_ms; /* the failure is not told before: raft would ask again at once */

    struct pool_job job;
    /* The job's while it is pending. */
    struct lsm_copy *copy;
    EVP_MD_CTX *sha;
    struct buf piece;
    struct peerwire_snap_end totals;
    bool at_end;
    int err;
};

/* --- the pool's side --- */

static void make_piece(uv_work_t *work)
{
    struct outgoing *t = CONTAINER_OF(work, struct outgoing, job.work);
    snapshot__be_modest(&t->owner->o.meters->snapshot_pause);
    uint32_t records;
    buf_clear(&t->piece);
    (void)buf_reserve(&t->piece, PEERWIRE_SNAP_PIECE_HEAD_BYTES);
    t->piece.size = PEERWIRE_SNAP_PIECE_HEAD_BYTES;
    t->err = lsm_copy_next(t->copy, SNAPSHOT_PIECE_BYTES, &t->piece, &records);
    t->at_end = records == 0;
    if (t->err == 0 && !t->at_end) {
        size_t size = t->piece.size - PEERWIRE_SNAP_PIECE_HEAD_BYTES;
        struct peerwire_snap_piece head = {
            .number = t->totals.pieces_count,
            .records_count = records,
            .bytes = slice_of(t->piece.data + PEERWIRE_SNAP_PIECE_HEAD_BYTES, size)};
        peerwire_snap_piece_seal(t->piece.data, &head);
        snapshot__sha_add(t->sha, buf_slice(&t->piece));
        t->totals.pieces_count++;
        t->totals.records_count += records;
        t->totals.bytes_count += size;
    }
    pool_job_finish(&t->job);
}

/* --- the loop's side --- */

static void outgoing_free(struct outgoing *t)
{
    lsm_copy_close(t->copy);
    EVP_MD_CTX_free(t->sha);
    buf_fini(&t->piece);
    pool_job_fini(&t->job);
    mem_free(t);
}

static void hold_log(struct snapshots *s)
{
    uint64_t lowest = UINT64_MAX;
    LIST_EACH (it, &s->sending) {
        const struct outgoing *t = CONTAINER_OF(it, struct outgoing, link);
        if (t->log_index < lowest)
            lowest = t->log_index;
    }
    s->o.hold_log(s->o.ctx, lowest);
}

static void on_piece(uv_work_t *work, int status);

static void pump(struct outgoing *t)
{
    if (t->job.pending || t->ended || t->call == NULL ||
        grpc_call_queued_bytes(t->call) > SNAPSHOT_WINDOW_BYTES)
        return;
    pool_job_start(&t->job, t->owner->o.uv, make_piece, on_piece);
}

static void send_end(struct outgoing *t)
{
    uint8_t frame[PEERWIRE_SNAP_END_BYTES];
    snapshot__sha_end(t->sha, t->totals.hash);
    (void)peerwire_snap_end_put(frame, &t->totals);
    (void)grpc_send(t->call, &(struct slice){frame, sizeof(frame)}, 1);
    grpc_half_close(t->call);
    t->ended = true;
}

static void on_piece(uv_work_t *work, int status)
{
    struct outgoing *t = CONTAINER_OF(work, struct outgoing, job.work);
    (void)status;
    pool_job_ended(&t->job);
    if (t->owner == NULL) {
        outgoing_free(t);
        return;
    }
    if (t->call == NULL)
        return; /* the next tick cleans up */
    t->progress_ms = t->owner->now_ms;
    if (t->err == TV_ECORRUPT) {
        t->owner->o.damaged(t->owner->o.ctx, lsm_copy_error(t->copy));
        tv_fatal("the store cannot be read: %s", lsm_copy_error(t->copy));
    } else if (t->err != 0) {
        log_error("cannot read the store for a snapshot", LOG_HEX("remote-peer-id", t->to),
                  LOG_STR("error", tv_err_text(t->err)));
        grpc_cancel(t->call);
    } else if (t->at_end) {
        send_end(t);
    } else {
        t->owner->stats.sent_bytes += t->piece.size;
        struct slice frame = buf_slice(&t->piece);
        if (grpc_send(t->call, &frame, 1) == 0)
            pump(t);
    }
}

static void on_writable(struct grpc_call *call)
{
    struct outgoing *t = grpc_call_user(call);
    t->progress_ms = t->owner->now_ms;
    pump(t);
}

static void on_message(struct grpc_call *call, struct slice msg)
{
    struct outgoing *t = grpc_call_user(call);
    uint64_t log_index;
    if (peerwire_snap_done_decode(msg, &log_index) == 0 && log_index == t->log_index)
        t->done_index = log_index;
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct outgoing *t = grpc_call_user(call);
    t->call = NULL;
    if (code == GRPC_RESOURCE_EXHAUSTED && t->owner != NULL)
        t->rest_until_ms = t->owner->now_ms + NO_ROOM_REST_MS;
    if (t->done_index != 0 || t->owner == NULL)
        return;
    log_warn("a snapshot did not get through", LOG_HEX("remote-peer-id", t->to),
             LOG_UINT("index", t->log_index), LOG_INT("code", code), LOG_SLICE("error", text));
}

static const struct grpc_call_ops send_ops = {
    .message = on_message, .writable = on_writable, .closed = on_closed};

static struct grpc_channel *channel_to(struct snapshots *s, const struct cluster_member *m)
{
    const char *addresses[CLUSTER_URLS_MAX];
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.addresses = addresses;
    o.addresses_count = cluster_member_addresses(m, addresses);
    o.tls = s->o.tls;
    o.local_host = s->o.local_host;
    o.connect_timeout_ms = s->o.election_ms;
    /* A follower that is installing answers nothing for a while. */
    o.keepalive_time_ms = SNAPSHOT_STALL_MS;
    o.keepalive_timeout_ms = SNAPSHOT_STALL_MS;
    return grpc_channel_new(s->o.loop, &o);
}

static void send_beginning(struct outgoing *t)
{
    struct snapshots *s = t->owner;
    uint8_t hello[PEERWIRE_HELLO_BYTES], head[PEERWIRE_SNAP_HEAD_BYTES];
    peerwire_hello_put(hello, &(struct peerwire_hello){.version = PEERWIRE_VERSION,
                                                       .cluster_id = s->o.cluster->id,
                                                       .from = s->o.member_id,
                                                       .to = t->to});
    const struct lsm_meta *m = &t->meta;
    struct peerwire_snap_head h = {.log_index = m->applied_index,
                                   .term = m->applied_term,
                                   .revision = m->revision,
                                   .compacted = m->compacted,
                                   .content_sum = m->content.sum,
                                   .content_compacted = m->content.compacted,
                                   .chain = m->chain};
    (void)peerwire_snap_head_put(head, &h);
    snapshot__sha_add(t->sha, slice_of(hello, sizeof(hello)));
    snapshot__sha_add(t->sha, slice_of(head, sizeof(head)));
    t->call = grpc_start(t->channel, &(struct grpc_start_options){
                                         .path = SNAPSHOT_PATH, .ops = &send_ops, .user = t});
    (void)grpc_send(t->call, &(struct slice){hello, sizeof(hello)}, 1);
    (void)grpc_send(t->call, &(struct slice){head, sizeof(head)}, 1);
}

static struct outgoing *outgoing_new(struct snapshots *s, const struct cluster_member *m)
{
    struct outgoing *t = mem_alloc_zero(sizeof(*t));
    *t = (struct outgoing){.owner = s, .to = m->id, .progress_ms = s->now_ms};
    t->began_ms = s->now_ms;
    pool_job_init(&t->job);
    buf_init(&t->piece, SIZE_MAX);
    t->sha = EVP_MD_CTX_new();
    ASSERT(t->sha != NULL && EVP_DigestInit_ex(t->sha, EVP_sha256(), NULL) == 1);
    list_push_back(&s->sending, &t->link);
    metric_set(&peers_meters_of(s->o.meters, t->to)->snapshots_sending, 1);
    int err = lsm_copy_open(s->o.store(s->o.ctx), s->o.self_name, &t->copy, &t->meta);
    if (err == 0 && t->meta.applied_index == 0)
        err = TV_ENOTFOUND; /* identities alone */
    if (err == 0 && (t->channel = channel_to(s, m)) == NULL)
        err = TV_EINVAL;
    t->log_index = err == 0 ? t->meta.applied_index : UINT64_MAX;
    if (err == TV_ENOTFOUND) {
        log_info("the store has no commit yet that could be sent",
                 LOG_HEX("remote-peer-id", m->id));
        return t;
    }
    if (err != 0) {
        log_error("cannot begin a snapshot", LOG_HEX("remote-peer-id", m->id),
                  LOG_STR("error", tv_err_text(err)));
        return t; /* without a call: the next tick reports it */
    }
    send_beginning(t);
    return t;
}

void snapshots_send(struct snapshots *s, uint64_t id)
{
    const struct cluster_member *m = cluster_find(s->o.cluster, id);
    if (m == NULL)
        return; /* removed: raft asks for nobody else */
    struct outgoing *t = outgoing_new(s, m);
    hold_log(s);
    if (t->call == NULL)
        return;
    log_info("sending a snapshot", LOG_HEX("remote-peer-id", id), LOG_UINT("index", t->log_index),
             LOG_UINT("term", t->meta.applied_term), LOG_INT("revision", t->meta.revision));
    pump(t);
}

/* --- the end --- */

static void outgoing_report(struct snapshots *s, struct outgoing *t)
{
    struct peer_meters *m = peers_meters_of(s->o.meters, t->to);
    metric_set(&m->snapshots_sending, 0);
    if (t->done_index == 0) {
        metric_add(&m->snapshots_send_failures, 1);
        s->stats.send_failures++;
        s->o.failed(s->o.ctx, t->to);
        return;
    }
    s->stats.sent++;
    metric_add(&m->snapshots_sent, 1);
    metric_observe(&m->snapshot_send, METER_SNAPSHOT_TRANSFER_SCALE,
                   (s->now_ms - t->began_ms) * UINT64_C(1000000));
    log_info("sent a snapshot", LOG_HEX("remote-peer-id", t->to), LOG_UINT("index", t->log_index),
             LOG_UINT("records", t->totals.records_count), LOG_UINT("bytes", t->totals.bytes_count),
             LOG_UINT("took-ms", s->now_ms - t->began_ms));
    s->o.sent(s->o.ctx, t->to, t->done_index);
}

/* Everything but what the job may still use. */
static void outgoing_close(struct outgoing *t)
{
    list_remove(&t->link);
    if (t->channel != NULL)
        grpc_channel_close(t->channel);
    t->owner = NULL;
    pool_job_wait(&t->job);
    lsm_copy_close(t->copy);
    t->copy = NULL;
    if (!t->job.pending)
        outgoing_free(t);
}

void snapshot__send_tick(struct snapshots *s, bool leading)
{
    bool changed = false;
    LIST_EACH_SAFE (it, after, &s->sending) {
        struct outgoing *t = CONTAINER_OF(it, struct outgoing, link);
        /* The other end takes its time to make the last of it durable. */
        uint64_t patience_ms = t->ended ? 4 * SNAPSHOT_STALL_MS : SNAPSHOT_STALL_MS;
        bool stalled = s->now_ms > t->progress_ms + patience_ms;
        if (t->call != NULL && (!leading || stalled))
            grpc_cancel(t->call);
        if (t->call != NULL || t->job.pending || (leading && s->now_ms < t->rest_until_ms))
            continue;
        outgoing_report(s, t);
        outgoing_close(t);
        changed = true;
    }
    if (changed)
        hold_log(s);
}

void snapshot__send_stop(struct snapshots *s)
{
    LIST_EACH_SAFE (it, after, &s->sending)
        outgoing_close(CONTAINER_OF(it, struct outgoing, link));
}

void snapshots_stop_sending(struct snapshots *s)
{
    LIST_EACH_SAFE (it, after, &s->sending) {
        struct outgoing *t = CONTAINER_OF(it, struct outgoing, link);
        uint64_t to = t->to;
        outgoing_close(t);
        s->stats.send_failures++;
        s->o.failed(s->o.ctx, to);
    }
    hold_log(s);
}
