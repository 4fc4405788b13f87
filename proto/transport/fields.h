/* Header fields by name, and what RFC 9113, 8.2 and 8.3 demand of them.
 *
 * nghttp2 would check every byte of every field. Nearly all that gRPC sends are a dozen known
 * names, and of a known name there is nothing to check; so the library's check is off (loop.c), and
 * this is in its place. */
#ifndef PROTO_TRANSPORT_FIELDS_H
#define PROTO_TRANSPORT_FIELDS_H

#include "base/slice.h"

enum field {
    FIELD_OTHER,
    FIELD_METHOD,
    FIELD_SCHEME,
    FIELD_PATH,
    FIELD_AUTHORITY,
    FIELD_STATUS,
    FIELD_CONTENT_TYPE,
    FIELD_TE,
    FIELD_USER_AGENT,
    FIELD_TIMEOUT,
    FIELD_ENCODING,
    FIELD_GRPC_STATUS,
    FIELD_GRPC_MESSAGE,
};

/* One header block, as far as it has come. Starts as zero. */
struct field_block {
    uint32_t pseudo_seen; /* bits by enum field */
    bool regular_seen;
    bool malformed;
};

enum field field_of(struct slice name);
/* Note a field; false, and the block is malformed, when it must not be there. */
bool field_block_add(struct field_block *b, enum field field, struct slice name,
                     struct slice value);
/* The block is complete: has it all that a request, or a first response, must have? */
bool field_block_is_request(const struct field_block *b);
bool field_block_is_response(const struct field_block *b);
/* No pseudo-header field among them. */
bool field_block_is_trailers(const struct field_block *b);

#endif
