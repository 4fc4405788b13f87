/* Keep-alives: the leases of a thread are dealt out to its streams, conns x streams of them, and on
 * each stream the answers come in the order of the questions. A stream that ends is opened again by
 * the next lease of its own that is due. */
#include "load.h"

#include "base/clock.h"
#include "base/mem.h"
#include "proto/wire.h"

struct lease_stream {
    struct worker *worker;
    struct grpc_channel *channel;
    struct grpc_call *call; /* NULL: not open */
    struct list waiting;    /* slots whose answer has not come, oldest first */
};

/* Those of another --seed are others. */
int64_t lease_id(const struct bench_options *o, uint64_t number)
{
    return (int64_t)((o->seed & 0x7fffffff) << 32 | (number + 1));
}

static struct slot *take_waiting(struct lease_stream *stream)
{
    struct slot *s = CONTAINER_OF(stream->waiting.next, struct slot, link);
    list_remove(&s->link);
    return s;
}

static void stream_message(struct grpc_call *call, struct slice msg)
{
    struct lease_stream *stream = grpc_call_user(call);
    struct wire_lease_response answer;
    if (list_is_empty(&stream->waiting))
        return; /* an answer without a question; the one it stole from says so */
    struct slot *s = take_waiting(stream);
    s->answered = wire_lease_response_decode(msg, &answer) == 0 &&
                  answer.id == lease_id(s->worker->run->o, s->key);
    if (s->answered && answer.ttl <= 0)
        slot_closed(s, GRPC_NOT_FOUND, SLICE_LITERAL("the lease is lost"));
    else
        slot_closed(s, GRPC_OK, slice_of("", 0));
}

static void stream_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct lease_stream *stream = grpc_call_user(call);
    stream->call = NULL;
    while (!list_is_empty(&stream->waiting))
        slot_closed(take_waiting(stream), code == GRPC_OK ? GRPC_UNAVAILABLE : code, text);
}

static const struct grpc_call_ops stream_ops = {.message = stream_message, .closed = stream_closed};

/* The deadline ends what a server never answers: after the load, and one call's patience. */
static void stream_open(struct lease_stream *stream)
{
    const struct run *run = stream->worker->run;
    struct grpc_start_options start = {
        .path = "/etcdserverpb.Lease/LeaseKeepAlive",
        .deadline_ns = run->end_ns + run->o->timeout_ms * 1000000,
        .wait_for_ready = true,
        .ops = &stream_ops,
        .user = stream,
    };
    stream->call = grpc_start(stream->channel, &start);
}

void lease_send(struct slot *s)
{
    uint8_t msg[2 * WIRE_VARINT_SIZE_MAX];
    int64_t id = lease_id(s->worker->run->o, s->key);
    if (s->stream->call == NULL)
        stream_open(s->stream);
    list_push_back(&s->stream->waiting, &s->link);
    (void)wire_lease_keepalive_request_put(msg, id);
    struct slice part = slice_of(msg, wire_lease_keepalive_request_size(id));
    (void)grpc_send(s->stream->call, &part,
                    1); /* a call that cannot send is closed, and says why */
}

void leases_open(struct worker *w)
{
    w->lease_streams_count = w->channels_count * w->run->o->streams;
    w->leases = mem_alloc_zero(w->lease_streams_count * sizeof(*w->leases));
    for (uint32_t i = 0; i < w->lease_streams_count; i++) {
        w->leases[i].worker = w;
        w->leases[i].channel = w->channels[i % w->channels_count];
        list_init(&w->leases[i].waiting);
    }
    for (uint32_t i = 0; i < w->slots_count; i++) {
        w->slots[i].kind = OP_KEEPALIVE;
        w->slots[i].key = w->part + (uint64_t)i * w->run->o->parts;
        w->slots[i].stream = &w->leases[i % w->lease_streams_count];
    }
}

void leases_close(struct worker *w)
{
    mem_free(w->leases);
}
