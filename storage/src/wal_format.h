/* What the log looks like on disk. All numbers are little-endian.
 *
 *   <seq, 16 hex digits>.wal:
 *   | header block | batch | batch | ... | whatever was there before |
 *     4 KiB          n x 4 KiB
 *
 *   batch: struct wal_frame, then for each entry struct wal_record and its bytes, then zeros up to
 * the next 4 KiB.
 *
 * Batches are numbered without a gap through all segments. The checksum of a batch begins with the
 * log's salt and the segment's number, so that a reused segment's old batches do not verify, and
 * neither does anything that a client may have put into a value. The header block of a segment is
 * written together with its first batch, in one write; only the log's first segment gets its header
 * alone.
 *
 * Where a log ends. Several batches are written at once, so after a crash a later one may be whole
 * while an earlier is torn. The first batch that does not verify is the end of the log, unless
 * something behind it (a batch or a header) says in `durable_batch` that it was durable: then it is
 * damage. */
#ifndef STORAGE_SRC_WAL_FORMAT_H
#define STORAGE_SRC_WAL_FORMAT_H

#include "storage/wal.h"

enum {
    WAL_VERSION = 1,
    WAL_BLOCK_BYTES = DISK_BLOCK_BYTES,
    WAL_FRAME_RESTART = 1, /* flag: the log is empty and goes on at first_index */
};

/* Of entries and batches: no log gets there, and behind it nothing overflows. */
#define WAL_NUMBER_MAX (UINT64_MAX / 2)
#define WAL_HEADER_MAGIC 0x53575654u /* "TVWS" */
#define WAL_FRAME_MAGIC 0x42575654u  /* "TVWB" */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs are written as they are");

struct wal_header {
    uint32_t magic;
    uint32_t crc; /* of all after it, to the end of the block */
    uint32_t version;
    uint32_t block_bytes;
    uint64_t segment_seq;
    uint64_t cluster_id;
    uint64_t member_id;
    uint64_t salt;
    uint64_t first_batch;   /* number of the first batch of this segment */
    uint64_t durable_batch; /* newest batch known durable when this was written */
    uint64_t first_index;   /* the log's last entry + 1, before the first batch */
    uint64_t prev_term;     /* the term of first_index - 1 */
    uint64_t hs_term;       /* the hard state before the first batch */
    uint64_t hs_vote;
    uint64_t hs_commit;
    uint64_t segment_bytes; /* the file's size: a shorter one was cut off */
};

struct wal_frame {
    uint32_t magic;
    uint32_t crc; /* of salt, segment_seq, and all after it to the end of the last block */
    uint64_t segment_seq;
    uint64_t number;
    uint64_t durable_batch;
    uint64_t first_index; /* of the entries; the log's last + 1 when there are none */
    uint64_t prev_term;   /* the term of first_index - 1 */
    uint64_t hs_term;     /* the hard state after this batch */
    uint64_t hs_vote;
    uint64_t hs_commit;
    uint32_t entries_count;
    uint32_t body_bytes; /* records with their bytes */
    uint32_t flags;
    uint32_t reserved;
};

struct wal_record {
    uint64_t term;
    uint32_t size_bytes;
    uint8_t type;
    uint8_t reserved[3];
};

_Static_assert(sizeof(struct wal_header) == 112, "no padding");
_Static_assert(sizeof(struct wal_frame) == 88, "no padding");
_Static_assert(sizeof(struct wal_record) == 16, "no padding");

static inline uint64_t wal__round_up(uint64_t bytes)
{
    return (bytes + WAL_BLOCK_BYTES - 1) / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
}

/* Bytes on disk of a batch with such a body. */
static inline uint64_t wal__frame_bytes(uint64_t body_bytes)
{
    return wal__round_up(sizeof(struct wal_frame) + body_bytes);
}

void wal__segment_name(char name[DISK_NAME_MAX], uint64_t seq);
/* False when it is not a segment's name. */
bool wal__segment_name_parse(const char *name, uint64_t *ret_seq);

/* Fill a block with the header, checksum included. */
void wal__header_encode(uint8_t *block, const struct wal_header *h);
/* Does the block hold a header whose checksum is right, whatever its version and contents? */
bool wal__header_decode(const uint8_t *block, struct wal_header *ret);

/* Put the frame before its body and zeros behind it, checksum included. `data` has room for
 * wal__frame_bytes(). */
void wal__frame_encode(uint8_t *data, const struct wal_frame *f, uint64_t salt);
/* The frame's fields, when the first block might begin a batch of this segment that ends within
 * `bytes_max`; says nothing about the checksum. */
bool wal__frame_peek(const uint8_t *block, uint64_t segment_seq, uint64_t bytes_max,
                     struct wal_frame *ret);
/* Is the checksum of the whole batch right? */
bool wal__frame_verify(const uint8_t *data, const struct wal_frame *f, uint64_t salt);

/* Walk the records of a verified batch: *at is the offset in the body, 0 to begin. False when the
 * record does not fit into the body. */
bool wal__record_next(const uint8_t *data, const struct wal_frame *f, uint32_t *at,
                      struct wal_entry *ret);

#endif
