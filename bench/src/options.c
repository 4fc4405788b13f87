#include "options.h"

#include "base/mem.h"
#include "base/rng.h"
#include "proto/tls.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: trivet-bench COMMAND [flags]\n"
    "\n"
    "Loads an etcd API (trivet's or etcd's) and measures how long each call takes.\n"
    "\n"
    "commands:\n"
    "  put     write keys\n"
    "  get     read single keys\n"
    "  txn     Kubernetes' update: if mod_revision is as last seen then put, else get\n"
    "  mixed   --read-percent of gets, the rest puts\n"
    "  list    read all keys under --prefix\n"
    "  fill    write each of --keys keys once, --batch of them in a txn\n"
    "  watch   --watchers watch keys under --prefix while puts go on at --rate; measures the time "
    "from\n"
    "          each put's start to each watcher's event. With --rate 0 puts follow the events: as "
    "many\n"
    "          are begun as the watchers keep up with\n"
    "  grant   grant each of --leases leases, of --ttl\n"
    "  keepalive\n"
    "          keep each of these alive once in --every, spread evenly, over --conns x --streams "
    "streams\n"
    "  compact forget the history up to where it had been the time before\n"
    "  snapshot\n"
    "          read the whole store as a snapshot, and drop it\n"
    "\n"
    "where to, and how much at once:\n"
    "  --endpoints LIST     host:port,... (127.0.0.1:2379); connections are dealt out in turn\n"
    "  --cacert FILE        by TLS, to servers that these CAs vouch for; also with "
    "https://host:port\n"
    "  --cert FILE, --key FILE\n"
    "                       who we are\n"
    "  --insecure-skip-tls-verify\n"
    "                       believe any server\n"
    "  --insecure-transport=false\n"
    "                       TLS without any of these\n"
    "  --to WHOM            all of these, or only the leader among them (all)\n"
    "  --conns N            connections (1)\n"
    "  --streams N          calls under way on each connection (1)\n"
    "  --threads N          threads that share the connections (1)\n"
    "  --rate N             begin N operations a second whatever the answers do, and measure each "
    "from\n"
    "                       the moment it was due; 0: each call follows an answer (0; watch: 100)\n"
    "  --every SECONDS      instead of --rate: one operation in so many seconds; keepalive: one of "
    "each\n"
    "                       lease (10)\n"
    "\n"
    "for how long:\n"
    "  --duration SECONDS   measured time (10); SIGINT ends it early, with a report\n"
    "  --total N            end after N measured operations instead\n"
    "  --warmup SECONDS     before that, not measured (1; list, compact, snapshot: 0)\n"
    "  --timeout SECONDS    deadline of one call (30)\n"
    "\n"
    "what:\n"
    "  --keys N             how many different keys (10000)\n"
    "  --key-size BYTES     (32)\n"
    "  --value-size BYTES   (256)\n"
    "  --prefix TEXT        what keys begin with (/bench/)\n"
    "  --key-dist D         uniform, zipf or seq (uniform)\n"
    "  --serializable       reads that any member answers by itself\n"
    "  --read-percent N     mixed (90)\n"
    "  --batch N            fill (64; etcd allows 128 operations in a txn)\n"
    "  --limit N            list: read in pages of N keys; 0: all in one answer (0)\n"
    "  --stream             list: by RangeStream; a list ends with its last message\n"
    "  --watchers N         watch (100)\n"
    "  --watch-keys K       what each watches: all keys, a slice of its own (each put has one "
    "event), or\n"
    "                       one key of its own (one put in keys / watchers has an event) (all)\n"
    "  --writers N          watch: puts under way at most; 0: only receive what others write (64)\n"
    "  --leases N           grant, keepalive (1000)\n"
    "  --ttl SECONDS        grant (60)\n"
    "  --seed N             of the random choices (1)\n"
    "\n"
    "  --json               print the result as JSON\n"
    "  --quiet              no progress lines\n"
    "  --help\n";

enum option_id {
    OPT_ENDPOINTS = 256,
    OPT_CACERT,
    OPT_CERT,
    OPT_KEY,
    OPT_SKIP_VERIFY,
    OPT_INSECURE_TRANSPORT,
    OPT_TO,
    OPT_CONNS,
    OPT_STREAMS,
    OPT_THREADS,
    OPT_RATE,
    OPT_EVERY,
    OPT_DURATION,
    OPT_TOTAL,
    OPT_WARMUP,
    OPT_TIMEOUT,
    OPT_KEYS,
    OPT_KEY_SIZE,
    OPT_VALUE_SIZE,
    OPT_PREFIX,
    OPT_KEY_DIST,
    OPT_SERIALIZABLE,
    OPT_READ_PERCENT,
    OPT_BATCH,
    OPT_LIMIT,
    OPT_STREAM,
    OPT_WATCHERS,
    OPT_WATCH_KEYS,
    OPT_WRITERS,
    OPT_LEASES,
    OPT_TTL,
    OPT_SEED,
    OPT_JSON,
    OPT_QUIET,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"endpoints", required_argument, NULL, OPT_ENDPOINTS},
    {"cacert", required_argument, NULL, OPT_CACERT},
    {"cert", required_argument, NULL, OPT_CERT},
    {"key", required_argument, NULL, OPT_KEY},
    {"insecure-skip-tls-verify", no_argument, NULL, OPT_SKIP_VERIFY},
    {"insecure-transport", required_argument, NULL, OPT_INSECURE_TRANSPORT},
    {"to", required_argument, NULL, OPT_TO},
    {"conns", required_argument, NULL, OPT_CONNS},
    {"streams", required_argument, NULL, OPT_STREAMS},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"rate", required_argument, NULL, OPT_RATE},
    {"every", required_argument, NULL, OPT_EVERY},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"total", required_argument, NULL, OPT_TOTAL},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"keys", required_argument, NULL, OPT_KEYS},
    {"key-size", required_argument, NULL, OPT_KEY_SIZE},
    {"value-size", required_argument, NULL, OPT_VALUE_SIZE},
    {"prefix", required_argument, NULL, OPT_PREFIX},
    {"key-dist", required_argument, NULL, OPT_KEY_DIST},
    {"serializable", no_argument, NULL, OPT_SERIALIZABLE},
    {"read-percent", required_argument, NULL, OPT_READ_PERCENT},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"stream", no_argument, NULL, OPT_STREAM},
    {"watchers", required_argument, NULL, OPT_WATCHERS},
    {"watch-keys", required_argument, NULL, OPT_WATCH_KEYS},
    {"writers", required_argument, NULL, OPT_WRITERS},
    {"leases", required_argument, NULL, OPT_LEASES},
    {"ttl", required_argument, NULL, OPT_TTL},
    {"seed", required_argument, NULL, OPT_SEED},
    {"json", no_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static const char *const commands[] = {
    [BENCH_PUT] = "put",         [BENCH_GET] = "get",           [BENCH_TXN] = "txn",
    [BENCH_MIXED] = "mixed",     [BENCH_LIST] = "list",         [BENCH_FILL] = "fill",
    [BENCH_WATCH] = "watch",     [BENCH_GRANT] = "grant",       [BENCH_KEEPALIVE] = "keepalive",
    [BENCH_COMPACT] = "compact", [BENCH_SNAPSHOT] = "snapshot",
};

_Noreturn static void usage_error(const char *what, const char *value)
{
    fprintf(stderr, "trivet-bench: %s%s%s\ntrivet-bench: see trivet-bench --help\n", what,
            value[0] == 0 ? "" : ": ", value);
    exit(2);
}

static uint64_t parse_number(const char *flag, const char *text, uint64_t min, uint64_t max)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || text[0] == '-' || value < min || value > max) {
        fprintf(stderr, "trivet-bench: --%s takes a number from %llu to %llu, not \"%s\"\n", flag,
                (unsigned long long)min, (unsigned long long)max, text);
        exit(2);
    }
    return value;
}

static double parse_seconds(const char *flag, const char *text)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end > text && strcmp(end, "s") == 0)
        end++;
    if (errno != 0 || end == text || *end != 0 || !(value >= 0 && value <= 1e6)) {
        fprintf(stderr, "trivet-bench: --%s takes seconds, not \"%s\"\n", flag, text);
        exit(2);
    }
    return value;
}

/* Cuts `list` at its commas; the pieces live as long as the process. */
static void parse_endpoints(char *list, struct bench_options *o)
{
    o->endpoints_count = 0;
    for (char *next; list != NULL; list = next) {
        next = strchr(list, ',');
        if (next != NULL)
            *next++ = 0;
        if (strchr(list, ':') == NULL)
            usage_error("--endpoints: not a host:port", list);
        if (o->endpoints_count == BENCH_ENDPOINTS_MAX)
            usage_error("--endpoints: too many", "");
        o->endpoints[o->endpoints_count++] = list;
    }
}

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

static void parse_tls(int id, const char *arg, struct client_tls *t)
{
    switch (id) {
    case OPT_CACERT:
        t->ca_file = arg;
        break;
    case OPT_CERT:
        t->cert_file = arg;
        break;
    case OPT_KEY:
        t->key_file = arg;
        break;
    case OPT_SKIP_VERIFY:
        t->insecure_skip_verify = true;
        break;
    case OPT_INSECURE_TRANSPORT:
        if (strcmp(arg, "true") != 0 && strcmp(arg, "false") != 0)
            usage_error("--insecure-transport is true or false, not", arg);
        t->secure_transport = strcmp(arg, "false") == 0;
        break;
    default:
        break;
    }
}

static enum bench_dist parse_dist(const char *text)
{
    if (strcmp(text, "uniform") == 0)
        return BENCH_UNIFORM;
    if (strcmp(text, "zipf") == 0)
        return BENCH_ZIPF;
    if (strcmp(text, "seq") == 0)
        return BENCH_SEQ;
    usage_error("--key-dist is uniform, zipf or seq, not", text);
}

static enum bench_watched parse_watched(const char *text)
{
    if (strcmp(text, "all") == 0)
        return BENCH_WATCH_ALL;
    if (strcmp(text, "slice") == 0)
        return BENCH_WATCH_SLICE;
    if (strcmp(text, "one") == 0)
        return BENCH_WATCH_ONE;
    usage_error("--watch-keys is all, slice or one, not", text);
}

static bool parse_to(const char *text)
{
    if (strcmp(text, "leader") != 0 && strcmp(text, "all") != 0)
        usage_error("--to is leader or all, not", text);
    return strcmp(text, "leader") == 0;
}

static void parse_load(int id, const char *flag, const char *arg, struct bench_options *o)
{
    switch (id) {
    case OPT_CONNS:
        o->conns = (uint32_t)parse_number(flag, arg, 1, 100000);
        break;
    case OPT_STREAMS:
        o->streams = (uint32_t)parse_number(flag, arg, 1, 10000);
        break;
    case OPT_THREADS:
        o->threads = (uint32_t)parse_number(flag, arg, 1, BENCH_THREADS_MAX);
        break;
    case OPT_RATE:
        o->rate = (double)parse_number(flag, arg, 0, 100000000);
        break;
    case OPT_EVERY:
        o->every_s = parse_seconds(flag, arg);
        break;
    case OPT_DURATION:
        o->duration_s = parse_seconds(flag, arg);
        break;
    case OPT_TOTAL:
        o->total = parse_number(flag, arg, 1, UINT64_MAX / 2);
        break;
    case OPT_WARMUP:
        o->warmup_s = parse_seconds(flag, arg);
        break;
    case OPT_TIMEOUT:
        o->timeout_ms = (uint64_t)(parse_seconds(flag, arg) * 1000);
        break;
    default:
        break;
    }
}

static void parse_data(int id, const char *flag, const char *arg, struct bench_options *o)
{
    switch (id) {
    case OPT_KEYS:
        o->keys = parse_number(flag, arg, 1, 1000000000);
        break;
    case OPT_KEY_SIZE:
        o->key_size = (uint32_t)parse_number(flag, arg, 1, 1 << 16);
        break;
    case OPT_VALUE_SIZE:
        o->value_size = (uint32_t)parse_number(flag, arg, 0, 16 << 20);
        break;
    case OPT_PREFIX:
        o->prefix = arg;
        break;
    case OPT_KEY_DIST:
        o->dist = parse_dist(arg);
        break;
    case OPT_READ_PERCENT:
        o->read_percent = (uint32_t)parse_number(flag, arg, 0, 100);
        break;
    case OPT_BATCH:
        o->batch = (uint32_t)parse_number(flag, arg, 1, 10000);
        break;
    case OPT_LIMIT:
        o->limit = parse_number(flag, arg, 0, INT64_MAX);
        break;
    case OPT_SEED:
        o->seed = parse_number(flag, arg, 0, UINT64_MAX);
        break;
    default:
        break;
    }
}

static void parse_watch_or_lease(int id, const char *flag, const char *arg, struct bench_options *o)
{
    switch (id) {
    case OPT_WATCHERS:
        o->watchers = (uint32_t)parse_number(flag, arg, 1, 1000000);
        break;
    case OPT_WATCH_KEYS:
        o->watched = parse_watched(arg);
        break;
    case OPT_WRITERS:
        o->writers = (uint32_t)parse_number(flag, arg, 0, 10000);
        break;
    case OPT_LEASES:
        o->leases = parse_number(flag, arg, 1, 10000000);
        break;
    case OPT_TTL:
        o->ttl_s = (int64_t)parse_number(flag, arg, 1, 9000000000);
        break;
    default:
        break;
    }
}

static void parse_option(int id, int index, struct bench_options *o)
{
    switch (id) {
    case OPT_HELP:
        fputs(help, stdout);
        exit(0);
    case OPT_ENDPOINTS:
        parse_endpoints(optarg, o);
        break;
    case OPT_TO:
        o->to_leader = parse_to(optarg);
        break;
    case OPT_SERIALIZABLE:
        o->serializable = true;
        break;
    case OPT_STREAM:
        o->stream = true;
        break;
    case OPT_JSON:
        o->json = true;
        break;
    case OPT_QUIET:
        o->quiet = true;
        break;
    default:
        parse_tls(id, optarg, &o->tls);
        parse_load(id, long_options[index].name, optarg, o);
        parse_data(id, long_options[index].name, optarg, o);
        parse_watch_or_lease(id, long_options[index].name, optarg, o);
        break;
    }
}

static void parse_command(const char *name, struct bench_options *o)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i], name) == 0) {
            o->command = (enum bench_command)i;
            o->command_name = commands[i];
            return;
        }
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) {
        fputs(help, stdout);
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
    return c == BENCH_PUT || c == BENCH_GET || c == BENCH_TXN || c == BENCH_MIXED ||
           c == BENCH_WATCH || c == BENCH_KEEPALIVE;
}

/* These do each thing once, and are over when all are done. */
static void check_once(struct bench_options *o, uint64_t operations)
{
    if (o->rate > 0 || o->every_s > 0 || o->total > 0 || o->warmup_s > 0)
        usage_error("no --rate, --every, --total or --warmup goes with", o->command_name);
    o->total = operations;
}

static void check_keepalive(struct bench_options *o)
{
    if (o->rate > 0 || o->total > 0)
        usage_error("keepalive takes --every and --duration, not --rate or --total", "");
    if (o->leases < o->threads)
        usage_error("keepalive needs a lease for each of --threads at least", "");
    o->rate = (double)o->leases / (o->every_s > 0 ? o->every_s : 10);
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
        check_keepalive(o);
    else if (o->every_s > 0)
        o->rate = 1 / o->every_s;
    else if (o->rate < 0)
        o->rate = o->command == BENCH_WATCH ? 100 : 0;
    if (o->warmup_s < 0)
        o->warmup_s = has_warmup(o->command) ? 1 : 0;
    if (o->duration_s <= 0 && o->total == 0)
        usage_error("--duration must be above 0", "");
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
    if (o->threads > o->watchers)
        usage_error("more --threads than --watchers", "");
    if (o->writers > 0 && o->writers < o->threads)
        usage_error("fewer --writers than --threads", "");
}

static void check(struct bench_options *o)
{
    size_t needed = strlen(o->prefix) + key_digits(o->keys);
    if (o->key_size < needed) {
        fprintf(stderr, "trivet-bench: %llu keys under \"%s\" need a --key-size of %zu at least\n",
                (unsigned long long)o->keys, o->prefix, needed);
        exit(2);
    }
    if (o->threads > o->conns)
        usage_error("more --threads than --conns: a connection belongs to one thread", "");
    if (o->command == BENCH_TXN && o->keys < o->threads)
        usage_error("txn needs a key for each of --threads at least", "");
    if (o->stream && o->command != BENCH_LIST)
        usage_error("--stream is of list alone", "");
    if (o->command == BENCH_COMPACT && o->conns * o->streams > 1)
        usage_error("compact is done by one, on one connection", "");
    if (o->command == BENCH_WATCH)
        check_watch(o);
    check_pace(o);
}

void bench_options_parse(int argc, char **argv, struct bench_options *ret)
{
    static char endpoint_default[] = "127.0.0.1:2379";
    struct bench_options o = {
        .endpoints = {endpoint_default},
        .endpoints_count = 1,
        .threads = 1,
        .conns = 1,
        .streams = 1,
        .duration_s = 10,
        .warmup_s = -1,
        .key_size = 32,
        .value_size = 256,
        .keys = 10000,
        .prefix = "/bench/",
        .read_percent = 90,
        .batch = 64,
        .watchers = 100,
        .writers = 64,
        .leases = 1000,
        .ttl_s = 60,
        .rate = -1, /* not said; the warm-up likewise */
        .timeout_ms = 30000,
        .seed = 1,
    };
    if (argc < 2)
        usage_error("no command", "");
    parse_command(argv[1], &o);
    optind = 2;
    opterr = 0;
    int id;
    int index = 0;
    while ((id = getopt_long(argc, argv, ":", long_options, &index)) != -1) {
        if (id == ':')
            usage_error("a value is missing after", argv[optind - 1]);
        if (id == '?')
            usage_error("no such flag, or it takes no value", argv[optind - 1]);
        parse_option(id, index, &o);
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
}
