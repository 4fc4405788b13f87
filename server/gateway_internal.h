/* What the gateway's files share: gateway.c (which method, with what metadata), gateway_call.c (a
 * call and its answer), gateway_ws.c (WebSocket). */
#ifndef SERVER_GATEWAY_INTERNAL_H
#define SERVER_GATEWAY_INTERNAL_H

#include "server/gateway.h"

#include "base/buf.h"
#include "proto/json.h"
#include "proto/local.h"

enum { GATEWAY_METADATA_MAX = 64, GATEWAY_QUEUED_BYTES_MAX = 256 << 10 };

/* What a call is made with. */
struct gateway_metadata {
    struct grpc_pair pairs[GATEWAY_METADATA_MAX];
    uint32_t count;
    struct buf names;
    uint64_t timeout_ns; /* 0 = none */
    bool is_late;        /* its time was up before it came */
};

struct gateway_ws;

/* From the request to the end of the answer. */
struct gateway_call {
    struct worker *worker;
    struct http1_exchange *exchange;
    struct grpc_conn *conn; /* used within the request alone, or before the client is gone */
    const struct grpc_method *method;
    const ProtobufCMethodDescriptor *desc;
    struct grpc_local *local; /* NULL: it is over, or has not begun */
    struct gateway_ws *ws;    /* NULL: plain HTTP */
    struct buf answer;
    int answer_err;
    bool begun;            /* the answer */
    bool accepts_trailers; /* the client does */
    bool has_metadata;     /* a call was made, or nearly */
    bool paused;
};

/* Owns nothing of `req`. `ws` is the call's from then on. */
struct gateway_call *gateway_call_new(struct http1_exchange *x, const struct http1_request *req,
                                      struct worker *w, struct gateway_ws *ws);
/* Begin the call. */
void gateway_call_start(struct gateway_call *c, const struct gateway_metadata *md);
/* Make a message of `value`, with room for a frame's prefix. False: `err` says why it is none. */
bool gateway_call_read(struct gateway_call *c, struct slice value, struct buf *framed,
                       struct buf *err);
/* The same, and send it. */
bool gateway_call_send(struct gateway_call *c, struct slice value, struct buf *err);
/* Answer with an error, and end. Not when the answer has begun. */
void gateway_call_fail(struct gateway_call *c, enum grpc_code code, struct slice text);
/* No answer any more: let go of everything. */
void gateway_call_free(struct gateway_call *c);
/* Take no messages while the client does not read. */
void gateway_call_check_queue(struct gateway_call *c);
const struct http1_events *gateway_call_events(void);

/* --- WebSocket --- */

bool gateway_ws_is_wanted(const struct http1_request *req);
/* The connection becomes one; NULL: refused, and answered. */
struct gateway_ws *gateway_ws_open(struct http1_exchange *x, const struct http1_request *req,
                                   uint32_t message_bytes_max);
/* The call's metadata follow from other headers then. `ret` is "Bearer ..." or data NULL; in
 * `text`. */
struct slice gateway_ws_authorization(const struct http1_request *req, struct buf *text);
/* `md` is copied: a call of one message is begun with the first one. */
void gateway_ws_begin(struct gateway_call *c, const struct gateway_metadata *md);
size_t gateway_ws_data(struct gateway_call *c, struct slice in);
/* Each line of `text` as a message. */
void gateway_ws_send(struct gateway_call *c, struct slice text);
void gateway_ws_free(struct gateway_ws *ws);

void gateway_metadata_init(struct gateway_metadata *md);
void gateway_metadata_add(struct gateway_metadata *md, const char *prefix, struct slice name,
                          struct slice value);
void gateway_metadata_fini(struct gateway_metadata *md);

#endif
