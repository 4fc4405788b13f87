#include "server/log_journal.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DATAGRAM_BYTES_MAX = 64 << 10 };

int log_journal_open(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    int why = errno;
    (void)close(fd);
    errno = why;
    return -1;
}

/* A value with an end of line in it goes by its length. */
static void put_field(struct buf *out, const char *name, struct slice value)
{
    uint8_t size[8];
    (void)buf_append(out, name, strlen(name)); /* a line is far shorter than a datagram */
    if (value.size > 0 && memchr(value.data, '\n', value.size) != NULL) {
        for (uint32_t i = 0; i < 8; i++)
            size[i] = (uint8_t)((uint64_t)value.size >> (8 * i));
        (void)buf_append(out, "\n", 1);
        (void)buf_append(out, size, sizeof(size));
    } else {
        (void)buf_append(out, "=", 1);
    }
    (void)buf_append(out, value.data, value.size);
    (void)buf_append(out, "\n", 1);
}

/* Behind `key` in a line of JSON, or the nth column of one for a console. */
static struct slice find(struct slice line, const char *key, uint32_t nth)
{
    const char *at = (const char *)line.data, *end = at + line.size;
    bool json = line.size > 0 && *at == '{';
    if (json) {
        at = memmem(at, line.size, key, strlen(key));
        if (at == NULL)
            return SLICE_EMPTY;
        at += strlen(key);
    }
    for (uint32_t i = 0; !json && i < nth && at != NULL; i++) {
        at = memchr(at, '\t', (size_t)(end - at));
        at = at == NULL ? NULL : at + 1;
    }
    const char *stop = at == NULL ? NULL : memchr(at, json ? '"' : '\t', (size_t)(end - at));
    return stop == NULL ? SLICE_EMPTY : slice_of(at, (size_t)(stop - at));
}

static const char *priority(struct slice level)
{
    static const struct {
        const char *level;
        const char *priority;
    } names[] = {{"debug", "7"}, {"info", "6"}, {"warn", "4"}, {"error", "3"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (slice_equal(level, slice_of_string(names[i].level)))
            return names[i].priority;
    return "2"; /* dpanic, panic, fatal */
}

void log_journal_encode(struct slice line, const char *identifier, struct buf *out)
{
    struct slice caller = find(line, "\"caller\":\"", 2);
    const uint8_t *slash = caller.size == 0 ? NULL : memrchr(caller.data, '/', caller.size);
    buf_clear(out);
    put_field(out, "PRIORITY", slice_of_string(priority(find(line, "\"level\":\"", 1))));
    put_field(out, "PACKAGE",
              slash == NULL ? SLICE_LITERAL(".")
                            : slice_of(caller.data, (size_t)(slash - caller.data)));
    put_field(out, "SYSLOG_IDENTIFIER", slice_of_string(identifier));
    put_field(out, "MESSAGE", line);
}

static void to_stderr(struct slice line)
{
    const uint8_t *at = line.data;
    size_t size = line.size;
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, at, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return; /* nobody is left to tell */
        at += written;
        size -= (size_t)written;
    }
}

void log_journal_write(int fd, const char *identifier, const char *lines, size_t size)
{
    struct buf datagram;
    buf_init(&datagram, DATAGRAM_BYTES_MAX);
    while (size > 0) {
        const char *end = memchr(lines, '\n', size);
        size_t line_size = end == NULL ? size : (size_t)(end - lines) + 1;
        struct slice line = slice_of(lines, line_size);
        /* etcd hands the end of the line over, too. */
        log_journal_encode(line, identifier, &datagram);
        ssize_t sent;
        do {
            sent = send(fd, datagram.data, datagram.size, MSG_NOSIGNAL);
        } while (sent < 0 && errno == EINTR);
        if (sent < 0)
            to_stderr(line);
        lines += line_size;
        size -= line_size;
    }
    buf_fini(&datagram);
}
