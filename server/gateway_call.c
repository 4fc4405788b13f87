/* A call that a request became, and its answer. */
#include "server/gateway_internal.h"

#include "base/mem.h"

#include <stdio.h>
#include <strings.h>

static const char json_type[] = "application/json";

static bool is_stream(const struct gateway_call *c)
{
    return c->method->client_streaming || c->method->server_streaming;
}

static int http_status(enum grpc_code code)
{
    switch (code) {
    case GRPC_OK:
        return 200;
    case GRPC_CANCELLED:
        return 499;
    case GRPC_INVALID_ARGUMENT:
    case GRPC_FAILED_PRECONDITION:
    case GRPC_OUT_OF_RANGE:
        return 400;
    case GRPC_DEADLINE_EXCEEDED:
        return 504;
    case GRPC_NOT_FOUND:
        return 404;
    case GRPC_ALREADY_EXISTS:
    case GRPC_ABORTED:
        return 409;
    case GRPC_PERMISSION_DENIED:
        return 403;
    case GRPC_UNAUTHENTICATED:
        return 401;
    case GRPC_RESOURCE_EXHAUSTED:
        return 429;
    case GRPC_UNIMPLEMENTED:
        return 501;
    case GRPC_UNAVAILABLE:
        return 503;
    default:
        return 500;
    }
}

/* google.rpc.Status */
static void put_status(struct buf *out, enum grpc_code code, struct slice text,
                       enum json_style style)
{
    char begin[48];
    size_t before = out->size;
    int size = snprintf(begin, sizeof(begin), "{\"code\":%d", (int)code);
    (void)buf_append(out, begin, (size_t)size);
    if (text.size > 0) {
        (void)buf_append(out, ",\"message\":", 11);
        if (json_write_string(text, style, out) != 0) {
            /* grpc-gateway's own words for a text that is no text. */
            static const char fallback[] =
                "{\"code\": 13, \"message\": \"failed to marshal error message\"";
            out->size = before;
            (void)buf_append(out, fallback, sizeof(fallback) - 1);
        }
    }
    (void)buf_append(out, "}", 1);
}

/* --- answers --- */

/* An answer in one piece, the way the client wants it. */
static void respond(struct gateway_call *c, int status, struct slice body, bool has_trailer)
{
    struct http1_exchange *x = c->exchange;
    if (!c->accepts_trailers || !c->has_metadata) {
        http1_respond(x, status, json_type, body);
        return;
    }
    if (has_trailer) {
        http1_add_header(x, "Trailer", "Grpc-Trailer-Content-Type");
        http1_set_trailer(x, "Grpc-Trailer-Content-Type: application/grpc");
    }
    http1_respond_begin(x, status, json_type);
    http1_respond_write(x, body);
    http1_respond_end(x);
}

static void put_authenticate(struct gateway_call *c, enum grpc_code code, struct slice text)
{
    enum { TEXT_BYTES_MAX = 512 };
    char copy[TEXT_BYTES_MAX];
    if (code != GRPC_UNAUTHENTICATED)
        return;
    size_t size = text.size < sizeof(copy) - 1 ? text.size : sizeof(copy) - 1;
    for (size_t i = 0; i < size; i++)
        copy[i] = (char)(text.data[i] < ' ' ? ' ' : text.data[i]);
    copy[size] = '\0';
    http1_add_header(c->exchange, "Www-Authenticate", copy);
}

static void fail_with(struct gateway_call *c, enum grpc_code code, struct slice text, bool called)
{
    struct buf body;
    buf_init(&body, SIZE_MAX);
    put_status(&body, code, text, JSON_PLAIN);
    if (c->ws != NULL) {
        gateway_ws_send(c, buf_slice(&body));
        http1_respond_end(c->exchange);
    } else {
        put_authenticate(c, code, text);
        respond(c, http_status(code), buf_slice(&body), called);
    }
    buf_fini(&body);
    c->exchange = NULL;
    gateway_call_free(c);
}

void gateway_call_fail(struct gateway_call *c, enum grpc_code code, struct slice text)
{
    fail_with(c, code, text, false);
}

static void answer_whole(struct gateway_call *c)
{
    if (c->ws != NULL) {
        gateway_ws_send(c, buf_slice(&c->answer));
        http1_respond_end(c->exchange);
    } else {
        http1_add_header(c->exchange, "Grpc-Metadata-Content-Type", "application/grpc");
        respond(c, 200, buf_slice(&c->answer), false);
    }
    c->exchange = NULL;
    gateway_call_free(c);
}

/* A line of a stream. */
static void write_line(struct gateway_call *c, struct slice line)
{
    if (c->ws != NULL)
        gateway_ws_send(c, line);
    else
        http1_respond_write(c->exchange, line);
}

static void begin_stream(struct gateway_call *c, int status, const char *type)
{
    if (c->ws == NULL && !c->begun)
        http1_respond_begin(c->exchange, status, type);
    c->begun = true;
}

static void end_stream(struct gateway_call *c, enum grpc_code code, struct slice text)
{
    begin_stream(c, http_status(code), code == GRPC_OK ? NULL : json_type);
    if (code != GRPC_OK) {
        struct buf line;
        buf_init(&line, SIZE_MAX);
        (void)buf_append(&line, "{\"error\":", 9);
        put_status(&line, code, text, JSON_ESCAPED);
        (void)buf_append(&line, "}\n", 2);
        write_line(c, buf_slice(&line));
        buf_fini(&line);
    }
    http1_respond_end(c->exchange);
    c->exchange = NULL;
    gateway_call_free(c);
}

/* --- from the call --- */

void gateway_call_check_queue(struct gateway_call *c)
{
    if (c->paused || c->local == NULL || http1_queued_bytes(c->exchange) < GATEWAY_QUEUED_BYTES_MAX)
        return;
    c->paused = true;
    grpc_local_pause(c->local);
    http1_await_writable(c->exchange);
}

static void on_stream_message(struct gateway_call *c, struct slice msg)
{
    buf_clear(&c->answer);
    (void)buf_append(&c->answer, "{\"result\":", 10);
    int err = json_write(msg, c->desc->output, JSON_ESCAPED, &c->answer);
    if (err != 0) {
        struct grpc_local *local = c->local;
        c->local = NULL;
        grpc_local_cancel(local);
        end_stream(c, GRPC_UNKNOWN, SLICE_LITERAL("string field contains invalid UTF-8"));
        return;
    }
    (void)buf_append(&c->answer, "}\n", 2);
    if (c->ws == NULL && !c->begun)
        http1_add_header(c->exchange, "Grpc-Metadata-Content-Type", "application/grpc");
    begin_stream(c, 200, json_type);
    write_line(c, buf_slice(&c->answer));
    gateway_call_check_queue(c);
    if (c->ws != NULL)
        http1_resume_data(c->exchange);
}

static void on_message(void *user, struct slice msg)
{
    struct gateway_call *c = user;
    if (is_stream(c))
        on_stream_message(c, msg);
    else
        c->answer_err = json_write(msg, c->desc->output, JSON_PLAIN, &c->answer);
}

static void on_closed(void *user, enum grpc_code code, struct slice text)
{
    struct gateway_call *c = user;
    c->local = NULL;
    if (is_stream(c))
        end_stream(c, code, text);
    else if (code != GRPC_OK)
        fail_with(c, code, text, true);
    else if (c->answer_err != 0)
        fail_with(c, GRPC_UNKNOWN, SLICE_LITERAL("string field contains invalid UTF-8"), true);
    else
        answer_whole(c);
}

static const struct grpc_local_ops local_ops = {.message = on_message, .closed = on_closed};

/* --- from the client --- */

static void on_gone(struct http1_exchange *x, void *user)
{
    struct gateway_call *c = user;
    if (c->begun || c->ws != NULL)
        http1_respond_end(x);
    else
        http1_respond(x, 499, NULL, SLICE_EMPTY);
    c->exchange = NULL;
    gateway_call_free(c);
}

static void on_writable(struct http1_exchange *x, void *user)
{
    struct gateway_call *c = user;
    (void)x;
    c->paused = false;
    if (c->local != NULL)
        grpc_local_resume(c->local);
}

static size_t on_data(struct http1_exchange *x, struct slice in, void *user)
{
    (void)x;
    return gateway_ws_data(user, in);
}

static const struct http1_events events = {
    .gone = on_gone, .writable = on_writable, .data = on_data};

/* --- life --- */

static bool has_trailers(struct slice te)
{
    static const char word[] = "trailers";
    enum { SIZE = sizeof(word) - 1 };
    for (size_t i = 0; i + SIZE <= te.size; i++)
        if (strncasecmp((const char *)te.data + i, word, SIZE) == 0)
            return true;
    return false;
}

struct gateway_call *gateway_call_new(struct http1_exchange *x, const struct http1_request *req,
                                      struct worker *w, struct gateway_ws *ws)
{
    struct gateway_call *c = mem_alloc_zero(sizeof(*c));
    c->worker = w;
    c->exchange = x;
    c->conn = req->conn;
    c->ws = ws;
    c->accepts_trailers = has_trailers(http1_header(req, "te"));
    buf_init(&c->answer, SIZE_MAX);
    http1_set_events(x, &events, c);
    return c;
}

void gateway_call_free(struct gateway_call *c)
{
    struct grpc_local *local = c->local;
    c->local = NULL;
    if (local != NULL)
        grpc_local_cancel(local);
    gateway_ws_free(c->ws);
    buf_fini(&c->answer);
    mem_free(c);
}

void gateway_call_start(struct gateway_call *c, const struct gateway_metadata *md)
{
    struct grpc_local_options o = {.method = c->method,
                                   .metadata = md->pairs,
                                   .metadata_count = md->count,
                                   .timeout_ns = md->timeout_ns,
                                   .ops = &local_ops,
                                   .user = c};
    c->local = grpc_local_start(c->conn, &o);
}

bool gateway_call_read(struct gateway_call *c, struct slice value, struct buf *framed,
                       struct buf *err)
{
    static const uint8_t room[GRPC_LOCAL_PREFIX_BYTES];
    (void)buf_append(framed, room, sizeof(room));
    return json_read(value, c->desc->input, framed, err) == 0;
}

bool gateway_call_send(struct gateway_call *c, struct slice value, struct buf *err)
{
    struct buf framed;
    buf_init(&framed, SIZE_MAX);
    bool ok = gateway_call_read(c, value, &framed, err);
    if (ok)
        grpc_local_send(c->local, framed.data, framed.size);
    buf_fini(&framed);
    return ok;
}
