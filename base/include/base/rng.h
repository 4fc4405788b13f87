/* A seeded generator (xoshiro256**, Blackman and Vigna): same seed, same sequence, on any machine.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_init(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
/* Uniform in [0, bound); bound > 0. */
uint64_t rng_below(struct rng *r, uint64_t bound);
/* Uniform in [0, 1). */
double rng_unit(struct rng *r);
/* A seed from the kernel, for programs; tests take theirs from the command line. */
uint64_t rng_seed_from_os(void);

#endif
