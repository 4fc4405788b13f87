#include "judge.h"

#include "base/mem.h"
#include "member.h"

#include <inttypes.h>

/* --- logs as rows of entries --- */

void judge_log_set(struct judge_log *l, uint64_t index, const struct judge_entry *e)
{
    if (index >= l->capacity) {
        uint64_t capacity = l->capacity == 0 ? 256 : l->capacity;
        while (capacity <= index)
            capacity *= 2;
        l->entries = mem_realloc(l->entries, capacity * sizeof(*l->entries));
        memset(&l->entries[l->capacity], 0, (capacity - l->capacity) * sizeof(*l->entries));
        l->capacity = capacity;
    }
    l->entries[index] = *e;
    l->last = index; /* what was behind it is void */
}

struct judge_entry judge_entry_of(uint64_t term, uint8_t type, struct slice data)
{
    return (struct judge_entry){.term = term,
                                .hash = sim_hash(type, data),
                                .has_payload = (type == RAFT_ENTRY_NORMAL && data.size > 0) ||
                                               type == RAFT_ENTRY_PIECE_LAST,
                                .is_conf = type == RAFT_ENTRY_CONF};
}

static bool same(const struct judge_entry *a, const struct judge_entry *b)
{
    return a->term == b->term && a->hash == b->hash;
}

void judge_fini(struct judge *j)
{
    mem_free(j->committed.entries);
    buf_fini(&j->pieces);
    size_t cursor = 0;
    uint64_t key;
    void *value;
    while (u64map_next(&j->by_place, &cursor, &key, &value))
        mem_free(value);
    u64map_fini(&j->by_place);
    u64map_fini(&j->leaders);
    u64map_fini(&j->votes);
    u64map_fini(&j->pre_votes);
    u64map_fini(&j->electors);
    u64map_fini(&j->memberships);
    u64map_fini(&j->owed_a_voice);
    for (uint32_t i = 0; i < j->ids_count; i++)
        mem_free(j->ids[i].log.entries);
    cluster_fini(&j->cluster);
}

void judge_member_fini(struct judge_member *jm)
{
    mem_free(jm->log.entries);
    mem_free(jm->hs_waiting);
}

/* --- log matching --- */

struct judge_place {
    uint64_t hash;
    uint64_t prev_term;
    bool has_payload;
    bool is_conf;
};

static uint64_t place_of(uint64_t term, uint64_t index)
{
    return term << 40 | index;
}

static void check_matching(struct member *m, uint64_t index, const struct judge_entry *e,
                           uint64_t prev_term)
{
    struct judge *j = &m->sim->judge;
    struct judge_place *p = u64map_get(&j->by_place, place_of(e->term, index));
    if (p == NULL) {
        p = mem_alloc(sizeof(*p));
        *p = (struct judge_place){.hash = e->hash,
                                  .prev_term = prev_term,
                                  .has_payload = e->has_payload,
                                  .is_conf = e->is_conf};
        u64map_put(&j->by_place, place_of(e->term, index), p);
    } else if (p->hash != e->hash || p->prev_term != prev_term) {
        sim_fail("log matching: member %u has another entry %" PRIu64 " of term %" PRIu64,
                 m->number, index, e->term);
    }
}

struct judge_entry judge_entry_known(struct member *m, uint64_t term, uint64_t log_index)
{
    const struct judge_place *p = u64map_get(&m->sim->judge.by_place, place_of(term, log_index));
    if (p == NULL)
        sim_fail("member %u: its log has an entry %" PRIu64 " of term %" PRIu64
                 " that nobody wrote",
                 m->number, log_index, term);
    return (struct judge_entry){
        .term = term, .hash = p->hash, .has_payload = p->has_payload, .is_conf = p->is_conf};
}

static void check_not_committed(struct member *m, uint64_t index, const struct judge_entry *e)
{
    const struct judge_log *committed = &m->sim->judge.committed;
    const struct judge_log *own = &m->judged.log;
    if (index <= own->last && index <= committed->last &&
        same(&own->entries[index], &committed->entries[index]) &&
        !same(e, &committed->entries[index]))
        sim_fail("member %u replaces committed entry %" PRIu64, m->number, index);
}

/* Who proposes a change has applied all earlier ones. */
static void check_one_change(struct member *m, uint64_t index, const struct judge_entry *e)
{
    const struct judge_member *jm = &m->judged;
    if (!e->is_conf || raft_role(m->raft) != RAFT_LEADER || e->term != raft_term(m->raft))
        return;
    for (uint64_t i = jm->given_out_before + 1; i < index; i++)
        if (jm->log.entries[i].is_conf)
            sim_fail("member %u changes the membership with entry %" PRIu64
                     ", it has not applied the change of entry %" PRIu64,
                     m->number, index, i);
}

void judge_append(struct member *m, uint64_t seq, const struct wal_entry *entries, uint32_t count,
                  const struct wal_hard_state *hs)
{
    struct judge_member *jm = &m->judged;
    if (m->dying)
        return;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t index = entries[i].log_index;
        struct judge_entry e = judge_entry_of(entries[i].term, entries[i].type, entries[i].data);
        if (index > jm->log.last + 1)
            sim_fail("member %u leaves a gap before entry %" PRIu64, m->number, index);
        check_matching(m, index, &e, index > 1 ? jm->log.entries[index - 1].term : 0);
        check_not_committed(m, index, &e);
        check_one_change(m, index, &e);
        judge_log_set(&jm->log, index, &e);
        if (jm->durable_at_end >= index)
            jm->durable_at_end = index - 1; /* a write under way replaces what is durable */
    }
    if (hs != NULL)
        jm->hs_written = *hs;
    if (seq == 0)
        return;
    if (jm->hs_count == jm->hs_capacity) {
        jm->hs_capacity = jm->hs_capacity == 0 ? 16 : jm->hs_capacity * 2;
        jm->hs_waiting = mem_realloc(jm->hs_waiting, jm->hs_capacity * sizeof(*jm->hs_waiting));
    }
    jm->hs_waiting[jm->hs_count++] = (struct judge_hs){.seq = seq, .hs = jm->hs_written};
}

/* --- durability --- */

void judge_durable(struct member *m, uint64_t seq)
{
    struct judge_member *jm = &m->judged;
    if (m->dying)
        return;
    uint32_t done = 0;
    while (done < jm->hs_count && jm->hs_waiting[done].seq <= seq)
        jm->hs_durable = jm->hs_waiting[done++].hs;
    jm->hs_count -= done;
    memmove(jm->hs_waiting, jm->hs_waiting + done, jm->hs_count * sizeof(*jm->hs_waiting));
    jm->durable_at_end = wal_durable_index(m->node.wal);
}

void judge_log_start(const struct judge *j, struct judge_log *l, uint64_t log_index)
{
    l->last = 0;
    for (uint64_t i = 1; i <= log_index; i++) {
        struct judge_entry unknown = {0};
        judge_log_set(l, i, i <= j->committed.last ? &j->committed.entries[i] : &unknown);
    }
}

/* What was given up, or came as a snapshot, was committed. */
static void check_start(struct member *m, uint64_t log_index, uint64_t term)
{
    const struct judge_log *committed = &m->sim->judge.committed;
    if (log_index > committed->last)
        sim_fail("member %u: its log begins behind entry %" PRIu64 ", which is not committed",
                 m->number, log_index);
    if (log_index > 0 && committed->entries[log_index].term != term)
        sim_fail("member %u: its log begins behind entry %" PRIu64 " of term %" PRIu64
                 ", which has term %" PRIu64,
                 m->number, log_index, term, committed->entries[log_index].term);
}

void judge_restart_log(struct member *m, uint64_t log_index, uint64_t term)
{
    if (m->dying)
        return;
    if (store_meta(&m->store)->applied_index != log_index)
        sim_fail("member %u: its log begins behind entry %" PRIu64 ", its store holds %" PRIu64,
                 m->number, log_index, store_meta(&m->store)->applied_index);
    check_start(m, log_index, term);
    judge_log_start(&m->sim->judge, &m->judged.log, log_index);
    m->judged.durable_at_end = log_index;
}

void judge_snapshot(struct member *m, uint64_t log_index, uint64_t term)
{
    struct judge_member *jm = &m->judged;
    const struct judge_log *committed = &m->sim->judge.committed;
    if (m->dying)
        return;
    if (log_index > committed->last || committed->entries[log_index].term != term)
        sim_fail("member %u takes a snapshot of entry %" PRIu64 ", term %" PRIu64
                 ", which is not committed",
                 m->number, log_index, term);
    if (log_index <= jm->given_out)
        sim_fail("member %u takes a snapshot of entry %" PRIu64 ", it had %" PRIu64, m->number,
                 log_index, jm->given_out);
    jm->given_out = jm->applied = log_index;
}

void judge_installed(struct member *m)
{
    if (m->dying)
        return;
    m->sim->stats->snapshots_installed++;
    sim_say(m->sim, "member %u has installed entry %" PRIu64, m->number, m->judged.applied);
    if (store_meta(&m->store)->applied_index != m->judged.applied)
        sim_fail("member %u: its store is not that of the snapshot", m->number);
    judge_loaded(m);
}

void judge_cut(struct member *m, uint64_t log_index)
{
    if (!m->dying && log_index > store_meta(&m->store)->applied_index)
        sim_fail("member %u cuts its log at %" PRIu64 ", its store holds %" PRIu64, m->number,
                 log_index, store_meta(&m->store)->applied_index);
}

void judge_end_of_life(struct member *m)
{
    m->judged.hs_count = 0;
    m->judged.revision = 0;
    m->judged.commit = m->judged.commit_before = 0;
}

bool judge_has_lost(const struct member *m, const struct judge_log *log,
                    const struct wal_hard_state *hs)
{
    const struct judge_member *jm = &m->judged;
    return log->last < jm->durable_at_end || log->last < store_meta(&m->store)->applied_index ||
           hs->term < jm->hs_durable.term ||
           (hs->term == jm->hs_durable.term && hs->vote != jm->hs_durable.vote &&
            jm->hs_durable.vote != 0);
}

void judge_restored(struct member *m, struct judge_log *log, const struct wal_hard_state *hs,
                    uint64_t applied_index)
{
    struct judge_member *jm = &m->judged;
    uint64_t durable = jm->durable_at_end;
    check_start(m, wal_first_index(m->node.wal) - 1, wal_term_before_first(m->node.wal));
    if (log->last < durable)
        sim_fail("member %u: its log ends at %" PRIu64 ", it was durable up to %" PRIu64, m->number,
                 log->last, durable);
    for (uint64_t i = 1; i <= log->last; i++) {
        if (i <= durable && !same(&log->entries[i], &jm->log.entries[i]))
            sim_fail("member %u: durable entry %" PRIu64 " is another one now", m->number, i);
        check_matching(m, i, &log->entries[i], log->entries[i - 1].term);
    }
    if (hs->term < jm->hs_durable.term)
        sim_fail("member %u: its term went back from %" PRIu64 " to %" PRIu64, m->number,
                 jm->hs_durable.term, hs->term);
    if (hs->term == jm->hs_durable.term && jm->hs_durable.vote != 0 &&
        hs->vote != jm->hs_durable.vote)
        sim_fail("member %u has forgotten its vote in term %" PRIu64, m->number, hs->term);
    struct judge_log old = jm->log;
    jm->log = *log;
    *log = old;
    jm->hs_durable = jm->hs_written = *hs;
    jm->hs_count = 0;
    jm->durable_at_end = jm->log.last;
    jm->given_out = jm->applied = applied_index;
}

static uint64_t durable_index(const struct member *m)
{
    bool alive = m->up && !m->dying && m->node.wal != NULL;
    return alive ? wal_durable_index(m->node.wal) : m->judged.durable_at_end;
}

/* Who has, or had, a durable copy of this entry. */
static uint64_t durable_copies(struct sim *s, uint64_t index, const struct judge_entry *e)
{
    const struct judge *j = &s->judge;
    uint64_t copies = 0;
    for (uint32_t i = 0; i < j->ids_count; i++) {
        const struct judge_id *who = &j->ids[i];
        const struct member *m = &s->members[who->place];
        const struct judge_log *log = who->gone ? &who->log : &m->judged.log;
        if (index <= (who->gone ? who->durable : durable_index(m)) && index <= log->last &&
            same(&log->entries[index], e))
            copies |= 1ull << i;
    }
    return copies;
}

static uint64_t bit_of(const struct member *m)
{
    return 1ull << m->judged.self;
}

void judge_stored(struct member *m, uint64_t applied_index, uint64_t applied_term)
{
    const struct judge_log *committed = &m->sim->judge.committed;
    if (applied_index > durable_index(m))
        sim_fail("member %u stores entry %" PRIu64 ", its log is durable up to %" PRIu64, m->number,
                 applied_index, durable_index(m));
    if (applied_index > committed->last || committed->entries[applied_index].term != applied_term)
        sim_fail("member %u stores entry %" PRIu64 ", which is not committed", m->number,
                 applied_index);
}

static void check_loaded_leases(struct member *m, uint64_t index)
{
    struct model *model = &m->sim->model;
    uint64_t count = 0;
    for (uint32_t i = 0; i < model->leases_count; i++) {
        const struct model_lease *l = &model->leases[i];
        if (!model_lease_lives(l, index))
            continue;
        count++;
        if (!lessor_exists(m->node.lessor, l->id))
            sim_fail("member %u has lost a lease from its store", m->number);
    }
    if (lessor_count(m->node.lessor) != count)
        sim_fail("member %u has leases too many in its store", m->number);
}

void judge_loaded(struct member *m)
{
    struct model *model = &m->sim->model;
    const struct lsm_meta *meta = store_meta(&m->store);
    const struct model_outcome *o = &model->outcomes[meta->applied_index];
    judge_membership(m, meta->applied_index);
    if (meta->revision != o->revision || meta->compacted != o->compacted)
        sim_fail("member %u: its store has revision %" PRId64 " after entry %" PRIu64
                 ", not %" PRId64,
                 m->number, meta->revision, meta->applied_index, o->revision);
    for (uint32_t k = 0; k < MODEL_KEYS_COUNT; k++) {
        const struct mvcc_version *v = mvcc_get(m->node.mvcc, model_key_name(k), 0);
        const struct model_version *want = model_get(model, k, meta->revision);
        if ((v == NULL) != (want == NULL))
            sim_fail("member %u: key %u is in its store, or is not, and should", m->number, k);
        struct wire_kv kv;
        if (v != NULL &&
            (wire_kv_decode(mvcc_version_kv(v), &kv) != 0 || !model_kv_equal(&kv, k, want)))
            sim_fail("member %u: key %u is another in its store", m->number, k);
    }
    check_loaded_leases(m, meta->applied_index);
}

/* --- raft's word --- */

/* What was committed in this term or a later one need not be there: who leads may have been elected
 * long ago, and hear of it only now. */
static void check_completeness(struct member *m, uint64_t term)
{
    const struct judge *j = &m->sim->judge;
    const struct judge_log *own = &m->judged.log;
    for (uint64_t i = 1; i <= j->committed.last; i++)
        if (j->committed.entries[i].committed_term < term &&
            (i > own->last || !same(&own->entries[i], &j->committed.entries[i])))
            sim_fail("leader completeness: member %u leads in term %" PRIu64
                     " without committed entry %" PRIu64,
                     m->number, term, i);
}

static uint64_t candidate_key(uint64_t term, uint64_t candidate)
{
    return (candidate ^ term * 0x9e3779b97f4a7c15u) | 1;
}

static uint64_t who_voted(const struct u64map *votes, uint64_t term, const struct member *m)
{
    return (uintptr_t)u64map_get(votes, candidate_key(term, m->id)) | bit_of(m);
}

static void note_voter(struct u64map *votes, uint64_t term, uint64_t candidate,
                       const struct member *m)
{
    uint64_t key = candidate_key(term, candidate);
    uint64_t bits = (uintptr_t)u64map_get(votes, key) | bit_of(m);
    u64map_put(votes, key, (void *)(uintptr_t)bits);
}

static void check_elected(struct member *m, const struct raft *r)
{
    const struct judge *j = &m->sim->judge;
    uint64_t voters = who_voted(&j->electors, raft_term(r), m);
    if (!judge_is_majority(j, raft_membership(r), voters))
        sim_fail("election safety: member %u leads in term %" PRIu64 " with %d votes", m->number,
                 raft_term(r), __builtin_popcountll(voters));
}

/* By which membership it stands: when its messages leave, it may have another one. */
static void note_standing(struct member *m, const struct raft *r)
{
    if (raft_role(r) != RAFT_CANDIDATE || m->judged.stood_term == raft_term(r))
        return;
    m->judged.stood_term = raft_term(r);
    m->judged.stood_by = *raft_membership(r);
}

static void check_leader(struct member *m, const struct raft *r)
{
    struct sim *s = m->sim;
    struct judge *j = &s->judge;
    if (raft_role(r) != RAFT_LEADER)
        return;
    uint64_t term = raft_term(r);
    void *before = u64map_get(&j->leaders, term);
    if (before == (void *)(uintptr_t)(m->judged.self + 1))
        return;
    if (before != NULL)
        sim_fail("election safety: members %u and %u lead in term %" PRIu64, m->number,
                 j->ids[(uintptr_t)before - 1].place, term);
    u64map_put(&j->leaders, term, (void *)(uintptr_t)(m->judged.self + 1));
    check_elected(m, r);
    m->judged.led_term = term;
    m->judged.commit_when_won = m->judged.given_out;
    s->stats->elections++;
    sim_say(s, "member %u leads in term %" PRIu64, m->number, term);
    check_completeness(m, term);
}

/* What is applied with this entry. Pieces of one request lie between others' entries, but not
 * between other pieces, and none is missing before the last; a new leader begins anew. */
static struct slice request_of(struct member *m, const struct raft_entry *re)
{
    struct judge *j = &m->sim->judge;
    if (j->pieces_term != re->term)
        j->pieces_term = 0;
    if (re->type == RAFT_ENTRY_NORMAL)
        return re->data;
    if (re->type == RAFT_ENTRY_CONF)
        return SLICE_EMPTY;
    bool first = re->type == RAFT_ENTRY_PIECE_FIRST;
    if (first == (j->pieces_term != 0))
        sim_fail("member %u: entry %" PRIu64 " is no piece that can come here", m->number,
                 re->log_index);
    if (first) {
        buf_fini(&j->pieces);
        buf_init(&j->pieces, UINT32_MAX);
        m->sim->stats->in_pieces++;
    }
    (void)buf_append(&j->pieces, re->data.data, re->data.size);
    j->pieces_term = re->type == RAFT_ENTRY_PIECE_LAST ? 0 : re->term;
    return j->pieces_term == 0 ? buf_slice(&j->pieces) : SLICE_EMPTY;
}

static void check_new_commit(struct member *m, uint64_t index, const struct judge_entry *e,
                             const struct raft_entry *re)
{
    struct sim *s = m->sim;
    uint64_t copies = durable_copies(s, index, e);
    const struct judge_member *jm = &m->judged;
    const struct raft_membership *by =
        index <= jm->commit_before ? &jm->commit_before_by : &jm->commit_by;
    if (!judge_is_majority(&s->judge, by, copies))
        sim_fail("member %u gives out entry %" PRIu64 " with %d durable copies", m->number, index,
                 __builtin_popcountll(copies));
    struct judge_entry committed = *e;
    committed.committed_term = raft_term(m->raft);
    struct slice request = request_of(m, re);
    committed.request_hash = sim_hash(RAFT_ENTRY_NORMAL, request);
    judge_log_set(&s->judge.committed, index, &committed);
    if (e->is_conf)
        s->judge.conf_committed = index;
    s->stats->entries++;
    model_apply(&s->model, index, request, s->now_us);
}

static void note_commit(struct member *m, const struct raft *r)
{
    struct judge_member *jm = &m->judged;
    if (raft_commit_index(r) <= jm->commit)
        return;
    jm->commit_before = jm->commit;
    jm->commit_before_by = jm->commit_by;
    jm->commit = raft_commit_index(r);
    jm->commit_by = *raft_membership(r);
}

/* A leader commits by counting only entries of its own term (thesis, 3.6.2). What it knew to be
 * committed before it led may not all be given out yet: raft says so only from then on. */
static void check_commit_of_leader(struct member *m, const struct raft *r)
{
    const struct judge_member *jm = &m->judged;
    uint64_t commit = raft_commit_index(r);
    if (raft_role(r) != RAFT_LEADER || commit <= jm->commit_when_won || commit > jm->log.last)
        return;
    if (commit > m->sim->judge.committed.last && jm->log.entries[commit].term != raft_term(r))
        sim_fail("member %u commits entry %" PRIu64 " of term %" PRIu64 " by counting, in term "
                 "%" PRIu64,
                 m->number, commit, jm->log.entries[commit].term, raft_term(r));
}

void judge_ready(struct member *m, const struct raft *r, const struct raft_ready *rd)
{
    struct judge *j = &m->sim->judge;
    struct judge_member *jm = &m->judged;
    if (m->dying)
        return;
    note_standing(m, r);
    note_commit(m, r);
    check_leader(m, r);
    check_commit_of_leader(m, r);
    jm->given_out_before = jm->given_out;
    for (uint32_t i = 0; i < rd->committed_count; i++) {
        const struct raft_entry *re = &rd->committed[i];
        struct judge_entry e = judge_entry_of(re->term, (uint8_t)re->type, re->data);
        if (re->log_index != jm->given_out + 1)
            sim_fail("member %u gives out entry %" PRIu64 " after %" PRIu64, m->number,
                     re->log_index, jm->given_out);
        jm->given_out = re->log_index;
        if (re->log_index == j->committed.last + 1)
            check_new_commit(m, re->log_index, &e, re);
        else if (!same(&e, &j->committed.entries[re->log_index]))
            sim_fail("state machine safety: member %u gives out another entry %" PRIu64, m->number,
                     re->log_index);
    }
}

static void check_vote(struct member *m, uint64_t term, uint64_t candidate)
{
    struct judge *j = &m->sim->judge;
    uint64_t key = term * JUDGE_IDS_MAX + m->judged.self + 1;
    void *before = u64map_get(&j->votes, key);
    if (before != NULL && before != (void *)(uintptr_t)candidate)
        sim_fail("election safety: member %u votes twice in term %" PRIu64, m->number, term);
    u64map_put(&j->votes, key, (void *)(uintptr_t)candidate);
    note_voter(&j->electors, term, candidate, m);
    if (m->judged.hs_durable.term < term)
        sim_fail("member %u speaks of its vote in term %" PRIu64 ", durable is term %" PRIu64,
                 m->number, term, m->judged.hs_durable.term);
}

/* Nobody moves to a new term who could not win in it. */
static void check_standing(struct member *m, const struct raft_msg *msg)
{
    const struct judge *j = &m->sim->judge;
    if (!m->sim->shape.pre_vote || msg->transfer)
        return;
    uint64_t voters = who_voted(&j->pre_votes, msg->term, m);
    ASSERT(m->judged.stood_term == msg->term);
    if (!judge_is_majority(j, &m->judged.stood_by, voters))
        sim_fail("member %u stands in term %" PRIu64 ", for which %d members would have voted",
                 m->number, msg->term, __builtin_popcountll(voters));
}

void judge_send(struct member *m, const struct raft_msg *msg)
{
    uint64_t durable = durable_index(m);
    switch (msg->type) {
    case RAFT_MSG_VOTE:
        check_vote(m, msg->term, m->id);
        check_standing(m, msg);
        break;
    case RAFT_MSG_VOTE_REPLY:
        if (!msg->reject)
            check_vote(m, msg->term, msg->to);
        break;
    case RAFT_MSG_PRE_VOTE_REPLY:
        if (!msg->reject)
            note_voter(&m->sim->judge.pre_votes, msg->term, msg->to, m);
        break;
    case RAFT_MSG_APPEND_REPLY:
    case RAFT_MSG_HEARTBEAT_REPLY:
        if (!msg->reject && msg->log_index > durable)
            sim_fail("member %u acknowledges entry %" PRIu64 ", durable are those up to %" PRIu64,
                     m->number, msg->log_index, durable);
        break;
    default:
        break;
    }
}

uint64_t judge_apply(struct member *m, struct slice payload)
{
    struct judge_member *jm = &m->judged;
    const struct judge_log *committed = &m->sim->judge.committed;
    do
        jm->applied++;
    while (jm->applied <= jm->given_out && !committed->entries[jm->applied].has_payload);
    if (jm->applied > jm->given_out)
        sim_fail("member %u applies entry %" PRIu64 ", raft gave out those up to %" PRIu64,
                 m->number, jm->applied, jm->given_out);
    if (sim_hash(RAFT_ENTRY_NORMAL, payload) != committed->entries[jm->applied].request_hash)
        sim_fail("member %u applies another entry %" PRIu64, m->number, jm->applied);
    return jm->applied;
}

void judge_room(struct member *m, bool low)
{
    if (!m->dying && core_lacks_room(m->node.core) != low)
        sim_fail("member %u has %s room on its disk and %s writes", m->number,
                 low ? "no" : "enough", low ? "takes" : "refuses");
}

bool judge_chain(struct member *m, uint64_t index, uint64_t chain)
{
    struct judge_entry *e = &m->sim->judge.committed.entries[index];
    if (e->chain == 0)
        e->chain = chain;
    return e->chain == chain;
}

/* --- one member, now and then --- */

void judge_member(struct member *m)
{
    struct judge_member *jm = &m->judged;
    int64_t revision = mvcc_revision(m->node.mvcc);
    if (revision < jm->revision)
        sim_fail("member %u: its revision went back from %" PRId64 " to %" PRId64, m->number,
                 jm->revision, revision);
    if (revision > m->sim->model.revision)
        sim_fail("member %u publishes revision %" PRId64 ", which is not committed", m->number,
                 revision);
    jm->revision = revision;
    uint64_t term = raft_term(m->raft);
    if (term < jm->term_max && term < jm->hs_durable.term)
        sim_fail("member %u: its term went back to %" PRIu64, m->number, term);
    jm->term_max = term;
    if (raft_commit_index(m->raft) < jm->given_out)
        sim_fail("member %u gave out what it does not hold for committed", m->number);
}

void judge_costly(struct member *m)
{
    raft_check(m->raft);
    mvcc_check(m->node.mvcc);
}
