/* What the files of the transport share. Read in this order: timer, io, loop.c (one turn), conn.c
 * (one connection), call.c (receiving), budget.c (how much), send.c (sending), server.c, client.c,
 * http1.c.
 *
 * Owner of everything: the loop's thread.
 *
 * A connection's states and who moves it:
 *
 *     SNIFFING --conn_on_read--> HTTP2 | HTTP1 --conn__linger--> LINGER --conn__kill--> DEAD
 *
 * A call's end has two halves that come in either order: its owner is told (`told`), and nghttp2
 * has closed its stream (`stream_gone`). The struct is free for reuse when both are done and nobody
 * on the stack holds it. */
#ifndef PROTO_TRANSPORT_INTERNAL_H
#define PROTO_TRANSPORT_INTERNAL_H

#include "proto/charge.h"
#include "proto/grpc.h"

#include "fields.h"
#include "header_cache.h"
#include "io.h"
#include "pool.h"
#include "rest.h"
#include "timer.h"

#include "base/buf.h"
#include "base/list.h"
#include "base/rng.h"

#include <nghttp2/nghttp2.h>

enum {
    GRPC_PREFIX_BYTES = 5,
    FRAME_HEADER_BYTES = 9,
    READ_BUF_BYTES = 256 << 10,
    /* Output of one write: what is copied, and how many pieces. */
    OUT_COPY_BYTES = 256 << 10,
    OUT_COPY_RESERVE_BYTES = 20 << 10, /* kept free for frames that nghttp2 builds itself */
    OUT_VECS_MAX = 256,
    OUT_SHARE_MIN_BYTES = 2048, /* shorter pieces are copied */
    /* What connections with bounds write in one turn of the loop, all together, and one at least.
     */
    TURN_WRITE_BYTES = 1 << 20,
    WRITE_SHARE_MIN_BYTES = 32 << 10,
    CALL_INLINE_BYTES = 256,
    POOL_CALLS_MAX = 4096,
    POOL_BUF_BYTES_MAX = 4096, /* a pooled call keeps buffers up to this */
    PEER_TEXT_BYTES = 64,
    /* A connection whose socket is full and for which nghttp2 has more frames than this waiting
     * (answers to pings, settings, resets) is not read until it drains. */
    OUTBOUND_FRAMES_MAX = 4096,
    /* Resets a client may send at once, and per second: nghttp2 ends the connection above it. */
    RESET_BURST = 20000,
    RESET_RATE = 2000,
    /* A server's, of unfinished and held-back messages of one connection; the call that passes it
     * ends. */
    CONN_RECV_BUFFERED_BYTES_MAX = 256 << 20,
};

/* Pieces collected for one write. Owner pieces are referenced until out_clear(). */
struct out {
    uint8_t *copy;
    size_t copy_size;
    struct io_vec vecs[OUT_VECS_MAX];
    size_t vecs_count;
    size_t bytes;
    size_t bytes_max; /* above it nothing is added */
};

/* Who wrote bulk is taken for who does for so long, and who asked for one with whom bulk shares. */
static const uint64_t BULK_MEMORY_NS = 1000000000;

struct grpc_loop {
    uv_loop_t *uv;
    uv_prepare_t prepare;
    uv_idle_t idle; /* active while work is left over: keeps the loop from blocking */
    uint32_t handles_open;
    struct timer_wheel timers;
    struct io_shared io;
    struct out out;
    struct list dirty;      /* connections with something to send */
    struct list dirty_next; /* likewise, but they have had their share of this turn */
    struct list bulk; /* likewise, and large answers are among what they have: they may rest */
    uint32_t dirty_next_count;
    uint32_t bulk_count;
    size_t write_share_bytes;
    struct rest rest;                  /* of bulk */
    struct metric_counter *rest_meter; /* a server's; may be NULL */
    struct timer rest_is_over;         /* set while it rests: a turn is due */
    const struct grpc_conn *other;     /* the last one that asked and had no bulk; never followed */
    uint64_t other_asked_ns;
    struct list work;      /* calls whose owner is to be told something */
    struct list locals;    /* of local.c, likewise */
    struct list exchanges; /* http1.c's whose output has left */
    size_t http1_in_bytes; /* of unfinished requests by HTTP/1 */
    struct list graveyard; /* servers and channels freed by their owner in this turn */
    struct list pool;
    uint32_t pool_count;
    struct pool memory; /* nghttp2's */
    uint64_t calls_made;
    uint64_t conns_made;
    uint64_t now_ns; /* of this round; 0: not read yet */

    /* budget.c */
    struct list starved; /* connections with messages that wait for a grant */
    struct list stopped; /* connections that are not read for what is charged to them */
    size_t granted_bytes;
    size_t charged_bytes;
    bool budget_moved; /* somebody may get on */
    bool in_turn;
    uint32_t in_session; /* nghttp2 is on the stack, for some connection */
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
};

/* --- connections --- */

enum conn_state { CONN_SNIFFING, CONN_HTTP2, CONN_HTTP1, CONN_LINGER, CONN_DEAD };

struct conn_limits {
    uint32_t recv_message_bytes_max;
    uint32_t send_message_bytes_max;
    uint32_t header_list_bytes_max;
    uint32_t stream_window_bytes;
    uint32_t conn_window_bytes;
    uint64_t conn_bytes_max; /* see budget.c; 0: no bounds, and windows are given back at once */
    uint64_t loop_bytes_max;
    uint32_t send_queue_low_bytes;
    uint32_t send_queue_high_bytes;
    uint64_t send_queue_bytes_max;
};

struct http1;
struct http1_exchange;
struct page;
struct grpc_local;

/* Why a connection is not read. */
enum {
    CONN_STOP_OUTPUT = 1 << 0,  /* it does not read what it makes necessary */
    CONN_STOP_CHARGED = 1 << 1, /* much of it waits for an answer */
    CONN_STOP_RAW = 1 << 2,     /* whoever has it does not take what comes */
};

struct grpc_conn {
    struct list link;       /* of its server's or channel's connections */
    struct list dirty_link; /* of gl->dirty */
    struct grpc_loop *gl;
    struct grpc_server *server; /* one of these two; both NULL once DEAD */
    struct grpc_channel *channel;
    const struct grpc_port *port; /* a server's */
    struct io *io;
    nghttp2_session *session;
    struct http1 *http1;
    enum conn_state state;
    uint32_t in_session; /* nghttp2 is on the stack */
    uint32_t stopped;    /* CONN_STOP_*; 0: it is read */
    bool draining;       /* refuse nothing yet, close when the last call ends */
    bool goaway_final;   /* the last stream id has been told */
    bool settings_seen;
    bool closing;     /* nothing is read any more; close when all is written */
    bool out_full;    /* more to write than one write takes */
    uint32_t sources; /* large answers under way, made as they are sent */
    uint64_t bulk_ns; /* when it was on gl->bulk last */
    struct conn_limits limits;
    struct list calls;
    uint32_t calls_count;
    struct grpc_conn_bytes bytes;      /* a server's */
    struct grpc_call *hdr_call;        /* whose header block is being read */
    struct grpc_call *held;            /* unary: its message lies in the read buffer */
    struct header_cache *header_cache; /* a server's */
    enum scan_kind scanned;            /* what nghttp2 reads now */
    int32_t cached_stream_id;          /* of cached_call */
    struct grpc_call *cached_call;
    size_t unconsumed_bytes; /* received, connection window not given back yet */
    size_t recv_buffered_bytes;
    size_t pages_body_bytes; /* page.c */

    /* budget.c; account is NULL where there are no bounds. */
    uint64_t id;
    struct conn_account *account;
    struct list starved; /* calls that wait for a grant, oldest first */
    struct list starved_link;
    struct list stopped_link;
    size_t granted_bytes;
    uint32_t settings_unacked;
    bool narrow;    /* it has been told a smaller window for new streams */
    bool narrowing; /* and may not know it yet */

    /* Keepalive, of either side; and ping strikes, of the server. */
    struct timer timer;
    uint64_t last_read_ns;
    uint64_t ping_sent_ns; /* 0 = none outstanding */
    uint64_t last_ping_ns;
    uint32_t ping_strikes;
    bool ping_strikes_reset;

    uint8_t sniffed[24];
    size_t sniffed_size;
    void *user;
    char peer[PEER_TEXT_BYTES];
};

/* Takes `fd`. Server side when `server` is not NULL. `tls` NULL: plain. NULL when the socket is
 * unusable. */
struct grpc_conn *conn__new(struct grpc_loop *gl, struct grpc_server *server,
                            struct grpc_channel *channel, const struct conn_limits *limits, int fd,
                            const struct io_tls_setup *tls);
/* Start HTTP/2 on it. */
int conn__begin_http2(struct grpc_conn *conn);
/* The functions nghttp2 calls. */
void conn__set_callbacks(nghttp2_session_callbacks *callbacks);
void conn__mark_dirty(struct grpc_conn *conn);
/* It has had its share of this turn, and more to send. */
void conn__wait_for_turn(struct grpc_conn *conn);
/* A message came in. */
void conn__asked(struct grpc_conn *conn);
/* Write what is queued. */
void conn__flush(struct grpc_conn *conn);
void conn__begin_close(struct grpc_conn *conn);
/* Stop sending; read on for a moment, so that the peer gets what was sent; then kill. */
void conn__linger(struct grpc_conn *conn);
/* End every call and close. Idempotent. */
void conn__kill(struct grpc_conn *conn);
void conn__stop_reading(struct grpc_conn *conn, uint32_t why);
void conn__go_on_reading(struct grpc_conn *conn, uint32_t why);
void conn__start_timer(struct grpc_conn *conn);
/* A call is gone: a connection that drains may be done. */
void conn__maybe_done(struct grpc_conn *conn);
/* Server: tell the client to go elsewhere, in two steps. */
void conn__drain(struct grpc_conn *conn);

/* --- calls --- */

enum send_kind { SEND_COPY, SEND_SHARED, SEND_SOURCE };

struct send_chunk {
    struct send_chunk *next;
    enum send_kind kind;
    bool is_inline;
    bool begun;     /* part of it has left */
    bool continues; /* its first byte is not a message's first */
    size_t size;    /* not yet sent; 0 for a source */
    union {
        struct {
            size_t at;
            size_t end;
            size_t capacity;
        } copy;
        struct {
            struct bref *owner;
            const uint8_t *data;
        } shared;
        struct {
            struct grpc_source src;
            uint64_t left;
        } source;
    };
    uint8_t bytes[];
};

enum {
    WORK_CLOSED = 1 << 0,   /* tell its owner the end */
    WORK_WRITABLE = 1 << 1, /* tell its owner that there is room */
    WORK_DELIVER = 1 << 2,  /* deliver what was held back */
};

/* A call from a pool. The first group is zeroed for every use. */
struct grpc_call {
    struct list link;      /* of conn->calls, channel->waiting, gl->pool */
    struct list work_link; /* of gl->work */
    struct list starved_link;
    struct timer deadline;
    struct grpc_loop *gl;
    struct grpc_conn *conn;
    struct grpc_channel *channel;
    const struct grpc_method *method;
    const struct grpc_call_ops *ops;
    const struct conn_limits *limits;
    struct page *page;        /* it is no gRPC: page.h */
    struct grpc_local *local; /* it has no stream: local.c */
    void *user;
    struct trace *trace;
    struct grpc_method_stats *stats; /* NULL: not counted */
    uint64_t started_ns;             /* when it began to count */
    uint64_t id;
    uint64_t deadline_ns;
    int32_t stream_id;
    uint32_t refs; /* on the stack */
    uint32_t work;
    bool is_client;
    bool opened; /* its owner knows of it, and is owed closed() */
    bool told;
    bool stream_gone;

    /* Receiving. */
    bool headers_seen;
    bool headers_too_large;
    bool peer_closed; /* END_STREAM received */
    bool half_closed_told;
    bool recv_off; /* whatever comes is dropped */
    bool paused_by_user;
    bool paused_by_queue;
    bool kept;            /* recv holds bytes not parsed yet */
    bool status_received; /* client: grpc-status seen */
    bool status_ready;    /* client: the end has come, messages are held back before it */
    bool never_sent;      /* client: the request did not leave */
    bool non_grpc;        /* client: the answer is not gRPC's */
    bool bad_timeout;
    bool bad_method;
    bool content_type_ok;
    bool content_type_proto;
    bool encoded; /* grpc-encoding other than identity */
    bool deadline_set;
    uint16_t http_status;
    uint32_t recv_need; /* bytes of the message in `recv`, prefix included; 0 = not known yet */
    size_t recv_accounted_bytes;
    size_t granted_bytes; /* beyond the window, for the message in `recv` */
    uint32_t header_list_bytes;
    struct field_block fields; /* of the header block that came last */
    size_t unconsumed_bytes;   /* of the stream's window */
    struct slice held;
    uint64_t timeout_ns;

    /* Sending. */
    bool headers_sent; /* submitted */
    bool finishing;    /* no more messages */
    bool trailers_submitted;
    bool status_sent; /* trailers have left */
    bool data_deferred;
    bool above_low;
    bool inline_used;
    bool aborted; /* by the transport */
    bool lacked_memory;
    enum grpc_code code;
    size_t queued_bytes;
    size_t staged_bytes;
    struct send_chunk *first;
    struct send_chunk *last;
    const char *path;
    bool wait_for_ready;
    char timeout_text[16];

    /* Kept in the pool. */
    struct buf metadata; /* packed, see metadata.h */
    struct buf recv;
    struct buf text; /* of the status */
    _Alignas(16) uint8_t inline_chunk[sizeof(struct send_chunk) + CALL_INLINE_BYTES];
};

/* NULL: there is no memory. */
struct grpc_call *call__new(struct grpc_loop *gl);
void call__hold(struct grpc_call *call);
void call__release(struct grpc_call *call);
void call__attach(struct grpc_call *call, struct grpc_conn *conn);
/* Something is to be told from the loop. */
void call__queue_work(struct grpc_call *call, uint32_t work);
void call__do_work(struct grpc_call *call);
/* Tell the owner the end, now. */
void call__tell_closed(struct grpc_call *call, enum grpc_code code, struct slice text);
/* nghttp2 has closed the stream, or there is none (any more). */
void call__stream_closed(struct grpc_call *call, uint32_t http2_error);
/* End it from the transport's side with this status. */
void call__abort(struct grpc_call *call, enum grpc_code code, struct slice text);
/* Likewise: it cannot go on without memory. */
void call__no_memory(struct grpc_call *call);
void call__reset(struct grpc_call *call, uint32_t http2_error);
/* What the peer sent is no HTTP/2 message. */
void call__malformed(struct grpc_call *call);
void call__set_status(struct grpc_call *call, enum grpc_code code, struct slice text);

void call__receive(struct grpc_call *call, struct slice in, bool last_frame);
void call__peer_closed(struct grpc_call *call);
void call__client_done(struct grpc_call *call);
/* The read buffer is about to be reused. */
void call__keep_held(struct grpc_call *call);
void call__update_paused_by_queue(struct grpc_call *call);

/* nghttp2 wants up to `size_max` bytes of DATA; see nghttp2_data_source_read_callback. */
ssize_t call__data_length(struct grpc_call *call, size_t size_max, uint32_t *data_flags);
/* Put `size` bytes, as announced, behind the frame header into the output. */
void call__data_put(struct grpc_call *call, const uint8_t *frame_header, size_t size);
/* True when a message was cut in the middle. */
bool call__drop_queue(struct grpc_call *call);
void call__send_status(struct grpc_call *call);
/* Of a call without a stream: take up to `size_max` queued bytes. */
size_t call__take(struct grpc_call *call, uint8_t *dst, size_t size_max);

/* --- calls without a stream: local.c --- */

/* It has a message or its end for the caller. */
void local__ready(struct grpc_local *l);
/* The call has ended before its time. */
void local__call_gone(struct grpc_local *l);
void local__tell_all(struct grpc_loop *gl);

/* --- what requests may take: budget.c --- */

void budget__open(struct grpc_conn *conn);
void budget__close(struct grpc_conn *conn);
/* A message is being received: does it need more than its window? */
void budget__ask(struct grpc_call *call);
/* It is delivered, or will not be. */
void budget__give_back(struct grpc_call *call);
/* After each read. */
void budget__narrow(struct grpc_conn *conn);
void budget__check_reading(struct grpc_conn *conn);
/* In each turn. */
void budget__serve(struct grpc_loop *gl);

/* --- output --- */

void out_copy(struct out *o, const void *data, size_t size);
void out_share(struct out *o, struct bref *owner, const uint8_t *data, size_t size);
void out_clear(struct out *o);
static inline size_t out_copy_free(const struct out *o)
{
    return OUT_COPY_BYTES - o->copy_size;
}

/* --- the two sides --- */

/* Server: a call begins. The caller holds it. */
void server__open(struct grpc_call *call, bool has_timeout, uint64_t timeout_ns);
/* Server: a request's header block is complete. False when the call was refused. */
bool server__request(struct grpc_conn *conn, struct grpc_call *call, bool end_stream);
void server__header(struct grpc_call *call, enum field field, struct slice name,
                    struct slice value);
void server__conn_gone(struct grpc_conn *conn);
/* For handshake_timeout_ms at most. */
void server__await_first_bytes(struct grpc_conn *conn);
void server__call_counted(struct grpc_conn *conn, int change);
void server__message_counted(struct grpc_call *call, bool sent, size_t size);
/* It has begun to count, or has ended. */
void server__call_began(struct grpc_call *call);
void server__call_ended(struct grpc_call *call, enum grpc_code code);
uint64_t server__keepalive_interval_ns(const struct grpc_conn *conn);
uint64_t server__keepalive_timeout_ns(const struct grpc_conn *conn);
const struct grpc_server_options *server__options(const struct grpc_server *s);
/* Answer with trailers only. */
void server__answer_status(struct grpc_conn *conn, int32_t stream_id, const char *http_status,
                           enum grpc_code code, struct slice text);

void client__header(struct grpc_call *call, enum field field, struct slice name,
                    struct slice value);
void client__headers_done(struct grpc_call *call, bool end_stream);
void client__conn_ready(struct grpc_conn *conn);
void client__conn_goaway(struct grpc_conn *conn);
void client__conn_gone(struct grpc_conn *conn);
void client__call_gone(struct grpc_call *call);
void client__submit(struct grpc_call *call);
/* The call has no stream (any more) and waits to be told its end. */
void client__park(struct grpc_call *call);
uint64_t client__keepalive_interval_ns(const struct grpc_conn *conn);
uint64_t client__keepalive_timeout_ns(const struct grpc_conn *conn);
bool client__keepalive_without_calls(const struct grpc_conn *conn);
uint32_t client__http2_to_grpc(uint32_t http2_error);

/* The provider that feeds a call's DATA frames. */
nghttp2_data_provider conn__provider(struct grpc_call *call);

/* What lies on gl->graveyard. */
struct grave {
    struct list link;
    void (*free_fn)(struct grave *g);
};

/* --- HTTP/1 --- */

struct http1 *http1__new(struct grpc_conn *conn);
/* False: close the connection (after what is queued). */
bool http1__read(struct http1 *h, struct slice in);
void http1__flush(struct http1 *h);
/* No request is under way. */
bool http1__is_idle(const struct http1 *h);
/* A request is with the handler. */
bool http1__is_answering(const struct http1 *h);
void http1__free(struct http1 *h);
/* Exchanges whose output has left are told so. */
void http1__tell_all(struct grpc_loop *gl);

#endif
