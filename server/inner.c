#include "server/inner.h"

#include "server/node.h"
#include "server/services.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "proto/grpc.h"

static void on_call_closed(struct call_tie *tie)
{
    struct inner *in = CONTAINER_OF(tie, struct inner, tie);
    in->call = NULL;
    if (in->request != NULL)
        in->request->call = NULL; /* on_answered() goes on */
    else
        in->ended(in);
}

void inner_init(struct inner *in, struct worker *w, struct grpc_call *call,
                void (*ended)(struct inner *in))
{
    *in = (struct inner){.worker = w, .call = call, .ended = ended};
    in->tie.closed = on_call_closed;
    grpc_call_set_user(call, &in->tie);
}

void inner_release(struct inner *in)
{
    ASSERT(in->request == NULL);
    if (in->call != NULL)
        grpc_call_set_user(in->call, NULL);
    in->call = NULL;
    mem_free(in->caller);
    in->caller = NULL;
}

static void on_answered(struct worker *w, struct request *req)
{
    struct inner *in = req->user;
    in->request = NULL;
    if (in->call == NULL)
        in->ended(in);
    else
        in->done(in, req->err, slice_of(request_reply_bytes(req), req->reply_size));
    worker_request_free(w, req);
}

static struct request *begin(struct inner *in, enum request_kind kind,
                             void (*done)(struct inner *in, int err, struct slice reply))
{
    ASSERT(in->request == NULL && in->call != NULL);
    in->done = done;
    in->request = worker_request(in->worker, kind, in->call, on_answered);
    in->request->user = in;
    return in->request;
}

static void remember(struct inner *in, const struct auth_caller *caller)
{
    if (!caller->known || in->caller != NULL)
        return;
    in->caller = mem_text(caller->name.data, caller->name.size);
}

int inner_propose(struct inner *in, uint32_t raft_kind, struct slice body,
                  void (*done)(struct inner *in, int err, struct slice reply))
{
    struct auth_caller caller = {0};
    struct request *req = begin(in, REQUEST_PROPOSE, done);
    int err =
        auth_is_enabled(&in->worker->node->applier.auth) ? service_caller(in->call, &caller) : 0;
    if (err == 0 && !worker_payload_by(in->worker, req, raft_kind, body, &caller))
        err = TV_REQUEST_TOO_LARGE;
    if (err == 0) {
        remember(in, &caller);
        worker_post(in->worker, req);
    } else {
        in->request = NULL;
        worker_request_free(in->worker, req);
    }
    return err;
}

void inner_barrier(struct inner *in, void (*done)(struct inner *in, int err, struct slice reply))
{
    worker_post(in->worker, begin(in, REQUEST_READ_BARRIER, done));
}

void inner_propose_after(struct inner *in, uint32_t raft_kind, struct slice body)
{
    struct worker *w = in->worker;
    struct request *req = worker_request(w, REQUEST_PROPOSE, NULL, worker_request_free);
    struct auth_caller caller = {0};
    if (in->caller != NULL)
        caller = (struct auth_caller){.known = true,
                                      .name = slice_of_string(in->caller),
                                      .revision = auth_revision(&w->node->applier.auth)};
    bool fits = worker_payload_by(w, req, raft_kind, body, &caller);
    ASSERT(fits); /* less than what the call had put there itself */
    worker_post(w, req);
}

void inner_fail_text(struct inner *in, const char *text)
{
    grpc_finish(in->call, GRPC_UNKNOWN, text);
}

void inner_fail(struct inner *in, int err)
{
    inner_fail_text(in, tv_err_text(err));
}

struct wire_header inner_header(const struct inner *in, int64_t revision)
{
    return worker_header(in->worker, revision);
}
