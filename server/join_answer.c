/* A running member answers one that has no data: who the members are, linearizably if there is a
 * leader, and takes the wish to be replaced. */
#include "server/join.h"

#include "server/member.h"
#include "server/node.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/grpc.h"

/* One call, from its message to its answer; it may end before. */
struct asked {
    struct node *node;
    struct grpc_call *call; /* NULL: it ended */
};

/* What is not known to be committed may be all the same. */
static void encode_unsettled(struct node *n, struct buf *out)
{
    struct buf record;
    struct cluster c;
    buf_init(&record, SIZE_MAX);
    cluster_encode(&n->cluster, &record);
    int err = cluster_decode(buf_slice(&record), &c);
    ASSERT(err == 0);
    buf_fini(&record);
    core_note_begun(n->core, &c);
    join_answer_encode(JOIN_UNSETTLED, &c, 0, out);
    cluster_fini(&c);
}

static void reply(struct asked *a, enum join_state state, int err)
{
    struct buf out;
    if (a->call == NULL)
        return;
    buf_init(&out, SIZE_MAX);
    if (state == JOIN_UNSETTLED)
        encode_unsettled(a->node, &out);
    else
        join_answer_encode(state, state == JOIN_FRESH ? NULL : &a->node->cluster, err, &out);
    struct slice msg = buf_slice(&out);
    grpc_call_set_user(a->call, NULL);
    (void)grpc_reply(a->call, &msg, 1);
    buf_fini(&out);
}

static void on_answered(struct worker *w, struct request *req)
{
    struct asked *a = req->user;
    (void)w;
    bool replaced = req->kind == REQUEST_MEMBER_CHANGE;
    reply(a, replaced || req->err == 0 ? JOIN_SETTLED : JOIN_UNSETTLED, replaced ? req->err : 0);
    bref_unref(req->payload);
    bref_unref(req->reply);
    mem_free(req);
    mem_free(a);
}

static struct request *request_new(struct asked *a, enum request_kind kind)
{
    struct request *req = mem_alloc_zero(sizeof(*req));
    list_init(&req->link);
    req->kind = kind;
    req->answered = on_answered;
    req->user = a;
    return req;
}

static void submit_replacement(struct asked *a, const struct join_ask *ask)
{
    struct node *n = a->node;
    struct request *req = request_new(a, REQUEST_MEMBER_CHANGE);
    struct member_change change = {.kind = MEMBER_REPLACE,
                                   .id = ask->new_id,
                                   .replaced_id = ask->replaced_id,
                                   .peer_urls_count = ask->peer_urls_count};
    memcpy(change.peer_urls, ask->peer_urls, sizeof(change.peer_urls));
    req->id = change.request_id = core_next_request_id(n->core);
    req->target = change.id;
    struct buf data;
    buf_init(&data, SIZE_MAX);
    member_change_encode(&change, &data);
    req->payload_size = (uint32_t)data.size;
    req->payload = bref_new(data.size);
    memcpy(req->payload->data, data.data, data.size);
    buf_fini(&data);
    log_warn("a member has lost its data and asks to be replaced",
             LOG_HEX("member-id", change.replaced_id), LOG_HEX("new-member-id", change.id));
    core_submit(n->core, req);
}

/* One that joins has no log either, but the cluster is an old one; and so it may be when this
 * member has heard nothing of the others for long since its first start. */
static bool is_fresh(const struct node *n)
{
    return core_log_is_empty(n->core) && n->first_started_ms != 0 &&
           clock_mono_ns() / 1000000 < n->first_started_ms + JOIN_FRESH_MS;
}

static uint64_t leader_of(const struct node *n)
{
    struct core_status s;
    core_status(n->core, &s);
    return s.leader;
}

static void on_message(struct grpc_call *call, struct slice msg)
{
    struct node *n = grpc_call_method(call)->arg;
    struct join_ask ask;
    if (join_ask_decode(msg, &ask) != 0 || (ask.replaced_id != 0 && ask.new_id == 0)) {
        grpc_finish(call, GRPC_INVALID_ARGUMENT, "malformed message");
        return;
    }
    if (ask.version != JOIN_VERSION) {
        grpc_finish(call, GRPC_FAILED_PRECONDITION,
                    "the peer speaks another version of the protocol");
        return;
    }
    struct asked *a = mem_alloc_zero(sizeof(*a));
    a->node = n;
    a->call = call;
    grpc_call_set_user(call, a);
    if (is_fresh(n)) {
        reply(a, JOIN_FRESH, 0);
        mem_free(a);
    } else if (leader_of(n) == 0) {
        reply(a, JOIN_UNSETTLED, 0); /* asked again soon */
        mem_free(a);
    } else if (ask.replaced_id != 0) {
        submit_replacement(a, &ask);
    } else {
        core_submit(n->core, request_new(a, REQUEST_READ_BARRIER));
    }
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct asked *a = grpc_call_user(call);
    (void)code;
    (void)text;
    if (a != NULL)
        a->call = NULL;
}

static const struct grpc_call_ops ops = {.message = on_message, .closed = on_closed};

struct grpc_method join_method(struct node *n)
{
    return (struct grpc_method){.path = JOIN_PATH, .ops = &ops, .arg = n};
}
