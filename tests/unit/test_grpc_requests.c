/* The server against hand-made requests: which it refuses and how, their headers, their messages.
 */
#include "raw_conn.h"

/* --- what is refused, and how --- */

static void expect_refused(const char *const *fields, const char *status, const char *code,
                           const char *text)
{
    struct raw r;
    struct frame f;
    raw_open(&r);
    raw_hello(&r);
    raw_headers(&r, 1, 0, fields);
    await_frame(&r, FRAME_HEADERS, &f);
    ck_assert_uint_eq(f.flags & END_STREAM, END_STREAM);
    expect_field(&r, status);
    expect_field(&r, code);
    expect_field(&r, text);
    expect_field(&r, "content-type=application/grpc;");
    await_frame(&r, FRAME_RST, &f); /* nobody reads the rest */
    ck_assert_mem_eq(f.payload, "\0\0\0\0", 4);
    raw_close(&r);
}

START_TEST(test_refusals)
{
    rig_start();
    expect_refused((const char *const[]){":method", "POST", ":scheme", "http", ":authority", "rig",
                                         ":path", "/rig.Rig/Echo", "content-type",
                                         "application/json", NULL},
                   ":status=415;", "grpc-status=3;",
                   "grpc-message=invalid gRPC request content-type \"application/json\";");
    expect_refused((const char *const[]){":method", "POST", ":scheme", "http", ":authority", "rig",
                                         ":path", "/rig.Rig/Echo", NULL},
                   ":status=415;", "grpc-status=3;",
                   "grpc-message=invalid gRPC request content-type \"\";");
    expect_refused((const char *const[]){":method", "GET", ":scheme", "http", ":authority", "rig",
                                         ":path", "/rig.Rig/Echo", "content-type",
                                         "application/grpc", NULL},
                   ":status=405;", "grpc-status=13;",
                   "grpc-message=Received a HEADERS frame with :method \"GET\" which should be "
                   "POST;");
    expect_refused((const char *const[]){GOOD_FIELDS, "grpc-timeout", "5x", NULL}, ":status=400;",
                   "grpc-status=13;",
                   "grpc-message=malformed grpc-timeout: transport: timeout unit is not "
                   "recognized: \"5x\";");
    expect_refused((const char *const[]){GOOD_FIELDS, "grpc-timeout", "123456789S", NULL},
                   ":status=400;", "grpc-status=13;",
                   "malformed grpc-timeout: transport: timeout string is too long");
    expect_refused((const char *const[]){GOOD_FIELDS, "grpc-timeout", "1-S", NULL}, ":status=400;",
                   "grpc-status=13;", "malformed grpc-timeout: strconv.ParseUint");
    expect_refused((const char *const[]){GOOD_FIELDS, "grpc-timeout", "0n", NULL}, ":status=200;",
                   "grpc-status=4;", "grpc-message=context deadline exceeded;");
    expect_refused((const char *const[]){GOOD_FIELDS, "grpc-encoding", "gzip", NULL},
                   ":status=200;", "grpc-status=12;",
                   "grpc-message=grpc: Decompressor is not installed for grpc-encoding \"gzip\";");
    ck_assert_uint_eq(rig.opened, 0);
    check_alive();
    rig_stop();
}
END_TEST

START_TEST(test_content_types_that_are_grpc)
{
    static const char *const types[] = {"application/grpc+proto", "application/grpc;charset=utf-8"};
    rig_start();
    for (int i = 0; i < 2; i++) {
        struct raw r;
        struct frame f;
        raw_open(&r);
        raw_hello(&r);
        raw_headers(&r, 1, 0,
                    (const char *const[]){":method", "POST", ":scheme", "http", ":authority", "rig",
                                          ":path", "/rig.Rig/Echo", "content-type", types[i],
                                          NULL});
        (void)raw_frame(&r, FRAME_DATA, END_STREAM, 1, "\0\0\0\0", 5);
        await_frame(&r, FRAME_HEADERS, &f);
        expect_field(&r, ":status=200;");
        expect_field(&r, i == 0 ? "content-type=application/grpc+proto;"
                                : "content-type=application/grpc;");
        raw_close(&r);
    }
    RIG_UNTIL(rig.closed == 2);
    rig_stop();
}
END_TEST

/* Send these bytes as the body of one call and expect this status. */
static void expect_status(const char *const *fields, const void *body, size_t size,
                          const char *code, const char *text)
{
    struct raw r;
    struct frame f;
    raw_open(&r);
    raw_hello(&r);
    raw_headers(&r, 1, 0, fields);
    (void)raw_frame(&r, FRAME_DATA, END_STREAM, 1, body, size);
    await_frame(&r, FRAME_HEADERS, &f);
    expect_field(&r, code);
    expect_field(&r, text);
    raw_close(&r);
}

START_TEST(test_messages_that_are_refused)
{
    static const char *const bidi[] = {
        ":method",       "POST",         ":scheme",          "http", ":authority", "rig", ":path",
        "/rig.Rig/Bidi", "content-type", "application/grpc", NULL};
    static const char *const *const both[] = {good, bidi};
    rig_start();
    for (int i = 0; i < 2; i++) {
        expect_status(both[i], "\1\0\0\0\1x", 6, "grpc-status=13;",
                      "grpc: compressed flag set with identity or empty encoding;");
        expect_status(both[i], "\7\0\0\0\1x", 6, "grpc-status=13;",
                      "grpc: received unexpected payload format 7;");
        expect_status(both[i], "\0\0\0\0\5abc", 8, "grpc-status=13;", "unexpected EOF;");
        expect_status(both[i], "\0\0\0", 3, "grpc-status=13;", "unexpected EOF;");
        expect_status(both[i], "\0\377\377\377\377abc", 8, "grpc-status=8;",
                      "grpc: received message larger than max (4294967295 vs. 4194304);");
    }
    expect_status(good, "\0\0\0\0\1a\0\0\0\0\1b", 12, "grpc-status=13;",
                  "cardinality violation: received multiple request messages");
    RIG_UNTIL(rig.closed == rig.opened);
    rig_stop();
}
END_TEST

/* One byte a frame, padding, and the end in a frame of its own. */
START_TEST(test_message_in_pieces)
{
    static const uint8_t msg[] = {0, 0, 0, 0, 3, 'a', 'b', 'c'};
    struct raw r;
    struct frame f;
    rig_start();
    raw_open(&r);
    raw_hello(&r);
    raw_headers(&r, 1, 0, good);
    for (size_t i = 0; i < sizeof(msg); i++)
        (void)raw_frame(&r, FRAME_DATA, 0, 1, msg + i, 1);
    (void)raw_frame(&r, FRAME_DATA, END_STREAM, 1, NULL, 0);
    await_frame(&r, FRAME_DATA, &f);
    ck_assert_mem_eq(f.payload, msg, sizeof(msg));
    /* Whole message and END_STREAM in a padded frame whose padding comes later. */
    uint8_t frame[64];
    uint8_t payload[1 + sizeof(msg) + 20] = {20};
    memcpy(payload + 1, msg, sizeof(msg));
    raw_headers(&r, 3, 0, good);
    size_t size = put_frame(frame, FRAME_DATA, END_STREAM | 8, 3, payload, sizeof(payload));
    (void)raw_write(&r, frame, 9 + 1 + sizeof(msg));
    rig_turns(5);
    (void)raw_write(&r, frame + 9 + 1 + sizeof(msg), size - 9 - 1 - sizeof(msg));
    await_frame(&r, FRAME_DATA, &f);
    ck_assert_uint_eq(f.stream_id, 3);
    ck_assert_mem_eq(f.payload, msg, sizeof(msg));
    raw_close(&r);
    RIG_UNTIL(rig.closed == 2);
    rig_stop();
}
END_TEST

START_TEST(test_deadline_is_the_servers_too)
{
    struct raw r;
    struct frame f;
    rig_start();
    raw_open(&r);
    raw_hello(&r);
    raw_headers(&r, 1, 0,
                (const char *const[]){":method", "POST", ":scheme", "http", ":authority", "rig",
                                      ":path", "/rig.Rig/NeverStream", "content-type",
                                      "application/grpc", "grpc-timeout", "20m", NULL});
    await_frame(&r, FRAME_HEADERS, &f);
    expect_field(&r, "grpc-status=4;");
    expect_field(&r, "grpc-message=context deadline exceeded;");
    ck_assert_uint_eq(rig.closed, 1);
    ck_assert_uint_eq(rig.closed_code, GRPC_DEADLINE_EXCEEDED);
    raw_close(&r);
    rig_stop();
}
END_TEST

/* RFC 9113, 8.1 to 8.3: the stream is reset, and nobody hears of the call. */
static void expect_malformed(uint8_t flags, const char *const *fields, const char *const *then)
{
    struct raw r;
    struct frame f;
    uint32_t opened = rig.opened;
    raw_open(&r);
    raw_hello(&r);
    raw_headers(&r, 1, flags, fields);
    if (then != NULL)
        raw_headers(&r, 1, 0, then);
    await_frame(&r, FRAME_RST, &f);
    ck_assert_mem_eq(f.payload, "\0\0\0\1", 4);
    if (then == NULL)
        ck_assert_uint_eq(rig.opened, opened);
    raw_close(&r);
}

#define EXPECT_MALFORMED(...) expect_malformed(0, (const char *const[]){__VA_ARGS__, NULL}, NULL)

START_TEST(test_malformed_fields)
{
    rig_start();
    EXPECT_MALFORMED(GOOD_FIELDS, "X-Upper", "1");
    EXPECT_MALFORMED(GOOD_FIELDS, "x y", "1");
    EXPECT_MALFORMED(GOOD_FIELDS, "", "1");
    EXPECT_MALFORMED(GOOD_FIELDS, "x-line", "a\nb");
    EXPECT_MALFORMED(GOOD_FIELDS, "x-blank", " a");
    EXPECT_MALFORMED(GOOD_FIELDS, "x-blank", "a\t");
    EXPECT_MALFORMED(GOOD_FIELDS, "connection", "close");
    EXPECT_MALFORMED(GOOD_FIELDS, "transfer-encoding", "chunked");
    EXPECT_MALFORMED(GOOD_FIELDS, "te", "gzip");
    EXPECT_MALFORMED(GOOD_FIELDS, ":authority", "late");
    EXPECT_MALFORMED(":method", "POST", ":method", "POST", ":scheme", "http", ":path",
                     "/rig.Rig/Echo", "content-type", "application/grpc");
    EXPECT_MALFORMED(":status", "200", GOOD_FIELDS);
    EXPECT_MALFORMED(":method", "POST", ":path", "/rig.Rig/Echo", "content-type",
                     "application/grpc");
    EXPECT_MALFORMED(":method", "POST", ":scheme", "http", "content-type", "application/grpc");
    EXPECT_MALFORMED(":method", "POST", ":scheme", "http", ":path", "", "content-type",
                     "application/grpc");
    EXPECT_MALFORMED(":method", "POST", ":scheme", "http", ":path", "/rig.Rig/Echo", ":protocol",
                     "x", "content-type", "application/grpc");
    /* More headers in the middle of a request. */
    expect_malformed(0, good, (const char *const[]){"x-trailer", "1", NULL});
    check_alive();
    rig_stop();
}
END_TEST

/* The index of the newest field in HPACK's dynamic table, as an indexed field. */
enum { NEWEST = 0x80 | 62 };

static size_t put_path(uint8_t *p, uint8_t first, const char *path)
{
    static const uint8_t begin[] = {0x83, 0x86}; /* :method POST, :scheme http */
    static const char *const rest[] = {"content-type", "application/grpc", NULL};
    uint8_t *start = p;
    memcpy(p, begin, sizeof(begin));
    p += sizeof(begin);
    *p++ = first;
    if (path != NULL) {
        *p++ = (uint8_t)strlen(path);
        memcpy(p, path, strlen(path));
        p += strlen(path);
    }
    return (size_t)(p + put_fields(p, rest) - start);
}

/* Ask with this block; whether the answer is Echo's, which has the request in it. */
static bool is_echoed(struct raw *r, uint32_t stream_id, const uint8_t *block, size_t size)
{
    struct frame f;
    static const uint8_t msg[] = {0, 0, 0, 0, 2, 'o', 'k'};
    (void)raw_frame(r, FRAME_HEADERS, END_HEADERS, stream_id, block, size);
    (void)raw_frame(r, FRAME_DATA, END_STREAM, stream_id, msg, sizeof(msg));
    await_frame(r, FRAME_HEADERS, &f);
    if ((f.flags & END_STREAM) != 0)
        return false;
    await_frame(r, FRAME_HEADERS, &f); /* the trailers */
    return true;
}

static uint64_t received_bytes(void)
{
    struct grpc_server_stats stats;
    grpc_server_stats(rig.server, &stats);
    return stats.bytes_received;
}

/* The same bytes mean another method once the table has changed. */
START_TEST(test_repeated_headers)
{
    enum { LITERAL_ADDED_PATH = 0x44, SECOND = NEWEST + 1 };
    struct raw r;
    uint8_t echo[256], fail[256], newest[256], second[256];
    size_t echo_size = put_path(echo, LITERAL_ADDED_PATH, "/rig.Rig/Echo");
    size_t fail_size = put_path(fail, LITERAL_ADDED_PATH, "/rig.Rig/Fail");
    size_t newest_size = put_path(newest, NEWEST, NULL);
    size_t second_size = put_path(second, SECOND, NULL);
    rig_start();
    raw_open(&r);
    raw_hello(&r);
    ck_assert(is_echoed(&r, 1, echo, echo_size));
    for (uint32_t i = 0; i < 3; i++)
        ck_assert(is_echoed(&r, 3 + 2 * i, newest, newest_size));
    ck_assert(!is_echoed(&r, 9, fail, fail_size));
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert(!is_echoed(&r, 11 + 4 * i, newest, newest_size));
        ck_assert(is_echoed(&r, 13 + 4 * i, second, second_size));
    }
    /* One that comes in two pieces, the cut anywhere. */
    for (size_t cut = 1; cut < 9 + newest_size; cut++) {
        uint8_t frame[300];
        uint32_t id = 23 + 4 * (uint32_t)cut;
        size_t size =
            put_frame(frame, FRAME_HEADERS, END_HEADERS | END_STREAM, id, newest, newest_size);
        uint64_t before = received_bytes();
        ck_assert(raw_write(&r, (const char *)frame, cut));
        RAW_UNTIL(&r, received_bytes() >= before + cut);
        ck_assert(raw_write(&r, (const char *)frame + cut, size - cut));
        struct frame f;
        await_frame(&r, FRAME_HEADERS, &f);
        ck_assert(is_echoed(&r, id + 2, second, second_size));
    }
    raw_close(&r);
    rig_stop();
}
END_TEST

START_TEST(test_headers_too_large)
{
    struct raw r;
    struct frame f;
    uint8_t block[9000];
    rig_prepare();
    rig.server_options.header_list_bytes_max = 4096;
    rig_serve();
    raw_open(&r);
    raw_hello(&r);
    size_t size = put_fields(block, good);
    char value[101];
    memset(value, 'v', 100);
    value[100] = '\0';
    for (int i = 0; i < 50; i++)
        size += put_fields(block + size, (const char *const[]){"x-long", value, NULL});
    (void)raw_frame(&r, FRAME_HEADERS, END_HEADERS, 1, block, size);
    await_frame(&r, FRAME_RST, &f);
    ck_assert_mem_eq(f.payload, "\0\0\0\6", 4); /* FRAME_SIZE_ERROR, as grpc-go */
    ck_assert_uint_eq(rig.opened, 0);
    /* The connection goes on. */
    raw_headers(&r, 3, 0, good);
    (void)raw_frame(&r, FRAME_DATA, END_STREAM, 3, "\0\0\0\0", 5);
    await_frame(&r, FRAME_DATA, &f);
    raw_close(&r);
    RIG_UNTIL(rig.closed == 1);
    rig_stop();
}
END_TEST

START_TEST(test_more_streams_than_allowed)
{
    struct raw r;
    struct frame f;
    rig_prepare();
    rig.server_options.concurrent_streams_max = 3;
    rig_serve();
    raw_open(&r);
    raw_hello(&r);
    for (uint32_t i = 0; i < 4; i++)
        raw_headers(&r, 2 * i + 1, 0, good);
    await_frame(&r, FRAME_RST, &f);
    ck_assert_uint_eq(f.stream_id, 7);
    ck_assert_mem_eq(f.payload, "\0\0\0\7", 4); /* REFUSED_STREAM */
    ck_assert_uint_eq(rig.opened, 3);
    /* Once it has acknowledged the limit a client that breaks it is wrong. */
    (void)raw_frame(&r, FRAME_SETTINGS, ACK, 0, NULL, 0);
    raw_headers(&r, 9, 0, good);
    await_frame(&r, FRAME_GOAWAY, &f);
    raw_close(&r);
    RIG_UNTIL(rig.closed == 3);
    rig_stop();
}
END_TEST

UNIT_MAIN("grpc_requests", test_refusals, test_content_types_that_are_grpc,
          test_messages_that_are_refused, test_message_in_pieces, test_deadline_is_the_servers_too,
          test_malformed_fields, test_repeated_headers, test_headers_too_large,
          test_more_streams_than_allowed)
