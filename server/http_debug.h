/* Pages for whoever looks into the process: /debug/vars, /debug/top (top_page.h), and with
 * --enable-pprof what there is of /debug/pprof/. Thread: a worker's. */
#ifndef SERVER_HTTP_DEBUG_H
#define SERVER_HTTP_DEBUG_H

#include "server/worker.h"

#include "proto/http1.h"

/* False: it is none of these. */
bool http_debug_serve(struct http1_exchange *x, const struct http1_request *req, struct slice path,
                      struct worker *w);

#endif
