/* Where a node listens, what is spoken there, and with which certificates: flags become struct
 * grpc_ports and contexts of TLS. etcd: configurePeerListeners(), configureClientListeners().
 *
 * Owner: the core thread; ports and contexts are read by all who have connections. */
#ifndef SERVER_PORTS_H
#define SERVER_PORTS_H

#include "server/config.h"

#include "proto/grpc.h"
#include "proto/tls.h"

struct listen_port {
    const char *url; /* of the configuration */
    struct grpc_port port;
};

struct ports {
    struct listen_port clients[2 * URLS_MAX]; /* one for an address, also when it has two schemes */
    uint32_t clients_count;
    struct listen_port metrics[URLS_MAX];
    uint32_t metrics_count;
    struct listen_port peers[URLS_MAX];
    uint32_t peers_count;
    struct tls_context *to_peers;    /* for connections from here */
    struct tls_context *clients_tls; /* the rest: NULL when nothing secure is listened on */
    struct tls_context *metrics_tls;
    struct tls_context *peers_tls;
};

/* `owner` of a grpc_port: it is one of listen-metrics-urls. */
extern const char ports_metrics[];

/* Read certificates, and make those that --auto-tls wants. *ret wants ports_close() whatever the
 * outcome. Errors: TV_EINVAL: err_text says why. */
int ports_open(const struct config *config, struct ports *ret, char *err_text, size_t err_size);
/* No connection is left. */
void ports_close(struct ports *p);

#endif
