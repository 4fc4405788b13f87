/* The server side: listeners, what a request's headers mean, and draining. */
#include "address.h"
#include "internal.h"
#include "metadata.h"
#include "page.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)

/* Owner of itself: it outlives the server until uv has closed the poll handle. */
struct listener {
    struct list link;
    struct grpc_server *server; /* NULL once closing */
    uv_poll_t poll;
    struct timer retry; /* after the process ran out of file descriptors */
    int fd;
    const struct grpc_port *port;
    char *path; /* of a socket in the file system: removed in the end; else NULL */
};

static const struct grpc_port plain_port = {.plain = true};

struct grpc_server {
    struct grave grave;
    struct grpc_loop *gl;
    struct grpc_server_options o;
    struct conn_limits limits;
    const struct grpc_method *methods;
    uint32_t methods_count;
    const struct grpc_method **slots; /* by hash of the path, open addressing */
    uint32_t slots_mask;
    struct list listeners;
    struct list conns;
    struct grpc_server_stats stats;
    void (*accept)(void *arg, int fd, const struct grpc_port *port);
    void *accept_arg;
    bool draining;
    void (*drained)(struct grpc_server *s, void *arg);
    void *drained_arg;
    struct timer drained_timer; /* tells `drained` from the loop */
};

void grpc_server_options_init(struct grpc_server_options *o)
{
    *o = (struct grpc_server_options){
        .recv_message_bytes_max = 4 << 20,
        .send_message_bytes_max = INT32_MAX,
        .concurrent_streams_max = 10000,
        .conns_max = 60000,
        .header_list_bytes_max = 64 << 10,
        .stream_window_bytes = 256 << 10,
        .conn_window_bytes = 1 << 20,
        .send_queue_low_bytes = 256 << 10,
        .send_queue_high_bytes = 4 << 20,
        .send_queue_bytes_max = 1 << 30,
        .keepalive_min_time_ms = 5000,
        .keepalive_interval_ms = 2 * 3600 * 1000,
        .keepalive_timeout_ms = 20000,
        .handshake_timeout_ms = 120000,
        .tls_timeout_ms = 10000,
        .http1_body_bytes_max = 1 << 20,
    };
}

/* --- methods --- */

static uint32_t hash_path(struct slice path)
{
    return crc32c(0, path.data, path.size);
}

static void index_methods(struct grpc_server *s)
{
    uint32_t count = 16;
    while (count < 4 * s->methods_count)
        count *= 2;
    s->slots = mem_alloc_zero(count * sizeof(*s->slots));
    s->slots_mask = count - 1;
    for (uint32_t i = 0; i < s->methods_count; i++) {
        ASSERT(s->methods[i].ops != NULL && s->methods[i].ops->closed != NULL);
        uint32_t at = hash_path(slice_of_string(s->methods[i].path)) & s->slots_mask;
        while (s->slots[at] != NULL)
            at = (at + 1) & s->slots_mask;
        s->slots[at] = &s->methods[i];
    }
}

static const struct grpc_method *find_method(const struct grpc_server *s, struct slice path)
{
    uint32_t at = hash_path(path) & s->slots_mask;
    for (; s->slots[at] != NULL; at = (at + 1) & s->slots_mask) {
        const char *have = s->slots[at]->path;
        if (strncmp(have, (const char *)path.data, path.size) == 0 && have[path.size] == '\0')
            return s->slots[at];
    }
    return NULL;
}

/* `service` is "/name/". */
static bool knows_service(const struct grpc_server *s, struct slice service)
{
    for (uint32_t i = 0; i < s->methods_count; i++)
        if (slice_starts_with(slice_of_string(s->methods[i].path), service))
            return true;
    return false;
}

/* --- a request's headers --- */

static void on_content_type(struct grpc_call *call, struct slice value)
{
    static const char base[] = "application/grpc";
    size_t size = sizeof(base) - 1;
    if (slice_starts_with(value, SLICE_LITERAL("application/grpc")) &&
        (value.size == size || value.data[size] == '+' || value.data[size] == ';')) {
        call->content_type_ok = true;
        call->content_type_proto = slice_equal(value, SLICE_LITERAL("application/grpc+proto"));
        return;
    }
    (void)metadata_add(&call->metadata, SLICE_LITERAL("content-type"), value);
}

static void on_path(struct grpc_call *call, struct slice value)
{
    call->method = find_method(call->conn->server, value);
    if (call->method == NULL)
        (void)metadata_add(&call->metadata, SLICE_LITERAL(":path"), value);
}

static void on_method(struct grpc_call *call, struct slice value)
{
    if (slice_equal(value, SLICE_LITERAL("POST")))
        return;
    call->bad_method = true;
    (void)metadata_add(&call->metadata, SLICE_LITERAL(":method"), value);
}

static void on_encoding(struct grpc_call *call, struct slice value)
{
    if (value.size > 0 && !slice_equal(value, SLICE_LITERAL("identity")))
        call->encoded = true;
    (void)metadata_add(&call->metadata, SLICE_LITERAL("grpc-encoding"), value);
}

void server__header(struct grpc_call *call, enum field field, struct slice name, struct slice value)
{
    switch (field) {
    case FIELD_PATH:
        on_path(call, value);
        break;
    case FIELD_METHOD:
        on_method(call, value);
        break;
    case FIELD_CONTENT_TYPE:
        on_content_type(call, value);
        break;
    case FIELD_TIMEOUT:
        call->deadline_set = true;
        if (timeout_parse(value, &call->timeout_ns, &call->text) != 0)
            call->bad_timeout = true;
        break;
    case FIELD_ENCODING:
        on_encoding(call, value);
        break;
    case FIELD_SCHEME:
    case FIELD_TE:
        break;
    default:
        if (metadata_add(&call->metadata, name, value) != 0)
            call->headers_too_large = true; /* refused: half of what it says might mean another */
        break;
    }
}

/* Refuse a call that its service never hears of. */
static void refuse(struct grpc_call *call, const char *http_status, enum grpc_code code,
                   struct buf *text)
{
    server__answer_status(call->conn, call->stream_id, http_status, code, buf_slice(text));
    buf_fini(text);
}

static void refuse_path(struct grpc_call *call, struct slice path)
{
    struct buf text;
    buf_init(&text, SIZE_MAX);
    size_t slash = path.size;
    while (slash > 0 && path.data[slash - 1] != '/')
        slash--;
    if (path.size == 0 || path.data[0] != '/' || slash <= 1) {
        text_format(&text, "malformed method name: ");
        text_quote(path, &text);
    } else if (knows_service(call->conn->server, slice_of(path.data, slash))) {
        text_format(&text, "unknown method %.*s for service %.*s", (int)(path.size - slash),
                    (const char *)path.data + slash, (int)(slash - 2), (const char *)path.data + 1);
    } else {
        text_format(&text, "unknown service %.*s", (int)(slash - 2), (const char *)path.data + 1);
    }
    refuse(call, "200", GRPC_UNIMPLEMENTED, &text);
}

/* The checks of grpc-go's operateHeaders() and handleStream(), in their order. */
static bool is_refused(struct grpc_call *call)
{
    struct buf text;
    buf_init(&text, SIZE_MAX);
    if (!call->content_type_ok) {
        text_format(&text, "invalid gRPC request content-type ");
        text_quote(metadata_get(&call->metadata, SLICE_LITERAL("content-type")), &text);
        refuse(call, "415", GRPC_INVALID_ARGUMENT, &text);
        return true;
    }
    if (call->bad_timeout) {
        (void)buf_append(&text, call->text.data, call->text.size);
        refuse(call, "400", GRPC_INTERNAL, &text);
        return true;
    }
    if (call->bad_method) {
        text_format(&text, "Received a HEADERS frame with :method ");
        text_quote(metadata_get(&call->metadata, SLICE_LITERAL(":method")), &text);
        text_format(&text, " which should be POST");
        refuse(call, "405", GRPC_INTERNAL, &text);
        return true;
    }
    if (call->deadline_set && call->timeout_ns == 0) {
        text_format(&text, "context deadline exceeded");
        refuse(call, "200", GRPC_DEADLINE_EXCEEDED, &text);
        return true;
    }
    if (call->method == NULL) {
        refuse_path(call, metadata_get(&call->metadata, SLICE_LITERAL(":path")));
        return true;
    }
    if (call->encoded) {
        text_format(&text, "grpc: Decompressor is not installed for grpc-encoding ");
        text_quote(metadata_get(&call->metadata, SLICE_LITERAL("grpc-encoding")), &text);
        refuse(call, "200", GRPC_UNIMPLEMENTED, &text);
        return true;
    }
    return false;
}

/* Of a call with one message each way: when that has come. */
static bool counts_from_message(const struct grpc_call *call)
{
    return !call->method->client_streaming && !call->method->server_streaming;
}

void server__open(struct grpc_call *call, bool has_timeout, uint64_t timeout_ns)
{
    struct timer_wheel *timers = &call->gl->timers;
    call->ops = call->method->ops;
    call->opened = true;
    call->deadline_ns = UINT64_MAX;
    server__call_counted(call->conn, 1);
    if (has_timeout) {
        /* Never before the client's own: clientv3 takes our DEADLINE_EXCEEDED, while its time is
         * not up, for a reason to make the same call again, a put too. */
        call->deadline_ns = timer_fresh_now_ns(timers) + NS_PER_MS + timeout_ns;
        timer_set(timers, &call->deadline, call->deadline_ns);
    }
    if (!counts_from_message(call))
        server__call_began(call);
    if (call->method->open != NULL)
        call->method->open(call, call->method->arg);
}

bool server__request(struct grpc_conn *conn, struct grpc_call *call, bool end_stream)
{
    call->headers_seen = true;
    if (call->headers_too_large) {
        call->recv_off = true;
        call__reset(call, NGHTTP2_FRAME_SIZE_ERROR);
        return false;
    }
    if (!field_block_is_request(&call->fields)) {
        call__malformed(call);
        return false;
    }
    if (page__is_wanted(call)) {
        call->recv_off = true;
        page__open(call);
        if (end_stream)
            page__end(call->page);
        return false;
    }
    if (is_refused(call)) {
        call->recv_off = true;
        return false;
    }
    call__hold(call);
    server__open(call, call->deadline_set, call->timeout_ns);
    if (end_stream)
        call__peer_closed(call);
    call__release(call);
    return true;
}

/* --- connections --- */

void server__conn_gone(struct grpc_conn *conn)
{
    struct grpc_server *s = conn->server;
    list_remove(&conn->link);
    s->stats.conns--;
    if (s->o.conn_closed != NULL)
        s->o.conn_closed(conn, s->o.conn_arg);
    if (s->draining && s->stats.conns == 0)
        timer_set(&s->gl->timers, &s->drained_timer, 0);
}

void server__call_counted(struct grpc_conn *conn, int change)
{
    struct grpc_server *s = conn->server;
    if (s == NULL)
        return;
    s->stats.calls += (uint64_t)(int64_t)change;
    s->stats.calls_total += change > 0;
}

const uint64_t grpc_handling_bounds_ns[GRPC_HANDLING_BOUNDS_COUNT] = {
    5000000,   10000000,   25000000,   50000000,   100000000,  250000000,
    500000000, 1000000000, 2500000000, 5000000000, 10000000000};

void server__call_began(struct grpc_call *call)
{
    const struct grpc_server *s = call->conn->server;
    if (s->o.method_stats == NULL)
        return;
    call->stats = &s->o.method_stats[call->method - s->methods];
    call->started_ns = grpc_loop_now_ns(call->gl);
    metric_add(&call->stats->started, 1);
}

void server__call_ended(struct grpc_call *call, enum grpc_code code)
{
    struct grpc_method_stats *stats = call->stats;
    call->stats = NULL;
    if (counts_from_message(call))
        metric_add(&stats->messages_sent, 1);
    if (call->method->client_streaming)
        metric_add(&stats->messages_received, 1);
    metric_add(&stats->handled[(unsigned)code < GRPC_CODES_COUNT ? code : GRPC_UNKNOWN], 1);
    uint64_t ns = grpc_loop_now_ns(call->gl) - call->started_ns;
    uint32_t at = 0;
    while (at < GRPC_HANDLING_BOUNDS_COUNT && ns > grpc_handling_bounds_ns[at])
        at++;
    metric_add(&stats->handling[at], 1);
    metric_add(&stats->handling_ns, ns);
}

bool grpc_call_uncount(struct grpc_call *call)
{
    struct grpc_method_stats *stats = call->stats;
    if (stats == NULL || !counts_from_message(call))
        return false;
    call->stats = NULL;
    metric_set(&stats->started, metric_read(&stats->started) - 1);
    metric_set(&stats->messages_received, metric_read(&stats->messages_received) - 1);
    return true;
}

uint64_t grpc_call_started_ns(const struct grpc_call *call)
{
    return call->started_ns;
}

void server__message_counted(struct grpc_call *call, bool sent, size_t size)
{
    struct grpc_server *s = call->conn->server;
    if (s == NULL)
        return;
    bool from_message = counts_from_message(call);
    *(sent ? &call->conn->bytes.sent : &call->conn->bytes.received) += size;
    s->stats.messages_sent += sent;
    s->stats.messages_received += !sent;
    if (s->o.method_stats == NULL)
        return;
    if (!sent && from_message)
        server__call_began(call);
    if (call->stats == NULL)
        return;
    metric_add(sent ? &s->o.message_bytes->sent : &s->o.message_bytes->received, size);
    if (!sent)
        metric_add(&call->stats->messages_received, 1);
    else if (!from_message)
        metric_add(&call->stats->messages_sent, 1);
}

uint64_t server__keepalive_interval_ns(const struct grpc_conn *conn)
{
    return conn->server->o.keepalive_interval_ms * NS_PER_MS;
}

uint64_t server__keepalive_timeout_ns(const struct grpc_conn *conn)
{
    return conn->server->o.keepalive_timeout_ms * NS_PER_MS;
}

const struct grpc_server_options *server__options(const struct grpc_server *s)
{
    return &s->o;
}

static void bound_silence(struct grpc_conn *conn, uint64_t timeout_ms)
{
    struct timer_wheel *timers = &conn->gl->timers;
    if (timeout_ms > 0)
        timer_set(timers, &conn->timer, timer_now_ns(timers) + timeout_ms * NS_PER_MS);
}

void server__await_first_bytes(struct grpc_conn *conn)
{
    bound_silence(conn, conn->server->o.handshake_timeout_ms);
}

int grpc_server_adopt(struct grpc_server *s, int fd, const struct grpc_port *port)
{
    if (port == NULL)
        port = &plain_port;
    const struct io_tls_setup tls = {.context = port->tls, .plain_allowed = port->plain};
    if (s->draining || s->stats.conns >= s->o.conns_max) {
        PROBE(grpc_conns_full);
        (void)close(fd);
        return TV_EBUSY;
    }
    struct grpc_conn *conn =
        conn__new(s->gl, s, NULL, &s->limits, fd, port->tls != NULL ? &tls : NULL);
    if (conn == NULL)
        return TV_ECLOSED;
    conn->port = port;
    list_push_back(&s->conns, &conn->link);
    s->stats.conns++;
    s->stats.conns_total++;
    bound_silence(conn, port->tls != NULL ? s->o.tls_timeout_ms : s->o.handshake_timeout_ms);
    if (s->o.conn_opened != NULL)
        s->o.conn_opened(conn, s->o.conn_arg);
    return 0;
}

void grpc_server_set_accept(struct grpc_server *s,
                            void (*accept_fn)(void *arg, int fd, const struct grpc_port *port),
                            void *arg)
{
    s->accept = accept_fn;
    s->accept_arg = arg;
}

/* --- listening --- */

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    enum { ACCEPTS_PER_TURN_MAX = 64, RETRY_MS = 100 };
    struct listener *l = poll->data;
    for (int i = 0; i < ACCEPTS_PER_TURN_MAX && l->server != NULL; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && errno != EAGAIN) {
            /* Out of descriptors or memory: polling on would only spin. */
            PROBE(grpc_accept_failed);
            struct timer_wheel *timers = &l->server->gl->timers;
            (void)uv_poll_stop(&l->poll);
            timer_set(timers, &l->retry, timer_now_ns(timers) + RETRY_MS * NS_PER_MS);
        }
        if (fd < 0)
            return;
        struct grpc_server *s = l->server;
        if (s->accept != NULL)
            s->accept(s->accept_arg, fd, l->port);
        else
            (void)grpc_server_adopt(s, fd, l->port);
    }
}

static void on_retry(struct timer *t)
{
    struct listener *l = CONTAINER_OF(t, struct listener, retry);
    (void)uv_poll_start(&l->poll, UV_READABLE, on_acceptable);
}

static int open_socket(const struct sockaddr *addr, socklen_t addr_size, bool reuse_port,
                       int *ret_fd)
{
    int one = 1;
    int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return TV_EIO;
    if (addr->sa_family != AF_UNIX)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (reuse_port && addr->sa_family != AF_UNIX)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)); /* or bind() says so */
    if (bind(fd, addr, addr_size) != 0 || listen(fd, 4096) != 0) {
        int rv = errno == EADDRINUSE ? TV_EBUSY : TV_EIO;
        (void)close(fd);
        return rv;
    }
    *ret_fd = fd;
    return 0;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage addr;
    socklen_t size = sizeof(addr);
    if (getsockname(fd, (struct sockaddr *)&addr, &size) != 0)
        return 0;
    if (addr.ss_family == AF_UNIX)
        return 0;
    return ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
                                            : ((struct sockaddr_in *)&addr)->sin_port);
}

static int open_address(const struct address *a, bool reuse_port, int *ret_fd)
{
    struct addrinfo *found;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct sockaddr_storage addr;
    socklen_t addr_size;
    if (a->path[0] != '\0') {
        (void)unlink(a->path); /* of a process that is gone, as etcd does */
        (void)address_numeric(a, &addr, &addr_size);
        return open_socket((struct sockaddr *)&addr, addr_size, reuse_port, ret_fd);
    }
    if (getaddrinfo(a->host[0] != '\0' ? a->host : "::", a->port, &hints, &found) != 0)
        return TV_EINVAL;
    int rv = open_socket(found->ai_addr, found->ai_addrlen, reuse_port, ret_fd);
    freeaddrinfo(found);
    return rv;
}

int grpc_server_listen(struct grpc_server *s, const char *address, uint16_t *ret_port)
{
    return grpc_server_listen_on(s, address, &plain_port, ret_port);
}

int grpc_server_listen_on(struct grpc_server *s, const char *address, const struct grpc_port *port,
                          uint16_t *ret_port)
{
    struct address a;
    int fd;
    int rv = address_parse(address, &a);
    if (rv == 0)
        rv = open_address(&a, s->o.reuse_port, &fd);
    if (rv != 0)
        return rv;
    struct listener *l = mem_alloc_zero(sizeof(*l));
    l->server = s;
    l->fd = fd;
    l->port = port;
    l->path = a.path[0] != '\0' ? mem_strdup(a.path) : NULL;
    l->retry.fn = on_retry;
    l->poll.data = l;
    if (uv_poll_init(s->gl->uv, &l->poll, fd) != 0) {
        (void)close(fd);
        mem_free(l->path);
        mem_free(l);
        return TV_EIO;
    }
    (void)uv_poll_start(&l->poll, UV_READABLE, on_acceptable);
    list_push_back(&s->listeners, &l->link);
    if (ret_port != NULL)
        *ret_port = port_of(fd);
    return 0;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct listener *l = handle->data;
    (void)close(l->fd);
    mem_free(l->path);
    mem_free(l);
}

static void stop_listening(struct grpc_server *s)
{
    while (!list_is_empty(&s->listeners)) {
        struct listener *l = CONTAINER_OF(s->listeners.next, struct listener, link);
        list_remove(&l->link);
        l->server = NULL;
        if (l->path != NULL)
            (void)unlink(l->path);
        timer_clear(&s->gl->timers, &l->retry);
        uv_close((uv_handle_t *)&l->poll, on_listener_closed);
    }
}

/* --- life --- */

static void server_free_now(struct grave *g)
{
    struct grpc_server *s = CONTAINER_OF(g, struct grpc_server, grave);
    mem_free(s->slots);
    mem_free(s);
}

static void on_drained(struct timer *t)
{
    struct grpc_server *s = CONTAINER_OF(t, struct grpc_server, drained_timer);
    if (s->drained != NULL)
        s->drained(s, s->drained_arg);
}

struct grpc_server *grpc_server_new(struct grpc_loop *gl, const struct grpc_server_options *o,
                                    const struct grpc_method *methods, uint32_t methods_count)
{
    struct grpc_server *s = mem_alloc_zero(sizeof(*s));
    s->gl = gl;
    s->o = *o;
    if (o->bulk_rest != NULL)
        gl->rest_meter = o->bulk_rest;
    s->limits = (struct conn_limits){
        .recv_message_bytes_max = o->recv_message_bytes_max,
        .send_message_bytes_max = o->send_message_bytes_max,
        .header_list_bytes_max = o->header_list_bytes_max,
        .stream_window_bytes = o->stream_window_bytes,
        .conn_window_bytes = o->conn_window_bytes,
        .conn_bytes_max = o->conn_bytes_max,
        .loop_bytes_max = o->loop_bytes_max,
        .send_queue_low_bytes = o->send_queue_low_bytes,
        .send_queue_high_bytes = o->send_queue_high_bytes,
        .send_queue_bytes_max = o->send_queue_bytes_max,
    };
    s->methods = methods;
    s->methods_count = methods_count;
    list_init(&s->listeners);
    list_init(&s->conns);
    list_init(&s->grave.link);
    s->grave.free_fn = server_free_now;
    s->drained_timer.fn = on_drained;
    index_methods(s);
    return s;
}

void grpc_server_drain(struct grpc_server *s, void (*done)(struct grpc_server *s, void *arg),
                       void *arg)
{
    s->drained = done;
    s->drained_arg = arg;
    if (s->draining)
        return;
    s->draining = true;
    stop_listening(s);
    if (s->stats.conns == 0)
        timer_set(&s->gl->timers, &s->drained_timer, 0);
    LIST_EACH_SAFE (it, after, &s->conns)
        conn__drain(CONTAINER_OF(it, struct grpc_conn, link));
}

void grpc_server_free(struct grpc_server *s)
{
    s->drained = NULL;
    stop_listening(s);
    while (!list_is_empty(&s->conns))
        conn__kill(CONTAINER_OF(s->conns.next, struct grpc_conn, link));
    timer_clear(&s->gl->timers, &s->drained_timer);
    /* A caller further up the stack may still look at it. */
    list_push_back(&s->gl->graveyard, &s->grave.link);
}

void grpc_server_stats(const struct grpc_server *s, struct grpc_server_stats *ret_stats)
{
    *ret_stats = s->stats;
    ret_stats->bytes_received = s->gl->io.bytes_received;
    ret_stats->bytes_sent = s->gl->io.bytes_sent;
}
