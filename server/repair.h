/* What becomes of a member whose data is damaged.
 *
 * Damage is what a checksum, a number or a name says cannot be: a durable batch of the log or a
 * block of a table file that does not verify, a file that is missing, cut off, from elsewhere or
 * from another time. Nothing is served from it. A member must not come back under its id with less
 * than it acknowledged, so nothing is mended in place either:
 *
 *   --repair=refuse  the start ends with one line that says what is damaged and what can be done
 *   --repair=auto    the data is set aside, and the member starts as one that has none
 *
 * Setting aside, in this order, so that a crash at any point is continued by the next start:
 *
 *   1. the marker data-dir/repair says why; it and its name are durable
 *   2. the log's folder, when it lies elsewhere (--wal-dir), is renamed to <dir>.damaged
 *   3. data-dir/member is renamed to data-dir/member.damaged; what an earlier repair left there is
 *      removed before
 *   4. the marker is removed
 *
 * each followed by a sync of the folder that it changed. Damage found while running leaves the
 * marker and ends the process: the next start sets the data aside.
 *
 * Not set aside: what is no damage (a disk that does not answer, no room, a later version's data),
 * what an operator mixed up (etcd's data, another member's), and the data of a cluster of one:
 * there is nobody to repair it from.
 *
 * Owner: the core thread, but for repair_mark(). */
#ifndef SERVER_REPAIR_H
#define SERVER_REPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum repair_mode { REPAIR_AUTO, REPAIR_REFUSE };

/* "auto" or "refuse". TV_EINVAL otherwise. */
int repair_mode_parse(const char *text, enum repair_mode *ret_mode);

struct repair {
    enum repair_mode mode;
    const char *data_dir;
    const char *wal_dir;    /* "" = in data_dir/member */
    uint32_t members_count; /* of the cluster, as far as is known; 0 = it is not */
};

/* `what` names the damage, with file and offset. Says what is done about it, in one line.
 * 0: the data is set aside, and the start may begin anew. TV_ECORRUPT: it may not; nothing was
 * changed. TV_EIO: setting aside failed. */
int repair_set_aside(const struct repair *r, const char *what);

/* Before anything is opened: did an earlier run leave a marker? Its words go to `ret_what`. */
bool repair_is_marked(const struct repair *r, char *ret_what, size_t size);

/* Are folders missing that must be there together? TV_ECORRUPT with words in err_text: there is a
 * log, and the store is gone. */
int repair_check_folders(const char *lsm_dir, const char *wal_dir, char *err_text, size_t size);

/* Damage was found while running: durable when this returns, and the caller ends the process. A
 * failure is logged: then the next start has to find the damage by itself. Thread: any. */
void repair_mark(const char *data_dir, const char *what);

#endif
