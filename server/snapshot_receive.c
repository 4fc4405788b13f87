/* The follower's end of a snapshot.
 *
 * Frames are queued as they come and taken in order by a job in the pool, which verifies them and
 * fills a database in the incoming folder. When the end has been compared and the database is
 * durable, the loop installs it. Whatever goes wrong before ends the call, and the folder goes. */
#include "base/folder.h"
#include "server/snapshot_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/peerwire.h"

#include <stdio.h>

struct frame {
    struct list link;
    size_t size;
    uint8_t data[];
};

struct incoming {
    struct snapshots *owner; /* NULL: only the job's end is waited for */
    struct grpc_call *call;  /* NULL: closed */
    uint64_t from;           /* 0 until the handshake */
    bool has_head;
    bool end_came;
    bool done; /* installed, or not wanted */
    uint64_t progress_ms;
    uint64_t began_ms;
    struct list frames;
    uint32_t frames_count;

    struct pool_job job;
    /* The job's while it is pending. */
    struct list working;
    struct lsm_meta meta;
    struct lsm_intake *intake;
    struct persist_meta *own_metas;
    EVP_MD_CTX *sha;
    struct peerwire_snap_end totals;
    bool whole; /* verified and durable */
    int err;
    char err_text[256];
};

/* --- the pool's side --- */

static int fail(struct incoming *t, int err, const char *text)
{
    (void)snprintf(t->err_text, sizeof(t->err_text), "%s", text);
    return err;
}

static int take_piece(struct incoming *t, struct slice frame)
{
    struct peerwire_snap_piece piece;
    if (peerwire_snap_piece_decode(frame, &piece) != 0)
        return fail(t, TV_EMALFORMED, "a piece is damaged");
    if (piece.number != t->totals.pieces_count)
        return fail(t, TV_EMALFORMED, "a piece is missing");
    snapshot__sha_add(t->sha, frame);
    t->totals.pieces_count++;
    t->totals.records_count += piece.records_count;
    t->totals.bytes_count += piece.bytes.size;
    int err = lsm_intake_add(t->intake, piece.bytes);
    return err == 0 ? 0 : fail(t, err, err == TV_ENOSPC ? tv_err_text(err) : "a record is damaged");
}

static int take_end(struct incoming *t, struct slice frame)
{
    struct peerwire_snap_end end;
    if (peerwire_snap_end_decode(frame, &end) != 0)
        return fail(t, TV_EMALFORMED, "the end is damaged");
    snapshot__sha_end(t->sha, t->totals.hash);
    if (end.pieces_count != t->totals.pieces_count ||
        end.records_count != t->totals.records_count || end.bytes_count != t->totals.bytes_count ||
        memcmp(end.hash, t->totals.hash, sizeof(end.hash)) != 0)
        return fail(t, TV_ECORRUPT, "what came is not what was sent");
    uint64_t from_ns = clock_mono_ns();
    lsm_intake_commit(t->intake, t->own_metas);
    metric_observe(&t->owner->o.meters->snapshot_fsync, METER_FSYNC_SCALE,
                   clock_mono_ns() - from_ns);
    t->own_metas = NULL;
    t->whole = true;
    return 0;
}

static int take_frame(struct incoming *t, struct slice frame)
{
    if (t->whole)
        return fail(t, TV_EMALFORMED, "a message behind the end");
    switch (peerwire_kind(frame)) {
    case PEERWIRE_SNAP_PIECE:
        return take_piece(t, frame);
    case PEERWIRE_SNAP_END:
        return take_end(t, frame);
    default:
        return fail(t, TV_EMALFORMED, "unknown kind of message");
    }
}

static void work_frames(uv_work_t *work)
{
    struct incoming *t = CONTAINER_OF(work, struct incoming, job.work);
    snapshot__be_modest(&t->owner->o.meters->snapshot_pause);
    if (t->intake == NULL) {
        folder_remove(t->owner->incoming_dir);
        t->err = lsm_intake_open(t->owner->incoming_dir, &t->meta, &t->intake, t->err_text,
                                 sizeof(t->err_text));
    }
    LIST_EACH (it, &t->working) {
        const struct frame *f = CONTAINER_OF(it, struct frame, link);
        if (t->err == 0)
            t->err = take_frame(t, slice_of(f->data, f->size));
    }
    pool_job_finish(&t->job);
}

/* --- the loop's side --- */

static void drop_frames(struct list *frames)
{
    LIST_EACH_SAFE (it, after, frames) {
        list_remove(it);
        mem_free(CONTAINER_OF(it, struct frame, link));
    }
}

/* What the job used; it does not run. */
static void release(struct incoming *t)
{
    drop_frames(&t->frames);
    drop_frames(&t->working);
    lsm_intake_free(t->intake);
    t->intake = NULL;
    persist_metas_free(t->own_metas);
    t->own_metas = NULL;
    EVP_MD_CTX_free(t->sha);
    t->sha = NULL;
    if (t->owner != NULL && t->owner->incoming == t) {
        struct peer_meters *m = peers_meters_of(t->owner->o.meters, t->from);
        metric_set(&m->snapshots_receiving, 0);
        folder_remove(t->owner->incoming_dir);
        t->owner->incoming = NULL;
        if (!t->done) {
            metric_add(&m->snapshots_receive_failures, 1);
            t->owner->stats.receive_failures++;
        }
    }
}

static void incoming_free(struct incoming *t)
{
    release(t);
    pool_job_fini(&t->job);
    mem_free(t);
}

static void refuse(struct incoming *t, const char *why)
{
    log_warn("refused a snapshot", LOG_HEX("remote-peer-id", t->from),
             LOG_STR("remote", grpc_conn_peer(grpc_call_conn(t->call))), LOG_STR("error", why));
    grpc_finish(t->call, t->err == TV_ENOSPC ? GRPC_RESOURCE_EXHAUSTED : GRPC_FAILED_PRECONDITION,
                why);
}

static void answer_done(struct incoming *t)
{
    uint8_t frame[PEERWIRE_SNAP_DONE_BYTES];
    t->done = true;
    if (t->call == NULL)
        return; /* the leader will find out */
    (void)peerwire_snap_done_put(frame, t->meta.applied_index);
    (void)grpc_reply(t->call, &(struct slice){frame, sizeof(frame)}, 1);
}

static void install(struct incoming *t)
{
    struct snapshots *s = t->owner;
    struct peer_meters *m = peers_meters_of(s->o.meters, t->from);
    uint64_t took_ns = (s->now_ms - t->began_ms) * UINT64_C(1000000);
    metric_set(&s->o.meters->snapshots_installing, 1);
    int err = s->o.install(s->o.ctx, t->intake);
    metric_set(&s->o.meters->snapshots_installing, 0);
    if (err == 0) {
        metric_add(&m->snapshots_received, 1);
        metric_observe(&m->snapshot_receive, METER_SNAPSHOT_TRANSFER_SCALE, took_ns);
        metric_observe(&s->o.meters->snapshot_save, METER_SNAPSHOT_TRANSFER_SCALE, took_ns);
        s->stats.installed++;
        log_info("installed a snapshot", LOG_HEX("remote-peer-id", t->from),
                 LOG_UINT("index", t->meta.applied_index), LOG_INT("revision", t->meta.revision),
                 LOG_UINT("records", t->totals.records_count),
                 LOG_UINT("took-ms", s->now_ms - t->began_ms));
    }
    if (err == 0 || err == TV_EEXIST)
        answer_done(t);
    else if (t->call != NULL)
        refuse(t, tv_err_text(err));
}

static void on_worked(uv_work_t *work, int status);

static void work(struct incoming *t)
{
    if (t->job.pending || t->err != 0 || t->done || list_is_empty(&t->frames))
        return;
    list_splice_back(&t->working, &t->frames);
    t->frames_count = 0;
    pool_job_start(&t->job, t->owner->o.uv, work_frames, on_worked);
}

static void on_worked(uv_work_t *w, int status)
{
    struct incoming *t = CONTAINER_OF(w, struct incoming, job.work);
    (void)status;
    pool_job_ended(&t->job);
    drop_frames(&t->working);
    if (t->owner != NULL && t->whole && t->err == 0)
        install(t); /* also when the leader has gone meanwhile: it is verified */
    if (t->owner == NULL || t->call == NULL) {
        incoming_free(t);
        return;
    }
    t->progress_ms = t->owner->now_ms;
    if (t->err != 0) {
        refuse(t, t->err_text);
        return;
    }
    grpc_call_resume_reading(t->call);
    work(t);
}

/* --- what comes --- */

static void on_hello(struct incoming *t, struct slice msg)
{
    const struct snapshots *s = t->owner;
    struct peerwire_hello h;
    if (peerwire_hello_decode(msg, &h) != 0)
        refuse(t, "the first message is no handshake");
    else if (h.version != PEERWIRE_VERSION)
        refuse(t, "the peer speaks another version of the protocol");
    else if (h.cluster_id != s->o.cluster->id)
        refuse(t, "cluster ID mismatch");
    else if (h.to != s->o.member_id)
        refuse(t, "the peer looks for another member");
    else if (h.from == s->o.member_id || cluster_was_removed(s->o.cluster, h.from))
        refuse(t, "the peer is not a member of the cluster");
    else {
        t->from = h.from;
        snapshot__sha_add(t->sha, msg);
    }
}

static void on_head(struct incoming *t, struct slice msg)
{
    struct snapshots *s = t->owner;
    struct peerwire_snap_head h;
    if (peerwire_snap_head_decode(msg, &h) != 0) {
        refuse(t, "the head is damaged");
        return;
    }
    t->meta = (struct lsm_meta){.applied_index = h.log_index,
                                .applied_term = h.term,
                                .revision = h.revision,
                                .compacted = h.compacted,
                                .content = {.sum = h.content_sum, .compacted = h.content_compacted},
                                .chain = h.chain};
    t->has_head = true;
    if (!s->o.is_wanted(s->o.ctx, h.log_index, h.term)) {
        answer_done(t);
        return;
    }
    if (s->incoming != NULL) {
        /* Of a leader that is none any more, or on a connection that is dead. */
        if (s->incoming->call != NULL)
            grpc_finish(s->incoming->call, GRPC_ABORTED, "another snapshot came");
        refuse(t, "another snapshot is coming in");
        return;
    }
    s->incoming = t;
    metric_set(&peers_meters_of(s->o.meters, t->from)->snapshots_receiving, 1);
    snapshot__sha_add(t->sha, msg);
    t->own_metas = s->o.own_metas(s->o.ctx, &t->meta);
    t->began_ms = t->progress_ms = s->now_ms;
    log_info("receiving a snapshot", LOG_HEX("remote-peer-id", t->from),
             LOG_UINT("index", h.log_index), LOG_UINT("term", h.term),
             LOG_INT("revision", h.revision));
}

static void on_message(struct grpc_call *call, struct slice msg)
{
    struct incoming *t = grpc_call_user(call);
    if (t->done || t->err != 0)
        return;
    if (t->from == 0) {
        on_hello(t, msg);
        return;
    }
    if (!t->has_head) {
        on_head(t, msg);
        return;
    }
    if (t->owner->incoming != t)
        return; /* refused */
    struct frame *f = mem_alloc(sizeof(*f) + msg.size);
    f->size = msg.size;
    memcpy(f->data, msg.data, msg.size);
    list_init(&f->link);
    list_push_back(&t->frames, &f->link);
    t->owner->stats.received_bytes += msg.size;
    t->progress_ms = t->owner->now_ms;
    t->end_came = t->end_came || peerwire_kind(msg) == PEERWIRE_SNAP_END;
    if (++t->frames_count >= SNAPSHOT_PIECES_MAX)
        grpc_call_pause_reading(call);
    work(t);
}

static void on_half_closed(struct grpc_call *call)
{
    struct incoming *t = grpc_call_user(call);
    if (!t->end_came && !t->done)
        refuse(t, "the snapshot has no end");
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct incoming *t = grpc_call_user(call);
    t->call = NULL;
    if (t->owner->incoming == t && !t->done)
        log_warn("a snapshot was cut off", LOG_HEX("remote-peer-id", t->from),
                 LOG_INT("code", code), LOG_SLICE("error", text));
    if (!t->job.pending)
        incoming_free(t);
}

void snapshot__receive_open(struct grpc_call *call, void *arg)
{
    struct snapshots *s = arg;
    struct incoming *t = mem_alloc_zero(sizeof(*t));
    t->owner = s;
    t->call = call;
    t->progress_ms = s->now_ms;
    list_init(&t->frames);
    list_init(&t->working);
    pool_job_init(&t->job);
    t->sha = EVP_MD_CTX_new();
    int rv = t->sha != NULL && EVP_DigestInit_ex(t->sha, EVP_sha256(), NULL);
    ASSERT(rv == 1);
    grpc_call_set_user(call, t);
}

const struct grpc_call_ops snapshot__receive_ops = {
    .message = on_message, .half_closed = on_half_closed, .closed = on_closed};

/* --- time, and the end --- */

void snapshot__receive_tick(struct snapshots *s)
{
    struct incoming *t = s->incoming;
    if (t != NULL && t->call != NULL && !t->job.pending &&
        s->now_ms > t->progress_ms + SNAPSHOT_STALL_MS)
        grpc_finish(t->call, GRPC_ABORTED, "no progress");
}

void snapshot__receive_stop(struct snapshots *s)
{
    struct incoming *t = s->incoming;
    if (t == NULL)
        return;
    ASSERT(t->call == NULL); /* the peers' server is gone */
    pool_job_wait(&t->job);
    release(t);
    t->owner = NULL; /* the job's callback frees the rest */
}
