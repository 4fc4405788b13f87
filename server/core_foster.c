/* Proposals that come from another member while nobody can take them: we lead and hand over, or no
 * leader is known yet. Dropped, each would keep its client waiting until its time runs out, for a
 * hand-over of milliseconds. They are in no log: whoever leads next can take them, once. */
#include "server/core_internal.h"

void core__foster(struct core *c, const struct raft_msg *msg)
{
    if (!core__leading(c) && raft_leader(c->raft) != 0)
        return; /* its sender will learn who leads, and meant somebody else */
    if (!raft_membership_has(raft_membership(c->raft), msg->from))
        return;
    if (c->fostered_count == 0)
        c->fostered_until_ms = c->now_ms + c->request_timeout_ms;
    for (uint32_t i = 0; i < msg->entries_count; i++) {
        const struct raft_entry *e = &msg->entries[i];
        if (e->type != RAFT_ENTRY_NORMAL || e->owner == NULL)
            continue;
        if (c->fostered_count == FOSTERED_MAX ||
            c->fostered_bytes + e->data.size > FOSTERED_BYTES_MAX) {
            PROBE(core_fostered_limit);
            return;
        }
        bref_ref(e->owner);
        c->fostered[c->fostered_count++] = *e;
        c->fostered_bytes += e->data.size;
    }
    c->o.env.wake(c->o.env.ctx);
}

void core__propose_fostered(struct core *c)
{
    if (c->fostered_count == 0)
        return;
    if (raft_propose(c->raft, c->fostered, c->fostered_count) == 0 ||
        c->now_ms >= c->fostered_until_ms)
        core__drop_fostered(c); /* raft holds its own references */
}

void core__drop_fostered(struct core *c)
{
    for (uint32_t i = 0; i < c->fostered_count; i++)
        bref_unref(c->fostered[i].owner);
    c->fostered_count = 0;
    c->fostered_bytes = 0;
}
