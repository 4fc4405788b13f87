/* Any bytes as a database of bbolt's: nothing is read beyond them, and the walk ends. The first
 * meta page is made to verify, so that what it leads to is reached. */
#include "bbolt_format.h"

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool on_bucket(void *ctx, struct slice name)
{
    (void)ctx;
    return name.size % 2 == 0;
}

static int on_entry(void *ctx, struct slice key, struct slice value)
{
    uint8_t *sum = ctx;
    for (size_t i = 0; i < key.size; i++)
        *sum = (uint8_t)(*sum + key.data[i]);
    for (size_t i = 0; i < value.size; i++)
        *sum = (uint8_t)(*sum + value.data[i]);
    return 0;
}

static void make_meta_verify(uint8_t *file, size_t size)
{
    uint8_t *p = file + BBOLT_PAGE_HEAD_BYTES;
    bbolt__put32(p, BBOLT_MAGIC);
    bbolt__put32(p + 4, BBOLT_VERSION);
    bbolt__put32(p + 8, BBOLT_PAGE_BYTES);
    bbolt__put64(p + 40, size / BBOLT_PAGE_BYTES);
    bbolt__put64(p + 56, bbolt__checksum(p, BBOLT_META_CHECKED_BYTES));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = mem_dup(data, size);
    uint8_t sum = 0;
    char why[200];
    struct bbolt *b;
    if (size >= 2 * BBOLT_PAGE_BYTES)
        make_meta_verify(copy, size);
    if (bbolt_open(slice_of(copy, size), &b, why, sizeof(why)) == 0) {
        struct bbolt_visitor v = {.bucket = on_bucket, .entry = on_entry, .ctx = &sum};
        (void)bbolt_walk(b, &v); /* whatever it says */
        bbolt_close(b);
    }
    mem_free(copy);
    return 0;
}
