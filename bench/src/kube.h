/* Inside `kubernetes`. */
#ifndef BENCH_KUBE_H
#define BENCH_KUBE_H

#include "kubernetes.h"

enum kube_resource { KUBE_PODS, KUBE_NODES, KUBE_LEASES, KUBE_EVENTS, KUBE_RESOURCES_COUNT };
/* Of these an API server keeps a watch cache; of events it does not. */
enum { KUBE_CACHED_COUNT = KUBE_EVENTS };

enum {
    KUBE_KEY_MAX = 320,
    KUBE_STREAMS_MAX = 24,
    KUBE_ELECTIONS_COUNT = 2, /* the scheduler's and the controller manager's */
};

/* Operations of one kind, one after the other at a fixed rate. */
struct kube_stream {
    enum op_kind kind;
    uint32_t role; /* enum kube_role, in kubernetes.c: whom they are about */
    double period_ns;
    double phase_ns; /* when the first one is due */
    uint64_t next;   /* the number of the next one */
    uint64_t first;  /* pods: the one that operation 0 is about */
};

struct kube_object {
    int64_t mod_revision; /* as last seen; 0: it is not there */
    bool busy;
};

/* An API server's watch of one resource, and the reads that wait for it. */
struct kube_watch {
    struct kube *kube;
    struct grpc_channel *channel;
    struct grpc_call *call; /* NULL: to be opened again */
    uint32_t server;
    uint32_t resource; /* from KUBE_RESOURCES_COUNT on: an idle one */
    bool created;
    bool counted;     /* as created, for the beginning */
    int64_t revision; /* everything up to here has been seen */
    uint64_t asked_ns;
    struct list waiting; /* slots */
};

/* Who compacts: Kubernetes' own agreement on it, by the version of a key. */
struct kube_compactor {
    int64_t version;
    int64_t revision; /* as it was at the last attempt */
};

/* One worker's share. Owner: main until the workers start, then the worker. */
struct kube {
    const struct bench_options *o;
    struct worker *worker;
    uint32_t part;
    uint32_t servers_count;
    uint32_t *nodes; /* their numbers in the cluster */
    uint32_t nodes_count;
    uint64_t pods_count; /* alive at any time */
    uint64_t pods_ring;
    uint32_t identities_at; /* among the objects: leases, nodes, elections, identities, pods */
    uint32_t pods_at;
    struct kube_object *objects;
    uint32_t objects_count;
    struct kube_stream streams[KUBE_STREAMS_MAX];
    uint32_t streams_count;
    struct list blocked; /* slots, oldest first */
    int64_t populated_revision;
    int64_t *event_leases; /* by server */
    struct kube_compactor *compactors;
    struct kube_watch *watches;
    uint32_t watches_count;
    uv_timer_t tick;
};

/* In the whole cluster. */
uint32_t kube_server_number(const struct kube *k, uint32_t server);
/* The server that node's kubelet talks to, of this worker. */
uint32_t kube_server_of_node(const struct kube *k, uint32_t node);
uint32_t kube_resources_count(const struct bench_options *o);
struct grpc_channel *kube_channel(const struct kube *k, uint32_t server, uint32_t resource);

/* kube_keys.c; dst has KUBE_KEY_MAX bytes */
struct slice kube_prefix(const struct bench_options *o, uint32_t resource, uint8_t *dst);
/* The end of the range of keys under such a prefix. */
struct slice kube_prefix_end(const struct bench_options *o, uint32_t resource, uint8_t *dst);
/* Of an object of the worker by its place; a pod's number is `number`. */
struct slice kube_object_key(const struct kube *k, uint32_t object, uint64_t number, uint8_t *dst);
struct slice kube_event_key(const struct kube *k, uint64_t number, uint8_t *dst);
struct slice kube_compact_key(const struct bench_options *o, uint8_t *dst);
uint32_t kube_object_bytes(const struct kube *k, uint32_t object);

/* kube_watch.c: the cache that this read waits for. */
struct kube_watch *kube_watch_of(struct kube *k, uint32_t server, uint32_t resource);

/* With what the lease manager adds so that it can be shared. */
int64_t kube_event_lease_ttl(const struct bench_options *o);

struct kube *kube_new(const struct bench_options *o, uint32_t part);
void kube_free(struct kube *k);

#endif
