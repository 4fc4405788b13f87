/* The address of this machine by its default route, as etcd finds it (pkg/netutil/routes_linux.go).
 */
#ifndef SERVER_DEFAULT_HOST_H
#define SERVER_DEFAULT_HOST_H

#include <stdbool.h>
#include <stddef.h>

/* The IPv4 address of the interface that the default route leaves by; false when there is none. */
bool default_host(char *ret_host, size_t size);

#endif
