#include "server/peer.h"

#include "server/url.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/peerwire.h"

static const char messages_path[] = "/trivet.Peer/Messages";

/* One other member, in the direction from us. */
struct peer {
    struct peers *peers;
    uint64_t id;
    struct grpc_channel *channel;
    struct grpc_call *call; /* NULL: not connected */
    bool lost_messages;     /* raft has been told since the queue was last empty enough */
};

/* The direction to us: one per call, from its open to its closed. */
struct inbound {
    struct peers *peers;
    uint64_t from; /* 0 until the handshake */
};

struct peers {
    struct peers_options o;
    struct grpc_server *server;
    struct grpc_method methods[2];
    struct peer *items;
    uint32_t count;
    struct buf frame;           /* being written */
    struct raft_entry *entries; /* being read */
    uint32_t entries_capacity;
    bool closing;
};

/* --- from us --- */

static void on_outbound_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct peer *p = grpc_call_user(call);
    ASSERT(p->call == call);
    p->call = NULL;
    if (p->peers->closing)
        return;
    log_warn("lost the stream to a peer", LOG_HEX("remote-peer-id", p->id), LOG_INT("code", code),
             LOG_SLICE("error", text));
    p->peers->o.lost(p->peers->o.ctx, p->id);
}

static const struct grpc_call_ops outbound_ops = {.closed = on_outbound_closed};

static void start_stream(struct peer *p)
{
    struct peers *all = p->peers;
    p->call = grpc_start(p->channel, &(struct grpc_start_options){
                                         .path = messages_path, .ops = &outbound_ops, .user = p});
    uint8_t frame[PEERWIRE_HELLO_BYTES];
    peerwire_hello_put(frame, &(struct peerwire_hello){.version = PEERWIRE_VERSION,
                                                       .cluster_id = all->o.cluster->id,
                                                       .from = all->o.member_id,
                                                       .to = p->id});
    (void)grpc_send(p->call, &(struct slice){frame, sizeof(frame)}, 1);
}

void peers_tick(struct peers *all)
{
    for (uint32_t i = 0; i < all->count; i++) {
        struct peer *p = &all->items[i];
        if (p->call == NULL && grpc_channel_state(p->channel) == GRPC_CHANNEL_READY)
            start_stream(p);
    }
}

static void on_channel_state(struct grpc_channel *ch, enum grpc_channel_state state,
                             const char *address, void *arg)
{
    (void)ch;
    struct peer *p = arg;
    if (state != GRPC_CHANNEL_READY || p->call != NULL)
        return;
    log_info("established a connection to a peer", LOG_HEX("remote-peer-id", p->id),
             LOG_STR("address", address));
    start_stream(p);
}

static struct peer *find(struct peers *all, uint64_t id)
{
    for (uint32_t i = 0; i < all->count; i++)
        if (all->items[i].id == id)
            return &all->items[i];
    return NULL;
}

/* A stream that can take another frame, or NULL: then the message is lost, and raft is told once.
 */
static struct grpc_call *stream_to(struct peers *all, uint64_t id)
{
    struct peer *p = find(all, id);
    if (p == NULL || p->call == NULL)
        return NULL;
    bool full = grpc_call_queued_bytes(p->call) > PEER_QUEUE_BYTES_MAX;
    if (full && !p->lost_messages) {
        PROBE(peer_queue_full);
        log_warn("a peer does not read; messages to it are dropped", LOG_HEX("remote-peer-id", id));
        all->o.lost(all->o.ctx, id);
    }
    p->lost_messages = full;
    return full ? NULL : p->call;
}

void peers_send(struct peers *all, const struct raft_msg *msg)
{
    struct grpc_call *call = stream_to(all, msg->to);
    if (call == NULL)
        return;
    size_t size = PEERWIRE_RAFT_HEAD_BYTES;
    for (uint32_t i = 0; i < msg->entries_count; i++)
        size += PEERWIRE_ENTRY_HEAD_BYTES + msg->entries[i].data.size;
    buf_clear(&all->frame);
    uint8_t *at = buf_reserve(&all->frame, size);
    at = peerwire_raft_put_head(at, &(struct peerwire_raft){.type = (uint8_t)msg->type,
                                                            .reject = msg->reject,
                                                            .transfer = msg->transfer,
                                                            .from = msg->from,
                                                            .to = msg->to,
                                                            .term = msg->term,
                                                            .log_term = msg->log_term,
                                                            .log_index = msg->log_index,
                                                            .commit = msg->commit,
                                                            .reject_hint = msg->reject_hint,
                                                            .context = msg->context,
                                                            .entries_count = msg->entries_count});
    for (uint32_t i = 0; i < msg->entries_count; i++) {
        const struct raft_entry *e = &msg->entries[i];
        at = peerwire_entry_put_head(at, &(struct peerwire_entry){.term = e->term,
                                                                  .log_index = e->log_index,
                                                                  .type = (uint8_t)e->type,
                                                                  .data = e->data});
        if (e->data.size > 0)
            memcpy(at, e->data.data, e->data.size);
        at += e->data.size;
    }
    ASSERT((size_t)(at - all->frame.data) == size);
    (void)grpc_send(call, &(struct slice){all->frame.data, size}, 1);
}

void peers_send_lease(struct peers *all, uint64_t to, const struct core_lease_msg *msg)
{
    struct grpc_call *call = stream_to(all, to);
    if (call == NULL)
        return;
    uint8_t frame[PEERWIRE_LEASE_BYTES];
    peerwire_lease_put(frame, &(struct peerwire_lease){.is_reply = msg->is_reply,
                                                       .renew = msg->renew,
                                                       .token = msg->token,
                                                       .lease_id = msg->lease_id,
                                                       .ttl = msg->ttl,
                                                       .granted_ttl = msg->granted_ttl,
                                                       .err = msg->err});
    (void)grpc_send(call, &(struct slice){frame, sizeof(frame)}, 1);
}

/* --- to us --- */

static void refuse(struct grpc_call *call, const char *why)
{
    log_warn("refused a peer's stream", LOG_STR("remote", grpc_conn_peer(grpc_call_conn(call))),
             LOG_STR("error", why));
    grpc_finish(call, GRPC_FAILED_PRECONDITION, why);
}

static void on_hello(struct grpc_call *call, struct inbound *in, struct slice frame)
{
    struct peers *all = in->peers;
    struct peerwire_hello h;
    if (peerwire_hello_decode(frame, &h) != 0)
        refuse(call, "the first message is no handshake");
    else if (h.version != PEERWIRE_VERSION)
        refuse(call, "the peer speaks another version of the protocol");
    else if (h.cluster_id != all->o.cluster->id)
        refuse(call, "cluster ID mismatch");
    else if (h.to != all->o.member_id)
        refuse(call, "the peer looks for another member");
    else if (find(all, h.from) == NULL)
        refuse(call, "the peer is not a member of the cluster");
    else
        in->from = h.from;
}

static void on_raft(struct grpc_call *call, struct inbound *in, struct slice frame)
{
    struct peers *all = in->peers;
    /* One copy of the frame; the log keeps the entries in it. */
    struct bref *owner = bref_new(frame.size);
    memcpy(owner->data, frame.data, frame.size);
    struct peerwire_raft m;
    if (peerwire_raft_decode(slice_of(owner->data, frame.size), &m) != 0 || m.from != in->from ||
        m.type >= RAFT_MSG_TYPES_COUNT) {
        bref_unref(owner);
        refuse(call, "malformed message");
        return;
    }
    if (m.entries_count > all->entries_capacity) {
        all->entries_capacity = m.entries_count;
        all->entries = mem_realloc(all->entries, m.entries_count * sizeof(*all->entries));
    }
    struct peerwire_entry e;
    for (uint32_t i = 0; peerwire_next_entry(&m.entries, &e); i++)
        all->entries[i] = (struct raft_entry){.term = e.term,
                                              .log_index = e.log_index,
                                              .type = (enum raft_entry_type)e.type,
                                              .data = e.data,
                                              .owner = e.data.size > 0 ? owner : NULL};
    struct raft_msg msg = {.type = (enum raft_msg_type)m.type,
                           .from = m.from,
                           .to = m.to,
                           .term = m.term,
                           .log_term = m.log_term,
                           .log_index = m.log_index,
                           .commit = m.commit,
                           .reject_hint = m.reject_hint,
                           .context = m.context,
                           .reject = m.reject,
                           .transfer = m.transfer,
                           .entries = all->entries,
                           .entries_count = m.entries_count};
    all->o.receive(all->o.ctx, &msg);
    bref_unref(owner);
}

static void on_lease(struct grpc_call *call, struct inbound *in, struct slice frame)
{
    struct peerwire_lease l;
    if (peerwire_lease_decode(frame, &l) != 0) {
        refuse(call, "malformed message");
        return;
    }
    struct core_lease_msg msg = {.is_reply = l.is_reply,
                                 .token = l.token,
                                 .renew = l.renew,
                                 .lease_id = l.lease_id,
                                 .ttl = l.ttl,
                                 .granted_ttl = l.granted_ttl,
                                 .err = l.err};
    in->peers->o.receive_lease(in->peers->o.ctx, in->from, &msg);
}

static void on_frame(struct grpc_call *call, struct slice frame)
{
    struct inbound *in = grpc_call_user(call);
    if (in->from == 0) {
        on_hello(call, in, frame);
        return;
    }
    switch (peerwire_kind(frame)) {
    case PEERWIRE_RAFT:
        on_raft(call, in, frame);
        break;
    case PEERWIRE_LEASE:
        on_lease(call, in, frame);
        break;
    default:
        refuse(call, "unknown kind of message");
    }
}

static void on_inbound_open(struct grpc_call *call, void *arg)
{
    struct inbound *in = mem_alloc_zero(sizeof(*in));
    in->peers = arg;
    grpc_call_set_user(call, in);
}

static void on_inbound_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)code;
    (void)text;
    mem_free(grpc_call_user(call));
}

static void on_inbound_half_closed(struct grpc_call *call)
{
    grpc_finish(call, GRPC_OK, NULL);
}

static const struct grpc_call_ops inbound_ops = {
    .message = on_frame, .half_closed = on_inbound_half_closed, .closed = on_inbound_closed};

/* --- life --- */

static void peer_init(struct peer *p, struct peers *all, const struct cluster_member *m)
{
    *p = (struct peer){.peers = all, .id = m->id};
    const char *addresses[CLUSTER_URLS_MAX];
    for (uint32_t i = 0; i < m->peer_urls_count; i++)
        addresses[i] = url_address(m->peer_urls[i]);
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.addresses = addresses;
    o.addresses_count = m->peer_urls_count;
    o.stream_window_bytes = 16 << 20;
    o.conn_window_bytes = 32 << 20;
    o.connect_timeout_ms = all->o.election_ms;
    o.backoff_max_ms = all->o.election_ms;
    /* A dead zone answers nothing, not even a reset. */
    o.keepalive_time_ms = 5 * all->o.election_ms;
    o.keepalive_timeout_ms = 5 * all->o.election_ms;
    o.state_changed = on_channel_state;
    o.arg = p;
    p->channel = grpc_channel_new(all->o.loop, &o);
    ASSERT(p->channel != NULL); /* the URLs were checked with the configuration */
}

struct peers *peers_new(const struct peers_options *o)
{
    struct peers *all = mem_alloc_zero(sizeof(*all));
    all->o = *o;
    buf_init(&all->frame, SIZE_MAX);

    all->methods[0] = (struct grpc_method){.path = messages_path,
                                           .client_streaming = true,
                                           .server_streaming = true,
                                           .ops = &inbound_ops,
                                           .open = on_inbound_open,
                                           .arg = all};
    struct grpc_server_options so;
    grpc_server_options_init(&so);
    so.recv_message_bytes_max = (64u << 20) + o->max_request_bytes;
    so.stream_window_bytes = 16 << 20;
    so.conn_window_bytes = 32 << 20;
    so.keepalive_min_time_ms = o->election_ms;
    all->methods[1] = o->more_method;
    all->server = grpc_server_new(o->loop, &so, all->methods, 2);

    all->items = mem_alloc_zero(o->cluster->members_count * sizeof(*all->items));
    for (uint32_t i = 0; i < o->cluster->members_count; i++)
        if (o->cluster->members[i].id != o->member_id)
            peer_init(&all->items[all->count++], all, &o->cluster->members[i]);
    return all;
}

int peers_listen(struct peers *all, const char *address)
{
    return grpc_server_listen(all->server, address, NULL);
}

void peers_free(struct peers *all)
{
    all->closing = true;
    for (uint32_t i = 0; i < all->count; i++)
        grpc_channel_close(all->items[i].channel);
    grpc_server_free(all->server);
    buf_fini(&all->frame);
    mem_free(all->entries);
    mem_free(all->items);
    mem_free(all);
}

uint32_t peers_connected(const struct peers *all)
{
    uint32_t connected = 0;
    for (uint32_t i = 0; i < all->count; i++)
        connected += all->items[i].call != NULL;
    return connected;
}
