/* Keys as Kubernetes writes them, under the prefix: resource, namespace, name. */
#include "kube.h"

#include "base/assert.h"

#include <stdio.h>

enum { NAMESPACES_COUNT = 50 };

static struct slice format(uint8_t *dst, int size)
{
    ASSERT(size > 0 && size < KUBE_KEY_MAX);
    return slice_of(dst, (size_t)size);
}

struct slice kube_prefix(const struct bench_options *o, uint32_t resource, uint8_t *dst)
{
    static const char *const names[KUBE_RESOURCES_COUNT] = {"pods", "minions", "leases", "events"};
    char *to = (char *)dst;
    if (resource < KUBE_RESOURCES_COUNT)
        return format(dst, snprintf(to, KUBE_KEY_MAX, "%s%s/", o->prefix, names[resource]));
    return format(dst, snprintf(to, KUBE_KEY_MAX, "%sidle-%03u/", o->prefix,
                                resource - KUBE_RESOURCES_COUNT));
}

struct slice kube_prefix_end(const struct bench_options *o, uint32_t resource, uint8_t *dst)
{
    struct slice prefix = kube_prefix(o, resource, dst);
    dst[prefix.size - 1]++; /* a slash */
    return prefix;
}

struct slice kube_object_key(const struct kube *k, uint32_t object, uint64_t number, uint8_t *dst)
{
    static const char *const elections[KUBE_ELECTIONS_COUNT] = {"kube-scheduler",
                                                                "kube-controller-manager"};
    const char *prefix = k->o->prefix;
    char *to = (char *)dst;
    if (object >= k->pods_at) {
        uint64_t id = number * k->o->parts + k->part;
        return format(dst,
                      snprintf(to, KUBE_KEY_MAX, "%spods/namespace-%02u/deployment-%012llu", prefix,
                               (unsigned)(id % NAMESPACES_COUNT), (unsigned long long)id));
    }
    if (object >= k->identities_at)
        return format(dst, snprintf(to, KUBE_KEY_MAX, "%sleases/kube-system/apiserver-%03u", prefix,
                                    kube_server_number(k, object - k->identities_at)));
    if (object >= 2 * k->nodes_count)
        return format(dst, snprintf(to, KUBE_KEY_MAX, "%sleases/kube-system/%s", prefix,
                                    elections[object - 2 * k->nodes_count]));
    uint32_t node = k->nodes[object % k->nodes_count];
    if (object >= k->nodes_count)
        return format(dst, snprintf(to, KUBE_KEY_MAX, "%sminions/node-%06u", prefix, node));
    return format(dst,
                  snprintf(to, KUBE_KEY_MAX, "%sleases/kube-node-lease/node-%06u", prefix, node));
}

uint32_t kube_object_bytes(const struct kube *k, uint32_t object)
{
    const struct bench_kubernetes *kube = &k->o->kubernetes;
    if (object >= k->pods_at)
        return kube->pod_bytes;
    if (object >= k->nodes_count && object < 2 * k->nodes_count)
        return kube->node_bytes;
    return kube->lease_bytes;
}

struct slice kube_event_key(const struct kube *k, uint64_t number, uint8_t *dst)
{
    uint64_t id = number * k->o->parts + k->part;
    return format(dst, snprintf((char *)dst, KUBE_KEY_MAX,
                                "%sevents/namespace-%02u/deployment.%016llx", k->o->prefix,
                                (unsigned)(id % NAMESPACES_COUNT), (unsigned long long)id));
}

struct slice kube_compact_key(const struct bench_options *o, uint8_t *dst)
{
    return format(dst, snprintf((char *)dst, KUBE_KEY_MAX, "%scompact_rev_key", o->prefix));
}
