/* A network between a client and members that cuts, alters and holds back what passes: proxies on
 * threads of their own. */
#ifndef TESTS_CLIENTS_BAD_NETWORK_H
#define TESTS_CLIENTS_BAD_NETWORK_H

#include <stdint.h>

enum {
    NETWORK_CUTS = 1,    /* connections end after some random number of bytes */
    NETWORK_STALLS = 2,  /* some fall silent first, for a while */
    NETWORK_GARBLES = 4, /* bytes of answers are others now and then */
};

/* A proxy for "host:port"; returns the port that it listens at on 127.0.0.1, or -1. It lives as
 * long as the process. */
int bad_network_open(const char *target, unsigned kinds, uint64_t seed);
/* How many connections were ended by all of them. */
uint64_t bad_network_cuts(void);
/* From now on they pass everything, or do as they were told again. */
void bad_network_rest(int rest);

#endif
