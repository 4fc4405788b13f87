#include "call_internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "net.h"

#include <stdio.h>

enum {
    LATENCY_US_MEAN = 120,
    NOTICE_US_MEAN = 400000,   /* until a broken connection is noticed */
    CONGESTED_BYTES = 2 << 20, /* said to be queued for a client that does not read */
};

static struct rng *rng_of(const struct grpc_call *c)
{
    return &c->sim->members_rng;
}

static void unref(struct grpc_call *c)
{
    if (--c->refs == 0)
        mem_free(c);
}

static struct parcel *parcel_new(struct grpc_call *c, enum parcel_kind kind, size_t size)
{
    struct parcel *p = mem_alloc_zero(sizeof(*p) + size);
    p->call = c;
    p->kind = kind;
    p->size = (uint32_t)size;
    c->refs++;
    return p;
}

static void parcel_free(struct parcel *p)
{
    unref(p->call);
    mem_free(p);
}

void call_event_free(const struct event *e)
{
    parcel_free(e->ptr);
}

/* Between members one parcel follows the other at the link's pace. */
static uint64_t arrival(const struct grpc_call *c, const struct parcel *p, uint64_t last_us,
                        uint64_t delay_us)
{
    uint64_t at = c->sim->now_us + delay_us;
    if (c->caller != NULL && at < last_us + p->size * c->sim->shape.piece_ns_per_byte / 1000)
        at = last_us + p->size * c->sim->shape.piece_ns_per_byte / 1000;
    return at > last_us ? at : last_us + 1;
}

static void ship(struct grpc_call *c, struct parcel *p, bool to_server, uint64_t delay_us)
{
    uint64_t *last = to_server ? &c->to_server_us : &c->to_client_us;
    uint64_t at = arrival(c, p, *last, delay_us);
    if (!to_server && at < c->congested_until_us)
        at = c->congested_until_us;
    *last = at;
    struct event e = {.at_us = at, .kind = EVENT_TO_SERVER, .who = c->member->number, .ptr = p};
    if (!to_server) {
        e.kind = c->caller != NULL ? EVENT_TO_CALLER : EVENT_TO_CLIENT;
        e.who = c->caller != NULL ? c->caller->number : c->member->number;
    }
    events_push(&c->sim->events, &e);
}

/* What a side learns by itself does not queue behind what is on its way. */
static void notice(struct grpc_call *c, struct parcel *p, bool at_server, uint64_t delay_us)
{
    uint32_t caller = c->caller != NULL ? c->caller->number : c->member->number;
    events_push(&c->sim->events, &(struct event){.at_us = c->sim->now_us + delay_us,
                                                 .kind = at_server           ? EVENT_TO_SERVER
                                                         : c->caller != NULL ? EVENT_TO_CALLER
                                                                             : EVENT_TO_CLIENT,
                                                 .who = at_server ? c->member->number : caller,
                                                 .ptr = p});
}

static uint64_t latency(const struct grpc_call *c)
{
    return 20 + sim_exponential(rng_of(c), LATENCY_US_MEAN);
}

/* --- the client's side --- */

struct grpc_call *call__start(struct sim *s, struct member *caller, uint32_t member,
                              const char *path, const struct call_client *client, void *ctx)
{
    struct grpc_call *c = mem_alloc_zero(sizeof(*c));
    *c = (struct grpc_call){.sim = s,
                            .member = &s->members[member],
                            .refs = 1,
                            .caller = caller,
                            .client = client,
                            .ctx = ctx,
                            .at_client = true,
                            .path = path};
    list_init(&c->link);
    ship(c, parcel_new(c, PARCEL_OPEN, 0), true, latency(c));
    return c;
}

struct grpc_call *call_start(struct sim *s, uint32_t member, const char *path, bool want_leader,
                             const struct call_client *client, void *ctx)
{
    struct grpc_call *c = call__start(s, NULL, member, path, client, ctx);
    c->want_leader = want_leader;
    return c;
}

/* Between members damage is noticed by what is inside, or not at all. */
static void damage(struct grpc_call *c, struct parcel *p)
{
    if (c->caller == NULL || p->size == 0 || !fault_falls(c->sim, FAULT_PIECE))
        return;
    struct rng *r = &c->sim->faults.plans[FAULT_PIECE].rng;
    p->bytes[rng_below(r, p->size)] ^= (uint8_t)(1u << rng_below(r, 8));
}

void call_send(struct grpc_call *c, struct slice msg)
{
    struct parcel *p = parcel_new(c, PARCEL_MESSAGE, msg.size);
    if (msg.size > 0)
        memcpy(p->bytes, msg.data, msg.size);
    damage(c, p);
    ship(c, p, true, latency(c));
}

void call_half_close(struct grpc_call *c)
{
    ship(c, parcel_new(c, PARCEL_HALF_CLOSE, 0), true, latency(c));
}

void call_drop(struct grpc_call *c)
{
    if (c->at_client)
        ship(c, parcel_new(c, PARCEL_END, 0), true, latency(c));
    c->at_client = false;
    unref(c);
}

void call_cancel(struct grpc_call *c)
{
    ship(c, parcel_new(c, PARCEL_END, 0), true, latency(c));
    struct parcel *p = parcel_new(c, PARCEL_BROKEN, 0);
    p->code = GRPC_CANCELLED;
    notice(c, p, false, 1);
}

void call_congest(struct grpc_call *c, uint64_t length_us)
{
    c->congested_until_us = c->sim->now_us + length_us;
}

static void tell_broken(struct grpc_call *c)
{
    struct parcel *p = parcel_new(c, PARCEL_BROKEN, 0);
    p->code = GRPC_UNAVAILABLE;
    (void)snprintf(p->text, sizeof(p->text), "connection broken");
    notice(c, p, false, sim_exponential(rng_of(c), NOTICE_US_MEAN));
}

/* A connection between members does not outlive a cut: each side notices in its own time. */
static bool passes(struct grpc_call *c, const struct parcel *p, bool to_server)
{
    if (c->caller == NULL || p->kind == PARCEL_BROKEN || p->kind == PARCEL_CLOSED)
        return true;
    uint32_t caller = c->caller->number, server = c->member->number;
    if (!c->broken &&
        !net_passes(c->sim, to_server ? caller : server, to_server ? server : caller)) {
        c->broken = true;
        notice(c, parcel_new(c, PARCEL_BROKEN, 0), true,
               sim_exponential(rng_of(c), NOTICE_US_MEAN));
        tell_broken(c);
    }
    return !c->broken;
}

void call_to_client(struct sim *s, const struct event *e)
{
    struct parcel *p = e->ptr;
    struct grpc_call *c = p->call;
    (void)s;
    if (c->at_client && passes(c, p, false)) {
        if (p->kind == PARCEL_MESSAGE) {
            c->client->reply(c->ctx, slice_of(p->bytes, p->size));
        } else if (p->kind == PARCEL_END || p->kind == PARCEL_BROKEN) {
            c->at_client = false;
            c->client->ended(c->ctx, p->code, p->text);
        }
    }
    parcel_free(p);
}

/* --- the server's side --- */

static void close_at_server(struct grpc_call *c, enum grpc_code code)
{
    if (!c->at_server)
        return;
    c->at_server = false;
    list_remove(&c->link);
    c->ops->closed(c, code, SLICE_EMPTY);
    unref(c);
}

/* As node.c: clients are listened to from the moment on at which the member belongs to the cluster
 * and, when it took another's place, votes. */
static bool serves_clients(struct member *m)
{
    const struct cluster *c = &m->node.cluster;
    const struct cluster_member *self = cluster_find(c, m->id);
    bool may = self != NULL && raft_membership_has(&c->raft, m->id) &&
               !(self->learner && self->replacement);
    m->node.serving = m->node.serving || may;
    return m->node.serving;
}

static bool listens(const struct grpc_call *c)
{
    struct member *m = c->member;
    return m->up && !m->dying && m->node.core != NULL &&
           (c->caller != NULL || strcmp(c->path, m->join_method.path) == 0 || serves_clients(m));
}

static void open_at_server(struct grpc_call *c)
{
    struct member *m = c->member;
    if (!listens(c)) {
        struct parcel *p = parcel_new(c, PARCEL_END, 0);
        p->code = GRPC_UNAVAILABLE;
        (void)snprintf(p->text, sizeof(p->text), "connection refused");
        ship(c, p, false, latency(c));
        return;
    }
    for (uint32_t i = 0; i < m->methods_count; i++)
        if (strcmp(m->worker.methods[i].path, c->path) == 0)
            c->method = &m->worker.methods[i];
    if (c->caller != NULL)
        c->method = &m->peer_method;
    else if (strcmp(c->path, m->join_method.path) == 0)
        c->method = &m->join_method;
    ASSERT(c->method != NULL);
    c->ops = c->method->ops;
    c->life = m->life;
    c->at_server = true;
    c->refs++;
    list_push_back(&m->calls, &c->link);
    if (c->method->open != NULL)
        c->method->open(c, c->method->arg);
}

static struct parcel *parcel_in_hand;

static void take_parcel(struct member *m)
{
    struct parcel *p = parcel_in_hand;
    struct grpc_call *c = p->call;
    (void)m;
    switch (p->kind) {
    case PARCEL_OPEN:
        open_at_server(c);
        break;
    case PARCEL_MESSAGE:
        if (c->at_server && !c->finished)
            c->ops->message(c, slice_of(p->bytes, p->size));
        break;
    case PARCEL_HALF_CLOSE:
        if (c->at_server && !c->finished && c->ops->half_closed != NULL)
            c->ops->half_closed(c);
        break;
    case PARCEL_END:
    case PARCEL_BROKEN:
        close_at_server(c, GRPC_CANCELLED);
        break;
    case PARCEL_CLOSED:
        close_at_server(c, GRPC_OK);
        break;
    case PARCEL_WRITABLE:
        c->told_full = false;
        if (c->sim->now_us < c->congested_until_us)
            (void)grpc_call_queued_bytes(c); /* it stopped again */
        else if (c->at_server && !c->finished && c->ops->writable != NULL)
            c->ops->writable(c);
        break;
    }
}

void call_to_server(struct sim *s, const struct event *e)
{
    struct parcel *p = e->ptr;
    (void)s;
    parcel_in_hand = p;
    if (!passes(p->call, p, true))
        (void)0; /* lost on the way */
    else if (p->kind == PARCEL_OPEN && !p->call->member->up)
        open_at_server(p->call); /* refused */
    else
        (void)member_guard(p->call->member, take_parcel);
    parcel_free(p);
}

void calls_end(struct member *m)
{
    while (!list_is_empty(&m->calls)) {
        struct grpc_call *c = CONTAINER_OF(m->calls.next, struct grpc_call, link);
        if (c->at_client)
            tell_broken(c);
        close_at_server(c, GRPC_CANCELLED);
    }
}

void calls_break(struct member *m, uint32_t percent)
{
    LIST_EACH_SAFE (it, after, &m->calls) {
        struct grpc_call *c = CONTAINER_OF(it, struct grpc_call, link);
        if (rng_below(rng_of(c), 100) >= percent)
            continue;
        if (c->at_client)
            tell_broken(c);
        close_at_server(c, GRPC_CANCELLED);
    }
}

/* --- proto/grpc.h, as far as the services use it --- */

void *grpc_call_user(const struct grpc_call *c)
{
    return c->user;
}

void grpc_call_set_user(struct grpc_call *c, void *user)
{
    c->user = user;
}

const struct grpc_method *grpc_call_method(const struct grpc_call *c)
{
    return c->method;
}

struct slice grpc_call_metadata(const struct grpc_call *c, const char *name)
{
    return c->want_leader && strcmp(name, "hasleader") == 0 ? SLICE_LITERAL("true") : SLICE_EMPTY;
}

struct slice grpc_call_metadata_bytes(const struct grpc_call *c)
{
    (void)c;
    return SLICE_EMPTY;
}

/* A message between members is on its way at once. */
size_t grpc_call_queued_bytes(const struct grpc_call *c)
{
    if (c->end != NULL)
        return 0;
    if (c->sim->now_us >= c->congested_until_us)
        return 0;
    if (!c->told_full) {
        struct grpc_call *mine = (struct grpc_call *)c;
        mine->told_full = true;
        events_push(&c->sim->events, &(struct event){.at_us = c->congested_until_us,
                                                     .kind = EVENT_TO_SERVER,
                                                     .who = c->member->number,
                                                     .ptr = parcel_new(mine, PARCEL_WRITABLE, 0)});
    }
    return CONGESTED_BYTES;
}

struct grpc_conn *grpc_call_conn(const struct grpc_call *c)
{
    (void)c;
    return NULL;
}

/* A client is its own connection. */
/* Nothing is traced. */
struct trace *grpc_call_trace(const struct grpc_call *c)
{
    (void)c;
    return NULL;
}

void grpc_call_set_trace(struct grpc_call *c, struct trace *trace)
{
    (void)c;
    ASSERT(trace == NULL);
}

uint64_t grpc_loop_now_ns(struct grpc_loop *gl)
{
    (void)gl;
    return clock_mono_ns();
}

uint64_t grpc_call_started_ns(const struct grpc_call *c)
{
    (void)c;
    return 0;
}

bool grpc_call_uncount(struct grpc_call *c)
{
    (void)c;
    return false;
}

uint64_t grpc_call_conn_id(const struct grpc_call *c)
{
    return (uint64_t)(uintptr_t)c->ctx;
}

void grpc_charge_take(struct grpc_charge *ret, struct grpc_call *c, size_t bytes)
{
    (void)c;
    *ret = (struct grpc_charge){.bytes = bytes};
}

void grpc_charge_return(struct grpc_charge *charge)
{
    (void)charge;
}

const struct grpc_port *grpc_conn_port(const struct grpc_conn *conn)
{
    (void)conn;
    return NULL;
}

const char *grpc_conn_peer_cn(const struct grpc_conn *conn)
{
    (void)conn;
    return NULL;
}

const char *grpc_conn_peer(const struct grpc_conn *conn)
{
    (void)conn;
    return "simulated";
}

/* No connections are counted. */
void *grpc_conn_user(const struct grpc_conn *conn)
{
    (void)conn;
    return NULL;
}

void grpc_conn_set_user(struct grpc_conn *conn, void *user)
{
    (void)conn;
    (void)user;
}

const struct grpc_conn_bytes *grpc_conn_bytes(const struct grpc_conn *conn)
{
    static const struct grpc_conn_bytes none;
    (void)conn;
    return &none;
}

void grpc_call_pause_reading(struct grpc_call *c)
{
    (void)c; /* no simulated client has so much under way */
}

void grpc_call_resume_reading(struct grpc_call *c)
{
    (void)c;
}

static int send_message(struct grpc_call *c, const struct slice *parts, uint32_t parts_count)
{
    if (c->end != NULL)
        return peer_call__send(c, parts, parts_count);
    if (!c->at_server || c->finished)
        return TV_ECLOSED;
    if (!member_operation(c->member))
        return 0;
    size_t size = 0;
    for (uint32_t i = 0; i < parts_count; i++)
        size += parts[i].size;
    struct parcel *p = parcel_new(c, PARCEL_MESSAGE, size);
    uint8_t *to = p->bytes;
    for (uint32_t i = 0; i < parts_count; i++) {
        if (parts[i].size > 0)
            memcpy(to, parts[i].data, parts[i].size);
        to += parts[i].size;
    }
    ship(c, p, false, latency(c));
    return 0;
}

int grpc_send(struct grpc_call *c, const struct slice *parts, uint32_t parts_count)
{
    return send_message(c, parts, parts_count);
}

int grpc_send_shared(struct grpc_call *c, struct slice prefix, struct bref *owner,
                     struct slice body)
{
    (void)owner;
    return send_message(c, (struct slice[]){prefix, body}, 2);
}

int grpc_send_source(struct grpc_call *c, uint64_t size, const struct grpc_source *src)
{
    uint8_t *bytes = mem_alloc(size + 1);
    size_t done = 0;
    while (done < size)
        done += src->read(src->ctx, bytes + done, size - done);
    int err = send_message(c, &(struct slice){bytes, size}, 1);
    mem_free(bytes);
    if (err == 0)
        src->done(src->ctx);
    return err;
}

void grpc_finish(struct grpc_call *c, enum grpc_code code, const char *text)
{
    if (!c->at_server || c->finished)
        return;
    c->finished = true;
    if (!member_operation(c->member))
        return;
    struct parcel *p = parcel_new(c, PARCEL_END, 0);
    p->code = code;
    (void)snprintf(p->text, sizeof(p->text), "%s", text == NULL ? "" : text);
    ship(c, p, false, latency(c));
    notice(c, parcel_new(c, PARCEL_CLOSED, 0), true, 1);
}

int grpc_reply(struct grpc_call *c, const struct slice *parts, uint32_t parts_count)
{
    int err = send_message(c, parts, parts_count);
    grpc_finish(c, GRPC_OK, NULL);
    return err;
}

int grpc_reply_shared(struct grpc_call *c, struct slice prefix, struct bref *owner,
                      struct slice body)
{
    int err = grpc_send_shared(c, prefix, owner, body);
    grpc_finish(c, GRPC_OK, NULL);
    return err;
}
