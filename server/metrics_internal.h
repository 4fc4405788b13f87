/* What the files of /metrics share: metrics_view.c gathers the numbers, metrics_process.c those
 * that the system has, metrics_table.c names them all, and metrics.c writes the page. */
#ifndef SERVER_METRICS_INTERNAL_H
#define SERVER_METRICS_INTERNAL_H

#include "server/metrics.h"

#include "server/node.h"

/* Upper bounds as labels, and what a sum is divided by: 10^9 for nanoseconds that are shown in
 * seconds. */
struct metric_bounds {
    const char *const *labels;
    uint32_t count;
    uint64_t unit;
};

/* What the kernel and the C library know of the process. */
struct process_view {
    uint64_t cpu_ns;
    uint64_t start_ns; /* since 1970 */
    uint64_t resident_bytes;
    uint64_t virtual_bytes;
    uint64_t virtual_max_bytes;
    uint64_t fds;
    uint64_t fds_max;
    uint64_t threads;
    uint64_t received_bytes; /* of the network namespace, as Go's client has it */
    uint64_t sent_bytes;
};
void metrics__look_at_process(struct process_view *ret);

/* All numbers, added up over the workers. */
struct metrics_view {
    struct node *node;
    const struct core_meters *core;
    const struct apply_meters *apply;
    const struct peers_meters *peers;
    const struct wal_meters *wal;
    const struct lsm_meters *lsm;
    struct worker_meters workers;
    struct grpc_method_stats *methods; /* METHODS of them */
    uint32_t methods_count;
    uint64_t client_received_bytes;
    uint64_t client_sent_bytes;
    struct core_status status;
    struct mvcc_stats mvcc;
    struct process_view process;

    uint64_t zero; /* of what etcd has and there is nothing of here */
    uint64_t has_leader;
    uint64_t is_leader;
    uint64_t is_learner;
    uint64_t quota_bytes;
    uint64_t db_bytes;
    uint64_t revision;
    uint64_t compact_revision;
    uint64_t auth_revision;
    uint64_t compacted_at_ns; /* since 1970; 0: never */
    uint64_t readers;
    uint64_t ranges;
    uint64_t puts;
    uint64_t deletes;
    uint64_t txns;
    uint64_t put_bytes;
    uint64_t slow_applies;
    uint64_t lacks_room;
    uint64_t differs;
    uint64_t differences;
    uint64_t damages;
    uint64_t calls_open;
    uint64_t in_flight;
    struct metric_hist empty;
};
struct metrics_view *metrics__view_new(struct node *n);
void metrics__view_free(struct metrics_view *v);

struct metrics_page {
    struct buf *out;
    const struct metrics_view *v;
    const struct metric_row *row;
};

enum metric_kind {
    METRIC_NUMBER,    /* a uint64_t of the view */
    METRIC_SECONDS,   /* the same in nanoseconds */
    METRIC_COUNTER,   /* a struct metric_counter */
    METRIC_HISTOGRAM, /* a struct metric_hist */
    METRIC_WRITTEN,   /* by a function: with labels */
};

struct metric_row {
    const char *name;
    const char *type;
    enum metric_kind kind;
    int base;  /* where the view has the pointer to what holds it; -1: the view itself does */
    size_t at; /* and where it is in there */
    const struct metric_bounds *bounds;
    void (*write)(struct metrics_page *p);
    const char *help;
};
extern const struct metric_row metrics__table[];
extern const uint32_t metrics__table_count;

/* A series of the page's row. `suffix` comes behind its name, "" or "_total" and the like;
 * `labels` is "" or a="b",c="d". */
void metrics__series(struct metrics_page *p, const char *suffix, const char *labels,
                     uint64_t value);
/* The same of nanoseconds, in seconds. */
void metrics__seconds(struct metrics_page *p, const char *labels, uint64_t ns);
void metrics__histogram(struct metrics_page *p, const char *labels, const struct metric_hist *h,
                        const struct metric_bounds *bounds);

/* The same of buckets that stand by themselves: one more than there are bounds. */
void metrics__buckets(struct metrics_page *p, const char *labels,
                      const struct metric_counter *buckets, const struct metric_counter *sum,
                      const struct metric_bounds *bounds);

/* The rows that metrics_labels.c writes. */
void metrics__write_grpc_started(struct metrics_page *p);
void metrics__write_grpc_handled(struct metrics_page *p);
void metrics__write_grpc_received(struct metrics_page *p);
void metrics__write_grpc_sent(struct metrics_page *p);
void metrics__write_grpc_handling(struct metrics_page *p);
void metrics__write_cluster_version(struct metrics_page *p);
void metrics__write_server_id(struct metrics_page *p);
void metrics__write_server_version(struct metrics_page *p);
void metrics__write_go_version(struct metrics_page *p);
void metrics__write_trivet_version(struct metrics_page *p);
void metrics__write_alarm_types(struct metrics_page *p);
void metrics__write_features(struct metrics_page *p);
void metrics__write_apply(struct metrics_page *p);
void metrics__write_request(struct metrics_page *p);
void metrics__write_range(struct metrics_page *p);
void metrics__write_client_requests(struct metrics_page *p);
void metrics__write_stream_failures(struct metrics_page *p);
void metrics__write_promote_failures(struct metrics_page *p);
void metrics__write_healthcheck(struct metrics_page *p);
void metrics__write_healthchecks(struct metrics_page *p);
void metrics__write_alarms(struct metrics_page *p);
void metrics__write_known_peers(struct metrics_page *p);
void metrics__write_active_peers(struct metrics_page *p);
void metrics__write_disconnected_peers(struct metrics_page *p);
void metrics__write_peer_sent_bytes(struct metrics_page *p);
void metrics__write_peer_received_bytes(struct metrics_page *p);
void metrics__write_peer_sent_failures(struct metrics_page *p);
void metrics__write_peer_received_failures(struct metrics_page *p);
void metrics__write_peer_round_trip(struct metrics_page *p);
void metrics__write_snapshot_send_failures(struct metrics_page *p);
void metrics__write_snapshot_send_inflights(struct metrics_page *p);
void metrics__write_snapshot_send_success(struct metrics_page *p);
void metrics__write_snapshot_send_duration(struct metrics_page *p);
void metrics__write_snapshot_receive_failures(struct metrics_page *p);
void metrics__write_snapshot_receive_inflights(struct metrics_page *p);
void metrics__write_snapshot_receive_success(struct metrics_page *p);
void metrics__write_snapshot_receive_duration(struct metrics_page *p);
void metrics__write_background_pauses(struct metrics_page *p);
void metrics__write_bulk_rest(struct metrics_page *p);
void metrics__write_scrapes(struct metrics_page *p);

extern const struct metric_bounds metrics__apply_bounds, metrics__request_bounds,
    metrics__round_trip_bounds, metrics__transfer_bounds;

#endif
