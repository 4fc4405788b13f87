/* member: add, remove, update, list, promote. */
#include "commands.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

/* --- printing --- */

static void urls_doc(struct doc *d, const char *name, int number, const struct trivet_bytes *urls,
                     uint32_t count)
{
    doc_open_list(d, name, number);
    for (uint32_t i = 0; i < count; i++)
        doc_text(d, NULL, DOC_PLAIN, urls[i]);
    doc_close(d);
}

static void member_doc(struct doc *d, const char *name, int number, const struct trivet_member *m)
{
    doc_open(d, name, number);
    doc_id(d, "ID", 1, m->id);
    doc_text(d, "name", 2, m->name);
    urls_doc(d, "peerURLs", 3, m->peer_urls, m->peer_urls_count);
    urls_doc(d, "clientURLs", 4, m->client_urls, m->client_urls_count);
    doc_bool(d, "isLearner", 5, m->is_learner);
    doc_close(d);
}

static void print_doc(struct ctl *c, const struct trivet_result *r)
{
    const struct trivet_member_result *all = &r->u.member;
    bool added = r->method == TRIVET_MEMBER_ADD;
    int number = added ? 3 : 2;
    struct doc d;
    doc_init(&d);
    d.hex = c->hex && c->format != CTL_PROTOBUF;
    doc_header(&d, &r->header);
    if (added)
        member_doc(&d, "member", 2, &all->member);
    doc_open_list(&d, "members", number);
    for (uint32_t i = 0; i < all->members_count; i++)
        member_doc(&d, NULL, number, &all->members[i]);
    doc_close(&d);
    ctl_print_doc(c, &d);
    doc_fini(&d);
}

static char *joined(const struct trivet_bytes *texts, uint32_t count)
{
    char *all = ctl_copy(trivet_str(""));
    for (uint32_t i = 0; i < count; i++)
        all = ctl_sprintf("%s%s%s", all, i > 0 ? "," : "", ctl_copy(texts[i]));
    return all;
}

enum { LIST_COLUMNS = 6 };

static void list_row(const struct trivet_member *m, const char **cells)
{
    cells[0] = ctl_sprintf("%" PRIx64, m->id);
    cells[1] = m->name.size > 0 ? "started" : "unstarted";
    cells[2] = ctl_copy(m->name);
    cells[3] = joined(m->peer_urls, m->peer_urls_count);
    cells[4] = joined(m->client_urls, m->client_urls_count);
    cells[5] = m->is_learner ? "true" : "false";
}

static void print_list_fields(struct ctl *c, const struct trivet_result *r)
{
    ctl_field_header(c, &r->header);
    for (uint32_t i = 0; i < r->u.member.members_count; i++) {
        const struct trivet_member *m = &r->u.member.members[i];
        ctl_field_id(c, "ID", m->id);
        ctl_field_text("Name", m->name);
        for (uint32_t j = 0; j < m->peer_urls_count; j++)
            ctl_field_text("PeerURL", m->peer_urls[j]);
        for (uint32_t j = 0; j < m->client_urls_count; j++)
            ctl_field_text("ClientURL", m->client_urls[j]);
        ctl_field_bool("IsLearner", m->is_learner);
        putchar('\n');
    }
}

static void print_list(struct ctl *c, const struct trivet_result *r)
{
    static const char *const heads[LIST_COLUMNS] = {"ID",         "Status",       "Name",
                                                    "Peer Addrs", "Client Addrs", "Is Learner"};
    uint32_t count = r->u.member.members_count;
    if (ctl_is_doc(c)) {
        print_doc(c, r);
        return;
    }
    if (c->format == CTL_FIELDS) {
        print_list_fields(c, r);
        return;
    }
    const char **cells = mem_alloc((count + 1) * LIST_COLUMNS * sizeof(cells[0]));
    for (uint32_t i = 0; i < count; i++)
        list_row(&r->u.member.members[i], cells + i * LIST_COLUMNS);
    if (c->format == CTL_TABLE)
        ctl_print_table(heads, LIST_COLUMNS, cells, count);
    for (uint32_t i = 0; i < count * LIST_COLUMNS && c->format == CTL_SIMPLE; i++)
        printf(i % LIST_COLUMNS == LIST_COLUMNS - 1 ? "%s\n" : "%s, ", cells[i]);
    mem_free(cells);
}

/* Of a change: its members as a document; fields and tables have none. False: simple. */
static bool print_change(struct ctl *c, const struct trivet_result *r)
{
    if (c->format == CTL_TABLE || c->format == CTL_FIELDS)
        ctl_fail_format(c);
    if (ctl_is_doc(c))
        print_doc(c, r);
    return ctl_is_doc(c);
}

/* --- arguments --- */

static struct trivet_bytes *split_urls(const char *text, uint32_t *ret_count)
{
    struct trivet_bytes *urls = mem_alloc((strlen(text) + 1) * sizeof(urls[0]));
    *ret_count = 0;
    for (;;) {
        size_t size = strcspn(text, ",");
        urls[(*ret_count)++] = trivet_bytes(text, size);
        if (text[size] == '\0')
            return urls;
        text += size + 1;
    }
}

/* What etcd's client checks before it asks (its package types): scheme, host:port, no path. */
static void check_url(struct ctl *c, const char *url)
{
    static const char *const schemes[] = {"http://", "https://", "unix://", "unixs://"};
    size_t size = 0, known = 0;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(url, schemes[i], strlen(schemes[i])) == 0) {
            size = strlen(schemes[i]);
            known = i;
        }
    }
    if (size == 0)
        ctl_fail(c, CTL_ERROR, "URL scheme must be http, https, unix, or unixs: %s", url);
    const char *host = url + size, *path = strchr(host, '/');
    size_t host_size = path != NULL ? (size_t)(path - host) : strlen(host);
    if (known >= 2)
        return;
    const char *colon = memrchr(host, ':', host_size);
    if (colon == NULL || (host[0] == '[' && colon[-1] != ']'))
        ctl_fail(c, CTL_ERROR, "URL address does not have the form \"host:port\": %s", url);
    if (path != NULL)
        ctl_fail(c, CTL_ERROR, "URL must not contain a path: %s", url);
}

static void set_peer_urls(struct ctl *c, struct trivet_request *q)
{
    const char *text = ctl_text(c, "peer-urls");
    if (*text == '\0')
        ctl_fail(c, CTL_BAD_ARGS, "member peer urls not provided");
    q->u.member.peer_urls = split_urls(text, &q->u.member.peer_urls_count);
    for (uint32_t i = 0; i < q->u.member.peer_urls_count; i++)
        check_url(c, ctl_copy(q->u.member.peer_urls[i]));
}

static uint64_t member_of(struct ctl *c)
{
    uint64_t id;
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "member ID is not provided");
    const char *why = ctl_parse_uint(c->args[0], 16, &id);
    if (why != NULL)
        ctl_fail(c, CTL_BAD_ARGS, "bad member ID arg (%s), expecting ID in Hex", why);
    return id;
}

/* --- commands --- */

/* What the new member is to be started with. */
static void print_environment(struct ctl *c, const struct trivet_member_result *r)
{
    const char *name = c->args[0];
    char *all = ctl_copy(trivet_str(""));
    for (uint32_t i = 0; i < r->members_count; i++) {
        const struct trivet_member *m = &r->members[i];
        for (uint32_t j = 0; j < m->peer_urls_count; j++)
            all = ctl_sprintf("%s%s%s=%s", all, *all == '\0' ? "" : ",",
                              m->id == r->member.id ? name : ctl_copy(m->name),
                              ctl_copy(m->peer_urls[j]));
    }
    printf("\nETCD_NAME=%s\nETCD_INITIAL_CLUSTER=%s\nETCD_INITIAL_ADVERTISE_PEER_URLS=%s\n"
           "ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
           ctl_quoted(trivet_str(name)), ctl_quoted(trivet_str(all)),
           ctl_quoted(trivet_str(ctl_text(c, "peer-urls"))));
}

static int run_add(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_MEMBER_ADD,
                               .u.member.is_learner = ctl_bool(c, "learner")};
    struct trivet_result r;
    if (c->args_count < 1)
        ctl_fail(c, CTL_BAD_ARGS, "member name not provided");
    if (c->args_count > 1) {
        char *hint = ctl_copy(trivet_str(""));
        for (int i = 0; i < c->args_count; i++) {
            if (strncasecmp(c->args[i], "http", 4) == 0)
                hint = ctl_sprintf("%s, did you mean --peer-urls=%s", hint, c->args[i]);
        }
        ctl_fail(c, CTL_BAD_ARGS, "too many arguments%s", hint);
    }
    set_peer_urls(c, &q);
    ctl_call(c, &q, &r);
    if (!print_change(c, &r)) {
        printf("Member %16" PRIx64 " added%sto cluster %16" PRIx64 "\n", r.u.member.member.id,
               r.u.member.member.is_learner ? " as learner " : " ", r.header.cluster_id);
        print_environment(c, &r.u.member);
    }
    trivet_result_clear(&r);
    return CTL_OK;
}

static int change(struct ctl *c, struct trivet_request *q, const char *done)
{
    struct trivet_result r;
    ctl_call(c, q, &r);
    if (!print_change(c, &r))
        printf("Member %16" PRIx64 " %s cluster %16" PRIx64 "\n", q->u.member.id, done,
               r.header.cluster_id);
    trivet_result_clear(&r);
    return CTL_OK;
}

static int run_remove(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_MEMBER_REMOVE, .u.member.id = member_of(c)};
    return change(c, &q, "removed from");
}

static int run_update(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_MEMBER_UPDATE, .u.member.id = member_of(c)};
    set_peer_urls(c, &q);
    return change(c, &q, "updated in");
}

static int run_promote(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_MEMBER_PROMOTE, .u.member.id = member_of(c)};
    return change(c, &q, "promoted in");
}

static int run_list(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_MEMBER_LIST};
    struct trivet_result r;
    q.u.member.linearizable = !ctl_serializable(c, ctl_text(c, "consistency"));
    ctl_call(c, &q, &r);
    print_list(c, &r);
    trivet_result_clear(&r);
    return CTL_OK;
}

static const struct ctl_flag add_flags[] = {
    {"peer-urls", 0, CTL_STRING, NULL,
     "where the others reach the new member, with commas between"},
    {"learner", 0, CTL_BOOL, NULL, "a learner, which does not vote"},
    {NULL},
};

static const struct ctl_flag update_flags[] = {
    {"peer-urls", 0, CTL_STRING, NULL, "where the others reach the member, with commas between"},
    {NULL},
};

static const struct ctl_flag list_flags[] = {
    {"consistency", 0, CTL_STRING, "l", "linearizable (l), or serializable (s): perhaps stale",
     .words = "l s"},
    {NULL},
};

static const struct ctl_command subs[] = {
    {.name = "add",
     .usage = "<memberName> [options]",
     .brief = "Adds a member to the cluster",
     .flags = add_flags,
     .run = run_add},
    {.name = "list",
     .usage = "",
     .brief = "All members",
     .help =
         "All members. With the format simple a line for each: id, whether it ever started, name,\n"
         "peer addresses, client addresses, whether it is a learner.",
     .flags = list_flags,
     .run = run_list},
    {.name = "promote",
     .usage = "<memberID>",
     .brief = "Makes a learner a voter",
     .run = run_promote},
    {.name = "remove", .usage = "<memberID>", .brief = "Removes a member", .run = run_remove},
    {.name = "update",
     .usage = "<memberID> [options]",
     .brief = "Changes a member's peer addresses",
     .flags = update_flags,
     .run = run_update},
    {NULL},
};

const struct ctl_command ctl_cmd_member = {
    .name = "member",
    .usage = "<subcommand>",
    .brief = "Members: added, removed, listed, promoted",
    .group = "Cluster maintenance commands",
    .subs = subs,
};
