/* The disk in memory. A completed write is on the "platter" (the file's bytes); one under way is
 * only a request that points at its caller's buffer, and what a crash makes of it is the
 * generator's choice. */
#include "storage/disk_mem.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/rng.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { WRITES_MAX = 4, UNDER_WAY_MAX = 256 };

struct mem_file {
    struct list link; /* in disk_mem.files while it has a name */
    char name[DISK_NAME_MAX];
    uint8_t *bytes;
    uint64_t size;
    uint32_t refs; /* the name, and each handle */
};

struct disk_file {
    struct mem_file *file;
    uint64_t power_cycle; /* in which it was opened */
};

struct disk_mem {
    struct disk d;
    struct rng rng;
    struct list files;
    struct list writes;
    struct list chores;
    uint32_t writes_count;
    uint32_t completion_percent;
    uint64_t power_cycle;
    uint64_t capacity_bytes; /* 0: no limit */
    uint64_t fail_countdown;
    int fail_errno; /* 0: no write fails */
    bool fail_sync; /* it fails when the bytes may be there */
    bool lies;      /* once: about the write behind the countdown */
    enum disk_mem_lie lie;
    uint64_t lie_countdown;
    uint64_t damages;
};

static struct disk_mem *mem_of(struct disk *d)
{
    return (struct disk_mem *)d;
}

static struct mem_file *find(const struct disk_mem *m, const char *name)
{
    LIST_EACH (it, &m->files) {
        struct mem_file *f = CONTAINER_OF(it, struct mem_file, link);
        if (strcmp(f->name, name) == 0)
            return f;
    }
    return NULL;
}

static void file_unref(struct mem_file *f)
{
    if (--f->refs > 0)
        return;
    mem_free(f->bytes);
    mem_free(f);
}

static void drop_name(struct mem_file *f)
{
    list_remove(&f->link);
    file_unref(f);
}

static struct mem_file *add_file(struct disk_mem *m, const char *name, uint64_t size)
{
    struct mem_file *old = find(m, name);
    if (old != NULL)
        drop_name(old);
    struct mem_file *f = mem_alloc_zero(sizeof(*f));
    (void)snprintf(f->name, sizeof(f->name), "%s", name);
    f->bytes = mem_alloc_zero(size > 0 ? size : 1);
    f->size = size;
    f->refs = 1;
    list_push_back(&m->files, &f->link);
    return f;
}

/* --- the interface --- */

static int mem_open_file(struct disk *d, const char *name, struct disk_file **ret)
{
    struct mem_file *f = find(mem_of(d), name);
    if (f == NULL)
        return -ENOENT;
    struct disk_file *h = mem_alloc(sizeof(*h));
    *h = (struct disk_file){.file = f, .power_cycle = mem_of(d)->power_cycle};
    f->refs++;
    *ret = h;
    return 0;
}

static void mem_close_file(struct disk_file *h)
{
    file_unref(h->file);
    mem_free(h);
}

static int mem_file_size(struct disk_file *h, uint64_t *ret_bytes)
{
    *ret_bytes = h->file->size;
    return 0;
}

static ssize_t mem_read(struct disk_file *h, uint64_t offset, void *data, size_t size)
{
    ASSERT(offset % DISK_BLOCK_BYTES == 0);
    ASSERT(size % DISK_BLOCK_BYTES == 0);
    ASSERT((uintptr_t)data % DISK_BLOCK_BYTES == 0);
    const struct mem_file *f = h->file;
    if (offset >= f->size)
        return 0;
    uint64_t left = f->size - offset;
    size_t count = left < size ? (size_t)left : size;
    memcpy(data, f->bytes + offset, count);
    return (ssize_t)count;
}

static int mem_sync_file(struct disk_file *h)
{
    return 0; /* a read sees only what is durable */
}

static int mem_list(struct disk *d, void (*each)(void *ctx, const char *name), void *ctx)
{
    LIST_EACH_SAFE (it, after, &mem_of(d)->files)
        each(ctx, CONTAINER_OF(it, struct mem_file, link)->name);
    return 0;
}

static void mem_write(struct disk *d, struct disk_write *req)
{
    struct disk_mem *m = mem_of(d);
    ASSERT(req->offset % DISK_BLOCK_BYTES == 0);
    ASSERT(req->size % DISK_BLOCK_BYTES == 0);
    ASSERT(req->size > 0);
    ASSERT((uintptr_t)req->data % DISK_BLOCK_BYTES == 0);
    ASSERT(req->file->power_cycle == m->power_cycle);
    ASSERT(req->offset + req->size <= req->file->file->size);
    ASSERT(m->writes_count < UNDER_WAY_MAX);
    m->writes_count++;
    list_push_back(&m->writes, &req->link);
}

static void mem_chore(struct disk *d, struct disk_chore *req)
{
    list_push_back(&mem_of(d)->chores, &req->link);
}

static int mem_fd(struct disk *d)
{
    return -1;
}

static bool has_room(const struct disk_mem *m, const struct disk_chore *req)
{
    uint64_t bytes = req->size;
    LIST_EACH (it, &m->files) {
        const struct mem_file *f = CONTAINER_OF(it, struct mem_file, link);
        if (strcmp(f->name, req->name) != 0)
            bytes += f->size;
    }
    return m->capacity_bytes == 0 || bytes <= m->capacity_bytes;
}

static int apply_chore(struct disk_mem *m, const struct disk_chore *req)
{
    struct mem_file *f = find(m, req->name);
    switch (req->kind) {
    case DISK_PREPARE:
        if (!has_room(m, req))
            return -ENOSPC;
        (void)add_file(m, req->name, req->size);
        return 0;
    case DISK_RENAME: {
        if (f == NULL)
            return -ENOENT;
        struct mem_file *replaced = find(m, req->to);
        if (replaced != NULL && replaced != f)
            drop_name(replaced);
        memcpy(f->name, req->to, sizeof(f->name));
        return 0;
    }
    case DISK_UNLINK:
        if (f != NULL)
            drop_name(f);
        return 0;
    }
    return -EINVAL;
}

static uint32_t files_count(const struct disk_mem *m)
{
    uint32_t count = 0;
    LIST_EACH (it, &m->files)
        count++;
    return count;
}

static struct mem_file *some_file(struct disk_mem *m)
{
    uint64_t skip = rng_below(&m->rng, files_count(m));
    struct list *it = m->files.next;
    while (skip-- > 0)
        it = it->next;
    return CONTAINER_OF(it, struct mem_file, link);
}

static void write_elsewhere(struct disk_mem *m, const struct disk_write *req)
{
    struct mem_file *f = some_file(m);
    if (req->size > f->size)
        return; /* lost, then */
    uint64_t places = (f->size - req->size) / DISK_BLOCK_BYTES + 1;
    memcpy(f->bytes + rng_below(&m->rng, places) * DISK_BLOCK_BYTES, req->data, req->size);
}

/* `to` is where the write was to go, perhaps on another disk. */
static void tear(struct disk_mem *m, const struct disk_write *req, uint8_t *to)
{
    enum { LOST, KEPT, TORN };
    uint64_t fate = rng_below(&m->rng, 3);
    if (fate == LOST)
        return;
    const uint8_t *from = req->data;
    for (size_t at = 0; at < req->size; at += DISK_MEM_SECTOR_BYTES) {
        uint64_t sector = fate == KEPT ? 0 : rng_below(&m->rng, 16);
        if (sector < 8) {
            memcpy(to + at, from + at, DISK_MEM_SECTOR_BYTES);
        } else if (sector == 15) {
            for (size_t i = 0; i < DISK_MEM_SECTOR_BYTES; i++)
                to[at + i] = (uint8_t)rng_next(&m->rng);
        }
    }
}

/* 0 or -errno. */
static int put_on_platter(struct disk_mem *m, const struct disk_write *req)
{
    uint8_t *to = req->file->file->bytes + req->offset;
    if (m->fail_errno != 0 && m->fail_countdown-- == 0) {
        int err = -m->fail_errno;
        m->fail_errno = 0;
        if (m->fail_sync)
            tear(m, req, to);
        return err;
    }
    if (m->lies && m->lie_countdown-- == 0) {
        m->lies = false;
        m->damages++;
        if (m->lie == DISK_MEM_ELSEWHERE)
            write_elsewhere(m, req);
        return 0;
    }
    memcpy(to, req->data, req->size);
    return 0;
}

static void complete_write(struct disk_mem *m, struct disk_write *req)
{
    list_remove(&req->link);
    m->writes_count--;
    req->done(req, put_on_platter(m, req));
}

static void complete_chore(struct disk_mem *m)
{
    struct disk_chore *req = CONTAINER_OF(m->chores.next, struct disk_chore, link);
    list_remove(&req->link);
    req->done(req, apply_chore(m, req));
}

static bool lucky(struct disk_mem *m)
{
    return rng_below(&m->rng, 100) < m->completion_percent;
}

static struct disk_write *write_at(struct disk_mem *m, uint64_t index)
{
    struct list *it = m->writes.next;
    while (index-- > 0)
        it = it->next;
    return CONTAINER_OF(it, struct disk_write, link);
}

static uint32_t complete_some(struct disk_mem *m)
{
    struct disk_write *chosen[UNDER_WAY_MAX];
    uint32_t count = 0, done = 0;
    LIST_EACH (it, &m->writes) {
        if (lucky(m))
            chosen[count++] = CONTAINER_OF(it, struct disk_write, link);
    }
    while (count > 0) {
        uint64_t i = rng_below(&m->rng, count);
        struct disk_write *req = chosen[i];
        chosen[i] = chosen[--count];
        complete_write(m, req);
        done++;
    }
    if (!list_is_empty(&m->chores) && lucky(m)) {
        complete_chore(m);
        done++;
    }
    return done;
}

static void mem_poll(struct disk *d, bool wait)
{
    struct disk_mem *m = mem_of(d);
    if (complete_some(m) > 0 || !wait)
        return;
    if (m->writes_count > 0 && (list_is_empty(&m->chores) || rng_below(&m->rng, 2) == 0))
        complete_write(m, write_at(m, rng_below(&m->rng, m->writes_count)));
    else if (!list_is_empty(&m->chores))
        complete_chore(m);
}

static void mem_close(struct disk *d)
{
    struct disk_mem *m = mem_of(d);
    ASSERT(!disk_mem_busy(d));
    LIST_EACH_SAFE (it, after, &m->files)
        drop_name(CONTAINER_OF(it, struct mem_file, link));
    mem_free(d->dir);
    mem_free(m);
}

static const struct disk_ops mem_ops = {
    .open_file = mem_open_file,
    .close_file = mem_close_file,
    .file_size = mem_file_size,
    .read = mem_read,
    .sync_file = mem_sync_file,
    .list = mem_list,
    .write = mem_write,
    .chore = mem_chore,
    .fd = mem_fd,
    .poll = mem_poll,
    .close = mem_close,
};

/* --- what tests do to it --- */

struct disk *disk_mem_new(uint64_t seed)
{
    struct disk_mem *m = mem_alloc_zero(sizeof(*m));
    m->d = (struct disk){.ops = &mem_ops, .dir = mem_strdup("mem"), .writes_max = WRITES_MAX};
    (void)snprintf(m->d.description, sizeof(m->d.description), "memory");
    rng_init(&m->rng, seed);
    list_init(&m->files);
    list_init(&m->writes);
    list_init(&m->chores);
    m->completion_percent = 100;
    return &m->d;
}

void disk_mem_set_completion_percent(struct disk *d, uint32_t percent)
{
    mem_of(d)->completion_percent = percent;
}

bool disk_mem_busy(const struct disk *d)
{
    const struct disk_mem *m = (const struct disk_mem *)d;
    return m->writes_count > 0 || !list_is_empty(&m->chores);
}

void disk_mem_crash(struct disk *d)
{
    struct disk_mem *m = mem_of(d);
    while (!list_is_empty(&m->writes)) {
        struct disk_write *req = CONTAINER_OF(m->writes.next, struct disk_write, link);
        list_remove(&req->link);
        tear(m, req, req->file->file->bytes + req->offset);
    }
    m->writes_count = 0;
    /* Chores are done in order: some first ones have happened. */
    bool happened = true;
    while (!list_is_empty(&m->chores)) {
        struct disk_chore *req = CONTAINER_OF(m->chores.next, struct disk_chore, link);
        list_remove(&req->link);
        happened = happened && rng_below(&m->rng, 2) == 0;
        if (happened)
            (void)apply_chore(m, req);
    }
    m->power_cycle++;
    m->fail_errno = 0;
    m->lies = false;
}

void disk_mem_fail_write_after(struct disk *d, uint64_t countdown, int errno_value)
{
    struct disk_mem *m = mem_of(d);
    m->fail_countdown = countdown;
    m->fail_errno = errno_value;
    m->fail_sync = false;
}

void disk_mem_fail_sync_after(struct disk *d, uint64_t countdown, int errno_value)
{
    disk_mem_fail_write_after(d, countdown, errno_value);
    mem_of(d)->fail_sync = true;
}

void disk_mem_lie_after(struct disk *d, uint64_t countdown, enum disk_mem_lie lie)
{
    struct disk_mem *m = mem_of(d);
    m->lies = true;
    m->lie = lie;
    m->lie_countdown = countdown;
}

static bool is_empty(const uint8_t *block)
{
    for (size_t i = 0; i < DISK_BLOCK_BYTES; i++)
        if (block[i] != 0)
            return false;
    return true;
}

bool disk_mem_rot(struct disk *d)
{
    enum { TRIES_MAX = 64 };
    struct disk_mem *m = mem_of(d);
    if (list_is_empty(&m->files))
        return false;
    for (int i = 0; i < TRIES_MAX; i++) {
        struct mem_file *f = some_file(m);
        if (f->size < DISK_BLOCK_BYTES)
            continue;
        uint64_t at = rng_below(&m->rng, f->size / DISK_BLOCK_BYTES) * DISK_BLOCK_BYTES;
        if (is_empty(f->bytes + at))
            continue;
        at += rng_below(&m->rng, DISK_BLOCK_BYTES);
        f->bytes[at] ^= (uint8_t)(1u << rng_below(&m->rng, 8));
        m->damages++;
        return true;
    }
    return false;
}

uint64_t disk_mem_damages(const struct disk *d)
{
    return ((const struct disk_mem *)d)->damages;
}

uint64_t disk_mem_used_bytes(const struct disk *d)
{
    uint64_t bytes = 0;
    LIST_EACH (it, &((const struct disk_mem *)d)->files)
        bytes += CONTAINER_OF(it, struct mem_file, link)->size;
    return bytes;
}

void disk_mem_set_capacity(struct disk *d, uint64_t bytes)
{
    mem_of(d)->capacity_bytes = bytes;
}

uint8_t *disk_mem_bytes(struct disk *d, const char *name, uint64_t *ret_size)
{
    struct mem_file *f = find(mem_of(d), name);
    if (f == NULL)
        return NULL;
    *ret_size = f->size;
    return f->bytes;
}

struct disk *disk_mem_clone(const struct disk *d, uint64_t seed)
{
    const struct disk_mem *from = (const struct disk_mem *)d;
    struct disk *copy = disk_mem_new(seed);
    LIST_EACH (it, &from->files) {
        const struct mem_file *f = CONTAINER_OF(it, struct mem_file, link);
        struct mem_file *to = add_file(mem_of(copy), f->name, f->size);
        memcpy(to->bytes, f->bytes, f->size);
    }
    mem_of(copy)->damages = from->damages;
    return copy;
}

struct disk *disk_mem_crashed_clone(const struct disk *d, uint64_t seed)
{
    const struct disk_mem *from = (const struct disk_mem *)d;
    struct disk *copy = disk_mem_clone(d, seed);
    struct disk_mem *to = mem_of(copy);
    LIST_EACH (it, &from->writes) {
        const struct disk_write *req = CONTAINER_OF(it, struct disk_write, link);
        const struct mem_file *f = req->file->file;
        /* A file that lost its name is lost with the power. */
        if (find(from, f->name) == f)
            tear(to, req, find(to, f->name)->bytes + req->offset);
    }
    LIST_EACH (it, &from->chores) {
        if (rng_below(&to->rng, 2) != 0)
            break; /* chores are done in order */
        (void)apply_chore(to, CONTAINER_OF(it, struct disk_chore, link));
    }
    return copy;
}
