/* UTF-8, one character at a time. */
#ifndef CLIENT_CTL_RUNE_H
#define CLIENT_CTL_RUNE_H

#include <stddef.h>
#include <stdint.h>

/* How many bytes the character at `p` has, and which it is; 0: no valid one begins there. */
static inline size_t rune_at(const uint8_t *p, size_t size, uint32_t *ret)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc0 ? 2 : 0;
    if (n == 0 || n > size || p[0] > 0xf4)
        return 0;
    uint32_t rune = n == 1 ? p[0] : p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        rune = rune << 6 | (p[i] & 0x3f);
    }
    *ret = rune;
    return rune < least[n] || rune > 0x10ffff || (rune >= 0xd800 && rune < 0xe000) ? 0 : n;
}

#endif
