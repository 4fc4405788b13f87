/* The disk by a thread: pwritev2 with RWF_DSYNC, or pwrite and fdatasync where the kernel does not
 * know the flag. For hosts that forbid io_uring.
 *
 * Threads: the owner; the writer, which takes one write after the other; the chores' thread. */
#include "disk_posix.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITES_MAX = 2 };

/* The lock protects the two lists and `stopping`. */
struct disk_sync {
    struct disk_posix posix;
    bool unsynced;
    bool has_dsync; /* the kernel takes RWF_DSYNC */
    uint32_t writes_under_way;
    pthread_t writer;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list queue;
    struct list done;
    bool stopping;
};

/* As durably as this disk is. */
static int write_all(const struct disk_sync *s, int fd, const void *data, size_t size,
                     uint64_t offset)
{
    int flags = s->has_dsync && !s->unsynced ? RWF_DSYNC : 0;
    size_t written = 0;
    while (written < size) {
        struct iovec iov = {.iov_base = (uint8_t *)data + written, .iov_len = size - written};
        ssize_t count = pwritev2(fd, &iov, 1, (off_t)(offset + written), flags);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 ? -errno : -EIO;
        written += (size_t)count;
    }
    if (!s->has_dsync && !s->unsynced && fdatasync(fd) != 0)
        return -errno;
    return 0;
}

static void *writer_main(void *arg)
{
    struct disk_sync *s = arg;
    (void)pthread_setname_np(pthread_self(), "disk-writer");
    prompt_thread();
    (void)pthread_mutex_lock(&s->lock);
    for (;;) {
        while (list_is_empty(&s->queue) && !s->stopping)
            (void)pthread_cond_wait(&s->more, &s->lock);
        if (list_is_empty(&s->queue))
            break;
        struct disk_write *req = CONTAINER_OF(s->queue.next, struct disk_write, link);
        list_remove(&req->link);
        (void)pthread_mutex_unlock(&s->lock);
        req->err = write_all(s, req->file->fd, req->data, req->size, req->offset);
        (void)pthread_mutex_lock(&s->lock);
        list_push_back(&s->done, &req->link);
        disk_posix_wake(&s->posix);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void sync_write(struct disk *d, struct disk_write *req)
{
    struct disk_sync *s = (struct disk_sync *)d;
    s->writes_under_way++;
    (void)pthread_mutex_lock(&s->lock);
    list_push_back(&s->queue, &req->link);
    (void)pthread_cond_signal(&s->more);
    (void)pthread_mutex_unlock(&s->lock);
}

static uint32_t report_writes(struct disk_sync *s)
{
    if (s->writes_under_way == 0)
        return 0;
    struct list done;
    list_init(&done);
    (void)pthread_mutex_lock(&s->lock);
    list_splice_back(&done, &s->done);
    (void)pthread_mutex_unlock(&s->lock);

    uint32_t count = 0;
    while (!list_is_empty(&done)) {
        struct disk_write *req = CONTAINER_OF(done.next, struct disk_write, link);
        list_remove(&req->link);
        s->writes_under_way--;
        count++;
        req->done(req, req->err);
    }
    return count;
}

static void sync_poll(struct disk *d, bool wait)
{
    struct disk_sync *s = (struct disk_sync *)d;
    disk_posix_take_event(&s->posix, false);
    uint32_t count = report_writes(s) + disk_posix_report_chores(&s->posix);
    while (wait && count == 0 && s->writes_under_way + s->posix.chores_under_way > 0) {
        disk_posix_take_event(&s->posix, true);
        count = report_writes(s) + disk_posix_report_chores(&s->posix);
    }
}

static void sync_close(struct disk *d)
{
    struct disk_sync *s = (struct disk_sync *)d;
    ASSERT(s->writes_under_way == 0);
    (void)pthread_mutex_lock(&s->lock);
    s->stopping = true;
    (void)pthread_cond_signal(&s->more);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->writer, NULL);
    (void)pthread_cond_destroy(&s->more);
    (void)pthread_mutex_destroy(&s->lock);
    disk_posix_fini(&s->posix);
    mem_free(s);
}

static const struct disk_ops sync_ops = {
    .open_file = disk_posix_open_file,
    .close_file = disk_posix_close_file,
    .file_size = disk_posix_file_size,
    .read = disk_posix_read,
    .sync_file = disk_posix_sync_file,
    .list = disk_posix_list,
    .write = sync_write,
    .chore = disk_posix_chore,
    .fd = disk_posix_fd,
    .poll = sync_poll,
    .close = sync_close,
};

/* Does a durable write work with these flags? */
static int try_way(struct disk_sync *s, int flags, const uint8_t *block)
{
    int fd = disk_posix_probe_file(&s->posix, flags);
    if (fd < 0)
        return fd;
    int rv = write_all(s, fd, block, DISK_BLOCK_BYTES, 0);
    close(fd);
    return rv;
}

static int choose(struct disk_sync *s, char *err_text, size_t err_size)
{
    static const int flags[] = {O_DIRECT, O_DIRECT, 0, 0};
    static const bool dsync[] = {true, false, true, false};
    uint8_t *block = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    memset(block, 0x5a, DISK_BLOCK_BYTES);
    int rv = -EINVAL;
    for (int i = 0; i < 4 && rv != 0; i++) {
        s->has_dsync = dsync[i];
        s->posix.open_flags = s->unsynced ? 0 : flags[i];
        rv = try_way(s, s->posix.open_flags, block);
    }
    mem_free(block);
    if (rv != 0) {
        (void)snprintf(err_text, err_size, "cannot write durably in %s: %s", s->posix.d.dir,
                       strerror(-rv));
        return rv == -ENOSPC ? TV_ENOSPC : TV_EIO;
    }
    (void)snprintf(s->posix.d.description, sizeof(s->posix.d.description), "thread, %s, %s",
                   s->posix.open_flags != 0 ? "O_DIRECT" : "page cache",
                   s->unsynced    ? "never synced"
                   : s->has_dsync ? "pwritev2 with RWF_DSYNC"
                                  : "pwritev2, then fdatasync");
    return 0;
}

int disk_sync_open(const char *dir, bool unsynced, struct disk **ret, char *err_text,
                   size_t err_size)
{
    struct disk_sync *s = mem_alloc_zero(sizeof(*s));
    int rv = disk_posix_init(&s->posix, dir, err_text, err_size);
    if (rv != 0) {
        mem_free(s);
        return rv;
    }
    s->unsynced = s->posix.unsynced = unsynced;
    s->posix.d.ops = &sync_ops;
    s->posix.d.writes_max = WRITES_MAX;
    rv = choose(s, err_text, err_size);
    if (rv != 0) {
        disk_posix_fini(&s->posix);
        mem_free(s);
        return rv;
    }
    list_init(&s->queue);
    list_init(&s->done);
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->more, NULL);
    if (pthread_create(&s->writer, NULL, writer_main, s) != 0)
        tv_fatal("cannot start a thread for the disk");
    *ret = &s->posix.d;
    return 0;
}
