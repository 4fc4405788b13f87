/* Bytes that several owners share: a proposal's payload lives once and is read by the log, the disk
 * and the network. The count is atomic; the bytes do not change once a second owner exists. */
#ifndef BASE_BREF_H
#define BASE_BREF_H

#include "base/slice.h"

#include <stdatomic.h>
#include <stdint.h>

struct bref {
    _Atomic uint32_t refs;
    uint32_t capacity_bytes;
    uint8_t data[];
};

/* New bytes of the given capacity with one reference, uninitialised. */
struct bref *bref_new(size_t capacity_bytes);
/* NULL: there is no memory. */
struct bref *bref_try_new(size_t capacity_bytes);
struct bref *bref_ref(struct bref *b);
/* Gives up one reference; the last one frees. NULL is allowed. */
void bref_unref(struct bref *b);

#endif
