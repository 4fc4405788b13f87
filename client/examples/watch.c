/* Print what happens to the keys with a prefix, for so many events; members may come and go. */
#include <stdio.h>
#include <stdlib.h>
#include <trivet.h>

static void print(const struct trivet_watch_message *m)
{
    for (uint32_t i = 0; i < m->events_count; i++) {
        const struct trivet_event *e = &m->events[i];
        (void)printf("%s %.*s = %.*s\n", e->type == 0 ? "put" : "delete", (int)e->kv.key.size,
                     (const char *)e->kv.key.data, (int)e->kv.value.size,
                     (const char *)e->kv.value.data);
    }
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        (void)fprintf(stderr, "usage: watch ENDPOINT PREFIX EVENTS\n");
        return 2;
    }
    const char *endpoints[] = {argv[1]};
    char why[256], end[256];
    struct trivet_options o;
    struct trivet_client *c;
    struct trivet_watch *w;
    struct trivet_watch_message m;
    struct trivet_bytes prefix = trivet_str(argv[2]);

    trivet_options_init(&o);
    o.endpoints = endpoints;
    o.endpoints_count = 1;
    if (prefix.size >= sizeof(end) || trivet_open(&o, &c, why, sizeof(why)) != TRIVET_OK)
        return 1;
    struct trivet_watch_options wo = {.key = prefix};
    wo.range_end = trivet_bytes(end, trivet_prefix_end(prefix, end));
    if (trivet_watch_open(c, &wo, NULL, NULL, &w) != TRIVET_OK)
        return 1;
    long left = strtol(argv[3], NULL, 10);
    while (left > 0) {
        int status = trivet_watch_next(w, 60000, &m);
        if (status == TRIVET_OK) {
            print(&m);
            left -= m.events_count;
        }
        trivet_watch_message_clear(&m);
        if (status != TRIVET_OK)
            break;
    }
    trivet_watch_close(w);
    trivet_close(c);
    return left > 0;
}
