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
 * from a log that lost something, and does step 4.
 *
 * The order is in install.c and does not know what a database or a folder is; that is
 * install_folders.c, or a simulator's. */
#ifndef SERVER_INSTALL_H
#define SERVER_INSTALL_H

#include "state/records.h"
#include "storage/lsm.h"

struct node;

enum install_part { INSTALL_STORE, INSTALL_OLD, INSTALL_INCOMING, INSTALL_PARTS_COUNT };

/* Where a node's store is. Thread: the core's. */
struct install_place {
    void *ctx;
    bool (*exists)(void *ctx, enum install_part part);
    /* What is in `from` is in `to`, where nothing was; durable on return. Errors: TV_EIO. */
    int (*move)(void *ctx, enum install_part from, enum install_part to);
    /* It need not exist. */
    void (*remove)(void *ctx, enum install_part part);
    /* The store is open in INSTALL_STORE: let go of it; open what is there now, and say on what
     * struct persist is to stand. A store that does not open ends the process. */
    void (*close)(void *ctx);
    void (*open)(void *ctx, struct persist_options *ret);
};

/* At the start, before the store is opened: finish or undo what a crash interrupted, remove
 * leftovers. Errors: TV_EIO. */
int install_recover(const struct install_place *p);

/* For struct snapshots. */
struct persist_meta *install_own_metas(void *ctx, const struct lsm_meta *meta);
int install_snapshot(void *ctx, struct lsm_intake *in);

/* --- RocksDB's folders --- */

/* The place of the node's store, by n->lsm_dir and n->lsm. */
struct install_place install_folders(struct node *n);
/* "installed" of the open store, 0 when there is none. */
uint64_t install_index(struct lsm *l);

#endif
