/* One unary call at a time, made to look like a function: for command lines, not for servers.
 *
 * Owner: the thread that made it, which has no other business while a call is under way. */
#ifndef CLIENT_UNARY_H
#define CLIENT_UNARY_H

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "client/endpoint.h"

#include <stdint.h>

struct unary;

/* A connection to one of `endpoints`, see client_endpoint(). Errors: NULL when one of them cannot
 * be meant, or a file of `tls` be used: err_text says so. */
struct unary *unary_new(const char *const *endpoints, uint32_t endpoints_count,
                        const struct client_tls *tls, char *err_text, size_t err_size);
void unary_free(struct unary *u);

/* Send `request` to the method and wait for the answer, `timeout_ms` at most, which includes the
 * time until somebody can be connected to. `ret_response` is cleared first; on another code than
 * GRPC_OK it holds the text of the error. */
enum grpc_code unary_call(struct unary *u, const char *path, struct slice request,
                          uint64_t timeout_ms, struct buf *ret_response);

#endif
