/* The disks: the same cases on io_uring, on the thread and in memory, and what only memory can do.
 */
#include "unit.h"

#include "storage/disk.h"
#include "storage/disk_mem.h"

#include "base/err.h"
#include "base/mem.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static char dir_name[64];

static void make_dir_name(void)
{
    (void)snprintf(dir_name, sizeof(dir_name), "test-disk-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir_name));
}

/* The disk left nothing behind but what its probes write to. */
static void remove_disk(const char *dir)
{
    char probe[128];
    (void)snprintf(probe, sizeof(probe), "%s/probe", dir);
    ck_assert_int_eq(unlink(probe), 0);
    ck_assert_int_eq(rmdir(dir), 0);
}

static int chore_result;

static void chore_done(struct disk_chore *req, int err)
{
    chore_result = err;
}

static int do_chore(struct disk *d, enum disk_chore_kind kind, const char *name, const char *to,
                    uint64_t size)
{
    struct disk_chore req = {.kind = kind, .size = size, .done = chore_done};
    (void)snprintf(req.name, sizeof(req.name), "%s", name);
    (void)snprintf(req.to, sizeof(req.to), "%s", to);
    chore_result = 1;
    disk_do_chore(d, &req);
    while (chore_result == 1)
        disk_poll(d, true);
    return chore_result;
}

static uint32_t writes_done;
static int write_result;

static void write_done(struct disk_write *req, int err)
{
    writes_done++;
    write_result = err;
}

static void count_name(void *ctx, const char *name)
{
    *(uint32_t *)ctx += strcmp(name, "probe") != 0;
}

static void exercise(struct disk *d)
{
    enum { BLOCKS = 16 };
    ck_assert_int_gt((int)strlen(disk_describe(d)), 0);
    ck_assert_int_eq(do_chore(d, DISK_PREPARE, "a", "", BLOCKS * DISK_BLOCK_BYTES), 0);
    struct disk_file *f;
    ck_assert_int_eq(disk_open_file(d, "absent", &f), -ENOENT);
    ck_assert_int_eq(disk_open_file(d, "a", &f), 0);
    uint64_t size;
    ck_assert_int_eq(disk_file_size(d, f, &size), 0);
    ck_assert_uint_eq(size, BLOCKS * DISK_BLOCK_BYTES);

    uint8_t *data = mem_alloc_aligned(DISK_BLOCK_BYTES, BLOCKS * DISK_BLOCK_BYTES);
    uint8_t *back = mem_alloc_aligned(DISK_BLOCK_BYTES, BLOCKS * DISK_BLOCK_BYTES);
    ck_assert_int_eq(disk_read(d, f, 0, back, BLOCKS * DISK_BLOCK_BYTES),
                     BLOCKS * DISK_BLOCK_BYTES);
    for (size_t i = 0; i < BLOCKS * DISK_BLOCK_BYTES; i++) {
        ck_assert_int_eq(back[i], 0);
        data[i] = (uint8_t)(i * 31 + i / DISK_BLOCK_BYTES);
    }
    struct disk_write reqs[BLOCKS / 2];
    writes_done = 0;
    for (uint64_t i = 0; i < BLOCKS / 2; i++) {
        uint64_t offset = i * 2 * DISK_BLOCK_BYTES;
        reqs[i] = (struct disk_write){.file = f,
                                      .offset = offset,
                                      .data = data + offset,
                                      .size = 2 * DISK_BLOCK_BYTES,
                                      .done = write_done};
        disk_write(d, &reqs[i]);
    }
    while (writes_done < BLOCKS / 2)
        disk_poll(d, true);
    ck_assert_int_eq(write_result, 0);
    ck_assert_int_eq(disk_sync_file(d, f), 0);
    ck_assert_int_eq(disk_read(d, f, 0, back, BLOCKS * DISK_BLOCK_BYTES),
                     BLOCKS * DISK_BLOCK_BYTES);
    ck_assert_mem_eq(back, data, BLOCKS * DISK_BLOCK_BYTES);
    /* At the end a read is short. */
    ck_assert_int_eq(disk_read(d, f, (BLOCKS - 1) * DISK_BLOCK_BYTES, back, 4 * DISK_BLOCK_BYTES),
                     DISK_BLOCK_BYTES);
    disk_poll(d, true); /* with nothing under way it returns */
    disk_close_file(d, f);

    ck_assert_int_eq(do_chore(d, DISK_RENAME, "a", "b", 0), 0);
    ck_assert_int_eq(do_chore(d, DISK_RENAME, "a", "c", 0), -ENOENT);
    uint32_t names = 0;
    ck_assert_int_eq(disk_list(d, count_name, &names), 0);
    ck_assert_uint_eq(names, 1);
    ck_assert_int_eq(disk_open_file(d, "b", &f), 0);
    ck_assert_int_eq(disk_read(d, f, 0, back, DISK_BLOCK_BYTES), DISK_BLOCK_BYTES);
    ck_assert_mem_eq(back, data, DISK_BLOCK_BYTES);
    disk_close_file(d, f);
    ck_assert_int_eq(do_chore(d, DISK_UNLINK, "b", "", 0), 0);
    ck_assert_int_eq(do_chore(d, DISK_UNLINK, "b", "", 0), 0);
    mem_free(data);
    mem_free(back);
}

START_TEST(test_thread)
{
    char err[256] = "";
    struct disk *d;
    make_dir_name();
    ck_assert_msg(disk_open(DISK_SYNC, dir_name, &d, err, sizeof(err)) == 0, "%s", err);
    ck_assert(disk_fd(d) >= 0);
    exercise(d);
    disk_close(d);
    remove_disk(dir_name);
}
END_TEST

START_TEST(test_uring)
{
    char err[256] = "";
    struct disk *d;
    make_dir_name();
    int rv = disk_open(DISK_URING, dir_name, &d, err, sizeof(err));
    if (rv == TV_ENOTSUP) { /* forbidden here: then it must say so */
        ck_assert_ptr_nonnull(strstr(err, "io_uring"));
        remove_disk(dir_name);
        return;
    }
    ck_assert_msg(rv == 0, "%s", err);
    exercise(d);
    disk_close(d);
    remove_disk(dir_name);
}
END_TEST

START_TEST(test_auto_and_lock)
{
    char err[256] = "";
    struct disk *d, *second;
    make_dir_name();
    char inner[96];
    (void)snprintf(inner, sizeof(inner), "%s/wal", dir_name);
    ck_assert_msg(disk_open(DISK_AUTO, inner, &d, err, sizeof(err)) == 0, "%s", err);
    ck_assert_int_eq(disk_open(DISK_AUTO, inner, &second, err, sizeof(err)), TV_EBUSY);
    ck_assert_ptr_nonnull(strstr(err, "another process"));
    ck_assert_int_eq(disk_open(DISK_SYNC, "/proc/nowhere", &second, err, sizeof(err)), TV_EIO);
    exercise(d);
    disk_close(d);
    remove_disk(inner);
    ck_assert_int_eq(rmdir(dir_name), 0);
}
END_TEST

/* A host that forbids io_uring: asked for by name it is an error that says so, else the thread
 * serves. The filter stays until the process ends: run this case last. */
START_TEST(test_uring_forbidden)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        return; /* a kernel without filters cannot show it */
    char err[256] = "";
    struct disk *d;
    make_dir_name();
    ck_assert_int_eq(disk_open(DISK_URING, dir_name, &d, err, sizeof(err)), TV_ENOTSUP);
    ck_assert_ptr_nonnull(strstr(err, "io_uring is not permitted here"));
    ck_assert_msg(disk_open(DISK_AUTO, dir_name, &d, err, sizeof(err)) == 0, "%s", err);
    ck_assert_ptr_nonnull(strstr(disk_describe(d), "thread"));
    exercise(d);
    disk_close(d);
    remove_disk(dir_name);
}
END_TEST

START_TEST(test_memory)
{
    struct disk *d = disk_mem_new(1);
    exercise(d);
    disk_mem_set_completion_percent(d, 30);
    exercise(d);
    disk_mem_set_completion_percent(d, 0);
    exercise(d);
    disk_close(d);
}
END_TEST

/* Over many seeds every sector of a write under way is now kept, now lost; nothing else changes. */
START_TEST(test_memory_crash)
{
    enum { SECTORS = 2 * DISK_BLOCK_BYTES / DISK_MEM_SECTOR_BYTES };
    uint8_t *data = mem_alloc_aligned(DISK_BLOCK_BYTES, 2 * DISK_BLOCK_BYTES);
    memset(data, 0xab, 2 * DISK_BLOCK_BYTES);
    uint32_t kept[SECTORS] = {0}, lost[SECTORS] = {0};
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct disk *d = disk_mem_new(seed);
        ck_assert_int_eq(do_chore(d, DISK_PREPARE, "a", "", 4 * DISK_BLOCK_BYTES), 0);
        struct disk_file *f;
        ck_assert_int_eq(disk_open_file(d, "a", &f), 0);
        struct disk_write req = {.file = f,
                                 .offset = DISK_BLOCK_BYTES,
                                 .data = data,
                                 .size = 2 * DISK_BLOCK_BYTES,
                                 .done = write_done};
        disk_write(d, &req);
        ck_assert(disk_mem_busy(d));
        disk_mem_crash(d);
        ck_assert(!disk_mem_busy(d));
        uint64_t size;
        const uint8_t *bytes = disk_mem_bytes(d, "a", &size);
        for (size_t i = 0; i < SECTORS; i++) {
            const uint8_t *sector = bytes + DISK_BLOCK_BYTES + i * DISK_MEM_SECTOR_BYTES;
            kept[i] += memcmp(sector, data, DISK_MEM_SECTOR_BYTES) == 0;
            lost[i] += sector[0] == 0 && sector[DISK_MEM_SECTOR_BYTES - 1] == 0;
        }
        for (size_t i = 0; i < DISK_BLOCK_BYTES; i++) {
            ck_assert_int_eq(bytes[i], 0);
            ck_assert_int_eq(bytes[3 * DISK_BLOCK_BYTES + i], 0);
        }
        disk_close_file(d, f);
        disk_close(d);
    }
    for (size_t i = 0; i < SECTORS; i++) {
        ck_assert_uint_gt(kept[i], 0);
        ck_assert_uint_gt(lost[i], 0);
    }
    mem_free(data);
}
END_TEST

START_TEST(test_memory_fails)
{
    struct disk *d = disk_mem_new(1);
    ck_assert_int_eq(do_chore(d, DISK_PREPARE, "a", "", 4 * DISK_BLOCK_BYTES), 0);
    struct disk_file *f;
    ck_assert_int_eq(disk_open_file(d, "a", &f), 0);
    uint8_t *data = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    memset(data, 1, DISK_BLOCK_BYTES);
    disk_mem_fail_write_after(d, 1, ENOSPC);
    struct disk_write req = {.file = f, .data = data, .size = DISK_BLOCK_BYTES, .done = write_done};
    for (int i = 0; i < 3; i++) {
        disk_write(d, &req);
        disk_poll(d, true);
        ck_assert_int_eq(write_result, i == 1 ? -ENOSPC : 0);
    }
    disk_close_file(d, f);
    disk_close(d);
    mem_free(data);
}
END_TEST

UNIT_MAIN("disk", test_thread, test_uring, test_auto_and_lock, test_memory, test_memory_crash,
          test_memory_fails, test_uring_forbidden)
