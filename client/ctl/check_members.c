/* Rules: who is there, and do they agree? */
#include "checks.h"

#include <inttypes.h>
#include <string.h>

enum { LAG_WARN = 1000, LAG_BAD = 50000, LEADER_CHANGES_AN_HOUR_MAX = 4, MEMBERS_MAX = 7 };

static uint32_t voters(const struct cluster_now *n, bool answering)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n->count; i++)
        count += !n->members[i].is_learner && (!answering || n->members[i].answers);
    return count;
}

static void look_list(const struct check_facts *f, const struct check_rule *rule,
                      struct check_report *r)
{
    if (!f->now->has_list)
        check_find(r, rule, CHECK_BAD, "No endpoint tells who the members are.");
}

static void look_reachable(const struct check_facts *f, const struct check_rule *rule,
                           struct check_report *r)
{
    const struct cluster_now *n = f->now;
    uint32_t all = voters(n, false), there = voters(n, true);
    for (uint32_t i = 0; i < n->count; i++) {
        const struct member_now *m = &n->members[i];
        if (m->answers || !m->is_started)
            continue;
        check_find(r, rule, CHECK_BAD, "Member %s does not answer at %s: %s.", check_name(m),
                   m->address[0] == '\0' ? "any address (it tells of none)" : m->address, m->error);
    }
    if (n->has_list && there < all / 2 + 1) {
        check_find(r, rule, CHECK_BAD,
                   "Only %" PRIu32 " of %" PRIu32 " voting members answer, and %" PRIu32
                   " are needed: nothing can be written.",
                   there, all, all / 2 + 1);
        check_advise(r, "Bring members back before anything else. If a majority is lost for good, "
                        "restore from a snapshot (docs/operations.md).");
    }
}

static void look_started(const struct check_facts *f, const struct check_rule *rule,
                         struct check_report *r)
{
    const struct cluster_now *n = f->now;
    for (uint32_t i = 0; i < n->count; i++)
        if (!n->members[i].is_started)
            check_find(r, rule, CHECK_WARN, "Member %016" PRIx64 " was added and never started.",
                       n->members[i].id);
}

static void look_leader(const struct check_facts *f, const struct check_rule *rule,
                        struct check_report *r)
{
    const struct cluster_now *n = f->now;
    uint64_t leader = cluster_now_leader(n);
    bool any = false;
    for (uint32_t i = 0; i < n->count; i++)
        any = any || n->members[i].answers;
    if (!any)
        return; /* said already */
    if (leader == 0) {
        check_find(r, rule, CHECK_BAD, "There is no leader.");
        return;
    }
    for (uint32_t i = 0; i < n->count; i++) {
        const struct member_now *m = &n->members[i];
        uint64_t said = m->answers ? m->status.u.status.leader : leader;
        const struct member_now *old = cluster_now_find(f->before, m->id);
        /* One moment of an election is nothing: it must have been so before. */
        if (said == leader || old == NULL || !old->answers ||
            old->status.u.status.leader == cluster_now_leader(f->before))
            continue;
        if (said == 0)
            check_find(r, rule, CHECK_BAD, "Member %s knows no leader.", check_name(m));
        else
            check_find(r, rule, CHECK_BAD, "Member %s takes %016" PRIx64 " for the leader.",
                       check_name(m), said);
    }
}

static void look_steady(const struct check_facts *f, const struct check_rule *rule,
                        struct check_report *r)
{
    const struct cluster_now *n = f->now;
    uint64_t before = cluster_now_leader(f->before), now = cluster_now_leader(n);
    if (before != 0 && now != 0 && before != now)
        check_find(r, rule, CHECK_WARN, "The leader changed while we were looking.");
    for (uint32_t i = 0; i < n->count; i++) {
        const struct member_now *m = &n->members[i];
        double began_s =
            m->has_metrics ? prom_sum(&m->metrics, "process_start_time_seconds", NULL, NULL) : 0;
        double hours = ((double)n->wall_s - began_s) / 3600;
        double changes =
            m->has_metrics
                ? prom_sum(&m->metrics, "etcd_server_leader_changes_seen_total", NULL, NULL)
                : 0;
        if (began_s <= 0 || changes <= 3)
            continue;
        if (changes / (hours < 1 ? 1 : hours) > LEADER_CHANGES_AN_HOUR_MAX) {
            check_find(r, rule, CHECK_WARN,
                       "Member %s has seen %.0f changes of the leader in %.1f hours.",
                       check_name(m), changes, hours);
            return;
        }
    }
}

static void look_terms(const struct check_facts *f, const struct check_rule *rule,
                       struct check_report *r)
{
    uint64_t newest = 0;
    for (uint32_t i = 0; i < f->before->count; i++) {
        const struct member_now *m = &f->before->members[i];
        if (m->answers && m->status.u.status.raft_term > newest)
            newest = m->status.u.status.raft_term;
    }
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        if (m->answers && m->status.u.status.raft_term < newest)
            check_find(r, rule, CHECK_WARN,
                       "Member %s is in term %" PRIu64 ", while another was in %" PRIu64
                       " a second ago.",
                       check_name(m), m->status.u.status.raft_term, newest);
    }
}

static void look_lag(const struct check_facts *f, const struct check_rule *rule,
                     struct check_report *r)
{
    const struct member_now *leader = cluster_now_find(f->before, cluster_now_leader(f->before));
    if (leader == NULL || !leader->answers)
        return;
    /* What the leader had a second ago. */
    uint64_t wanted = leader->status.u.status.raft_index;
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        if (!m->answers || m->status.u.status.raft_applied_index + LAG_WARN > wanted)
            continue;
        uint64_t lag = wanted - m->status.u.status.raft_applied_index;
        check_find(r, rule, lag >= LAG_BAD ? CHECK_BAD : CHECK_WARN,
                   "Member %s is %" PRIu64 " entries behind what the leader had a second ago.",
                   check_name(m), lag);
    }
}

static void look_versions(const struct check_facts *f, const struct check_rule *rule,
                          struct check_report *r)
{
    const struct cluster_now *n = f->now;
    const struct member_now *first = NULL;
    for (uint32_t i = 0; i < n->count; i++) {
        const struct member_now *m = &n->members[i];
        if (!m->answers)
            continue;
        if (first == NULL)
            first = m;
        struct trivet_bytes a = first->status.u.status.version, b = m->status.u.status.version;
        if (a.size != b.size || memcmp(a.data, b.data, a.size) != 0)
            check_find(r, rule, CHECK_WARN, "Member %s runs %.*s, and %s runs %.*s.",
                       check_name(first), (int)a.size, (const char *)a.data, check_name(m),
                       (int)b.size, (const char *)b.data);
        if (m->status.u.status.downgrade_enabled && m == first) {
            check_find(r, rule, CHECK_WARN, "A downgrade is under way.");
            check_advise(r, "Finish it, or end it with 'downgrade cancel'.");
        }
    }
}

static void look_learners(const struct check_facts *f, const struct check_rule *rule,
                          struct check_report *r)
{
    const struct member_now *leader = cluster_now_find(f->now, cluster_now_leader(f->now));
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        const struct member_now *old = cluster_now_find(f->before, m->id);
        bool was = old != NULL && old->is_learner && old->answers;
        if (!m->is_learner || !was || !m->answers || leader == NULL || !leader->answers ||
            m->status.u.status.raft_applied_index + LAG_WARN < leader->status.u.status.raft_index)
            continue;
        check_find(r, rule, CHECK_WARN,
                   "Member %s has caught up and is still a learner: it does not vote.",
                   check_name(m));
    }
}

static void look_count(const struct check_facts *f, const struct check_rule *rule,
                       struct check_report *r)
{
    uint32_t count = voters(f->now, false);
    if (!f->now->has_list || count == 0)
        return;
    if (count == 1) {
        check_find(r, rule, CHECK_WARN,
                   "The cluster has one voting member: when it fails, everything does.");
        check_advise(r, "Add two members, one after the other ('member add --learner', then "
                        "'member promote').");
    } else if (count % 2 == 0) {
        check_find(r, rule, CHECK_WARN,
                   "The cluster has %" PRIu32 " voting members: it survives the loss of %" PRIu32
                   ", as it would with %" PRIu32 ".",
                   count, (count - 1) / 2, count - 1);
    } else if (count > MEMBERS_MAX) {
        check_find(r, rule, CHECK_WARN,
                   "The cluster has %" PRIu32 " voting members: each makes every write dearer.",
                   count);
        check_advise(r, "Remove members until there are 5 or 7.");
    }
}

static void look_places(const struct check_facts *f, const struct check_rule *rule,
                        struct check_report *r)
{
    const struct cluster_now *n = f->now;
    uint32_t members = voters(n, false), zoned = 0, same_zone = 0, same_host = 0;
    const struct member_now *first = NULL;
    for (uint32_t i = 0; i < n->count; i++) {
        const struct member_now *m = &n->members[i];
        if (m->is_learner)
            continue;
        if (first == NULL)
            first = m;
        zoned += m->zone[0] != '\0';
        same_zone += strcmp(m->zone, first->zone) == 0;
        same_host += m->peer_host[0] != '\0' && strcmp(m->peer_host, first->peer_host) == 0;
    }
    if (members < 2)
        return;
    if (same_host == members)
        check_find(r, rule, CHECK_WARN, "All members are on one machine, %s.", first->peer_host);
    else if (zoned == members && same_zone == members)
        check_find(r, rule, CHECK_WARN, "All members are in one zone, %s.", first->zone);
}

const struct check_rule check_members_rules[] = {
    {"member-list", "The members are known.",
     "Without the list nobody can say whether a majority is there.",
     "Look at --endpoints, at the firewall, and at TLS (--cacert, --cert, --key); then at the "
     "members' logs.",
     look_list},
    {"reachable", "Every member answers.",
     "With a member away, the next failure may stop all writes.",
     "See whether the process runs and its port can be reached from here; read its log.",
     look_reachable},
    {"started", "Every member of the list has been started.",
     "It counts for the majority, and does nothing for it.",
     "Start it, or remove it with 'member remove'.", look_started},
    {"leader", "One leader, and all agree.", "Without a leader nothing is written or read.",
     "See whether the members reach each other at their peer URLs; read the logs for elections.",
     look_leader},
    {"leader-steady", "The leader stays.",
     "Each election stops writes, and ends watches and leases' renewals for a moment.",
     "Look for slow disks ('disk-sync' below), a network that loses packets, or machines without "
     "CPU; raise --election-timeout only then.",
     look_steady},
    {"terms", "All members are in the same term.",
     "One that lags in terms does not hear from the leader.",
     "Check the network between it and the leader.", look_terms},
    {"lag", "All members keep up.",
     "One that is far behind cannot take over, and reads at it are old or wait.",
     "Compare its disk, CPU and network with the others'; if it cannot catch up, remove it and add "
     "it anew.",
     look_lag},
    {"versions", "All members run the same version.",
     "A cluster of two versions works as the older one and is meant for an upgrade only.",
     "Finish the upgrade.", look_versions},
    {"learners", "No learner waits to be promoted.",
     "A learner costs what a member costs and adds no safety.",
     "Promote it: 'member promote <id>'; or remove it.", look_learners},
    {"member-count", "The number of members is odd.",
     "One more than an odd number adds work and another thing that can fail, and no safety.",
     "Add a member or remove one.", look_count},
    {"places", "The members are in several places.",
     "What takes the place down takes the cluster with it.",
     "Put the members on machines, and in zones, of their own.", look_places},
    {NULL},
};
