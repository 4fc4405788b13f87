/* Sorting a million versions: by revision for the hash, by key to build the index.
 *
 * Many items are sorted by their bytes from the lowest up, leaving out bytes that are the same in
 * all; few are merged. Both are stable. Keys are sorted 8 bytes at a time: the items whose first 8
 * bytes are equal are sorted by the next 8, so that keys, which lie all over the memory, are read
 * once per 8 bytes and not once per comparison. */
#include "mvcc_internal.h"

enum {
    INSERTION_SORT_MAX = 24,
    MERGE_SORT_MAX = 4096,
    PREFETCH_ITEMS = 12,
};

static bool item_above(const struct sort_item *a, const struct sort_item *b)
{
    return a->major != b->major ? a->major > b->major : a->minor > b->minor;
}

static void insertion_sort(struct sort_item *item, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct sort_item x = item[i];
        size_t at = i;
        for (; at > 0 && item_above(&item[at - 1], &x); at--)
            item[at] = item[at - 1];
        item[at] = x;
    }
}

static void merge_sort(struct sort_item *item, size_t count, struct sort_item *spare)
{
    if (count <= INSERTION_SORT_MAX) {
        insertion_sort(item, count);
        return;
    }
    size_t half = count / 2;
    merge_sort(item, half, spare);
    merge_sort(item + half, count - half, spare);
    if (!item_above(&item[half - 1], &item[half]))
        return;
    memcpy(spare, item, half * sizeof(*item));
    size_t left = 0, right = half, to = 0;
    while (left < half && right < count)
        item[to++] = item_above(&spare[left], &item[right]) ? item[right++] : spare[left++];
    memcpy(&item[to], &spare[left], (half - left) * sizeof(*item));
}

/* Byte 0 is the lowest of minor, byte 4 the lowest of major. */
static uint8_t item_byte(const struct sort_item *item, uint32_t byte)
{
    return (uint8_t)(byte < 4 ? item->minor >> (8 * byte) : item->major >> (8 * (byte - 4)));
}

static void byte_pass(const struct sort_item *from, size_t count, uint32_t byte,
                      struct sort_item *to)
{
    size_t at[256] = {0}, sum = 0;
    for (size_t i = 0; i < count; i++)
        at[item_byte(&from[i], byte)]++;
    for (int i = 0; i < 256; i++) {
        size_t n = at[i];
        at[i] = sum;
        sum += n;
    }
    for (size_t i = 0; i < count; i++)
        to[at[item_byte(&from[i], byte)]++] = from[i];
}

void mvcc__sort(struct sort_item *item, size_t count, struct sort_item *spare)
{
    if (count <= MERGE_SORT_MAX) {
        merge_sort(item, count, spare);
        return;
    }
    uint64_t major = 0; /* bits that differ */
    uint32_t minor = 0;
    bool sorted = true;
    for (size_t i = 1; i < count; i++) {
        major |= item[i].major ^ item[0].major;
        minor |= item[i].minor ^ item[0].minor;
        sorted &= !item_above(&item[i - 1], &item[i]);
    }
    if (sorted)
        return;
    struct sort_item *from = item, *to = spare;
    struct sort_item differs = {.major = major, .minor = minor};
    for (uint32_t byte = 0; byte < 12; byte++) {
        if (item_byte(&differs, byte) == 0)
            continue;
        byte_pass(from, count, byte, to);
        struct sort_item *swap = from;
        from = to;
        to = swap;
    }
    if (from != item)
        memcpy(item, from, count * sizeof(*item));
}

/* --- keys --- */

/* major = the 8 bytes of the key from `offset`; minor = how many there are, 9 for "more": keys
 * whose items are equal with minor <= 8 are equal. */
static void item_set(struct sort_item *item, size_t offset)
{
    struct slice key = mvcc_version_key(item->v);
    size_t rest = key.size - offset;
    uint64_t x = 0;
    memcpy(&x, key.data + offset, rest < 8 ? rest : 8);
    item->major = __builtin_bswap64(x);
    item->minor = rest > 8 ? 9 : (uint32_t)rest;
}

static size_t common_prefix(const struct sort_item *item, size_t count, size_t offset)
{
    struct slice first = mvcc_version_key(item[0].v);
    size_t common = first.size;
    for (size_t i = 1; i < count && common > offset; i++) {
        if (i + PREFETCH_ITEMS < count)
            __builtin_prefetch(item[i + PREFETCH_ITEMS].v->kv);
        struct slice key = mvcc_version_key(item[i].v);
        size_t size = key.size < common ? key.size : common;
        common = offset;
        while (common < size && key.data[common] == first.data[common])
            common++;
    }
    return common;
}

/* All keys are equal up to `offset`. */
static void sort_from(struct sort_item *item, size_t count, size_t offset, struct sort_item *spare)
{
    for (;;) {
        for (size_t i = 0; i < count; i++) {
            if (i + PREFETCH_ITEMS < count)
                __builtin_prefetch(item[i + PREFETCH_ITEMS].v->kv + offset);
            item_set(&item[i], offset);
        }
        mvcc__sort(item, count, spare);
        offset += 8;
        /* One run of all: its keys' next bytes are this loop's, so that keys of any length that
         * have much in common do not recurse. */
        if (item[0].major != item[count - 1].major || item[0].minor != item[count - 1].minor)
            break;
        if (item[0].minor != 9)
            return;
    }
    size_t begin = 0;
    for (size_t i = 1; i <= count; i++) {
        if (i < count && item[i].major == item[begin].major && item[i].minor == item[begin].minor)
            continue;
        if (i - begin > 1 && item[begin].minor == 9)
            sort_from(&item[begin], i - begin, offset, spare);
        begin = i;
    }
}

void mvcc__sort_by_key(struct sort_item *item, size_t count, struct sort_item *spare)
{
    if (count > 1)
        sort_from(item, count, common_prefix(item, count, 0), spare);
}
