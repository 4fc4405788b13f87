/* What the clock does to calls: those that wait are tried again or end, and attempts whose answer
 * is late have another member asked, or their own one blamed. */
#include "engine.h"

static void tick_waiting(struct trivet_client *c, uint64_t now_ns, bool all)
{
    struct list now;
    list_init(&now);
    list_splice_back(&now, &c->waiting);
    while (!list_is_empty(&now)) {
        struct call *call = CONTAINER_OF(now.next, struct call, waiting_link);
        list_remove(&call->waiting_link);
        if (call->deadline_ns != 0 && now_ns >= call->deadline_ns)
            rpc__end_late(call);
        else if (all || now_ns >= call->wait_until_ns)
            rpc__go(call);
        else
            list_push_back(&c->waiting, &call->waiting_link);
    }
}

void calls__kick(struct trivet_client *c)
{
    tick_waiting(c, engine__now_ns(), true);
}

static struct attempt *oldest(struct list *attempts, uint64_t limit_ns, uint64_t now_ns)
{
    if (list_is_empty(attempts))
        return NULL;
    struct attempt *a = CONTAINER_OF(attempts->next, struct attempt, link);
    if (now_ns < a->started_ns + limit_ns)
        return NULL;
    list_remove(&a->link);
    return a;
}

static void blame(struct attempt *a, uint64_t now_ns)
{
    struct trivet_client *c = a->call->client;
    a->blamed = true;
    /* It is counted as under way until its end. */
    balancer_began(&c->balancer, a->endpoint);
    c->balancer.endpoints[a->endpoint].calls--;
    if (balancer_ended(&c->balancer, a->endpoint, BALANCER_FAILED, 0, now_ns)) {
        c->metrics.ejections++;
        endpoint__evacuate(a->connection->endpoint);
    }
}

/* Attempts whose member has said nothing since they began, to anybody. */
static void find_silent(struct trivet_client *c, struct list *attempts, uint64_t now_ns)
{
    enum { SILENCE_MS = 250 };
    LIST_EACH_SAFE (it, after, attempts) {
        struct attempt *a = CONTAINER_OF(it, struct attempt, link);
        struct endpoint *e = a->connection->endpoint;
        if (now_ns < a->started_ns + SILENCE_MS * NS_PER_MS)
            return; /* the later ones as well */
        if (e->heard_ns >= a->started_ns || a->moved)
            continue;
        endpoint__silent(e);
        if (a->call->repeatable)
            a->moved = rpc__ask_another(a->call, FOR_A_SILENCE);
    }
}

/* A write that is stuck is looked after no more; but one that may be repeated waits for another
 * leader. */
static void tick_writes(struct trivet_client *c, uint64_t now_ns)
{
    enum { WRITE_STUCK_MS = 1000 };
    LIST_EACH_SAFE (it, after, &c->writes) {
        struct attempt *a = CONTAINER_OF(it, struct attempt, link);
        if (now_ns < a->started_ns + WRITE_STUCK_MS * NS_PER_MS)
            return;
        if (!a->blamed) {
            blame(a, now_ns);
            endpoints__probe_all(c);
        }
        if (a->call->repeatable && !a->moved)
            a->moved = rpc__ask_another(a->call, FOR_A_LATE_ANSWER);
        if (!a->call->repeatable || a->moved)
            list_remove(&a->link);
    }
}

void calls__tick(struct trivet_client *c, uint64_t now_ns)
{
    enum { HEDGE_MIN_MS = 2 };
    struct attempt *a;
    tick_waiting(c, now_ns, false);
    find_silent(c, &c->old, now_ns);
    find_silent(c, &c->writes, now_ns);
    uint64_t hedge_ns = c->p95_ns > HEDGE_MIN_MS * NS_PER_MS ? c->p95_ns : HEDGE_MIN_MS * NS_PER_MS;
    while ((a = oldest(&c->young, hedge_ns, now_ns)) != NULL) {
        if (c->o.read_attempt_ms != 0)
            list_push_back(&c->old, &a->link);
        (void)rpc__ask_another(a->call, FOR_A_HEDGE);
    }
    while ((a = oldest(&c->old, c->o.read_attempt_ms * NS_PER_MS, now_ns)) != NULL) {
        blame(a, now_ns);
        (void)rpc__ask_another(a->call, FOR_A_LATE_ANSWER);
    }
    tick_writes(c, now_ns);
}
