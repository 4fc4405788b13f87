/* The part of a disk that does not depend on how it is reached. */
#include "storage/disk.h"

#include "disk_posix.h"

#include "base/assert.h"
#include "base/err.h"

#include <string.h>

int disk_mode_parse(const char *name, enum disk_mode *ret_mode)
{
    if (strcmp(name, "auto") == 0)
        *ret_mode = DISK_AUTO;
    else if (strcmp(name, "uring") == 0)
        *ret_mode = DISK_URING;
    else if (strcmp(name, "sync") == 0)
        *ret_mode = DISK_SYNC;
    else
        return TV_EINVAL;
    return 0;
}

int disk_open(enum disk_mode mode, const char *dir, struct disk **ret, char *err_text,
              size_t err_size)
{
    if (mode == DISK_SYNC || mode == DISK_UNSYNCED)
        return disk_sync_open(dir, mode == DISK_UNSYNCED, ret, err_text, err_size);
    int rv = disk_uring_open(dir, ret, err_text, err_size);
    if (rv != TV_ENOTSUP || mode == DISK_URING)
        return rv;
    PROBE(disk_auto_without_uring);
    return disk_sync_open(dir, false, ret, err_text, err_size);
}
