/* Shared by the decoders in this folder. */
#ifndef PROTO_WIRE_WIRE_INTERNAL_H
#define PROTO_WIRE_WIRE_INTERNAL_H

#include "proto/wire.h"

/* What a decoder's switch looks at: a field's number together with its wire type, so that a known
 * number with a foreign type falls through to the unknown ones. */
#define WIRE_KEY(number, type) ((uint64_t)(number) << 3 | (type))

static inline uint64_t wire__key(const struct wire_field *f)
{
    return WIRE_KEY(f->number, f->type);
}

/* The x__merge functions read a message on top of what *ret holds already. */
int wire__range_request_merge(struct slice msg, struct wire_range_request *ret);
int wire__put_request_merge(struct slice msg, struct wire_put_request *ret);
int wire__delete_range_request_merge(struct slice msg, struct wire_delete_range_request *ret);
int wire__kv_merge(struct slice msg, struct wire_kv *ret);
int wire__header_merge(struct slice msg, struct wire_header *ret);

#endif
