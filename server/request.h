/* What an I/O worker asks of the core, and the core's answer: the only thing that crosses between
 * them.
 *
 * A request belongs to the worker until request_post() and again from the answer on; in between it
 * is the core's. The fields under "worker only" are never touched by the core, so that a call which
 * ends early can cut its tie (`call = NULL`) while the core still works on the request. */
#ifndef SERVER_REQUEST_H
#define SERVER_REQUEST_H

#include "base/bref.h"
#include "base/list.h"
#include "base/mpsc.h"

#include "proto/charge.h"

#include <stdbool.h>
#include <stdint.h>

struct grpc_call;
struct worker;

/* What a call's user pointer points to while something is done for it; closed() when the call ends
 * before that. */
struct call_tie {
    void (*closed)(struct call_tie *tie);
};

enum request_kind {
    REQUEST_PROPOSE,      /* put `payload` on the log; answered when applied */
    REQUEST_READ_BARRIER, /* answered when a read at the published revision is linearizable */
    REQUEST_LEASE_RENEW,  /* lease_id in; ttl out */
    REQUEST_LEASE_TTL,  /* lease_id, want_keys in; ttl, granted_ttl out; keys as the reply's body */
    REQUEST_LEASE_LIST, /* the whole reply */
    REQUEST_MEMBER_LIST,   /* the whole reply */
    REQUEST_MOVE_LEADER,   /* target in; answered when it leads */
    REQUEST_MEMBER_CHANGE, /* target and, as `payload`, the entry's data in; the whole reply */
    REQUEST_DEFRAGMENT,    /* nothing in or out */
    REQUEST_COPY, /* `copy`: of the store, with all that was applied when the core took this */
};

struct snapfile;

enum { REQUEST_INLINE_BYTES = 96 };

struct request {
    struct mpsc_node node;
    struct list link; /* core: the list it waits in */
    enum request_kind kind;
    struct worker *worker;
    uint64_t id; /* names the proposal in the log; 0 for reads */
    uint64_t deadline_ms;
    uint32_t patience_ms; /* of a proposal; 0: as clients have it */
    uint64_t asked_ms;    /* core: a change of the membership: when it was last proposed */

    struct bref *payload; /* the encoded InternalRaftRequest; one reference */
    uint32_t payload_size;
    uint64_t flow; /* of a proposal: names the connection it came by; 0: none */

    /* Core: a proposal on its way, see core_propose.c. */
    const uint8_t *payload_at; /* of a guest */
    uint64_t proposed_ms;
    uint32_t window_epoch; /* in which it counts to what is under way; 0: it does not */
    bool guest;            /* another member's: nobody here waits for it */
    bool waits;            /* for its turn */
    bool proposed;
    bool in_pieces;

    bool traced; /* the core notes when it proposed and applied it, by its clock */
    uint64_t proposed_ns;
    uint64_t applied_ns;
    bool applied;    /* core: its entry was, whatever came of it */
    bool wait_scrub; /* a physical compaction: answered when the scrub is through */

    uint64_t target; /* a member */
    int64_t lease_id;
    int64_t ttl;
    int64_t granted_ttl;
    bool want_keys;
    /* Of what is asked about leases while auth is enabled: who asks, as `payload`, and when he was
     * identified. */
    uint64_t auth_revision;

    /* The answer: an error, or a response message ready to send. */
    int err;
    uint32_t reply_size;
    struct snapfile *copy; /* of REQUEST_COPY: who asked closes it; NULL: there is none */
    struct bref *reply;    /* NULL: the message is in reply_inline */
    uint8_t reply_inline[REQUEST_INLINE_BYTES];

    /* Worker only. */
    struct call_tie tie;
    void (*answered)(struct worker *w, struct request *req);
    struct grpc_call *call; /* NULL: it ended meanwhile */
    uint64_t begun_ms;      /* slow_now() */
    struct grpc_charge charge;
    void *user;
    uint32_t raft_kind; /* of a proposal */
    uint64_t posted_ns; /* grpc_loop_now_ns() */
};

static inline const uint8_t *request_reply_bytes(const struct request *r)
{
    return r->reply != NULL ? r->reply->data : r->reply_inline;
}

/* Room for a reply of `size` bytes; sets reply_size. */
static inline uint8_t *request_reply_reserve(struct request *r, size_t size)
{
    r->reply_size = (uint32_t)size;
    if (size <= REQUEST_INLINE_BYTES)
        return r->reply_inline;
    r->reply = bref_new(size);
    return r->reply->data;
}

#endif
