/* What a member reads back at its start: the log behind what the store holds, and the ties between
 * leases and keys. Shared by the node and the simulator, so that both start the same way.
 *
 * Owner: the core thread. */
#ifndef SERVER_RESTORE_H
#define SERVER_RESTORE_H

#include "server/lease.h"

#include "raft/raft.h"
#include "storage/mvcc.h"
#include "storage/wal.h"

struct restore {
    uint64_t applied_index;     /* what the store holds: nothing up to here is kept */
    uint64_t applied_term;      /* of that entry; 0 = it is not compared with the log's */
    struct raft_entry *entries; /* behind it, in order; one reference each */
    uint32_t count;
    uint32_t capacity;
    struct raft_hard_state hard_state;
};

void restore_init(struct restore *r, uint64_t applied_index);
void restore_fini(struct restore *r);

/* What wal_open() is to be given; `r` is its context. */
struct wal_replay restore_replay(struct restore *r);
/* After wal_open(): do the log and the store belong together? The store may be ahead of the hard
 * state's commit index, which is written rarely: it is raised. TV_ECORRUPT: there is a gap between
 * the two, the log ends before what the store holds, or holds another entry in its place. */
int restore_check(struct restore *r, const struct wal *w);

/* After wal_open(), before restore_check(): the store took a snapshot's place up to entry
 * `installed_index` (0 = never), and the crash came before the log was restarted there: do that
 * now. What the log holds then is void, but for its term and vote. */
void restore_finish_install(struct restore *r, struct wal *w, uint64_t installed_index,
                            uint64_t applied_term);

/* Which keys hang on which lease is not stored: the keys say it. The leases are there already. */
void restore_lease_keys(struct lessor *l, struct mvcc *m);

#endif
