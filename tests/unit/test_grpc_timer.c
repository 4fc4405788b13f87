/* The timing wheel, with a clock that the test turns. */
#include "timer.h"
#include "unit.h"

#include "base/mem.h"
#include "base/rng.h"

#include <stdbool.h>
#include <string.h>

enum { NS_PER_MS = 1000000 };

struct probe_timer {
    struct timer timer;
    bool set;
    uint64_t due_ms; /* not before */
    uint64_t set_ms;
    uint32_t fired;
};

static uv_loop_t loop;
static struct timer_wheel *wheel;
static uint64_t fired_count;

static void on_fire(struct timer *t)
{
    struct probe_timer *p = CONTAINER_OF(t, struct probe_timer, timer);
    ck_assert(p->set);
    ck_assert_uint_ge(loop.time, p->due_ms);
    /* The clock stops wherever the wheel asked for it: never late, but for what was due already. */
    ck_assert(loop.time == p->due_ms || loop.time <= p->set_ms + 1);
    p->set = false;
    p->fired++;
    fired_count++;
}

static void begin(uint64_t now_ms)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    loop.time = now_ms;
    wheel = mem_alloc(sizeof(*wheel));
    timer_wheel_init(wheel, &loop);
}

static void end(void)
{
    ck_assert_uint_eq(wheel->count, 0);
    uv_close((uv_handle_t *)&wheel->uv, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    mem_free(wheel);
}

/* To the moment the wheel asked for. */
static void step(void)
{
    ck_assert_uint_ne(wheel->armed_ms, UINT64_MAX);
    if (wheel->armed_ms > loop.time)
        loop.time = wheel->armed_ms;
    wheel->uv.timer_cb(&wheel->uv);
}

static void set(struct probe_timer *p, uint64_t at_ns)
{
    p->timer.fn = on_fire;
    p->set = true;
    p->due_ms = (at_ns + NS_PER_MS - 1) / NS_PER_MS;
    p->set_ms = loop.time;
    timer_set(wheel, &p->timer, at_ns);
}

START_TEST(test_every_distance)
{
    struct probe_timer p = {0};
    begin(1000003);
    for (uint64_t distance_ms = 1; distance_ms < UINT64_C(1) << 36; distance_ms *= 3) {
        for (int i = -1; i <= 1; i++) {
            set(&p, (loop.time + distance_ms) * NS_PER_MS + (uint64_t)i);
            uint32_t before = p.fired;
            for (int turns = 0; p.fired == before; turns++) {
                ck_assert_int_lt(turns, 100);
                step();
            }
        }
    }
    end();
}
END_TEST

static uint64_t random_distance_ns(struct rng *rng)
{
    return rng_below(rng, UINT64_C(1) << rng_below(rng, 54));
}

START_TEST(test_random)
{
    enum { TIMERS_COUNT = 200, ROUNDS = 200000 };
    struct rng rng;
    struct probe_timer *p = mem_alloc_zero(TIMERS_COUNT * sizeof(*p));
    uint64_t cleared = 0;
    rng_init(&rng, 4711);
    begin(123456789);
    for (int i = 0; i < ROUNDS; i++) {
        struct probe_timer *at = &p[rng_below(&rng, TIMERS_COUNT)];
        switch (rng_below(&rng, 4)) {
        case 0:
        case 1:
            set(at, loop.time * NS_PER_MS + random_distance_ns(&rng));
            break;
        case 2:
            cleared += at->set;
            at->set = false;
            timer_clear(wheel, &at->timer);
            break;
        default:
            if (wheel->count > 0)
                step();
            break;
        }
    }
    while (wheel->count > 0)
        step();
    for (int i = 0; i < TIMERS_COUNT; i++)
        ck_assert(!p[i].set);
    ck_assert_uint_gt(fired_count, ROUNDS / 20);
    ck_assert_uint_gt(cleared, ROUNDS / 20);
    end();
    mem_free(p);
}
END_TEST

/* A clock that leaps, as after a long turn of the loop: all that is due comes, none before. */
START_TEST(test_leaps)
{
    enum { TIMERS_COUNT = 1000 };
    struct probe_timer *p = mem_alloc_zero(TIMERS_COUNT * sizeof(*p));
    struct rng rng;
    rng_init(&rng, 5);
    begin(77);
    for (int i = 0; i < TIMERS_COUNT; i++) {
        set(&p[i], loop.time * NS_PER_MS + rng_below(&rng, UINT64_C(600000) * NS_PER_MS));
        p[i].set_ms = UINT64_MAX - 1; /* late is right here */
    }
    while (wheel->count > 0) {
        loop.time += 1 + rng_below(&rng, 20000);
        wheel->uv.timer_cb(&wheel->uv);
        for (int i = 0; i < TIMERS_COUNT; i++)
            ck_assert_uint_eq(p[i].set, p[i].due_ms > loop.time);
    }
    end();
    mem_free(p);
}
END_TEST

/* While the thread stands still, the loop's own clock does; a deadline must not be counted from it.
 */
START_TEST(test_fresh_clock)
{
    begin(0);
    uv_update_time(&loop);
    uint64_t before = timer_now_ns(wheel);
    uv_sleep(60);
    ck_assert_uint_eq(timer_now_ns(wheel), before);
    ck_assert_uint_ge(timer_fresh_now_ns(wheel), before + 59 * (uint64_t)NS_PER_MS);
    end();
}
END_TEST

UNIT_MAIN("grpc_timer", test_every_distance, test_random, test_leaps, test_fresh_clock)
