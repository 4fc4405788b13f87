/* What the two ends of a snapshot share. */
#ifndef SERVER_SNAPSHOT_INTERNAL_H
#define SERVER_SNAPSHOT_INTERNAL_H

#include "server/snapshot.h"

#include "base/list.h"

#include <openssl/evp.h>

#define SNAPSHOT_PATH "/trivet.Peer/Snapshot"

struct snapshots {
    struct snapshots_options o;
    struct peers_meters *unread; /* counted there when nobody asks */
    char *incoming_dir;
    struct list sending;       /* struct outgoing */
    struct incoming *incoming; /* NULL, or the one that owns incoming_dir */
    uint64_t now_ms;
    struct snapshots_stats stats;
};

/* A piece of work in libuv's pool that can be waited for. */
struct pool_job {
    uv_work_t work;
    uv_sem_t done;
    bool pending; /* from its start to the end of its callback on the loop */
    bool waited;  /* for `done` already */
};
void pool_job_init(struct pool_job *j);
void pool_job_fini(struct pool_job *j);
void pool_job_start(struct pool_job *j, uv_loop_t *loop, uv_work_cb run, uv_after_work_cb after);
/* From the run callback, as its last act. */
void pool_job_finish(struct pool_job *j);
/* From the after callback, as its first act. */
void pool_job_ended(struct pool_job *j);
/* Nothing of it runs any more when this returns; the after callback is still to come. */
void pool_job_wait(struct pool_job *j);

/* Called by each job: its thread works when nobody else wants the CPU. What clients wait for goes
 * first. How long it paused for that is added to `paused_ns`, which the pool's threads share. */
void snapshot__be_modest(struct metric_counter *paused_ns);

void snapshot__sha_add(EVP_MD_CTX *sha, struct slice bytes);
void snapshot__sha_end(EVP_MD_CTX *sha, uint8_t ret[32]);

void snapshot__receive_open(struct grpc_call *call, void *arg);
extern const struct grpc_call_ops snapshot__receive_ops;
void snapshot__receive_tick(struct snapshots *s);
void snapshot__receive_stop(struct snapshots *s);
void snapshot__send_tick(struct snapshots *s, bool leading);
void snapshot__send_stop(struct snapshots *s);

#endif
