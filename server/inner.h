/* What the server does itself on behalf of a client's call: put an entry on the log, make sure that
 * what it reads is new enough, wait for a change. Lock and Election are made of these.
 *
 * One thing at a time. When the call ends first, what is under way goes on and its outcome is
 * dropped. Everything that goes on the log for a call goes through inner_propose(): what there is
 * to know about who the client is, is known there.
 *
 * Owner: the worker's thread. */
#ifndef SERVER_INNER_H
#define SERVER_INNER_H

#include "server/worker.h"

/* Embedded in what its owner keeps about the call. */
struct inner {
    struct call_tie tie;
    struct worker *worker;
    struct grpc_call *call;  /* NULL: it ended */
    struct request *request; /* under way; NULL: none */
    char *caller;            /* in whose name it puts something on the log; NULL: nobody's */
    /* `err` is 0, or why it failed; `reply` is borrowed during the call. */
    void (*done)(struct inner *in, int err, struct slice reply);
    /* The call is gone. Nothing is under way: the owner releases and frees this. */
    void (*ended)(struct inner *in);
};

void inner_init(struct inner *in, struct worker *w, struct grpc_call *call,
                void (*ended)(struct inner *in));
/* The call is finished, by whatever the owner sent, or gone: nothing comes to the owner any more,
 * who may free this. */
void inner_release(struct inner *in);

/* In the caller's name, who is checked when it is applied. `done` follows, not from inside. Errors,
 * and then nothing follows: TV_REQUEST_TOO_LARGE, TV_INVALID_AUTH_TOKEN. */
int inner_propose(struct inner *in, uint32_t raft_kind, struct slice body,
                  void (*done)(struct inner *in, int err, struct slice reply));
/* What is published when `done` is called is new enough for a linearizable read. */
void inner_barrier(struct inner *in, void (*done)(struct inner *in, int err, struct slice reply));
/* Clean up after the call, which may be gone, in the same name. Nobody hears what becomes of it. */
void inner_propose_after(struct inner *in, uint32_t raft_kind, struct slice body);

/* As etcd's own client hands an error of its server on: the text, and a code that says nothing. */
void inner_fail(struct inner *in, int err);
void inner_fail_text(struct inner *in, const char *text);

/* The header of an answer, of this member, with the revision. */
struct wire_header inner_header(const struct inner *in, int64_t revision);

#endif
