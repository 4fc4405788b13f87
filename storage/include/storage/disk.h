/* The small interface by which the log reaches a disk, so that a simulator can take the disk's
 * place.
 *
 * A disk is one directory. It knows durable writes of whole blocks, reads, and three slow chores
 * with files (prepare, rename, unlink), each durable when it is reported done: whoever stands on it
 * never needs to order an fsync himself. Writes and chores are asynchronous: they end in
 * disk_poll().
 *
 * Three disks: io_uring, a thread with pwritev2 (hosts that forbid io_uring), and one in memory
 * that crashes on command (storage/disk_mem.h).
 *
 * Results are 0 or a negative errno value, not TV_*: the log wants to say what the system said.
 *
 * Thread: one, the core's, for everything here; the disks' own threads are not seen outside. */
#ifndef STORAGE_DISK_H
#define STORAGE_DISK_H

#include "base/list.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    /* Offsets, sizes and buffers of reads and writes are multiples of this. */
    DISK_BLOCK_BYTES = 4096,
    DISK_NAME_MAX = 64, /* with the final NUL */
};

/* The last one is not durable: nothing survives a crash of the machine, and it has no name. */
enum disk_mode { DISK_AUTO, DISK_URING, DISK_SYNC, DISK_UNSYNCED };

struct disk;
struct disk_file;

/* A write that is durable once `done` says 0. The caller embeds it; it and the bytes are borrowed
 * from disk_write() until `done`. Writes may complete in any order. */
struct disk_write {
    struct disk_file *file;
    uint64_t offset;
    const void *data;
    size_t size;
    void (*done)(struct disk_write *req, int err);
    /* The disk's from here on. */
    struct list link;
    int err;
    uint32_t parts_left;
    size_t written;
};

enum disk_chore_kind {
    /* Make `name` a file of `size` zero bytes whose blocks are written, not only allocated, so that
     * a later write inside it changes no metadata. A crash leaves all of it or nothing. */
    DISK_PREPARE,
    DISK_RENAME, /* `name` to `to`, replacing it */
    DISK_UNLINK, /* it need not exist */
};

/* Chores are done one after the other in the order given, each durable before the next begins. */
struct disk_chore {
    enum disk_chore_kind kind;
    char name[DISK_NAME_MAX];
    char to[DISK_NAME_MAX];
    uint64_t size;
    /* DISK_PREPARE leaves the disk to others for most of the time, unless somebody waits. May be
     * set at any time before `done`. */
    _Atomic bool hurry;
    void (*done)(struct disk_chore *req, int err);
    /* The disk's from here on. */
    struct list link;
    int err;
};

struct disk_ops {
    int (*open_file)(struct disk *d, const char *name, struct disk_file **ret);
    void (*close_file)(struct disk_file *f);
    int (*file_size)(struct disk_file *f, uint64_t *ret_bytes);
    ssize_t (*read)(struct disk_file *f, uint64_t offset, void *data, size_t size);
    int (*sync_file)(struct disk_file *f);
    int (*list)(struct disk *d, void (*each)(void *ctx, const char *name), void *ctx);
    void (*write)(struct disk *d, struct disk_write *req);
    void (*chore)(struct disk *d, struct disk_chore *req);
    int (*fd)(struct disk *d);
    void (*poll)(struct disk *d, bool wait);
    void (*close)(struct disk *d);
};

/* What every disk begins with. */
struct disk {
    const struct disk_ops *ops;
    char *dir;           /* for messages */
    uint32_t writes_max; /* so many at once are worth while; the log keeps to it */
    char description[160];
};

/* "auto", "uring" or "sync"; TV_EINVAL for anything else. */
int disk_mode_parse(const char *name, enum disk_mode *ret_mode);

/* Open the directory (made, with mode 0700, when it is missing) and choose how to write: a few
 * short probes decide between O_DIRECT with O_DSYNC and a write linked to fdatasync. DISK_AUTO
 * takes the thread where io_uring is forbidden; DISK_URING fails there. The directory is locked
 * until disk_close(): a second process is refused. 0 or TV_*, with the reason in err_text. */
int disk_open(enum disk_mode mode, const char *dir, struct disk **ret, char *err_text,
              size_t err_size);

/* One line that names the method chosen. */
static inline const char *disk_describe(const struct disk *d)
{
    return d->description;
}

/* An existing file, for reading and writing. */
static inline int disk_open_file(struct disk *d, const char *name, struct disk_file **ret)
{
    return d->ops->open_file(d, name, ret);
}

/* No write to the file may be under way. */
static inline void disk_close_file(struct disk *d, struct disk_file *f)
{
    d->ops->close_file(f);
}

static inline int disk_file_size(struct disk *d, struct disk_file *f, uint64_t *ret_bytes)
{
    return d->ops->file_size(f, ret_bytes);
}

/* Blocks until done. The bytes read, fewer than `size` only at the file's end. */
static inline ssize_t disk_read(struct disk *d, struct disk_file *f, uint64_t offset, void *data,
                                size_t size)
{
    return d->ops->read(f, offset, data, size);
}

/* Blocks. What a read of this file would return now survives a crash afterwards. */
static inline int disk_sync_file(struct disk *d, struct disk_file *f)
{
    return d->ops->sync_file(f);
}

/* Calls `each` for every file, in no particular order. */
static inline int disk_list(struct disk *d, void (*each)(void *ctx, const char *name), void *ctx)
{
    return d->ops->list(d, each, ctx);
}

static inline void disk_write(struct disk *d, struct disk_write *req)
{
    d->ops->write(d, req);
}

static inline void disk_do_chore(struct disk *d, struct disk_chore *req)
{
    d->ops->chore(d, req);
}

/* Readable when disk_poll() has something to report; -1 for the disk in memory. */
static inline int disk_fd(struct disk *d)
{
    return d->ops->fd(d);
}

/* Report what is done. With `wait`: until at least one report, when anything is under way. */
static inline void disk_poll(struct disk *d, bool wait)
{
    d->ops->poll(d, wait);
}

/* Nothing may be under way and no file open. */
static inline void disk_close(struct disk *d)
{
    d->ops->close(d);
}

#endif
