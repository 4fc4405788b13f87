/* A node: everything one trivetd consists of, and how the pieces are tied to loops and threads.
 *
 * Threads:
 *
 * - core: node_run()'s. The core, the log, the peers' connections; with io_threads = 0 also the one
 *   worker, its client connections and its watchers.
 *
 * - workers: one loop each. Client connections, reads, watchers.
 *
 * - persist: RocksDB. And those of the disk, of libuv's pool (hashes, snapshots) and of the log.
 *
 * Read next: node_internal.h, and node_run() in node.c. */
#ifndef SERVER_NODE_H
#define SERVER_NODE_H

#include "server/compactor.h"
#include "server/config.h"
#include "server/core.h"
#include "server/held_ports.h"
#include "server/install.h"
#include "server/meter.h"
#include "server/metrics.h"
#include "server/peer.h"
#include "server/ports.h"
#include "server/snapshot.h"
#include "server/worker.h"
#include "state/cluster.h"

#include "state/records.h"

#include <uv.h>

struct disk_space;
struct node_thread;

struct node {
    const struct config *config;
    struct node_history *history;
    struct cluster cluster; /* after the start: the core thread's */
    uint64_t cluster_id;
    uint64_t member_id;

    struct disk *disk;
    struct wal *wal;
    struct lsm *lsm;
    struct persist *persist;
    struct mvcc *mvcc;
    struct lessor *lessor;
    struct applier applier;
    struct auth_tokens *tokens;
    struct core *core;
    struct peers *peers;
    struct snapshots *snapshots;
    char *lsm_dir;
    struct install_place place; /* of the store */
    char damage[1024];          /* what was found when the data was opened: server/repair.h */

    struct wal_meters wal_meters;
    struct lsm_meters lsm_meters;
    struct peers_meters peers_meters;

    struct disk_space *space; /* NULL: not looked at */
    struct compactor compactor;

    uv_loop_t loop; /* the core thread's */
    struct grpc_loop *gl;
    uv_timer_t tick;
    uv_timer_t stop_timer;
    uv_timer_t leave_timer;
    uv_timer_t wake_timer;
    uv_signal_t signals[2];
    uv_check_t turn; /* core_turn() after the I/O of a round of the loop */
    uv_idle_t again; /* active while a turn is due */
    uv_poll_t log_written;
    uv_async_t requests_in; /* from workers on other threads */
    uv_async_t drained;     /* from the last of them, when its clients are gone */
    _Atomic uint32_t threads_draining;
    struct mpsc requests;
    bool turn_due;

    _Atomic uint64_t top_wanted_ms; /* when somebody asked for /debug/top */

    struct ports ports;
    struct worker *workers;
    uint32_t workers_count;
    struct node_thread *threads;  /* NULL with io_threads = 0: the worker is on `loop` */
    struct grpc_server *acceptor; /* hands sockets to the threads */
    uint32_t next_thread;
    uint64_t first_started_ms; /* when this run was the very first start; 0 = it was not */
    uint32_t peer_hashes;      /* being made for other members; initial_check.h */
    bool publishing;
    bool ready;             /* our name is on the log: said so */
    bool serving;           /* listening for clients */
    struct held_ports held; /* until then, when we are about to */
    bool stopping;
    bool removed;      /* from the cluster: the node ends */
    int signal;        /* that stops us; 0: none */
    bool handing_over; /* the leadership, because we stop */
    bool clients_gone;
    bool lingering;  /* all is done but for what the others still send us */
    bool begin_anew; /* we stop to begin anew: NODE_RUN_AGAIN */
};

enum { NODE_RUN_AGAIN = -1, NODE_SIGNALLED = 128 };
/* Run a node until SIGTERM or SIGINT, and then give NODE_SIGNALLED and the signal's number; or else
 * the exit status, or NODE_RUN_AGAIN: what it held is marked as damaged, and the next run sees to
 * that. */
int node_run(const struct config *config, struct node_history *history);
/* The same in three steps, for who turns the loop himself. NULL: said already, and the process is
 * to end. */
struct node *node_start(const struct config *config, struct node_history *history);
/* Without waiting for anybody. Gives what node_run() gives. */
int node_stop(struct node *n);

/* How the node's store is opened. */
void node_lsm_options(struct node *n, struct lsm_options *ret);

/* Thread: any. Bytes that the node's store takes, for Status and the quota. */
uint64_t node_db_size(const struct node *n);

#endif
