/* lease: grant, revoke, timetolive, list, keep-alive. */
#include "commands.h"

#include "base/mem.h"

#include <inttypes.h>
#include <time.h>

enum { RETRY_MS = 500, MS_PER_SECOND = 1000, NS_PER_MS = 1000000 };

static int64_t lease_of(struct ctl *c, const char *text)
{
    int64_t id;
    const char *why = ctl_parse_int(text, 16, &id);
    if (why != NULL)
        ctl_fail(c, CTL_BAD_ARGS, "bad lease ID arg (%s), expecting ID in Hex", why);
    return id;
}

/* A lease's answer has the header's fields in itself. */
static void begin_doc(struct doc *d, const struct trivet_header *h)
{
    doc_init(d);
    doc_uint(d, "cluster_id", 1, h->cluster_id);
    doc_uint(d, "member_id", 2, h->member_id);
    doc_int(d, "revision", 3, h->revision);
    doc_uint(d, "raft_term", 4, h->raft_term);
}

static void end_doc(struct ctl *c, struct doc *d)
{
    ctl_print_doc(c, d);
    doc_fini(d);
}

static void field_lease(const struct ctl *c, int64_t id)
{
    printf(c->hex ? "\"ID\" : %016" PRIx64 "\n" : "\"ID\" : %" PRId64 "\n", id);
}

/* What a grant and a renewal say, but for the words. */
static void print_lease(struct ctl *c, const struct trivet_result *r, bool granted)
{
    const struct trivet_lease_result *l = &r->u.lease;
    struct doc d;
    if (c->format == CTL_SIMPLE) {
        printf("lease %016" PRIx64 " %s with TTL(%" PRId64 "%s)\n", l->id,
               granted ? "granted" : "keepalived", l->ttl, granted ? "s" : "");
    } else if (c->format == CTL_FIELDS) {
        ctl_field_header(c, &r->header);
        field_lease(c, l->id);
        ctl_field_int("TTL", l->ttl);
    } else if (c->format == CTL_TABLE) {
        ctl_fail_format(c);
    } else {
        begin_doc(&d, &r->header);
        doc_int(&d, "ID", DOC_PLAIN, l->id);
        doc_int(&d, "TTL", DOC_PLAIN, l->ttl);
        if (granted)
            doc_string(&d, "Error", DOC_PLAIN, "");
        end_doc(c, &d);
    }
    fflush(stdout);
}

/* --- grant --- */

static int run_grant(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_LEASE_GRANT};
    struct trivet_result r;
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "lease grant command needs TTL argument");
    const char *why = ctl_parse_int(c->args[0], 10, &q.u.lease.ttl);
    if (why != NULL)
        ctl_fail(c, CTL_BAD_ARGS, "bad TTL (%s)", why);
    if (ctl_try(c, &q, NULL, c->command_timeout_ns, &r) != TRIVET_OK)
        ctl_fail(c, ctl_status_of(c, &r, CTL_ERROR), "failed to grant lease (%s)", ctl_error(&r));
    print_lease(c, &r, true);
    trivet_result_clear(&r);
    return CTL_OK;
}

/* --- revoke --- */

static int run_revoke(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_LEASE_REVOKE};
    struct trivet_result r;
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "lease revoke command needs 1 argument");
    q.u.lease.id = lease_of(c, c->args[0]);
    if (ctl_try(c, &q, NULL, c->command_timeout_ns, &r) != TRIVET_OK)
        ctl_fail(c, ctl_status_of(c, &r, CTL_ERROR), "failed to revoke lease (%s)", ctl_error(&r));
    if (!ctl_print_header(c, &r.header))
        printf("lease %016" PRIx64 " revoked\n", q.u.lease.id);
    trivet_result_clear(&r);
    return CTL_OK;
}

/* --- timetolive --- */

static void print_ttl_simple(const struct trivet_lease_result *l, bool keys)
{
    if (l->granted_ttl == 0 && l->ttl == -1) {
        printf("lease %016" PRIx64 " already expired\n", l->id);
        return;
    }
    printf("lease %016" PRIx64 " granted with TTL(%" PRId64 "s), remaining(%" PRId64 "s)", l->id,
           l->granted_ttl, l->ttl);
    if (keys) {
        fputs(", attached keys([", stdout);
        for (uint32_t i = 0; i < l->keys_count; i++) {
            fputs(i > 0 ? " " : "", stdout);
            (void)fwrite(l->keys[i].data, 1, l->keys[i].size, stdout);
        }
        fputs("])", stdout);
    }
    putchar('\n');
}

static void print_ttl_fields(struct ctl *c, const struct trivet_result *r)
{
    const struct trivet_lease_result *l = &r->u.lease;
    ctl_field_header(c, &r->header);
    field_lease(c, l->id);
    ctl_field_int("TTL", l->ttl);
    ctl_field_int("GrantedTTL", l->granted_ttl);
    for (uint32_t i = 0; i < l->keys_count; i++)
        ctl_field_text("Key", l->keys[i]);
}

static void print_ttl_doc(struct ctl *c, const struct trivet_result *r)
{
    const struct trivet_lease_result *l = &r->u.lease;
    struct doc d;
    begin_doc(&d, &r->header);
    doc_int(&d, "id", DOC_PLAIN, l->id);
    doc_int(&d, "ttl", DOC_PLAIN, l->ttl);
    doc_int(&d, "granted-ttl", DOC_PLAIN, l->granted_ttl);
    if (l->keys_count == 0) {
        doc_null(&d, "keys");
    } else {
        doc_open_list(&d, "keys", DOC_PLAIN);
        for (uint32_t i = 0; i < l->keys_count; i++)
            doc_bytes(&d, NULL, DOC_PLAIN, l->keys[i]);
        doc_close(&d);
    }
    end_doc(c, &d);
}

static int run_timetolive(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_LEASE_TTL, .u.lease.keys = ctl_bool(c, "keys")};
    struct trivet_result r;
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "lease timetolive command needs lease ID as argument");
    q.u.lease.id = lease_of(c, c->args[0]);
    if (ctl_try(c, &q, NULL, 0, &r) != TRIVET_OK)
        ctl_fail_call(c, CTL_BAD_CONNECTION, &r);
    if (c->format == CTL_SIMPLE)
        print_ttl_simple(&r.u.lease, q.u.lease.keys);
    else if (c->format == CTL_FIELDS)
        print_ttl_fields(c, &r);
    else if (c->format == CTL_TABLE)
        ctl_fail_format(c);
    else
        print_ttl_doc(c, &r);
    trivet_result_clear(&r);
    return CTL_OK;
}

/* --- list --- */

static void print_list_doc(struct ctl *c, const struct trivet_result *r)
{
    struct doc d;
    begin_doc(&d, &r->header);
    doc_open_list(&d, "leases", DOC_PLAIN);
    for (uint32_t i = 0; i < r->u.lease.ids_count; i++) {
        doc_open(&d, NULL, DOC_PLAIN);
        doc_int(&d, "id", DOC_PLAIN, r->u.lease.ids[i]);
        doc_close(&d);
    }
    doc_close(&d);
    end_doc(c, &d);
}

static int run_list(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_LEASE_LIST};
    struct trivet_result r;
    if (ctl_try(c, &q, NULL, 0, &r) != TRIVET_OK)
        ctl_fail_call(c, CTL_BAD_CONNECTION, &r);
    if (c->format == CTL_TABLE)
        ctl_fail_format(c);
    if (ctl_is_doc(c)) {
        print_list_doc(c, &r);
        trivet_result_clear(&r);
        return CTL_OK;
    }
    if (c->format == CTL_SIMPLE)
        printf("found %u leases\n", r.u.lease.ids_count);
    else
        ctl_field_header(c, &r.header);
    for (uint32_t i = 0; i < r.u.lease.ids_count; i++) {
        if (c->format == CTL_SIMPLE)
            printf("%016" PRIx64 "\n", r.u.lease.ids[i]);
        else
            field_lease(c, r.u.lease.ids[i]);
    }
    trivet_result_clear(&r);
    return CTL_OK;
}

/* --- keep-alive --- */

static void sleep_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / MS_PER_SECOND, .tv_nsec = ms % MS_PER_SECOND * NS_PER_MS};
    while (nanosleep(&t, &t) != 0)
        ;
}

/* Three times in its TTL, until it is lost. */
static void keep(struct ctl *c, const struct trivet_request *q)
{
    int64_t left_ms = INT64_MAX, ttl_ms = 0;
    while (left_ms > 0) {
        struct trivet_result r;
        uint64_t timeout_ns = ttl_ms == 0 ? 0 : (uint64_t)left_ms * NS_PER_MS;
        if (ctl_try(c, q, NULL, timeout_ns, &r) == TRIVET_OK) {
            if (r.u.lease.ttl <= 0)
                break;
            print_lease(c, &r, false);
            ttl_ms = r.u.lease.ttl * MS_PER_SECOND;
            left_ms = ttl_ms - ttl_ms / 3;
            trivet_result_clear(&r);
            sleep_ms(ttl_ms / 3);
            continue;
        }
        if (r.status == TRIVET_REFUSED)
            ctl_fail_call(c, CTL_BAD_CONNECTION, &r);
        trivet_result_clear(&r);
        left_ms -= RETRY_MS;
        sleep_ms(RETRY_MS);
    }
    if (c->format == CTL_SIMPLE)
        printf("lease %016" PRIx64 " expired or revoked.\n", q->u.lease.id);
}

static int run_keep_alive(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_LEASE_KEEPALIVE};
    struct trivet_result r;
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "lease keep-alive command needs lease ID as argument");
    q.u.lease.id = lease_of(c, c->args[0]);
    if (!ctl_bool(c, "once")) {
        keep(c, &q);
        return CTL_OK;
    }
    if (ctl_try(c, &q, NULL, 0, &r) != TRIVET_OK)
        ctl_fail_call(c, CTL_BAD_CONNECTION, &r);
    if (r.u.lease.ttl <= 0)
        ctl_fail(c, CTL_BAD_CONNECTION, "etcdserver: requested lease not found");
    print_lease(c, &r, false);
    trivet_result_clear(&r);
    return CTL_OK;
}

static const struct ctl_flag timetolive_flags[] = {
    {"keys", 0, CTL_BOOL, NULL, "the keys that it holds as well"},
    {NULL},
};

static const struct ctl_flag keep_alive_flags[] = {
    {"once", 0, CTL_BOOL, NULL, "once, and not for ever"},
    {NULL},
};

static const struct ctl_command lease_subs[] = {
    {.name = "grant",
     .usage = "<ttl>",
     .brief = "Makes a lease of so many seconds",
     .run = run_grant},
    {.name = "keep-alive",
     .usage = "[options] <leaseID>",
     .brief = "Renews a lease again and again",
     .flags = keep_alive_flags,
     .run = run_keep_alive},
    {.name = "list", .usage = "", .brief = "All leases that there are", .run = run_list},
    {.name = "revoke",
     .usage = "<leaseID>",
     .brief = "Ends a lease and deletes its keys",
     .run = run_revoke},
    {.name = "timetolive",
     .usage = "<leaseID> [options]",
     .brief = "How long a lease has still to live",
     .flags = timetolive_flags,
     .run = run_timetolive},
    {NULL},
};

const struct ctl_command ctl_cmd_lease = {
    .name = "lease",
    .usage = "<subcommand>",
    .brief = "Leases: made, renewed, looked at, ended",
    .group = "Key-value commands",
    .subs = lease_subs,
};
