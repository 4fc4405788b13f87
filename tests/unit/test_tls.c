/* TLS under the transport: who is let in, in which pieces bytes come, files that change, and what
 * no client should send. */
#include "grpc_rig.h"
#include "tls_certs.h"
#include "unit.h"

#include "base/buf.h"
#include "proto/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>

enum { SAID_MAX = 16 };

/* --- a server with certificates, and what it says --- */

static struct cert ca, other_ca, server_cert, client_cert;
static struct tls_context *server_tls;
static struct grpc_port tls_port;
static uint32_t said, said_bad, rejected;

static void on_said(void *ctx, const char *file, const char *why)
{
    (void)ctx, (void)file;
    said += why == NULL;
    said_bad += why != NULL;
}

static void on_rejected(void *ctx, const char *remote, const char *why)
{
    (void)ctx;
    ck_assert_ptr_nonnull(remote); /* empty when it is gone */
    ck_assert_uint_gt(strlen(why), 0);
    rejected++;
}

static struct tls_options server_options(void)
{
    return (struct tls_options){.is_server = true,
                                .cert_file = server_cert.cert_path,
                                .key_file = server_cert.key_path,
                                .said = on_said,
                                .rejected = on_rejected};
}

static void make_certs(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* as every program that uses the transport */
    certs_begin();
    cert_make(&ca, "ca", NULL, &(struct cert_options){.cn = "ca", .is_ca = true});
    cert_make(&other_ca, "other-ca", NULL, &(struct cert_options){.cn = "other", .is_ca = true});
    cert_make(&server_cert, "server", &ca,
              &(struct cert_options){.cn = "server", .sans = "DNS:localhost,IP:127.0.0.1"});
    cert_make(&client_cert, "client", &ca,
              &(struct cert_options){.cn = "alice", .eku = "clientAuth"});
}

static struct tls_context *context_of(const struct tls_options *o)
{
    char why[512] = "";
    struct tls_context *c = tls_context_new(o, why, sizeof(why));
    ck_assert_msg(c != NULL, "%s", why);
    return c;
}

/* Instead of rig_serve(): only TLS, or also plain. */
static void serve(const struct tls_options *o, bool plain)
{
    server_tls = context_of(o);
    tls_port = (struct grpc_port){.tls = server_tls, .plain = plain};
    rig.server = grpc_server_new(rig.gl, &rig.server_options, rig_methods,
                                 sizeof(rig_methods) / sizeof(rig_methods[0]));
    ck_assert_int_eq(grpc_server_listen_on(rig.server, "127.0.0.1:0", &tls_port, &rig.port), 0);
    (void)snprintf(rig.address, sizeof(rig.address), "https://127.0.0.1:%u", rig.port);
}

static void begin_with(const struct tls_options *o)
{
    rig_prepare();
    serve(o, false);
}

static void begin(void)
{
    make_certs();
    struct tls_options o = server_options();
    begin_with(&o);
}

static void end_server(void)
{
    rig_stop();
    tls_context_free(server_tls);
}

static void end(void)
{
    end_server();
    cert_fini(&ca);
    cert_fini(&other_ca);
    cert_fini(&server_cert);
    cert_fini(&client_cert);
    certs_end();
}

/* --- calls of the transport's own client --- */

struct seen {
    bool closed;
    enum grpc_code code;
    char text[300];
    uint64_t bytes;
    bool same;
    struct slice expected;
};

static void on_message(struct grpc_call *call, struct slice msg)
{
    struct seen *s = grpc_call_user(call);
    s->bytes += msg.size;
    s->same = slice_equal(msg, s->expected);
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct seen *s = grpc_call_user(call);
    s->closed = true;
    s->code = code;
    (void)snprintf(s->text, sizeof(s->text), "%.*s", (int)text.size, (const char *)text.data);
}

static const struct grpc_call_ops client_ops = {.message = on_message, .closed = on_closed};

static struct grpc_channel *channel_with(struct tls_context *tls, const char *address)
{
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.addresses = &address;
    o.addresses_count = 1;
    o.tls = tls;
    o.seed = 7;
    struct grpc_channel *ch = grpc_channel_new(rig.gl, &o);
    ck_assert_ptr_nonnull(ch);
    return ch;
}

static void ask(struct grpc_channel *ch, struct slice msg, struct seen *s)
{
    *s = (struct seen){.expected = msg};
    struct grpc_call *call = grpc_start(
        ch, &(struct grpc_start_options){.path = "/rig.Rig/Echo", .ops = &client_ops, .user = s});
    ck_assert_int_eq(grpc_send(call, &msg, 1), 0);
    grpc_half_close(call);
    RIG_UNTIL(s->closed);
}

/* One call to rig.address by a client with these certificates: its end in *s. */
static void call_once(const struct tls_options *o, struct seen *s)
{
    struct tls_context *tls = context_of(o);
    struct grpc_channel *ch = channel_with(tls, rig.address);
    ask(ch, SLICE_LITERAL("hello"), s);
    grpc_channel_close(ch);
    rig_turns(3);
    RIG_UNTIL(rig.conns_opened == rig.conns_closed);
    tls_context_free(tls);
}

static bool gets_in(const struct cert *who)
{
    struct seen s;
    struct tls_options o = {.ca_file = ca.cert_path};
    if (who != NULL) {
        o.cert_file = who->cert_path;
        o.key_file = who->key_path;
    }
    call_once(&o, &s);
    ck_assert(s.code == GRPC_OK ? s.same : s.code == GRPC_UNAVAILABLE);
    return s.code == GRPC_OK;
}

START_TEST(test_calls)
{
    begin();
    struct tls_options o = {.ca_file = ca.cert_path};
    struct tls_context *tls = context_of(&o);
    struct grpc_channel *ch = channel_with(tls, rig.address);
    struct seen s;
    size_t sizes[] = {0, 1, 5, 16383, 16384, 16385, 65536, 1000000, 4000000};
    uint8_t *bytes = mem_alloc(4000000);
    for (size_t i = 0; i < 4000000; i++)
        bytes[i] = (uint8_t)(i * 7 + (i >> 9));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        ask(ch, slice_of(bytes, sizes[i]), &s);
        ck_assert_msg(s.code == GRPC_OK && s.same, "%zu: %d %s", sizes[i], s.code, s.text);
    }
    mem_free(bytes);
    grpc_channel_close(ch);
    end();
    tls_context_free(tls);
}
END_TEST

START_TEST(test_the_server_is_verified)
{
    struct seen s;
    begin();
    call_once(&(struct tls_options){.ca_file = ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    call_once(&(struct tls_options){.ca_file = other_ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_UNAVAILABLE);
    ck_assert_msg(strstr(s.text, "authentication handshake failed: tls: failed to verify") != NULL,
                  "%s", s.text);
    call_once(&(struct tls_options){0}, &s); /* the system's CAs */
    ck_assert_int_eq(s.code, GRPC_UNAVAILABLE);
    call_once(&(struct tls_options){.insecure_skip_verify = true}, &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    /* The name it was called by must be in it. */
    (void)snprintf(rig.address, sizeof(rig.address), "https://localhost:%u", rig.port);
    call_once(&(struct tls_options){.ca_file = ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    cert_fini(&server_cert);
    cert_make(&server_cert, "server", &ca,
              &(struct cert_options){.cn = "localhost", .sans = "DNS:elsewhere"});
    call_once(&(struct tls_options){.ca_file = ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_UNAVAILABLE);
    cert_fini(&server_cert);
    cert_make(&server_cert, "server", &ca,
              &(struct cert_options){.cn = "a", .sans = "DNS:localhost", .expired = true});
    call_once(&(struct tls_options){.ca_file = ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_UNAVAILABLE);
    cert_fini(&server_cert);
    cert_make(&server_cert, "server", &ca,
              &(struct cert_options){.cn = "a", .sans = "DNS:localhost", .eku = "clientAuth"});
    call_once(&(struct tls_options){.ca_file = ca.cert_path}, &s);
    ck_assert_int_eq(s.code, GRPC_UNAVAILABLE);
    end();
}
END_TEST

/* --- client certificates --- */

START_TEST(test_the_client_is_verified)
{
    struct cert stranger, old, for_servers, by_client;
    make_certs();
    struct tls_options o = server_options();
    o.ca_file = ca.cert_path; /* without client_auth: as in etcd that is enough */
    begin_with(&o);
    cert_make(&stranger, "stranger", &other_ca, &(struct cert_options){.cn = "mallory"});
    cert_make(&old, "old", &ca, &(struct cert_options){.cn = "old", .expired = true});
    cert_make(&for_servers, "s", &ca, &(struct cert_options){.cn = "s", .eku = "serverAuth"});
    cert_make(&by_client, "b", &client_cert, &(struct cert_options){.cn = "b"});
    ck_assert(gets_in(&client_cert));
    ck_assert(gets_in(&server_cert)); /* no use is written in it */
    ck_assert(!gets_in(NULL));
    ck_assert(!gets_in(&stranger));
    ck_assert(!gets_in(&old));
    ck_assert(!gets_in(&for_servers));
    ck_assert(!gets_in(&by_client));
    ck_assert_uint_eq(rejected % 256, rejected);
    ck_assert_uint_ge(rejected, 5);
    cert_fini(&stranger);
    cert_fini(&old);
    cert_fini(&for_servers);
    cert_fini(&by_client);
    end();
}
END_TEST

START_TEST(test_the_clients_name_is_known)
{
    make_certs();
    struct tls_options o = server_options();
    o.client_auth = true;
    o.ca_file = ca.cert_path;
    begin_with(&o);
    struct tls_options c = {.ca_file = ca.cert_path,
                            .cert_file = client_cert.cert_path,
                            .key_file = client_cert.key_path};
    struct tls_context *tls = context_of(&c);
    struct grpc_channel *ch = channel_with(tls, rig.address);
    struct seen s = {0};
    struct grpc_call *call =
        grpc_start(ch, &(struct grpc_start_options){
                           .path = "/rig.Rig/NeverStream", .ops = &client_ops, .user = &s});
    RIG_UNTIL(rig.last != NULL);
    const struct grpc_conn *conn = grpc_call_conn(rig.last);
    ck_assert_str_eq(grpc_conn_peer_cn(conn), "alice");
    ck_assert_ptr_eq(grpc_conn_port(conn), &tls_port);
    grpc_cancel(call);
    RIG_UNTIL(s.closed);
    grpc_channel_close(ch);
    end();
    tls_context_free(tls);
}
END_TEST

START_TEST(test_allowed_names)
{
    struct cert bob;
    make_certs();
    cert_make(&bob, "bob", &ca,
              &(struct cert_options){.cn = "bob", .sans = "DNS:b.example,IP:10.0.0.1"});
    struct tls_options o = server_options();
    o.ca_file = ca.cert_path;
    o.allowed_cns = "carol,bob";
    begin_with(&o);
    ck_assert(gets_in(&bob));
    ck_assert(!gets_in(&client_cert));
    end_server();
    o.allowed_cns = NULL;
    o.allowed_hostnames = "a.example,b.example";
    begin_with(&o);
    ck_assert(gets_in(&bob));
    ck_assert(!gets_in(&client_cert));
    end_server();
    o.allowed_hostnames = "10.0.0.2,10.0.0.1";
    begin_with(&o);
    ck_assert(gets_in(&bob));
    end_server();
    o.allowed_hostnames = "bob"; /* a CN is no name of a host */
    begin_with(&o);
    ck_assert(!gets_in(&bob));
    cert_fini(&bob);
    end();
}
END_TEST

START_TEST(test_clients_address)
{
    struct cert here, there, host, elsewhere;
    make_certs();
    cert_make(&here, "1", &ca,
              &(struct cert_options){.cn = "c", .sans = "IP:10.0.0.1,IP:127.0.0.1"});
    cert_make(&there, "2", &ca, &(struct cert_options){.cn = "c", .sans = "IP:10.0.0.1"});
    cert_make(&host, "3", &ca,
              &(struct cert_options){.cn = "c", .sans = "IP:10.0.0.1,DNS:localhost"});
    cert_make(&elsewhere, "4", &ca, &(struct cert_options){.cn = "c", .sans = "DNS:x.invalid"});
    struct tls_options o = server_options();
    o.ca_file = ca.cert_path;
    o.client_san_check = true;
    begin_with(&o);
    ck_assert(gets_in(&client_cert)); /* names nobody */
    ck_assert(gets_in(&here));
    ck_assert(!gets_in(&there));
    ck_assert(gets_in(&host)); /* by the name servers, or /etc/hosts */
    ck_assert(!gets_in(&elsewhere));
    cert_fini(&here);
    cert_fini(&there);
    cert_fini(&host);
    cert_fini(&elsewhere);
    end();
}
END_TEST

/* --- files that change --- */

START_TEST(test_revoked)
{
    char crl[128];
    make_certs();
    (void)snprintf(crl, sizeof(crl), "%s/crl", certs_dir);
    crl_write(crl, &ca, NULL, false);
    struct tls_options o = server_options();
    o.ca_file = ca.cert_path;
    o.crl_file = crl;
    begin_with(&o);
    ck_assert(gets_in(&client_cert));
    for (int der = 0; der < 2; der++) {
        crl_write(crl, &ca, &client_cert, der == 1);
        ck_assert(!gets_in(&client_cert));
        ck_assert(gets_in(&server_cert));
        crl_write(crl, &ca, NULL, der == 1);
        ck_assert(gets_in(&client_cert));
    }
    /* A broken one changes nothing, and is said once. */
    crl_write(crl, &ca, &client_cert, true);
    ck_assert(!gets_in(&client_cert));
    ck_assert_uint_eq(said_bad, 0);
    FILE *f = fopen(crl, "w");
    (void)fputs("nonsense", f);
    (void)fclose(f);
    ck_assert(!gets_in(&client_cert));
    ck_assert(gets_in(&server_cert));
    ck_assert_uint_eq(said_bad, 1);
    end_server();
    /* One that cannot be read from the beginning lets no certificate in. */
    begin_with(&o);
    ck_assert(!gets_in(&server_cert));
    crl_write(crl, &ca, &client_cert, true);
    ck_assert(gets_in(&server_cert));
    ck_assert(!gets_in(&client_cert));
    end();
}
END_TEST

START_TEST(test_reload)
{
    struct cert next_ca, next_server, next_client;
    make_certs();
    struct tls_options o = server_options();
    o.ca_file = ca.cert_path;
    begin_with(&o);
    ck_assert(gets_in(&client_cert));
    ck_assert_uint_eq(said, 0);
    cert_make(&next_ca, "next-ca", NULL, &(struct cert_options){.cn = "next", .is_ca = true});
    cert_make(&next_server, "next-server", &next_ca,
              &(struct cert_options){.cn = "server", .sans = "IP:127.0.0.1"});
    cert_make(&next_client, "next-client", &next_ca, &(struct cert_options){.cn = "nina"});
    ck_assert(!gets_in(&next_client));
    /* Certificate and key first; clients still believe the old CA alone. */
    cert_write(&next_server, server_cert.cert_path, server_cert.key_path);
    ck_assert(!gets_in(&client_cert));
    ck_assert_uint_eq(said, 1);
    cert_write(&next_ca, ca.cert_path, ca.key_path);
    ck_assert(gets_in(&next_client));
    ck_assert(!gets_in(&client_cert));
    /* Half of a pair: the old one stays. */
    uint32_t good = said;
    FILE *f = fopen(server_cert.key_path, "w");
    (void)fputs("-----BEGIN PRIVATE KEY-----\nabc\n", f);
    (void)fclose(f);
    ck_assert(gets_in(&next_client));
    ck_assert(gets_in(&next_client));
    ck_assert_uint_eq(said, good);
    ck_assert_uint_eq(said_bad, 1);
    ck_assert_int_eq(unlink(server_cert.key_path), 0);
    ck_assert(gets_in(&next_client));
    ck_assert_uint_eq(said_bad, 2);
    cert_write(&next_server, server_cert.cert_path, server_cert.key_path);
    ck_assert(gets_in(&next_client));
    ck_assert_uint_gt(said, good);
    cert_fini(&next_ca);
    cert_fini(&next_server);
    cert_fini(&next_client);
    end();
}
END_TEST

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
                 {"\x08http/1.1", 9, "http/1.1"},
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

/* --- what is set --- */

START_TEST(test_settings_that_do_not_go)
{
    char why[512];
    make_certs();
    struct tls_options o = server_options();
    o.key_file = "";
    ck_assert_ptr_null(tls_context_new(&o, why, sizeof(why)));
    ck_assert_msg(strstr(why, "KeyFile and CertFile must both be present[key: , cert: /") == why,
                  "%s", why);
    o.key_file = client_cert.key_path; /* of another certificate */
    ck_assert_ptr_null(tls_context_new(&o, why, sizeof(why)));
    o = server_options();
    o.allowed_cns = "a,b";
    o.allowed_hostnames = "c";
    ck_assert_ptr_null(tls_context_new(&o, why, sizeof(why)));
    ck_assert_str_eq(why, "AllowedCNs and AllowedHostnames are mutually exclusive "
                          "(cns=[\"a\" \"b\"], hostnames=[\"c\"])");
    o = server_options();
    o.ca_file = "/nowhere/ca.pem";
    ck_assert_ptr_null(tls_context_new(&o, why, sizeof(why)));
    ck_assert_int_eq(
        tls_ciphers_check("TLS_AES_128_GCM_SHA256,TLS_RSA_WITH_RC4_128_SHA", why, sizeof(why)), 0);
    ck_assert_int_ne(tls_ciphers_check("TLS_AES_128_GCM_SHA256,xyz", why, sizeof(why)), 0);
    ck_assert_str_eq(why, "unexpected TLS cipher suite \"xyz\"");
    enum tls_version v;
    ck_assert_int_ne(tls_version_parse("TLS1.1", &v, why, sizeof(why)), 0);
    ck_assert_str_eq(why, "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)");
    rig_prepare();
    rig.server = NULL;
    server_tls = NULL;
    end();
}
END_TEST

START_TEST(test_self_signed)
{
    char dir[160], why[512], cert[200], key[200];
    const char *hosts[] = {"127.0.0.1", "localhost"};
    struct seen s;
    make_certs();
    (void)snprintf(dir, sizeof(dir), "%s/a/b", certs_dir);
    ck_assert_int_eq(tls_self_sign(dir, hosts, 2, 0, why, sizeof(why)), TV_EINVAL);
    ck_assert_int_eq(tls_self_sign(dir, hosts, 2, 1, why, sizeof(why)), 0);
    (void)snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
    (void)snprintf(key, sizeof(key), "%s/key.pem", dir);
    struct tls_options o = {.is_server = true, .cert_file = cert, .key_file = key};
    begin_with(&o);
    call_once(&(struct tls_options){.ca_file = cert}, &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    /* It is not made anew. */
    ck_assert_int_eq(tls_self_sign(dir, hosts, 2, 1, why, sizeof(why)), 0);
    call_once(&(struct tls_options){.ca_file = cert}, &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    end();
}
END_TEST

START_TEST(test_sockets_of_the_file_system)
{
    struct seen s;
    char path[96];
    static const struct grpc_port plain = {.plain = true};
    make_certs();
    struct tls_options o = server_options();
    begin_with(&o);
    (void)snprintf(path, sizeof(path), "unix://%s/socket", certs_dir);
    ck_assert_int_eq(grpc_server_listen_on(rig.server, path, &plain, NULL), 0);
    struct grpc_channel *ch = channel_with(NULL, path);
    ask(ch, SLICE_LITERAL("hello"), &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    grpc_channel_close(ch);
    (void)snprintf(path, sizeof(path), "unixs://%s/secure", certs_dir);
    ck_assert_int_eq(grpc_server_listen_on(rig.server, path, &tls_port, NULL), 0);
    struct tls_context *tls = context_of(&(struct tls_options){.ca_file = ca.cert_path});
    ch = channel_with(tls, path);
    ask(ch, SLICE_LITERAL("hello"), &s);
    ck_assert_int_eq(s.code, GRPC_OK);
    grpc_channel_close(ch);
    end_server();
    (void)snprintf(path, sizeof(path), "%s/socket", certs_dir);
    ck_assert_int_ne(access(path, F_OK), 0);
    tls_context_free(tls);
    rig_prepare();
    server_tls = NULL;
    end();
}
END_TEST

UNIT_MAIN("tls", test_calls, test_the_server_is_verified, test_the_client_is_verified,
          test_the_clients_name_is_known, test_allowed_names, test_clients_address, test_revoked,
          test_reload, test_bytes_one_by_one, test_every_boundary,
          test_old_versions_and_renegotiation, test_versions_and_ciphers_as_configured,
          test_protocol_is_negotiated, test_sessions_are_resumed_until_files_change,
          test_pages_by_http2, test_what_is_no_handshake, test_random_bytes,
          test_plain_and_tls_on_one_port, test_tls_to_a_plain_port, test_silent_handshakes_end,
          test_a_turn_shakes_few_hands, test_goodbyes, test_settings_that_do_not_go,
          test_self_signed, test_sockets_of_the_file_system)
