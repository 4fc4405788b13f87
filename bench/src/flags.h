/* The command line as a table: each flag once, with its place in struct bench_options, its bounds,
 * the commands it goes with and its help. */
#ifndef BENCH_FLAGS_H
#define BENCH_FLAGS_H

#include "options.h"

enum flag_type {
    FLAG_HEADING, /* of the help; no flag */
    FLAG_SWITCH,  /* bool */
    FLAG_TEXT,    /* const char * */
    FLAG_U32,
    FLAG_U64,
    FLAG_SECONDS, /* double */
    FLAG_RATE,    /* double */
    FLAG_CHOICE,  /* an enum: the place among the words of `value` */
    FLAG_NOT,     /* bool: "false" is true */
    FLAG_ENDPOINTS,
    FLAG_WEIGHTS,
    FLAG_HELP,
};

struct flag {
    enum flag_type type;
    uint32_t commands; /* a bit for each enum bench_command */
    size_t offset;     /* in struct bench_options */
    uint64_t min;
    uint64_t max;
    const char *name;
    const char *value; /* what the help calls it; of a choice: word|word */
    const char *help;
};

extern const struct flag flags[];
extern const uint32_t flags_count;

/* NULL: no such command. */
const char *command_name(enum bench_command command);
void flags_print_help(void);
/* Store `text`, the value of `flag` (NULL for a switch), or end the process and say what is wrong.
 */
void flag_store(const struct flag *flag, char *text, struct bench_options *o);
_Noreturn void usage_error(const char *what, const char *value);

#endif
