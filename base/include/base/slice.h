/* A borrowed run of bytes. A slice never owns its memory; who does is said where it is handed over.
 */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data;
    size_t size;
};

#define SLICE_EMPTY ((struct slice){NULL, 0})
#define SLICE_LITERAL(text) ((struct slice){(const uint8_t *)(text), sizeof(text) - 1})

static inline struct slice slice_of(const void *data, size_t size)
{
    return (struct slice){data, size};
}

static inline struct slice slice_of_string(const char *text)
{
    return slice_of(text, strlen(text));
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Bytewise order, as etcd orders keys; a prefix sorts before what it begins. */
static inline int slice_compare(struct slice a, struct slice b)
{
    size_t size_min = a.size < b.size ? a.size : b.size;
    int order = size_min == 0 ? 0 : memcmp(a.data, b.data, size_min);
    if (order != 0)
        return order;
    return (a.size > b.size) - (a.size < b.size);
}

static inline bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.size >= prefix.size &&
           (prefix.size == 0 || memcmp(s.data, prefix.data, prefix.size) == 0);
}

/* Without the bytes of `blanks` that it begins and ends with. */
static inline struct slice slice_trim(struct slice s, const char *blanks)
{
    size_t count = strlen(blanks);
    while (s.size > 0 && memchr(blanks, s.data[0], count) != NULL)
        s = slice_of(s.data + 1, s.size - 1);
    while (s.size > 0 && memchr(blanks, s.data[s.size - 1], count) != NULL)
        s.size--;
    return s;
}

#endif
