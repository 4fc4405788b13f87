#include "json_look.h"

#include "proto/json.h"

#include <stdio.h>
#include <stdlib.h>

static void skip(struct slice *s, const char *any)
{
    while (s->size > 0 && s->data[0] != '\0' && strchr(any, s->data[0]) != NULL)
        *s = slice_of(s->data + 1, s->size - 1);
}

static bool next_value(struct slice *rest, struct slice *ret)
{
    struct buf err;
    buf_init(&err, 256);
    bool is_there = json_next_value(rest, ret, &err) == JSON_VALUE;
    buf_fini(&err);
    return is_there;
}

/* The inside of an object or an array; false: it is none. */
static bool enter(struct slice s, char open, struct slice *ret)
{
    skip(&s, " \t\r\n");
    if (s.size < 2 || s.data[0] != (uint8_t)open)
        return false;
    *ret = slice_of(s.data + 1, s.size - 1);
    return true;
}

struct slice json_look(struct slice object, const char *name)
{
    struct slice rest, key, value;
    if (!enter(object, '{', &rest))
        return (struct slice){0};
    size_t size = strlen(name);
    for (;;) {
        skip(&rest, " \t\r\n,");
        if (rest.size == 0 || rest.data[0] != '"' || !next_value(&rest, &key))
            return (struct slice){0};
        skip(&rest, " \t\r\n:");
        if (!next_value(&rest, &value))
            return (struct slice){0};
        skip(&key, " \t\r\n");
        if (key.size == size + 2 && memcmp(key.data + 1, name, size) == 0)
            return value;
    }
}

bool json_look_next(struct slice *rest, struct slice *ret)
{
    struct slice inside;
    if (enter(*rest, '[', &inside))
        *rest = inside;
    skip(rest, " \t\r\n,");
    return rest->size > 0 && rest->data[0] != ']' && next_value(rest, ret);
}

double json_look_number(struct slice object, const char *name)
{
    char text[40] = {0};
    struct slice v = json_look(object, name);
    skip(&v, " \t\r\n");
    if (v.size == 0 || v.size >= sizeof(text))
        return 0;
    memcpy(text, v.data, v.size);
    return strtod(text, NULL);
}

size_t json_look_bytes(struct slice object, const char *name, char *ret, size_t size)
{
    struct slice v = json_look(object, name);
    size_t used = 0;
    skip(&v, " \t\r\n");
    ret[0] = '\0';
    if (v.size < 2 || v.data[0] != '"')
        return 0;
    for (size_t i = 1; i < v.size && v.data[i] != '"' && used + 1 < size; i++) {
        char c = (char)v.data[i];
        if (c == '\\' && i + 1 < v.size) {
            char digits[5] = {0};
            c = (char)v.data[++i];
            if (c == 'u' && i + 4 < v.size) {
                memcpy(digits, v.data + i + 1, 4);
                c = (char)strtoul(digits, NULL, 16);
                i += 4;
            }
        }
        ret[used++] = c;
    }
    ret[used] = '\0';
    return used;
}
