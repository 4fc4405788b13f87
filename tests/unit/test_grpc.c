/* Calls between the transport's two sides over loopback. */
#include "grpc_rig.h"
#include "unit.h"

#include "base/buf.h"

/* --- a client's call and what came of it --- */

struct seen {
    struct grpc_call *call;
    uint32_t messages;
    uint64_t bytes;
    uint32_t half_closed;
    uint32_t writable;
    uint32_t closed;
    enum grpc_code code;
    char text[200];
    struct buf last;
};

static void on_message(struct grpc_call *call, struct slice msg)
{
    struct seen *s = grpc_call_user(call);
    s->messages++;
    s->bytes += msg.size;
    buf_clear(&s->last);
    (void)buf_append(&s->last, msg.data, msg.size);
}

static void on_half_closed(struct grpc_call *call)
{
    struct seen *s = grpc_call_user(call);
    s->half_closed++;
}

static void on_writable(struct grpc_call *call)
{
    struct seen *s = grpc_call_user(call);
    s->writable++;
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct seen *s = grpc_call_user(call);
    s->closed++;
    s->code = code;
    (void)snprintf(s->text, sizeof(s->text), "%.*s", (int)text.size, (const char *)text.data);
    s->call = NULL;
}

static const struct grpc_call_ops client_ops = {.message = on_message,
                                                .half_closed = on_half_closed,
                                                .writable = on_writable,
                                                .closed = on_closed};

static struct grpc_channel *channel_to(const char *address)
{
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.tls = rig.client_tls;
    o.addresses = &address;
    o.addresses_count = 1;
    o.seed = 7;
    struct grpc_channel *ch = grpc_channel_new(rig.gl, &o);
    ck_assert_ptr_nonnull(ch);
    return ch;
}

static void start_with(struct grpc_channel *ch, const char *path, struct seen *s,
                       uint64_t deadline_ns)
{
    memset(s, 0, sizeof(*s));
    buf_init(&s->last, SIZE_MAX);
    s->call = grpc_start(ch, &(struct grpc_start_options){
                                 .path = path,
                                 .deadline_ns = deadline_ns,
                                 .wait_for_ready = true,
                                 .ops = &client_ops,
                                 .user = s,
                             });
}

static void start(struct grpc_channel *ch, const char *path, struct seen *s)
{
    start_with(ch, path, s, 0);
}

static void say(struct seen *s, struct slice msg)
{
    ck_assert_int_eq(grpc_send(s->call, &msg, 1), 0);
}

static void ask(struct grpc_channel *ch, const char *path, struct slice msg, struct seen *s)
{
    start(ch, path, s);
    say(s, msg);
    grpc_half_close(s->call);
}

static void ask_u32(struct grpc_channel *ch, const char *path, uint32_t n, struct seen *s)
{
    ask(ch, path, slice_of(&n, sizeof(n)), s);
}

static uint8_t *pattern(size_t size)
{
    uint8_t *p = mem_alloc(size);
    for (size_t i = 0; i < size; i++)
        p[i] = (uint8_t)(i * 7 + (i >> 8));
    return p;
}

/* --- cases --- */

START_TEST(test_unary)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    ask(ch, "/rig.Rig/Echo", SLICE_LITERAL("hello"), &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    ck_assert_uint_eq(s.messages, 1);
    ck_assert_uint_eq(s.half_closed, 1);
    ck_assert(slice_equal(buf_slice(&s.last), SLICE_LITERAL("hello")));
    buf_fini(&s.last);

    ask(ch, "/rig.Rig/Echo", SLICE_EMPTY, &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    ck_assert_uint_eq(s.messages, 1);
    ck_assert_uint_eq(s.bytes, 0);
    RIG_UNTIL(rig.closed == 2);
    ck_assert_uint_eq(rig.closed_code, GRPC_OK);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_error_text_survives)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    ask(ch, "/rig.Rig/Fail", SLICE_LITERAL("x"), &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_INVALID_ARGUMENT);
    ck_assert_str_eq(s.text, "100% of \"caf\xc3\xa9\" is bad\n");
    ck_assert_uint_eq(s.messages, 0);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_metadata_and_deadline_reach_the_server)
{
    struct seen s = {0};
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    struct grpc_pair pairs[] = {{SLICE_LITERAL("hasleader"), SLICE_LITERAL("true")},
                                {SLICE_LITERAL("x-flag"), SLICE_LITERAL("raised")}};
    uint64_t deadline_ns = clock_mono_ns() + UINT64_C(3600000000000);
    buf_init(&s.last, SIZE_MAX);
    s.call = grpc_start(ch, &(struct grpc_start_options){.path = "/rig.Rig/Flag",
                                                         .metadata = pairs,
                                                         .metadata_count = 2,
                                                         .deadline_ns = deadline_ns,
                                                         .ops = &client_ops,
                                                         .user = &s});
    say(&s, SLICE_EMPTY);
    RIG_UNTIL(rig.last != NULL);
    ck_assert(slice_equal(grpc_call_metadata(rig.last, "hasleader"), SLICE_LITERAL("true")));
    ck_assert_ptr_null(grpc_call_metadata(rig.last, "absent").data);
    ck_assert_str_eq(grpc_call_method(rig.last)->path, "/rig.Rig/Flag");
    uint64_t at = grpc_call_deadline_ns(rig.last);
    uint64_t slack_ns = UINT64_C(60000000000);
    ck_assert(at > deadline_ns - slack_ns && at < deadline_ns + slack_ns);
    grpc_half_close(s.call);
    RIG_UNTIL(s.closed > 0);
    ck_assert(slice_equal(buf_slice(&s.last), SLICE_LITERAL("raised")));
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_server_streaming)
{
    struct seen s;
    uint32_t last;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    ask_u32(ch, "/rig.Rig/Count", 100000, &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    ck_assert_uint_eq(s.messages, 100000);
    memcpy(&last, s.last.data, sizeof(last));
    ck_assert_uint_eq(last, 99999);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_bidi)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    start(ch, "/rig.Rig/Bidi", &s);
    for (uint32_t i = 1; i <= 50; i++) {
        say(&s, slice_of(&i, sizeof(i)));
        RIG_UNTIL(s.messages == i);
        ck_assert_mem_eq(s.last.data, &i, sizeof(i));
    }
    ck_assert_uint_eq(s.closed, 0);
    grpc_half_close(s.call);
    ck_assert_int_eq(grpc_send(s.call, &(struct slice){NULL, 0}, 1), TV_ECLOSED);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    ck_assert_uint_eq(s.messages, 50);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_big_messages_through_small_windows)
{
    enum { BIG_BYTES = 10 << 20 };
    struct seen s;
    uint8_t *big = pattern(BIG_BYTES);
    rig_prepare();
    rig.server_options.recv_message_bytes_max = BIG_BYTES;
    rig.server_options.stream_window_bytes = 16384;
    rig.server_options.conn_window_bytes = 65535;
    rig_serve();
    const char *address = rig.address;
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.tls = rig.client_tls;
    o.addresses = &address;
    o.addresses_count = 1;
    o.stream_window_bytes = 20000;
    o.conn_window_bytes = 65535;
    struct grpc_channel *ch = grpc_channel_new(rig.gl, &o);
    ask(ch, "/rig.Rig/Echo", slice_of(big, BIG_BYTES), &s);
    ck_assert_uint_gt(grpc_call_queued_bytes(s.call), BIG_BYTES);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    ck_assert_uint_eq(s.messages, 1);
    ck_assert_uint_eq(s.last.size, BIG_BYTES);
    ck_assert_mem_eq(s.last.data, big, BIG_BYTES);
    buf_fini(&s.last);

    start(ch, "/rig.Rig/Bidi", &s);
    for (int i = 0; i < 3; i++)
        say(&s, slice_of(big, BIG_BYTES));
    RIG_UNTIL(s.writable == 1);
    ck_assert_uint_le(grpc_call_queued_bytes(s.call), o.send_queue_low_bytes);
    grpc_half_close(s.call);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.messages, 3);
    ck_assert_mem_eq(s.last.data, big, BIG_BYTES);
    buf_fini(&s.last);
    mem_free(big);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_many_calls_at_once)
{
    enum { CALLS_COUNT = 2000 };
    struct seen *s = mem_alloc(CALLS_COUNT * sizeof(*s));
    char text[600];
    uint32_t closed = 0;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    memset(text, 'm', sizeof(text));
    for (uint32_t i = 0; i < CALLS_COUNT; i++) {
        memcpy(text, &i, sizeof(i));
        ask(ch, "/rig.Rig/Echo", slice_of(text, 4 + i % 590), &s[i]);
    }
    for (uint32_t i = 0; i < CALLS_COUNT; i++) {
        RIG_UNTIL(s[i].closed > 0);
        ck_assert_uint_eq(s[i].closed, 1);
        ck_assert_uint_eq(s[i].code, GRPC_OK);
        ck_assert_uint_eq(s[i].last.size, 4 + i % 590);
        ck_assert_mem_eq(s[i].last.data, &i, sizeof(i));
        closed += s[i].closed;
        buf_fini(&s[i].last);
    }
    ck_assert_uint_eq(closed, CALLS_COUNT);
    RIG_UNTIL(rig.closed == CALLS_COUNT);
    struct grpc_server_stats stats;
    grpc_server_stats(rig.server, &stats);
    ck_assert_uint_eq(stats.calls, 0);
    ck_assert_uint_eq(stats.calls_total, CALLS_COUNT);
    ck_assert_uint_eq(stats.messages_received, CALLS_COUNT);
    ck_assert_uint_eq(stats.messages_sent, CALLS_COUNT);
    mem_free(s);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_shared_bytes)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    ask_u32(ch, "/rig.Rig/Shared", 100, &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.messages, 100);
    ck_assert_uint_eq(s.bytes, 100 * 100004);
    ck_assert_mem_eq(s.last.data, "headsss", 7);
    ck_assert_uint_eq(s.last.data[100003], 's');
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

/* What bounds the unfinished messages of a server's connection does not bound what a client asked
 * for. */
START_TEST(test_large_answer)
{
    enum { SIZE = 272 << 20 };
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    ask_u32(ch, "/rig.Rig/Pull", SIZE, &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    ck_assert_uint_eq(s.last.size, SIZE);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_pulled_message)
{
    enum { SIZE = 3000001 };
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    ask_u32(ch, "/rig.Rig/Pull", SIZE, &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    ck_assert_uint_eq(s.last.size, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        ck_assert_uint_eq(s.last.data[i], (uint8_t)i);
    buf_fini(&s.last);
    ask_u32(ch, "/rig.Rig/Pull", 0, &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    ck_assert_uint_eq(s.messages, 1);
    buf_fini(&s.last);
    /* Ended in the middle: done() must come, or rig_stop() finds its handle open. */
    ask_u32(ch, "/rig.Rig/Pull", 1 << 30, &s);
    RIG_UNTIL(rig.last != NULL);
    rig_turns(3);
    grpc_cancel(s.call);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_CANCELLED);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

/* A small call beside a big transfer, in either direction, does not wait for its end. */
START_TEST(test_big_transfers_share_the_connection)
{
    enum { BIG_BYTES = 64 << 20 };
    struct seen big;
    struct seen small;
    struct seen streamed;
    uint8_t *bytes = pattern(BIG_BYTES);
    rig_prepare();
    rig.server_options.recv_message_bytes_max = BIG_BYTES;
    rig.server_options.stream_window_bytes = BIG_BYTES; /* flow control must not help */
    rig.server_options.conn_window_bytes = BIG_BYTES;
    rig_serve();
    const char *address = rig.address;
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.tls = rig.client_tls;
    o.addresses = &address;
    o.addresses_count = 1;
    o.stream_window_bytes = BIG_BYTES;
    o.conn_window_bytes = BIG_BYTES;
    struct grpc_channel *ch = grpc_channel_new(rig.gl, &o);
    for (int i = 0; i < 3; i++) {
        if (i == 0)
            ask(ch, "/rig.Rig/Echo", slice_of(bytes, BIG_BYTES), &big);
        else if (i == 1)
            ask_u32(ch, "/rig.Rig/Shared", BIG_BYTES / 100000, &big);
        else
            ask_u32(ch, "/rig.Rig/Pull", BIG_BYTES, &big);
        RIG_UNTIL(rig.last != NULL);
        start(ch, "/rig.Rig/Bidi", &streamed);
        for (uint32_t n = 1; n <= 3; n++) {
            ask(ch, "/rig.Rig/Echo", SLICE_LITERAL("small"), &small);
            say(&streamed, SLICE_LITERAL("event"));
            RIG_UNTIL(small.closed > 0 && streamed.messages == n);
            ck_assert_uint_eq(small.code, GRPC_OK);
            ck_assert_uint_eq(big.closed, 0);
            buf_fini(&small.last);
        }
        grpc_half_close(streamed.call);
        RIG_UNTIL(big.closed > 0 && streamed.closed > 0);
        ck_assert_uint_eq(big.code, GRPC_OK);
        buf_fini(&big.last);
        buf_fini(&streamed.last);
        RIG_UNTIL(rig.opened == rig.closed);
    }
    mem_free(bytes);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_slow_reader_bounds_the_server)
{
    enum { MESSAGE_BYTES = 65536 };
    struct seen s;
    uint8_t *msg = pattern(MESSAGE_BYTES);
    rig_prepare();
    rig.server_options.send_queue_high_bytes = 1 << 20;
    rig_serve();
    struct grpc_channel *ch = channel_to(rig.address);
    start(ch, "/rig.Rig/Bidi", &s);
    grpc_call_pause_reading(s.call);
    for (int i = 0; i < 1000; i++)
        say(&s, slice_of(msg, MESSAGE_BYTES));
    rig_turns(300);
    /* The server stopped taking requests when its answers were not read. */
    ck_assert_uint_gt(rig.queued_bytes_max, 0);
    ck_assert_uint_le(rig.queued_bytes_max, (1 << 20) + MESSAGE_BYTES + 5);
    ck_assert_uint_lt(s.messages, 1000);
    uint32_t before = s.messages;
    rig_turns(20);
    ck_assert_uint_eq(s.messages, before);
    grpc_call_resume_reading(s.call);
    grpc_half_close(s.call);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    ck_assert_uint_eq(s.messages, 1000);
    ck_assert_mem_eq(s.last.data, msg, MESSAGE_BYTES);
    buf_fini(&s.last);
    mem_free(msg);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_paused_server_holds_messages_back)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    rig.pause_next = true;
    start(ch, "/rig.Rig/Bidi", &s);
    for (uint32_t i = 0; i < 100; i++)
        say(&s, slice_of(&i, sizeof(i)));
    grpc_half_close(s.call);
    RIG_UNTIL(rig.last != NULL);
    rig_turns(20);
    ck_assert_uint_eq(s.messages, 0);
    ck_assert_uint_eq(s.closed, 0);
    grpc_call_resume_reading(rig.last);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.messages, 100);
    ck_assert_uint_eq(s.code, GRPC_OK);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_paused_client_gets_messages_before_the_end)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    ask_u32(ch, "/rig.Rig/Count", 10, &s);
    grpc_call_pause_reading(s.call);
    RIG_UNTIL(rig.closed == 1);
    rig_turns(10);
    ck_assert_uint_eq(s.messages, 0);
    ck_assert_uint_eq(s.closed, 0);
    grpc_call_resume_reading(s.call);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.messages, 10);
    ck_assert_uint_eq(s.code, GRPC_OK);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_deadline)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    RIG_UNTIL(grpc_channel_state(ch) == GRPC_CHANNEL_READY);
    start_with(ch, "/rig.Rig/Never", &s, clock_mono_ns() + 50000000);
    say(&s, SLICE_LITERAL("x"));
    grpc_half_close(s.call);
    RIG_UNTIL(s.closed > 0 && rig.closed == 1);
    ck_assert_uint_eq(s.closed, 1);
    ck_assert_uint_eq(s.code, GRPC_DEADLINE_EXCEEDED);
    ck_assert_str_eq(s.text, "context deadline exceeded");
    ck_assert(rig.closed_code == GRPC_DEADLINE_EXCEEDED || rig.closed_code == GRPC_CANCELLED);
    buf_fini(&s.last);
    /* One that has passed already. */
    start_with(ch, "/rig.Rig/Never", &s, 1);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_DEADLINE_EXCEEDED);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_cancel)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    start(ch, "/rig.Rig/NeverStream", &s);
    RIG_UNTIL(rig.opened == 1);
    grpc_cancel(s.call);
    ck_assert_uint_eq(s.closed, 0); /* never from inside */
    RIG_UNTIL(s.closed > 0 && rig.closed == 1);
    ck_assert_uint_eq(s.closed, 1);
    ck_assert_uint_eq(s.code, GRPC_CANCELLED);
    ck_assert_uint_eq(rig.closed_code, GRPC_CANCELLED);
    buf_fini(&s.last);
    /* Before it ever left. */
    start(ch, "/rig.Rig/Never", &s);
    grpc_cancel(s.call);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_CANCELLED);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_lost_connection_ends_every_call_once_and_comes_back)
{
    enum { CALLS_COUNT = 50 };
    struct seen s[CALLS_COUNT];
    struct seen again;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    for (int i = 0; i < CALLS_COUNT; i++)
        ask(ch, i % 2 == 0 ? "/rig.Rig/Never" : "/rig.Rig/NeverStream", SLICE_LITERAL("x"), &s[i]);
    RIG_UNTIL(rig.opened == CALLS_COUNT);
    grpc_server_free(rig.server);
    rig.server = NULL;
    ck_assert_uint_eq(rig.closed, CALLS_COUNT);
    for (int i = 0; i < CALLS_COUNT; i++) {
        RIG_UNTIL(s[i].closed > 0);
        ck_assert_uint_eq(s[i].code, GRPC_UNAVAILABLE);
    }
    rig_turns(10);
    for (int i = 0; i < CALLS_COUNT; i++) {
        ck_assert_uint_eq(s[i].closed, 1);
        buf_fini(&s[i].last);
    }
    /* No server: one call fails, one waits for the next server. */
    struct seen fails = {0};
    RIG_UNTIL(grpc_channel_state(ch) == GRPC_CHANNEL_BACKOFF);
    (void)grpc_start(ch, &(struct grpc_start_options){
                             .path = "/rig.Rig/Echo", .ops = &client_ops, .user = &fails});
    ask(ch, "/rig.Rig/Echo", SLICE_LITERAL("again"), &again);
    RIG_UNTIL(fails.closed > 0);
    ck_assert_uint_eq(fails.code, GRPC_UNAVAILABLE);
    ck_assert_uint_eq(again.closed, 0);
    rig_serve();
    RIG_UNTIL(again.closed > 0);
    ck_assert_uint_eq(again.code, GRPC_OK);
    buf_fini(&again.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_channel_close_ends_calls_from_inside)
{
    struct seen s[3];
    struct seen waiting;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    struct grpc_channel *nowhere = channel_to("127.0.0.1:1");
    for (int i = 0; i < 3; i++)
        start(ch, "/rig.Rig/NeverStream", &s[i]);
    start(nowhere, "/rig.Rig/Echo", &waiting);
    RIG_UNTIL(rig.opened == 3);
    grpc_cancel(s[2].call);
    grpc_channel_close(ch);
    grpc_channel_close(nowhere);
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(s[i].closed, 1);
        ck_assert_uint_eq(s[i].code, GRPC_CANCELLED);
    }
    ck_assert_uint_eq(waiting.closed, 1);
    ck_assert_uint_eq(waiting.code, GRPC_CANCELLED);
    RIG_UNTIL(rig.closed == 3);
    rig_stop();
}
END_TEST

START_TEST(test_second_address_is_tried)
{
    struct seen s;
    rig_start();
    const char *addresses[] = {"127.0.0.1:1", rig.address};
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.tls = rig.client_tls;
    o.addresses = addresses;
    o.addresses_count = 2;
    o.backoff_min_ms = 1000000; /* it must not come to a pause */
    struct grpc_channel *ch = grpc_channel_new(rig.gl, &o);
    ask(ch, "/rig.Rig/Echo", SLICE_LITERAL("x"), &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    o.addresses = &(const char *){"nonsense"};
    o.addresses_count = 1;
    ck_assert_ptr_null(grpc_channel_new(rig.gl, &o));
    rig_stop();
}
END_TEST

static void count_backoff(struct grpc_channel *ch, enum grpc_channel_state state,
                          const char *address, void *arg)
{
    (void)ch;
    (void)address;
    *(uint32_t *)arg += state == GRPC_CHANNEL_BACKOFF;
}

START_TEST(test_local_host)
{
    static const struct {
        const char *host;
        const char *peer; /* NULL: it does not connect */
    } cases[] = {
        {"127.0.0.9", "127.0.0.9:"}, {"", "127.0.0.1:"}, {"::1", NULL}, {"192.0.2.1", NULL}};
    rig_start();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct seen s;
        struct grpc_channel_options o;
        grpc_channel_options_init(&o);
        o.tls = rig.client_tls;
        o.addresses = &(const char *){rig.address};
        o.addresses_count = 1;
        o.local_host = cases[i].host;
        uint32_t backoffs = 0;
        o.state_changed = count_backoff;
        o.arg = &backoffs;
        struct grpc_channel *ch = grpc_channel_new(rig.gl, &o);
        if (cases[i].peer == NULL) {
            RIG_UNTIL(backoffs > 0);
        } else {
            ask(ch, "/rig.Rig/Echo", SLICE_LITERAL("x"), &s);
            RIG_UNTIL(s.closed > 0);
            ck_assert_uint_eq(s.code, GRPC_OK);
            ck_assert_int_eq(strncmp(rig.peer, cases[i].peer, strlen(cases[i].peer)), 0);
            buf_fini(&s.last);
        }
        grpc_channel_close(ch);
    }
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.addresses = &(const char *){rig.address};
    o.addresses_count = 1;
    o.local_host = "a.name";
    ck_assert_ptr_null(grpc_channel_new(rig.gl, &o));
    rig_stop();
}
END_TEST

START_TEST(test_unknown_paths)
{
    static const struct {
        const char *path;
        const char *text;
    } cases[] = {
        {"/rig.Rig/Nope", "unknown method Nope for service rig.Rig"},
        {"/rig.Other/Echo", "unknown service rig.Other"},
        {"/rig.Rig", "malformed method name: \"/rig.Rig\""},
    };
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct seen s;
        ask(ch, cases[i].path, SLICE_LITERAL("x"), &s);
        RIG_UNTIL(s.closed > 0);
        ck_assert_uint_eq(s.code, GRPC_UNIMPLEMENTED);
        ck_assert_str_eq(s.text, cases[i].text);
        buf_fini(&s.last);
    }
    ck_assert_uint_eq(rig.opened, 0);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_oversize)
{
    struct seen s;
    uint8_t *big = pattern(70000);
    rig_prepare();
    rig.server_options.recv_message_bytes_max = 65536;
    rig_serve();
    struct grpc_channel *ch = channel_to(rig.address);
    ask(ch, "/rig.Rig/Echo", slice_of(big, 65537), &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_RESOURCE_EXHAUSTED);
    ck_assert_str_eq(s.text, "grpc: received message larger than max (65537 vs. 65536)");
    buf_fini(&s.last);
    start(ch, "/rig.Rig/Bidi", &s);
    say(&s, slice_of(big, 65536));
    RIG_UNTIL(s.messages == 1);
    say(&s, slice_of(big, 70000));
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_RESOURCE_EXHAUSTED);
    buf_fini(&s.last);
    RIG_UNTIL(rig.closed == 2);
    ck_assert_uint_eq(rig.closed_code, GRPC_RESOURCE_EXHAUSTED);
    mem_free(big);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_one_message_methods_refuse_none_and_two)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    start(ch, "/rig.Rig/Echo", &s);
    grpc_half_close(s.call);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_INTERNAL);
    ck_assert_str_eq(s.text, "cardinality violation: received no request message from "
                             "non-client-streaming RPC");
    buf_fini(&s.last);
    start(ch, "/rig.Rig/Echo", &s);
    say(&s, SLICE_LITERAL("one"));
    say(&s, SLICE_LITERAL("two"));
    grpc_half_close(s.call);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_INTERNAL);
    ck_assert_str_eq(s.text, "cardinality violation: received multiple request messages for "
                             "non-client-streaming RPC");
    ck_assert_uint_eq(s.messages, 0);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

/* --- ending things from inside callbacks --- */

static struct grpc_channel *closing_channel;

static void close_channel(struct grpc_call *call, struct slice msg)
{
    on_message(call, msg);
    grpc_channel_close(closing_channel);
}

static void cancel_itself(struct grpc_call *call, struct slice msg)
{
    on_message(call, msg);
    grpc_cancel(call);
}

static const struct grpc_call_ops closing_ops = {.message = close_channel, .closed = on_closed};
static const struct grpc_call_ops cancelling_ops = {.message = cancel_itself, .closed = on_closed};

START_TEST(test_channel_closed_from_inside)
{
    struct seen s;
    struct seen other;
    rig_start();
    closing_channel = channel_to(rig.address);
    ask_u32(closing_channel, "/rig.Rig/Count", 1000, &s);
    start(closing_channel, "/rig.Rig/NeverStream", &other);
    grpc_call_set_ops(s.call, &closing_ops);
    RIG_UNTIL(s.messages > 0);
    ck_assert_uint_eq(s.messages, 1);
    ck_assert_uint_eq(s.closed, 1);
    ck_assert_uint_eq(other.closed, 1);
    ck_assert_uint_eq(s.code, GRPC_CANCELLED);
    RIG_UNTIL(rig.closed == rig.opened && rig.opened > 0);
    buf_fini(&s.last);
    rig_stop();
}
END_TEST

START_TEST(test_call_cancelled_from_inside)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    ask_u32(ch, "/rig.Rig/Count", 1000, &s);
    grpc_call_set_ops(s.call, &cancelling_ops);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.messages, 1);
    ck_assert_uint_eq(s.code, GRPC_CANCELLED);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

static void free_server(struct grpc_call *call, struct slice msg)
{
    (void)grpc_send(call, &msg, 1);
    grpc_server_free(rig.server);
    rig.server = NULL;
}

static const struct grpc_call_ops freeing_ops = {.message = free_server, .closed = rig_closed};

START_TEST(test_server_freed_from_inside)
{
    struct seen s;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    start(ch, "/rig.Rig/Bidi", &s);
    RIG_UNTIL(rig.last != NULL);
    grpc_call_set_ops(rig.last, &freeing_ops);
    say(&s, SLICE_LITERAL("a"));
    say(&s, SLICE_LITERAL("b"));
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_UNAVAILABLE);
    ck_assert_uint_eq(rig.closed, 1);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

/* Accepted here, served there. */
static void hand_over(void *arg, int fd, const struct grpc_port *port)
{
    ck_assert_int_eq(grpc_server_adopt(arg, fd, port), 0);
}

START_TEST(test_accepted_socket_is_handed_over)
{
    struct seen s;
    struct grpc_server_stats stats;
    rig_start();
    struct grpc_server *other = grpc_server_new(rig.gl, &rig.server_options, rig_methods,
                                                sizeof(rig_methods) / sizeof(rig_methods[0]));
    grpc_server_set_accept(rig.server, hand_over, other);
    struct grpc_channel *ch = channel_to(rig.address);
    ask(ch, "/rig.Rig/Echo", SLICE_LITERAL("x"), &s);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    grpc_server_stats(rig.server, &stats);
    ck_assert_uint_eq(stats.conns_total, 0);
    grpc_server_stats(other, &stats);
    ck_assert_uint_eq(stats.conns_total, 1);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    grpc_server_free(other);
    rig_stop();
}
END_TEST

START_TEST(test_addresses_that_do_not_work)
{
    rig_start();
    ck_assert_int_eq(grpc_server_listen(rig.server, "nonsense", NULL), TV_EINVAL);
    ck_assert_int_eq(grpc_server_listen(rig.server, "127.0.0.1:99999", NULL), TV_EINVAL);
    ck_assert_int_eq(grpc_server_listen(rig.server, "1:2:3", NULL), TV_EINVAL);
    ck_assert_int_eq(grpc_server_listen(rig.server, rig.address, NULL), TV_EBUSY);
    rig_stop();
}
END_TEST

static void on_drained(struct grpc_server *s, void *arg)
{
    (void)s;
    (*(uint32_t *)arg)++;
}

START_TEST(test_drain)
{
    struct seen s;
    uint32_t drained = 0;
    rig_start();
    struct grpc_channel *ch = channel_to(rig.address);
    start(ch, "/rig.Rig/Bidi", &s);
    say(&s, SLICE_LITERAL("a"));
    RIG_UNTIL(s.messages == 1);
    grpc_server_drain(rig.server, on_drained, &drained);
    RIG_UNTIL(grpc_channel_state(ch) == GRPC_CHANNEL_BACKOFF); /* sent elsewhere */
    /* The call that is open goes on. */
    say(&s, SLICE_LITERAL("b"));
    RIG_UNTIL(s.messages == 2);
    ck_assert_uint_eq(drained, 0);
    grpc_half_close(s.call);
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_OK);
    RIG_UNTIL(drained == 1);
    ck_assert_uint_eq(rig.conns_closed, 1);
    buf_fini(&s.last);
    grpc_channel_close(ch);
    rig_stop();
}
END_TEST

START_TEST(test_silent_server_is_given_up)
{
    struct seen s;
    int sock;
    rig_start();
    /* A server whose loop stands still: a listener that nobody accepts from answers nothing. */
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(addr);
    sock = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(sock, 5), 0);
    ck_assert_int_eq(getsockname(sock, (struct sockaddr *)&addr, &size), 0);
    char text[32];
    (void)snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(addr.sin_port));
    const char *address = text;
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.tls = rig.client_tls;
    o.addresses = &address;
    o.addresses_count = 1;
    o.connect_timeout_ms = 50;
    struct grpc_channel *ch = grpc_channel_new(rig.gl, &o);
    memset(&s, 0, sizeof(s));
    (void)grpc_start(
        ch, &(struct grpc_start_options){.path = "/rig.Rig/Echo", .ops = &client_ops, .user = &s});
    RIG_UNTIL(s.closed > 0);
    ck_assert_uint_eq(s.code, GRPC_UNAVAILABLE);
    grpc_channel_close(ch);
    (void)close(sock);
    rig_stop();
}
END_TEST

UNIT_MAIN("grpc", test_unary, test_error_text_survives, test_metadata_and_deadline_reach_the_server,
          test_server_streaming, test_bidi, test_big_messages_through_small_windows,
          test_many_calls_at_once, test_shared_bytes, test_pulled_message, test_large_answer,
          test_big_transfers_share_the_connection, test_slow_reader_bounds_the_server,
          test_paused_server_holds_messages_back, test_paused_client_gets_messages_before_the_end,
          test_deadline, test_cancel, test_lost_connection_ends_every_call_once_and_comes_back,
          test_channel_close_ends_calls_from_inside, test_second_address_is_tried, test_local_host,
          test_unknown_paths, test_oversize, test_one_message_methods_refuse_none_and_two,
          test_channel_closed_from_inside, test_call_cancelled_from_inside,
          test_server_freed_from_inside, test_accepted_socket_is_handed_over,
          test_addresses_that_do_not_work, test_drain, test_silent_server_is_given_up)
