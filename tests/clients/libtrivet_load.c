/* Many clients with a think time, each one thread: what each call took, line by line, for
 * tests/faults/zones.py to judge. Endpoints have ";zone=NAME"; with zones=N client i is of zone
 * z(i % N).
 *
 *     r|w BEGAN_MS LATENCY_US STATUS        on the clock of CLOCK_MONOTONIC
 *     member ADDRESS READS
 *     far READS ALL                         reads that another zone answered
 */
#include "libtrivet_scenes.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS_MAX = 512, MEMBERS_MAX = 8, KEYS = 1000 };

struct sample {
    uint32_t began_ms; /* since the scene began */
    uint32_t latency_us;
    uint8_t is_write;
    uint8_t status;
};

struct loader {
    struct trivet_client *client;
    pthread_t thread;
    unsigned number;
    char zone[16];
    struct sample *samples;
    size_t count, capacity;
    struct {
        uint64_t id, reads;
    } members[MEMBERS_MAX];
};

static struct loader loaders[CLIENTS_MAX];
static uint64_t scene_began_ms, scene_ends_ms;
static unsigned writes_percent, think_ms;
static bool serializable;

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void note(struct loader *l, uint64_t began_us, bool is_write, int status)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity == 0 ? 1024 : l->capacity * 2;
        l->samples = realloc(l->samples, l->capacity * sizeof(*l->samples));
    }
    l->samples[l->count++] = (struct sample){
        .began_ms = (uint32_t)(began_us / 1000 - scene_began_ms),
        .latency_us = (uint32_t)(now_us() - began_us),
        .is_write = is_write,
        .status = (uint8_t)status,
    };
}

static void note_member(struct loader *l, uint64_t id)
{
    for (int i = 0; i < MEMBERS_MAX; i++) {
        if (l->members[i].id != id && l->members[i].id != 0)
            continue;
        l->members[i].id = id;
        l->members[i].reads++;
        return;
    }
}

static void one(struct loader *l, unsigned *random)
{
    char key[32];
    struct trivet_result r;
    struct trivet_request q = {.method = TRIVET_RANGE};
    bool is_write = (unsigned)rand_r(random) % 100 < writes_percent;
    snprintf(key, sizeof(key), "z/%d", rand_r(random) % KEYS);
    q.u.range.key = trivet_str(key);
    q.u.range.serializable = serializable;
    if (is_write) {
        q.method = TRIVET_PUT;
        q.u.put.key = trivet_str(key);
        q.u.put.value = trivet_str("0123456789abcdef");
    }
    uint64_t began_us = now_us();
    struct trivet_call_options co = {.idempotent = true};
    int status = trivet_call(l->client, &q, &co, &r);
    note(l, began_us, is_write, status);
    if (status == TRIVET_OK && !is_write)
        note_member(l, r.header.member_id);
    if (status != TRIVET_OK)
        printf("%s after %d ms: %s: %s\n", is_write ? "write" : "read",
               (int)((now_us() - began_us) / 1000), trivet_status_name(status), r.error);
    trivet_result_clear(&r);
}

static void *run_loader(void *arg)
{
    struct loader *l = arg;
    unsigned random = l->number + 1;
    sleep_ms((unsigned)rand_r(&random) % (think_ms + 1));
    while (now_ms() < scene_ends_ms) {
        one(l, &random);
        if (think_ms > 0)
            usleep(think_ms * 500 + (unsigned)rand_r(&random) % (think_ms * 1000));
    }
    return NULL;
}

static void begin_loader(struct loader *l, const struct trivet_options *o, unsigned zones)
{
    struct trivet_options mine = *o;
    if (zones > 0) {
        snprintf(l->zone, sizeof(l->zone), "z%u", l->number % zones);
        mine.zone = l->zone;
    }
    l->client = open_or_die(&mine);
}

static uint32_t all_members(struct trivet_client *c, struct trivet_endpoint_metrics *e)
{
    uint32_t count = trivet_endpoints(c, e, MEMBERS_MAX);
    return count < MEMBERS_MAX ? count : MEMBERS_MAX;
}

static void print_members(unsigned clients)
{
    struct trivet_endpoint_metrics e[MEMBERS_MAX];
    uint64_t reads[MEMBERS_MAX] = {0}, far = 0, all = 0;
    uint32_t count = all_members(loaders[0].client, e);
    for (unsigned i = 0; i < clients; i++) {
        for (uint32_t m = 0; m < count; m++) {
            for (int k = 0; k < MEMBERS_MAX; k++) {
                if (loaders[i].members[k].id != e[m].member_id || e[m].member_id == 0)
                    continue;
                reads[m] += loaders[i].members[k].reads;
                all += loaders[i].members[k].reads;
                if (strcmp(e[m].zone, loaders[i].zone) != 0)
                    far += loaders[i].members[k].reads;
            }
        }
    }
    for (uint32_t m = 0; m < count; m++)
        printf("member %s %llu\n", e[m].address, (unsigned long long)reads[m]);
    printf("far %llu %llu\n", (unsigned long long)far, (unsigned long long)all);
}

static void print_sums(unsigned clients)
{
    struct trivet_metrics sum = {0}, m;
    for (unsigned i = 0; i < clients; i++) {
        trivet_metrics(loaders[i].client, &m);
        sum.retries += m.retries;
        sum.retries_denied += m.retries_denied;
        sum.hedges += m.hedges;
        sum.ejections += m.ejections;
    }
    printf("retries %d, denied %d, hedges %d, ejections %d\n", (int)sum.retries,
           (int)sum.retries_denied, (int)sum.hedges, (int)sum.ejections);
}

void scene_load(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    unsigned clients = (unsigned)argument("clients", 64), zones = (unsigned)argument("zones", 0);
    (void)c;
    writes_percent = (unsigned)argument("writes", 50);
    think_ms = (unsigned)argument("think_ms", 40);
    serializable = argument("serializable", 0) != 0;
    if (clients > CLIENTS_MAX)
        clients = CLIENTS_MAX;
    for (unsigned i = 0; i < clients; i++) {
        loaders[i].number = i;
        begin_loader(&loaders[i], o, zones);
    }
    sleep_ms(1000); /* connected, and the leader known */
    scene_began_ms = now_ms();
    scene_ends_ms = scene_began_ms + (uint64_t)seconds * 1000;
    printf("running\n");
    for (unsigned i = 0; i < clients; i++)
        if (pthread_create(&loaders[i].thread, NULL, run_loader, &loaders[i]) != 0)
            abort();
    for (unsigned i = 0; i < clients; i++)
        (void)pthread_join(loaders[i].thread, NULL);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    for (unsigned i = 0; i < clients; i++) {
        for (size_t k = 0; k < loaders[i].count; k++) {
            const struct sample *s = &loaders[i].samples[k];
            printf("%c %llu %u %u\n", s->is_write ? 'w' : 'r',
                   (unsigned long long)scene_began_ms + s->began_ms, s->latency_us, s->status);
        }
        free(loaders[i].samples);
    }
    print_members(clients);
    print_sums(clients);
    for (unsigned i = 0; i < clients; i++)
        trivet_close(loaders[i].client);
    passed++;
}
