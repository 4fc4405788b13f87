/* TLS, byte by byte, against a client made of OpenSSL and a socket: in which pieces bytes come,
 * versions and sessions, pages by HTTP/2, and what no client should send. */
#include "tls_rig.h"

/* --- a client made of OpenSSL and a socket --- */

struct raw {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    struct buf out; /* from OpenSSL, not on the wire yet */
    bool ended;
};

static int connect_raw(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons(rig.port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    return fd;
}

static void raw_open(struct raw *r, SSL_CTX *ctx)
{
    *r = (struct raw){.fd = connect_raw(), .ctx = ctx};
    r->ssl = SSL_new(ctx);
    SSL_set_bio(r->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(r->ssl);
    buf_init(&r->out, SIZE_MAX);
}

static void raw_close(struct raw *r)
{
    (void)close(r->fd);
    SSL_free(r->ssl);
    buf_fini(&r->out);
}

/* What OpenSSL wants sent. */
static void raw_collect(struct raw *r)
{
    uint8_t bytes[4096];
    int size;
    while ((size = BIO_read(SSL_get_wbio(r->ssl), bytes, sizeof(bytes))) > 0)
        (void)buf_append(&r->out, bytes, (size_t)size);
}

static void raw_receive(struct raw *r)
{
    uint8_t bytes[65536];
    ssize_t size = recv(r->fd, bytes, sizeof(bytes), 0);
    if (size > 0)
        (void)BIO_write(SSL_get_rbio(r->ssl), bytes, (int)size);
    else if (size == 0 || (errno != EAGAIN && errno != EINTR))
        r->ended = true;
}

/* Send up to `size_max` bytes, let the server see them by themselves, and receive. */
static void raw_pump(struct raw *r, size_t size_max)
{
    raw_collect(r);
    size_t size = r->out.size < size_max ? r->out.size : size_max;
    if (size > 0) {
        ssize_t sent = send(r->fd, r->out.data, size, MSG_NOSIGNAL);
        if (sent > 0)
            buf_consume(&r->out, (size_t)sent);
        else if (errno != EAGAIN)
            r->ended = true;
    }
    (void)uv_run(&rig.loop, UV_RUN_NOWAIT);
    raw_receive(r);
}

/* False: the server has ended it. */
static bool raw_shake(struct raw *r, size_t step)
{
    for (int i = 0; i < 100000 && !r->ended; i++) {
        int rv = SSL_do_handshake(r->ssl);
        raw_collect(r);
        if (rv == 1 && r->out.size == 0)
            return true;
        if (rv != 1 && SSL_get_error(r->ssl, rv) != SSL_ERROR_WANT_READ)
            return false;
        raw_pump(r, step);
    }
    return false;
}

static void raw_flush(struct raw *r, size_t step)
{
    do
        raw_pump(r, step);
    while (r->out.size > 0 && !r->ended);
}

/* The answer to a request by HTTP/1.1 begins with this. */
static bool raw_http(struct raw *r, size_t step)
{
    static const char request[] = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
    char answer[512];
    int size = 0;
    ck_assert_int_eq(SSL_write(r->ssl, request, sizeof(request) - 1), (int)sizeof(request) - 1);
    raw_flush(r, step);
    for (int i = 0; i < 10000 && size <= 0 && !r->ended; i++) {
        raw_pump(r, SIZE_MAX);
        size = SSL_read(r->ssl, answer, sizeof(answer));
    }
    return size > 15 && memcmp(answer, "HTTP/1.1 200 OK", 15) == 0;
}

static SSL_CTX *client_ctx(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    return ctx;
}

START_TEST(test_bytes_one_by_one)
{
    begin();
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        for (size_t step = 1; step < 600; step += step < 4 ? 1 : step / 2) {
            SSL_CTX *ctx = client_ctx();
            SSL_CTX_set_max_proto_version(ctx, version);
            struct raw r;
            raw_open(&r, ctx);
            ck_assert_msg(raw_shake(&r, step), "version %x, steps of %zu", version, step);
            ck_assert_int_eq(SSL_version(r.ssl), version);
            ck_assert_msg(raw_http(&r, step), "version %x, steps of %zu", version, step);
            raw_close(&r);
            SSL_CTX_free(ctx);
        }
    }
    end();
}
END_TEST

/* The first flight, and the second, each cut into two at every byte. */
START_TEST(test_every_boundary)
{
    begin();
    SSL_CTX *ctx = client_ctx();
    for (size_t at = 1; at < 400; at += at < 20 ? 1 : 7) {
        struct raw r;
        raw_open(&r, ctx);
        (void)SSL_do_handshake(r.ssl);
        raw_pump(&r, at);
        ck_assert_msg(raw_shake(&r, SIZE_MAX), "cut at %zu", at);
        ck_assert_msg(raw_http(&r, at), "cut at %zu", at);
        raw_close(&r);
    }
    SSL_CTX_free(ctx);
    end();
}
END_TEST

START_TEST(test_old_versions_and_renegotiation)
{
    begin();
    SSL_CTX *ctx = client_ctx();
    struct raw r;
    SSL_CTX_set_security_level(ctx, 0);
    SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
    raw_open(&r, ctx);
    ck_assert(!raw_shake(&r, SIZE_MAX));
    raw_close(&r);
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    raw_open(&r, ctx);
    ck_assert(raw_shake(&r, SIZE_MAX));
    ck_assert(raw_http(&r, SIZE_MAX));
    ck_assert_int_eq(SSL_renegotiate(r.ssl), 1);
    ck_assert(!raw_shake(&r, SIZE_MAX) || SSL_renegotiate_pending(r.ssl));
    raw_close(&r);
    SSL_CTX_free(ctx);
    end();
}
END_TEST

START_TEST(test_versions_and_ciphers_as_configured)
{
    make_certs();
    struct tls_options o = server_options();
    o.version_min = TLS_VERSION_1_3;
    begin_with(&o);
    SSL_CTX *ctx = client_ctx();
    struct raw r;
    raw_open(&r, ctx);
    ck_assert(raw_shake(&r, SIZE_MAX));
    ck_assert_str_eq(SSL_get_cipher_name(r.ssl), "TLS_AES_128_GCM_SHA256");
    raw_close(&r);
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    raw_open(&r, ctx);
    ck_assert(!raw_shake(&r, SIZE_MAX));
    raw_close(&r);
    end_server();

    o.version_min = TLS_VERSION_DEFAULT;
    o.version_max = TLS_VERSION_1_2;
    o.cipher_suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    begin_with(&o);
    SSL_CTX_set_max_proto_version(ctx, 0);
    raw_open(&r, ctx);
    ck_assert(raw_shake(&r, SIZE_MAX));
    ck_assert_str_eq(SSL_get_cipher_name(r.ssl), "ECDHE-ECDSA-AES256-GCM-SHA384");
    raw_close(&r);
    SSL_CTX_set_cipher_list(ctx, "ECDHE-ECDSA-AES128-GCM-SHA256");
    raw_open(&r, ctx);
    ck_assert(!raw_shake(&r, SIZE_MAX));
    raw_close(&r);
    SSL_CTX_free(ctx);
    end();
}
END_TEST

START_TEST(test_protocol_is_negotiated)
{
    static const struct {
        const char *offered;
        unsigned int size;
        const char *chosen; /* NULL: refused */
    } cases[] = {{"\x02h2", 3, "h2"},
                 {"\x08http/1.1", 9, ""},
                 {"\x08http/1.1\x03xyz", 13, ""},
                 {"\x08http/1.1\x02h2", 12, "h2"},
                 {"\x03xyz", 4, NULL},
                 {"", 0, ""}};
    begin();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SSL_CTX *ctx = client_ctx();
        struct raw r;
        const unsigned char *chosen;
        unsigned int size;
        if (cases[i].size > 0)
            ck_assert_int_eq(
                SSL_CTX_set_alpn_protos(ctx, (const uint8_t *)cases[i].offered, cases[i].size), 0);
        raw_open(&r, ctx);
        ck_assert_int_eq(raw_shake(&r, SIZE_MAX), cases[i].chosen != NULL);
        SSL_get0_alpn_selected(r.ssl, &chosen, &size);
        if (cases[i].chosen != NULL) {
            ck_assert_uint_eq(size, strlen(cases[i].chosen));
            ck_assert(size == 0 || memcmp(chosen, cases[i].chosen, size) == 0);
        }
        raw_close(&r);
        SSL_CTX_free(ctx);
    }
    end();
}
END_TEST

static SSL_SESSION *kept_session;

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(kept_session);
    kept_session = session;
    return 1;
}

/* One connection with what was kept; was it resumed? */
static bool resumes(SSL_CTX *ctx)
{
    struct raw r;
    raw_open(&r, ctx);
    if (kept_session != NULL)
        ck_assert_int_eq(SSL_set_session(r.ssl, kept_session), 1);
    ck_assert(raw_shake(&r, SIZE_MAX));
    ck_assert(raw_http(&r, SIZE_MAX));
    bool reused = SSL_session_reused(r.ssl) == 1;
    SSL_set_shutdown(r.ssl, SSL_SENT_SHUTDOWN); /* or it may not be resumed */
    raw_close(&r);
    return reused;
}

START_TEST(test_sessions_are_resumed_until_files_change)
{
    make_certs();
    struct tls_options o = server_options();
    o.ca_file = ca.cert_path;
    begin_with(&o);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_CTX *ctx = client_ctx();
        SSL_CTX_set_max_proto_version(ctx, version);
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
        SSL_CTX_sess_set_new_cb(ctx, keep_session);
        ck_assert_int_eq(SSL_CTX_use_certificate_file(ctx, client_cert.cert_path, SSL_FILETYPE_PEM),
                         1);
        ck_assert_int_eq(SSL_CTX_use_PrivateKey_file(ctx, client_cert.key_path, SSL_FILETYPE_PEM),
                         1);
        ck_assert(!resumes(ctx));
        ck_assert_ptr_nonnull(kept_session);
        ck_assert(resumes(ctx));
        cert_write(&ca, ca.cert_path, ca.key_path);
        ck_assert(!resumes(ctx));
        SSL_SESSION_free(kept_session);
        kept_session = NULL;
        SSL_CTX_free(ctx);
    }
    end();
}
END_TEST

/* --- pages by HTTP/2 --- */

/* A frame, behind what is to be sent. */
static void put_frame(struct buf *b, uint8_t type, uint8_t flags, uint8_t stream,
                      const void *payload, size_t size)
{
    uint8_t head[] = {
        (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, type, flags, 0, 0, 0, stream};
    (void)buf_append(b, head, sizeof(head));
    (void)buf_append(b, payload, size);
}

/* HEADERS of a request, none of it compressed. */
static void put_request(struct buf *b, uint8_t stream, bool ends, const char *method,
                        const char *path)
{
    const char *fields[] = {":method", method, ":path", path, ":scheme", "https", "x-type", "1"};
    struct buf block;
    buf_init(&block, SIZE_MAX);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        uint8_t size = (uint8_t)strlen(fields[i]);
        if (i % 2 == 0)
            (void)buf_append(&block, "", 1);
        (void)buf_append(&block, &size, 1);
        (void)buf_append(&block, fields[i], size);
    }
    put_frame(b, 1, ends ? 5 : 4, stream, block.data, block.size);
    buf_fini(&block);
}

/* Send it, and read until all of the answer that has come has this text in it; "": send alone. */
static void exchange(struct raw *r, struct buf *b, const char *expected)
{
    struct buf seen;
    uint8_t bytes[16384];
    buf_init(&seen, SIZE_MAX);
    for (size_t at = 0; at < b->size;) {
        int size = SSL_write(r->ssl, b->data + at, (int)(b->size - at));
        ck_assert_int_gt(size, 0);
        at += (size_t)size;
    }
    buf_clear(b);
    raw_flush(r, SIZE_MAX);
    size_t expected_size = strlen(expected);
    for (int i = 0; expected_size > 0; i++) {
        ck_assert_msg(i < 200000 && !r->ended, "never came: %s", expected);
        raw_pump(r, SIZE_MAX);
        int size = SSL_read(r->ssl, bytes, sizeof(bytes));
        if (size > 0)
            (void)buf_append(&seen, bytes, (size_t)size);
        if (seen.size > 0 && memmem(seen.data, seen.size, expected, expected_size) != NULL)
            break;
    }
    buf_fini(&seen);
}

START_TEST(test_pages_by_http2)
{
    enum { DATA = 0, RST = 3, SETTINGS = 4, END = 1, ACK = 1, PIECE = 16384 };
    static const uint8_t cancel[4] = {0, 0, 0, 8};
    uint8_t *piece = mem_alloc_zero(PIECE);
    struct raw r;
    struct buf b;
    begin();
    SSL_CTX *ctx = client_ctx();
    ck_assert_int_eq(SSL_CTX_set_alpn_protos(ctx, (const uint8_t *)"\x02h2", 3), 0);
    raw_open(&r, ctx);
    ck_assert(raw_shake(&r, SIZE_MAX));
    buf_init(&b, SIZE_MAX);
    (void)buf_append(&b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(&b, SETTINGS, 0, 0, NULL, 0);
    put_request(&b, 1, true, "GET", "/health");
    exchange(&r, &b, "{\"health\":\"true\"}");
    put_frame(&b, SETTINGS, ACK, 0, NULL, 0);
    put_request(&b, 3, true, "GET", "/query?a=b");
    exchange(&r, &b, "a=b");
    put_request(&b, 5, true, "GET", "/pieces");
    exchange(&r, &b, "onetwo!");
    put_request(&b, 7, false, "POST", "/echo");
    put_frame(&b, DATA, 0, 7, "first, ", 7);
    put_frame(&b, DATA, END, 7, "second", 6);
    exchange(&r, &b, "first, second");
    /* Given up in the middle of the request, and while it is answered. */
    put_request(&b, 9, false, "POST", "/echo");
    put_frame(&b, DATA, 0, 9, "first", 5);
    put_frame(&b, RST, 0, 9, cancel, sizeof(cancel));
    put_request(&b, 11, true, "GET", "/later");
    exchange(&r, &b, "");
    RIG_UNTIL(rig.exchange != NULL);
    ck_assert(!http1_is_gone(rig.exchange));
    put_frame(&b, RST, 0, 11, cancel, sizeof(cancel));
    exchange(&r, &b, "");
    RIG_UNTIL(http1_is_gone(rig.exchange));
    http1_respond(rig.exchange, 200, NULL, SLICE_LITERAL("late"));
    rig.exchange = NULL;
    /* Too much: told so. The window of 64 KiB and more is given back as it comes. */
    put_request(&b, 13, false, "POST", "/echo");
    exchange(&r, &b, "");
    for (int i = 0; i < 70; i++) {
        put_frame(&b, DATA, i == 69 ? END : 0, 13, piece, PIECE);
        exchange(&r, &b, "");
        rig_turns(1);
    }
    exchange(&r, &b, "Request Entity Too Large");
    /* One that the connection's end leaves. */
    put_request(&b, 15, true, "GET", "/later");
    exchange(&r, &b, "");
    RIG_UNTIL(rig.exchange != NULL);
    raw_close(&r);
    RIG_UNTIL(rig.conns_closed == rig.conns_opened);
    ck_assert(http1_is_gone(rig.exchange));
    http1_respond(rig.exchange, 200, NULL, SLICE_LITERAL("later still"));
    buf_fini(&b);
    mem_free(piece);
    SSL_CTX_free(ctx);
    end();
}
END_TEST

/* --- what no client should send --- */

static bool is_closed(int fd)
{
    char byte[256];
    ssize_t size;
    do
        size = recv(fd, byte, sizeof(byte), 0);
    while (size > 0);
    return size == 0 || (errno != EAGAIN && errno != EINTR);
}

START_TEST(test_what_is_no_handshake)
{
    static const struct slice words[] = {SLICE_LITERAL("GET / HTTP/1.1\r\n\r\n"),
                                         SLICE_LITERAL("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
                                         SLICE_LITERAL("\x16\x03\x01\xff\xff"),
                                         SLICE_LITERAL("\x16\x03\x01\x00\x05nonsense"),
                                         SLICE_LITERAL("\x17\x03\x03\x00\x05hello"),
                                         SLICE_LITERAL("\x80\x2e\x01\x03\x01\0\0\0")};
    struct seen s;
    begin();
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        int fd = connect_raw();
        (void)send(fd, words[i].data, words[i].size, MSG_NOSIGNAL);
        RIG_UNTIL(is_closed(fd));
        (void)close(fd);
    }
    call_once(&(struct tls_options){.ca_file = ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    end();
}
END_TEST

START_TEST(test_random_bytes)
{
    struct seen s;
    begin();
    uint64_t seed = 12345;
    for (int i = 0; i < 300; i++) {
        SSL_CTX *ctx = client_ctx();
        struct raw r;
        raw_open(&r, ctx);
        /* In the middle of the handshake, or behind it. */
        bool open = i % 2 == 0 && raw_shake(&r, SIZE_MAX);
        if (open)
            (void)SSL_write(r.ssl, "GET /health", 11);
        else
            (void)SSL_do_handshake(r.ssl);
        raw_collect(&r);
        for (size_t at = 0; at < r.out.size; at++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            if (seed >> 59 == 0)
                r.out.data[at] ^= (uint8_t)(seed >> 40);
        }
        raw_flush(&r, SIZE_MAX);
        rig_turns(2);
        raw_close(&r);
        SSL_CTX_free(ctx);
    }
    call_once(&(struct tls_options){.ca_file = ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    end();
}
END_TEST

START_TEST(test_plain_and_tls_on_one_port)
{
    struct seen s;
    make_certs();
    struct tls_options o = server_options();
    rig_prepare();
    serve(&o, true);
    call_once(&(struct tls_options){.ca_file = ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    (void)snprintf(rig.address, sizeof(rig.address), "127.0.0.1:%u", rig.port);
    call_once(&(struct tls_options){.ca_file = ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    end();
}
END_TEST

START_TEST(test_tls_to_a_plain_port)
{
    struct seen s;
    make_certs();
    rig_start();
    (void)snprintf(rig.address, sizeof(rig.address), "https://127.0.0.1:%u", rig.port);
    call_once(&(struct tls_options){.ca_file = ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_UNAVAILABLE);
    server_tls = NULL;
    end();
}
END_TEST

START_TEST(test_silent_handshakes_end)
{
    enum { COUNT = 200 };
    int fds[COUNT];
    struct seen s;
    make_certs();
    struct tls_options o = server_options();
    rig_prepare();
    rig.server_options.tls_timeout_ms = 300;
    serve(&o, false);
    for (int i = 0; i < COUNT; i++) {
        fds[i] = connect_raw();
        if (i % 2 == 0)
            (void)send(fds[i], "\x16\x03\x01\x02\x00\x01", 6, MSG_NOSIGNAL);
    }
    RIG_UNTIL(rig.conns_opened == COUNT);
    ck_assert_uint_eq(rig.conns_closed, 0);
    struct tls_context *tls = context_of(&(struct tls_options){.ca_file = ca.cert_path});
    struct grpc_channel *ch = channel_with(tls, rig.address);
    ask(ch, SLICE_LITERAL("hello"), &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    RIG_UNTIL(rig.conns_closed == COUNT);
    /* Who got through is not ended by it. */
    ask(ch, SLICE_LITERAL("hello"), &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert(is_closed(fds[i]));
        (void)close(fds[i]);
    }
    grpc_channel_close(ch);
    end();
    tls_context_free(tls);
}
END_TEST

START_TEST(test_a_turn_shakes_few_hands)
{
    enum { COUNT = 64, PER_TURN = 4 };
    begin();
    SSL_CTX *ctx = client_ctx();
    struct raw r[COUNT];
    for (int i = 0; i < COUNT; i++) {
        raw_open(&r[i], ctx);
        (void)SSL_do_handshake(r[i].ssl);
        raw_collect(&r[i]);
        ck_assert_int_gt(send(r[i].fd, r[i].out.data, r[i].out.size, MSG_NOSIGNAL), 0);
        buf_clear(&r[i].out);
    }
    RIG_UNTIL(rig.conns_opened == COUNT);
    uint32_t before = 0, turns = 0;
    for (uint32_t answered = 0; answered < COUNT; turns++) {
        ck_assert_uint_lt(turns, 10000);
        (void)uv_run(&rig.loop, UV_RUN_NOWAIT);
        answered = 0;
        for (int i = 0; i < COUNT; i++) {
            char byte;
            answered += recv(r[i].fd, &byte, 1, MSG_PEEK) == 1;
        }
        ck_assert_uint_le(answered - before, 2 * PER_TURN);
        before = answered;
    }
    for (int i = 0; i < COUNT; i++) {
        ck_assert(raw_shake(&r[i], SIZE_MAX));
        raw_close(&r[i]);
    }
    SSL_CTX_free(ctx);
    end();
}
END_TEST

START_TEST(test_goodbyes)
{
    begin();
    SSL_CTX *ctx = client_ctx();
    struct raw r;
    char bytes[64];
    /* The server says it when it ends a connection. */
    raw_open(&r, ctx);
    ck_assert(raw_shake(&r, SIZE_MAX));
    static const char request[] = "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    ck_assert_int_gt(SSL_write(r.ssl, request, sizeof(request) - 1), 0);
    raw_flush(&r, SIZE_MAX);
    for (int i = 0; i < 1000 && (SSL_get_shutdown(r.ssl) & SSL_RECEIVED_SHUTDOWN) == 0; i++) {
        raw_pump(&r, SIZE_MAX);
        (void)SSL_read(r.ssl, bytes, sizeof(bytes));
    }
    ck_assert_int_eq(SSL_get_shutdown(r.ssl) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
    raw_close(&r);
    /* And hears it. */
    raw_open(&r, ctx);
    ck_assert(raw_shake(&r, SIZE_MAX));
    (void)SSL_shutdown(r.ssl);
    raw_flush(&r, SIZE_MAX);
    RIG_UNTIL(rig.conns_closed == rig.conns_opened);
    raw_close(&r);
    /* One that goes in the middle of a record. */
    raw_open(&r, ctx);
    ck_assert(raw_shake(&r, SIZE_MAX));
    (void)SSL_write(r.ssl, request, sizeof(request) - 1);
    raw_pump(&r, 20);
    raw_close(&r);
    RIG_UNTIL(rig.conns_closed == rig.conns_opened);
    SSL_CTX_free(ctx);
    end();
}
END_TEST

UNIT_MAIN("tls_wire", test_bytes_one_by_one, test_every_boundary,
          test_old_versions_and_renegotiation, test_versions_and_ciphers_as_configured,
          test_protocol_is_negotiated, test_sessions_are_resumed_until_files_change,
          test_pages_by_http2, test_what_is_no_handshake, test_random_bytes,
          test_plain_and_tls_on_one_port, test_tls_to_a_plain_port, test_silent_handshakes_end,
          test_a_turn_shakes_few_hands, test_goodbyes)
