/* Where a log ends after a crash, and what is damage: every way to tear the last batch, damage in
 * older ones, and random runs that lose power again and again. */
#include "wal_model.h"

static struct model model;
static struct replayed seen;

static struct wal_options small_options(struct disk *d)
{
    struct wal_options o;
    wal_options_init(&o);
    o.disk = d;
    o.segment_size_bytes = 64 << 10;
    o.segments_keep_max = 2;
    o.cluster_id = 0xc1;
    o.member_id = 0xa1;
    o.salt = 42;
    return o;
}

static int open_it(struct disk *d, struct wal **ret, char *err_text, size_t err_size)
{
    struct wal_options o = small_options(d);
    return model_open(&o, &model, &seen, ret, err_text, err_size);
}

/* The log takes power loss now. */
static void crash(struct disk *d, struct wal *w)
{
    disk_mem_crash(d);
    wal_abandon(w);
}

/* --- one torn write, exhaustively --- */

enum { OLD_ENTRIES = 5, NEW_ENTRIES = 4, BIG = 2900 };

/* A log of a few durable batches, and the bytes of the file before and after one more batch of
 * three blocks, from *ret_from to *ret_to. */
static struct disk *torn_setup(uint8_t **ret_before, uint8_t **ret_after, uint64_t *ret_from,
                               uint64_t *ret_to)
{
    struct disk *d = disk_mem_new(1);
    struct wal *w;
    char err[256] = "";
    uint64_t size;
    memset(&model, 0, sizeof(model));
    ck_assert_msg(open_it(d, &w, err, sizeof(err)) == 0, "%s", err);
    for (uint64_t i = 1; i <= OLD_ENTRIES; i++) {
        model_append(&model, w, i, i, 1, 100, (uint32_t)i);
        wal_flush(w);
    }
    const char *name = "0000000000000001.wal";
    uint8_t *bytes = disk_mem_bytes(d, name, &size);
    *ret_before = mem_dup(bytes, size);
    for (uint64_t i = 1; i <= NEW_ENTRIES; i++)
        model_append(&model, w, i == NEW_ENTRIES ? 100 : 0, OLD_ENTRIES + i, 2, BIG, (uint32_t)i);
    wal_flush(w);
    *ret_after = mem_dup(bytes, size);
    uint64_t from = 0, to = size;
    while ((*ret_before)[from] == (*ret_after)[from])
        from++;
    while ((*ret_before)[to - 1] == (*ret_after)[to - 1])
        to--;
    *ret_from = from / 4096 * 4096;
    *ret_to = (to + 4095) / 4096 * 4096;
    ck_assert_uint_eq(*ret_to - *ret_from, 3 * 4096);
    crash(d, w);
    return d;
}

/* Open what is on the disk: all of the last batch, or nothing of it; then go on writing, and crash
 * and open once more, so that what was torn cannot come back. */
static void check_torn(struct disk *d, bool whole)
{
    struct wal *w;
    char err[256] = "";
    for (int again = 0; again < 2; again++) {
        ck_assert_msg(open_it(d, &w, err, sizeof(err)) == 0, "%s", err);
        ck_assert_uint_eq(seen.wrong_from, 0);
        ck_assert_uint_eq(seen.m.last, whole ? OLD_ENTRIES + NEW_ENTRIES : OLD_ENTRIES);
        crash(d, w);
    }
    ck_assert_int_eq(open_it(d, &w, err, sizeof(err)), 0);
    struct model saved = model;
    uint64_t last = seen.m.last;
    model_append(&model, w, 1, last + 1, 7, 10, 77);
    wal_flush(w);
    crash(d, w);
    ck_assert_msg(open_it(d, &w, err, sizeof(err)) == 0, "%s", err);
    ck_assert_uint_eq(seen.wrong_from, 0);
    ck_assert_uint_eq(seen.m.last, last + 1);
    wal_close(w);
    model = saved;
}

/* What became of the sectors, from the first on: written up to `at`, then not; or the reverse; or
 * one sector lost; or one full of something else. */
START_TEST(test_torn_everywhere)
{
    uint8_t *before, *after;
    uint64_t from, to, size;
    struct disk *base = torn_setup(&before, &after, &from, &to);
    for (uint64_t at = from; at <= to; at += 512) {
        for (int way = 0; way < 5; way++) {
            if (at == to && way >= 2)
                continue;
            struct disk *d = disk_mem_clone(base, 1);
            uint8_t *bytes = disk_mem_bytes(d, "0000000000000001.wal", &size);
            memcpy(bytes, way == 0 ? before : after, size);
            if (way == 0)
                memcpy(bytes + from, after + from, at - from);
            else if (way == 1)
                memcpy(bytes + from, before + from, at - from);
            else if (way == 2)
                memcpy(bytes + at, before + at, 512);
            else if (way == 3)
                memset(bytes + at, 0xff, 512);
            else
                bytes[at + at / 512 % 512] ^= 1;
            bool whole = memcmp(bytes, after, size) == 0;
            check_torn(d, whole);
            disk_close(d);
        }
    }
    disk_close(base);
    mem_free(before);
    mem_free(after);
}
END_TEST

/* Two batches are torn together; the second lacks one sector of zeros. A later torn write in its
 * place may bring that very sector: the old batch must not come back to life. */
START_TEST(test_torn_twice)
{
    struct disk *d = disk_mem_new(1);
    struct wal_options o = small_options(d);
    o.writes_max = 2;
    struct wal *w;
    char err[256] = "";
    uint64_t size;
    memset(&model, 0, sizeof(model));
    ck_assert_int_eq(model_open(&o, &model, &seen, &w, err, sizeof(err)), 0);
    disk_mem_set_completion_percent(d, 0);
    for (uint64_t i = 1; i <= 2; i++) {
        model_append(&model, w, i, i, 1, 100, (uint32_t)i);
        wal_submit(w);
    }
    wal_flush(w);
    crash(d, w);
    /* header block, the opening's mark, entry 1, entry 2 */
    uint8_t *bytes = disk_mem_bytes(d, "0000000000000001.wal", &size);
    memset(bytes + 2 * 4096, 0xff, 4096);
    bytes[4 * 4096 - 1] = 0xff;
    disk_mem_set_completion_percent(d, 100);
    ck_assert_msg(model_open(&o, &model, &seen, &w, err, sizeof(err)) == 0, "%s", err);
    ck_assert_uint_eq(seen.m.last, 0);
    crash(d, w);
    bytes[4 * 4096 - 1] = 0;
    ck_assert_msg(model_open(&o, &model, &seen, &w, err, sizeof(err)) == 0, "%s", err);
    ck_assert_uint_eq(seen.m.last, 0);
    wal_close(w);
    disk_close(d);
}
END_TEST

/* --- damage --- */

/* A bit anywhere in a batch that was durable: refused, naming the file and the batch's offset, and
 * the disk is left as it is. */
START_TEST(test_damage_is_refused)
{
    struct disk *base = disk_mem_new(1);
    struct wal *w;
    char err[256] = "", want[64];
    uint64_t size;
    memset(&model, 0, sizeof(model));
    ck_assert_int_eq(open_it(base, &w, err, sizeof(err)), 0);
    for (uint64_t i = 1; i <= 30; i++) { /* two blocks each: five segments of seven */
        model_append(&model, w, i, i, 1, 5000, (uint32_t)i);
        wal_flush(w);
    }
    wal_close(w); /* so that the very last batch is known to have been durable */

    for (uint32_t segment = 1; segment <= 4; segment++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "%016x.wal", segment);
        for (uint64_t at = 0; at < 64 << 10; at += 512 - 7) {
            struct disk *d = disk_mem_clone(base, 1);
            uint8_t *bytes = disk_mem_bytes(d, name, &size);
            ck_assert_ptr_nonnull(bytes);
            if (segment == 4 && at >= 4096) { /* begun, and not full: find where the data ends */
                uint64_t end = size;
                while (bytes[end - 1] == 0)
                    end--;
                if (at >= end - 4096) { /* the mark of the clean end is the last batch itself */
                    disk_close(d);
                    break;
                }
            }
            uint8_t *copy = mem_dup(bytes, size);
            bytes[at] ^= 0x10;
            bool unused = memcmp(copy + at / 4096 * 4096, (uint8_t[4096]){0}, 4096) == 0;
            copy[at] ^= 0x10;
            int rv = open_it(d, &w, err, sizeof(err));
            if (unused) { /* behind a segment's last batch: nobody's bytes */
                ck_assert_int_eq(rv, 0);
                wal_close(w);
            } else {
                ck_assert_int_eq(rv, TV_ECORRUPT);
                (void)snprintf(want, sizeof(want), "%s: offset ", name);
                const char *found = strstr(err, want);
                ck_assert_msg(found != NULL, "%s", err);
                uint64_t offset = strtoull(found + strlen(want), NULL, 10);
                ck_assert_uint_le(offset, at);
                ck_assert_uint_lt(at - offset, 8192);
                ck_assert_mem_eq(bytes, copy, size);
            }
            mem_free(copy);
            disk_close(d);
        }
    }
    disk_close(base);
}
END_TEST

struct unlinking {
    struct disk_chore req;
    bool done;
};

static void unlinked(struct disk_chore *req, int err)
{
    ((struct unlinking *)req)->done = err == 0;
}

START_TEST(test_missing_segment)
{
    struct disk *base = disk_mem_new(1);
    struct wal *w;
    char err[256] = "";
    memset(&model, 0, sizeof(model));
    ck_assert_int_eq(open_it(base, &w, err, sizeof(err)), 0);
    for (uint64_t i = 1; i <= 30; i++) {
        model_append(&model, w, i, i, 1, 5000, (uint32_t)i);
        wal_flush(w);
    }
    wal_close(w);
    for (uint32_t segment = 2; segment <= 3; segment++) {
        struct disk *d = disk_mem_clone(base, 1);
        struct unlinking x = {.req = {.kind = DISK_UNLINK, .done = unlinked}};
        (void)snprintf(x.req.name, sizeof(x.req.name), "%016x.wal", segment);
        disk_do_chore(d, &x.req);
        disk_poll(d, true);
        ck_assert(x.done);
        ck_assert_int_eq(open_it(d, &w, err, sizeof(err)), TV_ECORRUPT);
        ck_assert_msg(strstr(err, x.req.name) != NULL || strstr(err, "does not verify") != NULL,
                      "%s", err);
        disk_close(d);
    }
    disk_close(base);
}
END_TEST

/* --- random runs --- */

struct run {
    struct disk *d;
    struct wal *w;
    struct rng rng;
    uint64_t seed;
    uint64_t seq;
    uint64_t term;
    uint64_t commit;
    uint64_t reported;
};

enum { HISTORY_MAX = 4096 };

/* What each append changed, to know what the log was after any of them. */
struct history {
    uint64_t first; /* entries [first, first + count) were appended, replacing what was behind */
    uint64_t count;
    struct model_entry entries[8];
    struct wal_hard_state hs;
    uint64_t restart_index; /* 0: none */
    uint64_t restart_term;
};

static struct history history[HISTORY_MAX];

/* Only the first `count` entries of the append, and then not its hard state: an append may be
 * written as several batches, and a crash may come between them. */
static void history_apply_part(struct model *m, const struct history *h, uint64_t count)
{
    if (h->restart_index != 0) {
        m->before_first = m->last = h->restart_index;
        m->before_term = h->restart_term;
        if (m->hs.commit < h->restart_index)
            m->hs.commit = h->restart_index;
    }
    for (uint64_t i = 0; i < count; i++)
        m->entries[h->first + i] = h->entries[i];
    if (count > 0)
        m->last = h->first + count - 1;
}

static void history_apply(struct model *m, const struct history *h)
{
    history_apply_part(m, h, h->count);
    m->hs = h->hs;
}

static bool same_log(const struct model *m, const struct model *got)
{
    if (m->last != got->last || m->hs.term != got->hs.term || m->hs.vote != got->hs.vote ||
        m->hs.commit != got->hs.commit)
        return false;
    for (uint64_t i = got->before_first + 1; i <= got->last; i++) {
        if (m->entries[i].term != got->entries[i].term ||
            m->entries[i].seed != got->entries[i].seed)
            return false;
    }
    return true;
}

/* A seed can be told from the bytes: the first four say it. */
static int run_entry(void *ctx, const struct wal_entry *e)
{
    struct replayed *r = ctx;
    ck_assert_uint_ge(e->data.size, 4);
    int rv = replayed_entry(ctx, e);
    uint32_t seed;
    memcpy(&seed, e->data.data, 4);
    bool right = true; /* Check writes a line for every assertion */
    for (size_t i = 4; i < e->data.size; i++)
        right = right && e->data.data[i] == model_byte(seed, (uint32_t)i);
    ck_assert(right);
    r->m.entries[e->log_index].seed = seed;
    return rv;
}

static void run_done(void *ctx, uint64_t seq)
{
    ((struct run *)ctx)->reported = seq;
}

static void run_open(struct run *r)
{
    struct wal_options o = small_options(r->d);
    o.writes_max = (uint32_t)(1 + r->seed % 4);
    memset(&seen, 0, sizeof(seen));
    struct wal_replay replay = {.ctx = &seen,
                                .entry = run_entry,
                                .hard_state = replayed_hard_state,
                                .start = replayed_start};
    char err[256] = "";
    disk_mem_set_completion_percent(r->d, 100);
    ck_assert_msg(wal_open(&o, &replay, &r->w, err, sizeof(err)) == 0, "seed %llu: %s",
                  (unsigned long long)r->seed, err);
    wal_set_done(r->w, run_done, r);
    disk_mem_set_completion_percent(r->d, (uint32_t)(r->seed * 7 % 90));
}

static void run_append(struct run *r)
{
    struct history *h = &history[++r->seq];
    memset(h, 0, sizeof(*h));
    uint64_t choice = rng_below(&r->rng, 40);
    h->hs = model.hs;
    h->first = model.last + 1;
    if (choice == 0 && r->reported == r->seq - 1) {
        h->restart_index = model.last + rng_below(&r->rng, 10);
        h->restart_term = ++r->term;
        if (h->restart_index == 0)
            h->restart_index = 1;
        h->first = h->restart_index + 1;
        r->commit = h->restart_index;
        wal_restart(r->w, 0, h->restart_index, h->restart_term);
    } else if (choice < 4) { /* replace uncommitted entries */
        r->term++;
        h->first = r->commit + 1 + rng_below(&r->rng, model.last - r->commit + 1);
    }
    h->count = 1 + rng_below(&r->rng, 8);
    struct wal_entry entries[8];
    uint8_t *bytes[8];
    for (uint64_t i = 0; i < h->count; i++) {
        uint32_t size = (uint32_t)(4 + rng_below(&r->rng, rng_below(&r->rng, 8) == 0 ? 6000 : 200));
        h->entries[i] = (struct model_entry){
            .term = r->term, .size = size, .seed = (uint32_t)rng_next(&r->rng)};
        bytes[i] = mem_alloc(size);
        model_fill(bytes[i], &h->entries[i]);
        memcpy(bytes[i], &h->entries[i].seed, 4);
        entries[i] = (struct wal_entry){
            .term = r->term, .log_index = h->first + i, .data = slice_of(bytes[i], size)};
    }
    h->hs.term = r->term;
    h->hs.vote = r->seq;
    h->hs.commit = r->commit;
    wal_append(r->w, r->seq, entries, (uint32_t)h->count, &h->hs);
    for (uint64_t i = 0; i < h->count; i++)
        mem_free(bytes[i]);
    history_apply(&model, h);
}

/* The log is the state after some append, none older than the last that was reported. */
static void run_check(struct run *r, const struct model *start, uint64_t start_seq)
{
    static struct model m;
    m = *start;
    uint64_t found = UINT64_MAX;
    for (uint64_t seq = start_seq;; seq++) {
        if (seq >= r->reported && same_log(&m, &seen.m))
            found = seq; /* the latest, should two be the same */
        if (seq == r->seq)
            break;
        const struct history *h = &history[seq + 1];
        for (uint64_t count = h->restart_index != 0 ? 0 : 1; count <= h->count; count++) {
            history_apply_part(&m, h, count);
            if (seq >= r->reported && same_log(&m, &seen.m))
                found = seq;
        }
        history_apply(&m, h);
    }
    ck_assert_msg(found != UINT64_MAX, "seed %llu: reported %llu, appended %llu, log ends at %llu",
                  (unsigned long long)r->seed, (unsigned long long)r->reported,
                  (unsigned long long)r->seq, (unsigned long long)seen.m.last);
}

static void run_seed(uint64_t seed)
{
    static struct model start;
    struct run r = {.seed = seed, .term = 1};
    rng_init(&r.rng, seed);
    r.d = disk_mem_new(seed);
    memset(&model, 0, sizeof(model));
    memset(&start, 0, sizeof(start));
    uint64_t start_seq = 0;
    run_open(&r);
    for (int life = 0; life < 12; life++) {
        uint64_t steps = rng_below(&r.rng, 60);
        for (uint64_t i = 0; i < steps; i++) {
            run_append(&r);
            if (rng_below(&r.rng, 3) != 0)
                wal_submit(r.w);
            if (rng_below(&r.rng, 2) == 0)
                wal_poll(r.w);
            if (wal_durable_index(r.w) > r.commit && rng_below(&r.rng, 3) == 0)
                r.commit += rng_below(&r.rng, wal_durable_index(r.w) - r.commit + 1);
            if (rng_below(&r.rng, 10) == 0 && r.commit > 5)
                wal_cut(r.w, r.commit - 5);
            if (rng_below(&r.rng, 10) == 0)
                wal_drop_spare(r.w);
        }
        if (rng_below(&r.rng, 4) == 0) {
            wal_close(r.w);
            r.reported = r.seq;
        } else {
            crash(r.d, r.w);
        }
        run_open(&r);
        run_check(&r, &start, start_seq);
        /* What was found is what there is now; append numbers go on from it. */
        start = seen.m;
        model = start;
        start_seq = r.reported = r.seq;
        ck_assert_uint_le(model.hs.commit, model.last);
        r.commit = model.hs.commit; /* what was cut was committed, written or not */
        if (r.commit < model.before_first)
            r.commit = model.before_first;
    }
    wal_close(r.w);
    disk_close(r.d);
}

START_TEST(test_random_crashes)
{
    const char *only = getenv("WAL_SEED");
    const char *count = getenv("WAL_SEEDS");
    uint64_t seeds = count != NULL ? strtoull(count, NULL, 10) : 300;
    if (only != NULL) {
        run_seed(strtoull(only, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= seeds; seed++)
        run_seed(seed);
}
END_TEST

UNIT_MAIN("wal_crash", test_torn_everywhere, test_torn_twice, test_damage_is_refused,
          test_missing_segment, test_random_crashes)
