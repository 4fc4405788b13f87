/* HTTP on a client port: who may (access.h), the gateway (gateway.h), and the pages: /health,
 * /livez, /readyz, /version, /metrics, /debug (http_debug.h). */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "proto/http1.h"

/* An http1_handler; `arg` is the worker. */
void http_serve(struct http1_exchange *x, const struct http1_request *req, void *arg);

#endif
