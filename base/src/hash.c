#include "base/hash.h"

#define XXH_INLINE_ALL /* a header alone: nothing to link */
#include <xxhash.h>

uint64_t hash64(struct slice bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.size, seed);
}

uint64_t hash64_mix(uint64_t state, uint64_t x)
{
    /* Two rounds of multiplying a word in, each a bijection of the state: no two states meet. */
    state = (state ^ x) * 0x9fb21c651e98df25u;
    state ^= state >> 35;
    state *= 0xd6e8feb86659fd93u;
    return state ^ state >> 32;
}
