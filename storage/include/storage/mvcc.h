/* The store in memory: every key, every version of it that is not compacted, readable at any of
 * those revisions without a lock.
 *
 * A version is one allocation: a small header and the encoded mvccpb.KeyValue, so that an answer or
 * an event is a copy of memory that is already there. Versions of a key form a chain, newest first;
 * an ordered index leads to the newest; a log of all changes in revision order is the history.
 *
 * One writer changes the store in transactions and makes what it did visible with mvcc_publish().
 * Readers work on the last published state: an immutable root, and the revision it belongs to.
 *
 * Invariants:
 * 1. A reader inside an epoch section whose revision was valid there (mvcc_check_revision) or is
 *    pinned sees exactly the state of that revision until it leaves, whatever the writer does.
 * 2. A pointer to a version is good until the end of the section, and beyond it until the release
 *    of a pin that was taken in this section or before; for the writer until its next mvcc_scrub()
 *    or epoch_collect().
 * 3. Revisions start at 1 (empty). A transaction that changes something makes one revision; its
 *    changes are numbered by `sub` from 0.
 * 4. A version may move: mvcc_pack() puts an equal copy in its place. Who looks for it again may
 * find the copy, and the old one is kept for those of 2. So versions are told apart by revision and
 *    sub, never by their address.
 * 5. After mvcc_compact(c), of each key the newest version <= c is kept, unless it is a tombstone
 *    below c; every version above c is kept.
 *
 * Threads: "writer" is the core thread. "reader" is any thread inside a section of mvcc_epoch(m);
 * the writer may call readers' functions without a section. Read next: mvcc.c. */
#ifndef STORAGE_MVCC_H
#define STORAGE_MVCC_H

#include "base/epoch.h"
#include "base/list.h"
#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mvcc;
struct mvcc_node;
struct mvcc_history_chunk;

/* --- versions --- */

enum {
    MVCC_VERSION_TOMBSTONE = 1u, /* the key was deleted */
    MVCC_VERSION_CREATED = 2u,   /* the key did not exist before: version is 1 */
    MVCC_VERSION_LEASED = 4u,    /* lease is not 0 */
    MVCC_VERSION_FLAGS_BITS = 3,
    MVCC_KV_BYTES_MAX = 1 << 28,
};

/* Immutable but for `older`, which the writer cuts. Read through the functions below. */
struct mvcc_version {
    struct mvcc_version *_Atomic older;
    int64_t main;
    uint32_t sub;
    uint32_t bytes_and_flags; /* size of kv << 3 | MVCC_VERSION_* */
    uint8_t kv[];             /* mvccpb.KeyValue; its key is the index's key */
};

/* The encoded mvccpb.KeyValue as it goes over the wire: fields in order, zero fields omitted. A
 * tombstone's has key and mod_revision. */
static inline struct slice mvcc_version_kv(const struct mvcc_version *v)
{
    return slice_of(v->kv, v->bytes_and_flags >> MVCC_VERSION_FLAGS_BITS);
}

static inline int64_t mvcc_version_mod_revision(const struct mvcc_version *v)
{
    return v->main;
}

/* The change's number within its revision. */
static inline uint32_t mvcc_version_sub(const struct mvcc_version *v)
{
    return v->sub;
}

static inline bool mvcc_version_is_tombstone(const struct mvcc_version *v)
{
    return (v->bytes_and_flags & MVCC_VERSION_TOMBSTONE) != 0;
}

/* The key's first version since it was absent; etcd's event.IsCreate(). */
static inline bool mvcc_version_is_created(const struct mvcc_version *v)
{
    return (v->bytes_and_flags & MVCC_VERSION_CREATED) != 0;
}

/* A key is never empty; its length is the varint after the first tag. */
static inline struct slice mvcc_version_key(const struct mvcc_version *v)
{
    const uint8_t *p = v->kv + 1;
    size_t size = *p++;
    if (size >= 0x80) {
        unsigned shift = 7;
        size &= 0x7f;
        for (;;) {
            uint8_t b = *p++;
            size |= (size_t)(b & 0x7f) << shift;
            if (b < 0x80)
                break;
            shift += 7;
        }
    }
    return slice_of(p, size);
}

/* All the fields of a version, decoded at once. A tombstone has key and mod_revision only. */
struct mvcc_kv {
    struct slice key;
    struct slice value;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t version;
    int64_t lease;
};
void mvcc_version_decode(const struct mvcc_version *v, struct mvcc_kv *ret);

struct slice mvcc_version_value(const struct mvcc_version *v);
int64_t mvcc_version_create_revision(const struct mvcc_version *v);
/* Changes since creation, 1 for the first; 0 for a tombstone. */
int64_t mvcc_version_version(const struct mvcc_version *v);
int64_t mvcc_version_lease(const struct mvcc_version *v);
/* What the key held before `v`: NULL when it did not exist, or when a compaction took it. */
const struct mvcc_version *mvcc_version_prev(const struct mvcc_version *v);
/* What etcd's bbolt file holds for `v`: as mvcc_version_kv, but a tombstone has its key alone. */
struct slice mvcc_version_stored_kv(const struct mvcc_version *v);
/* Header and kv together, as allocated. */
size_t mvcc_version_bytes(const struct mvcc_version *v);

/* A version from its stored form (either form of a tombstone), for mvcc_load_add().
 * Thread: any.
 * Owns:   on 0 *ret_version is the caller's until mvcc_load_add takes it, or mvcc_version_free().
 * Errors: TV_ECORRUPT: `kv` does not decode, has no key, or its mod_revision is not `main`. */
int mvcc_version_new(int64_t main, uint32_t sub, bool is_tombstone, struct slice kv,
                     struct mvcc_version **ret_version);
void mvcc_version_free(struct mvcc_version *v);

/* --- life --- */

struct mvcc_options {
    /* The version is about to be dropped, by mvcc_scrub() or as garbage found by mvcc_load_end():
     * what is on disk of it may go too. On the writer's thread; may be NULL. */
    void (*on_drop)(void *ctx, const struct mvcc_version *v);
    void *ctx;
    /* mvcc_pack() moves all that may be moved, wherever it lies: for tests. Default: false. */
    bool move_all;
};

void mvcc_options_init(struct mvcc_options *o);
/* `o` may be NULL for the defaults. */
struct mvcc *mvcc_new(const struct mvcc_options *o);
/* No reader may be inside. */
void mvcc_free(struct mvcc *m);
struct epoch *mvcc_epoch(struct mvcc *m);

/* Thread: any, section or not. What is published; 1 and -1 for a fresh store. */
int64_t mvcc_revision(const struct mvcc *m);
int64_t mvcc_compacted(const struct mvcc *m);

struct mvcc_stats {
    uint64_t keys;          /* that exist now */
    uint64_t versions;      /* in memory, tombstones too */
    uint64_t version_bytes; /* of these, headers too */
    uint64_t index_bytes;
    uint64_t history_count; /* entries of the history */
};
/* Thread: any. As of the last mvcc_publish(). */
void mvcc_stats(const struct mvcc *m, struct mvcc_stats *ret);

/* --- writing: thread: writer --- */

/* Begin a transaction. Returns the revision that its changes will have. */
int64_t mvcc_txn_begin(struct mvcc *m);
/* The revision that reads in this transaction are at: with the first change it becomes the one
 * mvcc_txn_begin() returned. Outside a transaction, the newest one, published or not. */
int64_t mvcc_txn_revision(const struct mvcc *m);
/* Set the key. `value` is copied and may point into the store. *ret_prev (may be NULL) is the
 * version that was current, NULL when there was none. */
const struct mvcc_version *mvcc_txn_put(struct mvcc *m, struct slice key, struct slice value,
                                        int64_t lease, const struct mvcc_version **ret_prev);
/* Delete what exists of the range (see mvcc_iter_init), in key order. For each key `cb` (may be
 * NULL) gets the version that was current. It must not change the store. Returns how many. */
int64_t mvcc_txn_delete_range(struct mvcc *m, struct slice key, struct slice range_end,
                              void (*cb)(void *ctx, const struct mvcc_version *deleted), void *ctx);
/* The revision advances if something changed. Returns the newest revision. */
int64_t mvcc_txn_end(struct mvcc *m);
/* Make all that was done since the last call visible to readers, in one step. */
void mvcc_publish(struct mvcc *m);
/* Have the CPU fetch what changes of these keys will look at: for each a few cache misses, here all
 * at once. At most MVCC_WARM_MAX keys. */
enum { MVCC_WARM_MAX = 16 };
void mvcc_txn_warm(struct mvcc *m, const struct slice *keys, uint32_t count);

/* Reads that see this transaction's own changes. `rev` 0 = mvcc_txn_revision(). */
const struct mvcc_version *mvcc_txn_get(const struct mvcc *m, struct slice key, int64_t rev);
struct mvcc_iter;
void mvcc_txn_iter_init(struct mvcc_iter *it, const struct mvcc *m, struct slice key,
                        struct slice range_end, int64_t rev);
int64_t mvcc_txn_count(const struct mvcc *m, struct slice key, struct slice range_end, int64_t rev);
/* As mvcc_check_revision, against the writer's state. */
int mvcc_txn_check_revision(const struct mvcc *m, int64_t rev, int64_t *ret_rev);
/* As mvcc_compacted(), published or not. */
int64_t mvcc_txn_compacted(const struct mvcc *m);

/* --- reading: thread: reader --- */

/* Is the state of `rev` readable? On 0 *ret_rev is `rev`, or the newest revision for rev <= 0; in
 * this section it stays readable.
 * Errors: TV_COMPACTED, TV_FUTURE_REV. */
int mvcc_check_revision(const struct mvcc *m, int64_t rev, int64_t *ret_rev);

/* The key's version that is current at `rev` (0 = newest); NULL when the key does not exist then.
 */
const struct mvcc_version *mvcc_get(const struct mvcc *m, struct slice key, int64_t rev);

enum { MVCC_HEIGHT_MAX = 12 };

/* A walk over the keys of a range in order, at one revision; lives within one section. */
struct mvcc_iter {
    const struct mvcc_node *path[MVCC_HEIGHT_MAX]; /* root first */
    uint16_t at[MVCC_HEIGHT_MAX];
    uint32_t height;        /* nodes in the path; 0 = at the end */
    bool bounded;           /* range_end may lie within the leaf */
    struct slice range_end; /* empty = no bound */
    int64_t rev;
    const struct mvcc_version *single; /* of a range that is one key */
};

/* etcd's ranges: an empty `range_end` is the one key, "\0" is all keys >= key, and otherwise
 * key <= k < range_end. `range_end` is borrowed as long as the walk lasts. rev 0 = newest. */
void mvcc_iter_init(struct mvcc_iter *it, const struct mvcc *m, struct slice key,
                    struct slice range_end, int64_t rev);
/* Resume in a later section: the keys of the same range after `after`, the last key seen. */
void mvcc_iter_init_after(struct mvcc_iter *it, const struct mvcc *m, struct slice after,
                          struct slice range_end, int64_t rev);
/* The next key's version; NULL at the end. */
const struct mvcc_version *mvcc_iter_next(struct mvcc_iter *it);

/* Keys that exist in the range at `rev` (0 = newest): logarithmic at the newest revision, and
 * otherwise at most linear in what changed since, or in the range if that is less. */
int64_t mvcc_count(const struct mvcc *m, struct slice key, struct slice range_end, int64_t rev);

/* --- pins: a revision that is read in several sections --- */

enum { MVCC_PINS_MAX = 65536 };

struct mvcc_pin {
    struct list link;
    _Atomic int64_t rev;
    uint64_t order; /* among all pins ever taken; UINT64_MAX: its owner holds no versions */
};

/* Keep everything that is visible at `rev`, and the history from `rev` on, until the release, and
 * pointers to versions that were read under the pin. A compaction goes ahead, but what is pinned
 * stays in memory.
 * Thread: reader, inside the section in which it checked `rev`.
 * Errors: TV_EBUSY: MVCC_PINS_MAX are taken. */
int mvcc_pin_take(struct mvcc *m, struct mvcc_pin *pin, int64_t rev);
/* Thread: the pin's owner, section or not. `rev` does not go back: a walker of the history moves
 * its pin behind itself. */
void mvcc_pin_move(struct mvcc_pin *pin, int64_t rev);
/* Thread: any, section or not. */
void mvcc_pin_release(struct mvcc *m, struct mvcc_pin *pin);

/* Thread: the pin's owner. It keeps no version from one section to the next: when the contents are
 * replaced, this pin does not keep the old ones. For pins that are held for ever. */
void mvcc_pin_loosen(struct mvcc *m, struct mvcc_pin *pin);
/* Thread: any. How many are taken now. */
uint32_t mvcc_pins_count(struct mvcc *m);

/* --- history: every change in order, for watchers, the persist thread and the hash --- */

/* Lives within one section. */
struct mvcc_history_cursor {
    const struct mvcc *m;
    const struct mvcc_history_chunk *chunk;
    uint32_t at;
};

/* Thread: reader. Stand before the first change of a revision >= rev.
 * Errors: TV_COMPACTED: changes of `rev` or later are no longer kept. What is above
 * mvcc_compacted(), above a pin and above the persisted revision is always there. */
int mvcc_history_seek(const struct mvcc *m, struct mvcc_history_cursor *c, int64_t rev);
/* The next change of a published revision <= rev_max, or NULL. NULL is not final: what is published
 * later in this section comes later. */
const struct mvcc_version *mvcc_history_next(struct mvcc_history_cursor *c, int64_t rev_max);

/* --- compaction: thread: writer --- */

/* Give up the revisions below `rev`. Readers are told from mvcc_publish() on.
 * Errors: TV_COMPACTED (rev <= the last one), TV_FUTURE_REV. */
int mvcc_compact(struct mvcc *m, int64_t rev);
/* Free a bounded piece of what a published compaction gave up: looks at up to `versions_max`
 * changes; large ones count as several. True while there is more that can be done now; false also
 * while readers, pins or the persist thread hold the rest back. Publishes; not inside a
 * transaction. */
bool mvcc_scrub(struct mvcc *m, uint32_t versions_max);
/* Everything up to the last compaction is freed. */
bool mvcc_scrub_is_done(const struct mvcc *m);
/* Give back memory that a finished scrub has left unused: move what lies in sparsely used memory
 * together, a bounded piece of it, or hand memory to the kernel, in some 50 us. It looks at
 * about `versions_max` keys. True while there is more that can be done now; false also while
 * readers or pins keep what was moved: to be called every now and then. Not inside a transaction;
 * it may publish. */
bool mvcc_pack(struct mvcc *m, uint32_t versions_max);
/* Thread: any. What is above `rev` is still needed by the persist thread. Without a first call
 * nothing is held back. */
void mvcc_set_persisted_revision(struct mvcc *m, int64_t rev);

/* --- etcd's HashKV --- */

struct mvcc_hash {
    uint32_t hash;
    int64_t compact_revision; /* -1 before the first compaction */
    int64_t revision;         /* that the hash is of */
};
/* The hash of all changes up to `rev` (0 = newest), equal to etcd's for an equal history.
 * Thread: reader; takes long with many keys.
 * Errors: TV_COMPACTED, TV_FUTURE_REV. */
int mvcc_hash(const struct mvcc *m, int64_t rev, struct mvcc_hash *ret);

/* --- what is kept, as one number --- */

/* The sum of mvcc_version_hash() over the versions that a compaction to `compacted` keeps, of all
 * up to the newest revision. Equal on every member that applied the same, and the way to find a
 * version on disk that was lost, doubled or altered. `compacted` follows the compactions when the
 * scrub is through with each: until then what they drop counts. */
struct mvcc_content {
    uint64_t sum;
    int64_t compacted;
};
/* Thread: writer. */
void mvcc_content(const struct mvcc *m, struct mvcc_content *ret);
/* The sum over all versions that ever came in, at a start those that were kept: what it grows by
 * is equal on every member. Thread: writer. */
uint64_t mvcc_content_added(const struct mvcc *m);
/* Of all that is in a version. Thread: any. */
uint64_t mvcc_version_hash(const struct mvcc_version *v);

/* --- loading: thread: writer; no transaction and nothing unpublished --- */

/* Grows when the contents were replaced as a whole. Who reads one revision in several sections and
 * finds it grown since the first one must check the revision again: the new contents may be
 * compacted beyond it, pin or not. If they are not, they are the same at that revision, and
 * versions that were read under the pin stay until its release. Thread: any. */
uint64_t mvcc_generation(const struct mvcc *m);
/* Begin to replace all contents; readers keep seeing the old ones. */
void mvcc_load_begin(struct mvcc *m);
/* Take the version. Calls come in the order of (mod_revision, sub), strictly.
 * Errors: TV_ECORRUPT: out of order; the version stays the caller's. */
int mvcc_load_add(struct mvcc *m, struct mvcc_version *v);
/* As mvcc_load_add() for each; `hashes` is the sum of their mvcc_version_hash(). *ret_taken of them
 * are the store's, all of them on 0. */
int mvcc_load_add_all(struct mvcc *m, struct mvcc_version *const *versions, size_t count,
                      uint64_t hashes, size_t *ret_taken);
/* Build the index and publish. The revision is the larger of `revision`, `compacted` and the last
 * version's. `compacted` is -1 when there was no compaction. What a compaction to `compacted` drops
 * is dropped here. */
void mvcc_load_end(struct mvcc *m, int64_t revision, int64_t compacted);
/* The same. Returns the sum that mvcc_content() has for `content_compacted`, which is not above
 * `compacted`, to be compared with what was written down. */
uint64_t mvcc_load_end_summed(struct mvcc *m, int64_t revision, int64_t compacted,
                              int64_t content_compacted);
/* mvcc_load_end() for what comes from elsewhere. Errors: TV_ECORRUPT: some key's versions do not
 * follow from each other: the store must not be used. */
int mvcc_load_end_checked(struct mvcc *m, int64_t revision, int64_t compacted);
/* Instead of mvcc_load_end(): forget what was added, keep the old contents. */
void mvcc_load_abort(struct mvcc *m);

/* Verify the invariants of the whole store by ASSERT, for tests: it looks at everything.
 * Thread: writer, not inside a transaction. */
void mvcc_check(const struct mvcc *m);

#endif
