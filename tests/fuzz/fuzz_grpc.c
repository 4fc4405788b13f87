/* Any messages to any of a node's methods, several calls at once on a connection. An input is
 * steps:
 *
 *   method u8, flags u8, size u16, bytes
 *
 * Each sends the bytes as one message, on a new stream of this method or (NEXT) on the one before.
 */
#include "fuzz_node.h"

#include "server/services.h"

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    STEP_NEXT = 1,
    STEP_OPEN_END = 2, /* the client's side stays open */
    STEP_RESET = 4,    /* and then the stream is reset */
    STEP_GATHER = 8,   /* with the next step in one write */
    STEP_LEADER = 16,  /* metadata: hasleader */
    STEP_HEAD_BYTES = 4,
    STEPS_MAX = 32,
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_RST = 3,
    END_STREAM = 1,
    END_HEADERS = 4,
};

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"

static void put_frame(struct buf *out, uint8_t type, uint8_t flags, uint32_t stream,
                      struct slice payload)
{
    uint8_t head[9] = {(uint8_t)(payload.size >> 16),
                       (uint8_t)(payload.size >> 8),
                       (uint8_t)payload.size,
                       type,
                       flags,
                       0,
                       0,
                       (uint8_t)(stream >> 8),
                       (uint8_t)stream};
    (void)buf_append(out, head, sizeof(head));
    (void)buf_append(out, payload.data, payload.size);
}

static void put_field(struct buf *out, const char *name, const char *value)
{
    const char *const both[] = {name, value};
    (void)buf_append(out, "", 1);
    for (int i = 0; i < 2; i++) {
        uint8_t size = (uint8_t)strlen(both[i]);
        (void)buf_append(out, &size, 1);
        (void)buf_append(out, both[i], size);
    }
}

static void put_headers(struct buf *out, uint32_t stream, const char *path, bool leader)
{
    struct buf block;
    buf_init(&block, SIZE_MAX);
    put_field(&block, ":method", "POST");
    put_field(&block, ":scheme", "http");
    put_field(&block, ":path", path);
    put_field(&block, ":authority", "f");
    put_field(&block, "content-type", "application/grpc");
    put_field(&block, "te", "trailers");
    if (leader)
        put_field(&block, "hasleader", "true");
    put_frame(out, FRAME_HEADERS, END_HEADERS, stream, buf_slice(&block));
    buf_fini(&block);
}

static void put_step(struct buf *out, uint32_t *stream, const uint8_t *step, struct slice bytes)
{
    const struct grpc_method *m = services_method(step[0] % services_count());
    uint8_t flags = step[1];
    struct buf message;
    buf_init(&message, SIZE_MAX);
    if (*stream == 0 || (flags & STEP_NEXT) == 0) {
        *stream += *stream == 0 ? 1 : 2;
        put_headers(out, *stream, m->path, (flags & STEP_LEADER) != 0);
    }
    uint8_t prefix[5] = {0, 0, 0, (uint8_t)(bytes.size >> 8), (uint8_t)bytes.size};
    (void)buf_append(&message, prefix, sizeof(prefix));
    (void)buf_append(&message, bytes.data, bytes.size);
    for (size_t at = 0; at < message.size; at += 16384) {
        size_t size = message.size - at < 16384 ? message.size - at : 16384;
        bool last = at + size == message.size && (flags & STEP_OPEN_END) == 0;
        put_frame(out, FRAME_DATA, last ? END_STREAM : 0, *stream,
                  slice_of(message.data + at, size));
    }
    if ((flags & STEP_RESET) != 0)
        put_frame(out, FRAME_RST, 0, *stream, SLICE_LITERAL("\0\0\0\x08"));
    buf_fini(&message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf out;
    uint32_t stream = 0;
    bool open = true;
    fuzz_node_note(slice_of(data, size));
    struct fuzz_conn *c = fuzz_conn_open(FUZZ_CLIENTS);
    buf_init(&out, SIZE_MAX);
    (void)buf_append(&out, PREFACE, sizeof(PREFACE) - 1);
    for (uint32_t i = 0; open && size >= STEP_HEAD_BYTES && i < STEPS_MAX; i++) {
        size_t bytes = (size_t)data[2] | (size_t)data[3] << 8;
        bytes = bytes < size - STEP_HEAD_BYTES ? bytes : size - STEP_HEAD_BYTES;
        put_step(&out, &stream, data, slice_of(data + STEP_HEAD_BYTES, bytes));
        if ((data[1] & STEP_GATHER) == 0) {
            open = fuzz_conn_send(c, buf_slice(&out));
            buf_clear(&out);
        }
        data += STEP_HEAD_BYTES + bytes;
        size -= STEP_HEAD_BYTES + bytes;
    }
    if (open)
        (void)fuzz_conn_send(c, buf_slice(&out));
    fuzz_conn_close(c);
    buf_fini(&out);
    return 0;
}
