/* One I/O thread's part of a node: its connections, its reads, its watchers, and its requests to
 * the core.
 *
 * A worker runs on a libuv loop. With --io-threads 0 there is one, on the core's own loop;
 * otherwise each has a thread and a loop of its own. It reads the store by itself; everything else
 * it asks the core for, with a struct request.
 *
 * Limits: requests that wait for an answer are bounded by the streams and the bytes that the
 * transport admits (each has a charge), and by the core (too many requests). A range that is being
 * gathered holds 8 bytes a key, a stream those of one message. Passwords that wait for being hashed
 * and calls that wait for their token are bounded by number (svc_password.c, service_auth.c).
 *
 * Owner: the worker's thread, except worker_answer(). */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include "server/gather.h"
#include "server/meter.h"
#include "server/request.h"
#include "server/watch.h"
#include "state/auth.h"

#include "base/arena.h"
#include "base/buf.h"
#include "proto/grpc.h"

#include <uv.h>

struct node;
struct top;
struct tracer;

struct worker {
    struct node *node;
    uv_loop_t *loop;
    struct grpc_loop *gl; /* NULL: the core's */
    struct grpc_server *server;
    struct grpc_method *methods;
    uint32_t methods_count;
    uint32_t http_body_bytes_max;
    struct watch_hub *hub;
    struct epoch_reader *reader;
    struct buf scratch; /* answers on their way to the transport */
    struct arena arena;
    struct buf caller; /* the name of who makes the present call */

    struct mpsc answers; /* from the core */
    uv_async_t wakeup;   /* answers, or a new revision */
    _Atomic bool published;
    struct gather gather; /* of what is published, for watchers */
    uv_timer_t gathering; /* active: what was found is sent when this is over */
    struct list requests_free;
    uint32_t requests_free_count;

    struct list reads_asked; /* wait for the barrier under way */
    struct list reads_next;  /* came since: wait for the next one */
    bool barrier_under_way;
    struct list reads_slow; /* long ranges being gathered */
    uv_idle_t idle;         /* runs while there are reads_slow or lagging watchers */
    bool watch_work;
    struct list held; /* messages of calls whose token is not known yet: service_auth.c */
    uint32_t held_count;
    struct list passwords; /* to be hashed, in turn: svc_password.c */
    uint32_t passwords_waiting;
    uint32_t passwords_running;
    uint64_t leader_lost_ms; /* 0 = there is a leader */
    struct list snapshots;   /* svc_snapshot.c's, to clients */
    uint32_t snapshots_count;

    struct worker_meters meters;
    struct grpc_method_stats *method_stats; /* as many as there are methods */
    struct grpc_message_bytes message_bytes;
    struct top *top;
    uint32_t top_countdown; /* of calls, until one is looked at */
    struct tracer *tracer;  /* NULL: nothing is traced */
};

void worker_init(struct worker *w, struct node *node, uv_loop_t *loop);
/* At the end, when the core is gone: what it answered is freed unread. */
void worker_drop_answers(struct worker *w);
/* All calls are closed and nothing is with the core. */
void worker_fini(struct worker *w);

/* The clock, read once in a round of the worker's loop. */
uint64_t worker_now_ns(struct worker *w);

/* --- requests --- */

/* A fresh request of this worker, its answer to go to `call`; `user` is the caller's. */
struct request *worker_request(struct worker *w, enum request_kind kind, struct grpc_call *call,
                               void (*answered)(struct worker *w, struct request *req));
/* Set the payload: the body as the client sent it, unchanged, in nobody's name. False when it is
 * over --max-request-bytes. */
bool worker_payload(struct worker *w, struct request *req, uint32_t raft_kind, struct slice body);
/* The same in the name of a caller, who is checked when it is applied. */
bool worker_payload_by(struct worker *w, struct request *req, uint32_t raft_kind, struct slice body,
                       const struct auth_caller *caller);
void worker_post(struct worker *w, struct request *req);
void worker_request_free(struct worker *w, struct request *req);
/* Thread: the core's. The request comes back to its worker. */
void worker_answer(struct request *req);
/* Thread: the core's. There is a new revision or another leader. */
void worker_publish(struct worker *w);

/* Every 100 ms or so. */
void worker_tick(struct worker *w, uint64_t now_ms);
/* Do what idles: slow ranges, lagging watchers. */
void worker_wake(struct worker *w);

/* --- answers --- */

void worker_fail(struct grpc_call *call, int err);
/* The header of an answer at `revision`. */
struct wire_header worker_header(const struct worker *w, int64_t revision);
/* The client asked for a leader ("hasleader") and there is none. */
bool worker_lacks_leader(struct worker *w, struct grpc_call *call);

/* --- reads --- */

/* A read that may have to wait for its turn; lives until its answer is handed over. */
struct read {
    struct call_tie tie;
    struct list link;
    struct worker *worker;
    struct grpc_call *call;
    void (*serve)(struct read *r);
    void *state; /* serve()'s own */
    void (*state_free)(void *state);
    uint64_t begun_ms; /* slow_now() */
    size_t msg_size;
    uint8_t msg[];
};

/* Serve at once, or, when `linearizable`, as soon as the core says that what is published by then
 * is new enough. The message is copied. */
void worker_read(struct worker *w, struct grpc_call *call, struct slice msg, bool linearizable,
                 void (*serve)(struct read *r));
/* From serve(): again in the next turn of the loop. */
void worker_read_again(struct read *r);
void worker_read_free(struct read *r);
/* The op of calls that end in a read or a request. */
void worker_call_closed(struct grpc_call *call, enum grpc_code code, struct slice text);

#endif
