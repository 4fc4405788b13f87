/* Appending and writing.
 *
 * A batch's way: filled in the queue (encoded where it will be written from) -> placed in a
 * segment, numbered and checksummed, in flight -> complete -> retired in the order of numbers:
 * durable, reported.
 *
 * What bounds it: writes_max batches and WAL_IN_FLIGHT_BYTES_MAX in flight (or one batch that is
 * larger); a batch is closed at WAL_BATCH_BYTES_TARGET and never larger than frame_bytes_max; the
 * queue holds what the caller appends (wal_pending_bytes).
 *
 * Entries that replace queued ones begin a new batch, so entries of one batch are consecutive.
 * Nothing appended is ever taken back: the log on disk is all that was appended, in order, and the
 * later wins. */
#include "wal_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#include <string.h>

enum {
    BATCHES_FREE_MAX = WAL_WRITES_MAX + 2,
    BUF_BYTES_MIN = 64 << 10,
    BUF_BYTES_KEPT_MAX = 2 << 20, /* a larger buffer is not kept for the next batch */
    FRAME_AT = WAL_BLOCK_BYTES,   /* before it, room for a segment's header */
    BODY_AT = FRAME_AT + sizeof(struct wal_frame),
};

_Static_assert(WAL_FRAME_BYTES_MAX - WAL_BLOCK_BYTES >= (10 << 20), "an entry of 10 MiB fits");

void wal_options_init(struct wal_options *o)
{
    *o = (struct wal_options){.segment_size_bytes = 64ull << 20, .segments_keep_max = 4};
}

size_t wal_entry_bytes_max(const struct wal *w)
{
    return w->frame_bytes_max - sizeof(struct wal_frame) - sizeof(struct wal_record);
}

/* --- batches --- */

static struct wal_batch *take_batch(struct wal *w)
{
    if (list_is_empty(&w->batches_free)) {
        struct wal_batch *b = mem_alloc_zero(sizeof(*b));
        b->buf_bytes = BUF_BYTES_MIN;
        b->buf = mem_alloc_aligned(WAL_BLOCK_BYTES, b->buf_bytes);
        list_init(&b->link);
        return b;
    }
    struct wal_batch *b = CONTAINER_OF(w->batches_free.next, struct wal_batch, link);
    list_remove(&b->link);
    w->batches_free_count--;
    return b;
}

static void free_batch(struct wal_batch *b)
{
    list_remove(&b->link);
    mem_free(b->buf);
    mem_free(b);
}

static void give_back(struct wal *w, struct wal_batch *b)
{
    if (b->buf_bytes > BUF_BYTES_KEPT_MAX || w->batches_free_count >= BATCHES_FREE_MAX) {
        free_batch(b);
        return;
    }
    list_remove(&b->link);
    list_push_front(&w->batches_free, &b->link); /* the warmest memory first */
    w->batches_free_count++;
}

static uint64_t last_term(const struct wal *w)
{
    return wal__terms_get(&w->terms, w->last_index);
}

/* An empty batch at the end of the queue, as if after all that is appended. */
static struct wal_batch *begin_batch(struct wal *w)
{
    struct wal_batch *b = take_batch(w);
    b->w = w;
    b->segment = NULL;
    b->body_bytes = 0;
    b->number = 0;
    b->first_index = w->last_index + 1;
    b->last_index = w->last_index;
    b->entries_count = 0;
    b->flags = 0;
    b->prev_term = b->end_term = last_term(w);
    b->seq = 0;
    b->hs = w->hs;
    b->complete = false;
    list_push_back(&w->queue, &b->link);
    return b;
}

static struct wal_batch *queue_last(struct wal *w)
{
    return list_is_empty(&w->queue) ? NULL : CONTAINER_OF(w->queue.prev, struct wal_batch, link);
}

/* The batch that takes what belongs to the last thing appended: a hard state, a sequence number. */
static struct wal_batch *open_batch(struct wal *w)
{
    struct wal_batch *b = queue_last(w);
    return b != NULL ? b : begin_batch(w);
}

/* The batch that takes an entry of this size at this index, the log being cut back to it already.
 */
static struct wal_batch *batch_for(struct wal *w, uint64_t log_index, size_t record_bytes)
{
    struct wal_batch *b = queue_last(w);
    if (b == NULL || b->first_index + b->entries_count != log_index ||
        b->body_bytes >= WAL_BATCH_BYTES_TARGET ||
        sizeof(struct wal_frame) + b->body_bytes + record_bytes > w->frame_bytes_max)
        return begin_batch(w);
    return b;
}

static void ensure_room(struct wal_batch *b, size_t record_bytes)
{
    size_t need = FRAME_AT + wal__frame_bytes(b->body_bytes + record_bytes);
    if (need <= b->buf_bytes)
        return;
    size_t bytes = b->buf_bytes;
    while (bytes < need)
        bytes *= 2;
    uint8_t *buf = mem_alloc_aligned(WAL_BLOCK_BYTES, bytes);
    memcpy(buf + BODY_AT, b->buf + BODY_AT, b->body_bytes);
    mem_free(b->buf);
    b->buf = buf;
    b->buf_bytes = bytes;
}

static void put_record(struct wal_batch *b, const struct wal_entry *e)
{
    size_t bytes = sizeof(struct wal_record) + e->data.size;
    ensure_room(b, bytes);
    struct wal_record r = {.term = e->term, .size_bytes = (uint32_t)e->data.size, .type = e->type};
    uint8_t *to = b->buf + BODY_AT + b->body_bytes;
    memcpy(to, &r, sizeof(r));
    if (e->data.size > 0)
        memcpy(to + sizeof(r), e->data.data, e->data.size);
    b->body_bytes += bytes;
    b->entries_count++;
    b->last_index = e->log_index;
    b->end_term = e->term;
}

/* --- appending --- */

static void lower_last(struct list *batches, uint64_t last_index)
{
    LIST_EACH (it, batches) {
        struct wal_batch *b = CONTAINER_OF(it, struct wal_batch, link);
        if (b->last_index > last_index)
            b->last_index = last_index;
    }
}

/* Entries behind this one are about to be replaced. */
static void cut_back(struct wal *w, uint64_t last_index)
{
    lower_last(&w->in_flight, last_index);
    lower_last(&w->queue, last_index);
    w->last_index = last_index;
    if (w->durable_index > last_index)
        w->durable_index = last_index;
    if (w->cursor_index > last_index)
        w->cursor_index = 0;
}

void wal_append(struct wal *w, uint64_t seq, const struct wal_entry *entries, uint32_t count,
                const struct wal_hard_state *hs)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct wal_entry *e = &entries[i];
        ASSERT(e->log_index > w->before_first);
        ASSERT(e->log_index <= w->last_index + 1);
        ASSERT(e->data.size <= wal_entry_bytes_max(w));
        if (e->log_index <= w->last_index) {
            PROBE(wal_append_replaces);
            cut_back(w, e->log_index - 1);
        }
        size_t bytes = sizeof(struct wal_record) + e->data.size;
        put_record(batch_for(w, e->log_index, bytes), e);
        w->pending_bytes += bytes;
        w->last_index = e->log_index;
        wal__terms_add(&w->terms, e->log_index, e->term);
    }
    if (hs != NULL) {
        w->hs = *hs;
        open_batch(w)->hs = *hs;
    }
    if (seq != 0) {
        struct wal_batch *b = open_batch(w);
        ASSERT(b->seq <= seq);
        b->seq = seq;
    }
}

void wal_restart(struct wal *w, uint64_t seq, uint64_t log_index, uint64_t term)
{
    lower_last(&w->in_flight, 0);
    lower_last(&w->queue, 0);
    w->cursor_index = 0;
    w->last_index = log_index;
    w->before_first = log_index;
    if (w->durable_index > log_index)
        w->durable_index = log_index;
    if (w->hs.commit < log_index)
        w->hs.commit = log_index;
    wal__terms_reset(&w->terms, log_index, term);
    struct wal_batch *b = begin_batch(w);
    b->flags = WAL_FRAME_RESTART;
    b->seq = seq;
}

void wal__append_mark(struct wal *w)
{
    (void)begin_batch(w);
}

/* --- writing --- */

static void write_done(struct disk_write *req, int err)
{
    struct wal_batch *b = CONTAINER_OF(req, struct wal_batch, req);
    if (err != 0)
        wal__fatal(b->w, "writing", b->segment->seq, req->offset, err);
    b->complete = true;
    if (b->w->o.meters != NULL)
        metric_observe(&b->w->o.meters->sync, WAL_METERS_SCALE, clock_mono_ns() - b->started_ns);
}

/* Find the batch's place; false when the segment it needs is not ready. *ret_header: the place is
 * the first of its segment. */
static bool place(struct wal *w, struct wal_batch *b, bool *ret_header)
{
    uint64_t bytes = wal__frame_bytes(b->body_bytes);
    struct wal_segment *s = wal__active(w);
    *ret_header = false;
    if (s->end_bytes + bytes > s->size_bytes) {
        if (!wal__roll(w))
            return false;
        s = wal__active(w);
        ASSERT(s->end_bytes + bytes <= s->size_bytes);
        s->first_batch = w->last_batch + 1;
        *ret_header = true;
    }
    b->segment = s;
    b->req.file = s->file;
    b->req.offset = s->end_bytes;
    b->req.data = b->buf + FRAME_AT;
    b->req.size = bytes;
    s->end_bytes += bytes;
    wal__prepare_ahead(w);
    return true;
}

/* The header goes in front of the first batch, in the same write. */
static void add_header(struct wal *w, struct wal_batch *b)
{
    struct wal_header h = {
        .segment_seq = b->segment->seq,
        .cluster_id = w->o.cluster_id,
        .member_id = w->o.member_id,
        .salt = w->salt,
        .first_batch = b->number,
        .durable_batch = w->durable_batch,
        .first_index = w->placed_last_index + 1,
        .prev_term = w->placed_last_term,
        .hs_term = w->hs_placed.term,
        .hs_vote = w->hs_placed.vote,
        .hs_commit = w->hs_placed.commit,
        .segment_bytes = b->segment->size_bytes,
    };
    wal__header_encode(b->buf, &h);
    ASSERT(b->req.offset == WAL_BLOCK_BYTES);
    b->req.offset = 0;
    b->req.data = b->buf;
    b->req.size += WAL_BLOCK_BYTES;
}

static void seal(struct wal *w, struct wal_batch *b)
{
    struct wal_frame f = {
        .segment_seq = b->segment->seq,
        .number = b->number,
        .durable_batch = w->durable_batch,
        .first_index = b->first_index,
        .prev_term = b->prev_term,
        .hs_term = b->hs.term,
        .hs_vote = b->hs.vote,
        .hs_commit = b->hs.commit,
        .entries_count = b->entries_count,
        .body_bytes = (uint32_t)b->body_bytes,
        .flags = b->flags,
    };
    wal__frame_encode(b->buf + FRAME_AT, &f, w->salt);
}

/* What the log in memory knows of its place. The batch's end as written, whatever replaced it
 * since. */
static void note_placed(struct wal *w, struct wal_batch *b, uint64_t offset)
{
    if ((b->flags & WAL_FRAME_RESTART) != 0)
        wal__index_clear(&w->index);
    if (b->entries_count > 0)
        wal__index_add(&w->index, b->first_index, w->placed_last_index, b->segment->seq, offset);
    w->placed_last_index = b->first_index + b->entries_count - 1;
    w->placed_last_term = b->end_term;
    w->hs_placed = b->hs;
}

static bool may_start(const struct wal *w, const struct wal_batch *b)
{
    if (w->in_flight_count == 0)
        return true;
    return w->in_flight_count < w->o.writes_max &&
           w->in_flight_bytes + wal__frame_bytes(b->body_bytes) <= WAL_IN_FLIGHT_BYTES_MAX;
}

static void hand_over(struct wal *w, struct wal_batch *b)
{
    struct wal_meters *m = w->o.meters;
    if (m == NULL) {
        disk_write(w->disk, &b->req);
        return;
    }
    b->started_ns = clock_mono_ns();
    metric_add(&m->write_bytes, b->req.size);
    disk_write(w->disk, &b->req);
    metric_observe(&m->write, WAL_METERS_SCALE, clock_mono_ns() - b->started_ns);
}

static void start_writes(struct wal *w)
{
    while (w->submitted && !list_is_empty(&w->queue)) {
        struct wal_batch *b = CONTAINER_OF(w->queue.next, struct wal_batch, link);
        bool header;
        if (!may_start(w, b) || !place(w, b, &header))
            return;
        list_remove(&b->link);
        list_push_back(&w->in_flight, &b->link);
        w->in_flight_count++;
        w->in_flight_bytes += wal__frame_bytes(b->body_bytes);
        b->number = ++w->last_batch;
        b->req.done = write_done;
        uint64_t offset = b->req.offset;
        seal(w, b);
        if (header)
            add_header(w, b);
        note_placed(w, b, offset);
        hand_over(w, b);
    }
    if (list_is_empty(&w->queue))
        w->submitted = false;
}

void wal_submit(struct wal *w)
{
    if (list_is_empty(&w->queue))
        return;
    w->submitted = true;
    start_writes(w);
}

/* Complete batches become durable in the order of their numbers. The newest sequence number among
 * them, 0 if none. */
static uint64_t retire(struct wal *w)
{
    uint64_t seq = 0;
    while (!list_is_empty(&w->in_flight)) {
        struct wal_batch *b = CONTAINER_OF(w->in_flight.next, struct wal_batch, link);
        if (!b->complete)
            break;
        ASSERT(b->number == w->durable_batch + 1);
        w->durable_batch = b->number;
        b->segment->durable_bytes = b->req.offset + b->req.size;
        if (b->last_index >= b->first_index)
            w->durable_index = b->last_index;
        else if ((b->flags & WAL_FRAME_RESTART) != 0 && b->last_index + 1 == b->first_index)
            w->durable_index = b->last_index;
        w->pending_bytes -= b->body_bytes;
        w->in_flight_count--;
        w->in_flight_bytes -= wal__frame_bytes(b->body_bytes);
        if (b->seq != 0)
            seq = b->seq;
        give_back(w, b);
    }
    return seq;
}

static void turn(struct wal *w, bool wait)
{
    disk_poll(w->disk, wait);
    uint64_t seq = retire(w);
    start_writes(w); /* before the report: the disk works meanwhile */
    if (seq != 0 && w->done != NULL)
        w->done(w->done_ctx, seq);
}

void wal_poll(struct wal *w)
{
    turn(w, false);
}

/* What is queued waits for a segment that the disk has no room for. */
static bool is_stuck(const struct wal *w)
{
    return w->in_flight_count == 0 && w->lacking != NULL && list_is_empty(&w->chores);
}

void wal_flush(struct wal *w)
{
    bool retried = false;
    while (!wal_idle(w)) {
        wal_submit(w);
        if (is_stuck(w)) {
            if (retried)
                return;
            retried = true;
            wal_retry_room(w);
        }
        turn(w, true);
    }
}

/* --- asking --- */

uint64_t wal_log_id(const struct wal *w)
{
    return w->salt;
}

void wal_set_done(struct wal *w, void (*done)(void *ctx, uint64_t seq), void *ctx)
{
    w->done = done;
    w->done_ctx = ctx;
}

int wal_fd(struct wal *w)
{
    return disk_fd(w->disk);
}

bool wal_idle(const struct wal *w)
{
    return w->in_flight_count == 0 && list_is_empty(&w->queue);
}

uint64_t wal_pending_bytes(const struct wal *w)
{
    return w->pending_bytes;
}

uint64_t wal_first_index(const struct wal *w)
{
    return w->before_first + 1;
}

uint64_t wal_term_before_first(const struct wal *w)
{
    return wal__terms_get(&w->terms, w->before_first);
}

uint64_t wal_last_index(const struct wal *w)
{
    return w->last_index;
}

uint64_t wal_durable_index(const struct wal *w)
{
    return w->durable_index;
}

uint64_t wal_term(const struct wal *w, uint64_t log_index)
{
    ASSERT(log_index >= w->before_first);
    ASSERT(log_index <= w->last_index);
    return wal__terms_get(&w->terms, log_index);
}

/* --- the end --- */

static void free_batches(struct list *batches)
{
    LIST_EACH_SAFE (it, after, batches)
        free_batch(CONTAINER_OF(it, struct wal_batch, link));
}

void wal__free(struct wal *w)
{
    free_batches(&w->queue);
    free_batches(&w->in_flight);
    free_batches(&w->batches_free);
    LIST_EACH_SAFE (it, after, &w->chores) {
        struct wal_chore *c = CONTAINER_OF(it, struct wal_chore, link);
        list_remove(&c->link);
        if (c->segment != NULL)
            wal__segment_free(w, c->segment);
        mem_free(c);
    }
    LIST_EACH_SAFE (it, after, &w->segments)
        wal__segment_free(w, CONTAINER_OF(it, struct wal_segment, link));
    LIST_EACH_SAFE (it, after, &w->spares)
        wal__segment_free(w, CONTAINER_OF(it, struct wal_segment, link));
    if (w->lacking != NULL)
        wal__segment_free(w, w->lacking);
    wal__index_fini(&w->index);
    wal__terms_fini(&w->terms);
    mem_free(w->window.data);
    mem_free(w);
}

void wal_close(struct wal *w)
{
    wal_flush(w);
    wal__append_mark(w);
    wal_flush(w);
    wal__hurry(w);
    while (!list_is_empty(&w->chores))
        disk_poll(w->disk, true);
    wal__free(w);
}

void wal_abandon(struct wal *w)
{
    wal__free(w);
}
