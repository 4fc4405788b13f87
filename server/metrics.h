/* /metrics, in Prometheus' text form: gauges and counters that a node knows anyway, under etcd's
 * names where they mean the same, else under trivet_.
 *
 * Thread: the worker's; what is read is atomic, or the worker's own. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "base/buf.h"

struct node;

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* What outlives a node that begins anew in the same process. Owner: main(). */
struct node_history {
    uint64_t damages;     /* times that this member's data was set aside */
    uint64_t differences; /* of these: because its contents were not the majority's */
};

/* Append all of them. */
void metrics_write(struct node *n, struct buf *out);

#endif
