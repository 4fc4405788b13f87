/* Copies of the store, for snapshots that clients ask for. What was applied before the client asked
 * is to be in it; so RocksDB takes what it lacks first, and the copy is of that commit or a later
 * one. A compaction that was applied since then needs one more. */
#include "server/core_internal.h"

enum { COPY_PATIENCE_MS = 60000 }; /* a commit may have much to write */

static void ask_flush(struct core *c, struct request *req)
{
    req->target = c->applied_index;
    req->asked_ms = 0;
}

void core__take_copy(struct core *c, struct request *req)
{
    if (c->o.env.copy_store == NULL) {
        core__answer(c, req, TV_ENOTSUP);
        return;
    }
    req->deadline_ms = c->now_ms + COPY_PATIENCE_MS;
    ask_flush(c, req);
    list_remove(&req->link);
    list_push_back(&c->copies, &req->link);
}

static bool is_submitted(const struct core *c, uint64_t log_index)
{
    if (list_is_empty(&c->persist_waiting))
        return !core__assembles(c);
    return CONTAINER_OF(c->persist_waiting.next, struct persist_waiting, link)->applied_index >
           log_index;
}

static void make_copy(struct core *c, struct request *req)
{
    if (persist_flushed_index(c->o.persist) < req->target) {
        if (req->asked_ms == 0 && is_submitted(c, req->target)) {
            req->asked_ms = c->now_ms;
            persist_request_flush(c->o.persist);
        }
        return;
    }
    int err = c->o.env.copy_store(c->o.env.ctx, &req->copy);
    if (err == TV_EAGAIN)
        ask_flush(c, req);
    else
        core__answer(c, req, err == TV_EBUSY ? TV_TOO_MANY_REQUESTS : err);
}

void core__make_copies(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->copies)
        make_copy(c, CONTAINER_OF(it, struct request, link));
}
