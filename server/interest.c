#include "server/interest.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"

enum { FILTER_BITS_PER_KEY = 8, FILTER_BITS_MIN = 1024 };

static bool is_open(struct slice range_end)
{
    return range_end.size == 1 && range_end.data[0] == 0;
}

static bool ends_after(const struct interest *it, struct slice key)
{
    return is_open(it->range_end) || slice_compare(key, it->range_end) < 0;
}

bool interest_covers(const struct interest *it, struct slice key)
{
    if (it->range_end.size == 0)
        return slice_equal(it->key, key);
    return slice_compare(it->key, key) <= 0 && ends_after(it, key);
}

void interests_init(struct interests *s)
{
    *s = (struct interests){0};
    list_init(&s->all);
    u64map_init(&s->points);
    s->seed = rng_seed_from_os();
}

void interests_fini(struct interests *s)
{
    ASSERT(interests_is_empty(s));
    u64map_fini(&s->points);
    mem_free(s->filter);
}

/* --- single keys --- */

static uint64_t hash_of(const struct interests *s, struct slice key)
{
    uint64_t hash = hash64(key, s->seed);
    return hash != 0 ? hash : 1;
}

static void filter_set(struct interests *s, uint64_t hash)
{
    size_t bit = hash & (s->filter_bits - 1);
    s->filter[bit / 64] |= (uint64_t)1 << bit % 64;
}

static bool filter_has(const struct interests *s, uint64_t hash)
{
    if (s->filter_bits == 0)
        return false;
    size_t bit = hash & (s->filter_bits - 1);
    return (s->filter[bit / 64] >> bit % 64 & 1) != 0;
}

/* From the table, with bits for what is in it and as much again. */
static void filter_renew(struct interests *s)
{
    size_t bits = FILTER_BITS_MIN;
    while (bits < s->points.count * 2 * FILTER_BITS_PER_KEY)
        bits *= 2;
    mem_free(s->filter);
    s->filter = mem_alloc_zero(bits / 8);
    s->filter_bits = bits;
    s->filter_left = 0;
    size_t cursor = 0;
    uint64_t hash;
    void *value;
    while (u64map_next(&s->points, &cursor, &hash, &value))
        filter_set(s, hash);
}

static void filter_add(struct interests *s, uint64_t hash)
{
    if (s->points.count * FILTER_BITS_PER_KEY > s->filter_bits)
        filter_renew(s);
    else
        filter_set(s, hash);
}

static void filter_remove(struct interests *s)
{
    s->filter_left++;
    if (s->filter_left * FILTER_BITS_PER_KEY > s->filter_bits)
        filter_renew(s);
}

static void point_add(struct interests *s, struct interest *it)
{
    uint64_t hash = hash_of(s, it->key);
    struct interest *first = u64map_get(&s->points, hash);
    if (first != NULL) {
        list_push_back(&first->same_hash, &it->same_hash);
        return;
    }
    (void)u64map_put(&s->points, hash, it);
    filter_add(s, hash);
}

static void point_remove(struct interests *s, struct interest *it)
{
    uint64_t hash = hash_of(s, it->key);
    if (!list_is_linked(&it->same_hash)) {
        (void)u64map_remove(&s->points, hash);
        filter_remove(s);
        return;
    }
    if (u64map_get(&s->points, hash) == it)
        (void)u64map_put(&s->points, hash,
                         CONTAINER_OF(it->same_hash.next, struct interest, same_hash));
    list_remove(&it->same_hash);
}

static bool points_of(const struct interests *s, struct slice key, uint64_t hash,
                      bool (*found)(void *ctx, struct interest *it), void *ctx)
{
    struct interest *first = u64map_get(&s->points, hash);
    struct interest *it = first;
    while (it != NULL) {
        if (slice_equal(it->key, key) && !found(ctx, it))
            return false;
        it = CONTAINER_OF(it->same_hash.next, struct interest, same_hash);
        if (it == first)
            break;
    }
    return true;
}

/* --- ranges: a tree as of Adelson-Velsky and Landis --- */

static uint32_t height_of(const struct interest *it)
{
    return it == NULL ? 0 : it->height;
}

static const struct interest *later_end(const struct interest *a, const struct interest *subtree)
{
    if (subtree == NULL || is_open(a->range_end))
        return a;
    const struct interest *b = subtree->ends_last;
    return is_open(b->range_end) || slice_compare(a->range_end, b->range_end) < 0 ? b : a;
}

/* What it knows of its subtree, after its children changed. */
static void update(struct interest *it)
{
    uint32_t left = height_of(it->left), right = height_of(it->right);
    it->height = 1 + (left > right ? left : right);
    it->ends_last = later_end(later_end(it, it->left), it->right);
}

static struct interest *rotate_right(struct interest *it)
{
    struct interest *up = it->left;
    it->left = up->right;
    up->right = it;
    update(it);
    update(up);
    return up;
}

static struct interest *rotate_left(struct interest *it)
{
    struct interest *up = it->right;
    it->right = up->left;
    up->left = it;
    update(it);
    update(up);
    return up;
}

/* The root of what was `it`'s subtree. */
static struct interest *balance(struct interest *it)
{
    uint32_t left = height_of(it->left), right = height_of(it->right);
    if (left > right + 1) {
        if (height_of(it->left->left) < height_of(it->left->right))
            it->left = rotate_left(it->left);
        return rotate_right(it);
    }
    if (right > left + 1) {
        if (height_of(it->right->right) < height_of(it->right->left))
            it->right = rotate_right(it->right);
        return rotate_left(it);
    }
    update(it);
    return it;
}

static bool comes_before(const struct interest *a, const struct interest *b)
{
    int order = slice_compare(a->key, b->key);
    return order < 0 || (order == 0 && a->number < b->number);
}

static struct interest *range_add(struct interest *root, struct interest *it)
{
    if (root == NULL) {
        it->left = it->right = NULL;
        update(it);
        return it;
    }
    if (comes_before(it, root))
        root->left = range_add(root->left, it);
    else
        root->right = range_add(root->right, it);
    return balance(root);
}

static struct interest *take_first(struct interest *root, struct interest **ret_first)
{
    if (root->left == NULL) {
        *ret_first = root;
        return root->right;
    }
    root->left = take_first(root->left, ret_first);
    return balance(root);
}

static struct interest *range_remove(struct interest *root, const struct interest *it)
{
    ASSERT(root != NULL);
    if (root != it) {
        if (comes_before(it, root))
            root->left = range_remove(root->left, it);
        else
            root->right = range_remove(root->right, it);
        return balance(root);
    }
    if (root->left == NULL || root->right == NULL)
        return root->left == NULL ? root->right : root->left;
    struct interest *up;
    struct interest *right = take_first(root->right, &up);
    up->left = root->left;
    up->right = right;
    return balance(up);
}

static bool ranges_of(struct interest *root, struct slice key,
                      bool (*found)(void *ctx, struct interest *it), void *ctx)
{
    if (root == NULL || !ends_after(root->ends_last, key))
        return true;
    if (!ranges_of(root->left, key, found, ctx))
        return false;
    if (slice_compare(root->key, key) > 0)
        return true; /* and all to its right */
    if (ends_after(root, key) && !found(ctx, root))
        return false;
    return ranges_of(root->right, key, found, ctx);
}

/* --- both --- */

void interests_add(struct interests *s, struct interest *it)
{
    it->number = ++s->added;
    list_init(&it->link);
    list_init(&it->same_hash);
    list_push_back(&s->all, &it->link);
    if (it->range_end.size == 0)
        point_add(s, it);
    else
        s->ranges = range_add(s->ranges, it);
}

void interests_remove(struct interests *s, struct interest *it)
{
    if (!list_is_linked(&it->link))
        return;
    list_remove(&it->link);
    if (it->range_end.size == 0)
        point_remove(s, it);
    else
        s->ranges = range_remove(s->ranges, it);
}

uint64_t interests_prepare(const struct interests *s, struct slice key)
{
    if (s->points.count == 0)
        return 0;
    uint64_t hash = hash_of(s, key);
    if (!filter_has(s, hash))
        return 0;
    u64map_prefetch(&s->points, hash);
    return hash;
}

void interests_of_prepared(const struct interests *s, struct slice key, uint64_t prepared,
                           bool (*found)(void *ctx, struct interest *it), void *ctx)
{
    if (points_of(s, key, prepared, found, ctx))
        (void)ranges_of(s->ranges, key, found, ctx);
}

void interests_of(const struct interests *s, struct slice key,
                  bool (*found)(void *ctx, struct interest *it), void *ctx)
{
    interests_of_prepared(s, key, interests_prepare(s, key), found, ctx);
}
