/* See proto/tls.h: the settings of a context, and its files. */
#include "tls.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* AES first: where there is no AES in hardware clients ask for ChaCha, and are listened to. */
static const char suites_13[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char ciphers_default[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA";

/* What a peer could do with weaker ones is nothing that Go refuses. */
enum { SECURITY_LEVEL = 1 };

/* A day, as Go: who learns the key of the tickets reads no more than the sessions of that time. */
#define TICKET_KEY_NS (UINT64_C(86400) * 1000000000)

/* From one SSL_CTX that failed to the next. */
#define REPAIR_NS (UINT64_C(500) * 1000000)

static int context_index = -1, revoked_index = -1;
static pthread_mutex_t indexes_lock = PTHREAD_MUTEX_INITIALIZER;

static void on_revoked_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                            void *argp)
{
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    tls__revoked_free(ptr);
}

/* Once in the process; false: there is no memory. */
static bool make_indexes(void)
{
    (void)pthread_mutex_lock(&indexes_lock);
    if (context_index < 0)
        context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    if (revoked_index < 0)
        revoked_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, on_revoked_free);
    bool made = context_index >= 0 && revoked_index >= 0;
    (void)pthread_mutex_unlock(&indexes_lock);
    return made;
}

struct tls_context *tls__context_of(const SSL_CTX *ctx)
{
    return SSL_CTX_get_ex_data(ctx, context_index);
}

const struct tls_revoked *tls__revoked_of(const SSL_CTX *ctx)
{
    return SSL_CTX_get_ex_data(ctx, revoked_index);
}

void tls__error_text(char *ret_text, size_t size)
{
    unsigned long code = ERR_get_error();
    const char *reason = ERR_reason_error_string(code);
    if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE)
        reason = tv_err_text(TV_ENOMEM);
    snprintf(ret_text, size, "%s", reason != NULL ? reason : "unknown error");
    ERR_clear_error();
}

/* --- files --- */

static void look_at(struct tls_file *f)
{
    struct stat st;
    f->there = stat(f->path, &st) == 0;
    if (!f->there)
        return;
    f->device = st.st_dev;
    f->inode = st.st_ino;
    f->size = (uint64_t)st.st_size;
    f->modified = st.st_mtim;
    f->changed = st.st_ctim;
}

static bool times_differ(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec || a->tv_nsec != b->tv_nsec;
}

static bool has_changed(const struct tls_file *f)
{
    struct tls_file now = {.path = f->path};
    look_at(&now);
    if (!now.there || !f->there)
        return now.there != f->there;
    return now.device != f->device || now.inode != f->inode || now.size != f->size ||
           times_differ(&now.modified, &f->modified) || times_differ(&now.changed, &f->changed);
}

/* False: there is no memory. */
static bool watch_file(struct tls_context *c, const char *path)
{
    if (path[0] == '\0')
        return true;
    ASSERT(c->files_count < TLS_FILES_MAX);
    char *copied = mem_try_strdup(path);
    if (copied == NULL)
        return false;
    c->files[c->files_count++].path = copied;
    return true;
}

/* --- one SSL_CTX --- */

/* What failed, and where: left for the caller to say. */
struct failure {
    const char *file;
    char why[256];
};

static bool fail(struct failure *f, const char *file)
{
    f->file = file;
    unsigned long code = ERR_peek_error();
    if (ERR_GET_LIB(code) == ERR_LIB_SYS) {
        snprintf(f->why, sizeof(f->why), "open %s: %s", file, strerror(ERR_GET_REASON(code)));
        ERR_clear_error();
        return false;
    }
    tls__error_text(f->why, sizeof(f->why));
    return false;
}

static bool load_pair(const struct tls_context *c, SSL_CTX *ctx, struct failure *f)
{
    if (c->o.cert_file[0] == '\0')
        return true;
    if (SSL_CTX_use_certificate_chain_file(ctx, c->o.cert_file) != 1)
        return fail(f, c->o.cert_file);
    if (SSL_CTX_use_PrivateKey_file(ctx, c->o.key_file, SSL_FILETYPE_PEM) != 1)
        return fail(f, c->o.key_file);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return fail(f, c->o.key_file);
    return true;
}

static bool load_cas(const struct tls_context *c, SSL_CTX *ctx, struct failure *f)
{
    if (c->o.ca_file[0] == '\0')
        return SSL_CTX_set_default_verify_paths(ctx) == 1 || fail(f, "");
    if (SSL_CTX_load_verify_locations(ctx, c->o.ca_file, NULL) != 1)
        return fail(f, c->o.ca_file);
    if (!c->o.is_server)
        return true;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(c->o.ca_file);
    if (names == NULL)
        return fail(f, c->o.ca_file);
    SSL_CTX_set_client_CA_list(ctx, names);
    return true;
}

static bool load_crl(const struct tls_context *c, SSL_CTX *ctx, struct failure *f)
{
    if (c->o.crl_file[0] == '\0')
        return true;
    struct tls_revoked *r = tls__revoked_read(c->o.crl_file);
    if (r == NULL) {
        f->file = c->o.crl_file;
        snprintf(f->why, sizeof(f->why), "the certificate revocation list cannot be read");
        return false;
    }
    return SSL_CTX_set_ex_data(ctx, revoked_index, r) == 1;
}

/* h2 where the client knows it. As Go does where h2 alone is offered: who knows http/1.1 is served
 * as if he had not asked, and who knows neither is refused. Source: negotiateALPN() in crypto/tls.
 */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                           const unsigned char *in, unsigned int in_size, void *arg)
{
    static const unsigned char h2[] = {2, 'h', '2'},
                               http1[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
    (void)ssl, (void)arg;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_size, h2, sizeof(h2), in, in_size) ==
        OPENSSL_NPN_NEGOTIATED) {
        *out = chosen;
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_select_next_proto(&chosen, out_size, http1, sizeof(http1), in, in_size) ==
                   OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_NOACK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void set_server(const struct tls_context *c, SSL_CTX *ctx)
{
    static const unsigned char session_context[] = "trivet";
    bool wants_cert = c->o.client_auth || c->o.ca_file[0] != '\0';
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    SSL_CTX_set_verify(
        ctx, wants_cert ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_NONE,
        NULL);
    /* Sessions are kept by the clients, in tickets under a key of this SSL_CTX alone. */
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_session_id_context(ctx, session_context, sizeof(session_context) - 1);
    (void)SSL_CTX_set_num_tickets(ctx, 1);
}

static bool set_client(const struct tls_context *c, SSL_CTX *ctx)
{
    static const unsigned char h2[] = {2, 'h', '2'};
    if (SSL_CTX_set_alpn_protos(ctx, h2, sizeof(h2)) != 0)
        return false;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL); /* tls__verify() knows who believes anybody */
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    return true;
}

static bool set_common(const struct tls_context *c, SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_security_level(ctx, SECURITY_LEVEL);
    SSL_CTX_set_cert_verify_callback(ctx, tls__verify, NULL);
    /* What stands in the CA file is believed, root or not; what a key may be used for is looked at
     * by tls__verify(). */
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
    (void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    (void)X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_ANY);
    return SSL_CTX_set_min_proto_version(ctx, c->o.version_min == TLS_VERSION_DEFAULT
                                                  ? TLS1_2_VERSION
                                                  : (int)c->o.version_min) == 1 &&
           SSL_CTX_set_max_proto_version(ctx, (int)c->o.version_max) == 1 &&
           SSL_CTX_set_ciphersuites(ctx, suites_13) == 1 &&
           SSL_CTX_set_cipher_list(ctx, c->ciphers != NULL ? c->ciphers : ciphers_default) == 1;
}

static SSL_CTX *build(struct tls_context *c, struct failure *f)
{
    *f = (struct failure){.file = ""};
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(c->o.is_server ? TLS_server_method() : TLS_client_method());
    if (ctx == NULL || !set_common(c, ctx) || SSL_CTX_set_ex_data(ctx, context_index, c) != 1 ||
        (!c->o.is_server && !set_client(c, ctx))) {
        (void)fail(f, "");
        SSL_CTX_free(ctx);
        return NULL;
    }
    if (c->o.is_server)
        set_server(c, ctx);
    if (load_pair(c, ctx, f) && load_cas(c, ctx, f) && load_crl(c, ctx, f))
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

/* Looked at before they are read: what changes while they are read is seen the next time. */
static void look_at_all(struct tls_context *c)
{
    for (uint32_t i = 0; i < c->files_count; i++)
        look_at(&c->files[i]);
}

static void say(const struct tls_context *c, const char *file, const char *why)
{
    if (c->o.said != NULL)
        c->o.said(c->o.ctx, file, why);
}

/* Under the mutex. `changed` NULL: the key of the tickets is to be another, or it failed. */
static void reload(struct tls_context *c, const char *changed)
{
    struct failure f;
    look_at_all(c);
    c->built_ns = clock_mono_ns();
    SSL_CTX *fresh = build(c, &f);
    if (fresh == NULL || changed != NULL)
        say(c, fresh != NULL ? changed : f.file, fresh != NULL ? NULL : f.why);
    if (fresh == NULL) {
        /* What changed is still to be read once there is memory. */
        if (strcmp(f.why, tv_err_text(TV_ENOMEM)) == 0 && c->files_count > 0)
            c->files[0].there = !c->files[0].there;
        return;
    }
    SSL_CTX_free(c->current); /* connections hold it as long as they need it */
    c->current = fresh;
}

SSL *tls__new_ssl(struct tls_context *c)
{
    uv_mutex_lock(&c->mutex);
    const char *changed = NULL;
    for (uint32_t i = 0; i < c->files_count && changed == NULL; i++)
        if (has_changed(&c->files[i]))
            changed = c->files[i].path;
    uint64_t age_ns = clock_mono_ns() - c->built_ns;
    bool repair = age_ns > REPAIR_NS && atomic_exchange(&c->failed, false);
    if (changed != NULL || repair || age_ns > TICKET_KEY_NS)
        reload(c, changed);
    SSL *ssl = SSL_new(c->current);
    uv_mutex_unlock(&c->mutex);
    return ssl;
}

void tls__handshake_failed(struct tls_context *c)
{
    if (!c->o.is_server)
        atomic_store(&c->failed, true);
}

/* --- a context --- */

/* NULL: there is no memory. */
static char *copy(const char *text)
{
    return mem_try_strdup(text == NULL ? "" : text);
}

static bool cut_list(struct tls_list *l, const char *text)
{
    l->text = copy(text);
    if (l->text == NULL)
        return false;
    char *rest = l->text;
    while (rest != NULL && l->count < TLS_LIST_MAX) {
        char *item = strsep(&rest, ",");
        if (*item != '\0')
            l->items[l->count++] = item;
    }
    return true;
}

/* False: there is no memory. */
static bool copy_options(struct tls_context *c, const struct tls_options *o)
{
    c->o = *o;
    c->o.cert_file = copy(o->cert_file);
    c->o.key_file = copy(o->key_file);
    c->o.ca_file = copy(o->ca_file);
    c->o.crl_file = copy(o->crl_file);
    c->o.allowed_cns = c->o.allowed_hostnames = c->o.cipher_suites = NULL;
    return c->o.cert_file != NULL && c->o.key_file != NULL && c->o.ca_file != NULL &&
           c->o.crl_file != NULL && cut_list(&c->cns, o->allowed_cns) &&
           cut_list(&c->hostnames, o->allowed_hostnames) && watch_file(c, c->o.cert_file) &&
           watch_file(c, c->o.key_file) && watch_file(c, c->o.ca_file) &&
           watch_file(c, c->o.crl_file);
}

/* Go's %q of a list: ["a" "b"]. */
static void print_list(const struct tls_list *l, char *ret_text, size_t size)
{
    size_t used = (size_t)snprintf(ret_text, size, "[");
    for (uint32_t i = 0; i < l->count && used < size; i++)
        used += (size_t)snprintf(ret_text + used, size - used, "%s\"%s\"", i > 0 ? " " : "",
                                 l->items[i]);
    if (used < size)
        (void)snprintf(ret_text + used, size - used, "]");
}

static bool check(const struct tls_context *c, char *err_text, size_t err_size)
{
    const struct tls_options *o = &c->o;
    bool cert = o->cert_file[0] != '\0', key = o->key_file[0] != '\0';
    if (cert != key || (o->is_server && !cert)) {
        snprintf(err_text, err_size, "KeyFile and CertFile must both be present[key: %s, cert: %s]",
                 o->key_file, o->cert_file);
        return false;
    }
    if (c->cns.count > 0 && c->hostnames.count > 0) {
        char cns[512], names[512];
        print_list(&c->cns, cns, sizeof(cns));
        print_list(&c->hostnames, names, sizeof(names));
        snprintf(err_text, err_size,
                 "AllowedCNs and AllowedHostnames are mutually exclusive (cns=%s, hostnames=%s)",
                 cns, names);
        return false;
    }
    return true;
}

/* A list of revoked certificates that cannot be read keeps nobody from starting, as in etcd; but
 * then no certificate is believed. */
static SSL_CTX *build_without_crl(struct tls_context *c, struct failure *f)
{
    const char *crl_file = c->o.crl_file;
    say(c, crl_file, f->why);
    c->o.crl_file = "";
    SSL_CTX *ctx = build(c, f);
    c->o.crl_file = crl_file;
    if (ctx == NULL)
        return NULL;
    struct tls_revoked *unknown = mem_alloc_zero(sizeof(*unknown));
    unknown->unknown = true;
    (void)SSL_CTX_set_ex_data(ctx, revoked_index, unknown);
    return ctx;
}

struct tls_context *tls_context_new(const struct tls_options *o, char *err_text, size_t err_size)
{
    struct failure f;
    struct tls_context *c = make_indexes() ? mem_try_alloc_zero(sizeof(*c)) : NULL;
    if (c == NULL) {
        snprintf(err_text, err_size, "%s", tv_err_text(TV_ENOMEM));
        return NULL;
    }
    int rv = uv_mutex_init(&c->mutex);
    ASSERT(rv == 0);
    bool ok = copy_options(c, o);
    if (!ok)
        snprintf(err_text, err_size, "%s", tv_err_text(TV_ENOMEM));
    ok = ok && check(c, err_text, err_size);
    if (ok && o->cipher_suites != NULL && o->cipher_suites[0] != '\0') {
        c->ciphers = tls__ciphers_of_go(o->cipher_suites);
        ok = c->ciphers != NULL;
        if (!ok)
            snprintf(err_text, err_size, "none of the cipher suites is supported: %s",
                     o->cipher_suites);
    }
    if (ok) {
        look_at_all(c);
        c->built_ns = clock_mono_ns();
        c->current = build(c, &f);
        if (c->current == NULL && f.file == c->o.crl_file && f.file[0] != '\0')
            c->current = build_without_crl(c, &f);
        ok = c->current != NULL;
        if (!ok)
            snprintf(err_text, err_size, "%s%s%s", f.why, f.file[0] != '\0' ? ": " : "", f.file);
    }
    if (ok)
        return c;
    tls_context_free(c);
    return NULL;
}

void tls_context_free(struct tls_context *c)
{
    if (c == NULL)
        return;
    SSL_CTX_free(c->current);
    for (uint32_t i = 0; i < c->files_count; i++)
        mem_free(c->files[i].path);
    mem_free((char *)c->o.cert_file);
    mem_free((char *)c->o.key_file);
    mem_free((char *)c->o.ca_file);
    mem_free((char *)c->o.crl_file);
    mem_free(c->cns.text);
    mem_free(c->hostnames.text);
    mem_free(c->ciphers);
    uv_mutex_destroy(&c->mutex);
    mem_free(c);
}
