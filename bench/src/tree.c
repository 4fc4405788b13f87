#include "tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    struct arena *arena;
    const char *at; /* ends with a 0 */
    const char *end;
    const char *error;
    uint32_t depth;
};

static struct tree *parse_value(struct parser *p);

static void *fail(struct parser *p, const char *why)
{
    if (p->error == NULL)
        p->error = why;
    return NULL;
}

static void skip_blanks(struct parser *p)
{
    while (p->at < p->end && strchr(" \t\r\n", *p->at) != NULL)
        p->at++;
}

static bool take(struct parser *p, char c)
{
    skip_blanks(p);
    if (p->at == p->end || *p->at != c)
        return false;
    p->at++;
    return true;
}

static struct tree *new_tree(struct parser *p, enum tree_type type)
{
    struct tree *t = arena_alloc(p->arena, sizeof(*t));
    *t = (struct tree){.type = type};
    return t;
}

/* --- strings --- */

static int hex_of(const char *digits)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        const char *hex = "0123456789abcdef";
        const char *found = digits[i] == 0 ? NULL : strchr(hex, digits[i] | 0x20);
        if (found == NULL)
            return -1;
        value = value * 16 + (int)(found - hex);
    }
    return value;
}

/* Of the first plane; a surrogate becomes the mark of a character that is not known. */
static char *put_utf8(char *to, int code)
{
    if (code >= 0xd800 && code < 0xe000)
        code = 0xfffd;
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

static char *unescape(struct parser *p, char *to)
{
    static const char from[] = "\"\\/bfnrt";
    static const char into[] = "\"\\/\b\f\n\r\t";
    char c = *p->at++;
    if (c == 'u') {
        int code = p->end - p->at >= 4 ? hex_of(p->at) : -1;
        if (code <= 0)
            return fail(p, "an escape is none");
        p->at += 4;
        return put_utf8(to, code);
    }
    const char *found = c == 0 ? NULL : strchr(from, c);
    if (found == NULL)
        return fail(p, "an escape is none");
    *to++ = into[found - from];
    return to;
}

/* An escape is never shorter than what it stands for. */
static const char *parse_string(struct parser *p)
{
    if (!take(p, '"'))
        return fail(p, "a string is missing");
    const char *close = p->at;
    while (close < p->end && *close != '"')
        close += 1 + (*close == '\\');
    if (close >= p->end)
        return fail(p, "a string does not end");
    char *text = arena_alloc(p->arena, (size_t)(close - p->at) + 1);
    char *to = text;
    while (p->at < close && to != NULL) {
        if ((unsigned char)*p->at < 0x20)
            return fail(p, "a control character in a string");
        if (*p->at == '\\') {
            p->at++;
            to = unescape(p, to);
        } else {
            *to++ = *p->at++;
        }
    }
    if (to == NULL)
        return NULL;
    *to = 0;
    p->at = close + 1;
    return text;
}

/* --- values --- */

static struct tree *parse_number(struct parser *p)
{
    char *after;
    bool begins = *p->at == '-' || (*p->at >= '0' && *p->at <= '9');
    errno = 0;
    double value = begins ? strtod(p->at, &after) : 0;
    if (!begins || after == p->at || errno != 0)
        return fail(p, "a value is missing");
    struct tree *t = new_tree(p, TREE_NUMBER);
    t->number = value;
    p->at = after;
    return t;
}

static struct tree *parse_word(struct parser *p)
{
    static const struct {
        const char *word;
        enum tree_type type;
        double number;
    } words[] = {{"true", TREE_BOOL, 1}, {"false", TREE_BOOL, 0}, {"null", TREE_NULL, 0}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t size = strlen(words[i].word);
        if (strncmp(p->at, words[i].word, size) != 0)
            continue;
        struct tree *t = new_tree(p, words[i].type);
        t->number = words[i].number;
        p->at += size;
        return t;
    }
    return parse_number(p);
}

static struct tree *parse_member(struct parser *p, bool named)
{
    const char *name = NULL;
    if (named) {
        name = parse_string(p);
        if (name == NULL || !take(p, ':'))
            return fail(p, "a name or its colon is missing");
    }
    struct tree *t = parse_value(p);
    if (t != NULL)
        t->name = name;
    return t;
}

static struct tree *parse_members(struct parser *p, enum tree_type type, char close)
{
    struct tree *t = new_tree(p, type);
    struct tree **last = &t->first;
    if (take(p, close))
        return t;
    do {
        *last = parse_member(p, type == TREE_OBJECT);
        if (*last == NULL)
            return NULL;
        last = &(*last)->next;
        t->count++;
    } while (take(p, ','));
    return take(p, close) ? t : fail(p, "a bracket is not closed");
}

static struct tree *parse_value(struct parser *p)
{
    struct tree *t = NULL;
    if (++p->depth > TREE_DEPTH_MAX)
        return fail(p, "it is too deep");
    skip_blanks(p);
    if (take(p, '{')) {
        t = parse_members(p, TREE_OBJECT, '}');
    } else if (take(p, '[')) {
        t = parse_members(p, TREE_ARRAY, ']');
    } else if (*p->at == '"') {
        const char *text = parse_string(p);
        if (text != NULL) {
            t = new_tree(p, TREE_STRING);
            t->text = text;
        }
    } else {
        t = parse_word(p);
    }
    p->depth--;
    return t;
}

struct tree *tree_parse(struct arena *a, struct slice text, const char **ret_error)
{
    char *copy = arena_alloc(a, text.size + 1);
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    struct parser p = {.arena = a, .at = copy, .end = copy + text.size};
    struct tree *t = parse_value(&p);
    skip_blanks(&p);
    if (t != NULL && p.at != p.end)
        t = fail(&p, "there is more behind it");
    *ret_error = p.error;
    return t;
}

struct tree *tree_get(const struct tree *t, const char *name)
{
    if (t == NULL || t->type != TREE_OBJECT)
        return NULL;
    for (struct tree *it = t->first; it != NULL; it = it->next)
        if (strcmp(it->name, name) == 0)
            return it;
    return NULL;
}

double tree_number(const struct tree *t, const char *name, double otherwise)
{
    const struct tree *found = tree_get(t, name);
    return found != NULL && found->type == TREE_NUMBER ? found->number : otherwise;
}

const char *tree_text(const struct tree *t, const char *name, const char *otherwise)
{
    const struct tree *found = tree_get(t, name);
    return found != NULL && found->type == TREE_STRING ? found->text : otherwise;
}
