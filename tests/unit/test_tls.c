/* TLS under the transport: who is let in, files that change, what is set. In which pieces bytes
 * come, and what no client should send: test_tls_wire.c. */
#include "tls_rig.h"

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
          test_reload, test_settings_that_do_not_go, test_self_signed,
          test_sockets_of_the_file_system)
