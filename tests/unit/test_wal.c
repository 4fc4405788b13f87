/* The log on every disk: what is written is read back, after any mix of rolling, replacing and
 * cutting. */
#include "wal_model.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>

static struct model model;
static char dir_name[64];

static struct wal_options small_options(struct disk *d)
{
    struct wal_options o;
    wal_options_init(&o);
    o.disk = d;
    o.segment_size_bytes = 128 << 10;
    o.segments_keep_max = 2;
    o.cluster_id = 0xc1;
    o.member_id = 0xa1;
    o.salt = 42;
    return o;
}

static void remove_dir(void)
{
    DIR *dir = opendir(dir_name);
    ck_assert_ptr_nonnull(dir);
    struct dirent *de;
    while ((de = readdir(dir)) != NULL) {
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/%s", dir_name, de->d_name);
        if (de->d_name[0] != '.')
            ck_assert_int_eq(unlink(path), 0);
    }
    closedir(dir);
    ck_assert_int_eq(rmdir(dir_name), 0);
}

/* --- the same story on each disk --- */

static uint64_t reported;

static void on_done(void *ctx, uint64_t seq)
{
    ck_assert_uint_gt(seq, reported);
    reported = seq;
}

static void story(struct disk *d)
{
    struct wal_options o = small_options(d);
    struct rng rng;
    rng_init(&rng, 7);
    memset(&model, 0, sizeof(model));
    reported = 0;
    struct wal *w = model_reopen(&o, &model);
    wal_set_done(w, on_done, NULL);
    ck_assert_uint_eq(wal_first_index(w), 1);

    uint64_t seq = 0, term = 1;
    for (int round = 0; round < 400; round++) {
        uint64_t first = model.last + 1;
        if (round % 37 == 36) { /* a new leader replaces the last few */
            term++;
            first = model.last - rng_below(&rng, 5);
            model.hs = (struct wal_hard_state){.term = term, .vote = term % 3, .commit = first - 1};
            wal_append(w, 0, NULL, 0, &model.hs);
        }
        uint64_t count = 1 + rng_below(&rng, 6);
        seq++;
        for (uint64_t i = 0; i < count; i++) {
            uint32_t size = round % 50 == 49 ? 60000 : (uint32_t)rng_below(&rng, 900);
            model_append(&model, w, i + 1 == count ? seq : 0, first + i, term, size,
                         (uint32_t)rng_next(&rng));
        }
        wal_submit(w);
        if (round % 3 == 0)
            wal_poll(w);
        if (round % 20 == 19) {
            wal_flush(w);
            ck_assert_uint_eq(reported, seq);
            ck_assert_uint_eq(wal_durable_index(w), model.last);
            ck_assert_uint_eq(wal_pending_bytes(w), 0);
            model_read_back(w, &model, wal_first_index(w), (uint32_t)(1 + rng_below(&rng, 64)),
                            rng_below(&rng, 3000));
        }
        if (round % 60 == 59) {
            uint64_t cut = model.last - 100;
            wal_cut(w, cut);
            ck_assert(round < 100 || wal_first_index(w) > 1);
            ck_assert_uint_le(wal_first_index(w), cut + 1);
            model_read_back(w, &model, wal_first_index(w), 64, 1 << 20);
            uint32_t n = 1;
            struct wal_entry e;
            uint64_t before = wal_first_index(w) - 1;
            ck_assert_int_eq(wal_read(w, before, before + 2, 10, &e, &n), TV_ECOMPACTED_LOG);
            ck_assert_uint_eq(wal_term_before_first(w), model.entries[before].term);
        }
        if (round % 90 == 89) {
            wal_close(w);
            w = model_reopen(&o, &model);
            wal_set_done(w, on_done, NULL);
            model_read_back(w, &model, wal_first_index(w), 10, 4096);
        }
    }
    wal_close(w);
    /* A few segments are kept, not all that were written. */
    w = model_reopen(&o, &model);
    ck_assert_uint_le(wal_size_bytes(w), 10 * o.segment_size_bytes);
    wal_close(w);
}

START_TEST(test_memory)
{
    for (uint32_t percent = 0; percent <= 100; percent += 25) {
        struct disk *d = disk_mem_new(percent);
        disk_mem_set_completion_percent(d, percent);
        story(d);
        disk_close(d);
    }
}
END_TEST

static void real_story(enum disk_mode mode)
{
    char err[256] = "";
    struct disk *d;
    (void)snprintf(dir_name, sizeof(dir_name), "test-wal-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir_name));
    int rv = disk_open(mode, dir_name, &d, err, sizeof(err));
    if (rv == TV_ENOTSUP) { /* io_uring is forbidden here */
        ck_assert_int_eq(mode, DISK_URING);
        ck_assert_int_eq(rmdir(dir_name), 0);
        return;
    }
    ck_assert_msg(rv == 0, "%s", err);
    story(d);
    disk_close(d);
    remove_dir();
}

START_TEST(test_uring)
{
    real_story(DISK_URING);
}
END_TEST

START_TEST(test_thread)
{
    real_story(DISK_SYNC);
}
END_TEST

/* --- single properties --- */

START_TEST(test_empty_and_ids)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    static struct replayed r;
    char err[256] = "";
    struct wal *w = model_reopen(&o, &model);
    ck_assert_uint_eq(wal_first_index(w), 1);
    ck_assert_uint_eq(wal_last_index(w), 0);
    struct wal_entry e;
    uint32_t n = 1;
    ck_assert_int_eq(wal_read(w, 1, 2, 100, &e, &n), TV_EAGAIN);
    ck_assert_uint_eq(n, 0);
    wal_close(w);

    o.member_id = 0xa2;
    ck_assert_int_eq(model_open(&o, NULL, &r, &w, err, sizeof(err)), TV_EINVAL);
    ck_assert_ptr_nonnull(strstr(err, "member a1"));
    ck_assert_ptr_nonnull(strstr(err, "0000000000000001.wal"));
    o.member_id = 0xa1;
    o.cluster_id = 0xc2;
    ck_assert_int_eq(model_open(&o, NULL, &r, &w, err, sizeof(err)), TV_EINVAL);
    o.cluster_id = 0xc1;
    wal_close(model_reopen(&o, &model));
    disk_close(d);
}
END_TEST

/* What is appended while the writes are under way goes out as one batch. */
START_TEST(test_group_commit)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    o.writes_max = 1;
    struct wal *w = model_reopen(&o, &model);
    wal_set_done(w, on_done, NULL);
    disk_mem_set_completion_percent(d, 0);
    for (uint64_t i = 1; i <= 50; i++) {
        model_append(&model, w, i, i, 1, 20, (uint32_t)i);
        wal_submit(w);
    }
    ck_assert(!wal_idle(w));
    ck_assert_uint_eq(wal_durable_index(w), 0);
    disk_mem_set_completion_percent(d, 100);
    wal_poll(w);
    ck_assert_uint_eq(reported, 1);
    ck_assert_uint_eq(wal_durable_index(w), 1);
    while (!wal_idle(w) && reported == 1)
        wal_poll(w);
    ck_assert_uint_eq(reported, 50); /* the 49 others at once */
    ck_assert_uint_eq(wal_durable_index(w), 50);
    wal_close(w);
    wal_close(model_reopen(&o, &model));
    disk_close(d);
}
END_TEST

START_TEST(test_large_entries)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    o.segment_size_bytes = 16 << 20;
    struct wal *w = model_reopen(&o, &model);
    ck_assert_uint_ge(wal_entry_bytes_max(w), 10 << 20);
    model_append(&model, w, 1, 1, 1, 10 << 20, 1);
    model_append(&model, w, 2, 2, 1, (uint32_t)wal_entry_bytes_max(w), 2);
    for (uint64_t i = 3; i < 40; i++) /* one unit of 37 MB */
        model_append(&model, w, i == 39 ? 3 : 0, i, 1, 1000000, (uint32_t)i);
    ck_assert_uint_gt(wal_pending_bytes(w), 50 << 20);
    wal_flush(w);
    model_read_back(w, &model, 1, 64, 1 << 20);
    wal_close(w);
    w = model_reopen(&o, &model);
    model_read_back(w, &model, 1, 64, SIZE_MAX);
    wal_close(w);
    disk_close(d);
}
END_TEST

/* Entries replaced while their first versions wait, are in flight, or are durable. */
START_TEST(test_replace_everywhere)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    o.writes_max = 2;
    struct wal *w = model_reopen(&o, &model);
    for (uint64_t i = 1; i <= 10; i++)
        model_append(&model, w, i, i, 1, 100, (uint32_t)i);
    wal_flush(w);
    disk_mem_set_completion_percent(d, 0);
    for (uint64_t i = 11; i <= 20; i++) { /* two in flight, eight wait */
        model_append(&model, w, i, i, 1, 100, (uint32_t)i);
        wal_submit(w);
    }
    ck_assert_uint_eq(wal_durable_index(w), 10);
    model_append(&model, w, 21, 18, 2, 50, 100); /* replaces queued ones */
    model_append(&model, w, 22, 11, 3, 50, 101); /* replaces one in flight */
    model_append(&model, w, 23, 12, 3, 50, 102);
    ck_assert_uint_eq(wal_last_index(w), 12);
    model_append(&model, w, 24, 9, 4, 50, 103); /* replaces durable ones */
    ck_assert_uint_eq(wal_durable_index(w), 8);
    model_append(&model, w, 25, 10, 4, 50, 104);
    ck_assert_uint_eq(wal_term(w, 8), 1);
    ck_assert_uint_eq(wal_term(w, 10), 4);
    struct wal_entry e;
    uint32_t n = 1;
    ck_assert_int_eq(wal_read(w, 9, 10, 100, &e, &n), TV_EAGAIN);
    wal_flush(w);
    ck_assert_uint_eq(wal_durable_index(w), 10);
    model_read_back(w, &model, 1, 3, 120);
    wal_close(w);
    w = model_reopen(&o, &model);
    model_read_back(w, &model, 1, 64, 1 << 20);
    wal_close(w);
    disk_close(d);
}
END_TEST

/* A follower that got a snapshot: the log goes on behind it, and forgets what it had. */
START_TEST(test_restart)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    struct wal *w = model_reopen(&o, &model);
    for (uint64_t i = 1; i <= 300; i++) {
        model_append(&model, w, i, i, 1, 1000, (uint32_t)i);
        if (i % 10 == 0)
            wal_flush(w);
    }
    wal_restart(w, 301, 1000, 5);
    model.before_first = model.last = model.hs.commit = 1000;
    ck_assert_uint_eq(wal_first_index(w), 1001);
    ck_assert_uint_eq(wal_term_before_first(w), 5);
    wal_set_done(w, on_done, NULL);
    reported = 0;
    wal_flush(w);
    ck_assert_uint_eq(reported, 301);
    ck_assert_uint_eq(wal_durable_index(w), 1000);
    wal_close(w);
    w = model_reopen(&o, &model);
    ck_assert_uint_eq(wal_first_index(w), 1001);
    for (uint64_t i = 1001; i <= 1200; i++) {
        model_append(&model, w, i, i, 6, 1000, (uint32_t)i);
        if (i % 10 == 0)
            wal_flush(w);
    }
    uint64_t before = wal_size_bytes(w);
    wal_cut(w, 500); /* segments of the forgotten entries go whatever the index */
    wal_flush(w);
    ck_assert_uint_eq(wal_first_index(w), 1001);
    model_read_back(w, &model, 1001, 64, 1 << 20);
    ck_assert_uint_lt(wal_size_bytes(w), before);
    wal_close(w);
    w = model_reopen(&o, &model);
    ck_assert_uint_eq(wal_term_before_first(w), 5);
    wal_close(w);
    disk_close(d);
}
END_TEST

START_TEST(test_payload_from_index)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    struct wal *w = model_reopen(&o, &model);
    for (uint64_t i = 1; i <= 20; i++)
        model_append(&model, w, i, i, 1, 50, (uint32_t)i);
    wal_close(w);
    o.payload_from_index = 11;
    static struct replayed r;
    char err[256];
    ck_assert_int_eq(model_open(&o, NULL, &r, &w, err, sizeof(err)), 0);
    for (uint64_t i = 1; i <= 20; i++) {
        ck_assert_uint_eq(r.m.entries[i].size, i < 11 ? 0 : 50);
        ck_assert_uint_eq(r.m.entries[i].term, 1);
    }
    model_read_back(w, &model, 1, 64, 1 << 20); /* the bytes are there */
    wal_close(w);
    disk_close(d);
}
END_TEST

static int refuse_third(void *ctx, const struct wal_entry *e)
{
    return e->log_index == 3 ? TV_EMALFORMED : 0;
}

START_TEST(test_replay_refused)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    struct wal *w = model_reopen(&o, &model);
    for (uint64_t i = 1; i <= 5; i++)
        model_append(&model, w, i, i, 1, 50, (uint32_t)i);
    wal_close(w);
    struct wal_replay replay = {.entry = refuse_third};
    char err[256];
    ck_assert_int_eq(wal_open(&o, &replay, &w, err, sizeof(err)), TV_EMALFORMED);
    wal_close(model_reopen(&o, &model));
    disk_close(d);
}
END_TEST

/* Segment sizes may change from one run to the next. */
START_TEST(test_other_segment_size)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    for (int run = 0; run < 4; run++) {
        o.segment_size_bytes = run % 2 == 0 ? 128 << 10 : 256 << 10;
        struct wal *w = model_reopen(&o, &model);
        for (int i = 0; i < 400; i++) {
            uint64_t at = model.last + 1;
            model_append(&model, w, at, at, 1, 900, (uint32_t)at);
            if (i % 7 == 0)
                wal_flush(w);
        }
        wal_cut(w, model.last - 50);
        wal_close(w);
    }
    disk_close(d);
}
END_TEST

/* --- a disk that fails ends the process --- */

static void fail_with(int errno_value)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    struct wal *w = model_reopen(&o, &model);
    disk_mem_fail_write_after(d, 1, errno_value);
    model_append(&model, w, 1, 1, 1, 50, 1);
    wal_flush(w);
    model_append(&model, w, 2, 2, 1, 50, 2);
    wal_flush(w);
}

START_TEST(test_write_fails)
{
    fail_with(EIO);
}
END_TEST

START_TEST(test_disk_full)
{
    fail_with(ENOSPC);
}
END_TEST

/* --- in the long run --- */

enum {
    LONG_RUN_SEGMENTS = 40,
    LONG_RUN_SEGMENT_BYTES = 4 << 20, /* to make one takes longer than some appends */
    LONG_RUN_ENTRY_BYTES = 100000,
};

static const struct disk_ops *true_ops;
static uint32_t files_made, files_removed;

static void counting_chore(struct disk *d, struct disk_chore *req)
{
    files_made += req->kind == DISK_PREPARE;
    files_removed += req->kind == DISK_UNLINK;
    true_ops->chore(d, req);
}

static void append_and_cut(struct wal *w, uint64_t entries, uint64_t keep_bytes)
{
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t log_index = wal_last_index(w) + 1;
        model_append(&model, w, log_index, log_index, 1, LONG_RUN_ENTRY_BYTES, (uint32_t)log_index);
        wal_flush(w);
        uint64_t end = wal_oldest_end(w);
        if (wal_size_bytes(w) > keep_bytes && end != UINT64_MAX)
            wal_cut(w, end);
    }
}

/* A log that is cut as it grows writes the same files again and again. */
START_TEST(test_files_stay)
{
    char err[256] = "";
    struct disk *d;
    (void)snprintf(dir_name, sizeof(dir_name), "test-wal-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir_name));
    ck_assert_int_eq(disk_open(DISK_SYNC, dir_name, &d, err, sizeof(err)), 0);
    true_ops = d->ops;
    struct disk_ops ops = *true_ops;
    ops.chore = counting_chore;
    d->ops = &ops;
    struct wal_options o = small_options(d);
    o.segment_size_bytes = LONG_RUN_SEGMENT_BYTES;
    memset(&model, 0, sizeof(model));
    struct wal *w = model_reopen(&o, &model);

    uint64_t entries = LONG_RUN_SEGMENTS / 2 * LONG_RUN_SEGMENT_BYTES / LONG_RUN_ENTRY_BYTES;
    files_made = files_removed = 0;
    append_and_cut(w, entries, 4 * o.segment_size_bytes);
    ck_assert_uint_gt(files_made, 0);
    files_made = files_removed = 0;
    append_and_cut(w, entries, 4 * o.segment_size_bytes);
    ck_assert_uint_eq(files_made, 0);
    ck_assert_uint_eq(files_removed, 0);
    wal_close(w);
    disk_close(d);
    remove_dir();
}
END_TEST

/* --- a disk without room for more segments --- */

static void append_until_it_waits(struct wal *w, uint64_t *seq)
{
    while (wal_idle(w)) {
        ++*seq;
        model_append(&model, w, *seq, *seq, 1, 3000, (uint32_t)*seq);
        wal_flush(w);
    }
}

START_TEST(test_no_room_for_spare)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    disk_mem_set_capacity(d, 2 * o.segment_size_bytes);
    struct wal *w = model_reopen(&o, &model);
    ck_assert(!wal_lacks_room(w));
    uint64_t seq = 0;
    append_until_it_waits(w, &seq);
    ck_assert(wal_lacks_room(w));
    ck_assert_uint_gt(seq, o.segment_size_bytes * 3 / 2 / 4096); /* both segments are full */
    ck_assert_uint_eq(wal_durable_index(w), seq - 1);
    ck_assert_uint_eq(wal_size_bytes(w), 2 * o.segment_size_bytes);

    /* Trying again does not help while nothing changes, and does no harm. */
    wal_retry_room(w);
    wal_poll(w);
    ck_assert(wal_lacks_room(w));
    /* Room again. */
    disk_mem_set_capacity(d, 3 * o.segment_size_bytes);
    wal_retry_room(w);
    wal_flush(w);
    ck_assert(!wal_lacks_room(w) || wal_idle(w));
    ck_assert_uint_eq(wal_durable_index(w), seq);

    /* No room, but an old segment that is given up takes the place of the missing one. */
    append_until_it_waits(w, &seq);
    ck_assert(wal_lacks_room(w));
    wal_cut(w, seq / 2);
    wal_flush(w);
    ck_assert(wal_idle(w));
    ck_assert_uint_eq(wal_durable_index(w), seq);
    model_read_back(w, &model, wal_first_index(w), 64, 1 << 20);
    model.before_first = wal_first_index(w) - 1;
    model.before_term = 1;
    append_until_it_waits(w, &seq);
    wal_close(w); /* what waits was never reported: it is lost */
    model.last = seq - 1;
    disk_mem_set_capacity(d, 0);
    w = model_reopen(&o, &model);
    model_read_back(w, &model, wal_first_index(w), 64, 1 << 20);
    wal_close(w);
    disk_close(d);
}
END_TEST

/* Room that comes and goes, segments given up meanwhile, chores late: what is reported stays. */
START_TEST(test_room_comes_and_goes)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct disk *d = disk_mem_new(seed);
        struct wal_options o = small_options(d);
        struct rng rng;
        rng_init(&rng, seed);
        o.segments_keep_max = (uint32_t)(seed % 3);
        memset(&model, 0, sizeof(model));
        reported = 0;
        struct wal *w = model_reopen(&o, &model);
        wal_set_done(w, on_done, NULL);
        uint64_t seq = 0;
        for (int round = 0; round < 800; round++) {
            uint64_t dice = rng_below(&rng, 20);
            if (dice == 0)
                disk_mem_set_capacity(d, (1 + rng_below(&rng, 8)) * o.segment_size_bytes);
            else if (dice == 1 && reported > 40)
                wal_cut(w, reported - rng_below(&rng, 40));
            else if (dice == 2)
                disk_mem_set_completion_percent(d, (uint32_t)rng_below(&rng, 101));
            else if (dice == 3)
                wal_retry_room(w);
            else if (dice == 4)
                wal_drop_spare(w);
            else if (wal_pending_bytes(w) < 200000) {
                seq++;
                model_append(&model, w, seq, seq, 1, (uint32_t)rng_below(&rng, 6000),
                             (uint32_t)seq);
                wal_submit(w);
            }
            wal_poll(w);
        }
        disk_mem_set_capacity(d, 0);
        disk_mem_set_completion_percent(d, 100);
        while (!wal_idle(w)) {
            wal_retry_room(w);
            wal_flush(w);
        }
        ck_assert_uint_eq(reported, seq);
        model_read_back(w, &model, wal_first_index(w), 64, 1 << 20);
        model.before_first = wal_first_index(w) - 1;
        model.before_term = wal_term_before_first(w);
        wal_close(w);
        wal_close(model_reopen(&o, &model));
        disk_close(d);
    }
}
END_TEST

/* Of a log that is cut down to one segment and a spare, two files are left, and it goes on. */
START_TEST(test_drop_spares)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    memset(&model, 0, sizeof(model));
    struct wal *w = model_reopen(&o, &model);
    uint64_t seq = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 150; i++) {
            seq++;
            model_append(&model, w, seq, seq, 1, 4000, (uint32_t)seq);
            wal_submit(w);
            wal_flush(w);
        }
        wal_cut(w, seq);
        wal_flush(w);
        ck_assert_uint_eq(wal_oldest_end(w), UINT64_MAX);
        ck_assert_uint_gt(wal_size_bytes(w), 2 * o.segment_size_bytes);
        for (int i = 0; i < 100; i++) { /* one that is being made ready is left alone */
            wal_drop_spare(w);
            wal_poll(w);
        }
        ck_assert_uint_eq(wal_size_bytes(w), 2 * o.segment_size_bytes);
        model.before_first = wal_first_index(w) - 1;
        model.before_term = 1;
        if (round == 1) {
            wal_close(w);
            w = model_reopen(&o, &model);
        }
    }
    model_read_back(w, &model, wal_first_index(w), 64, 1 << 20);
    wal_close(w);
    wal_close(model_reopen(&o, &model));
    disk_close(d);
}
END_TEST

START_TEST(test_open_without_room)
{
    char err_text[256];
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    struct wal *w = model_reopen(&o, &model);
    uint64_t seq = 0;
    disk_mem_set_capacity(d, 2 * o.segment_size_bytes);
    append_until_it_waits(w, &seq);
    model.last = seq - 1;
    wal_close(w);
    /* Not even the mark of the start finds a place. */
    struct replayed r;
    ck_assert_int_eq(model_open(&o, &model, &r, &w, err_text, sizeof(err_text)), TV_ENOSPC);
    ck_assert_msg(strstr(err_text, "No space left") != NULL, "%s", err_text);
    disk_mem_set_capacity(d, 0);
    wal_close(model_reopen(&o, &model));
    disk_close(d);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_memory,
        test_uring,
        test_thread,
        test_files_stay,
        test_empty_and_ids,
        test_group_commit,
        test_large_entries,
        test_replace_everywhere,
        test_restart,
        test_payload_from_index,
        test_replay_refused,
        test_other_segment_size,
        test_no_room_for_spare,
        test_room_comes_and_goes,
        test_drop_spares,
        test_open_without_room,
    };
    Suite *suite = suite_create("wal");
    TCase *tcase = tcase_create("wal");
    tcase_set_timeout(tcase, 300);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_test(tcase, tests[i]);
    /* Such a case needs a process of its own. */
    const char *fork_mode = getenv("CK_FORK");
    if (fork_mode == NULL || strcmp(fork_mode, "no") != 0) {
        tcase_add_test_raise_signal(tcase, test_write_fails, SIGABRT);
        tcase_add_test_raise_signal(tcase, test_disk_full, SIGABRT);
    }
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
