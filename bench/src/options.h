/* What trivet-bench is asked to do: the command line, checked. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "client/endpoint.h"

#include <stdbool.h>
#include <stdint.h>

enum bench_command {
    BENCH_PUT,
    BENCH_GET,
    BENCH_TXN,
    BENCH_MIXED,
    BENCH_LIST,
    BENCH_FILL,
    BENCH_WATCH,
    BENCH_LEASE,
    BENCH_GRANT,
    BENCH_KEEPALIVE,
    BENCH_COMPACT,
    BENCH_SNAPSHOT,
    BENCH_KUBERNETES,
    BENCH_COMMANDS_COUNT
};

enum bench_dist { BENCH_UNIFORM, BENCH_ZIPF, BENCH_SEQ };

enum bench_to { BENCH_TO_ALL, BENCH_TO_LEADER };

/* What each watcher watches. With SLICE the keys are cut into as many neighbourhoods as there are
 * watchers, so that every put has one event; with ONE a watcher watches the first key of its slice
 * alone, so that only one put in keys / watchers has an event. */
enum bench_watched { BENCH_WATCH_ALL, BENCH_WATCH_SLICE, BENCH_WATCH_ONE };

/* What `mixed` is made of. */
enum bench_part {
    BENCH_PART_PUT,
    BENCH_PART_GET,
    BENCH_PART_TXN,
    BENCH_PART_LIST,
    BENCH_PART_LEASE,
    BENCH_PARTS_COUNT
};

enum {
    BENCH_ENDPOINTS_MAX = 64,
    BENCH_THREADS_MAX = 64,
    BENCH_PROCESSES_MAX = 64,
    BENCH_WEIGHT_MAX = 10000,
};

/* `kubernetes`; docs/benchmark.md says where the numbers come from. Rates are of the whole cluster.
 */
struct bench_kubernetes {
    uint32_t nodes;
    uint32_t pods_per_node;
    uint32_t api_servers;
    double pod_churn; /* pods that are made, and pods that go, a second */
    double lease_every_s;
    double status_every_s;
    double gets;  /* a second */
    double reads; /* consistent ones from the watch caches, a second */
    double count_every_s;
    double relist_every_s; /* of each API server, one resource after the other; 0: never */
    double compact_every_s;
    uint64_t event_ttl_s;
    uint32_t idle_watches; /* of each API server: resources of which nothing changes */
    uint64_t page;         /* of a relist, keys */
    uint32_t node_bytes;
    uint32_t pod_bytes;
    uint32_t lease_bytes;
    uint32_t event_bytes;
};

struct bench_options {
    enum bench_command command;
    const char *command_name;
    char *args;                                 /* the command line as it was, in one */
    const char *endpoints[BENCH_ENDPOINTS_MAX]; /* "host:port"; with https:// when it is TLS */
    uint32_t endpoints_count;
    struct client_tls tls;
    struct tls_context *tls_context;
    enum bench_to to; /* of the endpoints all, or only the one that leads */
    uint32_t processes;
    uint32_t threads; /* of each process */
    uint32_t parts;   /* processes x threads: who shares everything below */
    uint32_t conns;
    uint32_t streams; /* calls under way on each connection */
    double rate;      /* operations a second in all; 0 = closed loop */
    double every_s;   /* the same, said in another way; 0 = not said */
    double duration_s;
    double warmup_s;
    uint64_t total; /* operations measured; 0 = until the time is over */
    uint32_t key_size;
    uint32_t value_size;
    uint64_t keys;
    const char *prefix;
    enum bench_dist dist;
    bool serializable;
    uint32_t weights[BENCH_PARTS_COUNT]; /* mixed */
    uint32_t batch;                      /* fill: puts in one txn */
    uint64_t limit;                      /* list: keys in one page; 0 = all at once */
    bool stream;                         /* list: by RangeStream */
    uint32_t watchers;
    enum bench_watched watched;
    uint32_t writers; /* watch: puts under way; 0 = another process writes */
    uint64_t leases;
    int64_t ttl_s;
    struct bench_kubernetes kubernetes;
    double timeout_s;
    uint64_t timeout_ms;
    uint64_t seed;
    const char *json_path; /* "-" = stdout instead of text; NULL = none */
    bool quiet;
};

/* Fills *ret, or prints what is wrong (or the help) and ends the process. */
void bench_options_parse(int argc, char **argv, struct bench_options *ret);
void bench_options_fini(struct bench_options *o);
const char *bench_part_name(enum bench_part part);

#endif
