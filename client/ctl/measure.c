/* check perf and check datascale: puts at a rate, or so many, and what they took. */
#include "checks.h"
#include "commands.h"
#include "http_get.h"
#include "progress.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PERF_SECONDS = 60,
    PERF_KEY_BYTES = 256,
    PERF_VALUE_BYTES = 1024,
    SCALE_KEY_BYTES = 512,
    SCALE_VALUE_BYTES = 512,
    CLEANUP_SECONDS = 30,
    CLIENTS_MAX = 1000,
    CONNECTIONS = 8,
    ERRORS_MAX = 32,
    NS_PER_MS = 1000000,
    PAGE_BYTES_MAX = 16 << 20,
};

static const uint64_t ns_per_second = 1000000000;

/* The sizes of both, by --load. */
static const struct load {
    const char *names[2];
    uint32_t clients;
    uint32_t puts_per_second; /* perf */
    uint32_t puts_count;      /* datascale */
} loads[] = {
    {{"s", "small"}, 50, 150, 10000},
    {{"m", "medium"}, 200, 1000, 100000},
    {{"l", "large"}, 500, 8000, 1000000},
    {{"xl", "xLarge"}, CLIENTS_MAX, 15000, 3000000},
};

struct measure;

/* A client of etcdctl's: a put at a time. */
struct slot {
    struct measure *m;
    uint64_t began_ns;
    uint8_t *key;
};

struct measure_error {
    char text[256];
    uint64_t count;
};

/* Under `lock`: what callbacks change. */
struct measure {
    struct ctl *c;
    const struct load *load;
    const char *prefix;
    size_t prefix_size;
    size_t key_size; /* with the prefix */
    uint8_t *value;
    size_t value_size;
    struct rng rng;
    struct slot *slots;

    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct slot **idle;
    uint32_t idle_count;
    uint64_t ended;
    uint64_t ended_ok;
    double sum_s;
    double squares_s;
    double slowest_s;
    struct measure_error errors[ERRORS_MAX];
    uint32_t errors_count;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

/* --- puts --- */

static void count_error(struct measure *m, const struct trivet_result *r)
{
    const char *text = ctl_error(r);
    for (uint32_t i = 0; i < m->errors_count; i++) {
        if (strcmp(m->errors[i].text, text) == 0) {
            m->errors[i].count++;
            return;
        }
    }
    if (m->errors_count == ERRORS_MAX)
        return;
    struct measure_error *e = &m->errors[m->errors_count++];
    (void)snprintf(e->text, sizeof(e->text), "%s", text);
    e->count = 1;
}

static void on_put(const struct trivet_result *r, void *arg)
{
    struct slot *s = arg;
    struct measure *m = s->m;
    double took_s = (double)(clock_mono_ns() - s->began_ns) / 1e9;
    (void)pthread_mutex_lock(&m->lock);
    m->ended++;
    if (r->status == TRIVET_OK) {
        m->ended_ok++;
        m->sum_s += took_s;
        m->squares_s += took_s * took_s;
        m->slowest_s = took_s > m->slowest_s ? took_s : m->slowest_s;
    } else {
        count_error(m, r);
    }
    m->idle[m->idle_count++] = s;
    (void)pthread_cond_signal(&m->cond);
    (void)pthread_mutex_unlock(&m->lock);
}

static struct slot *wait_idle(struct measure *m)
{
    (void)pthread_mutex_lock(&m->lock);
    while (m->idle_count == 0)
        (void)pthread_cond_wait(&m->cond, &m->lock);
    struct slot *s = m->idle[--m->idle_count];
    (void)pthread_mutex_unlock(&m->lock);
    return s;
}

static void wait_all(struct measure *m)
{
    (void)pthread_mutex_lock(&m->lock);
    while (m->idle_count < m->load->clients)
        (void)pthread_cond_wait(&m->cond, &m->lock);
    (void)pthread_mutex_unlock(&m->lock);
}

/* A random number in front of zeros, as etcdctl's keys are. */
static void start_put(struct measure *m)
{
    const struct trivet_call_options o = {.timeout_ms = UINT64_C(86400) * 1000};
    struct slot *s = wait_idle(m);
    uint64_t number = rng_next(&m->rng);
    uint8_t *p = s->key + m->prefix_size;
    for (; number >= 0x80; number >>= 7)
        *p++ = (uint8_t)(number | 0x80);
    *p = (uint8_t)number;
    struct trivet_request q = {
        .method = TRIVET_PUT,
        .u.put = {.key = {s->key, m->key_size}, .value = {m->value, m->value_size}}};
    s->began_ns = clock_mono_ns();
    if (trivet_start(m->c->client, &q, &o, on_put, s) != 0)
        ctl_fail(m->c, CTL_ERROR, "a put cannot be sent");
}

/* --- before and after --- */

static const struct load *load_of(struct ctl *c)
{
    const char *name = ctl_text(c, "load");
    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
        if (strcmp(name, loads[i].names[0]) == 0 || strcmp(name, loads[i].names[1]) == 0)
            return &loads[i];
    }
    ctl_fail(c, CTL_BAD_FEATURE, "unknown load option %s", name);
}

static void refuse_old_keys(struct measure *m, const char *quote)
{
    struct trivet_bytes prefix = trivet_str(m->prefix);
    struct trivet_request q = {
        .method = TRIVET_RANGE,
        .u.range = {.key = prefix, .range_end = ctl_prefix_end(prefix), .limit = 1}};
    struct trivet_result r;
    if (ctl_try(m->c, &q, NULL, PERF_SECONDS * ns_per_second, &r) != TRIVET_OK)
        ctl_fail_call(m->c, CTL_ERROR, &r);
    if (r.u.range.kvs_count > 0)
        ctl_fail(m->c, CTL_INVALID_INPUT,
                 "prefix \"%s\" has keys. Delete with %setcdctl del --prefix %s%s first", m->prefix,
                 quote, m->prefix, quote);
    trivet_result_clear(&r);
}

static void begin(struct ctl *c, size_t key_size, size_t value_size, const char *quote,
                  struct measure *m)
{
    struct trivet_options o;
    *m = (struct measure){.c = c,
                          .load = load_of(c),
                          .prefix = ctl_text(c, "prefix"),
                          .value_size = value_size,
                          .lock = PTHREAD_MUTEX_INITIALIZER,
                          .cond = PTHREAD_COND_INITIALIZER};
    m->prefix_size = strlen(m->prefix);
    m->key_size = m->prefix_size + key_size;
    m->value = mem_alloc_zero(value_size);
    rng_init(&m->rng, rng_seed_from_os());
    m->slots = mem_alloc_zero(m->load->clients * sizeof(m->slots[0]));
    m->idle = mem_alloc(m->load->clients * sizeof(m->idle[0]));
    for (uint32_t i = 0; i < m->load->clients; i++) {
        m->slots[i] = (struct slot){.m = m, .key = mem_alloc_zero(m->key_size)};
        memcpy(m->slots[i].key, m->prefix, m->prefix_size);
        m->idle[m->idle_count++] = &m->slots[i];
    }
    ctl_options(c, &o);
    o.connections_max = CONNECTIONS;
    c->client = ctl_open(c, &o);
    refuse_old_keys(m, quote);
}

static void compact(struct measure *m, int64_t revision)
{
    struct trivet_request q = {.method = TRIVET_COMPACT,
                               .u.compact = {.revision = revision, .physical = true}};
    struct trivet_result r;
    printf("Compacting with revision %" PRId64 "\n", revision);
    fflush(stdout);
    if (ctl_try(m->c, &q, NULL, CLEANUP_SECONDS * ns_per_second, &r) != TRIVET_OK)
        ctl_fail_call(m->c, CTL_ERROR, &r);
    printf("Compacted with revision %" PRId64 "\n", revision);
}

static void defragment(struct measure *m)
{
    const struct trivet_request q = {.method = TRIVET_DEFRAGMENT};
    uint32_t count;
    char **endpoints = ctl_seeds(m->c, &count);
    for (uint32_t i = 0; i < count; i++) {
        struct trivet_result r;
        printf("Defragmenting \"%s\"\n", endpoints[i]);
        fflush(stdout);
        if (ctl_try(m->c, &q, endpoints[i], CLEANUP_SECONDS * ns_per_second, &r) != TRIVET_OK)
            ctl_fail_call(m->c, CTL_ERROR, &r);
        printf("Defragmented \"%s\"\n", endpoints[i]);
        trivet_result_clear(&r);
    }
}

static void clean_up(struct measure *m)
{
    struct trivet_bytes prefix = trivet_str(m->prefix);
    struct trivet_request q = {.method = TRIVET_DELETE,
                               .u.del = {.key = prefix, .range_end = ctl_prefix_end(prefix)}};
    struct trivet_result r;
    if (ctl_try(m->c, &q, NULL, CLEANUP_SECONDS * ns_per_second, &r) != TRIVET_OK)
        printf("FAIL: Cleanup failed during key deletion: ERROR(%s)\n", ctl_error(&r));
    else if (ctl_bool(m->c, "auto-compact"))
        compact(m, r.header.revision);
    trivet_result_clear(&r);
    if (ctl_bool(m->c, "auto-defrag"))
        defragment(m);
}

static bool print_errors(const struct measure *m)
{
    if (m->errors_count > 0)
        puts("FAIL: too many errors");
    for (uint32_t i = 0; i < m->errors_count; i++)
        printf("FAIL: ERROR(%s) -> %" PRIu64 "\n", m->errors[i].text, m->errors[i].count);
    return m->errors_count > 0;
}

/* --- perf --- */

static void sleep_until(uint64_t at_ns)
{
    uint64_t now_ns = clock_mono_ns();
    if (at_ns <= now_ns)
        return;
    struct timespec t = {.tv_sec = (time_t)((at_ns - now_ns) / ns_per_second),
                         .tv_nsec = (long)((at_ns - now_ns) % ns_per_second)};
    (void)nanosleep(&t, NULL); /* a signal ends it, and all of it */
}

/* Each put at its time; late ones follow at the same distance, not all at once. */
static void put_at_rate(struct measure *m)
{
    struct progress p;
    uint64_t gap_ns = ns_per_second / m->load->puts_per_second;
    uint64_t begun_ns = clock_mono_ns(), at_ns = begun_ns;
    uint64_t end_ns = begun_ns + PERF_SECONDS * ns_per_second;
    progress_begin(&p, "putting", PROGRESS_COUNT,
                   PERF_SECONDS * (uint64_t)m->load->puts_per_second);
    for (uint64_t i = 0; clock_mono_ns() < end_ns && interrupted == 0; i++) {
        sleep_until(at_ns);
        start_put(m);
        progress_set(&p, i);
        uint64_t now_ns = clock_mono_ns();
        at_ns = at_ns + gap_ns > now_ns ? at_ns + gap_ns : now_ns;
    }
    wait_all(m);
    progress_end(&p);
}

static int judge(const struct measure *m, double seconds)
{
    bool ok = !print_errors(m);
    double count = (double)(m->ended_ok > 0 ? m->ended_ok : 1), mean_s = m->sum_s / count;
    double rate = (double)m->ended_ok / seconds;
    double variance = m->squares_s / count - mean_s * mean_s;
    double deviation_s = variance > 0 ? sqrt(variance) : 0;
    bool enough = rate / m->load->puts_per_second > 0.9;
    printf(enough ? "PASS: Throughput is %d writes/s\n" : "FAIL: Throughput too low: %d writes/s\n",
           (int)rate + 1);
    bool quick = m->slowest_s <= 0.5;
    printf(quick ? "PASS: Slowest request took %fs\n" : "Slowest request took too long: %fs\n",
           m->slowest_s);
    bool even = deviation_s <= 0.1;
    printf(even ? "PASS: Stddev is %fs\n" : "Stddev too high: %fs\n", deviation_s);
    ok = ok && enough && quick && even;
    puts(ok ? "PASS" : "FAIL");
    return ok ? CTL_OK : CTL_ERROR;
}

static int run_perf(struct ctl *c)
{
    struct measure m;
    begin(c, PERF_KEY_BYTES, PERF_VALUE_BYTES, "'", &m);
    (void)signal(SIGINT, on_signal);
    uint64_t began_ns = clock_mono_ns();
    put_at_rate(&m);
    double seconds = (double)(clock_mono_ns() - began_ns) / 1e9;
    clean_up(&m);
    return judge(&m, seconds);
}

/* --- datascale --- */

/* The figure in a member's page of metrics; 0: there is none, which is said. */
static double resident_bytes(struct ctl *c, const char *endpoint)
{
    static const char name[] = "\nprocess_resident_memory_bytes ";
    struct http_page page;
    const char *cert = ctl_text(c, "cert"), *key = ctl_text(c, "key"), *ca = ctl_text(c, "cacert");
    const struct http_get_options o = {
        .ca_file = *ca != '\0' ? ca : NULL,
        .cert_file = *cert != '\0' ? cert : NULL,
        .key_file = *key != '\0' ? key : NULL,
        .insecure_skip_verify = ctl_bool(c, "insecure-skip-tls-verify"),
        .secure = !ctl_bool(c, "insecure-transport"),
        .timeout_ms = c->command_timeout_ns / NS_PER_MS,
        .body_bytes_max = PAGE_BYTES_MAX,
    };
    double bytes = 0;
    http_get(endpoint, "/metrics", &o, &page);
    if (page.status == 0) {
        printf("fetch error: %s\n", page.error);
        buf_fini(&page.body);
        return 0;
    }
    char *text = ctl_copy(trivet_bytes(page.body.data, page.body.size));
    const char *line = strstr(text, name);
    if (line == NULL)
        puts("could not find: process_resident_memory_bytes");
    else
        bytes = strtod(line + sizeof(name) - 1, NULL);
    mem_free(text);
    buf_fini(&page.body);
    return bytes;
}

static double memory_or_fail(struct ctl *c, const char *when)
{
    uint32_t count;
    char **endpoints = ctl_seeds(c, &count);
    double bytes = resident_bytes(c, endpoints[0]);
    if (bytes > 0)
        return bytes;
    printf("FAIL: Could not read process_resident_memory_bytes %s the put operations.\n", when);
    exit(CTL_ERROR);
}

static int run_datascale(struct ctl *c)
{
    struct measure m;
    struct progress p;
    begin(c, SCALE_KEY_BYTES, SCALE_VALUE_BYTES, "", &m);
    double before = memory_or_fail(c, "before");
    printf("Start data scale check for work load [%u key-value pairs, %d bytes per key-value, %u "
           "concurrent clients].\n",
           m.load->puts_count, SCALE_KEY_BYTES + SCALE_VALUE_BYTES, m.load->clients);
    fflush(stdout);
    progress_begin(&p, "putting", PROGRESS_COUNT, m.load->puts_count);
    for (uint32_t i = 0; i < m.load->puts_count; i++) {
        start_put(&m);
        progress_set(&p, i);
    }
    wait_all(&m);
    progress_end(&p);
    double after = memory_or_fail(c, "after");
    clean_up(&m);
    if (print_errors(&m))
        return CTL_ERROR;
    printf("PASS: Approximate system memory used : %.2f MB.\n", (after - before) / (1024 * 1024));
    return CTL_OK;
}

#define LOADS "s small m medium l large xl xLarge"

static const struct ctl_flag perf_flags[] = {
    {"load", 0, CTL_STRING, "s", "how much: s(mall), m(edium), l(arge) or xl(arge)",
     .words = LOADS},
    {"prefix", 0, CTL_STRING, "/etcdctl-check-perf/", "what the keys that are put begin with"},
    {"auto-compact", 0, CTL_BOOL, NULL, "compact all that was before, at the end"},
    {"auto-defrag", 0, CTL_BOOL, NULL, "defragment the members at the end"},
    {NULL},
};

static const struct ctl_flag datascale_flags[] = {
    {"load", 0, CTL_STRING, "s", "how much: s(mall), m(edium), l(arge) or xl(arge)",
     .words = LOADS},
    {"prefix", 0, CTL_STRING, "/etcdctl-check-datascale/", "what the keys that are put begin with"},
    {"auto-compact", 0, CTL_BOOL, NULL, "compact all that was before, at the end"},
    {"auto-defrag", 0, CTL_BOOL, NULL, "defragment the members at the end"},
    {NULL},
};

static const struct ctl_command subs[] = {
    {.name = "datascale",
     .usage = "[options]",
     .brief = "How much memory the first endpoint takes for so many keys",
     .flags = datascale_flags,
     .run = run_datascale},
    {.name = "perf",
     .usage = "[options]",
     .brief = "Whether puts at a rate are served, for a minute",
     .flags = perf_flags,
     .run = run_perf},
    {NULL},
};

const struct ctl_command ctl_cmd_check = {
    .name = "check",
    .usage = "[options]",
    .brief =
        "Whether the cluster is healthy, and what to do if not; and whether it is quick enough",
    .help =
        "Looks at all members, twice, and says what is wrong or unwise, why that matters, and what "
        "to do.\nThe exit status is 0: all is well, 1: something is to be looked at, 2: something "
        "is "
        "bad.",
    .group = "Utility commands",
    .flags = ctl_check_flags,
    .subs = subs,
    .run = ctl_check_cluster,
};
