/* Certificates made on the spot, for the tests of TLS: PEM files in a folder of their own. */
#ifndef TESTS_UNIT_TLS_CERTS_H
#define TESTS_UNIT_TLS_CERTS_H

#include <check.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cert {
    X509 *x509;
    EVP_PKEY *key;
    char cert_path[128];
    char key_path[128];
};

struct cert_options {
    const char *cn;
    const char *sans; /* "DNS:a,IP:1.2.3.4" */
    const char *eku;  /* "serverAuth,clientAuth" */
    bool is_ca;
    bool expired;
    int serial; /* 0: the next one */
};

static char certs_dir[64];

static inline void certs_begin(void)
{
    (void)snprintf(certs_dir, sizeof(certs_dir), "/tmp/trivet-certs-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(certs_dir));
}

static inline void certs_end(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -r %s", certs_dir);
    ck_assert_int_eq(system(command), 0);
}

static inline void cert_extend(X509 *x509, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    ck_assert_ptr_nonnull(ext);
    ck_assert_int_eq(X509_add_ext(x509, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

/* Put beside the old ones, then moved over them, as whoever renews certificates does. */
static inline void cert_write(const struct cert *c, const char *cert_path, const char *key_path)
{
    char path[160];
    (void)snprintf(path, sizeof(path), "%s.new", key_path);
    FILE *f = fopen(path, "w");
    ck_assert_int_eq(PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(f);
    ck_assert_int_eq(rename(path, key_path), 0);
    (void)snprintf(path, sizeof(path), "%s.new", cert_path);
    f = fopen(path, "w");
    ck_assert_int_eq(PEM_write_X509(f, c->x509), 1);
    (void)fclose(f);
    ck_assert_int_eq(rename(path, cert_path), 0);
}

/* Signed by `by`; NULL: by itself. The files are called after `name`. */
static inline void cert_make(struct cert *c, const char *name, const struct cert *by,
                             const struct cert_options *o)
{
    static int serial = 1000;
    c->x509 = X509_new();
    c->key = EVP_EC_gen("P-256");
    X509_NAME *subject = X509_get_subject_name(c->x509);
    ck_assert_int_eq(X509_set_version(c->x509, X509_VERSION_3), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(c->x509), o->serial != 0 ? o->serial : serial++);
    ck_assert_int_eq(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                                (const unsigned char *)o->cn, -1, -1, 0),
                     1);
    X509_set_issuer_name(c->x509, by == NULL ? subject : X509_get_subject_name(by->x509));
    X509_gmtime_adj(X509_getm_notBefore(c->x509), -7200);
    X509_gmtime_adj(X509_getm_notAfter(c->x509), o->expired ? -3600 : 86400);
    X509_set_pubkey(c->x509, c->key);
    if (o->is_ca)
        cert_extend(c->x509, NID_basic_constraints, "critical,CA:TRUE");
    if (o->sans != NULL)
        cert_extend(c->x509, NID_subject_alt_name, o->sans);
    if (o->eku != NULL)
        cert_extend(c->x509, NID_ext_key_usage, o->eku);
    ck_assert_int_gt(X509_sign(c->x509, by == NULL ? c->key : by->key, EVP_sha256()), 0);
    (void)snprintf(c->cert_path, sizeof(c->cert_path), "%s/%s.pem", certs_dir, name);
    (void)snprintf(c->key_path, sizeof(c->key_path), "%s/%s.key", certs_dir, name);
    cert_write(c, c->cert_path, c->key_path);
}

static inline void cert_fini(struct cert *c)
{
    X509_free(c->x509);
    EVP_PKEY_free(c->key);
}

/* A list by `ca` of what is revoked, `revoked` or nothing. */
static inline void crl_write(const char *path, const struct cert *ca, const struct cert *revoked,
                             bool der)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, 0), *then = X509_gmtime_adj(NULL, 86400);
    char temporary[160];
    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->x509));
    X509_CRL_set1_lastUpdate(crl, now);
    X509_CRL_set1_nextUpdate(crl, then);
    if (revoked != NULL) {
        X509_REVOKED *one = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(one, X509_get_serialNumber(revoked->x509));
        X509_REVOKED_set_revocationDate(one, now);
        X509_CRL_add0_revoked(crl, one);
    }
    ck_assert_int_gt(X509_CRL_sign(crl, ca->key, EVP_sha256()), 0);
    (void)snprintf(temporary, sizeof(temporary), "%s.new", path);
    FILE *f = fopen(temporary, "w");
    ck_assert_int_eq(der ? i2d_X509_CRL_fp(f, crl) : PEM_write_X509_CRL(f, crl), 1);
    (void)fclose(f);
    ck_assert_int_eq(rename(temporary, path), 0);
    ASN1_TIME_free(now);
    ASN1_TIME_free(then);
    X509_CRL_free(crl);
}

#endif
