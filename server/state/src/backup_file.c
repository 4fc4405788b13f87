#include "backup_file.h"

#include "state/backup.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/u64map.h"
#include "proto/wirefield.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR_BYTES = 512 }; /* a database is a multiple of it: what is more by 32 has a hash */

/* --- the file --- */

static int map_file(const char *path, struct slice *ret, char *err_text, size_t err_size)
{
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *p = MAP_FAILED;
    if (fd >= 0 && fstat(fd, &s) == 0) {
        if (s.st_size == 0)
            errno = ENODATA;
        else
            p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    int error = errno;
    if (fd >= 0)
        (void)close(fd); /* nothing was written */
    if (p == MAP_FAILED) {
        (void)snprintf(err_text, err_size, "%s: %s", path, strerror(error));
        return TV_EIO;
    }
    *ret = slice_of(p, (size_t)s.st_size);
    return 0;
}

int backup_file_open(const char *path, struct backup_file *ret, char *err_text, size_t err_size)
{
    char why[200];
    *ret = (struct backup_file){0};
    int err = map_file(path, &ret->mapped, err_text, err_size);
    if (err != 0)
        return err;
    struct slice db = ret->mapped;
    if (db.size % SECTOR_BYTES == BACKUP_HASH_BYTES) {
        db.size -= BACKUP_HASH_BYTES;
        ret->hash = slice_of(db.data + db.size, BACKUP_HASH_BYTES);
    }
    err = bbolt_open(db, &ret->db, why, sizeof(why));
    if (err != 0) {
        (void)snprintf(err_text, err_size, "%s: %s", path, why);
        backup_file_close(ret);
    }
    return err;
}

void backup_file_close(struct backup_file *f)
{
    bbolt_close(f->db);
    if (f->mapped.size > 0)
        (void)munmap((void *)f->mapped.data, f->mapped.size);
    *f = (struct backup_file){0};
}

static void put_hash(char *dst, size_t size, const uint8_t *hash)
{
    size_t at = 0;
    for (int i = 0; i < BACKUP_HASH_BYTES && at < size; i++)
        at += (size_t)snprintf(dst + at, size - at, i == 0 ? "%u" : " %u", hash[i]);
}

int backup_file_check(const struct backup_file *f, char *err_text, size_t err_size)
{
    uint8_t made[EVP_MAX_MD_SIZE];
    unsigned made_size = 0;
    size_t size = f->mapped.size - BACKUP_HASH_BYTES;
    ASSERT(f->hash.size == BACKUP_HASH_BYTES);
    if (EVP_Digest(f->mapped.data, size, made, &made_size, EVP_sha256(), NULL) != 1)
        tv_fatal("SHA-256 is not available in this machine's OpenSSL");
    if (memcmp(made, f->hash.data, BACKUP_HASH_BYTES) == 0)
        return 0;
    char expected[160], got[160];
    put_hash(expected, sizeof(expected), f->hash.data);
    put_hash(got, sizeof(got), made);
    (void)snprintf(err_text, err_size, "expected sha256 [%s], got [%s]", expected, got);
    return TV_ECORRUPT;
}

/* --- entries --- */

static uint64_t get_be64(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof(x));
    return __builtin_bswap64(x);
}

bool backup_revision_parse(struct slice key, int64_t *ret_main, int64_t *ret_sub,
                           bool *ret_tombstone)
{
    bool tombstone = key.size == 18 && key.data[17] == 't';
    if ((key.size != 17 && !tombstone) || key.data[8] != '_')
        return false;
    *ret_main = (int64_t)get_be64(key.data);
    *ret_sub = (int64_t)get_be64(key.data + 9);
    *ret_tombstone = tombstone;
    return *ret_main >= 0 && *ret_sub >= 0;
}

int backup_kv_key(struct slice kv, struct slice *ret)
{
    struct wire_reader r = wire_reader_of(kv);
    struct wire_field f;
    int rv;
    *ret = SLICE_EMPTY;
    while ((rv = wire_next_field(&r, &f)) == 1)
        if (f.number == 1 && f.type == WIRE_BYTES)
            *ret = f.bytes;
    return rv;
}

/* --- status --- */

struct status_walk {
    struct backup_status *status;
    struct slice bucket;
    struct u64map keys; /* by their hashes: those that exist */
    const char *problem;
};

static bool on_bucket(void *ctx, struct slice name)
{
    struct status_walk *w = ctx;
    w->bucket = name;
    w->status->hash = crc32c(w->status->hash, name.data, name.size);
    return true;
}

static int on_version(struct status_walk *w, struct slice key, struct slice value)
{
    int64_t main, sub;
    bool tombstone;
    struct slice name;
    if (!backup_revision_parse(key, &main, &sub, &tombstone)) {
        w->problem = "cannot parse revision key";
        return TV_ECORRUPT;
    }
    if (backup_kv_key(value, &name) != 0) {
        w->problem = "cannot unmarshal value";
        return TV_ECORRUPT;
    }
    w->status->revision = main;
    uint64_t hash = hash64(name, 0) | 1;
    if (tombstone)
        (void)u64map_remove(&w->keys, hash);
    else
        (void)u64map_put(&w->keys, hash, w);
    return 0;
}

static int on_entry(void *ctx, struct slice key, struct slice value)
{
    struct status_walk *w = ctx;
    w->status->hash = crc32c(w->status->hash, key.data, key.size);
    w->status->hash = crc32c(w->status->hash, value.data, value.size);
    if (slice_equal(w->bucket, SLICE_LITERAL("key")))
        return on_version(w, key, value);
    bool is_version = slice_equal(w->bucket, SLICE_LITERAL("meta")) &&
                      slice_equal(key, SLICE_LITERAL("storageVersion"));
    if (is_version && value.size < sizeof(w->status->version)) {
        memcpy(w->status->version, value.data, value.size);
        w->status->version[value.size] = '\0';
    }
    return 0;
}

int backup_status(const char *path, struct backup_status *ret, char *err_text, size_t err_size)
{
    struct backup_file f;
    int err = backup_file_open(path, &f, err_text, err_size);
    if (err != 0)
        return err;
    *ret = (struct backup_status){.size_bytes = bbolt_bytes(f.db)};
    struct status_walk w = {.status = ret};
    u64map_init(&w.keys);
    err = bbolt_walk(f.db,
                     &(struct bbolt_visitor){.bucket = on_bucket, .entry = on_entry, .ctx = &w});
    ret->keys_count = w.keys.count;
    if (err != 0)
        (void)snprintf(err_text, err_size, "snapshot file integrity check failed. %s",
                       w.problem != NULL ? w.problem : bbolt_error(f.db));
    u64map_fini(&w.keys);
    backup_file_close(&f);
    return err;
}
