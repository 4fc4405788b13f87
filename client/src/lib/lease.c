/* Leases that are kept alive: one stream for all, to the leader when it is known. Each is asked for
 * three times in its TTL, and lost when the cluster says so or a TTL went by without an answer. */
#include "engine.h"

#include "base/assert.h"
#include "base/mem.h"
#include "proto/wire.h"

#include <stdio.h>

enum {
    AGAIN_MS = 100,
    ASK_AGAIN_MS = 500, /* what was not answered */
    SILENCE_MS = 1500,  /* then the stream goes elsewhere */
};

struct lease_stream {
    struct trivet_client *client;
    struct connection *connection;
    struct grpc_call *grpc;
    int endpoint;
    uint64_t token_number;
    uint64_t asked_ns; /* the oldest question without an answer; 0: none */
    bool left;
};

struct keeper {
    struct list link;
    int64_t id;
    uint64_t ttl_ns;
    trivet_lease_cb lost;
    void *arg;
    uint64_t ask_ns;
    uint64_t alive_until_ns;
};

static void remove_keeper(struct trivet_client *c, struct keeper *k)
{
    list_remove(&k->link);
    (void)u64map_remove(&c->leases.by_id, (uint64_t)k->id);
    c->leases.count--;
}

static void lose(struct trivet_client *c, struct keeper *k, int status, const char *error)
{
    remove_keeper(c, k);
    if (k->lost != NULL)
        k->lost(k->id, status, error, k->arg);
    mem_free(k);
}

/* --- the stream --- */

static void ask_all(struct trivet_client *c)
{
    uint64_t now_ns = engine__now_ns();
    LIST_EACH (it, &c->leases.keepers)
        CONTAINER_OF(it, struct keeper, link)->ask_ns = now_ns;
}

static void leave(struct trivet_client *c, bool avoid)
{
    struct lease_stream *s = c->leases.stream;
    if (s == NULL)
        return;
    c->leases.stream = NULL;
    c->leases.again_ns = engine__now_ns() + AGAIN_MS * NS_PER_MS;
    c->leases.avoid = avoid ? UINT64_C(1) << s->endpoint : 0;
    s->left = true;
    if (s->grpc != NULL)
        grpc_cancel(s->grpc);
    ask_all(c);
}

static void on_message(struct grpc_call *grpc, struct slice msg)
{
    struct lease_stream *s = grpc_call_user(grpc);
    struct trivet_client *c = s->client;
    struct wire_lease_response r;
    uint64_t now_ns = engine__now_ns();
    endpoint__heard(s->connection->endpoint);
    if (s->left)
        return;
    if (wire_lease_response_decode(msg, &r) != 0 || r.id == 0) {
        leave(c, true);
        return;
    }
    s->asked_ns = 0;
    c->leases.avoid = 0;
    struct keeper *k = u64map_get(&c->leases.by_id, (uint64_t)r.id);
    if (k == NULL)
        return;
    if (r.ttl <= 0) {
        lose(c, k, TRIVET_EXPIRED, tv_err_text(TV_LEASE_NOT_FOUND));
        return;
    }
    k->ttl_ns = (uint64_t)r.ttl * 1000 * NS_PER_MS;
    k->alive_until_ns = now_ns + k->ttl_ns;
    k->ask_ns = now_ns + k->ttl_ns / 3;
    c->metrics.lease_keepalives++;
}

static void on_closed(struct grpc_call *grpc, enum grpc_code code, struct slice text)
{
    struct lease_stream *s = grpc_call_user(grpc);
    struct trivet_client *c = s->client;
    enum balancer_outcome outcome =
        !s->left && retry_blames_member(code, text, true) ? BALANCER_FAILED : BALANCER_ABANDONED;
    s->grpc = NULL;
    connection__ended(s->connection, true);
    (void)balancer_ended(&c->balancer, s->endpoint, outcome, 0, engine__now_ns());
    if (!s->left) {
        if (code == GRPC_UNAUTHENTICATED)
            auth__refused(c, s->token_number);
        leave(c, code == GRPC_UNAVAILABLE);
    }
    mem_free(s);
}

static void open_stream(struct trivet_client *c, uint64_t now_ns)
{
    static const struct grpc_call_ops ops = {.message = on_message, .closed = on_closed};
    const char *token = NULL;
    int endpoint = balancer_pick_write(&c->balancer, c->leases.avoid, now_ns);
    struct connection *n =
        endpoint == BALANCER_NONE ? NULL : endpoint__connection(c->endpoints[endpoint]);
    if (!auth__token(c, &token) || n == NULL)
        return;
    struct lease_stream *s = mem_try_alloc(sizeof(*s));
    if (s == NULL)
        return;
    *s = (struct lease_stream){
        .client = c, .connection = n, .endpoint = endpoint, .token_number = c->auth.token_number};
    s->grpc = connection__stream(n, "/etcdserverpb.Lease/LeaseKeepAlive", token, &ops, s);
    if (s->grpc == NULL) {
        mem_free(s);
        return;
    }
    balancer_began(&c->balancer, endpoint);
    c->leases.stream = s;
}

static void ask(struct trivet_client *c, struct keeper *k, uint64_t now_ns)
{
    enum { REQUEST_BYTES_MAX = 16 };
    uint8_t bytes[REQUEST_BYTES_MAX];
    struct lease_stream *s = c->leases.stream;
    struct slice part = slice_of(bytes, wire_lease_keepalive_request_size(k->id));
    ASSERT(part.size <= sizeof(bytes));
    (void)wire_lease_keepalive_request_put(bytes, k->id);
    k->ask_ns = now_ns + ASK_AGAIN_MS * NS_PER_MS;
    if (s->asked_ns == 0)
        s->asked_ns = now_ns;
    int rv = grpc_send(s->grpc, &part, 1);
    if (rv != 0)
        leave(c, rv != TV_ENOMEM);
}

/* --- time --- */

void leases__tick(struct trivet_client *c, uint64_t now_ns)
{
    struct leases *l = &c->leases;
    if (l->count == 0)
        return;
    if (l->stream != NULL && l->stream->asked_ns != 0 &&
        now_ns > l->stream->asked_ns + SILENCE_MS * NS_PER_MS)
        leave(c, true);
    if (l->stream == NULL && now_ns >= l->again_ns)
        open_stream(c, now_ns);
    LIST_EACH_SAFE (it, after, &l->keepers) {
        struct keeper *k = CONTAINER_OF(it, struct keeper, link);
        if (l->stream != NULL && now_ns >= k->ask_ns)
            ask(c, k, now_ns);
        if (now_ns >= k->alive_until_ns) {
            lose(c, k, TRIVET_EXPIRED, "no answer for a whole TTL");
            return; /* the callback may have dropped another: the rest at the next tick */
        }
    }
}

void leases__leave(struct endpoint *e)
{
    struct trivet_client *c = e->client;
    if (c->leases.stream != NULL && c->leases.stream->endpoint == e->index)
        leave(c, true);
}

void leases__init(struct trivet_client *c)
{
    list_init(&c->leases.keepers);
    u64map_init(&c->leases.by_id);
}

void leases__fini(struct trivet_client *c)
{
    while (!list_is_empty(&c->leases.keepers))
        lose(c, CONTAINER_OF(c->leases.keepers.next, struct keeper, link), TRIVET_CLOSED,
             "the client is closed");
    leave(c, false);
    u64map_fini(&c->leases.by_id);
}

/* --- the caller's --- */

struct keeping {
    int64_t id;
    struct keeper *keeper;
    int status;
};

static void run_keep(struct trivet_client *c, void *arg)
{
    struct keeping *a = arg;
    struct leases *l = &c->leases;
    if (u64map_get(&l->by_id, (uint64_t)a->id) != NULL)
        a->status = TRIVET_INVALID;
    else if (l->count >= LEASES_MAX)
        a->status = TRIVET_BUSY;
    else if (u64map_try_reserve(&l->by_id) != 0)
        a->status = TRIVET_NO_MEMORY;
    if (a->status != 0)
        return;
    (void)u64map_put(&l->by_id, (uint64_t)a->id, a->keeper);
    list_push_back(&l->keepers, &a->keeper->link);
    l->count++;
    engine__hurry(c);
}

int trivet_lease_keep(struct trivet_client *c, int64_t lease_id, int64_t ttl, trivet_lease_cb lost,
                      void *arg)
{
    struct keeping a = {.id = lease_id};
    if (lease_id == 0 || ttl <= 0 || atomic_load(&c->closing))
        return TRIVET_INVALID;
    uint64_t now_ns = engine__now_ns();
    a.keeper = mem_try_alloc(sizeof(*a.keeper));
    if (a.keeper == NULL)
        return TRIVET_NO_MEMORY;
    *a.keeper = (struct keeper){.id = lease_id,
                                .ttl_ns = (uint64_t)ttl * 1000 * NS_PER_MS,
                                .lost = lost,
                                .arg = arg,
                                .ask_ns = now_ns};
    a.keeper->alive_until_ns = now_ns + a.keeper->ttl_ns;
    engine__sync(c, run_keep, &a);
    if (a.status != 0)
        mem_free(a.keeper);
    return a.status;
}

static void run_drop(struct trivet_client *c, void *arg)
{
    struct keeping *a = arg;
    struct keeper *k = u64map_get(&c->leases.by_id, (uint64_t)a->id);
    if (k == NULL)
        return;
    remove_keeper(c, k);
    mem_free(k);
}

void trivet_lease_drop(struct trivet_client *c, int64_t lease_id)
{
    struct keeping a = {.id = lease_id};
    if (lease_id != 0)
        engine__sync(c, run_drop, &a);
}
