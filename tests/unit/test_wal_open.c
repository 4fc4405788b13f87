/* Opening and reading a log of which something is wrong: every request to the disk that fails, one
 * after the other, and every field that makes no sense although its checksum is right. */
#include "wal_model.h"

#include "wal_format.h"

#include "base/crc32c.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

static struct model model;
static struct replayed seen;
static char err_text[256];

/* --- the process does not end here: the test goes on --- */

static jmp_buf fatal;
static bool fatal_expected;

_Noreturn void __wrap_tv_fatal(const char *fmt, ...);
_Noreturn void __wrap_tv_fatal(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(err_text, sizeof(err_text), fmt, ap);
    va_end(ap);
    ck_assert_msg(fatal_expected, "%s", err_text);
    longjmp(fatal, 1);
}

/* --- a disk of which one request fails --- */

struct bad_disk {
    struct disk d;
    struct disk *mem;
    uint64_t left; /* requests before the one that fails */
    bool failed;
    int error;
};

static struct bad_disk *bad; /* there is one at a time: an open file does not know its disk */

static bool fails(void)
{
    if (bad->left-- > 0)
        return false;
    bad->failed = true;
    bad->left = UINT64_MAX;
    return true;
}

static int bad_open_file(struct disk *d, const char *name, struct disk_file **ret)
{
    (void)d;
    return fails() ? -bad->error : disk_open_file(bad->mem, name, ret);
}

static int bad_file_size(struct disk_file *f, uint64_t *ret)
{
    return fails() ? -bad->error : bad->mem->ops->file_size(f, ret);
}

static ssize_t bad_read(struct disk_file *f, uint64_t offset, void *data, size_t size)
{
    return fails() ? -bad->error : bad->mem->ops->read(f, offset, data, size);
}

static int bad_sync_file(struct disk_file *f)
{
    return fails() ? -bad->error : bad->mem->ops->sync_file(f);
}

static int bad_list(struct disk *d, void (*each)(void *ctx, const char *name), void *ctx)
{
    (void)d;
    return fails() ? -bad->error : disk_list(bad->mem, each, ctx);
}

static void bad_write(struct disk *d, struct disk_write *req)
{
    (void)d;
    if (fails())
        disk_mem_fail_write_after(bad->mem, 0, bad->error);
    disk_write(bad->mem, req);
}

static void bad_chore(struct disk *d, struct disk_chore *req)
{
    (void)d;
    if (fails())
        req->done(req, -bad->error);
    else
        disk_do_chore(bad->mem, req);
}

static void bad_poll(struct disk *d, bool wait)
{
    (void)d;
    disk_poll(bad->mem, wait);
}

static struct disk *bad_disk_on(struct disk *mem, uint64_t left, int error)
{
    static struct bad_disk b;
    static struct disk_ops ops;
    ops = *mem->ops;
    ops.open_file = bad_open_file;
    ops.file_size = bad_file_size;
    ops.read = bad_read;
    ops.sync_file = bad_sync_file;
    ops.list = bad_list;
    ops.write = bad_write;
    ops.chore = bad_chore;
    ops.poll = bad_poll;
    b = (struct bad_disk){.d = {.ops = &ops, .dir = mem->dir, .writes_max = mem->writes_max},
                          .mem = mem,
                          .left = left,
                          .error = error};
    bad = &b;
    return &b.d;
}

/* --- logs --- */

enum { SEGMENT = 64 << 10 };

static struct wal_options options(struct disk *d)
{
    struct wal_options o;
    wal_options_init(&o);
    o.disk = d;
    o.segment_size_bytes = SEGMENT;
    o.segments_keep_max = 2;
    o.cluster_id = 0xc1;
    o.member_id = 0xa1;
    o.salt = 42;
    return o;
}

static int open_it(struct disk *d, struct wal **ret)
{
    struct wal_options o = options(d);
    err_text[0] = '\0';
    return model_open(&o, &model, &seen, ret, err_text, sizeof(err_text));
}

/* Three segments of entries, batches of one each, and power lost while the last was written. */
static struct disk *long_log(void)
{
    struct disk *d = disk_mem_new(1);
    struct wal *w;
    memset(&model, 0, sizeof(model));
    ck_assert_int_eq(open_it(d, &w), 0);
    for (uint64_t i = 1; i <= 40; i++) {
        model_append(&model, w, i, i, 1 + i / 20, 100, (uint32_t)i);
        wal_flush(w);
    }
    disk_mem_set_completion_percent(d, 0);
    model_append(&model, w, 41, 41, 3, 9000, 41);
    wal_submit(w);
    struct disk *left;
    uint64_t seed = 1; /* of a write that is torn */
    do
        left = disk_mem_crashed_clone(d, seed++);
    while (memcmp(disk_mem_bytes(left, "0000000000000003.wal", &(uint64_t){0}),
                  disk_mem_bytes(d, "0000000000000003.wal", &(uint64_t){0}), SEGMENT) == 0);
    disk_mem_crash(d);
    wal_abandon(w);
    disk_close(d);
    return left;
}

/* --- files --- */

static void on_made(struct disk_chore *req, int err)
{
    ck_assert_int_eq(err, 0);
    req->size = 0;
}

static void make_file(struct disk *d, const char *name, uint64_t size)
{
    struct disk_chore c = {.kind = DISK_PREPARE, .size = size, .done = on_made};
    (void)snprintf(c.name, sizeof(c.name), "%s", name);
    disk_do_chore(d, &c);
    while (c.size != 0)
        disk_poll(d, true);
}

static void remove_file(struct disk *d, const char *name)
{
    struct disk_chore c = {.kind = DISK_UNLINK, .size = 1, .done = on_made};
    (void)snprintf(c.name, sizeof(c.name), "%s", name);
    disk_do_chore(d, &c);
    while (c.size != 0)
        disk_poll(d, true);
}

/* --- every request fails once --- */

/* True: nothing failed any more. */
static bool open_with_failure(const struct disk *from, uint64_t left, int error)
{
    struct disk *mem = disk_mem_clone(from, left);
    struct disk *d = bad_disk_on(mem, left, error);
    struct wal *opened = NULL;
    volatile int rv = 0;
    fatal_expected = true;
    if (setjmp(fatal) == 0) {
        rv = open_it(d, &opened);
        if (rv == 0)
            wal_close(opened);
    } else {
        rv = 1; /* the process would have ended, and said why */
    }
    fatal_expected = false;
    if (!bad->failed) {
        ck_assert_int_eq(rv, 0);
    } else if (rv < 0) {
        ck_assert(rv == (error == ENOSPC ? TV_ENOSPC : TV_EIO) || rv == TV_EIO);
        ck_assert_msg(strstr(err_text, strerror(error)) != NULL, "%s", err_text);
        ck_assert_msg(strstr(err_text, "mem") != NULL, "%s", err_text);
    }
    if (rv == 0) { /* it could do without */
        ck_assert_uint_eq(seen.wrong_from, 0);
        ck_assert_uint_ge(seen.m.last, 40);
    }
    bool done = !bad->failed;
    /* What it leaves is that log, once the disk is well again. */
    disk_mem_crash(mem);
    if (rv != 0) {
        ck_assert_msg(open_it(mem, &opened) == 0, "%s", err_text);
        ck_assert_uint_eq(seen.wrong_from, 0);
        ck_assert_uint_ge(seen.m.last, 40);
        wal_close(opened);
        disk_mem_crash(mem);
    }
    disk_close(mem);
    return done;
}

START_TEST(test_each_request_fails_once)
{
    struct disk *from = long_log();
    make_file(from, "begun.tmp", 4096);
    for (volatile int error = 0; error < 2; error++) {
        volatile uint64_t left = 0;
        while (!open_with_failure(from, left, error == 0 ? EIO : ENOSPC))
            left++;
        ck_assert_uint_gt(left, 10);
    }
    disk_close(from);
}
END_TEST

/* A log that is made: after a failure it is not there, or whole and empty. */
START_TEST(test_each_request_of_the_first_start_fails_once)
{
    volatile uint64_t left = 0;
    memset(&model, 0, sizeof(model));
    for (volatile bool failed = true; failed; left++) {
        struct disk *mem = disk_mem_new(left);
        struct disk *d = bad_disk_on(mem, left, EIO);
        struct wal *w = NULL;
        fatal_expected = true;
        volatile int rv = 1;
        if (setjmp(fatal) == 0) {
            rv = open_it(d, &w);
            if (rv == 0)
                wal_close(w);
        }
        fatal_expected = false;
        failed = bad->failed;
        if (rv != 0)
            ck_assert_msg(strstr(err_text, strerror(EIO)) != NULL, "%s", err_text);
        disk_mem_crash(mem);
        ck_assert_msg(open_it(mem, &w) == 0, "%s", err_text);
        ck_assert_uint_eq(seen.m.last, 0);
        wal_close(w);
        disk_mem_crash(mem);
        disk_close(mem);
    }
    ck_assert_uint_gt(left, 6);
}
END_TEST

/* --- fields that make no sense, under a good checksum --- */

/* Change the header of a segment. */
#define CHANGE_HEADER(d, name, what)                      \
    do {                                                  \
        uint64_t size_here;                               \
        struct wal_header h;                              \
        uint8_t *p = disk_mem_bytes(d, name, &size_here); \
        ck_assert(wal__header_decode(p, &h));             \
        what;                                             \
        wal__header_encode(p, &h);                        \
        if (h.version == 99)                              \
            set_version(p, 99);                           \
    } while (0)

static void set_version(uint8_t *block, uint32_t version)
{
    struct wal_header h;
    memcpy(&h, block, sizeof(h));
    h.version = version;
    memcpy(block, &h, sizeof(h));
    h.crc = crc32c(0, block + 8, WAL_BLOCK_BYTES - 8);
    memcpy(block, &h, sizeof(h));
}

/* Change the frame at this offset of the first segment; its salt is 42. */
#define CHANGE_FRAME(d, offset, what)                                                    \
    do {                                                                                 \
        uint64_t size_here;                                                              \
        struct wal_frame f;                                                              \
        uint8_t *frame = disk_mem_bytes(d, "0000000000000001.wal", &size_here) + offset; \
        ck_assert(wal__frame_peek(frame, 1, WAL_BLOCK_BYTES, &f));                       \
        what;                                                                            \
        wal__frame_encode(frame, &f, 42);                                                \
    } while (0)

static void refused(struct disk *d, int want, const char *words)
{
    struct wal *w;
    int rv = open_it(d, &w);
    ck_assert_msg(rv == want, "%d: %s", rv, err_text);
    ck_assert_msg(strstr(err_text, words) != NULL, "%s", err_text);
    ck_assert_msg(strstr(err_text, "offset ") != NULL, "%s", err_text);
    disk_close(d);
}

static struct disk *copy_of(const struct disk *from)
{
    return disk_mem_clone(from, 3);
}

START_TEST(test_headers_that_make_no_sense)
{
    static const char first[] = "0000000000000001.wal";
    struct disk *from = long_log(), *d;
    CHANGE_HEADER(d = copy_of(from), first, h.version = 99);
    refused(d, TV_ENOTSUP, "version");
    CHANGE_HEADER(d = copy_of(from), first, h.cluster_id++);
    refused(d, TV_EINVAL, "belongs to cluster");
    CHANGE_HEADER(d = copy_of(from), first, h.member_id++);
    refused(d, TV_EINVAL, "belongs to cluster");
    CHANGE_HEADER(d = copy_of(from), first, h.segment_seq = 7);
    refused(d, TV_ECORRUPT, "the header is that of segment 7");
    CHANGE_HEADER(d = copy_of(from), first, h.first_index = 0);
    refused(d, TV_ECORRUPT, "makes no sense");
    CHANGE_HEADER(d = copy_of(from), first, h.first_batch = 0);
    refused(d, TV_ECORRUPT, "makes no sense");
    CHANGE_HEADER(d = copy_of(from), first, h.first_index = UINT64_MAX);
    refused(d, TV_ECORRUPT, "makes no sense");
    CHANGE_HEADER(d = copy_of(from), first, h.first_batch = UINT64_MAX);
    refused(d, TV_ECORRUPT, "makes no sense");
    /* Of a later segment: what is in it was durable. */
    for (int field = 0; field < 4; field++) {
        CHANGE_HEADER(d = copy_of(from), "0000000000000002.wal", {
            h.salt += field == 0;
            h.cluster_id += field == 1;
            h.member_id += field == 2;
            h.segment_seq += field == 3;
        });
        refused(d, TV_ECORRUPT,
                field < 3 ? "the segment is of another log" : "the header is that of segment 3");
    }
    disk_close(from);
}
END_TEST

START_TEST(test_batches_that_make_no_sense)
{
    struct disk *from = long_log(), *d;
    enum { SECOND = 2 * WAL_BLOCK_BYTES, THIRD = 3 * WAL_BLOCK_BYTES };
    CHANGE_FRAME(d = copy_of(from), SECOND, f.first_index = 0);
    refused(d, TV_ECORRUPT, "without a place");
    CHANGE_FRAME(d = copy_of(from), THIRD, f.first_index = 30);
    refused(d, TV_ECORRUPT, "entries are missing");
    CHANGE_FRAME(d = copy_of(from), SECOND, f.entries_count = 9);
    refused(d, TV_ECORRUPT, "longer than its batch");
    CHANGE_FRAME(d = copy_of(from), SECOND, f.body_bytes = 20);
    refused(d, TV_ECORRUPT, "longer than its batch");
    CHANGE_FRAME(d = copy_of(from), SECOND, f.number += 7); /* another one's place */
    refused(d, TV_ECORRUPT, "was durable");
    disk_close(from);
}
END_TEST

START_TEST(test_files_that_are_missing_short_or_others)
{
    struct disk *from = long_log();
    struct disk *d = copy_of(from);
    remove_file(d, "0000000000000002.wal");
    refused(d, TV_ECORRUPT, "the segment is missing");

    d = copy_of(from);
    make_file(d, "0000000000000001.wal", 512); /* not even a header */
    refused(d, TV_ECORRUPT, "the file is cut off");

    /* Names that only look like a segment's do not matter; what was being made is removed. */
    d = copy_of(from);
    static const char *const names[] = {"0000000000000000.wal",
                                        "000000000000000g.wal",
                                        "00000000000000A1.wal",
                                        "0000000000000001.old",
                                        "000000000000001:.wal",
                                        "notes",
                                        ".tmp",
                                        "x.tmp"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        make_file(d, names[i], 4096);
    struct wal *w;
    ck_assert_msg(open_it(d, &w) == 0, "%s", err_text);
    ck_assert_uint_ge(seen.m.last, 40);
    wal_close(w);
    uint64_t size;
    ck_assert_ptr_null(disk_mem_bytes(d, "x.tmp", &size));
    ck_assert_ptr_nonnull(disk_mem_bytes(d, "notes", &size));
    disk_close(d);
    disk_close(from);
}
END_TEST

/* --- reading back for others --- */

static int read_one(struct wal *w, uint64_t index, uint64_t *ret_term)
{
    struct wal_entry e;
    uint32_t count = 1;
    int rv = wal_read(w, index, index + 1, 1 << 20, &e, &count);
    if (rv == 0) {
        *ret_term = e.term;
        bref_unref(e.owner);
    }
    return rv;
}

/* The log of long_log(), open; its window holds nothing. */
static struct wal *open_copy(const struct disk *from, struct disk **ret)
{
    struct wal *w;
    *ret = bad_disk_on(disk_mem_clone(from, 9), UINT64_MAX, EIO);
    ck_assert_msg(open_it(*ret, &w) == 0, "%s", err_text);
    return w;
}

START_TEST(test_what_cannot_be_read_back)
{
    struct disk *from = long_log(), *d;
    uint64_t size, term = 0;
    struct wal *w = open_copy(from, &d);
    bad->left = 0;
    ck_assert_int_eq(read_one(w, 3, &term), TV_EIO);
    ck_assert_int_eq(read_one(w, 3, &term), 0);
    ck_assert_uint_eq(term, 1);
    ck_assert_int_eq(read_one(w, wal_last_index(w) + 1, &term), TV_EAGAIN);
    struct wal_entry e;
    uint32_t count = 1;
    ck_assert_int_eq(wal_read(w, 3, 3, 10, &e, &count), 0);
    ck_assert_uint_eq(count, 0);
    wal_close(w);
    disk_close(bad->mem);

    /* A bit of entry 3 flips. Or a batch with a good checksum is there: the next one, one with
     * fewer entries than it says, one of a term that lost. */
    for (int how = 0; how < 4; how++) {
        w = open_copy(from, &d);
        uint8_t *p = disk_mem_bytes(bad->mem, "0000000000000001.wal", &size);
        uint8_t *third = NULL, *fourth = NULL;
        for (uint64_t at = WAL_BLOCK_BYTES; at < size; at += WAL_BLOCK_BYTES) {
            struct wal_frame f;
            if (!wal__frame_peek(p + at, 1, WAL_BLOCK_BYTES, &f))
                continue;
            if (f.first_index == 3 && f.entries_count == 1)
                third = p + at;
            if (f.first_index == 4 && f.entries_count == 1)
                fourth = p + at;
        }
        ck_assert(third != NULL && fourth != NULL);
        if (how == 0)
            third[200] ^= 1;
        else if (how == 1)
            memcpy(third, fourth, WAL_BLOCK_BYTES);
        else if (how == 2)
            CHANGE_FRAME(bad->mem, (uint64_t)(third - p), f.entries_count = 2);
        else
            CHANGE_FRAME(bad->mem, (uint64_t)(third - p), {
                struct wal_record r;
                memcpy(&r, frame + sizeof(f), sizeof(r));
                r.term += 7;
                memcpy(frame + sizeof(f), &r, sizeof(r));
            });
        ck_assert_int_eq(read_one(w, 3, &term), TV_ECORRUPT);
        disk_mem_crash(bad->mem);
        wal_abandon(w);
        disk_close(bad->mem);
    }
    disk_close(from);
}
END_TEST

UNIT_MAIN("wal_open", test_each_request_fails_once, test_each_request_of_the_first_start_fails_once,
          test_headers_that_make_no_sense, test_batches_that_make_no_sense,
          test_files_that_are_missing_short_or_others, test_what_cannot_be_read_back)
