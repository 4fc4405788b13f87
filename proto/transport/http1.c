/* HTTP/1.1 on a gRPC listener: see proto/http1.h. One request at a time per connection; what comes
 * behind it waits in `in`, up to IN_EXTRA_BYTES_MAX.
 *
 * An exchange outlives its connection: the handler that got it gives it back by answering. */
#include "proto/http1.h"

#include "internal.h"
#include "metadata.h"
#include "page.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdio.h>
#include <strings.h>

enum {
    HEAD_BYTES_MAX = 16 << 10,
    CHUNK_LINE_BYTES_MAX = 256,
    IN_EXTRA_BYTES_MAX = 64 << 10,
    /* A Location of HTTP1_LOCATION_BYTES_MAX, and some more. */
    HEADERS_BYTES_MAX = HTTP1_LOCATION_BYTES_MAX + (2 << 10),
    /* Unfinished requests of a loop; above it those with more than IN_EXTRA_BYTES_MAX are refused.
     */
    LOOP_IN_BYTES_MAX = 64 << 20,
};

struct http1_exchange {
    struct http1 *h;   /* NULL: the connection is gone, or */
    struct page *page; /* it came by HTTP/2 */
    struct list link;  /* of gl->exchanges: its output has left */
    const struct http1_events *events;
    void *user;
    bool is_head;
    bool keep_alive;
    bool chunked; /* the answer */
    bool is_1_0;
    bool begun;
    bool raw; /* what comes is no request */
    bool awaits_writable;
    struct buf headers;  /* added, as lines */
    const char *trailer; /* a line */
};

struct http1 {
    struct grpc_conn *conn;
    struct http1_exchange *current;
    struct buf in;
    struct buf out;
    struct buf body;         /* of a chunked request */
    size_t in_counted_bytes; /* of gl->http1_in_bytes */
    uint32_t depth;          /* on the stack */
    bool freed;
    bool continued; /* 100 Continue was sent for the request at hand */
    bool over;      /* no request is taken any more */
};

/* What a request's head says. */
struct head {
    struct slice method;
    struct slice target;
    struct slice headers;
    size_t size; /* with the empty line */
    uint64_t content_length;
    bool chunked;
    bool keep_alive;
    bool is_1_0;
    bool expects_continue;
};

/* --- parsing: 1 = done, 0 = more bytes are needed, < 0 = an HTTP status, negated --- */

static bool equal_nocase(struct slice s, const char *text)
{
    return s.size == strlen(text) && strncasecmp((const char *)s.data, text, s.size) == 0;
}

/* Cut the line at the front off `*rest`, without its CRLF. */
static bool next_line(struct slice *rest, struct slice *ret_line)
{
    const uint8_t *end = rest->size == 0 ? NULL : memmem(rest->data, rest->size, "\r\n", 2);
    if (end == NULL)
        return false;
    *ret_line = slice_of(rest->data, (size_t)(end - rest->data));
    *rest = slice_of(end + 2, rest->size - ret_line->size - 2);
    return true;
}

static bool split_header(struct slice line, struct slice *ret_name, struct slice *ret_value)
{
    const uint8_t *colon = line.size == 0 ? NULL : memchr(line.data, ':', line.size);
    if (colon == NULL || colon == line.data)
        return false;
    *ret_name = slice_of(line.data, (size_t)(colon - line.data));
    *ret_value = slice_trim(slice_of(colon + 1, line.size - ret_name->size - 1), " \t");
    return true;
}

static int parse_length(struct slice value, uint64_t *ret_length)
{
    enum { DIGITS_MAX = 18 };
    uint64_t n = 0;
    if (value.size == 0 || value.size > DIGITS_MAX)
        return -400;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return -400;
        n = n * 10 + (value.data[i] - '0');
    }
    *ret_length = n;
    return 1;
}

static int parse_request_line(struct slice line, struct head *h)
{
    const uint8_t *a = line.size == 0 ? NULL : memchr(line.data, ' ', line.size);
    if (a == NULL || a == line.data)
        return -400;
    h->method = slice_of(line.data, (size_t)(a - line.data));
    struct slice rest = slice_of(a + 1, line.size - h->method.size - 1);
    const uint8_t *b = rest.size == 0 ? NULL : memchr(rest.data, ' ', rest.size);
    if (b == NULL || rest.data[0] != '/')
        return -400;
    h->target = slice_of(rest.data, (size_t)(b - rest.data));
    struct slice version = slice_of(b + 1, rest.size - h->target.size - 1);
    for (size_t i = 0; i < h->method.size; i++)
        if (h->method.data[i] < 'A' || h->method.data[i] > 'Z')
            return -400;
    h->is_1_0 = slice_equal(version, SLICE_LITERAL("HTTP/1.0"));
    if (!h->is_1_0 && !slice_equal(version, SLICE_LITERAL("HTTP/1.1")))
        return slice_starts_with(version, SLICE_LITERAL("HTTP/")) ? -505 : -400;
    return 1;
}

static int parse_header(struct slice line, struct head *h)
{
    struct slice name;
    struct slice value;
    if (!split_header(line, &name, &value))
        return -400;
    if (equal_nocase(name, "content-length")) {
        uint64_t length;
        int rv = parse_length(value, &length);
        if (rv < 0 || (h->content_length != UINT64_MAX && h->content_length != length))
            return -400;
        h->content_length = length;
    } else if (equal_nocase(name, "transfer-encoding")) {
        if (!equal_nocase(value, "chunked"))
            return -501;
        h->chunked = true;
    } else if (equal_nocase(name, "connection")) {
        if (equal_nocase(value, "close"))
            h->keep_alive = false;
        else if (equal_nocase(value, "keep-alive"))
            h->keep_alive = true;
    } else if (equal_nocase(name, "expect")) {
        h->expects_continue = equal_nocase(value, "100-continue");
    }
    return 1;
}

static int parse_head(struct slice in, struct head *ret_head)
{
    struct head h = {.content_length = UINT64_MAX};
    const uint8_t *end = in.size == 0 ? NULL : memmem(in.data, in.size, "\r\n\r\n", 4);
    if (end == NULL)
        return in.size > HEAD_BYTES_MAX ? -431 : 0;
    h.size = (size_t)(end - in.data) + 4;
    if (h.size > HEAD_BYTES_MAX)
        return -431;
    struct slice rest = slice_of(in.data, h.size - 2);
    struct slice line;
    (void)next_line(&rest, &line);
    int rv = parse_request_line(line, &h);
    if (rv < 0)
        return rv;
    h.keep_alive = !h.is_1_0;
    h.headers = rest;
    while (next_line(&rest, &line))
        if ((rv = parse_header(line, &h)) < 0)
            return rv;
    /* Both at once is how requests are smuggled (RFC 9112, 6.3). */
    if (h.chunked && h.content_length != UINT64_MAX)
        return -400;
    if (h.content_length == UINT64_MAX)
        h.content_length = 0;
    *ret_head = h;
    return 1;
}

static int parse_chunk_size(struct slice line, uint64_t *ret_size)
{
    enum { DIGITS_MAX = 8 };
    uint64_t n = 0;
    size_t i = 0;
    for (; i < line.size && i < DIGITS_MAX; i++) {
        uint8_t c = line.data[i];
        if (c >= '0' && c <= '9')
            n = n * 16 + (c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            n = n * 16 + ((c | 32) - 'a' + 10);
        else
            break;
    }
    if (i == 0 || (i < line.size && line.data[i] != ';' && line.data[i] != ' '))
        return -400;
    *ret_size = n;
    return 1;
}

/* Put a chunked body together in `body`; its size on the wire in *ret_size. */
static int parse_chunks(struct slice in, struct buf *body, size_t *ret_size)
{
    struct slice rest = in;
    struct slice line;
    uint64_t size;
    buf_clear(body);
    for (;;) {
        if (!next_line(&rest, &line))
            return rest.size > CHUNK_LINE_BYTES_MAX ? -400 : 0;
        int rv = parse_chunk_size(line, &size);
        if (rv < 0)
            return rv;
        if (size == 0)
            break;
        if (body->size + size > body->size_max)
            return -413;
        if (rest.size < size + 2)
            return 0;
        (void)buf_append(body, rest.data, (size_t)size);
        if (memcmp(rest.data + size, "\r\n", 2) != 0)
            return -400;
        rest = slice_of(rest.data + size + 2, rest.size - size - 2);
    }
    do { /* trailers */
        if (!next_line(&rest, &line))
            return rest.size > HEAD_BYTES_MAX ? -431 : 0;
    } while (line.size > 0);
    *ret_size = (size_t)(rest.data - in.data);
    return 1;
}

/* The body behind the head; *ret_size as on the wire. */
static int parse_body(struct http1 *h, const struct head *head, struct slice *ret_body,
                      size_t *ret_size)
{
    struct slice in = slice_of(h->in.data + head->size, h->in.size - head->size);
    if (head->chunked) {
        int rv = parse_chunks(in, &h->body, ret_size);
        *ret_body = buf_slice(&h->body);
        return rv;
    }
    if (head->content_length > h->body.size_max)
        return -413;
    if (in.size < head->content_length)
        return 0;
    *ret_size = (size_t)head->content_length;
    *ret_body = slice_of(in.data, *ret_size);
    return 1;
}

/* --- answering --- */

static const char *status_text(int status)
{
    switch (status) {
    case 101:
        return "Switching Protocols";
    case 200:
        return "OK";
    case 307:
        return "Temporary Redirect";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 412:
        return "Precondition Failed";
    case 413:
        return "Request Entity Too Large";
    case 414:
        return "Request URI Too Long";
    case 421:
        return "Misdirected Request";
    case 426:
        return "Upgrade Required";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 499:
        return "status code 499"; /* Go's */
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Unknown";
    }
}

void http1_add_header(struct http1_exchange *x, const char *name, const char *value)
{
    ASSERT(!x->begun);
    const char *parts[] = {name, ": ", value, "\r\n"};
    int rv = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        rv |= buf_append(&x->headers, parts[i], strlen(parts[i]));
    ASSERT(rv == 0);
}

void http1_clear_headers(struct http1_exchange *x)
{
    ASSERT(!x->begun);
    buf_clear(&x->headers);
}

void http1_close_after(struct http1_exchange *x)
{
    x->keep_alive = false;
}

void http1_set_trailer(struct http1_exchange *x, const char *line)
{
    x->trailer = line;
}

static void put_head(struct http1 *h, int status, const char *content_type, bool keep_alive)
{
    bool is_1_0 = h->current != NULL && h->current->is_1_0;
    text_format(&h->out, "HTTP/1.%d %d %s\r\n", is_1_0 ? 0 : 1, status, status_text(status));
    if (content_type != NULL)
        text_format(&h->out, "Content-Type: %.200s\r\n", content_type);
    if (!keep_alive && !is_1_0)
        text_format(&h->out, "Connection: close\r\n");
}

/* The exchange is answered: what comes next? */
static void exchange_done(struct http1_exchange *x)
{
    struct http1 *h = x->h;
    list_remove(&x->link);
    if (x->page != NULL)
        page__end_answer(x->page);
    if (h != NULL) {
        h->current = NULL;
        conn__go_on_reading(h->conn, CONN_STOP_RAW);
        if (!x->keep_alive) {
            h->over = true;
            conn__begin_close(h->conn);
        }
        conn__mark_dirty(h->conn);
    }
    buf_fini(&x->headers);
    mem_free(x);
}

void http1_respond(struct http1_exchange *x, int status, const char *content_type,
                   struct slice body)
{
    ASSERT(!x->begun);
    struct http1 *h = x->h;
    if (x->page != NULL) {
        page__begin_answer(x->page, status, content_type, buf_slice(&x->headers), body.size);
        page__write(x->page, body);
    }
    if (h != NULL) {
        x->keep_alive = x->keep_alive && !h->conn->draining;
        put_head(h, status, content_type, x->keep_alive);
        (void)buf_append(&h->out, x->headers.data, x->headers.size);
        text_format(&h->out, "Content-Length: %zu\r\n\r\n", body.size);
        if (!x->is_head)
            (void)buf_append(&h->out, body.data, body.size);
    }
    exchange_done(x);
}

void http1_respond_begin(struct http1_exchange *x, int status, const char *content_type)
{
    ASSERT(!x->begun);
    struct http1 *h = x->h;
    x->begun = true;
    if (x->page != NULL)
        page__begin_answer(x->page, status, content_type, buf_slice(&x->headers), SIZE_MAX);
    if (h == NULL)
        return;
    /* HTTP/1.0 has no chunks: the body ends with the connection. */
    put_head(h, status, content_type, x->keep_alive);
    (void)buf_append(&h->out, x->headers.data, x->headers.size);
    text_format(&h->out, x->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
    conn__mark_dirty(h->conn);
}

void http1_respond_write(struct http1_exchange *x, struct slice body)
{
    ASSERT(x->begun);
    struct http1 *h = x->h;
    if (x->page != NULL)
        page__write(x->page, body);
    if (h == NULL || body.size == 0 || x->is_head)
        return;
    if (x->chunked)
        text_format(&h->out, "%zx\r\n", body.size);
    (void)buf_append(&h->out, body.data, body.size);
    if (x->chunked)
        text_format(&h->out, "\r\n");
    conn__mark_dirty(h->conn);
}

void http1_respond_end(struct http1_exchange *x)
{
    ASSERT(x->begun);
    if (x->h != NULL && x->chunked && !x->is_head)
        text_format(&x->h->out, "0\r\n%s%s\r\n", x->trailer != NULL ? x->trailer : "",
                    x->trailer != NULL ? "\r\n" : "");
    exchange_done(x);
}

bool http1_is_gone(const struct http1_exchange *x)
{
    return x->page != NULL ? page__is_gone(x->page) : x->h == NULL;
}

size_t http1_queued_bytes(const struct http1_exchange *x)
{
    if (x->page != NULL)
        return page__queued_bytes(x->page);
    return x->h == NULL ? 0 : x->h->out.size;
}

/* --- for those who answer later --- */

void http1_set_events(struct http1_exchange *x, const struct http1_events *events, void *user)
{
    x->events = events;
    x->user = user;
}

static struct grpc_conn *conn_of(const struct http1_exchange *x)
{
    return x->page != NULL ? page__conn(x->page) : x->h != NULL ? x->h->conn : NULL;
}

void http1__written(struct http1_exchange *x)
{
    struct grpc_conn *conn = conn_of(x);
    if (x->awaits_writable && conn != NULL && !list_is_linked(&x->link))
        list_push_back(&conn->gl->exchanges, &x->link);
}

void http1_await_writable(struct http1_exchange *x)
{
    x->awaits_writable = true;
    if (http1_queued_bytes(x) == 0)
        http1__written(x);
}

void http1__tell_all(struct grpc_loop *gl)
{
    struct list now;
    list_init(&now);
    list_splice_back(&now, &gl->exchanges);
    while (!list_is_empty(&now)) {
        struct http1_exchange *x = CONTAINER_OF(now.next, struct http1_exchange, link);
        list_remove(&x->link);
        x->awaits_writable = false;
        x->events->writable(x, x->user);
    }
}

void http1__gone(struct http1_exchange *x)
{
    list_remove(&x->link);
    if (x->events != NULL)
        x->events->gone(x, x->user);
}

bool http1_can_upgrade(const struct http1_exchange *x)
{
    return x->page == NULL;
}

void http1_upgrade(struct http1_exchange *x)
{
    struct http1 *h = x->h;
    ASSERT(x->page == NULL && !x->begun);
    x->begun = true;
    x->raw = true;
    x->chunked = false;
    x->keep_alive = false;
    if (h == NULL)
        return;
    put_head(h, 101, NULL, true);
    (void)buf_append(&h->out, x->headers.data, x->headers.size);
    text_format(&h->out, "\r\n");
    conn__mark_dirty(h->conn);
}

static void deliver_raw(struct http1 *h)
{
    h->depth++;
    while (!h->freed && h->current != NULL && h->current->raw && h->in.size > 0) {
        struct http1_exchange *x = h->current;
        size_t taken = x->events->data(x, buf_slice(&h->in), x->user);
        if (taken == 0)
            break;
        if (!h->freed)
            buf_consume(&h->in, taken);
    }
    h->depth--;
}

void http1_resume_data(struct http1_exchange *x)
{
    if (x->h == NULL)
        return;
    conn__go_on_reading(x->h->conn, CONN_STOP_RAW);
    conn__mark_dirty(x->h->conn);
}

void http1_stop_data(struct http1_exchange *x)
{
    if (x->h != NULL)
        conn__stop_reading(x->h->conn, CONN_STOP_RAW);
}

bool http1_next_header(struct slice *rest, struct slice *ret_name, struct slice *ret_value)
{
    struct slice line;
    while (next_line(rest, &line))
        if (split_header(line, ret_name, ret_value))
            return true;
    return false;
}

struct slice http1_header(const struct http1_request *req, const char *name)
{
    struct slice rest = req->headers;
    struct slice line;
    struct slice at_name;
    struct slice value;
    while (next_line(&rest, &line))
        if (split_header(line, &at_name, &value) && equal_nocase(at_name, name))
            return value.data == NULL ? slice_of("", 0) : value;
    return SLICE_EMPTY;
}

/* --- requests --- */

static void refuse(struct http1 *h, int status)
{
    PROBE(http1_refused);
    put_head(h, status, "text/plain; charset=utf-8", false);
    text_format(&h->out, "Content-Length: %zu\r\n\r\n%s", strlen(status_text(status)),
                status_text(status));
    h->over = true;
    conn__begin_close(h->conn);
}

void http1__cut_query(struct slice target, struct slice *ret_path, struct slice *ret_query)
{
    const uint8_t *mark = target.size == 0 ? NULL : memchr(target.data, '?', target.size);
    *ret_path = target;
    *ret_query = SLICE_EMPTY;
    if (mark == NULL)
        return;
    ret_path->size = (size_t)(mark - target.data);
    *ret_query = slice_of(mark + 1, target.size - ret_path->size - 1);
}

static struct http1_exchange *exchange_new(void)
{
    struct http1_exchange *x = mem_alloc_zero(sizeof(*x));
    list_init(&x->link);
    buf_init(&x->headers, HEADERS_BYTES_MAX);
    return x;
}

struct http1_exchange *http1__exchange_of(struct page *p, bool is_head)
{
    struct http1_exchange *x = exchange_new();
    x->page = p;
    x->is_head = is_head;
    return x;
}

static void handle(struct http1 *h, const struct head *head, struct slice body)
{
    const struct grpc_server_options *o = server__options(h->conn->server);
    struct http1_exchange *x = exchange_new();
    x->h = h;
    x->is_head = slice_equal(head->method, SLICE_LITERAL("HEAD"));
    x->keep_alive = head->keep_alive;
    x->chunked = !head->is_1_0;
    x->is_1_0 = head->is_1_0;
    if (head->is_1_0)
        x->keep_alive = false;
    h->current = x;
    struct http1_request req = {.method = head->method,
                                .body = body,
                                .headers = head->headers,
                                .conn = h->conn,
                                .needs_host = !head->is_1_0};
    http1__cut_query(head->target, &req.path, &req.query);
    o->http1(x, &req, o->http1_arg);
}

/* Take one request from `in`. False when there is none whole, or one is being answered. */
static bool take_request(struct http1 *h)
{
    struct head head;
    struct slice body = SLICE_EMPTY;
    size_t body_size = 0;
    if (h->over || h->current != NULL || h->freed || h->in.size == 0)
        return false;
    int rv = parse_head(buf_slice(&h->in), &head);
    if (rv == 1)
        rv = parse_body(h, &head, &body, &body_size);
    if (rv < 0)
        refuse(h, -rv);
    if (rv == 0 && h->in.size > 0 && !h->continued && parse_head(buf_slice(&h->in), &head) == 1 &&
        head.expects_continue) {
        h->continued = true;
        text_format(&h->out, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    if (rv != 1)
        return false;
    h->continued = false;
    handle(h, &head, body);
    if (!h->freed)
        buf_consume(&h->in, head.size + body_size);
    return true;
}

static void count_in(struct http1 *h)
{
    struct grpc_loop *gl = h->conn->gl;
    gl->http1_in_bytes += h->in.size - h->in_counted_bytes;
    h->in_counted_bytes = h->in.size;
}

static void http1_free_now(struct http1 *h)
{
    buf_fini(&h->in);
    buf_fini(&h->out);
    buf_fini(&h->body);
    mem_free(h);
}

static void take_requests(struct http1 *h)
{
    h->depth++;
    while (take_request(h))
        ;
    if (--h->depth == 0 && h->freed)
        http1_free_now(h);
}

bool http1__read(struct http1 *h, struct slice in)
{
    if (h->over)
        return true;
    if (buf_append(&h->in, in.data, in.size) != 0)
        return false;
    h->depth++;
    take_requests(h);
    deliver_raw(h);
    h->depth--;
    if (h->freed) {
        if (h->depth == 0)
            http1_free_now(h);
        return true;
    }
    count_in(h);
    bool scarce = h->conn->gl->http1_in_bytes > LOOP_IN_BYTES_MAX;
    if (scarce && h->in.size > IN_EXTRA_BYTES_MAX && h->current == NULL)
        refuse(h, 503);
    return true;
}

void http1__flush(struct http1 *h)
{
    struct grpc_conn *conn = h->conn;
    h->depth++;
    take_requests(h); /* what waited for an answer to the one before */
    deliver_raw(h);
    bool gone = h->freed;
    if (--h->depth == 0 && gone)
        http1_free_now(h);
    if (gone || conn->state != CONN_HTTP1)
        return;
    count_in(h);
    if (h->out.size > 0) {
        struct io_vec vec = {h->out.data, h->out.size, NULL};
        int rv = io_send(conn->io, &vec, 1);
        buf_fini(&h->out);
        if (rv != 0) {
            conn__kill(conn);
            return;
        }
    }
    if (!io_is_busy(conn->io) && h->current != NULL)
        http1__written(h->current);
}

bool http1__is_idle(const struct http1 *h)
{
    return h->current == NULL && h->in.size == 0;
}

bool http1__is_answering(const struct http1 *h)
{
    return h->current != NULL;
}

struct http1 *http1__new(struct grpc_conn *conn)
{
    size_t body_bytes_max = server__options(conn->server)->http1_body_bytes_max;
    struct http1 *h = mem_alloc_zero(sizeof(*h));
    h->conn = conn;
    /* Chunks cost more on the wire than in the body. */
    buf_init(&h->in, HEAD_BYTES_MAX + 2 * body_bytes_max + IN_EXTRA_BYTES_MAX);
    buf_init(&h->out, SIZE_MAX);
    buf_init(&h->body, body_bytes_max);
    return h;
}

void http1__free(struct http1 *h)
{
    struct http1_exchange *x = h->current;
    buf_clear(&h->in);
    count_in(h);
    h->current = NULL;
    h->freed = true;
    if (x != NULL) {
        x->h = NULL;
        http1__gone(x);
    }
    if (h->depth == 0)
        http1_free_now(h);
}
