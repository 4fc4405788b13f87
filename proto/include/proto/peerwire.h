/* What members say to each other: frames, each the whole of one message of the peers' stream.
 *
 * Little-endian, fixed fields, no padding. A frame is a kind (1 byte) and:
 *
 *   HELLO  magic "TRVT", version u16, zero u16, cluster id u64, from u64, to u64
 *   RAFT   type u8, flags u8, zero u8; from, to, term, log_term, log_index, commit, reject_hint,
 *          context u64 each; count u32; then per entry: term u64, log_index u64, type u8, size u32,
 *          data
 *   LEASE  flags u8; token u64, lease id i64, ttl i64, granted ttl i64, err i32
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

enum { PEERWIRE_VERSION = 1, PEERWIRE_ENTRIES_MAX = 1 << 20 };

enum peerwire_kind { PEERWIRE_HELLO = 1, PEERWIRE_RAFT = 2, PEERWIRE_LEASE = 3 };

struct peerwire_hello {
    uint16_t version;
    uint64_t cluster_id;
    uint64_t from;
    uint64_t to;
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

struct peerwire_lease {
    bool is_reply;
    bool renew;
    uint64_t token;
    int64_t lease_id;
    int64_t ttl;
    int64_t granted_ttl;
    int32_t err;
};

enum {
    PEERWIRE_HELLO_BYTES = 33,
    PEERWIRE_RAFT_HEAD_BYTES = 72,
    PEERWIRE_ENTRY_HEAD_BYTES = 21,
    PEERWIRE_LEASE_BYTES = 38,
};

/* Each writes exactly the size named above and returns where it ends. */
uint8_t *peerwire_hello_put(uint8_t *dst, const struct peerwire_hello *h);
/* The head; entries_count entries follow, each a head and its data. */
uint8_t *peerwire_raft_put_head(uint8_t *dst, const struct peerwire_raft *m);
uint8_t *peerwire_entry_put_head(uint8_t *dst, const struct peerwire_entry *e);
uint8_t *peerwire_lease_put(uint8_t *dst, const struct peerwire_lease *l);

/* The kind of a frame; 0 for an empty one. */
uint8_t peerwire_kind(struct slice frame);
/* Errors: TV_EMALFORMED. Of a raft frame all entries are checked, so that the iterator cannot fail.
 */
int peerwire_hello_decode(struct slice frame, struct peerwire_hello *ret);
int peerwire_raft_decode(struct slice frame, struct peerwire_raft *ret);
int peerwire_lease_decode(struct slice frame, struct peerwire_lease *ret);
/* The next entry of what is left in `entries`; false at the end. */
bool peerwire_next_entry(struct slice *entries, struct peerwire_entry *ret);

#endif
