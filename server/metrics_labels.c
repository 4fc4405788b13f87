/* The families with labels. Series that can be there and have not been counted are left out where
 * etcd's are; those of gRPC are all there from the beginning. */
#include "server/metrics_internal.h"

#include "server/services.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LABELS_BYTES_MAX = 512 };

static void say(char labels[LABELS_BYTES_MAX], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void say(char labels[LABELS_BYTES_MAX], const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int size = vsnprintf(labels, LABELS_BYTES_MAX, fmt, args);
    va_end(args);
    ASSERT(size >= 0 && size < LABELS_BYTES_MAX);
}

/* --- gRPC --- */

static const char *const code_names[GRPC_CODES_COUNT] = {
    "OK",       "Canceled",        "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",   "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",      "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated",
};

static void say_method(char labels[LABELS_BYTES_MAX], const struct grpc_method *m)
{
    const char *slash = strrchr(m->path, '/');
    const char *type = m->client_streaming && m->server_streaming ? "bidi_stream"
                       : m->client_streaming                      ? "client_stream"
                       : m->server_streaming                      ? "server_stream"
                                                                  : "unary";
    say(labels, "grpc_method=\"%s\",grpc_service=\"%.*s\",grpc_type=\"%s\"", slash + 1,
        (int)(slash - m->path - 1), m->path + 1, type);
}

/* Those of Lock and Election etcd shows when they have been used. */
static bool is_shown(const struct metrics_page *p, uint32_t at)
{
    return strncmp(services_method(at)->path, "/v3", 3) != 0 ||
           metric_read(&p->v->methods[at].started) != 0;
}

/* A counter of each method; `at` is its place in struct grpc_method_stats. */
static void write_methods(struct metrics_page *p, size_t at)
{
    char labels[LABELS_BYTES_MAX];
    for (uint32_t i = 0; i < p->v->methods_count; i++) {
        if (!is_shown(p, i))
            continue;
        say_method(labels, services_method(i));
        const char *stats = (const char *)&p->v->methods[i];
        metrics__series(p, "", labels, metric_read((const struct metric_counter *)(stats + at)));
    }
}

void metrics__write_grpc_started(struct metrics_page *p)
{
    write_methods(p, offsetof(struct grpc_method_stats, started));
}

void metrics__write_grpc_received(struct metrics_page *p)
{
    write_methods(p, offsetof(struct grpc_method_stats, messages_received));
}

void metrics__write_grpc_sent(struct metrics_page *p)
{
    write_methods(p, offsetof(struct grpc_method_stats, messages_sent));
}

void metrics__write_grpc_handled(struct metrics_page *p)
{
    char method[LABELS_BYTES_MAX], labels[2 * LABELS_BYTES_MAX];
    for (uint32_t i = 0; i < p->v->methods_count; i++) {
        if (!is_shown(p, i))
            continue;
        say_method(method, services_method(i));
        for (int code = 0; code < GRPC_CODES_COUNT; code++) {
            (void)snprintf(labels, sizeof(labels), "grpc_code=\"%s\",%s", code_names[code], method);
            metrics__series(p, "", labels, metric_read(&p->v->methods[i].handled[code]));
        }
    }
}

void metrics__write_grpc_handling(struct metrics_page *p)
{
    static const char *const bounds_labels[GRPC_HANDLING_BOUNDS_COUNT] = {
        "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10"};
    static const struct metric_bounds bounds = {bounds_labels, GRPC_HANDLING_BOUNDS_COUNT,
                                                1000000000};
    char labels[LABELS_BYTES_MAX];
    if (strcmp(p->v->node->config->metrics, "extensive") != 0)
        return;
    for (uint32_t i = 0; i < p->v->methods_count; i++) {
        if (!is_shown(p, i))
            continue;
        say_method(labels, services_method(i));
        metrics__buckets(p, labels, p->v->methods[i].handling, &p->v->methods[i].handling_ns,
                         &bounds);
    }
}

/* --- who we are --- */

void metrics__write_cluster_version(struct metrics_page *p)
{
    struct versions_now now;
    char version[VERSIONS_TEXT_BYTES], labels[LABELS_BYTES_MAX];
    if (!p->v->has_leader)
        return; /* not known yet */
    versions_now(&p->v->node->applier.versions, &now);
    versions_short_text(now.minor, version);
    say(labels, "cluster_version=\"%s\"", version);
    metrics__series(p, "", labels, 1);
}

void metrics__write_server_id(struct metrics_page *p)
{
    char labels[LABELS_BYTES_MAX];
    say(labels, "server_id=\"%" PRIx64 "\"", p->v->node->member_id);
    metrics__series(p, "", labels, 1);
}

void metrics__write_server_version(struct metrics_page *p)
{
    metrics__series(p, "", "server_version=\"" CONFIG_ETCD_VERSION "\"", 1);
}

void metrics__write_go_version(struct metrics_page *p)
{
    metrics__series(p, "", "server_go_version=\"none\"", 1);
}

void metrics__write_trivet_version(struct metrics_page *p)
{
    metrics__series(p, "", "version=\"" CONFIG_TRIVET_VERSION "\"", 1);
}

/* As --feature-gates says, whatever that means here. */
void metrics__write_features(struct metrics_page *p)
{
    const struct features *f = &p->v->node->config->features;
    metrics__series(p, "", "name=\"AllAlpha\",stage=\"ALPHA\"", 0);
    metrics__series(p, "", "name=\"AllBeta\",stage=\"BETA\"", 0);
    for (enum feature which = 0; which < FEATURES_COUNT; which++) {
        char labels[96];
        snprintf(labels, sizeof(labels), "name=\"%s\",stage=\"%s\"", feature_name(which),
                 feature_stage(which) == FEATURE_ALPHA ? "ALPHA" : "BETA");
        metrics__series(p, "", labels, f->enabled[which]);
    }
}

/* --- operations --- */

static uint64_t hist_count(const struct metric_hist *h)
{
    uint64_t count = 0;
    for (int i = 0; i <= METRIC_BUCKETS_MAX; i++)
        count += metric_read(&h->buckets[i]);
    return count;
}

static void write_if_counted(struct metrics_page *p, const char *labels,
                             const struct metric_hist *h, const struct metric_bounds *bounds)
{
    if (hist_count(h) > 0)
        metrics__histogram(p, labels, h, bounds);
}

void metrics__write_apply(struct metrics_page *p)
{
    char labels[LABELS_BYTES_MAX];
    for (int op = 0; op < METER_OPS_COUNT; op++)
        for (int ok = 0; ok < 2; ok++) {
            say(labels, "op=\"%s\",success=\"%s\",version=\"v3\"",
                op == METER_AUTH_STATUS ? "unknown" : meter_op_name(op), /* as in etcd */
                ok ? "true" : "false");
            write_if_counted(p, labels, &p->v->core->apply[op][ok], &metrics__apply_bounds);
        }
}

void metrics__write_request(struct metrics_page *p)
{
    char labels[LABELS_BYTES_MAX];
    for (int op = 0; op < METER_OPS_COUNT; op++)
        for (int ok = 0; ok < 2; ok++) {
            say(labels, "success=\"%s\",type=\"%s\"", ok ? "true" : "false", meter_op_name(op));
            write_if_counted(p, labels, &p->v->workers.request[op][ok], &metrics__request_bounds);
        }
}

void metrics__write_range(struct metrics_page *p)
{
    write_if_counted(p, "success=\"false\"", &p->v->workers.range[0], &metrics__apply_bounds);
    write_if_counted(p, "success=\"true\"", &p->v->workers.range[1], &metrics__apply_bounds);
}

void metrics__write_client_requests(struct metrics_page *p)
{
    char labels[LABELS_BYTES_MAX];
    for (int i = 0; i < METER_VERSIONS_MAX; i++) {
        const struct meter_version *v = &p->v->workers.versions[i];
        uint64_t unary = metric_read(&v->unary), streams = metric_read(&v->streams);
        say(labels, "client_api_version=\"%s\",type=\"stream\"", v->name);
        if (streams > 0)
            metrics__series(p, "", labels, streams);
        say(labels, "client_api_version=\"%s\",type=\"unary\"", v->name);
        if (unary > 0)
            metrics__series(p, "", labels, unary);
    }
}

static void write_if_more(struct metrics_page *p, const char *labels,
                          const struct metric_counter *c)
{
    if (metric_read(c) > 0)
        metrics__series(p, "", labels, metric_read(c));
}

void metrics__write_stream_failures(struct metrics_page *p)
{
    write_if_more(p, "API=\"lease-keepalive\",Type=\"receive\"",
                  &p->v->workers.lease_receive_failures);
    write_if_more(p, "API=\"watch\",Type=\"receive\"", &p->v->workers.watch_receive_failures);
}

void metrics__write_promote_failures(struct metrics_page *p)
{
    char labels[LABELS_BYTES_MAX];
    for (int i = 0; i < METER_REASONS_MAX; i++) {
        const struct meter_reason *r = &p->v->workers.promote_failures[i];
        say(labels, "Reason=\"%s\"", r->text);
        write_if_more(p, labels, &r->count);
    }
}

/* --- health --- */

static const char *const check_labels[METER_CHECKS_COUNT] = {
    [METER_LIVEZ_SERIALIZABLE_READ] = "name=\"serializable_read\",type=\"livez\"",
    [METER_READYZ_DATA_CORRUPTION] = "name=\"data_corruption\",type=\"readyz\"",
    [METER_READYZ_SERIALIZABLE_READ] = "name=\"serializable_read\",type=\"readyz\"",
    [METER_READYZ_LINEARIZABLE_READ] = "name=\"linearizable_read\",type=\"readyz\"",
    [METER_READYZ_NON_LEARNER] = "name=\"non_learner\",type=\"readyz\"",
};

void metrics__write_healthcheck(struct metrics_page *p)
{
    for (int i = 0; i < METER_CHECKS_COUNT; i++)
        if (metric_read(&p->v->workers.checks_last_ns[i]) != 0)
            metrics__series(p, "", check_labels[i], metric_read(&p->v->workers.checks_last_ok[i]));
}

void metrics__write_healthchecks(struct metrics_page *p)
{
    char labels[LABELS_BYTES_MAX];
    for (int i = 0; i < METER_CHECKS_COUNT; i++)
        for (int ok = 0; ok < 2; ok++) {
            const char *comma = strchr(check_labels[i], ',');
            say(labels, "%.*s,status=\"%s\"%s", (int)(comma - check_labels[i]), check_labels[i],
                ok ? "success" : "error", comma);
            write_if_more(p, labels, &p->v->workers.checks[i][ok]);
        }
}

void metrics__write_alarms(struct metrics_page *p)
{
    static const enum alarm_type types[] = {ALARM_NOSPACE, ALARM_CORRUPT};
    enum { IDS_MAX = 64 };
    uint64_t ids[IDS_MAX];
    char labels[LABELS_BYTES_MAX];
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        uint32_t count = alarms_members(&p->v->node->applier.alarms, types[t], ~0u, ids, IDS_MAX);
        for (uint32_t i = 0; i < count; i++) {
            say(labels, "alarm_type=\"%s\",server_id=\"%" PRIx64 "\"", alarm_type_name(types[t]),
                ids[i]);
            metrics__series(p, "", labels, 1);
        }
    }
}

void metrics__write_alarm_types(struct metrics_page *p)
{
    struct alarms *a = &p->v->node->applier.alarms;
    metrics__series(p, "", "type=\"NOSPACE\"", alarms_raised(a, ALARM_NOSPACE));
    metrics__series(p, "", "type=\"CORRUPT\"", alarms_raised(a, ALARM_CORRUPT));
}

/* --- members --- */

typedef void (*peer_writer)(struct metrics_page *p, const char *labels,
                            const struct peer_meters *m);

static uint64_t peer_id(const struct peer_meters *m)
{
    return atomic_load_explicit(&m->id.value, memory_order_acquire);
}

/* Of each member but ourselves that was ever connected or counted. `direction`: "To" or "From"; or
 * NULL, for both ends by name. */
static void write_peers(struct metrics_page *p, const char *direction, peer_writer write)
{
    char labels[LABELS_BYTES_MAX];
    for (int i = 0; i < METER_PEERS_MAX; i++) {
        const struct peer_meters *m = &p->v->peers->items[i];
        uint64_t id = peer_id(m), own = p->v->node->member_id;
        if (id == 0)
            return;
        if (id == own && direction != NULL)
            continue;
        if (direction == NULL)
            say(labels, "Local=\"%" PRIx64 "\",Remote=\"%" PRIx64 "\"", own, id);
        else
            say(labels, "%s=\"%" PRIx64 "\"", direction, id);
        write(p, labels, m);
    }
}

static void write_known(struct metrics_page *p, const char *labels, const struct peer_meters *m)
{
    if (metric_read(&m->known) != 0)
        metrics__series(p, "", labels, 1);
}

static void write_active(struct metrics_page *p, const char *labels, const struct peer_meters *m)
{
    if (metric_read(&m->was_active) != 0)
        metrics__series(p, "", labels, metric_read(&m->active));
}

static void write_round_trip(struct metrics_page *p, const char *labels,
                             const struct peer_meters *m)
{
    if (metric_read(&m->known) != 0)
        metrics__histogram(p, labels, &m->round_trip, &metrics__round_trip_bounds);
}

static void write_snapshot_send(struct metrics_page *p, const char *labels,
                                const struct peer_meters *m)
{
    write_if_counted(p, labels, &m->snapshot_send, &metrics__transfer_bounds);
}

static void write_snapshot_receive(struct metrics_page *p, const char *labels,
                                   const struct peer_meters *m)
{
    write_if_counted(p, labels, &m->snapshot_receive, &metrics__transfer_bounds);
}

static void write_send_inflights(struct metrics_page *p, const char *labels,
                                 const struct peer_meters *m)
{
    if (metric_read(&m->snapshots_sent) + metric_read(&m->snapshots_send_failures) +
            metric_read(&m->snapshots_sending) >
        0)
        metrics__series(p, "", labels, metric_read(&m->snapshots_sending));
}

static void write_receive_inflights(struct metrics_page *p, const char *labels,
                                    const struct peer_meters *m)
{
    if (metric_read(&m->snapshots_received) + metric_read(&m->snapshots_receive_failures) +
            metric_read(&m->snapshots_receiving) >
        0)
        metrics__series(p, "", labels, metric_read(&m->snapshots_receiving));
}

#define PEER_COUNTER(row, direction, member)                               \
    static void write_##member(struct metrics_page *p, const char *labels, \
                               const struct peer_meters *m)                \
    {                                                                      \
        write_if_more(p, labels, &m->member);                              \
    }                                                                      \
    void metrics__write_##row(struct metrics_page *p)                      \
    {                                                                      \
        write_peers(p, direction, write_##member);                         \
    }

PEER_COUNTER(disconnected_peers, NULL, disconnected)
PEER_COUNTER(peer_sent_bytes, "To", sent_bytes)
PEER_COUNTER(peer_received_bytes, "From", received_bytes)
PEER_COUNTER(peer_sent_failures, "To", sent_failures)
PEER_COUNTER(peer_received_failures, "From", received_failures)
PEER_COUNTER(snapshot_send_failures, "To", snapshots_send_failures)
PEER_COUNTER(snapshot_send_success, "To", snapshots_sent)
PEER_COUNTER(snapshot_receive_failures, "From", snapshots_receive_failures)
PEER_COUNTER(snapshot_receive_success, "From", snapshots_received)

void metrics__write_known_peers(struct metrics_page *p)
{
    write_peers(p, NULL, write_known);
}

void metrics__write_active_peers(struct metrics_page *p)
{
    write_peers(p, NULL, write_active);
}

void metrics__write_peer_round_trip(struct metrics_page *p)
{
    write_peers(p, "To", write_round_trip);
}

void metrics__write_snapshot_send_inflights(struct metrics_page *p)
{
    write_peers(p, "To", write_send_inflights);
}

void metrics__write_snapshot_send_duration(struct metrics_page *p)
{
    write_peers(p, "To", write_snapshot_send);
}

void metrics__write_snapshot_receive_inflights(struct metrics_page *p)
{
    write_peers(p, "From", write_receive_inflights);
}

void metrics__write_snapshot_receive_duration(struct metrics_page *p)
{
    write_peers(p, "From", write_snapshot_receive);
}

/* --- the process --- */

void metrics__write_background_pauses(struct metrics_page *p)
{
    const struct metrics_view *v = p->v;
    metrics__seconds(p, "thread=\"snapshot\"",
                     metric_read(&v->peers->snapshot_pause) +
                         metric_read(&v->workers.snapshot_pause));
    metrics__seconds(p, "thread=\"tidy\"", metric_read(&v->lsm->tidy_pause));
}

void metrics__write_bulk_rest(struct metrics_page *p)
{
    metrics__seconds(p, "", metric_read(&p->v->workers.bulk_rest));
}

/* --- the page itself --- */

void metrics__write_scrapes(struct metrics_page *p)
{
    metrics__series(p, "", "code=\"200\"", metric_read(&p->v->workers.scrapes));
    metrics__series(p, "", "code=\"500\"", 0);
    metrics__series(p, "", "code=\"503\"", 0);
}
