/* The members' own frames: every field comes back, and damage is refused or harmless. */
#include "unit.h"

#include "base/err.h"
#include "base/rng.h"
#include "proto/peerwire.h"

#include <stdlib.h>

static const char *const datas[] = {"", "x", "payload of an entry"};

static size_t put_raft(uint8_t *dst, const struct peerwire_raft *m)
{
    uint8_t *at = peerwire_raft_put_head(dst, m);
    ck_assert_int_eq(at - dst, PEERWIRE_RAFT_HEAD_BYTES);
    for (uint32_t i = 0; i < m->entries_count; i++) {
        struct peerwire_entry e = {UINT64_MAX - i, 100 + i, (uint8_t)i, slice_of_string(datas[i])};
        at = peerwire_entry_put_head(at, &e);
        memcpy(at, e.data.data, e.data.size);
        at += e.data.size;
    }
    return (size_t)(at - dst);
}

static struct peerwire_raft sample(uint32_t entries_count)
{
    return (struct peerwire_raft){
        .type = 7,
        .reject = true,
        .from = 1,
        .to = UINT64_MAX,
        .term = 3,
        .log_term = 4,
        .log_index = 5,
        .commit = 6,
        .reject_hint = 8,
        .context = 0x0102030405060708,
        .entries_count = entries_count,
    };
}

START_TEST(test_raft_comes_back)
{
    uint8_t bytes[256];
    struct peerwire_raft m = sample(3);
    struct peerwire_raft back;
    struct peerwire_entry e;
    size_t size = put_raft(bytes, &m);
    ck_assert_int_eq(peerwire_kind(slice_of(bytes, size)), PEERWIRE_RAFT);
    ck_assert_int_eq(peerwire_raft_decode(slice_of(bytes, size), &back), 0);
    ck_assert_int_eq(back.type, m.type);
    ck_assert(back.reject);
    ck_assert(!back.transfer);
    ck_assert_uint_eq(back.from, m.from);
    ck_assert_uint_eq(back.to, m.to);
    ck_assert_uint_eq(back.term, m.term);
    ck_assert_uint_eq(back.log_term, m.log_term);
    ck_assert_uint_eq(back.log_index, m.log_index);
    ck_assert_uint_eq(back.commit, m.commit);
    ck_assert_uint_eq(back.reject_hint, m.reject_hint);
    ck_assert_uint_eq(back.context, m.context);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert(peerwire_next_entry(&back.entries, &e));
        ck_assert_uint_eq(e.term, UINT64_MAX - i);
        ck_assert_uint_eq(e.log_index, 100 + i);
        ck_assert_uint_eq(e.type, i);
        ck_assert(slice_equal(e.data, slice_of_string(datas[i])));
    }
    ck_assert(!peerwire_next_entry(&back.entries, &e));
}
END_TEST

START_TEST(test_hello_and_lease_come_back)
{
    uint8_t bytes[64];
    struct peerwire_hello hello = {PEERWIRE_VERSION, 1, 2, UINT64_MAX};
    struct peerwire_hello hello_back;
    ck_assert_ptr_eq(peerwire_hello_put(bytes, &hello), bytes + PEERWIRE_HELLO_BYTES);
    ck_assert_int_eq(peerwire_hello_decode(slice_of(bytes, PEERWIRE_HELLO_BYTES), &hello_back), 0);
    ck_assert_uint_eq(hello_back.version, PEERWIRE_VERSION);
    ck_assert_uint_eq(hello_back.cluster_id, 1);
    ck_assert_uint_eq(hello_back.from, 2);
    ck_assert_uint_eq(hello_back.to, UINT64_MAX);

    struct peerwire_question question = {
        false, 2, 9, UINT64_MAX, INT64_MIN, 60, TV_LEASE_NOT_FOUND};
    struct peerwire_question back;
    ck_assert_ptr_eq(peerwire_question_put(bytes, &question), bytes + PEERWIRE_QUESTION_BYTES);
    ck_assert_int_eq(peerwire_question_decode(slice_of(bytes, PEERWIRE_QUESTION_BYTES), &back), 0);
    ck_assert(!back.is_reply);
    ck_assert(back.about == 2);
    ck_assert_uint_eq(back.token, 9);
    ck_assert_uint_eq(back.subject, UINT64_MAX);
    ck_assert_int_eq(back.ttl, INT64_MIN);
    ck_assert_int_eq(back.granted_ttl, 60);
    ck_assert_int_eq(back.err, TV_LEASE_NOT_FOUND);
}
END_TEST

/* A frame that is cut or padded is none, at any length. */
START_TEST(test_wrong_length)
{
    uint8_t bytes[256] = {0};
    struct peerwire_raft m = sample(3);
    struct peerwire_raft raft;
    struct peerwire_hello hello;
    struct peerwire_question lease;
    size_t size = put_raft(bytes, &m);
    for (size_t cut = 0; cut <= size + 1; cut++) {
        uint8_t *exact = malloc(cut + (cut == 0));
        memcpy(exact, bytes, cut);
        ck_assert_int_eq(peerwire_raft_decode(slice_of(exact, cut), &raft),
                         cut == size ? 0 : TV_EMALFORMED);
        ck_assert_int_eq(peerwire_hello_decode(slice_of(exact, cut), &hello), TV_EMALFORMED);
        ck_assert_int_eq(peerwire_question_decode(slice_of(exact, cut), &lease), TV_EMALFORMED);
        free(exact);
    }
    m.entries_count = PEERWIRE_ENTRIES_MAX + 1;
    (void)peerwire_raft_put_head(bytes, &m);
    ck_assert_int_eq(peerwire_raft_decode(slice_of(bytes, size), &raft), TV_EMALFORMED);
    m.entries_count = 4; /* says one more than there is */
    (void)peerwire_raft_put_head(bytes, &m);
    ck_assert_int_eq(peerwire_raft_decode(slice_of(bytes, size), &raft), TV_EMALFORMED);
}
END_TEST

START_TEST(test_damaged)
{
    struct rng r;
    rng_init(&r, 7);
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[256];
        struct peerwire_raft m = sample((uint32_t)rng_below(&r, 4));
        struct peerwire_entry e;
        size_t size = put_raft(bytes, &m);
        for (int i = 0; i < 3; i++)
            bytes[rng_below(&r, size)] ^= (uint8_t)(1 << rng_below(&r, 8));
        uint8_t *exact = malloc(size);
        memcpy(exact, bytes, size);
        if (peerwire_raft_decode(slice_of(exact, size), &m) == 0)
            while (peerwire_next_entry(&m.entries, &e))
                ck_assert(e.data.data + e.data.size <= exact + size);
        free(exact);
    }
}
END_TEST

UNIT_MAIN("peerwire", test_raft_comes_back, test_hello_and_lease_come_back, test_wrong_length,
          test_damaged)
