/* Those who read more than their share rest while others share the loop and the CPUs are short. */
#include "grpc_rig.h"
#include "internal.h"
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { BULK_CALLS = 8, BULK_PIECES = 50, SPINNERS = 2 };

static const uint64_t MS = 1000000;

START_TEST(test_rest_grows_and_falls)
{
    struct rest r = {0};
    rest_after(&r, MS, MS, 5 * MS);
    ck_assert_uint_eq(r.until_ns, 5 * MS);
    for (int i = 0; i < 20; i++)
        rest_after(&r, 2 * MS, MS, 5 * MS);
    ck_assert_uint_eq(r.until_ns, 5 * MS + REST_MAX * MS);
    uint32_t before = r.sixteenths;
    rest_after(&r, MS, MS, 5 * MS);
    ck_assert_uint_lt(r.sixteenths, before);
    for (int i = 0; i < 100; i++)
        rest_after(&r, MS, MS, 5 * MS);
    ck_assert_uint_eq(r.until_ns, 5 * MS);
    rest_after(&r, 2 * MS, MS, 5 * MS);
    rest_forget(&r);
    ck_assert_uint_eq(r.until_ns, 0);
}
END_TEST

/* --- over sockets --- */

struct client {
    struct grpc_channel *channel;
    const char *path;
    bool stops;
    uint32_t under_way;
    uint32_t done;
};

static void ask(struct client *c);

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct client *c = grpc_call_user(call);
    (void)text;
    ck_assert_int_eq(code, GRPC_OK);
    c->under_way--;
    c->done++;
    if (!c->stops)
        ask(c);
}

static const struct grpc_call_ops client_ops = {.closed = on_closed};

static void ask(struct client *c)
{
    static const uint32_t count = BULK_PIECES;
    struct grpc_start_options o = {
        .path = c->path, .wait_for_ready = true, .ops = &client_ops, .user = c};
    struct grpc_call *call = grpc_start(c->channel, &o);
    struct slice msg = slice_of(&count, sizeof(count));
    ck_assert_int_eq(grpc_send(call, &msg, 1), 0);
    grpc_half_close(call);
    c->under_way++;
}

static void client_start(struct client *c, const char *path, uint32_t calls)
{
    const char *address = rig.address;
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.addresses = &address;
    o.addresses_count = 1;
    *c = (struct client){.channel = grpc_channel_new(rig.gl, &o), .path = path};
    for (uint32_t i = 0; i < calls; i++)
        ask(c);
}

static void client_stop(struct client *c)
{
    c->stops = true;
    RIG_UNTIL(c->under_way == 0);
    grpc_channel_close(c->channel);
}

static atomic_bool spinning;

static void *spin(void *arg)
{
    while (atomic_load_explicit(&spinning, memory_order_relaxed))
        ;
    return arg;
}

/* All threads of this test share one CPU, which these want all the time. */
static void spinners_start(pthread_t *threads)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
    atomic_store(&spinning, true);
    for (int i = 0; i < SPINNERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, spin, NULL), 0);
}

START_TEST(test_bulk_rests_beside_others)
{
    pthread_t threads[SPINNERS];
    struct client bulk, polite;
    struct metric_counter rested = {0};
    rig_prepare();
    rig.server_options.conn_bytes_max = 1 << 20;
    rig.server_options.loop_bytes_max = 2 << 20;
    rig.server_options.bulk_rest = &rested;
    rig_serve();
    spinners_start(threads);
    client_start(&bulk, "/rig.Rig/Shared", BULK_CALLS);
    RIG_UNTIL(bulk.done >= 4 * BULK_CALLS);
    ck_assert_uint_eq(metric_read(&rested), 0); /* alone it does not */

    client_start(&polite, "/rig.Rig/Echo", 1);
    RIG_UNTIL(metric_read(&rested) > 0);
    uint32_t before = bulk.done;
    RIG_UNTIL(bulk.done >= before + 4 * BULK_CALLS); /* and gets on */

    client_stop(&polite);
    RIG_UNTIL(rig.gl->rest.until_ns == 0);
    client_stop(&bulk);
    atomic_store(&spinning, false);
    for (int i = 0; i < SPINNERS; i++)
        pthread_join(threads[i], NULL);
    rig_stop();
}
END_TEST

UNIT_MAIN("grpc bulk", test_rest_grows_and_falls, test_bulk_rests_beside_others)
