/* A fast 64-bit hash for comparing contents (XXH3): not against people who choose them. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/slice.h"

#include <stdint.h>

/* The same on every machine and in every version: members compare it, and it is stored. */
uint64_t hash64(struct slice bytes, uint64_t seed);
/* One number after another: order counts. */
uint64_t hash64_mix(uint64_t state, uint64_t x);

#endif
