/* bbolt's file format, in which etcd keeps its data and its snapshots: a writer that makes a whole
 * file as a stream, and a reader that trusts nothing in one.
 *
 * The file is pages of 4096 bytes; a page that does not suffice is followed by overflow pages.
 *
 *   page: id u64, flags u16, elements u16, overflow pages u32; then elements; then their bytes
 *   leaf element:   flags u32 (1: a bucket), position u32, key size u32, value size u32
 *   branch element: position u32, key size u32, page id u64
 *   bucket (a leaf's value): root page u64, sequence u64; with root page 0 the page itself follows
 *   meta (pages 0 and 1): magic u32, version u32, page size u32, flags u32, the root bucket,
 *                         freelist page u64, pages in the file u64, transaction u64, FNV-1a u64
 *
 * Numbers are little-endian; positions count from the element they are in. Of the two metas the one
 * with the higher transaction counts, if it verifies. Source: bbolt's page.go, bucket.go, meta.go
 * (internal/common).
 *
 * The writer lays a bucket's pages out bottom-up, in the order of its keys, so that nothing has to
 * be known but what came so far: at most a page of each level is held. What the first two pages
 * say, where the root is and how many pages there are, comes from a first pass over the same
 * entries, which writes nothing. Limit: memory is one entry, some pages, and the small buckets. */
#ifndef STORAGE_BBOLT_H
#define STORAGE_BBOLT_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    BBOLT_PAGE_BYTES = 4096,
    BBOLT_KEY_BYTES_MAX = 32768,
    BBOLT_BUCKETS_MAX = 64,
    BBOLT_NAME_BYTES_MAX = 128,
    BBOLT_DEPTH_MAX = 32,
};

/* --- writing --- */

/* What a pass found out. */
struct bbolt_layout {
    uint64_t root_page;
    uint64_t pages_count;
};

static inline uint64_t bbolt_file_bytes(const struct bbolt_layout *l)
{
    return l->pages_count * BBOLT_PAGE_BYTES;
}

struct bbolt_writer;

/* `write` is given the file from its beginning, a page with its overflow pages at a time, borrowed
 * during the call. NULL: the first pass. In the second one `layout` (copied) is what the first one
 * found. */
struct bbolt_writer *bbolt_writer_new(const struct bbolt_layout *layout,
                                      void (*write)(void *ctx, const uint8_t *data, size_t size),
                                      void *ctx);
void bbolt_writer_free(struct bbolt_writer *w);
/* Buckets in ascending order of their names, keys in ascending order within one, none empty. */
void bbolt_writer_bucket(struct bbolt_writer *w, struct slice name);
void bbolt_writer_put(struct bbolt_writer *w, struct slice key, struct slice value);
/* All was put. Errors: TV_ECORRUPT: the second pass did not make the file that the first one laid
 * out. */
int bbolt_writer_end(struct bbolt_writer *w, struct bbolt_layout *ret);

/* --- reading --- */

struct bbolt;

/* The bytes of a file, which are borrowed and must not change. What is read is checked; nothing in
 * it can make the reader look beyond `file`, go in circles, or use memory in proportion to anything
 * but its size.
 * Errors: TV_ECORRUPT with words in err_text; TV_ENOTSUP: another version or page size. */
int bbolt_open(struct slice file, struct bbolt **ret, char *err_text, size_t err_text_size);
void bbolt_close(struct bbolt *b);
/* As the file says, whatever its size: pages in use and free ones. */
uint64_t bbolt_bytes(const struct bbolt *b);

/* Walk over all buckets and, where `want` says so, their entries in order of keys; `entry` ends the
 * walk with anything but 0, which is returned. All slices point into the file. Buckets in buckets
 * are refused: etcd has none.
 * Errors: TV_ECORRUPT: bbolt_error() says what and where. */
struct bbolt_visitor {
    /* A bucket begins. False: not its entries. */
    bool (*bucket)(void *ctx, struct slice name);
    int (*entry)(void *ctx, struct slice key, struct slice value);
    void *ctx;
};
int bbolt_walk(struct bbolt *b, const struct bbolt_visitor *v);
const char *bbolt_error(const struct bbolt *b);

#endif
