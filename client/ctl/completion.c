/* `trivetctl completion`: for bash, zsh and fish, made from the table of commands.
 *
 * Each script has the same four functions: the words that may follow a command's, its flags, which
 * of them take a value, and what values these are; and one that finds out which command the line
 * has so far. A command is named by its words, "lease grant"; "" is trivetctl itself. */
#include "commands.h"

#include <string.h>

enum { PATH_BYTES = 128, DEPTH_MAX = 4 };

struct place {
    char path[PATH_BYTES];                   /* "lease grant" */
    const struct ctl_command *at[DEPTH_MAX]; /* the commands on the way to it, itself included */
    int depth;
};

typedef void (*place_cb)(const struct place *p);

static void each_below(const struct place *p, const struct ctl_command *subs, place_cb visit);

static void visit_command(const struct place *above, const struct ctl_command *c, place_cb visit)
{
    struct place p = *above;
    if ((c->options & CTL_HIDDEN) != 0 || p.depth == DEPTH_MAX)
        return;
    size_t used = strlen(p.path);
    (void)snprintf(p.path + used, sizeof(p.path) - used, "%s%s", used > 0 ? " " : "", c->name);
    p.at[p.depth++] = c;
    visit(&p);
    each_below(&p, c->subs, visit);
}

static void each_below(const struct place *p, const struct ctl_command *subs, place_cb visit)
{
    for (; subs != NULL && subs->name != NULL; subs++)
        visit_command(p, subs, visit);
}

static void each_place(place_cb visit)
{
    const struct place root = {.depth = 0};
    visit(&root);
    for (const struct ctl_command *const *c = ctl_commands; *c != NULL; c++)
        visit_command(&root, *c, visit);
}

/* The flags of a place, one after the other: those of its commands; without any, the global ones.
 */
static const struct ctl_flag *next_flag(const struct place *p, int *at, const struct ctl_flag *last)
{
    const struct ctl_flag *f = last == NULL ? NULL : last + 1;
    for (;;) {
        while (f != NULL && f->name != NULL) {
            if (!f->hidden && f->alias_of == NULL)
                return f;
            f++;
        }
        if (p->depth == 0 && *at == 0)
            f = ctl_global_flags;
        else if (*at < p->depth)
            f = p->at[*at]->flags;
        else
            return NULL;
        ++*at;
    }
}

#define EACH_FLAG(f, p)                                                            \
    for (int at_here = 0, once_here = 1; once_here; once_here = 0)                 \
        for (const struct ctl_flag *f = next_flag((p), &at_here, NULL); f != NULL; \
             f = next_flag((p), &at_here, f))

static bool takes_value(const struct ctl_flag *f)
{
    return f->type != CTL_BOOL;
}

/* In single quotes; `quote` is how one gets a single quote into them. */
static void put_quoted(const char *text, const char *quote)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs(quote, stdout);
        else if (*text == '\n')
            fputc(' ', stdout);
        else
            fputc(*text, stdout);
    }
}

static const char *or_empty(const char *text)
{
    return text == NULL ? "" : text;
}

/* --- bash --- */

static void each_sub(const struct place *p, void (*put)(const struct ctl_command *c))
{
    if (p->depth == 0) {
        for (const struct ctl_command *const *c = ctl_commands; *c != NULL; c++)
            if (((*c)->options & CTL_HIDDEN) == 0)
                put(*c);
        return;
    }
    const struct ctl_command *c = p->at[p->depth - 1]->subs;
    for (; c != NULL && c->name != NULL; c++)
        if ((c->options & CTL_HIDDEN) == 0)
            put(c);
}

static bool has_subs(const struct place *p)
{
    return p->depth == 0 || p->at[p->depth - 1]->subs != NULL;
}

static void bash_sub(const struct ctl_command *c)
{
    printf("%s ", c->name);
}

static void bash_subs(const struct place *p)
{
    if (!has_subs(p))
        return;
    printf("    '%s') echo '", p->path);
    each_sub(p, bash_sub);
    printf("' ;;\n");
}

static void bash_flags(const struct place *p)
{
    bool any = false;
    EACH_FLAG(f, p)
    {
        if (!any)
            printf("    '%s') echo '", p->path);
        any = true;
        printf("--%s ", f->name);
    }
    if (any)
        printf("' ;;\n");
}

static void bash_takes(const struct place *p)
{
    EACH_FLAG(f, p)
    {
        if (!takes_value(f))
            continue;
        printf("    '%s:--%s'", p->path, f->name);
        if (f->letter != 0)
            printf("|'%s:-%c'", p->path, f->letter);
        printf(") return 0 ;;\n");
    }
}

static void bash_words(const struct place *p)
{
    EACH_FLAG(f, p)
    {
        if (f->words == NULL)
            continue;
        printf("    '%s:--%s'", p->path, f->name);
        if (f->letter != 0)
            printf("|'%s:-%c'", p->path, f->letter);
        printf(") echo '%s' ;;\n", f->words);
    }
}

/* The same functions in bash and in zsh. */
static void put_functions(void)
{
    printf("_trivetctl_subs() {\n    case \"$1\" in\n");
    each_place(bash_subs);
    printf("    esac\n}\n\n_trivetctl_flags() {\n    case \"$1\" in\n");
    each_place(bash_flags);
    printf("    esac\n}\n\n# Of a command, or of trivetctl itself.\n"
           "_trivetctl_takes() {\n    case \"$1\" in\n");
    each_place(bash_takes);
    printf("    esac\n    return 1\n}\n\n_trivetctl_words() {\n    case \"$1\" in\n");
    each_place(bash_words);
    printf("    esac\n}\n\n");
}

static const char bash_main[] =
    "# Sets `command` to what the words before the cursor say.\n"
    "_trivetctl_command() {\n"
    "    local word skip=\n"
    "    command=\n"
    "    for word in \"$@\"; do\n"
    "        if [ -n \"$skip\" ]; then skip=; continue; fi\n"
    "        case \"$word\" in\n"
    "        -*=*) ;;\n"
    "        -*) if _trivetctl_takes \"$command:$word\" || _trivetctl_takes \":$word\"; then\n"
    "                skip=1; fi ;;\n"
    "        *)  case \" $(_trivetctl_subs \"$command\") \" in\n"
    "            *\" $word \"*) command=\"${command:+$command }$word\" ;;\n"
    "            *) return ;;\n"
    "            esac ;;\n"
    "        esac\n"
    "    done\n"
    "}\n\n";

static const char bash_tail[] =
    "_trivetctl() {\n"
    "    local line command current previous words flag\n"
    "    local -a before\n"
    "    COMPREPLY=()\n"
    "    line=${COMP_LINE:0:COMP_POINT}\n"
    "    # bash takes '=' and ':' for the ends of words; we do not.\n"
    "    read -ra before <<<\"$line\"\n"
    "    current=\n"
    "    if [[ $line != *[[:space:]] && ${#before[@]} -gt 0 ]]; then\n"
    "        current=${before[${#before[@]} - 1]}\n"
    "        unset \"before[${#before[@]} - 1]\"\n"
    "    fi\n"
    "    previous=\n"
    "    [ ${#before[@]} -gt 1 ] && previous=${before[${#before[@]} - 1]}\n"
    "    _trivetctl_command \"${before[@]:1}\"\n"
    "    flag=\n"
    "    if [[ $current == -*=* ]]; then\n"
    "        flag=${current%%=*}\n"
    "        current=${current#*=}\n"
    "    elif [[ $previous == -* && $previous != *=* ]] &&\n"
    "         { _trivetctl_takes \"$command:$previous\" || _trivetctl_takes \":$previous\"; }; "
    "then\n"
    "        flag=$previous\n"
    "    fi\n"
    "    if [ -n \"$flag\" ]; then\n"
    "        words=$(_trivetctl_words \"$command:$flag\")\n"
    "        [ -z \"$words\" ] && words=$(_trivetctl_words \":$flag\")\n"
    "        if [ -z \"$words\" ]; then\n"
    "            compopt -o default 2>/dev/null\n"
    "            return\n"
    "        fi\n"
    "    elif [[ $current == -* ]]; then\n"
    "        words=$(_trivetctl_flags \"$command\")\n"
    "        [ -n \"$command\" ] && words=\"$words $(_trivetctl_flags '')\"\n"
    "    else\n"
    "        words=$(_trivetctl_subs \"$command\")\n"
    "        if [ -z \"$words\" ]; then\n"
    "            compopt -o default 2>/dev/null\n"
    "            return\n"
    "        fi\n"
    "    fi\n"
    "    # What bash has taken off the front of the word already must not come again.\n"
    "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
    "}\n\n"
    "complete -F _trivetctl trivetctl\n";

static void put_bash(void)
{
    printf(
        "# trivetctl's completion for bash. Load it with: source <(trivetctl completion bash)\n\n");
    put_functions();
    fputs(bash_main, stdout);
    fputs(bash_tail, stdout);
}

/* --- zsh --- */

static void zsh_text(const char *name, const char *about)
{
    printf("        '%s:", name);
    put_quoted(about, "'\\''");
    printf("'\n");
}

static void zsh_sub(const struct ctl_command *c)
{
    zsh_text(c->name, or_empty(c->brief));
}

static void zsh_subs(const struct place *p)
{
    if (!has_subs(p))
        return;
    printf("    '%s') list=(\n", p->path);
    each_sub(p, zsh_sub);
    printf("        ) ;;\n");
}

static void zsh_flags(const struct place *p)
{
    bool any = false;
    EACH_FLAG(f, p)
    {
        char name[80];
        if (!any)
            printf("    '%s') list+=(\n", p->path);
        any = true;
        (void)snprintf(name, sizeof(name), "--%s", f->name);
        zsh_text(name, or_empty(f->help));
    }
    if (any)
        printf("        ) ;;\n");
}

static const char zsh_tail[] =
    "_trivetctl() {\n"
    "    local command flag current=\"${words[CURRENT]}\" previous=\n"
    "    local -a list values\n"
    "    (( CURRENT > 2 )) && previous=\"${words[CURRENT - 1]}\"\n"
    "    _trivetctl_command \"${(@)words[2,CURRENT - 1]}\"\n"
    "    if [[ $current == -*=* ]]; then\n"
    "        flag=${current%%=*}\n"
    "        compset -P '*='\n"
    "    elif [[ $previous == -* && $previous != *=* ]] &&\n"
    "         { _trivetctl_takes \"$command:$previous\" || _trivetctl_takes \":$previous\" }; "
    "then\n"
    "        flag=$previous\n"
    "    fi\n"
    "    if [[ -n $flag ]]; then\n"
    "        values=(${=$(_trivetctl_words \"$command:$flag\")})\n"
    "        (( ${#values} )) || values=(${=$(_trivetctl_words \":$flag\")})\n"
    "        if (( ${#values} )); then compadd -a values; else _files; fi\n"
    "    elif [[ $current == -* ]]; then\n"
    "        _trivetctl_list_flags \"$command\"\n"
    "        [[ -n $command ]] && _trivetctl_list_flags ''\n"
    "        _describe -o option list\n"
    "    else\n"
    "        _trivetctl_list_subs \"$command\"\n"
    "        if (( ${#list} )); then _describe command list; else _files; fi\n"
    "    fi\n"
    "}\n\n"
    "if [[ ${funcstack[1]} == _trivetctl ]]; then\n"
    "    _trivetctl \"$@\"\n"
    "else\n"
    "    compdef _trivetctl trivetctl\n"
    "fi\n";

static void put_zsh(void)
{
    printf(
        "#compdef trivetctl\n# trivetctl's completion for zsh. Put it into a folder of $fpath, as "
        "_trivetctl;\n# or: source <(trivetctl completion zsh)\n\n");
    put_functions();
    fputs(bash_main, stdout);
    printf("_trivetctl_list_subs() {\n    case \"$1\" in\n");
    each_place(zsh_subs);
    printf("    esac\n}\n\n_trivetctl_list_flags() {\n    case \"$1\" in\n");
    each_place(zsh_flags);
    printf("    esac\n}\n\n");
    fputs(zsh_tail, stdout);
}

/* --- fish --- */

static const char *fish_path;

static void fish_sub(const struct ctl_command *c)
{
    printf("complete -c trivetctl -n '__trivetctl_at \"%s\"' -f -a '%s' -d '", fish_path, c->name);
    put_quoted(or_empty(c->brief), "\\'");
    printf("'\n");
}

static void fish_subs(const struct place *p)
{
    fish_path = p->path;
    if (has_subs(p))
        each_sub(p, fish_sub);
}

static void fish_flags(const struct place *p)
{
    EACH_FLAG(f, p)
    {
        printf("complete -c trivetctl ");
        if (p->depth > 0)
            printf("-n '__trivetctl_at \"%s\"' ", p->path);
        printf("-l %s", f->name);
        if (f->letter != 0)
            printf(" -s %c", f->letter);
        if (takes_value(f))
            printf(" -r");
        if (f->words != NULL)
            printf(" -f -a '%s'", f->words);
        printf(" -d '");
        put_quoted(or_empty(f->help), "\\'");
        printf("'\n");
    }
}

static void fish_takes(const struct place *p)
{
    EACH_FLAG(f, p)
    {
        if (!takes_value(f))
            continue;
        printf("        case '%s:--%s'", p->path, f->name);
        if (f->letter != 0)
            printf(" '%s:-%c'", p->path, f->letter);
        printf("\n            return 0\n");
    }
}

static void fish_known(const struct place *p)
{
    if (p->depth > 0)
        printf("        case '%s'\n            return 0\n", p->path);
}

static const char fish_main[] =
    "function __trivetctl_command\n"
    "    set -l command ''\n"
    "    set -l skip 0\n"
    "    for word in (commandline -opc)[2..-1]\n"
    "        if test $skip = 1\n"
    "            set skip 0\n"
    "            continue\n"
    "        end\n"
    "        switch $word\n"
    "            case '-*=*'\n"
    "            case '-*'\n"
    "                if __trivetctl_takes \"$command:$word\"; or __trivetctl_takes \":$word\"\n"
    "                    set skip 1\n"
    "                end\n"
    "            case '*'\n"
    "                set -l longer (string trim -- \"$command $word\")\n"
    "                __trivetctl_known $longer; or break\n"
    "                set command $longer\n"
    "        end\n"
    "    end\n"
    "    echo $command\n"
    "end\n\n"
    "function __trivetctl_at\n"
    "    test \"$(__trivetctl_command)\" = \"$argv[1]\"\n"
    "end\n\n";

static void put_fish(void)
{
    printf("# trivetctl's completion for fish. Load it with: trivetctl completion fish | source\n\n"
           "function __trivetctl_takes\n    switch $argv[1]\n");
    each_place(fish_takes);
    printf("    end\n    return 1\nend\n\nfunction __trivetctl_known\n    switch \"$argv[1]\"\n");
    each_place(fish_known);
    printf("    end\n    return 1\nend\n\n");
    fputs(fish_main, stdout);
    each_place(fish_subs);
    each_place(fish_flags);
}

/* --- the command --- */

static int run_bash(struct ctl *c)
{
    (void)c;
    put_bash();
    return CTL_OK;
}

static int run_zsh(struct ctl *c)
{
    (void)c;
    put_zsh();
    return CTL_OK;
}

static int run_fish(struct ctl *c)
{
    (void)c;
    put_fish();
    return CTL_OK;
}

static const struct ctl_command subs[] = {
    {.name = "bash",
     .usage = "",
     .brief = "Generates the autocompletion script for bash",
     .examples = "source <(trivetctl completion bash)",
     .options = CTL_LOCAL,
     .run = run_bash},
    {.name = "fish",
     .usage = "",
     .brief = "Generates the autocompletion script for fish",
     .examples = "trivetctl completion fish | source",
     .options = CTL_LOCAL,
     .run = run_fish},
    {.name = "zsh",
     .usage = "",
     .brief = "Generates the autocompletion script for zsh",
     .examples = "source <(trivetctl completion zsh)",
     .options = CTL_LOCAL,
     .run = run_zsh},
    {NULL},
};

const struct ctl_command ctl_cmd_completion = {
    .name = "completion",
    .usage = "<shell>",
    .brief = "Generates a script by which a shell completes trivetctl's commands",
    .group = "Utility commands",
    .subs = subs,
    .options = CTL_LOCAL,
};
