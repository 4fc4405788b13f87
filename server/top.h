/* What is hot, for whoever looks at it now: the prefixes that are read and written most, and the
 * clients that wait longest or move most. Served as JSON at /debug/top (top_page.c).
 *
 * Prefixes: one unary call of about TOP_SAMPLE_EVERY is looked at. Each folder that its key is in,
 * up to TOP_LEVELS_MAX, is counted in a space-saving sketch: TOP_PREFIXES_MAX places, and who finds
 * none takes the one with the smallest count, and the count with it, so that whatever is frequent
 * is in there. Counts fade: a tenth of them goes each second.
 *
 * Clients: each connection counts its unary calls and their times. They are looked through only
 * while somebody has asked within the last TOP_WANTED_MS, CONNS_PER_TICK_MAX a tick.
 *
 * Owner: the worker's thread, but for what `lock` protects. */
#ifndef SERVER_TOP_H
#define SERVER_TOP_H

#include "base/list.h"
#include "base/rng.h"
#include "base/slice.h"
#include "proto/grpc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum {
    TOP_SAMPLE_EVERY = 32, /* on average; by chance, so that no rhythm of a client's hides it */
    TOP_PREFIXES_MAX = 128,
    TOP_PREFIX_BYTES_MAX = 96,
    TOP_LEVELS_MAX = 4,
    TOP_WINDOW_S = 10,
    TOP_CLIENTS_MAX = 16, /* shown by a worker, of each order */
    TOP_NAME_BYTES_MAX = 64,
    TOP_WANTED_MS = 10000,
};

/* Weights of samples, faded. */
struct top_prefix {
    uint64_t hash; /* 0: free */
    double reads;
    double writes;
    double bytes;     /* of requests */
    double inherited; /* from whom it took the place */
    uint32_t size;
    uint8_t text[TOP_PREFIX_BYTES_MAX];
};

/* A connection's counts; what hangs on a grpc_conn. */
struct top_client {
    struct list link;
    struct grpc_conn *conn;
    uint64_t calls;
    uint64_t time_ns;
    uint64_t worst_ns[2]; /* in this half of a window, and in the one before */
    /* As of the last look. */
    uint64_t seen_ns;
    uint64_t seen_calls;
    uint64_t seen_time_ns;
    struct grpc_conn_bytes seen_bytes;
};

/* What is shown of it. */
struct top_client_row {
    char peer[TOP_NAME_BYTES_MAX];
    char name[TOP_NAME_BYTES_MAX]; /* of its certificate; "" */
    double calls_per_s;
    double received_per_s; /* bytes */
    double sent_per_s;
    double mean_ns;
    uint64_t worst_ns;
};

struct top {
    struct list clients;
    uint32_t clients_count;
    uint32_t to_look_at; /* in this round */
    uint64_t round_ns;   /* when it began */
    uint64_t half_ns;    /* when this half of a window began */
    uint64_t faded_ns;
    struct rng rng;
    struct top_client_row slow_next[TOP_CLIENTS_MAX]; /* of the round under way */
    struct top_client_row busy_next[TOP_CLIENTS_MAX];
    uint32_t slow_next_count;
    uint32_t busy_next_count;

    pthread_mutex_t lock; /* protects what follows; taken once in TOP_SAMPLE_EVERY calls */
    struct top_prefix prefixes[TOP_PREFIXES_MAX];
    uint32_t prefixes_count;
    struct top_client_row slow[TOP_CLIENTS_MAX]; /* longest times first */
    struct top_client_row busy[TOP_CLIENTS_MAX]; /* most bytes first */
    uint32_t slow_count;
    uint32_t busy_count;
};

struct top *top_new(void);
/* No connection is left. */
void top_free(struct top *t);

/* --- prefixes --- */

/* How many calls until the next one is to be looked at. */
uint32_t top_next_sample(struct top *t);
/* The folders of a key, shortest first; one without any has what is before its first digit, or its
 * first 16 bytes. Returns how many. */
uint32_t top_prefixes_of(struct slice key, struct slice ret[TOP_LEVELS_MAX]);
void top_count_key(struct top *t, struct slice key, bool is_write, size_t bytes);
/* Of one request to etcdserverpb.KV, by its method; anything else is left out. */
void top_count_request(struct top *t, const char *path, struct slice msg);

/* --- clients --- */

/* For struct grpc_server_options; `arg` is the struct top. */
void top_conn_opened(struct grpc_conn *conn, void *arg);
void top_conn_closed(struct grpc_conn *conn, void *arg);
static inline void top_count_call(struct grpc_conn *conn, uint64_t took_ns)
{
    struct top_client *c = conn == NULL ? NULL : grpc_conn_user(conn);
    if (c == NULL)
        return;
    c->calls++;
    c->time_ns += took_ns;
    if (took_ns > c->worst_ns[0])
        c->worst_ns[0] = took_ns;
}

/* Fade, and look at clients when somebody wants to know. */
void top_tick(struct top *t, uint64_t now_ns, bool wanted);

#endif
