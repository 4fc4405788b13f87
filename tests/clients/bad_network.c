#include "bad_network.h"

#include "failing_malloc.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct proxy {
    int listener;
    struct sockaddr_in target;
    unsigned kinds;
    uint64_t random;
};

struct pipe_of_two {
    const struct proxy *proxy;
    int client;
    uint64_t random;
};

static _Atomic uint64_t cuts;
static _Atomic int resting;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static bool send_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        data += sent;
        size -= (size_t)sent;
    }
    return true;
}

static void garble(struct pipe_of_two *p, uint8_t *data, size_t size)
{
    enum { ONE_IN = 400000 };
    uint64_t at = next_random(&p->random) % ONE_IN;
    while (at < size) {
        data[at] = (uint8_t)next_random(&p->random);
        at += 1 + next_random(&p->random) % ONE_IN;
    }
}

/* How much still passes; before the last byte some fall silent. */
static uint64_t allowance(struct pipe_of_two *p)
{
    enum { MOST = 2000000 };
    uint64_t size =
        (p->proxy->kinds & NETWORK_CUTS) != 0 ? next_random(&p->random) % MOST : UINT64_MAX;
    /* Short ones are of most interest: they end in the middle of the first frames. */
    return next_random(&p->random) % 4 == 0 ? size % 2000 : size;
}

static void pass(struct pipe_of_two *p, int member)
{
    uint8_t data[16384];
    uint64_t left = allowance(p);
    struct pollfd fds[2] = {{.fd = p->client, .events = POLLIN}, {.fd = member, .events = POLLIN}};
    while (left > 0 && poll(fds, 2, 30000) > 0) {
        for (int i = 0; i < 2 && left > 0; i++) {
            if (fds[i].revents == 0)
                continue;
            size_t most = left < sizeof(data) ? (size_t)left : sizeof(data);
            ssize_t size = recv(fds[i].fd, data, most, 0);
            if (size <= 0)
                return;
            if (i == 1 && (p->proxy->kinds & NETWORK_GARBLES) != 0 && !resting)
                garble(p, data, (size_t)size);
            if (!send_all(fds[1 - i].fd, data, (size_t)size))
                return;
            if (!resting)
                left -= (uint64_t)size;
        }
    }
    atomic_fetch_add(&cuts, 1);
    if ((p->proxy->kinds & NETWORK_STALLS) != 0 && next_random(&p->random) % 8 == 0)
        usleep((useconds_t)(next_random(&p->random) % 400000));
}

static void *run_pipe(void *arg)
{
    struct pipe_of_two *p = arg;
    failing_malloc_exempt(1);
    int member = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    (void)setsockopt(member, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(p->client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(member, (const struct sockaddr *)&p->proxy->target, sizeof(p->proxy->target)) == 0)
        pass(p, member);
    (void)close(member);
    (void)close(p->client);
    free(p);
    return NULL;
}

static void *run_proxy(void *arg)
{
    struct proxy *proxy = arg;
    failing_malloc_exempt(1);
    for (;;) {
        int fd = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        struct pipe_of_two *p = calloc(1, sizeof(*p));
        pthread_t t;
        *p = (struct pipe_of_two){
            .proxy = proxy, .client = fd, .random = next_random(&proxy->random)};
        if (pthread_create(&t, NULL, run_pipe, p) != 0)
            abort();
        (void)pthread_detach(t);
    }
    return NULL;
}

int bad_network_open(const char *target, unsigned kinds, uint64_t seed)
{
    static struct proxy proxies[64];
    static int count;
    struct proxy *p = &proxies[count++];
    pthread_t t;
    const char *colon = strrchr(target, ':');
    socklen_t size = sizeof(p->target);
    *p =
        (struct proxy){.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                       .target = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                       .kinds = kinds,
                       .random = seed};
    struct sockaddr_in here = p->target;
    p->target.sin_port = htons((uint16_t)atoi(colon == NULL ? "0" : colon + 1));
    if (bind(p->listener, (struct sockaddr *)&here, sizeof(here)) != 0 ||
        listen(p->listener, 512) != 0 ||
        getsockname(p->listener, (struct sockaddr *)&here, &size) != 0 ||
        pthread_create(&t, NULL, run_proxy, p) != 0)
        return -1;
    (void)pthread_detach(t);
    return ntohs(here.sin_port);
}

uint64_t bad_network_cuts(void)
{
    return atomic_load(&cuts);
}

void bad_network_rest(int rest)
{
    atomic_store(&resting, rest);
}
