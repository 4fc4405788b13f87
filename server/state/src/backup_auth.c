#include "backup_auth.h"

#include "base/err.h"
#include "base/mem.h"
#include "proto/wirefield.h"

void backup_auth_init(struct backup_auth *b)
{
    *b = (struct backup_auth){.revision = 1};
    auth_init(&b->auth, NULL);
}

void backup_auth_fini(struct backup_auth *b)
{
    auth_fini(&b->auth);
}

/* --- reading --- */

/* authpb.Role: 1 name, 2 keyPermission (repeated). */
static int read_role(struct auth *a, struct slice name, struct slice value)
{
    struct auth_change change;
    struct auth_permission permission;
    struct wire_reader reader = wire_reader_of(value);
    struct wire_field f;
    int rv;
    if (auth_add_role(a, name, &change) != 0)
        return TV_ECORRUPT;
    while ((rv = wire_next_field(&reader, &f)) == 1)
        if (f.number == 2 && f.type == WIRE_BYTES &&
            (auth_permission_decode(f.bytes, &permission) != 0 ||
             auth_grant_permission(a, name, &permission, &change) != 0))
            return TV_ECORRUPT;
    return rv == 0 ? 0 : TV_ECORRUPT;
}

/* The options: 1 no_password. */
static int read_options(struct slice value, bool *ret_no_password)
{
    struct wire_reader reader = wire_reader_of(value);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1)
        if (f.number == 1 && f.type == WIRE_VARINT)
            *ret_no_password = f.value != 0;
    return rv;
}

/* authpb.User: 1 name, 2 password, 3 roles (repeated), 4 options. */
static int read_user(struct auth *a, struct slice name, struct slice value)
{
    struct auth_change change;
    struct wire_reader reader = wire_reader_of(value);
    struct wire_field f;
    struct slice password = SLICE_EMPTY;
    bool no_password = false;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.number == 2 && f.type == WIRE_BYTES)
            password = f.bytes;
        else if (f.number == 4 && f.type == WIRE_BYTES && read_options(f.bytes, &no_password) != 0)
            return TV_ECORRUPT;
    }
    if (rv != 0 || auth_add_user(a, name, password, no_password, &change) != 0)
        return TV_ECORRUPT;
    reader = wire_reader_of(value);
    while (wire_next_field(&reader, &f) == 1)
        if (f.number == 3 && f.type == WIRE_BYTES &&
            auth_grant_role(a, name, f.bytes, &change) != 0)
            return TV_ECORRUPT;
    return 0;
}

static int read_state(struct backup_auth *b, struct slice key, struct slice value)
{
    if (slice_equal(key, SLICE_LITERAL("authEnabled"))) {
        b->enabled = value.size == 1 && value.data[0] == 1;
    } else if (slice_equal(key, SLICE_LITERAL("authRevision"))) {
        if (value.size != sizeof(b->revision))
            return TV_ECORRUPT;
        memcpy(&b->revision, value.data, sizeof(b->revision));
        b->revision = __builtin_bswap64(b->revision);
    }
    return 0;
}

int backup_auth_read(struct backup_auth *b, struct slice bucket, struct slice key,
                     struct slice value)
{
    if (slice_equal(bucket, SLICE_LITERAL("auth")))
        return read_state(b, key, value);
    bool role = slice_equal(bucket, SLICE_LITERAL("authRoles"));
    if (!role && !slice_equal(bucket, SLICE_LITERAL("authUsers")))
        return 0;
    b->any = true;
    return role ? read_role(&b->auth, key, value) : read_user(&b->auth, key, value);
}

/* --- the store's records --- */

static void add_record(struct backup_auth *b, enum auth_record record, uint32_t bucket,
                       struct persist_meta **metas)
{
    char name[AUTH_RECORD_NAME_MAX];
    struct buf contents;
    buf_init(&contents, SIZE_MAX);
    auth_encode(&b->auth, record, bucket, &contents);
    if (contents.size > 0)
        persist_meta_put(metas, auth_record_name(record, bucket, name), buf_slice(&contents));
    buf_fini(&contents);
}

int backup_auth_records(struct backup_auth *b, struct persist_meta **metas)
{
    struct auth_change change;
    if (b->enabled && auth_enable(&b->auth, &change) != 0)
        return TV_ECORRUPT;
    auth_set_revision(&b->auth, b->revision);
    if (!b->any && b->revision <= 1)
        return 0; /* as if there had never been anything */
    add_record(b, AUTH_RECORD_STATE, 0, metas);
    for (uint32_t i = 0; i < AUTH_BUCKETS_COUNT; i++) {
        add_record(b, AUTH_RECORD_USERS, i, metas);
        add_record(b, AUTH_RECORD_ROLES, i, metas);
    }
    return 0;
}
