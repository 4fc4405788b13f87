/* The API as JSON over HTTP, below /v3/: etcd's gateway (grpc-gateway), and the same by WebSocket.
 *
 * A request becomes a call of the worker's own method (proto/local.h) with its body as the message;
 * what the method sends becomes the answer: one object, or for a stream one line {"result":...} a
 * message. The messages' JSON is proto/json.h's. A client that does not read stalls the call.
 *
 * Source of the routes, headers and texts: etcd api/etcdserverpb/gw, grpc-gateway's runtime,
 * grpc-websocket-proxy.
 *
 * Limits: a body as http1_body_bytes_max; of an answer that the client does not read 256 KiB and a
 * message. Thread: a worker's. */
#ifndef SERVER_GATEWAY_H
#define SERVER_GATEWAY_H

#include "server/worker.h"

#include "proto/http1.h"

/* `path` is decoded, and begins with "/v3/". */
void gateway_serve(struct http1_exchange *x, const struct http1_request *req, struct slice path,
                   struct worker *w);

#endif
