#include "base/assert.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void tv_assert_failed(const char *expr, const char *file, int line, const char *func)
{
    char text[512];
    snprintf(text, sizeof(text), "assertion failed: %s in %s()", expr, func);
    log_write(LOG_FATAL, file, line, text, NULL, 0);
    abort();
}

void tv_fatal(const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_write(LOG_FATAL, __FILE__, __LINE__, text, NULL, 0);
    abort();
}

/* The linker gathers every PROBE in one section and names its ends; weak, for a program without
 * any. */
extern struct probe __start_tv_probes[] __attribute__((weak));
extern struct probe __stop_tv_probes[] __attribute__((weak));

void probe_each(void (*fn)(const struct probe *p, void *arg), void *arg)
{
    if (__start_tv_probes == NULL)
        return;
    for (struct probe *p = __start_tv_probes; p < __stop_tv_probes; p++)
        fn(p, arg);
}
