/* Plain TCP on libuv. One try at writing everything at once; the rest, if any, is copied or
 * referenced into one uv write request. */
#include "io.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/prompt.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct tcp_write {
    uv_write_t req;
    size_t refs_count;
    struct bref **refs;
    uint8_t *copied;
};

struct io_tcp {
    struct io io;
    uv_tcp_t uv;
    uv_shutdown_t shutdown_req;
    struct io_shared *shared;
    struct tcp_write *writing; /* busy */
    bool shutdown_wanted;
    bool closing;
    bool shares;
    bool shaking;
    uint64_t turn; /* in which it read last, and how much */
    size_t turn_bytes;
};

static struct io_tcp *tcp_of(const struct io *io)
{
    return CONTAINER_OF((struct io *)io, struct io_tcp, io);
}

/* --- reading --- */

enum {
    TURN_READ_BYTES = 512 << 10,
    READ_SHARE_MIN_BYTES = 8 << 10,
    HANDSHAKES_PER_TURN_MAX = 4,
};

void io_new_turn(struct io_shared *shared)
{
    size_t share = TURN_READ_BYTES / (shared->sharers_count > 0 ? shared->sharers_count : 1);
    if (share < READ_SHARE_MIN_BYTES)
        share = READ_SHARE_MIN_BYTES;
    shared->read_share_bytes = share < shared->read_buf_bytes ? share : shared->read_buf_bytes;
    shared->sharers_count = 0;
    shared->handshakes = 0;
    shared->turn++;
}

/* What it may still read in this turn. */
static size_t share_left(struct io_tcp *t)
{
    struct io_shared *s = t->shared;
    if (t->turn != s->turn) {
        t->turn = s->turn;
        t->turn_bytes = 0;
        s->sharers_count++;
    }
    return t->turn_bytes < s->read_share_bytes ? s->read_share_bytes - t->turn_bytes : 0;
}

/* No room: libuv says UV_ENOBUFS, and asks again in the loop's next turn. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct io_tcp *t = handle->data;
    buf->base = (char *)t->shared->read_buf;
    buf->len = t->shares ? share_left(t) : t->shared->read_buf_bytes;
    if (t->shaking && t->shared->handshakes >= HANDSHAKES_PER_TURN_MAX)
        buf->len = 0;
}

static void on_uv_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    struct io_tcp *t = stream->data;
    if (size == 0 || size == UV_ENOBUFS || t->closing)
        return;
    if (size < 0) {
        (void)uv_read_stop(stream);
        t->io.events->on_read(t->io.ctx, NULL, TV_ECLOSED);
        return;
    }
    t->shared->bytes_received += (uint64_t)size;
    t->turn_bytes += (size_t)size;
    t->io.events->on_read(t->io.ctx, (const uint8_t *)buf->base, size);
    prompt_check();
}

static int tcp_read_start(struct io *io)
{
    struct io_tcp *t = tcp_of(io);
    int rv = uv_read_start((uv_stream_t *)&t->uv, on_alloc, on_uv_read);
    return rv == 0 || rv == UV_EALREADY ? 0 : TV_ECLOSED;
}

static void tcp_read_stop(struct io *io)
{
    (void)uv_read_stop((uv_stream_t *)&tcp_of(io)->uv);
}

/* --- writing --- */

static void write_free(struct tcp_write *w)
{
    if (w == NULL)
        return;
    for (size_t i = 0; i < w->refs_count; i++)
        bref_unref(w->refs[i]);
    mem_free(w->refs);
    mem_free(w->copied);
    mem_free(w);
}

/* NULL: there is no memory. */
static struct tcp_write *write_new(size_t refs_max, size_t copied_bytes)
{
    struct tcp_write *w = mem_try_alloc_zero(sizeof(*w));
    if (w == NULL)
        return NULL;
    w->copied = copied_bytes > 0 ? mem_try_alloc(copied_bytes) : NULL;
    w->refs = mem_try_alloc(refs_max * sizeof(*w->refs));
    if (w->refs != NULL && (w->copied != NULL || copied_bytes == 0))
        return w;
    write_free(w);
    return NULL;
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    /* Sent or not: the owner closes in any case. */
    (void)req;
    (void)status;
}

static void shutdown_now(struct io_tcp *t)
{
    t->shutdown_wanted = false;
    (void)uv_shutdown(&t->shutdown_req, (uv_stream_t *)&t->uv, on_shutdown);
}

static void on_uv_write(uv_write_t *req, int status)
{
    struct io_tcp *t = req->handle->data;
    struct tcp_write *w = CONTAINER_OF(req, struct tcp_write, req);
    write_free(w);
    t->writing = NULL;
    if (t->closing)
        return;
    if (t->shutdown_wanted)
        shutdown_now(t);
    if (status != 0) {
        (void)uv_read_stop((uv_stream_t *)&t->uv);
        t->io.events->on_read(t->io.ctx, NULL, TV_ECLOSED);
        return;
    }
    t->io.events->on_drained(t->io.ctx);
}

/* Keep what lies behind the first `sent` bytes and let libuv write it. */
static int keep_rest(struct io_tcp *t, const struct io_vec *vecs, size_t vecs_count, size_t sent)
{
    size_t copied_bytes = 0;
    size_t first = 0;
    while (sent >= vecs[first].size)
        sent -= vecs[first++].size;
    size_t count = vecs_count - first;
    for (size_t i = first; i < vecs_count; i++)
        if (vecs[i].owner == NULL)
            copied_bytes += vecs[i].size;

    struct tcp_write *w = write_new(count, copied_bytes);
    uv_buf_t *bufs = w == NULL ? NULL : mem_try_alloc(count * sizeof(*bufs));
    if (bufs == NULL) {
        write_free(w);
        return TV_ENOMEM;
    }
    uint8_t *to = w->copied;
    for (size_t i = 0; i < count; i++) {
        struct io_vec v = vecs[first + i];
        if (i == 0) {
            v.data += sent;
            v.size -= sent;
        }
        if (v.owner != NULL) {
            w->refs[w->refs_count++] = bref_ref(v.owner);
        } else {
            memcpy(to, v.data, v.size);
            v.data = to;
            to += v.size;
        }
        bufs[i] = uv_buf_init((char *)v.data, (unsigned int)v.size);
    }
    t->writing = w;
    /* libuv copies the array of buffers. */
    int rv = uv_write(&w->req, (uv_stream_t *)&t->uv, bufs, (unsigned int)count, on_uv_write);
    mem_free(bufs);
    if (rv != 0) {
        t->writing = NULL;
        write_free(w);
        return TV_ECLOSED;
    }
    return 0;
}

static int tcp_send(struct io *io, const struct io_vec *vecs, size_t vecs_count)
{
    enum { BUFS_MAX = 64 };
    struct io_tcp *t = tcp_of(io);
    ASSERT(t->writing == NULL && vecs_count > 0);
    uv_buf_t bufs[BUFS_MAX];
    size_t first = 0;
    while (first < vecs_count) {
        size_t count = vecs_count - first < BUFS_MAX ? vecs_count - first : BUFS_MAX;
        size_t total = 0;
        for (size_t i = 0; i < count; i++) {
            bufs[i] = uv_buf_init((char *)vecs[first + i].data, (unsigned int)vecs[first + i].size);
            total += vecs[first + i].size;
        }
        int sent = uv_try_write((uv_stream_t *)&t->uv, bufs, (unsigned int)count);
        if (sent < 0 && sent != UV_EAGAIN)
            return TV_ECLOSED;
        sent = sent < 0 ? 0 : sent;
        t->shared->bytes_sent += total;
        if ((size_t)sent < total)
            return keep_rest(t, vecs + first, vecs_count - first, (size_t)sent);
        first += count;
    }
    return 0;
}

static bool tcp_is_busy(const struct io *io)
{
    return tcp_of(io)->writing != NULL;
}

static void tcp_shutdown(struct io *io)
{
    struct io_tcp *t = tcp_of(io);
    if (t->writing != NULL)
        t->shutdown_wanted = true;
    else
        shutdown_now(t);
}

/* --- life --- */

static void on_uv_close(uv_handle_t *handle)
{
    struct io_tcp *t = handle->data;
    t->io.events->on_closed(t->io.ctx);
    mem_free(t);
}

static void tcp_close(struct io *io)
{
    struct io_tcp *t = tcp_of(io);
    if (t->closing)
        return;
    t->closing = true;
    uv_close((uv_handle_t *)&t->uv, on_uv_close);
}

static void tcp_peer(const struct io *io, char *ret_text, size_t size)
{
    struct sockaddr_storage addr;
    int addr_size = sizeof(addr);
    char host[64];
    ret_text[0] = '\0';
    if (uv_tcp_getpeername(&tcp_of(io)->uv, (struct sockaddr *)&addr, &addr_size) != 0)
        return;
    if (addr.ss_family == AF_UNIX) {
        (void)snprintf(ret_text, size, "@"); /* it has no name; so Go prints it */
    } else if (addr.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr;
        if (uv_ip6_name(in6, host, sizeof(host)) == 0)
            (void)snprintf(ret_text, size, "[%s]:%u", host, (unsigned)ntohs(in6->sin6_port));
    } else if (addr.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&addr;
        if (uv_ip4_name(in, host, sizeof(host)) == 0)
            (void)snprintf(ret_text, size, "%s:%u", host, (unsigned)ntohs(in->sin_port));
    }
}

static void tcp_share(struct io *io)
{
    tcp_of(io)->shares = true;
}

static const struct io_ops tcp_ops = {
    .read_start = tcp_read_start,
    .read_stop = tcp_read_stop,
    .send = tcp_send,
    .is_busy = tcp_is_busy,
    .shutdown = tcp_shutdown,
    .close = tcp_close,
    .peer = tcp_peer,
    .share = tcp_share,
};

void io_tcp_set_shaking(struct io *io, bool shaking)
{
    tcp_of(io)->shaking = shaking;
}

static void on_refused_close(uv_handle_t *handle)
{
    mem_free(handle->data);
}

struct io *io_tcp_open(uv_loop_t *loop, struct io_shared *shared, int fd,
                       const struct io_events *events, void *ctx)
{
    enum { KEEPALIVE_S = 30 };
    static const int unsent_max = IO_UNSENT_BYTES_MAX;
    struct io_tcp *t = mem_try_alloc_zero(sizeof(*t));
    if (t == NULL) {
        (void)close(fd);
        return NULL;
    }
    t->io = (struct io){.ops = &tcp_ops, .events = events, .ctx = ctx};
    t->shared = shared;
    (void)uv_tcp_init(loop, &t->uv);
    t->uv.data = t;
    if (uv_tcp_open(&t->uv, fd) != 0) {
        (void)close(fd);
        uv_close((uv_handle_t *)&t->uv, on_refused_close);
        return NULL;
    }
    /* Best effort: a socket without these still works. */
    (void)uv_tcp_nodelay(&t->uv, 1);
    (void)uv_tcp_keepalive(&t->uv, 1, KEEPALIVE_S);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_max, sizeof(unsent_max));
    return &t->io;
}
