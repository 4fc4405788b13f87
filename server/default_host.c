#include "server/default_host.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define ROUTES "/proc/net/route"

/* The interface of the route to everywhere. */
static bool default_interface(char ret[IFNAMSIZ])
{
    char line[256], name[IFNAMSIZ];
    unsigned destination, gateway, flags, mask;
    int unused;
    bool found = false;
    FILE *routes = fopen(ROUTES, "re");
    if (routes == NULL)
        return false;
    while (!found && fgets(line, sizeof(line), routes) != NULL) {
        if (sscanf(line, "%15s %x %x %x %d %d %d %x", name, &destination, &gateway, &flags, &unused,
                   &unused, &unused, &mask) != 8)
            continue; /* the heading */
        found = destination == 0 && mask == 0;
    }
    (void)fclose(routes); /* it was only read */
    if (found)
        snprintf(ret, IFNAMSIZ, "%s", name);
    return found;
}

bool default_host(char *ret_host, size_t size)
{
    char interface[IFNAMSIZ];
    struct ifaddrs *all;
    bool found = false;
    if (!default_interface(interface) || getifaddrs(&all) != 0)
        return false;
    for (const struct ifaddrs *it = all; it != NULL && !found; it = it->ifa_next) {
        if (it->ifa_addr == NULL || it->ifa_addr->sa_family != AF_INET ||
            strcmp(it->ifa_name, interface) != 0)
            continue;
        const struct sockaddr_in *a = (const struct sockaddr_in *)it->ifa_addr;
        found = inet_ntop(AF_INET, &a->sin_addr, ret_host, (socklen_t)size) != NULL;
    }
    freeifaddrs(all);
    return found;
}
