/* The disk by io_uring. A write is one request to a file opened O_DIRECT and O_DSYNC, or two linked
 * ones, write then fdatasync; a short probe at start says which is faster here. File systems
 * without O_DIRECT (tmpfs) get the same two ways through the page cache.
 *
 * Thread: the owner's. The ring signals the same eventfd as the chores' thread. */
#include "disk_posix.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    RING_ENTRIES = 64,
    WRITES_MAX = 2,
    PROBE_NS_MAX = 50 * 1000 * 1000, /* for one way of writing */
};

struct disk_uring {
    struct disk_posix posix;
    struct io_uring ring;
    bool link_sync; /* write linked with fdatasync, else O_DSYNC */
    uint32_t writes_under_way;
};

/* A file to write to: its flags and whether each write needs a sync behind it. */
struct way {
    const char *name;
    int flags;
    bool link_sync;
};

static const struct way ways[] = {
    {"O_DIRECT with O_DSYNC", O_DIRECT | O_DSYNC, false},
    {"O_DIRECT, linked fdatasync", O_DIRECT, true},
    {"page cache with O_DSYNC", O_DSYNC, false},
    {"page cache, linked fdatasync", 0, true},
};

/* The low bit of user_data marks the sync of a pair. */
_Static_assert(_Alignof(struct disk_write) >= 2, "disk_write pointers have a free low bit");

static struct io_uring_sqe *take_sqe(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    ASSERT(sqe !=
           NULL); /* RING_ENTRIES covers all that the log has under way, and we submit each */
    return sqe;
}

static void submit(struct io_uring *ring)
{
    int rv;
    do {
        rv = io_uring_submit(ring);
    } while (rv == -EINTR || rv == -EAGAIN || rv == -EBUSY);
    if (rv < 0)
        tv_fatal("io_uring submit failed: %s", strerror(-rv));
}

static void start(struct disk_uring *u, struct disk_write *req)
{
    struct io_uring_sqe *sqe = take_sqe(&u->ring);
    io_uring_prep_write(sqe, req->file->fd, (const uint8_t *)req->data + req->written,
                        (unsigned)(req->size - req->written), req->offset + req->written);
    io_uring_sqe_set_data64(sqe, (uintptr_t)req);
    req->parts_left = 1;
    if (u->link_sync) {
        sqe->flags |= IOSQE_IO_LINK;
        sqe = take_sqe(&u->ring);
        io_uring_prep_fsync(sqe, req->file->fd, IORING_FSYNC_DATASYNC);
        io_uring_sqe_set_data64(sqe, (uintptr_t)req | 1);
        req->parts_left = 2;
    }
    submit(&u->ring);
}

static void uring_write(struct disk *d, struct disk_write *req)
{
    struct disk_uring *u = (struct disk_uring *)d;
    req->err = 0;
    req->written = 0;
    u->writes_under_way++;
    start(u, req);
}

/* One completion. A write that was cut short goes on where it stopped; the sync linked to it was
 * cancelled and comes again. */
static uint32_t take_completion(struct disk_uring *u, uint64_t data, int res)
{
    struct disk_write *req = (struct disk_write *)(uintptr_t)(data & ~1ull);
    bool is_sync = (data & 1) != 0;
    if (is_sync) {
        bool write_ended_early = req->err != 0 || req->written < req->size;
        if (res < 0 && !write_ended_early)
            req->err = res;
    } else if (res > 0) {
        req->written += (size_t)res;
    } else if (res != -EINTR && res != -EAGAIN) {
        req->err = res < 0 ? res : -EIO;
    }
    if (--req->parts_left > 0)
        return 0;
    if (req->err == 0 && req->written < req->size) {
        PROBE(disk_uring_short_write);
        start(u, req);
        return 0;
    }
    u->writes_under_way--;
    req->done(req, req->err);
    return 1;
}

static uint32_t report_writes(struct disk_uring *u)
{
    uint32_t count = 0;
    struct io_uring_cqe *cqe;
    while (u->writes_under_way > 0 && io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        uint64_t data = io_uring_cqe_get_data64(cqe);
        int res = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        count += take_completion(u, data, res);
    }
    return count;
}

static void uring_poll(struct disk *d, bool wait)
{
    struct disk_uring *u = (struct disk_uring *)d;
    disk_posix_take_event(&u->posix, false);
    uint32_t count = report_writes(u) + disk_posix_report_chores(&u->posix);
    while (wait && count == 0 && u->writes_under_way + u->posix.chores_under_way > 0) {
        disk_posix_take_event(&u->posix, true);
        count = report_writes(u) + disk_posix_report_chores(&u->posix);
    }
}

static void uring_close(struct disk *d)
{
    struct disk_uring *u = (struct disk_uring *)d;
    ASSERT(u->writes_under_way == 0);
    io_uring_queue_exit(&u->ring);
    disk_posix_fini(&u->posix);
    mem_free(u);
}

static const struct disk_ops uring_ops = {
    .open_file = disk_posix_open_file,
    .close_file = disk_posix_close_file,
    .file_size = disk_posix_file_size,
    .read = disk_posix_read,
    .sync_file = disk_posix_sync_file,
    .list = disk_posix_list,
    .write = uring_write,
    .chore = disk_posix_chore,
    .fd = disk_posix_fd,
    .poll = uring_poll,
    .close = uring_close,
};

/* --- choosing --- */

static void probe_done(struct disk_write *req, int err)
{
    req->err = err;
}

static int compare_ns(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The median time of a 4 KiB write in one way, or a negative errno value. */
static int64_t measure(struct disk_uring *u, const struct way *way, const uint8_t *block)
{
    int fd = disk_posix_probe_file(&u->posix, way->flags);
    if (fd < 0)
        return fd;
    struct disk_file file = {.fd = fd};
    uint64_t ns[DISK_PROBE_WRITES];
    uint32_t count = 0;
    int err = 0;
    uint64_t begun = clock_mono_ns();
    u->link_sync = way->link_sync;
    while (err == 0 && count < DISK_PROBE_WRITES && clock_mono_ns() - begun < PROBE_NS_MAX) {
        struct disk_write req = {.file = &file,
                                 .offset = (uint64_t)count * DISK_BLOCK_BYTES,
                                 .data = block,
                                 .size = DISK_BLOCK_BYTES,
                                 .done = probe_done};
        uint64_t before = clock_mono_ns();
        uring_write(&u->posix.d, &req);
        while (u->writes_under_way > 0)
            uring_poll(&u->posix.d, true);
        ns[count++] = clock_mono_ns() - before;
        err = req.err;
    }
    close(fd);
    if (err != 0)
        return err;
    qsort(ns, count, sizeof(ns[0]), compare_ns);
    return (int64_t)ns[count / 2];
}

/* The fastest of the ways that work; a linked sync costs a switch to a kernel thread for each
 * write, so it must be faster by a fifth to be taken. Through the page cache only where O_DIRECT
 * does not work. */
static int choose(struct disk_uring *u, char *err_text, size_t err_size)
{
    uint8_t *block = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    memset(block, 0x5a, DISK_BLOCK_BYTES);
    const struct way *best = NULL;
    int64_t best_ns = 0;
    int64_t last_error = -EINVAL;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (best != NULL && (best->flags & O_DIRECT) != 0 && (ways[i].flags & O_DIRECT) == 0)
            break;
        int64_t ns = measure(u, &ways[i], block);
        if (ns < 0) {
            last_error = ns;
        } else if (best == NULL || ns < best_ns - best_ns / 5) {
            best = &ways[i];
            best_ns = ns;
        }
    }
    mem_free(block);
    if (best == NULL) {
        (void)snprintf(err_text, err_size, "io_uring cannot write durably in %s: %s",
                       u->posix.d.dir, strerror((int)-last_error));
        return last_error == -ENOSPC ? TV_ENOSPC : TV_EIO;
    }
    u->link_sync = best->link_sync;
    u->posix.open_flags = best->flags;
    (void)snprintf(u->posix.d.description, sizeof(u->posix.d.description),
                   "io_uring, %s (%lld us a block when probed)", best->name,
                   (long long)(best_ns / 1000));
    return 0;
}

int disk_uring_open(const char *dir, struct disk **ret, char *err_text, size_t err_size)
{
    struct disk_uring *u = mem_alloc_zero(sizeof(*u));
    int rv = io_uring_queue_init(RING_ENTRIES, &u->ring, IORING_SETUP_CLAMP);
    if (rv != 0) {
        (void)snprintf(err_text, err_size, "io_uring is not permitted here: %s", strerror(-rv));
        mem_free(u);
        return TV_ENOTSUP;
    }
    rv = disk_posix_init(&u->posix, dir, err_text, err_size);
    if (rv != 0)
        goto err_after_ring;
    int reg = io_uring_register_eventfd(&u->ring, u->posix.event_fd);
    if (reg != 0) {
        (void)snprintf(err_text, err_size, "io_uring takes no eventfd: %s", strerror(-reg));
        rv = TV_ENOTSUP;
        goto err_after_posix;
    }
    u->posix.d.ops = &uring_ops;
    u->posix.d.writes_max = WRITES_MAX;
    rv = choose(u, err_text, err_size);
    if (rv != 0)
        goto err_after_posix;
    *ret = &u->posix.d;
    return 0;

err_after_posix:
    disk_posix_fini(&u->posix);
err_after_ring:
    io_uring_queue_exit(&u->ring);
    mem_free(u);
    return rv;
}
