/* /metrics, in Prometheus' text form: all of etcd's, and trivet's own under trivet_. See meter.h
 * for what is counted, and docs/metrics.md for what each means.
 *
 * Limits: a page is at most 4 MiB; the number of series is bounded, whatever clients do.
 * Thread: the worker's; what is read is atomic, or the worker's own. A page is pressed in libuv's
 * pool. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "base/buf.h"

struct http1_exchange;
struct http1_request;
struct node;
struct worker;

/* What outlives a node that begins anew in the same process. Owner: main(). */
struct node_history {
    uint64_t damages;     /* times that this member's data was set aside */
    uint64_t differences; /* of these: because its contents were not the majority's */
};

/* Append all of them. */
void metrics_write(struct node *n, struct buf *out);
/* Answer with them, in the form that the request asks for, as Prometheus' own handler does:
 * whatever the method is, gzip when it is preferred. */
void metrics_serve(struct worker *w, struct http1_exchange *x, const struct http1_request *req);

/* What the headers ask for. Thread: any. */
bool metrics_wants_gzip(struct slice accept_encoding);
/* The scheme by which names outside of the old alphabet would be escaped; none of ours is. */
const char *metrics_escaping(struct slice accept);

#endif
