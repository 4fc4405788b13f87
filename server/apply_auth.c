/* Entries about users and roles, and what all the others need permission for. */
#include "server/apply_internal.h"

#include "server/auth_check.h"
#include "server/auth_request.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/err.h"
#include "base/log.h"

/* --- permission --- */

static struct auth_caller caller_of(const struct wire_raft_request *entry)
{
    return (struct auth_caller){.name = entry->username, .revision = entry->auth_revision};
}

/* Entries of the core (leases that end, members, alarms) need none, or are root's; compactions,
 * alarms and new leases were looked at before they were proposed, as in etcd. */
int applier__permit(struct applier *a, const struct wire_raft_request *entry)
{
    const struct auth_view *v = auth_view(&a->auth);
    struct auth_caller caller = caller_of(entry);
    struct wire_put_request put;
    struct wire_delete_range_request del;
    struct wire_lease_id_request lease;
    struct wire_txn txn;
    switch (entry->kind) {
    case WIRE_RAFT_PUT:
        applier__must_decode(wire_put_request_decode(entry->body, &put));
        return auth_check_put(v, &caller, a->lessor, &put);
    case WIRE_RAFT_DELETE_RANGE:
        applier__must_decode(wire_delete_range_request_decode(entry->body, &del));
        return auth_check_delete(v, &caller, &del);
    case WIRE_RAFT_TXN:
        applier__must_decode(wire_txn_decode(entry->body, &txn));
        return auth_check_txn(v, &caller, a->lessor, &txn);
    case WIRE_RAFT_LEASE_REVOKE:
        applier__must_decode(wire_lease_revoke_request_decode(entry->body, &lease));
        return auth_check_lease(v, &caller, a->lessor, lease.id, AUTH_WRITE);
    case WIRE_RAFT_USER_GET: /* a user may look at himself, */
    case WIRE_RAFT_ROLE_GET: /* and at his roles */
    case WIRE_RAFT_AUTH_STATUS:
    case WIRE_RAFT_AUTHENTICATE:
        return 0;
    default:
        return auth_request_is_kind(entry->kind) ? auth_check_root(v, caller.name) : 0;
    }
}

/* --- for the store --- */

static void persist_record(struct applier *a, enum auth_record record, uint32_t bucket)
{
    char name[AUTH_RECORD_NAME_MAX];
    struct buf contents;
    buf_init(&contents, SIZE_MAX);
    auth_encode(&a->auth, record, bucket, &contents);
    struct slice key = auth_record_name(record, bucket, name);
    if (contents.size > 0)
        persist_meta_put(&a->metas, key, buf_slice(&contents));
    else
        persist_meta_delete(&a->metas, key);
    buf_fini(&contents);
}

static void persist_change(struct applier *a, const struct auth_change *change)
{
    if (!change->state)
        return;
    persist_record(a, AUTH_RECORD_STATE, 0);
    for (uint32_t i = 0; i < AUTH_BUCKETS_COUNT; i++) {
        if ((change->users >> i & 1) != 0)
            persist_record(a, AUTH_RECORD_USERS, i);
        if ((change->roles >> i & 1) != 0)
            persist_record(a, AUTH_RECORD_ROLES, i);
    }
}

/* --- answers: 1 header, then what was asked for in field 2 --- */

enum { ANSWER = 2, STATUS_ENABLED = 2, STATUS_REVISION = 3 };

static uint8_t *begin_answer(struct applier *a, struct request *req, size_t more)
{
    struct wire_header h = applier_header(a, mvcc_txn_revision(a->mvcc));
    return wire_header_put(request_reply_reserve(req, wire_header_size(&h) + more), &h);
}

static void answer_status(struct applier *a, struct request *req)
{
    const struct auth_view *v = auth_view(&a->auth);
    uint8_t *p = begin_answer(a, req,
                              wire_uint_size(STATUS_ENABLED, v->enabled) +
                                  wire_uint_size(STATUS_REVISION, v->revision));
    p = wire_uint_put(p, STATUS_ENABLED, v->enabled);
    wire_uint_put(p, STATUS_REVISION, v->revision);
}

static void answer_user(struct applier *a, const struct auth_user *u, struct request *req)
{
    size_t size = 0;
    for (uint32_t i = 0; i < u->roles_count; i++)
        size += wire_item_size(ANSWER, u->roles[i].size);
    uint8_t *p = begin_answer(a, req, size);
    for (uint32_t i = 0; i < u->roles_count; i++)
        p = wire_item_put(p, ANSWER, u->roles[i]);
}

static void answer_permissions(struct applier *a, const struct auth_permission *permissions,
                               uint32_t count, struct request *req)
{
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += wire_item_size(ANSWER, auth_permission_size(&permissions[i]));
    uint8_t *p = begin_answer(a, req, size);
    for (uint32_t i = 0; i < count; i++) {
        p = wire_item_put_head(p, ANSWER, auth_permission_size(&permissions[i]));
        p = auth_permission_put(p, &permissions[i]);
    }
}

static void answer_users(struct applier *a, struct request *req)
{
    const struct auth_view *v = auth_view(&a->auth);
    size_t size = 0;
    for (uint32_t i = 0; i < v->users_count; i++)
        size += wire_item_size(ANSWER, v->users[i]->name.size);
    uint8_t *p = begin_answer(a, req, size);
    for (uint32_t i = 0; i < v->users_count; i++)
        p = wire_item_put(p, ANSWER, v->users[i]->name);
}

static void answer_roles(struct applier *a, struct request *req)
{
    const struct auth_view *v = auth_view(&a->auth);
    size_t size = 0;
    for (uint32_t i = 0; i < v->roles_count; i++)
        size += wire_item_size(ANSWER, v->roles[i]->name.size);
    uint8_t *p = begin_answer(a, req, size);
    for (uint32_t i = 0; i < v->roles_count; i++)
        p = wire_item_put(p, ANSWER, v->roles[i]->name);
}

/* --- questions --- */

static int get_user(struct applier *a, const struct wire_raft_request *entry,
                    const struct auth_request *r, struct request *req)
{
    const struct auth_view *v = auth_view(&a->auth);
    int err = auth_check_root(v, entry->username);
    if (err != 0 && !slice_equal(entry->username, r->name))
        return err;
    const struct auth_user *u = auth_find_user(v, r->name);
    if (u == NULL)
        return TV_USER_NOT_FOUND;
    if (req != NULL)
        answer_user(a, u, req);
    return 0;
}

static int get_role(struct applier *a, const struct wire_raft_request *entry,
                    const struct auth_request *r, struct request *req)
{
    static const struct auth_permission all = {.access = AUTH_READWRITE,
                                               .range_end = {(const uint8_t *)"", 1}};
    const struct auth_view *v = auth_view(&a->auth);
    int err = auth_check_root(v, entry->username);
    const struct auth_user *u = auth_find_user(v, entry->username);
    if (err != 0 && (u == NULL || !auth_user_has_role(u, r->name)))
        return err;
    const struct auth_role *role = auth_find_role(v, r->name);
    if (role == NULL)
        return TV_ROLE_NOT_FOUND;
    if (req == NULL)
        return 0;
    if (slice_equal(role->name, AUTH_ROOT))
        answer_permissions(a, &all, 1, req);
    else
        answer_permissions(a, role->permissions, role->permissions_count, req);
    return 0;
}

static int ask(struct applier *a, const struct wire_raft_request *entry,
               const struct auth_request *r, struct request *req)
{
    switch (entry->kind) {
    case WIRE_RAFT_USER_GET:
        return get_user(a, entry, r, req);
    case WIRE_RAFT_ROLE_GET:
        return get_role(a, entry, r, req);
    case WIRE_RAFT_AUTH_STATUS:
        if (req != NULL)
            answer_status(a, req);
        break;
    case WIRE_RAFT_USER_LIST:
        if (req != NULL)
            answer_users(a, req);
        break;
    case WIRE_RAFT_ROLE_LIST:
        if (req != NULL)
            answer_roles(a, req);
        break;
    }
    return 0;
}

/* --- tokens --- */

/* The password was looked at before, by the member that was asked. AuthenticateResponse: 2 token;
 * a JSON web token is made by that member alone, and not here. */
static int authenticate(struct applier *a, const struct auth_request *r, struct request *req)
{
    const struct auth_view *v = auth_view(&a->auth);
    if (!v->enabled)
        return TV_AUTH_NOT_ENABLED;
    const struct auth_user *u = auth_find_user(v, r->name);
    if (u == NULL || u->no_password)
        return TV_AUTH_FAILED;
    struct buf token;
    buf_init(&token, SIZE_MAX);
    if (a->tokens != NULL)
        auth_tokens_assign(a->tokens, r->name, r->letters, a->log_index, a->now_ms, &token);
    if (req != NULL) {
        uint8_t *p = begin_answer(a, req, wire_bytes_size(ANSWER, buf_slice(&token)));
        wire_bytes_put(p, ANSWER, buf_slice(&token));
    }
    buf_fini(&token);
    return 0;
}

/* Who is gone, or has another password, is to show who he is anew. */
static void forget_tokens(struct applier *a, uint32_t kind, struct slice name)
{
    if (a->tokens == NULL)
        return;
    if (kind == WIRE_RAFT_USER_DELETE || kind == WIRE_RAFT_USER_CHANGE_PASSWORD)
        auth_tokens_forget_user(a->tokens, name);
    else if (kind == WIRE_RAFT_AUTH_DISABLE)
        auth_tokens_forget_all(a->tokens);
}

/* --- changes --- */

static int set_password(struct applier *a, uint32_t kind, const struct auth_request *r,
                        struct auth_change *change)
{
    struct buf hash;
    buf_init(&hash, SIZE_MAX);
    int err = 0;
    const struct auth_user *u = auth_find_user(auth_view(&a->auth), r->name);
    /* What is the matter with the hash is of interest only when it would be stored. */
    bool stored = kind == WIRE_RAFT_USER_ADD ? r->name.size > 0 && u == NULL && !r->no_password
                                             : u != NULL && !u->no_password;
    if (base64_decode(r->hashed_password, BASE64_STANDARD, &hash) != 0 && stored)
        err = TV_NO_PASSWORD_USER; /* etcd's words for it */
    else if (kind == WIRE_RAFT_USER_ADD)
        err = auth_add_user(&a->auth, r->name, buf_slice(&hash), r->no_password, change);
    else
        err = auth_set_password(&a->auth, r->name, buf_slice(&hash), change);
    buf_fini(&hash);
    return err;
}

static int change(struct applier *a, uint32_t kind, const struct auth_request *r,
                  struct auth_change *ret)
{
    switch (kind) {
    case WIRE_RAFT_AUTH_ENABLE:
        return auth_enable(&a->auth, ret);
    case WIRE_RAFT_AUTH_DISABLE:
        auth_disable(&a->auth, ret);
        return 0;
    case WIRE_RAFT_USER_ADD:
    case WIRE_RAFT_USER_CHANGE_PASSWORD:
        return set_password(a, kind, r, ret);
    case WIRE_RAFT_USER_DELETE:
        return auth_delete_user(&a->auth, r->name, ret);
    case WIRE_RAFT_USER_GRANT_ROLE:
        return auth_grant_role(&a->auth, r->name, r->role, ret);
    case WIRE_RAFT_USER_REVOKE_ROLE:
        return auth_revoke_role(&a->auth, r->name, r->role, ret);
    case WIRE_RAFT_ROLE_ADD:
        return auth_add_role(&a->auth, r->name, ret);
    case WIRE_RAFT_ROLE_DELETE:
        return auth_delete_role(&a->auth, r->name, ret);
    case WIRE_RAFT_ROLE_GRANT_PERMISSION:
        return auth_grant_permission(&a->auth, r->name, r->has_permission ? &r->permission : NULL,
                                     ret);
    case WIRE_RAFT_ROLE_REVOKE_PERMISSION:
        return auth_revoke_permission(&a->auth, r->name, r->permission.key, r->permission.range_end,
                                      ret);
    }
    ASSERT(false);
    return 0;
}

static const char *title(uint32_t kind)
{
    switch (kind) {
    case WIRE_RAFT_AUTH_ENABLE:
        return "enabled authentication";
    case WIRE_RAFT_AUTH_DISABLE:
        return "disabled authentication";
    case WIRE_RAFT_USER_ADD:
        return "added a user";
    case WIRE_RAFT_USER_DELETE:
        return "deleted a user";
    case WIRE_RAFT_USER_CHANGE_PASSWORD:
        return "changed a password of a user";
    case WIRE_RAFT_USER_GRANT_ROLE:
        return "granted a role to a user";
    case WIRE_RAFT_USER_REVOKE_ROLE:
        return "revoked a role from a user";
    case WIRE_RAFT_ROLE_ADD:
        return "created a role";
    case WIRE_RAFT_ROLE_DELETE:
        return "deleted a role";
    case WIRE_RAFT_ROLE_GRANT_PERMISSION:
        return "granted a permission to a role";
    default:
        return "revoked a permission of a role";
    }
}

static bool only_asks(uint32_t kind)
{
    return kind == WIRE_RAFT_AUTH_STATUS || kind == WIRE_RAFT_USER_GET ||
           kind == WIRE_RAFT_ROLE_GET || kind == WIRE_RAFT_USER_LIST || kind == WIRE_RAFT_ROLE_LIST;
}

int applier__apply_auth(struct applier *a, const struct wire_raft_request *entry,
                        struct request *req)
{
    struct auth_request r;
    struct auth_change changed = {0};
    applier__must_decode(auth_request_decode(entry->kind, entry->body, &r));
    if (only_asks(entry->kind))
        return ask(a, entry, &r, req);
    if (entry->kind == WIRE_RAFT_AUTHENTICATE)
        return authenticate(a, &r, req);
    int err = change(a, entry->kind, &r, &changed);
    if (err != 0)
        return err;
    forget_tokens(a, entry->kind, r.name);
    persist_change(a, &changed);
    applier__answer_header(a, req);
    if (changed.state)
        log_info(title(entry->kind), LOG_SLICE("name", r.name), LOG_SLICE("role", r.role),
                 LOG_UINT("auth-revision", auth_revision(&a->auth)));
    return 0;
}
