/* What a snapshot is made of: every damaged byte is noticed, a copy of a database is that database,
 * and contents that are replaced stay with those who pinned them. */
#include "unit.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/rng.h"
#include "proto/peerwire.h"
#include "server/install.h"
#include "server/node.h"
#include "server/restore.h"
#include "server/snapshot_internal.h"
#include "storage/disk_mem.h"
#include "storage/lsm.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[256], from_dir[300], to_dir[300];

static void make_dirs(void)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(dir, sizeof(dir), "%s/trivet-snapshot-XXXXXX", base != NULL ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(from_dir, sizeof(from_dir), "%s/from", dir);
    (void)snprintf(to_dir, sizeof(to_dir), "%s/to", dir);
}

/* --- frames --- */

static uint8_t frame[256];

static size_t put_frame(enum peerwire_kind kind)
{
    static const char text[] = "records, whatever they are";
    struct peerwire_snap_end end = {.pieces_count = 7, .records_count = 8, .bytes_count = 9};
    memset(end.hash, 0x5a, sizeof(end.hash));
    uint8_t *body = frame + PEERWIRE_SNAP_PIECE_HEAD_BYTES;
    switch (kind) {
    case PEERWIRE_SNAP_HEAD:
        return (
            size_t)(peerwire_snap_head_put(frame, &(struct peerwire_snap_head){.log_index = 1,
                                                                               .term = UINT64_MAX,
                                                                               .revision = 3,
                                                                               .compacted = -1}) -
                    frame);
    case PEERWIRE_SNAP_PIECE:
        memcpy(body, text, sizeof(text));
        peerwire_snap_piece_seal(
            frame, &(struct peerwire_snap_piece){
                       .number = 5, .records_count = 6, .bytes = slice_of(body, sizeof(text))});
        return PEERWIRE_SNAP_PIECE_HEAD_BYTES + sizeof(text);
    case PEERWIRE_SNAP_END:
        return (size_t)(peerwire_snap_end_put(frame, &end) - frame);
    default:
        return (size_t)(peerwire_snap_done_put(frame, 77) - frame);
    }
}

static int decode_frame(enum peerwire_kind kind, struct slice bytes)
{
    struct peerwire_snap_head head;
    struct peerwire_snap_piece piece;
    struct peerwire_snap_end end;
    uint64_t index;
    int err;
    switch (kind) {
    case PEERWIRE_SNAP_HEAD:
        err = peerwire_snap_head_decode(bytes, &head);
        if (err == 0)
            ck_assert(head.log_index == 1 && head.term == UINT64_MAX && head.revision == 3 &&
                      head.compacted == -1);
        return err;
    case PEERWIRE_SNAP_PIECE:
        err = peerwire_snap_piece_decode(bytes, &piece);
        if (err == 0)
            ck_assert(piece.number == 5 && piece.records_count == 6 && piece.bytes.size == 27);
        return err;
    case PEERWIRE_SNAP_END:
        err = peerwire_snap_end_decode(bytes, &end);
        if (err == 0)
            ck_assert(end.pieces_count == 7 && end.records_count == 8 && end.bytes_count == 9 &&
                      end.hash[31] == 0x5a);
        return err;
    default:
        err = peerwire_snap_done_decode(bytes, &index);
        if (err == 0)
            ck_assert_uint_eq(index, 77);
        return err;
    }
}

START_TEST(test_every_damaged_bit_is_refused)
{
    for (int kind = PEERWIRE_SNAP_HEAD; kind <= PEERWIRE_SNAP_DONE; kind++) {
        size_t size = put_frame((enum peerwire_kind)kind);
        ck_assert_int_eq(decode_frame((enum peerwire_kind)kind, slice_of(frame, size)), 0);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
            ck_assert_int_ne(decode_frame((enum peerwire_kind)kind, slice_of(frame, size)), 0);
            frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t less = 0; less < size; less++) {
            uint8_t *exact = malloc(less + 1);
            memcpy(exact, frame, less);
            ck_assert_int_ne(decode_frame((enum peerwire_kind)kind, slice_of(exact, less)), 0);
            free(exact);
        }
    }
}
END_TEST

/* --- copies --- */

enum { PUTS = 3000, KEYS = 200, COMPACTED = 1000 };

static struct mvcc *fill(struct lsm *l)
{
    struct mvcc *m = mvcc_new(NULL);
    struct rng r;
    rng_init(&r, 11);
    for (int i = 0; i < PUTS; i++) {
        char key[32], value[64];
        int key_size = snprintf(key, sizeof(key), "key-%d", (int)rng_below(&r, KEYS));
        int value_size = snprintf(value, sizeof(value), "value %d", i);
        mvcc_txn_begin(m);
        if (i % 7 == 6)
            (void)mvcc_txn_delete_range(m, slice_of(key, (size_t)key_size), SLICE_EMPTY, NULL,
                                        NULL);
        else
            (void)mvcc_txn_put(m, slice_of(key, (size_t)key_size),
                               slice_of(value, (size_t)value_size), i % 5 == 0 ? 33 : 0, NULL);
        (void)mvcc_txn_end(m);
    }
    ck_assert_int_eq(mvcc_compact(m, COMPACTED), 0);
    mvcc_publish(m);
    struct persist_meta *metas = NULL;
    const struct lsm_lease lease = {.id = 33, .granted_ttl = 600, .remaining_ttl = 70};
    persist_meta_put_lease(&metas, &lease);
    persist_meta_put(&metas, SLICE_LITERAL("members"), SLICE_LITERAL("all of them"));
    persist_meta_put(&metas, SLICE_LITERAL("self"), SLICE_LITERAL("not copied"));
    ck_assert_int_eq(lsm_save(l, m, 4000, 5, metas), 0);
    return m;
}

static struct lsm *open_db(const char *path)
{
    char text[256];
    struct lsm *l;
    ck_assert_msg(lsm_open(path, NULL, &l, text, sizeof(text)) == 0, "%s", text);
    return l;
}

/* All records, in pieces of about `piece_bytes`. */
static void copy_all(struct lsm *l, size_t piece_bytes, struct lsm_meta *ret_meta, struct buf *ret)
{
    struct lsm_copy *c;
    uint32_t count;
    ck_assert_int_eq(lsm_copy_open(l, SLICE_LITERAL("self"), &c, ret_meta), 0);
    do
        ck_assert_int_eq(lsm_copy_next(c, piece_bytes, ret, &count), 0);
    while (count > 0);
    lsm_copy_close(c);
}

static uint32_t hash_of(struct mvcc *m)
{
    struct mvcc_hash h;
    ck_assert_int_eq(mvcc_hash(m, 0, &h), 0);
    ck_assert_int_eq(h.compact_revision, COMPACTED);
    return h.hash;
}

static void on_lease(void *ctx, const struct lsm_lease *lease)
{
    ck_assert_int_eq(lease->id, 33);
    ck_assert_int_eq(lease->granted_ttl, 600);
    ck_assert_int_eq(lease->remaining_ttl, 70);
    (*(int *)ctx)++;
}

static struct lsm_intake *take_in(const struct lsm_meta *meta, struct slice records, int expected)
{
    struct lsm_intake *in;
    char text[256];
    folder_remove(to_dir);
    ck_assert_msg(lsm_intake_open(to_dir, meta, &in, text, sizeof(text)) == 0, "%s", text);
    ck_assert_int_eq(lsm_intake_add(in, records), expected);
    return in;
}

START_TEST(test_copy_is_the_database)
{
    make_dirs();
    struct lsm *from = open_db(from_dir);
    struct mvcc *m = fill(from), *copy = mvcc_new(NULL), *again = mvcc_new(NULL);
    struct buf records;
    buf_init(&records, SIZE_MAX);
    struct lsm_meta meta;
    copy_all(from, 1000, &meta, &records);
    ck_assert_uint_eq(meta.applied_index, 4000);
    ck_assert_uint_eq(meta.applied_term, 5);

    struct lsm_intake *in = take_in(&meta, buf_slice(&records), 0);
    struct persist_meta *own = NULL;
    persist_meta_put(&own, SLICE_LITERAL("self"), SLICE_LITERAL("me"));
    lsm_intake_commit(in, own);
    ck_assert(
        slice_equal(lsm_intake_get(in, SLICE_LITERAL("members")), SLICE_LITERAL("all of them")));
    int leases = 0;
    ck_assert_int_eq(lsm_intake_load(in, copy, on_lease, &leases), 0);
    lsm_intake_free(in);
    ck_assert_int_eq(leases, 1);
    ck_assert_int_eq(mvcc_revision(copy), mvcc_revision(m));
    ck_assert_uint_eq(hash_of(copy), hash_of(m));
    mvcc_check(copy);

    /* And what is on disk is that too. */
    struct lsm *to = open_db(to_dir);
    char text[256];
    struct buf self;
    buf_init(&self, 64);
    ck_assert_int_eq(lsm_get(to, SLICE_LITERAL("self"), &self), 0);
    ck_assert(slice_equal(buf_slice(&self), SLICE_LITERAL("me")));
    ck_assert_int_eq(lsm_load(to, again, 1, &meta, on_lease, &leases, text, sizeof(text)), 0);
    ck_assert_uint_eq(meta.applied_index, 4000);
    ck_assert_uint_eq(hash_of(again), hash_of(m));
    buf_fini(&self);
    buf_fini(&records);
    lsm_close(to);
    lsm_close(from);
    mvcc_free(m);
    mvcc_free(copy);
    mvcc_free(again);
    folder_remove(dir);
}
END_TEST

START_TEST(test_copy_stands_still)
{
    make_dirs();
    struct lsm *from = open_db(from_dir);
    struct mvcc *m = fill(from);
    struct buf before, after;
    struct lsm_meta meta;
    struct lsm_copy *c;
    uint32_t count;
    buf_init(&before, SIZE_MAX);
    buf_init(&after, SIZE_MAX);
    copy_all(from, SIZE_MAX, &meta, &before);
    ck_assert_int_eq(lsm_copy_open(from, SLICE_LITERAL("self"), &c, &meta), 0);
    struct persist_meta *more = NULL;
    persist_meta_put(&more, SLICE_LITERAL("later"), SLICE_LITERAL("must not be seen"));
    lsm_put(from, more);
    do
        ck_assert_int_eq(lsm_copy_next(c, 4096, &after, &count), 0);
    while (count > 0);
    lsm_copy_close(c);
    ck_assert(slice_equal(buf_slice(&before), buf_slice(&after)));
    buf_fini(&before);
    buf_fini(&after);
    lsm_close(from);
    mvcc_free(m);
    folder_remove(dir);
}
END_TEST

START_TEST(test_copy_is_read_again)
{
    make_dirs();
    struct lsm *from = open_db(from_dir);
    struct mvcc *m = fill(from);
    struct buf first, second, named;
    struct lsm_meta meta;
    struct lsm_copy *c;
    uint32_t count;
    buf_init(&first, SIZE_MAX);
    buf_init(&second, SIZE_MAX);
    buf_init(&named, SIZE_MAX);
    struct persist_meta *more = NULL;
    persist_meta_put(&more, SLICE_LITERAL("note"), SLICE_LITERAL("is there"));
    lsm_put(from, more);
    ck_assert_int_eq(lsm_copy_open(from, SLICE_EMPTY, &c, &meta), 0);
    ck_assert_int_eq(lsm_copy_next(c, 4096, &first, &count), 0);
    ck_assert_int_eq(lsm_copy_get(c, SLICE_LITERAL("note"), &named), 0);
    ck_assert(slice_equal(buf_slice(&named), SLICE_LITERAL("is there")));
    ck_assert_int_eq(lsm_copy_get(c, SLICE_LITERAL("not"), &named), TV_ENOTFOUND);
    ck_assert_int_eq(lsm_copy_rewind(c), 0);
    ck_assert_int_eq(lsm_copy_next(c, 4096, &second, &count), 0);
    ck_assert(slice_equal(buf_slice(&first), buf_slice(&second)));

    lsm_close(from); /* under it */
    ck_assert_int_eq(lsm_copy_next(c, 4096, &second, &count), TV_ECLOSED);
    ck_assert_int_eq(lsm_copy_rewind(c), TV_ECLOSED);
    ck_assert_int_eq(lsm_copy_get(c, SLICE_LITERAL("note"), &named), TV_ECLOSED);
    lsm_copy_close(c);
    buf_fini(&first);
    buf_fini(&second);
    buf_fini(&named);
    mvcc_free(m);
    folder_remove(dir);
}
END_TEST

START_TEST(test_intake_refuses_what_is_no_copy)
{
    make_dirs();
    struct lsm *from = open_db(from_dir);
    struct mvcc *m = fill(from);
    struct buf records;
    struct lsm_meta meta;
    buf_init(&records, SIZE_MAX);
    copy_all(from, SIZE_MAX, &meta, &records);
    struct slice all = buf_slice(&records);

    /* Cut anywhere but between records. */
    lsm_intake_free(take_in(&meta, slice_of(all.data, all.size - 1), TV_ECORRUPT));
    lsm_intake_free(take_in(&meta, slice_of(all.data, 3), TV_ECORRUPT));
    /* The same once more: keys do not ascend. */
    struct lsm_intake *in = take_in(&meta, all, 0);
    ck_assert_int_eq(lsm_intake_add(in, all), TV_ECORRUPT);
    lsm_intake_free(in);
    /* A revision above the state's. */
    struct lsm_meta older = meta;
    older.revision = COMPACTED + 1;
    lsm_intake_free(take_in(&older, all, TV_ECORRUPT));
    buf_fini(&records);
    lsm_close(from);
    mvcc_free(m);
    folder_remove(dir);
}
END_TEST

/* --- contents replaced under a reader --- */

START_TEST(test_pins_keep_what_was_replaced)
{
    struct mvcc *m = mvcc_new(NULL);
    struct epoch_reader *reader = epoch_register(mvcc_epoch(m));
    mvcc_txn_begin(m);
    (void)mvcc_txn_put(m, SLICE_LITERAL("a"), SLICE_LITERAL("old"), 0, NULL);
    (void)mvcc_txn_end(m);
    mvcc_publish(m);

    struct mvcc_pin pin, loose;
    epoch_enter(mvcc_epoch(m), reader);
    const struct mvcc_version *old = mvcc_get(m, SLICE_LITERAL("a"), 0);
    ck_assert_int_eq(mvcc_pin_take(m, &pin, 2), 0);
    ck_assert_int_eq(mvcc_pin_take(m, &loose, 2), 0);
    mvcc_pin_loosen(m, &loose);
    epoch_leave(reader);

    uint64_t generation = mvcc_generation(m);
    mvcc_load_begin(m);
    mvcc_load_end(m, 50, 40);
    ck_assert_uint_ne(mvcc_generation(m), generation);
    for (int i = 0; i < 10; i++) {
        epoch_collect(mvcc_epoch(m));
        mvcc_publish(m);
    }
    ck_assert(slice_equal(mvcc_version_value(old), SLICE_LITERAL("old")));
    epoch_enter(mvcc_epoch(m), reader);
    ck_assert_ptr_null(mvcc_get(m, SLICE_LITERAL("a"), 0));
    int64_t rev;
    ck_assert_int_eq(mvcc_check_revision(m, 2, &rev), TV_COMPACTED);
    epoch_leave(reader);

    mvcc_pin_release(m, &pin); /* now it goes, though the loose one stays */
    for (int i = 0; i < 10; i++) {
        mvcc_publish(m);
        epoch_collect(mvcc_epoch(m));
    }
    mvcc_pin_release(m, &loose);
    epoch_unregister(reader);
    mvcc_free(m);
}
END_TEST

/* --- crashes while a snapshot takes the store's place --- */

static void put_folder(const char *name, const char *mark)
{
    char path[600];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/%s/%s", dir, name, mark);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fclose(f);
}

static bool exists(const char *name)
{
    char path[600];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

START_TEST(test_folders_after_a_crash)
{
    char lsm[300];
    /* Before the switch, in the middle of it, behind it. */
    for (int step = 0; step < 3; step++) {
        make_dirs();
        (void)snprintf(lsm, sizeof(lsm), "%s/lsm", dir);
        put_folder(step == 0 ? "lsm" : "lsm.old", "old");
        put_folder(step == 2 ? "lsm" : "lsm.incoming", "new");
        struct node n = {.lsm_dir = lsm};
        struct install_place place = install_folders(&n);
        ck_assert_int_eq(install_recover(&place), 0);
        ck_assert(exists(step == 2 ? "lsm/new" : "lsm/old"));
        ck_assert(!exists("lsm.old") && !exists("lsm.incoming"));
        folder_remove(dir);
    }
}
END_TEST

static struct wal *open_log(struct disk *d, struct restore *r)
{
    char text[256];
    struct wal_options o;
    wal_options_init(&o);
    o.disk = d;
    o.segment_size_bytes = 64 << 10;
    o.cluster_id = 1;
    o.member_id = 2;
    o.salt = 3;
    struct wal_replay replay = restore_replay(r);
    struct wal *w;
    ck_assert_msg(wal_open(&o, &replay, &w, text, sizeof(text)) == 0, "%s", text);
    return w;
}

/* Entries 1 to 10 of term 1; a vote in term 1. */
static struct disk *disk_with_log(void)
{
    struct disk *d = disk_mem_new(1);
    disk_mem_set_completion_percent(d, 100);
    struct restore r;
    restore_init(&r, 0);
    struct wal *w = open_log(d, &r);
    struct wal_entry entries[10];
    for (uint64_t i = 0; i < 10; i++)
        entries[i] = (struct wal_entry){.term = 1, .log_index = i + 1};
    wal_append(w, 1, entries, 10, &(struct wal_hard_state){.term = 1, .vote = 2, .commit = 4});
    wal_flush(w);
    wal_close(w);
    restore_fini(&r);
    return d;
}

/* Start with a store at (applied, term); is the log usable, and what is left of it? */
static int start_at(uint64_t applied, uint64_t term, uint64_t installed, uint64_t *ret_last,
                    struct raft_hard_state *ret_hs)
{
    struct disk *d = disk_with_log();
    struct restore r;
    int err = 0;
    for (int start = 0; start < 2; start++) { /* the second finds what the first left */
        restore_init(&r, applied);
        struct wal *w = open_log(d, &r);
        restore_finish_install(&r, w, installed, term);
        err = restore_check(&r, w);
        *ret_last = wal_last_index(w);
        *ret_hs = r.hard_state;
        ck_assert_uint_eq(r.count, err == 0 ? *ret_last - applied : r.count);
        wal_close(w);
        restore_fini(&r);
    }
    disk_close(d);
    return err;
}

START_TEST(test_log_after_a_crash)
{
    uint64_t last;
    struct raft_hard_state hs;
    /* The snapshot is ahead of the log: the log is restarted. */
    ck_assert_int_eq(start_at(50, 3, 50, &last, &hs), 0);
    ck_assert_uint_eq(last, 50);
    ck_assert(hs.term == 3 && hs.vote == 0 && hs.commit == 50);
    /* Its entry is there with another term: what the log has is void. */
    ck_assert_int_eq(start_at(8, 3, 8, &last, &hs), 0);
    ck_assert_uint_eq(last, 8);
    ck_assert(hs.term == 3 && hs.vote == 0);
    /* The log has that entry: it stays, and so does the vote. */
    ck_assert_int_eq(start_at(8, 1, 8, &last, &hs), 0);
    ck_assert_uint_eq(last, 10);
    ck_assert(hs.term == 1 && hs.vote == 2 && hs.commit == 8);
    /* No snapshot was installed there: the log has lost something, and is not used. */
    ck_assert_int_eq(start_at(50, 3, 0, &last, &hs), TV_ECORRUPT);
    ck_assert_int_eq(start_at(50, 3, 40, &last, &hs), TV_ECORRUPT);
}
END_TEST

UNIT_MAIN("snapshot", test_every_damaged_bit_is_refused, test_copy_is_the_database,
          test_copy_stands_still, test_copy_is_read_again, test_intake_refuses_what_is_no_copy,
          test_pins_keep_what_was_replaced, test_folders_after_a_crash, test_log_after_a_crash)
