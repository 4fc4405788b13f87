/* What both ends share; the leader's is snapshot_send.c, the follower's snapshot_receive.c. */
#include "server/snapshot_internal.h"

#include "base/assert.h"
#include "base/background.h"
#include "base/clock.h"
#include "base/mem.h"

enum { POOL_NICENESS = 10 };

/* --- jobs --- */

void pool_job_init(struct pool_job *j)
{
    *j = (struct pool_job){0};
    int rv = uv_sem_init(&j->done, 0);
    ASSERT(rv == 0);
}

void pool_job_fini(struct pool_job *j)
{
    ASSERT(!j->pending);
    uv_sem_destroy(&j->done);
}

void pool_job_start(struct pool_job *j, uv_loop_t *loop, uv_work_cb run, uv_after_work_cb after)
{
    ASSERT(!j->pending);
    j->pending = true;
    j->waited = false;
    int rv = uv_queue_work(loop, &j->work, run, after);
    ASSERT(rv == 0);
}

void pool_job_finish(struct pool_job *j)
{
    uv_sem_post(&j->done);
}

void pool_job_ended(struct pool_job *j)
{
    if (!j->waited)
        uv_sem_wait(&j->done); /* posted already */
    j->pending = false;
}

void pool_job_wait(struct pool_job *j)
{
    if (!j->pending || j->waited)
        return;
    if (uv_cancel((uv_req_t *)&j->work) != 0)
        uv_sem_wait(&j->done);
    j->waited = true;
}

void snapshot__be_modest(struct metric_counter *paused_ns)
{
    static _Thread_local bool is_modest;
    if (!is_modest)
        background_thread(POOL_NICENESS);
    is_modest = true;
    background_give_way(paused_ns);
}

/* --- hashes --- */

void snapshot__sha_add(EVP_MD_CTX *sha, struct slice bytes)
{
    int rv = EVP_DigestUpdate(sha, bytes.data, bytes.size);
    ASSERT(rv == 1);
}

void snapshot__sha_end(EVP_MD_CTX *sha, uint8_t ret[32])
{
    unsigned size = 0;
    int rv = EVP_DigestFinal_ex(sha, ret, &size);
    ASSERT(rv == 1 && size == 32);
}

/* --- life --- */

struct snapshots *snapshots_new(const struct snapshots_options *o)
{
    struct snapshots *s = mem_alloc_zero(sizeof(*s));
    s->o = *o;
    if (s->o.meters == NULL)
        s->o.meters = s->unread = mem_alloc_zero(sizeof(*s->unread));
    s->incoming_dir = mem_strdup(o->incoming_dir);
    s->now_ms = clock_mono_ns() / 1000000; /* a snapshot may come before the first tick */
    list_init(&s->sending);
    return s;
}

void snapshots_free(struct snapshots *s)
{
    snapshot__send_stop(s);
    snapshot__receive_stop(s);
    mem_free(s->incoming_dir);
    mem_free(s->unread);
    mem_free(s);
}

struct grpc_method snapshots_method(struct snapshots *s)
{
    return (struct grpc_method){.path = SNAPSHOT_PATH,
                                .client_streaming = true,
                                .server_streaming = true,
                                .ops = &snapshot__receive_ops,
                                .open = snapshot__receive_open,
                                .arg = s};
}

void snapshots_tick(struct snapshots *s, uint64_t now_ms, bool leading)
{
    s->now_ms = now_ms;
    snapshot__send_tick(s, leading);
    snapshot__receive_tick(s);
}

void snapshots_stats(const struct snapshots *s, struct snapshots_stats *ret)
{
    *ret = s->stats;
    ret->sending = 0;
    LIST_EACH (it, &s->sending)
        ret->sending++;
    ret->receiving = s->incoming != NULL;
}
