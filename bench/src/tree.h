/* JSON as a tree, for what --json wrote. Strict, and bounded: TREE_BYTES_MAX of text,
 * TREE_DEPTH_MAX deep. Strings are UTF-8 without their escapes; numbers are doubles. */
#ifndef BENCH_TREE_H
#define BENCH_TREE_H

#include "base/arena.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

enum { TREE_BYTES_MAX = 256 << 20, TREE_DEPTH_MAX = 64 };

struct tree {
    enum json_kind type;
    double number;      /* NUMBER; BOOL: 1 or 0 */
    const char *text;   /* STRING */
    const char *name;   /* of a member of an object */
    struct tree *first; /* ARRAY, OBJECT */
    struct tree *next;  /* among its siblings */
    uint32_t count;     /* ARRAY, OBJECT */
};

/* NULL when it is no JSON; *ret_error says why. Everything is in the arena. */
struct tree *tree_parse(struct arena *a, struct slice text, const char **ret_error);
/* NULL when it has no such member, or is no object; of NULL too. */
struct tree *tree_get(const struct tree *t, const char *name);
/* What is there, or what is meant where nothing is. */
double tree_number(const struct tree *t, const char *name, double otherwise);
const char *tree_text(const struct tree *t, const char *name, const char *otherwise);

#endif
