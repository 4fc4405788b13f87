/* What snapshot.c has of restore.c. */
#ifndef CLIENT_CTL_RESTORE_H
#define CLIENT_CTL_RESTORE_H

#include "ctl.h"

extern const struct ctl_flag snapshot_restore_flags[];
int snapshot_status_run(struct ctl *c);
int snapshot_restore_run(struct ctl *c);

#endif
