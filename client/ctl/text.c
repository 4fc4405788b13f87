/* Words, numbers and lines as Go reads them; what fails is said in Go's words. */
#include "ctl.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

char *ctl_sprintf(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    va_list again;
    va_copy(again, list);
    int size = vsnprintf(NULL, 0, format, list);
    char *text = mem_alloc((size_t)size + 1);
    (void)vsnprintf(text, (size_t)size + 1, format, again);
    va_end(again);
    va_end(list);
    return text;
}

char *ctl_copy(struct trivet_bytes b)
{
    return mem_text(b.data, b.size);
}

const char *ctl_strerror(int number)
{
    char *text = ctl_copy(trivet_str(strerror(number)));
    text[0] = (char)tolower((unsigned char)text[0]);
    return text;
}

struct trivet_bytes ctl_prefix_end(struct trivet_bytes prefix)
{
    char *end = mem_alloc(prefix.size + 1);
    return trivet_bytes(end, trivet_prefix_end(prefix, end));
}

/* --- numbers --- */

static char *number_error(const char *what, const char *text, const char *why)
{
    return ctl_sprintf("strconv.%s: parsing \"%s\": %s", what, text, why);
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

/* The prefix that says the base, with base 0; moves *text behind it. */
static int base_of(const char **text)
{
    const char *p = *text;
    if (p[0] != '0' || p[1] == '\0')
        return 10;
    char letter = (char)(p[1] | 0x20);
    int base = letter == 'x' ? 16 : letter == 'b' ? 2 : letter == 'o' ? 8 : 0;
    *text += base != 0 ? 2 : 1;
    return base != 0 ? base : 8;
}

/* NULL, or why it is none. Underscores are allowed where the base is told by a prefix. */
static const char *digits_to(const char *p, int base, uint64_t *ret)
{
    bool any_base = base == 0;
    uint64_t value = 0;
    bool any = false, over = false;
    if (any_base) {
        const char *from = p;
        base = base_of(&p);
        any = base == 8 && p == from + 1;
    }
    for (; *p != '\0'; p++) {
        if (any_base && *p == '_' && any && p[1] != '\0')
            continue;
        int digit = digit_of(*p);
        if (digit >= base)
            return "invalid syntax";
        any = true;
        over = over || __builtin_mul_overflow(value, (uint64_t)base, &value) ||
               __builtin_add_overflow(value, (uint64_t)digit, &value);
    }
    *ret = value;
    if (!any)
        return "invalid syntax";
    return over ? "value out of range" : NULL;
}

const char *ctl_parse_uint(const char *text, int base, uint64_t *ret)
{
    const char *why = digits_to(text, base, ret);
    return why == NULL ? NULL : number_error("ParseUint", text, why);
}

const char *ctl_parse_int(const char *text, int base, int64_t *ret)
{
    bool minus = *text == '-';
    uint64_t value;
    const char *why = digits_to(text + (minus || *text == '+'), base, &value);
    if (why == NULL && value > (uint64_t)INT64_MAX + minus)
        why = "value out of range";
    if (why != NULL)
        return number_error("ParseInt", text, why);
    *ret = minus ? (int64_t)(0 - value) : (int64_t)value;
    return NULL;
}

/* The unit at `p`, in nanoseconds; 0: unknown. */
static double unit_of(const char *p, size_t size)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1},   {"us", 1e3}, {"\u00b5s", 1e3}, {"\u03bcs", 1e3},
                 {"ms", 1e6}, {"s", 1e9},  {"m", 60e9},      {"h", 3600e9}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strlen(units[i].name) == size && memcmp(units[i].name, p, size) == 0)
            return units[i].ns;
    }
    return 0;
}

const char *ctl_parse_duration(const char *text, uint64_t *ret_ns)
{
    const char *p = text + (*text == '+');
    double sum = 0;
    if (strcmp(p, "0") == 0) {
        *ret_ns = 0;
        return NULL;
    }
    if (*p == '\0' || *p == '-')
        return ctl_sprintf("time: invalid duration \"%s\"", text);
    while (*p != '\0') {
        size_t size = strspn(p, "0123456789.");
        if (size == 0 || (size == 1 && *p == '.') || size > 30)
            return ctl_sprintf("time: invalid duration \"%s\"", text);
        double number = strtod(ctl_copy(trivet_bytes(p, size)), NULL);
        p += size;
        size = strcspn(p, "0123456789.");
        if (size == 0)
            return ctl_sprintf("time: missing unit in duration \"%s\"", text);
        double unit = unit_of(p, size);
        if (unit == 0)
            return ctl_sprintf("time: unknown unit \"%.*s\" in duration \"%s\"", (int)size, p,
                               text);
        sum += number * unit;
        p += size;
    }
    if (sum > (double)INT64_MAX)
        return ctl_sprintf("time: invalid duration \"%s\"", text);
    *ret_ns = (uint64_t)sum;
    return NULL;
}

bool ctl_serializable(struct ctl *c, const char *text)
{
    if (strcmp(text, "s") != 0 && strcmp(text, "l") != 0)
        ctl_fail(c, CTL_BAD_FEATURE, "unknown consistency flag \"%s\"", text);
    return *text == 's';
}

/* --- what is typed --- */

char *ctl_ask_secret(const char *prompt)
{
    struct termios before;
    bool is_terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    fputs(prompt, stdout);
    fflush(stdout);
    if (is_terminal) {
        struct termios quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet); /* then it is seen; that is all */
    }
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size = getline(&line, &capacity, stdin);
    if (is_terminal)
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    putchar('\n');
    if (size < 0)
        return ctl_copy(trivet_str(""));
    line[strcspn(line, "\r\n")] = '\0';
    return line;
}

struct trivet_bytes ctl_read_stdin(void)
{
    struct buf all;
    buf_init(&all, SIZE_MAX);
    for (;;) {
        uint8_t *room = buf_reserve(&all, 65536);
        ssize_t n = read(STDIN_FILENO, room, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return trivet_bytes(all.data, all.size);
        all.size += (size_t)n;
    }
}

/* --- a line in words --- */

/* One escape behind a backslash; moves both. False: it is none of Go's. */
static bool unescape(const char **src, const char *end, char **dst)
{
    static const char names[] = "abtnvfr", values[] = "\a\b\t\n\v\f\r";
    char letter = *(*src)++;
    const char *name = strchr(names, letter);
    if (letter != '\0' && name != NULL) {
        *(*dst)++ = values[name - names];
        return true;
    }
    if (letter == '\\' || letter == '"') {
        *(*dst)++ = letter;
        return true;
    }
    int digits = letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
    bool octal = letter >= '0' && letter <= '7';
    if (octal) {
        digits = 3;
        (*src)--;
    }
    uint32_t value = 0;
    for (int i = 0; i < digits; i++, (*src)++) {
        int digit = *src < end ? digit_of(**src) : 99;
        if (digit >= (octal ? 8 : 16))
            return false;
        value = value * (octal ? 8 : 16) + (uint32_t)digit;
    }
    if (digits == 0 || value > 0x10ffff || (octal && value > 255))
        return false;
    if (octal || letter == 'x')
        *(*dst)++ = (char)value;
    else
        *dst += utf8_put((uint8_t *)*dst, value);
    return true;
}

/* What is between the quotes of "...". NULL: an escape is wrong. */
static char *unquote(const char *from, const char *end)
{
    char *text = mem_alloc((size_t)(end - from) + 1), *dst = text;
    while (from < end) {
        if (*from != '\\') {
            *dst++ = *from++;
            continue;
        }
        from++;
        if (from >= end || !unescape(&from, end, &dst))
            return NULL;
    }
    *dst = '\0';
    return text;
}

/* Behind the closing quote of the word at `p`; NULL: there is none. */
static const char *quoted_end(const char *p)
{
    char quote = *p++;
    for (; *p != '\0'; p++) {
        if (*p == quote)
            return p + 1;
        if (quote == '"' && *p == '\\') {
            if (*++p == '\0')
                return NULL;
        }
    }
    return NULL;
}

int ctl_split(struct ctl *c, const char *line, char ***ret_words)
{
    char **words = mem_alloc((strlen(line) + 1) * sizeof(words[0]));
    int count = 0;
    const char *p = line;
    while (*p != '\0') {
        const char *end = *p == '"' || *p == '\'' ? quoted_end(p) : NULL;
        if (end != NULL) {
            words[count] = *p == '"' ? unquote(p + 1, end - 1)
                                     : ctl_copy(trivet_bytes(p + 1, (size_t)(end - p) - 2));
            if (words[count++] == NULL)
                ctl_fail(c, CTL_INVALID_INPUT, "invalid syntax");
        } else if (isspace((unsigned char)*p) || *p == '"' || *p == '\'') {
            end = p + 1;
        } else {
            end = p + strcspn(p, " \t\n\v\f\r");
            words[count++] = ctl_copy(trivet_bytes(p, (size_t)(end - p)));
        }
        p = end;
    }
    *ret_words = words;
    return count;
}
