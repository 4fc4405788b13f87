/* v3electionpb.Election/Observe: a stream of what the leaders under a name proclaim.
 *
 *   ASKING -> FOLLOWING (there is a leader: its key is listened to)
 *          -> EMPTY (nobody stands: the name is listened to) -> FOLLOWING
 *   FOLLOWING -> ASKING (the key is deleted, or the client does not keep up)
 *
 * Messages are made while the events come, in their order, and sent when the round is over. A
 * client with more than OBSERVE_QUEUED_BYTES_MAX unread is sent nothing; when it has read, it is
 * told who leads then: what it must hear is the newest value, not every one. */
#include "server/services.h"

#include "server/contest.h"
#include "server/node.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

enum { OBSERVE_QUEUED_BYTES_MAX = 1 << 20 };

enum observe_state { OBSERVE_ASKING, OBSERVE_EMPTY, OBSERVE_FOLLOWING, OBSERVE_STALLED };

struct observe {
    struct contest contest;
    enum observe_state state;
    bool gone;           /* FOLLOWING: the key was deleted */
    struct buf messages; /* each behind its size in 4 bytes */
};

static struct observe *observe_of(struct contest *k)
{
    return CONTAINER_OF(k, struct observe, contest);
}

static void observe_free(struct contest *k)
{
    struct observe *o = observe_of(k);
    buf_fini(&o->messages);
    mem_free(o);
}

static void queue_message(struct observe *o, int64_t rev, struct slice kv)
{
    struct buf *b = &o->contest.inner.worker->scratch;
    buf_clear(b);
    contest_put_leader(&o->contest.inner, rev, kv, b);
    uint32_t size = (uint32_t)b->size;
    (void)buf_append(&o->messages, &size, sizeof(size));
    (void)buf_append(&o->messages, b->data, b->size);
}

static void send_queued(struct observe *o)
{
    const uint8_t *p = o->messages.data;
    size_t left = o->messages.size;
    while (left > 0) {
        uint32_t size;
        memcpy(&size, p, sizeof(size));
        (void)grpc_send(o->contest.inner.call, &(struct slice){p + sizeof(size), size}, 1);
        p += sizeof(size) + size;
        left -= sizeof(size) + size;
    }
    buf_clear(&o->messages);
}

static void follow(struct observe *o, struct slice key)
{
    struct contest *k = &o->contest;
    o->state = OBSERVE_FOLLOWING;
    o->gone = false;
    buf_clear(&k->awaited);
    (void)buf_append(&k->awaited, key.data, key.size);
}

/* In a section. While the state is EMPTY the whole name is listened to, and so until this round is
 * over: the key that was first is what counts. */
static bool on_event(struct watch_listener *l, const struct mvcc_version *v)
{
    struct observe *o = observe_of(CONTAINER_OF(l, struct contest, listener));
    bool deleted = mvcc_version_is_tombstone(v);
    if (o->gone || (o->state == OBSERVE_EMPTY && deleted))
        return o->gone;
    if (o->state == OBSERVE_EMPTY)
        follow(o, mvcc_version_key(v));
    else if (!slice_equal(buf_slice(&o->contest.awaited), mvcc_version_key(v)))
        return true;
    if (deleted)
        o->gone = true;
    else
        queue_message(o, mvcc_version_mod_revision(v), mvcc_version_kv(v));
    return true;
}

static void ask(struct observe *o);

static void listen_to_key(struct observe *o)
{
    struct contest *k = &o->contest;
    k->listener.in.key = buf_slice(&k->awaited);
    k->listener.in.range_end = SLICE_EMPTY;
    watch_hub_listen(k->inner.worker->hub, &k->listener);
}

static void on_woken(struct watch_listener *l, bool lost)
{
    struct observe *o = observe_of(CONTAINER_OF(l, struct contest, listener));
    struct grpc_call *call = o->contest.inner.call;
    send_queued(o);
    watch_hub_unlisten(o->contest.inner.worker->hub, l);
    if (grpc_call_queued_bytes(call) > OBSERVE_QUEUED_BYTES_MAX)
        o->state = OBSERVE_STALLED; /* writable() goes on */
    else if (lost || o->gone)
        ask(o);
    else
        listen_to_key(o);
}

static void on_barrier(struct inner *in, int err, struct slice reply)
{
    struct contest *k = CONTAINER_OF(in, struct contest, inner);
    struct observe *o = observe_of(k);
    struct worker *w = in->worker;
    (void)reply;
    if (err != 0) {
        contest_fail(k, err);
        return;
    }
    int64_t rev = contest_enter(k);
    err = contest_permit(k);
    const struct mvcc_version *v = err == 0 ? contest_first(k, rev) : NULL;
    if (v != NULL) {
        follow(o, mvcc_version_key(v));
        queue_message(o, rev, mvcc_version_kv(v));
    }
    epoch_leave(w->reader);
    if (err != 0) {
        grpc_finish(in->call, GRPC_OK, NULL); /* etcd keeps the reason to itself */
        contest_free(k);
        return;
    }
    send_queued(o);
    if (v != NULL) {
        listen_to_key(o);
        return;
    }
    o->state = OBSERVE_EMPTY;
    o->gone = false;
    k->listener.in.key = buf_slice(&k->prefix);
    k->listener.in.range_end = buf_slice(&k->prefix_end);
    watch_hub_listen(w->hub, &k->listener);
}

static void ask(struct observe *o)
{
    o->state = OBSERVE_ASKING;
    inner_barrier(&o->contest.inner, on_barrier);
}

/* LeaderRequest: 1 name. */
static void on_observe(struct grpc_call *call, struct slice msg)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    struct slice name = SLICE_EMPTY;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1)
        if (f.number == 1 && f.type == WIRE_BYTES)
            name = f.bytes;
    if (rv != 0) {
        service_malformed(call);
        return;
    }
    struct observe *o = mem_alloc_zero(sizeof(*o));
    struct contest *k = &o->contest;
    k->free = observe_free;
    contest_init(k, call);
    buf_init(&o->messages, SIZE_MAX);
    k->listener.event = on_event;
    k->listener.woken = on_woken;
    k->listener.stopped = contest_stopped;
    contest_name(k, name);
    ask(o);
}

static void on_writable(struct grpc_call *call)
{
    struct call_tie *tie = grpc_call_user(call);
    if (tie == NULL)
        return;
    struct inner *in = CONTAINER_OF(tie, struct inner, tie);
    struct observe *o = observe_of(CONTAINER_OF(in, struct contest, inner));
    if (o->state == OBSERVE_STALLED)
        ask(o);
}

void election_observe_open(struct grpc_call *call, void *arg)
{
    (void)arg;
    (void)service_refused(call);
}

const struct grpc_call_ops election_observe_ops = {
    .message = on_observe, .writable = on_writable, .closed = worker_call_closed};
