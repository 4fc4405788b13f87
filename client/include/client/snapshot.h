/* trivetctl snapshot save, status and restore, as etcdctl and etcdutl have them. */
#ifndef CLIENT_SNAPSHOT_H
#define CLIENT_SNAPSHOT_H

#include "client/unary.h"

#include <stdbool.h>
#include <stdint.h>

/* Stream a snapshot from the one endpoint into the file; it has its name only when it is whole and
 * durable. `timeout_ms` 0: none.
 * Errors: TV_* with words in err_text. */
int snapshot_save(const char *endpoint, const struct client_tls *tls, uint64_t timeout_ms,
                  const char *path, char *ret_version, size_t version_size, char *err_text,
                  size_t err_size);

/* What the flags of status and restore say; NULL: the flag was not given. */
struct snapshot_flags {
    const char *write_out;
    const char *data_dir;
    const char *wal_dir;
    const char *name;
    const char *initial_cluster;
    const char *initial_cluster_token;
    const char *advertise_peer_urls;
    bool skip_hash_check;
    bool mark_compacted;
    uint64_t bump_revision;
};
/* Implemented where the store is known (ctl/); both print what there is to print. The process's
 * exit status. */
int snapshot_status_command(const struct snapshot_flags *flags, const char *path);
int snapshot_restore_command(const struct snapshot_flags *flags, const char *path);

#endif
