#include "server/trace_http.h"

#include "base/buf.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { HOST_BYTES_MAX = 256, PORT_BYTES_MAX = 8, ANSWER_BYTES_MAX = 512, HEAD_BYTES_MAX = 1024 };

static const char scheme[] = "http://";

struct http_post {
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    uv_write_t write;
    uint32_t open; /* handles and requests that libuv still has */
    bool ended;    /* done() was called, or is not wanted */
    void (*done)(void *ctx, bool ok);
    void *ctx;
    struct buf request;
    char answer[ANSWER_BYTES_MAX]; /* its beginning */
    size_t answer_size;
};

static bool split(const char *url, char host[HOST_BYTES_MAX], char port[PORT_BYTES_MAX],
                  const char **ret_path)
{
    if (strncmp(url, scheme, sizeof(scheme) - 1) != 0)
        return false;
    const char *place = url + sizeof(scheme) - 1;
    size_t size = strcspn(place, "/");
    const char *colon = memrchr(place, ':', size);
    size_t host_size = colon == NULL ? 0 : (size_t)(colon - place);
    size_t port_size = colon == NULL ? 0 : size - host_size - 1;
    if (host_size == 0 || port_size == 0 || host_size >= HOST_BYTES_MAX ||
        port_size >= PORT_BYTES_MAX || strspn(colon + 1, "0123456789") < port_size)
        return false;
    bool bracketed = host_size > 2 && place[0] == '[' && place[host_size - 1] == ']';
    (void)snprintf(host, HOST_BYTES_MAX, "%.*s", (int)(host_size - 2 * bracketed),
                   place + bracketed);
    (void)snprintf(port, PORT_BYTES_MAX, "%.*s", (int)port_size, colon + 1);
    *ret_path = place[size] == '\0' || place[size + 1] == '\0' ? NULL : place + size;
    return true;
}

bool http_post_is_url(const char *url)
{
    char host[HOST_BYTES_MAX], port[PORT_BYTES_MAX];
    const char *path;
    return split(url, host, port, &path);
}

/* --- the end --- */

static void released(struct http_post *p)
{
    if (--p->open > 0)
        return;
    buf_fini(&p->request);
    mem_free(p);
}

static void on_closed(uv_handle_t *h)
{
    released(h->data);
}

static void close_all(struct http_post *p)
{
    if (uv_is_closing((uv_handle_t *)&p->tcp))
        return;
    uv_close((uv_handle_t *)&p->tcp, on_closed);
    uv_close((uv_handle_t *)&p->timer, on_closed);
    (void)uv_cancel((uv_req_t *)&p->resolve); /* when it still waits for a thread */
}

static void end(struct http_post *p, bool ok)
{
    if (!p->ended) {
        p->ended = true;
        p->done(p->ctx, ok);
    }
    close_all(p);
}

void http_post_abandon(struct http_post *p)
{
    p->ended = true;
    close_all(p);
}

static void on_timeout(uv_timer_t *t)
{
    end(t->data, false);
}

/* --- the way --- */

static void on_alloc(uv_handle_t *h, size_t wanted, uv_buf_t *ret)
{
    struct http_post *p = h->data;
    (void)wanted;
    *ret = uv_buf_init(p->answer + p->answer_size, (unsigned)(sizeof(p->answer) - p->answer_size));
}

/* "HTTP/1.1 2": the rest of the answer says nothing that matters. */
static void on_read(uv_stream_t *s, ssize_t size, const uv_buf_t *buf)
{
    enum { DIGIT_AT = 9 };
    struct http_post *p = s->data;
    (void)buf;
    if (size > 0)
        p->answer_size += (size_t)size;
    if (p->answer_size > DIGIT_AT)
        end(p, memcmp(p->answer, "HTTP/1.", 7) == 0 && p->answer[DIGIT_AT] == '2');
    else if (size < 0)
        end(p, false);
}

static void on_written(uv_write_t *w, int status)
{
    struct http_post *p = w->data;
    if (status != 0)
        end(p, false);
    released(p);
}

static void on_connected(uv_connect_t *c, int status)
{
    struct http_post *p = c->data;
    uv_buf_t bytes = uv_buf_init((char *)p->request.data, (unsigned)p->request.size);
    if (status == 0 && !p->ended && uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_read) == 0 &&
        uv_write(&p->write, (uv_stream_t *)&p->tcp, &bytes, 1, on_written) == 0)
        p->open++;
    else
        end(p, false);
    released(p);
}

static void on_resolved(uv_getaddrinfo_t *r, int status, struct addrinfo *found)
{
    struct http_post *p = r->data;
    if (status == 0 && !p->ended &&
        uv_tcp_connect(&p->connect, &p->tcp, found->ai_addr, on_connected) == 0)
        p->open++;
    else
        end(p, false);
    uv_freeaddrinfo(found);
    released(p);
}

struct http_post *http_post_start(uv_loop_t *loop, const char *url, const char *path_default,
                                  struct slice head, struct slice body, uint64_t timeout_ms,
                                  void (*done)(void *ctx, bool ok), void *ctx)
{
    char host[HOST_BYTES_MAX], port[PORT_BYTES_MAX], lines[HEAD_BYTES_MAX];
    const char *path = NULL;
    struct http_post *p = mem_alloc_zero(sizeof(*p));
    p->done = done;
    p->ctx = ctx;
    p->tcp.data = p->timer.data = p->resolve.data = p->connect.data = p->write.data = p;
    (void)uv_tcp_init(loop, &p->tcp);
    (void)uv_timer_init(loop, &p->timer);
    p->open = 2;
    buf_init(&p->request, SIZE_MAX);
    host[0] = port[0] = '\0';
    bool fits = split(url, host, port, &path);
    int size =
        snprintf(lines, sizeof(lines),
                 "POST %s HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/x-protobuf\r\n"
                 "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                 path == NULL ? path_default : path, host, port, head.size + body.size);
    fits = fits && size > 0 && (size_t)size < sizeof(lines);
    if (fits) {
        (void)buf_append(&p->request, lines, (size_t)size);
        (void)buf_append(&p->request, head.data, head.size);
        (void)buf_append(&p->request, body.data, body.size);
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    /* What cannot begin ends with the time, so that it is never from inside. */
    if (fits && uv_getaddrinfo(loop, &p->resolve, on_resolved, host, port, &hints) == 0)
        p->open++;
    (void)uv_timer_start(&p->timer, on_timeout, timeout_ms, 0);
    return p;
}
