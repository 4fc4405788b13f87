/* What reading and writing JSON share. */
#ifndef PROTO_JSON_INTERNAL_H
#define PROTO_JSON_INTERNAL_H

#include "proto/json.h"

#include <stdarg.h>

/* The size of the first character of `s` in UTF-8; 0 when it is none. */
static inline size_t json__utf8_size(const uint8_t *s, size_t size)
{
    uint8_t c = s[0];
    if (c < 0x80)
        return 1;
    size_t n = c >= 0xc2 && c < 0xe0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (n == 0 || n > size)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (c == 0xe0 && s[1] < 0xa0) || (c == 0xf0 && s[1] < 0x90);
    bool surrogate = c == 0xed && s[1] >= 0xa0;
    bool beyond = c == 0xf4 && s[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : n;
}

static inline bool json__is_blank(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

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
