/* Who we are, whom we find, and who answers nothing. */
#include "libtrivet_scenes.h"

#include <stdio.h>
#include <string.h>

/* --- a user: the cluster has auth with root:secret --- */

void scene_user(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    struct trivet_result r;
    uint64_t end = now_ms() + 4000;
    int good = 0;
    for (int i = 0; now_ms() < end; i++) {
        char key[32];
        snprintf(key, sizeof(key), "user/%d", i);
        int rv = trivet_put(c, trivet_str(key), trivet_str("1"), &r);
        CHECK_CALL(rv, r);
        good += rv == TRIVET_OK;
        trivet_result_clear(&r);
        sleep_ms(100);
    }
    watch_calls(c);
    struct trivet_metrics m;
    trivet_metrics(c, &m);
    printf("%d puts, %d tokens\n", good, (int)m.tokens);
    CHECK(m.tokens >= 2); /* they live for one second here */
}

void scene_refused(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    struct trivet_result r;
    CHECK(trivet_get(c, trivet_str("a"), &r) == TRIVET_REFUSED &&
          strstr(r.error, "authentication failed") != NULL);
    printf("%s\n", r.error);
    trivet_result_clear(&r);
}

/* Servers that answer nonsense, or nobody: nothing but errors, and in time. */
void scene_nobody(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    struct trivet_result r;
    for (int i = 0; i < 5; i++) {
        uint64_t begin = now_ms();
        int rv = i % 2 ? trivet_get(c, trivet_str("a"), &r)
                       : trivet_put(c, trivet_str("a"), trivet_str("b"), &r);
        CHECK(rv != TRIVET_OK && r.error[0] != '\0' && now_ms() - begin < 3000);
        printf("%s: %s\n", trivet_status_name(rv), r.error);
        trivet_result_clear(&r);
    }
    struct trivet_watch *w;
    struct trivet_watch_message m;
    struct trivet_watch_options wo = {.key = trivet_str("w")};
    CHECK(trivet_watch_open(c, &wo, NULL, NULL, &w) == 0);
    CHECK(trivet_watch_next(w, 200, &m) != TRIVET_OK);
    trivet_watch_message_clear(&m);
    trivet_watch_close(w);
}

/* Which endpoints there are, twice a second, until the time is over. */
void scene_endpoints(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    for (int i = 0; i < seconds * 2; i++) {
        struct trivet_endpoint_metrics e[8];
        struct trivet_result r;
        (void)trivet_get(c, trivet_str("a"), &r);
        trivet_result_clear(&r);
        uint32_t n = trivet_endpoints(c, e, 8), ready = 0, leaders = 0;
        for (uint32_t k = 0; k < n; k++) {
            ready += e[k].ready;
            leaders += e[k].leader;
        }
        printf("endpoints %u ready %u leaders %u\n", n, ready, leaders);
        fflush(stdout);
        sleep_ms(500);
    }
    passed++;
}

static _Atomic int gets_ok, gets_failed, gets_open, gets_over;

static void on_got(const struct trivet_result *r, void *arg)
{
    struct trivet_request q = {.method = TRIVET_RANGE};
    gets_ok += r->status == TRIVET_OK;
    gets_failed += r->status != TRIVET_OK;
    q.u.range.key = trivet_str("a");
    if (gets_over || trivet_start(arg, &q, NULL, on_got, arg) != 0)
        gets_open--;
}

/* So many gets under way at any time, beside so many watches: how many connections that takes. */
void scene_connections(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    enum { WATCHES_MAX = 64 };
    struct trivet_request q = {.method = TRIVET_RANGE};
    struct trivet_endpoint_metrics e;
    struct trivet_watch *watches[WATCHES_MAX];
    uint64_t watches_count = argument("watches", 0);
    const struct trivet_watch_options wo = {.key = trivet_str("never")};
    struct trivet_watch_message m;
    CHECK(watches_count <= WATCHES_MAX);
    for (uint64_t i = 0; i < watches_count && i < WATCHES_MAX; i++) {
        CHECK(trivet_watch_open(c, &wo, NULL, NULL, &watches[i]) == 0);
        CHECK(trivet_watch_next(watches[i], 5000, &m) == TRIVET_OK && m.created);
        trivet_watch_message_clear(&m);
    }
    q.u.range.key = trivet_str("a");
    gets_open = (int)argument("open", 10);
    for (int i = gets_open; i > 0; i--)
        CHECK(trivet_start(c, &q, NULL, on_got, c) == 0);
    sleep_ms((unsigned)seconds * 1000);
    CHECK(trivet_endpoints(c, &e, 1) == 1);
    printf("connections %u\n", e.connections);
    gets_over = 1;
    for (int i = 0; i < 1000 && gets_open > 0; i++)
        sleep_ms(10);
    CHECK(gets_open == 0 && gets_failed == 0 && gets_ok > 100);
    for (uint64_t i = 0; i < watches_count && i < WATCHES_MAX; i++)
        trivet_watch_close(watches[i]);
}

/* A watch that nobody reads for a while, with room for a few messages: the server waits, and then
 * all comes. */
void scene_slow(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    enum { ROUNDS = 30, EACH = 100, WATCHES = 6 };
    static const char value[2000];
    struct trivet_watch *w, *watches[WATCHES];
    struct trivet_watch_message m;
    struct trivet_watch_options wo = {.key = trivet_str("s")};
    static struct trivet_request q[EACH];
    static struct trivet_result r[EACH];
    for (int i = 0; i < WATCHES; i++) {
        CHECK(trivet_watch_open(c, &wo, NULL, NULL, &watches[i]) == 0);
        CHECK(trivet_watch_next(watches[i], 5000, &m) == TRIVET_OK && m.created);
        trivet_watch_message_clear(&m);
    }
    for (int i = 0; i < EACH; i++) {
        q[i].method = TRIVET_PUT;
        q[i].u.put.key = trivet_str("s");
        q[i].u.put.value = trivet_bytes(value, sizeof(value));
    }
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(trivet_batch(c, q, EACH, NULL, r) == 0);
        for (int i = 0; i < EACH; i++)
            trivet_result_clear(&r[i]);
    }
    for (int k = 0; k < WATCHES; k++) {
        int events = 0, wrong = 0;
        w = watches[k];
        while (events < ROUNDS * EACH && trivet_watch_next(w, 5000, &m) == TRIVET_OK) {
            for (uint32_t i = 0; i < m.events_count; i++, events++)
                wrong += m.events[i].kv.version != events + 1;
            trivet_watch_message_clear(&m);
        }
        CHECK(events == ROUNDS * EACH && wrong == 0);
        trivet_watch_close(w);
    }
}
