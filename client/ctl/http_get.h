/* One GET of a page from a member's client port, by HTTP/1.1, with or without TLS, or by a unix
 * socket. Waits; any thread. */
#ifndef CLIENT_CTL_HTTP_GET_H
#define CLIENT_CTL_HTTP_GET_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct http_get_options {
    const char *ca_file; /* these four may be NULL */
    const char *cert_file;
    const char *key_file;
    const char *authorization; /* a header's value */
    bool insecure_skip_verify;
    bool secure; /* an address without a scheme is TLS's */
    uint64_t timeout_ms;
    uint64_t body_bytes_max;
};

struct http_page {
    int status;       /* 0: there is no answer, see `error` */
    struct buf body;  /* for buf_fini() */
    int64_t date_s;   /* what its header says, seconds since 1970; 0: nothing */
    uint64_t took_ns; /* connecting included */
    bool is_tls;
    int64_t cert_until_s; /* when the member's certificate ends, since 1970; 0: not seen */
    char error[256];
};

/* `address` as endpoints are: [http://|https://|unix://|unixs://]host:port, and what follows a ';'
 * is left out. */
void http_get(const char *address, const char *path, const struct http_get_options *o,
              struct http_page *ret);
/* "Fri, 27 Nov 2026 00:23:54 GMT"; 0: it is none. */
int64_t http_date(struct slice text);

#endif
