/* The header blocks that a client sends again and again, and what they came to.
 *
 * A gRPC client's requests differ in their messages and hardly in their headers, and decoding these
 * is the largest part of what HTTP/2 costs. So frames are looked at before nghttp2 gets them: a
 * HEADERS frame whose block is, byte by byte, one that was decoded before is given to it with an
 * empty block, and the call gets what the block came to then.
 *
 * A block means the same as before only as long as HPACK's dynamic table is the same (RFC
 * 7541, 2.3). Invariant: every block in the cache neither changed the table nor came before one
 * that did. Whoever changes the table, or may have, empties the cache.
 *
 * Owner: a server's connection. */
#ifndef PROTO_TRANSPORT_HEADER_CACHE_H
#define PROTO_TRANSPORT_HEADER_CACHE_H

#include "base/slice.h"

struct grpc_call;
struct header_cache;

enum { SCAN_FRAME_HEADER_BYTES = 9 };

/* What is next in the bytes that were read. */
enum scan_kind {
    SCAN_PLAIN, /* `size` bytes that nghttp2 gets as they are */
    SCAN_KNOWN, /* a HEADERS frame of `size` bytes with a block from the cache */
    SCAN_FRESH, /* one of a block that can be kept when it is decoded */
};

struct header_cache *header_cache_new(void);
void header_cache_free(struct header_cache *c);
/* Look at the beginning of `in`, which is not empty and follows what was looked at before. */
enum scan_kind header_cache_scan(struct header_cache *c, struct slice in, size_t *ret_size);
/* After SCAN_FRESH: `call` is what the block came to. */
void header_cache_keep(struct header_cache *c, const struct grpc_call *call);
/* After SCAN_KNOWN: make `call` what it came to. */
void header_cache_apply(const struct header_cache *c, struct grpc_call *call);

#endif
