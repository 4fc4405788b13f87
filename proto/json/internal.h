/* What reading and writing JSON share. */
#ifndef PROTO_JSON_INTERNAL_H
#define PROTO_JSON_INTERNAL_H

#include "proto/json.h"

#include "base/utf8.h"

#include <stdarg.h>

void json__format(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As Go's %q. */
void json__quote(struct slice text, struct buf *out);

static inline bool json__is_scalar(const ProtobufCFieldDescriptor *f)
{
    return f->type != PROTOBUF_C_TYPE_MESSAGE;
}

static inline bool json__is_oneof(const ProtobufCFieldDescriptor *f)
{
    return (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

#endif
