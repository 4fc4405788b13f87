#include "server/ports.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

const char ports_metrics[] = "metrics";

enum { DIR_BYTES = 4096, HOSTS_MAX = 2 * URLS_MAX };

/* The flags of one side, after --auto-tls. */
struct side {
    const struct config_tls *c;
    const char *name; /* "client" or "peer" */
    char made_cert[DIR_BYTES + 16], made_key[DIR_BYTES + 16];
    bool made; /* by --auto-tls: nothing else of the flags holds then */
};

/* --- what is said --- */

static void on_said(void *ctx, const char *file, const char *why)
{
    if (why == NULL)
        log_info("TLS files have changed and are used from now on", LOG_STR("side", ctx),
                 LOG_STR("file", file));
    else
        log_warn("a TLS file cannot be used; what was read before stays", LOG_STR("side", ctx),
                 LOG_STR("file", file), LOG_STR("error", why));
}

static void on_rejected(void *ctx, const char *remote, const char *why)
{
    char text[64];
    snprintf(text, sizeof(text), "rejected connection on %s endpoint", (const char *)ctx);
    if (strcmp(why, "EOF") == 0)
        log_debug(text, LOG_STR("remote-addr", remote), LOG_STR("error", why));
    else
        log_warn(text, LOG_STR("remote-addr", remote), LOG_STR("error", why));
}

/* --- certificates that are made --- */

static uint32_t hosts_of(const struct urls *urls, char (*hosts)[URL_HOST_BYTES_MAX + 1],
                         uint32_t count)
{
    uint16_t port;
    for (uint32_t i = 0; i < urls->count; i++)
        if (!url_is_path(urls->items[i]))
            url_host_port(urls->items[i], hosts[count++], URL_HOST_BYTES_MAX + 1, &port);
    return count;
}

static int make_certificate(const struct config *c, struct side *s, const struct urls *urls,
                            const struct urls *more, char *err_text, size_t err_size)
{
    char dir[DIR_BYTES], hosts[HOSTS_MAX][URL_HOST_BYTES_MAX + 1];
    const char *pointers[HOSTS_MAX];
    if (!s->c->auto_tls)
        return 0;
    if (s->c->cert_file[0] != '\0' || s->c->key_file[0] != '\0') {
        log_warn(s->name[0] == 'p' ? "ignoring peer auto TLS since certs given"
                                   : "ignoring client auto TLS since certs given");
        return 0;
    }
    snprintf(dir, sizeof(dir), "%s/fixtures/%s", c->data_dir, s->name);
    uint32_t count = hosts_of(urls, hosts, 0);
    if (more != NULL)
        count = hosts_of(more, hosts, count);
    for (uint32_t i = 0; i < count; i++)
        pointers[i] = hosts[i];
    s->made = true;
    snprintf(s->made_cert, sizeof(s->made_cert), "%s/cert.pem", dir);
    snprintf(s->made_key, sizeof(s->made_key), "%s/key.pem", dir);
    return tls_self_sign(dir, pointers, count, c->self_signed_years, err_text, err_size);
}

/* --- contexts --- */

static bool is_empty(const struct side *s)
{
    return !s->made && s->c->cert_file[0] == '\0' && s->c->key_file[0] == '\0';
}

static struct tls_options options_of(const struct config *c, const struct side *s)
{
    char unused[128];
    struct tls_options o = {.cert_file = s->made ? s->made_cert : s->c->cert_file,
                            .key_file = s->made ? s->made_key : s->c->key_file,
                            .cipher_suites = c->cipher_suites,
                            .said = on_said,
                            .rejected = on_rejected,
                            .ctx = (void *)s->name};
    (void)tls_version_parse(c->tls_version_min, &o.version_min, unused, sizeof(unused));
    (void)tls_version_parse(c->tls_version_max, &o.version_max, unused, sizeof(unused));
    if (s->made)
        return o;
    o.ca_file = s->c->ca_file;
    o.crl_file = s->c->crl_file;
    o.client_auth = s->c->client_cert_auth;
    o.allowed_cns = s->c->allowed_cns;
    o.allowed_hostnames = s->c->allowed_hostnames;
    return o;
}

static int serve(const struct config *c, const struct side *s, bool san_check,
                 struct tls_context **ret, char *err_text, size_t err_size)
{
    struct tls_options o = options_of(c, s);
    o.is_server = true;
    o.client_san_check = san_check;
    *ret = tls_context_new(&o, err_text, err_size);
    return *ret == NULL ? TV_EINVAL : 0;
}

/* As a client of that side. */
static int connect_to(const struct config *c, const struct side *s, struct tls_context **ret,
                      char *err_text, size_t err_size)
{
    struct tls_options o = options_of(c, s);
    const char *cert = s->c->client_cert_file, *key = s->c->client_key_file;
    if (!is_empty(s) && (cert[0] == '\0') != (key[0] == '\0')) {
        snprintf(err_text, err_size,
                 "ClientKeyFile and ClientCertFile must both be present or both absent: key: %s, "
                 "cert: %s]",
                 key, cert);
        return TV_EINVAL;
    }
    if (cert[0] != '\0' && !s->made && !is_empty(s)) {
        o.cert_file = cert;
        o.key_file = key;
    }
    o.crl_file = NULL; /* as etcd: of those who connect to us */
    o.insecure_skip_verify = s->made;
    *ret = tls_context_new(&o, err_text, err_size);
    return *ret == NULL ? TV_EINVAL : 0;
}

/* --- addresses --- */

static bool any_secure(const struct urls *urls)
{
    for (uint32_t i = 0; i < urls->count; i++)
        if (url_is_secure(urls->items[i]))
            return true;
    return false;
}

static void warn_of_plain(const struct side *s, const char *url)
{
    bool peer = s->name[0] == 'p';
    if (url_is_secure(url))
        return;
    if (!is_empty(s))
        log_warn(peer ? "scheme is HTTP while key and cert files are present; ignoring key and "
                        "cert files"
                      : "scheme is http or unix while key and cert files are present; ignoring "
                        "key and cert files",
                 LOG_STR(peer ? "peer-url" : "client-url", url));
    if (s->c->client_cert_auth)
        log_warn(peer ? "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client "
                        "cert auth for this URL"
                      : "scheme is http or unix while --client-cert-auth is enabled; ignoring "
                        "client cert auth for this URL",
                 LOG_STR(peer ? "peer-url" : "client-url", url));
}

static struct listen_port *find(struct listen_port *ports, uint32_t count, const char *url)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(url_address(ports[i].url), url_address(url)) == 0)
            return &ports[i];
    return NULL;
}

static void add(struct listen_port *ports, uint32_t *count, const char *url,
                struct tls_context *tls)
{
    struct listen_port *p = find(ports, *count, url);
    if (p == NULL) {
        p = &ports[(*count)++];
        p->url = url;
    }
    if (url_is_secure(url))
        p->port.tls = tls;
    else
        p->port.plain = true;
}

static int check_client_urls(const struct side *s, const struct urls *urls, char *err_text,
                             size_t err_size)
{
    for (uint32_t i = 0; i < urls->count; i++) {
        warn_of_plain(s, urls->items[i]);
        if (!url_is_secure(urls->items[i]) || !is_empty(s))
            continue;
        snprintf(err_text, err_size,
                 "TLS key/cert (--cert-file, --key-file) must be provided for client url %s with "
                 "HTTPS scheme",
                 urls->items[i]);
        return TV_EINVAL;
    }
    return 0;
}

static int add_clients(const struct config *c, struct ports *p, char *err_text, size_t err_size)
{
    bool split = c->listen_client_http_urls.count > 0;
    for (uint32_t i = 0; i < c->listen_client_urls.count; i++)
        add(p->clients, &p->clients_count, c->listen_client_urls.items[i], p->clients_tls);
    uint32_t grpc_count = p->clients_count;
    for (uint32_t i = 0; i < grpc_count; i++)
        p->clients[i].port.no_http1 = split;
    for (uint32_t i = 0; i < c->listen_client_http_urls.count; i++) {
        const char *url = c->listen_client_http_urls.items[i];
        if (find(p->clients, grpc_count, url) != NULL) {
            snprintf(err_text, err_size,
                     "cannot bind both --listen-client-urls and --listen-client-http-urls on the "
                     "same url %s",
                     url);
            return TV_EINVAL;
        }
        add(p->clients, &p->clients_count, url, p->clients_tls);
    }
    for (uint32_t i = grpc_count; i < p->clients_count; i++)
        p->clients[i].port.no_grpc = true;
    return 0;
}

/* --- the two sides --- */

static int open_peers(const struct config *c, struct ports *p, char *err_text, size_t err_size)
{
    const struct urls *urls = &c->listen_peer_urls;
    struct side s = {.c = &c->peer_tls, .name = "peer"};
    int err = make_certificate(c, &s, urls, NULL, err_text, err_size);
    for (uint32_t i = 0; err == 0 && i < urls->count; i++) {
        warn_of_plain(&s, urls->items[i]);
        if (!url_is_secure(urls->items[i]) || !is_empty(&s))
            continue;
        snprintf(err_text, err_size,
                 "cannot listen on TLS for %s: KeyFile and CertFile are not presented",
                 url_address(urls->items[i]));
        err = TV_EINVAL;
    }
    if (err == 0 && any_secure(urls))
        err = serve(c, &s, !c->peer_tls.skip_client_san, &p->peers_tls, err_text, err_size);
    for (uint32_t i = 0; err == 0 && i < urls->count; i++)
        add(p->peers, &p->peers_count, urls->items[i], p->peers_tls);
    return err == 0 ? connect_to(c, &s, &p->to_peers, err_text, err_size) : err;
}

/* RFC 9113, 9.2.2, as Go's http2 asks for it of whoever serves HTTP. */
static int check_http2_cipher(const struct config *c, char *err_text, size_t err_size)
{
    if (*c->cipher_suites == '\0' ||
        strstr(c->cipher_suites, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256") != NULL ||
        strstr(c->cipher_suites, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256") != NULL)
        return 0;
    snprintf(err_text, err_size,
             "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 "
             "cipher (need at least one of TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or "
             "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)");
    return TV_EINVAL;
}

static int open_clients(const struct config *c, struct ports *p, char *err_text, size_t err_size)
{
    struct side s = {.c = &c->client_tls, .name = "client"};
    struct tls_context *unused = NULL;
    int err = make_certificate(c, &s, &c->listen_client_urls, &c->listen_client_http_urls, err_text,
                               err_size);
    if (err == 0)
        err = check_client_urls(&s, &c->listen_client_urls, err_text, err_size);
    if (err == 0)
        err = check_client_urls(&s, &c->listen_client_http_urls, err_text, err_size);
    if (err == 0 && any_secure(&c->listen_metrics_urls) && is_empty(&s)) {
        snprintf(err_text, err_size,
                 "client TLS key/cert (--cert-file, --key-file) must be "
                 "provided for metrics secure url");
        err = TV_EINVAL;
    }
    if (err == 0 && (any_secure(&c->listen_client_http_urls) ||
                     (any_secure(&c->listen_client_urls) && c->listen_client_http_urls.count == 0)))
        err = check_http2_cipher(c, err_text, err_size);
    if (err == 0 && (any_secure(&c->listen_client_urls) || any_secure(&c->listen_client_http_urls)))
        err = serve(c, &s, false, &p->clients_tls, err_text, err_size);
    if (err == 0 && any_secure(&c->listen_metrics_urls))
        err = serve(c, &s, true, &p->metrics_tls, err_text, err_size);
    /* Nobody here connects to clients' addresses; but what is wrong with the files is said. */
    if (err == 0 && !is_empty(&s) && (p->clients_tls != NULL || p->metrics_tls != NULL))
        err = connect_to(c, &s, &unused, err_text, err_size);
    tls_context_free(unused);
    if (err == 0)
        err = add_clients(c, p, err_text, err_size);
    for (uint32_t i = 0; err == 0 && i < c->listen_metrics_urls.count; i++)
        add(p->metrics, &p->metrics_count, c->listen_metrics_urls.items[i], p->metrics_tls);
    for (uint32_t i = 0; i < p->metrics_count; i++) {
        p->metrics[i].port.no_grpc = true;
        p->metrics[i].port.owner = ports_metrics;
    }
    return err;
}

int ports_open(const struct config *config, struct ports *ret, char *err_text, size_t err_size)
{
    *ret = (struct ports){0};
    int err = tls_ciphers_check(config->cipher_suites, err_text, err_size);
    if (err == 0)
        err = open_peers(config, ret, err_text, err_size);
    if (err == 0)
        err = open_clients(config, ret, err_text, err_size);
    return err;
}

void ports_close(struct ports *p)
{
    tls_context_free(p->to_peers);
    tls_context_free(p->clients_tls);
    tls_context_free(p->metrics_tls);
    tls_context_free(p->peers_tls);
    *p = (struct ports){0};
}
