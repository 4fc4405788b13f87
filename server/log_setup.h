/* The log as --logger, --log-level, --log-format, --log-outputs and --enable-log-rotation have it.
 * The log's own thread writes to all outputs, one after the other. */
#ifndef SERVER_LOG_SETUP_H
#define SERVER_LOG_SETUP_H

#include "server/config.h"

/* Check the flags and open what they name. Until then, and when it fails, lines go to stderr.
 * Thread: one, before others log. CONFIG_OK, or CONFIG_INVALID or CONFIG_PANIC, with etcd's text.
 */
enum config_outcome log_setup(const struct config_log *log, char *err_text, size_t err_size);
/* Lines go to stderr again. When no other thread logs any more. */
void log_setup_close(void);

#endif
