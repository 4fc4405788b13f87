/* trivetctl: reads the command line, runs the command, and looks whether all could be printed. */
#include "frame.h"

#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NAME_BYTES_MAX = 64, ALIKE_DISTANCE = 2 };

void ctl_fail(struct ctl *c, int status, const char *format, ...)
{
    va_list list;
    fflush(stdout);
    va_start(list, format);
    fputs("Error: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    exit(status);
}

/* --- mistakes --- */

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance, without regard to case. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[NAME_BYTES_MAX + 1];
    size_t size = strlen(b);
    if (size > NAME_BYTES_MAX)
        return NAME_BYTES_MAX;
    for (unsigned j = 0; j <= size; j++)
        row[j] = j;
    for (unsigned i = 0; a[i] != '\0'; i++) {
        unsigned corner = row[0];
        row[0] = i + 1;
        for (unsigned j = 1; j <= size; j++) {
            unsigned same = corner + (strncasecmp(&a[i], &b[j - 1], 1) != 0);
            corner = row[j];
            row[j] = least(same, least(row[j], row[j - 1]) + 1);
        }
    }
    return row[size];
}

static int fail_unknown(const struct ctl *c)
{
    const char *name = c->args[0];
    bool any = false;
    fprintf(stderr, "Error: unknown command \"%s\" for \"%s\"\n", name, c->program);
    for (const struct ctl_command *const *p = ctl_commands; *p != NULL; p++) {
        if (distance(name, (*p)->name) > ALIKE_DISTANCE &&
            strncasecmp((*p)->name, name, strlen(name)) != 0)
            continue;
        fprintf(stderr, any ? "\t%s\n" : "\nDid you mean this?\n\t%s\n", (*p)->name);
        any = true;
    }
    fprintf(stderr, any ? "\nRun '%s --help' for usage.\n" : "Run '%s --help' for usage.\n",
            c->program);
    return CTL_ERROR;
}

static void read_format(struct ctl *c)
{
    static const char *const names[] = {"simple", "json", "table", "fields", "protobuf", "yaml"};
    const char *name = ctl_text(c, "write-out");
    c->format_bad = true;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) != 0)
            continue;
        c->format = (enum ctl_format)i;
        c->format_bad = false;
    }
}

static int run(struct ctl *c)
{
    if ((c->command->options & CTL_LOCAL) == 0)
        frame_environment(c);
    read_format(c);
    c->hex = ctl_bool(c, "hex");
    c->debug = ctl_bool(c, "debug");
    c->command_timeout_ns = ctl_duration_ns(c, "command-timeout");
    if (c->debug)
        frame_print_flags(c);
    int status = c->command->run(c);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "Error: write: %s\n", strerror(errno));
        status = status == CTL_OK ? CTL_IO : status;
    }
    trivet_close(c->client);
    return status;
}

int main(int argc, char **argv)
{
    struct ctl c = {.program = "trivetctl"};
    const char *why = frame_parse(&c, argv + 1, argc - 1);
    if (why == NULL && c.command == NULL && c.args_count > 0 && !c.help)
        return fail_unknown(&c);
    if (why != NULL) {
        fprintf(stderr, "Error: %s\n", why);
        frame_print_usage(&c, stderr);
        fputc('\n', stderr);
        return CTL_ERROR;
    }
    if (c.help || c.command == NULL || c.command->run == NULL) {
        frame_print_help(&c);
        return CTL_OK;
    }
    return run(&c);
}
