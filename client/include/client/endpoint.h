/* Endpoints as command lines have them, and the TLS that goes with them: etcdctl's rules. */
#ifndef CLIENT_ENDPOINT_H
#define CLIENT_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

struct tls_context;

/* Texts are borrowed; NULL is unset. */
struct client_tls {
    const char *ca_file;
    const char *cert_file;
    const char *key_file;
    bool insecure_skip_verify;
    bool secure_transport; /* not --insecure-transport: TLS also where an endpoint has no scheme */
};

/* Errors: NULL; err_text says why. */
struct tls_context *client_tls_context(const struct client_tls *t, char *err_text, size_t err_size);

/* "host:port", with or without a scheme and a path behind, as the transport wants it: with a scheme
 * when it is to be TLS. As in etcdctl, an endpoint without a scheme is when there is a file of
 * `t`. For mem_free(). NULL when the scheme is another than http, https, unix and unixs. */
char *client_endpoint(const struct client_tls *t, const char *endpoint);

#endif
