/* The small buckets of a snapshot file: all but "key" and "lease". */
#ifndef SERVER_SNAPFILE_META_H
#define SERVER_SNAPFILE_META_H

#include "server/versions.h"

#include "base/buf.h"
#include "storage/lsm.h"

/* Buckets in the order of their names, which is bbolt's. */
enum snapfile_bucket {
    SNAPFILE_ALARM,
    SNAPFILE_AUTH,
    SNAPFILE_AUTH_ROLES,
    SNAPFILE_AUTH_USERS,
    SNAPFILE_CLUSTER,
    SNAPFILE_KEY,
    SNAPFILE_LEASE,
    SNAPFILE_MEMBERS,
    SNAPFILE_MEMBERS_REMOVED,
    SNAPFILE_META,
    SNAPFILE_BUCKETS_COUNT,
};
struct slice snapfile_bucket_name(enum snapfile_bucket bucket);

struct snapfile_entry {
    enum snapfile_bucket bucket;
    struct slice key;
    struct slice value;
};

/* By bucket, then key. */
struct snapfile_entries {
    struct snapfile_entry *items;
    uint32_t count;
    uint32_t capacity;
    char version[VERSIONS_TEXT_BYTES]; /* of the storage */
};

/* From the named records of a copy, and what it says of itself. *ret is to be freed in any case.
 * Errors: TV_EIO, TV_ECORRUPT, TV_ECLOSED. */
int snapfile_entries_read(struct lsm_copy *copy, const struct lsm_meta *meta,
                          struct snapfile_entries *ret);
void snapfile_entries_free(struct snapfile_entries *e);

/* A revision as etcd's keys have it: 8 bytes main, '_', 8 bytes sub, and 't' for a tombstone.
 * Returns the size: 17 or 18. */
enum { SNAPFILE_REVISION_BYTES_MAX = 18 };
size_t snapfile_put_revision(uint8_t *dst, int64_t main, uint32_t sub, bool tombstone);

#endif
