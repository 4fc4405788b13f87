/* Files, the directory and the chores of the real disks.
 *
 * Order of durability, for each chore: the file's bytes (fsync of the file), then its name (rename,
 * fsync of the directory), then `done`. A new file is written under a temporary name, so that no
 * crash leaves a file whose blocks are half prepared under a name that counts.
 *
 * Locks against a process before us: the directory is locked without waiting, so a living second
 * process is refused; each file is locked with waiting, because a write that a killed process left
 * in the kernel still holds that file's lock and must land before we read.
 *
 * Threads: the owner; and one of ours that does the chores. */
#include "disk_posix.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PREPARE_NAME "prepare.tmp"
#define PROBE_NAME "probe"

enum {
    ZEROS_BYTES = 256 << 10,
    PAUSE_NS_MAX = 100000000,
};

/* --- the chores' thread --- */

static int sync_dir(struct disk_posix *p)
{
    return p->unsynced || fsync(p->dir_fd) == 0 ? 0 : -errno;
}

static int write_all(int fd, uint64_t offset, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t count = pwrite(fd, data, size, (off_t)offset);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 ? -errno : -EIO;
        data += count;
        size -= (size_t)count;
        offset += (uint64_t)count;
    }
    return 0;
}

/* A pause three times as long as what went before took. */
static void give_way(const struct disk_chore *req, uint64_t began_ns)
{
    uint64_t pause_ns = 3 * (clock_mono_ns() - began_ns);
    if (pause_ns > PAUSE_NS_MAX)
        pause_ns = PAUSE_NS_MAX;
    if (!atomic_load_explicit(&req->hurry, memory_order_relaxed))
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)pause_ns}, NULL);
}

/* Blocks that are allocated but never written cost a metadata change at their first write, which
 * O_DSYNC waits for: hence the zeros. */
static int fill_zeros(struct disk_posix *p, int fd, const struct disk_chore *req)
{
    uint64_t size = req->size;
    int rv = fallocate(fd, 0, 0, (off_t)size) == 0 ? 0 : -errno;
    if (rv != 0 && rv != -EOPNOTSUPP && rv != -ENOSYS)
        return rv;
    uint8_t *zeros = mem_alloc_aligned(DISK_BLOCK_BYTES, ZEROS_BYTES);
    memset(zeros, 0, ZEROS_BYTES);
    rv = 0;
    for (uint64_t at = 0; at < size && rv == 0; at += ZEROS_BYTES) {
        uint64_t left = size - at, began_ns = clock_mono_ns();
        rv = write_all(fd, at, zeros, left < ZEROS_BYTES ? (size_t)left : ZEROS_BYTES);
        give_way(req, began_ns);
    }
    mem_free(zeros);
    if (rv == 0 && !p->unsynced && fsync(fd) != 0)
        rv = -errno;
    return rv;
}

static int make_zero_file(struct disk_posix *p, const char *name, const struct disk_chore *req)
{
    int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
    int fd = openat(p->dir_fd, name, flags | (p->open_flags & O_DIRECT), 0600);
    if (fd < 0)
        return -errno;
    int rv = fill_zeros(p, fd, req);
    close(fd);
    if (rv != 0)
        (void)unlinkat(p->dir_fd, name, 0); /* what it took of a full disk */
    return rv;
}

static int move_file(struct disk_posix *p, const char *from, const char *to)
{
    if (renameat(p->dir_fd, from, p->dir_fd, to) != 0)
        return -errno;
    return sync_dir(p);
}

static int do_chore(struct disk_posix *p, const struct disk_chore *req)
{
    int rv;
    switch (req->kind) {
    case DISK_PREPARE:
        rv = make_zero_file(p, PREPARE_NAME, req);
        return rv != 0 ? rv : move_file(p, PREPARE_NAME, req->name);
    case DISK_RENAME:
        return move_file(p, req->name, req->to);
    case DISK_UNLINK:
        if (unlinkat(p->dir_fd, req->name, 0) != 0 && errno != ENOENT)
            return -errno;
        return sync_dir(p);
    }
    return -EINVAL;
}

static void *chores_main(void *arg)
{
    struct disk_posix *p = arg;
    (void)pthread_setname_np(pthread_self(), "disk-chores");
    (void)pthread_mutex_lock(&p->lock);
    for (;;) {
        while (list_is_empty(&p->chores) && !p->stopping)
            (void)pthread_cond_wait(&p->more, &p->lock);
        if (list_is_empty(&p->chores))
            break;
        struct disk_chore *req = CONTAINER_OF(p->chores.next, struct disk_chore, link);
        list_remove(&req->link);
        (void)pthread_mutex_unlock(&p->lock);
        req->err = do_chore(p, req);
        (void)pthread_mutex_lock(&p->lock);
        list_push_back(&p->chores_done, &req->link);
        disk_posix_wake(p);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

void disk_posix_chore(struct disk *d, struct disk_chore *req)
{
    struct disk_posix *p = (struct disk_posix *)d;
    p->chores_under_way++;
    (void)pthread_mutex_lock(&p->lock);
    list_push_back(&p->chores, &req->link);
    (void)pthread_cond_signal(&p->more);
    (void)pthread_mutex_unlock(&p->lock);
}

uint32_t disk_posix_report_chores(struct disk_posix *p)
{
    if (p->chores_under_way == 0)
        return 0;
    struct list done;
    list_init(&done);
    (void)pthread_mutex_lock(&p->lock);
    list_splice_back(&done, &p->chores_done);
    (void)pthread_mutex_unlock(&p->lock);

    uint32_t count = 0;
    while (!list_is_empty(&done)) {
        struct disk_chore *req = CONTAINER_OF(done.next, struct disk_chore, link);
        list_remove(&req->link);
        p->chores_under_way--;
        count++;
        req->done(req, req->err);
    }
    return count;
}

void disk_posix_wake(struct disk_posix *p)
{
    uint64_t one = 1;
    ssize_t rv = write(p->event_fd, &one, sizeof(one));
    (void)rv; /* fails only when the counter is full, and then the owner is awake */
}

void disk_posix_take_event(struct disk_posix *p, bool wait)
{
    if (wait) {
        struct pollfd pfd = {.fd = p->event_fd, .events = POLLIN};
        (void)poll(&pfd, 1, -1);
    }
    uint64_t count;
    ssize_t rv = read(p->event_fd, &count, sizeof(count));
    (void)rv; /* EAGAIN: nothing had been signalled */
}

int disk_posix_fd(struct disk *d)
{
    return ((struct disk_posix *)d)->event_fd;
}

/* --- files --- */

int disk_posix_open_file(struct disk *d, const char *name, struct disk_file **ret)
{
    struct disk_posix *p = (struct disk_posix *)d;
    int fd = openat(p->dir_fd, name, O_RDWR | O_CLOEXEC | p->open_flags);
    if (fd < 0)
        return -errno;
    int rv;
    do {
        rv = flock(fd, LOCK_EX);
    } while (rv != 0 && errno == EINTR);
    if (rv != 0) {
        rv = -errno;
        close(fd);
        return rv;
    }
    struct disk_file *f = mem_alloc(sizeof(*f));
    f->fd = fd;
    *ret = f;
    return 0;
}

void disk_posix_close_file(struct disk_file *f)
{
    close(f->fd);
    mem_free(f);
}

int disk_posix_file_size(struct disk_file *f, uint64_t *ret_bytes)
{
    struct stat st;
    if (fstat(f->fd, &st) != 0)
        return -errno;
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

ssize_t disk_posix_read(struct disk_file *f, uint64_t offset, void *data, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t count = pread(f->fd, (uint8_t *)data + got, size - got, (off_t)(offset + got));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        if (count == 0)
            break;
        got += (size_t)count;
    }
    return (ssize_t)got;
}

int disk_posix_sync_file(struct disk_file *f)
{
    return fdatasync(f->fd) == 0 ? 0 : -errno;
}

int disk_posix_list(struct disk *d, void (*each)(void *ctx, const char *name), void *ctx)
{
    struct disk_posix *p = (struct disk_posix *)d;
    int fd = openat(p->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int rv = -errno;
        close(fd);
        return rv;
    }
    struct dirent *de;
    int rv = 0;
    while (errno = 0, (de = readdir(dir)) != NULL) {
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
            each(ctx, de->d_name);
    }
    if (errno != 0)
        rv = -errno;
    closedir(dir);
    return rv;
}

/* The file stays: on a disk that is full by the next start there would be no room for another. */
int disk_posix_probe_file(struct disk_posix *p, int flags)
{
    struct disk_chore chore = {.size = DISK_PROBE_BYTES, .hurry = true};
    struct stat st;
    if (fstatat(p->dir_fd, PROBE_NAME, &st, 0) != 0 || st.st_size != DISK_PROBE_BYTES) {
        int rv = make_zero_file(p, PROBE_NAME, &chore);
        if (rv != 0)
            return rv;
    }
    int fd = openat(p->dir_fd, PROBE_NAME, O_RDWR | O_CLOEXEC | flags);
    return fd >= 0 ? fd : -errno;
}

/* --- life --- */

/* The directory's own name must survive a crash as well. */
static int make_dir(const char *dir)
{
    if (mkdir(dir, 0700) != 0)
        return errno == EEXIST ? 0 : -errno;
    size_t size = strlen(dir);
    while (size > 1 && dir[size - 1] == '/')
        size--;
    while (size > 0 && dir[size - 1] != '/')
        size--;
    char *parent = size == 0 ? mem_strdup(".") : mem_dup(dir, size + 1);
    if (size > 0)
        parent[size] = '\0';
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mem_free(parent);
    if (fd < 0)
        return -errno;
    int rv = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return rv;
}

static int open_dir(struct disk_posix *p, const char *dir, char *err_text, size_t err_size)
{
    int rv = make_dir(dir);
    if (rv != 0) {
        (void)snprintf(err_text, err_size, "cannot make directory %s: %s", dir, strerror(-rv));
        return TV_EIO;
    }
    p->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->dir_fd < 0) {
        (void)snprintf(err_text, err_size, "cannot open directory %s: %s", dir, strerror(errno));
        return TV_EIO;
    }
    if (flock(p->dir_fd, LOCK_EX | LOCK_NB) != 0) {
        (void)snprintf(err_text, err_size, "cannot lock directory %s: %s", dir,
                       errno == EWOULDBLOCK ? "another process uses it" : strerror(errno));
        close(p->dir_fd);
        return TV_EBUSY;
    }
    return 0;
}

int disk_posix_init(struct disk_posix *p, const char *dir, char *err_text, size_t err_size)
{
    int rv = open_dir(p, dir, err_text, err_size);
    if (rv != 0)
        return rv;
    p->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->event_fd < 0) {
        (void)snprintf(err_text, err_size, "cannot make an eventfd: %s", strerror(errno));
        close(p->dir_fd);
        return TV_EIO;
    }
    p->open_flags = 0;
    p->d.dir = mem_strdup(dir);
    p->chores_under_way = 0;
    list_init(&p->chores);
    list_init(&p->chores_done);
    p->stopping = false;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->more, NULL);
    if (pthread_create(&p->chores_thread, NULL, chores_main, p) != 0)
        tv_fatal("cannot start a thread for the disk");
    return 0;
}

void disk_posix_fini(struct disk_posix *p)
{
    ASSERT(p->chores_under_way == 0);
    (void)pthread_mutex_lock(&p->lock);
    p->stopping = true;
    (void)pthread_cond_signal(&p->more);
    (void)pthread_mutex_unlock(&p->lock);
    (void)pthread_join(p->chores_thread, NULL);
    (void)pthread_cond_destroy(&p->more);
    (void)pthread_mutex_destroy(&p->lock);
    close(p->event_fd);
    close(p->dir_fd);
    mem_free(p->d.dir);
}
