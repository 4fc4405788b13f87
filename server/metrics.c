/* See metrics.h: one function for each subject. */
#include "server/metrics.h"

#include "server/node.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 512 };

static void append(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void append(struct buf *out, const char *fmt, ...)
{
    char line[LINE_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    int size = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    ASSERT(size > 0 && (size_t)size < sizeof(line));
    (void)buf_append(out, line, (size_t)size); /* what does not fit is missing */
}

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    append(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void gauge(struct buf *out, const char *name, uint64_t value, const char *help)
{
    head(out, name, "gauge", help);
    append(out, "%s %" PRIu64 "\n", name, value);
}

static void counter(struct buf *out, const char *name, uint64_t value, const char *help)
{
    head(out, name, "counter", help);
    append(out, "%s %" PRIu64 "\n", name, value);
}

/* --- the parts --- */

static void write_server(const struct node *n, struct buf *out)
{
    struct core_status s;
    core_status(n->core, &s);
    gauge(out, "etcd_server_has_leader", s.leader != 0, "Whether or not a leader is known.");
    gauge(out, "etcd_server_is_leader", s.leader == n->member_id,
          "Whether or not this member leads.");
    gauge(out, "etcd_server_is_learner", s.standing == CORE_LEARNER,
          "Whether or not this member is a learner.");
    counter(out, "etcd_server_leader_changes_seen_total", s.leader_changes,
            "Leaders that this process has seen come.");
    gauge(out, "etcd_server_proposals_committed_total", s.commit_index,
          "The newest entry of the log that is committed.");
    gauge(out, "etcd_server_proposals_applied_total", s.applied_index,
          "The newest entry of the log that is applied.");
    gauge(out, "etcd_server_quota_backend_bytes", (uint64_t)n->config->quota_backend_bytes,
          "The size at which the store is full.");
    head(out, "etcd_server_id", "gauge", "This member's id, as a label.");
    append(out, "etcd_server_id{server_id=\"%" PRIx64 "\"} 1\n", n->member_id);
    head(out, "etcd_server_version", "gauge", "The version of etcd that is spoken.");
    append(out, "etcd_server_version{server_version=\"%s\"} 1\n", CONFIG_ETCD_VERSION);
    head(out, "trivet_version", "gauge", "The version of trivet.");
    append(out, "trivet_version{version=\"%s\"} 1\n", CONFIG_TRIVET_VERSION);
}

static void write_store(const struct node *n, struct buf *out)
{
    struct mvcc_stats s;
    mvcc_stats(n->mvcc, &s);
    gauge(out, "etcd_mvcc_db_total_size_in_bytes", node_db_size(n), "Bytes of the store.");
    gauge(out, "etcd_mvcc_db_total_size_in_use_in_bytes", node_db_size(n),
          "Bytes of the store that hold something.");
    gauge(out, "etcd_debugging_mvcc_keys_total", s.keys, "Keys that exist.");
    gauge(out, "trivet_mvcc_versions", s.versions, "Versions in memory, of deletions too.");
    gauge(out, "etcd_debugging_mvcc_current_revision", (uint64_t)mvcc_revision(n->mvcc),
          "The current revision.");
    gauge(out, "etcd_debugging_auth_revision", auth_revision(&n->applier.auth),
          "The current revision of users and roles.");
    int64_t compacted = mvcc_compacted(n->mvcc);
    gauge(out, "etcd_debugging_mvcc_compact_revision", compacted < 0 ? 0 : (uint64_t)compacted,
          "The revision of the last compaction.");
}

static void write_alarms(struct node *n, struct buf *out)
{
    struct alarms *a = &n->applier.alarms;
    head(out, "trivet_alarms", "gauge", "Whether an alarm of this type stands in the cluster.");
    append(out, "trivet_alarms{type=\"NOSPACE\"} %d\n", alarms_raised(a, ALARM_NOSPACE));
    append(out, "trivet_alarms{type=\"CORRUPT\"} %d\n", alarms_raised(a, ALARM_CORRUPT));
    gauge(out, "trivet_disk_lacks_room", core_lacks_room(n->core),
          "Whether this member refuses writes for want of room on its disks.");
    gauge(out, "trivet_member_differs", core_is_fenced(n->core),
          "Whether this member's contents differ from the majority's: it serves nobody then.");
    counter(out, "trivet_member_differences_total", n->history->differences,
            "Times that this member's contents differed, since the process began.");
    counter(out, "trivet_member_damages_total", n->history->damages,
            "Times that this member's data was set aside, since the process began.");
}

static void write_process(struct buf *out)
{
    struct rusage r;
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f != NULL) {
        if (fscanf(f, "%*u %llu", &pages) != 1)
            pages = 0;
        fclose(f);
    }
    gauge(out, "process_resident_memory_bytes", pages * (uint64_t)sysconf(_SC_PAGESIZE),
          "Resident memory.");
    if (getrusage(RUSAGE_SELF, &r) != 0)
        return;
    head(out, "process_cpu_seconds_total", "counter", "Time on the CPUs.");
    append(out, "process_cpu_seconds_total %.6f\n",
           (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
               (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6);
}

void metrics_write(struct node *n, struct buf *out)
{
    write_server(n, out);
    write_store(n, out);
    write_alarms(n, out);
    write_process(out);
}
