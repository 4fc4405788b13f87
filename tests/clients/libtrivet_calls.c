/* Every call, in every form. */
#include "libtrivet_scenes.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- every call --- */

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

void watch_calls(struct trivet_client *c)
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

void scene_calls(struct trivet_client *c, const struct trivet_options *o, int seconds)
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

void scene_loop(struct trivet_client *c, const struct trivet_options *o, int seconds)
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
