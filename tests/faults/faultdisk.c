/* A disk that fails on command, for a program that writes through libc (trivetd --wal-io=sync):
 * LD_PRELOAD it, with FAULTDISK_CONTROL naming a file of 8 bytes. The first byte says what happens
 * to writes and syncs of regular files below FAULTDISK_DIR:
 *
 *   0  nothing
 *   w  writes fail with EIO
 *   s  fsync, fdatasync and sync_file_range fail with EIO
 *   d  all of these take as many milliseconds longer as the 32-bit number at byte 4 says
 *   h  half of a write is written, then it fails with EIO
 *
 * Byte 1 counts, up to 255, the calls that were failed or delayed: a test sees that it took place.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static volatile uint8_t *control;
static const char *dir;

__attribute__((constructor)) static void faultdisk_init(void)
{
    const char *path = getenv("FAULTDISK_CONTROL");
    dir = getenv("FAULTDISK_DIR");
    if (path == NULL || dir == NULL)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        abort();
    void *map = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        abort();
    (void)close(fd); /* the mapping stays */
    control = map;
}

static int is_ours(int fd)
{
    char link[64], path[4096];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    if (size <= 0)
        return 0;
    path[size] = 0;
    return strncmp(path, dir, strlen(dir)) == 0;
}

static void took_place(void)
{
    if (control[1] < 255)
        control[1]++;
}

/* What is to happen to this call: 0, or one of `kinds`. Delays are served here. */
static int fate(int fd, const char *kinds)
{
    if (control == NULL || control[0] == 0)
        return 0;
    int mode = control[0];
    if (mode != 'd' && strchr(kinds, mode) == NULL)
        return 0;
    int saved = errno;
    int ours = is_ours(fd);
    errno = saved;
    if (!ours)
        return 0;
    took_place();
    if (mode != 'd')
        return mode;
    uint32_t ms;
    memcpy(&ms, (const uint8_t *)(uintptr_t)control + 4, sizeof(ms));
    struct timespec pause = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)nanosleep(&pause, NULL);
    errno = saved;
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAILED() (errno = EIO, -1)

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    int mode = fate(fd, "wh");
    if (mode == 'h')
        (void)REAL(pwrite64)(fd, data, size / 2, at); /* what it returns is nobody's business */
    return mode != 0 ? FAILED() : REAL(pwrite64)(fd, data, size, at);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return pwrite64(fd, data, size, at);
}

/* With RWF_DSYNC this is a sync as well; the kernel may write and then fail to sync. */
EXPORT ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags)
{
    int mode = fate(fd, (flags & RWF_DSYNC) != 0 ? "whs" : "wh");
    if (mode == 's')
        (void)REAL(pwritev64v2)(fd, parts, count, at, 0); /* as above */
    if (mode == 'h')
        (void)REAL(pwrite64)(fd, parts[0].iov_base, parts[0].iov_len / 2, at);
    return mode != 0 ? FAILED() : REAL(pwritev64v2)(fd, parts, count, at, flags);
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags)
{
    return pwritev64v2(fd, parts, count, at, flags);
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at)
{
    return fate(fd, "wh") != 0 ? FAILED() : REAL(pwritev64)(fd, parts, count, at);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    return pwritev64(fd, parts, count, at);
}

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    return fate(fd, "wh") != 0 ? FAILED() : REAL(write)(fd, data, size);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return fate(fd, "wh") != 0 ? FAILED() : REAL(writev)(fd, parts, count);
}

EXPORT int fsync(int fd)
{
    return fate(fd, "s") != 0 ? FAILED() : REAL(fsync)(fd);
}

EXPORT int fdatasync(int fd)
{
    return fate(fd, "s") != 0 ? FAILED() : REAL(fdatasync)(fd);
}

EXPORT int sync_file_range(int fd, off64_t at, off64_t size, unsigned flags)
{
    return fate(fd, "s") != 0 ? FAILED() : REAL(sync_file_range)(fd, at, size, flags);
}
