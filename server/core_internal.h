/* What the files of the core share; see core.h. core.c has the turn and the log, core_apply.c what
 * becomes of entries, core_read.c linearizable reads and questions to the leader, core_disk.c the
 * log's disk and its space, core_member.c the membership, core_propose.c the order of proposals,
 * core_pieces.c large ones in pieces, core_foster.c those that outlive a leader, core_lease.c how
 * long leases have left, core_copy.c copies of the store, core_version.c the cluster's version. */
#ifndef SERVER_CORE_INTERNAL_H
#define SERVER_CORE_INTERNAL_H

#include "server/core.h"
#include "server/pace.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/u64map.h"

enum { FOSTERED_MAX = 1024, FOSTERED_BYTES_MAX = 8 << 20 };

/* What somebody, this member too, wants to know of the leader. */
struct question {
    struct list link;
    uint64_t from;
    uint64_t term; /* in which we took it, leading */
    struct core_question msg;
};

/* Reads that wait together for one confirmation. */
struct read_batch {
    struct list link;
    struct list requests;
    struct list questions;
    uint64_t context;
    uint64_t log_index; /* 0 = not confirmed yet */
    uint64_t asked_ms;
    uint64_t deadline_ms;
};

/* Is there a connection to the member, and since when? */
struct core_link {
    uint64_t id;
    uint64_t since_ms;
};

/* A member that took a snapshot from us and lacks what came after it. */
struct core_newcomer {
    uint64_t id;
    uint64_t has; /* everything up to this entry */
    uint64_t progress_ms;
};

/* Proposals that wait for their turn, and what is under way of their kind; see core_propose.c. */
enum { PROPOSAL_SMALL, PROPOSAL_LARGE, PROPOSAL_LANES };

struct proposal_lane {
    struct list fresh; /* flows that had nothing waiting */
    struct list flows; /* the others, in turn */
    struct u64map flow_by_id;
    uint32_t connections; /* flows that are no member's */
    uint32_t waiting;
    uint32_t in_flight;
    size_t in_flight_bytes;
    uint32_t crowds;          /* flows with CROWD or more waiting */
    uint64_t shared_until_ms; /* somebody else asks, too, now and then */
    bool fresh_turn;
    bool rested;                 /* when what may go was looked for last */
    struct pace pace;            /* of small ones */
    const struct request *timed; /* the one in flight whose way is timed; NULL: none */
    uint64_t timed_from_ns;
    uint32_t timed_under_way;
    uint64_t crowded_until_ms; /* one had to wait for another */
    uint64_t took_ns;          /* the one that was timed last */
    uint64_t rest_until_ns;    /* 0: it never did */
};

/* The leader's: a request that it proposes in pieces; core_pieces.c. */
struct pieces {
    struct bref *payload; /* NULL: there is none */
    const uint8_t *data;
    uint32_t size;
    uint32_t proposed; /* so many bytes were */
    bool on_log;       /* the last one is not applied yet */
    uint64_t term;     /* in which it was begun */
    uint64_t request_id;
    uint64_t from_ns; /* the last one was proposed */
};

/* Of a request: twice what --max-request-bytes allows at most. */
#define ASSEMBLY_BYTES_MAX (UINT64_C(2) << 30)

/* Pieces that were applied, until theirs is whole. */
struct assembly {
    struct buf bytes;
    uint64_t term; /* 0: there are none */
};

struct core {
    struct core_options o;
    struct raft *raft;
    struct lessor *lessor;
    struct applier *applier;
    struct mvcc *mvcc;

    struct list incoming; /* submitted since the last turn */
    struct proposal_lane lanes[PROPOSAL_LANES];
    struct list unproposed;       /* their turn has come; raft may not take them yet: no leader */
    struct list proposals;        /* on the log */
    struct u64map proposal_by_id; /* those, and all guests */
    size_t proposals_count;       /* without guests */
    size_t guests_bytes;          /* not proposed yet */
    uint32_t window_epoch;
    bool window_moved;                        /* something ended since what waits had its turn */
    struct raft_entry fostered[FOSTERED_MAX]; /* other members' proposals, for the next leader */
    uint32_t fostered_count;
    size_t fostered_bytes;
    uint64_t fostered_until_ms;
    struct list reads_new;         /* barriers without a batch */
    struct list questions_new;     /* likewise */
    uint32_t questions_count;      /* in batches too, and of held_renewals */
    struct list held_renewals;     /* questions; core_lease.c */
    struct list read_batches;      /* oldest first */
    bool reads_ask_again;          /* there is a new leader */
    struct list scrub_waiters;     /* physical compactions */
    struct u64map questions_asked; /* token -> request, asked of the leader */
    struct list askers;            /* the same requests, oldest deadline first */
    struct list renewals;          /* of leases, gathered until the leader is asked */
    uint64_t renewals_asked_ms;    /* the last time */
    struct list movers;            /* want another leader; oldest deadline first */
    struct list changes;           /* of the membership, until they are applied; likewise */
    struct list copies;            /* want a copy of the store; likewise */

    struct core_link links[RAFT_PEERS_MAX]; /* to the other members */
    uint32_t links_count;
    uint64_t lost[RAFT_PEERS_MAX]; /* lost since raft was last told */
    uint32_t lost_count;
    bool may_stand;              /* as many are connected as elect a leader, and none is known */
    uint64_t version_checked_ms; /* core_version.c */
    uint64_t promoted_ms;        /* when we last proposed to promote a replacement */

    _Atomic uint64_t request_counter;
    struct list persist_waiting; /* batches whose entries are not durable in our log yet */
    uint32_t revokes_pending;

    uint64_t now_ms;
    uint64_t ticked_ms; /* lease_reads: raft's ticks are given up to here */
    uint64_t request_timeout_ms;
    uint64_t applied_index;
    uint64_t applied_term;
    uint64_t log_held; /* entries behind it are needed for a snapshot under way */
    struct core_newcomer newcomers[RAFT_PEERS_MAX];
    uint32_t newcomers_count;
    uint64_t leader;
    uint64_t led_since_ms; /* the last leader was elected */
    enum raft_role role;
    bool changed; /* something to publish */

    /* The log's disk: what it was asked to write and what it has written, by number. */
    uint64_t log_asked;
    uint64_t log_answered;
    uint32_t log_wait_ticks; /* since it last answered, while it is asked */
    uint32_t hand_over_at;   /* in log_wait_ticks */
    uint32_t election_ticks;
    bool disk_stalled;
    bool disk_low;
    uint64_t disk_retry_ms;
    _Atomic bool lacks_room;

    struct agree agree;
    struct agree_report verdict; /* the last one that we proposed */
    uint64_t agree_retry_ms;
    _Atomic bool fenced; /* we differ: these say how, and that the rest is to be done */
    bool fence_due;
    struct agree_report fence_verdict;
    uint64_t fence_own;

    bool scrubbing;
    uint64_t applied_ms;          /* when something was applied last */
    uint64_t scrub_rest_until_ns; /* 0: there is no more to do, or no rest */
    bool flush_due;               /* a scrub is through: RocksDB shall know soon */
    uint64_t flush_next_ms;

    /* The log's last entry at two moments, the younger one at `log_mark_ms`. */
    uint64_t log_mark;
    uint64_t log_mark_before;
    uint64_t log_mark_ms;
    uint64_t log_segment; /* the log's active one, seen first at `log_segment_ms` */
    uint64_t log_segment_ms;

    _Atomic uint32_t status_standing;
    _Atomic uint64_t status_leader;
    _Atomic uint64_t status_term;
    _Atomic uint64_t status_commit;
    _Atomic uint64_t status_applied;
    _Atomic uint64_t leader_changes;

    struct core_meters meters;
    uint64_t heartbeat_at_ms;    /* the last tick; 0: we did not lead */
    uint64_t compaction_from_ns; /* the scrub under way began; 0: there is none */

    struct pieces pieces; /* behind what every turn looks at */
    struct assembly assembly;
};

/* What one turn applied, on its way to RocksDB. */
struct persist_waiting {
    struct list link;
    uint64_t applied_index;
    struct persist_batch *batch;
};

/* The request is the worker's again. */
void core__answer(struct core *c, struct request *req, int err);
void core__answer_all(struct core *c, struct list *requests, int err);
/* Have we been connected to the member since then, or to as many as elect a leader? core_member.c
 */
bool core__linked_since(const struct core *c, uint64_t id, uint64_t since_ms);
bool core__quorum_linked_since(const struct core *c, uint64_t since_ms);
/* Those of a list, oldest deadline first, whose time is up; `by_id` and `count` may be NULL. */
void core__expire(struct core *c, struct list *requests, struct u64map *by_id, size_t *count,
                  int err);
/* Asked of raft itself: between two turns a message may have ended our term, and what a leader
 * alone may do would be forwarded to the next one. */
bool core__leading(const struct core *c);

/* --- core_apply.c --- */

void core__apply_committed(struct core *c, const struct raft_entry *entries, uint32_t count);
void core__submit_persist(struct core *c);
void core__drop_persist_waiting(struct core *c);
void core__scrub(struct core *c);
void core__flush_after_scrub(struct core *c);

/* --- core_meter.c --- */

uint64_t core__clock_ns(const struct core *c);
/* Entries that are applied one after the other: those that are cheap and alike are measured
 * together. begin, applied for each, end. */
struct apply_timing {
    uint64_t from_ns;
    enum meter_op op;
    uint32_t count[2]; /* by success; 0 both: nothing is open */
};
void core__timing_begin(struct core *c, struct apply_timing *t);
void core__timing_applied(struct core *c, struct apply_timing *t, uint32_t raft_kind, int err);
void core__timing_end(struct core *c, struct apply_timing *t);
void core__note_tick(struct core *c);
/* Once for a slice of a scrub. */
void core__note_scrub(struct core *c, uint64_t from_ns, uint64_t versions_before);
void core__note_scrub_done(struct core *c);

/* --- core_read.c --- */

/* May the one who asks about leases have what he asks for? 0, or why not. */
int core__permit_leases(struct core *c, const struct request *req);
/* Ask the leader what the request wants to know of it. */
void core__take_question(struct core *c, struct request *req);
void core__ask_renewals(struct core *c);
/* There is another leader: what the old one was asked may be lost. */
void core__ask_again(struct core *c);
void core__ask_read_index(struct core *c);
void core__confirm_reads(struct core *c, const struct raft_read *reads, uint32_t count);
void core__serve_reads(struct core *c);
void core__retry_reads(struct core *c);
/* What the old leader was asked, and will not answer, is asked of the new one at once. True:
 * something was. */
bool core__reads_follow_leader(struct core *c);
void core__drop_reads(struct core *c);

/* It is answered and freed; in no list. */
void core__answer_question(struct core *c, struct question *q);

/* --- core_lease.c --- */

/* At each tick: put on the log what is left of those leases of which it is time. */
void core__checkpoint_leases(struct core *c);
/* True: it waits in held_renewals, in no other list any more. */
bool core__hold_renewal(struct core *c, struct question *q);
/* In each turn: before raft's outputs, and after them. */
void core__clear_held(struct core *c);
void core__answer_held(struct core *c);

/* --- core_disk.c --- */

void core__watch_log_writes(struct core *c);
void core__tend_disk_space(struct core *c);
void core__cut_log(struct core *c);
/* Keep the log behind `log_index` for the member that has installed a snapshot of it. */
void core__hold_for_newcomer(struct core *c, uint64_t id, uint64_t log_index);

/* --- core_agree.c --- */

/* After each entry. */
void core__agree_applied(struct core *c);
/* In each turn, raft's outputs being done. */
void core__fence(struct core *c);
void core__tend_agreement(struct core *c);

/* --- core_member.c --- */

void core__take_change(struct core *c, struct request *req);
/* What the leader must be asked about the change. */
void core__change_question(const struct request *req, struct core_question *ret);
/* Its answer came. */
void core__change_answered(struct core *c, struct request *req, int err);
/* The leader's answers. */
int core__learner_readiness(const struct core *c, uint64_t id);
int core__member_absence(const struct core *c, uint64_t id);
void core__propose_changes(struct core *c);
void core__apply_conf(struct core *c, const struct raft_entry *e);
void core__tend_members(struct core *c);

/* --- core_propose.c --- */

void core__proposals_init(struct core *c);
void core__proposals_fini(struct core *c);
void core__take_proposal(struct core *c, struct request *req);
/* Does another member's message have proposals that are to wait for their turn here? */
bool core__has_guests(const struct core *c, const struct raft_msg *msg);
/* Take them; the rest, room for all of the message's, is to go on. How many those are. */
uint32_t core__take_guests(struct core *c, const struct raft_msg *msg, struct raft_entry *ret_rest);
void core__propose_waiting(struct core *c);
/* Something waits, and its turn may have come since. */
bool core__may_propose_more(const struct core *c);
/* Some wait, and rest: a turn is due when that is over. */
void core__propose_after_rest(struct core *c);
/* Somebody asks for something small. */
void core__note_small(struct core *c);
/* Somebody did lately. */
bool core__small_come(const struct core *c);
bool core__large_rest(const struct core *c);
void core__rest_after_piece(struct core *c, uint64_t took_ns, uint32_t size);
/* A part of the request was proposed, in vain. */
void core__propose_anew(struct core *c, uint64_t request_id);
/* The request of ours that asked for an entry, in no list by id any more; NULL when it is none. */
struct request *core__proposal_applied(struct core *c, uint64_t id);
/* What is under way may be lost. */
void core__forget_window(struct core *c);
void core__drop_unproposed(struct core *c, int err);
void core__expire_proposals(struct core *c);

/* --- core_pieces.c --- */

uint32_t core__piece_bytes(const struct core *c);
bool core__goes_in_pieces(const struct core *c, const struct request *req);
/* The request may end meanwhile: its pieces go on. */
void core__pieces_begin(struct core *c, const struct request *req);
void core__pieces_end(struct core *c);
/* There are pieces: the next one, when it is time. */
void core__propose_piece(struct core *c);
/* After each entry. */
void core__piece_applied(struct core *c, const struct raft_entry *e);
/* Before each entry, in their order: true when a request is to be applied there. It is valid until
 * the next FIRST piece is put together. */
bool core__assemble(struct core *c, const struct raft_entry *e, struct slice *ret_request);
/* What was applied last lies between two pieces of a request. */
bool core__assembles(const struct core *c);

/* --- core_copy.c --- */

void core__take_copy(struct core *c, struct request *req);
/* In each turn: those whose entries have reached the disk. */
void core__make_copies(struct core *c);

/* --- core_version.c --- */

void core__tend_version(struct core *c);

/* --- core_foster.c --- */

/* Keep what raft would not take. */
void core__foster(struct core *c, const struct raft_msg *msg);
void core__propose_fostered(struct core *c);
void core__drop_fostered(struct core *c);

#endif
