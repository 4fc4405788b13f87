/* The configuration of a node, under etcd's names: from the command line and the environment, or
 * from a file, and then from nothing else.
 *
 * All of etcd's flags are taken. What one means that has another meaning here is said in a line of
 * the log when it is set. As in etcd, an option given both as a flag and in the environment is an
 * error, and so is a value that does not parse.
 *
 * Source of names, defaults and texts: etcd server/embed/config.go, server/etcdmain. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "server/feature_gates.h"
#include "server/repair.h"
#include "state/url.h"

#include "base/log.h"
#include "storage/disk.h"

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_ETCD_VERSION "3.7.1"
#define CONFIG_CLUSTER_VERSION "3.7.0"
#define CONFIG_CLUSTER_MINOR 7 /* of the same */
#define CONFIG_TRIVET_VERSION "0.1.0"
#define CONFIG_QUOTA_DEFAULT_BYTES (INT64_C(2) << 30)

/* Of the connections to clients, or to the other members: etcd's TLSInfo. Empty texts are unset. */
struct config_tls {
    char *cert_file;
    char *key_file;
    char *client_cert_file; /* what this member shows when it connects; empty: cert_file */
    char *client_key_file;
    char *ca_file;
    char *crl_file;
    char *allowed_cns; /* comma-separated, as the next */
    char *allowed_hostnames;
    bool client_cert_auth;
    bool auto_tls;
    bool skip_client_san;
};

/* Where the log goes, as texts: log_setup.h. */
struct config_log {
    char *logger;
    char *outputs; /* comma-separated, sorted */
    char *level;
    char *format;
    char *rotation; /* JSON */
    bool rotate;
};

/* A cluster by which the members find each other at their first start. */
struct config_discovery {
    char *token;
    char *endpoints; /* comma-separated, sorted; empty: there is none */
    uint64_t dial_ms;
    uint64_t request_ms;
    uint64_t keepalive_ms;
    uint64_t keepalive_timeout_ms;
    bool insecure;
    bool skip_verify;
    char *cert;
    char *key;
    char *ca;
    char *user;
    char *password;
};

struct config {
    char *config_file; /* "" = all of this is from flags and variables */
    char *name;
    char *data_dir; /* never empty */
    char *wal_dir;  /* "" = under data_dir */
    struct urls listen_client_urls;
    struct urls listen_client_http_urls; /* not empty: HTTP is served there alone */
    struct urls listen_metrics_urls;
    struct urls listen_peer_urls;
    struct urls advertise_client_urls;
    struct urls advertise_peer_urls;
    char *local_host; /* from which other members are called; NULL: the kernel chooses */
    char *initial_cluster;
    char *initial_cluster_token;
    bool cluster_is_new; /* --initial-cluster-state=new */
    bool strict_reconfig;
    int64_t learners_max; /* >= 0 */
    struct config_discovery discovery;
    char *discovery_srv; /* a domain; empty: none */
    char *discovery_srv_name;
    bool fallback_is_proxy; /* never, once it was checked */
    bool force_new_cluster;
    bool tick_advance;
    struct features features;

    struct config_tls client_tls;
    struct config_tls peer_tls;
    uint32_t self_signed_years;
    char *cipher_suites;
    char *tls_version_min;
    char *tls_version_max;

    uint64_t heartbeat_ms;
    uint64_t election_ms;
    uint64_t snapshot_count;
    uint64_t snapshot_catchup;
    char *compaction_mode; /* with the next: compactor.h reads it */
    char *compaction_retention;
    int64_t compact_hash_check_ns;
    uint32_t max_wals; /* segments of the log that are kept; 0 = all */
    uint64_t log_segment_bytes;
    uint64_t quota_backend_bytes; /* 0 = no quota */
    uint32_t max_txn_ops;
    uint32_t max_request_bytes;
    uint32_t max_concurrent_streams;
    uint64_t keepalive_min_time_ms;
    uint64_t keepalive_interval_ms; /* 0 = never */
    uint64_t keepalive_timeout_ms;
    uint64_t watch_progress_interval_ms;
    char *auth_token; /* auth_tokens_new() reads it */
    uint64_t auth_token_ttl_s;
    uint32_t bcrypt_cost;
    uint64_t warn_request_ms;
    uint64_t warn_apply_ms; /* 0 = every request is named */
    bool trace_enabled;     /* the rest of these: only then */
    char *trace_address;
    char *trace_service;
    char *trace_instance;
    int64_t trace_rate; /* of a million */
    char *metrics;
    bool enable_grpc_gateway;
    bool enable_pprof;
    char *cors;           /* "*", or origins, comma-separated */
    char *host_whitelist; /* "*" among them: all */
    struct config_log log;
    bool pre_vote;
    bool lease_reads;

    bool reuse_port;
    bool reuse_address;
    bool memory_mlock;
    bool no_fsync;
    enum disk_mode wal_io;
    uint64_t disk_reserve_bytes; /* 0 = free space is not looked at */
    enum repair_mode repair;     /* what is done about damaged data */
    uint32_t io_threads;         /* 0 = clients are served by the core's thread */
};

enum config_outcome {
    CONFIG_OK,
    CONFIG_USAGE, /* a flag that does not parse: err_text and the usage to stderr, exit status 2 */
    CONFIG_PANIC, /* what ends etcd in a panic: err_text to stderr, exit status 2 */
    CONFIG_INVALID,  /* exit status 1 */
    CONFIG_FATAL,    /* the same, and said as the end of a start */
    CONFIG_PLAIN,    /* the same, and err_text goes to stderr as it is */
    CONFIG_SHADOWED, /* a variable is set that a flag sets too: err_text names it; exit status 1 */
    CONFIG_HELP,
    CONFIG_VERSION,
};

/* Open the log where `log` says: CONFIG_OK, or CONFIG_INVALID or CONFIG_PANIC with etcd's text. */
typedef enum config_outcome (*config_open_log)(const struct config_log *log, char *err_text,
                                               size_t err_size);

/* Parse argv (from [1] on), the variables of `env` that begin with ETCD_, and a file that they
 * name; `cpus` chooses io_threads. Prints nothing, but logs which variables were used and which
 * nobody knows. `open_log`, if not NULL, is called when it is known where the log goes, and before
 * anything else is checked. *ret owns its memory and wants config_fini() whatever the outcome. */
enum config_outcome config_parse(struct config *ret, int argc, char *const *argv, char *const *env,
                                 uint32_t cpus, config_open_log open_log, char *err_text,
                                 size_t err_size);
void config_fini(struct config *c);

/* "1h30m", "1.5s", "-2us", "0", as Go has it. Errors: TV_EINVAL. */
int config_parse_duration(const char *text, int64_t *ret_ns);
/* As Go prints it. */
void config_format_duration(int64_t ns, char *ret_text, size_t size);

/* As main() wants it: the above with this process's environment, everything said that is to be
 * said, the log open. -1 = go on; else the status to exit with. */
int config_load(struct config *ret, int argc, char *const *argv);

/* The shortest TTL a lease gets, as etcd computes it from the election timeout. */
static inline int64_t config_lease_ttl_min_s(const struct config *c)
{
    uint64_t ticks = c->election_ms / c->heartbeat_ms;
    uint64_t min_ms = 3 * ticks / 2 * c->heartbeat_ms;
    return (int64_t)((min_ms + 999) / 1000);
}

#endif
