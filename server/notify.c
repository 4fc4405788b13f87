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
    ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                          address_size);
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
