#include "server/peer.h"

#include "state/url.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/peerwire.h"

#include <stdio.h>

static const char messages_path[] = "/trivet.Peer/Messages";

enum { PROBE_EVERY_MS = 1000 };

static const char removed_text[] = "the member has been permanently removed from the cluster";

/* One other member, in the direction from us. */
struct peer {
    struct list link;
    struct peers *peers;
    uint64_t id;
    struct grpc_channel *channel;
    struct grpc_call *call; /* NULL: not connected */
    uint64_t urls_hash;     /* to see that they are others */
    bool remote;            /* not in the membership that we have: it told us where it is */
    bool lost_messages;     /* raft has been told since the queue was last empty enough */
    bool closing;
    struct peer_meters *meters;
};

/* The direction to us: one per call, from its open to its closed. */
struct inbound {
    struct list link;
    struct peers *peers;
    struct grpc_call *call;
    uint64_t from; /* 0 until the handshake */
    struct peer_meters *meters;
};

struct peers {
    struct peers_options o;
    struct grpc_server *server;
    struct grpc_method methods[PEERS_METHODS_MAX + 1];
    struct list items;
    struct list inbound;
    struct buf frame;           /* being written */
    struct raft_entry *entries; /* being read */
    uint32_t entries_capacity;
    bool closing;
    uint64_t probed_ns;          /* the last time */
    struct peers_meters *meters; /* the options', or our own, which nobody reads */
    struct peers_meters *unread;
};

/* --- from us --- */

static void on_outbound_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct peer *p = grpc_call_user(call);
    ASSERT(p->call == call);
    p->call = NULL;
    metric_add(&p->meters->disconnected, metric_read(&p->meters->active));
    metric_set(&p->meters->active, 0);
    if (p->peers->closing || p->closing)
        return;
    log_warn("lost the stream to a peer", LOG_HEX("remote-peer-id", p->id), LOG_INT("code", code),
             LOG_SLICE("error", text));
    p->peers->o.connected(p->peers->o.ctx, p->id, false);
    p->peers->o.lost(p->peers->o.ctx, p->id);
    if (slice_equal(text, slice_of_string(removed_text)))
        p->peers->o.told_removed(p->peers->o.ctx, p->id);
}

static const struct grpc_call_ops outbound_ops = {.closed = on_outbound_closed};

static void start_stream(struct peer *p)
{
    struct peers *all = p->peers;
    p->call = grpc_start(p->channel, &(struct grpc_start_options){
                                         .path = messages_path, .ops = &outbound_ops, .user = p});
    struct peerwire_hello hello = {.version = PEERWIRE_VERSION,
                                   .cluster_id = all->o.cluster->id,
                                   .from = all->o.member_id,
                                   .to = p->id,
                                   .urls_count = all->o.advertise_urls->count};
    for (uint32_t i = 0; i < hello.urls_count; i++)
        hello.urls[i] = slice_of_string(all->o.advertise_urls->items[i]);
    buf_clear(&all->frame);
    size_t size = peerwire_hello_size(&hello);
    (void)peerwire_hello_put(buf_reserve(&all->frame, size), &hello);
    (void)grpc_send(p->call, &(struct slice){all->frame.data, size}, 1);
    metric_set(&p->meters->active, 1);
    metric_set(&p->meters->was_active, 1);
    all->o.connected(all->o.ctx, p->id, true);
}

/* A probe that cannot be sent is a failure, too: so a peer that is gone shows at every member, also
 * at those that have nothing else to tell it. */
static void probe_all(struct peers *all)
{
    uint64_t now_ns = clock_mono_ns();
    if (all->o.meters == NULL || now_ns - all->probed_ns < PROBE_EVERY_MS * UINT64_C(1000000))
        return;
    all->probed_ns = now_ns;
    LIST_EACH (it, &all->items) {
        struct peer *p = CONTAINER_OF(it, struct peer, link);
        uint8_t frame[PEERWIRE_PROBE_BYTES];
        (void)peerwire_probe_put(frame, &(struct peerwire_probe){.sent_ns = now_ns});
        if (p->call == NULL || grpc_call_queued_bytes(p->call) > PEER_QUEUE_BYTES_MAX)
            metric_add(&p->meters->sent_failures, 1);
        else
            (void)grpc_send(p->call, &(struct slice){frame, sizeof(frame)}, 1);
    }
}

void peers_tick(struct peers *all)
{
    probe_all(all);
    LIST_EACH (it, &all->items) {
        struct peer *p = CONTAINER_OF(it, struct peer, link);
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
    LIST_EACH (it, &all->items)
        if (CONTAINER_OF(it, struct peer, link)->id == id)
            return CONTAINER_OF(it, struct peer, link);
    return NULL;
}

/* A stream that can take another frame, or NULL: then the message is lost, and raft is told once.
 */
static struct grpc_call *stream_to(struct peers *all, uint64_t id)
{
    struct peer *p = find(all, id);
    if (p == NULL)
        return NULL;
    if (p->call == NULL) {
        metric_add(&p->meters->sent_failures, 1);
        return NULL;
    }
    bool full = grpc_call_queued_bytes(p->call) > PEER_QUEUE_BYTES_MAX;
    if (full && !p->lost_messages) {
        PROBE(peer_queue_full);
        log_warn("a peer does not read; messages to it are dropped", LOG_HEX("remote-peer-id", id));
        all->o.lost(all->o.ctx, id);
    }
    p->lost_messages = full;
    metric_add(&p->meters->sent_failures, full);
    return full ? NULL : p->call;
}

static void send_frame(struct grpc_call *call, const uint8_t *frame, size_t size)
{
    struct peer *p = grpc_call_user(call);
    metric_add(&p->meters->sent_bytes, size);
    (void)grpc_send(call, &(struct slice){frame, size}, 1);
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
    send_frame(call, all->frame.data, size);
}

void peers_send_question(struct peers *all, uint64_t to, const struct core_question *msg)
{
    struct grpc_call *call = stream_to(all, to);
    if (call == NULL)
        return;
    uint8_t frame[PEERWIRE_QUESTION_BYTES];
    peerwire_question_put(frame, &(struct peerwire_question){.is_reply = msg->is_reply,
                                                             .about = (uint8_t)msg->about,
                                                             .token = msg->token,
                                                             .subject = msg->subject,
                                                             .ttl = msg->ttl,
                                                             .granted_ttl = msg->granted_ttl,
                                                             .err = msg->err});
    send_frame(call, frame, sizeof(frame));
}

void peers_send_report(struct peers *all, uint64_t to, const struct agree_report *r)
{
    struct grpc_call *call = stream_to(all, to);
    if (call == NULL)
        return;
    uint8_t frame[PEERWIRE_REPORT_BYTES];
    (void)peerwire_report_put(frame,
                              &(struct peerwire_report){.mark = r->mark, .digest = r->digest});
    send_frame(call, frame, sizeof(frame));
}

/* --- connections --- */

static uint64_t urls_hash(const struct cluster_member *m)
{
    uint32_t crc = 0;
    for (uint32_t i = 0; i < m->peer_urls_count; i++)
        crc = crc32c(crc, m->peer_urls[i], strlen(m->peer_urls[i]) + 1);
    return (uint64_t)m->peer_urls_count << 32 | crc;
}

static struct peer *peer_open(struct peers *all, const struct cluster_member *m)
{
    struct peer *p = mem_alloc_zero(sizeof(*p));
    p->peers = all;
    p->id = m->id;
    p->meters = peers_meters_of(all->meters, m->id);
    list_init(&p->link);
    list_push_back(&all->items, &p->link);
    const char *addresses[CLUSTER_URLS_MAX];
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.addresses = addresses;
    o.addresses_count = cluster_member_addresses(m, addresses);
    o.tls = all->o.tls;
    o.local_host = all->o.local_host;
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
    ASSERT(p->channel != NULL); /* the URLs were checked before they were taken */
    p->urls_hash = urls_hash(m);
    return p;
}

/* --- to us --- */

static void refuse(struct grpc_call *call, const char *why)
{
    const struct inbound *in = grpc_call_user(call);
    if (in->meters != NULL)
        metric_add(&in->meters->received_failures, 1);
    log_warn("refused a peer's stream", LOG_STR("remote", grpc_conn_peer(grpc_call_conn(call))),
             LOG_STR("error", why));
    grpc_finish(call, GRPC_FAILED_PRECONDITION, why);
}

/* The membership that we have may be older than the peer: it is what tells us the newer one. So it
 * is taken at its word about where it is reached (etcd: addRemoteFromRequest). */
static bool open_remote(struct peers *all, const struct peerwire_hello *h)
{
    struct cluster_member m = {.id = h->from};
    char why[256], text[URL_BYTES_MAX];
    uint32_t remotes = 0;
    LIST_EACH (it, &all->items)
        remotes += CONTAINER_OF(it, struct peer, link)->remote;
    for (uint32_t i = 0; i < h->urls_count && remotes < PEERS_REMOTE_MAX; i++) {
        (void)snprintf(text, sizeof(text), "%.*s", (int)h->urls[i].size,
                       (const char *)h->urls[i].data);
        if (url_parse(text, &m.peer_urls[m.peer_urls_count], why, sizeof(why)) == 0)
            m.peer_urls_count++;
    }
    if (m.peer_urls_count > 0) {
        log_info("a peer is there that the membership here does not have yet",
                 LOG_HEX("remote-peer-id", m.id), LOG_STR("url", m.peer_urls[0]));
        peer_open(all, &m)->remote = true;
    }
    for (uint32_t i = 0; i < m.peer_urls_count; i++)
        mem_free(m.peer_urls[i]);
    return m.peer_urls_count > 0;
}

/* Who has reached us can be reached. */
static void welcome(struct inbound *in, uint64_t from)
{
    in->from = from;
    in->meters = peers_meters_of(in->peers->meters, from);
    const struct peer *p = find(in->peers, from);
    if (p != NULL && p->call == NULL)
        grpc_channel_connect_now(p->channel);
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
    else if (cluster_was_removed(all->o.cluster, h.from))
        refuse(call, removed_text);
    else if (find(all, h.from) == NULL && !open_remote(all, &h))
        refuse(call, "the peer is not a member of the cluster");
    else
        welcome(in, h.from);
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
    struct peerwire_question l;
    if (peerwire_question_decode(frame, &l) != 0) {
        refuse(call, "malformed message");
        return;
    }
    struct core_question msg = {.is_reply = l.is_reply,
                                .token = l.token,
                                .about = (enum core_question_about)l.about,
                                .subject = l.subject,
                                .ttl = l.ttl,
                                .granted_ttl = l.granted_ttl,
                                .err = l.err};
    in->peers->o.receive_question(in->peers->o.ctx, in->from, &msg);
}

static void on_report(struct grpc_call *call, struct inbound *in, struct slice frame)
{
    struct peerwire_report r;
    if (peerwire_report_decode(frame, &r) != 0) {
        refuse(call, "malformed message");
        return;
    }
    struct agree_report report = {.mark = r.mark, .digest = r.digest};
    in->peers->o.receive_report(in->peers->o.ctx, in->from, &report);
}

static void on_probe(struct grpc_call *call, struct inbound *in, struct slice frame)
{
    struct peerwire_probe probe;
    if (peerwire_probe_decode(frame, &probe) != 0) {
        refuse(call, "malformed message");
        return;
    }
    if (probe.is_reply) {
        uint64_t now_ns = clock_mono_ns();
        metric_observe(&in->meters->round_trip, METER_ROUND_TRIP_SCALE,
                       probe.sent_ns < now_ns ? now_ns - probe.sent_ns : 0);
        return;
    }
    struct grpc_call *back = stream_to(in->peers, in->from);
    if (back == NULL)
        return;
    uint8_t reply[PEERWIRE_PROBE_BYTES];
    probe.is_reply = true;
    (void)peerwire_probe_put(reply, &probe);
    send_frame(back, reply, sizeof(reply));
}

static void on_frame(struct grpc_call *call, struct slice frame)
{
    struct inbound *in = grpc_call_user(call);
    if (in->from == 0) {
        on_hello(call, in, frame);
        return;
    }
    metric_add(&in->meters->received_bytes, frame.size);
    switch (peerwire_kind(frame)) {
    case PEERWIRE_RAFT:
        on_raft(call, in, frame);
        break;
    case PEERWIRE_REPORT:
        on_report(call, in, frame);
        break;
    case PEERWIRE_QUESTION:
        on_lease(call, in, frame);
        break;
    case PEERWIRE_PROBE:
        on_probe(call, in, frame);
        break;
    default:
        refuse(call, "unknown kind of message");
    }
}

static void on_inbound_open(struct grpc_call *call, void *arg)
{
    struct inbound *in = mem_alloc_zero(sizeof(*in));
    in->peers = arg;
    in->call = call;
    list_push_back(&in->peers->inbound, &in->link);
    grpc_call_set_user(call, in);
}

static void on_inbound_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)code;
    (void)text;
    struct inbound *in = grpc_call_user(call);
    list_remove(&in->link);
    mem_free(in);
}

static void on_inbound_half_closed(struct grpc_call *call)
{
    grpc_finish(call, GRPC_OK, NULL);
}

static const struct grpc_call_ops inbound_ops = {
    .message = on_frame, .half_closed = on_inbound_half_closed, .closed = on_inbound_closed};

/* --- life --- */

static void peer_close(struct peer *p)
{
    list_remove(&p->link);
    if (p->call != NULL)
        p->peers->o.connected(p->peers->o.ctx, p->id, false);
    p->closing = true;
    grpc_channel_close(p->channel);
    mem_free(p);
}

static void end_removed(struct peers *all, uint64_t from)
{
    LIST_EACH_SAFE (it, after, &all->inbound) {
        struct inbound *in = CONTAINER_OF(it, struct inbound, link);
        if (in->from == from)
            refuse(in->call, removed_text);
    }
}

void peers_update(struct peers *all)
{
    peers_meters_know(all->meters, all->o.cluster);
    LIST_EACH_SAFE (it, after, &all->items) {
        struct peer *p = CONTAINER_OF(it, struct peer, link);
        const struct cluster_member *m = cluster_find(all->o.cluster, p->id);
        uint64_t id = p->id;
        if (m == NULL && !cluster_was_removed(all->o.cluster, id)) {
            p->remote = true; /* a snapshot brought a membership older than the peer */
            continue;
        }
        if (m == NULL || p->urls_hash != urls_hash(m))
            peer_close(p);
        else
            p->remote = false;
        if (m == NULL)
            end_removed(all, id);
    }
    for (uint32_t i = 0; i < all->o.cluster->members_count; i++) {
        const struct cluster_member *m = &all->o.cluster->members[i];
        if (m->id != all->o.member_id && find(all, m->id) == NULL)
            peer_open(all, m);
    }
}

struct peers *peers_new(const struct peers_options *o)
{
    struct peers *all = mem_alloc_zero(sizeof(*all));
    all->o = *o;
    all->unread = o->meters != NULL ? NULL : mem_alloc_zero(sizeof(*all->unread));
    all->meters = o->meters != NULL ? o->meters : all->unread;
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
    so.reuse_port = o->reuse_port;
    ASSERT(o->more_count <= PEERS_METHODS_MAX);
    memcpy(all->methods + 1, o->more, o->more_count * sizeof(*o->more));
    all->server = grpc_server_new(o->loop, &so, all->methods, 1 + o->more_count);
    list_init(&all->items);
    list_init(&all->inbound);
    peers_update(all);
    return all;
}

struct grpc_server *peers_server(const struct peers *all)
{
    return all->server;
}

void peers_free(struct peers *all)
{
    all->closing = true;
    LIST_EACH (it, &all->items)
        grpc_channel_close(CONTAINER_OF(it, struct peer, link)->channel);
    grpc_server_free(all->server);
    buf_fini(&all->frame);
    mem_free(all->entries);
    LIST_EACH_SAFE (it, after, &all->items)
        mem_free(CONTAINER_OF(it, struct peer, link));
    mem_free(all->unread);
    mem_free(all);
}

uint32_t peers_connected(const struct peers *all)
{
    uint32_t connected = 0;
    LIST_EACH (it, &all->items)
        connected += CONTAINER_OF(it, struct peer, link)->call != NULL;
    return connected;
}
