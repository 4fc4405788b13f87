/* Members by the SRV records of a domain, as etcd's client/pkg/srv reads them. */
#include "server/discovery.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ANSWER_BYTES_MAX = 65535, HEAD_BYTES = 12, RECORD_BYTES = 10, CLASS_IN = 1, TYPE_SRV = 33 };

/* --- DNS --- */

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* Behind the name at `p`; NULL when it is malformed. */
static const uint8_t *take_name(const uint8_t *answer, const uint8_t *end, const uint8_t *p,
                                char *ret, size_t size)
{
    if (p >= end)
        return NULL;
    int taken = dn_expand(answer, end, p, ret, (int)size);
    return taken < 0 || taken > end - p ? NULL : p + taken;
}

static int by_priority(const void *a, const void *b)
{
    const struct srv_record *x = a, *y = b;
    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return strcmp(x->target, y->target);
}

int srv_parse(const uint8_t *answer, size_t size, struct srv_record ret[SRV_RECORDS_MAX])
{
    const uint8_t *end = answer + size, *p = answer + HEAD_BYTES;
    char name[256];
    int count = 0;
    if (size < HEAD_BYTES)
        return TV_EMALFORMED;
    uint32_t questions = get16(answer + 4), records = get16(answer + 6);
    for (; questions > 0; questions--) {
        p = take_name(answer, end, p, name, sizeof(name));
        if (p == NULL || end - p < 4)
            return TV_EMALFORMED;
        p += 4;
    }
    for (; records > 0 && count < SRV_RECORDS_MAX; records--) {
        p = take_name(answer, end, p, name, sizeof(name));
        if (p == NULL || end - p < RECORD_BYTES || end - p - RECORD_BYTES < get16(p + 8))
            return TV_EMALFORMED;
        const uint8_t *body = p + RECORD_BYTES, *next = body + get16(p + 8);
        if (get16(p) == TYPE_SRV && get16(p + 2) == CLASS_IN) {
            struct srv_record *r = &ret[count];
            if (next - body < 7 ||
                take_name(answer, end, body + 6, r->target, sizeof(r->target)) == NULL)
                return TV_EMALFORMED;
            r->priority = get16(body);
            r->weight = get16(body + 2);
            r->port = get16(body + 4);
            count++;
        }
        p = next;
    }
    qsort(ret, (size_t)count, sizeof(ret[0]), by_priority);
    return count;
}

/* How many, or TV_*: with the reason. */
static int look_up(const char *service, const char *domain, struct srv_record *ret, char *why,
                   size_t why_size)
{
    char name[512];
    uint8_t *answer = mem_alloc(ANSWER_BYTES_MAX);
    snprintf(name, sizeof(name), "_%s._tcp.%s", service, domain);
    int size = res_query(name, CLASS_IN, TYPE_SRV, answer, ANSWER_BYTES_MAX);
    int count = size < 0 ? TV_ENOTFOUND : srv_parse(answer, (size_t)size, ret);
    if (count <= 0)
        snprintf(why, why_size, "error querying DNS SRV records for _%s lookup %s: %s", service,
                 name,
                 size < 0 && (h_errno == TRY_AGAIN || h_errno == NO_RECOVERY) ? "server misbehaving"
                 : count == TV_EMALFORMED ? "the answer is malformed"
                                          : "no such host");
    mem_free(answer);
    return count == 0 ? TV_ENOTFOUND : count;
}

/* --- which of them is this member --- */

struct address {
    char text[NI_MAXHOST + NI_MAXSERV + 1];
};

static bool resolve(const char *host, uint16_t port, struct address *ret)
{
    char service[8], numeric[NI_MAXHOST], numeric_port[NI_MAXSERV];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return false;
    const struct addrinfo *best = found;
    for (const struct addrinfo *it = found; it != NULL; it = it->ai_next) {
        if (it->ai_family == AF_INET) { /* as Go prefers it */
            best = it;
            break;
        }
    }
    bool ok = getnameinfo(best->ai_addr, best->ai_addrlen, numeric, sizeof(numeric), numeric_port,
                          sizeof(numeric_port), NI_NUMERICHOST | NI_NUMERICSERV) == 0;
    if (ok)
        snprintf(ret->text, sizeof(ret->text), "%s:%s", numeric, numeric_port);
    freeaddrinfo(found);
    return ok;
}

/* The URL that this member advertises for that address; NULL: it is another's. */
static const char *own_url(const struct config *c, const struct address *own,
                           const struct address *a)
{
    for (uint32_t i = 0; i < c->advertise_peer_urls.count; i++)
        if (strcmp(own[i].text, a->text) == 0)
            return c->advertise_peer_urls.items[i];
    return NULL;
}

static bool resolve_own(const struct config *c, struct address *ret, char *why, size_t why_size)
{
    for (uint32_t i = 0; i < c->advertise_peer_urls.count; i++) {
        char host[URL_BYTES_MAX];
        uint16_t port;
        const char *url = c->advertise_peer_urls.items[i];
        if (url_is_path(url))
            continue;
        url_host_port(url, host, sizeof(host), &port);
        if (!resolve(host, port, &ret[i])) {
            snprintf(why, why_size, "lookup %.200s: no such host", host);
            return false;
        }
    }
    return true;
}

static void add(struct buf *out, const char *name, const char *scheme, const struct srv_record *r)
{
    char text[512];
    bool v6 = strchr(r->target, ':') != NULL;
    int size = snprintf(text, sizeof(text), "%s%s=%s://%s%s%s:%u", out->size > 0 ? "," : "", name,
                        scheme, v6 ? "[" : "", r->target, v6 ? "]" : "", r->port);
    (void)buf_append(out, text, (size_t)size); /* at most 2 times 64 of them */
}

/* All of one service; TV_ENOTFOUND, with the reason. */
static int add_service(const struct config *c, const char *scheme, const char *service,
                       struct buf *out, char *why, size_t why_size)
{
    struct srv_record records[SRV_RECORDS_MAX];
    struct address own[URLS_MAX] = {0}, a;
    char name[64], mismatch[900] = "";
    uint32_t others = 0;
    size_t before = out->size;
    if (!resolve_own(c, own, why, why_size))
        return TV_ENOTFOUND;
    int count = look_up(service, c->discovery_srv, records, why, why_size);
    for (int i = 0; i < count; i++) {
        if (!resolve(records[i].target, records[i].port, &a)) {
            snprintf(mismatch, sizeof(mismatch), "lookup %.250s: no such host", records[i].target);
            continue;
        }
        const char *url = own_url(c, own, &a);
        if (url == NULL || *c->name == '\0')
            snprintf(name, sizeof(name), "%u", others++);
        size_t scheme_size = strlen(scheme);
        if (url == NULL || (strncmp(url, scheme, scheme_size) == 0 && url[scheme_size] == ':'))
            add(out, url != NULL && *c->name != '\0' ? c->name : name, scheme, &records[i]);
        else
            snprintf(mismatch, sizeof(mismatch),
                     "bootstrap at %s://%.250s:%u from DNS for %s has scheme mismatch with "
                     "expected peer %s",
                     scheme, records[i].target, records[i].port, service, url);
    }
    if (count > 0 && out->size == before) {
        snprintf(why, why_size, "error querying DNS SRV records for _%s %s", service, mismatch);
        return TV_ENOTFOUND;
    }
    return count < 0 ? TV_ENOTFOUND : 0;
}

static void report(const struct config *c, const char *scheme, const char *service,
                   struct slice found, const char *why)
{
    char message[96];
    snprintf(message, sizeof(message), "get cluster for %.60s SRV",
             strcmp(scheme, "https") == 0 ? "etcd-server-ssl" : "etcd-server");
    struct log_field fields[] = {
        LOG_STR("service-scheme", scheme), LOG_STR("service-name", service),
        LOG_STR("server-name", c->name),   LOG_STR("discovery-srv", c->discovery_srv),
        LOG_SLICE("found-cluster", found), LOG_STR("error", why)};
    log_write(LOG_INFO, __FILE__, __LINE__, message, fields, *why == '\0' ? 5 : 6);
}

static bool names_us(const struct config *c, struct slice list)
{
    char wanted[300];
    int size = snprintf(wanted, sizeof(wanted), "%.250s=", c->name);
    for (const uint8_t *at = list.data, *end = at + list.size; at != NULL && at < end;) {
        if ((size_t)(end - at) > (size_t)size && memcmp(at, wanted, (size_t)size) == 0)
            return true;
        at = memchr(at, ',', (size_t)(end - at));
        at = at == NULL ? NULL : at + 1;
    }
    return false;
}

int discovery_srv(const struct config *c, struct buf *ret, char *err_text, size_t err_size)
{
    char services[2][128], why[2][1400] = {"", ""};
    static const char *const schemes[] = {"https", "http"};
    const char *dash = *c->discovery_srv_name == '\0' ? "" : "-";
    snprintf(services[0], sizeof(services[0]), "etcd-server-ssl%s%.90s", dash,
             c->discovery_srv_name);
    snprintf(services[1], sizeof(services[1]), "etcd-server%s%.90s", dash, c->discovery_srv_name);
    bool found = false;
    for (uint32_t i = 0; i < 2; i++) {
        size_t before = ret->size;
        int err = add_service(c, schemes[i], services[i], ret, why[i], sizeof(why[i]));
        found |= err == 0 && ret->size > before;
        report(c, schemes[i], services[i], slice_of(ret->data + before, ret->size - before),
               why[i]);
    }
    if (!found)
        snprintf(err_text, err_size, "error setting up initial cluster: %.220s\n%.220s", why[0],
                 why[1]);
    else if (!names_us(c, buf_slice(ret)))
        snprintf(
            err_text, err_size,
            "error setting up initial cluster: cannot find local etcd member \"%.200s\" in SRV "
            "records",
            c->name);
    else
        return 0;
    return TV_EINVAL;
}
