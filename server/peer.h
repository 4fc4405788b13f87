/* The other members: one connection to each for what we send, one from each for what we receive.
 *
 * A connection carries one gRPC call, /trivet.Peer/Messages, whose messages are frames
 * (proto/peerwire.h): a handshake that names the cluster and both members, then raft's messages and
 * questions about leases in the order they were sent. When it breaks it is made again; what was on
 * it is lost, as raft expects.
 *
 * A member that was away may know an older membership than those who connect to it: whoever names
 * the right cluster, was not removed, and says where it is reached is heard and answered too, up to
 * PEERS_REMOTE_MAX of them.
 *
 * Limits: PEER_QUEUE_BYTES_MAX wait for a peer that does not read; what comes then is dropped.
 *
 * Owner: the core thread. */
#ifndef SERVER_PEER_H
#define SERVER_PEER_H

#include "server/core.h"
#include "server/meter.h"

#include "proto/grpc.h"

enum { PEER_QUEUE_BYTES_MAX = 128 << 20, PEERS_METHODS_MAX = 4, PEERS_REMOTE_MAX = 16 };

struct peers;

struct peers_options {
    struct grpc_loop *loop;
    struct tls_context *tls;       /* of connections to members with https:// */
    const struct cluster *cluster; /* read again by peers_update() */
    uint64_t member_id;
    const struct urls *advertise_urls; /* where this member is reached */
    const char *local_host;            /* grpc_channel_options; borrowed */
    uint32_t max_request_bytes;
    uint64_t election_ms;
    bool reuse_port; /* SO_REUSEPORT where it listens */
    void *ctx;
    void (*receive)(void *ctx, const struct raft_msg *msg);
    void (*receive_question)(void *ctx, uint64_t from, const struct core_question *msg);
    void (*receive_report)(void *ctx, uint64_t from, const struct agree_report *r);
    void (*lost)(void *ctx, uint64_t id);
    void (*connected)(void *ctx, uint64_t id, bool connected); /* from us */
    /* The peer says that we were removed; it may know more than we do. */
    void (*told_removed)(void *ctx, uint64_t by);
    const struct grpc_method *more; /* served beside the messages; PEERS_METHODS_MAX at most */
    uint32_t more_count;
    struct peers_meters *meters; /* borrowed; NULL: nothing is counted, and nobody is probed */
};

struct peers *peers_new(const struct peers_options *o);
void peers_free(struct peers *p);
/* Where they come in: for whoever makes it listen. */
struct grpc_server *peers_server(const struct peers *p);
/* The cluster has changed: connections are made and cut accordingly. */
void peers_update(struct peers *p);
/* Every heartbeat: streams that a peer has ended are begun again. */
void peers_tick(struct peers *p);
/* Dropped when the peer is not connected. Borrowed during the call. */
void peers_send(struct peers *p, const struct raft_msg *msg);
void peers_send_question(struct peers *p, uint64_t to, const struct core_question *msg);
void peers_send_report(struct peers *p, uint64_t to, const struct agree_report *r);
/* Peers that are connected now, in the direction from us. */
uint32_t peers_connected(const struct peers *p);

#endif
