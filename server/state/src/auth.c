#include "auth_internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "proto/wirefield.h"

#include <stdlib.h>

/* --- ranges --- */

static bool is_open(struct slice range_end)
{
    return range_end.size == 1 && range_end.data[0] == 0;
}

/* Ends of ranges: an empty one is beyond all others. */
static int compare_ends(struct slice a, struct slice b)
{
    if (a.size == 0 || b.size == 0)
        return (a.size == 0) - (b.size == 0);
    return slice_compare(a, b);
}

bool auth__range_is_valid(struct slice key, struct slice range_end)
{
    if (key.size == 0)
        return false;
    return range_end.size == 0 || is_open(range_end) || slice_compare(key, range_end) < 0;
}

static int compare_begins(const void *a, const void *b)
{
    const struct auth_range *x = a, *y = b;
    return slice_compare(x->begin, y->begin);
}

/* A key of a permission has a NUL behind it that is not counted: with it, it is the next key. */
static struct auth_range range_of(const struct auth_permission *p)
{
    struct auth_range r = {.begin = p->key, .end = p->range_end};
    if (p->range_end.size == 0)
        r.end = slice_of(p->key.data, p->key.size + 1);
    else if (is_open(p->range_end))
        r.end = SLICE_EMPTY;
    return r;
}

/* Those that permit `access`, sorted, those that touch made one. */
static void merge(struct auth_ranges *ret, const struct auth_role *r, enum auth_access access)
{
    struct auth_range *items = mem_alloc((r->permissions_count + 1) * sizeof(*items));
    uint32_t count = 0, kept = 0;
    for (uint32_t i = 0; i < r->permissions_count; i++) {
        const struct auth_permission *p = &r->permissions[i];
        if (p->access == (int32_t)access || p->access == AUTH_READWRITE)
            items[count++] = range_of(p);
    }
    qsort(items, count, sizeof(*items), compare_begins);
    for (uint32_t i = 0; i < count; i++) {
        struct auth_range *last = kept == 0 ? NULL : &items[kept - 1];
        if (last == NULL || compare_ends(last->end, items[i].begin) < 0)
            items[kept++] = items[i];
        else if (compare_ends(items[i].end, last->end) > 0)
            last->end = items[i].end;
    }
    *ret = (struct auth_ranges){.items = items, .count = kept};
}

/* The range that has the key; NULL when none has. */
static const struct auth_range *range_at(const struct auth_ranges *ranges, struct slice key)
{
    uint32_t lo = 0, hi = ranges->count; /* the first one that begins behind the key */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (slice_compare(ranges->items[mid].begin, key) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0 || compare_ends(ranges->items[lo - 1].end, key) <= 0)
        return NULL;
    return &ranges->items[lo - 1];
}

/* --- users and roles --- */

static uint8_t *put_bytes(uint8_t *p, struct slice from, struct slice *ret)
{
    *ret = slice_of(p, from.size);
    if (from.size > 0)
        memcpy(p, from.data, from.size);
    return p + from.size;
}

struct auth_user *auth__user_new(struct slice name, struct slice password, bool no_password,
                                 const struct slice *roles, uint32_t roles_count)
{
    size_t size = sizeof(struct auth_user) + roles_count * sizeof(*roles) + name.size;
    size += password.size;
    for (uint32_t i = 0; i < roles_count; i++)
        size += roles[i].size;
    struct auth_user *u = mem_alloc(size);
    *u = (struct auth_user){.refs = 1, .no_password = no_password, .roles_count = roles_count};
    u->roles = (struct slice *)(u + 1);
    uint8_t *p = (uint8_t *)(u->roles + roles_count);
    p = put_bytes(p, name, &u->name);
    p = put_bytes(p, password, &u->password);
    for (uint32_t i = 0; i < roles_count; i++) {
        ASSERT(i == 0 || slice_compare(roles[i - 1], roles[i]) < 0);
        p = put_bytes(p, roles[i], &u->roles[i]);
        u->is_root |= slice_equal(roles[i], AUTH_ROOT);
    }
    return u;
}

struct auth_role *auth__role_new(struct slice name, const struct auth_permission *permissions,
                                 uint32_t permissions_count)
{
    size_t size = sizeof(struct auth_role) + permissions_count * sizeof(*permissions) + name.size;
    for (uint32_t i = 0; i < permissions_count; i++)
        size += permissions[i].key.size + 1 + permissions[i].range_end.size;
    struct auth_role *r = mem_alloc(size);
    *r = (struct auth_role){.refs = 1, .permissions_count = permissions_count};
    r->permissions = (struct auth_permission *)(r + 1);
    uint8_t *p = put_bytes((uint8_t *)(r->permissions + permissions_count), name, &r->name);
    for (uint32_t i = 0; i < permissions_count; i++) {
        const struct auth_permission *from = &permissions[i];
        ASSERT(auth__range_is_valid(from->key, from->range_end));
        r->permissions[i].access = from->access;
        p = put_bytes(p, from->key, &r->permissions[i].key);
        *p++ = 0; /* see range_of() */
        p = put_bytes(p, from->range_end, &r->permissions[i].range_end);
    }
    merge(&r->read, r, AUTH_READ);
    merge(&r->write, r, AUTH_WRITE);
    return r;
}

void auth__user_unref(struct auth_user *u)
{
    if (--u->refs == 0)
        mem_free(u);
}

void auth__role_unref(struct auth_role *r)
{
    if (--r->refs > 0)
        return;
    mem_free(r->read.items);
    mem_free(r->write.items);
    mem_free(r);
}

/* --- views --- */

static uint32_t user_place(const struct auth_view *v, struct slice name, bool *ret_found)
{
    uint32_t lo = 0, hi = v->users_count;
    *ret_found = false;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int order = slice_compare(v->users[mid]->name, name);
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
        *ret_found |= order == 0;
    }
    return lo;
}

static uint32_t role_place(const struct auth_view *v, struct slice name, bool *ret_found)
{
    uint32_t lo = 0, hi = v->roles_count;
    *ret_found = false;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int order = slice_compare(v->roles[mid]->name, name);
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
        *ret_found |= order == 0;
    }
    return lo;
}

const struct auth_user *auth_find_user(const struct auth_view *v, struct slice name)
{
    bool found;
    uint32_t at = user_place(v, name, &found);
    return found ? v->users[at] : NULL;
}

const struct auth_role *auth_find_role(const struct auth_view *v, struct slice name)
{
    bool found;
    uint32_t at = role_place(v, name, &found);
    return found ? v->roles[at] : NULL;
}

bool auth_user_has_role(const struct auth_user *u, struct slice role)
{
    for (uint32_t i = 0; i < u->roles_count; i++)
        if (slice_equal(u->roles[i], role))
            return true;
    return false;
}

struct auth_view *auth__view_copy(const struct auth_view *of)
{
    struct auth_view *v = mem_alloc(sizeof(*v));
    *v = *of;
    v->users = mem_alloc((of->users_count + 1) * sizeof(struct auth_user *));
    v->roles = mem_alloc((of->roles_count + 1) * sizeof(struct auth_role *));
    for (uint32_t i = 0; i < of->users_count; i++) {
        v->users[i] = of->users[i];
        v->users[i]->refs++;
    }
    for (uint32_t i = 0; i < of->roles_count; i++) {
        v->roles[i] = of->roles[i];
        v->roles[i]->refs++;
    }
    return v;
}

void auth__view_free(void *view)
{
    struct auth_view *v = view;
    for (uint32_t i = 0; i < v->users_count; i++)
        auth__user_unref(v->users[i]);
    for (uint32_t i = 0; i < v->roles_count; i++)
        auth__role_unref(v->roles[i]);
    mem_free(v->users);
    mem_free(v->roles);
    mem_free(v);
}

void auth__put_user(struct auth_view *v, struct auth_user *u)
{
    bool found;
    uint32_t at = user_place(v, u->name, &found);
    v->bytes += auth__user_bytes(u);
    if (found) {
        v->bytes -= auth__user_bytes(v->users[at]);
        auth__user_unref(v->users[at]);
    } else {
        memmove(&v->users[at + 1], &v->users[at],
                (v->users_count++ - at) * sizeof(struct auth_user *));
    }
    v->users[at] = u;
}

void auth__put_role(struct auth_view *v, struct auth_role *r)
{
    bool found;
    uint32_t at = role_place(v, r->name, &found);
    v->bytes += auth__role_bytes(r);
    if (found) {
        v->bytes -= auth__role_bytes(v->roles[at]);
        auth__role_unref(v->roles[at]);
    } else {
        memmove(&v->roles[at + 1], &v->roles[at],
                (v->roles_count++ - at) * sizeof(struct auth_role *));
    }
    v->roles[at] = r;
}

void auth__drop_user(struct auth_view *v, struct slice name)
{
    bool found;
    uint32_t at = user_place(v, name, &found);
    ASSERT(found);
    v->bytes -= auth__user_bytes(v->users[at]);
    auth__user_unref(v->users[at]);
    memmove(&v->users[at], &v->users[at + 1], (--v->users_count - at) * sizeof(struct auth_user *));
}

void auth__drop_role(struct auth_view *v, struct slice name)
{
    bool found;
    uint32_t at = role_place(v, name, &found);
    ASSERT(found);
    v->bytes -= auth__role_bytes(v->roles[at]);
    auth__role_unref(v->roles[at]);
    memmove(&v->roles[at], &v->roles[at + 1], (--v->roles_count - at) * sizeof(struct auth_role *));
}

static void note(struct auth *a, struct auth_view *v)
{
    atomic_store_explicit(&a->view, v, memory_order_release);
    atomic_store_explicit(&a->revision, v->revision, memory_order_release);
    atomic_store_explicit(&a->enabled, v->enabled, memory_order_release);
}

void auth__publish(struct auth *a, struct auth_view *v)
{
    struct auth_view *old = atomic_load_explicit(&a->view, memory_order_relaxed);
    note(a, v);
    if (a->epoch != NULL)
        epoch_retire(a->epoch, old, auth__view_free);
    else
        auth__view_free(old);
}

void auth_init(struct auth *a, struct epoch *epoch)
{
    static const struct auth_view empty = {.revision = 1}; /* etcd's first one */
    *a = (struct auth){.epoch = epoch};
    note(a, auth__view_copy(&empty));
}

void auth_fini(struct auth *a)
{
    auth__view_free(atomic_load_explicit(&a->view, memory_order_relaxed));
}

/* --- checks --- */

/* The end of the longest range that has the key, among those of the user's roles. */
static bool reaches(const struct auth_view *v, const struct auth_user *u, struct slice key,
                    enum auth_access access, struct slice *ret_end)
{
    bool any = false;
    for (uint32_t i = 0; i < u->roles_count; i++) {
        const struct auth_role *role = auth_find_role(v, u->roles[i]);
        if (role == NULL)
            continue;
        const struct auth_range *r =
            range_at(access == AUTH_READ ? &role->read : &role->write, key);
        if (r == NULL || (any && compare_ends(r->end, *ret_end) <= 0))
            continue;
        any = true;
        *ret_end = r->end;
    }
    return any;
}

static bool is_covered(const struct auth_view *v, const struct auth_user *u, struct slice key,
                       struct slice range_end, enum auth_access access)
{
    struct slice end;
    if (range_end.size == 0)
        return reaches(v, u, key, access, &end);
    struct slice wanted = is_open(range_end) ? SLICE_EMPTY : range_end;
    for (struct slice at = key; reaches(v, u, at, access, &end); at = end)
        if (compare_ends(end, wanted) >= 0)
            return true;
    return false;
}

int auth_check(const struct auth_view *v, const struct auth_caller *c, struct slice key,
               struct slice range_end, enum auth_access access)
{
    if (!v->enabled)
        return 0;
    if (c->revision == 0)
        return TV_USER_EMPTY;
    if (c->revision < v->revision)
        return TV_AUTH_OLD_REVISION;
    const struct auth_user *u = auth_find_user(v, c->name);
    if (u == NULL)
        return TV_PERMISSION_DENIED;
    if (u->is_root || is_covered(v, u, key, range_end, access))
        return 0;
    return TV_PERMISSION_DENIED;
}

int auth_check_root(const struct auth_view *v, struct slice name)
{
    if (!v->enabled)
        return 0;
    if (name.size == 0)
        return TV_USER_EMPTY;
    const struct auth_user *u = auth_find_user(v, name);
    if (u == NULL)
        return TV_USER_NOT_FOUND;
    return u->is_root ? 0 : TV_PERMISSION_DENIED;
}
