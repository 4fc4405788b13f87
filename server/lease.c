/* A lease knows its keys through a hash set of copies; the leader's leases stand in a binary heap,
 * by the time at which something is due for them: their end or, once they were given out as ended,
 * the time to give them out again. Renewing a lease moves it down the heap. Checkpoints wait in a
 * list, since all are made after the same time.
 *
 * No renewal is answered while the log says, or has under way, that less than the TTL is left:
 * else the next leader might end the lease before the time that the client was told. */
#include "server/lease.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/u64map.h"

#include <stdlib.h>

enum {
    KEY_SLOTS_MIN = 4,
    /* What etcd revokes in a second, and how much of it leases that end together may take. */
    REVOKES_PER_SECOND = 1000,
    SPREAD_PER_SECOND = 3 * REVOKES_PER_SECOND / 4,
};

#define NEVER_MS UINT64_MAX

struct lease_key {
    uint32_t hash;
    uint32_t size;
    uint8_t bytes[];
};

struct lease {
    int64_t id;
    int64_t ttl_s;
    int64_t remaining_s;  /* as the log has it; 0: nothing */
    uint64_t deadline_ms; /* NEVER_MS unless promoted */
    struct list plan;     /* among the lessor's, when a checkpoint is to be made */
    uint64_t plan_ms;
    bool noting;      /* one is on its way */
    bool clearing;    /* one that takes it back */
    uint32_t heap_at; /* valid when promoted */
    uint32_t keys_count;
    uint32_t slots_count;    /* a power of two, or 0; at most 3/4 are taken */
    struct lease_key **keys; /* open addressing, linear probing; NULL = free */
};

struct due {
    uint64_t when_ms;
    struct lease *lease;
};

struct lessor {
    struct u64map by_id;
    int64_t ttl_min_s;
    uint64_t hash_seed; /* clients choose the keys: they must not know which ones collide */
    bool promoted;
    struct due *heap; /* smallest first; all leases when promoted, else empty */
    uint32_t heap_count;
    uint32_t heap_capacity;
    uint64_t checkpoint_ms; /* apart; 0 = none are made */
    struct list plans;      /* by plan_ms */
};

/* --- the keys of a lease --- */

/* Multiply and fold, eight bytes a step. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t hash_key(const struct lessor *l, struct slice key)
{
    const uint64_t odd = 0x9e3779b97f4a7c15;
    uint64_t h = l->hash_seed ^ mix(key.size + odd, odd);
    size_t at = 0;
    for (; at + 8 <= key.size; at += 8) {
        uint64_t word;
        memcpy(&word, key.data + at, 8);
        h = mix(h ^ word, odd ^ l->hash_seed);
    }
    uint64_t tail = 0;
    if (at < key.size)
        memcpy(&tail, key.data + at, key.size - at);
    return (uint32_t)mix(h ^ tail, odd ^ l->hash_seed);
}

static struct slice key_slice(const struct lease_key *k)
{
    return slice_of(k->bytes, k->size);
}

/* The slot that holds the key, or the free one where it would go. */
static uint32_t find_slot(const struct lease *lease, uint32_t hash, struct slice key)
{
    uint32_t mask = lease->slots_count - 1;
    uint32_t at = hash & mask;
    for (; lease->keys[at] != NULL; at = (at + 1) & mask) {
        const struct lease_key *k = lease->keys[at];
        if (k->hash == hash && slice_equal(key_slice(k), key))
            break;
    }
    return at;
}

static void resize_keys(struct lease *lease, uint32_t slots_count)
{
    struct lease_key **old = lease->keys;
    uint32_t old_count = lease->slots_count;
    lease->slots_count = slots_count;
    lease->keys = slots_count == 0 ? NULL : mem_alloc_zero(slots_count * sizeof(*lease->keys));
    for (uint32_t i = 0; i < old_count; i++) {
        if (old[i] == NULL)
            continue;
        uint32_t at = old[i]->hash & (slots_count - 1);
        while (lease->keys[at] != NULL)
            at = (at + 1) & (slots_count - 1);
        lease->keys[at] = old[i];
    }
    mem_free(old);
}

/* Free the slot and close the gap, so that no search stops short. */
static void clear_slot(struct lease *lease, uint32_t at)
{
    uint32_t mask = lease->slots_count - 1;
    uint32_t gap = at;
    for (uint32_t next = (gap + 1) & mask; lease->keys[next] != NULL; next = (next + 1) & mask) {
        uint32_t home = lease->keys[next]->hash & mask;
        /* It may move to the gap unless its home lies behind that. */
        if (((next - home) & mask) >= ((next - gap) & mask)) {
            lease->keys[gap] = lease->keys[next];
            gap = next;
        }
    }
    lease->keys[gap] = NULL;
}

static struct lease *find(const struct lessor *l, int64_t id)
{
    return id == 0 ? NULL : u64map_get(&l->by_id, (uint64_t)id);
}

void lessor_attach(struct lessor *l, int64_t id, struct slice key)
{
    struct lease *lease = find(l, id);
    if (lease == NULL)
        return;
    if ((lease->keys_count + 1) * 4 > lease->slots_count * 3)
        resize_keys(lease, lease->slots_count == 0 ? KEY_SLOTS_MIN : lease->slots_count * 2);
    uint32_t hash = hash_key(l, key);
    uint32_t at = find_slot(lease, hash, key);
    if (lease->keys[at] != NULL)
        return;
    struct lease_key *k = mem_alloc(sizeof(*k) + key.size);
    *k = (struct lease_key){.hash = hash, .size = (uint32_t)key.size};
    if (key.size > 0)
        memcpy(k->bytes, key.data, key.size);
    lease->keys[at] = k;
    lease->keys_count++;
}

void lessor_detach(struct lessor *l, int64_t id, struct slice key)
{
    struct lease *lease = find(l, id);
    if (lease == NULL || lease->keys_count == 0)
        return;
    uint32_t at = find_slot(lease, hash_key(l, key), key);
    if (lease->keys[at] == NULL)
        return;
    mem_free(lease->keys[at]);
    clear_slot(lease, at);
    lease->keys_count--;
    if (lease->keys_count == 0)
        resize_keys(lease, 0);
    else if (lease->slots_count > KEY_SLOTS_MIN && lease->keys_count * 8 < lease->slots_count)
        resize_keys(lease, lease->slots_count / 2);
}

static int compare_keys(const void *a, const void *b)
{
    return slice_compare(key_slice(*(struct lease_key *const *)a),
                         key_slice(*(struct lease_key *const *)b));
}

void lessor_each_key(const struct lessor *l, int64_t id, void (*fn)(void *ctx, struct slice key),
                     void *ctx)
{
    const struct lease *lease = find(l, id);
    if (lease == NULL || lease->keys_count == 0)
        return;
    struct lease_key **sorted = mem_alloc(lease->keys_count * sizeof(struct lease_key *));
    uint32_t count = 0;
    for (uint32_t i = 0; i < lease->slots_count; i++)
        if (lease->keys[i] != NULL)
            sorted[count++] = lease->keys[i];
    ASSERT(count == lease->keys_count);
    qsort(sorted, count, sizeof(struct lease_key *), compare_keys);
    for (uint32_t i = 0; i < count; i++)
        fn(ctx, key_slice(sorted[i]));
    mem_free(sorted);
}

bool lessor_find_key(const struct lessor *l, int64_t id, bool (*fn)(void *ctx, struct slice key),
                     void *ctx)
{
    const struct lease *lease = find(l, id);
    for (uint32_t i = 0; lease != NULL && i < lease->slots_count; i++)
        if (lease->keys[i] != NULL && fn(ctx, key_slice(lease->keys[i])))
            return true;
    return false;
}

/* --- what is due when --- */

static void heap_set(struct lessor *l, uint32_t at, struct due d)
{
    l->heap[at] = d;
    d.lease->heap_at = at;
}

static void heap_up(struct lessor *l, uint32_t at)
{
    struct due d = l->heap[at];
    while (at > 0 && d.when_ms < l->heap[(at - 1) / 2].when_ms) {
        heap_set(l, at, l->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_set(l, at, d);
}

static void heap_down(struct lessor *l, uint32_t at)
{
    struct due d = l->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= l->heap_count)
            break;
        if (child + 1 < l->heap_count && l->heap[child + 1].when_ms < l->heap[child].when_ms)
            child++;
        if (l->heap[child].when_ms >= d.when_ms)
            break;
        heap_set(l, at, l->heap[child]);
        at = child;
    }
    heap_set(l, at, d);
}

static void heap_change(struct lessor *l, uint32_t at, uint64_t when_ms)
{
    uint64_t before_ms = l->heap[at].when_ms;
    l->heap[at].when_ms = when_ms;
    if (when_ms < before_ms)
        heap_up(l, at);
    else
        heap_down(l, at);
}

static void heap_append(struct lessor *l, struct lease *lease)
{
    if (l->heap_count == l->heap_capacity) {
        l->heap_capacity = l->heap_capacity == 0 ? 64 : l->heap_capacity * 2;
        l->heap = mem_realloc(l->heap, l->heap_capacity * sizeof(*l->heap));
    }
    heap_set(l, l->heap_count++, (struct due){.when_ms = lease->deadline_ms, .lease = lease});
}

static void heap_remove(struct lessor *l, uint32_t at)
{
    struct due last = l->heap[--l->heap_count];
    if (at == l->heap_count)
        return;
    uint64_t removed_ms = l->heap[at].when_ms;
    heap_set(l, at, last);
    if (last.when_ms < removed_ms)
        heap_up(l, at);
    else
        heap_down(l, at);
}

static void heapify(struct lessor *l)
{
    for (uint32_t at = l->heap_count / 2; at-- > 0;)
        heap_down(l, at);
}

static uint64_t ends_ms(const struct lease *lease, uint64_t now_ms)
{
    return now_ms + (uint64_t)lease->ttl_s * 1000;
}

static int64_t left_s(const struct lease *lease)
{
    return lease->remaining_s > 0 ? lease->remaining_s : lease->ttl_s;
}

static void plan_checkpoint(struct lessor *l, struct lease *lease, uint64_t now_ms)
{
    list_remove(&lease->plan);
    if (l->checkpoint_ms == 0 || (uint64_t)left_s(lease) * 1000 <= l->checkpoint_ms)
        return;
    lease->plan_ms = now_ms + l->checkpoint_ms;
    list_push_back(&l->plans, &lease->plan);
}

/* --- which leases there are --- */

struct lessor *lessor_new(int64_t ttl_min_s)
{
    struct lessor *l = mem_alloc_zero(sizeof(*l));
    u64map_init(&l->by_id);
    list_init(&l->plans);
    l->ttl_min_s = ttl_min_s > 0 ? ttl_min_s : 1;
    l->hash_seed = rng_seed_from_os();
    return l;
}

static void lease_free(struct lease *lease)
{
    for (uint32_t i = 0; i < lease->slots_count; i++)
        mem_free(lease->keys[i]);
    mem_free(lease->keys);
    mem_free(lease);
}

void lessor_free(struct lessor *l)
{
    size_t cursor = 0;
    uint64_t id;
    void *lease;
    while (u64map_next(&l->by_id, &cursor, &id, &lease))
        lease_free(lease);
    u64map_fini(&l->by_id);
    mem_free(l->heap);
    mem_free(l);
}

int lessor_grant(struct lessor *l, int64_t id, int64_t ttl_s, uint64_t now_ms,
                 int64_t *ret_granted_s)
{
    if (id == 0)
        return TV_LEASE_NOT_FOUND;
    if (ttl_s > LEASE_TTL_MAX_S)
        return TV_LEASE_TTL_TOO_LARGE;
    if (find(l, id) != NULL)
        return TV_LEASE_EXIST;
    struct lease *lease = mem_alloc(sizeof(*lease));
    *lease = (struct lease){
        .id = id, .ttl_s = ttl_s < l->ttl_min_s ? l->ttl_min_s : ttl_s, .deadline_ms = NEVER_MS};
    list_init(&lease->plan);
    u64map_put(&l->by_id, (uint64_t)id, lease);
    if (l->promoted) {
        lease->deadline_ms = ends_ms(lease, now_ms);
        heap_append(l, lease);
        heap_up(l, lease->heap_at);
        plan_checkpoint(l, lease, now_ms);
    }
    *ret_granted_s = lease->ttl_s;
    return 0;
}

void lessor_revoke(struct lessor *l, int64_t id)
{
    struct lease *lease = find(l, id);
    if (lease == NULL)
        return;
    (void)u64map_remove(&l->by_id, (uint64_t)id);
    if (l->promoted)
        heap_remove(l, lease->heap_at);
    list_remove(&lease->plan);
    lease_free(lease);
}

bool lessor_checkpoint(struct lessor *l, const struct wire_lease_checkpoint *c, uint64_t now_ms,
                       struct lsm_lease *ret)
{
    struct lease *lease = find(l, c->id);
    if (lease == NULL)
        return false;
    bool clears = c->remaining_ttl <= 0;
    lease->remaining_s = clears                               ? 0
                         : c->remaining_ttl < LEASE_TTL_MAX_S ? c->remaining_ttl
                                                              : LEASE_TTL_MAX_S;
    if (clears)
        lease->clearing = false;
    else
        lease->noting = false;
    if (l->promoted)
        plan_checkpoint(l, lease, now_ms);
    *ret = (struct lsm_lease){
        .id = lease->id, .granted_ttl = lease->ttl_s, .remaining_ttl = lease->remaining_s};
    return true;
}

void lessor_load(struct lessor *l, const struct lsm_lease *stored)
{
    struct lsm_lease unused;
    int64_t granted;
    ASSERT(!l->promoted);
    const struct wire_lease_checkpoint c = {.id = stored->id,
                                            .remaining_ttl = stored->remaining_ttl};
    if (lessor_grant(l, stored->id, stored->granted_ttl, 0, &granted) == 0)
        (void)lessor_checkpoint(l, &c, 0, &unused);
}

bool lessor_exists(const struct lessor *l, int64_t id)
{
    return find(l, id) != NULL;
}

uint64_t lessor_count(const struct lessor *l)
{
    return l->by_id.count;
}

static int compare_ends(const void *a, const void *b)
{
    const struct lease *x = *(struct lease *const *)a, *y = *(struct lease *const *)b;
    if (x->deadline_ms != y->deadline_ms)
        return x->deadline_ms < y->deadline_ms ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* NULL when there is none; else to be freed. */
static struct lease **by_end(const struct lessor *l)
{
    if (l->by_id.count == 0)
        return NULL;
    struct lease **leases = mem_alloc(l->by_id.count * sizeof(struct lease *));
    size_t cursor = 0, count = 0;
    uint64_t id;
    void *lease;
    while (u64map_next(&l->by_id, &cursor, &id, &lease))
        leases[count++] = lease;
    qsort(leases, count, sizeof(struct lease *), compare_ends);
    return leases;
}

void lessor_each(const struct lessor *l, void (*fn)(void *ctx, int64_t id), void *ctx)
{
    struct lease **leases = by_end(l);
    for (size_t i = 0; i < l->by_id.count; i++)
        fn(ctx, leases[i]->id);
    mem_free(leases);
}

/* --- at the leader --- */

/* Ends that would fall into the same second are put off: the more there are before a lease in its
 * second, the longer, so that no second has more than SPREAD_PER_SECOND. */
static void spread_ends(struct lessor *l)
{
    struct lease **leases = by_end(l);
    uint64_t window_ms = leases[0]->deadline_ms;
    uint64_t window_end_ms = window_ms + 1000;
    uint64_t ending = 0;
    for (size_t i = 0; i < l->by_id.count; i++) {
        struct lease *lease = leases[i];
        if (lease->deadline_ms > window_end_ms) {
            window_ms = lease->deadline_ms;
            window_end_ms = window_ms + 1000;
            ending = 1;
            continue;
        }
        ending++;
        if (ending <= SPREAD_PER_SECOND)
            continue;
        /* Those that were late in their second anyway need less. */
        uint64_t delay_ms = ending * 1000 / SPREAD_PER_SECOND;
        uint64_t ahead_ms = lease->deadline_ms - window_ms;
        delay_ms = delay_ms > ahead_ms ? delay_ms - ahead_ms : 0;
        window_end_ms = window_ms + delay_ms;
        lease->deadline_ms += delay_ms;
    }
    mem_free(leases);
}

void lessor_promote(struct lessor *l, uint64_t now_ms, uint64_t extend_ms, uint64_t checkpoint_ms)
{
    l->checkpoint_ms = checkpoint_ms;
    size_t cursor = 0;
    uint64_t id;
    void *it;
    while (u64map_next(&l->by_id, &cursor, &id, &it)) {
        struct lease *lease = it;
        lease->deadline_ms = now_ms + (uint64_t)left_s(lease) * 1000 + extend_ms;
        plan_checkpoint(l, lease, now_ms);
    }
    if (l->by_id.count >= REVOKES_PER_SECOND)
        spread_ends(l);
    l->promoted = true;
    l->heap_count = 0;
    cursor = 0;
    while (u64map_next(&l->by_id, &cursor, &id, &it))
        heap_append(l, it);
    heapify(l);
}

void lessor_demote(struct lessor *l)
{
    for (uint32_t i = 0; i < l->heap_count; i++) {
        struct lease *lease = l->heap[i].lease;
        lease->deadline_ms = NEVER_MS;
        lease->noting = lease->clearing = false;
        list_remove(&lease->plan);
    }
    l->heap_count = 0;
    l->promoted = false;
}

uint32_t lessor_checkpoints_due(struct lessor *l, uint64_t now_ms,
                                struct wire_lease_checkpoint *ret, uint32_t max)
{
    uint32_t count = 0;
    while (count < max && !list_is_empty(&l->plans)) {
        struct lease *lease = CONTAINER_OF(l->plans.next, struct lease, plan);
        if (lease->plan_ms > now_ms)
            break;
        list_remove(&lease->plan);
        if (lease->deadline_ms <= now_ms)
            continue; /* its end is on the way */
        int64_t left = (int64_t)((lease->deadline_ms - now_ms + 999) / 1000);
        if (left >= lease->ttl_s || lease->clearing) { /* it was renewed just now */
            plan_checkpoint(l, lease, now_ms);
            continue;
        }
        lease->noting = true;
        ret[count++] = (struct wire_lease_checkpoint){.id = lease->id, .remaining_ttl = left};
    }
    return count;
}

void lessor_checkpoint_lost(struct lessor *l, const struct wire_lease_checkpoint *c,
                            uint64_t now_ms)
{
    struct lease *lease = find(l, c->id);
    if (lease == NULL)
        return;
    if (c->remaining_ttl == 0) {
        lease->clearing = false;
        return;
    }
    lease->noting = false;
    lease->plan_ms = now_ms;
    list_push_front(&l->plans, &lease->plan);
}

bool lessor_is_noted(const struct lessor *l, int64_t id, uint64_t now_ms)
{
    const struct lease *lease = find(l, id);
    return lease != NULL && (lease->remaining_s > 0 || lease->noting) &&
           lease->deadline_ms > now_ms;
}

bool lessor_clear_begin(struct lessor *l, int64_t id)
{
    struct lease *lease = find(l, id);
    if (lease == NULL || lease->clearing)
        return false;
    lease->clearing = true;
    return true;
}

int lessor_renew(struct lessor *l, int64_t id, uint64_t now_ms, int64_t *ret_ttl_s)
{
    ASSERT(l->promoted);
    struct lease *lease = find(l, id);
    if (lease == NULL || lease->deadline_ms <= now_ms)
        return TV_LEASE_NOT_FOUND; /* its end is on the way, or on the log already */
    ASSERT(lease->remaining_s == 0 && !lease->noting);
    lease->deadline_ms = ends_ms(lease, now_ms);
    heap_change(l, lease->heap_at, lease->deadline_ms);
    *ret_ttl_s = lease->ttl_s;
    return 0;
}

int lessor_remaining(const struct lessor *l, int64_t id, uint64_t now_ms, int64_t *ret_ttl_s,
                     int64_t *ret_granted_s)
{
    ASSERT(l->promoted);
    const struct lease *lease = find(l, id);
    if (lease == NULL)
        return TV_LEASE_NOT_FOUND;
    /* Below zero while the revocation is on its way, as etcd says it. */
    *ret_ttl_s = ((int64_t)lease->deadline_ms - (int64_t)now_ms) / 1000;
    *ret_granted_s = lease->ttl_s;
    return 0;
}

uint32_t lessor_expired(struct lessor *l, uint64_t now_ms, int64_t *ret_ids, uint32_t max)
{
    uint32_t count = 0;
    while (count < max && l->heap_count > 0 && l->heap[0].when_ms <= now_ms) {
        ret_ids[count++] = l->heap[0].lease->id;
        heap_change(l, 0, now_ms + LEASE_REVOKE_RETRY_MS);
    }
    return count;
}
