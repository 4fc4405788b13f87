/* Do the members still hold the same? A pure piece of the core: entries and reports go in; what to
 * put on the log, what to send, and "I differ" come out. It asks no clock and sends nothing itself.
 *
 * Every member keeps a chain: a 64-bit hash over what each entry did, in the order of the log
 * (agree_step). It is stored with the state it belongs to and goes with snapshots. Beside it stands
 * the sum over all versions that are kept (struct mvcc_content), which also sees what became of old
 * ones. Both are equal wherever the same prefix of the log was applied.
 *
 *   MARK (by the leader, now and then)  -> every member that applies it notes its digest of the two
 *                                          there, and reports it to the leader once its scrub has
 *                                          settled the sum
 *   a majority of voters with one digest -> VERDICT (by the leader): the mark and the digest
 *   VERDICT, applied by a member that noted the mark: equal, or it differs and must not serve
 *
 * Nothing stops for this, and a member that noted no such mark (it was restarted, took a snapshot,
 * or its sum did not settle before the next compaction) passes the round over. Without a majority
 * of one mind there is no verdict, and it is said.
 *
 * Owner: the core thread. */
#ifndef SERVER_AGREE_H
#define SERVER_AGREE_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    AGREE_MARKS_MAX = 4, /* noted at once; older ones are forgotten */
    AGREE_REPORTS_MAX = 16,
    AGREE_PACE_MS = 5000,      /* a mark so often, */
    AGREE_PACE_ENTRIES = 1000, /* when so much was applied since the last one, */
    AGREE_IDLE_MS = 30000,     /* or so often, when anything was */
};

/* What an entry did. */
struct agree_entry {
    uint32_t kind;
    int32_t err;
    int64_t revision;  /* after it */
    uint64_t added;    /* the sum of the hashes of the versions that it made */
    struct slice body; /* of an entry that changes something beside the key space; else empty */
};
uint64_t agree_step(uint64_t chain, const struct agree_entry *e);

struct agree_report {
    uint64_t mark; /* the MARK's place in the log */
    uint64_t digest;
};

struct agree_mark {
    uint64_t mark; /* 0: none */
    uint64_t chain;
    uint64_t added; /* see agree_settle() */
    int64_t compacted;
    bool settled;
    uint64_t digest;
};

struct agree {
    uint64_t member_id;
    struct agree_mark marks[AGREE_MARKS_MAX]; /* newest first */
    uint64_t applied_since; /* entries that were neither marks nor verdicts, since the last mark */
    uint64_t last_ms;
    /* What the members reported of the newest mark. Kept by whoever leads; a new leader waits for
     * the next mark. */
    struct agree_report reports[AGREE_REPORTS_MAX];
    uint64_t reporters[AGREE_REPORTS_MAX];
    uint32_t reports_count;
    bool judged; /* a verdict on it is on its way, or there can be none */
};

void agree_init(struct agree *a, uint64_t member_id);
/* All that was applied is void: a snapshot took its place. */
void agree_forget(struct agree *a);

/* An entry other than a mark or a verdict was applied. */
void agree_applied(struct agree *a);
/* A MARK was applied. `added` is the sum over all versions that ever came in, `compacted` the last
 * compaction. */
void agree_marked(struct agree *a, uint64_t mark, uint64_t chain, uint64_t added, int64_t compacted,
                  uint64_t now_ms);
/* The sum is settled for the compaction `settled`, which took away `dropped` of all that came in;
 * `compacted` is the last compaction. True: *ret is to be reported to the leader. Again until it is
 * false. */
bool agree_settle(struct agree *a, int64_t settled, uint64_t dropped, int64_t compacted,
                  struct agree_report *ret);

/* --- the leader's --- */

bool agree_wants_mark(const struct agree *a, uint64_t now_ms);
/* From a member, this one too. */
void agree_reported(struct agree *a, uint64_t from, const struct agree_report *r);
enum agree_outcome {
    AGREE_OPEN,    /* not yet, or already judged */
    AGREE_VERDICT, /* *ret is what a majority of the voters reported */
    AGREE_NONE,    /* all voters reported, and no majority is of one mind */
};
/* After agree_reported(). */
enum agree_outcome agree_judge(struct agree *a, const uint64_t *voters, uint32_t voters_count,
                               struct agree_report *ret);
/* Members whose report on the newest mark is another one; how many. */
uint32_t agree_differing(const struct agree *a, const struct agree_report *verdict,
                         uint64_t ret_ids[AGREE_REPORTS_MAX]);

/* A VERDICT was applied. True: this member differs; *ret_own is what it has. */
bool agree_differs(const struct agree *a, const struct agree_report *verdict, uint64_t *ret_own);

#endif
