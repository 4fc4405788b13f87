#include "http_get.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HOST_BYTES_MAX = 256, PORT_BYTES_MAX = 16, HEADERS_BYTES_MAX = 64 << 10 };

struct get {
    const struct http_get_options *o;
    struct http_page *page;
    uint64_t deadline_ns;
    char host[HOST_BYTES_MAX]; /* or the path of a socket */
    char port[PORT_BYTES_MAX];
    bool is_path;
    bool secure;
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
};

static bool fail(struct get *g, const char *what)
{
    (void)snprintf(g->page->error, sizeof(g->page->error), "%s", what);
    return false;
}

static bool fail_errno(struct get *g, const char *what, int err)
{
    (void)snprintf(g->page->error, sizeof(g->page->error), "%s: %s", what, strerrordesc_np(err));
    return false;
}

/* --- the address --- */

static bool skip_scheme(const char **text, const char *scheme)
{
    size_t size = strlen(scheme);
    if (strncmp(*text, scheme, size) != 0 || strncmp(*text + size, "://", 3) != 0)
        return false;
    *text += size + 3;
    return true;
}

static bool parse_address(struct get *g, const char *text)
{
    g->secure = g->o->secure;
    if (skip_scheme(&text, "https"))
        g->secure = true;
    else if (skip_scheme(&text, "http"))
        g->secure = false;
    else if (skip_scheme(&text, "unix"))
        g->is_path = true, g->secure = false;
    else if (skip_scheme(&text, "unixs"))
        g->is_path = true, g->secure = true;
    size_t size = strcspn(text, g->is_path ? ";" : ";/");
    if (size >= sizeof(g->host))
        return fail(g, "the address is too long");
    memcpy(g->host, text, size);
    g->host[size] = '\0';
    if (g->is_path)
        return true;
    char *colon = strrchr(g->host, ':');
    if (colon == NULL || strlen(colon + 1) >= sizeof(g->port))
        return fail(g, "the address has no port");
    *colon = '\0';
    memcpy(g->port, colon + 1, strlen(colon + 1) + 1);
    size = strlen(g->host);
    if (size >= 2 && g->host[0] == '[' && g->host[size - 1] == ']') {
        memmove(g->host, g->host + 1, size - 2);
        g->host[size - 2] = '\0';
    }
    return true;
}

/* --- bytes --- */

static bool await(struct get *g, short events)
{
    for (;;) {
        uint64_t now = clock_mono_ns();
        struct pollfd p = {.fd = g->fd, .events = events};
        if (now >= g->deadline_ns)
            return fail(g, "no answer in time");
        int rv = poll(&p, 1, (int)((g->deadline_ns - now) / 1000000) + 1);
        if (rv > 0)
            return true;
        if (rv < 0 && errno != EINTR)
            return fail_errno(g, "poll", errno);
    }
}

static bool try_connect(struct get *g, const struct sockaddr *to, socklen_t size)
{
    int err = 0;
    socklen_t err_size = sizeof(err);
    g->fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (g->fd < 0)
        return fail_errno(g, "socket", errno);
    if (connect(g->fd, to, size) == 0)
        return true;
    if (errno != EINPROGRESS)
        err = errno;
    else if (!await(g, POLLOUT))
        return false;
    else
        (void)getsockopt(g->fd, SOL_SOCKET, SO_ERROR, &err, &err_size);
    if (err == 0)
        return true;
    (void)close(g->fd);
    g->fd = -1;
    return fail_errno(g, "connect", err);
}

static bool open_socket(struct get *g)
{
    if (g->is_path) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        if (strlen(g->host) >= sizeof(to.sun_path))
            return fail(g, "the path is too long");
        memcpy(to.sun_path, g->host, strlen(g->host) + 1);
        return try_connect(g, (const struct sockaddr *)&to, sizeof(to));
    }
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int rv = getaddrinfo(g->host, g->port, &hints, &found);
    if (rv != 0)
        return fail(g, gai_strerror(rv));
    bool ok = false;
    for (struct addrinfo *it = found; it != NULL && !ok; it = it->ai_next)
        ok = try_connect(g, it->ai_addr, it->ai_addrlen);
    freeaddrinfo(found);
    return ok;
}

static bool fail_tls(struct get *g, const char *what)
{
    unsigned long code = ERR_get_error();
    const char *why = code == 0 ? NULL : ERR_reason_error_string(code);
    long verified = g->ssl == NULL ? X509_V_OK : SSL_get_verify_result(g->ssl);
    if (verified != X509_V_OK)
        why = X509_verify_cert_error_string(verified);
    (void)snprintf(g->page->error, sizeof(g->page->error), "%s: %s", what,
                   why == NULL ? "the connection ended" : why);
    return false;
}

/* True: go on with the operation that returned `rv`. */
static bool await_tls(struct get *g, int rv, const char *what)
{
    int why = SSL_get_error(g->ssl, rv);
    if (why == SSL_ERROR_WANT_READ)
        return await(g, POLLIN);
    if (why == SSL_ERROR_WANT_WRITE)
        return await(g, POLLOUT);
    return fail_tls(g, what);
}

static void look_at_certificate(struct get *g)
{
    struct tm until;
    X509 *cert = SSL_get1_peer_certificate(g->ssl);
    if (cert != NULL && ASN1_TIME_to_tm(X509_get0_notAfter(cert), &until) == 1)
        g->page->cert_until_s = timegm(&until);
    X509_free(cert);
}

static bool set_up_tls(struct get *g)
{
    const struct http_get_options *o = g->o;
    g->ctx = SSL_CTX_new(TLS_client_method());
    if (g->ctx == NULL)
        return fail_tls(g, "TLS");
    if (o->ca_file == NULL)
        (void)SSL_CTX_set_default_verify_paths(g->ctx);
    else if (SSL_CTX_load_verify_file(g->ctx, o->ca_file) != 1)
        return fail_tls(g, "CA file");
    if (o->cert_file != NULL && SSL_CTX_use_certificate_chain_file(g->ctx, o->cert_file) != 1)
        return fail_tls(g, "certificate");
    if (o->key_file != NULL &&
        SSL_CTX_use_PrivateKey_file(g->ctx, o->key_file, SSL_FILETYPE_PEM) != 1)
        return fail_tls(g, "key");
    SSL_CTX_set_verify(g->ctx, o->insecure_skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    g->ssl = SSL_new(g->ctx);
    if (g->ssl == NULL || SSL_set_fd(g->ssl, g->fd) != 1)
        return fail_tls(g, "TLS");
    if (g->is_path || o->insecure_skip_verify)
        return true;
    X509_VERIFY_PARAM *param = SSL_get0_param(g->ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(param, g->host) == 1)
        return true;
    (void)SSL_set_tlsext_host_name(g->ssl, g->host);
    return SSL_set1_host(g->ssl, g->host) == 1 || fail_tls(g, "TLS");
}

static bool start_tls(struct get *g)
{
    int rv;
    if (!set_up_tls(g))
        return false;
    while ((rv = SSL_connect(g->ssl)) != 1)
        if (!await_tls(g, rv, "TLS handshake"))
            return false;
    g->page->is_tls = true;
    look_at_certificate(g);
    return true;
}

static bool write_all(struct get *g, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = g->ssl != NULL ? SSL_write(g->ssl, text, (int)size)
                                   : send(g->fd, text, size, MSG_NOSIGNAL);
        if (n > 0) {
            text += n;
            size -= (size_t)n;
        } else if (g->ssl != NULL) {
            if (!await_tls(g, (int)n, "write"))
                return false;
        } else if (errno != EAGAIN && errno != EINTR) {
            return fail_errno(g, "write", errno);
        } else if (!await(g, POLLOUT)) {
            return false;
        }
    }
    return true;
}

/* 1: there is more; 0: the end; -1: failed. */
static int read_some(struct get *g, struct buf *in)
{
    enum { PIECE_BYTES = 64 << 10 };
    uint8_t *to = buf_reserve(in, PIECE_BYTES);
    if (to == NULL)
        return fail(g, "the page is too large") - 1;
    for (;;) {
        ssize_t n =
            g->ssl != NULL ? SSL_read(g->ssl, to, PIECE_BYTES) : recv(g->fd, to, PIECE_BYTES, 0);
        if (n > 0) {
            in->size += (size_t)n;
            return 1;
        }
        if (g->ssl != NULL) {
            int why = SSL_get_error(g->ssl, (int)n);
            if (why == SSL_ERROR_ZERO_RETURN || (why != SSL_ERROR_WANT_READ && in->size > 0))
                return 0;
            if (!await_tls(g, (int)n, "read"))
                return -1;
        } else if (n == 0) {
            return 0;
        } else if (errno != EAGAIN && errno != EINTR) {
            return fail_errno(g, "read", errno) - 1;
        } else if (!await(g, POLLIN)) {
            return -1;
        }
    }
}

/* --- the answer --- */

int64_t http_date(struct slice text)
{
    char copy[64];
    struct tm tm = {0};
    if (text.size >= sizeof(copy))
        return 0;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    const char *end = strptime(copy, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    return end != NULL && *end == '\0' ? timegm(&tm) : 0;
}

/* The value of a header among `headers`, which begin with the status line; data NULL: none. */
static struct slice header(struct slice headers, const char *name)
{
    size_t name_size = strlen(name);
    size_t at = 0;
    while (at < headers.size) {
        const uint8_t *end = memchr(headers.data + at, '\n', headers.size - at);
        size_t next = end == NULL ? headers.size : (size_t)(end - headers.data) + 1;
        const char *line = (const char *)headers.data + at;
        size_t size = next - at;
        if (size > name_size && strncasecmp(line, name, name_size) == 0 && line[name_size] == ':') {
            struct slice v = slice_of(line + name_size + 1, size - name_size - 1);
            while (v.size > 0 && v.data[0] == ' ')
                v = slice_of(v.data + 1, v.size - 1);
            while (v.size > 0 && v.data[v.size - 1] <= ' ')
                v.size--;
            return v;
        }
        at = next;
    }
    return (struct slice){0};
}

static bool unchunk(struct slice in, struct buf *out)
{
    while (in.size > 0) {
        char *end;
        const uint8_t *line = memmem(in.data, in.size, "\r\n", 2);
        if (line == NULL)
            return false;
        char text[20];
        size_t size = (size_t)(line - in.data);
        if (size >= sizeof(text))
            return false;
        memcpy(text, in.data, size);
        text[size] = '\0';
        unsigned long long chunk = strtoull(text, &end, 16);
        in = slice_of(line + 2, in.size - size - 2);
        if (end == text || chunk + 2 > in.size)
            return chunk == 0 && end != text;
        if (chunk == 0)
            return true;
        if (buf_append(out, in.data, (size_t)chunk) != 0)
            return false;
        in = slice_of(in.data + chunk + 2, in.size - chunk - 2);
    }
    return false;
}

static bool take_answer(struct get *g, struct buf *in)
{
    const uint8_t *end = in->size == 0 ? NULL : memmem(in->data, in->size, "\r\n\r\n", 4);
    if (end == NULL || in->size < 12 || memcmp(in->data, "HTTP/1.", 7) != 0)
        return fail(g, "the answer is no HTTP");
    struct slice headers = slice_of(in->data, (size_t)(end - in->data) + 2);
    struct slice body = slice_of(end + 4, in->size - headers.size - 2);
    struct slice length = header(headers, "Content-Length");
    struct slice coding = header(headers, "Transfer-Encoding");
    char text[4] = {(char)in->data[9], (char)in->data[10], (char)in->data[11], 0};
    g->page->date_s = http_date(header(headers, "Date"));
    bool whole = true;
    if (coding.data != NULL) {
        whole = unchunk(body, &g->page->body);
    } else {
        if (length.data != NULL) {
            char number[24] = {0};
            memcpy(number, length.data, length.size < 23 ? length.size : 23);
            whole = body.size >= strtoull(number, NULL, 10);
        }
        whole = buf_append(&g->page->body, body.data, body.size) == 0 && whole;
    }
    if (!whole)
        return fail(g, "the answer is cut off");
    g->page->status = (int)strtol(text, NULL, 10);
    return true;
}

static bool converse(struct get *g, const char *path)
{
    char head[1024];
    struct buf in;
    bool bracket = strchr(g->host, ':') != NULL;
    int size = snprintf(head, sizeof(head),
                        "GET %s HTTP/1.1\r\nHost: %s%s%s%s%s\r\nConnection: close\r\n"
                        "User-Agent: trivetctl\r\n%s%s%s\r\n",
                        path, bracket ? "[" : "", g->is_path ? "localhost" : g->host,
                        bracket ? "]" : "", g->is_path ? "" : ":", g->port,
                        g->o->authorization == NULL ? "" : "Authorization: ",
                        g->o->authorization == NULL ? "" : g->o->authorization,
                        g->o->authorization == NULL ? "" : "\r\n");
    if ((size_t)size >= sizeof(head))
        return fail(g, "the request is too long");
    if (!write_all(g, head, (size_t)size))
        return false;
    buf_init(&in, g->o->body_bytes_max + HEADERS_BYTES_MAX);
    int rv;
    while ((rv = read_some(g, &in)) > 0)
        continue;
    bool ok = rv == 0 && take_answer(g, &in);
    buf_fini(&in);
    return ok;
}

void http_get(const char *address, const char *path, const struct http_get_options *o,
              struct http_page *ret)
{
    struct get g = {.o = o, .page = ret, .fd = -1};
    uint64_t begun = clock_mono_ns();
    *ret = (struct http_page){0};
    buf_init(&ret->body, o->body_bytes_max);
    g.deadline_ns = begun + o->timeout_ms * 1000000;
    if (parse_address(&g, address) && open_socket(&g) && (!g.secure || start_tls(&g)))
        (void)converse(&g, path);
    ret->took_ns = clock_mono_ns() - begun;
    SSL_free(g.ssl);
    SSL_CTX_free(g.ctx);
    if (g.fd >= 0)
        (void)close(g.fd);
}
