/* The numbers of a moment: what each thread counted, added up. */
#include "server/metrics_internal.h"

#include "server/services.h"

#include "base/clock.h"
#include "base/mem.h"

/* Structs of nothing but counters are added as rows of them. */
_Static_assert(sizeof(struct metric_counter) == sizeof(uint64_t), "a counter is its value");
_Static_assert(sizeof(struct metric_hist) % sizeof(struct metric_counter) == 0, "counters alone");
_Static_assert(sizeof(struct grpc_method_stats) % sizeof(struct metric_counter) == 0,
               "counters alone");

static void add_counters(void *into, const void *from, size_t size)
{
    struct metric_counter *to = into;
    const struct metric_counter *c = from;
    for (size_t i = 0; i < size / sizeof(*c); i++)
        metric_add(&to[i], metric_read(&c[i]));
}

#define ADD(into, from, member) \
    add_counters(&(into)->member, &(from)->member, sizeof((into)->member))

/* By name: each worker has met the versions in another order. */
static void add_versions(struct worker_meters *into, const struct worker_meters *from)
{
    for (int i = 0; i < METER_VERSIONS_MAX; i++) {
        const struct meter_version *v = &from->versions[i];
        if (atomic_load_explicit(&v->used.value, memory_order_acquire) == 0)
            return;
        int at = 0;
        while (at < METER_VERSIONS_MAX - 1 && metric_read(&into->versions[at].used) != 0 &&
               strcmp(into->versions[at].name, v->name) != 0)
            at++;
        struct meter_version *to = &into->versions[at];
        const char *name = at == METER_VERSIONS_MAX - 1 ? "other" : v->name;
        memcpy(to->name, name, strlen(name) + 1);
        metric_set(&to->used, 1);
        ADD(to, v, unary);
        ADD(to, v, streams);
    }
}

static void add_reasons(struct worker_meters *into, const struct worker_meters *from)
{
    for (int i = 0; i < METER_REASONS_MAX; i++) {
        const struct meter_reason *r = &from->promote_failures[i];
        if (atomic_load_explicit(&r->count.value, memory_order_acquire) == 0)
            return;
        int at = 0;
        while (at < METER_REASONS_MAX - 1 && metric_read(&into->promote_failures[at].count) != 0 &&
               strcmp(into->promote_failures[at].text, r->text) != 0)
            at++;
        struct meter_reason *to = &into->promote_failures[at];
        const char *text = at == METER_REASONS_MAX - 1 ? "other" : r->text;
        memcpy(to->text, text, strlen(text) + 1);
        ADD(to, r, count);
    }
}

/* The last outcome of all. */
static void add_checks(struct worker_meters *into, const struct worker_meters *from)
{
    for (int i = 0; i < METER_CHECKS_COUNT; i++) {
        uint64_t at_ns = metric_read(&from->checks_last_ns[i]);
        if (at_ns <= metric_read(&into->checks_last_ns[i]))
            continue;
        metric_set(&into->checks_last_ns[i], at_ns);
        metric_set(&into->checks_last_ok[i], metric_read(&from->checks_last_ok[i]));
    }
}

static void add_worker(struct metrics_view *v, const struct worker *w)
{
    struct worker_meters *into = &v->workers;
    const struct worker_meters *from = &w->meters;
    ADD(into, from, kv);
    ADD(into, from, request);
    ADD(into, from, range);
    ADD(into, from, slow_ranges);
    add_versions(into, from);
    ADD(into, from, watch);
    ADD(into, from, watch_receive_failures);
    ADD(into, from, lease_receive_failures);
    ADD(into, from, learners_promoted);
    add_reasons(into, from);
    ADD(into, from, hash);
    ADD(into, from, hash_rev);
    ADD(into, from, defrag);
    ADD(into, from, snapshot);
    ADD(into, from, snapshot_pause);
    ADD(into, from, bulk_rest);
    ADD(into, from, health_success);
    ADD(into, from, health_failures);
    ADD(into, from, checks);
    add_checks(into, from);
    ADD(into, from, scrapes);
    ADD(into, from, spans_sent);
    ADD(into, from, spans_dropped);
    v->client_received_bytes += metric_read(&w->message_bytes.received);
    v->client_sent_bytes += metric_read(&w->message_bytes.sent);
    add_counters(v->methods, w->method_stats, v->methods_count * sizeof(*v->methods));
}

static void look_at_calls(struct metrics_view *v)
{
    for (uint32_t i = 0; i < v->methods_count; i++) {
        v->calls_open += metric_read(&v->methods[i].started);
        for (int code = 0; code < GRPC_CODES_COUNT; code++)
            v->calls_open -= metric_read(&v->methods[i].handled[code]);
    }
}

static void look_at_store(struct metrics_view *v)
{
    struct node *n = v->node;
    mvcc_stats(n->mvcc, &v->mvcc);
    v->db_bytes = node_db_size(n);
    v->revision = (uint64_t)mvcc_revision(n->mvcc);
    int64_t compacted = mvcc_compacted(n->mvcc);
    v->compact_revision = compacted < 0 ? 0 : (uint64_t)compacted;
    v->auth_revision = auth_revision(&n->applier.auth);
    v->readers = mvcc_pins_count(n->mvcc);
    const struct kv_meters *a = &v->apply->kv, *w = &v->workers.kv;
    v->ranges = metric_read(&a->ranges) + metric_read(&w->ranges);
    v->puts = metric_read(&a->puts);
    v->deletes = metric_read(&a->deletes);
    v->txns = metric_read(&a->txns) + metric_read(&w->txns);
    v->put_bytes = metric_read(&a->put_bytes);
    uint64_t at_ns = metric_read(&v->core->compacted_at_ns);
    if (at_ns != 0)
        v->compacted_at_ns = (uint64_t)clock_wall_us() * 1000 - (clock_mono_ns() - at_ns);
}

static void look_at_member(struct metrics_view *v)
{
    struct node *n = v->node;
    core_status(n->core, &v->status);
    v->has_leader = v->status.leader != 0;
    v->is_leader = v->status.leader == n->member_id;
    v->is_learner = v->status.standing == CORE_LEARNER;
    v->quota_bytes = n->config->quota_backend_bytes;
    v->lacks_room = core_lacks_room(n->core);
    v->differs = core_is_fenced(n->core);
    v->differences = n->history->differences;
    v->damages = n->history->damages;
    v->slow_applies = metric_read(&v->core->slow_applies) + metric_read(&v->workers.slow_ranges);
}

struct metrics_view *metrics__view_new(struct node *n)
{
    struct metrics_view *v = mem_alloc_zero(sizeof(*v));
    v->node = n;
    v->in_flight = 1;
    v->core = core_meters(n->core);
    v->apply = &n->applier.meters;
    v->peers = &n->peers_meters;
    v->wal = &n->wal_meters;
    v->lsm = &n->lsm_meters;
    v->methods_count = services_count();
    v->methods = mem_alloc_zero(v->methods_count * sizeof(*v->methods));
    for (uint32_t i = 0; i < n->workers_count; i++)
        add_worker(v, &n->workers[i]);
    look_at_calls(v);
    look_at_store(v);
    look_at_member(v);
    metrics__look_at_process(&v->process);
    return v;
}

void metrics__view_free(struct metrics_view *v)
{
    mem_free(v->methods);
    mem_free(v);
}
