/* The records. Users and roles as etcd's messages of those names:
 *
 *   authpb.User: 1 name, 2 password, 3 roles (repeated), 4 options { 1 no_password }
 *   authpb.Role: 1 name, 2 keyPermission (repeated) { 1 permType, 2 key, 3 range_end }
 *
 * each as an item with number 1 of its record, by name. The state: 1 enabled, 2 revision, 3 users,
 * 4 roles. Whatever else is in a record, or in another order, is damage. */
#include "auth_internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "proto/wirefield.h"

#include <stdio.h>
#include <stdlib.h>

enum { ITEM = 1 };
enum { USER_NAME = 1, USER_PASSWORD = 2, USER_ROLES = 3, USER_OPTIONS = 4, NO_PASSWORD = 1 };
enum { ROLE_NAME = 1, ROLE_PERMISSIONS = 2, PERM_TYPE = 1, PERM_KEY = 2, PERM_RANGE_END = 3 };
enum { STATE_ENABLED = 1, STATE_REVISION = 2, STATE_USERS = 3, STATE_ROLES = 4 };

uint32_t auth__bucket(struct slice name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < name.size; i++)
        h = (h ^ name.data[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)((h ^ h >> 32) % AUTH_BUCKETS_COUNT);
}

struct slice auth_record_name(enum auth_record record, uint32_t bucket,
                              char ret_name[AUTH_RECORD_NAME_MAX])
{
    static const char *const names[] = {"auth", "auth-users", "auth-roles"};
    int size = record == AUTH_RECORD_STATE
                   ? snprintf(ret_name, AUTH_RECORD_NAME_MAX, "%s", names[record])
                   : snprintf(ret_name, AUTH_RECORD_NAME_MAX, "%s-%02u", names[record], bucket);
    ASSERT(size > 0 && size < AUTH_RECORD_NAME_MAX);
    return slice_of(ret_name, (size_t)size);
}

/* --- encoding --- */

static size_t user_size(const struct auth_user *u)
{
    size_t size = wire_bytes_size(USER_NAME, u->name) + wire_bytes_size(USER_PASSWORD, u->password);
    for (uint32_t i = 0; i < u->roles_count; i++)
        size += wire_item_size(USER_ROLES, u->roles[i].size);
    if (u->no_password)
        size += wire_item_size(USER_OPTIONS, wire_uint_size(NO_PASSWORD, 1));
    return size;
}

static uint8_t *user_put(uint8_t *p, const struct auth_user *u)
{
    p = wire_bytes_put(p, USER_NAME, u->name);
    p = wire_bytes_put(p, USER_PASSWORD, u->password);
    for (uint32_t i = 0; i < u->roles_count; i++)
        p = wire_item_put(p, USER_ROLES, u->roles[i]);
    if (u->no_password) {
        p = wire_item_put_head(p, USER_OPTIONS, wire_uint_size(NO_PASSWORD, 1));
        p = wire_uint_put(p, NO_PASSWORD, 1);
    }
    return p;
}

static uint64_t access_value(int32_t access)
{
    return (uint64_t)(int64_t)access; /* an enum on the wire: a negative one has ten bytes */
}

size_t auth_permission_size(const struct auth_permission *p)
{
    return wire_uint_size(PERM_TYPE, access_value(p->access)) + wire_bytes_size(PERM_KEY, p->key) +
           wire_bytes_size(PERM_RANGE_END, p->range_end);
}

uint8_t *auth_permission_put(uint8_t *dst, const struct auth_permission *p)
{
    dst = wire_uint_put(dst, PERM_TYPE, access_value(p->access));
    dst = wire_bytes_put(dst, PERM_KEY, p->key);
    return wire_bytes_put(dst, PERM_RANGE_END, p->range_end);
}

static size_t role_size(const struct auth_role *r)
{
    size_t size = wire_bytes_size(ROLE_NAME, r->name);
    for (uint32_t i = 0; i < r->permissions_count; i++)
        size += wire_item_size(ROLE_PERMISSIONS, auth_permission_size(&r->permissions[i]));
    return size;
}

static uint8_t *role_put(uint8_t *p, const struct auth_role *r)
{
    p = wire_bytes_put(p, ROLE_NAME, r->name);
    for (uint32_t i = 0; i < r->permissions_count; i++) {
        p = wire_item_put_head(p, ROLE_PERMISSIONS, auth_permission_size(&r->permissions[i]));
        p = auth_permission_put(p, &r->permissions[i]);
    }
    return p;
}

size_t auth__user_bytes(const struct auth_user *u)
{
    return wire_item_size(ITEM, user_size(u));
}

size_t auth__role_bytes(const struct auth_role *r)
{
    return wire_item_size(ITEM, role_size(r));
}

static uint8_t *reserve(struct buf *b, size_t size)
{
    uint8_t *p = buf_reserve(b, size);
    ASSERT(p != NULL);
    b->size += size;
    return p;
}

void auth_user_encode(const struct auth_user *u, struct buf *ret)
{
    (void)user_put(reserve(ret, user_size(u)), u);
}

void auth_role_encode(const struct auth_role *r, struct buf *ret)
{
    (void)role_put(reserve(ret, role_size(r)), r);
}

void auth_set_revision(struct auth *a, uint64_t revision)
{
    struct auth_view *v = auth__view_copy(auth_view(a));
    v->revision = revision > 0 ? revision : 1;
    auth__publish(a, v);
}

static void encode_state(const struct auth_view *v, struct buf *ret)
{
    uint8_t bytes[64], *p = wire_uint_put(bytes, STATE_ENABLED, v->enabled);
    p = wire_uint_put(p, STATE_REVISION, v->revision);
    p = wire_uint_put(p, STATE_USERS, v->users_count);
    p = wire_uint_put(p, STATE_ROLES, v->roles_count);
    size_t size = (size_t)(p - bytes);
    memcpy(reserve(ret, size), bytes, size);
}

void auth_encode(const struct auth *a, enum auth_record record, uint32_t bucket, struct buf *ret)
{
    const struct auth_view *v = auth_view(a);
    if (record == AUTH_RECORD_STATE)
        encode_state(v, ret);
    for (uint32_t i = 0; record == AUTH_RECORD_USERS && i < v->users_count; i++) {
        const struct auth_user *u = v->users[i];
        if (auth__bucket(u->name) != bucket)
            continue;
        uint8_t *p = reserve(ret, auth__user_bytes(u));
        (void)user_put(wire_item_put_head(p, ITEM, user_size(u)), u);
    }
    for (uint32_t i = 0; record == AUTH_RECORD_ROLES && i < v->roles_count; i++) {
        const struct auth_role *r = v->roles[i];
        if (auth__bucket(r->name) != bucket)
            continue;
        uint8_t *p = reserve(ret, auth__role_bytes(r));
        (void)role_put(wire_item_put_head(p, ITEM, role_size(r)), r);
    }
}

/* --- decoding --- */

/* How many fields with this number there are; the message is well-formed up to them, or the walk
 * that follows finds out. */
static uint32_t count_items(struct slice msg, uint32_t number)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    uint32_t count = 0;
    while (wire_next_field(&r, &f) == 1)
        count += f.number == number;
    return count;
}

static int decode_options(struct slice msg, bool *ret_no_password)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.number != NO_PASSWORD || f.type != WIRE_VARINT)
            return TV_EMALFORMED;
        *ret_no_password = f.value != 0;
    }
    return rv;
}

/* The fields into `roles`, which has room. */
static int user_fields(struct slice msg, struct auth_user *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv, err = 0;
    while (err == 0 && (rv = wire_next_field(&r, &f)) != 0) {
        if (rv < 0 || f.type != WIRE_BYTES)
            return TV_EMALFORMED;
        if (f.number == USER_NAME)
            ret->name = f.bytes;
        else if (f.number == USER_PASSWORD)
            ret->password = f.bytes;
        else if (f.number == USER_ROLES)
            ret->roles[ret->roles_count++] = f.bytes;
        else if (f.number == USER_OPTIONS)
            err = decode_options(f.bytes, &ret->no_password);
        else
            err = TV_EMALFORMED;
    }
    for (uint32_t i = 1; i < ret->roles_count; i++)
        if (slice_compare(ret->roles[i - 1], ret->roles[i]) >= 0)
            return TV_EMALFORMED;
    return err;
}

static struct auth_user *decode_user(struct slice msg)
{
    struct auth_user parts = {0}, *u = NULL;
    parts.roles = mem_alloc((count_items(msg, USER_ROLES) + 1) * sizeof(*parts.roles));
    if (user_fields(msg, &parts) == 0)
        u = auth__user_new(parts.name, parts.password, parts.no_password, parts.roles,
                           parts.roles_count);
    mem_free(parts.roles);
    return u;
}

int auth_permission_decode(struct slice msg, struct auth_permission *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct auth_permission){0};
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.number == PERM_TYPE && f.type == WIRE_VARINT)
            ret->access = (int32_t)f.value;
        else if (f.number == PERM_KEY && f.type == WIRE_BYTES)
            ret->key = f.bytes;
        else if (f.number == PERM_RANGE_END && f.type == WIRE_BYTES)
            ret->range_end = f.bytes;
    }
    return rv;
}

static int role_fields(struct slice msg, struct auth_role *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type != WIRE_BYTES || f.number > ROLE_PERMISSIONS)
            return TV_EMALFORMED;
        if (f.number == ROLE_NAME) {
            ret->name = f.bytes;
            continue;
        }
        struct auth_permission *p = &ret->permissions[ret->permissions_count++];
        if (auth_permission_decode(f.bytes, p) != 0 || !auth__range_is_valid(p->key, p->range_end))
            return TV_EMALFORMED;
        if (ret->permissions_count > 1 && slice_compare(p[-1].key, p->key) > 0)
            return TV_EMALFORMED;
    }
    return rv;
}

static struct auth_role *decode_role(struct slice msg)
{
    struct auth_role parts = {0}, *r = NULL;
    parts.permissions =
        mem_alloc((count_items(msg, ROLE_PERMISSIONS) + 1) * sizeof(*parts.permissions));
    if (role_fields(msg, &parts) == 0)
        r = auth__role_new(parts.name, parts.permissions, parts.permissions_count);
    mem_free(parts.permissions);
    return r;
}

/* --- loading --- */

struct loading {
    struct auth_view *v;
    uint32_t users_max; /* what the state says there are; room is for as many */
    uint32_t roles_max;
};

static int take_user(struct loading *l, struct slice item, struct slice *ret_name)
{
    struct auth_user *u = l->v->users_count < l->users_max ? decode_user(item) : NULL;
    if (u == NULL)
        return TV_EMALFORMED;
    *ret_name = u->name;
    l->v->bytes += auth__user_bytes(u);
    l->v->users[l->v->users_count++] = u;
    return 0;
}

static int take_role(struct loading *l, struct slice item, struct slice *ret_name)
{
    struct auth_role *r = l->v->roles_count < l->roles_max ? decode_role(item) : NULL;
    if (r == NULL)
        return TV_EMALFORMED;
    *ret_name = r->name;
    l->v->bytes += auth__role_bytes(r);
    l->v->roles[l->v->roles_count++] = r;
    return 0;
}

static int load_bucket(struct loading *l, enum auth_record record, uint32_t bucket,
                       struct slice bytes)
{
    struct wire_reader reader = wire_reader_of(bytes);
    struct wire_field f;
    struct slice before = SLICE_EMPTY, name;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.number != ITEM || f.type != WIRE_BYTES)
            return TV_EMALFORMED;
        int err = record == AUTH_RECORD_USERS ? take_user(l, f.bytes, &name)
                                              : take_role(l, f.bytes, &name);
        if (err != 0)
            return err;
        /* The first name is behind the empty one. */
        if (auth__bucket(name) != bucket || slice_compare(before, name) >= 0)
            return TV_EMALFORMED;
        before = name;
    }
    return rv;
}

static int load_state(struct slice bytes, struct auth_view *v, uint64_t *ret_users,
                      uint64_t *ret_roles)
{
    struct wire_reader reader = wire_reader_of(bytes);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.type != WIRE_VARINT)
            return TV_EMALFORMED;
        if (f.number == STATE_ENABLED)
            v->enabled = f.value != 0;
        else if (f.number == STATE_REVISION)
            v->revision = f.value;
        else if (f.number == STATE_USERS)
            *ret_users = f.value;
        else if (f.number == STATE_ROLES)
            *ret_roles = f.value;
        else
            return TV_EMALFORMED;
    }
    /* Each takes some bytes, so there are no more than that. */
    if (v->revision == 0 || *ret_users > AUTH_BYTES_MAX / 4 || *ret_roles > AUTH_BYTES_MAX / 4)
        return TV_EMALFORMED;
    return rv;
}

static int compare_users(const void *a, const void *b)
{
    return slice_compare((*(struct auth_user *const *)a)->name,
                         (*(struct auth_user *const *)b)->name);
}

static int compare_roles(const void *a, const void *b)
{
    return slice_compare((*(struct auth_role *const *)a)->name,
                         (*(struct auth_role *const *)b)->name);
}

static int load_all(struct loading *l, auth_get_cb get, void *ctx)
{
    struct auth_view *v = l->v;
    for (uint32_t i = 0; i < 2 * AUTH_BUCKETS_COUNT; i++) {
        char name[AUTH_RECORD_NAME_MAX];
        enum auth_record record = i < AUTH_BUCKETS_COUNT ? AUTH_RECORD_USERS : AUTH_RECORD_ROLES;
        uint32_t bucket = i % AUTH_BUCKETS_COUNT;
        int err = load_bucket(l, record, bucket, get(ctx, auth_record_name(record, bucket, name)));
        if (err != 0)
            return err;
    }
    if (v->users_count != l->users_max || v->roles_count != l->roles_max ||
        v->bytes > AUTH_BYTES_MAX)
        return TV_EMALFORMED;
    qsort(v->users, v->users_count, sizeof(struct auth_user *), compare_users);
    qsort(v->roles, v->roles_count, sizeof(struct auth_role *), compare_roles);
    return 0;
}

int auth_load(struct auth *a, auth_get_cb get, void *ctx)
{
    struct auth_view *v = mem_alloc_zero(sizeof(*v));
    uint64_t users = 0, roles = 0;
    char name[AUTH_RECORD_NAME_MAX];
    v->revision = 1;
    int err = load_state(get(ctx, auth_record_name(AUTH_RECORD_STATE, 0, name)), v, &users, &roles);
    if (err == 0) {
        v->users = mem_alloc((users + 1) * sizeof(struct auth_user *));
        v->roles = mem_alloc((roles + 1) * sizeof(struct auth_role *));
        struct loading l = {.v = v, .users_max = (uint32_t)users, .roles_max = (uint32_t)roles};
        err = load_all(&l, get, ctx);
    }
    if (err == 0)
        auth__publish(a, v);
    else
        auth__view_free(v);
    return err;
}
