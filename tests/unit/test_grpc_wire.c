/* The server against hand-made bytes: pings, floods, HTTP/1, mutated frames; and the client. */
#include "raw_conn.h"

#include "base/rng.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

/* --- pings and floods --- */

START_TEST(test_too_many_pings)
{
    struct raw r;
    struct frame f;
    rig_start();
    raw_open(&r);
    raw_hello(&r);
    raw_headers(&r, 1, 0, good); /* open, so that pings are allowed every 5 s */
    for (int i = 0; i < 4; i++)
        (void)raw_frame(&r, FRAME_PING, 0, 0, "12345678", 8);
    await_frame(&r, FRAME_PING, &f);
    ck_assert_uint_eq(f.flags & ACK, ACK);
    await_frame(&r, FRAME_GOAWAY, &f);
    ck_assert_mem_eq(f.payload + 4, "\0\0\0\13", 4); /* ENHANCE_YOUR_CALM */
    ck_assert_mem_eq(f.payload + 8, "too_many_pings", 14);
    RAW_UNTIL(&r, r.ended);
    ck_assert_uint_eq(rig.closed, 1);
    raw_close(&r);
    check_alive();
    rig_stop();
}
END_TEST

START_TEST(test_answers_forgive_pings)
{
    struct raw r;
    struct frame f;
    rig_start();
    raw_open(&r);
    raw_hello(&r);
    for (uint32_t i = 0; i < 10; i++) {
        (void)raw_frame(&r, FRAME_PING, 0, 0, "12345678", 8);
        await_frame(&r, FRAME_PING, &f);
        raw_headers(&r, 2 * i + 1, 0, good);
        (void)raw_frame(&r, FRAME_DATA, END_STREAM, 2 * i + 1, "\0\0\0\0", 5);
        await_frame(&r, FRAME_DATA, &f);
    }
    ck_assert(!r.ended);
    raw_close(&r);
    RIG_UNTIL(rig.closed == 10);
    rig_stop();
}
END_TEST

START_TEST(test_server_pings_and_gives_up)
{
    struct raw r;
    struct frame f;
    rig_prepare();
    rig.server_options.keepalive_interval_ms = 20;
    rig.server_options.keepalive_timeout_ms = 50;
    rig_serve();
    raw_open(&r);
    raw_hello(&r);
    for (int i = 0; i < 3; i++) {
        await_frame(&r, FRAME_PING, &f);
        (void)raw_frame(&r, FRAME_PING, ACK, 0, f.payload, 8);
    }
    RAW_UNTIL(&r, r.ended); /* no answer any more */
    ck_assert_uint_eq(rig.conns_closed, 1);
    raw_close(&r);
    rig_stop();
}
END_TEST

/* A client that sends what must be answered and reads nothing: the server's memory is bounded, and
 * the connection ends. */
START_TEST(test_flood_without_reading)
{
    struct raw r;
    uint8_t settings[9 * 1000];
    size_t size = 0;
    rig_start();
    raw_open(&r);
    raw_hello(&r);
    for (int i = 0; i < 1000; i++)
        size += put_frame(settings + size, FRAME_SETTINGS, 0, 0, NULL, 0);
    for (int i = 0; i < 20000 && rig.conns_closed == 0; i++) {
        ssize_t n = send(r.fd, settings, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            break;
        (void)uv_run(&rig.loop, UV_RUN_NOWAIT);
    }
    RIG_UNTIL(rig.conns_closed == 1);
    check_alive();
    raw_close(&r);
    rig_stop();
}
END_TEST

START_TEST(test_reset_flood_ends_the_connection)
{
    struct raw r;
    struct frame f;
    rig_start();
    raw_open(&r);
    raw_hello(&r);
    bool ok = true;
    for (uint32_t i = 0; i < 60000 && ok && !r.ended; i++) {
        uint8_t block[256];
        uint8_t frames[512];
        size_t size = put_fields(block, good);
        size = put_frame(frames, FRAME_HEADERS, END_HEADERS, 2 * i + 1, block, size);
        size += put_frame(frames + size, FRAME_RST, 0, 2 * i + 1, "\0\0\0\10", 4);
        ok = raw_write(&r, frames, size);
        raw_poll(&r);
        buf_clear(&r.in);
    }
    RAW_UNTIL(&r, r.ended || take_frame_of(&r, FRAME_GOAWAY, &f));
    ck_assert_uint_lt(rig.opened, 60000);
    check_alive();
    raw_close(&r);
    RIG_UNTIL(rig.opened == rig.closed);
    rig_stop();
}
END_TEST

/* --- HTTP/1 --- */

static void expect_http1(const char *request, const char *answer)
{
    struct raw r;
    raw_open(&r);
    (void)raw_write(&r, request, strlen(request));
    RAW_UNTIL(&r, r.in.size >= strlen(answer) || r.ended);
    (void)buf_append(&r.in, "", 1);
    ck_assert_str_eq((const char *)r.in.data, answer);
    raw_close(&r);
}

START_TEST(test_http1)
{
    rig_start();
    expect_http1("GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n"
                 "{\"health\":\"true\"}");
    expect_http1("HEAD /health HTTP/1.1\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n");
    expect_http1("GET /nope HTTP/1.0\r\n\r\n",
                 "HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\n"
                 "Allow: GET\r\nX-Two: 2\r\nContent-Length: 19\r\n\r\n404 page not found\n");
    expect_http1("PUT /echo HTTP/1.1\r\ncontent-LENGTH:  3 \r\n\r\nabcGET /query?a=b&c HTTP/1.1\r\n"
                 "x-type: 1\r\n\r\nPOST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
                 "Connection: close\r\n\r\n2\r\nxy\r\nA;ext=1\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc"
                 "HTTP/1.1 200 OK\r\nContent-Type: a/some\r\nContent-Length: 5\r\n\r\na=b&c"
                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                 "Content-Length: 12\r\n\r\nxy0123456789");
    expect_http1("GET /pieces HTTP/1.1\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-One: 1\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n4\r\ntwo!\r\n0\r\n\r\n");
    rig_stop();
}
END_TEST

static void expect_http1_refused(const char *request, const char *status)
{
    struct raw r;
    char line[64];
    raw_open(&r);
    (void)raw_write(&r, request, strlen(request));
    RAW_UNTIL(&r, r.ended);
    (void)buf_append(&r.in, "", 1);
    (void)snprintf(line, sizeof(line), "HTTP/1.1 %s", status);
    ck_assert_msg(strncmp((const char *)r.in.data, line, strlen(line)) == 0, "%s: %s", request,
                  (const char *)r.in.data);
    raw_close(&r);
}

START_TEST(test_http1_refusals)
{
    rig_start();
    expect_http1_refused("nonsense\r\n\r\n", "400");
    expect_http1_refused("GET noslash HTTP/1.1\r\n\r\n", "400");
    expect_http1_refused("GET / HTTP/2.0\r\n\r\n", "505");
    expect_http1_refused("GET /\r\n\r\n", "400");
    expect_http1_refused("GET / HTTP/1.1\r\n: x\r\n\r\n", "400");
    expect_http1_refused("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400");
    expect_http1_refused("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400");
    expect_http1_refused(
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400");
    expect_http1_refused("PUT /echo HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", "413");
    expect_http1_refused("PUT /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n",
                         "413");
    expect_http1_refused("PUT /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400");
    expect_http1_refused("PUT /echo HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "501");
    static char long_request[20000];
    (void)strcpy(long_request, "GET /");
    memset(long_request + 5, 'a', sizeof(long_request) - 6);
    expect_http1_refused(long_request, "431");
    check_alive();
    rig_stop();
}
END_TEST

START_TEST(test_http1_answer_after_the_client_left)
{
    struct raw r;
    static const char ask[] = "GET /later HTTP/1.1\r\n\r\n";
    rig_start();
    raw_open(&r);
    (void)raw_write(&r, ask, sizeof(ask) - 1);
    RIG_UNTIL(rig.exchange != NULL);
    ck_assert(!http1_is_gone(rig.exchange));
    http1_respond(rig.exchange, 503, NULL, SLICE_LITERAL("no"));
    RAW_UNTIL(&r, r.in.size > 0);
    rig.exchange = NULL;
    (void)raw_write(&r, ask, sizeof(ask) - 1);
    RIG_UNTIL(rig.exchange != NULL);
    raw_close(&r);
    RIG_UNTIL(rig.conns_closed == 1);
    ck_assert(http1_is_gone(rig.exchange));
    http1_respond(rig.exchange, 200, "text/plain", SLICE_LITERAL("too late"));
    rig_stop();
}
END_TEST

/* --- garbage --- */

/* A good conversation, to be spoilt: two calls, a ping, a window update, a reset. */
static size_t conversation(uint8_t *p)
{
    static const uint8_t msg[] = {0, 0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o'};
    static const char *const bidi[] = {
        ":method",      "POST",  ":scheme",       "http",         ":authority",
        "rig",          ":path", "/rig.Rig/Bidi", "content-type", "application/grpc",
        "grpc-timeout", "1S",    "x-bin",         "a%b",          NULL};
    uint8_t block[512];
    uint8_t *start = p;
    memcpy(p, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    p += NGHTTP2_CLIENT_MAGIC_LEN;
    p += put_frame(p, FRAME_SETTINGS, 0, 0, "\0\3\0\0\0\144\0\4\0\1\0\0", 12);
    p += put_frame(p, FRAME_HEADERS, END_HEADERS, 1, block, put_fields(block, good));
    p += put_frame(p, FRAME_DATA, END_STREAM, 1, msg, sizeof(msg));
    p += put_frame(p, FRAME_HEADERS, END_HEADERS, 3, block, put_fields(block, bidi));
    p += put_frame(p, FRAME_DATA, 0, 3, msg, sizeof(msg));
    p += put_frame(p, FRAME_PING, 0, 0, "12345678", 8);
    p += put_frame(p, 8, 0, 0, "\0\1\0\0", 4);
    p += put_frame(p, FRAME_DATA, 0, 3, msg, 7);
    p += put_frame(p, FRAME_DATA, END_STREAM, 3, msg + 7, 3);
    p += put_frame(p, FRAME_HEADERS, END_HEADERS, 5, block, put_fields(block, bidi));
    p += put_frame(p, FRAME_RST, 0, 5, "\0\0\0\10", 4);
    p += put_frame(p, FRAME_SETTINGS, ACK, 0, NULL, 0);
    return (size_t)(p - start);
}

static void spoil(struct rng *rng, uint8_t *p, size_t *size, size_t capacity)
{
    for (uint64_t n = rng_below(rng, 6); n > 0; n--) {
        size_t at = (size_t)rng_below(rng, *size);
        size_t count = (size_t)rng_below(rng, 40);
        switch (rng_below(rng, 5)) {
        case 0: /* a bit */
            p[at] ^= (uint8_t)(1u << rng_below(rng, 8));
            break;
        case 1: /* a byte */
            p[at] = (uint8_t)rng_next(rng);
            break;
        case 2: /* cut out */
            count = count < *size - at ? count : *size - at - 1;
            memmove(p + at, p + at + count, *size - at - count);
            *size -= count;
            break;
        case 3: /* put in */
            count = *size + count <= capacity ? count : 0;
            memmove(p + at + count, p + at, *size - at);
            for (size_t i = 0; i < count; i++)
                p[at + i] = (uint8_t)rng_next(rng);
            *size += count;
            break;
        default: /* cut off */
            if (rng_below(rng, 4) == 0)
                *size = at + 1;
            break;
        }
    }
}

START_TEST(test_mutated_frames)
{
    enum { ROUNDS = 3000, CAPACITY = 8192 };
    struct rng rng;
    uint64_t seed = 20240611;
    uint8_t bytes[CAPACITY];
    rig_start();
    rng_init(&rng, seed);
    for (int i = 0; i < ROUNDS; i++) {
        struct raw r;
        raw_open(&r);
        size_t size = conversation(bytes);
        if (rng_below(&rng, 10) == 0)
            for (size_t at = 0; at < size; at++)
                bytes[at] = (uint8_t)rng_next(&rng);
        spoil(&rng, bytes, &size, CAPACITY);
        size_t cut = (size_t)rng_below(&rng, size);
        bool ok = raw_write(&r, bytes, cut);
        rig_turns(1);
        if (ok)
            (void)raw_write(&r, bytes + cut, size - cut);
        (void)uv_run(&rig.loop, UV_RUN_NOWAIT);
        raw_poll(&r);
        raw_close(&r);
        if (i % 500 == 0)
            check_alive();
    }
    ck_assert_uint_gt(rig.opened, ROUNDS / 4);
    check_alive();
    RIG_UNTIL(rig.opened == rig.closed);
    rig_stop();
}
END_TEST

/* --- the client against a server made of bytes --- */

struct ends {
    uint32_t started;
    uint32_t closed;
    uint32_t ok;
};

static void on_client_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)text;
    struct ends *e = grpc_call_user(call);
    e->closed++;
    e->ok += code == GRPC_OK;
}

static const struct grpc_call_ops client_ops = {.closed = on_client_closed};

static void client_ask(struct grpc_channel *ch, struct ends *e)
{
    e->started++;
    struct grpc_call *call =
        grpc_start(ch, &(struct grpc_start_options){
                           .path = "/rig.Rig/Echo",
                           .deadline_ns = clock_mono_ns() + UINT64_C(60000000000),
                           .wait_for_ready = true,
                           .ops = &client_ops,
                           .user = e,
                       });
    ck_assert_int_eq(grpc_send(call, &(struct slice){(const uint8_t *)"x", 1}, 1), 0);
    grpc_half_close(call);
}

static int listen_raw(char *ret_address, size_t size)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_size = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &addr_size), 0);
    (void)snprintf(ret_address, size, "127.0.0.1:%u", ntohs(addr.sin_port));
    return fd;
}

/* What a server says to two calls, streams 1 and 3. */
static size_t answers(uint8_t *p)
{
    static const uint8_t msg[] = {0, 0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o'};
    static const char *const head[] = {":status", "200", "content-type", "application/grpc", NULL};
    static const char *const trailers[] = {"grpc-status", "0", "grpc-message", "a%20b", NULL};
    uint8_t block[512];
    uint8_t *start = p;
    p += put_frame(p, FRAME_SETTINGS, 0, 0, "\0\3\0\0\0\144", 6);
    p += put_frame(p, FRAME_SETTINGS, ACK, 0, NULL, 0);
    for (uint32_t id = 1; id <= 3; id += 2) {
        p += put_frame(p, FRAME_HEADERS, END_HEADERS, id, block, put_fields(block, head));
        p += put_frame(p, FRAME_DATA, 0, id, msg, sizeof(msg));
        p += put_frame(p, FRAME_HEADERS, END_HEADERS | END_STREAM, id, block,
                       put_fields(block, trailers));
    }
    p += put_frame(p, FRAME_PING, 0, 0, "12345678", 8);
    p += put_frame(p, FRAME_GOAWAY, 0, 0, "\0\0\0\3\0\0\0\0", 8);
    return (size_t)(p - start);
}

START_TEST(test_mutated_answers)
{
    enum { ROUNDS = 400, CAPACITY = 4096, GREETING_BYTES = 15 + 9 };
    char text[32];
    const char *address = text;
    uint8_t bytes[CAPACITY];
    struct ends ends = {0};
    struct rng rng;
    struct grpc_channel_options o;
    rig_start();
    rng_init(&rng, 77);
    int listener = listen_raw(text, sizeof(text));
    grpc_channel_options_init(&o);
    o.addresses = &address;
    o.addresses_count = 1;
    o.backoff_min_ms = 1;
    o.backoff_max_ms = 1;
    o.connect_timeout_ms = 100;
    struct grpc_channel *ch = grpc_channel_new(rig.gl, &o);
    for (int i = 0; i < ROUNDS; i++) {
        int fd = -1;
        client_ask(ch, &ends);
        client_ask(ch, &ends);
        RIG_UNTIL((fd = accept(listener, NULL, NULL)) >= 0);
        size_t size = answers(bytes) - GREETING_BYTES;
        uint8_t *rest = bytes + GREETING_BYTES;
        struct raw r = {.fd = fd};
        ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        buf_init(&r.in, SIZE_MAX);
        /* The greeting first: the calls are on their way when the rest comes. */
        ck_assert(raw_write(&r, bytes, GREETING_BYTES));
        RAW_UNTIL(&r, (r.in.size > 0 && memmem(r.in.data, r.in.size, "\0\0\0\0\1x", 6) != NULL) ||
                          r.ended);
        if (i > 0)
            spoil(&rng, rest, &size, CAPACITY - GREETING_BYTES);
        size_t cut = (size_t)rng_below(&rng, size);
        if (raw_write(&r, rest, cut)) {
            rig_turns(1);
            (void)raw_write(&r, rest + cut, size - cut);
        }
        buf_fini(&r.in);
        rig_turns(2);
        (void)close(fd);
        RIG_UNTIL(grpc_channel_state(ch) != GRPC_CHANNEL_READY);
    }
    RIG_UNTIL(ends.closed == ends.started);
    ck_assert_uint_gt(ends.ok, ROUNDS / 4);
    grpc_channel_close(ch);
    rig_turns(3);
    ck_assert_uint_eq(ends.closed, ends.started);
    (void)close(listener);
    rig_stop();
}
END_TEST

START_TEST(test_client_pings_and_gives_up)
{
    char text[32];
    const char *address = text;
    struct ends ends = {0};
    struct frame f;
    struct grpc_channel_options o;
    uint8_t greeting[64];
    rig_start();
    int listener = listen_raw(text, sizeof(text));
    grpc_channel_options_init(&o);
    o.addresses = &address;
    o.addresses_count = 1;
    o.keepalive_time_ms = 20;
    o.keepalive_timeout_ms = 50;
    struct grpc_channel *ch = grpc_channel_new(rig.gl, &o);
    struct raw r = {.fd = -1};
    RIG_UNTIL((r.fd = accept(listener, NULL, NULL)) >= 0);
    ck_assert_int_eq(fcntl(r.fd, F_SETFL, O_NONBLOCK), 0);
    buf_init(&r.in, SIZE_MAX);
    buf_init(&r.fields, SIZE_MAX);
    ck_assert_int_eq(nghttp2_hd_inflate_new(&r.inflater), 0);
    ck_assert(raw_write(&r, greeting, put_frame(greeting, FRAME_SETTINGS, 0, 0, NULL, 0)));
    RIG_UNTIL(grpc_channel_state(ch) == GRPC_CHANNEL_READY);
    RAW_UNTIL(&r, r.in.size >= NGHTTP2_CLIENT_MAGIC_LEN);
    buf_consume(&r.in, NGHTTP2_CLIENT_MAGIC_LEN);
    /* None without a call. */
    uint64_t end_ns = clock_mono_ns() + 100000000;
    RIG_UNTIL(clock_mono_ns() > end_ns);
    raw_poll(&r);
    ck_assert(!take_frame_of(&r, FRAME_PING, &f));
    client_ask(ch, &ends);
    for (int i = 0; i < 3; i++) {
        await_frame(&r, FRAME_PING, &f);
        (void)raw_frame(&r, FRAME_PING, ACK, 0, f.payload, 8);
    }
    ck_assert_uint_eq(ends.closed, 0);
    RIG_UNTIL(ends.closed == 1); /* no answer any more */
    ck_assert_uint_eq(ends.ok, 0);
    RIG_UNTIL(grpc_channel_state(ch) != GRPC_CHANNEL_READY);
    raw_close(&r);
    grpc_channel_close(ch);
    (void)close(listener);
    rig_stop();
}
END_TEST

START_TEST(test_conns_are_bounded)
{
    struct raw r[4];
    rig_prepare();
    rig.server_options.conns_max = 3;
    rig_serve();
    for (int i = 0; i < 4; i++)
        raw_open(&r[i]);
    RAW_UNTIL(&r[3], r[3].ended);
    ck_assert_uint_eq(rig.conns_opened, 3);
    for (int i = 0; i < 4; i++)
        raw_close(&r[i]);
    RIG_UNTIL(rig.conns_closed == 3);
    check_alive();
    rig_stop();
}
END_TEST

START_TEST(test_silent_conn_is_closed)
{
    struct raw r;
    rig_prepare();
    rig.server_options.handshake_timeout_ms = 30;
    rig_serve();
    raw_open(&r);
    RAW_UNTIL(&r, r.ended);
    raw_close(&r);
    raw_open(&r);
    (void)raw_write(&r, "GET /hea", 8);
    RAW_UNTIL(&r, r.ended);
    raw_close(&r);
    rig_stop();
}
END_TEST

/* --- what waits to be sent --- */

/* The server's end of the connection. */
static int fd_of_server(const struct raw *r)
{
    struct sockaddr_in own, peer;
    socklen_t size = sizeof(own);
    ck_assert_int_eq(getsockname(r->fd, (struct sockaddr *)&own, &size), 0);
    for (int fd = 0; fd < 1024; fd++) {
        size = sizeof(peer);
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && size == sizeof(peer) &&
            peer.sin_port == own.sin_port)
            return fd;
    }
    ck_abort_msg("the server has no such connection");
}

static int unsent_bytes(int fd)
{
    int bytes = 0;
    ck_assert_int_eq(ioctl(fd, SIOCOUTQNSD, &bytes), 0);
    return bytes;
}

/* A client that makes room for much and reads nothing: what it does not take waits with us, not in
 * the kernel. */
START_TEST(test_little_waits_in_the_kernel)
{
    enum { UNSENT_MAX = 128 << 10, ONE_WRITE = 64 << 10 };
    static const char *const shared[] = {FIELDS_OF("Shared"), NULL};
    static const uint8_t much[] = {0, 4, 0x10, 0, 0, 0}; /* INITIAL_WINDOW_SIZE 256 MiB */
    static const uint8_t more[] = {0x10, 0, 0, 0};
    static const uint8_t messages[] = {0, 0, 0, 0, 4, 200, 0, 0, 0}; /* of 100,000 bytes each */
    struct raw r;
    rig_start();
    raw_open(&r);
    raw_hello(&r);
    (void)raw_frame(&r, FRAME_SETTINGS, 0, 0, much, sizeof(much));
    (void)raw_frame(&r, FRAME_WINDOW_UPDATE, 0, 0, more, sizeof(more));
    raw_headers(&r, 1, 0, shared);
    (void)raw_frame(&r, FRAME_DATA, END_STREAM, 1, messages, sizeof(messages));
    RIG_UNTIL(rig.opened == 1);
    int fd = fd_of_server(&r);
    RIG_UNTIL(unsent_bytes(fd) > 0); /* the client's end is full */
    for (uint64_t end_ns = clock_mono_ns() + 300000000; clock_mono_ns() < end_ns;) {
        (void)uv_run(&rig.loop, UV_RUN_NOWAIT);
        ck_assert_int_le(unsent_bytes(fd), UNSENT_MAX + ONE_WRITE);
    }
    raw_close(&r);
    RIG_UNTIL(rig.closed == 1);
    rig_stop();
}
END_TEST

UNIT_MAIN("grpc_wire", test_too_many_pings, test_answers_forgive_pings,
          test_server_pings_and_gives_up, test_flood_without_reading,
          test_reset_flood_ends_the_connection, test_http1, test_http1_refusals,
          test_http1_answer_after_the_client_left, test_mutated_frames, test_mutated_answers,
          test_client_pings_and_gives_up, test_conns_are_bounded, test_silent_conn_is_closed,
          test_little_waits_in_the_kernel)
