#include "base/prompt.h"

#include "base/clock.h"

#include <linux/sched.h>
#include <linux/sched/types.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    TURN_NS = 200000, /* the kernel's own are of some ms, and 100 us the shortest it gives */
    TURN_NS_OTHERS = 0,
};

static _Thread_local bool is_prompt;
static _Thread_local uint64_t checked_ns;

static void set_turn(uint64_t ns)
{
    struct sched_attr attr = {0};
    if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) != 0 ||
        attr.sched_policy != SCHED_NORMAL)
        return; /* somebody has chosen another for us */
    attr.sched_runtime = ns;
    (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

void prompt_thread(void)
{
    is_prompt = true;
    set_turn(TURN_NS);
}

void prompt_thread_end(void)
{
    is_prompt = false;
    set_turn(TURN_NS_OTHERS);
}

void prompt_check(void)
{
    if (!is_prompt)
        return;
    uint64_t now_ns = clock_mono_ns();
    if (now_ns - checked_ns < TURN_NS / 2)
        return;
    checked_ns = now_ns;
    (void)clock_thread_ns();
}
