/* Members by the SRV records of a domain, as etcd's client/pkg/srv reads them. */
#include "server/discovery.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/srv.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

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
    int count = srv_look_up(service, c->discovery_srv, records, why, why_size);
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
    if (log_wants(LOG_INFO, message))
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
