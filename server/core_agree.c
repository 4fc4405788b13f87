/* The core's side of server/agree.h: marks and verdicts go on the log, reports to the leader, and a
 * member that differs from the majority serves nobody any more. */
#include "server/core_internal.h"

#include <stdio.h>

enum { AGREE_RETRY_MS = 1000 }; /* an alarm or a verdict that was not taken */

static void propose(struct core *c, struct bref *payload, uint32_t size)
{
    struct raft_entry e = {
        .type = RAFT_ENTRY_NORMAL, .data = slice_of(payload->data, size), .owner = payload};
    (void)raft_propose(c->raft, &e, 1); /* what is lost is tried again, or the next mark does */
    bref_unref(payload);
}

static void propose_alarm(struct core *c, uint64_t member_id, int32_t action)
{
    c->agree_retry_ms = c->now_ms + AGREE_RETRY_MS;
    struct alarm_request r = {.action = action,
                              .member_id = member_id,
                              .type = ALARM_CORRUPT,
                              .reason = ALARM_FOR_DIFFERENCE};
    uint32_t size;
    struct bref *payload = applier_encode_alarm(&r, core_next_request_id(c), &size);
    propose(c, payload, size);
}

/* --- reports --- */

static void report(struct core *c)
{
    struct mvcc_content content;
    struct agree_report r;
    mvcc_content(c->mvcc, &content);
    uint64_t dropped = mvcc_content_added(c->mvcc) - content.sum;
    while (agree_settle(&c->agree, content.compacted, dropped, mvcc_txn_compacted(c->mvcc), &r)) {
        if (core__leading(c))
            agree_reported(&c->agree, c->o.member_id, &r);
        else if (c->leader != 0 && c->o.env.send_report != NULL)
            c->o.env.send_report(c->o.env.ctx, c->leader, &r);
    }
}

/* --- a member that differs --- */

/* From now on nobody gets an answer from this store. */
static void fence(struct core *c, const struct agree_report *verdict, uint64_t own)
{
    atomic_store_explicit(&c->fenced, true, memory_order_release);
    c->fence_due = true;
    c->fence_verdict = *verdict;
    c->fence_own = own;
    log_error("this member differs from the majority: it serves nobody any more",
              LOG_HEX("local-member-id", c->o.member_id), LOG_UINT("mark", verdict->mark),
              LOG_HEX("own-digest", own), LOG_HEX("majority-digest", verdict->digest));
}

/* The leader may not know who it is: its report comes after the verdict. So the member says it of
 * itself. The node ends this store and begins anew without it. */
void core__fence(struct core *c)
{
    if (!c->fence_due)
        return;
    c->fence_due = false;
    propose_alarm(c, c->o.member_id, ALARM_ACTIVATE);
    raft_set_standing(c->raft, false);
    core__drop_unproposed(c, TV_CORRUPT);
    core__answer_all(c, &c->reads_new, TV_CORRUPT);
    core__drop_reads(c);
    char what[256];
    (void)snprintf(what, sizeof(what),
                   "at entry %llu of the log this member had %016llx, the majority %016llx: its "
                   "contents differ",
                   (unsigned long long)c->fence_verdict.mark, (unsigned long long)c->fence_own,
                   (unsigned long long)c->fence_verdict.digest);
    if (c->o.env.differs == NULL)
        tv_fatal("%s", what);
    c->o.env.differs(c->o.env.ctx, what);
}

bool core_is_fenced(const struct core *c)
{
    return atomic_load_explicit(&c->fenced, memory_order_acquire);
}

void core__agree_applied(struct core *c)
{
    const struct applier *a = c->applier;
    uint64_t own;
    switch (a->last_kind) {
    case WIRE_RAFT_MARK:
        agree_marked(&c->agree, c->applied_index, a->chain, mvcc_content_added(c->mvcc),
                     mvcc_txn_compacted(c->mvcc), c->now_ms);
        report(c); /* mostly the sum is settled */
        break;
    case WIRE_RAFT_VERDICT:
        if (!core_is_fenced(c) && agree_differs(&c->agree, &a->last_verdict, &own))
            fence(c, &a->last_verdict, own);
        break;
    default:
        agree_applied(&c->agree);
    }
}

void core_receive_report(struct core *c, uint64_t from, const struct agree_report *r)
{
    agree_reported(&c->agree, from, r);
}

/* --- the leader's --- */

static void judge(struct core *c)
{
    const struct raft_membership *m = raft_membership(c->raft);
    struct agree_report verdict;
    uint32_t size;
    switch (agree_judge(&c->agree, m->voters.ids, m->voters.count, &verdict)) {
    case AGREE_VERDICT:
        c->verdict = verdict;
        struct bref *payload = applier_encode_verdict(&verdict, core_next_request_id(c), &size);
        propose(c, payload, size);
        break;
    case AGREE_NONE:
        log_error("the members differ, and no majority of them is of one mind",
                  LOG_UINT("mark", c->agree.marks[0].mark));
        break;
    case AGREE_OPEN:
        break;
    }
}

/* An alarm for each member that differs, as long as it is one: it comes back under another id. */
static void tend_alarms(struct core *c)
{
    uint64_t ids[AGREE_REPORTS_MAX];
    if (c->now_ms < c->agree_retry_ms)
        return;
    struct alarms *alarms = &c->applier->alarms;
    uint32_t count = agree_differing(&c->agree, &c->verdict, ids);
    for (uint32_t i = 0; i < count; i++)
        if (cluster_find(c->o.cluster, ids[i]) != NULL &&
            (alarms_reasons(alarms, ids[i], ALARM_CORRUPT) & ALARM_FOR_DIFFERENCE) == 0)
            propose_alarm(c, ids[i], ALARM_ACTIVATE);
    count = alarms_members(alarms, ALARM_CORRUPT, ALARM_FOR_DIFFERENCE, ids, AGREE_REPORTS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (cluster_find(c->o.cluster, ids[i]) == NULL)
            propose_alarm(c, ids[i], ALARM_DEACTIVATE);
}

void core__tend_agreement(struct core *c)
{
    report(c);
    if (!core__leading(c) || core_is_fenced(c))
        return;
    judge(c);
    tend_alarms(c);
    if (agree_wants_mark(&c->agree, c->now_ms)) {
        uint32_t size;
        c->agree.last_ms = c->now_ms; /* should it be lost, the pace stays */
        struct bref *payload = applier_encode_mark(core_next_request_id(c), &size);
        propose(c, payload, size);
    }
}
