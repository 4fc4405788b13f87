/* trivetctl: the command line. What it prints is what etcdctl prints for the same command.
 *
 * A command encodes its request, makes one call and prints the answer; main() picks it from the
 * table at the end. */
#include "client/snapshot.h"
#include "client/unary.h"

#include "base/mem.h"
#include "etcdserverpb.pb-c.h"
#include "proto/wire.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ENDPOINTS_MAX = 64,
    EXIT_USAGE = 2,
    RESPONSE_BYTES_MAX = INT32_MAX,
    TIMEOUT_MS_DEFAULT = 5000,
};

struct options {
    char *endpoints_text; /* what endpoints[] points into */
    const char *endpoints[ENDPOINTS_MAX];
    uint32_t endpoints_count;
    uint64_t timeout_ms;
    bool timeout_given;
    struct snapshot_flags snapshot;
    struct client_tls tls;
    bool prefix;
    bool from_key;
    bool keys_only;
    bool print_value_only;
    bool prev_kv;
    bool serializable;
    int64_t limit;
    int64_t revision;
    int64_t lease;
};

/* Call `path` on one of the endpoints and say so when it fails. */
static int call_any(const struct options *o, const char *const *endpoints, uint32_t count,
                    const char *path, struct slice request, struct buf *ret_response)
{
    char why[512];
    struct unary *u = unary_new(endpoints, count, &o->tls, why, sizeof(why));
    if (u == NULL) {
        fprintf(stderr, "Error: %s\n", why);
        return TV_EINVAL;
    }
    enum grpc_code code = unary_call(u, path, request, o->timeout_ms, ret_response);
    unary_free(u);
    if (code == GRPC_OK)
        return 0;
    fprintf(stderr, "Error: %.*s\n", (int)ret_response->size, (const char *)ret_response->data);
    return TV_EAGAIN;
}

static int call(const struct options *o, const char *path, struct slice request,
                struct buf *ret_response)
{
    return call_any(o, o->endpoints, o->endpoints_count, path, request, ret_response);
}

static int malformed(void)
{
    fprintf(stderr, "Error: the answer cannot be read\n");
    return TV_EMALFORMED;
}

static void print_bytes(struct slice s)
{
    (void)fwrite(s.data, 1, s.size, stdout); /* main() looks at ferror(stdout) */
    putchar('\n');
}

static void print_kv(const struct options *o, const struct wire_kv *kv)
{
    if (!o->print_value_only)
        print_bytes(kv->key);
    if (!o->keys_only)
        print_bytes(kv->value);
    else if (!o->print_value_only)
        putchar('\n');
}

/* All keyed `number` in a decoded message. */
static int print_kvs(const struct options *o, struct slice msg, uint32_t number)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_kv kv;
    int rv;
    while ((rv = wire_next_kv(&r, number, &kv)) == 1)
        print_kv(o, &kv);
    return rv == 0 ? 0 : malformed();
}

/* The end of the range that --prefix or --from-key ask for; `end` has room for the key. */
static struct slice range_end(const struct options *o, struct slice key, uint8_t *end)
{
    if (o->from_key || (o->prefix && key.size == 0)) {
        end[0] = '\0';
        return slice_of(end, 1);
    }
    if (!o->prefix)
        return SLICE_EMPTY;
    size_t size = key.size;
    memcpy(end, key.data, size);
    while (size > 0 && end[size - 1] == 0xff)
        size--;
    if (size == 0) {
        end[0] = '\0';
        return slice_of(end, 1);
    }
    end[size - 1]++;
    return slice_of(end, size);
}

static int run_put(const struct options *o, char **args, struct buf *response)
{
    struct wire_put_request r = {.key = slice_of_string(args[0]),
                                 .value = slice_of_string(args[1]),
                                 .lease = o->lease,
                                 .prev_kv = o->prev_kv};
    size_t size = wire_put_request_size(&r);
    uint8_t *request = mem_alloc(size + 1);
    (void)wire_put_request_put(request, &r);
    int rv = call(o, "/etcdserverpb.KV/Put", slice_of(request, size), response);
    mem_free(request);
    if (rv != 0)
        return rv;
    struct wire_put_response answer;
    if (wire_put_response_decode(buf_slice(response), &answer) != 0)
        return malformed();
    puts("OK");
    struct wire_kv kv;
    if (answer.prev_kv.size > 0 && wire_kv_decode(answer.prev_kv, &kv) == 0)
        print_kv(o, &kv);
    return 0;
}

static int run_get(const struct options *o, char **args, struct buf *response)
{
    struct slice key = slice_of_string(args[0]);
    uint8_t *end = mem_alloc(key.size + 1);
    struct wire_range_request r = {.key = key.size > 0 ? key : SLICE_LITERAL("\0"),
                                   .range_end = range_end(o, key, end),
                                   .limit = o->limit,
                                   .revision = o->revision,
                                   .serializable = o->serializable,
                                   .keys_only = o->keys_only};
    size_t size = wire_range_request_size(&r);
    uint8_t *request = mem_alloc(size + 1);
    (void)wire_range_request_put(request, &r);
    int rv = call(o, "/etcdserverpb.KV/Range", slice_of(request, size), response);
    mem_free(request);
    mem_free(end);
    if (rv != 0)
        return rv;
    struct wire_range_response answer;
    if (wire_range_response_decode(buf_slice(response), &answer) != 0)
        return malformed();
    return print_kvs(o, answer.msg, WIRE_RANGE_KVS);
}

static int run_del(const struct options *o, char **args, struct buf *response)
{
    struct slice key = slice_of_string(args[0]);
    uint8_t *end = mem_alloc(key.size + 1);
    struct wire_delete_range_request r = {.key = key.size > 0 ? key : SLICE_LITERAL("\0"),
                                          .range_end = range_end(o, key, end),
                                          .prev_kv = o->prev_kv};
    size_t size = wire_delete_range_request_size(&r);
    uint8_t *request = mem_alloc(size + 1);
    (void)wire_delete_range_request_put(request, &r);
    int rv = call(o, "/etcdserverpb.KV/DeleteRange", slice_of(request, size), response);
    mem_free(request);
    mem_free(end);
    if (rv != 0)
        return rv;
    struct wire_delete_range_response answer;
    if (wire_delete_range_response_decode(buf_slice(response), &answer) != 0)
        return malformed();
    printf("%" PRId64 "\n", answer.deleted);
    return print_kvs(o, answer.msg, WIRE_DELETE_RANGE_PREV_KVS);
}

/* Every endpoint speaks for itself: one line each. */
static int run_status(const struct options *o, char **args, struct buf *response)
{
    int failure = 0;
    for (uint32_t i = 0; i < o->endpoints_count; i++) {
        int rv = call_any(o, &o->endpoints[i], 1, "/etcdserverpb.Maintenance/Status", SLICE_EMPTY,
                          response);
        Etcdserverpb__StatusResponse *s =
            rv == 0 ? etcdserverpb__status_response__unpack(NULL, response->size, response->data)
                    : NULL;
        if (s == NULL) {
            failure = rv != 0 ? rv : malformed();
            continue;
        }
        uint64_t id = s->header != NULL ? s->header->member_id : 0;
        printf("%s, %" PRIx64 ", %s, %.1f MB, %s, term %" PRIu64 ", index %" PRIu64
               ", applied %" PRIu64 "\n",
               o->endpoints[i], id, s->version, (double)s->dbsize / 1e6,
               s->leader == 0 ? "no leader" : (s->leader == id ? "leader" : "follower"),
               s->raftterm, s->raftindex, s->raftappliedindex);
        etcdserverpb__status_response__free_unpacked(s, NULL);
    }
    return failure;
}

static void print_joined(char **texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%s%s", i > 0 ? "," : "", texts[i]);
}

static int run_member(const struct options *o, char **args, struct buf *response)
{
    if (strcmp(args[0], "list") != 0) {
        fprintf(stderr, "Error: unknown command \"%s\" for \"trivetctl member\"\n", args[0]);
        return TV_EINVAL;
    }
    static const uint8_t linearizable[] = {1 << 3, 1};
    int rv = call(o, "/etcdserverpb.Cluster/MemberList",
                  slice_of(linearizable, sizeof(linearizable)), response);
    if (rv != 0)
        return rv;
    Etcdserverpb__MemberListResponse *list =
        etcdserverpb__member_list_response__unpack(NULL, response->size, response->data);
    if (list == NULL)
        return malformed();
    for (size_t i = 0; i < list->n_members; i++) {
        const Etcdserverpb__Member *m = list->members[i];
        printf("%" PRIx64 ", %s, %s, ", m->id, m->name[0] != '\0' ? "started" : "unstarted",
               m->name);
        print_joined(m->peerurls, m->n_peerurls);
        printf(", ");
        print_joined(m->clienturls, m->n_clienturls);
        printf(", %s\n", m->islearner ? "true" : "false");
    }
    etcdserverpb__member_list_response__free_unpacked(list, NULL);
    return 0;
}

static const struct command {
    const char *name;
    int args_min;
    int args_max;
    const char *usage;
    int (*run)(const struct options *o, char **args, struct buf *response);
} commands[] = {
    {"put", 2, 2, "put KEY VALUE [--prev-kv] [--lease ID]", run_put},
    {"get", 1, 1,
     "get KEY [--prefix | --from-key] [--limit N] [--rev N] [--keys-only] [--print-value-only]\n"
     "      [--consistency l|s]",
     run_get},
    {"del", 1, 1, "del KEY [--prefix | --from-key] [--prev-kv]", run_del},
    {"status", 0, 0, "status (of each endpoint)", run_status},
    {"member", 1, 1, "member list", run_member},
};

static int snapshot_save_command(const struct options *o, const char *path)
{
    char version[64], err_text[4096];
    if (o->endpoints_count != 1) {
        fprintf(stderr, "Error: snapshot must be requested to one selected node, not multiple\n");
        return EXIT_FAILURE;
    }
    if (snapshot_save(o->endpoints[0], &o->tls, o->timeout_given ? o->timeout_ms : 0, path, version,
                      sizeof(version), err_text, sizeof(err_text)) != 0) {
        fprintf(stderr, "Error: %s\n", err_text);
        return EXIT_FAILURE;
    }
    printf("Snapshot saved at %s\n", path);
    if (version[0] != '\0')
        printf("Server version %s\n", version);
    return EXIT_SUCCESS;
}

static const char snapshot_usage[] =
    "snapshot save FILE | status FILE [-w simple|json|table|fields]\n"
    "  snapshot restore FILE [--data-dir DIR] [--wal-dir DIR] [--name NAME] [--initial-cluster "
    "...]\n"
    "      [--initial-cluster-token ...] [--initial-advertise-peer-urls ...] [--skip-hash-check]\n"
    "      [--bump-revision N --mark-compacted]";

static int usage(void)
{
    fprintf(stderr, "usage: trivetctl [--endpoints HOST:PORT,...] [--command-timeout SECONDS]\n"
                    "       [--cacert FILE] [--cert FILE --key FILE] [--insecure-skip-tls-verify]\n"
                    "       [--insecure-transport=false] COMMAND\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(stderr, "  %s\n", commands[i].usage);
    fprintf(stderr, "  %s\n", snapshot_usage);
    return EXIT_USAGE;
}

/* The process's exit status. */
static int run_snapshot(const struct options *o, char **args, int args_count)
{
    if (args_count != 2)
        return usage();
    if (strcmp(args[0], "save") == 0)
        return snapshot_save_command(o, args[1]);
    if (strcmp(args[0], "status") == 0)
        return snapshot_status_command(&o->snapshot, args[1]);
    if (strcmp(args[0], "restore") == 0)
        return snapshot_restore_command(&o->snapshot, args[1]);
    return usage();
}

static int parse_number(const char *text, int base, int64_t *ret_number)
{
    char *end;
    *ret_number = strtoll(text, &end, base);
    return end != text && *end == '\0' ? 0 : TV_EINVAL;
}

static int parse_endpoints(struct options *o, const char *text)
{
    mem_free(o->endpoints_text);
    o->endpoints_text = mem_strdup(text);
    o->endpoints_count = 0;
    char *rest = o->endpoints_text;
    char *one;
    while ((one = strsep(&rest, ",")) != NULL) {
        if (o->endpoints_count == ENDPOINTS_MAX || *one == '\0')
            return TV_EINVAL;
        o->endpoints[o->endpoints_count++] = one;
    }
    return 0;
}

enum {
    OPT_ENDPOINTS = 256,
    OPT_TIMEOUT,
    OPT_PREFIX,
    OPT_FROM_KEY,
    OPT_KEYS_ONLY,
    OPT_VALUE_ONLY,
    OPT_PREV_KV,
    OPT_CONSISTENCY,
    OPT_LIMIT,
    OPT_REV,
    OPT_LEASE,
    OPT_DATA_DIR,
    OPT_WAL_DIR,
    OPT_NAME,
    OPT_CLUSTER,
    OPT_CLUSTER_TOKEN,
    OPT_PEER_URLS,
    OPT_SKIP_HASH_CHECK,
    OPT_BUMP_REVISION,
    OPT_MARK_COMPACTED,
    OPT_CACERT,
    OPT_CERT,
    OPT_KEY,
    OPT_SKIP_VERIFY,
    OPT_INSECURE_TRANSPORT,
};

static const struct option long_options[] = {
    {"endpoints", required_argument, NULL, OPT_ENDPOINTS},
    {"command-timeout", required_argument, NULL, OPT_TIMEOUT},
    {"prefix", no_argument, NULL, OPT_PREFIX},
    {"from-key", no_argument, NULL, OPT_FROM_KEY},
    {"keys-only", no_argument, NULL, OPT_KEYS_ONLY},
    {"print-value-only", no_argument, NULL, OPT_VALUE_ONLY},
    {"prev-kv", no_argument, NULL, OPT_PREV_KV},
    {"consistency", required_argument, NULL, OPT_CONSISTENCY},
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"rev", required_argument, NULL, OPT_REV},
    {"lease", required_argument, NULL, OPT_LEASE},
    {"write-out", required_argument, NULL, 'w'},
    {"data-dir", required_argument, NULL, OPT_DATA_DIR},
    {"wal-dir", required_argument, NULL, OPT_WAL_DIR},
    {"name", required_argument, NULL, OPT_NAME},
    {"initial-cluster", required_argument, NULL, OPT_CLUSTER},
    {"initial-cluster-token", required_argument, NULL, OPT_CLUSTER_TOKEN},
    {"initial-advertise-peer-urls", required_argument, NULL, OPT_PEER_URLS},
    {"skip-hash-check", no_argument, NULL, OPT_SKIP_HASH_CHECK},
    {"bump-revision", required_argument, NULL, OPT_BUMP_REVISION},
    {"mark-compacted", no_argument, NULL, OPT_MARK_COMPACTED},
    {"cacert", required_argument, NULL, OPT_CACERT},
    {"cert", required_argument, NULL, OPT_CERT},
    {"key", required_argument, NULL, OPT_KEY},
    {"insecure-skip-tls-verify", optional_argument, NULL, OPT_SKIP_VERIFY},
    {"insecure-transport", optional_argument, NULL, OPT_INSECURE_TRANSPORT},
    {NULL, 0, NULL, 0},
};

static int parse_snapshot_option(struct snapshot_flags *f, int option, const char *value)
{
    int64_t number;
    switch (option) {
    case 'w':
        f->write_out = value;
        return 0;
    case OPT_DATA_DIR:
        f->data_dir = value;
        return 0;
    case OPT_WAL_DIR:
        f->wal_dir = value;
        return 0;
    case OPT_NAME:
        f->name = value;
        return 0;
    case OPT_CLUSTER:
        f->initial_cluster = value;
        return 0;
    case OPT_CLUSTER_TOKEN:
        f->initial_cluster_token = value;
        return 0;
    case OPT_PEER_URLS:
        f->advertise_peer_urls = value;
        return 0;
    case OPT_SKIP_HASH_CHECK:
        f->skip_hash_check = true;
        return 0;
    case OPT_MARK_COMPACTED:
        f->mark_compacted = true;
        return 0;
    case OPT_BUMP_REVISION:
        if (parse_number(value, 10, &number) != 0 || number < 0)
            return TV_EINVAL;
        f->bump_revision = (uint64_t)number;
        return 0;
    default:
        return TV_EINVAL;
    }
}

/* NULL: the flag stands alone. */
static int parse_bool(const char *text, bool *ret)
{
    *ret = text == NULL || strcmp(text, "true") == 0;
    return *ret || strcmp(text, "false") == 0 ? 0 : TV_EINVAL;
}

static int parse_tls(struct client_tls *t, int option, const char *value)
{
    bool insecure;
    int rv;
    switch (option) {
    case OPT_CACERT:
        t->ca_file = value;
        return 0;
    case OPT_CERT:
        t->cert_file = value;
        return 0;
    case OPT_KEY:
        t->key_file = value;
        return 0;
    case OPT_SKIP_VERIFY:
        return parse_bool(value, &t->insecure_skip_verify);
    case OPT_INSECURE_TRANSPORT:
        rv = parse_bool(value, &insecure);
        t->secure_transport = rv == 0 && !insecure;
        return rv;
    default:
        return TV_EINVAL;
    }
}

/* As etcdctl: what the command line does not say, the environment may. */
static int parse_environment(struct options *o)
{
    static const struct {
        const char *name;
        int option;
    } variables[] = {{"ETCDCTL_CACERT", OPT_CACERT},
                     {"ETCDCTL_CERT", OPT_CERT},
                     {"ETCDCTL_KEY", OPT_KEY},
                     {"ETCDCTL_INSECURE_SKIP_TLS_VERIFY", OPT_SKIP_VERIFY},
                     {"ETCDCTL_INSECURE_TRANSPORT", OPT_INSECURE_TRANSPORT}};
    int rv = 0;
    for (size_t i = 0; rv == 0 && i < sizeof(variables) / sizeof(variables[0]); i++) {
        const char *value = getenv(variables[i].name);
        if (value != NULL && value[0] != '\0')
            rv = parse_tls(&o->tls, variables[i].option, value);
    }
    return rv;
}

static int parse_option(struct options *o, int option, const char *value)
{
    int64_t seconds;
    switch (option) {
    case OPT_ENDPOINTS:
        return parse_endpoints(o, value);
    case OPT_TIMEOUT:
        if (parse_number(value, 10, &seconds) != 0 || seconds <= 0 || seconds > 1000000)
            return TV_EINVAL;
        o->timeout_ms = (uint64_t)seconds * 1000;
        o->timeout_given = true;
        return 0;
    case OPT_PREFIX:
        o->prefix = true;
        return 0;
    case OPT_FROM_KEY:
        o->from_key = true;
        return 0;
    case OPT_KEYS_ONLY:
        o->keys_only = true;
        return 0;
    case OPT_VALUE_ONLY:
        o->print_value_only = true;
        return 0;
    case OPT_PREV_KV:
        o->prev_kv = true;
        return 0;
    case OPT_CONSISTENCY:
        o->serializable = strcmp(value, "s") == 0;
        return o->serializable || strcmp(value, "l") == 0 ? 0 : TV_EINVAL;
    case OPT_LIMIT:
        return parse_number(value, 10, &o->limit);
    case OPT_REV:
        return parse_number(value, 10, &o->revision);
    case OPT_LEASE:
        return parse_number(value, 16, &o->lease);
    default:
        return option < OPT_CACERT ? parse_snapshot_option(&o->snapshot, option, value)
                                   : parse_tls(&o->tls, option, value);
    }
}

static int run_command(const struct options *o, char **args, int args_count)
{
    if (args_count > 0 && strcmp(args[0], "snapshot") == 0)
        return run_snapshot(o, args + 1, args_count - 1);
    static const struct snapshot_flags none;
    if (memcmp(&o->snapshot, &none, sizeof(none)) != 0)
        return usage(); /* flags of another command's */
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        const struct command *c = &commands[i];
        if (args_count == 0 || strcmp(args[0], c->name) != 0)
            continue;
        if (args_count - 1 < c->args_min || args_count - 1 > c->args_max)
            return usage();
        struct buf response;
        buf_init(&response, RESPONSE_BYTES_MAX);
        int rv = c->run(o, args + 1, &response);
        buf_fini(&response);
        if (fflush(stdout) != 0 || ferror(stdout))
            rv = TV_EIO;
        return rv == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    return usage();
}

int main(int argc, char **argv)
{
    struct options o = {.timeout_ms = TIMEOUT_MS_DEFAULT};
    (void)signal(SIGPIPE, SIG_IGN);
    const char *endpoints = getenv("ETCDCTL_ENDPOINTS");
    int rv = parse_endpoints(&o, endpoints != NULL ? endpoints : "127.0.0.1:2379");
    int option;
    if (rv == 0)
        rv = parse_environment(&o);
    while (rv == 0 && (option = getopt_long(argc, argv, "w:", long_options, NULL)) != -1)
        rv = parse_option(&o, option, optarg);
    int status = rv == 0 ? run_command(&o, argv + optind, argc - optind) : usage();
    mem_free(o.endpoints_text);
    return status;
}
