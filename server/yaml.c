/* A descent over the text: where a node stands (its column, and whether anything was before it in
 * its line) says what it may be. A map or list ends with the first line that is indented less. */
#include "yaml_internal.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    const char *at;
    const char *end;
    const char *line; /* begin of the line that `at` is in */
    uint32_t line_number;
    uint32_t depth;
    uint32_t nodes;
    struct arena *arena;
    struct buf text; /* of the scalar that is being read */
    char *err_text;
    size_t err_size;
};

TV_PRINTF(2, 3) static int fail(struct reader *r, const char *fmt, ...)
{
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    snprintf(r->err_text, r->err_size, "yaml: line %u: %s", r->line_number, what);
    return TV_EMALFORMED;
}

/* '\0' at the end: there is none within. */
static char look(const struct reader *r, size_t ahead)
{
    return (size_t)(r->end - r->at) > ahead ? r->at[ahead] : '\0';
}

static int column(const struct reader *r)
{
    return (int)(r->at - r->line);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool ends_word(char c)
{
    return is_blank(c) || c == '\n' || c == '\0';
}

static void skip_blanks(struct reader *r)
{
    while (is_blank(look(r, 0)))
        r->at++;
}

static void next_line(struct reader *r)
{
    while (r->at < r->end && *r->at != '\n')
        r->at++;
    if (r->at < r->end)
        r->at++;
    r->line = r->at;
    r->line_number++;
}

static bool is_marker(const struct reader *r, const char *marker)
{
    return r->at == r->line && r->end - r->at >= 3 && memcmp(r->at, marker, 3) == 0 &&
           ends_word(look(r, 3));
}

static bool at_end(const struct reader *r)
{
    return r->at >= r->end || is_marker(r, "---") || is_marker(r, "...");
}

static bool at_comment(const struct reader *r)
{
    return look(r, 0) == '#' && (r->at == r->line || is_blank(r->at[-1]));
}

/* To the next token, over blanks, comments and ends of lines; a tab may not indent. */
static int skip_to_token(struct reader *r, bool in_flow)
{
    for (;;) {
        bool fresh = r->at == r->line;
        while (look(r, 0) == ' ' || (look(r, 0) == '\t' && (in_flow || !fresh)))
            r->at++;
        if (look(r, 0) == '\t') {
            const char *p = r->at;
            while (p < r->end && is_blank(*p))
                p++;
            if (p < r->end && *p != '\n' && *p != '#')
                return fail(r, "found character that cannot start any token");
        } else if (r->at >= r->end || (look(r, 0) != '\n' && !at_comment(r))) {
            return 0;
        }
        next_line(r);
    }
}

/* Nothing but a comment may follow in this line. */
static int end_line(struct reader *r)
{
    skip_blanks(r);
    if (r->at < r->end && *r->at != '\n' && !at_comment(r))
        return fail(r, look(r, 0) == ':' ? "mapping values are not allowed in this context"
                                         : "did not find expected key");
    return 0;
}

static struct yaml_node *new_node(struct reader *r, enum yaml_kind kind)
{
    struct yaml_node *node = arena_alloc_zero(r->arena, sizeof(*node));
    node->kind = kind;
    r->nodes++;
    return node;
}

static void append(struct reader *r, const void *data, size_t size)
{
    int err = buf_append(&r->text, data, size);
    ASSERT(err == 0); /* it is never longer than the whole, thrice for what is escaped */
}

static void append_char(struct reader *r, char c)
{
    append(r, &c, 1);
}

static void append_rune(struct reader *r, uint32_t rune)
{
    uint8_t text[UTF8_BYTES_MAX];
    append(r, text, utf8_put(text, rune));
}

/* `lines` ends of lines lie between two pieces of a scalar: one is a blank, more are kept but one.
 */
static void fold(struct reader *r, uint32_t lines)
{
    if (lines == 1)
        append_char(r, ' ');
    for (uint32_t i = 1; i < lines; i++)
        append_char(r, '\n');
}

/* --- scalars in quotes --- */

static int hex_rune(struct reader *r, uint32_t digits)
{
    uint32_t rune = 0;
    for (uint32_t i = 0; i < digits; i++) {
        char c = look(r, i);
        if (c >= '0' && c <= '9')
            rune = rune << 4 | (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            rune = rune << 4 | (uint32_t)((c | 32) - 'a' + 10);
        else
            return fail(r, "did not find expected hexdecimal number");
    }
    if ((rune >= 0xd800 && rune < 0xe000) || rune > 0x10ffff || rune == 0)
        return fail(r, "found invalid Unicode character escape code");
    append_rune(r, rune);
    r->at += digits;
    return 0;
}

/* Behind the backslash. */
static int read_escape(struct reader *r)
{
    static const char names[] = "abtnvfre\"\\/ \t", values[] = "\a\b\t\n\v\f\r\x1b\"\\/ \t";
    char c = look(r, 0);
    const char *found = c == '\0' ? NULL : strchr(names, c);
    if (c == '\n') { /* the end of the line does not count */
        next_line(r);
        skip_blanks(r);
        return 0;
    }
    r->at++;
    if (c == 'x' || c == 'u' || c == 'U')
        return hex_rune(r, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    if (found != NULL)
        append_char(r, values[found - names]);
    else if (c == 'N' || c == '_')
        append_rune(r, c == 'N' ? 0x85 : 0xa0);
    else if (c == 'L' || c == 'P')
        append_rune(r, c == 'L' ? 0x2028 : 0x2029);
    else
        return fail(r, "found unknown escape character");
    return 0;
}

/* At the end of a line within quotes: what is around it is folded. */
static int fold_quoted(struct reader *r)
{
    uint32_t lines = 0;
    while (r->text.size > 0 && is_blank((char)r->text.data[r->text.size - 1]))
        r->text.size--;
    while (look(r, 0) == '\n') {
        next_line(r);
        lines++;
        if (is_marker(r, "---") || is_marker(r, "..."))
            return fail(r, "found unexpected document indicator");
        skip_blanks(r);
    }
    fold(r, lines);
    return 0;
}

/* At the opening quote; behind the closing one afterwards. */
static int read_quoted(struct reader *r)
{
    char quote = *r->at++;
    buf_clear(&r->text);
    for (;;) {
        int err = 0;
        char c = look(r, 0);
        if (r->at >= r->end)
            return fail(r, "found unexpected end of stream");
        if (c == '\n') {
            err = fold_quoted(r);
        } else if (c == quote && quote == '\'' && look(r, 1) == '\'') {
            append_char(r, c);
            r->at += 2;
        } else if (c == quote) {
            r->at++;
            return 0;
        } else if (c == '\\' && quote == '"') {
            r->at++;
            err = read_escape(r);
        } else {
            append_char(r, c);
            r->at++;
        }
        if (err != 0)
            return err;
    }
}

/* --- plain scalars --- */

static bool is_flow_char(char c)
{
    return c != '\0' && strchr(",[]{}", c) != NULL;
}

/* In this line, to what ends it; blanks at its end are left out. */
static void read_plain_line(struct reader *r, bool in_flow)
{
    size_t keep = r->text.size;
    for (; r->at < r->end; r->at++) {
        char c = *r->at;
        if (c == '\n' || at_comment(r) || (in_flow && is_flow_char(c)))
            break;
        if (c == ':' && (ends_word(look(r, 1)) || (in_flow && is_flow_char(look(r, 1)))))
            break;
        append_char(r, c);
        if (!is_blank(c))
            keep = r->text.size;
    }
    r->text.size = keep;
}

/* Lines further in than `indent` go on with it. */
static int read_plain(struct reader *r, int indent, bool in_flow)
{
    buf_clear(&r->text);
    read_plain_line(r, in_flow);
    while (look(r, 0) == '\n') {
        struct reader before = *r;
        uint32_t lines = 0;
        while (look(r, 0) == '\n') {
            next_line(r);
            lines++;
            while (look(r, 0) == ' ' || (in_flow && look(r, 0) == '\t'))
                r->at++;
        }
        bool ends = r->at >= r->end || look(r, 0) == '#' || (!in_flow && column(r) <= indent) ||
                    (r->line <= r->at && column(r) == 0 && at_end(r)) ||
                    (in_flow && is_flow_char(look(r, 0))) ||
                    (in_flow && look(r, 0) == ':' && ends_word(look(r, 1)));
        if (ends) {
            before.text = r->text;
            *r = before;
            return 0;
        }
        fold(r, lines);
        read_plain_line(r, in_flow);
        if (!in_flow && look(r, 0) == ':')
            return fail(r, "mapping values are not allowed in this context");
    }
    return 0;
}

static int check_plain_start(struct reader *r, bool in_flow)
{
    char c = look(r, 0);
    if (c == '&' || c == '*')
        return fail(r, "anchors and aliases are not supported");
    if (c == '!')
        return fail(r, "tags are not supported");
    if (c == '?' && ends_word(look(r, 1)))
        return fail(r, "keys that are not scalars are not supported");
    if (c == '%' || c == '@' || c == '`' || (c == '-' && in_flow && ends_word(look(r, 1))))
        return fail(r, "found character that cannot start any token");
    if (c == ']' || c == '}' || c == ',')
        return fail(r, "did not find expected node content");
    return 0;
}

static struct yaml_node *string_node(struct reader *r)
{
    struct yaml_node *node = new_node(r, YAML_STRING);
    node->text = arena_copy(r->arena, buf_slice(&r->text));
    return node;
}

/* --- text after '|' and '>' --- */

/* "|2-" and the like; the indentation, or 0 when it is to be found out, and the '-' or '+'. */
static int read_block_header(struct reader *r, int *ret_indent, char *ret_chomp)
{
    *ret_indent = 0;
    *ret_chomp = ' ';
    for (r->at++; !ends_word(look(r, 0)); r->at++) {
        char c = *r->at;
        if (c >= '1' && c <= '9' && *ret_indent == 0)
            *ret_indent = c - '0';
        else if ((c == '-' || c == '+') && *ret_chomp == ' ')
            *ret_chomp = c;
        else
            return fail(r, "did not find expected comment or line break");
    }
    return end_line(r);
}

static int line_indent(const struct reader *r, bool *ret_empty)
{
    const char *p = r->at;
    while (p < r->end && *p == ' ')
        p++;
    *ret_empty = p >= r->end || *p == '\n';
    return (int)(p - r->at);
}

static int read_block_text(struct reader *r, int parent, struct yaml_node **ret)
{
    bool folded = *r->at == '>', was_more = false, any = false;
    char chomp;
    int indent;
    int err = read_block_header(r, &indent, &chomp);
    if (err != 0)
        return err;
    indent = indent == 0 ? 0 : indent + (parent < 0 ? 0 : parent);
    buf_clear(&r->text);
    uint32_t breaks = 0;
    for (next_line(r); !at_end(r); next_line(r)) {
        bool empty;
        int in = line_indent(r, &empty);
        if (!empty && indent == 0 && in > parent)
            indent = in;
        if (!empty && in < (indent == 0 ? parent + 1 : indent))
            break;
        if (empty && (indent == 0 || in <= indent)) {
            breaks++;
            continue;
        }
        r->at += indent;
        bool more = is_blank(look(r, 0));
        if (folded && any && !more && !was_more)
            fold(r, breaks);
        else
            for (uint32_t i = 0; i < breaks; i++)
                append_char(r, '\n');
        const char *begin = r->at;
        while (r->at < r->end && *r->at != '\n')
            r->at++;
        append(r, begin, (size_t)(r->at - begin));
        was_more = more;
        any = true;
        breaks = 1;
    }
    uint32_t kept = chomp == '-' || !any ? 0 : chomp == '+' ? breaks : 1;
    for (uint32_t i = 0; i < kept; i++)
        append_char(r, '\n');
    *ret = string_node(r);
    return 0;
}

/* --- maps and lists --- */

static int read_block(struct reader *r, int indent, bool in_line, struct yaml_node **ret);
static int read_flow(struct reader *r, struct yaml_node **ret);

static void add_to_map(struct yaml_node *map, struct slice key, struct yaml_node *value)
{
    struct yaml_node **at = &map->first;
    value->key = key;
    while (*at != NULL && slice_compare((*at)->key, key) < 0)
        at = &(*at)->next;
    value->next = *at;
    if (*at != NULL && slice_equal((*at)->key, key))
        value->next = (*at)->next; /* the last one counts */
    *at = value;
}

/* Is there a "key:" at this place, in this line? */
static bool at_key(const struct reader *r)
{
    const char *p = r->at;
    if (p < r->end && (*p == '"' || *p == '\'')) {
        char quote = *p++;
        for (; p < r->end && *p != '\n'; p++) {
            bool twice = p + 1 < r->end && p[1] == quote;
            if (*p == quote && (quote == '"' || !twice))
                break;
            p += (*p == '\\' && quote == '"' && p + 1 < r->end && p[1] != '\n') || *p == quote;
        }
        if (p >= r->end || *p != quote)
            return false;
        for (p++; p < r->end && is_blank(*p); p++)
            continue;
        return p < r->end && *p == ':' && (p + 1 >= r->end || ends_word(p[1]));
    }
    if (p < r->end && (*p == '[' || *p == '{' || *p == '|' || *p == '>'))
        return false;
    for (; p < r->end && *p != '\n'; p++) {
        if (*p == ':' && (p + 1 >= r->end || ends_word(p[1])))
            return true;
        if (*p == '#' && p > r->at && is_blank(p[-1]))
            return false;
    }
    return false;
}

static int read_key(struct reader *r, struct slice *ret)
{
    int err = check_plain_start(r, false);
    if (err != 0)
        return err;
    if (*r->at == '"' || *r->at == '\'') {
        err = read_quoted(r);
        if (err != 0)
            return err;
    } else {
        buf_clear(&r->text);
        read_plain_line(r, false);
        if (slice_equal(buf_slice(&r->text), slice_of_string("<<")))
            return fail(r, "merge keys are not supported");
    }
    *ret = arena_copy(r->arena, buf_slice(&r->text));
    skip_blanks(r);
    ASSERT(*r->at == ':');
    r->at++;
    return 0;
}

static bool at_dash(const struct reader *r)
{
    return look(r, 0) == '-' && ends_word(look(r, 1));
}

/* The node behind "key:" or "-" of a map or list at `indent`. */
static int read_value(struct reader *r, int indent, bool of_list, struct yaml_node **ret)
{
    skip_blanks(r);
    uint32_t line = r->line_number;
    int err = skip_to_token(r, false);
    if (err != 0)
        return err;
    bool same_line = r->line_number == line;
    bool dashes = !of_list && !same_line && column(r) == indent && at_dash(r);
    if (at_end(r) || (!same_line && column(r) <= indent && !dashes)) {
        *ret = new_node(r, YAML_NULL);
        return 0;
    }
    if (same_line && !of_list && at_dash(r))
        return fail(r, "block sequence entries are not allowed in this context");
    return read_block(r, dashes ? indent - 1 : indent, same_line && !of_list, ret);
}

static int read_block_map(struct reader *r, struct yaml_node **ret)
{
    int indent = column(r);
    *ret = new_node(r, YAML_MAP);
    for (;;) {
        struct slice key;
        struct yaml_node *value;
        if (r->nodes > YAML_NODES_MAX)
            return fail(r, "more than %d values", YAML_NODES_MAX);
        if (!at_key(r)) {
            int err = check_plain_start(r, false);
            return err != 0 ? err
                            : fail(r, at_dash(r) ? "did not find expected key"
                                                 : "could not find expected ':'");
        }
        int err = read_key(r, &key);
        if (err == 0)
            err = read_value(r, indent, false, &value);
        if (err == 0)
            err = skip_to_token(r, false);
        if (err != 0)
            return err;
        add_to_map(*ret, key, value);
        if (at_end(r) || column(r) < indent)
            return 0;
        if (column(r) > indent)
            return fail(r, at_key(r) ? "mapping values are not allowed in this context"
                                     : "did not find expected key");
    }
}

static int read_block_list(struct reader *r, struct yaml_node **ret)
{
    int indent = column(r);
    *ret = new_node(r, YAML_LIST);
    struct yaml_node **at = &(*ret)->first;
    while (!at_end(r) && column(r) == indent && at_dash(r)) {
        if (r->nodes > YAML_NODES_MAX)
            return fail(r, "more than %d values", YAML_NODES_MAX);
        r->at++;
        int err = read_value(r, indent, true, at);
        if (err == 0)
            err = skip_to_token(r, false);
        if (err != 0)
            return err;
        at = &(*at)->next;
    }
    if (!at_end(r) && column(r) > indent)
        return fail(r, "did not find expected '-' indicator");
    return 0;
}

/* One "key: value" or value of a flow collection. */
static int read_flow_entry(struct reader *r, bool map, struct slice *ret_key,
                           struct yaml_node **ret)
{
    int err = read_flow(r, ret);
    if (err == 0)
        err = skip_to_token(r, true);
    if (err != 0)
        return err;
    if (!map)
        return look(r, 0) != ':' ? 0 : fail(r, "a map within a list is not supported without {}");
    if ((*ret)->kind == YAML_MAP || (*ret)->kind == YAML_LIST)
        return fail(r, "keys that are not scalars are not supported");
    *ret_key = arena_copy(r->arena, buf_slice(&r->text));
    *ret = new_node(r, YAML_NULL);
    if (look(r, 0) != ':')
        return 0;
    r->at++;
    err = skip_to_token(r, true);
    if (err == 0 && look(r, 0) != ',' && look(r, 0) != '}')
        err = read_flow(r, ret);
    return err == 0 ? skip_to_token(r, true) : err;
}

static int read_flow_collection(struct reader *r, struct yaml_node **ret)
{
    bool map = *r->at == '{';
    char close = map ? '}' : ']';
    *ret = new_node(r, map ? YAML_MAP : YAML_LIST);
    struct yaml_node **at = &(*ret)->first;
    r->at++;
    for (;;) {
        struct slice key = SLICE_EMPTY;
        struct yaml_node *entry;
        int err = skip_to_token(r, true);
        if (err == 0 && look(r, 0) == close)
            break;
        if (r->nodes > YAML_NODES_MAX)
            return fail(r, "more than %d values", YAML_NODES_MAX);
        if (err == 0 && r->at < r->end)
            err = read_flow_entry(r, map, &key, &entry);
        if (err != 0)
            return err;
        if (r->at >= r->end || (look(r, 0) != close && look(r, 0) != ','))
            return fail(r, "did not find expected ',' or '%c'", close);
        if (map) {
            add_to_map(*ret, key, entry);
        } else {
            *at = entry;
            at = &entry->next;
        }
        if (look(r, 0) == ',')
            r->at++;
    }
    r->at++;
    return 0;
}

static int read_flow(struct reader *r, struct yaml_node **ret)
{
    char c = look(r, 0);
    if (c == '[' || c == '{') {
        if (++r->depth > YAML_DEPTH_MAX)
            return fail(r, "exceeded max depth of %d", YAML_DEPTH_MAX);
        int err = read_flow_collection(r, ret);
        r->depth--;
        return err;
    }
    if (c == '"' || c == '\'') {
        int err = read_quoted(r);
        *ret = err == 0 ? string_node(r) : NULL;
        return err;
    }
    int err = check_plain_start(r, true);
    if (err == 0)
        err = read_plain(r, -1, true);
    if (err == 0) {
        *ret = new_node(r, YAML_NULL);
        yaml__resolve(*ret, buf_slice(&r->text), r->arena);
    }
    return err;
}

static int read_scalar(struct reader *r, int indent, struct yaml_node **ret)
{
    int err = check_plain_start(r, false);
    if (err == 0)
        err = read_plain(r, indent, false);
    if (err != 0)
        return err;
    if (look(r, 0) == ':')
        return fail(r, "mapping values are not allowed in this context");
    *ret = new_node(r, YAML_NULL);
    yaml__resolve(*ret, buf_slice(&r->text), r->arena);
    return 0;
}

/* The node at this place, which belongs to what stands at `indent`. `in_line`: behind its key,
 * where neither a map nor a list may begin. */
static int read_block_node(struct reader *r, int indent, bool in_line, struct yaml_node **ret)
{
    char c = look(r, 0);
    if (!in_line && at_dash(r))
        return read_block_list(r, ret);
    if (!in_line && at_key(r))
        return read_block_map(r, ret);
    if (c == '|' || c == '>')
        return read_block_text(r, indent, ret);
    if (c != '[' && c != '{' && c != '"' && c != '\'')
        return read_scalar(r, indent, ret);
    int err = read_flow(r, ret);
    return err == 0 ? end_line(r) : err;
}

static int read_block(struct reader *r, int indent, bool in_line, struct yaml_node **ret)
{
    if (++r->depth > YAML_DEPTH_MAX)
        return fail(r, "exceeded max depth of %d", YAML_DEPTH_MAX);
    int err = read_block_node(r, indent, in_line, ret);
    r->depth--;
    return err;
}

/* --- the document --- */

static int skip_directives(struct reader *r)
{
    int err = skip_to_token(r, false);
    bool any = false;
    while (err == 0 && r->at == r->line && look(r, 0) == '%') {
        if (r->end - r->at < 6 || memcmp(r->at, "%YAML ", 6) != 0)
            return fail(r, "found unknown directive name");
        any = true;
        next_line(r);
        err = skip_to_token(r, false);
    }
    if (err != 0)
        return err;
    if (is_marker(r, "---")) {
        r->at += 3;
        return skip_to_token(r, false);
    }
    return any ? fail(r, "did not find expected <document start>") : 0;
}

/* Control characters are not part of any text, and bytes are UTF-8. */
static int check_bytes(struct reader *r)
{
    for (const char *p = r->at; p < r->end; p++) {
        uint8_t c = (uint8_t)*p;
        if (c == '\n')
            r->line_number++;
        if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
            return fail(r, "control characters are not allowed");
        uint32_t more = c < 0x80   ? 0
                        : c < 0xc2 ? 4
                        : c < 0xe0 ? 1
                        : c < 0xf0 ? 2
                        : c < 0xf5 ? 3
                                   : 4;
        if (more == 4)
            return fail(r, "invalid leading UTF-8 octet");
        for (; more > 0; more--)
            if (++p >= r->end || ((uint8_t)*p & 0xc0) != 0x80)
                return fail(r, "invalid trailing UTF-8 octet");
    }
    r->line_number = 1;
    return 0;
}

static int read_document(struct reader *r, struct yaml_node **ret)
{
    int err = check_bytes(r);
    if (err == 0)
        err = skip_directives(r);
    if (err != 0)
        return err;
    if (at_end(r)) {
        *ret = new_node(r, YAML_NULL);
        return 0;
    }
    err = read_block(r, -1, false, ret);
    if (err == 0)
        err = skip_to_token(r, false);
    if (err == 0 && !at_end(r))
        err = fail(r, "did not find expected <document start>");
    return err;
}

/* Lines end with '\n' alone from here on. */
static size_t drop_carriage_returns(char *text, size_t size)
{
    size_t kept = 0;
    for (size_t i = 0; i < size; i++)
        if (text[i] != '\r')
            text[kept++] = text[i];
        else if (i + 1 >= size || text[i + 1] != '\n')
            text[kept++] = '\n';
    return kept;
}

int yaml_parse(struct slice text, struct arena *arena, const struct yaml_node **ret, char *err_text,
               size_t err_size)
{
    if (text.size > YAML_BYTES_MAX) {
        snprintf(err_text, err_size, "yaml: more than %d bytes", YAML_BYTES_MAX);
        return TV_ETOOLARGE;
    }
    if (text.size >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0)
        text = slice_of(text.data + 3, text.size - 3);
    char *copy = mem_alloc(text.size + 1);
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    size_t size = drop_carriage_returns(copy, text.size);
    struct reader r = {.at = copy, .end = copy + size, .line = copy, .line_number = 1};
    r.arena = arena;
    r.err_text = err_text;
    r.err_size = err_size;
    buf_init(&r.text, 3 * size + 64);
    struct yaml_node *root = NULL;
    int err = read_document(&r, &root);
    buf_fini(&r.text);
    mem_free(copy);
    if (err == 0)
        *ret = root;
    return err;
}

const struct yaml_node *yaml_find(const struct yaml_node *map, const char *key)
{
    struct slice wanted = slice_of_string(key);
    if (map->kind != YAML_MAP)
        return NULL;
    for (const struct yaml_node *it = map->first; it != NULL; it = it->next)
        if (slice_equal(it->key, wanted))
            return it;
    return NULL;
}
