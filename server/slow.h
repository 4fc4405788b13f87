/* Calls that took longer than --warning-unary-request-duration are named in the log, as etcd names
 * them: what was asked, but never a value.
 *
 * Times are those of the worker's loop: what a call costs for this is one subtraction. Thread: the
 * worker's. */
#ifndef SERVER_SLOW_H
#define SERVER_SLOW_H

#include "server/node.h"

/* Milliseconds, of one turn of the worker's loop. */
static inline uint64_t slow_now(const struct worker *w)
{
    return uv_now(w->loop);
}

static inline bool slow_is(const struct worker *w, uint64_t begun_ms)
{
    return TV_UNLIKELY(slow_now(w) - begun_ms > w->node->config->warn_request_ms);
}

/* `call` may be NULL: its client has gone. */
void slow_proposal(struct worker *w, const struct grpc_call *call, const struct request *req);
void slow_read(struct worker *w, const struct grpc_call *call, const struct read *r);

#endif
