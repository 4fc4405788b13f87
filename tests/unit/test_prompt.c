/* Which turns of a CPU the threads ask for, as the kernel has it. */
#include "unit.h"

#include "base/background.h"
#include "base/clock.h"
#include "base/prompt.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The beginning of the kernel's struct sched_attr: its header does not go with pthread.h. */
struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

static uint64_t turn_ns(void)
{
    struct attr attr = {0};
    ck_assert_int_eq(syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0), 0);
    return attr.runtime_ns;
}

static bool kernel_has_turns(void)
{
    struct utsname u;
    int major, minor;
    ck_assert_int_eq(uname(&u), 0);
    ck_assert_int_eq(sscanf(u.release, "%d.%d", &major, &minor), 2);
    return major > 6 || (major == 6 && minor >= 12);
}

static void *look_as_child(void *ret_ns)
{
    *(uint64_t *)ret_ns = turn_ns();
    return NULL;
}

static void *look_in_the_background(void *ret_ns)
{
    background_thread(5);
    return look_as_child(ret_ns);
}

static uint64_t turn_of(void *(*thread_main)(void *))
{
    pthread_t thread;
    uint64_t ns;
    ck_assert_int_eq(pthread_create(&thread, NULL, thread_main, &ns), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    return ns;
}

START_TEST(test_prompt_threads_have_short_turns)
{
    uint64_t others = turn_ns();
    prompt_thread();
    if (kernel_has_turns()) {
        ck_assert_uint_lt(turn_ns(), others);
        ck_assert_uint_eq(turn_of(look_as_child), turn_ns());
    }
    ck_assert_uint_eq(turn_of(look_in_the_background), others);
    prompt_thread_end();
    ck_assert_uint_eq(turn_ns(), others);
}
END_TEST

/* --- turns that end --- */

enum { SHARERS = 2, WORK_NS = 60000000 };

static bool sharers_check;
static cpu_set_t one_cpu;

/* Works on one CPU with the others; how often it had to stop for them. */
static void *work_beside_others(void *ret_stops)
{
    ck_assert_int_eq(sched_setaffinity(0, sizeof(one_cpu), &one_cpu), 0);
    prompt_thread();
    uint64_t until_ns = clock_mono_ns() + WORK_NS;
    while (clock_mono_ns() < until_ns)
        if (sharers_check)
            prompt_check();
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    *(uint64_t *)ret_stops = (uint64_t)usage.ru_nivcsw;
    return NULL;
}

static uint64_t stops_of_sharers(bool check)
{
    pthread_t threads[SHARERS];
    uint64_t stops[SHARERS], sum = 0;
    sharers_check = check;
    CPU_ZERO(&one_cpu);
    CPU_SET(sched_getcpu(), &one_cpu);
    for (int i = 0; i < SHARERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work_beside_others, &stops[i]), 0);
    for (int i = 0; i < SHARERS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        sum += stops[i];
    }
    return sum;
}

/* Beside other programs any thread stops often: so in turn, several times. */
START_TEST(test_prompt_check_ends_turns)
{
    enum { ROUNDS = 8 };
    uint64_t unasked = 0, asked = 0;
    for (int i = 0; i < ROUNDS; i++) {
        unasked += stops_of_sharers(false);
        asked += stops_of_sharers(true);
    }
    if (kernel_has_turns())
        ck_assert_uint_gt(asked, 2 * unasked);
}
END_TEST

UNIT_MAIN("prompt", test_prompt_threads_have_short_turns, test_prompt_check_ends_turns)
