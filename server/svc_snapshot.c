/* etcdserverpb.Maintenance/Snapshot and Hash: both walk over a copy of the store, in libuv's pool.
 *
 * A snapshot goes to the client in pieces: the pool makes one, the loop sends it as messages of the
 * size that etcd's have, and when the client has taken most of it, the next one is made. */
#include "server/services.h"

#include "server/node.h"
#include "server/repair.h"
#include "server/snapfile.h"
#include "server/snapshot_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    BLOB_BYTES = 32 << 10,   /* of a message, as etcd's */
    PIECE_BYTES = 256 << 10, /* of records, or of the file */
    SHA256_BYTES = 32,
    SNAPSHOTS_MAX = 8, /* of a worker; one more is refused */
    STALL_MS = 300000, /* a client that takes nothing for so long */
};

struct walk {
    struct call_tie tie;
    struct list link;
    struct worker *worker;
    struct grpc_call *call; /* NULL: it ended */
    struct snapfile *file;
    bool want_hash; /* alone: for Hash */
    uint64_t sent_bytes;
    uint64_t began_ms;
    uint64_t progress_ms;
    struct pool_job job;
    /* The job's while it is pending. */
    struct buf out;
    EVP_MD_CTX *sha;
    bool at_end;
    int err;
};

static uint64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

/* The worker may be gone before the last piece is back from the pool. */
static void leave_worker(struct walk *k)
{
    if (!list_is_linked(&k->link))
        return;
    list_remove(&k->link);
    k->worker->snapshots_count--;
}

static void walk_free(struct walk *k)
{
    leave_worker(k);
    snapfile_close(k->file);
    EVP_MD_CTX_free(k->sha);
    buf_fini(&k->out);
    pool_job_fini(&k->job);
    mem_free(k);
}

/* The call has been finished. */
static void walk_ended(struct walk *k)
{
    ASSERT(!k->job.pending);
    grpc_call_set_user(k->call, NULL);
    walk_free(k);
}

static void walk_failed(struct walk *k, int err)
{
    if (err == TV_ECORRUPT) {
        repair_mark(k->worker->node->config->data_dir, snapfile_error(k->file));
        tv_fatal("the store cannot be read: %s", snapfile_error(k->file));
    }
    if (err == TV_EBUSY)
        err = TV_TOO_MANY_REQUESTS;
    else if (err == TV_ECLOSED)
        err = TV_EAGAIN; /* another member's snapshot took the store's place */
    worker_fail(k->call, err);
    walk_ended(k);
}

/* --- the pool's side --- */

/* The first walk may be made of many pieces of which nothing comes out. */
static void make_piece(uv_work_t *work)
{
    struct walk *k = CONTAINER_OF(work, struct walk, job.work);
    snapshot__be_modest(&k->worker->meters.snapshot_pause);
    buf_clear(&k->out);
    do {
        k->err = snapfile_read(k->file, PIECE_BYTES, &k->out, &k->at_end);
    } while (k->err == 0 && !k->at_end && k->out.size < BLOB_BYTES && snapfile_bytes(k->file) != 0);
    if (k->err == 0)
        snapshot__sha_add(k->sha, buf_slice(&k->out));
    pool_job_finish(&k->job);
}

/* --- the loop's side --- */

static void on_piece(uv_work_t *work, int status);

static void go_on(struct walk *k)
{
    if (!k->job.pending && grpc_call_queued_bytes(k->call) <= PIECE_BYTES)
        pool_job_start(&k->job, k->worker->loop, make_piece, on_piece);
}

/* SnapshotResponse: 2 remaining_bytes, 3 blob, 4 version; etcd's has no header. */
static int send_blob(struct walk *k, uint64_t remaining, struct slice blob)
{
    uint8_t head[32], tail[32], *p = wire_uint_put(head, 2, remaining);
    p = wire_item_put_head(p, 3, blob.size);
    struct slice first = slice_of(head, (size_t)(p - head));
    p = wire_bytes_put(tail, 4, slice_of_string(snapfile_version(k->file)));
    struct slice last = slice_of(tail, (size_t)(p - tail));
    return grpc_send(k->call, (struct slice[]){first, blob, last}, 3);
}

static int send_piece(struct walk *k)
{
    struct slice left = buf_slice(&k->out);
    int err = 0;
    while (left.size > 0 && err == 0) {
        size_t size = left.size < BLOB_BYTES ? left.size : BLOB_BYTES;
        k->sent_bytes += size;
        err = send_blob(k, snapfile_bytes(k->file) - k->sent_bytes, slice_of(left.data, size));
        left = slice_of(left.data + size, left.size - size);
    }
    return err;
}

static void send_end(struct walk *k)
{
    uint8_t hash[SHA256_BYTES];
    ASSERT(k->sent_bytes == snapfile_bytes(k->file));
    snapshot__sha_end(k->sha, hash);
    (void)send_blob(k, 0, slice_of(hash, sizeof(hash)));
    log_info("sent a snapshot to a client", LOG_UINT("bytes", k->sent_bytes),
             LOG_INT("revision", snapfile_revision(k->file)),
             LOG_UINT("took-ms", now_ms() - k->began_ms));
    grpc_finish(k->call, GRPC_OK, NULL);
    walk_ended(k);
}

/* HashResponse: 1 header, 2 hash. */
static void send_hash(struct walk *k)
{
    struct wire_header h = worker_header(k->worker, snapfile_revision(k->file));
    uint8_t answer[96], *p = wire_header_put(answer, &h);
    p = wire_uint_put(p, 2, snapfile_hash(k->file));
    (void)grpc_reply(k->call, &(struct slice){answer, (size_t)(p - answer)}, 1);
    walk_ended(k);
}

static void on_piece(uv_work_t *work, int status)
{
    struct walk *k = CONTAINER_OF(work, struct walk, job.work);
    (void)status;
    pool_job_ended(&k->job);
    if (k->call == NULL) {
        walk_free(k);
        return;
    }
    if (k->err != 0) {
        walk_failed(k, k->err);
        return;
    }
    k->progress_ms = now_ms();
    if (k->want_hash && snapfile_bytes(k->file) != 0)
        send_hash(k);
    else if (send_piece(k) != 0)
        return; /* the call is ending */
    else if (k->at_end)
        send_end(k);
    else
        go_on(k);
}

static void on_walk_call_closed(struct call_tie *tie)
{
    struct walk *k = CONTAINER_OF(tie, struct walk, tie);
    k->call = NULL;
    leave_worker(k);
    if (!k->job.pending)
        walk_free(k);
}

/* The call may still be tied to its request. */
static void on_snapshot_writable(struct grpc_call *call)
{
    struct call_tie *tie = grpc_call_user(call);
    if (tie == NULL || tie->closed != on_walk_call_closed)
        return;
    struct walk *k = CONTAINER_OF(tie, struct walk, tie);
    k->progress_ms = now_ms();
    go_on(k);
}

static void walk_begin(struct worker *w, struct grpc_call *call, struct snapfile *file,
                       bool want_hash)
{
    struct walk *k = mem_alloc_zero(sizeof(*k));
    *k = (struct walk){.worker = w, .call = call, .file = file, .want_hash = want_hash};
    k->tie.closed = on_walk_call_closed;
    k->began_ms = k->progress_ms = now_ms();
    buf_init(&k->out, SIZE_MAX);
    pool_job_init(&k->job);
    k->sha = EVP_MD_CTX_new();
    if (k->sha == NULL || EVP_DigestInit_ex(k->sha, EVP_sha256(), NULL) != 1)
        tv_fatal("SHA-256 is not available in this machine's OpenSSL");
    list_push_back(&w->snapshots, &k->link);
    w->snapshots_count++;
    grpc_call_set_user(call, &k->tie);
    go_on(k);
}

/* --- calls --- */

static void on_copy(struct worker *w, struct request *req)
{
    struct grpc_call *call = req->call;
    struct snapfile *file = req->copy;
    int err = req->err;
    bool want_hash = req->user != NULL;
    worker_request_free(w, req);
    if (call == NULL) {
        snapfile_close(file);
        return;
    }
    grpc_call_set_user(call, NULL);
    if (err == 0 && w->snapshots_count >= SNAPSHOTS_MAX) {
        snapfile_close(file);
        err = TV_TOO_MANY_REQUESTS;
    }
    if (err != 0)
        worker_fail(call, err);
    else
        walk_begin(w, call, file, want_hash);
}

/* As in etcd a learner answers too, and a member that knows of no leader. */
static void ask_copy(struct grpc_call *call, struct slice msg, bool want_hash)
{
    struct worker *w = service_worker(call);
    if (!service_is_well_formed(call, msg) || service_lacks_leader(call))
        return;
    struct request *req = worker_request(w, REQUEST_COPY, call, on_copy);
    req->user = want_hash ? w : NULL;
    service_tie(call, req);
    worker_post(w, req);
}

static void on_snapshot(struct grpc_call *call, struct slice msg)
{
    if (!service_lacks_root(call))
        ask_copy(call, msg, false);
}

static void on_hash(struct grpc_call *call, struct slice msg)
{
    if (!service_refused(call) &&
        !service_lacks_root(call)) /* a learner's Hash is refused, its Snapshot not */
        ask_copy(call, msg, true);
}

const struct grpc_call_ops maintenance_snapshot_ops = {
    .message = on_snapshot, .writable = on_snapshot_writable, .closed = worker_call_closed};
const struct grpc_call_ops maintenance_hash_ops = {.message = on_hash,
                                                   .closed = worker_call_closed};

void maintenance_snapshot_tick(struct worker *w)
{
    LIST_EACH_SAFE (it, after, &w->snapshots) {
        struct walk *k = CONTAINER_OF(it, struct walk, link);
        if (k->job.pending || k->call == NULL || now_ms() < k->progress_ms + STALL_MS)
            continue;
        log_warn("a client does not read its snapshot: the stream is ended",
                 LOG_UINT("sent-bytes", k->sent_bytes));
        walk_failed(k, TV_TIMEOUT);
    }
}
