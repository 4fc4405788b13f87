#include "gather.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { METRICS_BYTES_MAX = 8 << 20, TOP_BYTES_MAX = 2 << 20 };

static double wall_s(void)
{
    return (double)clock_wall_us() / 1e6;
}

/* --- addresses --- */

static void copy_text(char *ret, size_t size, const char *text, size_t text_size)
{
    (void)snprintf(ret, size, "%.*s", (int)text_size, text);
}

static void copy_bytes(char *ret, size_t size, struct trivet_bytes b)
{
    copy_text(ret, size, b.data == NULL ? "" : b.data, b.size);
}

/* What is behind the scheme, without a path or a zone. */
static struct slice host_and_port(const char *address)
{
    const char *behind = strstr(address, "://");
    const char *begin = behind == NULL ? address : behind + 3;
    return slice_of(begin, strcspn(begin, ";/"));
}

static void copy_zone(char *ret, size_t size, const char *address)
{
    const char *zone = strstr(address, ";zone=");
    if (zone != NULL)
        copy_text(ret, size, zone + 6, strlen(zone + 6));
}

static void copy_host(char *ret, size_t size, struct trivet_bytes url)
{
    char text[256];
    copy_bytes(text, sizeof(text), url);
    struct slice s = host_and_port(text);
    const uint8_t *colon = s.size == 0 ? NULL : memrchr(s.data, ':', s.size);
    copy_text(ret, size, (const char *)s.data, colon == NULL ? s.size : (size_t)(colon - s.data));
}

static bool is_client_url(const struct trivet_member *m, const char *address)
{
    struct slice wanted = host_and_port(address);
    for (uint32_t i = 0; i < m->client_urls_count; i++) {
        char url[256];
        copy_bytes(url, sizeof(url), m->client_urls[i]);
        if (slice_equal(host_and_port(url), wanted))
            return true;
    }
    return false;
}

/* --- the client --- */

static bool has_address(const struct gatherer *g, const char *address)
{
    size_t size = strcspn(address, ";");
    for (uint32_t i = 0; i < g->addresses_count; i++)
        if (strcspn(g->addresses[i], ";") == size && strncmp(g->addresses[i], address, size) == 0)
            return true;
    return false;
}

static void add_address(struct gatherer *g, const char *address)
{
    if (!has_address(g, address) && g->addresses_count < GATHER_MEMBERS_MAX)
        g->addresses[g->addresses_count++] = mem_strdup(address);
}

static void reopen(struct gatherer *g)
{
    trivet_close(g->client);
    g->options.endpoints = (const char *const *)g->addresses;
    g->options.endpoints_count = g->addresses_count;
    g->client = ctl_open(g->c, &g->options);
}

static void authenticate(struct gatherer *g)
{
    struct trivet_result r;
    if (g->options.user == NULL)
        return;
    const struct trivet_request q = {
        .method = TRIVET_AUTHENTICATE,
        .u.auth = {.user = trivet_str(g->options.user),
                   .password = trivet_str(g->options.password == NULL ? "" : g->options.password)}};
    const struct trivet_call_options o = {.timeout_ms = g->timeout_ms};
    mem_free(g->authorization);
    g->authorization = NULL;
    if (trivet_call(g->client, &q, &o, &r) == TRIVET_OK) {
        size_t size = r.u.auth.token.size;
        g->authorization = mem_alloc(size + 1);
        memcpy(g->authorization, r.u.auth.token.data, size);
        g->authorization[size] = '\0';
    }
    g->http.authorization = g->authorization;
    trivet_result_clear(&r);
}

void gatherer_init(struct gatherer *g, struct ctl *c, uint64_t timeout_ms)
{
    *g = (struct gatherer){.c = c, .timeout_ms = timeout_ms};
    ctl_options(c, &g->options);
    g->given = g->options.endpoints; /* as long as `c` */
    g->given_count = g->options.endpoints_count;
    if (g->given_count > GATHER_MEMBERS_MAX)
        g->given_count = GATHER_MEMBERS_MAX;
    for (uint32_t i = 0; i < g->given_count; i++)
        add_address(g, g->given[i]);
    g->http = (struct http_get_options){
        .ca_file = g->options.ca_file,
        .cert_file = g->options.cert_file,
        .key_file = g->options.key_file,
        .insecure_skip_verify = g->options.insecure_skip_verify,
        .secure = g->options.ca_file != NULL || g->options.cert_file != NULL ||
                  g->options.insecure_skip_verify,
        .timeout_ms = timeout_ms,
    };
    reopen(g);
    authenticate(g);
}

void gatherer_fini(struct gatherer *g)
{
    trivet_close(g->client);
    for (uint32_t i = 0; i < g->addresses_count; i++)
        mem_free(g->addresses[i]);
    mem_free(g->authorization);
}

/* --- one member --- */

struct errand {
    struct gatherer *g;
    struct member_now *m;
    pthread_t thread;
    bool pages; /* not Status alone */
};

static void note_clock(struct member_now *m, double theirs_s, double ours_s, double error_s)
{
    if (m->clock_theirs_s != 0 && m->clock_error_s <= error_s)
        return;
    m->clock_theirs_s = theirs_s;
    m->clock_ours_s = ours_s;
    m->clock_error_s = error_s;
}

static void get_status(struct gatherer *g, struct member_now *m)
{
    char address[256];
    const struct trivet_request q = {.method = TRIVET_STATUS};
    copy_text(address, sizeof(address), m->address, strcspn(m->address, ";"));
    const struct trivet_call_options o = {.timeout_ms = g->timeout_ms, .endpoint = address};
    uint64_t begun = clock_mono_ns();
    m->answers = trivet_call(g->client, &q, &o, &m->status) == TRIVET_OK;
    m->status_took_ns = clock_mono_ns() - begun;
    if (!m->answers && m->error[0] == '\0') /* what the page said says more */
        copy_text(m->error, sizeof(m->error), m->status.error, strlen(m->status.error));
    if (m->answers && m->id == 0)
        m->id = m->status.header.member_id;
}

static void get_pages(struct gatherer *g, struct member_now *m)
{
    struct http_get_options o = g->http;
    o.body_bytes_max = METRICS_BYTES_MAX;
    http_get(m->address, "/metrics", &o, &m->metrics_page);
    double now_s = wall_s(), took_s = (double)m->metrics_page.took_ns / 1e9;
    m->has_metrics = m->metrics_page.status == 200;
    if (m->metrics_page.status == 0)
        copy_text(m->error, sizeof(m->error), m->metrics_page.error, strlen(m->metrics_page.error));
    if (m->metrics_page.date_s != 0) /* whole seconds, cut off */
        note_clock(m, (double)m->metrics_page.date_s + 0.5, now_s - took_s / 2, 0.5 + took_s / 2);
    if (!m->has_metrics)
        return;
    prom_parse(buf_slice(&m->metrics_page.body), &m->metrics);
    if (!prom_has(&m->metrics, "trivet_version"))
        return;
    o.body_bytes_max = TOP_BYTES_MAX;
    http_get(m->address, "/debug/top", &o, &m->top_page);
    now_s = wall_s();
    took_s = (double)m->top_page.took_ns / 1e9;
    m->has_top = m->top_page.status == 200;
    double theirs_s = json_member_number(buf_slice(&m->top_page.body), "now", 0);
    if (m->has_top && theirs_s != 0)
        note_clock(m, theirs_s, now_s - took_s / 2, took_s / 2);
}

static void look_for_version(struct gatherer *g, struct member_now *m)
{
    struct http_get_options o = g->http;
    struct http_page page;
    o.body_bytes_max = TOP_BYTES_MAX;
    http_get(m->address, "/version", &o, &page);
    copy_text(m->error, sizeof(m->error), page.error, strlen(page.error));
    buf_fini(&page.body);
}

static void *run_errand(void *arg)
{
    struct errand *e = arg;
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe, NULL); /* a connection that breaks is no end of all */
    if (e->pages)
        get_pages(e->g, e->m);
    else
        look_for_version(e->g, e->m);
    /* A call waits for a connection for as long as it may; here it is known that there is none. */
    if (strncmp(e->m->error, "connect", strlen("connect")) != 0)
        get_status(e->g, e->m);
    return NULL;
}

static void ask_all(struct gatherer *g, struct member_now *members, uint32_t count, bool pages)
{
    struct errand errands[GATHER_MEMBERS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        errands[i] = (struct errand){.g = g, .m = &members[i], .pages = pages};
        if (pthread_create(&errands[i].thread, NULL, run_errand, &errands[i]) != 0)
            ctl_fail(g->c, CTL_ERROR, "no more threads");
    }
    for (uint32_t i = 0; i < count; i++)
        (void)pthread_join(errands[i].thread, NULL);
}

/* --- the list --- */

static void member_now_fini(struct member_now *m)
{
    trivet_result_clear(&m->status);
    buf_fini(&m->metrics_page.body);
    buf_fini(&m->top_page.body);
    prom_fini(&m->metrics);
}

/* The endpoints, when they are not known yet: who is there? False: nobody, at none of them. */
static bool learn_given(struct gatherer *g)
{
    struct member_now members[GATHER_MEMBERS_MAX];
    uint32_t at[GATHER_MEMBERS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->given_count; i++) {
        if (g->given_ids[i] != 0)
            continue;
        at[count] = i;
        members[count] = (struct member_now){0};
        copy_text(members[count].address, sizeof(members[count].address), g->given[i],
                  strlen(g->given[i]));
        count++;
    }
    ask_all(g, members, count, false);
    for (uint32_t i = 0; i < count; i++) {
        if (members[i].answers)
            g->given_ids[at[i]] = members[i].status.header.member_id;
        member_now_fini(&members[i]);
    }
    for (uint32_t i = 0; i < g->given_count; i++)
        if (g->given_ids[i] != 0)
            return true;
    return false;
}

static const char *given_address(const struct gatherer *g, const struct trivet_member *m)
{
    for (uint32_t i = 0; i < g->given_count; i++)
        if (g->given_ids[i] == m->id)
            return g->given[i];
    for (uint32_t i = 0; i < g->given_count; i++)
        if (g->given_ids[i] == 0 && is_client_url(m, g->given[i]))
            return g->given[i];
    return NULL;
}

static void take_member(const struct gatherer *g, const struct trivet_member *from,
                        struct member_now *m)
{
    const char *given = given_address(g, from);
    m->id = from->id;
    m->is_listed = true;
    m->is_learner = from->is_learner;
    m->is_started = from->name.size > 0;
    copy_bytes(m->name, sizeof(m->name), from->name);
    if (from->peer_urls_count > 0)
        copy_host(m->peer_host, sizeof(m->peer_host), from->peer_urls[0]);
    if (given != NULL) {
        copy_text(m->address, sizeof(m->address), given, strlen(given));
        copy_zone(m->zone, sizeof(m->zone), given);
    } else if (from->client_urls_count > 0) {
        copy_bytes(m->address, sizeof(m->address), from->client_urls[0]);
    }
}

static bool take_list(struct gatherer *g, struct cluster_now *n)
{
    struct trivet_result r;
    const struct trivet_request q = {.method = TRIVET_MEMBER_LIST};
    const struct trivet_call_options o = {.timeout_ms = g->timeout_ms};
    bool ok = trivet_call(g->client, &q, &o, &r) == TRIVET_OK;
    for (uint32_t i = 0; ok && i < r.u.member.members_count && i < GATHER_MEMBERS_MAX; i++)
        take_member(g, &r.u.member.members[i], &n->members[n->count++]);
    trivet_result_clear(&r);
    return ok && n->count > 0;
}

static void take_endpoints(const struct gatherer *g, struct cluster_now *n)
{
    for (uint32_t i = 0; i < g->given_count; i++) {
        struct member_now *m = &n->members[n->count++];
        m->id = g->given_ids[i];
        m->is_started = true;
        copy_text(m->address, sizeof(m->address), g->given[i], strlen(g->given[i]));
        copy_zone(m->zone, sizeof(m->zone), g->given[i]);
    }
}

static void know_addresses(struct gatherer *g, const struct cluster_now *n)
{
    uint32_t before = g->addresses_count;
    for (uint32_t i = 0; i < n->count; i++)
        if (n->members[i].address[0] != '\0')
            add_address(g, n->members[i].address);
    if (g->addresses_count != before)
        reopen(g);
}

static void ask_cluster(struct gatherer *g, struct cluster_now *n)
{
    enum { ALARMS, AUTH, LEASES, COUNT };
    struct trivet_result r[COUNT];
    const struct trivet_request q[COUNT] = {[ALARMS] = {.method = TRIVET_ALARM},
                                            [AUTH] = {.method = TRIVET_AUTH_STATUS},
                                            [LEASES] = {.method = TRIVET_LEASE_LIST}};
    const struct trivet_call_options o = {.timeout_ms = g->timeout_ms};
    (void)trivet_batch(g->client, q, COUNT, &o, r);
    n->alarms = r[ALARMS];
    n->has_alarms = r[ALARMS].status == TRIVET_OK;
    /* Only root may ask: so who is refused knows that it is on. */
    n->auth_enabled = r[AUTH].status == TRIVET_OK        ? r[AUTH].u.auth.enabled
                      : r[AUTH].status == TRIVET_REFUSED ? 1
                                                         : -1;
    n->leases = r[LEASES].status == TRIVET_OK ? (int64_t)r[LEASES].u.lease.ids_count : -1;
    trivet_result_clear(&r[AUTH]);
    trivet_result_clear(&r[LEASES]);
}

void gather(struct gatherer *g, struct cluster_now *ret)
{
    *ret = (struct cluster_now){.wall_s = clock_wall_us() / 1000000, .auth_enabled = -1};
    ret->members = mem_alloc_zero(GATHER_MEMBERS_MAX * sizeof(*ret->members));
    ret->has_list = learn_given(g) && take_list(g, ret);
    if (!ret->has_list)
        take_endpoints(g, ret);
    know_addresses(g, ret);
    ret->at_ns = clock_mono_ns();
    ask_all(g, ret->members, ret->count, true);
    bool answers = false;
    for (uint32_t i = 0; i < ret->count; i++)
        answers = answers || ret->members[i].answers;
    if (answers)
        ask_cluster(g, ret);
}

void cluster_now_fini(struct cluster_now *n)
{
    for (uint32_t i = 0; i < n->count; i++)
        member_now_fini(&n->members[i]);
    mem_free(n->members);
    trivet_result_clear(&n->alarms);
    *n = (struct cluster_now){0};
}

uint64_t cluster_now_leader(const struct cluster_now *n)
{
    uint32_t best = 0;
    uint64_t leader = 0;
    for (uint32_t i = 0; i < n->count; i++) {
        uint64_t id = n->members[i].answers ? n->members[i].status.u.status.leader : 0;
        uint32_t votes = 0;
        for (uint32_t j = 0; j < n->count && id != 0; j++)
            votes += n->members[j].answers && n->members[j].status.u.status.leader == id;
        if (votes > best) {
            best = votes;
            leader = id;
        }
    }
    return leader;
}

const struct member_now *cluster_now_find(const struct cluster_now *n, uint64_t id)
{
    for (uint32_t i = 0; i < n->count && id != 0; i++)
        if (n->members[i].id == id)
            return &n->members[i];
    return NULL;
}
