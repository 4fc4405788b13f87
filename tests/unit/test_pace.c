/* How many proposals may be under way: by what they take. */
#include "unit.h"

#include "server/pace.h"

enum { FEW = PACE_COUNT_MIN, MANY = PACE_COUNT_MAX };

static const uint64_t MS = 1000000;

static uint64_t now_ns;

static void took(struct pace *p, int times, uint64_t ns, uint32_t under_way)
{
    for (int i = 0; i < times; i++)
        pace_took(p, ns, under_way, now_ns += ns);
}

START_TEST(test_pace_falls_and_grows)
{
    struct pace p;
    pace_init(&p);
    took(&p, 20, MS, 1);
    ck_assert_uint_eq(p.count, PACE_COUNT_MAX);
    took(&p, 60, 4 * MS, MANY);
    ck_assert_uint_eq(p.count, PACE_COUNT_MIN);
    took(&p, 20, MS + MS / 3, FEW + 1); /* what they took before is forgotten meanwhile */
    uint32_t before = p.count;
    took(&p, 10, MS + MS / 3, FEW + 1);
    ck_assert_uint_eq(p.count, before + 10);
    took(&p, 200, MS, MANY);
    ck_assert_uint_eq(p.count, PACE_COUNT_MAX);
}
END_TEST

/* Nobody was ever alone: few may be under way until that says what is usual. */
START_TEST(test_pace_learns_what_is_usual)
{
    struct pace p;
    pace_init(&p);
    took(&p, 60, 9 * MS, MANY);
    ck_assert_uint_eq(p.count, PACE_COUNT_MIN);
    took(&p, 60, 3 * MS, FEW);
    ck_assert_uint_gt(p.count, PACE_COUNT_MIN);
}
END_TEST

/* A disk that became slower for good is usual after two periods. */
START_TEST(test_pace_forgets)
{
    struct pace p;
    pace_init(&p);
    took(&p, 100, MS, 1);
    took(&p, 300, 5 * MS, FEW);
    ck_assert_uint_eq(p.count, PACE_COUNT_MIN);
    took(&p, 5000, 5 * MS, FEW);
    ck_assert_uint_eq(p.count, PACE_COUNT_MAX);
}
END_TEST

UNIT_MAIN("pace", test_pace_falls_and_grows, test_pace_learns_what_is_usual, test_pace_forgets)
