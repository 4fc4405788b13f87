/* The whole of the configuration: defaults, where it is from, and what follows from it. */
#include "server/config_internal.h"

#include "server/default_host.h"
#include "server/log_setup.h"
#include "server/password.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    IO_THREADS_DEFAULT_MAX = 8,
    PROGRESS_INTERVAL_MS_MIN = 100, /* etcd's */
    PROGRESS_INTERVAL_MS_DEFAULT = 600000,
};

#define DEFAULT_NAME "default"
#define DEFAULT_INITIAL_CLUSTER "default=http://localhost:2380"

static void free_all(struct config *c)
{
    for (uint32_t i = 0; i < config_flags_count; i++) {
        const struct flag *f = &config_flags[i];
        void *field = config__field(c, f);
        if (field == NULL)
            continue;
        if (f->kind == FLAG_STRING || f->kind == FLAG_STRINGS || f->kind == FLAG_NAMES ||
            f->kind == FLAG_ORIGINS || f->kind == FLAG_CONFIG_FILE)
            mem_free(*(char **)field);
        else if (f->kind == FLAG_URLS)
            urls_fini(field);
    }
    mem_free(c->local_host);
    *c = (struct config){0};
}

static void set_defaults(struct parser *p, uint32_t cpus)
{
    features_init(&p->config->features);
    for (uint32_t i = 0; i < config_flags_count; i++) {
        const struct flag *f = &config_flags[i];
        bool needs = f->kind == FLAG_NAMES && *f->value == '\0';
        if (needs) /* an empty list, not one with an empty name in it */
            *(char **)config__field(p->config, f) = mem_strdup("");
        else if (f->value != NULL && f->kind != FLAG_VERSION) {
            bool ok = config__set(p, f, f->value);
            ASSERT(ok);
        }
    }
    uint32_t spare = cpus > 2 ? cpus - 2 : 0;
    p->config->io_threads = spare < IO_THREADS_DEFAULT_MAX ? spare : IO_THREADS_DEFAULT_MAX;
}

static void replace_text(char **field, const char *text)
{
    mem_free(*field);
    *field = mem_strdup(text);
}

/* Who is found by DNS or by another cluster needs no list of the members. */
static void forget_initial_cluster(struct parser *p, bool from_file)
{
    struct config *c = p->config;
    bool other = *c->discovery_srv != '\0' || *c->discovery.endpoints != '\0' ||
                 (!from_file && *c->discovery_srv_name != '\0');
    bool own = from_file ? strcmp(c->initial_cluster, DEFAULT_INITIAL_CLUSTER) != 0
                         : config__is_set(p, "initial-cluster");
    if (other && !own)
        replace_text(&c->initial_cluster, "");
}

/* --- what follows from what was set --- */

static void complete_data_dir(struct config *c)
{
    if (*c->data_dir != '\0')
        return;
    size_t size = strlen(c->name) + sizeof(".etcd");
    mem_free(c->data_dir);
    c->data_dir = mem_alloc(size);
    snprintf(c->data_dir, size, "%s.etcd", c->name);
    log_warn("'data-dir' was empty; using default", LOG_STR("data-dir", c->data_dir));
}

/* Who listens everywhere, and has not said by which address he is reached, is reached by that of
 * the default route. */
static bool advertise_host(const struct urls *listen, struct urls *advertised, const char *initial,
                           const char *host)
{
    char listen_host[URL_BYTES_MAX], url[URL_BYTES_MAX + 32], why[256];
    uint16_t port;
    struct urls made;
    if (advertised->count != 1 || strcmp(advertised->items[0], initial) != 0 ||
        listen->count == 0 || url_is_path(listen->items[0]))
        return false;
    url_host_port(listen->items[0], listen_host, sizeof(listen_host), &port);
    if (strcmp(listen_host, "0.0.0.0") != 0)
        return false;
    snprintf(url, sizeof(url), "http://%s:%u", host, port);
    if (urls_parse(url, &made, why, sizeof(why)) != 0)
        return false;
    urls_fini(advertised);
    *advertised = made;
    return true;
}

static void name_in_initial_cluster(struct config *c)
{
    if (strcmp(c->name, DEFAULT_NAME) == 0 ||
        strcmp(c->initial_cluster, DEFAULT_INITIAL_CLUSTER) != 0)
        return;
    const char *name = *c->name == '\0' ? DEFAULT_NAME : c->name;
    size_t prefix_size = strlen(name) + 2;
    size_t size = c->advertise_peer_urls.count * (prefix_size + URL_BYTES_MAX) + 1;
    char *prefix = mem_alloc(prefix_size);
    snprintf(prefix, prefix_size, "%s=", name);
    mem_free(c->initial_cluster);
    c->initial_cluster = mem_alloc(size);
    urls_join(&c->advertise_peer_urls, prefix, c->initial_cluster, size);
    mem_free(prefix);
}

/* etcd's UpdateDefaultClusterFromName(). */
static void complete_addresses(struct config *c)
{
    char host[64];
    bool known = default_host(host, sizeof(host));
    bool used = known && advertise_host(&c->listen_peer_urls, &c->advertise_peer_urls,
                                        "http://localhost:2380", host);
    name_in_initial_cluster(c);
    used |= known && advertise_host(&c->listen_client_urls, &c->advertise_client_urls,
                                    "http://localhost:2379", host);
    if (used)
        log_info("detected default host for advertise", LOG_STR("host", host));
}

/* With the feature SetMemberLocalAddr; etcd's InferLocalAddr(). */
static void complete_local_host(struct config *c)
{
    char host[URL_HOST_BYTES_MAX + 1], urls[4096];
    if (!c->features.enabled[FEATURE_SET_MEMBER_LOCAL_ADDR])
        return;
    urls_join(&c->advertise_peer_urls, "", urls, sizeof(urls));
    log_info("searching for a suitable member local address in AdvertisePeerURLs",
             LOG_STR("advertise-peer-urls", urls));
    if (urls_outward_host(&c->advertise_peer_urls, host, sizeof(host))) {
        c->local_host = mem_strdup(host);
        log_info("setting member local address", LOG_STR("LocalAddr", host));
    } else {
        log_warn("unable to set a member local address due to lack of suitable local addresses",
                 LOG_STR("advertise-peer-urls", urls));
    }
}

static void complete_numbers(struct config *c)
{
    if (c->bcrypt_cost < PASSWORD_COST_MIN || c->bcrypt_cost > PASSWORD_COST_MAX) {
        log_warn("use default bcrypt cost instead of the invalid given cost",
                 LOG_UINT("min-cost", PASSWORD_COST_MIN), LOG_UINT("max-cost", PASSWORD_COST_MAX),
                 LOG_UINT("default-cost", PASSWORD_COST_DEFAULT),
                 LOG_UINT("given-cost", c->bcrypt_cost));
        c->bcrypt_cost = PASSWORD_COST_DEFAULT;
    }
    if (c->watch_progress_interval_ms == 0)
        c->watch_progress_interval_ms = PROGRESS_INTERVAL_MS_DEFAULT;
    else if (c->watch_progress_interval_ms < PROGRESS_INTERVAL_MS_MIN)
        c->watch_progress_interval_ms = PROGRESS_INTERVAL_MS_MIN;
    if (c->warn_request_ms == 0)
        c->warn_request_ms = 300; /* as etcd */
    if (c->self_signed_years == 0 && *c->config_file != '\0')
        c->self_signed_years = 1;
}

static void warn_deprecated(const struct parser *p)
{
    if (config__is_set(p, "max-snapshots"))
        log_warn("--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.");
    if (config__is_set(p, "v2-deprecation"))
        log_warn("--v2-deprecation is deprecated and scheduled for removal in v3.8. The default "
                 "value is enforced, ignoring user input.");
}

/* A line for each option that has another meaning here. */
static void say_meanings(const struct parser *p)
{
    const struct features *f = &p->config->features;
    for (uint32_t i = 0; i < config_flags_count; i++)
        if (p->set[i] && config_flags[i].here != NULL)
            log_info("an option has another meaning than in etcd",
                     LOG_STR("option", config_flags[i].name),
                     LOG_STR("meaning", config_flags[i].here));
    for (uint32_t i = 0; i < FEATURES_COUNT; i++)
        if (f->set[i] && feature_meaning((enum feature)i) != NULL)
            log_info("a feature gate has no effect",
                     LOG_STR("feature", feature_name((enum feature)i)),
                     LOG_BOOL("enabled", f->enabled[i]),
                     LOG_STR("why", feature_meaning((enum feature)i)));
}

/* --- where it is from --- */

static enum config_outcome from_file(struct parser *p, uint32_t cpus, const char *path)
{
    char *kept = mem_strdup(path);
    free_all(p->config);
    memset(p->set, 0, sizeof(p->set));
    set_defaults(p, cpus);
    mem_free(p->config->config_file);
    p->config->config_file = kept;
    enum config_outcome outcome = config__read_file(p, kept);
    if (outcome == CONFIG_OK)
        forget_initial_cluster(p, true);
    return outcome;
}

static enum config_outcome from_flags(struct parser *p)
{
    enum config_outcome outcome = config__parse_env(p);
    if (outcome != CONFIG_OK)
        return outcome;
    forget_initial_cluster(p, false);
    if (!p->config->fallback_is_proxy)
        return CONFIG_OK;
    snprintf(p->err_text, p->err_size,
             "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"");
    return CONFIG_INVALID;
}

static enum config_outcome read_options(struct parser *p, int argc, char *const *argv,
                                        uint32_t cpus)
{
    enum config_outcome outcome = config__parse_args(p, argc, argv);
    if (outcome != CONFIG_OK)
        return outcome;
    const struct flag *f = &config_flags[config_find_flag("config-file", 11)];
    const char *path = p->config->config_file;
    if (*path == '\0')
        path = config__variable(p, f);
    return path != NULL ? from_file(p, cpus, path) : from_flags(p);
}

enum config_outcome config_parse(struct config *ret, int argc, char *const *argv, char *const *env,
                                 uint32_t cpus, config_open_log open_log, char *err_text,
                                 size_t err_size)
{
    *ret = (struct config){0};
    struct parser p = {.config = ret, .env = env, .err_text = err_text, .err_size = err_size};
    set_defaults(&p, cpus);
    enum config_outcome outcome = read_options(&p, argc, argv, cpus);
    if (outcome == CONFIG_OK && open_log != NULL)
        outcome = open_log(&ret->log, err_text, err_size);
    if (outcome == CONFIG_OK && !config__check(&p))
        outcome = CONFIG_INVALID;
    bool from_a_file = *ret->config_file != '\0';
    if (outcome == CONFIG_OK && from_a_file)
        log_info("loaded server configuration, other configuration command line flags and "
                 "environment variables will be ignored if provided",
                 LOG_STR("path", ret->config_file));
    if (outcome == CONFIG_OK || (outcome == CONFIG_INVALID && !from_a_file))
        warn_deprecated(&p);
    if (outcome != CONFIG_OK)
        return outcome;
    complete_data_dir(ret);
    complete_addresses(ret);
    complete_local_host(ret);
    complete_numbers(ret);
    say_meanings(&p);
    return config__check_start(&p) ? CONFIG_OK : CONFIG_FATAL;
}

void config_fini(struct config *c)
{
    free_all(c);
}

/* --- as a process --- */

static void print_version(void)
{
    printf("etcd Version: %s\ntrivet Version: %s\n", CONFIG_ETCD_VERSION, CONFIG_TRIVET_VERSION);
}

/* etcd's other programs in the same file. */
static bool is_other_program(int argc, char *const *argv)
{
    if (argc < 2 || (strcmp(argv[1], "gateway") != 0 && strcmp(argv[1], "grpc-proxy") != 0))
        return false;
    fprintf(stderr, "trivetd has no \"%s\": that of etcd works with trivet as it does with etcd\n",
            argv[1]);
    return true;
}

static int say_outcome(enum config_outcome outcome, const char *err_text)
{
    switch (outcome) {
    case CONFIG_OK:
        return -1;
    case CONFIG_USAGE:
        fprintf(stderr, "%s\n", err_text);
        config_print_usage(stderr);
        return 2;
    case CONFIG_PANIC:
        fprintf(stderr, "panic: %s\n", err_text);
        return 2;
    case CONFIG_INVALID:
        log_warn("failed to verify flags", LOG_STR("error", err_text));
        if (strncmp(err_text, "--advertise-client-urls is required", 35) == 0)
            log_warn("advertise client URLs are not set", LOG_STR("error", err_text));
        return 1;
    case CONFIG_FATAL:
        LOG_AT(LOG_FATAL, "failed to start etcd", LOG_STR("error", err_text));
        return 1;
    case CONFIG_PLAIN:
        fprintf(stderr, "%s\n", err_text);
        return 1;
    case CONFIG_SHADOWED:
        LOG_AT(LOG_FATAL,
               "conflicting environment variable is shadowed by corresponding command-line flag "
               "(either unset environment variable or disable flag))",
               LOG_STR("environment-variable", err_text));
        return 1;
    case CONFIG_HELP:
        config_print_usage(stderr); /* as etcd */
        config_print_help(stdout);
        return 0;
    case CONFIG_VERSION:
        print_version();
        return 0;
    }
    return 1;
}

int config_load(struct config *ret, int argc, char *const *argv)
{
    char err_text[4096] = "";
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    *ret = (struct config){0};
    if (is_other_program(argc, argv))
        return 1;
    enum config_outcome outcome =
        config_parse(ret, argc, argv, environ, cpus > 0 ? (uint32_t)cpus : 1, log_setup, err_text,
                     sizeof(err_text));
    int status = say_outcome(outcome, err_text);
    if (status >= 0)
        log_setup_close();
    return status;
}
