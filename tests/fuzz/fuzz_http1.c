/* Any text as what a client of a node says by HTTP/1.1. The first byte says how: (1) Content-Length
 * is put in as the body is long, (2) what is behind the head are messages of a WebSocket, from bit
 * 2 on in pieces of how many bytes.
 *
 * A message is an opcode with its flag of the end, a size of one byte, and so many bytes. */
#include "fuzz_node.h"

#include "base/buf.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD_END "\r\n\r\n"

/* Where the head's last line ends; the end of `in` when it does not. */
static size_t head_bytes(struct slice in)
{
    for (size_t i = 0; i + 4 <= in.size; i++)
        if (memcmp(in.data + i, HEAD_END, 4) == 0)
            return i + 2;
    return in.size;
}

static void put_with_length(struct slice in, struct buf *ret)
{
    char length[48];
    size_t head = head_bytes(in), body = in.size - head > 2 ? in.size - head - 2 : 0;
    int size = snprintf(length, sizeof(length), "Content-Length: %zu\r\n", body);
    (void)buf_append(ret, in.data, head);
    (void)buf_append(ret, length, (size_t)size);
    (void)buf_append(ret, in.data + head, in.size - head);
}

/* Masked with zeros. */
static void put_messages(struct slice in, struct buf *ret)
{
    size_t head = head_bytes(in);
    head = head + 2 < in.size ? head + 2 : in.size;
    (void)buf_append(ret, in.data, head);
    in = slice_of(in.data + head, in.size - head);
    while (in.size >= 2) {
        uint8_t op = in.data[0];
        size_t size = in.data[1] < in.size - 2 ? in.data[1] : in.size - 2;
        uint8_t frame[8] = {op, (uint8_t)(0x80 | (size < 126 ? size : 126)), 0, (uint8_t)size};
        size_t frame_bytes = size < 126 ? 6 : 8;
        if (size < 126)
            frame[3] = 0;
        (void)buf_append(ret, frame, frame_bytes);
        (void)buf_append(ret, in.data + 2, size);
        in = slice_of(in.data + 2 + size, in.size - 2 - size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t pieces[] = {0, 0, 0, 0, 1, 3, 20, 100};
    if (size == 0)
        return 0;
    struct slice in = slice_of(data + 1, size - 1);
    struct buf bytes;
    buf_init(&bytes, SIZE_MAX);
    if ((data[0] & 2) != 0)
        put_messages(in, &bytes);
    else if ((data[0] & 1) != 0)
        put_with_length(in, &bytes);
    else
        (void)buf_append(&bytes, in.data, in.size);
    fuzz_node_note(slice_of(data, size));
    struct fuzz_conn *c = fuzz_conn_open(FUZZ_CLIENTS);
    (void)fuzz_conn_send_in_pieces(c, buf_slice(&bytes), pieces[data[0] >> 2 & 7]);
    fuzz_conn_close(c);
    buf_fini(&bytes);
    return 0;
}
