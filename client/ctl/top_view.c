/* What `trivetctl top` shows, out of two moments. */
#include "top.h"

#include "base/json.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

static double sum(const struct member_now *m, const char *name)
{
    return prom_sum(&m->metrics, name, NULL, NULL);
}

/* A second; negative when it is not known, or the process is another by now. */
static double rate(const struct member_now *old, const struct member_now *m, const char *name,
                   double seconds)
{
    if (old == NULL || !old->has_metrics || !m->has_metrics || seconds <= 0 ||
        !prom_has(&m->metrics, name))
        return -1;
    double more = sum(m, name) - sum(old, name);
    return more < 0 ? -1 : more / seconds;
}

static double latency(const struct member_now *old, const struct member_now *m, bool reads,
                      double quantile)
{
    const struct prom_filter filter = {.label = "type", .value = "Range", .except = !reads};
    if (old == NULL || !old->has_metrics || !m->has_metrics)
        return -1;
    return prom_quantile(&m->metrics, &old->metrics, "etcd_server_request_duration_seconds",
                         &filter, quantile);
}

static void list_alarms(const struct cluster_now *n, struct top_member *t)
{
    const struct trivet_alarm_result *a = &n->alarms.u.alarm;
    for (uint32_t i = 0; n->has_alarms && i < a->alarms_count; i++) {
        size_t used = strlen(t->alarms);
        if (a->alarms[i].member_id == t->m->id)
            (void)snprintf(t->alarms + used, sizeof(t->alarms) - used, "%s%s", used > 0 ? "," : "",
                           a->alarms[i].alarm == 1 ? "NOSPACE" : "CORRUPT");
    }
}

static void view_member(const struct cluster_now *before, const struct member_now *m,
                        struct top_view *v)
{
    struct top_member *t = &v->members[v->members_count++];
    const struct member_now *old = before == NULL ? NULL : cluster_now_find(before, m->id);
    double s = before == NULL ? 0 : (double)(v->now->at_ns - before->at_ns) / 1e9;
    const struct member_now *leader = cluster_now_find(v->now, v->leader);
    *t = (struct top_member){.m = m, .lag = -1};
    t->role = !m->answers                        ? "down"
              : m->is_learner                    ? "learner"
              : m->id != 0 && m->id == v->leader ? "leader"
              : m->status.u.status.leader == 0   ? "no leader"
                                                 : "follower";
    if (m->answers && leader != NULL && leader->answers) {
        uint64_t wanted = leader->status.u.status.raft_index;
        uint64_t has = m->status.u.status.raft_applied_index;
        t->lag = has < wanted ? (int64_t)(wanted - has) : 0;
    }
    t->keys = m->has_metrics ? sum(m, "etcd_debugging_mvcc_keys_total") : -1;
    t->memory = m->has_metrics ? sum(m, "process_resident_memory_bytes") : -1;
    t->puts = rate(old, m, "etcd_mvcc_put_total", s);
    t->gets = rate(old, m, "etcd_mvcc_range_total", s);
    t->txns = rate(old, m, "etcd_mvcc_txn_total", s);
    t->events = rate(old, m, "etcd_debugging_mvcc_events_total", s);
    t->cpu = rate(old, m, "process_cpu_seconds_total", s);
    t->write_p50_s = latency(old, m, false, 0.5);
    t->write_p99_s = latency(old, m, false, 0.99);
    t->read_p50_s = latency(old, m, true, 0.5);
    t->read_p99_s = latency(old, m, true, 0.99);
    list_alarms(v->now, t);
}

/* --- prefixes --- */

/* The page writes bytes as characters of those numbers. At most size - 1 of them, and a zero byte;
 * returns how many. */
static size_t member_bytes(struct slice object, const char *name, char *ret, size_t size)
{
    char text[2 * TOP_PREFIX_BYTES_MAX]; /* none of its characters takes more than two bytes */
    const uint8_t *p = (const uint8_t *)text;
    size_t left = json_string_copy(json_member(object, name), text, sizeof(text)), used = 0;
    if (left >= sizeof(text))
        left = strlen(text);
    for (size_t n; left > 0 && used + 1 < size; p += n, left -= n) {
        uint32_t rune = p[0];
        n = utf8_get(p, left, &rune);
        n += n == 0;
        ret[used++] = (char)rune;
    }
    ret[used] = '\0';
    return used;
}

static void add_prefix(struct top_view *v, struct slice object)
{
    struct top_prefix p = {0};
    p.size = member_bytes(object, "prefix", p.text, sizeof(p.text));
    p.reads = json_member_number(object, "reads_per_second", 0);
    p.writes = json_member_number(object, "writes_per_second", 0);
    p.bytes = json_member_number(object, "bytes_per_second", 0);
    for (uint32_t i = 0; i < v->prefixes_count; i++) {
        struct top_prefix *have = &v->prefixes[i];
        if (have->size != p.size || memcmp(have->text, p.text, p.size) != 0)
            continue;
        have->reads += p.reads;
        have->writes += p.writes;
        have->bytes += p.bytes;
        return;
    }
    if (v->prefixes_count < TOP_PREFIXES_MAX)
        v->prefixes[v->prefixes_count++] = p;
}

static double prefix_weight(const struct top_prefix *p)
{
    return p->reads + p->writes;
}

static int by_weight(const void *a, const void *b)
{
    double x = prefix_weight(a), y = prefix_weight(b);
    return x > y ? -1 : x < y;
}

static void hide_parents(struct top_view *v)
{
    for (uint32_t i = 0; i < v->prefixes_count; i++)
        for (uint32_t j = 0; j < v->prefixes_count; j++) {
            struct top_prefix *p = &v->prefixes[i];
            const struct top_prefix *child = &v->prefixes[j];
            if (child->size > p->size && memcmp(child->text, p->text, p->size) == 0 &&
                prefix_weight(child) > 0.9 * prefix_weight(p))
                p->hidden = true;
        }
}

/* --- clients --- */

static void add_clients(struct top_client *clients, uint32_t *count, struct slice array,
                        const struct member_now *m)
{
    struct slice name, object;
    struct json_walk w = json_walk_of(array);
    while (*count < TOP_CLIENTS_MAX && json_walk_next(&w, &name, &object)) {
        struct top_client *t = &clients[(*count)++];
        (void)member_bytes(object, "peer", t->peer, sizeof(t->peer));
        (void)member_bytes(object, "name", t->name, sizeof(t->name));
        t->member = m->name[0] != '\0' ? m->name : m->address;
        t->calls = json_member_number(object, "calls_per_second", 0);
        t->received = json_member_number(object, "received_bytes_per_second", 0);
        t->sent = json_member_number(object, "sent_bytes_per_second", 0);
        t->mean_ms = json_member_number(object, "mean_ms", 0);
        t->worst_ms = json_member_number(object, "worst_ms", 0);
    }
}

static int by_wait(const void *a, const void *b)
{
    const struct top_client *x = a, *y = b;
    return x->worst_ms > y->worst_ms ? -1 : x->worst_ms < y->worst_ms;
}

static int by_bytes(const void *a, const void *b)
{
    const struct top_client *x = a, *y = b;
    double left = x->received + x->sent, right = y->received + y->sent;
    return left > right ? -1 : left < right;
}

void top_view(const struct cluster_now *before, const struct cluster_now *now, struct top_view *ret)
{
    *ret = (struct top_view){.now = now, .leader = cluster_now_leader(now)};
    for (uint32_t i = 0; i < now->count; i++) {
        const struct member_now *m = &now->members[i];
        struct slice page = buf_slice(&m->top_page.body), name, object;
        view_member(before, m, ret);
        if (!m->has_top)
            continue;
        ret->tells_prefixes = true;
        struct json_walk w = json_walk_of(json_member(page, "prefixes"));
        while (json_walk_next(&w, &name, &object))
            add_prefix(ret, object);
        add_clients(ret->slow, &ret->slow_count, json_member(page, "slow_clients"), m);
        add_clients(ret->busy, &ret->busy_count, json_member(page, "busy_clients"), m);
    }
    qsort(ret->prefixes, ret->prefixes_count, sizeof(*ret->prefixes), by_weight);
    qsort(ret->slow, ret->slow_count, sizeof(*ret->slow), by_wait);
    qsort(ret->busy, ret->busy_count, sizeof(*ret->busy), by_bytes);
    hide_parents(ret);
}

/* --- order --- */

const char *const top_sorts[TOP_SORTS_COUNT] = {"name", "lag",    "keys", "puts",
                                                "gets", "events", "cpu",  "memory"};

static double sort_value(const struct top_member *t, int sort)
{
    switch (sort) {
    case 1:
        return (double)t->lag;
    case 2:
        return t->keys;
    case 3:
        return t->puts;
    case 4:
        return t->gets;
    case 5:
        return t->events;
    case 6:
        return t->cpu;
    default:
        return t->memory;
    }
}

static bool comes_before(const struct top_member *a, const struct top_member *b, int sort)
{
    if (sort == 0)
        return strcmp(a->m->name, b->m->name) < 0;
    return sort_value(a, sort) > sort_value(b, sort); /* the most first */
}

void top_sort(struct top_view *v, int sort, bool reverse)
{
    for (uint32_t i = 1; i < v->members_count; i++) {
        struct top_member t = v->members[i];
        uint32_t at = i;
        for (; at > 0; at--) {
            const struct top_member *other = &v->members[at - 1];
            if (reverse ? !comes_before(other, &t, sort) : !comes_before(&t, other, sort))
                break;
            v->members[at] = *other;
        }
        v->members[at] = t;
    }
}
