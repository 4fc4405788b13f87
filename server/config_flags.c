#include "server/config_flags.h"

#include "server/config.h"

#include <string.h>

#define FIELD(member) offsetof(struct config, member)

const struct flag config_flags[] = {
    {"name", FLAG_STRING, FIELD(name), "default", "Member", "This member's name, unique in the cluster."},
    {"data-dir", FLAG_STRING, FIELD(data_dir), "", NULL, "Where everything is kept ('${name}.etcd' when empty)."},
    {"wal-dir", FLAG_STRING, FIELD(wal_dir), "", NULL, "Where the log is kept, if not in the data directory."},
    {"snapshot-count", FLAG_UINT, FIELD(snapshot_count), "10000", NULL, "Log entries that are kept for followers which lag.", "so many entries of the log are kept for members that lag; nothing is triggered by it"},
    {"snapshot-catchup-entries", FLAG_UINT, FIELD(snapshot_catchup), "5000", NULL, "Log entries that are kept for followers which lag, if --snapshot-count is less.", "the larger of it and --snapshot-count says how many entries are kept for members that lag"},
    {"heartbeat-interval", FLAG_UINT, FIELD(heartbeat_ms), "100", NULL, "Milliseconds between a leader's heartbeats."},
    {"election-timeout", FLAG_UINT, FIELD(election_ms), "1000", NULL, "Milliseconds without a heartbeat after which there is an election."},
    {"initial-election-tick-advance", FLAG_BOOL, FIELD(tick_advance), "true", NULL, "A cluster of one elects its leader at once.", "only a cluster of one does not wait for its first election timeout"},
    {"listen-peer-urls", FLAG_URLS, FIELD(listen_peer_urls), "http://localhost:2380", NULL, "Addresses to listen on for the other members."},
    {"listen-client-urls", FLAG_URLS, FIELD(listen_client_urls), "http://localhost:2379", NULL, "Addresses to listen on for clients."},
    {"listen-client-http-urls", FLAG_URLS, FIELD(listen_client_http_urls), NULL, NULL, "Addresses to listen on for HTTP alone; those of --listen-client-urls then serve gRPC alone."},
    {"max-wals", FLAG_UINT_CLAMPED, FIELD(max_wals), "5", NULL, "Files of the log that are kept for members which were away; 0 is all. The newest\n"      "    --snapshot-count entries, and what a member that is catching up needs, stay beyond "      "that.", "it counts segments of --log-segment-bytes; what members that lag need stays beyond that"},
    {"max-snapshots", FLAG_UINT, FLAG_NO_FIELD, "5", NULL, "Nothing: there are no snapshot files.", "there are no snapshot files"},
    {"memory-mlock", FLAG_BOOL, FIELD(memory_mlock), "false", NULL, "Keep all memory of the process from being swapped out."},
    {"quota-backend-bytes", FLAG_QUOTA, FIELD(quota_backend_bytes), "0", NULL, "Size of the store above which writes are refused; 0 is 2 GiB, below 0 is no limit.", "it bounds what the store takes in memory, not the size of a file"},
    {"backend-bbolt-freelist-type", FLAG_STRING, FLAG_NO_FIELD, "map", NULL, "Nothing: there is no bbolt.", "there is no bbolt"},
    {"backend-batch-interval", FLAG_DURATION_NS, FLAG_NO_FIELD, "0", NULL, "Nothing: RocksDB follows the store in batches of its own.", "the store is in memory, and RocksDB follows in batches of its own"},
    {"backend-batch-limit", FLAG_INT, FLAG_NO_FIELD, "0", NULL, "Nothing, as before.", "the store is in memory, and RocksDB follows in batches of its own"},
    {"max-txn-ops", FLAG_UINT_CLAMPED, FIELD(max_txn_ops), "128", NULL, "Operations that a transaction may have."},
    {"max-request-bytes", FLAG_UINT_CLAMPED, FIELD(max_request_bytes), "1572864", NULL, "Size of the largest request."},
    {"max-concurrent-streams", FLAG_UINT32, FIELD(max_concurrent_streams), "4294967295", NULL, "Calls that a client connection may have open at a time."},
    {"grpc-keepalive-min-time", FLAG_DURATION, FIELD(keepalive_min_time_ms), "5s", NULL, "Clients that ping more often than this are sent away."},
    {"grpc-keepalive-interval", FLAG_DURATION, FIELD(keepalive_interval_ms), "2h", NULL, "Idle time after which a client connection is pinged; 0 is never."},
    {"grpc-keepalive-timeout", FLAG_DURATION, FIELD(keepalive_timeout_ms), "20s", NULL, "Time to answer such a ping."},
    {"socket-reuse-port", FLAG_BOOL, FIELD(reuse_port), "false", NULL, "Set SO_REUSEPORT on the sockets that listen.", NULL, "socket-options.reuse-port"},
    {"socket-reuse-address", FLAG_BOOL, FIELD(reuse_address), "false", NULL, "Set SO_REUSEADDR on the sockets that listen.", "it is set always, as by any Go program", "socket-options.reuse-address"},
    {"enable-grpc-gateway", FLAG_BOOL, FLAG_NO_FIELD, "true", NULL, "Nothing: there is no gateway from JSON.", "the gateway from JSON is not there, with or without it"},
    {"raft-read-timeout", FLAG_DURATION_NS, FLAG_NO_FIELD, "5s", NULL, "Nothing: connections between members are pinged.", "connections between members are pinged, and given up after five election timeouts of silence", ""},
    {"raft-write-timeout", FLAG_DURATION_NS, FLAG_NO_FIELD, "5s", NULL, "Nothing, as before.", "connections between members are pinged, and given up after five election timeouts of silence", ""},
    {"feature-gates", FLAG_FEATURES, FIELD(features), NULL, NULL, "Gates of etcd: Name=true|false, comma-separated."},
    {"initial-advertise-peer-urls", FLAG_URLS, FIELD(advertise_peer_urls), "http://localhost:2380", "Clustering", "Addresses under which the other members reach this one."},
    {"initial-cluster", FLAG_STRING, FIELD(initial_cluster), "default=http://localhost:2380", NULL, "All members at the first start: name=URL,name=URL,..."},
    {"initial-cluster-state", FLAG_CLUSTER_STATE, FIELD(cluster_is_new), "new", NULL, "'new', or 'existing' for a member that joins a cluster."},
    {"initial-cluster-token", FLAG_STRING, FIELD(initial_cluster_token), "etcd-cluster", NULL, "Tells clusters with the same addresses apart."},
    {"advertise-client-urls", FLAG_URLS, FIELD(advertise_client_urls), "http://localhost:2379", NULL, "Addresses under which clients reach this member."},
    {"discovery-token", FLAG_STRING, FIELD(discovery.token), "", NULL, "A cluster that introduces the members to each other: the token of the new one there.", NULL, "discovery-config.token"},
    {"discovery-endpoints", FLAG_NAMES, FIELD(discovery.endpoints), "", NULL, "Its addresses, comma-separated.", NULL, "discovery-config.client.endpoints"},
    {"discovery-dial-timeout", FLAG_DURATION, FIELD(discovery.dial_ms), "2s", NULL, "Time to connect to it.", NULL, "discovery-config.client.dial-timeout"},
    {"discovery-request-timeout", FLAG_DURATION, FIELD(discovery.request_ms), "5s", NULL, "Time for its answer.", NULL, "discovery-config.client.request-timeout"},
    {"discovery-keepalive-time", FLAG_DURATION, FIELD(discovery.keepalive_ms), "2s", NULL, "Idle time after which the connection to it is pinged.", NULL, "discovery-config.client.keepalive-time"},
    {"discovery-keepalive-timeout", FLAG_DURATION, FIELD(discovery.keepalive_timeout_ms), "6s", NULL, "Time to answer such a ping.", NULL, "discovery-config.client.keepalive-timeout"},
    {"discovery-insecure-transport", FLAG_BOOL, FIELD(discovery.insecure), "true", NULL, "Connect to it without TLS.", NULL, "discovery-config.client.secure.insecure-transport"},
    {"discovery-insecure-skip-tls-verify", FLAG_BOOL, FIELD(discovery.skip_verify), "false", NULL, "Do not look at the certificate that it shows.", NULL, "discovery-config.client.secure.insecure-skip-tls-verify"},
    {"discovery-cert", FLAG_STRING, FIELD(discovery.cert), "", NULL, "Certificate to show to it.", NULL, "discovery-config.client.secure.cert"},
    {"discovery-key", FLAG_STRING, FIELD(discovery.key), "", NULL, "Its key.", NULL, "discovery-config.client.secure.key"},
    {"discovery-cacert", FLAG_STRING, FIELD(discovery.ca), "", NULL, "Who signs its certificate.", NULL, "discovery-config.client.secure.cacert"},
    {"discovery-user", FLAG_STRING, FIELD(discovery.user), "", NULL, "User[:password] there.", NULL, "discovery-config.client.auth.username"},
    {"discovery-password", FLAG_STRING, FIELD(discovery.password), "", NULL, "That user's password.", NULL, "discovery-config.client.auth.password"},
    {"discovery-fallback", FLAG_FALLBACK, FIELD(fallback_is_proxy), "exit", NULL, "'exit': what is done when there is no discovery.", NULL, ""},
    {"discovery-srv", FLAG_STRING, FIELD(discovery_srv), "", NULL, "Domain whose SRV records name the members."},
    {"discovery-srv-name", FLAG_STRING, FIELD(discovery_srv_name), "", NULL, "What is added to the names of those records."},
    {"strict-reconfig-check", FLAG_BOOL, FIELD(strict_reconfig), "true", NULL, "Refuse changes of the membership that would endanger the quorum."},
    {"max-learners", FLAG_INT, FIELD(learners_max), "1", NULL, "Learners that the cluster may have."},
    {"pre-vote", FLAG_BOOL, FIELD(pre_vote), "true", NULL, "Ask whether an election could be won before it is called."},
    {"auto-compaction-retention", FLAG_STRING, FIELD(compaction_retention), "0", NULL, "How much of the history is kept; 0 is all, until somebody compacts."},
    {"auto-compaction-mode", FLAG_STRING, FIELD(compaction_mode), "periodic", NULL, "What that counts: 'periodic' time (5m; without a unit, hours) or 'revision' revisions."},
    {"v2-deprecation", FLAG_V2_STAGES, FLAG_NO_FIELD, "write-only", NULL, "Nothing, as in etcd."},
    {"auth-token", FLAG_STRING, FIELD(auth_token), "simple", "Auth", "How users show who they are once they have given their password: simple, or\n"      "    jwt,sign-method=ES256,pub-key=FILE,priv-key=FILE,ttl=5m"},
    {"bcrypt-cost", FLAG_UINT_CLAMPED, FIELD(bcrypt_cost), "10", NULL, "How hard hashes of passwords are to compute: 4 to 31, each twice the one before."},
    {"auth-token-ttl", FLAG_UINT, FIELD(auth_token_ttl_s), "300", NULL, "Seconds that a simple token lives after its last use."},
    {"cert-file", FLAG_STRING, FIELD(client_tls.cert_file), "", "Security", "Certificate shown to clients, in PEM. Files are read again when they change.", NULL, "client-transport-security.cert-file"},
    {"key-file", FLAG_STRING, FIELD(client_tls.key_file), "", NULL, "Its key.", NULL, "client-transport-security.key-file"},
    {"client-cert-file", FLAG_STRING, FIELD(client_tls.client_cert_file), "", NULL, "A certificate for connections to members' client addresses.", NULL, "client-transport-security.client-cert-file"},
    {"client-key-file", FLAG_STRING, FIELD(client_tls.client_key_file), "", NULL, "Its key.", NULL, "client-transport-security.client-key-file"},
    {"client-cert-auth", FLAG_BOOL, FIELD(client_tls.client_cert_auth), "false", NULL, "Clients must show a certificate. Likewise when there is a --trusted-ca-file.", NULL, "client-transport-security.client-cert-auth"},
    {"client-crl-file", FLAG_STRING, FIELD(client_tls.crl_file), "", NULL, "Certificates of clients that are revoked, in PEM or DER.", NULL, ""},
    {"client-cert-allowed-hostname", FLAG_STRINGS, FIELD(client_tls.allowed_hostnames), "", NULL, "Names of which a client's certificate must have one, comma-separated.", NULL, "client-transport-security.allowed-hostname"},
    {"client-transport-security.allowed-cn", FLAG_STRINGS, FIELD(client_tls.allowed_cns), "", NULL, NULL},
    {"trusted-ca-file", FLAG_STRING, FIELD(client_tls.ca_file), "", NULL, "Who signs the certificates of clients.", NULL, "client-transport-security.trusted-ca-file"},
    {"auto-tls", FLAG_BOOL, FIELD(client_tls.auto_tls), "false", NULL, "Make a certificate to show to clients.", NULL, "client-transport-security.auto-tls"},
    {"peer-cert-file", FLAG_STRING, FIELD(peer_tls.cert_file), "", NULL, "Certificate shown to the other members, in PEM.", NULL, "peer-transport-security.cert-file"},
    {"peer-key-file", FLAG_STRING, FIELD(peer_tls.key_file), "", NULL, "Its key.", NULL, "peer-transport-security.key-file"},
    {"peer-client-cert-file", FLAG_STRING, FIELD(peer_tls.client_cert_file), "", NULL, "Another certificate for connections to the other members.", NULL, "peer-transport-security.client-cert-file"},
    {"peer-client-key-file", FLAG_STRING, FIELD(peer_tls.client_key_file), "", NULL, "Its key.", NULL, "peer-transport-security.client-key-file"},
    {"peer-client-cert-auth", FLAG_BOOL, FIELD(peer_tls.client_cert_auth), "false", NULL, "The other members must show a certificate.", NULL, "peer-transport-security.client-cert-auth"},
    {"peer-trusted-ca-file", FLAG_STRING, FIELD(peer_tls.ca_file), "", NULL, "Who signs the certificates of members.", NULL, "peer-transport-security.trusted-ca-file"},
    {"peer-auto-tls", FLAG_BOOL, FIELD(peer_tls.auto_tls), "false", NULL, "Make a certificate to show to the other members.", NULL, "peer-transport-security.auto-tls"},
    {"peer-crl-file", FLAG_STRING, FIELD(peer_tls.crl_file), "", NULL, "Certificates of members that are revoked, in PEM or DER.", NULL, ""},
    {"peer-cert-allowed-cn", FLAG_STRINGS, FIELD(peer_tls.allowed_cns), "", NULL, "CNs of which a member's certificate must have one, comma-separated.", NULL, "peer-transport-security.allowed-cn"},
    {"peer-cert-allowed-hostname", FLAG_STRINGS, FIELD(peer_tls.allowed_hostnames), "", NULL, "Names of which a member's certificate must have one, comma-separated.", NULL, "peer-transport-security.allowed-hostname"},
    {"peer-skip-client-san-verification", FLAG_BOOL, FIELD(peer_tls.skip_client_san), "false", NULL, "Do not ask whether a member comes from an address in its certificate.", NULL, "peer-transport-security.skip-client-san-verification"},
    {"self-signed-cert-validity", FLAG_UINT_CLAMPED, FIELD(self_signed_years), "1", NULL, "Years for which a certificate that is made is valid."},
    {"cipher-suites", FLAG_STRINGS, FIELD(cipher_suites), "", NULL, "Cipher suites for TLS 1.2 by the names that Go has for them, comma-separated."},
    {"cors", FLAG_ORIGINS, FIELD(cors), "*", NULL, "Origins whose pages may call over HTTP, comma-separated."},
    {"host-whitelist", FLAG_NAMES, FIELD(host_whitelist), "*", NULL, "Names by which this member may be called over plain HTTP, comma-separated."},
    {"tls-min-version", FLAG_STRING, FIELD(tls_version_min), "TLS1.2", NULL, "TLS1.2 or TLS1.3."},
    {"tls-max-version", FLAG_STRING, FIELD(tls_version_max), "", NULL, "TLS1.2 or TLS1.3; empty is the highest there is."},
    {"enable-pprof", FLAG_BOOL, FLAG_NO_FIELD, "false", "Profiling and monitoring", "Nothing: there is no Go to profile.", "there is no Go to profile; perf reads the process as it is"},
    {"metrics", FLAG_STRING, FLAG_NO_FIELD, "basic", NULL, "Nothing: all metrics are served.", "the same metrics are served with either"},
    {"listen-metrics-urls", FLAG_URLS, FIELD(listen_metrics_urls), NULL, NULL, "Addresses to listen on for /metrics and /health, beside those for clients."},
    {"logger", FLAG_STRING, FIELD(log.logger), "zap", "Logging", "'zap': how the log is written."},
    {"log-outputs", FLAG_NAMES, FIELD(log.outputs), "default", NULL, "stderr, stdout, default (stderr), systemd/journal, or files; comma-separated."},
    {"log-level", FLAG_STRING, FIELD(log.level), "info", NULL, "debug, info, warn, error, panic or fatal."},
    {"log-format", FLAG_STRING, FIELD(log.format), "json", NULL, "'json' or 'console'."},
    {"enable-log-rotation", FLAG_BOOL, FIELD(log.rotate), "false", NULL, "Begin a new file when the one that the log goes to is full."},
    {"log-rotation-config-json", FLAG_STRING, FIELD(log.rotation), "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}", NULL, "When it is full (MB), and which of the old ones stay (days, number); 0 is all."},
    {"warning-unary-request-duration", FLAG_DURATION, FIELD(warn_request_ms), "300ms", NULL, "A call that takes longer is named in the log."},
    {"enable-distributed-tracing", FLAG_BOOL, FIELD(tracing), "false", "Distributed tracing", "Nothing: spans are not recorded.", "spans are not recorded"},
    {"distributed-tracing-address", FLAG_STRING, FLAG_NO_FIELD, "localhost:4317", NULL, "Nothing, as before.", "spans are not recorded"},
    {"distributed-tracing-service-name", FLAG_STRING, FLAG_NO_FIELD, "etcd", NULL, "Nothing, as before.", "spans are not recorded"},
    {"distributed-tracing-instance-id", FLAG_STRING, FLAG_NO_FIELD, "", NULL, "Nothing, as before.", "spans are not recorded"},
    {"distributed-tracing-sampling-rate", FLAG_INT, FIELD(tracing_rate), "0", NULL, "Nothing, as before.", "spans are not recorded"},
    {"corrupt-check-time", FLAG_DURATION_NS, FLAG_NO_FIELD, "0s", "Features", "Nothing: members are compared every 5 seconds when anything was written.", "members are compared every 5 seconds when anything was written, whatever it says"},
    {"compact-hash-check-time", FLAG_DURATION_NS, FIELD(compact_hash_check_ns), "1m", NULL, "Nothing, as before.", "members are compared every 5 seconds when anything was written, whatever it says"},
    {"compaction-batch-limit", FLAG_INT, FLAG_NO_FIELD, "0", NULL, "Nothing: what is compacted goes in slices, between requests.", "what is compacted goes in slices of 50 us, between requests"},
    {"compaction-sleep-interval", FLAG_DURATION_NS, FLAG_NO_FIELD, "0", NULL, "Nothing, as before.", "what is compacted goes in slices of 50 us, between requests"},
    {"watch-progress-notify-interval", FLAG_DURATION, FIELD(watch_progress_interval_ms), "10m", NULL, "How often watchers that ask for it are told how far they are."},
    {"downgrade-check-time", FLAG_DURATION_NS, FLAG_NO_FIELD, "5s", NULL, "Nothing: it is looked at every 4 seconds.", "it is looked at every 4 seconds, with the version of the cluster"},
    {"warning-apply-duration", FLAG_DURATION, FIELD(warn_apply_ms), "100ms", NULL, "A turn of the core that takes longer is said in the log.", "a turn, in which all that was committed is applied together, is what is measured"},
    {"bootstrap-defrag-threshold-megabytes", FLAG_UINT, FLAG_NO_FIELD, "0", NULL, "Nothing: the store is dense after each start.", "the store is dense after each start"},
    {"force-new-cluster", FLAG_BOOL, FIELD(force_new_cluster), "false", "Unsafe", "Make this member a cluster of its own, with the data that it has. The others\n    must never run again."},
    {"unsafe-no-fsync", FLAG_BOOL, FIELD(no_fsync), "false", NULL, "Do not wait for disks: a crash of the machine loses what was acknowledged."},
    {"wal-io", FLAG_WAL_IO, FIELD(wal_io), "auto", "trivet", "How the log is written: auto, uring (io_uring) or sync (a thread)."},
    {"repair", FLAG_REPAIR, FIELD(repair), "auto", NULL, "What a member with damaged data does: auto (sets it aside and gets it back from the others)\n"      "    or refuse (says what is damaged and ends)."},
    {"disk-reserve-bytes", FLAG_UINT, FIELD(disk_reserve_bytes), "268435456", NULL, "Free space below which writes are refused, of the disks of the data and of the log;\n"      "    the default is two segments of the log and two commits of the store. 0 is never."},
    {"log-segment-bytes", FLAG_UINT, FIELD(log_segment_bytes), "67108864", NULL, "Size of the log's files: a multiple of 4 KiB, from 16 MiB to 1 GiB."},
    {"lease-reads", FLAG_BOOL, FIELD(lease_reads), "false", NULL, "The leader answers linearizable reads without asking the others, as long as they cannot\n"      "    have elected another. Relies on clocks that run equally fast (to 20 %); to be set at\n"      "    every member, and a lost leader is then noticed by the election timeout alone."},
    {"io-threads", FLAG_UINT32, FIELD(io_threads), NULL, NULL, "Threads that serve clients; 0 is none beside the node's own. By default as many as there\n"      "    are CPUs but two, 8 at most."},

    {"config-file", FLAG_CONFIG_FILE, FIELD(config_file), "", NULL, NULL, NULL, ""},
    {"version", FLAG_VERSION, 0, "false", NULL, NULL, NULL, ""},
    {"cluster-active-size", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"cluster-remove-delay", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"cluster-sync-interval", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"config", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"force", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"max-result-buffer", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"max-retry-attempts", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"peer-heartbeat-interval", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"peer-election-timeout", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"retry-interval", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"snapshot", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"v", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
    {"vv", FLAG_GONE, FLAG_NO_FIELD, "", NULL, NULL, NULL, ""},
};

const uint32_t config_flags_count = sizeof(config_flags) / sizeof(config_flags[0]);
_Static_assert(sizeof(config_flags) / sizeof(config_flags[0]) <= FLAGS_MAX, "FLAGS_MAX");

uint32_t config_find_flag(const char *name, size_t size)
{
    /* A name with a dot in it is one in files alone. */
    for (uint32_t i = 0; i < config_flags_count && memchr(name, '.', size) == NULL; i++)
        if (strncmp(config_flags[i].name, name, size) == 0 && config_flags[i].name[size] == '\0')
            return i;
    return UINT32_MAX;
}

void config_print_usage(FILE *out)
{
    fputs("Usage:\n\n"
          "  trivetd [flags]\n    Start a member.\n\n"
          "  trivetd --version\n    Show the version.\n\n"
          "  trivetd -h | --help\n    Show all flags.\n\n"
          "  trivetd --config-file\n    Read all options from a file, in YAML or JSON: flags and\n"
          "    variables then count for nothing. Durations in it are nanoseconds.\n\n",
          out);
}

void config_print_help(FILE *out)
{
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
        if (f->here != NULL)
            fprintf(out, "    Other than in etcd: %s.\n", f->here);
    }
}
