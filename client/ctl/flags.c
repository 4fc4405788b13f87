/* The command line: which command it names, and what its flags say. As in etcdctl, flags may stand
 * anywhere, commands may be shortened, and what no flag says an environment variable may. */
#include "frame.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct ctl_value {
    const struct ctl_flag *flag;
    bool given;
    bool from_command_line;
    union {
        bool boolean;
        int64_t number;
        uint64_t count; /* UINT, DURATION */
        const char *text;
        char **list;
    } u;
};

/* --- values --- */

/* The words between commas, behind those that are there. */
static char **add_words(char **old, const char *text)
{
    uint32_t count = 0;
    while (old != NULL && old[count] != NULL)
        count++;
    char *rest = ctl_copy(trivet_str(text)), *one;
    char **list = mem_realloc(old, (count + strlen(text) + 2) * sizeof(list[0]));
    while ((one = strsep(&rest, ",")) != NULL)
        list[count++] = one;
    list[count] = NULL;
    return list;
}

static const char *parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        *ret = strcmp(text, yes[i]) == 0;
        if (*ret || strcmp(text, no[i]) == 0)
            return NULL;
    }
    return ctl_sprintf("strconv.ParseBool: parsing \"%s\": invalid syntax", text);
}

/* NULL, or why `text` cannot be. */
static const char *set(struct ctl_value *v, const char *text)
{
    const char *why = NULL;
    switch (v->flag->type) {
    case CTL_BOOL:
        why = parse_bool(text, &v->u.boolean);
        break;
    case CTL_INT:
        why = ctl_parse_int(text, 0, &v->u.number);
        break;
    case CTL_UINT:
        why = ctl_parse_uint(text, 0, &v->u.count);
        break;
    case CTL_DURATION:
        why = ctl_parse_duration(text, &v->u.count);
        break;
    case CTL_STRING:
        v->u.text = text;
        break;
    case CTL_STRINGS:
        v->u.list = add_words(v->given ? v->u.list : NULL, text);
        break;
    }
    v->given = v->given || why == NULL;
    return why;
}

static struct ctl_value *find(const struct ctl *c, const char *name, size_t size)
{
    for (uint32_t i = 0; i < c->values_count; i++) {
        const struct ctl_flag *f = c->values[i].flag;
        if (strncmp(f->name, name, size) == 0 && f->name[size] == '\0')
            return f->alias_of == NULL ? &c->values[i] : find(c, f->alias_of, strlen(f->alias_of));
    }
    return NULL;
}

static struct ctl_value *find_letter(const struct ctl *c, char letter)
{
    for (uint32_t i = 0; i < c->values_count; i++) {
        if (c->values[i].flag->letter == letter)
            return find(c, c->values[i].flag->name, strlen(c->values[i].flag->name));
    }
    return NULL;
}

static void add_flags(struct ctl *c, const struct ctl_flag *flags)
{
    for (; flags != NULL && flags->name != NULL; flags++) {
        c->values = mem_realloc(c->values, (c->values_count + 1) * sizeof(c->values[0]));
        struct ctl_value *v = &c->values[c->values_count++];
        *v = (struct ctl_value){.flag = flags};
        if (flags->type == CTL_STRING)
            v->u.text = "";
        if (flags->type == CTL_STRINGS)
            v->u.list = mem_alloc_zero(sizeof(v->u.list[0]));
        if (flags->preset != NULL) {
            const char *why = set(v, flags->preset);
            ASSERT(why == NULL);
            v->given = false;
        }
    }
}

/* --- what the words say --- */

static const char *set_or_say(struct ctl_value *v, const char *text)
{
    const struct ctl_flag *f = v->flag;
    const char *why = set(v, text);
    if (why == NULL) {
        v->from_command_line = true;
        return NULL;
    }
    if (f->letter != 0)
        return ctl_sprintf("invalid argument \"%s\" for \"-%c, --%s\" flag: %s", text, f->letter,
                           f->name, why);
    return ctl_sprintf("invalid argument \"%s\" for \"--%s\" flag: %s", text, f->name, why);
}

/* Words that are still to be read. */
struct words {
    char **at;
    int count;
};

static char *next(struct words *w)
{
    w->count--;
    return *w->at++;
}

static const char *parse_long(struct ctl *c, char *word, struct words *rest)
{
    const char *name = word + 2;
    size_t size = strcspn(name, "=");
    if (size == 0 || *name == '-')
        return ctl_sprintf("bad flag syntax: %s", word);
    if (strcmp(name, "help") == 0) {
        c->help = true;
        return NULL;
    }
    struct ctl_value *v = find(c, name, size);
    if (v == NULL)
        return ctl_sprintf("unknown flag: --%.*s", (int)size, name);
    if (name[size] == '=')
        return set_or_say(v, name + size + 1);
    if (v->flag->type == CTL_BOOL)
        return set_or_say(v, "true");
    if (rest->count == 0)
        return ctl_sprintf("flag needs an argument: --%s", name);
    return set_or_say(v, next(rest));
}

static const char *parse_letters(struct ctl *c, char *word, struct words *rest)
{
    for (const char *p = word + 1; *p != '\0'; p++) {
        struct ctl_value *v = find_letter(c, *p);
        if (v == NULL && *p == 'h') {
            c->help = true;
            return NULL;
        }
        if (v == NULL)
            return ctl_sprintf("unknown shorthand flag: '%c' in %s", *p, word);
        if (p[1] == '=')
            return set_or_say(v, p + 2);
        if (v->flag->type == CTL_BOOL) {
            const char *why = set_or_say(v, "true");
            if (why != NULL)
                return why;
            continue;
        }
        if (p[1] != '\0')
            return set_or_say(v, p + 1);
        if (rest->count == 0)
            return ctl_sprintf("flag needs an argument: '%c' in %s", *p, word);
        return set_or_say(v, next(rest));
    }
    return NULL;
}

static const char *parse_words(struct ctl *c, struct words rest)
{
    const char *why = NULL;
    while (rest.count > 0 && why == NULL) {
        char *word = next(&rest);
        bool letters = word[0] == '-' && word[1] != '\0' && word[1] != '-';
        if (strcmp(word, "--") == 0) {
            c->dash_at = c->args_count;
            while (rest.count > 0)
                c->args[c->args_count++] = next(&rest);
        } else if (strncmp(word, "--", 2) == 0) {
            why = parse_long(c, word, &rest);
        } else if (letters) {
            why = parse_letters(c, word, &rest);
        } else {
            c->args[c->args_count++] = word;
        }
    }
    return why;
}

/* --- which command --- */

static const struct ctl_command *sub_of(const struct ctl_command *const *from, const char *name)
{
    const struct ctl_command *found = NULL;
    uint32_t count = 0;
    for (; *from != NULL; from++) {
        if (strcmp((*from)->name, name) == 0)
            return *from;
        if (strncmp((*from)->name, name, strlen(name)) == 0) {
            found = *from;
            count++;
        }
    }
    return count == 1 && *name != '\0' ? found : NULL;
}

const struct ctl_command *frame_sub(const struct ctl_command *parent, const char *name)
{
    const struct ctl_command *found = NULL;
    uint32_t count = 0;
    if (parent == NULL)
        return sub_of(ctl_commands, name);
    for (const struct ctl_command *sub = parent->subs; sub != NULL && sub->name != NULL; sub++) {
        if (strcmp(sub->name, name) == 0)
            return sub;
        if (*name != '\0' && strncmp(sub->name, name, strlen(name)) == 0) {
            found = sub;
            count++;
        }
    }
    return count == 1 ? found : NULL;
}

static void enter(struct ctl *c, const struct ctl_command *command)
{
    size_t size = strlen(c->path);
    (void)snprintf(c->path + size, sizeof(c->path) - size, size > 0 ? " %s" : "%s", command->name);
    c->command = command;
    add_flags(c, command->flags);
}

/* Is the word a flag whose value is the next one? */
static bool takes_next(const struct ctl *c, const char *word)
{
    struct ctl_value *v = NULL;
    if (strncmp(word, "--", 2) == 0)
        v = strchr(word, '=') == NULL ? find(c, word + 2, strlen(word + 2)) : NULL;
    else if (word[1] != '\0' && word[2] == '\0')
        v = find_letter(c, word[1]);
    return v != NULL && v->flag->type != CTL_BOOL;
}

const char *frame_parse(struct ctl *c, char **words, int words_count)
{
    char **rest = mem_alloc(((size_t)words_count + 1) * sizeof(rest[0]));
    struct words w = {.at = rest};
    c->args = mem_alloc(((size_t)words_count + 1) * sizeof(c->args[0]));
    c->dash_at = -1;
    add_flags(c, ctl_global_flags);
    bool done = false;
    for (int i = 0; i < words_count; i++) {
        const struct ctl_command *sub = NULL;
        bool flag = words[i][0] == '-';
        if (strcmp(words[i], "--") == 0)
            done = true;
        if (!flag && !done)
            sub = frame_sub(c->command, words[i]);
        if (sub != NULL) {
            enter(c, sub);
            c->raw = words + i + 1;
            c->raw_count = words_count - i - 1;
            done = sub->subs == NULL;
            continue;
        }
        done = done || !flag;
        rest[w.count++] = words[i];
        if (flag && !done && takes_next(c, words[i]) && i + 1 < words_count)
            rest[w.count++] = words[++i];
    }
    return parse_words(c, w);
}

const char *ctl_parse_words(struct ctl *c, const struct ctl_command *command, char **words,
                            int words_count, struct ctl *ret)
{
    *ret = *c;
    ret->values = NULL;
    ret->values_count = 0;
    ret->path[0] = '\0';
    ret->args = mem_alloc(((size_t)words_count + 1) * sizeof(ret->args[0]));
    ret->args_count = 0;
    ret->dash_at = -1;
    enter(ret, command);
    return parse_words(ret, (struct words){words, words_count});
}

/* --- the environment --- */

extern char **environ;

static const char *const prefixes[] = {"TRIVETCTL_", "ETCDCTL_"};

static char *variable_of(const char *prefix, const char *flag)
{
    char *name = ctl_sprintf("%s%s", prefix, flag);
    for (char *p = name; *p != '\0'; p++)
        *p = *p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
    return name;
}

/* A log line as etcdctl writes it. */
static void log_line(const char *level, const char *msg, const char *variable)
{
    fprintf(stderr, "{\"level\":\"%s\",\"msg\":\"%s\",\"environment-variable\":\"%s\"}\n", level,
            msg, variable);
}

/* Says so when it belongs to no flag. */
static void look_at_variable(const struct ctl *c, const char *variable)
{
    static const char *const others[] = {"ETCDCTL_API", "ETCDCTL_WATCH_KEY",
                                         "ETCDCTL_WATCH_RANGE_END"};
    char *name = ctl_copy(trivet_bytes(variable, strcspn(variable, "=")));
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(name, others[i]) == 0)
            return;
    }
    for (uint32_t i = 0; i < c->values_count; i++) {
        for (size_t j = 0; j < 2; j++) {
            if (strcmp(name, variable_of(prefixes[j], c->values[i].flag->name)) == 0)
                return;
        }
    }
    log_line("warn", "unrecognized environment variable", variable);
}

void frame_environment(struct ctl *c)
{
    bool conflict = false;
    for (uint32_t i = 0; i < c->values_count; i++) {
        struct ctl_value *v = &c->values[i];
        for (size_t j = 0; j < 2 && !(v->given && !v->from_command_line); j++) {
            char *name = variable_of(prefixes[j], v->flag->name);
            const char *value = getenv(name);
            if (value != NULL && v->from_command_line) {
                log_line("fatal",
                         "conflicting environment variable is shadowed by corresponding "
                         "command-line flag (either unset environment variable or disable flag))",
                         name);
                conflict = true;
            } else if (value != NULL && *value != '\0') {
                (void)set(v, value); /* etcdctl passes over what cannot be, too */
            }
            mem_free(name);
        }
    }
    if (conflict)
        exit(CTL_ERROR);
    for (char **e = environ; *e != NULL; e++) {
        if (strncmp(*e, prefixes[0], strlen(prefixes[0])) == 0 ||
            strncmp(*e, prefixes[1], strlen(prefixes[1])) == 0)
            look_at_variable(c, *e);
    }
}

void frame_print_flags(const struct ctl *c)
{
    char text[32];
    for (uint32_t i = 0; i < c->values_count; i++) {
        const struct ctl_value *v = &c->values[i];
        if (v->flag->alias_of != NULL)
            continue;
        fprintf(stderr, "%s=", variable_of("ETCDCTL_", v->flag->name));
        switch (v->flag->type) {
        case CTL_BOOL:
            fputs(v->u.boolean ? "true" : "false", stderr);
            break;
        case CTL_INT:
        case CTL_UINT:
            fprintf(stderr, "%lld", (long long)v->u.number);
            break;
        case CTL_DURATION:
            fputs(ctl_duration(text, v->u.count), stderr);
            break;
        case CTL_STRING:
            fputs(strcmp(v->flag->name, "password") == 0 && *v->u.text != '\0' ? "..." : v->u.text,
                  stderr);
            break;
        case CTL_STRINGS:
            for (char **p = v->u.list; *p != NULL; p++)
                fprintf(stderr, p == v->u.list ? "[%s" : " %s", *p);
            fputc(']', stderr);
            break;
        }
        fputc('\n', stderr);
    }
}

/* --- asked for by commands --- */

static struct ctl_value *value_of(const struct ctl *c, const char *name)
{
    struct ctl_value *v = find(c, name, strlen(name));
    ASSERT(v != NULL);
    return v;
}

bool ctl_bool(const struct ctl *c, const char *name)
{
    return value_of(c, name)->u.boolean;
}

const char *ctl_text(const struct ctl *c, const char *name)
{
    return value_of(c, name)->u.text;
}

int64_t ctl_int(const struct ctl *c, const char *name)
{
    return value_of(c, name)->u.number;
}

uint64_t ctl_uint(const struct ctl *c, const char *name)
{
    return value_of(c, name)->u.count;
}

uint64_t ctl_duration_ns(const struct ctl *c, const char *name)
{
    return value_of(c, name)->u.count;
}

bool ctl_given(const struct ctl *c, const char *name)
{
    return value_of(c, name)->given;
}

char **ctl_strings(const struct ctl *c, const char *name, uint32_t *ret_count)
{
    char **list = value_of(c, name)->u.list;
    uint32_t count = 0;
    while (list[count] != NULL)
        count++;
    if (ret_count != NULL)
        *ret_count = count;
    return list;
}
