/* The comparison of the members by itself: chains, marks, reports, verdicts. */
#include "unit.h"

#include "server/agree.h"

#include <string.h>

enum { MEMBERS = 3 };

static const uint64_t voters[MEMBERS] = {11, 22, 33};
static struct agree members[MEMBERS];
static uint64_t chain[MEMBERS], added[MEMBERS];
static uint64_t now_ms, entry;

static void begin(void)
{
    now_ms = 1000000;
    entry = 0;
    for (int i = 0; i < MEMBERS; i++) {
        agree_init(&members[i], voters[i]);
        chain[i] = added[i] = 0;
    }
}

/* All apply the same, but for the one that makes something else of it. */
static void apply(uint64_t count, int but)
{
    for (; count > 0; count--) {
        entry++;
        for (int i = 0; i < MEMBERS; i++) {
            struct agree_entry e = {.kind = 4, .revision = (int64_t)entry, .added = entry * 7};
            if (i == but)
                e.added++;
            added[i] += e.added;
            chain[i] = agree_step(chain[i], &e);
            agree_applied(&members[i]);
        }
    }
}

/* The leader, member 0, asks for a mark; everybody applies it and reports. */
static void mark(int64_t compacted, uint64_t dropped)
{
    ck_assert(agree_wants_mark(&members[0], now_ms));
    entry++;
    for (int i = 0; i < MEMBERS; i++)
        agree_marked(&members[i], entry, chain[i], added[i], compacted, now_ms);
    for (int i = 0; i < MEMBERS; i++) {
        struct agree_report r;
        ck_assert(!agree_settle(&members[i], compacted - 1, dropped, compacted, &r));
        ck_assert(agree_settle(&members[i], compacted, dropped, compacted, &r));
        ck_assert_uint_eq(r.mark, entry);
        ck_assert(!agree_settle(&members[i], compacted, dropped, compacted, &r));
        agree_reported(&members[0], voters[i], &r);
        agree_reported(&members[0], voters[i], &r); /* twice is once */
    }
}

START_TEST(test_step)
{
    struct agree_entry e = {.kind = 4, .err = 0, .revision = 5, .added = 6}, x;
    uint64_t base = agree_step(1, &e);
    ck_assert_uint_eq(agree_step(1, &e), base);
    ck_assert_uint_ne(agree_step(2, &e), base);
    x = e, x.kind = 5;
    ck_assert_uint_ne(agree_step(1, &x), base);
    x = e, x.err = -1;
    ck_assert_uint_ne(agree_step(1, &x), base);
    x = e, x.revision = 6;
    ck_assert_uint_ne(agree_step(1, &x), base);
    x = e, x.added = 7;
    ck_assert_uint_ne(agree_step(1, &x), base);
    x = e, x.body = SLICE_LITERAL("lease 7");
    ck_assert_uint_ne(agree_step(1, &x), base);
    /* The order counts. */
    x = e, x.added = 9;
    ck_assert_uint_ne(agree_step(agree_step(1, &e), &x), agree_step(agree_step(1, &x), &e));
}
END_TEST

START_TEST(test_all_agree)
{
    struct agree_report verdict;
    uint64_t own, ids[AGREE_REPORTS_MAX];
    begin();
    for (int round = 0; round < 20; round++) {
        apply(AGREE_PACE_ENTRIES, -1);
        now_ms += AGREE_PACE_MS;
        mark(round, (uint64_t)round * 1000);
        ck_assert_int_eq(agree_judge(&members[0], voters, MEMBERS, &verdict), AGREE_VERDICT);
        ck_assert_int_eq(agree_judge(&members[0], voters, MEMBERS, &verdict), AGREE_OPEN);
        ck_assert_uint_eq(verdict.mark, entry);
        ck_assert_uint_eq(agree_differing(&members[0], &verdict, ids), 0);
        for (int i = 0; i < MEMBERS; i++)
            ck_assert(!agree_differs(&members[i], &verdict, &own));
    }
}
END_TEST

START_TEST(test_one_differs)
{
    for (int wrong = 0; wrong < MEMBERS; wrong++) { /* the leader too */
        struct agree_report verdict;
        uint64_t own = 0, ids[AGREE_REPORTS_MAX];
        begin();
        apply(500, -1);
        apply(1, wrong);
        apply(AGREE_PACE_ENTRIES, -1);
        now_ms += AGREE_PACE_MS;
        mark(-1, 0);
        ck_assert_int_eq(agree_judge(&members[0], voters, MEMBERS, &verdict), AGREE_VERDICT);
        ck_assert_uint_eq(agree_differing(&members[0], &verdict, ids), 1);
        ck_assert_uint_eq(ids[0], voters[wrong]);
        for (int i = 0; i < MEMBERS; i++)
            ck_assert_int_eq(agree_differs(&members[i], &verdict, &own), i == wrong);
        ck_assert_uint_ne(own, verdict.digest);
    }
}
END_TEST

START_TEST(test_what_was_dropped_counts)
{
    struct agree_report a, b;
    begin();
    apply(10, -1);
    for (int i = 0; i < 2; i++)
        agree_marked(&members[i], 11, chain[i], added[i], -1, now_ms);
    ck_assert(agree_settle(&members[0], -1, 5, -1, &a));
    ck_assert(agree_settle(&members[1], -1, 6, -1, &b));
    ck_assert_uint_ne(a.digest, b.digest);
}
END_TEST

START_TEST(test_no_majority)
{
    struct agree_report verdict, r = {.mark = 1, .digest = 100};
    begin();
    agree_marked(&members[0], 1, 0, 0, -1, now_ms);
    for (int i = 0; i < MEMBERS; i++) {
        ck_assert_int_eq(agree_judge(&members[0], voters, MEMBERS, &verdict), AGREE_OPEN);
        r.digest++;
        agree_reported(&members[0], voters[i], &r);
    }
    ck_assert_int_eq(agree_judge(&members[0], voters, MEMBERS, &verdict), AGREE_NONE);
    ck_assert_int_eq(agree_judge(&members[0], voters, MEMBERS, &verdict), AGREE_OPEN);
}
END_TEST

/* Only voters make a majority, and only reports on the newest mark count. */
START_TEST(test_who_counts)
{
    struct agree_report verdict, r = {.mark = 1, .digest = 100};
    begin();
    agree_marked(&members[0], 1, 0, 0, -1, now_ms);
    agree_reported(&members[0], 11, &r);
    agree_reported(&members[0], 99, &r); /* a learner */
    ck_assert_int_eq(agree_judge(&members[0], voters, MEMBERS, &verdict), AGREE_OPEN);
    agree_marked(&members[0], 5, 0, 0, -1, now_ms);
    agree_reported(&members[0], 22, &r); /* on mark 1 */
    r.mark = 5;
    agree_reported(&members[0], 33, &r);
    ck_assert_int_eq(agree_judge(&members[0], voters, MEMBERS, &verdict), AGREE_OPEN);
    agree_reported(&members[0], 22, &r);
    ck_assert_int_eq(agree_judge(&members[0], voters, MEMBERS, &verdict), AGREE_VERDICT);
}
END_TEST

/* Who does not know the mark, or did not settle, passes the round over. */
START_TEST(test_passed_over)
{
    uint64_t own;
    struct agree_report r, verdict = {.mark = 7, .digest = 1};
    begin();
    ck_assert(!agree_differs(&members[0], &verdict, &own));
    agree_marked(&members[0], 7, 3, 4, 5, now_ms);
    ck_assert(!agree_differs(&members[0], &verdict, &own));
    ck_assert(!agree_settle(&members[0], 5, 0, 6, &r)); /* another compaction came */
    ck_assert(!agree_settle(&members[0], 6, 0, 6, &r));
    ck_assert(!agree_differs(&members[0], &verdict, &own));
    agree_marked(&members[1], 7, 3, 4, 5, now_ms);
    ck_assert(agree_settle(&members[1], 5, 0, 5, &r));
    ck_assert(agree_differs(&members[1], &verdict, &own));
    agree_forget(&members[1]); /* a snapshot */
    ck_assert(!agree_differs(&members[1], &verdict, &own));
}
END_TEST

START_TEST(test_pace)
{
    begin();
    members[0].last_ms = now_ms;
    ck_assert(!agree_wants_mark(&members[0], now_ms + 10 * AGREE_IDLE_MS)); /* nothing happened */
    apply(1, -1);
    ck_assert(!agree_wants_mark(&members[0], now_ms + AGREE_PACE_MS));
    ck_assert(agree_wants_mark(&members[0], now_ms + AGREE_IDLE_MS));
    apply(AGREE_PACE_ENTRIES - 1, -1);
    ck_assert(!agree_wants_mark(&members[0], now_ms + AGREE_PACE_MS - 1));
    ck_assert(agree_wants_mark(&members[0], now_ms + AGREE_PACE_MS));
}
END_TEST

UNIT_MAIN("agree", test_step, test_all_agree, test_one_differs, test_what_was_dropped_counts,
          test_no_majority, test_who_counts, test_passed_over, test_pace)
