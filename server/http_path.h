/* Paths of requests, as Go's net/http treats them. Thread: any. */
#ifndef SERVER_HTTP_PATH_H
#define SERVER_HTTP_PATH_H

#include "base/buf.h"

/* Append the path with its %XX decoded. False: one of them is none. */
bool http_path_decode(struct slice escaped, struct buf *ret);
/* Append it with %XX for what a path does not have as it is. */
void http_path_encode(struct slice path, struct buf *ret);
/* What came is as http_path_encode() might have it; else Go encodes it again. */
bool http_path_is_encoded(struct slice path);
/* Append it without empty, "." and ".." elements. A slash at its end stays. */
void http_path_clean(struct slice path, struct buf *ret);

#endif
