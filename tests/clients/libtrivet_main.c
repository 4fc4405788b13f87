/* What tests/clients/libtrivet.py has libtrivet do: one scene for each run. The last line is
 * "N passed, N failed". */
#include "libtrivet_scenes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

_Atomic int passed, failed;

void check_that(int holds, const char *what, int line, const char *more)
{
    if (holds) {
        passed++;
        return;
    }
    failed++;
    printf("line %d: %s does not hold (%s)\n", line, what, more);
    fflush(stdout);
}

uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void sleep_ms(unsigned ms)
{
    usleep(ms * 1000);
}

/* --- options from the command line: endpoints, then name=value --- */

static char *endpoint_list[64];

static void read_options(int argc, char **argv, struct trivet_options *o)
{
    trivet_options_init(o);
    char *rest = argv[2], *one;
    while ((one = strsep(&rest, ",")) != NULL && *one != '\0')
        endpoint_list[o->endpoints_count++] = one;
    o->endpoints = (const char *const *)endpoint_list;
    for (int i = 3; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value == NULL)
            continue;
        size_t size = (size_t)(value++ - argv[i]);
#define TEXT(name) \
    else if (size == strlen(#name) && memcmp(argv[i], #name, size) == 0) o->name = value
#define NUMBER(name, type)                                                         \
    else if (size == strlen(#name) && memcmp(argv[i], #name, size) == 0) o->name = \
        (type)strtoull(value, NULL, 0)
        if (size == 0)
            continue;
        TEXT(ca_file);
        TEXT(cert_file);
        TEXT(key_file);
        TEXT(user);
        TEXT(password);
        TEXT(zone);
        TEXT(endpoints_file);
        NUMBER(timeout_ms, uint64_t);
        NUMBER(hedge, bool);
        NUMBER(own_loop, bool);
        NUMBER(read_attempt_ms, uint64_t);
        NUMBER(endpoints_interval_ms, uint64_t);
        NUMBER(members_refresh, bool);
        NUMBER(connections_max, uint32_t);
        NUMBER(watch_bytes_max, uint64_t);
        NUMBER(subset, uint32_t);
    }
}

struct trivet_client *open_or_die(const struct trivet_options *o)
{
    char why[256];
    struct trivet_client *c;
    if (trivet_open(o, &c, why, sizeof(why)) != TRIVET_OK) {
        printf("cannot open: %s\n0 passed, 1 failed\n", why);
        exit(1);
    }
    return c;
}

int ask(struct trivet_client *c, struct trivet_request *q, struct trivet_result *r)
{
    int rv = trivet_call(c, q, NULL, r);
    memset(q, 0, sizeof(*q));
    return rv;
}

static char **arguments;

uint64_t argument(const char *name, uint64_t otherwise)
{
    size_t size = strlen(name);
    for (char **a = arguments; *a != NULL; a++)
        if (strncmp(*a, name, size) == 0 && (*a)[size] == '=')
            return strtoull(*a + size + 1, NULL, 0);
    return otherwise;
}

static const struct {
    const char *name;
    void (*run)(struct trivet_client *c, const struct trivet_options *o, int seconds);
} scenes[] = {
    {"calls", scene_calls},
    {"loop", scene_loop},
    {"faults", scene_faults},
    {"user", scene_user},
    {"refused", scene_refused},
    {"nobody", scene_nobody},
    {"endpoints", scene_endpoints},
    {"slow", scene_slow},
    {"bench", scene_bench},
    {"one-failure", scene_one_failure},
    {"memory", scene_memory},
    {"load", scene_load},
    {"connections", scene_connections},
};

int main(int argc, char **argv)
{
    struct trivet_options o;
    if (argc < 3)
        return 2;
    arguments = argv;
    setvbuf(stdout, NULL, _IOLBF, 0);
    read_options(argc, argv, &o);
    int seconds = argc > 3 ? atoi(argv[3]) : 0;
    for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
        if (strcmp(scenes[i].name, argv[1]) != 0)
            continue;
        struct trivet_client *c = open_or_die(&o);
        scenes[i].run(c, &o, seconds);
        trivet_close(c);
        printf("%d passed, %d failed\n", passed, failed);
        return failed > 0;
    }
    return 2;
}
