#include "server/http_path.h"

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_path_decode(struct slice escaped, struct buf *ret)
{
    for (size_t i = 0; i < escaped.size; i++) {
        uint8_t c = escaped.data[i];
        if (c == '%') {
            int high = i + 2 < escaped.size ? hex_digit(escaped.data[i + 1]) : -1;
            int low = i + 2 < escaped.size ? hex_digit(escaped.data[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        (void)buf_append(ret, &c, 1);
    }
    return true;
}

static bool is_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-_.~$&+,/:;=@", c) != NULL);
}

void http_path_encode(struct slice path, struct buf *ret)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < path.size; i++) {
        uint8_t c = path.data[i];
        char encoded[3] = {'%', digits[c >> 4], digits[c & 15]};
        if (is_plain(c))
            (void)buf_append(ret, &c, 1);
        else
            (void)buf_append(ret, encoded, sizeof(encoded));
    }
}

bool http_path_is_encoded(struct slice path)
{
    for (size_t i = 0; i < path.size; i++)
        if (!is_plain(path.data[i]) &&
            (path.data[i] == '\0' || strchr("!'()*[]%", path.data[i]) == NULL))
            return false;
    return true;
}

static void drop_last(struct buf *path, size_t begin)
{
    while (path->size > begin && path->data[--path->size] != '/')
        continue;
}

void http_path_clean(struct slice path, struct buf *ret)
{
    size_t begin = ret->size, at = 0;
    while (at < path.size) {
        while (at < path.size && path.data[at] == '/')
            at++;
        size_t from = at;
        while (at < path.size && path.data[at] != '/')
            at++;
        struct slice element = slice_of(path.data + from, at - from);
        if (element.size == 0 || slice_equal(element, SLICE_LITERAL(".")))
            continue;
        if (slice_equal(element, SLICE_LITERAL(".."))) {
            drop_last(ret, begin);
            continue;
        }
        (void)buf_append(ret, "/", 1);
        (void)buf_append(ret, element.data, element.size);
    }
    bool slash = path.size > 0 && path.data[path.size - 1] == '/';
    if (ret->size == begin || slash)
        (void)buf_append(ret, "/", 1);
}
