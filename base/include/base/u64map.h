/* A hash map from non-zero uint64_t keys to pointers: open addressing, linear probing, deletion by
 * shifting back, so that there are no tombstones to clean. One owner. */
#ifndef BASE_U64MAP_H
#define BASE_U64MAP_H

#include <stddef.h>
#include <stdint.h>

struct u64map_slot {
    uint64_t key; /* 0 = empty */
    void *value;
};

struct u64map {
    struct u64map_slot *slots;
    size_t slots_count; /* a power of two, or 0 */
    size_t count;
};

void u64map_init(struct u64map *m);
void u64map_fini(struct u64map *m);
/* NULL when absent. */
void *u64map_get(const struct u64map *m, uint64_t key);
/* `key` is asked for soon: what is looked at then comes into the cache meanwhile. */
void u64map_prefetch(const struct u64map *m, uint64_t key);
/* Sets or replaces; returns the value replaced or NULL. `key` and `value` are not 0. */
void *u64map_put(struct u64map *m, uint64_t key, void *value);
/* Room for one more, so that the next put needs no memory. 0, or TV_ENOMEM. */
int u64map_try_reserve(struct u64map *m);
/* Returns what was removed, or NULL. */
void *u64map_remove(struct u64map *m, uint64_t key);

/* Iterate: start with *cursor = 0; false at the end. The map must not change meanwhile. */
int u64map_next(const struct u64map *m, size_t *cursor, uint64_t *ret_key, void **ret_value);

#endif
