#include "server/inner.h"

#include "server/node.h"

#include "base/assert.h"
#include "base/err.h"
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

bool inner_propose(struct inner *in, uint32_t raft_kind, struct slice body,
                   void (*done)(struct inner *in, int err, struct slice reply))
{
    struct request *req = begin(in, REQUEST_PROPOSE, done);
    bool fits = worker_payload(in->worker, req, raft_kind, body);
    if (fits) {
        worker_post(in->worker, req);
    } else {
        in->request = NULL;
        worker_request_free(in->worker, req);
    }
    return fits;
}

void inner_barrier(struct inner *in, void (*done)(struct inner *in, int err, struct slice reply))
{
    worker_post(in->worker, begin(in, REQUEST_READ_BARRIER, done));
}

void inner_propose_after(struct worker *w, uint32_t raft_kind, struct slice body)
{
    struct request *req = worker_request(w, REQUEST_PROPOSE, NULL, worker_request_free);
    bool fits = worker_payload(w, req, raft_kind, body);
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
