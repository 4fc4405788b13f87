/* Responses, as clients read them. */
#include "wire_internal.h"

enum { PREFETCH_ITEMS = 6, ITEM_HEAD_BYTES = 3 };

int wire__header_merge(struct slice msg, struct wire_header *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type != WIRE_VARINT)
            continue;
        if (f.number == 1)
            ret->cluster_id = f.value;
        else if (f.number == 2)
            ret->member_id = f.value;
        else if (f.number == 3)
            ret->revision = (int64_t)f.value;
        else if (f.number == 4)
            ret->raft_term = f.value;
    }
    return rv;
}

int wire_header_decode(struct slice msg, struct wire_header *ret)
{
    *ret = (struct wire_header){0};
    return wire__header_merge(msg, ret);
}

/* The next field of a response that is not its header; the header is read on the way. */
static int next_after_header(struct wire_reader *r, struct wire_header *header,
                             struct wire_field *ret)
{
    int rv;
    while ((rv = wire_next_field(r, ret)) == 1) {
        if (wire__key(ret) != WIRE_KEY(1, WIRE_BYTES))
            return 1;
        if (wire__header_merge(ret->bytes, header) != 0)
            return TV_EMALFORMED;
    }
    return rv;
}

int wire_range_response_decode(struct slice msg, struct wire_range_response *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_range_response){.msg = msg};
    while ((rv = next_after_header(&r, &ret->header, &f)) == 1) {
        if (wire__key(&f) == WIRE_KEY(WIRE_RANGE_KVS, WIRE_BYTES)) {
            ret->kvs_count++;
            /* Items tend to be of one size, and only their heads are looked at. */
            __builtin_prefetch(f.bytes.data + PREFETCH_ITEMS * (f.bytes.size + ITEM_HEAD_BYTES));
        } else if (wire__key(&f) == WIRE_KEY(3, WIRE_VARINT))
            ret->more = f.value != 0;
        else if (wire__key(&f) == WIRE_KEY(4, WIRE_VARINT))
            ret->count = (int64_t)f.value;
    }
    return rv;
}

int wire_range_stream_response_decode(struct slice msg, struct slice *ret_range_response)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    bool found = false;
    int rv;
    *ret_range_response = SLICE_EMPTY;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (wire__key(&f) != WIRE_KEY(WIRE_RANGE_STREAM_RESPONSE, WIRE_BYTES))
            continue;
        if (found)
            return TV_EMALFORMED;
        found = true;
        *ret_range_response = f.bytes;
    }
    return rv;
}

int wire_put_response_decode(struct slice msg, struct wire_put_response *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_put_response){0};
    while ((rv = next_after_header(&r, &ret->header, &f)) == 1)
        if (wire__key(&f) == WIRE_KEY(2, WIRE_BYTES))
            ret->prev_kv = f.bytes;
    return rv;
}

int wire_delete_range_response_decode(struct slice msg, struct wire_delete_range_response *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_delete_range_response){.msg = msg};
    while ((rv = next_after_header(&r, &ret->header, &f)) == 1)
        if (wire__key(&f) == WIRE_KEY(2, WIRE_VARINT))
            ret->deleted = (int64_t)f.value;
    return rv;
}

int wire_txn_response_decode(struct slice msg, struct wire_txn_response *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_txn_response){.msg = msg};
    while ((rv = next_after_header(&r, &ret->header, &f)) == 1) {
        if (wire__key(&f) == WIRE_KEY(2, WIRE_VARINT))
            ret->succeeded = f.value != 0;
        else if (wire__key(&f) == WIRE_KEY(WIRE_TXN_RESPONSES, WIRE_BYTES))
            ret->responses_count++;
    }
    return rv;
}

int wire_lease_ttl_response_decode(struct slice msg, struct wire_lease_response *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_lease_response){.msg = msg};
    while ((rv = next_after_header(&r, &ret->header, &f)) == 1) {
        if (f.type != WIRE_VARINT)
            continue;
        if (f.number == 2)
            ret->id = (int64_t)f.value;
        else if (f.number == 3)
            ret->ttl = (int64_t)f.value;
        else if (f.number == 4)
            ret->granted_ttl = (int64_t)f.value;
    }
    return rv;
}

int wire_lease_response_decode(struct slice msg, struct wire_lease_response *ret)
{
    return wire_lease_ttl_response_decode(msg, ret);
}

int wire_watch_response_decode(struct slice msg, struct wire_watch_response *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct wire_watch_response){.events = msg};
    while ((rv = next_after_header(&r, &ret->header, &f)) == 1) {
        switch (wire__key(&f)) {
        case WIRE_KEY(2, WIRE_VARINT):
            ret->watch_id = (int64_t)f.value;
            break;
        case WIRE_KEY(3, WIRE_VARINT):
            ret->created = f.value != 0;
            break;
        case WIRE_KEY(4, WIRE_VARINT):
            ret->canceled = f.value != 0;
            break;
        case WIRE_KEY(5, WIRE_VARINT):
            ret->compact_revision = (int64_t)f.value;
            break;
        case WIRE_KEY(6, WIRE_BYTES):
            ret->cancel_reason = f.bytes;
            break;
        case WIRE_KEY(7, WIRE_VARINT):
            ret->fragment = f.value != 0;
            break;
        default:
            break;
        }
    }
    return rv;
}

bool wire_next_item(struct wire_reader *r, uint32_t number, struct slice *ret)
{
    struct wire_field f;
    while (wire_next_field(r, &f) == 1) {
        if (wire__key(&f) == WIRE_KEY(number, WIRE_BYTES)) {
            *ret = f.bytes;
            return true;
        }
    }
    return false;
}

int wire_next_kv(struct wire_reader *r, uint32_t number, struct wire_kv *ret)
{
    struct slice body;
    if (!wire_next_item(r, number, &body))
        return 0;
    int rv = wire_kv_decode(body, ret);
    return rv == 0 ? 1 : rv;
}

int wire_next_event(struct wire_reader *r, struct wire_event *ret)
{
    enum { WATCH_EVENTS = 11 };
    struct slice body;
    if (!wire_next_item(r, WATCH_EVENTS, &body))
        return 0;
    struct wire_reader fields = wire_reader_of(body);
    struct wire_field f;
    int rv;
    *ret = (struct wire_event){0};
    while ((rv = wire_next_field(&fields, &f)) == 1) {
        int inner = 0;
        if (wire__key(&f) == WIRE_KEY(1, WIRE_VARINT)) {
            ret->type = (int32_t)f.value;
        } else if (wire__key(&f) == WIRE_KEY(2, WIRE_BYTES)) {
            inner = wire__kv_merge(f.bytes, &ret->kv);
        } else if (wire__key(&f) == WIRE_KEY(3, WIRE_BYTES)) {
            ret->has_prev_kv = true;
            inner = wire__kv_merge(f.bytes, &ret->prev_kv);
        }
        if (inner != 0)
            return inner;
    }
    return rv == 0 ? 1 : rv;
}

int wire_response_op_decode(struct slice msg, enum wire_op_kind *ret_kind, struct slice *ret_body)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret_kind = WIRE_OP_NONE;
    *ret_body = SLICE_EMPTY;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type != WIRE_BYTES || f.number > WIRE_OP_TXN)
            continue;
        *ret_kind = (enum wire_op_kind)f.number;
        *ret_body = f.bytes;
    }
    return rv;
}
