/* The cluster's version, and how it goes down and up again. */
#include "unit.h"

#include "server/config.h"
#include "server/versions.h"

#include "base/err.h"

#include <string.h>

static struct versions_now now_of(const struct versions *v)
{
    struct versions_now n;
    versions_now(v, &n);
    return n;
}

START_TEST(test_parse)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t major, minor;
    } cases[] = {
        {"3.6", true, 3, 6},        {"3.6.0", true, 3, 6},
        {"3.6.12", true, 3, 6},     {"3.6.0-rc.1", true, 3, 6},
        {"3.6.0+meta", true, 3, 6}, {"10.20.30", true, 10, 20},
        {"", false, 0, 0},          {"3", false, 0, 0},
        {"3.", false, 0, 0},        {".6", false, 0, 0},
        {"3.x", false, 0, 0},       {"3.6.x", false, 0, 0},
        {"3.6.0.0", false, 0, 0},   {"-3.6", false, 0, 0},
        {"3.-6.0", false, 0, 0},    {" 3.6", false, 0, 0},
        {"v3.6.0", false, 0, 0},    {"99999999999999999999.1", false, 0, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t major = 0, minor = 0;
        ck_assert_msg(versions_parse(slice_of_string(cases[i].text), &major, &minor) == cases[i].ok,
                      "%s", cases[i].text);
        if (cases[i].ok) {
            ck_assert_int_eq(major, cases[i].major);
            ck_assert_int_eq(minor, cases[i].minor);
        }
    }
}
END_TEST

START_TEST(test_down_and_up)
{
    struct versions v, copy;
    uint8_t body[64], record[VERSIONS_RECORD_BYTES];
    uint16_t minor;
    versions_init(&v);
    ck_assert_uint_eq(now_of(&v).minor, CONFIG_CLUSTER_MINOR);
    ck_assert(!versions_to_set(&v, &minor));

    size_t size = versions_put_downgrade_set(body, sizeof(body), true, CONFIG_CLUSTER_MINOR - 1);
    ck_assert_int_eq(versions_apply_downgrade_set(&v, slice_of(body, size)), 0);
    ck_assert(now_of(&v).downgrade);
    ck_assert(versions_to_set(&v, &minor));
    ck_assert_uint_eq(minor, CONFIG_CLUSTER_MINOR - 1);

    size = versions_put_cluster_set(body, sizeof(body), minor);
    ck_assert_int_eq(versions_apply_cluster_set(&v, slice_of(body, size)), 0);
    ck_assert_uint_eq(now_of(&v).minor, CONFIG_CLUSTER_MINOR - 1);
    ck_assert(!versions_to_set(&v, &minor));

    versions_encode(&v, record);
    ck_assert_int_eq(versions_decode(&copy, slice_of(record, sizeof(record))), 0);
    ck_assert_uint_eq(now_of(&copy).minor, CONFIG_CLUSTER_MINOR - 1);
    ck_assert_uint_eq(now_of(&copy).target_minor, CONFIG_CLUSTER_MINOR - 1);
    ck_assert(now_of(&copy).downgrade);

    size = versions_put_downgrade_set(body, sizeof(body), false, 0);
    ck_assert_int_eq(versions_apply_downgrade_set(&v, slice_of(body, size)), 0);
    ck_assert(!now_of(&v).downgrade);
    ck_assert(versions_to_set(&v, &minor));
    ck_assert_uint_eq(minor, CONFIG_CLUSTER_MINOR);
}
END_TEST

START_TEST(test_what_is_no_version)
{
    struct versions v;
    versions_init(&v);
    ck_assert_int_eq(versions_apply_cluster_set(&v, SLICE_LITERAL("\x0a\x03"
                                                                  "4.1")),
                     0);
    ck_assert_uint_eq(now_of(&v).minor, CONFIG_CLUSTER_MINOR);
    ck_assert_int_ne(versions_apply_cluster_set(&v, SLICE_LITERAL("\xff\xff")), 0);
    ck_assert_int_eq(versions_decode(&v, SLICE_LITERAL("short")), TV_ECORRUPT);
    ck_assert_int_eq(versions_decode(&v, SLICE_LITERAL("\0\0\0\0\0\0\0\0")), TV_ECORRUPT);
    ck_assert_int_eq(versions_decode(&v, SLICE_EMPTY), 0);
    ck_assert_uint_eq(now_of(&v).minor, CONFIG_CLUSTER_MINOR);
}
END_TEST

UNIT_MAIN("versions", test_parse, test_down_and_up, test_what_is_no_version)
