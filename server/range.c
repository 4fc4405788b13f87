#include "server/range.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

/* --- gathering --- */

static bool has_filter(const struct wire_range_request *q)
{
    return q->min_mod_revision != 0 || q->max_mod_revision != 0 || q->min_create_revision != 0 ||
           q->max_create_revision != 0;
}

static bool filter_takes(const struct wire_range_request *q, const struct mvcc_version *v)
{
    int64_t mod = mvcc_version_mod_revision(v);
    if (q->min_mod_revision != 0 && mod < q->min_mod_revision)
        return false;
    if (q->max_mod_revision != 0 && mod > q->max_mod_revision)
        return false;
    if (q->min_create_revision == 0 && q->max_create_revision == 0)
        return true;
    int64_t create = mvcc_version_create_revision(v);
    if (q->min_create_revision != 0 && create < q->min_create_revision)
        return false;
    return q->max_create_revision == 0 || create <= q->max_create_revision;
}

/* How many keys have to be gathered. */
static uint64_t keys_wanted(const struct range *r)
{
    bool stops_at_limit = !r->sorted || (r->req.sort_order == WIRE_SORT_NONE && !r->filtered);
    if (r->req.count_only)
        return 0;
    if (r->req.limit > 0 && stops_at_limit)
        return (uint64_t)r->req.limit + 1; /* one more says whether there is more */
    return UINT64_MAX;
}

int range_begin(struct range *r, struct mvcc *m, const struct wire_range_request *req, bool in_txn)
{
    *r = (struct range){.mvcc = m, .req = *req, .generation = mvcc_generation(m)};
    int err = in_txn ? mvcc_txn_check_revision(m, req->revision, &r->rev)
                     : mvcc_check_revision(m, req->revision, &r->rev);
    if (err != 0)
        return err;
    /* Not one that was published since: a client watches from the revision after this one. */
    r->header_rev = req->revision <= 0 ? r->rev : in_txn ? mvcc_txn_revision(m) : mvcc_revision(m);
    r->total = in_txn ? mvcc_txn_count(m, req->key, req->range_end, r->rev) : -1;

    r->filtered = has_filter(req);
    /* A target without an order still sorts, ascending, but what the limit cut off before is gone.
     * Keys come in ascending order by themselves. */
    r->sorted = req->sort_target != WIRE_SORT_KEY || req->sort_order == WIRE_SORT_DESCEND;
    r->collect_max = keys_wanted(r);
    if (in_txn)
        mvcc_txn_iter_init(&r->it, m, req->key, req->range_end, r->rev);
    else if (r->collect_max > 0)
        mvcc_iter_init(&r->it, m, req->key, req->range_end, r->rev);
    return 0;
}

static size_t kv_size(const struct range *r, const struct mvcc_version *v);

static void take(struct range *r, const struct mvcc_version *v)
{
    r->kvs_bytes += wire_kv_field_size(kv_size(r, v)); /* while it is in the cache */
    if (r->count == r->capacity) {
        r->capacity = r->capacity == 0 ? 4 : r->capacity * 2;
        r->kvs = mem_realloc(r->kvs, r->capacity * sizeof(*r->kvs));
    }
    r->kvs[r->count++] = v;
}

static int compare_by(int32_t target, const struct mvcc_version *a, const struct mvcc_version *b)
{
    int64_t x, y;
    switch (target) {
    case WIRE_SORT_KEY:
        return slice_compare(mvcc_version_key(a), mvcc_version_key(b));
    case WIRE_SORT_VALUE:
        return slice_compare(mvcc_version_value(a), mvcc_version_value(b));
    case WIRE_SORT_VERSION:
        x = mvcc_version_version(a), y = mvcc_version_version(b);
        break;
    case WIRE_SORT_CREATE:
        x = mvcc_version_create_revision(a), y = mvcc_version_create_revision(b);
        break;
    case WIRE_SORT_MOD:
    default:
        x = mvcc_version_mod_revision(a), y = mvcc_version_mod_revision(b);
        break;
    }
    return (x > y) - (x < y);
}

static int compare_versions(const void *a, const void *b, void *arg)
{
    const struct wire_range_request *q = arg;
    const struct mvcc_version *va = *(const struct mvcc_version *const *)a;
    const struct mvcc_version *vb = *(const struct mvcc_version *const *)b;
    int order = compare_by(q->sort_target, va, vb);
    if (q->sort_order == WIRE_SORT_DESCEND)
        order = -order;
    return order != 0 ? order : slice_compare(mvcc_version_key(va), mvcc_version_key(vb));
}

/* The KeyValue as the client wants it. With keys only it comes without the value and, as etcd's
 * keys come from its index, without the lease; only a sort by value makes etcd read the whole. */
static void kv_parts(const struct range *r, const struct mvcc_version *v, struct slice *ret_before,
                     struct slice *ret_after)
{
    *ret_before = mvcc_version_kv(v);
    *ret_after = SLICE_EMPTY;
    if (!r->req.keys_only)
        return;
    wire_kv_split_value(*ret_before, ret_before, ret_after);
    if (r->req.sort_target != WIRE_SORT_VALUE)
        *ret_after = SLICE_EMPTY;
}

static size_t kv_size(const struct range *r, const struct mvcc_version *v)
{
    struct slice before, after;
    kv_parts(r, v, &before, &after);
    return before.size + after.size;
}

static uint8_t *kv_put(const struct range *r, uint8_t *p, const struct mvcc_version *v)
{
    struct slice before, after;
    kv_parts(r, v, &before, &after);
    return wire_raw_put(wire_raw_put(p, before), after);
}

static void finish(struct range *r)
{
    if (r->sorted && r->count > 1)
        qsort_r(r->kvs, r->count, sizeof(*r->kvs), compare_versions, &r->req);
    r->more = r->req.limit > 0 && r->count > (uint64_t)r->req.limit;
    while (r->more && r->count > (uint64_t)r->req.limit)
        r->kvs_bytes -= wire_kv_field_size(kv_size(r, r->kvs[--r->count]));
    r->body_size = r->kvs_bytes + wire_range_tail_size(r->more, r->total);
}

bool range_collect(struct range *r, uint64_t keys_max)
{
    /* A walk that takes everything counts as it goes; any other asks the index, in its first
     * section. */
    bool whole = r->collect_max == UINT64_MAX && !r->filtered;
    if (r->total < 0 && !whole)
        r->total = mvcc_count(r->mvcc, r->req.key, r->req.range_end, r->rev);
    while (r->count < r->collect_max) {
        if (keys_max-- == 0)
            return true;
        const struct mvcc_version *v = mvcc_iter_next(&r->it);
        if (v == NULL)
            break;
        r->last = v;
        if (!r->filtered || filter_takes(&r->req, v))
            take(r, v);
    }
    if (r->total < 0)
        r->total = (int64_t)r->count;
    finish(r);
    return false;
}

int range_suspend(struct range *r)
{
    if (r->pinned)
        return 0;
    int err = mvcc_pin_take(r->mvcc, &r->pin, r->rev);
    r->pinned = err == 0;
    return err;
}

static void seek(struct range *r)
{
    if (r->last == NULL)
        mvcc_iter_init(&r->it, r->mvcc, r->req.key, r->req.range_end, r->rev);
    else
        mvcc_iter_init_after(&r->it, r->mvcc, mvcc_version_key(r->last), r->req.range_end, r->rev);
}

int range_resume(struct range *r)
{
    ASSERT(r->pinned);
    uint64_t generation = mvcc_generation(r->mvcc);
    if (generation != r->generation) {
        PROBE(range_store_replaced);
        int err = mvcc_check_revision(r->mvcc, r->rev, &r->rev);
        if (err != 0)
            return err;
        r->generation = generation;
    }
    seek(r);
    return 0;
}

/* --- on to the next message --- */

void range_set_tail(struct range *r, bool more, int64_t total)
{
    r->body_size -= wire_range_tail_size(r->more, r->total);
    r->more = more;
    r->total = total;
    r->body_size += wire_range_tail_size(more, total);
}

int64_t range_count_rest(const struct range *r)
{
    ASSERT(r->count > 0);
    struct slice last = mvcc_version_key(r->kvs[r->count - 1]);
    uint8_t *first = mem_alloc(last.size + 1);
    memcpy(first, last.data, last.size);
    first[last.size] = 0;
    struct slice key = slice_of(first, last.size + 1);
    int64_t rest = mvcc_count(r->mvcc, key, r->req.range_end, r->rev);
    mem_free(first);
    return rest;
}

void range_next(struct range *r, int64_t limit)
{
    ASSERT(r->count > 0);
    r->last = r->kvs[r->count - 1]; /* of the answer: the walk may have seen one more */
    r->req.limit = limit;
    r->collect_max = keys_wanted(r);
    r->count = 0;
    r->kvs_bytes = 0;
    r->total = 0;
    r->more = false;
    r->next_kv = 0;
    r->piece_done_bytes = 0;
    seek(r);
}

void range_fini(struct range *r)
{
    if (r->pinned)
        mvcc_pin_release(r->mvcc, &r->pin);
    r->pinned = false;
    mem_free(r->kvs);
    r->kvs = NULL;
}

/* --- writing --- */

static uint8_t *field_put(const struct range *r, uint8_t *p, const struct mvcc_version *v)
{
    return kv_put(r, wire_kv_field_put_head(p, kv_size(r, v)), v);
}

/* Have the CPU fetch what is copied soon: the beginning of a version, then the rest of one whose
 * beginning has come. */
static void fetch_ahead(const struct range *r, uint64_t i)
{
    enum { HEAD_AHEAD = 8, REST_AHEAD = 4, CACHE_LINE_BYTES = 64, REST_BYTES_MAX = 512 };
    if (i + HEAD_AHEAD < r->count)
        __builtin_prefetch(r->kvs[i + HEAD_AHEAD]);
    if (i + REST_AHEAD >= r->count)
        return;
    struct slice kv = mvcc_version_kv(r->kvs[i + REST_AHEAD]);
    size_t size = kv.size < REST_BYTES_MAX ? kv.size : REST_BYTES_MAX;
    for (size_t at = CACHE_LINE_BYTES; at < size + CACHE_LINE_BYTES; at += CACHE_LINE_BYTES)
        __builtin_prefetch(kv.data + at);
}

uint8_t *range_write(struct range *r, uint8_t *p)
{
    for (uint64_t i = 0; i < r->count; i++) {
        fetch_ahead(r, i);
        p = field_put(r, p, r->kvs[i]);
    }
    return wire_range_tail_put(p, r->more, r->total);
}

/* Copy what of a piece is not copied yet. True when the piece is done. */
static bool copy_rest(struct range *r, struct slice piece, uint8_t **p, const uint8_t *end)
{
    size_t left = piece.size - r->piece_done_bytes;
    size_t room = (size_t)(end - *p);
    size_t size = left < room ? left : room;
    if (size > 0)
        memcpy(*p, piece.data + r->piece_done_bytes, size);
    *p += size;
    r->piece_done_bytes += size;
    if (size < left)
        return false;
    r->piece_done_bytes = 0;
    return true;
}

/* One kv that does not fit as a whole: its field's head, then its bytes where they are. */
static bool copy_kv_rest(struct range *r, const struct mvcc_version *v, uint8_t **p,
                         const uint8_t *end)
{
    size_t size = kv_size(r, v);
    size_t head_size = wire_kv_field_size(size) - size;
    uint8_t head[16];
    if (r->piece_done_bytes < head_size) {
        (void)wire_kv_field_put_head(head, size);
        if (!copy_rest(r, slice_of(head, head_size), p, end))
            return false;
        r->piece_done_bytes = head_size;
    }
    uint8_t *keys_only = NULL;
    struct slice kv = mvcc_version_kv(v);
    if (r->req.keys_only) {
        keys_only = mem_alloc(size);
        kv_put(r, keys_only, v);
        kv = slice_of(keys_only, size);
    }
    r->piece_done_bytes -= head_size;
    bool done = copy_rest(r, kv, p, end);
    if (!done)
        r->piece_done_bytes += head_size;
    mem_free(keys_only);
    return done;
}

size_t range_read(struct range *r, uint8_t *dst, size_t size_max)
{
    uint8_t *p = dst;
    const uint8_t *end = dst + size_max;
    if (r->prefix.size > 0) {
        if (!copy_rest(r, r->prefix, &p, end))
            return (size_t)(p - dst);
        r->prefix = SLICE_EMPTY;
    }
    while (r->next_kv < r->count) {
        const struct mvcc_version *v = r->kvs[r->next_kv];
        fetch_ahead(r, r->next_kv);
        if (r->piece_done_bytes == 0 && wire_kv_field_size(kv_size(r, v)) <= (size_t)(end - p))
            p = field_put(r, p, v);
        else if (!copy_kv_rest(r, v, &p, end))
            return (size_t)(p - dst);
        r->next_kv++;
    }
    uint8_t tail[32];
    size_t size = (size_t)(wire_range_tail_put(tail, r->more, r->total) - tail);
    if (r->next_kv == r->count) {
        if (!copy_rest(r, slice_of(tail, size), &p, end))
            return (size_t)(p - dst);
        r->next_kv = UINT64_MAX; /* the end */
    }
    return (size_t)(p - dst);
}
