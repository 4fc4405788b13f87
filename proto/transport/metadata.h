/* Header fields packed into one buffer: u16 name size, u32 value size, name, value; and the texts
 * of gRPC's own headers. */
#ifndef PROTO_TRANSPORT_METADATA_H
#define PROTO_TRANSPORT_METADATA_H

#include "base/buf.h"
#include "base/err.h"

/* TV_ETOOLARGE when a size does not fit, TV_ENOMEM. */
int metadata_add(struct buf *b, struct slice name, struct slice value);
/* data is NULL when absent. */
struct slice metadata_get(const struct buf *b, struct slice name);
/* Start with *cursor = 0; false at the end. */
bool metadata_next(const struct buf *b, size_t *cursor, struct slice *ret_name,
                   struct slice *ret_value);

/* grpc-timeout (gRPC over HTTP/2, "Timeout"). TV_EMALFORMED with a text for the peer in `why`. */
int timeout_parse(struct slice text, uint64_t *ret_ns, struct buf *why);
/* Rounded up to at most four digits and a unit, so that calls with the same patience look alike and
 * HPACK sends them as one byte: the peer gives up a little later than the caller, who keeps his own
 * time. Returns the size. */
size_t timeout_format(uint64_t ns, char ret_text[16]);

/* grpc-message: bytes outside ' '..'~', and '%', as %XX. */
void message_encode(struct slice text, struct buf *out);
/* TV_ENOMEM: not all of it is there. */
int message_decode(struct slice text, struct buf *out);
/* True when message_encode() would change nothing. */
bool message_is_plain(struct slice text);

/* The texts below are shorter than they should be when there is no memory. */
/* In double quotes with escapes, as Go's %q. */
void text_quote(struct slice text, struct buf *out);
void text_format(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
