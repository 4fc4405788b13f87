/* The leases of a copy: with the IDs and the granted TTLs of the source, made when the first key
 * that has one is written, and kept alive here (by libtrivet, on its thread) until the source says
 * that its own is gone.
 *
 * 1. A lease is at the destination, and kept, before a key that has it is written.
 * 2. It is let go only when the source does not have it and all that the source did up to then is
 *    copied; a source that does not answer has all of its leases.
 * 3. A lease that was lost at the destination took keys with it which the source still has: they
 *    are written again (mending), by what both sides say that the lease holds. So also when a copy
 *    goes on that was ended for longer than a TTL. */
#include "copy.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    AT_ONCE = 100,
    LEASES_MAX = 100000,
    POLL_MS = 1000,
    LIST_AGAIN_US = 50000,
    NS_PER_MS = 1000000
};

/* Owner: main thread, but for `lost`. */
struct copy_lease {
    int64_t id;
    bool kept;             /* it is at the destination, and libtrivet renews it */
    bool to_mend;          /* it lost keys there */
    atomic_bool lost;      /* libtrivet's thread: it is no longer there, and no longer renewed */
    uint32_t seen_round;   /* of the source's list in which it was last */
    int64_t gone_revision; /* the source did not have it by this revision; 0: it has it */
};

/* --- the table --- */

static struct copy_lease *find(const struct copy *x, int64_t id)
{
    return u64map_get(&x->leases, (uint64_t)id);
}

static void forget(struct copy *x, struct copy_lease *l)
{
    trivet_lease_drop(x->dest, l->id);
    (void)u64map_remove(&x->leases, (uint64_t)l->id);
    mem_free(l);
}

void copy_lease_want(struct copy *x, int64_t id)
{
    struct copy_lease *l = find(x, id);
    if (l == NULL) {
        if (x->leases.count == LEASES_MAX)
            ctl_fail(x->c, CTL_ERROR, "the source has more than %d leases with keys to copy",
                     LEASES_MAX);
        l = mem_alloc_zero(sizeof(*l));
        l->id = id;
        (void)u64map_put(&x->leases, (uint64_t)id, l);
    }
    l->gone_revision = 0; /* a new one of that ID may have come */
    x->lease_wanted = x->lease_wanted || !l->kept;
}

bool copy_lease_is_kept(const struct copy *x, int64_t id)
{
    const struct copy_lease *l = find(x, id);
    return l != NULL && l->kept;
}

/* --- from wanted to kept --- */

static void on_lost(int64_t id, int status, const char *error, void *arg)
{
    struct copy_lease *l = arg;
    (void)id, (void)error;
    if (status != TRIVET_CLOSED)
        atomic_store(&l->lost, true);
}

static void keep(struct copy *x, struct copy_lease *l, int64_t ttl)
{
    int status = trivet_lease_keep(x->dest, l->id, ttl, on_lost, l);
    if (status != TRIVET_OK)
        ctl_fail(x->c, CTL_ERROR, "lease %016" PRIx64 " cannot be kept: %s", l->id,
                 trivet_status_name(status));
    l->kept = true;
}

/* The key of the destination is not of this copy: it is elsewhere, or the source has none of which
 * it is the copy. With --delete all under --dest-prefix is the copy's. */
static bool is_foreign(struct copy *x, struct trivet_bytes key)
{
    struct trivet_result r;
    if (!copy_begins_with(key, x->dest_prefix))
        return true;
    if (x->delete_others)
        return false;
    const struct trivet_request q = {
        .method = TRIVET_RANGE,
        .u.range = {.key = copy_unmap(x, key), .revision = x->state.revision, .count_only = true}};
    bool foreign = copy_read(x, x->source, &q, &r) && r.u.range.count == 0;
    trivet_result_clear(&r);
    return foreign;
}

/* It was there before: this copy's, of another day, or somebody's. */
static void adopt(struct copy *x, struct copy_lease *l, const struct trivet_result *r, int64_t ttl)
{
    const struct trivet_lease_result *found = &r->u.lease;
    for (uint32_t i = 0; i < found->keys_count; i++)
        if (is_foreign(x, found->keys[i]))
            ctl_fail(x->c, CTL_ERROR,
                     "the destination has a lease %016" PRIx64
                     " of its own, with the key %s, which "
                     "is not of this copy: its keys would live and die with the source's lease of "
                     "that ID. Copy without --with-leases, or revoke it first.",
                     l->id, ctl_copy(found->keys[i]));
    if (found->granted_ttl != ttl)
        fprintf(stderr,
                "copy: lease %016" PRIx64 " is at the destination already, with a TTL of %" PRId64
                " s; the source's has %" PRId64 " s\n",
                l->id, found->granted_ttl, ttl);
    keep(x, l, found->granted_ttl);
}

static void fail_unless_ok(struct copy *x, const struct trivet_client *client,
                           const struct trivet_result *r)
{
    if (client == x->source && strstr(r->error, "permission denied") != NULL)
        ctl_fail(x->c, CTL_ERROR,
                 "source: %s; --with-leases asks for all leases and their keys, which "
                 "--source-user must be permitted to read, as root is",
                 ctl_error(r));
    if (r->status != TRIVET_OK)
        copy_refused(x, client, r);
}

/* The same question about each lease, answered by `client`; false: stopped. */
static bool ask_ids(struct copy *x, struct trivet_client *client, const int64_t *ids,
                    uint32_t count, bool keys, struct trivet_result *results)
{
    struct trivet_request q[AT_ONCE] = {{0}};
    for (uint32_t i = 0; i < count; i++)
        q[i] = (struct trivet_request){.method = TRIVET_LEASE_TTL,
                                       .u.lease = {.id = ids[i], .keys = keys}};
    if (!copy_call_all(x, client, q, count, results))
        return false;
    for (uint32_t i = 0; i < count; i++)
        fail_unless_ok(x, client, &results[i]);
    return true;
}

static bool ask_all(struct copy *x, struct trivet_client *client, struct copy_lease *const *leases,
                    uint32_t count, bool keys, struct trivet_result *results)
{
    int64_t ids[AT_ONCE] = {0};
    for (uint32_t i = 0; i < count; i++)
        ids[i] = leases[i]->id;
    return ask_ids(x, client, ids, count, keys, results);
}

static void clear_all(struct trivet_result *results, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        trivet_result_clear(&results[i]);
}

/* An expired one whose end is still under way has a TTL of -1 as well, but was granted. */
static bool is_there(const struct trivet_result *r)
{
    return r->u.lease.granted_ttl > 0;
}

/* One that was there before and is not when it is looked at stays wanted. */
static bool adopt_all(struct copy *x, struct copy_lease *const *leases, const int64_t *ttls,
                      uint32_t count)
{
    struct trivet_result found[AT_ONCE];
    if (count == 0)
        return true;
    if (!ask_all(x, x->dest, leases, count, true, found))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (is_there(&found[i]))
            adopt(x, leases[i], &found[i], ttls[i]);
    clear_all(found, count);
    return true;
}

static bool grant_all(struct copy *x, struct copy_lease **leases, int64_t *ttls, uint32_t count)
{
    struct trivet_request q[AT_ONCE];
    struct trivet_result granted[AT_ONCE];
    uint32_t others = 0;
    for (uint32_t i = 0; i < count; i++)
        q[i] = (struct trivet_request){.method = TRIVET_LEASE_GRANT,
                                       .u.lease = {.id = leases[i]->id, .ttl = ttls[i]}};
    if (!copy_call_all(x, x->dest, q, count, granted))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (granted[i].status == TRIVET_OK) {
            keep(x, leases[i], granted[i].u.lease.ttl);
        } else if (granted[i].status == TRIVET_REFUSED &&
                   strstr(granted[i].error, "lease already exists") != NULL) {
            leases[others] = leases[i];
            ttls[others++] = ttls[i];
        } else {
            fail_unless_ok(x, x->dest, &granted[i]);
        }
    }
    clear_all(granted, count);
    return adopt_all(x, leases, ttls, others);
}

/* Those that the source has not (any more) are forgotten. */
static bool ensure_some(struct copy *x, struct copy_lease **leases, uint32_t count)
{
    struct trivet_result at_source[AT_ONCE];
    int64_t ttls[AT_ONCE];
    uint32_t there = 0;
    if (!ask_all(x, x->source, leases, count, false, at_source))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_there(&at_source[i])) {
            forget(x, leases[i]);
            continue;
        }
        leases[there] = leases[i];
        ttls[there++] = at_source[i].u.lease.granted_ttl;
    }
    clear_all(at_source, count);
    return there == 0 || grant_all(x, leases, ttls, there);
}

static uint32_t collect(const struct copy *x,
                        bool (*wanted)(const struct copy *, const struct copy_lease *),
                        struct copy_lease **ret, uint32_t max)
{
    uint32_t count = 0;
    size_t cursor = 0;
    uint64_t key;
    void *value;
    while (count < max && u64map_next(&x->leases, &cursor, &key, &value))
        if (wanted(x, value))
            ret[count++] = value;
    return count;
}

static bool is_not_kept(const struct copy *x, const struct copy_lease *l)
{
    (void)x;
    return !l->kept;
}

bool copy_lease_ensure(struct copy *x)
{
    struct copy_lease *some[AT_ONCE];
    uint32_t count;
    while (x->lease_wanted && (count = collect(x, is_not_kept, some, AT_ONCE)) > 0)
        if (!ensure_some(x, some, count))
            return false;
    x->lease_wanted = false;
    return true;
}

static void take_as_lost(struct copy *x, struct copy_lease *l)
{
    x->lease_wanted = true;
    l->kept = false;
    l->to_mend = true;
    atomic_store(&l->lost, false);
}

void copy_lease_missing(struct copy *x)
{
    for (uint32_t i = 0; i < x->ops_count; i++) {
        const struct trivet_request *q = &x->ops[i];
        struct copy_lease *l =
            q->method == TRIVET_PUT && q->u.put.lease != 0 ? find(x, q->u.put.lease) : NULL;
        if (l != NULL && l->kept) {
            trivet_lease_drop(x->dest, l->id);
            take_as_lost(x, l);
        }
    }
}

/* --- mending --- */

static int compare_keys(const void *a, const void *b)
{
    const struct trivet_bytes *ka = a, *kb = b;
    return slice_compare(slice_of(ka->data, ka->size), slice_of(kb->data, kb->size));
}

static bool is_compacted(const struct trivet_result *r)
{
    return r->status == TRIVET_COMPACTED ||
           (r->status == TRIVET_REFUSED && strstr(r->error, "compacted") != NULL);
}

static struct copy_state same_state(const struct copy *x)
{
    return (struct copy_state){.cluster_id = x->state.cluster_id,
                               .phase = COPY_PHASE_FOLLOW,
                               .revision = x->state.revision};
}

/* Into the batch, as it was when all was last equal; what it became since comes by the watch.
 * False: stopped, or that is compacted. */
static bool write_again(struct copy *x, struct trivet_bytes key, int64_t lease)
{
    struct trivet_result r;
    const struct trivet_request q = {.method = TRIVET_RANGE,
                                     .u.range = {.key = key, .revision = x->state.revision}};
    if (!copy_read(x, x->source, &q, &r)) {
        if (!copy_stopped && !is_compacted(&r))
            fail_unless_ok(x, x->source, &r);
        trivet_result_clear(&r);
        return false;
    }
    bool ok = true;
    const struct trivet_kv *kv = r.u.range.kvs;
    if (r.u.range.kvs_count == 1 && kv->lease == lease) {
        ok = !copy_batch_is_full(x, 1, kv->key.size + kv->value.size) ||
             copy_flush(x, same_state(x));
        if (ok)
            copy_put(x, kv);
    }
    trivet_result_clear(&r);
    return ok;
}

/* What the source's lease holds and the destination's does not. */
static void mend(struct copy *x, struct copy_lease *l, const struct trivet_lease_result *source,
                 const struct trivet_lease_result *dest)
{
    struct trivet_bytes *has = mem_alloc((dest->keys_count + 1) * sizeof(*has));
    bool ok = true;
    if (dest->keys_count > 0)
        memcpy(has, dest->keys, dest->keys_count * sizeof(*has));
    qsort(has, dest->keys_count, sizeof(*has), compare_keys);
    for (uint32_t i = 0; ok && i < source->keys_count; i++) {
        if (!copy_begins_with(source->keys[i], x->prefix))
            continue;
        struct trivet_bytes key = copy_map(x, source->keys[i]);
        if (bsearch(&key, has, dest->keys_count, sizeof(*has), compare_keys) == NULL)
            ok = write_again(x, source->keys[i], l->id);
    }
    mem_free(has);
    l->to_mend = !ok;
}

static bool mend_kept(struct copy *x, struct copy_lease **leases,
                      const struct trivet_result *at_source, uint32_t count)
{
    struct trivet_result at_dest[AT_ONCE];
    if (!ask_all(x, x->dest, leases, count, true, at_dest))
        return false;
    for (uint32_t i = 0; i < count && !copy_stopped; i++)
        if (leases[i]->kept)
            mend(x, leases[i], &at_source[i].u.lease, &at_dest[i].u.lease);
    clear_all(at_dest, count);
    if (x->ops_count > 0)
        return copy_flush(x, same_state(x));
    arena_clear(&x->arena);
    return !copy_stopped;
}

static bool has_ours(const struct copy *x, const struct trivet_lease_result *l)
{
    for (uint32_t i = 0; i < l->keys_count; i++)
        if (copy_begins_with(l->keys[i], x->prefix))
            return true;
    return false;
}

/* The batch is empty, before and after. */
static bool mend_some(struct copy *x, const int64_t *ids, uint32_t count)
{
    struct copy_lease *leases[AT_ONCE];
    struct trivet_result found[AT_ONCE], wanted[AT_ONCE];
    uint32_t wanted_count = 0;
    if (!ask_ids(x, x->source, ids, count, true, found))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (is_there(&found[i]) && has_ours(x, &found[i].u.lease))
            copy_lease_want(x, ids[i]);
    bool ok = copy_lease_ensure(x);
    for (uint32_t i = 0; ok && i < count; i++) {
        struct copy_lease *l = find(x, ids[i]);
        if (l == NULL || !is_there(&found[i]))
            continue;
        wanted[wanted_count] = found[i];
        leases[wanted_count++] = l;
    }
    ok = ok && (wanted_count == 0 || mend_kept(x, leases, wanted, wanted_count));
    clear_all(found, count);
    return ok;
}

static bool list(struct copy *x, struct trivet_result *ret)
{
    const struct trivet_request q = {.method = TRIVET_LEASE_LIST};
    if (copy_read(x, x->source, &q, ret))
        return true;
    if (!copy_stopped)
        fail_unless_ok(x, x->source, ret);
    trivet_result_clear(ret);
    return false;
}

bool copy_lease_may_ask(struct copy *x)
{
    struct trivet_result all;
    if (!list(x, &all))
        return false;
    trivet_result_clear(&all);
    return true;
}

bool copy_lease_resume(struct copy *x)
{
    struct trivet_result all;
    /* A member that is behind may not have heard yet of leases that keys have which are copied. */
    for (;;) {
        if (!list(x, &all))
            return false;
        if (all.header.revision >= x->state.revision)
            break;
        trivet_result_clear(&all);
        (void)usleep(LIST_AGAIN_US);
    }
    bool ok = true;
    for (uint32_t at = 0; ok && at < all.u.lease.ids_count; at += AT_ONCE) {
        uint32_t rest = all.u.lease.ids_count - at;
        ok = mend_some(x, all.u.lease.ids + at, rest < AT_ONCE ? rest : AT_ONCE);
    }
    trivet_result_clear(&all);
    return ok;
}

static bool is_broken(const struct copy *x, const struct copy_lease *l)
{
    (void)x;
    return l->to_mend || atomic_load(&l->lost);
}

bool copy_lease_is_broken_any(const struct copy *x)
{
    struct copy_lease *one;
    return collect(x, is_broken, &one, 1) > 0;
}

static bool mend_broken(struct copy *x)
{
    struct copy_lease *some[AT_ONCE];
    int64_t ids[AT_ONCE];
    uint32_t count = collect(x, is_broken, some, AT_ONCE);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = some[i]->id;
        if (!atomic_load(&some[i]->lost))
            continue;
        take_as_lost(x, some[i]);
        fprintf(stderr, "copy: the destination has lost lease %016" PRIx64 "; it is made again\n",
                ids[i]);
    }
    return count == 0 || mend_some(x, ids, count);
}

/* --- letting go --- */

static bool is_unseen(const struct copy *x, const struct copy_lease *l)
{
    return l->kept && l->gone_revision == 0 && l->seen_round != x->lease_round;
}

/* What is not in the list is asked for by itself: only the leader's word says that it is gone. */
static bool find_gone(struct copy *x)
{
    struct trivet_result r, answers[AT_ONCE];
    struct copy_lease *some[AT_ONCE];
    struct trivet_header now;
    uint32_t count;
    if (!list(x, &r))
        return false;
    x->lease_round++;
    for (uint32_t i = 0; i < r.u.lease.ids_count; i++) {
        struct copy_lease *l = find(x, r.u.lease.ids[i]);
        if (l != NULL)
            l->seen_round = x->lease_round;
    }
    trivet_result_clear(&r);
    while ((count = collect(x, is_unseen, some, AT_ONCE)) > 0) {
        if (!ask_all(x, x->source, some, count, false, answers))
            return false;
        bool ok = copy_ask(x, x->source, &now);
        for (uint32_t i = 0; ok && i < count; i++) {
            some[i]->seen_round = x->lease_round;
            some[i]->gone_revision = is_there(&answers[i]) ? 0 : now.revision;
        }
        clear_all(answers, count);
        if (!ok)
            return false;
    }
    return true;
}

static bool is_gone(const struct copy *x, const struct copy_lease *l)
{
    return l->gone_revision != 0 && l->gone_revision <= x->state.revision;
}

static bool is_going(const struct copy *x, const struct copy_lease *l)
{
    return l->gone_revision > x->state.revision;
}

/* One that still holds keys is left to end by itself: they are not this copy's. */
static bool revoke_empty(struct copy *x, struct copy_lease *const *leases,
                         const struct trivet_result *at_dest, uint32_t count)
{
    struct trivet_request q[AT_ONCE];
    struct trivet_result r[AT_ONCE];
    uint32_t empty = 0;
    for (uint32_t i = 0; i < count; i++)
        if (is_there(&at_dest[i]) && at_dest[i].u.lease.keys_count == 0)
            q[empty++] = (struct trivet_request){.method = TRIVET_LEASE_REVOKE,
                                                 .u.lease = {.id = leases[i]->id}};
    if (empty > 0 && !copy_call_all(x, x->dest, q, empty, r))
        return false;
    clear_all(r, empty); /* a refused one has ended by itself meanwhile */
    return true;
}

static bool let_go(struct copy *x)
{
    struct copy_lease *some[AT_ONCE];
    struct trivet_result at_dest[AT_ONCE];
    uint32_t count;
    while ((count = collect(x, is_gone, some, AT_ONCE)) > 0) {
        if (!ask_all(x, x->dest, some, count, true, at_dest))
            return false;
        bool ok = revoke_empty(x, some, at_dest, count);
        clear_all(at_dest, count);
        if (!ok)
            return false;
        for (uint32_t i = 0; i < count; i++)
            forget(x, some[i]);
    }
    return true;
}

bool copy_lease_tick(struct copy *x, struct trivet_watch *watch)
{
    struct copy_lease *one;
    uint64_t now_ms = clock_mono_ns() / NS_PER_MS;
    if (now_ms < x->lease_poll_ms)
        return true;
    x->lease_poll_ms = now_ms + POLL_MS;
    if (!mend_broken(x) || (x->leases.count > 0 && !find_gone(x)) || !let_go(x))
        return false;
    /* Where nothing of ours changes, only asking moves the state on. */
    if (collect(x, is_going, &one, 1) > 0 || copy_lease_is_broken_any(x))
        trivet_watch_progress(watch);
    return true;
}
