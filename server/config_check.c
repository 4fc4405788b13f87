/* What goes with what: embed.Config.Validate(), in its order and words. */
#include "server/config_internal.h"

#include "server/compactor.h"

#include "proto/tls.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ELECTION_MS_MAX = 50000, /* etcd's */
    IO_THREADS_MAX = 64,
    REQUEST_BYTES_MAX = 1 << 30,
    LOG_SEGMENT_BYTES_MIN = 16 << 20,
    LOG_SEGMENT_BYTES_MAX = 1 << 30,
    TRACING_RATE_MAX = 1000000,
};

#define ADVERTISE_MISSING \
    "--advertise-client-urls is required when --listen-client-urls is set explicitly"

/* --- addresses --- */

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
    if (!can_bind(p, &c->listen_peer_urls) || !can_bind(p, &c->listen_client_urls) ||
        !can_bind(p, &c->listen_client_http_urls))
        return false;
    if (c->listen_client_http_urls.count == 0)
        log_warn("Running http and grpc server on single port. This is not recommended for "
                 "production.");
    return can_bind(p, &c->listen_metrics_urls) &&
           can_reach(p, &c->advertise_peer_urls, "initial-advertise-peer-urls", "\"host:port\"") &&
           can_reach(p, &c->advertise_client_urls, "advertise-client-urls",
                     "in the format \"host:port\", \"unix:/path/to/socket\" or "
                     "\"unixs:/path/to/socket\"");
}

/* --- how the members find each other --- */

static bool has_empty(const char *list)
{
    for (const char *at = list;; at++) {
        while (isspace((unsigned char)*at))
            at++;
        if (*at == ',' || *at == '\0')
            return true;
        at = strchr(at, ',');
        if (at == NULL)
            return false;
    }
}

static bool check_bootstrap(struct parser *p)
{
    const struct config *c = p->config;
    bool endpoints = *c->discovery.endpoints != '\0';
    int ways = (*c->initial_cluster != '\0') + (*c->discovery_srv != '\0') + endpoints;
    if (p->cluster_state[0] != '\0' && !c->cluster_is_new &&
        strcmp(p->cluster_state, "existing") != 0)
        snprintf(p->err_text, p->err_size, "unexpected clusterState \"%s\"", p->cluster_state);
    else if (ways > 1)
        snprintf(p->err_text, p->err_size,
                 "multiple discovery or bootstrap flags are set. Choose one of "
                 "\"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"");
    else if ((*c->discovery.token != '\0') != endpoints)
        snprintf(p->err_text, p->err_size,
                 "both --discovery-token and --discovery-endpoints must be set");
    else if (endpoints && has_empty(c->discovery.endpoints))
        snprintf(p->err_text, p->err_size,
                 "--discovery-endpoints must not contain empty endpoints");
    else
        return true;
    return false;
}

/* --- times --- */

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

static bool check_compaction(struct parser *p)
{
    const char *mode = p->config->compaction_mode;
    if (*mode == '\0')
        snprintf(p->err_text, p->err_size, "undefined auto-compaction-mode");
    else if (strcmp(mode, "periodic") != 0 && strcmp(mode, "revision") != 0)
        snprintf(p->err_text, p->err_size, "unknown auto-compaction-mode \"%s\"", mode);
    else
        return true;
    return false;
}

/* --- the rest --- */

static bool check_tracing(struct parser *p)
{
    int64_t rate = p->config->trace_rate;
    if (!p->config->trace_enabled || (rate >= 0 && rate <= TRACING_RATE_MAX))
        return true;
    snprintf(p->err_text, p->err_size,
             "distributed tracing configurition is not valid: (tracing sampling rate must be %s)",
             rate < 0 ? "positive" : "less than 1000000");
    return false;
}

static bool check_features(struct parser *p)
{
    const bool *on = p->config->features.enabled;
    if (on[FEATURE_LEASE_CHECKPOINT] && !on[FEATURE_LEASE_CHECKPOINT_PERSIST])
        log_warn("Detected that checkpointing is enabled without persistence. Consider enabling "
                 "feature gate LeaseCheckpointPersist");
    if (on[FEATURE_LEASE_CHECKPOINT] || !on[FEATURE_LEASE_CHECKPOINT_PERSIST])
        return true;
    snprintf(p->err_text, p->err_size,
             "enabling feature gate LeaseCheckpointPersist requires enabling feature gate "
             "LeaseCheckpoint");
    return false;
}

static bool check_hash_time(struct parser *p)
{
    char text[64];
    if (p->config->compact_hash_check_ns > 0)
        return true;
    config_format_duration(p->config->compact_hash_check_ns, text, sizeof(text));
    snprintf(p->err_text, p->err_size, "--compact-hash-check-time must be >0 (set to %s)", text);
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
    const struct config *c = p->config;
    if (c->max_request_bytes > REQUEST_BYTES_MAX)
        snprintf(p->err_text, p->err_size, "--max-request-bytes must be at most %d",
                 REQUEST_BYTES_MAX);
    else if (c->io_threads > IO_THREADS_MAX)
        snprintf(p->err_text, p->err_size, "--io-threads must be at most %d", IO_THREADS_MAX);
    else if (c->log_segment_bytes < LOG_SEGMENT_BYTES_MIN ||
             c->log_segment_bytes > LOG_SEGMENT_BYTES_MAX || c->log_segment_bytes % 4096 != 0)
        snprintf(p->err_text, p->err_size,
                 "--log-segment-bytes must be a multiple of 4096 from %d to %d",
                 LOG_SEGMENT_BYTES_MIN, LOG_SEGMENT_BYTES_MAX);
    else
        return true;
    return false;
}

bool config__check_start(struct parser *p)
{
    const struct config *c = p->config;
    struct compactor_options unused;
    if (tls_ciphers_check(c->cipher_suites, p->err_text, p->err_size) != 0)
        return false;
    if (compactor_parse(c->compaction_mode, c->compaction_retention, &unused, p->err_text,
                        p->err_size) != 0)
        return false;
    if (c->learners_max >= 0)
        return true;
    snprintf(p->err_text, p->err_size, "membership: too many learner members in cluster");
    return false;
}

bool config__check(struct parser *p)
{
    const struct config *c = p->config;
    if (!check_urls(p) || !check_bootstrap(p) || !check_times(p))
        return false;
    /* In a file etcd goes on with the default. */
    if (*c->config_file == '\0' && config__is_set(p, "listen-client-urls") &&
        !config__is_set(p, "advertise-client-urls")) {
        snprintf(p->err_text, p->err_size, ADVERTISE_MISSING);
        return false;
    }
    if (!check_compaction(p) || !check_tracing(p) || !check_features(p) || !check_hash_time(p))
        return false;
    if (strcmp(c->name, "default") == 0)
        log_warn("it isn't recommended to use default name, please set a value for --name. Note "
                 "that etcd might run into issue when multiple members have the same default name",
                 LOG_STR("name", c->name));
    return check_tls(p) && check_sizes(p);
}
