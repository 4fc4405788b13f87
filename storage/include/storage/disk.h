/* The interface by which the log reaches a disk. */
#ifndef STORAGE_DISK_H
#define STORAGE_DISK_H

enum disk_mode { DISK_AUTO, DISK_URING, DISK_SYNC };

/* "auto", "uring" or "sync"; TV_EINVAL for anything else. */
int disk_mode_parse(const char *name, enum disk_mode *ret_mode);

#endif
