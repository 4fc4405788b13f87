/* Where malloc() fails and connections break: every call ends once and in time, tells the truth
 * about what was written, and afterwards all is as before.
 *
 * one-failure: each allocation of each sort of call fails in its turn, one call at a time.
 * memory: very many calls at once while failures come and go; with network=N through a bad network
 * (bad_network.h). */
#include "libtrivet_scenes.h"

#include "bad_network.h"
#include "failing_malloc.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CALL_MS = 1500, SLACK_MS = 2500, SLOW_WATCH_MS = 5000 };

static bool may_have_failed(int status)
{
    return status == TRIVET_OK || status == TRIVET_NO_MEMORY || status == TRIVET_UNKNOWN ||
           status == TRIVET_UNAVAILABLE || status == TRIVET_DEADLINE;
}

static void wait_until_well(struct trivet_client *c)
{
    for (int i = 0; i < 200; i++) {
        struct trivet_result r;
        int rv = trivet_put(c, trivet_str("well"), trivet_str("1"), &r);
        trivet_result_clear(&r);
        if (rv == TRIVET_OK)
            return;
        sleep_ms(20);
    }
    CHECK(!"the client works again");
}

/* --- one failure --- */

static struct trivet_client *one_client;
static const struct trivet_options *one_options;
static int one_number;
static int64_t one_revision; /* when the scene began */

static int try_call(struct trivet_request *q)
{
    struct trivet_result r;
    struct trivet_call_options o = {.timeout_ms = CALL_MS};
    int rv = trivet_call(one_client, q, &o, &r);
    CHECK(rv == r.status && r.error != NULL);
    trivet_result_clear(&r);
    return rv;
}

static int try_put(void)
{
    static char value[40000];
    struct trivet_request q = {.method = TRIVET_PUT};
    snprintf(value, sizeof(value), "%d", one_number);
    q.u.put.key = trivet_str("one/put");
    q.u.put.value = trivet_bytes(value, one_number % 2 ? sizeof(value) : 20);
    int rv = try_call(&q);
    struct trivet_result r;
    (void)failing_malloc_off();
    if (rv != TRIVET_UNKNOWN) {
        wait_until_well(one_client);
        CHECK_CALL(trivet_get(one_client, trivet_str("one/put"), &r), r);
        bool there = r.u.range.kvs_count == 1 && atoi(r.u.range.kvs[0].value.data) == one_number;
        CHECK(there == (rv == TRIVET_OK));
        trivet_result_clear(&r);
    }
    return rv;
}

static int try_get(void)
{
    struct trivet_request q = {.method = TRIVET_RANGE};
    q.u.range.key = trivet_str("m");
    q.u.range.range_end = trivet_str("n");
    return try_call(&q);
}

static int try_range_stream(void)
{
    struct trivet_request q = {.method = TRIVET_RANGE_STREAM};
    q.u.range.key = trivet_str("m");
    q.u.range.range_end = trivet_str("n");
    return try_call(&q);
}

static int try_txn(void)
{
    struct trivet_compare is_new = {
        .target = TRIVET_COMPARE_VALUE, .key = trivet_str("one/txn"), .value = trivet_str("x")};
    struct trivet_request ops[2] = {{.method = TRIVET_PUT}, {.method = TRIVET_RANGE}};
    ops[0].u.put.key = trivet_str("one/txn");
    ops[1].u.range.key = trivet_str("m");
    ops[1].u.range.range_end = trivet_str("n");
    struct trivet_request q = {.method = TRIVET_TXN};
    q.u.txn.compares = &is_new;
    q.u.txn.compares_count = 1;
    q.u.txn.success = q.u.txn.failure = ops;
    q.u.txn.success_count = q.u.txn.failure_count = 2;
    return try_call(&q);
}

static int try_refused(void)
{
    struct trivet_request q = {.method = TRIVET_PUT};
    int rv = try_call(&q);
    return rv == TRIVET_REFUSED ? TRIVET_OK : rv;
}

static int try_members(void)
{
    struct trivet_request q = {.method = TRIVET_MEMBER_LIST};
    return try_call(&q);
}

static int try_batch(void)
{
    enum { COUNT = 20 };
    struct trivet_request q[COUNT];
    struct trivet_result r[COUNT];
    struct trivet_call_options o = {.timeout_ms = CALL_MS};
    memset(q, 0, sizeof(q));
    for (int i = 0; i < COUNT; i++) {
        q[i].method = i % 2 ? TRIVET_PUT : TRIVET_RANGE;
        q[i].u.put.key = trivet_str("one/batch");
    }
    (void)trivet_batch(one_client, q, COUNT, &o, r);
    for (int i = 0; i < COUNT; i++) {
        CHECK(may_have_failed(r[i].status));
        trivet_result_clear(&r[i]);
    }
    return TRIVET_OK;
}

static void count_end(const struct trivet_result *r, void *arg)
{
    _Atomic int *ends = arg;
    if (!r->part)
        atomic_fetch_add(ends, 1);
}

static int try_context(void)
{
    static _Atomic int ends;
    struct trivet_context *x = trivet_context_new(one_client);
    struct trivet_request q = {.method = TRIVET_RANGE};
    struct trivet_call_options o = {.timeout_ms = CALL_MS, .context = x};
    if (x == NULL)
        return TRIVET_NO_MEMORY;
    int before = ends;
    q.u.range.key = trivet_str("m");
    int rv = trivet_start(one_client, &q, &o, count_end, &ends);
    trivet_context_cancel(x);
    trivet_context_free(x);
    for (int i = 0; rv == 0 && i < CALL_MS + SLACK_MS && ends == before; i++)
        sleep_ms(1);
    CHECK(ends == before + (rv == 0));
    return rv;
}

static int try_lease(void)
{
    int rv = trivet_lease_keep(one_client, 12345 + one_number, 60, NULL, NULL);
    CHECK(rv == 0 || rv == TRIVET_NO_MEMORY);
    sleep_ms(5);
    trivet_lease_drop(one_client, 12345 + one_number);
    return rv;
}

/* For who has to find out why something came late, or not at all. */
static void tell_state(void)
{
    struct trivet_metrics m;
    struct trivet_endpoint_metrics e[8];
    trivet_metrics(one_client, &m);
    uint32_t count = trivet_endpoints(one_client, e, 8);
    printf("%llu resumed, %llu ejections, %llu silences\n", (unsigned long long)m.watch_resumes,
           (unsigned long long)m.ejections, (unsigned long long)m.silences);
    for (uint32_t i = 0; i < count && i < 8; i++)
        printf("%s: ready %d, ejected %d, connections %u, under way %u\n", e[i].address, e[i].ready,
               e[i].ejected, e[i].connections, e[i].in_flight);
}

/* Whatever fails meanwhile, the event comes. */
static int try_watch(void)
{
    struct trivet_watch *w;
    struct trivet_watch_message m;
    struct trivet_result r;
    char key[32];
    snprintf(key, sizeof(key), "one/w/%d", one_number);
    struct trivet_watch_options o = {.key = trivet_str(key), .start_revision = one_revision};
    uint64_t began = now_ms();
    int rv = trivet_watch_open(one_client, &o, NULL, NULL, &w);
    CHECK(rv == 0 || rv == TRIVET_NO_MEMORY);
    if (rv != 0)
        return rv;
    uint64_t opened = now_ms();
    uint32_t puts = 0;
    for (int put = -1; put != TRIVET_OK && puts < 100; puts++) {
        put = trivet_put(one_client, trivet_str(key), trivet_str("1"), &r);
        trivet_result_clear(&r);
    }
    uint64_t written = now_ms();
    uint32_t events = 0;
    while (events == 0 && now_ms() < written + 10000) {
        if (trivet_watch_next(w, 1000, &m) == TRIVET_OK)
            events += m.events_count;
        trivet_watch_message_clear(&m);
    }
    char told[128];
    uint64_t ended = now_ms();
    snprintf(told, sizeof(told),
             "%u events of %u puts, number %d; opened in %d ms, written in %d, told in %d", events,
             puts, one_number, (int)(opened - began), (int)(written - opened),
             (int)(ended - written));
    check_that(events >= 1 && events <= puts, "each event comes", __LINE__, told);
    if (events == 0 || ended - began > SLOW_WATCH_MS) {
        printf("%s\n", told);
        tell_state();
    }
    trivet_watch_close(w);
    return TRIVET_OK;
}

static int try_open(void)
{
    char why[256] = "";
    struct trivet_client *c;
    struct trivet_result r;
    int rv = trivet_open(one_options, &c, why, sizeof(why));
    CHECK((rv == 0) == (c != NULL) && (rv == 0 || rv == TRIVET_NO_MEMORY || why[0] != '\0'));
    if (c == NULL)
        return TRIVET_NO_MEMORY;
    int got = trivet_get(c, trivet_str("m"), &r);
    CHECK(may_have_failed(got));
    trivet_result_clear(&r);
    (void)failing_malloc_off();
    CHECK_CALL(trivet_get(c, trivet_str("m"), &r), r); /* no failure stays */
    trivet_result_clear(&r);
    trivet_close(c);
    return got;
}

static const struct {
    const char *name;
    int (*run)(void);
} sorts[] = {
    {"put", try_put},     {"get", try_get},         {"range stream", try_range_stream},
    {"txn", try_txn},     {"refused", try_refused}, {"members", try_members},
    {"batch", try_batch}, {"context", try_context}, {"lease", try_lease},
    {"watch", try_watch}, {"open", try_open},
};

/* Until none is left to fail, three times over: the engine allocates for itself as well. */
static int sweep(size_t sort, uint64_t together)
{
    enum { QUIET = 3, MOST = 100000 };
    int quiet = 0, n = 0, fired = 0;
    for (; quiet < QUIET && n < MOST; n += 1 + n / 100) {
        one_number++;
        uint64_t begin = now_ms();
        failing_malloc_range((uint64_t)n, together);
        int rv = sorts[sort].run();
        bool hit = failing_malloc_off() > 0;
        fired += hit;
        quiet = hit ? 0 : quiet + 1;
        check_that(may_have_failed(rv), sorts[sort].name, n, trivet_status_name(rv));
        check_that(now_ms() - begin < 12000 + CALL_MS, "in time", n, sorts[sort].name);
        if (rv != TRIVET_OK)
            wait_until_well(one_client);
    }
    CHECK(n < MOST);
    return fired;
}

void scene_one_failure(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    static char value[3000];
    struct trivet_result r;
    one_client = c;
    one_number = (int)argument("number", 0);
    one_options = o;
    wait_until_well(c);
    for (int i = 0; i < 40; i++) {
        char key[32];
        snprintf(key, sizeof(key), "m/%d", i);
        CHECK_CALL(trivet_put(c, trivet_str(key), trivet_bytes(value, sizeof(value)), &r), r);
        one_revision = r.header.revision;
        trivet_result_clear(&r);
    }
    /* From this one on, so many. */
    size_t sorts_count = sizeof(sorts) / sizeof(sorts[0]);
    size_t first = argument("sort", 0), end = first + argument("sorts", sorts_count);
    for (size_t i = first; i < sorts_count && i < end; i++) {
        int alone = sweep(i, 1), rows = sweep(i, argument("row", 5));
        printf("%s: %d allocations failed alone, %d in rows\n", sorts[i].name, alone, rows);
        CHECK(alone > 0);
    }
    struct trivet_metrics m;
    trivet_metrics(c, &m);
    CHECK(m.calls_now == 0 && m.bytes_now == 0 && m.watches_now == 0 && m.leases_now == 0);
    CHECK(m.calls_no_memory > 0 || first > 0);
    (void)seconds;
}

/* --- very many calls --- */

enum { SLOTS = 48, NUMBERS_MAX = 200000 };
enum { FATE_NONE, FATE_OK, FATE_UNKNOWN, FATE_NOT };

struct slot {
    char key[32];
    _Atomic bool open;
    _Atomic bool idle; /* its call was refused: the next one comes with the next millisecond */
    bool is_put;
    int number; /* of the last put */
    uint64_t began_ms;
    uint8_t *fates;
    uint8_t *seen;
};

static struct trivet_client *many_client;
static struct slot slots[SLOTS];
static _Atomic uint64_t calls_left, statuses[16];
static _Atomic uint64_t twice, late, slowest_ms;
static _Atomic uint64_t random_state;

static uint64_t draw(uint64_t below)
{
    uint64_t z = atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
}

static void note_end(struct slot *s, int status)
{
    uint64_t took = now_ms() - s->began_ms;
    atomic_fetch_add(&statuses[status & 15], 1);
    if (took > slowest_ms)
        slowest_ms = took;
    late += took > CALL_MS + SLACK_MS;
    if (s->is_put)
        s->fates[s->number] = status == TRIVET_OK        ? FATE_OK
                              : status == TRIVET_UNKNOWN ? FATE_UNKNOWN
                                                         : FATE_NOT;
}

static void next_call(struct slot *s);

static void on_end(const struct trivet_result *r, void *arg)
{
    struct slot *s = arg;
    if (r->part)
        return;
    if (!atomic_exchange(&s->open, false)) {
        twice++;
        return;
    }
    note_end(s, r->status);
    next_call(s);
}

static bool take_one(void)
{
    uint64_t left = atomic_load(&calls_left);
    while (left > 0)
        if (atomic_compare_exchange_weak(&calls_left, &left, left - 1))
            return true;
    return false;
}

static void fill_put(struct slot *s, struct trivet_request *q, char *value, size_t size)
{
    s->is_put = true;
    s->number++;
    q->method = TRIVET_PUT;
    q->u.put.key = trivet_str(s->key);
    size_t used = (size_t)snprintf(value, size, "%d", s->number) + 1;
    q->u.put.value = trivet_bytes(value, draw(10) == 0 ? size : used);
}

/* One that begins, if there is one left. */
static void next_call(struct slot *s)
{
    static _Thread_local char value[30000];
    struct trivet_call_options o = {.timeout_ms = CALL_MS};
    if (take_one()) {
        struct trivet_request q = {.method = TRIVET_RANGE};
        uint64_t kind = draw(100);
        s->is_put = false;
        q.u.range.key = trivet_str("m");
        if (kind < 45 && s->number + 1 < NUMBERS_MAX) {
            fill_put(s, &q, value, sizeof(value));
        } else if (kind < 55) {
            q.u.range.range_end = trivet_str("n");
            q.u.range.limit = 10;
            q.u.range.serializable = kind % 2;
        } else if (kind < 58) {
            q.u.range.range_end = trivet_str("n");
            q.method = TRIVET_RANGE_STREAM;
        } else if (kind < 60) {
            memset(&q.u, 0, sizeof(q.u));
            q.method = TRIVET_MEMBER_LIST;
        }
        s->began_ms = now_ms();
        s->open = true;
        int rv = trivet_start(many_client, &q, &o, on_end, s);
        if (rv == 0)
            return;
        s->open = false;
        note_end(s, rv);
        s->idle = true;
    }
}

static void wake_idle(void)
{
    for (int i = 0; i < SLOTS; i++)
        if (atomic_exchange(&slots[i].idle, false))
            next_call(&slots[i]);
}

static _Atomic int many_stop;
static _Atomic uint64_t waited_calls, wrong_events;

/* The waiting forms, beside. */
static void *run_waiting(void *arg)
{
    static const struct trivet_call_options o = {.timeout_ms = CALL_MS};
    (void)arg;
    while (!many_stop) {
        struct trivet_request q[5];
        struct trivet_result r[5];
        memset(q, 0, sizeof(q));
        for (int i = 0; i < 5; i++) {
            q[i].method = i == 4 ? TRIVET_RANGE_STREAM : TRIVET_RANGE;
            q[i].u.range.key = trivet_str("m/");
            q[i].u.range.range_end = trivet_str("m0");
        }
        uint64_t begin = now_ms();
        (void)trivet_batch(many_client, q, 5, &o, r);
        late += now_ms() - begin > CALL_MS + SLACK_MS;
        for (int i = 0; i < 5; i++)
            trivet_result_clear(&r[i]);
        waited_calls += 5;
        sleep_ms(2);
    }
    return NULL;
}

static struct slot *slot_of(struct trivet_bytes key)
{
    for (int i = 0; i < SLOTS; i++)
        if (key.size == strlen(slots[i].key) && memcmp(key.data, slots[i].key, key.size) == 0)
            return &slots[i];
    return NULL;
}

static void *run_watch(void *arg)
{
    struct trivet_watch *w = arg;
    int64_t last = 0;
    int rv = TRIVET_OK;
    while (rv == TRIVET_OK || (rv == TRIVET_TIMEOUT && !many_stop)) {
        struct trivet_watch_message m;
        rv = trivet_watch_next(w, 300, &m);
        for (uint32_t i = 0; rv == TRIVET_OK && i < m.events_count; i++) {
            const struct trivet_kv *kv = &m.events[i].kv;
            struct slot *s = slot_of(kv->key);
            int n = s == NULL ? 0 : atoi(kv->value.data);
            wrong_events += kv->mod_revision < last || (s != NULL && n < NUMBERS_MAX && s->seen[n]);
            last = kv->mod_revision;
            if (s != NULL && n > 0 && n < NUMBERS_MAX)
                s->seen[n]++;
        }
        trivet_watch_message_clear(&m);
    }
    CHECK(rv == TRIVET_TIMEOUT);
    return NULL;
}

/* Failures come and go until all calls are begun. */
static void weather(void)
{
    static const struct {
        unsigned one_in, ms;
    } days[] = {{0, 60}, {1000, 150}, {100, 150}, {0, 20}, {20, 60}, {3, 20}, {1, 8}};
    for (size_t day = 0; calls_left > 0; day++) {
        size_t i = day % (sizeof(days) / sizeof(days[0]));
        if (days[i].one_in != 0)
            failing_malloc_rate(days[i].one_in, draw(UINT64_MAX));
        uint64_t end = now_ms() + days[i].ms;
        while (now_ms() < end && calls_left > 0) {
            wake_idle();
            sleep_ms(1);
        }
        (void)failing_malloc_off();
    }
}

static void check_fates(bool garbled)
{
    uint64_t counts[4] = {0}, lost = 0, false_not = 0;
    for (int i = 0; i < SLOTS; i++) {
        for (int n = 1; n <= slots[i].number; n++) {
            uint8_t fate = slots[i].fates[n];
            counts[fate]++;
            lost += fate == FATE_OK && !slots[i].seen[n];
            false_not += fate == FATE_NOT && slots[i].seen[n];
        }
    }
    printf("puts: %d ok, %d unknown, %d not\n", (int)counts[FATE_OK], (int)counts[FATE_UNKNOWN],
           (int)counts[FATE_NOT]);
    CHECK(counts[FATE_NONE] == 0 && counts[FATE_OK] > 100);
    if (garbled)
        return; /* what was told may have been altered on the way */
    CHECK(lost == 0);
    CHECK(false_not == 0);
    CHECK(wrong_events == 0);
}

/* The client of this scene goes through the bad network, where there is one. */
static struct trivet_client *open_many(const struct trivet_options *o, unsigned network)
{
    static char texts[8][64];
    static const char *list[8];
    struct trivet_options mine = *o;
    for (uint32_t i = 0; network != 0 && i < o->endpoints_count && i < 8; i++) {
        int port = bad_network_open(o->endpoints[i], network, argument("seed", 1) + i);
        snprintf(texts[i], sizeof(texts[i]), "127.0.0.1:%d", port);
        list[i] = texts[i];
    }
    if (network != 0)
        mine.endpoints = list;
    return open_or_die(&mine);
}

static void begin_slots(void)
{
    for (int i = 0; i < SLOTS; i++) {
        snprintf(slots[i].key, sizeof(slots[i].key), "m/%d", i);
        slots[i].fates = calloc(2, NUMBERS_MAX);
        slots[i].seen = slots[i].fates + NUMBERS_MAX;
    }
}

static bool all_ended(void)
{
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].open)
            return false;
    return true;
}

static size_t in_use(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void print_figures(struct trivet_client *c, uint64_t total)
{
    struct trivet_metrics m;
    trivet_metrics(c, &m);
    CHECK(m.calls_now == 0 && m.bytes_now == 0);
    printf(
        "calls %llu, and %d waited for; slowest %d ms; connections ended %d; resumed watches %d\n",
        (unsigned long long)total, (int)waited_calls, (int)slowest_ms, (int)bad_network_cuts(),
        (int)m.watch_resumes);
    for (int i = 0; i < 16; i++)
        if (statuses[i] > 0)
            printf("%s %llu\n", trivet_status_name(i), (unsigned long long)statuses[i]);
}

static void many_calls(struct trivet_client *c, unsigned network)
{
    struct trivet_watch_options wo = {.key = trivet_str("m/"), .range_end = trivet_str("m0")};
    struct trivet_watch *w;
    pthread_t waiting, watching;
    many_client = c;
    bad_network_rest(1);
    wait_until_well(c);
    CHECK(trivet_watch_open(c, &wo, NULL, NULL, &w) == 0);
    struct trivet_watch_message m;
    CHECK(trivet_watch_next(w, 5000, &m) == TRIVET_OK && m.created);
    trivet_watch_message_clear(&m);
    (void)pthread_create(&watching, NULL, run_watch, w);
    (void)pthread_create(&waiting, NULL, run_waiting, NULL);
    bad_network_rest(0);
    for (int i = 0; i < SLOTS; i++)
        next_call(&slots[i]);
    weather();
    for (int i = 0; i < (CALL_MS + SLACK_MS) / 10 && !all_ended(); i++)
        sleep_ms(10);
    CHECK(all_ended());
    bad_network_rest(1);
    wait_until_well(c);
    sleep_ms(1500); /* what was begun may still arrive */
    many_stop = 1;
    (void)pthread_join(waiting, NULL);
    (void)pthread_join(watching, NULL);
    CHECK(twice == 0);
    CHECK(late == 0);
    CHECK((statuses[TRIVET_NO_MEMORY] > 0) && statuses[TRIVET_OK] > 0);
    CHECK(network == 0 || bad_network_cuts() > 10);
    check_fates((network & NETWORK_GARBLES) != 0);
    trivet_watch_close(w);
}

void scene_memory(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    unsigned network = (unsigned)argument("network", 0);
    uint64_t total = argument("calls", 20000);
    (void)seconds;
    random_state = argument("seed", 1);
    calls_left = total;
    begin_slots();
    wait_until_well(c);
    size_t before = in_use();
    struct trivet_client *many = open_many(o, network);
    many_calls(many, network);
    print_figures(many, total);
    trivet_close(many);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    size_t after = in_use();
    printf("in use before %zu, after %zu\n", before, after);
    CHECK(after < before + (256 << 10));
#else
    (void)before;
#endif
    for (int i = 0; i < SLOTS; i++)
        free(slots[i].fates);
}
