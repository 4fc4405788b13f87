/* Ranges against a model: every option, small and large answers, in pieces. */
#include "unit.h"

#include "server/range.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>

enum { KEYS = 700 };

static struct mvcc *m;
static struct epoch_reader *reader;

/* Keys with values, versions, leases and revisions all over the place. */
static void fill(void)
{
    struct rng r;
    rng_init(&r, 5);
    m = mvcc_new(NULL);
    reader = epoch_register(mvcc_epoch(m));
    for (int i = 0; i < KEYS * 3; i++) {
        char key[32], value[400];
        int key_size = snprintf(key, sizeof(key), "k/%04u", (unsigned)rng_below(&r, KEYS));
        size_t value_size = rng_below(&r, 4) == 0 ? 0 : rng_below(&r, sizeof(value));
        memset(value, 'a' + (int)rng_below(&r, 26), value_size);
        mvcc_txn_begin(m);
        if (rng_below(&r, 8) == 0)
            mvcc_txn_delete_range(m, slice_of(key, (size_t)key_size), SLICE_EMPTY, NULL, NULL);
        else
            mvcc_txn_put(m, slice_of(key, (size_t)key_size), slice_of(value, value_size),
                         (int64_t)rng_below(&r, 3), NULL);
        mvcc_txn_end(m);
    }
    mvcc_publish(m);
}

static void empty(void)
{
    epoch_unregister(reader);
    mvcc_free(m);
}

static struct wire_range_request all_keys(void)
{
    return (struct wire_range_request){.key = SLICE_LITERAL("k/"),
                                       .range_end = SLICE_LITERAL("k0")};
}

/* The answer's body in one piece, after gathering `per_section` keys at a time. */
static struct slice run(const struct wire_range_request *req, uint64_t per_section)
{
    struct range r;
    epoch_enter(mvcc_epoch(m), reader);
    ck_assert_int_eq(range_begin(&r, m, req, false), 0);
    while (range_collect(&r, per_section)) {
        ck_assert_int_eq(range_suspend(&r), 0);
        epoch_leave(reader);
        epoch_enter(mvcc_epoch(m), reader);
        range_resume(&r);
    }
    uint8_t *body = mem_alloc(r.body_size + 1);
    ck_assert_uint_eq((size_t)(range_write(&r, body) - body), r.body_size);
    range_fini(&r);
    epoch_leave(reader);
    return slice_of(body, r.body_size);
}

START_TEST(test_slices_make_the_same_answer)
{
    fill();
    struct wire_range_request variants[] = {all_keys(), all_keys(), all_keys(), all_keys()};
    variants[1].limit = 100;
    variants[2].sort_order = WIRE_SORT_DESCEND;
    variants[2].sort_target = WIRE_SORT_MOD;
    variants[3].min_mod_revision = 300;
    variants[3].keys_only = true;
    for (int i = 0; i < 4; i++) {
        struct slice once = run(&variants[i], UINT64_MAX), sliced = run(&variants[i], 7);
        ck_assert(slice_equal(once, sliced));
        mem_free((void *)once.data);
        mem_free((void *)sliced.data);
    }
    empty();
}
END_TEST

START_TEST(test_pieces_make_the_whole)
{
    fill();
    struct wire_range_request req = all_keys();
    for (size_t piece_max = 1; piece_max < 2000; piece_max = piece_max * 3 + 1) {
        req.keys_only = piece_max % 2 == 0;
        struct slice whole = run(&req, UINT64_MAX);
        struct range r;
        epoch_enter(mvcc_epoch(m), reader);
        ck_assert_int_eq(range_begin(&r, m, &req, false), 0);
        ck_assert(!range_collect(&r, UINT64_MAX));
        r.prefix = SLICE_LITERAL("head");
        uint8_t *pieces = mem_alloc(whole.size + 4 + piece_max);
        size_t size = 0, got;
        while ((got = range_read(&r, pieces + size, piece_max)) > 0)
            size += got;
        range_fini(&r);
        epoch_leave(reader);
        ck_assert_uint_eq(size, whole.size + 4);
        ck_assert_mem_eq(pieces, "head", 4);
        ck_assert_mem_eq(pieces + 4, whole.data, whole.size);
        mem_free(pieces);
        mem_free((void *)whole.data);
    }
    empty();
}
END_TEST

struct answer {
    struct wire_range_response head;
    struct wire_kv kvs[KEYS];
    uint32_t count;
    struct slice body;
};

static void ask(const struct wire_range_request *req, struct answer *a)
{
    a->body = run(req, UINT64_MAX);
    ck_assert_int_eq(wire_range_response_decode(a->body, &a->head), 0);
    struct wire_reader at = wire_reader_of(a->body);
    a->count = 0;
    while (wire_next_kv(&at, WIRE_RANGE_KVS, &a->kvs[a->count]) == 1)
        a->count++;
}

START_TEST(test_sorts_filters_and_limits)
{
    static struct answer all, a;
    fill();
    struct wire_range_request req = all_keys();
    ask(&req, &all);
    ck_assert_int_eq(all.head.count, all.count);
    ck_assert(!all.head.more);

    req.limit = 10;
    ask(&req, &a);
    ck_assert_uint_eq(a.count, 10);
    ck_assert(a.head.more);
    ck_assert_int_eq(a.head.count, all.count); /* of all, whatever the limit */
    mem_free((void *)a.body.data);

    req.sort_order = WIRE_SORT_DESCEND;
    req.sort_target = WIRE_SORT_VALUE;
    ask(&req, &a);
    ck_assert_uint_eq(a.count, 10);
    for (uint32_t i = 1; i < a.count; i++)
        ck_assert_int_ge(slice_compare(a.kvs[i - 1].value, a.kvs[i].value), 0);
    for (uint32_t i = 0; i < all.count; i++) /* the largest of all, not of the first ten */
        ck_assert_int_ge(slice_compare(a.kvs[0].value, all.kvs[i].value), 0);
    mem_free((void *)a.body.data);

    /* A target without an order sorts what the limit left. */
    req.sort_order = WIRE_SORT_NONE;
    req.sort_target = WIRE_SORT_MOD;
    ask(&req, &a);
    ck_assert_uint_eq(a.count, 10);
    for (uint32_t i = 1; i < a.count; i++)
        ck_assert_int_lt(a.kvs[i - 1].mod_revision, a.kvs[i].mod_revision);
    for (uint32_t i = 0; i < a.count; i++)
        ck_assert_int_le(slice_compare(a.kvs[i].key, all.kvs[10].key), 0);
    mem_free((void *)a.body.data);

    req = all_keys();
    req.min_create_revision = 200;
    req.max_mod_revision = 1500;
    ask(&req, &a);
    uint32_t expected = 0;
    for (uint32_t i = 0; i < all.count; i++)
        expected += all.kvs[i].create_revision >= 200 && all.kvs[i].mod_revision <= 1500;
    ck_assert_uint_eq(a.count, expected);
    ck_assert_int_eq(a.head.count, all.count);
    mem_free((void *)a.body.data);

    req = all_keys();
    req.count_only = true;
    ask(&req, &a);
    ck_assert_uint_eq(a.count, 0);
    ck_assert_int_eq(a.head.count, all.count);
    ck_assert(!a.head.more);
    mem_free((void *)a.body.data);
    mem_free((void *)all.body.data);
    empty();
}
END_TEST

/* etcd's keys come from its index, which knows no leases; a sort by value reads the whole. */
START_TEST(test_keys_only_has_no_lease)
{
    static struct answer a;
    fill();
    struct wire_range_request req = all_keys();
    req.keys_only = true;
    ask(&req, &a);
    ck_assert_uint_gt(a.count, KEYS / 2);
    for (uint32_t i = 0; i < a.count; i++) {
        ck_assert_int_eq(a.kvs[i].lease, 0);
        ck_assert_uint_eq(a.kvs[i].value.size, 0);
    }
    mem_free((void *)a.body.data);
    req.sort_target = WIRE_SORT_VALUE;
    ask(&req, &a);
    uint32_t leases = 0;
    for (uint32_t i = 0; i < a.count; i++)
        leases += a.kvs[i].lease != 0;
    ck_assert_uint_gt(leases, KEYS / 4);
    mem_free((void *)a.body.data);
    empty();
}
END_TEST

START_TEST(test_revisions)
{
    fill();
    struct range r;
    struct wire_range_request req = all_keys();
    epoch_enter(mvcc_epoch(m), reader);
    req.revision = mvcc_revision(m) + 1;
    ck_assert_int_eq(range_begin(&r, m, &req, false), TV_FUTURE_REV);
    req.revision = 100;
    ck_assert_int_eq(range_begin(&r, m, &req, false), 0);
    ck_assert_int_eq(r.rev, 100);
    ck_assert_int_eq(r.header_rev, mvcc_revision(m));
    range_fini(&r);
    ck_assert_int_eq(mvcc_compact(m, 200), 0);
    mvcc_publish(m);
    ck_assert_int_eq(range_begin(&r, m, &req, false), TV_COMPACTED);
    epoch_leave(reader);
    empty();
}
END_TEST

UNIT_MAIN("range", test_slices_make_the_same_answer, test_pieces_make_the_whole,
          test_sorts_filters_and_limits, test_keys_only_has_no_lease, test_revisions)
