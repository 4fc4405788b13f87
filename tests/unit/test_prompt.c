/* Which turns of a CPU the threads ask for, as the kernel has it. */
#include "unit.h"

#include "base/background.h"
#include "base/prompt.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
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

UNIT_MAIN("prompt", test_prompt_threads_have_short_turns)
