/* One Range, from the request to the bytes of its answer.
 *
 * What the answer consists of is gathered first, as pointers to versions (8 bytes a key); their
 * bytes are then copied once, straight into what goes to the socket. A long range is gathered over
 * several turns of the loop, each in an epoch section of its own, under a pin of its revision.
 *
 *   range_begin -> range_collect until it says false -> range_write, or range_read in pieces ->
 * range_fini
 *
 * Owner: the thread that began it. Source of the rules: etcd server/etcdserver/txn/range.go. */
#ifndef SERVER_RANGE_H
#define SERVER_RANGE_H

#include "proto/wire.h"
#include "storage/mvcc.h"

/* Keys. Many may begin in one turn; of those that go on only few have one each. */
enum { RANGE_COLLECT_FIRST = 1024, RANGE_COLLECT_PER_TURN = 4096 };

struct range {
    struct mvcc *mvcc;
    struct wire_range_request req; /* its slices are borrowed until range_fini() */
    int64_t rev;                   /* read at */
    int64_t header_rev;            /* of the store when it was read */
    bool filtered;
    bool sorted;
    uint64_t collect_max; /* stop after so many; UINT64_MAX = no limit */
    struct mvcc_iter it;
    struct mvcc_pin pin;
    bool pinned;
    uint64_t generation;             /* of the store's contents, at the latest at the beginning */
    const struct mvcc_version *last; /* seen by the walk */

    const struct mvcc_version **kvs;
    uint64_t count;
    uint64_t capacity;
    uint64_t kvs_bytes; /* of their fields */
    int64_t total;      /* keys in the range, whatever the limit and the filters say */
    bool more;
    uint64_t body_size; /* of fields kvs, more and count */

    /* How far range_read() has come. */
    struct slice prefix;
    uint64_t next_kv;
    uint64_t piece_done_bytes;
};

/* Check the revision and begin. `in_txn`: by the writer, inside its transaction.
 * Thread: a reader inside a section, or the writer.
 * Errors: TV_COMPACTED, TV_FUTURE_REV; then there is nothing to free. */
int range_begin(struct range *r, struct mvcc *m, const struct wire_range_request *req, bool in_txn);
/* Gather up to `keys_max` more; true when there are more to gather: range_suspend() before the
 * section is left, and go on in another one. */
bool range_collect(struct range *r, uint64_t keys_max);
/* Keep what was gathered over the end of the section.
 * Errors: TV_EBUSY: too many pins. */
int range_suspend(struct range *r);
/* In a new section.
 * Errors: TV_COMPACTED: another member's snapshot took the store's place, without that revision. */
int range_resume(struct range *r);

/* All is gathered, and the answer was for a RangeStream's message (range_stream.h): what is said
 * behind its keys; how many keys follow the last one; and, when the message has been made, on with
 * the next one: up to `limit` keys behind the last one (<= 0: all), at the same revision. `total`
 * is not counted for it. All in a section, for range_next() after range_resume(). */
void range_set_tail(struct range *r, bool more, int64_t total);
int64_t range_count_rest(const struct range *r);
void range_next(struct range *r, int64_t limit);

/* All is gathered: write body_size bytes; what follows the header in a RangeResponse. */
uint8_t *range_write(struct range *r, uint8_t *p);
/* The same in pieces, after `prefix` (borrowed): up to size_max bytes, 0 at the end. In a section.
 */
size_t range_read(struct range *r, uint8_t *dst, size_t size_max);
void range_fini(struct range *r);

#endif
