#include "state/url.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

static const char *scheme_end(const char *text)
{
    return strstr(text, "://");
}

static bool is_scheme(const char *text, const char *scheme)
{
    size_t size = strlen(scheme);
    return strncasecmp(text, scheme, size) == 0 && strncmp(text + size, "://", 3) == 0;
}

static int check_scheme(const char *text, char *err_text, size_t err_size)
{
    if (is_scheme(text, "http") || is_scheme(text, "https") || is_scheme(text, "unix") ||
        is_scheme(text, "unixs"))
        return 0;
    if (*text == ':')
        snprintf(err_text, err_size, "parse \"%s\": missing protocol scheme", text);
    else
        snprintf(err_text, err_size, "URL scheme must be http, https, unix, or unixs: %s", text);
    return TV_EINVAL;
}

static bool is_host_char(char c)
{
    return isalnum((unsigned char)c) || (c != '\0' && strchr("-._~", c) != NULL);
}

/* Behind the host; NULL when that is not well-formed. */
static const char *host_end(const char *address)
{
    const char *p = address;
    if (*p != '[') {
        while (is_host_char(*p))
            p++;
        return p;
    }
    p++;
    while (*p != '\0' && (is_host_char(*p) || *p == ':' || *p == '%'))
        p++;
    return *p == ']' ? p + 1 : NULL;
}

/* `address` is what follows "://". */
static int check_address(const char *text, const char *address, char *err_text, size_t err_size)
{
    const char *port = host_end(address);
    if (port == NULL || strchr(":/?#", *port) == NULL) {
        snprintf(err_text, err_size, "parse \"%s\": invalid character \"%.*s\" in host name", text,
                 port != NULL, port == NULL ? "" : port);
        return TV_EINVAL;
    }
    if (port - address > URL_HOST_BYTES_MAX) {
        snprintf(err_text, err_size, "the host name is longer than %d bytes", URL_HOST_BYTES_MAX);
        return TV_EINVAL;
    }
    size_t digits = *port == ':' ? strspn(port + 1, "0123456789") : 0;
    const char *end = *port == ':' ? port + 1 + digits : port;
    if (*end != '\0' && strchr("/?#", *end) == NULL) {
        snprintf(err_text, err_size, "parse \"%s\": invalid port \"%s\" after host", text, port);
        return TV_EINVAL;
    }
    if (digits == 0 || digits > 5 || strtoul(port + 1, NULL, 10) > UINT16_MAX) {
        snprintf(err_text, err_size, "URL address does not have the form \"host:port\": %s", text);
        return TV_EINVAL;
    }
    if (*end != '\0') {
        snprintf(err_text, err_size, "URL must not contain a path: %s", text);
        return TV_EINVAL;
    }
    return 0;
}

static int check_path(const char *text, const char *path, char *err_text, size_t err_size)
{
    size_t size = strlen(path);
    if (size > 0 && size < sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return 0;
    snprintf(err_text, err_size, "the path of a socket is empty or too long: %s", text);
    return TV_EINVAL;
}

bool url_is_path(const char *url)
{
    return is_scheme(url, "unix") || is_scheme(url, "unixs");
}

bool url_is_secure(const char *url)
{
    return is_scheme(url, "https") || is_scheme(url, "unixs");
}

/* `text` without blanks around it. */
static int check(const char *text, char *err_text, size_t err_size)
{
    int err = check_scheme(text, err_text, err_size);
    if (err == 0 && url_is_path(text))
        return check_path(text, scheme_end(text) + 3, err_text, err_size);
    return err != 0 ? err : check_address(text, scheme_end(text) + 3, err_text, err_size);
}

bool url_is_valid(struct slice url)
{
    char text[URL_BYTES_MAX + 1], why[URL_BYTES_MAX + 128];
    if (url.size > URL_BYTES_MAX || memchr(url.data, '\0', url.size) != NULL)
        return false;
    memcpy(text, url.data, url.size);
    text[url.size] = '\0';
    return check(text, why, sizeof(why)) == 0;
}

int url_parse(const char *text, char **ret_url, char *err_text, size_t err_size)
{
    size_t size = strlen(text);
    while (size > 0 && isspace((unsigned char)*text)) {
        text++;
        size--;
    }
    while (size > 0 && isspace((unsigned char)text[size - 1]))
        size--;
    if (size > URL_BYTES_MAX) {
        snprintf(err_text, err_size, "URL is longer than %d bytes", URL_BYTES_MAX);
        return TV_EINVAL;
    }
    char *url = mem_text(text, size);
    int err = check(url, err_text, err_size);
    if (err != 0) {
        mem_free(url);
        return err;
    }
    for (char *p = url; *p != ':'; p++)
        *p = (char)tolower((unsigned char)*p);
    *ret_url = url;
    return 0;
}

int urls_add(struct urls *u, char *url)
{
    uint32_t at = 0;
    while (at < u->count && strcmp(u->items[at], url) < 0)
        at++;
    if (at < u->count && strcmp(u->items[at], url) == 0) {
        mem_free(url);
        return 0;
    }
    if (u->count == URLS_MAX) {
        mem_free(url);
        return TV_ETOOLARGE;
    }
    memmove(&u->items[at + 1], &u->items[at], (u->count - at) * sizeof(u->items[0]));
    u->items[at] = url;
    u->count++;
    return 0;
}

int urls_parse(const char *text, struct urls *ret, char *err_text, size_t err_size)
{
    *ret = (struct urls){0};
    char *copy = mem_strdup(text);
    char *rest = copy;
    int err = 0;
    while (err == 0 && rest != NULL) {
        char *item = strsep(&rest, ",");
        char *url = NULL;
        err = url_parse(item, &url, err_text, err_size);
        if (err == 0 && urls_add(ret, url) != 0) {
            snprintf(err_text, err_size, "more than %d URLs: %s", URLS_MAX, text);
            err = TV_EINVAL;
        }
    }
    mem_free(copy);
    if (err != 0)
        urls_fini(ret);
    return err;
}

void urls_fini(struct urls *u)
{
    for (uint32_t i = 0; i < u->count; i++)
        mem_free(u->items[i]);
    *u = (struct urls){0};
}

const char *url_address(const char *url)
{
    const char *end = scheme_end(url);
    ASSERT(end != NULL);
    return end + 3;
}

void url_host_port(const char *url, char *ret_host, size_t host_size, uint16_t *ret_port)
{
    const char *address = url_address(url);
    const char *colon = strrchr(address, ':');
    ASSERT(colon != NULL);
    size_t size = (size_t)(colon - address);
    if (*address == '[') {
        address++;
        size -= 2;
    }
    snprintf(ret_host, host_size, "%.*s", (int)size, address);
    *ret_port = (uint16_t)strtoul(colon + 1, NULL, 10);
}

void urls_join(const struct urls *u, const char *prefix, char *ret_text, size_t size)
{
    size_t used = 0;
    if (size > 0)
        ret_text[0] = '\0';
    for (uint32_t i = 0; i < u->count && used < size; i++) {
        int n = snprintf(ret_text + used, size - used, "%s%s%s", i == 0 ? "" : ",", prefix,
                         u->items[i]);
        used += (size_t)n;
    }
}

static bool is_outward(const char *host)
{
    struct in_addr in4;
    struct in6_addr in6;
    if (inet_pton(AF_INET, host, &in4) == 1)
        return in4.s_addr != INADDR_ANY && ntohl(in4.s_addr) >> 24 != 127;
    return inet_pton(AF_INET6, host, &in6) == 1 && !IN6_IS_ADDR_LOOPBACK(&in6) &&
           !IN6_IS_ADDR_UNSPECIFIED(&in6);
}

bool urls_outward_host(const struct urls *u, char *ret_host, size_t host_size)
{
    uint16_t port;
    for (uint32_t i = 0; i < u->count; i++) {
        if (url_is_path(u->items[i]))
            continue;
        url_host_port(u->items[i], ret_host, host_size, &port);
        if (is_outward(ret_host))
            return true;
    }
    return false;
}
