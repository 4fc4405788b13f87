/* Snapshots on their way between members, while everything else goes on.
 *
 * What travels is the database as its last commit left it (lsm_copy): exactly the state after one
 * entry of the log. It goes over a connection of its own, so that no heartbeat waits behind it, as
 * the call /trivet.Peer/Snapshot (frames: proto/peerwire.h). Reading, hashing and writing happen in
 * libuv's pool, a piece at a time; the loop only moves pieces.
 *
 *   leader      IDLE -> SENDING (snapshots_send) -> sent, when SNAP_DONE came
 *                                                -> failed: refused, cut off, stalled, leads no
 * more follower    IDLE -> RECEIVING (SNAP_HEAD) -> whole and verified -> installed, SNAP_DONE
 *                                             -> dropped: damage, cut off, stalled, a newer one
 * came
 *
 * Every piece has a CRC-32C; the end has counts and a SHA-256 over everything, and nothing is
 * installed before they were compared. A transfer that ends early leaves a folder that the next one
 * or the next start removes; the next one begins from the beginning.
 *
 * Limits: SNAPSHOT_WINDOW_BYTES wait to be sent for one follower, and one piece is being read; the
 * receiver keeps SNAPSHOT_PIECES_MAX pieces and what the transport's window holds; one snapshot
 * comes in at a time. The versions that came are kept in memory until they are installed: a member
 * that takes a snapshot needs memory for the old contents and the new.
 *
 * Owner: the core thread. */
#ifndef SERVER_SNAPSHOT_H
#define SERVER_SNAPSHOT_H

#include "server/meter.h"
#include "state/cluster.h"

#include "proto/grpc.h"
#include "storage/lsm.h"

enum {
    SNAPSHOT_PIECE_BYTES = 256 << 10,
    SNAPSHOT_WINDOW_BYTES = 4 << 20,
    SNAPSHOT_PIECES_MAX = 16,
    SNAPSHOT_STALL_MS = 30000, /* without progress a transfer is given up */
};

struct snapshots;

struct snapshots_options {
    struct peers_meters *meters; /* borrowed; NULL: nothing is counted */
    uv_loop_t *uv;
    struct grpc_loop *loop;
    struct tls_context *tls; /* of connections to members with https:// */
    const char *local_host;  /* grpc_channel_options; borrowed */
    const struct cluster *cluster;
    uint64_t member_id;
    uint64_t election_ms;
    struct slice self_name;   /* the 'm' record that stays at home */
    const char *incoming_dir; /* copied; made for each snapshot and removed again */
    void *ctx;
    struct lsm *(*store)(void *ctx);
    /* The log behind this entry is needed; UINT64_MAX = no snapshot is under way. */
    void (*hold_log)(void *ctx, uint64_t log_index);
    void (*sent)(void *ctx, uint64_t id, uint64_t log_index);
    void (*failed)(void *ctx, uint64_t id);
    /* The store here is damaged; the process ends when this returns. */
    void (*damaged)(void *ctx, const char *what);
    /* Is it of use? Asked before anything is received. */
    bool (*is_wanted)(void *ctx, uint64_t log_index, uint64_t term);
    /* What must be in the database beside what came. */
    struct persist_meta *(*own_metas)(void *ctx, const struct lsm_meta *meta);
    /* The database in incoming_dir is committed and closed: take over. Errors: TV_EEXIST: it is of
     * no use any more. TV_ECORRUPT. */
    int (*install)(void *ctx, struct lsm_intake *in);
};

struct snapshots *snapshots_new(const struct snapshots_options *o);
/* Waits for what the pool is doing; before the store goes. The memory goes with the loop's next
 * runs. */
void snapshots_free(struct snapshots *s);
/* For the peers' server; `arg` is set. */
struct grpc_method snapshots_method(struct snapshots *s);

/* Bring a snapshot to the member; sent() or failed() follows, never from inside. */
void snapshots_send(struct snapshots *s, uint64_t id);
/* End all that is being sent, and let go of the store. */
void snapshots_stop_sending(struct snapshots *s);
/* Every heartbeat. */
void snapshots_tick(struct snapshots *s, uint64_t now_ms, bool leading);

struct snapshots_stats {
    uint64_t sending; /* now */
    uint64_t receiving;
    uint64_t sent;
    uint64_t send_failures;
    uint64_t installed;
    uint64_t receive_failures;
    uint64_t sent_bytes;
    uint64_t received_bytes;
};
void snapshots_stats(const struct snapshots *s, struct snapshots_stats *ret);

#endif
