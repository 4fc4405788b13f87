/* Who uses the cluster: clients that read and write a few keys, keepers of leases, watchers. Each
 * checks every answer it gets against the model.
 *
 * The log gives all writes a total order, and every answer names a revision. An execution is
 * linearizable, in that order, when: an acknowledged write was committed once, with the outcome
 * that was answered; a write that was refused was never committed; a read returns the state at the
 * revision it names; and that revision is no lower than any that an operation had been answered
 * with before the read began. (A write begun after another was answered has a higher index by
 * itself: it is committed later.) A write whose outcome is not known may be committed once or
 * never. */
#ifndef TESTS_SIM_CLIENT_H
#define TESTS_SIM_CLIENT_H

#include "call.h"
#include "sim.h"

#include "base/buf.h"
#include "base/u64map.h"
#include "proto/wire.h"

/* X(name, weight) */
#define WORKS(X)       \
    X(PUT, 30)         \
    X(GET, 20)         \
    X(SERIALIZABLE, 6) \
    X(RANGE, 8)        \
    X(CAS, 12)         \
    X(TXN, 6)          \
    X(READ_TXN, 4)     \
    X(DELETE, 6)       \
    X(DELETE_RANGE, 2) \
    X(COMPACT, 2)      \
    X(HASH, 1)         \
    X(LEASE, 0)        \
    X(WATCH, 0)        \
    X(MEMBER, 0)       \
    X(USERS, 0)

enum work {
#define X(name, weight) WORK_##name,
    WORKS(X)
#undef X
        WORKS_COUNT,
};

const char *work_name(enum work w);

enum {
    KV_CLIENTS_MAX = 8,
    KEEPERS_MAX = 3,
    WATCHERS_MAX = 6,
};

enum op_state { OP_UNKNOWN, OP_OK, OP_REFUSED };

/* One write, remembered to the end of the run. */
struct op {
    enum op_state state;
    uint32_t client;
    uint64_t index; /* of its entry; 0 = not committed (yet) */
};

/* What an operation began with. */
struct begun {
    uint64_t at_us;
    int64_t revision; /* the highest one answered to anybody by then */
};

struct kv_client {
    struct sim *sim;
    uint32_t number;
    uint64_t life; /* counts its operations */
    uint32_t member;
    uint64_t pace_us;
    bool reader; /* it only reads: no write that hangs keeps it from asking who was left behind */
    struct grpc_call *call;
    enum work work;
    struct begun begun;
    struct op *op; /* NULL: it only reads */
    struct buf request;
    struct buf reply;
    bool replied;
    int64_t asked_revision; /* of a read at a revision, a compaction, a hash */
    uint64_t written_us;    /* when a write of its was answered last */
};

enum keeper_phase { KEEPER_IDLE, KEEPER_GRANT, KEEPER_ATTACH, KEEPER_KEEP, KEEPER_REVOKE };

enum { RENEWALS_MAX = 8 };

struct keeper {
    struct sim *sim;
    uint32_t number;
    uint64_t life;
    enum keeper_phase phase;
    uint32_t member;
    int64_t lease;
    int64_t ttl_s;
    uint64_t keep_until_us;
    struct grpc_call *call;
    struct begun begun;
    struct op *op;
    struct buf request;
    struct buf reply;
    bool replied;
    uint64_t sent_us[RENEWALS_MAX]; /* renewals under way, oldest first */
    uint32_t sent_count;
};

struct watcher_client {
    struct sim *sim;
    uint32_t number;
    uint64_t life;
    uint32_t member;
    struct grpc_call *call;
    uint32_t key_from, key_to; /* keys from <= k < to */
    bool open_end;
    bool prev_kv;
    uint32_t filters;
    bool created;
    int64_t next_rev; /* what it has seen ends before; 0 = from now on */
    uint32_t cursor;  /* in the model's changes */
    int64_t seen_rev; /* of the last event */
};

struct clients {
    struct sim *sim;
    struct rng rng;
    struct u64map ops;    /* hash of a write's bytes -> struct op */
    struct u64map hashes; /* hash of (revision, compacted) -> HashKV's answer + 1 */
    int64_t revision_answered;
    uint64_t values; /* numbers of values given out */
    struct kv_client kv[KV_CLIENTS_MAX];
    uint32_t kv_count;
    struct keeper keepers[KEEPERS_MAX];
    uint32_t keepers_count;
    struct watcher_client watchers[WATCHERS_MAX];
    uint32_t watchers_count;
};

struct clients *clients_new(struct sim *s);
void clients_free(struct clients *c);
/* EVENT_CLIENT: `who` is a client of this kind, by `a`. */
enum client_event {
    CLIENT_NEXT,
    CLIENT_TIMEOUT,
    KEEPER_NEXT,
    KEEPER_TIMEOUT,
    WATCHER_NEXT,
};
void clients_event(struct sim *s, const struct event *e);
/* An entry with a payload was given out for the first time; the model has applied it. */
void clients_committed(struct clients *c, uint64_t index, const struct wire_raft_request *entry);
void clients_stop_reading(struct clients *c, struct rng *r, uint64_t length_us);

/* After the faults: has everybody written something since? Has every watcher seen everything? */
bool clients_progressed(const struct clients *c, uint64_t since_us);
bool clients_drained(struct clients *c);
/* Say who is not. */
void clients_explain(struct clients *c);

/* --- between the files of clients --- */

struct begun client_begin(struct clients *c);
void client_saw_revision(struct clients *c, int64_t revision);
/* Remember a write by its bytes, which no other has. */
struct op *client_new_op(struct clients *c, uint32_t client, uint32_t kind, struct slice body);
/* It has ended: what its status says about its fate. True: answered, in one way or another. */
bool client_settle_op(struct op *op, enum grpc_code code, const char *text);
/* The status of an operation that was committed with this outcome. */
void client_check_status(const struct op *op, enum grpc_code code, const char *text);
void client_schedule(struct sim *s, enum client_event what, uint32_t who, uint64_t life,
                     uint64_t delay_us);

/* Is this RangeResponse the state at a revision? */
void client_check_range(struct kv_client *k, const struct wire_range_request *req,
                        struct slice reply, int64_t at, bool has_header);
void client_check_answer(struct kv_client *k);

void keeper_init(struct keeper *k, struct sim *s, uint32_t number);
void keeper_fini(struct keeper *k);
void keeper_next(struct keeper *k);
void keeper_timeout(struct keeper *k);
/* The lease has ended: was it right? */
void keeper_lease_ended(struct sim *s, int64_t id);

void watcher_init(struct watcher_client *w, struct sim *s, uint32_t number);
void watcher_fini(struct watcher_client *w);
void watcher_next(struct watcher_client *w);
bool watcher_is_drained(struct watcher_client *w);

#endif
