/* The store in memory, operation by operation. */
#include "unit.h"

#include "storage/mvcc.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

static struct mvcc *m;
static struct epoch_reader *reader;

static void setup(void)
{
    struct mvcc_options o;
    mvcc_options_init(&o);
    o.move_all = true;
    m = mvcc_new(&o);
    reader = epoch_register(mvcc_epoch(m));
}

static void teardown(void)
{
    epoch_unregister(reader);
    mvcc_free(m);
}

static struct slice str(const char *text)
{
    return slice_of_string(text);
}

static int64_t put(const char *key, const char *value)
{
    mvcc_txn_begin(m);
    mvcc_txn_put(m, str(key), str(value), 0, NULL);
    int64_t rev = mvcc_txn_end(m);
    mvcc_publish(m);
    return rev;
}

static int64_t del(const char *key, struct slice range_end)
{
    mvcc_txn_begin(m);
    int64_t count = mvcc_txn_delete_range(m, str(key), range_end, NULL, NULL);
    mvcc_txn_end(m);
    mvcc_publish(m);
    return count;
}

static void check_value(const struct mvcc_version *v, const char *value)
{
    ck_assert_ptr_nonnull(v);
    ck_assert(slice_equal(mvcc_version_value(v), str(value)));
}

static void scrub_all(void)
{
    while (!mvcc_scrub_is_done(m))
        (void)mvcc_scrub(m, 3);
}

static uint64_t versions_count(void)
{
    struct mvcc_stats s;
    mvcc_stats(m, &s);
    return s.versions;
}

START_TEST(test_fresh)
{
    ck_assert_int_eq(mvcc_revision(m), 1);
    ck_assert_int_eq(mvcc_compacted(m), -1);
    ck_assert_ptr_null(mvcc_get(m, str("a"), 0));
    ck_assert_int_eq(mvcc_count(m, SLICE_EMPTY, slice_of("", 1), 0), 0);
    int64_t rev;
    ck_assert_int_eq(mvcc_check_revision(m, 0, &rev), 0);
    ck_assert_int_eq(rev, 1);
    ck_assert_int_eq(mvcc_check_revision(m, 2, &rev), TV_FUTURE_REV);
}
END_TEST

START_TEST(test_generations)
{
    ck_assert_int_eq(put("k", "1"), 2);
    ck_assert_int_eq(put("k", "2"), 3);
    ck_assert_int_eq(del("k", SLICE_EMPTY), 1);
    ck_assert_int_eq(del("k", SLICE_EMPTY), 0);
    ck_assert_int_eq(mvcc_revision(m), 4);
    ck_assert_int_eq(put("k", "3"), 5);

    const struct mvcc_version *v = mvcc_get(m, str("k"), 3);
    check_value(v, "2");
    ck_assert_int_eq(mvcc_version_create_revision(v), 2);
    ck_assert_int_eq(mvcc_version_version(v), 2);
    check_value(mvcc_version_prev(v), "1");
    ck_assert_ptr_null(mvcc_get(m, str("k"), 1));
    ck_assert_ptr_null(mvcc_get(m, str("k"), 4));
    v = mvcc_get(m, str("k"), 0);
    check_value(v, "3");
    ck_assert_int_eq(mvcc_version_create_revision(v), 5);
    ck_assert_int_eq(mvcc_version_version(v), 1);
    ck_assert(mvcc_version_is_created(v));
    ck_assert_ptr_null(mvcc_version_prev(v));
}
END_TEST

START_TEST(test_encoding)
{
    mvcc_txn_begin(m);
    mvcc_txn_put(m, str("key"), str("value"), 300, NULL);
    const struct mvcc_version *v = mvcc_txn_put(m, str("other"), SLICE_EMPTY, 0, NULL);
    ck_assert_uint_eq(mvcc_version_sub(v), 1);
    static const char other[] = "\x0a\x05other\x10\x02\x18\x02\x20\x01";
    ck_assert(slice_equal(mvcc_version_kv(v), slice_of(other, sizeof(other) - 1)));
    mvcc_txn_end(m);
    mvcc_publish(m);
    v = mvcc_get(m, str("key"), 0);
    static const char key[] = "\x0a\x03key\x10\x02\x18\x02\x20\x01\x2a\x05value\x30\xac\x02";
    ck_assert(slice_equal(mvcc_version_kv(v), slice_of(key, sizeof(key) - 1)));
    ck_assert_int_eq(mvcc_version_lease(v), 300);

    del("key", SLICE_EMPTY);
    struct mvcc_history_cursor c;
    ck_assert_int_eq(mvcc_history_seek(m, &c, 3), 0);
    v = mvcc_history_next(&c, 3);
    static const char tombstone[] = "\x0a\x03key\x18\x03";
    ck_assert(slice_equal(mvcc_version_kv(v), slice_of(tombstone, sizeof(tombstone) - 1)));
    ck_assert(slice_equal(mvcc_version_stored_kv(v), slice_of(tombstone, 5)));
    ck_assert(mvcc_version_is_tombstone(v));
    check_value(mvcc_version_prev(v), "value");
    ck_assert_ptr_null(mvcc_history_next(&c, 3));
}
END_TEST

START_TEST(test_long_key)
{
    char key[3][300];
    for (int i = 0; i < 3; i++) {
        memset(key[i], 'x', sizeof(key[i]));
        key[i][299] = (char)('a' + i);
        mvcc_txn_begin(m);
        mvcc_txn_put(m, slice_of(key[i], 300), str("v"), 0, NULL);
        mvcc_txn_end(m);
    }
    mvcc_publish(m);
    for (int i = 0; i < 3; i++) {
        const struct mvcc_version *v = mvcc_get(m, slice_of(key[i], 300), 0);
        ck_assert_int_eq(mvcc_version_mod_revision(v), 2 + i);
        ck_assert(slice_equal(mvcc_version_key(v), slice_of(key[i], 300)));
    }
    ck_assert_ptr_null(mvcc_get(m, slice_of(key[0], 299), 0));
}
END_TEST

START_TEST(test_txn_sees_itself)
{
    put("a", "1");
    ck_assert_int_eq(mvcc_txn_begin(m), 3);
    ck_assert_int_eq(mvcc_txn_revision(m), 2);
    const struct mvcc_version *prev;
    mvcc_txn_put(m, str("a"), str("2"), 0, &prev);
    check_value(prev, "1");
    ck_assert_int_eq(mvcc_txn_revision(m), 3);
    check_value(mvcc_txn_get(m, str("a"), 0), "2");
    check_value(mvcc_txn_get(m, str("a"), 2), "1");
    check_value(mvcc_get(m, str("a"), 0), "1");
    /* Several versions of one key within a revision. */
    ck_assert_int_eq(mvcc_txn_delete_range(m, str("a"), SLICE_EMPTY, NULL, NULL), 1);
    ck_assert_ptr_null(mvcc_txn_get(m, str("a"), 0));
    mvcc_txn_put(m, str("a"), str("3"), 0, &prev);
    ck_assert_ptr_null(prev);
    mvcc_txn_put(m, str("b"), str("4"), 0, NULL);
    ck_assert_int_eq(mvcc_txn_count(m, str("a"), str("c"), 0), 2);
    ck_assert_int_eq(mvcc_txn_count(m, str("a"), str("c"), 2), 1);
    ck_assert_int_eq(mvcc_txn_end(m), 3);
    ck_assert_int_eq(mvcc_revision(m), 2);
    check_value(mvcc_get(m, str("a"), 0), "1");
    mvcc_publish(m);
    ck_assert_int_eq(mvcc_revision(m), 3);
    const struct mvcc_version *v = mvcc_get(m, str("a"), 0);
    check_value(v, "3");
    ck_assert_int_eq(mvcc_version_create_revision(v), 3);
    ck_assert_uint_eq(mvcc_version_sub(v), 2);
    ck_assert_int_eq(mvcc_count(m, str("a"), str("c"), 3), 2);
    ck_assert_int_eq(mvcc_count(m, str("a"), str("c"), 2), 1);

    mvcc_txn_begin(m);
    ck_assert_int_eq(mvcc_txn_end(m), 3); /* nothing changed */
}
END_TEST

static int range_count(const char *key, struct slice range_end, int64_t rev, const char *first)
{
    struct mvcc_iter it;
    const struct mvcc_version *v;
    int count = 0;
    mvcc_iter_init(&it, m, str(key), range_end, rev);
    while ((v = mvcc_iter_next(&it)) != NULL) {
        if (count++ == 0 && first != NULL)
            ck_assert(slice_equal(mvcc_version_key(v), str(first)));
    }
    ck_assert_ptr_null(mvcc_iter_next(&it));
    ck_assert_int_eq(mvcc_count(m, str(key), range_end, rev), count);
    return count;
}

START_TEST(test_ranges)
{
    put("a", "1");
    put("b", "1");
    put("b\x01", "1");
    put("c", "1");
    struct slice open = slice_of("", 1);
    ck_assert_int_eq(range_count("b", SLICE_EMPTY, 0, "b"), 1);
    ck_assert_int_eq(range_count("bb", SLICE_EMPTY, 0, NULL), 0);
    ck_assert_int_eq(range_count("b", str("c"), 0, "b"), 2);
    ck_assert_int_eq(range_count("b", open, 0, "b"), 3);
    ck_assert_int_eq(range_count("", open, 0, "a"), 4);
    ck_assert_int_eq(range_count("", str("b"), 0, "a"), 1);
    ck_assert_int_eq(range_count("c", str("a"), 0, NULL), 0);
    ck_assert_int_eq(range_count("b", str("b"), 0, NULL), 0);
    ck_assert_int_eq(range_count("", open, 3, "a"), 2);
    struct mvcc_iter it;
    mvcc_iter_init_after(&it, m, str("b"), open, 0);
    ck_assert(slice_equal(mvcc_version_key(mvcc_iter_next(&it)), str("b\x01")));
    mvcc_iter_init_after(&it, m, str("bb"), str("c"), 0);
    ck_assert_ptr_null(mvcc_iter_next(&it));
}
END_TEST

START_TEST(test_delete_range)
{
    char key[16];
    mvcc_txn_begin(m);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof(key), "k%04d", i);
        mvcc_txn_put(m, str(key), str("v"), 0, NULL);
    }
    mvcc_txn_end(m);
    mvcc_publish(m);
    ck_assert_int_eq(del("k0100", str("k0900")), 800);
    ck_assert_int_eq(range_count("k", str("l"), 0, "k0000"), 200);
    ck_assert_int_eq(range_count("k", str("l"), 2, "k0000"), 1000);
    ck_assert_int_eq(del("", slice_of("", 1)), 200);
    ck_assert_int_eq(range_count("", slice_of("", 1), 0, NULL), 0);
    ck_assert_int_eq(mvcc_compact(m, 4), 0);
    mvcc_publish(m);
    scrub_all();
    ck_assert_uint_eq(versions_count(), 200); /* the tombstones of the compacted revision */
    put("k", "v");
    ck_assert_int_eq(mvcc_compact(m, 5), 0);
    mvcc_publish(m);
    scrub_all();
    ck_assert_uint_eq(versions_count(), 1);
}
END_TEST

START_TEST(test_compact)
{
    put("a", "1");         /* 2 */
    put("a", "2");         /* 3 */
    put("b", "1");         /* 4 */
    del("b", SLICE_EMPTY); /* 5 */
    put("a", "3");         /* 6 */
    ck_assert_int_eq(mvcc_compact(m, 7), TV_FUTURE_REV);
    ck_assert_int_eq(mvcc_compact(m, 5), 0);
    ck_assert_int_eq(mvcc_compact(m, 5), TV_COMPACTED);
    int64_t rev;
    ck_assert_int_eq(mvcc_check_revision(m, 4, &rev), 0); /* not published yet */
    mvcc_publish(m);
    ck_assert_int_eq(mvcc_check_revision(m, 4, &rev), TV_COMPACTED);
    ck_assert_int_eq(mvcc_compacted(m), 5);
    scrub_all();
    ck_assert_uint_eq(versions_count(), 3); /* a@3, a@6, tombstone of b@5 */
    check_value(mvcc_get(m, str("a"), 5), "2");
    ck_assert_ptr_null(mvcc_get(m, str("b"), 5));
    struct mvcc_history_cursor c;
    ck_assert_int_eq(mvcc_history_seek(m, &c, 4), TV_COMPACTED);
    ck_assert_int_eq(mvcc_history_seek(m, &c, 5), 0);
    ck_assert_int_eq(mvcc_version_mod_revision(mvcc_history_next(&c, 9)), 5);
    ck_assert_int_eq(mvcc_version_mod_revision(mvcc_history_next(&c, 9)), 6);
    ck_assert_ptr_null(mvcc_history_next(&c, 9));
    put("c", "1"); /* 7 */
    ck_assert_int_eq(mvcc_version_mod_revision(mvcc_history_next(&c, 9)), 7);
    ck_assert_int_eq(mvcc_compact(m, 6), 0);
    mvcc_publish(m);
    scrub_all();
    ck_assert_uint_eq(versions_count(), 2);
}
END_TEST

/* A key that is deleted and put at one revision is there when that one is compacted; etcd loses it.
 */
START_TEST(test_compact_at_delete_and_put)
{
    put("k", "1");
    mvcc_txn_begin(m);
    ck_assert_int_eq(mvcc_txn_delete_range(m, str("a"), slice_of("", 1), NULL, NULL), 1);
    mvcc_txn_put(m, str("k"), str("2"), 0, NULL);
    ck_assert_int_eq(mvcc_txn_end(m), 3);
    mvcc_publish(m);
    check_value(mvcc_get(m, str("k"), 0), "2");
    ck_assert_int_eq(mvcc_compact(m, 3), 0);
    mvcc_set_persisted_revision(m, 3);
    scrub_all();
    check_value(mvcc_get(m, str("k"), 0), "2");
    check_value(mvcc_get(m, str("k"), 3), "2");
}
END_TEST

START_TEST(test_scrub_waits)
{
    put("a", "1");
    put("a", "2");
    put("a", "3");
    epoch_enter(mvcc_epoch(m), reader);
    int64_t rev;
    ck_assert_int_eq(mvcc_check_revision(m, 2, &rev), 0);
    ck_assert_int_eq(mvcc_compact(m, 4), 0);
    mvcc_publish(m);
    ck_assert(!mvcc_scrub(m, 100));
    check_value(mvcc_get(m, str("a"), 2), "1"); /* the section began before the compaction */
    struct mvcc_pin pin;
    ck_assert_int_eq(mvcc_pin_take(m, &pin, 2), 0);
    epoch_leave(reader);
    ck_assert(!mvcc_scrub(m, 100));
    ck_assert(!mvcc_scrub_is_done(m));
    check_value(mvcc_get(m, str("a"), 2), "1");
    mvcc_pin_move(&pin, 3);
    ck_assert(!mvcc_scrub(m, 100));
    ck_assert_uint_eq(versions_count(), 2);
    check_value(mvcc_get(m, str("a"), 3), "2");
    mvcc_set_persisted_revision(m, 3);
    mvcc_pin_release(m, &pin);
    ck_assert(!mvcc_scrub(m, 100));
    ck_assert_uint_eq(versions_count(), 2);
    mvcc_set_persisted_revision(m, 4);
    ck_assert(!mvcc_scrub(m, 100));
    ck_assert(mvcc_scrub_is_done(m));
    ck_assert_uint_eq(versions_count(), 1);
}
END_TEST

/* All of a dropped version is read for the sum of the contents: a slice of large ones is a few. */
START_TEST(test_scrub_of_large_ones)
{
    enum { VERSIONS = 50, BYTES = 64 << 10, SLICE = 512, AT_ONCE_MAX = 5 };
    static char value[BYTES + 1];
    memset(value, 'x', BYTES);
    for (int i = 0; i < VERSIONS; i++)
        put("a", value);
    ck_assert_int_eq(mvcc_compact(m, mvcc_revision(m)), 0);
    mvcc_publish(m);
    uint64_t before = versions_count();
    while (mvcc_scrub(m, SLICE)) {
        ck_assert_uint_le(before - versions_count(), AT_ONCE_MAX);
        before = versions_count();
    }
    ck_assert_uint_eq(versions_count(), 1);
}
END_TEST

static int load_one(int64_t rev, uint32_t sub, bool tombstone, const char *key, int64_t created,
                    int64_t version)
{
    uint8_t kv[64];
    size_t size = 0, key_size = strlen(key);
    kv[size++] = 0x0a;
    kv[size++] = (uint8_t)key_size;
    memcpy(kv + size, key, key_size);
    size += key_size;
    if (!tombstone) {
        kv[size++] = 0x10, kv[size++] = (uint8_t)created;
        kv[size++] = 0x18, kv[size++] = (uint8_t)rev;
        kv[size++] = 0x20, kv[size++] = (uint8_t)version;
    }
    struct mvcc_version *v;
    ck_assert_int_eq(mvcc_version_new(rev, sub, tombstone, slice_of(kv, size), &v), 0);
    int rv = mvcc_load_add(m, v);
    if (rv != 0)
        mvcc_version_free(v);
    return rv;
}

START_TEST(test_load)
{
    put("old", "1");
    put("old", "2");
    mvcc_load_begin(m);
    ck_assert_int_eq(load_one(3, 0, false, "gone", 3, 1), 0);
    ck_assert_int_eq(load_one(4, 0, false, "b", 2, 3), 0); /* superseded, not yet scrubbed */
    ck_assert_int_eq(load_one(5, 0, false, "b", 2, 4), 0);
    ck_assert_int_eq(load_one(5, 0, false, "x", 2, 4), TV_ECORRUPT);
    ck_assert_int_eq(load_one(6, 0, true, "gone", 0, 0), 0);
    ck_assert_int_eq(load_one(7, 0, true, "c", 0, 0), 0); /* at the compaction */
    ck_assert_int_eq(load_one(8, 0, false, "b", 2, 5), 0);
    ck_assert_int_eq(load_one(8, 1, false, "a", 8, 1), 0);
    check_value(mvcc_get(m, str("old"), 0), "2");
    mvcc_load_end(m, 10, 7);
    ck_assert_int_eq(mvcc_revision(m), 10);
    ck_assert_int_eq(mvcc_compacted(m), 7);
    ck_assert_ptr_null(mvcc_get(m, str("old"), 0));
    ck_assert_uint_eq(versions_count(), 4);
    ck_assert_int_eq(range_count("", slice_of("", 1), 0, "a"), 2);
    ck_assert_int_eq(range_count("", slice_of("", 1), 7, "b"), 1);
    ck_assert_int_eq(mvcc_version_version(mvcc_get(m, str("b"), 7)), 4);
    struct mvcc_history_cursor c;
    ck_assert_int_eq(mvcc_history_seek(m, &c, 6), TV_COMPACTED);
    ck_assert_int_eq(mvcc_history_seek(m, &c, 7), 0);
    int count = 0;
    while (mvcc_history_next(&c, 100) != NULL)
        count++;
    ck_assert_int_eq(count, 3);
    ck_assert_int_eq(put("b", "9"), 11);
    ck_assert_int_eq(mvcc_version_version(mvcc_get(m, str("b"), 0)), 6);

    mvcc_load_begin(m);
    ck_assert_int_eq(load_one(3, 0, false, "gone", 3, 1), 0);
    mvcc_load_abort(m);
    check_value(mvcc_get(m, str("b"), 0), "9");
}
END_TEST

/* What no store has made: numbers of creation and version that do not follow, deletions of nothing.
 */
START_TEST(test_load_checked)
{
    static const struct {
        int64_t main;
        bool tombstone;
        int64_t create, version;
    } first = {3, false, 3, 1},
      second[] = {
          {5, false, 3, 2}, {5, false, 5, 1}, {5, false, 3, 3}, {5, true, 0, 0}, {5, false, 3, 1}};
    static const bool sound[] = {true, false, false, true, false};
    for (int i = 0; i < 5; i++) {
        mvcc_load_begin(m);
        ck_assert_int_eq(load_one(first.main, 0, false, "a", first.create, first.version), 0);
        ck_assert_int_eq(load_one(second[i].main, 0, second[i].tombstone, "a", second[i].create,
                                  second[i].version),
                         0);
        ck_assert_int_eq(mvcc_load_end_checked(m, 9, -1), sound[i] ? 0 : TV_ECORRUPT);
    }
    /* What came before the compaction may be gone, and no later. */
    for (int64_t compacted = 4; compacted <= 5; compacted++) {
        for (int deleted = 0; deleted < 2; deleted++) {
            mvcc_load_begin(m);
            ck_assert_int_eq(load_one(5, 0, deleted, "a", 3, 7), 0);
            ck_assert_int_eq(mvcc_load_end_checked(m, 9, compacted),
                             compacted < 5 ? TV_ECORRUPT : 0);
        }
    }
    mvcc_load_begin(m);
    ck_assert_int_eq(mvcc_load_end_checked(m, 9, 9), 0);
}
END_TEST

START_TEST(test_damaged_kv)
{
    static const char good[] = "\x0a\x03key\x10\x02\x18\x02\x20\x01\x2a\x05value\x30\xac\x02";
    struct mvcc_version *v;
    for (size_t size = 0; size < sizeof(good) - 1; size++) {
        char *copy = malloc(size + 1);
        memcpy(copy, good, size);
        if (mvcc_version_new(2, 0, false, slice_of(copy, size), &v) == 0) {
            ck_assert(size == 11 || size == 18); /* all fields that there must be */
            mvcc_version_free(v);
        }
        free(copy);
    }
    struct slice kv = slice_of(good, sizeof(good) - 1);
    ck_assert_int_eq(mvcc_version_new(3, 0, false, kv, &v), TV_ECORRUPT);
    ck_assert_int_eq(mvcc_version_new(2, 0, false, kv, &v), 0);
    ck_assert(slice_equal(mvcc_version_kv(v), kv));
    mvcc_version_free(v);
}
END_TEST

/* The numbers are etcd's own, from `etcdctl endpoint hashkv` after the same requests. */
START_TEST(test_hash)
{
    struct mvcc_hash h;
    ck_assert_int_eq(mvcc_hash(m, 0, &h), 0);
    ck_assert_uint_eq(h.hash, 1084519789u);
    ck_assert_int_eq(h.compact_revision, -1);
    put("a", "1");
    put("b", "2");
    put("a", "3");
    del("b", SLICE_EMPTY);
    put("c", "4");
    ck_assert_int_eq(mvcc_hash(m, 0, &h), 0);
    ck_assert_uint_eq(h.hash, 2750537463u);
    ck_assert_int_eq(mvcc_hash(m, 4, &h), 0);
    ck_assert_uint_eq(h.hash, 2069675932u);
    ck_assert_int_eq(mvcc_compact(m, 5), 0);
    mvcc_publish(m);
    ck_assert_int_eq(mvcc_hash(m, 0, &h), 0);
    ck_assert_uint_eq(h.hash, 168415639u);
    ck_assert_int_eq(h.compact_revision, 5);
    scrub_all();
    ck_assert_int_eq(mvcc_hash(m, 0, &h), 0);
    ck_assert_uint_eq(h.hash, 168415639u);
    ck_assert_int_eq(mvcc_hash(m, 4, &h), TV_COMPACTED);
}
END_TEST

static void turns(int count)
{
    while (count-- > 0) {
        (void)mvcc_pack(m, 10);
        epoch_collect(mvcc_epoch(m));
    }
}

/* An equal copy takes a version's place, and who has a pin keeps the old one. */
START_TEST(test_versions_move)
{
    put("a", "1");
    put("b", "1");
    int64_t rev = put("b", "2");
    ck_assert_int_eq(mvcc_compact(m, rev), 0);
    const struct mvcc_version *a = mvcc_get(m, str("a"), 0), *b = mvcc_get(m, str("b"), 0);
    turns(10);
    ck_assert_ptr_eq(mvcc_get(m, str("a"), 0), a); /* before the scrub nothing moves */
    scrub_all();
    epoch_collect(mvcc_epoch(m));

    struct mvcc_pin pin, loose;
    epoch_enter(mvcc_epoch(m), reader);
    ck_assert_ptr_eq(mvcc_get(m, str("a"), 0), a);
    ck_assert_int_eq(mvcc_pin_take(m, &loose, rev), 0);
    mvcc_pin_loosen(m, &loose);
    turns(10);
    const struct mvcc_version *copy = mvcc_get(m, str("a"), 0);
    ck_assert_ptr_ne(copy, a);
    ck_assert_ptr_eq(mvcc_get(m, str("b"), 0), b); /* in the history */
    ck_assert_int_eq(mvcc_pin_take(m, &pin, rev), 0);
    epoch_leave(reader);
    turns(10);
    ck_assert_int_eq(mvcc_version_mod_revision(a), mvcc_version_mod_revision(copy));
    check_value(a, "1");
    check_value(copy, "1");
    mvcc_check(m);
    mvcc_pin_release(m, &pin);
    turns(10); /* now it is freed, which is for the sanitizer to see */
    ck_assert_ptr_eq(mvcc_get(m, str("a"), 0), copy); /* once for each scrub */
    mvcc_check(m);
    mvcc_pin_release(m, &loose);
}
END_TEST

/* What readers keep of old copies is bounded: moving waits for them. */
START_TEST(test_moving_waits)
{
    enum { KEYS = 200, VALUE_BYTES = 100000 };
    char *value = mem_alloc(VALUE_BYTES + 1);
    memset(value, 'v', VALUE_BYTES);
    value[VALUE_BYTES] = 0;
    char key[16];
    const struct mvcc_version *before[KEYS];
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(key, sizeof(key), "k%03d", i);
        put(key, value);
    }
    ck_assert_int_eq(mvcc_compact(m, put("last", "")), 0);
    scrub_all();
    epoch_collect(mvcc_epoch(m));
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(key, sizeof(key), "k%03d", i);
        before[i] = mvcc_get(m, str(key), 0);
    }
    epoch_enter(mvcc_epoch(m), reader); /* all that is freed from here on waits for it */
    turns(KEYS);
    ck_assert(!mvcc_pack(m, 10));
    int moved = 0;
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(key, sizeof(key), "k%03d", i);
        moved += mvcc_get(m, str(key), 0) != before[i];
        check_value(before[i], value);
    }
    ck_assert_int_gt(moved, 10);
    ck_assert_int_lt(moved, KEYS / 2);
    epoch_leave(reader);
    turns(3 * KEYS);
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(key, sizeof(key), "k%03d", i);
        ck_assert_ptr_ne(mvcc_get(m, str(key), 0), before[i]);
    }
    mvcc_check(m);
    mem_free(value);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mvcc");
    TCase *tc = tcase_create("mvcc");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_fresh);
    tcase_add_test(tc, test_generations);
    tcase_add_test(tc, test_encoding);
    tcase_add_test(tc, test_long_key);
    tcase_add_test(tc, test_txn_sees_itself);
    tcase_add_test(tc, test_ranges);
    tcase_add_test(tc, test_delete_range);
    tcase_add_test(tc, test_compact);
    tcase_add_test(tc, test_compact_at_delete_and_put);
    tcase_add_test(tc, test_scrub_waits);
    tcase_add_test(tc, test_scrub_of_large_ones);
    tcase_add_test(tc, test_versions_move);
    tcase_add_test(tc, test_moving_waits);
    tcase_add_test(tc, test_load);
    tcase_add_test(tc, test_load_checked);
    tcase_add_test(tc, test_damaged_kv);
    tcase_add_test(tc, test_hash);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    SRunner *sr = srunner_create(suite());
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
