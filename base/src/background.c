#include "base/background.h"

#include "base/clock.h"
#include "base/prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    CHECK_NS = 2000000,
    SLEEP_FACTOR = 4,
    SLEEP_NS_MAX = 20000000,
};

static bool is_main_thread(void)
{
    return gettid() == getpid();
}

void background_thread(int niceness)
{
    if (is_main_thread())
        return;
    prompt_thread_end(); /* in case who started it is */
    errno = 0;
    int now = getpriority(PRIO_PROCESS, (id_t)gettid());
    if (errno == 0 && now < niceness)
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), niceness); /* else it is as before */
}

/* What this thread has waited for a CPU in its life: the second number of schedstat. False where
 * the kernel does not say. */
static bool read_waited(uint64_t *ret_ns)
{
    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    char text[128];
    ssize_t size = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (size <= 0)
        return false;
    text[size] = '\0';
    unsigned long long ran, waited;
    if (sscanf(text, "%llu %llu", &ran, &waited) != 2)
        return false;
    *ret_ns = waited;
    return true;
}

void background_give_way(struct metric_counter *paused_ns)
{
    static _Thread_local uint64_t checked_ns, waited_ns;
    uint64_t now_ns = clock_mono_ns(), waited;
    if (now_ns - checked_ns < CHECK_NS || is_main_thread())
        return;
    bool first = checked_ns == 0;
    checked_ns = now_ns;
    if (!read_waited(&waited))
        return;
    uint64_t sleep_ns = first ? 0 : SLEEP_FACTOR * (waited - waited_ns);
    waited_ns = waited;
    if (sleep_ns == 0)
        return;
    if (sleep_ns > SLEEP_NS_MAX)
        sleep_ns = SLEEP_NS_MAX;
    uint64_t from_ns = clock_mono_ns();
    (void)nanosleep(&(struct timespec){.tv_nsec = (long)sleep_ns}, NULL);
    checked_ns = clock_mono_ns();
    if (paused_ns != NULL)
        metric_add_shared(paused_ns, checked_ns - from_ns);
}
