/* TxnRequest: checked once as a whole, then walked in place.
 *
 * A RequestOp is a oneof. Protobuf says that the last member counts, and that a member which comes
 * again right after itself is merged into what was there. For an inner txn merging means that its
 * lists are joined; a txn that came in several pieces is therefore kept as the RequestOp it is in,
 * and the walk goes from piece to piece. */
#include "wire_internal.h"

enum {
    COMPARE_RESULT = 1,
    COMPARE_TARGET = 2,
    COMPARE_KEY = 3,
    COMPARE_UNION = 4, /* version, create, mod, value, lease: 4 + enum wire_compare_target */
    COMPARE_RANGE_END = 64,
};

enum { OP_TXN = 4 };

/* --- Compare --- */

static void compare_operand(const struct wire_field *f, struct wire_compare *ret)
{
    int32_t with = (int32_t)f->number - COMPARE_UNION;
    if (f->type != (with == WIRE_COMPARE_VALUE ? WIRE_BYTES : WIRE_VARINT))
        return;
    ret->with = with;
    ret->number = f->type == WIRE_VARINT ? (int64_t)f->value : 0;
    ret->value = f->type == WIRE_BYTES ? f->bytes : SLICE_EMPTY;
}

static int compare_decode(struct slice msg, struct wire_compare *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_compare){.with = -1};
    while ((rv = wire_next_field(&r, &f)) == 1) {
        switch (wire__key(&f)) {
        case WIRE_KEY(COMPARE_RESULT, WIRE_VARINT):
            ret->result = (int32_t)f.value;
            break;
        case WIRE_KEY(COMPARE_TARGET, WIRE_VARINT):
            ret->target = (int32_t)f.value;
            break;
        case WIRE_KEY(COMPARE_KEY, WIRE_BYTES):
            ret->key = f.bytes;
            break;
        case WIRE_KEY(COMPARE_RANGE_END, WIRE_BYTES):
            ret->range_end = f.bytes;
            break;
        default:
            if (f.number >= COMPARE_UNION && f.number <= COMPARE_UNION + WIRE_COMPARE_LEASE)
                compare_operand(&f, ret);
            break;
        }
    }
    return rv;
}

/* The operand is on the wire even when it is 0: a member of a oneof knows whether it was set. */
static size_t operand_size(const struct wire_compare *c)
{
    if (c->with < 0)
        return 0;
    if (c->with == WIRE_COMPARE_VALUE)
        return wire_item_size(COMPARE_UNION + WIRE_COMPARE_VALUE, c->value.size);
    return wire_tag_size(COMPARE_UNION) + wire_varint_size((uint64_t)c->number);
}

static uint8_t *operand_put(uint8_t *dst, const struct wire_compare *c)
{
    if (c->with < 0)
        return dst;
    if (c->with == WIRE_COMPARE_VALUE)
        return wire_item_put(dst, COMPARE_UNION + WIRE_COMPARE_VALUE, c->value);
    dst = wire_tag_put(dst, COMPARE_UNION + (uint32_t)c->with, WIRE_VARINT);
    return wire_varint_put(dst, (uint64_t)c->number);
}

size_t wire_compare_size(const struct wire_compare *c)
{
    return wire_uint_size(COMPARE_RESULT, (uint64_t)c->result) +
           wire_uint_size(COMPARE_TARGET, (uint64_t)c->target) +
           wire_bytes_size(COMPARE_KEY, c->key) + operand_size(c) +
           wire_bytes_size(COMPARE_RANGE_END, c->range_end);
}

uint8_t *wire_compare_put(uint8_t *dst, const struct wire_compare *c)
{
    ASSERT(c->with <= WIRE_COMPARE_LEASE);
    dst = wire_uint_put(dst, COMPARE_RESULT, (uint64_t)c->result);
    dst = wire_uint_put(dst, COMPARE_TARGET, (uint64_t)c->target);
    dst = wire_bytes_put(dst, COMPARE_KEY, c->key);
    dst = operand_put(dst, c);
    return wire_bytes_put(dst, COMPARE_RANGE_END, c->range_end);
}

/* --- checking --- */

static int txn_check(struct slice msg, uint32_t depth);

static int op_check(struct slice msg, uint32_t depth)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        struct wire_op ignored = {0};
        int inner = 0;
        if (f.type != WIRE_BYTES)
            continue;
        if (f.number == wire_op_field(WIRE_OP_RANGE))
            inner = wire__range_request_merge(f.bytes, &ignored.range);
        else if (f.number == wire_op_field(WIRE_OP_PUT))
            inner = wire__put_request_merge(f.bytes, &ignored.put);
        else if (f.number == wire_op_field(WIRE_OP_DELETE_RANGE))
            inner = wire__delete_range_request_merge(f.bytes, &ignored.delete_range);
        else if (f.number == OP_TXN)
            inner = txn_check(f.bytes, depth + 1);
        if (inner != 0)
            return inner;
    }
    return rv;
}

static int txn_check(struct slice msg, uint32_t depth)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    if (depth > WIRE_TXN_DEPTH_MAX)
        return TV_EMALFORMED;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        struct wire_compare ignored;
        int inner = 0;
        if (f.type != WIRE_BYTES)
            continue;
        if (f.number == WIRE_TXN_COMPARE)
            inner = compare_decode(f.bytes, &ignored);
        else if (f.number == WIRE_TXN_SUCCESS || f.number == WIRE_TXN_FAILURE)
            inner = op_check(f.bytes, depth);
        if (inner != 0)
            return inner;
    }
    return rv;
}

/* --- walking what was checked --- */

/* The next field of `reader`, which is known to be well-formed. */
static bool next_checked(struct wire_reader *r, struct wire_field *ret)
{
    int rv = wire_next_field(r, ret);
    ASSERT(rv >= 0);
    return rv == 1;
}

static struct wire_txn_it txn_walk(const struct wire_txn *txn, uint32_t number)
{
    struct wire_reader none = {0};
    struct wire_reader body = wire_reader_of(txn->body);
    return (struct wire_txn_it){
        .pieces = txn->in_op ? body : none,
        .fields = txn->in_op ? none : body,
        .number = number,
    };
}

/* The next submessage of any of the three lists, whatever it.number. */
static bool next_part(struct wire_txn_it *it, struct wire_field *ret)
{
    for (;;) {
        while (next_checked(&it->fields, ret))
            if (ret->type == WIRE_BYTES)
                return true;
        struct wire_field piece;
        do {
            if (!next_checked(&it->pieces, &piece))
                return false;
        } while (wire__key(&piece) != WIRE_KEY(OP_TXN, WIRE_BYTES));
        it->fields = wire_reader_of(piece.bytes);
    }
}

static bool next_numbered(struct wire_txn_it *it, struct slice *ret)
{
    struct wire_field f;
    while (next_part(it, &f)) {
        if (f.number == it->number) {
            *ret = f.bytes;
            return true;
        }
    }
    return false;
}

static void txn_count(struct wire_txn *txn)
{
    struct wire_txn_it it = txn_walk(txn, 0);
    struct wire_field f;
    while (next_part(&it, &f)) {
        txn->compares_count += f.number == WIRE_TXN_COMPARE;
        txn->success_count += f.number == WIRE_TXN_SUCCESS;
        txn->failure_count += f.number == WIRE_TXN_FAILURE;
    }
}

int wire_txn_decode(struct slice msg, struct wire_txn *ret)
{
    int rv = txn_check(msg, 1);
    if (rv != 0)
        return rv;
    *ret = (struct wire_txn){.body = msg};
    txn_count(ret);
    return 0;
}

void wire_txn_compares(const struct wire_txn *txn, struct wire_txn_it *ret)
{
    *ret = txn_walk(txn, WIRE_TXN_COMPARE);
}

void wire_txn_ops(const struct wire_txn *txn, bool success, struct wire_txn_it *ret)
{
    *ret = txn_walk(txn, success ? WIRE_TXN_SUCCESS : WIRE_TXN_FAILURE);
}

bool wire_next_compare(struct wire_txn_it *it, struct wire_compare *ret)
{
    struct slice body;
    ASSERT(it->number == WIRE_TXN_COMPARE);
    if (!next_numbered(it, &body))
        return false;
    int rv = compare_decode(body, ret);
    ASSERT(rv == 0);
    return true;
}

/* --- RequestOp --- */

uint32_t wire_op_field(enum wire_op_kind kind)
{
    ASSERT(kind > WIRE_OP_NONE && kind <= WIRE_OP_TXN);
    return (uint32_t)kind; /* the enum is numbered like the oneof */
}

/* One member of the oneof, checked before: on top of the last one when that was of the same kind.
 */
static void op_merge(enum wire_op_kind kind, struct slice member, struct wire_op *ret)
{
    int rv = 0;
    if (ret->kind != kind)
        *ret = (struct wire_op){.kind = kind};
    if (kind == WIRE_OP_RANGE)
        rv = wire__range_request_merge(member, &ret->range);
    else if (kind == WIRE_OP_PUT)
        rv = wire__put_request_merge(member, &ret->put);
    else if (kind == WIRE_OP_DELETE_RANGE)
        rv = wire__delete_range_request_merge(member, &ret->delete_range);
    ASSERT(rv == 0);
}

static void op_decode(struct slice msg, struct wire_op *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    const uint8_t *first_piece = msg.data; /* of the txn, when `msg` ends up as one */
    struct slice only_piece = SLICE_EMPTY;
    uint32_t pieces_count = 0;
    *ret = (struct wire_op){0};
    for (;;) {
        const uint8_t *at = r.at;
        if (!next_checked(&r, &f))
            break;
        if (f.type != WIRE_BYTES || f.number > WIRE_OP_TXN)
            continue;
        if (f.number == OP_TXN) {
            if (ret->kind != WIRE_OP_TXN) {
                first_piece = at;
                pieces_count = 0;
            }
            pieces_count++;
            only_piece = f.bytes;
        }
        op_merge((enum wire_op_kind)f.number, f.bytes, ret);
    }
    if (ret->kind != WIRE_OP_TXN)
        return;
    ret->txn.in_op = pieces_count > 1;
    ret->txn.body =
        ret->txn.in_op ? slice_of(first_piece, (size_t)(r.end - first_piece)) : only_piece;
    txn_count(&ret->txn);
}

bool wire_next_op(struct wire_txn_it *it, struct wire_op *ret)
{
    struct slice body;
    ASSERT(it->number == WIRE_TXN_SUCCESS || it->number == WIRE_TXN_FAILURE);
    if (!next_numbered(it, &body))
        return false;
    op_decode(body, ret);
    return true;
}

static size_t op_body_size(const struct wire_op *op)
{
    switch (op->kind) {
    case WIRE_OP_RANGE:
        return wire_range_request_size(&op->range);
    case WIRE_OP_PUT:
        return wire_put_request_size(&op->put);
    case WIRE_OP_DELETE_RANGE:
        return wire_delete_range_request_size(&op->delete_range);
    default:
        ASSERT(op->kind == WIRE_OP_NONE);
        return 0;
    }
}

size_t wire_op_size(const struct wire_op *op)
{
    return op->kind == WIRE_OP_NONE ? 0 : wire_item_size(wire_op_field(op->kind), op_body_size(op));
}

uint8_t *wire_op_put(uint8_t *dst, const struct wire_op *op)
{
    if (op->kind == WIRE_OP_NONE)
        return dst;
    dst = wire_item_put_head(dst, wire_op_field(op->kind), op_body_size(op));
    if (op->kind == WIRE_OP_RANGE)
        return wire_range_request_put(dst, &op->range);
    if (op->kind == WIRE_OP_PUT)
        return wire_put_request_put(dst, &op->put);
    return wire_delete_range_request_put(dst, &op->delete_range);
}
