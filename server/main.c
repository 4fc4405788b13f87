/* trivetd: a member of a trivet cluster. */
#include "server/config.h"
#include "server/log_setup.h"
#include "server/node.h"

#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* Read by jemalloc: what a large load leaves goes back to the kernel in a thread of its own, also
 * when nothing is allocated any more by whom it was. */
extern const char *malloc_conf;
const char *malloc_conf = "background_thread:true";

/* There only when coverage is measured. */
extern void __gcov_dump(void) __attribute__((weak));

/* Sockets are what this program is made of: take what the system allows. */
static void raise_open_files_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* What is there and what will be, as it is touched. */
static bool lock_memory(void)
{
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0)
        return true;
    LOG_AT(LOG_FATAL, "cannot lock memory for --memory-mlock", LOG_STR("error", strerror(errno)));
    return false;
}

/* As etcd: who waits for us learns by which signal we ended. The first process of a container
 * cannot end so. */
static void end_by(int number)
{
    if (getpid() == 1)
        return;
    if (__gcov_dump != NULL)
        __gcov_dump();
    signal(number, SIG_DFL);
    (void)kill(getpid(), number);
}

int main(int argc, char **argv)
{
    struct config config;
    struct node_history history = {0};
    int status = config_load(&config, argc, argv);
    if (status < 0) {
        signal(SIGPIPE, SIG_IGN);
        raise_open_files_limit();
        if (config.memory_mlock && !lock_memory())
            return 1;
        log_start_thread();
        do {
            status = node_run(&config, &history);
        } while (status == NODE_RUN_AGAIN);
        log_stop_thread();
        log_setup_close();
    }
    config_fini(&config);
    if (status > NODE_SIGNALLED) {
        end_by(status - NODE_SIGNALLED);
        status = 0;
    }
    return status;
}
