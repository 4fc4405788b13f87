/* trivetctl: what a command is, and what it is given.
 *
 * A command is a row in a table (struct ctl_command): its words, flags and texts, from which the
 * command line is read and help, man page and completion are made, and a function that does it.
 * The function gets a struct ctl: its arguments, the flags, the client. It calls the cluster,
 * prints, and returns the exit status; what fails ends the process by ctl_fail(). There is one
 * command per process, so what it allocates need not be freed.
 *
 * Adding one: write a `const struct ctl_command ctl_cmd_x` in a file of its group, declare it in
 * commands.h and name it in ctl_commands (table.c).
 *
 * Thread: everything here is for the main thread. */
#ifndef CLIENT_CTL_CTL_H
#define CLIENT_CTL_CTL_H

#include "doc.h"
#include "trivet.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The exit statuses of etcdctl (its package cobrautl). */
enum {
    CTL_OK = 0,
    CTL_ERROR = 1,
    CTL_BAD_CONNECTION = 2,
    CTL_INVALID_INPUT = 3, /* of txn and watch */
    CTL_BAD_FEATURE = 4,   /* a flag with a value that is not supported */
    CTL_INTERRUPTED = 5,
    CTL_IO = 6,
    CTL_BAD_ARGS = 128,
};

enum ctl_flag_type {
    CTL_BOOL, /* --f, --f=false */
    CTL_STRING,
    CTL_STRINGS,  /* a,b,c; given again: added */
    CTL_INT,      /* int64_t */
    CTL_UINT,     /* uint64_t */
    CTL_DURATION, /* 1h2m3.5s; in nanoseconds */
};

struct ctl_flag {
    const char *name;
    char letter; /* 0: none */
    enum ctl_flag_type type;
    const char *preset; /* the default, as one would type it; NULL: false, 0, "" */
    const char *help;
    bool hidden;          /* works, but no help tells of it */
    const char *words;    /* for completion: "simple json table"; NULL: anything */
    const char *alias_of; /* the flag whose other name this is; the rest is then that one's */
};

struct ctl;

enum {
    CTL_LOCAL = 1 << 0,    /* needs no cluster */
    CTL_HIDDEN = 1 << 1,   /* works, but no help tells of it */
    CTL_RAW_ARGS = 1 << 2, /* unknown flags go to `args` (watch and lock: the command to run) */
};

struct ctl_command {
    const char *name;  /* one word; NULL ends a table */
    const char *usage; /* what follows the name: "[options] <key> <value>" */
    const char *brief; /* one line */
    const char *help;  /* more lines; NULL: `brief` */
    const char *examples;
    const char *group; /* heading in trivetctl's own help, of ctl_groups; top level only */
    const struct ctl_flag *flags;   /* NULL, or ends with a NULL name; its subs know them too */
    const struct ctl_command *subs; /* NULL, or ends with a NULL name */
    uint32_t options;               /* CTL_LOCAL ... */
    /* Returns the exit status. NULL: it only has subs, and prints its help. */
    int (*run)(struct ctl *c);
};

extern const struct ctl_command *const ctl_commands[]; /* ends with NULL */
extern const struct ctl_flag ctl_global_flags[];
extern const char *const ctl_groups[]; /* ends with NULL */

enum ctl_format {
    CTL_SIMPLE,
    CTL_JSON,
    CTL_TABLE,
    CTL_FIELDS,
    CTL_PROTOBUF,
    CTL_YAML,
};

struct ctl_value; /* a flag and what it was set to */

struct ctl {
    const struct ctl_command *command;
    const char *program; /* "trivetctl" */
    char path[64];       /* "lease grant" */
    char **args;         /* without flags; a "--" is taken out */
    int args_count;
    int dash_at; /* how many came before the "--"; -1: there was none */
    char **raw;  /* all that follows the command's words, as it was typed */
    int raw_count;

    /* What the global flags say; all of them: ctl_text(c, "cacert"). */
    enum ctl_format format; /* -w, -o */
    bool format_bad;        /* -w says something else; ctl_client() fails */
    bool help;              /* -h, --help */
    bool hex;
    bool debug;
    uint64_t command_timeout_ns;

    /* Main's own. */
    struct trivet_client *client;
    struct ctl_value *values;
    uint32_t values_count;
    char **endpoints;
    uint32_t endpoints_count;
};

/* --- flags: of the command, of what it is a sub of, and global ones --- */

bool ctl_bool(const struct ctl *c, const char *name);
const char *ctl_text(const struct ctl *c, const char *name); /* never NULL */
int64_t ctl_int(const struct ctl *c, const char *name);
uint64_t ctl_uint(const struct ctl *c, const char *name);
uint64_t ctl_duration_ns(const struct ctl *c, const char *name);
/* Was it given, on the command line or in the environment (ETCDCTL_NAME, TRIVETCTL_NAME)? */
bool ctl_given(const struct ctl *c, const char *name);
/* The parts of a CTL_STRINGS, ended by NULL. Sets *ret_count, which may be NULL. */
char **ctl_strings(const struct ctl *c, const char *name, uint32_t *ret_count);

/* --- ending --- */

/* "Error: ..." to stderr, then exit(status), what was printed before included. What must be put
 * back in order (a terminal) belongs in atexit(). */
_Noreturn __attribute__((format(printf, 3, 4))) void ctl_fail(struct ctl *c, int status,
                                                              const char *format, ...);
/* What a call ended with, in etcdctl's words: "etcdserver: ...". Valid as long as `r`. */
const char *ctl_error(const struct trivet_result *r);
const char *ctl_watch_error(const struct trivet_watch_message *m);
/* `status`, or CTL_BAD_CONNECTION when it was the password that was refused. */
int ctl_status_of(struct ctl *c, const struct trivet_result *r, int status);
/* ctl_fail() with ctl_error(). */
_Noreturn void ctl_fail_call(struct ctl *c, int status, const struct trivet_result *r);

/* --- the cluster --- */

/* The client that the global flags describe, opened at the first call. Fails by ctl_fail(). */
struct trivet_client *ctl_client(struct ctl *c);
/* What the global flags say, to open another client from: all strings live as long as `c`. */
void ctl_options(struct ctl *c, struct trivet_options *ret);
/* Opens it, or fails as ctl_client(). The caller closes it. */
struct trivet_client *ctl_open(struct ctl *c, const struct trivet_options *o);
/* "name[:password]" and a password into `ret`, which is asked for when there is none; "": nobody.
 */
void ctl_user(const char *user, const char *password, const char *prompt,
              struct trivet_options *ret);
/* --endpoints, or what --discovery-srv names. Sets *ret_count. */
char **ctl_seeds(struct ctl *c, uint32_t *ret_count);
/* For a command with a flag --cluster: ctl_seeds(), or with --cluster in the command's flags and
 * given, the client URLs of the member list. Sets *ret_count. */
char **ctl_endpoints(struct ctl *c, uint32_t *ret_count);
/* The endpoint as the client knows it: with https:// when --insecure-transport=false says so. */
const char *ctl_endpoint(const struct ctl *c, const char *endpoint);
/* One call within --command-timeout. `r` is to be cleared. Fails by ctl_fail(). */
void ctl_call(struct ctl *c, const struct trivet_request *q, struct trivet_result *r);
/* The same with `endpoint` alone (NULL: any), waiting `timeout_ns` (0: for ever); returns the
 * status. */
int ctl_try(struct ctl *c, const struct trivet_request *q, const char *endpoint,
            uint64_t timeout_ns, struct trivet_result *r);

/* --- reading --- */

/* A whole argument as a number. NULL, or Go's text of the error: "strconv.ParseInt: parsing ...".
 * Base 0: by its prefix, as flags are. */
const char *ctl_parse_int(const char *text, int base, int64_t *ret);
const char *ctl_parse_uint(const char *text, int base, uint64_t *ret);
const char *ctl_parse_duration(const char *text, uint64_t *ret_ns);
/* "l" or "s" of --consistency. Fails by ctl_fail(). */
bool ctl_serializable(struct ctl *c, const char *text);
/* Ask on the terminal without an echo; "" at the end of the input. Lives to the end. */
char *ctl_ask_secret(const char *prompt);
/* All of the standard input. Lives to the end. */
struct trivet_bytes ctl_read_stdin(void);
/* A line split into words as etcdctl does: quotes, and Go's escapes in double ones. Returns how
 * many; the words live to the end. */
int ctl_split(struct ctl *c, const char *line, char ***ret_words);
/* The flags of another command, read from words that are no command line: values of `ret` are as
 * if it ran. NULL, or the text of the error. */
const char *ctl_parse_words(struct ctl *c, const struct ctl_command *command, char **words,
                            int words_count, struct ctl *ret);

/* --- printing: to stdout, which is buffered; main() looks at ferror(stdout) --- */

/* Print a document as JSON, YAML or protobuf, whichever -w says, with a newline (but protobuf), and
 * flush. */
void ctl_print_doc(struct ctl *c, const struct doc *d);
/* JSON, YAML and protobuf are documents; simple, table and fields are not. */
bool ctl_is_doc(const struct ctl *c);
/* "table not supported as output format": for a command without this one. */
_Noreturn void ctl_fail_format(struct ctl *c);
/* A frame of box-drawing characters; cells[row * columns + column]; heads are made upper case as
 * etcdctl's are. */
void ctl_print_table(const char *const *heads, uint32_t columns, const char *const *cells,
                     uint32_t rows);
/* Bytes as they are, or with --hex as \x01\x02. */
void ctl_print_bytes(const struct ctl *c, struct trivet_bytes b);
/* As Go's %q: quoted, with escapes. */
void ctl_print_quoted(struct trivet_bytes b);
/* The same as text that lives to the end. */
char *ctl_quoted(struct trivet_bytes b);
/* "name" : value, of -w fields. */
void ctl_field_int(const char *name, int64_t value);
void ctl_field_uint(const char *name, uint64_t value);
void ctl_field_bool(const char *name, bool value);
void ctl_field_text(const char *name, struct trivet_bytes value);
void ctl_field_id(const struct ctl *c, const char *name, uint64_t value);
void ctl_field_header(const struct ctl *c, const struct trivet_header *h);
/* With all formats but simple: the answer's header and nothing else. True: it is printed. */
bool ctl_print_header(struct ctl *c, const struct trivet_header *h);
/* Sizes as etcdctl prints them: "1.2 MB". `dst` has 16 bytes; returns it. */
const char *ctl_size(char *dst, uint64_t bytes);
/* Durations as Go prints them: "1.5s", "2m0s", "813.4µs". `dst` has 32 bytes; returns it. */
const char *ctl_duration(char *dst, uint64_t ns);

/* --- text that lives to the end --- */

__attribute__((format(printf, 1, 2))) char *ctl_sprintf(const char *format, ...);
char *ctl_copy(struct trivet_bytes b);
/* strerror() as Go says it: "no such file or directory". */
const char *ctl_strerror(int number);
/* The end of the range of all keys with the prefix. */
struct trivet_bytes ctl_prefix_end(struct trivet_bytes prefix);

/* --- other programs --- */

/* Run the program with `more` in its environment ("NAME=value", ends with NULL) and wait for it.
 * Returns its wait status; -1: it could not be run, and *ret_error says why, as Go does. */
int ctl_run_program(char *const *words, char *const *more, const char **ret_error);

#endif
