#include "options.h"

#include "flags.h"

#include "base/assert.h"
#include "base/mem.h"
#include "proto/tls.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLAG_ID_BASE = 256, FLAGS_MAX = 80, PREFIX_SIZE_MAX = 200 };

/* Once it is known whether TLS is meant where it is not said. */
static void complete_endpoints(struct bench_options *o)
{
    char why[256];
    for (uint32_t i = 0; i < o->endpoints_count; i++) {
        const char *endpoint = o->endpoints[i];
        o->endpoints[i] = client_endpoint(&o->tls, endpoint);
        if (o->endpoints[i] == NULL)
            usage_error("--endpoints: neither http nor https", endpoint);
    }
    o->tls_context = client_tls_context(&o->tls, why, sizeof(why));
    if (o->tls_context == NULL)
        usage_error("TLS", why);
}

static void parse_command(const char *name, struct bench_options *o)
{
    for (int i = 0; i < BENCH_COMMANDS_COUNT; i++) {
        if (strcmp(command_name((enum bench_command)i), name) == 0) {
            o->command = (enum bench_command)i;
            o->command_name = command_name(o->command);
            return;
        }
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) {
        flags_print_help();
        exit(0);
    }
    usage_error("no such command", name);
}

/* Digits that number the keys 0 .. keys-1. */
static uint32_t key_digits(uint64_t keys)
{
    uint32_t digits = 1;
    for (uint64_t rest = keys - 1; rest >= 10; rest /= 10)
        digits++;
    return digits;
}

static bool has_warmup(enum bench_command c)
{
    return c != BENCH_LIST && c != BENCH_FILL && c != BENCH_GRANT && c != BENCH_COMPACT &&
           c != BENCH_SNAPSHOT;
}

/* These do each thing once, and are over when all are done. */
static void check_once(struct bench_options *o, uint64_t operations)
{
    if (o->total > 0 || o->warmup_s > 0)
        usage_error("no --total or --warmup goes with", o->command_name);
    o->total = operations;
}

static void check_pace(struct bench_options *o)
{
    if (o->every_s > 0 && o->rate > 0)
        usage_error("--every and --rate say the same thing: give one", "");
    if (o->command == BENCH_FILL)
        check_once(o, (o->keys + o->batch - 1) / o->batch);
    if (o->command == BENCH_GRANT)
        check_once(o, o->leases);
    if (o->command == BENCH_KEEPALIVE)
        o->rate = (double)o->leases / (o->every_s > 0 ? o->every_s : 10);
    else if (o->every_s > 0)
        o->rate = 1 / o->every_s;
    else if (o->rate < 0)
        o->rate = o->command == BENCH_WATCH ? 100 : 0;
    if (o->warmup_s < 0)
        o->warmup_s = has_warmup(o->command) ? 1 : 0;
    if (o->duration_s <= 0 && o->total == 0)
        usage_error("--duration must be above 0", "");
    o->timeout_ms = (uint64_t)(o->timeout_s * 1000);
    if (o->timeout_ms == 0)
        usage_error("--timeout must be above 0", "");
}

static void check_watch(const struct bench_options *o)
{
    if (o->value_size < 8)
        usage_error("watch needs a --value-size of 8 at least: the value tells when it was due",
                    "");
    if (o->watched != BENCH_WATCH_ALL && o->watchers > o->keys)
        usage_error("more --watchers than --keys: each has keys of its own", "");
    if (o->parts > o->watchers)
        usage_error("more threads in all than --watchers", "");
    if (o->writers > 0 && o->writers < o->parts)
        usage_error("fewer --writers than threads in all", "");
}

static void check_mix(const struct bench_options *o)
{
    uint64_t sum = 0;
    for (int i = 0; i < BENCH_PARTS_COUNT; i++)
        sum += o->weights[i];
    if (sum == 0)
        usage_error("--mix has no weight above 0", "");
}

/* Who points this at a real cluster's registry would lose it. */
static void check_kubernetes(struct bench_options *o)
{
    const struct bench_kubernetes *k = &o->kubernetes;
    double pods = (double)k->nodes * k->pods_per_node;
    if (strncmp(o->prefix, "/registry", strlen("/registry")) == 0 || strlen(o->prefix) < 2)
        usage_error("kubernetes deletes what is under --prefix: it takes none of /registry", "");
    if (o->prefix[strlen(o->prefix) - 1] != '/' || strlen(o->prefix) > PREFIX_SIZE_MAX)
        usage_error("kubernetes takes a --prefix of 200 bytes at most that ends with /, not",
                    o->prefix);
    if (pods < 10.0 * k->api_servers)
        usage_error("kubernetes needs ten pods for each API server at least", "");
    if (k->pod_churn * 10 > pods)
        usage_error("--pod-churn is a tenth of all pods at most: a pod lives 10 s at least", "");
    if (k->lease_every_s <= 0 || k->status_every_s <= 0 || k->count_every_s <= 0)
        usage_error("--lease-every, --status-every and --count-every must be above 0", "");
    if (o->parts > k->api_servers)
        usage_error("more threads in all than --api-servers: each belongs to one of them", "");
    if (k->nodes < k->api_servers)
        usage_error("fewer --nodes than --api-servers", "");
}

static void check(struct bench_options *o)
{
    bool leases = o->command == BENCH_LEASE || o->command == BENCH_MIXED;
    uint64_t keys = o->keys + (leases ? (uint64_t)o->conns * o->streams : 0);
    size_t needed = strlen(o->prefix) + key_digits(keys);
    o->parts = o->processes * o->threads;
    if (o->command == BENCH_KUBERNETES) {
        check_kubernetes(o);
        check_pace(o);
        return;
    }
    if (o->key_size < needed) {
        fprintf(stderr, "trivet-bench: %llu keys under \"%s\" need a --key-size of %zu at least\n",
                (unsigned long long)keys, o->prefix, needed);
        exit(2);
    }
    if (o->parts > o->conns)
        usage_error("more threads in all than --conns: a connection belongs to one thread", "");
    if ((o->command == BENCH_TXN || o->command == BENCH_MIXED) && o->keys < o->parts)
        usage_error("txn needs a key for each thread at least", "");
    if (o->command == BENCH_KEEPALIVE && o->leases < o->parts)
        usage_error("keepalive needs a lease for each thread at least", "");
    if (o->command == BENCH_COMPACT && o->conns * o->streams > 1)
        usage_error("compact is done by one, on one connection", "");
    if (o->command == BENCH_WATCH)
        check_watch(o);
    if (o->command == BENCH_MIXED)
        check_mix(o);
    check_pace(o);
}

static struct bench_options defaults(enum bench_command command)
{
    static char endpoint_default[] = "127.0.0.1:2379";
    bool kubernetes = command == BENCH_KUBERNETES;
    return (struct bench_options){
        .endpoints = {endpoint_default},
        .endpoints_count = 1,
        .processes = 1,
        .threads = 1,
        .conns = 1,
        .streams = kubernetes ? 100 : 1,
        .duration_s = 10,
        .warmup_s = -1,
        .key_size = 32,
        .value_size = 256,
        .keys = 10000,
        .prefix = kubernetes ? "/bench-registry/" : "/bench/",
        .weights = {[BENCH_PART_GET] = 9, [BENCH_PART_PUT] = 1},
        .batch = 64,
        .watchers = 100,
        .writers = 64,
        .leases = 1000,
        .ttl_s = 60,
        .rate = -1, /* not said; the warm-up likewise */
        .timeout_s = 30,
        .seed = 1,
        .kubernetes = {.nodes = 500,
                       .pods_per_node = 30,
                       .api_servers = 3,
                       .pod_churn = 20,
                       .lease_every_s = 10,
                       .status_every_s = 300,
                       .gets = 20,
                       .reads = 10,
                       .count_every_s = 60,
                       .relist_every_s = 60,
                       .compact_every_s = 300,
                       .event_ttl_s = 3600,
                       .idle_watches = 60,
                       .page = 10000,
                       .node_bytes = 12000,
                       .pod_bytes = 4000,
                       .lease_bytes = 450,
                       .event_bytes = 800},
    };
}

static void parse_flag(const struct flag *f, struct bench_options *o)
{
    if (f->type == FLAG_HELP) {
        flags_print_help();
        exit(0);
    }
    if ((f->commands >> o->command & 1) == 0) {
        fprintf(stderr, "trivet-bench: --%s does not go with %s\n", f->name, o->command_name);
        exit(2);
    }
    flag_store(f, optarg, o);
}

static char *join(int argc, char **argv)
{
    size_t size = 1;
    for (int i = 0; i < argc; i++)
        size += strlen(argv[i]) + 1;
    char *text = mem_alloc(size);
    char *at = text;
    for (int i = 0; i < argc; i++)
        at += snprintf(at, size - (size_t)(at - text), "%s%s", i > 0 ? " " : "", argv[i]);
    return text;
}

void bench_options_parse(int argc, char **argv, struct bench_options *ret)
{
    struct option long_options[FLAGS_MAX];
    struct bench_options o = {0};
    int count = 0;
    int id;
    if (argc < 2)
        usage_error("no command", "");
    parse_command(argv[1], &o);
    enum bench_command command = o.command;
    o = defaults(command);
    o.command = command;
    o.command_name = command_name(command);
    o.args = join(argc - 1, argv + 1);
    ASSERT(flags_count < FLAGS_MAX);
    for (uint32_t i = 0; i < flags_count; i++)
        if (flags[i].name != NULL)
            long_options[count++] = (struct option){
                flags[i].name, flags[i].value != NULL ? required_argument : no_argument, NULL,
                FLAG_ID_BASE + (int)i};
    long_options[count] = (struct option){NULL, 0, NULL, 0};
    optind = 2;
    opterr = 0;
    while ((id = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
        if (id == ':')
            usage_error("a value is missing after", argv[optind - 1]);
        if (id == '?')
            usage_error("no such flag, or it takes no value", argv[optind - 1]);
        parse_flag(&flags[id - FLAG_ID_BASE], &o);
    }
    if (optind < argc)
        usage_error("what is this", argv[optind]);
    check(&o);
    complete_endpoints(&o);
    *ret = o;
}

void bench_options_fini(struct bench_options *o)
{
    for (uint32_t i = 0; i < o->endpoints_count; i++)
        mem_free((char *)o->endpoints[i]);
    tls_context_free(o->tls_context);
    mem_free(o->args);
}
