/* Addresses that are listened on before anybody serves there: a client that comes waits, as with
 * etcd, and whoever looks whether the process is up finds the port open. What waits is reset when
 * the ports are let go, just before the real servers take them.
 *
 * Owner: the core thread. */
#ifndef SERVER_HELD_PORTS_H
#define SERVER_HELD_PORTS_H

#include "state/url.h"

struct held_ports {
    int fds[URLS_MAX];
    uint32_t count;
};

/* Those that cannot be had are passed over: who serves there later says why. */
void held_ports_open(struct held_ports *p, const struct urls *urls, bool reuse_port);
/* Harmless when there are none. */
void held_ports_close(struct held_ports *p);

#endif
