/* The consensus core: one member's replica of the log, as a state machine without I/O (Ongaro,
 * "Consensus: Bridging Theory and Practice"; behaviour as in etcd-io/raft).
 *
 * Messages, ticks, proposals and disk completions go in; raft_ready() says what must be sent,
 * written and applied. It never sends, waits, or looks at a clock: time is ticks, chance is the
 * seed.
 *
 *   raft_step / raft_tick / raft_propose / raft_read_index / raft_persisted / ...
 *   while (raft_ready(r, &rd)) {
 *       send rd.msgs               at once: what must wait for the disk is not in there yet
 *       write rd.entries and rd.hard_state as write rd.persist_seq, unless that is 0
 *       apply rd.committed, then raft_applied()
 *       raft_ready_done(r)
 *   }
 *   later, when the disk has them: raft_persisted(r, seq)
 *
 * States, and who makes each move:
 *
 *   FOLLOWER -> PRE_CANDIDATE    election timeout or raft_campaign(), with pre_vote; voters only
 *   FOLLOWER, CANDIDATE -> CANDIDATE    the same without pre_vote; TIMEOUT_NOW from the leader
 *   PRE_CANDIDATE -> CANDIDATE   a majority would vote for us
 *   CANDIDATE -> LEADER          a majority voted; our own vote counts once it is durable
 *   any -> FOLLOWER              a higher term, the leader of this term, or a majority against us;
 *                                a leader also when a majority is silent (check_quorum) or it
 *                                is no voter any more
 *
 * Invariants (raft_check() asserts them):
 * 1. applied <= given out <= commit <= last index; persisted <= written <= last index; what is
 *    given out was given to be written before, or is so in the same raft_ready().
 * 2. Nothing at or below the commit index is ever truncated.
 * 3. A vote, a vote request of our own, or the acknowledgement of an entry leaves this member only
 *    after the term, the vote or the entry it speaks of was reported by raft_persisted().
 * 4. The leader counts its own copy only once it is durable, but sends entries before that: two
 *    durable copies of three commit, whichever two they are.
 * 5. A leader commits by counting only entries of its own term (thesis, 3.6.2).
 *
 * 6. A change of membership is proposed only when all earlier ones are applied at the leader, and
 *    nobody stands for election with a committed change not applied. The last but one change in a
 *    log is therefore committed (conf.h).
 *
 * Limits: RAFT_VOTERS_MAX voters, RAFT_LEARNERS_MAX learners, RAFT_OUTBOX_MAX replies,
 * RAFT_FORWARD_MAX forwarded entries, RAFT_READS_MAX unconfirmed reads, RAFT_WRITES_MAX writes in
 * flight; bytes as in raft_options. What does not fit is dropped like a message on a bad network,
 * or refused with TV_EDROPPED.
 *
 * Thread: one owner, for everything here. Two members share nothing. */
#ifndef RAFT_RAFT_H
#define RAFT_RAFT_H

#include "raft/conf.h"

#include "base/bref.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RAFT_PEERS_MAX = 2 * RAFT_VOTERS_MAX + RAFT_LEARNERS_MAX + 1, /* members and this one */
    RAFT_OUTBOX_MAX = 4096,    /* replies and forwarded questions between two raft_ready() */
    RAFT_FORWARD_MAX = 16384,  /* entries a follower forwards between two raft_ready() */
    RAFT_READS_MAX = 65536,    /* read contexts that wait at the leader */
    RAFT_WRITES_MAX = 1024,    /* log writes not yet reported durable; then new ones wait */
    RAFT_COMMITTED_MAX = 8192, /* entries in one raft_ready.committed */
};

enum raft_entry_type {
    RAFT_ENTRY_NORMAL = 0,
    RAFT_ENTRY_CONF = 1, /* `data` is a raft_conf_change, see conf.h; one at a time */
    /* What is applied together with the last one of its kind. To raft they are as others, but only
     * a leader proposes them: they are not forwarded. */
    RAFT_ENTRY_PIECE_FIRST = 2,
    RAFT_ENTRY_PIECE = 3,
    RAFT_ENTRY_PIECE_LAST = 4,
};

/* `data` lies in `owner`, or in nothing when it is empty. raft takes a reference of its own on the
 * owner of an entry it keeps and never copies the bytes. */
struct raft_entry {
    uint64_t term;
    uint64_t log_index;
    enum raft_entry_type type;
    struct slice data;
    struct bref *owner; /* NULL only when `data` is empty */
};

/* What a member must remember across a crash beside the log. */
struct raft_hard_state {
    uint64_t term;
    uint64_t vote; /* 0 = none in this term */
    uint64_t commit;
};

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

enum raft_msg_type {
    RAFT_MSG_APPEND,
    RAFT_MSG_APPEND_REPLY,
    RAFT_MSG_HEARTBEAT,
    RAFT_MSG_HEARTBEAT_REPLY,
    RAFT_MSG_PRE_VOTE,
    RAFT_MSG_PRE_VOTE_REPLY,
    RAFT_MSG_VOTE,
    RAFT_MSG_VOTE_REPLY,
    RAFT_MSG_READ_INDEX,
    RAFT_MSG_READ_INDEX_REPLY,
    RAFT_MSG_PROPOSE,
    RAFT_MSG_TRANSFER_LEADER,
    RAFT_MSG_TIMEOUT_NOW,
    RAFT_MSG_TYPES_COUNT,
};

/* One message between members. Fields that a type does not name are 0 and ignored.
 *
 *   APPEND            log_index, log_term: the entry before `entries`; commit; context: read round
 *   APPEND_REPLY      log_index: durable and equal to the leader's log up to here; context: newest
 *                     round seen. reject: log_index as asked, (reject_hint, log_term) is the
 *                     newest entry of the follower that may match, commit what it has committed
 *   HEARTBEAT         commit: not above what the follower is known to have; context: read round
 *   HEARTBEAT_REPLY   log_index: as in APPEND_REPLY, 0 = nothing yet under this leader; context;
 *                     commit: of the follower
 *   PRE_VOTE, VOTE    log_index, log_term: the candidate's last entry; transfer: the leader asked
 *                     for this election. The term of PRE_VOTE is the one it would stand for
 *   *VOTE_REPLY       reject; log_index, log_term: the newest entry that is known to be committed
 *   READ_INDEX        context: the asker's. Has no term (0)
 *   READ_INDEX_REPLY  context, log_index; reject: ask again
 *   PROPOSE           entries, their term and log_index without meaning. Has no term (0)
 *   TRANSFER_LEADER   context: the voter that shall lead. Has no term (0)
 *   TIMEOUT_NOW       stand for election now */
struct raft_msg {
    enum raft_msg_type type;
    uint64_t from;
    uint64_t to;
    uint64_t term;
    uint64_t log_term;
    uint64_t log_index;
    uint64_t commit;
    uint64_t reject_hint;
    uint64_t context;
    bool reject;
    bool transfer;
    const struct raft_entry *entries;
    uint32_t entries_count;
};

/* Where entries come from that raft no longer keeps in memory.
 *
 * read() gives entries [lo, hi), at least one and at most *count, stopping after `bytes_max` of
 * data (the first entry always fits); *count becomes how many. Each `owner` comes with a reference
 * that raft gives up.
 * Errors: TV_EAGAIN: a read was begun, raft_entries_fetched() says when to ask again.
 *         TV_ECOMPACTED_LOG: `lo` is no longer kept; the follower needs a snapshot. */
struct raft_log_reader {
    void *ctx;
    int (*read)(void *ctx, uint64_t lo, uint64_t hi, size_t bytes_max,
                struct raft_entry *ret_entries, uint32_t *count);
};

struct raft_options {
    uint64_t id; /* not 0; need not be in `membership`: it may join yet, or be removed */
    /* As of applied_index; changes behind it are applied again. Empty: this member joins, and takes
     * no entries before a snapshot told it who the members are. */
    struct raft_membership membership;

    /* 10; real timeouts are drawn from above this up to 1.4 times this; without pre_vote, where two
     * who stand at once cost a term, from [this, 2 * this). */
    uint32_t election_timeout_ticks;
    uint32_t heartbeat_ticks; /* 1; below the election timeout */
    bool pre_vote;            /* true: ask before disturbing a term (thesis, 9.6) */
    bool check_quorum;        /* true: a leader that a majority does not answer steps down */
    /* false: reads are answered without asking anybody while a majority has heard of this leader
     * so recently that it elects no other (thesis, 6.4.1). Needs check_quorum, at every member this
     * option, clocks that run equally fast but for lease_margin_ticks per election timeout, and a
     * caller that gives the ticks that are due by the clock before any other input. A member that
     * was restarted does not vote for one election timeout then. */
    bool lease_reads;
    uint32_t lease_margin_ticks; /* 2; at most the election timeout - 2 */
    uint64_t seed;

    uint32_t inflight_msgs_max;   /* 512 appends to one follower that are not acknowledged */
    size_t inflight_bytes_max;    /* 64 MiB of them */
    size_t msg_bytes_max;         /* 1 MiB of entries in one message, but at least one entry */
    size_t log_window_bytes;      /* 32 MiB of applied entries kept in memory for followers */
    size_t log_tail_bytes;        /* 1 MiB of them when every follower has them already */
    size_t uncommitted_bytes_max; /* 256 MiB at the leader; then proposals are dropped */

    struct raft_log_reader reader; /* optional: without one, what left the window is compacted */

    /* What the disk gave at start. */
    struct raft_hard_state hard_state;
    uint64_t log_start_index; /* the entry before the first restored one; 0 = from the beginning */
    uint64_t log_start_term;
    uint64_t applied_index; /* entries up to here are not given out again; >= log_start_index */
};

/* Where one follower stands, seen from the leader. */
enum raft_progress_state {
    RAFT_PROGRESS_PROBE,     /* one append at a time until we know where the logs meet */
    RAFT_PROGRESS_REPLICATE, /* pipelined */
    RAFT_PROGRESS_SNAPSHOT,  /* needs a snapshot, or gets one; only heartbeats go there */
};

struct raft_progress {
    uint64_t id;
    bool voter;              /* of either half of a joint configuration */
    bool learner;            /* neither: this member, when it is not (any more) in the membership */
    bool active;             /* heard of since the last quorum check */
    bool snapshot_under_way; /* requested, and neither sent nor failed yet */
    uint64_t match_index;
    uint64_t next_index;
    enum raft_progress_state state;
};

/* A read asked for with `context` may be served once everything up to `log_index` is applied.
 * log_index 0: the question was refused (no leader any more); ask again. */
struct raft_read {
    uint64_t context;
    uint64_t log_index;
};

/* Everything here is borrowed until raft_ready_done(). */
struct raft_ready {
    /* To send now; may be lost, doubled and reordered. They do not wait for the write below. */
    const struct raft_msg *msgs;
    uint32_t msgs_count;

    /* ONE write: these entries replace everything in the log from the first one's index on (there
     * may be such entries after a change of leader), and the hard state if it changed. Writes
     * become durable in the order of their numbers. */
    uint64_t persist_seq; /* 0 = nothing to persist */
    const struct raft_entry *entries;
    uint32_t entries_count;
    struct raft_hard_state hard_state;
    bool hard_state_changed; /* never by a new commit index alone: that rides on the next write */

    /* To apply, in order. They are durable on a majority, perhaps not yet here, but no entry comes
     * here before it was in `entries`. */
    const struct raft_entry *committed;
    uint32_t committed_count;

    const struct raft_read *reads;
    uint32_t reads_count;

    /* Members to bring a snapshot to, see raft_snapshot_sent(); each comes here once. */
    const uint64_t *snapshot_requests;
    uint32_t snapshot_requests_count;
};

struct raft;

void raft_options_init(struct raft_options *o);
/* Options out of range are the caller's error and end in an assertion. */
struct raft *raft_new(const struct raft_options *o);
void raft_free(struct raft *r);

/* The entries read back from the log, from log_start_index + 1 on; once, before any other input,
 * also with none. Takes references, not the array. A log that has a gap, goes back in term, or ends
 * before the commit or applied index is broken durability and ends the process. */
void raft_restore(struct raft *r, const struct raft_entry *entries, uint32_t count);

/* --- inputs; between raft_ready() and raft_ready_done() only raft_applied() and raft_apply_conf()
 *     are allowed --- */

/* A message from a peer; borrowed during the call, references are taken on what is kept.
 * Senders that the membership does not know are heard too, where the protocol needs it: they may
 * know a newer one. That they belong to the cluster is for the caller to check.
 * Errors: TV_EINVAL: not to us, or what no correct member sends; nothing changed.
 *         TV_EDROPPED: could not be served now (a proposal without a leader). */
int raft_step(struct raft *r, const struct raft_msg *msg);

void raft_tick(struct raft *r);

/* Append at the leader, or forward to it; all or nothing. The entries' term and log_index are
 * ignored.
 * Owns:   on 0 raft holds its own references; on error none.
 * Errors: TV_EDROPPED: no leader, leadership is being transferred, or a limit is reached.
 *         TV_EBUSY: a change of membership while an earlier one, or what a new leader found in its
 *         log, is not applied here yet. A follower cannot know: such a change is dropped at the
 *         leader like a lost message, the other entries are not.
 *         TV_EINVAL: no such change can be made from the membership we have (or it is malformed).
 */
int raft_propose(struct raft *r, const struct raft_entry *entries, uint32_t count);

/* Ask for an index that a linearizable read may be served at (thesis, 6.4); it comes as a
 * raft_read. A question can be lost on the way to the leader: the caller asks again, with another
 * context.
 * Errors: TV_EDROPPED: no leader, or RAFT_READS_MAX wait. */
int raft_read_index(struct raft *r, uint64_t context);

/* Make `id` the leader (thesis, 3.10); a follower passes the wish on. Proposals are dropped until
 * it is done or an election timeout has passed.
 * Errors: TV_EINVAL: not another voter (a learner cannot lead). TV_EDROPPED: no leader. */
int raft_transfer_leader(struct raft *r, uint64_t id);

/* Stand for election now (with pre_vote: ask first). Nothing happens at a leader, at a member that
 * is no voter, while a committed change of membership waits to be applied, and, with lease_reads,
 * while a leader may rely on us. */
void raft_campaign(struct raft *r);
/* May this member stand for election? Yes to begin with. No: it votes, follows and, if it leads,
 * goes on leading, but neither a timeout nor a leader that wants to be relieved makes it stand. */
void raft_set_standing(struct raft *r, bool may_stand);

/* All writes up to `seq` are durable. */
void raft_persisted(struct raft *r, uint64_t seq);
/* Everything up to `log_index` is applied: it may leave memory. */
void raft_applied(struct raft *r, uint64_t log_index);
/* The reader that said TV_EAGAIN has what it was asked for. */
void raft_entries_fetched(struct raft *r);
/* Messages to `id` were lost: find out again what it has. */
void raft_peer_unreachable(struct raft *r, uint64_t id);
/* There is a connection to `id`: a leader is heard of at once, and not with the next heartbeat. */
void raft_peer_connected(struct raft *r, uint64_t id);
/* The connection to `id` broke. If it is the leader, do not wait for the election timeout: forget
 * it and stand soon, unless it is heard of again. A guess may be wrong: with pre_vote nothing
 * happens then. Nothing with lease_reads, which rely on the timeout. As etcd-io/raft's
 * ForgetLeader. With id 0: no leader is known and there is none to wait for, as after a start. */
void raft_leader_lost(struct raft *r, uint64_t id);

/* --- membership ---
 *
 * Whoever applies a RAFT_ENTRY_CONF calls raft_apply_conf() with what it decodes to, before the
 * raft_applied() of that entry; at a restart too, for entries behind applied_index. It may also
 * decide, from nothing but the log and the state, that the change shall not be made, and not call.
 *
 * A leader that is no voter any more steps down then, and asks the best follower to take over; the
 * commit index that told it so is on its way to the others already. A joint configuration with
 * auto_leave is left by an entry that the leader itself appends. */

/* Errors: as raft_membership_change(); nothing is changed, as at every other member. */
int raft_apply_conf(struct raft *r, const struct raft_conf_change *change);
/* As applied; borrowed until the next input. */
const struct raft_membership *raft_membership(const struct raft *r);

/* --- snapshots ---
 *
 * The leader: a follower needs entries that are no longer kept. It turns up in
 * raft_ready.snapshot_requests, once; from then on the caller has a snapshot under way to it, which
 * ends with one of these two, also when this member leads no more. The snapshot is any state of
 * applied entries: (applied index, its term, the membership as of then). The log behind that index
 * must be kept until it ends.
 *
 * The follower: raft_snapshot_is_wanted() before the state is replaced, then, in the same turn of
 * its owner and when the snapshot is durable, raft_install_snapshot() and wal_restart() (or the
 * like), before anything else is written to the log. The log ahead of the snapshot, also the writes
 * under way, are then void; the term and the vote in them are not. All that was given out to be
 * applied must be applied by then.
 * A crash in between leaves a log that does not have the entry (index, term): then the caller
 * restarts the log there before it calls raft_new(). */

/* The member has told that it installed a snapshot up to `log_index`. */
void raft_snapshot_sent(struct raft *r, uint64_t id, uint64_t log_index);
/* It did not get through. It is requested again when the member next answers a heartbeat. */
void raft_snapshot_failed(struct raft *r, uint64_t id);

/* False: the log has that entry already, or newer ones are committed; the caller throws the
 * snapshot away and tells the leader that it was installed. */
bool raft_snapshot_is_wanted(const struct raft *r, uint64_t log_index, uint64_t term);
/* The state is now that of the snapshot: the log is empty and goes on behind `log_index`, which is
 * committed and applied.
 * Errors: TV_EEXIST: not wanted. TV_EINVAL: numbers or membership that cannot be, or we lead;
 *         nothing changed. */
int raft_install_snapshot(struct raft *r, uint64_t log_index, uint64_t term,
                          const struct raft_membership *membership);

/* --- outputs --- */

/* False when there is nothing to do. */
bool raft_ready(struct raft *r, struct raft_ready *ret);
void raft_ready_done(struct raft *r);

uint64_t raft_id(const struct raft *r);
uint64_t raft_leader(const struct raft *r); /* 0 = not known */
uint64_t raft_term(const struct raft *r);
uint64_t raft_commit_index(const struct raft *r);
uint64_t raft_last_index(const struct raft *r);
/* This member's log, as it is now, is durable up to here. Not the same as the last entry on the
 * disk: after a change of leader the disk may hold others, which a write under way replaces. State
 * that outlives a crash (raft_options.applied_index) must not be ahead of this index. */
uint64_t raft_persisted_index(const struct raft *r);
enum raft_role raft_role(const struct raft *r);
/* All members, this one included, by ascending id, up to `max` (RAFT_PEERS_MAX is enough); how
 * many. Meaningful at the leader. */
uint32_t raft_progress(const struct raft *r, struct raft_progress *ret, uint32_t max);
/* For the metrics and the log: "leader", "append reply". Never NULL. */
const char *raft_role_name(enum raft_role role);
const char *raft_msg_type_name(enum raft_msg_type type);

/* Assert every invariant; its cost grows with the log. */
void raft_check(const struct raft *r);

#endif
