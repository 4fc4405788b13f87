/* Any bytes as a snapshot file: it is looked at, and a member's data made from it, or it is
 * refused. The first meta page is made to verify, so that what it leads to is reached. */
#include "bbolt_format.h"

#include "base/folder.h"
#include "state/backup.h"

#include "base/assert.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64];

static void remove_dir(void)
{
    folder_remove(dir);
}

static void make_dir(void)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(dir, sizeof(dir), "%s/trivet-fuzz-XXXXXX", base);
    ASSERT(mkdtemp(dir) != NULL);
    (void)atexit(remove_dir);
}

static void make_meta_verify(uint8_t *file, size_t size)
{
    uint8_t *p = file + BBOLT_PAGE_HEAD_BYTES;
    bbolt__put32(p, BBOLT_MAGIC);
    bbolt__put32(p + 4, BBOLT_VERSION);
    bbolt__put32(p + 8, BBOLT_PAGE_BYTES);
    bbolt__put64(p + 40, size / BBOLT_PAGE_BYTES);
    bbolt__put64(p + 56, bbolt__checksum(p, BBOLT_META_CHECKED_BYTES));
}

static void write_file(const char *path, const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0);
    ssize_t n = write(fd, data, size);
    ASSERT(n == (ssize_t)size);
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[80], data_dir[80], why[1024] = "";
    struct backup_status status;
    if (dir[0] == '\0')
        make_dir();
    (void)snprintf(path, sizeof(path), "%s/file", dir);
    (void)snprintf(data_dir, sizeof(data_dir), "%s/data", dir);
    uint8_t *copy = mem_dup(data, size);
    if (size >= 2 * BBOLT_PAGE_BYTES)
        make_meta_verify(copy, size);
    write_file(path, copy, size);
    mem_free(copy);
    int rv = backup_status(path, &status, why, sizeof(why));
    ASSERT(rv == 0 || why[0] != '\0');
    struct backup_restore o = {
        .path = path,
        .data_dir = data_dir,
        .wal_dir = "",
        .name = "f",
        .initial_cluster = "f=http://localhost:2380",
        .initial_cluster_token = "etcd-cluster",
        .advertise_peer_urls = "http://localhost:2380",
        .skip_hash_check = true,
        .bump_revision = size % 3 == 0 ? 1000 : 0,
    };
    rv = backup_restore(&o, why, sizeof(why));
    ASSERT(rv == 0 || why[0] != '\0');
    folder_remove(data_dir);
    return 0;
}
