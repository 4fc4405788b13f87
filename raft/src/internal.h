/* struct raft, and what its files offer one another. Read in this order: step.c (a message comes
 * in), election.c, replicate.c, follow.c, read.c, ready.c (everything goes out). */
#ifndef RAFT_SRC_INTERNAL_H
#define RAFT_SRC_INTERNAL_H

#include "log.h"
#include "peer.h"
#include "quorum.h"
#include "raft/raft.h"

#include "base/rng.h"

enum {
    RAFT__FETCHED_MAX = 1024,         /* entries from the reader in one raft_ready() */
    RAFT__LARGE_BYTES_MIN = 64 << 10, /* an entry that others do not wait for */
    RAFT__FETCH_INFLIGHT_MAX = 4,     /* appends from the reader on their way to one follower */
    RAFT__READ_ROUNDS_MAX = 64,       /* read rounds on their way; later questions wait */
};

/* Terms and indexes beyond this come from no correct member; the sums we make never overflow. */
#define RAFT__NUMBER_MAX (UINT64_MAX / 4)

/* A write the caller has not reported durable yet. */
struct raft_write {
    uint64_t seq;
    uint64_t last_index; /* the log is durable up to here with it */
    uint64_t term;
    uint64_t vote;
};

struct raft_read_waiting {
    uint64_t context;
    uint64_t from;
};

/* Reads confirmed together. */
struct raft_read_round {
    uint64_t log_index;
    uint64_t tick; /* when it began */
    uint32_t reads_count;
};

struct raft {
    struct raft_options o;
    struct rng rng;
    bool restored;
    bool in_ready;
    bool must_not_stand; /* raft_set_standing() */

    uint64_t term;
    uint64_t vote;
    enum raft_role role;
    uint64_t leader;

    struct raft_log log;
    uint64_t commit;
    uint64_t given;   /* handed out to be applied */
    uint64_t applied; /* reported applied */

    /* Writes. handed_out: what the newest one carries; durable: what the last reported one did. */
    uint64_t write_seq;
    uint64_t written_index;
    uint64_t persisted_index;
    struct raft_hard_state handed_out;
    uint64_t durable_term;
    uint64_t durable_vote;
    struct raft_write writes[RAFT_WRITES_MAX]; /* ring, oldest at writes_first */
    uint32_t writes_first;
    uint32_t writes_count;

    /* As applied. The peers are its members and this member, by ascending id. */
    struct raft_membership membership;
    struct raft_peer peers[RAFT_PEERS_MAX];
    uint32_t peers_count;
    struct raft_peer *self;
    bool settle_due; /* the membership changed: what follows from it waits for raft_ready_done() */

    uint32_t election_elapsed; /* ticks since the leader was heard of or checked its quorum */
    uint32_t election_timeout; /* randomised */
    uint32_t heartbeat_elapsed;
    uint64_t ticks;
    uint32_t heard_elapsed; /* ticks since any leader was heard of, up to the election timeout */

    /* Candidate: the requests go out when our own vote is durable. */
    bool vote_requests_due;
    bool campaign_transfer;
    /* Follower: the leader asked us to stand while a committed change waited to be applied. */
    bool campaign_after_conf;
    /* Voter: the answer to `vote` goes out when the vote is durable. */
    bool vote_reply_due;

    /* Follower: our log equals the leader's up to matched_index (0 = not known in this term). */
    uint64_t matched_index;
    uint64_t ack_target; /* ack_due: answer when durable up to here */
    uint64_t ack_sent;
    bool ack_due;
    bool heartbeat_reply_due;
    uint64_t round_seen;
    uint64_t round_echoed;
    struct raft_entry *forward; /* proposals for the leader */
    uint32_t forward_count;
    uint32_t forward_capacity;
    size_t forward_bytes;

    /* Leader. */
    uint64_t pending_conf_index; /* no change of membership while applied is below it */
    uint64_t transfer_target;
    bool transfer_sent;
    size_t uncommitted_bytes;
    uint64_t round_current; /* number of the newest read round of this term */
    struct raft_read_round rounds[RAFT__READ_ROUNDS_MAX]; /* round n in slot n modulo the size */
    uint32_t rounds_count;
    bool lease_round_due; /* begin a round although nobody asks */
    bool lease_known;     /* a majority knew of us in a round that began at lease_tick */
    bool lease_off;       /* somebody was told to stand for election in this term */
    uint64_t lease_tick;
    struct raft_read_waiting *reads; /* ring, oldest first; the last reads_new have no round yet */
    uint32_t reads_first;
    uint32_t reads_count;
    uint32_t reads_new;

    /* Outputs that collect until raft_ready_done(). */
    struct raft_msg *msgs;
    uint32_t msgs_count;
    uint32_t msgs_capacity;
    struct raft_read *reads_done;
    uint32_t reads_done_count;
    uint32_t reads_done_capacity;
    uint64_t snapshot_requests[RAFT_PEERS_MAX];
    uint32_t snapshot_requests_count;
    struct raft_entry *fetched;
    uint32_t fetched_count;
};

/* --- raft.c --- */

/* Takes the new term (0 votes in it) when it is higher. */
void raft__become_follower(struct raft *r, uint64_t term, uint64_t leader);
/* An election timeout, in ticks. */
uint32_t raft__draw_timeout(struct raft *r);
/* Forgets what belonged to the last role and draws a new election timeout. */
void raft__reset(struct raft *r);
void raft__commit_to(struct raft *r, uint64_t log_index);
/* Room for `count` elements; doubles. */
void *raft__vector_reserve(void *items, uint32_t *capacity, uint32_t count, size_t item_size);

/* --- members.c --- */

/* NULL when it is not in the membership. */
struct raft_peer *raft__peer(struct raft *r, uint64_t id);
static inline bool raft__is_voter(const struct raft_peer *p)
{
    return p->halves != 0;
}
/* Keeps what is known of members that stay; pointers to peers are no longer valid. */
void raft__set_membership(struct raft *r, const struct raft_membership *m);
/* The membership was changed: step down, commit with the new majority, end a transfer. */
void raft__settle(struct raft *r);
/* At the leader: may this change be appended? 0 or what raft_propose() says. */
int raft__check_conf(const struct raft *r, const struct raft_entry *e);
/* Leader: leave a joint configuration, when it is time and nobody else has to say so. */
void raft__leave_joint(struct raft *r);
/* A change of membership is committed and not applied yet. */
bool raft__conf_waits(const struct raft *r);

/* --- election.c --- */

/* Stand for election if we may; `transfer`: because the leader asked us to. */
void raft__campaign(struct raft *r, bool transfer);
/* True when a vote request must be ignored because a leader is alive. */
bool raft__leader_is_alive(const struct raft *r, const struct raft_msg *msg);
/* Queue the answer to a vote request; NULL when it is dropped. */
struct raft_msg *raft__send_vote_reply(struct raft *r, bool pre, uint64_t to, bool reject);
/* Whatever its term is, what the answer says is committed stays so. */
void raft__hear_committed(struct raft *r, const struct raft_msg *msg);
void raft__on_vote_request(struct raft *r, const struct raft_msg *msg);
void raft__on_vote_reply(struct raft *r, const struct raft_msg *msg);
/* The term and vote in use are durable. */
void raft__vote_durable(struct raft *r);
void raft__ready_votes(struct raft *r);

/* --- replicate.c: the leader --- */

/* Entries with our term and the next indexes; takes references. */
void raft__append_own(struct raft *r, const struct raft_entry *entries, uint32_t count);
void raft__maybe_commit(struct raft *r);
void raft__on_append_reply(struct raft *r, struct raft_peer *p, const struct raft_msg *msg);
void raft__on_heartbeat_reply(struct raft *r, struct raft_peer *p, const struct raft_msg *msg);
void raft__try_transfer(struct raft *r);
/* What each follower shall get now. */
void raft__ready_replicate(struct raft *r);

/* --- follow.c: the follower --- */

int raft__on_append(struct raft *r, const struct raft_msg *msg);
void raft__on_heartbeat(struct raft *r, const struct raft_msg *msg);
void raft__ready_replies(struct raft *r);
/* The log now ends at `last`: the writes on their way no longer say how far it is durable beyond.
 */
void raft__log_shortened(struct raft *r, uint64_t last);
int raft__forward(struct raft *r, const struct raft_entry *entries, uint32_t count);
void raft__ready_forward(struct raft *r);

/* --- read.c --- */

/* Leader: a question of this member or of a follower. */
int raft__read_ask(struct raft *r, uint64_t from, uint64_t context);
void raft__read_done(struct raft *r, uint64_t context, uint64_t log_index);
/* Leader: give what was asked since the last time one round; it goes out with the next messages. */
void raft__read_start_round(struct raft *r);
/* With lease_reads: a leader may count on us not to elect another now. */
bool raft__lease_promised(const struct raft *r);
/* Leader: answer what a majority has confirmed. */
void raft__read_confirm(struct raft *r);
/* We do not lead any more: everybody asks again. */
void raft__read_refuse_all(struct raft *r);

/* --- ready.c --- */

/* Queue a message to `to`, with our id and term. Borrowed until the next push; NULL when the outbox
 * is full and the message is dropped. */
struct raft_msg *raft__send(struct raft *r, enum raft_msg_type type, uint64_t to);
/* The same for raft_ready() itself, which is bounded by other means. Never NULL. */
/* How many of these go in one message or write: at least one if there are any, no more than
 * `bytes_max` of them, and small ones do not wait for the large one behind them. */
uint32_t raft__together(const struct raft_entry *entries, uint32_t count, size_t bytes_max);
struct raft_msg *raft__push(struct raft *r, enum raft_msg_type type, uint64_t to);

#endif
