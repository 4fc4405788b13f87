/* A run, as --json wrote it, read again. */
#ifndef BENCH_RUNFILE_H
#define BENCH_RUNFILE_H

#include "tree.h"

struct runfile {
    struct arena arena;
    const char *path;
    const struct tree *root;
    const struct tree *latency; /* members: kinds of operations */
    const struct tree *series;
    const struct tree *operations; /* of the series, by kind */
    uint32_t points_count;
};

/* NULL: it is no such file; it was said why. */
struct runfile *runfile_open(const char *path);
void runfile_close(struct runfile *f);
/* An array of the series into `ret`, points_count numbers. False: there is none of that length. */
bool runfile_array(const struct runfile *f, const struct tree *of, const char *name, double *ret);

#endif
