/* Whom we believe: a chain to the CAs, a use that fits, no revoked number, a name that is allowed.
 * The rules are Go's crypto/x509 and etcd's client/pkg/transport. */
#include "tls.h"

#include "base/assert.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names are looked for where Go looks: not in the subject. */
enum { HOST_FLAGS = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS };

/* --- what is revoked --- */

static int compare_serials(const void *a, const void *b)
{
    return ASN1_INTEGER_cmp(*(ASN1_INTEGER *const *)a, *(ASN1_INTEGER *const *)b);
}

void tls__revoked_free(struct tls_revoked *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->count; i++)
        ASN1_INTEGER_free(r->serials[i]);
    mem_free(r->serials);
    mem_free(r);
}

static void add_all(struct tls_revoked *r, X509_CRL *crl)
{
    STACK_OF(X509_REVOKED) *list = X509_CRL_get_REVOKED(crl);
    int count = list == NULL ? 0 : sk_X509_REVOKED_num(list);
    r->serials = mem_realloc(r->serials, (r->count + (size_t)count + 1) * sizeof(*r->serials));
    for (int i = 0; i < count; i++) {
        const X509_REVOKED *one = sk_X509_REVOKED_value(list, i);
        ASN1_INTEGER *serial = ASN1_INTEGER_dup(X509_REVOKED_get0_serialNumber(one));
        if (serial != NULL)
            r->serials[r->count++] = serial;
    }
}

struct tls_revoked *tls__revoked_read(const char *path)
{
    BIO *file = BIO_new_file(path, "r");
    if (file == NULL)
        return NULL;
    struct tls_revoked *r = NULL;
    X509_CRL *crl = d2i_X509_CRL_bio(file, NULL);
    bool is_pem = crl == NULL;
    if (is_pem && BIO_reset(file) == 0)
        crl = PEM_read_bio_X509_CRL(file, NULL, NULL, NULL);
    while (crl != NULL) {
        if (r == NULL)
            r = mem_alloc_zero(sizeof(*r));
        add_all(r, crl);
        X509_CRL_free(crl);
        crl = is_pem ? PEM_read_bio_X509_CRL(file, NULL, NULL, NULL) : NULL;
    }
    BIO_free(file);
    ERR_clear_error();
    if (r != NULL)
        qsort(r->serials, r->count, sizeof(*r->serials), compare_serials);
    return r;
}

static bool is_revoked(const struct tls_revoked *r, const X509 *cert)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    return r->unknown || (r->count > 0 && bsearch(&serial, r->serials, r->count,
                                                  sizeof(*r->serials), compare_serials) != NULL);
}

static bool any_revoked(const struct tls_revoked *r, const STACK_OF(X509) * certs)
{
    for (int i = 0; r != NULL && certs != NULL && i < sk_X509_num(certs); i++)
        if (is_revoked(r, sk_X509_value(certs, i)))
            return true;
    return false;
}

/* --- names --- */

char *tls__common_name(const X509 *cert)
{
    const X509_NAME *subject = X509_get_subject_name(cert);
    int last = -1;
    for (int i; (i = X509_NAME_get_index_by_NID(subject, NID_commonName, last)) >= 0;)
        last = i;
    if (last < 0)
        return NULL;
    unsigned char *utf8;
    int size =
        ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last)));
    if (size < 0)
        return NULL;
    /* A zero byte in a name is there to deceive. */
    bool good = size > 0 && memchr(utf8, '\0', (size_t)size) == NULL;
    char *name = good ? mem_strdup((const char *)utf8) : NULL;
    OPENSSL_free(utf8);
    return name;
}

static bool is_ip(const char *text)
{
    struct in6_addr unused;
    return inet_pton(AF_INET, text, &unused) == 1 || inet_pton(AF_INET6, text, &unused) == 1;
}

/* Go's x509.Certificate.VerifyHostname(). */
static bool is_valid_for(X509 *cert, const char *name)
{
    if (is_ip(name))
        return X509_check_ip_asc(cert, name, 0) == 1;
    return X509_check_host(cert, name, 0, HOST_FLAGS, NULL) == 1;
}

static bool is_allowed(const struct tls_context *c, X509 *cert)
{
    char *cn = c->cns.count > 0 ? tls__common_name(cert) : NULL;
    bool allowed = c->cns.count == 0 && c->hostnames.count == 0;
    for (uint32_t i = 0; i < c->cns.count && !allowed; i++)
        allowed = strcmp(cn == NULL ? "" : cn, c->cns.items[i]) == 0;
    for (uint32_t i = 0; i < c->hostnames.count && !allowed; i++)
        allowed = is_valid_for(cert, c->hostnames.items[i]);
    mem_free(cn);
    return allowed;
}

/* --- in the handshake --- */

/* Extended key usage, of the whole chain: none is any. */
static bool fits_use(STACK_OF(X509) * chain, bool of_client)
{
    uint32_t wanted = (of_client ? XKU_SSL_CLIENT : XKU_SSL_SERVER) | XKU_ANYEKU;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *cert = sk_X509_value(chain, i);
        if ((X509_get_extension_flags(cert) & EXFLAG_XKUSAGE) != 0 &&
            (X509_get_extended_key_usage(cert) & wanted) == 0)
            return false;
    }
    return true;
}

static int refuse(X509_STORE_CTX *store, int error)
{
    X509_STORE_CTX_set_error(store, error);
    return 0;
}

int tls__verify(X509_STORE_CTX *store, void *arg)
{
    (void)arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    SSL_CTX *ctx = SSL_get_SSL_CTX(ssl);
    const struct tls_context *c = tls__context_of(ctx);
    bool verify = !c->o.insecure_skip_verify;
    if (verify && X509_verify_cert(store) <= 0)
        return X509_STORE_CTX_get_error(store) != X509_V_OK ? 0
                                                            : refuse(store, X509_V_ERR_UNSPECIFIED);
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
    if (verify && !fits_use(chain, c->o.is_server))
        return refuse(store, X509_V_ERR_INVALID_PURPOSE);
    /* As etcd: nothing was verified, so no name is allowed either. */
    if (!verify) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return c->cns.count == 0 && c->hostnames.count == 0
                   ? 1
                   : refuse(store, X509_V_ERR_CERT_REJECTED);
    }
    const struct tls_revoked *revoked = tls__revoked_of(ctx);
    if (any_revoked(revoked, chain) || any_revoked(revoked, X509_STORE_CTX_get0_untrusted(store)))
        return refuse(store, X509_V_ERR_CERT_REVOKED);
    if (!is_allowed(c, X509_STORE_CTX_get0_cert(store)))
        return refuse(store, X509_V_ERR_CERT_REJECTED);
    return 1;
}

bool tls__resumed_is_valid(SSL *ssl)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    return cert == NULL || (X509_cmp_current_time(X509_get0_notAfter(cert)) > 0 &&
                            SSL_get_verify_result(ssl) == X509_V_OK);
}

/* --- where a client comes from --- */

static bool has_names(const GENERAL_NAMES *names, int type)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        if (sk_GENERAL_NAME_value(names, i)->type == type)
            return true;
    return false;
}

enum tls_san tls__check_san(X509 *cert, const char *ip)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    if (names == NULL)
        return TLS_SAN_GOOD;
    bool ips = has_names(names, GEN_IPADD), hosts = has_names(names, GEN_DNS);
    GENERAL_NAMES_free(names);
    if ((!ips && !hosts) || (ips && X509_check_ip_asc(cert, ip, 0) == 1))
        return TLS_SAN_GOOD;
    return hosts ? TLS_SAN_LOOK_UP : TLS_SAN_BAD;
}

static bool address_of(const char *ip, struct sockaddr_storage *ret, socklen_t *ret_size)
{
    struct sockaddr_in *in = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, ip, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        *ret_size = sizeof(*in);
        return true;
    }
    in6->sin6_family = AF_INET6;
    *ret_size = sizeof(*in6);
    return inet_pton(AF_INET6, ip, &in6->sin6_addr) == 1;
}

/* The name that the name servers have for the address. */
static bool is_name_of(const char *dns, const char *reverse)
{
    if (strncmp(dns, "*.", 2) != 0)
        return strcmp(dns, reverse) == 0;
    size_t suffix = strlen(dns + 1), size = strlen(reverse);
    return size >= suffix && strcmp(reverse + size - suffix, dns + 1) == 0;
}

static bool resolves_to(const char *dns, const char *ip)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    char text[NI_MAXHOST];
    bool same = false;
    if (strncmp(dns, "*.", 2) == 0 || getaddrinfo(dns, NULL, &hints, &found) != 0)
        return false;
    for (const struct addrinfo *a = found; a != NULL && !same; a = a->ai_next)
        same = getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0,
                           NI_NUMERICHOST) == 0 &&
               strcmp(text, ip) == 0;
    freeaddrinfo(found);
    return same;
}

bool tls__names_have_ip(X509 *cert, const char *ip)
{
    enum { NAMES_MAX = 16 }; /* of which each may wait for name servers */
    struct sockaddr_storage addr;
    socklen_t addr_size;
    char reverse[NI_MAXHOST] = "";
    bool found = false;
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    if (address_of(ip, &addr, &addr_size) &&
        getnameinfo((struct sockaddr *)&addr, addr_size, reverse, sizeof(reverse), NULL, 0,
                    NI_NAMEREQD) != 0)
        reverse[0] = '\0';
    for (int pass = 0, seen = 0; pass < 2 && names != NULL; pass++, seen = 0) {
        for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found && seen < NAMES_MAX; i++) {
            const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
            if (name->type != GEN_DNS)
                continue;
            const char *dns = (const char *)ASN1_STRING_get0_data(name->d.dNSName);
            if (strlen(dns) != (size_t)ASN1_STRING_length(name->d.dNSName))
                continue;
            seen++;
            found =
                pass == 0 ? reverse[0] != '\0' && is_name_of(dns, reverse) : resolves_to(dns, ip);
        }
    }
    GENERAL_NAMES_free(names);
    return found;
}
