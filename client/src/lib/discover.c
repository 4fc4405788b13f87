/* Where endpoints come from: the options, a file, the names of dns:// and srv://, the cluster's own
 * list. */
#include "engine.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/srv.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

enum { FILE_BYTES_MAX = 64 << 10, MEMBERS_TIMEOUT_MS = 2000 };

/* --- names --- */

struct lookup {
    struct trivet_client *client;
    uv_getaddrinfo_t req;
    uint32_t id;
    char host[ENDPOINT_TEXT_BYTES];
    char port[16];
    char zone[ENDPOINT_TEXT_BYTES];
};

static bool is_service(const char *text)
{
    return strncmp(text, "srv://", strlen("srv://")) == 0;
}

static bool is_name(const char *text)
{
    return strncmp(text, "dns://", strlen("dns://")) == 0 || is_service(text);
}

static void add_address(struct lookup *l, const struct addrinfo *a)
{
    char host[NI_MAXHOST], text[3 * ENDPOINT_TEXT_BYTES];
    struct trivet_client *c = l->client;
    if (getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof(host), NULL, 0, NI_NUMERICHOST) != 0)
        return;
    bool v6 = strchr(host, ':') != NULL;
    (void)snprintf(text, sizeof(text), "%s%s%.200s%s:%s%s", c->is_secure ? "https://" : "",
                   v6 ? "[" : "", host, v6 ? "]" : "", l->port, l->zone);
    (void)endpoints__list(c, text, FROM_DNS, l->id, l->host);
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct lookup *l = CONTAINER_OF(req, struct lookup, req);
    struct trivet_client *c = l->client;
    c->lookups--;
    /* A name server that fails does not take away what it said before. */
    if (status == 0 && found != NULL && !c->stopped) {
        endpoints__begin_list(c, FROM_DNS, l->id);
        for (struct addrinfo *a = found; a != NULL; a = a->ai_next)
            add_address(l, a);
        endpoints__end_list(c, FROM_DNS, l->id);
    } else if (!c->stopped) {
        (void)snprintf(c->connect_error, sizeof(c->connect_error), "lookup %.100s: %s", l->host,
                       uv_strerror(status));
    }
    uv_freeaddrinfo(found);
    mem_free(l);
}

static void look_up(struct trivet_client *c, uint32_t id)
{
    const char *text = c->o.endpoints[id] + strlen("dns://");
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct lookup *l = mem_try_alloc_zero(sizeof(*l));
    if (l == NULL)
        return; /* the next time */
    size_t size = strcspn(text, ";/");
    const char *colon = memrchr(text, ':', size);
    l->client = c;
    l->id = id;
    (void)snprintf(l->host, sizeof(l->host), "%.*s", (int)(colon - text), text);
    (void)snprintf(l->port, sizeof(l->port), "%.*s", (int)(text + size - colon - 1), colon + 1);
    (void)snprintf(l->zone, sizeof(l->zone), "%s", text + strcspn(text, ";"));
    if (uv_getaddrinfo(&c->loop, &l->req, on_looked_up, l->host, l->port, &hints) == 0)
        c->lookups++;
    else
        mem_free(l);
}

/* --- services: etcd's SRV records for its clients, with TLS and without --- */

struct service {
    const char *name;
    const char *scheme;
};
static const struct service services[] = {{"etcd-client-ssl", "https"}, {"etcd-client", "http"}};
enum { SERVICES_COUNT = 2 };

struct service_lookup {
    struct trivet_client *client;
    uv_work_t req;
    uint32_t id;
    char domain[ENDPOINT_TEXT_BYTES];
    char zone[ENDPOINT_TEXT_BYTES];
    struct srv_record records[SERVICES_COUNT][SRV_RECORDS_MAX];
    int counts[SERVICES_COUNT]; /* or errors */
    char why[ENDPOINT_TEXT_BYTES];
};

/* Blocks: on the pool. */
static void ask_for_service(uv_work_t *req)
{
    struct service_lookup *l = CONTAINER_OF(req, struct service_lookup, req);
    for (int i = 0; i < SERVICES_COUNT; i++)
        l->counts[i] =
            srv_look_up(services[i].name, l->domain, l->records[i], l->why, sizeof(l->why));
}

static void add_service(struct service_lookup *l, int service)
{
    struct trivet_client *c = l->client;
    char text[3 * ENDPOINT_TEXT_BYTES];
    if (c->is_secure && strcmp(services[service].scheme, "https") != 0)
        return; /* nobody talks us out of TLS */
    for (int i = 0; i < l->counts[service]; i++) {
        const struct srv_record *r = &l->records[service][i];
        (void)snprintf(text, sizeof(text), "%s://%s:%u%s", services[service].scheme, r->target,
                       (unsigned)r->port, l->zone);
        if (endpoints__check(text, c->is_secure) == 0)
            (void)endpoints__list(c, text, FROM_DNS, l->id, NULL);
    }
}

/* One service alone may be all that a domain has; but that it has no other must be said. */
static bool is_answered(const struct service_lookup *l)
{
    bool any = false;
    for (int i = 0; i < SERVICES_COUNT; i++) {
        if (l->counts[i] < 0 && l->counts[i] != TV_ENOTFOUND)
            return false;
        any = any || l->counts[i] > 0;
    }
    return any;
}

static void on_service(uv_work_t *req, int status)
{
    struct service_lookup *l = CONTAINER_OF(req, struct service_lookup, req);
    struct trivet_client *c = l->client;
    c->lookups--;
    if (status == 0 && !c->stopped && is_answered(l)) {
        endpoints__begin_list(c, FROM_DNS, l->id);
        for (int i = 0; i < SERVICES_COUNT; i++)
            add_service(l, i);
        endpoints__end_list(c, FROM_DNS, l->id);
    } else if (!c->stopped) {
        (void)snprintf(c->connect_error, sizeof(c->connect_error), "%s",
                       status == 0 ? l->why : uv_strerror(status));
    }
    mem_free(l);
}

static void look_up_service(struct trivet_client *c, uint32_t id)
{
    const char *text = c->o.endpoints[id] + strlen("srv://");
    struct service_lookup *l = mem_try_alloc_zero(sizeof(*l));
    if (l == NULL)
        return; /* the next time */
    l->client = c;
    l->id = id;
    size_t size = strcspn(text, ";/");
    (void)snprintf(l->domain, sizeof(l->domain), "%.*s", (int)size, text);
    (void)snprintf(l->zone, sizeof(l->zone), "%s", text + strcspn(text, ";"));
    if (uv_queue_work(&c->loop, &l->req, ask_for_service, on_service) == 0)
        c->lookups++;
    else
        mem_free(l);
}

static void look_up_all(struct trivet_client *c)
{
    if (c->lookups > 0)
        return;
    for (uint32_t i = 0; i < c->o.endpoints_count; i++) {
        if (is_service(c->o.endpoints[i]))
            look_up_service(c, i);
        else if (is_name(c->o.endpoints[i]))
            look_up(c, i);
    }
}

/* --- a file --- */

/* False: there was no memory for some of them. */
static bool read_lines(struct trivet_client *c, char *text)
{
    char *rest = text, *line;
    bool all = true;
    endpoints__begin_list(c, FROM_FILE, 0);
    while ((line = strsep(&rest, "\n")) != NULL) {
        line[strcspn(line, "#\r")] = '\0';
        line += strspn(line, " \t");
        line[strcspn(line, " \t")] = '\0';
        if (line[0] == '\0')
            continue;
        if (endpoints__check(line, c->is_secure) == 0 && !is_name(line))
            all = endpoints__list(c, line, FROM_FILE, 0, NULL) && all;
        else
            (void)snprintf(c->connect_error, sizeof(c->connect_error),
                           "\"%.100s\" in the file is not an endpoint", line);
    }
    endpoints__end_list(c, FROM_FILE, 0);
    return all;
}

static bool has_changed(struct trivet_client *c, const struct stat *st)
{
    struct file_seen now = {.modified = st->st_mtim, .size = st->st_size, .inode = st->st_ino};
    bool same = now.modified.tv_sec == c->file.modified.tv_sec &&
                now.modified.tv_nsec == c->file.modified.tv_nsec && now.size == c->file.size &&
                now.inode == c->file.inode;
    c->file = now;
    return !same;
}

/* What cannot be read leaves the endpoints as they were. */
static void read_file(struct trivet_client *c)
{
    struct stat st;
    FILE *f = fopen(c->o.endpoints_file, "re");
    if (f == NULL || fstat(fileno(f), &st) != 0) {
        (void)snprintf(c->connect_error, sizeof(c->connect_error), "cannot read %.200s",
                       c->o.endpoints_file);
    } else if (has_changed(c, &st)) {
        char *text = mem_try_alloc(FILE_BYTES_MAX + 1);
        size_t size = text == NULL ? 0 : fread(text, 1, FILE_BYTES_MAX, f);
        if (size > 0)
            text[size] = '\0';
        if (text == NULL || (size > 0 && !read_lines(c, text)))
            c->file = (struct file_seen){0}; /* once more the next time */
        mem_free(text);
    }
    if (f != NULL)
        (void)fclose(f);
}

/* --- the members --- */

static void on_members(struct call *call, const struct call_end *end)
{
    struct trivet_client *c = call->client;
    struct trivet_result r;
    char error[1], url[ENDPOINT_TEXT_BYTES];
    c->asking_members = false;
    if (c->stopped || end->status != TRIVET_OK)
        return;
    result__borrow(call, end, &r, error, sizeof(error));
    if (r.status != TRIVET_OK || r.u.member.members_count == 0)
        return;
    endpoints__begin_list(c, FROM_MEMBERS, 0);
    for (uint32_t i = 0; i < r.u.member.members_count; i++) {
        const struct trivet_member *m = &r.u.member.members[i];
        if (m->client_urls_count == 0 || m->client_urls[0].size >= sizeof(url))
            continue;
        (void)snprintf(url, sizeof(url), "%.*s", (int)m->client_urls[0].size,
                       (const char *)m->client_urls[0].data);
        /* Nobody talks us out of TLS. */
        if (c->is_secure && strncmp(url, "http://", strlen("http://")) == 0)
            continue;
        if (endpoints__check(url, c->is_secure) == 0 && !is_name(url))
            (void)endpoints__list(c, url, FROM_MEMBERS, 0, NULL);
    }
    endpoints__end_list(c, FROM_MEMBERS, 0);
}

static void ask_members(struct trivet_client *c)
{
    struct trivet_request q = {.method = TRIVET_MEMBER_LIST};
    if (c->asking_members)
        return;
    q.u.member.linearizable = true;
    struct call *call = rpc__new_own(c, &q, BALANCER_NONE, MEMBERS_TIMEOUT_MS, on_members, NULL);
    if (call == NULL)
        return;
    c->asking_members = true;
    rpc__begin(call);
}

/* --- when --- */

static void look(struct trivet_client *c)
{
    if (c->o.endpoints_file != NULL)
        read_file(c);
    look_up_all(c);
    if (c->o.members_refresh)
        ask_members(c);
}

bool discover__begin(struct trivet_client *c)
{
    bool all = true;
    endpoints__begin_list(c, FROM_OPTIONS, 0);
    for (uint32_t i = 0; i < c->o.endpoints_count; i++)
        if (!is_name(c->o.endpoints[i]))
            all = endpoints__list(c, c->o.endpoints[i], FROM_OPTIONS, 0, NULL) && all;
    endpoints__end_list(c, FROM_OPTIONS, 0);
    return all;
}

void discover__tick(struct trivet_client *c, uint64_t now_ns)
{
    if (now_ns < c->look_ns)
        return;
    c->look_ns = c->o.endpoints_interval_ms == 0 ? UINT64_MAX
                                                 : now_ns + c->o.endpoints_interval_ms * NS_PER_MS;
    look(c);
}
