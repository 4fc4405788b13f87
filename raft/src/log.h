/* The part of the log that is in memory: a ring of entries, addressed by log index.
 *
 *        base_index            last_index
 *   ......... | e e e e e e e e e |
 *   on disk     in the ring
 *
 * Invariants:
 * 1. Entries base_index + 1 .. last_index are in the ring, entry i in slot i modulo its capacity.
 * 2. Terms do not fall along the log; base_term is the term of the entry at base_index.
 * 3. The log holds one reference on the owner of each entry in the ring. */
#ifndef RAFT_SRC_LOG_H
#define RAFT_SRC_LOG_H

#include "raft/raft.h"

struct raft_log {
    struct raft_entry *ring;
    uint64_t capacity; /* a power of two */
    uint64_t base_index;
    uint64_t base_term;
    uint64_t last_index;
    uint64_t last_term;
    size_t bytes; /* of the entries in the ring, as raft__entry_bytes() counts */
};

void raft__log_init(struct raft_log *l, uint64_t base_index, uint64_t base_term);
void raft__log_fini(struct raft_log *l);

/* What an entry costs in memory or in a message. */
size_t raft__entry_bytes(const struct raft_entry *e);

/* Appends copies of the entries and takes references; their indexes follow the last one. Moves the
 * ring when it must grow: no pointer into it may be held. */
void raft__log_append(struct raft_log *l, const struct raft_entry *entries, uint32_t count);
/* Drops `from` and everything after it; from > base_index. */
void raft__log_truncate(struct raft_log *l, uint64_t from);
/* Drops everything; the log goes on behind an entry that is not here. */
void raft__log_reset(struct raft_log *l, uint64_t base_index, uint64_t base_term);
/* Forgets the oldest entries, none above `log_index_max`, until at most `bytes_max` are left. */
void raft__log_trim(struct raft_log *l, uint64_t log_index_max, size_t bytes_max);

/* The entry, which must be in the ring. */
const struct raft_entry *raft__log_at(const struct raft_log *l, uint64_t log_index);
/* False when the term is not known here: below base_index or above last_index. */
bool raft__log_term(const struct raft_log *l, uint64_t log_index, uint64_t *ret_term);
/* Entries from `lo` on that lie in one piece, none of `hi` or above; *ret_count may be 0. */
const struct raft_entry *raft__log_span(const struct raft_log *l, uint64_t lo, uint64_t hi,
                                        uint32_t *ret_count);

/* The largest index not above `log_index` whose term is known and not above `term`, and that term.
 * When there is none in memory: an index below base_index, with *ret_term 0 for unknown. */
uint64_t raft__log_newest_not_above(const struct raft_log *l, uint64_t log_index, uint64_t term,
                                    uint64_t *ret_term);

#endif
