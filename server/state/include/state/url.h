/* The URLs that members are named by, in etcd's form: scheme and "host:port", nothing behind.
 *
 * Schemes are http, https, unix and unixs; behind the last two stands the path of a socket. */
#ifndef STATE_URL_H
#define STATE_URL_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { URLS_MAX = 16, URL_BYTES_MAX = 512, URL_HOST_BYTES_MAX = 255 };

/* A few URLs, each in memory of its own. */
struct urls {
    char *items[URLS_MAX];
    uint32_t count;
};

/* One URL without the blanks around it, its scheme in lower case; the caller frees *ret_url. On
 * error err_text says what is wrong, in etcd's words where it has some. Errors: TV_EINVAL. */
int url_parse(const char *text, char **ret_url, char *err_text, size_t err_size);
/* Is this, of a member or from the log, a URL as url_parse() gives it? */
bool url_is_valid(struct slice url);
/* "http://a:1,http://b:2": sorted, each once, as etcd keeps them. *ret owns its memory, and is
 * empty after an error. Errors: TV_EINVAL, also for more than URLS_MAX. */
int urls_parse(const char *text, struct urls *ret, char *err_text, size_t err_size);
void urls_fini(struct urls *u);
/* Put in its place, sorted; it owns `url` from then on, and frees it when it is there already or
 * there is no room. Errors: TV_ETOOLARGE. */
int urls_add(struct urls *u, char *url);

/* What follows "://": "127.0.0.1:2379" or "[::1]:2379". Borrowed; `url` was parsed before. */
const char *url_address(const char *url);
/* https and unixs. */
bool url_is_secure(const char *url);
/* unix and unixs. */
bool url_is_path(const char *url);
/* Split it: the host without brackets. `url` was parsed before, and is no path. */
void url_host_port(const char *url, char *ret_host, size_t host_size, uint16_t *ret_port);

/* The first host that is an IP address, neither of the loopback nor unspecified. False: there is
 * none. */
bool urls_outward_host(const struct urls *u, char *ret_host, size_t host_size);

/* Comma-separated, into a fixed buffer, cut when it does not fit. */
void urls_join(const struct urls *u, const char *prefix, char *ret_text, size_t size);

#endif
