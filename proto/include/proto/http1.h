/* A small HTTP/1.1 server on the gRPC listeners, for /health, /version, /metrics and the JSON
 * gateway.
 *
 * A request is delivered whole (headers up to 16 KiB, body up to http1_body_bytes_max). Requests of
 * one connection are answered one after the other; the next is not read before http1_respond().
 * Bodies are taken with Content-Length or chunked. Keep-alive is HTTP/1.1's. Thread: the loop's. */
#ifndef PROTO_HTTP1_H
#define PROTO_HTTP1_H

#include "base/slice.h"

#include <stdbool.h>

struct grpc_conn;
struct http1_exchange;

/* All borrowed until the handler returns. */
struct http1_request {
    struct slice method; /* "GET" */
    struct slice path;   /* before '?' */
    struct slice query;  /* after '?' */
    struct slice body;
    struct slice headers; /* the raw header lines */
    struct grpc_conn *conn;
    bool needs_host; /* by HTTP/1.1 */
};

/* The value without surrounding blanks; data is NULL when absent. `name` in any case. */
struct slice http1_header(const struct http1_request *req, const char *name);
/* One after the other: start with *rest = req->headers. Lines that are no headers are left out. */
bool http1_next_header(struct slice *rest, struct slice *ret_name, struct slice *ret_value);

/* More than paths have that are no mischief, also when each byte is written as five. */
enum { HTTP1_LOCATION_BYTES_MAX = 3 * (16 << 10) };
/* A header of the answer, before it begins; the texts are copied. 2 KiB of them in all, and a
 * Location.
 */
void http1_add_header(struct http1_exchange *x, const char *name, const char *value);
void http1_clear_headers(struct http1_exchange *x);
/* Answer, now or later; exactly once per exchange, also when the connection has died meanwhile
 * (then it only frees). `content_type` NULL: none. `body` is copied; it is left out for HEAD. */
void http1_respond(struct http1_exchange *x, int status, const char *content_type,
                   struct slice body);

/* The connection ends with the answer. */
void http1_close_after(struct http1_exchange *x);
/* One line behind a chunked answer, "Name: value"; borrowed: a literal. */
void http1_set_trailer(struct http1_exchange *x, const char *line);

/* Or answer in pieces, chunked: begin, then any number of writes, then end. Nothing may be
 * called after end. */
void http1_respond_begin(struct http1_exchange *x, int status, const char *content_type);
void http1_respond_write(struct http1_exchange *x, struct slice body);
void http1_respond_end(struct http1_exchange *x);
/* True once the client is gone: what is written goes nowhere. */
bool http1_is_gone(const struct http1_exchange *x);
/* Bytes written and not yet handed to the socket. */
size_t http1_queued_bytes(const struct http1_exchange *x);

/* --- for who answers later --- */

struct http1_events {
    /* The client is gone: end the answer, now or later. */
    void (*gone)(struct http1_exchange *x, void *user);
    /* From the loop, once for each http1_await_writable(): what was written has left. */
    void (*writable)(struct http1_exchange *x, void *user);
    /* What came on an upgraded connection; returns how much of it is taken. 0: more is needed, or
     * nothing is taken now. May be NULL without http1_upgrade(). */
    size_t (*data)(struct http1_exchange *x, struct slice in, void *user);
};
/* `events` is borrowed. */
void http1_set_events(struct http1_exchange *x, const struct http1_events *events, void *user);
void http1_await_writable(struct http1_exchange *x);

/* Not what came by HTTP/2. */
bool http1_can_upgrade(const struct http1_exchange *x);
/* Answer 101: from then on the connection is the exchange's, with writes as they are and data() for
 * what comes, and is closed at the end. */
void http1_upgrade(struct http1_exchange *x);
/* Read no more from an upgraded connection; read on, and deliver what was not taken. */
void http1_stop_data(struct http1_exchange *x);
void http1_resume_data(struct http1_exchange *x);

#endif
