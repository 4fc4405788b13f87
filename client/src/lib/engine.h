/* The engine: what the files of this folder share. One uv loop, one owner.
 *
 * Invariants:
 * 1. All but the fields marked "any thread" belong to the engine's thread: other threads post.
 * 2. A call ends once (rpc__end()), whatever its attempts do; its memory goes when the last attempt
 *    is closed.
 * 3. A write has at most one attempt open, and a second one only after the first was judged as not
 *    applied (retry.h). But for those that their caller calls idempotent.
 * 4. Nothing here, and nothing that it calls, takes mem_alloc(): a library does not end its
 *    program (docs/client.md, "Without memory").
 * 5. User callbacks run from the loop, never from inside a function that the user called. */
#ifndef CLIENT_LIB_ENGINE_H
#define CLIENT_LIB_ENGINE_H

#include "balancer.h"
#include "message.h"
#include "retry.h"
#include "trivet.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/mpsc.h"
#include "base/rng.h"
#include "base/u64map.h"
#include "proto/grpc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <uv.h>

enum {
    ENDPOINT_CONNECTIONS_MAX = 8,
    ENDPOINT_TEXT_BYTES = 256,
    CONNECTION_FULL_CALLS = 128, /* under way; then another connection is opened */
    CALL_ATTEMPTS_OPEN_MAX = 3,
    LEASES_MAX = 100000,
    WATCHES_MAX = 100000,
};

#define NS_PER_MS UINT64_C(1000000)

struct trivet_client;
struct call;

/* Something for the engine to do. */
struct post {
    struct mpsc_node node;
    void (*run)(struct trivet_client *c, struct post *p);
};

/* --- endpoints --- */

struct connection {
    struct endpoint *endpoint;
    struct grpc_channel *channel;
    uint32_t in_flight;
    uint32_t lasting; /* of these: those without an end in sight */
    bool ready;
    bool failed; /* the last attempt to connect, or it was lost */
};

enum endpoint_source { FROM_OPTIONS, FROM_FILE, FROM_DNS, FROM_MEMBERS };

struct endpoint {
    struct trivet_client *client;
    int index;
    char *address;  /* as it was given */
    char *url;      /* for the transport */
    char *zone;     /* NULL: none */
    char *tls_host; /* NULL: the url's */
    enum endpoint_source source;
    uint32_t source_id; /* FROM_DNS: which name */
    bool seen;          /* while a list is compared */
    bool going;         /* no new calls; closed when the last one has ended */
    bool probing;
    uint64_t heard_ns; /* the last word of it */
    uint64_t member_id;
    struct connection connections[ENDPOINT_CONNECTIONS_MAX];
    uint32_t connections_count;
    struct list streams; /* watches here */
};

/* --- calls --- */

struct attempt {
    struct call *call;
    struct attempt *next; /* of those open */
    struct list link;     /* young, old or writes of the client */
    struct grpc_call *grpc;
    struct connection *connection;
    int endpoint;
    uint64_t started_ns;
    struct buf message;
    bool has_message;
    bool too_many;  /* a second message where there is one */
    bool abandoned; /* its end interests nobody */
    bool blamed;    /* its failure is counted already */
    bool moved;     /* nothing was heard there: another one is asked */
    bool hedge;
    bool lacked_memory; /* for its answer */
};

/* How a call ends, for those who asked. `message` may be taken (its data set to NULL). */
struct call_end {
    int status;
    enum grpc_code code;
    struct slice text;
    struct buf *message; /* NULL: none */
    bool part;
};
typedef void (*call_end_fn)(struct call *call, const struct call_end *end);

struct call {
    struct post post;
    struct list all_link;
    struct list waiting_link;
    struct list context_link;
    struct trivet_client *client;
    const struct method *m;
    int32_t method;
    call_end_fn end;
    trivet_result_cb cb;
    void *arg;
    struct trivet_context *context; /* a reference, or NULL */
    char *pinned;                   /* in the memory behind, or NULL */
    int pinned_index;               /* BALANCER_NONE, or of the engine's own calls */
    int answered_by;                /* an endpoint, or BALANCER_NONE */
    uint64_t deadline_ns;           /* 0: none */
    uint64_t began_ns;
    uint64_t wait_until_ns;
    uint64_t tried; /* a bit for each endpoint */
    uint32_t attempts_count;
    uint32_t leader_moves;
    struct attempt *attempts;
    struct attempt first;
    uint32_t refs;
    bool is_read;
    bool repeatable;    /* is a read, or as good as one: the caller says so */
    bool maybe_applied; /* a write: an attempt has ended without our knowing */
    bool linearizable;
    bool own; /* the engine's: not counted, without a token's waiting */
    bool ended;
    bool canceled;
    bool part_seen;
    bool token_renewed;
    uint64_t token_number; /* that was sent */
    bool charged;          /* counts among calls_now */
    size_t charged_bytes;
    struct slice request; /* in the memory behind */
};

struct trivet_context {
    struct post post;
    struct trivet_client *client;
    _Atomic uint32_t refs;
    _Atomic bool canceled;
    struct list calls;
};

/* --- who we are --- */

enum auth_state { AUTH_NOT_NEEDED, AUTH_WANTED, AUTH_ASKING, AUTH_READY };

struct auth {
    enum auth_state state;
    char *token; /* NULL: none, the cluster has no auth */
    uint64_t token_number;
};

/* --- leases --- */

struct lease_stream; /* lease.c */

struct leases {
    struct lease_stream *stream; /* NULL: none at the moment */
    uint64_t again_ns;           /* not before */
    uint64_t avoid;              /* endpoints that did not answer */
    struct list keepers;
    struct u64map by_id;
    uint32_t count;
};

/* --- a client --- */

struct file_seen {
    struct timespec modified;
    off_t size;
    ino_t inode;
};

struct trivet_client {
    /* Any thread; do not change after trivet_open(). */
    struct trivet_options o;
    char **endpoint_texts;
    bool is_secure;
    pthread_t thread; /* the engine's */
    bool has_thread;

    /* Any thread. */
    struct mpsc inbox;
    uv_async_t async;
    _Atomic bool closing;
    _Atomic uint64_t calls_now;
    _Atomic uint64_t bytes_now;
    _Atomic uint32_t watches_now;
    _Atomic uint64_t thread_id; /* of who runs the engine at the moment */

    uv_loop_t loop;
    uv_timer_t timer;
    struct grpc_loop *grpc;
    struct tls_context *tls;
    struct rng rng;
    struct arena scratch;
    bool stopped;

    struct balancer balancer;
    struct endpoint *endpoints[BALANCER_ENDPOINTS_MAX];
    char connect_error[ENDPOINT_TEXT_BYTES];
    uint64_t leader_id;
    uint64_t term;
    uint64_t probed_ns;      /* 0: at once */
    uint64_t probe_pause_ms; /* until the next time */
    uint64_t look_ns;        /* when files, names and members are looked at next */
    struct file_seen file;
    bool asking_members;
    uint32_t lookups; /* of names, under way */

    struct list calls;
    struct list waiting;
    struct list young;  /* attempts of reads that may be hedged; oldest first */
    struct list old;    /* attempts of reads; oldest first */
    struct list writes; /* attempts of writes; oldest first */
    struct retry_budget budget;
    uint64_t p95_ns;
    struct auth auth;
    struct list watches;
    struct list watches_lost;  /* to be opened again */
    struct list watches_ended; /* whose owner has not closed them */
    struct leases leases;
    struct trivet_metrics metrics;
};

/* engine.c */
void engine__post(struct trivet_client *c, struct post *p);
bool engine__is_mine(struct trivet_client *c);
/* own_loop: let the loop run until *done, or for one step. */
void engine__run_until(struct trivet_client *c, const _Atomic bool *done);
void engine__step(struct trivet_client *c);
/* Have `run` done by the engine and wait for it; at once where the engine is the caller. */
void engine__sync(struct trivet_client *c, void (*run)(struct trivet_client *c, void *arg),
                  void *arg);
uint64_t engine__now_ns(void);
/* Something is due sooner than the next tick. */
void engine__hurry(struct trivet_client *c);

/* endpoints.c */
int endpoints__check(const char *text, bool secure);
void endpoints__open(struct trivet_client *c);
void endpoints__close(struct trivet_client *c);
void endpoints__tick(struct trivet_client *c, uint64_t now_ns);
/* A connection of this endpoint that can take a call; NULL: none is ready, or one that has room is
 * coming up. */
struct connection *endpoint__connection(struct endpoint *e);
/* A stream is opened there, and is closed. `lasting`: a watch, a wait for a lock, not an answer. */
void connection__began(struct connection *n, bool lasting);
void connection__ended(struct connection *n, bool lasting);
/* A lasting one, begun, that ends when its member is cut off from the others. `token` may be NULL.
 * NULL: there is no memory. */
struct grpc_call *connection__stream(struct connection *n, const char *path, const char *token,
                                     const struct grpc_call_ops *ops, void *user);
void endpoints__probe_all(struct trivet_client *c);
/* What an answer's header says. */
void endpoints__learn(struct trivet_client *c, int endpoint, const struct trivet_header *h);
/* Something came from it. */
void endpoint__heard(struct endpoint *e);
/* It was asked, and nothing came for a while. */
void endpoint__silent(struct endpoint *e);
/* The engine waits no more on what is there. */
void endpoint__evacuate(struct endpoint *e);
int endpoint__find(struct trivet_client *c, const char *address);
/* The list of an origin as it is now: new ones are opened, missing ones go. */
void endpoints__begin_list(struct trivet_client *c, enum endpoint_source source, uint32_t id);
/* False: there is no memory for this one. */
bool endpoints__list(struct trivet_client *c, const char *text, enum endpoint_source source,
                     uint32_t id, const char *tls_host);
void endpoints__end_list(struct trivet_client *c, enum endpoint_source source, uint32_t id);
/* discover.c: files, names, members. */
/* False: there is no memory. */
bool discover__begin(struct trivet_client *c);
void discover__tick(struct trivet_client *c, uint64_t now_ns);

/* call.c */
struct call *rpc__new(struct trivet_client *c, const struct trivet_request *q,
                      const struct trivet_call_options *o, int *ret_error);
/* One of the engine's own, to this endpoint (BALANCER_NONE: any). NULL: there is no memory. */
struct call *rpc__new_own(struct trivet_client *c, const struct trivet_request *q, int endpoint,
                          uint64_t timeout_ms, call_end_fn end, void *arg);
void rpc__post(struct call *call);
void rpc__begin(struct call *call);
void rpc__unref(struct call *call);
void rpc__cancel(struct call *call);
void rpc__end(struct call *call, int status, enum grpc_code code, struct slice text,
              struct buf *message);
/* Another attempt now, or wait for what is missing. */
void rpc__go(struct call *call);
/* Its time is over. */
void rpc__end_late(struct call *call);
enum why_another { FOR_A_HEDGE, FOR_A_LATE_ANSWER, FOR_A_SILENCE };
/* A second opinion while the first attempt goes on. True: somebody is asked. */
bool rpc__ask_another(struct call *call, enum why_another why);
/* late.c */
/* Those that wait for a connection or a token are tried again. */
void calls__kick(struct trivet_client *c);
void calls__tick(struct trivet_client *c, uint64_t now_ns);
void calls__end_all(struct trivet_client *c);
void context__unref(struct trivet_context *x);

/* auth.c */
void auth__init(struct trivet_client *c);
void auth__fini(struct trivet_client *c);
/* True: go on, *ret is the token to send or NULL. False: wait, it is being asked for. */
bool auth__token(struct trivet_client *c, const char **ret);
/* The token with this number was refused. */
void auth__refused(struct trivet_client *c, uint64_t token_number);

/* watch.c */
void watches__tick(struct trivet_client *c, uint64_t now_ns);
void watches__kick(struct trivet_client *c);
void watches__end_all(struct trivet_client *c);
void watches__leave(struct endpoint *e);

/* lease.c */
void leases__init(struct trivet_client *c);
void leases__fini(struct trivet_client *c);
void leases__tick(struct trivet_client *c, uint64_t now_ns);
void leases__leave(struct endpoint *e);

/* result.c */
/* What a result of the caller's holds; made before the call begins, so that its end needs no
 * memory but for the answer's lists. NULL: there is none. */
struct holding *holding__new(void);
void holding__free(struct holding *h);
/* `message`, what it was decoded to and `h` become the result's. */
void result__own(struct call *call, const struct call_end *end, struct holding *h,
                 struct trivet_result *ret);
/* As borrowed; lists are in the client's scratch arena. */
void result__borrow(struct call *call, const struct call_end *end, struct trivet_result *ret,
                    char *error, size_t error_size);

#endif
