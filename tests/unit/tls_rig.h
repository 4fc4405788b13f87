/* What the tests of TLS share: certificates made on the spot, a server that has them and notes what
 * it says, and calls of the transport's own client. */
#ifndef TESTS_UNIT_TLS_RIG_H
#define TESTS_UNIT_TLS_RIG_H

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

#endif
