/* Runs KV operations against the store and encodes their answers.
 *
 * Used by the applier for everything that writes (struct exec with `writer`, inside a transaction
 * of the store), and by the I/O threads for transactions that only read (inside an epoch section).
 *
 * An operation is run first, leaving an exec_result: pointers into the store and sizes. It is
 * encoded afterwards, in one piece of known size, while the pointers are still good.
 *
 * Source of the rules: etcd server/etcdserver/txn/. */
#ifndef SERVER_EXEC_H
#define SERVER_EXEC_H

#include "server/lease.h"
#include "server/meter.h"
#include "server/range.h"

#include "base/arena.h"

struct exec {
    struct mvcc *mvcc;
    bool writer;
    bool want_results;     /* somebody waits for the answer */
    struct lessor *lessor; /* writer only; NULL: leases do not follow the keys */
    struct arena *arena;   /* results live here */
    struct kv_tally tally; /* out: what etcd counts of it */
    /* Likewise, of what a transaction that writes looked at first: in etcd one of its own. */
    struct kv_tally tally_before;
};

enum exec_kind { EXEC_NONE, EXEC_RANGE, EXEC_PUT, EXEC_DELETE, EXEC_TXN };

struct exec_result {
    enum exec_kind kind;
    int64_t rev;      /* for the header; 0 = none (a nested transaction's) */
    size_t body_size; /* of the response behind its header */
    union {
        struct range range;
        const struct mvcc_version *prev; /* put; NULL = not asked for, or there was none */
        struct {
            int64_t count;
            const struct mvcc_version **prevs; /* NULL = not asked for */
            uint64_t prevs_count;
        } deleted;
        struct {
            bool succeeded;
            struct exec_result *results;
            uint32_t count;
        } txn;
    };
};

/* Each fills *ret; on error nothing has changed. Errors: TV_LEASE_NOT_FOUND, TV_KEY_NOT_FOUND,
 * TV_COMPACTED, TV_FUTURE_REV. */
int exec_range(struct exec *x, const struct wire_range_request *req, struct exec_result *ret);
int exec_put(struct exec *x, const struct wire_put_request *req, struct exec_result *ret);
int exec_delete(struct exec *x, const struct wire_delete_range_request *req,
                struct exec_result *ret);
int exec_txn(struct exec *x, const struct wire_txn *req, struct exec_result *ret);

/* Delete one key, as the end of its lease does. */
void exec_delete_key(struct exec *x, struct slice key);

/* The encoded response message with this header (its revision is taken from the result). */
size_t exec_response_size(const struct exec_result *r, struct wire_header header);
uint8_t *exec_response_put(struct exec_result *r, struct wire_header header, uint8_t *p);
/* Frees what is not in the arena. */
void exec_result_fini(struct exec_result *r);

#endif
