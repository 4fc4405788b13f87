/* What members say to each other: frames, each the whole of one message of the peers' stream.
 *
 * Little-endian, fixed fields, no padding. A frame is a kind (1 byte) and:
 *
 *   HELLO  magic "TRVT", version u16, zero u16, cluster id u64, from u64, to u64; count u8, then
 *          per URL: size u16, bytes
 *   RAFT   type u8, flags u8, zero u8; from, to, term, log_term, log_index, commit, reject_hint,
 *          context u64 each; count u32; then per entry: term u64, log_index u64, type u8, size u32,
 *          data
 *   QUESTION  flags u8, about u8; token u64, subject u64, ttl i64, granted ttl i64, err i32
 *   REPORT    mark u64, digest u64
 *   PROBE     is it a reply u8, sent u64
 *
 * A snapshot has a call of its own: HELLO, SNAP_HEAD, SNAP_PIECE..., SNAP_END from the leader, one
 * SNAP_DONE back. After the kind each has the CRC-32C of the rest, u32, and:
 *
 *   SNAP_HEAD   index u64, term u64, revision i64, compacted i64, content sum u64, content
 *               compacted i64, chain u64
 *   SNAP_PIECE  number u64 (from 0), records u32, bytes
 *   SNAP_END    pieces u64, records u64, bytes u64, SHA-256 over all frames before, CRCs too
 *   SNAP_DONE   index u64
 *
 * Decoding checks every length; what a field may say is the receiver's business.
 * Limits: PEERWIRE_ENTRIES_MAX entries in a frame.
 *
 * Thread: any; nothing here has state. */
#ifndef PROTO_PEERWIRE_H
#define PROTO_PEERWIRE_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum { PEERWIRE_VERSION = 3, PEERWIRE_ENTRIES_MAX = 1 << 20, PEERWIRE_URLS_MAX = 16 };

enum peerwire_kind {
    PEERWIRE_HELLO = 1,
    PEERWIRE_RAFT = 2,
    PEERWIRE_QUESTION = 3,
    PEERWIRE_SNAP_HEAD = 4,
    PEERWIRE_SNAP_PIECE = 5,
    PEERWIRE_SNAP_END = 6,
    PEERWIRE_SNAP_DONE = 7,
    PEERWIRE_REPORT = 8,
    PEERWIRE_PROBE = 9,
};

struct peerwire_hello {
    uint16_t version;
    uint64_t cluster_id;
    uint64_t from;
    uint64_t to;
    /* Where `from` is reached, for a receiver that does not know it yet. */
    struct slice urls[PEERWIRE_URLS_MAX];
    uint32_t urls_count;
};

struct peerwire_raft {
    uint8_t type;
    bool reject;
    bool transfer;
    uint64_t from;
    uint64_t to;
    uint64_t term;
    uint64_t log_term;
    uint64_t log_index;
    uint64_t commit;
    uint64_t reject_hint;
    uint64_t context;
    uint32_t entries_count;
    struct slice entries; /* decoded: read with peerwire_next_entry() */
};

struct peerwire_entry {
    uint64_t term;
    uint64_t log_index;
    uint8_t type;
    struct slice data; /* in the frame */
};

struct peerwire_question {
    bool is_reply;
    uint8_t about;
    uint64_t token;
    uint64_t subject;
    int64_t ttl;
    int64_t granted_ttl;
    int32_t err;
};

struct peerwire_report {
    uint64_t mark;
    uint64_t digest;
};

/* Sent back at once, as a reply, so that the sender knows the time of a round trip. */
struct peerwire_probe {
    bool is_reply;
    uint64_t sent_ns; /* the sender's own */
};

struct peerwire_snap_head {
    uint64_t log_index;
    uint64_t term;
    int64_t revision;
    int64_t compacted;
    uint64_t content_sum;
    int64_t content_compacted;
    uint64_t chain;
};

struct peerwire_snap_piece {
    uint64_t number;
    uint32_t records_count;
    struct slice bytes; /* in the frame */
};

enum { PEERWIRE_SNAP_HASH_BYTES = 32 };

struct peerwire_snap_end {
    uint64_t pieces_count;
    uint64_t records_count;
    uint64_t bytes_count;
    uint8_t hash[PEERWIRE_SNAP_HASH_BYTES];
};

enum {
    PEERWIRE_SNAP_HEAD_BYTES = 61,
    PEERWIRE_SNAP_PIECE_HEAD_BYTES = 17,
    PEERWIRE_SNAP_END_BYTES = 61,
    PEERWIRE_SNAP_DONE_BYTES = 13,
    PEERWIRE_HELLO_BYTES = 34, /* without URLs */
    PEERWIRE_RAFT_HEAD_BYTES = 72,
    PEERWIRE_ENTRY_HEAD_BYTES = 21,
    PEERWIRE_QUESTION_BYTES = 39,
    PEERWIRE_REPORT_BYTES = 17,
    PEERWIRE_PROBE_BYTES = 10,
};

/* Each writes exactly the size named above, or by its size function, and returns where it ends. */
uint8_t *peerwire_hello_put(uint8_t *dst, const struct peerwire_hello *h);
/* With its URLs, of at most 65,535 bytes each. */
size_t peerwire_hello_size(const struct peerwire_hello *h);
/* The head; entries_count entries follow, each a head and its data. */
uint8_t *peerwire_raft_put_head(uint8_t *dst, const struct peerwire_raft *m);
uint8_t *peerwire_entry_put_head(uint8_t *dst, const struct peerwire_entry *e);
uint8_t *peerwire_question_put(uint8_t *dst, const struct peerwire_question *q);

uint8_t *peerwire_report_put(uint8_t *dst, const struct peerwire_report *r);
uint8_t *peerwire_probe_put(uint8_t *dst, const struct peerwire_probe *p);

uint8_t *peerwire_snap_head_put(uint8_t *dst, const struct peerwire_snap_head *h);
/* The head of a frame of PEERWIRE_SNAP_PIECE_HEAD_BYTES and then the bytes, which are in place. */
void peerwire_snap_piece_seal(uint8_t *frame, const struct peerwire_snap_piece *piece);
uint8_t *peerwire_snap_end_put(uint8_t *dst, const struct peerwire_snap_end *e);
uint8_t *peerwire_snap_done_put(uint8_t *dst, uint64_t log_index);
/* Errors: TV_EMALFORMED: also when the CRC is wrong. */
int peerwire_snap_head_decode(struct slice frame, struct peerwire_snap_head *ret);
int peerwire_snap_piece_decode(struct slice frame, struct peerwire_snap_piece *ret);
int peerwire_snap_end_decode(struct slice frame, struct peerwire_snap_end *ret);
int peerwire_snap_done_decode(struct slice frame, uint64_t *ret_log_index);

/* The kind of a frame; 0 for an empty one. */
uint8_t peerwire_kind(struct slice frame);
/* Errors: TV_EMALFORMED. Of a raft frame all entries are checked, so that the iterator cannot fail.
 */
int peerwire_hello_decode(struct slice frame, struct peerwire_hello *ret);
int peerwire_raft_decode(struct slice frame, struct peerwire_raft *ret);
int peerwire_report_decode(struct slice frame, struct peerwire_report *ret);
int peerwire_probe_decode(struct slice frame, struct peerwire_probe *ret);
int peerwire_question_decode(struct slice frame, struct peerwire_question *ret);
/* The next entry of what is left in `entries`; false at the end. */
bool peerwire_next_entry(struct slice *entries, struct peerwire_entry *ret);

#endif
