/* Which key comes next, and what it looks like: the prefix, then the number in as many digits as
 * fill the key. */
#ifndef BENCH_KEYS_H
#define BENCH_KEYS_H

#include "options.h"

#include "base/rng.h"
#include "base/slice.h"

/* What all threads share; read only after keys_init(). */
struct keys {
    const struct bench_options *o;
    /* Zipf with exponent 0.99 (Gray et al., "Quickly Generating Billion-Record Synthetic
     * Databases", SIGMOD 1994, section 3.2). */
    double zeta_n;
    double eta;
};

/* One thread's choices. */
struct key_source {
    const struct keys *keys;
    struct rng rng;
    uint64_t next; /* seq: this thread's share is begin, begin + step, ... */
    uint64_t step;
};

void keys_init(struct keys *k, const struct bench_options *o);
/* `part` of `parts` threads. */
void key_source_init(struct key_source *s, const struct keys *k, uint32_t part, uint32_t parts);
/* A number below o->keys. */
uint64_t key_next(struct key_source *s);
/* Writes o->key_size bytes. */
void key_write(const struct bench_options *o, uint64_t number, uint8_t *dst);
/* The end of the range of all keys under the prefix: the prefix with its last byte one higher.
 * Writes strlen(o->prefix) bytes; 1 byte of 0 for an empty prefix, which means all keys. */
struct slice key_range_end(const struct bench_options *o, uint8_t *dst);

#endif
