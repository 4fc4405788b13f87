/* Calls that a member makes to another: the transport's functions for clients (proto/grpc.h), as
 * far as the sender of snapshots uses them. What the caller holds of a call is a struct grpc_call
 * of its own; the other end, and the way, are those of a call of any client. */
#include "call_internal.h"

#include "base/mem.h"
#include "server/snapshot.h"

struct grpc_channel {
    struct member *from;
    uint32_t to;
    struct list callers;
};

struct caller {
    struct list link; /* of the channel's */
    struct grpc_call held;
    struct member *member;
    struct grpc_call *wire; /* NULL: it has ended */
    uint64_t begun_us;
    const struct grpc_call_ops *ops;
};

void grpc_channel_options_init(struct grpc_channel_options *o)
{
    *o = (struct grpc_channel_options){0};
}

struct grpc_channel *grpc_channel_new(struct grpc_loop *gl, const struct grpc_channel_options *o)
{
    (void)gl;
    struct grpc_channel *ch = mem_alloc_zero(sizeof(*ch));
    ch->from = sim_now->current;
    ch->to = member_at(o->addresses[0])->number;
    list_init(&ch->callers);
    return ch;
}

/* --- its end --- */

/* Who is said to make no progress had the time to make some. */
static void check_patience(const struct caller *c, const char *text)
{
    const struct member *server = c->wire->member;
    uint64_t waited_ms = (c->member->sim->now_us - c->begun_us) / 1000;
    if (strcmp(text, "no progress") == 0 && waited_ms < SNAPSHOT_STALL_MS / 4 &&
        server->jumped_at_us == 0)
        sim_fail("member %u gives up a snapshot after %llu ms", server->number,
                 (unsigned long long)waited_ms);
}

static void close_caller(struct caller *c, enum grpc_code code, const char *text)
{
    check_patience(c, text);
    list_remove(&c->link);
    call_drop(c->wire);
    c->wire = NULL;
    sim_say(c->member->sim, "member %u: a call has ended: %d %s", c->member->number, (int)code,
            text);
    c->ops->closed(&c->held, code, slice_of_string(text));
    mem_free(c);
}

void grpc_channel_close(struct grpc_channel *ch)
{
    LIST_EACH_SAFE (it, after, &ch->callers)
        close_caller(CONTAINER_OF(it, struct caller, link), GRPC_CANCELLED, "");
    mem_free(ch);
}

/* --- what comes back --- */

static struct {
    struct caller *caller;
    struct slice msg;
    enum grpc_code code;
    const char *text;
} in_hand;

static void take_reply(struct member *m)
{
    (void)m;
    if (in_hand.caller->ops->message != NULL)
        in_hand.caller->ops->message(&in_hand.caller->held, in_hand.msg);
}

static void take_end(struct member *m)
{
    (void)m;
    close_caller(in_hand.caller, in_hand.code, in_hand.text);
}

static void on_reply(void *ctx, struct slice msg)
{
    struct caller *c = ctx;
    in_hand.caller = c;
    in_hand.msg = msg;
    (void)member_guard(c->member, take_reply);
}

static void on_ended(void *ctx, enum grpc_code code, const char *text)
{
    struct caller *c = ctx;
    in_hand.caller = c;
    in_hand.code = code;
    in_hand.text = text;
    (void)member_guard(c->member, take_end);
}

static const struct call_client caller_client = {.reply = on_reply, .ended = on_ended};

/* --- the caller's side --- */

struct grpc_call *grpc_start(struct grpc_channel *ch, const struct grpc_start_options *o)
{
    struct caller *c = mem_alloc_zero(sizeof(*c));
    c->member = ch->from;
    c->begun_us = ch->from->sim->now_us;
    c->ops = o->ops;
    c->held.end = c;
    c->held.user = o->user;
    c->wire = call__start(ch->from->sim, ch->from, ch->to, o->path, &caller_client, c);
    list_push_back(&ch->callers, &c->link);
    return &c->held;
}

int peer_call__send(struct grpc_call *call, const struct slice *parts, uint32_t parts_count)
{
    struct caller *c = call->end;
    ASSERT(parts_count == 1);
    if (member_operation(c->member))
        call_send(c->wire, parts[0]);
    return 0;
}

void grpc_half_close(struct grpc_call *call)
{
    struct caller *c = call->end;
    if (member_operation(c->member))
        call_half_close(c->wire);
}

/* The end comes from the loop. */
void grpc_cancel(struct grpc_call *call)
{
    call_cancel(call->end->wire);
}
