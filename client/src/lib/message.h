/* The API's messages as tables: which member of an open struct of trivet.h is which field. One
 * encoder and one decoder walk them; the numbers are etcd's (v3.7.1, rpc.proto, kv.proto,
 * auth.proto, v3lock.proto, v3election.proto).
 *
 * Thread: any; nothing here has state. */
#ifndef CLIENT_LIB_MESSAGE_H
#define CLIENT_LIB_MESSAGE_H

#include "base/arena.h"
#include "base/buf.h"
#include "trivet.h"

enum message_type {
    MESSAGE_INT64, /* 8 bytes, signed or not */
    MESSAGE_INT32, /* 4 bytes: enums, uint32 */
    MESSAGE_BOOL,
    MESSAGE_BYTES,
    MESSAGE_SUB,         /* a struct inside; always on the wire */
    MESSAGE_BYTES_LIST,  /* pointer and count */
    MESSAGE_SUB_LIST,    /* likewise */
    MESSAGE_INT64_ITEMS, /* a list of messages whose field 1 is the number, as int64_t */
    MESSAGE_COMPARES,
    MESSAGE_OPS,       /* struct trivet_request */
    MESSAGE_RESPONSES, /* struct trivet_result */
};

struct message_shape;

struct message_field {
    uint16_t number;
    uint16_t type; /* enum message_type */
    uint16_t offset;
    uint16_t count_offset; /* lists: of their uint32_t count */
    const struct message_shape *sub;
};

struct message_shape {
    const struct message_field *fields;
    uint16_t fields_count;
    uint16_t size;  /* of the struct */
    bool has_lists; /* two passes are needed to read it */
};

enum { MESSAGE_DEPTH_MAX = 64 };

/* Who may be asked, and what may be done when no answer comes. */
enum method_class {
    METHOD_READ,         /* any member; repeated */
    METHOD_WRITE,        /* the leader first; never repeated once it may have been applied */
    METHOD_MEMBER,       /* about the member that is asked; repeated at the same one */
    METHOD_MEMBER_WRITE, /* likewise, not repeated */
};

struct method {
    const char *path;
    const struct message_shape *request;
    const struct message_shape *response;
    uint16_t request_offset; /* in struct trivet_request */
    uint8_t klass;           /* enum method_class */
    bool stream;             /* answers come in parts */
    bool wrapped;            /* each part has the response as its field 1 */
    bool no_deadline;        /* the client's timeout is not for it */
    bool half_open;          /* a stream of requests, of which one is sent */
};

/* NULL: there is no such method. */
const struct method *method_of(int32_t method);

extern const struct message_shape message_watch_response;

/* Append the request. Errors: TRIVET_INVALID (a txn too deep, or with an operation of another
 * kind), TRIVET_NO_MEMORY. */
int message_request_encode(const struct trivet_request *q, struct buf *out);
/* Fill header and the method's part of `ret`, which is zeroed; bytes point into `msg`, lists lie in
 * `arena`. Errors: TRIVET_MALFORMED, TRIVET_NO_MEMORY. */
int message_response_decode(const struct method *m, struct slice msg, struct arena *arena,
                            struct trivet_result *ret);
/* Any message. Errors: the same. */
int message_read(const struct message_shape *shape, struct slice msg, struct arena *arena,
                 void *ret);

/* A WatchResponse as it comes. */
struct watch_response {
    struct trivet_header header;
    int64_t watch_id;
    bool created;
    bool canceled;
    bool fragment;
    int64_t compact_revision;
    struct trivet_bytes cancel_reason;
    const struct trivet_event *events;
    uint32_t events_count;
};

#endif
