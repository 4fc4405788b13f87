/* Between the parts of the configuration:
 *
 *   config.c         the whole, defaults, what follows from what was set
 *   config_flags.c   the table of all flags
 *   config_values.c  a value's text into its field
 *   config_args.c    the command line and the environment
 *   config_file.c    a file instead of these
 *   config_check.c   what goes with what */
#ifndef SERVER_CONFIG_INTERNAL_H
#define SERVER_CONFIG_INTERNAL_H

#include "server/config.h"
#include "server/config_flags.h"

struct parser {
    struct config *config;
    char *const *env;
    bool set[FLAGS_MAX]; /* by a flag, a variable, or the file */
    char *err_text;
    size_t err_size;
    char cluster_state[64];      /* as the file has it; "" when it has none */
    char why[URL_BYTES_MAX * 2]; /* a value did not parse: the reason */
};

/* The field of `f`; of a flag without one, NULL. */
void *config__field(struct config *c, const struct flag *f);
/* False with the reason, in Go's words, in p->why. */
bool config__set(struct parser *p, const struct flag *f, const char *text);
/* Go's strconv.ParseBool(). */
bool config__parse_bool(const char *text, bool *ret);
/* Behind a name of etcd's: set by whatever. */
bool config__is_set(const struct parser *p, const char *name);

enum config_outcome config__parse_args(struct parser *p, int argc, char *const *argv);
/* The variable's value; NULL when it is not there or empty. */
const char *config__variable(const struct parser *p, const struct flag *f);
enum config_outcome config__parse_env(struct parser *p);

/* Over the defaults. */
enum config_outcome config__read_file(struct parser *p, const char *path);

/* etcd's embed.Config.Validate(), but for the log. False with the reason in p->err_text. */
bool config__check(struct parser *p);
/* What etcd finds out only as it starts. */
bool config__check_start(struct parser *p);

#endif
