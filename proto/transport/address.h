/* "host:port" and what it resolves to. */
#ifndef PROTO_TRANSPORT_ADDRESS_H
#define PROTO_TRANSPORT_ADDRESS_H

#include <netdb.h>
#include <stddef.h>

struct address {
    char host[256]; /* without brackets; empty = any */
    char port[8];
};

/* TV_EINVAL when it is not host:port. */
int address_parse(const char *text, struct address *ret_address);
/* Numeric hosts and ports only, without waiting; TV_EINVAL otherwise. */
int address_numeric(const struct address *a, struct sockaddr_storage *ret_addr,
                    socklen_t *ret_size);

#endif
