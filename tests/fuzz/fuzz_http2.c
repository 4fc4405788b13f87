/* Any bytes as what a client of a node sends. The first byte says how they come: (1) behind a
 * preface of HTTP/2 and SETTINGS, (2) to the port of the members, and from bit 2 on in pieces of
 * how many bytes.
 *
 * Half of the mutations keep to HTTP/2's frames: one of them is changed in itself, left out, moved
 * or repeated, and its length put right. */
#include "fuzz_node.h"

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);

enum { FRAME_HEAD_BYTES = 9, FRAMES_MAX = 64 };

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t pieces[] = {0, 0, 0, 0, 1, 7, 9, 100};
    if (size == 0)
        return 0;
    fuzz_node_note(slice_of(data, size));
    struct fuzz_conn *c = fuzz_conn_open((data[0] & 2) != 0 ? FUZZ_PEERS : FUZZ_CLIENTS);
    if ((data[0] & 1) == 0 || fuzz_conn_send(c, slice_of(PREFACE, sizeof(PREFACE) - 1)))
        (void)fuzz_conn_send_in_pieces(c, slice_of(data + 1, size - 1), pieces[data[0] >> 2 & 7]);
    fuzz_conn_close(c);
    return 0;
}

/* --- mutations --- */

struct frames {
    uint32_t count;
    struct slice items[FRAMES_MAX];
};

static size_t length_of(const uint8_t *head)
{
    return (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
}

static void split(struct slice in, struct frames *ret)
{
    ret->count = 0;
    while (in.size >= FRAME_HEAD_BYTES && ret->count < FRAMES_MAX) {
        size_t size = FRAME_HEAD_BYTES + length_of(in.data);
        size = size < in.size ? size : in.size;
        ret->items[ret->count++] = slice_of(in.data, size);
        in = slice_of(in.data + size, in.size - size);
    }
}

/* The frame's payload, and now and then its head, is another. Returns its size; `room` is enough
 * for the frame itself. */
static size_t put_changed(struct slice frame, uint32_t seed, uint8_t *ret, size_t room)
{
    memcpy(ret, frame.data, frame.size);
    if (seed % 4 == 0)
        (void)LLVMFuzzerMutate(ret + 3, FRAME_HEAD_BYTES - 3, FRAME_HEAD_BYTES - 3);
    size_t size = LLVMFuzzerMutate(ret + FRAME_HEAD_BYTES, frame.size - FRAME_HEAD_BYTES,
                                   room - FRAME_HEAD_BYTES);
    ret[0] = (uint8_t)(size >> 16);
    ret[1] = (uint8_t)(size >> 8);
    ret[2] = (uint8_t)size;
    return FRAME_HEAD_BYTES + size;
}

static size_t mutate_frames(uint8_t *data, size_t size, size_t size_max, uint32_t seed)
{
    struct frames f;
    uint8_t *copy = mem_dup(data, size);
    split(slice_of(copy + 1, size - 1), &f);
    enum { CHANGE, DROP, REPEAT, SWAP, KINDS };
    uint32_t which = f.count == 0 ? 0 : seed / KINDS % f.count, kind = seed % KINDS;
    size_t at = 1;
    for (uint32_t i = 0; i < f.count; i++) {
        bool it = i == which;
        uint32_t from = kind == SWAP && it && i + 1 < f.count     ? i + 1
                        : kind == SWAP && i == which + 1 && i > 0 ? which
                                                                  : i;
        struct slice frame = f.items[from];
        for (uint32_t times = it && kind == DROP     ? 0
                              : it && kind == REPEAT ? 2
                                                     : 1;
             times > 0; times--) {
            if (size_max - at < frame.size || size_max - at < FRAME_HEAD_BYTES)
                break;
            if (it && kind == CHANGE && frame.size >= FRAME_HEAD_BYTES)
                at += put_changed(frame, seed / 256, data + at, size_max - at);
            else {
                memcpy(data + at, frame.data, frame.size);
                at += frame.size;
            }
        }
    }
    mem_free(copy);
    return at;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned int seed)
{
    if (size > 1 + FRAME_HEAD_BYTES && (data[0] & 1) != 0 && seed % 2 == 0)
        return mutate_frames(data, size, size_max, seed / 2);
    return LLVMFuzzerMutate(data, size, size_max);
}
