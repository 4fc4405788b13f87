/* All keys of both sides, in order, a page at a time. */
#include "copy.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

enum { PAGE_KEYS_MAX = 500, PAGE_KEYS_MIN = 4, PAGE_BYTES_WANTED = 2 << 20 };

struct pager {
    struct copy *x;
    struct trivet_client *client;
    struct trivet_bytes prefix;
    int64_t revision; /* 0: now */
    int64_t page_keys;
    struct trivet_result page;
    uint32_t at;
    bool more;
    bool failed;
    uint8_t *from; /* the next page begins here */
    size_t from_size;
};

static void pager_init(struct pager *p, struct copy *x, bool source, struct trivet_bytes behind,
                       int64_t revision)
{
    *p = (struct pager){.x = x,
                        .client = source ? x->source : x->dest,
                        .prefix = source ? x->prefix : x->dest_prefix,
                        .revision = revision,
                        .page_keys = PAGE_KEYS_MAX,
                        .more = true};
    const struct trivet_bytes begin = behind.data != NULL ? behind : p->prefix;
    p->from_size = begin.size + (behind.data != NULL || begin.size == 0);
    p->from = mem_alloc_zero(p->from_size + 1);
    if (begin.size > 0)
        memcpy(p->from, begin.data, begin.size);
}

static void pager_fini(struct pager *p)
{
    trivet_result_clear(&p->page);
    mem_free(p->from);
}

/* Pages shrink when values are large, and grow again. */
static void adapt(struct pager *p)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < p->page.u.range.kvs_count; i++)
        bytes += p->page.u.range.kvs[i].key.size + p->page.u.range.kvs[i].value.size;
    if (bytes > PAGE_BYTES_WANTED && p->page_keys > PAGE_KEYS_MIN)
        p->page_keys /= 2;
    else if (bytes < PAGE_BYTES_WANTED / 4 && p->page_keys < PAGE_KEYS_MAX)
        p->page_keys *= 2;
}

static bool turn_page(struct pager *p)
{
    uint8_t *end = mem_alloc(p->prefix.size + 2);
    static const uint8_t zero = 0;
    struct trivet_bytes range_end = p->prefix.size == 0
                                        ? trivet_bytes(&zero, 1)
                                        : trivet_bytes(end, trivet_prefix_end(p->prefix, end));
    const struct trivet_request q = {.method = TRIVET_RANGE,
                                     .u.range = {.key = trivet_bytes(p->from, p->from_size),
                                                 .range_end = range_end,
                                                 .limit = p->page_keys,
                                                 .revision = p->revision}};
    trivet_result_clear(&p->page);
    p->failed = !copy_read(p->x, p->client, &q, &p->page);
    mem_free(end);
    p->at = 0;
    if (p->failed)
        return false;
    const struct trivet_range_result *r = &p->page.u.range;
    p->more = r->more && r->kvs_count > 0;
    if (p->revision == 0 && p->client == p->x->source)
        p->revision = p->page.header.revision;
    if (r->kvs_count > 0) {
        struct trivet_bytes last = r->kvs[r->kvs_count - 1].key;
        p->from = mem_realloc(p->from, last.size + 1);
        memcpy(p->from, last.data, last.size);
        p->from[last.size] = 0;
        p->from_size = last.size + 1;
    }
    adapt(p);
    return true;
}

static bool is_state_key(const struct pager *p, const struct trivet_kv *kv)
{
    size_t size = strlen(p->x->state_key);
    return p->client == p->x->dest && kv->key.size == size && size > 0 &&
           memcmp(kv->key.data, p->x->state_key, size) == 0;
}

/* The key that it stands at; NULL: the end, or it failed. Borrowed until the one after the next. */
static const struct trivet_kv *pager_at(struct pager *p)
{
    for (;;) {
        while (!p->failed && p->at >= p->page.u.range.kvs_count) {
            if (!p->more || !turn_page(p))
                return NULL;
        }
        if (p->failed)
            return NULL;
        const struct trivet_kv *kv = &p->page.u.range.kvs[p->at];
        if (!is_state_key(p, kv))
            return kv;
        p->at++;
    }
}

/* By what is behind the prefixes; a missing one comes last. */
static int compare(const struct copy *x, const struct trivet_kv *source,
                   const struct trivet_kv *dest)
{
    if (source == NULL || dest == NULL)
        return source == NULL ? dest != NULL : -1;
    return slice_compare(slice_of((const uint8_t *)source->key.data + x->prefix.size,
                                  source->key.size - x->prefix.size),
                         slice_of((const uint8_t *)dest->key.data + x->dest_prefix.size,
                                  dest->key.size - x->dest_prefix.size));
}

static bool same_value(const struct trivet_kv *a, const struct trivet_kv *b)
{
    return a->value.size == b->value.size &&
           (a->value.size == 0 || memcmp(a->value.data, b->value.data, a->value.size) == 0);
}

/* What the key's lease must be at the destination. */
static int64_t lease_wanted(const struct copy *x, const struct trivet_kv *source)
{
    return x->with_leases ? source->lease : 0;
}

/* How many keys there are to go through. */
static uint64_t count_keys(struct copy *x)
{
    uint8_t *end = mem_alloc(x->prefix.size + 2);
    static const uint8_t zero = 0;
    struct trivet_result r;
    bool all = x->prefix.size == 0;
    const struct trivet_request q = {
        .method = TRIVET_RANGE,
        .u.range = {.key = all ? trivet_bytes(&zero, 1) : x->prefix,
                    .range_end = all ? trivet_bytes(&zero, 1)
                                     : trivet_bytes(end, trivet_prefix_end(x->prefix, end)),
                    .count_only = true}};
    uint64_t count = copy_read(x, x->source, &q, &r) ? (uint64_t)r.u.range.count : 0;
    trivet_result_clear(&r);
    mem_free(end);
    return count;
}

/* --- copying --- */

struct walk {
    struct copy *x;
    struct pager source;
    struct pager dest;
    uint8_t *last; /* the source's key that was gone past last */
    size_t last_size;
    uint64_t seen;
};

static bool flush(struct walk *w)
{
    return copy_flush(w->x, (struct copy_state){.cluster_id = w->x->state.cluster_id,
                                                .phase = COPY_PHASE_WALK,
                                                .revision = w->source.revision,
                                                .key = mem_dup(w->last, w->last_size),
                                                .key_size = w->last_size});
}

static bool make_room(struct walk *w, size_t bytes)
{
    return !copy_batch_is_full(w->x, 1, bytes) || w->last == NULL || flush(w);
}

static void go_past(struct walk *w, struct trivet_bytes key)
{
    w->last = mem_realloc(w->last, key.size + 1);
    memcpy(w->last, key.data, key.size);
    w->last_size = key.size;
    w->source.at++;
    progress_set(&w->x->progress, ++w->seen);
}

static bool step(struct walk *w, const struct trivet_kv *source, const struct trivet_kv *dest)
{
    struct copy *x = w->x;
    int order = compare(x, source, dest);
    if (order > 0) { /* the source does not have it */
        if (!make_room(w, dest->key.size))
            return false;
        struct trivet_request *q = &x->ops[x->ops_count++];
        struct slice key = arena_copy(&x->arena, slice_of(dest->key.data, dest->key.size));
        *q = (struct trivet_request){.method = TRIVET_DELETE};
        q->u.del.key = trivet_bytes(key.data, key.size);
        x->ops_bytes += key.size;
        w->dest.at++;
        return true;
    }
    if (order == 0 && same_value(source, dest) && dest->lease == lease_wanted(x, source)) {
        x->same++;
        if (dest->lease != 0)
            copy_lease_want(x, dest->lease);
    } else {
        if (!make_room(w, source->key.size + source->value.size))
            return false;
        copy_put(x, source);
    }
    w->dest.at += order == 0;
    go_past(w, source->key);
    return true;
}

static bool walk_all(struct walk *w)
{
    struct copy *x = w->x;
    for (;;) {
        const struct trivet_kv *source = pager_at(&w->source);
        if (w->source.failed)
            return false;
        const struct trivet_kv *dest = x->delete_others ? pager_at(&w->dest) : NULL;
        if (w->dest.failed)
            return false;
        if (source == NULL && dest == NULL)
            return true;
        /* Without a key gone past nothing marks the place: deletions at the very front wait for
         * one, but no longer than they fit. */
        if (x->ops_count == COPY_OPS_MAX && w->last == NULL) {
            if (!copy_flush(x, (struct copy_state){.cluster_id = x->state.cluster_id,
                                                   .phase = COPY_PHASE_WALK,
                                                   .revision = w->source.revision}))
                return false;
        }
        if (!step(w, source, dest) || copy_stopped)
            return false;
    }
}

static bool is_compacted(const struct trivet_result *r)
{
    return r->status == TRIVET_COMPACTED ||
           (r->status == TRIVET_REFUSED && strstr(r->error, "compacted") != NULL);
}

static void explain(struct walk *w)
{
    const struct pager *p = w->source.failed ? &w->source : &w->dest;
    if (!p->failed || copy_stopped)
        return;
    if (w->source.failed && is_compacted(&w->source.page)) {
        w->x->state.revision = 0;
        return;
    }
    copy_refused(w->x, p->client, &p->page);
}

bool copy_walk(struct copy *x)
{
    struct walk w = {.x = x};
    struct trivet_bytes behind = {0}, dest_behind = {0};
    if (x->state.key != NULL) {
        behind = trivet_bytes(x->state.key, x->state.key_size);
        dest_behind = copy_map(x, behind);
        w.last = mem_dup(behind.data, behind.size);
        w.last_size = behind.size;
    }
    pager_init(&w.source, x, true, behind, x->state.revision);
    pager_init(&w.dest, x, false, dest_behind, 0);
    arena_clear(&x->arena);
    progress_begin(&x->progress, "copying", PROGRESS_COUNT, count_keys(x));
    bool ok = walk_all(&w);
    ok = ok && copy_flush(x, (struct copy_state){.cluster_id = x->state.cluster_id,
                                                 .phase = COPY_PHASE_FOLLOW,
                                                 .revision = w.source.revision});
    progress_end(&x->progress);
    if (!ok)
        explain(&w);
    pager_fini(&w.source);
    pager_fini(&w.dest);
    mem_free(w.last);
    return ok;
}

/* --- comparing --- */

/* A key whose lease has ended at the source since may have none. */
static bool same_lease(const struct copy *x, const struct trivet_kv *source,
                       const struct trivet_kv *dest)
{
    return !x->with_leases || dest->lease == source->lease ||
           (dest->lease == 0 && !copy_lease_is_kept(x, source->lease));
}

uint64_t copy_verify(struct copy *x, uint64_t *ret_missing, uint64_t *ret_different,
                     uint64_t *ret_others)
{
    struct pager source, dest;
    uint64_t seen = 0;
    *ret_missing = *ret_different = *ret_others = 0;
    pager_init(&source, x, true, (struct trivet_bytes){0}, x->state.revision);
    pager_init(&dest, x, false, (struct trivet_bytes){0}, 0);
    progress_begin(&x->progress, "comparing", PROGRESS_COUNT, count_keys(x));
    for (;;) {
        const struct trivet_kv *s = pager_at(&source), *d = pager_at(&dest);
        if (source.failed || dest.failed)
            copy_refused(x, source.failed ? x->source : x->dest,
                         source.failed ? &source.page : &dest.page);
        if (s == NULL && d == NULL)
            break;
        int order = compare(x, s, d);
        if (order == 0 && (!same_value(s, d) || !same_lease(x, s, d)))
            ++*ret_different;
        else if (order < 0)
            ++*ret_missing;
        else if (order > 0)
            ++*ret_others;
        source.at += order <= 0;
        dest.at += order >= 0;
        progress_set(&x->progress, ++seen);
    }
    progress_end(&x->progress);
    pager_fini(&source);
    pager_fini(&dest);
    return *ret_missing + *ret_different + (x->delete_others ? *ret_others : 0);
}
