/* /debug/top: what top.h knows of all workers together, as one JSON object. While auth is on only
 * for root, whose token is in the header Authorization, since it tells names of keys. Thread: a
 * worker's. */
#ifndef SERVER_TOP_PAGE_H
#define SERVER_TOP_PAGE_H

#include "server/worker.h"

#include "proto/http1.h"

void top_page_serve(struct http1_exchange *x, const struct http1_request *req, struct worker *w);

#endif
