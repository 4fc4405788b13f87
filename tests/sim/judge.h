/* The invariants that span members: what raft promises about all of their logs together.
 *
 *   election safety       at most one leader in a term; a member votes once in a term; nobody
 * stands in a new term before a majority would vote for it, or says that it would while it hears of
 * a leader log matching          an index and a term name one entry, and the same entries before it
 *   leader completeness   who leads has every committed entry
 *   state machine safety  the entry given out at an index is the same at every member
 *   durability            what is given out is durable on a majority; what is acknowledged is
 *                         durable at the member that says so, and still there when it restarts
 *   membership            the same at everyone after the same entry; one change at a time; a
 *                         majority is one of the voters by which the member goes that counts, of
 *                         both halves while there are two
 *
 * A member is who its id says. A place (struct member) whose data is lost holds another one
 * afterwards; the old one is remembered with what was durable there, for what it acknowledged may
 * still be on its way. */
#ifndef TESTS_SIM_JUDGE_H
#define TESTS_SIM_JUDGE_H

#include "base/u64map.h"
#include "raft/raft.h"
#include "state/cluster.h"
#include "storage/wal.h"

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct member;
struct sim;

enum { JUDGE_IDS_MAX = 64 };

/* What names an entry. */
struct judge_entry {
    uint64_t term;
    uint64_t hash;    /* of type and bytes */
    bool has_payload; /* goes to the applier; of a request in pieces the last one */
    bool is_conf;
    /* In judge.committed: of the member that gave it out first. It was committed in that term or
     * before. */
    uint64_t committed_term;
    uint64_t chain;        /* of the first member that applied it; 0: none did */
    uint64_t request_hash; /* of what is applied there */
};

/* A log as a row of entries, [0] unused. */
struct judge_log {
    struct judge_entry *entries;
    uint64_t last;
    uint64_t capacity;
};

/* Who was ever a member. */
struct judge_id {
    uint64_t id;
    uint32_t place;
    bool gone;            /* its data is, or it was removed and has ended */
    struct judge_log log; /* then: what it had */
    uint64_t durable;     /* and how much of it was durable */
};

/* Sets of members are bits 1 << place in `ids`. */
struct judge {
    struct judge_log committed; /* the first member's that gave each out */
    struct u64map by_place;     /* hash of (term, index) -> struct judge_place */
    struct u64map leaders;      /* term -> member + 1 */
    struct u64map votes;        /* (term, member) -> candidate's id */
    struct u64map pre_votes;    /* hash of (term, candidate) -> who would vote for it */
    struct u64map electors;     /* hash of (term, candidate) -> who voted for it */
    struct judge_id ids[JUDGE_IDS_MAX];
    uint32_t ids_count;
    struct cluster cluster;     /* the newest that any member has applied */
    uint64_t cluster_index;     /* with this entry */
    uint64_t conf_committed;    /* the last committed change of it, applied or not */
    struct buf pieces;          /* of the request whose last piece is not committed yet */
    uint64_t pieces_term;       /* 0: there is none */
    struct u64map memberships;  /* index -> hash of the record after that entry */
    struct u64map owed_a_voice; /* ids that took a voter's place */
};

/* What one member's log is known to hold. */
struct judge_member {
    uint32_t self;           /* in judge.ids */
    struct judge_log log;    /* as written to its log, durable or not */
    uint64_t durable_at_end; /* of its last life */
    struct wal_hard_state hs_written, hs_durable;
    struct judge_hs {
        uint64_t seq;
        struct wal_hard_state hs;
    } *hs_waiting; /* written and not durable */
    uint32_t hs_count, hs_capacity;
    uint64_t given_out; /* entries given out by raft in this life */
    uint64_t applied;   /* and applied */
    int64_t revision;   /* published */
    uint64_t term_max;
    uint64_t led_term;        /* the last term it led in */
    uint64_t commit_when_won; /* its commit index when it began to */
    /* What it knew to be committed, and by which membership it counted then: what is behind a
     * change may have been counted before that is applied, and be given out later. */
    uint64_t commit, commit_before;
    struct raft_membership commit_by, commit_before_by;
    uint64_t given_out_before; /* the last raft_ready() */
    uint64_t stood_term;       /* the last one it stood in, by this membership */
    struct raft_membership stood_by;
    uint64_t record_before; /* hash of its cluster record before the change at hand */
};

void judge_fini(struct judge *j);
void judge_member_fini(struct judge_member *jm);

/* --- who is who: judge_members.c --- */

/* The place is this new member from now on, without data. */
void judge_begin_as(struct member *m, uint64_t id);
/* Nothing of what it was is left. */
void judge_is_gone(struct member *m);
bool judge_is_majority(const struct judge *j, const struct raft_membership *m, uint64_t who);
void judge_begin_with(struct judge *j, const struct cluster *initial);
/* Around the application of a change. */
void judge_conf_before(struct member *m);
void judge_conf_applied(struct member *m, uint64_t index, struct slice data);
/* The member's record stands at this entry. */
void judge_membership(struct member *m, uint64_t index);
/* Is a change on its way in anybody's log? */
bool judge_change_is_pending(const struct sim *s);

/* --- logs and votes: judge.c --- */

/* The member's log is about to be given this. */
void judge_append(struct member *m, uint64_t seq, const struct wal_entry *entries, uint32_t count,
                  const struct wal_hard_state *hs);
void judge_durable(struct member *m, uint64_t seq);
/* The member's log goes on behind this entry, which a snapshot brought. */
void judge_restart_log(struct member *m, uint64_t log_index, uint64_t term);
/* raft goes on behind it; and so does the store. */
void judge_snapshot(struct member *m, uint64_t log_index, uint64_t term);
void judge_installed(struct member *m);
/* The member's log gives up what is up to this entry. */
void judge_cut(struct member *m, uint64_t log_index);
/* Its life is over; its log holds nothing more. */
void judge_end_of_life(struct member *m);
/* Has what was read back lost something that was durable? Else it is another, or all is there. */
bool judge_has_lost(const struct member *m, const struct judge_log *log,
                    const struct wal_hard_state *hs);
/* It has read its log back: `log` and `hs` are what it found. */
void judge_restored(struct member *m, struct judge_log *log, const struct wal_hard_state *hs,
                    uint64_t applied_index);
/* raft_ready() said this. */
void judge_ready(struct member *m, const struct raft *r, const struct raft_ready *rd);
/* The member sends this. */
void judge_send(struct member *m, const struct raft_msg *msg);
/* The applier is given the next entry that has bytes; its index. */
uint64_t judge_apply(struct member *m, struct slice payload);
/* It applied the entry, and its chain is this now: false when another member's was another one. */
bool judge_chain(struct member *m, uint64_t index, uint64_t chain);
/* Its store is about to hold everything up to this entry. */
void judge_stored(struct member *m, uint64_t applied_index, uint64_t applied_term);
/* What it read back from its store is what the log up to there makes. */
void judge_loaded(struct member *m);
/* It had, or had no, room on its disk when it looked. */
void judge_room(struct member *m, bool low);
/* Cheap ones after each event of a member, costly ones now and then. */
void judge_member(struct member *m);
void judge_costly(struct member *m);

/* A log that begins behind an entry counts as if it held everything committed up to there. */
void judge_log_start(const struct judge *j, struct judge_log *l, uint64_t log_index);
/* An entry of which only place and term were read. */
struct judge_entry judge_entry_known(struct member *m, uint64_t term, uint64_t log_index);
void judge_log_set(struct judge_log *l, uint64_t index, const struct judge_entry *e);
struct judge_entry judge_entry_of(uint64_t term, uint8_t type, struct slice data);

#endif
