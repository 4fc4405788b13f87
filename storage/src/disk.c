/* The part of a disk that does not depend on how it is reached. */
#include "storage/disk.h"

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
