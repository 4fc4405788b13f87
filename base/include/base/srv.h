/* SRV records: who offers a service in a domain. */
#ifndef BASE_SRV_H
#define BASE_SRV_H

#include <stddef.h>
#include <stdint.h>

/* One SRV record of an answer. */
struct srv_record {
    uint16_t priority;
    uint16_t weight;
    uint16_t port;
    char target[256]; /* without the dot behind it */
};

enum { SRV_RECORDS_MAX = 64 };

/* The SRV records of a DNS answer (RFC 1035, 2782), by priority; how many, or TV_EMALFORMED. */
int srv_parse(const uint8_t *answer, size_t size, struct srv_record ret[SRV_RECORDS_MAX]);

/* Asks for the records of _service._tcp.domain. How many, or with the reason in Go's words
 * TV_ENOTFOUND: there are none; TV_EAGAIN: the name server does not say; TV_EMALFORMED, TV_ENOMEM.
 * Blocks for as long as the resolver does. */
int srv_look_up(const char *service, const char *domain, struct srv_record *ret, char *why,
                size_t why_size);

#endif
