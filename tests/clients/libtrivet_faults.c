/* Faults: what is written, read and seen while members die; and how fast it is when none does. */
#include "libtrivet_scenes.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { KEYS_MAX = 2000000 };
enum { FATE_NONE, FATE_OK, FATE_UNKNOWN, FATE_NOT };

static struct trivet_client *client;
static char prefix[64];
static uint8_t fates[KEYS_MAX];
static uint8_t seen[KEYS_MAX];
static _Atomic int keys_begun, keys_open, stopping;
static _Atomic uint64_t last_ok_ms, longest_gap_ms, reads_ok, reads_failed, longest_read_ms;
static _Atomic int watch_status = -1, watch_out_of_order, watch_twice;
static _Atomic int64_t watch_revision;
static _Atomic int lease_lost;

static int key_number(struct trivet_bytes key)
{
    char text[16] = "";
    size_t skip = strlen(prefix);
    if (key.size <= skip || key.size - skip >= sizeof(text))
        return -1;
    memcpy(text, (const char *)key.data + skip, key.size - skip);
    return atoi(text);
}

static void next_write(void);

static void on_written(const struct trivet_result *r, void *arg)
{
    int n = (int)(intptr_t)arg;
    uint64_t now = now_ms();
    fates[n] = r->status == TRIVET_OK        ? FATE_OK
               : r->status == TRIVET_UNKNOWN ? FATE_UNKNOWN
                                             : FATE_NOT;
    if (r->status == TRIVET_OK) {
        if (now - last_ok_ms > longest_gap_ms)
            longest_gap_ms = now - last_ok_ms;
        last_ok_ms = now;
    }
    atomic_fetch_sub(&keys_open, 1);
    next_write();
}

static void next_write(void)
{
    char key[96];
    if (stopping || keys_begun >= KEYS_MAX)
        return;
    int n = atomic_fetch_add(&keys_begun, 1);
    struct trivet_request q = {.method = TRIVET_PUT};
    snprintf(key, sizeof(key), "%s%d", prefix, n);
    q.u.put.key = trivet_str(key);
    q.u.put.value = trivet_str(key);
    atomic_fetch_add(&keys_open, 1);
    if (trivet_start(client, &q, NULL, on_written, (void *)(intptr_t)n) != 0)
        atomic_fetch_sub(&keys_open, 1);
}

static void read_one(bool serializable)
{
    struct trivet_request q = {.method = TRIVET_RANGE};
    struct trivet_result r;
    uint64_t begin = now_ms();
    q.u.range.key = trivet_str("x");
    q.u.range.serializable = serializable;
    if (trivet_call(client, &q, NULL, &r) == TRIVET_OK) {
        reads_ok++;
    } else {
        reads_failed++;
        printf("a read failed: %s %s\n", trivet_status_name(r.status), r.error);
    }
    trivet_result_clear(&r);
    if (now_ms() - begin > longest_read_ms)
        longest_read_ms = now_ms() - begin;
}

static void *reader(void *arg)
{
    (void)arg;
    for (int i = 0; !stopping; i++) {
        read_one(i % 2);
        sleep_ms(2);
    }
    return NULL;
}

/* Time goes by; with own_loop it is this thread that runs the loop. */
static void pass(bool own_loop, unsigned ms)
{
    uint64_t end = now_ms() + ms;
    if (!own_loop)
        sleep_ms(ms);
    while (own_loop && now_ms() < end) {
        struct pollfd p = {.fd = trivet_fd(client), .events = POLLIN};
        int timeout_ms = trivet_timeout_ms(client);
        (void)poll(&p, 1, timeout_ms < 0 || timeout_ms > (int)ms ? (int)ms : timeout_ms);
        trivet_process(client);
    }
}

static void read_for(bool own_loop, unsigned ms)
{
    pthread_t t;
    uint64_t end = now_ms() + ms;
    if (!own_loop) {
        CHECK(pthread_create(&t, NULL, reader, NULL) == 0);
        sleep_ms(ms);
    }
    for (int i = 0; own_loop && now_ms() < end; i++) {
        read_one(i % 2);
        pass(true, 2);
    }
    stopping = 1;
    if (!own_loop)
        pthread_join(t, NULL);
}

static void on_watch(struct trivet_watch *w, const struct trivet_watch_message *m, void *arg)
{
    static int64_t last;
    (void)w;
    (void)arg;
    watch_status = m->status;
    for (uint32_t i = 0; i < m->events_count; i++) {
        const struct trivet_kv *kv = &m->events[i].kv;
        int n = key_number(kv->key);
        if (kv->mod_revision < last)
            watch_out_of_order++;
        last = kv->mod_revision;
        if (n >= 0 && seen[n]++)
            watch_twice++;
        watch_revision = kv->mod_revision;
    }
}

static void on_lost(int64_t id, int status, const char *error, void *arg)
{
    (void)id;
    (void)arg;
    if (status != TRIVET_CLOSED) {
        printf("the lease is lost: %s\n", error);
        lease_lost++;
    }
}

/* Every key that was reported as written is there, at version 1, and was seen once by the watch.
 * Read in pages: through connections that are cut a large answer would never come. */
static void check_keys(struct trivet_client *c)
{
    enum { PAGE = 500 };
    char end[96], from[128];
    struct trivet_result r;
    struct trivet_request q = {.method = TRIVET_RANGE};
    size_t end_size = trivet_prefix_end(trivet_str(prefix), end);
    struct trivet_call_options o = {.timeout_ms = 30000};
    static uint8_t there[KEYS_MAX];
    int again = 0, lost = 0, wrong = 0, unseen = 0, counts[4] = {0};
    int64_t newest = 0;
    size_t from_size = strlen(prefix);
    bool more = true;
    memcpy(from, prefix, from_size);
    while (more) {
        q.u.range.key = trivet_bytes(from, from_size);
        q.u.range.range_end = trivet_bytes(end, end_size);
        q.u.range.limit = PAGE;
        int rv = trivet_call(c, &q, &o, &r);
        CHECK_CALL(rv, r);
        more = rv == TRIVET_OK && r.u.range.more;
        for (uint32_t i = 0; rv == TRIVET_OK && i < r.u.range.kvs_count; i++) {
            const struct trivet_kv *kv = &r.u.range.kvs[i];
            int n = key_number(kv->key);
            there[n] = 1;
            again += kv->version != 1;
            wrong += fates[n] == FATE_NOT;
            if (kv->mod_revision > newest)
                newest = kv->mod_revision;
            /* The next page begins behind this key. */
            memcpy(from, kv->key.data, kv->key.size);
            from[kv->key.size] = '\0';
            from_size = kv->key.size + 1;
        }
        trivet_result_clear(&r);
    }
    for (int i = 0; i < 1000 && watch_revision < newest; i++)
        sleep_ms(10);
    for (int n = 0; n < keys_begun; n++) {
        counts[fates[n]]++;
        lost += fates[n] == FATE_OK && !there[n];
        unseen += there[n] && !seen[n];
    }
    printf("writes: %d ok, %d unknown, %d not; longest gap %d ms; reads: %d ok, %d failed, "
           "longest %d ms\n",
           counts[FATE_OK], counts[FATE_UNKNOWN], counts[FATE_NOT], (int)longest_gap_ms,
           (int)reads_ok, (int)reads_failed, (int)longest_read_ms);
    CHECK(again == 0);
    CHECK(lost == 0);
    CHECK(wrong == 0);
    CHECK(unseen == 0);
    CHECK(counts[FATE_NONE] == 0 && counts[FATE_OK] > 100);
}

void scene_faults(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    enum { OPEN_WRITES = 16, TTL = 3 };
    struct trivet_result r;
    struct trivet_request q = {.method = TRIVET_LEASE_GRANT};
    struct trivet_watch *w;
    char end[96];
    client = c;
    snprintf(prefix, sizeof(prefix), "f/%d/", (int)getpid());
    q.u.lease.ttl = TTL;
    CHECK_CALL(ask(c, &q, &r), r);
    int64_t lease = r.u.lease.id;
    trivet_result_clear(&r);
    CHECK(trivet_lease_keep(c, lease, TTL, on_lost, NULL) == 0);
    CHECK(trivet_lease_keep(c, lease, TTL, on_lost, NULL) == TRIVET_INVALID);
    struct trivet_watch_options wo = {.key = trivet_str(prefix)};
    wo.range_end = trivet_bytes(end, trivet_prefix_end(trivet_str(prefix), end));
    CHECK(trivet_watch_open(c, &wo, on_watch, NULL, &w) == 0);
    for (int i = 0; i < 500 && watch_status != TRIVET_OK; i++)
        pass(o->own_loop, 10);
    printf("running\n");
    fflush(stdout);
    last_ok_ms = now_ms();
    for (int i = 0; i < OPEN_WRITES; i++)
        next_write();
    read_for(o->own_loop, (unsigned)seconds * 1000);
    for (int i = 0; i < 1000 && keys_open > 0; i++)
        pass(o->own_loop, 10);
    CHECK(keys_open == 0);
    check_keys(c);
    CHECK(watch_status == TRIVET_OK && watch_out_of_order == 0 && watch_twice == 0);
    CHECK(lease_lost == 0);
    CHECK(reads_failed == 0 && reads_ok > 50);
    memset(&q, 0, sizeof(q));
    q.method = TRIVET_LEASE_TTL;
    q.u.lease.id = lease;
    CHECK_CALL(trivet_call(c, &q, NULL, &r), r);
    CHECK(r.u.lease.ttl > 0);
    trivet_result_clear(&r);
    struct trivet_metrics m;
    trivet_metrics(c, &m);
    printf("attempts %d, retries %d, denied %d, hedges %d, leader changes %d, ejections %d, watch "
           "resumes %d, keepalives %d\n",
           (int)m.attempts, (int)m.retries, (int)m.retries_denied, (int)m.hedges,
           (int)m.leader_changes, (int)m.ejections, (int)m.watch_resumes, (int)m.lease_keepalives);
    CHECK(m.leases_now == 1 && m.watches_now == 1);
    trivet_lease_drop(c, lease);
    trivet_watch_close(w);
}

/* --- how fast --- */

static _Atomic uint64_t bench_done, bench_failed;
static uint64_t bench_end_ms;

static void bench_put(void);

static void on_bench(const struct trivet_result *r, void *arg)
{
    (void)arg;
    if (r->status == TRIVET_OK)
        bench_done++;
    else
        bench_failed++;
    keys_open--;
    if ((bench_done & 63) != 0 || now_ms() < bench_end_ms)
        bench_put();
}

static void bench_put(void)
{
    static _Atomic uint64_t number;
    static const char value[256];
    char key[32];
    struct trivet_request q = {.method = TRIVET_PUT};
    q.u.put.key =
        trivet_bytes(key, (size_t)snprintf(key, sizeof(key), "b/%08d", (int)(number++ % 100000)));
    q.u.put.value = trivet_bytes(value, sizeof(value));
    keys_open++;
    if (trivet_start(client, &q, NULL, on_bench, NULL) != 0)
        keys_open--;
}

void scene_bench(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    enum { WINDOW = 256 };
    struct timespec cpu;
    client = c;
    bench_end_ms = now_ms() + (uint64_t)seconds * 1000;
    uint64_t begin = now_ms();
    for (int i = 0; i < WINDOW; i++)
        bench_put();
    while (keys_open > 0)
        sleep_ms(10);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    double cpu_s = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
    printf("puts %llu failed %llu in %.1f s, cpu %.2f s: %.0f puts per cpu second\n",
           (unsigned long long)bench_done, (unsigned long long)bench_failed,
           (double)(now_ms() - begin) / 1000, cpu_s, (double)bench_done / cpu_s);
    CHECK(bench_failed == 0);
}
