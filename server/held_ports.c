/* See held_ports.h. */
#include "server/held_ports.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 64 };

static int listen_on(const struct addrinfo *a, bool reuse_port)
{
    int one = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (reuse_port)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    close(fd);
    return -1;
}

static int hold(const char *url, bool reuse_port)
{
    char host[URL_BYTES_MAX], service[8];
    uint16_t port;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    url_host_port(url, host, sizeof(host), &port);
    (void)snprintf(service, sizeof(service), "%u", (unsigned)port);
    if (getaddrinfo(host[0] != '\0' ? host : NULL, service, &hints, &found) != 0)
        return -1;
    int fd = listen_on(found, reuse_port);
    freeaddrinfo(found);
    return fd;
}

void held_ports_open(struct held_ports *p, const struct urls *urls, bool reuse_port)
{
    p->count = 0;
    for (uint32_t i = 0; i < urls->count; i++) {
        if (url_is_path(urls->items[i]))
            continue;
        int fd = hold(urls->items[i], reuse_port);
        if (fd >= 0)
            p->fds[p->count++] = fd;
    }
}

void held_ports_close(struct held_ports *p)
{
    while (p->count > 0)
        close(p->fds[--p->count]);
}
