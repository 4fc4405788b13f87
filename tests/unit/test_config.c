/* The command line and the environment, in etcd's words. */
#include "unit.h"

#include "server/config.h"
#include "server/config_flags.h"

#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ARGS_MAX = 32 };

static struct config config;
static char err_text[4096];

static void quiet(void)
{
    static int null_fd;
    if (null_fd == 0)
        null_fd = open("/dev/null", O_WRONLY);
    log_set_fd(null_fd);
}

/* Split at blanks; `args` is overwritten. */
static int split(char *args, char **ret)
{
    int count = 0;
    for (char *word = strtok(args, " "); word != NULL; word = strtok(NULL, " "))
        ret[count++] = word;
    ret[count] = NULL;
    return count;
}

static enum config_outcome parse_cpus(const char *args, const char *env, uint32_t cpus)
{
    quiet();
    char arg_text[1024], env_text[1024];
    char *argv[ARGS_MAX] = {"trivetd"}, *envp[ARGS_MAX];
    snprintf(arg_text, sizeof(arg_text), "%s", args);
    snprintf(env_text, sizeof(env_text), "%s", env);
    int argc = 1 + split(arg_text, argv + 1);
    (void)split(env_text, envp);
    err_text[0] = '\0';
    return config_parse(&config, argc, argv, envp, cpus, NULL, err_text, sizeof(err_text));
}

static enum config_outcome parse(const char *args, const char *env)
{
    return parse_cpus(args, env, 2);
}

START_TEST(test_defaults)
{
    ck_assert_int_eq(parse("", "PATH=/bin"), CONFIG_OK);
    ck_assert_str_eq(config.name, "default");
    ck_assert_str_eq(config.data_dir, "default.etcd");
    ck_assert_str_eq(config.wal_dir, "");
    ck_assert_uint_eq(config.listen_client_urls.count, 1);
    ck_assert_str_eq(config.listen_client_urls.items[0], "http://localhost:2379");
    ck_assert_str_eq(config.listen_peer_urls.items[0], "http://localhost:2380");
    ck_assert_str_eq(config.advertise_client_urls.items[0], "http://localhost:2379");
    ck_assert_str_eq(config.advertise_peer_urls.items[0], "http://localhost:2380");
    ck_assert_str_eq(config.initial_cluster, "default=http://localhost:2380");
    ck_assert_str_eq(config.initial_cluster_token, "etcd-cluster");
    ck_assert(config.cluster_is_new);
    ck_assert_uint_eq(config.heartbeat_ms, 100);
    ck_assert_uint_eq(config.election_ms, 1000);
    ck_assert_uint_eq(config.snapshot_count, 10000);
    ck_assert_uint_eq(config.quota_backend_bytes, 2147483648);
    ck_assert_uint_eq(config.max_txn_ops, 128);
    ck_assert_uint_eq(config.max_request_bytes, 1572864);
    ck_assert_uint_eq(config.max_concurrent_streams, UINT32_MAX);
    ck_assert_uint_eq(config.keepalive_min_time_ms, 5000);
    ck_assert_uint_eq(config.keepalive_interval_ms, 7200000);
    ck_assert_uint_eq(config.keepalive_timeout_ms, 20000);
    ck_assert_uint_eq(config.watch_progress_interval_ms, 600000);
    ck_assert_str_eq(config.log.level, "info");
    ck_assert(config.pre_vote);
    ck_assert_int_eq(config.wal_io, DISK_AUTO);
    ck_assert_uint_eq(config.io_threads, 0);
    ck_assert_int_eq(config_lease_ttl_min_s(&config), 2);
    config_fini(&config);
}
END_TEST

/* As in a unit file or a pod's manifest. */
START_TEST(test_member_of_three)
{
    enum config_outcome outcome = parse(
        "--name n1 -data-dir=/d --wal-dir /w "
        "--listen-client-urls=http://127.0.0.1:2379,http://10.0.0.1:2379 "
        "--advertise-client-urls http://10.0.0.1:2379 --listen-peer-urls http://10.0.0.1:2380 "
        "--initial-advertise-peer-urls=http://10.0.0.1:2380 --initial-cluster-state=existing "
        "--initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380 "
        "--initial-cluster-token=t --heartbeat-interval=250 --election-timeout 2500 "
        "--pre-vote=false "
        "--log-level debug --log-format=json --logger zap --enable-pprof=F --strict-reconfig-check",
        "ETCD_QUOTA_BACKEND_BYTES=8589934592 ETCD_MAX_TXN_OPS=0x100 ETCD_WAL_IO=sync "
        "ETCD_IO_THREADS=3 "
        "ETCD_GRPC_KEEPALIVE_MIN_TIME=1m30.5s ETCD_FOO=1 ETCD_SNAPSHOT_COUNT= ETCD_VERSION=x");
    ck_assert_msg(outcome == CONFIG_OK, "%s", err_text);
    ck_assert_str_eq(config.name, "n1");
    ck_assert_str_eq(config.data_dir, "/d");
    ck_assert_str_eq(config.wal_dir, "/w");
    ck_assert_uint_eq(config.listen_client_urls.count, 2);
    ck_assert_str_eq(config.listen_client_urls.items[0], "http://10.0.0.1:2379");
    ck_assert_str_eq(config.initial_cluster, "n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380");
    ck_assert(!config.cluster_is_new);
    ck_assert(!config.pre_vote);
    ck_assert_uint_eq(config.heartbeat_ms, 250);
    ck_assert_uint_eq(config.quota_backend_bytes, 8589934592);
    ck_assert_uint_eq(config.max_txn_ops, 256);
    ck_assert_uint_eq(config.keepalive_min_time_ms, 90500);
    ck_assert_uint_eq(config.snapshot_count, 10000);
    ck_assert_int_eq(config.wal_io, DISK_SYNC);
    ck_assert_uint_eq(config.io_threads, 3);
    ck_assert_str_eq(config.log.level, "debug");
    ck_assert_int_eq(config_lease_ttl_min_s(&config), 4); /* 15 ticks of 250 ms */
    config_fini(&config);
}
END_TEST

START_TEST(test_initial_cluster_from_name)
{
    ck_assert_int_eq(parse("--name=m --initial-advertise-peer-urls http://b:2,http://a:1", ""),
                     CONFIG_OK);
    ck_assert_str_eq(config.initial_cluster, "m=http://a:1,m=http://b:2");
    ck_assert_str_eq(config.data_dir, "m.etcd");
    config_fini(&config);
    /* etcd keeps the default of a member that kept its default name. */
    ck_assert_int_eq(parse("--initial-advertise-peer-urls http://a:1", ""), CONFIG_OK);
    ck_assert_str_eq(config.initial_cluster, "default=http://localhost:2380");
    config_fini(&config);
}
END_TEST

START_TEST(test_io_threads)
{
    static const uint32_t cases[][2] = {{1, 0}, {2, 0}, {3, 1}, {8, 6}, {10, 8}, {128, 8}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_int_eq(parse_cpus("", "", cases[i][0]), CONFIG_OK);
        ck_assert_uint_eq(config.io_threads, cases[i][1]);
        config_fini(&config);
    }
}
END_TEST

START_TEST(test_durations)
{
    static const struct {
        const char *text;
        int64_t ms; /* < 0: refused */
    } cases[] = {
        {"0", 0},       {"0s", 0},     {"5s", 5000}, {"1.5s", 1500},      {"2h45m", 9900000},
        {"300ms", 300}, {"1us", 1},    {"1ns", 1},   {"1m0.001s", 60001}, {"+1s", 1000},
        {".5s", 500},   {"1.s", 1000}, {"5", -1},    {"s", -1},           {".s", -1},
        {"-1s", 0},     {"1x", -1},    {"1s5", -1},  {"1e3s", -1},        {"99999999999h", -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char args[64];
        snprintf(args, sizeof(args), "--grpc-keepalive-timeout=%s", cases[i].text);
        bool ok = parse(args, "") == CONFIG_OK;
        ck_assert_msg(ok == (cases[i].ms >= 0), "%s", cases[i].text);
        if (ok)
            ck_assert_int_eq((int64_t)config.keepalive_timeout_ms, cases[i].ms);
        config_fini(&config);
    }
}
END_TEST

/* Texts and outcomes are those of etcd 3.7.1, but where it says "trivet". */
START_TEST(test_auth)
{
    ck_assert_int_eq(parse("", ""), CONFIG_OK);
    ck_assert_str_eq(config.auth_token, "simple");
    ck_assert_uint_eq(config.bcrypt_cost, 10);
    ck_assert_uint_eq(config.auth_token_ttl_s, 300);
    config_fini(&config);
    ck_assert_int_eq(
        parse("--auth-token jwt,sign-method=HS256 --bcrypt-cost=31", "ETCD_AUTH_TOKEN_TTL=7"),
        CONFIG_OK);
    ck_assert_str_eq(config.auth_token, "jwt,sign-method=HS256");
    ck_assert_uint_eq(config.bcrypt_cost, 31);
    ck_assert_uint_eq(config.auth_token_ttl_s, 7);
    config_fini(&config);
    /* A cost that bcrypt does not have is passed over, with a word in the log, as in etcd. */
    ck_assert_int_eq(parse("--bcrypt-cost 3", ""), CONFIG_OK);
    ck_assert_uint_eq(config.bcrypt_cost, 10);
    config_fini(&config);
    ck_assert_int_eq(parse("--bcrypt-cost 32", ""), CONFIG_OK);
    ck_assert_uint_eq(config.bcrypt_cost, 10);
    config_fini(&config);
    ck_assert_int_eq(parse("--bcrypt-cost x", ""), CONFIG_USAGE);
    ck_assert_str_eq(err_text, "invalid value \"x\" for flag -bcrypt-cost: parse error");
    config_fini(&config);
}
END_TEST

START_TEST(test_refused)
{
    static const struct {
        const char *args;
        const char *env;
        enum config_outcome outcome;
        const char *text;
    } cases[] = {
        {"--foo", "", CONFIG_USAGE, "flag provided but not defined: -foo"},
        {"-foo=1", "", CONFIG_USAGE, "flag provided but not defined: -foo"},
        {"---name", "", CONFIG_USAGE, "bad flag syntax: ---name"},
        {"-=x", "", CONFIG_USAGE, "bad flag syntax: -=x"},
        {"--name", "", CONFIG_USAGE, "flag needs an argument: -name"},
        {"--max-txn-ops=x", "", CONFIG_USAGE,
         "invalid value \"x\" for flag -max-txn-ops: parse error"},
        {"--max-txn-ops=-1", "", CONFIG_USAGE,
         "invalid value \"-1\" for flag -max-txn-ops: parse error"},
        {"--max-txn-ops=99999999999999999999", "", CONFIG_USAGE,
         "invalid value \"99999999999999999999\" for flag -max-txn-ops: value out of range"},
        {"--pre-vote=x", "", CONFIG_USAGE,
         "invalid boolean value \"x\" for -pre-vote: parse error"},
        {"--initial-cluster-state=x", "", CONFIG_USAGE,
         "invalid value \"x\" for flag -initial-cluster-state: invalid value"},
        {"--wal-io=x", "", CONFIG_USAGE,
         "invalid value \"x\" for flag -wal-io: must be auto, uring or sync"},
        {"--listen-client-urls=foo", "", CONFIG_USAGE,
         "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, "
         "unix, or unixs: foo"},
        {"--tls-min-version=TLS1.1", "", CONFIG_INVALID,
         "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"},
        {"--tls-min-version=TLS1.3 --tls-max-version=TLS1.2", "", CONFIG_INVALID,
         "min version (TLS1.3) is greater than max version (TLS1.2)"},
        {"--tls-min-version=TLS1.3 --cipher-suites=TLS_AES_128_GCM_SHA256", "", CONFIG_INVALID,
         "cipher suites cannot be configured when only TLS1.3 is enabled"},
        {"--listen-metrics-urls=http://a.example:1", "", CONFIG_INVALID,
         "expected IP in URL for binding (http://a.example:1)"},
        {"foo", "", CONFIG_INVALID, "\"foo\" is not a valid flag"},
        {"--version foo", "", CONFIG_INVALID, "\"foo\" is not a valid flag"},
        {"-- --name x", "", CONFIG_INVALID, "\"--name\" is not a valid flag"},
        {"", "ETCD_MAX_TXN_OPS=x", CONFIG_INVALID,
         "invalid value \"x\" for ETCD_MAX_TXN_OPS: parse error"},
        {"--name x", "ETCD_NAME=y", CONFIG_SHADOWED, "ETCD_NAME"},
        {"--name x", "ETCD_NAME=x", CONFIG_SHADOWED, "ETCD_NAME"},
        {"--name x", "ETCD_MAX_TXN_OPS=x ETCD_NAME=", CONFIG_SHADOWED, "ETCD_NAME"},
        {"--listen-client-urls http://127.0.0.1:2379", "", CONFIG_INVALID,
         "--advertise-client-urls is required when --listen-client-urls is set explicitly"},
        {"", "ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:2379", CONFIG_INVALID,
         "--advertise-client-urls is required when --listen-client-urls is set explicitly"},
        {"--election-timeout 400", "", CONFIG_INVALID,
         "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]"},
        {"--heartbeat-interval=0", "", CONFIG_INVALID,
         "--heartbeat-interval must be >0 (set to 0ms)"},
        {"--election-timeout=0", "", CONFIG_INVALID, "--election-timeout must be >0 (set to 0ms)"},
        {"--election-timeout=50001", "", CONFIG_INVALID,
         "--election-timeout[50001ms] is too long, and should be set less than 50000ms"},
        {"--listen-peer-urls http://example.com:2380", "", CONFIG_INVALID,
         "expected IP in URL for binding (http://example.com:2380)"},
        {"--listen-peer-urls http://:2380", "", CONFIG_INVALID,
         "expected IP in URL for binding (http://:2380)"},
        {"--initial-advertise-peer-urls http://:1", "", CONFIG_INVALID,
         "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty host "
         "(http://:1))"},
        {"--io-threads 65", "", CONFIG_INVALID, "--io-threads must be at most 64"},
        {"--config-file /no/such/file", "", CONFIG_INVALID,
         "open /no/such/file: no such file or directory"},
        {"", "ETCD_CONFIG_FILE=/no/such/file", CONFIG_INVALID,
         "open /no/such/file: no such file or directory"},
        {"--feature-gates=X=true", "", CONFIG_USAGE,
         "invalid value \"X=true\" for flag -feature-gates: unrecognized feature gate: X"},
        {"--auto-compaction-retention=1x", "", CONFIG_FATAL,
         "error parsing CompactionRetention: time: unknown unit \"x\" in duration \"1x\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum config_outcome outcome = parse(cases[i].args, cases[i].env);
        ck_assert_str_eq(err_text, cases[i].text);
        ck_assert_int_eq(outcome, cases[i].outcome);
        config_fini(&config);
    }
}
END_TEST

START_TEST(test_local_host)
{
    static const struct {
        const char *args;
        const char *host;
    } cases[] = {
        {"--initial-advertise-peer-urls=http://10.0.0.7:1", NULL},
        {"--feature-gates=SetMemberLocalAddr=true", NULL},
        {"--feature-gates=SetMemberLocalAddr=true --initial-advertise-peer-urls=http://10.0.0.7:1",
         "10.0.0.7"},
        {"--feature-gates=AllAlpha=true "
         "--initial-advertise-peer-urls=http://127.1.2.3:1,http://[::]:2,http://a.b:3,http://"
         "[fd::9]:4",
         "fd::9"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)parse(cases[i].args, "");
        if (cases[i].host == NULL)
            ck_assert_ptr_null(config.local_host);
        else
            ck_assert_pstr_eq(config.local_host, cases[i].host);
        config_fini(&config);
    }
}
END_TEST

START_TEST(test_other_outcomes)
{
    static const struct {
        const char *args;
        enum config_outcome outcome;
    } cases[] = {
        {"--help", CONFIG_HELP},
        {"-h", CONFIG_HELP},
        {"--name x -help", CONFIG_HELP},
        {"--version", CONFIG_VERSION},
        {"--version=false", CONFIG_OK},
        {"--quota-backend-bytes=-1", CONFIG_OK},
        {"--log-outputs default", CONFIG_OK},
        {"--listen-client-urls=", CONFIG_INVALID}, /* set, if to nothing new */
        {"--", CONFIG_OK},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_int_eq(parse(cases[i].args, ""), cases[i].outcome);
        config_fini(&config);
    }
    ck_assert_int_eq(parse("--quota-backend-bytes=-1", ""), CONFIG_OK);
    ck_assert_uint_eq(config.quota_backend_bytes, 0);
    config_fini(&config);
    ck_assert_int_eq(parse("--watch-progress-notify-interval=1ms", ""), CONFIG_OK);
    ck_assert_uint_eq(config.watch_progress_interval_ms, 100);
    config_fini(&config);
}
END_TEST

START_TEST(test_flag_names_are_unique)
{
    for (uint32_t i = 0; i < config_flags_count; i++)
        for (uint32_t j = 0; j < i; j++)
            ck_assert_str_ne(config_flags[i].name, config_flags[j].name);
}
END_TEST

UNIT_MAIN("config", test_defaults, test_member_of_three, test_initial_cluster_from_name,
          test_io_threads, test_durations, test_auth, test_refused, test_local_host,
          test_other_outcomes, test_flag_names_are_unique)
