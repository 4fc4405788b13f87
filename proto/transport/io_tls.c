/* TLS over TCP: an io that sits on another one.
 *
 *     WAITING --first byte--> PLAIN | SHAKING --> (LOOKING_UP) --> OPEN --> OVER
 *
 * 1. OpenSSL sees no socket. What a read gave is decrypted whole, then delivered in one piece; what
 * is sent becomes records of up to 16 KiB, which leave in one write.
 * 2. A server's connection has no SSL before its first byte, and no buffers when nothing is on its
 * way: SSL_MODE_RELEASE_BUFFERS.
 * 3. Nothing is sent before OPEN: until then it is busy.
 * 4. A handshake costs CPU: a turn of the loop does HANDSHAKES_PER_TURN_MAX steps of them, and who
 * comes then is not read before the next turn. */
#include "io.h"
#include "tls.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

enum {
    RECORD_BYTES_MAX = 16 << 10,
    PLAIN_BYTES = (256 << 10) + 2 * RECORD_BYTES_MAX, /* what one read may decrypt to, and more */
    OUT_KEPT_BYTES_MAX = 512 << 10,
    PENDING_BYTES_MAX = 64 << 10, /* what the peer makes necessary and does not take */
    RECORD_HANDSHAKE = 22,
    ERROR_BYTES = 256,
    IP_BYTES = 64,
};

enum tls_state {
    TLS_WAITING,
    TLS_PLAIN,
    TLS_SHAKING,
    TLS_LOOKING_UP, /* for the names in its certificate, elsewhere */
    TLS_OPEN,
    TLS_OVER,
};

struct io_tls;

struct look_up {
    uv_work_t work;
    struct io_tls *t; /* NULL: it is gone */
    X509 *cert;
    char ip[IP_BYTES];
    bool found;
};

struct io_tls {
    struct io io;
    struct io *below;
    uv_loop_t *loop;
    struct io_shared *shared;
    struct tls_context *context;
    SSL *ssl;
    enum tls_state state;
    bool plain_allowed;
    bool closing;
    bool broken; /* nothing may be sent any more */
    bool read_wanted;
    bool shutdown_wanted;
    struct slice in;    /* while it is being read */
    struct buf kept;    /* input that came while names are looked up */
    struct buf pending; /* records that wait for the socket */
    struct look_up *look_up;
    char *cn;
    char *error;
};

static struct io_tls *tls_of(const struct io *io)
{
    return CONTAINER_OF((struct io *)io, struct io_tls, io);
}

/* --- between OpenSSL and the io below --- */

static BIO_METHOD *bio_method; /* under the lock */
static pthread_mutex_t bio_lock = PTHREAD_MUTEX_INITIALIZER;

static int bio_read(BIO *bio, char *to, int size)
{
    struct io_tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->in.size == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t take = (size_t)size < t->in.size ? (size_t)size : t->in.size;
    memcpy(to, t->in.data, take);
    t->in = slice_of(t->in.data + take, t->in.size - take);
    return (int)take;
}

static int bio_write(BIO *bio, const char *data, int size)
{
    struct io_tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    /* No limit of its own: only memory may lack, and then the connection ends. */
    return buf_try_append(&t->shared->tls_out, data, (size_t)size) == 0 ? size : -1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *arg)
{
    (void)bio, (void)number, (void)arg;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *make_bio_method(void)
{
    int index = BIO_get_new_index();
    BIO_METHOD *m = index < 0 ? NULL : BIO_meth_new(index | BIO_TYPE_SOURCE_SINK, "io");
    if (m == NULL)
        return NULL;
    (void)BIO_meth_set_read(m, bio_read);
    (void)BIO_meth_set_write(m, bio_write);
    (void)BIO_meth_set_ctrl(m, bio_ctrl);
    return m;
}

/* Made once, as soon as there is memory for it. */
static BIO *new_bio(void)
{
    (void)pthread_mutex_lock(&bio_lock);
    if (bio_method == NULL)
        bio_method = make_bio_method();
    BIO_METHOD *m = bio_method;
    (void)pthread_mutex_unlock(&bio_lock);
    return m == NULL ? NULL : BIO_new(m);
}

static int send_below(struct io_tls *t, struct buf *records)
{
    struct io_vec vec = {records->data, records->size, NULL};
    return io_send(t->below, &vec, 1);
}

/* What OpenSSL has written in this call leaves, or is kept. */
static int flush(struct io_tls *t)
{
    struct buf *out = &t->shared->tls_out;
    int rv = 0;
    if (out->size == 0)
        return 0;
    if (t->pending.size > 0 || io_is_busy(t->below))
        rv = buf_try_append(&t->pending, out->data, out->size);
    else
        rv = send_below(t, out);
    buf_clear(out);
    if (out->capacity > OUT_KEPT_BYTES_MAX) {
        buf_fini(out);
        buf_init(out, SIZE_MAX);
    }
    if (rv != 0)
        t->broken = true;
    return rv;
}

/* --- the end --- */

static void set_error(struct io_tls *t, const char *text)
{
    if (t->error == NULL)
        t->error = mem_try_strdup(text);
}

/* The peer's certificate, or what OpenSSL complains about. */
static void set_error_from_ssl(struct io_tls *t)
{
    char text[ERROR_BYTES], reason[ERROR_BYTES / 2];
    long verified = SSL_get_verify_result(t->ssl);
    tls__handshake_failed(t->context);
    tls__error_text(reason, sizeof(reason));
    if (verified != X509_V_OK)
        snprintf(text, sizeof(text), "tls: failed to verify certificate: x509: %s",
                 X509_verify_cert_error_string(verified));
    else
        snprintf(text, sizeof(text), "tls: %s", reason);
    set_error(t, text);
}

static void reject(struct io_tls *t)
{
    char remote[IP_BYTES];
    const struct tls_options *o = &t->context->o;
    if (!o->is_server || o->rejected == NULL || t->error == NULL)
        return;
    io_peer(t->below, remote, sizeof(remote));
    o->rejected(o->ctx, remote, t->error);
}

static void end(struct io_tls *t)
{
    if (t->closing || t->state == TLS_OVER)
        return;
    if (t->state == TLS_SHAKING || t->state == TLS_LOOKING_UP)
        reject(t);
    t->state = TLS_OVER;
    io_read_stop(t->below);
    t->io.events->on_read(t->io.ctx, NULL, TV_ECLOSED);
}

/* --- reading --- */

/* Decrypt as much as there is and fits. False: nothing more will come. */
static bool decrypt(struct io_tls *t, size_t *ret_size)
{
    size_t total = 0, got;
    ERR_clear_error();
    while (total + RECORD_BYTES_MAX <= PLAIN_BYTES) {
        if (SSL_read_ex(t->ssl, t->shared->tls_plain + total, PLAIN_BYTES - total, &got) == 1) {
            total += got;
            continue;
        }
        *ret_size = total;
        int why = SSL_get_error(t->ssl, 0);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_ZERO_RETURN) {
            set_error_from_ssl(t); /* with TLS 1.3 a client learns here that it was refused */
            t->broken = true;
        }
        return why == SSL_ERROR_WANT_READ;
    }
    *ret_size = total;
    return true;
}

static void take_records(struct io_tls *t)
{
    bool more = true;
    if (t->shared->tls_plain == NULL)
        t->shared->tls_plain = mem_try_alloc(PLAIN_BYTES);
    if (t->shared->tls_plain == NULL) {
        t->broken = true;
        end(t);
        return;
    }
    do {
        size_t size;
        more = decrypt(t, &size) && flush(t) == 0; /* an answer to a key update, an alert */
        if (size > 0)
            t->io.events->on_read(t->io.ctx, t->shared->tls_plain, (ssize_t)size);
    } while (more && !t->closing && t->in.size > 0);
    if (!more) {
        (void)flush(t);
        end(t);
    }
}

/* --- the handshake --- */

static void open_for_data(struct io_tls *t)
{
    t->state = TLS_OPEN;
    if (t->io.events->on_ready != NULL)
        t->io.events->on_ready(t->io.ctx);
    if (!t->closing && t->pending.size == 0 && !io_is_busy(t->below))
        t->io.events->on_drained(t->io.ctx);
    if (!t->closing && t->state == TLS_OPEN)
        take_records(t);
}

static void look_up_names(uv_work_t *work)
{
    struct look_up *l = CONTAINER_OF(work, struct look_up, work);
    l->found = tls__names_have_ip(l->cert, l->ip);
}

static void on_looked_up(uv_work_t *work, int status)
{
    struct look_up *l = CONTAINER_OF(work, struct look_up, work);
    struct io_tls *t = l->t;
    bool found = l->found && status == 0;
    X509_free(l->cert);
    mem_free(l);
    if (t == NULL)
        return;
    t->look_up = NULL;
    if (!found) {
        set_error(t, "tls: the address does not match any of DNSNames");
        end(t);
        return;
    }
    if (t->read_wanted)
        (void)io_read_start(t->below);
    t->in = buf_slice(&t->kept);
    open_for_data(t);
    t->in = SLICE_EMPTY;
    buf_fini(&t->kept);
}

/* Its address must be among what its certificate names. True when that is known already. */
static bool comes_from_its_address(struct io_tls *t, X509 *cert)
{
    char ip[IP_BYTES];
    io_peer(t->below, ip, sizeof(ip));
    char *colon = strrchr(ip, ':');
    char *start = ip[0] == '[' ? ip + 1 : ip;
    if (colon != NULL)
        colon[start != ip ? -1 : 0] = '\0';
    enum tls_san san = tls__check_san(cert, start);
    if (san == TLS_SAN_BAD) {
        set_error(t, "x509: the certificate is not valid for the address");
        end(t);
    }
    if (san != TLS_SAN_LOOK_UP)
        return san == TLS_SAN_GOOD;
    struct look_up *l = mem_alloc_zero(sizeof(*l));
    l->t = t;
    l->cert = cert;
    (void)X509_up_ref(cert);
    snprintf(l->ip, sizeof(l->ip), "%s", start);
    t->look_up = l;
    t->state = TLS_LOOKING_UP;
    io_read_stop(t->below);
    (void)buf_append(&t->kept, t->in.data, t->in.size);
    t->in = SLICE_EMPTY;
    int rv = uv_queue_work(t->loop, &l->work, look_up_names, on_looked_up);
    ASSERT(rv == 0);
    return false;
}

/* Both sides are done: is it somebody we talk to? */
static void on_shaken(struct io_tls *t)
{
    X509 *cert = SSL_get0_peer_certificate(t->ssl);
    io_tcp_set_shaking(t->below, false);
    if (SSL_session_reused(t->ssl) && !tls__resumed_is_valid(t->ssl)) {
        set_error(t, "x509: certificate has expired or is not yet valid");
        end(t);
        return;
    }
    if (t->context->o.is_server && cert != NULL)
        t->cn = tls__common_name(cert);
    if (t->context->o.client_san_check && cert != NULL && !comes_from_its_address(t, cert))
        return;
    open_for_data(t);
}

static void shake(struct io_tls *t)
{
    t->shared->handshakes++;
    ERR_clear_error();
    int rv = SSL_do_handshake(t->ssl);
    int why = rv == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, rv);
    if (why != SSL_ERROR_NONE && why != SSL_ERROR_WANT_READ) {
        set_error_from_ssl(t);
        (void)flush(t); /* the alert */
        t->broken = true;
        end(t);
    } else if (flush(t) != 0) {
        end(t);
    } else if (rv == 1) {
        on_shaken(t);
    }
}

static bool make_ssl(struct io_tls *t)
{
    t->ssl = tls__new_ssl(t->context);
    BIO *bio = t->ssl == NULL ? NULL : new_bio();
    if (bio == NULL)
        return false;
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    t->state = TLS_SHAKING;
    return true;
}

/* A server hears the first byte. False: that was all. */
static bool begin(struct io_tls *t, uint8_t first)
{
    if (t->plain_allowed && first != RECORD_HANDSHAKE) {
        t->state = TLS_PLAIN;
        io_tcp_set_shaking(t->below, false);
        if (t->io.events->on_ready != NULL)
            t->io.events->on_ready(t->io.ctx);
        return !t->closing;
    }
    if (make_ssl(t)) {
        SSL_set_accept_state(t->ssl);
        return true;
    }
    end(t);
    return false;
}

static void on_raw(void *ctx, const uint8_t *data, ssize_t size)
{
    struct io_tls *t = ctx;
    if (size < 0) {
        if (t->state == TLS_SHAKING)
            set_error(t, "EOF");
        t->broken = true;
        end(t);
        return;
    }
    if (t->state == TLS_WAITING && !begin(t, data[0]))
        return;
    if (t->state == TLS_PLAIN) {
        t->io.events->on_read(t->io.ctx, data, size);
        return;
    }
    t->in = slice_of(data, (size_t)size);
    if (t->state == TLS_SHAKING)
        shake(t);
    else if (t->state == TLS_OPEN)
        take_records(t);
    t->in = SLICE_EMPTY;
}

static int tls_read_start(struct io *io)
{
    struct io_tls *t = tls_of(io);
    t->read_wanted = true;
    return t->state == TLS_LOOKING_UP || t->state == TLS_OVER ? 0 : io_read_start(t->below);
}

static void tls_read_stop(struct io *io)
{
    tls_of(io)->read_wanted = false;
    io_read_stop(tls_of(io)->below);
}

/* --- writing --- */

static bool encrypt(struct io_tls *t, const uint8_t *data, size_t size)
{
    size_t written;
    return SSL_write_ex(t->ssl, data, size, &written) == 1 && written == size;
}

/* Small pieces are put together, so that they are one record. */
static bool encrypt_all(struct io_tls *t, const struct io_vec *vecs, size_t vecs_count)
{
    uint8_t gathered[RECORD_BYTES_MAX];
    size_t gathered_size = 0;
    for (size_t i = 0; i < vecs_count; i++) {
        const uint8_t *data = vecs[i].data;
        size_t size = vecs[i].size;
        while (size > 0) {
            size_t take =
                size < sizeof(gathered) - gathered_size ? size : sizeof(gathered) - gathered_size;
            bool whole = gathered_size == 0 && (size >= sizeof(gathered) || i + 1 == vecs_count);
            if (whole)
                take = i + 1 == vecs_count ? size : size - size % sizeof(gathered);
            else
                memcpy(gathered + gathered_size, data, take);
            gathered_size += whole ? 0 : take;
            if (whole && !encrypt(t, data, take))
                return false;
            if (gathered_size == sizeof(gathered)) {
                if (!encrypt(t, gathered, gathered_size))
                    return false;
                gathered_size = 0;
            }
            data += take;
            size -= take;
        }
    }
    return gathered_size == 0 || encrypt(t, gathered, gathered_size);
}

static int tls_send(struct io *io, const struct io_vec *vecs, size_t vecs_count)
{
    struct io_tls *t = tls_of(io);
    if (t->state == TLS_PLAIN)
        return io_send(t->below, vecs, vecs_count);
    if (t->state != TLS_OPEN || t->broken)
        return TV_ECLOSED;
    ERR_clear_error();
    if (!encrypt_all(t, vecs, vecs_count)) {
        t->broken = true;
        buf_clear(&t->shared->tls_out);
        return TV_ECLOSED;
    }
    return flush(t);
}

static bool tls_is_busy(const struct io *io)
{
    const struct io_tls *t = tls_of(io);
    if (t->state == TLS_WAITING || t->state == TLS_SHAKING || t->state == TLS_LOOKING_UP)
        return true;
    return t->pending.size > 0 || io_is_busy(t->below);
}

static void on_drained_below(void *ctx)
{
    struct io_tls *t = ctx;
    if (t->closing)
        return;
    if (t->pending.size > 0) {
        int rv = send_below(t, &t->pending);
        buf_fini(&t->pending);
        buf_init(&t->pending, PENDING_BYTES_MAX);
        if (rv != 0) {
            t->broken = true;
            end(t);
            return;
        }
    }
    if (t->shutdown_wanted)
        io_shutdown(t->below);
    t->shutdown_wanted = false;
    if (!tls_is_busy(&t->io))
        t->io.events->on_drained(t->io.ctx);
}

static void say_goodbye(struct io_tls *t)
{
    if (t->state != TLS_OPEN || t->broken)
        return;
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl); /* the peer's is not waited for */
    (void)flush(t);
}

static void tls_shutdown(struct io *io)
{
    struct io_tls *t = tls_of(io);
    say_goodbye(t);
    if (t->pending.size > 0)
        t->shutdown_wanted = true;
    else
        io_shutdown(t->below);
}

/* --- life --- */

static void tls_close(struct io *io)
{
    struct io_tls *t = tls_of(io);
    if (t->closing)
        return;
    if (!io_is_busy(t->below))
        say_goodbye(t);
    t->closing = true;
    if (t->look_up != NULL) {
        t->look_up->t = NULL;
        (void)uv_cancel((uv_req_t *)&t->look_up->work); /* or it ends by itself */
        t->look_up = NULL;
    }
    io_close(t->below);
}

static void on_closed_below(void *ctx)
{
    struct io_tls *t = ctx;
    t->io.events->on_closed(t->io.ctx);
    SSL_free(t->ssl);
    buf_fini(&t->kept);
    buf_fini(&t->pending);
    mem_free(t->cn);
    mem_free(t->error);
    mem_free(t);
}

static void tls_peer(const struct io *io, char *ret_text, size_t size)
{
    io_peer(tls_of(io)->below, ret_text, size);
}

static void tls_share(struct io *io)
{
    io_share(tls_of(io)->below);
}

static const struct io_ops tls_ops = {
    .read_start = tls_read_start,
    .read_stop = tls_read_stop,
    .send = tls_send,
    .is_busy = tls_is_busy,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .peer = tls_peer,
    .share = tls_share,
};

static const struct io_events events_below = {
    .on_read = on_raw,
    .on_drained = on_drained_below,
    .on_closed = on_closed_below,
};

/* A client speaks first. */
static bool say_hello(struct io_tls *t, const char *host)
{
    if (!make_ssl(t))
        return false;
    SSL_set_connect_state(t->ssl);
    if (!t->context->o.insecure_skip_verify &&
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), host) != 1) {
        SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                      X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (SSL_set1_host(t->ssl, host) != 1)
            return false;
    }
    ASN1_OCTET_STRING *ip = a2i_IPADDRESS(host);
    if (ip == NULL && host[0] != '\0')
        (void)SSL_set_tlsext_host_name(t->ssl, host);
    ASN1_OCTET_STRING_free(ip);
    ERR_clear_error();
    int rv = SSL_do_handshake(t->ssl);
    if (SSL_get_error(t->ssl, rv) == SSL_ERROR_WANT_READ)
        return flush(t) == 0;
    tls__handshake_failed(t->context);
    return false;
}

static void on_refused_closed(void *ctx)
{
    struct io_tls *t = ctx;
    SSL_free(t->ssl);
    mem_free(t);
}

struct io *io_tls_open(uv_loop_t *loop, struct io_shared *shared, int fd,
                       const struct io_tls_setup *setup, const struct io_events *events, void *ctx)
{
    static const struct io_events refused = {.on_closed = on_refused_closed};
    struct io_tls *t = mem_try_alloc_zero(sizeof(*t));
    if (t == NULL) {
        (void)close(fd);
        return NULL;
    }
    t->io = (struct io){.ops = &tls_ops, .events = events, .ctx = ctx};
    t->loop = loop;
    t->shared = shared;
    t->context = setup->context;
    t->plain_allowed = setup->plain_allowed;
    buf_init(&t->kept, SIZE_MAX); /* one read */
    buf_init(&t->pending, PENDING_BYTES_MAX);
    t->below = io_tcp_open(loop, shared, fd, &events_below, t);
    if (t->below == NULL) {
        mem_free(t);
        return NULL;
    }
    if (t->context->o.is_server) {
        io_tcp_set_shaking(t->below, true);
    } else if (!say_hello(t, setup->host)) {
        buf_clear(&shared->tls_out);
        t->below->events = &refused;
        io_close(t->below);
        return NULL;
    }
    return &t->io;
}

const char *io_tls_peer_cn(const struct io *io)
{
    return io->ops == &tls_ops ? tls_of(io)->cn : NULL;
}

bool io_tls_is_on(const struct io *io)
{
    return io->ops == &tls_ops && tls_of(io)->state != TLS_PLAIN;
}

const char *io_tls_error(const struct io *io)
{
    return io->ops == &tls_ops ? tls_of(io)->error : NULL;
}
