/* The version that the cluster speaks, and whether it is about to be downgraded: replicated state,
 * changed by entries of the log alone.
 *
 * etcd lets a cluster go one minor version down at a time: an operator says so (ENABLE), the leader
 * lowers the cluster's version, every member's storage follows, and then the members are replaced
 * by older ones. CANCEL takes it back. Here the steps are the same, so that what watches an upgrade
 * or a downgrade sees what it expects; a member of trivet itself has one version.
 *
 * Threads: changed by the core's; read by any. Source of the rules: etcd
 * server/etcdserver/version. */
#ifndef SERVER_VERSIONS_H
#define SERVER_VERSIONS_H

#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VERSIONS_MAJOR = 3, VERSIONS_TEXT_BYTES = 24, VERSIONS_RECORD_BYTES = 8 };

/* The cluster's version is 3.minor. */
struct versions {
    _Atomic uint64_t state; /* the record: minor (2), target's minor (2), enabled (1) */
};

struct versions_now {
    uint16_t minor;
    uint16_t target_minor;
    bool downgrade; /* to 3.target_minor */
};

void versions_init(struct versions *v);
void versions_now(const struct versions *v, struct versions_now *ret);
/* "3.7.0" or, in short, "3.7". */
void versions_text(uint16_t minor, char ret[VERSIONS_TEXT_BYTES]);
void versions_short_text(uint16_t minor, char ret[VERSIONS_TEXT_BYTES]);

/* As an operator names a version: "3.6" or "3.6.1". False: it is no version. */
bool versions_parse(struct slice text, int64_t *ret_major, int64_t *ret_minor);

/* What the leader is to make the cluster's version; false: it is as it should be. */
bool versions_to_set(const struct versions *v, uint16_t *ret_minor);

/* --- the core's: bodies of entries (membershippb), made and applied --- */

/* ClusterVersionSetRequest: 1 ver. */
size_t versions_put_cluster_set(uint8_t *dst, size_t size_max, uint16_t minor);
/* DowngradeInfoSetRequest: 1 enabled, 2 ver. */
size_t versions_put_downgrade_set(uint8_t *dst, size_t size_max, bool enabled, uint16_t minor);
/* What names no version of this major one changes nothing. Errors: TV_EMALFORMED. */
int versions_apply_cluster_set(struct versions *v, struct slice body);
int versions_apply_downgrade_set(struct versions *v, struct slice body);

/* As kept in the store. Errors of decoding: TV_ECORRUPT. */
void versions_encode(const struct versions *v, uint8_t ret[VERSIONS_RECORD_BYTES]);
int versions_decode(struct versions *v, struct slice record);

#endif
