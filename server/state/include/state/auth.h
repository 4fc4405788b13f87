/* Who may do what: users, roles and their permissions, and whether they are asked for at all.
 *
 * Replicated state, changed by entries of the log alone, and outside the revisions of the key
 * space: it has a revision of its own, which every change raises. What is known at a moment is a
 * view, which never changes; a change publishes another one, and the old one is freed by epoch. So
 * the workers check what they read without a lock.
 *
 * A role keeps its permissions as two sorted lists of ranges that neither touch nor overlap, one to
 * read and one to write. A user's are those of his roles together; they are not merged for each
 * user (a thousand users of one large role would cost a thousand copies), a check walks along the
 * range that is asked for, from role to role.
 *
 * Threads: changed by the core's, which reads the view as it is; others read it inside an epoch
 * section of the store. Source of the rules: etcd server/auth/store.go, range_perm_cache.go. */
#ifndef STATE_AUTH_H
#define STATE_AUTH_H

#include "base/buf.h"
#include "base/epoch.h"
#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    AUTH_BYTES_MAX = 64 << 20, /* of users and roles, as they are stored; more are refused */
    AUTH_BUCKETS_COUNT = 64,   /* records that users are spread over, and roles over as many */
    AUTH_RECORD_NAME_MAX = 16,
};

/* The user and the role that may do everything. */
#define AUTH_ROOT SLICE_LITERAL("root")

enum auth_access { AUTH_READ = 0, AUTH_WRITE = 1, AUTH_READWRITE = 2 };

/* authpb.Permission; the kind is kept as it came, and one that nobody knows permits nothing. */
struct auth_permission {
    int32_t access;
    struct slice key;
    struct slice range_end; /* empty: the key alone; "\0": everything from it on */
};

/* The message's fields: 1 permType, 2 key, 3 range_end. Errors: TV_EMALFORMED. */
int auth_permission_decode(struct slice msg, struct auth_permission *ret);
size_t auth_permission_size(const struct auth_permission *p);
uint8_t *auth_permission_put(uint8_t *dst, const struct auth_permission *p);

/* From `begin` up to `end`; an empty end is beyond all keys. */
struct auth_range {
    struct slice begin;
    struct slice end;
};

struct auth_ranges {
    struct auth_range *items;
    uint32_t count;
};

/* Never changes; counted by the views that it is in. */
struct auth_user {
    uint32_t refs;
    bool no_password;
    bool is_root; /* has the role */
    struct slice name;
    struct slice password; /* a bcrypt hash, or whatever the log said */
    struct slice *roles;   /* sorted */
    uint32_t roles_count;
};

struct auth_role {
    uint32_t refs;
    struct slice name;
    struct auth_permission *permissions; /* by key; those of one key as they came */
    uint32_t permissions_count;
    struct auth_ranges read;
    struct auth_ranges write;
};

struct auth_view {
    uint64_t revision;
    bool enabled;
    size_t bytes;             /* of what follows, see AUTH_BYTES_MAX */
    struct auth_user **users; /* by name */
    uint32_t users_count;
    struct auth_role **roles; /* by name */
    uint32_t roles_count;
};

struct auth {
    _Atomic(struct auth_view *) view;
    _Atomic bool enabled; /* of the view, for those outside an epoch section */
    _Atomic uint64_t revision;
    struct epoch *epoch; /* NULL: nobody else looks */
};

/* A caller, as a token, a certificate or the log names him. `revision` is the one in which he was
 * identified; 0 when there is no caller. */
struct auth_caller {
    bool known; /* he showed something; not kept on the log */
    struct slice name;
    uint64_t revision;
};

/* No users, no roles, off. `epoch` is borrowed. */
void auth_init(struct auth *a, struct epoch *epoch);
/* No reader may be inside. */
void auth_fini(struct auth *a);

/* --- any thread's --- */

/* One relaxed load. */
static inline bool auth_is_enabled(const struct auth *a)
{
    return atomic_load_explicit(&a->enabled, memory_order_relaxed);
}

static inline uint64_t auth_revision(const struct auth *a)
{
    return atomic_load_explicit(&a->revision, memory_order_acquire);
}

/* Borrowed until the end of the epoch section. */
static inline const struct auth_view *auth_view(const struct auth *a)
{
    return atomic_load_explicit(&a->view, memory_order_acquire);
}

/* NULL when there is none. */
const struct auth_user *auth_find_user(const struct auth_view *v, struct slice name);
const struct auth_role *auth_find_role(const struct auth_view *v, struct slice name);
bool auth_user_has_role(const struct auth_user *u, struct slice role);

/* May he read or write (not both at once) the key or the range? Errors: TV_USER_EMPTY: there is no
 * caller; TV_AUTH_OLD_REVISION: something changed since he was identified; TV_PERMISSION_DENIED. */
int auth_check(const struct auth_view *v, const struct auth_caller *c, struct slice key,
               struct slice range_end, enum auth_access access);
/* Has he the role root? Errors: TV_USER_EMPTY, TV_USER_NOT_FOUND, TV_PERMISSION_DENIED. */
int auth_check_root(const struct auth_view *v, struct slice name);

/* --- the core's: changes ---
 *
 * Each is one change of the log: on an error nothing has changed, else the revision is one more
 * (but for those that say otherwise). Names and keys are copied. */

struct auth_change {
    uint64_t users; /* bits: the buckets whose records changed */
    uint64_t roles;
    bool state; /* enabled or the revision: always when anything did */
};

/* Errors: TV_ROOT_USER_NOT_EXIST, TV_ROOT_ROLE_NOT_EXIST. Keeps the revision; without effect when
 * it is on. */
int auth_enable(struct auth *a, struct auth_change *ret);
/* Without effect when it is off. */
void auth_disable(struct auth *a, struct auth_change *ret);
/* `password` is its hash. Errors: TV_USER_EMPTY, TV_USER_ALREADY_EXIST, TV_NO_SPACE. */
int auth_add_user(struct auth *a, struct slice name, struct slice password, bool no_password,
                  struct auth_change *ret);
/* Errors: TV_INVALID_AUTH_MGMT, TV_USER_NOT_FOUND. */
int auth_delete_user(struct auth *a, struct slice name, struct auth_change *ret);
/* Of a user without a password nothing but the revision changes. Errors: TV_USER_NOT_FOUND,
 * TV_NO_SPACE.
 */
int auth_set_password(struct auth *a, struct slice name, struct slice password,
                      struct auth_change *ret);
/* Without effect when he has it. Errors: TV_USER_NOT_FOUND, TV_ROLE_NOT_FOUND (not of the role
 * root, which needs not exist). */
int auth_grant_role(struct auth *a, struct slice user, struct slice role, struct auth_change *ret);
/* Errors: TV_INVALID_AUTH_MGMT, TV_USER_NOT_FOUND, TV_ROLE_NOT_GRANTED. */
int auth_revoke_role(struct auth *a, struct slice user, struct slice role, struct auth_change *ret);
/* Errors: TV_ROLE_EMPTY, TV_ROLE_ALREADY_EXIST, TV_NO_SPACE. */
int auth_add_role(struct auth *a, struct slice name, struct auth_change *ret);
/* Taken from all who have it. Errors: TV_INVALID_AUTH_MGMT, TV_ROLE_NOT_FOUND. */
int auth_delete_role(struct auth *a, struct slice name, struct auth_change *ret);
/* `permission` NULL: the client gave none. Errors: TV_PERMISSION_NOT_GIVEN, TV_INVALID_AUTH_MGMT:
 * no such range; TV_ROLE_NOT_FOUND, TV_NO_SPACE. */
int auth_grant_permission(struct auth *a, struct slice role,
                          const struct auth_permission *permission, struct auth_change *ret);
/* Errors: TV_ROLE_NOT_FOUND, TV_PERMISSION_NOT_GRANTED. */
int auth_revoke_permission(struct auth *a, struct slice role, struct slice key,
                           struct slice range_end, struct auth_change *ret);

/* --- the core's: in the store ---
 *
 * One record says whether it is on, the revision, and how many users and roles there are; users and
 * roles are spread over AUTH_BUCKETS_COUNT records each, so that a change writes few of them. A
 * record without contents need not be there. */

enum auth_record { AUTH_RECORD_STATE, AUTH_RECORD_USERS, AUTH_RECORD_ROLES };

/* `bucket` is 0 for the state. */
struct slice auth_record_name(enum auth_record record, uint32_t bucket,
                              char ret_name[AUTH_RECORD_NAME_MAX]);
/* Appends the contents to *ret. */
void auth_encode(const struct auth *a, enum auth_record record, uint32_t bucket, struct buf *ret);
/* Append authpb.User and authpb.Role, as etcd keeps them. */
void auth_user_encode(const struct auth_user *u, struct buf *ret);
void auth_role_encode(const struct auth_role *r, struct buf *ret);
/* Of a state that was put together anew. */
void auth_set_revision(struct auth *a, uint64_t revision);
/* The record's contents, borrowed until the next call; empty when there is none. */
typedef struct slice (*auth_get_cb)(void *ctx, struct slice name);
/* Take what the records say in the place of all that is known. Errors: TV_EMALFORMED: nothing has
 * changed. */
int auth_load(struct auth *a, auth_get_cb get, void *ctx);

#endif
