/* The cluster as it is before the load: nodes, their leases, pods. Nothing of an earlier run is
 * left. */
#include "kube.h"

#include "base/mem.h"
#include "client/unary.h"

#include <stdio.h>

enum {
    BATCH_OPS_MAX = 100, /* etcd takes 128 operations in a txn */
    BATCH_BYTES_MAX = 1 << 20,
    ANSWER_BYTES_MAX = 1 << 20,
};

struct setup {
    struct run *run;
    struct unary *unary;
    struct buf txn;
    struct buf answer;
    uint32_t ops_count; /* in the txn */
    struct kube_object *objects[BATCH_OPS_MAX];
    int64_t revision;
};

int64_t kube_event_lease_ttl(const struct bench_options *o)
{
    int64_t ttl_s = (int64_t)o->kubernetes.event_ttl_s;
    return ttl_s + (ttl_s / 20 < 60 ? ttl_s / 20 : 60);
}

uint32_t kube_value_size(const struct bench_options *o)
{
    const struct bench_kubernetes *k = &o->kubernetes;
    uint32_t largest = k->node_bytes > k->pod_bytes ? k->node_bytes : k->pod_bytes;
    if (k->lease_bytes > largest)
        largest = k->lease_bytes;
    return k->event_bytes > largest ? k->event_bytes : largest;
}

static bool call(struct setup *setup, const char *path, struct slice request)
{
    enum grpc_code code =
        unary_call(setup->unary, path, request, setup->run->o->timeout_ms, &setup->answer);
    if (code == GRPC_OK)
        return true;
    fprintf(stderr, "trivet-bench: %s: %.*s\n", path, (int)setup->answer.size,
            (const char *)setup->answer.data);
    return false;
}

static bool delete_all(struct setup *setup)
{
    const struct bench_options *o = setup->run->o;
    uint8_t end[KUBE_KEY_MAX];
    uint8_t encoded[2 * KUBE_KEY_MAX + 2 * WIRE_VARINT_SIZE_MAX];
    struct wire_delete_range_request request = {.key = slice_of_string(o->prefix),
                                                .range_end = key_range_end(o, end)};
    (void)wire_delete_range_request_put(encoded, &request);
    return call(setup, "/etcdserverpb.KV/DeleteRange",
                slice_of(encoded, wire_delete_range_request_size(&request)));
}

static bool flush(struct setup *setup)
{
    struct wire_txn_response txn;
    if (setup->ops_count == 0)
        return true;
    if (!call(setup, "/etcdserverpb.KV/Txn", buf_slice(&setup->txn)))
        return false;
    if (wire_txn_response_decode(buf_slice(&setup->answer), &txn) != 0) {
        fprintf(stderr, "trivet-bench: the answer to a txn is malformed\n");
        return false;
    }
    for (uint32_t i = 0; i < setup->ops_count; i++)
        setup->objects[i]->mod_revision = txn.header.revision;
    setup->revision = txn.header.revision;
    setup->run->setup_revisions++;
    setup->ops_count = 0;
    buf_clear(&setup->txn);
    return true;
}

static bool write_object(struct setup *setup, struct kube *k, uint32_t object, uint64_t number)
{
    uint8_t bytes[KUBE_KEY_MAX];
    struct wire_op put = {
        .kind = WIRE_OP_PUT,
        .put = {.key = kube_object_key(k, object, number, bytes),
                .value = slice_of(setup->run->value->data, kube_object_bytes(k, object))}};
    size_t size = wire_op_size(&put);
    uint8_t *at = buf_reserve(&setup->txn, wire_item_size(WIRE_TXN_SUCCESS, size));
    uint8_t *end = wire_op_put(wire_item_put_head(at, WIRE_TXN_SUCCESS, size), &put);
    setup->txn.size += (size_t)(end - at);
    setup->objects[setup->ops_count++] = &k->objects[object];
    if (setup->ops_count == BATCH_OPS_MAX || setup->txn.size + size > BATCH_BYTES_MAX)
        return flush(setup);
    return true;
}

static bool write_all(struct setup *setup, struct kube *k)
{
    /* The elections are of the first worker alone. */
    for (uint32_t object = 0; object < k->pods_at; object++) {
        bool election = object >= 2 * k->nodes_count && object < k->identities_at;
        if ((!election || k->part == 0) && !write_object(setup, k, object, 0))
            return false;
    }
    for (uint64_t pod = 0; pod < k->pods_count; pod++)
        if (!write_object(setup, k, k->pods_at + (uint32_t)pod, pod))
            return false;
    return flush(setup);
}

static bool grant_leases(struct setup *setup, struct kube *k)
{
    uint8_t encoded[4 * WIRE_VARINT_SIZE_MAX];
    struct wire_lease_grant_request grant = {.ttl = kube_event_lease_ttl(k->o)};
    struct wire_lease_response lease;
    (void)wire_lease_grant_request_put(encoded, &grant);
    struct slice request = slice_of(encoded, wire_lease_grant_request_size(&grant));
    for (uint32_t i = 0; i < k->servers_count; i++) {
        if (!call(setup, "/etcdserverpb.Lease/LeaseGrant", request) ||
            wire_lease_response_decode(buf_slice(&setup->answer), &lease) != 0)
            return false;
        k->event_leases[i] = lease.id;
    }
    return true;
}

static bool populate(struct setup *setup)
{
    struct run *run = setup->run;
    if (!delete_all(setup))
        return false;
    for (uint32_t part = 0; part < run->o->parts; part++)
        if (!write_all(setup, run->kubes[part]) || !grant_leases(setup, run->kubes[part]))
            return false;
    for (uint32_t part = 0; part < run->o->parts; part++)
        run->kubes[part]->populated_revision = setup->revision;
    return true;
}

bool kube_populate(struct run *run)
{
    const struct bench_options *o = run->o;
    char why[256];
    struct setup setup = {.run = run};
    run->kubes = mem_alloc(o->parts * sizeof(struct kube *));
    for (uint32_t part = 0; part < o->parts; part++)
        run->kubes[part] = kube_new(o, part);
    setup.unary = unary_new(o->endpoints, o->endpoints_count, &o->tls, why, sizeof(why));
    if (setup.unary == NULL) {
        fprintf(stderr, "trivet-bench: %s\n", why);
        return false;
    }
    buf_init(&setup.txn, SIZE_MAX);
    buf_init(&setup.answer, ANSWER_BYTES_MAX);
    bool done = populate(&setup);
    buf_fini(&setup.txn);
    buf_fini(&setup.answer);
    unary_free(setup.unary);
    return done;
}

void kube_free_all(struct run *run)
{
    if (run->kubes == NULL)
        return;
    for (uint32_t part = 0; part < run->o->parts; part++)
        kube_free(run->kubes[part]);
    mem_free(run->kubes);
}
