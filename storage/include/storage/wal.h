/* The write-ahead log: raft's entries and hard state, durable before anyone is told so.
 *
 * The log is a row of segments of one size. What was appended since the last write becomes one
 * batch: one write of whole 4 KiB blocks that no earlier batch shares, so a torn write damages
 * itself alone. A few batches are written at once; what comes while they are under way makes the
 * next one bigger. There is no timer.
 *
 * Invariants:
 * 1. `done` names a sequence number only when everything appended up to it is durable.
 * 2. After a crash the log is a prefix of what was appended, and no shorter than what was reported.
 * 3. A batch that was durable and no longer verifies is damage, and is never taken for a torn tail:
 *    each batch states which one was the newest known durable when it was written.
 * 4. Nothing is assumed durable after a failed write or sync: the process ends (tv_fatal).
 *
 * Thread: one, the core's, for every function here. Read next: src/wal.c and src/wal_format.h. */
#ifndef STORAGE_WAL_H
#define STORAGE_WAL_H

#include "base/bref.h"
#include "base/metric.h"
#include "base/slice.h"
#include "storage/disk.h"

#include <stdbool.h>
#include <stdint.h>

struct wal;

struct wal_entry {
    uint64_t term;
    uint64_t log_index;
    uint8_t type;
    struct slice data;
    struct bref *owner; /* holds `data`; see each function */
};

struct wal_hard_state {
    uint64_t term;
    uint64_t vote;
    uint64_t commit;
};

/* What writing took, in nanoseconds. Owner: the log's thread; read by any. */
struct wal_meters {
    struct metric_hist sync;  /* of a batch, from the beginning of its write until it is durable */
    struct metric_hist write; /* of that: handing it to the system */
    struct metric_counter write_bytes;
};
#define WAL_METERS_SCALE METRIC_FROM_1_MS(14)

struct wal_options {
    struct disk *disk;           /* borrowed until wal_close(); its directory is the log's alone */
    uint64_t segment_size_bytes; /* a multiple of 4 KiB, at least 64 KiB; default 64 MiB */
    uint32_t segments_keep_max;  /* spare segments kept for reuse beyond the next one; default 4 */
    uint64_t cluster_id;
    uint64_t member_id;
    uint64_t payload_from_index; /* entries below it are replayed without their bytes; default 0 */
    uint32_t writes_max; /* batches under way at once, at most 8; default 0: the disk's advice */
    uint64_t salt;       /* of a new log's checksums; default 0: from the kernel. For simulation. */
    struct wal_meters *meters; /* borrowed; default NULL: nothing is measured */
    uint64_t log_id; /* what wal_log_id() said before; default 0: a log may be made anew */
};

void wal_options_init(struct wal_options *o);

/* What the log held, in the order it was written. */
struct wal_replay {
    void *ctx;
    /* An index at or below the last one seen replaces that entry and all after it. `owner` (NULL
     * when there are no bytes) is borrowed: take a reference to keep the bytes. A result other than
     * 0 ends wal_open() with it. */
    int (*entry)(void *ctx, const struct wal_entry *e);
    /* Whenever it differs from the one before. May be NULL. */
    void (*hard_state)(void *ctx, const struct wal_hard_state *hs);
    /* The log starts, or was restarted by wal_restart(), behind this entry: what was seen before is
     * void. Called at least once, before the first entry; (0, 0) in a log never cut. May be NULL.
     */
    void (*start)(void *ctx, uint64_t log_index, uint64_t term);
};

/* Open the log, or create it where the directory holds none, and replay it. A torn tail is cut.
 * TV_ECORRUPT: a durable part does not verify, a file is missing, cut off or in another's place, or
 * the log is not the one named by log_id; err_text names file and byte offset. TV_EINVAL: the
 * log belongs to another cluster or member. TV_ENOTSUP: a later version wrote it. TV_EIO: err_text
 * says what the system said. */
int wal_open(const struct wal_options *o, const struct wal_replay *replay, struct wal **ret,
             char *err_text, size_t err_size);
/* A random number that this log was made with: no other log has it. */
uint64_t wal_log_id(const struct wal *w);
/* Waits for what is under way, writes what is appended, and leaves a mark that all of it was
 * durable. */
void wal_close(struct wal *w);
/* Forget the log as a crash would: nothing is waited for. Only after disk_mem_crash(). */
void wal_abandon(struct wal *w);

/* Largest payload of one entry; more is a programmer's error. At least 10 MiB with segments of 16
 * MiB and up. */
size_t wal_entry_bytes_max(const struct wal *w);

/* Add entries (consecutive, the first at most one behind the log's end: a lower one replaces what
 * is there from its index on) and a hard state to what the next batch writes. The bytes are copied.
 * `seq` grows from call to call and comes back through `done`; 0 for pieces before the last of one
 * unit. */
void wal_append(struct wal *w, uint64_t seq, const struct wal_entry *entries, uint32_t count,
                const struct wal_hard_state *hs);
/* The state now comes from a snapshot up to this entry, durable elsewhere: the log is empty and
 * goes on with the next index. The hard state's commit is raised to it. Durable as any append,
 * reported by `seq`. */
void wal_restart(struct wal *w, uint64_t seq, uint64_t log_index, uint64_t term);
/* Begin to write what is appended, as far as the writes under way allow; the rest follows by
 * itself. */
void wal_submit(struct wal *w);

/* `done` is called in wal_poll() and wal_flush() with growing numbers: all up to `seq` is durable.
 */
void wal_set_done(struct wal *w, void (*done)(void *ctx, uint64_t seq), void *ctx);
/* Readable when wal_poll() has something to do; -1 with the disk in memory. */
int wal_fd(struct wal *w);
void wal_poll(struct wal *w);
/* Submit and block until all is durable, or until nothing but room on the disk is missing. */
void wal_flush(struct wal *w);

/* Nothing appended waits to become durable. */
bool wal_idle(const struct wal *w);
/* Bytes appended and not durable yet, for the caller who must limit them: the log takes what it is
 * given. */
uint64_t wal_pending_bytes(const struct wal *w);

/* The first entry kept; last + 1 when there is none. */
uint64_t wal_first_index(const struct wal *w);
uint64_t wal_term_before_first(const struct wal *w);
/* The last entry appended; first - 1 when there is none. */
uint64_t wal_last_index(const struct wal *w);
/* Entries up to here are durable as the log has them now. */
uint64_t wal_durable_index(const struct wal *w);
/* The term of any entry from first - 1 to last. */
uint64_t wal_term(const struct wal *w, uint64_t log_index);

/* Read durable entries [lo, hi), at most *count and about bytes_max but at least one; *count says
 * how many. Blocks on the disk. Each has a reference in `owner` that the caller gives up.
 * TV_ECOMPACTED_LOG when lo is below the first entry kept, TV_EAGAIN when lo is not durable yet,
 * TV_ECORRUPT or TV_EIO when the disk does not give back what was written: *count is 0 then. */
int wal_read(struct wal *w, uint64_t lo, uint64_t hi, size_t bytes_max, struct wal_entry *ret,
             uint32_t *count);

/* Where wal_read() failed last: "<file>: offset <n>". */
void wal_read_place(const struct wal *w, char *text, size_t size);

/* Entries up to `log_index` are no longer needed: segments that hold nothing else are reused or
 * removed, in the background. The caller has made sure that they are committed. */
void wal_cut(struct wal *w, uint64_t log_index);
/* The entry up to which wal_cut() must go for the oldest segment to be given up; UINT64_MAX when it
 * is the one that is written. */
uint64_t wal_oldest_end(const struct wal *w);
/* Does the oldest segment become a spare when it is given up now? It is removed otherwise, which
 * makes many a disk wait for 20 ms to forget its blocks. */
bool wal_reuses_oldest(const struct wal *w);
/* The number of the segment that is written; each has a higher one than the last. */
uint64_t wal_active_segment(const struct wal *w);
/* Remove a spare segment that is kept beyond the next one, if there is one: for a log that is no
 * longer written as fast. */
void wal_drop_spare(struct wal *w);
/* Bytes of all files, spare ones as well, and of the next one while there is no spare. */
uint64_t wal_size_bytes(const struct wal *w);

/* The disk had no room to make the next segment ready. The log goes on in the current one and then
 * waits; wal_retry_room(), now and then, tries again, and a segment given up by wal_cut() takes the
 * place. */
bool wal_lacks_room(const struct wal *w);
void wal_retry_room(struct wal *w);

#endif
