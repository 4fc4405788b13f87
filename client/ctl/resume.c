#include "resume.h"

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { QUIET_MS = 20, DIRTY_MS_MAX = 100, CRC_TEXT_BYTES = 9 };

static const char magic[] = "trivetctl-watch/1";

static _Noreturn void fail(const struct resume *r, const char *what)
{
    ctl_fail(r->c, CTL_IO, "%s: %s: %s", r->path, what, strerror(errno));
}

/* --- a slot: "CRC magic fields\n", blanks up to its end --- */

struct slot {
    uint64_t sequence;
    uint64_t watch;
    uint64_t cluster_id;
    int64_t revision;
    uint64_t device; /* of the output; 0 when it is no file */
    uint64_t inode;
    int64_t offset;
};

static uint32_t crc_of(const char *line)
{
    return crc32c(0, line + CRC_TEXT_BYTES, RESUME_SLOT_BYTES - CRC_TEXT_BYTES);
}

static void slot_put(char line[RESUME_SLOT_BYTES + 1], const struct slot *s)
{
    char crc[CRC_TEXT_BYTES + 1];
    int size = snprintf(line, RESUME_SLOT_BYTES + 1,
                        "........ %s sequence=%" PRIu64 " watch=%016" PRIx64 " cluster=%016" PRIx64
                        " revision=%" PRId64 " output=%" PRIu64 ":%" PRIu64 ":%" PRId64,
                        magic, s->sequence, s->watch, s->cluster_id, s->revision, s->device,
                        s->inode, s->offset);
    memset(line + size, ' ', (size_t)(RESUME_SLOT_BYTES - size));
    line[RESUME_SLOT_BYTES - 1] = '\n';
    (void)snprintf(crc, sizeof(crc), "%08" PRIx32 " ", crc_of(line));
    memcpy(line, crc, CRC_TEXT_BYTES);
}

static bool slot_take(const char *line, struct slot *ret)
{
    char text[RESUME_SLOT_BYTES + 1];
    uint32_t crc;
    memcpy(text, line, RESUME_SLOT_BYTES);
    text[RESUME_SLOT_BYTES] = '\0';
    return sscanf(text,
                  "%8" SCNx32 " trivetctl-watch/1 sequence=%" SCNu64 " watch=%" SCNx64
                  " cluster=%" SCNx64 " revision=%" SCNd64 " output=%" SCNu64 ":%" SCNu64
                  ":%" SCNd64,
                  &crc, &ret->sequence, &ret->watch, &ret->cluster_id, &ret->revision, &ret->device,
                  &ret->inode, &ret->offset) == 8 &&
           crc == crc_of(line);
}

/* --- the output --- */

static bool output_is(const struct slot *s, const struct stat *st)
{
    return s->offset >= 0 && (uint64_t)st->st_dev == s->device && (uint64_t)st->st_ino == s->inode;
}

static void mend_output(struct resume *r, const struct slot *s)
{
    struct stat st;
    if (!r->output_is_file || fstat(STDOUT_FILENO, &st) != 0 || !output_is(s, &st) ||
        st.st_size <= s->offset)
        return;
    if (ftruncate(STDOUT_FILENO, s->offset) != 0 || lseek(STDOUT_FILENO, s->offset, SEEK_SET) < 0)
        fail(r, "cutting the output back");
}

static void note_output(const struct resume *r, struct slot *s)
{
    struct stat st;
    (void)fflush(stdout); /* its errors are seen to at the end of the message */
    if (ferror(stdout))
        ctl_fail(r->c, CTL_IO, "write: %s", strerror(errno));
    if (!r->output_is_file || fstat(STDOUT_FILENO, &st) != 0)
        return;
    if (fdatasync(STDOUT_FILENO) != 0)
        fail(r, "making the output durable");
    s->device = (uint64_t)st.st_dev;
    s->inode = (uint64_t)st.st_ino;
    s->offset = lseek(STDOUT_FILENO, 0, SEEK_CUR);
}

/* --- the file --- */

static bool load(struct resume *r, struct slot *ret)
{
    char slots[2 * RESUME_SLOT_BYTES];
    struct slot s;
    bool found = false;
    ssize_t size = pread(r->fd, slots, sizeof(slots), 0);
    if (size < 0)
        fail(r, "read");
    for (ssize_t at = 0; at + RESUME_SLOT_BYTES <= size; at += RESUME_SLOT_BYTES) {
        if (!slot_take(slots + at, &s) || (found && s.sequence < ret->sequence))
            continue;
        *ret = s;
        found = true;
    }
    /* A first line that was cut off by a crash is no state yet; anything else is somebody's. */
    if (!found && size >= CRC_TEXT_BYTES + (ssize_t)sizeof(magic) - 1 &&
        memcmp(slots + CRC_TEXT_BYTES, magic, sizeof(magic) - 1) != 0)
        ctl_fail(r->c, CTL_INVALID_INPUT, "%s is no file of watch --resume", r->path);
    if (!found && size > RESUME_SLOT_BYTES)
        ctl_fail(r->c, CTL_INVALID_INPUT, "%s is damaged", r->path);
    return found;
}

void resume_open(struct resume *r, struct ctl *c, const char *path, struct trivet_bytes key,
                 struct trivet_bytes range_end)
{
    struct stat st;
    struct slot s = {0};
    *r = (struct resume){.c = c, .path = path};
    r->watch = hash64(slice_of(range_end.data, range_end.size),
                      hash64(slice_of(key.data, key.size), key.size));
    r->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (r->fd < 0)
        fail(r, "open");
    if (flock(r->fd, LOCK_EX | LOCK_NB) != 0)
        ctl_fail(c, CTL_ERROR, "%s is in use by another watch", path);
    r->output_is_file = fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode);
    if (!load(r, &s))
        return;
    if (s.watch != r->watch)
        ctl_fail(c, CTL_INVALID_INPUT, "%s is of a watch of other keys", path);
    r->sequence = s.sequence;
    r->cluster_id = s.cluster_id;
    r->revision = s.revision;
    mend_output(r, &s);
}

void resume_save(struct resume *r)
{
    char line[RESUME_SLOT_BYTES + 1];
    struct slot s = {.sequence = ++r->sequence,
                     .watch = r->watch,
                     .cluster_id = r->cluster_id,
                     .revision = r->revision,
                     .offset = -1};
    note_output(r, &s);
    slot_put(line, &s);
    off_t at = (off_t)(r->sequence % 2) * RESUME_SLOT_BYTES;
    if (pwrite(r->fd, line, RESUME_SLOT_BYTES, at) != RESUME_SLOT_BYTES)
        fail(r, "write");
    if (fdatasync(r->fd) != 0)
        fail(r, "fdatasync");
    r->dirty = false;
}

void resume_note(struct resume *r, uint64_t cluster_id, int64_t revision)
{
    if (r->cluster_id != 0 && cluster_id != r->cluster_id)
        ctl_fail(r->c, CTL_ERROR, "%s is of another cluster: %016" PRIx64 ", not %016" PRIx64,
                 r->path, r->cluster_id, cluster_id);
    r->cluster_id = cluster_id;
    if (revision <= r->revision)
        return;
    r->revision = revision;
    if (!r->dirty)
        r->dirty_ns = clock_mono_ns();
    r->dirty = true;
    /* In a file nothing is said twice however late this comes; elsewhere it comes at once. */
    if (!r->output_is_file || clock_mono_ns() - r->dirty_ns > DIRTY_MS_MAX * 1000000ull)
        resume_save(r);
}

uint64_t resume_wait_ms(const struct resume *r, uint64_t else_ms)
{
    return r->dirty ? QUIET_MS : else_ms;
}
