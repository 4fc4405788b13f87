/* The part of YAML 1.1 that configuration files are written in, and so all of JSON: block and flow
 * maps and lists, plain and quoted scalars, literal and folded text, comments, one document.
 * Anchors, aliases, tags and keys that are not scalars are refused, with a text that says so.
 *
 * Plain scalars become what sigs.k8s.io/yaml makes of them: "yes" and "on" are true, 010 is 8, "~"
 * is null. Of a key that is there twice the last one counts. Sizes are bounded; bytes need not be
 * trusted.
 *
 * Thread: any. */
#ifndef SERVER_YAML_H
#define SERVER_YAML_H

#include "base/arena.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    YAML_BYTES_MAX = 1 << 20,
    YAML_DEPTH_MAX = 32,
    YAML_NODES_MAX = 5000,
};

enum yaml_kind { YAML_NULL, YAML_BOOL, YAML_INT, YAML_FLOAT, YAML_STRING, YAML_LIST, YAML_MAP };

struct yaml_node {
    enum yaml_kind kind;
    bool boolean;
    struct slice text;       /* of a STRING, INT or FLOAT; a number as JSON would have it */
    struct slice key;        /* in a map */
    struct yaml_node *first; /* of a LIST in its order, of a MAP by the bytes of the keys */
    struct yaml_node *next;
};

/* *ret and all below it live as long as the arena, and borrow nothing from `text`. On error
 * err_text says what and where, in libyaml's words where there are such. Errors: TV_EMALFORMED,
 * TV_ETOOLARGE. */
int yaml_parse(struct slice text, struct arena *arena, const struct yaml_node **ret, char *err_text,
               size_t err_size);
/* Of a map; NULL when there is no such key, or this is none. */
const struct yaml_node *yaml_find(const struct yaml_node *map, const char *key);

#endif
