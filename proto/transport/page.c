#include "page.h"

#include "internal.h"
#include "metadata.h"
#include "proto/http1.h"

#include "base/assert.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdio.h>

enum { NAME_BYTES_MAX = 128, FIELDS_MAX = 16 };

/* Owner: the call's stream until page__stream_closed(), and the handler until it has answered. */
struct page {
    struct grpc_conn *conn;          /* NULL: the stream is gone */
    struct http1_exchange *exchange; /* from asked to answered */
    int32_t stream_id;
    bool asked;    /* the handler has it */
    bool answered; /* and has given it back */
    bool too_large;
    bool is_head;
    bool waits; /* nghttp2 was told that there is nothing to send now */
    struct buf method, target, headers, body;
    struct buf out;
};

static void page_free(struct page *p)
{
    buf_fini(&p->method);
    buf_fini(&p->target);
    buf_fini(&p->headers);
    buf_fini(&p->body);
    buf_fini(&p->out);
    mem_free(p);
}

static bool contains(struct slice s, struct slice part)
{
    return s.size > 0 && memmem(s.data, s.size, part.data, part.size) != NULL;
}

/* etcd's grpcHandlerFunc(). */
bool page__is_wanted(const struct grpc_call *call)
{
    const struct grpc_port *port = call->conn->port;
    if (port->tls == NULL || port->no_http1 || server__options(call->conn->server)->http1 == NULL)
        return false;
    if (port->no_grpc)
        return true;
    return !call->content_type_ok &&
           !contains(metadata_get(&call->metadata, SLICE_LITERAL("content-type")),
                     SLICE_LITERAL("application/grpc"));
}

static void keep(struct buf *b, struct slice s)
{
    buf_init(b, SIZE_MAX); /* of a header list, which has its bound */
    (void)buf_append(b, s.data, s.size);
}

/* The fields as HTTP/1.1 would have them. */
static void keep_headers(struct page *p, const struct buf *metadata)
{
    size_t cursor = 0;
    struct slice name, value;
    buf_init(&p->headers, SIZE_MAX);
    while (metadata_next(metadata, &cursor, &name, &value)) {
        if (slice_equal(name, SLICE_LITERAL(":authority")))
            name = SLICE_LITERAL("host");
        if (name.size == 0 || name.data[0] == ':')
            continue;
        (void)buf_append(&p->headers, name.data, name.size);
        (void)buf_append(&p->headers, ": ", 2);
        (void)buf_append(&p->headers, value.data, value.size);
        (void)buf_append(&p->headers, "\r\n", 2);
    }
}

void page__open(struct grpc_call *call)
{
    struct page *p = mem_alloc_zero(sizeof(*p));
    struct slice method = metadata_get(&call->metadata, SLICE_LITERAL(":method"));
    p->conn = call->conn;
    p->stream_id = call->stream_id;
    keep(&p->method, method.data != NULL ? method : SLICE_LITERAL("POST"));
    keep(&p->target, call->method != NULL ? slice_of_string(call->method->path)
                                          : metadata_get(&call->metadata, SLICE_LITERAL(":path")));
    keep_headers(p, &call->metadata);
    buf_init(&p->body, server__options(call->conn->server)->http1_body_bytes_max);
    buf_init(&p->out, SIZE_MAX);
    p->is_head = slice_equal(buf_slice(&p->method), SLICE_LITERAL("HEAD"));
    call->page = p;
}

void page__data(struct page *p, struct slice in)
{
    if (p->asked || p->too_large)
        return;
    bool fits = p->conn->pages_body_bytes + in.size <= PAGES_BODY_BYTES_MAX;
    p->too_large = !fits || buf_append(&p->body, in.data, in.size) != 0;
    if (!p->too_large)
        p->conn->pages_body_bytes += in.size;
}

void page__end(struct page *p)
{
    if (p->asked)
        return;
    p->asked = true;
    struct grpc_conn *conn = p->conn;
    const struct grpc_server_options *o = server__options(conn->server);
    struct http1_exchange *x = http1__exchange_of(p, p->is_head);
    p->exchange = x;
    if (p->too_large) {
        http1_respond(x, 413, "text/plain; charset=utf-8",
                      SLICE_LITERAL("Request Entity Too Large"));
        return;
    }
    struct http1_request req = {.method = buf_slice(&p->method),
                                .body = buf_slice(&p->body),
                                .headers = buf_slice(&p->headers),
                                .conn = conn};
    http1__cut_query(buf_slice(&p->target), &req.path, &req.query);
    o->http1(x, &req, o->http1_arg);
}

static void give_back_body(struct page *p)
{
    if (p->conn != NULL)
        p->conn->pages_body_bytes -= p->body.size;
    buf_clear(&p->body);
}

void page__stream_closed(struct page *p)
{
    give_back_body(p);
    p->conn = NULL;
    if (p->answered || !p->asked)
        page_free(p);
    else if (p->exchange != NULL)
        http1__gone(p->exchange); /* it may answer, and free the page */
}

/* --- the answer --- */

static ssize_t on_body_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t size,
                            uint32_t *data_flags, nghttp2_data_source *source, void *user)
{
    struct page *p = source->ptr;
    if (size > p->out.size)
        size = p->out.size;
    if (size > 0)
        memcpy(buf, p->out.data, size);
    buf_consume(&p->out, size);
    if (p->out.size == 0 && p->answered)
        *data_flags |= NGHTTP2_DATA_FLAG_EOF;
    p->waits = size == 0 && !p->answered;
    if (p->out.size == 0 && p->exchange != NULL)
        http1__written(p->exchange);
    return p->waits ? NGHTTP2_ERR_DEFERRED : (ssize_t)size;
}

static nghttp2_nv field(const char *name, size_t name_size, const char *value, size_t value_size)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, name_size, value_size, 0};
}

/* "Name: value\r\n"...: names in lower case, in `names`. */
static size_t put_lines(struct slice lines, nghttp2_nv *nva, size_t count,
                        char (*names)[NAME_BYTES_MAX])
{
    const char *at = (const char *)lines.data, *end = at + lines.size;
    for (size_t i = 0; at < end && count < FIELDS_MAX; i++) {
        const char *colon = memchr(at, ':', (size_t)(end - at));
        const char *line_end = memchr(at, '\r', (size_t)(end - at));
        ASSERT(colon != NULL && line_end != NULL && colon < line_end);
        size_t size = (size_t)(colon - at);
        if (size < NAME_BYTES_MAX) {
            for (size_t c = 0; c < size; c++)
                names[i][c] = (char)tolower((unsigned char)at[c]);
            nva[count++] = field(names[i], size, colon + 2, (size_t)(line_end - colon - 2));
        }
        at = line_end + 2;
    }
    return count;
}

void page__begin_answer(struct page *p, int status, const char *content_type, struct slice headers,
                        size_t size)
{
    char status_text[16], size_text[24], names[FIELDS_MAX][NAME_BYTES_MAX];
    nghttp2_nv nva[FIELDS_MAX];
    size_t count = 0;
    if (p->conn == NULL)
        return;
    give_back_body(p);
    (void)snprintf(status_text, sizeof(status_text), "%d", status);
    nva[count++] = field(":status", 7, status_text, strlen(status_text));
    if (content_type != NULL)
        nva[count++] = field("content-type", 12, content_type, strlen(content_type));
    if (size != SIZE_MAX) {
        (void)snprintf(size_text, sizeof(size_text), "%zu", size);
        nva[count++] = field("content-length", 14, size_text, strlen(size_text));
    }
    count = put_lines(headers, nva, count, names);
    nghttp2_data_provider provider = {.source.ptr = p, .read_callback = on_body_read};
    (void)nghttp2_submit_response(p->conn->session, p->stream_id, nva, count,
                                  p->is_head ? NULL : &provider);
    conn__mark_dirty(p->conn);
}

static void go_on(struct page *p)
{
    if (p->conn == NULL || p->is_head)
        return;
    if (p->waits)
        (void)nghttp2_session_resume_data(p->conn->session, p->stream_id);
    p->waits = false;
    conn__mark_dirty(p->conn);
}

void page__write(struct page *p, struct slice body)
{
    if (p->conn == NULL || p->is_head)
        return;
    (void)buf_append(&p->out, body.data, body.size);
    go_on(p);
}

void page__end_answer(struct page *p)
{
    p->answered = true;
    p->exchange = NULL;
    if (p->conn == NULL)
        page_free(p);
    else
        go_on(p);
}

bool page__is_gone(const struct page *p)
{
    return p->conn == NULL;
}

struct grpc_conn *page__conn(const struct page *p)
{
    return p->conn;
}

size_t page__queued_bytes(const struct page *p)
{
    return p->out.size;
}
