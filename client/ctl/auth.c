/* auth, user and role. */
#include "commands.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char group[] = "Authentication commands";

/* One call, which waits for ever as etcdctl's do. */
static void call(struct ctl *c, const struct trivet_request *q, struct trivet_result *r)
{
    if (ctl_try(c, q, NULL, 0, r) != TRIVET_OK)
        ctl_fail_call(c, CTL_ERROR, r);
}

/* A call whose answer is nothing but its header. True: what is said of it remains to be printed. */
static bool change(struct ctl *c, const struct trivet_request *q)
{
    struct trivet_result r;
    call(c, q, &r);
    bool said = ctl_print_header(c, &r.header);
    trivet_result_clear(&r);
    return !said;
}

static void need(struct ctl *c, int count, const char *text)
{
    if (c->args_count != count)
        ctl_fail(c, CTL_BAD_ARGS, "%s", text);
}

static void names_doc(struct ctl *c, const struct trivet_result *r, const char *name)
{
    struct doc d;
    doc_init(&d);
    doc_header(&d, &r->header);
    doc_open_list(&d, name, 2);
    for (uint32_t i = 0; i < r->u.auth.names_count; i++)
        doc_text(&d, NULL, DOC_PLAIN, r->u.auth.names[i]);
    doc_close(&d);
    ctl_print_doc(c, &d);
    doc_fini(&d);
}

static void print_names(const struct trivet_result *r, const char *before, const char *after)
{
    for (uint32_t i = 0; i < r->u.auth.names_count; i++) {
        fputs(before, stdout);
        (void)fwrite(r->u.auth.names[i].data, 1, r->u.auth.names[i].size, stdout);
        fputs(after, stdout);
    }
}

/* --- auth --- */

/* The first role is root's own: it is made when it is all that is missing. */
static int run_enable(struct ctl *c)
{
    static const char no_role[] = "etcdserver: root user does not have root role";
    const struct trivet_request enable = {.method = TRIVET_AUTH_ENABLE};
    const struct trivet_request add = {.method = TRIVET_ROLE_ADD,
                                       .u.auth.role = trivet_str("root")};
    const struct trivet_request grant = {
        .method = TRIVET_USER_GRANT_ROLE,
        .u.auth = {.user = trivet_str("root"), .role = trivet_str("root")}};
    struct trivet_result r;
    need(c, 0, "auth enable command does not accept any arguments");
    while (ctl_try(c, &enable, NULL, c->command_timeout_ns, &r) != TRIVET_OK) {
        if (strcmp(r.error, no_role) != 0)
            ctl_fail_call(c, CTL_ERROR, &r);
        trivet_result_clear(&r);
        ctl_call(c, &add, &r);
        trivet_result_clear(&r);
        ctl_call(c, &grant, &r);
        trivet_result_clear(&r);
    }
    puts("Authentication Enabled");
    return CTL_OK;
}

static int run_disable(struct ctl *c)
{
    const struct trivet_request q = {.method = TRIVET_AUTH_DISABLE};
    struct trivet_result r;
    need(c, 0, "auth disable command does not accept any arguments");
    ctl_call(c, &q, &r);
    puts("Authentication Disabled");
    return CTL_OK;
}

static int run_status(struct ctl *c)
{
    const struct trivet_request q = {.method = TRIVET_AUTH_STATUS};
    struct trivet_result r;
    need(c, 0, "auth status command does not accept any arguments");
    ctl_call(c, &q, &r);
    if (c->format == CTL_TABLE || c->format == CTL_FIELDS)
        ctl_fail_format(c);
    if (ctl_is_doc(c)) {
        struct doc d;
        doc_init(&d);
        doc_header(&d, &r.header);
        doc_bool(&d, "enabled", 2, r.u.auth.enabled);
        doc_uint(&d, "authRevision", 3, r.u.auth.revision);
        ctl_print_doc(c, &d);
        doc_fini(&d);
    } else {
        printf("Authentication Status: %s\nAuthRevision: %" PRIu64 "\n",
               r.u.auth.enabled ? "true" : "false", r.u.auth.revision);
    }
    return CTL_OK;
}

static const struct ctl_command auth_subs[] = {
    {.name = "disable", .usage = "", .brief = "Lets everybody do everything", .run = run_disable},
    {.name = "enable", .usage = "", .brief = "Asks for users from now on", .run = run_enable},
    {.name = "status", .usage = "", .brief = "Whether users are asked for", .run = run_status},
    {NULL},
};

const struct ctl_command ctl_cmd_auth = {
    .name = "auth",
    .usage = "<enable or disable>",
    .brief = "Users and roles: in force or not",
    .group = group,
    .subs = auth_subs,
};

/* --- passwords --- */

static char *ask_twice(struct ctl *c, const char *user)
{
    char *first = ctl_ask_secret(ctl_sprintf("Password of %s: ", user));
    if (*first == '\0')
        ctl_fail(c, CTL_BAD_ARGS, "empty password");
    char *again = ctl_ask_secret(ctl_sprintf("Type password of %s again for confirmation: ", user));
    if (strcmp(first, again) != 0)
        ctl_fail(c, CTL_BAD_ARGS, "given passwords are different");
    return first;
}

static char *read_password(struct ctl *c, const char *user)
{
    char *word = NULL;
    if (ctl_bool(c, "interactive"))
        return ask_twice(c, user);
    return scanf("%ms", &word) == 1 ? word : ctl_copy(trivet_str(""));
}

/* --- user --- */

static void set_new_user(struct ctl *c, struct trivet_auth_request *q)
{
    const char *name = c->args[0], *colon = strchr(name, ':');
    const char *password = ctl_text(c, "new-user-password");
    q->user = trivet_str(name);
    q->no_password = ctl_bool(c, "no-password");
    if (q->no_password)
        return;
    if (*password != '\0') {
        q->password = trivet_str(password);
    } else if (colon == NULL) {
        q->password = trivet_str(read_password(c, name));
    } else {
        q->user = trivet_bytes(name, (size_t)(colon - name));
        q->password = trivet_str(colon + 1);
        if (q->user.size == 0)
            ctl_fail(c, CTL_BAD_ARGS, "empty user name is not allowed");
    }
}

static int run_user_add(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_USER_ADD};
    need(c, 1, "user add command requires user name as its argument");
    set_new_user(c, &q.u.auth);
    if (change(c, &q))
        printf("User %s created\n", ctl_copy(q.u.auth.user));
    return CTL_OK;
}

static int run_user_delete(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_USER_DELETE};
    need(c, 1, "user delete command requires user name as its argument");
    q.u.auth.user = trivet_str(c->args[0]);
    if (change(c, &q))
        printf("User %s deleted\n", c->args[0]);
    return CTL_OK;
}

static void print_role(struct ctl *c, const char *role, const struct trivet_result *r);

static void print_details(struct ctl *c, const struct trivet_result *r)
{
    printf("User: %s\n", c->args[0]);
    for (uint32_t i = 0; i < r->u.auth.names_count; i++) {
        struct trivet_request q = {.method = TRIVET_ROLE_GET, .u.auth.role = r->u.auth.names[i]};
        struct trivet_result role;
        putchar('\n');
        call(c, &q, &role);
        print_role(c, ctl_copy(q.u.auth.role), &role);
        trivet_result_clear(&role);
    }
}

static int run_user_get(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_USER_GET};
    struct trivet_result r;
    need(c, 1, "user get command requires user name as its argument");
    q.u.auth.user = trivet_str(c->args[0]);
    call(c, &q, &r);
    if (ctl_bool(c, "detail")) {
        print_details(c, &r);
        return CTL_OK;
    }
    if (c->format == CTL_TABLE || c->format == CTL_FIELDS)
        ctl_fail_format(c);
    if (ctl_is_doc(c)) {
        names_doc(c, &r, "roles");
        return CTL_OK;
    }
    printf("User: %s\nRoles:", c->args[0]);
    print_names(&r, " ", "");
    putchar('\n');
    return CTL_OK;
}

static int run_user_list(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_USER_LIST};
    struct trivet_result r;
    need(c, 0, "user list command requires no arguments");
    call(c, &q, &r);
    if (c->format == CTL_TABLE || c->format == CTL_FIELDS)
        ctl_fail_format(c);
    if (ctl_is_doc(c))
        names_doc(c, &r, "users");
    else
        print_names(&r, "", "\n");
    return CTL_OK;
}

static int run_user_passwd(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_USER_CHANGE_PASSWORD};
    need(c, 1, "user passwd command requires user name as its argument");
    q.u.auth.user = trivet_str(c->args[0]);
    q.u.auth.password = trivet_str(read_password(c, c->args[0]));
    if (change(c, &q))
        puts("Password updated");
    return CTL_OK;
}

static int run_user_grant(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_USER_GRANT_ROLE};
    need(c, 2, "user grant command requires user name and role name as its argument");
    q.u.auth.user = trivet_str(c->args[0]);
    q.u.auth.role = trivet_str(c->args[1]);
    if (change(c, &q))
        printf("Role %s is granted to user %s\n", c->args[1], c->args[0]);
    return CTL_OK;
}

static int run_user_revoke(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_USER_REVOKE_ROLE};
    need(c, 2, "user revoke-role requires user name and role name as its argument");
    q.u.auth.user = trivet_str(c->args[0]);
    q.u.auth.role = trivet_str(c->args[1]);
    if (change(c, &q))
        printf("Role %s is revoked from user %s\n", c->args[1], c->args[0]);
    return CTL_OK;
}

static const struct ctl_flag add_flags[] = {
    {"interactive", 0, CTL_BOOL, "true",
     "ask for the password; =false: one word of standard input"},
    {"new-user-password", 0, CTL_STRING, NULL, "the password"},
    {"no-password", 0, CTL_BOOL, NULL, "a user who has none and comes by certificates alone"},
    {NULL},
};

static const struct ctl_flag get_flags[] = {
    {"detail", 0, CTL_BOOL, NULL, "what its roles may as well"},
    {NULL},
};

static const struct ctl_flag passwd_flags[] = {
    {"interactive", 0, CTL_BOOL, "true",
     "ask for the password; =false: one word of standard input"},
    {NULL},
};

static const struct ctl_command user_subs[] = {
    {.name = "add",
     .usage = "<user name or user:password> [options]",
     .brief = "Adds a user",
     .flags = add_flags,
     .run = run_user_add},
    {.name = "delete", .usage = "<user name>", .brief = "Deletes a user", .run = run_user_delete},
    {.name = "get",
     .usage = "<user name> [options]",
     .brief = "Which roles a user has",
     .flags = get_flags,
     .run = run_user_get},
    {.name = "grant-role",
     .usage = "<user name> <role name>",
     .brief = "Gives a role to a user",
     .run = run_user_grant},
    {.name = "list", .usage = "", .brief = "All users", .run = run_user_list},
    {.name = "passwd",
     .usage = "<user name> [options]",
     .brief = "Changes a user's password",
     .flags = passwd_flags,
     .run = run_user_passwd},
    {.name = "revoke-role",
     .usage = "<user name> <role name>",
     .brief = "Takes a role from a user",
     .run = run_user_revoke},
    {NULL},
};

const struct ctl_command ctl_cmd_user = {
    .name = "user",
    .usage = "<subcommand>",
    .brief = "Users: added, listed, their passwords and roles",
    .group = group,
    .subs = user_subs,
};

/* --- role --- */

static bool same(struct trivet_bytes a, struct trivet_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void print_permission(const struct trivet_permission *p)
{
    char *key = ctl_copy(p->key), *end = ctl_copy(p->range_end);
    if (p->range_end.size == 0) {
        printf("\t%s\n", key);
        return;
    }
    if (p->range_end.size == 1 && end[0] == '\0')
        printf("\t[%s, <open ended>", key);
    else
        printf("\t[%s, %s)", key, end);
    if (p->key.size > 0 && same(ctl_prefix_end(p->key), p->range_end))
        printf(" (prefix %s)", key);
    putchar('\n');
}

static void print_role_simple(const char *role, const struct trivet_auth_result *r)
{
    bool all = strcmp(role, "root") == 0 && r->permissions_count == 0;
    printf("Role %s\n", role);
    for (int write = 0; write < 2; write++) {
        int32_t other = write ? TRIVET_PERMISSION_READ : TRIVET_PERMISSION_WRITE;
        puts(write ? "KV Write:" : "KV Read:");
        if (all)
            puts("\t[, <open ended>");
        for (uint32_t i = 0; i < r->permissions_count; i++) {
            if (r->permissions[i].type != other)
                print_permission(&r->permissions[i]);
        }
    }
}

static void print_role_fields(struct ctl *c, const struct trivet_result *r)
{
    static const char *const types[] = {"READ", "WRITE", "READWRITE"};
    ctl_field_header(c, &r->header);
    for (uint32_t i = 0; i < r->u.auth.permissions_count; i++) {
        const struct trivet_permission *p = &r->u.auth.permissions[i];
        printf("\"PermType\" :  %s\n", p->type >= 0 && p->type < 3 ? types[p->type] : "");
        ctl_field_text("Key", p->key);
        ctl_field_text("RangeEnd", p->range_end);
    }
}

static void print_role_doc(struct ctl *c, const struct trivet_result *r)
{
    struct doc d;
    doc_init(&d);
    doc_header(&d, &r->header);
    doc_open_list(&d, "perm", 2);
    for (uint32_t i = 0; i < r->u.auth.permissions_count; i++) {
        const struct trivet_permission *p = &r->u.auth.permissions[i];
        doc_open(&d, NULL, 2);
        doc_int(&d, "permType", 1, p->type);
        doc_bytes(&d, "key", 2, p->key);
        doc_bytes(&d, "range_end", 3, p->range_end);
        doc_close(&d);
    }
    doc_close(&d);
    ctl_print_doc(c, &d);
    doc_fini(&d);
}

static void print_role(struct ctl *c, const char *role, const struct trivet_result *r)
{
    if (c->format == CTL_TABLE)
        ctl_fail_format(c);
    if (ctl_is_doc(c))
        print_role_doc(c, r);
    else if (c->format == CTL_FIELDS)
        print_role_fields(c, r);
    else
        print_role_simple(role, &r->u.auth);
}

static int run_role_add(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_ROLE_ADD};
    need(c, 1, "role add command requires role name as its argument");
    q.u.auth.role = trivet_str(c->args[0]);
    if (change(c, &q))
        printf("Role %s created\n", c->args[0]);
    return CTL_OK;
}

static int run_role_delete(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_ROLE_DELETE};
    need(c, 1, "role delete command requires role name as its argument");
    q.u.auth.role = trivet_str(c->args[0]);
    if (change(c, &q))
        printf("Role %s deleted\n", c->args[0]);
    return CTL_OK;
}

static int run_role_get(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_ROLE_GET};
    struct trivet_result r;
    need(c, 1, "role get command requires role name as its argument");
    q.u.auth.role = trivet_str(c->args[0]);
    call(c, &q, &r);
    print_role(c, c->args[0], &r);
    return CTL_OK;
}

static int run_role_list(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_ROLE_LIST};
    struct trivet_result r;
    need(c, 0, "role list command requires no arguments");
    call(c, &q, &r);
    if (c->format == CTL_TABLE)
        ctl_fail_format(c);
    if (ctl_is_doc(c)) {
        names_doc(c, &r, "roles");
    } else if (c->format == CTL_FIELDS) {
        ctl_field_header(c, &r.header);
        fputs("\"Roles\" :", stdout);
        for (uint32_t i = 0; i < r.u.auth.names_count; i++)
            printf(" %s", ctl_quoted(r.u.auth.names[i]));
        putchar('\n');
    } else {
        print_names(&r, "", "\n");
    }
    return CTL_OK;
}

/* Key and end of a permission, from what stands behind the role and the flags. */
static void set_range(struct ctl *c, char **args, int count, struct trivet_auth_request *q)
{
    static const struct trivet_bytes zero = {"\0", 1};
    bool prefix = ctl_bool(c, "prefix"), from_key = ctl_bool(c, "from-key");
    bool whole = args[0][0] == '\0';
    if (prefix && from_key && (whole || count == 1))
        ctl_fail(c, CTL_BAD_ARGS, "--from-key and --prefix flags are mutually exclusive");
    q->key = whole ? zero : trivet_str(args[0]);
    if (whole && (prefix || from_key))
        q->range_end = zero;
    if (whole)
        return;
    if (count > 1 && (prefix || from_key))
        ctl_fail(c, CTL_BAD_ARGS, "unexpected endkey argument with --%s flag",
                 prefix ? "prefix" : "from-key");
    if (count > 1)
        q->range_end = trivet_str(args[1]);
    else if (prefix)
        q->range_end = ctl_prefix_end(q->key);
    else if (from_key)
        q->range_end = zero;
}

static int run_role_grant(struct ctl *c)
{
    static const char *const types[] = {"read", "write", "readwrite"};
    struct trivet_request q = {.method = TRIVET_ROLE_GRANT, .u.auth.permission = -1};
    if (c->args_count < 3)
        ctl_fail(c, CTL_BAD_ARGS,
                 "role grant command requires role name, permission type, and key [endkey] as its "
                 "argument");
    for (int i = 0; i < 3; i++) {
        if (strcasecmp(c->args[1], types[i]) == 0)
            q.u.auth.permission = i;
    }
    if (q.u.auth.permission < 0)
        ctl_fail(c, CTL_BAD_ARGS, "invalid permission type: %s", c->args[1]);
    q.u.auth.role = trivet_str(c->args[0]);
    set_range(c, c->args + 2, c->args_count - 2, &q.u.auth);
    if (change(c, &q))
        printf("Role %s updated\n", c->args[0]);
    return CTL_OK;
}

static int run_role_revoke(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_ROLE_REVOKE};
    if (c->args_count < 2)
        ctl_fail(c, CTL_BAD_ARGS,
                 "role revoke-permission command requires role name and key [endkey] as its "
                 "argument");
    q.u.auth.role = trivet_str(c->args[0]);
    set_range(c, c->args + 1, c->args_count - 1, &q.u.auth);
    if (!change(c, &q))
        return CTL_OK;
    char *end = ctl_copy(q.u.auth.range_end);
    if (q.u.auth.range_end.size == 0)
        printf("Permission of key %s is revoked from role %s\n", c->args[1], c->args[0]);
    else if (*end == '\0')
        printf("Permission of range [%s, <open ended> is revoked from role %s\n", c->args[1],
               c->args[0]);
    else
        printf("Permission of range [%s, %s) is revoked from role %s\n", c->args[1], end,
               c->args[0]);
    return CTL_OK;
}

static const struct ctl_flag grant_flags[] = {
    {"prefix", 0, CTL_BOOL, NULL, "all keys that begin with the key"},
    {"from-key", 0, CTL_BOOL, NULL, "all keys from the key on, in the order of bytes"},
    {NULL},
};

static const struct ctl_command role_subs[] = {
    {.name = "add", .usage = "<role name>", .brief = "Adds a role", .run = run_role_add},
    {.name = "delete", .usage = "<role name>", .brief = "Deletes a role", .run = run_role_delete},
    {.name = "get", .usage = "<role name>", .brief = "What a role may", .run = run_role_get},
    {.name = "grant-permission",
     .usage = "[options] <role name> <permission type> <key> [endkey]",
     .brief = "Lets a role read, write or readwrite keys",
     .flags = grant_flags,
     .run = run_role_grant},
    {.name = "list", .usage = "", .brief = "All roles", .run = run_role_list},
    {.name = "revoke-permission",
     .usage = "<role name> <key> [endkey]",
     .brief = "Takes keys from a role",
     .flags = grant_flags,
     .run = run_role_revoke},
    {NULL},
};

const struct ctl_command ctl_cmd_role = {
    .name = "role",
    .usage = "<subcommand>",
    .brief = "Roles: added, listed, and what they may",
    .group = group,
    .subs = role_subs,
};
