/* Rules: does it have what it needs, and does it keep up? */
#include "checks.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { FSYNCS_MIN = 20, PROBES_MIN = 10, LEASES_MANY = 100000, HISTORY_LONG = 5000000 };
#define MIB (1024.0 * 1024)

static double number(const struct member_now *m, const char *name)
{
    return m != NULL && m->has_metrics ? prom_sum(&m->metrics, name, NULL, NULL) : 0;
}

static void look_alarms(const struct check_facts *f, const struct check_rule *rule,
                        struct check_report *r)
{
    const struct trivet_alarm_result *a = &f->now->alarms.u.alarm;
    for (uint32_t i = 0; f->now->has_alarms && i < a->alarms_count; i++) {
        const struct member_now *m = cluster_now_find(f->now, a->alarms[i].member_id);
        const char *name = m == NULL ? "a member that is gone" : check_name(m);
        if (a->alarms[i].alarm == 1) {
            check_find(r, rule, CHECK_BAD,
                       "The alarm NOSPACE stands for %s: only reads and deletions are served.",
                       name);
        } else {
            check_find(r, rule, CHECK_BAD,
                       "The alarm CORRUPT stands for %s: its contents differ from the others'.",
                       name);
            check_advise(r,
                         "Remove the member, delete its data, add it anew; then 'alarm disarm'.");
        }
    }
}

static void look_quota(const struct check_facts *f, const struct check_rule *rule,
                       struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        const struct trivet_status_result *s = &m->status.u.status;
        if (!m->answers)
            continue;
        double quota = s->db_size_quota > 0 ? (double)s->db_size_quota
                                            : number(m, "etcd_server_quota_backend_bytes");
        double used = quota <= 0 ? 0 : (double)s->db_size / quota;
        if (used >= 0.8)
            check_find(r, rule, used >= 0.95 ? CHECK_BAD : CHECK_WARN,
                       "Member %s uses %.0f %% of its quota (%.0f of %.0f MiB).", check_name(m),
                       used * 100, (double)s->db_size / MIB, quota / MIB);
    }
}

static void look_fragments(const struct check_facts *f, const struct check_rule *rule,
                           struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        const struct trivet_status_result *s = &m->status.u.status;
        double size = m->answers ? (double)s->db_size : 0;
        double in_use = (double)s->db_size_in_use;
        if (size >= 64 * MIB && in_use < size / 2)
            check_find(r, rule, CHECK_WARN,
                       "Of the %.0f MiB of member %s's file only %.0f %% are in use.", size / MIB,
                       check_name(m), in_use / size * 100);
    }
}

static void look_history(const struct check_facts *f, const struct check_rule *rule,
                         struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        double kept = number(m, "etcd_debugging_mvcc_current_revision") -
                      number(m, "etcd_debugging_mvcc_compact_revision");
        if (kept < HISTORY_LONG)
            continue;
        check_find(r, rule, CHECK_WARN, "%.1f million revisions of history are kept.", kept / 1e6);
        return; /* it is the same everywhere */
    }
}

/* What came since the look before, when that is enough to say something, else since the process
 * began; negative: nothing. */
static double recent_quantile(const struct check_facts *f, const struct member_now *m,
                              const char *name)
{
    char count[128];
    const struct member_now *old = check_earlier(f, m);
    (void)snprintf(count, sizeof(count), "%s_count", name);
    if (!m->has_metrics || number(m, count) < FSYNCS_MIN)
        return -1;
    bool enough = old != NULL && number(m, count) - number(old, count) >= FSYNCS_MIN;
    return prom_quantile(&m->metrics, enough ? &old->metrics : NULL, name, NULL, 0.99);
}

static void look_disk(const struct check_facts *f, const struct check_rule *rule,
                      struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        double s = recent_quantile(f, m, "etcd_disk_wal_fsync_duration_seconds");
        if (s > 0.03)
            check_find(
                r, rule, s > 0.25 ? CHECK_BAD : CHECK_WARN,
                "Of member %s's writes to its log, one of a hundred takes more than %.0f ms.",
                check_name(m), s * 1000);
    }
}

static void look_room(const struct check_facts *f, const struct check_rule *rule,
                      struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++)
        if (number(&f->now->members[i], "trivet_disk_lacks_room") > 0)
            check_find(r, rule, CHECK_BAD, "Member %s's disk is full: it refuses writes.",
                       check_name(&f->now->members[i]));
}

static void look_peers(const struct check_facts *f, const struct check_rule *rule,
                       struct check_report *r)
{
    static const char name[] = "etcd_network_peer_round_trip_time_seconds";
    for (uint32_t i = 0; i < f->now->count; i++)
        for (uint32_t j = 0; j < f->now->count; j++) {
            const struct member_now *m = &f->now->members[i], *to = &f->now->members[j];
            const struct member_now *old = check_earlier(f, m);
            char id[20];
            (void)snprintf(id, sizeof(id), "%" PRIx64, to->id);
            if (i == j || !m->has_metrics)
                continue;
            double count =
                prom_sum(&m->metrics, "etcd_network_peer_round_trip_time_seconds_count", "To", id);
            if (count < PROBES_MIN)
                continue;
            const struct prom_filter to_it = {.label = "To", .value = id};
            double s =
                prom_quantile(&m->metrics, old == NULL ? NULL : &old->metrics, name, &to_it, 0.9);
            if (s < 0)
                s = prom_quantile(&m->metrics, NULL, name, &to_it, 0.9);
            if (s > 0.1)
                check_find(r, rule, s > 0.5 ? CHECK_BAD : CHECK_WARN,
                           "From member %s to %s and back takes up to %.0f ms.", check_name(m),
                           check_name(to), s * 1000);
        }
}

static void look_proposals(const struct check_facts *f, const struct check_rule *rule,
                           struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i], *old = check_earlier(f, m);
        double pending = number(m, "etcd_server_proposals_pending");
        double failed = number(m, "etcd_server_proposals_failed_total") -
                        number(old, "etcd_server_proposals_failed_total");
        double late = number(m, "etcd_server_heartbeat_send_failures_total") -
                      number(old, "etcd_server_heartbeat_send_failures_total");
        if (old == NULL)
            continue;
        if (failed > 0)
            check_find(r, rule, CHECK_BAD, "In a second, %.0f writes failed at member %s.", failed,
                       check_name(m));
        if (pending > 5000 && number(old, "etcd_server_proposals_pending") > 5000)
            check_find(r, rule, CHECK_WARN, "At member %s %.0f writes wait to be applied.",
                       check_name(m), pending);
        if (late > 0)
            check_find(r, rule, CHECK_WARN, "Member %s, leading, sent %.0f heartbeats too late.",
                       check_name(m), late);
    }
}

static void look_watchers(const struct check_facts *f, const struct check_rule *rule,
                          struct check_report *r)
{
    static const char name[] = "etcd_debugging_mvcc_slow_watcher_total";
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i], *old = check_earlier(f, m);
        double slow = number(m, name);
        if (slow > 0 && number(old, name) > 0)
            check_find(r, rule, CHECK_WARN, "At member %s %.0f watchers lag behind.", check_name(m),
                       slow);
    }
}

static void look_leases(const struct check_facts *f, const struct check_rule *rule,
                        struct check_report *r)
{
    if (f->now->leases > LEASES_MANY)
        check_find(r, rule, CHECK_WARN, "There are %" PRId64 " leases.", f->now->leases);
}

static void look_files(const struct check_facts *f, const struct check_rule *rule,
                       struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        double used = number(m, "process_open_fds"), limit = number(m, "process_max_fds");
        if (limit > 0 && used / limit > 0.8)
            check_find(r, rule, used / limit > 0.95 ? CHECK_BAD : CHECK_WARN,
                       "Member %s has %.0f files and sockets open, of %.0f.", check_name(m), used,
                       limit);
    }
}

static void look_metrics(const struct check_facts *f, const struct check_rule *rule,
                         struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        char status[40] = "";
        if (m->metrics_page.status != 0)
            (void)snprintf(status, sizeof(status), "status %d", m->metrics_page.status);
        if (m->answers && !m->has_metrics)
            check_find(r, rule, CHECK_WARN, "Member %s shows no metrics at %s: %s.", check_name(m),
                       m->address, status[0] != '\0' ? status : m->metrics_page.error);
    }
}

static void look_clocks(const struct check_facts *f, const struct check_rule *rule,
                        struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        double off = m->clock_theirs_s - m->clock_ours_s;
        if (m->clock_theirs_s == 0 || fabs(off) < 1 + m->clock_error_s)
            continue;
        check_find(r, rule, fabs(off) > 60 ? CHECK_BAD : CHECK_WARN,
                   "The clock of member %s is %.1f s %s of the one here.", check_name(m), fabs(off),
                   off > 0 ? "ahead" : "behind");
    }
}

const struct check_rule check_load_rules[] = {
    {"alarms", "No alarm stands.", "The cluster refuses writes until it is seen to.",
     "Compact ('compaction'), defragment ('defrag'), delete what is not needed, or raise "
     "--quota-backend-bytes; then 'alarm disarm'.",
     look_alarms},
    {"quota", "The store is well below its quota.",
     "At the quota an alarm is raised and writes are refused.",
     "Compact the history, delete what is not needed, defragment; or raise --quota-backend-bytes.",
     look_quota},
    {"fragmentation", "The store has little waste.",
     "What is not in use counts against the quota, and against the page cache.",
     "Run 'defrag' for one member after the other; the leader last.", look_fragments},
    {"history", "Old revisions are compacted.", "History takes memory and makes restarts slow.",
     "Set --auto-compaction-mode and --auto-compaction-retention, or call 'compaction' regularly.",
     look_history},
    {"disk-sync", "The logs are written quickly.",
     "Each write waits for a majority of these; slow ones cause elections.",
     "Give the log a disk of its own, an SSD that is not shared; look at iostat.", look_disk},
    {"disk-room", "There is room on the disks.", "The cluster refuses writes.",
     "Make room on the disk that has the data.", look_room},
    {"round-trip", "The members are close to each other.",
     "Each write waits for a round trip, and heartbeats that are late cause elections.",
     "Look at the network between them; --heartbeat-interval should be about a round trip, "
     "--election-timeout ten.",
     look_peers},
    {"proposals", "Writes go through.", "Clients see errors or wait.",
     "Look at the leader's disk and CPU, and at 'top' for who writes so much.", look_proposals},
    {"watchers", "All watchers keep up.",
     "They see changes late, and what they have not seen cannot be compacted away for them: they "
     "are ended then.",
     "See with 'top' which clients are slow, and whether they read what they watch.",
     look_watchers},
    {"leases", "The number of leases is moderate.",
     "Each is renewed every few seconds, all by the leader.",
     "Let clients share leases, or give them longer ones.", look_leases},
    {"open-files", "There is room for more connections.", "At the limit connections are refused.",
     "Raise LimitNOFILE of the service; look for clients that leave connections open.", look_files},
    {"metrics", "The metrics can be read.", "Half of these checks, and 'top', need them.",
     "Look at --listen-metrics-urls and at what is between; give an endpoint that has /metrics.",
     look_metrics},
    {"clocks", "The clocks agree.",
     "Certificates and tokens are judged by them, and logs cannot be compared.",
     "Run NTP or chrony on all machines.", look_clocks},
    {NULL},
};
