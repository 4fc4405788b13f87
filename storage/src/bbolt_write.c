/* Making a file of bbolt's; see storage/bbolt.h.
 *
 * A level holds the page that is being filled, as elements and bytes apart. When the next element
 * does not fit, the page is written and its first key goes to the level above. A page of branches
 * is closed one element early, so that what follows begins with two: bbolt wants no branch with a
 * single child. The root bucket's own page comes last: only then is known where the others are. */
#include "bbolt_format.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

enum { FIRST_PAGE = 3, FREELIST_PAGE = 2, META_TRANSACTION = 2, BRANCH_ELEMENTS_MIN = 3 };

/* An element of the page that is being filled; its key, and a leaf's value, are in `bytes`. */
struct element {
    uint32_t flags;
    uint32_t key_size;
    uint32_t value_size;
    uint64_t page; /* a branch's */
};

struct level {
    struct element *elements;
    uint32_t count;
    uint32_t capacity;
    struct buf bytes;
    bool wrote; /* a page of this level: it needs a level above */
};

/* What the root bucket's leaf says about a bucket. */
struct bucket {
    uint8_t name[BBOLT_NAME_BYTES_MAX];
    size_t name_size;
    struct buf value;
};

struct bbolt_writer {
    struct bbolt_layout layout;
    void (*write)(void *ctx, const uint8_t *data, size_t size);
    void *ctx;
    uint64_t next_page;
    struct level levels[BBOLT_DEPTH_MAX]; /* of the bucket; 0 = leaves */
    struct buf last_key;                  /* of the bucket, to see that they ascend */
    struct bucket buckets[BBOLT_BUCKETS_MAX];
    uint32_t buckets_count;
    bool in_bucket;
    struct buf page;
};

/* --- pages --- */

static size_t level_bytes(const struct level *l)
{
    return BBOLT_PAGE_HEAD_BYTES + (size_t)l->count * BBOLT_ELEMENT_BYTES + l->bytes.size;
}

/* The page's bytes without padding, to `p`. */
static void encode_page(const struct level *l, bool leaf, uint64_t id, uint32_t overflow,
                        uint8_t *p)
{
    bbolt__put64(p, id);
    bbolt__put16(p + 8, leaf ? BBOLT_LEAF : BBOLT_BRANCH);
    bbolt__put16(p + 10, (uint16_t)l->count);
    bbolt__put32(p + 12, overflow);
    uint8_t *at = p + BBOLT_PAGE_HEAD_BYTES;
    size_t position = (size_t)l->count * BBOLT_ELEMENT_BYTES; /* from the element on */
    for (uint32_t i = 0; i < l->count; i++, at += BBOLT_ELEMENT_BYTES) {
        const struct element *e = &l->elements[i];
        if (leaf) {
            bbolt__put32(at, e->flags);
            bbolt__put32(at + 4, (uint32_t)position);
            bbolt__put32(at + 8, e->key_size);
            bbolt__put32(at + 12, e->value_size);
        } else {
            bbolt__put32(at, (uint32_t)position);
            bbolt__put32(at + 4, e->key_size);
            bbolt__put64(at + 8, e->page);
        }
        position += (size_t)e->key_size + e->value_size - BBOLT_ELEMENT_BYTES;
    }
    if (l->bytes.size > 0)
        memcpy(at, l->bytes.data, l->bytes.size);
}

static void level_clear(struct level *l)
{
    l->count = 0;
    buf_clear(&l->bytes);
}

/* Write the level's page and empty it. Returns the page's id. */
static uint64_t write_page(struct bbolt_writer *w, struct level *l, bool leaf)
{
    size_t size = level_bytes(l);
    uint64_t pages = (size + BBOLT_PAGE_BYTES - 1) / BBOLT_PAGE_BYTES;
    uint64_t id = w->next_page;
    ASSERT(pages - 1 <= UINT32_MAX);
    w->next_page += pages;
    if (w->write != NULL) {
        buf_clear(&w->page);
        uint8_t *p = buf_reserve(&w->page, pages * BBOLT_PAGE_BYTES);
        encode_page(l, leaf, id, (uint32_t)(pages - 1), p);
        memset(p + size, 0, pages * BBOLT_PAGE_BYTES - size);
        w->write(w->ctx, p, pages * BBOLT_PAGE_BYTES);
    }
    level_clear(l);
    return id;
}

/* --- levels --- */

static void add_element(struct level *l, const struct element *e, struct slice key,
                        struct slice value)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity == 0 ? 64 : l->capacity * 2;
        l->elements = mem_realloc(l->elements, l->capacity * sizeof(*l->elements));
    }
    l->elements[l->count++] = *e;
    int err = buf_append(&l->bytes, key.data, key.size);
    if (err == 0)
        err = buf_append(&l->bytes, value.data, value.size);
    ASSERT(err == 0);
}

static void add_child(struct bbolt_writer *w, uint32_t depth, struct slice key, uint64_t page);

/* The page of branches is full but for its last element, which begins the next one. */
static void close_branch(struct bbolt_writer *w, uint32_t depth)
{
    struct level *l = &w->levels[depth];
    struct element last = l->elements[l->count - 1];
    uint8_t last_key[BBOLT_KEY_BYTES_MAX];
    uint8_t *first_key = mem_dup(l->bytes.data, l->elements[0].key_size);
    size_t first_size = l->elements[0].key_size;
    l->bytes.size -= last.key_size;
    memcpy(last_key, l->bytes.data + l->bytes.size, last.key_size);
    l->count--;
    l->wrote = true;
    uint64_t page = write_page(w, l, false);
    add_child(w, depth + 1, slice_of(first_key, first_size), page);
    mem_free(first_key);
    add_element(l, &last, slice_of(last_key, last.key_size), SLICE_EMPTY);
}

static void add_child(struct bbolt_writer *w, uint32_t depth, struct slice key, uint64_t page)
{
    ASSERT(depth < BBOLT_DEPTH_MAX);
    struct level *l = &w->levels[depth];
    size_t more = BBOLT_ELEMENT_BYTES + key.size;
    if (l->count >= BRANCH_ELEMENTS_MIN && level_bytes(l) + more > BBOLT_PAGE_BYTES)
        close_branch(w, depth);
    struct element e = {.key_size = (uint32_t)key.size, .page = page};
    add_element(l, &e, key, SLICE_EMPTY);
}

static void close_leaf(struct bbolt_writer *w)
{
    struct level *l = &w->levels[0];
    uint8_t *key = mem_dup(l->bytes.data, l->elements[0].key_size);
    size_t key_size = l->elements[0].key_size;
    l->wrote = true;
    uint64_t page = write_page(w, l, true);
    add_child(w, 1, slice_of(key, key_size), page);
    mem_free(key);
}

/* --- buckets --- */

/* The tree's root becomes what the parent says about the bucket. */
static void put_root(struct bbolt_writer *w, uint64_t page)
{
    struct bucket *b = &w->buckets[w->buckets_count - 1];
    uint8_t *p = buf_reserve(&b->value, BBOLT_BUCKET_BYTES);
    bbolt__put64(p, page);
    bbolt__put64(p + 8, 0);
    b->value.size = BBOLT_BUCKET_BYTES;
}

static void put_inline(struct bbolt_writer *w)
{
    struct bucket *b = &w->buckets[w->buckets_count - 1];
    struct level *l = &w->levels[0];
    put_root(w, 0);
    size_t size = level_bytes(l);
    encode_page(l, true, 0, 0, buf_reserve(&b->value, size));
    b->value.size += size;
    level_clear(l);
}

static void end_bucket(struct bbolt_writer *w)
{
    if (!w->in_bucket)
        return;
    w->in_bucket = false;
    struct level *leaves = &w->levels[0];
    if (!leaves->wrote && level_bytes(leaves) <= BBOLT_INLINE_BYTES_MAX) {
        put_inline(w);
        return;
    }
    if (!leaves->wrote) {
        put_root(w, write_page(w, leaves, true));
        return;
    }
    close_leaf(w);
    leaves->wrote = false;
    /* The lowest level that was never full holds the root's children, or is the root. */
    for (uint32_t depth = 1;; depth++) {
        struct level *l = &w->levels[depth];
        if (!l->wrote && l->count == 1) {
            put_root(w, l->elements[0].page);
            level_clear(l);
            return;
        }
        if (!l->wrote) {
            put_root(w, write_page(w, l, false));
            return;
        }
        l->wrote = false;
        uint8_t *key = mem_dup(l->bytes.data, l->elements[0].key_size);
        size_t key_size = l->elements[0].key_size;
        uint64_t page = write_page(w, l, false);
        add_child(w, depth + 1, slice_of(key, key_size), page);
        mem_free(key);
    }
}

void bbolt_writer_bucket(struct bbolt_writer *w, struct slice name)
{
    end_bucket(w);
    ASSERT(name.size > 0 && name.size <= BBOLT_NAME_BYTES_MAX);
    ASSERT(w->buckets_count < BBOLT_BUCKETS_MAX);
    struct bucket *b = &w->buckets[w->buckets_count];
    if (w->buckets_count > 0)
        ASSERT(slice_compare(slice_of(b[-1].name, b[-1].name_size), name) < 0);
    memcpy(b->name, name.data, name.size);
    b->name_size = name.size;
    buf_init(&b->value, SIZE_MAX);
    buf_clear(&w->last_key);
    w->buckets_count++;
    w->in_bucket = true;
}

void bbolt_writer_put(struct bbolt_writer *w, struct slice key, struct slice value)
{
    ASSERT(w->in_bucket && key.size > 0 && key.size <= BBOLT_KEY_BYTES_MAX);
    ASSERT(value.size < INT32_MAX);
    ASSERT(slice_compare(buf_slice(&w->last_key), key) < 0);
    buf_clear(&w->last_key);
    (void)buf_append(&w->last_key, key.data, key.size);

    struct level *l = &w->levels[0];
    size_t more = BBOLT_ELEMENT_BYTES + key.size + value.size;
    if (l->count > 0 && level_bytes(l) + more > BBOLT_PAGE_BYTES)
        close_leaf(w);
    struct element e = {.key_size = (uint32_t)key.size, .value_size = (uint32_t)value.size};
    add_element(l, &e, key, value);
}

/* --- the file --- */

static void write_meta(struct bbolt_writer *w, uint64_t page, uint64_t transaction)
{
    uint8_t data[BBOLT_PAGE_BYTES] = {0};
    bbolt__put64(data, page);
    bbolt__put16(data + 8, BBOLT_META);
    uint8_t *p = data + BBOLT_PAGE_HEAD_BYTES;
    bbolt__put32(p, BBOLT_MAGIC);
    bbolt__put32(p + 4, BBOLT_VERSION);
    bbolt__put32(p + 8, BBOLT_PAGE_BYTES);
    bbolt__put64(p + 16, w->layout.root_page);
    bbolt__put64(p + 32, FREELIST_PAGE);
    bbolt__put64(p + 40, w->layout.pages_count);
    bbolt__put64(p + 48, transaction);
    bbolt__put64(p + 56, bbolt__checksum(p, BBOLT_META_CHECKED_BYTES));
    w->write(w->ctx, data, sizeof(data));
}

static void write_head(struct bbolt_writer *w)
{
    uint8_t freelist[BBOLT_PAGE_BYTES] = {0};
    write_meta(w, 0, META_TRANSACTION);
    write_meta(w, 1, META_TRANSACTION - 1);
    bbolt__put64(freelist, FREELIST_PAGE);
    bbolt__put16(freelist + 8, BBOLT_FREELIST);
    w->write(w->ctx, freelist, sizeof(freelist));
}

struct bbolt_writer *bbolt_writer_new(const struct bbolt_layout *layout,
                                      void (*write)(void *ctx, const uint8_t *data, size_t size),
                                      void *ctx)
{
    ASSERT((layout != NULL) == (write != NULL));
    struct bbolt_writer *w = mem_alloc_zero(sizeof(*w));
    w->write = write;
    w->ctx = ctx;
    w->next_page = FIRST_PAGE;
    for (uint32_t i = 0; i < BBOLT_DEPTH_MAX; i++)
        buf_init(&w->levels[i].bytes, SIZE_MAX);
    buf_init(&w->last_key, SIZE_MAX);
    buf_init(&w->page, SIZE_MAX);
    if (layout != NULL) {
        w->layout = *layout;
        write_head(w);
    }
    return w;
}

void bbolt_writer_free(struct bbolt_writer *w)
{
    if (w == NULL)
        return;
    for (uint32_t i = 0; i < BBOLT_DEPTH_MAX; i++) {
        mem_free(w->levels[i].elements);
        buf_fini(&w->levels[i].bytes);
    }
    for (uint32_t i = 0; i < w->buckets_count; i++)
        buf_fini(&w->buckets[i].value);
    buf_fini(&w->last_key);
    buf_fini(&w->page);
    mem_free(w);
}

int bbolt_writer_end(struct bbolt_writer *w, struct bbolt_layout *ret)
{
    end_bucket(w);
    struct level *root = &w->levels[0];
    for (uint32_t i = 0; i < w->buckets_count; i++) {
        const struct bucket *b = &w->buckets[i];
        struct element e = {.flags = BBOLT_IS_BUCKET,
                            .key_size = (uint32_t)b->name_size,
                            .value_size = (uint32_t)b->value.size};
        add_element(root, &e, slice_of(b->name, b->name_size), buf_slice(&b->value));
    }
    struct bbolt_layout made = {.root_page = write_page(w, root, true)};
    made.pages_count = w->next_page;
    *ret = made;
    bool as_planned = w->write == NULL || (made.root_page == w->layout.root_page &&
                                           made.pages_count == w->layout.pages_count);
    return as_planned ? 0 : TV_ECORRUPT;
}
