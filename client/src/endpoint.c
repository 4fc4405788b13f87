#include "client/endpoint.h"

#include "base/mem.h"
#include "proto/tls.h"

#include <stdio.h>
#include <string.h>

static bool has_scheme(const char *endpoint, const char *scheme)
{
    size_t size = strlen(scheme);
    return strncmp(endpoint, scheme, size) == 0 && strncmp(endpoint + size, "://", 3) == 0;
}

struct tls_context *client_tls_context(const struct client_tls *t, char *err_text, size_t err_size)
{
    struct tls_options o = {.ca_file = t->ca_file,
                            .cert_file = t->cert_file,
                            .key_file = t->key_file,
                            .insecure_skip_verify = t->insecure_skip_verify};
    return tls_context_new(&o, err_text, err_size);
}

char *client_endpoint(const struct client_tls *t, const char *endpoint)
{
    if (has_scheme(endpoint, "unix") || has_scheme(endpoint, "unixs"))
        return mem_strdup(endpoint);
    bool secure = has_scheme(endpoint, "https");
    if (secure || has_scheme(endpoint, "http"))
        endpoint = strstr(endpoint, "://") + 3;
    else if (strstr(endpoint, "://") != NULL)
        return NULL;
    else
        secure = t->ca_file != NULL || t->cert_file != NULL || t->key_file != NULL ||
                 t->secure_transport;
    size_t size = strcspn(endpoint, "/");
    char *url = mem_alloc(sizeof("https://") + size);
    (void)snprintf(url, sizeof("https://") + size, "%s%.*s", secure ? "https://" : "", (int)size,
                   endpoint);
    return url;
}
