#include "server/base64.h"

#include "base/assert.h"
#include "base/err.h"

static const char *alphabet(enum base64_form form)
{
    return form == BASE64_STANDARD
               ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
               : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
}

void base64_encode(struct slice bytes, enum base64_form form, struct buf *ret)
{
    const char *letters = alphabet(form);
    for (size_t at = 0; at < bytes.size; at += 3) {
        size_t count = bytes.size - at < 3 ? bytes.size - at : 3;
        uint32_t bits = 0;
        for (size_t i = 0; i < 3; i++)
            bits = bits << 8 | (i < count ? bytes.data[at + i] : 0);
        char quad[4];
        for (size_t i = 0; i < 4; i++)
            quad[i] = i <= count ? letters[bits >> (18 - 6 * i) & 63] : '=';
        int err = buf_append(ret, quad, form == BASE64_STANDARD ? 4 : count + 1);
        ASSERT(err == 0);
    }
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

int base64_decode(struct slice text, enum base64_form form, struct buf *ret)
{
    size_t size_before = ret->size, padding = 0, count = 0;
    uint32_t bits = 0;
    bool bad = false;
    for (size_t i = 0; i < text.size && !bad; i++) {
        uint8_t c = text.data[i];
        if (c == '\r' || c == '\n')
            continue;
        if (c == '=' && form == BASE64_STANDARD) {
            padding++;
            continue;
        }
        int value = value_of(c, form);
        bad = value < 0 || padding > 0;
        bits = bits << 6 | (uint32_t)(value & 63);
        if (++count % 4 == 0) {
            uint8_t three[3] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
            (void)buf_append(ret, three, 3);
        }
    }
    size_t rest = count % 4;
    bad |= rest == 1 || (form == BASE64_STANDARD && padding != (4 - rest) % 4);
    if (bad) {
        ret->size = size_before;
        return TV_EMALFORMED;
    }
    bits <<= rest == 2 ? 12 : rest == 3 ? 6 : 0;
    uint8_t last[2] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8)};
    if (rest > 0)
        (void)buf_append(ret, last, rest - 1);
    return 0;
}
