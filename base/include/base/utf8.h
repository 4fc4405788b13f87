/* Characters in UTF-8 (RFC 3629). */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UTF8_BYTES_MAX = 4 };

/* The size of the first character of `s`; 0 when it is none: cut off, not its shortest form, half
 * of a pair, or beyond U+10FFFF. `size` > 0. */
static inline size_t utf8_size(const uint8_t *s, size_t size)
{
    uint8_t c = s[0];
    if (c < 0x80)
        return 1;
    size_t n = c >= 0xc2 && c < 0xe0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (n == 0 || n > size)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (c == 0xe0 && s[1] < 0xa0) || (c == 0xf0 && s[1] < 0x90);
    bool surrogate = c == 0xed && s[1] >= 0xa0;
    bool beyond = c == 0xf4 && s[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : n;
}

/* The same; on success *ret_rune is the character. */
static inline size_t utf8_get(const uint8_t *s, size_t size, uint32_t *ret_rune)
{
    size_t n = utf8_size(s, size);
    if (n == 0)
        return 0;
    uint32_t rune = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++)
        rune = rune << 6 | (s[i] & 0x3f);
    *ret_rune = rune;
    return n;
}

/* Write the character `rune`, at most U+10FFFF, to `dst`, which has UTF8_BYTES_MAX bytes; returns
 * how many it took. Half of a pair is written as if it was one. */
static inline size_t utf8_put(uint8_t *dst, uint32_t rune)
{
    static const uint8_t lead[UTF8_BYTES_MAX + 1] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t size = rune < 0x80 ? 1 : rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; rune >>= 6)
        dst[i] = (uint8_t)(0x80 | (rune & 0x3f));
    dst[0] = (uint8_t)(lead[size] | rune);
    return size;
}

#endif
