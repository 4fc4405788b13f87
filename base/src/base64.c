#include "base/base64.h"

#include "base/assert.h"
#include "base/err.h"

uint8_t *base64_put(uint8_t *dst, struct slice bytes, enum base64_form form, bool padded)
{
    const char *digits = form == BASE64_STANDARD
                             ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                             : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const uint8_t *s = bytes.data;
    size_t i = 0;
    for (; i + 2 < bytes.size; i += 3) {
        uint32_t v = (uint32_t)s[i] << 16 | (uint32_t)s[i + 1] << 8 | s[i + 2];
        *dst++ = (uint8_t)digits[v >> 18];
        *dst++ = (uint8_t)digits[v >> 12 & 63];
        *dst++ = (uint8_t)digits[v >> 6 & 63];
        *dst++ = (uint8_t)digits[v & 63];
    }
    if (i == bytes.size)
        return dst;
    bool two = i + 1 < bytes.size;
    uint32_t v = (uint32_t)s[i] << 16 | (two ? (uint32_t)s[i + 1] << 8 : 0);
    *dst++ = (uint8_t)digits[v >> 18];
    *dst++ = (uint8_t)digits[v >> 12 & 63];
    if (two)
        *dst++ = (uint8_t)digits[v >> 6 & 63];
    for (int pads = padded ? 2 - two : 0; pads > 0; pads--)
        *dst++ = '=';
    return dst;
}

static int value_of(uint8_t c, enum base64_form form)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == (form == BASE64_STANDARD ? '+' : '-'))
        return 62;
    return c == (form == BASE64_STANDARD ? '/' : '_') ? 63 : -1;
}

int base64_get(struct slice text, enum base64_form form, bool padded, uint8_t *dst,
               size_t *ret_size)
{
    uint32_t bits = 0, digits = 0, pads = 0;
    uint8_t *p = dst;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '\r' || c == '\n')
            continue;
        if (c == '=' && padded && digits >= 2 && digits + pads < 4) {
            pads++;
            continue;
        }
        int value = value_of(c, form);
        if (value < 0 || pads > 0)
            return TV_EMALFORMED;
        bits = bits << 6 | (uint32_t)value;
        if (++digits == 4) {
            *p++ = (uint8_t)(bits >> 16);
            *p++ = (uint8_t)(bits >> 8);
            *p++ = (uint8_t)bits;
            digits = bits = 0;
        }
    }
    if (digits == 1 || (padded && digits != 0 && digits + pads != 4))
        return TV_EMALFORMED;
    if (digits == 2)
        *p++ = (uint8_t)(bits >> 4);
    if (digits == 3) {
        *p++ = (uint8_t)(bits >> 10);
        *p++ = (uint8_t)(bits >> 2);
    }
    *ret_size = (size_t)(p - dst);
    return 0;
}

void base64_encode(struct slice bytes, enum base64_form form, struct buf *ret)
{
    bool padded = form == BASE64_STANDARD;
    size_t size = base64_size(bytes.size, padded);
    if (size == 0)
        return;
    uint8_t *p = buf_reserve(ret, size);
    ASSERT(p != NULL);
    (void)base64_put(p, bytes, form, padded);
    ret->size += size;
}

int base64_decode(struct slice text, enum base64_form form, struct buf *ret)
{
    size_t size;
    if (text.size == 0)
        return 0;
    uint8_t *p = buf_reserve(ret, text.size);
    if (p == NULL)
        return TV_ETOOLARGE;
    int err = base64_get(text, form, form == BASE64_STANDARD, p, &size);
    if (err == 0)
        ret->size += size;
    return err;
}
