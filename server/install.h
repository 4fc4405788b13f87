/* A snapshot of another member takes the place of this node's store, while the node runs.
 *
 * The order, and what a crash leaves (the store is data-dir/member/lsm):
 *
 *   1. the new database is whole, verified, fsynced and closed in lsm.incoming       old state
 *   2. lsm is renamed to lsm.old, the folder fsynced                                 old: put back
 *   3. lsm.incoming is renamed to lsm, the folder fsynced                            new
 *   4. the log is restarted behind the snapshot's entry, and fsynced                 new
 *   5. lsm.old is removed
 *
 * After a crash between 3 and 4 the log does not know the entry that the store stands at. The new
 * database holds the record "installed" with that entry's index, by which the next start knows this
 * from a log that lost something, and does step 4. */
#ifndef SERVER_INSTALL_H
#define SERVER_INSTALL_H

#include "storage/lsm.h"

struct node;

/* At the start, before the store in `lsm_dir` is opened: finish or undo what a crash interrupted,
 * remove leftovers. Errors: TV_EIO. */
int install_recover(const char *lsm_dir);
/* "installed" of the open store, 0 when there is none. */
uint64_t install_index(struct lsm *l);

/* For struct snapshots. */
struct persist_meta *install_own_metas(void *ctx, const struct lsm_meta *meta);
int install_snapshot(void *ctx, struct lsm_intake *in);

#endif
