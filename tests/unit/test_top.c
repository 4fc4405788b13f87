/* What is frequent is found among much that is not, and fades when it ends. */
#include "unit.h"

#include "server/top.h"

#include <stdio.h>

static struct top *top;

static const struct top_prefix *find(const char *text)
{
    for (uint32_t i = 0; i < top->prefixes_count; i++) {
        const struct top_prefix *p = &top->prefixes[i];
        if (slice_equal(slice_of(p->text, p->size), slice_of_string(text)))
            return p;
    }
    return NULL;
}

static void check_prefixes(const char *key, const char *wanted)
{
    struct slice got[TOP_LEVELS_MAX];
    char text[512];
    size_t size = 0;
    uint32_t count = top_prefixes_of(slice_of_string(key), got);
    for (uint32_t i = 0; i < count; i++)
        size += (size_t)snprintf(text + size, sizeof(text) - size, "%.*s|", (int)got[i].size,
                                 (const char *)got[i].data);
    text[size] = '\0';
    ck_assert_str_eq(text, wanted);
}

START_TEST(test_folders_of_a_key)
{
    check_prefixes("/registry/pods/default/web-1", "/registry/|/registry/pods/|"
                                                   "/registry/pods/default/|");
    check_prefixes("a/b/c/d/e/f", "a/|a/b/|a/b/c/|a/b/c/d/|");
    check_prefixes("key000017", "key|");
    check_prefixes("17", "17|");
    check_prefixes("a-rather-long-name-without-any-folder", "a-rather-long-na|");
    check_prefixes("", "");
    check_prefixes("/", "/|");
}
END_TEST

START_TEST(test_frequent_among_many)
{
    top = top_new();
    char key[64];
    /* A thousand folders in turn, and one that is every tenth. */
    for (int i = 0; i < 20000; i++) {
        (void)snprintf(key, sizeof(key), "/x/%d/y", i % 1000);
        top_count_key(top, slice_of_string(key), false, 10);
        if (i % 10 == 0)
            top_count_key(top, SLICE_LITERAL("/hot/one"), true, 100);
    }
    ck_assert_uint_eq(top->prefixes_count, TOP_PREFIXES_MAX);
    const struct top_prefix *hot = find("/hot/");
    ck_assert_ptr_nonnull(hot);
    ck_assert(hot->writes > 1990 && hot->writes <= 2000);
    ck_assert(hot->reads == 0);
    ck_assert(hot->bytes > 199000);
    ck_assert(find("/x/")->reads > 19000);
    top_free(top);
}
END_TEST

START_TEST(test_fades)
{
    top = top_new();
    uint64_t second = 1000000000;
    for (int i = 0; i < 1000; i++)
        top_count_key(top, SLICE_LITERAL("/a/b"), true, 1);
    top_tick(top, second, false);
    top_tick(top, 2 * second, false);
    ck_assert(find("/a/")->writes > 850 && find("/a/")->writes < 950);
    for (uint64_t i = 3; i < 130; i++)
        top_tick(top, i * second, false);
    ck_assert_uint_eq(top->prefixes_count, 0);
    /* After a long silence nothing is left of it, and nothing becomes negative. */
    top_count_key(top, SLICE_LITERAL("/a/b"), true, 1);
    top_tick(top, 1000 * second, false);
    ck_assert_uint_eq(top->prefixes_count, 0);
    top_free(top);
}
END_TEST

START_TEST(test_requests)
{
    top = top_new();
    /* A put of "k/1", value "v". */
    static const uint8_t put[] = {0x0a, 3, 'k', '/', '1', 0x12, 1, 'v'};
    static const uint8_t range[] = {0x0a, 3, 'r', '/', '1'};
    /* A txn whose success branch puts "t/1". */
    static const uint8_t txn[] = {0x12, 7, 0x12, 5, 0x0a, 3, 't', '/', '1'};
    static const uint8_t broken[] = {0x0a, 9, 'b'};
    top_count_request(top, "/etcdserverpb.KV/Put", slice_of(put, sizeof(put)));
    top_count_request(top, "/etcdserverpb.KV/Range", slice_of(range, sizeof(range)));
    top_count_request(top, "/etcdserverpb.KV/DeleteRange", slice_of(range, sizeof(range)));
    top_count_request(top, "/etcdserverpb.KV/Txn", slice_of(txn, sizeof(txn)));
    top_count_request(top, "/etcdserverpb.KV/Put", slice_of(broken, sizeof(broken)));
    top_count_request(top, "/etcdserverpb.Lease/LeaseGrant", slice_of(put, sizeof(put)));
    ck_assert(find("k/")->writes == 1);
    ck_assert(find("r/")->reads == 1 && find("r/")->writes == 1);
    ck_assert(find("t/")->writes == 1);
    ck_assert_uint_eq(top->prefixes_count, 3);
    top_free(top);
}
END_TEST

START_TEST(test_samples_by_chance)
{
    top = top_new();
    uint64_t sum = 0;
    for (int i = 0; i < 100000; i++) {
        uint32_t next = top_next_sample(top);
        ck_assert(next >= 1 && next < 2 * TOP_SAMPLE_EVERY);
        sum += next;
    }
    ck_assert(sum > 31 * 100000 && sum < 33 * 100000);
    top_free(top);
}
END_TEST

UNIT_MAIN("top", test_folders_of_a_key, test_frequent_among_many, test_fades, test_requests,
          test_samples_by_chance)
