#include "address.h"

#include "base/err.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *address_text(const char *text)
{
    const char *end = strstr(text, "://");
    return end == NULL ? text : end + 3;
}

static int parse_path(const char *path, struct address *ret_address)
{
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof(ret_address->path))
        return TV_EINVAL;
    ret_address->host[0] = '\0';
    ret_address->port[0] = '\0';
    memcpy(ret_address->path, path, size + 1);
    return 0;
}

static bool has_scheme(const char *text, const char *scheme)
{
    size_t size = strlen(scheme);
    return strncmp(text, scheme, size) == 0 && strncmp(text + size, "://", 3) == 0;
}

int address_parse(const char *text, struct address *ret_address)
{
    bool is_path = has_scheme(text, "unix") || has_scheme(text, "unixs");
    ret_address->secure = has_scheme(text, "https") || has_scheme(text, "unixs");
    if (is_path)
        return parse_path(address_text(text), ret_address);
    if (ret_address->secure || has_scheme(text, "http"))
        text = address_text(text);
    ret_address->path[0] = '\0';
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return TV_EINVAL;
    size_t host_size = (size_t)(colon - text);
    if (host_size >= 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        host_size -= 2;
    } else if (memchr(text, ':', host_size) != NULL) {
        return TV_EINVAL; /* IPv6 without brackets */
    }
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (host_size >= sizeof(ret_address->host) || colon[1] == '\0' || *end != '\0' ||
        port > UINT16_MAX)
        return TV_EINVAL;
    memcpy(ret_address->host, text, host_size);
    ret_address->host[host_size] = '\0';
    (void)snprintf(ret_address->port, sizeof(ret_address->port), "%u", (unsigned)port);
    return 0;
}

int address_numeric(const struct address *a, struct sockaddr_storage *ret_addr, socklen_t *ret_size)
{
    uint16_t port = htons((uint16_t)strtoul(a->port, NULL, 10));
    struct sockaddr_in *in = (struct sockaddr_in *)ret_addr;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret_addr;
    memset(ret_addr, 0, sizeof(*ret_addr));
    if (a->path[0] != '\0') {
        struct sockaddr_un *un = (struct sockaddr_un *)ret_addr;
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, a->path, sizeof(un->sun_path));
        *ret_size = sizeof(*un);
        return 0;
    }
    if (inet_pton(AF_INET, a->host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = port;
        *ret_size = sizeof(*in);
        return 0;
    }
    if (inet_pton(AF_INET6, a->host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = port;
        *ret_size = sizeof(*in6);
        return 0;
    }
    return TV_EINVAL;
}
