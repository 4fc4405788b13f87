/* One connection, either side: what begins it, what nghttp2 calls, how output is collected and
 * written, keepalive, and its end. See internal.h for its states. */
#include "internal.h"

#include "base/assert.h"
#include "base/mem.h"

#include <unistd.h>

enum {
    SNIFF_BYTES = 4, /* "PRI " is no HTTP/1 method */
    PING_STRIKES_MAX = 2,
    FRAME_VECS_MAX = 40, /* pieces that one DATA frame may become */
    DATA_FRAME_BYTES_MAX = 16384,
};

#define NS_PER_MS UINT64_C(1000000)
#define CLOSE_NS (UINT64_C(5000) * NS_PER_MS)
#define LINGER_NS (UINT64_C(1000) * NS_PER_MS)
#define DRAIN_PING_NS (UINT64_C(1000) * NS_PER_MS)
/* grpc-go's: a client without calls may ping this often where pings without calls are not allowed.
 */
#define PING_WITHOUT_CALLS_NS (UINT64_C(7200) * 1000 * NS_PER_MS)

static const char http2_magic[] = NGHTTP2_CLIENT_MAGIC;

/* --- calls by stream --- */

static struct grpc_call *call_of(struct grpc_conn *conn, int32_t stream_id)
{
    if (conn->cached_call != NULL && conn->cached_stream_id == stream_id)
        return conn->cached_call;
    struct grpc_call *call = nghttp2_session_get_stream_user_data(conn->session, stream_id);
    conn->cached_call = call;
    conn->cached_stream_id = stream_id;
    return call;
}

/* --- what nghttp2 calls --- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct grpc_conn *conn = user;
    if (conn->state == CONN_DEAD)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    conn->hdr_call = NULL;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    if (conn->server == NULL) {
        conn->hdr_call = call_of(conn, frame->hd.stream_id);
        if (conn->hdr_call != NULL) {
            buf_clear(&conn->hdr_call->metadata);
            conn->hdr_call->header_list_bytes = 0;
            conn->hdr_call->fields = (struct field_block){0};
        }
        return 0;
    }
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct grpc_call *call = call__new(conn->gl);
    if (call == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the stream is reset */
    call->stream_id = frame->hd.stream_id;
    call__attach(call, conn);
    (void)nghttp2_session_set_stream_user_data(session, call->stream_id, call);
    conn->hdr_call = call;
    conn->cached_call = call;
    conn->cached_stream_id = call->stream_id;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *user)
{
    enum { FIELD_OVERHEAD_BYTES = 32 }; /* RFC 9113, 6.5.2 */
    struct grpc_conn *conn = user;
    struct grpc_call *call = conn->hdr_call;
    if (call == NULL || call->headers_too_large)
        return 0;
    call->header_list_bytes += (uint32_t)(name_size + value_size + FIELD_OVERHEAD_BYTES);
    if (call->header_list_bytes > conn->limits.header_list_bytes_max) {
        call->headers_too_large = true;
        return 0;
    }
    struct slice n = slice_of(name, name_size), v = slice_of(value, value_size);
    enum field field = field_of(n);
    if (!field_block_add(&call->fields, field, n, v))
        return 0; /* answered when the block is complete */
    if (call->is_client)
        client__header(call, field, n, v);
    else
        server__header(call, field, n, v);
    return 0;
}

/* A request's header block is complete; it may be an old acquaintance, or become one. */
static void on_request(struct grpc_conn *conn, struct grpc_call *call, bool end_stream)
{
    call__hold(call);
    if (conn->scanned == SCAN_KNOWN)
        header_cache_apply(conn->header_cache, call);
    bool accepted = server__request(conn, call, end_stream);
    if (conn->scanned == SCAN_FRESH && accepted && conn->header_cache != NULL)
        header_cache_keep(conn->header_cache, call);
    call__release(call);
}

static void on_headers_done(struct grpc_conn *conn, const nghttp2_frame *frame)
{
    struct grpc_call *call = conn->hdr_call;
    bool end_stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    conn->hdr_call = NULL;
    if (call != NULL && call->is_client)
        client__headers_done(call, end_stream);
    else if (call != NULL)
        on_request(conn, call, end_stream);
    else if ((call = call_of(conn, frame->hd.stream_id)) != NULL && end_stream)
        call__peer_closed(call); /* a client's trailers mean nothing to gRPC */
    else if (call != NULL)
        call__malformed(call);
}

static void goaway_final(struct grpc_conn *conn)
{
    if (conn->goaway_final)
        return;
    conn->goaway_final = true;
    int32_t last = nghttp2_session_get_last_proc_stream_id(conn->session);
    (void)nghttp2_submit_goaway(conn->session, 0, last, NGHTTP2_NO_ERROR, NULL, 0);
    conn__mark_dirty(conn);
}

/* The rule of grpc-go's handlePing(): more than two pings too many and the client is sent away. */
static void on_ping(struct grpc_conn *conn)
{
    const struct grpc_server_options *o = server__options(conn->server);
    uint64_t now_ns = timer_now_ns(&conn->gl->timers);
    uint64_t last_ns = conn->last_ping_ns;
    conn->last_ping_ns = now_ns;
    if (conn->ping_strikes_reset) {
        conn->ping_strikes_reset = false;
        conn->ping_strikes = 0;
        return;
    }
    bool without = conn->calls_count == 0 && !o->keepalive_permit_without_stream;
    uint64_t apart_ns = without ? PING_WITHOUT_CALLS_NS : o->keepalive_min_time_ms * NS_PER_MS;
    if (last_ns != 0 && now_ns - last_ns < apart_ns)
        conn->ping_strikes++;
    if (conn->ping_strikes > PING_STRIKES_MAX && !conn->closing) {
        PROBE(grpc_too_many_pings);
        static const char reason[] = "too_many_pings";
        int32_t last = nghttp2_session_get_last_proc_stream_id(conn->session);
        (void)nghttp2_submit_goaway(conn->session, 0, last, NGHTTP2_ENHANCE_YOUR_CALM,
                                    (const uint8_t *)reason, sizeof(reason) - 1);
        conn__begin_close(conn);
    }
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct grpc_conn *conn = user;
    struct grpc_call *call;
    if (conn->state == CONN_DEAD)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        on_headers_done(conn, frame);
        break;
    case NGHTTP2_DATA:
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
            (call = call_of(conn, frame->hd.stream_id)) != NULL)
            call__peer_closed(call);
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0 && conn->server != NULL)
            on_ping(conn);
        else if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && conn->draining)
            goaway_final(conn);
        break;
    case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && --conn->settings_unacked == 0)
            conn->narrowing = false;
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0 && !conn->settings_seen) {
            conn->settings_seen = true;
            if (conn->channel != NULL)
                client__conn_ready(conn);
        }
        break;
    case NGHTTP2_GOAWAY:
        if (conn->channel != NULL)
            client__conn_goaway(conn);
        break;
    default:
        break;
    }
    return conn->state == CONN_DEAD ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                         const uint8_t *data, size_t size, void *user)
{
    struct grpc_conn *conn = user;
    if (conn->state == CONN_DEAD)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    conn->unconsumed_bytes += size;
    struct grpc_call *call = call_of(conn, stream_id);
    if (call != NULL && !call->headers_seen)
        call__malformed(call);
    else if (call != NULL)
        call__receive(call, slice_of(data, size), (flags & NGHTTP2_FLAG_END_STREAM) != 0);
    return conn->state == CONN_DEAD ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *user)
{
    struct grpc_conn *conn = user;
    struct grpc_call *call = call_of(conn, stream_id);
    if (call != NULL)
        call__stream_closed(call, error);
    return conn->state == CONN_DEAD ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct grpc_conn *conn = user;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    conn->ping_strikes_reset = true;
    if (conn->server == NULL || frame->hd.type != NGHTTP2_HEADERS ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        return 0;
    struct grpc_call *call = call_of(conn, frame->hd.stream_id);
    if (call != NULL)
        call->status_sent = true;
    /* A client that still sends is told that nobody listens, as grpc-go does. */
    if ((call == NULL || !call->peer_closed) &&
        nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
        (void)nghttp2_submit_rst_stream(session, 0, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *user)
{
    struct grpc_conn *conn = user;
    if (conn->channel == NULL || frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call != NULL && !call->headers_seen)
        call->never_sent = true;
    return 0;
}

static ssize_t on_data_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t size,
                            uint32_t *data_flags, nghttp2_data_source *source, void *user)
{
    struct grpc_conn *conn = user;
    struct out *out = &conn->gl->out;
    if (out_copy_free(out) < OUT_COPY_RESERVE_BYTES + FRAME_HEADER_BYTES + DATA_FRAME_BYTES_MAX ||
        out->vecs_count + FRAME_VECS_MAX > OUT_VECS_MAX || out->bytes >= out->bytes_max) {
        conn->out_full = true;
        return NGHTTP2_ERR_PAUSE;
    }
    if (size > DATA_FRAME_BYTES_MAX)
        size = DATA_FRAME_BYTES_MAX;
    struct grpc_call *call = source->ptr;
    call__hold(call);
    ssize_t rv = call__data_length(call, size, data_flags);
    call__release(call);
    return conn->state == CONN_DEAD ? NGHTTP2_ERR_CALLBACK_FAILURE : rv;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *frame_header,
                        size_t size, nghttp2_data_source *source, void *user)
{
    ASSERT(frame->data.padlen == 0);
    call__data_put(source->ptr, frame_header, size);
    return 0;
}

void conn__set_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
}

nghttp2_data_provider conn__provider(struct grpc_call *call)
{
    return (nghttp2_data_provider){.source.ptr = call, .read_callback = on_data_read};
}

/* --- reading --- */

void conn__stop_reading(struct grpc_conn *conn, uint32_t why)
{
    if (conn->stopped == 0)
        io_read_stop(conn->io);
    conn->stopped |= why;
}

void conn__go_on_reading(struct grpc_conn *conn, uint32_t why)
{
    if ((conn->stopped & why) == 0)
        return;
    conn->stopped &= ~why;
    conn->last_read_ns = timer_now_ns(&conn->gl->timers); /* its silence was our doing */
    if (conn->stopped == 0)
        (void)io_read_start(conn->io);
}

/* Read no more; close when what is queued is written, or when the peer does not take it. */
void conn__begin_close(struct grpc_conn *conn)
{
    if (conn->closing)
        return;
    conn->closing = true;
    timer_set(&conn->gl->timers, &conn->timer, timer_now_ns(&conn->gl->timers) + CLOSE_NS);
    conn__mark_dirty(conn);
}

static void session_free(struct grpc_conn *conn)
{
    nghttp2_session_del(conn->session);
    header_cache_free(conn->header_cache);
    conn->header_cache = NULL;
    conn->session = NULL;
}

/* True when the session is over and was told so. */
static bool session_is_over(struct grpc_conn *conn)
{
    return !nghttp2_session_want_write(conn->session) &&
           (conn->closing || !nghttp2_session_want_read(conn->session));
}

static void after_read(struct grpc_conn *conn)
{
    if (conn->unconsumed_bytes > 0) {
        (void)nghttp2_session_consume_connection(conn->session, conn->unconsumed_bytes);
        conn->unconsumed_bytes = 0;
    }
    if (!nghttp2_session_want_read(conn->session))
        conn__begin_close(conn); /* nghttp2 has given up on the peer */
    if (nghttp2_session_want_write(conn->session))
        conn__mark_dirty(conn);
    if (conn->stopped == 0 && io_is_busy(conn->io) &&
        nghttp2_session_get_outbound_queue_size(conn->session) > OUTBOUND_FRAMES_MAX) {
        PROBE(grpc_reading_stopped);
        conn__stop_reading(conn, CONN_STOP_OUTPUT);
    }
    budget__narrow(conn);
    budget__check_reading(conn);
}

/* A HEADERS frame without its block, which is known. */
static ssize_t recv_without_block(struct grpc_conn *conn, const uint8_t *frame)
{
    uint8_t head[FRAME_HEADER_BYTES];
    PROBE(grpc_header_block_known);
    memcpy(head, frame, sizeof(head));
    head[0] = head[1] = head[2] = 0;
    return nghttp2_session_mem_recv(conn->session, head, sizeof(head));
}

static ssize_t recv_scanned(struct grpc_conn *conn, const uint8_t *data, size_t size)
{
    ssize_t rv = 0;
    while (size > 0 && rv >= 0 && conn->state != CONN_DEAD) {
        size_t take;
        conn->scanned = header_cache_scan(conn->header_cache, slice_of(data, size), &take);
        rv = conn->scanned == SCAN_KNOWN ? recv_without_block(conn, data)
                                         : nghttp2_session_mem_recv(conn->session, data, take);
        data += take;
        size -= take;
    }
    return rv;
}

static void read_http2(struct grpc_conn *conn, const uint8_t *data, size_t size)
{
    conn->in_session++;
    conn->gl->in_session++;
    ssize_t rv = conn->header_cache != NULL ? recv_scanned(conn, data, size)
                                            : nghttp2_session_mem_recv(conn->session, data, size);
    conn->in_session--;
    conn->gl->in_session--;
    if (conn->state == CONN_DEAD) {
        session_free(conn);
        return;
    }
    if (conn->held != NULL)
        call__keep_held(conn->held);
    if (rv < 0 && nghttp2_session_want_write(conn->session) == 0) {
        conn__kill(conn);
        return;
    }
    if (rv < 0)
        conn__begin_close(conn); /* GOAWAY may be among what is queued */
    after_read(conn);
}

static void read_http1(struct grpc_conn *conn, const uint8_t *data, size_t size)
{
    if (!http1__read(conn->http1, slice_of(data, size)))
        conn__begin_close(conn);
    else if (conn->state == CONN_HTTP1)
        conn__mark_dirty(conn);
}

/* The first bytes say what the client speaks. */
static void sniff(struct grpc_conn *conn, const uint8_t *data, size_t size)
{
    size_t take = SNIFF_BYTES - conn->sniffed_size;
    take = take < size ? take : size;
    memcpy(conn->sniffed + conn->sniffed_size, data, take);
    conn->sniffed_size += take;
    data += take;
    size -= take;
    bool is_http2 = memcmp(conn->sniffed, http2_magic, conn->sniffed_size) == 0;
    if (is_http2 && conn->sniffed_size < SNIFF_BYTES)
        return;
    if (is_http2 ? conn->port->no_grpc && conn->port->tls == NULL : conn->port->no_http1) {
        conn__kill(conn);
        return;
    }
    if (is_http2) {
        if (conn__begin_http2(conn) != 0) {
            conn__kill(conn);
            return;
        }
        read_http2(conn, conn->sniffed, conn->sniffed_size);
        if (size > 0 && conn->state == CONN_HTTP2)
            read_http2(conn, data, size);
        return;
    }
    if (server__options(conn->server)->http1 == NULL) {
        conn__kill(conn);
        return;
    }
    conn->state = CONN_HTTP1;
    conn->http1 = http1__new(conn);
    conn__start_timer(conn);
    read_http1(conn, conn->sniffed, conn->sniffed_size);
    if (size > 0 && conn->state == CONN_HTTP1 && !conn->closing)
        read_http1(conn, data, size);
}

static void conn_on_read(void *ctx, const uint8_t *data, ssize_t size)
{
    struct grpc_conn *conn = ctx;
    if (size < 0) {
        conn__kill(conn);
        return;
    }
    conn->last_read_ns = timer_now_ns(&conn->gl->timers);
    conn->ping_sent_ns = 0;
    switch (conn->state) {
    case CONN_SNIFFING:
        sniff(conn, data, (size_t)size);
        break;
    case CONN_HTTP2:
        if (!conn->closing)
            read_http2(conn, data, (size_t)size);
        break;
    case CONN_HTTP1:
        if (!conn->closing)
            read_http1(conn, data, (size_t)size);
        break;
    case CONN_LINGER: /* dropped */
    case CONN_DEAD:
        break;
    }
}

/* --- writing --- */

void conn__mark_dirty(struct grpc_conn *conn)
{
    if (!list_is_linked(&conn->dirty_link) && conn->state != CONN_DEAD)
        list_push_back(&conn->gl->dirty, &conn->dirty_link);
}

void conn__wait_for_turn(struct grpc_conn *conn)
{
    struct grpc_loop *gl = conn->gl;
    list_remove(&conn->dirty_link);
    if (conn->sources == 0) {
        list_push_back(&gl->dirty_next, &conn->dirty_link);
        gl->dirty_next_count++;
        return;
    }
    list_push_back(&gl->bulk, &conn->dirty_link);
    gl->bulk_count++;
    conn->bulk_ns = timer_now_ns(&gl->timers);
    if (gl->other == conn)
        gl->other = NULL;
}

void conn__asked(struct grpc_conn *conn)
{
    uint64_t now_ns = timer_now_ns(&conn->gl->timers);
    if (conn->account == NULL || now_ns < conn->bulk_ns + BULK_MEMORY_NS)
        return;
    conn->gl->other = conn;
    conn->gl->other_asked_ns = now_ns;
}

/* Collect output until there is no more or no room. False when the session is broken. */
static bool fill(struct grpc_conn *conn)
{
    struct out *out = &conn->gl->out;
    bool ok = true;
    conn->out_full = false;
    conn->in_session++;
    conn->gl->in_session++;
    while (!conn->out_full && conn->state != CONN_DEAD) {
        if (out_copy_free(out) < OUT_COPY_RESERVE_BYTES || out->vecs_count + 2 > OUT_VECS_MAX ||
            out->bytes >= out->bytes_max) {
            conn->out_full = true;
            break;
        }
        const uint8_t *data;
        ssize_t size = nghttp2_session_mem_send(conn->session, &data);
        if (size <= 0) {
            ok = size == 0;
            break;
        }
        ASSERT((size_t)size <= out_copy_free(out));
        out_copy(out, data, (size_t)size);
    }
    conn->in_session--;
    conn->gl->in_session--;
    return ok;
}

static void flush_http2(struct grpc_conn *conn)
{
    enum { WRITES_PER_TURN_MAX = 4 };
    struct out *out = &conn->gl->out;
    int writes_max = conn->account != NULL ? 1 : WRITES_PER_TURN_MAX;
    out->bytes_max = conn->account != NULL ? conn->gl->write_share_bytes : SIZE_MAX;
    for (int i = 0; i < writes_max && !io_is_busy(conn->io); i++) {
        bool ok = fill(conn);
        if (conn->state == CONN_DEAD) {
            out_clear(out);
            session_free(conn);
            return;
        }
        int rv = out->vecs_count == 0 ? 0 : io_send(conn->io, out->vecs, out->vecs_count);
        out_clear(out);
        if (!ok || rv != 0) {
            conn__kill(conn);
            return;
        }
        if (!conn->out_full)
            break;
    }
    if (io_is_busy(conn->io))
        return;
    if (conn->out_full)
        conn__wait_for_turn(conn);
    else if (session_is_over(conn))
        conn__linger(conn);
    else
        conn__maybe_done(conn);
}

void conn__flush(struct grpc_conn *conn)
{
    ASSERT(conn->in_session == 0);
    if (conn->state == CONN_HTTP2) {
        flush_http2(conn);
    } else if (conn->state == CONN_HTTP1 && !io_is_busy(conn->io)) {
        http1__flush(conn->http1);
        if (conn->state == CONN_HTTP1 && conn->closing && !io_is_busy(conn->io))
            conn__linger(conn);
        else if (conn->state == CONN_HTTP1)
            conn__maybe_done(conn);
    }
}

static void conn_on_drained(void *ctx)
{
    struct grpc_conn *conn = ctx;
    if (conn->state == CONN_DEAD || conn->state == CONN_LINGER)
        return;
    conn__go_on_reading(conn, CONN_STOP_OUTPUT);
    if (conn->out_full)
        conn__wait_for_turn(conn);
    else
        conn__mark_dirty(conn);
}

/* --- time --- */

static void keepalive(struct grpc_conn *conn, uint64_t now_ns)
{
    bool server = conn->server != NULL;
    uint64_t interval_ns =
        server ? server__keepalive_interval_ns(conn) : client__keepalive_interval_ns(conn);
    uint64_t timeout_ns =
        server ? server__keepalive_timeout_ns(conn) : client__keepalive_timeout_ns(conn);
    if (interval_ns == 0)
        return;
    if (conn->stopped != 0 && server) {
        /* It cannot be heard while we do not listen; its requests are answered before long. */
        conn->ping_sent_ns = 0;
        timer_set(&conn->gl->timers, &conn->timer, now_ns + timeout_ns);
        return;
    }
    if (conn->ping_sent_ns != 0 && now_ns - conn->ping_sent_ns >= timeout_ns) {
        PROBE(grpc_keepalive_timeout);
        conn__kill(conn);
        return;
    }
    if (conn->ping_sent_ns != 0) {
        timer_set(&conn->gl->timers, &conn->timer, conn->ping_sent_ns + timeout_ns);
        return;
    }
    uint64_t due_ns = conn->last_read_ns + interval_ns;
    if (now_ns < due_ns) {
        timer_set(&conn->gl->timers, &conn->timer, due_ns);
        return;
    }
    if (!server && conn->calls_count == 0 && !client__keepalive_without_calls(conn)) {
        timer_set(&conn->gl->timers, &conn->timer, now_ns + interval_ns);
        return;
    }
    if (nghttp2_submit_ping(conn->session, 0, NULL) == 0)
        conn->ping_sent_ns = now_ns; /* else later: there was no memory */
    conn__mark_dirty(conn);
    timer_set(&conn->gl->timers, &conn->timer, now_ns + timeout_ns);
}

static void idle_http1(struct grpc_conn *conn, uint64_t now_ns)
{
    uint64_t timeout_ns = server__options(conn->server)->handshake_timeout_ms * NS_PER_MS;
    uint64_t due_ns = conn->last_read_ns + timeout_ns;
    if (now_ns < due_ns)
        timer_set(&conn->gl->timers, &conn->timer, due_ns);
    else if (http1__is_answering(conn->http1))
        timer_set(&conn->gl->timers, &conn->timer, now_ns + timeout_ns);
    else
        conn__kill(conn);
}

static void on_timer(struct timer *t)
{
    struct grpc_conn *conn = CONTAINER_OF(t, struct grpc_conn, timer);
    uint64_t now_ns = timer_now_ns(&conn->gl->timers);
    if (conn->closing) {
        conn__kill(conn);
        return;
    }
    switch (conn->state) {
    case CONN_SNIFFING:
    case CONN_LINGER:
        conn__kill(conn);
        break;
    case CONN_HTTP1:
        idle_http1(conn, now_ns);
        break;
    case CONN_HTTP2:
        if (conn->channel != NULL && !conn->settings_seen) {
            conn__kill(conn);
            break;
        }
        if (conn->draining && !conn->goaway_final)
            goaway_final(conn);
        keepalive(conn, now_ns);
        break;
    case CONN_DEAD:
        break;
    }
}

void conn__start_timer(struct grpc_conn *conn)
{
    if (conn->state == CONN_HTTP2)
        keepalive(conn, timer_now_ns(&conn->gl->timers));
    else if (conn->state == CONN_HTTP1)
        idle_http1(conn, timer_now_ns(&conn->gl->timers));
}

/* --- life --- */

static void conn_on_closed(void *ctx)
{
    struct grpc_conn *conn = ctx;
    ASSERT(conn->state == CONN_DEAD && conn->session == NULL);
    mem_free(conn);
}

/* The hands are shaken: now the first request may take its time. */
static void conn_on_ready(void *ctx)
{
    struct grpc_conn *conn = ctx;
    if (conn->server != NULL && conn->state == CONN_SNIFFING)
        server__await_first_bytes(conn);
}

static const struct io_events events = {
    .on_ready = conn_on_ready,
    .on_read = conn_on_read,
    .on_drained = conn_on_drained,
    .on_closed = conn_on_closed,
};

struct grpc_conn *conn__new(struct grpc_loop *gl, struct grpc_server *server,
                            struct grpc_channel *channel, const struct conn_limits *limits, int fd,
                            const struct io_tls_setup *tls)
{
    struct grpc_conn *conn = mem_try_alloc_zero(sizeof(*conn));
    if (conn == NULL) {
        (void)close(fd);
        return NULL;
    }
    conn->gl = gl;
    conn->server = server;
    conn->channel = channel;
    conn->limits = *limits;
    conn->state = CONN_SNIFFING;
    list_init(&conn->link);
    list_init(&conn->dirty_link);
    list_init(&conn->calls);
    conn->timer.fn = on_timer;
    conn->last_read_ns = timer_now_ns(&gl->timers);
    conn->io = tls != NULL ? io_tls_open(gl->uv, &gl->io, fd, tls, &events, conn)
                           : io_tcp_open(gl->uv, &gl->io, fd, &events, conn);
    if (conn->io == NULL || io_read_start(conn->io) != 0) {
        conn->state = CONN_DEAD;
        if (conn->io != NULL)
            io_close(conn->io);
        else
            mem_free(conn);
        return NULL;
    }
    budget__open(conn);
    if (conn->account != NULL)
        io_share(conn->io);
    io_peer(conn->io, conn->peer, sizeof(conn->peer));
    return conn;
}

int conn__begin_http2(struct grpc_conn *conn)
{
    struct grpc_loop *gl = conn->gl;
    bool server = conn->server != NULL;
    int rv = server ? nghttp2_session_server_new3(&conn->session, gl->callbacks, conn, gl->option,
                                                  &gl->memory.mem)
                    : nghttp2_session_client_new3(&conn->session, gl->callbacks, conn, gl->option,
                                                  &gl->memory.mem);
    if (rv != 0) {
        conn->session = NULL;
        return TV_ENOMEM;
    }
    conn->state = CONN_HTTP2;
    if (server)
        conn->header_cache = header_cache_new();
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, conn->limits.stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, conn->limits.header_list_bytes_max},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {0, 0},
    };
    if (server) {
        settings[2].settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS;
        settings[2].value = server__options(conn->server)->concurrent_streams_max;
        /* Cheaper than RFC 7540's tree; see share_connection(). A client keeps the tree: there is
         * no other way to let its uploads take turns. */
        settings[3].settings_id = NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES;
        settings[3].value = 1;
    }
    rv = nghttp2_submit_settings(conn->session, 0, settings, server ? 4 : 3);
    conn->settings_unacked++;
    if (rv == 0)
        rv = nghttp2_session_set_local_window_size(conn->session, 0, 0,
                                                   (int32_t)conn->limits.conn_window_bytes);
    if (rv != 0)
        return TV_ENOMEM;
    if (server)
        conn__start_timer(conn);
    conn__mark_dirty(conn);
    return 0;
}

static void end_calls(struct grpc_conn *conn)
{
    conn->held = NULL;
    conn->hdr_call = NULL;
    while (!list_is_empty(&conn->calls))
        call__stream_closed(CONTAINER_OF(conn->calls.next, struct grpc_call, link), UINT32_MAX);
}

/* Tell whoever opened it, once. */
static void tell_gone(struct grpc_conn *conn)
{
    struct grpc_server *server = conn->server;
    struct grpc_channel *channel = conn->channel;
    if (server != NULL)
        server__conn_gone(conn);
    else if (channel != NULL)
        client__conn_gone(conn);
    conn->server = NULL;
    conn->channel = NULL;
}

void conn__linger(struct grpc_conn *conn)
{
    if (conn->state == CONN_DEAD || conn->state == CONN_LINGER)
        return;
    if (conn->server == NULL) {
        conn__kill(conn);
        return;
    }
    conn->state = CONN_LINGER;
    end_calls(conn);
    if (conn->state != CONN_LINGER)
        return;
    io_shutdown(conn->io);
    timer_set(&conn->gl->timers, &conn->timer, timer_now_ns(&conn->gl->timers) + LINGER_NS);
}

void conn__kill(struct grpc_conn *conn)
{
    if (conn->state == CONN_DEAD)
        return;
    conn->state = CONN_DEAD;
    list_remove(&conn->dirty_link);
    timer_clear(&conn->gl->timers, &conn->timer);
    end_calls(conn);
    budget__close(conn);
    if (conn->http1 != NULL) {
        http1__free(conn->http1);
        conn->http1 = NULL;
    }
    if (conn->in_session == 0 && conn->session != NULL)
        session_free(conn);
    io_close(conn->io);
    tell_gone(conn);
}

void conn__maybe_done(struct grpc_conn *conn)
{
    if (!conn->draining || conn->calls_count > 0 || io_is_busy(conn->io))
        return;
    if (conn->state == CONN_HTTP1 && http1__is_idle(conn->http1))
        conn__linger(conn);
    else if (conn->state == CONN_HTTP2 && conn->goaway_final && conn->in_session == 0 &&
             !nghttp2_session_want_write(conn->session))
        conn__linger(conn);
}

void conn__drain(struct grpc_conn *conn)
{
    if (conn->draining || conn->state == CONN_DEAD)
        return;
    conn->draining = true;
    switch (conn->state) {
    case CONN_SNIFFING:
        conn__kill(conn);
        break;
    case CONN_HTTP1:
        conn__mark_dirty(conn);
        break;
    case CONN_HTTP2:
        /* Calls on their way are still taken until the client has seen the notice. */
        (void)nghttp2_submit_shutdown_notice(conn->session);
        (void)nghttp2_submit_ping(conn->session, 0, NULL);
        timer_set(&conn->gl->timers, &conn->timer, timer_now_ns(&conn->gl->timers) + DRAIN_PING_NS);
        conn__mark_dirty(conn);
        break;
    case CONN_LINGER:
    case CONN_DEAD:
        break;
    }
}

const char *grpc_conn_peer(const struct grpc_conn *conn)
{
    return conn->peer;
}

const char *grpc_conn_peer_cn(const struct grpc_conn *conn)
{
    return io_tls_peer_cn(conn->io);
}

bool grpc_conn_is_tls(const struct grpc_conn *conn)
{
    return io_tls_is_on(conn->io);
}

const struct grpc_port *grpc_conn_port(const struct grpc_conn *conn)
{
    return conn->port;
}

const struct grpc_conn_bytes *grpc_conn_bytes(const struct grpc_conn *conn)
{
    return &conn->bytes;
}

void *grpc_conn_user(const struct grpc_conn *conn)
{
    return conn->user;
}

void grpc_conn_set_user(struct grpc_conn *conn, void *user)
{
    conn->user = user;
}
