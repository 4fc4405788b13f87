/* A data folder from a snapshot file; see state/backup.h.
 *
 * The store is filled in memory, as at a start, and saved as RocksDB's first commit in a folder of
 * another name, which takes its place when it is durable. The commit stands at an entry of the log
 * that nobody has; the record "installed" says that this is no loss, as after a snapshot from
 * another member (server/install.h). */
#include "state/backup.h"

#include "backup_auth.h"
#include "backup_file.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/folder.h"
#include "base/mem.h"
#include "proto/wirefield.h"
#include "state/cluster.h"
#include "state/records.h"
#include "state/url.h"
#include "storage/lsm.h"
#include "storage/mvcc.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { FIRST_TERM = 1, PATH_BYTES = 4200, TELL_EVERY_BYTES = 64 << 10 };

struct restoring {
    const struct backup_restore *o;
    struct backup_file file;
    struct cluster cluster;
    uint64_t member_id;
    struct mvcc *mvcc;
    struct persist_meta *metas;
    int64_t compacted; /* -1: never */
    int64_t revision;  /* of the last entry */
    struct slice bucket;
    uint64_t read_bytes; /* of entries; it is a little less than the file has */
    uint64_t told_bytes;
    struct backup_auth auth;
    char *err_text;
    size_t err_size;
};

static int fail(struct restoring *r, int err, const char *what, const char *why)
{
    (void)snprintf(r->err_text, r->err_size, "%s%s%s", what, *why != '\0' ? ": " : "", why);
    return err;
}

/* --- what the flags say --- */

static int find_member(struct restoring *r)
{
    const struct backup_restore *o = r->o;
    struct urls advertised;
    int err = urls_parse(o->advertise_peer_urls, &advertised, r->err_text, r->err_size);
    if (err != 0)
        return err;
    err = cluster_from_initial(o->initial_cluster, o->initial_cluster_token, &r->cluster,
                               r->err_text, r->err_size);
    if (err == 0)
        err = cluster_check_local(&r->cluster, o->name, &advertised, r->err_text, r->err_size);
    if (err == 0)
        r->member_id = cluster_find_name(&r->cluster, o->name)->id;
    urls_fini(&advertised);
    return err;
}

static bool is_empty_folder(const char *dir)
{
    DIR *d = opendir(dir);
    bool empty = true;
    if (d == NULL)
        return errno == ENOENT;
    for (struct dirent *it; (it = readdir(d)) != NULL;)
        empty = empty && (strcmp(it->d_name, ".") == 0 || strcmp(it->d_name, "..") == 0);
    (void)closedir(d); /* only read */
    return empty;
}

static int check_folders(struct restoring *r)
{
    char text[PATH_BYTES];
    if (!is_empty_folder(r->o->data_dir)) {
        (void)snprintf(text, sizeof(text), "data-dir \"%.4000s\" not empty or could not be read",
                       r->o->data_dir);
        return fail(r, TV_EEXIST, text, "");
    }
    if (*r->o->wal_dir != '\0' && access(r->o->wal_dir, F_OK) == 0) {
        (void)snprintf(text, sizeof(text), "wal-dir \"%.4000s\" exists", r->o->wal_dir);
        return fail(r, TV_EEXIST, text, "");
    }
    return 0;
}

/* --- reading: first what the file says of itself, then keys and leases --- */

static bool is_about_keys(struct slice bucket)
{
    return slice_equal(bucket, SLICE_LITERAL("key")) || slice_equal(bucket, SLICE_LITERAL("lease"));
}

static bool on_meta_bucket(void *ctx, struct slice name)
{
    ((struct restoring *)ctx)->bucket = name;
    return !is_about_keys(name);
}

/* A compaction that was scheduled counts as made: what it drops is dropped here. */
static int on_meta_entry(void *ctx, struct slice key, struct slice value)
{
    struct restoring *r = ctx;
    int64_t sub;
    bool tombstone;
    if (backup_auth_read(&r->auth, r->bucket, key, value) != 0)
        return fail(r, TV_ECORRUPT, "users or roles do not decode", "");
    if (!slice_equal(r->bucket, SLICE_LITERAL("meta")) ||
        (!slice_equal(key, SLICE_LITERAL("scheduledCompactRev")) &&
         !slice_equal(key, SLICE_LITERAL("finishedCompactRev"))))
        return 0;
    int64_t main;
    if (!backup_revision_parse(value, &main, &sub, &tombstone))
        return fail(r, TV_ECORRUPT, "the compaction's revision does not parse", "");
    if (main > r->compacted && main > 0)
        r->compacted = main;
    return 0;
}

static bool on_bucket(void *ctx, struct slice name)
{
    ((struct restoring *)ctx)->bucket = name;
    return is_about_keys(name);
}

static int add_version(struct restoring *r, struct slice key, struct slice kv)
{
    int64_t main, sub;
    bool tombstone;
    struct mvcc_version *v;
    if (!backup_revision_parse(key, &main, &sub, &tombstone) || main < 1 || sub > UINT32_MAX)
        return fail(r, TV_ECORRUPT, "a revision in the bucket \"key\" does not parse", "");
    r->revision = main;
    /* What `etcdutl snapshot restore --bump-revision` leaves: a revision without a key. */
    if (kv.size == 0)
        return 0;
    if (mvcc_version_new(main, (uint32_t)sub, tombstone, kv, &v) != 0)
        return fail(r, TV_ECORRUPT, "an entry of the bucket \"key\" does not decode", "");
    if (mvcc_load_add(r->mvcc, v) == 0)
        return 0;
    mvcc_version_free(v);
    return fail(r, TV_ECORRUPT, "the bucket \"key\" is out of order", "");
}

/* leasepb.Lease: 1 ID, 2 TTL, 3 RemainingTTL. */
static int add_lease(struct restoring *r, struct slice value)
{
    struct wire_reader reader = wire_reader_of(value);
    struct wire_field f;
    struct lsm_lease lease = {0};
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.type == WIRE_VARINT && f.number == 1)
            lease.id = (int64_t)f.value;
        else if (f.type == WIRE_VARINT && f.number == 2)
            lease.granted_ttl = (int64_t)f.value;
        else if (f.type == WIRE_VARINT && f.number == 3)
            lease.remaining_ttl = (int64_t)f.value;
    }
    if (rv != 0 || lease.id == 0 || lease.granted_ttl < 0 || lease.granted_ttl > LEASE_TTL_MAX_S)
        return fail(r, TV_ECORRUPT, "an entry of the bucket \"lease\" does not decode", "");
    persist_meta_put_lease(&r->metas, &lease);
    return 0;
}

static int on_entry(void *ctx, struct slice key, struct slice value)
{
    struct restoring *r = ctx;
    r->read_bytes += key.size + value.size;
    if (r->o->progress != NULL && r->read_bytes - r->told_bytes > TELL_EVERY_BYTES) {
        r->told_bytes = r->read_bytes;
        r->o->progress(r->o->progress_arg, r->read_bytes, r->file.mapped.size);
    }
    if (slice_equal(r->bucket, SLICE_LITERAL("key")))
        return add_version(r, key, value);
    return add_lease(r, value);
}

static int walk(struct restoring *r, bool (*bucket)(void *, struct slice),
                int (*entry)(void *, struct slice, struct slice))
{
    *r->err_text = '\0';
    struct bbolt_visitor v = {.bucket = bucket, .entry = entry, .ctx = r};
    int err = bbolt_walk(r->file.db, &v);
    if (err != 0 && *r->err_text == '\0')
        return fail(r, err, r->o->path, bbolt_error(r->file.db));
    return err;
}

static int open_file(struct restoring *r)
{
    int err = backup_file_open(r->o->path, &r->file, r->err_text, r->err_size);
    if (err != 0 || r->o->skip_hash_check)
        return err;
    if (r->file.hash.size == 0)
        return fail(r, TV_ECORRUPT, "snapshot missing hash but --skip-hash-check=false", "");
    return backup_file_check(&r->file, r->err_text, r->err_size);
}

static int read_file(struct restoring *r)
{
    r->compacted = -1;
    r->revision = 1;
    int err = open_file(r);
    if (err == 0)
        err = walk(r, on_meta_bucket, on_meta_entry);
    if (err == 0 && backup_auth_records(&r->auth, &r->metas) != 0)
        err = fail(r, TV_ECORRUPT, "authentication is on, and there is no root", "");
    if (err != 0)
        return err;
    r->mvcc = mvcc_new(NULL);
    mvcc_load_begin(r->mvcc);
    err = walk(r, on_bucket, on_entry);
    if (err != 0) {
        mvcc_load_abort(r->mvcc);
        return err;
    }
    int64_t bump = (int64_t)r->o->bump_revision;
    int64_t revision = r->revision > r->compacted ? r->revision : r->compacted;
    if (bump < 0 || revision > INT64_MAX - bump) {
        mvcc_load_abort(r->mvcc);
        return fail(r, TV_EINVAL, "--bump-revision is too large", "");
    }
    revision += bump;
    if (mvcc_load_end_checked(r->mvcc, revision, bump > 0 ? revision : r->compacted) != 0)
        return fail(r, TV_ECORRUPT, "a key's revisions do not follow from each other", "");
    return 0;
}

/* --- writing --- */

static int make_dir(struct restoring *r, const char *dir)
{
    int err = folder_make(dir);
    return err == 0 ? 0 : fail(r, err, dir, strerror(errno));
}

/* Every member of the new cluster stands at the same entry: as many as etcd's log has then. */
static void add_records(struct restoring *r, uint64_t applied_index)
{
    struct buf encoded;
    buf_init(&encoded, SIZE_MAX);
    cluster_encode(&r->cluster, &encoded);
    persist_meta_put(&r->metas, STATE_RECORD_MEMBERS, buf_slice(&encoded));
    persist_meta_put(&r->metas, STATE_RECORD_SELF, slice_of(&r->member_id, sizeof(r->member_id)));
    persist_meta_put(&r->metas, STATE_RECORD_INSTALLED,
                     slice_of(&applied_index, sizeof(applied_index)));
    buf_fini(&encoded);
}

static int fill_store(struct restoring *r, const char *dir)
{
    char why[512];
    struct lsm *l;
    int err = lsm_open(dir, NULL, &l, why, sizeof(why));
    if (err != 0)
        return fail(r, err, why, "");
    if (r->o->progress != NULL)
        r->o->progress(r->o->progress_arg, r->file.mapped.size, r->file.mapped.size);
    uint64_t applied_index = r->cluster.members_count;
    add_records(r, applied_index);
    err = lsm_save(l, r->mvcc, applied_index, FIRST_TERM, r->metas);
    r->metas = NULL;
    lsm_close(l);
    return err == 0 ? 0 : fail(r, err, dir, tv_err_text(err));
}

static int write_store(struct restoring *r)
{
    char member[PATH_BYTES], incoming[PATH_BYTES + 32], final[PATH_BYTES + 32];
    if (strlen(r->o->data_dir) > PATH_BYTES - 64)
        return fail(r, TV_EINVAL, "the data directory's path is too long", "");
    (void)snprintf(member, sizeof(member), "%s/member", r->o->data_dir);
    (void)snprintf(incoming, sizeof(incoming), "%s/lsm.incoming", member);
    (void)snprintf(final, sizeof(final), "%s/lsm", member);
    int err = make_dir(r, r->o->data_dir);
    if (err == 0)
        err = make_dir(r, member);
    if (err != 0)
        return err;
    err = fill_store(r, incoming);
    if (err != 0) {
        folder_remove(member); /* it may be tried again */
        return err;
    }
    if (rename(incoming, final) != 0)
        return fail(r, TV_EIO, final, strerror(errno));
    if (folder_sync(member) != 0 || folder_sync(r->o->data_dir) != 0)
        return fail(r, TV_EIO, r->o->data_dir, strerror(errno));
    return 0;
}

int backup_restore(const struct backup_restore *o, char *err_text, size_t err_size)
{
    struct restoring r = {.o = o, .err_text = err_text, .err_size = err_size};
    backup_auth_init(&r.auth);
    int err = find_member(&r);
    if (err == 0)
        err = check_folders(&r);
    if (err == 0)
        err = read_file(&r);
    if (err == 0)
        err = write_store(&r);
    persist_metas_free(r.metas);
    if (r.mvcc != NULL)
        mvcc_free(r.mvcc);
    backup_auth_fini(&r.auth);
    backup_file_close(&r.file);
    cluster_fini(&r.cluster);
    return err;
}
