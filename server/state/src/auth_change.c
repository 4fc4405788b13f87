/* Each change: a copy of the view is altered and takes its place. */
#include "auth_internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

static const struct auth_view *present(const struct auth *a)
{
    return atomic_load_explicit(&a->view, memory_order_relaxed);
}

static void finish(struct auth *a, struct auth_view *v, struct auth_change *ret)
{
    v->revision++;
    ret->state = true;
    auth__publish(a, v);
}

static void put_user(struct auth_view *v, struct auth_user *u, struct auth_change *ret)
{
    ret->users |= UINT64_C(1) << auth__bucket(u->name);
    auth__put_user(v, u);
}

static void put_role(struct auth_view *v, struct auth_role *r, struct auth_change *ret)
{
    ret->roles |= UINT64_C(1) << auth__bucket(r->name);
    auth__put_role(v, r);
}

static bool has_room(const struct auth_view *v, size_t bytes)
{
    return bytes <= AUTH_BYTES_MAX - v->bytes;
}

/* --- on and off --- */

int auth_enable(struct auth *a, struct auth_change *ret)
{
    const struct auth_view *now = present(a);
    *ret = (struct auth_change){0};
    if (now->enabled)
        return 0;
    const struct auth_user *root = auth_find_user(now, AUTH_ROOT);
    if (root == NULL)
        return TV_ROOT_USER_NOT_EXIST;
    if (!root->is_root)
        return TV_ROOT_ROLE_NOT_EXIST;
    struct auth_view *v = auth__view_copy(now);
    v->enabled = true;
    ret->state = true;
    auth__publish(a, v);
    return 0;
}

void auth_disable(struct auth *a, struct auth_change *ret)
{
    *ret = (struct auth_change){0};
    if (!present(a)->enabled)
        return;
    struct auth_view *v = auth__view_copy(present(a));
    v->enabled = false;
    finish(a, v, ret);
}

/* --- users --- */

int auth_add_user(struct auth *a, struct slice name, struct slice password, bool no_password,
                  struct auth_change *ret)
{
    *ret = (struct auth_change){0};
    if (name.size == 0)
        return TV_USER_EMPTY;
    if (auth_find_user(present(a), name) != NULL)
        return TV_USER_ALREADY_EXIST;
    struct auth_user *u =
        auth__user_new(name, no_password ? SLICE_EMPTY : password, no_password, NULL, 0);
    if (!has_room(present(a), auth__user_bytes(u))) {
        auth__user_unref(u);
        return TV_NO_SPACE;
    }
    struct auth_view *v = auth__view_copy(present(a));
    put_user(v, u, ret);
    finish(a, v, ret);
    return 0;
}

int auth_delete_user(struct auth *a, struct slice name, struct auth_change *ret)
{
    *ret = (struct auth_change){0};
    if (present(a)->enabled && slice_equal(name, AUTH_ROOT))
        return TV_INVALID_AUTH_MGMT;
    if (auth_find_user(present(a), name) == NULL)
        return TV_USER_NOT_FOUND;
    struct auth_view *v = auth__view_copy(present(a));
    ret->users |= UINT64_C(1) << auth__bucket(name);
    auth__drop_user(v, name);
    finish(a, v, ret);
    return 0;
}

int auth_set_password(struct auth *a, struct slice name, struct slice password,
                      struct auth_change *ret)
{
    *ret = (struct auth_change){0};
    const struct auth_user *u = auth_find_user(present(a), name);
    if (u == NULL)
        return TV_USER_NOT_FOUND;
    struct auth_user *changed = auth__user_new(u->name, u->no_password ? SLICE_EMPTY : password,
                                               u->no_password, u->roles, u->roles_count);
    size_t before = auth__user_bytes(u), after = auth__user_bytes(changed);
    if (after > before && !has_room(present(a), after - before)) {
        auth__user_unref(changed);
        return TV_NO_SPACE;
    }
    struct auth_view *v = auth__view_copy(present(a));
    put_user(v, changed, ret);
    finish(a, v, ret);
    return 0;
}

/* Like `u`, with the role or without it. */
static struct auth_user *with_role(const struct auth_user *u, struct slice role)
{
    struct slice *roles = mem_alloc((u->roles_count + 1) * sizeof(*roles));
    uint32_t at = 0;
    while (at < u->roles_count && slice_compare(u->roles[at], role) < 0)
        at++;
    for (uint32_t i = 0; i < u->roles_count; i++)
        roles[i < at ? i : i + 1] = u->roles[i];
    roles[at] = role;
    struct auth_user *changed =
        auth__user_new(u->name, u->password, u->no_password, roles, u->roles_count + 1);
    mem_free(roles);
    return changed;
}

static struct auth_user *without_role(const struct auth_user *u, struct slice role)
{
    struct slice *roles = mem_alloc((u->roles_count + 1) * sizeof(*roles));
    uint32_t count = 0;
    for (uint32_t i = 0; i < u->roles_count; i++)
        if (!slice_equal(u->roles[i], role))
            roles[count++] = u->roles[i];
    struct auth_user *changed = auth__user_new(u->name, u->password, u->no_password, roles, count);
    mem_free(roles);
    return changed;
}

int auth_grant_role(struct auth *a, struct slice user, struct slice role, struct auth_change *ret)
{
    *ret = (struct auth_change){0};
    const struct auth_user *u = auth_find_user(present(a), user);
    if (u == NULL)
        return TV_USER_NOT_FOUND;
    if (!slice_equal(role, AUTH_ROOT) && auth_find_role(present(a), role) == NULL)
        return TV_ROLE_NOT_FOUND;
    if (auth_user_has_role(u, role))
        return 0;
    struct auth_user *changed = with_role(u, role);
    if (!has_room(present(a), auth__user_bytes(changed) - auth__user_bytes(u))) {
        auth__user_unref(changed);
        return TV_NO_SPACE;
    }
    struct auth_view *v = auth__view_copy(present(a));
    put_user(v, changed, ret);
    finish(a, v, ret);
    return 0;
}

int auth_revoke_role(struct auth *a, struct slice user, struct slice role, struct auth_change *ret)
{
    *ret = (struct auth_change){0};
    if (present(a)->enabled && slice_equal(user, AUTH_ROOT) && slice_equal(role, AUTH_ROOT))
        return TV_INVALID_AUTH_MGMT;
    const struct auth_user *u = auth_find_user(present(a), user);
    if (u == NULL)
        return TV_USER_NOT_FOUND;
    if (!auth_user_has_role(u, role))
        return TV_ROLE_NOT_GRANTED;
    struct auth_view *v = auth__view_copy(present(a));
    put_user(v, without_role(u, role), ret);
    finish(a, v, ret);
    return 0;
}

/* --- roles --- */

int auth_add_role(struct auth *a, struct slice name, struct auth_change *ret)
{
    *ret = (struct auth_change){0};
    if (name.size == 0)
        return TV_ROLE_EMPTY;
    if (auth_find_role(present(a), name) != NULL)
        return TV_ROLE_ALREADY_EXIST;
    struct auth_role *r = auth__role_new(name, NULL, 0);
    if (!has_room(present(a), auth__role_bytes(r))) {
        auth__role_unref(r);
        return TV_NO_SPACE;
    }
    struct auth_view *v = auth__view_copy(present(a));
    put_role(v, r, ret);
    finish(a, v, ret);
    return 0;
}

int auth_delete_role(struct auth *a, struct slice name, struct auth_change *ret)
{
    const struct auth_view *now = present(a);
    *ret = (struct auth_change){0};
    if (now->enabled && slice_equal(name, AUTH_ROOT))
        return TV_INVALID_AUTH_MGMT;
    if (auth_find_role(now, name) == NULL)
        return TV_ROLE_NOT_FOUND;
    struct auth_view *v = auth__view_copy(now);
    ret->roles |= UINT64_C(1) << auth__bucket(name);
    auth__drop_role(v, name);
    for (uint32_t i = 0; i < now->users_count; i++)
        if (auth_user_has_role(now->users[i], name))
            put_user(v, without_role(now->users[i], name), ret);
    finish(a, v, ret);
    return 0;
}

/* As etcd does it: only the first of the permissions that begin with the key is looked at, and when
 * it is for another range the new one is added, be there an equal one behind it or not. */
int auth_grant_permission(struct auth *a, struct slice role,
                          const struct auth_permission *permission, struct auth_change *ret)
{
    *ret = (struct auth_change){0};
    if (permission == NULL)
        return TV_PERMISSION_NOT_GIVEN;
    if (!auth__range_is_valid(permission->key, permission->range_end))
        return TV_INVALID_AUTH_MGMT;
    const struct auth_role *r = auth_find_role(present(a), role);
    if (r == NULL)
        return TV_ROLE_NOT_FOUND;
    uint32_t count = r->permissions_count, first = 0;
    struct auth_permission *all = mem_alloc((count + 1) * sizeof(*all));
    memcpy(all, r->permissions, count * sizeof(*all));
    while (first < count && slice_compare(all[first].key, permission->key) < 0)
        first++;
    if (first < count && slice_equal(all[first].key, permission->key) &&
        slice_equal(all[first].range_end, permission->range_end)) {
        all[first].access = permission->access;
    } else {
        uint32_t at = first; /* behind those of its key */
        while (at < count && slice_equal(all[at].key, permission->key))
            at++;
        memmove(&all[at + 1], &all[at], (count - at) * sizeof(*all));
        all[at] = *permission;
        count++;
    }
    struct auth_role *changed = auth__role_new(r->name, all, count);
    mem_free(all);
    size_t before = auth__role_bytes(r), after = auth__role_bytes(changed);
    if (after > before && !has_room(present(a), after - before)) {
        auth__role_unref(changed);
        return TV_NO_SPACE;
    }
    struct auth_view *v = auth__view_copy(present(a));
    put_role(v, changed, ret);
    finish(a, v, ret);
    return 0;
}

int auth_revoke_permission(struct auth *a, struct slice role, struct slice key,
                           struct slice range_end, struct auth_change *ret)
{
    *ret = (struct auth_change){0};
    const struct auth_role *r = auth_find_role(present(a), role);
    if (r == NULL)
        return TV_ROLE_NOT_FOUND;
    struct auth_permission *left = mem_alloc((r->permissions_count + 1) * sizeof(*left));
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->permissions_count; i++)
        if (!slice_equal(r->permissions[i].key, key) ||
            !slice_equal(r->permissions[i].range_end, range_end))
            left[count++] = r->permissions[i];
    int err = count == r->permissions_count ? TV_PERMISSION_NOT_GRANTED : 0;
    if (err == 0) {
        struct auth_view *v = auth__view_copy(present(a));
        put_role(v, auth__role_new(r->name, left, count), ret);
        finish(a, v, ret);
    }
    mem_free(left);
    return err;
}
