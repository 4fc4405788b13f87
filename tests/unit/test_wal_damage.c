/* Damage to a log that was closed: each region of each file, by a bit, by the length, by taking
 * files away or from elsewhere. What was durable is never cut off as if it had been torn. */
#include "wal_model.h"

#include "wal_format.h"

static struct model model;

static struct wal_options options(struct disk *d, uint64_t member_id, uint64_t salt)
{
    struct wal_options o;
    wal_options_init(&o);
    o.disk = d;
    o.segment_size_bytes = 128 << 10;
    o.cluster_id = 0xc1;
    o.member_id = member_id;
    o.salt = salt;
    return o;
}

/* Three segments that hold something, a spare, and a clean end. */
static struct disk *fill(uint64_t member_id, uint64_t salt)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = options(d, member_id, salt);
    memset(&model, 0, sizeof(model));
    struct wal *w = model_reopen(&o, &model);
    for (uint64_t i = 1; i <= 60; i++) {
        model_append(&model, w, i, i, 1, 4500, (uint32_t)i);
        wal_flush(w);
    }
    wal_close(w);
    return d;
}

static const char *name_of(uint64_t seq)
{
    static char name[2][DISK_NAME_MAX];
    static int which;
    which = !which;
    wal__segment_name(name[which], seq);
    return name[which];
}

static int open_log(struct disk *d, uint64_t log_id, char *err, size_t size)
{
    static struct replayed r;
    struct wal *w;
    struct wal_options o = options(d, 0xa1, 42);
    o.log_id = log_id;
    *err = '\0';
    int rv = model_open(&o, &model, &r, &w, err, size);
    if (rv != 0)
        return rv;
    /* Nothing that was there may be missing. */
    ck_assert_uint_eq(r.m.last, model.last);
    ck_assert_uint_eq(r.wrong_from, 0);
    wal_close(w);
    return 0;
}

static void must_refuse(struct disk *d, const char *file)
{
    char err[256];
    ck_assert_int_eq(open_log(d, 0, err, sizeof(err)), TV_ECORRUPT);
    ck_assert_msg(strstr(err, file) != NULL && strstr(err, "offset ") != NULL, "%s", err);
    disk_close(d);
}

/* Where the batches of a segment are; the last one of the last segment is the mark at the end. */
static uint32_t batches(struct disk *d, uint64_t seq, uint64_t *ret_at, struct wal_frame *ret_frame)
{
    uint64_t size;
    const uint8_t *bytes = disk_mem_bytes(d, name_of(seq), &size);
    uint32_t count = 0;
    uint64_t at = WAL_BLOCK_BYTES;
    while (at < size && wal__frame_peek(bytes + at, seq, size - at, &ret_frame[count])) {
        ret_at[count] = at;
        at += wal__frame_bytes(ret_frame[count++].body_bytes);
    }
    return count;
}

static uint64_t last_segment(struct disk *d)
{
    uint64_t at[64], seq = 1;
    struct wal_frame f[64];
    while (disk_mem_bytes(d, name_of(seq + 1), &(uint64_t){0}) != NULL &&
           batches(d, seq + 1, at, f) > 0)
        seq++;
    return seq;
}

START_TEST(test_a_bit_anywhere)
{
    struct disk *whole = fill(0xa1, 42);
    uint64_t last = last_segment(whole);
    ck_assert_uint_ge(last, 3);
    for (uint64_t seq = 1; seq <= last; seq++) {
        uint64_t at[64];
        struct wal_frame f[64];
        uint32_t count = batches(whole, seq, at, f);
        /* The header's block, and of each batch its head, its body and the zeros behind it. */
        for (uint64_t offset = 0; offset < WAL_BLOCK_BYTES; offset += 97) {
            struct disk *d = disk_mem_clone(whole, 1);
            disk_mem_bytes(d, name_of(seq), &(uint64_t){0})[offset] ^= 1;
            must_refuse(d, name_of(seq));
        }
        for (uint32_t i = 0; i < count - (seq == last); i++) {
            uint64_t size = wal__frame_bytes(f[i].body_bytes);
            for (uint64_t offset = 0; offset < size; offset += offset < 88 ? 1 : 501) {
                struct disk *d = disk_mem_clone(whole, 1);
                disk_mem_bytes(d, name_of(seq), &(uint64_t){0})[at[i] + offset] ^= 0x10;
                must_refuse(d, name_of(seq));
            }
        }
    }
    disk_close(whole);
}
END_TEST

START_TEST(test_what_cannot_matter)
{
    struct disk *whole = fill(0xa1, 42);
    uint64_t last = last_segment(whole), size, at[64];
    struct wal_frame f[64];
    char err[256];
    uint32_t count = batches(whole, last, at, f);
    uint64_t mark = at[count - 1];
    (void)disk_mem_bytes(whole, name_of(last), &size);
    /* The mark itself, and what was never written. */
    for (uint64_t offset = mark; offset < size; offset += offset < mark + 100 ? 3 : 4099) {
        struct disk *d = disk_mem_clone(whole, 1);
        disk_mem_bytes(d, name_of(last), &(uint64_t){0})[offset] ^= 1;
        ck_assert_msg(open_log(d, 42, err, sizeof(err)) == 0, "%s", err);
        disk_close(d);
    }
    disk_close(whole);
}
END_TEST

static void copy_file(struct disk *to, const char *name, struct disk *from, const char *from_name)
{
    uint64_t size, from_size;
    uint8_t *bytes = disk_mem_bytes(to, name, &size);
    const uint8_t *from_bytes = disk_mem_bytes(from, from_name, &from_size);
    ck_assert_uint_eq(size, from_size);
    memcpy(bytes, from_bytes, size);
}

START_TEST(test_files_from_elsewhere)
{
    struct disk *members = fill(0xa2, 42), *logs = fill(0xa1, 43), *whole = fill(0xa1, 42);
    uint64_t last = last_segment(whole);
    for (uint64_t seq = 1; seq <= last; seq++) {
        struct disk *d = disk_mem_clone(whole, 1);
        copy_file(d, name_of(seq), logs, name_of(seq));
        must_refuse(d, ".wal");
        for (uint64_t other = 1; other <= last; other++) { /* swapped with, or a copy of, another */
            if (other == seq)
                continue;
            d = disk_mem_clone(whole, 1);
            copy_file(d, name_of(seq), whole, name_of(other));
            must_refuse(d, ".wal");
        }
    }
    char err[256];
    for (uint64_t seq = 2; seq <= last; seq++) {
        struct disk *d = disk_mem_clone(whole, 1);
        copy_file(d, name_of(seq), members, name_of(seq));
        must_refuse(d, name_of(seq));
    }
    ck_assert_int_eq(open_log(members, 0, err, sizeof(err)), TV_EINVAL); /* as a whole: a mistake */
    disk_close(members);
    disk_close(logs);
    disk_close(whole);
}
END_TEST

START_TEST(test_the_log_is_known)
{
    char err[256];
    struct disk *whole = fill(0xa1, 42), *empty = disk_mem_new(3);
    ck_assert_int_eq(open_log(whole, 41, err, sizeof(err)), TV_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err, "another log"));
    ck_assert_int_eq(open_log(whole, 42, err, sizeof(err)), 0);
    ck_assert_int_eq(open_log(empty, 42, err, sizeof(err)), TV_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err, "missing"));
    disk_close(empty);
    disk_close(whole);
}
END_TEST

UNIT_MAIN("wal_damage", test_a_bit_anywhere, test_what_cannot_matter, test_files_from_elsewhere,
          test_the_log_is_known)
