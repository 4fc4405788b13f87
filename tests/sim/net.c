#include "net.h"

#include "base/err.h"
#include "base/mem.h"
#include "member.h"
#include "proto/peerwire.h"

enum { LATENCY_US_MIN = 30, LATENCY_US_MEAN = 150, BYTES_PER_US = 100, LOST_TOLD_ONE_IN = 16 };

struct link {
    uint64_t cut_until_us;
    uint64_t flap_until_us;
    uint64_t flap_period_us;
    uint64_t last_us; /* arrival of what was sent last */
};

struct net {
    struct rng rng;
    struct link links[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];
};

struct net *net_new(struct sim *s)
{
    struct net *n = mem_alloc_zero(sizeof(*n));
    sim_rng_init(s, &n->rng, 11);
    return n;
}

void net_free(struct net *n)
{
    mem_free(n);
}

/* --- cuts --- */

bool net_passes(const struct sim *s, uint32_t from, uint32_t to)
{
    const struct link *l = &s->net->links[from][to];
    if (s->now_us < l->cut_until_us)
        return false;
    return s->now_us >= l->flap_until_us || s->now_us / l->flap_period_us % 2 == 0;
}

void net_cut(struct sim *s, uint32_t from, uint32_t to, uint64_t until_us)
{
    struct link *l = &s->net->links[from][to];
    if (until_us > l->cut_until_us)
        l->cut_until_us = until_us;
}

void net_flap(struct sim *s, uint32_t from, uint32_t to, uint64_t period_us, uint64_t until_us)
{
    struct link *l = &s->net->links[from][to];
    l->flap_period_us = period_us;
    l->flap_until_us = until_us;
}

void net_heal(struct sim *s)
{
    for (uint32_t i = 0; i < SIM_MEMBERS_MAX; i++)
        for (uint32_t k = 0; k < SIM_MEMBERS_MAX; k++)
            s->net->links[i][k].cut_until_us = s->net->links[i][k].flap_until_us = 0;
}

void net_peer_lost(struct sim *s, struct member *m)
{
    for (uint32_t i = 0; i < s->members_count; i++) {
        struct member *other = &s->members[i];
        if (other == m || !other->up || other->dying || other->node.core == NULL)
            continue;
        core_peer_lost(other->node.core, m->id);
        member_unlink(other, m);
    }
}

/* --- on the way --- */

/* Who is meant, and who speaks: places may have other members by the time that it arrives. */
static uint64_t ends_of(const struct member *from, const struct member *to)
{
    return from->number | (uint64_t)from->judged.self << 8 | (uint64_t)to->judged.self << 16;
}

bool net_arrives(const struct sim *s, const struct event *e)
{
    const struct member *m = &s->members[e->who];
    const struct judge_id *from = &s->judge.ids[e->a >> 8 & 0xff];
    if (!net_passes(s, from->place, e->who) || m->judged.self != (e->a >> 16 & 0xff))
        return false;
    if (!cluster_was_removed(&m->node.cluster, from->id))
        return true;
    if (net_passes(s, e->who, from->place) && !from->gone)
        member_told_removed(&s->members[from->place]);
    return false;
}

static void carry(struct sim *s, const struct member *from, const struct member *to,
                  struct bref *frame)
{
    struct net *n = s->net;
    struct link *l = &n->links[from->number][to->number];
    uint64_t at = s->now_us + LATENCY_US_MIN + sim_exponential(&n->rng, LATENCY_US_MEAN) +
                  frame->capacity_bytes / BYTES_PER_US;
    if (fault_falls(s, FAULT_DELAY)) {
        struct fault_plan *p = &s->faults.plans[FAULT_DELAY];
        at += sim_exponential(&p->rng, p->length_us);
    }
    if (!fault_falls(s, FAULT_REORDER) && at <= l->last_us)
        at = l->last_us + 1;
    if (at > l->last_us)
        l->last_us = at;
    events_push(&s->events, &(struct event){.at_us = at,
                                            .kind = EVENT_MESSAGE,
                                            .who = to->number,
                                            .ptr = bref_ref(frame),
                                            .a = ends_of(from, to)});
}

/* Takes the frame. `once`: a stream does not repeat what it carries, and what a member forwards to
 * the leader relies on that: doubled, it would be two proposals. */
static void send_frame(struct member *m, uint64_t to_id, struct bref *frame, bool once)
{
    struct sim *s = m->sim;
    const struct member *to = member_with_id(s, to_id);
    s->stats->messages++;
    if (to != NULL && !cluster_was_removed(&m->node.cluster, to_id) &&
        net_passes(s, m->number, to->number) && !fault_falls(s, FAULT_LOSS)) {
        carry(s, m, to, frame);
        if (!once && fault_falls(s, FAULT_DUPLICATE))
            carry(s, m, to, frame);
    } else if (rng_below(&s->net->rng, LOST_TOLD_ONE_IN) == 0) {
        core_peer_lost(m->node.core, to_id); /* found out by sending, as by a full queue */
    }
    bref_unref(frame);
}

void net_send(struct member *from, const struct raft_msg *msg)
{
    struct peerwire_raft head = {.type = (uint8_t)msg->type,
                                 .reject = msg->reject,
                                 .transfer = msg->transfer,
                                 .from = msg->from,
                                 .to = msg->to,
                                 .term = msg->term,
                                 .log_term = msg->log_term,
                                 .log_index = msg->log_index,
                                 .commit = msg->commit,
                                 .reject_hint = msg->reject_hint,
                                 .context = msg->context,
                                 .entries_count = msg->entries_count};
    size_t size = PEERWIRE_RAFT_HEAD_BYTES;
    for (uint32_t i = 0; i < msg->entries_count; i++)
        size += PEERWIRE_ENTRY_HEAD_BYTES + msg->entries[i].data.size;
    struct bref *frame = bref_new(size);
    uint8_t *p = peerwire_raft_put_head(frame->data, &head);
    for (uint32_t i = 0; i < msg->entries_count; i++) {
        const struct raft_entry *e = &msg->entries[i];
        struct peerwire_entry pe = {
            .term = e->term, .log_index = e->log_index, .type = (uint8_t)e->type, .data = e->data};
        p = peerwire_entry_put_head(p, &pe);
        if (e->data.size > 0)
            memcpy(p, e->data.data, e->data.size);
        p += e->data.size;
    }
    ASSERT((size_t)(p - frame->data) == size);
    send_frame(from, msg->to, frame, msg->type == RAFT_MSG_PROPOSE);
}

void net_send_lease(struct member *from, uint64_t to, const struct core_question *msg)
{
    struct peerwire_question l = {.is_reply = msg->is_reply,
                                  .about = (uint8_t)msg->about,
                                  .token = msg->token,
                                  .subject = msg->subject,
                                  .ttl = msg->ttl,
                                  .granted_ttl = msg->granted_ttl,
                                  .err = msg->err};
    struct bref *frame = bref_new(PEERWIRE_QUESTION_BYTES + sizeof(from->id));
    uint8_t *p = peerwire_question_put(frame->data, &l);
    memcpy(p, &from->id, sizeof(from->id)); /* the connection says from whom */
    send_frame(from, to, frame, false);
}

void net_send_report(struct member *from, uint64_t to, const struct agree_report *r)
{
    struct peerwire_report w = {.mark = r->mark, .digest = r->digest};
    struct bref *frame = bref_new(PEERWIRE_REPORT_BYTES + sizeof(from->id));
    uint8_t *p = peerwire_report_put(frame->data, &w);
    memcpy(p, &from->id, sizeof(from->id)); /* the connection says from whom */
    send_frame(from, to, frame, false);
}

/* --- arrival --- */

static void deliver_raft(struct member *m, struct bref *frame)
{
    struct peerwire_raft head;
    int err = peerwire_raft_decode(slice_of(frame->data, frame->capacity_bytes), &head);
    ASSERT(err == 0);
    struct raft_entry *entries = mem_alloc((head.entries_count + 1) * sizeof(*entries));
    struct peerwire_entry e;
    for (uint32_t i = 0; peerwire_next_entry(&head.entries, &e); i++)
        entries[i] = (struct raft_entry){.term = e.term,
                                         .log_index = e.log_index,
                                         .type = (enum raft_entry_type)e.type,
                                         .data = e.data,
                                         .owner = e.data.size == 0 ? NULL : frame};
    struct raft_msg msg = {.type = (enum raft_msg_type)head.type,
                           .from = head.from,
                           .to = head.to,
                           .term = head.term,
                           .log_term = head.log_term,
                           .log_index = head.log_index,
                           .commit = head.commit,
                           .reject_hint = head.reject_hint,
                           .context = head.context,
                           .reject = head.reject,
                           .transfer = head.transfer,
                           .entries = entries,
                           .entries_count = head.entries_count};
    core_receive(m->node.core, &msg);
    mem_free(entries);
}

static void deliver_lease(struct member *m, struct bref *frame)
{
    struct peerwire_question l;
    uint64_t from;
    int err = peerwire_question_decode(slice_of(frame->data, PEERWIRE_QUESTION_BYTES), &l);
    ASSERT(err == 0);
    memcpy(&from, frame->data + PEERWIRE_QUESTION_BYTES, sizeof(from));
    struct core_question msg = {.is_reply = l.is_reply,
                                .token = l.token,
                                .about = (enum core_question_about)l.about,
                                .subject = l.subject,
                                .ttl = l.ttl,
                                .granted_ttl = l.granted_ttl,
                                .err = l.err};
    core_receive_question(m->node.core, from, &msg);
}

static void deliver_report(struct member *m, struct bref *frame)
{
    struct peerwire_report w;
    uint64_t from;
    int err = peerwire_report_decode(slice_of(frame->data, PEERWIRE_REPORT_BYTES), &w);
    ASSERT(err == 0);
    memcpy(&from, frame->data + PEERWIRE_REPORT_BYTES, sizeof(from));
    core_receive_report(m->node.core, from,
                        &(struct agree_report){.mark = w.mark, .digest = w.digest});
}

void net_deliver(struct member *m, struct bref *frame)
{
    uint8_t kind = peerwire_kind(slice_of(frame->data, frame->capacity_bytes));
    if (kind == PEERWIRE_RAFT)
        deliver_raft(m, frame);
    else if (kind == PEERWIRE_REPORT)
        deliver_report(m, frame);
    else
        deliver_lease(m, frame);
}
