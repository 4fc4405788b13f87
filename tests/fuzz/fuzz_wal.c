/* A log that was altered is opened: it is refused, or read back whole, taken further, and read back
 * again. An input is a flag byte and alterations:
 *
 *   segment u8, offset u24, size u8, bytes
 *
 * Bit 0 of the flag: headers and batches are given checksums that fit what they then hold, the only
 * way to what is behind these. Bits 1 to 3: segments that are lost. */
#include "wal_format.h"

#include "storage/disk_mem.h"

#include "base/assert.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SEGMENT_BYTES = 64 << 10,
    SEGMENTS_MAX = 4,
    ENTRIES = 30,
    ENTRY_BYTES_MAX = 9000,
    PATCH_HEAD_BYTES = 5,
};

static struct disk *whole;

static struct wal_options options(struct disk *d)
{
    struct wal_options o;
    wal_options_init(&o);
    o.disk = d;
    o.segment_size_bytes = SEGMENT_BYTES;
    o.cluster_id = 0xc1;
    o.member_id = 0xa1;
    o.salt = 42;
    return o;
}

/* --- what is read back --- */

struct seen {
    uint64_t before;
    uint64_t last;
    uint64_t last_term;
    uint64_t sum;
};

static int on_entry(void *ctx, const struct wal_entry *e)
{
    struct seen *s = ctx;
    ASSERT(e->log_index > s->before && e->log_index <= s->last + 1);
    s->last = e->log_index;
    s->last_term = e->term;
    for (size_t i = 0; i < e->data.size; i++)
        s->sum = s->sum * 31 + e->data.data[i];
    return 0;
}

static void on_start(void *ctx, uint64_t log_index, uint64_t term)
{
    *(struct seen *)ctx = (struct seen){.before = log_index, .last = log_index, .last_term = term};
}

static int open_log(struct disk *d, struct seen *ret, struct wal **ret_wal)
{
    char why[512];
    struct wal_options o = options(d);
    struct wal_replay replay = {.ctx = ret, .entry = on_entry, .start = on_start};
    *ret = (struct seen){0};
    int rv = wal_open(&o, &replay, ret_wal, why, sizeof(why));
    ASSERT(rv == 0 || strlen(why) > 0);
    return rv;
}

static void read_all(struct wal *w)
{
    enum { COUNT_MAX = 16 };
    struct wal_entry got[COUNT_MAX];
    uint64_t at = wal_first_index(w);
    while (at <= wal_durable_index(w)) {
        uint32_t count = COUNT_MAX;
        if (wal_read(w, at, wal_durable_index(w) + 1, 1 << 16, got, &count) != 0)
            return;
        ASSERT(count > 0);
        for (uint32_t i = 0; i < count; i++) {
            ASSERT(got[i].log_index == at + i && wal_term(w, at + i) == got[i].term);
            bref_unref(got[i].owner);
        }
        at += count;
    }
}

static void append(struct wal *w, uint64_t term, size_t size)
{
    static uint8_t bytes[ENTRY_BYTES_MAX];
    memset(bytes, (int)size, size);
    struct wal_hard_state hs = {.term = term, .commit = wal_first_index(w) - 1};
    struct wal_entry e = {
        .log_index = wal_last_index(w) + 1, .term = term, .type = 1, .data = slice_of(bytes, size)};
    wal_append(w, e.log_index, &e, 1, &hs);
    wal_flush(w);
}

/* --- alterations --- */

static uint8_t *segment(struct disk *d, uint64_t seq, uint64_t *ret_size)
{
    char name[DISK_NAME_MAX];
    wal__segment_name(name, seq);
    return disk_mem_bytes(d, name, ret_size);
}

static void seal(uint8_t *bytes, uint64_t size, uint64_t seq)
{
    struct wal_header h;
    struct wal_frame f;
    memcpy(&h, bytes, sizeof(h));
    wal__header_encode(bytes, &h);
    for (uint64_t at = WAL_BLOCK_BYTES;
         at < size && wal__frame_peek(bytes + at, seq, size - at, &f);
         at += wal__frame_bytes(f.body_bytes))
        wal__frame_encode(bytes + at, &f, h.salt);
}

static void on_lost(struct disk_chore *chore, int err)
{
    (void)chore;
    ASSERT(err == 0);
}

static void lose(struct disk *d, uint64_t seq)
{
    struct disk_chore chore = {.kind = DISK_UNLINK, .done = on_lost};
    list_init(&chore.link);
    wal__segment_name(chore.name, seq);
    disk_do_chore(d, &chore);
    disk_poll(d, true);
}

static void alter(struct disk *d, const uint8_t *data, size_t size)
{
    uint8_t flags = data[0];
    uint64_t bytes;
    data++, size--;
    while (size >= PATCH_HEAD_BYTES) {
        uint8_t *to = segment(d, 1 + data[0] % SEGMENTS_MAX, &bytes);
        size_t at = (size_t)data[1] | (size_t)data[2] << 8 | (size_t)data[3] << 16;
        size_t count = data[4] < size - PATCH_HEAD_BYTES ? data[4] : size - PATCH_HEAD_BYTES;
        for (size_t i = 0; to != NULL && i < count; i++)
            to[(at + i) % bytes] = data[PATCH_HEAD_BYTES + i];
        data += PATCH_HEAD_BYTES + count;
        size -= PATCH_HEAD_BYTES + count;
    }
    for (uint64_t seq = 1; seq <= SEGMENTS_MAX; seq++) {
        uint8_t *it = segment(d, seq, &bytes);
        if (it != NULL && (flags & 1) != 0)
            seal(it, bytes, seq);
        if (it != NULL && (flags & 1 << seq) != 0)
            lose(d, seq);
    }
}

static struct disk *fill(void)
{
    struct disk *d = disk_mem_new(1);
    struct seen s;
    struct wal *w;
    int rv = open_log(d, &s, &w);
    ASSERT(rv == 0);
    for (uint32_t i = 0; i < ENTRIES; i++)
        append(w, 1 + i / 10, i * 601 % ENTRY_BYTES_MAX);
    wal_close(w);
    return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen first, again;
    struct wal *w;
    if (whole == NULL)
        whole = fill();
    if (size == 0)
        return 0;
    struct disk *d = disk_mem_clone(whole, 1);
    alter(d, data, size);
    if (open_log(d, &first, &w) == 0) {
        ASSERT(first.last == wal_last_index(w) && first.before == wal_first_index(w) - 1);
        read_all(w);
        if (first.last < UINT64_MAX / 2 && first.last_term < UINT64_MAX / 2) {
            append(w, first.last_term + 1, 100);
            wal_close(w);
            int rv = open_log(d, &again, &w);
            ASSERT(rv == 0 && again.last == first.last + 1);
        }
        wal_close(w);
    }
    disk_close(d);
    return 0;
}
