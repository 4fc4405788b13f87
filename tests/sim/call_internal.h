/* What the two files of calls share: call.c has the server's side and the way in between, and
 * peer_call.c the side of a member that calls another one. */
#ifndef TESTS_SIM_CALL_INTERNAL_H
#define TESTS_SIM_CALL_INTERNAL_H

#include "call.h"

#include "member.h"
#include "proto/grpc.h"

struct caller;

enum parcel_kind {
    PARCEL_OPEN,
    PARCEL_MESSAGE,
    PARCEL_HALF_CLOSE,
    PARCEL_END,
    PARCEL_CLOSED,   /* the server's own: the call's end */
    PARCEL_WRITABLE, /* likewise: the client reads again */
    PARCEL_BROKEN,   /* either side: it has noticed that the connection is gone */
};

enum { TEXT_MAX = 160 };

struct grpc_call {
    struct list link; /* of the member's calls, while open there */
    struct sim *sim;
    struct member *member;
    uint64_t life; /* of the member, when it was opened */
    uint32_t refs; /* the client, the server, each parcel */
    bool want_leader;
    struct member *caller; /* NULL: a client of the simulation */
    bool broken;           /* nothing passes any more */
    struct caller *end;    /* not NULL: only what its caller holds, see peer_call.c */

    /* The server's side. */
    const struct grpc_method *method;
    const struct grpc_call_ops *ops;
    void *user;
    bool at_server; /* open, closed() not called yet */
    bool finished;
    uint64_t congested_until_us;
    bool told_full;

    /* The client's. */
    const struct call_client *client;
    void *ctx;
    bool at_client; /* it still listens */
    const char *path;

    uint64_t to_server_us; /* arrival of the last parcel */
    uint64_t to_client_us;
};

struct parcel {
    struct grpc_call *call;
    enum parcel_kind kind;
    enum grpc_code code;
    char text[TEXT_MAX];
    uint32_t size;
    uint8_t bytes[];
};

struct grpc_call *call__start(struct sim *s, struct member *caller, uint32_t member,
                              const char *path, const struct call_client *client, void *ctx);

/* What is done to a call by who made it. */
int peer_call__send(struct grpc_call *c, const struct slice *parts, uint32_t parts_count);

#endif
