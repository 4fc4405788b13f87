/* Watchers of one worker, fed from the store's history.
 *
 * A watcher is SYNCED (it has been sent everything up to hub->synced_rev) or LAGGING (it has a
 * cursor of its own into the history, `next_rev`). Synced watchers of the same range and options
 * form a group whose events are encoded once and shared. Nothing is queued for a watcher whose
 * stream does not drain: it turns LAGGING and costs a number until it reads again.
 *
 * Moves:  create -> SYNCED (watch__join) or LAGGING (start in the past or the future)
 *         SYNCED -> LAGGING (watch__fall_behind)   LAGGING -> SYNCED (catch_up)
 *         any -> gone (cancel, stream closed, history compacted away)
 *
 * Invariants:
 * 1. A watcher is sent events in revision order, each once, none before its start revision.
 * 2. The events of one revision go in one response, unless the client asked for fragments.
 * 3. A progress notification of revision r follows every event up to r.
 *
 * Owner: the worker's thread. */
#ifndef SERVER_WATCH_H
#define SERVER_WATCH_H

#include "server/meter.h"
#include "server/watch_listen.h"

#include "base/epoch.h"
#include "base/list.h"
#include "proto/grpc.h"
#include "proto/wire.h"
#include "storage/mvcc.h"

struct watch_hub;

struct watch_hub_options {
    struct mvcc *mvcc;
    struct epoch_reader *reader;
    uint64_t cluster_id;
    uint64_t member_id;
    uint64_t (*term)(void *ctx);
    void (*wake)(void *ctx); /* watch_hub_work() has something to do */
    /* May the call watch these keys? Asked when a watcher is made, outside of epoch sections; NULL:
     * it may. Errors: TV_INVALID_AUTH_TOKEN, TV_AUTH_OLD_REVISION, TV_USER_EMPTY, or another, which
     * is told as TV_PERMISSION_DENIED. */
    int (*permit)(void *ctx, struct grpc_call *call, struct slice key, struct slice range_end);
    void *ctx;
    size_t response_bytes_max; /* fragments are cut at this size: --max-request-bytes */
    uint64_t progress_interval_ms;
    struct watch_meters *meters; /* borrowed; NULL: nothing is counted */
};

struct watch_hub *watch_hub_new(const struct watch_hub_options *o);
void watch_hub_free(struct watch_hub *h);

/* Look at what was published since the last time, while it is in the cache: what concerns synced
 * watchers is encoded for them, and sent by the next watch_hub_advance(), or once it fills a round.
 */
void watch_hub_look(struct watch_hub *h);
/* Look, and send all that was found. Returns how many responses were sent since the last time. */
uint64_t watch_hub_advance(struct watch_hub *h);
/* A bounded piece of catching up; true when more is due. */
bool watch_hub_work(struct watch_hub *h);
/* Notify of progress where it is due; close streams that require a leader when there was none for
 * long. */
void watch_hub_tick(struct watch_hub *h, uint64_t now_ms, bool leader_lost);

/* The server stops: end all streams, so that their clients go elsewhere. */
void watch_hub_stop(struct watch_hub *h);

/* --- watching from inside: for calls that wait for a change --- */

/* Listen to what comes after watch_hub_revision(). */
void watch_hub_listen(struct watch_hub *h, struct watch_listener *l);
/* Harmless when it does not listen. */
void watch_hub_unlisten(struct watch_hub *h, struct watch_listener *l);
/* Everything up to here has been looked at, and told to those who listen. */
int64_t watch_hub_revision(const struct watch_hub *h);

/* The ops of etcdserverpb.Watch/Watch; open() makes the stream. */
void watch_stream_open(struct watch_hub *h, struct grpc_call *call);
extern const struct grpc_call_ops watch_call_ops;

#endif
