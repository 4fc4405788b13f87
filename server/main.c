/* trivetd: a member of a trivet cluster. */
#include "server/config.h"
#include "server/log_setup.h"
#include "server/node.h"

#include "base/log.h"

#include <signal.h>
#include <sys/resource.h>

/* Read by jemalloc: what a large load leaves goes back to the kernel in a thread of its own, also
 * when nothing is allocated any more by whom it was. */
extern const char *malloc_conf;
const char *malloc_conf = "background_thread:true";

/* Sockets are what this program is made of: take what the system allows. */
static void raise_open_files_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    struct config config;
    struct node_history history = {0};
    int status = config_load(&config, argc, argv);
    if (status < 0) {
        signal(SIGPIPE, SIG_IGN);
        raise_open_files_limit();
        log_start_thread();
        do {
            status = node_run(&config, &history);
        } while (status == NODE_RUN_AGAIN);
        log_stop_thread();
        log_setup_close();
    }
    config_fini(&config);
    return status;
}
