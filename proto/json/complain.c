/* What is wrong with a text, in the words of Go's encoding/json and of its %q. */
#include "internal.h"

#include "base/err.h"

#include <stdio.h>

void json__format(struct buf *out, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int size = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)buf_append(out, text, (size_t)size < sizeof(text) ? (size_t)size : sizeof(text) - 1);
}

static const char *short_escape(uint8_t c)
{
    static const char *const escapes[] = {"\\a", "\\b", "\\t", "\\n", "\\v", "\\f", "\\r"};
    return c >= '\a' && c <= '\r' ? escapes[c - '\a'] : NULL;
}

void json__quote(struct slice text, struct buf *out)
{
    json__format(out, "\"");
    for (size_t i = 0; i < text.size;) {
        uint8_t c = text.data[i];
        size_t n = utf8_size(text.data + i, text.size - i);
        if (n > 1)
            (void)buf_append(out, text.data + i, n);
        else if (c == '"' || c == '\\')
            json__format(out, "\\%c", c);
        else if (short_escape(c) != NULL)
            json__format(out, "%s", short_escape(c));
        else if (c < ' ' || c >= 0x7f)
            json__format(out, "\\x%02x", c);
        else
            (void)buf_append(out, &c, 1);
        i += n > 0 ? n : 1;
    }
    json__format(out, "\"");
}

/* Go takes the byte for a character by its number. */
static void complain(struct buf *err, uint8_t c, const char *where)
{
    json__format(err, "invalid character '");
    if (c == '\'' || c == '\\')
        json__format(err, "\\%c", c);
    else if (short_escape(c) != NULL)
        json__format(err, "%s", short_escape(c));
    else if (c < ' ' || c == 0x7f)
        json__format(err, "\\x%02x", c);
    else if (c >= 0x80 && (c <= 0xa0 || c == 0xad))
        json__format(err, "\\u%04x", c);
    else if (c >= 0x80)
        json__format(err, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 0x3f));
    else
        json__format(err, "%c", c);
    json__format(err, "' %s", where);
}

int json_next_value(struct slice *rest, struct slice *ret_value, struct buf *err)
{
    char where[64];
    struct json_fault f;
    int rv = json_scan(rest, ret_value, &f);
    if (rv == JSON_CUT_OFF)
        json__format(err, "unexpected EOF");
    if (rv != TV_EMALFORMED)
        return rv;
    if (f.where == NULL)
        snprintf(where, sizeof(where), "in literal %s (expecting '%c')", f.word, f.wanted);
    complain(err, *f.at, f.where != NULL ? f.where : where);
    return rv;
}
