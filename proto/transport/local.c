/* Calls without a stream: see proto/local.h. */
#include "proto/local.h"

#include "internal.h"
#include "metadata.h"

#include "base/assert.h"
#include "base/mem.h"

enum { TURN_BYTES = 256 << 10 }; /* of one call in a round of the loop */

/* Two sides that end in either order: the call, and the caller. */
struct grpc_local {
    struct list link; /* of gl->locals, while there may be something to tell */
    struct grpc_loop *gl;
    struct grpc_call *call; /* NULL: it is over */
    const struct grpc_local_ops *ops;
    void *user;
    bool paused;
    bool cancelled; /* by the caller, who is not told anything any more */
    bool telling;   /* on the stack */
    struct buf msg; /* of which `need` are wanted; 0: its prefix is to come */
    size_t need;
};

void local__ready(struct grpc_local *l)
{
    if (!list_is_linked(&l->link))
        list_push_back(&l->gl->locals, &l->link);
}

void local__call_gone(struct grpc_local *l)
{
    l->call->local = NULL;
    l->call = NULL;
    local__ready(l);
}

static void local_free(struct grpc_local *l)
{
    list_remove(&l->link);
    buf_fini(&l->msg);
    mem_free(l);
}

/* --- from the method --- */

/* True when a message is whole. */
static bool take_message(struct grpc_local *l)
{
    for (;;) {
        size_t want = l->need > 0 ? l->need : GRPC_PREFIX_BYTES;
        uint8_t *p = buf_reserve(&l->msg, want - l->msg.size);
        size_t got = call__take(l->call, p, want - l->msg.size);
        if (l->call == NULL)
            return false;
        l->msg.size += got;
        if (l->msg.size < want)
            return false;
        if (l->need == want)
            return true;
        const uint8_t *b = l->msg.data;
        l->need = GRPC_PREFIX_BYTES +
                  ((size_t)b[1] << 24 | (size_t)b[2] << 16 | (size_t)b[3] << 8 | b[4]);
        if (l->need == GRPC_PREFIX_BYTES)
            return true;
    }
}

static void clear_message(struct grpc_local *l)
{
    buf_clear(&l->msg);
    if (l->msg.capacity > POOL_BUF_BYTES_MAX)
        buf_fini(&l->msg);
    l->need = 0;
}

static void tell_closed(struct grpc_local *l)
{
    struct grpc_call *call = l->call;
    if (l->cancelled)
        return;
    if (call == NULL) {
        l->ops->closed(l->user, GRPC_CANCELLED, SLICE_LITERAL("context canceled"));
        return;
    }
    call__hold(call);
    call->status_sent = true;
    call->local = NULL;
    l->call = NULL;
    call__stream_closed(call, NGHTTP2_NO_ERROR);
    l->ops->closed(l->user, call->code, buf_slice(&call->text));
    call__release(call);
}

static void tell(struct grpc_local *l)
{
    size_t told_bytes = 0;
    l->telling = true;
    while (l->call != NULL && !l->paused && told_bytes < TURN_BYTES && take_message(l)) {
        told_bytes += l->need;
        l->ops->message(l->user,
                        slice_of(l->msg.data + GRPC_PREFIX_BYTES, l->msg.size - GRPC_PREFIX_BYTES));
        clear_message(l);
    }
    l->telling = false;
    bool over = l->call == NULL || (l->call->first == NULL && l->call->trailers_submitted);
    if (over && (l->call == NULL || !l->paused)) {
        tell_closed(l);
        local_free(l);
    } else if (told_bytes >= TURN_BYTES) {
        local__ready(l);
    }
}

void local__tell_all(struct grpc_loop *gl)
{
    struct list now;
    list_init(&now);
    list_splice_back(&now, &gl->locals);
    while (!list_is_empty(&now)) {
        struct grpc_local *l = CONTAINER_OF(now.next, struct grpc_local, link);
        list_remove(&l->link);
        tell(l);
    }
}

/* --- from the caller --- */

struct grpc_local *grpc_local_start(struct grpc_conn *conn, const struct grpc_local_options *o)
{
    struct grpc_local *l = mem_alloc_zero(sizeof(*l));
    struct grpc_call *call = call__new(conn->gl);
    if (call == NULL)
        tv_fatal("out of memory: a call");
    l->gl = conn->gl;
    l->call = call;
    l->ops = o->ops;
    l->user = o->user;
    list_init(&l->link);
    buf_init(&l->msg, SIZE_MAX);
    call->local = l;
    for (uint32_t i = 0; i < o->metadata_count; i++)
        (void)metadata_add(&call->metadata, o->metadata[i].name, o->metadata[i].value);
    call->method = o->method;
    call->ops = o->method->ops;
    call->headers_seen = true;
    call__attach(call, conn);
    call__hold(call);
    server__open(call, o->timeout_ns > 0, o->timeout_ns);
    call__release(call);
    return l;
}

void grpc_local_send(struct grpc_local *l, uint8_t *framed, size_t size)
{
    uint64_t msg_size = size - GRPC_PREFIX_BYTES;
    ASSERT(size >= GRPC_PREFIX_BYTES && msg_size <= UINT32_MAX);
    framed[0] = 0;
    for (int i = 0; i < 4; i++)
        framed[1 + i] = (uint8_t)(msg_size >> (24 - 8 * i));
    if (l->call != NULL)
        call__receive(l->call, slice_of(framed, size), false);
}

void grpc_local_half_close(struct grpc_local *l)
{
    if (l->call != NULL)
        call__peer_closed(l->call);
}

size_t grpc_local_backlog(const struct grpc_local *l)
{
    return l->call == NULL ? 0 : l->call->recv.size;
}

void grpc_local_pause(struct grpc_local *l)
{
    l->paused = true;
}

void grpc_local_resume(struct grpc_local *l)
{
    if (!l->paused)
        return;
    l->paused = false;
    local__ready(l);
}

void grpc_local_cancel(struct grpc_local *l)
{
    struct grpc_call *call = l->call;
    l->cancelled = true;
    if (call != NULL) {
        call->local = NULL;
        l->call = NULL;
        call__stream_closed(call, NGHTTP2_CANCEL);
    }
    if (!l->telling)
        local_free(l);
}
