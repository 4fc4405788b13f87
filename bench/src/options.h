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
    BENCH_GRANT,
    BENCH_KEEPALIVE,
    BENCH_COMPACT,
    BENCH_SNAPSHOT,
};

enum bench_dist { BENCH_UNIFORM, BENCH_ZIPF, BENCH_SEQ };

/* What each watcher watches. With SLICE the keys are cut into as many neighbourhoods as there are
 * watchers, so that every put has one event; with ONE a watcher watches the first key of its slice
 * alone, so that only one put in keys / watchers has an event. */
enum bench_watched { BENCH_WATCH_ALL, BENCH_WATCH_SLICE, BENCH_WATCH_ONE };

enum { BENCH_ENDPOINTS_MAX = 64, BENCH_THREADS_MAX = 64 };

struct bench_options {
    enum bench_command command;
    const char *command_name;
    const char *endpoints[BENCH_ENDPOINTS_MAX]; /* "host:port"; with https:// when it is TLS */
    uint32_t endpoints_count;
    struct client_tls tls;
    struct tls_context *tls_context;
    bool to_leader; /* of the endpoints only the one that leads */
    uint32_t threads;
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
    uint32_t read_percent; /* mixed */
    uint32_t batch;        /* fill: puts in one txn */
    uint64_t limit;        /* list: keys in one page; 0 = all at once */
    bool stream;           /* list: by RangeStream */
    uint32_t watchers;
    enum bench_watched watched;
    uint32_t writers; /* watch: puts under way; 0 = another process writes */
    uint64_t leases;
    int64_t ttl_s;
    uint64_t timeout_ms;
    uint64_t seed;
    bool json;
    bool quiet;
};

/* Fills *ret, or prints what is wrong (or the help) and ends the process. */
void bench_options_parse(int argc, char **argv, struct bench_options *ret);
void bench_options_fini(struct bench_options *o);

#endif
