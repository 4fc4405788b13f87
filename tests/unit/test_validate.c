/* Validation of requests. Transactions are written in a small language:
 *
 *   pK put   dK delete   dK-E delete the range   rK get   . an empty operation   t(S|F) a
 * transaction
 *
 * with one letter for K and E (0 stands for the byte 0, _ for no key), "S|F" for a whole one. */
#include "unit.h"

#include "server/validate.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"

#include <stdio.h>
#include <string.h>

/* --- the language --- */

static struct slice key_of(const char *p)
{
    if (*p == '_')
        return SLICE_EMPTY;
    return *p == '0' ? slice_of("", 1) : slice_of(p, 1);
}

static void append_item(struct buf *b, uint32_t number, struct slice item)
{
    uint8_t *p = buf_reserve(b, wire_item_size(number, item.size));
    b->size += (size_t)(wire_item_put(p, number, item) - p);
}

static const char *build_txn(const char *p, struct buf *out);

/* One operation as a RequestOp; returns where it ends. */
static const char *build_op(const char *p, struct buf *out)
{
    struct wire_op op = {.kind = WIRE_OP_NONE};
    struct slice key = p[0] == 't' || p[0] == '.' ? SLICE_EMPTY : key_of(p + 1);
    switch (*p++) {
    case '.':
        return p;
    case 't': {
        struct buf inner;
        buf_init(&inner, SIZE_MAX);
        p = build_txn(p + 1, &inner) + 1; /* the brackets */
        append_item(out, wire_op_field(WIRE_OP_TXN), buf_slice(&inner));
        buf_fini(&inner);
        return p;
    }
    case 'p':
        op = (struct wire_op){.kind = WIRE_OP_PUT, .put = {.key = key}};
        break;
    case 'd':
        op = (struct wire_op){.kind = WIRE_OP_DELETE_RANGE, .delete_range = {.key = key}};
        break;
    default:
        op = (struct wire_op){.kind = WIRE_OP_RANGE, .range = {.key = key}};
        break;
    }
    p++;
    if (op.kind == WIRE_OP_DELETE_RANGE && *p == '-') {
        op.delete_range.range_end = key_of(p + 1);
        p += 2;
    }
    uint8_t *dst = buf_reserve(out, wire_op_size(&op));
    out->size += (size_t)(wire_op_put(dst, &op) - dst);
    return p;
}

/* Up to the end or a closing bracket, which is returned. */
static const char *build_txn(const char *p, struct buf *out)
{
    uint32_t branch = WIRE_TXN_SUCCESS;
    while (*p != '\0' && *p != ')') {
        if (*p == '|') {
            branch = WIRE_TXN_FAILURE;
            p++;
        } else if (*p == ' ') {
            p++;
        } else {
            struct buf op;
            buf_init(&op, SIZE_MAX);
            p = build_op(p, &op);
            append_item(out, branch, buf_slice(&op));
            buf_fini(&op);
        }
    }
    return p;
}

static int validate(const char *text, uint32_t ops_max)
{
    struct buf msg;
    buf_init(&msg, SIZE_MAX);
    ck_assert_int_eq(*build_txn(text, &msg), '\0');
    struct wire_txn txn;
    ck_assert_int_eq(wire_txn_decode(buf_slice(&msg), &txn), 0);
    int err = validate_txn(&txn, ops_max);
    buf_fini(&msg);
    return err;
}

/* --- single operations --- */

START_TEST(test_range)
{
    static const struct {
        struct wire_range_request req;
        int err;
    } cases[] = {
        {{.key = SLICE_LITERAL("a")}, 0},
        {{.sort_order = 9}, TV_EMPTY_KEY},
        {{.key = SLICE_LITERAL("a"), .sort_order = 2, .sort_target = 4}, 0},
        {{.key = SLICE_LITERAL("a"), .sort_order = 3}, TV_INVALID_SORT_OPTION},
        {{.key = SLICE_LITERAL("a"), .sort_order = -1}, TV_INVALID_SORT_OPTION},
        {{.key = SLICE_LITERAL("a"), .sort_target = 5}, TV_INVALID_SORT_OPTION},
        {{.key = SLICE_LITERAL("a"), .sort_target = INT32_MIN}, TV_INVALID_SORT_OPTION},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_int_eq(validate_range(&cases[i].req), cases[i].err);
}
END_TEST

START_TEST(test_range_stream)
{
    static const struct {
        struct wire_range_request req;
        int err;
    } cases[] = {
        {{.key = SLICE_LITERAL("a"), .keys_only = true, .count_only = true, .limit = -1}, 0},
        {{.sort_order = 2, .min_mod_revision = 1}, TV_EMPTY_KEY},
        {{.key = SLICE_LITERAL("a"), .sort_order = 3}, TV_INVALID_SORT_OPTION},
        {{.key = SLICE_LITERAL("a"), .sort_order = 1}, 0},
        {{.key = SLICE_LITERAL("a"), .sort_target = 4}, 0},
        {{.key = SLICE_LITERAL("a"), .sort_order = 2}, TV_RANGE_STREAM_SORT},
        {{.key = SLICE_LITERAL("a"), .sort_order = 1, .sort_target = 1, .min_mod_revision = 1},
         TV_RANGE_STREAM_SORT},
        {{.key = SLICE_LITERAL("a"), .min_mod_revision = 1}, TV_RANGE_STREAM_FILTER},
        {{.key = SLICE_LITERAL("a"), .max_mod_revision = -1}, TV_RANGE_STREAM_FILTER},
        {{.key = SLICE_LITERAL("a"), .min_create_revision = 1}, TV_RANGE_STREAM_FILTER},
        {{.key = SLICE_LITERAL("a"), .max_create_revision = 1}, TV_RANGE_STREAM_FILTER},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_int_eq(validate_range_stream(&cases[i].req), cases[i].err);
}
END_TEST

START_TEST(test_put_and_delete)
{
    static const struct {
        struct wire_put_request req;
        int err;
    } cases[] = {
        {{.key = SLICE_LITERAL("a"), .value = SLICE_LITERAL("v"), .lease = 1}, 0},
        {{.value = SLICE_LITERAL("v"), .ignore_value = true}, TV_EMPTY_KEY},
        {{.key = SLICE_LITERAL("a"), .ignore_value = true, .lease = 1}, 0},
        {{.key = SLICE_LITERAL("a"), .value = SLICE_LITERAL("v"), .ignore_value = true},
         TV_VALUE_PROVIDED},
        {{.key = SLICE_LITERAL("a"), .value = SLICE_LITERAL("v"), .ignore_lease = true}, 0},
        {{.key = SLICE_LITERAL("a"), .lease = -1, .ignore_lease = true}, TV_LEASE_PROVIDED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_int_eq(validate_put(&cases[i].req), cases[i].err);

    struct wire_delete_range_request del = {.range_end = SLICE_LITERAL("b")};
    ck_assert_int_eq(validate_delete_range(&del), TV_EMPTY_KEY);
    del.key = SLICE_LITERAL("a");
    ck_assert_int_eq(validate_delete_range(&del), 0);
}
END_TEST

/* --- transactions --- */

START_TEST(test_txn)
{
    static const struct {
        const char *text;
        int err;
    } cases[] = {
        {"", 0},
        {"pa|ra", 0},
        {"pa pb|pa pb", 0},
        {"p_", TV_EMPTY_KEY},
        {"|p_", TV_EMPTY_KEY},
        {"r_", TV_EMPTY_KEY},
        {"d_", TV_EMPTY_KEY},
        {"t(|t(p_|)|)", TV_EMPTY_KEY},
        {".", TV_KEY_NOT_FOUND},
        {". p_", TV_KEY_NOT_FOUND}, /* the first that is wrong */
        {"p_ .", TV_EMPTY_KEY},
        {"pa pa|.", TV_KEY_NOT_FOUND}, /* duplicates are looked for at the end */
        {"pa pa", TV_DUPLICATE_KEY},
        {"|pa pb pa", TV_DUPLICATE_KEY},
        {"da da", 0},
        {"da-c db-d", 0},
        {"pa da", TV_DUPLICATE_KEY},
        {"da pa", TV_DUPLICATE_KEY},
        {"da pb", 0},
        {"da-c pb", TV_DUPLICATE_KEY},
        {"db-d pa pd", 0},
        {"db-d pb", TV_DUPLICATE_KEY},
        {"db-d pc", TV_DUPLICATE_KEY},
        {"dd-b pc", 0}, /* ends before it begins */
        {"da-0 pb", 0}, /* all from a on: etcd does not see it */
        {"da-0 pa", 0},
        {"d0-z pb", TV_DUPLICATE_KEY},
        {"da | pa", 0},
        {"t(pa|pa)", 0},
        {"t(pa|da)", 0},
        {"t(da|pa)", 0},
        {"t(pa pa|)", TV_DUPLICATE_KEY},
        {"t(|pa da)", TV_DUPLICATE_KEY},
        {"pa t(pa|)", TV_DUPLICATE_KEY},
        {"t(|pa) pa", TV_DUPLICATE_KEY},
        {"pa t(|da)", TV_DUPLICATE_KEY},
        {"da t(|pa)", TV_DUPLICATE_KEY},
        {"t(pa|) t(pa|)", TV_DUPLICATE_KEY},
        {"t(pa|) t(|pa)", TV_DUPLICATE_KEY},
        {"t(pa|pa) t(pb|pb)", 0},
        {"t(da|) t(pa|)", TV_DUPLICATE_KEY},
        {"t(pa|) t(da|)", 0}, /* the delete comes later: etcd does not look back */
        {"t(t(pa|pa)|t(pa|pa))", 0},
        {"t(t(pa|) t(|pa)|)", TV_DUPLICATE_KEY},
        {"t(t(da|)|t(pa|))", 0},
        {"t(db|t(da|pa)) t(pa|)", TV_DUPLICATE_KEY},
        {"t(t(da|pa)|t(pa|)) t(pb|)", 0},
        {"t(t(da|pa)|t(pa|)) t(|pa)", TV_DUPLICATE_KEY},
        {"da-z t(|t(|pm))", TV_DUPLICATE_KEY},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int err = validate(cases[i].text, 128);
        ck_assert_msg(err == cases[i].err, "%s: %s", cases[i].text, tv_err_name(err));
    }
}
END_TEST

START_TEST(test_ops_max)
{
    static const struct {
        const char *text;
        uint32_t max;
        int err;
    } cases[] = {
        {"", 0, 0},
        {"pa", 0, TV_TOO_MANY_OPS},
        {"pa pb", 2, 0},
        {"pa|pb", 1, 0},
        {"pa|pb pc", 1, TV_TOO_MANY_OPS},
        {"p_ pb", 1, TV_TOO_MANY_OPS},
        {"t(pa|)", 2, 0},
        {"t(pa|)", 1, TV_TOO_MANY_OPS},
        {"t(|) pa", 2, 0},
        {"t(pa|) rb", 3, 0},
        {"t(pa|) rb", 2, TV_TOO_MANY_OPS},
        {"t(t(t(pa|)|)|)", 4, 0},
        {"t(t(t(pa|)|)|)", 3, TV_TOO_MANY_OPS},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int err = validate(cases[i].text, cases[i].max);
        ck_assert_msg(err == cases[i].err, "%s: %s", cases[i].text, tv_err_name(err));
    }
}
END_TEST

static int validate_compare(struct slice key, uint32_t count, uint32_t max)
{
    struct buf msg, one;
    buf_init(&msg, SIZE_MAX);
    buf_init(&one, SIZE_MAX);
    struct wire_compare c = {.key = key, .with = -1};
    uint8_t *p = buf_reserve(&one, wire_compare_size(&c));
    one.size += (size_t)(wire_compare_put(p, &c) - p);
    for (uint32_t i = 0; i < count; i++)
        append_item(&msg, WIRE_TXN_COMPARE, buf_slice(&one));
    build_txn(".", &msg);
    struct wire_txn txn;
    ck_assert_int_eq(wire_txn_decode(buf_slice(&msg), &txn), 0);
    int err = validate_txn(&txn, max);
    buf_fini(&one);
    buf_fini(&msg);
    return err;
}

START_TEST(test_compares)
{
    ck_assert_int_eq(validate_compare(SLICE_EMPTY, 1, 128), TV_EMPTY_KEY);
    ck_assert_int_eq(validate_compare(SLICE_LITERAL("a"), 1, 128), TV_KEY_NOT_FOUND);
    ck_assert_int_eq(validate_compare(SLICE_LITERAL("a"), 128, 128), TV_KEY_NOT_FOUND);
    ck_assert_int_eq(validate_compare(SLICE_LITERAL("a"), 129, 128), TV_TOO_MANY_OPS);
}
END_TEST

/* --- against a model that keeps sets, as simply as the rule can be said --- */

enum { SET_MAX = 4096 };

struct writes {
    uint32_t puts_count, deletes_count;
    struct slice puts[SET_MAX];
    struct wire_delete_range_request deletes[SET_MAX];
};

static bool is_put(const struct writes *w, struct slice key)
{
    for (uint32_t i = 0; i < w->puts_count; i++)
        if (slice_equal(w->puts[i], key))
            return true;
    return false;
}

static bool is_deleted(const struct writes *w, struct slice key)
{
    for (uint32_t i = 0; i < w->deletes_count; i++) {
        const struct wire_delete_range_request *d = &w->deletes[i];
        if (d->range_end.size == 0
                ? slice_equal(d->key, key)
                : slice_compare(d->key, key) <= 0 && slice_compare(key, d->range_end) < 0)
            return true;
    }
    return false;
}

static bool model(const struct wire_txn *txn, bool success, struct writes *w);

/* Add the writes of the transaction's branches; false when they clash. */
static bool model_txn(const struct wire_txn *txn, struct writes *w)
{
    struct writes *then = calloc(2, sizeof(*then)), *other = then + 1;
    bool ok = model(txn, true, then) && model(txn, false, other);
    for (uint32_t i = 0; ok && i < then->puts_count; i++)
        ok = !is_put(w, then->puts[i]) && !is_deleted(w, then->puts[i]);
    for (uint32_t i = 0; ok && i < other->puts_count; i++)
        ok = !is_put(w, other->puts[i]) && !is_deleted(w, other->puts[i]);
    for (uint32_t b = 0; ok && b < 2; b++) {
        for (uint32_t i = 0; i < then[b].puts_count; i++)
            w->puts[w->puts_count++] = then[b].puts[i];
        for (uint32_t i = 0; i < then[b].deletes_count; i++)
            w->deletes[w->deletes_count++] = then[b].deletes[i];
    }
    free(then);
    return ok;
}

static bool model(const struct wire_txn *txn, bool success, struct writes *w)
{
    struct wire_txn_it it;
    struct wire_op op;
    wire_txn_ops(txn, success, &it);
    while (wire_next_op(&it, &op))
        if (op.kind == WIRE_OP_DELETE_RANGE)
            w->deletes[w->deletes_count++] = op.delete_range;
    wire_txn_ops(txn, success, &it);
    while (wire_next_op(&it, &op))
        if (op.kind == WIRE_OP_TXN && !model_txn(&op.txn, w))
            return false;
    wire_txn_ops(txn, success, &it);
    while (wire_next_op(&it, &op)) {
        if (op.kind != WIRE_OP_PUT)
            continue;
        if (is_put(w, op.put.key) || is_deleted(w, op.put.key))
            return false;
        w->puts[w->puts_count++] = op.put.key;
    }
    return true;
}

static char random_key(struct rng *rng, uint32_t keys)
{
    return "0abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ123456789"[rng_below(rng, keys)];
}

/* Appends to `text`; returns its end. */
static char *random_branch(struct rng *rng, char *p, uint32_t depth, uint32_t ops, uint32_t keys)
{
    for (uint64_t n = rng_below(rng, ops + 1); n > 0; n--) {
        uint64_t what = rng_below(rng, 20);
        if (depth > 0 && what < 6) {
            *p++ = 't';
            *p++ = '(';
            p = random_branch(rng, p, depth - 1, ops, keys);
            *p++ = '|';
            p = random_branch(rng, p, depth - 1, ops, keys);
            *p++ = ')';
        } else {
            *p++ = what < 9 ? 'd' : what < 19 ? 'p' : 'r';
            *p++ = random_key(rng, keys);
            if (what < 8) {
                *p++ = '-';
                *p++ = random_key(rng, keys);
            }
        }
    }
    return p;
}

static void compare_with_model(struct rng *rng, uint32_t depth, uint32_t ops, uint32_t keys,
                               uint32_t *verdicts)
{
    static char text[1 << 20];
    char *p = random_branch(rng, text, depth, ops, keys);
    *p = '\0';
    struct buf msg;
    buf_init(&msg, SIZE_MAX);
    build_txn(text, &msg);
    struct wire_txn txn;
    ck_assert_int_eq(wire_txn_decode(buf_slice(&msg), &txn), 0);
    struct writes *w = calloc(1, sizeof(*w));
    bool ok = model(&txn, true, w);
    free(w);
    int err = validate_txn(&txn, 100000);
    ck_assert_msg(err == (ok ? 0 : TV_DUPLICATE_KEY), "%s: %s", text, tv_err_name(err));
    verdicts[ok]++;
    buf_fini(&msg);
}

START_TEST(test_txn_random)
{
    struct rng rng;
    rng_init(&rng, 3);
    uint32_t verdicts[2] = {0};
    for (uint32_t i = 0; i < 20000; i++)
        compare_with_model(&rng, (uint32_t)rng_below(&rng, 4), 2 + (uint32_t)rng_below(&rng, 3),
                           4 + (uint32_t)rng_below(&rng, 50), verdicts);
    ck_assert_uint_gt(verdicts[0], 2000);
    ck_assert_uint_gt(verdicts[1], 2000);
}
END_TEST

/* Thousands of operations take n log n: this would not end otherwise. */
START_TEST(test_txn_large)
{
    enum { COUNT = 60000 };
    struct buf msg;
    buf_init(&msg, SIZE_MAX);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint8_t key[4] = {1, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
        uint8_t low[4] = {0, key[1], key[2], key[3]}, high[1] = {1};
        struct wire_op ops[2] = {
            {.kind = WIRE_OP_PUT, .put = {.key = slice_of(key, 4)}},
            {.kind = WIRE_OP_DELETE_RANGE,
             .delete_range = {.key = slice_of(low, 4), .range_end = slice_of(high, 1)}}};
        for (uint32_t j = 0; j < 2; j++) {
            uint8_t op[64];
            append_item(&msg, WIRE_TXN_SUCCESS,
                        slice_of(op, (size_t)(wire_op_put(op, &ops[j]) - op)));
        }
    }
    struct wire_txn txn;
    ck_assert_int_eq(wire_txn_decode(buf_slice(&msg), &txn), 0);
    ck_assert_int_eq(validate_txn(&txn, 2 * COUNT), 0);
    ck_assert_int_eq(validate_txn(&txn, 2 * COUNT - 1), TV_TOO_MANY_OPS);
    struct wire_op last = {.kind = WIRE_OP_PUT, .put = {.key = slice_of("\0\0\0\5", 4)}};
    uint8_t op[64];
    append_item(&msg, WIRE_TXN_SUCCESS, slice_of(op, (size_t)(wire_op_put(op, &last) - op)));
    ck_assert_int_eq(wire_txn_decode(buf_slice(&msg), &txn), 0);
    ck_assert_int_eq(validate_txn(&txn, 2 * COUNT + 1), TV_DUPLICATE_KEY);
    buf_fini(&msg);
}
END_TEST

UNIT_MAIN("validate", test_range, test_range_stream, test_put_and_delete, test_txn, test_ops_max,
          test_compares, test_txn_random, test_txn_large)
