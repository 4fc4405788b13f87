/* What a call sends: a queue of chunks that nghttp2 draws DATA frames from, and the status behind
 * it. The payload never passes through nghttp2: frames are put together in the loop's output. */
#include "internal.h"
#include "metadata.h"

#include "base/assert.h"
#include "base/mem.h"

enum {
    FRAME_BYTES = 16384,
    CHUNK_BYTES_MIN = 2048,
    CHUNK_BYTES_MAX = 8192, /* a larger message is copied once into shared bytes */
};

/* clang-format off */
/* A field whose bytes live as long as the process. */
#define NV_STATIC (NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)
#define NV(n, v) {(uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, sizeof(v) - 1, NV_STATIC}
/* clang-format on */

/* --- the queue --- */

/* Of a server's connection: a client's has nobody to give way to, and may be gone before its calls
 * let go of what they would have sent. */
static void count_source(struct grpc_call *call, int by)
{
    if (!call->is_client && call->conn != NULL)
        call->conn->sources += (uint32_t)by;
}

static void source_end(struct grpc_call *call, struct send_chunk *c)
{
    count_source(call, -1);
    c->source.src.done(c->source.src.ctx);
}

static void chunk_free(struct grpc_call *call, struct send_chunk *c)
{
    if (c->kind == SEND_SHARED)
        bref_unref(c->shared.owner);
    else if (c->kind == SEND_SOURCE)
        source_end(call, c);
    if (c->is_inline)
        call->inline_used = false;
    else
        mem_free(c);
}

static void pop_chunk(struct grpc_call *call)
{
    struct send_chunk *c = call->first;
    call->first = c->next;
    if (call->first == NULL)
        call->last = NULL;
    chunk_free(call, c);
}

static void push_chunk(struct grpc_call *call, struct send_chunk *c)
{
    c->next = NULL;
    if (call->last == NULL)
        call->first = c;
    else
        call->last->next = c;
    call->last = c;
}

/* True when a message was cut in the middle. */
bool call__drop_queue(struct grpc_call *call)
{
    bool mid_message = call->first != NULL && (call->first->begun || call->first->continues);
    while (call->first != NULL)
        pop_chunk(call);
    call->queued_bytes = 0;
    call->staged_bytes = 0;
    return mid_message;
}

static struct send_chunk *new_copy_chunk(struct grpc_call *call, size_t size)
{
    struct send_chunk *c;
    size_t capacity = CALL_INLINE_BYTES;
    if (size <= CALL_INLINE_BYTES && !call->inline_used) {
        c = (struct send_chunk *)call->inline_chunk;
        call->inline_used = true;
        memset(c, 0, sizeof(*c));
        c->is_inline = true;
    } else {
        capacity = size > CHUNK_BYTES_MIN ? size : CHUNK_BYTES_MIN;
        c = mem_try_alloc(sizeof(*c) + capacity);
        if (c == NULL)
            return NULL;
        memset(c, 0, sizeof(*c));
    }
    c->kind = SEND_COPY;
    c->copy.capacity = capacity;
    push_chunk(call, c);
    return c;
}

/* Room for `size` bytes at the queue's end, in one piece. NULL: there is no memory. */
static uint8_t *reserve_copy(struct grpc_call *call, size_t size)
{
    struct send_chunk *c = call->last;
    if (c == NULL || c->kind != SEND_COPY || c->copy.capacity - c->copy.end < size)
        c = new_copy_chunk(call, size);
    if (c == NULL)
        return NULL;
    uint8_t *p = c->bytes + c->copy.end;
    c->copy.end += size;
    c->size += size;
    return p;
}

/* Takes the reference on `owner`, also where it fails: false, there is no memory. */
static bool push_shared(struct grpc_call *call, struct bref *owner, const uint8_t *data,
                        size_t size, bool continues)
{
    struct send_chunk *c = mem_try_alloc_zero(sizeof(*c));
    if (c == NULL) {
        bref_unref(owner);
        return false;
    }
    c->kind = SEND_SHARED;
    c->size = size;
    c->continues = continues;
    c->shared.owner = owner;
    c->shared.data = data;
    push_chunk(call, c);
    return true;
}

static void put_prefix(uint8_t *p, uint64_t size)
{
    p[0] = 0;
    p[1] = (uint8_t)(size >> 24);
    p[2] = (uint8_t)(size >> 16);
    p[3] = (uint8_t)(size >> 8);
    p[4] = (uint8_t)size;
}

static uint8_t *put_parts(uint8_t *p, const struct slice *parts, uint32_t parts_count)
{
    for (uint32_t i = 0; i < parts_count; i++) {
        if (parts[i].size > 0)
            memcpy(p, parts[i].data, parts[i].size);
        p += parts[i].size;
    }
    return p;
}

/* --- to nghttp2 --- */

static nghttp2_nv response_nva[] = {NV(":status", "200"), NV("content-type", "application/grpc")};
static nghttp2_nv response_proto_nva[] = {NV(":status", "200"),
                                          NV("content-type", "application/grpc+proto")};

/* Fill in grpc-status and grpc-message; returns how many. `text` must live until nghttp2 copied it.
 */
static size_t status_nva(nghttp2_nv *nva, enum grpc_code code, struct slice text)
{
    static const char *const numbers[] = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                          "9", "10", "11", "12", "13", "14", "15", "16"};
    const char *number = (unsigned)code < 17 ? numbers[code] : "2";
    nva[0] = (nghttp2_nv)NV("grpc-status", "");
    nva[0].value = (uint8_t *)number;
    nva[0].valuelen = strlen(number);
    if (text.size == 0)
        return 1;
    nva[1] = (nghttp2_nv)NV("grpc-message", "");
    nva[1].value = (uint8_t *)text.data;
    nva[1].valuelen = text.size;
    nva[1].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
    return 2;
}

static int submit_status(nghttp2_session *session, int32_t stream_id, const nghttp2_nv *head,
                         size_t head_count, enum grpc_code code, struct slice text)
{
    enum { TEXT_BYTES_MAX = 8192 };
    struct buf encoded;
    nghttp2_nv nva[4];
    buf_init(&encoded, SIZE_MAX);
    if (text.size > TEXT_BYTES_MAX)
        text.size = TEXT_BYTES_MAX;
    if (!message_is_plain(text)) {
        message_encode(text, &encoded);
        text = buf_slice(&encoded);
    }
    for (size_t i = 0; i < head_count; i++)
        nva[i] = head[i];
    size_t count = head_count + status_nva(nva + head_count, code, text);
    int rv = head_count > 0 ? nghttp2_submit_response(session, stream_id, nva, count, NULL)
                            : nghttp2_submit_trailer(session, stream_id, nva, count);
    buf_fini(&encoded);
    return rv;
}

void server__answer_status(struct grpc_conn *conn, int32_t stream_id, const char *http_status,
                           enum grpc_code code, struct slice text)
{
    nghttp2_nv head[] = {NV(":status", "200"), NV("content-type", "application/grpc")};
    head[0].value = (uint8_t *)http_status;
    head[0].valuelen = strlen(http_status);
    (void)submit_status(conn->session, stream_id, head, 2, code, text);
    conn__mark_dirty(conn);
}

/* Answers of one frame go out in order. Longer ones must share the connection frame by frame, or a
 * watch would wait for the end of a big LIST beside it. */
static void share_connection(struct grpc_call *call)
{
    static const nghttp2_extpri in_turns = {.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};
    if (call->method->server_streaming || call->queued_bytes > FRAME_BYTES ||
        (call->last != NULL && call->last->kind == SEND_SOURCE))
        (void)nghttp2_session_change_extpri_stream_priority(call->conn->session, call->stream_id,
                                                            &in_turns, 1);
}

static void submit_headers(struct grpc_call *call)
{
    nghttp2_data_provider provider = conn__provider(call);
    call->headers_sent = true;
    (void)nghttp2_submit_response(call->conn->session, call->stream_id,
                                  call->content_type_proto ? response_proto_nva : response_nva, 2,
                                  &provider);
    share_connection(call);
}

static void submit_trailers(struct grpc_call *call)
{
    call->trailers_submitted = true;
    (void)submit_status(call->conn->session, call->stream_id, NULL, 0, call->code,
                        buf_slice(&call->text));
}

/* Something was queued, or the end was: see that nghttp2 asks for it. */
static void kick(struct grpc_call *call)
{
    struct grpc_conn *conn = call->conn;
    if (conn == NULL || call->stream_gone)
        return;
    if (call->local != NULL) {
        local__ready(call->local);
        return;
    }
    if (!call->is_client && !call->headers_sent) {
        submit_headers(call);
    } else if (call->data_deferred) {
        call->data_deferred = false;
        if (nghttp2_session_resume_data(conn->session, call->stream_id) == NGHTTP2_ERR_NOMEM)
            call__no_memory(call);
    }
    conn__mark_dirty(conn);
}

/* Server: the status, behind what is queued. */
void call__send_status(struct grpc_call *call)
{
    if (call->stream_gone || call->trailers_submitted)
        return;
    if (call->local != NULL) {
        call->trailers_submitted = true;
        local__ready(call->local);
        return;
    }
    if (call->headers_sent) {
        kick(call);
        return;
    }
    call->headers_sent = true;
    call->trailers_submitted = true;
    (void)submit_status(call->conn->session, call->stream_id,
                        call->content_type_proto ? response_proto_nva : response_nva, 2, call->code,
                        buf_slice(&call->text));
    conn__mark_dirty(call->conn);
}

static ssize_t end_of_data(struct grpc_call *call, size_t size, uint32_t *data_flags)
{
    *data_flags |= NGHTTP2_DATA_FLAG_EOF;
    if (!call->is_client) {
        *data_flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (!call->trailers_submitted)
            submit_trailers(call);
    }
    return (ssize_t)size;
}

static ssize_t read_source(struct grpc_call *call, size_t size_max, uint32_t *data_flags)
{
    struct send_chunk *c = call->first;
    struct out *out = &call->gl->out;
    if (size_max > c->source.left)
        size_max = (size_t)c->source.left;
    /* Where call__data_put() will want it. */
    size_t size = c->source.src.read(c->source.src.ctx,
                                     out->copy + out->copy_size + FRAME_HEADER_BYTES, size_max);
    ASSERT(size <= size_max);
    if (call->first != c)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* read() ended the call */
    if (size == 0) {
        call->data_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    call->staged_bytes = size;
    if (size == c->source.left && c->next == NULL && call->finishing)
        return end_of_data(call, size, data_flags);
    return (ssize_t)size;
}

ssize_t call__data_length(struct grpc_call *call, size_t size_max, uint32_t *data_flags)
{
    *data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    while (call->first != NULL && call->first->kind == SEND_SOURCE && call->first->source.left == 0)
        pop_chunk(call);
    if (call->first != NULL && call->first->kind == SEND_SOURCE)
        return read_source(call, size_max, data_flags);
    size_t size = 0;
    const struct send_chunk *c = call->first;
    for (; c != NULL && c->kind != SEND_SOURCE && size < size_max; c = c->next)
        size += c->size;
    bool all = c == NULL && size <= size_max;
    size = size < size_max ? size : size_max;
    if (all && call->finishing)
        return end_of_data(call, size, data_flags);
    if (size == 0) {
        call->data_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)size;
}

static void put_from_chunk(struct out *out, struct send_chunk *c, size_t size)
{
    c->begun = true;
    c->size -= size;
    if (c->kind == SEND_COPY) {
        out_copy(out, c->bytes + c->copy.at, size);
        c->copy.at += size;
        return;
    }
    if (size >= OUT_SHARE_MIN_BYTES)
        out_share(out, c->shared.owner, c->shared.data, size);
    else
        out_copy(out, c->shared.data, size);
    c->shared.data += size;
}

static void put_staged(struct grpc_call *call, const uint8_t *frame_header, size_t size)
{
    struct out *out = &call->gl->out;
    struct send_chunk *c = call->first;
    ASSERT(size == call->staged_bytes);
    out_copy(out, frame_header, FRAME_HEADER_BYTES);
    /* The bytes are there already: only count them in. */
    out->copy_size += size;
    out->bytes += size;
    out->vecs[out->vecs_count - 1].size += size;
    call->staged_bytes = 0;
    c->begun = true;
    c->source.left -= size;
    if (c->source.left == 0)
        pop_chunk(call);
}

static void queue_shrunk(struct grpc_call *call)
{
    if (call->above_low && call->queued_bytes <= call->limits->send_queue_low_bytes) {
        call->above_low = false;
        call__queue_work(call, WORK_WRITABLE);
    }
    if (call->paused_by_queue)
        call__update_paused_by_queue(call);
}

void call__data_put(struct grpc_call *call, const uint8_t *frame_header, size_t size)
{
    struct out *out = &call->gl->out;
    if (call->staged_bytes > 0) {
        put_staged(call, frame_header, size);
        return;
    }
    out_copy(out, frame_header, FRAME_HEADER_BYTES);
    call->queued_bytes -= size;
    while (size > 0) {
        struct send_chunk *c = call->first;
        size_t take = c->size < size ? c->size : size;
        put_from_chunk(out, c, take);
        size -= take;
        if (c->size == 0)
            pop_chunk(call);
    }
    queue_shrunk(call);
}

/* Up to `size_max` bytes of the first chunk. False: there are none now, or the call ended. */
static bool take_from_first(struct grpc_call *call, uint8_t *dst, size_t size_max, size_t *ret_size)
{
    struct send_chunk *c = call->first;
    size_t left = c->kind == SEND_SOURCE ? (size_t)c->source.left : c->size;
    size_t size = left < size_max ? left : size_max;
    c->begun = true;
    if (c->kind == SEND_SOURCE) {
        if (size > 0)
            size = c->source.src.read(c->source.src.ctx, dst, size);
        if (call->first != c || (size == 0 && left > 0))
            return false;
        c->source.left -= size;
    } else if (c->kind == SEND_COPY) {
        memcpy(dst, c->bytes + c->copy.at, size);
        c->copy.at += size;
        c->size -= size;
        call->queued_bytes -= size;
    } else {
        memcpy(dst, c->shared.data, size);
        c->shared.data += size;
        c->size -= size;
        call->queued_bytes -= size;
    }
    if (size == left)
        pop_chunk(call);
    *ret_size = size;
    return true;
}

size_t call__take(struct grpc_call *call, uint8_t *dst, size_t size_max)
{
    size_t taken = 0, size;
    call__hold(call);
    while (call->first != NULL && (taken < size_max || call->first->kind == SEND_SOURCE)) {
        if (taken == size_max && call->first->source.left > 0)
            break;
        if (!take_from_first(call, dst + taken, size_max - taken, &size))
            break;
        taken += size;
    }
    queue_shrunk(call);
    call__release(call);
    return taken;
}

/* --- what its owner asks --- */

static int check_send(struct grpc_call *call, uint64_t size)
{
    if (call->finishing || call->told)
        return TV_ECLOSED;
    if (size > call->limits->send_message_bytes_max)
        return TV_ETOOLARGE;
    if (call->queued_bytes > call->limits->send_queue_bytes_max) {
        PROBE(grpc_send_queue_full);
        call__abort(call, GRPC_RESOURCE_EXHAUSTED, SLICE_LITERAL("grpc: send queue is full"));
        return TV_EBUSY;
    }
    return 0;
}

/* A message of `size` bytes, `queued` of which are kept for it. */
static void count_queued(struct grpc_call *call, size_t queued, uint64_t size)
{
    call->queued_bytes += queued;
    if (call->queued_bytes > call->limits->send_queue_low_bytes)
        call->above_low = true;
    call__update_paused_by_queue(call);
    if (!call->is_client && call->conn != NULL)
        server__message_counted(call, true, size);
}

/* Part of a message may be queued: the call cannot go on. */
static int send_failed(struct grpc_call *call)
{
    call__no_memory(call);
    return TV_ENOMEM;
}

int grpc_send(struct grpc_call *call, const struct slice *parts, uint32_t parts_count)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < parts_count; i++)
        size += parts[i].size;
    int rv = check_send(call, size);
    if (rv != 0)
        return rv;
    size_t total = GRPC_PREFIX_BYTES + (size_t)size;
    if (total <= CHUNK_BYTES_MAX) {
        uint8_t *p = reserve_copy(call, total);
        if (p == NULL)
            return send_failed(call);
        put_prefix(p, size);
        (void)put_parts(p + GRPC_PREFIX_BYTES, parts, parts_count);
    } else {
        struct bref *b = bref_try_new(total);
        if (b == NULL)
            return send_failed(call);
        put_prefix(b->data, size);
        (void)put_parts(b->data + GRPC_PREFIX_BYTES, parts, parts_count);
        if (!push_shared(call, b, b->data, total, false))
            return send_failed(call);
    }
    count_queued(call, total, size);
    kick(call);
    return 0;
}

int grpc_send_shared(struct grpc_call *call, struct slice prefix, struct bref *owner,
                     struct slice body)
{
    if (body.size < OUT_SHARE_MIN_BYTES) {
        struct slice parts[] = {prefix, body};
        return grpc_send(call, parts, 2);
    }
    uint64_t size = (uint64_t)prefix.size + body.size;
    int rv = check_send(call, size);
    if (rv != 0)
        return rv;
    uint8_t *p = reserve_copy(call, GRPC_PREFIX_BYTES + prefix.size);
    if (p == NULL)
        return send_failed(call);
    put_prefix(p, size);
    (void)put_parts(p + GRPC_PREFIX_BYTES, &prefix, 1);
    if (!push_shared(call, bref_ref(owner), body.data, body.size, true))
        return send_failed(call);
    count_queued(call, GRPC_PREFIX_BYTES + (size_t)size, size);
    kick(call);
    return 0;
}

int grpc_send_source(struct grpc_call *call, uint64_t size, const struct grpc_source *src)
{
    int rv = check_send(call, size);
    if (rv != 0)
        return rv;
    struct send_chunk *c = mem_try_alloc_zero(sizeof(*c));
    uint8_t *p = c == NULL ? NULL : reserve_copy(call, GRPC_PREFIX_BYTES);
    if (p == NULL) {
        mem_free(c);
        return send_failed(call);
    }
    put_prefix(p, size);
    c->kind = SEND_SOURCE;
    c->continues = true;
    c->source.src = *src;
    c->source.left = size;
    push_chunk(call, c);
    count_source(call, 1);
    count_queued(call, GRPC_PREFIX_BYTES, size);
    kick(call);
    return 0;
}

void grpc_source_resume(struct grpc_call *call)
{
    if (call->first != NULL)
        kick(call);
}

size_t grpc_call_queued_bytes(const struct grpc_call *call)
{
    return call->queued_bytes;
}

void grpc_finish(struct grpc_call *call, enum grpc_code code, const char *text)
{
    ASSERT(!call->is_client);
    if (call->finishing || call->told)
        return;
    call->finishing = true;
    call->recv_off = true;
    call__set_status(call, code, text == NULL ? SLICE_EMPTY : slice_of_string(text));
    call__send_status(call);
}

int grpc_reply(struct grpc_call *call, const struct slice *parts, uint32_t parts_count)
{
    int rv = grpc_send(call, parts, parts_count);
    if (rv == 0)
        grpc_finish(call, GRPC_OK, NULL);
    else if (rv == TV_ETOOLARGE)
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "grpc: trying to send message larger than max");
    return rv;
}

int grpc_reply_shared(struct grpc_call *call, struct slice prefix, struct bref *owner,
                      struct slice body)
{
    int rv = grpc_send_shared(call, prefix, owner, body);
    if (rv == 0)
        grpc_finish(call, GRPC_OK, NULL);
    else if (rv == TV_ETOOLARGE)
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "grpc: trying to send message larger than max");
    return rv;
}

void grpc_half_close(struct grpc_call *call)
{
    ASSERT(call->is_client);
    if (call->finishing || call->told)
        return;
    call->finishing = true;
    kick(call);
}
