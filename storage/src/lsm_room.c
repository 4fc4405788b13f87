/* Room on the disk for the database.
 *
 * RocksDB writes some kilobytes at each opening (a manifest, its options) and does not survive to
 * find no room for them, nor for a commit. So before anything is tried somebody looks; and a file
 * of nothing, made while there was room, gives its own back to an opening on a full disk. */
#include "lsm_internal.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    OPENING_BYTES = 1 << 20, /* beyond what the manifest of thousands of files takes */
    SPARE_BYTES = 8 << 20,   /* others may take a step of it at each opening on a full disk */
    SPARE_STEP_BYTES = 64 << 10,
    COMMIT_BYTES = 32 << 20,
};

#define SPARE_NAME "spare"

uint64_t lsm__room_bytes(const struct lsm *l)
{
    struct statvfs s;
    return statvfs(l->dir, &s) == 0 ? (uint64_t)s.f_bavail * s.f_frsize : UINT64_MAX;
}

bool lsm__has_room_to_commit(const struct lsm *l)
{
    return lsm__room_bytes(l) >= COMMIT_BYTES;
}

static int open_spare(const struct lsm *l, int flags)
{
    char path[LSM_PATH_BYTES_MAX];
    (void)snprintf(path, sizeof(path), "%s/" SPARE_NAME, l->dir); /* fits: lsm_open() looks */
    return open(path, O_WRONLY | O_CLOEXEC | flags, 0600);
}

int lsm__room_to_open(const struct lsm *l, char *err_text, size_t err_text_size)
{
    if (lsm__room_bytes(l) >= OPENING_BYTES)
        return 0;
    int fd = open_spare(l, O_TRUNC);
    if (fd >= 0)
        (void)close(fd);
    if (lsm__room_bytes(l) >= OPENING_BYTES)
        return 0;
    (void)snprintf(err_text, err_text_size, "%.300s: %s: opening takes %d KiB", l->dir,
                   strerror(ENOSPC), OPENING_BYTES >> 10);
    return TV_ENOSPC;
}

/* Smaller where there is not room for all of it, and whole again later. */
void lsm__keep_spare(struct lsm *l)
{
    if (l->spare_is_whole)
        return;
    int fd = open_spare(l, O_CREAT);
    if (fd < 0)
        return; /* tried again */
    off_t had = lseek(fd, 0, SEEK_END), bytes = SPARE_BYTES;
    uint64_t room = lsm__room_bytes(l);
    if (room < SPARE_BYTES && had + (off_t)room < SPARE_BYTES)
        bytes = (had + (off_t)room) / SPARE_STEP_BYTES * SPARE_STEP_BYTES;
    while (bytes > had && posix_fallocate(fd, 0, bytes) != 0) {
        (void)!ftruncate(fd, had); /* what a failed one took */
        bytes -= SPARE_STEP_BYTES;
    }
    l->spare_is_whole = bytes == SPARE_BYTES;
    (void)close(fd);
}
