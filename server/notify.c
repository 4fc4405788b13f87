#include "server/notify.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int send_to(const char *path, const char *state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof(address.sun_path) || (*path != '/' && *path != '@'))
        return EINVAL;
    memcpy(address.sun_path, path, size);
    if (*path == '@')
        address.sun_path[0] = '\0'; /* a name without a file */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    socklen_t address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
                          (const struct sockaddr *)&address, address_size);
    int why = sent < 0 ? errno : 0;
    (void)close(fd);
    return why;
}

void notify_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    log_info("notifying init daemon");
    int why = path == NULL || *path == '\0' ? 0 : send_to(path, "READY=1");
    if (why != 0)
        log_error("failed to notify systemd for readiness", LOG_STR("error", strerror(why)));
    else
        log_info("successfully notified init daemon");
}

static void tell(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (path != NULL && *path != '\0')
        (void)send_to(path, state); /* systemd, if it is there, draws its own conclusions */
}

void notify_stopping(void)
{
    tell("STOPPING=1");
}

/* 0: nobody watches. WATCHDOG_PID: whom it means, when there are several. */
static uint64_t watchdog_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (usec == NULL || (pid != NULL && strtoull(pid, NULL, 10) != (unsigned long long)getpid()))
        return 0;
    return strtoull(usec, NULL, 10) / 1000;
}

void notify_alive(uint64_t now_ms)
{
    static uint64_t interval_ms = UINT64_MAX, next_ms;
    if (interval_ms == UINT64_MAX)
        interval_ms = watchdog_ms() / 4;
    if (interval_ms == 0 || now_ms < next_ms)
        return;
    next_ms = now_ms + interval_ms;
    tell("WATCHDOG=1");
}
