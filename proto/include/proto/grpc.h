/* gRPC over HTTP/2, server and client: trivet's only transport.
 *
 * Everything here belongs to one thread: the one that runs the uv loop a grpc_loop was made for. No
 * function may be called from another. A process has as many grpc_loops as it has loops, each with
 * its own servers and channels; a socket accepted on one can be handed to another
 * (grpc_server_adopt).
 *
 * Invariants:
 * 1. No function declared here calls back from inside, except grpc_server_free() and
 *    grpc_channel_close(), which end every call that is left. What is sent is queued; it leaves in
 *    one write per connection just before the loop blocks.
 * 2. closed() is called exactly once for every call, whatever happens to the connection. After it
 *    returns the call is gone; until then every function here may be called on it, also after
 *    grpc_finish() or grpc_cancel(), when sending is refused with TV_ECLOSED.
 * 3. Every buffer has a bound, named in the options.
 *
 * A call's life, either side:
 *
 *     open -> message* -> half_closed -> closed
 *                    \________________/   (the peer may never half-close)
 *
 * Error texts of what the transport itself refuses are grpc-go's (v1.83), which etcd is built with.
 */
#ifndef PROTO_GRPC_H
#define PROTO_GRPC_H

#include "base/bref.h"
#include "base/err.h"
#include "base/metric.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct grpc_call;
struct grpc_channel;
struct grpc_conn;
struct grpc_loop;
struct grpc_server;
struct tls_context;
struct http1_exchange;
struct http1_request;

/* --- the loop --- */

/* What the servers and channels of one uv loop share: read buffer, output buffer, timers, pools.
 * Owns: `loop` is borrowed and outlives the grpc_loop. */
struct grpc_loop *grpc_loop_new(uv_loop_t *loop);
/* NULL: there is no memory, and `loop` is as it was. */
struct grpc_loop *grpc_loop_try_new(uv_loop_t *loop);
/* All servers and channels are freed already. The loop must run once more (its handles close),
 * after which the memory is gone. */
void grpc_loop_free(struct grpc_loop *gl);
uv_loop_t *grpc_loop_uv(struct grpc_loop *gl);
/* The clock of clock_mono_ns(), read once in a round of the loop. */
uint64_t grpc_loop_now_ns(struct grpc_loop *gl);
/* Write now what is queued on every connection. Only for a caller that is about to be busy for
 * long; otherwise it happens by itself before the loop blocks. May call closed(). From inside a
 * callback of the transport it does nothing. */
void grpc_loop_flush(struct grpc_loop *gl);

/* --- calls, either side --- */

/* All may be NULL but closed. */
struct grpc_call_ops {
    /* One whole message. `msg` is borrowed until return. Of a call without client streaming
     * (server) there is exactly one, given once the client has half-closed; a second or a missing
     * one is refused before it gets here. */
    void (*message)(struct grpc_call *call, struct slice msg);
    /* The peer will send no more messages. */
    void (*half_closed)(struct grpc_call *call);
    /* The queue had been above its low-water mark and is no more; not after the end of sending. */
    void (*writable)(struct grpc_call *call);
    /* The end. Server: what was given to grpc_finish(), or GRPC_CANCELLED "context canceled" when
     * the peer or the connection went away first, or GRPC_DEADLINE_EXCEEDED. Client: the status
     * from the trailers, or what the transport has to say. `text` is borrowed until return. */
    void (*closed)(struct grpc_call *call, enum grpc_code code, struct slice text);
};

/* What the owner of a call hangs on it; NULL to begin with. */
void *grpc_call_user(const struct grpc_call *call);
void grpc_call_set_user(struct grpc_call *call, void *user);
/* Another such pointer, for whoever traces calls. */
struct trace;
struct trace *grpc_call_trace(const struct grpc_call *call);
void grpc_call_set_trace(struct grpc_call *call, struct trace *trace);
/* Change who is told, for instance to a service's own ops from inside open(). Borrowed. */
void grpc_call_set_ops(struct grpc_call *call, const struct grpc_call_ops *ops);
/* Server only: the table entry; NULL on client calls. */
const struct grpc_method *grpc_call_method(const struct grpc_call *call);
/* NULL for a client call that waits for a connection. */
struct grpc_conn *grpc_call_conn(const struct grpc_call *call);
/* Unique among the connections of this grpc_loop; 0 for a call that has none. */
uint64_t grpc_call_conn_id(const struct grpc_call *call);
/* Unique among the calls of this grpc_loop; never 0. */
uint64_t grpc_call_id(const struct grpc_call *call);
/* On the clock of clock_mono_ns(); UINT64_MAX = none. */
uint64_t grpc_call_deadline_ns(const struct grpc_call *call);
/* Server: a request header. Client: a response header or trailer. `name` in lower case. The first
 * value, borrowed until closed() returns (client: until the next header block); data is NULL when
 * there is none. "-bin" values are as on the wire. */
struct slice grpc_call_metadata(const struct grpc_call *call, const char *name);
/* All of it, in a form of the transport's own: calls with the same bytes have the same metadata. */
struct slice grpc_call_metadata_bytes(const struct grpc_call *call);

/* Send one message made of these parts. Copied (small ones into the connection's output).
 * Errors: TV_ECLOSED after the end of sending; TV_ETOOLARGE above max_send_message_bytes;
 *         TV_EBUSY when send_queue_bytes_max are waiting, TV_ENOMEM: the call is reset, as
 *         RESOURCE_EXHAUSTED. */
int grpc_send(struct grpc_call *call, const struct slice *parts, uint32_t parts_count);
/* Send one message: `prefix` copied, then `body`, which lies in `owner`'s bytes. The call takes its
 * own reference on `owner` and gives it up when the bytes are written. Errors: as grpc_send(). */
int grpc_send_shared(struct grpc_call *call, struct slice prefix, struct bref *owner,
                     struct slice body);

/* A message of known size whose bytes are made when there is room for them. */
struct grpc_source {
    /* Write up to `size_max` bytes to `dst` and return how many; 0 = none now, the caller will
     * grpc_source_resume(). More than the announced size are never asked for. */
    size_t (*read)(void *ctx, uint8_t *dst, size_t size_max);
    /* Once: after the last byte was read, or when the call ends before. Never inside
     * grpc_send_source(). */
    void (*done)(void *ctx);
    void *ctx;
};
/* Send one message of `size` bytes pulled from `src` (copied). Later messages wait behind it.
 * Errors: as grpc_send(); then `done` is not called. Counts nothing in queued_bytes. */
int grpc_send_source(struct grpc_call *call, uint64_t size, const struct grpc_source *src);
void grpc_source_resume(struct grpc_call *call);

/* Bytes of messages queued on this call and not handed to the socket yet. */
size_t grpc_call_queued_bytes(const struct grpc_call *call);

/* Messages stop coming and the peer's flow-control window is not refilled: at most
 * stream_window_bytes are kept. By itself a server does so while more than send_queue_high_bytes
 * wait to be sent on the call, so that a client that does not read cannot ask for more. */
void grpc_call_pause_reading(struct grpc_call *call);
/* What was kept is delivered from the loop, not from inside. */
void grpc_call_resume_reading(struct grpc_call *call);

/* Of the letter behind the number in `grpc-timeout`: H, M, S, m, u or n; 0 for any other. */
uint64_t grpc_timeout_unit_ns(uint8_t unit);

/* --- server --- */

struct grpc_method {
    const char *path; /* "/etcdserverpb.KV/Range" */
    bool client_streaming;
    bool server_streaming;
    const struct grpc_call_ops *ops;
    /* The call is there, no message yet. NULL allowed. May grpc_finish() to refuse. */
    void (*open)(struct grpc_call *call, void *arg);
    void *arg;
};

enum { GRPC_CODES_COUNT = 17, GRPC_HANDLING_BOUNDS_COUNT = 11 };

/* What a server counts of one method. A call counts from its open() on; one without client
 * streaming from its message on, as in grpc-go, whose interceptors hear of it then. As there, an
 * answer counts as sent also when it is an error, and the end of a client's stream as received.
 * Owner: the loop's thread; read by any. */
struct grpc_method_stats {
    struct metric_counter started;
    struct metric_counter messages_received;
    struct metric_counter messages_sent;
    struct metric_counter handled[GRPC_CODES_COUNT]; /* ended, by code */
    struct metric_counter handling[GRPC_HANDLING_BOUNDS_COUNT + 1];
    struct metric_counter handling_ns;
};
/* Upper bounds of grpc_method_stats.handling: those that Prometheus' clients have by default. */
extern const uint64_t grpc_handling_bounds_ns[GRPC_HANDLING_BOUNDS_COUNT];
/* The call's message did not decode: as in grpc-go, one that began with it does not count. False:
 * it has begun before. */
bool grpc_call_uncount(struct grpc_call *call);
/* When the call began to count, on the clock of grpc_loop_now_ns(). */
uint64_t grpc_call_started_ns(const struct grpc_call *call);

/* No more messages after what is queued, then this status. `text` is copied; NULL = "". Ignored
 * when the call is finished already. */
void grpc_finish(struct grpc_call *call, enum grpc_code code, const char *text);
/* grpc_send() and grpc_finish(GRPC_OK) in one step: headers, message and trailers leave together.
 */
int grpc_reply(struct grpc_call *call, const struct slice *parts, uint32_t parts_count);
/* grpc_send_shared() and grpc_finish(GRPC_OK). */
int grpc_reply_shared(struct grpc_call *call, struct slice prefix, struct bref *owner,
                      struct slice body);

/* What is spoken on a listening address; see grpc_server_listen_on(). With `plain` and `tls` the
 * first byte of a connection decides. Without a certificate from the client grpc_conn_peer_cn() is
 * NULL. */
struct grpc_port {
    bool plain;
    struct tls_context *tls; /* a server's, borrowed; NULL: no TLS */
    bool no_grpc;
    bool no_http1;
    const void *owner; /* for whoever listens: see grpc_conn_port() */
};

/* A connection that begins with an HTTP/1 request line is served by this, see proto/http1.h. */
typedef void (*http1_handler)(struct http1_exchange *x, const struct http1_request *req, void *arg);

/* Of messages, without what surrounds them. */
struct grpc_message_bytes {
    struct metric_counter received;
    struct metric_counter sent;
};

struct grpc_server_options {
    uint32_t recv_message_bytes_max; /* default 4 MiB */
    uint32_t send_message_bytes_max; /* default 2^31 - 1 */
    uint32_t concurrent_streams_max; /* per connection; default 10,000 */
    uint32_t conns_max;              /* default 60,000; more are closed at once */
    uint32_t header_list_bytes_max;  /* of one request; default 64 KiB; more: the stream is reset */
    uint32_t stream_window_bytes;    /* receive, per call; default 256 KiB */
    uint32_t conn_window_bytes;      /* receive, per connection; default 1 MiB */
    /* What requests may take, of one connection and of all: unfinished messages beyond their
     * windows, and what is charged (grpc_charge). Above it clients wait: large messages for more
     * window, and a connection to be read. Such connections also share a turn's reading and writing
     * evenly. Default 0: no bounds, and windows are given back as bytes come. */
    uint64_t conn_bytes_max;
    uint64_t loop_bytes_max;
    uint32_t send_queue_low_bytes;  /* writable() at or below it; default 256 KiB */
    uint32_t send_queue_high_bytes; /* above it messages of the call wait; default 4 MiB */
    uint64_t send_queue_bytes_max;  /* above it the call is reset; default 1 GiB */
    uint64_t keepalive_min_time_ms; /* clients that ping more often are sent away; default 5 s */
    bool keepalive_permit_without_stream; /* default false */
    uint64_t keepalive_interval_ms; /* idle time before the server pings; default 2 h; 0 = never */
    uint64_t keepalive_timeout_ms;  /* default 20 s */
    uint64_t handshake_timeout_ms;  /* until the client's first bytes; default 120 s */
    uint64_t tls_timeout_ms;        /* of a TLS handshake; default 10 s */
    bool reuse_port;                /* SO_REUSEPORT where it listens; default false */
    http1_handler http1;            /* NULL: HTTP/1 is refused by closing */
    void *http1_arg;
    /* Of POST and PUT; more is answered with 413. Default 1 MiB. */
    uint32_t http1_body_bytes_max;
    /* One for each method, in the order of the table; borrowed. NULL: nothing is counted. */
    struct grpc_method_stats *method_stats;
    struct grpc_message_bytes *message_bytes; /* with it: of all methods */
    /* Nanoseconds that large output of the loop rested for others; borrowed, as long as the loop.
     * NULL: not counted. */
    struct metric_counter *bulk_rest;
    /* A connection is there, or is gone. NULL allowed. */
    void (*conn_opened)(struct grpc_conn *conn, void *arg);
    void (*conn_closed)(struct grpc_conn *conn, void *arg);
    void *conn_arg;
};
void grpc_server_options_init(struct grpc_server_options *o);

/* Owns: `methods` and what they point to are borrowed until grpc_server_free(). `o` is copied. */
struct grpc_server *grpc_server_new(struct grpc_loop *gl, const struct grpc_server_options *o,
                                    const struct grpc_method *methods, uint32_t methods_count);
/* Listen on "host:port" ("0" = any port; "[::1]:2379"; numeric host or name). Many are allowed.
 * Errors: TV_EINVAL for an address that does not parse or resolve, TV_EBUSY when it is in use,
 * TV_EIO. */
int grpc_server_listen(struct grpc_server *s, const char *address, uint16_t *ret_port);
/* The same, for all that `port` says; it is borrowed until the last connection is gone. `address`
 * may have a scheme in front, which says nothing about TLS; behind unix:// and unixs:// is the path
 * of a socket, made anew and removed in the end. */
int grpc_server_listen_on(struct grpc_server *s, const char *address, const struct grpc_port *port,
                          uint16_t *ret_port);
/* Accepted sockets go to `accept` (which owns them from then on) and not to this server, for a
 * caller that spreads them over several loops. */
void grpc_server_set_accept(struct grpc_server *s,
                            void (*accept)(void *arg, int fd, const struct grpc_port *port),
                            void *arg);
/* Serve this connected socket. Owns: `fd` always. `port` NULL: plain. */
int grpc_server_adopt(struct grpc_server *s, int fd, const struct grpc_port *port);
/* Stop listening; tell every client to go elsewhere (GOAWAY) and let the calls that are open end.
 * `done` comes from the loop, once, when no connection is left. The owner ends its endless streams
 * with grpc_finish(), and calls grpc_server_free() when it has waited enough. */
void grpc_server_drain(struct grpc_server *s, void (*done)(struct grpc_server *s, void *arg),
                       void *arg);
/* Ends every call (closed() is called from inside) and connection. The loop must run once more
 * before it closes. The pointer is dead on return. */
void grpc_server_free(struct grpc_server *s);

struct grpc_server_stats {
    uint64_t conns; /* now */
    uint64_t conns_total;
    uint64_t calls; /* now */
    uint64_t calls_total;
    uint64_t messages_received;
    uint64_t messages_sent;
    uint64_t bytes_received; /* from the sockets */
    uint64_t bytes_sent;
};
void grpc_server_stats(const struct grpc_server *s, struct grpc_server_stats *ret_stats);

/* --- connections --- */

/* "10.0.0.7:51034"; borrowed, as long as the connection. */
const char *grpc_conn_peer(const struct grpc_conn *conn);
/* Of the subject of the client's certificate, which was verified: its CN, as Go sees it (the last,
 * if there are several). NULL when there is none. Borrowed, as long as the connection. */
const char *grpc_conn_peer_cn(const struct grpc_conn *conn);
/* Its hands were shaken; the first bytes have come. */
bool grpc_conn_is_tls(const struct grpc_conn *conn);
/* A server's: where it came in. */
const struct grpc_port *grpc_conn_port(const struct grpc_conn *conn);
/* Of messages, without what surrounds them; borrowed, as long as the connection. */
struct grpc_conn_bytes {
    uint64_t received;
    uint64_t sent;
};
const struct grpc_conn_bytes *grpc_conn_bytes(const struct grpc_conn *conn);
void *grpc_conn_user(const struct grpc_conn *conn);
void grpc_conn_set_user(struct grpc_conn *conn, void *user);

/* --- client --- */

enum grpc_channel_state {
    GRPC_CHANNEL_CONNECTING,
    GRPC_CHANNEL_READY,
    GRPC_CHANNEL_BACKOFF, /* waits before the next attempt */
    GRPC_CHANNEL_CLOSED,
};

struct grpc_channel_options {
    /* "host:port" each, with or without http:// or https:// in front, or unix:// or unixs:// and a
     * path; tried in turn; copied */
    const char *const *addresses;
    uint32_t addresses_count;
    struct tls_context *tls; /* a client's, borrowed; of those with https:// and unixs:// */
    const char *tls_host;    /* whose certificate it must be; NULL: the address's */
    /* A numeric address of this machine, from which it connects; NULL: the kernel chooses. With an
     * address of the other family it does not connect at all. */
    const char *local_host;
    const char *authority;           /* NULL: the address */
    const char *user_agent;          /* NULL: "trivet" */
    uint32_t recv_message_bytes_max; /* default 2^31 - 1 */
    uint32_t send_message_bytes_max; /* default 2^31 - 1 */
    uint32_t header_list_bytes_max;  /* of one response; default 64 KiB */
    uint32_t stream_window_bytes;    /* default 1 MiB */
    uint32_t conn_window_bytes;      /* default 4 MiB */
    uint32_t send_queue_low_bytes;   /* default 256 KiB */
    uint32_t send_queue_high_bytes;  /* default 4 MiB */
    uint64_t send_queue_bytes_max;   /* default 1 GiB */
    uint32_t calls_max;              /* open or waiting; default 100,000; more fail at once */
    uint64_t connect_timeout_ms;     /* default 5 s */
    uint64_t backoff_min_ms;         /* default 100 ms; doubles, with jitter */
    uint64_t backoff_max_ms;         /* default 3 s */
    uint64_t keepalive_time_ms;      /* silence before a ping; default 0 = never */
    uint64_t keepalive_timeout_ms;   /* default 20 s */
    bool keepalive_without_calls;    /* default false */
    uint64_t seed;                   /* of the jitter; 0 = from the system */
    /* Told of every change, from the loop. `address` is the one concerned. NULL allowed. */
    void (*state_changed)(struct grpc_channel *ch, enum grpc_channel_state state,
                          const char *address, void *arg);
    void *arg;
};
void grpc_channel_options_init(struct grpc_channel_options *o);

/* One connection at a time to one of the addresses, kept up from now on until closed.
 * Errors: NULL when no address is given or one does not parse, or needs a `tls` that is not there;
 * or there is no memory. */
struct grpc_channel *grpc_channel_new(struct grpc_loop *gl, const struct grpc_channel_options *o);
/* Ends every call with GRPC_CANCELLED (closed() is called from inside). Dead on return. */
void grpc_channel_close(struct grpc_channel *ch);
enum grpc_channel_state grpc_channel_state(const struct grpc_channel *ch);
/* How many calls at once the server takes on the connection that is there (its SETTINGS); more wait
 * at this side for one to end. UINT32_MAX: it sets no bound, or there is no connection. */
uint32_t grpc_channel_streams_max(const struct grpc_channel *ch);
void *grpc_channel_arg(const struct grpc_channel *ch);
/* Skip what is left of a backoff. */
void grpc_channel_connect_now(struct grpc_channel *ch);

struct grpc_pair {
    struct slice name; /* lower case */
    struct slice value;
};

struct grpc_start_options {
    const char *path;                 /* borrowed until closed() has returned: usually a literal */
    const struct grpc_pair *metadata; /* copied */
    uint32_t metadata_count;
    uint64_t deadline_ns; /* clock_mono_ns() scale; 0 = none */
    bool wait_for_ready; /* without it the call fails with UNAVAILABLE once an attempt has failed */
    const struct grpc_call_ops *ops; /* borrowed */
    void *user;
};
/* Never NULL: a call that cannot start gets closed() from the loop. */
struct grpc_call *grpc_start(struct grpc_channel *ch, const struct grpc_start_options *o);
/* NULL: there is no memory, and closed() does not come. */
struct grpc_call *grpc_try_start(struct grpc_channel *ch, const struct grpc_start_options *o);
/* With what a call ends that lacks memory here, as RESOURCE_EXHAUSTED. */
#define GRPC_TEXT_NO_MEMORY SLICE_LITERAL("grpc: out of memory on this side")
/* In closed(): it ended for that, or its text is lost for it. */
bool grpc_call_lacked_memory(const struct grpc_call *call);
/* In closed(): no byte of the request has left. */
bool grpc_call_never_left(const struct grpc_call *call);
/* Client: no more messages from here. */
void grpc_half_close(struct grpc_call *call);
/* Client: reset the call; closed() follows from the loop with GRPC_CANCELLED. */
void grpc_cancel(struct grpc_call *call);

#endif
