/* Ranges against a model: every option, small and large answers, in pieces. */
#include "unit.h"

#include "server/range_stream.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>

enum { KEYS = 700 };

static struct mvcc *m;
static struct epoch_reader *reader;
static const struct mvcc_options moving = {.move_all = true};

/* Keys with values, versions, leases and revisions all over the place. */
static void fill(void)
{
    struct rng r;
    rng_init(&r, 5);
    m = mvcc_new(&moving);
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

/* --- streams --- */

enum { MESSAGES_MAX = 100, NO_SIZE = 1 << 30 };

struct stream_answer {
    uint64_t sizes[MESSAGES_MAX]; /* keys in each message */
    uint32_t messages_count;
    struct buf joined; /* the messages' RangeResponses, one behind the other: that joins them */
};

/* Reads the message in pieces and takes it apart. */
static void take_message(struct range_stream *s, struct stream_answer *a)
{
    const struct wire_header header = {.cluster_id = 7, .revision = s->range.header_rev};
    uint8_t head[RANGE_STREAM_HEAD_BYTES_MAX];
    size_t head_size = range_stream_head_size(s, &header);
    ck_assert_uint_le(head_size, sizeof(head));
    ck_assert_ptr_eq(range_stream_put_head(s, &header, head), head + head_size);
    s->range.prefix = slice_of(head, head_size);
    size_t size = head_size + s->range.body_size;
    uint8_t *bytes = mem_alloc(size + 100);
    size_t read = 0, got;
    while ((got = range_read(&s->range, bytes + read, 100)) > 0)
        read += got;
    ck_assert_uint_eq(read, size);

    struct slice msg;
    struct wire_range_response range;
    ck_assert_int_eq(wire_range_stream_response_decode(slice_of(bytes, size), &msg), 0);
    ck_assert_int_eq(wire_range_response_decode(msg, &range), 0);
    ck_assert_int_eq(range.header.revision, s->last ? s->range.header_rev : 0);
    ck_assert(s->last || (!range.more && range.count == 0 && range.kvs_count > 0));
    ck_assert_uint_lt(a->messages_count, MESSAGES_MAX);
    a->sizes[a->messages_count++] = range.kvs_count;
    ck_assert_int_eq(buf_append(&a->joined, msg.data, msg.size), 0);
    mem_free(bytes);
}

/* Every message in a section of its own, and in several when it is gathered `per_section` keys at a
 * time. `between`, if not NULL, is called between two. */
static void run_stream(const struct wire_range_request *req, uint64_t bytes_wanted,
                       uint64_t per_section, void (*between)(void), struct stream_answer *ret)
{
    struct range_stream s;
    *ret = (struct stream_answer){0};
    buf_init(&ret->joined, SIZE_MAX);
    epoch_enter(mvcc_epoch(m), reader);
    ck_assert_int_eq(range_stream_begin(&s, m, req, bytes_wanted), 0);
    for (;;) {
        bool more = range_stream_collect(&s, per_section);
        ck_assert_int_eq(range_suspend(&s.range), 0);
        epoch_leave(reader);
        if (between != NULL)
            between();
        if (!more)
            take_message(&s, ret);
        epoch_enter(mvcc_epoch(m), reader);
        if (!more && s.last)
            break;
        ck_assert_int_eq(range_resume(&s.range), 0);
    }
    range_fini(&s.range);
    epoch_leave(reader);
}

static void check_same(const struct stream_answer *a, struct slice whole)
{
    struct wire_range_response x, y;
    struct wire_kv kv, same;
    ck_assert_int_eq(wire_range_response_decode(buf_slice(&a->joined), &x), 0);
    ck_assert_int_eq(wire_range_response_decode(whole, &y), 0);
    ck_assert_uint_eq(x.kvs_count, y.kvs_count);
    ck_assert_int_eq(x.more, y.more);
    ck_assert_int_eq(x.count, y.count);
    struct wire_reader at = wire_reader_of(buf_slice(&a->joined)), other = wire_reader_of(whole);
    while (wire_next_kv(&at, WIRE_RANGE_KVS, &kv) == 1) {
        ck_assert_int_eq(wire_next_kv(&other, WIRE_RANGE_KVS, &same), 1);
        ck_assert(slice_equal(kv.key, same.key) && slice_equal(kv.value, same.value));
        ck_assert_int_eq(kv.mod_revision, same.mod_revision);
        ck_assert_int_eq(kv.version, same.version);
        ck_assert_int_eq(kv.lease, same.lease);
    }
}

START_TEST(test_stream_makes_the_same_answer)
{
    static const int64_t limits[] = {-1, 0, 1, 9, 10, 11, 30, 31, 600, KEYS};
    fill();
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        for (int variant = 0; variant < 6; variant++) {
            struct wire_range_request req = all_keys();
            req.limit = limits[i];
            req.keys_only = variant == 1;
            req.count_only = variant == 2;
            req.revision = variant == 3 ? KEYS : 0;
            req.sort_order = variant == 4 ? WIRE_SORT_ASCEND : WIRE_SORT_NONE;
            if (variant == 5)
                req.range_end = SLICE_EMPTY; /* of a key that is not there */
            struct stream_answer a;
            struct slice whole = run(&req, UINT64_MAX);
            run_stream(&req, variant % 2 == 0 ? NO_SIZE : 5000, i % 2 == 0 ? 7 : KEYS, NULL, &a);
            check_same(&a, whole);
            buf_fini(&a.joined);
            mem_free((void *)whole.data);
        }
    }
    empty();
}
END_TEST

static void check_sizes(const struct wire_range_request *req, uint64_t bytes_wanted,
                        const uint64_t *sizes, uint32_t count)
{
    struct stream_answer a;
    run_stream(req, bytes_wanted, UINT64_MAX, NULL, &a);
    ck_assert_uint_eq(a.messages_count, count);
    for (uint32_t i = 0; i < count; i++)
        ck_assert_uint_eq(a.sizes[i], sizes[i]);
    buf_fini(&a.joined);
}

static void put_many(uint32_t keys, size_t value_size)
{
    uint8_t *value = mem_alloc_zero(value_size);
    m = mvcc_new(&moving);
    reader = epoch_register(mvcc_epoch(m));
    mvcc_txn_begin(m);
    for (uint32_t i = 0; i < keys; i++) {
        char key[32];
        int size = snprintf(key, sizeof(key), "k/%05u", i);
        mvcc_txn_put(m, slice_of(key, (size_t)size), slice_of(value, value_size), 0, NULL);
    }
    mvcc_txn_end(m);
    mvcc_txn_begin(m); /* below the newest revision they may be moved, also while it is pinned */
    mvcc_txn_put(m, SLICE_LITERAL("k/00000"), slice_of(value, value_size), 0, NULL);
    mvcc_txn_end(m);
    mvcc_publish(m);
    mem_free(value);
}

/* As etcd's: 10, then twice as many as long as a message is less than half of what is wanted; half
 * as many when it is more than twice. */
START_TEST(test_stream_sizes)
{
    struct wire_range_request req = all_keys();
    put_many(3500, 1);
    check_sizes(&req, NO_SIZE, (uint64_t[]){10, 20, 40, 80, 160, 320, 640, 1023, 1023, 184}, 10);
    req.limit = 25;
    check_sizes(&req, NO_SIZE, (uint64_t[]){10, 15}, 2);
    req.limit = 30;
    check_sizes(&req, NO_SIZE, (uint64_t[]){10, 20}, 2);
    req.limit = 5;
    check_sizes(&req, NO_SIZE, (uint64_t[]){5}, 1);
    empty();
    req.limit = 0;
    put_many(21, 1000);
    check_sizes(&req, 4000, (uint64_t[]){10, 5, 5, 1}, 4);
    check_sizes(&req, 1, (uint64_t[]){10, 5, 2, 1, 1, 1, 1}, 7);
    empty();
}
END_TEST

static void compact_all(void)
{
    if (mvcc_compact(m, mvcc_revision(m)) == 0)
        mvcc_publish(m);
    while (mvcc_scrub(m, 1000))
        continue;
    for (int i = 0; i < 10; i++) {
        (void)mvcc_pack(m, 1000);
        epoch_collect(mvcc_epoch(m));
    }
}

static void overwrite(void)
{
    for (unsigned i = 0; i < 40; i++) {
        char key[32];
        int size = snprintf(key, sizeof(key), "k/%05u", i * 37 % 700);
        mvcc_txn_begin(m);
        mvcc_txn_delete_range(m, slice_of(key, (size_t)size), SLICE_EMPTY, NULL, NULL);
        mvcc_txn_put(m, SLICE_LITERAL("k/new"), slice_of(key, (size_t)size), 0, NULL);
        mvcc_txn_end(m);
    }
    mvcc_publish(m);
    compact_all();
}

/* The revision stays as it was, however much happens and whatever is compacted. */
START_TEST(test_stream_stands_still)
{
    struct wire_range_request req = all_keys();
    struct stream_answer a;
    put_many(700, 50);
    struct slice whole = run(&req, UINT64_MAX);
    run_stream(&req, NO_SIZE, 100, overwrite, &a);
    check_same(&a, whole);
    ck_assert_uint_gt(mvcc_revision(m), 400);
    ck_assert_uint_eq(mvcc_pins_count(m), 0);
    buf_fini(&a.joined);
    mem_free((void *)whole.data);
    empty();
}
END_TEST

/* A target without an order sorts each message, and the next one begins behind what came last. Of
 * 30 keys, each older than the one before, the ten that are first come by age: the last of them is
 * the first key, and so it goes on behind that. */
START_TEST(test_stream_sorted_message_by_message)
{
    struct wire_range_request req = all_keys();
    struct stream_answer a;
    m = mvcc_new(&moving);
    reader = epoch_register(mvcc_epoch(m));
    for (int i = 29; i >= 0; i--) {
        char key[32];
        int size = snprintf(key, sizeof(key), "k/%02d", i);
        mvcc_txn_begin(m);
        mvcc_txn_put(m, slice_of(key, (size_t)size), SLICE_LITERAL("v"), 0, NULL);
        mvcc_txn_end(m);
    }
    mvcc_publish(m);
    req.sort_target = WIRE_SORT_MOD;
    run_stream(&req, NO_SIZE, UINT64_MAX, NULL, &a);
    struct wire_reader at = wire_reader_of(buf_slice(&a.joined));
    struct wire_kv kv;
    /* Of the first eleven the ten oldest: k/10 .. k/01. Then behind k/01: k/22 .. k/03, and so on.
     */
    ck_assert_int_eq(wire_next_kv(&at, WIRE_RANGE_KVS, &kv), 1);
    ck_assert(slice_equal(kv.key, SLICE_LITERAL("k/10")));
    ck_assert_uint_eq(a.sizes[0], 10);
    ck_assert_uint_eq(a.sizes[1], 20);
    for (int i = 1; i < 11; i++)
        ck_assert_int_eq(wire_next_kv(&at, WIRE_RANGE_KVS, &kv), 1);
    ck_assert(slice_equal(kv.key, SLICE_LITERAL("k/22")));
    ck_assert_uint_eq(a.messages_count, 3);
    ck_assert_uint_eq(a.sizes[2], 26); /* behind k/03 */
    buf_fini(&a.joined);

    req.limit = -1; /* all in one, for all are sorted */
    struct slice whole = run(&req, UINT64_MAX);
    run_stream(&req, 1, 7, NULL, &a);
    check_same(&a, whole);
    ck_assert_uint_eq(a.messages_count, 1);
    buf_fini(&a.joined);
    mem_free((void *)whole.data);
    empty();
}
END_TEST

UNIT_MAIN("range", test_slices_make_the_same_answer, test_pieces_make_the_whole,
          test_sorts_filters_and_limits, test_keys_only_has_no_lease, test_revisions,
          test_stream_makes_the_same_answer, test_stream_sizes, test_stream_stands_still,
          test_stream_sorted_message_by_message)
