/* Every flag there is: trivet's own, those of etcd's that it takes, and those that it does not. */
#ifndef SERVER_CONFIG_FLAGS_H
#define SERVER_CONFIG_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum flag_kind {
    FLAG_STRING,   /* char * */
    FLAG_URLS,     /* struct urls */
    FLAG_ORIGINS,  /* char *: "*", or URLs, comma-separated */
    FLAG_UINT,     /* uint64_t */
    FLAG_UINT32,   /* uint32_t */
    FLAG_INT,      /* int64_t */
    FLAG_QUOTA,    /* uint64_t, from an int64_t: see config.h */
    FLAG_DURATION, /* uint64_t, milliseconds */
    FLAG_BOOL,
    FLAG_CLUSTER_STATE, /* bool: "new" */
    FLAG_LOG_LEVEL,
    FLAG_WAL_IO,
    FLAG_REPAIR,
    FLAG_VERSION,
    FLAG_ONLY,      /* etcd's: no other value than this is supported */
    FLAG_ONLY_BOOL, /* the same, of a flag that can be given without a value */
    FLAG_REFUSED,   /* etcd's: not supported, whatever the value */
    FLAG_REFUSED_BOOL,
};

struct flag {
    const char *name;
    enum flag_kind kind;
    size_t offset;     /* in struct config */
    const char *value; /* the default; of FLAG_ONLY*: what is accepted */
    const char *group; /* for the help text: set where a group begins */
    const char *help;  /* NULL: not in the help text */
};

extern const struct flag config_flags[];
extern const uint32_t config_flags_count;

enum { FLAGS_MAX = 160 };

static inline bool flag_is_bool(const struct flag *f)
{
    return f->kind == FLAG_BOOL || f->kind == FLAG_VERSION || f->kind == FLAG_ONLY_BOOL ||
           f->kind == FLAG_REFUSED_BOOL;
}

void config_print_usage(FILE *out);
void config_print_help(FILE *out);

#endif
