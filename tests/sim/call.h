/* Calls between the simulation's clients and the services: the transport's functions that the
 * server uses (proto/grpc.h) are here, on virtual time, without a socket. Messages of a call keep
 * their order; a connection that breaks is noticed by either side in its own time, or never.
 * Members call each other in the same way, but over the network between members. */
#ifndef TESTS_SIM_CALL_H
#define TESTS_SIM_CALL_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct event;
struct grpc_call;
struct member;
struct sim;

struct call_client {
    void (*reply)(void *ctx, struct slice msg);
    /* Once, unless the client gave up before. */
    void (*ended)(void *ctx, enum grpc_code code, const char *text);
};

/* `ctx` is given to the functions of `client`; the caller holds the call until call_drop(). */
struct grpc_call *call_start(struct sim *s, uint32_t member, const char *path, bool want_leader,
                             const struct call_client *client, void *ctx);
void call_send(struct grpc_call *c, struct slice msg);
void call_half_close(struct grpc_call *c);
/* The client is done with it: if it has not ended, the server is told, unless the network fails. */
void call_drop(struct grpc_call *c);

/* The caller gives up; ended() follows. */
void call_cancel(struct grpc_call *c);

/* Let messages to the client wait for so long. */
void call_congest(struct grpc_call *c, uint64_t length_us);
/* The connections of some calls to the member break. */
void calls_break(struct member *m, uint32_t percent);
/* The member's process ends. */
void calls_end(struct member *m);

void call_to_server(struct sim *s, const struct event *e);
void call_to_client(struct sim *s, const struct event *e);
/* An event of the two kinds that nobody will handle. */
void call_event_free(const struct event *e);

#endif
