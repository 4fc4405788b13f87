/* Reading a file of bbolt's that may be damaged or made up; see storage/bbolt.h.
 *
 * Every page is looked at before anything in it is used: its id is the one it was asked for by, it
 * lies within the file with its overflow pages, no other page leads to it in the same walk, its
 * elements and their bytes lie within it, and keys ascend over the whole bucket. Reading goes down
 * BBOLT_DEPTH_MAX levels at most. */
#include "bbolt_format.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

struct bbolt {
    struct slice file;
    uint64_t pages_count;
    uint64_t root_page;
    uint8_t *seen; /* a bit for each page, of the walk under way */
    const struct bbolt_visitor *v;
    struct slice bucket; /* whose entries are read; empty: the root's */
    struct slice last_key;
    char err_text[256];
};

/* A page that was looked at. */
struct page {
    const uint8_t *data;
    size_t size; /* with its overflow pages, or of an inline one */
    uint64_t id;
    uint16_t flags;
    uint32_t count;
};

__attribute__((format(printf, 2, 3))) static int damaged(struct bbolt *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(b->err_text, sizeof(b->err_text), format, args); /* may be cut */
    va_end(args);
    return TV_ECORRUPT;
}

static int damaged_page(struct bbolt *b, const struct page *p, const char *what)
{
    if (p->id == 0)
        return damaged(b, "offset %zu: the page inside its bucket: %s",
                       (size_t)(p->data - b->file.data), what);
    return damaged(b, "offset %llu: page %llu: %s", (unsigned long long)p->id * BBOLT_PAGE_BYTES,
                   (unsigned long long)p->id, what);
}

/* --- pages --- */

static int check_elements(struct bbolt *b, const struct page *p)
{
    if (p->flags != BBOLT_LEAF && p->flags != BBOLT_BRANCH)
        return damaged_page(b, p, "it is neither a leaf nor a branch");
    if (BBOLT_PAGE_HEAD_BYTES + (size_t)p->count * BBOLT_ELEMENT_BYTES > p->size)
        return damaged_page(b, p, "it has more elements than fit");
    if (p->flags == BBOLT_BRANCH && p->count == 0)
        return damaged_page(b, p, "it is a branch without children");
    return 0;
}

static int mark_seen(struct bbolt *b, uint64_t first, uint64_t count)
{
    for (uint64_t id = first; id < first + count; id++) {
        uint8_t bit = (uint8_t)(1u << (id & 7));
        if ((b->seen[id / 8] & bit) != 0)
            return damaged(b, "offset %llu: page %llu is reached twice",
                           (unsigned long long)id * BBOLT_PAGE_BYTES, (unsigned long long)id);
        b->seen[id / 8] |= bit;
    }
    return 0;
}

static int get_page(struct bbolt *b, uint64_t id, struct page *ret)
{
    if (id < 2 || id >= b->pages_count)
        return damaged(b, "page %llu does not exist", (unsigned long long)id);
    const uint8_t *data = b->file.data + id * BBOLT_PAGE_BYTES;
    uint64_t overflow = bbolt__get32(data + 12);
    *ret = (struct page){.data = data,
                         .size = BBOLT_PAGE_BYTES,
                         .id = id,
                         .flags = bbolt__get16(data + 8),
                         .count = bbolt__get16(data + 10)};
    if (bbolt__get64(data) != id)
        return damaged_page(b, ret, "it says that it is another one");
    if (overflow >= b->pages_count - id)
        return damaged_page(b, ret, "it goes beyond the end of the file");
    ret->size = (size_t)(overflow + 1) * BBOLT_PAGE_BYTES;
    int err = mark_seen(b, id, overflow + 1);
    return err != 0 ? err : check_elements(b, ret);
}

/* The bytes that an element says are its own. */
static int element_bytes(struct bbolt *b, const struct page *p, const uint8_t *element,
                         uint32_t position, uint64_t size, const uint8_t **ret)
{
    size_t at = (size_t)(element - p->data) + position;
    if (position < BBOLT_ELEMENT_BYTES || at > p->size || size > p->size - at)
        return damaged_page(b, p, "an element's bytes lie outside of it");
    *ret = p->data + at;
    return 0;
}

/* --- trees --- */

static int walk_page(struct bbolt *b, const struct page *p, uint32_t depth);

static int check_order(struct bbolt *b, const struct page *p, struct slice key)
{
    if (key.size == 0 || (b->last_key.size > 0 && slice_compare(b->last_key, key) >= 0))
        return damaged_page(b, p, "its keys are not in order");
    b->last_key = key;
    return 0;
}

static int walk_bucket(struct bbolt *b, const struct page *parent, struct slice name,
                       struct slice value)
{
    if (b->bucket.size > 0)
        return damaged_page(b, parent, "it has a bucket in a bucket");
    if (value.size < BBOLT_BUCKET_BYTES)
        return damaged_page(b, parent, "it has a bucket that is too short");
    if (!b->v->bucket(b->v->ctx, name))
        return 0;
    struct page root;
    uint64_t id = bbolt__get64(value.data);
    int err = 0;
    if (id != 0) {
        err = get_page(b, id, &root);
    } else if (value.size < BBOLT_BUCKET_BYTES + BBOLT_PAGE_HEAD_BYTES) {
        err = damaged_page(b, parent, "it has a bucket that is too short");
    } else {
        const uint8_t *data = value.data + BBOLT_BUCKET_BYTES;
        root = (struct page){.data = data,
                             .size = value.size - BBOLT_BUCKET_BYTES,
                             .flags = bbolt__get16(data + 8),
                             .count = bbolt__get16(data + 10)};
        err = root.flags != BBOLT_LEAF ? damaged_page(b, &root, "it is not a leaf")
                                       : check_elements(b, &root);
    }
    struct slice last_name = b->last_key;
    b->last_key = SLICE_EMPTY;
    b->bucket = name;
    if (err == 0)
        err = walk_page(b, &root, 0);
    b->bucket = SLICE_EMPTY;
    b->last_key = last_name;
    return err;
}

static int walk_leaf_element(struct bbolt *b, const struct page *p, const uint8_t *e)
{
    uint64_t key_size = bbolt__get32(e + 8), value_size = bbolt__get32(e + 12);
    const uint8_t *bytes = NULL;
    int err = element_bytes(b, p, e, bbolt__get32(e + 4), key_size + value_size, &bytes);
    if (err != 0)
        return err;
    struct slice key = slice_of(bytes, key_size), value = slice_of(bytes + key_size, value_size);
    err = check_order(b, p, key);
    if (err != 0)
        return err;
    if ((bbolt__get32(e) & BBOLT_IS_BUCKET) != 0)
        return walk_bucket(b, p, key, value);
    if (b->bucket.size == 0)
        return damaged_page(b, p, "it has an entry outside of all buckets");
    return b->v->entry(b->v->ctx, key, value);
}

static int walk_branch_element(struct bbolt *b, const struct page *p, const uint8_t *e,
                               uint32_t depth)
{
    const uint8_t *bytes = NULL;
    struct page child;
    size_t key_size = bbolt__get32(e + 4);
    int err = element_bytes(b, p, e, bbolt__get32(e), key_size, &bytes);
    if (err != 0)
        return err;
    struct slice key = slice_of(bytes, key_size);
    /* Not above what follows; that is checked below. */
    if (b->last_key.size > 0 && slice_compare(b->last_key, key) >= 0)
        return damaged_page(b, p, "its keys are not in order");
    if (depth + 1 >= BBOLT_DEPTH_MAX)
        return damaged_page(b, p, "it is too deep");
    err = get_page(b, bbolt__get64(e + 8), &child);
    if (err == 0 && child.count > 0) {
        /* bbolt looks for keys by the branches: what is smaller than its branch is never found. */
        const uint8_t *first = child.data + BBOLT_PAGE_HEAD_BYTES, *first_bytes = NULL;
        bool leaf = child.flags == BBOLT_LEAF;
        size_t first_size = bbolt__get32(first + (leaf ? 8 : 4));
        err = element_bytes(b, &child, first, bbolt__get32(first + (leaf ? 4 : 0)), first_size,
                            &first_bytes);
        if (err == 0 && slice_compare(slice_of(first_bytes, first_size), key) < 0)
            err = damaged_page(b, &child, "its first key is below its branch");
    }
    return err != 0 ? err : walk_page(b, &child, depth + 1);
}

static int walk_page(struct bbolt *b, const struct page *p, uint32_t depth)
{
    int err = 0;
    const uint8_t *e = p->data + BBOLT_PAGE_HEAD_BYTES;
    for (uint32_t i = 0; i < p->count && err == 0; i++, e += BBOLT_ELEMENT_BYTES)
        err = p->flags == BBOLT_LEAF ? walk_leaf_element(b, p, e)
                                     : walk_branch_element(b, p, e, depth);
    return err;
}

int bbolt_walk(struct bbolt *b, const struct bbolt_visitor *v)
{
    struct page root;
    memset(b->seen, 0, b->pages_count / 8 + 1);
    b->v = v;
    b->bucket = SLICE_EMPTY;
    b->last_key = SLICE_EMPTY;
    int err = get_page(b, b->root_page, &root);
    return err != 0 ? err : walk_page(b, &root, 0);
}

const char *bbolt_error(const struct bbolt *b)
{
    return b->err_text;
}

/* --- the file --- */

struct meta {
    uint64_t root_page;
    uint64_t pages_count;
    uint64_t transaction;
};

/* Errors: TV_ECORRUPT, TV_ENOTSUP. */
static int read_meta(struct slice file, uint32_t number, struct meta *ret)
{
    const uint8_t *page = file.data + (size_t)number * BBOLT_PAGE_BYTES;
    const uint8_t *p = page + BBOLT_PAGE_HEAD_BYTES;
    if (bbolt__get32(p) != BBOLT_MAGIC ||
        bbolt__get64(p + 56) != bbolt__checksum(p, BBOLT_META_CHECKED_BYTES))
        return TV_ECORRUPT;
    if (bbolt__get32(p + 4) != BBOLT_VERSION || bbolt__get32(p + 8) != BBOLT_PAGE_BYTES)
        return TV_ENOTSUP;
    *ret = (struct meta){.root_page = bbolt__get64(p + 16),
                         .pages_count = bbolt__get64(p + 40),
                         .transaction = bbolt__get64(p + 48)};
    return 0;
}

static int choose_meta(struct slice file, struct meta *ret)
{
    struct meta metas[2];
    int err0 = read_meta(file, 0, &metas[0]), err1 = read_meta(file, 1, &metas[1]);
    if (err0 != 0 && err1 != 0)
        return err0 == TV_ENOTSUP ? err0 : err1;
    bool second = err0 != 0 || (err1 == 0 && metas[1].transaction > metas[0].transaction);
    *ret = metas[second];
    return 0;
}

int bbolt_open(struct slice file, struct bbolt **ret, char *err_text, size_t err_text_size)
{
    struct meta meta = {0};
    uint64_t pages = file.size / BBOLT_PAGE_BYTES;
    if (pages < 4) {
        (void)snprintf(err_text, err_text_size, "it is too short to be a database");
        return TV_ECORRUPT;
    }
    int err = choose_meta(file, &meta);
    if (err != 0) {
        (void)snprintf(err_text, err_text_size, "%s",
                       err == TV_ENOTSUP ? "it is a database of another version or page size"
                                         : "neither of its two meta pages verifies");
        return err;
    }
    if (meta.pages_count > pages || meta.pages_count < 4) {
        (void)snprintf(err_text, err_text_size,
                       "it says that it has %llu pages, and %llu are there",
                       (unsigned long long)meta.pages_count, (unsigned long long)pages);
        return TV_ECORRUPT;
    }
    struct bbolt *b = mem_alloc_zero(sizeof(*b));
    b->file = file;
    b->pages_count = meta.pages_count;
    b->root_page = meta.root_page;
    b->seen = mem_alloc_zero(meta.pages_count / 8 + 1);
    *ret = b;
    return 0;
}

void bbolt_close(struct bbolt *b)
{
    if (b == NULL)
        return;
    mem_free(b->seen);
    mem_free(b);
}

uint64_t bbolt_bytes(const struct bbolt *b)
{
    return b->pages_count * BBOLT_PAGE_BYTES;
}
