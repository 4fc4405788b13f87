#include "server/config_flags.h"

#include "server/config.h"

#define FIELD(member) offsetof(struct config, member)
#define ONLY(name, value) {(name), FLAG_ONLY, 0, (value), NULL, NULL}
#define ONLY_BOOL(name, value) {(name), FLAG_ONLY_BOOL, 0, (value), NULL, NULL}
#define REFUSED(name) {(name), FLAG_REFUSED, 0, NULL, NULL, NULL}
#define REFUSED_BOOL(name) {(name), FLAG_REFUSED_BOOL, 0, NULL, NULL, NULL}

const struct flag config_flags[] = {
    {"name", FLAG_STRING, FIELD(name), "default", "Member",
     "This member's name, unique in the cluster."},
    {"data-dir", FLAG_STRING, FIELD(data_dir), "", NULL,
     "Where everything is kept ('${name}.etcd' when empty)."},
    {"wal-dir", FLAG_STRING, FIELD(wal_dir), "", NULL,
     "Where the log is kept, if not in the data directory."},
    {"listen-peer-urls", FLAG_URLS, FIELD(listen_peer_urls), "http://localhost:2380", NULL,
     "Addresses to listen on for the other members."},
    {"listen-client-urls", FLAG_URLS, FIELD(listen_client_urls), "http://localhost:2379", NULL,
     "Addresses to listen on for clients."},
    {"listen-client-http-urls", FLAG_URLS, FIELD(listen_client_http_urls), NULL, NULL,
     "Addresses to listen on for HTTP alone; those of --listen-client-urls then serve gRPC alone."},
    {"listen-metrics-urls", FLAG_URLS, FIELD(listen_metrics_urls), NULL, NULL,
     "Addresses to listen on for /metrics and /health, beside those for clients."},
    {"heartbeat-interval", FLAG_UINT, FIELD(heartbeat_ms), "100", NULL,
     "Milliseconds between a leader's heartbeats."},
    {"election-timeout", FLAG_UINT, FIELD(election_ms), "1000", NULL,
     "Milliseconds without a heartbeat after which there is an election."},
    {"pre-vote", FLAG_BOOL, FIELD(pre_vote), "true", NULL,
     "Ask whether an election could be won before it is called."},
    {"snapshot-count", FLAG_UINT, FIELD(snapshot_count), "10000", NULL,
     "Log entries that are kept for followers which lag."},
    {"max-wals", FLAG_UINT32, FIELD(max_wals), "5", NULL,
     "Files of the log that are kept for members which were away; 0 is all. The newest\n"
     "    --snapshot-count entries, and what a member that is catching up needs, stay beyond "
     "that."},
    {"quota-backend-bytes", FLAG_QUOTA, FIELD(quota_backend_bytes), "0", NULL,
     "Size of the store above which writes are refused; 0 is 2 GiB, below 0 is no limit."},
    {"max-txn-ops", FLAG_UINT32, FIELD(max_txn_ops), "128", NULL,
     "Operations that a transaction may have."},
    {"max-request-bytes", FLAG_UINT32, FIELD(max_request_bytes), "1572864", NULL,
     "Size of the largest request."},
    {"max-concurrent-streams", FLAG_UINT32, FIELD(max_concurrent_streams), "4294967295", NULL,
     "Calls that a client connection may have open at a time."},
    {"grpc-keepalive-min-time", FLAG_DURATION, FIELD(keepalive_min_time_ms), "5s", NULL,
     "Clients that ping more often than this are sent away."},
    {"grpc-keepalive-interval", FLAG_DURATION, FIELD(keepalive_interval_ms), "2h", NULL,
     "Idle time after which a client connection is pinged; 0 is never."},
    {"grpc-keepalive-timeout", FLAG_DURATION, FIELD(keepalive_timeout_ms), "20s", NULL,
     "Time to answer such a ping."},
    {"watch-progress-notify-interval", FLAG_DURATION, FIELD(watch_progress_interval_ms), "10m",
     NULL, "How often watchers that ask for it are told how far they are."},

    {"initial-advertise-peer-urls", FLAG_URLS, FIELD(advertise_peer_urls), "http://localhost:2380",
     "Clustering", "Addresses under which the other members reach this one."},
    {"advertise-client-urls", FLAG_URLS, FIELD(advertise_client_urls), "http://localhost:2379",
     NULL, "Addresses under which clients reach this member."},
    {"initial-cluster", FLAG_STRING, FIELD(initial_cluster), "default=http://localhost:2380", NULL,
     "All members at the first start: name=URL,name=URL,..."},
    {"initial-cluster-token", FLAG_STRING, FIELD(initial_cluster_token), "etcd-cluster", NULL,
     "Tells clusters with the same addresses apart."},
    {"strict-reconfig-check", FLAG_BOOL, FIELD(strict_reconfig), "true", NULL,
     "Refuse changes of the membership that would endanger the quorum."},
    {"max-learners", FLAG_UINT32, FIELD(learners_max), "1", NULL,
     "Learners that the cluster may have."},
    {"initial-cluster-state", FLAG_CLUSTER_STATE, FIELD(cluster_is_new), "new", NULL,
     "'new', or 'existing' for a member that joins a cluster."},

    {"enable-grpc-gateway", FLAG_BOOL, FIELD(enable_grpc_gateway), "true", NULL,
     "Serve the API as JSON over HTTP, below /v3/."},
    {"cors", FLAG_ORIGINS, FIELD(cors), "*", NULL,
     "Origins whose pages may use HTTP in a browser, comma-separated; * is any."},
    {"host-whitelist", FLAG_STRING, FIELD(host_whitelist), "*", NULL,
     "Names of this host that HTTP is served under where there is no TLS, comma-separated;\n"
     "    * is any."},
    {"enable-pprof", FLAG_BOOL, FIELD(enable_pprof), "false", NULL,
     "Serve what there is of /debug/pprof/."},

    {"auth-token", FLAG_STRING, FIELD(auth_token), "simple", "Auth",
     "How users show who they are once they have given their password: simple, or\n"
     "    jwt,sign-method=ES256,pub-key=FILE,priv-key=FILE,ttl=5m"},
    {"bcrypt-cost", FLAG_UINT32, FIELD(bcrypt_cost), "10", NULL,
     "How hard hashes of passwords are to compute: 4 to 31, each twice the one before."},
    {"auth-token-ttl", FLAG_UINT, FIELD(auth_token_ttl_s), "300", NULL,
     "Seconds that a simple token lives after its last use."},

    {"cert-file", FLAG_STRING, FIELD(client_tls.cert_file), "", "Security",
     "Certificate shown to clients, in PEM. Files are read again when they change."},
    {"key-file", FLAG_STRING, FIELD(client_tls.key_file), "", NULL, "Its key."},
    {"client-cert-file", FLAG_STRING, FIELD(client_tls.client_cert_file), "", NULL,
     "A certificate for connections to members' client addresses."},
    {"client-key-file", FLAG_STRING, FIELD(client_tls.client_key_file), "", NULL, "Its key."},
    {"client-cert-auth", FLAG_BOOL, FIELD(client_tls.client_cert_auth), "false", NULL,
     "Clients must show a certificate. Likewise when there is a --trusted-ca-file."},
    {"client-crl-file", FLAG_STRING, FIELD(client_tls.crl_file), "", NULL,
     "Certificates of clients that are revoked, in PEM or DER."},
    {"client-cert-allowed-hostname", FLAG_STRING, FIELD(client_tls.allowed_hostnames), "", NULL,
     "Names of which a client's certificate must have one, comma-separated."},
    {"trusted-ca-file", FLAG_STRING, FIELD(client_tls.ca_file), "", NULL,
     "Who signs the certificates of clients."},
    {"auto-tls", FLAG_BOOL, FIELD(client_tls.auto_tls), "false", NULL,
     "Make a certificate to show to clients."},
    {"peer-cert-file", FLAG_STRING, FIELD(peer_tls.cert_file), "", NULL,
     "Certificate shown to the other members, in PEM."},
    {"peer-key-file", FLAG_STRING, FIELD(peer_tls.key_file), "", NULL, "Its key."},
    {"peer-client-cert-file", FLAG_STRING, FIELD(peer_tls.client_cert_file), "", NULL,
     "Another certificate for connections to the other members."},
    {"peer-client-key-file", FLAG_STRING, FIELD(peer_tls.client_key_file), "", NULL, "Its key."},
    {"peer-client-cert-auth", FLAG_BOOL, FIELD(peer_tls.client_cert_auth), "false", NULL,
     "The other members must show a certificate."},
    {"peer-trusted-ca-file", FLAG_STRING, FIELD(peer_tls.ca_file), "", NULL,
     "Who signs the certificates of members."},
    {"peer-auto-tls", FLAG_BOOL, FIELD(peer_tls.auto_tls), "false", NULL,
     "Make a certificate to show to the other members."},
    {"peer-crl-file", FLAG_STRING, FIELD(peer_tls.crl_file), "", NULL,
     "Certificates of members that are revoked, in PEM or DER."},
    {"peer-cert-allowed-cn", FLAG_STRING, FIELD(peer_tls.allowed_cns), "", NULL,
     "CNs of which a member's certificate must have one, comma-separated."},
    {"peer-cert-allowed-hostname", FLAG_STRING, FIELD(peer_tls.allowed_hostnames), "", NULL,
     "Names of which a member's certificate must have one, comma-separated."},
    {"peer-skip-client-san-verification", FLAG_BOOL, FIELD(peer_tls.skip_client_san), "false", NULL,
     "Do not ask whether a member comes from an address in its certificate."},
    {"self-signed-cert-validity", FLAG_UINT32, FIELD(self_signed_years), "1", NULL,
     "Years for which a certificate that is made is valid."},
    {"cipher-suites", FLAG_STRING, FIELD(cipher_suites), "", NULL,
     "Cipher suites for TLS 1.2 by the names that Go has for them, comma-separated."},
    {"tls-min-version", FLAG_STRING, FIELD(tls_version_min), "TLS1.2", NULL, "TLS1.2 or TLS1.3."},
    {"tls-max-version", FLAG_STRING, FIELD(tls_version_max), "", NULL,
     "TLS1.2 or TLS1.3; empty is the highest there is."},

    {"log-level", FLAG_LOG_LEVEL, FIELD(log_level), "info", "Logging",
     "debug, info, warn, error, panic or fatal."},

    {"metrics", FLAG_STRING, FIELD(metrics), "basic", "Metrics",
     "basic, or extensive: then with the durations of all calls by method."},

    {"enable-distributed-tracing", FLAG_BOOL, FIELD(trace_enabled), "false", "Tracing",
     "Send spans of calls to an OpenTelemetry collector."},
    {"distributed-tracing-address", FLAG_STRING, FIELD(trace_address), "localhost:4317", NULL,
     "Where it takes OTLP by gRPC."},
    {"distributed-tracing-service-name", FLAG_STRING, FIELD(trace_service), "etcd", NULL,
     "What the service is called there: the same at all members."},
    {"distributed-tracing-instance-id", FLAG_STRING, FIELD(trace_instance), "", NULL,
     "And this member, unlike all others."},
    {"distributed-tracing-sampling-rate", FLAG_INT, FIELD(trace_rate), "0", NULL,
     "How many of a million calls are traced whose clients do not say."},

    {"wal-io", FLAG_WAL_IO, FIELD(wal_io), "auto", "trivet",
     "How the log is written: auto, uring (io_uring) or sync (a thread)."},
    {"repair", FLAG_REPAIR, FIELD(repair), "auto", NULL,
     "What a member with damaged data does: auto (sets it aside and gets it back from the others)\n"
     "    or refuse (says what is damaged and ends)."},
    {"disk-reserve-bytes", FLAG_UINT, FIELD(disk_reserve_bytes), "268435456", NULL,
     "Free space below which writes are refused, of the disks of the data and of the log;\n"
     "    the default is two segments of the log and two commits of the store. 0 is never."},
    {"log-segment-bytes", FLAG_UINT, FIELD(log_segment_bytes), "67108864", NULL,
     "Size of the log's files: a multiple of 4 KiB, from 16 MiB to 1 GiB."},
    {"lease-reads", FLAG_BOOL, FIELD(lease_reads), "false", NULL,
     "The leader answers linearizable reads without asking the others, as long as they cannot\n"
     "    have elected another. Relies on clocks that run equally fast (to 20 %); to be set at\n"
     "    every member, and a lost leader is then noticed by the election timeout alone."},
    {"io-threads", FLAG_UINT32, FIELD(io_threads), NULL, NULL,
     "Threads that serve clients; 0 is none beside the node's own. By default as many as there\n"
     "    are CPUs but two, 8 at most."},

    {"version", FLAG_VERSION, 0, "false", NULL, NULL},

    /* What trivet does anyway. */
    ONLY("logger", "zap"),
    ONLY("log-format", "json"),
    ONLY("log-outputs", "stderr"),
    ONLY("auto-compaction-retention", "0"),
    ONLY("auto-compaction-mode", "periodic"),
    ONLY_BOOL("enable-log-rotation", "false"),
    ONLY_BOOL("memory-mlock", "false"),
    ONLY_BOOL("socket-reuse-port", "false"),
    ONLY_BOOL("force-new-cluster", "false"),
    ONLY_BOOL("unsafe-no-fsync", "false"),
    ONLY_BOOL("initial-election-tick-advance", "false"),

    /* What it does not do. */
    REFUSED("config-file"),
    REFUSED("max-snapshots"),
    REFUSED("snapshot-catchup-entries"),
    REFUSED("backend-bbolt-freelist-type"),
    REFUSED("backend-batch-interval"),
    REFUSED("backend-batch-limit"),
    REFUSED_BOOL("socket-reuse-address"),
    REFUSED("raft-read-timeout"),
    REFUSED("raft-write-timeout"),
    REFUSED("feature-gates"),
    REFUSED("discovery"),
    REFUSED("discovery-token"),
    REFUSED("discovery-endpoints"),
    REFUSED("discovery-dial-timeout"),
    REFUSED("discovery-request-timeout"),
    REFUSED("discovery-keepalive-time"),
    REFUSED("discovery-keepalive-timeout"),
    REFUSED_BOOL("discovery-insecure-transport"),
    REFUSED_BOOL("discovery-insecure-skip-tls-verify"),
    REFUSED("discovery-cert"),
    REFUSED("discovery-key"),
    REFUSED("discovery-cacert"),
    REFUSED("discovery-user"),
    REFUSED("discovery-password"),
    REFUSED("discovery-fallback"),
    REFUSED("discovery-srv"),
    REFUSED("discovery-srv-name"),
    REFUSED("log-rotation-config-json"),
    REFUSED("warning-apply-duration"),
    REFUSED("warning-unary-request-duration"),
    REFUSED("corrupt-check-time"),
    REFUSED("compact-hash-check-time"),
    REFUSED("compaction-batch-limit"),
    REFUSED("compaction-sleep-interval"),
    REFUSED("bootstrap-defrag-threshold-megabytes"),
    REFUSED("downgrade-check-time"),
};

const uint32_t config_flags_count = sizeof(config_flags) / sizeof(config_flags[0]);
_Static_assert(sizeof(config_flags) / sizeof(config_flags[0]) <= FLAGS_MAX, "FLAGS_MAX");

void config_print_usage(FILE *out)
{
    fputs("Usage:\n\n"
          "  trivetd [flags]\n    Start a member.\n\n"
          "  trivetd --version\n    Show the version.\n\n"
          "  trivetd -h | --help\n    Show all flags.\n\n",
          out);
}

void config_print_help(FILE *out)
{
    config_print_usage(out);
    fputs("Each flag can be given as a variable instead: --max-txn-ops is ETCD_MAX_TXN_OPS.\n",
          out);
    for (uint32_t i = 0; i < config_flags_count; i++) {
        const struct flag *f = &config_flags[i];
        if (f->help == NULL)
            continue;
        if (f->group != NULL)
            fprintf(out, "\n%s:\n", f->group);
        fprintf(out, "  --%s", f->name);
        if (f->value != NULL)
            fprintf(out, " '%s'", f->value);
        fprintf(out, "\n    %s\n", f->help);
    }
    fputs("\nOther flags of etcd's are refused unless they are set to what trivet does anyway.\n",
          out);
}
