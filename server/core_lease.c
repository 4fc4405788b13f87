/* Checkpoints: what is left of long TTLs goes on the log, so that a new leader goes on from there
 * (server/lease.h). A renewal of a lease that has one waits here until another one has taken it
 * back, on the log as well: what the client is told must hold under the next leader, too. */
#include "server/core_internal.h"

enum { CHECKPOINTS_MAX = 1000 }; /* of an entry, as in etcd */

static void give_back(struct core *c, const struct wire_lease_checkpoint *checkpoints,
                      uint32_t count)
{
    while (count > 0)
        lessor_checkpoint_lost(c->lessor, &checkpoints[--count], c->now_ms);
}

static void propose(struct core *c, const struct wire_lease_checkpoint *checkpoints, uint32_t count)
{
    uint32_t size;
    struct bref *payload =
        applier_encode_checkpoints(checkpoints, count, core_next_request_id(c), &size);
    struct raft_entry e = {
        .type = RAFT_ENTRY_NORMAL, .data = slice_of(payload->data, size), .owner = payload};
    if (raft_propose(c->raft, &e, 1) != 0) {
        PROBE(core_checkpoint_refused);
        give_back(c, checkpoints, count);
    }
    bref_unref(payload);
}

/* Nothing of earlier terms is left to be applied: what the log says of leases is what this leader
 * put there. */
static bool knows_all(const struct core *c)
{
    return core__leading(c) && c->applied_term == raft_term(c->raft);
}

void core__checkpoint_leases(struct core *c)
{
    if (c->o.lease_checkpoint_ms == 0 || !knows_all(c))
        return;
    struct wire_lease_checkpoint due[CHECKPOINTS_MAX];
    uint32_t count = lessor_checkpoints_due(c->lessor, c->now_ms, due, CHECKPOINTS_MAX);
    if (count > 0)
        propose(c, due, count);
}

/* --- renewals that wait --- */

bool core__hold_renewal(struct core *c, struct question *q)
{
    if (q->msg.about != QUESTION_LEASE_RENEW || !core__leading(c) ||
        raft_term(c->raft) != q->term ||
        !lessor_is_noted(c->lessor, (int64_t)q->msg.subject, c->now_ms))
        return false;
    list_remove(&q->link);
    list_push_back(&c->held_renewals, &q->link);
    c->o.env.wake(c->o.env.ctx);
    return true;
}

void core__clear_held(struct core *c)
{
    if (list_is_empty(&c->held_renewals) || !core__leading(c))
        return;
    struct wire_lease_checkpoint clears[CHECKPOINTS_MAX];
    uint32_t count = 0;
    LIST_EACH (it, &c->held_renewals) {
        const struct question *q = CONTAINER_OF(it, struct question, link);
        int64_t id = (int64_t)q->msg.subject;
        if (count < CHECKPOINTS_MAX && lessor_clear_begin(c->lessor, id))
            clears[count++] = (struct wire_lease_checkpoint){.id = id};
    }
    if (count > 0)
        propose(c, clears, count);
}

/* One that is not to wait any more is answered, whatever the answer is by now. */
void core__answer_held(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->held_renewals) {
        struct question *q = CONTAINER_OF(it, struct question, link);
        if (core__leading(c) && raft_term(c->raft) == q->term &&
            lessor_is_noted(c->lessor, (int64_t)q->msg.subject, c->now_ms))
            continue;
        list_remove(&q->link);
        core__answer_question(c, q);
    }
}
