/* Between log.c, which makes lines, and log_thread.c, which may carry them. */
#ifndef BASE_LOG_INTERNAL_H
#define BASE_LOG_INTERNAL_H

#include "base/log.h"

#include <stdbool.h>
#include <stddef.h>

/* Write all of it, as far as it goes, to where lines go. */
void log__out(const char *text, size_t size);
/* Leave the line to the thread; false when there is none. */
bool log__queue(const char *text, size_t size);
/* For a while, until what was left to the thread is written. */
void log__wait_for_queue(void);

#endif
