/* Reading back: a window on a segment for recovery and for followers that lag, and wal_read().
 *
 * Only durable batches are looked at, and the window never reaches into bytes that may still
 * change, so what it holds stays true until the segment is given up. */
#include "wal_internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const uint8_t *wal__window(struct wal *w, const struct wal_segment *s, uint64_t offset, size_t size,
                           uint64_t limit, int *ret_err)
{
    struct wal_window *v = &w->window;
    *ret_err = 0;
    if (v->segment_seq == s->seq && offset >= v->offset && offset + size <= v->offset + v->size)
        return v->data + (offset - v->offset);

    ASSERT(offset % WAL_BLOCK_BYTES == 0);
    uint64_t want = size > v->read_bytes ? size : v->read_bytes;
    if (want > limit - offset)
        want = limit - offset;
    if (want < size)
        return NULL;
    want = wal__round_up(want);
    if (want > v->capacity) {
        mem_free(v->data);
        v->data = mem_alloc_aligned(WAL_BLOCK_BYTES, want);
        v->capacity = want;
    }
    v->segment_seq = 0;
    ssize_t got = disk_read(w->disk, s->file, offset, v->data, want);
    if (got < 0) {
        *ret_err = (int)got;
        return NULL;
    }
    v->segment_seq = s->seq;
    v->offset = offset;
    v->size = (size_t)got;
    return v->size >= size ? v->data : NULL;
}

const uint8_t *wal__read_batch(struct wal *w, const struct wal_segment *s, uint64_t offset,
                               uint64_t limit, struct wal_frame *ret, int *ret_err)
{
    *ret_err = 0;
    if (offset + WAL_BLOCK_BYTES > limit)
        return NULL;
    const uint8_t *data = wal__window(w, s, offset, WAL_BLOCK_BYTES, limit, ret_err);
    if (data == NULL || !wal__frame_peek(data, s->seq, limit - offset, ret))
        return NULL;
    data = wal__window(w, s, offset, wal__frame_bytes(ret->body_bytes), limit, ret_err);
    if (data == NULL || !wal__frame_verify(data, ret, w->salt))
        return NULL;
    return data;
}

/* --- entries for followers --- */

struct reader {
    struct wal *w;
    uint64_t next; /* the entry wanted */
    uint64_t hi;
    size_t bytes_left;
    struct wal_entry *entries;
    uint32_t count;
    uint32_t count_max;
    /* Where to look. */
    size_t item;
    uint64_t offset;
};

static bool full(const struct reader *r)
{
    return r->next >= r->hi || r->count == r->count_max || (r->count > 0 && r->bytes_left == 0);
}

/* The stretch of an item ends where the next one begins: at its place, or with its first entry. */
static uint64_t stretch_end_index(const struct reader *r)
{
    const struct wal_index *x = &r->w->index;
    return r->item + 1 < x->count ? x->items[r->item + 1].first_index : UINT64_MAX;
}

static void enter_item(struct reader *r, size_t item)
{
    r->item = item;
    r->offset = r->w->index.items[item].offset;
}

static void add_entry(struct reader *r, const struct wal_entry *e)
{
    struct wal_entry *to = &r->entries[r->count++];
    *to = *e;
    to->log_index = r->next++;
    if (e->data.size > 0) {
        to->owner = bref_new(e->data.size);
        memcpy(to->owner->data, e->data.data, e->data.size);
        to->data = slice_of(to->owner->data, e->data.size);
    } else {
        to->data = SLICE_EMPTY;
    }
    r->bytes_left -= e->data.size < r->bytes_left ? e->data.size : r->bytes_left;
}

/* Take what is wanted of the batch; false when it is malformed. */
static bool take_entries(struct reader *r, const uint8_t *data, const struct wal_frame *f)
{
    uint64_t end = stretch_end_index(r);
    uint64_t log_index = f->first_index;
    uint32_t at = 0;
    for (uint32_t i = 0; i < f->entries_count; i++, log_index++) {
        struct wal_entry e;
        if (!wal__record_next(data, f, &at, &e))
            return false;
        if (log_index < r->next)
            continue;
        if (log_index != r->next)
            return false;
        if (log_index >= end || full(r))
            return true;
        if (e.term != wal__terms_get(&r->w->terms, log_index))
            return false; /* a batch that a later one replaced, written to the wrong place */
        if (r->count > 0 && e.data.size > r->bytes_left) {
            r->bytes_left = 0;
            return true;
        }
        add_entry(r, &e);
    }
    return true;
}

static int step(struct reader *r)
{
    struct wal *w = r->w;
    const struct wal_index_item *it = &w->index.items[r->item];
    const struct wal_segment *s = wal__segment_find(w, it->segment_seq);
    ASSERT(s != NULL);
    struct wal_frame f;
    int err;
    const uint8_t *data = wal__read_batch(w, s, r->offset, s->durable_bytes, &f, &err);
    if (data == NULL)
        return err != 0 ? TV_EIO : TV_ECORRUPT;
    uint64_t offset = r->offset;
    if (!take_entries(r, data, &f))
        return TV_ECORRUPT;
    if (full(r)) {
        w->cursor_index = r->next;
        w->cursor_seq = s->seq;
        w->cursor_offset = offset;
        return 0;
    }
    r->offset += wal__frame_bytes(f.body_bytes);
    if (r->item + 1 < w->index.count) {
        const struct wal_index_item *after = it + 1;
        bool next_place = after->segment_seq == it->segment_seq ? r->offset >= after->offset
                                                                : r->offset >= s->durable_bytes;
        if (r->next >= after->first_index || next_place)
            enter_item(r, r->item + 1);
    }
    return 0;
}

static void drop(struct reader *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        bref_unref(r->entries[i].owner);
    r->count = 0;
}

int wal_read(struct wal *w, uint64_t lo, uint64_t hi, size_t bytes_max, struct wal_entry *ret,
             uint32_t *count)
{
    struct reader r = {
        .w = w, .next = lo, .hi = hi, .bytes_left = bytes_max, .entries = ret, .count_max = *count};
    *count = 0;
    if (lo <= w->before_first)
        return TV_ECOMPACTED_LOG;
    if (r.hi > w->durable_index + 1)
        r.hi = w->durable_index + 1;
    if (r.hi <= lo)
        return hi <= lo ? 0 : TV_EAGAIN;

    enter_item(&r, wal__index_find(&w->index, lo));
    const struct wal_index_item *it = &w->index.items[r.item];
    if (w->cursor_index == lo && w->cursor_seq == it->segment_seq && w->cursor_offset > it->offset)
        r.offset = w->cursor_offset;
    while (!full(&r)) {
        int rv = step(&r);
        if (rv != 0) {
            w->failed_seq = w->index.items[r.item].segment_seq;
            w->failed_offset = r.offset;
            drop(&r);
            return rv;
        }
    }
    *count = r.count;
    return 0;
}

void wal_read_place(const struct wal *w, char *text, size_t size)
{
    char name[DISK_NAME_MAX];
    wal__segment_name(name, w->failed_seq);
    (void)snprintf(text, size, "%s/%s: offset %" PRIu64, w->disk->dir, name, w->failed_offset);
}
