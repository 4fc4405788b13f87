/* The snapshot that etcd reads: a bbolt file with etcd's buckets, made as a stream out of what one
 * commit of RocksDB holds.
 *
 * The store's versions are on disk in the order in which the file wants them, by revision; so the
 * file is the result of two walks over a copy of the database (storage/lsm.h): the first one finds
 * out how many pages there will be, the second one makes them. Only which versions the last
 * compaction gave up is not known to the disk: for that the first walk asks the store in memory, at
 * the revision of that compaction, under a pin that is released when the walk is through. It leaves
 * one bit for each version up to there. So a client that reads slowly holds files on the disk and
 * some memory, but no versions.
 *
 * Buckets and encodings: etcd server/storage/schema, server/storage/mvcc, server/lease/leasepb. */
#ifndef SERVER_SNAPFILE_H
#define SERVER_SNAPFILE_H

#include "base/buf.h"
#include "storage/lsm.h"
#include "storage/mvcc.h"

struct snapfile;

/* What the database holds now, which must have been committed to since the last compaction.
 * Thread: the core's.
 * Owns:   on 0 *ret is the caller's until snapfile_close(), which comes before mvcc_free().
 * Errors: TV_EAGAIN: a compaction is not committed yet; TV_EBUSY: no pin is free; TV_ENOTFOUND:
 *         nothing was ever committed; TV_EIO, TV_ECORRUPT. */
int snapfile_open(struct lsm *l, struct mvcc *m, struct snapfile **ret);
/* Thread: any, no other function running. */
void snapfile_close(struct snapfile *f);

/* Thread: any. The revision that it is of. */
int64_t snapfile_revision(const struct snapfile *f);
/* After the first walk: of the storage, "3.7.0". */
const char *snapfile_version(const struct snapfile *f);
/* Go on: look at about bytes_max bytes of records. The first walk is through when snapfile_bytes()
 * is not 0; from then on the file's next bytes are appended to `ret`. *ret_end: all is there.
 * Thread: any, one at a time; reads from the disk.
 * Errors: TV_ECLOSED: the store was replaced meanwhile; TV_EBUSY: no reader's slot is free;
 *         TV_EIO, TV_ECORRUPT: snapfile_error(). */
int snapfile_read(struct snapfile *f, size_t bytes_max, struct buf *ret, bool *ret_end);
/* The file's size, 0 as long as it is not known. */
uint64_t snapfile_bytes(const struct snapfile *f);
/* After the first walk: etcd's hash of all buckets, but for what differs between members by nature:
 * consistent index, term and the storage's version. */
uint32_t snapfile_hash(const struct snapfile *f);
const char *snapfile_error(const struct snapfile *f);

#endif
