/* snapshot status and restore: etcdutl's flags and what it prints. What they
 * do is in state/backup.h. */
#include "restore.h"

#include "progress.h"

#include "state/backup.h"

#include <inttypes.h>
#include <string.h>

static void print_fields(const struct backup_status *s)
{
    ctl_field_uint("Hash", s->hash);
    ctl_field_int("Revision", s->revision);
    ctl_field_uint("Keys", s->keys_count);
    ctl_field_uint("Size", s->size_bytes);
    printf("\"Version\" : %s\n", s->version);
}

static void print_doc(struct ctl *c, const struct backup_status *s)
{
    struct doc d;
    doc_init(&d);
    doc_uint(&d, "hash", DOC_PLAIN, s->hash);
    doc_int(&d, "revision", DOC_PLAIN, s->revision);
    doc_uint(&d, "totalKey", DOC_PLAIN, s->keys_count);
    doc_uint(&d, "totalSize", DOC_PLAIN, s->size_bytes);
    doc_string(&d, "version", DOC_PLAIN, s->version);
    ctl_print_doc(c, &d);
    doc_fini(&d);
}

static void print_status(struct ctl *c, const struct backup_status *s)
{
    enum { COLUMNS = 5 };
    static const char *const heads[COLUMNS] = {"hash", "revision", "total keys", "total size",
                                               "version"};
    char size[16];
    const char *cells[COLUMNS] = {
        ctl_sprintf("%" PRIx32, s->hash), ctl_sprintf("%" PRId64, s->revision),
        ctl_sprintf("%" PRIu64, s->keys_count), ctl_size(size, s->size_bytes), s->version};
    if (c->format == CTL_TABLE)
        ctl_print_table(heads, COLUMNS, cells, 1);
    else
        printf("%s, %s, %s, %s, %s\n", cells[0], cells[1], cells[2], cells[3], cells[4]);
}

static void check_format(struct ctl *c)
{
    if (c->format_bad || c->format == CTL_PROTOBUF)
        ctl_fail(c, CTL_BAD_FEATURE, "unsupported output format");
}

int snapshot_status_run(struct ctl *c)
{
    struct backup_status s;
    char why[512];
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "snapshot status requires exactly one argument");
    check_format(c);
    if (backup_status(c->args[0], &s, why, sizeof(why)) != 0)
        ctl_fail(c, CTL_ERROR, "%s", why);
    if (ctl_is_doc(c))
        print_doc(c, &s);
    else if (c->format == CTL_FIELDS)
        print_fields(&s);
    else
        print_status(c, &s);
    return CTL_OK;
}

const struct ctl_flag snapshot_restore_flags[] = {
    {"data-dir", 0, CTL_STRING, NULL, "the data folder that is made (default: NAME.etcd)"},
    {"wal-dir", 0, CTL_STRING, NULL, "where its log will be (default: in the data folder)"},
    {"name", 0, CTL_STRING, "default", "the member's name"},
    {"initial-cluster", 0, CTL_STRING, "default=http://localhost:2380",
     "all members, as NAME=URL with commas between"},
    {"initial-cluster-token", 0, CTL_STRING, "etcd-cluster",
     "what makes this cluster another than the one that was saved"},
    {"initial-advertise-peer-urls", 0, CTL_STRING, "http://localhost:2380",
     "the member's own peer URLs"},
    {"skip-hash-check", 0, CTL_BOOL, NULL, "take a file without a hash, copied from a data folder"},
    {"bump-revision", 0, CTL_UINT, NULL, "make the revision so much higher"},
    {"mark-compacted", 0, CTL_BOOL, NULL,
     "with --bump-revision: watches from before it are told that they are compacted"},
    {NULL},
};

static void on_progress(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
    struct progress *p = arg;
    progress_set_total(p, all_bytes);
    progress_set(p, done_bytes);
    if (done_bytes == all_bytes)
        p->what = "writing";
}

int snapshot_restore_run(struct ctl *c)
{
    struct progress p;
    char why[4600];
    uint64_t bump = ctl_uint(c, "bump-revision");
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "snapshot restore requires exactly one argument");
    if ((bump > 0) != ctl_bool(c, "mark-compacted"))
        ctl_fail(c, CTL_BAD_ARGS, "--mark-compacted required if --revision-bump > 0");
    const char *name = ctl_text(c, "name"), *dir = ctl_text(c, "data-dir");
    const struct backup_restore o = {
        .path = c->args[0],
        .data_dir = *dir != '\0' ? dir : ctl_sprintf("%s.etcd", name),
        .wal_dir = ctl_text(c, "wal-dir"),
        .name = name,
        .initial_cluster = ctl_text(c, "initial-cluster"),
        .initial_cluster_token = ctl_text(c, "initial-cluster-token"),
        .advertise_peer_urls = ctl_text(c, "initial-advertise-peer-urls"),
        .skip_hash_check = ctl_bool(c, "skip-hash-check"),
        .bump_revision = bump,
        .progress = on_progress,
        .progress_arg = &p,
    };
    progress_begin(&p, "restoring", PROGRESS_BYTES, 0);
    int err = backup_restore(&o, why, sizeof(why));
    progress_end(&p);
    if (err != 0)
        ctl_fail(c, CTL_ERROR, "%s", why);
    return CTL_OK;
}
