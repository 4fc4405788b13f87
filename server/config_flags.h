/* Every flag there is: etcd's and trivet's own. */
#ifndef SERVER_CONFIG_FLAGS_H
#define SERVER_CONFIG_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What a value must look like, in Go's syntax, and the type of its field in struct config. */
enum flag_kind {
    FLAG_STRING,       /* char * */
    FLAG_STRINGS,      /* char *: comma-separated */
    FLAG_NAMES,        /* char *: comma-separated, sorted, each once */
    FLAG_URLS,         /* struct urls */
    FLAG_ORIGINS,      /* char *: URLs, or "*" */
    FLAG_UINT,         /* uint64_t */
    FLAG_UINT_CLAMPED, /* uint32_t; what is more counts as UINT32_MAX */
    FLAG_UINT32,       /* uint32_t */
    FLAG_INT,          /* int64_t */
    FLAG_QUOTA,        /* uint64_t, from an int64_t: see config.h */
    FLAG_DURATION,     /* uint64_t, milliseconds; below 0 is 0 */
    FLAG_DURATION_NS,  /* int64_t, nanoseconds */
    FLAG_BOOL,
    FLAG_CLUSTER_STATE, /* bool: "new" */
    FLAG_FALLBACK,      /* bool: "proxy", which is gone */
    FLAG_V2_STAGES,     /* no field */
    FLAG_FEATURES,      /* struct features */
    FLAG_WAL_IO,
    FLAG_REPAIR,
    FLAG_VERSION,
    FLAG_CONFIG_FILE, /* char *: what is read instead of all flags */
    FLAG_GONE,        /* etcd's of old times: taken, and without a meaning there, too */
};

#define FLAG_NO_FIELD SIZE_MAX

struct flag {
    const char *name;
    enum flag_kind kind;
    size_t offset;       /* in struct config; FLAG_NO_FIELD: checked, and kept nowhere */
    const char *value;   /* the default; NULL: as config.c computes it */
    const char *group;   /* for the help text: set where a group begins */
    const char *help;    /* NULL: not in the help text */
    const char *here;    /* what it means here, when that is not what it means in etcd */
    const char *in_file; /* where it stands in a configuration file; NULL: under its name; "":
                            it has no place there */
};

extern const struct flag config_flags[];
extern const uint32_t config_flags_count;

enum { FLAGS_MAX = 160 };

static inline bool flag_is_bool(const struct flag *f)
{
    return f->kind == FLAG_BOOL || f->kind == FLAG_VERSION || f->kind == FLAG_GONE;
}

/* UINT32_MAX when there is none. */
uint32_t config_find_flag(const char *name, size_t size);

void config_print_usage(FILE *out);
void config_print_help(FILE *out);

#endif
