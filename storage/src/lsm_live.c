#include "lsm_live.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

enum { SECTION_KEYS = 1000 };

static struct lsm_live_item item_of(int64_t main, uint32_t sub)
{
    return (struct lsm_live_item){{(uint32_t)((uint64_t)main >> 32), (uint32_t)main}, sub};
}

static int item_compare(const void *a, const void *b)
{
    const struct lsm_live_item *x = a, *y = b;
    if (x->main[0] != y->main[0])
        return x->main[0] < y->main[0] ? -1 : 1;
    if (x->main[1] != y->main[1])
        return x->main[1] < y->main[1] ? -1 : 1;
    return (x->sub > y->sub) - (x->sub < y->sub);
}

static void add(struct lsm_live *live, const struct mvcc_version *v)
{
    if (live->count == live->capacity) {
        live->capacity = live->capacity == 0 ? SECTION_KEYS : live->capacity * 3 / 2;
        live->items = mem_realloc(live->items, live->capacity * sizeof(live->items[0]));
    }
    live->items[live->count++] = item_of(mvcc_version_mod_revision(v), mvcc_version_sub(v));
}

/* The keys after `last`, as many as a section may look at; the last of them, or NULL at the end. */
static const struct mvcc_version *gather_section(struct mvcc *m, const struct mvcc_version *last,
                                                 struct lsm_live *live)
{
    struct mvcc_iter it;
    struct slice all = SLICE_LITERAL("\0");
    if (last == NULL)
        mvcc_iter_init(&it, m, all, all, live->rev);
    else
        mvcc_iter_init_after(&it, m, mvcc_version_key(last), all, live->rev);
    for (int i = 0; i < SECTION_KEYS; i++) {
        last = mvcc_iter_next(&it);
        if (last == NULL)
            break;
        if (mvcc_version_mod_revision(last) < live->rev)
            add(live, last);
    }
    return last;
}

static int gather(struct mvcc *m, struct epoch_reader *reader, uint64_t generation,
                  bool (*go_on)(void *ctx), void *ctx, struct lsm_live *live)
{
    const struct mvcc_version *last = NULL;
    do {
        if (!go_on(ctx))
            return TV_EBUSY;
        epoch_enter(mvcc_epoch(m), reader);
        bool same = mvcc_generation(m) == generation;
        if (same)
            last = gather_section(m, last, live);
        epoch_leave(reader);
        if (!same)
            return TV_COMPACTED;
    } while (last != NULL);
    return 0;
}

int lsm__live_gather(struct mvcc *m, int64_t rev, bool (*go_on)(void *ctx), void *ctx,
                     struct lsm_live *ret)
{
    struct epoch_reader *reader = epoch_register(mvcc_epoch(m));
    if (reader == NULL)
        return TV_EBUSY;
    struct mvcc_pin pin; /* also keeps the version whose key the next section begins behind */
    int64_t checked;
    epoch_enter(mvcc_epoch(m), reader);
    uint64_t generation = mvcc_generation(m);
    int err = mvcc_check_revision(m, rev, &checked);
    if (err == 0)
        err = mvcc_pin_take(m, &pin, rev);
    epoch_leave(reader);
    *ret = (struct lsm_live){.rev = rev};
    if (err == 0) {
        err = gather(m, reader, generation, go_on, ctx, ret);
        mvcc_pin_release(m, &pin);
    }
    epoch_unregister(reader);
    if (err != 0)
        lsm__live_free(ret);
    else if (ret->count > 0)
        qsort(ret->items, ret->count, sizeof(ret->items[0]), item_compare);
    return err;
}

void lsm__live_free(struct lsm_live *live)
{
    mem_free(live->items);
    *live = (struct lsm_live){0};
}

/* The first item of [lo, count) that is not below `x`. */
static size_t lower_bound(const struct lsm_live *live, size_t lo, const struct lsm_live_item *x)
{
    size_t hi = live->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (item_compare(&live->items[mid], x) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool lsm__live_has(const struct lsm_live *live, size_t *at, int64_t main, uint32_t sub)
{
    struct lsm_live_item x = item_of(main, sub);
    if (*at > 0 && item_compare(&live->items[*at - 1], &x) >= 0)
        *at = 0; /* one before the last question */
    if (*at == 0 || (*at < live->count && item_compare(&live->items[*at], &x) < 0))
        *at = lower_bound(live, *at, &x);
    return *at < live->count && item_compare(&live->items[*at], &x) == 0;
}
