/* malloc() that fails on demand, in this program and every library it has loaded. Nothing fails
 * until it is asked for, and never on a thread that is exempt. */
#ifndef TESTS_CLIENTS_FAILING_MALLOC_H
#define TESTS_CLIENTS_FAILING_MALLOC_H

#include <stdint.h>

/* The allocations number `first` (0: the next) to first + count - 1 fail. */
void failing_malloc_range(uint64_t first, uint64_t count);
/* One in so many fails, drawn from `seed`. 1: all. */
void failing_malloc_rate(uint64_t one_in, uint64_t seed);
/* None fails any more. Returns how many did since it was asked for. */
uint64_t failing_malloc_off(void);
/* This thread: +1 begins to be exempt, -1 ends it; they nest. */
void failing_malloc_exempt(int change);

#endif
