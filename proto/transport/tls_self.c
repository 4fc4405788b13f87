/* Certificates that vouch for themselves, for --auto-tls: as etcd's SelfCert() makes them. */
#include "proto/tls.h"

#include "base/err.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SELF_PATH_BYTES = 4096, SERIAL_BYTES = 16, DAYS_OF_YEAR = 365 };

static bool add_host(GENERAL_NAMES *names, const char *host)
{
    uint8_t ip[16];
    size_t ip_size = inet_pton(AF_INET, host, ip) == 1    ? 4
                     : inet_pton(AF_INET6, host, ip) == 1 ? 16
                                                          : 0;
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *value = ASN1_STRING_type_new(ip_size > 0 ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    if (name == NULL || value == NULL ||
        ASN1_STRING_set(value, ip_size > 0 ? (const void *)ip : host,
                        (int)(ip_size > 0 ? ip_size : strlen(host))) != 1 ||
        sk_GENERAL_NAME_push(names, name) == 0) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(value);
        return false;
    }
    GENERAL_NAME_set0_value(name, ip_size > 0 ? GEN_IPADD : GEN_DNS, value);
    return true;
}

static bool add_hosts(X509 *cert, const char *const *hosts, uint32_t hosts_count)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool ok = names != NULL;
    for (uint32_t i = 0; ok && i < hosts_count; i++)
        ok = hosts[i][0] == '\0' || add_host(names, hosts[i]);
    if (ok && sk_GENERAL_NAME_num(names) > 0)
        ok = X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return ok;
}

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    bool ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

static bool set_serial(X509 *cert)
{
    uint8_t bytes[SERIAL_BYTES];
    BIGNUM *number =
        RAND_bytes(bytes, sizeof(bytes)) == 1 ? BN_bin2bn(bytes, sizeof(bytes), NULL) : NULL;
    bool ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return ok;
}

static bool fill(X509 *cert, EVP_PKEY *key, const char *const *hosts, uint32_t hosts_count,
                 uint32_t years)
{
    X509_NAME *name = X509_get_subject_name(cert);
    return X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
           X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"trivet", -1,
                                      -1, 0) == 1 &&
           X509_set_issuer_name(cert, name) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(cert), 0) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(cert), (int)years * DAYS_OF_YEAR, 0, NULL) != NULL &&
           X509_set_pubkey(cert, key) == 1 &&
           add_extension(cert, NID_key_usage,
                         "critical,digitalSignature,keyEncipherment,cRLSign") &&
           add_extension(cert, NID_ext_key_usage, "serverAuth") &&
           add_extension(cert, NID_basic_constraints, "critical,CA:TRUE") &&
           add_hosts(cert, hosts, hosts_count) && X509_sign(cert, key, EVP_sha512()) > 0;
}

/* Whole or not at all: written beside its place, then moved. */
static int write_pem(const char *path, X509 *cert, EVP_PKEY *key)
{
    char temporary[SELF_PATH_BYTES + 8];
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (file == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return TV_EIO;
    }
    bool ok = cert != NULL ? PEM_write_X509(file, cert) == 1
                           : PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1;
    ok = fclose(file) == 0 && ok;
    return ok && rename(temporary, path) == 0 ? 0 : TV_EIO;
}

static int make_dirs(const char *dir)
{
    char path[SELF_PATH_BYTES];
    snprintf(path, sizeof(path), "%s", dir);
    for (char *at = path + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char end = *at;
        *at = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return TV_EIO;
        if (end == '\0')
            return 0;
        *at = end;
    }
}

int tls_self_sign(const char *dir, const char *const *hosts, uint32_t hosts_count, uint32_t years,
                  char *err_text, size_t err_size)
{
    char cert_path[SELF_PATH_BYTES], key_path[SELF_PATH_BYTES];
    if (years == 0) {
        snprintf(err_text, err_size,
                 "selfSignedCertValidity is invalid,it should be greater than 0");
        return TV_EINVAL;
    }
    if (snprintf(cert_path, sizeof(cert_path), "%s/cert.pem", dir) >= SELF_PATH_BYTES ||
        make_dirs(dir) != 0) {
        snprintf(err_text, err_size, "cannot create cert directory %s: %s", dir, strerror(errno));
        return TV_EIO;
    }
    snprintf(key_path, sizeof(key_path), "%s/key.pem", dir);
    if (access(cert_path, F_OK) == 0 && access(key_path, F_OK) == 0)
        return 0;
    X509 *cert = X509_new();
    EVP_PKEY *key = EVP_EC_gen("P-521");
    int rv = TV_EIO;
    if (cert == NULL || key == NULL || !fill(cert, key, hosts, hosts_count, years))
        snprintf(err_text, err_size, "cannot generate a certificate");
    else if (write_pem(key_path, NULL, key) != 0 || write_pem(cert_path, cert, NULL) != 0)
        snprintf(err_text, err_size, "cannot write to %s: %s", dir, strerror(errno));
    else
        rv = 0;
    X509_free(cert);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return rv;
}
