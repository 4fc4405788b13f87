/* A client made of bytes, against the server of grpc_rig.h. */
#ifndef TESTS_UNIT_RAW_CONN_H
#define TESTS_UNIT_RAW_CONN_H

#include "grpc_rig.h"
#include "unit.h"

#include "base/buf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <unistd.h>
enum {
    FRAME_DATA,
    FRAME_HEADERS,
    FRAME_RST = 3,
    FRAME_SETTINGS,
    FRAME_PING = 6,
    FRAME_GOAWAY,
    FRAME_WINDOW_UPDATE
};
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

struct raw {
    int fd;
    struct buf in; /* not looked at yet */
    bool ended;
    nghttp2_hd_inflater *inflater;
    struct buf fields; /* of the last header block: "name=value;" */
};

static inline void raw_open(struct raw *r)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons(rig.port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memset(r, 0, sizeof(*r));
    r->fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(r->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(fcntl(r->fd, F_SETFL, O_NONBLOCK), 0);
    buf_init(&r->in, SIZE_MAX);
    buf_init(&r->fields, SIZE_MAX);
    ck_assert_int_eq(nghttp2_hd_inflate_new(&r->inflater), 0);
}

static inline void raw_close(struct raw *r)
{
    (void)close(r->fd);
    buf_fini(&r->in);
    buf_fini(&r->fields);
    nghttp2_hd_inflate_del(r->inflater);
}

/* False when the server has closed. */
static inline bool raw_write(struct raw *r, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size > 0) {
        ssize_t n = send(r->fd, p, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        }
        (void)uv_run(&rig.loop, UV_RUN_NOWAIT);
    }
    return true;
}

static inline void raw_poll(struct raw *r)
{
    uint8_t bytes[16384];
    ssize_t n = recv(r->fd, bytes, sizeof(bytes), 0);
    if (n > 0)
        (void)buf_append(&r->in, bytes, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        r->ended = true;
}

#define RAW_UNTIL(r, cond) RIG_UNTIL((raw_poll(r), (cond)))

static inline size_t put_frame(uint8_t *p, uint8_t type, uint8_t flags, uint32_t stream_id,
                               const void *payload, size_t size)
{
    p[0] = (uint8_t)(size >> 16);
    p[1] = (uint8_t)(size >> 8);
    p[2] = (uint8_t)size;
    p[3] = type;
    p[4] = flags;
    p[5] = (uint8_t)(stream_id >> 24);
    p[6] = (uint8_t)(stream_id >> 16);
    p[7] = (uint8_t)(stream_id >> 8);
    p[8] = (uint8_t)stream_id;
    if (size > 0)
        memcpy(p + 9, payload, size);
    return 9 + size;
}

static inline bool raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t stream_id,
                             const void *payload, size_t size)
{
    uint8_t *p = mem_alloc(9 + size);
    size_t total = put_frame(p, type, flags, stream_id, payload, size);
    bool ok = raw_write(r, p, total);
    mem_free(p);
    return ok;
}

static inline void raw_hello(struct raw *r)
{
    ck_assert(raw_write(r, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN));
    ck_assert(raw_frame(r, FRAME_SETTINGS, 0, 0, NULL, 0));
}

/* Literal fields without indexing, no Huffman: "name", "value", ..., NULL. */
static inline size_t put_fields(uint8_t *p, const char *const *fields)
{
    uint8_t *start = p;
    for (; *fields != NULL; fields += 2) {
        *p++ = 0;
        for (int i = 0; i < 2; i++) {
            size_t size = strlen(fields[i]);
            ck_assert_uint_lt(size, 127);
            *p++ = (uint8_t)size;
            memcpy(p, fields[i], size);
            p += size;
        }
    }
    return (size_t)(p - start);
}

static inline void raw_headers(struct raw *r, uint32_t stream_id, uint8_t flags,
                               const char *const *fields)
{
    uint8_t block[2048];
    size_t size = put_fields(block, fields);
    (void)raw_frame(r, FRAME_HEADERS, flags | END_HEADERS, stream_id, block, size);
}

struct frame {
    uint8_t type;
    uint8_t flags;
    uint32_t stream_id;
    uint32_t size;
    uint8_t payload[16384];
};

static inline void inflate(struct raw *r, const uint8_t *in, size_t size)
{
    buf_clear(&r->fields);
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(r->inflater, &nv, &flags, in, size, 1);
        ck_assert_int_ge(n, 0);
        in += n;
        size -= (size_t)n;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
            (void)buf_append(&r->fields, nv.name, nv.namelen);
            (void)buf_append(&r->fields, "=", 1);
            (void)buf_append(&r->fields, nv.value, nv.valuelen);
            (void)buf_append(&r->fields, ";", 1);
        }
        if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0)
            break;
    }
    (void)nghttp2_hd_inflate_end_headers(r->inflater);
    (void)buf_append(&r->fields, "", 1);
}

static inline bool take_frame(struct raw *r, struct frame *f)
{
    if (r->in.size < 9)
        return false;
    const uint8_t *p = r->in.data;
    f->size = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
    if (r->in.size < 9 + f->size)
        return false;
    f->type = p[3];
    f->flags = p[4];
    f->stream_id = (uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8];
    ck_assert_uint_le(f->size, sizeof(f->payload));
    memcpy(f->payload, p + 9, f->size);
    buf_consume(&r->in, 9 + f->size);
    if (f->type == FRAME_HEADERS)
        inflate(r, f->payload, f->size);
    return true;
}

static inline bool take_frame_of(struct raw *r, uint8_t type, struct frame *f)
{
    while (take_frame(r, f))
        if (f->type == type)
            return true;
    return false;
}

/* The next frame of this type; all others are passed over. */
static inline void await_frame(struct raw *r, uint8_t type, struct frame *f)
{
    RAW_UNTIL(r, take_frame_of(r, type, f));
}

static const char *fields_of(struct raw *r)
{
    return (const char *)r->fields.data;
}

static inline void expect_field(struct raw *r, const char *field)
{
    ck_assert_msg(strstr(fields_of(r), field) != NULL, "no %s in %s", field, fields_of(r));
}

#define FIELDS_OF(method)                                                                         \
    ":method", "POST", ":scheme", "http", ":path", "/rig.Rig/" method, ":authority", "rig", "te", \
        "trailers", "content-type", "application/grpc"
#define GOOD_FIELDS FIELDS_OF("Echo")

__attribute__((unused)) static const char *const good[] = {GOOD_FIELDS, NULL};

/* The server still answers others. */
static inline void check_alive(void)
{
    struct raw r;
    struct frame f;
    static const uint8_t msg[] = {0, 0, 0, 0, 2, 'o', 'k'};
    raw_open(&r);
    raw_hello(&r);
    raw_headers(&r, 1, 0, good);
    (void)raw_frame(&r, FRAME_DATA, END_STREAM, 1, msg, sizeof(msg));
    await_frame(&r, FRAME_HEADERS, &f);
    expect_field(&r, ":status=200;");
    await_frame(&r, FRAME_DATA, &f);
    ck_assert_uint_eq(f.size, sizeof(msg));
    ck_assert_mem_eq(f.payload, msg, sizeof(msg));
    await_frame(&r, FRAME_HEADERS, &f);
    expect_field(&r, "grpc-status=0;");
    ck_assert_uint_eq(f.flags & END_STREAM, END_STREAM);
    raw_close(&r);
}

#endif
