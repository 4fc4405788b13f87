/* What tests/clients/libtrivet.py has libtrivet do: one scene for each run. The last line is
 * "N passed, N failed". */
#include "trivet.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int passed, failed;

static void check_that(int holds, const char *what, int line, const char *more)
{
    if (holds) {
        passed++;
        return;
    }
    failed++;
    printf("line %d: %s does not hold (%s)\n", line, what, more);
    fflush(stdout);
}
#define CHECK(x) check_that(!!(x), #x, __LINE__, "")
#define CHECK_CALL(status, r)                                                \
    do {                                                                     \
        int check_status = (status);                                         \
        check_that(check_status == TRIVET_OK, #status, __LINE__, (r).error); \
    } while (0)

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void sleep_ms(unsigned ms)
{
    usleep(ms * 1000);
}

/* --- options from the command line: endpoints, then name=value --- */

static char *endpoint_list[64];

static void read_options(int argc, char **argv, struct trivet_options *o)
{
    trivet_options_init(o);
    char *rest = argv[2], *one;
    while ((one = strsep(&rest, ",")) != NULL && *one != '\0')
        endpoint_list[o->endpoints_count++] = one;
    o->endpoints = (const char *const *)endpoint_list;
    for (int i = 3; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value == NULL)
            continue;
        size_t size = (size_t)(value++ - argv[i]);
#define TEXT(name) \
    else if (size == strlen(#name) && memcmp(argv[i], #name, size) == 0) o->name = value
#define NUMBER(name, type)                                                         \
    else if (size == strlen(#name) && memcmp(argv[i], #name, size) == 0) o->name = \
        (type)strtoull(value, NULL, 0)
        if (size == 0)
            continue;
        TEXT(ca_file);
        TEXT(cert_file);
        TEXT(key_file);
        TEXT(user);
        TEXT(password);
        TEXT(zone);
        TEXT(endpoints_file);
        NUMBER(timeout_ms, uint64_t);
        NUMBER(hedge, bool);
        NUMBER(own_loop, bool);
        NUMBER(read_attempt_ms, uint64_t);
        NUMBER(endpoints_interval_ms, uint64_t);
        NUMBER(members_refresh, bool);
        NUMBER(connections_max, uint32_t);
        NUMBER(watch_bytes_max, uint64_t);
        NUMBER(subset, uint32_t);
    }
}

static struct trivet_client *open_or_die(const struct trivet_options *o)
{
    char why[256];
    struct trivet_client *c;
    if (trivet_open(o, &c, why, sizeof(why)) != TRIVET_OK) {
        printf("cannot open: %s\n0 passed, 1 failed\n", why);
        exit(1);
    }
    return c;
}

/* --- every call --- */

static int ask(struct trivet_client *c, struct trivet_request *q, struct trivet_result *r)
{
    int rv = trivet_call(c, q, NULL, r);
    memset(q, 0, sizeof(*q));
    return rv;
}

static void kv_calls(struct trivet_client *c)
{
    struct trivet_result r;
    struct trivet_request q = {0};
    CHECK_CALL(trivet_put(c, trivet_str("k/a"), trivet_str("1"), &r), r);
    int64_t first = r.header.revision;
    CHECK(r.attempts >= 1 && r.header.member_id != 0 && r.header.raft_term > 0);
    trivet_result_clear(&r);
    CHECK_CALL(trivet_put(c, trivet_str("k/b"), trivet_str("2"), &r), r);
    trivet_result_clear(&r);
    q.method = TRIVET_PUT;
    q.u.put.key = trivet_str("k/a");
    q.u.put.value = trivet_str("3");
    q.u.put.prev_kv = true;
    CHECK_CALL(ask(c, &q, &r), r);
    CHECK(r.u.put.prev_kv.value.size == 1 && *(const char *)r.u.put.prev_kv.value.data == '1');
    trivet_result_clear(&r);
    CHECK_CALL(trivet_get(c, trivet_str("k/a"), &r), r);
    CHECK(r.u.range.kvs_count == 1 && r.u.range.count == 1 && r.u.range.kvs[0].version == 2 &&
          r.u.range.kvs[0].create_revision == first);
    trivet_result_clear(&r);
    char end[8];
    for (int stream = 0; stream < 2; stream++) {
        q.method = stream ? TRIVET_RANGE_STREAM : TRIVET_RANGE;
        q.u.range.key = trivet_str("k/");
        q.u.range.range_end = trivet_bytes(end, trivet_prefix_end(trivet_str("k/"), end));
        CHECK_CALL(ask(c, &q, &r), r);
        CHECK(r.u.range.kvs_count == 2 && r.u.range.count == 2 &&
              memcmp(r.u.range.kvs[1].key.data, "k/b", 3) == 0);
        trivet_result_clear(&r);
    }
    struct trivet_compare is_3 = {
        .target = TRIVET_COMPARE_VALUE, .key = trivet_str("k/a"), .value = trivet_str("3")};
    struct trivet_compare is_new = {.target = TRIVET_COMPARE_CREATE, .key = trivet_str("k/new")};
    struct trivet_request ops[4] = {{.method = TRIVET_PUT},
                                    {.method = TRIVET_RANGE},
                                    {.method = TRIVET_DELETE},
                                    {.method = TRIVET_TXN}};
    struct trivet_request inner = {.method = TRIVET_RANGE};
    ops[0].u.put.key = trivet_str("k/new");
    ops[0].u.put.value = trivet_str("x");
    ops[1].u.range.key = trivet_str("k/a");
    ops[2].u.del.key = trivet_str("k/b");
    ops[2].u.del.prev_kv = true;
    inner.u.range.key = trivet_str("k/new");
    ops[3].u.txn.failure = ops[3].u.txn.success = &inner;
    ops[3].u.txn.failure_count = ops[3].u.txn.success_count = 1;
    struct trivet_compare compares[] = {is_3, is_new};
    q.method = TRIVET_TXN;
    q.u.txn.compares = compares;
    q.u.txn.compares_count = 2;
    q.u.txn.success = ops;
    q.u.txn.success_count = 4;
    CHECK_CALL(ask(c, &q, &r), r);
    CHECK(r.u.txn.succeeded && r.u.txn.responses_count == 4);
    if (r.u.txn.responses_count == 4) {
        const struct trivet_result *in = r.u.txn.responses;
        CHECK(in[0].method == TRIVET_PUT && in[1].method == TRIVET_RANGE &&
              in[1].u.range.kvs_count == 1);
        CHECK(in[2].method == TRIVET_DELETE && in[2].u.del.deleted == 1 &&
              in[2].u.del.prev_kvs_count == 1);
        CHECK(in[3].method == TRIVET_TXN && in[3].u.txn.responses_count == 1 &&
              in[3].u.txn.responses[0].u.range.kvs_count == 1);
    }
    int64_t now = r.header.revision;
    trivet_result_clear(&r);
    q.method = TRIVET_COMPACT;
    q.u.compact.revision = now;
    CHECK_CALL(ask(c, &q, &r), r);
    trivet_result_clear(&r);
    q.method = TRIVET_RANGE;
    q.u.range.key = trivet_str("k/a");
    q.u.range.revision = first;
    CHECK(ask(c, &q, &r) == TRIVET_REFUSED && r.code == 11 &&
          strcmp(r.error, "etcdserver: mvcc: required revision has been compacted") == 0);
    trivet_result_clear(&r);
    CHECK(trivet_put(c, trivet_str(""), trivet_str(""), &r) == TRIVET_REFUSED &&
          strcmp(r.error, "etcdserver: key is not provided") == 0);
    trivet_result_clear(&r);
    CHECK_CALL(trivet_delete(c, trivet_str("k/new"), &r), r);
    CHECK(r.u.del.deleted == 1);
    trivet_result_clear(&r);
}

static void lease_calls(struct trivet_client *c)
{
    struct trivet_result r;
    struct trivet_request q = {.method = TRIVET_LEASE_GRANT};
    q.u.lease.ttl = 60;
    CHECK_CALL(ask(c, &q, &r), r);
    int64_t id = r.u.lease.id;
    CHECK(id != 0 && r.u.lease.ttl == 60);
    trivet_result_clear(&r);
    q.method = TRIVET_PUT;
    q.u.put.key = trivet_str("leased");
    q.u.put.lease = id;
    CHECK_CALL(ask(c, &q, &r), r);
    trivet_result_clear(&r);
    q.method = TRIVET_LEASE_KEEPALIVE;
    q.u.lease.id = id;
    CHECK_CALL(ask(c, &q, &r), r);
    CHECK(r.u.lease.id == id && r.u.lease.ttl == 60);
    trivet_result_clear(&r);
    q.method = TRIVET_LEASE_TTL;
    q.u.lease.id = id;
    q.u.lease.keys = true;
    CHECK_CALL(ask(c, &q, &r), r);
    CHECK(r.u.lease.granted_ttl == 60 && r.u.lease.keys_count == 1 && r.u.lease.ttl > 50);
    trivet_result_clear(&r);
    q.method = TRIVET_LEASE_LIST;
    CHECK_CALL(ask(c, &q, &r), r);
    CHECK(r.u.lease.ids_count == 1 && r.u.lease.ids[0] == id);
    trivet_result_clear(&r);
    q.method = TRIVET_LEASE_REVOKE;
    q.u.lease.id = id;
    CHECK_CALL(ask(c, &q, &r), r);
    trivet_result_clear(&r);
    q.method = TRIVET_LEASE_REVOKE;
    q.u.lease.id = id;
    CHECK(ask(c, &q, &r) == TRIVET_REFUSED && r.code == 5);
    trivet_result_clear(&r);
}

static void part_of_snapshot(const struct trivet_result *r, void *arg)
{
    _Atomic uint64_t *sum = arg;
    if (r->part)
        atomic_fetch_add(sum, r->u.maintenance.blob.size);
    else
        atomic_fetch_add(sum, r->status == TRIVET_OK ? UINT64_C(1) << 40 : UINT64_C(1) << 41);
}

static void cluster_calls(struct trivet_client *c, const char *endpoint, uint32_t members)
{
    struct trivet_result r;
    struct trivet_request q = {.method = TRIVET_MEMBER_LIST};
    q.u.member.linearizable = true;
    CHECK_CALL(ask(c, &q, &r), r);
    CHECK(r.u.member.members_count == members && r.u.member.members[0].id != 0 &&
          r.u.member.members[0].client_urls_count == 1);
    trivet_result_clear(&r);
    struct trivet_bytes url = trivet_str("http://127.0.0.1:1");
    q.method = TRIVET_MEMBER_ADD;
    q.u.member.peer_urls = &url;
    q.u.member.peer_urls_count = 1;
    q.u.member.is_learner = true;
    /* A cluster that has just begun refuses until its members have known each other for a while. */
    struct trivet_request add = q;
    for (int i = 0; trivet_call(c, &add, NULL, &r) == TRIVET_REFUSED && i < 100; i++) {
        trivet_result_clear(&r);
        sleep_ms(100);
    }
    memset(&q, 0, sizeof(q));
    CHECK_CALL(r.status, r);
    uint64_t id = r.u.member.member.id;
    CHECK(r.u.member.members_count == members + 1 && r.u.member.member.is_learner);
    trivet_result_clear(&r);
    url = trivet_str("http://127.0.0.1:2");
    q.method = TRIVET_MEMBER_UPDATE;
    q.u.member.id = id;
    q.u.member.peer_urls = &url;
    q.u.member.peer_urls_count = 1;
    CHECK_CALL(ask(c, &q, &r), r);
    trivet_result_clear(&r);
    q.method = TRIVET_MEMBER_PROMOTE;
    q.u.member.id = id;
    CHECK(ask(c, &q, &r) == TRIVET_REFUSED);
    trivet_result_clear(&r);
    q.method = TRIVET_MEMBER_REMOVE;
    q.u.member.id = id;
    CHECK_CALL(ask(c, &q, &r), r);
    CHECK(r.u.member.members_count == members);
    trivet_result_clear(&r);
    struct trivet_call_options here = {.endpoint = endpoint};
    static const int methods[] = {TRIVET_STATUS, TRIVET_HASH, TRIVET_HASH_KV, TRIVET_DEFRAGMENT};
    uint64_t leader = 0;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        q.method = methods[i];
        CHECK_CALL(trivet_call(c, &q, &here, &r), r);
        if (methods[i] == TRIVET_STATUS) {
            leader = r.u.status.leader;
            CHECK(leader != 0 && r.u.status.db_size > 0 && r.u.status.version.size > 0);
        }
        trivet_result_clear(&r);
    }
    q.method = TRIVET_ALARM;
    CHECK_CALL(ask(c, &q, &r), r);
    CHECK(r.u.alarm.alarms_count == 0);
    trivet_result_clear(&r);
    q.method = TRIVET_DOWNGRADE;
    q.u.maintenance.version = trivet_str("3.6.0");
    CHECK_CALL(ask(c, &q, &r), r);
    trivet_result_clear(&r);
    q.method = TRIVET_MOVE_LEADER;
    q.u.maintenance.target_id = leader;
    CHECK_CALL(ask(c, &q, &r), r);
    trivet_result_clear(&r);
    _Atomic uint64_t sum = 0;
    q.method = TRIVET_SNAPSHOT;
    CHECK(trivet_start(c, &q, &here, part_of_snapshot, &sum) == 0);
    for (int i = 0; i < 1000 && sum < UINT64_C(1) << 40; i++)
        sleep_ms(10);
    CHECK(sum >> 40 == 1 && (sum & 0xffffffff) > 100);
    here.endpoint = "nowhere:1";
    q.method = TRIVET_STATUS;
    CHECK(trivet_call(c, &q, &here, &r) == TRIVET_INVALID);
    trivet_result_clear(&r);
}

static void count_parts(const struct trivet_result *r, void *arg)
{
    _Atomic int *n = arg;
    if (r->part)
        atomic_fetch_add(n, 1);
    else if (r->status == TRIVET_CANCELED)
        atomic_fetch_add(n, 1000);
}

static void contest_calls(struct trivet_client *c)
{
    struct trivet_result r, s;
    struct trivet_request q = {.method = TRIVET_LEASE_GRANT};
    q.u.lease.ttl = 60;
    CHECK_CALL(ask(c, &q, &r), r);
    int64_t lease = r.u.lease.id;
    trivet_result_clear(&r);
    q.method = TRIVET_LOCK;
    q.u.contest.name = trivet_str("mutex");
    q.u.contest.lease = lease;
    CHECK_CALL(ask(c, &q, &r), r);
    CHECK(r.u.contest.key.size > strlen("mutex/"));
    q.method = TRIVET_UNLOCK;
    q.u.contest.key = r.u.contest.key;
    CHECK_CALL(ask(c, &q, &s), s);
    trivet_result_clear(&s);
    trivet_result_clear(&r);
    q.method = TRIVET_CAMPAIGN;
    q.u.contest.name = trivet_str("office");
    q.u.contest.lease = lease;
    q.u.contest.value = trivet_str("me");
    CHECK_CALL(ask(c, &q, &r), r);
    _Atomic int parts = 0;
    struct trivet_context *x = trivet_context_new(c);
    struct trivet_call_options with = {.context = x};
    q.method = TRIVET_OBSERVE;
    q.u.contest.name = trivet_str("office");
    CHECK(trivet_start(c, &q, &with, count_parts, &parts) == 0);
    for (int i = 0; i < 500 && parts == 0; i++)
        sleep_ms(10);
    memset(&q, 0, sizeof(q));
    q.method = TRIVET_PROCLAIM;
    q.u.contest.leader = r.u.contest.leader;
    q.u.contest.value = trivet_str("still me");
    CHECK_CALL(ask(c, &q, &s), s);
    trivet_result_clear(&s);
    q.method = TRIVET_LEADER;
    q.u.contest.name = trivet_str("office");
    CHECK_CALL(ask(c, &q, &s), s);
    CHECK(s.u.contest.kv.value.size == strlen("still me"));
    trivet_result_clear(&s);
    for (int i = 0; i < 500 && parts < 2; i++)
        sleep_ms(10);
    trivet_context_cancel(x);
    trivet_context_free(x);
    for (int i = 0; i < 500 && parts < 1000; i++)
        sleep_ms(10);
    CHECK(parts == 1002);
    q.method = TRIVET_RESIGN;
    q.u.contest.leader = r.u.contest.leader;
    CHECK_CALL(ask(c, &q, &s), s);
    trivet_result_clear(&s);
    trivet_result_clear(&r);
}

static int auth_call(struct trivet_client *c, int method, const char *user, const char *password,
                     const char *role, struct trivet_result *r)
{
    struct trivet_request q = {.method = method};
    q.u.auth.user = trivet_str(user);
    q.u.auth.password = trivet_str(password);
    q.u.auth.role = trivet_str(role);
    q.u.auth.permission = TRIVET_PERMISSION_READWRITE;
    if (method == TRIVET_ROLE_GRANT || method == TRIVET_ROLE_REVOKE)
        q.u.auth.key = trivet_str("a");
    return trivet_call(c, &q, NULL, r);
}

static void auth_calls(struct trivet_client *c)
{
    struct trivet_result r;
    static const int ok[] = {
        TRIVET_USER_ADD,        TRIVET_ROLE_ADD,    TRIVET_ROLE_GRANT,
        TRIVET_USER_GRANT_ROLE, TRIVET_USER_GET,    TRIVET_ROLE_GET,
        TRIVET_USER_LIST,       TRIVET_ROLE_LIST,   TRIVET_USER_CHANGE_PASSWORD,
        TRIVET_AUTH_STATUS,     TRIVET_ROLE_REVOKE, TRIVET_USER_REVOKE_ROLE,
        TRIVET_USER_DELETE,     TRIVET_ROLE_DELETE};
    for (size_t i = 0; i < sizeof(ok) / sizeof(ok[0]); i++) {
        CHECK_CALL(auth_call(c, ok[i], "u", "p", "r", &r), r);
        switch (ok[i]) {
        case TRIVET_USER_GET:
        case TRIVET_USER_LIST:
        case TRIVET_ROLE_LIST:
            CHECK(r.u.auth.names_count == 1 && r.u.auth.names[0].size == 1);
            break;
        case TRIVET_ROLE_GET:
            CHECK(r.u.auth.permissions_count == 1 &&
                  r.u.auth.permissions[0].type == TRIVET_PERMISSION_READWRITE);
            break;
        case TRIVET_AUTH_STATUS:
            CHECK(!r.u.auth.enabled && r.u.auth.revision > 0);
            break;
        }
        trivet_result_clear(&r);
    }
    CHECK(auth_call(c, TRIVET_AUTH_ENABLE, "", "", "", &r) == TRIVET_REFUSED);
    trivet_result_clear(&r);
    CHECK(auth_call(c, TRIVET_AUTH_DISABLE, "", "", "", &r) == TRIVET_OK);
    trivet_result_clear(&r);
    CHECK(auth_call(c, TRIVET_AUTHENTICATE, "u", "p", "", &r) == TRIVET_REFUSED);
    trivet_result_clear(&r);
}

static void count_ok(const struct trivet_result *r, void *arg)
{
    _Atomic int *n = arg;
    atomic_fetch_add(n, r->status == TRIVET_OK ? 1 : 100000);
}

static void forms(struct trivet_client *c)
{
    enum { MANY = 300 };
    static struct trivet_request q[MANY];
    static struct trivet_result r[MANY];
    static char keys[MANY][16];
    _Atomic int n = 0;
    for (int i = 0; i < MANY; i++) {
        snprintf(keys[i], sizeof(keys[i]), "m/%d", i);
        q[i].method = TRIVET_PUT;
        q[i].u.put.key = trivet_str(keys[i]);
        q[i].u.put.value = trivet_str("v");
    }
    CHECK(trivet_batch(c, q, MANY, NULL, r) == 0);
    for (int i = 0; i < MANY; i++)
        trivet_result_clear(&r[i]);
    for (int i = 0; i < MANY; i++)
        CHECK(trivet_start(c, &q[i], NULL, count_ok, &n) == 0);
    for (int i = 0; i < 500 && n < MANY; i++)
        sleep_ms(10);
    CHECK(n == MANY);
    q[0].method = TRIVET_SNAPSHOT;
    CHECK(trivet_call(c, &q[0], NULL, &r[0]) == TRIVET_INVALID);
    trivet_result_clear(&r[0]);
    q[0].method = 999;
    CHECK(trivet_start(c, &q[0], NULL, count_ok, &n) == TRIVET_INVALID);
    struct trivet_context *x = trivet_context_new(c);
    struct trivet_call_options with = {.context = x};
    trivet_context_cancel(x);
    CHECK(trivet_call(c, &q[1], &with, &r[0]) == TRIVET_CANCELED);
    trivet_result_clear(&r[0]);
    trivet_context_free(x);
}

static void watch_calls(struct trivet_client *c)
{
    struct trivet_watch *w;
    struct trivet_watch_message m;
    struct trivet_result r;
    struct trivet_watch_options o = {.key = trivet_str("w"), .prev_kv = true};
    CHECK(trivet_watch_open(c, &o, NULL, NULL, &w) == 0);
    CHECK(trivet_watch_next(w, 5000, &m) == TRIVET_OK && m.created);
    trivet_watch_message_clear(&m);
    CHECK(trivet_watch_next(w, 50, &m) == TRIVET_TIMEOUT);
    CHECK_CALL(trivet_put(c, trivet_str("w"), trivet_str("1"), &r), r);
    int64_t first = r.header.revision;
    trivet_result_clear(&r);
    CHECK_CALL(trivet_delete(c, trivet_str("w"), &r), r);
    trivet_result_clear(&r);
    uint32_t events = 0;
    while (events < 2 && trivet_watch_next(w, 5000, &m) == TRIVET_OK) {
        for (uint32_t i = 0; i < m.events_count; i++, events++)
            CHECK(m.events[i].type == (int)events &&
                  m.events[i].kv.mod_revision == first + events &&
                  (events == 0 || m.events[i].prev_kv.value.size == 1));
        trivet_watch_message_clear(&m);
    }
    CHECK(events == 2);
    trivet_watch_close(w);
    struct trivet_request q = {.method = TRIVET_COMPACT};
    q.u.compact.revision = first + 1;
    CHECK_CALL(ask(c, &q, &r), r);
    trivet_result_clear(&r);
    o.start_revision = 1;
    CHECK(trivet_watch_open(c, &o, NULL, NULL, &w) == 0);
    int rv;
    while ((rv = trivet_watch_next(w, 5000, &m)) == TRIVET_OK)
        trivet_watch_message_clear(&m);
    CHECK(rv == TRIVET_COMPACTED && m.compact_revision == first + 1);
    trivet_watch_message_clear(&m);
    trivet_watch_close(w);
}

static void scene_calls(struct trivet_client *c, const struct trivet_options *o)
{
    auth_calls(c);
    kv_calls(c);
    lease_calls(c);
    contest_calls(c);
    forms(c);
    watch_calls(c);
    cluster_calls(c, o->endpoints[0], o->endpoints_count);
}

/* --- the caller's own loop: poll on the fd --- */

static void scene_loop(struct trivet_client *c)
{
    enum { COUNT = 100 };
    _Atomic int n = 0;
    struct trivet_request q = {.method = TRIVET_PUT};
    struct trivet_result r;
    q.u.put.key = trivet_str("loop");
    for (int i = 0; i < COUNT; i++)
        CHECK(trivet_start(c, &q, NULL, count_ok, &n) == 0);
    uint64_t end = now_ms() + 10000;
    while (n < COUNT && now_ms() < end) {
        struct pollfd p = {.fd = trivet_fd(c), .events = POLLIN};
        poll(&p, 1, trivet_timeout_ms(c));
        trivet_process(c);
    }
    CHECK(n == COUNT);
    CHECK_CALL(trivet_get(c, trivet_str("loop"), &r), r);
    CHECK(r.u.range.kvs[0].version == COUNT);
    trivet_result_clear(&r);
    watch_calls(c);
}

/* --- faults: what is written, read and seen while members die --- */

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

static void *reader(void *arg)
{
    struct trivet_request q = {.method = TRIVET_RANGE};
    (void)arg;
    q.u.range.key = trivet_str("x");
    for (int i = 0; !stopping; i++) {
        struct trivet_result r;
        uint64_t begin = now_ms();
        q.u.range.serializable = i % 2;
        if (trivet_call(client, &q, NULL, &r) == TRIVET_OK)
            reads_ok++;
        else {
            reads_failed++;
            printf("a read failed: %s %s\n", trivet_status_name(r.status), r.error);
        }
        trivet_result_clear(&r);
        if (now_ms() - begin > longest_read_ms)
            longest_read_ms = now_ms() - begin;
        sleep_ms(2);
    }
    return NULL;
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

static void scene_faults(struct trivet_client *c, int seconds)
{
    enum { OPEN_WRITES = 16, TTL = 3 };
    struct trivet_result r;
    struct trivet_request q = {.method = TRIVET_LEASE_GRANT};
    pthread_t t;
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
    struct trivet_watch_options o = {.key = trivet_str(prefix)};
    o.range_end = trivet_bytes(end, trivet_prefix_end(trivet_str(prefix), end));
    CHECK(trivet_watch_open(c, &o, on_watch, NULL, &w) == 0);
    for (int i = 0; i < 500 && watch_status != TRIVET_OK; i++)
        sleep_ms(10);
    printf("running\n");
    fflush(stdout);
    last_ok_ms = now_ms();
    CHECK(pthread_create(&t, NULL, reader, NULL) == 0);
    for (int i = 0; i < OPEN_WRITES; i++)
        next_write();
    sleep_ms((unsigned)seconds * 1000);
    stopping = 1;
    pthread_join(t, NULL);
    for (int i = 0; i < 1000 && keys_open > 0; i++)
        sleep_ms(10);
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

/* --- a user: the cluster has auth with root:secret --- */

static void scene_user(struct trivet_client *c)
{
    struct trivet_result r;
    uint64_t end = now_ms() + 4000;
    int good = 0;
    for (int i = 0; now_ms() < end; i++) {
        char key[32];
        snprintf(key, sizeof(key), "user/%d", i);
        int rv = trivet_put(c, trivet_str(key), trivet_str("1"), &r);
        CHECK_CALL(rv, r);
        good += rv == TRIVET_OK;
        trivet_result_clear(&r);
        sleep_ms(100);
    }
    watch_calls(c);
    struct trivet_metrics m;
    trivet_metrics(c, &m);
    printf("%d puts, %d tokens\n", good, (int)m.tokens);
    CHECK(m.tokens >= 2); /* they live for one second here */
}

static void scene_refused(struct trivet_client *c)
{
    struct trivet_result r;
    CHECK(trivet_get(c, trivet_str("a"), &r) == TRIVET_REFUSED &&
          strstr(r.error, "authentication failed") != NULL);
    printf("%s\n", r.error);
    trivet_result_clear(&r);
}

/* Servers that answer nonsense, or nobody: nothing but errors, and in time. */
static void scene_nobody(struct trivet_client *c)
{
    struct trivet_result r;
    for (int i = 0; i < 5; i++) {
        uint64_t begin = now_ms();
        int rv = i % 2 ? trivet_get(c, trivet_str("a"), &r)
                       : trivet_put(c, trivet_str("a"), trivet_str("b"), &r);
        CHECK(rv != TRIVET_OK && r.error[0] != '\0' && now_ms() - begin < 3000);
        printf("%s: %s\n", trivet_status_name(rv), r.error);
        trivet_result_clear(&r);
    }
    struct trivet_watch *w;
    struct trivet_watch_message m;
    struct trivet_watch_options o = {.key = trivet_str("w")};
    CHECK(trivet_watch_open(c, &o, NULL, NULL, &w) == 0);
    CHECK(trivet_watch_next(w, 200, &m) != TRIVET_OK);
    trivet_watch_message_clear(&m);
    trivet_watch_close(w);
}

/* Which endpoints there are, twice a second, until the time is over. */
static void scene_endpoints(struct trivet_client *c, int seconds)
{
    for (int i = 0; i < seconds * 2; i++) {
        struct trivet_endpoint_metrics e[8];
        struct trivet_result r;
        (void)trivet_get(c, trivet_str("a"), &r);
        trivet_result_clear(&r);
        uint32_t n = trivet_endpoints(c, e, 8), ready = 0, leaders = 0;
        for (uint32_t k = 0; k < n; k++) {
            ready += e[k].ready;
            leaders += e[k].leader;
        }
        printf("endpoints %u ready %u leaders %u\n", n, ready, leaders);
        fflush(stdout);
        sleep_ms(500);
    }
    passed++;
}

/* A watch that nobody reads for a while, with room for a few messages: the server waits, and then
 * all comes. */
static void scene_slow(struct trivet_client *c)
{
    enum { ROUNDS = 30, EACH = 100, WATCHES = 6 };
    static const char value[2000];
    struct trivet_watch *w, *watches[WATCHES];
    struct trivet_watch_message m;
    struct trivet_watch_options o = {.key = trivet_str("s")};
    static struct trivet_request q[EACH];
    static struct trivet_result r[EACH];
    for (int i = 0; i < WATCHES; i++) {
        CHECK(trivet_watch_open(c, &o, NULL, NULL, &watches[i]) == 0);
        CHECK(trivet_watch_next(watches[i], 5000, &m) == TRIVET_OK && m.created);
        trivet_watch_message_clear(&m);
    }
    for (int i = 0; i < EACH; i++) {
        q[i].method = TRIVET_PUT;
        q[i].u.put.key = trivet_str("s");
        q[i].u.put.value = trivet_bytes(value, sizeof(value));
    }
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(trivet_batch(c, q, EACH, NULL, r) == 0);
        for (int i = 0; i < EACH; i++)
            trivet_result_clear(&r[i]);
    }
    for (int k = 0; k < WATCHES; k++) {
        int events = 0, wrong = 0;
        w = watches[k];
        while (events < ROUNDS * EACH && trivet_watch_next(w, 5000, &m) == TRIVET_OK) {
            for (uint32_t i = 0; i < m.events_count; i++, events++)
                wrong += m.events[i].kv.version != events + 1;
            trivet_watch_message_clear(&m);
        }
        CHECK(events == ROUNDS * EACH && wrong == 0);
        trivet_watch_close(w);
    }
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

static void scene_bench(struct trivet_client *c, int seconds)
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

int main(int argc, char **argv)
{
    struct trivet_options o;
    if (argc < 3)
        return 2;
    const char *scene = argv[1];
    read_options(argc, argv, &o);
    int seconds = argc > 3 ? atoi(argv[3]) : 0;
    struct trivet_client *c = open_or_die(&o);
    if (strcmp(scene, "calls") == 0)
        scene_calls(c, &o);
    else if (strcmp(scene, "loop") == 0)
        scene_loop(c);
    else if (strcmp(scene, "faults") == 0)
        scene_faults(c, seconds);
    else if (strcmp(scene, "user") == 0)
        scene_user(c);
    else if (strcmp(scene, "refused") == 0)
        scene_refused(c);
    else if (strcmp(scene, "nobody") == 0)
        scene_nobody(c);
    else if (strcmp(scene, "endpoints") == 0)
        scene_endpoints(c, seconds);
    else if (strcmp(scene, "slow") == 0)
        scene_slow(c);
    else if (strcmp(scene, "bench") == 0)
        scene_bench(c, seconds);
    else
        return 2;
    trivet_close(c);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
