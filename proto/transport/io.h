/* The byte transport under a connection: what a TLS layer would slide in under, or a test replace.
 *
 *     open -> busy <-> open -> closing -> on_closed (the io is freed)
 *
 * Invariants:
 * 1. io_send() takes all it is given. What the socket does not take at once is kept; io_is_busy()
 * is then true until on_drained. The owner sends nothing while busy: that bounds what is kept.
 * 2. After io_close() only on_closed comes. */
#ifndef PROTO_TRANSPORT_IO_H
#define PROTO_TRANSPORT_IO_H

#include "base/bref.h"
#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

/* What the kernel holds of a connection beyond what the peer makes room for. The rest waits with
 * us, where watchers share it: the kernel would copy it, up to megabytes for each connection. */
enum { IO_UNSENT_BYTES_MAX = 128 << 10 };

struct io;

struct io_vec {
    const uint8_t *data;
    size_t size;
    struct bref *owner; /* NULL: borrowed until io_send() returns */
};

struct io_events {
    /* `data` is borrowed until return. size < 0: the stream has ended, nothing more comes. */
    void (*on_read)(void *ctx, const uint8_t *data, ssize_t size);
    void (*on_drained)(void *ctx);
    /* TLS: the handshake is over. NULL allowed. */
    void (*on_ready)(void *ctx);
    void (*on_closed)(void *ctx);
};

struct io_ops {
    int (*read_start)(struct io *io);
    void (*read_stop)(struct io *io);
    int (*send)(struct io *io, const struct io_vec *vecs, size_t vecs_count);
    bool (*is_busy)(const struct io *io);
    void (*shutdown)(struct io *io);
    void (*close)(struct io *io);
    void (*peer)(const struct io *io, char *ret_text, size_t size);
    void (*share)(struct io *io);
};

struct io {
    const struct io_ops *ops;
    const struct io_events *events;
    void *ctx;
};

static inline int io_read_start(struct io *io)
{
    return io->ops->read_start(io);
}

static inline void io_read_stop(struct io *io)
{
    io->ops->read_stop(io);
}

/* Owns: a reference of each owner is taken for what is kept; the caller keeps its own. TV_ECLOSED
 * when the peer is gone, TV_ENOMEM: the caller closes. */
static inline int io_send(struct io *io, const struct io_vec *vecs, size_t vecs_count)
{
    return io->ops->send(io, vecs, vecs_count);
}

static inline bool io_is_busy(const struct io *io)
{
    return io->ops->is_busy(io);
}

/* End the sending direction after what is kept. */
static inline void io_shutdown(struct io *io)
{
    io->ops->shutdown(io);
}

static inline void io_close(struct io *io)
{
    io->ops->close(io);
}

static inline void io_peer(const struct io *io, char *ret_text, size_t size)
{
    io->ops->peer(io, ret_text, size);
}

/* It reads a share a turn from now on, not all there is. */
static inline void io_share(struct io *io)
{
    io->ops->share(io);
}

/* --- TCP, and sockets of the file system --- */

struct io_shared {
    uint8_t *read_buf; /* of the loop: a read callback is done with it before the next */
    size_t read_buf_bytes;
    uint64_t bytes_received;
    uint64_t bytes_sent;

    /* What one that reads its share may read in this turn of the loop. */
    size_t read_share_bytes;
    uint64_t turn;
    uint32_t sharers_count; /* that have read in it */

    /* io_tls.c's; both are used within one call. */
    struct buf tls_out;  /* records on their way to the socket */
    uint8_t *tls_plain;  /* what a read was decrypted to; NULL until there is any */
    uint32_t handshakes; /* steps done in this turn */
};

/* A turn of the loop is over: the next one's share follows from how many there were in this. */
void io_new_turn(struct io_shared *shared);

/* Owns: `fd`, a connected socket, always. NULL when the loop cannot take it, or
 * there is no memory. */
struct io *io_tcp_open(uv_loop_t *loop, struct io_shared *shared, int fd,
                       const struct io_events *events, void *ctx);
/* A handshake is to come: it is read in turns that have not done many yet. */
void io_tcp_set_shaking(struct io *io, bool shaking);

/* --- TLS --- */

struct tls_context;

struct io_tls_setup {
    struct tls_context *context; /* borrowed until on_closed */
    bool plain_allowed; /* server: what does not begin with a handshake is passed through */
    const char *host;   /* client: whose certificate it must be */
};

/* As io_tcp_open(). */
struct io *io_tls_open(uv_loop_t *loop, struct io_shared *shared, int fd,
                       const struct io_tls_setup *setup, const struct io_events *events, void *ctx);
/* The CN of a client's certificate that was verified; NULL: there is none. As long as the io. */
const char *io_tls_peer_cn(const struct io *io);
/* It is encrypted, not passed through. */
bool io_tls_is_on(const struct io *io);
/* Why the handshake failed; NULL: it did not. */
const char *io_tls_error(const struct io *io);

#endif
