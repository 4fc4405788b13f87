/* Who is meant by an id, and what a majority is: what judge.h says about memberships. */
#include "judge.h"

#include "base/mem.h"
#include "member.h"
#include "raft/conf.h"
#include "server/member.h"

#include <inttypes.h>

/* --- who is who --- */

void judge_begin_as(struct member *m, uint64_t id)
{
    struct judge *j = &m->sim->judge;
    if (j->ids_count == JUDGE_IDS_MAX)
        sim_fail("more than %d members come and go", JUDGE_IDS_MAX);
    for (uint32_t i = 0; i < j->ids_count; i++)
        if (j->ids[i].id == id)
            sim_fail("member %u begins without data under an id that was there before", m->number);
    judge_member_fini(&m->judged);
    m->judged = (struct judge_member){.self = j->ids_count};
    j->ids[j->ids_count++] = (struct judge_id){.id = id, .place = m->number};
}

void judge_is_gone(struct member *m)
{
    struct judge_id *who = &m->sim->judge.ids[m->judged.self];
    ASSERT(!who->gone);
    who->gone = true;
    who->durable = m->judged.durable_at_end;
    who->log = m->judged.log;
    m->judged.log = (struct judge_log){0};
}

/* --- majorities --- */

static bool is_in(const struct judge *j, uint64_t id, uint64_t who)
{
    for (uint32_t i = 0; i < j->ids_count; i++)
        if (j->ids[i].id == id)
            return (who >> i & 1) != 0;
    return false; /* it was added, and has not begun */
}

static bool is_majority_of(const struct judge *j, const struct raft_ids *voters, uint64_t who)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < voters->count; i++)
        count += is_in(j, voters->ids[i], who);
    return 2 * count > voters->count;
}

bool judge_is_majority(const struct judge *j, const struct raft_membership *m, uint64_t who)
{
    return is_majority_of(j, &m->voters, who) &&
           (m->voters_outgoing.count == 0 || is_majority_of(j, &m->voters_outgoing, who));
}

/* --- the membership, entry by entry --- */

static uint64_t hash_of(const struct cluster *c)
{
    struct buf b;
    buf_init(&b, SIZE_MAX);
    cluster_encode(c, &b);
    uint64_t hash = sim_hash(0, buf_slice(&b));
    buf_fini(&b);
    return hash | 1;
}

void judge_membership(struct member *m, uint64_t index)
{
    struct judge *j = &m->sim->judge;
    if (m->dying || index == 0)
        return;
    uint64_t hash = hash_of(&m->node.cluster);
    void *before = u64map_get(&j->memberships, index);
    if (before != NULL && before != (void *)(uintptr_t)hash)
        sim_fail("member %u has another membership after entry %" PRIu64, m->number, index);
    u64map_put(&j->memberships, index, (void *)(uintptr_t)hash);
}

static void take_newest(struct judge *j, const struct cluster *c)
{
    struct buf b;
    buf_init(&b, SIZE_MAX);
    cluster_encode(c, &b);
    cluster_fini(&j->cluster);
    int err = cluster_decode(buf_slice(&b), &j->cluster);
    ASSERT(err == 0);
    buf_fini(&b);
}

void judge_begin_with(struct judge *j, const struct cluster *initial)
{
    take_newest(j, initial);
}

/* One step changes one voter, or is joint. */
static void check_step(const struct judge *j, const struct member *m, uint64_t index)
{
    const struct raft_membership *old = &j->cluster.raft, *now = &m->node.cluster.raft;
    uint32_t differ = 0;
    for (uint32_t i = 0; i < old->voters.count; i++)
        differ += !raft_ids_has(&now->voters, old->voters.ids[i]);
    for (uint32_t i = 0; i < now->voters.count; i++)
        differ += !raft_ids_has(&old->voters, now->voters.ids[i]);
    if (differ > 1 && !raft_membership_is_joint(now))
        sim_fail("entry %" PRIu64 " changes %u voters in one step", index, differ);
}

static bool decode(struct slice data, struct member_change *ret)
{
    struct raft_conf_change conf;
    return raft_conf_change_decode(data, &conf) == 0 && conf.changes_count > 0 &&
           member_change_decode(conf.context, ret) == 0;
}

/* A voter's replacement is promoted without anybody's asking, and no other learner is. */
static void check_voices(struct judge *j, const struct member_change *change, uint64_t index)
{
    if (change->kind == MEMBER_PROMOTE && change->request_id == 0 &&
        u64map_get(&j->owed_a_voice, change->id) == NULL)
        sim_fail("entry %" PRIu64 " makes a learner a voter, and nobody asked for it", index);
    if (change->kind == MEMBER_REPLACE &&
        (raft_membership_is_voter(&j->cluster.raft, change->replaced_id) ||
         u64map_get(&j->owed_a_voice, change->replaced_id) != NULL))
        u64map_put(&j->owed_a_voice, change->id, j);
}

void judge_conf_applied(struct member *m, uint64_t index, struct slice data)
{
    struct judge *j = &m->sim->judge;
    struct member_change change;
    if (m->dying)
        return;
    if (!raft_membership_equal(raft_membership(m->raft), &m->node.cluster.raft))
        sim_fail("member %u: raft goes by another membership after entry %" PRIu64, m->number,
                 index);
    judge_membership(m, index);
    if (index <= j->cluster_index)
        return;
    bool changed = hash_of(&m->node.cluster) != m->judged.record_before;
    if (changed) {
        check_step(j, m, index);
        if (decode(data, &change)) {
            check_voices(j, &change, index);
            m->sim->stats->member_changes[change.kind]++;
        }
        take_newest(j, &m->node.cluster);
        sim_say(m->sim, "entry %" PRIu64 " makes it %u voters, %u learners%s", index,
                j->cluster.raft.voters.count, j->cluster.raft.learners.count,
                raft_membership_is_joint(&j->cluster.raft) ? ", joint" : "");
    }
    j->cluster_index = index;
}

void judge_conf_before(struct member *m)
{
    if (!m->dying)
        m->judged.record_before = hash_of(&m->node.cluster);
}

bool judge_change_is_pending(const struct sim *s)
{
    const struct judge *j = &s->judge;
    if (j->conf_committed != j->cluster_index)
        return true;
    for (uint32_t i = 0; i < s->members_count; i++) {
        const struct judge_log *log = &s->members[i].judged.log;
        for (uint64_t k = j->committed.last + 1; k <= log->last; k++)
            if (log->entries[k].is_conf)
                return true;
    }
    return false;
}
