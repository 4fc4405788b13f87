/* The three forms of a call: with a callback, waiting, and many at once. */
#include "engine.h"

#include "base/assert.h"
#include "base/mem.h"
#include "proto/wire.h"

#include <stdio.h>

/* --- with a callback --- */

static void end_callback(struct call *call, const struct call_end *end)
{
    enum { ERROR_BYTES = 1024 };
    struct trivet_result r;
    char error[ERROR_BYTES];
    result__borrow(call, end, &r, error, sizeof(error));
    call->cb(&r, call->arg);
}

int trivet_start(struct trivet_client *c, const struct trivet_request *q,
                 const struct trivet_call_options *o, trivet_result_cb cb, void *arg)
{
    int error;
    struct call *call = rpc__new(c, q, o, &error);
    if (call == NULL)
        return error;
    call->end = end_callback;
    call->cb = cb;
    call->arg = arg;
    rpc__post(call);
    return 0;
}

/* --- waiting --- */

/* Several calls that one thread waits for. */
struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    uint32_t left;
    _Atomic bool done;
};

struct awaited {
    struct waiter *waiter;
    struct trivet_result *result;
    struct holding *holding;
    struct buf parts; /* of a stream */
};

static void waiter_init(struct waiter *w, uint32_t count)
{
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->cond, NULL);
    w->left = count;
    atomic_init(&w->done, count == 0);
}

static void waiter_fini(struct waiter *w)
{
    (void)pthread_cond_destroy(&w->cond);
    (void)pthread_mutex_destroy(&w->lock);
}

static void waiter_tell(struct waiter *w)
{
    (void)pthread_mutex_lock(&w->lock);
    ASSERT(w->left > 0);
    if (--w->left == 0) {
        atomic_store(&w->done, true);
        (void)pthread_cond_signal(&w->cond);
    }
    (void)pthread_mutex_unlock(&w->lock);
}

static void waiter_wait(struct trivet_client *c, struct waiter *w)
{
    if (c->o.own_loop) {
        engine__run_until(c, &w->done);
        return;
    }
    (void)pthread_mutex_lock(&w->lock);
    while (!atomic_load(&w->done))
        (void)pthread_cond_wait(&w->cond, &w->lock);
    (void)pthread_mutex_unlock(&w->lock);
}

static void fail(struct trivet_result *ret, const struct trivet_request *q, int status)
{
    static const char *const texts[] = {
        [TRIVET_INVALID] = "not a request that can be sent",
        [TRIVET_BUSY] = "calls_max or bytes_max is reached",
        [TRIVET_CLOSED] = "the client is closed",
        [TRIVET_NO_MEMORY] = "out of memory",
    };
    *ret = (struct trivet_result){.status = status, .method = q->method, .error = texts[status]};
}

static void add_part(struct call *call, struct awaited *w, struct slice msg)
{
    struct slice inner;
    int rv = wire_range_stream_response_decode(msg, &inner) != 0
                 ? TV_EMALFORMED
                 : buf_try_append(&w->parts, inner.data, inner.size);
    if (rv == TV_ENOMEM)
        rpc__end(call, TRIVET_NO_MEMORY, GRPC_OK, slice_of_string(tv_err_text(rv)), NULL);
    else if (rv != 0)
        rpc__end(call, TRIVET_MALFORMED, GRPC_OK,
                 SLICE_LITERAL("the parts cannot be read, or are too many"), NULL);
}

static void end_awaited(struct call *call, const struct call_end *end)
{
    struct awaited *w = call->arg;
    struct call_end whole = *end;
    if (end->part) {
        add_part(call, w, buf_slice(end->message));
        return;
    }
    /* Messages one behind the other are one message: protobuf merges them. */
    if (call->m->stream && end->status == TRIVET_OK)
        whole.message = &w->parts;
    result__own(call, &whole, w->holding, w->result);
    waiter_tell(w->waiter);
}

static int begin_awaited(struct trivet_client *c, const struct trivet_request *q,
                         const struct trivet_call_options *o, struct awaited *w)
{
    int error = TRIVET_INVALID;
    bool endless = q->method == TRIVET_SNAPSHOT || q->method == TRIVET_OBSERVE;
    struct call *call = endless ? NULL : rpc__new(c, q, o, &error);
    if (call == NULL)
        return error;
    w->holding = holding__new();
    if (w->holding == NULL) {
        rpc__unref(call);
        return TRIVET_NO_MEMORY;
    }
    buf_init(&w->parts, c->o.response_bytes_max);
    call->end = end_awaited;
    call->arg = w;
    rpc__post(call);
    return 0;
}

int trivet_call(struct trivet_client *c, const struct trivet_request *q,
                const struct trivet_call_options *o, struct trivet_result *ret)
{
    struct waiter waiter;
    struct awaited w = {.waiter = &waiter, .result = ret};
    if (engine__is_mine(c)) {
        fail(ret, q, TRIVET_INVALID);
        ret->error = "a callback must not wait";
        return ret->status;
    }
    waiter_init(&waiter, 1);
    int rv = begin_awaited(c, q, o, &w);
    if (rv == 0) {
        waiter_wait(c, &waiter);
        buf_fini(&w.parts);
    } else {
        fail(ret, q, rv);
    }
    waiter_fini(&waiter);
    return ret->status;
}

/* --- many --- */

static uint32_t portion(struct trivet_client *c, const struct trivet_request *q, uint32_t count,
                        const struct trivet_call_options *o, struct trivet_result *results)
{
    struct waiter waiter;
    struct awaited *w = mem_try_alloc_zero(sizeof(*w) * count);
    uint32_t begun = 0, done = 0;
    if (w == NULL) {
        for (uint32_t i = 0; i < count; i++)
            fail(&results[i], &q[i], TRIVET_NO_MEMORY);
        return count;
    }
    waiter_init(&waiter, count);
    for (; done < count; done++) {
        w[done] = (struct awaited){.waiter = &waiter, .result = &results[done]};
        int rv = begin_awaited(c, &q[done], o, &w[done]);
        if (rv == TRIVET_BUSY && begun > 0)
            break; /* the rest when these have ended */
        if (rv == 0) {
            begun++;
            continue;
        }
        fail(&results[done], &q[done], rv);
        waiter_tell(&waiter);
    }
    for (uint32_t i = done; i < count; i++)
        waiter_tell(&waiter);
    waiter_wait(c, &waiter);
    for (uint32_t i = 0; i < done; i++)
        if (w[i].parts.data != NULL)
            buf_fini(&w[i].parts);
    mem_free(w);
    waiter_fini(&waiter);
    return done;
}

uint32_t trivet_batch(struct trivet_client *c, const struct trivet_request *q, uint32_t count,
                      const struct trivet_call_options *o, struct trivet_result *results)
{
    uint32_t failed = 0, done = 0;
    while (done < count && !engine__is_mine(c))
        done += portion(c, q + done, count - done, o, results + done);
    for (uint32_t i = done; i < count; i++)
        fail(&results[i], &q[i], TRIVET_INVALID);
    for (uint32_t i = 0; i < count; i++)
        failed += results[i].status != TRIVET_OK;
    return failed;
}

/* --- the shortest --- */

int trivet_get(struct trivet_client *c, struct trivet_bytes key, struct trivet_result *ret)
{
    struct trivet_request q = {.method = TRIVET_RANGE};
    q.u.range.key = key;
    return trivet_call(c, &q, NULL, ret);
}

int trivet_put(struct trivet_client *c, struct trivet_bytes key, struct trivet_bytes value,
               struct trivet_result *ret)
{
    struct trivet_request q = {.method = TRIVET_PUT};
    q.u.put.key = key;
    q.u.put.value = value;
    return trivet_call(c, &q, NULL, ret);
}

int trivet_delete(struct trivet_client *c, struct trivet_bytes key, struct trivet_result *ret)
{
    struct trivet_request q = {.method = TRIVET_DELETE};
    q.u.del.key = key;
    return trivet_call(c, &q, NULL, ret);
}
