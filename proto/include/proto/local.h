/* A call of a server's method from within the process, for the JSON gateway: the method sees a call
 * like any other, of the connection that the HTTP request came by, and there is no stream.
 *
 * What the method sends waits in the call's queue, as for a socket that is slow, until the caller
 * takes it; so a caller that pauses stalls the method as a client that does not read does.
 *
 * Thread: the loop's. */
#ifndef PROTO_LOCAL_H
#define PROTO_LOCAL_H

#include "proto/grpc.h"

struct grpc_local;

/* All are called from the loop, never from inside what the caller or the method does. */
struct grpc_local_ops {
    /* A message of the method's, borrowed until return. */
    void (*message)(void *user, struct slice msg);
    /* The end, once, and behind all messages; the grpc_local is gone. */
    void (*closed)(void *user, enum grpc_code code, struct slice text);
};

struct grpc_local_options {
    const struct grpc_method *method;
    const struct grpc_pair *metadata; /* copied */
    uint32_t metadata_count;
    uint64_t timeout_ns; /* 0 = none */
    const struct grpc_local_ops *ops;
    void *user;
};

/* The method's server is the connection's. */
struct grpc_local *grpc_local_start(struct grpc_conn *conn, const struct grpc_local_options *o);
/* A message of the request, behind GRPC_LOCAL_PREFIX_BYTES that are written over. */
enum { GRPC_LOCAL_PREFIX_BYTES = 5 };
void grpc_local_send(struct grpc_local *l, uint8_t *framed, size_t size);
/* No more of them. */
void grpc_local_half_close(struct grpc_local *l);
/* Bytes sent that the method does not take yet. */
size_t grpc_local_backlog(const struct grpc_local *l);
/* Take no messages; take them again. */
void grpc_local_pause(struct grpc_local *l);
void grpc_local_resume(struct grpc_local *l);
/* The caller is gone: the method is told, as of a client that went away; closed() does not come. */
void grpc_local_cancel(struct grpc_local *l);

#endif
