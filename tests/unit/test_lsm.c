/* The durable store: what is written through the store in memory and the persist thread comes back
 * from disk as exactly the state of the entry that the disk names.
 *
 * The workload is a function of seed and index, so the state after any entry can be made again. */
#include "lsm_rig.h"

#include "lsm_internal.h"

#include "base/clock.h"

#include <pthread.h>

/* --- the cases --- */

START_TEST(test_fresh)
{
    make_dir();
    struct loaded got;
    load(&got, NULL, 2);
    ck_assert_uint_eq(got.meta.applied_index, 0);
    ck_assert_int_eq(got.meta.revision, 1);
    ck_assert_int_eq(got.meta.compacted, -1);
    ck_assert_int_eq(mvcc_revision(got.m), 1);

    /* Records without a persist thread: the newest of equal names wins. */
    struct persist_meta *metas = NULL;
    persist_meta_put(&metas, SLICE_LITERAL("id"), SLICE_LITERAL("old"));
    persist_meta_delete(&metas, SLICE_LITERAL("id"));
    persist_meta_put(&metas, SLICE_LITERAL("id"), SLICE_LITERAL("new"));
    persist_meta_put(&metas, SLICE_LITERAL("gone"), SLICE_LITERAL("x"));
    persist_meta_delete(&metas, SLICE_LITERAL("gone"));
    lsm_put(got.l, metas);
    unload(&got);

    load(&got, NULL, 2);
    struct buf b;
    buf_init(&b, 100);
    ck_assert_int_eq(lsm_get(got.l, SLICE_LITERAL("id"), &b), 0);
    ck_assert(slice_equal(buf_slice(&b), SLICE_LITERAL("new")));
    ck_assert_int_eq(lsm_get(got.l, SLICE_LITERAL("gone"), &b), TV_ENOTFOUND);
    buf_fini(&b);
    unload(&got);
    remove_dir();
}
END_TEST

START_TEST(test_round_trips)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        make_dir();
        struct machine x;
        machine_init(&x, seed);
        for (int round = 0; round < 3; round++) {
            /* The store goes on in memory; the disk is closed and opened between. */
            struct lsm *l = open_lsm(NULL);
            struct persist *p = start(l, x.m, 100 + 300 * (seed % 2));
            machine_run(&x, p, 700);
            persist_free(p);
            lsm_close(l);
            ck_assert_uint_eq(check_disk(seed), x.index);
        }
        machine_fini(&x);
        remove_dir();
    }
}
END_TEST

START_TEST(test_restart_from_disk)
{
    make_dir();
    /* Each session begins with what the last one left and applies the lost entries again. */
    uint64_t seed = 77, reached = 0;
    for (int session = 0; session < 6; session++) {
        struct loaded got;
        load(&got, NULL, 2);
        ck_assert_uint_ge(got.meta.applied_index, reached);
        struct machine x;
        machine_replay(&x, seed, got.meta.applied_index);
        mvcc_free(x.m);
        x.m = got.m;
        struct persist *p = start(got.l, x.m, 90);
        while (x.index < got.meta.applied_index + 400) {
            machine_step(&x);
            if (x.index % 3 == 0)
                machine_publish(&x, p);
        }
        machine_publish(&x, p);
        if (session % 2 == 0) {
            flush(p, x.index);
            ck_assert_uint_eq(persist_backlog(p), 0);
            reached = x.index;
        }
        persist_abort(p);
        lsm_close(got.l);
        machine_fini(&x);
    }
    ck_assert_uint_gt(reached, 0);
    remove_dir();
}
END_TEST

static void crash_child(uint64_t seed)
{
    struct machine x;
    machine_init(&x, seed);
    struct lsm_options o;
    lsm_options_init(&o);
    o.garbage_versions_min = 50;
    o.garbage_percent = 10;
    o.small_files_max = 3;
    struct lsm *l = open_lsm(&o);
    struct persist *p = start(l, x.m, 20 + seed % 50);
    for (;;) { /* until killed */
        machine_run(&x, p, 200 + seed * 20);
        if (seed % 2 == 0)
            continue;
        /* Let the disk come up with the memory now and then, or it never finds garbage. */
        persist_request_flush(p);
        scrub_all(&x);
        usleep(20000);
    }
}

static void wait_ok(pid_t pid)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: status %x", status);
}

START_TEST(test_kill_at_any_time)
{
    /* RocksDB's threads do not survive a fork: this process never opens one. */
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    uint64_t committed = 0;
    for (uint64_t seed = 1; seed <= 25; seed++) {
        make_dir();
        struct rng rng;
        rng_init(&rng, seed);
        pid_t pid = fork();
        if (pid == 0)
            crash_child(seed);
        usleep((useconds_t)(20000 + rng_below(&rng, 400000)));
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        pid = fork();
        if (pid == 0) {
            uint64_t index = check_disk(seed);
            _exit(write(fds[1], &index, sizeof(index)) == sizeof(index) ? 0 : 1);
        }
        wait_ok(pid);
        uint64_t index;
        ck_assert_int_eq(read(fds[0], &index, sizeof(index)), sizeof(index));
        committed += index > 0;
        remove_dir();
    }
    ck_assert_uint_gt(committed, 5); /* or the kills came too early to say anything */
}
END_TEST

static int count_files(const char *ending)
{
    int count = 0;
    DIR *d = opendir(dir);
    struct dirent *e;
    while ((e = readdir(d)) != NULL)
        count += strstr(e->d_name, ending) != NULL;
    closedir(d);
    return count;
}

START_TEST(test_many_restarts)
{
    make_dir();
    struct machine x;
    machine_init(&x, 12);
    for (int i = 0; i < 30; i++) {
        struct lsm *l = open_lsm(NULL);
        if (i == 0) {
            struct persist *p = start(l, x.m, 50);
            machine_run(&x, p, 300);
            persist_free(p);
        }
        lsm_close(l);
    }
    ck_assert_int_lt(count_files(".log"), 15);
    ck_assert_uint_eq(check_disk(12), 300);
    machine_fini(&x);
    remove_dir();
}
END_TEST

START_TEST(test_one_large_revision)
{
    make_dir();
    struct lsm *l = open_lsm(NULL);
    struct mvcc *m = mvcc_new(NULL);
    struct persist *p = start(l, m, 1000);
    for (int round = 0; round < 2; round++) {
        mvcc_txn_begin(m);
        for (int i = 0; i < 9000; i++) {
            char key[32];
            int n = snprintf(key, sizeof(key), "k%06d", i);
            mvcc_txn_put(m, slice_of(key, (size_t)n), slice_of_string("v"), 0, NULL);
        }
        mvcc_txn_end(m);
        mvcc_publish(m);
        struct persist_batch *b = mem_alloc_zero(sizeof(*b));
        *b = (struct persist_batch){.applied_index = (uint64_t)round + 1,
                                    .applied_term = 1,
                                    .revision = mvcc_revision(m),
                                    .compacted = -1,
                                    .content = content_of(m)};
        persist_submit(p, b);
    }
    persist_free(p);
    lsm_close(l);
    struct loaded got;
    load(&got, NULL, 3);
    same_store(m, got.m);
    struct mvcc_stats st;
    mvcc_stats(got.m, &st);
    ck_assert_uint_eq(st.versions, 18000);
    unload(&got);
    mvcc_free(m);
    remove_dir();
}
END_TEST

static struct lsm_stats stats_of(struct lsm *l)
{
    struct lsm_stats st;
    lsm_stats(l, &st);
    return st;
}

/* In place of a pause, which the CPUs may not be busy enough for: a nanosecond is counted by the
 * tidy thread, and 2^32 by RocksDB's, which run the filter. */
void __wrap_background_give_way(struct metric_counter *paused_ns);
void __wrap_background_give_way(struct metric_counter *paused_ns)
{
    char name[16];
    ck_assert_int_eq(pthread_getname_np(pthread_self(), name, sizeof(name)), 0);
    if (paused_ns != NULL)
        metric_add_shared(paused_ns, strcmp(name, "tidy") == 0 ? 1 : UINT64_C(1) << 32);
}

static void put_large(struct machine *x, struct persist *p, uint32_t count, uint32_t bytes)
{
    uint8_t *value = mem_alloc(bytes);
    for (uint32_t i = 0; i < count; i++) {
        const struct mvcc_version *prev;
        for (uint32_t k = 0; k < bytes; k++) /* not to be compressed */
            value[k] = (uint8_t)rng_below(&x->turns, 256);
        mvcc_txn_begin(x->m);
        (void)mvcc_txn_put(x->m, SLICE_LITERAL("large"), slice_of(value, bytes), 0, &prev);
        mvcc_txn_end(x->m);
        x->index++;
        machine_publish(x, p);
    }
    mem_free(value);
}

/* With `large_count` versions of 64 KiB among it. How long it took from when they were put, in
 * nanoseconds. */
static uint64_t collect_garbage(struct lsm_options *o, uint32_t large_count)
{
    static struct lsm_meters meters;
    memset(&meters, 0, sizeof(meters));
    o->meters = &meters;
    make_dir();
    struct lsm *l = open_lsm(o);
    struct machine x;
    machine_init(&x, 5);
    struct persist *p = start(l, x.m, 500);
    machine_run(&x, p, 6000);
    put_large(&x, p, large_count, 64 << 10);
    uint64_t put_ns = clock_mono_ns();
    machine_run(&x, p, 200);
    mvcc_compact(x.m, mvcc_txn_revision(x.m) - 100);
    x.index++;
    machine_publish(&x, p);
    scrub_all(&x);
    x.index++; /* what is left adds up to a settled sum only now */
    machine_publish(&x, p);
    flush(p, x.index);
    struct mvcc_stats st;
    mvcc_stats(x.m, &st);
    /* What is left is what memory holds, and the compaction's own revision: that is kept. An
     * earlier compaction may have been collected first. */
    for (int i = 0; i < 3000 && stats_of(l).versions > st.versions + 10; i++)
        usleep(10000);
    ck_assert_uint_le(stats_of(l).versions, st.versions + 10);
    uint64_t took_ns = clock_mono_ns() - put_ns;
    persist_free(p);
    lsm_close(l);
    ck_assert_uint_gt(metric_read(&meters.tidy_pause) & UINT32_MAX, 0);
    ck_assert_uint_gt(metric_read(&meters.tidy_pause) >> 32, 0);

    struct loaded got;
    load(&got, NULL, 2);
    scrub_all(&x);
    same_store(x.m, got.m);
    same_records(&x, &got);
    unload(&got);
    machine_fini(&x);
    remove_dir();
    return took_ns;
}

START_TEST(test_garbage_is_collected)
{
    struct lsm_options o;
    lsm_options_init(&o);
    o.small_store_bytes = 0;
    o.garbage_versions_min = 1000;
    o.garbage_percent = 30;
    collect_garbage(&o, 0);
    /* Of a small store less is kept. */
    lsm_options_init(&o);
    collect_garbage(&o, 0);
}
END_TEST

/* 25 MB of garbage are read in 0.4 s, however fast the disk and the processors are. */
START_TEST(test_collection_is_paced)
{
    struct lsm_options o;
    lsm_options_init(&o);
    o.garbage_versions_min = 100; /* however little an earlier collection left */
    o.small_store_garbage_percent = 1;
    ck_assert_uint_gt(collect_garbage(&o, 400), 350000000);
}
END_TEST

START_TEST(test_small_files_are_merged)
{
    make_dir();
    struct lsm *l = open_lsm(NULL);
    struct machine x;
    machine_init(&x, 6);
    struct persist *p = start(l, x.m, 1);
    enum { COMMITS = 50 };
    while (stats_of(l).commits < COMMITS) {
        machine_run(&x, p, 5);
        usleep(10000);
    }
    for (int i = 0; i < 3000 && stats_of(l).files_count > COMMITS / 2; i++)
        usleep(10000);
    ck_assert_uint_le(stats_of(l).files_count, COMMITS / 2);
    persist_free(p);
    lsm_close(l);
    struct loaded got;
    load(&got, NULL, 2);
    scrub_all(&x);
    same_store(x.m, got.m);
    unload(&got);
    machine_fini(&x);
    remove_dir();
}
END_TEST

/* And how many of them hold 50,000 versions. */
static size_t tables_count(struct lsm *l, size_t *ret_full)
{
    size_t count;
    struct lsm_file *files = lsm__files(l, &count);
    *ret_full = 0;
    for (size_t i = 0; i < count; i++)
        *ret_full += files[i].versions == 50000;
    mem_free(files);
    return count;
}

START_TEST(test_files_of_many_versions_are_not_merged)
{
    make_dir();
    enum { FULL = 2, SMALL = 3 };
    struct lsm_options o;
    lsm_options_init(&o);
    o.small_files_max = SMALL;
    struct lsm *l = open_lsm(&o);
    struct machine x;
    machine_init(&x, 7);
    struct persist *p = start(l, x.m, 1000000);
    for (int i = 0; i < FULL + SMALL; i++) {
        put_large(&x, p, i < FULL ? 50000 : 10, 1);
        flush(p, x.index);
    }
    size_t full;
    for (int i = 0; i < 3000 && tables_count(l, &full) > FULL + 1; i++)
        usleep(10000);
    ck_assert_uint_eq(tables_count(l, &full), FULL + 1);
    ck_assert_uint_eq(full, FULL);
    persist_free(p);
    lsm_close(l);
    machine_fini(&x);
    remove_dir();
}
END_TEST

static void flip_bytes_of_largest_table(void)
{
    char path[600], largest[600] = "";
    off_t size = 0;
    DIR *d = opendir(dir);
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        struct stat st;
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (strstr(e->d_name, ".sst") != NULL && stat(path, &st) == 0 && st.st_size > size) {
            size = st.st_size;
            memcpy(largest, path, sizeof(path));
        }
    }
    closedir(d);
    int fd = open(largest, O_RDWR);
    ck_assert_int_ge(fd, 0);
    uint8_t byte;
    ck_assert_int_eq(pread(fd, &byte, 1, size / 3), 1);
    byte ^= 0x40;
    ck_assert_int_eq(pwrite(fd, &byte, 1, size / 3), 1);
    close(fd);
}

START_TEST(test_damage_is_reported)
{
    make_dir();
    struct lsm *l = open_lsm(NULL);
    struct machine x;
    machine_init(&x, 9);
    struct persist *p = start(l, x.m, 100000);
    machine_run(&x, p, 3000);
    persist_free(p);
    lsm_close(l);
    flip_bytes_of_largest_table();

    char text[256] = "";
    struct mvcc *m = mvcc_new(NULL);
    mvcc_txn_begin(m);
    mvcc_txn_put(m, SLICE_LITERAL("kept"), SLICE_LITERAL("v"), 0, NULL);
    mvcc_txn_end(m);
    mvcc_publish(m);
    l = open_lsm(NULL);
    struct lsm_meta meta;
    int err = lsm_load(l, m, 2, &meta, NULL, NULL, text, sizeof(text));
    ck_assert_int_eq(err, TV_ECORRUPT);
    ck_assert_uint_gt(strlen(text), 0);
    ck_assert_ptr_nonnull(mvcc_get(m, SLICE_LITERAL("kept"), 0));
    lsm_close(l);
    mvcc_free(m);
    machine_fini(&x);
    remove_dir();
}
END_TEST

/* One version gets another value; RocksDB's checksums are right. */
static void alter_a_version(bool drop)
{
    char *message = NULL, key[32];
    size_t key_size, size;
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_num_levels(o, 2);
    rocksdb_t *db = rocksdb_open(o, dir, &message);
    ck_assert_ptr_null(message);
    rocksdb_readoptions_t *ro = rocksdb_readoptions_create();
    rocksdb_iterator_t *it = rocksdb_create_iterator(db, ro);
    rocksdb_iter_seek_to_last(it); /* 's' */
    do
        rocksdb_iter_prev(it);
    while (rocksdb_iter_key(it, &key_size)[0] != 'k' ||
           rocksdb_iter_value(it, &size)[size - 1] < 'a' || /* a value's last byte */
           rocksdb_iter_value(it, &size)[size - 1] > 'z');
    const char *found = rocksdb_iter_key(it, &key_size);
    memcpy(key, found, key_size);
    char *value = malloc(4096);
    found = rocksdb_iter_value(it, &size);
    memcpy(value, found, size);
    value[size - 1] = value[size - 1] == 'a' ? 'b' : 'a';
    rocksdb_iter_destroy(it);
    rocksdb_writeoptions_t *wo = rocksdb_writeoptions_create();
    if (drop)
        rocksdb_delete(db, wo, key, key_size, &message);
    else
        rocksdb_put(db, wo, key, key_size, value, size, &message);
    ck_assert_ptr_null(message);
    free(value);
    rocksdb_writeoptions_destroy(wo);
    rocksdb_readoptions_destroy(ro);
    rocksdb_close(db);
    rocksdb_options_destroy(o);
}

START_TEST(test_versions_must_add_up)
{
    for (int drop = 0; drop <= 1; drop++) {
        make_dir();
        struct lsm *l = open_lsm(NULL);
        struct machine x;
        machine_init(&x, 9);
        struct persist *p = start(l, x.m, 1000);
        machine_run(&x, p, 3000);
        persist_free(p);
        lsm_close(l);
        alter_a_version(drop != 0);
        char text[256] = "";
        struct mvcc *m = mvcc_new(NULL);
        struct lsm_meta meta;
        l = open_lsm(NULL);
        ck_assert_int_eq(lsm_load(l, m, 2, &meta, NULL, NULL, text, sizeof(text)), TV_ECORRUPT);
        ck_assert_msg(strstr(text, "add up") != NULL, "%s", text);
        lsm_close(l);
        mvcc_free(m);
        machine_fini(&x);
        remove_dir();
    }
}
END_TEST

START_TEST(test_current_is_gone)
{
    make_dir();
    struct lsm *l = open_lsm(NULL);
    struct persist_meta *metas = NULL;
    persist_meta_put(&metas, SLICE_LITERAL("n"), SLICE_LITERAL("v"));
    lsm_put(l, metas);
    lsm_close(l);
    char path[300], text[256] = "";
    (void)snprintf(path, sizeof(path), "%s/CURRENT", dir);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(lsm_open(dir, NULL, &l, text, sizeof(text)), TV_ECORRUPT);
    ck_assert_msg(strstr(text, "CURRENT: offset 0") != NULL, "%s", text);
    remove_dir();
}
END_TEST

START_TEST(test_save)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        make_dir();
        struct machine x;
        machine_init(&x, seed);
        while (x.index < 900)
            machine_step(&x);
        mvcc_publish(x.m);
        if (seed == 2)
            while (mvcc_scrub(x.m, SCRUB_SLICE))
                ;
        struct lsm *l = open_lsm(NULL);
        ck_assert_int_eq(lsm_save(l, x.m, x.index, 1 + x.index / 1000, x.metas), 0);
        x.metas = NULL;
        lsm_close(l);
        ck_assert_uint_eq(check_disk(seed), 900);
        l = open_lsm(NULL); /* and on from there */
        struct persist *p = start(l, x.m, 100);
        machine_run(&x, p, 500);
        persist_free(p);
        lsm_close(l);
        ck_assert_uint_eq(check_disk(seed), 1400);
        machine_fini(&x);
        remove_dir();
    }
}
END_TEST

UNIT_MAIN("lsm", test_fresh, test_round_trips, test_restart_from_disk, test_kill_at_any_time,
          test_many_restarts, test_one_large_revision, test_garbage_is_collected,
          test_collection_is_paced, test_small_files_are_merged,
          test_files_of_many_versions_are_not_merged, test_damage_is_reported,
          test_versions_must_add_up, test_current_is_gone, test_save)
