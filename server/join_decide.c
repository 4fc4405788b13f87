/* What an empty data directory means, from what the other members say. */
#include "server/join.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static void refuse(struct join_decision *d, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void refuse(struct join_decision *d, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    d->verdict = JOIN_REFUSE;
    (void)vsnprintf(d->text, sizeof(d->text), fmt, args);
    va_end(args);
}

static const struct cluster_member *self(const struct join_input *in)
{
    const struct cluster_member *m = cluster_find_name(in->initial, in->name);
    ASSERT(m != NULL); /* cluster_check_local() */
    return m;
}

static uint32_t count(const struct join_input *in, enum join_state state)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < in->answers_count; i++)
        n += in->answers[i].state == state;
    return n;
}

static const struct join_answer *first(const struct join_input *in, enum join_state state)
{
    for (uint32_t i = 0; i < in->answers_count; i++)
        if (in->answers[i].state == state)
            return &in->answers[i];
    return NULL;
}

/* The cluster has been there longer than this member: who are we in it? */
static void find_place(const struct join_input *in, const struct cluster *c,
                       struct join_decision *d)
{
    const struct cluster_member *me = self(in);
    const struct cluster_member *known = cluster_find_urls(c, me->peer_urls, me->peer_urls_count);
    d->cluster = c;
    /* The one that takes our place is ours to be while we have not begun as it. A learner, too, has
     * acknowledged what will count when it votes. */
    bool is_new = known != NULL && known->id == in->asked_id;
    bool was_there = known != NULL && !is_new && (known->started || in->was_there);
    if (known == NULL && cluster_was_removed(c, me->id)) {
        refuse(d, "member %" PRIx64 " has been permanently removed from the cluster", me->id);
    } else if (known == NULL) {
        refuse(
            d,
            "the running cluster has no member with this one's peer URLs: add it (etcdctl member "
            "add) and start it with --initial-cluster-state=existing");
    } else if (was_there && !in->may_replace) {
        refuse(d, "member %" PRIx64 " has already been bootstrapped", known->id);
    } else if (was_there) {
        d->verdict = JOIN_REPLACE;
        d->id = known->id;
    } else {
        bool from_the_beginning = in->cluster_is_new && known->id == me->id;
        d->verdict = from_the_beginning ? JOIN_BOOTSTRAP : JOIN_AS;
        d->id = known->id;
    }
}

static void decide_new(const struct join_input *in, struct join_decision *d)
{
    const struct join_answer *settled = first(in, JOIN_SETTLED);
    uint32_t fresh = 1 + count(in, JOIN_FRESH);
    uint32_t members = in->answers_count + 1;
    if (settled != NULL && settled->cluster.id != in->initial->id) {
        refuse(d,
               "cluster ID mismatch: the members at the configured URLs belong to cluster "
               "%" PRIx64 ", the flags describe %" PRIx64,
               settled->cluster.id, in->initial->id);
    } else if (settled != NULL) {
        find_place(in, &settled->cluster, d);
    } else if (fresh == members || (fresh > members / 2 && count(in, JOIN_UNSETTLED) == 0 &&
                                    in->waited_ms >= JOIN_PATIENCE_MS)) {
        d->verdict = JOIN_BOOTSTRAP;
        d->id = self(in)->id;
    }
}

/* etcd: ValidateClusterAndAssignIDs. */
static void check_flags(const struct join_input *in, const struct cluster *c,
                        struct join_decision *d)
{
    if (c->members_count != in->initial->members_count) {
        refuse(d, "error validating peerURLs: member count is unequal");
        return;
    }
    for (uint32_t i = 0; i < c->members_count; i++) {
        const struct cluster_member *m = &c->members[i];
        if (cluster_find_urls(in->initial, m->peer_urls, m->peer_urls_count) == NULL) {
            refuse(d,
                   "error validating peerURLs: PeerURLs: no match found for existing member "
                   "(%" PRIx64 ", [%s])",
                   m->id, m->peer_urls_count > 0 ? m->peer_urls[0] : "");
            return;
        }
    }
    find_place(in, c, d);
}

/* Who gave this answer, as `c` knows it; NULL: it does not. */
static const struct cluster_member *who_answered(const struct join_input *in, uint32_t answer,
                                                 const struct cluster *c)
{
    const struct cluster_member *m = &in->initial->members[answer];
    if (m >= self(in))
        m++; /* we are not asked */
    return cluster_find_urls(c, m->peer_urls, m->peer_urls_count);
}

static bool takes_us_for_new(const struct join_input *in, uint32_t answer, uint64_t *id)
{
    struct join_decision one = {.verdict = JOIN_WAIT};
    if (in->answers[answer].state != JOIN_UNSETTLED)
        return false;
    check_flags(in, &in->answers[answer].cluster, &one);
    *id = one.id;
    return one.verdict == JOIN_AS;
}

/* That we have begun is on the log of a majority of the voters, and at most one of these is us: can
 * all that take us for new as `id` have missed it? */
static bool are_enough(const struct join_input *in, const struct cluster *c, uint64_t id)
{
    uint32_t others = 0, agreed = 0;
    uint64_t their_id = 0;
    for (uint32_t i = 0; i < c->members_count; i++)
        others += c->members[i].id != id && !c->members[i].learner;
    for (uint32_t i = 0; i < in->answers_count; i++) {
        const struct cluster_member *m = who_answered(in, i, c);
        agreed += m != NULL && !m->learner && takes_us_for_new(in, i, &their_id) && their_id == id;
    }
    uint32_t majority = (others + 1) / 2 + 1;
    return agreed + majority - 1 > others;
}

/* Nobody knows a leader, perhaps because there is none before we are there: a cluster may have
 * grown by us to where it needs us. But each answer may be behind, and take for new whom it did not
 * see begin. */
static void decide_unsettled(const struct join_input *in, struct join_decision *d)
{
    struct join_decision place = {.verdict = JOIN_WAIT};
    bool found = false, enough = true;
    uint32_t refused = 0;
    for (uint32_t i = 0; i < in->answers_count; i++) {
        struct join_decision one = {.verdict = JOIN_WAIT};
        if (in->answers[i].state != JOIN_UNSETTLED)
            continue;
        check_flags(in, &in->answers[i].cluster, &one);
        if (one.verdict == JOIN_REPLACE)
            return; /* nobody could agree to it */
        refused += one.verdict == JOIN_REFUSE;
        if (one.verdict == JOIN_AS)
            enough = enough && are_enough(in, one.cluster, one.id);
        if (one.verdict == JOIN_AS || !found)
            place = one;
        found = found || one.verdict == JOIN_AS;
    }
    if (found ? enough : refused == in->answers_count)
        *d = place;
}

static void decide_existing(const struct join_input *in, struct join_decision *d)
{
    const struct join_answer *settled = first(in, JOIN_SETTLED);
    bool any = first(in, JOIN_UNSETTLED) != NULL;
    if (settled != NULL) {
        check_flags(in, &settled->cluster, d);
    } else if (any && in->waited_ms >= JOIN_PATIENCE_MS) {
        decide_unsettled(in, d);
    } else if (!any && in->waited_ms >= JOIN_EXISTING_WAIT_MS) {
        refuse(d,
               "cannot fetch cluster info from peer urls: could not retrieve cluster information "
               "from the given URLs");
    }
}

void join_decide(const struct join_input *in, struct join_decision *ret)
{
    *ret = (struct join_decision){.verdict = JOIN_WAIT};
    if (in->cluster_is_new)
        decide_new(in, ret);
    else
        decide_existing(in, ret);
}
