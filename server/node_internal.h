/* A node's loops and what is tied to them. Its parts:
 *
 *   node.c           the core's loop, what the core asks of the world, the end; main() begins here
 *   node_data.c      the start: the data folder, who we are, the log and the store, the core
 *   node_force.c     --force-new-cluster
 *   node_clients.c   workers, I/O threads, the client ports
 *   node_compact.c   the leader's own compactions
 *   node_peers.c     the other members: messages, snapshots, joining */
#ifndef SERVER_NODE_INTERNAL_H
#define SERVER_NODE_INTERNAL_H

#include "server/node.h"

enum {
    NODE_FDS_WAITING_MAX = 1024
}; /* accepted sockets on their way to a thread; more are closed */

/* An I/O thread: a loop with one worker. */
struct node_thread {
    struct node *node;
    struct worker *worker;
    uv_thread_t thread;
    uv_loop_t loop;
    uv_async_t control; /* sockets to adopt, or time to stop */
    uv_timer_t tick;
    uv_mutex_t mutex;
    int fds[NODE_FDS_WAITING_MAX];
    const struct grpc_port *fds_ports[NODE_FDS_WAITING_MAX];
    uint32_t fds_count;
    bool drain; /* tell the clients to go elsewhere */
    bool stop;
};

uint64_t node__now_ms(void);
/* Ask for a turn of the core. `ctx` is the node, as in struct core_env. */
void node__wake(void *ctx);
/* A start that cannot go on: said in one line, exit status 1. TV_EINVAL, always. */
int node__refuse(const char *what, const char *why);
/* What the core asks of the world. */
struct core_env node__env(struct node *n);
/* This member does not belong to the cluster any more. */
void node__leave(struct node *n);
void node__stop_if_done(struct node *n);
/* All handles of a loop are closed, and the loop. */
void node__finish_loop(uv_loop_t *loop);

/* --- node_data.c --- */

/* The data folder, up to a core that can run; once more when what was there had to be set aside.
 * Errors: said already. */
int node__open_data(struct node *n);
/* Damage found while running; the caller ends the process. Thread: any. */
void node__damaged(void *ctx, const char *what);

/* --- node_force.c --- */

struct restore;
/* With --force-new-cluster, or when it was given before: between the log and the core. */
void node__force_new_cluster(struct node *n, struct restore *r);

/* --- node_clients.c --- */

void node__start_workers(struct node *n);
/* Listen for clients, if it is time. Errors: said already. */
int node__serve_clients(struct node *n);
/* "ready to serve client requests" */
void node__say_ready(struct node *n);
/* Tell the clients to go elsewhere; node__stop_if_done() when they have. */
void node__drain_clients(struct node *n);
void node__on_all_drained(uv_async_t *a);
/* No call is open and no thread runs any more. */
void node__close_clients(struct node *n);
/* When the core is gone: what they hold, not they themselves. */
void node__free_workers(struct node *n);
/* On each of them. Errors: said already. */
int node__listen_all(const struct listen_port *ports, uint32_t count, struct grpc_server *server);

/* --- node_compact.c --- */

void node__start_compactor(struct node *n);
void node__tick_compactor(struct node *n);

/* --- node_peers.c --- */

/* Errors: said already. */
int node__start_peers(struct node *n);
void node__tick_snapshots(struct node *n);

#endif
