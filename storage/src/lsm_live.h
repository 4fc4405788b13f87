/* The versions below a compaction that stay, as a sorted list: all others there are garbage. To ask
 * the list costs no look for the key in the store, and it stays right when the store goes on.
 *
 * It is whole, or there is none: whoever left out a tombstone, but not all that it deletes, would
 * bring that back. */
#ifndef STORAGE_LSM_LIVE_H
#define STORAGE_LSM_LIVE_H

#include "storage/mvcc.h"

struct lsm_live_item {
    uint32_t main[2]; /* high, low */
    uint32_t sub;
};

/* 12 bytes for each key, and as much again while they are sorted. */
struct lsm_live {
    int64_t rev; /* the compaction */
    struct lsm_live_item *items;
    size_t count;
    size_t capacity;
};

/* What the compaction `rev` keeps below `rev`. `go_on` is asked every thousand keys.
 * Thread: any that may be a reader of `m`; takes some 0.3 s for a million keys.
 * Owns:   on 0 *ret is the caller's until lsm__live_free().
 * Errors: TV_COMPACTED: the store is beyond `rev`. TV_EBUSY: too many readers, or `go_on` said no.
 */
int lsm__live_gather(struct mvcc *m, int64_t rev, bool (*go_on)(void *ctx), void *ctx,
                     struct lsm_live *ret);
void lsm__live_free(struct lsm_live *live);

/* Is it in the list? *at, 0 at first, is where the last question ended: questions in ascending
 * order cost little. */
bool lsm__live_has(const struct lsm_live *live, size_t *at, int64_t main, uint32_t sub);

#endif
