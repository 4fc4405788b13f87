#include "server/quota.h"

enum { KEY_OVERHEAD_BYTES = 256 };

uint64_t quota_put_bytes(const struct wire_put_request *req)
{
    return KEY_OVERHEAD_BYTES + req->key.size + req->value.size;
}

static uint64_t branch_bytes(const struct wire_txn *txn, bool success)
{
    uint64_t bytes = 0;
    struct wire_txn_it it;
    struct wire_op op;
    wire_txn_ops(txn, success, &it);
    while (wire_next_op(&it, &op)) {
        if (op.kind == WIRE_OP_PUT)
            bytes += quota_put_bytes(&op.put);
        else if (op.kind == WIRE_OP_TXN)
            bytes += quota_txn_bytes(&op.txn);
    }
    return bytes;
}

uint64_t quota_txn_bytes(const struct wire_txn *txn)
{
    uint64_t success = branch_bytes(txn, true), failure = branch_bytes(txn, false);
    return success > failure ? success : failure;
}
