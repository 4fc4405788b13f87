/* Linearizable reads without the log (thesis, 6.4).
 *
 * The questions that came in between two raft_ready() share one round. A round has a number; it
 * rides on every append and heartbeat from then on, and followers send the newest number they saw
 * with every answer. When a majority has answered with this number or a later one, this member was
 * still the leader after the questions were asked, and the commit index noted when the round began
 * may be read.
 *
 * With lease_reads there are rounds that nobody asked for, one per heartbeat. A follower that has
 * answered one keeps for an election timeout from everything that would elect another leader (it
 * even sits that time out after a restart), so for a little less, counted from the beginning of the
 * round, the leader need not ask (thesis, 6.4.1). "A little" is the margin for clocks that do not
 * run alike, and two ticks: a tick may come just after we begin to count, and just before we look.
 * A transfer breaks the promise, and its message may arrive at any time: it ends the lease for the
 * rest of the term. So does a change of membership for the rounds before it.
 *
 * A leader knows the true commit index only when it has committed an entry of its own term; until
 * then questions wait without a round. */
#include "internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

static struct raft_read_waiting *waiting_at(struct raft *r, uint32_t position)
{
    return &r->reads[(r->reads_first + position) % RAFT_READS_MAX];
}

int raft__read_ask(struct raft *r, uint64_t from, uint64_t context)
{
    ASSERT(r->role == RAFT_LEADER);
    if (r->reads_count == RAFT_READS_MAX) {
        PROBE(raft_reads_limit);
        return TV_EDROPPED;
    }
    if (r->reads == NULL)
        r->reads = mem_alloc(RAFT_READS_MAX * sizeof(*r->reads));
    *waiting_at(r, r->reads_count) = (struct raft_read_waiting){.context = context, .from = from};
    r->reads_count++;
    r->reads_new++;
    return 0;
}

void raft__read_done(struct raft *r, uint64_t context, uint64_t log_index)
{
    if (r->reads_done_count >= 2 * RAFT_READS_MAX)
        return; /* nobody collects them; the question is asked again */
    r->reads_done = raft__vector_reserve(r->reads_done, &r->reads_done_capacity,
                                         r->reads_done_count + 1, sizeof(*r->reads_done));
    r->reads_done[r->reads_done_count++] =
        (struct raft_read){.context = context, .log_index = log_index};
}

/* Answer the oldest `count` questions; log_index 0 refuses them. */
static void answer(struct raft *r, uint32_t count, uint64_t log_index)
{
    ASSERT(count <= r->reads_count);
    for (uint32_t i = 0; i < count; i++) {
        const struct raft_read_waiting *w = waiting_at(r, i);
        if (w->from == r->o.id) {
            raft__read_done(r, w->context, log_index);
            continue;
        }
        struct raft_msg *m = raft__send(r, RAFT_MSG_READ_INDEX_REPLY, w->from);
        if (m == NULL)
            continue; /* dropped: asked again */
        m->context = w->context;
        m->log_index = log_index;
        m->reject = log_index == 0;
    }
    r->reads_first = (r->reads_first + count) % RAFT_READS_MAX;
    r->reads_count -= count;
}

bool raft__lease_promised(const struct raft *r)
{
    return r->o.lease_reads && r->heard_elapsed < r->o.election_timeout_ticks;
}

static bool lease_holds(const struct raft *r)
{
    if (!r->o.lease_reads || !r->lease_known || r->lease_off || r->transfer_target != 0)
        return false;
    return r->ticks - r->lease_tick + 2 + r->o.lease_margin_ticks <= r->o.election_timeout_ticks;
}

static void answer_all(struct raft *r, uint64_t log_index)
{
    answer(r, r->reads_count, log_index);
    r->reads_new = 0;
    for (uint32_t i = 0; i < r->rounds_count; i++)
        r->rounds[(r->round_current - i) % RAFT__READ_ROUNDS_MAX].reads_count = 0;
}

void raft__read_start_round(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    if (r->reads_new == 0 && !r->lease_round_due)
        return;
    uint64_t commit_term;
    bool known = raft__log_term(&r->log, r->commit, &commit_term);
    ASSERT(known);
    if (commit_term != r->term)
        return;
    if (r->reads_new > 0 && lease_holds(r)) {
        PROBE(raft_lease_read);
        answer_all(r, r->commit);
    }
    if ((r->reads_new == 0 && !r->lease_round_due) || r->rounds_count == RAFT__READ_ROUNDS_MAX)
        return;
    r->lease_round_due = false;
    r->round_current++;
    r->rounds[r->round_current % RAFT__READ_ROUNDS_MAX] = (struct raft_read_round){
        .log_index = r->commit, .tick = r->ticks, .reads_count = r->reads_new};
    r->rounds_count++;
    r->reads_new = 0;
}

static uint64_t round_acked(const struct raft_peer *p)
{
    return p->round_acked;
}

void raft__read_confirm(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    if (r->rounds_count == 0)
        return;
    r->self->round_acked = r->round_current;
    uint64_t confirmed = raft__quorum_reached(r->peers, r->peers_count, round_acked);
    while (r->rounds_count > 0 && r->round_current - r->rounds_count + 1 <= confirmed) {
        uint64_t round = r->round_current - r->rounds_count + 1;
        const struct raft_read_round *oldest = &r->rounds[round % RAFT__READ_ROUNDS_MAX];
        r->rounds_count--;
        r->lease_known = true;
        r->lease_tick = oldest->tick;
        answer(r, oldest->reads_count, oldest->log_index);
    }
}

void raft__read_refuse_all(struct raft *r)
{
    answer_all(r, 0);
    r->rounds_count = 0;
}
