#include "server/config.h"

#include "server/config_flags.h"
#include "server/password.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "proto/tls.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ELECTION_MS_MAX = 50000, /* etcd's */
    IO_THREADS_MAX = 64,
    IO_THREADS_DEFAULT_MAX = 8,
    REQUEST_BYTES_MAX = 1 << 30,
    LOG_SEGMENT_BYTES_MIN = 16 << 20,
    LOG_SEGMENT_BYTES_MAX = 1 << 30,
    PROGRESS_INTERVAL_MS_MIN = 100, /* etcd's */
    PROGRESS_INTERVAL_MS_DEFAULT = 600000,
    ENV_NAME_BYTES_MAX = 128,
};

#define DEFAULT_NAME "default"

struct parser {
    struct config *config;
    char *const *env;
    bool set[FLAGS_MAX]; /* on the command line */
    bool set_by_env[FLAGS_MAX];
    char *err_text;
    size_t err_size;
    char why[URL_BYTES_MAX * 2]; /* a value did not parse: the reason */
};

/* --- values, in Go's syntax and with Go's words when they do not parse --- */

static bool parse_bool(const char *text, bool *ret)
{
    static const char *const words[2][6] = {{"0", "f", "F", "FALSE", "false", "False"},
                                            {"1", "t", "T", "TRUE", "true", "True"}};
    for (uint32_t i = 0; i < 12; i++) {
        if (strcmp(text, words[i / 6][i % 6]) == 0) {
            *ret = i >= 6;
            return true;
        }
    }
    return false;
}

/* Decimal, or with 0x or 0 in front. 0, TV_EINVAL or TV_ETOOLARGE. */
static int parse_uint(const char *text, uint64_t max, uint64_t *ret)
{
    if (!isdigit((unsigned char)*text))
        return TV_EINVAL;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (*end != '\0')
        return TV_EINVAL;
    if (errno == ERANGE || value > max)
        return TV_ETOOLARGE;
    *ret = value;
    return 0;
}

static double unit_ms(const char **text)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"\u00b5s", 1e-3}, {"\u03bcs", 1e-3},
                 {"ms", 1},    {"s", 1e3},   {"m", 6e4},        {"h", 36e5}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t size = strlen(units[i].name);
        if (strncmp(*text, units[i].name, size) == 0) {
            *text += size;
            return units[i].ms;
        }
    }
    return 0;
}

int config_parse_duration(const char *text, uint64_t *ret_ms)
{
    double ms = 0;
    if (*text == '+')
        text++;
    if (strcmp(text, "0") == 0) {
        *ret_ms = 0;
        return 0;
    }
    if (*text == '\0')
        return TV_EINVAL;
    while (*text != '\0') {
        double number = 0, scale = 1;
        size_t digits = 0;
        for (; isdigit((unsigned char)*text); text++, digits++)
            number = number * 10 + (*text - '0');
        if (*text == '.')
            for (text++; isdigit((unsigned char)*text); text++, digits++)
                number += (*text - '0') * (scale /= 10);
        double unit = digits == 0 ? 0 : unit_ms(&text);
        if (unit == 0)
            return TV_EINVAL;
        ms += number * unit;
    }
    if (ms > (double)(INT64_MAX / 1000000))
        return TV_ETOOLARGE;
    *ret_ms = ms > 0 && ms < 1 ? 1 : (uint64_t)(ms + 1e-6);
    return 0;
}

static int parse_int(const char *text, int64_t *ret)
{
    bool negative = *text == '-';
    uint64_t value;
    int err = parse_uint(text + negative, INT64_MAX, &value);
    if (err == 0)
        *ret = negative ? -(int64_t)value : (int64_t)value;
    return err;
}

static int parse_quota(const char *text, uint64_t *ret)
{
    bool negative = *text == '-';
    uint64_t value;
    int err = parse_uint(text + negative, INT64_MAX, &value);
    if (err != 0)
        return err;
    *ret = negative ? 0 : value == 0 ? (uint64_t)CONFIG_QUOTA_DEFAULT_BYTES : value;
    return 0;
}

static const char *number_error(int err)
{
    return err == TV_ETOOLARGE ? "value out of range" : "parse error";
}

/* Each once, in the form that etcd's URLs have. */
static bool set_origins(struct parser *p, char **field, const char *text)
{
    enum { TEXT_BYTES = URLS_MAX * (URL_BYTES_MAX + 1) };
    struct urls urls = {0};
    bool any = strcmp(text, "*") == 0;
    if (!any && urls_parse(text, &urls, p->why, sizeof(p->why)) != 0)
        return false;
    mem_free(*field);
    *field = mem_alloc(TEXT_BYTES);
    if (any)
        snprintf(*field, TEXT_BYTES, "*");
    else
        urls_join(&urls, "", *field, TEXT_BYTES);
    urls_fini(&urls);
    return true;
}

/* False with the reason in p->why. */
static bool set_value(struct parser *p, const struct flag *f, const char *text)
{
    void *field = (char *)p->config + f->offset;
    uint64_t number = 0;
    int err = 0;
    switch (f->kind) {
    case FLAG_STRING:
        mem_free(*(char **)field);
        *(char **)field = mem_strdup(text);
        return true;
    case FLAG_ORIGINS:
        return set_origins(p, field, text);
    case FLAG_URLS: {
        struct urls urls;
        if (*text == '\0')
            return true; /* as etcd: the default stays */
        if (urls_parse(text, &urls, p->why, sizeof(p->why)) != 0)
            return false;
        urls_fini(field);
        *(struct urls *)field = urls;
        return true;
    }
    case FLAG_UINT:
        err = parse_uint(text, UINT64_MAX, field);
        break;
    case FLAG_UINT32:
        err = parse_uint(text, UINT32_MAX, &number);
        *(uint32_t *)field = (uint32_t)number;
        break;
    case FLAG_INT:
        err = parse_int(text, field);
        break;
    case FLAG_QUOTA:
        err = parse_quota(text, field);
        break;
    case FLAG_DURATION:
        err = config_parse_duration(text, field);
        break;
    case FLAG_BOOL:
        err = parse_bool(text, field) ? 0 : TV_EINVAL;
        break;
    case FLAG_CLUSTER_STATE:
        *(bool *)field = strcmp(text, "new") == 0;
        if (*(bool *)field || strcmp(text, "existing") == 0)
            return true;
        snprintf(p->why, sizeof(p->why), "invalid value");
        return false;
    case FLAG_LOG_LEVEL:
        if (log_level_parse(text, field) == 0)
            return true;
        snprintf(p->why, sizeof(p->why), "unrecognized level: \"%s\"", text);
        return false;
    case FLAG_WAL_IO:
        if (disk_mode_parse(text, field) == 0)
            return true;
        snprintf(p->why, sizeof(p->why), "must be auto, uring or sync");
        return false;
    case FLAG_REPAIR:
        if (repair_mode_parse(text, field) == 0)
            return true;
        snprintf(p->why, sizeof(p->why), "must be auto or refuse");
        return false;
    case FLAG_VERSION:
    case FLAG_ONLY:
    case FLAG_ONLY_BOOL:
    case FLAG_REFUSED:
    case FLAG_REFUSED_BOOL:
        ASSERT(false);
    }
    if (err != 0)
        snprintf(p->why, sizeof(p->why), "%s", number_error(err));
    return err == 0;
}

/* A flag of etcd's that is not taken, or not with this value. `given` is how it was written. */
static bool is_supported(struct parser *p, const struct flag *f, const char *value,
                         const char *given)
{
    switch (f->kind) {
    case FLAG_REFUSED:
    case FLAG_REFUSED_BOOL:
        snprintf(p->err_text, p->err_size, "%s is not supported in this version of trivet", given);
        return false;
    case FLAG_ONLY:
    case FLAG_ONLY_BOOL: {
        bool is = false, wanted = false;
        bool same = strcmp(value, f->value) == 0;
        if (f->kind == FLAG_ONLY_BOOL && parse_bool(value, &is))
            same = parse_bool(f->value, &wanted) && is == wanted;
        /* etcd's default output is stderr, unless systemd reads it. */
        if (strcmp(f->name, "log-outputs") == 0 && strcmp(value, "default") == 0)
            same = true;
        if (!same)
            snprintf(p->err_text, p->err_size,
                     "%s=%s is not supported in this version of trivet, only %s", given, value,
                     f->value);
        return same;
    }
    default:
        return true;
    }
}

static bool is_passive(const struct flag *f)
{
    return f->kind == FLAG_ONLY || f->kind == FLAG_ONLY_BOOL || f->kind == FLAG_REFUSED ||
           f->kind == FLAG_REFUSED_BOOL;
}

/* --- the command line: Go's package flag --- */

static uint32_t find_flag(const char *name, size_t size)
{
    for (uint32_t i = 0; i < config_flags_count; i++)
        if (strncmp(config_flags[i].name, name, size) == 0 && config_flags[i].name[size] == '\0')
            return i;
    return UINT32_MAX;
}

static enum config_outcome set_flag(struct parser *p, uint32_t i, const char *value)
{
    const struct flag *f = &config_flags[i];
    char given[ENV_NAME_BYTES_MAX];
    snprintf(given, sizeof(given), "--%s", f->name);
    if (!is_supported(p, f, value, given))
        return CONFIG_INVALID;
    p->set[i] = true;
    if (is_passive(f) || set_value(p, f, value))
        return CONFIG_OK;
    if (f->kind == FLAG_BOOL)
        snprintf(p->err_text, p->err_size, "invalid boolean value \"%s\" for -%s: %s", value,
                 f->name, p->why);
    else
        snprintf(p->err_text, p->err_size, "invalid value \"%s\" for flag -%s: %s", value, f->name,
                 p->why);
    return CONFIG_USAGE;
}

static enum config_outcome parse_version(struct parser *p, const char *value, bool *ret_wanted)
{
    if (parse_bool(value, ret_wanted))
        return CONFIG_OK;
    snprintf(p->err_text, p->err_size, "invalid boolean value \"%s\" for -version: parse error",
             value);
    return CONFIG_USAGE;
}

/* argv[*at], and its value if that is the argument behind; `name` is without the dashes. */
static enum config_outcome parse_flag(struct parser *p, int argc, char *const *argv, int *at,
                                      const char *name, bool *ret_version)
{
    if (*name == '\0' || *name == '-' || *name == '=') {
        snprintf(p->err_text, p->err_size, "bad flag syntax: %s", argv[*at]);
        return CONFIG_USAGE;
    }
    const char *equals = strchr(name, '=');
    size_t name_size = equals == NULL ? strlen(name) : (size_t)(equals - name);
    uint32_t i = find_flag(name, name_size);
    if (i == UINT32_MAX) {
        bool help =
            (name_size == 4 && memcmp(name, "help", 4) == 0) || (name_size == 1 && *name == 'h');
        if (help)
            return CONFIG_HELP;
        snprintf(p->err_text, p->err_size, "flag provided but not defined: -%.*s", (int)name_size,
                 name);
        return CONFIG_USAGE;
    }
    const char *value = equals == NULL ? "true" : equals + 1;
    if (equals == NULL && !flag_is_bool(&config_flags[i])) {
        if (*at + 1 >= argc) {
            snprintf(p->err_text, p->err_size, "flag needs an argument: -%s", name);
            return CONFIG_USAGE;
        }
        value = argv[++*at];
    }
    if (config_flags[i].kind == FLAG_VERSION)
        return parse_version(p, value, ret_version);
    return set_flag(p, i, value);
}

static enum config_outcome parse_args(struct parser *p, int argc, char *const *argv)
{
    bool version = false;
    int at = 1;
    for (; at < argc; at++) {
        const char *arg = argv[at];
        if (arg[0] != '-' || arg[1] == '\0')
            break;
        if (strcmp(arg, "--") == 0) {
            at++;
            break;
        }
        const char *name = arg[1] == '-' ? arg + 2 : arg + 1;
        enum config_outcome outcome = parse_flag(p, argc, argv, &at, name, &version);
        if (outcome != CONFIG_OK)
            return outcome;
    }
    if (at < argc) {
        snprintf(p->err_text, p->err_size, "\"%s\" is not a valid flag", argv[at]);
        return CONFIG_INVALID;
    }
    return version ? CONFIG_VERSION : CONFIG_OK;
}

/* --- the environment --- */

static void env_name(const struct flag *f, char *ret_name)
{
    int size = snprintf(ret_name, ENV_NAME_BYTES_MAX, "ETCD_%s", f->name);
    ASSERT(size < ENV_NAME_BYTES_MAX);
    for (char *c = ret_name + 5; *c != '\0'; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
}

/* The flag that the variable "NAME=value" stands for; UINT32_MAX when there is none. */
static uint32_t flag_of_variable(const char *variable, const char *equals)
{
    for (uint32_t i = 0; i < config_flags_count; i++) {
        char name[ENV_NAME_BYTES_MAX];
        env_name(&config_flags[i], name);
        size_t size = strlen(name);
        if ((size_t)(equals - variable) == size && memcmp(variable, name, size) == 0)
            return i;
    }
    return UINT32_MAX;
}

static enum config_outcome use_variable(struct parser *p, uint32_t i, const char *value)
{
    const struct flag *f = &config_flags[i];
    char name[ENV_NAME_BYTES_MAX];
    env_name(f, name);
    if (!is_supported(p, f, value, name))
        return CONFIG_INVALID;
    if (!is_passive(f) && !set_value(p, f, value)) {
        snprintf(p->err_text, p->err_size, "invalid value \"%s\" for %s: %s", value, name, p->why);
        return CONFIG_INVALID;
    }
    p->set_by_env[i] = true;
    log_info("recognized and used environment variable", LOG_STR("variable-name", name),
             LOG_STR("variable-value", value));
    return CONFIG_OK;
}

static enum config_outcome parse_env(struct parser *p)
{
    enum config_outcome outcome = CONFIG_OK;
    for (char *const *it = p->env; *it != NULL; it++) {
        const char *equals = strchr(*it, '=');
        if (equals == NULL || strncmp(*it, "ETCD_", 5) != 0)
            continue;
        uint32_t i = flag_of_variable(*it, equals);
        if (i != UINT32_MAX && p->set[i]) {
            snprintf(p->err_text, p->err_size, "%.*s", (int)(equals - *it), *it);
            return CONFIG_SHADOWED; /* more urgent than a value that does not parse */
        }
        if (i != UINT32_MAX && config_flags[i].kind == FLAG_VERSION)
            log_warn("cannot set special environment variable", LOG_STR("key", "ETCD_VERSION"),
                     LOG_STR("value", equals + 1));
        else if (i == UINT32_MAX || equals[1] == '\0')
            log_warn("unrecognized environment variable", LOG_STR("environment-variable", *it));
        else if (outcome == CONFIG_OK)
            outcome = use_variable(p, i, equals + 1);
    }
    return outcome;
}

/* --- what goes with what: embed.Config.Validate() --- */

static bool is_ip(const char *host)
{
    struct in6_addr unused;
    return inet_pton(AF_INET, host, &unused) == 1 || inet_pton(AF_INET6, host, &unused) == 1;
}

static bool can_bind(struct parser *p, const struct urls *u)
{
    for (uint32_t i = 0; i < u->count; i++) {
        char host[URL_BYTES_MAX];
        uint16_t port;
        if (url_is_path(u->items[i]))
            continue;
        url_host_port(u->items[i], host, sizeof(host), &port);
        if (strcmp(host, "localhost") != 0 && !is_ip(host)) {
            snprintf(p->err_text, p->err_size, "expected IP in URL for binding (%s)", u->items[i]);
            return false;
        }
    }
    return true;
}

static bool can_reach(struct parser *p, const struct urls *u, const char *flag, const char *rule)
{
    for (uint32_t i = 0; i < u->count; i++) {
        if (*url_address(u->items[i]) != ':')
            continue;
        char all[1024];
        urls_join(u, "", all, sizeof(all));
        snprintf(p->err_text, p->err_size, "--%s \"%s\" must be %s (unexpected empty host (%s))",
                 flag, all, rule, u->items[i]);
        return false;
    }
    return true;
}

static bool check_urls(struct parser *p)
{
    const struct config *c = p->config;
    return can_bind(p, &c->listen_peer_urls) && can_bind(p, &c->listen_client_urls) &&
           can_bind(p, &c->listen_client_http_urls) && can_bind(p, &c->listen_metrics_urls) &&
           can_reach(p, &c->advertise_peer_urls, "initial-advertise-peer-urls", "\"host:port\"") &&
           can_reach(p, &c->advertise_client_urls, "advertise-client-urls",
                     "in the format \"host:port\", \"unix:/path/to/socket\" or "
                     "\"unixs:/path/to/socket\"");
}

static bool check_times(struct parser *p)
{
    unsigned long long tick = p->config->heartbeat_ms, election = p->config->election_ms;
    if (tick == 0)
        snprintf(p->err_text, p->err_size, "--heartbeat-interval must be >0 (set to 0ms)");
    else if (election == 0)
        snprintf(p->err_text, p->err_size, "--election-timeout must be >0 (set to 0ms)");
    else if (tick > election / 5)
        snprintf(p->err_text, p->err_size,
                 "--election-timeout[%llums] should be at least as 5 times as "
                 "--heartbeat-interval[%llums]",
                 election, tick);
    else if (election > ELECTION_MS_MAX)
        snprintf(p->err_text, p->err_size,
                 "--election-timeout[%llums] is too long, and should be set less than %dms",
                 election, ELECTION_MS_MAX);
    else
        return true;
    return false;
}

static bool check_tls(struct parser *p)
{
    const struct config *c = p->config;
    enum tls_version min, max;
    if (tls_version_parse(c->tls_version_min, &min, p->err_text, p->err_size) != 0 ||
        tls_version_parse(c->tls_version_max, &max, p->err_text, p->err_size) != 0)
        return false;
    if (max != TLS_VERSION_DEFAULT && min > max)
        snprintf(p->err_text, p->err_size, "min version (%s) is greater than max version (%s)",
                 c->tls_version_min, c->tls_version_max);
    else if (min == TLS_VERSION_1_3 && *c->cipher_suites != '\0')
        snprintf(p->err_text, p->err_size,
                 "cipher suites cannot be configured when only TLS1.3 is enabled");
    else
        return true;
    return false;
}

static bool check_sizes(struct parser *p)
{
    if (p->config->max_request_bytes > REQUEST_BYTES_MAX)
        snprintf(p->err_text, p->err_size, "--max-request-bytes must be at most %d",
                 REQUEST_BYTES_MAX);
    else if (p->config->io_threads > IO_THREADS_MAX)
        snprintf(p->err_text, p->err_size, "--io-threads must be at most %d", IO_THREADS_MAX);
    else if (p->config->log_segment_bytes < LOG_SEGMENT_BYTES_MIN ||
             p->config->log_segment_bytes > LOG_SEGMENT_BYTES_MAX ||
             p->config->log_segment_bytes % 4096 != 0)
        snprintf(p->err_text, p->err_size,
                 "--log-segment-bytes must be a multiple of 4096 from %d to %d",
                 LOG_SEGMENT_BYTES_MIN, LOG_SEGMENT_BYTES_MAX);
    else
        return true;
    return false;
}

static bool check_tracing(struct parser *p)
{
    const char *why = NULL;
    if (p->config->trace_enabled && p->config->trace_rate < 0)
        why = "must be positive";
    else if (p->config->trace_enabled && p->config->trace_rate > 1000000)
        why = "must be less than 1000000";
    if (why == NULL)
        return true;
    snprintf(p->err_text, p->err_size, /* the word is etcd's */
             "distributed tracing configurition is not valid: (tracing sampling rate %s)", why);
    return false;
}

static bool is_set(const struct parser *p, const char *name)
{
    uint32_t i = find_flag(name, strlen(name));
    return p->set[i] || p->set_by_env[i];
}

static bool validate(struct parser *p)
{
    if (!check_urls(p) || !check_times(p))
        return false;
    if (is_set(p, "listen-client-urls") && !is_set(p, "advertise-client-urls")) {
        snprintf(p->err_text, p->err_size,
                 "--advertise-client-urls is required when --listen-client-urls is set explicitly");
        return false;
    }
    return check_tls(p) && check_sizes(p) && check_tracing(p);
}

/* --- the whole --- */

static void set_defaults(struct parser *p, uint32_t cpus)
{
    for (uint32_t i = 0; i < config_flags_count; i++) {
        const struct flag *f = &config_flags[i];
        if (f->value != NULL && f->kind != FLAG_VERSION && !is_passive(f)) {
            bool ok = set_value(p, f, f->value);
            ASSERT(ok);
        }
    }
    uint32_t spare = cpus > 2 ? cpus - 2 : 0;
    p->config->io_threads = spare < IO_THREADS_DEFAULT_MAX ? spare : IO_THREADS_DEFAULT_MAX;
}

/* Defaults that depend on what was set. */
static void complete(struct config *c)
{
    if (*c->data_dir == '\0') {
        size_t size = strlen(c->name) + sizeof(".etcd");
        mem_free(c->data_dir);
        c->data_dir = mem_alloc(size);
        snprintf(c->data_dir, size, "%s.etcd", c->name);
        log_warn("'data-dir' was empty; using default", LOG_STR("data-dir", c->data_dir));
    }
    uint32_t flag = find_flag("initial-cluster", strlen("initial-cluster"));
    if (strcmp(c->name, DEFAULT_NAME) == 0)
        log_warn("it isn't recommended to use default name, please set a value for --name",
                 LOG_STR("name", c->name));
    else if (strcmp(c->initial_cluster, config_flags[flag].value) == 0) {
        size_t prefix_size = strlen(c->name) + 2;
        size_t size = c->advertise_peer_urls.count * (prefix_size + URL_BYTES_MAX) + 1;
        char *prefix = mem_alloc(prefix_size);
        snprintf(prefix, prefix_size, "%s=", c->name);
        mem_free(c->initial_cluster);
        c->initial_cluster = mem_alloc(size);
        urls_join(&c->advertise_peer_urls, prefix, c->initial_cluster, size);
        mem_free(prefix);
    }
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
}

enum config_outcome config_parse(struct config *ret, int argc, char *const *argv, char *const *env,
                                 uint32_t cpus, char *err_text, size_t err_size)
{
    *ret = (struct config){0};
    struct parser p = {.config = ret, .env = env, .err_text = err_text, .err_size = err_size};
    set_defaults(&p, cpus);
    enum config_outcome outcome = parse_args(&p, argc, argv);
    if (outcome == CONFIG_OK)
        outcome = parse_env(&p);
    if (outcome == CONFIG_OK && !validate(&p))
        outcome = CONFIG_INVALID;
    if (outcome == CONFIG_OK)
        complete(ret);
    return outcome;
}

void config_fini(struct config *c)
{
    for (uint32_t i = 0; i < config_flags_count; i++) {
        void *field = (char *)c + config_flags[i].offset;
        if (config_flags[i].kind == FLAG_STRING || config_flags[i].kind == FLAG_ORIGINS)
            mem_free(*(char **)field);
        else if (config_flags[i].kind == FLAG_URLS)
            urls_fini(field);
    }
    *c = (struct config){0};
}

static void print_version(void)
{
    printf("etcd Version: %s\ntrivet Version: %s\n", CONFIG_ETCD_VERSION, CONFIG_TRIVET_VERSION);
}

int config_load(struct config *ret, int argc, char *const *argv)
{
    char err_text[4096] = "";
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    switch (config_parse(ret, argc, argv, environ, cpus > 0 ? (uint32_t)cpus : 1, err_text,
                         sizeof(err_text))) {
    case CONFIG_OK:
        log_set_level(ret->log_level);
        return -1;
    case CONFIG_USAGE:
        fprintf(stderr, "%s\n", err_text);
        config_print_usage(stderr);
        return 2;
    case CONFIG_INVALID:
        log_warn("failed to verify flags", LOG_STR("error", err_text));
        return 1;
    case CONFIG_SHADOWED:
        LOG_AT(LOG_FATAL,
               "conflicting environment variable is shadowed by corresponding command-line flag "
               "(either unset environment variable or disable flag))",
               LOG_STR("environment-variable", err_text));
        return 1;
    case CONFIG_HELP:
        config_print_help(stdout);
        return 0;
    case CONFIG_VERSION:
        print_version();
        return 0;
    }
    return 1;
}

int64_t config_lease_ttl_min_s(const struct config *c)
{
    uint64_t ticks = c->election_ms / c->heartbeat_ms;
    uint64_t min_ms = 3 * ticks / 2 * c->heartbeat_ms;
    return (int64_t)((min_ms + 999) / 1000);
}
