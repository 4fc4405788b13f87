/* When the leader compacts by itself: etcd's rules, with a clock that the test moves. */
#include "unit.h"

#include "server/compactor.h"

#include <stdlib.h>

static char err_text[512];

static struct compactor made(const char *mode, const char *retention)
{
    struct compactor_options o;
    struct compactor c;
    ck_assert_int_eq(compactor_parse(mode, retention, &o, err_text, sizeof(err_text)), 0);
    compactor_init(&c, &o, 0);
    return c;
}

START_TEST(test_parse)
{
    static const struct {
        const char *mode, *text;
        int64_t retention; /* < 0: refused */
    } cases[] = {
        {"periodic", "0", 0},
        {"periodic", "", 0},
        {"periodic", "2", INT64_C(7200000000000)},
        {"periodic", "90s", INT64_C(90000000000)},
        {"revision", "1000", 1000},
        {"revision", "+5", 5},
        {"revision", "1us", 1000},
        {"periodic", "-1", -1},
        {"periodic", "-1h", -1},
        {"periodic", "x", -1},
        {"periodic", "999999999", -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct compactor_options o;
        int err = compactor_parse(cases[i].mode, cases[i].text, &o, err_text, sizeof(err_text));
        ck_assert_msg((err == 0) == (cases[i].retention >= 0), "%s", cases[i].text);
        if (err == 0)
            ck_assert_int_eq(o.retention, cases[i].retention);
    }
}
END_TEST

/* The revision is the time in milliseconds. */
START_TEST(test_periodic)
{
    struct compactor c = made("periodic", "10s");
    int64_t asked[8];
    uint64_t when[8];
    uint32_t count = 0;
    for (uint64_t now = 0; now <= 41000; now += 100) {
        int64_t revision = compactor_tick(&c, now, (int64_t)now + 1, true);
        if (revision == 0)
            continue;
        ck_assert_uint_lt(count, 8);
        asked[count] = revision;
        when[count++] = now;
        ck_assert_int_eq(compactor_tick(&c, now, (int64_t)now + 1, true), 0); /* it is under way */
        compactor_done(&c, now, (int64_t)now + 1, true);
    }
    /* Nothing for the first period; then, once a period, what is older than one. */
    ck_assert_uint_eq(count, 4);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_uint_eq(when[i], 10000 * (i + 1));
        ck_assert_int_eq(asked[i], i == 0 ? 1 : (int64_t)when[i] - 11000 + 1);
    }
    compactor_fini(&c);
}
END_TEST

/* A long period: noted every six minutes, compacted every hour after it. */
START_TEST(test_periodic_of_a_day)
{
    struct compactor c = made("periodic", "24h");
    uint64_t minute = 60000, first = 0, second = 0;
    for (uint64_t now = 0; now <= 26 * 60 * minute; now += minute) {
        int64_t revision = compactor_tick(&c, now, (int64_t)(now / minute) + 1, true);
        if (revision == 0)
            continue;
        ck_assert_int_eq(revision, first == 0 ? 1 : (int64_t)(now / minute) - 24 * 60 - 6 + 1);
        if (first == 0)
            first = now;
        else if (second == 0)
            second = now;
        compactor_done(&c, now, (int64_t)(now / minute) + 1, true);
    }
    ck_assert_uint_eq(first, 24 * 60 * minute);
    ck_assert_uint_eq(second, 25 * 60 * minute);
    compactor_fini(&c);
}
END_TEST

/* A follower notes revisions, too, so that it knows what to do from the moment that it leads. */
START_TEST(test_follower)
{
    struct compactor c = made("periodic", "10s");
    uint64_t now = 0;
    for (; now < 25000; now += 500)
        ck_assert_int_eq(compactor_tick(&c, now, (int64_t)now + 1, false), 0);
    int64_t revision = 0;
    for (; now < 27000 && revision == 0; now += 500)
        revision = compactor_tick(&c, now, (int64_t)now + 1, true);
    ck_assert_int_ge(revision, 14000);
    ck_assert_int_le(revision, 17001);
    compactor_fini(&c);
}
END_TEST

START_TEST(test_again_after_a_failure)
{
    struct compactor c = made("periodic", "10s");
    int64_t first = 0, second = 0;
    uint64_t tries[2] = {0};
    for (uint64_t now = 0; now <= 12000 && second == 0; now += 1000) {
        int64_t revision = compactor_tick(&c, now, (int64_t)now + 1, true);
        if (revision == 0)
            continue;
        tries[first != 0] = now;
        if (first == 0)
            first = revision;
        else
            second = revision;
        compactor_done(&c, now, (int64_t)now + 1, second != 0);
    }
    ck_assert_int_eq(first, 1);
    ck_assert_int_eq(second, 1);
    ck_assert_uint_eq(tries[1] - tries[0], 1000); /* a tenth of the period later */
    compactor_fini(&c);
}
END_TEST

START_TEST(test_nothing_new)
{
    struct compactor c = made("periodic", "10s");
    uint32_t count = 0;
    for (uint64_t now = 0; now <= 60000; now += 1000) {
        if (compactor_tick(&c, now, 5, true) == 0)
            continue;
        count++;
        compactor_done(&c, now, 5, true);
    }
    ck_assert_uint_eq(count, 1);
    compactor_fini(&c);
}
END_TEST

START_TEST(test_by_revision)
{
    struct compactor c = made("revision", "100");
    int64_t asked = 0;
    for (uint64_t now = 0; now < 300000; now += 1000)
        ck_assert_int_eq(compactor_tick(&c, now, 250, true), 0);
    asked = compactor_tick(&c, 300000, 250, true);
    ck_assert_int_eq(asked, 150);
    compactor_done(&c, 300000, 250, true);
    ck_assert_int_eq(compactor_tick(&c, 600000, 250, true), 0); /* the same again */
    ck_assert_int_eq(compactor_tick(&c, 900000, 400, false), 0);
    ck_assert_int_eq(compactor_tick(&c, 1200000, 400, true), 300);
    compactor_done(&c, 1200000, 400, true);
    compactor_fini(&c);
    c = made("revision", "100");
    ck_assert_int_eq(compactor_tick(&c, 300000, 100, true), 0);
    compactor_fini(&c);
}
END_TEST

START_TEST(test_off)
{
    struct compactor c = made("periodic", "0");
    for (uint64_t now = 0; now < 1000000; now += 10000)
        ck_assert_int_eq(compactor_tick(&c, now, 1000, true), 0);
    compactor_fini(&c);
}
END_TEST

UNIT_MAIN("compactor", test_parse, test_periodic, test_periodic_of_a_day, test_follower,
          test_again_after_a_failure, test_nothing_new, test_by_revision, test_off)
