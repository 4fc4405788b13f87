/* Protobuf's JSON, in the form that etcd's gateway has it, between text and messages on the wire,
 * by the descriptors that protobuf-c makes of a schema.
 *
 * Reading follows Go's encoding/json, which finds where a value ends, and then
 * google.golang.org/protobuf's protojson, errors word by word: names as in the schema or in camel
 * case, integers as numbers or strings, bytes in either base64, unknown fields and enum names
 * passed over, null as absent, no field twice. Written are names as in the schema and no field that
 * has its default value.
 *
 * What etcd's schema does not have (maps, floating point, fixed-size and zigzag integers, required
 * fields) is not supported: json_supports() says so.
 *
 * Limits: values nest JSON_DEPTH_MAX deep, messages JSON_MESSAGES_DEPTH_MAX; memory is a few times
 * the size of the text. Thread: any; nothing here has state. */
#ifndef PROTO_JSON_H
#define PROTO_JSON_H

#include "base/buf.h"
#include "base/json.h"

#include <protobuf-c/protobuf-c.h>

enum { JSON_MESSAGES_DEPTH_MAX = 1000 };

bool json_supports(const ProtobufCMessageDescriptor *desc);

/* json_scan(), with words in `err` for JSON_CUT_OFF and TV_EMALFORMED. */
int json_next_value(struct slice *rest, struct slice *ret_value, struct buf *err);

/* Append the message that `value`, from json_next_value(), stands for. On TV_EMALFORMED `err` says
 * why, and `out` holds part of it. */
int json_read(struct slice value, const ProtobufCMessageDescriptor *desc, struct buf *out,
              struct buf *err);

enum json_style {
    JSON_PLAIN,   /* as protojson has it (whether it puts blanks behind commas depends on its build)
                   */
    JSON_ESCAPED, /* <, > and & as \u003c...: as encoding/json hands that on */
};

/* Append the text of `msg`. TV_EMALFORMED when it is none of that kind or a string in it is no
 * UTF-8: `out` holds part of it. TV_ETOOLARGE: `out` is full. */
int json_write(struct slice msg, const ProtobufCMessageDescriptor *desc, enum json_style style,
               struct buf *out);
/* A string, in quotes. Errors: as json_write(). */
int json_write_string(struct slice text, enum json_style style, struct buf *out);

#endif
