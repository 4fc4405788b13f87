#include "copy.h"

#include "base/mem.h"
#include "base/rng.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PREFIX_BYTES_MAX = 1024, ENDPOINTS_MAX = 32 };

volatile sig_atomic_t copy_stopped;

static const struct ctl_flag flags[] = {
    {.name = "prefix",
     .type = CTL_STRING,
     .help = "the keys to copy begin with this; all, when empty"},
    {.name = "dest-prefix",
     .type = CTL_STRING,
     .help = "what takes the place of --prefix at the destination; may be empty"},
    {.name = "delete",
     .type = CTL_BOOL,
     .help = "delete keys (under --dest-prefix) that the source does not have"},
    {.name = "with-leases",
     .type = CTL_BOOL,
     .help = "keys have their leases, which are made here with their IDs and TTLs, and kept while "
             "the source has them"},
    {.name = "once",
     .type = CTL_BOOL,
     .help = "end when all up to the source's present revision is copied"},
    {.name = "verify",
     .type = CTL_BOOL,
     .help =
         "at the end (also by a signal) compare both, key by key; 1 is returned when they differ"},
    {.name = "state-key",
     .type = CTL_STRING,
     .preset = "trivetctl/copy",
     .help = "key of the destination that says how far the copy is, for going on later; "
             "empty: none"},
    {.name = "restart", .type = CTL_BOOL, .help = "begin anew, whatever the state says"},
    {.name = "forget", .type = CTL_BOOL, .help = "delete the state key at the end"},
    {.name = "source-cacert", .type = CTL_STRING, .help = "CA certificate of the source"},
    {.name = "source-cert", .type = CTL_STRING, .help = "certificate to show to the source"},
    {.name = "source-key", .type = CTL_STRING, .help = "its key"},
    {.name = "source-insecure-skip-tls-verify",
     .type = CTL_BOOL,
     .help = "do not verify the source's certificates"},
    {.name = "source-user", .type = CTL_STRING, .help = "user[:password] at the source"},
    {.name = "source-password", .type = CTL_STRING, .help = "his password"},
    {NULL},
};

static void on_signal(int number)
{
    (void)number;
    if (copy_stopped)
        _exit(CTL_INTERRUPTED); /* the second one means it */
    copy_stopped = 1;
}

static const char *or_null(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

static void open_source(struct copy *x)
{
    struct ctl *c = x->c;
    const char *list[ENDPOINTS_MAX];
    struct trivet_options o;
    trivet_options_init(&o);
    o.endpoints = list;
    for (const char *at = c->args[0]; *at != '\0' && o.endpoints_count < ENDPOINTS_MAX;) {
        int size = (int)strcspn(at, ",");
        list[o.endpoints_count++] = ctl_sprintf("%.*s", size, at);
        at += size + (at[size] == ',');
    }
    o.ca_file = or_null(ctl_text(c, "source-cacert"));
    o.cert_file = or_null(ctl_text(c, "source-cert"));
    o.key_file = or_null(ctl_text(c, "source-key"));
    o.insecure_skip_verify = ctl_bool(c, "source-insecure-skip-tls-verify");
    const char *user = or_null(ctl_text(c, "source-user"));
    o.password = or_null(ctl_text(c, "source-password"));
    if (user != NULL && o.password == NULL && strchr(user, ':') != NULL) {
        o.password = strchr(user, ':') + 1;
        user = ctl_sprintf("%.*s", (int)strcspn(user, ":"), user);
    }
    o.user = user;
    x->source = ctl_open(c, &o);
}

/* --- what was done before --- */

static bool same_bytes(struct trivet_bytes a, struct trivet_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void load_state(struct copy *x)
{
    struct trivet_result r;
    struct trivet_bytes prefix, dest_prefix;
    struct copy_state was;
    const struct trivet_request q = {.method = TRIVET_RANGE,
                                     .u.range = {.key = trivet_str(x->state_key)}};
    if (x->state_key[0] == '\0')
        return;
    if (!copy_read(x, x->dest, &q, &r))
        copy_refused(x, x->dest, &r);
    if (r.u.range.kvs_count == 1) {
        struct trivet_bytes text = r.u.range.kvs[0].value;
        x->state_text = mem_dup(text.data, text.size);
        x->state_size = text.size;
        if (!copy_state_parse(text, &was, &prefix, &dest_prefix))
            ctl_fail(x->c, CTL_ERROR,
                     "the key %s of the destination is not a state of ours; name another with "
                     "--state-key",
                     x->state_key);
        if (!ctl_bool(x->c, "restart")) {
            if (was.cluster_id != x->state.cluster_id || !same_bytes(prefix, x->prefix) ||
                !same_bytes(dest_prefix, x->dest_prefix))
                ctl_fail(x->c, CTL_ERROR,
                         "%s tells of a copy from another source or with other prefixes; use "
                         "--restart, or another --state-key",
                         x->state_key);
            if (was.leases && !x->with_leases)
                ctl_fail(x->c, CTL_ERROR,
                         "keys were copied with their leases so far, and would end with them: go "
                         "on --with-leases, or use --restart");
            x->state = was;
        }
    }
    trivet_result_clear(&r);
}

/* Learn both clusters' ids: a copy into itself would never end. Returns the source's revision. */
static int64_t meet(struct copy *x)
{
    struct trivet_header source = {0}, dest = {0};
    if (!copy_ask(x, x->source, &source) || !copy_ask(x, x->dest, &dest))
        exit(CTL_INTERRUPTED);
    if (dest.cluster_id == source.cluster_id && (copy_begins_with(x->prefix, x->dest_prefix) ||
                                                 copy_begins_with(x->dest_prefix, x->prefix)))
        ctl_fail(x->c, CTL_BAD_ARGS,
                 "source and destination are one cluster, and the prefixes overlap");
    x->state.cluster_id = source.cluster_id;
    return source.revision;
}

/* One that is too old to say so counts as having none. */
static bool has_auth(struct copy *x, struct trivet_client *client)
{
    const struct trivet_request q = {.method = TRIVET_AUTH_STATUS};
    struct trivet_result r;
    bool on = copy_read(x, client, &q, &r) && r.u.auth.enabled;
    trivet_result_clear(&r);
    return on;
}

/* Passwords cannot be read out of a cluster, and roles without users are half of it. */
static void say_users_stay(struct copy *x)
{
    if (!has_auth(x, x->source))
        return;
    if (has_auth(x, x->dest))
        fprintf(stderr, "copy: users and roles are not copied; those of the destination hold\n");
    else
        fprintf(stderr,
                "copy: users and roles are not copied: authentication is on at the source "
                "and off at the destination, where all may read and write what is copied\n");
}

/* --- the whole --- */

static const char compacted_text[] =
    "the source has compacted revisions that were not copied yet, so that what was deleted "
    "meanwhile is not known. With --delete the copy begins anew and deletes what the source does "
    "not have.";

static void begin_anew(struct copy *x)
{
    if (!x->delete_others)
        ctl_fail(x->c, CTL_ERROR, "%s", compacted_text);
    fprintf(stderr,
            "copy: the source has compacted what comes next; everything is compared anew\n");
    mem_free(x->state.key);
    x->state = (struct copy_state){.cluster_id = x->state.cluster_id};
}

static bool copy_all(struct copy *x, int64_t until)
{
    for (;;) {
        if (x->state.phase == COPY_PHASE_WALK) {
            if (!copy_walk(x)) {
                if (copy_stopped)
                    return false;
                begin_anew(x);
                continue;
            }
            fprintf(stderr,
                    "copy: %" PRIu64 " keys written, %" PRIu64 " as they were, %" PRIu64
                    " deleted, as of revision %" PRId64 "\n",
                    x->keys, x->same, x->deleted, x->state.revision);
        }
        switch (copy_follow(x, until)) {
        case COPY_DONE:
            return true;
        case COPY_STOPPED:
            return false;
        case COPY_COMPACTED:
            begin_anew(x);
            break;
        }
    }
}

static void forget(struct copy *x)
{
    struct trivet_result r;
    if (x->state_key[0] == '\0')
        return;
    (void)trivet_delete(x->dest, trivet_str(x->state_key), &r);
    if (r.status != TRIVET_OK)
        copy_refused(x, x->dest, &r);
    trivet_result_clear(&r);
}

static int verify(struct copy *x)
{
    uint64_t missing, different, others;
    copy_stopped = 0; /* this is still wanted */
    uint64_t wrong = copy_verify(x, &missing, &different, &others);
    fprintf(stderr,
            "copy: compared at revision %" PRId64 ": %" PRIu64 " keys missing, %" PRIu64
            " different, %" PRIu64 " that the source does not have\n",
            x->state.revision, missing, different, others);
    return wrong == 0 ? CTL_OK : CTL_ERROR;
}

static void print_sum(const struct copy *x, int status)
{
    if (ctl_is_doc(x->c)) {
        struct doc d;
        doc_init(&d);
        doc_int(&d, "revision", DOC_PLAIN, x->state.revision);
        doc_uint(&d, "written", DOC_PLAIN, x->keys);
        doc_uint(&d, "unchanged", DOC_PLAIN, x->same);
        doc_uint(&d, "deleted", DOC_PLAIN, x->deleted);
        doc_uint(&d, "changes", DOC_PLAIN, x->changes);
        doc_uint(&d, "without_lease", DOC_PLAIN, x->leased);
        if (x->with_leases)
            doc_uint(&d, "leases", DOC_PLAIN, x->leases.count);
        if (ctl_bool(x->c, "verify"))
            doc_bool(&d, "same", DOC_PLAIN, status == CTL_OK);
        ctl_print_doc(x->c, &d);
        doc_fini(&d);
        return;
    }
    printf("%" PRIu64 " keys written, %" PRIu64 " deleted; done up to revision %" PRId64
           " of the source\n",
           x->keys, x->deleted, x->state.revision);
    if (x->leased > 0)
        printf("%" PRIu64 " writes were of keys with a lease, which they do not have here\n",
               x->leased);
}

static int run(struct ctl *c)
{
    struct copy x = {
        .c = c, .delete_others = ctl_bool(c, "delete"), .with_leases = ctl_bool(c, "with-leases")};
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS,
                 "copy takes one argument: the source's endpoint (or several, with "
                 "commas between them)");
    if (!ctl_is_doc(c) && c->format != CTL_SIMPLE)
        ctl_fail_format(c);
    x.prefix = trivet_str(ctl_text(c, "prefix"));
    x.dest_prefix = ctl_given(c, "dest-prefix") ? trivet_str(ctl_text(c, "dest-prefix")) : x.prefix;
    if (x.prefix.size > PREFIX_BYTES_MAX || x.dest_prefix.size > PREFIX_BYTES_MAX)
        ctl_fail(c, CTL_BAD_ARGS, "a prefix is longer than %d bytes", PREFIX_BYTES_MAX);
    x.state_key = ctl_text(c, "state-key");
    x.copier = rng_seed_from_os();
    arena_init(&x.arena);
    u64map_init(&x.leases);
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    open_source(&x);
    x.dest = ctl_client(c);
    int64_t now = meet(&x);
    load_state(&x);
    say_users_stay(&x);
    if (!x.with_leases || copy_lease_may_ask(&x))
        (void)copy_all(&x, ctl_bool(c, "once") ? now : 0);
    int status = CTL_OK;
    if (ctl_bool(c, "verify") && x.state.phase == COPY_PHASE_FOLLOW)
        status = verify(&x);
    else if (x.state.phase == COPY_PHASE_WALK)
        status = CTL_INTERRUPTED;
    if (ctl_bool(c, "forget"))
        forget(&x);
    print_sum(&x, status);
    trivet_close(x.source);
    arena_fini(&x.arena);
    return status;
}

const struct ctl_command ctl_cmd_copy = {
    .name = "copy",
    .usage = "[options] <source endpoint>[,<source endpoint>...]",
    .brief = "Copies another cluster's keys into this one, and goes on copying what changes",
    .help =
        "Copies the keys of a source, an etcd or a trivet, into the cluster at --endpoints: first "
        "all "
        "of them, as of\none revision, then each change, in order and all changes of a revision "
        "together, until it is\ninterrupted. Started again it goes on where it was.\n\n"
        "Keys are written without their leases, unless --with-leases is given. A lease is then "
        "made "
        "with the ID\nand the granted TTL of the source's, whole at first, before the first key "
        "that has it. It is kept alive as\nlong as the source has its own, or does not answer; "
        "when "
        "the source has it no more it is revoked, once no\nkey is left with it. When the copy ends "
        "leases live on for two thirds of their TTL at least, unless their\nowners renew them "
        "here; "
        "started again it makes anew what ended meanwhile. Leases without a key to copy are\nnot "
        "made. There are 100,000 at most, with some 250 bytes of memory each; a hundred are asked "
        "for at once.\n\n"
        "Users, roles and whether authentication is on are not copied, for passwords cannot be "
        "read: make them at\nthe destination, or go there by `snapshot save` and `restore`, which "
        "take all along. Where authentication is on\n--source-user must be permitted to read "
        "--prefix, for --with-leases all keys; --user to read and write --dest-prefix "
        "and\n--state-key.",
    .examples =
        "trivetctl --endpoints new:2379 copy old1:2379,old2:2379,old3:2379 --delete --verify\n"
        "trivetctl --endpoints new:2379 copy old:2379 --prefix /a/ --dest-prefix /b/ --once\n"
        "trivetctl --endpoints new:2379 copy old:2379 --with-leases",
    .group = "Key-value commands",
    .flags = flags,
    .run = run,
};
