#include "server/access.h"

#include "server/node.h"
#include "state/auth.h"

#include "base/mem.h"

#include <stdio.h>

static const char text_plain[] = "text/plain; charset=utf-8";

bool access_list_has(const char *list, struct slice item)
{
    for (;;) {
        size_t size = strcspn(list, ",");
        struct slice have = slice_of(list, size);
        if (slice_equal(have, SLICE_LITERAL("*")) || slice_equal(have, item))
            return true;
        if (list[size] == '\0')
            return false;
        list += size + 1;
    }
}

/* Without the port, when what is left is a host: Go's net.SplitHostPort(). */
static struct slice host_alone(struct slice host)
{
    size_t colon = host.size;
    while (colon > 0 && host.data[colon - 1] != ':')
        colon--;
    if (colon == 0)
        return host;
    struct slice name = slice_of(host.data, colon - 1);
    if (name.size >= 2 && name.data[0] == '[' && name.data[name.size - 1] == ']')
        return slice_of(name.data + 1, name.size - 2);
    bool odd = name.size > 0 && (memchr(name.data, ':', name.size) != NULL ||
                                 memchr(name.data, '[', name.size) != NULL ||
                                 memchr(name.data, ']', name.size) != NULL);
    return odd ? host : name;
}

static void refuse_host(struct http1_exchange *x, struct slice host)
{
    static const char before[] =
        "\netcd received your request, but the Host header was unrecognized.\n\n"
        "To fix this, choose one of the following options:\n"
        "- Enable TLS, then any HTTPS request will be allowed.\n"
        "- Add the hostname you want to use to the whitelist in settings.\n"
        "  - e.g. etcd --host-whitelist \"";
    static const char behind[] = "\"\n\nThis requirement has been added to help prevent \"DNS "
                                 "Rebinding\" attacks (CVE-2018-5702).\n\n";
    struct buf body;
    buf_init(&body, SIZE_MAX);
    (void)buf_append(&body, before, sizeof(before) - 1);
    for (size_t i = 0; i < host.size; i++) {
        char escaped[8];
        uint8_t c = host.data[i];
        int size = c == '"' || c == '\\'  ? snprintf(escaped, sizeof(escaped), "\\%c", c)
                   : c < ' ' || c >= 0x7f ? snprintf(escaped, sizeof(escaped), "\\x%02x", c)
                                          : snprintf(escaped, sizeof(escaped), "%c", c);
        (void)buf_append(&body, escaped, (size_t)size);
    }
    (void)buf_append(&body, behind, sizeof(behind) - 1);
    http1_add_header(x, "X-Content-Type-Options", "nosniff");
    http1_respond(x, 421, text_plain, buf_slice(&body));
    buf_fini(&body);
}

/* Whoever shows a certificate with a name would believe to be that user, which he is not here. */
static bool name_misleads(const struct http1_request *req, struct slice path, struct worker *w)
{
    const struct config *c = w->node->config;
    const char *name = grpc_conn_peer_cn(req->conn);
    return c->client_tls.client_cert_auth && c->enable_grpc_gateway &&
           auth_is_enabled(&w->node->applier.auth) && name != NULL && *name != '\0' &&
           slice_starts_with(path, SLICE_LITERAL("/v3/"));
}

static void allow_origin(struct http1_exchange *x, const char *origin)
{
    http1_add_header(x, "Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE");
    http1_add_header(x, "Access-Control-Allow-Origin", origin);
    http1_add_header(x, "Access-Control-Allow-Headers", "accept, content-type, authorization");
}

static void put_origin(struct http1_exchange *x, const struct http1_request *req, const char *cors)
{
    struct slice origin = http1_header(req, "origin");
    if (*cors == '\0' || access_list_has(cors, SLICE_LITERAL("*"))) {
        allow_origin(x, "*");
        return;
    }
    if (origin.data == NULL || !access_list_has(cors, origin))
        return;
    char *text = mem_text(origin.data, origin.size);
    allow_origin(x, text);
    mem_free(text);
}

bool access_admits(struct http1_exchange *x, const struct http1_request *req, struct slice path,
                   struct worker *w)
{
    const struct config *c = w->node->config;
    if (!grpc_conn_is_tls(req->conn)) {
        struct slice host = host_alone(http1_header(req, "host"));
        if (!access_list_has(c->host_whitelist, host)) {
            refuse_host(x, host);
            return false;
        }
    } else if (name_misleads(req, path, w)) {
        http1_add_header(x, "X-Content-Type-Options", "nosniff");
        http1_respond(x, 400, text_plain,
                      SLICE_LITERAL("CommonName of client sending a request against gateway will "
                                    "be ignored and not used as expected\n"));
        return false;
    }
    put_origin(x, req, c->cors);
    if (!slice_equal(req->method, SLICE_LITERAL("OPTIONS")))
        return true;
    http1_respond(x, 200, NULL, SLICE_EMPTY);
    return false;
}
