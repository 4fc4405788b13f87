/* The durable store behind the store in memory: RocksDB, always a prefix of the raft log.
 *
 * Two things live here. struct lsm is the database: it is opened, scanned into memory at start, and
 * receives commits. struct persist is the thread that follows the store in memory and makes them.
 *
 * Revisions only grow, so nothing is ever inserted between keys that exist: the persist thread
 * writes sorted table files itself, in one pass, and hands them to RocksDB. There is no memtable,
 * no log and no rewriting on the way; a commit is one atomic, fsynced change of RocksDB's manifest.
 *
 * Records, by the first byte of their key; integers in keys are big-endian:
 *   'k' main(8) sub(4) tombstone(1)  -> mvccpb.KeyValue, as the store in memory holds it
 *   'l' lease id(8)                  -> granted TTL (8), remaining TTL (8), in seconds
 *   'm' name                         -> what the owner of the name put there
 *   's'                              -> format version, struct lsm_meta
 *
 * Invariants:
 * 1. What RocksDB holds is the state after entry `applied_index` of the log, no more and no less,
 *    but for versions that a compaction to `compacted` drops: they are there or gone.
 * 2. A version is dropped on disk only when the compaction that gave it up is committed on disk.
 * 3. A commit whose fate is not known ends the process.
 * 4. What was lost, doubled, altered or brought from elsewhere is not loaded: blocks have their
 *    CRCs, the manifest knows each table file's size and unique id, and the versions add up to what
 *    the last commit says. Garbage is collected up to the compaction that the sum is for.
 *
 * Read next: src/lsm.c, src/persist.c. */
#ifndef STORAGE_LSM_H
#define STORAGE_LSM_H

#include "base/buf.h"
#include "base/metric.h"
#include "base/mpsc.h"
#include "base/slice.h"
#include "storage/mvcc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- what a commit says of itself --- */

struct lsm_meta {
    uint64_t applied_index; /* 0 for a fresh store */
    uint64_t applied_term;
    int64_t revision;  /* 1 for a fresh store */
    int64_t compacted; /* -1 when there was no compaction */
    /* What the versions add up to: lsm_load() looks. */
    struct mvcc_content content;
    uint64_t chain; /* the state machine's, kept for it: see server/agree.h */
};

/* What a store says of itself that was never committed to. */
#define LSM_META_FRESH \
    ((struct lsm_meta){.revision = 1, .compacted = -1, .content = {.compacted = -1}})

/* A record outside the key space, to be set or removed with a commit. */
struct persist_meta {
    struct persist_meta *next; /* the one before it in time */
    bool is_delete;
    uint32_t key_size;
    uint32_t value_size;
    uint8_t data[]; /* key with its prefix byte, then value */
};

struct lsm_lease {
    int64_t id;
    int64_t granted_ttl;
    int64_t remaining_ttl; /* as it was last noted on the log; 0: it was not */
};

/* All four prepend to *list, which begins as NULL: the newest is first, and wins. The slices are
 * copied. */
void persist_meta_put(struct persist_meta **list, struct slice name, struct slice value);
void persist_meta_delete(struct persist_meta **list, struct slice name);
void persist_meta_put_lease(struct persist_meta **list, const struct lsm_lease *lease);
void persist_meta_delete_lease(struct persist_meta **list, int64_t lease_id);
void persist_metas_free(struct persist_meta *list);

/* --- the database --- */

struct lsm;

/* In nanoseconds. Owner: the persist thread, but for the last; read by any. */
struct lsm_meters {
    /* What commits took. */
    struct metric_hist commit;
    struct metric_hist files;  /* of that: finishing the table files */
    struct metric_hist ingest; /* and making them part of the database, durably */
    /* For how long the threads that collect garbage and merge files gave way to others; shared. */
    struct metric_counter tidy_pause;
};
#define LSM_METERS_SCALE METRIC_FROM_1_MS(14)

struct lsm_options {
    struct lsm_meters *meters; /* borrowed; default NULL */
    size_t block_cache_bytes;  /* default 4 MiB: nothing is read after start */
    uint32_t open_files_max;   /* default 128 */
    bool compress;             /* LZ4; default true */
    /* Versions that compactions gave up may make this share of what is on disk, in percent, before
     * they are collected (default 50, 1..99), but at least this many (default 100,000). */
    uint32_t garbage_percent;
    uint64_t garbage_versions_min;
    /* While all files together are below `small_store_bytes` (default 256 MiB: some seconds of
     * writing), another share (default 10, 1..99) and a hundredth of the least number count. */
    uint64_t small_store_bytes;
    uint32_t small_store_garbage_percent;
    /* The newest table files are merged when so many of them are below 8 MiB and 50,000 versions
     * (default 16, >= 2). */
    uint32_t small_files_max;
    /* A commit found damage, in words; the process ends when this returns. On the thread that
     * commits; default NULL. */
    void (*damaged)(void *ctx, const char *what);
    void *ctx;
};

void lsm_options_init(struct lsm_options *o);

/* Open the database in folder `dir`, or make it. `o` may be NULL for the defaults.
 * Owns:   on 0 *ret_lsm is the caller's until lsm_close().
 * Errors: TV_EIO, TV_ECORRUPT (also when files are missing), TV_ENOTSUP (another format),
 * TV_ENOSPC, with words in `err_text`, RocksDB's own where it has any. */
int lsm_open(const char *dir, const struct lsm_options *o, struct lsm **ret_lsm, char *err_text,
             size_t err_text_size);
/* No struct persist may be left on it. */
void lsm_close(struct lsm *l);

/* Replace the contents of `m` with what is on disk and say in *ret_meta what entry of the log that
 * is. `threads_count` threads read (0 = one per CPU); the caller's thread, which is the store's
 * writer, links. `lease` (may be NULL) is called for each lease, in order of id, on this thread.
 * Errors: TV_EIO, TV_ECORRUPT with words in `err_text`: `m` keeps its old contents, or when the
 * versions do not add up, has new ones that must not be served. */
int lsm_load(struct lsm *l, struct mvcc *m, uint32_t threads_count, struct lsm_meta *ret_meta,
             void (*lease)(void *ctx, const struct lsm_lease *lease), void *ctx, char *err_text,
             size_t err_text_size);

/* What the last commit says of itself. Thread: any. */
void lsm_meta(struct lsm *l, struct lsm_meta *ret);
/* The committed value of an 'm' record, appended to `ret`. Thread: any.
 * Errors: TV_ENOTFOUND, TV_EIO, TV_ETOOLARGE. */
int lsm_get(struct lsm *l, struct slice name, struct buf *ret);
/* Commit records alone, durable on return: identities at first start. Takes the list.
 * Thread: any, while there is no struct persist on `l`. */
void lsm_put(struct lsm *l, struct persist_meta *metas);

/* Fill a fresh database with all that `m` holds, as one commit, durable on return: for what came
 * from elsewhere, a backup or another member. Takes `metas`, the leases among them.
 * Thread: the store's writer, which has published all; no struct persist on `l`.
 * Errors: TV_ENOSPC: nothing is committed. */
int lsm_save(struct lsm *l, struct mvcc *m, uint64_t applied_index, uint64_t applied_term,
             struct persist_meta *metas);

/* --- a copy of the database for another member ---
 *
 * The copy is what one commit made: the reader walks over RocksDB's files as they were when it was
 * opened, whatever is committed or collected meanwhile. It travels as records, each a key and a
 * value as they are in the database, in ascending order of keys: versions, leases, named records;
 * the state record comes first, by itself, as struct lsm_meta.
 *
 *   record: key size u32, value size u32 (little-endian), key, value */

struct lsm_copy;

/* `skip` names an 'm' record that is not copied.
 * Thread: any, not while the database is being closed.
 * Errors: TV_ENOTFOUND: nothing was ever committed. TV_EIO, TV_ECORRUPT.
 * Owns:   on 0 *ret_copy is the caller's until lsm_copy_close(). lsm_close() may come before that,
 *         on another thread, and ends the copy. */
int lsm_copy_open(struct lsm *l, struct slice skip, struct lsm_copy **ret_copy,
                  struct lsm_meta *ret_meta);
/* Append whole records to `ret`, about bytes_max but at least one; *count says how many, 0 at the
 * end. Reads from the disk. Thread: any, one at a time.
 * Errors: TV_EIO, TV_ECORRUPT; TV_ECLOSED: the database was closed meanwhile. */
int lsm_copy_next(struct lsm_copy *c, size_t bytes_max, struct buf *ret, uint32_t *count);
/* The value of a named record, appended to `ret`; the walk begins anew. Thread: as lsm_copy_next().
 * Errors: TV_ENOTFOUND; as lsm_copy_next(). */
int lsm_copy_get(struct lsm_copy *c, struct slice name, struct buf *ret);
/* From the beginning again: the same records. Thread, errors: as lsm_copy_next(). */
int lsm_copy_rewind(struct lsm_copy *c);
/* The parts of the next of such records, which point into it; `records` moves on. False at the end.
 * For records of this program's own: asserts that they are well-formed. */
bool lsm_record_next(struct slice *records, struct slice *ret_key, struct slice *ret_value);
/* What a record's key says. Versions: their number and kind; leases: all of it. */
enum lsm_record_kind { LSM_RECORD_VERSION, LSM_RECORD_LEASE, LSM_RECORD_NAMED, LSM_RECORD_OTHER };
struct lsm_record {
    enum lsm_record_kind kind;
    int64_t main;
    uint32_t sub;
    bool tombstone;
    struct lsm_lease lease; /* LEASE */
    struct slice name;      /* NAMED */
};
void lsm_record_parse(struct slice key, struct slice value, struct lsm_record *ret);
/* RocksDB's words about the last error. */
const char *lsm_copy_error(const struct lsm_copy *c);
void lsm_copy_close(struct lsm_copy *c);

/* The other end: a fresh database is filled, and what becomes the store in memory is kept beside.
 */
struct lsm_intake;

/* `dir` must not exist. Errors: TV_EIO, TV_ECORRUPT, TV_ENOSPC with words in err_text. */
int lsm_intake_open(const char *dir, const struct lsm_meta *meta, struct lsm_intake **ret,
                    char *err_text, size_t err_text_size);
/* Take records. Thread: any, one at a time; so is the next one.
 * Errors: TV_ECORRUPT: they are no records of a database, or do not follow the last ones;
 * TV_ENOSPC. */
int lsm_intake_add(struct lsm_intake *in, struct slice records);
/* All came: make the database durable and close it. `metas` (taken) go with it, and win. */
void lsm_intake_commit(struct lsm_intake *in, struct persist_meta *metas);
const struct lsm_meta *lsm_intake_meta(const struct lsm_intake *in);
/* The value of the named record that came, borrowed; data is NULL when none did. */
struct slice lsm_intake_get(const struct lsm_intake *in, struct slice name);
/* Replace the contents of `m`; once, after the commit. `lease` is called for each lease.
 * Thread: the store's writer.
 * Errors: TV_ECORRUPT: what came does not add up to what its state says. `m` must not be served. */
int lsm_intake_load(struct lsm_intake *in, struct mvcc *m,
                    void (*lease)(void *ctx, const struct lsm_lease *lease), void *ctx);
/* Closes the database; its folder stays. */
void lsm_intake_free(struct lsm_intake *in);

struct lsm_stats {
    uint64_t disk_bytes; /* table files */
    uint64_t files_count;
    uint64_t versions; /* 'k' records on disk, given up or not */
    uint64_t garbage;  /* of these, about: given up and not collected yet */
    uint64_t commits;
    uint64_t commit_ns; /* spent in commits: finish, fsync, manifest */
};
/* Thread: any. */
void lsm_stats(struct lsm *l, struct lsm_stats *ret);

/* --- the seam below the persist thread --- */

/* Where committed state goes. The real one is RocksDB's (the default); a simulator brings its own,
 * in memory, and sets persist_options.threaded to false: then everything happens inside
 * persist_submit() and persist_request_flush(). All but `detach` run on the persist thread. */
struct persist_store {
    void *ctx;
    /* Take what the last commit says of itself; collect garbage by asking `m` from now on. */
    void (*attach)(void *ctx, struct mvcc *m, struct lsm_meta *ret_meta);
    /* The next change in order; part of the next commit. Borrowed during the call. */
    void (*put)(void *ctx, const struct mvcc_version *v);
    /* What was put may go on its way to the disk. Nobody waits for this: it may take its time.
     * NULL: it all goes with the commit. */
    void (*hand_over)(void *ctx);
    /* Make durable: all that was put since the last commit, and `metas` (borrowed; newest first,
     * the newest of equal keys wins). On return it is, or the process has ended. */
    void (*commit)(void *ctx, const struct lsm_meta *meta, const struct persist_meta *metas);
    /* Is there room for more, whatever it is? While there is not, nothing is put or committed.
     * NULL: always. */
    bool (*has_room)(void *ctx);
    /* Forget what was put and not committed; `m` is not asked any more. */
    void (*detach)(void *ctx);
};

/* --- the persist thread --- */

struct persist;

/* Everything applied between the last batch and entry `applied_index`. */
struct persist_batch {
    struct mpsc_node node;
    uint64_t applied_index;
    uint64_t applied_term;
    int64_t revision; /* published */
    int64_t compacted;
    struct mvcc_content content;
    uint64_t chain;
    struct persist_meta *metas;
};

/* With its metas. A batch is mem_alloc_zero'd by whoever fills it in. */
void persist_batch_free(struct persist_batch *b);

struct persist_options {
    struct lsm *lsm; /* may be NULL when `store` is set */
    struct mvcc *mvcc;
    const struct persist_store *store; /* default NULL: the lsm. Copied */
    bool threaded;                     /* default true */
    /* Commit when this much waits since the last commit, whatever comes first: it bounds what a
     * restart replays from the log. */
    uint64_t flush_bytes;       /* of encoded versions and metas; default 64 MiB */
    uint64_t flush_entries;     /* of the log; default 200,000 */
    uint64_t flush_interval_ms; /* default 60,000; only when something waits. Not when unthreaded */
    /* Takes up to a quarter off the first two, and adds up to 20 ms to the pace, by its lowest
     * bits: members that differ in it do not write much at the same moment. */
    uint64_t spread; /* default 0 */
    /* The thread waits so long for more before it takes what came in, so that a busy core wakes it
     * rarely. */
    uint32_t pace_ms; /* default 5 */
};

void persist_options_init(struct persist_options *o);

/* The store in memory must hold what the lsm holds, or follow from it: after lsm_load(). What is
 * put on the log's later entries reaches the disk through persist_submit() alone.
 * Thread: core; it calls mvcc_set_persisted_revision() at once. */
struct persist *persist_new(const struct persist_options *o);
/* Writes and commits all that was submitted, unless there is no room, then ends the thread. */
void persist_free(struct persist *p);
/* Ends the thread without a commit: what was not committed is lost, as in a crash. */
void persist_abort(struct persist *p);

/* Takes the batch. Never blocks. Batches come in the order of applied_index; everything up to
 * `revision` is published.
 * Thread: core. Limit: what waits is bounded by the entries applied; see persist_backlog(). */
void persist_submit(struct persist *p, struct persist_batch *b);
/* Thread: any. Entries of the log submitted and not yet handed to the store. */
uint64_t persist_backlog(const struct persist *p);
/* Thread: any. The store has no room: what is submitted waits. */
bool persist_lacks_room(const struct persist *p);
/* Thread: any. The entry of the last commit: the log is needed from the next one on. */
uint64_t persist_flushed_index(const struct persist *p);
/* Thread: any. Commit soon what was submitted before this call. */
void persist_request_flush(struct persist *p);

#endif
