/* make-mirror: what is there and what comes, from one cluster to another. */
#include "commands.h"

#include "base/mem.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { PAGE_KEYS = 1000, REPORT_SECONDS = 30, NEXT_MS = 3600 * 1000 };

static const uint64_t for_ever_ms = UINT64_C(86400) * 3650 * 1000;

static _Atomic uint64_t total; /* changes that arrived */

struct mirror {
    struct ctl *c;
    struct trivet_client *source;
    struct trivet_client *target;
    const char *prefix;
    const char *target_prefix;
    struct trivet_request *ops; /* of one revision */
    uint32_t ops_count;
    uint32_t ops_max;
};

static void *report(void *arg)
{
    for (;;) {
        (void)sleep(REPORT_SECONDS);
        printf("%" PRIu64 "\n", atomic_load(&total));
        fflush(stdout);
    }
    return NULL;
}

static void call(struct mirror *m, struct trivet_client *client, const struct trivet_request *q,
                 struct trivet_result *r)
{
    const struct trivet_call_options o = {.timeout_ms = for_ever_ms};
    if (trivet_call(client, q, &o, r) != TRIVET_OK)
        ctl_fail(m->c, CTL_ERROR, "%s", ctl_error(r));
}

/* The key with the other prefix, where the first one is found. */
static struct trivet_bytes renamed(const struct mirror *m, struct trivet_bytes key)
{
    size_t from = strlen(m->prefix), to = strlen(m->target_prefix);
    const char *at = from == 0 ? key.data : memmem(key.data, key.size, m->prefix, from);
    if (at == NULL)
        return trivet_str(ctl_copy(key));
    size_t before = (size_t)(at - (const char *)key.data);
    char *name = mem_alloc(key.size - from + to + 1);
    memcpy(name, key.data, before);
    memcpy(name + before, m->target_prefix, to);
    memcpy(name + before + to, at + from, key.size - before - from);
    return trivet_bytes(name, key.size - from + to);
}

/* --- what is there --- */

static void copy_page(struct mirror *m, const struct trivet_range_result *page)
{
    struct trivet_request *puts = mem_alloc_zero((page->kvs_count + 1) * sizeof(puts[0]));
    struct trivet_result *results = mem_alloc_zero((page->kvs_count + 1) * sizeof(results[0]));
    const struct trivet_call_options o = {.timeout_ms = for_ever_ms};
    for (uint32_t i = 0; i < page->kvs_count; i++) {
        puts[i].method = TRIVET_PUT;
        puts[i].u.put.key = renamed(m, page->kvs[i].key);
        puts[i].u.put.value = page->kvs[i].value;
    }
    (void)trivet_batch(m->target, puts, page->kvs_count, &o, results);
    for (uint32_t i = 0; i < page->kvs_count; i++) {
        if (results[i].status != TRIVET_OK)
            ctl_fail(m->c, CTL_ERROR, "%s", ctl_error(&results[i]));
        trivet_result_clear(&results[i]);
        mem_free((void *)puts[i].u.put.key.data);
    }
    atomic_fetch_add(&total, page->kvs_count);
    mem_free(results);
    mem_free(puts);
}

/* Page by page as it was at one revision, which is returned. */
static int64_t copy_all(struct mirror *m)
{
    static const struct trivet_bytes zero = {"\0", 1};
    struct trivet_bytes prefix = trivet_str(m->prefix);
    struct trivet_request q = {
        .method = TRIVET_RANGE,
        .u.range = {.key = prefix.size > 0 ? prefix : zero,
                    .range_end = prefix.size > 0 ? ctl_prefix_end(prefix) : zero,
                    .limit = PAGE_KEYS}};
    bool more = true;
    while (more) {
        struct trivet_result r;
        call(m, m->source, &q, &r);
        if (q.u.range.revision == 0)
            q.u.range.revision = r.header.revision;
        copy_page(m, &r.u.range);
        more = r.u.range.more && r.u.range.kvs_count > 0;
        if (more) {
            struct trivet_bytes last = r.u.range.kvs[r.u.range.kvs_count - 1].key;
            char *next = ctl_copy(last); /* with the zero byte: the key behind it */
            q.u.range.key = trivet_bytes(next, last.size + 1);
        }
        trivet_result_clear(&r);
    }
    return q.u.range.revision;
}

/* --- what comes --- */

static void send_ops(struct mirror *m)
{
    struct trivet_request q = {.method = TRIVET_TXN,
                               .u.txn = {.success = m->ops, .success_count = m->ops_count}};
    struct trivet_result r;
    if (m->ops_count == 0)
        return;
    call(m, m->target, &q, &r);
    trivet_result_clear(&r);
    for (uint32_t i = 0; i < m->ops_count; i++)
        mem_free((void *)m->ops[i].u.put.key.data); /* the first member of both kinds */
    m->ops_count = 0;
}

static void add_event(struct mirror *m, const struct trivet_event *e)
{
    struct trivet_bytes key = renamed(m, e->kv.key);
    if (m->ops_count == m->ops_max)
        send_ops(m);
    struct trivet_request *q = &m->ops[m->ops_count++];
    *q = (struct trivet_request){.method = e->type == 0 ? TRIVET_PUT : TRIVET_DELETE};
    if (e->type == 0) {
        q->u.put.key = key;
        q->u.put.value = e->kv.value;
    } else {
        q->u.del.key = key;
    }
    atomic_fetch_add(&total, 1);
}

/* The events of a revision go in one transaction, if they fit in. */
static void follow(struct mirror *m, int64_t revision)
{
    static const struct trivet_bytes zero = {"\0", 1};
    struct trivet_bytes prefix = trivet_str(m->prefix);
    const struct trivet_watch_options o = {.key = prefix.size > 0 ? prefix : zero,
                                           .range_end =
                                               prefix.size > 0 ? ctl_prefix_end(prefix) : zero,
                                           .start_revision = revision};
    struct trivet_watch *w;
    int status = TRIVET_OK;
    if (trivet_watch_open(m->source, &o, NULL, NULL, &w) != 0)
        ctl_fail(m->c, CTL_ERROR, "the watch cannot be opened");
    while (status == TRIVET_OK || status == TRIVET_TIMEOUT) {
        struct trivet_watch_message message;
        status = trivet_watch_next(w, NEXT_MS, &message);
        if (status != TRIVET_OK && status != TRIVET_TIMEOUT)
            ctl_fail(m->c, CTL_ERROR, "%s", ctl_watch_error(&message));
        int64_t last = 0;
        for (uint32_t i = 0; i < message.events_count; i++) {
            if (message.events[i].kv.mod_revision > last)
                send_ops(m);
            last = message.events[i].kv.mod_revision;
            add_event(m, &message.events[i]);
        }
        send_ops(m);
        trivet_watch_message_clear(&message);
    }
}

/* --- the target --- */

static const char *file_flag(struct ctl *c, const char *name)
{
    const char *file = ctl_text(c, name);
    return *file == '\0' ? NULL : file;
}

static struct trivet_client *open_target(struct ctl *c)
{
    struct trivet_options o;
    ctl_options(c, &o);
    bool secure = !ctl_bool(c, "dest-insecure-transport");
    const char *endpoint = c->args[0];
    if (secure && strstr(endpoint, "://") == NULL)
        endpoint = ctl_sprintf("https://%s", endpoint);
    o.endpoints = &endpoint;
    o.endpoints_count = 1;
    o.cert_file = file_flag(c, "dest-cert");
    o.key_file = file_flag(c, "dest-key");
    o.ca_file = file_flag(c, "dest-cacert");
    o.insecure_skip_verify = false;
    o.user = o.password = o.token = NULL;
    ctl_user(ctl_text(c, "dest-user"), ctl_text(c, "dest-password"), "Destination Password: ", &o);
    return ctl_open(c, &o);
}

static int run_make_mirror(struct ctl *c)
{
    struct mirror m = {.c = c, .prefix = ctl_text(c, "prefix")};
    pthread_t thread;
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "make-mirror takes one destination argument");
    m.target = open_target(c);
    m.source = ctl_client(c);
    m.target_prefix = ctl_text(c, "dest-prefix");
    if (ctl_bool(c, "no-dest-prefix") && *m.target_prefix != '\0')
        ctl_fail(
            c, CTL_BAD_ARGS,
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one");
    uint64_t ops_max = ctl_uint(c, "max-txn-ops");
    m.ops_max = ops_max < 1 ? 1 : ops_max > UINT16_MAX ? UINT16_MAX : (uint32_t)ops_max;
    m.ops = mem_alloc_zero(m.ops_max * sizeof(m.ops[0]));
    if (pthread_create(&thread, NULL, report, NULL) == 0)
        (void)pthread_detach(thread);
    int64_t revision = ctl_int(c, "rev");
    if (revision <= 1) {
        if (!ctl_bool(c, "no-dest-prefix") && *m.target_prefix == '\0')
            m.target_prefix = m.prefix;
        revision = copy_all(&m) + 1;
    }
    follow(&m, revision);
    return CTL_OK;
}

static const struct ctl_flag mirror_flags[] = {
    {"prefix", 0, CTL_STRING, NULL, "only keys that begin with it"},
    {"rev", 0, CTL_INT, NULL, "only what changes from this revision on"},
    {"max-txn-ops", 0, CTL_UINT, "128", "the most changes in one transaction"},
    {"dest-prefix", 0, CTL_STRING, NULL, "what takes the place of --prefix there"},
    {"no-dest-prefix", 0, CTL_BOOL, NULL, "nothing takes its place"},
    {"dest-cert", 0, CTL_STRING, NULL, "file of the client's certificate there"},
    {"dest-key", 0, CTL_STRING, NULL, "file of the client's key there"},
    {"dest-cacert", 0, CTL_STRING, NULL,
     "file of the CAs that the servers' certificates there are from"},
    {"dest-insecure-transport", 0, CTL_BOOL, "true",
     "no TLS there when the destination names no scheme, unless there are certificates"},
    {"dest-user", 0, CTL_STRING, NULL, "name[:password] there; without a password it is asked for"},
    {"dest-password", 0, CTL_STRING, NULL,
     "the password of --dest-user, which is the name alone then"},
    {NULL},
};

const struct ctl_command ctl_cmd_make_mirror = {
    .name = "make-mirror",
    .usage = "[options] <destination>",
    .brief = "Copies keys to another cluster, and their changes as they come",
    .group = "Utility commands",
    .flags = mirror_flags,
    .run = run_make_mirror,
};
