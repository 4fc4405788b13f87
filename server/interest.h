/* Who is interested in which keys: of very many single keys and ranges, those that cover one key.
 *
 * Single keys are found by their hash. Most keys are nobody's, and a filter of bits says so of 7 in
 * 8 at the least with a look into memory that is small enough to be in the cache (Bloom, 1970, with
 * one hash function); ranges lie in a balanced tree by where they begin, which knows for each
 * subtree where the last of it ends (an interval tree; Cormen et al., 14.3): log n + as many as are
 * found.
 *
 * Owner: one thread. Memory is the owner's, but for the table: 16 bytes a key, at most 3/4 full,
 * and 8 to 16 bits a key for the filter. */
#ifndef SERVER_INTEREST_H
#define SERVER_INTEREST_H

#include "base/list.h"
#include "base/slice.h"
#include "base/u64map.h"

/* Its first two fields are the owner's, and stay as they are while it is in; the slices are
 * borrowed. */
struct interest {
    struct slice key;
    struct slice range_end;           /* empty: the key alone; "\0": everything from it on */
    struct list link;                 /* of interests.all */
    struct list same_hash;            /* of a single key: a ring without a head */
    struct interest *left, *right;    /* of a range */
    const struct interest *ends_last; /* of its subtree */
    uint32_t height;
    uint64_t number; /* in the order of coming, so that equal ranges have one, too */
};

struct interests {
    struct list all; /* in the order of coming */
    struct u64map points;
    uint64_t *filter;
    size_t filter_bits; /* a power of two, or 0 */
    size_t filter_left; /* keys whose bits are still set, and are not in the table any more */
    uint64_t seed;      /* of their hashes: whoever chooses keys does not know it */
    struct interest *ranges;
    uint64_t added;
};

void interests_init(struct interests *s);
/* Nobody is in it. */
void interests_fini(struct interests *s);
static inline bool interests_is_empty(const struct interests *s)
{
    return list_is_empty(&s->all);
}

void interests_add(struct interests *s, struct interest *it);
/* Harmless when it is not in; `it->link` was list_init()ed at the least. */
void interests_remove(struct interests *s, struct interest *it);

/* All that cover `key`, those of the key alone first, then ranges by where they begin. `found` adds
 * and removes nobody; it returns false to end it. */
void interests_of(const struct interests *s, struct slice key,
                  bool (*found)(void *ctx, struct interest *it), void *ctx);

/* The same in two steps, for who asks for several keys: the first of them all, then the second, and
 * they wait for memory together. The first returns what the second is told. */
uint64_t interests_prepare(const struct interests *s, struct slice key);
void interests_of_prepared(const struct interests *s, struct slice key, uint64_t prepared,
                           bool (*found)(void *ctx, struct interest *it), void *ctx);

/* Of a range as the API has it: an empty end is the key alone, "\0" everything from it on. */
bool interest_covers(const struct interest *it, struct slice key);

#endif
