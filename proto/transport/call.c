/* A call: its life, and what it receives. Messages are delivered straight from the read buffer when
 * they lie in it whole; otherwise they are put together in call->recv. */
#include "internal.h"
#include "metadata.h"
#include "page.h"

#include "base/assert.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

#define TEXT_DEADLINE SLICE_LITERAL("context deadline exceeded")
#define TEXT_CANCELED SLICE_LITERAL("context canceled")

/* --- life --- */

static void on_deadline(struct timer *t);

struct grpc_call *call__new(struct grpc_loop *gl)
{
    struct grpc_call *call;
    if (!list_is_empty(&gl->pool)) {
        call = CONTAINER_OF(gl->pool.next, struct grpc_call, link);
        list_remove(&call->link);
        gl->pool_count--;
        memset(call, 0, offsetof(struct grpc_call, metadata));
    } else {
        call = mem_try_alloc_zero(sizeof(*call));
        if (call == NULL)
            return NULL;
        buf_init(&call->metadata, SIZE_MAX);
        buf_init(&call->recv, SIZE_MAX);
        buf_init(&call->text, SIZE_MAX);
    }
    list_init(&call->link);
    list_init(&call->work_link);
    list_init(&call->starved_link);
    call->deadline.fn = on_deadline;
    call->gl = gl;
    call->id = ++gl->calls_made;
    return call;
}

static void trim(struct buf *b)
{
    buf_clear(b);
    if (b->capacity > POOL_BUF_BYTES_MAX)
        buf_fini(b);
}

static void call_free(struct grpc_call *call)
{
    struct grpc_loop *gl = call->gl;
    timer_clear(&gl->timers, &call->deadline);
    list_remove(&call->work_link);
    list_remove(&call->link);
    (void)call__drop_queue(call);
    trim(&call->metadata);
    trim(&call->recv);
    trim(&call->text);
    if (gl->pool_count < POOL_CALLS_MAX) {
        list_push_front(&gl->pool, &call->link);
        gl->pool_count++;
        return;
    }
    buf_fini(&call->metadata);
    buf_fini(&call->recv);
    buf_fini(&call->text);
    mem_free(call);
}

void call__hold(struct grpc_call *call)
{
    call->refs++;
}

void call__release(struct grpc_call *call)
{
    ASSERT(call->refs > 0);
    if (--call->refs == 0 && call->stream_gone && (call->told || !call->opened))
        call_free(call);
}

void call__attach(struct grpc_call *call, struct grpc_conn *conn)
{
    call->conn = conn;
    call->stream_gone = false;
    list_push_back(&conn->calls, &call->link);
    conn->calls_count++;
    if (!call->is_client)
        call->limits = &conn->limits;
}

void call__set_status(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    call->code = code;
    buf_clear(&call->text);
    if (buf_try_append(&call->text, text.data, text.size) != 0)
        call->lacked_memory = true;
}

/* --- the end --- */

void call__tell_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    if (call->told || !call->opened)
        return;
    call__hold(call);
    call->told = true;
    call->finishing = true;
    call->recv_off = true;
    call->work = 0;
    list_remove(&call->work_link);
    timer_clear(&call->gl->timers, &call->deadline);
    if (call->is_client)
        (void)call__drop_queue(call);
    if (call->stats != NULL)
        server__call_ended(call, code);
    call->ops->closed(call, code, text);
    if (call->is_client)
        client__call_gone(call);
    call__release(call);
}

/* Bytes of this call that its connection counts as buffered. */
static void account_recv(struct grpc_call *call)
{
    struct grpc_conn *conn = call->conn;
    if (conn == NULL || call->recv.size == call->recv_accounted_bytes)
        return;
    conn->recv_buffered_bytes += call->recv.size - call->recv_accounted_bytes;
    call->recv_accounted_bytes = call->recv.size;
}

static void detach(struct grpc_call *call)
{
    struct grpc_conn *conn = call->conn;
    budget__give_back(call);
    list_remove(&call->link);
    conn->calls_count--;
    conn->recv_buffered_bytes -= call->recv_accounted_bytes;
    call->recv_accounted_bytes = 0;
    if (conn->cached_call == call)
        conn->cached_call = NULL;
    if (conn->hdr_call == call)
        conn->hdr_call = NULL;
    if (conn->held == call)
        conn->held = NULL;
    if (conn->draining)
        conn__mark_dirty(conn);
}

static void client_end(struct grpc_call *call, uint32_t http2_error)
{
    call->recv_off = call->recv_off || call->aborted;
    if (!call->status_received && call->code == GRPC_OK) {
        buf_clear(&call->text);
        if (http2_error == UINT32_MAX || call->never_sent) {
            call__set_status(call, GRPC_UNAVAILABLE,
                             SLICE_LITERAL("error reading from server: connection lost"));
        } else {
            call->code = (enum grpc_code)client__http2_to_grpc(http2_error);
            text_format(&call->text, "stream terminated by RST_STREAM with error code: %s",
                        nghttp2_http2_strerror(http2_error));
        }
    }
    /* What was held back comes first. */
    if (call->told)
        return;
    if (call->kept)
        client__park(call);
    else
        call__tell_closed(call, call->code, buf_slice(&call->text));
}

void call__stream_closed(struct grpc_call *call, uint32_t http2_error)
{
    struct grpc_conn *conn = call->conn;
    if (call->stream_gone)
        return;
    call__hold(call);
    call->stream_gone = true;
    if (call->page != NULL)
        page__stream_closed(call->page);
    call->page = NULL;
    if (call->local != NULL)
        local__call_gone(call->local);
    detach(call);
    if (call->is_client) {
        client_end(call, http2_error);
    } else {
        (void)call__drop_queue(call);
        if (call->aborted || call->status_sent)
            call__tell_closed(call, call->code, buf_slice(&call->text));
        else
            call__tell_closed(call, GRPC_CANCELLED, TEXT_CANCELED);
        if (call->opened)
            server__call_counted(conn, -1);
    }
    call->conn = NULL;
    call__release(call);
}

void call__reset(struct grpc_call *call, uint32_t http2_error)
{
    if (call->stream_gone || call->local != NULL || call->conn->session == NULL)
        return;
    (void)nghttp2_submit_rst_stream(call->conn->session, 0, call->stream_id, http2_error);
    conn__mark_dirty(call->conn);
}

void call__malformed(struct grpc_call *call)
{
    call->recv_off = true;
    call__reset(call, NGHTTP2_PROTOCOL_ERROR);
}

void call__abort(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    if (call->told || call->aborted)
        return;
    call->aborted = true;
    call->recv_off = true;
    call->finishing = true;
    call__set_status(call, code, text);
    bool mid_message = call__drop_queue(call);
    if (call->is_client) {
        if (call->stream_gone)
            client__park(call);
        call__reset(call, NGHTTP2_CANCEL);
        call__queue_work(call, WORK_CLOSED);
    } else if (mid_message && call->local == NULL) {
        call__reset(call, NGHTTP2_CANCEL);
    } else {
        call__send_status(call);
    }
}

void call__no_memory(struct grpc_call *call)
{
    call->lacked_memory = true;
    call__abort(call, GRPC_RESOURCE_EXHAUSTED, GRPC_TEXT_NO_MEMORY);
}

static void on_deadline(struct timer *t)
{
    struct grpc_call *call = CONTAINER_OF(t, struct grpc_call, deadline);
    PROBE(grpc_deadline);
    call__hold(call);
    call__abort(call, GRPC_DEADLINE_EXCEEDED, TEXT_DEADLINE);
    call__tell_closed(call, GRPC_DEADLINE_EXCEEDED, TEXT_DEADLINE);
    call__release(call);
}

/* --- work from the loop --- */

void call__queue_work(struct grpc_call *call, uint32_t work)
{
    if (call->told)
        return;
    call->work |= work;
    if (!list_is_linked(&call->work_link))
        list_push_back(&call->gl->work, &call->work_link);
}

static void deliver_kept(struct grpc_call *call);

void call__do_work(struct grpc_call *call)
{
    uint32_t work = call->work;
    call->work = 0;
    call__hold(call);
    if ((work & WORK_DELIVER) != 0)
        deliver_kept(call);
    if ((work & WORK_WRITABLE) != 0 && !call->told && !call->finishing &&
        call->ops->writable != NULL)
        call->ops->writable(call);
    if ((work & WORK_CLOSED) != 0)
        call__tell_closed(call, call->code, buf_slice(&call->text));
    call__release(call);
}

/* --- receiving --- */

static bool is_paused(const struct grpc_call *call)
{
    return call->paused_by_user || call->paused_by_queue || call->kept;
}

static bool is_unary_request(const struct grpc_call *call)
{
    return !call->is_client && !call->method->client_streaming;
}

/* Where there are bounds, an unfinished message is given more by grants alone. */
static void give_window_within_bounds(struct grpc_call *call)
{
    if (!call->recv_off && is_unary_request(call))
        return;
    size_t unfinished = call->recv_off ? 0 : call->recv.size;
    if (call->unconsumed_bytes < unfinished)
        return;
    size_t bytes = call->unconsumed_bytes - unfinished;
    if (bytes < call->limits->stream_window_bytes / 4)
        return;
    (void)nghttp2_submit_window_update(call->conn->session, 0, call->stream_id, (int32_t)bytes);
    call->unconsumed_bytes -= bytes;
    conn__mark_dirty(call->conn);
}

/* Give back the stream's window, in steps that are worth a frame. */
static void give_window(struct grpc_call *call)
{
    if (call->stream_gone || call->peer_closed || call->local != NULL ||
        (is_paused(call) && !call->recv_off))
        return;
    if (call->conn->account != NULL) {
        give_window_within_bounds(call);
        return;
    }
    if (call->unconsumed_bytes < call->limits->stream_window_bytes / 4)
        return;
    (void)nghttp2_session_consume_stream(call->conn->session, call->stream_id,
                                         call->unconsumed_bytes);
    call->unconsumed_bytes = 0;
    conn__mark_dirty(call->conn);
}

static void refuse_compressed(struct grpc_call *call)
{
    struct slice encoding = metadata_get(&call->metadata, SLICE_LITERAL("grpc-encoding"));
    if (encoding.size == 0 || slice_equal(encoding, SLICE_LITERAL("identity"))) {
        call__abort(call, GRPC_INTERNAL,
                    SLICE_LITERAL("grpc: compressed flag set with identity or empty encoding"));
        return;
    }
    struct buf text;
    buf_init(&text, SIZE_MAX);
    text_format(&text, "grpc: Decompressor is not installed for grpc-encoding ");
    text_quote(encoding, &text);
    call__abort(call, call->is_client ? GRPC_INTERNAL : GRPC_UNIMPLEMENTED, buf_slice(&text));
    buf_fini(&text);
}

/* Check a message's five bytes. False when the call was ended for them. */
static bool check_prefix(struct grpc_call *call, const uint8_t *p, uint32_t *ret_size)
{
    uint32_t size = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
    char text[96];
    int text_size;
    if (size > call->limits->recv_message_bytes_max) {
        text_size = snprintf(text, sizeof(text),
                             "grpc: received message larger than max (%" PRIu32 " vs. %" PRIu32 ")",
                             size, call->limits->recv_message_bytes_max);
        call__abort(call, GRPC_RESOURCE_EXHAUSTED, slice_of(text, (size_t)text_size));
        return false;
    }
    if (p[0] == 1) {
        refuse_compressed(call);
        return false;
    }
    if (p[0] != 0) {
        text_size = snprintf(text, sizeof(text), "grpc: received unexpected payload format %u",
                             (unsigned)p[0]);
        call__abort(call, GRPC_INTERNAL, slice_of(text, (size_t)text_size));
        return false;
    }
    *ret_size = size;
    return true;
}

static void deliver(struct grpc_call *call, struct slice msg)
{
    if (!call->is_client && call->conn != NULL) {
        conn__asked(call->conn);
        server__message_counted(call, false, msg.size);
    }
    if (call->ops->message != NULL)
        call->ops->message(call, msg);
}

static void append_recv(struct grpc_call *call, struct slice in)
{
    int rv = buf_try_append(&call->recv, in.data, in.size);
    account_recv(call);
    if (rv != 0)
        call__no_memory(call);
    /* A client asked for what comes, and has its limit for each message. */
    if (!call->is_client && call->conn != NULL &&
        call->conn->recv_buffered_bytes > CONN_RECV_BUFFERED_BYTES_MAX) {
        PROBE(grpc_recv_buffer_full);
        call__abort(call, GRPC_RESOURCE_EXHAUSTED,
                    SLICE_LITERAL("grpc: too many bytes of unfinished messages"));
    }
}

static void clear_recv(struct grpc_call *call)
{
    trim(&call->recv);
    account_recv(call);
    call->recv_need = 0;
    budget__give_back(call);
}

/* Nothing is waiting in recv: take a message from `in`, or move its beginning to recv. */
static struct slice parse_direct(struct grpc_call *call, struct slice in)
{
    uint32_t size;
    if (in.size >= GRPC_PREFIX_BYTES) {
        if (!check_prefix(call, in.data, &size))
            return SLICE_EMPTY;
        if (in.size - GRPC_PREFIX_BYTES >= size) {
            deliver(call, slice_of(in.data + GRPC_PREFIX_BYTES, size));
            return slice_of(in.data + GRPC_PREFIX_BYTES + size, in.size - GRPC_PREFIX_BYTES - size);
        }
        call->recv_need = GRPC_PREFIX_BYTES + size;
        /* All at once: to grow by doubling would copy a large message again. */
        if (call->conn == NULL || call->conn->account == NULL)
            (void)buf_try_reserve(&call->recv, call->recv_need);
    }
    append_recv(call, in);
    return SLICE_EMPTY;
}

/* Complete the message that recv begins with. */
static struct slice parse_partial(struct grpc_call *call, struct slice in)
{
    size_t need = call->recv_need != 0 ? call->recv_need : GRPC_PREFIX_BYTES;
    size_t take = need - call->recv.size;
    take = take < in.size ? take : in.size;
    append_recv(call, slice_of(in.data, take));
    in = slice_of(in.data + take, in.size - take);
    if (call->recv.size < need || call->recv_off)
        return in;
    if (call->recv_need == 0) {
        uint32_t size;
        if (!check_prefix(call, call->recv.data, &size))
            return SLICE_EMPTY;
        call->recv_need = GRPC_PREFIX_BYTES + size;
        if (size > 0)
            return in;
    }
    deliver(call,
            slice_of(call->recv.data + GRPC_PREFIX_BYTES, call->recv.size - GRPC_PREFIX_BYTES));
    clear_recv(call);
    return in;
}

static void parse(struct grpc_call *call, struct slice in)
{
    while (in.size > 0 && !call->recv_off) {
        if (is_paused(call)) {
            call->kept = true;
            append_recv(call, in);
            return;
        }
        in = call->recv.size == 0 ? parse_direct(call, in) : parse_partial(call, in);
    }
}

/* A request of one message is delivered when the client has half-closed, so that a second message
 * can still be refused. Usually both come in one frame; then nothing is copied. */
static void receive_unary(struct grpc_call *call, struct slice in, bool last_frame)
{
    uint32_t size;
    if (call->held.data != NULL)
        call__keep_held(call);
    if (call->recv.size == 0 && last_frame && in.size >= GRPC_PREFIX_BYTES) {
        if (!check_prefix(call, in.data, &size))
            return;
        if (in.size == GRPC_PREFIX_BYTES + (size_t)size) {
            call->held = in;
            call->conn->held = call;
            return;
        }
    }
    append_recv(call, in);
    if (call->recv.size < GRPC_PREFIX_BYTES || call->recv_off)
        return;
    if (call->recv_need == 0) {
        if (!check_prefix(call, call->recv.data, &size))
            return;
        call->recv_need = GRPC_PREFIX_BYTES + size;
    }
    if (call->recv.size > call->recv_need)
        call__abort(call, GRPC_INTERNAL,
                    SLICE_LITERAL("cardinality violation: received multiple request messages for "
                                  "non-client-streaming RPC"));
}

void call__keep_held(struct grpc_call *call)
{
    struct slice held = call->held;
    call->held = SLICE_EMPTY;
    call->conn->held = NULL;
    call->recv_need = (uint32_t)held.size;
    append_recv(call, held);
}

void call__receive(struct grpc_call *call, struct slice in, bool last_frame)
{
    call__hold(call);
    call->unconsumed_bytes += in.size;
    if (call->page != NULL)
        page__data(call->page, in);
    else if (call->recv_off)
        ; /* dropped */
    else if (is_unary_request(call))
        receive_unary(call, in, last_frame);
    else
        parse(call, in);
    give_window(call);
    if (call->recv_need > 0)
        budget__ask(call);
    call__release(call);
}

static void end_unary(struct grpc_call *call)
{
    struct slice msg = call->held;
    call->held = SLICE_EMPTY;
    call->conn->held = NULL;
    if (msg.data == NULL)
        msg = buf_slice(&call->recv);
    if (msg.size == 0) {
        call__abort(call, GRPC_INTERNAL,
                    SLICE_LITERAL("cardinality violation: received no request message from "
                                  "non-client-streaming RPC"));
        return;
    }
    if (msg.size < GRPC_PREFIX_BYTES ||
        (msg.data == call->recv.data && msg.size < call->recv_need)) {
        call__abort(call, GRPC_INTERNAL, SLICE_LITERAL("unexpected EOF"));
        return;
    }
    deliver(call, slice_of(msg.data + GRPC_PREFIX_BYTES, msg.size - GRPC_PREFIX_BYTES));
    clear_recv(call);
}

/* Everything that came before the half-close is delivered. */
static void end_of_messages(struct grpc_call *call)
{
    if (call->half_closed_told || call->recv_off)
        return;
    if (is_unary_request(call))
        end_unary(call);
    else if (call->recv.size > 0 && !call->is_client)
        call__abort(call, GRPC_INTERNAL, SLICE_LITERAL("unexpected EOF"));
    else if (call->recv.size > 0 && call->code == GRPC_OK)
        call__set_status(call, GRPC_INTERNAL, SLICE_LITERAL("unexpected EOF"));
    call->half_closed_told = true;
    if (!call->recv_off && !call->told && call->ops->half_closed != NULL)
        call->ops->half_closed(call);
}

void call__peer_closed(struct grpc_call *call)
{
    if (call->page != NULL)
        page__end(call->page);
    if (call->peer_closed || !call->opened)
        return;
    call__hold(call);
    call->peer_closed = true;
    if (!call->kept)
        end_of_messages(call);
    call__release(call);
}

/* Client: the trailers have come; code and text are set. */
void call__client_done(struct grpc_call *call)
{
    call__hold(call);
    bool sending = !call->finishing;
    call__peer_closed(call);
    call->finishing = true;
    if (sending)
        call__reset(call, NGHTTP2_NO_ERROR);
    if (call->kept)
        call->status_ready = true;
    else
        call__tell_closed(call, call->code, buf_slice(&call->text));
    call__release(call);
}

/* --- pausing --- */

static void deliver_kept(struct grpc_call *call)
{
    if (!call->kept || call->recv_off || call->paused_by_user || call->paused_by_queue)
        return;
    struct buf kept = call->recv;
    buf_init(&call->recv, SIZE_MAX);
    account_recv(call);
    call->recv_need = 0;
    call->kept = false;
    parse(call, buf_slice(&kept));
    buf_fini(&kept);
    if (call->kept || call->told)
        return;
    give_window(call);
    budget__ask(call);
    if (call->peer_closed)
        end_of_messages(call);
    if (call->is_client && (call->stream_gone || call->status_ready) && !call->told)
        call__tell_closed(call, call->code, buf_slice(&call->text));
}

static void maybe_resume(struct grpc_call *call)
{
    if (call->paused_by_user || call->paused_by_queue)
        return;
    if (call->kept)
        call__queue_work(call, WORK_DELIVER);
    else
        give_window(call);
}

void grpc_call_pause_reading(struct grpc_call *call)
{
    call->paused_by_user = true;
}

void grpc_call_resume_reading(struct grpc_call *call)
{
    call->paused_by_user = false;
    maybe_resume(call);
}

void call__update_paused_by_queue(struct grpc_call *call)
{
    if (call->is_client)
        return;
    if (call->queued_bytes > call->limits->send_queue_high_bytes) {
        call->paused_by_queue = true;
    } else if (call->paused_by_queue && call->queued_bytes <= call->limits->send_queue_low_bytes) {
        call->paused_by_queue = false;
        maybe_resume(call);
    }
}

/* --- what its owner asks --- */

void *grpc_call_user(const struct grpc_call *call)
{
    return call->user;
}

struct trace *grpc_call_trace(const struct grpc_call *call)
{
    return call->trace;
}

void grpc_call_set_trace(struct grpc_call *call, struct trace *trace)
{
    call->trace = trace;
}

void grpc_call_set_user(struct grpc_call *call, void *user)
{
    call->user = user;
}

void grpc_call_set_ops(struct grpc_call *call, const struct grpc_call_ops *ops)
{
    ASSERT(ops != NULL && ops->closed != NULL);
    call->ops = ops;
}

const struct grpc_method *grpc_call_method(const struct grpc_call *call)
{
    return call->method;
}

struct grpc_conn *grpc_call_conn(const struct grpc_call *call)
{
    return call->conn;
}

uint64_t grpc_call_conn_id(const struct grpc_call *call)
{
    return call->conn != NULL ? call->conn->id : 0;
}

uint64_t grpc_call_id(const struct grpc_call *call)
{
    return call->id;
}

uint64_t grpc_call_deadline_ns(const struct grpc_call *call)
{
    return call->deadline_ns;
}

struct slice grpc_call_metadata_bytes(const struct grpc_call *call)
{
    return buf_slice(&call->metadata);
}

struct slice grpc_call_metadata(const struct grpc_call *call, const char *name)
{
    return metadata_get(&call->metadata, slice_of_string(name));
}
