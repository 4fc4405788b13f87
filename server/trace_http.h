/* One POST of a message, HTTP/1.1 without TLS, on a connection of its own: for collectors that take
 * OTLP over HTTP.
 *
 * Thread: the loop's. */
#ifndef SERVER_TRACE_HTTP_H
#define SERVER_TRACE_HTTP_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct http_post;

/* "http://host:port", with a path or with none. False: it is none. */
bool http_post_is_url(const char *url);
/* Send `head` and `body` as one body, copied. `done` is called once, not from inside: `ok` when the
 * answer was a 2xx within the time. */
struct http_post *http_post_start(uv_loop_t *loop, const char *url, const char *path_default,
                                  struct slice head, struct slice body, uint64_t timeout_ms,
                                  void (*done)(void *ctx, bool ok), void *ctx);
/* `done` is not called any more. The loop must run once more. Dead on return. */
void http_post_abandon(struct http_post *p);

#endif
