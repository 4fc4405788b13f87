/* etcdserverpb.KV/Range and RangeStream: read from memory, under way in the worker's turns. */
#include "server/services.h"

#include "server/node.h"
#include "server/range_stream.h"
#include "server/trace.h"
#include "server/validate.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

enum {
    /* An answer up to this size is encoded at once; a larger one is pulled by the transport. */
    ANSWER_FLAT_BYTES_MAX = 64 << 10,
    /* A stream's messages are about as large as requests may be, as in etcd, and no larger than
     * with its default for those. */
    STREAM_MESSAGE_BYTES_MAX = 3 << 19,
};

/* The last message was given to the transport, or refused by it. What was permitted in revision
 * `auth_revision` of auth must be so still; 0: nobody asked, or it was looked at before. */
static void end_sent(struct grpc_call *call, int err, uint64_t auth_revision)
{
    int stale = err == 0 ? service_permit_still(call, auth_revision) : 0;
    if (stale != 0)
        worker_fail(call, stale);
    else if (err == TV_ETOOLARGE)
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "grpc: trying to send message larger than max");
    else
        grpc_finish(call, GRPC_OK, NULL); /* without effect when the call has ended */
}

/* --- Range --- */

struct range_read {
    struct range range;
    struct wire_header header;
    uint8_t prefix[64];
    uint64_t auth_revision; /* in which it was permitted; 0: nobody asked */
    uint64_t began_ns;      /* 0: of a single key, which is not worth measuring */
    bool begun;
};

static void range_read_free(void *state)
{
    struct range_read *rr = state;
    if (rr->begun)
        range_fini(&rr->range);
    mem_free(rr);
}

static size_t source_read(void *ctx, uint8_t *dst, size_t size_max)
{
    struct range_read *rr = ctx;
    return range_read(&rr->range, dst, size_max);
}

/* The answer goes out as the socket takes it; the pin keeps its versions meanwhile. */
static void send_large(struct read *r, struct range_read *rr)
{
    struct grpc_call *call = r->call;
    r->state = NULL; /* the source's now */
    worker_read_free(r);
    size_t head_size = (size_t)(wire_header_put(rr->prefix, &rr->header) - rr->prefix);
    rr->range.prefix = slice_of(rr->prefix, head_size);
    struct grpc_source src = {.read = source_read, .done = range_read_free, .ctx = rr};
    int err = grpc_send_source(call, head_size + rr->range.body_size, &src);
    if (err != 0)
        range_read_free(rr);
    end_sent(call, err, 0);
}

static void send_flat(struct read *r, struct range_read *rr)
{
    struct worker *w = r->worker;
    size_t size = wire_header_size(&rr->header) + rr->range.body_size;
    buf_clear(&w->scratch);
    uint8_t *p = buf_reserve(&w->scratch, size);
    uint8_t *end = range_write(&rr->range, wire_header_put(p, &rr->header));
    ASSERT((size_t)(end - p) == size);
    struct grpc_call *call = r->call;
    worker_read_free(r);
    (void)grpc_reply(call, &(struct slice){p, size}, 1);
}

/* It has been gathered, or could not be. */
static void count_range(struct worker *w, const struct range_read *rr, bool ok)
{
    uint64_t took_ns = rr->began_ns == 0 ? 0 : clock_mono_ns() - rr->began_ns;
    metric_observe(&w->meters.range[ok], METER_APPLY_SCALE, took_ns);
    if (took_ns > w->node->config->warn_apply_ms * 1000000)
        metric_add(&w->meters.slow_ranges, 1);
}

static int range_step(struct read *r, struct range_read *rr, bool *ret_more)
{
    uint64_t keys_max = rr->begun ? RANGE_COLLECT_PER_TURN : RANGE_COLLECT_FIRST;
    if (rr->begun) {
        int err = range_resume(&rr->range);
        if (err != 0)
            return err;
    } else {
        struct wire_range_request req;
        int err = wire_range_request_decode(slice_of(r->msg, r->msg_size), &req);
        ASSERT(err == 0); /* it was decoded before */
        err = service_permit_range(r->call, req.key, req.range_end, &rr->auth_revision);
        if (err != 0)
            return err;
        rr->began_ns = req.range_end.size == 0 ? 0 : clock_mono_ns();
        metric_add(&r->worker->meters.kv.ranges, 1);
        err = range_begin(&rr->range, r->worker->node->mvcc, &req, false);
        if (err != 0) {
            count_range(r->worker, rr, false);
            return err;
        }
        rr->begun = true;
    }
    *ret_more = range_collect(&rr->range, keys_max);
    if (!*ret_more)
        count_range(r->worker, rr, true);
    if (*ret_more || rr->range.body_size > ANSWER_FLAT_BYTES_MAX)
        return range_suspend(&rr->range);
    return 0;
}

static void serve_range(struct read *r)
{
    struct worker *w = r->worker;
    struct range_read *rr = r->state;
    if (rr == NULL) {
        rr = mem_alloc_zero(sizeof(*rr));
        r->state = rr;
        r->state_free = range_read_free;
    }
    bool more = false;
    struct epoch *epoch = mvcc_epoch(w->node->mvcc);
    epoch_enter(epoch, w->reader);
    int err = range_step(r, rr, &more);
    if (err == 0 && !more)
        err = service_permit_still(r->call, rr->auth_revision);
    if (err != 0) {
        struct grpc_call *call = r->call;
        worker_read_free(r);
        worker_fail(call, err);
    } else if (more) {
        worker_read_again(r);
    } else {
        rr->header = worker_header(w, rr->range.header_rev);
        if (rr->range.body_size > ANSWER_FLAT_BYTES_MAX)
            send_large(r, rr);
        else
            send_flat(r, rr);
    }
    epoch_leave(w->reader);
}

static void on_range(struct grpc_call *call, struct slice msg)
{
    struct wire_range_request req;
    if (wire_range_request_decode(msg, &req) != 0) {
        service_malformed(call);
        return;
    }
    int err = validate_range(&req);
    if (err != 0) {
        worker_fail(call, err);
        return;
    }
    bool refused = req.serializable ? service_lacks_leader(call) : service_refused(call);
    if (refused)
        return;
    if (service_worker(call)->tracer != NULL)
        trace_work(call, WIRE_RAFT_RANGE, msg, true);
    worker_read(service_worker(call), call, msg, !req.serializable, serve_range);
}

const struct grpc_call_ops kv_range_ops = {.message = on_range, .closed = worker_call_closed};

/* --- RangeStream --- */

/* Belongs to its read until the last message, and to the transport while that pulls a message. */
struct stream_read {
    struct range_stream stream;
    struct read *read; /* NULL: there is nothing more to gather */
    uint64_t auth_revision;
    bool begun;
    bool in_transport;
    uint8_t head[RANGE_STREAM_HEAD_BYTES_MAX];
};

static void stream_free(struct stream_read *sr)
{
    if (sr->begun)
        range_fini(&sr->stream.range);
    mem_free(sr);
}

static void stream_read_is_gone(void *state)
{
    struct stream_read *sr = state;
    sr->read = NULL;
    if (!sr->in_transport)
        stream_free(sr);
}

static size_t stream_source_read(void *ctx, uint8_t *dst, size_t size_max)
{
    struct stream_read *sr = ctx;
    return range_read(&sr->stream.range, dst, size_max);
}

/* The socket has taken the message: the next one is gathered in the worker's next turn. */
static void stream_source_done(void *ctx)
{
    struct stream_read *sr = ctx;
    sr->in_transport = false;
    if (sr->read == NULL)
        stream_free(sr);
    else
        worker_read_again(sr->read);
}

static void stream_send_large(struct read *r, struct stream_read *sr, uint64_t size)
{
    struct grpc_call *call = r->call;
    struct grpc_source src = {.read = stream_source_read, .done = stream_source_done, .ctx = sr};
    bool last = sr->stream.last;
    uint64_t auth_rev = sr->auth_revision;
    sr->in_transport = true;
    if (last)
        worker_read_free(r);
    int err = grpc_send_source(call, size, &src);
    if (err == 0 && !last)
        return;
    if (err != 0) {
        sr->in_transport = false;
        if (last)
            stream_free(sr);
        else
            worker_read_free(r);
    }
    end_sent(call, err, auth_rev);
}

/* True when there is another message to come. */
static bool stream_send_flat(struct read *r, struct stream_read *sr,
                             const struct wire_header *header, size_t size)
{
    struct worker *w = r->worker;
    struct grpc_call *call = r->call;
    bool last = sr->stream.last;
    uint64_t auth_rev = sr->auth_revision;
    buf_clear(&w->scratch);
    uint8_t *p = buf_reserve(&w->scratch, size);
    uint8_t *end = range_write(&sr->stream.range, range_stream_put_head(&sr->stream, header, p));
    ASSERT((size_t)(end - p) == size);
    int err = grpc_send(call, &(struct slice){p, size}, 1);
    if (err == 0 && !last)
        return true;
    worker_read_free(r);
    end_sent(call, err, auth_rev);
    return false;
}

/* Gather a message and send it. Small ones go out in one turn, ANSWER_FLAT_BYTES_MAX in all; then
 * it is the transport's turn. True to go on in this one. */
static bool stream_step(struct read *r, struct stream_read *sr, size_t *flat_bytes, int *ret_err)
{
    struct range_stream *s = &sr->stream;
    if (range_stream_collect(s, RANGE_COLLECT_PER_TURN)) {
        *ret_err = range_suspend(&s->range);
        if (*ret_err == 0)
            worker_read_again(r);
        return false;
    }
    struct wire_header header = worker_header(r->worker, s->range.header_rev);
    size_t head_size = range_stream_head_size(s, &header);
    uint64_t size = head_size + s->range.body_size;
    if (*flat_bytes + size <= ANSWER_FLAT_BYTES_MAX) {
        *flat_bytes += size;
        return stream_send_flat(r, sr, &header, size);
    }
    *ret_err = range_suspend(&s->range);
    if (*ret_err != 0)
        return false;
    ASSERT(head_size <= sizeof(sr->head));
    (void)range_stream_put_head(s, &header, sr->head);
    s->range.prefix = slice_of(sr->head, head_size);
    stream_send_large(r, sr, size);
    return false;
}

static int stream_begin(struct read *r, struct stream_read *sr)
{
    struct wire_range_request req;
    int err = wire_range_request_decode(slice_of(r->msg, r->msg_size), &req);
    ASSERT(err == 0); /* it was decoded before */
    err = service_permit_range(r->call, req.key, req.range_end, &sr->auth_revision);
    if (err != 0)
        return err;
    struct node *n = r->worker->node;
    uint64_t wanted = n->config->max_request_bytes;
    if (wanted > STREAM_MESSAGE_BYTES_MAX)
        wanted = STREAM_MESSAGE_BYTES_MAX;
    err = range_stream_begin(&sr->stream, n->mvcc, &req, wanted);
    sr->begun = err == 0;
    return err;
}

static void serve_range_stream(struct read *r)
{
    struct worker *w = r->worker;
    struct stream_read *sr = r->state;
    if (sr == NULL) {
        sr = mem_alloc_zero(sizeof(*sr));
        sr->read = r;
        r->state = sr;
        r->state_free = stream_read_is_gone;
    }
    size_t flat_bytes = 0;
    epoch_enter(mvcc_epoch(w->node->mvcc), w->reader);
    int err = sr->begun ? range_resume(&sr->stream.range) : stream_begin(r, sr);
    while (err == 0 && stream_step(r, sr, &flat_bytes, &err))
        continue;
    epoch_leave(w->reader);
    if (err != 0) {
        struct grpc_call *call = r->call;
        worker_read_free(r);
        worker_fail(call, err);
    }
}

static void on_range_stream(struct grpc_call *call, struct slice msg)
{
    struct wire_range_request req;
    if (wire_range_request_decode(msg, &req) != 0) {
        service_malformed(call);
        return;
    }
    int err = validate_range_stream(&req);
    if (err != 0)
        worker_fail(call, err);
    else
        worker_read(service_worker(call), call, msg, !req.serializable, serve_range_stream);
}

/* As in etcd, a learner has no streams, not even of what it may answer by itself. */
void kv_range_stream_open(struct grpc_call *call, void *arg)
{
    (void)arg;
    (void)service_refused(call);
}

const struct grpc_call_ops kv_range_stream_ops = {.message = on_range_stream,
                                                  .closed = worker_call_closed};
