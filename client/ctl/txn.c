/* txn: compares and requests, a line each, from standard input. */
#include "commands.h"
#include "kv.h"

#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The next line without spaces around it; "" ends a part. */
static char *read_line(struct ctl *c)
{
    static char *line;
    static size_t capacity;
    ssize_t size = getline(&line, &capacity, stdin);
    if (size <= 0 || line[size - 1] != '\n')
        ctl_fail(c, CTL_INVALID_INPUT, "EOF");
    const char *from = line + strspn(line, " \t\r\v\f\n");
    while (size > 0 && isspace((unsigned char)line[size - 1]))
        line[--size] = '\0';
    return ctl_copy(trivet_str(from));
}

/* --- compares --- */

/* A word in double quotes, unquoted; moves *text behind it. NULL: there is none. */
static char *take_quoted(struct ctl *c, const char **text)
{
    const char *p = *text;
    char **words;
    if (*p != '"')
        return NULL;
    for (p++; *p != '"'; p++) {
        if (*p == '\0' || (*p == '\\' && *++p == '\0'))
            return NULL;
    }
    char *quoted = ctl_copy(trivet_bytes(*text, (size_t)(p + 1 - *text)));
    int count = ctl_split(c, quoted, &words);
    *text = p + 1;
    return count == 1 ? words[0] : NULL;
}

static const char *skip_spaces(const char *p)
{
    return p + strspn(p, " \t");
}

struct compare_words {
    char *target;
    char *key;
    char *operator;
    char *value;
};

/* target("key") operator "value" */
static void split_compare(struct ctl *c, const char *line, struct compare_words *ret)
{
    const char *p = strchr(line, '(');
    *ret = (struct compare_words){.target = "", .key = "", .operator= "", .value = ""};
    if (p == NULL)
        ctl_fail(c, CTL_INVALID_INPUT, "malformed comparison: %s", line);
    ret->target = ctl_copy(trivet_bytes(line, (size_t)(p - line)));
    p++;
    char *key = take_quoted(c, &p), *value = NULL;
    if (key != NULL) {
        ret->key = key;
        if (*p == ')') {
            p = skip_spaces(p + 1);
            size_t size = strcspn(p, " \t");
            ret->operator= ctl_copy(trivet_bytes(p, size));
            p = skip_spaces(p + size);
            value = take_quoted(c, &p);
        }
    }
    if (value == NULL)
        ctl_fail(c, CTL_INVALID_INPUT, "malformed comparison: %s; got %s(%s) %s %s", line,
                 ret->target, ctl_quoted(trivet_str(ret->key)), ret->operator,
                 ctl_quoted(trivet_str("")));
    ret->value = value;
}

static int target_of(const char *name)
{
    static const struct {
        const char *name;
        int target;
    } targets[] = {
        {"ver", TRIVET_COMPARE_VERSION}, {"version", TRIVET_COMPARE_VERSION},
        {"c", TRIVET_COMPARE_CREATE},    {"create", TRIVET_COMPARE_CREATE},
        {"m", TRIVET_COMPARE_MOD},       {"mod", TRIVET_COMPARE_MOD},
        {"val", TRIVET_COMPARE_VALUE},   {"value", TRIVET_COMPARE_VALUE},
        {"lease", TRIVET_COMPARE_LEASE},
    };
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        if (strcmp(targets[i].name, name) == 0)
            return targets[i].target;
    }
    return -1;
}

static void parse_compare(struct ctl *c, const char *line, struct trivet_compare *ret)
{
    static const char *const operators[] = {"=", ">", "<", "!="};
    struct compare_words w;
    split_compare(c, line, &w);
    *ret = (struct trivet_compare){.key = trivet_str(w.key), .target = target_of(w.target)};
    if (ret->target < 0)
        ctl_fail(c, CTL_INVALID_INPUT, "malformed comparison: %s (unknown target %s)", line,
                 w.target);
    ret->result = -1;
    for (int i = 0; i < 4; i++) {
        if (strcmp(w.operator, operators[i]) == 0)
            ret->result = i;
    }
    if (ret->result < 0)
        ctl_fail(c, CTL_INVALID_INPUT, "malformed comparison: %s (unknown operator %s)", line,
                 w.operator);
    if (ret->target == TRIVET_COMPARE_VALUE)
        ret->value = trivet_str(w.value);
    else if (ctl_parse_int(w.value, ret->target == TRIVET_COMPARE_LEASE ? 16 : 10, &ret->number))
        ctl_fail(c, CTL_INVALID_INPUT, "invalid txn compare request: %s", line);
}

static struct trivet_compare *read_compares(struct ctl *c, uint32_t *ret_count)
{
    struct trivet_compare *list = NULL;
    const char *line;
    *ret_count = 0;
    while (*(line = read_line(c)) != '\0') {
        list = mem_realloc(list, (*ret_count + 1) * sizeof(list[0]));
        parse_compare(c, line, &list[(*ret_count)++]);
    }
    return list;
}

/* --- requests --- */

static void parse_request(struct ctl *c, const char *line, struct trivet_request *ret)
{
    static const struct {
        const struct ctl_command *command;
        void (*request)(struct ctl *c, struct trivet_request *ret);
    } kinds[] = {{&ctl_cmd_put, kv_put_request},
                 {&ctl_cmd_get, kv_range_request},
                 {&ctl_cmd_del, kv_delete_request}};
    char **words;
    int count = ctl_split(c, line, &words);
    if (count < 2)
        ctl_fail(c, CTL_INVALID_INPUT, "invalid txn compare request: %s", line);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct ctl sub;
        if (strncmp(kinds[i].command->name, words[0], strlen(words[0])) != 0)
            continue;
        if (ctl_parse_words(c, kinds[i].command, words + 1, count - 1, &sub) != NULL)
            break;
        kinds[i].request(&sub, ret);
        return;
    }
    ctl_fail(c, CTL_INVALID_INPUT, "invalid txn request: %s", line);
}

static struct trivet_request *read_requests(struct ctl *c, uint32_t *ret_count)
{
    struct trivet_request *list = NULL;
    const char *line;
    *ret_count = 0;
    while (*(line = read_line(c)) != '\0') {
        list = mem_realloc(list, (*ret_count + 1) * sizeof(list[0]));
        parse_request(c, line, &list[(*ret_count)++]);
    }
    return list;
}

static void prompt(struct ctl *c, const char *text)
{
    if (ctl_bool(c, "interactive"))
        puts(text);
    fflush(stdout);
}

static int run_txn(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_TXN};
    struct trivet_result r;
    if (c->args_count != 0)
        ctl_fail(c, CTL_BAD_ARGS, "txn command does not accept argument");
    (void)ctl_client(c);
    prompt(c, "compares:");
    q.u.txn.compares = read_compares(c, &q.u.txn.compares_count);
    prompt(c, "success requests (get, put, del):");
    q.u.txn.success = read_requests(c, &q.u.txn.success_count);
    prompt(c, "failure requests (get, put, del):");
    q.u.txn.failure = read_requests(c, &q.u.txn.failure_count);
    c->command_timeout_ns = 0; /* it waits for ever, as etcdctl's does */
    ctl_call(c, &q, &r);
    kv_print(c, &r, false);
    trivet_result_clear(&r);
    return CTL_OK;
}

static const struct ctl_flag txn_flags[] = {
    {"interactive", 'i', CTL_BOOL, NULL, "say what is to be typed"},
    {NULL},
};

const struct ctl_command ctl_cmd_txn = {
    .name = "txn",
    .usage = "[options]",
    .brief = "Compares and changes in one transaction",
    .help = "Reads a transaction from standard input: lines of compares, an empty line, requests\n"
            "for when all of them hold, an empty line, requests for when one does not, and\n"
            "another empty line:\n\n"
            "  mod(\"key1\") > \"0\"\n\n"
            "  put key1 \"changed\"\n\n"
            "  put key1 \"created\"\n"
            "  put key2 \"also\"\n\n"
            "Compared are ver, create, mod, val and lease (in hexadecimal), by =, !=, < or >.\n"
            "Requests are get, put and del with the flags of these commands.",
    .group = "Key-value commands",
    .flags = txn_flags,
    .run = run_txn,
};
