/* The membership: changes that clients ask for, what applying one does, and the leader's care for
 * members that replace others.
 *
 * The checks before a change is proposed are etcd's (server.go, mayAddMember and the like); they
 * protect the quorum and may be turned off. Those when it is applied are member.h's. */
#include "server/core_internal.h"

#include "server/member.h"

enum {
    HEALTH_INTERVAL_MS = 5000, /* as etcd: a connection counts when it is that old */
    PROMOTE_RETRY_MS = 1000,
    PROPOSE_AGAIN_MS = 500,
    READY_PERCENT = 90, /* as etcd, of the leader's log */
};

/* --- who is connected --- */

static const struct core_link *link_to(const struct core *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->links_count; i++)
        if (c->links[i].id == id)
            return &c->links[i];
    return NULL;
}

bool core__linked_since(const struct core *c, uint64_t id, uint64_t since_ms)
{
    const struct core_link *l = link_to(c, id);
    return l != NULL && l->since_ms <= since_ms;
}

bool core__quorum_linked_since(const struct core *c, uint64_t since_ms)
{
    const struct raft_ids *voters = &raft_membership(c->raft)->voters;
    uint32_t linked = 0;
    for (uint32_t i = 0; i < voters->count; i++)
        linked +=
            voters->ids[i] == c->o.member_id || core__linked_since(c, voters->ids[i], since_ms);
    return linked > voters->count / 2;
}

void core_peer_connected(struct core *c, uint64_t id, bool connected)
{
    for (uint32_t i = 0; i < c->links_count; i++)
        if (c->links[i].id == id)
            c->links[i] = c->links[--c->links_count];
    if (connected && c->links_count < RAFT_PEERS_MAX)
        c->links[c->links_count++] = (struct core_link){.id = id, .since_ms = c->now_ms};
    if (connected && core__leading(c)) {
        raft_peer_connected(c->raft, id);
        c->o.env.wake(c->o.env.ctx);
    }
    if (connected && c->leader == 0 && c->o.pre_vote && core__quorum_linked_since(c, c->now_ms)) {
        c->may_stand = true;
        c->o.env.wake(c->o.env.ctx);
    }
}

/* Voters that we have been connected to for a while, this member among them; *ret_voters: all. */
static uint32_t healthy_voters(const struct core *c, uint32_t *ret_voters)
{
    uint32_t healthy = 0;
    *ret_voters = 0;
    for (uint32_t i = 0; i < c->o.cluster->members_count; i++) {
        const struct cluster_member *m = &c->o.cluster->members[i];
        if (m->learner)
            continue;
        const struct core_link *l = link_to(c, m->id);
        (*ret_voters)++;
        healthy +=
            m->id == c->o.member_id || (l != NULL && l->since_ms + HEALTH_INTERVAL_MS <= c->now_ms);
    }
    return healthy;
}

/* --- may it be proposed? --- */

static int may_add(const struct core *c, const struct member_change *change)
{
    uint32_t voters;
    if (change->kind == MEMBER_ADD && !member_change_keeps_quorum(change, c->o.cluster))
        return TV_MEMBER_NOT_ENOUGH_STARTED;
    uint32_t healthy = healthy_voters(c, &voters);
    return voters > 1 && healthy < (voters + 1) / 2 + 1 ? TV_UNHEALTHY : 0;
}

static int may_remove(const struct core *c, const struct member_change *change)
{
    const struct cluster_member *m = cluster_find(c->o.cluster, change->id);
    uint32_t voters;
    if (m != NULL && m->learner)
        return 0;
    if (!member_change_keeps_quorum(change, c->o.cluster))
        return TV_MEMBER_NOT_ENOUGH_STARTED;
    if (change->id != c->o.member_id && link_to(c, change->id) == NULL)
        return 0; /* it is down: the quorum does not count on it */
    uint32_t healthy = healthy_voters(c, &voters);
    return healthy - 1 < 1 + (voters - 1) / 2 ? TV_UNHEALTHY : 0;
}

/* The others must have a majority without it. */
static int may_replace(const struct core *c, uint64_t replaced_id)
{
    uint32_t voters = 0, there = 0;
    for (uint32_t i = 0; i < c->o.cluster->members_count; i++) {
        const struct cluster_member *m = &c->o.cluster->members[i];
        voters += !m->learner;
        there += !m->learner && m->id != replaced_id &&
                 (m->id == c->o.member_id || link_to(c, m->id) != NULL);
    }
    return there >= voters / 2 + 1 ? 0 : TV_UNHEALTHY;
}

static int may_change(const struct core *c, const struct member_change *change)
{
    if (change->kind == MEMBER_REPLACE)
        return may_replace(c, change->replaced_id);
    if (!c->o.strict_reconfig)
        return 0;
    switch (change->kind) {
    case MEMBER_ADD:
    case MEMBER_ADD_LEARNER:
        return may_add(c, change);
    case MEMBER_REMOVE:
        return may_remove(c, change);
    case MEMBER_PROMOTE:
        return member_change_keeps_quorum(change, c->o.cluster) ? 0 : TV_MEMBER_NOT_ENOUGH_STARTED;
    default:
        return 0;
    }
}

/* The leader knows how much of the log the learner has. That it is one is checked when the change
 * is applied. */
int core__learner_readiness(const struct core *c, uint64_t id)
{
    struct raft_progress peers[RAFT_PEERS_MAX];
    uint32_t count = raft_progress(c->raft, peers, RAFT_PEERS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (peers[i].id == id)
            return peers[i].match_index * 100 < raft_persisted_index(c->raft) * READY_PERCENT
                       ? TV_LEARNER_NOT_READY
                       : 0;
    return TV_MEMBER_NOT_FOUND;
}

/* Whoever asks in the name of a member that the leader hears of is a second process with the same
 * flags, and must not push it out. One that has lost its disk has been silent by the time that the
 * leader next looks whether it hears of a majority. */
int core__member_absence(const struct core *c, uint64_t id)
{
    struct raft_progress peers[RAFT_PEERS_MAX];
    uint32_t count = raft_progress(c->raft, peers, RAFT_PEERS_MAX);
    if (id == c->o.member_id)
        return TV_UNHEALTHY;
    for (uint32_t i = 0; i < count; i++)
        if (peers[i].id == id && peers[i].active)
            return TV_UNHEALTHY;
    return 0;
}

/* --- the way onto the log --- */

static int decode_payload(const struct request *req, struct member_change *ret)
{
    struct raft_conf_change conf;
    int err = raft_conf_change_decode(slice_of(req->payload->data, req->payload_size), &conf);
    return err != 0 ? err : member_change_decode(conf.context, ret);
}

static void enqueue(struct core *c, struct request *req, const struct member_change *change)
{
    int err = may_change(c, change);
    if (err != 0) {
        log_warn("rejecting a change of the membership", LOG_HEX("local-member-id", c->o.member_id),
                 LOG_HEX("member-id", change->id), LOG_STR("error", tv_err_text(err)));
        core__answer(c, req, err);
        return;
    }
    c->proposals_count++;
    req->deadline_ms = c->now_ms + c->request_timeout_ms;
    list_remove(&req->link);
    list_push_back(&c->changes, &req->link);
}

void core__take_change(struct core *c, struct request *req)
{
    struct member_change change;
    int err = decode_payload(req, &change);
    ASSERT(err == 0); /* the service encoded it */
    ASSERT(change.request_id == req->id && change.id == req->target);
    if (change.kind == MEMBER_PROMOTE || change.kind == MEMBER_REPLACE)
        core__take_question(c, req);
    else
        enqueue(c, req, &change);
}

void core__change_question(const struct request *req, struct core_question *ret)
{
    struct member_change change;
    int err = decode_payload(req, &change);
    ASSERT(err == 0);
    bool replaces = change.kind == MEMBER_REPLACE;
    ret->about = replaces ? QUESTION_MEMBER_GONE : QUESTION_LEARNER_READY;
    ret->subject = replaces ? change.replaced_id : change.id;
}

void core__change_answered(struct core *c, struct request *req, int err)
{
    struct member_change change;
    if (err != 0) {
        core__answer(c, req, err);
        return;
    }
    err = decode_payload(req, &change);
    ASSERT(err == 0);
    enqueue(c, req, &change);
}

/* On its way to a leader a change can be lost, or dropped there while another one is under way: it
 * is proposed again until it is applied. The second of two is refused then, and changes nothing;
 * but for an update, which might undo a later one. */
static bool is_due(const struct core *c, const struct request *req)
{
    struct member_change change;
    if (req->asked_ms == 0)
        return true;
    int err = decode_payload(req, &change);
    ASSERT(err == 0);
    return req->asked_ms + PROPOSE_AGAIN_MS <= c->now_ms && change.kind != MEMBER_UPDATE;
}

/* One at a time, as raft demands; what it does not take now waits for the next turn. */
void core__propose_changes(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->changes) {
        struct request *req = CONTAINER_OF(it, struct request, link);
        if (!is_due(c, req))
            continue;
        struct raft_entry e = {.type = RAFT_ENTRY_CONF,
                               .data = slice_of(req->payload->data, req->payload_size),
                               .owner = req->payload};
        int err = raft_propose(c->raft, &e, 1);
        if (err == TV_EBUSY || err == TV_EDROPPED)
            return;
        if (err == 0) {
            req->asked_ms = c->now_ms;
            u64map_put(&c->proposal_by_id, req->id, req);
        } else {
            (void)u64map_remove(&c->proposal_by_id, req->id);
            c->proposals_count--;
            core__answer(c, req, err == TV_EINVAL ? TV_MEMBER_NOT_ENOUGH_STARTED : err);
        }
    }
}

/* --- applying --- */

/* Did it change anything? A change that is refused is passed over, by every member alike. */
static int change_members(struct core *c, const struct raft_conf_change *conf,
                          const struct member_change *change)
{
    struct cluster *cluster = c->applier->cluster;
    int err = member_change_check(change, cluster);
    if (err == 0)
        err = raft_apply_conf(c->raft, conf);
    if (err == TV_EINVAL)
        err = TV_MEMBER_NOT_ENOUGH_STARTED; /* no voter would be left */
    if (err == 0)
        member_change_apply(change, cluster);
    return err;
}

static void answer_change(struct core *c, const struct member_change *change, int err)
{
    struct request *req =
        change->request_id != 0 ? u64map_remove(&c->proposal_by_id, change->request_id) : NULL;
    if (req == NULL)
        return;
    c->proposals_count--;
    if (err == 0)
        applier_member_change(c->applier, req, change);
    core__answer(c, req, err);
}

static void log_change(const struct core *c, const struct member_change *change, int err)
{
    static const char *const texts[MEMBER_KINDS_COUNT] = {
        [MEMBER_ADD] = "added member",
        [MEMBER_ADD_LEARNER] = "added learner member",
        [MEMBER_PROMOTE] = "promoted learner member",
        [MEMBER_REMOVE] = "removed member",
        [MEMBER_UPDATE] = "updated the peer URLs of a member",
        [MEMBER_REPLACE] = "replaced a member that lost its data",
    };
    if (err != 0)
        log_info("a change of the membership does not apply", LOG_HEX("member-id", change->id),
                 LOG_STR("error", tv_err_text(err)));
    else
        log_info(texts[change->kind], LOG_HEX("cluster-id", c->o.cluster->id),
                 LOG_HEX("local-member-id", c->o.member_id), LOG_HEX("member-id", change->id),
                 LOG_HEX("replaced-member-id", change->replaced_id));
}

void core__apply_conf(struct core *c, const struct raft_entry *e)
{
    struct raft_conf_change conf;
    struct member_change change;
    if (raft_conf_change_decode(e->data, &conf) != 0 ||
        (conf.changes_count > 0 && member_change_decode(conf.context, &change) != 0))
        tv_fatal("a committed change of the membership does not decode");
    bool leaves_joint = conf.changes_count == 0;
    int err = leaves_joint ? raft_apply_conf(c->raft, &conf) : change_members(c, &conf, &change);
    if (leaves_joint && err != 0)
        tv_fatal("a committed change leaves a joint configuration that there is not");
    if (err == 0) {
        c->applier->cluster->raft = *raft_membership(c->raft);
        applier_members_changed(c->applier);
        c->changed = true;
        if (c->o.env.members_changed != NULL)
            c->o.env.members_changed(c->o.env.ctx);
    }
    if (leaves_joint)
        return;
    log_change(c, &change, err);
    answer_change(c, &change, err);
}

/* --- replacements --- */

static bool has_caught_up(const struct core *c, uint64_t id)
{
    struct raft_progress peers[RAFT_PEERS_MAX];
    uint32_t count = raft_progress(c->raft, peers, RAFT_PEERS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (peers[i].id == id)
            return peers[i].active && peers[i].state == RAFT_PROGRESS_REPLICATE &&
                   core__learner_readiness(c, id) == 0;
    return false;
}

static void propose_promotion(struct core *c, uint64_t id)
{
    struct member_change change = {.kind = MEMBER_PROMOTE, .id = id};
    struct buf data;
    buf_init(&data, SIZE_MAX);
    member_change_encode(&change, &data);
    struct bref *owner = bref_new(data.size);
    memcpy(owner->data, data.data, data.size);
    struct raft_entry e = {
        .type = RAFT_ENTRY_CONF, .data = slice_of(owner->data, data.size), .owner = owner};
    if (raft_propose(c->raft, &e, 1) == 0)
        log_info("a replacement has caught up", LOG_HEX("member-id", id));
    bref_unref(owner);
    buf_fini(&data);
}

/* Nobody asks for the promotion of a member that took another's place: the leader sees to it. */
void core__tend_members(struct core *c)
{
    if (!core__leading(c) || c->now_ms < c->promoted_ms + PROMOTE_RETRY_MS)
        return;
    for (uint32_t i = 0; i < c->o.cluster->members_count; i++) {
        const struct cluster_member *m = &c->o.cluster->members[i];
        if (!m->learner || !m->replacement || !has_caught_up(c, m->id))
            continue;
        c->promoted_ms = c->now_ms;
        propose_promotion(c, m->id);
        return;
    }
}
