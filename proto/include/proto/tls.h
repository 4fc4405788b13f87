/* TLS for the transport, on OpenSSL: who we are, whom we believe, and what is negotiated.
 *
 * A context is made once for a server or for clients and shared by any number of loops and threads.
 * Its files are looked at (stat) whenever a connection begins; when one has changed, all are read
 * again for that and later connections. What cannot be read leaves the context as it was, and is
 * said once. Sessions that were made before a change are not resumed after it.
 *
 * Rules and texts are etcd's: client/pkg/transport of v3.7.1. */
#ifndef PROTO_TLS_H
#define PROTO_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_context;

enum tls_version { TLS_VERSION_DEFAULT = 0, TLS_VERSION_1_2 = 0x0303, TLS_VERSION_1_3 = 0x0304 };

/* NULL and "" are the same everywhere; all texts are copied. */
struct tls_options {
    bool is_server;
    const char *cert_file; /* of a client: none when empty */
    const char *key_file;
    const char *ca_file;  /* empty: the system's */
    const char *crl_file; /* PEM or DER; a certificate with a serial number in it is refused */

    /* Server: a certificate that the CAs vouch for is required. As in etcd, a ca_file asks for it
     * as well. */
    bool client_auth;
    /* Server: the addresses and names in a client's certificate, if it has any, must be those of
     * where it comes from. */
    bool client_san_check;
    bool insecure_skip_verify; /* client: believe anybody */

    /* Comma-separated; a peer's certificate has one of these CNs, or is valid for one of these
     * names. Not both. */
    const char *allowed_cns;
    const char *allowed_hostnames;

    const char *cipher_suites;    /* Go's names, comma-separated; up to TLS 1.2, as in Go */
    enum tls_version version_min; /* default TLS 1.2 */
    enum tls_version version_max; /* default: the highest there is */

    /* A file changed and was read again (why NULL), or cannot be used. Thread: any that opens
     * connections; not called from two at once. NULL allowed. */
    void (*said)(void *ctx, const char *file, const char *why);
    /* Server: a handshake came to nothing. Thread: the connection's. NULL allowed. */
    void (*rejected)(void *ctx, const char *remote, const char *why);
    void *ctx;
};

/* Errors: NULL; err_text says why. */
struct tls_context *tls_context_new(const struct tls_options *o, char *err_text, size_t err_size);
/* No connection uses it any more. NULL is allowed. */
void tls_context_free(struct tls_context *c);

/* "", "TLS1.2" or "TLS1.3". Errors: TV_EINVAL, in etcd's words. */
int tls_version_parse(const char *text, enum tls_version *ret, char *err_text, size_t err_size);
/* Are all these Go's names of cipher suites? Errors: TV_EINVAL, in etcd's words. */
int tls_ciphers_check(const char *names, char *err_text, size_t err_size);

/* A certificate that vouches for itself, as cert.pem and key.pem in `dir` (which is made), unless
 * both are there. `hosts` are addresses or names. Errors: TV_EIO, TV_EINVAL. */
int tls_self_sign(const char *dir, const char *const *hosts, uint32_t hosts_count, uint32_t years,
                  char *err_text, size_t err_size);

#endif
