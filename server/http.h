/* The HTTP/1.1 pages of a client port: /health, /livez, /readyz, /version. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "proto/http1.h"

/* An http1_handler; `arg` is the worker. */
void http_serve(struct http1_exchange *x, const struct http1_request *req, void *arg);

#endif
