/* HTTP's pages by HTTP/2: what is no gRPC on a port with TLS, where clients such as browsers and
 * curl choose h2 by themselves. As in etcd, without TLS HTTP/2 is gRPC alone.
 *
 * A page hangs on the call that its stream has; the handler sees an exchange as of HTTP/1.1. Bodies
 * of unfinished requests are bounded by http1_body_bytes_max and, of a connection, by
 * PAGES_BODY_BYTES_MAX. */
#ifndef PROTO_TRANSPORT_PAGE_H
#define PROTO_TRANSPORT_PAGE_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

enum { PAGES_BODY_BYTES_MAX = 4 << 20 };

struct grpc_call;
struct grpc_conn;
struct http1_exchange;
struct page;

/* Is a request with these headers for a page? */
bool page__is_wanted(const struct grpc_call *call);
void page__open(struct grpc_call *call);
void page__data(struct page *p, struct slice in);
/* The request is whole. */
void page__end(struct page *p);
/* Its stream is gone, and with it the call. */
void page__stream_closed(struct page *p);

/* --- for http1.c: an exchange that belongs to a page --- */

/* `headers`: lines of what was added. `size` SIZE_MAX: not known yet. */
void page__begin_answer(struct page *p, int status, const char *content_type, struct slice headers,
                        size_t size);
void page__write(struct page *p, struct slice body);
/* The exchange is answered and gone. */
void page__end_answer(struct page *p);
bool page__is_gone(const struct page *p);
size_t page__queued_bytes(const struct page *p);
/* NULL: the stream is gone. */
struct grpc_conn *page__conn(const struct page *p);

/* http1.c's: an exchange for it, and the handler is called. */
struct http1_exchange *http1__exchange_of(struct page *p, bool is_head);
/* Its client is gone: told once. */
void http1__gone(struct http1_exchange *x);
/* What it wrote has left. */
void http1__written(struct http1_exchange *x);
/* The path without what follows '?', and that. */
void http1__cut_query(struct slice target, struct slice *ret_path, struct slice *ret_query);

#endif
