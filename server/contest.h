/* What Lock and Election have in common: clients that want the same name queue up as keys below it,
 * each bound to a lease, and the one whose key is the oldest has it.
 *
 * The keys are "<name>/<lease in hex>", as etcd's client makes them (client/v3/concurrency), so
 * that the services, etcd's client and clients that do it by hand stand in one queue.
 *
 * Limit: a contest is a call, bounded by the streams of a connection; while it waits it costs its
 * key and an entry in the worker's table of listeners. */
#ifndef SERVER_CONTEST_H
#define SERVER_CONTEST_H

#include "server/inner.h"

#include "base/buf.h"
#include "proto/wire.h"

struct contest {
    struct inner inner;
    struct watch_listener listener;
    struct buf prefix; /* "<name>/" */
    struct buf prefix_end;
    struct buf key;
    struct buf awaited; /* the key that is in front of us */
    int64_t lease;
    int64_t revision; /* at which our key was created */
    struct wire_header header;
    bool waiting;
    int64_t revision_max; /* of those in front of us */
    /* Each step's end; on an error the call has been finished and *k freed. */
    void (*next)(struct contest *k);
    void (*free)(struct contest *k);      /* the owner's own, its memory included */
    void (*abandoned)(struct contest *k); /* the client went away while it waited; may be NULL */
};

/* `k` is zeroed by its owner, but for free and abandoned. */
void contest_init(struct contest *k, struct grpc_call *call);
/* There is no room for what the call would add: refused, true. What the alarm says, the log says:
 * in the words and with the code of a client inside. */
bool contest_lacks_space(struct grpc_call *call, uint64_t cost_bytes);
/* The call is finished: let go of everything. */
void contest_free(struct contest *k);
/* Finish the call with this error and free. */
void contest_fail(struct contest *k, int err);
void contest_fail_text(struct contest *k, const char *text);
/* Finish it with this answer and free. */
void contest_reply(struct contest *k, struct slice reply);

/* A lease of 60 s when `lease` is 0: k->lease. */
void contest_session(struct contest *k, int64_t lease, void (*next)(struct contest *k));
/* k->prefix, and k->key from k->lease. */
void contest_name(struct contest *k, struct slice name);
/* A listener's `stopped`: the call ends, since the server does. */
void contest_stopped(struct watch_listener *l);
/* Wait until no key below the prefix is as old as `revision_max`. */
void contest_wait(struct contest *k, int64_t revision_max, void (*next)(struct contest *k));

/* --- reading --- */

/* Enter a section of the store, at the revision from which on a listener that is made now hears
 * everything; epoch_leave() ends it. Returns the revision. */
int64_t contest_enter(struct contest *k);
/* In a section: may the caller read the names? Errors: as service_permit_range(). */
int contest_permit(const struct contest *k);
/* In a section: the oldest key of the prefix at `rev`, whose owner has it; NULL: nobody does. */
const struct mvcc_version *contest_first(const struct contest *k, int64_t rev);
/* Append a LeaderResponse: 1 header, 2 kv. */
void contest_put_leader(const struct inner *in, int64_t rev, struct slice kv, struct buf *out);

/* --- transactions: if the key was created at `revision`, then one thing, else another --- */

/* The ops may be of kind NONE: none. Appends a TxnRequest. */
void contest_txn_put(struct buf *out, struct slice key, int64_t revision,
                     const struct wire_op *then, uint32_t then_count, const struct wire_op *or_else,
                     uint32_t or_else_count);
/* The oldest key of the prefix. */
struct wire_op contest_op_first(const struct contest *k);
struct wire_op contest_op_get(struct slice key);
struct wire_op contest_op_put(struct slice key, struct slice value, int64_t lease);
struct wire_op contest_op_delete(struct slice key);
/* The first kv of the n-th response, which is a range's. False: it has none. */
bool contest_response_kv(struct slice txn_response, uint32_t n, struct wire_kv *ret);
/* The end of the transaction that creates our key or, when there is one, gets it: k->header and
 * k->revision. False: on an error the call has been finished and *k freed. `ret_own` is what was
 * there, unless it was created. */
bool contest_queued(struct contest *k, int err, struct slice txn_response, bool *ret_created,
                    struct wire_kv *ret_own);

#endif
