/* The store in memory against a naive model: a plain array of all changes ever made, from which the
 * right answer to any question is found by looking at each of them.
 *
 * test_mvcc_model [first_seed [seeds]]: a failure names its seed, which replays it. */
#include "unit.h"

#include "storage/mvcc.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

enum { KEY_BYTES_MAX = 32, STEPS = 2500, KEYS_MAX = 4000, SEEDS = 8, HELD_MAX = 50 };

static uint64_t first_seed = 1, seeds_count = SEEDS;

struct change {
    char key[KEY_BYTES_MAX];
    uint32_t key_index;
    int64_t main, create_revision, version, lease;
    uint32_t sub;
    uint64_t value;
    bool tombstone;
    bool dropped; /* what mvcc_scrub() reported */
};

struct model {
    struct mvcc *m;
    struct epoch_reader *reader;
    struct rng rng;
    uint32_t keys_count;
    int style; /* of keys */
    struct change *change;
    size_t count, capacity;
    int64_t revision, compacted;
    uint64_t seed;
    bool move_all;
    uint32_t warm[MVCC_WARM_MAX];
    uint32_t warm_next, warm_count;
    struct mvcc_pin pin;
    bool pinned;
    int64_t pin_rev;
    /* Read under the pin, and good until its release. */
    const struct mvcc_version *held[HELD_MAX];
    uint64_t held_hash[HELD_MAX];
    size_t held_count;
};

static uint64_t below(struct model *o, uint64_t bound)
{
    return rng_below(&o->rng, bound);
}

static void key_name(const struct model *o, uint32_t i, char *ret)
{
    static const char *const format[] = {"/registry/pods/ns-%03u/%07u", "k%u%u", "%03u%c%u"};
    if (o->style == 2) /* zero bytes and long common runs */
        (void)snprintf(ret, KEY_BYTES_MAX, "\x01%.*s%u", (int)(i % 11),
                       "\x01\x01\x01\x01\x01\x01"
                       "\x01\x01\x01\x01\x01",
                       i);
    else if (o->style == 0)
        (void)snprintf(ret, KEY_BYTES_MAX, format[0], i % 17, i);
    else
        (void)snprintf(ret, KEY_BYTES_MAX, format[1], i % 3, i);
}

static struct slice key_of(const struct change *c)
{
    return slice_of_string(c->key);
}

/* The change of the key that is current at `rev`, or NULL. */
static const struct change *newest_at(const struct model *o, struct slice key, int64_t rev)
{
    for (size_t i = o->count; i-- > 0;) {
        const struct change *c = &o->change[i];
        if (c->main <= rev && slice_equal(key_of(c), key))
            return c->tombstone ? NULL : c;
    }
    return NULL;
}

static bool in_range(struct slice k, struct slice key, struct slice end)
{
    if (end.size == 0)
        return slice_equal(k, key);
    bool open = end.size == 1 && end.data[0] == 0;
    return slice_compare(k, key) >= 0 && (open || slice_compare(k, end) < 0);
}

static int by_key(const void *a, const void *b)
{
    return slice_compare(key_of(*(struct change *const *)a), key_of(*(struct change *const *)b));
}

/* All that exists at `rev` in the range, in key order. */
static size_t range_at(const struct model *o, struct slice key, struct slice end, int64_t rev,
                       const struct change ***ret)
{
    const struct change **newest = mem_alloc_zero(o->keys_count * sizeof(*newest));
    size_t count = 0;
    for (size_t i = 0; i < o->count && o->change[i].main <= rev; i++)
        newest[o->change[i].key_index] = &o->change[i];
    for (uint32_t i = 0; i < o->keys_count; i++)
        if (newest[i] != NULL && !newest[i]->tombstone && in_range(key_of(newest[i]), key, end))
            newest[count++] = newest[i];
    qsort(newest, count, sizeof(*newest), by_key);
    *ret = newest;
    return count;
}

static void check_version(const struct model *o, const struct mvcc_version *v,
                          const struct change *c)
{
    if (c == NULL) {
        ck_assert_msg(v == NULL, "seed %llu", (unsigned long long)o->seed);
        return;
    }
    ck_assert_msg(v != NULL, "seed %llu", (unsigned long long)o->seed);
    struct mvcc_kv kv;
    mvcc_version_decode(v, &kv);
    ck_assert(slice_equal(kv.key, key_of(c)));
    ck_assert(slice_equal(mvcc_version_key(v), key_of(c)));
    ck_assert_int_eq(kv.mod_revision, c->main);
    ck_assert_int_eq(mvcc_version_mod_revision(v), c->main);
    ck_assert_uint_eq(mvcc_version_sub(v), c->sub);
    ck_assert_int_eq(mvcc_version_is_tombstone(v), c->tombstone);
    if (c->tombstone)
        return;
    ck_assert_int_eq(kv.create_revision, c->create_revision);
    ck_assert_int_eq(kv.version, c->version);
    ck_assert_int_eq(kv.lease, c->lease);
    ck_assert(slice_equal(kv.value, slice_of(&c->value, sizeof(c->value))));
    ck_assert_int_eq(mvcc_version_is_created(v), c->version == 1);
}

/* --- changes --- */

static struct change *add_change(struct model *o, uint32_t key, int64_t rev, uint32_t sub)
{
    if (o->count == o->capacity) {
        o->capacity = o->capacity == 0 ? 1024 : o->capacity * 2;
        o->change = mem_realloc(o->change, o->capacity * sizeof(*o->change));
    }
    struct change *c = &o->change[o->count++];
    *c = (struct change){.key_index = key, .main = rev, .sub = sub};
    key_name(o, key, c->key);
    return c;
}

/* What is to be put next is said beforehand; sometimes it turns out otherwise. */
static void do_warm(struct model *o)
{
    char name[MVCC_WARM_MAX][KEY_BYTES_MAX];
    struct slice keys[MVCC_WARM_MAX];
    o->warm_count = (uint32_t)below(o, MVCC_WARM_MAX + 1);
    o->warm_next = 0;
    for (uint32_t i = 0; i < o->warm_count; i++) {
        o->warm[i] = (uint32_t)below(o, o->keys_count);
        key_name(o, o->warm[i], name[i]);
        keys[i] = slice_of_string(name[i]);
    }
    mvcc_txn_warm(o->m, keys, o->warm_count);
}

static uint32_t pick_key(struct model *o)
{
    if (o->warm_next < o->warm_count && below(o, 8) > 0)
        return o->warm[o->warm_next++];
    return (uint32_t)below(o, o->keys_count);
}

static void do_put(struct model *o, int64_t rev, uint32_t *sub)
{
    uint32_t key = pick_key(o);
    char name[KEY_BYTES_MAX];
    key_name(o, key, name);
    const struct change *was = newest_at(o, slice_of_string(name), rev);
    int64_t create = was == NULL ? rev : was->create_revision;
    int64_t version = was == NULL ? 1 : was->version + 1;
    const struct mvcc_version *prev;
    uint64_t value = rng_next(&o->rng);
    int64_t lease = below(o, 3) == 0 ? (int64_t)below(o, 1ull << 62) : 0;
    const struct mvcc_version *v =
        mvcc_txn_put(o->m, slice_of_string(name), slice_of(&value, sizeof(value)), lease, &prev);
    check_version(o, prev, was);
    struct change *c = add_change(o, key, rev, (*sub)++);
    c->create_revision = create;
    c->version = version;
    c->value = value;
    c->lease = lease;
    check_version(o, v, c);
    check_version(o, mvcc_txn_get(o->m, slice_of_string(name), 0), c);
}

struct deletion {
    struct model *o;
    const struct change **expected;
    int64_t rev;
    uint32_t *sub;
    size_t at;
};

static void on_deleted(void *ctx, const struct mvcc_version *deleted)
{
    struct deletion *d = ctx;
    check_version(d->o, deleted, d->expected[d->at++]);
}

static void pick_range(struct model *o, char *key, char *end, struct slice *ret_key,
                       struct slice *ret_end)
{
    key_name(o, (uint32_t)below(o, o->keys_count), key);
    key_name(o, (uint32_t)below(o, o->keys_count), end);
    *ret_key = slice_of_string(key);
    *ret_end = slice_of_string(end);
    switch (below(o, 8)) {
    case 0:
        *ret_end = SLICE_EMPTY;
        break;
    case 1:
        *ret_end = slice_of("", 1);
        break;
    case 2:
        *ret_key = slice_of("", below(o, 2));
        *ret_end = slice_of("", 1);
        break;
    case 3:
        ret_key->size = below(o, ret_key->size) + 1;
        break;
    default:
        if (slice_compare(*ret_key, *ret_end) > 0) {
            struct slice s = *ret_key;
            *ret_key = *ret_end;
            *ret_end = s;
        }
    }
}

static void do_delete(struct model *o, int64_t rev, uint32_t *sub)
{
    char a[KEY_BYTES_MAX], b[KEY_BYTES_MAX];
    struct slice key, end;
    pick_range(o, a, b, &key, &end);
    if (below(o, 4) != 0)
        end = SLICE_EMPTY; /* mostly one key, or nothing would be left */
    const struct change **expected;
    size_t count = range_at(o, key, end, rev, &expected);
    struct deletion d = {.o = o, .expected = expected, .rev = rev, .sub = sub};
    int64_t deleted = mvcc_txn_delete_range(o->m, key, end, on_deleted, &d);
    ck_assert_int_eq(deleted, (int64_t)count);
    uint32_t *gone = mem_alloc((count + 1) * sizeof(*gone));
    for (size_t i = 0; i < count; i++)
        gone[i] = expected[i]->key_index;
    for (size_t i = 0; i < count; i++)
        add_change(o, gone[i], rev, (*sub)++)->tombstone = true;
    mem_free(gone);
    mem_free(expected);
}

static void do_txn(struct model *o)
{
    if (below(o, 4) == 0)
        do_warm(o);
    int64_t rev = mvcc_txn_begin(o->m);
    ck_assert_int_eq(rev, o->revision + 1);
    uint32_t sub = 0;
    uint64_t ops = below(o, 6) == 0 ? below(o, 40) : 1 + below(o, 3);
    while (ops-- > 0) {
        if (below(o, 10) < 8)
            do_put(o, rev, &sub);
        else
            do_delete(o, rev, &sub);
        ck_assert_int_eq(mvcc_txn_revision(o->m), o->revision + (sub > 0));
    }
    if (sub > 0)
        o->revision = rev;
    ck_assert_int_eq(mvcc_txn_end(o->m), o->revision);
}

/* --- questions --- */

static int64_t readable_rev(struct model *o)
{
    int64_t newest = mvcc_revision(o->m), oldest = mvcc_compacted(o->m);
    if (o->pinned && below(o, 4) == 0)
        return o->pin_rev;
    if (oldest < 1)
        oldest = 1;
    return below(o, 2) == 0 ? newest : oldest + (int64_t)below(o, (uint64_t)(newest - oldest + 1));
}

static void check_get(struct model *o)
{
    char name[KEY_BYTES_MAX];
    key_name(o, (uint32_t)below(o, o->keys_count), name);
    int64_t rev = readable_rev(o);
    struct slice key = slice_of_string(name);
    check_version(o, mvcc_get(o->m, key, rev), newest_at(o, key, rev));
}

static void check_range(struct model *o)
{
    char a[KEY_BYTES_MAX], b[KEY_BYTES_MAX];
    struct slice key, end;
    pick_range(o, a, b, &key, &end);
    int64_t rev = readable_rev(o);
    const struct change **expected;
    size_t count = range_at(o, key, end, rev, &expected);
    struct mvcc_iter it;
    mvcc_iter_init(&it, o->m, key, end, rev);
    uint64_t slice = 1 + below(o, 100);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && i % slice == 0) /* go on after the last key, as in a later section */
            mvcc_iter_init_after(&it, o->m, key_of(expected[i - 1]), end, rev);
        check_version(o, mvcc_iter_next(&it), expected[i]);
    }
    ck_assert_ptr_null(mvcc_iter_next(&it));
    ck_assert_int_eq(mvcc_count(o->m, key, end, rev), (int64_t)count);
    mem_free(expected);
}

static void check_history(struct model *o)
{
    int64_t rev = readable_rev(o), rev_max = readable_rev(o);
    struct mvcc_history_cursor cursor;
    ck_assert_int_eq(mvcc_history_seek(o->m, &cursor, rev), 0);
    int64_t published = mvcc_revision(o->m);
    for (size_t i = 0; i < o->count; i++) {
        const struct change *c = &o->change[i];
        if (c->main >= rev && c->main <= rev_max && c->main <= published)
            check_version(o, mvcc_history_next(&cursor, rev_max), c);
    }
    ck_assert_ptr_null(mvcc_history_next(&cursor, rev_max));
}

/* --- compaction --- */

static void on_drop(void *ctx, const struct mvcc_version *v)
{
    struct model *o = ctx;
    for (size_t i = 0; i < o->count; i++) {
        struct change *c = &o->change[i];
        if (c->main != mvcc_version_mod_revision(v) || c->sub != mvcc_version_sub(v))
            continue;
        ck_assert(!c->dropped);
        c->dropped = true;
        return;
    }
    ck_abort_msg("dropped what never was");
}

static struct mvcc *new_store(struct model *o)
{
    struct mvcc_options options = {.on_drop = on_drop, .ctx = o, .move_all = o->move_all};
    return mvcc_new(&options);
}

static bool is_superseded(const struct model *o, size_t i)
{
    const struct change *c = &o->change[i];
    if (c->main >= o->compacted)
        return false;
    for (size_t j = i + 1; j < o->count && o->change[j].main <= o->compacted; j++)
        if (o->change[j].key_index == c->key_index)
            return true;
    return false;
}

/* After a finished scrub: exactly what etcd's rules say is gone. A tombstone below the compaction
 * may stay as long as a newer version of its key lies above it. */
static void check_scrubbed(struct model *o)
{
    for (size_t i = 0; i < o->count; i++) {
        const struct change *c = &o->change[i];
        if (c->main >= o->compacted) {
            ck_assert(!c->dropped);
            continue;
        }
        bool superseded = is_superseded(o, i);
        if (!c->tombstone || superseded) {
            ck_assert_msg(c->dropped == superseded, "seed %llu: change %lld.%u of %lld",
                          (unsigned long long)o->seed, (long long)c->main, c->sub,
                          (long long)o->compacted);
            continue;
        }
        bool came_back = false;
        for (size_t j = i + 1; j < o->count; j++)
            came_back |= o->change[j].key_index == c->key_index;
        ck_assert(c->dropped || came_back);
    }
}

static void do_compact(struct model *o)
{
    mvcc_publish(o->m);
    int64_t rev = 1 + (int64_t)below(o, (uint64_t)o->revision + 2);
    if (o->move_all && below(o, 2) == 0) /* most of what there is can be moved */
        rev = o->revision - (int64_t)below(o, 20);
    int rv = mvcc_compact(o->m, rev);
    if (rev <= o->compacted) {
        ck_assert_int_eq(rv, TV_COMPACTED);
    } else if (rev > o->revision) {
        ck_assert_int_eq(rv, TV_FUTURE_REV);
    } else {
        ck_assert_int_eq(rv, 0);
        o->compacted = rev;
    }
    mvcc_publish(o->m);
}

static void do_scrub(struct model *o)
{
    uint64_t slices = 1 + (o->move_all ? below(o, 20) : 0);
    while (slices-- > 0)
        (void)mvcc_scrub(o->m, 1 + (uint32_t)below(o, 200));
    if (mvcc_scrub_is_done(o->m) && o->compacted > 0)
        check_scrubbed(o);
}

/* Versions of the pinned revision, of the kind that is read on and on. */
static void hold_some(struct model *o)
{
    struct mvcc_iter it;
    mvcc_iter_init(&it, o->m, SLICE_EMPTY, slice_of("", 1), o->pin_rev);
    uint64_t skip = below(o, 20);
    const struct mvcc_version *v;
    while ((v = mvcc_iter_next(&it)) != NULL && o->held_count < HELD_MAX) {
        if (skip-- > 0)
            continue;
        skip = below(o, 10);
        o->held[o->held_count] = v;
        o->held_hash[o->held_count++] = mvcc_version_hash(v);
    }
}

static void unpin(struct model *o)
{
    if (!o->pinned)
        return;
    for (size_t i = 0; i < o->held_count; i++)
        ck_assert_uint_eq(mvcc_version_hash(o->held[i]), o->held_hash[i]);
    o->held_count = 0;
    mvcc_pin_release(o->m, &o->pin);
    o->pinned = false;
}

static void do_pack(struct model *o)
{
    for (uint64_t i = below(o, 4); i > 0; i--)
        (void)mvcc_pack(o->m, 1 + (uint32_t)below(o, 100));
    epoch_collect(mvcc_epoch(o->m));
}

static void do_pin(struct model *o)
{
    if (o->pinned) {
        if (below(o, 2) == 0) {
            unpin(o);
            return;
        }
        epoch_enter(mvcc_epoch(o->m), o->reader);
        hold_some(o);
        epoch_leave(o->reader);
        return;
    }
    epoch_enter(mvcc_epoch(o->m), o->reader);
    o->pin_rev = readable_rev(o);
    ck_assert_int_eq(mvcc_check_revision(o->m, o->pin_rev, &o->pin_rev), 0);
    hold_some(o);
    ck_assert_int_eq(mvcc_pin_take(o->m, &o->pin, o->pin_rev), 0);
    epoch_leave(o->reader);
    o->pinned = true;
}

/* --- a store loaded from the other one's versions is the same store --- */

static uint8_t *put_number(uint8_t *p, uint8_t tag, uint64_t x)
{
    *p++ = tag;
    for (; x >= 0x80; x >>= 7)
        *p++ = (uint8_t)(x | 0x80);
    *p++ = (uint8_t)x;
    return p;
}

/* What a disk would hold of the change; fields need not come in order. */
static size_t encode(const struct change *c, uint8_t *kv)
{
    struct slice key = key_of(c);
    uint8_t *p = kv;
    if (!c->tombstone) {
        p = put_number(p, 0x2a, sizeof(c->value));
        memcpy(p, &c->value, sizeof(c->value));
        p += sizeof(c->value);
        p = put_number(p, 0x10, (uint64_t)c->create_revision);
        p = put_number(p, 0x30, (uint64_t)c->lease);
        p = put_number(p, 0x18, (uint64_t)c->main);
        p = put_number(p, 0x20, (uint64_t)c->version);
    }
    p = put_number(p, 0x0a, key.size);
    memcpy(p, key.data, key.size);
    return (size_t)(p + key.size - kv);
}

static void check_reload(struct model *o)
{
    mvcc_publish(o->m);
    struct mvcc *to = new_store(o);
    mvcc_load_begin(to);
    for (size_t i = 0; i < o->count; i++) {
        const struct change *c = &o->change[i];
        if (c->dropped)
            continue;
        uint8_t kv[128];
        struct mvcc_version *v;
        ck_assert_int_eq(
            mvcc_version_new(c->main, c->sub, c->tombstone, slice_of(kv, encode(c, kv)), &v), 0);
        ck_assert_int_eq(mvcc_load_add(to, v), 0);
    }
    mvcc_load_end(to, o->revision, o->compacted);
    struct mvcc_hash before, after;
    ck_assert_int_eq(mvcc_hash(o->m, 0, &before), 0);
    ck_assert_int_eq(mvcc_hash(to, 0, &after), 0);
    ck_assert_uint_eq(before.hash, after.hash);
    if (o->compacted > 0)
        check_scrubbed(o);
    unpin(o);
    epoch_unregister(o->reader);
    mvcc_free(o->m);
    o->m = to;
    o->reader = epoch_register(mvcc_epoch(to));
}

static void step(struct model *o)
{
    uint64_t what = below(o, 1000);
    if (what < 500)
        do_txn(o);
    else if (what < 650)
        mvcc_publish(o->m);
    else if (what < 750)
        check_get(o);
    else if (what < 850)
        check_range(o);
    else if (what < 880)
        check_history(o);
    else if (what < (o->move_all ? 910 : 885)) /* each compaction is a reason to move */
        do_compact(o);
    else if (what < 940)
        do_scrub(o);
    else if (what < 980)
        do_pack(o);
    else if (what < 998)
        do_pin(o);
    else
        check_reload(o);
    if (below(o, 100) == 0)
        mvcc_check(o->m);
}

static void run_seed(uint64_t seed)
{
    struct model o = {.seed = seed, .revision = 1, .compacted = -1};
    rng_init(&o.rng, seed);
    o.keys_count = 1u + (uint32_t)below(&o, below(&o, 3) == 0 ? 20 : KEYS_MAX);
    o.style = (int)below(&o, 3);
    o.move_all = below(&o, 2) == 0;
    o.m = new_store(&o);
    o.reader = epoch_register(mvcc_epoch(o.m));
    for (int i = 0; i < STEPS; i++)
        step(&o);
    unpin(&o);
    do_compact(&o);
    while (!mvcc_scrub_is_done(o.m))
        do_scrub(&o);
    for (int i = 0; i < 100; i++)
        do_pack(&o);
    mvcc_check(o.m);
    check_range(&o);
    check_reload(&o);
    check_range(&o);
    epoch_unregister(o.reader);
    mvcc_free(o.m);
    mem_free(o.change);
}

START_TEST(test_model)
{
    run_seed(first_seed + (uint64_t)_i);
}
END_TEST

/* Enough keys for a tall tree, made and removed in random order, and then all of them. */
START_TEST(test_tall_tree)
{
    enum { KEYS = 60000 };
    struct rng rng;
    rng_init(&rng, first_seed);
    struct mvcc_options options = {.move_all = true};
    struct mvcc *m = mvcc_new(&options);
    char name[KEY_BYTES_MAX];
    for (int round = 0; round < 8; round++) {
        for (uint32_t i = 0; i < KEYS; i++) {
            uint32_t k = round == 0 ? i : (uint32_t)rng_below(&rng, KEYS * 4);
            (void)snprintf(name, sizeof(name), "/k/%c/%07u", 'a' + (int)(k % 5), k * 7919u);
            mvcc_txn_begin(m);
            if (round % 2 == 0)
                mvcc_txn_put(m, slice_of_string(name), slice_of_string("v"), 0, NULL);
            else
                mvcc_txn_delete_range(m, slice_of_string(name), SLICE_EMPTY, NULL, NULL);
            mvcc_txn_end(m);
            if (rng_below(&rng, 50) == 0)
                mvcc_publish(m);
        }
        mvcc_publish(m);
        mvcc_check(m);
        (void)mvcc_compact(m, mvcc_revision(m));
        while (!mvcc_scrub_is_done(m))
            (void)mvcc_scrub(m, 512);
        mvcc_check(m);
        for (int i = 0; i < 3000; i++) {
            (void)mvcc_pack(m, 512);
            epoch_collect(mvcc_epoch(m));
        }
        mvcc_check(m);
    }
    mvcc_txn_begin(m);
    mvcc_txn_delete_range(m, SLICE_EMPTY, slice_of("", 1), NULL, NULL);
    mvcc_txn_put(m, slice_of_string("last"), SLICE_EMPTY, 0, NULL);
    mvcc_txn_end(m);
    mvcc_txn_begin(m);
    mvcc_txn_put(m, slice_of_string("last"), SLICE_EMPTY, 0, NULL);
    ck_assert_int_eq(mvcc_compact(m, mvcc_txn_end(m)), 0);
    while (!mvcc_scrub_is_done(m))
        (void)mvcc_scrub(m, 512);
    mvcc_check(m);
    struct mvcc_stats stats;
    mvcc_stats(m, &stats);
    ck_assert_uint_eq(stats.versions, 1);
    ck_assert_uint_eq(stats.index_bytes, 1024); /* one leaf is left */
    mvcc_free(m);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 1)
        first_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seeds_count = strtoull(argv[2], NULL, 10);
    Suite *s = suite_create("mvcc_model");
    TCase *tc = tcase_create("mvcc_model");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, test_model, 0, (int)seeds_count);
    tcase_add_test(tc, test_tall_tree);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
