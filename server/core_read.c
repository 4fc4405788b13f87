/* Linearizable reads, and questions that only the leader can answer. */
#include "server/core_internal.h"

#include "server/auth_check.h"

enum {
    QUESTIONS_MAX = 65536, /* at the leader; more are dropped, and who asked times out */
    READ_RETRY_MS = 500,   /* as etcd: a read index that is not confirmed is asked for again */
    RENEWALS_APART_MS = 10,
};

/* --- questions: how long a lease still lives, and whether a learner is ready, only the leader
 * knows
 *
 * A leader that was cut off or stood still may have a successor that it does not know of, and an
 * older leader's revocation of the lease may lie in its log, not applied yet. So a question waits
 * until a majority has confirmed, after it came, that we lead, and until we have applied what was
 * committed by then: as a linearizable read does, and in the same batches. Whoever leads after that
 * gives each lease its whole TTL from later on (lessor_promote). */

/* --- who may ask about leases --- */

struct leases_check {
    const struct core *c;
    struct auth_caller caller;
    int err;
};

static void check_lease(void *ctx, int64_t id)
{
    struct leases_check *k = ctx;
    const struct auth_view *v = auth_view(&k->c->applier->auth);
    if (k->err == 0)
        k->err = auth_check_lease(v, &k->caller, k->c->lessor, id, AUTH_READ);
}

int core__permit_leases(struct core *c, const struct request *req)
{
    if (!auth_is_enabled(&c->applier->auth))
        return 0;
    if (req->payload == NULL)
        return TV_USER_EMPTY; /* it was not enabled when he asked */
    const struct auth_view *v = auth_view(&c->applier->auth);
    struct leases_check k = {.c = c,
                             .caller = {.name = slice_of(req->payload->data, req->payload_size),
                                        .revision = req->auth_revision}};
    if (req->kind == REQUEST_LEASE_RENEW)
        return auth_check_lease(v, &k.caller, c->lessor, req->lease_id, AUTH_WRITE);
    if (req->kind == REQUEST_LEASE_TTL)
        return req->want_keys ? auth_check_lease(v, &k.caller, c->lessor, req->lease_id, AUTH_READ)
                              : 0;
    if (auth_check_root(v, k.caller.name) != 0)
        lessor_each(c->lessor, check_lease, &k);
    return k.err;
}

static void give_answer(struct core *c, struct request *req, int err)
{
    if (req->kind == REQUEST_MEMBER_CHANGE) {
        core__change_answered(c, req, err);
        return;
    }
    if (err == 0 && req->want_keys)
        err = core__permit_leases(c, req); /* once more: there may be other keys by now */
    if (err == 0 && req->want_keys)
        applier_lease_keys(c->applier, req);
    core__answer(c, req, err);
}

static void reply_to(struct core *c, uint64_t to, const struct core_question *reply)
{
    if (to == c->o.member_id)
        core_receive_question(c, to, reply);
    else
        c->o.env.send_question(c->o.env.ctx, to, reply);
}

static void take_question(struct core *c, uint64_t from, const struct core_question *msg)
{
    if (c->questions_count == QUESTIONS_MAX) {
        PROBE(core_questions_limit);
        return;
    }
    if (list_is_empty(&c->questions_new))
        c->o.env.wake(c->o.env.ctx);
    struct question *q = mem_alloc_zero(sizeof(*q));
    q->from = from;
    q->term = raft_term(c->raft);
    q->msg = *msg;
    c->questions_count++;
    list_push_back(&c->questions_new, &q->link);
}

static void ask(struct core *c, struct request *req)
{
    struct core_question msg = {.token = req->id, .subject = (uint64_t)req->lease_id};
    if (req->kind == REQUEST_MEMBER_CHANGE)
        core__change_question(req, &msg);
    else
        msg.about = req->kind == REQUEST_LEASE_RENEW ? QUESTION_LEASE_RENEW : QUESTION_LEASE_LEFT;
    if (core__leading(c))
        take_question(c, c->o.member_id, &msg);
    else if (c->leader != 0 && c->leader != c->o.member_id)
        c->o.env.send_question(c->o.env.ctx, c->leader, &msg);
}

static int renew(struct core *c, int64_t lease_id, int64_t *ret_ttl)
{
    int err = lessor_renew(c->lessor, lease_id, c->now_ms, ret_ttl);
    metric_add(&c->meters.leases_renewed, err == 0);
    return err;
}

static void reply_to_question(struct core *c, const struct question *q)
{
    struct core_question reply = q->msg;
    reply.is_reply = true;
    if (!core__leading(c) || raft_term(c->raft) != q->term)
        reply.err = TV_NOT_LEADER;
    else if (reply.about == QUESTION_LEASE_RENEW)
        reply.err = renew(c, (int64_t)reply.subject, &reply.ttl);
    else if (reply.about == QUESTION_LEASE_LEFT)
        reply.err = lessor_remaining(c->lessor, (int64_t)reply.subject, c->now_ms, &reply.ttl,
                                     &reply.granted_ttl);
    else if (reply.about == QUESTION_LEARNER_READY)
        reply.err = core__learner_readiness(c, reply.subject);
    else if (reply.about == QUESTION_MEMBER_GONE)
        reply.err = core__member_absence(c, reply.subject);
    else
        reply.err = TV_ENOTSUP;
    reply_to(c, q->from, &reply);
}

void core__answer_question(struct core *c, struct question *q)
{
    reply_to_question(c, q);
    c->questions_count--;
    mem_free(q);
}

void core__take_question(struct core *c, struct request *req)
{
    req->deadline_ms = c->now_ms + c->request_timeout_ms;
    if (req->kind != REQUEST_MEMBER_CHANGE) /* it has the id that is in its payload */
        req->id = core_next_request_id(c);
    list_remove(&req->link);
    list_push_back(&c->askers, &req->link);
    u64map_put(&c->questions_asked, req->id, req);
    ask(c, req);
}

/* To renew a lease costs a round among the members, and thousands of clients do it, each by itself
 * and none in a hurry: lives are counted in seconds. So when they come thick they are asked for
 * together. */
void core__ask_renewals(struct core *c)
{
    if (list_is_empty(&c->renewals))
        return;
    uint64_t due_ms = c->renewals_asked_ms + RENEWALS_APART_MS;
    if (c->o.env.wake_in != NULL && c->now_ms < due_ms) {
        c->o.env.wake_in(c->o.env.ctx, due_ms - c->now_ms);
        return;
    }
    c->renewals_asked_ms = c->now_ms;
    LIST_EACH_SAFE (it, after, &c->renewals)
        core__take_question(c, CONTAINER_OF(it, struct request, link));
}

void core__ask_again(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->askers)
        ask(c, CONTAINER_OF(it, struct request, link));
}

static void drop_questions(struct core *c, struct list *questions)
{
    LIST_EACH_SAFE (it, after, questions) {
        list_remove(it);
        c->questions_count--;
        mem_free(CONTAINER_OF(it, struct question, link));
    }
}

static void read_batch_free(struct core *c, struct read_batch *b, int err)
{
    core__answer_all(c, &b->requests, err);
    drop_questions(c, &b->questions);
    list_remove(&b->link);
    mem_free(b);
}

void core_receive_question(struct core *c, uint64_t from, const struct core_question *msg)
{
    if (msg->is_reply) {
        if (msg->err == TV_NOT_LEADER)
            return; /* asked again when we know the leader */
        struct request *req = u64map_remove(&c->questions_asked, msg->token);
        if (req == NULL)
            return;
        req->ttl = msg->ttl;
        req->granted_ttl = msg->granted_ttl;
        give_answer(c, req, msg->err);
        return;
    }
    if (core__leading(c)) {
        take_question(c, from, msg);
        return;
    }
    struct core_question reply = *msg;
    reply.is_reply = true;
    reply.err = TV_NOT_LEADER;
    reply_to(c, from, &reply);
}

/* --- linearizable reads (Raft thesis, 6.4) --- */

void core__ask_read_index(struct core *c)
{
    if (list_is_empty(&c->reads_new) && list_is_empty(&c->questions_new))
        return;
    struct read_batch *b = mem_alloc_zero(sizeof(*b));
    list_init(&b->requests);
    list_init(&b->questions);
    list_splice_back(&b->requests, &c->reads_new);
    list_splice_back(&b->questions, &c->questions_new);
    b->deadline_ms = c->now_ms + c->request_timeout_ms;
    b->context = core_next_request_id(c);
    b->asked_ms = c->now_ms;
    list_push_back(&c->read_batches, &b->link);
    (void)raft_read_index(c->raft, b->context); /* without a leader the retry asks again */
}

void core__confirm_reads(struct core *c, const struct raft_read *reads, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        LIST_EACH (it, &c->read_batches) {
            struct read_batch *b = CONTAINER_OF(it, struct read_batch, link);
            if (b->context == reads[i].context && b->log_index == 0) {
                b->log_index = reads[i].log_index;
                if (b->log_index == 0)
                    b->asked_ms = 0; /* refused: the next tick asks again */
                break;
            }
        }
    }
}

/* Batches are confirmed and served in the order they were asked: an index confirmed later is no
 * lower. */
void core__serve_reads(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->read_batches) {
        struct read_batch *b = CONTAINER_OF(it, struct read_batch, link);
        if (b->log_index == 0 || b->log_index > c->applied_index)
            continue;
        LIST_EACH_SAFE (at, next, &b->questions) {
            struct question *q = CONTAINER_OF(at, struct question, link);
            if (core__hold_renewal(c, q))
                continue;
            list_remove(&q->link);
            core__answer_question(c, q);
        }
        read_batch_free(c, b, 0);
    }
}

void core__retry_reads(struct core *c)
{
    LIST_EACH_SAFE (it, after, &c->read_batches) {
        struct read_batch *b = CONTAINER_OF(it, struct read_batch, link);
        if (b->deadline_ms <= c->now_ms) {
            PROBE(core_read_timeout);
            metric_add(&c->meters.read_indexes_failed, 1);
            read_batch_free(c, b, TV_TIMEOUT);
        } else if (b->log_index == 0 && b->asked_ms + READ_RETRY_MS <= c->now_ms) {
            PROBE(core_read_retry);
            metric_add(&c->meters.slow_read_indexes, 1);
            b->asked_ms = c->now_ms;
            b->context = core_next_request_id(c);
            (void)raft_read_index(c->raft, b->context);
        }
    }
}

bool core__reads_follow_leader(struct core *c)
{
    bool asked = false;
    if (!c->reads_ask_again)
        return false;
    c->reads_ask_again = false;
    LIST_EACH (it, &c->read_batches) {
        struct read_batch *b = CONTAINER_OF(it, struct read_batch, link);
        if (b->log_index != 0)
            continue;
        PROBE(core_read_asked_of_new_leader);
        asked = true;
        b->asked_ms = c->now_ms;
        b->context = core_next_request_id(c);
        (void)raft_read_index(c->raft, b->context);
    }
    return asked;
}

void core__drop_reads(struct core *c)
{
    drop_questions(c, &c->questions_new);
    drop_questions(c, &c->held_renewals);
    LIST_EACH_SAFE (it, after, &c->read_batches)
        read_batch_free(c, CONTAINER_OF(it, struct read_batch, link), TV_STOPPED);
}
