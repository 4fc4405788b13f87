/* Snapshot files, etcd's or trivet's: what is in one, and a member's data folder made from one.
 *
 * A restored member is the first state of a new cluster: keys, revisions, leases and the compaction
 * are those of the file, the members those of the flags; every member is restored from the same
 * file with the same flags, but for its name. Users and roles come along. Alarms do not: they are
 * about members that are gone.
 *
 * Thread: any, for command lines: it takes its time and the memory of all the keys. Texts of errors
 * are those of etcdutl (etcdutl/snapshot). */
#ifndef STATE_BACKUP_H
#define STATE_BACKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct backup_status {
    uint32_t hash;
    int64_t revision;
    uint64_t keys_count;
    uint64_t size_bytes;
    char version[32]; /* of the storage; "" when the file says none */
};
/* Errors: TV_EIO, TV_ECORRUPT, TV_ENOTSUP with words in err_text. */
int backup_status(const char *path, struct backup_status *ret, char *err_text, size_t err_size);

struct backup_restore {
    const char *path;
    const char *data_dir; /* must not exist, or be empty */
    const char *wal_dir;  /* "": in data_dir. It must not exist, and is made at the first start */
    const char *name;
    const char *initial_cluster;
    const char *initial_cluster_token;
    const char *advertise_peer_urls;
    bool skip_hash_check;
    /* The revision after the restore is so much higher, and all before it is compacted; 0: as it
     * was. */
    uint64_t bump_revision;
    /* How much of the file is read; all: what was read is being written. NULL: nobody asks. */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t all_bytes);
    void *progress_arg;
};
/* Durable on return; what was made before an error is no data folder yet.
 * Errors: TV_EINVAL, TV_EEXIST, TV_EIO, TV_ECORRUPT, TV_ENOTSUP with words in err_text. */
int backup_restore(const struct backup_restore *o, char *err_text, size_t err_size);

#endif
