/* "host:port" or the path of a socket, with or without a scheme in front, and what it resolves to.
 */
#ifndef PROTO_TRANSPORT_ADDRESS_H
#define PROTO_TRANSPORT_ADDRESS_H

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

struct address {
    char host[256]; /* without brackets; empty = any */
    char port[8];
    char
        path[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* unix:// and unixs://; else empty */
    bool secure;                                              /* https:// and unixs:// */
};

/* TV_EINVAL when it is neither. Schemes: http, https, unix, unixs; none is http. */
int address_parse(const char *text, struct address *ret_address);
/* What stands behind the scheme. Borrowed. */
const char *address_text(const char *text);
/* Numeric hosts and ports, and paths, only, without waiting; TV_EINVAL otherwise. */
int address_numeric(const struct address *a, struct sockaddr_storage *ret_addr,
                    socklen_t *ret_size);

#endif
