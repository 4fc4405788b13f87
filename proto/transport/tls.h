/* What the files of TLS share: tls_context.c (files and settings), tls_verify.c (whom we believe),
 * io_tls.c (a connection). */
#ifndef PROTO_TRANSPORT_TLS_H
#define PROTO_TRANSPORT_TLS_H

#include "proto/tls.h"

#include <openssl/ssl.h>
#include <stdatomic.h>
#include <time.h>
#include <uv.h>

enum { TLS_LIST_MAX = 64, TLS_FILES_MAX = 4 };

/* A comma-separated list, cut into its items. */
struct tls_list {
    char *text;
    const char *items[TLS_LIST_MAX];
    uint32_t count;
};

/* What was seen of a file when it was read. */
struct tls_file {
    char *path;
    bool there;
    uint64_t device, inode, size;
    struct timespec modified, changed;
};

/* Serial numbers that are revoked, sorted. Owner: the SSL_CTX that it hangs on. */
struct tls_revoked {
    bool unknown; /* the list cannot be read: nobody is believed */
    ASN1_INTEGER **serials;
    size_t count;
};

struct tls_context {
    struct tls_options o; /* its texts are ours */
    struct tls_list cns, hostnames;
    char *ciphers;    /* OpenSSL's names; NULL: the default */
    uv_mutex_t mutex; /* of what follows */
    SSL_CTX *current;
    uint64_t built_ns;   /* when it was tried last */
    _Atomic bool failed; /* a client's: a handshake with `current` did */
    struct tls_file files[TLS_FILES_MAX];
    uint32_t files_count;
};

/* For one connection, with today's files; NULL when there is no memory. Thread: any. */
SSL *tls__new_ssl(struct tls_context *c);
struct tls_context *tls__context_of(const SSL_CTX *ctx);
const struct tls_revoked *tls__revoked_of(const SSL_CTX *ctx);
void tls__revoked_free(struct tls_revoked *r);
/* PEM or DER. NULL when it is neither. */
struct tls_revoked *tls__revoked_read(const char *path);

/* SSL_CTX_set_cert_verify_callback()'s. */
int tls__verify(X509_STORE_CTX *store, void *arg);
/* A resumed session does not go through tls__verify(): is its certificate still good? */
bool tls__resumed_is_valid(SSL *ssl);

/* The names that a client's certificate asks us to find its address among; see etcd's
 * checkCertSAN(). */
enum tls_san { TLS_SAN_GOOD, TLS_SAN_BAD, TLS_SAN_LOOK_UP };
enum tls_san tls__check_san(X509 *cert, const char *ip);
/* The second half, which waits for the name servers. Thread: any. */
bool tls__names_have_ip(X509 *cert, const char *ip);

/* A client's handshake failed. OpenSSL leaves out of an SSL_CTX, without a word, what it finds no
 * memory for, such as ciphers and the keys of CAs: the next connection gets one that is made anew,
 * every half second at most. Thread: any. */
void tls__handshake_failed(struct tls_context *c);

/* OpenSSL's cipher list for Go's names; mem_free(). NULL when none of them is left. */
char *tls__ciphers_of_go(const char *names);
/* The text of the oldest error of this thread, which is forgotten with all others. */
void tls__error_text(char *ret_text, size_t size);

/* The last CN of the subject, as Go sees it; mem_free(). NULL when there is none. */
char *tls__common_name(const X509 *cert);

#endif
