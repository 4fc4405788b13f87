/* Which PROBEs a test program hit: with TRIVET_PROBES=FILE in the environment each process that
 * ends with exit() adds their names to the file. Included by what has a main(). */
#ifndef TESTS_LIB_PROBE_LOG_H
#define TESTS_LIB_PROBE_LOG_H

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

static void probe_log_one(const struct probe *p, void *arg)
{
    if (atomic_load(&p->hits) > 0)
        fprintf(arg, "%s\n", p->name);
}

static void probe_log_write(void)
{
    const char *path = getenv("TRIVET_PROBES");
    FILE *f = path == NULL ? NULL : fopen(path, "a");
    if (f == NULL)
        return;
    probe_each(probe_log_one, f);
    fclose(f);
}

__attribute__((constructor)) static void probe_log_begin(void)
{
    (void)atexit(probe_log_write);
}

#endif
