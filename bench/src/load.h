/* The engine: workers, each a thread with its own loop, connections and slots. A slot has one
 * operation under way at a time. A slot of `keepalive` is a lease.
 *
 * The workers are the threads of this process, or of --processes that it forks: whatever one worker
 * tells another or main is in memory that all of these map, `struct run` and the array of workers.
 * Pointers in a worker mean something in its own process alone.
 *
 * Closed loop: a slot begins its next operation when the last one is answered. Open loop (--rate):
 * operation k of a thread is due at a moment fixed beforehand; it is begun by a free slot then, or
 * by the first that becomes free afterwards, and its latency counts from the moment it was due.
 * What a slow server delays is therefore in the figures, not left out of them.
 *
 * Measured are the operations that were due in [warm_ns, end_ns).
 *
 * A slot's life: IDLE -> BUSY -> IDLE ..., or BUSY -> PAUSED -> BUSY after a failed call.
 *
 * Thread: a worker and everything it points to belong to its thread, but for its results, which
 * main may read at any time; `run` is shared, and says how.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "keys.h"
#include "options.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/hist.h"
#include "base/list.h"
#include "proto/grpc.h"
#include "proto/wire.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum op_kind {
    OP_PUT,
    OP_GET,
    OP_TXN,
    OP_LIST,
    OP_FILL,
    OP_LEASE,
    OP_GRANT,
    OP_KEEPALIVE,
    OP_COMPACT,
    OP_SNAPSHOT,
    /* What an API server of Kubernetes does; see kubernetes.h. */
    OP_NODE_LEASE,
    OP_NODE_STATUS,
    OP_SYSTEM_LEASE,
    OP_POD_CREATE,
    OP_POD_BIND,
    OP_POD_STATUS,
    OP_POD_TERMINATE,
    OP_POD_DELETE,
    OP_EVENT_CREATE,
    OP_EVENT_LEASE,
    OP_OBJECT_GET,
    OP_CONSISTENT_READ,
    OP_COUNT,
    OP_RELIST,
    OP_COMPACT_TRY,
    OP_KINDS_COUNT
};

enum { ERROR_TEXT_BYTES = 128 };

struct worker;
struct lease_stream;
struct watch_stream;
struct kube;

/* Set up by main before the workers start, unless atomic. */
struct run {
    const struct bench_options *o;
    struct keys keys;
    struct bref *value;       /* o->value_size random bytes */
    struct kube **kubes;      /* KUBERNETES: one for each worker */
    uint64_t setup_revisions; /* that main's own writes made before */
    _Atomic uint32_t over;    /* workers that begin nothing any more and wait for no answer */
    _Atomic uint32_t ready;   /* workers that are connected, or have given up */
    _Atomic uint32_t finished;
    _Atomic bool go;
    /* Written by main before `go`. */
    uint64_t start_ns;
    uint64_t warm_ns;
    double cpu_seconds_before;
    _Atomic uint64_t end_ns;     /* UINT64_MAX with --total; SIGINT makes it now */
    _Atomic uint64_t claimed;    /* measured operations begun, of o->total */
    _Atomic uint64_t events_due; /* WATCH: of the puts that were acknowledged */
    _Atomic uint64_t events_seen;
    _Atomic bool failed;
};

struct slot {
    struct list link; /* of worker->idle or worker->paused */
    struct worker *worker;
    struct grpc_channel *channel;
    enum op_kind kind;
    uint64_t key;    /* FILL: the batch; GRANT, KEEPALIVE: the lease's number */
    uint64_t due_ns; /* closed loop: when it was begun */
    bool measured;
    bool answered;  /* the call has its answer: of a stream, the last message */
    bool malformed; /* or it is not what it should be */
    /* LIST: where the next page begins; empty = at the first key, or the list is complete. */
    struct buf page_key;
    uint64_t page_keys; /* in this call's messages */
    uint64_t listed_keys;
    uint64_t listed_bytes; /* SNAPSHOT: its size */
    int64_t compact_to;    /* COMPACT: 0 while the revision is asked for */
    uint32_t step;         /* calls of this operation that are done; LEASE, and of kubernetes */
    int64_t lease;         /* LEASE: its id */
    /* KUBERNETES */
    uint32_t server;   /* among those of this worker */
    uint32_t resource; /* enum kube_resource */
    uint32_t object;   /* its place among the worker's objects; KUBE_NO_OBJECT */
    int64_t revision;  /* RELIST: of its first page; CONSISTENT_READ: that is waited for */
    struct lease_stream *stream;
};

/* Counted by the worker's thread, read by main: relaxed while it runs, for the progress line. */
struct counters {
    _Atomic uint64_t done;
    _Atomic uint64_t failed;
    _Atomic uint64_t events;
};

struct worker {
    struct run *run;
    uint32_t part;
    pthread_t thread;
    uv_loop_t loop;
    struct grpc_loop *gl;
    struct grpc_channel **channels;
    uint32_t channels_count;
    uint32_t ready_count;
    struct slot *slots;
    uint32_t slots_count;
    uint32_t busy_count;
    struct list idle;
    struct list paused;
    uv_timer_t pause_timer; /* also the patience while connecting */
    uv_poll_t pace_poll;
    int pace_fd;
    uint64_t pace_at_ns; /* when pace_fd is to wake up; in the past: it is not */
    uint64_t begun;      /* open loop: operations of this thread begun, so the next one's number */
    bool running;
    bool ended;
    bool counted_over; /* in run->over */
    struct key_source source;
    struct buf scratch;
    struct buf chunk;       /* txn: operations of a fill */
    int64_t *mod_revisions; /* TXN: by key, of the keys of this thread; as last seen */
    struct watch_stream *watches;
    uint32_t watches_count;
    uint32_t watchers_created;
    uint32_t watchers_count;
    uint32_t writers_count;
    uint64_t drain_end_ns;
    struct lease_stream *leases;
    uint32_t lease_streams_count;
    int64_t revision_before; /* COMPACT: as it was the time before */
    int64_t compacted;
    struct kube *kube; /* KUBERNETES */
    /* Results. */
    struct hist latency[OP_KINDS_COUNT];
    struct hist event_latency;
    uint64_t messages_of_several; /* with more than one event; watchers.c looks into one in 17 */
    uint64_t events_measured;     /* received in [warm_ns, end_ns) */
    uint64_t last_event_ns;
    struct counters counters;
    uint64_t errors[GRPC_CODES_COUNT];
    char error_text[ERROR_TEXT_BYTES]; /* the first one */
    uint64_t conflicts;                /* TXN: the compare did not hold */
    uint64_t never_begun;              /* open loop: due, but no slot came free in time */
    uint64_t empty;                    /* GET: there was no such key */
    uint64_t listed_keys;
    uint64_t listed_bytes;
    uint64_t last_done_ns; /* of a measured operation */
    uint64_t revisions;    /* that our acknowledged calls made */
    uint64_t progress_requests;
    uint64_t watches_reopened;
};

const char *op_name(enum op_kind kind);

/* A worker's life, from its thread. */
void worker_run(struct worker *w);

/* --- between the engine's files --- */

/* ops.c: what operation comes next for the slot; the request; the answer. */
void op_choose(struct slot *s);
const char *op_path(const struct slot *s);
void op_send(struct slot *s, struct grpc_call *call);
void op_answer(struct slot *s, struct slice msg);
/* What came is not what was asked for: the engine counts it as a failed call. */
void op_malformed(struct slot *s);
/* The key-value that the txn's other branch has read. False: there is none, or what came is
 * malformed. */
bool op_read_of_txn(struct slot *s, struct slice msg, struct wire_kv *ret);
/* Whether the operation has done what it should although the call failed with this. */
bool op_forgives(struct slot *s, enum grpc_code code);
/* True when the operation needs another call: the next page of a list, the next step of a lease. */
bool op_continues(struct slot *s);

/* ops.c: a request in the making, in the worker's scratch buffer. */
/* Room for a message of this size, from its beginning. */
uint8_t *scratch_reserve(struct worker *w, size_t size);
/* A txn that begins with this; its operations follow, those of success first. */
void scratch_begin_txn(struct worker *w, const struct wire_compare *compare);
void scratch_append_op(struct worker *w, uint32_t branch, const struct wire_op *op);
void scratch_send(struct worker *w, struct grpc_call *call);

/* watchers.c */
void watchers_open(struct worker *w);
/* All puts of all workers have been answered, and an event has come for every one of them. */
bool watchers_have_all(const struct run *run);
/* Closed loop: so many events are still under way that no further put is begun. */
bool watchers_are_behind(const struct run *run);
/* How many watchers a put of this key has. */
uint32_t watchers_of(const struct bench_options *o, uint64_t key);

/* leases.c: LeaseKeepAlive streams, on which slots wait for their answers in turn. */
void leases_open(struct worker *w);
void leases_close(struct worker *w);
int64_t lease_id(const struct bench_options *o, uint64_t number);
void lease_send(struct slot *s);

/* load.c */
void worker_check_ready(struct worker *w);
/* This thread's share of `whole`. */
uint32_t worker_share(const struct worker *w, uint32_t whole);
/* Begin what is due, as far as slots are free; wake up for the next. */
void worker_pump(struct worker *w);
/* The slot's operation, or this call of it, has come to its end. */
void slot_closed(struct slot *s, enum grpc_code code, struct slice text);
/* The operation is done: KUBERNETES, when what it waited for has come. */
void slot_done(struct slot *s);
/* Make the slot's next call. */
void slot_begin(struct slot *s);
/* Open loop: when the operation of this number is due. */
uint64_t due_of(const struct worker *w, uint64_t number);
struct grpc_channel *channel_open(struct worker *w, uint32_t number);

#endif
