/* The client's messages (client/src/lib/message.c): what it writes, proto/wire reads, and the other
 * way round; and no bytes at all do harm. */
#include "unit.h"

#include "message.h"

#include "base/rng.h"
#include "proto/wire.h"

#include <stdio.h>
#include <string.h>

static struct buf out;
static struct arena arena;

static void begin(void)
{
    buf_init(&out, SIZE_MAX);
    arena_init(&arena);
}

static void end(void)
{
    buf_fini(&out);
    arena_fini(&arena);
}

START_TEST(test_requests)
{
    struct wire_range_request range;
    struct wire_put_request put;
    struct trivet_request q = {.method = TRIVET_RANGE};
    begin();
    q.u.range = (struct trivet_range_request){.key = trivet_str("k"),
                                              .range_end = trivet_str("l"),
                                              .limit = 300,
                                              .revision = -1,
                                              .sort_order = TRIVET_SORT_DESCEND,
                                              .sort_target = TRIVET_SORT_MOD,
                                              .serializable = true,
                                              .max_create_revision = 7};
    ck_assert_int_eq(message_request_encode(&q, &out), 0);
    ck_assert_int_eq(wire_range_request_decode(buf_slice(&out), &range), 0);
    ck_assert(slice_equal(range.range_end, SLICE_LITERAL("l")));
    ck_assert_int_eq(range.limit, 300);
    ck_assert_int_eq(range.revision, -1);
    ck_assert_int_eq(range.sort_target, WIRE_SORT_MOD);
    ck_assert(range.serializable && !range.keys_only && range.max_create_revision == 7);
    ck_assert_uint_eq(out.size, wire_range_request_size(&range));
    /* A long value: the length of what is nested needs more than a byte. */
    static char value[100000];
    struct trivet_request op = {.method = TRIVET_PUT};
    op.u.put = (struct trivet_put_request){
        .key = trivet_str("k"), .value = trivet_bytes(value, sizeof(value)), .lease = 5};
    struct trivet_compare c = {
        .result = TRIVET_LESS, .key = trivet_str("c"), .range_end = trivet_str("d")};
    struct trivet_request t = {.method = TRIVET_TXN};
    t.u.txn = (struct trivet_txn_request){
        .compares = &c, .compares_count = 1, .failure = &op, .failure_count = 1};
    struct wire_txn txn;
    struct wire_txn_it it;
    struct wire_op wop;
    struct wire_compare wc;
    buf_clear(&out);
    ck_assert_int_eq(message_request_encode(&t, &out), 0);
    ck_assert_int_eq(wire_txn_decode(buf_slice(&out), &txn), 0);
    wire_txn_compares(&txn, &it);
    ck_assert(wire_next_compare(&it, &wc));
    ck_assert_int_eq(wc.with, WIRE_COMPARE_VERSION); /* there, though it is 0 */
    ck_assert(wc.result == WIRE_COMPARE_LESS && slice_equal(wc.range_end, SLICE_LITERAL("d")));
    wire_txn_ops(&txn, false, &it);
    ck_assert(wire_next_op(&it, &wop));
    put = wop.put;
    ck_assert(wop.kind == WIRE_OP_PUT && put.value.size == sizeof(value) && put.lease == 5);
    op.method = TRIVET_LOCK;
    ck_assert_int_eq(message_request_encode(&t, &out), TRIVET_INVALID);
    c.target = 9;
    ck_assert_int_eq(message_request_encode(&t, &out), TRIVET_INVALID);
    /* Deeper than the cluster reads. */
    static struct trivet_request deep[MESSAGE_DEPTH_MAX + 2];
    for (int i = 0; i < MESSAGE_DEPTH_MAX + 1; i++) {
        deep[i].method = TRIVET_TXN;
        deep[i].u.txn.success = &deep[i + 1];
        deep[i].u.txn.success_count = 1;
    }
    deep[MESSAGE_DEPTH_MAX + 1].method = TRIVET_TXN;
    ck_assert_int_eq(message_request_encode(&deep[0], &out), TRIVET_INVALID);
    end();
}
END_TEST

START_TEST(test_answers)
{
    uint8_t bytes[256];
    struct wire_header h = {.cluster_id = 1, .member_id = 2, .revision = 3, .raft_term = 4};
    struct wire_kv kv = {.key = SLICE_LITERAL("k"), .value = SLICE_LITERAL("v"), .mod_revision = 3};
    struct trivet_result r = {0};
    begin();
    uint8_t *p = wire_header_put(bytes, &h);
    for (int i = 0; i < 2; i++)
        p = wire_kv_put(wire_kv_field_put_head(p, wire_kv_size(&kv)), &kv);
    p = wire_range_tail_put(p, true, 9);
    size_t size = (size_t)(p - bytes);
    const struct method *m = method_of(TRIVET_RANGE);
    ck_assert_int_eq(message_response_decode(m, slice_of(bytes, size), &arena, &r), 0);
    ck_assert(r.header.member_id == 2 && r.header.revision == 3 && r.header.raft_term == 4);
    ck_assert(r.u.range.kvs_count == 2 && r.u.range.more && r.u.range.count == 9);
    ck_assert(r.u.range.kvs[1].mod_revision == 3 && r.u.range.kvs[1].value.size == 1);
    /* Any byte missing at the end is found, but where a field ends. */
    int malformed = 0;
    for (size_t cut = 1; cut < size; cut++) {
        r = (struct trivet_result){0};
        malformed += message_response_decode(m, slice_of(bytes, cut), &arena, &r) != 0;
    }
    ck_assert_int_ge(malformed, (int)size - 7);
    end();
}
END_TEST

/* With a sanitizer this says more. */
START_TEST(test_noise)
{
    uint8_t bytes[128];
    struct rng rng;
    int good = 0;
    rng_init(&rng, 11);
    begin();
    for (int i = 0; i < 200000; i++) {
        struct trivet_result r = {0};
        struct watch_response w = {0};
        size_t size = rng_below(&rng, sizeof(bytes));
        for (size_t k = 0; k < size; k++)
            bytes[k] =
                rng_below(&rng, 3) == 0 ? (uint8_t)rng_next(&rng) : (uint8_t)rng_below(&rng, 40);
        int32_t method = 1 + (int32_t)rng_below(&rng, TRIVET_METHODS_COUNT - 1);
        ck_assert_ptr_nonnull(method_of(method)->path);
        arena_clear(&arena);
        int rv = message_response_decode(method_of(method), slice_of(bytes, size), &arena, &r);
        ck_assert(rv == 0 || rv == TRIVET_MALFORMED);
        good += rv == 0;
        (void)message_read(&message_watch_response, slice_of(bytes, size), &arena, &w);
    }
    ck_assert_int_gt(good, 1000);
    end();
}
END_TEST

START_TEST(test_prefix_end)
{
    char to[4];
    ck_assert_uint_eq(trivet_prefix_end(trivet_str("ab"), to), 2);
    ck_assert(memcmp(to, "ac", 2) == 0);
    ck_assert_uint_eq(trivet_prefix_end(trivet_bytes("a\xff\xff", 3), to), 1);
    ck_assert(to[0] == 'b');
    ck_assert_uint_eq(trivet_prefix_end(trivet_bytes("\xff", 1), to), 1);
    ck_assert(to[0] == 0);
    ck_assert_uint_eq(trivet_prefix_end(trivet_str(""), to), 1);
    ck_assert(to[0] == 0);
}
END_TEST

UNIT_MAIN("message", test_requests, test_answers, test_noise, test_prefix_end)
