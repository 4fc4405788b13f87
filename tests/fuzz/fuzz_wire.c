/* Any bytes into every decoder of proto/wire.h and proto/peerwire.h: nothing is read beyond them,
 * and what a decoder took, written again, is taken again and comes out the same. The first byte
 * picks the decoder. */
#include "wire_again.h"

#include "proto/peerwire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct wire_again *w, struct slice msg)
{
    struct buf once;
    struct buf twice;
    buf_init(&once, SIZE_MAX);
    buf_init(&twice, SIZE_MAX);
    if (w->again(msg, &once) == 0) {
        int rv = w->again(buf_slice(&once), &twice);
        ASSERT(rv == 0);
        ASSERT(slice_equal(buf_slice(&once), buf_slice(&twice)));
    }
    buf_fini(&twice);
    buf_fini(&once);
}

static void check_others(struct slice msg)
{
    struct wire_raft_request request;
    struct wire_txn_response txn;
    enum wire_op_kind kind;
    struct slice body;
    struct peerwire_hello hello;
    struct peerwire_raft raft;
    struct peerwire_question lease;
    struct peerwire_entry entry;
    if (wire_raft_request_decode(msg, &request) == 0 && request.body.size > 0)
        ASSERT(request.body.data >= msg.data &&
               request.body.data + request.body.size <= msg.data + msg.size);
    (void)wire_txn_response_decode(msg, &txn);
    (void)wire_response_op_decode(msg, &kind, &body);
    (void)peerwire_hello_decode(msg, &hello);
    (void)peerwire_question_decode(msg, &lease);
    if (peerwire_raft_decode(msg, &raft) == 0)
        while (peerwire_next_entry(&raft.entries, &entry))
            ASSERT(entry.data.data + entry.data.size <= msg.data + msg.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice msg = slice_of(data + 1, size - 1);
    if (data[0] < WIRE_AGAIN_COUNT)
        check_again(&wire_again[data[0]], msg);
    else
        check_others(msg);
    return 0;
}
