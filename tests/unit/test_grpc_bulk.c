/* Those who read more than their share rest while others share the loop and the CPUs are short. */
#include "grpc_rig.h"
#include "internal.h"
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { BULK_STREAMS = 8, ANSWER_BYTES = 3 << 20, SPINNERS = 2 };

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
    bool stops;
    uint32_t under_way;
    uint32_t done;
};

static void on_message(struct grpc_call *call, struct slice msg);

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)call, (void)code, (void)text; /* streams end with their channel */
}

static const struct grpc_call_ops client_ops = {.message = on_message, .closed = on_closed};

static struct grpc_call *call_start(struct client *c, const char *path, const void *msg,
                                    size_t size)
{
    struct grpc_start_options o = {
        .path = path, .wait_for_ready = true, .ops = &client_ops, .user = c};
    struct grpc_call *call = grpc_start(c->channel, &o);
    ck_assert_int_eq(grpc_send(call, &(struct slice){msg, size}, 1), 0);
    c->under_way++;
    return call;
}

static void echo(struct client *c)
{
    grpc_half_close(call_start(c, "/rig.Rig/Echo", "hello", 5));
}

/* One large answer after the other on a stream of the server's. */
static size_t answer_read(void *ctx, uint8_t *dst, size_t size_max)
{
    (void)ctx;
    memset(dst, 'x', size_max);
    return size_max;
}

static void answer_done(void *ctx)
{
    (void)ctx;
}

static void answer(struct grpc_call *server_call)
{
    struct grpc_source src = {.read = answer_read, .done = answer_done};
    ck_assert_int_eq(grpc_send_source(server_call, ANSWER_BYTES, &src), 0);
}

static struct grpc_call *streams[BULK_STREAMS]; /* the server's sides */
static uint32_t streams_count;

static void on_message(struct grpc_call *call, struct slice msg)
{
    struct client *c = grpc_call_user(call);
    bool large = msg.size == ANSWER_BYTES;
    c->done++;
    if (!large)
        c->under_way--;
    if (c->stops)
        return;
    if (large)
        answer(streams[c->done % streams_count]);
    else
        echo(c);
}

static void client_start(struct client *c)
{
    const char *address = rig.address;
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.addresses = &address;
    o.addresses_count = 1;
    *c = (struct client){.channel = grpc_channel_new(rig.gl, &o)};
}

static void bulk_start(struct client *c)
{
    client_start(c);
    for (streams_count = 0; streams_count < BULK_STREAMS; streams_count++) {
        uint32_t opened = rig.opened;
        (void)call_start(c, "/rig.Rig/NeverStream", "", 0);
        RIG_UNTIL(rig.opened > opened);
        streams[streams_count] = rig.last;
    }
    for (uint32_t i = 0; i < BULK_STREAMS; i++)
        answer(streams[i]);
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
    bulk_start(&bulk);
    RIG_UNTIL(bulk.done >= 4 * BULK_STREAMS);
    ck_assert_uint_eq(metric_read(&rested), 0); /* alone it does not */

    client_start(&polite);
    echo(&polite);
    RIG_UNTIL(metric_read(&rested) > 0);
    uint32_t before = bulk.done;
    RIG_UNTIL(bulk.done >= before + 4 * BULK_STREAMS); /* and gets on */

    polite.stops = true;
    RIG_UNTIL(polite.under_way == 0 && rig.gl->rest.until_ns == 0);
    bulk.stops = true;
    grpc_channel_close(polite.channel);
    grpc_channel_close(bulk.channel);
    atomic_store(&spinning, false);
    for (int i = 0; i < SPINNERS; i++)
        pthread_join(threads[i], NULL);
    rig_stop();
}
END_TEST

UNIT_MAIN("grpc bulk", test_rest_grows_and_falls, test_bulk_rests_beside_others)
