/* The node's logic: raft, the log, apply and the leases, in one thread and without a socket or a
 * clock.
 *
 * The core is fed with requests, peers' messages, ticks and disk completions, and does its work in
 * core_turn(): everything that came in since the last turn becomes one batch of proposals, one log
 * write, one message to each follower, one published revision. It reaches the world through struct
 * core_env alone, so that a simulator can run it.
 *
 * Invariants:
 * 1. Entries are applied in log order, each once, and only when raft says they are committed.
 * 2. What is handed to the persist thread is durable in this node's own log first: after a crash
 *    RocksDB is a prefix of the log, one that does not end between two pieces of a request.
 * 3. A proposal is answered once: when its entry is applied, or with an error when its time is up.
 *
 * Thread: the core's, for every function here. Read next: core.c, core_turn(). */
#ifndef SERVER_CORE_H
#define SERVER_CORE_H

#include "server/apply.h"
#include "server/request.h"
#include "state/cluster.h"

#include "raft/raft.h"
#include "storage/lsm.h"
#include "storage/mvcc.h"
#include "storage/wal.h"

struct core;

enum core_question_about {
    QUESTION_LEASE_RENEW,   /* ttl */
    QUESTION_LEASE_LEFT,    /* ttl, granted_ttl */
    QUESTION_LEARNER_READY, /* err alone: may it be promoted? */
    QUESTION_MEMBER_GONE,   /* err alone: is it silent, so that another may take its place? */
};

/* What only the leader can answer, between members and outside the log. */
struct core_question {
    bool is_reply;
    uint64_t token; /* names the question at the asking member */
    enum core_question_about about;
    uint64_t subject; /* a lease or a member */
    int64_t ttl;
    int64_t granted_ttl;
    int32_t err;
};

struct core_env {
    void *ctx;
    /* Hand a message to the peer; may drop it. Borrowed during the call. */
    void (*send)(void *ctx, const struct raft_msg *msg);
    void (*send_question)(void *ctx, uint64_t to, const struct core_question *msg);
    /* Bring the member a snapshot; core_snapshot_sent() or core_snapshot_failed() follows, not from
     * inside. NULL: none is ever needed. */
    void (*send_snapshot)(void *ctx, uint64_t to);
    /* The cluster given in the options has changed: connections are to be made and cut. May
     * be NULL. */
    void (*members_changed)(void *ctx);
    /* The request is the worker's again. */
    void (*answer)(void *ctx, struct request *req);
    /* Once per turn, after answers: a new revision is published, or the leader changed. */
    void (*published)(void *ctx);
    /* Ask for another core_turn() soon. */
    void (*wake)(void *ctx);
    /* The same, in so many milliseconds. NULL: nothing is gathered, and nothing rests. */
    void (*wake_in)(void *ctx, uint64_t ms);
    /* What this member holds at a mark, for the leader; may drop it. NULL: nobody compares. */
    void (*send_report)(void *ctx, uint64_t to, const struct agree_report *r);
    /* This member differs from the majority and serves nobody any more: it is to end, and to begin
     * anew without its data. NULL: the process ends. */
    void (*differs)(void *ctx, const char *what);
    /* Damage was found on this member's disk; the process ends when this returns. May be NULL. */
    void (*damaged)(void *ctx, const char *what);
    /* clock_mono_ns(), for measuring what was done; what it says decides nothing but how much is
     * proposed, and when. NULL: nothing is measured, and nothing rests. */
    uint64_t (*clock_ns)(void *ctx);
    /* A copy of what the persistent store holds now, for snapfile_open()'s reasons or none. NULL:
     * there are no copies. */
    int (*copy_store)(void *ctx, struct snapfile **ret);
};

#define CORE_LOG_KEEP_BYTES (UINT64_C(256) << 20)
enum { CORE_LARGE_BYTES = 16 << 10 };

struct core_options {
    const struct cluster *cluster;
    uint64_t member_id;
    struct mvcc *mvcc;
    struct wal *wal;
    struct persist *persist;
    struct applier *applier;
    struct core_env env;
    uint64_t heartbeat_ms;
    uint64_t election_ms;
    uint64_t slow_apply_ns; /* what takes longer is counted */
    bool pre_vote;
    bool lease_reads;             /* as raft_options has it; then raft's ticks follow now_ms */
    bool priority_requests;       /* with many waiting, leases can still be ended */
    uint64_t lease_checkpoint_ms; /* what is left of longer leases is noted so often; 0: never */
    bool stand_at_once;           /* a cluster of one does not wait for an election timeout */
    bool strict_reconfig;         /* changes that would endanger the quorum are refused */
    /* Requests from this size on have a lane of their own; those of more than four times as much go
     * in pieces of that while smaller ones come. 0 = CORE_LARGE_BYTES. */
    uint32_t large_bytes;
    uint64_t seed;
    uint64_t id_seed; /* makes request ids of this run differ from the last one's */
    uint64_t snapshot_count;
    uint64_t log_keep_bytes; /* for members that were away; 0 = CORE_LOG_KEEP_BYTES */
    /* From the disk at start: where RocksDB stands, and the log's entries behind that. */
    struct raft_hard_state hard_state;
    uint64_t applied_index;
    uint64_t applied_term;
    const struct raft_entry *entries;
    uint32_t entries_count;
};

struct core *core_new(const struct core_options *o);
/* Answers what still waits with TV_STOPPED. */
void core_free(struct core *c);

/* Takes the request; it is answered through env.answer, never from inside this call. */
void core_submit(struct core *c, struct request *req);
void core_receive(struct core *c, const struct raft_msg *msg);
void core_receive_question(struct core *c, uint64_t from, const struct core_question *msg);
void core_receive_report(struct core *c, uint64_t from, const struct agree_report *r);
/* Thread: any. This member's contents differ: no answer from its store may go out. */
bool core_is_fenced(const struct core *c);
void core_peer_lost(struct core *c, uint64_t id);
/* There is a connection to the peer, or none any more. */
void core_peer_connected(struct core *c, uint64_t id, bool connected);

/* --- snapshots --- */

void core_snapshot_sent(struct core *c, uint64_t id, uint64_t log_index);
void core_snapshot_failed(struct core *c, uint64_t id);
/* The log behind this entry is not cut; UINT64_MAX = as usual. */
void core_hold_log(struct core *c, uint64_t log_index);
bool core_snapshot_is_wanted(const struct core *c, uint64_t log_index, uint64_t term);
/* A snapshot takes the place of everything: raft first, which may refuse it, and what was on its
 * way to the old store is dropped. The caller then replaces the store and restarts the log, in the
 * same turn of its loop, and ends with core_install_end().
 * Errors: as raft_install_snapshot(). */
int core_install_begin(struct core *c, uint64_t log_index, uint64_t term,
                       const struct cluster *cluster);
/* The applier's lessor is the new one already. */
void core_install_end(struct core *c, struct persist *persist);

/* Called every heartbeat interval. `now_ms` is monotonic. */
void core_tick(struct core *c, uint64_t now_ms);
/* The log is durable up to `seq`. */
void core_log_written(struct core *c, uint64_t seq);
/* Do all that is due. Cheap when nothing is. */
void core_turn(struct core *c, uint64_t now_ms);

/* The node has looked at its disks: there is little room left, or enough again. While there is
 * little, writes are refused here, and the member's alarm stands. Thread: the core's. */
void core_disk_low(struct core *c, bool low);
/* Thread: any. This member has no room for writes. */
bool core_lacks_room(const struct core *c);

/* Hand leadership to the most advanced follower; false when there is none or we do not lead. */
bool core_hand_over(struct core *c);

enum core_standing {
    CORE_VOTER,
    CORE_LEARNER,
    CORE_OUTSIDE, /* not a member: not yet, or not any more */
};

/* Read by any thread. */
struct core_status {
    enum core_standing standing;
    uint64_t leader;
    uint64_t term;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t leader_changes; /* leaders that have come */
};
void core_status(const struct core *c, struct core_status *ret);
/* Thread: any. */
const struct core_meters *core_meters(const struct core *c);
/* Nothing was ever logged here: neither by this member nor by a leader. Thread: the core's. */
bool core_log_is_empty(const struct core *c);
/* Set the attributes of those whose names are on this member's log and not applied yet: they may
 * have been committed. Thread: the core's. */
void core_note_begun(struct core *c, struct cluster *ret);
/* Thread: any. Different from every other member's, and from this member's of earlier runs. */
uint64_t core_next_request_id(struct core *c);

#endif
