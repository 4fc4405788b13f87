/* etcdserverpb.Maintenance/Downgrade and Defragment. */
#include "server/services.h"

#include "server/inner.h"
#include "server/node.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

/* --- Downgrade --- */

enum downgrade_action { DOWNGRADE_VALIDATE, DOWNGRADE_ENABLE, DOWNGRADE_CANCEL };

struct downgrade {
    struct inner inner;
    enum downgrade_action action;
    int64_t major;
    int64_t minor;
};

static void on_ended(struct inner *in)
{
    inner_release(in);
    mem_free(CONTAINER_OF(in, struct downgrade, inner));
}

static void end(struct downgrade *d, int err)
{
    struct grpc_call *call = d->inner.call;
    struct worker *w = d->inner.worker;
    inner_release(&d->inner);
    mem_free(d);
    if (err != 0) {
        worker_fail(call, err);
        return;
    }
    /* DowngradeResponse: 1 header, 2 version: the cluster's. */
    struct versions_now now;
    char text[VERSIONS_TEXT_BYTES];
    versions_now(&w->node->applier.versions, &now);
    versions_short_text(now.minor, text);
    struct wire_header h = worker_header(w, mvcc_revision(w->node->mvcc));
    uint8_t answer[128], *p = wire_header_put(answer, &h);
    p = wire_bytes_put(p, 2, slice_of_string(text));
    (void)grpc_reply(call, &(struct slice){answer, (size_t)(p - answer)}, 1);
}

static void on_set(struct inner *in, int err, struct slice reply)
{
    struct downgrade *d = CONTAINER_OF(in, struct downgrade, inner);
    (void)reply;
    end(d, d->action == DOWNGRADE_CANCEL ? 0 : err);
}

/* etcd's checks, against what this member knows after the barrier. */
static int check(const struct downgrade *d, const struct versions_now *now)
{
    if (d->major != VERSIONS_MAJOR || d->minor != (int64_t)now->minor - 1)
        return TV_INVALID_DOWNGRADE_TARGET;
    return now->downgrade ? TV_DOWNGRADE_IN_PROCESS : 0;
}

/* As in etcd, cancelling what is not under way is no error. */
static void on_barrier(struct inner *in, int err, struct slice reply)
{
    struct downgrade *d = CONTAINER_OF(in, struct downgrade, inner);
    struct versions_now now;
    uint8_t body[64];
    (void)reply;
    versions_now(&in->worker->node->applier.versions, &now);
    if (err == 0 && d->action != DOWNGRADE_CANCEL)
        err = check(d, &now);
    bool nothing_to_cancel = d->action == DOWNGRADE_CANCEL && !now.downgrade;
    if (err != 0 || d->action == DOWNGRADE_VALIDATE || nothing_to_cancel) {
        end(d, d->action == DOWNGRADE_CANCEL ? 0 : err);
        return;
    }
    size_t size = versions_put_downgrade_set(body, sizeof(body), d->action == DOWNGRADE_ENABLE,
                                             (uint16_t)d->minor);
    err = inner_propose(in, WIRE_RAFT_DOWNGRADE_INFO_SET, slice_of(body, size), on_set);
    if (err != 0)
        end(d, err);
}

/* DowngradeRequest: 1 action, 2 version. */
static void on_downgrade(struct grpc_call *call, struct slice msg)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    struct slice version = SLICE_EMPTY;
    uint64_t action = DOWNGRADE_VALIDATE;
    int64_t major = 0, minor = 0;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.number == 1 && f.type == WIRE_VARINT)
            action = f.value;
        else if (f.number == 2 && f.type == WIRE_BYTES)
            version = f.bytes;
    }
    if (rv != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call) || service_lacks_root(call))
        return;
    if (action > DOWNGRADE_CANCEL) {
        worker_fail(call, TV_UNKNOWN_METHOD);
        return;
    }
    if (action != DOWNGRADE_CANCEL && !versions_parse(version, &major, &minor)) {
        worker_fail(call, TV_WRONG_DOWNGRADE_FORMAT);
        return;
    }
    struct downgrade *d = mem_alloc_zero(sizeof(*d));
    inner_init(&d->inner, service_worker(call), call, on_ended);
    d->action = (enum downgrade_action)action;
    d->major = major;
    d->minor = minor;
    inner_barrier(&d->inner, on_barrier);
}

const struct grpc_call_ops maintenance_downgrade_ops = {.message = on_downgrade,
                                                        .closed = worker_call_closed};

/* --- Defragment --- */

/* Memory and disk are packed all the time, a slice a turn; RocksDB is told now of what a compaction
 * gave up, and not some seconds later. Nobody is kept waiting for it. */
static void on_defragment(struct grpc_call *call, struct slice msg)
{
    struct worker *w = service_worker(call);
    if (!service_is_well_formed(call, msg) || service_refused(call) || service_lacks_root(call))
        return;
    struct request *req = worker_request(w, REQUEST_DEFRAGMENT, call, service_answered);
    log_info("defragmentation was asked for: it goes on all the time");
    service_tie(call, req);
    worker_post(w, req); /* the answer is empty: etcd's has no header */
}

const struct grpc_call_ops maintenance_defragment_ops = {.message = on_defragment,
                                                         .closed = worker_call_closed};
