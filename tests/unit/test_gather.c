/* Few events go at once, many are gathered; see server/gather.h. */
#include "unit.h"

#include "server/gather.h"

static const uint64_t MS = 1000000;

/* How many looks of a second, `responses` each and `apart_ns` apart, are followed by a wait. */
static uint32_t waits_of(struct gather *g, uint64_t *now_ns, uint64_t responses, uint64_t apart_ns)
{
    uint32_t waits = 0;
    for (uint64_t end_ns = *now_ns + 1000 * MS; *now_ns < end_ns; *now_ns += apart_ns)
        waits += gather_after(g, responses, *now_ns) > 0;
    return waits;
}

START_TEST(test_few_go_at_once)
{
    struct gather g = {0};
    uint64_t now_ns = 5000 * MS;
    ck_assert_uint_eq(waits_of(&g, &now_ns, 1, MS / 2), 0);
    ck_assert_uint_eq(waits_of(&g, &now_ns, 0, MS / 100), 0);
    ck_assert_uint_eq(waits_of(&g, &now_ns, 35, 10 * MS), 0);
}
END_TEST

START_TEST(test_many_are_gathered)
{
    struct gather g = {0};
    uint64_t now_ns = 5000 * MS;
    uint32_t looks = 500;
    ck_assert_uint_ge(waits_of(&g, &now_ns, 20, 2 * MS), looks - 5);
    ck_assert_uint_ge(waits_of(&g, &now_ns, 100000, 2 * MS), looks);
    /* A look that sent nothing costs nothing, and is not followed by a wait. */
    ck_assert(!gather_after(&g, 0, now_ns));
    /* And soon they are few again. */
    now_ns += 20 * MS;
    ck_assert_uint_eq(waits_of(&g, &now_ns, 1, MS), 0);
}
END_TEST

START_TEST(test_how_long)
{
    struct gather g = {0};
    uint64_t now_ns = 5000 * MS;
    const struct {
        uint64_t responses, apart_ms;
        uint32_t wait_ms;
    } cases[] = {{64, 2, 2}, {32, 2, 4}, {64, 4, 2}, {20, 2, 6}, {16, 2, 8}, {32, 8, 8}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)waits_of(&g, &now_ns, 1000, 2 * MS);
        now_ns += (cases[i].apart_ms - 2) * MS; /* the last look was 2 ms ago */
        ck_assert_uint_eq(gather_after(&g, cases[i].responses, now_ns), cases[i].wait_ms);
    }
}
END_TEST

UNIT_MAIN("gather", test_few_go_at_once, test_many_are_gathered, test_how_long)
