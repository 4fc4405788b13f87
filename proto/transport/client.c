/* The client side: a channel keeps one connection up, and what a response's headers mean.
 *
 * A channel's states and who moves it:
 *
 *     BACKOFF --attempt()--> CONNECTING --client__conn_ready()--> READY
 *        ^------- lost() --------/-------------- lost() -----------/       any --close--> CLOSED
 *
 * A connection that the server sends away (GOAWAY) is left to its open calls; a new one is made. */
#include "address.h"
#include "internal.h"
#include "metadata.h"

#include "base/assert.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST_FIELDS_MAX = 64, ERROR_TEXT_BYTES = 256 };

#define NS_PER_MS UINT64_C(1000000)
#define TEXT_CLOSING SLICE_LITERAL("grpc: the client connection is closing")

/* A socket being connected. Owner of itself until uv has closed the poll handle. */
struct dial {
    struct grpc_channel *channel; /* NULL: given up */
    uv_poll_t poll;
    int fd; /* -1 once handed on */
};

struct resolve {
    struct grpc_channel *channel; /* NULL: given up */
    uv_getaddrinfo_t req;
};

struct grpc_channel {
    struct grave grave;
    struct grpc_loop *gl;
    struct grpc_channel_options o; /* its strings are ours */
    struct conn_limits limits;
    struct address local; /* an empty host: the kernel chooses */
    char **addresses;
    uint32_t address_at;
    enum grpc_channel_state state;
    struct grpc_conn *conn; /* the current one, ready or not */
    struct list conns;      /* all */
    struct list waiting;    /* calls without a connection */
    struct list ending;     /* calls without a stream, about to be told the end */
    uint32_t calls_count;
    struct timer timer; /* backoff, or the bound on connecting */
    struct rng rng;
    uint64_t backoff_ms;
    struct dial *dial;
    struct resolve *resolve;
    char error[ERROR_TEXT_BYTES]; /* of the last attempt */
};

void grpc_channel_options_init(struct grpc_channel_options *o)
{
    *o = (struct grpc_channel_options){
        .recv_message_bytes_max = INT32_MAX,
        .send_message_bytes_max = INT32_MAX,
        .header_list_bytes_max = 64 << 10,
        .stream_window_bytes = 1 << 20,
        .conn_window_bytes = 4 << 20,
        .send_queue_low_bytes = 256 << 10,
        .send_queue_high_bytes = 4 << 20,
        .send_queue_bytes_max = 1 << 30,
        .calls_max = 100000,
        .connect_timeout_ms = 5000,
        .backoff_min_ms = 100,
        .backoff_max_ms = 3000,
        .keepalive_timeout_ms = 20000,
    };
}

/* --- connecting --- */

static void lost(struct grpc_channel *ch);

/* The owner may close the channel from inside: nothing is touched after this. */
static void set_state(struct grpc_channel *ch, enum grpc_channel_state state)
{
    if (ch->state == state || ch->state == GRPC_CHANNEL_CLOSED)
        return;
    ch->state = state;
    if (ch->o.state_changed != NULL)
        ch->o.state_changed(ch, state, ch->addresses[ch->address_at], ch->o.arg);
}

static void set_error(struct grpc_channel *ch, const char *what, const char *why)
{
    (void)snprintf(
        ch->error, sizeof(ch->error),
        "connection error: desc = \"transport: Error while dialing: dial tcp %s: %s: %s\"",
        address_text(ch->addresses[ch->address_at]), what, why);
}

static void on_dial_closed(uv_handle_t *handle)
{
    struct dial *d = handle->data;
    if (d->fd >= 0)
        (void)close(d->fd);
    mem_free(d);
}

static void give_up(struct grpc_channel *ch)
{
    if (ch->dial != NULL) {
        ch->dial->channel = NULL;
        uv_close((uv_handle_t *)&ch->dial->poll, on_dial_closed);
        ch->dial = NULL;
    }
    if (ch->resolve != NULL) {
        ch->resolve->channel = NULL;
        (void)uv_cancel((uv_req_t *)&ch->resolve->req);
        ch->resolve = NULL;
    }
}

static void on_connected(struct grpc_channel *ch, int fd)
{
    struct address a;
    int rv = address_parse(ch->addresses[ch->address_at], &a);
    ASSERT(rv == 0);
    const char *host = a.path[0] != '\0' ? "localhost" : a.host;
    const struct io_tls_setup tls = {.context = ch->o.tls,
                                     .host = ch->o.tls_host != NULL ? ch->o.tls_host : host};
    struct grpc_conn *conn = conn__new(ch->gl, NULL, ch, &ch->limits, fd, a.secure ? &tls : NULL);
    if (conn == NULL) {
        lost(ch);
        return;
    }
    ch->conn = conn;
    list_push_back(&ch->conns, &conn->link);
    /* The bound on connecting holds until the server's SETTINGS are here. */
    timer_set(&ch->gl->timers, &conn->timer, ch->timer.at_ns);
    timer_clear(&ch->gl->timers, &ch->timer);
    if (conn__begin_http2(conn) != 0)
        conn__kill(conn);
}

static void on_dialed(uv_poll_t *poll, int status, int events)
{
    struct dial *d = poll->data;
    struct grpc_channel *ch = d->channel;
    int error = 0;
    socklen_t size = sizeof(error);
    if (ch == NULL)
        return;
    (void)uv_poll_stop(poll);
    if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    int fd = d->fd;
    if (error == 0)
        d->fd = -1;
    give_up(ch);
    if (error != 0) {
        set_error(ch, "connect", strerror(error));
        lost(ch);
        return;
    }
    on_connected(ch, fd);
}

/* Where it comes from, any port. A socket of the file system comes from nowhere. */
static int bind_local(const struct grpc_channel *ch, int fd, const struct sockaddr *to)
{
    struct sockaddr_storage addr;
    socklen_t addr_size;
    if (ch->local.host[0] == '\0' || to->sa_family == AF_UNIX)
        return 0;
    int rv = address_numeric(&ch->local, &addr, &addr_size);
    ASSERT(rv == 0);
    if (addr.ss_family != to->sa_family) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return bind(fd, (const struct sockaddr *)&addr, addr_size);
}

static void dial(struct grpc_channel *ch, const struct sockaddr *addr, socklen_t addr_size)
{
    int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        set_error(ch, "socket", strerror(errno));
        lost(ch);
        return;
    }
    bool bound = bind_local(ch, fd, addr) == 0;
    if (!bound || (connect(fd, addr, addr_size) != 0 && errno != EINPROGRESS)) {
        set_error(ch, bound ? "connect" : "bind", strerror(errno));
        (void)close(fd);
        lost(ch);
        return;
    }
    struct dial *d = mem_try_alloc_zero(sizeof(*d));
    if (d == NULL) {
        set_error(ch, "connect", tv_err_text(TV_ENOMEM));
        (void)close(fd);
        lost(ch);
        return;
    }
    d->channel = ch;
    d->fd = fd;
    d->poll.data = d;
    if (uv_poll_init(ch->gl->uv, &d->poll, fd) != 0) {
        (void)close(fd);
        mem_free(d);
        lost(ch);
        return;
    }
    ch->dial = d;
    (void)uv_poll_start(&d->poll, UV_WRITABLE, on_dialed);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct resolve *r = CONTAINER_OF(req, struct resolve, req);
    struct grpc_channel *ch = r->channel;
    mem_free(r);
    if (ch != NULL) {
        ch->resolve = NULL;
        if (status == 0) {
            dial(ch, found->ai_addr, found->ai_addrlen);
        } else {
            set_error(ch, "lookup", uv_strerror(status));
            lost(ch);
        }
    }
    uv_freeaddrinfo(found);
}

static void resolve(struct grpc_channel *ch, const struct address *a)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct resolve *r = mem_try_alloc_zero(sizeof(*r));
    if (r == NULL) {
        set_error(ch, "lookup", tv_err_text(TV_ENOMEM));
        lost(ch);
        return;
    }
    r->channel = ch;
    if (uv_getaddrinfo(ch->gl->uv, &r->req, on_resolved, a->host, a->port, &hints) != 0) {
        mem_free(r);
        lost(ch);
        return;
    }
    ch->resolve = r;
}

static void attempt(struct grpc_channel *ch)
{
    struct address a;
    struct sockaddr_storage addr;
    socklen_t addr_size;
    ASSERT(ch->conn == NULL && ch->dial == NULL && ch->resolve == NULL);
    timer_set(&ch->gl->timers, &ch->timer,
              timer_now_ns(&ch->gl->timers) + ch->o.connect_timeout_ms * NS_PER_MS);
    ASSERT(address_parse(ch->addresses[ch->address_at], &a) == 0);
    set_state(ch, GRPC_CHANNEL_CONNECTING);
    if (ch->state != GRPC_CHANNEL_CONNECTING)
        return;
    if (address_numeric(&a, &addr, &addr_size) == 0)
        dial(ch, (struct sockaddr *)&addr, addr_size);
    else
        resolve(ch, &a);
}

static void on_channel_timer(struct timer *t)
{
    struct grpc_channel *ch = CONTAINER_OF(t, struct grpc_channel, timer);
    if (ch->state != GRPC_CHANNEL_CONNECTING) {
        attempt(ch);
        return;
    }
    set_error(ch, "connect", "i/o timeout");
    give_up(ch);
    lost(ch);
}

/* Calls that do not wait longer than this attempt. */
static void fail_waiting(struct grpc_channel *ch)
{
    LIST_EACH_SAFE (it, after, &ch->waiting) {
        struct grpc_call *call = CONTAINER_OF(it, struct grpc_call, link);
        if (!call->wait_for_ready)
            call__abort(call, GRPC_UNAVAILABLE, slice_of_string(ch->error));
    }
}

/* There is no connection (any more): the next address at once, after the last one a pause. */
static void lost(struct grpc_channel *ch)
{
    if (ch->state == GRPC_CHANNEL_CLOSED)
        return;
    uint64_t delay_ms = 0;
    uint32_t next = (ch->address_at + 1) % ch->o.addresses_count;
    if (next == 0 || ch->state == GRPC_CHANNEL_READY) {
        delay_ms = (uint64_t)((double)ch->backoff_ms * (0.8 + 0.4 * rng_unit(&ch->rng)));
        ch->backoff_ms *= 2;
        if (ch->backoff_ms > ch->o.backoff_max_ms)
            ch->backoff_ms = ch->o.backoff_max_ms;
        fail_waiting(ch);
    }
    timer_set(&ch->gl->timers, &ch->timer, timer_now_ns(&ch->gl->timers) + delay_ms * NS_PER_MS);
    uint32_t before = ch->address_at;
    set_state(ch, GRPC_CHANNEL_BACKOFF);
    if (ch->state != GRPC_CHANNEL_CLOSED && ch->address_at == before)
        ch->address_at = next;
}

void client__conn_ready(struct grpc_conn *conn)
{
    struct grpc_channel *ch = conn->channel;
    if (ch->conn != conn)
        return;
    ch->backoff_ms = ch->o.backoff_min_ms;
    ch->error[0] = '\0';
    timer_clear(&ch->gl->timers, &conn->timer);
    conn__start_timer(conn);
    set_state(ch, GRPC_CHANNEL_READY);
    while (ch->state == GRPC_CHANNEL_READY && ch->conn == conn && !list_is_empty(&ch->waiting))
        client__submit(CONTAINER_OF(ch->waiting.next, struct grpc_call, link));
}

void client__conn_goaway(struct grpc_conn *conn)
{
    struct grpc_channel *ch = conn->channel;
    conn->draining = true;
    conn->goaway_final = true;
    conn__mark_dirty(conn);
    if (ch->conn != conn)
        return;
    ch->conn = NULL;
    lost(ch);
}

void client__conn_gone(struct grpc_conn *conn)
{
    struct grpc_channel *ch = conn->channel;
    list_remove(&conn->link);
    if (ch->conn != conn)
        return;
    ch->conn = NULL;
    const char *tls_error = io_tls_error(conn->io);
    if (tls_error != NULL && !conn->settings_seen)
        (void)snprintf(ch->error, sizeof(ch->error),
                       "connection error: desc = \"transport: authentication handshake failed: "
                       "%.150s\"",
                       tls_error);
    else if (ch->error[0] == '\0')
        (void)snprintf(ch->error, sizeof(ch->error),
                       "connection error: desc = \"error reading "
                       "server preface: connection lost\"");
    lost(ch);
}

uint64_t client__keepalive_interval_ns(const struct grpc_conn *conn)
{
    return conn->channel->o.keepalive_time_ms * NS_PER_MS;
}

uint64_t client__keepalive_timeout_ns(const struct grpc_conn *conn)
{
    return conn->channel->o.keepalive_timeout_ms * NS_PER_MS;
}

bool client__keepalive_without_calls(const struct grpc_conn *conn)
{
    return conn->channel->o.keepalive_without_calls;
}

/* --- calls --- */

static nghttp2_nv field(struct slice name, struct slice value)
{
    return (nghttp2_nv){(uint8_t *)name.data, (uint8_t *)value.data, name.size, value.size,
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

static const char *authority_of(const struct grpc_channel *ch)
{
    const char *address = ch->addresses[ch->address_at];
    if (ch->o.authority != NULL)
        return ch->o.authority;
    return strncmp(address, "unix", 4) == 0 && strstr(address, "://") != NULL
               ? "localhost"
               : address_text(address);
}

static struct slice scheme_of(const struct grpc_channel *ch)
{
    return strncmp(ch->addresses[ch->address_at], "https://", 8) == 0 ? SLICE_LITERAL("https")
                                                                      : SLICE_LITERAL("http");
}

/* All that the fields point to lives as long as the call or the channel. */
static size_t request_fields(struct grpc_call *call, nghttp2_nv *nva)
{
    struct grpc_channel *ch = call->channel;
    size_t count = 0;
    nva[count++] = field(SLICE_LITERAL(":method"), SLICE_LITERAL("POST"));
    nva[count++] = field(SLICE_LITERAL(":scheme"), scheme_of(ch));
    nva[count++] = field(SLICE_LITERAL(":path"), slice_of_string(call->path));
    nva[count++] = field(SLICE_LITERAL(":authority"), slice_of_string(authority_of(ch)));
    nva[count++] = field(SLICE_LITERAL("content-type"), SLICE_LITERAL("application/grpc"));
    nva[count++] = field(SLICE_LITERAL("user-agent"), slice_of_string(ch->o.user_agent));
    nva[count++] = field(SLICE_LITERAL("te"), SLICE_LITERAL("trailers"));
    if (call->deadline_ns != UINT64_MAX) {
        uint64_t now_ns = timer_now_ns(&ch->gl->timers);
        uint64_t left_ns = call->deadline_ns > now_ns ? call->deadline_ns - now_ns : 1;
        size_t size = timeout_format(left_ns, call->timeout_text);
        nva[count++] = field(SLICE_LITERAL("grpc-timeout"), slice_of(call->timeout_text, size));
    }
    size_t cursor = 0;
    struct slice name;
    struct slice value;
    while (count < REQUEST_FIELDS_MAX && metadata_next(&call->metadata, &cursor, &name, &value))
        nva[count++] = field(name, value);
    return count;
}

void client__submit(struct grpc_call *call)
{
    struct grpc_channel *ch = call->channel;
    struct grpc_conn *conn = ch->conn;
    nghttp2_nv nva[REQUEST_FIELDS_MAX];
    nghttp2_data_provider provider = conn__provider(call);
    size_t count = request_fields(call, nva);
    int32_t id = nghttp2_submit_request(conn->session, NULL, nva, count, &provider, call);
    if (id == NGHTTP2_ERR_NOMEM) {
        call__no_memory(call);
        return;
    }
    if (id < 0) {
        call__abort(call, GRPC_UNAVAILABLE, slice_of_string(nghttp2_strerror(id)));
        if (id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE)
            client__conn_goaway(conn); /* this connection has had all its streams */
        return;
    }
    list_remove(&call->link);
    call->stream_id = id;
    call->headers_sent = true;
    call__attach(call, conn);
    conn__mark_dirty(conn);
}

void client__park(struct grpc_call *call)
{
    list_remove(&call->link);
    list_push_back(&call->channel->ending, &call->link);
}

void client__call_gone(struct grpc_call *call)
{
    call->channel->calls_count--;
}

static int copy_metadata(struct grpc_call *call, const struct grpc_start_options *o)
{
    enum { OWN_FIELDS_COUNT = 8 };
    if (o->metadata_count > REQUEST_FIELDS_MAX - OWN_FIELDS_COUNT)
        return TV_ETOOLARGE;
    for (uint32_t i = 0; i < o->metadata_count; i++) {
        int rv = metadata_add(&call->metadata, o->metadata[i].name, o->metadata[i].value);
        if (rv != 0)
            return rv;
    }
    return 0;
}

static void refuse_metadata(struct grpc_call *call, int error)
{
    if (error == TV_ENOMEM)
        call__no_memory(call);
    else
        call__abort(call, GRPC_INTERNAL, SLICE_LITERAL("grpc: too much metadata"));
}

struct grpc_call *grpc_start(struct grpc_channel *ch, const struct grpc_start_options *o)
{
    struct grpc_call *call = grpc_try_start(ch, o);
    if (call == NULL)
        tv_fatal("out of memory: a call");
    return call;
}

struct grpc_call *grpc_try_start(struct grpc_channel *ch, const struct grpc_start_options *o)
{
    ASSERT(o->path != NULL && o->ops != NULL && o->ops->closed != NULL);
    struct grpc_call *call = call__new(ch->gl);
    if (call == NULL)
        return NULL;
    call->is_client = true;
    call->opened = true;
    call->stream_gone = true;
    call->channel = ch;
    call->limits = &ch->limits;
    call->path = o->path;
    call->ops = o->ops;
    call->user = o->user;
    call->wait_for_ready = o->wait_for_ready;
    call->deadline_ns = o->deadline_ns == 0 ? UINT64_MAX : o->deadline_ns;
    int rv;
    list_push_back(&ch->waiting, &call->link);
    ch->calls_count++;
    if (o->deadline_ns != 0)
        timer_set(&ch->gl->timers, &call->deadline, o->deadline_ns);
    if (ch->state == GRPC_CHANNEL_CLOSED)
        call__abort(call, GRPC_CANCELLED, TEXT_CLOSING);
    else if (ch->calls_count > ch->o.calls_max)
        call__abort(call, GRPC_RESOURCE_EXHAUSTED, SLICE_LITERAL("grpc: too many calls"));
    else if ((rv = copy_metadata(call, o)) != 0)
        refuse_metadata(call, rv);
    else if (ch->state == GRPC_CHANNEL_READY)
        client__submit(call);
    else if (!o->wait_for_ready && ch->state == GRPC_CHANNEL_BACKOFF && ch->error[0] != 0)
        call__abort(call, GRPC_UNAVAILABLE, slice_of_string(ch->error));
    return call;
}

bool grpc_call_lacked_memory(const struct grpc_call *call)
{
    return call->lacked_memory;
}

bool grpc_call_never_left(const struct grpc_call *call)
{
    return !call->headers_sent || call->never_sent;
}

void grpc_cancel(struct grpc_call *call)
{
    ASSERT(call->is_client);
    call__abort(call, GRPC_CANCELLED, SLICE_LITERAL("context canceled"));
}

/* --- a response's headers --- */

static uint32_t parse_u32(struct slice text)
{
    uint32_t n = 0;
    for (size_t i = 0; i < text.size && i < 9; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return UINT32_MAX;
        n = n * 10 + (text.data[i] - '0');
    }
    return text.size == 0 ? UINT32_MAX : n;
}

void client__header(struct grpc_call *call, enum field field, struct slice name, struct slice value)
{
    if (call->aborted || call->told)
        return;
    uint32_t code;
    switch (field) {
    case FIELD_STATUS:
        call->http_status = (uint16_t)parse_u32(value);
        break;
    case FIELD_CONTENT_TYPE:
        call->content_type_ok = slice_starts_with(value, SLICE_LITERAL("application/grpc"));
        (void)metadata_add(&call->metadata, name, value);
        break;
    case FIELD_GRPC_STATUS:
        code = parse_u32(value);
        call->status_received = true;
        call->code = code <= GRPC_UNAUTHENTICATED ? (enum grpc_code)code : GRPC_UNKNOWN;
        break;
    case FIELD_GRPC_MESSAGE:
        buf_clear(&call->text);
        if (message_decode(value, &call->text) != 0)
            call->lacked_memory = true;
        break;
    default:
        (void)metadata_add(&call->metadata, name, value);
        break;
    }
}

static enum grpc_code code_of_http(uint16_t status)
{
    switch (status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

static void refuse_non_grpc(struct grpc_call *call)
{
    struct buf text;
    buf_init(&text, SIZE_MAX);
    text_format(&text, "unexpected HTTP status code received from server: %u",
                (unsigned)call->http_status);
    call__abort(call, code_of_http(call->http_status), buf_slice(&text));
    buf_fini(&text);
}

void client__headers_done(struct grpc_call *call, bool end_stream)
{
    if (call->aborted || call->told)
        return;
    if (call->headers_too_large) {
        call__abort(call, GRPC_INTERNAL, SLICE_LITERAL("peer header list size exceeded limit"));
        return;
    }
    bool well_formed = call->headers_seen ? field_block_is_trailers(&call->fields)
                                          : field_block_is_response(&call->fields);
    if (!well_formed) {
        call__malformed(call);
        return;
    }
    if (!call->headers_seen && call->http_status >= 100 && call->http_status < 200)
        return;
    if (!call->headers_seen && !call->content_type_ok && !call->status_received) {
        refuse_non_grpc(call);
        return;
    }
    if (call->headers_seen && !end_stream) {
        call__abort(call, GRPC_INTERNAL,
                    SLICE_LITERAL("a HEADERS frame cannot appear in the middle of a stream"));
        return;
    }
    call->headers_seen = true;
    if (!end_stream)
        return;
    if (!call->status_received)
        call__set_status(call, GRPC_UNKNOWN, SLICE_EMPTY);
    call__client_done(call);
}

/* gRPC over HTTP/2, "HTTP2 error codes": what a reset means. */
uint32_t client__http2_to_grpc(uint32_t http2_error)
{
    switch (http2_error) {
    case NGHTTP2_FLOW_CONTROL_ERROR:
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_REFUSED_STREAM:
        return GRPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return GRPC_CANCELLED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

/* --- life --- */

static void channel_free_now(struct grave *g)
{
    struct grpc_channel *ch = CONTAINER_OF(g, struct grpc_channel, grave);
    for (uint32_t i = 0; i < ch->o.addresses_count; i++)
        mem_free(ch->addresses[i]);
    mem_free(ch->addresses);
    mem_free((char *)ch->o.authority);
    mem_free((char *)ch->o.tls_host);
    mem_free((char *)ch->o.user_agent);
    mem_free(ch);
}

static struct conn_limits limits_of(const struct grpc_channel_options *o)
{
    return (struct conn_limits){
        .recv_message_bytes_max = o->recv_message_bytes_max,
        .send_message_bytes_max = o->send_message_bytes_max,
        .header_list_bytes_max = o->header_list_bytes_max,
        .stream_window_bytes = o->stream_window_bytes,
        .conn_window_bytes = o->conn_window_bytes,
        .send_queue_low_bytes = o->send_queue_low_bytes,
        .send_queue_high_bytes = o->send_queue_high_bytes,
        .send_queue_bytes_max = o->send_queue_bytes_max,
    };
}

static char *dup_or_null(const char *text)
{
    return text == NULL ? NULL : mem_try_strdup(text);
}

/* False: there is no memory; what was copied stays for channel_free_now(). */
static bool copy_options(struct grpc_channel *ch, const struct grpc_channel_options *o)
{
    ch->o = *o;
    ch->o.addresses = NULL;
    ch->o.local_host = NULL; /* ch->local */
    ch->o.authority = dup_or_null(o->authority);
    ch->o.tls_host = dup_or_null(o->tls_host);
    ch->o.user_agent = mem_try_strdup(o->user_agent == NULL ? "trivet" : o->user_agent);
    ch->o.addresses_count = 0;
    ch->addresses = mem_try_alloc(o->addresses_count * sizeof(*ch->addresses));
    if (ch->addresses == NULL || ch->o.user_agent == NULL ||
        (o->authority != NULL && ch->o.authority == NULL) ||
        (o->tls_host != NULL && ch->o.tls_host == NULL))
        return false;
    for (uint32_t i = 0; i < o->addresses_count; i++) {
        ch->addresses[i] = mem_try_strdup(o->addresses[i]);
        if (ch->addresses[i] == NULL)
            return false;
        ch->o.addresses_count++;
    }
    return true;
}

static int local_parse(const char *host, struct address *ret)
{
    struct sockaddr_storage addr;
    socklen_t addr_size;
    *ret = (struct address){.port = "0"};
    if (host == NULL || *host == '\0')
        return 0;
    if (snprintf(ret->host, sizeof(ret->host), "%s", host) >= (int)sizeof(ret->host))
        return TV_EINVAL;
    return address_numeric(ret, &addr, &addr_size);
}

struct grpc_channel *grpc_channel_new(struct grpc_loop *gl, const struct grpc_channel_options *o)
{
    struct address a, local;
    if (o->addresses_count == 0 || local_parse(o->local_host, &local) != 0)
        return NULL;
    for (uint32_t i = 0; i < o->addresses_count; i++)
        if (address_parse(o->addresses[i], &a) != 0 || (a.secure && o->tls == NULL))
            return NULL;
    struct grpc_channel *ch = mem_try_alloc_zero(sizeof(*ch));
    if (ch == NULL)
        return NULL;
    ch->gl = gl;
    ch->local = local;
    if (!copy_options(ch, o)) {
        channel_free_now(&ch->grave);
        return NULL;
    }
    ch->limits = limits_of(o);
    ch->state = GRPC_CHANNEL_BACKOFF;
    ch->backoff_ms = o->backoff_min_ms;
    rng_init(&ch->rng, o->seed != 0 ? o->seed : rng_seed_from_os());
    list_init(&ch->conns);
    list_init(&ch->waiting);
    list_init(&ch->ending);
    list_init(&ch->grave.link);
    ch->grave.free_fn = channel_free_now;
    ch->timer.fn = on_channel_timer;
    timer_set(&gl->timers, &ch->timer, 0); /* the first attempt, from the loop */
    return ch;
}

static void end_list(struct list *calls)
{
    while (!list_is_empty(calls)) {
        struct grpc_call *call = CONTAINER_OF(calls->next, struct grpc_call, link);
        list_remove(&call->link);
        call__hold(call);
        call__tell_closed(call, GRPC_CANCELLED, TEXT_CLOSING);
        call__release(call);
    }
}

void grpc_channel_close(struct grpc_channel *ch)
{
    if (ch->state == GRPC_CHANNEL_CLOSED)
        return;
    ch->state = GRPC_CHANNEL_CLOSED;
    timer_clear(&ch->gl->timers, &ch->timer);
    give_up(ch);
    ch->conn = NULL;
    while (!list_is_empty(&ch->conns)) {
        struct grpc_conn *conn = CONTAINER_OF(ch->conns.next, struct grpc_conn, link);
        LIST_EACH (it, &conn->calls) {
            struct grpc_call *call = CONTAINER_OF(it, struct grpc_call, link);
            call__set_status(call, GRPC_CANCELLED, TEXT_CLOSING);
            call->kept = false;
        }
        conn__kill(conn);
    }
    end_list(&ch->waiting);
    end_list(&ch->ending);
    list_push_back(&ch->gl->graveyard, &ch->grave.link);
}

enum grpc_channel_state grpc_channel_state(const struct grpc_channel *ch)
{
    return ch->state;
}

uint32_t grpc_channel_streams_max(const struct grpc_channel *ch)
{
    return ch->state != GRPC_CHANNEL_READY || ch->conn == NULL
               ? UINT32_MAX
               : nghttp2_session_get_remote_settings(ch->conn->session,
                                                     NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

void *grpc_channel_arg(const struct grpc_channel *ch)
{
    return ch->o.arg;
}

void grpc_channel_connect_now(struct grpc_channel *ch)
{
    if (ch->state == GRPC_CHANNEL_BACKOFF)
        timer_set(&ch->gl->timers, &ch->timer, 0);
}
