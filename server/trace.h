/* Distributed tracing: spans of calls and of what is done for them, sent to an OpenTelemetry
 * collector by OTLP over gRPC, or, when its address begins with http://, over HTTP. Names and
 * attributes are those that etcd and otelgrpc give.
 *
 * A call is traced when the client's `traceparent` says so, or, when it has none, by chance
 * (--distributed-tracing-sampling-rate). A finished span is encoded at once; what waits goes to the
 * collector in one request a second, one at a time. Nobody waits for that: what finds no room, or
 * does not get through, is dropped and counted.
 *
 * Limits: TRACE_SPANS_MAX spans and TRACE_BYTES_MAX wait in a worker, and as many are under way;
 * keys in attributes are cut at TRACE_TEXT_MAX bytes. Owner: the worker's thread. Sources: W3C
 * Trace Context; opentelemetry-proto trace/v1. */
#ifndef SERVER_TRACE_H
#define SERVER_TRACE_H

#include "base/slice.h"
#include "proto/grpc.h"

#include <stdbool.h>
#include <stdint.h>

struct request;
struct tracer;
struct worker;

enum { TRACE_SPANS_MAX = 2048, TRACE_BYTES_MAX = 1 << 20, TRACE_TEXT_MAX = 1024 };

/* NULL when tracing is off, or the address is none: said in the log. */
struct tracer *tracer_new(struct worker *w, struct grpc_loop *gl);
/* All calls have ended. What was not sent is dropped. NULL allowed. */
void tracer_free(struct tracer *t);
/* Every 100 ms or so. NULL allowed. */
void tracer_tick(struct tracer *t, uint64_t now_ms);
/* Send what waits without waiting for the time. */
void tracer_flush(struct tracer *t);

/* A call has begun to count: is it traced? */
void trace_begin(struct tracer *t, struct grpc_call *call);
/* And it has ended. */
void trace_end(struct tracer *t, struct grpc_call *call, enum grpc_code code, struct slice text);

/* The rest does nothing for a call that is not traced. */
struct trace;
static inline struct trace *trace_of(const struct grpc_call *call)
{
    return grpc_call_trace(call);
}

/* What was asked for is begun: `raft_kind` as on the log, WIRE_RAFT_RANGE, or WIRE_RAFT_TXN also of
 * one that only reads. */
void trace_work(struct grpc_call *call, uint32_t raft_kind, struct slice body, bool reads_only);
/* It is on its way to the log: the core is to note when what happens. */
void trace_proposed(struct grpc_call *call, struct request *req);
/* And has come back; the call may have ended meanwhile. */
void trace_answered(const struct request *req);
/* A span of its own, from `from_ns` until now: the renewal of a lease. */
void trace_renewed(struct tracer *t, struct grpc_call *call, int64_t lease_id, uint64_t from_ns);

/* --- for tests --- */

struct trace_parent {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    bool sampled;
};
/* A traceparent header. False: it is none, and counts as absent. Thread: any. */
bool trace_parse_parent(struct slice text, struct trace_parent *ret);

#endif
