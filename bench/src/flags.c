#include "flags.h"

#include "base/slice.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_INDENT = 23, HELP_COLUMNS = 100 };

#define ONLY(command) (1u << BENCH_##command)
#define ANY UINT32_MAX
#define KEYED                                                                                   \
    (ONLY(PUT) | ONLY(GET) | ONLY(TXN) | ONLY(MIXED) | ONLY(FILL) | ONLY(WATCH) | ONLY(LEASE) | \
     ONLY(LIST))
#define LOOPED (ANY & ~ONLY(KUBERNETES))
#define AT(member) offsetof(struct bench_options, member)
#define KUBE(member) AT(kubernetes.member)

enum { GIGA = 1000000000 };

static const struct {
    const char *name;
    const char *help;
} commands[BENCH_COMMANDS_COUNT] = {
    [BENCH_PUT] = {"put", "write keys"},
    [BENCH_GET] = {"get", "read single keys"},
    [BENCH_TXN] = {"txn", "Kubernetes' update: if mod_revision is as last seen then put, else get"},
    [BENCH_MIXED] = {"mixed", "the operations of --mix, each as often as its weight says"},
    [BENCH_LIST] = {"list", "read all keys under --prefix"},
    [BENCH_FILL] = {"fill", "write each of --keys keys once, --batch of them in a txn"},
    [BENCH_WATCH] =
        {"watch", "--watchers watch keys under --prefix while puts go on at --rate; measures the "
                  "time from each put's start to each watcher's event. With --rate 0 puts follow "
                  "the events: as many are begun as the watchers keep up with"},
    [BENCH_LEASE] = {"lease", "a lease's life: grant it, put a key under it, keep it alive, revoke "
                              "it"},
    [BENCH_GRANT] = {"grant", "grant each of --leases leases, of --ttl"},
    [BENCH_KEEPALIVE] = {"keepalive", "keep each of these alive once in --every, spread evenly, "
                                      "over --conns x --streams streams"},
    [BENCH_COMPACT] = {"compact", "forget the history up to where it had been the time before"},
    [BENCH_SNAPSHOT] = {"snapshot", "read the whole store as a snapshot, and drop it"},
    [BENCH_KUBERNETES] =
        {"kubernetes", "what the API servers of a Kubernetes cluster ask of their store, in open "
                       "loop: docs/benchmark.md. First deletes what is under --prefix, and writes "
                       "the nodes and pods"},
};

const struct flag flags[] = {
    {FLAG_HEADING, .help = "where to, and how much at once:"},
    {FLAG_ENDPOINTS, ANY, 0, 0, 0, "endpoints", "LIST",
     "host:port,... (127.0.0.1:2379); connections are dealt out in turn"},
    {FLAG_TEXT, ANY, AT(tls.ca_file), 0, 0, "cacert", "FILE",
     "by TLS, to servers that these CAs vouch for; also with https://host:port"},
    {FLAG_TEXT, ANY, AT(tls.cert_file), 0, 0, "cert", "FILE", "who we are, with --key"},
    {FLAG_TEXT, ANY, AT(tls.key_file), 0, 0, "key", "FILE", "the private key of --cert"},
    {FLAG_SWITCH, ANY, AT(tls.insecure_skip_verify), 0, 0, "insecure-skip-tls-verify", NULL,
     "believe any server"},
    {FLAG_NOT, ANY, AT(tls.secure_transport), 0, 0, "insecure-transport", "true|false",
     "false: TLS without any of these"},
    {FLAG_CHOICE, ANY, AT(to), 0, 0, "to", "all|leader",
     "all of these, or only the leader among them (all)"},
    {FLAG_U32, LOOPED, AT(conns), 1, 100000, "conns", "N",
     "connections, of all processes and threads together (1)"},
    {FLAG_U32, ANY, AT(streams), 1, 10000, "streams", "N",
     "calls under way on each connection (1; kubernetes: 100)"},
    {FLAG_U32, ANY, AT(threads), 1, BENCH_THREADS_MAX, "threads", "N",
     "threads of each process that share its connections (1)"},
    {FLAG_U32, ANY, AT(processes), 1, BENCH_PROCESSES_MAX, "processes", "N",
     "processes that share the load (1)"},
    {FLAG_RATE, LOOPED & ~ONLY(KEEPALIVE), AT(rate), 0, 100000000, "rate", "N",
     "begin N operations a second whatever the answers do, and measure each from the moment it was "
     "due; 0: each call follows an answer (0; watch: 100)"},
    {FLAG_SECONDS, LOOPED, AT(every_s), 0, 0, "every", "SECONDS",
     "instead of --rate: one operation in so many seconds; keepalive: one of each lease (10)"},

    {FLAG_HEADING, .help = "for how long:"},
    {FLAG_SECONDS, ANY, AT(duration_s), 0, 0, "duration", "SECONDS",
     "measured time (10); SIGINT ends it early, with a report"},
    {FLAG_U64, LOOPED & ~ONLY(KEEPALIVE), AT(total), 1, INT64_MAX, "total", "N",
     "end after N measured operations instead"},
    {FLAG_SECONDS, ANY, AT(warmup_s), 0, 0, "warmup", "SECONDS",
     "before that, not measured (1; fill, grant, list, compact, snapshot: 0)"},
    {FLAG_SECONDS, ANY, AT(timeout_s), 0, 0, "timeout", "SECONDS", "deadline of one call (30)"},

    {FLAG_HEADING, .help = "what:"},
    {FLAG_U64, KEYED, AT(keys), 1, GIGA, "keys", "N", "how many different keys (10000)"},
    {FLAG_U32, KEYED, AT(key_size), 1, 1 << 16, "key-size", "BYTES", "(32)"},
    {FLAG_U32, KEYED, AT(value_size), 0, 16 << 20, "value-size", "BYTES", "(256)"},
    {FLAG_TEXT, KEYED | ONLY(KUBERNETES), AT(prefix), 0, 0, "prefix", "TEXT",
     "what keys begin with (/bench/; kubernetes: /bench-registry/)"},
    {FLAG_CHOICE, KEYED, AT(dist), 0, 0, "key-dist", "uniform|zipf|seq",
     "which key comes next (uniform)"},
    {FLAG_SWITCH, ONLY(GET) | ONLY(LIST) | ONLY(MIXED), AT(serializable), 0, 0, "serializable",
     NULL, "reads that any member answers by itself"},
    {FLAG_WEIGHTS, ONLY(MIXED), 0, 0, BENCH_WEIGHT_MAX, "mix", "NAME=N,...",
     "mixed: weights of put, get, txn, list and lease (get=9,put=1)"},
    {FLAG_U32, ONLY(FILL), AT(batch), 1, 10000, "batch", "N",
     "fill (64; etcd allows 128 operations in a txn)"},
    {FLAG_U64, ONLY(LIST) | ONLY(MIXED), AT(limit), 0, INT64_MAX, "limit", "N",
     "list: read in pages of N keys; 0: all in one answer (0)"},
    {FLAG_SWITCH, ONLY(LIST), AT(stream), 0, 0, "stream", NULL,
     "list: by RangeStream; a list ends with its last message"},
    {FLAG_U32, ONLY(WATCH), AT(watchers), 1, 1000000, "watchers", "N", "watch (100)"},
    {FLAG_CHOICE, ONLY(WATCH), AT(watched), 0, 0, "watch-keys", "all|slice|one",
     "what each watches: all keys, a slice of its own (each put has one event), or one key of its "
     "own (one put in keys / watchers has an event) (all)"},
    {FLAG_U32, ONLY(WATCH), AT(writers), 0, 10000, "writers", "N",
     "watch: puts under way at most; 0: only receive what others write (64)"},
    {FLAG_U64, ONLY(GRANT) | ONLY(KEEPALIVE), AT(leases), 1, 10000000, "leases", "N",
     "grant, keepalive (1000)"},
    {FLAG_U64, ONLY(GRANT) | ONLY(LEASE) | ONLY(MIXED), AT(ttl_s), 1, 9 * (uint64_t)GIGA, "ttl",
     "SECONDS", "of a lease (60)"},
    {FLAG_U64, ANY, AT(seed), 0, UINT64_MAX, "seed", "N", "of the random choices (1)"},

    {FLAG_HEADING, .help = "kubernetes; rates are of the whole cluster:"},
    {FLAG_U32, ONLY(KUBERNETES), KUBE(nodes), 1, 100000, "nodes", "N", "(500)"},
    {FLAG_U32, ONLY(KUBERNETES), KUBE(pods_per_node), 1, 1000, "pods-per-node", "N", "(30)"},
    {FLAG_U32, ONLY(KUBERNETES), KUBE(api_servers), 1, 100, "api-servers", "N",
     "each with a connection and a watch for every resource (3)"},
    {FLAG_RATE, ONLY(KUBERNETES), KUBE(pod_churn), 0, 1000000, "pod-churn", "N",
     "pods made, and pods deleted, a second; at most a tenth of all (20)"},
    {FLAG_SECONDS, ONLY(KUBERNETES), KUBE(lease_every_s), 0, 0, "lease-every", "SECONDS",
     "each node renews its Lease (10)"},
    {FLAG_SECONDS, ONLY(KUBERNETES), KUBE(status_every_s), 0, 0, "status-every", "SECONDS",
     "each node writes its status (300)"},
    {FLAG_RATE, ONLY(KUBERNETES), KUBE(gets), 0, 1000000, "gets", "N",
     "gets of single objects from the store, a second (20)"},
    {FLAG_RATE, ONLY(KUBERNETES), KUBE(reads), 0, 1000000, "reads", "N",
     "consistent lists from a watch cache, a second: the revision is asked for, then the cache "
     "waited for, with progress requests each 100 ms (10)"},
    {FLAG_SECONDS, ONLY(KUBERNETES), KUBE(count_every_s), 0, 0, "count-every", "SECONDS",
     "each API server counts the objects of each resource (60)"},
    {FLAG_SECONDS, ONLY(KUBERNETES), KUBE(relist_every_s), 0, 0, "relist-every", "SECONDS",
     "each API server reads one resource anew, one after the other; 0: never (60)"},
    {FLAG_U64, ONLY(KUBERNETES), KUBE(page), 1, 1000000, "page", "N",
     "objects in one answer of a relist (10000)"},
    {FLAG_SECONDS, ONLY(KUBERNETES), KUBE(compact_every_s), 0, 0, "compact-every", "SECONDS",
     "each API server tries to compact; 0: never (300)"},
    {FLAG_U64, ONLY(KUBERNETES), KUBE(event_ttl_s), 1, GIGA, "event-ttl", "SECONDS", "(3600)"},
    {FLAG_U32, ONLY(KUBERNETES), KUBE(idle_watches), 0, 1000, "idle-watches", "N",
     "further resources of each API server, of which nothing changes (60)"},
    {FLAG_U32, ONLY(KUBERNETES), KUBE(node_bytes), 16, 1 << 20, "node-bytes", "BYTES", "(12000)"},
    {FLAG_U32, ONLY(KUBERNETES), KUBE(pod_bytes), 16, 1 << 20, "pod-bytes", "BYTES", "(4000)"},
    {FLAG_U32, ONLY(KUBERNETES), KUBE(lease_bytes), 16, 1 << 20, "lease-bytes", "BYTES", "(450)"},
    {FLAG_U32, ONLY(KUBERNETES), KUBE(event_bytes), 16, 1 << 20, "event-bytes", "BYTES", "(800)"},

    {FLAG_HEADING, .help = "what comes of it:"},
    {FLAG_TEXT, ANY, AT(json_path), 0, 0, "json", "FILE",
     "write the result there, with every histogram and a series by the second; -: to stdout, "
     "instead of words"},
    {FLAG_SWITCH, ANY, AT(quiet), 0, 0, "quiet", NULL, "no screen and no progress lines"},
    {FLAG_HELP, ANY, 0, 0, 0, "help", NULL, "this"},
};
const uint32_t flags_count = sizeof(flags) / sizeof(flags[0]);

const char *command_name(enum bench_command command)
{
    return commands[command].name;
}

static const char *const part_names[BENCH_PARTS_COUNT] = {
    [BENCH_PART_PUT] = "put",   [BENCH_PART_GET] = "get",     [BENCH_PART_TXN] = "txn",
    [BENCH_PART_LIST] = "list", [BENCH_PART_LEASE] = "lease",
};

const char *bench_part_name(enum bench_part part)
{
    return part_names[part];
}

/* --- help --- */

/* `text` from this column on, broken at blanks; `column` is where the line stands already. */
static void print_wrapped(const char *text, int column)
{
    while (column < HELP_INDENT)
        column += printf(" ");
    while (*text != 0) {
        int size = (int)strcspn(text, " ");
        if (column + 1 + size > HELP_COLUMNS && column > HELP_INDENT) {
            printf("\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        } else if (column > HELP_INDENT) {
            column += printf(" ");
        }
        column += printf("%.*s", size, text);
        text += size + (text[size] != 0);
    }
    printf("\n");
}

static void print_entry(int column, const char *help)
{
    if (column >= HELP_INDENT) {
        printf("\n");
        column = 0;
    }
    print_wrapped(help, column);
}

static void print_flag(const struct flag *f)
{
    if (f->type == FLAG_HEADING) {
        printf("\n%s\n", f->help);
        return;
    }
    int column = printf("  --%s%s%s", f->name, f->value != NULL ? " " : "",
                        f->value != NULL ? f->value : "");
    print_entry(column, f->help);
}

void flags_print_help(void)
{
    printf("usage: trivet-bench COMMAND [flags]\n"
           "       trivet-bench report RUN.json > report.html\n"
           "       trivet-bench compare A.json[,A2.json,...] B.json[,B2.json,...]\n\n"
           "Loads an etcd API (trivet's or etcd's) and measures how long each call takes.\n\n"
           "commands:\n");
    for (int i = 0; i < BENCH_COMMANDS_COUNT; i++)
        print_entry(printf("  %s", commands[i].name), commands[i].help);
    print_entry(printf("  report"), "a page with tables and plots, from what --json wrote");
    print_entry(printf("  compare"),
                "does B differ from A? By the seconds of one run each, or, with five runs or more "
                "a side, by the runs; with confidence intervals");
    for (uint32_t i = 0; i < flags_count; i++)
        print_flag(&flags[i]);
}

/* --- values --- */

_Noreturn void usage_error(const char *what, const char *value)
{
    fprintf(stderr, "trivet-bench: %s%s%s\ntrivet-bench: see trivet-bench --help\n", what,
            value[0] == 0 ? "" : ": ", value);
    exit(2);
}

static uint64_t parse_number(const struct flag *f, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || text[0] == '-' || value < f->min ||
        value > f->max) {
        fprintf(stderr, "trivet-bench: --%s takes a number from %llu to %llu, not \"%s\"\n",
                f->name, (unsigned long long)f->min, (unsigned long long)f->max, text);
        exit(2);
    }
    return value;
}

/* Seconds may end with an s. */
static double parse_decimal(const struct flag *f, const char *text)
{
    char *end;
    bool seconds = f->type == FLAG_SECONDS;
    double max = seconds ? 1e6 : (double)f->max;
    errno = 0;
    double value = strtod(text, &end);
    if (seconds && end > text && strcmp(end, "s") == 0)
        end++;
    if (errno != 0 || end == text || *end != 0 || !(value >= 0 && value <= max)) {
        fprintf(stderr, "trivet-bench: --%s takes %s from 0 to %.0f, not \"%s\"\n", f->name,
                seconds ? "seconds" : "a number", max, text);
        exit(2);
    }
    return value;
}

static uint32_t parse_choice(const struct flag *f, const char *text)
{
    uint32_t number = 0;
    const char *word = f->value;
    size_t size = strlen(text);
    for (;; number++) {
        size_t word_size = strcspn(word, "|");
        if (word_size == size && memcmp(word, text, size) == 0)
            return number;
        if (word[word_size] == 0)
            break;
        word += word_size + 1;
    }
    fprintf(stderr, "trivet-bench: --%s takes %s, not \"%s\"\n", f->name, f->value, text);
    exit(2);
}

/* Cuts `list` at its commas; the pieces live as long as the process. */
static char *next_piece(char **list)
{
    char *piece = *list;
    char *comma = strchr(piece, ',');
    if (comma != NULL)
        *comma++ = 0;
    *list = comma;
    return piece;
}

static void store_endpoints(char *list, struct bench_options *o)
{
    o->endpoints_count = 0;
    while (list != NULL) {
        char *endpoint = next_piece(&list);
        if (strchr(endpoint, ':') == NULL)
            usage_error("--endpoints: not a host:port", endpoint);
        if (o->endpoints_count == BENCH_ENDPOINTS_MAX)
            usage_error("--endpoints: too many", "");
        o->endpoints[o->endpoints_count++] = endpoint;
    }
}

static void store_weights(const struct flag *f, char *list, struct bench_options *o)
{
    memset(o->weights, 0, sizeof(o->weights));
    while (list != NULL) {
        char *name = next_piece(&list);
        char *weight = strchr(name, '=');
        int part = 0;
        if (weight == NULL)
            usage_error("--mix takes NAME=WEIGHT,..., not", name);
        *weight++ = 0;
        while (part < BENCH_PARTS_COUNT && strcmp(part_names[part], name) != 0)
            part++;
        if (part == BENCH_PARTS_COUNT)
            usage_error("--mix is of put, get, txn, list and lease, not", name);
        o->weights[part] = (uint32_t)parse_number(f, weight);
    }
}

void flag_store(const struct flag *f, char *text, struct bench_options *o)
{
    void *at = (char *)o + f->offset;
    switch (f->type) {
    case FLAG_SWITCH:
        *(bool *)at = true;
        break;
    case FLAG_TEXT:
        *(const char **)at = text;
        break;
    case FLAG_U32:
        *(uint32_t *)at = (uint32_t)parse_number(f, text);
        break;
    case FLAG_U64:
        *(uint64_t *)at = parse_number(f, text);
        break;
    case FLAG_SECONDS:
    case FLAG_RATE:
        *(double *)at = parse_decimal(f, text);
        break;
    case FLAG_CHOICE:
        *(uint32_t *)at = parse_choice(f, text);
        break;
    case FLAG_NOT:
        *(bool *)at = parse_choice(f, text) == 1;
        break;
    case FLAG_ENDPOINTS:
        store_endpoints(text, o);
        break;
    case FLAG_WEIGHTS:
        store_weights(f, text, o);
        break;
    case FLAG_HEADING:
    case FLAG_HELP:
        break;
    }
}
