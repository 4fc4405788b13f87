/* Whose operation is due when, and which object it is about. */
#include "kubernetes.h"

#include "kube.h"

#include "base/assert.h"
#include "base/mem.h"

enum kube_role {
    ROLE_NODE_LEASE,
    ROLE_NODE,
    ROLE_ELECTION,
    ROLE_IDENTITY,
    ROLE_POD,
    ROLE_EVENT,
    ROLE_OBJECT, /* any node or pod */
    ROLE_SERVER,
    ROLE_CACHE,    /* of a server */
    ROLE_RESOURCE, /* of a server, the idle ones too */
};

/* docs/benchmark.md has the sources of these. */
static const double election_every_s = 2;
static const double identity_every_s = 10;
static const double event_lease_reused_s = 60;
static const double event_lease_reused_part = 0.05;
static const double event_lease_objects_max = 1000;
static const double events_of_pod = 5;

/* A pod's life: when each step comes after the creation, or before the deletion, in seconds. */
static const double bind_after_s = 0.1;
static const double pending_after_s = 0.5;
static const double running_after_s = 2.5;
static const double terminate_before_s = 2;
static const double terminated_before_s = 0.3;

enum { RING_SLACK = 4096 };

/* --- who belongs to whom --- */

uint32_t kube_server_number(const struct kube *k, uint32_t server)
{
    return k->part + server * k->o->parts;
}

uint32_t kube_server_of_node(const struct kube *k, uint32_t node)
{
    return k->nodes[node] % k->o->kubernetes.api_servers / k->o->parts;
}

uint32_t kube_resources_count(const struct bench_options *o)
{
    return KUBE_RESOURCES_COUNT + o->kubernetes.idle_watches;
}

struct grpc_channel *kube_channel(const struct kube *k, uint32_t server, uint32_t resource)
{
    return k->worker->channels[server * kube_resources_count(k->o) + resource];
}

uint32_t kube_channels_count(const struct worker *w)
{
    return w->kube->servers_count * kube_resources_count(w->run->o);
}

uint32_t kube_slots_count(const struct worker *w)
{
    return w->kube->servers_count * KUBE_RESOURCES_COUNT * w->run->o->streams;
}

/* --- streams --- */

static struct kube_stream *add_stream(struct kube *k, enum op_kind kind, enum kube_role role,
                                      double per_second)
{
    static struct kube_stream unused;
    if (per_second <= 0)
        return &unused;
    ASSERT(k->streams_count < KUBE_STREAMS_MAX);
    struct kube_stream *stream = &k->streams[k->streams_count++];
    *stream = (struct kube_stream){.kind = kind, .role = role, .period_ns = 1e9 / per_second};
    /* Not all kinds, and not all workers, at the same moment. */
    double phase = (double)(k->streams_count * k->o->parts + k->part) /
                   (double)((KUBE_STREAMS_MAX + 1) * k->o->parts);
    stream->phase_ns = stream->period_ns * phase;
    return stream;
}

/* At the rate of the churn from the beginning: what precedes pod number 0 of the run is done to
 * pods of the population. */
static void add_pod_streams(struct kube *k, double churn)
{
    uint64_t alive = k->pods_count;
    add_stream(k, OP_POD_CREATE, ROLE_POD, churn)->first = alive;
    add_stream(k, OP_POD_BIND, ROLE_POD, churn)->first =
        alive - 1 - (uint64_t)(bind_after_s * churn);
    add_stream(k, OP_POD_STATUS, ROLE_POD, churn)->first =
        alive - 1 - (uint64_t)(pending_after_s * churn);
    add_stream(k, OP_POD_STATUS, ROLE_POD, churn)->first =
        alive - 1 - (uint64_t)(running_after_s * churn);
    add_stream(k, OP_POD_TERMINATE, ROLE_POD, churn)->first =
        1 + (uint64_t)(terminate_before_s * churn);
    add_stream(k, OP_POD_STATUS, ROLE_POD, churn)->first =
        1 + (uint64_t)(terminated_before_s * churn);
    add_stream(k, OP_POD_DELETE, ROLE_POD, churn)->first = 0;
    add_stream(k, OP_EVENT_CREATE, ROLE_EVENT, churn * events_of_pod);
}

/* One for a minute, or for so many objects. */
static double event_leases_per_second(const struct kube *k, double events_per_second)
{
    double reused_s = event_lease_reused_part * (double)k->o->kubernetes.event_ttl_s;
    if (reused_s > event_lease_reused_s)
        reused_s = event_lease_reused_s;
    double by_time = reused_s >= 1 ? k->servers_count / reused_s : k->servers_count;
    double by_objects = events_per_second / event_lease_objects_max;
    if (events_per_second <= 0)
        return 0;
    return by_objects > by_time ? by_objects : by_time;
}

static void add_streams(struct kube *k)
{
    const struct bench_kubernetes *o = &k->o->kubernetes;
    double servers = k->servers_count;
    double servers_share = servers / o->api_servers;
    double churn = o->pod_churn * k->nodes_count / o->nodes;
    add_stream(k, OP_NODE_LEASE, ROLE_NODE_LEASE, k->nodes_count / o->lease_every_s);
    add_stream(k, OP_NODE_STATUS, ROLE_NODE, k->nodes_count / o->status_every_s);
    if (k->part == 0)
        add_stream(k, OP_SYSTEM_LEASE, ROLE_ELECTION, KUBE_ELECTIONS_COUNT / election_every_s);
    add_stream(k, OP_SYSTEM_LEASE, ROLE_IDENTITY, servers / identity_every_s);
    if (churn > 0)
        add_pod_streams(k, churn);
    add_stream(k, OP_EVENT_LEASE, ROLE_SERVER, event_leases_per_second(k, churn * events_of_pod));
    add_stream(k, OP_OBJECT_GET, ROLE_OBJECT, o->gets * servers_share);
    add_stream(k, OP_CONSISTENT_READ, ROLE_CACHE, o->reads * servers_share);
    add_stream(k, OP_COUNT, ROLE_RESOURCE, servers * kube_resources_count(k->o) / o->count_every_s);
    if (o->relist_every_s > 0)
        add_stream(k, OP_RELIST, ROLE_CACHE, servers / o->relist_every_s);
    if (o->compact_every_s > 0)
        add_stream(k, OP_COMPACT_TRY, ROLE_SERVER, servers / o->compact_every_s)->phase_ns +=
            o->compact_every_s * 1e9;
}

struct kube *kube_new(const struct bench_options *o, uint32_t part)
{
    struct kube *k = mem_alloc_zero(sizeof(*k));
    const struct bench_kubernetes *kube = &o->kubernetes;
    k->o = o;
    k->part = part;
    k->servers_count = kube->api_servers / o->parts + (part < kube->api_servers % o->parts);
    k->nodes = mem_alloc(kube->nodes * sizeof(*k->nodes));
    for (uint32_t node = 0; node < kube->nodes; node++)
        if (node % kube->api_servers % o->parts == part)
            k->nodes[k->nodes_count++] = node;
    k->pods_count = (uint64_t)k->nodes_count * kube->pods_per_node;
    k->pods_ring = k->pods_count + RING_SLACK;
    k->identities_at = 2 * k->nodes_count + KUBE_ELECTIONS_COUNT;
    k->pods_at = k->identities_at + k->servers_count;
    k->objects_count = k->pods_at + (uint32_t)k->pods_ring;
    k->objects = mem_alloc_zero(k->objects_count * sizeof(*k->objects));
    k->event_leases = mem_alloc_zero(k->servers_count * sizeof(*k->event_leases));
    k->compactors = mem_alloc_zero(k->servers_count * sizeof(*k->compactors));
    list_init(&k->blocked);
    add_streams(k);
    return k;
}

void kube_free(struct kube *k)
{
    mem_free(k->nodes);
    mem_free(k->objects);
    mem_free(k->event_leases);
    mem_free(k->compactors);
    mem_free(k->watches);
    mem_free(k);
}

/* --- the schedule --- */

static uint64_t due(const struct kube *k, const struct kube_stream *stream)
{
    double at = stream->phase_ns + (double)stream->next * stream->period_ns;
    return k->worker->run->start_ns + (uint64_t)at;
}

static struct kube_stream *earliest(struct kube *k)
{
    struct kube_stream *first = &k->streams[0];
    for (uint32_t i = 1; i < k->streams_count; i++)
        if (due(k, &k->streams[i]) < due(k, first))
            first = &k->streams[i];
    return first;
}

uint64_t kube_next_due(const struct worker *w)
{
    return due(w->kube, earliest(w->kube));
}

uint64_t kube_due_before_end(const struct worker *w)
{
    uint64_t end_ns = w->run->end_ns;
    uint64_t count = 0;
    for (uint32_t i = 0; i < w->kube->streams_count; i++) {
        struct kube_stream rest = w->kube->streams[i];
        for (; due(w->kube, &rest) < end_ns; rest.next++)
            count++;
    }
    return count;
}

static void choose_node(struct kube *k, struct slot *s, uint64_t number, bool lease)
{
    uint32_t node = (uint32_t)(number % k->nodes_count);
    s->object = lease ? node : k->nodes_count + node;
    s->server = kube_server_of_node(k, node);
    s->resource = lease ? KUBE_LEASES : KUBE_NODES;
}

static void choose_pod(struct kube *k, struct slot *s, uint64_t number)
{
    s->key = number;
    s->object = k->pods_at + (uint32_t)(number % k->pods_ring);
    s->server = kube_server_of_node(k, (uint32_t)(number % k->nodes_count));
    s->resource = KUBE_PODS;
}

/* Read without waiting for anybody who writes it. A pod in the midst of the living is still there.
 */
static void choose_any(struct kube *k, struct slot *s)
{
    struct rng *rng = &k->worker->source.rng;
    uint64_t deleted = 0;
    for (uint32_t i = 0; i < k->streams_count; i++)
        if (k->streams[i].kind == OP_POD_DELETE)
            deleted = k->streams[i].next;
    if (rng_below(rng, 2) == 0)
        choose_node(k, s, rng_below(rng, k->nodes_count), false);
    else
        choose_pod(k, s, deleted + k->pods_count / 4 + rng_below(rng, k->pods_count / 2 + 1));
}

static void choose_for(struct kube *k, struct slot *s, const struct kube_stream *stream)
{
    uint64_t number = stream->next;
    uint32_t turn = (uint32_t)(number / k->servers_count);
    s->server = (uint32_t)(number % k->servers_count);
    switch ((enum kube_role)stream->role) {
    case ROLE_NODE_LEASE:
        choose_node(k, s, number, true);
        break;
    case ROLE_NODE:
        choose_node(k, s, number, false);
        break;
    case ROLE_ELECTION:
        s->object = 2 * k->nodes_count + (uint32_t)(number % KUBE_ELECTIONS_COUNT);
        s->server = 0;
        s->resource = KUBE_LEASES;
        break;
    case ROLE_IDENTITY:
        s->object = k->identities_at + s->server;
        s->resource = KUBE_LEASES;
        break;
    case ROLE_POD:
        choose_pod(k, s, stream->first + number);
        break;
    case ROLE_EVENT:
        s->key = number;
        s->resource = KUBE_EVENTS;
        break;
    case ROLE_OBJECT:
        choose_any(k, s);
        break;
    case ROLE_SERVER:
        s->resource = KUBE_EVENTS;
        break;
    case ROLE_CACHE:
        s->resource = turn % KUBE_CACHED_COUNT;
        break;
    case ROLE_RESOURCE:
        s->resource = turn % kube_resources_count(k->o);
        break;
    }
}

void kube_choose(struct slot *s)
{
    struct kube *k = s->worker->kube;
    struct kube_stream *stream = earliest(k);
    s->kind = stream->kind;
    s->object = KUBE_NO_OBJECT;
    choose_for(k, s, stream);
    stream->next++;
    s->channel = kube_channel(k, s->server, s->resource);
}

/* --- one write of an object at a time --- */

static bool writes(const struct slot *s)
{
    return s->object != KUBE_NO_OBJECT && s->kind != OP_OBJECT_GET;
}

bool kube__blocks(struct slot *s)
{
    struct kube *k = s->worker->kube;
    if (!writes(s))
        return false;
    if (k->objects[s->object].busy) {
        list_push_back(&k->blocked, &s->link);
        return true;
    }
    k->objects[s->object].busy = true;
    return false;
}

void kube__release(struct slot *s)
{
    struct kube *k = s->worker->kube;
    if (!writes(s))
        return;
    uint32_t object = s->object;
    s->object = KUBE_NO_OBJECT;
    k->objects[object].busy = false;
    LIST_EACH_SAFE (it, after, &k->blocked) {
        struct slot *next = CONTAINER_OF(it, struct slot, link);
        if (next->object != object)
            continue;
        list_remove(it);
        k->objects[object].busy = true;
        slot_begin(next);
        return;
    }
}
