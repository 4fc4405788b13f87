/* What main() and its helpers have among themselves; not for commands. */
#ifndef CLIENT_CTL_FRAME_H
#define CLIENT_CTL_FRAME_H

#include "ctl.h"

/* The sub of `parent` (NULL: of the program) with that name, or with that beginning when there is
 * but one. NULL: none. */
const struct ctl_command *frame_sub(const struct ctl_command *parent, const char *name);
/* Reads the words into command, flags and arguments. NULL, or the text of the error. */
const char *frame_parse(struct ctl *c, char **words, int words_count);
/* What the command line left open is taken from ETCDCTL_* and TRIVETCTL_*. */
void frame_environment(struct ctl *c);
/* All flags and their values, to stderr. */
void frame_print_flags(const struct ctl *c);

/* Usage and flags of c->command (NULL: the program). */
void frame_print_usage(const struct ctl *c, FILE *to);
/* The same with what it does, to stdout. */
void frame_print_help(const struct ctl *c);

#endif
