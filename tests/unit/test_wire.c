/* The hot-path codecs against protobuf-c, whose code shares nothing with them, and against tables
 * of what is and is not a message. Random parts take their seed from TEST_SEED. */
#include "unit.h"

#include "wire_again.h"

#include "base/arena.h"
#include "base/rng.h"
#include "etcdserverpb.pb-c.h"
#include "membershippb.pb-c.h"
#include "mvccpb.pb-c.h"
#include "raft_internal.pb-c.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t seed(void)
{
    const char *text = getenv("TEST_SEED");
    return text == NULL ? 20240607 : strtoull(text, NULL, 10);
}

/* --- random messages, from protobuf-c's descriptors --- */

static const ProtobufCMessageDescriptor *const descriptors[WIRE_AGAIN_COUNT] = {
    &etcdserverpb__range_request__descriptor,
    &etcdserverpb__put_request__descriptor,
    &etcdserverpb__delete_range_request__descriptor,
    &etcdserverpb__compaction_request__descriptor,
    &etcdserverpb__txn_request__descriptor,
    &etcdserverpb__lease_grant_request__descriptor,
    &etcdserverpb__lease_revoke_request__descriptor,
    &etcdserverpb__lease_keep_alive_request__descriptor,
    &etcdserverpb__lease_time_to_live_request__descriptor,
    &etcdserverpb__watch_request__descriptor,
    &membershippb__cluster_member_attr_set_request__descriptor,
    &mvccpb__key_value__descriptor,
    &etcdserverpb__range_response__descriptor,
    &etcdserverpb__range_stream_response__descriptor,
    &etcdserverpb__put_response__descriptor,
    &etcdserverpb__delete_range_response__descriptor,
    &etcdserverpb__lease_keep_alive_response__descriptor,
    &etcdserverpb__lease_time_to_live_response__descriptor,
    &etcdserverpb__watch_response__descriptor,
    &etcdserverpb__lease_checkpoint__descriptor,
};

static void put_varint(struct buf *b, uint64_t value)
{
    uint8_t bytes[WIRE_VARINT_SIZE_MAX];
    ck_assert_int_eq(buf_append(b, bytes, (size_t)(wire_varint_put(bytes, value) - bytes)), 0);
}

static uint64_t random_number(struct rng *r)
{
    switch (rng_below(r, 4)) {
    case 0:
        return rng_below(r, 3);
    case 1:
        return rng_below(r, 1000);
    case 2:
        return rng_next(r) >> rng_below(r, 64);
    default:
        return (uint64_t)-(int64_t)rng_below(r, 100);
    }
}

static void put_random_bytes(struct buf *b, struct rng *r, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)rng_next(r);
        ck_assert_int_eq(buf_append(b, &byte, 1), 0);
    }
}

static void put_message(struct buf *b, struct rng *r, const ProtobufCMessageDescriptor *d,
                        unsigned depth);

static void put_submessage(struct buf *b, struct rng *r, const ProtobufCMessageDescriptor *d,
                           unsigned depth)
{
    struct buf inner;
    buf_init(&inner, SIZE_MAX);
    put_message(&inner, r, d, depth + 1);
    put_varint(b, inner.size);
    ck_assert_int_eq(buf_append(b, inner.data, inner.size), 0);
    buf_fini(&inner);
}

static void put_field(struct buf *b, struct rng *r, const ProtobufCFieldDescriptor *f,
                      unsigned depth)
{
    size_t size = rng_below(r, 40) == 0 ? rng_below(r, 400) : rng_below(r, 12);
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
        put_varint(b, (uint64_t)f->id << 3 | WIRE_BYTES);
        put_varint(b, size);
        if (f->type == PROTOBUF_C_TYPE_BYTES)
            put_random_bytes(b, r, size);
        else
            for (size_t i = 0; i < size; i++)
                ck_assert_int_eq(buf_append(b, &"abcdefgh"[rng_below(r, 8)], 1), 0);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        put_varint(b, (uint64_t)f->id << 3 | WIRE_BYTES);
        put_submessage(b, r, f->descriptor, depth);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        put_varint(b, (uint64_t)f->id << 3 | WIRE_VARINT);
        put_varint(b, f->label == PROTOBUF_C_LABEL_REPEATED ? rng_below(r, 2) : random_number(r));
        break;
    default:
        put_varint(b, (uint64_t)f->id << 3 | WIRE_VARINT);
        put_varint(b, f->type == PROTOBUF_C_TYPE_BOOL ? rng_below(r, 2) : random_number(r));
        break;
    }
}

static void put_unknown(struct buf *b, struct rng *r)
{
    uint64_t tag = (200 + rng_below(r, 100000)) << 3;
    switch (rng_below(r, 4)) {
    case 0:
        put_varint(b, tag | WIRE_VARINT);
        put_varint(b, rng_next(r));
        break;
    case 1:
        put_varint(b, tag | WIRE_FIXED32);
        put_random_bytes(b, r, 4);
        break;
    case 2:
        put_varint(b, tag | WIRE_FIXED64);
        put_random_bytes(b, r, 8);
        break;
    default:
        put_varint(b, tag | WIRE_BYTES);
        put_varint(b, 5);
        put_random_bytes(b, r, 5);
        break;
    }
}

/* Fields in a random order, scalars also twice; a submessage that is not repeated once at most,
 * since merging is looked at in a table below. */
static void put_message(struct buf *b, struct rng *r, const ProtobufCMessageDescriptor *d,
                        unsigned depth)
{
    bool done[32] = {false};
    ck_assert_uint_le(d->n_fields, 32);
    for (uint64_t i = d->n_fields == 0 ? 0 : rng_below(r, d->n_fields * 2 + 1); i > 0; i--) {
        size_t pick = rng_below(r, d->n_fields);
        const ProtobufCFieldDescriptor *f = &d->fields[pick];
        bool is_message = f->type == PROTOBUF_C_TYPE_MESSAGE;
        bool in_oneof = (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
        bool once = (is_message && f->label != PROTOBUF_C_LABEL_REPEATED) || in_oneof;
        if (once && done[in_oneof ? 0 : pick])
            continue;
        if (is_message && depth > 6)
            continue;
        done[in_oneof ? 0 : pick] = true;
        put_field(b, r, f, depth);
        if (rng_below(r, 8) == 0)
            put_unknown(b, r);
    }
}

/* --- the canonical form, by protobuf-c --- */

static void *arena_alloc_cb(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void arena_free_cb(void *arena, void *p)
{
    (void)arena;
    (void)p;
}

static void canonical_each(ProtobufCMessage *m);

static void canonical_header(const ProtobufCFieldDescriptor *f, ProtobufCMessage **member)
{
    /* An empty header is left out by the encoders of the test, a WatchResponse's never. */
    bool is_header = strcmp(f->name, "header") == 0;
    if (is_header && *member != NULL && protobuf_c_message_get_packed_size(*member) == 0)
        *member = NULL;
}

static void canonical_member(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    uint8_t *at = (uint8_t *)m + f->offset;
    if (f->type != PROTOBUF_C_TYPE_MESSAGE)
        return;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count = *(size_t *)((uint8_t *)m + f->quantifier_offset);
        for (size_t i = 0; i < count; i++)
            canonical_each((*(ProtobufCMessage ***)at)[i]);
        return;
    }
    bool in_oneof = (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    if (in_oneof && *(uint32_t *)((uint8_t *)m + f->quantifier_offset) != f->id)
        return;
    if (*(ProtobufCMessage **)at != NULL) {
        canonical_each(*(ProtobufCMessage **)at);
        canonical_header(f, (ProtobufCMessage **)at);
    }
}

static Etcdserverpb__ResponseHeader empty_header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
static Membershippb__Attributes empty_attributes = MEMBERSHIPPB__ATTRIBUTES__INIT;
static Mvccpb__KeyValue empty_kv = MVCCPB__KEY_VALUE__INIT;

/* What the encoders always or never write, whatever the message said. */
static void canonical_special(ProtobufCMessage *m)
{
    if (m->descriptor == &etcdserverpb__watch_create_request__descriptor) {
        Etcdserverpb__WatchCreateRequest *c = (void *)m;
        bool has[2] = {false};
        for (size_t i = 0; i < c->n_filters; i++)
            has[c->filters[i]] = true;
        c->n_filters = 0;
        for (int i = 0; i < 2; i++)
            if (has[i])
                c->filters[c->n_filters++] = i;
    } else if (m->descriptor == &membershippb__cluster_member_attr_set_request__descriptor) {
        Membershippb__ClusterMemberAttrSetRequest *a = (void *)m;
        if (a->member_attributes == NULL)
            a->member_attributes = &empty_attributes;
    } else if (m->descriptor == &etcdserverpb__watch_response__descriptor) {
        Etcdserverpb__WatchResponse *w = (void *)m;
        if (w->header == NULL)
            w->header = &empty_header;
    } else if (m->descriptor == &mvccpb__event__descriptor) {
        Mvccpb__Event *e = (void *)m;
        if (e->kv == NULL)
            e->kv = &empty_kv;
        if (e->prev_kv != NULL && protobuf_c_message_get_packed_size(&e->prev_kv->base) == 0)
            e->prev_kv = NULL;
    } else if (m->descriptor == &etcdserverpb__put_response__descriptor) {
        Etcdserverpb__PutResponse *p = (void *)m;
        if (p->prev_kv != NULL && protobuf_c_message_get_packed_size(&p->prev_kv->base) == 0)
            p->prev_kv = NULL;
    }
}

static void canonical_each(ProtobufCMessage *m)
{
    m->n_unknown_fields = 0;
    for (unsigned i = 0; i < m->descriptor->n_fields; i++)
        canonical_member(m, &m->descriptor->fields[i]);
    canonical_special(m);
}

static struct slice canonical(const ProtobufCMessageDescriptor *d, struct slice msg,
                              struct arena *arena)
{
    ProtobufCAllocator allocator = {arena_alloc_cb, arena_free_cb, arena};
    ProtobufCMessage *m = protobuf_c_message_unpack(d, &allocator, msg.size, msg.data);
    ck_assert_msg(m != NULL, "protobuf-c does not take %s", d->name);
    canonical_each(m);
    uint8_t *bytes = arena_alloc(arena, protobuf_c_message_get_packed_size(m) + 1);
    return slice_of(bytes, protobuf_c_message_pack(m, bytes));
}

START_TEST(test_same_as_protobuf_c)
{
    struct rng r;
    struct arena arena;
    struct buf msg;
    struct buf mine;
    arena_init(&arena);
    buf_init(&msg, SIZE_MAX);
    buf_init(&mine, SIZE_MAX);
    rng_init(&r, seed());
    for (int round = 0; round < 60000; round++) {
        size_t pick = rng_below(&r, WIRE_AGAIN_COUNT);
        buf_clear(&msg);
        buf_clear(&mine);
        put_message(&msg, &r, descriptors[pick], 0);
        int rv = wire_again[pick].again(buf_slice(&msg), &mine);
        if (rv == TV_ETOOLARGE)
            continue;
        ck_assert_msg(rv == 0, "%s: %d", wire_again[pick].message, rv);
        struct slice theirs = canonical(descriptors[pick], buf_slice(&msg), &arena);
        ck_assert_msg(slice_equal(buf_slice(&mine), theirs), "%s, round %d",
                      wire_again[pick].message, round);
        arena_clear(&arena);
    }
    buf_fini(&mine);
    buf_fini(&msg);
    arena_fini(&arena);
}
END_TEST

START_TEST(test_names_match)
{
    for (size_t i = 0; i < WIRE_AGAIN_COUNT; i++)
        ck_assert_str_eq(wire_again[i].message, descriptors[i]->name);
}
END_TEST

/* Damaged messages: nothing crashes, and what is taken is taken again. Each lies at the end of its
 * own allocation, where a sanitizer sees a byte too many. */
START_TEST(test_damaged)
{
    struct rng r;
    struct buf msg;
    struct buf once;
    struct buf twice;
    uint32_t refused = 0;
    buf_init(&msg, SIZE_MAX);
    buf_init(&once, SIZE_MAX);
    buf_init(&twice, SIZE_MAX);
    rng_init(&r, seed() + 1);
    for (int round = 0; round < 60000; round++) {
        const struct wire_again *w = &wire_again[rng_below(&r, WIRE_AGAIN_COUNT)];
        buf_clear(&msg);
        buf_clear(&once);
        buf_clear(&twice);
        put_message(&msg, &r, descriptors[w - wire_again], 0);
        for (uint64_t i = 1 + rng_below(&r, 4); i > 0 && msg.size > 0; i--)
            msg.data[rng_below(&r, msg.size)] ^= (uint8_t)(1 << rng_below(&r, 8));
        size_t size = msg.size - (msg.size == 0 ? 0 : rng_below(&r, 2) * rng_below(&r, msg.size));
        uint8_t *exact = malloc(size + (size == 0));
        memcpy(exact, msg.data, size);
        int rv = w->again(slice_of(exact, size), &once);
        if (rv == 0) {
            ck_assert_int_eq(w->again(buf_slice(&once), &twice), 0);
            ck_assert_msg(slice_equal(buf_slice(&once), buf_slice(&twice)), "%s", w->message);
        }
        refused += rv == TV_EMALFORMED;
        free(exact);
    }
    ck_assert_uint_gt(refused, 1000);
    buf_fini(&twice);
    buf_fini(&once);
    buf_fini(&msg);
}
END_TEST

/* --- tables --- */

struct sample {
    const char *bytes;
    size_t size;
};
#define SAMPLE(text) {(text), sizeof(text) - 1}

START_TEST(test_malformed)
{
    static const struct sample samples[] = {
        SAMPLE("\x0a"),                                             /* a tag and nothing */
        SAMPLE("\x0a\x05"                                           /* a length beyond the end */
               "abc"),                                              /* ... */
        SAMPLE("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"       /* 2^64-1 bytes */
               "abc"),                                              /* ... */
        SAMPLE("\x18\x80"),                                         /* a varint cut off */
        SAMPLE("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),     /* 65 bits */
        SAMPLE("\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), /* eleven bytes */
        SAMPLE("\x00\x01"),                                         /* field 0 */
        SAMPLE("\x02\x00"),                                         /* field 0, bytes */
        SAMPLE("\x80\x80\x80\x80\x10\x01"),                         /* field 2^29 */
        SAMPLE("\x1e"),                                             /* wire type 6 */
        SAMPLE("\x1f"),                                             /* wire type 7 */
        SAMPLE("\x1c"),                                             /* an end without a start */
        SAMPLE("\x7b\x08\x01"),                                     /* a start without an end */
        SAMPLE("\x7b\x08\x01\x84\x01"),                             /* the end of another */
        SAMPLE("\x7b\x0a\x7f\x7c"),                                 /* damage in a group */
        SAMPLE("\x1d\x01\x02\x03"),                                 /* fixed32 of 3 bytes */
        SAMPLE("\x19\x01\x02\x03\x04\x05\x06\x07"),                 /* fixed64 of 7 bytes */
    };
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        for (size_t j = 0; j < WIRE_AGAIN_COUNT; j++)
            ck_assert_msg(wire_again[j].again(slice_of(samples[i].bytes, samples[i].size), &out) ==
                              TV_EMALFORMED,
                          "sample %zu, %s", i, wire_again[j].message);
        struct wire_raft_request raft;
        ck_assert_int_eq(
            wire_raft_request_decode(slice_of(samples[i].bytes, samples[i].size), &raft),
            TV_EMALFORMED);
        buf_fini(&out);
    }
}
END_TEST

START_TEST(test_unknown_and_foreign_types)
{
    /* A group with a group in it, and known numbers with types that are not theirs. */
    static const char text[] = "\x7b\x08\x01\x83\x01\x0a\x01x\x84\x01\x7c"
                               "\x08\x07"                             /* key as a number */
                               "\x1a\x02zz"                           /* lease as bytes */
                               "\x25\x01\x02\x03\x04"                 /* prev_kv as fixed32 */
                               "\x29\x01\x02\x03\x04\x05\x06\x07\x08" /* ignore_value as fixed64 */
                               "\x12\x01v\x0a\x01k\x0a\x01l";
    struct wire_put_request put;
    ck_assert_int_eq(wire_put_request_decode(slice_of(text, sizeof(text) - 1), &put), 0);
    ck_assert(slice_equal(put.key, SLICE_LITERAL("l")));
    ck_assert(slice_equal(put.value, SLICE_LITERAL("v")));
    ck_assert_int_eq(put.lease, 0);
    ck_assert(!put.prev_kv);
    ck_assert(!put.ignore_value);
}
END_TEST

START_TEST(test_group_depth)
{
    uint8_t msg[2 * WIRE_GROUP_DEPTH_MAX + 2];
    struct wire_put_request put;
    for (size_t depth = WIRE_GROUP_DEPTH_MAX; depth <= WIRE_GROUP_DEPTH_MAX + 1; depth++) {
        memset(msg, 0x7b, depth);
        memset(msg + depth, 0x7c, depth);
        ck_assert_int_eq(wire_put_request_decode(slice_of(msg, 2 * depth), &put),
                         depth <= WIRE_GROUP_DEPTH_MAX ? 0 : TV_EMALFORMED);
    }
}
END_TEST

START_TEST(test_varints)
{
    for (unsigned bits = 0; bits < 64; bits++) {
        for (int step = -1; step <= 1; step++) {
            uint64_t value = (1ULL << bits) + (uint64_t)(int64_t)step;
            uint8_t bytes[WIRE_VARINT_SIZE_MAX];
            uint64_t back;
            size_t size = (size_t)(wire_varint_put(bytes, value) - bytes);
            ck_assert_uint_eq(size, wire_varint_size(value));
            ck_assert_ptr_eq(wire_varint_get(bytes, bytes + size, &back), bytes + size);
            ck_assert_uint_eq(back, value);
            for (size_t cut = 0; cut < size; cut++)
                ck_assert_ptr_null(wire_varint_get(bytes, bytes + cut, &back));
        }
    }
}
END_TEST

/* --- oneofs and merging: what protobuf demands, told by hand --- */

static struct slice op_msg(const char *op, size_t size, struct buf *b)
{
    buf_clear(b);
    uint8_t *at = buf_reserve(b, wire_item_size(WIRE_TXN_SUCCESS, size));
    b->size = (size_t)(wire_item_put(at, WIRE_TXN_SUCCESS, slice_of(op, size)) - at);
    return buf_slice(b);
}

static void only_op(const char *op, size_t size, struct buf *b, struct wire_op *ret)
{
    struct wire_txn txn;
    struct wire_txn_it it;
    struct wire_op none;
    ck_assert_int_eq(wire_txn_decode(op_msg(op, size, b), &txn), 0);
    ck_assert_uint_eq(txn.success_count, 1);
    wire_txn_ops(&txn, true, &it);
    ck_assert(wire_next_op(&it, ret));
    ck_assert(!wire_next_op(&it, &none));
}

START_TEST(test_op_oneof)
{
    struct buf b;
    struct wire_op op;
    buf_init(&b, SIZE_MAX);
    only_op("", 0, &b, &op);
    ck_assert_int_eq(op.kind, WIRE_OP_NONE);

    /* put{key a}, put{value b}: one put of both. */
    only_op("\x12\x03\x0a\x01"
            "a"
            "\x12\x03\x12\x01"
            "b",
            10, &b, &op);
    ck_assert_int_eq(op.kind, WIRE_OP_PUT);
    ck_assert(slice_equal(op.put.key, SLICE_LITERAL("a")));
    ck_assert(slice_equal(op.put.value, SLICE_LITERAL("b")));

    /* put{key a}, range{key c}, put{value b}: the last one, from scratch. */
    only_op("\x12\x03\x0a\x01"
            "a"
            "\x0a\x03\x0a\x01"
            "c"
            "\x12\x03\x12\x01"
            "b",
            15, &b, &op);
    ck_assert_int_eq(op.kind, WIRE_OP_PUT);
    ck_assert_uint_eq(op.put.key.size, 0);
    ck_assert(slice_equal(op.put.value, SLICE_LITERAL("b")));
    buf_fini(&b);
}
END_TEST

START_TEST(test_txn_in_pieces)
{
    /* txn{success put}, range{}, txn{success range}, an unknown field, txn{failure delete}: the
     * first is gone, the other two are one. */
    static const char op[] = "\x22\x04\x12\x02\x12\x00"
                             "\x0a\x00"
                             "\x22\x04\x12\x02\x0a\x00"
                             "\x78\x01"
                             "\x22\x04\x1a\x02\x1a\x00";
    struct buf b;
    struct wire_op outer;
    struct wire_op inner;
    struct wire_txn_it it;
    buf_init(&b, SIZE_MAX);
    only_op(op, sizeof(op) - 1, &b, &outer);
    ck_assert_int_eq(outer.kind, WIRE_OP_TXN);
    ck_assert_uint_eq(outer.txn.compares_count, 0);
    ck_assert_uint_eq(outer.txn.success_count, 1);
    ck_assert_uint_eq(outer.txn.failure_count, 1);
    wire_txn_ops(&outer.txn, true, &it);
    ck_assert(wire_next_op(&it, &inner));
    ck_assert_int_eq(inner.kind, WIRE_OP_RANGE);
    ck_assert(!wire_next_op(&it, &inner));
    wire_txn_ops(&outer.txn, false, &it);
    ck_assert(wire_next_op(&it, &inner));
    ck_assert_int_eq(inner.kind, WIRE_OP_DELETE_RANGE);
    ck_assert(!wire_next_op(&it, &inner));
    buf_fini(&b);
}
END_TEST

START_TEST(test_txn_depth)
{
    struct buf b;
    struct wire_txn txn;
    for (size_t depth = WIRE_TXN_DEPTH_MAX; depth <= WIRE_TXN_DEPTH_MAX + 1; depth++) {
        size_t nests[2 * (WIRE_TXN_DEPTH_MAX + 1)];
        size_t count = 0;
        buf_init(&b, SIZE_MAX);
        for (size_t i = 1; i < depth; i++) {
            nests[count++] = wire_nest_begin(&b, WIRE_TXN_FAILURE, i * 50);
            nests[count++] = wire_nest_begin(&b, wire_op_field(WIRE_OP_TXN), 0);
        }
        while (count > 0)
            wire_nest_end(&b, nests[--count]);
        ck_assert_int_eq(wire_txn_decode(buf_slice(&b), &txn),
                         depth <= WIRE_TXN_DEPTH_MAX ? 0 : TV_EMALFORMED);
        buf_fini(&b);
    }
}
END_TEST

START_TEST(test_malformed_inside_txn)
{
    static const struct sample samples[] = {
        SAMPLE("\x0a\x02\x1a\x05"),         /* a compare's key */
        SAMPLE("\x12\x01\x12"),             /* an operation's tag */
        SAMPLE("\x12\x03\x12\x01\x0a"),     /* a put's tag */
        SAMPLE("\x12\x03\x0a\x01\x0a"),     /* a range's */
        SAMPLE("\x1a\x03\x1a\x01\x0a"),     /* a delete's */
        SAMPLE("\x1a\x04\x22\x02\x0a\x09"), /* an inner txn's */
        SAMPLE(
            "\x12\x05\x12\x01\x0a\x0a\x00"), /* the put is replaced, and malformed all the same */
    };
    struct wire_txn txn;
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
        ck_assert_msg(wire_txn_decode(slice_of(samples[i].bytes, samples[i].size), &txn) ==
                          TV_EMALFORMED,
                      "sample %zu", i);
}
END_TEST

START_TEST(test_compare_operand)
{
    /* The last of version 5, value "x", lease 0; the target is another one. */
    static const char msg[] = "\x0a\x0b\x10\x01\x20\x05\x3a\x01x\x40\x00\x1a\x00";
    struct wire_txn txn;
    struct wire_txn_it it;
    struct wire_compare c;
    ck_assert_int_eq(wire_txn_decode(slice_of(msg, sizeof(msg) - 1), &txn), 0);
    wire_txn_compares(&txn, &it);
    ck_assert(wire_next_compare(&it, &c));
    ck_assert_int_eq(c.target, WIRE_COMPARE_CREATE);
    ck_assert_int_eq(c.with, WIRE_COMPARE_LEASE);
    ck_assert_int_eq(c.number, 0);
    ck_assert_uint_eq(c.value.size, 0);
    ck_assert(!wire_next_compare(&it, &c));
}
END_TEST

START_TEST(test_watch_request)
{
    struct wire_watch_request w;
    ck_assert_int_eq(wire_watch_request_decode(SLICE_EMPTY, &w), 0);
    ck_assert_int_eq(w.kind, WIRE_WATCH_NONE);
    ck_assert_int_eq(wire_watch_request_decode(SLICE_LITERAL("\x1a\x00"), &w), 0);
    ck_assert_int_eq(w.kind, WIRE_WATCH_PROGRESS);
    ck_assert_int_eq(wire_watch_request_decode(SLICE_LITERAL("\x12\x02\x08\x07"), &w), 0);
    ck_assert_int_eq(w.kind, WIRE_WATCH_CANCEL);
    ck_assert_int_eq(w.cancel_watch_id, 7);

    /* create{key a, packed filters NODELETE 9}, create{filter NOPUT}: merged, 9 ignored. */
    ck_assert_int_eq(wire_watch_request_decode(SLICE_LITERAL("\x0a\x07\x0a\x01"
                                                             "a\x2a\x02\x01\x09\x0a\x02\x28\x00"),
                                               &w),
                     0);
    ck_assert_int_eq(w.kind, WIRE_WATCH_CREATE);
    ck_assert(slice_equal(w.create.key, SLICE_LITERAL("a")));
    ck_assert_uint_eq(w.create.filters, WIRE_WATCH_NOPUT | WIRE_WATCH_NODELETE);

    /* create{key a} and then cancel{}: the create is gone. */
    ck_assert_int_eq(wire_watch_request_decode(SLICE_LITERAL("\x0a\x03\x0a\x01"
                                                             "a\x12\x00"),
                                               &w),
                     0);
    ck_assert_int_eq(w.kind, WIRE_WATCH_CANCEL);
    ck_assert_int_eq(w.cancel_watch_id, 0);
    ck_assert_int_eq(wire_watch_request_decode(SLICE_LITERAL("\x0a\x03\x2a\x01\x80"), &w),
                     TV_EMALFORMED);
}
END_TEST

/* --- the log --- */

static void check_raft_request(uint32_t kind, uint64_t id, struct slice body)
{
    uint8_t bytes[256];
    size_t size = wire_raft_request_size(kind, id, body);
    ck_assert_uint_le(size, sizeof(bytes));
    ck_assert_ptr_eq(wire_raft_request_put(bytes, kind, id, body), bytes + size);
    struct wire_raft_request r;
    ck_assert_int_eq(wire_raft_request_decode(slice_of(bytes, size), &r), 0);
    ck_assert_uint_eq(r.id, id);
    ck_assert_uint_eq(r.kind, kind);
    ck_assert(slice_equal(r.body, body));

    /* protobuf-c packs the same request to the same bytes. */
    Etcdserverpb__InternalRaftRequest *theirs =
        etcdserverpb__internal_raft_request__unpack(NULL, size, bytes);
    ck_assert_ptr_nonnull(theirs);
    ck_assert_uint_eq(theirs->header->id, id);
    uint8_t again[256];
    ck_assert_uint_eq(etcdserverpb__internal_raft_request__get_packed_size(theirs), size);
    etcdserverpb__internal_raft_request__pack(theirs, again);
    ck_assert_mem_eq(again, bytes, size);
    etcdserverpb__internal_raft_request__free_unpacked(theirs, NULL);
}

START_TEST(test_raft_request)
{
    struct wire_member_attr attr = {
        .member_id = UINT64_MAX,
        .name = SLICE_LITERAL("a"),
        .client_urls_count = 2,
        .client_urls = {SLICE_LITERAL("http://127.0.0.1:2379"), SLICE_LITERAL("")},
    };
    uint8_t bytes[128];
    struct slice body = slice_of(bytes, (size_t)(wire_member_attr_put(bytes, &attr) - bytes));
    check_raft_request(WIRE_RAFT_MEMBER_ATTR_SET, 3, body);
    check_raft_request(WIRE_RAFT_PUT, UINT64_MAX, SLICE_LITERAL("\x0a\x01k\x12\x01v"));
    check_raft_request(WIRE_RAFT_DELETE_RANGE, 0, SLICE_LITERAL("\x0a\x01k"));
    check_raft_request(WIRE_RAFT_TXN, 1, SLICE_LITERAL(""));
    check_raft_request(WIRE_RAFT_COMPACTION, 1, SLICE_LITERAL("\x08\x07"));
    check_raft_request(WIRE_RAFT_LEASE_GRANT, 1, SLICE_LITERAL("\x08\x07"));
    check_raft_request(WIRE_RAFT_LEASE_REVOKE, 1, SLICE_LITERAL("\x08\x07"));
}
END_TEST

START_TEST(test_raft_request_fields)
{
    struct wire_raft_request r;
    ck_assert_int_eq(wire_raft_request_decode(
                         SLICE_LITERAL("\xa2\x06\x08\x08\x05\x12\x02me\x18\x09\x22\x00"), &r),
                     0);
    ck_assert_uint_eq(r.id, 5);
    ck_assert(slice_equal(r.username, SLICE_LITERAL("me")));
    ck_assert_uint_eq(r.auth_revision, 9);
    ck_assert_uint_eq(r.kind, WIRE_RAFT_PUT);
    ck_assert_int_eq(wire_raft_request_decode(SLICE_LITERAL("\x22\x00\x2a\x00"), &r),
                     TV_EMALFORMED);
    ck_assert_int_eq(wire_raft_request_decode(SLICE_LITERAL("\xa2\x06\x01\x08"), &r),
                     TV_EMALFORMED);
}
END_TEST

START_TEST(test_member_attr_limit)
{
    struct wire_member_attr attr = {.member_id = 1, .client_urls_count = WIRE_MEMBER_URLS_MAX};
    uint8_t bytes[256];
    size_t size = (size_t)(wire_member_attr_put(bytes, &attr) - bytes);
    struct wire_member_attr back;
    ck_assert_int_eq(wire_member_attr_decode(slice_of(bytes, size), &back), 0);
    ck_assert_uint_eq(back.client_urls_count, WIRE_MEMBER_URLS_MAX);
    memcpy(bytes + size, "\x12\x02\x12\x00", 4); /* one more, in a second Attributes */
    ck_assert_int_eq(wire_member_attr_decode(slice_of(bytes, size + 4), &back), TV_ETOOLARGE);
}
END_TEST

/* --- pieces of responses --- */

START_TEST(test_kv_without_value)
{
    struct rng r;
    rng_init(&r, seed() + 2);
    for (int round = 0; round < 200; round++) {
        struct wire_kv kv = {
            .key = SLICE_LITERAL("key"),
            .create_revision = (int64_t)random_number(&r),
            .mod_revision = (int64_t)random_number(&r),
            .version = (int64_t)random_number(&r),
            .value = rng_below(&r, 2) ? SLICE_LITERAL("value") : SLICE_EMPTY,
            .lease = (int64_t)random_number(&r),
        };
        uint8_t with[128];
        uint8_t without[128];
        struct slice before;
        struct slice after;
        wire_kv_split_value(slice_of(with, (size_t)(wire_kv_put(with, &kv) - with)), &before,
                            &after);
        kv.value = SLICE_EMPTY;
        size_t size = wire_kv_size(&kv);
        wire_kv_put(without, &kv);
        ck_assert_uint_eq(before.size + after.size, size);
        ck_assert_mem_eq(before.data, without, before.size);
        if (after.size > 0)
            ck_assert_mem_eq(after.data, without + before.size, after.size);
    }
}
END_TEST

START_TEST(test_txn_response)
{
    struct wire_header h = {1, 2, -3, 4};
    struct wire_header revision_only = {.revision = 7};
    struct buf b;
    buf_init(&b, SIZE_MAX);
    uint8_t *at = buf_reserve(&b, wire_txn_response_size(&h, true));
    b.size = (size_t)(wire_txn_response_put(at, &h, true) - at);
    size_t item = wire_nest_begin(&b, WIRE_TXN_RESPONSES, 0);
    size_t put = wire_nest_begin(&b, wire_op_field(WIRE_OP_PUT), 300);
    at = buf_reserve(&b, wire_put_response_size(&revision_only, SLICE_EMPTY));
    b.size += (size_t)(wire_put_response_put(at, &revision_only, SLICE_EMPTY) - at);
    wire_nest_end(&b, put);
    wire_nest_end(&b, item);

    Etcdserverpb__TxnResponse *theirs = etcdserverpb__txn_response__unpack(NULL, b.size, b.data);
    ck_assert_ptr_nonnull(theirs);
    ck_assert_int_eq(theirs->header->revision, -3);
    ck_assert_uint_eq(theirs->n_responses, 1);
    ck_assert_int_eq(theirs->responses[0]->response_put->header->revision, 7);
    ck_assert_uint_eq(etcdserverpb__txn_response__get_packed_size(theirs), b.size);
    etcdserverpb__txn_response__free_unpacked(theirs, NULL);

    struct wire_txn_response mine;
    struct slice op;
    struct slice body;
    enum wire_op_kind kind;
    struct wire_put_response put_response;
    ck_assert_int_eq(wire_txn_response_decode(buf_slice(&b), &mine), 0);
    ck_assert(mine.succeeded);
    ck_assert_uint_eq(mine.responses_count, 1);
    ck_assert_uint_eq(mine.header.member_id, 2);
    struct wire_reader r = wire_reader_of(mine.msg);
    ck_assert(wire_next_item(&r, WIRE_TXN_RESPONSES, &op));
    ck_assert_int_eq(wire_response_op_decode(op, &kind, &body), 0);
    ck_assert_int_eq(kind, WIRE_OP_PUT);
    ck_assert_int_eq(wire_put_response_decode(body, &put_response), 0);
    ck_assert_int_eq(put_response.header.revision, 7);
    buf_fini(&b);
}
END_TEST

START_TEST(test_lease_list)
{
    struct wire_header h = {.revision = 7};
    uint8_t bytes[64];
    uint8_t *end = wire_header_put(bytes, &h);
    end = wire_lease_status_put(end, 0);
    end = wire_lease_status_put(end, INT64_MAX);
    ck_assert_uint_eq((size_t)(end - bytes), wire_header_size(&h) + wire_lease_status_size(0) +
                                                 wire_lease_status_size(INT64_MAX));
    Etcdserverpb__LeaseLeasesResponse *theirs =
        etcdserverpb__lease_leases_response__unpack(NULL, (size_t)(end - bytes), bytes);
    ck_assert_ptr_nonnull(theirs);
    ck_assert_uint_eq(theirs->n_leases, 2);
    ck_assert_int_eq(theirs->leases[0]->id, 0);
    ck_assert_int_eq(theirs->leases[1]->id, INT64_MAX);
    etcdserverpb__lease_leases_response__free_unpacked(theirs, NULL);
}
END_TEST

START_TEST(test_header_of_zeros_is_there)
{
    struct wire_header h = {0};
    uint8_t bytes[8];
    ck_assert_uint_eq(wire_header_size(&h), 2);
    ck_assert_ptr_eq(wire_header_put(bytes, &h), bytes + 2);
    ck_assert_mem_eq(bytes, "\x0a\x00", 2);
    ck_assert_uint_eq(wire_header_size(NULL), 0);
    ck_assert_ptr_eq(wire_header_put(bytes, NULL), bytes);
}
END_TEST

UNIT_MAIN("wire", test_same_as_protobuf_c, test_names_match, test_damaged, test_malformed,
          test_unknown_and_foreign_types, test_group_depth, test_varints, test_op_oneof,
          test_txn_in_pieces, test_txn_depth, test_malformed_inside_txn, test_compare_operand,
          test_watch_request, test_raft_request, test_raft_request_fields, test_member_attr_limit,
          test_kv_without_value, test_txn_response, test_lease_list, test_header_of_zeros_is_there)
