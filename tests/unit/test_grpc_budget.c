/* What a client's requests may take: large messages wait for a grant, connections whose requests
 * are not answered are not read, and everybody gets on all the same. */
#include "grpc_rig.h"
#include "internal.h"
#include "unit.h"

enum {
    CONNS = 4,
    CALLS = 40, /* on each */
    LARGE = 300000,
    CONN_MAX = 1 << 20,
    LOOP_MAX = 2 << 20,
    WINDOW = 64 << 10,
};

static struct grpc_channel *channels[CONNS];
static uint32_t done;
static uint32_t failed;
static uint8_t large[LARGE];

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)call, (void)text;
    done++;
    failed += code != GRPC_OK;
}

static const struct grpc_call_ops client_ops = {.closed = on_closed};

static void connect_all(void)
{
    const char *address = rig.address;
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.addresses = &address;
    o.addresses_count = 1;
    for (int i = 0; i < CONNS; i++)
        channels[i] = grpc_channel_new(rig.gl, &o);
}

static void prepare(uint64_t conn_bytes_max)
{
    done = failed = 0;
    rig_prepare();
    rig.server_options.stream_window_bytes = WINDOW;
    rig.server_options.conn_bytes_max = conn_bytes_max;
    rig.server_options.loop_bytes_max = LOOP_MAX;
}

static void begin(uint64_t conn_bytes_max)
{
    prepare(conn_bytes_max);
    rig_serve();
    connect_all();
}

static void end(void)
{
    for (int i = 0; i < CONNS; i++)
        if (channels[i] != NULL)
            grpc_channel_close(channels[i]);
    rig_stop();
}

static struct grpc_call *ask(uint32_t channel, const char *path, size_t size)
{
    struct grpc_start_options o = {.path = path, .wait_for_ready = true, .ops = &client_ops};
    struct grpc_call *call = grpc_start(channels[channel], &o);
    struct slice msg = slice_of(large, size);
    ck_assert_int_eq(grpc_send(call, &msg, 1), 0);
    grpc_half_close(call);
    return call;
}

/* The server side of the loop keeps to its bounds; *ret_most: the most that was granted. */
static void run_within_bounds(uint32_t calls, size_t *ret_most)
{
    uint64_t end_ns = clock_mono_ns() + RIG_PATIENCE_MS * UINT64_C(1000000);
    while (done < calls) {
        (void)uv_run(&rig.loop, UV_RUN_ONCE);
        size_t granted = rig.gl->granted_bytes;
        *ret_most = granted > *ret_most ? granted : *ret_most;
        /* A grant grows by what the first window shrinks. */
        ck_assert_uint_le(granted, LOOP_MAX + LOOP_MAX / 4);
        ck_assert_msg(clock_mono_ns() < end_ns, "%u of %u calls are stuck", calls - done, calls);
    }
}

/* Of many unfinished messages a few are granted at a time; and the client is told a smaller window,
 * for those that were begun as well. */
START_TEST(test_large_messages_wait_for_a_grant)
{
    begin(CONN_MAX);
    size_t most = 0;
    for (uint32_t i = 0; i < CONNS * CALLS; i++)
        (void)ask(i % CONNS, "/rig.Rig/Echo", LARGE);
    run_within_bounds(CONNS * CALLS, &most);
    ck_assert_uint_eq(failed, 0);
    ck_assert_uint_gt(most, LARGE);
    ck_assert_uint_eq(rig.gl->granted_bytes, 0);
    end();
}
END_TEST

/* One message larger than any bound gets through when it is alone. */
START_TEST(test_oversized_grant)
{
    begin(1);
    for (int i = 0; i < CALLS; i++)
        (void)ask(0, "/rig.Rig/Echo", LARGE);
    RIG_UNTIL(done == CALLS);
    ck_assert_uint_eq(failed, 0);
    end();
}
END_TEST

/* Calls that end while they wait for a grant, or have one, give it back. */
START_TEST(test_ended_calls_leave_the_row)
{
    struct grpc_call *calls[CALLS];
    begin(CONN_MAX);
    for (int i = 0; i < CALLS; i++)
        calls[i] = ask(0, "/rig.Rig/Echo", LARGE);
    RIG_UNTIL(rig.gl->granted_bytes > 0);
    for (int i = 0; i < CALLS; i += 2)
        grpc_cancel(calls[i]);
    RIG_UNTIL(done == CALLS);
    ck_assert_uint_le(failed, CALLS / 2);
    RIG_UNTIL(rig.gl->granted_bytes == 0);
    ck_assert(list_is_empty(&rig.gl->starved));
    end();
}
END_TEST

/* Messages of a stream, larger than its window, one after the other. */
START_TEST(test_stream_of_large_messages)
{
    begin(CONN_MAX);
    struct grpc_start_options o = {
        .path = "/rig.Rig/Bidi", .wait_for_ready = true, .ops = &client_ops};
    struct grpc_call *call = grpc_start(channels[0], &o);
    for (int i = 0; i < CALLS; i++) {
        struct slice msg = slice_of(large, i % 2 == 0 ? LARGE : 1000);
        ck_assert_int_eq(grpc_send(call, &msg, 1), 0);
    }
    grpc_half_close(call);
    RIG_UNTIL(done == 1);
    ck_assert_uint_eq(failed, 0);
    ck_assert_uint_eq(rig.gl->granted_bytes, 0);
    end();
}
END_TEST

/* What is sent to a call that was refused is dropped, and needs no grant. */
START_TEST(test_refused_calls)
{
    begin(CONN_MAX);
    for (int i = 0; i < CALLS; i++)
        (void)ask(0, "/rig.Rig/Missing", LARGE);
    RIG_UNTIL(done == CALLS);
    ck_assert_uint_eq(failed, CALLS);
    (void)ask(0, "/rig.Rig/Echo", LARGE);
    RIG_UNTIL(done == CALLS + 1);
    ck_assert_uint_eq(failed, CALLS);
    ck_assert_uint_eq(rig.gl->granted_bytes, 0);
    end();
}
END_TEST

/* --- charges --- */

static struct grpc_call *kept[2 * CALLS];
static struct grpc_charge charges[2 * CALLS];
static uint32_t kept_count;

static void keep(struct grpc_call *call, struct slice msg)
{
    kept[kept_count] = call;
    grpc_charge_take(&charges[kept_count++], call, msg.size);
}

static void on_kept_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)code, (void)text;
    rig.closed++;
    for (uint32_t i = 0; i < kept_count; i++)
        if (kept[i] == call)
            kept[i] = NULL;
}

static const struct grpc_call_ops keep_ops = {.message = keep, .closed = on_kept_closed};

static void on_keep_open(struct grpc_call *call, void *arg)
{
    (void)arg;
    rig.opened++;
    grpc_call_set_ops(call, &keep_ops);
}

static const struct grpc_method keep_methods[] = {
    {"/rig.Rig/Keep", false, false, &keep_ops, on_keep_open, NULL},
};

static void begin_keeping(void)
{
    prepare(CONN_MAX);
    rig.server = grpc_server_new(rig.gl, &rig.server_options, keep_methods, 1);
    ck_assert_int_eq(grpc_server_listen(rig.server, "127.0.0.1:0", &rig.port), 0);
    (void)snprintf(rig.address, sizeof(rig.address), "127.0.0.1:%u", rig.port);
    kept_count = 0;
    connect_all();
}

static void answer(uint32_t i)
{
    grpc_charge_return(&charges[i]);
    if (kept[i] != NULL)
        (void)grpc_reply(kept[i], &(struct slice){large, 1}, 1);
}

/* A connection of which much is not answered is not read; others are; the rest comes with answers.
 */
START_TEST(test_charged_connection_is_not_read)
{
    enum { SIZE = WINDOW - 100 };
    begin_keeping();
    for (uint32_t i = 0; i < CALLS; i++)
        (void)ask(0, "/rig.Rig/Keep", SIZE);
    RIG_UNTIL(!list_is_empty(&rig.gl->stopped));
    rig_turns(50);
    uint32_t before = kept_count;
    ck_assert_uint_lt(before, CALLS);
    ck_assert_uint_le(rig.gl->charged_bytes, CONN_MAX + 8 * SIZE);
    (void)ask(1, "/rig.Rig/Keep", 100);
    RIG_UNTIL(kept_count == before + 1);
    for (uint32_t i = 0; i < CALLS + 1; i++) {
        RIG_UNTIL(kept_count > i);
        answer(i);
    }
    RIG_UNTIL(done == CALLS + 1);
    ck_assert_uint_eq(failed, 0);
    ck_assert_uint_eq(rig.gl->charged_bytes, 0);
    end();
}
END_TEST

/* A charge outlives the call and the connection. */
START_TEST(test_charge_outlives_connection)
{
    begin_keeping();
    (void)ask(0, "/rig.Rig/Keep", 1000);
    RIG_UNTIL(kept_count == 1);
    grpc_channel_close(channels[0]);
    channels[0] = NULL;
    RIG_UNTIL(kept[0] == NULL);
    rig_turns(5);
    ck_assert_uint_eq(rig.gl->charged_bytes, 1000);
    answer(0);
    ck_assert_uint_eq(rig.gl->charged_bytes, 0);
    end();
}
END_TEST

UNIT_MAIN("grpc_budget", test_large_messages_wait_for_a_grant, test_oversized_grant,
          test_ended_calls_leave_the_row, test_stream_of_large_messages, test_refused_calls,
          test_charged_connection_is_not_read, test_charge_outlives_connection)
