/* In a loop of the program's own: no thread of the library, callbacks from trivet_process(). */
#include <poll.h>
#include <stdio.h>
#include <trivet.h>

enum { COUNT = 10 };

static void on_put(const struct trivet_result *r, void *arg)
{
    int *left = arg;
    (*left)--;
    if (r->status != TRIVET_OK)
        (void)printf("%s: %s\n", trivet_status_name(r->status), r->error);
    else
        (void)printf("revision %lld\n", (long long)r->header.revision);
}

int main(int argc, char **argv)
{
    const char *endpoints[] = {argc > 1 ? argv[1] : "127.0.0.1:2379"};
    char why[256];
    struct trivet_options o;
    struct trivet_client *c;
    struct trivet_request q = {.method = TRIVET_PUT};
    int left = 0;

    trivet_options_init(&o);
    o.endpoints = endpoints;
    o.endpoints_count = 1;
    o.own_loop = true;
    if (trivet_open(&o, &c, why, sizeof(why)) != TRIVET_OK)
        return 1;
    q.u.put.key = trivet_str("loop");
    for (int i = 0; i < COUNT; i++)
        left += trivet_start(c, &q, NULL, on_put, &left) == TRIVET_OK;
    while (left > 0) {
        struct pollfd p = {.fd = trivet_fd(c), .events = POLLIN};
        (void)poll(&p, 1, trivet_timeout_ms(c));
        trivet_process(c);
    }
    trivet_close(c);
    return 0;
}
