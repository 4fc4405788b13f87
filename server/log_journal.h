/* Lines of the log to systemd's journal, by its native protocol (systemd.journal-fields(7), "Native
 * journal protocol"): one datagram a line, with the priority of its level, as etcd sends them.
 *
 * Thread: one at a time. */
#ifndef SERVER_LOG_JOURNAL_H
#define SERVER_LOG_JOURNAL_H

#include "base/buf.h"

#include <stdbool.h>

#define LOG_JOURNAL_SOCKET "/run/systemd/journal/socket"

/* A socket that is connected to `path`, or -1 with errno. */
int log_journal_open(const char *path);
/* One line as the journal wants it: MESSAGE, PRIORITY, PACKAGE (the folder of "caller") and
 * SYSLOG_IDENTIFIER. */
void log_journal_encode(struct slice line, const char *identifier, struct buf *out);
/* All of `lines`; what the journal does not take goes to stderr. */
void log_journal_write(int fd, const char *identifier, const char *lines, size_t size);

#endif
