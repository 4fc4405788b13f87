/* Help and usage, from the table of commands. */
#include "commands.h"
#include "frame.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { FLAGS_MAX = 64, NAME_WIDTH = 11 };

/* --- flags --- */

static const char *type_word(enum ctl_flag_type type)
{
    static const char *const words[] = {
        [CTL_BOOL] = "",    [CTL_STRING] = " string", [CTL_STRINGS] = " strings",
        [CTL_INT] = " int", [CTL_UINT] = " uint",     [CTL_DURATION] = " duration",
    };
    return words[type];
}

static int by_name(const void *a, const void *b)
{
    const struct ctl_flag *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static void print_preset(const struct ctl_flag *f, FILE *to)
{
    if (f->preset == NULL || *f->preset == '\0')
        return;
    const char *form = f->type == CTL_STRING    ? " (default \"%s\")"
                       : f->type == CTL_STRINGS ? " (default [%s])"
                                                : " (default %s)";
    fprintf(to, form, f->preset);
}

/* One line each, by name; `own` adds --help of that command. */
static void print_flags(const struct ctl_flag *flags, const char *own, FILE *to)
{
    const struct ctl_flag *sorted[FLAGS_MAX];
    const struct ctl_flag help = {
        .name = "help", .letter = 'h', .help = ctl_sprintf("help for %s", own)};
    size_t count = 0, width = 0;
    if (own != NULL)
        sorted[count++] = &help;
    for (; flags != NULL && flags->name != NULL && count < FLAGS_MAX; flags++) {
        if (!flags->hidden)
            sorted[count++] = flags;
    }
    qsort(sorted, count, sizeof(sorted[0]), by_name);
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(sorted[i]->name) + strlen(type_word(sorted[i]->type));
        width = size > width ? size : width;
    }
    for (size_t i = 0; i < count; i++) {
        const struct ctl_flag *f = sorted[i];
        const char *type = type_word(f->type);
        if (f->letter != 0)
            fprintf(to, "  -%c, --%s%s", f->letter, f->name, type);
        else
            fprintf(to, "      --%s%s", f->name, type);
        fprintf(to, "%*s   %s", (int)(width - strlen(f->name) - strlen(type)), "", f->help);
        print_preset(f, to);
        fputc('\n', to);
    }
}

/* --- commands --- */

static void print_brief(const struct ctl_command *command, FILE *to)
{
    if ((command->options & CTL_HIDDEN) == 0)
        fprintf(to, "  %-*s %s\n", NAME_WIDTH, command->name, command->brief);
}

static int by_command(const void *a, const void *b)
{
    const struct ctl_command *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static void print_group(const char *group, FILE *to)
{
    const struct ctl_command *sorted[FLAGS_MAX];
    size_t count = 0;
    for (const struct ctl_command *const *p = ctl_commands; *p != NULL && count < FLAGS_MAX; p++) {
        if (strcmp((*p)->group, group) == 0)
            sorted[count++] = *p;
    }
    qsort(sorted, count, sizeof(sorted[0]), by_command);
    fprintf(to, "\n%s\n", group);
    for (size_t i = 0; i < count; i++)
        print_brief(sorted[i], to);
}

static void print_program_usage(const struct ctl *c, FILE *to)
{
    fprintf(to, "Usage:\n  %s [command]\n", c->program);
    for (const char *const *group = ctl_groups; *group != NULL; group++)
        print_group(*group, to);
    fprintf(to, "\nUse \"%s [command] --help\" for more information about a command.\n",
            c->program);
}

static const char *last_word(const char *path)
{
    const char *space = strrchr(path, ' ');
    return space == NULL ? path : space + 1;
}

/* The flags of what it is a sub of. */
static const struct ctl_flag *flags_above(const struct ctl *c)
{
    const struct ctl_command *parent = NULL, *command = NULL;
    char *rest = ctl_copy(trivet_str(c->path)), *word;
    while ((word = strsep(&rest, " ")) != NULL) {
        parent = command;
        command = frame_sub(parent, word);
    }
    return parent == NULL ? NULL : parent->flags;
}

void frame_print_usage(const struct ctl *c, FILE *to)
{
    const struct ctl_command *command = c->command;
    if (command == NULL) {
        print_program_usage(c, to);
        return;
    }
    fputs("Usage:\n", to);
    if (command->run != NULL)
        fprintf(to, "  %s %s%s%s [flags]\n", c->program, c->path,
                command->usage[0] != '\0' ? " " : "", command->usage);
    if (command->subs != NULL)
        fprintf(to, "  %s %s [command]\n", c->program, c->path);
    if (command->examples != NULL)
        fprintf(to, "\nExamples:\n%s\n", command->examples);
    if (command->subs != NULL) {
        fputs("\nAvailable Commands:\n", to);
        for (const struct ctl_command *sub = command->subs; sub->name != NULL; sub++)
            print_brief(sub, to);
    }
    fputs("\nFlags:\n", to);
    print_flags(command->flags, last_word(c->path), to);
    const struct ctl_flag *above = flags_above(c);
    if (above != NULL) {
        fputs("\nGlobal Flags:\n", to);
        print_flags(above, NULL, to);
    }
    if (command->subs != NULL)
        fprintf(to, "\nUse \"%s %s [command] --help\" for more information about a command.\n",
                c->program, c->path);
}

void frame_print_help(const struct ctl *c)
{
    const struct ctl_command *command = c->command;
    puts(command == NULL         ? "The command line client of trivet, and of etcd (API v3)."
         : command->help == NULL ? command->brief
                                 : command->help);
    putchar('\n');
    frame_print_usage(c, stdout);
    printf(
        "Use \"%s options\" for a list of global command-line options (applies to all commands).\n",
        c->program);
}

/* --- as commands --- */

static int run_help(struct ctl *c)
{
    struct ctl about = {.program = c->program};
    for (int i = 0; i < c->args_count; i++) {
        const struct ctl_command *sub = frame_sub(about.command, c->args[i]);
        if (sub == NULL) {
            fprintf(stderr, "Unknown help topic [");
            for (int j = 0; j < c->args_count; j++)
                fprintf(stderr, "%s`%s`", j > 0 ? " " : "", c->args[j]);
            fprintf(stderr, "]\n");
            about.command = NULL;
            frame_print_usage(&about, stderr);
            return CTL_OK;
        }
        size_t size = strlen(about.path);
        (void)snprintf(about.path + size, sizeof(about.path) - size, size > 0 ? " %s" : "%s",
                       sub->name);
        about.command = sub;
    }
    frame_print_help(&about);
    return CTL_OK;
}

static int run_options(struct ctl *c)
{
    puts("The following options can be passed to any command:\n");
    print_flags(ctl_global_flags, NULL, stdout);
    return CTL_OK;
}

/* What scripts look at is the API's version; the name is our own. */
static int run_version(struct ctl *c)
{
    printf("%s version: %s\nAPI version: 3.7\n", c->program, trivet_version());
    return CTL_OK;
}

const struct ctl_command ctl_cmd_help = {
    .name = "help",
    .usage = "[command]",
    .brief = "What a command does and which flags it has",
    .group = "Utility commands",
    .options = CTL_LOCAL,
    .run = run_help,
};

const struct ctl_command ctl_cmd_options = {
    .name = "options",
    .usage = "",
    .brief = "The flags that all commands have",
    .group = "Utility commands",
    .options = CTL_LOCAL,
    .run = run_options,
};

const struct ctl_command ctl_cmd_version = {
    .name = "version",
    .usage = "",
    .brief = "The version of the program and of the API it speaks",
    .group = "Utility commands",
    .options = CTL_LOCAL,
    .run = run_version,
};
